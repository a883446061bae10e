"""The gather against NumPy's indexing, for any strides and order."""

import numpy as np
import pytest

from fastnn.kernels.cpu.gather import plan_gather
from fastnn.kernels.layout import (
    INPUT,
    INPUTS,
    OK,
    OPERATION_FIELDS,
    ORDER,
    OUTPUTS,
    RUN_FIELDS,
    SOURCE,
    SOURCE_COLUMN_STRIDE,
    SOURCE_ROW_STRIDE,
    TARGET,
    TARGET_SOURCE,
)
from tests import reference


def gather(real, source, targets, order, rows, width, outputs, parts):
    """What the gather makes of places full of NaN: (inputs, targets)."""
    inputs, target = np.full((rows, width), np.nan, real), np.full((rows, outputs), np.nan, real)
    run = reference.record(
        RUN_FIELDS,
        {
            INPUT: inputs,
            TARGET: target,
            SOURCE: 0 if source is None else source,
            TARGET_SOURCE: 0 if targets is None else targets,
            ORDER: 0 if order is None else order,
        },
    )
    if source is not None:
        run[SOURCE_ROW_STRIDE], run[SOURCE_COLUMN_STRIDE] = source.strides
    operation = reference.record(OPERATION_FIELDS, {INPUTS: width, OUTPUTS: outputs})
    for first, last in parts:
        assert reference.run_plan(plan_gather(real), run, operation, first, last) == OK
    return inputs, target


def layouts(data):
    yield data
    yield np.asfortranarray(data)
    yield np.repeat(data, 2, axis=0)[::2]
    yield np.repeat(data, 3, axis=1)[:, ::3]
    yield data[::-1].copy()[::-1]
    yield data[:, ::-1].copy()[:, ::-1]


@pytest.mark.parametrize("real", [np.float32, np.float64])
@pytest.mark.parametrize(("width", "outputs"), [(1, 1), (3, 2), (40, 10)])
def test_rows_are_those_of_the_order(real, width, outputs):
    random = np.random.default_rng(0)
    data = random.standard_normal((30, width)).astype(real)
    targets = random.standard_normal((30, outputs)).astype(real)
    order = random.permutation(30)[:12]
    for source in layouts(data):
        np.testing.assert_array_equal(source, data)
        inputs, target = gather(real, source, targets, order, 12, width, outputs, [(0, 1), (1, 5), (5, 12)])
        np.testing.assert_array_equal(inputs, data[order])
        np.testing.assert_array_equal(target, targets[order])


def test_without_an_order_rows_come_as_they_stand():
    data, targets = np.random.default_rng(0).standard_normal((2, 9, 4))
    inputs, target = gather(np.float64, data, targets, None, 6, 4, 4, [(2, 6)])
    np.testing.assert_array_equal(inputs[2:], data[2:6])
    np.testing.assert_array_equal(target[2:], targets[2:6])
    assert np.isnan(inputs[:2]).all() and np.isnan(target[:2]).all()


def test_what_is_missing_is_left_alone():
    data, targets = np.random.default_rng(0).standard_normal((2, 9, 4))
    inputs, target = gather(np.float64, None, targets, None, 6, 4, 4, [(0, 6)])
    assert np.isnan(inputs).all()
    np.testing.assert_array_equal(target, targets[:6])
    inputs, target = gather(np.float64, data, None, None, 6, 4, 4, [(0, 6)])
    np.testing.assert_array_equal(inputs, data[:6])
    assert np.isnan(target).all()
