"""What happens to each row beside the network: a look at its inputs, its weight in the loss, and its outputs kept for
metrics.
"""

import functools

import numpy as np

from .. import layout as at
from ..formulas.elementary import not_finite
from ..formulas.updates import noted
from ..jit import kernel
from ..layout import NOT_FINITE, NOWHERE, OK, activation, derivative, operation_record, run_record, share
from ..memory import item_size, line, matrix, vector
from .gather import row_number

__all__ = ["keep_rows", "plan_keep_rows", "plan_look_at_rows", "plan_weigh_rows", "weigh_rows"]


@kernel
def weigh_rows(losses, dy, weights, rank, size):
    """losses *= weights; dy *= weights, row by row.

    losses, weights : (rows,) float64; dy : (rows, outputs). Returns NOT_FINITE where a loss is not finite.
    """
    real = dy.dtype.type
    first, last = share(dy.shape[0], rank, size)
    bad = False
    for row in range(first, last):
        losses[row] *= weights[row]
        bad |= not_finite(losses[row])
        weight = real(weights[row])
        for column in range(dy.shape[1]):
            dy[row, column] *= weight
    return NOT_FINITE if bad else OK


@kernel
def keep_rows(kept, y, rank, size):
    """kept = y. kept, y : (rows, outputs)."""
    first, last = share(y.shape[0], rank, size)
    for row in range(first, last):
        for column in range(y.shape[1]):
            kept[row, column] = y[row, column]


@functools.cache
def plan_look_at_rows(real):
    """NOT_FINITE where an input of the batch's rows first .. last is infinite or not a number; INPUTS: their width."""

    def look(run_address, operation_address, first, last):
        run, operation = run_record(run_address), operation_record(operation_address)
        x = activation(run, NOWHERE, operation[at.INPUTS], first, last, real)
        numbers, bad = line(x, 0, x.size), np.int32(0)
        for i in range(numbers.shape[0]):
            bad = noted(bad, numbers[i])
        return NOT_FINITE if bad != 0 else OK

    return look


@functools.cache
def plan_weigh_rows(real):
    """``weigh_rows`` for a plan: y's derivative at DY; row r of the batch has the weight of ORDER[r] in the data."""

    def weigh(run_address, operation_address, first, last):
        run, operation = run_record(run_address), operation_record(operation_address)
        losses = vector(run[at.LOSSES], last, np.float64)
        dy = derivative(run, operation[at.DY], operation[at.INPUTS], 0, last, real)
        status = OK
        for row in range(first, last):
            weight = vector(run[at.WEIGHTS] + 8 * row_number(run, row), 1, np.float64)
            status = max(status, weigh_rows(losses[row : row + 1], dy[row : row + 1], weight, 0, 1))
        return status

    return weigh


@functools.cache
def plan_keep_rows(real):
    """``keep_rows`` for a plan: y at Y; KEPT is where the batch's first row goes."""

    def keep(run_address, operation_address, first, last):
        run, operation = run_record(run_address), operation_record(operation_address)
        width = operation[at.INPUTS]
        kept = matrix(run[at.KEPT] + first * width * item_size(real), last - first, width, real)
        keep_rows(kept, activation(run, operation[at.Y], width, first, last, real), 0, 1)
        return OK

    return keep
