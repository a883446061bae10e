"""How fastnn compiles: the flags, and one decorator for each kind of function.

``formula``   a scalar function, written once for both devices and inlined into loops;
``kernel``    a loop over arrays, called from Python or from another kernel;
``address``   the C entry point of a function that the engine calls through a plan.

Kernels and C functions are kept on disk (``cache.py``); formulas are part of what calls them. With
``NUMBA_DISABLE_JIT=1`` all three stay plain Python, so a debugger can step through them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import config, njit, types
from numba.core.ccallback import CFunc
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import CPUDispatcher

from .cache import KernelCache

__all__ = ["COMPILED", "FLAGS", "address", "at_address", "contracted", "formula", "kernel"]

#: Whether functions are compiled at all (``NUMBA_DISABLE_JIT`` unset).
COMPILED = not config.DISABLE_JIT

#: No fast-math flag at all. ``contract`` lets the compiler choose where to fuse a multiplication and an addition, and
#: it chooses otherwise in each function that a formula is inlined into: the engine and the flat kernels would differ
#: in the last bit, and so would a process that compiles and one that loads from the disk. ``reassoc``, ``arcp``
#: and ``afn`` reorder or approximate; ``nnan`` would delete the NaN checks; ``nsz`` lets the sign of a zero depend on
#: the context. What must be fused says so (``contracted`` formulas, ``vectors.multiply_add``).
FLAGS: dict[str, Any] = {"error_model": "numpy"}

#: Of a formula: always inlined, and without entry points for calls from Python and C.
FORMULA_OPTIONS = {"nopython": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True, "forceinline": True, **FLAGS}

#: Every function that a plan calls by address: ``status = function(run, row, first, last)``.
PLAN_SIGNATURE = types.intp(types.intp, types.intp, types.intp, types.intp)

#: Called with a function's name before it is compiled, if somebody wants to know; its exceptions are ignored.
on_compile: Callable[[str], None] | None = None

#: Names of the kernels and C functions that this process compiled, and that it loaded from the disk.
compiled: list[str] = []
loaded: list[str] = []


class Formula(CPUDispatcher):
    """A function that is compiled into its callers; called from Python it runs as plain Python.

    Without the entry points for calls from Python and C it takes a third less time to compile.
    """

    def __call__(self, *arguments: Any) -> Any:
        return self.py_func(*arguments)


class FormulaError(TypeError):
    """A user's function cannot be compiled."""


def formula(function: Callable[..., Any]) -> Any:
    """Compile a scalar function into the kernels that call it.

    It is always inlined: a loop around a call does not vectorize, and LLVM leaves long formulas as calls.
    """
    return Formula(function, targetoptions=FORMULA_OPTIONS) if COMPILED else function


def contracted(function: Callable[..., Any]) -> Any:
    """A formula of one multiplication and one addition, which are to be rounded together where the processor can."""
    return Formula(function, targetoptions={**FORMULA_OPTIONS, "fastmath": {"contract"}}) if COMPILED else function


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a loop over arrays; it releases the global interpreter lock while it runs."""
    dispatcher = njit(nogil=True, **FLAGS)(function)
    if COMPILED:
        dispatcher._cache = KernelCache(function, _told, linked=True)
    return dispatcher


def _told(event: str, name: str) -> None:
    """Count what the cache tells, and pass on that a function has to be compiled."""
    (loaded if event == "loaded" else compiled).append(name)
    if event == "missed" and on_compile is not None:
        try:
            on_compile(name)
        except Exception:  # whoever is told has no say in whether the function gets compiled
            pass


_entries: dict[Callable[..., Any], tuple[int, Any]] = {}
_python_functions: list[Callable[..., Any]] = []


def address(function: Callable[..., Any], signature: Any = PLAN_SIGNATURE) -> int:
    """Compile ``function`` to a C function (once) and return its address.

    The address is valid in this process and its forks, for as long as they live: never store it. With the
    compiler disabled it is a ticket for ``at_address``. A factory of such functions is decorated with
    ``functools.cache``, so that equal arguments give the same function, and that is compiled once.
    """
    entry = _entries.get(function)
    if entry is None:  # only then wait: in a fork the lock may be held by a thread that is not there
        with global_compiler_lock:
            if function not in _entries:
                try:
                    _entries[function] = _entry(function, signature)
                except FormulaError as fault:
                    raise fault.with_traceback(None) from None  # without 150 lines of Numba's
            entry = _entries[function]
    return entry[0]


def _entry(function: Callable[..., Any], signature: Any) -> tuple[int, Any]:
    """The address of ``function``, and what has to live as long as somebody may call it."""
    if not COMPILED:
        _python_functions.append(function)
        return len(_python_functions), function
    compiled_function = CFunc(function, (signature.args, signature.return_type), {}, dict(FLAGS))
    compiled_function._cache = KernelCache(function, _told, linked=False)
    compiled_function.compile()
    return compiled_function.address, compiled_function


def at_address(ticket: int) -> Callable[..., Any]:
    """The Python function behind a ticket (only with the compiler disabled)."""
    return _python_functions[ticket - 1]
