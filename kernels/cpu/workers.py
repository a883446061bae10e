"""How the workers of one engine call wait for each other.

A worker is a Python thread inside compiled code that has released the global interpreter lock. The
``sync`` memory holds one cache line for all (the abort flag) and one for each worker: the number of the
last barrier that it reached, and its status. A worker that waits spins, then offers its core to others,
and always watches the abort flag, so that nobody waits for a worker that will never come.
"""

import contextlib
import ctypes
import os
import time

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .. import target
from ..jit import COMPILED, formula
from ..layout import ABORTED, OK
from ..memory import CACHE_LINE, aligned_zeros, vector

#: Spins before a waiting worker offers its core to others: ten to some tens of microseconds, as long as workers of a
#: medium network wait for one another; longer, the other one has no core, or much more to do.
SPINS = 1000

#: The number of a barrier that no call reaches.
NO_MORE = 1 << 62


def new_sync(size: int) -> np.ndarray:
    """Zeroed synchronization memory for ``size`` workers, aligned to a cache line."""
    return aligned_zeros((size + 1) * CACHE_LINE // 8, np.int64)


def abort(sync: np.ndarray) -> None:
    """Tell every worker to leave at its next barrier."""
    sync[0] = 1


try:
    _core_of_this_thread = ctypes.CDLL(None).sched_getcpu if hasattr(os, "sched_setaffinity") else None
except (AttributeError, OSError):  # a C library without it
    _core_of_this_thread = None


def take_core(taken: set[int]) -> None:
    """Add the core of the calling thread to ``taken``; if it is there already, move to another one first.

    Linux often starts a thread on the core of the thread that waits for it to start, and moves it after some
    milliseconds: until then two workers take turns on one core while another is idle. Afterwards the thread may run
    on any core as before. Does nothing on other systems.
    """
    if _core_of_this_thread is None:
        return
    core = _core_of_this_thread()
    if core in taken and (allowed := os.sched_getaffinity(0)) - taken:
        with contextlib.suppress(OSError):  # where it is forbidden
            try:
                os.sched_setaffinity(0, allowed - taken)
                core = _core_of_this_thread()
            finally:
                os.sched_setaffinity(0, allowed)
    taken.add(core)


if COMPILED:
    _WORD = ir.IntType(64)

    @intrinsic
    def load_acquire(typing_context, address):
        """Read a 64-bit integer; what its writer wrote before it is visible afterwards."""

        def generate(context, builder, signature, arguments):
            pointer = builder.inttoptr(arguments[0], _WORD.as_pointer())
            return builder.load_atomic(pointer, "acquire", 8)

        return types.int64(types.intp), generate

    @intrinsic
    def store_release(typing_context, address, value):
        """Write a 64-bit integer after all that this worker wrote before."""

        def generate(context, builder, signature, arguments):
            pointer = builder.inttoptr(arguments[0], _WORD.as_pointer())
            builder.store_atomic(arguments[1], pointer, "release", 8)
            return context.get_dummy_value()

        return types.void(types.intp, types.int64), generate

    @intrinsic
    def pause(typing_context):
        """Tell the processor that this is a spin loop, where it wants to know."""

        def generate(context, builder, signature, arguments):
            if target.ARM64:
                hint = ir.FunctionType(ir.VoidType(), [ir.IntType(32)])
                builder.call(builder.module.declare_intrinsic("llvm.aarch64.hint", (), hint), [ir.IntType(32)(1)])
            elif target.X86:
                hint = ir.FunctionType(ir.VoidType(), [])
                builder.call(builder.module.declare_intrinsic("llvm.x86.sse2.pause", (), hint), [])
            return context.get_dummy_value()

        return types.void(), generate

    offer_core = types.ExternalFunction("SwitchToThread" if os.name == "nt" else "sched_yield", types.int32())

else:

    def load_acquire(address):
        return vector(address, 1, np.int64)[0]

    def store_release(address, value):
        vector(address, 1, np.int64)[0] = value

    def pause():
        time.sleep(0)  # let another thread have the interpreter

    offer_core = pause


@formula
def spin(spins):
    """A round of waiting, after so many: a pause, or the core offered to others. Returns how many they are now."""
    if spins < SPINS:
        pause()
    else:
        offer_core()
    return spins + 1


@formula
def barrier(sync, rank, size, number, status):
    """Wait until all workers have reached barrier ``number`` (1, 2, ...) and return their common status.

    sync : address; status : this worker's. Returns OK when all are, else the status of the first worker
    that is not, or ABORTED. All workers that were not aborted return the same. Where that is not OK they need not meet
    again; those that do, with this status, are kept waiting by nobody. (Then the number of theirs that others see falls
    from NO_MORE to that of the barrier, which nobody is beyond.) A status has two places, for odd and even barriers,
    because a fast worker may reach the next barrier while a slow one reads.
    """
    if size == 1:
        return status
    own = sync + CACHE_LINE * (rank + 1)
    place = 8 * (1 + number % 2)
    store_release(own + place, status)
    store_release(own, number)
    common = OK
    for other in range(size):
        line = sync + CACHE_LINE * (other + 1)
        spins = 0
        while load_acquire(line) < number:
            if load_acquire(sync) != 0:
                return ABORTED
            spins = spin(spins)
        theirs = load_acquire(line + place)
        if common == OK:
            common = theirs
    if common != OK:  # this worker leaves, and is there, with this status, at all barriers to come
        store_release(own + 8, common)
        store_release(own + 16, common)
        store_release(own, NO_MORE)
    return common
