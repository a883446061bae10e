"""What is summed over weights: penalties, norms of the gradient and of columns.

A penalty is L1 = l1 * sum(abs(p)) and L2 = l2 * sum(p**2), whose slopes the updates form (``updates.py``), or a user's
own, whose slope is added to the gradient.
"""

import functools

import numpy as np

from .. import layout as at
from ..formulas.elementary import not_finite
from ..formulas.own import own_formula
from ..formulas.penalties import own_term, penalty_term, squared_slope
from ..jit import formula, kernel
from ..layout import NOT_FINITE, OK, PENALTY_CHUNK, elements, option_at, parameter_record, run_record, share
from ..memory import item_size, line, matrix, stack_vector, vector
from .row_functions import sum_in_lanes

__all__ = [
    "max_norm",
    "own_penalty",
    "own_penalty_slope",
    "penalty_sum",
    "plan_max_norm",
    "plan_own_penalty",
    "plan_own_penalty_slope",
    "plan_penalty",
    "plan_squared_norms",
    "squared_norms",
]


#: Columns whose norms are formed together: a row of theirs lies side by side, and in one column of a wide matrix each
#: number would be in a cache line of its own. 256 sums take 2 KB of the first-level cache.
NEIGHBORS = 256


sum_of_squares = sum_in_lanes(
    formula(lambda column, p, g, row, l1, double_l2: squared_slope(p[row, column], g[row, column], l1, double_l2))
)


@kernel
def squared_norms(norms, p, g, l1, l2, rank, size):
    """norms = the sum over each row of slope**2, with the slope of the loss and its penalties.

    Where L1 has none, at p = 0, it is the one nearest to zero; so the norm is zero where the loss is least.
    norms : (rows,) float64; p, g : (rows, columns).
    """
    double_l2 = 2 * l2
    first, last = share(p.shape[0], rank, size)
    for row in range(first, last):
        norms[row] = sum_of_squares(p.shape[1], 0.0, (p, g, row, l1, double_l2))


@kernel
def max_norm(p, limit, rank, size):
    """Scale each column of p whose Euclidean norm is above ``limit`` down to that norm.

    p : (rows, columns). Returns NOT_FINITE where a norm is not finite. Source: Srebro and Shraibman, "Rank, trace-norm
    and max-norm" (2005); Srivastava et al., "Dropout" (2014), section 5.1.
    """
    real, most = p.dtype.type, limit * limit
    sums, factors = stack_vector(NEIGHBORS, np.float64), stack_vector(NEIGHBORS, real)
    first, last = share(p.shape[1], rank, size)
    for start in range(first, last, NEIGHBORS):
        columns = min(NEIGHBORS, last - start)
        part = p[:, start : start + columns]
        for column in range(columns):
            sums[column] = 0.0
        for row in range(p.shape[0]):
            numbers = line(part, row, columns)
            for column in range(columns):
                sums[column] += np.float64(numbers[column]) * np.float64(numbers[column])
        bad, longest = False, 0.0
        for column in range(columns):
            total = sums[column]
            bad |= not_finite(total)
            longest = max(longest, total)
            factors[column] = real(limit / np.sqrt(total)) if total > most else real(1)
        if bad:
            return NOT_FINITE
        if longest > most:
            for row in range(p.shape[0]):
                numbers = line(part, row, columns)
                for column in range(columns):
                    numbers[column] *= factors[column]
    return OK


@functools.cache
def penalty_kernel(term):
    """The kernel that sums a penalty's ``term(w, l1, l2)``."""
    total = sum_in_lanes(formula(lambda i, p, l1, l2: term(p[i], l1, l2)))

    @kernel
    def penalty_sum(p, l1, l2):
        """The sum of term(p, l1, l2) in float64, always in the same order: eight lanes, then across them.

        p : (length,).
        """
        return total(p.shape[0], 0.0, (p, l1, l2))

    return penalty_sum


#: l1 * sum(abs(p)) + l2 * sum(p**2)
penalty_sum = penalty_kernel(penalty_term)


def own_penalty(value):
    """The kernel that sums a user's own penalty, ``value(w)`` of each weight."""
    return penalty_kernel(own_term(value))


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
def l1_and_l2(run, parameter):
    """l1 and l2 of a parameter, as far as updates apply them themselves."""
    if parameter[at.PENALTY] < 0 or parameter[at.PENALTY_SLOPE] != 0:
        return 0.0, 0.0
    return option_at(run, parameter[at.PENALTY]), option_at(run, parameter[at.PENALTY] + 1)


@functools.cache
def plan_squared_norms(real):
    """``squared_norms`` for a plan: function(run, parameter, first row, last row)."""

    def norms(run_address, parameter_address, first, last):
        run, parameter = run_record(run_address), parameter_record(parameter_address)
        columns = parameter[at.COLUMNS]
        offset = parameter[at.OFFSET] + first * columns
        p = matrix(run[at.PARAMETERS] + offset * item_size(real), last - first, columns, real)
        g = matrix(run[at.GRADIENTS] + offset * item_size(real), last - first, columns, real)
        found = vector(run[at.NORMS] + 8 * (parameter[at.FIRST_NORM] + first), last - first, np.float64)
        l1, l2 = l1_and_l2(run, parameter)
        squared_norms(found, p, g, l1, l2, 0, 1)
        return OK

    return norms


@functools.cache
def plan_max_norm(real):
    """``max_norm`` for a plan; its option: limit. The rank takes part of the columns, as the engine says."""

    def constrain(run_address, parameter_address, rank, size):
        run, parameter = run_record(run_address), parameter_record(parameter_address)
        address = run[at.PARAMETERS] + parameter[at.OFFSET] * item_size(real)
        p = matrix(address, parameter[at.LENGTH], parameter[at.COLUMNS], real)
        return max_norm(p, option_at(run, parameter[at.CONSTRAINT_OPTION]), rank, size)

    return constrain


@functools.cache
def plan_penalty(real, total=penalty_sum):
    """``penalty_sum``, or a user's own, for a plan: function(run, parameter, first chunk, last chunk)."""

    def penalty(run_address, parameter_address, first, last):
        run, parameter = run_record(run_address), parameter_record(parameter_address)
        length = parameter[at.LENGTH] * parameter[at.COLUMNS]
        l1, l2 = l1_and_l2(run, parameter)
        penalties = vector(run[at.PENALTIES] + 8 * parameter[at.FIRST_CHUNK], last, np.float64)
        for chunk in range(first, last):
            start = chunk * PENALTY_CHUNK
            rest = min(PENALTY_CHUNK, length - start)
            p = elements(run[at.PARAMETERS], parameter[at.OFFSET] + start, rest, real)
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
        p = elements(run[at.PARAMETERS], parameter[at.OFFSET] + first, last - first, real)
        g = elements(run[at.GRADIENTS], parameter[at.OFFSET] + first, last - first, real)
        add_slope(g, p, 0, 1)
        return OK

    return add
