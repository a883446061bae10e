"""How fastnn compiles: the flags, and one decorator for each kind of function.

``formula``   a scalar function, written once for both devices and inlined into loops;
``kernel``    a loop over arrays, called from Python or from another kernel;
``address``   the C entry point of a function that the engine calls through a plan.

With ``NUMBA_DISABLE_JIT=1`` all three stay plain Python, so a debugger can step through them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from numba import config, njit, types
from numba.core.ccallback import CFunc

__all__ = ["COMPILED", "FLAGS", "address", "at_address", "formula", "kernel"]

#: Whether functions are compiled at all (``NUMBA_DISABLE_JIT`` unset).
COMPILED = not config.DISABLE_JIT

#: ``contract`` allows fused multiply-add, ``nsz`` ignores the sign of zero. Flags that reorder
#: (``reassoc``) or approximate (``arcp``, ``afn``) would make a result depend on where a slice starts;
#: ``nnan`` would delete the NaN checks.
FLAGS: dict[str, Any] = {"fastmath": {"contract", "nsz"}, "error_model": "numpy"}

#: Every function that a plan calls by address: ``status = function(run, row, first, last)``.
PLAN_SIGNATURE = types.intp(types.intp, types.intp, types.intp, types.intp)

formula = njit(forceinline=True, **FLAGS)


#: Called with a function's name before it is compiled, if somebody wants to know.
on_compile: Callable[[str], None] | None = None


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a loop over arrays; it releases the global interpreter lock while it runs."""
    return njit(nogil=True, **FLAGS)(function)


_lock = threading.RLock()
_entries: dict[Callable[..., Any], tuple[int, Any]] = {}
_python_functions: list[Callable[..., Any]] = []


def address(function: Callable[..., Any], signature: Any = PLAN_SIGNATURE) -> int:
    """Compile ``function`` to a C function (once) and return its address.

    The address is valid in this process alone and for as long as it lives: never store it.
    With the compiler disabled it is a ticket for ``at_address``.
    """
    with _lock:
        if function not in _entries:
            if COMPILED:
                compiled = CFunc(function, signature.args and (signature.args, signature.return_type), {}, dict(FLAGS))
                compiled.compile()
                _entries[function] = compiled.address, compiled
            else:
                _python_functions.append(function)
                _entries[function] = len(_python_functions), function
        return _entries[function][0]


def at_address(ticket: int) -> Callable[..., Any]:
    """The Python function behind a ticket (only with the compiler disabled)."""
    return _python_functions[ticket - 1]
