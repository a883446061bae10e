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

import math

import numpy as np

from ..jit import COMPILED, contracted, formula


@contracted
def fused(a, b, c):
    """a * b + c, rounded once on processors that can: half the work, and a smaller error."""
    return a * b + c


if COMPILED:

    @formula
    def root(x):
        """The square root, of x's type also in the GPU's simulator, where Python computes it."""
        return type(x)(math.sqrt(x))

else:
    root = np.sqrt  # which has no errors, as compiled code


@formula
def quotient(x, y):
    """x / y, within 2 ULP, for a normal number y above 0; in float32 for y up to 8e37, which stands for larger ones.

    In float32 x times 1 / y, by a first guess from the bits of y and two steps of Newton's kind, the first of third
    order (their errors: 0.05, 1.3e-4, 2e-8). A division of a vector takes as long as 16 multiplications or more; after
    a square root it also waits for the same part of the processor.
    """
    real = type(x)
    if single(x):
        y = at_most(y, real(8e37))  # the reciprocal is a normal number, too
        guess = np.int32(np.int32(0x7EF311C3) - np.float32(y).view(np.int32)).view(np.float32)
        rest = fused(-y, guess, real(1))
        guess = fused(guess, fused(rest, rest, rest), guess)
        return x * fused(guess, fused(-y, guess, real(1)), guess)
    return x / y


@formula
def single(x):
    """Whether x is a float32: then 1 + 1e-9 rounds to 1. The compiler folds it to a constant."""
    real = type(x)
    return real(1) + real(1e-9) == real(1)


@formula
def not_finite(x):
    """Whether x is infinite or not a number."""
    return x - x != type(x)(0)


@formula
def at_most(x, bound):
    """min(x, bound), but NaN stays NaN: a GPU's ``min`` drops it."""
    return bound if x > bound else x


@formula
def at_least(x, bound):
    """max(x, bound), but NaN stays NaN."""
    return bound if x < bound else x


@formula
def rounder(x, exponent):
    """The sum of it and a small number is rounded to a whole number n, and ends with the bits of 2**(n + exponent).

    1.5 * 2**(bits of the fraction), and in its low bits the exponent and the bias of exponents.
    """
    real = type(x)
    return (real(12582912.0 + 127.0) if single(x) else real(6755399441055744.0 + 1023.0)) + exponent


@formula
def power_of_two(total):
    """2**(n + exponent) for the sum of ``rounder(x, exponent)`` and n, if it is a normal number.

    A shift moves its exponent to its place; a conversion to an integer would be undefined for NaN.
    """
    real = type(total)
    if single(total):
        return real(np.int32(np.float32(total).view(np.int32) << np.int32(23)).view(np.float32))
    return real(np.int64(np.float64(total).view(np.int64) << np.int64(52)).view(np.float64))


@formula
def exp_reduction(near, x, magic):
    """n + magic, n and r with x = n ln 2 + r, n whole; |r| <= ln(2) / 2 where ``near`` is x, and so much more as they
    differ. magic : a ``rounder``.

    The first piece of ln 2 has so few bits that n times it is exact, and its difference to x as well.
    """
    real = type(x)
    total = fused(near, real(1.4426950408889634), magic)
    n = total - magic
    if single(x):
        return total, n, fused(n, real(2.12194440054690583e-4), fused(n, real(-0.693359375), x))
    return total, n, fused(n, real(-1.90821492927058770002e-10), fused(n, real(-6.93147180369123816490e-1), x))


@formula
def exp_remainder(r):
    """exp(r) - 1 for |r| <= ln(2) / 2: r + r**2 q(r), with q a minimax fit of (exp(r) - 1 - r) / r**2.

    q is summed by pairs, as a polynomial in r**2: half as many steps wait for one another as in Horner's order.
    """
    real = type(r)
    square = r * r
    if single(r):
        q = fused(real(1.9914373115170747e-4), r, real(1.3941063079982996e-3))
        q = fused(q, square, fused(real(8.33327230066061e-3), r, real(4.166635498404503e-2)))
        q = fused(q, square, fused(real(1.666666716337204e-1), r, real(0.5)))
    else:
        q = fused(real(2.0924535765596412e-9), r, real(2.510912530700088e-8))
        q = fused(q, square, fused(real(2.7557242463488796e-7), r, real(2.7557243979798524e-6)))
        q = fused(q, square, fused(real(2.4801587360899042e-5), r, real(1.9841269886327365e-4)))
        q = fused(q, square, fused(real(1.3888888888866668e-3), r, real(8.333333333321563e-3)))
        q = fused(q, square, fused(real(4.16666666666667e-2), r, real(1.6666666666666677e-1)))
        q = fused(q, r, real(0.5))
    return fused(q, square, r)


@formula
def lift(x):
    """An exponent that lifts the powers of two below the normal range into it: their bits are lost at the end alone."""
    return type(x)(64) if single(x) else type(x)(512)


@formula
def unlifted(x):
    """2**-lift(x)."""
    return type(x)(5.421010862427522e-20) if single(x) else type(x)(7.458340731200207e-155)


@formula
def scaled_exp(factor, x):
    """factor * exp(x) for x <= 0, with a factor of at most 2**60."""
    real = type(x)
    bounded = at_least(x, real(-130) if single(x) else real(-800))
    total, _, r = exp_reduction(bounded, bounded, rounder(x, lift(x)))
    return fused(factor, exp_remainder(r), factor) * power_of_two(total) * unlifted(x)


@formula
def exp(x):
    """e**x; 2**n is multiplied in two halves, for n may be beyond the exponents."""
    real = type(x)
    lowest, highest = (
        real(-130) if single(x) else real(-800),
        real(88.72283172607422) if single(x) else real(709.782712893384),
    )
    bounded = at_least(at_most(x, highest), lowest)
    magic = rounder(x, real(0))
    _, n, r = exp_reduction(bounded, bounded, magic)
    total = fused(n, real(0.5), magic)
    first, second = power_of_two(total), power_of_two((n - (total - magic)) + magic)
    y = fused(first, exp_remainder(r), first) * second
    return real(np.inf) if x > highest else y


@formula
def expm1(x):
    """e**x - 1, without cancellation near zero: 2**n (exp(r) - 1) + (2**n - 1).

    All is halved until the end, because 2**n itself overflows before the result does.
    """
    real = type(x)
    highest = real(88.72283172607422) if single(x) else real(709.782712893384)
    lowest = real(-20) if single(x) else real(-40)
    bounded = at_least(at_most(x, highest), lowest)
    total, _, r = exp_reduction(bounded, bounded, rounder(x, real(-1)))
    scale = power_of_two(total)
    half = fused(scale, exp_remainder(r), scale - real(0.5))
    return real(np.inf) if x > highest else half + half


@formula
def tanh_parts(x):
    """2**lift q, 1 - q and 1 / (1 + q) with q = exp(-2|x|): what tanh and its slope have in common.

    1 - q is exact near zero, as in ``expm1``, and q keeps its precision where it is tiny, as in ``scaled_exp``.
    """
    real = type(x)
    doubled = at_least(real(-2) * abs(x), real(-120) if single(x) else real(-800))
    total, _, r = exp_reduction(doubled, doubled, rounder(x, lift(x)))
    lifted, remainder = power_of_two(total), exp_remainder(r)
    scale = lifted * unlifted(x)
    less = fused(scale, remainder, scale - real(1))
    return fused(lifted, remainder, lifted), -less, real(1) / (real(2) + less)


@formula
def tanh(x):
    """(1 - q) / (1 + q) with q = exp(-2|x|) and the sign of x."""
    _, difference, inverse = tanh_parts(x)
    return type(x)(math.copysign(difference * inverse, x))


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
        rest = fused(rest, z, real(0.28498786688))
        rest = fused(rest, z, real(0.40000972152))
        rest = fused(rest, z, real(0.66666662693))
        high, low = real(0.693359375), real(-2.12194440054690583e-4)
    else:
        rest = real(1.479819860511658591e-1)
        rest = fused(rest, z, real(1.531383769920937332e-1))
        rest = fused(rest, z, real(1.818357216161805012e-1))
        rest = fused(rest, z, real(2.222219843214978396e-1))
        rest = fused(rest, z, real(2.857142874366239149e-1))
        rest = fused(rest, z, real(3.999999999940941908e-1))
        rest = fused(rest, z, real(6.666666666666735130e-1))
        high, low = real(6.93147180369123816490e-1), real(1.90821492927058770002e-10)
    square = real(0.5) * f * f
    return fused(n, high, f - (square - fused(s, fused(rest, z, square), n * low)))


@formula
def log(x):
    """The natural logarithm: -inf at zero, NaN below."""
    real = type(x)
    zero = real(0)
    smallest = real(1.1754943508222875e-38) if single(x) else real(2.2250738585072014e-308)
    shift = real(32) if single(x) else real(64)
    subnormal = x < smallest
    normal = x * power_of_two(shift + rounder(x, real(0))) if subnormal else x
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
    rounded = real(1) + finite
    n, m = log_parts(rounded)
    lost = (finite - (rounded - real(1))) * power_of_two((real(-60) if n > real(60) else -n) + rounder(x, real(0)))
    y = log_sum(n, (m - real(1)) + lost)
    return x if x == real(np.inf) else y


@formula
def normal_tail(t):
    """The pair m and t m, where m = exp(t**2 / 2) Phi(-t) for t >= 0: Mills' ratio / sqrt(2 pi).

    It is the tail of the normal distribution without its exponential decay. (t + 3) m is smooth and bounded,
    a polynomial p in u = (t - 3) / (t + 3), the substitution of Schonfelder, *Mathematics of Computation* 32
    (1978), 1232; fitted by relative error for t <= 15 (float32) or 40 (float64), where the tail underflows.
    With s = t / (t + 3), u = 2s - 1 and t m = s p: so few roundings that gelu stays within 4 ULP.
    """
    real = type(t)
    s = t / (t + real(3))
    u = (s + s) - real(1)
    if single(t):
        p = real(5.448888259707019e-5)
        p = fused(p, u, real(1.3133005995769054e-4))
        p = fused(p, u, real(-2.4472971563227475e-4))
        p = fused(p, u, real(-1.0325732873752713e-3))
        p = fused(p, u, real(1.024753786623478e-3))
        p = fused(p, u, real(6.969311274588108e-3))
        p = fused(p, u, real(-1.0462513193488121e-2))
        p = fused(p, u, real(-4.726268723607063e-2))
        p = fused(p, u, real(0.23001770675182343))
        p = fused(p, u, real(-0.509332001209259))
        p = fused(p, u, real(0.7290837168693542))
    else:
        p = real(-4.199216461683041e-10)
        p = fused(p, u, real(-5.436689943000804e-9))
        p = fused(p, u, real(-1.1380619877517007e-8))
        p = fused(p, u, real(1.9510891820297898e-8))
        p = fused(p, u, real(9.171640733720362e-8))
        p = fused(p, u, real(5.1030989633299286e-8))
        p = fused(p, u, real(-2.700985214794635e-7))
        p = fused(p, u, real(-6.008861273652261e-7))
        p = fused(p, u, real(6.456984709534411e-9))
        p = fused(p, u, real(2.261045956273846e-6))
        p = fused(p, u, real(3.640438623619154e-6))
        p = fused(p, u, real(-3.519404593723735e-6))
        p = fused(p, u, real(-2.0689183160546955e-5))
        p = fused(p, u, real(-1.3245624089247143e-5))
        p = fused(p, u, real(7.881267088516664e-5))
        p = fused(p, u, real(1.5439439873817613e-4))
        p = fused(p, u, real(-2.5657534551980904e-4))
        p = fused(p, u, real(-1.0458286158084732e-3))
        p = fused(p, u, real(1.0275922590257311e-3))
        p = fused(p, u, real(6.972621240033569e-3))
        p = fused(p, u, real(-1.046286702330723e-2))
        p = fused(p, u, real(-4.726302514295857e-2))
        p = fused(p, u, real(0.23001771997460363))
        p = fused(p, u, real(-0.5093319819174896))
        p = fused(p, u, real(0.729083690133373))
    return (real(1) - s) * (p / real(3)), s * p


@formula
def scaled_gauss(factor, t):
    """factor * exp(-t**2 / 2) for t from 0 to 15 (float32) or 40 (float64), with t**2 / 2 in two pieces.

    Rounding t**2 alone would cost t**2 / 4 ULP. The upper half of t's bits has an exact square; the rest of
    the square, (t - upper) (t + upper), is small.
    """
    real = type(t)
    if single(t):
        mask = np.int32(np.float32(t).view(np.int32) & np.int32(-4096))
        upper = real(np.int32(mask).view(np.float32))
    else:
        wide = np.int64(np.float64(t).view(np.int64) & np.int64(-134217728))
        upper = real(np.int64(wide).view(np.float64))
    high, low = real(-0.5) * upper * upper, real(-0.5) * (t - upper) * (t + upper)
    total, _, r = exp_reduction(high + low, high, rounder(t, lift(t)))
    return fused(factor, exp_remainder(r + low), factor) * power_of_two(total) * unlifted(t)
