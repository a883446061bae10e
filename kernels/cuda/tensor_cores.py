"""Matrix multiplication on tensor cores: C = A·B with float32 in memory and float32 sums.

``gemm.py`` multiplies in true float32 and is the readable specification; this file is the fast path for GPUs of compute
capability 8.0 and up. What the tensor cores multiply is rounded first:

=========  ===================================  ==================================================================
precision  a number is rounded to               cost of a product
=========  ===================================  ==================================================================
tf32       10 bits of fraction                  1 multiplication at half the rate of bf16
3xtf32     two TF32 numbers, high + low         3: high·high, high·low, low·high; as accurate as float32
bf16       7 bits of fraction                   1 multiplication
=========  ===================================  ==================================================================

A block forms a tile of C. Step by step along the depth, a panel of A and a panel of B are copied to shared memory, some
steps ahead of their use (``cp.async``), where each warp reads its fragments and multiplies them (``mma``).

**The order of the depth.** A thread holds four neighbors of the depth for each of its rows: 4t .. 4t+3 of 16, t being
its place among four threads. The instructions ask for others (t and t+4, or 2t, 2t+1, 2t+8 and 2t+9), but a sum has
the same terms in any order, as long as A and B agree. So the same fragment serves all precisions, and where a
panel's depth lies along memory it is read 16 bytes at a time.

**The places in a panel.** A panel lies as its matrix does, in chunks of four numbers. Where the depth runs along a row
(A as it is, B transposed) and where it runs across (A transposed, B as it is), the chunks of a row are exchanged in
such a way that the 32 threads of a warp read from 32 different banks.
"""

import functools
from typing import NamedTuple

import numpy as np
from numba import cuda, float32, int32, uint32
from numba.cuda.cudadrv import driver

from . import gemm
from .launch import LOCK, THREADS, ceiling, device, elements_of, kernel, launch, room
from .ptx import (
    commit_copies,
    copy_4_bytes,
    copy_16_bytes,
    float_from_bits,
    global_address,
    load_shared,
    load_shared_4,
    multiply_bf16,
    multiply_tf32,
    pack_bf16,
    round_tf32,
    shared_address,
    store_shared,
    wait_for_copies,
)

#: Numbers of the depth in a panel.
DEPTH = 32

#: Numbers of the depth that a warp multiplies at a time.
SLAB = 16

#: Numbers between the rows of C in shared memory, so that threads write them to different banks.
PADDING = 8


class Tile(NamedTuple):
    """How a block forms its tile of C.

    It has ``warps_down`` x ``warps_across`` warps, each with ``down`` x ``across`` fragments of 16 x 8 numbers, and
    room for ``stages`` panels of A and of B in shared memory.
    """

    warps_down: int
    warps_across: int
    down: int
    across: int
    stages: int

    @property
    def threads(self):
        return 32 * self.warps_down * self.warps_across

    @property
    def rows(self):
        return 16 * self.warps_down * self.down

    @property
    def columns(self):
        return 8 * self.warps_across * self.across

    @property
    def shared_bytes(self):
        """The panels; in the end the tile of C takes their place."""
        return 4 * max(self.stages * (self.rows + self.columns) * DEPTH, self.rows * (self.columns + PADDING))


@device
def select(condition, x, y):
    return x if condition else y


@device
def place_along(row, k):
    """Where number (row, k) lies in a panel whose depth runs along memory.

    Eight threads read 16 bytes at once: chunks t of two neighboring rows, which differ in the highest bit.
    """
    return row * DEPTH + (((k >> 2) ^ ((row & 1) << 2)) << 2) + (k & 3)


@device
def place_across(row, k, width):
    """Where number (row, k) lies in a panel of ``width`` rows whose depth runs across memory.

    32 threads read 4 bytes at once: eight neighboring rows, two chunks, at four depths 4t + constant; so t chooses one
    of four pairs of chunks.
    """
    return k * width + (((row >> 2) ^ (((k >> 2) & 3) << 1)) << 2) + (row & 3)


@device
def read_fragment(panel, row, k, along, width):
    """Numbers (row, k) to (row, k + 3) of a panel; k is a multiple of 4."""
    if along:
        return load_shared_4(uint32(panel + 4 * place_along(row, k)))
    first = panel + 4 * place_across(row, k, width)
    return (
        load_shared(uint32(first)),
        load_shared(uint32(first + 4 * width)),
        load_shared(uint32(first + 8 * width)),
        load_shared(uint32(first + 12 * width)),
    )


@device
def copy_panel(panel, source, row_bytes, first_row, rows, k, depth, along, width, aligned, thread, threads):
    """Begin to copy a panel, rows ``first_row`` .. and depths ``k`` .., of a matrix with rows x depth numbers.

    What lies outside of the matrix becomes zero. row_bytes : from one row in memory to the next; aligned : memory is
    read 16 bytes at a time.
    """
    chunks = (DEPTH if along else width) // 4
    first_line, start = thread // chunks, thread % chunks * 4
    for part in range(DEPTH * width // 4 // threads):
        line = first_line + part * (threads // chunks)
        if along:
            to = place_along(line, start)
            there, left = first_row + line < rows, depth - k - start
            address = (first_row + line) * row_bytes + 4 * (k + start)
        else:
            to = place_across(start, line, width)
            there, left = k + line < depth, rows - first_row - start
            address = (k + line) * row_bytes + 4 * (first_row + start)
        left = select(there, min(max(left, 0), 4), 0)
        if aligned:
            copy_16_bytes(uint32(panel + 4 * to), source + select(left > 0, address, 0), int32(4 * left))
        else:
            for i in range(4):
                inside = left > i
                count = int32(select(inside, 4, 0))
                copy_4_bytes(uint32(panel + 4 * (to + i)), source + select(inside, address + 4 * i, 0), count)


@device
def prepare_tf32(x):
    return round_tf32(x[0]), round_tf32(x[1]), round_tf32(x[2]), round_tf32(x[3])


@device
def prepare_bf16(x):
    return pack_bf16(x[0], x[1]), pack_bf16(x[2], x[3])


@device
def rest_of(x, high):
    """What ``high``, the bits of a rounded x, leaves of it, rounded as well."""
    return round_tf32(x - float_from_bits(high))


@device
def prepare_3xtf32(x):
    high = prepare_tf32(x)
    return (
        *high,
        rest_of(x[0], high[0]),
        rest_of(x[1], high[1]),
        rest_of(x[2], high[2]),
        rest_of(x[3], high[3]),
    )


@device
def sum_tf32(c, a, a8, b):
    """C + A·B, 16 deep; a, a8 : fragments of rows g and g + 8 of A; b : of column g of B."""
    c = multiply_tf32(c, a[0], a8[0], a[1], a8[1], b[0], b[1])
    return multiply_tf32(c, a[2], a8[2], a[3], a8[3], b[2], b[3])


@device
def sum_bf16(c, a, a8, b):
    return multiply_bf16(c, a[0], a8[0], a[1], a8[1], b[0], b[1])


@device
def sum_3xtf32(c, a, a8, b):
    """The small products first. Tensor cores cut off what does not fit into a sum, so the sum of this slab starts
    from zero, and is added to the others by an addition that rounds (Ootomo and Yokota 2022)."""
    zero = float32(0)
    s = (zero, zero, zero, zero)
    s = multiply_tf32(s, a[4], a8[4], a[5], a8[5], b[0], b[1])
    s = multiply_tf32(s, a[6], a8[6], a[7], a8[7], b[2], b[3])
    s = multiply_tf32(s, a[0], a8[0], a[1], a8[1], b[4], b[5])
    s = multiply_tf32(s, a[2], a8[2], a[3], a8[3], b[6], b[7])
    s = multiply_tf32(s, a[0], a8[0], a[1], a8[1], b[0], b[1])
    s = multiply_tf32(s, a[2], a8[2], a[3], a8[3], b[2], b[3])
    return c[0] + s[0], c[1] + s[1], c[2] + s[2], c[3] + s[3]


#: How a precision prepares a fragment, how it multiplies, and how many registers a prepared fragment takes.
PRECISIONS = {
    "tf32": (prepare_tf32, sum_tf32, 4),
    "3xtf32": (prepare_3xtf32, sum_3xtf32, 8),
    "bf16": (prepare_bf16, sum_bf16, 2),
}

#: From large to small, for each precision: as large as the registers allow, and one for products with few numbers.
TILES = {
    "tf32": (Tile(2, 2, 4, 8, 3), Tile(2, 2, 2, 4, 3)),
    "3xtf32": (Tile(2, 4, 4, 4, 3), Tile(2, 2, 2, 4, 3)),
    "bf16": (Tile(2, 2, 4, 8, 3), Tile(2, 2, 2, 4, 3)),
}


@device
def finish(wanted, end, c, second, vector, x, y, row, column, total):
    """What happens to a sum in the end, if it is one of C."""
    if wanted:
        end(c, second, vector, x, y, row, column, total)


@functools.cache
def tensor_gemm_kernel(precision, tile, a_across, b_across, aligned_a, aligned_b, end):
    """The kernel that forms C = end(op(A)·op(B)), or its parts over the depth: ``gemm.gemm_kernel`` on tensor cores.

    a_across : op(A) is Aᵀ; b_across : op(B) is Bᵀ; aligned_a, aligned_b : all rows of A, of B begin at a multiple of
    16 bytes; end : as in ``gemm_kernel``.
    """
    prepare, multiply, parts_of_fragment = PRECISIONS[precision]
    end_function = end.function
    warps_down, _, down, across, stages = tile
    threads, height, width = tile.threads, tile.rows, tile.columns
    a_along, b_along = not a_across, b_across
    ahead, pending = stages - 1, stages - 2
    panel_of_b = 4 * height * DEPTH
    stage_bytes = panel_of_b + 4 * width * DEPTH
    line = width + PADDING

    @kernel(threads=threads)
    def tensor_gemm(c, second, vector, x, y, a, b, parts):
        rows, depth = a.shape
        if a_across:
            rows, depth = depth, rows
        columns = b.shape[0] if b_across else b.shape[1]
        top, side = cuda.blockIdx.x * height, cuda.blockIdx.y * width
        steps = (depth + DEPTH - 1) // DEPTH
        first, last = steps * cuda.blockIdx.z // parts, steps * (cuda.blockIdx.z + 1) // parts
        thread = cuda.threadIdx.x
        t, g, warp = thread & 3, (thread >> 2) & 7, thread >> 5
        row, column = warp % warps_down * (16 * down) + g, warp // warps_down * (8 * across)

        memory = shared_address(cuda.shared.array(0, float32, 16))
        a_source, b_source = global_address(a), global_address(b)
        a_row, b_row = a.strides[0], b.strides[0]
        sums = cuda.local.array((down, across, 4), float32)
        fragments = cuda.local.array((across, parts_of_fragment), uint32)
        for i in range(down):
            for j in range(across):
                for n in range(4):
                    sums[i, j, n] = float32(0)

        for step in range(first - ahead, last):
            if step >= first:
                wait_for_copies(pending)
                cuda.syncthreads()  # this step's panels are there, and nobody reads the last step's any more
            begun = step + ahead
            panel = memory + (begun - first) % stages * stage_bytes
            k, end_of_depth = begun * DEPTH, select(begun < last, depth, 0)
            copy_panel(panel, a_source, a_row, top, rows, k, end_of_depth, a_along, height, aligned_a, thread, threads)
            copy_panel(
                panel + panel_of_b, b_source, b_row, side, columns, k, end_of_depth, b_along, width, aligned_b,
                thread, threads,
            )  # fmt: skip
            commit_copies()
            if step >= first:
                panel = memory + (step - first) % stages * stage_bytes
                for slab in range(0, DEPTH, SLAB):
                    k = slab + 4 * t
                    for j in range(across):
                        right = prepare(read_fragment(panel + panel_of_b, column + 8 * j + g, k, b_along, width))
                        for n in range(parts_of_fragment):
                            fragments[j, n] = right[n]
                    for i in range(down):
                        upper = prepare(read_fragment(panel, row + 16 * i, k, a_along, height))
                        lower = prepare(read_fragment(panel, row + 16 * i + 8, k, a_along, height))
                        for j in range(across):
                            s = (sums[i, j, 0], sums[i, j, 1], sums[i, j, 2], sums[i, j, 3])
                            s = multiply(s, upper, lower, fragments[j])
                            for n in range(4):
                                sums[i, j, n] = s[n]

        # Through shared memory, so that neighboring threads write neighboring numbers, and the end is compiled once.
        wait_for_copies(0)
        cuda.syncthreads()
        for i in range(down):
            for j in range(across):
                for n in range(4):
                    at = (row + 16 * i + 8 * (n // 2)) * line + column + 8 * j + 2 * t + n % 2
                    store_shared(uint32(memory + 4 * at), sums[i, j, n])
        cuda.syncthreads()
        for place in range(0, height * width, threads):
            i, j = (place + thread) // width, (place + thread) % width
            total = load_shared(uint32(memory + 4 * (i * line + j)))
            wanted = (top + i < rows) & (side + j < columns)
            finish(wanted, end_function, c, second, vector, x, y, top + i, side + j, total)

    return tensor_gemm


def is_aligned(array):
    """Whether all rows begin at a multiple of 16 bytes."""
    return (array.__cuda_array_interface__["data"][0] | array.strides[0]) % 16 == 0


def launch_with_memory(kernel, blocks, threads, shared_bytes, stream, *arguments):
    """``launch`` with dynamic shared memory, of which CUDA grants more than 48 KB only where it is asked to."""
    compiled = kernel.compile(tuple(map(kernel.typeof_pyval, arguments)))
    with LOCK:
        function = compiled._codelibrary.get_cufunc()
    attribute = driver.binding.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
    driver.driver.cuKernelSetAttribute(attribute, shared_bytes, function.handle, function.device.id)
    launch(kernel, blocks, threads, stream, *arguments, shared=shared_bytes)


def tile_of(rows, columns, depth, precision, cut):
    """(tile, parts) of a product: as ``gemm.tile_of``."""
    for tile in TILES[precision]:
        blocks = ceiling(rows, tile.rows) * ceiling(columns, tile.columns)
        parts = max(1, min(ceiling(gemm.BUSY, blocks), depth // gemm.PART_DEPTH, gemm.MOST_PARTS)) if cut else 1
        if blocks * parts >= gemm.BUSY:
            break
    return tile, parts


def multiply(c, a, b, a_across, b_across, end, others, ones, cut, stream):
    """C = end(op(A)·op(B)) on tensor cores, in ``stream.precision``; arguments as those of ``gemm.multiply``, float32.

    The sums of ones, which are the gradient of a bias, stay true float32.
    """
    precision = stream.precision
    rows, depth = (a.shape[1], a.shape[0]) if a_across else a.shape
    columns = b.shape[0] if b_across else b.shape[1]
    tile, parts = tile_of(rows, columns, depth, precision, cut)
    blocks = ceiling(rows, tile.rows), ceiling(columns, tile.columns), parts
    layouts = a_across, b_across, is_aligned(a), is_aligned(b)
    if parts == 1:
        run = tensor_gemm_kernel(precision, tile, *layouts, end)
        launch_with_memory(run, blocks, tile.threads, tile.shared_bytes, stream, c, *others, a, b, parts)
    else:
        sums = room(stream, parts * rows * columns, np.float32)[: parts * rows * columns].reshape(parts, rows, columns)
        run = tensor_gemm_kernel(precision, tile, *layouts, gemm.part)
        launch_with_memory(run, blocks, tile.threads, tile.shared_bytes, stream, sums, *others, a, b, parts)
        launch(gemm.end_of_parts(end), elements_of(sums[0]), THREADS, stream, c, *others, sums)
    if ones:
        nothing = a[:, :0] if a_across else a[:0]
        gemm.multiply_simply(c, nothing, b, a_across, b_across, gemm.below(end), others, True, cut, stream)
