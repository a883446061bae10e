"""Losses on the GPU: a value for each row, and the derivative with respect to the network's outputs.

The loss of a batch is the sum over its rows divided by their number (``reduce.mean``). ``scale`` is 1 / rows of the
batch, so that the derivatives are those of the batch's loss. The values of rows have the type of the data; where one
is not finite, ``stream.status[FOUND]`` becomes NOT_FINITE.
"""

import functools

import numpy as np
from numba import cuda

from ..cpu.losses import formulas_of
from ..formulas import losses as formulas
from ..formulas.activations import sigmoid
from ..formulas.elementary import exp, log, not_finite
from ..layout import NOT_FINITE
from .launch import FOUND, THREADS, device, kernel
from .reduce import group_maximum, group_sum, launch_rows, number_of, position

__all__ = ["elementwise_loss", "formulas_of", "sigmoid_cross_entropy", "softmax_cross_entropy"]


@device
def keep_loss(losses, row, loss, status):
    """Write a row's loss, and the status if it is not finite."""
    losses[row] = loss
    if not_finite(loss):
        status[FOUND] = NOT_FINITE


@device
def label_of(target, row, classes):
    """The class number of a row, or -1 where it is none; classes : of the array's type."""
    label = target[row, 0]
    return int(label) if label >= type(label)(0) and label < classes else -1


@functools.cache
def elementwise_kernel(value, slope, lanes, real):
    number, zero = number_of(real), real(0)

    @kernel
    def loss(losses, dy, y, target, option, factor, status):
        room = cuda.shared.array(THREADS, number)
        t, lane, row = position(lanes)
        inside, outputs = row < y.shape[0], y.shape[1]
        total = zero
        if inside:
            for column in range(lane, outputs, lanes):
                total += value(y[row, column], target[row, column], option)
                dy[row, column] = slope(y[row, column], target[row, column], option) * factor
        total = group_sum(room, t, lane, lanes, total)
        if inside and lane == 0:
            keep_loss(losses, row, total / real(outputs), status)

    return loss


@functools.cache
def elementwise_loss(value, slope):
    """The kernel of a loss that is the mean over a row's outputs of ``value(y, target, option)``."""

    def loss(losses, dy, y, target, option, scale, stream):
        """losses = mean over the outputs of value(y, target, option); dy = slope(...) * scale / outputs.

        losses : (rows,); dy, y, target : (rows, outputs); option : the parameter of the loss.
        """
        real = np.dtype(y.dtype).type
        numbers = real(option), real(scale / y.shape[1])
        factory = functools.partial(elementwise_kernel, value, slope)
        launch_rows(factory, *y.shape, real, stream, losses, dy, y, target, *numbers, stream.status)

    return loss


@functools.cache
def sigmoid_kernel(lanes, real):
    number, zero = number_of(real), real(0)

    @kernel
    def loss(losses, y, dz, z, target, smoothing, uniform, factor, status):
        room = cuda.shared.array(THREADS, number)
        t, lane, row = position(lanes)
        inside, outputs = row < z.shape[0], z.shape[1]
        total = zero
        if inside:
            for column in range(lane, outputs, lanes):
                wanted = formulas.smoothed(target[row, column], smoothing, uniform)
                logit = z[row, column]
                probability = sigmoid(logit)
                total += formulas.sigmoid_cross_entropy(logit, wanted)
                y[row, column] = probability
                dz[row, column] = (probability - wanted) * factor
        total = group_sum(room, t, lane, lanes, total)
        if inside and lane == 0:
            keep_loss(losses, row, total / real(outputs), status)

    return loss


def sigmoid_cross_entropy(losses, y, dz, z, target, smoothing, scale, stream):
    """y = sigmoid(z); losses = mean over the outputs of the binary cross-entropy of y; dz = its derivative.

    losses : (rows,); y, dz, z, target : (rows, outputs); y may be z. dz = (y - t) * scale / outputs, where
    t = target * (1 - smoothing) + smoothing / 2.
    """
    real = np.dtype(z.dtype).type
    numbers = real(smoothing), real(smoothing / 2), real(scale / z.shape[1])
    launch_rows(sigmoid_kernel, *z.shape, real, stream, losses, y, dz, z, target, *numbers, stream.status)


@functools.cache
def softmax_kernel(labels, lanes, real):
    """labels : the targets are numbers of classes, and not probabilities."""
    number, zero, one, nothing = number_of(real), real(0), real(1), real(np.nan)

    @kernel
    def loss(losses, y, dz, z, target, smoothing, uniform, factor, status):
        room = cuda.shared.array(THREADS, number)
        t, lane, row = position(lanes)
        inside, classes = row < z.shape[0], z.shape[1]
        label, certain = -1, formulas.smoothed(one, smoothing, uniform)
        highest, total, product, weight = zero, zero, zero, zero
        if inside:
            if labels:
                label = label_of(target, row, real(classes))
            highest = z[row, lane if lane < classes else 0]
            for column in range(lane, classes, lanes):
                highest = z[row, column] if z[row, column] > highest else highest
        highest = group_maximum(room, t, lane, lanes, highest)
        if inside:
            for column in range(lane, classes, lanes):
                logit = z[row, column]
                below = logit - highest if logit != highest else zero  # inf - inf is none
                power = exp(below)
                total += power
                y[row, column] = power
                if labels:
                    wanted = certain if column == label else uniform
                else:
                    wanted = formulas.smoothed(target[row, column], smoothing, uniform)
                    weight += target[row, column]
                product += wanted * below if wanted != zero else zero  # a class of probability 0 may have -inf
        total = group_sum(room, t, lane, lanes, total)
        product = group_sum(room, t, lane, lanes, product)
        if labels:
            weight = one
        else:
            weight = formulas.smoothed(group_sum(room, t, lane, lanes, weight), smoothing, smoothing)
        if inside:
            inverse = one / total
            for column in range(lane, classes, lanes):
                probability = y[row, column] * inverse
                y[row, column] = probability
                if labels:
                    wanted = certain if column == label else uniform
                else:
                    wanted = formulas.smoothed(target[row, column], smoothing, uniform)
                dz[row, column] = (probability * weight - wanted) * factor
            if lane == 0:
                known = not labels or label >= 0
                keep_loss(losses, row, weight * log(total) - product if known else nothing, status)

    return loss


def softmax_cross_entropy(losses, y, dz, z, target, smoothing, scale, stream):
    """y = softmax(z); losses = the cross-entropy of y; dz = its derivative with respect to z.

    y = exp(z - m) / sum(exp(z - m)) with m = max(z); losses = sum(t * (log(sum(exp(z - m))) - (z - m)));
    dz = (y * sum(t) - t) * scale; t = target * (1 - smoothing) + smoothing / classes.

    losses : (rows,); y, dz, z : (rows, classes), y may be z; target : (rows, 1), the number of the class (whole,
    of the array's type), or (rows, classes), probabilities. The loss of a row whose label is no class is NaN.
    An infinite logit counts as the largest: it gets all the probability (equal ones share it).
    """
    real = np.dtype(z.dtype).type
    numbers = real(smoothing), real(smoothing / z.shape[1]), real(scale)
    factory = functools.partial(softmax_kernel, is_label(z, target))
    launch_rows(factory, *z.shape, real, stream, losses, y, dz, z, target, *numbers, stream.status)


def is_label(y, target):
    """Whether the target is a class number and not a probability for each class."""
    return target.shape[1] == 1 and y.shape[1] > 1
