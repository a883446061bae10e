"""What is reported beside the loss, computed by the engine in the same pass.

"accuracy": the share of rows whose most probable class is right; for single yes-or-no outputs the share
of outputs on the right side of 0.5. "mse" and "mae": the mean squared and the mean absolute error.
"""

from __future__ import annotations

from typing import Any

from .checks import nearest, shown
from .losses import BinaryCrossEntropy, Loss

__all__ = ["check", "lower"]

#: Accepted names and the metric each stands for.
NAMES = {
    "accuracy": "accuracy",
    "acc": "accuracy",
    "mse": "mse",
    "mean_squared_error": "mse",
    "mae": "mae",
    "mean_absolute_error": "mae",
}


def check(name: str, value: Any) -> tuple[str, ...]:
    """The metrics that ``value`` (a sequence of names) asks for, each once."""
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        raise TypeError(f'{name} is {shown(value)}; expected a list of names, such as ["accuracy"]')
    found: list[str] = []
    for entry in value:
        if not isinstance(entry, str) or entry.lower() not in NAMES:
            hint = nearest(entry, NAMES) if isinstance(entry, str) else ""
            raise ValueError(f"{name} has {shown(entry)}; expected 'accuracy', 'mse' or 'mae'{hint}")
        if NAMES[entry.lower()] not in found:
            found.append(NAMES[entry.lower()])
    return tuple(found)


def lower(metric: str, loss: Loss, outputs: int, target_width: int) -> str:
    """The kernel of a metric for a model of ``outputs`` units and targets of ``target_width`` columns."""
    if metric == "accuracy":
        one_of_many = outputs > 1 and not isinstance(loss, BinaryCrossEntropy)
        return "categorical_accuracy" if one_of_many else "binary_accuracy"
    if outputs != target_width:
        raise ValueError(
            f"metrics has {metric!r}, which compares outputs with targets of the same width, but y holds "
            f"integer labels for {outputs} outputs; expected one-hot rows, or metrics=['accuracy']"
        )
    return {"mse": "squared_error", "mae": "absolute_error"}[metric]
