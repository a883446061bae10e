"""Objects that keep their arguments as attributes: what is changed later is checked as at the beginning."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

from .checks import nearest, shown_object

__all__ = ["Checked", "Closed"]


@functools.cache
def arguments(kind: type) -> tuple[str, ...]:
    """The names of the arguments of a class."""
    return tuple(inspect.signature(kind).parameters)


@functools.cache
def inherited(kind: type) -> frozenset[str]:
    """The names of the arguments of a class and of those that it is made from."""
    return frozenset(name for part in kind.__mro__[:-1] for name in arguments(part))


def ours(value: object) -> bool:
    """Whether the class of ``value`` is fastnn's own and not the user's, which may keep its arguments as it likes."""
    return type(value).__module__.startswith("fastnn.")


class Checked:
    """An argument that is changed is checked like one that is given, and what follows from it changes, too.

    On an error nothing has changed. What else the object keeps, such as what it has counted, stays.
    """

    if not TYPE_CHECKING:  # which else would take any name for known

        def __setattr__(self, name: str, value: Any) -> None:
            kind = type(self)
            if not (ours(self) and name in vars(self) and name in arguments(kind)):  # not ours, or still in __init__
                super().__setattr__(name, value)
                return
            given = {key: getattr(self, key, None) for key in arguments(kind)}
            before, after = vars(kind(**given)), vars(kind(**given | {name: value}))
            vars(self).update({key: found for key, found in after.items() if found != before.get(key)})

    def __repr__(self) -> str:
        return shown_object(self)


class Closed(Checked):
    """It has no attributes but its arguments and those of its class: another one would change nothing."""

    if not TYPE_CHECKING:

        def __setattr__(self, name: str, value: Any) -> None:
            kind = type(self)
            known = arguments(kind) if name in vars(self) else inherited(kind)
            if ours(self) and name[0] != "_" and name not in known and not hasattr(kind, name):
                self.__getattr__(name)
            super().__setattr__(name, value)

        def __getattr__(self, name: str) -> Any:
            known = arguments(type(self))
            hint = "; expected learning_rate" if name == "lr" and "learning_rate" in known else nearest(name, known)
            if not hint and known:
                hint = f"; expected {', '.join(known)}"
            raise AttributeError(f"{type(self).__name__} has no {name}{hint}")
