"""Activation layers on the CPU: the scalar formulas over arrays, and softmax, which is one over a row.

``activation_forward(value)`` and ``activation_backward(slope)`` make the kernels of a formula, the user's own
included; ``plan_...`` make the functions that the engine calls by address.
"""

import functools

from .. import layout as at
from ..formulas.activations import ACTIVATIONS
from ..formulas.elementary import exp, log
from ..jit import formula, interleaved, kernel
from ..layout import OK, activation, derivative, operation_record, run_record, share
from ..memory import line
from .row_functions import row_maximum, row_product, row_sum

__all__ = [
    "activation_backward",
    "activation_forward",
    "activation_forward_keeping",
    "kept_slope",
    "kernels_of",
    "log_softmax_backward",
    "log_softmax_forward",
    "plan_activation_backward",
    "plan_activation_forward",
    "plan_activation_forward_keeping",
    "plan_backward",
    "plan_forward",
    "softmax_backward",
    "softmax_forward",
]


@formula
def same_memory(a, b):
    """Whether two arrays begin at the same place. A loop that writes to one and reads the other would then
    not use vectors, for it looks as if one round needed the last; a loop that knows one array alone does.
    """
    return a.ctypes.data == b.ctypes.data


@formula
def adjacent(x):
    """Whether the rows of x lie side by side in memory."""
    return x.strides[0] == x.shape[1] * x.itemsize


@formula
def lines_of(x, together):
    """How many lines to go through and their length: all rows ``together`` are one, or each is one."""
    return (min(1, x.size), x.size) if together else x.shape


@functools.cache
def activation_forward(value):
    """The kernel ``forward(y, x, rank, size)`` of the scalar formula ``value(x)``."""

    @kernel
    @interleaved
    def forward(y, x, rank, size):
        """y = value(x), element by element.

        y, x : (rows, width), possibly the same array; the columns of a row lie side by side.
        """
        first, last = share(x.shape[0], rank, size)
        y, x = y[first:last], x[first:last]
        lines, length = lines_of(y, adjacent(y) and adjacent(x))
        in_place = same_memory(y, x)
        for number in range(lines):
            outputs, inputs = line(y, number, length), line(x, number, length)
            if in_place:
                for i in range(length):
                    outputs[i] = value(outputs[i])
            else:
                for i in range(length):
                    outputs[i] = value(inputs[i])

    return forward


@functools.cache
def activation_backward(slope):
    """The kernel ``backward(dx, dy, x, y, rank, size)`` of the scalar formula ``slope(x, y)``."""

    @kernel
    @interleaved
    def backward(dx, dy, x, y, rank, size):
        """dx = dy * slope(x, y), element by element.

        dx, dy, x, y : (rows, width); dx may be dy, and x may be y where the slope looks at y alone. The
        columns of a row lie side by side.
        """
        first, last = share(x.shape[0], rank, size)
        dx, dy, x, y = dx[first:last], dy[first:last], x[first:last], y[first:last]
        lines, length = lines_of(dx, adjacent(dx) and adjacent(dy) and adjacent(x) and adjacent(y))
        in_place = same_memory(dx, dy)
        for number in range(lines):
            results, factors = line(dx, number, length), line(dy, number, length)
            inputs, outputs = line(x, number, length), line(y, number, length)
            if in_place:
                for i in range(length):
                    results[i] = results[i] * slope(inputs[i], outputs[i])
            else:
                for i in range(length):
                    results[i] = factors[i] * slope(inputs[i], outputs[i])

    return backward


@functools.cache
def activation_forward_keeping(value, slope):
    """The kernel ``forward(y, x, rank, size)`` of the formulas ``value(x)`` and ``slope(x, y)``, for training."""

    @kernel
    @interleaved
    def forward(y, x, rank, size):
        """y = value(x) and x = slope(x, y), element by element: what the two have in common is computed once.

        y, x : (rows, width), not the same memory; the columns of a row lie side by side.
        """
        first, last = share(x.shape[0], rank, size)
        y, x = y[first:last], x[first:last]
        lines, length = lines_of(y, adjacent(y) and adjacent(x))
        for number in range(lines):
            outputs, inputs = line(y, number, length), line(x, number, length)
            for i in range(length):
                argument = inputs[i]
                result = value(argument)
                outputs[i] = result
                inputs[i] = slope(argument, result)

    return forward


@formula
def kept_slope(x, y):
    """The slope that ``activation_forward_keeping`` left in place of x."""
    return x


exponential = activation_forward(exp)


@kernel
def softmax_forward(y, x, rank, size):
    """y = exp(x) / sum(exp(x)) of each row; with x - max(x) for x, which is the same and cannot overflow.

    y, x : (rows, width), possibly the same array. A row with NaN or +inf is all NaN.
    """
    one, zero = x.dtype.type(1), x.dtype.type(0)
    first, last = share(x.shape[0], rank, size)
    y, x = y[first:last], x[first:last]
    for row in range(x.shape[0]):
        largest = row_maximum(x, row)
        for column in range(x.shape[1]):
            y[row, column] = x[row, column] - largest
    exponential(y, y, 0, 1)
    for row in range(x.shape[0]):
        scale = one / row_sum(y, row, zero)
        for column in range(x.shape[1]):
            y[row, column] = y[row, column] * scale


@kernel
def softmax_backward(dx, dy, x, y, rank, size):
    """dx = y * (dy - sum(y * dy)) of each row: dy times the Jacobian diag(y) - y y'.

    dx, dy, x, y : (rows, width); dx may be dy; x is not read.
    """
    real = y.dtype.type
    first, last = share(y.shape[0], rank, size)
    in_place = same_memory(dx, dy)
    for row in range(first, last):
        mean = row_product(dy, y, row, real(0))
        if in_place:
            for column in range(y.shape[1]):
                dx[row, column] = y[row, column] * (dx[row, column] - mean)
        else:
            for column in range(y.shape[1]):
                dx[row, column] = y[row, column] * (dy[row, column] - mean)


@kernel
def log_softmax_forward(y, x, rank, size):
    """y = log(softmax(x)) = x - max(x) - log(sum(exp(x - max(x)))) of each row.

    y, x : (rows, width), not the same memory. A row with NaN or +inf is all NaN.
    """
    zero = x.dtype.type(0)
    first, last = share(x.shape[0], rank, size)
    y, x = y[first:last], x[first:last]
    for row in range(x.shape[0]):
        largest = row_maximum(x, row)
        for column in range(x.shape[1]):
            y[row, column] = x[row, column] - largest
    exponential(y, y, 0, 1)
    for row in range(x.shape[0]):
        largest, logarithm = row_maximum(x, row), log(row_sum(y, row, zero))
        for column in range(x.shape[1]):
            y[row, column] = (x[row, column] - largest) - logarithm


@kernel
def log_softmax_backward(dx, dy, x, y, rank, size):
    """dx = dy - exp(y) * sum(dy) of each row.

    dx, dy, x, y : (rows, width); dx may be dy; x is not read.
    """
    real = y.dtype.type
    first, last = share(y.shape[0], rank, size)
    in_place = same_memory(dx, dy)
    for row in range(first, last):
        total = row_sum(dy, row, real(0))
        if in_place:
            for column in range(y.shape[1]):
                dx[row, column] = dx[row, column] - exp(y[row, column]) * total
        else:
            for column in range(y.shape[1]):
                dx[row, column] = dy[row, column] - exp(y[row, column]) * total


@functools.cache
def plan_forward(kernel_of, real):
    """The function of a plan that runs a kernel ``forward(y, x, rank, size)``."""

    def forward(run_address, operation_address, first, last):
        run, operation = run_record(run_address), operation_record(operation_address)
        width = operation[at.INPUTS]
        y = activation(run, operation[at.Y], width, first, last, real)
        x = activation(run, operation[at.X], width, first, last, real)
        kernel_of(y, x, 0, 1)
        return OK

    return forward


@functools.cache
def plan_backward(kernel_of, real):
    """The function of a plan that runs a kernel ``backward(dx, dy, x, y, rank, size)``."""

    def backward(run_address, operation_address, first, last):
        run, operation = run_record(run_address), operation_record(operation_address)
        width = operation[at.INPUTS]
        dx = derivative(run, operation[at.DX], width, first, last, real)
        dy = derivative(run, operation[at.DY], width, first, last, real)
        x = activation(run, operation[at.X], width, first, last, real)
        y = activation(run, operation[at.Y], width, first, last, real)
        kernel_of(dx, dy, x, y, 0, 1)
        return OK

    return backward


def plan_activation_forward(value, real):
    """``activation_forward(value)`` for a plan."""
    return plan_forward(activation_forward(value), real)


def plan_activation_forward_keeping(value, slope, real):
    """``activation_forward_keeping(value, slope)`` for a plan; ``kept_slope`` is the slope of its way back."""
    return plan_forward(activation_forward_keeping(value, slope), real)


def plan_activation_backward(slope, real):
    """``activation_backward(slope)`` for a plan."""
    return plan_backward(activation_backward(slope), real)


def formulas_of(activation):
    """The formulas (value, slope) of an activation: its name, or an object with ``formulas`` of its own."""
    return ACTIVATIONS[activation][:2] if isinstance(activation, str) else activation.formulas


def kernels_of(activation):
    """The kernels (forward, backward) of an activation: its name, or an object with ``formulas`` of its own."""
    if activation == "softmax":
        return softmax_forward, softmax_backward
    if activation == "log_softmax":
        return log_softmax_forward, log_softmax_backward
    value, slope = formulas_of(activation)
    return activation_forward(value), activation_backward(slope)
