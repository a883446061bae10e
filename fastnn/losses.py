"""What a model minimizes: the mean over the rows of a batch of each row's loss.

A loss knows which targets it takes, which output layer it follows, and the name of its kernel; the
formulas stand in ``kernels/formulas/losses.py``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .checks import flag, nearest, shown
from .data import Rows, as_array

__all__ = ["BinaryCrossEntropy", "CrossEntropy", "Loss", "MeanSquaredError", "get"]


class Loss:
    """The base of all losses.

    name : its name; kernel : its kernel for the outputs as they are; fused : the kernel that takes the
    values before ``activation`` instead, which is stable where the two apart are not.
    """

    name = ""
    kernel = ""
    fused = ""
    activation = ""

    def __init__(self, from_logits: bool = False):
        self.from_logits = flag("from_logits", from_logits)

    def lower(self, last_activation: str) -> tuple[str, bool]:
        """(kernel, whether it takes the values before the last activation), or a ValueError."""
        if not self.fused:
            return self.kernel, False
        if self.from_logits:
            if last_activation != "linear":
                raise ValueError(
                    f"loss is {self!r}, but the last layer ends in {last_activation!r}; expected logits: "
                    f"leave out the activation, or from_logits"
                )
            return self.fused, True
        if last_activation == self.activation:
            return self.fused, True
        raise ValueError(
            f"loss is {self.name!r}, but the last layer ends in {last_activation!r}, which does not yield "
            f'probabilities; expected activation="{self.activation}" in the last layer, '
            f"or loss={type(self).__name__}(from_logits=True) after a linear one"
        )

    def check_outputs(self, outputs: int) -> None:
        """Raise a ValueError if this loss cannot follow a layer of ``outputs`` units."""

    def targets(self, name: str, value: Any, outputs: int, dtype: str) -> Rows:
        """y as rows of numbers, one column an output, or an error that says what is wrong."""
        return _columns(name, value, outputs, dtype)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'from_logits=True' if self.from_logits else ''})"


class MeanSquaredError(Loss):
    """mean over the outputs of (y - t)², for regression."""

    name = "mse"
    kernel = "squared_error"

    def __init__(self) -> None:
        super().__init__()


class BinaryCrossEntropy(Loss):
    """-t·log(p) - (1-t)·log(1-p), averaged over the outputs, for yes-or-no targets t in 0..1.

    The last layer ends in a sigmoid; or, with ``from_logits=True``, in nothing, and predictions are logits.
    """

    name = "binary_cross_entropy"
    kernel = "binary_cross_entropy"
    fused = "sigmoid_cross_entropy"
    activation = "sigmoid"

    def targets(self, name: str, value: Any, outputs: int, dtype: str) -> Rows:
        rows = _columns(name, value, outputs, dtype)
        for first, block in rows.blocks():
            bad = np.argwhere((block < 0) | (block > 1))
            if len(bad):
                row, column = map(int, bad[0])
                raise ValueError(
                    f"{name} has {float(block[row, column]):g} in row {first + row}; "
                    f"expected probabilities in 0..1 for {self.name}"
                )
        return rows


class CrossEntropy(Loss):
    """-Σ t·log(p) over the classes: t is an integer label, or a row of probabilities (one-hot).

    The last layer ends in a softmax; or, with ``from_logits=True``, in nothing, and predictions are logits.
    """

    name = "cross_entropy"
    kernel = "cross_entropy"
    fused = "softmax_cross_entropy"
    activation = "softmax"

    def check_outputs(self, outputs: int) -> None:
        if outputs < 2:
            raise ValueError(
                f"loss is {self.name!r}, but the last layer has {outputs} unit; expected at least 2 classes, "
                'or loss="binary_cross_entropy" with activation="sigmoid"'
            )

    def targets(self, name: str, value: Any, outputs: int, dtype: str) -> Rows:
        array = as_array(name, value)
        if array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1):
            return self._labels(name, array.reshape(len(array), 1), outputs, dtype)
        if array.ndim != 2 or array.shape[1] != outputs:
            raise ValueError(
                f"{name} has shape {array.shape}; expected labels of shape (rows,) or one-hot rows of shape "
                f"(rows, {outputs}), because the model has {outputs} outputs"
            )
        rows = _columns(name, array, outputs, dtype)
        for first, block in rows.blocks():
            sums = block.sum(axis=1, dtype=np.float64)
            bad = np.flatnonzero((block < 0).any(axis=1) | (np.abs(sums - 1) > 1e-3))
            if len(bad):
                row = int(bad[0])
                came = f"a row of sum {sums[row]:g} and least number {block[row].min():g}"
                raise ValueError(
                    f"{name} has {came} in row {first + row}; "
                    "expected one-hot rows: no negative numbers, and a sum of 1"
                )
        return rows

    def _labels(self, name: str, array: np.ndarray, outputs: int, dtype: str) -> Rows:
        rows = _table(name, array, dtype)
        for first, block in rows.blocks():
            bad = np.argwhere((block < 0) | (block >= outputs) | (block != np.floor(block)))
            if len(bad):
                row = int(bad[0][0])
                raise ValueError(
                    f"{name} has the label {float(block[row, 0]):g} in row {first + row}; "
                    f"expected whole numbers from 0 to {outputs - 1}, because the model has {outputs} outputs"
                )
        return rows


def _columns(name: str, value: Any, outputs: int, dtype: str) -> Rows:
    array = as_array(name, value)
    if array.ndim == 1 and outputs == 1:
        array = array.reshape(len(array), 1)
    if array.ndim != 2 or array.shape[1] != outputs:
        also = " or (rows,)" if outputs == 1 else ""
        raise ValueError(
            f"{name} has shape {array.shape}; expected (rows, {outputs}){also}, "
            f"because the model has {outputs} output{'s' if outputs > 1 else ''}"
        )
    return _table(name, array, dtype)


def _table(name: str, array: np.ndarray, dtype: str) -> Rows:
    rows = Rows(name, array, dtype)
    rows.check_finite()
    if rows.direct and not rows.array.flags.c_contiguous:
        rows.array = np.ascontiguousarray(rows.array)
    return rows


BY_NAME: dict[str, type[Loss]] = {
    "mse": MeanSquaredError,
    "mean_squared_error": MeanSquaredError,
    "binary_cross_entropy": BinaryCrossEntropy,
    "binary_crossentropy": BinaryCrossEntropy,
    "cross_entropy": CrossEntropy,
    "categorical_crossentropy": CrossEntropy,
    "sparse_categorical_crossentropy": CrossEntropy,
}


def get(name: str, value: Any) -> Loss:
    """The loss that ``value`` (a string or an object) stands for."""
    if isinstance(value, Loss):
        return value
    if isinstance(value, str):
        if value.lower() in BY_NAME:
            return BY_NAME[value.lower()]()
        names = "'binary_cross_entropy', 'cross_entropy', 'mse'"
        raise ValueError(f"{name} is {value!r}; expected one of {names}{nearest(value, BY_NAME)}")
    raise TypeError(f"{name} is {shown(value)}; expected a Loss or its name, such as 'cross_entropy'")
