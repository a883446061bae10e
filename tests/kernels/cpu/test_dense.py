"""The dense layer: the twins, canaries, the same bits for any slice and any number of workers, its plan."""

import functools
import itertools
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastnn.kernels import layout
from fastnn.kernels.cpu import dense as kernels
from fastnn.kernels.cpu.gemm import (
    COLUMN_BLOCK,
    CROSSED_STRIDE,
    DEPTH_BLOCK,
    FEW_ROWS,
    LONG_ROWS,
    MANY_COLUMNS,
    MANY_LINES,
    ONE_BLOCK,
    ROW_BLOCK,
    SHARED_DEPTH_BLOCK,
    workspace,
)
from fastnn.kernels.cpu.tile import TILE_HEIGHT
from fastnn.kernels.cpu.vectors import VECTOR_BYTES
from fastnn.kernels.jit import COMPILED
from tests.reference import record, run_plan
from tests.reference_products import (
    REALS,
    assert_canaries,
    assert_product,
    assert_same_bits,
    for_any_strides,
    integers,
    numbers,
    padded,
    product,
    unwritten,
)

compiled_only = pytest.mark.skipif(not COMPILED, reason="np.matmul does not promise the same bits for a slice")


@functools.cache
def room(real, workers=1):
    """A workspace whose room for packing holds NaN: what is not packed must not matter."""
    memory = workspace(real, workers)
    memory.reshape(workers, -1)[:, 8:] = -1
    return memory


def run_forward(x, W, b, size=1, extra=0):
    real = x.dtype.type
    function = for_any_strides(kernels.dense_forward, real, 1, 2, 2, 2, 1)
    whole, y = unwritten((x.shape[0], W.shape[1]), real, extra)
    inputs = [padded(array, extra)[1] for array in (x, W, b)]
    for rank in reversed(range(size)):
        function(y, *inputs, room(real), rank, size)
    return finished(whole, y)


def run_backward_input(dy, W, size=1, extra=0):
    real = dy.dtype.type
    function = for_any_strides(kernels.dense_backward_input, real, 1, 2, 2, 2)
    whole, dx = unwritten((dy.shape[0], W.shape[0]), real, extra)
    inputs = [padded(array, extra)[1] for array in (dy, W)]
    for rank in reversed(range(size)):
        function(dx, *inputs, room(real), rank, size)
    return finished(whole, dx)


def run_backward_weights(dy, x, size=1, extra=0, bias=True):
    real = dy.dtype.type
    function = for_any_strides(kernels.dense_backward_weights, real, 2, 2, 1, 2, 2)
    whole, dW = unwritten((x.shape[1], dy.shape[1]), real, extra)
    whole_db, db = unwritten(dy.shape[1] if bias else 0, real)
    inputs = [padded(array, extra)[1] for array in (dy, x)]
    for rank in reversed(range(size)):
        function(dW, db, *inputs, room(real), rank, size)
    return finished(whole, dW), finished(whole_db, db)


def finished(whole, view):
    """A copy of a kernel's output, after a look at what lies around it."""
    result = view.copy()
    assert_canaries(whole, view)
    return result


def run_all(x, W, b, dy, **options):
    """y, dx, dW, db."""
    return (
        run_forward(x, W, b, **options),
        run_backward_input(dy, W, **options),
        *run_backward_weights(dy, x, **options),
    )


def arrays(rows, inputs, units, real, make=numbers):
    """x, W, b, dy."""
    shapes = (rows, inputs), (inputs, units), units, (rows, units)
    return [make(shape, real, seed) for seed, shape in enumerate(shapes)]


def check_exactly(rows, inputs, units, real):
    x, W, b, dy = arrays(rows, inputs, units, real, integers)
    expected = product(x, W, b), product(dy, W.T), product(x.T, dy), dy.sum(axis=0)
    for result, right in zip(run_all(x, W, b, dy), expected, strict=True):
        np.testing.assert_array_equal(result, right)


def check_closely(rows, inputs, units, real):
    x, W, b, dy = arrays(rows, inputs, units, real)
    y, dx, dW, db = run_all(x, W, b, dy)
    assert_product(y, x, W, b)
    assert_product(dx, dy, W.T)
    assert_product(dW, x.T, dy)
    assert_product(db[None], np.ones((1, rows), real), dy)


# The twins


@pytest.mark.parametrize("real", REALS)
def test_every_edge_of_a_tile(real):
    length = VECTOR_BYTES // np.dtype(real).itemsize
    widths = sorted({1, 2, length - 1, length, length + 1, 2 * length - 1, 2 * length, 2 * length + 1, 4 * length + 3})
    for rows, units in itertools.product(range(1, TILE_HEIGHT + 2), widths):
        check_exactly(rows, 5, units, real)
        check_exactly(3, rows, units, real)  # the rows of dW
    for inputs, rows in itertools.product((1, 2, *widths), (1, 2, TILE_HEIGHT + 1)):
        check_exactly(rows, inputs, 3, real)


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize(
    "deep", [n * block + off for block in (SHARED_DEPTH_BLOCK, DEPTH_BLOCK) for n in (1, 2) for off in (-1, 0, 1)]
)
def test_every_edge_of_a_block_of_the_depth(deep, real):
    for few, wide in ((1, 1), (13, 33), (61, 70)):
        check_exactly(few, deep, wide, real)
        check_exactly(deep, few, wide, real)
        check_exactly(few, wide, deep, real)


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("wide", [COLUMN_BLOCK - 1, COLUMN_BLOCK, COLUMN_BLOCK + 1])
def test_every_edge_of_a_block_of_columns_and_rows(wide, real):
    deep = 260
    most = ONE_BLOCK // np.dtype(real).itemsize  # rows of one block; more are blocks of ROW_BLOCK
    assert most % ROW_BLOCK == 0
    for rows in (FEW_ROWS - 1, FEW_ROWS, most - 1, most, most + 1):
        check_exactly(rows, deep, wide, real)
    check_exactly(deep, wide, 7, real)
    check_exactly(7, wide, deep, real)


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("inputs", [LONG_ROWS - 8, LONG_ROWS - 6, LONG_ROWS - 5, LONG_ROWS - 4, LONG_ROWS, 300])
def test_rows_that_are_read_across(inputs, real):
    # The rows of a padded array are 5 numbers further apart, so both paths are taken.
    for rows, units in ((1, 1), (30, 40), (MANY_LINES, MANY_COLUMNS), (MANY_LINES + 1, MANY_COLUMNS - 1)):
        check_exactly(rows, inputs, units, real)
    for units in (9, MANY_COLUMNS):
        check_exactly(DEPTH_BLOCK + 1, inputs, units, real)


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("units", [MANY_COLUMNS - 1, MANY_COLUMNS])
def test_rows_that_evict_one_another(units, real):
    inputs = CROSSED_STRIDE // np.dtype(real).itemsize
    for rows in (1, 30):
        check_exactly(rows, inputs, units, real)


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (7, 40, 19), (64, 64, 64), (100, 784, 10), (300, 1537, 33), (50, 300, 1030)]
)
def test_the_products_are_the_twins(shape, real):
    check_closely(*shape, real)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 70), st.sampled_from(REALS))
def test_any_shape_is_the_twins(rows, inputs, units, real):
    check_closely(rows, inputs, units, real)
    check_exactly(rows, inputs, units, real)


@pytest.mark.parametrize("real", REALS)
def test_contiguous_arrays(real):
    x, W, b, dy = arrays(9, 20, 30, real)
    y, dx, dW, db = (np.full_like(array, np.nan) for array in (dy, x, W, b))
    kernels.dense_forward(y, x, W, b, room(real), 0, 1)
    kernels.dense_backward_input(dx, dy, W, room(real), 0, 1)
    kernels.dense_backward_weights(dW, db, dy, x, room(real), 0, 1)
    for result, other in zip((y, dx, dW, db), run_all(x, W, b, dy), strict=True):
        np.testing.assert_allclose(result, other, rtol=0 if COMPILED else 1e-4)


@pytest.mark.parametrize("real", REALS)
def test_no_bias(real):
    x, W, _, dy = arrays(5, 20, 30, real)
    np.testing.assert_array_equal(run_forward(x, W, np.zeros(0, real)), run_forward(x, W, np.zeros(30, real)))
    dW, db = run_backward_weights(dy, x, bias=False)
    np.testing.assert_array_equal(dW, run_backward_weights(dy, x)[0])
    assert db.shape == (0,)


@pytest.mark.parametrize("real", REALS)
def test_nothing_to_do(real):
    x, W, b, dy = arrays(3, 4, 5, real)
    assert run_forward(x[:0], W, b).shape == (0, 5)
    assert run_forward(x, W[:, :0], b[:0]).shape == (3, 0)
    assert run_backward_input(dy[:0], W).shape == (0, 4)
    assert run_backward_input(dy, W[:0]).shape == (3, 0)
    dW, db = run_backward_weights(dy[:, :0], x)
    assert (dW.shape, db.shape) == ((4, 0), (0,))
    dW, db = run_backward_weights(dy, x[:, :0])
    assert dW.shape == (0, 5)
    np.testing.assert_allclose(db, dy.sum(axis=0), rtol=1e-5)


# NaN and infinity go where they belong, and nowhere else


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", [(5, 6, 7), (30, 70, 40), (60, 900, 330)])
def test_nan_and_infinity_stay_in_their_row(shape, bad, real):
    rows, inputs, units = shape
    x, W, b, dy = arrays(*shape, real, make=lambda *arguments: integers(*arguments) + 5)  # no zeros: 0 · inf is NaN
    y, dx, dW, db = run_all(x, W, b, dy)

    def spoiled(array, place, results, expected):
        changed = array.copy()
        changed[place] = bad
        for result, (right, where) in zip(results(changed), expected, strict=True):
            spoiled_right = right.copy()
            spoiled_right[where] = bad
            np.testing.assert_array_equal(result, spoiled_right)

    row, column, unit = rows // 2, inputs - 2, units - 1
    spoiled(x, (row, column), lambda x: [run_forward(x, W, b)], [(y, row)])
    spoiled(x, (row, column), lambda x: run_backward_weights(dy, x), [(dW, column), (db, slice(0))])
    spoiled(dy, (row, unit), lambda dy: [run_backward_input(dy, W)], [(dx, row)])
    spoiled(dy, (row, unit), lambda dy: run_backward_weights(dy, x), [(dW, np.s_[:, unit]), (db, unit)])
    spoiled(W, (column, unit), lambda W: [run_forward(x, W, b)], [(y, np.s_[:, unit])])
    spoiled(W, (column, unit), lambda W: [run_backward_input(dy, W)], [(dx, np.s_[:, column])])
    spoiled(b, unit, lambda b: [run_forward(x, W, b)], [(y, np.s_[:, unit])])


# The same bits


#: Both sides of every decision: FEW_ROWS, LONG_ROWS, the depth, the columns, a single column.
SHAPES = [
    (5, 3, 2),
    (40, 100, 50),
    (130, 784, 70),
    (FEW_ROWS + 1, 800, 400),
    (70, 1600, 200),
    (61, 260, 1100),
    (1600, 300, 20),
    (900, 350, 170),
    (3, 2, 1030),
    (900, 1600, 1),
    (60, 1, 1),
]


def cuts(length, seed):
    """Some slices of ``length`` things: each end, one thing alone, pieces of any size."""
    random = np.random.default_rng(seed)
    yield from (slice(0, 1), slice(length - 1, length), slice(0, length - length // 3))
    for _ in range(4):
        first = int(random.integers(length))
        yield slice(first, int(random.integers(first, length)) + 1)
    if length > FEW_ROWS:
        yield from (slice(1, FEW_ROWS), slice(length - FEW_ROWS, length))


def assert_same_dx(dy, W, part, dx):
    """A single row is a batch of its own kind: its dx is summed in another order than that of a row among others."""
    if part.stop - part.start > 1 or len(dy) == 1:
        assert_same_bits(run_backward_input(dy[part], W), dx[part])
    else:
        assert_product(run_backward_input(dy[part], W), dy[part], W.T)


@compiled_only
@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_slice_alone_has_the_same_bits(shape, real):
    rows, inputs, units = shape
    x, W, b, dy = arrays(*shape, real)
    y, dx, dW, db = run_all(x, W, b, dy)
    for part in cuts(rows, 0):
        assert_same_bits(run_forward(x[part], W, b), y[part])
        assert_same_dx(dy, W, part, dx)
    for part in cuts(units, 1):
        assert_same_bits(run_forward(x, W[:, part], b[part]), y[:, part])
        some_dW, some_db = run_backward_weights(dy[:, part], x)
        assert_same_bits(some_dW, dW[:, part])
        assert_same_bits(some_db, db[part])
    for part in cuts(inputs, 2):
        assert_same_bits(run_backward_input(dy, W[part]), dx[:, part])
        assert_same_bits(run_backward_weights(dy, x[:, part])[0], dW[part])


@compiled_only
@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize(("inputs", "units"), [(1, 1), (7, 40), (40, 7), (100, 1), (1, 100)])
def test_a_batch_of_a_single_row(inputs, units, real):
    x, W, b, dy = arrays(1, inputs, units, real)
    y, dx, dW, db = run_all(x, W, b, dy)
    assert_product(dx, dy, W.T)
    for part in cuts(inputs, 2):
        assert_same_bits(run_backward_input(dy, W[part]), dx[:, part])
    for result, other in zip(run_all(x, W, b, dy, size=3), (y, dx, dW, db), strict=True):
        assert_same_bits(result, other)


@compiled_only
@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize(("rows", "inputs", "units"), [(40, 30, 1), (900, 1600, 1), (40, 1, 30), (7, 1, 1)])
def test_contiguous_columns(rows, inputs, units, real):
    """Columns whose numbers lie side by side have products of their own, with the same bits for any slice of rows."""
    x, W, b, dy = arrays(rows, inputs, units, real)

    def products(rows, size=1):
        some_x, some_dy = np.ascontiguousarray(x[rows]), np.ascontiguousarray(dy[rows])
        y, dx, dW, db = (np.full_like(array, np.nan) for array in (some_dy, some_x, W, b))
        for rank in range(size):
            kernels.dense_forward(y, some_x, W, b, room(real), rank, size)
            kernels.dense_backward_input(dx, some_dy, W, room(real), rank, size)
            kernels.dense_backward_weights(dW, db, some_dy, some_x, room(real), rank, size)
        return y, dx, dW, db

    y, dx, dW, db = products(slice(rows))
    assert_product(y, x, W, b)
    assert_product(dx, dy, W.T)
    assert_product(dW, x.T, dy)
    for result, expected in zip(products(slice(rows), 3), (y, dx, dW, db), strict=True):
        assert_same_bits(result, expected)
    some_y, some_dx, *_ = products(slice(2, 5))
    assert_same_bits(some_y, y[2:5])
    assert_same_bits(some_dx, dx[2:5])


@compiled_only
@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_distance_of_rows_does_not_matter(shape, real):
    some = arrays(*shape, real)
    for result, other in zip(run_all(*some), run_all(*some, extra=LONG_ROWS), strict=True):
        assert_same_bits(result, other)


@compiled_only
@settings(deadline=None, max_examples=60)
@given(st.data(), st.sampled_from(REALS))
def test_any_slice_alone_has_the_same_bits(data, real):
    rows, inputs, units = (data.draw(st.integers(1, 60)) for _ in range(3))
    first = data.draw(st.integers(0, rows - 1))
    part = slice(first, data.draw(st.integers(first + 1, rows)))
    x, W, b, dy = arrays(rows, inputs, units, real)
    assert_same_bits(run_forward(x[part], W, b), run_forward(x, W, b)[part])
    assert_same_dx(dy, W, part, run_backward_input(dy, W))
    x, _, _, dy = arrays(inputs, rows, units, real)  # now it is the rows of dW
    assert_same_bits(run_backward_weights(dy, x[:, part])[0], run_backward_weights(dy, x)[0][part])


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("size", [2, 3, 4, 8])
@pytest.mark.parametrize("shape", [(5, 3, 2), (100, 90, 37), (6, 800, 330)])
def test_any_number_of_workers(shape, size, real):
    some = arrays(*shape, real, integers)  # whole numbers: exact with NumPy's product, too
    for result, other in zip(run_all(*some), run_all(*some, size=size), strict=True):
        assert_same_bits(result, other)


@compiled_only
@pytest.mark.parametrize("size", [2, 3, 8])
def test_workers_have_the_same_bits(size):
    for shape in SHAPES:
        some = arrays(*shape, np.float32)
        for result, other in zip(run_all(*some), run_all(*some, size=size), strict=True):
            assert_same_bits(result, other)


def test_a_worker_writes_its_share_alone():
    x, W, b, dy = arrays(10, 7, 11, np.float32, integers)
    y, dx, dW, db = (np.full_like(array, np.nan) for array in (dy, x, W, b))
    kernels.dense_forward(y, x, W, b, room(np.float32), 1, 3)
    kernels.dense_backward_input(dx, dy, W, room(np.float32), 1, 3)
    kernels.dense_backward_weights(dW, db, dy, x, room(np.float32), 1, 3)
    shares = slice(3, 6), slice(3, 6), slice(2, 4), slice(3, 7)
    for result, share, whole in zip((y, dx, dW, db), shares, run_all(x, W, b, dy), strict=True):
        np.testing.assert_array_equal(result[share], whole[share])
        assert np.isnan(np.delete(result, share, axis=0)).all()


@compiled_only
def test_workers_in_threads_pack_into_their_own_room():
    x, W, b, dy = arrays(400, 900, 330, np.float32)
    whole = run_all(x, W, b, dy)
    y, dx, dW, db = (np.full_like(array, np.nan) for array in (dy, x, W, b))
    parts = room(np.float32, 4).reshape(4, -1)

    def work(rank):
        kernels.dense_forward(y, x, W, b, parts[rank], rank, 4)
        kernels.dense_backward_input(dx, dy, W, parts[rank], rank, 4)
        kernels.dense_backward_weights(dW, db, dy, x, parts[rank], rank, 4)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result, expected in zip((y, dx, dW, db), whole, strict=True):
        assert_same_bits(result, expected)


# A plan's functions


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("x_place, y_place", [(3, 70), (layout.NOWHERE, layout.PREDICTIONS)])
def test_plan(x_place, y_place, bias, real):
    rows, inputs, units, capacity, first, last = 9, 20, 30, 12, 2, 7
    x, W, b, dy = arrays(rows, inputs, units, real, integers)
    parameters, gradients = (np.full(700, np.nan, real) for _ in range(2))
    activations, derivatives = (np.full(150 * capacity, np.nan, real) for _ in range(2))
    predictions = np.full((rows, units), np.nan, real)

    def block(arena, place, width):
        return arena[place * capacity : place * capacity + rows * width].reshape(rows, width)

    parameters[5 : 5 + W.size], parameters[650 : 650 + units] = W.ravel(), b
    if x_place >= 0:
        block(activations, x_place, inputs)[...] = x
    block(derivatives, 40, units)[...] = dy
    run = record(
        layout.RUN_FIELDS,
        {
            layout.PARAMETERS: parameters,
            layout.GRADIENTS: gradients,
            layout.ACTIVATIONS: activations,
            layout.DERIVATIVES: derivatives,
            layout.ARENA_ROWS: capacity,
            layout.INPUT: x,
            layout.OUTPUT: predictions,
            layout.SUMMED_ROWS: rows,
            layout.WORKSPACE: room(real),
        },
    )
    fields = {layout.INPUTS: inputs, layout.OUTPUTS: units, layout.X: x_place, layout.Y: y_place, layout.DX: 100}
    operation = record(layout.OPERATION_FIELDS, fields | {layout.DY: 40, layout.W: 5, layout.B: 650 if bias else -1})

    def check(function, arena, result, expected):
        """The function writes its part of the result, and nothing else of the arena."""
        before = arena.copy()
        assert run_plan(function, run, operation, first, last) == layout.OK
        np.testing.assert_array_equal(result[first:last], expected[first:last])
        result[first:last] = np.nan
        np.testing.assert_array_equal(arena, before)

    on_arena = y_place != layout.PREDICTIONS
    y = block(activations, y_place, units) if on_arena else predictions
    expected = run_forward(x, W, b if bias else b[:0])
    check(kernels.plan_dense_forward(real), activations if on_arena else predictions, y, expected)
    expected = run_backward_input(dy, W)
    check(kernels.plan_dense_backward(real), derivatives, block(derivatives, 100, inputs), expected)
    dW, db = run_backward_weights(dy, x)
    check(kernels.plan_dense_weights(real), gradients, gradients[5 : 5 + W.size].reshape(W.shape), dW)
    if bias:
        check(kernels.plan_dense_bias(real), gradients, gradients[650 : 650 + units], db)
