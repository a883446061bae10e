"""Checks of what a user passes in: each names the argument, what came, and what is expected."""

from __future__ import annotations

import contextlib
import difflib
import functools
import inspect
import math
import numbers
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

#: The most that may be set for steps and epochs: counted on from there, they never come to the end of 64-bit numbers.
MOST_STEPS = 2**62

#: How far from 1 the numbers of a row may sum up to, to be taken for probabilities of classes.
SUM_TOLERANCE = 1e-3


def shown(value: Any) -> str:
    """``value`` for an error message: short, with its type where that says more."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    text = repr(value) if isinstance(value, str) else " ".join(repr(value).split())
    if len(text) > 60:
        text = text[:57] + "..."
    if isinstance(value, (str, int, float, type(None))):
        return text
    return f"{text} (a {type(value).__name__})"


def counted(number: int, noun: str) -> str:
    """ "1 row", "2 rows"."""
    return f"{number} {noun}{'s' * (number != 1)}"


@functools.cache
def arguments(kind: type) -> dict[str, inspect.Parameter]:
    """The arguments of a class by name, without *these and **those."""
    parameters = inspect.signature(kind).parameters
    return {name: each for name, each in parameters.items() if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)}


def shown_object(value: object) -> str:
    """``value`` as the call that makes it: its class, and each argument that is not at its default."""
    kind: type = type(value)
    given = {name: repr(getattr(value, name, each.default)) for name, each in arguments(kind).items()}
    settings = [f"{name}={found}" for name, found in given.items() if found != repr(arguments(kind)[name].default)]
    return f"{kind.__name__}({', '.join(settings)})"


def nearest(value: str, options: Iterable[str]) -> str:
    """``; did you mean 'relu'?`` where one of the options is close to ``value``, or a word of it, else nothing."""
    spelled, options = str(value).lower(), {option.lower(): option for option in options}
    words = [option for option in options if f"_{option}_" in f"_{spelled}_"]
    close = sorted(words, key=len, reverse=True) or difflib.get_close_matches(spelled, options, n=1, cutoff=0.7)
    return f"; did you mean {options[close[0]]!r}?" if close else ""


def choice(
    name: str, value: Any, options: Iterable[str], *, others: str = "", meant: Mapping[str, str] | None = None
) -> str:
    """The one of ``options`` that ``value`` spells, in any case.

    others : what may come instead; meant : beginnings of words that stand for one of the options elsewhere, where the
    nearest spelling would be another one.
    """
    options = list(options)
    if isinstance(value, str):
        same = [value] if value in options else [option for option in options if option.lower() == value.lower()]
        if same:
            return same[0]
    listed = ", ".join(repr(option) for option in options)
    hint = nearest(value, options) if isinstance(value, str) else ""
    for start, option in (meant or {}).items():
        if isinstance(value, str) and value.lower().strip("/").startswith(start):
            hint = f"; did you mean {option!r}?"
    raise ValueError(f"{name} is {shown(value)}; expected {others}one of {listed}{hint}")


def dtype(name: str, value: Any) -> str:
    """ "float32" or "float64", which ``value`` spells, or is as a type of NumPy's."""
    if isinstance(value, np.dtype):
        value = value.name
    elif isinstance(value, type) and issubclass(value, np.generic):
        value = value.__name__
    return choice(name, value, ("float32", "float64"))


def whole_number(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """``value`` as an int if it is a whole number from ``least`` to ``most``."""
    if type(value) is int and least <= value <= (sys.maxsize if most is None else most):
        return value
    wanted = f"a whole number of at least {least}" + ("" if most is None else f" and at most {most}")
    real = _real(name, value, wanted)
    if math.isfinite(real) and int(value) == value and least <= int(value) and (most is None or int(value) <= most):
        return int(value)
    raise ValueError(f"{name} is {shown(value)}; expected {wanted}")


def number(
    name: str,
    value: Any,
    least: float = -math.inf,
    most: float = math.inf,
    *,
    above: float = -math.inf,
    below: float = math.inf,
) -> float:
    """``value`` as a float if it is finite, at least ``least`` or above ``above``, and so on."""
    if type(value) is float and least <= value <= most and above < value < below and math.isfinite(value):
        return value
    bounds = [
        f"{word} {bound:g}"
        for word, bound in (("at least", least), ("above", above), ("at most", most), ("below", below))
        if math.isfinite(bound)
    ]
    wanted = "a finite number" + (" " + " and ".join(bounds) if bounds else "")
    real = _real(name, value, wanted)
    if not (math.isfinite(real) and least <= real <= most and above < real < below):
        raise ValueError(f"{name} is {shown(value)}; expected {wanted}")
    return real


def _real(name: str, value: Any, wanted: str) -> float:
    """``value`` as a float if it is a real number of any type, and no truth value."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} is {shown(value)}; expected {wanted}")
    try:
        return float(value)
    except OverflowError:  # a whole number beyond what floats hold
        return math.inf


def function(name: str, value: Any, takes: Sequence[str]) -> Callable[..., Any]:
    """``value`` if it can be called with these arguments, as far as it tells."""
    wanted = f"a function of ({', '.join(takes)})"
    if not callable(value):
        raise TypeError(f"{name} is {shown(value)}; expected {wanted}")
    with contextlib.suppress(ValueError):  # a function of a library that does not tell its arguments
        signature = inspect.signature(value)
        try:
            signature.bind(*takes)
        except TypeError:
            raise TypeError(f"{name} is a function of {signature}; expected {wanted}") from None
    return value  # type: ignore[no-any-return]


def path(name: str, value: Any) -> str:
    """``value`` as the path of a file."""
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{name} is {shown(value)}; expected the path of a file")
    found = os.fspath(value)
    fault = "empty" if not found else "a folder" if os.path.isdir(found) else ""
    if "\0" in found:
        fault = "with a character of code 0"
    elif not fault and os.path.exists(found) and not os.path.isfile(found):  # never to be replaced, or waited for
        fault = "a device, a pipe or a socket"
    if fault:
        raise ValueError(f"{name} is {shown(value)}, {fault}; expected the path of a file")
    return found


def defined(what: str, value: Any, base: type, methods: Sequence[str], others: str) -> None:
    """Raise a TypeError that names the first of these methods where a part has none but those of its base.

    what : how the error begins; others : what may come instead.
    """
    method = methods[0]
    if all(getattr(getattr(value, name), "__func__", None) is getattr(base, name) for name in methods):
        takes = ", ".join(inspect.signature(getattr(value, method)).parameters)
        raise TypeError(
            f"{what} {shown(value)}, which does not define {method}({takes}); expected {others}, or a class of your "
            "own that does"
        )


#: Endings of files of other formats, which nobody expects to find in the one that models are saved in.
OTHER_FORMATS = tuple(
    ".h5 .hdf5 .keras .pt .pth .ckpt .onnx .tflite .pb .pkl .pickle .joblib .npy .npz .mat .json .csv .txt".split()
)


def model_file(name: str, value: Any, *, in_folder: bool = True) -> str:
    """``value`` as the path of a file for a model: with no ending of another format, and where its folder is there.

    in_folder : whether to look for the folder.
    """
    found = path(name, value)
    if found.lower().endswith(OTHER_FORMATS):
        raise ValueError(
            f"{name} is {found!r}, but the file would be in the safetensors format; expected a name that ends in "
            ".safetensors, or in nothing"
        )
    folder = os.path.dirname(found) or os.curdir
    if in_folder and not os.path.isdir(folder):
        home = f": os.path.expanduser({name}) fills in ~" if found.startswith("~") else ""
        raise FileNotFoundError(f"{name} is {found!r}, but there is no folder {folder!r}; expected one{home}")
    if in_folder and not os.access(folder, os.W_OK):
        raise PermissionError(f"{name} is {found!r}, but the folder {folder!r} cannot be written to")
    return found


def flag(name: str, value: Any) -> bool:
    """``value`` if it is True or False, of Python or of NumPy."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise TypeError(f"{name} is {shown(value)}; expected True or False")


def name(name: str, value: Any, others: str = "") -> str:
    """``value`` if it is a string with something in it; others : what may come instead."""
    if not isinstance(value, str) or not value:
        raise TypeError(f"{name} is {shown(value)}; expected a non-empty string{others}")
    return value


def name_or_none(argument: str, value: Any) -> str | None:
    """``value`` if it is a name, or None."""
    return None if value is None else name(argument, value, " or None")


def warn(message: str) -> None:
    """Warn at the line that led here, the last one that is not of this library."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__package__") == __package__:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)
