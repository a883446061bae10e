"""Penalties of weights as scalar functions, for both devices: l1 * abs(p) + l2 * p**2, their slope and their step."""

import functools

import numpy as np

from ..jit import formula
from .own import own_formula


@formula
def penalty_term(w, l1, l2):
    """l1 * abs(w) + l2 * w**2, in float64."""
    w = np.float64(w)
    return (l1 + l2 * abs(w)) * abs(w)


@functools.cache
def own_term(value):
    """The term of a user's own penalty, ``value(w)``, with the arguments of ``penalty_term``."""
    value = own_formula(value)

    @formula
    def term(w, l1, l2):
        return np.float64(value(w))

    return term


@formula
def soft_threshold(p, threshold):
    """p moved towards zero by ``threshold``, and zero where it is nearer than that; NaN stays NaN."""
    # In the middle p * 0 and not 0, for the NaN.
    return p - threshold if p > threshold else (p + threshold if p < -threshold else p * type(p)(0))


@formula
def slope_with_l1(p, slope, l1):
    """The slope with that of l1 * abs(p): l1 and the sign of p. At p = 0, where there is none, it is the one that is
    nearest to zero, so that it is zero where the loss is least.
    """
    return slope + l1 if p > 0 else (slope - l1 if p < 0 else soft_threshold(slope, l1))


@formula
def squared_slope(p, g, l1, double_l2):
    """The square of the slope of the loss and its penalties, in float64."""
    p, slope = np.float64(p), np.float64(g)
    slope += double_l2 * p
    if l1 > 0.0:
        slope = slope_with_l1(p, slope, l1)
    return slope * slope
