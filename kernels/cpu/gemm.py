"""Matrix multiplication: C = S + A·B, in blocks that fit the caches, tile by tile.

The three products of a dense layer (XW + b, dY·Wᵀ, Xᵀ·dY) differ in the strides of A and B alone, so none
of them needs a transposed copy. It is compiled once for each type of numbers, to a C function that is
called by its address: compiled into each caller instead, it would cost each of them seconds.

A number of C has the same bits whatever rows and columns it is computed with: its products are summed in
the order of the depth, in blocks of ``DEPTH_BLOCK`` that do not depend on anything else.
"""

import functools

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from ..jit import COMPILED, FLAGS, address, at_address, formula
from ..memory import item_size, vector
from .tile import TILE_HEIGHT, TILE_VECTORS, copy_panel, multiply_tile, transpose_panel, vector_length

__all__ = ["multiply", "workspace"]

#: Products that are summed in registers before the sum goes to memory: a panel of B of this depth and two
#: vectors of width (96 KB with AVX-512) stays in the second-level cache while all tiles of a block pass.
DEPTH_BLOCK = 768

#: Rows of A that are multiplied by one packed block of B before the next: a multiple of the tiles' heights,
#: and with ``DEPTH_BLOCK`` 184 KB of float32, a part of the second-level cache.
ROW_BLOCK = 60

#: Columns of a packed block of B: with ``DEPTH_BLOCK`` 3 MB of float32, a part of the last-level cache.
COLUMN_BLOCK = 1024

#: Bytes of B up to which it is read where it lies: about a second-level cache.
CACHE_BYTES = 1 << 20

#: Rows of C below which packing B costs more than it gains.
FEW_ROWS = 48

#: Columns of A from which its rows, read across (Xᵀ), would evict one another from the first-level cache.
LONG_ROWS = 256

#: Room behind the blocks, in numbers: a packed block is filled up to whole vectors.
_SLACK = 64

_PACKED_B = (DEPTH_BLOCK + _SLACK) * (COLUMN_BLOCK + _SLACK)
_PACKED_A = DEPTH_BLOCK * (ROW_BLOCK + _SLACK)

#: Bytes of a worker's workspace before its room for packing: a cache line that begins with the address of
#: the compiled multiplication.
_HEAD = 64

#: A part of the multiplication: put in its place before it is compiled. As functions of their own, each with the
#: tiles inside, the parts would take three times as long to compile.
_part = njit(inline="always", **FLAGS)

_ARGUMENTS = 14
_SIGNATURE = types.intp(*[types.intp] * _ARGUMENTS)


def workspace(real, workers: int = 1) -> np.ndarray:
    """What ``workers`` workers need to multiply numbers of type ``real``: an array, a part for each.

    A part begins with the address of the multiplication, compiled for this type; then comes room for
    packing. It is memory that the system provides when it is first touched: small products use none.
    """
    part = _HEAD + np.dtype(real).itemsize * (_PACKED_A + _PACKED_B)
    part += -part % 64
    memory = np.zeros(workers * part // 8 + 8, np.int64)
    start = -memory.ctypes.data % 64 // 8
    parts = memory[start : start + workers * part // 8].reshape(workers, -1)
    parts[:, 0] = address(_multiplication(real), _SIGNATURE)
    return parts.reshape(-1)


@functools.cache
def _multiplication(real):
    """The multiplication for one type of numbers; arguments as those of ``multiply``."""
    if not COMPILED:
        return functools.partial(_plain_multiplication, real)

    def multiplication(room, c, c_row, a, a_row, a_column, b, b_row, b_column, start, start_row, rows, columns, depth):
        size = item_size(real)
        across = a_row == 1 and a_column >= LONG_ROWS
        if b_column == 1 and not across and (rows < FEW_ROWS or depth * columns * size <= CACHE_BYTES):
            _multiply_in_place(c, c_row, a, a_row, a_column, b, b_row, start, start_row, rows, columns, depth, real)
        else:
            _multiply_packed(
                room + _HEAD, across, c, c_row, a, a_row, a_column, b, b_row, b_column, start, start_row, rows, columns,
                depth, real,
            )  # fmt: skip
        return 1

    return multiplication


@_part
def _multiply_in_place(c, c_row, a, a_row, a_column, b, b_row, start, start_row, rows, columns, depth, real):
    """Multiply with A and B where they lie."""
    size = item_size(real)
    panel = TILE_VECTORS * vector_length(real) * size
    for k in range(0, depth, DEPTH_BLOCK):
        deep = min(DEPTH_BLOCK, depth - k)
        _multiply_block(
            c, c_row, a + size * k * a_column, a_row, a_column, b + size * k * b_row, b_row, panel, start, start_row,
            rows, columns, deep, real,
        )  # fmt: skip
        start, start_row = c, c_row


@_part
def _multiply_packed(
    room, across, c, c_row, a, a_row, a_column, b, b_row, b_column, start, start_row, rows, columns, depth, real
):  # fmt: skip
    """Multiply with B, and A where it is read across, copied block by block to where they lie close together."""
    size, width = item_size(real), TILE_VECTORS * vector_length(real)
    packed_b, packed_a = room, room + size * _PACKED_B
    for j in range(0, columns, COLUMN_BLOCK):
        wide = min(COLUMN_BLOCK, columns - j)
        block_start, block_start_row = start + size * j if start != 0 else 0, start_row
        for k in range(0, depth, DEPTH_BLOCK):
            deep = min(DEPTH_BLOCK, depth - k)
            panel = _pack_b(packed_b, b + size * (k * b_row + j * b_column), b_row, b_column, deep, wide, real)
            for i in range(0, rows, ROW_BLOCK):
                high = min(ROW_BLOCK, rows - i)
                a_block, a_block_column = a + size * (i * a_row + k * a_column), a_column
                if across:
                    a_block_column = (ROW_BLOCK + width - 1) // width * width
                    for part in range(0, high, width):
                        copy_panel(
                            packed_a + size * part, a_block_column, a_block + size * part, a_column, deep,
                            min(width, high - part), real,
                        )  # fmt: skip
                    a_block = packed_a
                _multiply_block(
                    c + size * (i * c_row + j), c_row, a_block, a_row, a_block_column, packed_b, width, panel,
                    block_start + size * i * block_start_row if block_start != 0 else 0, block_start_row,
                    high, wide, deep, real,
                )  # fmt: skip
            block_start, block_start_row = c + size * j, c_row


@_part
def _pack_b(packed, b, b_row, b_column, deep, wide, real):
    """Copy a block of B panel by panel, each as wide as a tile; returns the bytes of a panel."""
    size, length = item_size(real), vector_length(real)
    width = TILE_VECTORS * length
    panel = size * width * ((deep + length - 1) // length * length)
    for j in range(0, wide, width):
        to = packed + j // width * panel
        if b_column == 1:
            copy_panel(to, width, b + size * j, b_row, deep, min(width, wide - j), real)
        else:
            for part in range(0, min(width, wide - j), length):
                source = b + size * (j + part) * b_column
                transpose_panel(to + size * part, width, source, b_column, deep, min(length, wide - j - part), real)
    return panel


@_part
def _multiply_block(
    c, c_row, a, a_row, a_column, b, b_row, panel, start, start_row, rows, columns, depth, real
):  # fmt: skip
    """Multiply tile by tile; panels of B, each as wide as a tile, begin ``panel`` bytes apart."""
    size = item_size(real)
    width = TILE_VECTORS * vector_length(real)
    for j in range(0, columns, width):
        b_panel = b + j // width * panel
        for i in range(0, rows, TILE_HEIGHT):
            tile_start = start + size * (i * start_row + j) if start != 0 else 0
            multiply_tile(
                min(TILE_HEIGHT, rows - i), min(width, columns - j), depth, c + size * (i * c_row + j), c_row,
                a + size * i * a_row, a_row, a_column, b_panel, b_row, tile_start, start_row, real,
            )  # fmt: skip


def _plain_multiplication(
    real, room, c, c_row, a, a_row, a_column, b, b_row, b_column, start, start_row, rows, columns, depth
):  # fmt: skip
    """The same in NumPy, for reading and for ``NUMBA_DISABLE_JIT=1``."""

    def view(at, row, column, shape):
        span = 1 + row * (shape[0] - 1) + column * (shape[1] - 1)
        strides = np.array([row, column]) * np.dtype(real).itemsize
        return np.lib.stride_tricks.as_strided(vector(at, span, real), shape, strides)

    with np.errstate(all="ignore"):  # compiled code does not warn, and infinity times anything may
        a_view, b_view = view(a, a_row, a_column, (rows, depth)), view(b, b_row, b_column, (depth, columns))
        product = np.zeros((rows, columns), real)
        for k in range(depth):  # not ``@``, whose bits depend on how many rows there are
            product += a_view[:, k, None] * b_view[k]
        if start != 0:
            product += view(start, start_row, 1, (rows, columns))
    view(c, c_row, 1, (rows, columns))[...] = product
    return 1


if COMPILED:

    @intrinsic
    def _call(
        typing_context, function, room, c, c_row, a, a_row, a_column, b, b_row, b_column, start, start_row, rows,
        columns, depth,
    ):  # fmt: skip
        """Call the multiplication at the address ``function``."""

        def generate(context, builder, signature, arguments):
            integer = ir.IntType(64)
            pointer = ir.FunctionType(integer, [integer] * _ARGUMENTS).as_pointer()
            return builder.call(builder.inttoptr(arguments[0], pointer), arguments[1:])

        return types.intp(*[types.intp] * (_ARGUMENTS + 1)), generate

else:

    def _call(function, *arguments):
        return at_address(int(function))(*arguments)


@formula
def multiply(room, c, c_row, a, a_row, a_column, b, b_row, b_column, start, start_row, rows, columns, depth):
    """C = S + A·B, with C (rows, columns), A (rows, depth), B (depth, columns).

    room : address of a worker's part of a ``workspace``; c, a, b, start : addresses; strides count numbers.
    The rows of C and S have unit stride, and so have the rows or the columns of B. S may be C, or a single
    row with ``start_row`` 0; 0 : zeros. The depth is at least 1.
    """
    if rows > 0 and columns > 0:
        function = vector(room, 1, np.int64)[0]
        _call(
            function, room, c, c_row, a, a_row, a_column, b, b_row, b_column, start, start_row, rows, columns, depth
        )  # fmt: skip
