"""The three products of a dense layer, with what is fused to them: against float64, the CPU, and for the same bits."""

import numpy as np
import pytest

from tests.kernels.cuda import running
from tests.kernels.cuda.running import REALS, numbers, put, sizes, unwritten

running.require()

from fastnn.kernels.cuda import dense, gemm  # noqa: E402
from fastnn.kernels.cuda.activations import kept_slope  # noqa: E402
from fastnn.kernels.cuda.launch import Stream, room  # noqa: E402
from fastnn.kernels.formulas.activations import ACTIVATIONS  # noqa: E402

pytestmark = running.LIKE_A_GPU

#: rows, inputs, units
SHAPES = sizes(
    [(1, 1, 1), (5, 7, 9), (17, 4, 3), (3, 17, 17)],
    [(1, 1, 1), (1, 4096, 10), (32, 784, 256), (127, 129, 33), (1000, 65, 1023), (4096, 1025, 4095), (4095, 16, 1)],
)
#: Rows that are cut into parts.
TALL = sizes([(17, 3, 2), (16, 3, 3), (13, 1, 1)], [(4096, 64, 64), (4095, 33, 10), (1023, 784, 1)])


def errors(found, a, b, plus=0.0):
    """Of a product: its errors in units in the last place of the sum of the products' magnitudes."""
    real = found.dtype.type
    a, b = np.float64(a), np.float64(b)
    size = abs(a) @ abs(b) + abs(plus)
    return np.abs(found - (a @ b + plus)) / (size * np.finfo(real).eps + np.finfo(real).tiny)


def bound(depth):
    """Errors of ``depth`` roundings that go up and down: six times what is expected, and one rounding for sure."""
    return 1 + 6 * np.sqrt(depth) / 2


def padded(array, extra):
    """An array of the same numbers on the device whose rows lie ``extra`` numbers further apart."""
    whole = np.full((array.shape[0], array.shape[1] + extra), np.nan, array.dtype)
    whole[:, : array.shape[1]] = array
    return put(whole)[:, : array.shape[1]]


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize(("rows", "inputs", "units"), SHAPES)
def test_products(rows, inputs, units, real):
    check_products(rows, inputs, units, real, 0)


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize(("rows", "inputs", "units"), SHAPES[1:2])
def test_products_of_rows_that_lie_apart(rows, inputs, units, real):
    check_products(rows, inputs, units, real, 3)


def check_products(rows, inputs, units, real, extra):
    x, W, dy = numbers((rows, inputs), real), numbers((inputs, units), real, 1), numbers((rows, units), real, 2)
    b, stream = numbers(units, real, 3), Stream()
    arrays = [padded(array, extra) if extra else put(array) for array in (x, W, dy)]
    y, dx, dW, db = (unwritten(shape, real) for shape in ((rows, units), (rows, inputs), (inputs, units), units))
    dense.dense_forward(y, arrays[0], arrays[1], put(b), stream)
    dense.dense_backward_input(dx, arrays[2], arrays[1], stream)
    dense.dense_backward_weights(dW, db, arrays[2], arrays[0], stream)
    assert (errors(y.copy_to_host(), x, W, b) <= bound(inputs)).all()
    assert (errors(dx.copy_to_host(), dy, W.T) <= bound(units)).all()
    assert (errors(dW.copy_to_host(), x.T, dy) <= bound(rows)).all()
    assert (errors(db.copy_to_host(), np.ones((1, rows)), dy)[0] <= bound(rows)).all()


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize(("rows", "inputs", "units"), TALL)
def test_gradients_over_tall_batches(rows, inputs, units, real):
    tile, parts = gemm.tile_of(inputs + 1, units, rows, real, True)
    assert parts > 1, tile
    x, dy, stream = numbers((rows, inputs), real), numbers((rows, units), real, 1), Stream()
    sums = room(stream, parts * (inputs + 1) * units, real)
    sums.copy_to_device(np.full(sums.shape, np.nan, real))  # what no block writes must not matter
    dW, db = unwritten((inputs, units), real), unwritten(units, real)
    dense.dense_backward_weights(dW, db, put(dy), put(x), stream)
    assert (errors(dW.copy_to_host(), x.T, dy) <= bound(rows)).all()
    assert (errors(db.copy_to_host(), np.ones((1, rows)), dy)[0] <= bound(rows)).all()


@pytest.mark.parametrize("real", REALS)
def test_weights_alone_and_bias_alone(real):
    x, dy, stream = numbers((6, 3), real), numbers((6, 5), real, 1), Stream()
    dW, db = unwritten((3, 5), real), unwritten(5, real)
    dense.dense_backward_weights(dW, unwritten(0, real), put(dy), put(x), stream)
    dense.dense_backward_weights(unwritten((0, 0), real), db, put(dy), put(x[:, :0]), stream)
    assert (errors(dW.copy_to_host(), x.T, dy) <= bound(6)).all()
    assert (errors(db.copy_to_host(), np.ones((1, 6)), dy)[0] <= bound(6)).all()
    y = unwritten((6, 5), real)
    W = numbers((3, 5), real, 2)
    dense.dense_forward(y, put(x), put(W), unwritten(0, real), stream)
    assert (errors(y.copy_to_host(), x, W) <= bound(3)).all()


def assert_alike(found, wanted, real):
    """The same bits in the simulator; a compiler may fuse a product and a sum in one kernel and not in another."""
    running.assert_close(found, wanted.copy_to_host(), real, ulps=0 if running.simulated() else 8)


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("name", ["relu", "gelu"])
@pytest.mark.parametrize(("rows", "inputs", "units"), SHAPES[1:3])
def test_fused_ends_do_what_kernels_do_one_by_one(rows, inputs, units, name, real):
    from fastnn.kernels.cuda.activations import activation_backward, activation_forward, activation_forward_keeping

    value, slope, stream = ACTIVATIONS[name].value, ACTIVATIONS[name].slope, Stream()
    x, W, b = put(numbers((rows, inputs), real)), put(numbers((inputs, units), real, 1)), put(numbers(units, real, 2))
    z, y, fused, kept = (unwritten((rows, units), real) for _ in range(4))
    dense.dense_forward(z, x, W, b, stream)
    activation_forward(value)(y, z, stream)
    dense.dense_forward_activated(value)(fused, x, W, b, stream)
    assert_alike(fused, y, real)
    dense.dense_forward_keeping(value, slope)(fused, kept, x, W, b, stream)
    slopes = put(z.copy_to_host())
    activation_forward_keeping(value, slope)(y, slopes, stream)
    assert_alike(fused, y, real)
    assert_alike(kept, slopes, real)
    # And back through a layer above it, of three units.
    dy, above, dx, wanted = (
        put(numbers((rows, 3), real, 3)),
        put(numbers((units, 3), real, 4)),
        *(unwritten((rows, units), real) for _ in range(2)),
    )
    dense.dense_backward_input(wanted, dy, above, stream)
    activation_backward(slope)(wanted, wanted, z, y, stream)
    dense.dense_backward_input_sloped(slope)(dx, dy, above, z, y, stream)
    assert_alike(dx, wanted, real)
    dense.dense_backward_input_sloped(kept_slope)(dx, dy, above, kept, y, stream)
    assert_alike(dx, wanted, real)


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize(("rows", "inputs", "units"), SHAPES[1:2])
def test_every_tile_has_the_same_bits(rows, inputs, units, real, monkeypatch):
    x, W, b = numbers((rows, inputs), real), numbers((inputs, units), real, 1), numbers(units, real, 2)
    results = []
    for tile in gemm.tiles_for(real):
        monkeypatch.setattr(gemm, "tile_of", lambda *_, tile=tile: (tile, 1))
        y = unwritten((rows, units), real)
        dense.dense_forward(y, put(x), put(W), put(b), Stream())
        results.append(y.copy_to_host())
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


@pytest.mark.parametrize(("rows", "inputs", "units"), TALL)
def test_same_bits_on_every_run(rows, inputs, units):
    x, dy, stream = put(numbers((rows, inputs), np.float32)), put(numbers((rows, units), np.float32, 1)), Stream()
    results = []
    for _ in range(2 if running.simulated() else 20):
        dW, db = unwritten((inputs, units), np.float32), unwritten(units, np.float32)
        dense.dense_backward_weights(dW, db, dy, x, stream)
        results.append((dW.copy_to_host(), db.copy_to_host()))
    for result in results[1:]:
        np.testing.assert_array_equal(result[0], results[0][0])
        np.testing.assert_array_equal(result[1], results[0][1])


def test_nothing_around_an_output_is_written():
    whole = put(np.full((9, 9), 7.0, np.float32))
    y = whole[2:7, 1:6]
    dense.dense_forward(
        y, put(numbers((5, 3), np.float32)), put(numbers((3, 5), np.float32)), put(np.zeros(5, np.float32)), Stream()
    )
    found = whole.copy_to_host()
    assert (found[2:7, 1:6] != 7).all()
    found[2:7, 1:6] = 7
    assert (found == 7).all()


@pytest.mark.parametrize("real", REALS)
def test_tiles_fit_a_block(real):
    for tile in gemm.tiles_for(real):
        assert tile.rows % tile.group == 0 and tile.columns % tile.group == 0
        assert tile.high % tile.rows == 0 and tile.wide % tile.columns == 0
        assert tile.threads <= 1024
