"""What the tutorials share: colors that every eye can tell apart, sizes, points and regions in the plane."""

from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LinearSegmentedColormap

#: Colors that people with any color vision can tell apart (Okabe and Ito 2008, "Color universal design").
BLUE, VERMILLION, GREEN, PURPLE, SKY, ORANGE = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"
BLACK, GRAY = "#000000", "#777777"

#: The color and the marker of class 0, 1, 2 ...: nobody needs to rely on the color alone.
COLORS = (BLUE, VERMILLION, GREEN, PURPLE, SKY, ORANGE)
MARKERS = ("o", "^", "s", "D", "v", "P")

#: The width of all pictures in inches, as wide as a page's column of text.
WIDTH = 7.2

#: From class 0 to class 1: white is undecided.
TWO_CLASSES = LinearSegmentedColormap.from_list("two_classes", ("#C3DFF0", "#FFFFFF", "#FBE0CB"))


def style() -> None:
    """Set the look of all pictures that follow. A call at the top of a notebook is enough."""
    plt.rcParams.update(
        {
            "figure.figsize": (WIDTH, 3.4),
            "figure.dpi": 200,
            "figure.constrained_layout.use": True,
            "font.size": 10,
            "axes.titlesize": 10.5,
            "axes.prop_cycle": plt.cycler(color=COLORS),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#E5E5E5",
            "lines.linewidth": 2.0,
            "legend.frameon": False,
        }
    )
    try:
        from IPython import get_ipython
        from matplotlib_inline.config import InlineBackend
    except ImportError:
        return
    if get_ipython() is not None:  # keep the margins, so that all pictures are equally wide
        InlineBackend.instance().print_figure_kwargs = {"bbox_inches": None}


def points(axes: Any, X: np.ndarray, y: np.ndarray, size: float = 12, legend: bool = False) -> None:
    """Draw the rows of X, (rows, 2), with a color and a marker for each class."""
    edge = 0.4 if size > 9 else 0.0  # small points would be all edge
    for label in np.unique(y):
        style = {"color": COLORS[label], "marker": MARKERS[label], "label": f"class {label}"}
        axes.scatter(*X[y == label].T, s=size, linewidths=edge, edgecolors="white", **style)
    axes.set(xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
    axes.grid(False)
    if legend:
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), handletextpad=0.2)


def regions(axes: Any, predict: Callable[[np.ndarray], np.ndarray], limit: float | tuple[float, ...]) -> Any:
    """Shade the plane by ``predict``, the probability of class 1, and draw the line where it is 1/2.

    limit : the plane goes from -limit to limit, or (left, right, bottom, top).
    """
    left, right, bottom, top = limit if isinstance(limit, tuple) else (-limit, limit, -limit, limit)
    across, up = np.meshgrid(np.linspace(left, right, 241), np.linspace(bottom, top, 241))
    p = np.reshape(predict(np.column_stack([across.ravel(), up.ravel()])), across.shape)
    image = axes.imshow(p, extent=(left, right, bottom, top), origin="lower", cmap=TWO_CLASSES, vmin=0, vmax=1)
    if p.min() < 0.5 < p.max():
        axes.contour(across, up, p, levels=[0.5], colors=BLACK, linewidths=1.6)
    axes.set(xlim=(left, right), ylim=(bottom, top), xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
    axes.grid(False)
    return image
