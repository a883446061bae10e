"""A user's Python function as a formula, compiled into the kernels as the built-in ones are.

A function is *frozen* first: copied together with the values that it refers to. So the machine code does not
depend on when it was compiled, and ``cache.fingerprint`` can know the function again by its content. What it
takes from ``math`` and ``numpy`` is replaced by functions that a loop can vectorize, where there are such.
"""

import dis
import functools
import math
import types as python_types
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import numpy as np
from numba import types
from numba.core.dispatcher import Dispatcher
from numba.core.errors import NumbaError
from numba.extending import overload

from ..cache import UnknownValueError, fingerprint, in_tree
from ..compiler import PartCompiler
from ..jit import COMPILED, FLAGS, Formula, FormulaError, formula
from . import elementary

#: Functions of ``math`` and ``numpy`` that are a library call an element, and that we have without one.
VECTORIZED = ("exp", "expm1", "log", "log1p", "tanh")


@formula
def sign(x):
    """-1, 0 or 1; NaN stays NaN."""
    real = type(x)
    return real(1) if x > real(0) else (real(-1) if x < real(0) else x)


@formula
def square(x):
    """x * x."""
    return x * x


#: Functions of ``numpy`` that Numba has for the CPU alone, and what a GPU has, too.
FOR_GPUS = {
    "abs": abs,
    "absolute": abs,
    "fabs": abs,
    "isfinite": math.isfinite,
    "isinf": math.isinf,
    "sign": sign,
    "sqrt": math.sqrt,
    "square": square,
}


#: How Numba is to compile what stands in.
INLINED: dict[str, Any] = {"forceinline": True, **FLAGS}


def vectorized(theirs: Callable[[Any], Any], ours: Any) -> Callable[[Any], Any]:
    """A function that compiles to ``ours`` for floats and to ``theirs`` for anything else."""

    def function(x):
        return theirs(x)

    def of_floats(x):
        return ours(x)

    def of_others(x):
        return theirs(x)

    @overload(function, jit_options=INLINED)
    def choose(x):
        return of_floats if isinstance(x, types.Float) else of_others

    return function


def clip(x, low, high):
    """``numpy.clip``, for single numbers, too, which Numba's does not take."""
    return np.clip(x, low, high)


@overload(clip, jit_options=INLINED)
def choose_clip(x, low, high):
    def of_numbers(x, low, high):
        return low if x < low else (high if x > high else x)

    def of_arrays(x, low, high):
        return np.clip(x, low, high)

    return of_numbers if isinstance(x, types.Number) else of_arrays


def where(condition, x, y):
    """``numpy.where`` that gives a number for single numbers, and no array."""
    return np.where(condition, x, y)


@overload(where, jit_options=INLINED)
def choose_where(condition, x, y):
    def of_numbers(condition, x, y):
        return x if condition else y

    def of_arrays(condition, x, y):
        return np.where(condition, x, y)

    return of_numbers if isinstance(condition, (types.Boolean, types.Number)) else of_arrays


def stand_ins() -> dict[Any, Any]:
    """What a frozen function gets in the place of what it refers to."""
    found: dict[Any, Any] = {}
    if COMPILED:
        numpy_functions = {name: vectorized(getattr(np, name), ours) for name, ours in FOR_GPUS.items()}
        for module, functions in ((math, {}), (np, {"clip": clip, "where": where, **numpy_functions})):
            for name in VECTORIZED:
                functions[name] = vectorized(getattr(module, name), getattr(elementary, name))
            found |= {getattr(module, name): function for name, function in functions.items()}
            found[module] = python_types.ModuleType(f"{__name__}.{module.__name__}")
            found[module].__dict__.update(functions, __getattr__=functools.partial(getattr, module))
    return found


STAND_INS = stand_ins()


class OwnFormula(Formula):
    """A user's function, compiled into its callers; an error says in a few lines what is wrong with it."""

    #: Whether it has to return a number: what it calls may return what it likes.
    returns_number = False

    def compile(self, signature: Any) -> Any:
        kinds = " and ".join(map(str, signature))
        try:
            entry = super().compile(signature)
        except FormulaError:  # a function that this one calls
            raise
        except Exception as fault:
            raise refusal(self.py_func, f"cannot be compiled for {kinds}: {reason(fault)}") from None
        result = self.overloads[tuple(signature)].signature.return_type
        if self.returns_number and not isinstance(types.unliteral(result), (types.Integer, types.Float, types.Boolean)):
            raise refusal(self.py_func, f"returns {result} for {kinds}; expected a number on every path")
        return entry


def refusal(function: Callable[..., Any], text: str) -> FormulaError:
    code = function.__code__
    return FormulaError(f"{function.__qualname__} (line {code.co_firstlineno} of {code.co_filename}) {text}")


def reason(fault: Exception) -> str:
    """The lines of Numba's message that say what is wrong, without those that say where Numba was."""
    places = ("Failed in", "During:", "Overload", "There are", "- ", ">>>", "[", "Rejected", "Enable", "This error")
    lines = [line.strip().removeprefix("TypingError: ") for line in str(fault).partition('File "')[0].splitlines()]
    text = " ".join([line for line in lines if line and not line.startswith(places)][:3])
    return text if isinstance(fault, NumbaError) else f"{type(fault).__name__}: {text}"


def frozen(value: Any, seen: dict[Any, Any] | None = None) -> Any:
    """A Python function as a formula that has its own globals and cells, with their values of now.

    So are the Python functions that it refers to, compiled by Numba or not. Anything else is returned as it is.
    """
    seen = {} if seen is None else seen
    if isinstance(value, Dispatcher) and not in_tree(value.py_func):
        value = value.py_func
    if isinstance(value, Hashable) and value in STAND_INS:
        return STAND_INS[value]
    if not isinstance(value, python_types.FunctionType) or str(value.__module__).partition(".")[0] in KNOWN_TO_NUMBA:
        return value
    if value not in seen:
        code, cells = value.__code__, value.__closure__ or ()
        if code.co_kwonlyargcount:
            raise refusal(value, "has keyword-only arguments, which compiled code does not know")
        if raises(code):
            raise refusal(
                value, "raises an exception, which compiled code cannot pass on; expected a number on every path"
            )
        own_globals: dict[str, Any] = {"__name__": value.__module__}
        own_cells = tuple(python_types.CellType() for _ in cells)
        copy = python_types.FunctionType(code, own_globals, value.__name__, value.__defaults__, own_cells or None)
        copy.__kwdefaults__, copy.__qualname__ = value.__kwdefaults__, value.__qualname__
        vars(copy)["frozen"] = True
        seen[value] = OwnFormula(copy, PartCompiler) if COMPILED else copy
        for name in global_names(code) & value.__globals__.keys():
            own_globals[name] = frozen(value.__globals__[name], seen)
        for own_cell, cell in zip(own_cells, cells, strict=True):
            own_cell.cell_contents = frozen(cell.cell_contents, seen)
    return seen[value]


#: Packages whose Python functions Numba has versions of its own of.
KNOWN_TO_NUMBA = ("fastnn", "numba", "numpy")


def instructions(code: python_types.CodeType) -> Iterator[dis.Instruction]:
    """The bytecode of a function and of the functions inside it."""
    yield from dis.get_instructions(code)
    for constant in code.co_consts:
        if isinstance(constant, python_types.CodeType):
            yield from instructions(constant)


def global_names(code: python_types.CodeType) -> set[str]:
    """The global names that a function refers to."""
    return {step.argval for step in instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}


def raises(code: python_types.CodeType) -> bool:
    """Whether a function raises exceptions of its own."""
    return any(step.opname == "RAISE_VARARGS" for step in instructions(code))


_formulas: dict[Any, Any] = {}


def own_formula(function: Any, returns_number: bool = True) -> Any:
    """``frozen(function)``, the same formula for functions of the same content, so that it is compiled once."""
    made = frozen(function)
    if isinstance(made, OwnFormula):
        made.returns_number = returns_number
    try:
        content = repr((fingerprint(made), returns_number))
    except (UnknownValueError, ValueError, RecursionError):
        return made
    return _formulas.setdefault(content, made)


def own_procedure(function: Any) -> Any:
    """``own_formula(function)`` of an update of arrays. It may return one, which nobody but this function frees."""
    own = own_formula(function, returns_number=False)

    def update(p, g, slots, rate, step, settings):
        own(p, g, slots, rate, step, settings)

    return Formula(update, PartCompiler) if COMPILED else update


@functools.cache
def activation_value(own: Any) -> Any:
    @formula
    def value(x):
        return type(x)(own(x))

    return value


@functools.cache
def activation_slope(own: Any) -> Any:
    @formula
    def slope(x, y):
        return type(x)(own(x, y))

    return slope


@functools.cache
def of_targets(own: Any) -> Any:
    @formula
    def value_or_slope(y, target, unused):
        return type(y)(own(y, target))

    return value_or_slope


def activation_formulas(value: Any, slope: Any) -> tuple[Any, Any]:
    """The formulas of an activation with the user's ``value(x)`` and ``slope(x, y)``."""
    return activation_value(own_formula(value)), activation_slope(own_formula(slope))


def loss_formulas(value: Any, slope: Any) -> tuple[Any, Any]:
    """The formulas of a loss with the user's ``value(y, target)`` and ``slope(y, target)``."""
    return of_targets(own_formula(value)), of_targets(own_formula(slope))


def row_loss_formulas(value: Any, slope: Any) -> tuple[Any, Any]:
    """The formulas of a loss with the user's ``value(y, target)`` and ``slope(dy, y, target)`` of a row's arrays."""
    formulas = own_formula(value), own_formula(slope, returns_number=False)
    for own in formulas:
        if isinstance(own, OwnFormula):  # a place may follow from a target
            own.targetoptions["boundscheck"] = True
    return formulas[0], row_slope(formulas[1])


@functools.cache
def row_slope(own: Any) -> Any:
    def fill(dy, y, target):  # it may return an array, which nobody but this function frees
        own(dy, y, target)

    return Formula(fill, PartCompiler) if COMPILED else fill
