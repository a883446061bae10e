"""Dropout on the GPU, with the masks of the CPU: a random part of the units is zero, the rest is scaled up.

The mask is a function of (seed, step, layer, row in the batch, column) alone. A thread draws the four words of a
counter and applies them to four columns.
"""

import functools

import numpy as np

from ..random import random_words
from .launch import THREADS, device, element, elements_of, kernel, launch, lines_of, on_device
from .reduce import launch_rows, position

__all__ = ["apply_mask", "dropout_backward", "dropout_forward", "dropout_mask"]


@device
def keep(y, x, row, column, width, word, threshold, scale, zero):
    """y = x * scale where the word says that the unit stays, else 0, if there is such a column."""
    if column < width:
        y[row, column] = x[row, column] * scale if word >= threshold else zero


@device
def mark(y, x, row, column, width, word, threshold, scale, zero):
    """The same with x = 1, which is not read."""
    if column < width:
        y[row, column] = scale if word >= threshold else zero


@functools.cache
def dropout_kernel(write, lanes, real):
    """The kernel that draws a mask and gives each of its words to ``write``."""
    zero = real(0)

    @kernel
    def dropout(y, x, threshold, scale, seed, step, layer, first_row):
        _, lane, row = position(lanes)
        width = y.shape[1]
        if row < y.shape[0]:
            for column in range(4 * lane, width, 4 * lanes):
                words = random_words(seed, step[0], layer, first_row[0] + row, column // 4)
                write(y, x, row, column, width, words[0], threshold, scale, zero)
                write(y, x, row, column + 1, width, words[1], threshold, scale, zero)
                write(y, x, row, column + 2, width, words[2], threshold, scale, zero)
                write(y, x, row, column + 3, width, words[3], threshold, scale, zero)

    return dropout


def draw(write, y, x, threshold, scale, seed, step, layer, first_row, stream):
    real = np.dtype(y.dtype).type
    step, first_row = on_device(step, np.int64, stream), on_device(first_row, np.int64, stream)
    numbers = np.uint32(threshold), real(scale), np.int64(seed), step, np.int64(layer), first_row
    launch_rows(functools.partial(dropout_kernel, write), *y.shape, real, stream, y, x, *numbers)


def dropout_forward(y, x, threshold, scale, seed, step, layer, first_row, stream):
    """y = x * mask * scale, where the mask drops a unit with the given probability (Srivastava et al. 2014).

    y, x : (rows, width), possibly the same memory; threshold : probability as a 32-bit integer;
    scale : 1 / (1 - probability); step, first_row : numbers or int64 on the device; first_row : this block's first row
    in the batch. A dropped unit is 0, whatever it was: a NaN too.
    """
    draw(keep, y, x, threshold, scale, seed, step, layer, first_row, stream)


def dropout_backward(dx, dy, threshold, scale, seed, step, layer, first_row, stream):
    """dx = dy * mask * scale, with the mask of ``dropout_forward`` of the same (seed, step, layer).

    dx, dy : (rows, width), possibly the same memory; the rest as in ``dropout_forward``.
    """
    draw(keep, dx, dy, threshold, scale, seed, step, layer, first_row, stream)


def dropout_mask(mask, threshold, scale, seed, step, layer, first_row, stream):
    """mask = 0 where ``dropout_forward`` drops a unit, else scale.

    mask : (rows, width); the rest as in ``dropout_forward``.
    """
    draw(mark, mask, mask, threshold, scale, seed, step, layer, first_row, stream)


@functools.cache
def mask_kernel(real):
    zero = real(0)

    @kernel
    def apply(y, x, mask):
        row, column = element()
        if row < y.shape[0] and column < y.shape[1]:
            factor = mask[row, column]
            y[row, column] = x[row, column] * factor if factor != zero else zero

    return apply


def apply_mask(y, x, mask, stream):
    """y = x * mask, and 0 where the mask is, whatever x is.

    y, x, mask : (rows, width); y may be the mask itself.
    """
    y, x, mask = lines_of(y, x, mask)
    launch(mask_kernel(np.dtype(y.dtype).type), elements_of(y), THREADS, stream, y, x, mask)
