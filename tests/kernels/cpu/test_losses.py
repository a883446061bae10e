"""Losses against their twins, central differences, each other, and at the ends of the number range."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastnn.kernels.cpu import losses as kernels
from fastnn.kernels.formulas import losses as formulas
from fastnn.kernels.layout import (
    ACTIVATIONS,
    ARENA_ROWS,
    BATCH_ROWS,
    DERIVATIVES,
    DX,
    DY,
    INPUTS,
    LOSSES,
    NOT_FINITE,
    OK,
    OPERATION_FIELDS,
    OPTION,
    OPTIONS,
    OUTPUTS,
    RUN_FIELDS,
    TARGET,
    X,
    Y,
)
from tests import reference

REALS = [np.float32, np.float64]
TOLERANCES = {
    np.float32: {"rtol": 5e-6, "atol": 1e-6},
    np.float64: {"rtol": 1e-13, "atol": 1e-14},
}
FORMULAS = {
    "squared_error": (formulas.squared_error, formulas.squared_error_slope),
    "absolute_error": (formulas.absolute_error, formulas.absolute_error_slope),
    "huber": (formulas.huber, formulas.huber_slope),
    "pinball": (formulas.pinball, formulas.pinball_slope),
}
ELEMENTWISE = {name: kernels.elementwise_loss(*pair) for name, pair in FORMULAS.items()}
FUSED = {
    "sigmoid_cross_entropy": kernels.sigmoid_cross_entropy,
    "softmax_cross_entropy": kernels.softmax_cross_entropy,
}
CASES = [
    ("squared_error", "numbers", 0.0),
    ("absolute_error", "numbers", 0.0),
    ("huber", "numbers", 1.0),
    ("huber", "numbers", 0.125),
    ("pinball", "numbers", 0.5),
    ("pinball", "numbers", 0.9),
    ("sigmoid_cross_entropy", "bits", 0.0),
    ("sigmoid_cross_entropy", "probabilities", 0.0),
    ("sigmoid_cross_entropy", "bits", 0.1),
    ("sigmoid_cross_entropy", "probabilities", 1.0),
    ("softmax_cross_entropy", "labels", 0.0),
    ("softmax_cross_entropy", "one-hot", 0.0),
    ("softmax_cross_entropy", "probabilities", 0.0),
    ("softmax_cross_entropy", "labels", 0.1),
    ("softmax_cross_entropy", "one-hot", 0.1),
    ("softmax_cross_entropy", "probabilities", 1.0),
]


def example(name, kind, rows, width, real, seed=0):
    """(outputs or logits, targets)"""
    random = np.random.default_rng(seed)
    y = random.standard_normal((rows, width)) * 3
    labels = random.integers(0, width, (rows, 1))
    target = {
        "numbers": random.standard_normal((rows, width)),
        "bits": random.integers(0, 2, (rows, width)),
        "probabilities": random.uniform(0, 1, (rows, width)),
        "labels": labels,
        "one-hot": np.eye(width)[labels[:, 0]],
    }[kind]
    return y.astype(real), target.astype(real)


def run(name, y, target, option, scale, size=1):
    """(losses, derivative) of a loss of outputs, (losses, y, derivative) of a fused one; the worst status."""
    losses = np.full(len(y), np.nan)
    results = [np.full_like(y, np.nan) for _ in range(2 if name in FUSED else 1)]
    function = FUSED.get(name) or ELEMENTWISE[name]
    with np.errstate(all="ignore"):
        status = [function(losses, *results, y, target, option, scale, rank, size) for rank in range(size)]
    return (losses, *results), max(status)


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize(("name", "kind", "option"), CASES)
@settings(max_examples=12, deadline=None)
@given(rows=st.integers(1, 9), width=st.integers(1, 40), size=st.integers(1, 4))
def test_twin(name, kind, option, real, rows, width, size):
    y, target = example(name, kind, rows, width, real)
    results, status = run(name, y, target, option, 0.125, size)
    assert status == OK
    for result, wanted in zip(results, getattr(reference, name)(y, target, option, 0.125), strict=True):
        np.testing.assert_allclose(result, wanted, **TOLERANCES[real])


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize(("name", "kind", "option"), CASES)
@pytest.mark.parametrize("width", [1, 6, 10, 37])
def test_bits_do_not_depend_on_the_slices(name, kind, option, real, width):
    rows = 23
    y, target = example(name, kind, rows, width, real)
    whole, _ = run(name, y, target, option, 0.125)
    for size in (2, 3, 8, 30):
        for result, wanted in zip(run(name, y, target, option, 0.125, size)[0], whole, strict=True):
            np.testing.assert_array_equal(result, wanted)


@pytest.mark.parametrize(("name", "kind", "option"), CASES)
@pytest.mark.parametrize("width", [1, 2, 11])
def test_derivative_is_that_of_the_batch_s_loss(name, kind, option, width):
    rows, step = 3, 1e-6
    y, target = example(name, kind, rows, width, np.float64)

    def loss(y):
        return run(name, y, target, option, 1 / rows)[0][0].sum() / rows

    derivative = run(name, y, target, option, 1 / rows)[0][-1]
    for place in np.ndindex(y.shape):
        low, high = y.copy(), y.copy()
        low[place] -= step
        high[place] += step
        numerical = (loss(high) - loss(low)) / (2 * step)
        assert derivative[place] == pytest.approx(numerical, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_labels_and_one_hot_rows_agree(smoothing):
    y, labels = example("softmax_cross_entropy", "labels", 9, 5, np.float64)
    one_hot = np.eye(5)[labels[:, 0].astype(int)]
    pair = (run("softmax_cross_entropy", y, target, smoothing, 0.5)[0] for target in (labels, one_hot))
    for result, wanted in zip(*pair, strict=True):
        np.testing.assert_allclose(result, wanted, rtol=1e-14)


def test_softmax_by_hand():
    # exp(0), exp(log 3): probabilities 1/4 and 3/4; the loss of label 0 is log 4
    z = np.array([[0.0, np.log(3)]])
    losses, y, dz = run("softmax_cross_entropy", z, np.array([[0.0]]), 0.0, 1.0)[0]
    np.testing.assert_allclose(losses, [np.log(4)], rtol=1e-15)
    np.testing.assert_allclose(y, [[0.25, 0.75]], rtol=1e-15)
    np.testing.assert_allclose(dz, [[-0.75, 0.75]], rtol=1e-15)
    # smoothed by 0.5 the probabilities wanted are 3/4 and 1/4: 0.75 log 4 + 0.25 (log 4 - log 3)
    losses, _, dz = run("softmax_cross_entropy", z, np.array([[0.0]]), 0.5, 1.0)[0]
    np.testing.assert_allclose(losses, [np.log(4) - np.log(3) / 4], rtol=1e-15)
    np.testing.assert_allclose(dz, [[-0.5, 0.5]], rtol=1e-15)


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("width", [3, 12])
def test_softmax_of_extreme_logits(real, width):
    z = np.zeros((1, width), real)

    def results(logit, place, label):
        z[:] = 0
        z[0, place] = logit
        rounds = []
        for target in (np.array([[label]], real), np.eye(width, dtype=real)[[label]]):
            (losses, y, _), status = run("softmax_cross_entropy", z, target, 0.0, 1.0)
            rounds.append((losses[0], status))
        assert rounds[0] == rounds[1]
        return *rounds[0], y[0]

    for large in (1e4, np.inf):
        for place in (0, width - 1):
            loss, status, y = results(large, place, place)
            assert (loss, status, y[place], y.sum()) == (0, OK, 1, 1)
            loss, status, y = results(-large, place, (place + 1) % width)
            assert loss == pytest.approx(np.log(width - 1), rel=1e-6)
            assert (status, y[place]) == (OK, 0)
            loss, status, _ = results(large, place, (place + 1) % width)
            assert loss == large and status == (OK if large < np.inf else NOT_FINITE)


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize(("name", "kind", "option"), CASES)
@pytest.mark.parametrize("width", [1, 10])
def test_nan_stays_in_its_row(name, kind, option, real, width):
    rows = 7
    for place in range(0, width, 3):
        y, target = example(name, kind, rows, width, real)
        y[2, place] = np.nan
        if kind == "labels":
            target[:] = place
        results, status = run(name, y, target, option, 1.0)
        assert status == NOT_FINITE
        assert np.isnan(results[0][2]) and np.isnan(results[-1][2, place])
        for result in results:
            assert np.isfinite(np.delete(result, 2, axis=0)).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("label", [-1, 5, 1e30, np.nan, np.inf, -np.inf])
def test_a_label_that_is_no_class_is_not_finite(label, smoothing):
    y, target = example("softmax_cross_entropy", "labels", 4, 5, np.float32)
    target[1] = label
    results, status = run("softmax_cross_entropy", y, target, smoothing, 1.0)
    assert status == NOT_FINITE
    np.testing.assert_array_equal(np.isnan(results[0]), [False, True, False, False])


PLANS = {name: lambda real, pair=pair: kernels.plan_elementwise_loss(*pair, real) for name, pair in FORMULAS.items()}
PLANS |= {
    "sigmoid_cross_entropy": functools.partial(kernels.plan_fused_loss, kernels.sigmoid_cross_entropy),
    "softmax_cross_entropy": functools.partial(kernels.plan_fused_loss, kernels.softmax_cross_entropy),
}


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize(("name", "kind", "option"), [case for case in CASES if case[0] in PLANS])
def test_plans(name, kind, option, real):
    rows, width, capacity = 7, 5, 9
    y, target = example(name, kind, rows, width, real)
    activations, derivatives = np.full((2, 3, capacity * width), np.nan, real)
    activations[1, : rows * width] = y.ravel()
    losses = np.full(capacity, np.nan)
    options = np.array([np.nan, option, np.nan])
    records = reference.record(
        RUN_FIELDS,
        {
            OPTIONS: options,
            ACTIVATIONS: activations,
            DERIVATIVES: derivatives,
            ARENA_ROWS: capacity,
            LOSSES: losses,
            TARGET: target,
            BATCH_ROWS: rows,
        },
    )
    places = {X: width, Y: 2 * width, DX: 2 * width} if name in FUSED else {Y: width, DY: 2 * width}
    fields = {INPUTS: width, OUTPUTS: target.shape[1], OPTION: 1, **places}
    operation = reference.record(OPERATION_FIELDS, fields)
    for first, last in ((0, 1), (1, 4), (4, rows)):
        assert reference.run_plan(PLANS[name](real), records, operation, first, last) == OK
    expected, _ = run(name, y, target, option, 1 / rows)
    np.testing.assert_array_equal(losses[:rows], expected[0])
    np.testing.assert_array_equal(derivatives[2, : rows * width].reshape(rows, width), expected[-1])
    if name in FUSED:
        np.testing.assert_array_equal(activations[2, : rows * width].reshape(rows, width), expected[1])
    assert np.isnan(losses[rows:]).all() and np.isnan(derivatives[:2]).all()
    activations[1, 3 * width] = np.nan
    if kind == "labels":
        target[3] = 0
    with np.errstate(all="ignore"):
        assert reference.run_plan(PLANS[name](real), records, operation, 3, 5) == NOT_FINITE
        assert reference.run_plan(PLANS[name](real), records, operation, 0, 3) == OK
