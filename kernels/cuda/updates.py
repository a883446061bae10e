"""Optimizers on the GPU: a thread for each number of the flat arrays, one pass.

All see the slope of ``cpu.updates``: the gradient with that of the penalty L2, times ``scale``, clipped to
-limit .. limit, and written over the gradient where it differs. L1 is applied after the step as their soft threshold.

Updates do nothing unless ``stream.status[GATE]`` is OK, and write NOT_FINITE to
``stream.status[FOUND]`` where a new number is infinite or not a number. ``rate``, ``scale`` (of the array's type) and
``step`` (int64) are numbers, or arrays of one element on the device.
"""

import functools

import numpy as np
from numba import cuda

from ..formulas import updates as formulas
from ..formulas.elementary import expm1, not_finite, root
from ..formulas.own import own_formula
from ..formulas.penalties import slope_with_l1, soft_threshold
from ..formulas.updates import by_corrected_root, by_root, slope_of
from ..layout import NOT_FINITE, OK
from .launch import FOUND, GATE, THREADS, ceiling, device, kernel, launch, on_device

__all__ = [
    "adagrad_update",
    "adam_update",
    "momentum_update",
    "own_update",
    "rmsprop_update",
    "sgd_update",
]


@device
def slope_at(g, p, i, double_l2, scale, limit):
    """The slope that an update sees, written over the gradient where it differs."""
    gradient = g[i]
    slope = slope_of(gradient, p[i], double_l2, scale[0], limit)
    if slope != gradient:
        g[i] = slope
    return slope


@device
def finish(p, i, new, threshold, bad, status):
    """p = the new number after the soft threshold; ``bad`` or not finite: NOT_FINITE."""
    p[i] = soft_threshold(new, threshold)
    if bad or not_finite(new):
        status[FOUND] = NOT_FINITE


@device
def number_to_update(p, status):
    """Which number this thread updates; -1: none."""
    i = cuda.grid(1)
    return i if i < p.shape[0] and status[GATE] == OK else -1


def update(run, arrays, changing, constants, scale, limit, l1, l2, stream):
    """Launch an update: arrays, numbers on the device, constants, and what all updates end with."""
    real = np.dtype(arrays[0].dtype).type
    common = on_device(scale, real, stream), real(limit), real(l1), real(2 * l2), stream.status
    blocks = ceiling(arrays[0].shape[0], THREADS)
    launch(run, blocks, THREADS, stream, *arrays, *changing, *map(real, constants), *common)


def rate_of(p, rate, stream):
    return on_device(rate, np.dtype(p.dtype).type, stream)


@kernel
def _sgd(p, g, rate, scale, limit, l1, double_l2, status):
    i = number_to_update(p, status)
    if i >= 0:
        slope = slope_at(g, p, i, double_l2, scale, limit)
        finish(p, i, formulas.sgd(p[i], slope, rate[0]), rate[0] * scale[0] * l1, False, status)


def sgd_update(p, g, rate, scale, limit, l1, l2, stream):
    """Gradient descent: p -= rate * slope, then the soft threshold.

    p, g : (length,).
    """
    update(_sgd, (p, g), (rate_of(p, rate, stream),), (), scale, limit, l1, l2, stream)


@kernel
def _momentum(p, velocity, g, rate, momentum, direct, ahead, scale, limit, l1, double_l2, status):
    i = number_to_update(p, status)
    if i >= 0:
        slope = slope_at(g, p, i, double_l2, scale, limit)
        threshold = rate[0] * scale[0] * l1
        if threshold > 0:
            change = -rate[0] * slope
            new, v = formulas.momentum_shrunk(p[i], velocity[i], change, momentum, threshold, ahead > 0)
        else:
            new, v = formulas.momentum(p[i], velocity[i], slope, rate[0], momentum, direct, ahead * rate[0])
        velocity[i] = v
        finish(p, i, new, type(l1)(0), not_finite(v), status)


def momentum_update(p, velocity, g, rate, momentum, nesterov, scale, limit, l1, l2, stream):
    """Gradient descent with momentum: v = momentum * v - rate * slope; p += v, then the soft threshold.

    With ``nesterov``: p += momentum * v - rate * slope with the new v.
    p, velocity, g : (length,). Source: Sutskever, Martens, Dahl and Hinton, "On the importance of
    initialization and momentum in deep learning" (2013), with Nesterov's point rewritten as the parameters.
    """
    constants = momentum, momentum if nesterov else 1, 1 if nesterov else 0
    update(_momentum, (p, velocity, g), (rate_of(p, rate, stream),), constants, scale, limit, l1, l2, stream)


@kernel
def _adagrad(p, total, g, rate, epsilon, scale, limit, l1, double_l2, status):
    i = number_to_update(p, status)
    if i >= 0:
        slope = slope_at(g, p, i, double_l2, scale, limit)
        new, new_total = formulas.adagrad(p[i], total[i], slope, rate[0], epsilon)
        total[i] = new_total
        threshold = by_root(rate[0] * scale[0] * l1, new_total, epsilon) if l1 > 0 else l1
        finish(p, i, new, threshold, not_finite(new_total), status)


def adagrad_update(p, total, g, rate, epsilon, scale, limit, l1, l2, stream):
    """Adagrad: total += slope**2; p -= rate * slope / sqrt(total + epsilon), then the soft threshold.

    p, total, g : (length,). Source: Duchi, Hazan and Singer, "Adaptive subgradient methods for online learning and
    stochastic optimization" (2011), figure 1 with a diagonal matrix; epsilon stands where Keras has it.
    """
    update(_adagrad, (p, total, g), (rate_of(p, rate, stream),), (epsilon,), scale, limit, l1, l2, stream)


@kernel
def _rmsprop(p, mean, velocity, g, rate, rho, rest, momentum, epsilon, scale, limit, l1, double_l2, status):
    i = number_to_update(p, status)
    if i >= 0:
        slope = slope_at(g, p, i, double_l2, scale, limit)
        step, square = formulas.rmsprop_step(mean[i], slope, rate[0], rho, rest, epsilon)
        mean[i] = square
        threshold = by_root(rate[0] * scale[0] * l1, square, epsilon) if l1 > 0 else l1
        new = p[i] - step
        if velocity.shape[0] > 0:
            if l1 > 0:
                new, v = formulas.momentum_shrunk(p[i], -velocity[i], -step, momentum, threshold, False)
                velocity[i], threshold = -v, type(l1)(0)
            else:
                step = formulas.rmsprop_velocity(velocity[i], step, momentum)
                velocity[i] = step
                new = p[i] - step
        finish(p, i, new, threshold, not_finite(square), status)


def rmsprop_update(p, mean, velocity, g, rate, rho, momentum, epsilon, scale, limit, l1, l2, stream):
    """RMSprop: mean = rho * mean + (1 - rho) * slope**2; v = momentum * v + rate * slope / sqrt(mean + epsilon);
    p -= v, then the soft threshold.

    p, mean, g : (length,); velocity : (length,), or (0,) without momentum. Source: Tieleman and Hinton,
    "Lecture 6.5: rmsprop" (2012); momentum and epsilon stand where Keras has them.
    """
    constants = rho, 1 - rho, momentum, epsilon
    update(_rmsprop, (p, mean, velocity, g), (rate_of(p, rate, stream),), constants, scale, limit, l1, l2, stream)


@kernel
def _adam(
    p, m, v, g, rate, step, beta_1, rest_1, log_1, beta_2, rest_2, log_2, epsilon, decay,
    scale, limit, l1, double_l2, status,
):  # fmt: skip
    i = number_to_update(p, status)
    if i >= 0:
        real = type(epsilon)
        slope = slope_at(g, p, i, double_l2, scale, limit)
        # 1 - beta**step, to a few units in the last place though float32 is all there is
        corrected = rate[0] / -expm1(real(step[0]) * log_1)
        correction = real(1) / root(-expm1(real(step[0]) * log_2))
        kept = real(1) - rate[0] * decay
        new, mean, square = formulas.adam(
            p[i], m[i], v[i], slope, corrected, correction, beta_1, rest_1, beta_2, rest_2, epsilon, kept
        )
        m[i], v[i] = mean, square
        threshold = by_corrected_root(rate[0] * scale[0] * l1, square, correction, epsilon) if l1 > 0 else l1
        finish(p, i, new, threshold, not_finite(square), status)  # a mean that is not finite shows in new


def adam_update(p, m, v, g, rate, beta_1, beta_2, epsilon, step, decay, scale, limit, l1, l2, stream):
    """Adam, and with ``decay`` AdamW:

    m = beta_1 * m + (1 - beta_1) * slope; v = beta_2 * v + (1 - beta_2) * slope**2;
    p -= rate * (m / (1 - beta_1**step)) / (sqrt(v / (1 - beta_2**step)) + epsilon) + rate * decay * p,
    then the soft threshold.

    p, m, v, g : (length,); step : counts from 1. Sources: Kingma and Ba, "Adam" (2015), algorithm 1;
    Loshchilov and Hutter, "Decoupled weight decay regularization" (2019), algorithm 2.
    """
    changing = rate_of(p, rate, stream), on_device(step, np.int64, stream)
    constants = beta_1, 1 - beta_1, logarithm(beta_1), beta_2, 1 - beta_2, logarithm(beta_2), epsilon, decay
    update(_adam, (p, m, v, g), changing, constants, scale, limit, l1, l2, stream)


def logarithm(beta):
    """log(beta), finite for 0: its exponential is 0 all the same."""
    return np.log(beta) if beta > 0 else -1e30


@functools.cache
def own_kernel(function, slots):
    """The kernel of a user's own update: each thread calls it with arrays of one number."""

    @kernel
    def run(p, first_slot, second_slot, g, rate, step, settings, scale, limit, l1, double_l2, status):
        i = number_to_update(p, status)
        if i >= 0:
            if l1 > 0:
                g[i] = slope_with_l1(p[i], g[i], l1)
            slope_at(g, p, i, double_l2, scale, limit)
            last = i + 1
            if slots == 0:
                function(p[i:last], g[i:last], (), rate[0], step[0], settings)
            elif slots == 1:
                function(p[i:last], g[i:last], (first_slot[i:last],), rate[0], step[0], settings)
            else:
                both = first_slot[i:last], second_slot[i:last]
                function(p[i:last], g[i:last], both, rate[0], step[0], settings)
            finish(p, i, p[i], type(l1)(0), False, status)

    return run


@functools.cache
def own_update(function, slots):
    """The kernel of a user's own update of flat arrays, ``function(p, g, slots, rate, step, settings)``.

    It gets the slope of the other updates in g, with that of L1, and may use g as it likes. Numbers are updated one at
    a time, so it has to go through arrays with a loop: arithmetic with whole arrays takes memory, which a GPU's thread
    has none of.
    """
    function = own_formula(function, returns_number=False)

    def update_own(p, first_slot, second_slot, g, rate, step, settings, scale, limit, l1, l2, stream):
        """The user's update. p, g and the slots that are used : (length,)."""
        changing = rate_of(p, rate, stream), on_device(step, np.int64, stream), settings
        arrays = p, first_slot, second_slot, g
        update(own_kernel(function, slots), arrays, changing, (), scale, limit, l1, l2, stream)

    return update_own
