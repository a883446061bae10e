"""What a model minimizes: the mean over the rows of a batch of each row's loss.

A loss knows which targets it takes, which output layer it follows, and the name of its kernel; the
formulas stand in ``kernels/formulas/losses.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from .checks import SUM_TOLERANCE, counted, flag, nearest, number, shown
from .data import MISSING, Rows, as_array
from .elsewhere import missing_from
from .own_functions import PLACES, OwnFunction, find_wrong_slope
from .settings import Closed

__all__ = [
    "BinaryCrossEntropy",
    "CrossEntropy",
    "Huber",
    "Loss",
    "LossFunction",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Quantile",
    "RowLoss",
    "get",
]

#: Rows, and outputs of a row, for which the slope of a loss of whole rows is looked at.
ROWS_TO_CHECK = 8

#: The largest finite number.
LARGEST = float(np.finfo(np.float64).max)

if not TYPE_CHECKING:  # which else would take any name for known
    __getattr__ = missing_from(__name__)


class Loss(Closed):
    """The base of all losses: a number for each row, of which a batch's loss is the mean, each times its row's weight.

    L = Σ weight · loss / rows, with the weights of ``sample_weight`` and ``class_weight``, or 1; so L grows with the
    weights.

    It has a ``name``, a ``kernel`` by its name, and ``from_logits``: whether it takes logits.
    """

    name = ""
    kernel = ""
    #: Of the plan's operation, where it is not fused with the last activation.
    kind = "loss"
    from_logits = False
    #: What an error about targets of text goes on to say.
    for_text = " (np.asarray(y, float) reads numbers that are written as text)"

    @property
    def option(self) -> float:
        """The parameter of the loss, a number that its kernel takes."""
        return 0.0

    def lower(self, last_activation: str) -> tuple[str, bool]:
        """(kernel, whether it takes the values before the last activation), or a ValueError."""
        return self.kernel, False

    def check_outputs(self, outputs: int) -> None:
        """Raise a ValueError if this loss cannot follow a layer of ``outputs`` units."""

    def targets(self, name: str, value: Any, outputs: int, dtype: str) -> Rows:
        """y as rows of numbers, one column an output, or an error that says what is wrong."""
        return _columns(name, as_array(name, value, self.for_text), outputs, dtype)

    def expects(self, width: int, outputs: int) -> tuple[float, float, bool, float]:
        """(least, most, whole, tolerance): what ``targets`` takes for certain, ``width`` numbers for each row.

        Numbers from the least to the most, whole ones alone if ``whole``, and rows whose sum differs from 1 by the
        tolerance at most.
        """
        return -LARGEST, LARGEST, False, np.inf

    def check_slope(self, targets: Rows, activation: Any, outputs: int) -> None:
        """Raise a ValueError if the loss of an own function has a wrong slope for such targets.

        activation, outputs : the last one of the model, and how many numbers it yields for a row.
        """


class MeanSquaredError(Loss):
    """mean over the outputs of (y - t)², for regression: the best constant is the targets' mean.

    y, t : (rows, outputs), or t (rows,) for one output. The loss is in the units of y, squared; its derivative by y
    is 2 (y - t) / outputs.

    >>> model = fn.Model([fn.Input(1), fn.Dense(1, kernel_initializer="zeros")])
    >>> model.compile("sgd", loss="mse")
    >>> model.evaluate([[0.0], [0.0]], [1.0, 3.0], verbose=0)
    {'loss': 5.0}
    """

    name = "mse"
    kernel = "squared_error"


class MeanAbsoluteError(Loss):
    """mean over the outputs of abs(y - t), for regression with outliers: the best constant is the targets' median.

    The loss is in the units of y. Its derivative by y is sign(y - t) / outputs, and 0 where y equals t.
    """

    name = "mae"
    kernel = "absolute_error"


class Huber(Loss):
    """mean over the outputs of (y - t)²/2 where abs(y - t) <= delta, else delta·(abs(y - t) - delta/2).

    Small errors count as in the squared error, large ones as in the absolute error (Huber 1964).

    delta : where the one becomes the other, above 0, in the units of y.

    Raises a ValueError for a delta that is not above 0.
    """

    name = "huber"
    kernel = "huber"

    def __init__(self, delta: float = 1.0):
        self.delta = number("delta", delta, above=0)

    @property
    def option(self) -> float:
        return self.delta


class Quantile(Loss):
    """mean over the outputs of quantile·max(t - y, 0) + (1 - quantile)·max(y - t, 0), the pinball loss.

    The model learns that quantile of the targets: with 0.9, nine targets of ten lie below the prediction
    (Koenker & Bassett 1978). With 0.5, the default, it is half the absolute error and the median.

    quantile : the share of the targets below the prediction, above 0 and below 1.

    Raises a ValueError for another quantile.
    """

    name = "quantile"
    kernel = "pinball"

    def __init__(self, quantile: float = 0.5):
        self.quantile = number("quantile", quantile, above=0, below=1)

    @property
    def option(self) -> float:
        return self.quantile


class ClassLoss(Loss):
    """A loss whose targets are classes, or their probabilities: what the two cross-entropies share.

    Their kernel takes the values before ``activation``, which is stable where the two apart are not.
    """

    activation = ""
    for_text = ": classes, y = np.unique(y, return_inverse=True)"

    def __init__(self, from_logits: bool = False, label_smoothing: float = 0.0):
        self.from_logits = flag("from_logits", from_logits)
        self.label_smoothing = number("label_smoothing", label_smoothing, least=0, most=1)

    @property
    def option(self) -> float:
        return self.label_smoothing

    def lower(self, last_activation: str) -> tuple[str, bool]:
        if last_activation == ("linear" if self.from_logits else self.activation):
            return self.kernel, True
        if self.from_logits:
            raise ValueError(
                f"loss is {self!r}, but the last layer ends in {last_activation!r}; expected logits: "
                f"leave out the activation, or from_logits"
            )
        raise ValueError(
            f"loss is {self.name!r}, but the last layer ends in {last_activation!r}, which does not yield "
            f'probabilities; expected activation="{self.activation}" in the last layer, '
            f"or loss={type(self).__name__}(from_logits=True) after a linear one"
        )


class BinaryCrossEntropy(ClassLoss):
    """-t·log(p) - (1-t)·log(1-p), averaged over the outputs, for yes-or-no targets t in 0..1.

    The last layer ends in a sigmoid; or, with ``from_logits=True``, in nothing, and predictions are logits.

    With a logit a and p = sigmoid(a), it is computed as max(a, 0) - a·t + log(1 + exp(-abs(a))); its derivative by a
    is (p - t) / outputs.

    from_logits : whether the model yields logits; metrics then see their sigmoid, p, where ``predict`` returns the
    logits; label_smoothing : s in 0..1, which replaces t by t·(1-s) + s/2, so that certainty does not pay (Szegedy et
    al. 2016).

    Raises a ValueError for targets outside of 0..1, and in ``compile`` for a last layer that yields no probabilities.

    >>> unit = fn.Dense(1, "sigmoid", kernel_initializer="zeros")
    >>> model = fn.Model([fn.Input(1), unit], dtype="float64")
    >>> model.compile("sgd", loss="binary_cross_entropy")
    >>> model.evaluate([[0.0]], [1], verbose=0)["loss"]  # log 2
    0.69314718...
    """

    name = "binary_cross_entropy"
    kernel = "sigmoid_cross_entropy"
    activation = "sigmoid"

    def expects(self, width: int, outputs: int) -> tuple[float, float, bool, float]:
        return 0.0, 1.0, False, np.inf

    def targets(self, name: str, value: Any, outputs: int, dtype: str) -> Rows:
        rows = super().targets(name, value, outputs, dtype)
        for first, block in rows.blocks():
            if block.min() < 0 or block.max() > 1:
                row, column = map(int, np.argwhere((block < 0) | (block > 1))[0])
                values = np.unique(rows.take(slice(None)))
                hint = f"; for two classes write np.equal(y, {values[1]:g})" if len(values) == 2 else ""
                raise ValueError(
                    f"{name} has {float(block[row, column]):g} in row {first + row}; "
                    f"expected probabilities in 0..1 for {self.name}{hint}"
                )
        return rows


class CrossEntropy(ClassLoss):
    """-Σ t·log(p) over the classes: t is an integer label, or a row of probabilities (one-hot).

    The last layer ends in a softmax; or, with ``from_logits=True``, in nothing, and predictions are logits.

    With logits a and p = softmax(a), it is computed as log Σ exp(a) - Σ t·a; its derivative by a is p - t.

    from_logits : whether the model yields logits; metrics then see their softmax, p, where ``predict`` returns the
    logits; label_smoothing : s in 0..1, which replaces t by t·(1-s) + s/classes, for labels too (Szegedy et al. 2016,
    section 7).

    Raises a ValueError for labels that are no class and for rows that do not sum to 1, and in ``compile`` for a last
    layer that yields no probabilities.

    >>> units = fn.Dense(4, "softmax", kernel_initializer="zeros")
    >>> model = fn.Model([fn.Input(1), units], dtype="float64")
    >>> model.compile("sgd", loss="cross_entropy")
    >>> model.evaluate([[0.0]], [2], verbose=0)["loss"]  # log 4
    1.38629436...
    """

    name = "cross_entropy"
    kernel = "softmax_cross_entropy"
    activation = "softmax"

    def check_outputs(self, outputs: int) -> None:
        if outputs < 2:
            raise ValueError(
                f"loss is {self.name!r}, but the last layer has {outputs} unit; expected at least 2 classes, "
                'or loss="binary_cross_entropy" with activation="sigmoid"'
            )

    def expects(self, width: int, outputs: int) -> tuple[float, float, bool, float]:
        if width == 1:
            return 0.0, outputs - 1.0, True, np.inf
        return 0.0, 1.0, False, SUM_TOLERANCE / 2  # the other half is for sums in another order

    def targets(self, name: str, value: Any, outputs: int, dtype: str) -> Rows:
        array = as_array(name, value, self.for_text)
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
            bad = np.flatnonzero((block < 0).any(axis=1) | (np.abs(sums - 1) > SUM_TOLERANCE))
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
        if array.dtype.kind in "iu" and array.size and 0 <= array.min() and array.max() < outputs:
            return rows
        for first, block in rows.blocks():
            good = (block >= 0) & (block < outputs) & (block == np.floor(block))
            if not good.all():
                row = int(np.argwhere(~good)[0][0])
                raise ValueError(
                    f"{name} has the label {float(block[row, 0]):g} in row {first + row}; "
                    f"expected whole numbers from 0 to {outputs - 1}, because the model has {outputs} outputs"
                    f"{_for_labels(np.unique(rows.take(slice(None))), outputs)}"
                )
        return rows


class LossFunction(OwnFunction, Loss):
    """An own loss: the mean over the outputs of ``value(y, target)``, with ``slope(y, target)``, its derivative by y.

    ::

        def value(y, target):  # for targets -1 and 1
            return max(0.0, 1.0 - target * y)

        def slope(y, target):
            return -target if target * y < 1.0 else 0.0

        model.compile("adam", fn.LossFunction(value, slope, "hinge"))

    y is one number of the model's output, after the last activation, and target the number in its place: there
    are as many targets in a row as outputs.

    When the first targets come, the slope is compared with central differences of the value for some of them: a
    ValueError says where they differ. A TypeError says why a function cannot be compiled.
    """

    value_takes: tuple[str, ...] = ("y", "target")
    slope_takes: tuple[str, ...] = ("y", "target")
    hint = " (y, which comes first, is the prediction)"

    @property
    def formulas(self) -> tuple[Any, Any]:
        """The formulas (value, slope) for the kernels."""
        if self._formulas is None:
            from .kernels.formulas import own

            self._formulas = own.loss_formulas(self.value, self.slope)
        return self._formulas

    def lower(self, last_activation: str) -> tuple[str, bool]:
        return self.name, False

    def check_slope(self, targets: Rows, activation: Any, outputs: int) -> None:
        self.check(self.mistake(*case) for case in _outputs_and_targets(targets, activation))


class RowLoss(LossFunction):
    """An own loss of whole rows: the mean over the rows of ``value(y, target)``, where what one output costs may depend
    on the others; ``slope(dy, y, target)`` writes its derivative by y into dy.

    ::

        def value(y, target):  # a normal distribution: its mean, and the logarithm of its variance
            return 0.5 * (y[1] + (target[0] - y[0]) ** 2 * math.exp(-y[1]))

        def slope(dy, y, target):
            dy[0] = (y[0] - target[0]) * math.exp(-y[1])
            dy[1] = 0.5 * (1.0 - (target[0] - y[0]) ** 2 * math.exp(-y[1]))

        model.compile("adam", fn.RowLoss(value, slope, "normal"))

    y and dy are the arrays (outputs,) of a row, y after the last activation and dy zeros to begin with; target is what
    stands in y's row of what ``fit`` gets, (targets,): one number, or as many as there are. Both are only read.

    When the first targets come, the slope is compared with central differences of the value for some of them: a
    ValueError says where they differ. A TypeError says why a function cannot be compiled, and an IndexError that one
    uses a place beyond its arrays. It runs on the CPU.
    """

    kind = "row_loss"
    slope_takes = ("dy", "y", "target")
    hint = ""

    @property
    def formulas(self) -> tuple[Any, Any]:
        if self._formulas is None:
            from .kernels.formulas import own

            self._formulas = own.row_loss_formulas(self.value, self.slope)
        return self._formulas

    def targets(self, name: str, value: Any, outputs: int, dtype: str) -> Rows:
        """y as rows of numbers, one of them or more."""
        array = as_array(name, value, self.for_text)
        if array.ndim == 1:
            array = array.reshape(len(array), 1)
        if array.ndim != 2 or array.shape[1] == 0:
            raise ValueError(f"{name} has shape {array.shape}; expected (rows,) or (rows, targets)")
        return _table(name, array, dtype)

    def check_slope(self, targets: Rows, activation: Any, outputs: int) -> None:
        pairs = _rows_of_outputs_and_targets(targets, activation, outputs)
        # Once for each length of the rows: a place beyond them is not their memory.
        self.check((self.mistake_in_row(*pair) for pair in pairs), (targets.width, outputs))

    def mistake_in_row(self, y: np.ndarray, target: np.ndarray) -> str | None:
        """Where the slope is wrong for a row's outputs and targets, and by what; or None."""

        def moved(place: int, number: float) -> np.ndarray:
            row = y.astype(np.float64)
            row[place] = number
            return row

        def slope(place: int, number: float) -> float:
            dy = np.zeros(len(y))
            self._of_row("slope", dy, moved(place, number), target)
            return float(dy[place])

        def value(place: int, number: float) -> float:
            return self._of_row("value", moved(place, number), target)

        for place in np.unique(np.linspace(0, len(y) - 1, min(len(y), ROWS_TO_CHECK)).astype(int)):
            wrong = find_wrong_slope(partial(value, place), partial(slope, place), [y[place]])
            if wrong is not None:
                return (
                    f"for y = {moved(place, wrong[0])} and the target {target}, slope(dy, y, target) makes dy[{place}] "
                    f"{wrong[1]:.6g}, but central differences of value(y, target) give {wrong[2]:.6g}"
                )
        return None

    def _of_row(self, which: str, *arrays: np.ndarray) -> float:
        """``value`` or ``slope`` of arrays, by Python; NaN where they lie outside of its domain."""
        try:
            with np.errstate(all="ignore"):
                found = getattr(self, which)(*arrays)
            return float(found) if which == "value" else 0.0
        except (ArithmeticError, ValueError):  # where compiled code has a NaN or an infinity
            return float("nan")
        except Exception as fault:
            *_, y, target = arrays
            raise TypeError(
                f"{which} of {self!r} failed for y = {y} and the target {target}: {type(fault).__name__}: {fault}"
            ) from fault


def _outputs_and_targets(targets: Rows, activation: Any) -> Iterator[tuple[np.ndarray, float]]:
    """Some outputs beside each of some targets."""
    outputs, values = _possible_outputs(activation), np.unique(targets.take(slice(0, 4096)))
    for target in map(float, values[np.linspace(0, len(values) - 1, 8).round().astype(int)]):
        near = outputs + target if activation == "linear" else outputs[:0]
        yield np.concatenate([outputs, near]), target


def _rows_of_outputs_and_targets(
    targets: Rows, activation: Any, outputs: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Some rows of outputs, each beside a row of targets."""
    generator = np.random.default_rng(0)
    for row in np.linspace(0, len(targets) - 1, min(len(targets), ROWS_TO_CHECK)).astype(int):
        y = generator.choice(_possible_outputs(activation), outputs)
        if activation == "softmax":
            y /= y.sum()
        elif activation == "log_softmax":
            y -= np.log(np.exp(y).sum())
        yield y, targets.take(slice(row, row + 1))[0].astype(np.float64)


def _possible_outputs(activation: Any) -> np.ndarray:
    """Numbers that an activation yields."""
    from .kernels.formulas.activations import ACTIVATIONS

    inputs = PLACES[np.abs(PLACES) < 4]
    if isinstance(activation, OwnFunction):
        return np.unique([activation.compute("value", x) for x in inputs])
    if activation == "log_softmax":
        return np.asarray(np.log(_possible_outputs("softmax")))
    name = "sigmoid" if activation == "softmax" else str(activation)
    formula = ACTIVATIONS[name if name in ACTIVATIONS else "linear"].value
    return np.unique([formula(x) for x in inputs])


def _for_labels(found: np.ndarray, outputs: int) -> str:
    """What to write where y has these numbers instead of labels from 0 to outputs - 1."""
    if (found != np.floor(found)).any():
        return '; for numbers to predict take loss="mse" and an activation of None'
    if found[0] == 1 and found[-1] == outputs:
        return ": here the labels begin at 1, write np.subtract(y, 1)"
    if len(found) <= outputs:
        return "; for other names of the classes: classes, y = np.unique(y, return_inverse=True)"
    return f"; {len(found)} classes need a last layer of {len(found)} units"


def _for_columns(array: np.ndarray, outputs: int) -> str:
    """What to write where targets have another shape than (rows, outputs)."""
    if array.ndim == 1 and outputs > 1 and np.isin(array, np.arange(outputs)).all():
        return f'; for labels 0 to {outputs - 1} write np.eye({outputs})[y], or take a softmax and loss="cross_entropy"'
    if array.ndim == 2 and outputs == 1 and array.shape[1] == 2 and (np.sort(array, axis=1) == (0, 1)).all():
        return "; for one-hot rows of two classes write np.argmax(y, axis=1)"
    if outputs == 1 and array.size == max(array.shape, default=0):
        return ": write np.ravel(y)"
    return ""


def _columns(name: str, array: np.ndarray, outputs: int, dtype: str) -> Rows:
    if array.ndim == 1 and outputs == 1:
        array = array.reshape(len(array), 1)
    if array.ndim != 2 or array.shape[1] != outputs:
        also = " or (rows,)" if outputs == 1 else ""
        raise ValueError(
            f"{name} has shape {array.shape}; expected (rows, {outputs}){also}, "
            f"because the model has {counted(outputs, 'output')}{_for_columns(array, outputs)}"
        )
    return _table(name, array, dtype)


def _table(name: str, array: np.ndarray, dtype: str) -> Rows:
    rows = Rows(name, array, dtype)
    rows.check_finite(MISSING)
    if rows.direct and not rows.array.flags.c_contiguous:
        rows.array = np.ascontiguousarray(rows.array)
    return rows


BY_NAME: dict[str, type[Loss]] = {
    "mse": MeanSquaredError,
    "mean_squared_error": MeanSquaredError,
    "mae": MeanAbsoluteError,
    "mean_absolute_error": MeanAbsoluteError,
    "huber": Huber,
    "huber_loss": Huber,
    "quantile": Quantile,
    "pinball": Quantile,
    "binary_cross_entropy": BinaryCrossEntropy,
    "binary_crossentropy": BinaryCrossEntropy,
    "bce": BinaryCrossEntropy,
    "cross_entropy": CrossEntropy,
    "categorical_crossentropy": CrossEntropy,
    "sparse_categorical_crossentropy": CrossEntropy,
}


def get(name: str, value: Any) -> Loss:
    """The loss that ``value`` (a string or an object) stands for."""
    if isinstance(value, LossFunction):
        return value
    if isinstance(value, Loss) and value.kernel:
        for method in ("value", "slope"):
            if hasattr(value, method):
                raise TypeError(
                    f"{name} is {shown(value)}, whose {method} would never be called; expected "
                    "LossFunction(value, slope) for a loss of your own"
                )
        return value
    if isinstance(value, str):
        if value.lower() in BY_NAME:
            return BY_NAME[value.lower()]()
        names = ", ".join(repr(loss.name) for loss in dict.fromkeys(BY_NAME.values()))
        raise ValueError(
            f"{name} is {value!r}; expected one of {names}{nearest(value, BY_NAME)}, or LossFunction(value, slope)"
        )
    raise TypeError(f"{name} is {shown(value)}; expected one of fastnn.losses, its name, or LossFunction(value, slope)")
