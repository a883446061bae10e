"""A model as data: the operations it runs, the parameters it trains, and where everything lies.

``lower`` turns a chain of layers into a ``Plan``. A plan names kernels but holds no addresses, and no code but a
user's own functions, so it can be printed, compared and sent; the device's engine fills in what it needs. Places
among the parameters count elements, places among the activations count columns of a block (see
``kernels/layout.py``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .dispatch import path_of
from .history import aligned
from .kernels.conventions import CACHE_LINE, NOWHERE, OPTIMIZER_OPTIONS, PREDICTIONS
from .own_functions import OwnFunction
from .regularizers import L1L2, Penalty

if TYPE_CHECKING:
    from .constraints import MaxNorm
    from .layers import Dense, Layer
    from .losses import Loss
    from .metrics import Metric
    from .optimizers import Optimizer
    from .regularizers import Regularizer

__all__ = ["Builder", "Operation", "Parameter", "Plan", "lower", "rounded"]

#: Elements and columns to which places are rounded up, so that each begins at a cache line, float32 ones too.
ALIGNMENT: int = CACHE_LINE // 4

#: Bytes of activations and derivatives that a block of rows may fill: half of a small second-level cache.
CACHE_BYTES = 1 << 19

#: Rows of a block at least, so that a large matrix is not read anew for a few rows; a multiple of the
#: heights of the multiplication's tiles (12, 6 and 4 rows).
LEAST_BLOCK = 240

#: Parts of a batch whose gradients are summed one by one, at most, if it has no more blocks; and the rows that make one
#: worth its calls.
MOST_PARTS, LEAST_PART = 32, 96

#: Weights of the first two dense layers that two workers may have as branches, at least and at most; and units of the
#: first one in each of them at most, over which a product sums without interruption.
LEAST_CUT, MOST_CUT, LONGEST_HALF = 4096, 1 << 19, 400

#: Activations whose slope follows from their output, so that they may overwrite their input.
IN_PLACE = frozenset({"relu", "leaky_relu"})

#: How the GPU's engine goes through a step, for ``print(plan)``.
PATHS = {
    "tiny": "tiny, all steps of a slice in one thread block",
    "narrow": "narrow, a launch for the rows and one for the weights",
    "layered": "layered, operation by operation",
}


@dataclass(frozen=True)
class Operation:
    """One step through the network: y from x going forward, dx from dy going backward.

    kind : "dense", "activation", "softmax", "log_softmax", "dropout", "own", "loss", "fused_loss" (computed together
    with the last activation) or "metric"; layer : the number of its layer; inputs, outputs : the widths of x and y, of
    a loss those of the outputs and the targets; x, y : their places among the activations, -1 for the batch's inputs
    and -2 for the predictions; dx, dy : theirs among the derivatives, -1 where nobody asks; weights, bias : places
    among the parameters, or -1; option : its first one among the plan's options, or -1; formula : the name of its
    formula or kernel; depth : inputs after which the sums for y are interrupted, 0 where they are not.
    """

    kind: str
    layer: int
    inputs: int
    outputs: int
    x: int
    y: int
    dx: int = NOWHERE
    dy: int = NOWHERE
    weights: int = NOWHERE
    bias: int = NOWHERE
    option: int = NOWHERE
    formula: str = ""
    depth: int = 0
    functions: OwnFunction | None = None  # the user's own, instead of a formula of the kernels
    own: Any = None  # the layer itself where it is the user's own Python layer

    @property
    def name(self) -> str:
        """Its formula, such as "relu", or its kind."""
        return self.formula or self.kind

    @property
    def flops(self) -> int:
        """Floating-point operations for one row, forward; about one an element where it is no product."""
        return self.outputs * (2 * self.inputs + int(self.bias >= 0) if self.kind == "dense" else 1)


@dataclass(frozen=True)
class Parameter:
    """A trainable array: its place among the parameters, its shape, and what belongs to its update.

    name : such as "dense_1.W"; role : "weights", "bias" or "own"; operation : its number among the plan's; offset :
    its first element in the arena; shape : of the array; penalty : where its l1 and l2 stand among the plan's options,
    or -1; decay : 1 where decoupled weight decay applies, else 0; constraint : where its largest norm stands among the
    options, or -1; own_penalty : (value, slope) of a user's own.
    """

    name: str
    role: str
    operation: int
    offset: int
    shape: tuple[int, ...]
    penalty: int = NOWHERE
    decay: int = 0
    constraint: int = NOWHERE
    own_penalty: tuple[Callable[..., float], Callable[..., float]] | None = None
    key: str = ""  # the array's name in its layer

    @property
    def penalized(self) -> bool:
        """Whether a regularizer belongs to it."""
        return self.penalty >= 0 or self.own_penalty is not None

    @property
    def size(self) -> int:
        """The number of its elements."""
        return math.prod(self.shape)


@dataclass
class Plan:
    """A model as data; ``print(plan)`` shows it as a table.

    >>> plan = fn.Model([fn.Input(3), fn.Dense(4, "relu"), fn.Dense(2)]).plan
    >>> [operation.name for operation in plan.operations]
    ['dense', 'relu', 'dense']
    >>> plan.forward_flops(rows=1)  # 2·3·4 + 4, 4 for the activation, 2·4·2 + 2
    50
    """

    dtype: str
    inputs: int
    outputs: int
    target_width: int = 0
    length: int = 0  # of the parameter arena, in elements
    columns: int = 0  # of the arena of activations
    derivative_columns: int = 0
    operations: list[Operation] = field(default_factory=list)  # of a training step
    evaluation: list[Operation] = field(default_factory=list)  # the same without dropout
    prediction: list[Operation] = field(default_factory=list)  # the same up to the predictions
    backward_first: int = 0
    loss: Operation | None = None
    metrics: list[Operation] = field(default_factory=list)
    parameters: list[Parameter] = field(default_factory=list)
    options: list[float] = field(default_factory=list)
    update: str | Callable[..., None] | None = None  # the update kernel's name, or the user's own function
    slots: int = 0
    clip_norm: float = math.inf
    layer_names: list[str] = field(default_factory=list)
    device: str = "cpu"  # where it runs
    precision: str = "float32"  # of the matrix products; on a CPU in training

    @property
    def item_size(self) -> int:
        """Bytes of a number."""
        return 8 if self.dtype == "float64" else 4

    @property
    def own_layer(self) -> Layer | None:
        """The first layer that is written in Python, if there is one."""
        return next((operation.own for operation in self.operations if operation.own is not None), None)

    @property
    def compiled(self) -> bool:
        """Whether a compiled engine can run the plan: no layer is written in Python."""
        return self.own_layer is None

    @property
    def of_the_cpu(self) -> str | None:
        """What of the plan runs on the CPU alone, if there is such a thing."""
        if self.own_layer is not None:
            return f"layer {self.own_layer.name!r} is written in Python and runs on the CPU"
        if self.loss is not None and self.loss.kind == "row_loss":
            return f"{self.loss.functions!r} is a loss of whole rows, which runs on the CPU"
        return None

    @cached_property
    def penalized(self) -> bool:
        """Whether a regularizer belongs to one of its parameters."""
        return any(parameter.penalized for parameter in self.parameters)

    @cached_property
    def join(self) -> int:
        """The number of the operation in which two branches of a training may come together; 0 where there is none."""
        return next((number for number, operation in enumerate(self.operations) if operation.depth > 0), 0)

    @cached_property
    def block(self) -> int:
        """Rows that go through all layers together."""
        row = self.item_size * max(1, self.columns + self.derivative_columns)
        rows = max(LEAST_BLOCK, CACHE_BYTES // row)
        return rows - rows % 12

    def part_rows(self, batch_size: int) -> int:
        """Rows of a part of a batch, over which gradients are summed before the parts are added; 0: there are no parts.

        There are some where their gradients are few numbers beside those of the rows. Their number is about a power of
        two, for an even share of each worker, and their rows a multiple of 8, for full vectors.
        """
        numbers = batch_size * sum(operation.inputs + operation.outputs for operation in self.operations)
        most = max(MOST_PARTS, batch_size // self.block)
        parts = min(most, batch_size // LEAST_PART, numbers // (8 * max(1, self.length)))
        if parts < 2:
            return 0
        power = 1 << parts.bit_length() - 1
        return 8 * -(-batch_size // (8 * power))

    def turn_rows(self, batch_size: int, workers: int) -> int:
        """Rows of the arenas in which each worker's blocks of a batch with parts take turns; 0: each row has its own.

        Nothing is left of a block but the sums over its parts. The engine's blocks have at most half as many rows again
        as ``block``, and then end with a part.
        """
        part_rows = self.part_rows(batch_size)
        if part_rows == 0:
            return 0
        rows = rounded(self.block * 3 // 2 + part_rows)
        return rows if rows * workers < batch_size else 0

    def forward_flops(self, rows: int) -> int:
        """Floating-point operations to predict ``rows`` rows."""
        return rows * self._flops[0]

    def step_flops(self, rows: int) -> int:
        """Floating-point operations of a training step on ``rows`` rows, the update included."""
        _, row, update = self._flops
        return rows * row + update

    @cached_property
    def _flops(self) -> tuple[int, int, int]:
        """Floating-point operations of a prediction and of a training step for each row, and of the update."""
        prediction = sum(operation.flops for operation in self.prediction)
        forward = sum(operation.flops for operation in self.operations)
        backward = sum(operation.flops for operation in self.operations if operation.dx != NOWHERE)
        size = sum(parameter.size for parameter in self.parameters)
        return prediction, forward + backward + 2 * size, 8 * size

    def __str__(self) -> str:
        item = self.item_size
        header = ("operation", "layer", "x", "y", "dy", "shape", "W", "b", "FLOPs a row", "bytes a row")
        rows: list[tuple[str, ...]] = [header]
        for operation in self.operations:
            trained = any(self.operations[p.operation] == operation for p in self.parameters)
            place = [
                "X" if operation.x == NOWHERE else str(operation.x),
                "predictions" if operation.y == PREDICTIONS else str(operation.y),
                "-" if operation.dy == NOWHERE else str(operation.dy),
            ]
            frozen = "" if trained or operation.weights < 0 else " (frozen)"
            rows.append(
                (
                    operation.name,
                    self.layer_names[operation.layer],
                    *place,
                    f"{operation.inputs} -> {operation.outputs}{frozen}",
                    "-" if operation.weights < 0 else str(operation.weights),
                    "-" if operation.bias < 0 else str(operation.bias),
                    f"{operation.flops:,}",
                    f"{operation.outputs * item:,}",
                )
            )
        if self.loss is not None:
            place = [str(self.loss.x if self.loss.x >= 0 else self.loss.y), str(self.loss.y), str(self.loss.dy)]
            rows.append((self.loss.formula, "loss", *place, f"{self.loss.inputs} -> 1", "-", "-", "-", "8"))
        lines = aligned(rows, "<<>>><>>>>")
        lines.insert(1, "-" * max(map(len, lines)))
        trainable = sum(parameter.size for parameter in self.parameters)
        arenas = 2 + self.slots
        lines += [
            "",
            f"{self.dtype}; x, y, dy: first column of their block; W, b: first element among the parameters",
            f"parameters: {self.length:,} places, {trainable:,} trainable; with gradients and {self.slots} "
            f"optimizer slots {self.length * item * arenas:,} bytes",
            f"activations: {self.columns:,} columns, derivatives: {self.derivative_columns:,}; "
            f"{(self.columns + self.derivative_columns) * item:,} bytes a row of the batch",
            f"a training step: {self.step_flops(1):,} FLOPs for one row, {self.step_flops(32):,} for 32; "
            f"rows go through in blocks of {self.block}",
        ]
        if self.device == "cpu" and self.join > 0:
            first, join = (self.layer_names[self.operations[number].layer] for number in (0, self.join))
            depth = self.operations[self.join].depth
            lines.append(f"two workers may each have {depth} units of {first}: {join} sums {depth} inputs at a time")
        elif self.device != "cpu":
            lines.append(f"on the GPU, with batches of 32 rows: {PATHS[path_of(self, 32)]}")
        return "\n".join(lines)


class Builder:
    """What a layer lowers itself with: it appends operations, and knows where the last output lies."""

    def __init__(self, dtype: str, inputs: int):
        self.plan = Plan(dtype=dtype, inputs=inputs, outputs=inputs, options=[0.0] * OPTIMIZER_OPTIONS)
        self.width = inputs
        self.place = NOWHERE  # of the last output; at first the batch's inputs
        self.derivative = NOWHERE  # of its derivative; nobody asks for that of the inputs
        self.layer = 0

    def dense(self, layer: Dense) -> None:
        """y = xW + b."""
        units = layer.units
        weights = self._parameter(self.width * units)
        bias = self._parameter(units) if layer.use_bias else NOWHERE
        shape = self.width, units
        self._append("dense", units, dx=self.derivative, dy=self._derivative(units), weights=weights, bias=bias)
        if layer.trainable:
            self._train(layer, "W", "weights", weights, shape, layer.kernel_regularizer, layer.kernel_constraint)
            if layer.use_bias:
                self._train(layer, "b", "bias", bias, (units,), layer.bias_regularizer, layer.bias_constraint)

    def _train(
        self,
        layer: Layer,
        key: str,
        role: str,
        offset: int,
        shape: tuple[int, ...],
        regularizer: Regularizer | None = None,
        constraint: MaxNorm | None = None,
    ) -> None:
        """A parameter of the last operation that is trained."""
        penalty, own_penalty = NOWHERE, None
        if isinstance(regularizer, L1L2):
            penalty = self._options(regularizer.l1, regularizer.l2)
        elif isinstance(regularizer, Penalty):
            own_penalty = regularizer.value, regularizer.slope
        limit = NOWHERE if constraint is None else self._options(constraint.max_value)
        operation = len(self.plan.operations) - 1
        decay = int(role == "weights")
        name = f"{layer.name}.{key}"
        self.plan.parameters.append(
            Parameter(name, role, operation, offset, shape, penalty, decay, limit, own_penalty, key)
        )

    def own(self, layer: Layer) -> None:
        """A layer written in Python: whoever runs the plan calls its ``forward`` and ``backward``."""
        self._append("own", layer.units, dx=self.derivative, dy=self._derivative(layer.units), own=layer)
        for key, array in layer.parameters.items():
            offset = self._parameter(array.size)
            if layer.trainable:
                self._train(layer, key, "own", offset, array.shape)

    def activation(self, activation: str | OwnFunction) -> None:
        """y = f(x), element by element; softmax and log_softmax row by row."""
        if isinstance(activation, OwnFunction):
            dx, dy = self.derivative, self._shared()
            self._append("activation", self.width, dx=dx, dy=dy, formula=activation.name, functions=activation)
            return
        formula = activation
        if formula == "linear":
            return
        kind = formula if formula in ("softmax", "log_softmax") else "activation"
        after_dense = bool(self.plan.operations) and self.plan.operations[-1].kind == "dense"
        place = self.place if formula in IN_PLACE and after_dense else None
        self._append(kind, self.width, place, dx=self.derivative, dy=self._shared(), formula=formula)

    def dropout(self, threshold: int, scale: float) -> None:
        """y = x · mask · scale in training; nothing in a prediction. The mask is kept in the place of dx."""
        option = self._options(float(threshold), scale)
        self._append("dropout", self.width, dx=self.derivative, dy=self._derivative(self.width), option=option)

    def _append(self, kind: str, outputs: int, place: int | None = None, **fields: object) -> None:
        y = self._activation(outputs) if place is None else place
        operation = Operation(kind, self.layer, self.width, outputs, self.place, y, **fields)  # type: ignore[arg-type]
        self.plan.operations.append(operation)
        self.width, self.place, self.derivative = outputs, operation.y, operation.dy

    def _shared(self) -> int:
        """The place of an element-wise operation's dy: its dx overwrites it."""
        return self._derivative(self.width) if self.derivative == NOWHERE else self.derivative

    def _parameter(self, size: int) -> int:
        place, self.plan.length = self.plan.length, self.plan.length + rounded(size)
        return place

    def _activation(self, width: int) -> int:
        place, self.plan.columns = self.plan.columns, self.plan.columns + rounded(width)
        return place

    def _derivative(self, width: int) -> int:
        place = self.plan.derivative_columns
        self.plan.derivative_columns += rounded(width)
        return place

    def _options(self, *values: float) -> int:
        self.plan.options.extend(values)
        return len(self.plan.options) - len(values)


def rounded(size: int) -> int:
    """Elements or columns that something of this size takes in an arena."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def lower(
    layers: Sequence[Layer],
    inputs: int,
    dtype: str,
    loss: Loss | None = None,
    optimizer: Optimizer | None = None,
    metrics: Sequence[Metric] = (),
    target_width: int = 0,
) -> Plan:
    """The plan of a chain of layers on ``inputs`` inputs; with a loss, ready to be trained."""
    builder = Builder(dtype, inputs)
    plan = builder.plan
    for builder.layer, layer in enumerate(layers):
        plan.layer_names.append(layer.name)
        layer.lower(builder)
    plan.outputs = builder.width
    plan.evaluation = _without_dropout(plan.operations)
    plan.prediction = [*plan.evaluation[:-1], replace(plan.evaluation[-1], y=PREDICTIONS)]
    if optimizer is not None:
        settings = (optimizer.clip_value or math.inf, *optimizer.settings())
        plan.options[: len(settings)] = settings
        plan.update, plan.slots = optimizer.update or None, optimizer.slots
        plan.clip_norm = optimizer.clip_norm or math.inf
    if loss is not None:
        _append_loss(builder, loss, metrics, target_width)
    _drop_unneeded_gradients(plan)
    _cut_in_two(plan)
    return plan


def _without_dropout(operations: Sequence[Operation]) -> list[Operation]:
    """The operations without dropout: what wrote to its input writes to its output instead."""
    kept: list[Operation] = []
    dropped_inputs = None  # place of the output of a dropout on the model's inputs
    for operation in operations:
        if operation.kind == "dropout":
            if kept:
                kept[-1] = replace(kept[-1], y=operation.y)
            else:
                dropped_inputs = operation.y
        else:
            kept.append(replace(operation, x=NOWHERE) if operation.x == dropped_inputs else operation)
    return kept


def _append_loss(builder: Builder, loss: Loss, metrics: Sequence[Metric], target_width: int) -> None:
    plan = builder.plan
    last = plan.operations[-1]
    last_activation = repr(last.functions) if last.functions else last.formula or "linear"
    kernel, fused = loss.lower(last_activation)
    loss.check_outputs(plan.outputs)
    plan.target_width = target_width
    logits, y, derivative = NOWHERE, last.y, last.dy
    if fused and loss.from_logits:  # the probabilities get a place of their own
        logits, y = last.y, builder._activation(plan.outputs)
    elif fused:  # the loss takes over from the last activation
        logits, derivative = last.x, last.dx
        plan.operations.pop()
        plan.evaluation.pop()
    plan.loss = Operation(
        "fused_loss" if fused else loss.kind,
        last.layer,
        plan.outputs,
        plan.target_width,
        logits,
        y,
        derivative,
        derivative,
        option=builder._options(loss.option),
        formula=kernel,
        functions=loss if isinstance(loss, OwnFunction) else None,
    )
    for metric in metrics:
        metric.check(loss, last_activation, plan.outputs, plan.target_width)
        if metric.by_rows:
            option = builder._options(float(len(plan.metrics)), *metric.options())
            formula = metric.kernel(loss, plan.outputs)
            plan.metrics.append(replace(plan.loss, kind="metric", formula=formula, option=option, functions=None))


def _drop_unneeded_gradients(plan: Plan) -> None:
    """Below the first trained operation nobody needs a derivative."""
    trained = [parameter.operation for parameter in plan.parameters]
    plan.backward_first = min(trained, default=len(plan.operations))
    for index, operation in enumerate(plan.operations[: plan.backward_first + 1]):
        plan.operations[index] = replace(operation, dx=NOWHERE)


def _cut_in_two(plan: Plan) -> None:
    """Where two workers may have branches of a training (``kernels/cpu/branches.py``), let the second dense layer sum
    over the two halves of its inputs one by one, for any number of workers.
    """
    first, *others = plan.operations
    number = next((number for number, each in enumerate(others, 1) if each.kind == "dense"), 0)
    join = plan.operations[number]
    inside = all(each.kind in ("activation", "dropout") for each in plan.operations[1:number])
    if number == 0 or first.kind != "dense" or not inside:
        return
    whole = plan.update is not None and math.isinf(plan.clip_norm) and not plan.penalized
    unlimited = all(parameter.constraint < 0 for parameter in plan.parameters)
    arrays = [(0, first.weights), (0, first.bias), (number, join.weights), (number, join.bias)]
    trained = {(parameter.operation, parameter.offset) for parameter in plan.parameters}
    all_trained = all(place in trained for place in arrays if place[1] >= 0)
    size = join.inputs * (first.inputs + join.outputs)
    small = LEAST_CUT <= size <= MOST_CUT and join.inputs <= 2 * LONGEST_HALF
    halves = join.inputs % 8 == 0 and join.outputs > 1  # of whole words to be copied, and of whole draws of dropout
    if whole and unlimited and all_trained and small and halves:
        plan.operations[number] = replace(join, depth=join.inputs // 2)
