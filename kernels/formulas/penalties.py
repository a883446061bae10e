"""Penalties of weights as scalar functions, for both devices: l1 * abs(p) + l2 * p**2, their slope and their step."""

import functools

import numpy as np

from ..jit import formula
from .own import own_formula

__all__ = ["own_term", "penalty_term", "soft_threshold", "squared_slope"]


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
def squared_slope(p, g, l1, double_l2):
    """The square of the slope of the loss and its penalties, in float64.

    Where L1 has none, at p = 0, it is the one nearest to zero; so it is zero where the loss is least.
    """
    p, slope = np.float64(p), np.float64(g)
    slope += double_l2 * p
    if l1 > 0.0:
        if p != 0.0:
            slope += l1 if p > 0.0 else -l1
        else:
            slope = soft_threshold(slope, l1)
    return slope * slope
