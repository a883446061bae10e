"""The activation functions: each is two scalar formulas, its value and its slope, for both devices.

``value(x)`` is the activation; ``slope(x, y)`` is its derivative at x, where y = value(x). The slope is given
both and uses the one that keeps its precision: from y alone, a saturated sigmoid's slope y (1 - y) is off by
millions of units in the last place. Values are within 4 ULP of the exact ones and slopes within 8, over all
magnitudes; but within 0.5 of the roots of the slopes of SiLU and GELU, an absolute error of 4 epsilons of the type
is all that holds. Infinities have their limits and NaN stays NaN.

To add an activation, write its two formulas and one line in ``ACTIVATIONS``.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from ..jit import formula
from .elementary import (
    at_least,
    at_most,
    expm1,
    log1p,
    normal_tail,
    scaled_exp,
    scaled_gauss,
    single,
    tanh,
    tanh_parts,
    unlifted,
)


class Activation(NamedTuple):
    """An activation function: ``y = value(x)`` and its derivative ``slope(x, y)``.

    ``from_output`` says that the slope looks at y alone; then y may overwrite x.
    """

    value: Callable[..., Any]
    slope: Callable[..., Any]
    from_output: bool = False


@formula
def linear(x):
    """x."""
    return x


@formula
def linear_slope(x, y):
    """1, or NaN where y is NaN."""
    real = type(y)
    return y if math.isnan(y) else real(1)


@formula
def sigmoid(x):
    """1 / (1 + exp(-x)); below zero exp(x) / (1 + exp(x)), so that the exponential never overflows."""
    real = type(x)
    e = scaled_exp(real(1), -abs(x))
    return (e if x < real(0) else real(1)) / (real(1) + e)


@formula
def sigmoid_slope(x, y):
    """exp(-|x|) / (1 + exp(-|x|))**2, which is y (1 - y) without the cancellation for y near 1."""
    real = type(x)
    size = -abs(x)
    d = real(1) + scaled_exp(real(1), size)
    return scaled_exp(real(1) / (d * d), size)


@formula
def tanh_slope(x, y):
    """4 q / (1 + q)**2 with q = exp(-2|x|), which is 1 - y**2 without the cancellation for |y| near 1."""
    lifted, _, inverse = tanh_parts(x)
    return lifted * inverse * inverse * (type(x)(4) * unlifted(x))


@formula
def relu(x):
    """max(x, 0) (Nair & Hinton 2010); +0 for -0."""
    real = type(x)
    # Where y overwrites x, the sum keeps the compiler from masked stores in place of whole vectors: 10 times as slow.
    return at_least(x, real(0)) + real(0)


@formula
def relu_slope(x, y):
    """1 for y > 0, else 0."""
    real = type(y)
    return real(1) if y > real(0) else at_least(y, real(0))


@formula
def leaky_relu(x):
    """x for x > 0, else 0.2 x (Maas et al. 2013; 0.2 as in Keras 3)."""
    real = type(x)
    return (x if x > real(0) else real(0.2) * x) + real(0)  # as in ``relu``


@formula
def leaky_relu_slope(x, y):
    """1 for y > 0, else 0.2."""
    real = type(y)
    return real(1) if y > real(0) else (real(0.2) if y <= real(0) else y)


@formula
def elu(x):
    """x for x > 0, else exp(x) - 1 (Clevert et al. 2016)."""
    real = type(x)
    return x if x > real(0) else expm1(at_most(x, real(0)))


@formula
def elu_slope(x, y):
    """1 for x > 0, else exp(x)."""
    real = type(x)
    return scaled_exp(real(1), at_most(x, real(0)))


@formula
def selu(x):
    """scale x for x > 0, else scale alpha (exp(x) - 1).

    The constants give mean 0 and variance 1 a stable fixed point (Klambauer et al. 2017, equation 14).
    """
    real = type(x)
    negative = real(1.7580993408473768599) * expm1(at_most(x, real(0)))
    return real(1.0507009873554804934) * x if x > real(0) else negative


@formula
def selu_slope(x, y):
    """scale for x > 0, else scale alpha exp(x)."""
    real = type(x)
    negative = scaled_exp(real(1.7580993408473768599), at_most(x, real(0)))
    return real(1.0507009873554804934) if x > real(0) else negative


@formula
def softplus(x):
    """log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|)) (Dugas et al. 2001)."""
    real = type(x)
    e = scaled_exp(real(1), -abs(x))
    return relu(x) + log1p(e)


@formula
def softplus_slope(x, y):
    """The sigmoid of x."""
    return sigmoid(x)


@formula
def softsign(x):
    """x / (1 + |x|) (Bergstra et al. 2009)."""
    real = type(x)
    # Beyond 2**60, 1 + |x| is |x|; infinity over infinity would be NaN.
    bound = real(1152921504606846976.0)
    bounded = at_least(at_most(x, bound), -bound)
    return bounded / (real(1) + abs(bounded))


@formula
def softsign_slope(x, y):
    """1 / (1 + |x|)**2."""
    real = type(x)
    r = real(1) / (real(1) + abs(x))
    return r * r


@formula
def silu(x):
    """x sigmoid(x), also called swish (Elfwing et al. 2018).

    Written max(x, 0) - |x| exp(-|x|) / (1 + exp(-|x|)), equal on both sides of zero.
    """
    real = type(x)
    size = at_most(abs(x), real(130) if single(x) else real(800))
    e = scaled_exp(real(1), -size)
    return relu(x) - scaled_exp(size / (real(1) + e), -size)


@formula
def silu_slope(x, y):
    """s (1 + x (1 - s)) with s = sigmoid(x): e (1 + e + x) / (1 + e)**2 with e = exp(x) for x < 0.

    The slopes at x and -x add up to 1.
    """
    real = type(x)
    size = at_most(abs(x), real(130) if single(x) else real(800))
    d = real(1) + scaled_exp(real(1), -size)
    left = scaled_exp((d - size) / (d * d), -size)
    return real(1) - left if x > real(0) else left


@formula
def gelu(x):
    """x Phi(x), with Phi the normal distribution function (Hendrycks & Gimpel 2016): the exact form.

    Written max(x, 0) - |x| Phi(-|x|), equal on both sides of zero.
    """
    real = type(x)
    size = at_most(abs(x), real(15) if single(x) else real(40))
    return relu(x) - scaled_gauss(normal_tail(size)[1], size)


@formula
def gelu_slope(x, y):
    """Phi(x) + x phi(x), with phi the normal density; the slopes at x and -x add up to 1."""
    real = type(x)
    size = at_most(abs(x), real(15) if single(x) else real(40))
    left = scaled_gauss(normal_tail(size)[0] - size * real(0.3989422804014327), size)
    return real(1) - left if x > real(0) else left


#: Every activation by name, with the default parameters of Keras 3.
ACTIVATIONS = {
    "linear": Activation(linear, linear_slope, from_output=True),
    "sigmoid": Activation(sigmoid, sigmoid_slope),
    "tanh": Activation(tanh, tanh_slope),
    "relu": Activation(relu, relu_slope, from_output=True),
    "leaky_relu": Activation(leaky_relu, leaky_relu_slope, from_output=True),
    "elu": Activation(elu, elu_slope),
    "selu": Activation(selu, selu_slope),
    "softplus": Activation(softplus, softplus_slope),
    "softsign": Activation(softsign, softsign_slope),
    "silu": Activation(silu, silu_slope),
    "gelu": Activation(gelu, gelu_slope),
}
