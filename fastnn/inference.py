"""Prediction at the speed of a function call: ``predict = model.compiled_predict()``, then ``predict(x)``.

From a function of your own that Numba compiles, call ``predict_into`` with the predictor's ``state``:

>>> import numba
>>> from fastnn.inference import predict_into
>>> model = fn.Model([fn.Input(2), fn.Dense(2)], seed=0)
>>> model.set_weights([np.eye(2), [1, 2]])
>>> predictor = model.compiled_predict()
>>> @numba.njit
... def simulate(state, x, y, steps):
...     for _ in range(steps):
...         predict_into(y, x, state)
...         x[:] = y
>>> x, y = np.zeros((2, 1, 2), np.float32)
>>> simulate(predictor.state, x, y, 10)
>>> x
array([[10., 20.]], dtype=float32)
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from . import data
from .checks import shown
from .kernels.conventions import OK
from .own_functions import engine_fault
from .workers import FLOPS_PER_WORKER

if TYPE_CHECKING:
    from .kernels.cpu.inference import predict_into

__all__ = ["CompiledPredict", "predict_into"]


def __getattr__(name: str) -> Any:
    if name == "predict_into":  # not imported before it is used: that would import the compiler
        from .kernels.cpu.inference import predict_into

        return predict_into
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class CompiledPredict:
    """Calls a model's compiled forward pass with nothing in between; made by ``Model.compiled_predict``.

    It sees the model's weights as they are when it is called. It has activations of its own, so it can be called while
    the model trains elsewhere. It serves one thread after the other: with one for each, they need not wait.

    Its ``state`` is an int64 array for ``fastnn.inference.predict_into(y, x, state)``, valid while this object lives,
    and for one thread at a time: nobody waits there, and two at once write into memory that is not theirs.
    It cannot be copied or pickled.
    """

    def __init__(self, runner: Any, inputs: int, outputs: int):
        from .kernels.cpu.inference import predict_into
        from .kernels.jit import COMPILED

        # Plain Python warns of infinities where compiled code does not; the status tells of them.
        self._run = predict_into if COMPILED else np.errstate(all="ignore")(predict_into)
        # Above, a second worker may help, and Model.predict does it better.
        self._most_rows = max(1, 2 * FLOPS_PER_WORKER // max(1, runner.plan.forward_flops(1)))
        self._plan = runner.plan
        self._memory = runner.arenas.parameters
        self.state, self._activations = runner.inference_state()
        self._lock = threading.RLock()  # a signal handler may call it, too
        self.inputs, self.outputs, self.dtype = inputs, outputs, np.dtype(runner.real)

    def __reduce__(self) -> Any:
        raise TypeError(
            "a compiled_predict has addresses of memory, which mean nothing in a copy or another process; expected "
            "model.compiled_predict() there, of a copy of the model"
        )

    def few(self, X: np.ndarray) -> np.ndarray | None:
        """The outputs for the rows of X, an array of 2 dimensions, where they are so few that one worker is the right
        number; None where they are more, and where something is wrong with X.
        """
        if not 0 < len(X) <= self._most_rows or X.shape[1] != self.inputs or X.dtype.char not in data.NUMBERS:
            return None
        if X.dtype != self.dtype or not X.flags.c_contiguous or not X.flags.aligned:
            with np.errstate(over="ignore", under="ignore"):  # what overflows becomes infinite, which is refused
                X = np.array(X, self.dtype, order="C")
        outputs = np.empty((len(X), self.outputs), self.dtype)
        return outputs if self._run(outputs, X, self.state) == OK else None

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """The outputs for the rows of X, a C-contiguous array (rows, inputs) of the model's type: (rows, outputs).

        Raises TypeError or ValueError for anything else, and where X has a number that is not finite.
        """
        if type(X) is not np.ndarray or X.ndim != 2 or X.dtype != self.dtype or not X.flags.c_contiguous:
            raise TypeError(f"X is {_kind(X)}; expected a C-contiguous {self.dtype} array of 2 dimensions")
        outputs = np.empty((len(X), self.outputs), self.dtype)
        with self._lock:
            status = self._run(outputs, X, self.state)
        if status != OK:
            data.inputs("X", X, self.inputs, self.dtype.name)  # which says what is wrong with X
            raise engine_fault(self._plan, status)
        return outputs


def _kind(value: Any) -> str:
    if not isinstance(value, np.ndarray):
        return shown(value)
    order = "" if value.flags.c_contiguous else ", not C-contiguous"
    return f"an array of {value.dtype} with shape {value.shape}{order}"
