"""Errors about arguments that a call does not have, or lacks: Python's name them, these say what to write, too."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, TypeVar, cast

from .elsewhere import NEEDED, instead_in_call

Function = TypeVar("Function", bound=Callable[..., Any])


def explains_wrong_calls(method: Function) -> Function:
    """``method``, with an error that says what to write where it is called with an argument that it does not have, or
    without one that it needs.

    It keeps its signature. A call that is right costs one call more.
    """

    @functools.wraps(method)
    def called(self: Any, /, *arguments: Any, **named: Any) -> Any:
        try:
            return method(self, *arguments, **named)
        except TypeError as fault:
            inside = fault.__traceback__ is not None and fault.__traceback__.tb_next is not None
            error = None if inside else wrong_call(method, type(self), arguments, named)
            if error is None:
                raise
            raise error from None

    return cast(Function, called)


def wrong_call(
    method: Callable[..., Any], kind: type, arguments: tuple[Any, ...], named: dict[str, Any]
) -> TypeError | None:
    """The error about the first argument that ``method``, of an object of this kind, does not have, or lacks."""
    what = method.__name__
    if what == "__init__":  # the user's own class has another
        ours = kind.__module__.startswith(f"{__package__}.")
        what = kind.__name__ if ours else method.__qualname__.partition(".")[0]
    parameters = list(inspect.signature(method).parameters.values())[1:]
    known = [parameter.name for parameter in parameters]
    for name in named:
        if known and name not in known:
            return not_there(what, name, known)
    needed = [parameter.name for parameter in parameters if parameter.default is parameter.empty]
    for name in known[len(arguments) :]:
        if name in needed and name not in named:
            return TypeError(f"{what} needs {name!r}; expected {what}({', '.join(needed)}){NEEDED.get(name, '')}")
    if known[:1] == ["layers"] and len(arguments) > 1:
        return TypeError(
            f"{what} was given {len(arguments)} arguments without a name; expected one, the list of all layers: "
            "Model([Input(64), Dense(10)])"
        )
    return None


def not_there(what: str, name: str, known: Iterable[str]) -> TypeError:
    """The error about an argument ``name`` that a call does not have."""
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
    raise not_there(method.__name__, next(iter(others)), list(inspect.signature(method).parameters)[1:])


class ExplainsWrongCalls:
    """A class of fastnn whose ``__init__`` explains wrong calls; those that users derive from it stay as they are."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.__module__.startswith(f"{__package__}.") and "__init__" in vars(cls):
            type.__setattr__(cls, "__init__", explains_wrong_calls(vars(cls)["__init__"]))
