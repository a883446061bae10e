"""Wide networks on the GPU: operation by operation, with the tiled matrix products of ``dense``.

The arenas lie in global memory, with room for a batch. Every step launches the same kernels on all rows that a batch
can have: the last batch of an epoch may be smaller, then the rows beyond its end are inputs of zero whose derivative is
zero, and add nothing to any gradient.
"""

import functools

import numpy as np
from numba import cuda

from .. import layout
from ..cpu.activations import kept_slope
from . import activations, dense, dropout, penalties
from .launch import kernel
from .narrow import batch_rows, measure_of, row_number
from .tables import (
    BATCH_SIZE,
    CAPACITY,
    FIRST_BATCH,
    FIRST_STEP,
    GOOD,
    INPUT_COLUMNS,
    INPUT_PLACE,
    OPERATIONS,
    ROWS_BATCH,
    WEIGHTS_BATCH,
)

__all__ = ["Layers", "evaluation_kernel", "gather_kernel", "loss_kernel"]


@kernel
def gather_kernel(program, counters, x, order, a, step):
    """Copy the batch's rows to the place of the inputs, zeros beyond its end; step[0] = the model's step."""
    batch = counters[ROWS_BATCH]
    rows, start = batch_rows(program, batch)
    at, inputs = program[INPUT_PLACE] * program[CAPACITY], program[INPUT_COLUMNS]
    for i in range(cuda.grid(1), program[CAPACITY] * inputs, cuda.gridsize(1)):
        row = i // inputs
        if row < rows:
            a[at + i] = x[row_number(program, order, batch, start + row), i - row * inputs]
        else:
            a[at + i] = type(a[at + i])(0)
    if cuda.grid(1) == 0:
        step[0] = counters[FIRST_STEP] + batch - counters[FIRST_BATCH]


@functools.cache
def loss_kernel(loss):
    """The loss of a batch's rows, its derivative and the metrics: a thread takes a row."""
    measure = measure_of(loss)

    @kernel
    def run(operations, program, counters, options, targets, weights, order, a, d, losses, metrics, kept):
        batch, capacity = counters[ROWS_BATCH], program[CAPACITY]
        rows, start = batch_rows(program, batch)
        number = batch - counters[FIRST_BATCH]
        finite = measure(
            operations, program, options, targets, weights, order, batch, start, 1.0 / rows, losses, metrics, kept,
            a, d, capacity, 0, rows, cuda.grid(1), cuda.gridsize(1),
        )  # fmt: skip
        if not finite:
            cuda.atomic.min(counters, GOOD, number)
        index = program[OPERATIONS]
        width, at = operations[index, layout.INPUTS], operations[index, layout.DY] * capacity
        for row in range(rows + cuda.grid(1), program[BATCH_SIZE], cuda.gridsize(1)):
            for i in range(at + row * width, at + (row + 1) * width):
                d[i] = type(d[i])(0)
        if cuda.grid(1) == 0:
            counters[WEIGHTS_BATCH] = batch

    return run


@functools.cache
def evaluation_kernel(loss):
    """The loss and the metrics of ``rows`` rows, whose outputs lie in the arenas."""
    measure = measure_of(loss)

    @kernel
    def run(operations, program, options, targets, weights, order, a, d, room, rows, losses, metrics, kept):
        measure(
            operations, program, options, targets, weights, order, 0, 0, 1.0, losses, metrics, kept, a, d, room, 0,
            rows, cuda.grid(1), cuda.gridsize(1),
        )  # fmt: skip

    return run


class Layers:
    """Launches the operations of a plan, one after another, on arenas with room for ``capacity`` rows.

    a, d : the flat arenas of activations and derivatives; rows : how many of the room's rows are used; seed, step : of
    the dropout, the step on the device.
    """

    def __init__(self, plan, remote, a, d, capacity, rows, seed=0, step=None):
        self.plan, self.remote, self.capacity, self.rows = plan, remote, capacity, rows
        self.a, self.d, self.seed, self.step = a, d, seed, step
        self.first_row = cuda.to_device(np.zeros(1, np.int64))  # there, because a captured graph cannot bring it
        self.views = {}
        self.inputs = None  # the rows themselves, where they need not be gathered
        self.outputs = None  # where predictions go

    def x(self, place, width):
        """The activation at a place, (rows, width)."""
        if place == layout.NOWHERE:
            if self.inputs is not None:
                return self.inputs
            place = self.plan.columns
        if place == layout.PREDICTIONS:
            return self.outputs
        return self._view(self.a, place, width)

    def dx(self, place, width):
        """The derivative at a place, (rows, width)."""
        return self._view(self.d, place, width)

    def _view(self, arena, place, width):
        return self._array(arena, place * self.capacity, self.rows, width)

    def parameter(self, arena, place, *shape):
        return self.remote.none if place < 0 else self._array(arena, place, *shape)

    def _array(self, arena, start, *shape):
        """The array of this shape in an arena; made once, because that takes as long as a launch."""
        key = id(arena), start, shape
        if key not in self.views:
            self.views[key] = arena[start : start + int(np.prod(shape))].reshape(*shape)
        return self.views[key]

    def mask(self, operation):
        threshold, scale = self.plan.options[operation.option : operation.option + 2]
        return int(threshold), scale, self.seed, self.step, operation.layer, self.first_row

    def forward(self, operations, stream, training):
        """Launch all operations; a dense layer takes the activation behind it along."""
        skipped = False
        for index, operation in enumerate(operations):
            if skipped:
                skipped = False
                continue
            x, y = self.x(operation.x, operation.inputs), self.x(operation.y, operation.outputs)
            if operation.kind == "dense":
                W = self.parameter(self.remote.parameters, operation.weights, operation.inputs, operation.outputs)
                b = self.parameter(self.remote.parameters, operation.bias, operation.outputs)
                after = operations[index + 1] if index + 1 < len(operations) else None
                skipped = after is not None and after.kind == "activation" and after.x == operation.y
                if not skipped:
                    dense.dense_forward(y, x, W, b, stream)
                    continue
                value, slope = activations.formulas_of(after.functions or after.formula)
                z, y = y, self.x(after.y, after.outputs)
                if training and after.x != after.y:
                    dense.dense_forward_keeping(value, slope)(y, z, x, W, b, stream)
                else:
                    dense.dense_forward_activated(value)(y, x, W, b, stream)
            elif operation.kind == "dropout":
                dropout.dropout_forward(y, x, *self.mask(operation), stream)
            else:
                activations.kernels_of(operation.functions or operation.formula)[0](y, x, stream)

    def backward(self, operations, stream):
        """Launch the way back through operations of a training step."""
        first = self.plan.backward_first
        for index in range(len(operations) - 1, first - 1, -1):
            operation = operations[index]
            if operation.dx < 0:
                continue
            dx, dy = self.dx(operation.dx, operation.inputs), self.dx(operation.dy, operation.outputs)
            if operation.kind == "dense":
                W = self.parameter(self.remote.parameters, operation.weights, operation.inputs, operation.outputs)
                dense.dense_backward_input(dx, dy, W, stream)
            elif operation.kind == "dropout":
                dropout.dropout_backward(dx, dy, *self.mask(operation), stream)
            else:
                x, y = self.x(operation.x, operation.inputs), self.x(operation.y, operation.outputs)
                if operation.kind == "activation":
                    before = operations[index - 1] if index > 0 else None
                    kept = before is not None and before.kind == "dense" and before.y == operation.x != operation.y
                    slope = kept_slope if kept else activations.formulas_of(operation.functions or operation.formula)[1]
                    activations.activation_backward(slope)(dx, dy, x, y, stream)
                else:
                    activations.kernels_of(operation.formula)[1](dx, dy, x, y, stream)

    def gradients(self, stream):
        """Launch the gradients of all trained parameters over the batch."""
        gradients = self.remote.gradients
        for number, operation in enumerate(self.plan.operations):
            trained = {p.role: p for p in self.plan.parameters if p.operation == number}
            if "weights" in trained:
                dW = self.parameter(gradients, operation.weights, operation.inputs, operation.outputs)
                db = self.parameter(gradients, operation.bias, operation.outputs)
                x, dy = self.x(operation.x, operation.inputs), self.dx(operation.dy, operation.outputs)
                dense.dense_backward_weights(dW, db, dy, x, stream)
        for parameter in self.plan.parameters:
            if parameter.own_penalty is not None:
                g, p = (
                    self.parameter(a, parameter.offset, parameter.size) for a in (gradients, self.remote.parameters)
                )
                penalties.own_penalty_slope(parameter.own_penalty[1])(g, p, stream)
