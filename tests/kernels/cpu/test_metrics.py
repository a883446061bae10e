"""Metrics against their twins, and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastnn.kernels.cpu import metrics
from fastnn.kernels.layout import (
    ACTIVATIONS,
    ARENA_ROWS,
    CAPACITY,
    INPUTS,
    METRICS,
    OK,
    OPERATION_FIELDS,
    OPTION,
    OPTIONS,
    OUTPUTS,
    RUN_FIELDS,
    TARGET,
    Y,
)
from tests import reference

REALS = [np.float32, np.float64]
TWINS = {
    "categorical_accuracy": reference.categorical_accuracy,
    "binary_accuracy": reference.binary_accuracy,
    "squared_error": lambda y, target: reference.squared_error(y, target, 0.0, 1.0)[0],
    "absolute_error": lambda y, target: reference.absolute_error(y, target, 0.0, 1.0)[0],
    "top_k_accuracy": lambda y, target: reference.top_k_accuracy(y, target, 2),
}
CASES = [*((name, False) for name in TWINS), ("categorical_accuracy", True), ("top_k_accuracy", True)]

#: What a kernel takes between the target and the rank.
FURTHER = {"top_k_accuracy": (2,)}


def example(rows, width, labels, real, seed=0):
    random = np.random.default_rng(seed)
    # few different numbers, so that equal ones meet
    y = random.integers(0, 4, (rows, width)) / 4
    target = random.integers(0, width, (rows, 1)) if labels else random.integers(0, 3, (rows, width)) / 2
    return y.astype(real), target.astype(real)


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize(("name", "labels"), CASES)
@settings(max_examples=15, deadline=None)
@given(rows=st.integers(1, 9), width=st.integers(1, 30), size=st.integers(1, 4), seed=st.integers(0, 99))
def test_twin(name, labels, real, rows, width, size, seed):
    y, target = example(rows, width, labels, real, seed)
    values = np.full(rows, np.nan)
    for rank in range(size):
        getattr(metrics, name)(values, y, target, *FURTHER.get(name, ()), rank, size)
    np.testing.assert_allclose(values, TWINS[name](y, target), rtol=1e-14)


def test_by_hand():
    y = np.array([[0.2, 0.7, 0.7], [0.9, 0.1, 0.0]])
    values = np.empty(2)
    metrics.categorical_accuracy(values, y, np.array([[1.0], [2.0]]), 0, 1)
    assert list(values) == [1, 0]
    target = np.array([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    metrics.binary_accuracy(values, y, target, 0, 1)
    assert list(values) == [2 / 3, 1]
    metrics.squared_error(values, y, target, 0, 1)
    assert values == pytest.approx([(0.64 + 0.09 + 0.09) / 3, 0.02 / 3])
    metrics.absolute_error(values, y, target, 0, 1)
    assert values == pytest.approx([1.4 / 3, 0.2 / 3])


@pytest.mark.parametrize("bad", [-1.0, 3.0, np.nan, np.inf])
def test_a_label_that_is_no_class_is_no_hit(bad):
    values, y = np.full(1, np.nan), np.array([[0.1, 0.2, 0.7]])
    metrics.categorical_accuracy(values, y, np.array([[bad]]), 0, 1)
    assert values[0] == 0
    metrics.top_k_accuracy(values, y, np.array([[bad]]), 2, 0, 1)
    assert values[0] == 0


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize(("name", "labels"), CASES)
def test_plans(name, labels, real):
    rows, width, capacity = 7, 4, 8
    y, target = example(rows, width, labels, real)
    activations = np.full((2, capacity * width), np.nan, real)
    activations[1, : rows * width] = y.ravel()
    values = np.full((3, capacity), np.nan)
    options = np.array([9.0, 9.0, 1.0, 2.0])  # from 2 on: which metric of the batch it is, and k
    fields = {
        ACTIVATIONS: activations,
        ARENA_ROWS: capacity,
        CAPACITY: capacity,
        TARGET: target,
        METRICS: values,
        OPTIONS: options,
    }
    run = reference.record(RUN_FIELDS, fields)
    operation = reference.record(OPERATION_FIELDS, {INPUTS: width, OUTPUTS: target.shape[1], Y: width, OPTION: 2})
    is_top_k = name == "top_k_accuracy"
    plan = metrics.plan_top_k_accuracy(real) if is_top_k else metrics.plan_metric(getattr(metrics, name), real)
    for first, last in ((0, 3), (3, rows)):
        assert reference.run_plan(plan, run, operation, first, last) == OK
    np.testing.assert_allclose(values[1, :rows], TWINS[name](y, target), rtol=1e-14)
    assert np.isnan(values[[0, 2]]).all() and np.isnan(values[1, rows:]).all()
