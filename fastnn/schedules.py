"""The learning rate as a function of the step: ``Adam(CosineDecay(1e-3))``.

A schedule takes an array of step numbers and returns as many rates, so that a slice of batches costs one call. Steps
count batches from 0, through all fits since the model was compiled; but a schedule that leaves its length to the fit
(``decay_steps=None``) begins anew with each fit and ends with it, and ``train_on_batch`` refuses it. After its last
step a schedule keeps its last rate.

>>> fn.CosineDecay(0.1, decay_steps=4)([0, 2, 4, 100]).round(6).tolist()
[0.1, 0.05, 0.0, 0.0]
>>> fn.Warmup(0.1, warmup_steps=2)([0, 1, 2, 3]).tolist()
[0.0, 0.05, 0.1, 0.1]

All raise a ValueError or TypeError that names an argument that is out of its range.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import checks
from .checks import choice, flag, number, shown, whole_number
from .elsewhere import missing_from
from .settings import Closed

__all__ = [
    "ConstantRate",
    "CosineDecay",
    "ExponentialDecay",
    "FunctionSchedule",
    "OneCycle",
    "PiecewiseConstantDecay",
    "Schedule",
    "StepDecay",
    "Warmup",
    "get",
]

if not TYPE_CHECKING:  # which else would take any name for known
    __getattr__ = missing_from(__name__)


class Schedule(Closed):
    """The base of all schedules: ``schedule(steps)`` is the learning rate at each of the steps.

    One of your own defines ``rates(steps)``; a plain function of the step does as well.
    """

    def __call__(self, steps: Any) -> np.ndarray:
        """The rates, (steps,) of float64. Raises a ValueError where one is negative or not finite."""
        steps = np.asarray(steps, np.int64)
        rates = np.array(self.rates(steps), np.float64, order="C")  # the engine reads one number after the other
        if rates.shape != steps.shape:
            raise ValueError(
                f"{self!r} gives rates of shape {rates.shape} for steps of shape {steps.shape}; expected a rate a step"
            )
        if rates.size and not (rates.min() >= 0 and rates.max() < np.inf):  # not true of NaN either
            bad = int(np.argmin(np.isfinite(rates) & (rates >= 0)))
            raise ValueError(
                f"{self!r} gives the learning rate {float(rates.flat[bad])!r} at step {steps.flat[bad]}; "
                "expected a finite number of at least 0"
            )
        return rates

    def rates(self, steps: np.ndarray) -> np.ndarray:
        """The rates at an array of steps."""
        raise NotImplementedError(f"{type(self).__name__} does not define rates(steps)")

    def resolved(self, total_steps: int) -> Schedule:
        """The same schedule with a length: ``total_steps`` where it has none of its own."""
        return self


def _steps(name: str, value: Any) -> int | None:
    return None if value is None else whole_number(name, value)


def _rate(name: str, value: Any) -> float:
    return number(name, value, least=0)


class ConstantRate(Schedule):
    """The same rate at every step."""

    def __init__(self, learning_rate: float = 0.001):
        self.learning_rate = _rate("learning_rate", learning_rate)

    def rates(self, steps: np.ndarray) -> np.ndarray:
        return np.full(steps.shape, self.learning_rate)


class PiecewiseConstantDecay(Schedule):
    """values[0] up to and with step boundaries[0], then values[1] up to boundaries[1], and so on.

    boundaries : increasing steps; values : rates, one more than there are boundaries.
    """

    def __init__(self, boundaries: Sequence[int], values: Sequence[float]):
        for name, given in (("boundaries", boundaries), ("values", values)):
            if isinstance(given, str) or not isinstance(given, Iterable):
                raise TypeError(f"{name} is {shown(given)}; expected a list of numbers")
        self.boundaries = [whole_number(f"boundaries[{i}]", step, 0) for i, step in enumerate(boundaries)]
        self.values = [_rate(f"values[{i}]", rate) for i, rate in enumerate(values)]
        if len(self.values) != len(self.boundaries) + 1:
            raise ValueError(
                f"values has {len(self.values)} rates for {len(self.boundaries)} boundaries; expected one more"
            )
        if any(first >= second for first, second in zip(self.boundaries, self.boundaries[1:], strict=False)):
            raise ValueError(f"boundaries is {shown(boundaries)}; expected increasing steps")

    def rates(self, steps: np.ndarray) -> np.ndarray:
        return np.asarray(self.values)[np.searchsorted(self.boundaries, steps, side="left")]


class ExponentialDecay(Schedule):
    """rate = initial_learning_rate · decay_rate^(step / decay_steps).

    decay_steps : steps for one factor ``decay_rate``; decay_rate : above 0, at most 1; staircase : whether the exponent
    is rounded down.
    """

    def __init__(
        self,
        initial_learning_rate: float = 0.001,
        decay_steps: int = 1000,
        decay_rate: float = 0.9,
        staircase: bool = False,
    ):
        self.initial_learning_rate = _rate("initial_learning_rate", initial_learning_rate)
        self.decay_steps = whole_number("decay_steps", decay_steps)
        self.decay_rate = number("decay_rate", decay_rate, above=0, most=1)
        self.staircase = flag("staircase", staircase)

    def rates(self, steps: np.ndarray) -> np.ndarray:
        exponents = steps // self.decay_steps if self.staircase else steps / self.decay_steps
        return np.asarray(self.initial_learning_rate * self.decay_rate**exponents)


class StepDecay(ExponentialDecay):
    """rate = initial_learning_rate · decay_rate^⌊step / decay_steps⌋: a factor after every ``decay_steps`` steps."""

    def __init__(self, initial_learning_rate: float = 0.001, decay_steps: int = 1000, decay_rate: float = 0.5):
        super().__init__(initial_learning_rate, decay_steps, decay_rate, staircase=True)


class CosineDecay(Schedule):
    """Half a cosine wave from the initial rate down to ``alpha`` times it (Loshchilov & Hutter 2017, without restarts).

    rate = initial · ((1 - alpha) · (1 + cos(π · step / decay_steps)) / 2 + alpha)

    decay_steps : by default the steps of the fit; alpha : the last rate, as a share of the first.
    """

    def __init__(self, initial_learning_rate: float = 0.001, decay_steps: int | None = None, alpha: float = 0.0):
        self.initial_learning_rate = _rate("initial_learning_rate", initial_learning_rate)
        self.decay_steps = _steps("decay_steps", decay_steps)
        self.alpha = number("alpha", alpha, least=0, most=1)

    def resolved(self, total_steps: int) -> Schedule:
        if self.decay_steps is not None:
            return self
        return CosineDecay(self.initial_learning_rate, max(1, total_steps), self.alpha)

    def rates(self, steps: np.ndarray) -> np.ndarray:
        part = np.minimum(1.0, steps / _known(self, self.decay_steps))
        return self.initial_learning_rate * ((1 - self.alpha) * (1 + np.cos(np.pi * part)) / 2 + self.alpha)


class OneCycle(Schedule):
    """Up to ``maximum_learning_rate`` and down again, each along half a cosine wave (Smith 2018).

    It begins at maximum / ``start_divisor``, reaches the maximum after the share ``rise`` of the steps and ends at
    maximum / (start_divisor · end_divisor).

    total_steps : by default the steps of the fit; rise : a share, above 0 and below 1; start_divisor,
    end_divisor : 1 or more.
    """

    def __init__(
        self,
        maximum_learning_rate: float = 0.01,
        total_steps: int | None = None,
        rise: float = 0.3,
        start_divisor: float = 25.0,
        end_divisor: float = 1e4,
    ):
        self.maximum_learning_rate = _rate("maximum_learning_rate", maximum_learning_rate)
        self.total_steps = _steps("total_steps", total_steps)
        self.rise = number("rise", rise, above=0, below=1)
        self.start_divisor = number("start_divisor", start_divisor, least=1)
        self.end_divisor = number("end_divisor", end_divisor, least=1)

    def resolved(self, total_steps: int) -> Schedule:
        if self.total_steps is not None:
            return self
        return OneCycle(
            self.maximum_learning_rate, max(1, total_steps), self.rise, self.start_divisor, self.end_divisor
        )

    def rates(self, steps: np.ndarray) -> np.ndarray:
        most = self.maximum_learning_rate
        start = most / self.start_divisor
        end = start / self.end_divisor
        last = max(1, _known(self, self.total_steps) - 1)
        part = np.minimum(1.0, steps / last)
        up = start + (most - start) * (1 - np.cos(np.pi * np.minimum(1.0, part / self.rise))) / 2
        down = end + (most - end) * (1 + np.cos(np.pi * (part - self.rise) / (1 - self.rise))) / 2
        return np.where(part < self.rise, up, down)


class Warmup(Schedule):
    """From ``initial`` up to the first rate of ``schedule`` in a straight line, over ``warmup_steps`` steps; then it.

    rate = initial + (schedule(0) - initial) · step / warmup_steps, then schedule(step - warmup_steps) (Goyal et al.
    2017).

    schedule : a number or any schedule; warmup_steps : 1 or more; initial : the rate of step 0.
    """

    def __init__(self, schedule: Any, warmup_steps: int, initial: float = 0.0):
        self.schedule = get("schedule", schedule)
        self.warmup_steps = whole_number("warmup_steps", warmup_steps)
        self.initial = _rate("initial", initial)

    def resolved(self, total_steps: int) -> Schedule:
        schedule = self.schedule.resolved(max(1, total_steps - self.warmup_steps))
        return self if schedule is self.schedule else Warmup(schedule, self.warmup_steps, self.initial)

    def rates(self, steps: np.ndarray) -> np.ndarray:
        after = self.schedule(np.maximum(0, steps - self.warmup_steps))
        first = self.schedule(np.zeros(1, np.int64))[0]
        rising = self.initial + (first - self.initial) * steps / self.warmup_steps
        return np.where(steps < self.warmup_steps, rising, after)


class FunctionSchedule(Schedule):
    """A Python function of the step.

    It is tried on an array of steps first; where that fails or says something else than it says step by step, it is
    called for every step of a slice before the slice begins.
    """

    def __init__(self, function: Callable[[Any], Any]):
        self.function = checks.function("function", function, ("step",))

    def rates(self, steps: np.ndarray) -> np.ndarray:
        flat = steps.reshape(-1)
        try:
            together = np.asarray(self.function(flat.copy()), np.float64)  # it may change what it is given
        except Exception:  # it may be written for one step at a time
            together = np.empty(0)
        probes = sorted({0, len(flat) // 2, len(flat) - 1}) if len(flat) else []
        if together.shape == flat.shape and all(self._one(flat[i]) == together[i] for i in probes):
            return together.reshape(steps.shape)
        return np.array([self._one(step) for step in flat]).reshape(steps.shape)

    def _one(self, step: Any) -> float:
        value = self.function(int(step))
        try:
            return float(value)
        except (TypeError, ValueError):
            raise TypeError(f"{self!r} returned {shown(value)} at step {step}; expected a number") from None

    def __repr__(self) -> str:
        return f"FunctionSchedule({getattr(self.function, '__name__', self.function)})"


def _known(schedule: Schedule, steps: int | None) -> int:
    if steps is None:
        raise ValueError(f"{schedule!r} has no length of its own, and no fit gives it one; expected a number of steps")
    return steps


BY_NAME: dict[str, Callable[[], Schedule]] = {
    "constant": ConstantRate,
    "step": StepDecay,
    "exponential": ExponentialDecay,
    "cosine": CosineDecay,
    "one_cycle": OneCycle,
}


def get(name: str, value: Any) -> Schedule:
    """The schedule that ``value`` (a number, a string, an object or a function of the step) stands for."""
    if isinstance(value, Schedule):
        if type(value).__call__ is not Schedule.__call__:  # whose rates nobody would look at
            raise TypeError(f"{name} is {shown(value)}, with a __call__ of its own; expected it to be rates(steps)")
        checks.defined(f"{name} is", value, Schedule, ("rates",), 'a number, a name, such as "cosine"')
        return value
    if isinstance(value, str):
        others = "a number, a schedule, a function of the step or "
        return BY_NAME[choice(name, value, BY_NAME, others=others)]()
    if callable(value) and not isinstance(value, type):
        return FunctionSchedule(checks.function(name, value, ("step",)))
    return ConstantRate(number(name, value, least=0))
