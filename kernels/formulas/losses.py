"""Losses as scalar formulas: what one output adds to the loss, and the slope with respect to that output.

Both devices compile them. Each takes numbers of one type and returns that type; NaN stays NaN.
"""

from ..jit import formula
from .elementary import exp, log, log1p

__all__ = [
    "absolute_error",
    "absolute_error_slope",
    "binary_cross_entropy",
    "binary_cross_entropy_slope",
    "cross_entropy",
    "cross_entropy_slope",
    "sigmoid_cross_entropy",
    "squared_error",
    "squared_error_slope",
]


@formula
def squared_error(y, target):
    """(y - target)**2"""
    return (y - target) * (y - target)


@formula
def squared_error_slope(y, target):
    """2 * (y - target)"""
    return (y - target) + (y - target)


@formula
def absolute_error(y, target):
    """abs(y - target)"""
    return abs(y - target)


@formula
def absolute_error_slope(y, target):
    """The sign of y - target, 0 where they are equal."""
    real = type(y)
    error = y - target
    return real(1) if error > real(0) else (real(-1) if error < real(0) else error)


@formula
def clipped(logarithm):
    """A logarithm of a probability, not below -100: so a loss stays finite where the probability is 0.

    The bound is that of PyTorch's ``binary_cross_entropy``.
    """
    lowest = type(logarithm)(-100)
    return lowest if logarithm < lowest else logarithm


@formula
def nonzero(denominator):
    """A denominator, not below 1e-12: so a slope stays finite where the probability is 0 (as in PyTorch)."""
    least = type(denominator)(1e-12)
    return least if denominator < least else denominator


@formula
def binary_cross_entropy(y, target):
    """-target * log(y) - (1 - target) * log(1 - y), with logarithms of at least -100. y : probability."""
    one = type(y)(1)
    return -(target * clipped(log(y)) + (one - target) * clipped(log(one - y)))


@formula
def binary_cross_entropy_slope(y, target):
    """(y - target) / (y * (1 - y)), with a denominator of at least 1e-12."""
    return (y - target) / nonzero(y * (type(y)(1) - y))


@formula
def cross_entropy(y, target):
    """-target * log(y), with a logarithm of at least -100. y, target : probability of one class."""
    return -(target * clipped(log(y)))


@formula
def cross_entropy_slope(y, target):
    """-target / y, with a denominator of at least 1e-12."""
    return -target / nonzero(y)


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
