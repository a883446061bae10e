"""The dense layer on the GPU: y = xW + b, and the way back, each one launch.

W is (inputs, units) and b (units,), or of length 0 where there is no bias. In two-dimensional arrays the numbers of a
row lie side by side; rows may be any distance apart. There is at least one row and one input.

``..._activated``, ``..._keeping`` and ``..._sloped`` make kernels that take an activation along: what would be a launch
of its own is done while a number is still in a register.
"""

import functools

from ..cpu.activations import kept_slope
from .gemm import End, multiply, plain
from .launch import device

__all__ = [
    "dense_backward_input",
    "dense_backward_input_sloped",
    "dense_backward_weights",
    "dense_forward",
    "dense_forward_activated",
    "dense_forward_keeping",
]


@End
@device
def _biased(c, second, vector, x, y, row, column, total):
    """c = total + b."""
    if vector.shape[0] > 0:
        total += vector[column]
    c[row, column] = total


@functools.cache
def _activated(value):
    @device
    def end(c, second, vector, x, y, row, column, total):
        """c = value(total + b)."""
        if vector.shape[0] > 0:
            total += vector[column]
        c[row, column] = value(total)

    return End(end, long=True)


@functools.cache
def _keeping(value, slope):
    @device
    def end(c, second, vector, x, y, row, column, total):
        """c = value(z) and second = slope(z, c) with z = total + b."""
        if vector.shape[0] > 0:
            total += vector[column]
        result = value(total)
        c[row, column] = result
        second[row, column] = slope(total, result)

    return End(end, long=True)


@functools.cache
def _sloped(slope):
    @device
    def end(c, second, vector, x, y, row, column, total):
        """c = total * slope(x, y)."""
        c[row, column] = total * slope(x[row, column], y[row, column])

    return End(end, long=slope is not kept_slope)


@End
@device
def _gradients(c, second, vector, x, y, row, column, total):
    """dW, and below its last row db."""
    if row < c.shape[0]:
        c[row, column] = total
    else:
        second[column] = total


def dense_forward(y, x, W, b, stream):
    """y = xW + b.

    y : (rows, units); x : (rows, inputs); W : (inputs, units); b : (units,) or (0,).
    """
    multiply(y, x, W, False, False, _biased, (y, b, y, y), False, False, stream)


@functools.cache
def dense_forward_activated(value):
    """``dense_forward`` followed by an activation of the scalar formula ``value(x)``."""

    def forward(y, x, W, b, stream):
        """y = value(xW + b); arguments as those of ``dense_forward``."""
        multiply(y, x, W, False, False, _activated(value), (y, b, y, y), False, False, stream)

    return forward


@functools.cache
def dense_forward_keeping(value, slope):
    """``dense_forward`` followed by an activation of the formulas ``value(x)`` and ``slope(x, y)``, for training."""

    def forward(y, kept, x, W, b, stream):
        """y = value(z) and kept = slope(z, y) with z = xW + b; kept : (rows, units), the rest as in ``dense_forward``.

        ``kept`` is what ``activation_forward_keeping`` leaves in place of z.
        """
        multiply(y, x, W, False, False, _keeping(value, slope), (kept, b, y, y), False, False, stream)

    return forward


def dense_backward_input(dx, dy, W, stream):
    """dx = dy·Wᵀ.

    dx : (rows, inputs); dy : (rows, units); W : (inputs, units).
    """
    multiply(dx, dy, W, False, True, plain, (dx, dx, dx, dx), False, False, stream)


@functools.cache
def dense_backward_input_sloped(slope):
    """``dense_backward_input`` followed by the way back through the activation ``slope(x, y)`` below it."""

    def backward(dx, dy, W, x, y, stream):
        """dx = dy·Wᵀ * slope(x, y); dx, x, y : (rows, inputs), y what came into this layer, the rest as in
        ``dense_backward_input``. With ``kept_slope``, x is what ``dense_forward_keeping`` kept.
        """
        multiply(dx, dy, W, False, True, _sloped(slope), (dx, dx, x, y), False, False, stream)

    return backward


def dense_backward_weights(dW, db, dy, x, stream):
    """dW = xᵀ·dy and db = the sums of dy over the rows, which is a row of ones times dy.

    dW : (inputs, units); db : (units,) or (0,); dy : (rows, units); x : (rows, inputs).
    """
    multiply(dW, x, dy, True, False, _gradients, (db, dW, dW, dW), db.shape[0] > 0, True, stream)
