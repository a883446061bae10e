"""The dense layer: y = xW + b, and the way back.

W is (inputs, units) and b (units,), or of length 0 where there is no bias. In two-dimensional arrays the
numbers of a row lie side by side; rows may be any distance apart. There is at least one row and one input.
Each worker brings its own part of a ``workspace``: it packs blocks of the matrices into it.
"""

import functools

from ..jit import formula, kernel
from ..layout import (
    BATCH_ROWS,
    DW_OF_PIECES,
    DX,
    DX_COLUMNS,
    DY,
    DY_IN_PIECES,
    GRADIENTS,
    INPUTS,
    NOWHERE,
    OF_PIECES,
    OK,
    OUTPUTS,
    PARAMETERS,
    RECTIFIED,
    SUMMED_FIRST,
    SUMMED_ROWS,
    WORKSPACE,
    Y_COLUMNS,
    B,
    W,
    X,
    Y,
    activation_address,
    derivative_address,
    operation_record,
    run_record,
    share,
)
from ..memory import item_size
from .gemm import column_sums, multiply
from .pieces import IN_PIECES

__all__ = [
    "dense_backward_input",
    "dense_backward_weights",
    "dense_forward",
    "plan_dense_backward",
    "plan_dense_bias",
    "plan_dense_forward",
    "plan_dense_weights",
]


@formula
def _row_length(array):
    """Numbers from one row of a matrix to the next."""
    return array.strides[0] // array.itemsize


@kernel
def dense_forward(y, x, W, b, workspace, rank, size):
    """y = xW + b.

    y : (rows, units); x : (rows, inputs); W : (inputs, units); b : (units,) or (0,).
    """
    first, last = share(x.shape[0], rank, size)
    multiply(
        workspace.ctypes.data, y.ctypes.data + first * y.strides[0], _row_length(y),
        x.ctypes.data + first * x.strides[0], _row_length(x), 1, W.ctypes.data, _row_length(W), 1,
        b.ctypes.data if b.shape[0] > 0 else 0, 0, last - first, W.shape[1], W.shape[0], 0, 0,
    )  # fmt: skip


@kernel
def dense_backward_input(dx, dy, W, workspace, rank, size):
    """dx = dy·Wᵀ.

    dx : (rows, inputs); dy : (rows, units); W : (inputs, units).
    """
    first, last = share(dx.shape[0], rank, size)
    multiply(
        workspace.ctypes.data, dx.ctypes.data + first * dx.strides[0], _row_length(dx),
        dy.ctypes.data + first * dy.strides[0], _row_length(dy), 1, W.ctypes.data, 1, _row_length(W),
        0, 0, last - first, W.shape[0], W.shape[1], 0, 0,
    )  # fmt: skip


@kernel
def dense_backward_weights(dW, db, dy, x, workspace, rank, size):
    """dW = xᵀ·dy and db = the sums of dy over the rows.

    dW : (inputs, units); db : (units,) or (0,); dy : (rows, units); x : (rows, inputs). A worker forms a share
    of the rows of dW and of the numbers of db, over all rows of the batch.
    """
    first, last = share(dW.shape[0], rank, size)
    multiply(
        workspace.ctypes.data, dW.ctypes.data + first * dW.strides[0], _row_length(dW),
        x.ctypes.data + first * x.itemsize, 1, _row_length(x), dy.ctypes.data, _row_length(dy), 1,
        0, 0, last - first, dW.shape[1], dy.shape[0], 0, 0,
    )  # fmt: skip
    first, last = share(db.shape[0], rank, size)
    if first < last:
        at, place = db.ctypes.data + first * db.itemsize, dy.ctypes.data + first * dy.itemsize
        column_sums(at, place, _row_length(dy), dy.shape[0], last - first, db.dtype.type)


@functools.cache
def plan_dense_forward(real):
    """``dense_forward`` for a plan, with the ReLU that follows it where RECTIFIED says so.

    For rows ``first`` to ``last``; where workers share Y_COLUMNS, for these columns and all rows of the batch.
    """

    def forward(run_address, operation_address, first, last):
        run, operation = run_record(run_address), operation_record(operation_address)
        inputs, units, size = operation[INPUTS], operation[OUTPUTS], item_size(real)
        column, columns = 0, units
        if operation[Y_COLUMNS] != 0:
            column, columns, first, last = first, last - first, 0, run[BATCH_ROWS]
        y = activation_address(run, operation[Y], units, first, real) + size * column
        x = activation_address(run, operation[X], inputs, first, real)
        weights = run[PARAMETERS] + size * (operation[W] + column)
        bias = run[PARAMETERS] + size * (operation[B] + column) if operation[B] >= 0 else 0
        multiply(
            run[WORKSPACE], y, units, x, inputs, 1, weights, units, 1, bias, 0, last - first, columns, inputs,
            operation[RECTIFIED], operation[OF_PIECES],
        )  # fmt: skip
        return OK

    return forward


@functools.cache
def plan_dense_backward(real):
    """``dense_backward_input`` for a plan: for rows or, where workers share DX_COLUMNS, for columns."""

    def backward(run_address, operation_address, first, last):
        run, operation = run_record(run_address), operation_record(operation_address)
        if operation[DX] == NOWHERE:
            return OK
        inputs, units, size = operation[INPUTS], operation[OUTPUTS], item_size(real)
        column, columns = 0, inputs
        if operation[DX_COLUMNS] != 0:
            column, columns, first, last = first, last - first, 0, run[BATCH_ROWS]
        dx = derivative_address(run, operation[DX], inputs, first, real) + size * column
        dy = derivative_address(run, operation[DY], units, first, real)
        weights = run[PARAMETERS] + size * (operation[W] + column * units)
        multiply(
            run[WORKSPACE], dx, inputs, dy, units, 1, weights, 1, units, 0, 0, last - first, columns, units, 0,
            operation[OF_PIECES],
        )  # fmt: skip
        return OK

    return backward


@functools.cache
def plan_dense_weights(real):
    """Rows ``first`` to ``last`` of dW over the rows to be summed, as ``dense_backward_weights``, for a plan."""

    def weights(run_address, operation_address, first, last):
        run, operation = run_record(run_address), operation_record(operation_address)
        inputs, units, size = operation[INPUTS], operation[OUTPUTS], item_size(real)
        gradient = run[GRADIENTS] + size * (operation[W] + first * units)
        x = activation_address(run, operation[X], inputs, run[SUMMED_FIRST], real) + size * first
        dy = derivative_address(run, operation[DY], units, run[SUMMED_FIRST], real)
        dy_row = units
        if operation[DW_OF_PIECES] != 0:  # dy is split once, for the first rows of dW
            if run[DY_IN_PIECES] == operation_address:
                dy_row = IN_PIECES
            run[DY_IN_PIECES] = operation_address
        multiply(
            run[WORKSPACE], gradient, units, x, 1, inputs, dy, dy_row, 1, 0, 0, last - first, units, run[SUMMED_ROWS],
            0, operation[DW_OF_PIECES],
        )  # fmt: skip
        return OK

    return weights


@functools.cache
def plan_dense_bias(real):
    """Numbers ``first`` to ``last`` of db over the rows to be summed, as ``dense_backward_weights``, for a plan."""

    def bias(run_address, operation_address, first, last):
        run, operation = run_record(run_address), operation_record(operation_address)
        units, size = operation[OUTPUTS], item_size(real)
        dy = derivative_address(run, operation[DY], units, run[SUMMED_FIRST], real) + size * first
        sums = run[GRADIENTS] + size * (operation[B] + first)
        column_sums(sums, dy, units, run[SUMMED_ROWS], last - first, real)
        return OK

    return bias
