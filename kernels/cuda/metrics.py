"""Metrics on the GPU: a value for each row, of the type of the data; the metric of a batch is their mean."""

import functools
import math

import numpy as np
from numba import cuda, int64

from .launch import THREADS, device, kernel
from .losses import is_label, label_of
from .reduce import group_sum, launch_rows, number_of, position

__all__ = ["absolute_error", "binary_accuracy", "categorical_accuracy", "squared_error", "top_k_accuracy"]


@functools.cache
def rank_kernel(labels, lanes, real):
    """The kernel of ``categorical_accuracy`` and ``top_k_accuracy``.

    labels : the targets are numbers of classes; else the label is the largest column, the first of equals.
    """
    number, zero, one, nothing = number_of(real), real(0), real(1), real(np.nan)

    @kernel
    def accuracy(values, y, target, k, ties):
        """ties : an equal output of an earlier class counts as one above."""
        room = cuda.shared.array(THREADS, number)
        places = cuda.shared.array(THREADS, int64)
        t, lane, row = position(lanes)
        inside, classes = row < y.shape[0], y.shape[1]
        label, above, output = 0, zero, nothing
        if labels:
            if inside:
                label = label_of(target, row, real(classes))
        else:
            best, place = zero, 0
            if inside:
                place = lane if lane < classes else 0
                best = target[row, place]
                for column in range(lane, classes, lanes):
                    if target[row, column] > best:
                        best, place = target[row, column], column
            label = group_place(room, places, t, lane, lanes, best, place)
        if inside:
            if label >= 0:
                output = y[row, label]
            for column in range(lane, classes, lanes):
                other = y[row, column]
                if other > output or (ties and other == output and column < label):
                    above += one
        above = group_sum(room, t, lane, lanes, above)
        if inside and lane == 0:
            values[row] = one if above < k and not math.isnan(output) else zero

    return accuracy


@device
def group_place(room, places, t, lane, lanes, value, place):
    """The place of the largest ``value`` of the threads of a group, the first of equals; as ``group_maximum``."""
    if lanes == 1:
        return place
    room[t], places[t] = value, place
    cuda.syncthreads()
    step = lanes // 2
    while step > 0:
        if lane < step:
            other, there = room[t + step], places[t + step]
            if other > room[t] or (other == room[t] and there < places[t]):
                room[t], places[t] = other, there
        cuda.syncthreads()
        step //= 2
    best = places[t - lane]
    cuda.syncthreads()
    return best


def rank(values, y, target, k, ties, stream):
    real = np.dtype(y.dtype).type
    factory = functools.partial(rank_kernel, is_label(y, target))
    launch_rows(factory, *y.shape, real, stream, values, y, target, real(k), ties)


def categorical_accuracy(values, y, target, stream):
    """1 where the largest of the outputs is that of the label, else 0; the first of equals counts.

    values : (rows,); y : (rows, classes); target : (rows, 1), the label, or (rows, classes).
    """
    rank(values, y, target, 1, True, stream)


def top_k_accuracy(values, y, target, k, stream):
    """1 where fewer than ``k`` outputs are above that of the label, else 0.

    values : (rows,); y : (rows, classes); target : (rows, 1), the label, or (rows, classes).
    """
    rank(values, y, target, k, False, stream)


@functools.cache
def mean_kernel(term, lanes, real):
    """The kernel of a metric that is the mean of ``term(y, target)`` over a row."""
    number, zero = number_of(real), real(0)

    @kernel
    def mean(values, y, target):
        room = cuda.shared.array(THREADS, number)
        t, lane, row = position(lanes)
        inside, width = row < y.shape[0], y.shape[1]
        total = zero
        if inside:
            for column in range(lane, width, lanes):
                total += term(y[row, column], target[row, column])
        total = group_sum(room, t, lane, lanes, total)
        if inside and lane == 0:
            values[row] = total / real(width)

    return mean


@device
def agreement(y, target):
    real = type(y)
    return real(1) if (y > real(0.5)) == (target > real(0.5)) else real(0)


@device
def square(y, target):
    return (y - target) * (y - target)


@device
def distance(y, target):
    return abs(y - target)


def mean_of(term, values, y, target, stream):
    real = np.dtype(y.dtype).type
    launch_rows(functools.partial(mean_kernel, term), *y.shape, real, stream, values, y, target)


def binary_accuracy(values, y, target, stream):
    """The part of a row's outputs where y > 1/2 says the same as target > 1/2.

    values : (rows,); y, target : (rows, width).
    """
    mean_of(agreement, values, y, target, stream)


def squared_error(values, y, target, stream):
    """The mean of (y - target)**2 over a row's outputs.

    values : (rows,); y, target : (rows, width).
    """
    mean_of(square, values, y, target, stream)


def absolute_error(values, y, target, stream):
    """The mean of abs(y - target) over a row's outputs.

    values : (rows,); y, target : (rows, width).
    """
    mean_of(distance, values, y, target, stream)
