"""X and y as a model takes them: checked against each other, the loss and the metrics, before any work."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from . import data, dispatch
from .checks import number, shown, warn
from .data import Rows
from .kernels.conventions import Data
from .layers import Dense
from .losses import BinaryCrossEntropy, ClassLoss, CrossEntropy, Loss, LossFunction

if TYPE_CHECKING:
    from .model import Model

#: Steps of a number's type within a column's standard deviation below which its differences are blurred; and as many of
#: 64 bits below which they are roundings themselves.
SPREAD, ROUNDED = 10, 64

#: A column's range, as a share of its largest number, from which on its differences are not blurred: of so few rows the
#: deviation is a 32nd of it at least.
SURELY = 1e-4

#: How far beyond what the last activation yields targets may lie, as a share of their range.
BEYOND = 0.05

#: Between which numbers the outputs of an activation lie.
RANGES = {
    **dict.fromkeys(("sigmoid", "softmax"), (0, 1)),
    **dict.fromkeys(("tanh", "softsign"), (-1, 1)),
    **dict.fromkeys(("relu", "softplus"), (0, np.inf)),
}

#: Rows, evenly over the table, that are looked at for that.
SAMPLE = 256

#: Columns from which on a table of bytes is taken for images: the smallest have 8 x 8 pixels.
PIXELS = 64


class Examples:
    """What to learn from: inputs, targets, and weights (rows,) of float64 or None where all rows count alike."""

    def __init__(self, x: Rows, t: Rows, weights: np.ndarray | None = None):
        self.x, self.t, self.weights = x, t, weights

    def __len__(self) -> int:
        return len(self.x)

    @property
    def direct(self) -> bool:
        """Whether the engine can read the arrays themselves."""
        return self.x.direct and self.t.direct

    @cached_property
    def data(self) -> Data:
        """The same as the engine reads it."""
        return Data(self.x.ready(), self.t.ready(), self.weights)

    def part(self, rows: slice) -> Examples:
        """The rows ``rows``, without a copy."""
        weights = None if self.weights is None else self.weights[rows]
        return Examples(self.x.part(rows), self.t.part(rows), weights)

    def take(self, rows: slice | np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """The same of the rows ``rows``, as contiguous arrays."""
        return self.x.take(rows), self.t.take(rows), None if self.weights is None else self.weights[rows]


def compiled_loss(model: Model, action: str) -> Loss:
    """The model's loss, or a RuntimeError where ``action`` came before ``compile``."""
    if model.loss is None:
        raise RuntimeError(
            f'{action} came before compile; call model.compile(optimizer="adam", loss="cross_entropy") first '
            "(or with the loss that fits the model)"
        )
    return model.loss


def checked(
    model: Model,
    action: str,
    X: Any,
    y: Any,
    sample_weight: Any = None,
    names: Sequence[str] = ("X", "y", "sample_weight"),
) -> Examples:
    """X, y and the weights, under ``names`` in errors, for what the model is asked to do."""
    loss = compiled_loss(model, action)
    x = inputs(model, names[0], X)
    if y is None:
        raise TypeError(f"{names[1]} is missing; expected one target for each of the {len(x)} rows of {names[0]}")
    t = targets(model, loss, names[1], y)
    if len(x) != len(t):
        raise ValueError(f"{names[0]} has {len(x)} rows and {names[1]} has {len(t)}; expected as many of both")
    if isinstance(x, data.DeviceRows):  # which cannot be taken a block at a time, beside a t that would be
        t.convert()
    last = model.layers[-1]
    loss.check_slope(t, getattr(last, "activation", "linear"), model.outputs)
    for metric in model.metrics:
        metric.check_targets(names[1], t, loss, last.activation_name)
    found = Examples(x, t, data.sample_weights(names[2], sample_weight, len(x)))
    check_weights(found, action, names[2])
    return found


def inputs(model: Model, name: str, X: Any, look: bool = True) -> Rows:
    """X checked against the model; on a GPU it stays there. look : as in ``data.inputs``."""
    if dispatch.on_gpu(X):
        return data.device_inputs(name, X, model.inputs, model.dtype, model.device)
    data.check_columns(name, X, model.columns)
    return data.inputs(name, X, model.inputs, model.dtype, look=look)


def targets(model: Model, loss: Loss, name: str, y: Any) -> Rows:
    """y checked against the loss; on a GPU it stays there, but is looked at on the host."""
    if not dispatch.on_gpu(y):
        return loss.targets(name, y, model.outputs, model.dtype)
    rows = dispatch.device_rows(model.device, name, y, model.dtype)
    host = loss.targets(name, rows.copy_to_host(), model.outputs, model.dtype)
    return data.DeviceRows(name, rows, model.dtype, host)


def look_at_scale(model: Model, examples: Examples) -> None:
    """Warn of numbers with which a network trains badly without a word: images of bytes, numbers that the model's type
    does not tell apart, and targets that the outputs cannot reach.
    """
    x = examples.x
    look_at_digits(x)
    look_at_digits(examples.t)
    look_at_range(model, examples.t)
    array = x.given[:1000]
    if isinstance(array, np.ndarray) and array.dtype.kind in "iu" and x.width >= PIXELS:
        if isinstance(model.layers[1], Dense) and array.min() >= 0 and 127 < array.max() < 256:
            warn(
                f"{x.name} has whole numbers from {array.min()} to {array.max()}, like images; a network trains badly "
                f"unless its inputs are of the size of 1: write {x.name} / 255, here and to predict"
            )


def look_at_range(model: Model, t: Rows) -> None:
    """Warn where numbers to predict lie beyond those that the last activation yields."""
    activation = model.layers[-1].activation_name
    own = isinstance(model.loss, LossFunction)  # whose targets may mean something else
    if own or isinstance(model.loss, ClassLoss) or activation not in RANGES:
        return
    least, most = RANGES[activation]
    ends = np.array([(block.min(), block.max()) for _, block in t.blocks()])
    low, high = ends[:, 0].min(), ends[:, 1].max()
    slack = BEYOND * (high - low)  # rounded, or measured with noise
    if low < least - slack or high > most + slack:
        between = f"from {least:g} to {most:g}" if most < np.inf else f"of at least {least:g}"
        warn(
            f"{t.name} has numbers from {low:g} to {high:g}, but the model ends in {activation}, which yields numbers "
            f"{between}: expected a last layer without it for such targets"
        )


def look_at_digits(rows: Rows) -> None:
    """Warn where numbers of a column are so large beside their differences that rounding to float32 blurs these."""
    if not isinstance(rows.given, np.ndarray) or np.can_cast(rows.given.dtype, rows.dtype):
        return
    array = rows.given[:: max(1, len(rows) // SAMPLE)].reshape(-1, rows.width)
    with np.errstate(all="ignore"):
        low, high = array.min(axis=0).astype(np.float64), array.max(axis=0).astype(np.float64)
        if (high - low >= SURELY * np.maximum(high, -low)).all():
            return
        largest, deviation = np.abs(array).max(axis=0), array.std(axis=0)
        steps = np.spacing(largest.astype(rows.dtype))
        differs = deviation > ROUNDED * np.spacing(largest.astype(np.float64))
        blurred = np.flatnonzero(differs & (deviation < SPREAD * steps))
    if len(blurred):
        column = blurred[0]
        where = f" in column {rows.columns[column]!r}" if rows.width > 1 else ""
        warn(
            f"{rows.name} has numbers like {array[0, column].item()!r}{where}, which differ by about "
            f"{deviation[column]:.2g}; float32 keeps them in steps of {steps[column]:.2g}: "
            'subtract their mean first, or make the model with dtype="float64"'
        )


def weigh_classes(model: Model, examples: Examples, class_weight: Any) -> None:
    """Multiply the weights of the rows by those of their classes."""
    weights = data.class_weights("class_weight", class_weight, examples.t, model.outputs)
    if weights is not None:
        name = "class_weight" if examples.weights is None else "sample_weight"
        examples.weights = weights if examples.weights is None else weights * examples.weights
        check_weights(examples, "training", name)


def check_weights(examples: Examples, action: str, name: str = "sample_weight") -> None:
    """Raise a ValueError where a weight is infinite in the model's type, or no row of those for ``action`` counts: the
    loss would be 0, whatever the model does.
    """
    if examples.weights is None:
        return
    with np.errstate(over="ignore", under="ignore"):
        rounded = examples.weights.astype(examples.t.dtype)
    bad = np.flatnonzero(np.isinf(rounded))
    if len(bad):
        raise ValueError(
            f"{name} gives row {bad[0]} the weight {examples.weights[bad[0]]:g}, which is too large for "
            f"{rounded.dtype.name}; expected finite numbers"
        )
    if not rounded.any():
        raise ValueError(f"{name} is zero in all {len(examples)} rows for {action}; expected a row that counts")


def with_validation(
    model: Model, examples: Examples, split: Any, given: Any, columns: list[str] | None
) -> tuple[Examples, Examples | None]:
    """The examples to train on, and those to validate on: the last ones, or ``given`` ones, or None.

    columns : those of the data frame that is trained with.
    """
    split = number("validation_split", split, least=0, below=1)
    if given is not None:
        if split > 0:
            raise ValueError("validation_split and validation_data were both given; expected one of them")
        if not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
            raise TypeError(f"validation_data is {shown(given)}; expected a pair (X, y), or (X, y, sample_weight)")
        names = [f"validation_data[{index}]" for index in range(3)]
        weight = given[2] if len(given) == 3 else None
        validation = checked(model, "fit", given[0], given[1], weight, names)
        data.check_columns(names[0], given[0], columns)
        if validation.t.width != examples.t.width:  # which a cross-entropy leaves open, and a loss of whole rows
            widths = validation.t.width, examples.t.width
            if not isinstance(model.loss, CrossEntropy):
                raise ValueError(f"{names[1]} has {widths[0]} columns, but {examples.t.name} has {widths[1]}")
            found, expected = ("labels" if width == 1 else "one-hot rows" for width in widths)
            raise ValueError(
                f"{names[1]} has {found}, but {examples.t.name} has {expected}; expected labels in both, or one-hot "
                "rows in both"
            )
        return examples, validation
    if split == 0:
        return examples, None
    rows = len(examples)
    count = rows - round(rows * split)
    if count in (0, rows):
        left = "training" if count == 0 else "validation"
        raise ValueError(f"validation_split is {split:g}, which leaves no rows for {left}: X has {rows} rows")
    training, validation = examples.part(slice(0, count)), examples.part(slice(count, None))
    check_weights(training, "training")
    check_weights(validation, "validation")
    compare_targets(model, training, validation)
    return training, validation


def compare_targets(model: Model, training: Examples, validation: Examples) -> None:
    """Warn where rows to validate on are of a class that no row to train on has, and where the rows are sorted."""
    yes_or_no = isinstance(model.loss, BinaryCrossEntropy) and model.outputs == 1
    classes = yes_or_no or isinstance(model.loss, CrossEntropy)
    if not classes and training.t.width > 1:
        return
    fault = ""
    if len(training) > 9 and in_order(training.t, validation.t):
        fault = f"the rows are sorted by {'class' if classes else 'y'}"
    if classes:
        labels = (data.labels_of(part.t) for part in (validation, training))
        classes_of = ((part > 0.5 if yes_or_no else part).astype(np.int64) for part in labels)
        found, known = (np.bincount(part, minlength=max(2, model.outputs)) for part in classes_of)
        missing = np.flatnonzero((found > 0) & (known == 0))
        fault = f"no row before them is of class {missing[0]}" if len(missing) else fault
    if fault:
        warn(
            f"validation_split takes the last rows of y, and {fault}; shuffle the rows of X and y first, or pass "
            "validation_data"
        )


def in_order(*tables: Rows) -> bool:
    """Whether labels or numbers, one table after the other, only rise or only fall, and those of the first do."""
    rises = falls = False
    last = None
    for table in tables:
        for _, block in table.blocks():
            numbers = block.argmax(axis=1) if table.width > 1 else block[:, 0]
            numbers = numbers if last is None else np.concatenate([last, numbers])
            rises |= bool((numbers[1:] > numbers[:-1]).any())
            falls |= bool((numbers[1:] < numbers[:-1]).any())
            if rises and falls:
                return False
            last = numbers[-1:]
        if not (rises or falls):  # the first are all alike
            return False
    return True
