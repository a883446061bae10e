"""Prediction with as little around it as can be: one call takes rows through a plan's operations, in the caller's
thread, with activations of its own.
"""

from ..jit import kernel
from ..layout import (
    BATCH_ROWS,
    CAPACITY,
    FAULT,
    INPUT,
    INPUT_ROW_BYTES,
    ITEM_BYTES,
    NOT_FINITE,
    OK,
    OUTPUT,
    OUTPUT_ROW_BYTES,
    RUN_FIELDS,
)
from .engine import forward_rows

__all__ = ["predict_into"]


@kernel
def predict_into(y, x, state):
    """y = the model's outputs for the rows of x, without dropout. It can be called from functions of Numba, too.

    y : (rows, outputs); x : (rows, inputs); both C-contiguous and of the model's type; state : what
    ``Model.compiled_predict().state`` holds: a run record and a program. Returns 1; 0 where widths or types do not
    fit, and 2 where x has a number that is not finite: y then is as it was.
    """
    run, program = state[:RUN_FIELDS], state[RUN_FIELDS:]
    rows, item = x.shape[0], x.itemsize
    fits = (
        y.shape[0] == rows
        and x.itemsize == program[ITEM_BYTES]
        and y.itemsize == program[ITEM_BYTES]
        and x.shape[1] * item == program[INPUT_ROW_BYTES]
        and y.shape[1] * item == program[OUTPUT_ROW_BYTES]
    )
    if not fits:
        return FAULT
    bad = False
    for row in range(rows):
        for column in range(x.shape[1]):
            bad |= x[row, column] - x[row, column] != 0
    if bad:
        return NOT_FINITE
    for start in range(0, rows, run[CAPACITY]):
        run[BATCH_ROWS] = min(run[CAPACITY], rows - start)
        run[INPUT] = x.ctypes.data + start * program[INPUT_ROW_BYTES]
        run[OUTPUT] = y.ctypes.data + start * program[OUTPUT_ROW_BYTES]
        status = forward_rows(run.ctypes.data, program, 0, run[BATCH_ROWS])
        if status != OK:
            return status
    return OK
