"""The activation kernels: the twins, the same bits for any slice, in place, softmax, a plan's functions."""

import numpy as np
import pytest
from numba import config

from fastnn.kernels.cpu import activations as kernels
from fastnn.kernels.cpu.activations import activation_backward, activation_forward
from fastnn.kernels.formulas.activations import ACTIVATIONS as FORMULAS
from fastnn.kernels.jit import COMPILED, formula
from fastnn.kernels.layout import (
    ACTIVATIONS,
    ARENA_ROWS,
    DERIVATIVES,
    DX,
    DY,
    INPUTS,
    OK,
    OPERATION_FIELDS,
    OUTPUTS,
    RUN_FIELDS,
    X,
    Y,
)
from tests import reference
from tests import reference_activations as twins

REALS = [np.float32, np.float64]
#: Of the formulas. All have the same loops: where those alone are looked at, two of them suffice.
NAMES = sorted(FORMULAS) if COMPILED and not config.BOUNDSCHECK else ["relu", "tanh"]
SOFTMAXES = {
    "softmax": (twins.softmax, twins.softmax_backward),
    "log_softmax": (twins.log_softmax, twins.log_softmax_backward),
}


def numbers(shape, real, seed=0, scale=3):
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(real)


def tolerance(real):
    return {"rtol": 2e-5, "atol": 1e-6} if real == np.float32 else {"rtol": 1e-12, "atol": 1e-14}


def run_both(forward, backward, x, dy, size=1):
    """y and dx of the kernels, formed by ``size`` workers, the last one first."""
    y, dx = np.full_like(x, np.nan), np.full_like(x, np.nan)
    for rank in reversed(range(size)):
        forward(y, x, rank, size)
    for rank in reversed(range(size)):
        backward(dx, dy, x, y, rank, size)
    return y, dx


def pair_of(name):
    if name in SOFTMAXES:
        return getattr(kernels, f"{name}_forward"), getattr(kernels, f"{name}_backward")
    return activation_forward(FORMULAS[name].value), activation_backward(FORMULAS[name].slope)


def assert_same_bits(a, b):
    np.testing.assert_array_equal(np.ascontiguousarray(a).view(np.uint8), np.ascontiguousarray(b).view(np.uint8))


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("name", sorted(FORMULAS) if not config.BOUNDSCHECK else NAMES)
def test_activations_are_the_twins(name, real):
    x, dy = numbers((7, 37), real), numbers((7, 37), real, seed=1)
    y, dx = run_both(*pair_of(name), x, dy)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(y, twins.VALUES[name](wide), **tolerance(real))
    np.testing.assert_allclose(dx, dy * twins.SLOPES[name](wide), **tolerance(real))


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("name", NAMES)
def test_same_bits_wherever_a_slice_starts(name, real):
    # Rows of one number lie side by side: a slice of them starts and ends anywhere.
    forward, backward = pair_of(name)
    x, dy = numbers((301, 1), real), numbers((301, 1), real, seed=1)
    y, dx = run_both(forward, backward, x, dy)
    for size in (2, 3, 8, 301, 400):
        for part, whole in zip(run_both(forward, backward, x, dy, size), (y, dx), strict=True):
            assert_same_bits(part, whole)
    for first in range(0, 70, 3):
        for last in (first + 1, first + 17, 300 - first):
            part = slice(first, last)
            some_y, some_dx = run_both(forward, backward, x[part], dy[part])
            assert_same_bits(some_y, y[part])
            assert_same_bits(some_dx, dx[part])


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("name", ["gelu", "tanh"])
def test_a_slope_kept_on_the_way_forward_is_that_of_the_way_back(name, real):
    """Those of the other formulas are compared in ``tests/test_engine.py``: the slow path does not keep them."""
    x, dy = numbers((7, 19), real), numbers((7, 19), real, seed=1)
    y, dx = run_both(*pair_of(name), x, dy)
    forward = kernels.activation_forward_keeping(FORMULAS[name].value, FORMULAS[name].slope)
    backward = activation_backward(kernels.kept_slope)
    for size in (1, 3):
        kept = x.copy()
        for part, whole in zip(run_both(forward, backward, kept, dy, size), (y, dx), strict=True):
            assert_same_bits(part, whole)
        assert not np.array_equal(kept, x)


@pytest.mark.parametrize("name", ["relu", "tanh", *SOFTMAXES])
def test_a_worker_writes_its_own_rows_alone(name):
    x, dy = numbers((10, 4), np.float32), numbers((10, 4), np.float32, seed=1)
    forward, backward = pair_of(name)
    whole = run_both(forward, backward, x, dy)
    y, dx = np.full_like(x, 7), np.full_like(x, 7)
    forward(y, x, 1, 3)
    backward(dx, dy, x, whole[0], 1, 3)
    for result, expected in zip((y, dx), whole, strict=True):
        assert_same_bits(result[3:6], expected[3:6])
        assert (np.delete(result, slice(3, 6), axis=0) == 7).all()


@pytest.mark.parametrize(
    ("name", "real"),
    [("tanh", np.float32), ("softplus", np.float64), ("softmax", np.float32), ("log_softmax", np.float64)],
)
def test_columns_of_a_wider_array(name, real):
    forward, backward = pair_of(name)
    x, dy = numbers((5, 40), real), numbers((5, 40), real, seed=1)
    for columns in (slice(1, 38), slice(3, 4), slice(0, 33)):
        y, dx = run_both(forward, backward, x[:, columns].copy(), dy[:, columns].copy())
        for size in (1, 3):
            wide_y, wide_dx = np.full_like(x, 7), np.full_like(x, 7)
            for rank in range(size):
                forward(wide_y[:, columns], x[:, columns], rank, size)
                backward(wide_dx[:, columns], dy[:, columns], x[:, columns], wide_y[:, columns], rank, size)
            assert_same_bits(wide_y[:, columns], y)
            assert_same_bits(wide_dx[:, columns], dx)
            for wide in (wide_y, wide_dx):
                assert (np.delete(wide, np.arange(40)[columns], axis=1) == 7).all()


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("name", ["relu", "tanh", *SOFTMAXES])
def test_in_place(name, real):
    forward, backward = pair_of(name)
    x, dy = numbers((6, 21), real), numbers((6, 21), real, seed=1)
    y, dx = run_both(forward, backward, x, dy)
    if name != "log_softmax":
        same = x.copy()
        forward(same, same, 0, 1)
        assert_same_bits(same, y)
    same = dy.copy()
    backward(same, same, x, y, 0, 1)
    assert_same_bits(same, dx)


def test_nothing_to_do():
    for name in ("relu", *SOFTMAXES):
        for shape in ((0, 3), (0, 1)):
            x = np.empty(shape, np.float32)
            run_both(*pair_of(name), x, x.copy(), 2)


def test_an_activation_of_the_user():
    @formula
    def square(x):
        return x * x

    @formula
    def square_slope(x, y):
        return x + x

    x, dy = numbers((3, 5), np.float64), numbers((3, 5), np.float64, seed=1)
    y, dx = run_both(activation_forward(square), activation_backward(square_slope), x, dy)
    np.testing.assert_allclose(y, x**2)
    np.testing.assert_allclose(dx, dy * 2 * x)


# Softmax


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("name", SOFTMAXES)
@pytest.mark.parametrize("shape", [(1, 1), (4, 2), (9, 10), (3, 37), (2, 200)])
def test_softmax_is_the_twin(name, real, shape):
    x, dy = numbers(shape, real), numbers(shape, real, seed=1)
    y, dx = run_both(*pair_of(name), x, dy)
    value, backward = SOFTMAXES[name]
    np.testing.assert_allclose(y, value(x.astype(np.float64)), **tolerance(real))
    scale = np.abs(dy).sum(axis=1, keepdims=True)
    expected = backward(dy.astype(np.float64), value(x.astype(np.float64)))
    assert (np.abs(dx - expected) <= 16 * np.finfo(real).eps * scale).all()
    for size in (2, 3, 8):
        for part, whole in zip(run_both(*pair_of(name), x, dy, size), (y, dx), strict=True):
            assert_same_bits(part, whole)


@pytest.mark.parametrize("real", REALS)
def test_softmax_of_extreme_numbers(real):
    x = np.array([[1e38, -1e38, 0], [-1e38, -1e38, -1e38], [1000, 999, -1000], [-np.inf, 0, 0]], real)
    y = np.empty_like(x)
    kernels.softmax_forward(y, x, 0, 1)
    third = 1 / (1 + np.exp(-1))
    expected = [[1, 0, 0], [1 / 3] * 3, [third, 1 - third, 0], [0, 0.5, 0.5]]
    np.testing.assert_allclose(y, expected, rtol=1e-6)
    np.testing.assert_allclose(y.sum(axis=1), 1, rtol=1e-6)
    kernels.log_softmax_forward(y, x, 0, 1)
    expected = [[0, -2e38, -1e38], [-np.log(3)] * 3, [np.log(third), np.log(third) - 1, np.log(third) - 2000]]
    np.testing.assert_allclose(y[:3], expected, rtol=1e-6)
    np.testing.assert_allclose(y[3], [-np.inf, -np.log(2), -np.log(2)], rtol=1e-6)


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("name", SOFTMAXES)
@pytest.mark.parametrize("width", [1, 3, 10, 33])
def test_a_row_with_nan_is_nan_and_no_other(name, real, width):
    for column in range(width):
        x = numbers((3, width), real)
        x[1, column] = np.nan
        y, dx = run_both(*pair_of(name), x, np.ones_like(x))
        for result in (y, dx):
            assert np.isnan(result[1]).all()
            assert np.isfinite(result[[0, 2]]).all()


@pytest.mark.parametrize("real", REALS)
def test_softmax_rows_sum_to_one(real):
    x = numbers((20, 123), real, scale=20)
    y = np.empty_like(x)
    kernels.softmax_forward(y, x, 0, 1)
    np.testing.assert_allclose(y.sum(axis=1, dtype=np.float64), 1, rtol=8 * np.finfo(real).eps)
    assert (y >= 0).all()


# A plan's functions


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("name", ["tanh", "relu", *SOFTMAXES])
def test_plan(name, real):
    capacity, width, first, last = 9, 5, 2, 8
    # x, then y, in the arena of activations; dx, then dy, in that of the derivatives.
    arena, slopes = np.zeros((2, capacity, width), real), np.zeros((2, capacity, width), real)
    arena[0], slopes[1] = numbers((2, capacity, width), real)
    fields = {ACTIVATIONS: arena, DERIVATIVES: slopes, ARENA_ROWS: capacity}
    run = reference.record(RUN_FIELDS, fields)
    fields = {INPUTS: width, OUTPUTS: width, X: 0, Y: width, DX: 0, DY: width}
    operation = reference.record(OPERATION_FIELDS, fields)
    if name in SOFTMAXES:
        forward, backward = kernels.kernels_of(name)
        forward, backward = kernels.plan_forward(forward, real), kernels.plan_backward(backward, real)
    else:
        forward = kernels.plan_activation_forward(FORMULAS[name].value, real)
        backward = kernels.plan_activation_backward(FORMULAS[name].slope, real)
    assert reference.run_plan(forward, run, operation, first, last) == OK
    rows = slice(first, last)
    y, dx = run_both(*pair_of(name), arena[0, rows], slopes[1, rows])
    assert_same_bits(arena[1, rows], y)
    assert (arena[1, :first] == 0).all()
    assert (arena[1, last:] == 0).all()

    before = slopes.copy()
    assert reference.run_plan(backward, run, operation, first, last) == OK
    assert_same_bits(slopes[0, rows], dx)
    assert_same_bits(slopes[1], before[1])
    assert (slopes[0, :first] == 0).all()
    assert (slopes[0, last:] == 0).all()


def test_plan_functions_are_made_once():
    value, slope = FORMULAS["tanh"].value, FORMULAS["tanh"].slope
    for factory, arguments in (
        (kernels.plan_activation_forward, (value, np.float32)),
        (kernels.plan_activation_backward, (slope, np.float32)),
        (kernels.plan_forward, (kernels.softmax_forward, np.float32)),
    ):
        assert factory(*arguments) is factory(*arguments)
