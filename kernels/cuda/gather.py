"""Collect the rows of a batch from data on the GPU."""

import functools

import numpy as np

from .launch import kernel, on_device
from .reduce import launch_rows, position

__all__ = ["gather_rows"]


@functools.cache
def gather_kernel(lanes, real):
    @kernel
    def gather(x, target, source, target_source, order, first):
        _, lane, row = position(lanes)
        if row < x.shape[0]:
            number = first[0] + row
            if order.shape[0] > 0:
                number = order[number]
            for column in range(lane, x.shape[1], lanes):
                x[row, column] = source[number, column]
            for column in range(lane, target.shape[1], lanes):
                target[row, column] = target_source[number, column]

    return gather


def gather_rows(x, target, source, target_source, order, first, stream):
    """Row r of x and target is row order[first + r] of source and target_source.

    x : (rows, width); target : (rows, outputs), possibly with no column; source, target_source : as many columns and
    the rows of all data, any strides; order : (rows of all epochs,) int64, or (0,): as they stand; first : a number, or
    int64 on the device.
    """
    real = np.dtype(x.dtype).type
    first = on_device(first, np.int64, stream)
    launch_rows(gather_kernel, *x.shape, real, stream, x, target, source, target_source, order, first)
