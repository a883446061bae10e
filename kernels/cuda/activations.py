"""Activation layers on the GPU: the scalar formulas over arrays, and softmax, which is one over a row.

``activation_forward(value)`` and ``activation_backward(slope)`` make the kernels of a formula, the user's own
included. A thread reads a place before it writes to it, so outputs may be inputs as on the CPU.
"""

import functools

import numpy as np
from numba import cuda

from ..cpu.activations import formulas_of, kept_slope
from ..formulas.elementary import exp, log
from .launch import THREADS, device, element, elements_of, kernel, launch, lines_of
from .reduce import group_maximum, group_sum, launch_rows, number_of, position

__all__ = [
    "activation_backward",
    "activation_forward",
    "activation_forward_keeping",
    "kept_slope",
    "kernels_of",
    "log_softmax_backward",
    "log_softmax_forward",
    "softmax_backward",
    "softmax_forward",
]


@functools.cache
def forward_kernel(value):
    @kernel
    def forward(y, x):
        row, column = element()
        if row < y.shape[0] and column < y.shape[1]:
            y[row, column] = value(x[row, column])

    return forward


@functools.cache
def activation_forward(value):
    """The kernel ``forward(y, x, stream)`` of the scalar formula ``value(x)``."""

    def forward(y, x, stream):
        """y = value(x), element by element.

        y, x : (rows, width), possibly the same array; the columns of a row lie side by side.
        """
        y, x = lines_of(y, x)
        launch(forward_kernel(value), elements_of(y), THREADS, stream, y, x)

    return forward


@functools.cache
def backward_kernel(slope):
    @kernel
    def backward(dx, dy, x, y):
        row, column = element()
        if row < y.shape[0] and column < y.shape[1]:
            dx[row, column] = dy[row, column] * slope(x[row, column], y[row, column])

    return backward


@functools.cache
def activation_backward(slope):
    """The kernel ``backward(dx, dy, x, y, stream)`` of the scalar formula ``slope(x, y)``."""

    def backward(dx, dy, x, y, stream):
        """dx = dy * slope(x, y), element by element.

        dx, dy, x, y : (rows, width); dx may be dy, and x may be y where the slope looks at y alone. The
        columns of a row lie side by side.
        """
        arrays = lines_of(dx, dy, x, y)
        launch(backward_kernel(slope), elements_of(arrays[0]), THREADS, stream, *arrays)

    return backward


@functools.cache
def keeping_kernel(value, slope):
    @kernel
    def forward(y, x):
        row, column = element()
        if row < y.shape[0] and column < y.shape[1]:
            argument = x[row, column]
            result = value(argument)
            y[row, column] = result
            x[row, column] = slope(argument, result)

    return forward


@functools.cache
def activation_forward_keeping(value, slope):
    """The kernel ``forward(y, x, stream)`` of the formulas ``value(x)`` and ``slope(x, y)``, for training."""

    def forward(y, x, stream):
        """y = value(x) and x = slope(x, y), element by element: what the two have in common is computed once.

        y, x : (rows, width), not the same memory; the columns of a row lie side by side.
        """
        y, x = lines_of(y, x)
        launch(keeping_kernel(value, slope), elements_of(y), THREADS, stream, y, x)

    return forward


@functools.cache
def rows_forward_kernel(summary, value, lanes, real):
    """The kernel of y = value(x - m, summary(sum(exp(x - m)))) of each row, with m = max(x)."""
    number, zero = number_of(real), real(0)

    @kernel
    def forward(y, x):
        room = cuda.shared.array(THREADS, number)
        t, lane, row = position(lanes)
        inside, width = row < x.shape[0], x.shape[1]
        largest, total = zero, zero
        if inside:
            largest = x[row, lane if lane < width else 0]
            for column in range(lane, width, lanes):
                largest = x[row, column] if x[row, column] > largest else largest
        largest = group_maximum(room, t, lane, lanes, largest)
        if inside:
            for column in range(lane, width, lanes):
                total += exp(x[row, column] - largest)
        total = group_sum(room, t, lane, lanes, total)
        if inside:
            found = summary(total)
            for column in range(lane, width, lanes):
                y[row, column] = value(x[row, column] - largest, found)

    return forward


@functools.cache
def rows_backward_kernel(term, slope, lanes, real):
    """The kernel of dx = slope(dy, y, sum(term(dy, y))) of each row."""
    number, zero = number_of(real), real(0)

    @kernel
    def backward(dx, dy, y):
        room = cuda.shared.array(THREADS, number)
        t, lane, row = position(lanes)
        inside, width = row < y.shape[0], y.shape[1]
        total = zero
        if inside:
            for column in range(lane, width, lanes):
                total += term(dy[row, column], y[row, column])
        total = group_sum(room, t, lane, lanes, total)
        if inside:
            for column in range(lane, width, lanes):
                dx[row, column] = slope(dy[row, column], y[row, column], total)

    return backward


@device
def inverse(total):
    return type(total)(1) / total


@device
def softmax_value(x, scale):
    return exp(x) * scale


@device
def softmax_term(dy, y):
    return dy * y


@device
def softmax_slope(dy, y, mean):
    return y * (dy - mean)


@device
def logarithm(total):
    return log(total)


@device
def log_softmax_value(x, logarithm_of_total):
    return x - logarithm_of_total


@device
def log_softmax_term(dy, y):
    return dy


@device
def log_softmax_slope(dy, y, total):
    return dy - exp(y) * total


softmax_forward_kernel = functools.partial(rows_forward_kernel, inverse, softmax_value)
softmax_backward_kernel = functools.partial(rows_backward_kernel, softmax_term, softmax_slope)
log_softmax_forward_kernel = functools.partial(rows_forward_kernel, logarithm, log_softmax_value)
log_softmax_backward_kernel = functools.partial(rows_backward_kernel, log_softmax_term, log_softmax_slope)


def softmax_forward(y, x, stream):
    """y = exp(x) / sum(exp(x)) of each row; with x - max(x) for x, which is the same and cannot overflow.

    y, x : (rows, width), possibly the same array. A row with NaN or +inf is all NaN.
    """
    launch_rows(softmax_forward_kernel, *x.shape, np.dtype(x.dtype).type, stream, y, x)


def softmax_backward(dx, dy, x, y, stream):
    """dx = y * (dy - sum(y * dy)) of each row: dy times the Jacobian diag(y) - y y'.

    dx, dy, x, y : (rows, width); dx may be dy; x is not read.
    """
    launch_rows(softmax_backward_kernel, *y.shape, np.dtype(y.dtype).type, stream, dx, dy, y)


def log_softmax_forward(y, x, stream):
    """y = log(softmax(x)) = x - max(x) - log(sum(exp(x - max(x)))) of each row.

    y, x : (rows, width), not the same memory. A row with NaN or +inf is all NaN.
    """
    launch_rows(log_softmax_forward_kernel, *x.shape, np.dtype(x.dtype).type, stream, y, x)


def log_softmax_backward(dx, dy, x, y, stream):
    """dx = dy - exp(y) * sum(dy) of each row.

    dx, dy, x, y : (rows, width); dx may be dy; x is not read.
    """
    launch_rows(log_softmax_backward_kernel, *y.shape, np.dtype(y.dtype).type, stream, dx, dy, y)


def kernels_of(activation):
    """The kernels (forward, backward) of an activation: its name, or an object with ``formulas`` of its own."""
    if activation == "softmax":
        return softmax_forward, softmax_backward
    if activation == "log_softmax":
        return log_softmax_forward, log_softmax_backward
    value, slope = formulas_of(activation)
    return activation_forward(value), activation_backward(slope)
