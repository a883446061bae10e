"""Pictures of a model, drawn with matplotlib (``python -m pip install "fastnn[plot]"``).

Each function returns a matplotlib Figure: a notebook shows it, and ``figure.savefig("name.png")`` writes it to a
file. Where one axes is enough, ``axes=`` draws into an axes of yours, such as one of ``pyplot.subplots()``.

All raise an ImportError without matplotlib, and a TypeError or ValueError that names a wrong argument.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from . import data
from .checks import SUM_TOLERANCE, shown, whole_number
from .layers import Dense, Dropout
from .losses import BinaryCrossEntropy
from .model import Model

__all__ = ["activations", "confusion_matrix", "decision_boundary", "first_layer_weights", "gradients"]

#: The share of the points' range that a decision boundary shows beyond them, on each side.
MARGIN = 0.08

#: Rows of a confusion matrix up to which its cells hold numbers, and up to which also percentages.
MOST_NUMBERS, MOST_PERCENTAGES = 30, 15


def decision_boundary(
    model: Model,
    X: Any,
    y: Any,
    *,
    class_names: Sequence[str] | None = None,
    feature_names: Sequence[str] | None = None,
    resolution: int = 300,
    axes: Any = None,
) -> Any:
    """Where a classifier of two inputs decides for which class, and the points (X, y) by class.

    The shade is the predicted probability: of class 1 for two classes, of the most probable class for more (white:
    all are equally probable). A line is where the two most probable classes are equally probable.

    X : (rows, 2); y : labels, (rows,), or one-hot rows; class_names, feature_names : for the legend and the axes, by
    default the numbers of the classes, and x₁, x₂ or the columns of a data frame; resolution : predictions along each
    side of the picture.
    """
    from . import figures

    _check_model(model)
    if model.inputs != 2:
        raise ValueError(f"model has {model.inputs} inputs; expected 2, the axes of the picture")
    resolution = whole_number("resolution", resolution, 2, 4000)
    points = data.inputs("X", X, 2, model.dtype).take(slice(None))
    labels = _labels("y", y, max(2, model.outputs))
    _check_rows(points, labels)
    classes = max(2, model.outputs)
    names = _names("class_names", class_names, [f"class {label}" for label in range(classes)])
    columns = getattr(X, "columns", ("x₁", "x₂"))
    across, up = _names("feature_names", feature_names, [str(column) for column in columns])

    least, most = points.min(axis=0), points.max(axis=0)
    margin = np.where(most > least, MARGIN * (most - least), 0.5)
    sides = [np.linspace(low, high, resolution) for low, high in zip(least - margin, most + margin, strict=True)]
    grid = np.stack(np.meshgrid(*sides), axis=-1).astype(model.dtype)
    shares = _probabilities(model, grid.reshape(-1, 2)).reshape(resolution, resolution, classes)

    figure, axes = figures.one_axes(axes, 5.6, 4.6)
    colors = figures.class_colors(classes)
    half = [(side[1] - side[0]) / 2 for side in sides]
    extent = [end for side, h in zip(sides, half, strict=True) for end in (side[0] - h, side[-1] + h)]
    place = {"extent": extent, "origin": "lower", "aspect": "auto", "interpolation": "nearest"}
    if classes == 2:
        image = axes.imshow(shares[..., 1], cmap=figures.two_colors(*colors), vmin=0, vmax=1, **place)
        figure.colorbar(image, ax=axes, label=f"probability of {names[1]}")
    else:
        axes.imshow(figures.blend(shares, colors), **place)
    for label in range(classes if classes > 2 else 1):
        lead = shares[..., label] - np.delete(shares, label, axis=-1).max(axis=-1)
        if lead.min() < 0 < lead.max():
            axes.contour(*sides, lead, levels=[0.0], colors="black", linewidths=1.2)
    size = float(np.clip(9000 / len(points), 9, 36))
    for label in range(classes):
        style = {"color": colors[label], "marker": figures.MARKERS[label % len(figures.MARKERS)]}
        edge = {"edgecolors": "black", "linewidths": 0.3}
        axes.scatter(*points[labels == label].T, s=size, label=names[label], **style, **edge)
    axes.set(xlabel=across, ylabel=up, xlim=extent[:2], ylim=extent[2:])
    if classes == 2:  # above the picture: the color bar stands beside it
        legend = axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    else:
        legend = axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    for handle in legend.legend_handles:
        handle.set_sizes([36])
    return figure


def first_layer_weights(
    model: Model, shape: tuple[int, int] | None = None, *, most: int = 64, columns: int | None = None, axes: Any = None
) -> Any:
    """The weights of the first Dense layer, an image a unit: what each unit looks for in an input image.

    Red is positive, blue negative, white zero; all images share the scale.

    shape : (height, width) of an input image, by default a square; most : how many units to show, the first ones;
    columns : images side by side, by default about as many as below each other.
    """
    from . import figures

    _check_model(model)
    layer = next(layer for layer in model.layers if isinstance(layer, Dense))
    height, width = _image_shape(shape, layer.inputs)
    count = min(whole_number("most", most), layer.units)
    if columns is None:  # one row, unless it gets longer than four times its height
        columns = count if count * width <= 4 * height else math.ceil(math.sqrt(count * height / width))
    columns = min(whole_number("columns", columns), count)
    rows = math.ceil(count / columns)
    # One image that holds all: many small axes would be slow to draw.
    mosaic = np.full((rows * height, columns * width), np.nan)
    for unit in range(count):
        top, left = unit // columns * height, unit % columns * width
        mosaic[top : top + height, left : left + width] = layer.W[:, unit].reshape(height, width)
    sizes = np.abs(mosaic[np.isfinite(mosaic)])
    limit = float(np.quantile(sizes, 0.99)) or 1.0  # a few large weights would make all others pale
    scale = min(7 / mosaic.shape[1], 7 / mosaic.shape[0], 1.6 / max(height, width))
    size = scale * mosaic.shape[1] + 1.2, scale * mosaic.shape[0] + 0.4
    figure, axes = figures.one_axes(axes, max(4.0, size[0]), max(1.8, size[1]), "compressed")
    image = axes.imshow(mosaic, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    for column in range(columns + 1):
        axes.axvline(column * width - 0.5, color=figures.GRAY, linewidth=1.5)
    for row in range(rows + 1):
        axes.axhline(row * height - 0.5, color=figures.GRAY, linewidth=1.5)
    figure.colorbar(image, ax=axes, label="weight", aspect=30, extend="both" if sizes.max() > limit else "neither")
    units = f"the first {count} of {layer.units} units" if count < layer.units else f"{count} units"
    axes.set_title(f"{layer.name}: {units}", loc="left", size="medium")
    axes.set_axis_off()
    return figure


def activations(model: Model, X: Any, *, bins: int = 50) -> Any:
    """Histograms of each layer's outputs for the rows of X, from the input to the output.

    Shows units that are saturated (sigmoid and tanh: all values at the ends) or dead (ReLU: zero for each row).
    Exact zeros are told in words and not drawn, since they would dwarf the rest; bars and zeros make 100 %.

    X : (rows, inputs); bins : of each histogram.
    """
    from . import figures

    _check_model(model)
    bins = whole_number("bins", bins, 1, 10_000)
    outputs = model.activations(X)
    layers = [layer for layer in model.layers if not isinstance(layer, Dropout)]
    figure, places = figures.stack(len(layers))
    for layer, axes in zip(layers, places, strict=True):
        values = outputs[layer.name]
        inside = values[np.isfinite(values) & (values != 0)].astype(np.float64)
        axes.hist(inside, _edges(inside, bins), weights=_percent(inside, values), color=figures.COLORS[0])
        dead = int((values == 0).all(axis=0).sum()) if layer.activation_name == "relu" else 0
        facts = [_zeros(values), f"{dead} of {layer.units} units always zero" if dead else ""]
        detail = "" if layer.activation_name == "linear" else f", {layer.activation_name}"
        figures.title(axes, f"{layer.name}{detail}", facts)
    places[-1].set_xlabel("output of a unit for a row")
    figure.supylabel("% of the values", size="medium")
    return figure


def gradients(model: Model, X: Any, y: Any, *, bins: int = 50) -> Any:
    """Histograms of the size of the loss's gradient by each layer's parameters, from the input to the output.

    All have one logarithmic axis, so that gradients that vanish or explode toward the input show as a drift from one
    panel to the next. Exact zeros are told in words and not drawn; bars and zeros make 100 %. The smallest 1 % of a
    layer may be drawn at the left end.

    X, y : one batch, as for ``fit``; bins : of the axis.
    """
    from . import figures

    _check_model(model)
    bins = whole_number("bins", bins, 1, 10_000)
    sizes: dict[str, list[np.ndarray]] = {}
    for name, values in model.gradients(X, y).items():
        sizes.setdefault(name.rpartition(".")[0], []).append(np.abs(values.astype(np.float64)).ravel())
    if not sizes:
        raise ValueError("model has no trainable parameters; expected some, which have gradients")
    by_layer = {name: np.concatenate(parts) for name, parts in sizes.items()}
    drawn = {name: values[np.isfinite(values) & (values > 0)] for name, values in by_layer.items()}
    least = min((float(np.quantile(values, 0.01)) for values in drawn.values() if len(values)), default=0.1)
    most = max((float(values.max()) for values in drawn.values() if len(values)), default=1.0)
    edges = np.geomspace(least, max(most, 2 * least), bins + 1)
    figure, places = figures.stack(len(by_layer), share=True)
    for (name, values), axes in zip(by_layer.items(), places, strict=True):
        inside = np.clip(drawn[name], edges[0], edges[-1])
        axes.hist(inside, edges, weights=_percent(inside, values), color=figures.COLORS[0])
        figures.title(axes, name, [_zeros(values)])
    places[0].set_xscale("log")
    places[-1].set_xlabel("size of the gradient |∂loss/∂parameter|")
    figure.supylabel("% of the values", size="medium")
    return figure


def confusion_matrix(
    model_or_predictions: Any, X: Any, y: Any, *, class_names: Sequence[str] | None = None, axes: Any = None
) -> Any:
    """How often each class was taken for each: counts, and percentages of each row; a row is a true class.

    model_or_predictions : a classifier, or what it predicted (labels, probabilities with a column a class, or
    probabilities of class 1), then X is None; X : (rows, inputs); y : labels, (rows,), or one-hot rows;
    class_names : by default the numbers of the classes.
    """
    from . import figures

    if isinstance(model_or_predictions, Model):
        classes = max(2, model_or_predictions.outputs)
        true = _labels("y", y, classes)
        predicted = _probabilities(model_or_predictions, X).argmax(axis=1)
    else:
        if X is not None:
            raise TypeError(
                f"model_or_predictions is {shown(model_or_predictions)} and X was given; expected a Model and X, "
                "or predictions and None"
            )
        predicted, known = _predicted_labels(model_or_predictions)
        true = _labels("y", y, known)
        classes = known or 1 + max(1, int(true.max()), int(predicted.max()))
    _check_rows(predicted, true)
    names = _names("class_names", class_names, [str(label) for label in range(classes)])
    counts = np.bincount(classes * true + predicted, minlength=classes**2).reshape(classes, classes)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))

    detailed = classes <= MOST_PERCENTAGES
    cell = max(0.62, 2.6 / classes) if detailed else 0.4 if classes <= MOST_NUMBERS else 12 / classes
    longest = 0.09 * max(map(len, names))  # a letter is about that many inches wide
    beside, below = longest + (0.6 if detailed else 1.8), 0.9 if longest < cell else longest + 0.8
    figure, axes = figures.one_axes(axes, cell * classes + beside, cell * classes + below, "compressed")
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if not detailed:
        bar = figure.colorbar(image, ax=axes, label="share of the true class", aspect=30)
        bar.ax.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
    axes.set_xticks(range(classes), names, rotation=0 if longest < cell else 90)
    axes.set_yticks(range(classes), names)
    axes.set(xlabel="predicted class", ylabel="true class")
    title = f"accuracy {100 * counts.trace() / len(true):.1f} % of {len(true):,} rows"
    axes.set_title(title, loc="left", size="medium")
    if classes <= MOST_NUMBERS:
        for (row, column), count in np.ndenumerate(counts):
            share = shares[row, column]
            text = f"{count:,}" + (f"\n{100 * share:.0f} %" if detailed and count else "")
            color = "white" if share > 0.55 else "black" if count else "0.75"
            axes.text(column, row, text, ha="center", va="center", color=color, size="small")
    return figure


def _check_model(model: Any) -> None:
    if not isinstance(model, Model):
        raise TypeError(f"model is {shown(model)}; expected a Model")


def _check_rows(x: np.ndarray, labels: np.ndarray) -> None:
    if len(x) != len(labels):
        raise ValueError(f"y has {len(labels)} rows; expected {len(x)}, as many as the predictions or X")


def _image_shape(shape: Any, inputs: int) -> tuple[int, int]:
    """``shape``, or a square, of ``inputs`` pixels."""
    if shape is None:
        side = math.isqrt(inputs)
        if side**2 != inputs:
            raise ValueError(f"shape is missing; expected (height, width), since {inputs} inputs are no square image")
        return side, side
    if not isinstance(shape, (tuple, list)) or len(shape) != 2:
        raise TypeError(f"shape is {shown(shape)}; expected (height, width)")
    height, width = (whole_number("shape", length) for length in shape)
    if height * width != inputs:
        raise ValueError(f"shape is {shown(shape)}, {height * width} pixels; expected {inputs}, the model's inputs")
    return height, width


def _names(argument: str, value: Any, default: Sequence[str]) -> list[str]:
    """``value``, one name for each of ``default``, or ``default``."""
    if value is None:
        return list(default)
    names = [] if isinstance(value, str) or not isinstance(value, Iterable) else list(value)
    if not names or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{argument} is {shown(value)}; expected {len(default)} strings")
    if len(names) != len(default):
        raise ValueError(f"{argument} has {len(names)} names; expected {len(default)}")
    return names


def _labels(name: str, value: Any, classes: int | None) -> np.ndarray:
    """The labels, (rows,), that ``value`` holds: whole numbers from 0 to ``classes`` - 1, or one-hot rows."""
    array = data.as_array(name, value)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2 and array.shape[1] == (classes or array.shape[1]):
        array = array.argmax(axis=1)
    if array.ndim != 1 or len(array) == 0:
        columns = f" or one-hot rows of shape (rows, {classes})" if classes else ""
        raise ValueError(f"{name} has shape {array.shape}; expected labels of shape (rows,){columns}")
    bad = np.flatnonzero(~((array >= 0) & (array == np.floor(array)) & (array < (classes or np.inf))))
    if len(bad):
        wanted = f"from 0 to {classes - 1}" if classes else "of at least 0"
        raise ValueError(
            f"{name} has the label {float(array[bad[0]]):g} in row {bad[0]}; expected whole numbers {wanted}"
        )
    return array.astype(np.int64)


def _probabilities(model: Model, X: Any) -> np.ndarray:
    """The probability of each class for the rows of X, (rows, classes)."""
    outputs = model.predict(X, verbose=0).astype(np.float64)
    if getattr(model.loss, "from_logits", False):
        if model.outputs == 1 or isinstance(model.loss, BinaryCrossEntropy):
            outputs = 0.5 + 0.5 * np.tanh(0.5 * outputs)
        else:
            outputs = np.exp(outputs - outputs.max(axis=1, keepdims=True))
            outputs /= outputs.sum(axis=1, keepdims=True)
    if model.outputs == 1:
        outputs = np.concatenate([1 - outputs, outputs], axis=1)
    if not (outputs.min() > -1e-6 and np.abs(outputs.sum(axis=1) - 1).max() < SUM_TOLERANCE):
        raise ValueError(
            f"model predicts numbers from {outputs.min():g} to {outputs.max():g}, which are no probabilities of "
            "classes; expected a last layer with softmax, or of one unit with sigmoid (or a loss with from_logits=True)"
        )
    return outputs


def _predicted_labels(value: Any) -> tuple[np.ndarray, int | None]:
    """(labels, how many classes there are, if that is known) from labels or probabilities."""
    array = data.as_array("model_or_predictions", value)
    if array.ndim == 2 and array.shape[1] > 1:
        return array.argmax(axis=1), array.shape[1]
    array = array.reshape(len(array), -1)[:, 0] if array.ndim == 2 else array
    if array.dtype.kind == "f" and array.ndim == 1 and len(array) and ((array >= 0) & (array <= 1)).all():
        return (array > 0.5).astype(np.int64), 2
    return _labels("model_or_predictions", array, None), None


def _edges(values: np.ndarray, bins: int) -> np.ndarray:
    """The edges of ``bins`` equal bins that hold all values."""
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    room = 1e-6 * max(abs(low), abs(high))  # between equal values
    return np.linspace(low, high, bins + 1) if high - low > room else np.linspace(low - room, high + room, bins + 1)


def _percent(drawn: np.ndarray, values: np.ndarray) -> np.ndarray:
    """What each of the drawn values weighs in % of all values."""
    return np.full(len(drawn), 100 / max(1, values.size))


def _zeros(values: np.ndarray) -> str:
    """How many values cannot be drawn, because they are zero or not finite."""
    facts = []
    for count, what in ((int((values == 0).sum()), "zeros"), (int((~np.isfinite(values)).sum()), "not finite")):
        if count:
            facts.append(f"{100 * count / values.size:.3g} % {what}")
    return ", ".join(facts)
