"""Metrics: a float64 value for each row; the metric of a batch is their mean."""

import functools

import numpy as np

from .. import layout as at
from ..jit import formula, kernel
from ..layout import OK, activation, operation_record, option_at, run_record, share
from ..memory import vector
from .losses import targets
from .row_functions import class_of

__all__ = [
    "absolute_error",
    "binary_accuracy",
    "categorical_accuracy",
    "plan_metric",
    "plan_top_k_accuracy",
    "squared_error",
    "top_k_accuracy",
]


@kernel
def categorical_accuracy(values, y, target, rank, size):
    """1 where the largest of the outputs is that of the label, else 0; the first of equals counts.

    values : (rows,) float64; y : (rows, classes); target : (rows, 1), the label, or (rows, classes).
    """
    classes = y.shape[1]
    first, last = share(y.shape[0], rank, size)
    for row in range(first, last):
        label = class_of(target, row, classes)
        output = y[row, label] if label >= 0 else y.dtype.type(np.nan)
        better = 0  # a count and no search, so that the loop vectorizes
        for column in range(classes):
            better += (y[row, column] > output) | ((y[row, column] == output) & (column < label))
        values[row] = 1.0 if better == 0 and not np.isnan(output) else 0.0


@kernel
def top_k_accuracy(values, y, target, k, rank, size):
    """1 where fewer than ``k`` outputs are above that of the label, else 0.

    values : (rows,) float64; y : (rows, classes); target : (rows, 1), the label, or (rows, classes).
    """
    classes = y.shape[1]
    first, last = share(y.shape[0], rank, size)
    for row in range(first, last):
        label = class_of(target, row, classes)
        output = y[row, label] if label >= 0 else y.dtype.type(np.nan)
        above = 0
        for column in range(classes):
            above += y[row, column] > output
        values[row] = 1.0 if above < k and not np.isnan(output) else 0.0


@kernel
def binary_accuracy(values, y, target, rank, size):
    """The part of a row's outputs where y > 1/2 says the same as target > 1/2.

    values : (rows,) float64; y, target : (rows, width).
    """
    half, width = y.dtype.type(0.5), y.shape[1]
    first, last = share(y.shape[0], rank, size)
    for row in range(first, last):
        hits = 0
        for column in range(width):
            hits += (y[row, column] > half) == (target[row, column] > half)
        values[row] = hits / width


@kernel
def squared_error(values, y, target, rank, size):
    """The mean of (y - target)**2 over a row's outputs.

    values : (rows,) float64; y, target : (rows, width).
    """
    width = y.shape[1]
    first, last = share(y.shape[0], rank, size)
    for row in range(first, last):
        total = 0.0
        for column in range(width):
            error = np.float64(y[row, column]) - np.float64(target[row, column])
            total += error * error
        values[row] = total / width


@kernel
def absolute_error(values, y, target, rank, size):
    """The mean of abs(y - target) over a row's outputs.

    values : (rows,) float64; y, target : (rows, width).
    """
    width = y.shape[1]
    first, last = share(y.shape[0], rank, size)
    for row in range(first, last):
        total = 0.0
        for column in range(width):
            total += abs(np.float64(y[row, column]) - np.float64(target[row, column]))
        values[row] = total / width


@formula
def _rows(run, operation, first, last, real):
    """values, y and target of rows first .. last; the first option says which metric of the batch it is."""
    number = int(option_at(run, operation[at.OPTION]))
    values = vector(run[at.METRICS] + 8 * (number * run[at.CAPACITY] + first), last - first, np.float64)
    y = activation(run, operation[at.Y], operation[at.INPUTS], first, last, real)
    return values, y, targets(run, operation[at.OUTPUTS], first, last, real)


@functools.cache
def plan_metric(metric, real):
    """A kernel ``metric(values, y, target, rank, size)`` for a plan: y at Y.

    INPUTS: width of y, OUTPUTS: of the target; its option: which metric of the batch it is.
    """

    def measure(run_address, operation_address, first, last):
        run, operation = run_record(run_address), operation_record(operation_address)
        values, y, target = _rows(run, operation, first, last, real)
        metric(values, y, target, 0, 1)
        return OK

    return measure


@functools.cache
def plan_top_k_accuracy(real):
    """``top_k_accuracy`` for a plan, as in ``plan_metric``; the next option: k."""

    def measure(run_address, operation_address, first, last):
        run, operation = run_record(run_address), operation_record(operation_address)
        values, y, target = _rows(run, operation, first, last, real)
        k = int(option_at(run, operation[at.OPTION] + 1))
        top_k_accuracy(values, y, target, k, 0, 1)
        return OK

    return measure
