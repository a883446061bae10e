"""Gradients of parts of a batch: where a network is small beside its batch, each worker sums over its own rows.

The gradient of a parameter is a sum over all rows. Formed by one worker, it needs what the others computed for their
rows, which is in the caches of their cores. So the rows are cut into parts, whose number depends on nothing but the
plan and the batch; a worker takes whole parts and forms their gradients, and then only these few numbers are read by
others, who add them up in the parts' order. The bits are the same for any number of workers.
"""

import functools

from ..layout import (
    BATCH_ROWS,
    DY_IN_PIECES,
    FIELD_BYTES,
    GRADIENT,
    GRADIENTS,
    ITEM_BYTES,
    LENGTH,
    OFFSET,
    OK,
    OPERATION,
    OPERATION_FIELDS,
    OPERATIONS,
    PARAMETER_COUNT,
    PARAMETER_FIELDS,
    PARAMETER_RECORDS,
    PART_LENGTH,
    PART_ROWS,
    PARTS,
    SUMMED_FIRST,
    SUMMED_ROWS,
    parameter_record,
    program_record,
    run_record,
)
from ..memory import call, item_size
from .gemm import column_sums

__all__ = ["form_parts", "plan_combine"]


def form_parts(run_address, program_address, first, last):
    """Form the gradient of every parameter over each of the parts that rows ``first`` to ``last`` of the batch are."""
    run, program = run_record(run_address), program_record(program_address)
    arena, part_rows, status = run[GRADIENTS], run[PART_ROWS], OK
    for row in range(first, last, part_rows):
        run[SUMMED_FIRST], run[SUMMED_ROWS], run[DY_IN_PIECES] = row, min(part_rows, last - row), 0
        run[GRADIENTS] = run[PARTS] + program[ITEM_BYTES] * run[PART_LENGTH] * (row // part_rows)
        for index in range(program[PARAMETER_COUNT]):
            parameter = parameter_record(program[PARAMETER_RECORDS] + FIELD_BYTES * PARAMETER_FIELDS * index)
            operation = program[OPERATIONS] + FIELD_BYTES * OPERATION_FIELDS * parameter[OPERATION]
            if status == OK:
                status = call(parameter[GRADIENT], run_address, operation, 0, parameter[LENGTH])
    run[GRADIENTS] = arena
    return status


@functools.cache
def plan_combine(real):
    """Elements ``first`` to ``last`` of a parameter's gradient, the sum over the parts of the batch, for a plan."""

    def combine(run_address, parameter_address, first, last):
        run, parameter = run_record(run_address), parameter_record(parameter_address)
        place = item_size(real) * (parameter[OFFSET] + first)
        parts = (run[BATCH_ROWS] + run[PART_ROWS] - 1) // run[PART_ROWS]
        column_sums(run[GRADIENTS] + place, run[PARTS] + place, run[PART_LENGTH], parts, last - first, real)
        return OK

    return combine
