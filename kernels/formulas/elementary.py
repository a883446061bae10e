"""Elementary functions that a compiler can vectorize: no branches, no tables, no calls to a math library.

``math.exp`` in a loop is one library call an element, about 15 ns; these are arithmetic and selections alone,
so that LLVM's loop vectorizer takes 4 to 16 elements at a time. Each is written once for float32 and float64:
``real = type(x)`` is the type of the argument, and ``single(x)``, a constant to the compiler, picks the
polynomial. The float32 side never touches a 64-bit number, so it also compiles to lean GPU code.

Errors stay below 2 units in the last place (ULP), with and without fused multiply-add. NaN stays NaN, the
infinities have their limits, and results below the normal range lose bits gradually, as they should.

The exponential follows Cody & Waite, *Software Manual for the Elementary Functions* (1980), chapter 6:
x = n ln 2 + r with ln 2 in two pieces, then 2**n by its bits. The logarithm is that of fdlibm (Sun
Microsystems 1993, ``e_log.c``; ``e_logf.c`` for float32). The other polynomials are minimax fits of our own,
by Remez exchange with 50 digits; the comments state what is fitted and over which interval.
"""

import numpy as np

from ..jit import formula

__all__ = ["exp", "expm1", "log", "log1p", "normal_tail", "scaled_exp", "scaled_gauss", "single", "tanh"]


@formula
def single(x):
    """Whether x is a float32: then 1 + 1e-9 rounds to 1. The compiler folds it to a constant."""
    real = type(x)
    return real(1) + real(1e-9) == real(1)


@formula
def power_of_two(n):
    """2**n for a whole number n (held in a float) within the exponents of normal numbers.

    Adding 1.5 * 2**(bits of the significand) leaves n in the low bits, where an integer shift moves it to
    the exponent; a conversion to integer would be undefined for NaN.
    """
    real = type(n)
    if single(n):
        bits = np.int32(np.float32(n + real(12582912.0)).view(np.int32) + np.int32(127))
        return real(np.int32(bits << np.int32(23)).view(np.float32))
    bits = np.int64(np.float64(n + real(6755399441055744.0)).view(np.int64) + np.int64(1023))
    return real(np.int64(bits << np.int64(52)).view(np.float64))


@formula
def exp_reduction(high, low):
    """n and r with high + low = n ln 2 + r, n whole and |r| <= ln(2) / 2.

    The first piece of ln 2 has so few bits that n times it is exact, and its difference to ``high`` as well.
    """
    real = type(high)
    if single(high):
        n = (high * real(1.4426950408889634) + real(12582912.0)) - real(12582912.0)
        return n, (high - n * real(0.693359375)) + (n * real(2.12194440054690583e-4) + low)
    n = (high * real(1.4426950408889634) + real(6755399441055744.0)) - real(6755399441055744.0)
    return n, (high - n * real(6.93147180369123816490e-1)) + (low - n * real(1.90821492927058770002e-10))


@formula
def exp_remainder(r):
    """exp(r) - 1 for |r| <= ln(2) / 2: r + r**2 q(r), with q a minimax fit of (exp(r) - 1 - r) / r**2."""
    real = type(r)
    if single(r):
        q = real(1.3946511317044497e-3)
        q = q * r + real(8.366633206605911e-3)
        q = q * r + real(4.166628047823906e-2)
        q = q * r + real(1.6666541993618011e-1)
    else:
        q = real(2.0924535765596412e-9)
        q = q * r + real(2.510912530700088e-8)
        q = q * r + real(2.7557242463488796e-7)
        q = q * r + real(2.7557243979798524e-6)
        q = q * r + real(2.4801587360899042e-5)
        q = q * r + real(1.9841269886327365e-4)
        q = q * r + real(1.3888888888866668e-3)
        q = q * r + real(8.333333333321563e-3)
        q = q * r + real(4.16666666666667e-2)
        q = q * r + real(1.6666666666666677e-1)
    return r + r * r * (q * r + real(0.5))


@formula
def scaled_exp(factor, high, low):
    """factor * exp(high + low) for high <= 0 and a small correction low.

    2**n is multiplied in two halves, with the factor before them: where exp(high) is below the normal range
    it has lost bits, which a large factor would bring to light.
    """
    real = type(high)
    lowest = real(-130) if single(high) else real(-800)
    n, r = exp_reduction(lowest if high < lowest else high, low)
    half = power_of_two_half(n)
    return (factor + factor * exp_remainder(r)) * power_of_two(half) * power_of_two(n - half)


@formula
def power_of_two_half(n):
    """n / 2, rounded to a whole number."""
    real = type(n)
    magic = real(12582912.0) if single(n) else real(6755399441055744.0)
    return (n * real(0.5) + magic) - magic


@formula
def exp(x):
    """e**x."""
    real = type(x)
    highest = real(88.72283172607422) if single(x) else real(709.782712893384)
    y = scaled_exp(real(1), highest if x > highest else x, real(0))
    return real(np.inf) if x > highest else y


@formula
def expm1(x):
    """e**x - 1, without cancellation near zero: 2**n (exp(r) - 1) + (2**n - 1).

    All is halved until the end, because 2**n itself overflows before the result does.
    """
    real = type(x)
    highest = real(88.72283172607422) if single(x) else real(709.782712893384)
    lowest = real(-20) if single(x) else real(-40)
    bounded = lowest if x < lowest else (highest if x > highest else x)
    n, r = exp_reduction(bounded, real(0))
    scale = power_of_two(n - real(1))
    half = scale * exp_remainder(r) + (scale - real(0.5))
    return real(np.inf) if x > highest else half + half


@formula
def tanh(x):
    """(1 - q) / (1 + q) with q = exp(-2|x|) and the sign of x; 1 - q comes from expm1, exact near zero."""
    real = type(x)
    size = abs(x)
    bound = real(20) if single(x) else real(40)
    size = bound if size > bound else size
    less = expm1(real(-2) * size)
    y = less / (real(2) + less)
    return y if x < real(0) else -y


@formula
def log_parts(x):
    """n and m with x = 2**n m and sqrt(1/2) <= m < sqrt(2), for a positive normal number x."""
    real = type(x)
    if single(x):
        bits = np.float32(x).view(np.int32)
        n = np.int32(np.int32(bits - np.int32(0x3F3504F3)) >> np.int32(23))
        return real(n), real(np.int32(bits - np.int32(n << np.int32(23))).view(np.float32))
    long = np.float64(x).view(np.int64)
    power = np.int64(np.int64(long - np.int64(0x3FE6A09E667F3BCD)) >> np.int64(52))
    return real(power), real(np.int64(long - np.int64(power << np.int64(52))).view(np.float64))


@formula
def log_sum(n, f):
    """n ln 2 + log(1 + f) for sqrt(1/2) <= 1 + f < sqrt(2).

    With s = f / (2 + f), log(1 + f) = 2 atanh(s) = 2s + s R(s**2) = f - (f**2 / 2 - s (f**2 / 2 + R)).
    """
    real = type(f)
    s = f / (real(2) + f)
    z = s * s
    if single(f):
        rest = real(0.24279078841)
        rest = rest * z + real(0.28498786688)
        rest = rest * z + real(0.40000972152)
        rest = rest * z + real(0.66666662693)
        high, low = real(0.693359375), real(-2.12194440054690583e-4)
    else:
        rest = real(1.479819860511658591e-1)
        rest = rest * z + real(1.531383769920937332e-1)
        rest = rest * z + real(1.818357216161805012e-1)
        rest = rest * z + real(2.222219843214978396e-1)
        rest = rest * z + real(2.857142874366239149e-1)
        rest = rest * z + real(3.999999999940941908e-1)
        rest = rest * z + real(6.666666666666735130e-1)
        high, low = real(6.93147180369123816490e-1), real(1.90821492927058770002e-10)
    square = real(0.5) * f * f
    return n * high - ((square - (s * (square + rest * z) + n * low)) - f)


@formula
def log(x):
    """The natural logarithm: -inf at zero, NaN below."""
    real = type(x)
    zero = real(0)
    smallest = real(1.1754943508222875e-38) if single(x) else real(2.2250738585072014e-308)
    shift = real(32) if single(x) else real(64)
    subnormal = x < smallest
    normal = x * power_of_two(shift) if subnormal else x
    n, m = log_parts(normal if x > zero else real(1))
    y = log_sum(n - shift if subnormal else n, m - real(1))
    outside = real(-np.inf) if x == zero else (real(np.nan) if x < zero else x)
    return (y if x < real(np.inf) else x) if x > zero else outside


@formula
def log1p(x):
    """log(1 + x) for x >= 0, without losing x when it is small.

    The bits of x that 1 + x rounds away are x - ((1 + x) - 1); they come back, scaled, after 1 + x has been
    taken apart. Beyond 2**60 they no longer matter.
    """
    real = type(x)
    finite = real(1) if x == real(np.inf) else x
    sum = real(1) + finite
    n, m = log_parts(sum)
    lost = (finite - (sum - real(1))) * power_of_two(real(-60) if n > real(60) else -n)
    y = log_sum(n, (m - real(1)) + lost)
    return x if x == real(np.inf) else y


@formula
def normal_tail(t):
    """exp(t**2 / 2) Phi(-t) for t >= 0: the tail of the normal distribution without its exponential decay.

    Equal to Mills' ratio / sqrt(2 pi). (t + 4) times it is smooth and bounded, and a polynomial in
    u = (t - 4) / (t + 4), the substitution of Schonfelder, *Mathematics of Computation* 32 (1978), 1232;
    fitted by relative error for t <= 15 (float32) or 40 (float64), where the tail underflows.
    """
    real = type(t)
    w = real(1) / (t + real(4))
    u = (t - real(4)) * w
    if single(t):
        p = real(-1.34196161525324e-4)
        p = p * u + real(1.746581110637635e-4)
        p = p * u + real(1.5684064710512757e-3)
        p = p * u + real(-3.510210430249572e-3)
        p = p * u + real(-7.524003274738789e-3)
        p = p * u + real(6.04034885764122e-2)
        p = p * u + real(-1.865236610174179e-1)
        p = p * u + real(3.8713690638542175e-1)
        p = p * u + real(-6.078965663909912e-1)
        p = p * u + real(7.552851438522339e-1)
    else:
        p = real(-1.2257078192549858e-9)
        p = p * u + real(-4.0237556905947396e-10)
        p = p * u + real(1.468187936499268e-8)
        p = p * u + real(1.6279571339716797e-8)
        p = p * u + real(-7.723705767227561e-8)
        p = p * u + real(-1.5689160597208714e-7)
        p = p * u + real(2.6410996506526106e-7)
        p = p * u + real(1.0220963349777921e-6)
        p = p * u + real(-6.251636050968042e-7)
        p = p * u + real(-5.920128740925271e-6)
        p = p * u + real(7.149372759022056e-7)
        p = p * u + real(3.5144606326568605e-5)
        p = p * u + real(-1.9078315445343595e-6)
        p = p * u + real(-2.310949109478452e-4)
        p = p * u + real(1.3334424619584342e-4)
        p = p * u + real(1.6308184541478257e-3)
        p = p * u + real(-3.4796923613646617e-3)
        p = p * u + real(-7.540188966493302e-3)
        p = p * u + real(6.03965748906538e-2)
        p = p * u + real(-1.865218579596636e-1)
        p = p * u + real(3.871374007422197e-1)
        p = p * u + real(-6.078966419718921e-1)
        p = p * u + real(7.552851304157515e-1)
    return p * w


@formula
def scaled_gauss(factor, t):
    """factor * exp(-t**2 / 2) for t >= 0, with t**2 / 2 in two pieces.

    Rounding t**2 alone would cost t**2 / 4 ULP. The upper half of t's bits has an exact square; the rest of
    the square, (t - upper) (t + upper), is small.
    """
    real = type(t)
    bound = real(15) if single(t) else real(40)
    size = bound if t > bound else t
    if single(t):
        mask = np.int32(np.float32(size).view(np.int32) & np.int32(-4096))
        upper = real(np.int32(mask).view(np.float32))
    else:
        wide = np.int64(np.float64(size).view(np.int64) & np.int64(-134217728))
        upper = real(np.int64(wide).view(np.float64))
    return scaled_exp(factor, real(-0.5) * upper * upper, real(-0.5) * (size - upper) * (size + upper))
