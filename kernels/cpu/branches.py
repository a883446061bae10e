"""Branches: the first layers of a network cut in two, for two workers, or its first layer into more.

A worker that takes its rows through all layers reads all weights, and half of them the other one has just written: on
small networks two workers gain nothing. So, up to a dense layer in which the branches *join*, each worker takes all
rows of the batch through its own branch: the half of the first layer's units, with the activation that follows, and
the inputs of the second dense layer that come from them. Nobody else reads or writes these weights; what is exchanged
is the sums, which are added up in the join, and on the way back their derivative. From there on workers share the rows
and the weights as they always do.

Where a large first layer is itself the join, a branch has a share of the network's inputs. Its weights are rows of W,
so they lie by themselves; the columns of W that belong to units do not: a processor fetches beyond what it reads, and
takes away lines that the other one is about to write. So a worker has copies of these, and of the optimizer's numbers,
for as long as a call of the engine takes.

A branch is a program of its own (``layout.py``), of records like all others. Sums over the inputs of a join are formed
branch by branch for any number of workers, and without branches, too: the bits stay the same.
"""

import numpy as np

from .. import layout as at
from ..jit import address, formula
from ..layout import (
    BRANCH_FIELDS,
    FIELD_BYTES,
    NOWHERE,
    OPERATION_FIELDS,
    PARAMETER_FIELDS,
    PROGRAM_FIELDS,
    RUN_FIELDS,
    branch_record,
    parameter_record,
    program_record,
    run_record,
    share,
)
from ..memory import CACHE_LINE, aligned_zeros, vector
from .dense import plan_dense_join

#: Steps of a call of the engine that are worth the copies.
LEAST_STEPS = 16

#: Numbers from one branch's run record to the next: whole pairs of cache lines, which are fetched together, and a pair
#: more.
RUN_ROOM = RUN_FIELDS + -RUN_FIELDS % 16 + 16

#: The addresses of a branch's copies in its record, and what its program has from the whole training's.
OWN_ARRAYS = [at.OWN_PARAMETERS, at.OWN_FIRST_SLOT, at.OWN_SECOND_SLOT]
IN_ALL = [at.GATHER, at.LOOK, at.NORM, at.ITEM_BYTES]


@formula
def branch_at(program, number):
    """Branch ``number`` of a program."""
    return branch_record(program[at.BRANCHES] + FIELD_BYTES * BRANCH_FIELDS * number)


@formula
def begin_branches(run, program, rank, size):
    """Give this worker's branches run records like its own, and their copies of parameters and slots."""
    first, last = share(program[at.BRANCH_COUNT], rank, size)
    for number in range(first, last):
        branch = branch_at(program, number)
        own = run_record(branch[at.BRANCH_RUN])
        for field in range(RUN_FIELDS):
            own[field] = run[field]
        own[at.INPUT], own[at.TARGET_SOURCE], own[at.SUMMED_FIRST] = branch[at.BRANCH_INPUT], 0, 0
        own[at.SOURCE] += branch[at.FIRST_INPUT] * run[at.SOURCE_COLUMN_STRIDE]
        if branch[at.OWN_PARAMETERS] != 0:
            own[at.PARAMETERS] = branch[at.OWN_PARAMETERS]
            own[at.FIRST_SLOT], own[at.SECOND_SLOT] = branch[at.OWN_FIRST_SLOT], branch[at.OWN_SECOND_SLOT]
            copy_parameters(run, own, branch, True)
    if program[at.BRANCH_COUNT] != 0:
        run[at.SOURCE] = 0  # the branches gather the inputs


@formula
def end_branches(run, program, rank, size):
    """Put what this worker's branches have trained back to where it belongs."""
    first, last = share(program[at.BRANCH_COUNT], rank, size)
    for number in range(first, last):
        branch = branch_at(program, number)
        if branch[at.OWN_PARAMETERS] != 0:
            copy_parameters(run, run_record(branch[at.BRANCH_RUN]), branch, False)


@formula
def copy_parameters(run, own, branch, to_branch):
    """Copy a branch's parameters and slots from the model's arenas to its own or, unless ``to_branch``, back."""
    program = program_record(branch[at.BRANCH_PROGRAM])
    item = program[at.ITEM_BYTES]
    for index in range(program[at.PARAMETER_COUNT]):
        parameter = parameter_record(program[at.PARAMETER_RECORDS] + FIELD_BYTES * PARAMETER_FIELDS * index)
        rows, columns, home_row = parameter[at.LENGTH], parameter[at.COLUMNS], parameter[at.HOME_ROW]
        if home_row == columns:  # all of it follows one another
            rows, columns = 1, rows * columns
        for field in (at.PARAMETERS, at.FIRST_SLOT, at.SECOND_SLOT):
            if own[field] != 0:
                for row in range(rows):
                    home = run[field] + item * (parameter[at.HOME] + row * home_row)
                    place = own[field] + item * (parameter[at.OFFSET] + row * columns)
                    to, source = (place, home) if to_branch else (home, place)
                    copies = vector(to, item * columns // FIELD_BYTES, np.int64)
                    numbers = vector(source, item * columns // FIELD_BYTES, np.int64)
                    for i in range(len(copies)):
                        copies[i] = numbers[i]


@formula
def follow(run, branch):
    """Tell a branch which batch is under way; returns the addresses of its run record and of its program."""
    own = run_record(branch[at.BRANCH_RUN])
    own[at.BATCH_ROWS] = own[at.SUMMED_ROWS] = run[at.BATCH_ROWS]
    own[at.RATE], own[at.STEP] = run[at.RATE], run[at.STEP]
    own[at.ORDER], own[at.FIRST_ROW] = run[at.ORDER], run[at.FIRST_ROW]
    return branch[at.BRANCH_RUN], branch[at.BRANCH_PROGRAM]


class Branches:
    """The records of branches, of what comes after them, and the memory that these need.

    program, table, parameters : the records of a training without branches; inputs : room for those of a batch; join :
    the number of the dense operation in which the branches come together; edges : the inputs of it at which they begin,
    and the end of the last one; rows : of the largest batch. The arena of activations has room for the sums of all
    branches but the first, behind the plan's columns.
    """

    def __init__(self, plan, real, program, table, parameters, inputs, join, edges, rows):
        self.plan, self.real, self.join, self.edges = plan, real, join, edges
        count, outputs = len(edges) - 1, int(table[join, at.OUTPUTS])
        of_branches = (parameters[:, at.OPERATION] < join) | (parameters[:, at.OFFSET] == table[join, at.W])
        self.records = np.zeros((count, BRANCH_FIELDS), np.int64)
        self.runs = aligned_zeros(count * RUN_ROOM, np.int64).reshape(count, -1)
        self.programs = np.zeros((count, PROGRAM_FIELDS), np.int64)
        self.memory = []  # what else the records point to
        for number in range(count):
            operations, trained = table[: join + 1].copy(), parameters[of_branches].copy()
            own_inputs = inputs
            if join == 0:
                own_inputs = inputs[rows * edges[number] : rows * edges[number + 1]]
            elif number > 0:  # all of them for each
                own_inputs = aligned_zeros(len(inputs), real)
            operations[:, [at.Y_COLUMNS, at.DX_COLUMNS]] = 0
            operations[join, [at.B, at.RECTIFIED, at.DEPTH]] = NOWHERE, 0, 0
            if number > 0:
                operations[join, at.Y] = plan.columns + (number - 1) * outputs
            self._fill(number, program, operations, trained, own_inputs)

        self.operations, self.parameters = table[join:].copy(), parameters.copy()
        self.operations[0, at.FORWARD] = address(plan_dense_join(real))
        self.operations[0, [at.INPUTS, at.X, at.Y_COLUMNS]] = count, plan.columns, 0
        self.parameters[:, at.OPERATION] -= join
        self.parameters[of_branches, at.GRADIENT] = 0  # formed by the branches; penalties and constraints are not

    def _fill(self, number, program, operations, trained, inputs):
        """Fill in the records of a branch: ``operations`` and ``trained`` are the whole training's, still uncut."""
        first, last = self.edges[number : number + 2]
        length = (_cut_units if self.join > 0 else _cut_inputs)(operations, trained, first, last)
        copies = aligned_zeros((1 + self.plan.slots) * length, self.real).reshape(1 + self.plan.slots, -1)
        gather = np.zeros(OPERATION_FIELDS, np.int64)
        gather[at.INPUTS] = operations[0, at.INPUTS]
        self.memory.append((operations, trained, inputs, copies, gather))
        record, own = self.records[number], self.programs[number]
        record[at.BRANCH_PROGRAM], record[at.BRANCH_RUN] = own.ctypes.data, self.runs[number].ctypes.data
        record[at.BRANCH_INPUT], record[at.FIRST_INPUT] = inputs.ctypes.data, 0 if self.join > 0 else first
        if length > 0:
            for field, array in zip(OWN_ARRAYS, copies, strict=False):
                record[field] = array.ctypes.data
        own[IN_ALL] = program[IN_ALL]
        own[at.GATHER_OPERATION] = gather.ctypes.data
        own[at.OPERATIONS], own[at.OPERATION_COUNT] = operations.ctypes.data, len(operations)
        own[at.PARAMETER_RECORDS], own[at.PARAMETER_COUNT] = trained.ctypes.data, len(trained)

    def put_into(self, program):
        """Make a training's program one with these branches: its own operations begin with the join."""
        program[at.OPERATIONS], program[at.OPERATION_COUNT] = self.operations.ctypes.data, len(self.operations)
        program[at.PARAMETER_RECORDS] = self.parameters.ctypes.data
        program[at.BACKWARD_FIRST] = max(1, self.plan.backward_first - self.join)
        program[at.BRANCHES], program[at.BRANCH_COUNT] = self.records.ctypes.data, len(self.records)
        program[at.LOOK] = 0  # the branches look at the inputs


def _cut_inputs(table, trained, first, last):
    """Make the records of the first layer, and of W, those of its inputs ``first`` to ``last``. There are no copies."""
    place = first * table[0, at.OUTPUTS]
    table[0, at.INPUTS] = last - first
    table[0, at.W] += place
    trained[:, at.LENGTH] = last - first  # of W alone, or of nothing
    trained[:, at.OFFSET] += place
    trained[:, at.FIRST_NORM] += first
    return 0


def _cut_units(table, trained, first, last):
    """Make the records those of units ``first`` to ``last`` of the first layer and what follows from them.

    Returns the elements that copies of their parameters take.
    """
    width, length = last - first, 0
    trained[:, at.HOME], trained[:, at.HOME_ROW] = trained[:, at.OFFSET], trained[:, at.COLUMNS]
    for operation in table[:-1]:
        operation[at.OUTPUTS], operation[at.FIRST_COLUMN] = width, first
        operation[[at.Y, at.DY]] += first
    for operation in table[1:]:
        operation[at.INPUTS] = width
        operation[[at.X, at.DX]] += first
    for parameter in trained:
        operation = table[parameter[at.OPERATION]]
        is_bias = parameter[at.COLUMNS] == 1  # both layers have more units
        if parameter[at.OPERATION] == 0 and not is_bias:
            parameter[at.COLUMNS], parameter[at.HOME] = width, parameter[at.HOME] + first
        else:
            parameter[at.LENGTH], parameter[at.HOME] = width, parameter[at.HOME] + first * parameter[at.COLUMNS]
        operation[at.B if is_bias else at.W] = parameter[at.OFFSET] = length
        length += parameter[at.LENGTH] * parameter[at.COLUMNS]
        length += -length % CACHE_LINE  # in elements: each array begins at a line
    return length
