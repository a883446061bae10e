"""Dropout: the mask is the twin's, for any slicing, and backward draws the same one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastnn.kernels.cpu.dropout import (
    apply_mask,
    dropout_backward,
    dropout_forward,
    dropout_mask,
    plan_dropout_backward,
    plan_dropout_forward,
)
from fastnn.kernels.jit import COMPILED
from fastnn.kernels.layout import (
    ACTIVATIONS,
    ARENA_ROWS,
    DERIVATIVES,
    DX,
    DY,
    INPUTS,
    LAYER,
    NOWHERE,
    OK,
    OPERATION_FIELDS,
    OPTION,
    OPTIONS,
    RUN_FIELDS,
    SEED,
    STEP,
    X,
    Y,
)
from tests import reference

REALS = [np.float32, np.float64]


def threshold_of(probability):
    return min(round(probability * 2**32), 2**32 - 1)


def numbers(shape, real, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(real)


@pytest.mark.parametrize("real", REALS)
@settings(max_examples=15, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 70)),
    rate=st.sampled_from([0.0, 0.2, 0.5, 0.9]),
    first_row=st.integers(0, 2**32),
    size=st.integers(1, 7),
)
def test_forward_and_backward_are_the_twins(real, shape, rate, first_row, size):
    x = numbers(shape, real)
    options = threshold_of(rate), 1 / (1 - rate), -5, 3, 2, first_row
    expected = reference.dropout_forward(x, *options)
    for function in (dropout_forward, dropout_backward):
        y = np.full_like(x, np.nan)
        for rank in range(size):
            function(y, x, *options, rank, size)
        np.testing.assert_array_equal(y, expected, strict=True)


@pytest.mark.parametrize("real", REALS)
@settings(max_examples=15, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 9), st.one_of(st.integers(1, 70), st.sampled_from([4, 8, 12, 64]))),
    rate=st.sampled_from([0.0, 0.2, 0.5, 0.9]),
    first_row=st.integers(0, 2**32),
    size=st.integers(1, 7),
)
def test_a_mask_made_once_and_applied_is_the_same(real, shape, rate, first_row, size):
    x = numbers(shape, real)
    x[-1, -1] = np.nan
    options = threshold_of(rate), 1 / (1 - rate), -5, 3, 2, first_row
    expected = reference.dropout_forward(x, *options)
    kept = reference.dropout_mask(shape, *(options[0], *options[2:]))
    mask = np.full_like(x, np.nan)
    y = np.full_like(x, np.nan)
    for rank in range(size):
        dropout_mask(mask, *options, rank, size)
        apply_mask(y, x, mask, rank, size)
    np.testing.assert_array_equal(mask, np.where(kept, real(options[1]), 0))
    np.testing.assert_array_equal(y, expected, strict=True)
    for rank in range(size):
        apply_mask(mask, x, mask, rank, size)
    np.testing.assert_array_equal(mask, expected, strict=True)


@pytest.mark.skipif(not COMPILED, reason="millions of units")
@pytest.mark.parametrize("shape", [(300_000, 4), (4_090, 4096), (4_100, 4096)])
def test_the_mask_of_many_rows_has_every_row_s_own_counter(shape):
    options = threshold_of(0.5), 2.0, 1, 2, 3
    mask = np.empty(shape, np.float32)
    dropout_mask(mask, *options, 0, 0, 1)
    generator = np.random.default_rng(0)
    for row in [0, shape[0] - 1, *generator.integers(0, shape[0], 5)]:
        kept = reference.dropout_mask((1, shape[1]), options[0], *options[2:], int(row))
        np.testing.assert_array_equal(mask[row] != 0, kept[0])


@pytest.mark.parametrize("real", REALS)
def test_blocks_of_rows_have_the_batch_s_mask(real):
    x = numbers((20, 33), real)
    whole, parts = np.empty_like(x), np.empty_like(x)
    options = threshold_of(0.3), 1 / 0.7, 1, 2, 3
    dropout_forward(whole, x, *options, 0, 0, 1)
    for first, last in ((0, 1), (1, 8), (8, 20)):
        dropout_forward(parts[first:last], x[first:last], *options, first, 0, 1)
    np.testing.assert_array_equal(parts, whole)


def test_mean_and_variance():
    rate, shape = 0.25, (100, 200) if COMPILED else (20, 100)
    x = np.ones(shape, np.float32)
    y = np.empty_like(x)
    means, drops = [], []
    for step in range(20 if COMPILED else 4):
        dropout_forward(y, x, threshold_of(rate), 1 / (1 - rate), 9, step, 1, 0, 0, 1)
        means.append(y.mean(dtype=float))
        drops.append(y == 0)
    # Kept units are 4/3, so a unit's variance is 16/9 * 3/4 - 1 = 1/3.
    deviation = np.sqrt(1 / 3 / x.size)
    assert abs(np.mean(means) - 1) < 5 * deviation / np.sqrt(len(means))
    assert np.std(means) < 3 * deviation
    drops = np.array(drops)
    assert abs(drops.mean() - rate) < 5 * np.sqrt(rate * (1 - rate) / drops.size)
    # Neighbors in the row, rows and steps are independent: both dropped with rate**2.
    for axis in range(3):
        both = drops.take(range(1, drops.shape[axis]), axis) & drops.take(range(drops.shape[axis] - 1), axis)
        assert abs(both.mean() - rate**2) < 6 * np.sqrt(rate**2 / both.size)


def test_probabilities_at_the_ends():
    x = np.ones((3, 50), np.float32)
    y = np.empty_like(x)
    dropout_forward(y, x, threshold_of(0.0), 1.0, 0, 0, 0, 0, 0, 1)
    np.testing.assert_array_equal(y, x)
    dropout_forward(y, x, threshold_of(1 - 2**-53), 2.0**53, 0, 0, 0, 0, 0, 1)
    assert not y.any()


def test_a_word_at_the_threshold_is_kept():
    x = np.ones((2, 7), np.float32)
    y = np.empty_like(x)
    for column in (0, 1, 2, 3, 6):
        word = reference.random_bits(1, 2, 3, 1, column)
        for threshold, kept in ((word, True), (word + 1, False)):
            dropout_forward(y, x, threshold, 2.0, 1, 2, 3, 0, 0, 1)
            assert (y[1, column] != 0) == kept


def test_nan_is_dropped_or_stays():
    x = np.full((4, 20), np.nan, np.float32)
    y = np.empty_like(x)
    dropout_forward(y, x, threshold_of(0.5), 2.0, 0, 0, 0, 0, 0, 1)
    kept = reference.dropout_mask(x.shape, threshold_of(0.5), 0, 0, 0, 0)
    assert 0 < kept.sum() < kept.size
    np.testing.assert_array_equal(np.isnan(y), kept)


@pytest.mark.parametrize("real", REALS)
def test_plan(real):
    """The way forward leaves the mask in place of dx, and the way back applies it; blocks of rows, each both ways."""
    rows, width, capacity = 6, 11, 8
    activations, derivatives = (numbers(2 * width * capacity, real, seed) for seed in (1, 2))
    options = np.array([0, 0, 0, threshold_of(0.4), 1 / 0.6])
    fields = {ACTIVATIONS: activations, DERIVATIVES: derivatives, ARENA_ROWS: capacity, OPTIONS: options}
    run = reference.record(RUN_FIELDS, {**fields, SEED: -12345, STEP: 6})
    places = {INPUTS: width, X: 0, Y: width, DX: width, DY: 0, LAYER: 4, OPTION: 3}
    operation = reference.record(OPERATION_FIELDS, places)
    x = activations[: rows * width].reshape(rows, width)
    dy = derivatives[: rows * width].reshape(rows, width).copy()
    for first, last in ((0, 1), (1, 4), (4, rows)):
        assert reference.run_plan(plan_dropout_forward(real), run, operation, first, last) == OK
        assert reference.run_plan(plan_dropout_backward(real), run, operation, first, last) == OK
    arguments = threshold_of(0.4), 1 / 0.6, -12345, 6, 4, 0
    y = activations[width * capacity :][: rows * width].reshape(rows, width)
    dx = derivatives[width * capacity :][: rows * width].reshape(rows, width)
    np.testing.assert_array_equal(y, reference.dropout_forward(x, *arguments))
    np.testing.assert_array_equal(dx, reference.dropout_backward(dy, *arguments))
    # Where nobody asks for dx, the derivatives are left alone.
    operation[DX] = NOWHERE
    before, expected = derivatives.copy(), y.copy()
    y[:] = np.nan
    assert reference.run_plan(plan_dropout_forward(real), run, operation, 0, rows) == OK
    np.testing.assert_array_equal(derivatives, before)
    np.testing.assert_array_equal(y, expected)
