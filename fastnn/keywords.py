"""Errors about arguments that a call does not have: Python's name them, these say what to write, too."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

from .elsewhere import instead_in_call

__all__ = ["Told", "tells"]

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
            what = method.__qualname__.removesuffix(".__init__").rpartition(".")[2]
            raise TypeError(f"{what} has no argument {name!r}{instead_in_call(name, known)}") from None

    return cast(Function, called)


class Told:
    """A class of fastnn whose ``__init__`` tells; those that users derive from it stay as they are."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.__module__.startswith(f"{__package__}.") and "__init__" in vars(cls):
            type.__setattr__(cls, "__init__", tells(vars(cls)["__init__"]))
