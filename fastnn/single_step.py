"""A training step that is done again and again, on batches of the same form: what a loop of the user's own calls.

What stays the same from call to call is made once. A batch is looked at in compiled code, the inputs by all workers.
Where something is not as expected, the step is not done: whoever called looks closer, and says what is wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from . import data
from .kernels.conventions import OK, Data

if TYPE_CHECKING:
    from .losses import Loss


class SingleStep:
    """The step of a runner of the CPU's on ``rows`` rows that stand in two arrays of NumPy's.

    workers : how many do it; loss : the model's; saved : as in ``Runner.prepare``.
    """

    def __init__(self, runner: Any, rows: int, workers: int, loss: Loss, saved: np.ndarray):
        from .kernels.cpu.batch import take_batch
        from .kernels.jit import COMPILED

        # Plain Python warns of infinities where compiled code does not; the status tells of them.
        self._take = take_batch if COMPILED else np.errstate(all="ignore")(take_batch)
        plan = runner.plan
        self.runner, self.workers = runner, workers
        self._expects = loss.expects(plan.target_width, plan.outputs)
        #: A batch that the engine cannot read where it is.
        self._x = np.empty((rows, plan.inputs), runner.real)
        self._t = np.empty((rows, plan.target_width), runner.real)
        self._shapes = [self._t.shape, (rows,)] if plan.target_width == 1 else [self._t.shape]
        self.rate, self.results = np.empty(1), np.empty((1, 1 + len(plan.metrics)))
        batch, places = Data(self._x, self._t), (self.rate, self.results)
        runner.prepare(batch, None, (rows, 0, 1), *places, workers, saved=saved, look=True)
        self._records, self._rooms = runner.records.copy(), runner.rooms()

    def is_for(self, workers: int) -> bool:
        """Whether it is a step of so many workers, and the runner still as it was."""
        (run, marks, branches), known = self._rooms, self.runner.rooms()
        return workers == self.workers and run is known[0] and marks == known[1] and branches is known[2]

    def take(self, X: np.ndarray, y: np.ndarray, step: int, seed: int) -> bool:
        """Make the next step one on X and y, with the model's ``step`` and ``seed``; or say that there is need for a
        closer look.
        """
        x, t = self._x, self._t
        if X.shape != x.shape or y.shape not in self._shapes:
            return False
        if X.dtype == x.dtype and X.flags.carray:
            x = X
        elif not _copy(x, X):
            return False
        if not _copy(t, y.reshape(t.shape)):
            return False
        return bool(self._take(x, t, self._records, self.runner.records, step, seed, *self._expects) == OK)

    def do(self) -> int:
        """Do the step that was taken, at the learning rate ``rate``; returns the engine's status."""
        return int(self.runner.train_prepared(self.workers))


def _copy(to: np.ndarray, array: np.ndarray) -> bool:
    """Copy an array of numbers; or say that it is none."""
    if array.dtype.char not in data.NUMBERS:
        return False
    if array.dtype.kind != "f" or array.dtype == to.dtype:
        np.copyto(to, array, casting="unsafe")
    else:
        with np.errstate(over="ignore", under="ignore"):  # what overflows becomes infinite, which is refused
            np.copyto(to, array, casting="unsafe")
    return True
