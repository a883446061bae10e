"""Sums and maxima on the GPU, in an order that depends on lengths alone.

A row belongs to a group of ``lanes`` threads of one block. A thread takes every ``lanes``-th number of the row in turn;
then the threads of the group add what they have in a tree, through shared memory.
"""

import functools

import numpy as np
from numba import cuda, float32, float64

from .launch import THREADS, ceiling, device, kernel, launch, on_device

__all__ = ["group_maximum", "group_sum", "lanes_of", "launch_rows", "mean", "number_of", "position"]


def number_of(real):
    """Numba's type of the numbers of a shared array, from NumPy's."""
    return float32 if real == np.float32 else float64


def lanes_of(width):
    """Threads of a group for rows of this width: a power of two, each with some four numbers."""
    return 1 << min(max(0, int(width - 1).bit_length() - 2), THREADS.bit_length() - 1)


def launch_rows(factory, rows, width, real, stream, *arguments):
    """Launch ``factory(lanes, real)``, a kernel that goes through the rows of matrices in groups of lanes."""
    lanes = lanes_of(width)
    launch(factory(lanes, real), ceiling(rows, THREADS // lanes), THREADS, stream, *arguments)


@device
def position(lanes):
    """(thread of the block, lane of the group, row)."""
    t = cuda.threadIdx.x & 1023
    return t, t % lanes, cuda.blockIdx.x * (THREADS // lanes) + t // lanes


def group_of(combine):
    """The device function that combines the values of a group's threads, two at a time in a tree."""

    @device
    def combined(room, t, lane, lanes, value):
        """The value of the group; all threads of the block come here. room : shared, a number for each thread."""
        if lanes == 1:
            return value
        room[t] = value
        cuda.syncthreads()
        step = lanes // 2
        while step > 0:
            if lane < step:
                room[t] = combine(room[t], room[t + step])
            cuda.syncthreads()
            step //= 2
        found = room[t - lane]
        cuda.syncthreads()  # the room is free again
        return found

    return combined


@device
def plus(a, b):
    return a + b


@device
def larger(a, b):
    """The larger of two numbers; NaNs may be passed over."""
    return b if b > a else a


#: ``group_sum(room, t, lane, lanes, value)`` and so on: see ``group_of``.
group_sum, group_maximum = group_of(plus), group_of(larger)


@device
def two_sum(a, b):
    """a + b, and what rounding it lost (Knuth, The Art of Computer Programming, volume 2, section 4.2.2)."""
    total = a + b
    of_b = total - a
    return total, (a - (total - of_b)) + (b - of_b)


@functools.cache
def mean_kernel(real):
    """The kernel of ``mean``, for one block: sums in pairs of numbers, the second of which is what the first lost."""
    number, zero = number_of(real), real(0)

    @kernel
    def mean(results, values, place):
        sums = cuda.shared.array(THREADS, number)
        losses = cuda.shared.array(THREADS, number)
        t = cuda.threadIdx.x & 1023
        total, lost = zero, zero
        for i in range(t, values.shape[0], THREADS):
            total, error = two_sum(total, values[i])
            lost += error
        sums[t], losses[t] = total, lost
        cuda.syncthreads()
        step = THREADS // 2
        while step > 0:
            if t < step:
                total, error = two_sum(sums[t], sums[t + step])
                sums[t], losses[t] = total, losses[t] + losses[t + step] + error
            cuda.syncthreads()
            step //= 2
        if t == 0:
            results[place[0]] = (sums[0] + losses[0]) / real(values.shape[0])

    return mean


def mean(results, values, place, stream):
    """results[place] = the mean of the values, to the last bit or two: a batch's loss from those of its rows.

    results : (length,) and values : (rows,), of one type; place : a number, or int64 on the device.
    """
    real = np.dtype(values.dtype).type
    launch(mean_kernel(real), 1, THREADS, stream, results, values, on_device(place, np.int64, stream))
