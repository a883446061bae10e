"""Matrix multiplication: C = S + A·B, or max(S + A·B, 0), in blocks that fit the caches, tile by tile.

The three products of a dense layer (XW + b, dY·Wᵀ, Xᵀ·dY) differ in the strides of A and B alone, so none
of them needs a transposed copy. It is compiled once for each type of numbers, to a C function that is
called by its address: compiled into each caller instead, it would cost each of them seconds.

A number of C has the same bits whatever rows and columns it is computed with, and with vectors of any width: its
products are summed in the order of the depth, in blocks whose length follows from the depth and from how A and B lie.
(Products with a single column are in ``column.py``.)
"""

import functools

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..jit import COMPILED, address, at_address, formula, inlined
from ..layout import even_share, halved_share
from ..memory import CACHE_LINE, aligned_zeros, item_size, vector
from . import pieces
from .amx import available
from .panels import copy_panel, outer_product, sum_rows, transpose_panel
from .tile import (
    LONE_ROWS,
    NARROW_HEIGHT,
    TILE_HEIGHT,
    TILE_VECTORS,
    WIDE_HEIGHTS,
    WIDE_VECTORS,
    multiply_tile,
    vector_length,
)

#: Products that are summed in registers before the sum goes to memory, at most; a longer depth is cut evenly. A panel
#: of B of this depth (192 KB with AVX-512, 48 KB with AVX2) stays in the second-level cache while all tiles of
#: a block of rows pass.
DEPTH_BLOCK = 768

#: The same of a product xW, whose depth is halved until the blocks are no longer: so 2, 4 ... workers may share them
#: (``shares.by_inputs``). Measured: shorter ones than above cost 0 to 1.4 % in float32, and up to 4 % in float64.
SHARED_DEPTH_BLOCK = 400

#: Rows that are a multiple of so many bytes apart fall into the same places of the first-level cache and evict one
#: another there: 32 KB in eight ways.
EVICTING_STRIDE = 4096

#: The same where B's rows evict one another: fewer of them stay in the second-level cache from when they are fetched
#: until they are packed. A product with 1024-1024 is up to 80 % faster with AVX-512 and up to 60 % with AVX2, for 1 to
#: 256 rows.
EVICTING_DEPTH_BLOCK = 192

#: Rows of A that a panel of B meets before the next one: a multiple of the tallest tiles' heights, and with
#: ``DEPTH_BLOCK`` 396 KB of float32, a part of the second-level cache.
ROW_BLOCK = 132

#: Bytes of a column of A up to which its rows are one block: 528 of float32, 264 of float64. Each panel of B is then
#: packed to the same place, which stays in the cache (2 to 5 % of products of 200 to 528 rows, measured).
ONE_BLOCK = 2112

#: Columns of B that are packed before the rows go on: with ``DEPTH_BLOCK`` 3 MB of float32, a part of the last-level
#: cache, for the blocks of rows after the first.
COLUMN_BLOCK = 1024

#: Rows of C from which a B is packed whose rows evict one another (measured). Else it is only where there are several
#: blocks of rows: tiles read it as fast as a packed one.
FEW_ROWS = 48

#: A = Xᵀ is read across, a cache line from each of the batch's rows. Where rows have this length, and there are more
#: than so many, or they are a multiple of so many bytes apart, the lines evict one another from the first-level cache:
#: A is packed, if each number is used for so many columns of C.
LONG_ROWS, MANY_LINES, CROSSED_STRIDE, MANY_COLUMNS = 256, 192, 2048, 128

#: Room behind the blocks, in numbers: a packed block is filled up to whole vectors.
_SLACK = 64

#: Bytes of rows of a product of depth 1 that are written panel by panel: they stay in the first-level cache.
_STORED = 16 * 1024

_PACKED_B = (DEPTH_BLOCK + _SLACK) * (COLUMN_BLOCK + _SLACK)
_PACKED_A = (DEPTH_BLOCK + _SLACK) * (ONE_BLOCK // 4 + _SLACK)  # of float32

#: Bytes of a worker's workspace before its room for packing: a cache line that begins with the address of
#: the compiled multiplication.
_HEAD = CACHE_LINE


def workspace(real, workers: int = 1, pieces_bytes: int = 0, count: int = 3) -> np.ndarray:
    """What ``workers`` workers need to multiply numbers of type ``real``: an array, a part for each.

    A part begins with the address of the multiplication, compiled for this type; then comes room for packing. It is
    memory that the system provides when it is first touched: small products touch little. pieces_bytes : what products
    of ``count`` pieces need (``pieces.room_bytes``), if there are any; then the address of theirs comes second.
    """
    part = max(_HEAD + np.dtype(real).itemsize * (_PACKED_A + _PACKED_B), pieces_bytes)
    part += -part % CACHE_LINE
    parts = aligned_zeros(workers * part // 8, np.int64).reshape(workers, -1)
    parts[:, 0] = address(multiplication(real))
    if pieces_bytes > 0:
        parts[:, 1] = address(pieces.multiplication(count))
    return parts.reshape(-1)


def pieces_workspace(rows: int, inputs: int, units: int, count: int = 3) -> np.ndarray:
    """A worker's workspace with which kernels form all products of pieces, ``count`` of each number: of a layer of
    float32, for so many rows.

    Raises a RuntimeError where there is no matrix unit (``amx.available``).
    """
    if not available():
        raise RuntimeError("this processor, or this system, has no matrix unit (AMX)")
    room = workspace(np.float32, 1, pieces.room_bytes(rows, inputs, units, count), count)
    room[0] = room[1]
    return room


def layer_workspace(rows: int, inputs: int, units: int, dtype, gradient: bool) -> np.ndarray:
    """A worker's workspace for a dense layer's products in training, of pieces or not, as the engine forms them.

    gradient : for xᵀ·dy, else for those with W; rows : of a batch that has no parts.
    """
    if pieces.of_pieces(inputs, units, rows, dtype, parts=False)[gradient]:
        return pieces_workspace(rows, inputs, units)
    return workspace(np.dtype(dtype).type)


@formula
def evicts_itself(row_bytes, b_column):
    """Whether rows of B, so many bytes apart, evict one another from the first-level cache."""
    return b_column == 1 and row_bytes % EVICTING_STRIDE == 0


@formula
def depth_of_blocks(depth, evicting, forward):
    """Products that are summed in registers before the sum goes to memory.

    evicting : whether B ``evicts_itself``; forward : whether the rows of A and of B have unit stride, as in xW, whose
    blocks workers may share.
    """
    if forward and not evicting:
        return halved_share(depth, SHARED_DEPTH_BLOCK, 1)
    return even_share(depth, EVICTING_DEPTH_BLOCK if evicting else DEPTH_BLOCK, 1)


@functools.cache
def multiplication(real):
    """The multiplication for one type of numbers; arguments as those of ``multiply``."""
    if not COMPILED:
        return functools.partial(plain_multiplication, real)

    def product(
        room, c, c_row, a, a_row, a_column, b, b_row, b_column, start, start_row, rows, columns, depth, rectified
    ):  # fmt: skip
        size, length = item_size(real), vector_length(real)
        if depth == 1 and b_column == 1 and start == 0 and rectified == 0:  # nothing to sum: all of it is stores
            together = max(1, _STORED // (size * columns))
            for i in range(0, rows, together):
                rows_of_c, rows_of_a = c + size * i * c_row, a + size * i * a_row
                outer_product(rows_of_c, c_row, rows_of_a, a_row, b, min(together, rows - i), columns, real)
            return 1
        row_block = rows if size * rows <= ONE_BLOCK else ROW_BLOCK
        crosses_lines = a_row == 1 and a_column >= LONG_ROWS
        evicts_lines = depth > MANY_LINES or size * a_column % CROSSED_STRIDE == 0
        packs_a = crosses_lines and evicts_lines and columns >= MANY_COLUMNS
        narrow = int(columns <= length // 2)  # half a vector
        evicting = evicts_itself(size * b_row, b_column)
        packs_b = b_column != 1 or rows > row_block or (evicting and rows >= FEW_ROWS)
        packed_b, packed_a = room + _HEAD, room + _HEAD + size * _PACKED_B
        depth_block = depth_of_blocks(depth, evicting, a_column == 1 and b_column == 1)
        if rows == 1 and b_column == 1:  # a panel is one tile: to choose among several takes as long
            for k in range(0, depth, depth_block):
                deep, plus = min(depth_block, depth - k), start if k == 0 else c
                column = 0
                while column < columns:
                    wide = _panel_width(columns - column, 1, length)
                    multiply_tile(
                        narrow, 1, 1, wide, deep, c + size * column, c_row, a + size * k * a_column, a_row, a_column, 0,
                        b + size * (k * b_row + column), b_row, plus + size * column if plus != 0 else 0, 0, 0, 0,
                        rectified if k + deep == depth else 0, real,
                    )  # fmt: skip
                    column += wide
            return 1
        # Where all rows are one block, each panel is packed to the same place, which stays in the cache.
        column_bytes = size * ((depth_block + length - 1) // length * length) if rows > row_block else 0
        for j in range(0, columns, COLUMN_BLOCK):
            last_column = min(j + COLUMN_BLOCK, columns)
            for k in range(0, depth, depth_block):
                deep = min(depth_block, depth - k)
                # What is added to the products: S to the first ones, then what C has.
                plus, plus_row = (start, start_row) if k == 0 else (c, c_row)
                for i in range(0, rows, row_block):
                    high = min(row_block, rows - i)
                    a_block, a_tile, a_block_row = a + size * (i * a_row + k * a_column), a_row, a_row
                    if packs_a:
                        _pack_a(packed_a, a_block, a_column, high, deep, real)
                        a_block, a_tile, a_block_row = packed_a, deep, 1
                    column = j
                    while column < last_column:
                        wide = _panel_width(last_column - column, rows, length)
                        width = (wide + length - 1) // length * length
                        b_panel, b_panel_row = b + size * (k * b_row + column * b_column), b_row
                        # The next panel, to be fetched from memory while this one is multiplied.
                        ahead, ahead_row = b_panel + size * width * b_column, b_row if b_column == 1 else length
                        if packs_b:
                            to = packed_b + (column - j) * column_bytes
                            if i == 0:
                                _pack_panel(to, width, b_panel, b_row, b_column, deep, wide, real)
                            else:
                                ahead, ahead_row = to + width * column_bytes, length
                            b_panel, b_panel_row = to, width
                        if column + wide == last_column:
                            ahead = 0
                        _multiply_panel(
                            c + size * (i * c_row + column), c_row, a_block, a_tile, a_block_row, a_column, packs_a,
                            b_panel, b_panel_row, plus + size * (i * plus_row + column) if plus != 0 else 0, plus_row,
                            high, wide, deep, ahead, ahead_row, narrow,
                            rectified if k + deep == depth else 0, real,
                        )  # fmt: skip
                        column += wide
        return 1

    product.signature = pieces.SIGNATURE
    return product


@inlined
def _height(rows, narrow):
    """Rows of the next group, those of the tallest tile, where so many are left."""
    if narrow:
        return min(NARROW_HEIGHT, rows)
    return TILE_HEIGHT - LONE_ROWS if 0 < rows - TILE_HEIGHT <= LONE_ROWS else min(TILE_HEIGHT, rows)


@inlined
def _equal_groups(rows, narrow):
    """How many groups are as high as the next one, where so many rows are left."""
    if narrow:
        return max(1, rows // NARROW_HEIGHT)
    groups = rows // TILE_HEIGHT
    return max(1, groups - 1 if 0 < rows - groups * TILE_HEIGHT <= LONE_ROWS else groups)


@inlined
def _panel_width(columns, rows, length):
    """Columns of the next panel where so many are left."""
    for index in range(len(WIDE_VECTORS)):
        width = WIDE_VECTORS[index] * length
        if columns >= width and (rows == 1 or WIDE_HEIGHTS[index] > 1):
            return width
    return min(columns, TILE_VECTORS * length)


@inlined
def _pack_a(to, a, a_column, rows, deep, real):
    """Copy a block of A = Xᵀ group by group: number (row, k) of a group to place k * (its rows) + row.

    Vectors that are longer than a group is high write beyond it: to what is written next. So its last rows come first.
    """
    size = item_size(real)
    wide = TILE_VECTORS * vector_length(real)
    i = 0
    while i < rows:
        high = _height(rows - i, 0)
        for part in range((high - 1) // wide * wide, -1, -wide):
            rest = min(wide, high - part)
            copy_panel(to + size * (i * deep + part), high, a + size * (i + part), a_column, deep, rest, real)
        i += high


@inlined
def _pack_panel(to, to_row, b, b_row, b_column, deep, columns, real):
    """Copy a panel of B: number (k, column) to place k * to_row + column."""
    size, length = item_size(real), vector_length(real)
    if b_column == 1:
        copy_panel(to, to_row, b, b_row, deep, columns, real)
    else:
        for part in range(0, columns, length):
            source = b + size * part * b_column
            transpose_panel(to + size * part, to_row, source, b_column, deep, min(length, columns - part), real)


@inlined
def _multiply_panel(
    c, c_row, a, a_tile, a_row, a_column, packed, b, b_row, start, start_row, rows, columns, depth, ahead, ahead_row,
    narrow, rectified, real,
):  # fmt: skip
    """Multiply tile by tile with one panel of B. The first tiles fetch parts of what comes after the panel.

    a_tile, a_row : numbers from row to row of A between groups and within one; they differ where A is packed.
    A tile fetches a vector's width of the next panel: a piece of each row of B, or, where these follow one another
    (``ahead_row`` is a vector), ``depth`` vectors. TILE_VECTORS * TILE_HEIGHT rows have tiles for all of it.
    """
    size, length = item_size(real), vector_length(real)
    next_part = size * length * (1 if ahead_row != length else depth)
    i, group, group_end = 0, 0, 0  # a group of rows is packed together, and has one tile or two wide ones
    while i < rows:
        if i == group_end:
            group, group_end = i, i + _height(rows - i, narrow)
        group_rows = group_end - group
        splits = columns > TILE_VECTORS * length and group_rows > WIDE_HEIGHTS[1]
        high = min((group_rows + 1) // 2 if splits else group_rows, group_end - i)
        # Tiles for one call: equally high, and equally far apart in A.
        if ahead != 0:
            tiles = 1
        elif packed and splits:  # those of the next group are farther away
            tiles = (group_end - i) // high
        else:
            tiles = (group + _equal_groups(rows - group, narrow) * group_rows - i) // high
        multiply_tile(
            narrow, tiles, high, columns, depth, c + size * i * c_row, c_row,
            a + size * (group * a_tile + (i - group) * a_row), a_row, group_rows if packed else a_column,
            high * (a_row if splits else a_tile), b, b_row, start + size * i * start_row if start != 0 else 0,
            start_row, ahead, ahead_row, rectified, real,
        )  # fmt: skip
        i += tiles * high
        group_end = max(i, group_end)
        ahead = ahead + next_part if ahead != 0 and i < TILE_VECTORS * TILE_HEIGHT else 0


def plain_multiplication(
    real, room, c, c_row, a, a_row, a_column, b, b_row, b_column, start, start_row, rows, columns, depth, rectified
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
        if rectified:
            product[product <= 0] = 0
    view(c, c_row, 1, (rows, columns))[...] = product
    return 1


if COMPILED:

    @intrinsic
    def _call(
        typing_context, function, room, c, c_row, a, a_row, a_column, b, b_row, b_column, start, start_row, rows,
        columns, depth, rectified,
    ):  # fmt: skip
        """Call the multiplication at the address ``function``."""

        def generate(context, builder, signature, arguments):
            integer = ir.IntType(64)
            pointer = ir.FunctionType(integer, [integer] * len(arguments[1:])).as_pointer()
            return builder.call(builder.inttoptr(arguments[0], pointer), arguments[1:])

        return types.intp(types.intp, *pieces.SIGNATURE.args), generate

else:

    def _call(function, *arguments):
        return at_address(int(function))(*arguments)


@formula
def multiply(
    room, c, c_row, a, a_row, a_column, b, b_row, b_column, start, start_row, rows, columns, depth, rectified, of_pieces
):  # fmt: skip
    """C = S + A·B, with C (rows, columns), A (rows, depth), B (depth, columns).

    room : address of a worker's part of a ``workspace``; c, a, b, start : addresses; strides count numbers.
    The rows of C and S have unit stride, and so have the rows or the columns of B. S may be C, or a single
    row with ``start_row`` 0; 0 : zeros. The depth is at least 1.
    rectified : not 0 for the ReLU of C, max(C, 0), in place of it. of_pieces : 1 for products of pieces
    (``pieces.multiplication``, whose B may be IN_PIECES), else 0.
    """
    if rows > 0 and columns > 0:
        function = vector(room, 2, np.int64)[of_pieces]
        _call(
            function, room, c, c_row, a, a_row, a_column, b, b_row, b_column, start, start_row, rows, columns, depth,
            rectified,
        )  # fmt: skip


def _plain_column_sums(sums, b, b_row, rows, columns, real):
    """The same in NumPy, for ``NUMBA_DISABLE_JIT=1``."""
    total = np.zeros(columns, real)
    for row in range(rows):
        total += vector(b + item_size(real) * row * b_row, columns, real)
    vector(sums, columns, real)[...] = total


def _column_sums(sums, b, b_row, rows, columns, real):
    """The sum of each column of B, which has one row at least and numbers of type ``real``.

    sums, b : addresses. As with ``multiply``, a sum has the same bits whatever columns it is computed with.
    """
    size, width = item_size(real), TILE_VECTORS * vector_length(real)
    for row in range(0, rows, DEPTH_BLOCK):
        for column in range(0, columns, width):
            at, place = sums + size * column, b + size * (row * b_row + column)
            sum_rows(at, place, b_row, min(DEPTH_BLOCK, rows - row), min(width, columns - column), row, real)


column_sums = formula(_column_sums if COMPILED else _plain_column_sums)
