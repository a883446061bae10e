"""Dropout: a random part of the units is zero, the rest is scaled up (Srivastava et al. 2014).

The mask is a function of (seed, step, layer, row in the batch, column) alone, so backward can draw it again. The
engine draws it once: what lies between a layer's input and its output has no derivative yet on the way forward, so the
mask waits where dx will be.
"""

import functools

import numpy as np

from .. import layout as at
from ..jit import formula, interleaved, kernel
from ..layout import NOWHERE, OK, activation, derivative, operation_record, option_at, run_record, share
from ..memory import line
from ..random import random_bits, random_words

__all__ = [
    "apply_mask",
    "dropout_backward",
    "dropout_forward",
    "dropout_mask",
    "plan_dropout_backward",
    "plan_dropout_forward",
]


@formula
def draw_mask(mask, threshold, scale, seed, step, layer, first_row, first_column, rank, size):
    """``dropout_mask`` of the columns from ``first_column`` on, a multiple of 4."""
    real = mask.dtype.type
    zero, scale, threshold = real(0), real(scale), np.uint32(threshold)
    first, last = share(mask.shape[0], rank, size)
    rows, width, first_row = last - first, mask.shape[1], first_row + first
    groups, first_group = (width + 3) // 4, first_column // 4
    row = 0
    while row < rows:
        # So many rows as one, so that vectors are full where rows are short. Their groups are drawn side by side, those
        # that are not whole into the room of the rows that follow, which the last row lacks.
        count = min((rows - row) * width // (4 * groups), (2**32 - 1) // (groups * groups))
        drawn, count = groups if count > 0 else width // 4, max(1, count)
        reciprocal = np.uint64(2**32 // groups + 1 if count > 1 else 0)  # its product is index // groups
        words = line(mask, first + row, 4 * count * drawn)
        for index in range(count * drawn):
            above = np.int64((np.uint64(index) * reciprocal) >> np.uint64(32))
            group = first_group + index - above * groups
            r0, r1, r2, r3 = random_words(seed, step, layer, first_row + row + above, group)
            words[4 * index] = scale if r0 >= threshold else zero
            words[4 * index + 1] = scale if r1 >= threshold else zero
            words[4 * index + 2] = scale if r2 >= threshold else zero
            words[4 * index + 3] = scale if r3 >= threshold else zero
        if 4 * groups > width:
            for above in range(1, count):
                for column in range(width):
                    words[above * width + column] = words[4 * above * groups + column]
        for column in range(4 * drawn, width):
            kept = random_bits(seed, step, layer, first_row + row, first_column + column) >= threshold
            mask[first + row, column] = scale if kept else zero
        row += count


@kernel
@interleaved
def dropout_mask(mask, threshold, scale, seed, step, layer, first_row, rank, size):
    """mask = 0 where ``dropout_forward`` drops a unit, else scale.

    mask : (rows, width), its rows side by side; the rest as in ``dropout_forward``.
    """
    draw_mask(mask, threshold, scale, seed, step, layer, first_row, 0, rank, size)


@kernel
def apply_mask(y, x, mask, rank, size):
    """y = x * mask, and 0 where the mask is, whatever x is.

    y, x, mask : (rows, width), their rows side by side; y may be the mask itself.
    """
    zero = x.dtype.type(0)
    first, last = share(x.shape[0], rank, size)
    count = (last - first) * x.shape[1]
    outputs, inputs, factors = line(y, first, count), line(x, first, count), line(mask, first, count)
    if y.ctypes.data == mask.ctypes.data:
        for i in range(count):
            outputs[i] = inputs[i] * outputs[i] if outputs[i] != zero else zero
    else:
        for i in range(count):
            outputs[i] = inputs[i] * factors[i] if factors[i] != zero else zero


@kernel
@interleaved
def dropout_forward(y, x, threshold, scale, seed, step, layer, first_row, rank, size):
    """y = x * mask * scale, where the mask drops a unit with the given probability (Srivastava et al. 2014).

    y, x : (rows, width), their rows side by side, not the same memory; threshold : probability as a 32-bit integer;
    scale : 1 / (1 - probability); first_row : this block's first row in the batch. The mask depends on
    (seed, step, layer, row, column) alone, so backward draws it again. A dropped unit is 0, whatever it
    was: a NaN too.
    """
    dropout_mask(y, threshold, scale, seed, step, layer, first_row, rank, size)
    apply_mask(y, x, y, rank, size)


@kernel
def dropout_backward(dx, dy, threshold, scale, seed, step, layer, first_row, rank, size):
    """dx = dy * mask * scale, with the mask of ``dropout_forward`` of the same (seed, step, layer).

    dx, dy : (rows, width), not the same memory; the rest as in ``dropout_forward``.
    """
    dropout_forward(dx, dy, threshold, scale, seed, step, layer, first_row, rank, size)


@functools.cache
def plan_dropout_forward(real):
    """``dropout_forward`` for a plan; OPTION: the threshold, then the scale. The mask stays in place of dx.

    Of a branch's units it is the part from FIRST_COLUMN on.
    """

    def forward(run_address, operation_address, first, last):
        run, operation = run_record(run_address), operation_record(operation_address)
        width, option = operation[at.INPUTS], operation[at.OPTION]
        y = activation(run, operation[at.Y], width, first, last, real)
        x = activation(run, operation[at.X], width, first, last, real)
        threshold, scale = np.uint32(option_at(run, option)), option_at(run, option + 1)
        # Where nobody asks for dx, y has room for its own mask: it is not x.
        mask = derivative(run, operation[at.DX], width, first, last, real) if operation[at.DX] != NOWHERE else y
        place = operation[at.LAYER], first, operation[at.FIRST_COLUMN]
        draw_mask(mask, threshold, scale, run[at.SEED], run[at.STEP], *place, 0, 1)
        apply_mask(y, x, mask, 0, 1)
        return OK

    return forward


@functools.cache
def plan_dropout_backward(real):
    """``dropout_backward`` for a plan, with the mask that the way forward left in place of dx."""

    def backward(run_address, operation_address, first, last):
        run, operation = run_record(run_address), operation_record(operation_address)
        width = operation[at.INPUTS]
        dx = derivative(run, operation[at.DX], width, first, last, real)
        dy = derivative(run, operation[at.DY], width, first, last, real)
        apply_mask(dx, dy, dx, 0, 1)
        return OK

    return backward
