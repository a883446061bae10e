"""X and y as a model takes them: checked against each other, the loss and the metrics, before any work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import data, dispatch
from .checks import number, shown, warn
from .data import Examples
from .layers import Dense
from .losses import BinaryCrossEntropy, CrossEntropy, Loss

if TYPE_CHECKING:
    from .model import Model

__all__ = ["checked", "compiled_loss", "inputs", "look_at_scale", "weigh_classes", "with_validation"]

#: Columns from which on a table of bytes is taken for images: the smallest have 8 x 8 pixels.
PIXELS = 64


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
    loss.check_slope(t, getattr(last, "activation", "linear"))
    for metric in model.metrics:
        metric.check_targets(names[1], t, loss, last.activation_name)
    found = Examples(x, t, data.sample_weights(names[2], sample_weight, len(x)))
    check_weights(found, action, names[2])
    return found


def inputs(model: Model, name: str, X: Any, look: bool = True) -> data.Rows:
    """X checked against the model; on a GPU it stays there. look : as in ``data.inputs``."""
    if dispatch.on_gpu(X):
        return data.device_inputs(name, X, model.inputs, model.dtype, model.device)
    data.check_columns(name, X, model.columns)
    return data.inputs(name, X, model.inputs, model.dtype, look=look)


def targets(model: Model, loss: Loss, name: str, y: Any) -> data.Rows:
    """y checked against the loss; on a GPU it stays there, but is looked at on the host."""
    if not dispatch.on_gpu(y):
        return loss.targets(name, y, model.outputs, model.dtype)
    rows = dispatch.device_rows(model.device, name, y, model.dtype)
    host = loss.targets(name, rows.copy_to_host(), model.outputs, model.dtype)
    return data.DeviceRows(name, rows, model.dtype, host)


def look_at_scale(model: Model, x: data.Rows) -> None:
    """Warn where the first rows of X look like images of bytes, with which a network trains badly without a word."""
    array = x.given[:1000]
    if isinstance(array, np.ndarray) and array.dtype.kind in "iu" and x.width >= PIXELS:
        if isinstance(model.layers[1], Dense) and array.min() >= 0 and 127 < array.max() < 256:
            warn(
                f"{x.name} has whole numbers from {array.min()} to {array.max()}, like images; a network trains badly "
                f"unless its inputs are of the size of 1: write {x.name} / 255, here and to predict"
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
        if validation.t.width != examples.t.width:  # which the cross-entropy alone leaves open
            found, expected = ("labels" if t.width == 1 else "one-hot rows" for t in (validation.t, examples.t))
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
    compare_classes(model, training, validation)
    return training, validation


def compare_classes(model: Model, training: Examples, validation: Examples) -> None:
    """Warn where rows to validate on are of a class that no row to train on has, and where the rows are sorted."""
    yes_or_no = isinstance(model.loss, BinaryCrossEntropy) and model.outputs == 1
    if yes_or_no or isinstance(model.loss, CrossEntropy):
        labels = [data.labels_of(part.t) for part in (validation, training)]
        found, known = [(part > 0.5 if yes_or_no else part).astype(np.int64) for part in labels]
        missing, steps = np.setdiff1d(found, known), np.diff(np.concatenate(labels[::-1]).astype(np.float64))
        several = len(known) > 9 and len(np.unique(known)) > 1
        fault = ""
        if len(missing):
            fault = f"no row before them is of class {missing[0]}"
        elif several and ((steps >= 0).all() or (steps <= 0).all()):
            fault = "the rows are sorted by class"
        if fault:
            warn(
                f"validation_split takes the last rows of y, and {fault}; shuffle the rows of X and y first, or pass "
                "validation_data"
            )
