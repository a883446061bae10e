"""What happens to each row beside the network, on the GPU: its weight in the loss, its outputs kept for metrics."""

import functools

import numpy as np

from ..formulas.elementary import not_finite
from ..layout import NOT_FINITE
from .launch import FOUND, THREADS, element, elements_of, kernel, launch, lines_of
from .reduce import launch_rows, position

__all__ = ["keep_rows", "weigh_rows"]


@functools.cache
def weigh_kernel(lanes, real):
    @kernel
    def weigh(losses, dy, weights, status):
        _, lane, row = position(lanes)
        if row < dy.shape[0]:
            weight = weights[row]
            for column in range(lane, dy.shape[1], lanes):
                dy[row, column] *= weight
            if lane == 0:
                loss = losses[row] * weight
                losses[row] = loss
                if not_finite(loss):
                    status[FOUND] = NOT_FINITE

    return weigh


def weigh_rows(losses, dy, weights, stream):
    """losses *= weights; dy *= weights, row by row.

    losses, weights : (rows,), of dy's type; dy : (rows, outputs). ``stream.status[FOUND]`` becomes NOT_FINITE where a
    loss is not finite.
    """
    launch_rows(weigh_kernel, *dy.shape, np.dtype(dy.dtype).type, stream, losses, dy, weights, stream.status)


@kernel
def _keep(kept, y):
    row, column = element()
    if row < y.shape[0] and column < y.shape[1]:
        kept[row, column] = y[row, column]


def keep_rows(kept, y, stream):
    """kept = y. kept, y : (rows, outputs)."""
    kept, y = lines_of(kept, y)
    launch(_keep, elements_of(y), THREADS, stream, kept, y)
