"""What is summed over weights on the GPU: norms of the gradient and of columns, and penalties. All in float64.

Their numbers have any size and are squared, so float32 might overflow; the kernels wait for memory, not for arithmetic,
even where float64 is slow.
"""

import functools

import numpy as np
from numba import cuda, float64

from ..formulas.elementary import not_finite, root
from ..formulas.own import own_formula
from ..formulas.penalties import own_term, penalty_term, squared_slope
from ..layout import NOT_FINITE, OK, PENALTY_CHUNK
from .launch import FOUND, GATE, SIMULATED, THREADS, ceiling, kernel, launch
from .reduce import group_sum, launch_rows, position

__all__ = [
    "max_norm",
    "own_penalty",
    "own_penalty_slope",
    "penalty_chunks",
    "penalty_sum",
    "squared_norms",
]

#: Columns that a block of ``max_norm`` takes: neighbors, so that threads read memory side by side.
COLUMNS = 2 if SIMULATED else 32


@functools.cache
def norms_kernel(lanes, real):
    @kernel
    def norms_of_rows(norms, p, g, l1, double_l2):
        room = cuda.shared.array(THREADS, float64)
        t, lane, row = position(lanes)
        inside, total = row < p.shape[0], 0.0
        if inside:
            for column in range(lane, p.shape[1], lanes):
                total += squared_slope(p[row, column], g[row, column], l1, double_l2)
        total = group_sum(room, t, lane, lanes, total)
        if inside and lane == 0:
            norms[row] = total

    return norms_of_rows


def squared_norms(norms, p, g, l1, l2, stream):
    """norms = the sum over each row of slope**2, with the slope of the loss and its penalties.

    Where L1 has none, at p = 0, it is the one nearest to zero; so the norm is zero where the loss is least.
    norms : (rows,) float64; p, g : (rows, columns).
    """
    real = np.dtype(p.dtype).type
    launch_rows(norms_kernel, *p.shape, real, stream, norms, p, g, np.float64(l1), np.float64(2 * l2))


@kernel
def _max_norm(p, limit, status):
    room = cuda.shared.array(THREADS, float64)
    t = cuda.threadIdx.x & 1023
    column, lane, lanes = cuda.blockIdx.x * COLUMNS + t % COLUMNS, t // COLUMNS, THREADS // COLUMNS
    inside = column < p.shape[1] and status[GATE] == OK
    total = 0.0
    if inside:
        for row in range(lane, p.shape[0], lanes):
            total += np.float64(p[row, column]) * np.float64(p[row, column])
    room[t] = total
    cuda.syncthreads()
    step = lanes // 2
    while step > 0:
        if lane < step:
            room[t] += room[t + step * COLUMNS]
        cuda.syncthreads()
        step //= 2
    total = room[t % COLUMNS]
    if inside:
        if not_finite(total):
            status[FOUND] = NOT_FINITE
        elif total > limit * limit:
            factor = limit / root(total)
            for row in range(lane, p.shape[0], lanes):
                p[row, column] *= type(p[row, column])(factor)


def max_norm(p, limit, stream):
    """Scale each column of p whose Euclidean norm is above ``limit`` down to that norm.

    p : (rows, columns). Does nothing unless ``stream.status[GATE]`` is OK; ``stream.status[FOUND]`` becomes NOT_FINITE
    where a norm is not finite, and the column stays as it is. Source: Srebro and Shraibman, "Rank, trace-norm and
    max-norm" (2005); Srivastava et al., "Dropout" (2014), section 5.1.
    """
    launch(_max_norm, ceiling(p.shape[1], COLUMNS), THREADS, stream, p, np.float64(limit), stream.status)


@functools.cache
def chunks_kernel(term):
    """The kernel that sums a penalty's ``term(w, l1, l2)``, a block for each chunk."""

    @kernel
    def sum_chunks(penalties, p, l1, l2):
        room = cuda.shared.array(THREADS, float64)
        t, total = cuda.threadIdx.x & 1023, 0.0
        start = cuda.blockIdx.x * PENALTY_CHUNK
        for i in range(start + t, min(start + PENALTY_CHUNK, p.shape[0]), THREADS):
            total += term(p[i], l1, l2)
        total = group_sum(room, t, t, THREADS, total)
        if t == 0:
            penalties[cuda.blockIdx.x] = total

    return sum_chunks


@functools.cache
def chunks_of(term):
    def chunks(penalties, p, l1, l2, stream):
        """penalties = the sums of the penalty over each ``PENALTY_CHUNK`` numbers of p.

        penalties : (chunks,) float64; p : (length,).
        """
        numbers = np.float64(l1), np.float64(l2)
        launch(chunks_kernel(term), ceiling(p.shape[0], PENALTY_CHUNK), THREADS, stream, penalties, p, *numbers)

    return chunks


@functools.cache
def sum_of(term):
    def total(p, l1, l2, stream):
        """The sum of the penalty over p, as a number, for which the host waits; see ``penalty_chunks``.

        p : (length,).
        """
        penalties = cuda.device_array(ceiling(p.shape[0], PENALTY_CHUNK), np.float64)
        chunks_of(term)(penalties, p, l1, l2, stream)
        cuda.synchronize()
        return float(penalties.copy_to_host().sum())

    return total


#: l1 * sum(abs(p)) + l2 * sum(p**2)
penalty_sum, penalty_chunks = sum_of(penalty_term), chunks_of(penalty_term)


@functools.cache
def own_penalty(value):
    """The kernel that sums a user's own penalty, ``value(w)`` of each weight."""
    return sum_of(own_term(value))


@functools.cache
def slope_kernel(slope):
    @kernel
    def add_slope(g, p):
        i = cuda.grid(1)
        if i < p.shape[0]:
            weight = p[i]
            g[i] += type(weight)(slope(weight))

    return add_slope


@functools.cache
def own_penalty_slope(slope):
    """The kernel that adds the slope of a user's own penalty to the gradient."""
    slope = own_formula(slope)

    def add_slope(g, p, stream):
        """g += slope(p). g, p : (length,)."""
        launch(slope_kernel(slope), ceiling(p.shape[0], THREADS), THREADS, stream, g, p)

    return add_slope
