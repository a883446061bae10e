"""Optimizers: one pass over flat arrays that updates the parameters and the optimizer's own arrays.

All share the penalties: L2 = l2 * sum(w**2) adds 2 * l2 * w to the gradient; L1 = l1 * sum(abs(w)) is applied
after the step as a soft threshold of rate * l1 (the proximal step of Parikh and Boyd, "Proximal Algorithms",
2014, section 6.5.2), so that weights become exactly zero.

Every update returns OK, or NOT_FINITE where a new number is infinite or not a number. All elements are
updated in either case.
"""

import functools

import numpy as np

from ..jit import formula, kernel
from ..layout import (
    COLUMNS,
    DECAY,
    FIRST_CHUNK,
    FIRST_SLOT,
    GRADIENTS,
    LENGTH,
    NOT_FINITE,
    OFFSET,
    OK,
    OPTIONS,
    PARAMETERS,
    PENALTIES,
    PENALTY,
    PENALTY_CHUNK,
    RATE,
    SECOND_SLOT,
    STEP,
    elements,
    parameter_record,
    run_record,
    share,
)
from ..memory import vector

__all__ = [
    "adam_update",
    "momentum_update",
    "penalty_sum",
    "plan_adam_update",
    "plan_momentum_update",
    "plan_penalty",
    "plan_sgd_update",
    "sgd_update",
]


@formula
def soft_threshold(p, threshold):
    """p moved towards zero by ``threshold``, and zero where it is nearer than that; NaN stays NaN."""
    # In the middle p * 0 and not 0, for the NaN.
    return p - threshold if p > threshold else (p + threshold if p < -threshold else p * type(p)(0))


@formula
def not_finite(x):
    """Whether x is infinite or not a number; combined with ``|`` over a loop it vectorizes."""
    return x - x != type(x)(0)


@kernel
def sgd_update(p, g, rate, l1, l2, rank, size):
    """Gradient descent: p -= rate * (g + 2 * l2 * p), then the soft threshold.

    p, g : (length,).
    """
    real = p.dtype.type
    shrink, double_l2, rate = real(rate * l1), real(2 * l2), real(rate)
    first, last = share(p.shape[0], rank, size)
    p, g = p[first:last], g[first:last]
    bad = False
    for i in range(p.shape[0]):
        new = soft_threshold(p[i] - rate * (g[i] + double_l2 * p[i]), shrink)
        p[i] = new
        bad |= not_finite(new)
    return NOT_FINITE if bad else OK


@kernel
def momentum_update(p, velocity, g, rate, momentum, nesterov, l1, l2, rank, size):
    """Gradient descent with momentum: v = momentum * v - rate * g; p += v, then the soft threshold.

    With ``nesterov``: p += momentum * v - rate * g with the new v. The gradient g includes 2 * l2 * p.
    p, velocity, g : (length,). Source: Sutskever, Martens, Dahl and Hinton, "On the importance of
    initialization and momentum in deep learning" (2013), with Nesterov's point rewritten as the parameters.
    """
    real = p.dtype.type
    shrink, double_l2, rate, momentum = real(rate * l1), real(2 * l2), real(rate), real(momentum)
    # p += direct * v - ahead * rate * g, for both kinds
    direct = momentum if nesterov else real(1)
    ahead = rate if nesterov else real(0)
    first, last = share(p.shape[0], rank, size)
    p, velocity, g = p[first:last], velocity[first:last], g[first:last]
    bad = False
    for i in range(p.shape[0]):
        slope = g[i] + double_l2 * p[i]
        v = momentum * velocity[i] - rate * slope
        new = soft_threshold(p[i] + (direct * v - ahead * slope), shrink)
        velocity[i] = v
        p[i] = new
        bad |= not_finite(new)  # it is, where v is not finite
    return NOT_FINITE if bad else OK


@kernel
def adam_update(p, m, v, g, rate, beta_1, beta_2, epsilon, step, decay, l1, l2, rank, size):
    """Adam, and with ``decay`` AdamW:

    m = beta_1 * m + (1 - beta_1) * g; v = beta_2 * v + (1 - beta_2) * g**2;
    p -= rate * (m / (1 - beta_1**step)) / (sqrt(v / (1 - beta_2**step)) + epsilon) + rate * decay * p,
    then the soft threshold. The gradient g includes 2 * l2 * p.

    p, m, v, g : (length,); step : counts from 1. Sources: Kingma and Ba, "Adam" (2015), algorithm 1;
    Loshchilov and Hutter, "Decoupled weight decay regularization" (2019), algorithm 2.
    """
    real = p.dtype.type
    shrink, double_l2, kept = real(rate * l1), real(2 * l2), real(1 - rate * decay)
    new_1, new_2, epsilon = real(1 - beta_1), real(1 - beta_2), real(epsilon)
    rate = real(rate / (1 - beta_1**step))
    correction = real(1 / (1 - beta_2**step))
    beta_1, beta_2 = real(beta_1), real(beta_2)
    first, last = share(p.shape[0], rank, size)
    p, m, v, g = p[first:last], m[first:last], v[first:last], g[first:last]
    bad = False
    for i in range(p.shape[0]):
        slope = g[i] + double_l2 * p[i]
        mean = beta_1 * m[i] + new_1 * slope
        square = beta_2 * v[i] + new_2 * (slope * slope)
        new = kept * p[i] - rate * mean / (np.sqrt(correction * square) + epsilon)
        new = soft_threshold(new, shrink)
        m[i] = mean
        v[i] = square
        p[i] = new
        bad |= not_finite(new) | not_finite(square)  # a mean that is not finite shows in new
    return NOT_FINITE if bad else OK


@kernel
def penalty_sum(p, l1, l2):
    """l1 * sum(abs(p)) + l2 * sum(p**2) in float64, always in the same order: eight lanes, then across them.

    p : (length,).
    """
    a0, a1, a2, a3, a4, a5, a6, a7 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    whole = p.shape[0] // 8 * 8
    for i in range(0, whole, 8):
        a0 += penalty_term(p[i], l1, l2)
        a1 += penalty_term(p[i + 1], l1, l2)
        a2 += penalty_term(p[i + 2], l1, l2)
        a3 += penalty_term(p[i + 3], l1, l2)
        a4 += penalty_term(p[i + 4], l1, l2)
        a5 += penalty_term(p[i + 5], l1, l2)
        a6 += penalty_term(p[i + 6], l1, l2)
        a7 += penalty_term(p[i + 7], l1, l2)
    for i in range(whole, p.shape[0]):
        a0 += penalty_term(p[i], l1, l2)
    return ((a0 + a4) + (a1 + a5)) + ((a2 + a6) + (a3 + a7))


@formula
def penalty_term(w, l1, l2):
    w = np.float64(w)
    return (l1 + l2 * abs(w)) * abs(w)


@formula
def _rate(run):
    return vector(run[RATE], 1, np.float64)[0]


@formula
def _penalty(run, parameter):
    """l1 and l2 of a parameter."""
    if parameter[PENALTY] < 0:
        return 0.0, 0.0
    pair = vector(run[OPTIONS] + 8 * parameter[PENALTY], 2, np.float64)
    return pair[0], pair[1]


@functools.cache
def plan_sgd_update(real):
    """``sgd_update`` for a plan."""

    def update(run_address, parameter_address, first, last):
        run, parameter = run_record(run_address), parameter_record(parameter_address)
        start, length = parameter[OFFSET] + first, last - first
        p = elements(run[PARAMETERS], start, length, real)
        g = elements(run[GRADIENTS], start, length, real)
        l1, l2 = _penalty(run, parameter)
        return sgd_update(p, g, _rate(run), l1, l2, 0, 1)

    return update


@functools.cache
def plan_momentum_update(real):
    """``momentum_update`` for a plan; the first options: momentum, nesterov (0 or 1)."""

    def update(run_address, parameter_address, first, last):
        run, parameter = run_record(run_address), parameter_record(parameter_address)
        options = vector(run[OPTIONS], 2, np.float64)
        start, length = parameter[OFFSET] + first, last - first
        p = elements(run[PARAMETERS], start, length, real)
        velocity = elements(run[FIRST_SLOT], start, length, real)
        g = elements(run[GRADIENTS], start, length, real)
        l1, l2 = _penalty(run, parameter)
        return momentum_update(p, velocity, g, _rate(run), options[0], options[1] != 0.0, l1, l2, 0, 1)

    return update


@functools.cache
def plan_adam_update(real):
    """``adam_update`` for a plan; the first options: beta_1, beta_2, epsilon, decay."""

    def update(run_address, parameter_address, first, last):
        run, parameter = run_record(run_address), parameter_record(parameter_address)
        options = vector(run[OPTIONS], 4, np.float64)
        start, length = parameter[OFFSET] + first, last - first
        p = elements(run[PARAMETERS], start, length, real)
        m = elements(run[FIRST_SLOT], start, length, real)
        v = elements(run[SECOND_SLOT], start, length, real)
        g = elements(run[GRADIENTS], start, length, real)
        l1, l2 = _penalty(run, parameter)
        decay = options[3] if parameter[DECAY] != 0 else 0.0
        step = run[STEP] + 1
        return adam_update(p, m, v, g, _rate(run), options[0], options[1], options[2], step, decay, l1, l2, 0, 1)

    return update


@functools.cache
def plan_penalty(real):
    """``penalty_sum`` for a plan: function(run, parameter, first chunk, last chunk)."""

    def penalty(run_address, parameter_address, first, last):
        run, parameter = run_record(run_address), parameter_record(parameter_address)
        length = parameter[LENGTH] * parameter[COLUMNS]
        l1, l2 = _penalty(run, parameter)
        penalties = vector(run[PENALTIES] + 8 * parameter[FIRST_CHUNK], last, np.float64)
        for chunk in range(first, last):
            start = chunk * PENALTY_CHUNK
            rest = min(PENALTY_CHUNK, length - start)
            p = elements(run[PARAMETERS], parameter[OFFSET] + start, rest, real)
            penalties[chunk] = penalty_sum(p, l1, l2)
        return OK

    return penalty
