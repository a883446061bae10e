"""Prediction with as little around it as can be: one call takes rows through a plan's operations, in the caller's
thread, with activations of its own.
"""

import numpy as np

from .. import layout as at
from ..formulas.elementary import not_finite
from ..jit import formula, kernel
from ..layout import FAULT, NOT_FINITE, OK, RUN_FIELDS
from .engine import forward_rows


@formula
def _fits(x, item, row_bytes):
    """Whether x, (rows, width), holds floating-point numbers of ``item`` bytes, row after row of ``row_bytes`` each."""
    real = np.isrealobj(x) and x.dtype.type(0.5) != 0 and x.itemsize == item
    side_by_side = x.shape[1] < 2 or x.strides[1] == item
    row_after_row = x.shape[0] < 2 or x.strides[0] == row_bytes
    return real and x.shape[1] * item == row_bytes and (x.shape[0] == 0 or (side_by_side and row_after_row))


@kernel
def predict_into(y, x, state):
    """y = the model's outputs for the rows of x, without dropout. It can be called from functions of Numba, too.

    y : (rows, outputs); x : (rows, inputs); both C-contiguous and of the model's type; state : what
    ``Model.compiled_predict().state`` holds: a run record and a program. Returns 1; 0 where widths, types or strides
    do not fit, and 2 where x has a number that is not finite: y then is as it was.
    """
    run, program = state[:RUN_FIELDS], state[RUN_FIELDS:]
    rows, item = x.shape[0], program[at.ITEM_BYTES]
    fits = _fits(x, item, program[at.INPUT_ROW_BYTES]) and _fits(y, item, program[at.OUTPUT_ROW_BYTES])
    if not fits or y.shape[0] != rows:
        return FAULT
    bad = False
    for row in range(rows):
        for column in range(x.shape[1]):
            bad |= not_finite(x[row, column])
    if bad:
        return NOT_FINITE
    for start in range(0, rows, run[at.CAPACITY]):
        run[at.BATCH_ROWS] = min(run[at.CAPACITY], rows - start)
        run[at.INPUT] = x.ctypes.data + start * program[at.INPUT_ROW_BYTES]
        run[at.OUTPUT] = y.ctypes.data + start * program[at.OUTPUT_ROW_BYTES]
        status = forward_rows(run.ctypes.data, program, 0, run[at.BATCH_ROWS], 0, 1)
        if status != OK:
            return status
    return OK
