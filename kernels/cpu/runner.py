"""The host's side of the CPU engine: a plan made ready to run.

``Runner`` turns a plan (``fastnn.plan.Plan``: plain data) into the engine's records, with the addresses of
the compiled functions that its operations need, and nothing else gets compiled.
"""

from functools import cache, cached_property, partial

import numpy as np

from .. import layout as at
from ..compile_ahead import compile_ahead
from ..cores import cores
from ..jit import COMPILED, address, c_function
from ..layout import (
    OPERATION_FIELDS,
    PARAMETER_FIELDS,
    PENALTY_CHUNK,
    PIECES_UPDATE_CHUNK,
    PROGRAM_FIELDS,
    RUN_FIELDS,
    UPDATE_CHUNK,
)
from ..memory import CACHE_LINE, aligned_zeros, place_of
from ..random import shuffled_order
from . import (
    activations,
    branches,
    dense,
    dropout,
    gather,
    gemm,
    losses,
    metrics,
    parts,
    penalties,
    pieces,
    rows,
    updates,
)
from .crew import post, run_together, serve, wait
from .engine import infer, train
from .shares import by_columns, by_inputs, by_units
from .workers import new_sync

#: What a worker has at SCALE before its first step, a cache line: the factor of the gradient, and zeros.
FIRST_SCALE = np.array([1.0, *[0.0] * (CACHE_LINE // 8 - 1)])

#: What makes the function that forms the gradient of a parameter, by its role.
GRADIENTS = {"weights": dense.plan_dense_weights, "bias": dense.plan_dense_bias}


def is_relu(operation):
    """Whether an operation is the ReLU of fastnn, which a dense layer before it can form along with its sums."""
    return operation.kind == "activation" and operation.formula == "relu" and operation.functions is None


def operation_calls(operation, real, keeps_slope=False):
    """The calls that make the functions (forward, backward) of an operation of a plan; losses and metrics are some.

    keeps_slope : an activation may write its slope over its input on the way forward.
    """
    kind, formula = operation.kind, operation.formula
    if kind == "dense":
        return partial(dense.plan_dense_forward, real), partial(dense.plan_dense_backward, real)
    if kind == "dropout":
        return partial(dropout.plan_dropout_forward, real), partial(dropout.plan_dropout_backward, real)
    if kind in ("softmax", "log_softmax"):
        forward, backward = activations.kernels_of(kind)
        return partial(activations.plan_forward, forward, real), partial(activations.plan_backward, backward, real)
    if kind == "activation":
        value, slope = activations.formulas_of(operation.functions or formula)
        forward = partial(activations.plan_activation_forward, value, real)
        if keeps_slope:
            forward = partial(activations.plan_activation_forward_keeping, value, slope, real)
            slope = activations.kept_slope
        return forward, partial(activations.plan_activation_backward, slope, real)
    if kind == "fused_loss":
        return partial(losses.plan_fused_loss, getattr(losses, formula), real), None
    if kind == "row_loss":
        return partial(losses.plan_row_loss, *operation.functions.formulas, real), None
    if kind == "metric" and formula == "top_k_accuracy":
        return partial(metrics.plan_top_k_accuracy, real), None
    if kind == "metric":
        return partial(metrics.plan_metric, getattr(metrics, formula), real), None
    return partial(losses.plan_elementwise_loss, *losses.formulas_of(operation.functions or formula), real), None


def update_call(plan, real):
    """The call that makes the function that updates a parameter of the plan."""
    if callable(plan.update):
        return partial(updates.plan_own_update, plan.update, plan.slots, real)
    return partial(getattr(updates, f"plan_{plan.update}_update"), real)


class Runner:
    """A plan made ready for the CPU engine.

    plan : the plan; arenas : its arenas, with ``parameters``, ``gradients`` and ``slots`` (a list of flat
    arrays). The arenas of activations belong to the runner and grow with the batch.
    """

    def __init__(self, plan, arenas):
        self.plan, self.arenas = plan, arenas
        self.part_rows, self.turn_rows = cache(plan.part_rows), cache(plan.turn_rows)
        self.real = np.float64 if plan.dtype == "float64" else np.float32
        self.piece_count = pieces.PIECES[plan.precision]
        self.options = np.array(plan.options or [0.0], np.float64)
        self.tables: dict[str, np.ndarray] = {}
        self.fixed_programs: dict[str, np.ndarray] = {}
        self.fixed_run = None
        penalized = [parameter.size for parameter in plan.parameters if parameter.penalized]
        self.chunks = sum(-(-size // PENALTY_CHUNK) for size in penalized)
        self.gather_operation = np.zeros(OPERATION_FIELDS, np.int64)
        self.gather_operation[at.INPUTS], self.gather_operation[at.OUTPUTS] = plan.inputs, plan.target_width
        self.penalties = np.zeros(max(1, self.chunks))
        self.norms = np.zeros(max(1, sum(parameter.shape[0] for parameter in plan.parameters)))
        self.parts = np.zeros(0, self.real)
        self.branches: branches.Branches | None = None  # of the last training, if it has any
        self.norm_limits = np.array([plan.clip_norm, -1.0])
        self.capacity = self.arena_rows = self.further_columns = 0
        self.workers = self.pieces_bytes = 0
        self.marked_for = None  # what ``_mark_products`` was called for
        self.began_at = None  # the step that the last call of ``train`` began with
        #: The records of the call that runs, and their addresses.
        self.records = np.zeros(RUN_FIELDS + PROGRAM_FIELDS, np.int64)
        self.run, self.program = self.records[:RUN_FIELDS], self.records[RUN_FIELDS:]
        self.addresses = self.run.ctypes.data, self.program.ctypes.data
        #: The records of the last call of the plan's operations by their name, each with the form of that call.
        self.filled: dict[str, tuple[tuple, np.ndarray]] = {}

    # Making the records.

    def _operations(self, name):
        """(operation, forward or None, backward or None) of the plan's operations ``name``: calls that make them."""
        operations = [self.plan.loss] if name == "loss" else getattr(self.plan, name)
        previous = None
        for operation in operations:
            goes_back = name == "operations" and operation.dx >= 0
            # Nobody else reads what a dense layer hands on; a slope that looks at y alone has y in its place.
            keeps_slope = goes_back and previous == "dense" and operation.x != operation.y
            # A ReLU that goes back needs its output alone: then it may stand in place of its input.
            done = previous == "dense" and is_relu(operation) and (operation.x == operation.y or not goes_back)
            previous = operation.kind
            forward, backward = operation_calls(operation, self.real, keeps_slope)
            yield operation, None if done else forward, backward if goes_back else None

    def _compile_ahead(self, name, with_loss, longer=(), shorter=()):
        """Compile what the plan's operations ``name`` need, and what takes longer or shorter: the longest first."""

        def calls(*names):
            return [call for each in names for _, *both in self._operations(each) for call in both if call is not None]

        loss, metrics = (calls("loss"), calls("metrics")) if with_loss else ([], [])
        compile_ahead([partial(gemm.multiplication, self.real), *loss, *longer, *calls(name), *metrics, *shorter])

    def compile_training(self, batch_size, gathered):
        """Compile what every training needs, in several processes; what is left is compiled when it is first used.

        batch_size : rows of a batch; gathered : whether rows are taken in another order than they stand in.
        """
        if "operations" not in self.fixed_programs:
            longer, shorter = [train], [serve, post, wait]
            if self.plan.update is not None:
                longer.append(update_call(self.plan, self.real))
            if self.part_rows(batch_size):
                shorter += [parts.form_parts, partial(parts.plan_combine, self.real)]
            if gathered:
                shorter += [partial(gather.plan_gather, self.real), shuffled_order]
            part_rows = self.part_rows(batch_size)
            marks = self._of_pieces(part_rows or batch_size, part_rows > 0)
            if self._edges(batch_size, part_rows > 0, min(2, cores()), [mark[0] for mark in marks], True)[1]:
                shorter += [partial(dense.plan_dense_join, self.real), partial(gather.plan_gather, self.real)]
            if np.any(marks):
                longer.append(partial(pieces.multiplication, self.piece_count))
            roles = dict.fromkeys(parameter.role for parameter in self.plan.parameters)
            shorter += [partial(GRADIENTS[role], self.real) for role in roles]
            self._compile_ahead("operations", True, longer, shorter)

    def _table(self, name):
        """The records of the plan's operations ``name``, made when they are first needed.

        Only what runs gets compiled: a fit needs no prediction, and a prediction nothing that goes backward.
        """
        if name not in self.tables:
            operations = list(self._operations(name))
            table = np.zeros((len(operations), OPERATION_FIELDS), np.int64)
            for number, (operation, forward, backward) in enumerate(operations):
                record = table[number]
                if forward is None:
                    table[number - 1, [at.RECTIFIED, at.Y]] = 1, operation.y
                else:
                    record[at.FORWARD] = address(forward())
                if backward is not None:
                    record[at.BACKWARD] = address(backward())
                record[at.INPUTS], record[at.OUTPUTS] = operation.inputs, operation.outputs
                record[at.X], record[at.Y] = operation.x, operation.y
                record[at.DX], record[at.DY] = operation.dx, operation.dy
                record[at.W], record[at.B] = operation.weights, operation.bias
                record[at.LAYER], record[at.OPTION] = operation.layer, operation.option
                record[at.DEPTH] = operation.depth
            self.tables[name] = table
        return self.tables[name]

    @cached_property
    def parameters(self):
        """The records of the plan's parameters, made for the first training."""
        plan, real = self.plan, self.real
        update = address(update_call(plan, real)()) if plan.update is not None else 0
        norms = chunks = 0
        table = np.zeros((len(plan.parameters), PARAMETER_FIELDS), np.int64)
        for record, parameter in zip(table, plan.parameters, strict=True):
            record[at.GRADIENT] = address(GRADIENTS[parameter.role](real))
            record[at.UPDATE] = update
            record[at.OFFSET] = parameter.offset
            record[at.LENGTH] = parameter.shape[0]
            record[at.COLUMNS] = parameter.shape[1] if len(parameter.shape) > 1 else 1
            record[at.OPERATION] = parameter.operation
            record[at.PENALTY] = parameter.penalty
            record[at.DECAY] = parameter.decay
            record[at.FIRST_NORM] = norms
            norms += parameter.shape[0]
            if parameter.own_penalty is not None:
                value, slope = parameter.own_penalty
                record[at.PENALTY_VALUE] = address(penalties.plan_own_penalty(value, real))
                record[at.PENALTY_SLOPE] = address(penalties.plan_own_penalty_slope(slope, real))
            elif parameter.penalty >= 0:
                record[at.PENALTY_VALUE] = address(penalties.plan_penalty(real))
            if record[at.PENALTY_VALUE] != 0:
                record[at.FIRST_CHUNK] = chunks
                chunks += -(-parameter.size // PENALTY_CHUNK)
            if parameter.constraint >= 0 and update != 0:  # without an update the weights stay as they are
                record[at.CONSTRAINT] = address(penalties.plan_max_norm(real))
                record[at.CONSTRAINT_OPTION] = parameter.constraint
        return table

    def _of_pieces(self, rows, parts):
        """``pieces.of_pieces`` for each operation of a training."""
        return [
            pieces.of_pieces(each.inputs, each.outputs, rows, self.real, parts)
            if each.kind == "dense"
            else (False, False)
            for each in self.plan.operations
        ]

    def _mark_products(self, rows, parts, workers):
        """Say in the records of the operations how the products of batches, or parts, of so many rows are formed: of
        pieces or not, and by rows or by columns.

        Returns the bytes of a worker's room for products of pieces, 0 where there are none.
        """
        if self.marked_for != (rows, parts, workers):
            self.marked_for = None  # Ctrl-C may end this anywhere
            marks, room, table = self._of_pieces(rows, parts), 0, self._table("operations")
            table[:, [at.OF_PIECES, at.DW_OF_PIECES]] = marks
            table[:, [at.Y_COLUMNS, at.DX_COLUMNS]] = 0
            for record, each, (with_W, of_dW) in zip(table, self.plan.operations, marks, strict=True):
                if with_W or of_dW:
                    kept_rows = rows if of_dW else 0
                    room = max(room, pieces.room_bytes(kept_rows, each.inputs, each.outputs, self.piece_count))
                if each.kind == "dense" and not parts:
                    if by_columns(each.inputs, each.outputs, rows, workers):
                        record[at.Y_COLUMNS] = each.outputs
                    if by_columns(each.outputs, each.inputs, rows, workers) and each.dx >= 0:
                        record[at.DX_COLUMNS] = each.inputs
            self.bytes_of_pieces = room
            self.marked_for = rows, parts, workers
        return self.bytes_of_pieces

    def _edges(self, rows, parts, workers, of_pieces, many):
        """(join, edges) of the branches of a training, as ``Branches`` takes them; where there are none, no edges.

        of_pieces : of each operation, whether its product with W is formed so; many : whether there are as many steps
        as branches with copies take; the other arguments as for ``_mark_products``. (Plain NumPy has no branches.)
        """
        first, join = self.plan.operations[0], self.plan.join
        if parts or workers == 1 or first.kind != "dense" or not COMPILED:
            return 0, []
        block = self._depth_of_blocks(first.inputs, first.outputs, of_pieces[0])
        if by_inputs(first.inputs, first.outputs, rows, workers, block):
            return 0, [*range(0, first.inputs, block), first.inputs]
        if join > 0 and many and by_units(first.inputs, rows, workers):
            second = self.plan.operations[join]
            uninterrupted = self._depth_of_blocks(second.depth, second.outputs, of_pieces[join]) == second.depth
            if uninterrupted and second.outputs <= UPDATE_CHUNK:  # no gradient goes to the arena: copies have no place
                return join, [0, second.depth, second.inputs]
        return 0, []

    def _depth_of_blocks(self, depth, columns, of_pieces):
        """Products that are summed at once in a product with W, of so many inputs and units."""
        if of_pieces:
            return pieces.depth_of_blocks(depth, False, True)
        return gemm.depth_of_blocks(depth, gemm.evicts_itself(self.plan.item_size * columns, 1), True)

    def _reserve(self, capacity, workers, part_count, arena_rows, pieces_bytes=0, further_columns=0):
        """Make room for batches of ``capacity`` rows, of which ``arena_rows`` are in the arenas at a time, ``workers``
        workers, the gradients of ``part_count`` parts, matrices in pieces, and so many columns of activations more than
        the plan has.
        """
        plan = self.plan
        if part_count * plan.length > len(self.parts):
            self._forget_places()
            self.parts = aligned_zeros(part_count * plan.length, self.real)
        more_room = workers > self.workers or pieces_bytes > self.pieces_bytes
        if capacity > self.capacity or more_room:
            self._forget_places()
        if arena_rows > self.arena_rows or further_columns > self.further_columns:
            self._forget_places()
            arena_rows, columns = max(arena_rows, self.arena_rows), max(further_columns, self.further_columns)
            self.activations = aligned_zeros((plan.columns + columns) * arena_rows, self.real)
            self.derivatives = aligned_zeros(plan.derivative_columns * arena_rows, self.real)
            # Now that all is there: Ctrl-C may end this anywhere.
            self.arena_rows, self.further_columns = arena_rows, columns
        if capacity > self.capacity:
            self.inputs = aligned_zeros(plan.inputs * capacity, self.real)
            self.targets = aligned_zeros(plan.target_width * capacity, self.real)
            self.row_losses = np.zeros(capacity)
            self.row_metrics = np.zeros(capacity * max(1, len(plan.metrics)))
            self.capacity = capacity
        if more_room:
            workers, pieces_bytes = max(workers, self.workers), max(pieces_bytes, self.pieces_bytes)
            self.scales = aligned_zeros(workers * CACHE_LINE // 8, np.float64).reshape(workers, -1)  # a line for each
            self.workspace = gemm.workspace(self.real, workers, pieces_bytes, self.piece_count).reshape(workers, -1)
            self.gradient_rooms = aligned_zeros(workers * PIECES_UPDATE_CHUNK, self.real).reshape(workers, -1)
            self.workers, self.pieces_bytes = workers, pieces_bytes

    def _forget_places(self):
        """Records that point to rooms are made anew."""
        self.fixed_run = None
        self.filled.clear()

    def _fixed_run_record(self):
        """What is the same in the run records of all calls, until more room is made."""
        run = np.zeros(RUN_FIELDS, np.int64)
        arenas = self.arenas
        run[at.PARAMETERS] = arenas.parameters.ctypes.data
        run[at.GRADIENTS] = arenas.gradients.ctypes.data
        for field, slot in zip((at.FIRST_SLOT, at.SECOND_SLOT), arenas.slots, strict=False):
            run[field] = slot.ctypes.data
        run[at.ACTIVATIONS] = self.activations.ctypes.data
        run[at.DERIVATIVES] = self.derivatives.ctypes.data
        run[at.ARENA_ROWS], run[at.CAPACITY] = self.arena_rows, self.capacity
        run[at.INPUT], run[at.TARGET] = self.inputs.ctypes.data, self.targets.ctypes.data
        run[at.LOSSES], run[at.METRICS] = self.row_losses.ctypes.data, self.row_metrics.ctypes.data
        run[at.OPTIONS] = self.options.ctypes.data
        run[at.PENALTIES] = self.penalties.ctypes.data
        run[at.NORMS] = self.norms.ctypes.data
        run[at.SCALE] = self.scales.ctypes.data
        run[at.WORKSPACE] = self.workspace.ctypes.data
        run[at.GRADIENT_ROOM] = self.gradient_rooms.ctypes.data
        run[at.PARTS], run[at.PART_LENGTH] = self.parts.ctypes.data, self.plan.length
        return run

    def _run_record(self, data):
        """The run record of calls on ``data`` and other arrays of its form, at step 0 with the seed 0."""
        if self.fixed_run is None:
            self.fixed_run = self._fixed_run_record()
        run = self.fixed_run.copy()
        run[at.SOURCE_ROW_STRIDE], run[at.SOURCE_COLUMN_STRIDE] = data.inputs.strides
        return run

    def _point(self, run, data, kept):
        """Put the addresses of the arrays of one call into its run record."""
        run[at.SOURCE], run[at.TARGET_SOURCE], run[at.WEIGHTS] = data.addresses
        run[at.KEPT] = 0 if kept is None else kept.ctypes.data

    def _fixed_program(self, name, with_loss):
        """What is the same in all programs of the plan's operations ``name``."""
        plan, item = self.plan, np.dtype(self.real).itemsize
        program = np.zeros(PROGRAM_FIELDS, np.int64)
        operations = self._table(name)
        program[at.OPERATIONS] = operations.ctypes.data
        program[at.OPERATION_COUNT] = len(operations)
        program[at.BACKWARD_FIRST] = plan.backward_first
        if name == "operations":
            program[at.PARAMETER_RECORDS] = self.parameters.ctypes.data
            program[at.PARAMETER_COUNT] = len(self.parameters)
            program[at.CONSTRAINED] = any(self.parameters[:, at.CONSTRAINT])
        program[at.GATHER_OPERATION] = self.gather_operation.ctypes.data
        program[at.INPUT_ROW_BYTES] = item * plan.inputs
        program[at.TARGET_ROW_BYTES] = item * plan.target_width
        program[at.OUTPUT_ROW_BYTES] = item * plan.outputs
        program[at.ITEM_BYTES] = item
        program[at.BLOCK] = plan.block
        program[at.PENALTY_CHUNKS] = self.chunks
        if with_loss:
            program[at.LOSS] = self._table("loss").ctypes.data
            program[at.METRIC_OPERATIONS] = self._table("metrics").ctypes.data
            program[at.METRIC_COUNT] = len(plan.metrics)
        return program

    def _make_records(self, name, data, kept, with_loss=True, gathered=False):
        """Make the records of the next call those of the plan's operations ``name`` on ``data``."""
        if name not in self.fixed_programs:
            self.fixed_programs[name] = self._fixed_program(name, with_loss)
        program = self.program
        self.run[:], program[:] = self._run_record(data), self.fixed_programs[name]
        program[at.ROWS] = len(data.inputs)
        if with_loss and data.weights is not None:
            program[at.WEIGH] = address(rows.plan_weigh_rows(self.real))
        if kept is not None:
            program[at.KEEP] = address(rows.plan_keep_rows(self.real))
        item = data.inputs.itemsize
        if gathered or data.inputs.strides != (item * self.plan.inputs, item):
            program[at.GATHER] = address(gather.plan_gather(self.real))

    def _recall(self, name, form):
        """Make the records of the next call those of the last one of the plan's operations ``name``, but for what each
        call puts there, if that was of the same ``form``; else say that they have to be made anew.
        """
        known, records = self.filled.get(name, (None, None))
        if form != known:
            self.filled.pop(name, None)  # Ctrl-C may end the making anywhere
            return False
        self.records[:] = records
        return True

    # Running.

    def forget(self):
        """Until the next training ``has_changed`` says no."""
        self.program[at.BEGUN] = 0

    def has_changed(self):
        """Whether the last training, if it saved what it changes, has begun to change it."""
        return self.program[at.BEGUN] != 0

    def train(
        self,
        data,
        order,
        batch_size,
        first_batch,
        last_batch,
        rates,
        step,
        seed,
        workers,
        kept=None,
        tolerance=-1.0,
        saved=None,
    ):
        """Train on batches ``first_batch`` to ``last_batch`` of ``data``; returns (status, steps done, results).

        step : steps done before, over the model's life; results : (batches, 1 + metrics), the means of each; the other
        arguments : as in ``prepare``.
        """
        results = np.zeros((last_batch - first_batch, 1 + len(self.plan.metrics)))
        batches = batch_size, first_batch, last_batch
        self.began_at = None
        self.prepare(data, order, batches, rates, results, workers, kept, tolerance, saved)
        self.run[at.STEP], self.run[at.SEED] = step, seed
        self.began_at = step
        status = self._call(train, workers)
        return status, int(self.run[at.STEP]) - step, results

    def steps_done(self, step):
        """How many steps a call of ``train`` from ``step`` on has done, if an error came before it could say so."""
        return int(self.run[at.STEP]) - step if self.began_at == step else 0

    def prepare(self, data, order, batches, rates, results, workers, kept=None, tolerance=-1.0, saved=None, look=False):
        """Make the records of the next call those of a training, at step 0 with the seed 0.

        order : row numbers (int64), epoch after epoch, or None: as they stand; batches : (rows of a batch, the first
        batch, the one after the last); rates : the learning rate of each; results : (batches, 1 + metrics), gets the
        means of each; kept : (rows, outputs), gets the outputs in the order in which the epoch took the rows, or None;
        tolerance : the gradient's norm that ends the training; saved : (1 + slots, length), gets the parameters and the
        slots of before, a share from each worker, or None; look : end with the status NOT_FINITE where an input is
        infinite or not a number.
        """
        batch_size, first_batch, last_batch = batches
        many = self.plan.join > 0 and tolerance < 0 and last_batch - first_batch >= branches.LEAST_STEPS
        form = data.form, kept is None, order is None, batch_size, workers, tolerance >= 0, look, many
        if not self._recall("operations", form):
            self._make_training_records(data, order, batch_size, workers, kept, tolerance, look, many)
            self.filled["operations"] = form, self.records.copy()
        run, program = self.run, self.program
        self._point(run, data, kept)
        self.norm_limits[1] = tolerance
        program[at.ROW_ORDER] = 0 if order is None else place_of(order)
        program[at.FIRST_BATCH], program[at.LAST_BATCH] = first_batch, last_batch
        program[at.RATES], program[at.RESULTS] = place_of(rates), place_of(results)
        if saved is not None:
            program[at.SAVED] = place_of(saved)
            program[at.ARENA_LINES] = saved.strides[0] // CACHE_LINE

    def _make_training_records(self, data, order, batch_size, workers, kept, tolerance, look, many):
        """Make the records what they are in all trainings of one form, and the room that these need."""
        plan, real = self.plan, self.real
        capacity, part_rows = min(batch_size, len(data.inputs)), self.part_rows(batch_size)
        turn_rows = self.turn_rows(batch_size, workers)
        part_count = -(-capacity // part_rows) if part_rows else 0
        pieces_bytes = self._mark_products(part_rows or batch_size, part_rows > 0, workers)
        table = self._table("operations")
        join, edges = self._edges(batch_size, part_rows > 0, workers, table[:, at.OF_PIECES], many)
        columns = max(0, len(edges) - 2) * plan.operations[join].outputs
        self._reserve(capacity, workers, part_count, turn_rows * workers or capacity, pieces_bytes, columns)
        self._make_records("operations", data, kept, gathered=order is not None or len(edges) > 0)
        run, program = self.run, self.program
        if look:
            program[at.LOOK] = address(rows.plan_look_at_rows(real))
        if tolerance >= 0 or plan.clip_norm < np.inf:
            program[at.NORM] = address(penalties.plan_squared_norms(real))
            program[at.NORM_COUNT] = len(self.norms)
            program[at.NORM_LIMITS] = self.norm_limits.ctypes.data
        program[at.BATCH_SIZE], run[at.PART_ROWS] = batch_size, max(1, part_rows)
        if part_rows:
            program[at.FORM_PARTS] = address(parts.form_parts)
            program[at.COMBINE] = address(parts.plan_combine(real))
            program[at.TURN_ROWS] = turn_rows
        self.branches = None
        if edges:
            places = table, self.parameters, self.inputs
            self.branches = branches.Branches(plan, real, program, *places, join, edges, capacity)
            self.branches.put_into(program)
            table = self.branches.operations
        if table[:, [at.Y_COLUMNS, at.DX_COLUMNS]].any():  # one block, in which all workers meet
            program[at.BLOCK] = capacity

    def rooms(self):
        """What prepared records point to, beside their call's own arrays: they are valid while this stays the same."""
        return self.fixed_run, self.marked_for, self.branches

    def train_prepared(self, workers):
        """Train as ``records`` say, which somebody has put there; returns the status."""
        self.norm_limits[1] = -1.0
        return self._call(train, workers)

    def infer(self, data, outputs, workers, kept=None, look=False):
        """Predict all rows of ``data`` into ``outputs``, or evaluate them where ``outputs`` is None.

        kept : (rows, outputs), gets the outputs of an evaluation, or None; look : end with the status NOT_FINITE where
        an input is infinite or not a number.
        Returns (status, results), results : (blocks, 1 + metrics), sums over each ``plan.block`` of the rows.
        """
        evaluating = outputs is None
        name = "evaluation" if evaluating else "prediction"
        blocks = -(-len(data.inputs) // self.plan.block)
        workers = max(1, min(workers, blocks))
        if name not in self.fixed_programs:
            shorter = [serve, post, wait] if workers > 1 else []
            if look:
                shorter.append(partial(rows.plan_look_at_rows, self.real))
            self._compile_ahead(name, evaluating, [infer], shorter)
        form = data.form, kept is None, workers
        if not self._recall(name, form):
            capacity = workers * min(self.plan.block, len(data.inputs))
            self._reserve(capacity, workers, 0, capacity)
            self._make_records(name, data, kept, evaluating)
            self.filled[name] = form, self.records.copy()
        self._point(self.run, data, kept)
        results = np.zeros((blocks, 1 + len(self.plan.metrics)))
        self.program[at.RESULTS] = place_of(results)
        self.run[at.OUTPUT] = 0 if evaluating else outputs.ctypes.data
        if look:
            self.program[at.LOOK] = address(rows.plan_look_at_rows(self.real))
        return self._call(infer, workers), results

    def inference_state(self):
        """(state, activations) for ``inference.predict_into``: an array of integers, and the memory that it points to.

        The parameters belong to the runner's arenas, which must live as long.
        """
        plan, rows = self.plan, self.plan.block
        self._reserve(1, 1, 0, 1)
        run, program = self._fixed_run_record(), self._fixed_program("prediction", False)
        memory = aligned_zeros(plan.columns * rows, self.real), gemm.workspace(self.real), self.options
        run[at.ACTIVATIONS], run[at.WORKSPACE] = memory[0].ctypes.data, memory[1].ctypes.data
        run[at.ARENA_ROWS] = run[at.CAPACITY] = rows
        return np.concatenate([run, program]), (*memory, self._table("prediction"))

    def _call(self, function, size):
        """Call ``function(run, program, rank, size)`` as ``size`` workers, or as one where there are no threads to be
        had; returns the status. The first worker has ``run`` itself.
        """
        run, program = self.run, self.program
        self.scales[:] = FIRST_SCALE
        if size > 1:
            sync = new_sync(size)
            program[at.SYNC] = place_of(sync)
            runs = [run, *(run.copy() for _ in range(1, size))]
            for rank, record in enumerate(runs):
                record[at.WORKSPACE] += rank * self.workspace.strides[0]
                record[at.SCALE] += rank * self.scales.strides[0]
                record[at.GRADIENT_ROOM] += rank * self.gradient_rooms.strides[0]
            status = run_together(function, runs, program, sync)
            if status is not None:
                return status
        return c_function(function)(*self.addresses, 0, 1)
