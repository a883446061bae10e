"""Where and how kernels are launched: streams, sizes of blocks, and numbers that a captured graph may change.

In Numba's simulator (``NUMBA_ENABLE_CUDASIM=1``), where every thread is one of Python's, blocks are small.
"""

import functools
import numbers
import threading
from typing import Any

import numpy as np
from numba import cuda
from numba.cuda.core import config

from ..layout import OK

__all__ = [
    "FOUND",
    "GATE",
    "LOCK",
    "SIMULATED",
    "THREADS",
    "Stream",
    "ceiling",
    "close_gate",
    "device",
    "element",
    "elements_of",
    "kernel",
    "launch",
    "lines_of",
    "on_device",
    "room",
]

#: Whether kernels run in the simulator.
SIMULATED = bool(config.ENABLE_CUDASIM)

#: Threads of a block, where nothing else is said: a power of two.
THREADS = 4 if SIMULATED else 256

#: Blocks of a grid in its second direction, at most; further ones lie in the third.
MOST_BLOCKS_DOWN = 3 if SIMULATED else 65535

#: Alignment of shared and local arrays in bytes, so that four numbers are loaded at once.
ALIGNMENT = None if SIMULATED else 16

#: How Numba compiles what kernels call.
DEVICE_OPTIONS: dict[str, Any] = {} if SIMULATED else {"forceinline": True}

#: Held during a launch: numba-cuda fails where two threads load a kernel at once.
LOCK = threading.RLock()

#: Places of a stream's status: whether updates may run, and what kernels found.
GATE, FOUND = 0, 1


def kernel(function=None, *, threads=None):
    """Compile a kernel: what the GPU runs in many threads, launched by ``launch``; it is kept on disk.

    threads : of a block, for a large kernel that is to have all the registers that such blocks can have.
    """
    if function is None:
        return functools.partial(kernel, threads=threads)
    options = {} if SIMULATED or threads is None else {"launch_bounds": (threads, 1)}
    dispatcher = cuda.jit(**options)(function)
    if not SIMULATED:
        from .cache import DeviceCache  # which the simulator has no parts for

        dispatcher._cache = DeviceCache(function, options)
    return dispatcher


def device(function):
    """Compile a function that kernels call; it is always inlined."""
    return cuda.jit(device=True, **DEVICE_OPTIONS)(function)


@device
def element():
    """(row, column) of this thread in a grid of ``elements_of``, perhaps beyond the edges."""
    return cuda.blockIdx.y + cuda.gridDim.y * cuda.blockIdx.z, cuda.grid(1)


class Stream:
    """Where kernels run, and what they need there besides their arguments.

    handle : a stream as numba-cuda takes it: 0, the default one, one of ``cuda.stream()``, or one of ``cuda.core``;
    status : (2,) int64 on the device, see ``GATE`` and ``FOUND``; precision : of the matrix products of float32 arrays,
    "float32" or one of ``tensor_cores.PRECISIONS``; captures : whether launches become a graph.
    """

    def __init__(self, handle: Any = 0, precision: str = "float32"):
        self.handle, self.precision = handle, precision
        self.status = cuda.to_device(np.full(2, OK, np.int64))
        # A stream of ``cuda.core`` would not wait for the default one; and the driver refuses to wait for the whole GPU
        # while another thread captures a graph.
        cuda.default_stream().synchronize()
        self.rooms: dict[Any, Any] = {}
        self.captures = False

    def capturing(self, handle: Any) -> "Stream":
        """The same with the handle of a stream whose launches become a graph."""
        other = Stream.__new__(Stream)
        other.handle, other.precision, other.status, other.rooms = handle, self.precision, self.status, self.rooms
        other.captures = True
        return other


def room(stream, length, real):
    """A flat device array for sums that a kernel hands to the next one: at least ``length`` numbers.

    It is made when a size is first asked for and kept as long as the stream, because captured graphs know its address:
    so a step runs once before it is captured.
    """
    length = 1 << max(10, int(length - 1).bit_length())
    key = length, np.dtype(real)
    if key not in stream.rooms:
        stream.rooms[key] = cuda.device_array(length, real)
    return stream.rooms[key]


def on_device(value, real, stream):
    """``value`` if it is a device array, else a new one with that number."""
    if isinstance(value, (numbers.Real, np.generic)):
        if stream.captures:  # the graph would read from memory that is gone
            raise TypeError(f"a graph cannot repeat the number {value}; expected a device array of one element")
        return cuda.to_device(np.array([value], real), stream=stream.handle)
    return value


def ceiling(length, size):
    """The number of pieces of at most ``size`` in ``length``."""
    return -(-length // size)


def launch(kernel, blocks, threads, stream, *arguments, shared=0):
    """Run a kernel in ``blocks`` (a number, or up to three) of ``threads``; nothing where there is no block.

    shared : bytes of dynamic shared memory.
    """
    if np.prod(blocks) == 0:
        return
    with LOCK:
        # Numba warns of a small grid, which a small network has.
        warns, config.CUDA_LOW_OCCUPANCY_WARNINGS = config.CUDA_LOW_OCCUPANCY_WARNINGS, 0
        try:
            configured = kernel[blocks, threads, stream.handle, shared]
        finally:
            config.CUDA_LOW_OCCUPANCY_WARNINGS = warns
        configured(*arguments)


def elements_of(array):
    """The grid of a kernel with a thread for each number of a matrix, which ``element`` finds there."""
    rows, columns = array.shape
    return ceiling(columns, THREADS), min(rows, MOST_BLOCKS_DOWN), ceiling(rows, MOST_BLOCKS_DOWN)


def lines_of(*arrays):
    """The matrices as they are, or each as one long row where the rows of all lie side by side."""
    if all(array.is_c_contiguous() for array in arrays):
        return tuple(array.reshape(1, array.size) for array in arrays)
    return arrays


@kernel
def _close_gate(status):
    status[GATE] = status[FOUND]


def close_gate(stream):
    """status[GATE] = status[FOUND]: after anything that was not finite, updates do nothing."""
    launch(_close_gate, 1, 1, stream, stream.status)
