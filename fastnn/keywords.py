"""Errors about arguments that a call does not have: Python's name them, these say what to write, too."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, TypeVar, cast

from .elsewhere import instead_in_call

__all__ = ["Told", "hides_others", "refuse", "tells"]

Function = TypeVar("Function", bound=Callable[..., Any])


def tells(method: Function) -> Function:
    """``method``, with an error that says what to write where it is called with an argument that it does not have.

    It keeps its signature. A call that is right costs one call more.
    """

    @functools.wraps(method)
    def called(self: Any, /, *arguments: Any, **named: Any) -> Any:
        try:
            return method(self, *arguments, **named)
        except TypeError as fault:
            inside = fault.__traceback__ is not None and fault.__traceback__.tb_next is not None
            known = () if inside else list(inspect.signature(method).parameters)[1:]
            name = next((name for name in named if known and name not in known), None)
            if name is None:
                raise
            raise missing(method, name, known, type(self)) from None

    return cast(Function, called)


def missing(method: Callable[..., Any], name: str, known: Iterable[str], kind: type | None = None) -> TypeError:
    """The error about an argument ``name`` that ``method``, of an object of this kind, does not have."""
    what = method.__name__
    if what == "__init__" and kind is not None:
        what = kind.__name__
    return TypeError(f"{what} has no argument {name!r}{instead_in_call(name, known)}")


def hides_others(method: Function) -> Function:
    """``method``, whose ``**others`` are there for ``refuse`` alone, with a signature without them.

    It is for what is called so often that one call more would be felt.
    """
    signature = inspect.signature(method)
    kept = [parameter for parameter in signature.parameters.values() if parameter.kind != parameter.VAR_KEYWORD]
    vars(method)["__signature__"] = signature.replace(parameters=kept)
    return method


def refuse(method: Callable[..., Any], others: dict[str, Any]) -> NoReturn:
    """Raise the error about the first of the arguments ``others`` that ``method`` does not have."""
    raise missing(method, next(iter(others)), list(inspect.signature(method).parameters)[1:])


class Told:
    """A class of fastnn whose ``__init__`` tells; those that users derive from it stay as they are."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.__module__.startswith(f"{__package__}.") and "__init__" in vars(cls):
            type.__setattr__(cls, "__init__", tells(vars(cls)["__init__"]))
