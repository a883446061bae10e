"""Penalties and norms against the twins; a constraint; the plan's functions of whole rows, columns and chunks."""

import numpy as np
import pytest

from fastnn.kernels.cpu.penalties import (
    NEIGHBORS,
    max_norm,
    own_penalty,
    own_penalty_slope,
    penalty_sum,
    plan_max_norm,
    plan_penalty,
    plan_squared_norms,
    squared_norms,
)
from fastnn.kernels.layout import (
    COLUMNS,
    CONSTRAINT_OPTION,
    FIRST_CHUNK,
    FIRST_NORM,
    GRADIENTS,
    LENGTH,
    NORMS,
    NOT_FINITE,
    OFFSET,
    OK,
    OPTIONS,
    PARAMETER_FIELDS,
    PARAMETERS,
    PENALTIES,
    PENALTY,
    PENALTY_CHUNK,
    RUN_FIELDS,
)
from tests import reference

REALS = [np.float32, np.float64]


def numbers(length, real=np.float64, seed=0):
    return np.random.default_rng(seed).standard_normal(length).astype(real)


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("length", [1, 7, 8, 100, 1001])
def test_penalty(real, length):
    p = numbers(length, real)
    assert penalty_sum(p, 0.1, 0.03) == pytest.approx(reference.penalty_sum(p, 0.1, 0.03), rel=1e-13)


def smooth(w):
    return 0.1 * w * w / (1 + w * w)


def smooth_slope(w):
    return 0.2 * w / ((1 + w * w) * (1 + w * w))


@pytest.mark.parametrize("real", REALS)
def test_own_penalty(real):
    p = numbers(37, real)
    assert own_penalty(smooth)(p, 0.0, 0.0) == pytest.approx(smooth(p.astype(float)).sum(), rel=1e-6)
    g = numbers(37, real, 1)
    expected = g + smooth_slope(p.astype(float))
    for rank in range(3):
        own_penalty_slope(smooth_slope)(g, p, rank, 3)
    np.testing.assert_allclose(g, expected, rtol=1e-5 if real is np.float32 else 1e-14)


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (40, 5), (2, 64)])
@pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.0), (0.3, 0.2)])
def test_squared_norms(real, shape, l1, l2):
    p, g = numbers(shape, real), numbers(shape, real, 1)
    p[0, 0], p[-1, -1] = 0, 0
    expected = reference.squared_norms(p, g, l1, l2)
    for size in (1, 2, 5):
        found = np.full(len(p), np.nan)
        for rank in range(size):
            squared_norms(found, p, g, l1, l2, rank, size)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (40, 5), (2, 64), (3, 2 * NEIGHBORS + 7)])
def test_max_norm(real, shape):
    start = numbers(shape, real)
    start[:, [0, -1]] *= 1e-3  # short enough
    expected = reference.max_norm(start.astype(float), 0.5)
    for size in (1, 2, 9):
        p = start.copy()
        for rank in range(size):
            assert max_norm(p, 0.5, rank, size) == OK
        np.testing.assert_allclose(p, expected, rtol=1e-6 if real is np.float32 else 1e-14)
        np.testing.assert_array_equal(p[:, [0, -1]], start[:, [0, -1]])
    p[0, -1] = np.inf
    with np.errstate(all="ignore"):
        assert max_norm(p, 0.5, 0, 1) == NOT_FINITE


#: Where a parameter begins in the arenas below, and its options: the limit of its constraint, l1 and l2.
START, SETTINGS = 7, (0.4, 0.01, 0.02)


def plan_records(real, rows, columns, further):
    """(run, parameter, arenas, the options): a parameter of this shape among others, and its further fields."""
    arenas = [numbers(START + rows * columns + 5, real, seed) for seed in range(2)]
    options = np.array(SETTINGS)
    run = reference.record(RUN_FIELDS, {PARAMETERS: arenas[0], GRADIENTS: arenas[1], OPTIONS: options})
    shape = {OFFSET: START, LENGTH: rows, COLUMNS: columns, CONSTRAINT_OPTION: 0, PENALTY: 1}
    return run, reference.record(PARAMETER_FIELDS, shape | further), arenas, options


@pytest.mark.parametrize("real", REALS)
def test_plans_of_whole_rows_and_columns(real):
    rows, columns = 6, 5
    run, parameter, arenas, _alive = plan_records(real, rows, columns, {FIRST_NORM: 2})
    end = START + rows * columns
    p, g = (arena[START:end].reshape(rows, columns) for arena in arenas)
    norms = np.full(rows + 4, np.nan)
    run[NORMS] = norms.ctypes.data
    for first, last in ((0, 2), (2, rows)):
        assert reference.run_plan(plan_squared_norms(real), run, parameter, first, last) == OK
    np.testing.assert_allclose(norms[2 : 2 + rows], reference.squared_norms(p, g, 0.01, 0.02), rtol=1e-12)
    assert np.isnan(norms[[0, 1, -2, -1]]).all()
    before, outside = p.astype(float), [arenas[0][:START].copy(), arenas[0][end:].copy()]
    for rank in range(2):
        assert reference.run_plan(plan_max_norm(real), run, parameter, rank, 2) == OK
    np.testing.assert_allclose(p, reference.max_norm(before, 0.4), rtol=1e-6)
    np.testing.assert_array_equal(arenas[0][:START], outside[0])
    np.testing.assert_array_equal(arenas[0][end:], outside[1])


@pytest.mark.parametrize("real", REALS)
def test_penalty_plan(real):
    length = 2 * PENALTY_CHUNK + 100
    run, parameter, arenas, _alive = plan_records(real, length // 2, 2, {FIRST_CHUNK: 2})
    penalties = np.full(6, np.nan)
    run[PENALTIES] = penalties.ctypes.data
    for first, last in ((1, 3), (0, 1)):
        assert reference.run_plan(plan_penalty(real), run, parameter, first, last) == OK
    p = arenas[0][START : START + length]
    for chunk in range(3):
        part = p[chunk * PENALTY_CHUNK :][:PENALTY_CHUNK]
        assert penalties[2 + chunk] == penalty_sum(part, 0.01, 0.02)
    assert np.isnan(penalties[[0, 1, 5]]).all()
