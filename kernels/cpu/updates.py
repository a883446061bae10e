"""Optimizers: one pass over flat arrays that updates the parameters and the optimizer's own arrays.

All see the same slope: the gradient g, with that of the penalty L2 = l2 * sum(p**2), times ``scale`` (below 1 where
the norm of the whole gradient is clipped), and clipped to -limit .. limit. Where it differs from the gradient, it
is written over it. L1 = l1 * sum(abs(p)) is applied after the
step as a soft threshold of rate * l1 (the proximal step of Parikh and Boyd, "Proximal Algorithms", 2014, section
6.5.2), so that weights become exactly zero.

Every update returns OK, or NOT_FINITE where a new number is infinite or not a number. All elements are
updated in either case.
"""

import functools

import numpy as np

from ..formulas.elementary import fused, single
from ..formulas.own import own_formula, own_procedure
from ..jit import formula, kernel
from ..layout import (
    COLUMNS,
    CONSTRAINT_OPTION,
    DECAY,
    FIRST_CHUNK,
    FIRST_NORM,
    FIRST_SLOT,
    GRADIENTS,
    LENGTH,
    NORMS,
    NOT_FINITE,
    OFFSET,
    OK,
    OPTIMIZER_OPTIONS,
    OPTIONS,
    PARAMETERS,
    PENALTIES,
    PENALTY,
    PENALTY_CHUNK,
    PENALTY_SLOPE,
    RATE,
    SCALE,
    SECOND_SLOT,
    STEP,
    elements,
    parameter_record,
    run_record,
    share,
)
from ..memory import item_size, matrix, vector

__all__ = [
    "adagrad_update",
    "adam_update",
    "max_norm",
    "momentum_update",
    "own_penalty",
    "own_penalty_slope",
    "own_update",
    "penalty_sum",
    "plan_adagrad_update",
    "plan_adam_update",
    "plan_max_norm",
    "plan_momentum_update",
    "plan_own_penalty",
    "plan_own_penalty_slope",
    "plan_own_update",
    "plan_penalty",
    "plan_rmsprop_update",
    "plan_sgd_update",
    "plan_squared_norms",
    "rmsprop_update",
    "sgd_update",
    "squared_norms",
]


@formula
def soft_threshold(p, threshold):
    """p moved towards zero by ``threshold``, and zero where it is nearer than that; NaN stays NaN."""
    # In the middle p * 0 and not 0, for the NaN.
    return p - threshold if p > threshold else (p + threshold if p < -threshold else p * type(p)(0))


@formula
def slope_of(g, p, double_l2, scale, limit):
    """The slope that an update sees: scale * (g + 2 * l2 * p), within -limit .. limit; NaN and infinite give NaN."""
    slope = scale * fused(double_l2, p, g)
    clipped = limit if slope > limit else (-limit if slope < -limit else slope)
    return clipped + (slope - slope)


@formula
def form_slopes(g, p, l2, scale, limit):
    """g = the slope that an update sees."""
    real = p.dtype.type
    if l2 != 0.0 or scale != 1.0 or limit < np.inf:
        double_l2, scale, limit = real(2 * l2), real(scale), real(limit)
        for i in range(p.shape[0]):
            g[i] = slope_of(g[i], p[i], double_l2, scale, limit)


@formula
def shrink(p, threshold):
    """Each number of p moved towards zero by ``threshold``."""
    if threshold > 0.0:
        threshold = p.dtype.type(threshold)
        for i in range(p.shape[0]):
            p[i] = soft_threshold(p[i], threshold)


@formula
def settled(x):
    """x, or zero where it is below 1e-30 (float32) or 1e-300 (float64); NaN stays NaN.

    A mean of gradients that have become zero would else end as a subnormal number, which processors are slow with, and
    stay one: 0.9 times the smallest of them rounds to itself.
    """
    real = type(x)
    least = real(1e-300) if real(1e-300) > real(0) else real(1e-30)
    return real(0) if abs(x) < least else x


@formula
def blemish(x):
    """0 where x is finite, an int32 that is not 0 where it is infinite or not a number.

    A loop combines it with ``|``, which takes fewer instructions than to combine comparisons; Numba makes that an
    int64, which has to be cut back.
    """
    nothing = x - x
    if single(x):
        return np.float32(nothing).view(np.int32)
    return np.int32(np.float64(nothing).view(np.int64) >> np.int64(32))


@formula
def not_finite(x):
    """Whether x is infinite or not a number."""
    return x - x != type(x)(0)


@kernel
def sgd_update(p, g, rate, scale, limit, l1, l2, rank, size):
    """Gradient descent: p -= rate * slope, then the soft threshold.

    p, g : (length,).
    """
    real = p.dtype.type
    step = real(rate)
    first, last = share(p.shape[0], rank, size)
    p, g = p[first:last], g[first:last]
    form_slopes(g, p, l2, scale, limit)
    bad = np.int32(0)
    for i in range(p.shape[0]):
        new = fused(-step, g[i], p[i])
        p[i] = new
        bad = np.int32(bad | blemish(new))
    shrink(p, rate * l1)
    return NOT_FINITE if bad != 0 else OK


@kernel
def momentum_update(p, velocity, g, rate, momentum, nesterov, scale, limit, l1, l2, rank, size):
    """Gradient descent with momentum: v = momentum * v - rate * slope; p += v, then the soft threshold.

    With ``nesterov``: p += momentum * v - rate * slope with the new v.
    p, velocity, g : (length,). Source: Sutskever, Martens, Dahl and Hinton, "On the importance of
    initialization and momentum in deep learning" (2013), with Nesterov's point rewritten as the parameters.
    """
    real = p.dtype.type
    threshold, rate, momentum = rate * l1, real(rate), real(momentum)
    # p += direct * v - ahead * slope, for both kinds
    direct = momentum if nesterov else real(1)
    ahead = rate if nesterov else real(0)
    first, last = share(p.shape[0], rank, size)
    p, velocity, g = p[first:last], velocity[first:last], g[first:last]
    form_slopes(g, p, l2, scale, limit)
    bad = np.int32(0)
    for i in range(p.shape[0]):
        v = settled(fused(momentum, velocity[i], -rate * g[i]))
        new = p[i] + fused(direct, v, -ahead * g[i])
        velocity[i] = v
        p[i] = new
        bad = np.int32(bad | blemish(new))  # it is, where v is not finite
    shrink(p, threshold)
    return NOT_FINITE if bad != 0 else OK


@kernel
def adagrad_update(p, total, g, rate, epsilon, scale, limit, l1, l2, rank, size):
    """Adagrad: total += slope**2; p -= rate * slope / sqrt(total + epsilon), then the soft threshold.

    p, total, g : (length,). Source: Duchi, Hazan and Singer, "Adaptive subgradient methods for online learning and
    stochastic optimization" (2011), figure 1 with a diagonal matrix; epsilon stands where Keras has it.
    """
    real = p.dtype.type
    threshold, rate, epsilon = rate * l1, real(rate), real(epsilon)
    first, last = share(p.shape[0], rank, size)
    p, total, g = p[first:last], total[first:last], g[first:last]
    form_slopes(g, p, l2, scale, limit)
    bad = np.int32(0)
    for i in range(p.shape[0]):
        square = fused(g[i], g[i], total[i])
        new = p[i] - rate * g[i] / np.sqrt(square + epsilon)
        total[i] = square
        p[i] = new
        bad = np.int32(bad | blemish(new) | blemish(square))
    shrink(p, threshold)
    return NOT_FINITE if bad != 0 else OK


@kernel
def rmsprop_update(p, mean, velocity, g, rate, rho, momentum, epsilon, scale, limit, l1, l2, rank, size):
    """RMSprop: mean = rho * mean + (1 - rho) * slope**2; v = momentum * v + rate * slope / sqrt(mean + epsilon);
    p -= v, then the soft threshold.

    p, mean, g : (length,); velocity : (length,), or (0,) without momentum. Source: Tieleman and Hinton,
    "Lecture 6.5: rmsprop" (2012); momentum and epsilon stand where Keras has them.
    """
    real = p.dtype.type
    threshold, rate, momentum, epsilon = rate * l1, real(rate), real(momentum), real(epsilon)
    rho, rest = real(rho), real(1 - rho)
    first, last = share(p.shape[0], rank, size)
    remembers = velocity.shape[0] > 0
    p, mean, g = p[first:last], mean[first:last], g[first:last]
    velocity = velocity[first:last]
    form_slopes(g, p, l2, scale, limit)
    bad = np.int32(0)
    if remembers:  # outside of the loop, which would not vectorize
        for i in range(p.shape[0]):
            square = settled(fused(rho, mean[i], rest * (g[i] * g[i])))
            step = settled(fused(momentum, velocity[i], rate * g[i] / np.sqrt(square + epsilon)))
            new = p[i] - step
            mean[i] = square
            velocity[i] = step
            p[i] = new
            bad = np.int32(bad | blemish(new) | blemish(square))
    else:
        for i in range(p.shape[0]):
            square = settled(fused(rho, mean[i], rest * (g[i] * g[i])))
            new = p[i] - rate * g[i] / np.sqrt(square + epsilon)
            mean[i] = square
            p[i] = new
            bad = np.int32(bad | blemish(new) | blemish(square))
    shrink(p, threshold)
    return NOT_FINITE if bad != 0 else OK


@formula
def bias_corrections(beta_1, beta_2, step):
    """What the means of ``step`` steps are divided by: they begin at zero."""
    return 1 - beta_1**step, 1 - beta_2**step


@formula
def adam(p, m, v, g, rate, beta_1, beta_2, epsilon, corrections, decay, scale, limit, l1, l2):
    """``adam_update`` with its bias corrections."""
    real = p.dtype.type
    threshold, kept = rate * l1, real(1 - rate * decay)
    new_1, new_2, epsilon = real(1 - beta_1), real(1 - beta_2), real(epsilon)
    rate, correction = real(rate / corrections[0]), real(np.sqrt(1 / corrections[1]))
    beta_1, beta_2 = real(beta_1), real(beta_2)
    form_slopes(g, p, l2, scale, limit)
    bad = np.int32(0)
    for i in range(p.shape[0]):
        mean = settled(fused(beta_1, m[i], new_1 * g[i]))
        square = settled(fused(beta_2, v[i], new_2 * (g[i] * g[i])))
        new = fused(kept, p[i], -(rate * mean) / fused(correction, np.sqrt(square), epsilon))
        m[i] = mean
        v[i] = square
        p[i] = new
        bad = np.int32(bad | blemish(new) | blemish(square))  # a mean that is not finite shows in new
    shrink(p, threshold)
    return NOT_FINITE if bad != 0 else OK


@kernel
def adam_update(p, m, v, g, rate, beta_1, beta_2, epsilon, step, decay, scale, limit, l1, l2, rank, size):
    """Adam, and with ``decay`` AdamW:

    m = beta_1 * m + (1 - beta_1) * slope; v = beta_2 * v + (1 - beta_2) * slope**2;
    p -= rate * (m / (1 - beta_1**step)) / (sqrt(v / (1 - beta_2**step)) + epsilon) + rate * decay * p,
    then the soft threshold.

    p, m, v, g : (length,); step : counts from 1. Sources: Kingma and Ba, "Adam" (2015), algorithm 1;
    Loshchilov and Hutter, "Decoupled weight decay regularization" (2019), algorithm 2.
    """
    first, last = share(p.shape[0], rank, size)
    p, m, v, g = p[first:last], m[first:last], v[first:last], g[first:last]
    corrections = bias_corrections(beta_1, beta_2, step)
    return adam(p, m, v, g, rate, beta_1, beta_2, epsilon, corrections, decay, scale, limit, l1, l2)


@functools.cache
def own_update(function, slots):
    """The kernel of a user's own update of flat arrays, ``function(p, g, slots, rate, step, settings)``.

    It gets the slope of the other updates in g, and may use g as it likes.
    """
    function = own_procedure(function)

    @kernel
    def update(p, first_slot, second_slot, g, rate, step, settings, scale, limit, l1, l2, rank, size):
        """The user's update, then the soft threshold. p, g and the slots that are used : (length,)."""
        first, last = share(p.shape[0], rank, size)
        p, g = p[first:last], g[first:last]
        form_slopes(g, p, l2, scale, limit)
        if slots == 0:
            function(p, g, (), rate, step, settings)
        elif slots == 1:
            function(p, g, (first_slot[first:last],), rate, step, settings)
        else:
            function(p, g, (first_slot[first:last], second_slot[first:last]), rate, step, settings)
        bad = np.int32(0)
        for i in range(p.shape[0]):
            bad = np.int32(bad | blemish(p[i]))
        shrink(p, rate * l1)
        return NOT_FINITE if bad != 0 else OK

    return update


@kernel
def squared_norms(norms, p, g, l1, l2, rank, size):
    """norms = the sum over each row of slope**2, with the slope of the loss and its penalties.

    Where L1 has none, at p = 0, it is the one nearest to zero; so the norm is zero where the loss is least.
    norms : (rows,) float64; p, g : (rows, columns).
    """
    double_l2 = 2 * l2
    first, last = share(p.shape[0], rank, size)
    for row in range(first, last):
        a0, a1, a2, a3 = 0.0, 0.0, 0.0, 0.0
        whole = p.shape[1] // 4 * 4
        for column in range(0, whole, 4):
            a0 += squared_slope(p[row, column], g[row, column], l1, double_l2)
            a1 += squared_slope(p[row, column + 1], g[row, column + 1], l1, double_l2)
            a2 += squared_slope(p[row, column + 2], g[row, column + 2], l1, double_l2)
            a3 += squared_slope(p[row, column + 3], g[row, column + 3], l1, double_l2)
        for column in range(whole, p.shape[1]):
            a0 += squared_slope(p[row, column], g[row, column], l1, double_l2)
        norms[row] = (a0 + a2) + (a1 + a3)


@formula
def squared_slope(p, g, l1, double_l2):
    p, slope = np.float64(p), np.float64(g)
    slope += double_l2 * p
    if l1 > 0.0:
        if p != 0.0:
            slope += l1 if p > 0.0 else -l1
        else:
            slope = soft_threshold(slope, l1)
    return slope * slope


@kernel
def max_norm(p, limit, rank, size):
    """Scale each column of p whose Euclidean norm is above ``limit`` down to that norm.

    p : (rows, columns). Returns NOT_FINITE where a norm is not finite. Source: Srebro and Shraibman, "Rank, trace-norm
    and max-norm" (2005); Srivastava et al., "Dropout" (2014), section 5.1.
    """
    real = p.dtype.type
    first, last = share(p.shape[1], rank, size)
    for column in range(first, last):
        total = 0.0
        for row in range(p.shape[0]):
            total += np.float64(p[row, column]) * np.float64(p[row, column])
        if not_finite(total):
            return NOT_FINITE
        if total > limit * limit:
            factor = real(limit / np.sqrt(total))
            for row in range(p.shape[0]):
                p[row, column] *= factor
    return OK


@formula
def penalty_term(w, l1, l2):
    w = np.float64(w)
    return (l1 + l2 * abs(w)) * abs(w)


@functools.cache
def penalty_kernel(term):
    """The kernel that sums a penalty's ``term(w, l1, l2)``."""

    @kernel
    def penalty_sum(p, l1, l2):
        """The sum of term(p, l1, l2) in float64, always in the same order: eight lanes, then across them.

        p : (length,).
        """
        a0, a1, a2, a3, a4, a5, a6, a7 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        whole = p.shape[0] // 8 * 8
        for i in range(0, whole, 8):
            a0 += term(p[i], l1, l2)
            a1 += term(p[i + 1], l1, l2)
            a2 += term(p[i + 2], l1, l2)
            a3 += term(p[i + 3], l1, l2)
            a4 += term(p[i + 4], l1, l2)
            a5 += term(p[i + 5], l1, l2)
            a6 += term(p[i + 6], l1, l2)
            a7 += term(p[i + 7], l1, l2)
        for i in range(whole, p.shape[0]):
            a0 += term(p[i], l1, l2)
        return ((a0 + a4) + (a1 + a5)) + ((a2 + a6) + (a3 + a7))

    return penalty_sum


#: l1 * sum(abs(p)) + l2 * sum(p**2)
penalty_sum = penalty_kernel(penalty_term)


@functools.cache
def own_penalty(value):
    """The kernel that sums a user's own penalty, ``value(w)`` of each weight."""
    value = own_formula(value)

    @formula
    def term(w, l1, l2):
        return np.float64(value(w))

    return penalty_kernel(term)


@functools.cache
def own_penalty_slope(slope):
    """The kernel that adds the slope of a user's own penalty to the gradient."""
    slope = own_formula(slope)

    @kernel
    def add_slope(g, p, rank, size):
        """g += slope(p). g, p : (length,)."""
        real = p.dtype.type
        first, last = share(p.shape[0], rank, size)
        for i in range(first, last):
            g[i] += real(slope(p[i]))

    return add_slope


@formula
def _number(address):
    return vector(address, 1, np.float64)[0]


@formula
def _penalty(run, parameter):
    """l1 and l2 of a parameter, as far as the update applies them itself."""
    if parameter[PENALTY] < 0 or parameter[PENALTY_SLOPE] != 0:
        return 0.0, 0.0
    pair = vector(run[OPTIONS] + 8 * parameter[PENALTY], 2, np.float64)
    return pair[0], pair[1]


@formula
def _arrays(run, parameter, first, last, real):
    """Elements first .. last of a parameter, its gradient and its two slots; a slot that is not there is empty."""
    start, length = parameter[OFFSET] + first, last - first
    p = elements(run[PARAMETERS], start, length, real)
    g = elements(run[GRADIENTS], start, length, real)
    first_slot = elements(run[FIRST_SLOT], start, length if run[FIRST_SLOT] != 0 else 0, real)
    second_slot = elements(run[SECOND_SLOT], start, length if run[SECOND_SLOT] != 0 else 0, real)
    return p, g, first_slot, second_slot


@functools.cache
def plan_sgd_update(real):
    """``sgd_update`` for a plan; the first option, here and below: limit."""

    def update(run_address, parameter_address, first, last):
        run, parameter = run_record(run_address), parameter_record(parameter_address)
        p, g, _, _ = _arrays(run, parameter, first, last, real)
        limit = _number(run[OPTIONS])
        l1, l2 = _penalty(run, parameter)
        return sgd_update(p, g, _number(run[RATE]), _number(run[SCALE]), limit, l1, l2, 0, 1)

    return update


@functools.cache
def plan_momentum_update(real):
    """``momentum_update`` for a plan; the next options: momentum, nesterov (0 or 1)."""

    def update(run_address, parameter_address, first, last):
        run, parameter = run_record(run_address), parameter_record(parameter_address)
        p, g, velocity, _ = _arrays(run, parameter, first, last, real)
        options = vector(run[OPTIONS], 3, np.float64)
        limit, momentum, nesterov = options[0], options[1], options[2] != 0.0
        l1, l2 = _penalty(run, parameter)
        rate, scale = _number(run[RATE]), _number(run[SCALE])
        return momentum_update(p, velocity, g, rate, momentum, nesterov, scale, limit, l1, l2, 0, 1)

    return update


@functools.cache
def plan_adagrad_update(real):
    """``adagrad_update`` for a plan; the next option: epsilon."""

    def update(run_address, parameter_address, first, last):
        run, parameter = run_record(run_address), parameter_record(parameter_address)
        p, g, total, _ = _arrays(run, parameter, first, last, real)
        options = vector(run[OPTIONS], 2, np.float64)
        l1, l2 = _penalty(run, parameter)
        rate, scale = _number(run[RATE]), _number(run[SCALE])
        return adagrad_update(p, total, g, rate, options[1], scale, options[0], l1, l2, 0, 1)

    return update


@functools.cache
def plan_rmsprop_update(real):
    """``rmsprop_update`` for a plan; the next options: rho, momentum, epsilon."""

    def update(run_address, parameter_address, first, last):
        run, parameter = run_record(run_address), parameter_record(parameter_address)
        p, g, mean, velocity = _arrays(run, parameter, first, last, real)
        options = vector(run[OPTIONS], 4, np.float64)
        limit, rho, momentum, epsilon = options[0], options[1], options[2], options[3]
        l1, l2 = _penalty(run, parameter)
        rate, scale = _number(run[RATE]), _number(run[SCALE])
        return rmsprop_update(p, mean, velocity, g, rate, rho, momentum, epsilon, scale, limit, l1, l2, 0, 1)

    return update


@functools.cache
def plan_adam_update(real):
    """``adam_update`` for a plan; the next options: beta_1, beta_2, epsilon, decay."""

    def update(run_address, parameter_address, first, last):
        run, parameter = run_record(run_address), parameter_record(parameter_address)
        p, g, m, v = _arrays(run, parameter, first, last, real)
        options = vector(run[OPTIONS], 5, np.float64)
        limit, beta_1, beta_2, epsilon = options[0], options[1], options[2], options[3]
        decay = options[4] if parameter[DECAY] != 0 else 0.0
        l1, l2 = _penalty(run, parameter)
        numbers, step = vector(run[SCALE], 4, np.float64), run[STEP] + 1
        if numbers[1] != step:  # the first of this worker's parameters: small ones take less time than two powers
            numbers[1] = step
            numbers[2], numbers[3] = bias_corrections(beta_1, beta_2, step)
        corrections = numbers[2], numbers[3]
        return adam(
            p, m, v, g, _number(run[RATE]), beta_1, beta_2, epsilon, corrections, decay, numbers[0], limit, l1, l2
        )  # fmt: skip

    return update


@functools.cache
def plan_own_update(function, slots, real):
    """A user's own update for a plan; the next options are its settings."""
    kernel_of_it = own_update(function, slots)

    def update(run_address, parameter_address, first, last):
        run, parameter = run_record(run_address), parameter_record(parameter_address)
        p, g, first_slot, second_slot = _arrays(run, parameter, first, last, real)
        limit = _number(run[OPTIONS])
        settings = vector(run[OPTIONS] + 8, OPTIMIZER_OPTIONS - 1, np.float64)
        l1, l2 = _penalty(run, parameter)
        rate, scale, step = _number(run[RATE]), _number(run[SCALE]), run[STEP] + 1
        return kernel_of_it(p, first_slot, second_slot, g, rate, step, settings, scale, limit, l1, l2, 0, 1)

    return update


@functools.cache
def plan_squared_norms(real):
    """``squared_norms`` for a plan: function(run, parameter, first row, last row)."""

    def norms(run_address, parameter_address, first, last):
        run, parameter = run_record(run_address), parameter_record(parameter_address)
        columns = parameter[COLUMNS]
        offset = parameter[OFFSET] + first * columns
        p = matrix(run[PARAMETERS] + offset * item_size(real), last - first, columns, real)
        g = matrix(run[GRADIENTS] + offset * item_size(real), last - first, columns, real)
        found = vector(run[NORMS] + 8 * (parameter[FIRST_NORM] + first), last - first, np.float64)
        l1, l2 = _penalty(run, parameter)
        squared_norms(found, p, g, l1, l2, 0, 1)
        return OK

    return norms


@functools.cache
def plan_max_norm(real):
    """``max_norm`` for a plan; its option: limit. The rank takes part of the columns, as the engine says."""

    def constrain(run_address, parameter_address, rank, size):
        run, parameter = run_record(run_address), parameter_record(parameter_address)
        address = run[PARAMETERS] + parameter[OFFSET] * item_size(real)
        p = matrix(address, parameter[LENGTH], parameter[COLUMNS], real)
        return max_norm(p, _number(run[OPTIONS] + 8 * parameter[CONSTRAINT_OPTION]), rank, size)

    return constrain


@functools.cache
def plan_penalty(real, total=penalty_sum):
    """``penalty_sum``, or a user's own, for a plan: function(run, parameter, first chunk, last chunk)."""

    def penalty(run_address, parameter_address, first, last):
        run, parameter = run_record(run_address), parameter_record(parameter_address)
        length = parameter[LENGTH] * parameter[COLUMNS]
        l1, l2 = _penalty(run, parameter)
        penalties = vector(run[PENALTIES] + 8 * parameter[FIRST_CHUNK], last, np.float64)
        for chunk in range(first, last):
            start = chunk * PENALTY_CHUNK
            rest = min(PENALTY_CHUNK, length - start)
            p = elements(run[PARAMETERS], parameter[OFFSET] + start, rest, real)
            penalties[chunk] = total(p, l1, l2)
        return OK

    return penalty


def plan_own_penalty(value, real):
    """``own_penalty(value)`` for a plan, as in ``plan_penalty``."""
    return plan_penalty(real, own_penalty(value))


@functools.cache
def plan_own_penalty_slope(slope, real):
    """``own_penalty_slope(slope)`` for a plan: function(run, parameter, first element, last element)."""
    add_slope = own_penalty_slope(slope)

    def add(run_address, parameter_address, first, last):
        run, parameter = run_record(run_address), parameter_record(parameter_address)
        p, g, _, _ = _arrays(run, parameter, first, last, real)
        add_slope(g, p, 0, 1)
        return OK

    return add
