"""The plan run kernel by kernel from Python: slow, short, and what the engine is held to, bit for bit.

Read this to see what a training step does; step through it with a debugger under ``NUMBA_DISABLE_JIT=1``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .plan import NOWHERE, Operation, Parameter, Plan

__all__ = ["SlowPath"]


class SlowPath:
    """Runs a plan as ``kernels.cpu.runner.Runner`` does, one kernel after another, as worker 0 of 1."""

    def __init__(self, plan: Plan, arenas: Any):
        from .kernels.cpu import gemm

        self.plan, self.arenas = plan, arenas
        self.workspace = gemm.workspace(np.dtype(plan.dtype).type)

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
    ) -> tuple[int, int, np.ndarray]:
        """Train on batches ``first_batch`` to ``last_batch``; returns (status, steps done, results)."""
        from .kernels.layout import OK

        rows = len(data.inputs)
        batches = -(-rows // batch_size)
        results = np.zeros((last_batch - first_batch, 1 + len(self.plan.metrics)))
        for done, batch in enumerate(range(first_batch, last_batch)):
            epoch, start = divmod(batch, batches)
            chosen = np.arange(start * batch_size, min((start + 1) * batch_size, rows))
            if order is not None:
                chosen = order[epoch * rows + chosen]
            x, target = np.ascontiguousarray(data.inputs[chosen]), np.ascontiguousarray(data.targets[chosen])
            status = self.step(x, target, rates[done], step + done, seed, results[done])
            if status != OK:
                return status, done, results
        return OK, last_batch - first_batch, results

    def step(self, x: np.ndarray, target: np.ndarray, rate: float, step: int, seed: int, result: np.ndarray) -> int:
        """One training step: rows forward, the loss, rows backward, then gradients and updates."""
        from .kernels.layout import OK

        plan = self.plan
        self.rows, self.step_number, self.seed = len(x), step, seed
        self.activations: dict[int, np.ndarray] = {NOWHERE: x}
        self.derivatives: dict[int, np.ndarray] = {}
        for operation in plan.operations:
            self.forward(operation)
        status = self.measure(target, result)
        if status != OK:
            return status
        for operation in reversed(plan.operations[plan.backward_first :]):
            if operation.dx != NOWHERE:
                self.backward(operation)
        for parameter in plan.parameters:
            status = self.update(parameter, rate)
            if status != OK:
                return status
        return int(OK)

    # Arrays by their places.

    def activation(self, place: int, width: int) -> np.ndarray:
        return self.activations.setdefault(place, np.empty((self.rows, width), self.plan.dtype))

    def derivative(self, place: int, width: int) -> np.ndarray:
        return self.derivatives.setdefault(place, np.empty((self.rows, width), self.plan.dtype))

    def elements(self, arena: np.ndarray, place: int, *shape: int) -> np.ndarray:
        size = int(np.prod(shape))
        return arena[place : place + size].reshape(shape) if place >= 0 else arena[:0]

    # One operation.

    def forward(self, operation: Operation) -> None:
        from .kernels.cpu import activations, dense, dropout

        x = self.activation(operation.x, operation.inputs)
        y = self.activation(operation.y, operation.outputs)
        if operation.kind == "dense":
            W = self.elements(self.arenas.parameters, operation.weights, operation.inputs, operation.outputs)
            b = self.elements(self.arenas.parameters, operation.bias, operation.outputs)
            dense.dense_forward(y, x, W, b, self.workspace, 0, 1)
        elif operation.kind == "dropout":
            dropout.dropout_forward(y, x, *self.mask(operation), 0, 1)
        else:
            activations.kernels_of(operation.formula)[0](y, x, 0, 1)

    def backward(self, operation: Operation) -> None:
        from .kernels.cpu import activations, dense, dropout

        dx = self.derivative(operation.dx, operation.inputs)
        dy = self.derivative(operation.dy, operation.outputs)
        if operation.kind == "dense":
            W = self.elements(self.arenas.parameters, operation.weights, operation.inputs, operation.outputs)
            dense.dense_backward_input(dx, dy, W, self.workspace, 0, 1)
        elif operation.kind == "dropout":
            dropout.dropout_backward(dx, dy, *self.mask(operation), 0, 1)
        else:
            x = self.activation(operation.x, operation.inputs)
            y = self.activation(operation.y, operation.outputs)
            activations.kernels_of(operation.formula)[1](dx, dy, x, y, 0, 1)

    def mask(self, operation: Operation) -> tuple[Any, ...]:
        """What a dropout's mask depends on, and its scale."""
        threshold, scale = self.plan.options[operation.option : operation.option + 2]
        return int(threshold), scale, self.seed, self.step_number, operation.layer, 0

    def measure(self, target: np.ndarray, result: np.ndarray) -> int:
        """The loss, its derivative, and the metrics."""
        from .kernels.cpu import losses, metrics, updates
        from .kernels.cpu.engine import sum_in_order
        from .kernels.formulas import losses as formulas
        from .kernels.layout import PENALTY_CHUNK

        loss = self.plan.loss
        assert loss is not None
        values = np.empty(self.rows)
        y = self.activation(loss.y, loss.inputs)
        fused = {
            "softmax_cross_entropy": losses.softmax_cross_entropy,
            "sigmoid_cross_entropy": losses.sigmoid_cross_entropy,
        }
        derivative = self.derivative(loss.dx, loss.inputs)
        if loss.formula in fused:
            logits = self.activation(loss.x, loss.inputs)
            status = fused[loss.formula](values, y, derivative, logits, target, 1 / self.rows, 0, 1)
        else:
            pair = getattr(formulas, loss.formula), getattr(formulas, f"{loss.formula}_slope")
            status = losses.elementwise_loss(*pair)(values, derivative, y, target, 1 / self.rows, 0, 1)
        terms = []
        for parameter in self.plan.parameters:
            if parameter.penalty >= 0:
                weights = self.elements(self.arenas.parameters, parameter.offset, parameter.size)
                for start in range(0, parameter.size, PENALTY_CHUNK):
                    terms.append(updates.penalty_sum(weights[start : start + PENALTY_CHUNK], *self.penalty(parameter)))
        result[0] = sum_in_order(values.ctypes.data, self.rows) / self.rows
        result[0] += sum_in_order(np.array([*terms, 0.0]).ctypes.data, len(terms)) if terms else 0.0
        for number, metric in enumerate(self.plan.metrics):
            getattr(metrics, metric.formula)(values, y, target, 0, 1)
            result[1 + number] = sum_in_order(values.ctypes.data, self.rows) / self.rows
        return int(status)

    def penalty(self, parameter: Parameter) -> tuple[float, float]:
        """l1 and l2 of a parameter."""
        if parameter.penalty < 0:
            return 0.0, 0.0
        l1, l2 = self.plan.options[parameter.penalty : parameter.penalty + 2]
        return l1, l2

    def update(self, parameter: Parameter, rate: float) -> int:
        """The gradient of a parameter over the whole batch, then its update."""
        from .kernels.cpu import dense, updates
        from .kernels.layout import OK

        plan, arenas = self.plan, self.arenas
        gradient = self.elements(arenas.gradients, parameter.offset, *parameter.shape)
        operation = plan.operations[parameter.operation]
        x = self.activation(operation.x, operation.inputs)
        dy = self.derivative(operation.dy, operation.outputs)
        nothing = gradient.reshape(-1)[:0]
        if parameter.role == "weights":
            dense.dense_backward_weights(gradient, nothing, dy, x, self.workspace, 0, 1)
        else:
            dense.dense_backward_weights(gradient[:0].reshape(0, 0), gradient, dy, x[:, :0], self.workspace, 0, 1)
        if plan.update is None:
            return int(OK)
        p, g, *slots = (
            self.elements(arena, parameter.offset, parameter.size)
            for arena in (arenas.parameters, arenas.gradients, *arenas.slots)
        )
        l1, l2 = self.penalty(parameter)
        options = plan.options
        decay = options[3] if parameter.decay else 0.0
        update: dict[str, Callable[[], int]] = {
            "sgd": lambda: updates.sgd_update(p, g, rate, l1, l2, 0, 1),
            "momentum": lambda: updates.momentum_update(p, *slots, g, rate, options[0], bool(options[1]), l1, l2, 0, 1),
            "adam": lambda: updates.adam_update(
                p, *slots, g, rate, *options[:3], self.step_number + 1, decay, l1, l2, 0, 1
            ),
        }
        return int(update[plan.update]())
