"""What the tests of the three products of a dense layer share: the twins, their error, arrays with canaries."""

import ctypes
import functools
import mmap

import numpy as np
from numba import from_dtype, njit, types

from fastnn.kernels.cpu.gemm import multiply, workspace
from fastnn.kernels.jit import COMPILED, FLAGS, kernel

REALS = [np.float32, np.float64]

#: What surrounds an output: a number that no kernel writes by chance.
CANARY = 12345.5

#: Products that are summed before the sum is added to C; twice as many as the kernel may cost an addition each.
SHORTEST_BLOCK = 256


def integers(shape, real, seed=0):
    """Small whole numbers: their products and sums are exact in any order, so a result has one right answer."""
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(real)


def numbers(shape, real, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(real)


def product(a, b, start=0):
    """S + A·B in float64."""
    start, a, b = (np.asarray(array, np.float64) for array in (start, a, b))  # np.float64(array) may be a number
    return start + a @ b


def error_bound(a, b, start, real):
    """How far the kernel's S + A·B and the twin's may be apart (Higham 2002, section 3.1): both round
    every product and every sum, in any order."""
    depth = a.shape[1]
    roundings = depth + depth // SHORTEST_BLOCK + 2
    gamma = 0
    for kind in (real, np.float64):
        unit = np.finfo(kind).eps / 2
        gamma += roundings * unit / (1 - roundings * unit)
    return gamma * product(abs(a), abs(b), abs(start))


def assert_product(c, a, b, start=0):
    """C is S + A·B within the error bound."""
    assert (abs(c - product(a, b, start)) <= error_bound(a, b, start, c.dtype.type)).all()


def assert_same_bits(a, b):
    np.testing.assert_array_equal(np.ascontiguousarray(a).view(np.uint8), np.ascontiguousarray(b).view(np.uint8))


def padded(array, extra=0, canary=np.nan):
    """A copy of a vector or matrix inside of a larger one of canaries: (all of it, the copy).

    The copy begins at an odd place; ``extra`` makes its rows lie further apart.
    """
    shape = [length + 5 for length in array.shape]
    shape[-1] += extra
    whole = np.full(shape, canary, array.dtype)
    view = whole[tuple(slice(3, 3 + length) for length in array.shape)]
    view[...] = array
    return whole, view


def unwritten(shape, real, extra=0):
    """NaN for a kernel to overwrite, among other canaries: a stray product of the inputs' canaries is NaN, too."""
    return padded(np.full(shape, np.nan, real), extra, CANARY)


def assert_canaries(whole, view):
    """Nothing around the view was written. Erases the view."""
    view[...] = CANARY
    assert (whole == CANARY).all()


@functools.cache
def for_any_strides(function, real, outputs, *dimensions, numbers=2):
    """A kernel, compiled for arrays of any strides: otherwise each mix of contiguous ones costs a compilation.

    outputs : how many of the arrays are written; the others are read-only. numbers : that come after the workspace.
    """
    if not COMPILED:
        return function
    kind = from_dtype(np.dtype(real))
    arrays = [types.Array(kind, number, "A", readonly=place >= outputs) for place, number in enumerate(dimensions)]
    rest = [types.Array(types.int64, 1, "C"), *[types.intp] * numbers]
    return njit([types.void(*arrays, *rest)], nogil=True, **FLAGS)(function.py_func)


@kernel
def multiplied(c, a, b, start, workspace, start_kind, depth, rectified):
    """C = S + A·B. start_kind : 0 without S, 1 with a row of it, 2 with all of it."""
    size = c.itemsize
    multiply(
        workspace.ctypes.data, c.ctypes.data, c.strides[0] // size,
        a.ctypes.data, a.strides[0] // size, a.strides[1] // size,
        b.ctypes.data, b.strides[0] // size, b.strides[1] // size,
        start.ctypes.data if start_kind > 0 else 0, start.strides[0] // size if start_kind > 1 else 0,
        c.shape[0], c.shape[1], depth, rectified, 0,
    )  # fmt: skip


def run(c, a, b, start=None, rectified=0, room=None):
    """C = S + A·B as the multiplication forms it that the room has, a workspace for any numbers unless it is told."""
    real = c.dtype.type
    room = workspace(real) if room is None else room
    kind = 0 if start is None else 1 if start.shape[0] == 1 else 2
    function = for_any_strides(multiplied, real, 1, 2, 2, 2, 2, numbers=3)
    function(c, a, b, c if start is None else start, room, kind, a.shape[1], rectified)
    return c


def strided(shape, real, seed, turned, make=numbers):
    """A padded matrix; turned: its columns have unit stride."""
    array = make(shape, real, seed)
    return padded(array.T)[1].T if turned else padded(array)[1]


def guarded(array, at_end):
    """A copy of the array at the end or the beginning of memory whose neighbors may not be touched."""
    page = mmap.PAGESIZE
    length = -(-array.nbytes // page) * page
    memory = mmap.mmap(-1, length + 2 * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    for guard in (start, start + page + length):
        assert protect(ctypes.c_void_p(guard), ctypes.c_size_t(page), 0) == 0
    offset = page + (length - array.nbytes if at_end else 0)
    copy = np.frombuffer(memory, array.dtype, array.size, offset).reshape(array.shape)
    copy[...] = array
    return copy
