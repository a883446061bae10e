"""The plan run kernel by kernel from Python: slow, short, and what the engine is held to, bit for bit.

Read this to see what a training step does; step through it with a debugger under ``NUMBA_DISABLE_JIT=1``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from .kernels.conventions import CONVERGED, NOT_FINITE, NOWHERE, OK, OPTIMIZER_OPTIONS, PREDICTIONS
from .kernels.cpu import activations, dense, dropout, gemm, losses, metrics, penalties, pieces, updates
from .kernels.cpu.engine import sum_in_order
from .kernels.cpu.rows import keep_rows, weigh_rows
from .kernels.layout import PENALTY_CHUNK
from .plan import Operation, Parameter, Plan


class SlowPath:
    """Runs a plan as ``kernels.cpu.runner.Runner`` does, one kernel after another, as worker 0 of 1."""

    def __init__(self, plan: Plan, arenas: Any):
        self.plan, self.arenas = plan, arenas
        #: Whether a step tells layers written in Python that it is one of training.
        self.training = True
        #: Steps done, by the last ``train``.
        self.step_number = 0
        #: Whether some parameters have been updated, and others have not.
        self.half_done = False
        #: Rows of a part of a batch, 0 : there are no parts.
        self.part_rows = 0
        #: Rows that are multiplied together in a training, of a batch or of a part; 0 : this is none.
        self.rows_together = 0
        #: (inputs, units) -> rows, and a room for the products of pieces of such a layer.
        self.rooms: dict[tuple[int, int], tuple[int, np.ndarray]] = {}

    @cached_property
    def workspace(self) -> np.ndarray:
        """Room for the matrix products."""
        return np.asarray(gemm.workspace(np.dtype(self.plan.dtype).type))

    def workspace_for(self, operation: Operation, gradient: bool = False) -> np.ndarray:
        """Room for the products of a dense layer with W, or for the one that is W's gradient: of pieces in a training,
        where the engine forms them so.
        """
        layer, rows = (operation.inputs, operation.outputs), self.rows_together
        if rows == 0 or not pieces.of_pieces(*layer, rows, self.plan.dtype, self.part_rows > 0)[gradient]:
            return self.workspace
        if self.rooms.get(layer, (0, self.workspace))[0] != rows:
            count = pieces.PIECES[self.plan.precision]
            self.rooms[layer] = rows, np.asarray(gemm.pieces_workspace(rows, *layer, count))
        return self.rooms[layer][1]

    @cached_property
    def down_to_the_inputs(self) -> list[Operation]:
        """The operations without dropout, with a place for the derivative of each, that of the inputs too."""
        return [replace(each, dx=place, dy=place + 1) for place, each in enumerate(self.plan.evaluation)]

    def train(
        self,
        data: Any,
        order: np.ndarray | None,
        batch_size: int,
        first_batch: int,
        last_batch: int,
        rates: np.ndarray,
        step: int,
        seed: int,
        workers: int = 1,
        kept: np.ndarray | None = None,
        tolerance: float = -1.0,
    ) -> tuple[int, int, np.ndarray]:
        """Train on batches ``first_batch`` to ``last_batch``; returns (status, steps done, results)."""
        self.tolerance, self.step_number, self.half_done = tolerance, step, False
        rows = len(data.inputs)
        self.part_rows = self.plan.part_rows(batch_size)
        self.rows_together = self.part_rows or batch_size
        batches = -(-rows // batch_size)
        results = np.zeros((last_batch - first_batch, 1 + len(self.plan.metrics)))
        for done, batch in enumerate(range(first_batch, last_batch)):
            epoch, start = divmod(batch, batches)
            chosen = np.arange(start * batch_size, min((start + 1) * batch_size, rows))
            if order is not None:
                chosen = order[epoch * rows + chosen]
            x, target = np.ascontiguousarray(data.inputs[chosen]), np.ascontiguousarray(data.targets[chosen])
            weights = None if data.weights is None else data.weights[chosen]
            kept_rows = None if kept is None else kept[start * batch_size : start * batch_size + len(x)]
            status = self.step(x, target, weights, kept_rows, rates[done], step + done, seed, results[done])
            if status != OK:
                break
        else:
            status, done = OK, last_batch - first_batch
        self.forget()
        return status, done, results

    def steps_done(self, step: int) -> int:
        """How many steps a call of ``train`` from ``step`` on has done, if an error came before it could say so."""
        return max(0, self.step_number - step)

    def forget(self) -> None:
        """Let go of the activations and the derivatives."""
        self.activations: dict[int, np.ndarray] = {}
        self.derivatives: dict[int, np.ndarray] = {}

    def step(
        self,
        x: np.ndarray,
        target: np.ndarray,
        weights: np.ndarray | None,
        kept: np.ndarray | None,
        rate: float,
        step: int,
        seed: int,
        result: np.ndarray,
    ) -> int:
        """One training step: rows forward, the loss, rows backward, then gradients and updates."""
        plan = self.plan
        self.rows, self.step_number, self.seed = len(x), step, seed
        self.activations, self.derivatives = {NOWHERE: x}, {}
        for operation in plan.operations:
            self.forward(operation, self.training)
        status = self.measure(target, weights, kept, result)
        result /= self.rows
        result[0] += self.penalty_of_all()
        if status != OK:
            return status
        for operation in reversed(plan.operations[plan.backward_first :]):
            if operation.dx != NOWHERE or operation.own is not None:
                self.backward(operation)
        for parameter in plan.parameters:
            self.form_gradient(parameter)
        scale, status = self.look_at_norm()
        if status != OK or plan.update is None:
            return status
        self.half_done = True
        for parameter in plan.parameters:
            status = max(status, self.update(parameter, rate, scale))
        for parameter in plan.parameters:
            status = max(status, self.constrain(parameter))
        self.half_done, self.step_number = False, step + 1
        return status

    def infer(
        self,
        data: Any,
        outputs: np.ndarray | None,
        workers: int = 1,
        kept: np.ndarray | None = None,
    ) -> tuple[int, np.ndarray]:
        """Predict all rows into ``outputs``, or evaluate them where it is None; returns (status, results)."""
        plan, status = self.plan, int(OK)
        blocks = -(-len(data.inputs) // plan.block)
        self.rows_together = 0
        results = np.zeros((blocks, 1 + len(plan.metrics)))
        for block in range(blocks):
            rows = slice(block * plan.block, (block + 1) * plan.block)
            x = np.ascontiguousarray(data.inputs[rows])
            self.rows, self.activations, self.derivatives = len(x), {NOWHERE: x}, {}
            for operation in plan.prediction if outputs is not None else plan.evaluation:
                self.forward(operation, training=False)
            if outputs is not None:
                outputs[rows] = self.activations[PREDICTIONS]
                continue
            weights = None if data.weights is None else data.weights[rows]
            kept_rows = None if kept is None else kept[rows]
            target = np.ascontiguousarray(data.targets[rows])
            status = max(status, self.measure(target, weights, kept_rows, results[block]))
        self.forget()
        return status, results

    def jacobian(self, x: np.ndarray) -> np.ndarray:
        """The derivatives of the outputs by the inputs, without dropout: (rows, outputs, inputs).

        Each row goes through once an output, forward, and backward from that output alone.
        """
        operations, outputs, self.rows_together = self.down_to_the_inputs, self.plan.outputs, 0
        if len(x) * outputs == 1:  # a row by itself is summed in another order than one among others
            return self.jacobian(np.repeat(x, 2, axis=0))[:1]
        repeated = np.repeat(x, outputs, axis=0)
        self.rows, self.activations, self.derivatives = len(repeated), {NOWHERE: repeated}, {}
        for operation in operations:
            self.forward(operation, training=False)
        self.derivatives[len(operations)] = np.tile(np.eye(outputs, dtype=self.plan.dtype), (len(x), 1))
        for operation in reversed(operations):
            self.backward(operation)
        found = self.derivatives[0].reshape(len(x), outputs, self.plan.inputs)
        self.forget()
        return found

    # Arrays by their places.

    def activation(self, place: int, width: int) -> np.ndarray:
        return self.activations.setdefault(place, np.empty((self.rows, width), self.plan.dtype))

    def derivative(self, place: int, width: int) -> np.ndarray:
        return self.derivatives.setdefault(place, np.empty((self.rows, width), self.plan.dtype))

    def elements(self, arena: np.ndarray, place: int, *shape: int) -> np.ndarray:
        size = math.prod(shape)
        return arena[place : place + size].reshape(shape) if place >= 0 else arena[:0]

    # One operation.

    def forward(self, operation: Operation, training: bool) -> None:
        x = self.activation(operation.x, operation.inputs)
        y = self.activation(operation.y, operation.outputs)
        if operation.own is not None:
            y[...] = self.checked(operation.own, "forward", operation.own.forward(x, training), y.shape)
        elif operation.kind == "dense":
            W = self.elements(self.arenas.parameters, operation.weights, operation.inputs, operation.outputs)
            b = self.elements(self.arenas.parameters, operation.bias, operation.outputs)
            room, depth = self.workspace_for(operation), operation.depth
            if depth == 0:
                dense.dense_forward(y, x, W, b, room, 0, 1)
            else:  # the products up to there and the others are summed by themselves
                others = np.empty_like(y)
                dense.dense_forward(y, x[:, :depth].copy(), W[:depth], b, room, 0, 1)
                dense.dense_forward(others, x[:, depth:].copy(), W[depth:], b[:0], room, 0, 1)
                y += others
        elif operation.kind == "dropout":
            dropout.dropout_forward(y, x, *self.mask(operation), 0, 1)
        else:
            activations.kernels_of(operation.functions or operation.formula)[0](y, x, 0, 1)

    def backward(self, operation: Operation) -> None:
        dx = self.derivative(operation.dx, operation.inputs)
        dy = self.derivative(operation.dy, operation.outputs)
        if operation.own is not None:
            found = operation.own.backward(dy)
            if operation.dx != NOWHERE:
                dx[...] = self.checked(operation.own, "backward", found, dx.shape)
        elif operation.kind == "dense":
            W = self.elements(self.arenas.parameters, operation.weights, operation.inputs, operation.outputs)
            dense.dense_backward_input(dx, dy, W, self.workspace_for(operation), 0, 1)
        elif operation.kind == "dropout":
            dropout.dropout_backward(dx, dy, *self.mask(operation), 0, 1)
        else:
            x = self.activation(operation.x, operation.inputs)
            y = self.activation(operation.y, operation.outputs)
            activations.kernels_of(operation.functions or operation.formula)[1](dx, dy, x, y, 0, 1)

    @staticmethod
    def checked(layer: Any, method: str, found: Any, shape: tuple[int, ...]) -> np.ndarray:
        """What a user's own layer returned, if it has the right shape."""
        array = np.asarray(found)
        if array.shape != shape:
            raise ValueError(f"{method} of layer {layer.name!r} returned shape {array.shape}; expected {shape}")
        return array

    def mask(self, operation: Operation) -> tuple[Any, ...]:
        """What a dropout's mask depends on, and its scale."""
        threshold, scale = self.plan.options[operation.option : operation.option + 2]
        return int(threshold), scale, self.seed, self.step_number, operation.layer, 0

    def measure(
        self, target: np.ndarray, weights: np.ndarray | None, kept: np.ndarray | None, result: np.ndarray
    ) -> int:
        """The sums of the loss and the metrics over the rows, and the derivative of the batch's loss."""
        loss = self.plan.loss
        assert loss is not None
        values = np.empty(self.rows)
        y = self.activation(loss.y, loss.inputs)
        derivative = self.derivative(loss.dx, loss.inputs)
        option = self.plan.options[loss.option]
        if loss.kind == "fused_loss":
            logits = self.activation(loss.x, loss.inputs)
            kernel = getattr(losses, loss.formula)
            status = kernel(values, y, derivative, logits, target, option, 1 / self.rows, 0, 1)
        elif loss.kind == "row_loss":
            kernel = losses.row_loss(*loss.functions.formulas)  # type: ignore[union-attr]
            status = kernel(values, derivative, y, target, 1 / self.rows, 0, 1)
        else:
            pair = losses.formulas_of(loss.functions or loss.formula)
            status = losses.elementwise_loss(*pair)(values, derivative, y, target, option, 1 / self.rows, 0, 1)
        if weights is not None:
            status = max(status, weigh_rows(values, derivative, weights, 0, 1))
        if kept is not None:
            keep_rows(kept, y, 0, 1)
        result[0] = sum_in_order(values.ctypes.data, self.rows)
        for number, metric in enumerate(self.plan.metrics):
            further = (int(self.plan.options[metric.option + 1]),) if metric.formula == "top_k_accuracy" else ()
            getattr(metrics, metric.formula)(values, y, target, *further, 0, 1)
            result[1 + number] = sum_in_order(values.ctypes.data, self.rows)
        return int(status)

    def penalty_of_all(self) -> float:
        """What the regularizers add to the loss."""
        terms = []
        for parameter in self.plan.parameters:
            own = parameter.own_penalty
            total = penalties.penalty_sum if own is None else penalties.own_penalty(own[0])
            if own is not None or parameter.penalty >= 0:
                weights = self.elements(self.arenas.parameters, parameter.offset, parameter.size)
                for start in range(0, parameter.size, PENALTY_CHUNK):
                    terms.append(total(weights[start : start + PENALTY_CHUNK], *self.penalty(parameter)))
        numbers = np.array([*terms, 0.0])  # which must live until the sum is there
        return float(sum_in_order(numbers.ctypes.data, len(terms)))

    def penalty(self, parameter: Parameter) -> tuple[float, float]:
        """l1 and l2 of a parameter, as far as the update applies them itself."""
        if parameter.penalty < 0:
            return 0.0, 0.0
        l1, l2 = self.plan.options[parameter.penalty : parameter.penalty + 2]
        return l1, l2

    def form_gradient(self, parameter: Parameter) -> None:
        """The gradient of a parameter over the whole batch: of each of its parts, if it has several, and their sum."""
        gradient = self.elements(self.arenas.gradients, parameter.offset, *parameter.shape)
        operation = self.plan.operations[parameter.operation]
        if operation.own is not None:
            found = operation.own.gradients.get(parameter.key)
            if found is None:
                raise ValueError(f"backward of layer {operation.own.name!r} did not set gradients[{parameter.key!r}]")
            gradient[...] = self.checked(operation.own, f"gradients[{parameter.key!r}]", found, parameter.shape)
            return
        x = self.activation(operation.x, operation.inputs)
        dy = self.derivative(operation.dy, operation.outputs)
        if self.part_rows == 0:
            self.sum_over_rows(operation, gradient, dy, x)
        else:
            parts = [slice(row, row + self.part_rows) for row in range(0, self.rows, self.part_rows)]
            of_parts = np.empty((len(parts), parameter.size), gradient.dtype)
            for found, rows in zip(of_parts, parts, strict=True):
                self.sum_over_rows(operation, found.reshape(parameter.shape), dy[rows], x[rows])
            self.sum_over_rows(operation, gradient.reshape(-1), of_parts, x[: len(parts)])
        if parameter.own_penalty is not None:
            weights = self.elements(self.arenas.parameters, parameter.offset, parameter.size)
            penalties.own_penalty_slope(parameter.own_penalty[1])(gradient.reshape(-1), weights, 0, 1)

    def sum_over_rows(self, operation: Operation, gradient: np.ndarray, dy: np.ndarray, x: np.ndarray) -> None:
        """The gradient of weights, or that of a bias, which has one dimension and asks for no x."""
        if gradient.ndim > 1:
            none, room = gradient.reshape(-1)[:0], self.workspace_for(operation, True)
            dense.dense_backward_weights(gradient, none, dy, x, room, 0, 1)
        else:
            dense.dense_backward_weights(gradient[:0].reshape(0, 0), gradient, dy, x[:, :0], self.workspace, 0, 1)

    def look_at_norm(self) -> tuple[float, int]:
        """The factor that brings the gradient to the norm it is clipped to, and the status."""
        if self.plan.clip_norm == np.inf and self.tolerance < 0:
            return 1.0, OK
        parts = [np.empty(0)]
        for parameter in self.plan.parameters:
            rows = parameter.shape[0]
            p = self.elements(self.arenas.parameters, parameter.offset, rows, parameter.size // rows)
            g = self.elements(self.arenas.gradients, parameter.offset, rows, parameter.size // rows)
            parts.append(np.empty(rows))
            penalties.squared_norms(parts[-1], p, g, *self.penalty(parameter), 0, 1)
        norms = np.concatenate(parts)
        norm = float(np.sqrt(sum_in_order(norms.ctypes.data, len(norms))))
        scale = self.plan.clip_norm / norm if norm > self.plan.clip_norm else 1.0
        if norm <= self.tolerance:
            return scale, CONVERGED
        return scale, OK if np.isfinite(norm) else NOT_FINITE

    def update(self, parameter: Parameter, rate: float, scale: float) -> int:
        """The update of a parameter from its gradient."""
        plan, arenas = self.plan, self.arenas
        p, g, *slots = (
            self.elements(arena, parameter.offset, parameter.size)
            for arena in (arenas.parameters, arenas.gradients, *arenas.slots)
        )
        none = p[:0]
        penalty = self.penalty(parameter)
        limit, *settings = plan.options[:OPTIMIZER_OPTIONS]
        last = (scale, limit, *penalty, 0, 1)
        step = self.step_number + 1
        if callable(plan.update):
            both = (*slots, none, none)[:2]
            kernel = updates.own_update(plan.update, plan.slots)
            return int(kernel(p, *both, g, rate, step, np.array(settings), *last))
        update: dict[str, Callable[[], int]] = {
            "sgd": lambda: updates.sgd_update(p, g, rate, *last),
            "momentum": lambda: updates.momentum_update(p, *slots, g, rate, settings[0], bool(settings[1]), *last),
            "adagrad": lambda: updates.adagrad_update(p, *slots, g, rate, settings[0], *last),
            "rmsprop": lambda: updates.rmsprop_update(p, *(*slots, none)[:2], g, rate, *settings[:3], *last),
            "adam": lambda: updates.adam_update(
                p, *slots, g, rate, *settings[:3], step, settings[3] if parameter.decay else 0.0, *last
            ),
        }
        return int(update[str(plan.update)]())

    def constrain(self, parameter: Parameter) -> int:
        """Bring the columns of a parameter back to what its constraint allows."""
        if parameter.constraint < 0:
            return int(OK)
        rows = parameter.shape[0]
        p = self.elements(self.arenas.parameters, parameter.offset, rows, parameter.size // rows)
        return int(penalties.max_norm(p, self.plan.options[parameter.constraint], 0, 1))
