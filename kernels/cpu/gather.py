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
    return vector(run[at.ORDER] + 8 * row, 1, np.int64)[0] if run[at.ORDER] != 0 else row


@formula
def fetch_row(run, row, width):
    """Ask for the inputs of row ``row`` of the batch, ``width`` bytes."""
    source = run[at.SOURCE] + row_number(run, row) * run[at.SOURCE_ROW_STRIDE]
    for start in range(0, width, CACHE_LINE):
        fetch(source + start)
    fetch(source + width - 1)


@functools.cache
def plan_gather(real):
    """Copy rows first .. last of the batch to INPUT (width INPUTS) and TARGET (width OUTPUTS).

    Row r of the batch is row ORDER[r] of the data, or row r where ORDER is 0. The inputs stand at SOURCE with
    the given strides, the targets at TARGET_SOURCE, row after row; what is 0 of the two is left alone.
    """

    def gather(run_address, operation_address, first, last):
        run, operation = run_record(run_address), operation_record(operation_address)
        input_bytes = operation[at.INPUTS] * item_size(real)
        target_bytes = operation[at.OUTPUTS] * item_size(real)
        ahead = FETCHED_ROWS + FETCHED_BYTES // input_bytes
        side_by_side = run[at.SOURCE] != 0 and run[at.SOURCE_COLUMN_STRIDE] == item_size(real)
        fetched = first if side_by_side else last  # the first row that is not on its way
        for row in range(first, last):
            while fetched < min(row + ahead, last):
                fetch_row(run, fetched, input_bytes)
                fetched += 1
            number = row_number(run, row)
            if run[at.SOURCE] != 0:
                source = run[at.SOURCE] + number * run[at.SOURCE_ROW_STRIDE]
                destination = run[at.INPUT] + row * input_bytes
                copy_row(destination, source, operation[at.INPUTS], run[at.SOURCE_COLUMN_STRIDE], real)
            if run[at.TARGET_SOURCE] != 0:
                source = run[at.TARGET_SOURCE] + number * target_bytes
                copy_row(run[at.TARGET] + row * target_bytes, source, operation[at.OUTPUTS], item_size(real), real)
        return OK

    return gather
