"""Objects that keep their arguments as attributes: what is changed later is checked as at the beginning."""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from .checks import arguments, shown_object
from .elsewhere import instead_in_call
from .keywords import ExplainsWrongCalls

#: Another object as ``last`` whenever an attribute of a layer, a loss or another such part changes, of any model: what
#: follows from such parts may be kept for as long as it stays the same. Nothing follows from the learning rate: each
#: step asks for it.
changes = SimpleNamespace(last=object())


@functools.cache
def inherited(kind: type) -> frozenset[str]:
    """The names of the arguments of a class and of those that it is made from."""
    return frozenset(name for part in kind.__mro__[:-1] for name in arguments(part))


def of_fastnn(kind: type) -> bool:
    """Whether a class is fastnn's own and not the user's, which may keep its arguments as it likes."""
    return kind.__module__.startswith("fastnn.")


def _normal(value: float, dtype: str) -> float:
    """``value``, or zero where it is a subnormal number of the type."""
    return 0.0 if abs(value) < np.finfo(dtype).tiny else value


def check_rounded(name: str, value: Checked, dtype: str) -> None:
    """Raise a ValueError where an argument of ``value`` leaves its range when it is rounded to ``dtype``, and to zero
    where it is subnormal, as a training takes it on some processors.
    """
    kind = next(filter(of_fastnn, type(value).__mro__))
    given = {key: getattr(value, key, None) for key in arguments(kind)}
    with np.errstate(over="ignore", under="ignore"):
        rounded = {
            key: _normal(float(np.dtype(dtype).type(found)), dtype) if isinstance(found, float) else found
            for key, found in given.items()
        }
    if rounded != given:
        try:
            kind(**rounded)
        except ValueError as fault:
            raise ValueError(f"{name} is {value!r}, but in {dtype} {fault}") from None


class Checked(ExplainsWrongCalls):
    """An argument that is changed is checked like one that is given, and what follows from it changes, too.

    On an error nothing has changed. What else the object keeps, such as what it has counted, stays.
    """

    if not TYPE_CHECKING:  # which else would take any name for known

        def __setattr__(self, name: str, value: Any) -> None:
            kind = type(self)
            in_init = name not in vars(self)
            if in_init or name not in arguments(kind) or not of_fastnn(kind):
                super().__setattr__(name, value)
            else:
                given = {key: getattr(self, key, None) for key in arguments(kind)}
                before, after = vars(kind(**given)), vars(kind(**given | {name: value}))
                vars(self).update({key: found for key, found in after.items() if found != before.get(key)})

    def __repr__(self) -> str:
        return shown_object(self)


class Closed(Checked):
    """It has no attributes but its arguments and those of its class: another one would change nothing."""

    if not TYPE_CHECKING:

        def __setattr__(self, name: str, value: Any) -> None:
            kind, there = type(self), name in vars(self)
            known = arguments(kind) if there else inherited(kind)
            if of_fastnn(kind) and name[0] != "_" and name not in known and not hasattr(kind, name):
                self.__getattr__(name)
            super().__setattr__(name, value)
            if there:  # what is new belongs to no model yet
                changes.last = object()

        def __getattr__(self, name: str) -> Any:
            hint = instead_in_call(name, arguments(type(self)))
            raise AttributeError(f"{type(self).__name__} has no {name}{hint}")
