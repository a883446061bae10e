"""What the library and the kernels agree on. Importing this imports no compiler."""

from functools import cached_property
from typing import Any

import numpy as np

#: Statuses of a plan's function, and of a worker. An exception that leaves a C function is swallowed and reads as 0.
#: NOT_FINITE: a number is infinite or not a number; CONVERGED: the gradient is as small as was asked for; ABORTED: it
#: left a barrier because another worker failed or never started.
FAULT, OK, NOT_FINITE, CONVERGED, ABORTED = range(5)

#: Places outside of the arenas: nobody's, or among the activations the batch's inputs; and the predictions that the
#: caller asked for.
NOWHERE, PREDICTIONS = -1, -2

#: Options of the optimizer, at the beginning of a plan's options: the limit of a gradient's elements, then its own.
OPTIMIZER_OPTIONS = 8

#: Bytes of a cache line: what comes from memory at once, and what only one core can write to at a time; two that write
#: to one line slow each other down sixfold. So arrays begin at one, and each worker has its own. (128 on Apple's
#: processors, where two workers may share a line at the ends of their shares: that costs time, and nothing else.)
CACHE_LINE = 64


class Data:
    """The rows that an engine call reads: inputs (rows, width), targets (rows, target width) or None, and weights
    (rows,) or None.

    Inputs and targets have the plan's float type; the targets are C-contiguous, the inputs may have any strides.
    The weights are float64.
    """

    def __init__(self, inputs: np.ndarray, targets: np.ndarray | None = None, weights: np.ndarray | None = None):
        self.inputs, self.targets, self.weights = inputs, targets, weights

    @cached_property
    def form(self) -> tuple[Any, ...]:
        """What an engine's records have of it beside the addresses."""
        return len(self.inputs), self.inputs.strides, self.weights is None

    @cached_property
    def addresses(self) -> tuple[int, int, int]:
        """Where the inputs, the targets and the weights stand; 0 for what there is not."""
        targets, weights = (0 if array is None else array.ctypes.data for array in (self.targets, self.weights))
        return self.inputs.ctypes.data, targets, weights
