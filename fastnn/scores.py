"""Metrics of all rows of an epoch at once, in NumPy: exact, and the same numbers as scikit-learn's.

y_true holds integer labels (rows,), or numbers (rows, outputs): one-hot rows, yes-or-no targets or quantities;
y_pred holds the outputs (rows, outputs). One column may come as (rows, 1) or as (rows,), in both. With one output the
positive class is where it is above 0.5; with more, the predicted class is the largest output, unless the columns are
yes-or-no targets side by side. ``multilabel`` says if they are; None looks at y_true, whose rows then do not all sum
to 1.

Each raises a ValueError where the shapes do not fit, where there are no rows, and where a number is NaN or infinite;
all but ``r2`` also where a label is no class.

>>> y_true = np.array([0, 0, 1, 1])
>>> y_pred = np.array([[0.1], [0.6], [0.4], [0.9]])
>>> fn.scores.precision(y_true, y_pred), fn.scores.roc_auc(y_true, y_pred)
(0.5, 0.75)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .checks import SUM_TOLERANCE, counted
from .data import Rows, as_array

__all__ = ["confusion_matrix", "f1", "log_loss", "precision", "r2", "recall", "roc_auc"]


def _pair(y_true: Any, y_pred: Any, labels: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """(y_true, y_pred) as (rows, outputs) both, or y_true as (rows,) labels for several outputs; or a ValueError.

    labels : whether y_true is about classes.
    """
    t, y = as_array("y_true", y_true), as_array("y_pred", y_pred)
    if y.ndim not in (1, 2) or 0 in y.shape[1:]:
        raise ValueError(f"y_pred has shape {y.shape}; expected (rows, outputs), or (rows,) for one output")
    rows, outputs = len(y), 1 if y.ndim == 1 else y.shape[1]
    one_column = t.shape in ((rows,), (rows, 1))
    if t.shape != (rows, outputs) and not (one_column and (labels or outputs == 1)):
        both = f"labels of shape ({rows},) or rows of shape ({rows}, {outputs})" if labels else f"({rows}, {outputs})"
        wanted = f"({rows},) or ({rows}, 1)" if outputs == 1 else both
        raise ValueError(f"y_true has shape {t.shape}; expected {wanted}, because y_pred has shape {y.shape}")
    if rows == 0:
        raise ValueError(f"y_pred has no rows (shape {y.shape}); expected at least one")
    y = y.reshape(rows, outputs).astype(np.float64 if y.dtype.kind in "biu" else y.dtype, copy=False)
    Rows("y_pred", y, "float64").check_finite()
    if not one_column or not labels:
        t = t.reshape(rows, outputs)
        Rows("y_true", t, "float64").check_finite()
        return t, y
    t = t.reshape(rows)
    good = (t >= 0) & (t <= 1) if outputs == 1 else (t >= 0) & (t < outputs) & (t == np.floor(t))
    if not good.all():
        row = int(np.argmin(good))
        wanted = "0 and 1, or what lies between" if outputs == 1 else f"whole numbers from 0 to {outputs - 1}"
        raise ValueError(
            f"y_true has the label {float(t[row]):g} in row {row}; expected {wanted}, because y_pred has "
            f"{counted(outputs, 'output')}"
        )
    return (t[:, None] if outputs == 1 else t.astype(np.int64)), y


def _labels(y_true: np.ndarray) -> np.ndarray:
    """The classes of y_true: its labels, its largest columns, or 0 and 1 for one yes-or-no column."""
    if y_true.ndim == 1:
        return y_true
    return np.asarray(y_true.argmax(axis=1) if y_true.shape[1] > 1 else (y_true[:, 0] > 0.5).astype(np.int64))


def _multilabel(y_true: np.ndarray, multilabel: bool | None) -> bool:
    """Whether the rows are sets of labels, not one-hot or the probabilities of classes: some row does not sum to 1."""
    if y_true.ndim == 1 or y_true.shape[1] == 1:
        return False
    if multilabel is not None:
        return multilabel
    return bool((np.abs(y_true.sum(axis=1, dtype=np.float64) - 1) > SUM_TOLERANCE).any())


def _counts(
    y_true: np.ndarray, y_pred: np.ndarray, multilabel: bool | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(right, predicted, true) for each class, or for the positive class of one output."""
    y_true, y_pred = _pair(y_true, y_pred)
    if _multilabel(y_true, multilabel):
        yes, said = y_true > 0.5, y_pred > 0.5
        return (yes & said).sum(axis=0), said.sum(axis=0), yes.sum(axis=0)
    table = confusion_matrix(y_true, y_pred)
    counts = table.diagonal(), table.sum(axis=0), table.sum(axis=1)
    if y_pred.shape[1] == 1:
        return counts[0][1:], counts[1][1:], counts[2][1:]
    occurs = (counts[1] + counts[2]) > 0
    return counts[0][occurs], counts[1][occurs], counts[2][occurs]


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> float:
    """The mean of the ratios; 0 / 0 counts as 0."""
    return float(np.mean(numerator / np.maximum(1, denominator)))


def confusion_matrix(y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    """How many rows of class i (rows of the matrix) were taken for class j (columns)."""
    y_true, y_pred = _pair(y_true, y_pred)
    classes = max(2, y_pred.shape[1])
    predicted = y_pred.argmax(axis=1) if y_pred.shape[1] > 1 else (y_pred[:, 0] > 0.5).astype(np.int64)
    table = np.bincount(_labels(y_true) * classes + predicted, minlength=classes * classes)
    return table.reshape(classes, classes)


def precision(y_true: np.ndarray, y_pred: np.ndarray, multilabel: bool | None = None) -> float:
    """Right / predicted, of the positive class or as the mean over the classes that occur; 0 where none was."""
    right, predicted, _ = _counts(y_true, y_pred, multilabel)
    return _ratio(right, predicted)


def recall(y_true: np.ndarray, y_pred: np.ndarray, multilabel: bool | None = None) -> float:
    """Right / true, of the positive class or as the mean over the classes that occur; 0 where there is none."""
    right, _, true = _counts(y_true, y_pred, multilabel)
    return _ratio(right, true)


def f1(y_true: np.ndarray, y_pred: np.ndarray, multilabel: bool | None = None) -> float:
    """2 · right / (predicted + true), of the positive class or as the mean over the classes that occur."""
    right, predicted, true = _counts(y_true, y_pred, multilabel)
    return _ratio(2 * right, predicted + true)


def roc_auc(y_true: np.ndarray, y_pred: np.ndarray, multilabel: bool | None = None) -> float:
    """The probability that a row of the class scores higher than another row, ties counting one half (Fawcett 2006).

    With several classes or columns, the mean of each against the rest over those that have rows of both kinds; NaN
    where no class has.
    """
    y_true, y_pred = _pair(y_true, y_pred)
    if y_pred.shape[1] == 1:
        columns = [(_labels(y_true) == 1, y_pred[:, 0])]
    elif _multilabel(y_true, multilabel):
        columns = [(y_true[:, j] > 0.5, y_pred[:, j]) for j in range(y_pred.shape[1])]
    else:
        labels = _labels(y_true)
        columns = [(labels == j, y_pred[:, j]) for j in range(y_pred.shape[1])]
    areas = [_area(positive, score) for positive, score in columns if 0 < positive.sum() < len(positive)]
    return float(np.mean(areas)) if areas else float("nan")


def _area(positive: np.ndarray, score: np.ndarray) -> float:
    """The area under one ROC curve from the ranks of the scores (Mann & Whitney 1947); equal scores share a rank."""
    order = np.argsort(score, kind="stable")
    ordered = score[order]
    begins = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    ends = np.r_[begins[1:], len(score)]
    ranks = np.repeat((begins + 1 + ends) / 2, ends - begins)
    yes = int(positive.sum())
    return float((ranks[positive[order]].sum() - yes * (yes + 1) / 2) / (yes * (len(score) - yes)))


def log_loss(y_true: np.ndarray, y_pred: np.ndarray, multilabel: bool | None = None) -> float:
    """The mean of -log(probability of what is true), with probabilities within one rounding of 0 and 1.

    With one output or several yes-or-no columns, the binary cross-entropy.
    """
    y_true, y_pred = _pair(y_true, y_pred)
    tiny = np.finfo(y_pred.dtype).eps
    p = np.clip(y_pred.astype(np.float64), tiny, 1 - tiny)
    if p.shape[1] == 1 or _multilabel(y_true, multilabel):
        t = y_true.astype(np.float64)
        return float(-np.mean(t * np.log(p) + (1 - t) * np.log1p(-p)))
    if y_true.ndim == 1:
        return float(-np.mean(np.log(p[np.arange(len(p)), y_true])))
    return float(-np.mean((y_true * np.log(p)).sum(axis=1)))


def r2(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """1 - Σ(t - y)² / Σ(t - mean(t))², the mean over the outputs.

    An output whose targets are all equal counts 1 where they are met and 0 where not (as in scikit-learn).
    """
    t, y = (array.astype(np.float64) for array in _pair(y_true, y_pred, labels=False))
    error = ((t - y) ** 2).sum(axis=0)
    spread = ((t - t.mean(axis=0)) ** 2).sum(axis=0)
    varied = (t != t[0]).any(axis=0) & (spread > 0)  # the mean of equal numbers may be off by a rounding
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.where(varied, 1 - error / spread, np.where(error > 0, 0.0, 1.0))
    return float(found.mean())
