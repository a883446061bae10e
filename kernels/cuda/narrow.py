"""Narrow networks on the GPU: rows, then weights, with the activations of a block of rows in shared memory.

A training step has the two phases of the CPU's engine. In the first, a thread block takes a few rows of the batch
through all operations, the loss and back; rows do not depend on each other. In the second, each thread forms the
gradient of some parameters over the whole batch and updates them. Between the two, all blocks have to be done: that is
the end of a launch. A tiny network stays in one block for all steps of a slice, where a barrier is enough.

The counters that say which batch is under way lie on the device. A kernel reads its own and writes the other's, so no
block can see one change while it runs, and a launch needs nothing from the host that changes by step.

Every number is formed by one thread in a fixed order: the same bits in every run.
"""

import functools
import math

import numpy as np
from numba import cuda

from ..formulas.elementary import not_finite
from ..formulas.penalties import penalty_term
from ..formulas.updates import bias_corrections
from ..jit import formula
from ..layout import DX, DY, INPUTS, LAYER, OPTION, OUTPUTS, B, W, X, Y
from ..random import random_bits
from .element_updates import CORRECTED_RATE, CORRECTION, RATE
from .launch import device
from .paths import STRIP
from .reduce import group_sum
from .row_functions import metric_of_row, softmax_backward_row, softmax_forward_row
from .tables import (
    ACTIVATION,
    BACKWARD_FIRST,
    BATCH_SIZE,
    BATCHES,
    CAPACITY,
    CHUNKS,
    CODE,
    COLUMNS,
    DECAY,
    DENSE,
    DROPOUT,
    ELEMENTS,
    INPUT_COLUMNS,
    INPUT_PLACE,
    KEEPS,
    KIND,
    LENGTH,
    LOG_SOFTMAX,
    METRICS,
    OFFSET,
    OPERATION,
    OPERATIONS,
    ORDERED,
    PENALTY,
    PENALTY_CHUNK,
    PENALTY_CODE,
    ROLE,
    ROWS,
    SEED,
    START,
    TOP_K,
    TRAINED,
    WEIGHED,
)

__all__ = [
    "backward_of",
    "batch_rows",
    "block_sum",
    "forward_of",
    "keep_operands",
    "load_inputs",
    "measure_of",
    "penalty_of",
    "report",
    "settings_of",
    "weights_of",
]


@functools.cache
def switch(functions):
    """The formula (number, x) -> functions[number](x)."""
    if not functions:
        return identity
    first, rest = functions[0], switch(functions[1:])

    @formula
    def choose(number, x):
        return first(x) if number == 0 else rest(number - 1, x)

    return choose


@formula
def identity(number, x):
    return x


@functools.cache
def switch_slope(functions):
    """The formula (number, x, y) -> functions[number](x, y)."""
    if not functions:
        return identity_slope
    first, rest = functions[0], switch_slope(functions[1:])

    @formula
    def choose(number, x, y):
        return first(x, y) if number == 0 else rest(number - 1, x, y)

    return choose


@formula
def identity_slope(number, x, y):
    return type(x)(1)


@formula
def batch_rows(program, batch):
    """(rows of a batch, its first row in the epoch), batches counted through the epochs."""
    start = batch % program[BATCHES] * program[BATCH_SIZE]
    return min(program[BATCH_SIZE], program[ROWS] - start), start


@formula
def row_number(program, order, batch, row):
    """Which row of the data is row ``row`` of the epoch of a batch."""
    if program[ORDERED] == 0:
        return row
    return order[batch // program[BATCHES] * program[ROWS] + row]


@formula
def product(y, at_y, x, at_x, weights, at_weights, bias, at_bias, rows, inputs, units, thread, threads):
    """y = x·weights + bias for a few rows, all arrays flat; at_bias : below 0 where there is none.

    A thread takes one column and ``STRIP`` rows; beyond the last row it repeats it and keeps the sum to itself.
    """
    last = rows - 1
    for item in range(thread, (rows + STRIP - 1) // STRIP * units, threads):
        strip = item // units
        column = item - strip * units
        row = STRIP * strip
        at_0 = at_x + row * inputs
        at_1 = at_x + min(row + 1, last) * inputs
        at_2 = at_x + min(row + 2, last) * inputs
        at_3 = at_x + min(row + 3, last) * inputs
        sum_0 = bias[at_bias + column] if at_bias >= 0 else type(x[at_x])(0)
        sum_1 = sum_2 = sum_3 = sum_0
        at = at_weights + column
        for k in range(inputs):
            weight = weights[at]
            sum_0 += x[at_0 + k] * weight
            sum_1 += x[at_1 + k] * weight
            sum_2 += x[at_2 + k] * weight
            sum_3 += x[at_3 + k] * weight
            at += units
        at = at_y + row * units + column
        y[at] = sum_0
        if row + 1 < rows:
            y[at + units] = sum_1
        if row + 2 < rows:
            y[at + 2 * units] = sum_2
        if row + 3 < rows:
            y[at + 3 * units] = sum_3


@functools.cache
def forward_of(values):
    """Take rows forward through the operations; ``values`` are the formulas of the activations."""
    value = switch(values)

    @device
    def forward(operations, program, options, step, parameters, a, d, room, first, rows, training, thread, threads):
        """a, d : activations and derivatives of the block, with room for ``room`` rows; first : its first row."""
        for index in range(program[OPERATIONS]):
            kind, inputs, units = operations[index, KIND], operations[index, INPUTS], operations[index, OUTPUTS]
            at_x, at_y = operations[index, X] * room, operations[index, Y] * room
            if kind == DENSE:
                weights, bias = operations[index, W], operations[index, B]
                product(a, at_y, a, at_x, parameters, weights, parameters, bias, rows, inputs, units, thread, threads)
            elif kind == ACTIVATION:
                for i in range(thread, rows * units, threads):
                    a[at_y + i] = value(operations[index, CODE], a[at_x + i])
            elif kind == DROPOUT:
                option, at_mask = operations[index, OPTION], operations[index, DX] * room
                threshold = np.int64(options[option])
                for i in range(thread, rows * units, threads):
                    row = i // units
                    word = random_bits(program[SEED], step, operations[index, LAYER], first + row, i - row * units)
                    x = a[at_x + i]
                    factor = type(x)(options[option + 1] if np.int64(word) >= threshold else 0.0)
                    a[at_y + i] = x * factor if factor != type(x)(0) else factor
                    if training and operations[index, DX] >= 0:  # the mask waits where dx will be
                        d[at_mask + i] = factor
            else:
                for row in range(thread, rows, threads):
                    softmax_forward_row(a, at_y + row * units, a, at_x + row * units, units, kind == LOG_SOFTMAX)
            cuda.syncthreads()

    return forward


@functools.cache
def backward_of(slopes):
    """Take rows backward through the operations; ``slopes`` are the formulas of the activations' slopes."""
    slope = switch_slope(slopes)

    @device
    def backward(operations, program, transposed, a, d, room, rows, thread, threads):
        for back in range(program[OPERATIONS] - program[BACKWARD_FIRST]):
            index = program[OPERATIONS] - 1 - back
            kind, inputs, units = operations[index, KIND], operations[index, INPUTS], operations[index, OUTPUTS]
            if operations[index, DX] >= 0:
                at_x, at_y = operations[index, X] * room, operations[index, Y] * room
                at_dx, at_dy = operations[index, DX] * room, operations[index, DY] * room
                if kind == DENSE:
                    weights = operations[index, W]
                    product(d, at_dx, d, at_dy, transposed, weights, d, -1, rows, units, inputs, thread, threads)
                elif kind == ACTIVATION:
                    for i in range(thread, rows * units, threads):
                        found = slope(operations[index, CODE], a[at_x + i], a[at_y + i])
                        d[at_dx + i] = d[at_dy + i] * found
                elif kind == DROPOUT:
                    for i in range(thread, rows * units, threads):
                        factor = d[at_dx + i]
                        d[at_dx + i] = d[at_dy + i] * factor if factor != type(factor)(0) else factor
                else:
                    for row in range(thread, rows, threads):
                        at = row * units
                        softmax_backward_row(d, at_dx + at, d, at_dy + at, a, at_y + at, units, kind == LOG_SOFTMAX)
                cuda.syncthreads()

    return backward


@device
def load_inputs(program, x, order, batch, start, a, room, rows, thread, threads):
    """Copy rows of the data to the place of the inputs: ``start`` counts within the epoch."""
    at, inputs = program[INPUT_PLACE] * room, program[INPUT_COLUMNS]
    for i in range(thread, rows * inputs, threads):
        row = i // inputs
        a[at + i] = x[row_number(program, order, batch, start + row), i - row * inputs]
    cuda.syncthreads()


@functools.cache
def measure_of(loss):
    """The loss of rows and its derivative, their weights, the outputs that are kept, and the metrics."""

    @device
    def measure(
        operations, program, options, targets, weights, order, batch, start, scale, losses, metrics, kept,
        a, d, room, first, rows, thread, threads,
    ):  # fmt: skip
        """start : the first row of the batch in its epoch; scale : 1 / rows of the batch; returns whether this
        thread's losses are finite."""
        finite, index = True, program[OPERATIONS]
        width, option = operations[index, INPUTS], options[operations[index, OPTION]]
        for row in range(thread, rows, threads):
            number = row_number(program, order, batch, start + first + row)
            at_y, at_z = operations[index, Y] * room + row * width, operations[index, X] * room + row * width
            at_dy = operations[index, DY] * room + row * width
            found = loss(a, at_y, d, at_dy, a, at_z, targets, number, width, option, scale)
            if program[WEIGHED] != 0:
                weight = type(found)(weights[number])
                found *= weight
                for i in range(at_dy, at_dy + width):
                    d[i] *= weight
            losses[first + row] = found
            finite &= not not_finite(found)
            if program[KEEPS] != 0:
                for column in range(width):
                    kept[start + first + row, column] = a[at_y + column]
            for metric in range(program[METRICS]):
                line = index + 1 + metric
                k = int(options[operations[line, OPTION] + 1]) if operations[line, CODE] == TOP_K else 0
                measured = metric_of_row(operations[line, CODE], a, at_y, targets, number, width, k)
                metrics[metric * program[CAPACITY] + first + row] = measured
        cuda.syncthreads()
        return finite

    return measure


@formula
def keep_operands(operations, program, a, d, room, activations, derivatives, first, rows, thread, threads):
    """Copy what the gradients of the weights need from shared memory to where all blocks can read it."""
    for index in range(program[OPERATIONS]):
        if operations[index, TRAINED] != 0:
            inputs, units = operations[index, INPUTS], operations[index, OUTPUTS]
            at, to = operations[index, X] * room, operations[index, X] * program[CAPACITY] + first * inputs
            for i in range(thread, rows * inputs, threads):
                activations[to + i] = a[at + i]
            at, to = operations[index, DY] * room, operations[index, DY] * program[CAPACITY] + first * units
            for i in range(thread, rows * units, threads):
                derivatives[to + i] = d[at + i]


@formula
def settings_of(settings, rate, step, options, corrected):
    """What an update reads that changes by step; ``corrected``: Adam corrects its rate by the step, from 1 on."""
    settings[RATE] = rate
    if corrected:
        first, second = bias_corrections(options[1], options[2], step)
        settings[CORRECTED_RATE], settings[CORRECTION] = rate / first, math.sqrt(1.0 / second)


@functools.cache
def weights_of(update, penalty_slopes, transposes=True):
    """The gradients and updates of a worker's share of the parameters; with their transposed copy where it is used."""
    penalty_slope = switch(penalty_slopes)

    @formula
    def weights(
        operations, parameter_table, program, options, settings, step, forms, updates, parameters, transposed,
        first_slot, second_slot, gradients, activations, derivatives, capacity, rows, worker, workers,
    ):  # fmt: skip
        """capacity : rows that the arenas have room for; returns whether all new numbers are finite."""
        finite, line = True, 0
        for element in range(worker, program[ELEMENTS], workers):
            while element >= parameter_table[line + 1, START]:
                line += 1
            offset, columns = parameter_table[line, OFFSET], parameter_table[line, COLUMNS]
            place = element - parameter_table[line, START]
            at = offset + place
            index = parameter_table[line, OPERATION]
            inputs, units = operations[index, INPUTS], operations[index, OUTPUTS]
            k = place // columns
            column = place - k * columns
            if forms:
                g = parameters[at] * type(parameters[at])(0)  # stays NaN where the parameter is
                if parameter_table[line, ROLE] == 0:
                    at_x = operations[index, X] * capacity + k
                    at_dy = operations[index, DY] * capacity + column
                    for _ in range(rows):
                        g += activations[at_x] * derivatives[at_dy]
                        at_x += inputs
                        at_dy += units
                else:
                    at_dy = operations[index, DY] * capacity + place
                    for _ in range(rows):
                        g += derivatives[at_dy]
                        at_dy += units
                if parameter_table[line, PENALTY_CODE] >= 0:
                    g += type(g)(penalty_slope(parameter_table[line, PENALTY_CODE], parameters[at]))
            else:
                g = gradients[at]
            if updates:
                l1, l2 = 0.0, 0.0
                if parameter_table[line, PENALTY] >= 0:
                    l1, l2 = options[parameter_table[line, PENALTY]], options[parameter_table[line, PENALTY] + 1]
                decay = parameter_table[line, DECAY]
                finite &= update(
                    parameters, first_slot, second_slot, gradients, at, g, step, settings, options, l1, l2, decay
                )
                if transposes and parameter_table[line, ROLE] == 0:
                    transposed[offset + column * inputs + k] = parameters[at]
            else:
                gradients[at] = g
        return finite

    return weights


@functools.cache
def penalty_of(values):
    """The penalty of a chunk of a parameter; ``values`` are the formulas of the user's own penalties."""
    value = switch(values)

    @formula
    def penalty(parameter_table, options, parameters, line, first, last):
        total, place = 0.0, parameter_table[line, PENALTY]
        for at in range(parameter_table[line, OFFSET] + first, parameter_table[line, OFFSET] + last):
            if parameter_table[line, PENALTY_CODE] >= 0:
                total += value(parameter_table[line, PENALTY_CODE], parameters[at])
            else:
                total += penalty_term(parameters[at], options[place], options[place + 1])
        return total

    @formula
    def penalties(parameter_table, program, options, parameters, found, worker, workers):
        """found : the sum over each chunk, parameter after parameter."""
        for chunk in range(worker, program[CHUNKS], workers):
            line, rest = 0, chunk
            while rest >= parameter_table[line, LENGTH]:  # chunks of the parameter
                rest -= parameter_table[line, LENGTH]
                line += 1
            size = parameter_table[line + 1, START] - parameter_table[line, START]
            first = rest * PENALTY_CHUNK
            last = min(first + PENALTY_CHUNK, size)
            found[chunk] = penalty(parameter_table, options, parameters, line, first, last)

    return penalties


@device
def block_sum(values, first, count, partial, thread, threads):
    """The sum of ``count`` numbers by a block whose number of threads is a power of two, always in the same order.

    partial : float64 shared memory, a number for each thread.
    """
    total = 0.0
    for i in range(first + thread, first + count, threads):
        total += values[i]
    return group_sum(partial, thread, thread, threads, total)


@formula
def report(program, losses, metrics, penalties, results, number, rows, partial, thread, threads):
    """A step's mean loss, penalties included, and its mean metrics, to row ``number`` of the results."""
    penalty = block_sum(penalties, 0, program[CHUNKS], partial, thread, threads) if program[CHUNKS] > 0 else 0.0
    loss = block_sum(losses, 0, rows, partial, thread, threads)
    if thread == 0:
        results[number, 0] = loss / rows + penalty
    for metric in range(program[METRICS]):
        total = block_sum(metrics, metric * program[CAPACITY], rows, partial, thread, threads)
        if thread == 0:
            results[number, 1 + metric] = total / rows
