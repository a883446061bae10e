"""Where things are: the fields of the records a plan is made of, and the arrays behind them.

Five kinds of record, each a row of 64-bit integers:

* the **run** record, one a worker: where the arenas are and which batch is under way;
* an **operation**, one for each step through the network: which functions run, its widths and places;
* a **parameter**, one for each trainable array: which function forms its gradient, its place and shape;
* the **program**, one an engine call: the tables above, and how to go through the data;
* a **branch**, where workers share the first layers otherwise than by rows (``cpu/branches.py``): a program of its own.

Places in the parameter arena count elements. Places in the arenas of activations and of their
derivatives count columns: the block of an activation begins at ``place * ARENA_ROWS`` elements, where
``ARENA_ROWS`` is the number of rows that the arena has room for. So a plan does not depend on the batch.
"""

import numpy as np

# Functions of a plan take these from here, too.
from .conventions import ABORTED, CONVERGED, FAULT, NOT_FINITE, NOWHERE, OK, OPTIMIZER_OPTIONS, PREDICTIONS  # noqa: F401
from .jit import formula
from .memory import item_size, matrix, vector

# The run record.
(
    PARAMETERS,  # address of the parameter arena
    GRADIENTS,  # address of its gradients
    FIRST_SLOT,  # address of the optimizer's first array (momentum, first moment), or 0
    SECOND_SLOT,  # address of its second array (second moment), or 0
    ACTIVATIONS,  # address of the arena of activations
    DERIVATIVES,  # address of the arena of their derivatives
    ARENA_ROWS,  # rows that the two have room for
    ROWS_BEFORE,  # row r of the batch is row r - ROWS_BEFORE of the arenas; it may be below 0
    INPUT,  # address of the batch's inputs, row after row
    OUTPUT,  # address for the predictions, row after row
    TARGET,  # address of the batch's targets, row after row
    LOSSES,  # address of the loss of each row of the batch, float64
    METRICS,  # address of the metrics of each row of the batch, float64, metric after metric
    CAPACITY,  # rows of a batch that losses and metrics have room for
    BATCH_ROWS,  # rows of the batch under way
    STEP,  # batches trained on so far, over the model's life
    SEED,  # the model's seed
    WORKSPACE,  # address of this worker's room for packing
    OPTIONS,  # address of the plan's float64 options
    RATE,  # address of the learning rate of this step, float64
    SCALE,  # address of this worker's float64 numbers for the step: the factor of the gradient, below 1 where its norm
    # is clipped; then three places for what an optimizer computes once for all parameters, 0 when a run begins
    SOURCE,  # what the gather reads: address of all inputs, or 0
    SOURCE_ROW_STRIDE,  # in bytes
    SOURCE_COLUMN_STRIDE,  # in bytes
    TARGET_SOURCE,  # address of all targets, row after row, or 0
    ORDER,  # address of the row numbers (int64) of the batch under way, or 0: as they stand
    FIRST_ROW,  # where ORDER is 0: the row of the data that is row 0 of the batch; it may be below 0
    WEIGHTS,  # address of the float64 weights of all rows, or 0: all are 1
    KEPT,  # address where the outputs of the batch under way are kept, row after row, or 0
    PENALTIES,  # address of the penalty of each chunk of the parameters, float64
    NORMS,  # address of the squared norm of each row of the parameters' gradients, float64
    GRADIENT_ROOM,  # address of this worker's room for the gradient of a chunk of a parameter
    DY_IN_PIECES,  # address of the operation whose dy is in pieces in WORKSPACE, for the next rows of dW, or 0
    BARRIER,  # the number of the last barrier that this worker has reached in this call
    SUMMED_FIRST,  # the first of the batch's rows that a gradient is summed over
    SUMMED_ROWS,  # and how many they are
    PARTS,  # address of the gradients of the parts of a batch, arena after arena
    PART_LENGTH,  # elements of such an arena
    PART_ROWS,  # rows of each part but the last; 1 where gradients are summed over the whole batch at once
    RUN_FIELDS,
) = range(40)

# An operation of the plan. The loss is one too: its INPUTS and OUTPUTS are the network's outputs and
# the width of the targets.
(
    FORWARD,  # address: function(run, operation, first row, last row), or 0: an operation before it does its work.
    # Where workers share Y_COLUMNS, and on the way back DX_COLUMNS, it takes the first and the last column instead
    BACKWARD,  # address, the same arguments, or 0
    INPUTS,  # width of x
    OUTPUTS,  # width of y
    X,  # place of x among the activations; -1: the batch's inputs
    Y,  # place of y among the activations; -2: the predictions
    DX,  # place of dx among the derivatives; -1: nobody asks for it
    DY,  # place of dy among the derivatives
    W,  # place of the weights (INPUTS, OUTPUTS) among the parameters; -1: none
    B,  # place of the bias (OUTPUTS,) among the parameters; -1: none
    LAYER,  # number of the layer, for its random numbers
    OPTION,  # its first option in the options
    OF_PIECES,  # 1 where a dense layer's products with W are formed of pieces (pieces.py), else 0
    DW_OF_PIECES,  # 1 where its product xᵀ·dy is, else 0
    Y_COLUMNS,  # columns of a dense layer's y, where the workers share these and not the rows of the batch; else 0
    DX_COLUMNS,  # columns of its dx, where they share these; else 0
    RECTIFIED,  # 1 where a dense layer forms max(y, 0), for a ReLU that follows it; else 0
    DEPTH,  # inputs after which a dense layer's sums for y are interrupted, the rest being added to them; 0: nowhere
    FIRST_COLUMN,  # of a branch: the column of the whole y that is its first
    OPERATION_FIELDS,
) = range(20)

# A trainable parameter.
(
    GRADIENT,  # address: function(run, operation, first row, last row) forms rows of the gradient; 0: branches do
    UPDATE,  # address: function(run, parameter, first element, last element) updates them
    OFFSET,  # place among the parameters
    LENGTH,  # rows of it, each formed by one worker
    COLUMNS,  # elements of such a row
    OPERATION,  # which operation of the plan it belongs to
    PENALTY,  # its l1 and l2 in the options: two numbers; -1: none
    PENALTY_VALUE,  # address: function(run, parameter, first chunk, last chunk), or 0
    PENALTY_SLOPE,  # address: function(run, parameter, first element, last element), or 0: the update adds l2's
    DECAY,  # 1 where decoupled weight decay applies, else 0
    CONSTRAINT,  # address: function(run, parameter, rank, size), or 0
    CONSTRAINT_OPTION,  # its first option in the options
    FIRST_CHUNK,  # where its chunks begin among the penalties
    FIRST_NORM,  # where its rows begin among the norms
    HOME,  # of a branch's own copy: its place among the model's parameters
    HOME_ROW,  # and there the elements from one row to the next
    PARAMETER_FIELDS,
) = range(17)

# The program: what all workers of one engine call share.
(
    OPERATIONS,  # address of the first operation
    OPERATION_COUNT,  # how many go forward
    BACKWARD_FIRST,  # the first one that goes backward, too: below it nothing is trained
    LOSS,  # address of the loss's operation, or 0: predict only
    METRIC_OPERATIONS,  # address of the first metric's operation
    METRIC_COUNT,
    PARAMETER_RECORDS,  # address of the first trainable parameter
    PARAMETER_COUNT,
    PENALTY_CHUNKS,  # chunks of all parameters that have a penalty
    NORM,  # address: function(run, parameter, first row, last row), or 0: nobody asks for the gradient's norm
    NORM_COUNT,  # rows of all parameters
    NORM_LIMITS,  # address of two float64: the norm that a gradient is clipped to, and the one that ends the training
    CONSTRAINED,  # whether a parameter has a constraint
    WEIGH,  # address: function(run, loss's operation, first row, last row), or 0: rows have no weights
    KEEP,  # address: function(run, loss's operation, first row, last row), or 0: outputs are not kept
    GATHER,  # address: function(run, operation, first row, last row), or 0: the data is used in place
    GATHER_OPERATION,  # address of its operation: width of the inputs and of the targets
    BRANCHES,  # address of the first branch's record
    BRANCH_COUNT,  # 0 where all operations are this program's
    LOOK,  # address: function(run, gather's operation, first row, last row), or 0: the inputs are known to be finite
    ROWS,  # rows of the data
    BATCH_SIZE,
    BLOCK,  # rows that go through all layers together, to stay in the cache (a part of a batch may be higher); where
    # workers share columns, all rows of a batch
    ROW_ORDER,  # address of the row numbers of all epochs, epoch after epoch, or 0: as they stand
    INPUT_ROW_BYTES,
    TARGET_ROW_BYTES,
    OUTPUT_ROW_BYTES,
    ITEM_BYTES,  # bytes of a number
    FORM_PARTS,  # address: function(run, program, first row, last row) forms the gradients of parts of the batch, or 0
    COMBINE,  # address: function(run, parameter, first element, last element) adds them up
    TURN_ROWS,  # rows of the arenas in which a worker's blocks of a batch with parts take turns, or 0
    FIRST_BATCH,  # of those to train on, counted through the epochs of ROW_ORDER
    LAST_BATCH,  # the one after them
    RATES,  # address of the learning rate of each batch, float64
    RESULTS,  # address of (batches, 1 + metrics) float64, or in an evaluation (blocks, 1 + metrics)
    SYNC,  # address of the workers' synchronization memory, or 0 for one worker alone
    SAVED,  # address of room for the parameters and the slots as the training finds them, arena after arena, or 0
    ARENA_LINES,  # cache lines of an arena
    BEGUN,  # 1 once all workers have saved their shares, before which nothing changes; else 0
    PROGRAM_FIELDS,
) = range(40)

# A branch.
(
    BRANCH_PROGRAM,  # address of its program: operations, parameters, and how to gather its inputs
    BRANCH_RUN,  # address of its run record, which its worker fills in
    BRANCH_INPUT,  # address for its inputs of the batch, row after row
    FIRST_INPUT,  # the first of them
    OWN_PARAMETERS,  # address of its own copies of its parameters, or 0: it has the model's
    OWN_FIRST_SLOT,  # address of those of the optimizer's first array, or 0
    OWN_SECOND_SLOT,  # and of the second one, or 0
    BRANCH_FIELDS,
) = range(8)

#: Elements of a parameter whose penalty is one term of the sum, whatever the number of workers: a layer of 128 has a
#: term for each of four workers, and the terms are few beside the elements.
PENALTY_CHUNK = 4096

#: Elements of a parameter that are updated as soon as their gradient is formed: 144 KB of float32, which stay in the
#: second-level cache. Of 1024 columns, or 512, 256 ..., they are a multiple of 12 rows, the height of a GEMM's tile.
UPDATE_CHUNK = 36 * 1024

#: The same where the gradient is formed of pieces, which gains more from higher blocks; their rows are a multiple of
#: the height of a tile there.
PIECES_UPDATE_CHUNK, PIECES_ROWS = 64 * 1024, 16

#: Bytes of a field of a record.
FIELD_BYTES = 8


@formula
def share(length, rank, size):
    """The half-open range of ``length`` things that worker ``rank`` of ``size`` takes."""
    return length * rank // size, length * (rank + 1) // size


@formula
def largest_part(length, parts, unit):
    """The largest of so many parts of a length, rounded up to a multiple of ``unit``."""
    return ((length + parts - 1) // parts + unit - 1) // unit * unit


@formula
def even_share(length, most, unit):
    """The largest of the fewest parts of at most ``most`` into which a length can be cut, a multiple of ``unit`` if
    ``most`` is one and there are several.
    """
    if length <= most:  # without divisions, which take as long as a small product
        return length
    return largest_part(length, (length + most - 1) // most, unit)


@formula
def halved_share(length, most, unit):
    """The largest of the parts of a length cut into 2, 4, 8 ... of them, as few as are at most ``most``, rounded up to
    a multiple of ``unit``, of which ``most`` is one; or the length itself, if it is no more.
    """
    if length <= most:
        return length
    parts = 2
    while parts * most < length:
        parts *= 2
    return largest_part(length, parts, unit)


@formula
def update_rows(rows, columns, of_pieces):
    """Rows of a parameter that are updated as soon as their gradient is formed, of a worker's share of so many.

    of_pieces : not 0 where the gradient is formed of pieces; the columns are at most UPDATE_CHUNK.
    """
    if of_pieces == 0:
        return UPDATE_CHUNK // columns
    return max(1, even_share(rows, PIECES_UPDATE_CHUNK // columns // PIECES_ROWS * PIECES_ROWS, PIECES_ROWS))


@formula
def run_record(address):
    return vector(address, RUN_FIELDS, np.int64)


@formula
def program_record(address):
    return vector(address, PROGRAM_FIELDS, np.int64)


@formula
def operation_record(address):
    return vector(address, OPERATION_FIELDS, np.int64)


@formula
def parameter_record(address):
    return vector(address, PARAMETER_FIELDS, np.int64)


@formula
def branch_record(address):
    return vector(address, BRANCH_FIELDS, np.int64)


@formula
def option_at(run, number):
    """An option of the plan."""
    return vector(run[OPTIONS] + FIELD_BYTES * number, 1, np.float64)[0]


@formula
def activation_address(run, place, width, first, real):
    """Where row ``first`` of the activation of ``width`` columns at ``place`` begins."""
    if place == NOWHERE:
        return run[INPUT] + first * width * item_size(real)
    if place == PREDICTIONS:
        return run[OUTPUT] + first * width * item_size(real)
    return run[ACTIVATIONS] + (place * run[ARENA_ROWS] + (first - run[ROWS_BEFORE]) * width) * item_size(real)


@formula
def derivative_address(run, place, width, first, real):
    """Where row ``first`` of the derivative of ``width`` columns at ``place`` begins."""
    return run[DERIVATIVES] + (place * run[ARENA_ROWS] + (first - run[ROWS_BEFORE]) * width) * item_size(real)


@formula
def activation(run, place, width, first, last, real):
    """Rows ``first`` to ``last`` of the activation of ``width`` columns at ``place``."""
    return matrix(activation_address(run, place, width, first, real), last - first, width, real)


@formula
def derivative(run, place, width, first, last, real):
    """Rows ``first`` to ``last`` of the derivative of ``width`` columns at ``place``."""
    return matrix(derivative_address(run, place, width, first, real), last - first, width, real)


@formula
def elements(arena, place, length, real):
    """``length`` elements from ``place`` of a flat arena (parameters, gradients, a slot)."""
    return vector(arena + place * item_size(real), length, real)
