"""Losses: a float64 value for each row, and the derivative with respect to the network's outputs.

The loss of a batch is the sum over its rows divided by their number. ``scale`` is 1 / rows of the batch,
so that the derivatives are those of the batch's loss. All arrays stand row after row (C order), and outputs
share no memory with inputs or with each other, but for ``y`` of a fused loss, which may be ``z`` itself.
"""

import functools

import numpy as np

from .. import layout as at
from ..formulas import losses as formulas
from ..formulas.activations import sigmoid
from ..formulas.elementary import exp, log, not_finite
from ..jit import formula, kernel
from ..layout import NOT_FINITE, OK, activation, derivative, operation_record, option_at, run_record, share
from ..memory import item_size, line, matrix, vector
from .row_functions import is_label, label_of, row_maximum, row_means, row_sum

__all__ = [
    "elementwise_loss",
    "plan_elementwise_loss",
    "plan_fused_loss",
    "plan_row_loss",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
]


@formula
def status_of(losses):
    """OK, or NOT_FINITE where a loss is infinite or not a number."""
    bad = False
    for i in range(losses.shape[0]):
        bad |= not_finite(losses[i])
    return NOT_FINITE if bad else OK


@functools.cache
def elementwise_loss(value, slope):
    """The kernel of a loss that is the mean over a row's outputs of ``value(y, target, option)``."""

    @kernel
    def loss(losses, dy, y, target, option, scale, rank, size):
        """losses = mean over the outputs of value(y, target, option); dy = slope(...) * scale / outputs.

        losses : (rows,) float64; dy, y, target : (rows, outputs); option : the parameter of the loss.
        """
        outputs = y.shape[1]
        factor, option = y.dtype.type(scale / outputs), y.dtype.type(option)
        first, last = share(y.shape[0], rank, size)
        losses, dy, y, target = losses[first:last], dy[first:last], y[first:last], target[first:last]
        flat_dy, flat_y, flat_target = line(dy, 0, dy.size), line(y, 0, y.size), line(target, 0, target.size)
        if outputs == 1:
            for i in range(losses.shape[0]):
                losses[i] = value(flat_y[i], flat_target[i], option)
        else:
            for i in range(flat_y.shape[0]):  # the values stand in dy for a while
                flat_dy[i] = value(flat_y[i], flat_target[i], option)
            row_means(losses, dy)
        for i in range(flat_y.shape[0]):
            flat_dy[i] = slope(flat_y[i], flat_target[i], option) * factor
        return status_of(losses)

    return loss


@functools.cache
def row_loss(value, slope):
    """The kernel of a loss of whole rows: of ``value(y, target)``, with ``slope(dy, y, target)`` that fills dy."""

    @kernel
    def loss(losses, dy, y, target, scale, rank, size):
        """losses = value(y, target) of each row; dy = its derivative by y, times scale.

        losses : (rows,) float64; dy, y : (rows, outputs); target : (rows, targets).
        """
        zero, factor = y.dtype.type(0), y.dtype.type(scale)
        first, last = share(y.shape[0], rank, size)
        losses, dy, y, target = losses[first:last], dy[first:last], y[first:last], target[first:last]
        for row in range(losses.shape[0]):
            for column in range(dy.shape[1]):
                dy[row, column] = zero
            losses[row] = value(y[row], target[row])
            slope(dy[row], y[row], target[row])
            for column in range(dy.shape[1]):
                dy[row, column] = dy[row, column] * factor
        return status_of(losses)

    return loss


@kernel
def sigmoid_cross_entropy(losses, y, dz, z, target, smoothing, scale, rank, size):
    """y = sigmoid(z); losses = mean over the outputs of the binary cross-entropy of y; dz = its derivative.

    losses : (rows,) float64; y, dz, z, target : (rows, outputs). dz = (y - t) * scale / outputs, where
    t = target * (1 - smoothing) + smoothing / 2.
    """
    outputs = z.shape[1]
    real = z.dtype.type
    factor, smoothing, uniform = real(scale / outputs), real(smoothing), real(smoothing / 2)
    first, last = share(z.shape[0], rank, size)
    losses, target = losses[first:last], target[first:last]
    y, dz, z = y[first:last], dz[first:last], z[first:last]
    flat_y, flat_dz = line(y, 0, y.size), line(dz, 0, dz.size)
    flat_z, flat_target = line(z, 0, z.size), line(target, 0, target.size)
    if outputs == 1:
        for i in range(losses.shape[0]):
            t = formulas.smoothed(flat_target[i], smoothing, uniform)
            losses[i] = formulas.sigmoid_cross_entropy(flat_z[i], t)
    else:
        for i in range(flat_z.shape[0]):  # the values stand in dz for a while
            t = formulas.smoothed(flat_target[i], smoothing, uniform)
            flat_dz[i] = formulas.sigmoid_cross_entropy(flat_z[i], t)
        row_means(losses, dz)
    for i in range(flat_z.shape[0]):
        probability = sigmoid(flat_z[i])
        flat_y[i] = probability
        flat_dz[i] = (probability - formulas.smoothed(flat_target[i], smoothing, uniform)) * factor
    return status_of(losses)


@kernel
def softmax_cross_entropy(losses, y, dz, z, target, smoothing, scale, rank, size):
    """y = softmax(z); losses = the cross-entropy of y; dz = its derivative with respect to z.

    y = exp(z - m) / sum(exp(z - m)) with m = max(z); losses = sum(t * (log(sum(exp(z - m))) - (z - m)));
    dz = (y * sum(t) - t) * scale; t = target * (1 - smoothing) + smoothing / classes.

    losses : (rows,) float64; y, dz, z : (rows, classes); target : (rows, 1), the number of the class (whole,
    of the array's type), or (rows, classes), probabilities. The loss of a row whose label is no class is NaN.
    An infinite logit counts as the largest: it gets all the probability (equal ones share it).
    """
    real = z.dtype.type
    classes = z.shape[1]
    zero, one, factor = real(0), real(1), real(scale)
    smoothing, uniform = real(smoothing), real(smoothing / classes)
    certain = formulas.smoothed(one, smoothing, uniform)
    first, last = share(z.shape[0], rank, size)
    losses, target = losses[first:last], target[first:last]
    y, dz, z = y[first:last], dz[first:last], z[first:last]
    for row in range(losses.shape[0]):
        highest = row_maximum(z, row)
        for column in range(classes):
            logit = z[row, column]
            dz[row, column] = logit - highest if logit != highest else zero  # inf - inf is none
    flat_y, flat_dz = line(y, 0, y.size), line(dz, 0, dz.size)
    for i in range(flat_y.shape[0]):
        flat_y[i] = exp(flat_dz[i])
    for row in range(losses.shape[0]):
        total = row_sum(y, row, zero)
        losses[row] = total
        inverse = one / total
        for column in range(classes):
            y[row, column] *= inverse
    for i in range(losses.shape[0]):
        losses[i] = log(real(losses[i]))
    if is_label(y, target):
        for row in range(losses.shape[0]):
            label = label_of(target, row, classes)
            losses[row] -= dz[row, label] * (one - smoothing) if label >= 0 else np.nan
            if smoothing > zero:  # else a class may have a logit of -inf
                losses[row] -= row_sum(dz, row, zero) * uniform
            for column in range(classes):
                dz[row, column] = (y[row, column] - uniform) * factor
            if label >= 0:
                dz[row, label] = (y[row, label] - certain) * factor
    else:
        for row in range(losses.shape[0]):
            weight = formulas.smoothed(row_sum(target, row, zero), smoothing, smoothing)
            for column in range(classes):  # a class of probability 0 may have a logit of -inf
                t = formulas.smoothed(target[row, column], smoothing, uniform)
                dz[row, column] = t * dz[row, column] if t != zero else zero
            losses[row] = weight * losses[row] - row_sum(dz, row, zero)
            for column in range(classes):
                t = formulas.smoothed(target[row, column], smoothing, uniform)
                dz[row, column] = (y[row, column] * weight - t) * factor
    return status_of(losses)


def formulas_of(loss):
    """The formulas (value, slope) of an elementwise loss: its name, or an object with ``formulas`` of its own."""
    if isinstance(loss, str):
        return getattr(formulas, loss), getattr(formulas, f"{loss}_slope")
    return loss.formulas


@formula
def targets(run, width, first, last, real):
    """Rows first .. last of the batch's targets."""
    return matrix(run[at.TARGET] + first * width * item_size(real), last - first, width, real)


@formula
def places(run, operation, first, last, real):
    """(losses, dy, y, target) of rows first .. last: the derivative at DY, y at Y.

    INPUTS: width of y, OUTPUTS: of the target.
    """
    losses = vector(run[at.LOSSES] + 8 * first, last - first, np.float64)
    dy = derivative(run, operation[at.DY], operation[at.INPUTS], first, last, real)
    y = activation(run, operation[at.Y], operation[at.INPUTS], first, last, real)
    return losses, dy, y, targets(run, operation[at.OUTPUTS], first, last, real)


@functools.cache
def plan_elementwise_loss(value, slope, real):
    """``elementwise_loss(value, slope)`` for a plan; OPTION: the parameter of the loss."""
    loss = elementwise_loss(value, slope)

    def measure(run_address, operation_address, first, last):
        run, operation = run_record(run_address), operation_record(operation_address)
        losses, dy, y, target = places(run, operation, first, last, real)
        return loss(losses, dy, y, target, option_at(run, operation[at.OPTION]), 1 / run[at.BATCH_ROWS], 0, 1)

    return measure


@functools.cache
def plan_row_loss(value, slope, real):
    """``row_loss(value, slope)`` for a plan."""
    loss = row_loss(value, slope)

    def measure(run_address, operation_address, first, last):
        run, operation = run_record(run_address), operation_record(operation_address)
        losses, dy, y, target = places(run, operation, first, last, real)
        return loss(losses, dy, y, target, 1 / run[at.BATCH_ROWS], 0, 1)

    return measure


@functools.cache
def plan_fused_loss(loss, real):
    """A loss fused with the last activation for a plan: logits at X, y to Y, the logits' derivative to DX.

    INPUTS: width of y, OUTPUTS: of the target; OPTION: the smoothing of the labels.
    """

    def measure(run_address, operation_address, first, last):
        run, operation = run_record(run_address), operation_record(operation_address)
        losses = vector(run[at.LOSSES] + 8 * first, last - first, np.float64)
        y = activation(run, operation[at.Y], operation[at.INPUTS], first, last, real)
        dz = derivative(run, operation[at.DX], operation[at.INPUTS], first, last, real)
        z = activation(run, operation[at.X], operation[at.INPUTS], first, last, real)
        target = targets(run, operation[at.OUTPUTS], first, last, real)
        return loss(losses, y, dz, z, target, option_at(run, operation[at.OPTION]), 1 / run[at.BATCH_ROWS], 0, 1)

    return measure
