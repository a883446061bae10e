"""What is reported beside the loss, in the same pass over the data.

Some metrics are means over rows, which the engine adds up batch by batch. Others need all rows of an epoch at once
(F1, the area under the ROC curve): for them the engine keeps the outputs of each row as it computes them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from . import checks, losses, scores
from .checks import counted, nearest, shown, whole_number
from .data import Rows
from .elsewhere import missing_from
from .losses import BinaryCrossEntropy, ClassLoss, Loss
from .settings import Closed

__all__ = [
    "AUC",
    "F1",
    "R2",
    "Accuracy",
    "FunctionMetric",
    "LogLoss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Metric",
    "Precision",
    "Recall",
    "RootMeanSquaredError",
    "TopKAccuracy",
    "get",
    "larger_is_better",
]

if not TYPE_CHECKING:  # which else would take any name for known
    __getattr__ = missing_from(__name__)


class Metric(Closed):
    """The base of all metrics.

    name : its key in the logs; by_rows : whether it follows from a mean over rows (``kernel`` and ``finish``), or
    else from all rows of an epoch (``of_epoch``). One of your own defines ``name`` and ``of_epoch``.
    """

    name = ""
    by_rows = False
    #: What it can be asked for: "classes" (labels or one-hot rows), "numbers" (targets as wide as the outputs), or "".
    targets = ""
    #: Whether more of it is better; None where that is not known.
    larger_is_better: bool | None = None

    def check(self, loss: Loss, last_activation: str, outputs: int, target_width: int) -> None:
        """Raise a ValueError where the metric says nothing about such a model."""
        if self.targets == "classes":
            if not _probabilities(loss, last_activation):
                raise ValueError(
                    f"metrics has {self.name!r}, which is about classes, but the model predicts numbers "
                    f"(loss {loss!r} after {last_activation!r}); expected a metric such as 'mae' or 'r2'"
                )
        if self.targets == "numbers" and outputs != target_width:
            if isinstance(loss, losses.RowLoss):
                raise ValueError(
                    f"metrics has {self.name!r}, which compares outputs with as many targets, but y has {target_width} "
                    f"of them for {counted(outputs, 'output')}; expected a function f(y_true, y_pred)"
                )
            raise ValueError(
                f"metrics has {self.name!r}, which compares outputs with targets of the same width, but y holds "
                f"integer labels for {outputs} outputs; expected one-hot rows, or metrics=['accuracy']"
            )

    def check_targets(self, name: str, t: Rows, loss: Loss, last_activation: str) -> None:
        """Raise a ValueError where the metric says nothing about such targets; ``name``: of their argument."""

    def kernel(self, loss: Loss, outputs: int) -> str:
        """The kernel of a metric by rows."""
        raise NotImplementedError(f"{type(self).__name__} does not define kernel(loss, outputs)")

    def options(self) -> tuple[float, ...]:
        """The numbers that the kernel reads from the plan's options."""
        return ()

    def finish(self, mean: float) -> float:
        """The metric from the mean over the rows."""
        return mean

    def of_epoch(self, y_true: np.ndarray, y_pred: np.ndarray) -> float:
        """The metric from all rows: y_true (rows,) labels or (rows, outputs); y_pred (rows, outputs)."""
        raise NotImplementedError(f"{type(self).__name__} does not define of_epoch(y_true, y_pred)")

    def of_model(self, loss: Loss, y_true: np.ndarray, y_pred: np.ndarray) -> float:
        """``of_epoch`` for a model with this loss; the arrays are copies, which it may change."""
        return self.of_epoch(y_true.copy(), y_pred.copy())


def _probabilities(loss: Loss, last_activation: str) -> bool:
    """Whether the outputs are probabilities of classes."""
    return isinstance(loss, ClassLoss) or last_activation in ("sigmoid", "softmax")


class _OfClasses(Metric):
    """A metric of classes that outputs need not be probabilities for, as where least squares tell classes apart."""

    larger_is_better = True

    def check_targets(self, name: str, t: Rows, loss: Loss, last_activation: str) -> None:
        if isinstance(loss, ClassLoss):
            return
        between = _probabilities(loss, last_activation)
        for first, block in t.blocks():
            bad = np.argwhere((block < 0) | (block > 1) if between else (block != 0) & (block != 1))
            if len(bad):
                row, column = map(int, bad[0])
                raise ValueError(
                    f"metrics has {self.name!r}, which is about classes, but {name} has {float(block[row, column]):g} "
                    f"in row {first + row}; expected 0 and 1, or a metric such as 'mae' or 'r2'"
                )


class Accuracy(_OfClasses):
    """right rows / rows, where a row is right if its most probable class is; with single yes-or-no outputs, the share
    of outputs on the right side of 0.5.

    >>> model = fn.Model([fn.Input(2), fn.Dense(2, "softmax")], seed=0)
    >>> model.set_weights([np.eye(2), np.zeros(2)])
    >>> model.compile("sgd", "cross_entropy", ["accuracy"])
    >>> X = [[1, 0], [0, 1], [1, 0], [0, 1]]
    >>> model.evaluate(X, [0, 1, 0, 0], verbose=0)["accuracy"]
    0.75
    """

    name = "accuracy"
    by_rows = True

    def kernel(self, loss: Loss, outputs: int) -> str:
        one_of_many = outputs > 1 and not isinstance(loss, BinaryCrossEntropy)
        return "categorical_accuracy" if one_of_many else "binary_accuracy"


class TopKAccuracy(_OfClasses):
    """The share of rows whose right class is among the ``k`` most probable: fewer than ``k`` are more probable than it.

    k : 1 or more. ``compile`` raises a ValueError for a model with k classes or fewer.
    """

    by_rows = True

    def __init__(self, k: int = 5):
        self.k = whole_number("k", k)
        self.name = f"top_{self.k}_accuracy"

    def check(self, loss: Loss, last_activation: str, outputs: int, target_width: int) -> None:
        if outputs <= self.k or isinstance(loss, BinaryCrossEntropy):
            raise ValueError(
                f"metrics has {self.name!r}, but the model has {counted(outputs, 'output')}"
                f"{' that are not exclusive' if outputs > self.k else ''}; expected more than {self.k} classes"
            )

    def kernel(self, loss: Loss, outputs: int) -> str:
        return "top_k_accuracy"

    def options(self) -> tuple[float, ...]:
        return (float(self.k),)


class MeanSquaredError(Metric):
    """The mean of (y - t)² over rows and outputs, in the units of y squared."""

    name = "mse"
    by_rows = True
    targets = "numbers"
    larger_is_better = False

    def kernel(self, loss: Loss, outputs: int) -> str:
        return "squared_error"


class RootMeanSquaredError(MeanSquaredError):
    """√ of the mean of (y - t)² over rows and outputs, in the units of y."""

    name = "rmse"

    def finish(self, mean: float) -> float:
        return float(np.sqrt(mean))


class MeanAbsoluteError(Metric):
    """The mean of the absolute errors, abs(y - t), over rows and outputs, in the units of y."""

    name = "mae"
    by_rows = True
    targets = "numbers"
    larger_is_better = False

    def kernel(self, loss: Loss, outputs: int) -> str:
        return "absolute_error"


class FunctionMetric(Metric):
    """A function f(y_true, y_pred) of all rows of an epoch, as a metric.

    y_true : (rows,) integer labels, or (rows, outputs); y_pred : (rows, outputs), probabilities where the loss is a
    cross-entropy, also one ``from_logits``.
    """

    def __init__(self, function: Callable[[np.ndarray, np.ndarray], float], name: str | None = None):
        self.function = checks.function("function", function, ("y_true", "y_pred"))
        self.name: str = (
            checks.name_or_none("name", name) or getattr(function, "__name__", None) or type(function).__name__
        )

    def of_epoch(self, y_true: np.ndarray, y_pred: np.ndarray) -> float:
        try:
            value = self.function(y_true, y_pred)
        except Exception as fault:
            fault.add_note(
                f"in the metric {self.name!r}, for y_true of shape {y_true.shape} and y_pred of shape {y_pred.shape}, "
                "the outputs; of probabilities, labels are y_pred.argmax(axis=1), or y_pred[:, 0] > 0.5 of a single one"
            )
            raise
        try:
            return float(value)
        except (TypeError, ValueError):
            raise TypeError(f"the metric {self.name!r} returned {shown(value)}; expected a number") from None

    def __repr__(self) -> str:
        return f"FunctionMetric({self.name})"


class _Score(Metric):
    """A metric of an epoch that ``scores`` defines."""

    score: staticmethod[..., float]

    def of_epoch(self, y_true: np.ndarray, y_pred: np.ndarray) -> float:
        return self.score(y_true, y_pred)

    def of_model(self, loss: Loss, y_true: np.ndarray, y_pred: np.ndarray) -> float:
        return self.of_epoch(y_true, y_pred)


class _ScoreOfClasses(_Score, _OfClasses):
    """One that probabilities are needed for. Whether outputs exclude one another is known from a cross-entropy."""

    targets = "classes"

    def of_model(self, loss: Loss, y_true: np.ndarray, y_pred: np.ndarray) -> float:
        several = isinstance(loss, BinaryCrossEntropy) if isinstance(loss, ClassLoss) else None
        return self.score(y_true, y_pred, several)


class Precision(_ScoreOfClasses):
    """right / taken: of the rows taken for a class, the share that belongs to it; the mean over the classes that occur.

    With one output, of class 1 alone. A class that was never taken counts 0; one that no row has, either, not at all.
    """

    name, score = "precision", staticmethod(scores.precision)


class Recall(_ScoreOfClasses):
    """right / rows of the class: of the rows of a class, the share that was found; the mean over the classes that
    occur. With one output, of class 1 alone.
    """

    name, score = "recall", staticmethod(scores.recall)


class F1(_ScoreOfClasses):
    """2 · right / (taken + rows of the class), the harmonic mean of precision and recall of a class; the mean over the
    classes that occur ("macro"). With one output, of class 1 alone.
    """

    name, score = "f1", staticmethod(scores.f1)


class AUC(_ScoreOfClasses):
    """The area under the ROC curve, exact; with several classes the mean of each one against the rest (Fawcett 2006).

    It is the probability that a row of the class scores higher than another row; 1/2 is guessing.
    """

    name, score = "auc", staticmethod(scores.roc_auc)


class LogLoss(_ScoreOfClasses):
    """The mean of -log(probability of the right class), in nats: log 2 for one who guesses between two classes."""

    name, score = "log_loss", staticmethod(scores.log_loss)
    larger_is_better = False


class R2(_Score):
    """1 - Σ(t - y)² / Σ(t - mean(t))²: the share of the targets' variance that is explained; the mean over outputs."""

    name, score, targets = "r2", staticmethod(scores.r2), "numbers"
    larger_is_better = True


BY_NAME: dict[str, type[Metric]] = {
    "accuracy": Accuracy,
    "acc": Accuracy,
    "top_k": TopKAccuracy,
    "top_k_accuracy": TopKAccuracy,
    "top_k_categorical_accuracy": TopKAccuracy,
    "sparse_top_k_categorical_accuracy": TopKAccuracy,
    "precision": Precision,
    "recall": Recall,
    "f1": F1,
    "auc": AUC,
    "roc_auc": AUC,
    "mse": MeanSquaredError,
    "mean_squared_error": MeanSquaredError,
    "rmse": RootMeanSquaredError,
    "root_mean_squared_error": RootMeanSquaredError,
    "mae": MeanAbsoluteError,
    "mean_absolute_error": MeanAbsoluteError,
    "r2": R2,
    "r2_score": R2,
    "log_loss": LogLoss,
}


def larger_is_better(name: str) -> bool | None:
    """Whether more is better of what the logs have by this name, with or without ``val_``; None for an unknown one."""
    name = name.removeprefix("val_")
    if name == "loss" or name in losses.BY_NAME:
        return False
    kind = TopKAccuracy if re.fullmatch(r"top_\d+_accuracy", name) else BY_NAME.get(name, Metric)
    return kind.larger_is_better


def get(name: str, value: Any) -> tuple[Metric, ...]:
    """The metrics that ``value`` asks for, each once: a sequence of names, metrics and functions."""
    if value is None:
        return ()
    if isinstance(value, (str, Metric)) or not isinstance(value, Iterable):
        raise TypeError(f'{name} is {shown(value)}; expected a list of names, such as ["accuracy"]')
    found: dict[str, Metric] = {}
    for entry in value:
        if isinstance(entry, Metric):
            metric = entry
        elif isinstance(entry, str) and entry.lower() in BY_NAME:
            metric = BY_NAME[entry.lower()]()
        elif callable(entry) and not isinstance(entry, type):
            function = f"{name}: {getattr(entry, '__name__', shown(entry))}"
            metric = FunctionMetric(checks.function(function, entry, ("y_true", "y_pred")))
        else:
            hint = nearest(entry, BY_NAME) if isinstance(entry, str) else ""
            kinds: dict[Any, str] = {}  # each with the first of its names
            for key, kind in BY_NAME.items():
                kinds.setdefault(kind, key)
            names = ", ".join(map(repr, kinds.values()))
            raise ValueError(f"{name} has {shown(entry)}; expected {names} or a function f(y_true, y_pred){hint}")
        kind = type(metric)
        methods = ("kernel",) if metric.by_rows else ("of_epoch", "of_model")
        checks.defined(f"{name} has", metric, Metric, methods, 'a name, such as "accuracy"')
        if not isinstance(metric.name, str) or not metric.name:
            raise TypeError(
                f"{name} has {kind.__name__} with the name {shown(metric.name)}; expected a non-empty string"
            )
        if metric.name == "loss" or metric.name.startswith("val_"):
            raise ValueError(f"{name} has a metric named {metric.name!r}; expected another name: that one is taken")
        first = found.setdefault(metric.name, metric)
        if type(first) is not type(metric) or vars(first) != vars(metric):
            raise ValueError(
                f"{name} has two metrics named {metric.name!r}; expected a name for each, as in "
                "metrics.FunctionMetric(function, name)"
            )
    return tuple(found.values())
