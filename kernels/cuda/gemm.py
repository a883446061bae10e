"""Matrix multiplication on the GPU: C = end(A·B), tile by tile.

A block of threads forms a tile of C. It goes through the depth in steps: all threads bring the next ``deep`` columns
of A and rows of B to shared memory, then each multiplies them for its own numbers of the tile, which stay in
registers. The next step's numbers are on their way from memory meanwhile, into the other half of the shared memory.

The three products of a dense layer (XW, dY·Wᵀ, Xᵀ·dY) differ in which of A and B is read across, so none of them needs
a transposed copy. What happens to a sum in the end (a bias, an activation, a slope) is a device function.

A number of C is the sum of its products in the order of the depth, one after another, whatever the tile. Where C is
small and the depth is large, as in the gradient of weights over a tall batch, the depth is cut into parts
(``tile_of``): blocks form sums over each, and a second kernel adds them in order.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import cuda, float32, float64

from .launch import ALIGNMENT, SIMULATED, THREADS, ceiling, device, element, elements_of, kernel, launch, room

__all__ = [
    "TILES",
    "End",
    "Tile",
    "below",
    "end_of_parts",
    "gemm_kernel",
    "multiply",
    "multiply_simply",
    "plain",
    "tile_of",
    "tiles_for",
]


class Tile(NamedTuple):
    """How a block multiplies: its tile of C is (high, wide), a thread's numbers (rows, columns), a step ``deep``.

    A thread's numbers lie in groups of ``group`` rows and columns, which it loads from shared memory at once. It brings
    four numbers at a time, so high, wide and deep are multiples of four.
    """

    high: int
    wide: int
    deep: int
    rows: int
    columns: int
    group: int

    @property
    def threads(self):
        return self.high * self.wide // (self.rows * self.columns)


#: From large to small; the last one serves products that would leave most of a GPU idle otherwise.
TILES = (
    (Tile(4, 8, 4, 2, 2, 2), Tile(4, 4, 4, 2, 2, 1))
    if SIMULATED
    else (
        Tile(128, 128, 8, 8, 8, 4),
        Tile(64, 64, 16, 4, 4, 4),
        Tile(32, 64, 16, 4, 4, 4),
        Tile(32, 32, 16, 4, 4, 4),
        Tile(16, 16, 32, 2, 2, 2),
    )
)

#: The bits of an index. A compiler that knows that one is not negative need not ask whether it counts from the end.
INDEX = 0x7FFFFFFF

#: Blocks that keep a large GPU busy. Not asked of the device, so that the bits are the same on all.
BUSY = 4 if SIMULATED else 128

#: Numbers of the depth that a part has at least, and parts at most.
PART_DEPTH, MOST_PARTS = (4, 3) if SIMULATED else (128, 32)


def tiles_for(real):
    """The tiles for numbers of a type: the registers of a thread hold 4 x 4 float64 sums, but not 8 x 8."""
    return TILES if real == np.float32 or SIMULATED else TILES[1:]


def tile_of(rows, columns, depth, real, cut):
    """(tile, parts) of a product: the largest tile of which it has enough to keep the GPU busy, or the smallest.

    cut : the depth may be cut into parts, which are blocks of their own.
    """
    for tile in tiles_for(real):
        blocks = max(1, ceiling(rows, tile.high) * ceiling(columns, tile.wide))
        parts = max(1, min(ceiling(BUSY, blocks), depth // PART_DEPTH, MOST_PARTS)) if cut else 1
        if blocks * parts >= BUSY:
            break
    return tile, parts


class End(NamedTuple):
    """What happens to a sum: ``function(c, second, vector, x, y, row, column, total)``, a device function.

    long : it has a formula inside, so loops around it are not unrolled.
    """

    function: Callable[..., Any]
    long: bool = False


@End
@device
def plain(c, second, vector, x, y, row, column, total):
    """C = A·B."""
    c[row, column] = total


@End
@device
def part(c, second, vector, x, y, row, column, total):
    """The sum over one part of the depth, for ``end_of_parts``."""
    c[cuda.blockIdx.z, row, column] = total


@functools.cache
def gemm_kernel(real, tile, a_across, b_across, ones, end):
    """The kernel that forms C = end(op(A)·op(B)), or with the end ``part`` its parts over the depth.

    a_across : op(A) is Aᵀ; b_across : op(B) is Bᵀ; ones : op(A) has one row more than A, of ones, so that the last row
    of C has the sums of the columns of B.
    """
    high, wide, deep, rows, columns, group, threads = *tile, tile.threads
    number = float32 if real == np.float32 else float64
    across, a_row, b_row = wide // columns, high + group, wide + group
    a_loads, b_loads = ceiling(high * deep // 4, threads), ceiling(wide * deep // 4, threads)
    a_kept, b_kept = 4 * a_loads, 4 * b_loads
    finish, long = end
    whole = high * deep == a_kept * threads and wide * deep == b_kept * threads
    zero, one, extra_rows = real(0), real(1), int(ones)

    @device
    def place_of(turn, transposed, extent, t):
        """(k, i): where the ``turn``-th four numbers that a thread brings begin in a step."""
        place = t + turn * threads
        if transposed:
            return place // (extent // 4), place % (extent // 4) * 4
        return place % (deep // 4) * 4, place // (deep // 4)

    @device
    def load(kept, array, transposed, extent, start, first, last, t, wanted, loads, extra):
        """Bring numbers of a step from memory to a thread's registers, four side by side; zeros beyond the edges."""
        for turn in range(loads):
            k, i = place_of(turn, transposed, extent, t)
            k, i = (first + k) & INDEX, (start + i) & INDEX
            for j in range(4):
                value = zero
                if transposed:
                    if k < last and i + j < wanted:
                        value = array[k, i + j]
                    elif extra and k < last and i + j == wanted:
                        value = one
                elif k + j < last and i < wanted:
                    value = array[i, k + j]
                elif extra and k + j < last and i == wanted:
                    value = one
                kept[4 * turn + j] = value

    @device
    def store(shared, half, kept, transposed, extent, t, loads):
        """Put a thread's numbers of a step into a half of the shared memory."""
        for turn in range(loads):
            k, i = place_of(turn, transposed, extent, t)
            if whole or (k < deep and i < extent):
                for j in range(4):
                    if transposed:
                        shared[half & 1, k, i + j] = kept[4 * turn + j]
                    else:
                        shared[half & 1, k + j, i] = kept[4 * turn + j]

    @device
    def accumulate(sums, left, right, a_shared, b_shared, half, k, down, over):
        """Multiply a column of A with a row of B."""
        for i in range(rows):
            left[i] = a_shared[half & 1, k & 255, down + i % group + i // group * (high // (rows // group))]
        for j in range(columns):
            right[j] = b_shared[half & 1, k & 255, over + j % group + j // group * (wide // (columns // group))]
        for i in range(rows):
            for j in range(columns):
                sums[i, j] += left[i] * right[j]

    @kernel
    def gemm(c, second, vector, x, y, a, b, parts):
        """C = end(A·B); with more than one part the sums of part p go to c[p]."""
        a_shared = cuda.shared.array((2, deep, a_row), number, ALIGNMENT)
        b_shared = cuda.shared.array((2, deep, b_row), number, ALIGNMENT)
        sums = cuda.local.array((rows, columns), number)
        left = cuda.local.array(rows, number)
        right = cuda.local.array(columns, number)
        a_next = cuda.local.array(a_kept, number)
        b_next = cuda.local.array(b_kept, number)
        t = cuda.threadIdx.x & 1023
        down, over = t // across * group, t % across * group
        top, side = cuda.blockIdx.x * high & INDEX, cuda.blockIdx.y * wide & INDEX
        height = a.shape[1] if a_across else a.shape[0]
        depth = a.shape[0] if a_across else a.shape[1]
        width = b.shape[0] if b_across else b.shape[1]
        first, last = depth * cuda.blockIdx.z // parts, depth * (cuda.blockIdx.z + 1) // parts
        for i in range(rows):
            for j in range(columns):
                sums[i, j] = zero
        load(a_next, a, a_across, high, top, first, last, t, height, a_loads, ones)
        load(b_next, b, not b_across, wide, side, first, last, t, width, b_loads, False)
        store(a_shared, 0, a_next, a_across, high, t, a_loads)
        store(b_shared, 0, b_next, not b_across, wide, t, b_loads)
        cuda.syncthreads()
        half = 0
        for start in range(first, last, deep):
            more = start + deep < last
            if more:
                load(a_next, a, a_across, high, top, start + deep, last, t, height, a_loads, ones)
                load(b_next, b, not b_across, wide, side, start + deep, last, t, width, b_loads, False)
            for k in range(0, deep, 4):  # four times written out: no compiler would unroll so long a loop
                accumulate(sums, left, right, a_shared, b_shared, half, k, down, over)
                accumulate(sums, left, right, a_shared, b_shared, half, k + 1, down, over)
                accumulate(sums, left, right, a_shared, b_shared, half, k + 2, down, over)
                accumulate(sums, left, right, a_shared, b_shared, half, k + 3, down, over)
            half = 1 - half
            if more:
                store(a_shared, half, a_next, a_across, high, t, a_loads)
                store(b_shared, half, b_next, not b_across, wide, t, b_loads)
            cuda.syncthreads()
        # The first number of the first row is ended, then all move up: were they numbered by a loop that is not
        # unrolled, as none is around a long formula, they would have to lie in memory.
        for i in range(rows):
            row = top + down + i % group + i // group * (high // (rows // group))
            for j in range(columns):
                column = side + over + j % group + j // group * (wide // (columns // group))
                if row < height + extra_rows and column < width:
                    finish(c, second, vector, x, y, row, column, sums[0, 0 if long else j])
                if long:
                    for k in range(columns - 1):
                        sums[0, k] = sums[0, k + 1]
            for k in range(rows - 1):
                for j in range(columns):
                    sums[k, j] = sums[k + 1, j]

    return gemm


@functools.cache
def end_of_parts(end):
    """The kernel that adds the sums over the parts of the depth, in their order."""
    finish = end.function

    @kernel
    def add_parts(c, second, vector, x, y, sums):
        """C = end(sums[0] + sums[1] + ...); sums : (parts, rows, columns)."""
        row, column = element()
        if row < sums.shape[1] and column < sums.shape[2]:
            total = sums[0, row, column]
            for number in range(1, sums.shape[0]):
                total += sums[number, row, column]
            finish(c, second, vector, x, y, row, column, total)

    return add_parts


def multiply(c, a, b, a_across, b_across, end, others, ones, cut, stream):
    """C = end(op(A)·op(B)), of float32 arrays in the stream's precision.

    others : the arrays ``second, vector, x, y`` that the end reads or writes; ones, a_across, b_across : as in
    ``gemm_kernel``; cut : the depth may be cut into parts.
    """
    if stream.precision == "float32" or b.dtype != np.float32:
        multiply_simply(c, a, b, a_across, b_across, end, others, ones, cut, stream)
    else:
        from . import tensor_cores  # which looks up to this file, and cannot be imported in the simulator

        tensor_cores.multiply(c, a, b, a_across, b_across, end, others, ones, cut, stream)


@functools.cache
def below(end):
    """``end`` for the row below C, where a product of ones alone forms it as its row 0."""
    function = end.function

    @device
    def end_below(c, second, vector, x, y, row, column, total):
        function(c, second, vector, x, y, c.shape[0], column, total)

    return End(end_below, end.long)


def multiply_simply(c, a, b, a_across, b_across, end, others, ones, cut, stream):
    """``multiply`` in the type of the arrays."""
    rows = (a.shape[1] if a_across else a.shape[0]) + ones
    depth = a.shape[0] if a_across else a.shape[1]
    columns = b.shape[0] if b_across else b.shape[1]
    real = np.dtype(b.dtype).type
    tile, parts = tile_of(rows, columns, depth, real, cut)
    blocks = ceiling(rows, tile.high), ceiling(columns, tile.wide), parts  # 65,535 at most, but in the first direction
    if parts == 1:
        run = gemm_kernel(real, tile, a_across, b_across, ones, end)
        launch(run, blocks, tile.threads, stream, c, *others, a, b, parts)
        return
    sums = room(stream, parts * rows * columns, real)[: parts * rows * columns].reshape(parts, rows, columns)
    run = gemm_kernel(real, tile, a_across, b_across, ones, part)
    launch(run, blocks, tile.threads, stream, sums, *others, a, b, parts)
    launch(end_of_parts(end), elements_of(sums[0]), THREADS, stream, c, *others, sums)
