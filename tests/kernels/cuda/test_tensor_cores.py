"""Matrix multiplication on tensor cores: its own code, run by an emulated block of threads, and on a GPU.

Numba's simulator knows no tensor cores, so ``block.py`` takes its place. Small whole numbers are exact in every
precision: then a product has one right answer.
"""

import functools
import types

import numpy as np
import pytest

from asv_bench import gpu_precision
from tests.kernels.cuda.block import Block, Matrices, with_names
from tests.kernels.cuda.running import no_gpu, why_not_compiled
from tests.reference_products import integers, numbers
from tests.reference_tensor_cores import bf16, tf32

pytestmark = pytest.mark.skipif(why_not_compiled() is not None, reason=str(why_not_compiled()))

PRECISIONS = ["tf32", "3xtf32", "bf16"]

#: a_across, b_across: XW, dY·Wᵀ and Xᵀ·dY.
LAYOUTS = [(False, False), (False, True), (True, False)]

#: Two warps side by side, so that a test takes less than a second.
SMALL = (1, 2, 2, 2, 3)


def tensor_cores():
    from fastnn.kernels.cuda import tensor_cores

    return tensor_cores


def rows_apart(array, aligned):
    """The matrix among NaNs; its rows begin at multiples of 16 bytes, or one number behind them."""
    rows, columns = array.shape
    line = -(-columns // 4) * 4 + 4
    memory = np.full((rows + 1) * line + 4, np.nan, array.dtype)
    start = -memory.ctypes.data % 16 // 4 + (0 if aligned else 1)
    view = memory[start : start + rows * line].reshape(rows, line)[:, :columns]
    view[...] = array
    return view


def store(c, second, vector, x, y, row, column, total):
    """The end of a product: C = sum + vector, and how often each number was written."""
    c[row, column] = total + vector[column]
    second[row, column] += 1


def run(c, a, b, vector, precision, layout, tile=SMALL, parts=1, late=True, changed=None):
    """What the grid of blocks does. Returns how often each number of C was written."""
    module = tensor_cores()
    tile = module.Tile(*tile)
    written = np.zeros((parts, *c.shape[-2:]), int)
    rows, columns = c.shape[-2:]
    grid = -(-rows // tile.rows), -(-columns // tile.columns), parts
    for x, y, z in np.ndindex(grid):
        block = Block(tile.threads, tile.shared_bytes, Matrices(a, b), late)
        names = with_names(module, block.names((x, y, z)) | (changed(block) if changed else {}))
        aligned = module_aligned(a), module_aligned(b)
        kernel = names["tensor_gemm_kernel"](precision, tile, *layout, *aligned, types.SimpleNamespace(function=store))
        kernel(c if parts == 1 else c[z], written[z], vector, c, c, a, b, parts)
    return written


def module_aligned(array):
    return (array.ctypes.data | array.strides[0]) % 16 == 0


def operands(shape, layout, aligned, make):
    rows, depth, columns = shape
    a, b = make((rows, depth), np.float32, 1), make((depth, columns), np.float32, 2)
    stored_a, stored_b = a.T if layout[0] else a, b.T if layout[1] else b
    return a, b, rows_apart(stored_a, aligned[0]), rows_apart(stored_b, aligned[1])


def check_exact(shape, precision, layout, aligned, **options):
    a, b, stored_a, stored_b = operands(shape, layout, aligned, integers)
    vector = integers((shape[2],), np.float32, 3)
    parts = options.get("parts", 1)
    c = np.full((parts, shape[0], shape[2]), np.nan, np.float32)
    written = run(c if parts > 1 else c[0], stored_a, stored_b, vector, precision, layout, **options)
    np.testing.assert_array_equal((c - vector).sum(axis=0), a @ b)
    assert (written == 1).all()


@pytest.mark.parametrize("aligned", [(True, True), (False, True), (True, False)])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_ragged_product(precision, layout, aligned):
    """Several blocks, with rows, columns and depth that end in the middle of everything."""
    check_exact((35, 73, 37), precision, layout, aligned)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 33, 3), (3, 32, 1), (32, 96, 32), (2, 129, 5)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_sizes(shape, layout):
    check_exact(shape, "tf32", layout, (True, True))
    check_exact(shape, "bf16", layout, (True, True), late=False)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_parts_of_the_depth(layout):
    check_exact((18, 170, 9), "tf32", layout, (True, True), parts=4)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("number", [0, 1])
def test_tiles_in_use(number, layout):
    for precision in PRECISIONS if layout == (False, False) else ["tf32"]:
        tile = tensor_cores().TILES[precision][number]
        check_exact((tile.rows - 3, 37, tile.columns - 5), precision, layout, (True, True), tile=tile)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_error(precision):
    """The error is that of the rounding, and for 3xtf32 that of float32."""
    layout, shape = (False, False), (32, 250, 32)
    a, b, stored_a, stored_b = operands(shape, layout, (True, True), numbers)
    c = np.zeros((shape[0], shape[2]), np.float32)
    run(c, stored_a, stored_b, np.zeros(shape[2], np.float32), precision, layout)
    exact, size = np.float64(a) @ b, abs(np.float64(a)) @ abs(np.float64(b))
    error = (abs(c - exact) / size).max()
    fraction = {"tf32": 10, "3xtf32": 23, "bf16": 7}[precision]
    # Two operands, each off by half a unit in the last place; half as much again for the sums that cut off.
    assert error < 1.5 * 2.0**-fraction
    if precision != "3xtf32":
        rounded = {"tf32": tf32, "bf16": bf16}[precision]
        of_rounded = np.float64(rounded(a)) @ np.float64(rounded(b))
        assert (abs(c - of_rounded) / size).max() < 250 * 2.0**-24
        assert error > 0.05 * 2.0**-fraction


@pytest.mark.parametrize("operands", gpu_precision.OPERANDS)
@pytest.mark.parametrize("depth", [64, 1024])
def test_three_products_are_as_exact_as_float32(operands, depth):
    """The arithmetic alone, at depths that the emulated block is too slow for: the table in the documentation."""
    split, single = (gpu_precision.errors(precision, operands, depth) for precision in ("3xtf32", "float32"))
    assert split[0] <= single[0] and split[1] <= 1.5 * single[1]


@pytest.mark.parametrize("lane_count, read", [(32, 1), (8, 4)])
def test_every_thread_reads_from_banks_of_its_own(lane_count, read):
    """32 threads that read 4 bytes, or 8 that read 16, meet all 32 banks."""
    module = tensor_cores()
    place = module.place_along.py_func if read == 4 else functools.partial(module.place_across.py_func, width=64)
    for first in range(0, 32, lane_count):
        lane = np.arange(first, first + lane_count)
        for row in range(0, 64, 8):
            for k in range(0, module.DEPTH, module.SLAB) if read == 4 else range(4):
                banks = (place(row + (lane >> 2), k + 4 * (lane & 3))[:, None] + np.arange(read)) % 32
                assert len(np.unique(banks)) == 32


@pytest.mark.parametrize("width", [32, 64, 128])
def test_a_panel_has_a_place_for_each_number(width):
    module = tensor_cores()
    row, k = np.meshgrid(np.arange(width), np.arange(module.DEPTH))
    for places in (module.place_along.py_func(row, k), module.place_across.py_func(row, k, width)):
        assert sorted(places.ravel()) == list(range(width * module.DEPTH))


def broken(name, number):
    """A change of the block: the ``number``-th call of the instruction does nothing."""

    def change(block):
        calls = iter(range(10**6))
        whole = block.names((0, 0, 0))["cuda"].syncthreads if name == "syncthreads" else getattr(block, name)

        def instruction(*arguments):
            if next(calls) != number:
                whole(*arguments)

        if name != "syncthreads":
            return {name: instruction}
        block.syncthreads = instruction
        return block.names((0, 0, 0))

    return change


@pytest.mark.parametrize(
    "depth, name, number, complaint",
    [
        (96, "syncthreads", 0, "a race"),  # before the first panels are read
        (96, "syncthreads", 2, "a race"),  # before a panel is written over
        (32, "syncthreads", 1, "a race"),  # between the last panels and the sums that take their place
        (96, "syncthreads", 4, "a race"),  # between the sums that go to shared memory and those that come back
        (96, "wait_for_copies", 0, "under way"),
        (96, "wait_for_copies", 3, "under way"),
        (96, "commit_copies", 1, "under way"),
    ],
)
def test_what_is_missing_is_noticed(depth, name, number, complaint):
    layout = (False, False)
    *_, a, b = operands((32, depth, 32), layout, (True, True), integers)
    c, vector = np.zeros((32, 32), np.float32), np.zeros(32, np.float32)
    run(c, a, b, vector, "tf32", layout)
    with pytest.raises(AssertionError, match=complaint):
        run(c, a, b, vector, "tf32", layout, changed=broken(name, number))


def test_a_large_product_takes_large_tiles():
    module = tensor_cores()
    for precision, (large, small) in module.TILES.items():
        assert module.tile_of(4096, 4096, 4096, precision, False) == (large, 1)
        assert module.tile_of(256, 1024, 1024, precision, False) == (small, 1)
        tile, parts = module.tile_of(128, 64, 8192, precision, True)
        assert tile.shared_bytes <= 99 * 1024 and parts > 1


def test_more_than_48_kb_of_shared_memory_are_asked_for_before_the_launch(monkeypatch):
    """With a driver that notes what it is asked."""
    from numba.cuda.cudadrv import driver

    module, asked = tensor_cores(), []
    function = types.SimpleNamespace(handle=7, device=types.SimpleNamespace(id=1))
    compiled = types.SimpleNamespace(_codelibrary=types.SimpleNamespace(get_cufunc=lambda: function))
    kernel = types.SimpleNamespace(typeof_pyval=type, compile=lambda kinds: asked.append(kinds) or compiled)
    fake = types.SimpleNamespace(cuKernelSetAttribute=lambda *arguments: asked.append(arguments))
    monkeypatch.setattr(driver, "driver", fake)
    monkeypatch.setattr(module, "launch", lambda *arguments, shared: asked.append((arguments, shared)))
    module.launch_with_memory(kernel, (2, 3, 1), 128, 98304, "stream", 1.5, 2)
    attribute = driver.binding.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
    launched = (kernel, (2, 3, 1), 128, "stream", 1.5, 2), 98304
    assert asked == [(float, int), (attribute, 98304, 7, 1), launched]


def test_a_batch_may_have_more_rows_than_a_grid_has_blocks_down(monkeypatch):
    module, launched = tensor_cores(), []
    tile = module.TILES["tf32"][0]
    monkeypatch.setattr(module, "is_aligned", lambda array: True)
    monkeypatch.setattr(module, "launch_with_memory", lambda kernel, blocks, *further: launched.append(blocks))
    x, W, stream = np.empty((65_536 * tile.rows, 0)), np.empty((0, 5)), types.SimpleNamespace(precision="tf32")
    module.multiply(None, x, W, False, False, gemm_end(), (None,) * 4, False, False, stream)
    assert launched == [(65_536, 1, 1)]


def gemm_end():
    from fastnn.kernels.cuda import gemm

    return gemm.plain


def test_what_multiplies_is_the_stream_s_choice(monkeypatch):
    from fastnn.kernels.cuda import gemm

    called = []
    monkeypatch.setattr(tensor_cores(), "multiply", lambda *arguments: called.append("tensor cores"))
    monkeypatch.setattr(gemm, "multiply_simply", lambda *arguments: called.append("simply"))
    for precision, real in (("float32", np.float32), ("tf32", np.float32), ("bf16", np.float64)):
        stream = types.SimpleNamespace(precision=precision)
        gemm.multiply(None, None, np.zeros(1, real), False, False, gemm.plain, (), False, False, stream)
    assert called == ["simply", "tensor cores", "simply"]


@pytest.mark.skipif(no_gpu() is not None, reason=str(no_gpu()))
@pytest.mark.gpu
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_on_the_device(precision, layout):
    from numba import cuda

    from fastnn.kernels.cuda import gemm
    from fastnn.kernels.cuda.launch import Stream

    stream = Stream(precision=precision)
    bound = {"tf32": 2.0**-9, "3xtf32": 2.0**-20, "bf16": 2.0**-6}[precision]
    for shape in [(1, 1, 1), (37, 75, 45), (130, 1000, 257), (1024, 1024, 1024), (255, 4096, 1023)]:
        for make in (integers, numbers):
            a, b, stored_a, stored_b = operands(shape, layout, (True, True), make)
            c = cuda.to_device(np.full((shape[0], shape[2]), np.nan, np.float32))
            stored_a, stored_b = cuda.to_device(stored_a), cuda.to_device(stored_b)
            results = []
            for _ in range(2):
                gemm.multiply(c, stored_a, stored_b, *layout, gemm.plain, (c, c, c, c), False, True, stream)
                results.append(c.copy_to_host())
            np.testing.assert_array_equal(*results)
            exact, size = np.float64(a) @ b, abs(np.float64(a)) @ abs(np.float64(b))
            assert (abs(results[0] - exact) <= (0 if make is integers else bound) * size).all()
