"""Collect the rows of a batch from wherever the data stands."""

import functools

import numpy as np

from .. import layout as at
from ..jit import formula
from ..layout import OK, operation_record, run_record
from ..memory import CACHE_LINE, fetch, item_size, vector


@formula
def copy_row(destination, source, width, stride, real):
    """Copy ``width`` numbers of type ``real``, ``stride`` bytes apart, to one place after another."""
    to = vector(destination, width, real)
    if stride == item_size(real):
        row = vector(source, width, real)
        for column in range(width):
            to[column] = row[column]
    else:
        for column in range(width):
            to[column] = vector(source + column * stride, 1, real)[0]


#: Rows that are on their way from memory while those before them are copied, and bytes of further ones: rows in no
#: order are beyond what a processor foresees.
FETCHED_ROWS, FETCHED_BYTES = 3, 1024


@formula
def row_number(run, row):
    """The place in the data of row ``row`` of the batch."""
    return vector(run[at.ORDER] + 8 * row, 1, np.int64)[0] if run[at.ORDER] != 0 else run[at.FIRST_ROW] + row


@formula
def source_of_row(run, row):
    """Where the inputs of row ``row`` of the batch stand in the data."""
    return run[at.SOURCE] + row_number(run, row) * run[at.SOURCE_ROW_STRIDE]


@formula
def copy_inputs(run, first, last, width, real):
    """Copy the ``width`` inputs of rows ``first`` to ``last`` of the batch to INPUT."""
    row_bytes = width * item_size(real)
    ahead = FETCHED_ROWS + FETCHED_BYTES // row_bytes
    side_by_side = run[at.SOURCE_COLUMN_STRIDE] == item_size(real)
    fetched = first if side_by_side else last  # the first row that is not on its way
    for row in range(first, last):
        while fetched < min(row + ahead, last):
            source = source_of_row(run, fetched)
            for start in range(0, row_bytes, CACHE_LINE):
                fetch(source + start)
            fetch(source + row_bytes - 1)
            fetched += 1
        copy_row(run[at.INPUT] + row * row_bytes, source_of_row(run, row), width, run[at.SOURCE_COLUMN_STRIDE], real)


@functools.cache
def plan_gather(real):
    """Copy rows first .. last of the batch to INPUT (width INPUTS) and TARGET (width OUTPUTS).

    Row r of the batch is row ORDER[r] of the data, or where ORDER is 0 row FIRST_ROW + r. The inputs stand at SOURCE
    with the given strides, the targets at TARGET_SOURCE, row after row; what is 0 of the two is left alone.
    """

    def gather(run_address, operation_address, first, last):
        run, operation = run_record(run_address), operation_record(operation_address)
        width, item = operation[at.OUTPUTS], item_size(real)
        if run[at.SOURCE] != 0:
            copy_inputs(run, first, last, operation[at.INPUTS], real)
        if run[at.TARGET_SOURCE] != 0:
            for row in range(first, last):
                source = run[at.TARGET_SOURCE] + row_number(run, row) * width * item
                copy_row(run[at.TARGET] + row * width * item, source, width, item, real)
        return OK

    return gather
