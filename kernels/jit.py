"""How fastnn compiles: the flags, and one decorator for each kind of function.

``formula``   a scalar function, written once for both devices and inlined into loops;
``kernel``    a loop over arrays, called from Python or from another kernel;
``address``   the C entry point of a function that the engine calls through a plan.

Kernels and C functions are kept on disk (``cache.py``); formulas, and kernels that others call, are part of what calls
them. With ``NUMBA_DISABLE_JIT=1`` all three stay plain Python, so a debugger can step through them.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import numpy as np
from numba import config, njit, types
from numba.core.ccallback import CFunc
from numba.core.compiler import Compiler
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import CPUDispatcher

from .cache import KernelCache
from .compiler import FormulaCompiler, KernelCompiler

#: Whether functions are compiled at all (``NUMBA_DISABLE_JIT`` unset).
COMPILED = not config.DISABLE_JIT

#: No fast-math flag at all. ``contract`` lets the compiler choose where to fuse a multiplication and an addition, and
#: it chooses otherwise in each function that a formula is inlined into: the engine and the flat kernels would differ
#: in the last bit, and so would a process that compiles and one that loads from the disk. ``reassoc``, ``arcp``
#: and ``afn`` reorder or approximate; ``nnan`` would delete the NaN checks; ``nsz`` lets the sign of a zero depend on
#: the context. What must be fused says so (``contracted`` formulas, ``vectors.multiply_add``).
FLAGS: dict[str, Any] = {"error_model": "numpy"}

#: Every function that a plan calls by address: ``status = function(run, row, first, last)``.
PLAN_SIGNATURE = types.intp(types.intp, types.intp, types.intp, types.intp)

_C_FUNCTION = ctypes.CFUNCTYPE(ctypes.c_ssize_t, *[ctypes.c_ssize_t] * 4)

#: Called with a function's name before it is compiled, if somebody wants to know; its exceptions are ignored.
on_compile: Callable[[str], None] | None = None

#: Names of the kernels and C functions that were compiled for this process, and that it loaded from the disk.
compiled: list[str] = []
loaded: list[str] = []


class Formula(CPUDispatcher):
    """A function that is compiled into its callers; called from Python it runs as plain Python."""

    def __init__(self, function: Callable[..., Any], compiler: type[Compiler] = FormulaCompiler, **flags: Any):
        entries = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
        options = {"nopython": True, "forceinline": True, **entries, **FLAGS, **flags}
        super().__init__(function, targetoptions=options, pipeline_class=compiler)

    def __call__(self, *arguments: Any) -> Any:
        return self.py_func(*arguments)

    def get_call_template(self, arguments: Any, keywords: Any) -> Any:
        # Else it would be compiled anew for each constant that somebody calls it with.
        return super().get_call_template(tuple(map(types.unliteral, arguments)), keywords)


class Kernel(CPUDispatcher):
    """A function that is called from Python; where others call it, its formula is compiled into them."""

    def __init__(self, function: Callable[..., Any]):
        options = {"nopython": True, "nogil": True, "no_cfunc_wrapper": True, **FLAGS}
        super().__init__(function, targetoptions=options, pipeline_class=KernelCompiler)
        self._cache = KernelCache(function, _told)
        self.formula = Formula(function)

    def compile(self, signature: Any) -> Any:
        with collector_paused():
            return undisturbed(functools.partial(super().compile, signature))

    def get_call_template(self, arguments: Any, keywords: Any) -> Any:
        return self.formula.get_call_template(arguments, keywords)

    def get_overload(self, signature: Any) -> Any:
        return self.formula.get_overload(signature)


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """Without the garbage collector: it takes a tenth of the time, and the compiler keeps what it makes."""
    paused = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if paused:
            # All that is there becomes old, else it would be looked through at once. But not where somebody froze
            # something (or Python 3.12, which begins so): that would be undone.
            if gc.get_freeze_count() == 0:
                gc.freeze()
                gc.unfreeze()
            gc.enable()


def undisturbed(work: Callable[[], Any]) -> Any:
    """What ``work()`` returns, which is done by a thread of its own where this is the main one.

    Signal handlers, that of Ctrl-C among them, run in the main thread. An error that one raises in the middle of
    Numba's compiler would leave it broken for the rest of the process. So the main thread only waits: it can be called
    away, and the other goes on to its end.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or global_compiler_lock.is_locked() or importing():  # another thread would wait for this one's locks
        return work()
    outcome: Future[Any] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as fault:
            outcome.set_exception(fault)

    try:
        threading.Thread(target=run, name="fastnn compiles").start()
    except RuntimeError:  # no more threads to be had
        return work()
    return outcome.result()


def importing() -> bool:
    """Whether this thread is importing a module, which others wait for if they need it, as Numba does."""
    frame: Any = sys._getframe()
    while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None


if hasattr(os, "register_at_fork"):  # in a child the thread that compiles is not there, and its lock would stay
    release = global_compiler_lock.release
    os.register_at_fork(before=global_compiler_lock.acquire, after_in_parent=release, after_in_child=release)


class FormulaError(TypeError):
    """A user's function cannot be compiled."""


def formula(function: Callable[..., Any]) -> Any:
    """Compile a scalar function into the kernels that call it.

    It is always inlined: a loop around a call does not vectorize, and LLVM leaves long formulas as calls.
    """
    return Formula(function) if COMPILED else function


#: A part of a kernel: put in its place before it is compiled. As functions of their own, each with a multiplication's
#: tiles inside, the parts would take three times as long to compile.
inlined = njit(inline="always", **FLAGS)


def interleaved(function: Callable[..., Any]) -> Callable[..., Any]:
    """A kernel whose loops take several vectors at a time, step by step, if they use vectors.

    In a long formula each instruction waits for the one before; the processor looks only so far ahead for others.
    """
    function.interleaved = True  # type: ignore[attr-defined]
    return function


def contracted(function: Callable[..., Any]) -> Any:
    """A formula of one multiplication and one addition, which are to be rounded together where the processor can."""
    return Formula(function, fastmath={"contract"}) if COMPILED else function


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a loop over arrays; called from Python it releases the global interpreter lock while it runs."""
    return Kernel(function) if COMPILED else function


def _told(event: str, name: str) -> None:
    """Count what the cache tells, and pass on that a function has to be compiled."""
    (loaded if event == "loaded" else compiled).append(name)
    if event == "missed" and on_compile is not None:
        try:
            on_compile(name)
        except Exception:  # whoever is told has no say in whether the function gets compiled
            pass


_entries: dict[Callable[..., Any], tuple[int, Any]] = {}
_seen_on_disk: set[Callable[..., Any]] = set()
_python_functions: list[Callable[..., Any]] = []


def address(function: Callable[..., Any]) -> int:
    """Compile ``function`` to a C function (once) and return its address.

    Its ``signature`` is ``PLAN_SIGNATURE``, unless it has one of its own.

    The address is valid in this process and its forks, for as long as they live: never store it. With the
    compiler disabled it is a ticket for ``at_address``. A factory of such functions is decorated with
    ``functools.cache``, so that equal arguments give the same function, and that is compiled once.
    """
    entry = _entries.get(function)
    if entry is None:  # only then wait: in a fork the lock may be held by a thread that is not there
        try:
            entry = undisturbed(functools.partial(_entry_once, function))
        except FormulaError as fault:
            raise fault.with_traceback(None) from None  # without 150 lines of Numba's
    return entry[0]


def _entry_once(function: Callable[..., Any]) -> tuple[int, Any]:
    """The entry of ``function``, made if nobody has done so."""
    with global_compiler_lock:
        if function not in _entries:
            _entries[function] = _entry(function)
        return _entries[function]


@functools.cache
def c_function(function: Callable[..., Any]) -> Callable[..., int]:
    """``function``, of ``PLAN_SIGNATURE``, for a call from Python, which releases the global interpreter lock.

    In plain Python as in compiled code, nothing warns of numbers that are not finite: a status tells.
    """
    return _C_FUNCTION(address(function)) if COMPILED else np.errstate(all="ignore")(function)


def _signature(function: Callable[..., Any]) -> Any:
    return getattr(function, "signature", PLAN_SIGNATURE)


def _entry(function: Callable[..., Any]) -> tuple[int, Any]:
    """The address of ``function``, and what has to live as long as somebody may call it."""
    if not COMPILED:
        _python_functions.append(function)
        return len(_python_functions), function
    signature = _signature(function)
    compiled_function = CFunc(
        function, (signature.args, signature.return_type), {}, dict(FLAGS), pipeline_class=KernelCompiler
    )
    compiled_function._cache = KernelCache(function, _told)
    with collector_paused():
        compiled_function.compile()
    return compiled_function.address, compiled_function


def compile_now(function: Any) -> None:
    """Compile a kernel, for its ``signature``, or a function for ``address``, or load it from the disk."""
    if isinstance(function, Kernel):
        function.compile(function.signature)
    else:
        address(function)


def on_disk(function: Any) -> bool:
    """Whether what ``compile_now`` makes is there already: in this process, or on the disk."""
    if function in _entries or function in _seen_on_disk:
        return True
    if isinstance(function, Kernel):
        found = function.signature in function.overloads or function._cache.has(function.signature)
    else:
        found = KernelCache(function, _told).has(_signature(function))
    if found:  # a look at the disk takes a tenth of a millisecond, and a model asks for some functions
        _seen_on_disk.add(function)
    return bool(found)


def at_address(ticket: int) -> Callable[..., Any]:
    """The Python function behind a ticket (only with the compiler disabled)."""
    return _python_functions[ticket - 1]
