"""Products of float32 matrices on Intel's matrix unit (AMX), with the accuracy of float32.

The unit multiplies numbers with 8 significant bits (bfloat16) and adds up in float32. A float32 number has 24, and is
the sum of three such pieces: x = high + middle + low. Of the nine products of two of these sums the six largest are
formed; the others are below 2**-23 of the whole, about what float32 rounds away. Six products on the unit take half the
time of one in vector registers (AVX-512). And since the unit adds up 16 products before it adds them to a sum, the sums
are closer to the exact ones than if one product after the other were added in float32.

To split a matrix takes as long as to multiply it with some 30 rows. So large layers gain in training, with batches of
many rows (``of_pieces``); all else has vector registers alone (``gemm.py``). Where a user asks for less precision, a
number has two pieces, and the product of two sums three products, or one piece and one product.

What is smaller than float32's normal numbers counts as zero here, products of pieces too: sums below 1e-31 lose digits.
Numbers from 3.396e38 on round up to infinity, and what is infinite yields NaN.
"""

import functools

import numpy as np
from numba import types

from ..cores import cores
from ..jit import COMPILED, formula, inlined
from ..layout import even_share, halved_share
from ..memory import CACHE_LINE
from .amx import (
    TILE_BYTES,
    TILE_DEPTH,
    TILE_SIDE,
    available,
    configure,
    finish_block,
    multiply_block,
    release,
    split_line,
)
from .panels import transpose_panel
from .shares import by_columns

#: Inputs and units of a layer whose products gain from pieces. (Measured, as the next two. With more units there would
#: be no room for 16 rows of dW: ``layout.update_rows``.)
LEAST_SIDE, MOST_SIDE = 128, 4096

#: Rows of a batch for each core, at least, where each splits W for its own rows; else these rows for all, and so many
#: columns for each. And inputs for each core, where dW is formed of pieces: each splits dy for its own rows of dW.
LEAST_ROWS, LEAST_COLUMNS, LEAST_INPUTS = 64, 128, 96

#: Numbers of the depth that are split and multiplied before the next ones, at most: so the pieces of a block of rows,
#: and of a panel of columns, stay in the second-level cache.
DEPTH_BLOCK = 512

#: A multiple of which such blocks are, which need not be one of a tile's depth: workers who share them get equal ones.
EVEN_DEPTH = 8

#: Rows of dy, at most, that are kept in pieces, where they are the depth: with 1,024 units 6 MB, and a worker's room
#: does not grow with the batch.
KEPT_ROWS = 1024

#: Rows and columns of a block of C, and columns of B that are split together. (512 and 128 measured together, on
#: 1024-1024-1024-10 with 256 rows: 5 % faster than 1024 and 64.)
BLOCK, PANEL = 2 * TILE_SIDE, 8 * TILE_SIDE

#: ``b_row`` of a B that the room still has in pieces, from the multiplication before. (No other B has such a stride.)
IN_PIECES = 0

#: Bytes of the pieces of A: blocks of rows are as high as they allow. Half of the second-level cache of a processor
#: with a matrix unit, beside a panel of B and the next one.
_A_BYTES = 1 << 20

#: Where the parts of a worker's room begin, in bytes: a block of C, A in pieces, what is transposed, B in pieces.
_C = CACHE_LINE
_A = _C + 4 * BLOCK * BLOCK
_TRANSPOSED = _A + _A_BYTES
_B = _TRANSPOSED + _A_BYTES

#: The type of the numbers.
real = np.float32

#: Precision of the products -> pieces of a number: three have all of its 24 bits, two 16 (TF32 has 11), and one 8.
PIECES = {"float32": 3, "tf32": 2, "bf16": 1}

#: Of ``multiplication``.
SIGNATURE = types.intp(*[types.intp] * 15)


def of_pieces(inputs: int, units: int, rows: int, dtype, parts: bool) -> tuple[bool, bool]:
    """Whether a dense layer forms its products of pieces in training: those with W, and xᵀ·dy.

    rows : of a batch, or of each of its ``parts``, which one worker has. It depends on the plan, the batch and the
    machine alone, so the bits are the same for any number of workers.
    """
    if np.dtype(dtype) != real or min(inputs, units) < LEAST_SIDE or max(inputs, units) > MOST_SIDE:
        return False, False
    workers = 1 if parts else cores()
    shared = min(inputs, units) >= LEAST_COLUMNS * workers and all(
        by_columns(*sides, rows, workers) for sides in ((inputs, units), (units, inputs))
    )
    with_W = rows >= LEAST_ROWS * (1 if shared else workers)
    of_dW = LEAST_ROWS <= rows <= KEPT_ROWS and inputs >= LEAST_INPUTS * workers
    possible = (with_W or of_dW) and COMPILED and available()
    return with_W and possible, of_dW and possible


def room_bytes(rows: int, inputs: int, units: int, pieces: int) -> int:
    """Bytes of a worker's room for the products of a layer; rows : of dy that are kept in pieces."""
    deepest = min(DEPTH_BLOCK, max(inputs, units))
    strips = -(-units // TILE_SIDE) * _strip(pieces, min(rows, KEPT_ROWS)), PANEL // TILE_SIDE * _strip(pieces, deepest)
    return _B + max(strips)


@formula
def depth_of_blocks(depth, stays, forward):
    """Products that are summed up on the unit before the sum goes to memory.

    stays : whether B stays in the room; forward : as in ``gemm.depth_of_blocks``.
    """
    if forward:
        return halved_share(depth, DEPTH_BLOCK, EVEN_DEPTH)
    return even_share(depth, KEPT_ROWS if stays else DEPTH_BLOCK, TILE_DEPTH)


@formula
def _tiles(depth):
    """Tiles behind one another that a depth takes."""
    return (depth + TILE_DEPTH - 1) // TILE_DEPTH


@formula
def _strip(pieces, depth):
    """Bytes from the tiles of 16 rows of A or columns of B to the next ones: never a multiple of 4096, or tiles that
    are multiplied would evict one another from the first-level cache.
    """
    return _tiles(depth) * pieces * TILE_BYTES + CACHE_LINE


@inlined
def _split_rows(pieces, to, a, a_row, rows, depth):
    """Split A, whose rows have unit stride: tile after tile of the depth for each 16 rows."""
    for row in range(0, rows, TILE_SIDE):
        place, high = to + row // TILE_SIDE * _strip(pieces, depth), min(TILE_SIDE, rows - row)
        for k in range(0, depth, TILE_DEPTH):
            left = depth - k
            source = a + 4 * (row * a_row + k)
            rest = left - TILE_SIDE
            split_line(pieces, place, 64, source, a_row, TILE_SIDE, high, left, left, rest, rest)
            place += pieces * TILE_BYTES


@inlined
def _split_columns(pieces, to, b, b_row, depth, columns):
    """Split B, whose rows have unit stride: tile after tile of the depth for each 16 columns."""
    tiles = (columns + TILE_SIDE - 1) // TILE_SIDE
    rest = columns - TILE_SIDE * (tiles - 1)
    for k in range(0, depth, TILE_DEPTH):
        for row in range(k, k + TILE_SIDE):
            first, second = TILE_SIDE if row < depth else 0, TILE_SIDE if row + TILE_SIDE < depth else 0
            split_line(
                pieces, to + 64 * (row - k), _strip(pieces, depth), b + 4 * row * b_row, TILE_SIDE,
                TILE_SIDE * b_row, tiles, first, min(rest, first), second, min(rest, second),
            )  # fmt: skip
        to += pieces * TILE_BYTES


@inlined
def _split_transposed_rows(pieces, to, transposed, a, a_column, rows, depth):
    """Split A, whose columns have unit stride."""
    wide = TILE_DEPTH * _tiles(depth)
    for k in range(0, depth, TILE_SIDE):
        deep = min(TILE_SIDE, depth - k)
        transpose_panel(transposed + 4 * k, wide, a + 4 * k * a_column, a_column, rows, deep, real)
    _split_rows(pieces, to, transposed, wide, rows, depth)


@inlined
def _split_transposed_columns(pieces, to, transposed, b, b_column, depth, columns):
    """Split B, whose columns have unit stride and are at most PANEL."""
    for column in range(0, columns, TILE_SIDE):
        wide = min(TILE_SIDE, columns - column)
        transpose_panel(transposed + 4 * column, PANEL, b + 4 * column * b_column, b_column, depth, wide, real)
    _split_columns(pieces, to, transposed, PANEL, depth, columns)


@inlined
def _multiply_panel(pieces, c, c_row, block_of_c, a, b, start, start_row, rows, columns, depth, rectified):
    """C = S + A·B for a panel of B's columns; a, b : addresses of pieces.

    S is added to the sums, once: tiles that began with it would round to its size 6 times for every 32 of the depth.
    """
    strip, whole_tiles = _strip(pieces, depth), start == 0 and rectified == 0
    for row in range(0, rows, BLOCK):
        height = min(BLOCK, rows - row)
        for column in range(0, columns, BLOCK):
            width = min(BLOCK, columns - column)
            to = c + 4 * (row * c_row + column)
            direct = whole_tiles and height % TILE_SIDE == 0 and width % TILE_SIDE == 0
            multiply_block(
                pieces, to if direct else block_of_c, 4 * (c_row if direct else BLOCK),
                a + row // TILE_SIDE * strip, strip if height > TILE_SIDE else 0,
                b + column // TILE_SIDE * strip, strip if width > TILE_SIDE else 0, _tiles(depth),
            )  # fmt: skip
            if not direct:
                plus = start + 4 * (row * start_row + column) if start != 0 else 0
                finish_block(to, c_row, block_of_c, plus, start_row, height, width, rectified)


@functools.cache
def multiplication(pieces):
    """The multiplication of float32 matrices in so many pieces, 1 to 3."""

    def product(
        room, c, c_row, a, a_row, a_column, b, b_row, b_column, start, start_row, rows, columns, depth, rectified
    ):
        """C = S + A·B as ``gemm.multiply`` says, for float32.

        A B that meets an A with columns of unit stride, of at most KEPT_ROWS rows, stays in the room; the next call may
        say so: b_row IN_PIECES. A number of C has the same bits whatever rows and columns it is computed with, as its
        products are summed in the order of the depth, in blocks whose length follows from the depth and A's strides.
        """
        packed_a, transposed = room + _A, room + _TRANSPOSED
        stays = a_column != 1
        depth_block = depth_of_blocks(depth, stays, a_column == 1 and b_column == 1)
        configure()
        for k in range(0, depth, depth_block):
            deep = min(depth_block, depth - k)
            strip = _strip(pieces, deep)
            # What is transposed takes as much as two pieces.
            highest = _A_BYTES // _strip(max(2, pieces), deep) * TILE_SIDE
            row_block = even_share(rows, highest // BLOCK * BLOCK, BLOCK)
            # What is added to the products: S to the first ones, then what C has.
            plus, plus_row = (start, start_row) if k == 0 else (c, c_row)
            for i in range(0, rows, row_block):
                high, a_block = min(row_block, rows - i), a + 4 * (i * a_row + k * a_column)
                if a_column == 1:
                    _split_rows(pieces, packed_a, a_block, a_row, high, deep)
                else:
                    _split_transposed_rows(pieces, packed_a, transposed, a_block, a_column, high, deep)
                for j in range(0, columns, PANEL):
                    wide, b_block = min(PANEL, columns - j), b + 4 * (k * b_row + j * b_column)
                    panel = room + _B + (j // TILE_SIDE * strip if stays else 0)
                    if b_row != IN_PIECES and (i == 0 or not stays):
                        if b_column == 1:
                            _split_columns(pieces, panel, b_block, b_row, deep, wide)
                        else:
                            _split_transposed_columns(pieces, panel, transposed, b_block, b_column, deep, wide)
                    _multiply_panel(
                        pieces, c + 4 * (i * c_row + j), c_row, room + _C, packed_a, panel,
                        plus + 4 * (i * plus_row + j) if plus != 0 else 0, plus_row, high, wide, deep,
                        rectified if k + deep == depth else 0,
                    )  # fmt: skip
        release()
        return 1

    product.signature = SIGNATURE
    return product
