"""Dropout: a random part of the units is zero, the rest is scaled up (Srivastava et al. 2014).

The mask is a function of (seed, step, layer, row in the batch, column) alone, so backward draws it again and
nothing is stored.
"""

import functools

import numpy as np

from ..jit import kernel
from ..layout import (
    DX,
    DY,
    INPUTS,
    LAYER,
    NOWHERE,
    OK,
    OPTION,
    OPTIONS,
    SEED,
    STEP,
    X,
    Y,
    activation,
    derivative,
    operation_record,
    run_record,
    share,
)
from ..memory import vector
from ..random import random_bits, random_words

__all__ = [
    "dropout_backward",
    "dropout_forward",
    "plan_dropout_backward",
    "plan_dropout_forward",
]


@kernel
def dropout_forward(y, x, threshold, scale, seed, step, layer, first_row, rank, size):
    """y = x * mask * scale, where the mask drops a unit with the given probability (Srivastava et al. 2014).

    y, x : (rows, width), possibly the same memory; threshold : probability as a 32-bit integer;
    scale : 1 / (1 - probability); first_row : this block's first row in the batch. The mask depends on
    (seed, step, layer, row, column) alone, so backward draws it again. A dropped unit is 0, whatever it
    was: a NaN too.
    """
    real = x.dtype.type
    zero, scale, threshold = real(0), real(scale), np.uint32(threshold)
    width = x.shape[1]
    first, last = share(x.shape[0], rank, size)
    y, x = y[first:last], x[first:last]
    for row in range(y.shape[0]):
        # First a copy, then one array alone: where y is x itself, a loop over both would not use vectors.
        for column in range(width):
            y[row, column] = x[row, column]
        counter = first_row + first + row
        for group in range(width // 4):  # the four words of one counter
            column = 4 * group
            r0, r1, r2, r3 = random_words(seed, step, layer, counter, group)
            y[row, column] = y[row, column] * scale if r0 >= threshold else zero
            y[row, column + 1] = y[row, column + 1] * scale if r1 >= threshold else zero
            y[row, column + 2] = y[row, column + 2] * scale if r2 >= threshold else zero
            y[row, column + 3] = y[row, column + 3] * scale if r3 >= threshold else zero
        for column in range(width // 4 * 4, width):
            kept = random_bits(seed, step, layer, counter, column) >= threshold
            y[row, column] = y[row, column] * scale if kept else zero


@kernel
def dropout_backward(dx, dy, threshold, scale, seed, step, layer, first_row, rank, size):
    """dx = dy * mask * scale, with the mask of ``dropout_forward`` of the same (seed, step, layer).

    dx, dy : (rows, width), possibly the same memory; the rest as in ``dropout_forward``.
    """
    dropout_forward(dx, dy, threshold, scale, seed, step, layer, first_row, rank, size)


@functools.cache
def plan_dropout_forward(real):
    """``dropout_forward`` for a plan; OPTION: the threshold, then the scale."""

    def forward(run_address, operation_address, first, last):
        run, operation = run_record(run_address), operation_record(operation_address)
        width, option = operation[INPUTS], operation[OPTION]
        options = vector(run[OPTIONS], option + 2, np.float64)
        y = activation(run, operation[Y], width, first, last, real)
        x = activation(run, operation[X], width, first, last, real)
        threshold, scale = np.uint32(options[option]), options[option + 1]
        dropout_forward(y, x, threshold, scale, run[SEED], run[STEP], operation[LAYER], first, 0, 1)
        return OK

    return forward


@functools.cache
def plan_dropout_backward(real):
    """``dropout_backward`` for a plan; OPTION: the threshold, then the scale."""

    def backward(run_address, operation_address, first, last):
        run, operation = run_record(run_address), operation_record(operation_address)
        if operation[DX] == NOWHERE:
            return OK
        width, option = operation[INPUTS], operation[OPTION]
        options = vector(run[OPTIONS], option + 2, np.float64)
        dx = derivative(run, operation[DX], width, first, last, real)
        dy = derivative(run, operation[DY], width, first, last, real)
        threshold, scale = np.uint32(options[option]), options[option + 1]
        dropout_backward(dx, dy, threshold, scale, run[SEED], run[STEP], operation[LAYER], first, 0, 1)
        return OK

    return backward
