"""From addresses to arrays and back: what compiled code needs to work on a plan.

A plan is numbers, so the engine and the functions it calls know arrays by address alone. Each helper
has a plain Python twin (same name, ctypes and NumPy) for ``NUMBA_DISABLE_JIT=1``.
"""

import ctypes

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.cgutils import alloca_once, get_or_insert_function
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from .conventions import CACHE_LINE
from .jit import COMPILED, PLAN_SIGNATURE, at_address, formula


def place_of(array: np.ndarray) -> int:
    """``array.ctypes.data`` of an array of our own, C-contiguous, that can be written to, in a third of the time."""
    return ctypes.addressof(ctypes.c_char.from_buffer(array))


def aligned_zeros(length: int, real) -> np.ndarray:
    """A zeroed flat array of ``length`` numbers of type ``real`` that begins at a cache line."""
    size = length * np.dtype(real).itemsize
    memory = np.zeros(size + CACHE_LINE, np.uint8)
    start = -place_of(memory) % CACHE_LINE
    return memory[start : start + size].view(real)


def _array_at(context, builder, array_type, address, shape):
    """A C-contiguous array of ``shape`` over the memory at ``address``, a number; it owns nothing."""
    pointer = builder.inttoptr(address, context.get_data_type(array_type.dtype).as_pointer())
    return _array_of(context, builder, array_type, pointer, shape)


def _array_of(context, builder, array_type, pointer, shape):
    """The same, over the memory that a pointer shows."""
    size = context.get_constant(types.intp, array_type.dtype.bitwidth // 8)
    strides = [size]
    for length in reversed(shape[1:]):
        strides.insert(0, builder.mul(strides[0], length))
    array = context.make_array(array_type)(context, builder)
    populate_array(array, data=pointer, shape=shape, strides=strides, itemsize=size, meminfo=None)
    return array._getvalue()


def prefetch(builder, pointer, level=3, writes=False):
    """Emit a request for the cache line at a pointer, which will be read soon, and perhaps written; level : 3 for all
    caches, 2 for all but the first.
    """
    byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
    function = get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    reads_or_writes, data = number(int(writes)), number(1)
    builder.call(function, [builder.bitcast(pointer, byte), reads_or_writes, number(level), data])


if COMPILED:

    @intrinsic
    def item_size(typing_context, real):
        """Bytes of one number of type ``real``."""

        def generate(context, builder, signature, arguments):
            return context.get_constant(types.intp, real.dtype.bitwidth // 8)

        return types.intp(real), generate

    @intrinsic
    def vector(typing_context, address, length, real):
        """The array of shape ``(length,)`` and type ``real`` at ``address``."""

        def generate(context, builder, signature, arguments):
            return _array_at(context, builder, signature.return_type, arguments[0], [arguments[1]])

        return types.Array(real.dtype, 1, "C")(types.intp, types.intp, real), generate

    @intrinsic(prefer_literal=True)
    def stack_vector(typing_context, length, real):
        """An array of ``length`` numbers, a constant, of type ``real`` on the stack, with whatever stood there."""

        def generate(context, builder, signature, arguments):
            number = context.get_data_type(real.dtype)
            memory = alloca_once(builder, ir.ArrayType(number, length.literal_value))
            pointer = builder.bitcast(memory, number.as_pointer())
            shape = [context.get_constant(types.intp, length.literal_value)]
            return _array_of(context, builder, signature.return_type, pointer, shape)

        return types.Array(real.dtype, 1, "C")(length, real), generate

    @intrinsic
    def matrix(typing_context, address, rows, columns, real):
        """The array of shape ``(rows, columns)``, row after row, and type ``real`` at ``address``."""

        def generate(context, builder, signature, arguments):
            return _array_at(context, builder, signature.return_type, arguments[0], list(arguments[1:3]))

        return types.Array(real.dtype, 2, "C")(types.intp, types.intp, types.intp, real), generate

    @intrinsic
    def call(typing_context, function, run, row, first, last):
        """``status = function(run, row, first, last)`` through the address of a C function."""

        def generate(context, builder, signature, arguments):
            integer = ir.IntType(types.intp.bitwidth)
            pointer = ir.FunctionType(integer, [integer] * 4).as_pointer()
            return builder.call(builder.inttoptr(arguments[0], pointer), arguments[1:])

        return types.intp(types.intp, *PLAN_SIGNATURE.args), generate

    def _fetching(writes):
        """What emits a request for the cache line at an address."""

        def generate(context, builder, signature, arguments):
            prefetch(builder, builder.inttoptr(arguments[0], ir.IntType(8).as_pointer()), writes=writes)
            return context.get_dummy_value()

        return types.void(types.intp), generate

    @intrinsic
    def fetch(typing_context, address):
        """Ask for the cache line at ``address``, which will be read soon."""
        return _fetching(writes=False)

    @intrinsic
    def fetch_to_write(typing_context, address):
        """Ask for the cache line at ``address``, which will be written soon, for this core alone."""
        return _fetching(writes=True)

else:

    def item_size(real):
        return np.dtype(real).itemsize

    def vector(address, length, real):
        return matrix(address, 1, length, real)[0]

    def stack_vector(length, real):
        return np.empty(length, real)

    def matrix(address, rows, columns, real):
        if rows * columns == 0:
            return np.empty((rows, columns), real)
        buffer = (ctypes.c_byte * int(rows * columns * np.dtype(real).itemsize)).from_address(int(address))
        return np.frombuffer(buffer, real).reshape(rows, columns)

    def fetch(address):
        pass

    fetch_to_write = fetch

    def call(function, run, row, first, last):
        return at_address(int(function))(run, row, first, last)


@formula
def line(x, row, length):
    """``length`` numbers from the beginning of a row on, the following rows included: one long line keeps vectors full
    where rows are short.
    """
    return vector(x.ctypes.data + row * x.strides[0], length, x.dtype.type)
