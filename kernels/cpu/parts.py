"""Gradients of parts of a batch: where a network is small beside its batch, each worker sums over its own rows.

The gradient of a parameter is a sum over all rows. Formed by one worker, it needs what the others computed for their
rows, which is in the caches of their cores. So the rows are cut into parts, whose number depends on nothing but the
plan and the batch; a worker takes whole parts and forms their gradients, and then only these few numbers are read by
others, who add them up in the parts' order. The bits are the same for any number of workers.
"""

import functools

from .. import layout as at
from ..layout import FIELD_BYTES, OK, OPERATION_FIELDS, PARAMETER_FIELDS, parameter_record, program_record, run_record
from ..memory import call, item_size
from .gemm import column_sums


def form_parts(run_address, program_address, first, last):
    """Form the gradient of every parameter over each of the parts that rows ``first`` to ``last`` of the batch are."""
    run, program = run_record(run_address), program_record(program_address)
    arena, part_rows, status = run[at.GRADIENTS], run[at.PART_ROWS], OK
    for row in range(first, last, part_rows):
        run[at.SUMMED_FIRST], run[at.SUMMED_ROWS], run[at.DY_IN_PIECES] = row, min(part_rows, last - row), 0
        run[at.GRADIENTS] = run[at.PARTS] + program[at.ITEM_BYTES] * run[at.PART_LENGTH] * (row // part_rows)
        for index in range(program[at.PARAMETER_COUNT]):
            parameter = parameter_record(program[at.PARAMETER_RECORDS] + FIELD_BYTES * PARAMETER_FIELDS * index)
            operation = program[at.OPERATIONS] + FIELD_BYTES * OPERATION_FIELDS * parameter[at.OPERATION]
            if status == OK:
                status = call(parameter[at.GRADIENT], run_address, operation, 0, parameter[at.LENGTH])
    run[at.GRADIENTS] = arena
    return status


@functools.cache
def plan_combine(real):
    """Elements ``first`` to ``last`` of a parameter's gradient, the sum over the parts of the batch, for a plan."""

    def combine(run_address, parameter_address, first, last):
        run, parameter = run_record(run_address), parameter_record(parameter_address)
        place = item_size(real) * (parameter[at.OFFSET] + first)
        parts = (run[at.BATCH_ROWS] + run[at.PART_ROWS] - 1) // run[at.PART_ROWS]
        column_sums(run[at.GRADIENTS] + place, run[at.PARTS] + place, run[at.PART_LENGTH], parts, last - first, real)
        return OK

    return combine
