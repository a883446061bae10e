"""The kernels of a training step and of a prediction, made of the phases in ``narrow.py``.

A factory makes a kernel for the functions that a plan uses (formulas of its activations, its loss, its update), and
nothing else is compiled: widths and places are numbers in tables, so a new architecture costs no compilation.
"""

import functools
import math

import numpy as np
from numba import cuda, float32, float64, int32

from ..formulas.elementary import not_finite
from ..formulas.penalties import squared_slope
from ..layout import INPUTS, OUTPUTS, W
from .element_updates import SCALE, SETTINGS
from .launch import SIMULATED, kernel
from .narrow import (
    backward_of,
    batch_rows,
    block_sum,
    forward_of,
    keep_operands,
    load_inputs,
    measure_of,
    penalty_of,
    report,
    settings_of,
    weights_of,
)
from .reduce import group_sum
from .tables import (
    BLOCK_ROWS,
    CAPACITY,
    COLUMNS,
    COLUMNS_OF_ALL,
    CONSTRAINT,
    CONVERGED_THERE,
    DENSE,
    ELEMENTS,
    FIRST_BATCH,
    FIRST_STEP,
    GOOD,
    KIND,
    LIMIT,
    METRICS,
    OFFSET,
    OPERATIONS,
    OUTPUT_PLACE,
    PENALTY,
    ROLE,
    ROWS,
    ROWS_BATCH,
    START,
    TOLERANCE,
    WEIGHTS_BATCH,
)

__all__ = [
    "ROW_THREADS",
    "constraint_kernel",
    "forward_kernel",
    "norm_kernel",
    "report_kernel",
    "rows_kernel",
    "scale_kernel",
    "sums_kernel",
    "tiny_kernel",
    "transpose_kernel",
    "weights_kernel",
]


#: Threads of a block in the rows phase, whose matrix products are small.
ROW_THREADS = 4 if SIMULATED else 128


@functools.cache
def rows_kernel(real, values, slopes, loss, penalties):
    """The rows of a step: a block of the grid takes ``BLOCK_ROWS`` of them."""
    number_type = float64 if real == np.float64 else float32
    forward, backward, measure = forward_of(values), backward_of(slopes), measure_of(loss)
    add_penalties = penalty_of(penalties)

    @kernel(threads=ROW_THREADS)
    def run(
        operations, parameter_table, program, counters, options, x, targets, weights, order, parameters, transposed,
        activations, derivatives, losses, metrics, penalty_terms, kept,
    ):  # fmt: skip
        shared = cuda.shared.array(0, number_type)
        thread, threads, room = cuda.threadIdx.x, cuda.blockDim.x, program[BLOCK_ROWS]
        batch = counters[ROWS_BATCH]
        rows_of_batch, start = batch_rows(program, batch)
        number = batch - counters[FIRST_BATCH]
        first = cuda.blockIdx.x * room
        rows = min(room, rows_of_batch - first)
        a, d = shared[: program[COLUMNS_OF_ALL] * room], shared[program[COLUMNS_OF_ALL] * room :]
        if rows > 0:
            load_inputs(program, x, order, batch, start + first, a, room, rows, thread, threads)
            step = counters[FIRST_STEP] + number
            forward(operations, program, options, step, parameters, a, d, room, first, rows, True, thread, threads)
            finite = measure(
                operations, program, options, targets, weights, order, batch, start, 1.0 / rows_of_batch, losses,
                metrics, kept, a, d, room, first, rows, thread, threads,
            )  # fmt: skip
            if not finite:
                cuda.atomic.min(counters, GOOD, number)
            backward(operations, program, transposed, a, d, room, rows, thread, threads)
            keep_operands(operations, program, a, d, room, activations, derivatives, first, rows, thread, threads)
        add_penalties(parameter_table, program, options, parameters, penalty_terms, cuda.grid(1), cuda.gridsize(1))
        if cuda.grid(1) == 0:
            counters[WEIGHTS_BATCH] = batch

    return run


@functools.cache
def weights_kernel(real, update, penalty_slopes, corrected, forms, updates, threads, transposes=True):
    """The weights of a step: their gradients, if it ``forms`` them, and their updates, if it ``updates`` them.

    Where it forms them, the last block of the grid has the step's sums instead. corrected : see ``settings_of``.
    """
    work = weights_of(update, penalty_slopes, transposes)

    @kernel
    def run(
        operations, parameter_table, program, counters, options, rates, scale, parameters, transposed, first_slot,
        second_slot, gradients, activations, derivatives, losses, metrics, penalty_terms, results,
    ):  # fmt: skip
        settings = cuda.shared.array(SETTINGS, float64)
        partial = cuda.shared.array(threads, float64)
        thread = cuda.threadIdx.x
        batch = counters[WEIGHTS_BATCH]
        number = batch - counters[FIRST_BATCH]
        rows, _ = batch_rows(program, batch)
        workers = cuda.gridDim.x - 1 if forms else cuda.gridDim.x
        if cuda.blockIdx.x == workers:
            report(program, losses, metrics, penalty_terms, results, number, rows, partial, thread, threads)
        else:
            step = counters[FIRST_STEP] + number + 1
            if thread == 0 and updates:
                settings_of(settings, rates[number], step, options, corrected)
                settings[SCALE] = scale[0]
            cuda.syncthreads()
            if counters[GOOD] > number:
                finite = work(
                    operations, parameter_table, program, options, settings, step, forms, updates, parameters,
                    transposed, first_slot, second_slot, gradients, activations, derivatives, program[CAPACITY], rows,
                    cuda.grid(1), workers * threads,
                )  # fmt: skip
                if not finite:
                    cuda.atomic.min(counters, GOOD, number)
        if updates and cuda.grid(1) == 0:
            counters[ROWS_BATCH] = batch + 1

    return run


@functools.cache
def tiny_kernel(real, values, slopes, loss, penalties, update, penalty_slopes, corrected, threads):
    """All steps of a slice in one block, for a network whose batch fits into its shared memory."""
    number_type = float64 if real == np.float64 else float32
    forward, backward, measure = forward_of(values), backward_of(slopes), measure_of(loss)
    add_penalties, work = penalty_of(penalties), weights_of(update, penalty_slopes)

    @kernel(threads=threads)
    def run(
        operations, parameter_table, program, counters, options, rates, x, targets, weights, order, parameters,
        transposed, first_slot, second_slot, gradients, losses, metrics, penalty_terms, kept, results, steps,
    ):  # fmt: skip
        shared = cuda.shared.array(0, number_type)
        settings = cuda.shared.array(SETTINGS, float64)
        partial = cuda.shared.array(threads, float64)
        bad = cuda.shared.array(1, int32)
        thread, room = cuda.threadIdx.x, program[BLOCK_ROWS]
        a, d = shared[: program[COLUMNS_OF_ALL] * room], shared[program[COLUMNS_OF_ALL] * room :]
        if thread == 0:
            bad[0] = 0
            settings[SCALE] = 1.0
        done = 0
        for number in range(steps):
            batch = counters[FIRST_BATCH] + number
            step = counters[FIRST_STEP] + number
            rows, start = batch_rows(program, batch)
            if thread == 0:
                settings_of(settings, rates[number], step + 1, options, corrected)
            load_inputs(program, x, order, batch, start, a, room, rows, thread, threads)
            forward(operations, program, options, step, parameters, a, d, room, 0, rows, True, thread, threads)
            finite = measure(
                operations, program, options, targets, weights, order, batch, start, 1.0 / rows, losses, metrics, kept,
                a, d, room, 0, rows, thread, threads,
            )  # fmt: skip
            if not finite:
                bad[0] = 1
            add_penalties(parameter_table, program, options, parameters, penalty_terms, thread, threads)
            backward(operations, program, transposed, a, d, room, rows, thread, threads)
            cuda.syncthreads()  # the penalties: a single layer has no way back that waits
            report(program, losses, metrics, penalty_terms, results, number, rows, partial, thread, threads)
            if bad[0] != 0:
                break
            finite = work(
                operations, parameter_table, program, options, settings, step + 1, True, True, parameters, transposed,
                first_slot, second_slot, gradients, a, d, room, rows, thread, threads,
            )  # fmt: skip
            cuda.syncthreads()
            if not finite:
                bad[0] = 1
            cuda.syncthreads()
            if bad[0] != 0:
                break
            done += 1
        if thread == 0:
            counters[GOOD] = done

    return run


@functools.cache
def norm_kernel(threads):
    """Partial sums of the squared norm of the gradient, with the slopes of the penalties: a block forms one."""

    @kernel
    def run(parameter_table, program, options, parameters, gradients, norms):
        partial = cuda.shared.array(threads, float64)
        thread, line, total = cuda.threadIdx.x, 0, 0.0
        for element in range(cuda.grid(1), program[ELEMENTS], cuda.gridsize(1)):
            while element >= parameter_table[line + 1, START]:
                line += 1
            at = parameter_table[line, OFFSET] + element - parameter_table[line, START]
            l1, l2 = 0.0, 0.0
            if parameter_table[line, PENALTY] >= 0:
                l1, l2 = options[parameter_table[line, PENALTY]], options[parameter_table[line, PENALTY] + 1]
            total += squared_slope(parameters[at], gradients[at], l1, 2.0 * l2)
        total = group_sum(partial, thread, thread, threads, total)
        if thread == 0:
            norms[cuda.blockIdx.x] = total

    return run


@kernel
def scale_kernel(counters, norms, limits, scale):
    """The scale that brings the gradient to the norm it is clipped to; ends the training at a small norm."""
    number, total = counters[WEIGHTS_BATCH] - counters[FIRST_BATCH], 0.0
    for i in range(norms.shape[0]):
        total += norms[i]
    norm = math.sqrt(total)
    scale[0] = limits[LIMIT] / norm if norm > limits[LIMIT] else 1.0
    if counters[GOOD] > number:
        if norm <= limits[TOLERANCE]:
            counters[GOOD], counters[CONVERGED_THERE] = number, 1
        elif not_finite(norm):
            counters[GOOD] = number


@functools.cache
def report_kernel(threads, penalties):
    """The penalties and a step's sums, for whoever has no kernel that takes them along; one block."""
    add_penalties = penalty_of(penalties)

    @kernel
    def run(parameter_table, program, counters, options, parameters, penalty_terms, losses, metrics, results):
        partial = cuda.shared.array(threads, float64)
        thread, batch = cuda.threadIdx.x, counters[WEIGHTS_BATCH]
        rows, _ = batch_rows(program, batch)
        add_penalties(parameter_table, program, options, parameters, penalty_terms, thread, threads)
        cuda.syncthreads()
        number = batch - counters[FIRST_BATCH]
        report(program, losses, metrics, penalty_terms, results, number, rows, partial, thread, threads)

    return run


@functools.cache
def constraint_kernel(transposes):
    """Scale the columns whose norm is above a parameter's limit; a thread takes a column of any parameter."""

    @kernel
    def run(parameter_table, counters, options, parameters, transposed, lines):
        number, bad = counters[WEIGHTS_BATCH] - counters[FIRST_BATCH], False
        if counters[GOOD] > number:
            for line in range(lines):
                if parameter_table[line, CONSTRAINT] >= 0:
                    limit = options[parameter_table[line, CONSTRAINT]]
                    columns, offset = parameter_table[line, COLUMNS], parameter_table[line, OFFSET]
                    rows = (parameter_table[line + 1, START] - parameter_table[line, START]) // columns
                    for column in range(cuda.grid(1), columns, cuda.gridsize(1)):
                        total = 0.0
                        for row in range(rows):
                            weight = np.float64(parameters[offset + row * columns + column])
                            total += weight * weight
                        bad |= not_finite(total)
                        if total > limit * limit:
                            factor = type(parameters[offset])(limit / math.sqrt(total))
                            for row in range(rows):
                                at = offset + row * columns + column
                                parameters[at] *= factor
                                if transposes and parameter_table[line, ROLE] == 0:
                                    transposed[offset + column * rows + row] = parameters[at]
        if bad:
            cuda.atomic.min(counters, GOOD, number)

    return run


@kernel
def transpose_kernel(operations, program, parameters, transposed):
    """transposed = the weights of all dense operations, each transposed."""
    for index in range(program[OPERATIONS]):
        if operations[index, KIND] == DENSE:
            offset, inputs, units = operations[index, W], operations[index, INPUTS], operations[index, OUTPUTS]
            for i in range(cuda.grid(1), inputs * units, cuda.gridsize(1)):
                k = i // units
                transposed[offset + (i - k * units) * inputs + k] = parameters[offset + i]


@functools.cache
def forward_kernel(real, values, loss):
    """Rows forward, to predict them or, with a loss, to evaluate them."""
    number_type = float64 if real == np.float64 else float32
    forward = forward_of(values)
    measure = measure_of(loss) if loss is not None else None

    @kernel(threads=ROW_THREADS)
    def predict(operations, program, options, x, order, parameters, outputs):
        shared = cuda.shared.array(0, number_type)
        thread, threads, room = cuda.threadIdx.x, cuda.blockDim.x, program[BLOCK_ROWS]
        first = cuda.blockIdx.x * room
        rows = min(room, program[ROWS] - first)
        load_inputs(program, x, order, 0, first, shared, room, rows, thread, threads)
        forward(operations, program, options, 0, parameters, shared, shared, room, first, rows, False, thread, threads)
        units, at = outputs.shape[1], program[OUTPUT_PLACE] * room
        for i in range(thread, rows * units, threads):
            row = i // units
            outputs[first + row, i - row * units] = shared[at + i]

    @kernel(threads=ROW_THREADS)
    def evaluate(operations, program, options, x, order, targets, weights, parameters, losses, metrics, kept):
        shared = cuda.shared.array(0, number_type)
        thread, threads, room = cuda.threadIdx.x, cuda.blockDim.x, program[BLOCK_ROWS]
        first = cuda.blockIdx.x * room
        rows = min(room, program[ROWS] - first)
        a, d = shared[: program[COLUMNS_OF_ALL] * room], shared[program[COLUMNS_OF_ALL] * room :]
        load_inputs(program, x, order, 0, first, a, room, rows, thread, threads)
        forward(operations, program, options, 0, parameters, a, d, room, first, rows, False, thread, threads)
        measure(
            operations, program, options, targets, weights, order, 0, 0, 1.0, losses, metrics, kept, a, d, room,
            first, rows, thread, threads,
        )  # fmt: skip

    return predict if loss is None else evaluate


@functools.cache
def sums_kernel(threads):
    """The sums of the losses and the metrics over blocks of rows: results, (blocks, 1 + metrics)."""

    @kernel
    def run(program, losses, metrics, block_rows, results):
        partial = cuda.shared.array(threads, float64)
        thread, first = cuda.threadIdx.x, cuda.blockIdx.x * block_rows
        rows = min(block_rows, program[ROWS] - first)
        total = block_sum(losses, first, rows, partial, thread, threads)
        if thread == 0:
            results[cuda.blockIdx.x, 0] = total
        for metric in range(program[METRICS]):
            total = block_sum(metrics, metric * program[CAPACITY] + first, rows, partial, thread, threads)
            if thread == 0:
                results[cuda.blockIdx.x, 1 + metric] = total

    return run
