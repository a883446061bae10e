"""A batch of the user's taken as it is: for a training step that is done again and again."""

import numpy as np

from .. import layout as at
from ..jit import kernel
from ..layout import NOT_FINITE, OK, RUN_FIELDS


@kernel
def take_batch(x, t, prepared, records, step, seed, least, most, whole, tolerance):
    """Make ``records`` those of a step on x and t: the ``prepared`` ones, with the places of these two.

    x : (rows, inputs), t : (rows, target width), both C-contiguous; step, seed : of the model; least, most, whole,
    tolerance : what is expected of t, as in ``Loss.expects``. Returns NOT_FINITE where t is not so; NaN never is.
    """
    for i in range(len(records)):
        records[i] = prepared[i]
    run = records[:RUN_FIELDS]
    run[at.SOURCE], run[at.TARGET_SOURCE] = x.ctypes.data, t.ctypes.data
    run[at.STEP], run[at.SEED] = step, seed
    good = True
    for row in range(t.shape[0]):
        total = 0.0
        for column in range(t.shape[1]):
            number = np.float64(t[row, column])
            total += number
            good &= least <= number <= most and (not whole or number == np.floor(number))
        good &= abs(total - 1.0) <= tolerance
    return OK if good else NOT_FINITE
