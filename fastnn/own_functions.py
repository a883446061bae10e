"""Your own activation, loss or penalty: two Python functions of numbers, compiled into the engine as built-in ones are.

``value`` is the function and ``slope`` its derivative. Both take and return single numbers::

    def value(x):
        return x * math.tanh(math.log1p(math.exp(x)))

They may use arithmetic, comparisons, ``if``, ``for``, ``abs``, ``min``, ``max``, the functions of ``math`` and those
of ``numpy`` for single numbers, constants, and other such functions, compiled by Numba or not. What Numba cannot
compile is an error that says why. They cannot raise exceptions: outside of its domain a function has the value
``float("nan")``.

Constants and functions from outside are taken as they are when the part is first used; what changes later counts for
parts that are made later. ``exp``, ``expm1``, ``log``, ``log1p`` and ``tanh`` become those of fastnn, which are exact
to two units in the last place and many times faster in a loop.

A constant with a decimal point is a 64-bit number. ``0.5 * x`` is right in a float32 model, too, but computed in 64
bits and rounded; ``type(x)(0.5) * x`` is computed in 32, twice as many at a time.

The slope has to be the derivative: one that is meant to differ, as for learning through a step function, is refused.

>>> squared_relu = fn.ActivationFunction(
...     value=lambda x: max(x, 0.0) ** 2,
...     slope=lambda x, y: 2.0 * max(x, 0.0),
...     name="squared_relu",
... )
>>> fn.Activation(squared_relu).forward([[-1.0, 3.0]])
array([[0., 9.]])
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from . import checks
from .checks import shown
from .kernels.conventions import FAULT
from .keywords import ExplainsWrongCalls
from .settings import of_fastnn

if TYPE_CHECKING:
    from .model import Model
    from .plan import Plan

__all__ = ["ActivationFunction", "OwnFunction"]

#: Places to compare slopes at. Random, because a kink is rather at a round number.
PLACES = np.random.default_rng(0).uniform(-1, 1, 64) * np.repeat([1.5, 8, 40], [32, 24, 8])

#: Distances for central differences: the second is for functions that are computed in 32 bits.
STEPS = (1e-4, 1e-2)

#: The relative difference that is still no mistake, and how far a mistake must reach to be none of a kink.
TOLERANCE, REACH = 1e-4, 0.03


class OwnFunction(ExplainsWrongCalls):
    """What ``ActivationFunction``, ``LossFunction`` and ``Penalty`` share.

    value, slope : Python functions; name : shown in summaries and errors, by default that of ``value``.
    """

    value_takes: tuple[str, ...] = ()
    slope_takes: tuple[str, ...] = ()
    #: What an error about a slope that is wrong goes on to say.
    hint = ""

    def __init__(self, value: Callable[..., Any], slope: Callable[..., Any], name: str | None = None):
        name = checks.name_or_none("name", name)
        self.value = _checked_function("value", value, self.value_takes)
        self.slope = _checked_function("slope", slope, self.slope_takes)
        self.name = name or str(getattr(value, "__name__", type(value).__name__))
        self._formulas: tuple[Any, Any] | None = None
        #: For what the slope has been looked at; None: it is not looked at.
        self._checked: frozenset[Any] | None = frozenset()

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("value", "slope", "name") and name in vars(self):
            raise AttributeError(f"{name} of {self!r} is fixed; expected a new {type(self).__name__}")
        super().__setattr__(name, value)

    def compute(self, which: str, *arguments: float) -> float:
        """``value`` or ``slope`` of numbers, by Python; NaN where they lie outside of its domain."""
        try:
            with np.errstate(all="ignore"):
                return float(getattr(self, which)(*map(np.float64, arguments)))
        except (ArithmeticError, ValueError):  # where compiled code has a NaN or an infinity
            return float("nan")
        except Exception as fault:
            takes = self.value_takes if which == "value" else self.slope_takes
            places = ", ".join(f"{name} = {number:.6g}" for name, number in zip(takes, arguments, strict=True))
            raise TypeError(f"{which} of {self!r} failed for {places}: {type(fault).__name__}: {fault}") from fault

    def check(self, mistakes: Iterable[str | None] | None = None, what: Any = None) -> None:
        """Raise a ValueError if the slope is not the derivative of the value.

        mistakes : those at some places, or None for each that is right; what : they are looked at once for.
        """
        if self._checked is None or what in self._checked:
            return
        for mistake in (self.mistake(PLACES),) if mistakes is None else mistakes:
            if mistake is not None:
                raise ValueError(f"the slope of {self!r} is wrong: {mistake}{self.hint}")
        self._checked |= {what}

    def mistake(self, places: Iterable[float], *others: float) -> str | None:
        """Where the slope is wrong, for a first argument at ``places`` and these ``others``, and by what; or None."""
        wrong = find_wrong_slope(
            lambda x: self.compute("value", x, *others), lambda x: self.slope_at(x, *others), places
        )
        if wrong is None:
            return None
        first, *further = self.value_takes
        given = "".join(f" for the {name} {number:.6g}" for name, number in zip(further, others, strict=True))
        return (
            f"at {first} = {wrong[0]:.6g}{given}, slope({', '.join(self.slope_takes)}) is {wrong[1]:.6g}, but central "
            f"differences of value({', '.join(self.value_takes)}) give {wrong[2]:.6g}"
        )

    def slope_at(self, *arguments: float) -> float:
        """The slope for the arguments of ``value``."""
        return self.compute("slope", *arguments)

    def trusted(self) -> Self:
        """A copy whose slope is not checked when it is first used."""
        twin = copy.copy(self)
        twin._formulas, twin._checked = self._formulas, None
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> OwnFunction:
        return self  # it never changes

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_formulas": None, "_checked": frozenset()}  # elsewhere the functions may be others

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


class ActivationFunction(OwnFunction):
    """An own activation: ``y = value(x)`` for a number x, and ``slope(x, y)``, its derivative at x.

    ::

        def value(x):
            return max(x, 0.0) ** 2

        def slope(x, y):
            return 2.0 * max(x, 0.0)

        fn.Dense(32, activation=fn.ActivationFunction(value, slope, "squared_relu"))

    When it is first used, the slope is compared with central differences of the value: a ValueError says where
    they differ. A TypeError says why a function cannot be compiled.
    """

    value_takes = ("x",)
    slope_takes = ("x", "y")

    @property
    def formulas(self) -> tuple[Any, Any]:
        """The formulas (value, slope) for the kernels."""
        if self._formulas is None:
            from .kernels.formulas import own

            self.check()
            self._formulas = own.activation_formulas(self.value, self.slope)
        return self._formulas

    def slope_at(self, *arguments: float) -> float:
        return self.compute("slope", *arguments, self.compute("value", *arguments))


def suspects(model: Model) -> str:
    """What an error about numbers that are not finite says of the parts of the model that the user wrote, if any."""
    parts = [part for layer in model.layers for part in (layer, *vars(layer).values())]
    own: list[Any] = [part for part in (*parts, model.loss) if isinstance(part, OwnFunction)]
    own += [part for part in (*model.layers, model.optimizer) if not of_fastnn(type(part))]
    names = " and ".join(dict.fromkeys(map(repr, own)))
    return f"; or look at {names}, your own, which may not be finite there" if own else ""


def engine_fault(plan: Plan, status: int, where: str = "") -> Exception:
    """What is wrong where the engine stopped with such a status."""
    if status == FAULT and plan.loss is not None and plan.loss.kind == "row_loss":
        return IndexError(f"value or slope of {plan.loss.functions!r} uses a place beyond y, dy or target{where}")
    return RuntimeError(f"the engine stopped with status {status}{where}: a fault of fastnn, please report it")


def find_wrong_slope(
    value: Callable[[float], float], slope: Callable[[float], float], places: Iterable[float]
) -> tuple[float, float, float] | None:
    """(x, slope, central difference) at the first of ``places`` where the two differ, or None.

    A place counts where they differ on both sides of it as well: beside a kink they differ on one side at most.
    Where the value is not finite, nothing can be said.
    """

    def difference(x: float) -> float:
        """How far the slope is from the nearest central difference, beyond what is tolerated; NaN: unknown."""
        found = slope(x)
        beyond = []
        for step in STEPS:
            expected = central_difference(value, x, step)
            tolerated = TOLERANCE * max(abs(found), abs(expected)) + 1e-7 * max(1.0, abs(value(x)))
            if np.isfinite(expected):
                beyond.append(abs(found - expected) - tolerated if np.isfinite(found) else np.inf)
        return min(beyond, default=np.nan)

    for x in map(float, places):
        if all(difference(place) > 0 for place in (x, x - REACH, x + REACH)):
            return x, slope(x), central_difference(value, x, STEPS[0])
    return None


def central_difference(function: Callable[[float], float], x: float, step: float) -> float:
    """The derivative of ``function`` at x from four values; its error shrinks with the fourth power of ``step``."""
    near = function(x + step) - function(x - step)
    far = function(x + 2 * step) - function(x - 2 * step)
    return (8 * near - far) / (12 * step)


def _checked_function(name: str, function: Any, takes: Sequence[str]) -> Callable[..., Any]:
    known = inspect.isfunction(function) or inspect.isbuiltin(function) or isinstance(function, np.ufunc)
    if not known and not hasattr(function, "py_func"):  # what Numba compiled has that
        wanted = f"a function of ({', '.join(takes)})"
        raise TypeError(f"{name} is {shown(function)}; expected {wanted}, written with def or lambda")
    return checks.function(name, function, takes)
