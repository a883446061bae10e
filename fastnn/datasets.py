"""Small data sets: handwritten digits, and points in the plane drawn with a seed.

Each returns ``(X, y)``, with X float32 of shape (rows, columns) and y int64 of shape (rows,), ready for
``fit``. The rows of the drawn sets are in random order, so that the last rows serve as a validation split,
and their classes are of equal size up to one row.

>>> X, y = fn.datasets.moons(500, noise=0.2, seed=1)
>>> X.shape, X.dtype.name, y.shape, np.bincount(y).tolist()
((500, 2), 'float32', (500,), [250, 250])

The arguments: n, the number of rows; noise, a standard deviation in the units of X; seed, of the random numbers. All
raise a ValueError or TypeError that names an argument that is out of its range.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .checks import number, shown, whole_number

__all__ = ["blobs", "circles", "digits", "moons", "spirals", "xor"]

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]
Points = NDArray[np.float64]


def digits() -> tuple[Floats, Labels]:
    """Handwritten digits: X (1797, 64), images of 8×8 pixels by rows, from 0 (paper) to 1 (ink); y from 0 to 9.

    The test set of "Optical Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak 1998, UCI Machine
    Learning Repository, https://doi.org/10.24432/C50P49), license CC BY 4.0. The file's pixels, whole numbers
    from 0 to 16, are divided by 16. ``X.reshape(-1, 8, 8)`` gives the images.

    >>> X, y = fn.datasets.digits()
    >>> X.shape, y.shape, float(X.max())
    ((1797, 64), (1797,), 1.0)
    """
    from importlib import resources

    with resources.files(__package__).joinpath("digits.npz").open("rb") as file, np.load(file) as arrays:
        return arrays["images"] / np.float32(16), arrays["labels"].astype(np.int64)


def moons(n: int = 1000, *, noise: float = 0.1, seed: int = 0) -> tuple[Floats, Labels]:
    """Two half circles that reach into each other: X (n, 2), y 0 or 1.

    With an angle a from 0 to π, class 0 is (cos a, sin a) and class 1 is (1 - cos a, 1/2 - sin a);
    ``noise`` is the standard deviation of the normal noise added to both coordinates.
    """
    n, noise, generator = _arguments(n, noise, seed, classes=2)
    y = _labels(n, 2)
    a = generator.uniform(0, math.pi, n)
    X = np.where(y[:, None] == 0, _columns(np.cos(a), np.sin(a)), _columns(1 - np.cos(a), 0.5 - np.sin(a)))
    return _finished(X, y, noise, generator)


def circles(n: int = 1000, *, factor: float = 0.5, noise: float = 0.05, seed: int = 0) -> tuple[Floats, Labels]:
    """A circle inside another: X (n, 2), y 0 outside and 1 inside.

    Class 0 lies on the circle of radius 1 and class 1 on that of radius ``factor`` (above 0, below 1), both
    around the origin; ``noise`` is the standard deviation of the normal noise added to both coordinates.
    """
    n, noise, generator = _arguments(n, noise, seed, classes=2)
    factor = number("factor", factor, above=0, below=1)
    y = _labels(n, 2)
    a = generator.uniform(0, 2 * math.pi, n)
    radius = np.where(y == 0, 1.0, factor)
    return _finished(_columns(radius * np.cos(a), radius * np.sin(a)), y, noise, generator)


def xor(n: int = 1000, *, noise: float = 0.0, seed: int = 0) -> tuple[Floats, Labels]:
    """Exclusive or: X (n, 2) in the square from -1 to 1, y 1 where exactly one coordinate is positive.

    The label is decided before the noise, normal with the standard deviation ``noise``, is added.
    """
    n, noise, generator = _arguments(n, noise, seed, classes=2)
    y = _labels(n, 2)
    first = generator.uniform(-1, 1, n)
    # The second coordinate's sign is the first one's for class 0 and the opposite for class 1.
    second = generator.uniform(0, 1, n) * np.where((first > 0) == (y == 0), 1, -1)
    return _finished(_columns(first, second), y, noise, generator)


def spirals(
    n: int = 1000, *, classes: int = 2, turns: float = 1.5, noise: float = 0.02, seed: int = 0
) -> tuple[Floats, Labels]:
    """Spirals around the origin, one for each class: X (n, 2), y from 0 to ``classes`` - 1.

    With t from 0 to 1, class k is t (cos a, sin a) with a = 2π (``turns`` t + k / ``classes``); ``noise`` is the
    standard deviation of the normal noise added to both coordinates.
    """
    classes = whole_number("classes", classes)
    turns = number("turns", turns, above=0)
    n, noise, generator = _arguments(n, noise, seed, classes=classes)
    y = _labels(n, classes)
    # The root spreads the points evenly over the disk rather than crowding them at the origin.
    t = np.sqrt(generator.uniform(0, 1, n))
    a = 2 * math.pi * (turns * t + y / classes)
    return _finished(_columns(t * np.cos(a), t * np.sin(a)), y, noise, generator)


def blobs(n: int = 1000, *, classes: int = 3, noise: float = 0.3, seed: int = 0) -> tuple[Floats, Labels]:
    """Round clouds, one for each class: X (n, 2), y from 0 to ``classes`` - 1.

    Class k is normal around (cos a, sin a) with a = 2π k / ``classes``, with the standard deviation ``noise``.
    """
    classes = whole_number("classes", classes)
    n, noise, generator = _arguments(n, noise, seed, classes=classes)
    y = _labels(n, classes)
    a = 2 * math.pi * y / classes
    return _finished(_columns(np.cos(a), np.sin(a)), y, noise, generator)


def _arguments(n: Any, noise: Any, seed: Any, classes: int) -> tuple[int, float, np.random.Generator]:
    """The arguments that all generators share, checked; every class gets at least one row."""
    n = whole_number("n", n)
    if n < classes:
        raise ValueError(f"n is {shown(n)}; expected at least one row for each of the {classes} classes")
    return n, number("noise", noise, least=0), np.random.default_rng(whole_number("seed", seed, least=0))


def _labels(n: int, classes: int) -> Labels:
    return np.arange(n, dtype=np.int64) % classes


def _columns(first: Points, second: Points) -> Points:
    return np.stack([first, second], axis=1)


def _finished(X: Points, y: Labels, noise: float, generator: np.random.Generator) -> tuple[Floats, Labels]:
    """The rows with noise added, in random order."""
    X = X + noise * generator.standard_normal(X.shape)
    order = generator.permutation(len(y))
    return X[order].astype(np.float32), y[order]
