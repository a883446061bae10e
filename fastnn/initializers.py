"""What weights are before training: ``initializer(shape, generator)`` returns an array of float64.

A layer's fan-in is its number of inputs, its fan-out its number of units. Each parameter of each layer
draws from a generator of its own, keyed by the model's seed and the layer's position, so its initial
value does not depend on the other layers.

>>> weights = fn.HeNormal()((300, 200), np.random.default_rng(0))
>>> weights.shape, bool(np.isclose(weights.std(), np.sqrt(2 / 300), rtol=0.01))
((300, 200), True)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from . import checks
from .checks import choice, number, shown
from .elsewhere import missing_from
from .settings import Closed

__all__ = [
    "Constant",
    "FunctionInitializer",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Initializer",
    "LecunNormal",
    "LecunUniform",
    "Normal",
    "Orthogonal",
    "Uniform",
    "Zeros",
    "get",
]

if not TYPE_CHECKING:  # which else would take any name for known
    __getattr__ = missing_from(__name__)

Shape = tuple[int, ...]


class Initializer(Closed):
    """The base of all initializers: ``initializer(shape, generator)`` returns the initial values.

    shape : of the array, (inputs, units) for the weights of a Dense layer; generator : a ``numpy.random.Generator``.
    """

    def __call__(self, shape: Shape, generator: np.random.Generator) -> np.ndarray:
        raise NotImplementedError(f"{type(self).__name__} does not define __call__(shape, generator)")


class Constant(Initializer):
    """All weights equal ``value``. Hidden units that start identical stay identical."""

    def __init__(self, value: float = 0.0):
        self.value = number("value", value)

    def __call__(self, shape: Shape, generator: np.random.Generator) -> np.ndarray:
        return np.full(shape, self.value)


class Zeros(Constant):
    """All weights are zero. Right for biases and for a single layer; hidden layers do not learn from it."""

    def __init__(self) -> None:
        super().__init__(0.0)


class Normal(Initializer):
    """N(mean, stddev²): ``stddev`` is a standard deviation, so ``Normal(0, 0.01)`` spreads by 0.01.

    Raises a ValueError for a negative deviation.
    """

    def __init__(self, mean: float = 0.0, stddev: float = 0.01):
        self.mean = number("mean", mean)
        self.stddev = number("stddev", stddev, least=0)

    def __call__(self, shape: Shape, generator: np.random.Generator) -> np.ndarray:
        return generator.normal(self.mean, self.stddev, shape)


class Uniform(Initializer):
    """U(low, high): all numbers between the two are equally likely. Raises a ValueError for low above high."""

    def __init__(self, low: float = 0.0, high: float = 0.1):
        self.low, self.high = number("low", low), number("high", high)
        if self.low > self.high:
            raise ValueError(f"low is {low!r}, above high, which is {high!r}; expected low <= high")
        number("high - low", self.high - self.low)

    def __call__(self, shape: Shape, generator: np.random.Generator) -> np.ndarray:
        return generator.uniform(self.low, self.high, shape)


class _Scaled(Initializer):
    """Zero mean and variance ``gain / fan``: signals keep their size through the layers."""

    gain = 1.0
    uniform = False

    def fan(self, shape: Shape) -> float:
        """What the variance is divided by: fan_in, or the mean of fan_in and fan_out."""
        return shape[0]

    def __call__(self, shape: Shape, generator: np.random.Generator) -> np.ndarray:
        deviation = math.sqrt(self.gain / self.fan(shape))
        if self.uniform:  # the variance of U(-a, a) is a²/3
            return generator.uniform(-math.sqrt(3) * deviation, math.sqrt(3) * deviation, shape)
        return generator.normal(0.0, deviation, shape)


class GlorotNormal(_Scaled):
    """N(0, 2 / (fan_in + fan_out)), for tanh and sigmoid (Glorot & Bengio 2010)."""

    def fan(self, shape: Shape) -> float:
        return (shape[0] + shape[-1]) / 2


class GlorotUniform(GlorotNormal):
    """U(-a, a) with a = sqrt(6 / (fan_in + fan_out)), the default but for SELU (Glorot & Bengio 2010)."""

    uniform = True


class HeNormal(_Scaled):
    """N(0, 2 / fan_in), for many layers of ReLU and its kin (He et al. 2015)."""

    gain = 2.0


class HeUniform(HeNormal):
    """U(-a, a) with a = sqrt(6 / fan_in), for many layers of ReLU and its kin (He et al. 2015)."""

    uniform = True


class LecunNormal(_Scaled):
    """N(0, 1 / fan_in), for SELU (LeCun et al. 1998; Klambauer et al. 2017)."""


class LecunUniform(LecunNormal):
    """U(-a, a) with a = sqrt(3 / fan_in) (LeCun et al. 1998)."""

    uniform = True


class Orthogonal(Initializer):
    """A random matrix with orthonormal columns, or rows where they are fewer, times ``gain`` (Saxe et al. 2014).

    WᵀW = gain² · 1 for at least as many inputs as units, else WWᵀ = gain² · 1.

    >>> W = fn.Orthogonal()((5, 3), np.random.default_rng(0))
    >>> np.allclose(W.T @ W, np.eye(3))
    True
    """

    def __init__(self, gain: float = 1.0):
        self.gain = number("gain", gain)

    def __call__(self, shape: Shape, generator: np.random.Generator) -> np.ndarray:
        rows, columns = shape[0], math.prod(shape[1:])
        q, r = np.linalg.qr(generator.normal(size=(max(rows, columns), min(rows, columns))))
        q = q * np.sign(np.diag(r))  # without it the matrix would not be spread evenly over all orthogonal ones
        return self.gain * (q if rows >= columns else q.T).reshape(shape)


class FunctionInitializer(Initializer):
    """A Python function f(shape, generator) that returns the initial values."""

    def __init__(self, function: Callable[[Shape, np.random.Generator], Any]):
        self.function = checks.function("function", function, ("shape", "generator"))

    def __call__(self, shape: Shape, generator: np.random.Generator) -> np.ndarray:
        return np.asarray(self.function(shape, generator))

    def __repr__(self) -> str:
        return f"FunctionInitializer({getattr(self.function, '__name__', self.function)})"


BY_NAME: dict[str, Callable[[], Initializer]] = {
    "zeros": Zeros,
    "ones": partial(Constant, 1.0),
    "constant": Constant,
    "normal": Normal,
    "uniform": Uniform,
    "glorot_normal": GlorotNormal,
    "glorot_uniform": GlorotUniform,
    "he_normal": HeNormal,
    "he_uniform": HeUniform,
    "lecun_normal": LecunNormal,
    "lecun_uniform": LecunUniform,
    "orthogonal": Orthogonal,
    "xavier_normal": GlorotNormal,
    "xavier_uniform": GlorotUniform,
    "kaiming_normal": HeNormal,
    "kaiming_uniform": HeUniform,
}


def get(name: str, value: Any) -> Initializer:
    """The initializer that ``value`` (a string, an object or a function) stands for."""
    if isinstance(value, Initializer):
        checks.defined(f"{name} is", value, Initializer, ("__call__",), 'a name, such as "glorot_uniform"')
        return value
    if isinstance(value, str):
        return BY_NAME[choice(name, value, BY_NAME)]()
    if callable(value) and not isinstance(value, type):
        return FunctionInitializer(checks.function(name, value, ("shape", "generator")))
    raise TypeError(
        f"{name} is {shown(value)}; expected an Initializer, a function or one of {', '.join(map(repr, BY_NAME))}"
    )
