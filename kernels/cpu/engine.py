"""The engine: training and inference on a plan, one compiled program for every architecture.

Every worker runs the same function with its own ``rank`` of ``size``. A training step has two phases:

* **rows**: the worker takes its share of the batch's rows forward through all operations, through the
  loss and backward again. Rows do not depend on each other, so nobody waits. (But of large layers the workers may share
  the columns, not the rows, and the first layers may be cut into branches; then they meet: ``shares.py``.)
* **weights**: after a barrier, it forms its share of the gradient of every parameter over the whole
  batch, and updates it. After another barrier the next batch begins. Where the network is small beside the batch,
  the sums over parts of the batch have been formed in the first phase (``parts.py``), and are only added.

What needs the whole gradient (its norm) or whole columns of the new weights (max-norm) costs one barrier more.

Every number is summed in an order that does not depend on ``size``: the bits are the same
for any number of workers.
"""

import numpy as np

from .. import layout as at
from ..formulas.elementary import not_finite
from ..jit import formula, kernel
from ..layout import (
    CONVERGED,
    FIELD_BYTES,
    NOT_FINITE,
    OK,
    OPERATION_FIELDS,
    PARAMETER_FIELDS,
    PENALTY_CHUNK,
    UPDATE_CHUNK,
    operation_record,
    parameter_record,
    program_record,
    run_record,
    share,
    update_rows,
)
from ..memory import CACHE_LINE, call, matrix, vector
from .branches import begin_branches, branch_at, end_branches, follow
from .row_functions import row_sum
from .shares import share_of_columns
from .subnormal import restore_subnormal, without_subnormal
from .workers import barrier


@kernel
def sum_in_order(address, length):
    """The sum of ``length`` float64 numbers, always in the same order, that of ``row_sum``."""
    return row_sum(matrix(address, 1, length, np.float64), 0, 0.0)


@formula
def meet(run, program, rank, size, status):
    """Wait until all workers are here; returns their common status."""
    run[at.BARRIER] += 1
    return barrier(program[at.SYNC], rank, size, run[at.BARRIER], status)


@formula
def go_through(run_address, program, operation, function, columns, first, last, rank, size, complete):
    """Call an operation's function for rows ``first`` to ``last`` or, where workers share ``columns``, for a share of
    these and all rows of the batch: then all meet before, unless these are ``complete``, and afterwards.

    Returns the status, and whether all rows of what it wrote are there.
    """
    if function == 0:
        return OK, complete
    if columns == 0:
        return call(function, run_address, operation, first, last), False
    run, status = run_record(run_address), OK
    if not complete:
        status = meet(run, program, rank, size, OK)
    if status == OK:
        first_column, last_column = share_of_columns(columns, rank, size)
        status = call(function, run_address, operation, first_column, last_column)
        status = meet(run, program, rank, size, status)
    return status, True


@formula
def forward_rows(run_address, program, first, last, rank, size):
    """Take rows ``first`` to ``last`` of the batch through the operations, the loss and the metrics."""
    operation = program[at.OPERATIONS]
    for function in (program[at.GATHER], program[at.LOOK]):
        if function != 0:
            status = call(function, run_address, program[at.GATHER_OPERATION], first, last)
            if status != OK:
                return status
    complete = program[at.GATHER] == 0  # what is not gathered is there
    for _ in range(program[at.OPERATION_COUNT]):
        function, columns = operation_record(operation)[at.FORWARD], operation_record(operation)[at.Y_COLUMNS]
        status, complete = go_through(
            run_address, program, operation, function, columns, first, last, rank, size, complete
        )
        if status != OK:
            return status
        operation += FIELD_BYTES * OPERATION_FIELDS
    status = OK
    if program[at.LOSS] != 0:
        for function in (operation_record(program[at.LOSS])[at.FORWARD], program[at.WEIGH], program[at.KEEP]):
            if function != 0 and status == OK:
                status = call(function, run_address, program[at.LOSS], first, last)
        metric = program[at.METRIC_OPERATIONS]
        for _ in range(program[at.METRIC_COUNT]):
            if status == OK:
                status = call(operation_record(metric)[at.FORWARD], run_address, metric, first, last)
            metric += FIELD_BYTES * OPERATION_FIELDS
    return status


@formula
def backward_rows(run_address, program, first, last, rank, size):
    """Take the derivative of the loss back through the operations, for rows ``first`` to ``last``."""
    complete = False
    for index in range(program[at.OPERATION_COUNT] - 1, program[at.BACKWARD_FIRST] - 1, -1):
        operation = program[at.OPERATIONS] + FIELD_BYTES * OPERATION_FIELDS * index
        function, columns = operation_record(operation)[at.BACKWARD], operation_record(operation)[at.DX_COLUMNS]
        status, complete = go_through(
            run_address, program, operation, function, columns, first, last, rank, size, complete
        )
        if status != OK:
            return status
    return OK


@formula
def penalty_terms(run_address, program, rank, size):
    """This worker's share of the terms of the penalty that regularizers add to the loss."""
    for index in range(program[at.PARAMETER_COUNT]):
        address = program[at.PARAMETER_RECORDS] + FIELD_BYTES * PARAMETER_FIELDS * index
        parameter = parameter_record(address)
        if parameter[at.PENALTY_VALUE] != 0:
            length = parameter[at.LENGTH] * parameter[at.COLUMNS]
            first, last = share((length + PENALTY_CHUNK - 1) // PENALTY_CHUNK, rank, size)
            if first < last:
                status = call(parameter[at.PENALTY_VALUE], run_address, address, first, last)
                if status != OK:
                    return status
    return OK


@formula
def update_weights(run_address, program, rank, size, forms, updates):
    """This worker's share of every parameter: its gradient over the whole batch, if it ``forms`` it, then its update,
    if it ``updates`` it. Where the gradient's norm is asked for, forming includes the squared norm of each row.

    A gradient that is used up at once never reaches the arena: chunk by chunk it is formed in the worker's own room,
    which stays in the cache, and the parameters are updated from there.
    """
    run = run_record(run_address)
    arena, room = run[at.GRADIENTS], run[at.GRADIENT_ROOM]
    run[at.DY_IN_PIECES], status = 0, OK
    for index in range(program[at.PARAMETER_COUNT]):
        address = program[at.PARAMETER_RECORDS] + FIELD_BYTES * PARAMETER_FIELDS * index
        parameter = parameter_record(address)
        if parameter[at.GRADIENT] == 0:
            continue
        columns = parameter[at.COLUMNS]
        operation = program[at.OPERATIONS] + FIELD_BYTES * OPERATION_FIELDS * parameter[at.OPERATION]
        # Rows that fill about a cache line, so that workers share few of them.
        together = max(1, CACHE_LINE // (program[at.ITEM_BYTES] * columns))
        first, last = share((parameter[at.LENGTH] + together - 1) // together, rank, size)
        first, last = first * together, min(last * together, parameter[at.LENGTH])
        fused = forms and updates and parameter[at.UPDATE] != 0 and columns <= UPDATE_CHUNK
        rows = parameter[at.LENGTH]
        if fused:
            rows = update_rows(last - first, columns, operation_record(operation)[at.DW_OF_PIECES])
        for start in range(first, last, rows):
            end = min(start + rows, last)
            if fused:
                run[at.GRADIENTS] = room - program[at.ITEM_BYTES] * (parameter[at.OFFSET] + start * columns)
            if forms and status == OK:
                if program[at.FORM_PARTS] != 0:
                    status = call(program[at.COMBINE], run_address, address, start * columns, end * columns)
                else:
                    status = call(parameter[at.GRADIENT], run_address, operation, start, end)
                if status == OK and parameter[at.PENALTY_SLOPE] != 0:
                    status = call(parameter[at.PENALTY_SLOPE], run_address, address, start * columns, end * columns)
                if status == OK and program[at.NORM] != 0:
                    status = call(program[at.NORM], run_address, address, start, end)
            if updates and parameter[at.UPDATE] != 0 and status == OK:
                status = call(parameter[at.UPDATE], run_address, address, start * columns, end * columns)
            run[at.GRADIENTS] = arena
    return status


@formula
def go_through_branches(run, program, direction, rank, size):
    """Take all rows of the batch through this worker's branches, ``direction`` FORWARD or BACKWARD."""
    first, last = share(program[at.BRANCH_COUNT], rank, size)
    status, rows = OK, run[at.BATCH_ROWS]
    for number in range(first, last):
        branch_run, branch_program = follow(run, branch_at(program, number))
        branch = program_record(branch_program)
        if direction == at.FORWARD:
            for function in (branch[at.GATHER], branch[at.LOOK]):
                if function != 0 and status == OK:
                    status = call(function, branch_run, branch[at.GATHER_OPERATION], 0, rows)
        count = branch[at.OPERATION_COUNT]
        for turn in range(count):
            index = turn if direction == at.FORWARD else count - 1 - turn
            operation = branch[at.OPERATIONS] + FIELD_BYTES * OPERATION_FIELDS * index
            function = operation_record(operation)[direction]
            if function != 0 and status == OK:
                status = call(function, branch_run, operation, 0, rows)
    return status


@formula
def update_all(run_address, program_address, rank, size, forms, updates):
    """``update_weights`` for this worker's branches, and for its share of what is in none."""
    program = program_record(program_address)
    first, last = share(program[at.BRANCH_COUNT], rank, size)
    status = OK
    for number in range(first, last + 1):  # one call for both: it is compiled where it is called
        run, part, part_rank, part_size = run_address, program_address, rank, size
        if number < last:
            branch = branch_at(program, number)
            run, part, part_rank, part_size = branch[at.BRANCH_RUN], branch[at.BRANCH_PROGRAM], 0, 1
        if status == OK:
            status = update_weights(run, program_record(part), part_rank, part_size, forms, updates)
    return status


@formula
def look_at_norm(run, program):
    """Set the scale that brings the gradient to the norm it is clipped to.

    Returns OK, CONVERGED where the norm says that the training has come to its end, or NOT_FINITE. All workers find
    the same.
    """
    norm = np.sqrt(sum_in_order(run[at.NORMS], program[at.NORM_COUNT]))
    limits = vector(program[at.NORM_LIMITS], 2, np.float64)
    scale = vector(run[at.SCALE], 1, np.float64)
    scale[0] = limits[0] / norm if norm > limits[0] else 1.0
    if norm <= limits[1]:
        return CONVERGED
    return NOT_FINITE if not_finite(norm) else OK


@formula
def constrain_weights(run_address, program, rank, size):
    """This worker's share of the columns of the parameters that have a constraint."""
    for index in range(program[at.PARAMETER_COUNT]):
        address = program[at.PARAMETER_RECORDS] + FIELD_BYTES * PARAMETER_FIELDS * index
        function = parameter_record(address)[at.CONSTRAINT]
        if function != 0:
            status = call(function, run_address, address, rank, size)
            if status != OK:
                return status
    return OK


@formula
def save(run, program, rank, size):
    """Copy this worker's share of the parameters and the slots to where they are saved."""
    first, last = share(program[at.ARENA_LINES], rank, size)
    length, saved = (last - first) * (CACHE_LINE // FIELD_BYTES), program[at.SAVED]
    for arena in (run[at.PARAMETERS], run[at.FIRST_SLOT], run[at.SECOND_SLOT]):
        if arena != 0:
            numbers = vector(arena + CACHE_LINE * first, length, np.int64)
            copies = vector(saved + CACHE_LINE * first, length, np.int64)
            for i in range(length):
                copies[i] = numbers[i]
            saved += CACHE_LINE * program[at.ARENA_LINES]


def train(run_address, program_address, rank, size):
    """Train on the program's batches: RESULTS gets each batch's mean loss (penalties included) and mean metrics.

    Returns OK, or why it stopped: then STEP of the run record counts the steps that were finished, and
    the weights may be those of a step half done (but for CONVERGED: then that step was not begun).
    """
    before = without_subnormal()
    begin_branches(run_record(run_address), program_record(program_address), rank, size)
    status = train_on_batches(run_address, program_address, rank, size)
    end_branches(run_record(run_address), program_record(program_address), rank, size)
    restore_subnormal(before)
    return status


@formula
def train_on_batches(run_address, program_address, rank, size):
    """The same, with subnormal numbers as the calling thread takes them."""
    run, program = run_record(run_address), program_record(program_address)
    first_batch, last_batch = program[at.FIRST_BATCH], program[at.LAST_BATCH]
    results = matrix(program[at.RESULTS], last_batch - first_batch, 1 + program[at.METRIC_COUNT], np.float64)
    kept = run[at.KEPT]
    batches = (program[at.ROWS] + program[at.BATCH_SIZE] - 1) // program[at.BATCH_SIZE]
    run[at.BARRIER] = 0
    if program[at.SAVED] != 0:
        save(run, program, rank, size)
    for batch in range(first_batch, last_batch):
        start = batch % batches * program[at.BATCH_SIZE]
        rows = min(program[at.BATCH_SIZE], program[at.ROWS] - start)
        run[at.BATCH_ROWS] = rows
        run[at.RATE] = program[at.RATES] + FIELD_BYTES * (batch - first_batch)
        if program[at.ROW_ORDER] != 0:
            run[at.ORDER] = program[at.ROW_ORDER] + FIELD_BYTES * (batch // batches * program[at.ROWS] + start)
        else:
            locate(run, program, start)
        run[at.KEPT] = kept + start * program[at.OUTPUT_ROW_BYTES]

        run[at.SUMMED_FIRST], run[at.SUMMED_ROWS], part_rows = 0, rows, run[at.PART_ROWS]
        first, last = share((rows + part_rows - 1) // part_rows, rank, size)  # parts, or rows
        status = OK
        if program[at.BRANCH_COUNT] != 0:
            status = go_through_branches(run, program, at.FORWARD, rank, size)
            status = meet(run, program, rank, size, status)
        # Blocks of about equal height: few rows left over would read all weights for themselves.
        blocks = max(1, (part_rows * (last - first) + program[at.BLOCK] // 2) // program[at.BLOCK])
        for number_of_block in range(blocks):
            start_of_block, end_of_block = share(last - first, number_of_block, blocks)
            block, end = part_rows * (first + start_of_block), min(part_rows * (first + end_of_block), rows)
            if program[at.TURN_ROWS] != 0:  # of a block only its gradients stay, and the next one gets its places
                run[at.ROWS_BEFORE] = block - rank * program[at.TURN_ROWS]
            if status == OK:
                status = forward_rows(run_address, program, block, end, rank, size)
            if status == OK:
                status = backward_rows(run_address, program, block, end, rank, size)
            if status == OK and program[at.FORM_PARTS] != 0:
                status = call(program[at.FORM_PARTS], run_address, program_address, block, end)
        if program[at.PENALTY_CHUNKS] > 0 and status == OK:
            status = penalty_terms(run_address, program, rank, size)

        status = meet(run, program, rank, size, status)
        if status != OK:
            return status
        if program[at.SAVED] != 0:
            program[at.BEGUN] = 1
        if rank == 0:
            penalty = sum_in_order(run[at.PENALTIES], program[at.PENALTY_CHUNKS])
            results[batch - first_batch, 0] = sum_in_order(run[at.LOSSES], rows) / rows + penalty
            for metric in range(program[at.METRIC_COUNT]):
                values = run[at.METRICS] + FIELD_BYTES * metric * run[at.CAPACITY]
                results[batch - first_batch, 1 + metric] = sum_in_order(values, rows) / rows
        status = go_through_branches(run, program, at.BACKWARD, rank, size)
        if status == OK:
            status = update_all(run_address, program_address, rank, size, True, program[at.NORM] == 0)

        status = meet(run, program, rank, size, status)
        if program[at.NORM] != 0 and status == OK:
            status = look_at_norm(run, program)
            if status == OK:
                status = update_all(run_address, program_address, rank, size, False, True)
                status = meet(run, program, rank, size, status)
        if program[at.CONSTRAINED] != 0 and status == OK:
            status = constrain_weights(run_address, program, rank, size)
            status = meet(run, program, rank, size, status)
        if status != OK:
            return status
        run[at.STEP] += 1
    return OK


@formula
def locate(run, program, row):
    """Point the run record at the data from ``row`` on, for data that is read in the order it stands."""
    run[at.FIRST_ROW] = row
    if program[at.GATHER] == 0:
        run[at.INPUT] = run[at.SOURCE] + row * program[at.INPUT_ROW_BYTES]
        if run[at.TARGET_SOURCE] != 0:
            run[at.TARGET] = run[at.TARGET_SOURCE] + row * program[at.TARGET_ROW_BYTES]


def infer(run_address, program_address, rank, size):
    """Take all rows forward, block by block: to predict them or, with a loss, to evaluate them.

    With a loss, RESULTS gets the sums over each block of the losses and the metrics. A worker has the arenas' rows
    from ``rank * BLOCK`` to itself and its own blocks, so nobody waits.
    """
    run, program = run_record(run_address), program_record(program_address)
    blocks = (program[at.ROWS] + program[at.BLOCK] - 1) // program[at.BLOCK]
    results = matrix(program[at.RESULTS], blocks, 1 + program[at.METRIC_COUNT], np.float64)
    output, kept, own = run[at.OUTPUT], run[at.KEPT], rank * program[at.BLOCK]
    first, last = share(blocks, rank, size)
    for block in range(first, last):
        start = block * program[at.BLOCK]
        rows = min(program[at.BLOCK], program[at.ROWS] - start)
        run[at.BATCH_ROWS] = rows
        locate(run, program, start - own)
        run[at.OUTPUT] = output + (start - own) * program[at.OUTPUT_ROW_BYTES]
        run[at.KEPT] = kept + (start - own) * program[at.OUTPUT_ROW_BYTES]
        status = forward_rows(run_address, program, own, own + rows, 0, 1)
        if status != OK:
            return status
        if program[at.LOSS] != 0:
            results[block, 0] = sum_in_order(run[at.LOSSES] + FIELD_BYTES * own, rows)
            for metric in range(program[at.METRIC_COUNT]):
                values = run[at.METRICS] + FIELD_BYTES * (metric * run[at.CAPACITY] + own)
                results[block, 1 + metric] = sum_in_order(values, rows)
    return OK
