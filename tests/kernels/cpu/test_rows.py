"""Weights of rows, and outputs that are kept."""

import numpy as np
import pytest

from fastnn.kernels.cpu import rows
from fastnn.kernels.layout import (
    ACTIVATIONS,
    ARENA_ROWS,
    DERIVATIVES,
    DY,
    INPUTS,
    KEPT,
    LOSSES,
    NOT_FINITE,
    OK,
    OPERATION_FIELDS,
    ORDER,
    RUN_FIELDS,
    WEIGHTS,
    Y,
)
from tests import reference

REALS = [np.float32, np.float64]


def numbers(shape, real, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(real)


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("size", [1, 2, 5])
def test_weigh_rows(real, size):
    losses, dy, weights = numbers(7, np.float64), numbers((7, 3), real), np.arange(7) / 2
    expected = losses * weights, dy * weights[:, None].astype(real)
    for rank in range(size):
        assert rows.weigh_rows(losses, dy, weights, rank, size) == OK
    np.testing.assert_array_equal(losses, expected[0])
    np.testing.assert_array_equal(dy, expected[1])
    losses[4] = 1e300
    with np.errstate(all="ignore"):
        assert rows.weigh_rows(losses, dy, np.full(7, 1e300), 0, 1) == NOT_FINITE


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("ordered", [False, True])
def test_plans(real, ordered):
    width, capacity, batch = 4, 8, 7
    y, dy = numbers(capacity * width, real), numbers(capacity * width, real, 1)
    kept, losses = np.full((9, width), np.nan, real), np.arange(1.0, 9)
    weights, order = np.arange(10.0) + 1, np.array([9, 0, 3, 1, 2, 8, 4])
    run = reference.record(
        RUN_FIELDS,
        {
            ACTIVATIONS: y,
            DERIVATIVES: dy,
            ARENA_ROWS: capacity,
            LOSSES: losses,
            KEPT: kept,
            WEIGHTS: weights,
            ORDER: order if ordered else 0,
        },
    )
    operation = reference.record(OPERATION_FIELDS, {INPUTS: width, Y: 0, DY: 0})
    before = dy.reshape(capacity, width).copy()
    for first, last in ((0, 3), (3, batch)):
        assert reference.run_plan(rows.plan_weigh_rows(real), run, operation, first, last) == OK
        assert reference.run_plan(rows.plan_keep_rows(real), run, operation, first, last) == OK
    of_rows = (weights[order] if ordered else weights)[:batch]
    np.testing.assert_array_equal(losses, [*(np.arange(1.0, 8) * of_rows), 8])
    np.testing.assert_array_equal(dy.reshape(capacity, width)[:batch], before[:batch] * of_rows[:, None].astype(real))
    np.testing.assert_array_equal(dy.reshape(capacity, width)[batch:], before[batch:])
    np.testing.assert_array_equal(kept[:batch], y.reshape(capacity, width)[:batch])
    assert np.isnan(kept[batch:]).all()
