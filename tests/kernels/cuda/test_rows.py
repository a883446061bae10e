"""Metrics, weights of rows, kept outputs, gathered rows and means on the GPU."""

import numpy as np
import pytest

from tests.kernels.cuda import running
from tests.kernels.cuda.running import REALS, assert_close, numbers, put, sizes, unwritten

running.require()

from fastnn.kernels.cpu import metrics as cpu  # noqa: E402
from fastnn.kernels.cuda import metrics as kernels  # noqa: E402
from fastnn.kernels.cuda import reduce  # noqa: E402
from fastnn.kernels.cuda.gather import gather_rows  # noqa: E402
from fastnn.kernels.cuda.launch import FOUND, Stream  # noqa: E402
from fastnn.kernels.cuda.rows import keep_rows, weigh_rows  # noqa: E402
from fastnn.kernels.layout import NOT_FINITE, OK  # noqa: E402

pytestmark = running.LIKE_A_GPU

SHAPES = sizes([(1, 1), (9, 3), (5, 17)], [(1, 1), (33, 2), (1000, 10), (257, 101), (65, 4095)])
LENGTHS = sizes([1, 3, 17], [1, 100, 255, 4096, 100_003])


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("kind", ["labels", "one-hot"])
@pytest.mark.parametrize("k", [None, 2])
@pytest.mark.parametrize(("rows", "width"), SHAPES)
def test_accuracies(rows, width, k, kind, real):
    random = np.random.default_rng(0)
    y = random.integers(0, 4, (rows, width)).astype(real)  # many are equal
    y[0, 0] = np.nan
    labels = random.integers(0, width, (rows, 1))
    labels[-1] = 0
    target = (labels if kind == "labels" else np.eye(width)[labels[:, 0]]).astype(real)
    if kind == "labels" and width > 1:
        target[0] = width  # no class
    name, further = ("categorical_accuracy", ()) if k is None else ("top_k_accuracy", (k,))
    wanted, values = np.empty(rows), unwritten(rows, real)
    getattr(cpu, name)(wanted, y, target, *further, 0, 1)
    getattr(kernels, name)(values, put(y), put(target), *further, Stream())
    np.testing.assert_array_equal(values.copy_to_host(), wanted)


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("name", ["binary_accuracy", "squared_error", "absolute_error"])
@pytest.mark.parametrize(("rows", "width"), SHAPES)
def test_means_over_outputs(rows, width, name, real):
    y, target = numbers((rows, width), real), numbers((rows, width), real, 1)
    wanted, values = np.empty(rows), unwritten(rows, real)
    getattr(cpu, name)(wanted, y, target, 0, 1)
    getattr(kernels, name)(values, put(y), put(target), Stream())
    assert_close(values, wanted, real, 16)


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize(("rows", "width"), SHAPES)
def test_weights_of_rows(rows, width, real):
    losses, weights, dy = numbers(rows, real), numbers(rows, real, 1), numbers((rows, width), real, 2)
    stream, found, slopes = Stream(), put(losses), put(dy)
    weigh_rows(found, slopes, put(weights), stream)
    np.testing.assert_array_equal(found.copy_to_host(), losses * weights)
    np.testing.assert_array_equal(slopes.copy_to_host(), dy * weights[:, None])
    assert stream.status.copy_to_host()[FOUND] == OK
    weights[-1] = np.inf
    weigh_rows(put(losses), slopes, put(weights), stream)
    assert stream.status.copy_to_host()[FOUND] == NOT_FINITE


@pytest.mark.parametrize(("rows", "width"), SHAPES)
def test_kept_rows(rows, width):
    y = numbers((rows, width), np.float32)
    whole = unwritten((rows + 2, width), np.float32)
    keep_rows(whole[1:-1], put(y), Stream())
    found = whole.copy_to_host()
    np.testing.assert_array_equal(found[1:-1], y)
    assert np.isnan(found[[0, -1]]).all()


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("order", ["shuffled", "as they stand"])
@pytest.mark.parametrize("outputs", [0, 1, 3])
@pytest.mark.parametrize(("rows", "width"), SHAPES)
def test_gathered_rows(rows, width, outputs, order, real):
    data, targets = numbers((2 * rows + 3, width), real), numbers((2 * rows + 3, outputs), real, 1)
    chosen = np.random.default_rng(2).permutation(len(data)) if order == "shuffled" else np.arange(0)
    x, target = unwritten((rows, width), real), unwritten((rows, outputs), real)
    for first in (0, 2, put(np.array([rows + 3]))):
        start = first if isinstance(first, int) else rows + 3
        gather_rows(x, target, put(data), put(targets), put(chosen), first, Stream())
        wanted = chosen[start : start + rows] if len(chosen) else slice(start, start + rows)
        np.testing.assert_array_equal(x.copy_to_host(), data[wanted])
        np.testing.assert_array_equal(target.copy_to_host(), targets[wanted])


def test_columns_of_data_may_lie_apart():
    data = put(np.arange(24.0).reshape(4, 6))
    x, target = unwritten((2, 3), np.float64), unwritten((2, 1), np.float64)
    gather_rows(x, target, data[:, ::2], data[:, 5:], put(np.array([3, 0])), 0, Stream())
    assert x.copy_to_host().tolist() == [[18, 20, 22], [0, 2, 4]]
    assert target.copy_to_host().tolist() == [[23], [5]]


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("length", LENGTHS)
def test_mean(length, real):
    values, results = numbers(length, real, scale=100) + real(1000), unwritten(3, real, 7)
    reduce.mean(results, put(values), put(np.array([1])), Stream())
    found = results.copy_to_host()
    wanted = np.float64(values).mean() if real == np.float32 else np.longdouble(values).mean()
    assert abs(found[1] - wanted) <= 2 * np.finfo(real).eps * abs(wanted)
    assert found[[0, 2]].tolist() == [7, 7]


def test_mean_keeps_what_a_sum_loses():
    values = np.array([1e8, 1, -1e8, 1, 1e8, 1, -1e8, 1], np.float32)  # 1e8 + 1 is 1e8 in float32
    results = unwritten(1, np.float32)
    reduce.mean(results, put(values), 0, Stream())
    assert results.copy_to_host()[0] == 0.5


@pytest.mark.parametrize("width", [1, 2, 4, 5, 16, 17, 100, 4096])
def test_lanes_are_a_power_of_two_within_a_block(width):
    from fastnn.kernels.cuda.launch import THREADS

    lanes = reduce.lanes_of(width)
    assert 1 <= lanes <= THREADS and lanes & (lanes - 1) == 0 and THREADS % lanes == 0
