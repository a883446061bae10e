"""The engine's kernels with the types of their arguments, for ``catalog``: training steps and inference.

They read options in float64 and add up losses, metrics and norms of rows in it, so few are free of float64. Losses and
updates are device functions that several kernels share: each is listed in one or two of them.
"""

import numpy as np
from numba import float32, float64, int64

from ..formulas import losses as loss_formulas
from ..formulas.activations import ACTIVATIONS
from . import device_arrays, layered, narrow_kernels
from .element_updates import UPDATES, update_of
from .launch import THREADS
from .narrow_kernels import ROW_THREADS
from .row_functions import elementwise_row, sigmoid_cross_entropy_row, softmax_cross_entropy_row

__all__ = ["of_engine"]

#: Tables of whole numbers, lists of them, float64 numbers, and a step's loss and metrics.
TABLE, LIST, DOUBLES, RESULTS = int64[:, ::1], int64[::1], float64[::1], float64[:, ::1]

LOSSES = {
    "softmax": softmax_cross_entropy_row,
    "sigmoid": sigmoid_cross_entropy_row,
    "huber": elementwise_row(loss_formulas.huber, loss_formulas.huber_slope),
}


def of_engine(real):
    """(name, kernel, arguments, threads, whether it accumulates in float64)."""
    number = float32 if real == np.float32 else float64
    flat, matrix = number[::1], number[:, ::1]
    head = TABLE, TABLE, LIST, LIST, DOUBLES  # operations, parameters, program, counters, options
    rows = matrix, matrix, DOUBLES, LIST  # x, targets, weights, order
    used = [ACTIVATIONS[name] for name in ("relu", "tanh", "gelu")]
    values, slopes = tuple(a.value for a in used), tuple(a.slope for a in used)
    slots = flat, flat, flat, flat, flat  # parameters, transposed, both slots, gradients
    measured = flat, flat, DOUBLES  # losses, metrics, penalties
    for name, loss in LOSSES.items() if real == np.float32 else [("softmax", softmax_cross_entropy_row)]:
        arguments = TABLE, LIST, DOUBLES, matrix, DOUBLES, LIST, flat, flat, int64, int64, flat, flat, matrix
        yield f"evaluation_{name}", layered.evaluation_kernel(loss), arguments, ROW_THREADS, True
    loss = LOSSES["softmax"]
    arguments = TABLE, LIST, LIST, DOUBLES, matrix, DOUBLES, LIST, flat, flat, flat, flat, matrix
    yield "loss", layered.loss_kernel(loss), arguments, ROW_THREADS, True
    arguments = *head, *rows, flat, flat, flat, flat, *measured, matrix
    yield "rows", narrow_kernels.rows_kernel(real, values, slopes, loss, ()), arguments, ROW_THREADS, True
    arguments = TABLE, LIST, DOUBLES, matrix, LIST, matrix, DOUBLES, flat, flat, flat, matrix
    yield "evaluate", narrow_kernels.forward_kernel(real, values, loss), arguments, ROW_THREADS, True
    of_weights = *head, DOUBLES, DOUBLES, *slots, flat, flat, *measured, RESULTS
    for name in UPDATES if real == np.float32 else ("adam",):
        kernel = narrow_kernels.weights_kernel(real, update_of(name, 2), (), name == "adam", True, True, THREADS)
        yield f"weights_{name}", kernel, of_weights, THREADS, True
    adam = update_of("adam", 2)
    kernel = narrow_kernels.weights_kernel(real, adam, (), True, False, True, THREADS, False)
    yield "weights_given", kernel, of_weights, THREADS, True
    kernel = narrow_kernels.tiny_kernel(real, values, slopes, loss, (), adam, (), True, THREADS)
    yield "tiny", kernel, (*head, DOUBLES, *rows, *slots, *measured, matrix, RESULTS, int64), THREADS, True
    yield "norm_parts", narrow_kernels.norm_kernel(THREADS), (TABLE, LIST, DOUBLES, flat, flat, DOUBLES), THREADS, True
    yield "scale", narrow_kernels.scale_kernel, (LIST, DOUBLES, DOUBLES, DOUBLES), 1, True
    arguments = TABLE, LIST, DOUBLES, flat, flat, int64
    yield "constraint", narrow_kernels.constraint_kernel(True), arguments, THREADS, True
    yield "transpose", narrow_kernels.transpose_kernel, (TABLE, LIST, flat, flat), THREADS
    arguments = TABLE, LIST, LIST, DOUBLES, flat, DOUBLES, flat, flat, RESULTS
    yield "report", narrow_kernels.report_kernel(THREADS, ()), arguments, THREADS, True
    arguments = TABLE, LIST, DOUBLES, matrix, LIST, flat, matrix
    yield "predict", narrow_kernels.forward_kernel(real, values, None), arguments, ROW_THREADS, True
    yield "sums", narrow_kernels.sums_kernel(THREADS), (LIST, flat, flat, int64, RESULTS), THREADS, True
    yield "gather_step", layered.gather_kernel, (LIST, LIST, matrix, LIST, flat, LIST), THREADS
    yield "copy_rows", device_arrays.copy_kernel, (matrix, matrix), THREADS
    kernel = device_arrays.finite_kernel
    yield "find_not_finite", kernel, (matrix, LIST), THREADS
