"""What happens to one parameter: the updates of ``formulas.updates`` with what an engine's kernel knows.

``update(p, first_slot, second_slot, gradients, at, g, step, settings, options, l1, l2, decay)`` updates the element
``at`` of flat arrays from its gradient g, and returns whether the new number is finite. ``settings`` holds what changes
by step, at the places below.
"""

import functools
import math

from ..formulas import updates as formulas
from ..formulas.elementary import not_finite
from ..formulas.own import own_formula
from ..formulas.penalties import slope_with_l1, soft_threshold
from ..formulas.updates import by_corrected_root, by_root, slope_of
from ..jit import formula
from ..layout import OPTIMIZER_OPTIONS

__all__ = ["CORRECTED_RATE", "CORRECTION", "RATE", "SCALE", "SETTINGS", "update_of"]

#: Places in the float64 settings of a step: the learning rate; Adam's rate and correction, as ``formulas.updates.adam``
#: has them; the factor of the gradient, below 1 where its norm is clipped.
RATE, CORRECTED_RATE, CORRECTION, SCALE, SETTINGS = range(5)


@formula
def put(p, at, new, threshold):
    """Write a new number behind the soft threshold of its L1 penalty; returns whether it is finite."""
    p[at] = soft_threshold(new, threshold) if threshold > 0 else new
    return not not_finite(new)


@formula
def reach_of(settings, l1, real):
    """The soft threshold of gradient descent."""
    return real(settings[RATE] * settings[SCALE] * l1)


@formula
def sgd(p, first, second, gradients, at, g, step, settings, options, l1, l2, decay):
    real = type(g)
    return put(p, at, formulas.sgd(p[at], g, real(settings[RATE])), reach_of(settings, l1, real))


@formula
def momentum(p, velocity, second, gradients, at, g, step, settings, options, l1, l2, decay):
    real = type(g)
    rate, share = real(settings[RATE]), real(options[1])
    threshold, nesterov = reach_of(settings, l1, real), options[2] != 0.0
    if threshold > 0:
        new, v = formulas.momentum_shrunk(p[at], velocity[at], -rate * g, share, threshold, nesterov)
    else:
        direct, ahead = (share, rate) if nesterov else (real(1), real(0))
        new, v = formulas.momentum(p[at], velocity[at], g, rate, share, direct, ahead)
    velocity[at] = v
    return put(p, at, new, real(0)) and not not_finite(v)


@formula
def adagrad(p, total, second, gradients, at, g, step, settings, options, l1, l2, decay):
    real = type(g)
    epsilon = real(options[1])
    new, new_total = formulas.adagrad(p[at], total[at], g, real(settings[RATE]), epsilon)
    total[at] = new_total
    threshold = by_root(reach_of(settings, l1, real), new_total, epsilon) if l1 > 0.0 else real(0)
    return put(p, at, new, threshold) and not not_finite(new_total)


@formula
def rmsprop(p, mean, velocity, gradients, at, g, step, settings, options, l1, l2, decay):
    real = type(g)
    rho, rest, epsilon = real(options[1]), real(1.0 - options[1]), real(options[3])
    change, square = formulas.rmsprop_step(mean[at], g, real(settings[RATE]), rho, rest, epsilon)
    mean[at] = square
    threshold = by_root(reach_of(settings, l1, real), square, epsilon) if l1 > 0.0 else real(0)
    new, share = p[at] - change, real(options[2])
    if velocity.shape[0] > 0:
        if threshold > 0:
            new, v = formulas.momentum_shrunk(p[at], -velocity[at], -change, share, threshold, False)
            velocity[at], threshold = -v, real(0)
        else:
            change = formulas.rmsprop_velocity(velocity[at], change, share)
            velocity[at] = change
            new = p[at] - change
    return put(p, at, new, threshold) and not not_finite(square)


@formula
def adam(p, m, v, gradients, at, g, step, settings, options, l1, l2, decay):
    real = type(g)
    rate, correction = real(settings[CORRECTED_RATE]), real(settings[CORRECTION])
    beta_1, rest_1, beta_2, rest_2 = real(options[1]), real(1.0 - options[1]), real(options[2]), real(1.0 - options[2])
    kept = real(1.0 - settings[RATE] * options[4]) if decay != 0 else real(1)
    epsilon = real(options[3])
    new, mean, square = formulas.adam(
        p[at], m[at], v[at], g, rate, correction, beta_1, rest_1, beta_2, rest_2, epsilon, kept
    )
    m[at], v[at] = mean, square
    reach = reach_of(settings, l1, real)
    threshold = by_corrected_root(reach, square, correction, epsilon) if l1 > 0.0 else real(0)
    return put(p, at, new, threshold) and not not_finite(square)


@functools.cache
def own(function, slots):
    """A user's own ``function(p, g, slots, rate, step, settings)``, on arrays of one element."""
    function = own_formula(function, returns_number=False)

    @formula
    def without_slots(p, first, second, gradients, at, g, step, settings, options, l1, l2, decay):
        gradients[at] = g
        function(p[at : at + 1], gradients[at : at + 1], (), settings[RATE], step, options[1:OPTIMIZER_OPTIONS])
        return not not_finite(p[at])

    @formula
    def one_slot(p, first, second, gradients, at, g, step, settings, options, l1, l2, decay):
        gradients[at] = g
        slots = (first[at : at + 1],)
        function(p[at : at + 1], gradients[at : at + 1], slots, settings[RATE], step, options[1:OPTIMIZER_OPTIONS])
        return not not_finite(p[at])

    @formula
    def two_slots(p, first, second, gradients, at, g, step, settings, options, l1, l2, decay):
        gradients[at] = g
        slots = first[at : at + 1], second[at : at + 1]
        function(p[at : at + 1], gradients[at : at + 1], slots, settings[RATE], step, options[1:OPTIMIZER_OPTIONS])
        return not not_finite(p[at])

    return (without_slots, one_slot, two_slots)[slots]


UPDATES = {"sgd": sgd, "momentum": momentum, "adagrad": adagrad, "rmsprop": rmsprop, "adam": adam}


@functools.cache
def update_of(name, slots):
    """The update ``name``, or a user's own function with so many slots, with the slope that all updates see."""
    owned = callable(name)
    update = own(name, slots) if owned else UPDATES[name]

    @formula
    def sloped(p, first, second, gradients, at, g, step, settings, options, l1, l2, decay):
        real = type(g)
        if owned and l1 > 0.0:  # what threshold would fit a user's update is not known
            g = slope_with_l1(p[at], g, real(l1))
        if l2 != 0.0 or settings[SCALE] != 1.0 or options[0] < math.inf:
            g = slope_of(g, p[at], real(2.0 * l2), real(settings[SCALE]), real(options[0]))
        return update(p, first, second, gradients, at, g, step, settings, options, l1, l2, decay)

    return sloped
