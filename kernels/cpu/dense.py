"""The dense layer: y = xW + b, and the way back.

W is (inputs, units) and b (units,), or of length 0 where there is no bias. In two-dimensional arrays the
numbers of a row lie side by side; rows may be any distance apart. There is at least one row and one input.
Each worker brings its own part of a ``workspace``: it packs blocks of the matrices into it.
"""

import functools

from .. import layout as at
from ..formulas.activations import relu
from ..jit import formula, kernel
from ..layout import OK, activation_address, derivative_address, elements, operation_record, run_record, share
from ..memory import item_size, vector
from .column import multiply_column
from .gemm import column_sums, multiply
from .pieces import IN_PIECES

__all__ = [
    "dense_backward_input",
    "dense_backward_weights",
    "dense_forward",
    "plan_dense_backward",
    "plan_dense_bias",
    "plan_dense_forward",
    "plan_dense_join",
    "plan_dense_weights",
]


@formula
def _row_length(array):
    """Numbers from one row of a matrix to the next."""
    return array.strides[0] // array.itemsize


@formula
def _multiply_forward(room, y, y_row, x, x_row, W, W_row, b, rows, inputs, units, depth, rectified, of_pieces, real):
    """Y = XW + b, or its ReLU. Arrays are given by their addresses; y_row : numbers from one row of y to the next.

    The sums over each ``depth`` of the inputs are formed by themselves, and then added.
    """
    if units == 1 and y_row == 1 and W_row == 1:
        multiply_column(y, x, x_row, W, b, rows, inputs, rectified, real)
    else:
        size, start, start_row = item_size(real), b, 0
        for k in range(0, inputs, depth):
            deep = min(depth, inputs - k)
            last = rectified if k + deep == inputs else 0
            part_of_x, part_of_W = x + size * k, W + size * k * W_row
            multiply(
                room, y, y_row, part_of_x, x_row, 1, part_of_W, W_row, 1, start, start_row, rows, units, deep, last,
                of_pieces,
            )  # fmt: skip
            start, start_row = y, y_row


@formula
def _multiply_backward(room, dx, dx_row, dy, dy_row, W, W_row, rows, inputs, units, batch_rows, of_pieces, real):
    """dX = dY·Wᵀ. Of a batch of a single row it is W·dYᵀ: then nothing has to be transposed.

    batch_rows : of the whole batch, of which these ``rows`` are a worker's: the bits must not depend on its share.
    """
    if batch_rows == 1:
        if rows == 1:
            multiply_column(dx, W, W_row, dy, 0, inputs, units, 0, real)
    elif inputs == 1 and dx_row == 1:
        multiply_column(dx, dy, dy_row, W, 0, rows, units, 0, real)
    else:
        multiply(room, dx, dx_row, dy, dy_row, 1, W, 1, W_row, 0, 0, rows, inputs, units, 0, of_pieces)


@formula
def _multiply_weights(room, dW, dW_row, x, x_row, dy, dy_row, rows, inputs, units, of_pieces):
    """dW = Xᵀ·dY. A single column of it is the row dYᵀ·X, which fills vectors."""
    if units == 1 and dW_row == 1:
        multiply(room, dW, inputs, dy, 0, dy_row, x, x_row, 1, 0, 0, 1, inputs, rows, 0, of_pieces)
    else:
        multiply(room, dW, dW_row, x, 1, x_row, dy, dy_row, 1, 0, 0, inputs, units, rows, 0, of_pieces)


@kernel
def dense_forward(y, x, W, b, workspace, rank, size):
    """y = xW + b.

    y : (rows, units); x : (rows, inputs); W : (inputs, units); b : (units,) or (0,).
    """
    first, last = share(x.shape[0], rank, size)
    _multiply_forward(
        workspace.ctypes.data, y.ctypes.data + first * y.strides[0], _row_length(y),
        x.ctypes.data + first * x.strides[0], _row_length(x), W.ctypes.data, _row_length(W),
        b.ctypes.data if b.shape[0] > 0 else 0, last - first, W.shape[0], W.shape[1], W.shape[0], 0, 0, x.dtype.type,
    )  # fmt: skip


@kernel
def dense_backward_input(dx, dy, W, workspace, rank, size):
    """dx = dy·Wᵀ.

    dx : (rows, inputs); dy : (rows, units); W : (inputs, units). A batch of a single row is summed in lanes
    (``column.py``), so it may differ in the last bits from that row in a larger batch.
    """
    first, last = share(dx.shape[0], rank, size)
    _multiply_backward(
        workspace.ctypes.data, dx.ctypes.data + first * dx.strides[0], _row_length(dx),
        dy.ctypes.data + first * dy.strides[0], _row_length(dy), W.ctypes.data, _row_length(W),
        last - first, W.shape[0], W.shape[1], dx.shape[0], 0, dx.dtype.type,
    )  # fmt: skip


@kernel
def dense_backward_weights(dW, db, dy, x, workspace, rank, size):
    """dW = xᵀ·dy and db = the sums of dy over the rows.

    dW : (inputs, units); db : (units,) or (0,); dy : (rows, units); x : (rows, inputs). A worker forms a share
    of the rows of dW and of the numbers of db, over all rows of the batch.
    """
    first, last = share(dW.shape[0], rank, size)
    _multiply_weights(
        workspace.ctypes.data, dW.ctypes.data + first * dW.strides[0], _row_length(dW),
        x.ctypes.data + first * x.itemsize, _row_length(x), dy.ctypes.data, _row_length(dy),
        dy.shape[0], last - first, dW.shape[1], 0,
    )  # fmt: skip
    first, last = share(db.shape[0], rank, size)
    if first < last:
        sums, place = db.ctypes.data + first * db.itemsize, dy.ctypes.data + first * dy.itemsize
        column_sums(sums, place, _row_length(dy), dy.shape[0], last - first, db.dtype.type)


@formula
def _rows_and_columns(run, shared, columns, first, last):
    """(first row, rows, first column, columns): of rows ``first`` to ``last`` all columns or, where columns are
    ``shared``, these columns of all rows of the batch.
    """
    if shared != 0:
        return 0, run[at.BATCH_ROWS], first, last - first
    return first, last - first, 0, columns


@functools.cache
def plan_dense_forward(real):
    """``dense_forward`` for a plan, with the ReLU that follows it where RECTIFIED says so.

    For rows ``first`` to ``last``; where workers share Y_COLUMNS, for these columns and all rows of the batch. The sums
    over each DEPTH of the inputs are formed by themselves, and then added, as ``plan_dense_join`` adds them.
    """

    def forward(run_address, operation_address, first, last):
        run, operation = run_record(run_address), operation_record(operation_address)
        inputs, units, size = operation[at.INPUTS], operation[at.OUTPUTS], item_size(real)
        row, rows, column, columns = _rows_and_columns(run, operation[at.Y_COLUMNS], units, first, last)
        y = activation_address(run, operation[at.Y], units, row, real) + size * column
        x = activation_address(run, operation[at.X], inputs, row, real)
        weights = run[at.PARAMETERS] + size * (operation[at.W] + column)
        bias = run[at.PARAMETERS] + size * (operation[at.B] + column) if operation[at.B] >= 0 else 0
        depth = operation[at.DEPTH] if operation[at.DEPTH] != 0 else inputs
        _multiply_forward(
            run[at.WORKSPACE], y, units, x, inputs, weights, units, bias, rows, inputs, columns, depth,
            operation[at.RECTIFIED], operation[at.OF_PIECES], real,
        )  # fmt: skip
        return OK

    return forward


@functools.cache
def plan_dense_join(real):
    """Add up what branches have summed, for a plan: rows ``first`` to ``last`` of Y get the bias, then the sums of the
    other branches, which stand at X; and the ReLU of that, where RECTIFIED says so. INPUTS : the number of branches.
    """

    def join(run_address, operation_address, first, last):
        run, operation = run_record(run_address), operation_record(operation_address)
        units, branches = operation[at.OUTPUTS], operation[at.INPUTS]
        for row in range(first, last):
            y = vector(activation_address(run, operation[at.Y], units, row, real), units, real)
            if operation[at.B] >= 0:
                bias = elements(run[at.PARAMETERS], operation[at.B], units, real)
                for i in range(units):
                    y[i] += bias[i]
            for branch in range(branches - 1):
                place = operation[at.X] + branch * units
                sums = vector(activation_address(run, place, units, row, real), units, real)
                for i in range(units):
                    y[i] += sums[i]
            if operation[at.RECTIFIED] != 0:
                for i in range(units):
                    y[i] = relu(y[i])
        return OK

    return join


@functools.cache
def plan_dense_backward(real):
    """``dense_backward_input`` for a plan: for rows or, where workers share DX_COLUMNS, for columns."""

    def backward(run_address, operation_address, first, last):
        run, operation = run_record(run_address), operation_record(operation_address)
        inputs, units, size = operation[at.INPUTS], operation[at.OUTPUTS], item_size(real)
        row, rows, column, columns = _rows_and_columns(run, operation[at.DX_COLUMNS], inputs, first, last)
        dx = derivative_address(run, operation[at.DX], inputs, row, real) + size * column
        dy = derivative_address(run, operation[at.DY], units, row, real)
        weights = run[at.PARAMETERS] + size * (operation[at.W] + column * units)
        _multiply_backward(
            run[at.WORKSPACE], dx, inputs, dy, units, weights, units, rows, columns, units, run[at.BATCH_ROWS],
            operation[at.OF_PIECES], real,
        )  # fmt: skip
        return OK

    return backward


@functools.cache
def plan_dense_weights(real):
    """Rows ``first`` to ``last`` of dW over the rows to be summed, as ``dense_backward_weights``, for a plan."""

    def weights(run_address, operation_address, first, last):
        run, operation = run_record(run_address), operation_record(operation_address)
        inputs, units, size = operation[at.INPUTS], operation[at.OUTPUTS], item_size(real)
        gradient = run[at.GRADIENTS] + size * (operation[at.W] + first * units)
        x = activation_address(run, operation[at.X], inputs, run[at.SUMMED_FIRST], real) + size * first
        dy, dy_row = derivative_address(run, operation[at.DY], units, run[at.SUMMED_FIRST], real), units
        if operation[at.DW_OF_PIECES] != 0:  # dy is split once, for the first rows of dW
            if run[at.DY_IN_PIECES] == operation_address:
                dy_row = IN_PIECES
            run[at.DY_IN_PIECES] = operation_address
        _multiply_weights(
            run[at.WORKSPACE], gradient, units, x, inputs, dy, dy_row, run[at.SUMMED_ROWS], last - first, units,
            operation[at.DW_OF_PIECES],
        )  # fmt: skip
        return OK

    return weights


@functools.cache
def plan_dense_bias(real):
    """Numbers ``first`` to ``last`` of db over the rows to be summed, as ``dense_backward_weights``, for a plan."""

    def bias(run_address, operation_address, first, last):
        run, operation = run_record(run_address), operation_record(operation_address)
        units, size = operation[at.OUTPUTS], item_size(real)
        dy = derivative_address(run, operation[at.DY], units, run[at.SUMMED_FIRST], real) + size * first
        sums = run[at.GRADIENTS] + size * (operation[at.B] + first)
        column_sums(sums, dy, units, run[at.SUMMED_ROWS], last - first, real)
        return OK

    return bias
