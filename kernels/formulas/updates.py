"""The optimizers as scalar functions, for both devices: what becomes of one number and of what is remembered of it.

Each takes the number p, what the optimizer remembers, the slope g, the learning rate and settings, all of one type, and
returns the new p and what is to be remembered. The kernels of ``cpu.updates`` say where the formulas come from.
"""

import numpy as np

from ..jit import formula
from .elementary import fused, quotient, root, single
from .penalties import soft_threshold


@formula
def sgd(p, g, rate):
    """p -= rate * g"""
    return fused(-rate, g, p)


@formula
def momentum(p, velocity, g, rate, momentum, direct, ahead):
    """v = momentum * v - rate * g; p += direct * v - ahead * g with the new v.

    direct, ahead : 1 and 0, or with Nesterov's point momentum and rate.
    """
    v = fused(momentum, velocity, -rate * g)
    return p + fused(direct, v, -ahead * g), v


@formula
def momentum_shrunk(p, velocity, change, momentum, threshold, nesterov):
    """What ``momentum`` makes of p where numbers are moved towards zero by ``threshold``; v is what they really moved.

    change : what is added to p beside momentum * v, -rate * g. With Nesterov's point, the numbers are p - momentum * v.
    """
    if nesterov:
        new = soft_threshold(p + change, threshold)
        v = new - fused(-momentum, velocity, p)
        return fused(momentum, v, new), v
    new = soft_threshold(p + fused(momentum, velocity, change), threshold)
    return new, new - p


@formula
def by_root(x, square, epsilon):
    """x / √(square + epsilon)"""
    return quotient(x, root(square + epsilon))


@formula
def by_corrected_root(x, square, correction, epsilon):
    """x / (correction * √square + epsilon)"""
    return quotient(x, fused(correction, root(square), epsilon))


@formula
def adagrad(p, total, g, rate, epsilon):
    """total += g**2; p -= rate * g / √(total + epsilon)"""
    total = fused(g, g, total)
    return p - by_root(rate * g, total, epsilon), total


@formula
def rmsprop_step(mean, g, rate, rho, rest, epsilon):
    """What RMSprop without momentum takes from p, rate * g / √(mean + epsilon), and the new mean of the squares of g.

    rest : 1 - rho.
    """
    mean = fused(rho, mean, rest * (g * g))
    return by_root(rate * g, mean, epsilon), mean


@formula
def rmsprop_velocity(velocity, step, momentum):
    """What RMSprop with momentum takes from p: momentum * velocity + step."""
    return fused(momentum, velocity, step)


@formula
def adam(p, mean, square, g, rate, correction, beta_1, rest_1, beta_2, rest_2, epsilon, kept):
    """mean = beta_1 * mean + (1 - beta_1) * g; square = beta_2 * square + (1 - beta_2) * g**2;
    p = kept * p - rate * mean / (correction * √square + epsilon).

    rate : the learning rate over the first of the ``bias_corrections``; correction : 1 / √ of the second;
    rest_1, rest_2 : 1 - beta_1 and 1 - beta_2; kept : the share of p that decay leaves.
    """
    mean = fused(beta_1, mean, rest_1 * g)
    square = fused(beta_2, square, rest_2 * (g * g))
    # Where the square is too small for the type, only the mean would be left, and divided by epsilon alone.
    mean = mean if square != type(g)(0) else type(g)(0)
    return fused(kept, p, by_corrected_root(-(rate * mean), square, correction, epsilon)), mean, square


@formula
def bias_corrections(beta_1, beta_2, step):
    """1 - beta_1**step and 1 - beta_2**step: what Adam's means of ``step`` steps are divided by; they begin at zero."""
    return 1 - beta_1**step, 1 - beta_2**step


@formula
def slope_of(g, p, double_l2, scale, limit):
    """The slope that an update sees: scale * (g + 2 * l2 * p), within -limit .. limit; NaN and infinite give NaN."""
    slope = scale * fused(double_l2, p, g)
    clipped = limit if slope > limit else (-limit if slope < -limit else slope)
    return clipped + (slope - slope)


@formula
def noted(bad, x):
    """``bad``, an int32, where x is finite; one that is not 0 where x is infinite or not a number.

    A loop combines bits, which takes fewer instructions than to combine comparisons; Numba makes of ``|`` an int64,
    which has to be cut back.
    """
    nothing = x - x
    if single(x):
        return np.int32(bad | np.float32(nothing).view(np.int32))
    return np.int32(bad | np.int32(np.float64(nothing).view(np.int64) >> np.int64(32)))
