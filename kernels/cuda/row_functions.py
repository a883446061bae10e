"""What happens to one row of the batch: softmax, the losses and the metrics, on flat arrays.

A row of the array ``y`` begins at the element ``at_y``, and so for the others. One thread takes one row, so a row's sum
is formed in the order of its columns. The formulas, and what happens at labels that are no class, at NaN and at
infinities, are those of ``kernels/cpu``.
"""

import functools
import math

import numpy as np

from ..cpu.losses import formulas_of
from ..cpu.row_functions import class_of, label_of
from ..formulas import losses as formulas
from ..formulas.activations import sigmoid
from ..formulas.elementary import exp, log
from ..jit import formula
from .tables import TOP_K

__all__ = ["loss_of", "metric_of_row", "softmax_backward_row", "softmax_forward_row"]


@formula
def largest_of(x, at, width):
    """The largest number of a row; NaNs may be passed over."""
    highest = x[at]
    for i in range(at + 1, at + width):
        highest = max(highest, x[i])
    return highest


@formula
def softmax_forward_row(y, at_y, x, at_x, width, logarithm):
    """y = softmax(x), or its logarithm."""
    real = type(x[at_x])
    highest, total = largest_of(x, at_x, width), real(0)
    for column in range(width):
        shifted = x[at_x + column] - highest
        e = exp(shifted)
        total += e
        y[at_y + column] = shifted if logarithm else e
    if logarithm:
        total = log(total)
        for i in range(at_y, at_y + width):
            y[i] -= total
    else:
        total = real(1) / total
        for i in range(at_y, at_y + width):
            y[i] *= total


@formula
def softmax_backward_row(dx, at_dx, dy, at_dy, y, at_y, width, logarithm):
    """dx = y (dy - Σ y dy), or dy - exp(y) Σ dy for the logarithm; dx may be dy."""
    total = type(y[at_y])(0)
    for column in range(width):
        total += dy[at_dy + column] if logarithm else dy[at_dy + column] * y[at_y + column]
    for column in range(width):
        slope, value = dy[at_dy + column], y[at_y + column]
        dx[at_dx + column] = slope - exp(value) * total if logarithm else value * (slope - total)


@functools.cache
def elementwise_row(value, slope):
    """The loss of a row that is the mean over its outputs of ``value(y, target, option)``."""

    @formula
    def loss(y, at_y, dy, at_dy, z, at_z, target, row, width, option, scale):
        real = type(y[at_y])
        total, factor, option = real(0), real(scale / width), real(option)
        for column in range(width):
            output, t = y[at_y + column], target[row, column]
            total += value(output, t, option)
            dy[at_dy + column] = slope(output, t, option) * factor
        return total / real(width)

    return loss


@formula
def sigmoid_cross_entropy_row(y, at_y, dz, at_dz, z, at_z, target, row, width, smoothing, scale):
    """y = sigmoid(z), its binary cross-entropy, and the derivative of that in dz."""
    real = type(z[at_z])
    total, factor, uniform = real(0), real(scale / width), real(smoothing / 2)
    for column in range(width):
        logit = z[at_z + column]
        t = formulas.smoothed(target[row, column], real(smoothing), uniform)
        total += formulas.sigmoid_cross_entropy(logit, t)
        probability = sigmoid(logit)
        y[at_y + column] = probability
        dz[at_dz + column] = (probability - t) * factor
    return total / real(width)


@formula
def softmax_cross_entropy_row(y, at_y, dz, at_dz, z, at_z, target, row, width, smoothing, scale):
    """y = softmax(z), its cross-entropy, and the derivative of that in dz, which holds z - max(z) for a while."""
    real = type(z[at_z])
    zero, one, factor = real(0), real(1), real(scale)
    uniform, smoothing = real(smoothing / width), real(smoothing)
    highest, total, sum_of_shifted = largest_of(z, at_z, width), real(0), real(0)
    for column in range(width):
        logit = z[at_z + column]
        shifted = logit - highest if logit != highest else zero  # inf - inf is none
        e = exp(shifted)
        total += e
        sum_of_shifted += shifted
        y[at_y + column] = e
        dz[at_dz + column] = shifted
    logarithm, inverse = log(total), one / total
    for i in range(at_y, at_y + width):
        y[i] *= inverse
    if target.shape[1] == 1 and width > 1:
        label = label_of(target, row, width)
        loss = logarithm
        loss -= dz[at_dz + label] * (one - smoothing) if label >= 0 else real(np.nan)
        if smoothing > zero:  # else a class may have a logit of -inf
            loss -= sum_of_shifted * uniform
        for column in range(width):
            t = formulas.smoothed(one if column == label else zero, smoothing, uniform)
            dz[at_dz + column] = (y[at_y + column] - t) * factor
        return loss
    weight = zero
    for column in range(width):
        weight += target[row, column]
    weight = formulas.smoothed(weight, smoothing, smoothing)
    loss = weight * logarithm
    for column in range(width):
        t = formulas.smoothed(target[row, column], smoothing, uniform)
        if t != zero:  # a class of probability 0 may have a logit of -inf
            loss -= t * dz[at_dz + column]
        dz[at_dz + column] = (y[at_y + column] * weight - t) * factor
    return loss


#: Losses that are computed together with the last activation.
FUSED = {
    "softmax_cross_entropy": softmax_cross_entropy_row,
    "sigmoid_cross_entropy": sigmoid_cross_entropy_row,
}


def loss_of(operation):
    """The row's loss of a plan: ``loss(y, at_y, dy, at_dy, z, at_z, target, row, width, option, scale)``."""
    if operation.kind == "fused_loss":
        return FUSED[operation.formula]
    return elementwise_row(*formulas_of(operation.functions or operation.formula))


@formula
def metric_of_row(number, y, at, target, row, width, k):
    """The metric ``METRIC_NAMES[number]`` of a row; k : the k of top-k."""
    real = type(y[at])
    zero, one, half = real(0), real(1), real(0.5)
    if number <= 1:
        label = class_of(target, row, width)
        if label < 0:
            return zero
        output, better, above = y[at + label], 0, 0
        for column in range(width):
            larger = y[at + column] > output
            above += int(larger)
            better += int(larger or (y[at + column] == output and column < label))
        right = above < k if number == TOP_K else better == 0
        return one if right and not math.isnan(output) else zero
    total = zero
    for column in range(width):
        output, t = y[at + column], target[row, column]
        error = output - t
        if number == 2:
            total += one if (output > half) == (t > half) else zero
        else:
            total += error * error if number == 3 else abs(error)
    return total / real(width)
