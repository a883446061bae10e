"""The tables of numbers that the GPU's kernels read: a plan as they see it.

An operation's row is that of ``kernels/layout.py``, with numbers in the places of the addresses of functions. Places
count as there; the batch's inputs and the predictions have a place of their own behind the activations.
"""

from .. import layout

# Kinds of operations.
DENSE, ACTIVATION, DROPOUT, SOFTMAX, LOG_SOFTMAX, LOSS = range(6)

#: The metrics by their numbers, and the one that has an option.
METRIC_NAMES = ("categorical_accuracy", "top_k_accuracy", "binary_accuracy", "squared_error", "absolute_error")
TOP_K = 1

#: Fields of an operation beside those of ``layout``: its kind, the number of its formula, whether it has weights that
#: are trained.
KIND, CODE, TRAINED = layout.FORWARD, layout.BACKWARD, layout.OPERATION_FIELDS
OPERATION_FIELDS = layout.OPERATION_FIELDS + 1

# A trainable parameter. One row more closes the table.
(
    START,  # elements of the parameters before it
    OFFSET,  # place among the parameters
    COLUMNS,  # elements of a row of it
    OPERATION,  # which operation it belongs to
    ROLE,  # 0: weights, 1: bias
    PENALTY,  # its l1 and l2 in the options; -1: none
    PENALTY_CODE,  # the number of the user's own penalty; -1: none
    LENGTH,  # chunks of its penalty
    DECAY,  # 1 where decoupled weight decay applies
    CONSTRAINT,  # its limit in the options; -1: none
    PARAMETER_FIELDS,
) = range(11)

# What is the same for all steps of a slice.
(
    OPERATIONS,  # how many go forward; the loss stands behind them, then the metrics
    BACKWARD_FIRST,
    METRICS,
    ROWS,  # of the data
    BATCH_SIZE,
    BATCHES,  # of an epoch
    CAPACITY,  # rows that the arenas have room for
    BLOCK_ROWS,  # rows of a thread block
    INPUT_COLUMNS,
    INPUT_PLACE,
    OUTPUT_PLACE,
    COLUMNS_OF_ALL,  # of the activations, the inputs and the predictions together
    SEED,
    ELEMENTS,  # of all trainable parameters
    CHUNKS,  # of all penalties
    ORDERED,  # whether the order of the rows is given
    WEIGHED,  # whether rows have weights
    KEEPS,  # whether outputs are kept
    PROGRAM_FIELDS,
) = range(19)

# The counters on the device.
(
    ROWS_BATCH,  # the batch whose rows come next, counted through the epochs of the order
    WEIGHTS_BATCH,  # the batch whose weights come next
    FIRST_BATCH,  # of the slice
    FIRST_STEP,  # the model's step at that batch
    GOOD,  # steps of the slice up to the first that was not finite or came after convergence
    CONVERGED_THERE,  # 1 where it was convergence
    COUNTERS,
) = range(7)

#: Limits of the gradient's norm: what it is clipped to, and what ends the training.
LIMIT, TOLERANCE = 0, 1

#: Elements of a parameter whose penalty is one term of the sum: fewer than on the CPU, for many threads to have some.
PENALTY_CHUNK = 64
