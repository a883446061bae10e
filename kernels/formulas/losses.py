"""Losses as scalar formulas: what one output adds to the loss, and the slope with respect to that output.

Both devices compile them. Each takes numbers of one type and returns that type; NaN stays NaN. The third
argument of an elementwise loss is its parameter, a number that costs no compilation; most have none and
ignore it.
"""

from ..jit import formula
from .elementary import at_least, at_most, exp, log1p


@formula
def squared_error(y, target, unused):
    """(y - target)**2"""
    return (y - target) * (y - target)


@formula
def squared_error_slope(y, target, unused):
    """2 * (y - target)"""
    return (y - target) + (y - target)


@formula
def absolute_error(y, target, unused):
    """abs(y - target)"""
    return abs(y - target)


@formula
def absolute_error_slope(y, target, unused):
    """The sign of y - target, 0 where they are equal."""
    real = type(y)
    error = y - target
    return real(1) if error > real(0) else (real(-1) if error < real(0) else error)


@formula
def huber(y, target, delta):
    """e**2 / 2 with e = y - target where abs(e) <= delta, else delta * (abs(e) - delta / 2) (Huber 1964)."""
    half = type(y)(0.5)
    error = y - target
    size = abs(error)
    return half * error * error if size <= delta else delta * (size - half * delta)


@formula
def huber_slope(y, target, delta):
    """y - target, but not beyond -delta and delta."""
    return at_least(at_most(y - target, delta), -delta)


@formula
def pinball(y, target, quantile):
    """quantile * (target - y) where the target lies above y, else (1 - quantile) * (y - target).

    The expectation is least where y is that quantile of the targets (Koenker & Bassett 1978).
    """
    real = type(y)
    error = y - target
    return (real(1) - quantile) * error if error > real(0) else -quantile * error


@formula
def pinball_slope(y, target, quantile):
    """1 - quantile where y lies above the target, -quantile where it lies below, 0 where they are equal."""
    real = type(y)
    error = y - target
    return real(1) - quantile if error > real(0) else (-quantile if error < real(0) else error)


@formula
def smoothed(target, smoothing, uniform):
    """target * (1 - smoothing) + uniform, with uniform = smoothing / classes (Szegedy et al. 2016, section 7)."""
    return target * (type(target)(1) - smoothing) + uniform


@formula
def sigmoid_cross_entropy(z, target):
    """max(z, 0) - z * target + log(1 + exp(-abs(z))): the binary cross-entropy of sigmoid(z).

    An infinite z that agrees with the target (0 or 1) has a loss of 0.
    """
    real = type(z)
    weight = real(1) - target if z > real(0) else target
    # The choice is made before the product: a choice between it and zero would be fused with the sum in some
    # loops and not in others, and the bits would depend on where a slice starts.
    size = abs(z) if weight != real(0) else real(0)
    return size * weight + log1p(exp(-abs(z)))
