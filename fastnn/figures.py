"""What all pictures share: the figure, its colors, the axes. Imported when something is drawn, as is matplotlib.

No picture touches ``matplotlib.pyplot``: a figure belongs to whom it is returned to and is freed with it.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .checks import shown

try:
    from matplotlib import colormaps
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import LinearSegmentedColormap, to_rgb
    from matplotlib.figure import Figure
except ImportError as fault:
    raise ImportError('pictures need matplotlib: python -m pip install "fastnn[plot]"') from fault

#: Colors that people with any color vision tell apart (Okabe and Ito 2008, "Color universal design"),
#: and a marker for each.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#F0E442", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*")

#: Of lines and words that explain rather than show.
GRAY = "#555555"

#: A pixel of the screen, in inches.
PIXEL = 1 / 96


class Picture(Figure):  # type: ignore[misc]
    """A matplotlib Figure that a notebook shows, though pyplot does not know of it."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """The picture in twice the pixels that it takes, for sharp text on fine screens."""
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=2 / PIXEL)
        width, height = (round(inches / PIXEL) for inches in self.get_size_inches())
        return file.getvalue(), {"width": width, "height": height}


def new_figure(width: float, height: float, layout: str = "constrained") -> Picture:
    """An empty figure of that size in inches; its parts make room for each other.

    layout : "constrained", or "compressed" for axes of a fixed aspect.
    """
    figure = Picture(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def one_axes(axes: Any, width: float, height: float, layout: str = "constrained") -> tuple[Any, Any]:
    """(figure, axes): the user's axes, or those of a new figure."""
    if axes is None:
        figure = new_figure(width, height, layout)
        return figure, figure.add_subplot()
    if not isinstance(axes, Axes):
        raise TypeError(f"axes is {shown(axes)}; expected a matplotlib Axes, such as pyplot.subplots()[1]")
    return axes.get_figure(), axes


def panels(axes: Any, count: int) -> tuple[Any, list[Any]]:
    """(figure, ``count`` axes): the user's, or those of a new figure, row by row."""
    if axes is None:
        columns = 2 if count == 4 else min(count, 3)
        rows = math.ceil(count / columns)
        figure = new_figure(4.2 * columns + 0.3, 3.2 * rows + 0.3)
        figure.get_layout_engine().set(w_pad=0.1, h_pad=0.08)
        return figure, [figure.add_subplot(rows, columns, 1 + place) for place in range(count)]
    given = list(np.ravel(np.asarray(axes, object)))
    if not given or not all(isinstance(place, Axes) for place in given):
        raise TypeError(f"axes is {shown(axes)}; expected matplotlib axes, one for each of {count} quantities")
    if len(given) != count:
        raise ValueError(f"axes has {len(given)} axes; expected {count}, one for each quantity")
    return given[0].get_figure(), given


def stack(count: int, *, share: bool = False) -> tuple[Picture, list[Any]]:
    """(figure, ``count`` low axes below each other); ``share``: one x axis for all."""
    figure = new_figure(6, 1.25 * count + 0.8)
    axes = figure.subplots(count, 1, sharex=share, squeeze=False)[:, 0]
    for place in axes:
        place.spines[["top", "right"]].set_visible(False)
    return figure, list(axes)


def title(axes: Any, name: str, facts: Sequence[str]) -> None:
    """The name of a panel, and beside it in gray what the picture does not show."""
    axes.set_title(name, loc="left", size="medium")
    axes.set_title("; ".join(filter(None, facts)), loc="right", size="small", color=GRAY)


def class_colors(classes: int) -> list[Any]:
    """A color for each class."""
    if classes <= len(COLORS):
        return list(COLORS[:classes])
    return [colormaps["turbo"](place) for place in np.linspace(0.05, 0.95, classes)]


def _pale(colors: Sequence[Any]) -> np.ndarray:
    """The colors mixed with white, (colors, 3), so that points stand out before them."""
    return 1 - 0.45 * (1 - np.array([to_rgb(color) for color in colors]))


def two_colors(first: Any, second: Any) -> Any:
    """The color map from one class, by way of white, to the other."""
    ends = _pale([first, second])
    return LinearSegmentedColormap.from_list("two classes", [ends[0], (1, 1, 1), ends[1]])


def blend(shares: np.ndarray, colors: Sequence[Any]) -> np.ndarray:
    """(..., classes) probabilities as (..., 3) colors: white where all are equal, the class's where one is sure."""
    least = 1 / shares.shape[-1]
    certainty = (shares.max(axis=-1, keepdims=True) - least) / (1 - least)
    return np.asarray(1 - certainty * (1 - shares @ _pale(colors))).clip(0, 1)
