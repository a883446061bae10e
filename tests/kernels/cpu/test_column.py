"""Products with a single column: right, the same bits whatever rows there are, within their memory."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastnn.kernels.cpu.column import multiply_column
from fastnn.kernels.cpu.vectors import VECTOR_BYTES
from fastnn.kernels.jit import kernel
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


@kernel
def multiplied(c, a, b, start, workspace, has_start, rectified):
    """c = s + A·b. (It needs no workspace.)"""
    multiply_column(
        c.ctypes.data, a.ctypes.data, a.strides[0] // a.itemsize, b.ctypes.data, start.ctypes.data if has_start else 0,
        a.shape[0], a.shape[1], rectified, a.dtype.type,
    )  # fmt: skip


def run(c, a, b, start=None, rectified=0):
    function = for_any_strides(multiplied, c.dtype.type, 1, 1, 2, 1, 1)
    function(c, a, b, c if start is None else start, np.empty(1, np.int64), start is not None, rectified)
    return c


@pytest.mark.parametrize("real", REALS)
def test_every_edge_of_a_vector_and_of_the_lanes(real):
    length, lanes = VECTOR_BYTES // np.dtype(real).itemsize, 64 // np.dtype(real).itemsize
    for rows in {1, 2, length - 1, length, length + 1, 2 * length, 3 * length + 2}:
        for depth in {1, 2, lanes - 1, lanes, lanes + 1, 2 * lanes + 3, 40 * lanes}:
            a, b = (padded(integers(shape, real, 1))[1] for shape in ((rows, depth), depth))
            start = padded(integers(1, real, 2))[1]
            for some_start in (None, start):
                whole, c = unwritten(rows, real)
                expected = product(a, b, 0 if some_start is None else start)
                np.testing.assert_array_equal(run(c, a, b, some_start), expected)
                np.testing.assert_array_equal(run(c, a, b, some_start, 1), np.maximum(expected, 0))
                assert_canaries(whole, c)


@pytest.mark.parametrize("real", REALS)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_a_number_has_the_same_bits_whatever_rows_there_are(data, real):
    rows, depth = data.draw(st.integers(1, 70)), data.draw(st.integers(1, 200))
    a, b, start = padded(numbers((rows, depth), real, 1))[1], numbers(depth, real, 2), numbers(1, real, 3)
    c = run(np.empty(rows, real), a, b, start)
    assert_product(c[:, None], a, b[:, None], start)
    first = data.draw(st.integers(0, rows - 1))
    part = slice(first, data.draw(st.integers(first + 1, rows)))
    assert_same_bits(run(np.empty(part.stop - first, real), a[part], b, start), c[part])


@pytest.mark.parametrize("real", REALS)
def test_what_is_not_finite_stays_in_its_row(real):
    a, b = integers((40, 30), real, 1), np.ones(30, real)
    expected = np.maximum(product(a, b), 0)
    for number, result in ((np.nan, np.nan), (np.inf, np.inf), (-np.inf, 0)):
        spoiled, right = a.copy(), expected.copy()
        spoiled[7, 29], right[7] = number, result
        np.testing.assert_array_equal(run(np.empty(40, real), spoiled, b, None, 1), right)


@pytest.mark.parametrize("real", REALS)
def test_nothing_to_do(real):
    assert run(np.empty(0, real), np.empty((0, 3), real), np.ones(3, real)).shape == (0,)


@pytest.mark.parametrize("real", REALS)
def test_sums_are_as_exact_as_lanes_make_them(real):
    """10,000 numbers of one sign, where a single sum would be off by hundreds of units."""
    a, b = np.abs(numbers((3, 10_000), real, 1)), np.ones(10_000, real)
    error = run(np.empty(3, real), a, b) / np.sum(a, axis=1, dtype=np.longdouble) - 1
    assert abs(error).max() < 60 * np.finfo(real).eps
