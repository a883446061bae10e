"""What a fit reports: one number an epoch for the loss and for each metric."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["History"]


class History:
    """The curves of a fit: ``history["loss"]`` is a list with one number an epoch.

    Keys are "loss", the metrics, and with validation data the same again after ``val_``.
    """

    def __init__(self) -> None:
        self.history: dict[str, list[float]] = {}

    @property
    def epochs(self) -> int:
        """Epochs that were finished."""
        return max((len(curve) for curve in self.history.values()), default=0)

    def append(self, logs: dict[str, float]) -> None:
        """Add the numbers of one epoch."""
        for key, value in logs.items():
            self.history.setdefault(key, []).append(value)

    def to_dict(self) -> dict[str, list[float]]:
        """A copy of the curves."""
        return {key: list(curve) for key, curve in self.history.items()}

    def keys(self) -> list[str]:
        return list(self.history)

    def __getitem__(self, key: str) -> list[float]:
        if key not in self.history:
            raise KeyError(f"{key!r} was not recorded; there is {', '.join(map(repr, self.history)) or 'nothing yet'}")
        return self.history[key]

    def __contains__(self, key: object) -> bool:
        return key in self.history

    def __iter__(self) -> Iterator[str]:
        return iter(self.history)

    def __len__(self) -> int:
        return len(self.history)

    def __str__(self) -> str:
        if not self.history:
            return "History: no epochs yet"
        header = ["epoch", *self.history]
        rows = [
            [str(epoch + 1), *(f"{curve[epoch]:.4f}" for curve in self.history.values())]
            for epoch in range(self.epochs)
        ]
        widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
        return "\n".join(
            "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in [header, *rows]
        )

    def __repr__(self) -> str:
        last = ", ".join(f"{key}={curve[-1]:.4f}" for key, curve in self.history.items())
        return f"<History of {self.epochs} epochs{': ' + last if last else ''}>"
