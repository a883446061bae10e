"""What a fit reports: one number an epoch for the loss and for each metric."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

from .checks import choice, counted, shown

__all__ = ["History"]

#: A curve whose largest number is more than so many times its least is drawn on a logarithmic axis.
WIDE_SPAN = 1000

#: A longer table shows this many epochs at its beginning, and as many at its end.
SHOWN_EPOCHS = 10


class History(dict[str, list[float]]):
    """The curves of a fit: ``history["loss"]`` is a list with one number an epoch.

    Keys are "loss", the metrics, and with validation data the same again after ``val_``. It is a dictionary, so
    ``pandas.DataFrame(history)`` works; ``print(history)`` shows a table, ``history.plot()`` the curves, and a
    notebook shows the table by itself.

    >>> model = fn.Model([fn.Input(2), fn.Dense(1, "sigmoid")], seed=0)
    >>> model.compile("adam", "binary_cross_entropy", ["accuracy"])
    >>> X, y = fn.datasets.moons(100)
    >>> history = model.fit(X, y, epochs=3, validation_split=0.2, verbose=0)
    >>> list(history), len(history["val_loss"]), history.epochs
    (['loss', 'accuracy', 'val_loss', 'val_accuracy'], 3, 3)

    Raises a KeyError for a curve that was not recorded, which names those that were.
    """

    @property
    def history(self) -> dict[str, list[float]]:
        """The curves as a plain dictionary, as Keras has it."""
        return dict(self)

    @property
    def epochs(self) -> int:
        """Epochs that were finished."""
        return max(map(len, self.values()), default=0)

    @property
    def best_epoch(self) -> int | None:
        """The epoch, counted from 1, of the least validation loss; None where nothing was validated.

        (``EarlyStopping.best_epoch`` counts from 0, as callbacks do.)
        """
        losses = [(loss, epoch) for epoch, loss in enumerate(self.get("val_loss", ()), 1) if not math.isnan(loss)]
        return min(losses)[1] if losses else None

    def extend(self, curves: dict[str, list[float]]) -> None:
        """Add the numbers of some epochs, as many for each curve.

        What is missing in an epoch is NaN there, so all curves are of one length.
        """
        if self.keys() != curves.keys():
            before, missing = self.epochs, [math.nan] * max(map(len, curves.values()), default=0)
            for key in curves:
                if key not in self:
                    self[key] = [math.nan] * before
            curves = {key: curves.get(key, missing) for key in self}
        for key, curve in self.items():
            curve.extend(curves[key])

    def to_dict(self) -> dict[str, list[float]]:
        """A copy of the curves."""
        return {key: list(curve) for key, curve in self.items()}

    def to_frame(self) -> Any:
        """The curves as a pandas.DataFrame: a row an epoch, counted from 1, and a column a curve.

        Raises an ImportError without pandas.
        """
        try:
            import pandas
        except ImportError as fault:
            raise ImportError("to_frame needs pandas: python -m pip install pandas") from fault
        return pandas.DataFrame(dict(self), index=pandas.RangeIndex(1, self.epochs + 1, name="epoch"))

    def plot(self, names: str | Sequence[str] | None = None, *, axes: Any = None) -> Any:
        """Draw the curves, training and validation together, one axes a quantity; returns the matplotlib Figure.

        names : which quantities, such as "loss" or ["loss", "accuracy"], by default all; axes : matplotlib axes to
        draw into, one for each, instead of a new figure. The dotted line is the epoch of the least validation loss.
        The axis of a quantity that spans more than a factor of 1000 is logarithmic.

        A notebook shows the figure; elsewhere save it, ``history.plot().savefig("fit.png")``, or draw into
        the axes of ``matplotlib.pyplot.subplots``.

        Raises an ImportError without matplotlib, a ValueError before the first epoch or for a name that was not
        recorded, and a ValueError or TypeError for axes that do not fit.
        """
        from . import figures

        if self.epochs == 0:
            raise ValueError("the history has no epochs yet; call fit first")
        chosen = self._quantities(names)
        figure, places = figures.panels(axes, len(chosen))
        for name, place in zip(chosen, places, strict=True):
            self._draw(name, place)
        labels = next((place for name, place in zip(chosen, places, strict=True) if f"val_{name}" in self), None)
        if labels is not None and axes is None:
            figure.legend(*labels.get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
        elif labels is not None:
            labels.legend()
        return figure

    def _draw(self, name: str, axes: Any) -> None:
        """One quantity over the epochs, and where the validation loss was least."""
        from .figures import COLORS, GRAY

        epochs = range(1, self.epochs + 1)
        marker = "o" if self.epochs == 1 else None  # a line of one point is invisible
        axes.plot(epochs, self[name], color=COLORS[0], marker=marker, label="training")
        if f"val_{name}" in self:
            curve, best = self[f"val_{name}"], self.best_epoch
            axes.plot(epochs, curve, color=COLORS[1], linestyle="--", marker=marker, label="validation")
            if best is not None:
                axes.axvline(best, color=GRAY, linestyle=":", linewidth=1, zorder=0)
                axes.plot([best], curve[best - 1], "o", color=COLORS[1], markeredgecolor="white", markersize=8)
                title = f"best epoch {best}: validation {number_text(curve[best - 1])}"
                axes.set_title(title, loc="left", size="small", color=GRAY)
        axes.set(xlabel="epoch", ylabel=name)
        values = [value for key in (name, f"val_{name}") for value in self.get(key, ()) if math.isfinite(value)]
        if values and 0 < WIDE_SPAN * min(values) < max(values):
            axes.set_yscale("log")
        axes.spines[["top", "right"]].set_visible(False)
        if self.epochs == 1:
            axes.set_xticks([1])
        else:
            axes.locator_params(axis="x", integer=True)

    def _quantities(self, names: Any) -> list[str]:
        """The quantities that ``names`` asks for, each once."""
        recorded = [key for key in self if not (key.startswith("val_") and key.removeprefix("val_") in self)]
        if names is None:
            return recorded
        if not isinstance(names, (str, list, tuple)) or len(names) == 0:
            raise TypeError(f'names is {shown(names)}; expected a name or a list of names, such as ["loss"]')
        wanted = [names] if isinstance(names, str) else names
        return list(dict.fromkeys(choice("names", name, recorded) for name in wanted))

    def _table(self) -> list[list[str]]:
        """The header, then a row an epoch; a row of dots stands for what is left out of a long table."""
        header = ["epoch", *self]
        rows, dots, best = [header], ["..."] * len(header), self.best_epoch
        for epoch in range(self.epochs):
            if SHOWN_EPOCHS <= epoch < self.epochs - SHOWN_EPOCHS and epoch + 1 != best:
                if rows[-1] is not dots:
                    rows.append(dots)
            else:
                rows.append([str(epoch + 1), *(number_text(curve[epoch]) for curve in self.values())])
        return rows

    def _headline(self) -> str:
        """How many epochs, and which was the best."""
        best = self.best_epoch
        least = f", least val_loss {number_text(self['val_loss'][best - 1])} in epoch {best}" if best else ""
        return counted(self.epochs, "epoch") + least

    def __missing__(self, key: str) -> list[float]:
        raise KeyError(f"{key!r} was not recorded; there is {', '.join(map(repr, self)) or 'nothing yet'}")

    def __str__(self) -> str:
        if not self.epochs:
            return "History: no epochs yet"
        rows = self._table()
        return "\n".join([*aligned(rows, ">" * len(rows[0])), self._headline()])

    def __repr__(self) -> str:
        last = ", ".join(f"{key}={number_text(curve[-1])}" for key, curve in self.items())
        return f"<History of {self.epochs} epochs{': ' + last if last else ''}>"

    def _repr_html_(self) -> str:
        """The table in a notebook; the best epoch stands in bold."""
        if not self.epochs:
            return "<p>History: no epochs yet</p>"
        (header, *rows), best = self._table(), str(self.best_epoch)
        lines = [f"<caption>{html.escape(self._headline())}</caption>", f"<thead>{_html_row('th', header)}</thead>"]
        lines += ["<tbody>", *(_html_row("td", row, row[0] == best) for row in rows), "</tbody>"]
        return "\n".join(['<table style="text-align: right">', *lines, "</table>"])


def _html_row(tag: str, cells: Sequence[str], bold: bool = False) -> str:
    style = ' style="font-weight: bold"' if bold else ""
    return f"<tr{style}>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def aligned(rows: Sequence[Sequence[str]], sides: str) -> list[str]:
    """The rows as lines of columns, each to the left (<) or right (>)."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)).rstrip()
        for row in rows
    ]


def number_text(value: float) -> str:
    """``value`` with four decimals, or with a power of ten where these would not show it."""
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:.2e}"
