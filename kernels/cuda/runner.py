"""The host's side of the GPU engine: a plan made ready to run, with the face of the CPU's ``Runner``."""

import contextlib
import functools
import warnings

import numpy as np
from numba import cuda
from numba.core.errors import NumbaError as CoreError
from numba.cuda.core.errors import NumbaError

from .. import layout
from ..cpu.activations import formulas_of
from ..formulas.own import reason
from ..layout import CONVERGED, NOT_FINITE, OK
from . import narrow_kernels, tables
from .engine import Replay
from .launch import SIMULATED, THREADS, Stream, ceiling, launch
from .layered import Layers, evaluation_kernel
from .memory import DeviceArenas, DeviceData, DeviceLostError, allocate, is_on_device, on_gpu, upload
from .narrow_kernels import ROW_THREADS
from .paths import block_rows, path_of, row_bytes
from .row_functions import loss_of
from .steps import MOST_BLOCKS, NORM_PARTS, LayeredSteps, NarrowSteps, TinySteps, own_penalties

__all__ = ["DeviceLostError", "Runner"]

#: Bytes of activations of the rows that go forward together in a prediction of a wide network.
INFERENCE_BYTES = 1 << 28

KINDS = {
    "dense": tables.DENSE,
    "dropout": tables.DROPOUT,
    "softmax": tables.SOFTMAX,
    "log_softmax": tables.LOG_SOFTMAX,
    "activation": tables.ACTIVATION,
}


def quiet():
    """Nothing; but in the simulator, without NumPy's warnings of numbers that are not finite, which a status tells."""
    if not SIMULATED:
        return contextlib.nullcontext()
    return warnings.catch_warnings(action="ignore", category=RuntimeWarning)


def on_its_gpu(method):
    """Run a method of a runner with the runner's GPU as the current one; if that fails, the host gets what the last
    finished slice has made."""

    @functools.wraps(method)
    def run(self, *arguments, **options):
        try:
            with on_gpu(self.index):
                return method(self, *arguments, **options)
        except (MemoryError, DeviceLostError):
            self.remote.rescue()
            raise

    return run


class Runner:
    """A plan made ready for the GPU.

    plan : the plan; arenas : the host's arenas, with ``parameters``, ``gradients`` and ``slots``. ``remote`` has those
    on the device, shared by all runners of the arenas.
    """

    def __init__(self, plan, arenas, index=0):
        self.plan, self.arenas, self.index = plan, arenas, index
        self.real = np.float64 if plan.dtype == "float64" else np.float32
        with on_gpu(index):
            self.remote = DeviceArenas.of(arenas)
            self.stream = Stream(cuda.stream(), plan.precision)
            self.options = upload(np.array(plan.options or [0.0], np.float64))
            self.parameter_table, self.chunks, self.elements = self._parameters()
        self.data = DeviceData()
        self.tables = {}
        self.buffers = {}
        self.replay, self.replayed = None, ()
        self.order = None
        self.counted = 0  # steps, by the last call of ``train``

    # During a fit the device has the numbers; outside of one, and while callbacks run, the host has them.

    @on_its_gpu
    def to_device(self):
        """Parameters and slots to the device, where they stay until ``to_host``."""
        self.remote.begin()

    @on_its_gpu
    def to_host(self):
        """Parameters and slots back to the host's arenas."""
        self.remote.end()

    def end_fit(self):
        """The fit is over, one way or another: give its memory back."""
        try:
            if self.remote.resident:
                self.to_host()
        finally:
            self.data.forget()
            self.replay, self.replayed, self.order = None, (), None
            self.remote.snapshot = []

    @on_its_gpu
    def fetch(self):
        """A copy of the parameters and slots to the host's arenas, where these are behind."""
        if self.remote.resident:
            self.remote.fetch()

    @on_its_gpu
    def take_snapshot(self):
        self.remote.take_snapshot()

    @on_its_gpu
    def restore(self):
        self.remote.restore()

    # Tables.

    def _functions(self, operations):
        """The formulas (values, slopes) of the activations, each once."""
        found = []
        for operation in operations:
            if operation.kind == "activation":
                pair = formulas_of(operation.functions or operation.formula)
                if pair not in found:
                    found.append(pair)
        return tuple(pair[0] for pair in found), tuple(pair[1] for pair in found), found

    def _table(self, name):
        """(the operations as a device table, values, slopes)."""
        if name not in self.tables:
            self.tables[name] = self._new_table(name)
        return self.tables[name]

    def _new_table(self, name):
        plan = self.plan
        operations = getattr(plan, name)
        values, slopes, pairs = self._functions(operations)
        extra = [] if plan.loss is None else [plan.loss, *plan.metrics]
        table = np.zeros((len(operations) + len(extra), tables.OPERATION_FIELDS), np.int64)
        trained = {parameter.operation for parameter in plan.parameters}
        places = {layout.NOWHERE: plan.columns, layout.PREDICTIONS: plan.columns + plan.inputs}
        for index, (record, operation) in enumerate(zip(table, [*operations, *extra], strict=True)):
            record[layout.INPUTS], record[layout.OUTPUTS] = operation.inputs, operation.outputs
            record[layout.X], record[layout.Y] = (places.get(place, place) for place in (operation.x, operation.y))
            record[layout.DX], record[layout.DY] = operation.dx, operation.dy
            record[layout.W], record[layout.B] = operation.weights, operation.bias
            record[layout.LAYER], record[layout.OPTION] = operation.layer, operation.option
            record[tables.KIND] = KINDS.get(operation.kind, tables.LOSS)
            if operation.kind == "activation":
                record[tables.CODE] = pairs.index(formulas_of(operation.functions or operation.formula))
            elif operation.kind == "metric":
                record[tables.CODE] = tables.METRIC_NAMES.index(operation.formula)
            record[tables.TRAINED] = name == "operations" and index in trained
        return upload(table), values, slopes

    def _parameters(self):
        """(the parameters as a device table, chunks of all penalties, elements of all)."""
        plan = self.plan
        table = np.zeros((len(plan.parameters) + 1, tables.PARAMETER_FIELDS), np.int64)
        own = own_penalties(plan)
        start = chunks = 0
        for record, parameter in zip(table, plan.parameters, strict=False):
            record[tables.START], record[tables.OFFSET] = start, parameter.offset
            record[tables.COLUMNS] = parameter.shape[-1]
            record[tables.OPERATION] = parameter.operation
            record[tables.ROLE] = parameter.role != "weights"
            record[tables.PENALTY], record[tables.DECAY] = parameter.penalty, parameter.decay
            record[tables.PENALTY_CODE] = -1 if parameter.own_penalty is None else own.index(parameter.own_penalty)
            record[tables.CONSTRAINT] = parameter.constraint
            if parameter.penalized:
                record[tables.LENGTH] = ceiling(parameter.size, tables.PENALTY_CHUNK)
                chunks += record[tables.LENGTH]
            start += parameter.size
        table[-1, tables.START] = start
        return upload(table), int(chunks), start

    def _program(self, rows, batch_size, room, capacity, ordered=False, weighed=False, keeps=False, seed=0, count=0):
        plan = self.plan
        program = np.zeros(tables.PROGRAM_FIELDS, np.int64)
        program[tables.OPERATIONS] = count
        program[tables.BACKWARD_FIRST] = plan.backward_first
        program[tables.METRICS] = len(plan.metrics)
        program[tables.ROWS], program[tables.BATCH_SIZE] = rows, batch_size
        program[tables.BATCHES] = ceiling(rows, batch_size)
        program[tables.CAPACITY], program[tables.BLOCK_ROWS] = capacity, room
        program[tables.INPUT_COLUMNS] = plan.inputs
        program[tables.INPUT_PLACE] = plan.columns
        program[tables.OUTPUT_PLACE] = plan.columns + plan.inputs
        program[tables.COLUMNS_OF_ALL] = plan.columns + plan.inputs + plan.outputs
        program[tables.SEED], program[tables.ELEMENTS], program[tables.CHUNKS] = seed, self.elements, self.chunks
        program[tables.ORDERED], program[tables.WEIGHED], program[tables.KEEPS] = ordered, weighed, keeps
        return program

    # Device memory that stays.

    def _buffer(self, name, shape, dtype):
        """A device array of at least this shape; the same one until it has to grow."""
        shape = (shape,) if np.isscalar(shape) else tuple(shape)
        found = self.buffers.get(name)
        if found is None or found.dtype != dtype or found.shape[0] < shape[0] or found.shape[1:] != shape[1:]:
            found = self.buffers[name] = allocate((max(1, shape[0]), *shape[1:]), dtype)
        return found

    def _put(self, name, array):
        """A host array in a buffer of its length rounded up, so that its place stays the same."""
        length = 1 << max(4, int(len(array) - 1).bit_length()) if len(array) else 16
        buffer = self._buffer(name, (length, *array.shape[1:]), array.dtype)
        if len(array):
            upload(array, buffer[: len(array)])
        return buffer

    def _order(self, order):
        """The order of the rows in a buffer of its own: graphs know its place, and it changes with the epoch."""
        if self.order is not order or "order" not in self.buffers:
            self.order = order
            self._put("order", order)
        return self.buffers["order"]

    # Running.

    @on_its_gpu
    def train(
        self, data, order, batch_size, first_batch, last_batch, rates, step, seed, workers, kept=None, tolerance=-1.0
    ):
        """Train on batches; arguments and results as those of the CPU's ``Runner.train``."""
        outside = not self.remote.resident
        if outside:
            self.remote.begin()
        self.counted = step
        try:
            found = self._guarded(
                self._train, data, order, batch_size, first_batch, last_batch, rates, step, seed, kept, tolerance
            )
            self.counted += found[1]
            return found
        finally:
            if outside:
                self.end_fit()

    def steps_done(self, step):
        """How many steps a call of ``train`` from ``step`` on has done, if an error came before it could say so."""
        return max(0, self.counted - step)

    def _guarded(self, work, *arguments):
        """``work(*arguments)``; a function of the user's own that cannot be compiled is named."""
        try:
            with quiet():
                return work(*arguments)
        except (NumbaError, CoreError, KeyError, NotImplementedError) as fault:
            own = self._own_functions()
            if not own:
                raise
            raise TypeError(
                f"{' or '.join(own)} cannot be compiled for the GPU: {reason(fault)}; expected arithmetic, "
                'comparisons and functions of math on single numbers, or model.to("cpu")'
            ) from None

    def _own_functions(self):
        """What the plan has of the user's own functions, by name."""
        plan = self.plan
        found = [repr(op.functions) for op in [*plan.operations, plan.loss] if op is not None and op.functions]
        if callable(plan.update):
            found.append(f"the optimizer's update {plan.update.__name__!r}")
        return found + ["a penalty of your own"] * bool(own_penalties(plan))

    def _train(self, data, order, batch_size, first_batch, last_batch, rates, step, seed, kept, tolerance):
        plan, count, rows = self.plan, last_batch - first_batch, len(data.inputs)
        batch_size = min(batch_size, rows)
        normed = tolerance >= 0 or plan.clip_norm < np.inf
        path = path_of(plan, batch_size)
        if path == "tiny" and normed:
            path = "narrow"
        room = block_rows(plan, batch_size, path) if path != "layered" else 0
        program = self._program(
            rows, batch_size, room, batch_size, order is not None, data.weights is not None, kept is not None, seed,
            len(plan.operations),
        )  # fmt: skip
        counters = np.zeros(tables.COUNTERS, np.int64)
        counters[[tables.ROWS_BATCH, tables.WEIGHTS_BATCH, tables.FIRST_BATCH]] = first_batch
        counters[tables.FIRST_STEP], counters[tables.GOOD] = step, count
        table, values, slopes = self._table("operations")
        arrays = {
            "operations": table,
            "program": self._put("program", program),
            "counters": self._put("counters", counters),
            "rates": self._put("rates", np.ascontiguousarray(rates, np.float64)),
            "limits": self._put("limits", np.array([plan.clip_norm, tolerance])),
            "results": self._put("results", np.zeros((count, 1 + len(plan.metrics)))),
            **self._arrays_of_rows(data, order, kept),
            **self._arrays_of_model(1 if path == "tiny" else batch_size, batch_size),
        }
        self._refresh_transposed(arrays)
        key = (path, room, batch_size, normed, seed, *map(id, arrays.values()))
        if self.replayed != key:
            upload(np.ones(1), arrays["scale"])
            self.replay, self.replayed = self._steps(path, arrays, room, batch_size, normed, values, slopes, seed), key
        self.replay.run(count)
        self.stream.handle.synchronize()
        return self._outcome(arrays, count, kept)

    def _arrays_of_rows(self, data, order, kept):
        """The device arrays of the data by name; where there is none, an array that nobody reads."""
        of = functools.partial(self.data.of, keep=True)
        return {
            "x": of(data.inputs),
            "targets": of(data.targets),
            "weights": self._buffer("no weights", 1, np.float64) if data.weights is None else of(data.weights),
            "order": self._buffer("no order", 1, np.int64) if order is None else self._order(order),
            "kept": self._buffer("kept", (1 if kept is None else len(data.inputs), self.plan.outputs), self.real),
        }

    def _arrays_of_model(self, capacity, batch_size):
        """The device arrays of the parameters and of what a step computes, by name.

        capacity : rows that the arenas of activations and derivatives have room for.
        """
        plan, remote = self.plan, self.remote
        return {
            "parameter_table": self.parameter_table,
            "options": self.options,
            "parameters": remote.parameters,
            "transposed": remote.transposed,
            "first_slot": remote.slots[0] if plan.slots > 0 else remote.none,
            "second_slot": remote.slots[1] if plan.slots > 1 else remote.none,
            "gradients": remote.gradients,
            "activations": self._buffer("activations", (plan.columns + plan.inputs) * capacity, self.real),
            "derivatives": self._buffer("derivatives", max(1, plan.derivative_columns) * capacity, self.real),
            "losses": self._buffer("losses", batch_size, self.real),
            "metrics": self._buffer("metrics", max(1, len(plan.metrics)) * batch_size, self.real),
            "penalty_terms": self._buffer("penalties", max(1, self.chunks), np.float64),
            "scale": self._buffer("scale", 1, np.float64),
            "norms": self._buffer("norms", NORM_PARTS, np.float64),
            "step": self._buffer("step", 1, np.int64),
        }

    def _outcome(self, arrays, count, kept):
        """(status, steps done, results) of a slice of ``count`` steps that has run; the host gets what it asked for."""
        counters = arrays["counters"].copy_to_host()
        done = int(counters[tables.GOOD])
        results = arrays["results"].copy_to_host()[:count]
        if kept is not None:
            kept[:] = arrays["kept"].copy_to_host()[: len(kept)]
        if self.plan.update is None:
            self.arenas.gradients[:] = self.remote.gradients.copy_to_host()
        if done == count:
            self.remote.keep_copy()
            return OK, done, results
        return CONVERGED if counters[tables.CONVERGED_THERE] else NOT_FINITE, done, results

    def _steps(self, path, arrays, room, batch_size, normed, values, slopes, seed):
        """What runs a number of steps of a slice."""
        common = self.plan, self.real, arrays, self.stream, room, batch_size, normed, values, slopes
        if path == "tiny":
            return TinySteps(*common)
        if path == "narrow":
            return Replay(NarrowSteps(*common).step, self.stream)
        return Replay(LayeredSteps(*common, remote=self.remote, seed=seed).step, self.stream)

    def _refresh_transposed(self, arrays):
        """Transpose the weights anew after the host has changed them."""
        if self.remote.stale:
            names = ("operations", "program", "parameters", "transposed")
            launch(
                narrow_kernels.transpose_kernel, MOST_BLOCKS, THREADS, self.stream, *(arrays[name] for name in names)
            )
            self.remote.stale = False

    @on_its_gpu
    def infer(self, data, outputs, workers, kept=None):
        """Predict or evaluate rows; arguments and results as those of the CPU's ``Runner.infer``."""
        self.remote.bring()
        return self._guarded(self._infer, data, outputs, kept)

    def _infer(self, data, outputs, kept):
        plan, rows = self.plan, len(data.inputs)
        path = path_of(plan, rows)
        of = functools.partial(self.data.of, keep=self.remote.resident)
        x = of(data.inputs)
        results = np.zeros((ceiling(rows, plan.block), 1 + len(plan.metrics)))
        if outputs is not None:
            found = outputs if is_on_device(outputs) else allocate((rows, plan.outputs), self.real)
            self._predict(path, x, found)
            if not is_on_device(outputs):
                outputs[:] = found.copy_to_host()
            return OK, results
        targets = of(data.targets)
        weights = self._buffer("no weights", 1, np.float64)
        if data.weights is not None:
            weights = of(data.weights)
        losses = self._buffer("row losses", rows, self.real)
        metrics = self._buffer("row metrics", max(1, len(plan.metrics)) * rows, self.real)
        kept_there = self._buffer("kept outputs", (1 if kept is None else rows, plan.outputs), self.real)
        program = self._inference_program("evaluation", rows, data.weights is not None, kept is not None)
        self._measure(path, program, x, targets, weights, losses, metrics, kept_there)
        sums = self._put("sums", results)
        kernel = narrow_kernels.sums_kernel(THREADS)
        launch(kernel, len(results), THREADS, self.stream, program, losses, metrics, plan.block, sums)
        self.stream.handle.synchronize()
        results = sums.copy_to_host()[: len(results)]
        if kept is not None:
            kept[:] = kept_there.copy_to_host()[:rows]
        return OK if np.isfinite(results[:, 0]).all() else NOT_FINITE, results

    def _inference_program(self, name, rows, weighed=False, keeps=False):
        room = block_rows(self.plan, rows, "narrow")
        count = len(getattr(self.plan, name))
        return self._put("inference", self._program(rows, rows, room, rows, False, weighed, keeps, 0, count))

    def _narrow_inference(self, name, loss, program, x, *arguments):
        """Rows forward in shared memory."""
        table, values, _ = self._table(name)
        room = block_rows(self.plan, len(x), "narrow")
        kernel = narrow_kernels.forward_kernel(self.real, values, loss)
        head = table, program, self.options, x, self._buffer("no order", 1, np.int64)
        shared = row_bytes(self.plan) * room
        launch(kernel, ceiling(len(x), room), ROW_THREADS, self.stream, *head, *arguments, shared=shared)

    def _layers_of(self, x):
        """(first row, layers that take the rows from there on) for blocks of rows that fit."""
        plan = self.plan
        capacity = min(len(x), max(1, INFERENCE_BYTES // (row_bytes(plan) or 1)))
        a = self._buffer("inference activations", (plan.columns + plan.inputs) * capacity, self.real)
        d = self._buffer("inference derivatives", max(1, plan.derivative_columns) * capacity, self.real)
        for first in range(0, len(x), capacity):
            layers = Layers(plan, self.remote, a, d, capacity, min(capacity, len(x) - first))
            layers.inputs = x[first : first + layers.rows]
            yield first, layers

    def _predict(self, path, x, outputs):
        """outputs = the predictions for the rows of x."""
        if path != "layered":
            program = self._inference_program("prediction", len(x))
            self._narrow_inference("prediction", None, program, x, self.remote.parameters, outputs)
        else:
            for first, layers in self._layers_of(x):
                layers.outputs = outputs[first : first + layers.rows]
                layers.forward(self.plan.prediction, self.stream, training=False)
        self.stream.handle.synchronize()

    def _measure(self, path, program, x, targets, weights, losses, metrics, kept):
        """The losses and the metrics of all rows, and their outputs where they are kept."""
        loss = loss_of(self.plan.loss)
        if path != "layered":
            further = targets, weights, self.remote.parameters, losses, metrics, kept
            self._narrow_inference("evaluation", loss, program, x, *further)
            return
        table, _, _ = self._table("evaluation")
        order = self._buffer("no order", 1, np.int64)
        for first, layers in self._layers_of(x):
            layers.forward(self.plan.evaluation, self.stream, training=False)
            blocks = ceiling(layers.rows, ROW_THREADS)
            rows = [array[first:] if len(array) > first else array for array in (targets, weights, losses, metrics)]
            targets_there, weights_there, losses_there, metrics_there = rows
            kept_there = kept[first:] if len(kept) > first else kept
            launch(
                evaluation_kernel(loss), blocks, ROW_THREADS, self.stream, table, program, self.options, targets_there,
                weights_there, order, layers.a, layers.d, layers.capacity, layers.rows, losses_there, metrics_there,
                kept_there,
            )  # fmt: skip
