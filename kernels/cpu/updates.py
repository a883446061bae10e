"""Optimizers: one pass over flat arrays that updates the parameters and the optimizer's own arrays.

All see the same slope: the gradient g, with that of the penalty L2 = l2 * sum(p**2), times ``scale`` (below 1 where
the norm of the whole gradient is clipped), and clipped to -limit .. limit. Where it differs from the gradient, it
is written over it.

L1 = l1 * sum(abs(p)) is applied after the step as a soft threshold, so that weights become exactly zero (the proximal
step of Parikh and Boyd, "Proximal Algorithms", 2014, section 6.5.2). The threshold is rate * scale * l1, divided by the
root where one divides the slope (Yun, Lozano and Yang, "Adaptive proximal gradient methods for structured neural
networks", 2021), and a velocity is what the numbers really moved (Ochs, Chen, Brox and Pock, "iPiano: inertial proximal
algorithm for nonconvex optimization", 2014; with Nesterov's point Beck and Teboulle, "A fast iterative
shrinkage-thresholding algorithm", 2009). So the steps end where loss and penalty together are least.

Every update returns OK, or NOT_FINITE where a new number is infinite or not a number. All elements are
updated in either case.
"""

import functools

import numpy as np

from .. import layout as at
from ..formulas import updates as formulas
from ..formulas.own import own_procedure
from ..formulas.penalties import slope_with_l1, soft_threshold
from ..formulas.updates import bias_corrections, by_corrected_root, by_root, noted, slope_of
from ..jit import formula, kernel
from ..layout import NOT_FINITE, OK, OPTIMIZER_OPTIONS, elements, option_at, parameter_record, run_record, share
from ..memory import CACHE_LINE, fetch_to_write, vector
from .penalties import l1_and_l2

__all__ = [
    "adagrad_update",
    "adam_update",
    "momentum_update",
    "own_update",
    "plan_adagrad_update",
    "plan_adam_update",
    "plan_momentum_update",
    "plan_own_update",
    "plan_rmsprop_update",
    "plan_sgd_update",
    "rmsprop_update",
    "sgd_update",
]


#: Elements that are updated while the next weights are fetched, 1 KB of float32. All cores have read them, and one that
#: writes a cache line has to wait until the others have given it up: asked for early, it is there, and a step of mnist
#: takes 3 to 7 % less with two workers. What an optimizer remembers belongs to this core alone, and the processor
#: fetches it by itself; to ask for that too would take a third longer where it lies in the second cache. Up to
#: ``AT_ONCE`` weights are fetched by nobody: they are few, and soon there.
BLOCK, AT_ONCE = 256, 4096


@formula
def form_slopes(g, p, l2, scale, limit):
    """g = the slope that an update sees."""
    real = p.dtype.type
    if l2 != 0.0 or scale != 1.0 or limit < np.inf:
        double_l2, scale, limit = real(2 * l2), real(scale), real(limit)
        for i in range(p.shape[0]):
            g[i] = slope_of(g[i], p[i], double_l2, scale, limit)


@formula
def shrink_by_root(p, square, reach, epsilon):
    """Each number of p moved towards zero by reach / √(square + epsilon)."""
    if reach > 0:
        for i in range(p.shape[0]):
            p[i] = soft_threshold(p[i], by_root(reach, square[i], epsilon))


def in_blocks(update_block):
    """What updates a worker's share of the parameters, block by block, made from a formula for one block.

    ``update_block(p, first_slot, second_slot, g, settings)`` returns what ``noted`` found. A slot may be empty.
    """
    update_block = formula(update_block)

    @formula
    def update(p, first_slot, second_slot, g, settings, rank, size):
        first, last = share(p.shape[0], rank, size)
        p, g = p[first:last], g[first:last]
        first_slot, second_slot = first_slot[first:last], second_slot[first:last]
        length = p.shape[0]
        block = BLOCK if length > AT_ONCE else max(1, length)
        bad = np.int32(0)
        for start in range(0, length, block):
            end = min(start + block, length)
            fetch_block(p, end, end + block)
            bad |= update_block(p[start:end], first_slot[start:end], second_slot[start:end], g[start:end], settings)
        return NOT_FINITE if bad != 0 else OK

    return update


@formula
def fetch_block(array, first, last):
    """Ask for those of elements ``first`` to ``last`` that there are, to write them."""
    for place in range(first * array.itemsize, min(last, array.shape[0]) * array.itemsize, CACHE_LINE):
        fetch_to_write(array.ctypes.data + place)


@in_blocks
def update_by_sgd(p, first_slot, second_slot, g, settings):
    rate, threshold, l2, scale, limit = settings
    form_slopes(g, p, l2, scale, limit)
    bad = np.int32(0)
    for i in range(p.shape[0]):
        new = formulas.sgd(p[i], g[i], rate)
        p[i] = new
        bad = noted(bad, new)
    if threshold > 0:
        for i in range(p.shape[0]):
            p[i] = soft_threshold(p[i], threshold)
    return bad


@kernel
def sgd_update(p, g, rate, scale, limit, l1, l2, rank, size):
    """Gradient descent: p -= rate * slope, then the soft threshold.

    p, g : (length,).
    """
    real = p.dtype.type
    settings = real(rate), real(rate * scale * l1), l2, scale, limit
    return update_by_sgd(p, p[:0], p[:0], g, settings, rank, size)


@in_blocks
def update_by_momentum(p, velocity, _, g, settings):
    rate, momentum, nesterov, threshold, l2, scale, limit = settings
    real = p.dtype.type
    direct = momentum if nesterov else real(1)
    ahead = rate if nesterov else real(0)
    form_slopes(g, p, l2, scale, limit)
    bad = np.int32(0)
    if threshold > 0 and nesterov:  # outside of the loops: in them, the compiler would round now so and now so
        for i in range(p.shape[0]):
            new, v = formulas.momentum_shrunk(p[i], velocity[i], -rate * g[i], momentum, threshold, True)
            p[i], velocity[i] = new, v
            bad = noted(noted(bad, new), v)
    elif threshold > 0:
        for i in range(p.shape[0]):
            new, v = formulas.momentum_shrunk(p[i], velocity[i], -rate * g[i], momentum, threshold, False)
            p[i], velocity[i] = new, v
            bad = noted(noted(bad, new), v)
    else:
        for i in range(p.shape[0]):
            new, v = formulas.momentum(p[i], velocity[i], g[i], rate, momentum, direct, ahead)
            p[i], velocity[i] = new, v
            bad = noted(bad, new)  # it is not finite where v is not
    return bad


@kernel
def momentum_update(p, velocity, g, rate, momentum, nesterov, scale, limit, l1, l2, rank, size):
    """Gradient descent with momentum: v = momentum * v - rate * slope; p += v, then the soft threshold.

    With ``nesterov``: p += momentum * v - rate * slope with the new v.
    p, velocity, g : (length,). Source: Sutskever, Martens, Dahl and Hinton, "On the importance of
    initialization and momentum in deep learning" (2013), with Nesterov's point rewritten as the parameters.
    """
    real = p.dtype.type
    settings = real(rate), real(momentum), nesterov, real(rate * scale * l1), l2, scale, limit
    return update_by_momentum(p, velocity, p[:0], g, settings, rank, size)


@in_blocks
def update_by_adagrad(p, total, _, g, settings):
    rate, epsilon, reach, l2, scale, limit = settings
    form_slopes(g, p, l2, scale, limit)
    bad = np.int32(0)
    for i in range(p.shape[0]):
        new, new_total = formulas.adagrad(p[i], total[i], g[i], rate, epsilon)
        p[i], total[i] = new, new_total
        bad = noted(noted(bad, new), new_total)
    shrink_by_root(p, total, reach, epsilon)
    return bad


@kernel
def adagrad_update(p, total, g, rate, epsilon, scale, limit, l1, l2, rank, size):
    """Adagrad: total += slope**2; p -= rate * slope / sqrt(total + epsilon), then the soft threshold.

    p, total, g : (length,). Source: Duchi, Hazan and Singer, "Adaptive subgradient methods for online learning and
    stochastic optimization" (2011), figure 1 with a diagonal matrix; epsilon stands where Keras has it.
    """
    real = p.dtype.type
    settings = real(rate), real(epsilon), real(rate * scale * l1), l2, scale, limit
    return update_by_adagrad(p, total, p[:0], g, settings, rank, size)


@in_blocks
def update_by_rmsprop(p, mean, velocity, g, settings):
    rate, rho, rest, momentum, epsilon, reach, l2, scale, limit = settings
    remembers = velocity.shape[0] > 0
    form_slopes(g, p, l2, scale, limit)
    bad = np.int32(0)
    if remembers and reach > 0:  # outside of the loops, which would not vectorize
        for i in range(p.shape[0]):
            step, square = formulas.rmsprop_step(mean[i], g[i], rate, rho, rest, epsilon)
            threshold = by_root(reach, square, epsilon)
            new, v = formulas.momentum_shrunk(p[i], -velocity[i], -step, momentum, threshold, False)
            p[i], mean[i], velocity[i] = new, square, -v
            bad = noted(noted(noted(bad, new), square), v)
    elif remembers:
        for i in range(p.shape[0]):
            step, square = formulas.rmsprop_step(mean[i], g[i], rate, rho, rest, epsilon)
            step = formulas.rmsprop_velocity(velocity[i], step, momentum)
            new = p[i] - step
            p[i], mean[i], velocity[i] = new, square, step
            bad = noted(noted(bad, new), square)
    else:
        for i in range(p.shape[0]):
            step, square = formulas.rmsprop_step(mean[i], g[i], rate, rho, rest, epsilon)
            new = p[i] - step
            p[i], mean[i] = new, square
            bad = noted(noted(bad, new), square)
        shrink_by_root(p, mean, reach, epsilon)
    return bad


@kernel
def rmsprop_update(p, mean, velocity, g, rate, rho, momentum, epsilon, scale, limit, l1, l2, rank, size):
    """RMSprop: mean = rho * mean + (1 - rho) * slope**2; v = momentum * v + rate * slope / sqrt(mean + epsilon);
    p -= v, then the soft threshold.

    p, mean, g : (length,); velocity : (length,), or (0,) without momentum. Source: Tieleman and Hinton,
    "Lecture 6.5: rmsprop" (2012); momentum and epsilon stand where Keras has them.
    """
    real = p.dtype.type
    reach = real(rate * scale * l1)
    settings = real(rate), real(rho), real(1 - rho), real(momentum), real(epsilon), reach, l2, scale, limit
    return update_by_rmsprop(p, mean, velocity, g, settings, rank, size)


@in_blocks
def update_by_adam(p, m, v, g, settings):
    rate, correction, beta_1, rest_1, beta_2, rest_2, epsilon, kept, reach, l2, scale, limit = settings
    form_slopes(g, p, l2, scale, limit)
    bad = np.int32(0)
    for i in range(p.shape[0]):
        new, mean, square = formulas.adam(
            p[i], m[i], v[i], g[i], rate, correction, beta_1, rest_1, beta_2, rest_2, epsilon, kept
        )
        p[i], m[i], v[i] = new, mean, square
        bad = noted(noted(bad, new), square)  # a mean that is not finite shows in new
    if reach > 0:
        for i in range(p.shape[0]):
            p[i] = soft_threshold(p[i], by_corrected_root(reach, v[i], correction, epsilon))
    return bad


@formula
def corrected_adam(p, m, v, g, rate, beta_1, beta_2, epsilon, corrections, decay, scale, limit, l1, l2, rank, size):
    """``adam_update`` with its bias corrections."""
    real = p.dtype.type
    settings = (
        real(rate / corrections[0]), real(np.sqrt(1 / corrections[1])),
        real(beta_1), real(1 - beta_1), real(beta_2), real(1 - beta_2), real(epsilon),
        real(1 - rate * decay), real(rate * scale * l1), l2, scale, limit,
    )  # fmt: skip
    return update_by_adam(p, m, v, g, settings, rank, size)


@kernel
def adam_update(p, m, v, g, rate, beta_1, beta_2, epsilon, step, decay, scale, limit, l1, l2, rank, size):
    """Adam, and with ``decay`` AdamW:

    m = beta_1 * m + (1 - beta_1) * slope; v = beta_2 * v + (1 - beta_2) * slope**2;
    p -= rate * (m / (1 - beta_1**step)) / (sqrt(v / (1 - beta_2**step)) + epsilon) + rate * decay * p,
    then the soft threshold.

    p, m, v, g : (length,); step : counts from 1. Sources: Kingma and Ba, "Adam" (2015), algorithm 1;
    Loshchilov and Hutter, "Decoupled weight decay regularization" (2019), algorithm 2.
    """
    corrections = bias_corrections(beta_1, beta_2, step)
    return corrected_adam(
        p, m, v, g, rate, beta_1, beta_2, epsilon, corrections, decay, scale, limit, l1, l2, rank, size
    )


@functools.cache
def own_update(function, slots):
    """The kernel of a user's own update of flat arrays, ``function(p, g, slots, rate, step, settings)``.

    It gets the slope of the other updates in g, and with it that of L1: what threshold would fit is not known. It may
    use g as it likes.
    """
    function = own_procedure(function)

    @kernel
    def update(p, first_slot, second_slot, g, rate, step, settings, scale, limit, l1, l2, rank, size):
        """The user's update. p, g and the slots that are used : (length,)."""
        first, last = share(p.shape[0], rank, size)
        p, g = p[first:last], g[first:last]
        if l1 > 0.0:
            factor = p.dtype.type(l1)
            for i in range(p.shape[0]):
                g[i] = slope_with_l1(p[i], g[i], factor)
        form_slopes(g, p, l2, scale, limit)
        if slots == 0:
            function(p, g, (), rate, step, settings)
        elif slots == 1:
            function(p, g, (first_slot[first:last],), rate, step, settings)
        else:
            function(p, g, (first_slot[first:last], second_slot[first:last]), rate, step, settings)
        bad = np.int32(0)
        for i in range(p.shape[0]):
            bad = noted(bad, p[i])
        return NOT_FINITE if bad != 0 else OK

    return update


@formula
def _number(address):
    return vector(address, 1, np.float64)[0]


@formula
def _arrays(run, parameter, first, last, real):
    """Elements first .. last of a parameter, its gradient and its two slots; a slot that is not there is empty."""
    start, length = parameter[at.OFFSET] + first, last - first
    p = elements(run[at.PARAMETERS], start, length, real)
    g = elements(run[at.GRADIENTS], start, length, real)
    first_slot = elements(run[at.FIRST_SLOT], start, length if run[at.FIRST_SLOT] != 0 else 0, real)
    second_slot = elements(run[at.SECOND_SLOT], start, length if run[at.SECOND_SLOT] != 0 else 0, real)
    return p, g, first_slot, second_slot


def for_plan(update):
    """What makes, for a type of numbers, the function of a plan that calls ``update`` for elements of a parameter:
    ``update(run, parameter, arrays, rate, last)``, with ``_arrays`` and what all updates take last.
    """

    @functools.cache
    @functools.wraps(update)
    def plan(real):
        def update_elements(run_address, parameter_address, first, last):
            run, parameter = run_record(run_address), parameter_record(parameter_address)
            l1, l2 = l1_and_l2(run, parameter)
            rate, last_ones = _number(run[at.RATE]), (_number(run[at.SCALE]), option_at(run, 0), l1, l2, 0, 1)
            return call(run, parameter, _arrays(run, parameter, first, last, real), rate, last_ones)

        return update_elements

    call = formula(update)
    return plan


@for_plan
def plan_sgd_update(run, parameter, arrays, rate, last):
    """``sgd_update`` for a plan; the first option, here and below: limit."""
    p, g, _, _ = arrays
    return sgd_update(p, g, rate, *last)


@for_plan
def plan_momentum_update(run, parameter, arrays, rate, last):
    """``momentum_update`` for a plan; the next options: momentum, nesterov (0 or 1)."""
    p, g, velocity, _ = arrays
    return momentum_update(p, velocity, g, rate, option_at(run, 1), option_at(run, 2) != 0.0, *last)


@for_plan
def plan_adagrad_update(run, parameter, arrays, rate, last):
    """``adagrad_update`` for a plan; the next option: epsilon."""
    p, g, total, _ = arrays
    return adagrad_update(p, total, g, rate, option_at(run, 1), *last)


@for_plan
def plan_rmsprop_update(run, parameter, arrays, rate, last):
    """``rmsprop_update`` for a plan; the next options: rho, momentum, epsilon."""
    p, g, mean, velocity = arrays
    return rmsprop_update(p, mean, velocity, g, rate, option_at(run, 1), option_at(run, 2), option_at(run, 3), *last)


@for_plan
def plan_adam_update(run, parameter, arrays, rate, last):
    """``adam_update`` for a plan; the next options: beta_1, beta_2, epsilon, decay."""
    p, g, m, v = arrays
    beta_1, beta_2, epsilon = option_at(run, 1), option_at(run, 2), option_at(run, 3)
    decay = option_at(run, 4) if parameter[at.DECAY] != 0 else 0.0
    numbers, step = vector(run[at.SCALE], 4, np.float64), run[at.STEP] + 1
    if numbers[1] != step:  # the first of this worker's parameters: small ones take less time than two powers
        numbers[1] = step
        numbers[2], numbers[3] = bias_corrections(beta_1, beta_2, step)
    return corrected_adam(p, m, v, g, rate, beta_1, beta_2, epsilon, (numbers[2], numbers[3]), decay, *last)


@functools.cache
def plan_own_update(function, slots, real):
    """A user's own update for a plan; the next options are its settings."""
    kernel_of_it = own_update(function, slots)

    @for_plan
    def update(run, parameter, arrays, rate, last):
        p, g, first_slot, second_slot = arrays
        settings = vector(run[at.OPTIONS] + 8, OPTIMIZER_OPTIONS - 1, np.float64)
        return kernel_of_it(p, first_slot, second_slot, g, rate, run[at.STEP] + 1, settings, *last)

    return update(real)
