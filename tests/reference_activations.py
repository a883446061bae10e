"""NumPy twins of the activations, and their definitions for mpmath.

The twins work in float64, to well below the precision of float32. ``EXACT`` holds value and slope by name as
in a textbook, for mpmath numbers.
"""

import math

import mpmath
import numpy as np

SELU_SCALE = 1.0507009873554804934193349852946
SELU_ALPHA = 1.6732632423543772848170429916717

#: Where a slope is zero without its function being flat: relative precision ends there.
ROOTS = {"silu": -1.2784645427610738, "gelu": -0.7517915246935645}

#: Value at -inf, value at +inf, slope at -inf, slope at +inf.
LIMITS = {
    "linear": (-np.inf, np.inf, 1, 1),
    "sigmoid": (0, 1, 0, 0),
    "tanh": (-1, 1, 0, 0),
    "relu": (0, np.inf, 0, 1),
    "leaky_relu": (-np.inf, np.inf, 0.2, 1),
    "elu": (-1, np.inf, 0, 1),
    "selu": (-SELU_SCALE * SELU_ALPHA, np.inf, 0, SELU_SCALE),
    "softplus": (0, np.inf, 0, 1),
    "softsign": (-1, 1, 0, 0),
    "silu": (0, np.inf, 0, 1),
    "gelu": (0, np.inf, 0, 1),
}


def erfc(x):
    return np.frompyfunc(math.erfc, 1, 1)(x).astype(np.float64)


def sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def sigmoid_slope(x):
    return sigmoid(x) * sigmoid(-x)


def silu_slope(x):
    left = sigmoid(-np.abs(x)) * (1 - np.abs(x) * sigmoid(np.abs(x)))
    return np.where(x > 0, 1 - left, left)


def gelu(x):
    return x * erfc(-x / np.sqrt(2)) / 2


def gelu_slope(x):
    size = np.minimum(np.abs(x), 1e3)
    left = erfc(size / np.sqrt(2)) / 2 - size * np.exp(-(size**2) / 2) / np.sqrt(2 * np.pi)
    return np.where(x > 0, 1 - left, left)


def negative(x):
    return np.minimum(x, 0)


VALUES = {
    "linear": lambda x: x,
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
    "elu": lambda x: np.where(x > 0, x, np.expm1(negative(x))),
    "selu": lambda x: SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(negative(x))),
    "softplus": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "silu": lambda x: x * sigmoid(x),
    "gelu": gelu,
}

SLOPES = {
    "linear": np.ones_like,
    "sigmoid": sigmoid_slope,
    "tanh": lambda x: 4 * sigmoid_slope(2 * x),
    "relu": lambda x: np.where(x > 0, 1.0, 0.0),
    "leaky_relu": lambda x: np.where(x > 0, 1, 0.2),
    "elu": lambda x: np.where(x > 0, 1, np.exp(negative(x))),
    "selu": lambda x: SELU_SCALE * np.where(x > 0, 1, SELU_ALPHA * np.exp(negative(x))),
    "softplus": sigmoid,
    "softsign": lambda x: (1 + np.abs(x)) ** -2.0,
    "silu": silu_slope,
    "gelu": gelu_slope,
}


def logistic(x):
    return 1 / (1 + mpmath.exp(-x))


_scale = mpmath.mpf("1.0507009873554804934193349852946")
_alpha = mpmath.mpf("1.6732632423543772848170429916717")
_fifth = mpmath.mpf("0.2")

EXACT = {
    "linear": (lambda x: x, lambda x: mpmath.mpf(1)),
    "sigmoid": (logistic, lambda x: logistic(x) * logistic(-x)),
    "tanh": (mpmath.tanh, lambda x: mpmath.sech(x) ** 2),
    "relu": (lambda x: max(x, 0), lambda x: mpmath.mpf(x > 0)),
    "leaky_relu": (lambda x: x if x > 0 else _fifth * x, lambda x: mpmath.mpf(1) if x > 0 else _fifth),
    "elu": (
        lambda x: x if x > 0 else mpmath.expm1(x),
        lambda x: mpmath.mpf(1) if x > 0 else mpmath.exp(x),
    ),
    "selu": (
        lambda x: _scale * (x if x > 0 else _alpha * mpmath.expm1(x)),
        lambda x: _scale * (1 if x > 0 else _alpha * mpmath.exp(x)),
    ),
    "softplus": (lambda x: mpmath.log1p(mpmath.exp(x)), logistic),
    "softsign": (lambda x: x / (1 + abs(x)), lambda x: 1 / (1 + abs(x)) ** 2),
    "silu": (
        lambda x: x * logistic(x),
        lambda x: logistic(x) * (1 + x * logistic(-x)),
    ),
    "gelu": (
        lambda x: x * mpmath.ncdf(x),
        lambda x: mpmath.ncdf(x) + x * mpmath.npdf(x),
    ),
}


def softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def softmax_backward(dy, y):
    return y * (dy - (y * dy).sum(axis=1, keepdims=True))


def log_softmax(x):
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def log_softmax_backward(dy, y):
    return dy - np.exp(y) * dy.sum(axis=1, keepdims=True)
