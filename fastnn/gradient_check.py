"""Backpropagation beside central differences, parameter by parameter; where they differ, which part is wrong."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import data
from .history import aligned
from .layers import Dense, Dropout, Input, Layer
from .losses import LossFunction, RowLoss
from .own_functions import ActivationFunction
from .regularizers import Penalty

if TYPE_CHECKING:
    from .model import Model

__all__ = ["GradientReport", "ParameterCheck", "check_gradients"]

#: About so many arguments of an own function are looked at, to find where its slope is wrong.
MOST = 2000


@dataclass(frozen=True)
class ParameterCheck:
    """One parameter: how many of its entries were compared, and the one with the largest relative error.

    kinks : entries at which the loss has a kink, where there is no derivative: backpropagation then gives a number
    between the slopes on both sides, and the entry is left out; place : () for a move of all entries together.
    """

    parameter: str
    size: int
    entries: int
    kinks: int
    error: float
    place: tuple[int, ...]
    backpropagation: float
    differences: float


class GradientReport:
    """What ``model.check_gradients`` found; ``print`` shows it as a table, and it is true if all is well.

    >>> model = fn.Model([fn.Input(2), fn.Dense(3, "tanh"), fn.Dense(1)], seed=0)
    >>> model.compile("sgd", "mse")
    >>> report = model.check_gradients(np.eye(2), [1, 2])
    >>> bool(report), report.worst.error < 1e-8
    (True, True)
    >>> [check.parameter for check in report.checks]
    ['dense_1.W', 'dense_1.b', 'dense_2.W', 'dense_2.b']

    checks : a ``ParameterCheck`` for each trained parameter; worst : the one with the largest error; faults : what is
    wrong, in words, as far as a part alone is; tolerance : the largest relative error that passes.
    """

    def __init__(self, checks: list[ParameterCheck], faults: list[str], tolerance: float):
        self.checks, self.faults, self.tolerance = checks, faults, tolerance

    @property
    def worst(self) -> ParameterCheck:
        """The parameter with the largest relative error."""
        return max(self.checks, key=lambda check: check.error)

    @property
    def passed(self) -> bool:
        """Whether no relative error is larger than ``tolerance``."""
        return self.worst.error <= self.tolerance

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        table = [("parameter", "entries", "kinks", "relative error", "at", "backpropagation", "central differences")]
        for check in self.checks:
            wrong = " !" if check.error > self.tolerance else ""
            numbers = f"{check.backpropagation:.6g}", f"{check.differences:.6g}"
            place = ", ".join(map(str, check.place)) or "all"
            entries = f"{check.entries:,} of {check.size:,}"
            table.append((check.parameter, entries, str(check.kinks), f"{check.error:.1e}{wrong}", place, *numbers))
        lines = aligned(table, "<>>>>>>")
        kind = "passed" if self.passed else "FAILED"
        lines.append(f"{kind}: relative errors up to {self.worst.error:.1e}, where {self.tolerance:.0e} is tolerated")
        return "\n".join([*lines, *self.faults])

    __repr__ = __str__


class Settings(NamedTuple):
    """How far to move an entry, what to tolerate, how many entries to take, and what draws them."""

    epsilon: float
    tolerance: float
    entries: int
    generator: np.random.Generator


def check_gradients(model: Model, X: Any, y: Any, epsilon: float, tolerance: float, entries: int) -> GradientReport:
    """The report on a model of 64-bit numbers, whose parameters are changed and set back."""
    settings = Settings(epsilon, tolerance, entries, np.random.default_rng(model.seed))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a layer is written in Python was said before
        gradients = model.gradients(X, y)
        if not gradients:
            raise ValueError("the model has no parameter that is trained, so there is no gradient to check")
        arrays = model.named_parameters()

        def loss() -> float:
            return model.evaluate(X, y, verbose=0)["loss"]

        checks = [compare(name, arrays[name], gradient, loss, settings) for name, gradient in gradients.items()]
        report = GradientReport(checks, [], tolerance)
        if not report.passed:
            report.faults = list(faults(model, X, y, settings))
            report.faults = report.faults or ["each part alone is right: what is wrong is how fastnn joins them"]
    return report


def compare(
    name: str,
    array: np.ndarray,
    gradient: np.ndarray,
    function: Callable[[], float],
    settings: Settings,
) -> ParameterCheck:
    """``gradient`` beside central differences of ``function`` by entries of ``array``, which it depends on.

    Where there are more than ``entries``, some are drawn, and all of them are moved together, besides: in a random
    direction of length 1, at place ().

    An error is relative to the larger of both numbers, but to no less than 1e-3 of the largest of all and 1e-4 of the
    function itself: beside these, differences of 64-bit numbers tell nothing.
    """
    epsilon, tolerance, entries, generator = settings
    drawn = np.arange(array.size) if array.size <= entries else generator.choice(array.size, entries, replace=False)
    places = [tuple(int(index) for index in np.unravel_index(number, array.shape)) for number in drawn]
    if array.size > entries:
        places.append(())
    direction = generator.choice([-1.0, 1.0], array.shape) / math.sqrt(array.size)
    kept, center = array.copy(), function()

    def change(place: tuple[int, ...], step: float) -> tuple[float, float]:
        """How far the entry was moved, and the function's difference to the ``center``."""
        try:
            if place == ():
                array[...] = kept + step * direction
                return step, function() - center
            array[place] += step
            return float(array[place] - kept[place]), function() - center
        finally:
            array[...] = kept

    def slopes(place: tuple[int, ...], step: float) -> tuple[float, float, float]:
        """The slopes on the left, on the right, and of the line between both sides."""
        step *= max(1.0, abs(kept[place])) if place else 1.0
        (down, lower), (up, upper) = change(place, -step), change(place, step)
        return lower / down, upper / up, (upper - lower) / (up - down)

    given = {place: float(gradient[place] if place else (gradient * direction).sum()) for place in places}
    first = {place: slopes(place, epsilon) for place in places}
    floor = max(1e-3 * max(abs(found[2]) for found in first.values()), 1e-4 * abs(center), 1e-300)

    def error(place: tuple[int, ...], expected: float) -> float:
        if not math.isfinite(given[place]):
            return math.inf
        return abs(given[place] - expected) / max(abs(given[place]), abs(expected), floor)

    kinks, worst = 0, (0.0, places[0], first[places[0]][2])
    for place in places:
        tried = [(error(place, first[place][2]), place, first[place][2])]
        if tried[0][0] > tolerance:  # a kink nearby lies outside of a smaller step
            finer = [slopes(place, epsilon / 10), slopes(place, epsilon / 100)]
            tried += [(error(place, found[2]), place, found[2]) for found in finer]
            if min(tried)[0] > tolerance and is_kink(given[place], *finer):
                kinks += 1
                continue
        worst = max(worst, min(tried), key=lambda entry: entry[0])
    at = worst[1]
    return ParameterCheck(name, array.size, len(places) - (() in places), kinks, worst[0], at, given[at], worst[2])


def is_kink(gradient: float, coarse: tuple[float, float, float], fine: tuple[float, float, float]) -> bool:
    """Whether the slopes on both sides differ however small the step, and the gradient lies between them."""
    left, right, _ = fine
    gap = abs(right - left)
    between = min(left, right) - 0.01 * gap <= gradient <= max(left, right) + 0.01 * gap
    return between and gap > 0.5 * abs(coarse[1] - coarse[0]) and gap > 1e-3 * max(abs(left), abs(right))


# Which part is wrong: each one alone, with the numbers that the model gives it.


def faults(model: Model, X: Any, y: Any, settings: Settings) -> Iterator[str]:
    """What is wrong, a sentence for each part that is."""
    x = data.inputs("X", X, model.inputs, model.dtype).take(slice(None))
    for layer in model.layers:
        if not isinstance(layer, (Input, Dropout)):
            mistake = activation_mistake(layer, x)
            if mistake is None:
                mistake = layer_mistake(layer, x.copy(), settings)
            if mistake is not None:
                yield f"layer {layer.name!r}: {mistake}"
            yield from penalty_mistakes(layer)
        x = layer.forward(x)
    loss = model.loss
    if isinstance(loss, LossFunction):
        targets = loss.targets("y", y, model.outputs, model.dtype).take(slice(None))
        if isinstance(loss, RowLoss):
            mistakes = (loss.mistake_in_row(*pair) for pair in zip(x, targets, strict=True))
        else:
            pairs = zip(some(x), some(targets), strict=True)
            mistakes = (loss.mistake([output], target) for output, target in pairs)
        mistake = next((mistake for mistake in mistakes if mistake is not None), None)
        if mistake is not None:
            yield f"the slope of {loss!r} is wrong: {mistake}"


def activation_mistake(layer: Layer, x: np.ndarray) -> str | None:
    """Where the slope of the layer's own activation is wrong, if it has one."""
    activation = getattr(layer, "activation", None)
    if not isinstance(activation, ActivationFunction):
        return None
    inner = x @ layer.W + layer.b if isinstance(layer, Dense) else x
    mistake = activation.mistake(some(inner))
    return None if mistake is None else f"the slope of {activation!r} is wrong: {mistake}"


def layer_mistake(layer: Layer, x: np.ndarray, settings: Settings) -> str | None:
    """Where ``backward`` of the layer does not fit its ``forward``, for a sum of its outputs with random weights."""
    weights = settings.generator.standard_normal((len(x), layer.units))
    layer.forward(x)
    arrays = {"x": (x, np.array(layer.backward(weights)))}
    arrays |= {key: (layer.parameters[key], np.array(gradient)) for key, gradient in layer.gradients.items()}

    def weighted_sum() -> float:
        return float((layer.forward(x) * weights).sum())

    for name, (array, gradient) in arrays.items():
        check = compare(name, array, gradient, weighted_sum, settings)
        if check.error > settings.tolerance:
            where = list(check.place) or " (all of it)"
            return (
                f"backward gives {check.backpropagation:.6g} for {name}{where}, but central differences of forward "
                f"give {check.differences:.6g}"
            )
    return None


def penalty_mistakes(layer: Layer) -> Iterator[str]:
    """Where the slopes of the layer's own penalties are wrong."""
    for key, name in (("W", "kernel_regularizer"), ("b", "bias_regularizer")):
        penalty = getattr(layer, name, None)
        mistake = penalty.mistake(some(layer.parameters[key])) if isinstance(penalty, Penalty) else None
        if mistake is not None:
            yield f"layer {layer.name!r}: the slope of its {name} {penalty!r} is wrong: {mistake}"


def some(array: np.ndarray) -> list[float]:
    """Numbers of an array, all of them or evenly spread."""
    return [float(number) for number in array.ravel()[:: max(1, array.size // MOST)]]
