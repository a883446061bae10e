"""Pictures: what is drawn is what the model has, and wrong arguments are named."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastnn as fn

pytest.importorskip("matplotlib")
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

ROOT = Path(__file__).parents[1]
DIGITS = fn.datasets.digits()
POINTS = fn.datasets.moons(200)
CLOUDS = fn.datasets.blobs(150, classes=3)


def digits_model(hidden=9, inputs=64):
    model = fn.Model([fn.Input(inputs), fn.Dense(hidden, "relu"), fn.Dropout(0.2), fn.Dense(10, "softmax")], seed=0)
    model.compile("adam", "cross_entropy")
    return model


def plane_model(outputs, activation, loss, X, y, epochs=30):
    model = fn.Model([fn.Input(2), fn.Dense(16, "tanh"), fn.Dense(outputs, activation)], seed=0)
    model.compile(fn.Adam(1e-2), loss)
    model.fit(X, y, epochs=epochs, verbose=0)
    return model


@pytest.fixture(scope="module")
def binary():
    return plane_model(1, "sigmoid", "binary_cross_entropy", *POINTS)


@pytest.fixture(scope="module")
def classifier():
    return plane_model(3, "softmax", "cross_entropy", *CLOUDS)


def drawn(figure):
    """The figure as pixels: drawing it must work, too."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())


def texts(axes):
    return [text.get_text() for text in axes.texts]


# Where a classifier decides.


def shade_at(axes, x):
    """The value of the image in an axes at the point x."""
    (image,) = axes.get_images()
    values, (left, right, bottom, top) = image.get_array(), image.get_extent()
    row = int((x[1] - bottom) / (top - bottom) * values.shape[0])
    column = int((x[0] - left) / (right - left) * values.shape[1])
    return values[row, column]


def test_binary_boundary_shades_the_probability(binary):
    X, y = POINTS
    figure = fn.plots.decision_boundary(binary, X, y, resolution=400)
    axes = figure.axes[0]
    # Of a pixel's width, the probability changes by little.
    shades = np.array([shade_at(axes, x) for x in X])
    np.testing.assert_allclose(shades, binary.predict(X)[:, 0], atol=0.05)
    (low, high), colors = axes.get_images()[0].get_clim(), axes.get_images()[0].get_cmap()
    assert (low, high) == (0, 1) and colors(0.5)[:3] == pytest.approx((1, 1, 1), abs=0.01)
    assert figure.axes[1].get_ylabel() == "probability of class 1"


def test_the_picture_itself_has_the_shades(binary):
    figure = fn.plots.decision_boundary(binary, [[-1.5, -1.0], [2.5, 1.5]], [0, 1])  # the other points would cover them
    axes, pixels = figure.axes[0], drawn(figure)
    x = np.stack(np.meshgrid(np.linspace(-1.2, 2.2, 12), np.linspace(-0.8, 1.3, 12)), axis=-1).reshape(-1, 2)
    columns, rows = axes.transData.transform(x).round().astype(int).T
    found = pixels[-1 - rows, columns, :3] / 255
    expected = axes.get_images()[0].get_cmap()(binary.predict(x)[:, 0])[:, :3]
    close = np.abs(found - expected).max(axis=1) < 0.1
    assert close.mean() > 0.9  # the black line covers a few


def line_of(axes):
    """The points of all lines where two classes are equally probable."""
    from matplotlib.contour import ContourSet

    lines = [path.vertices for child in axes.collections if isinstance(child, ContourSet) for path in child.get_paths()]
    return np.concatenate(lines) if lines else np.empty((0, 2))


def test_the_line_is_where_classes_are_equally_probable(binary, classifier):
    for model, (X, y) in ((binary, POINTS), (classifier, CLOUDS)):
        line = line_of(fn.plots.decision_boundary(model, X, y).axes[0])
        assert len(line) > 20
        probabilities = model.predict(line.astype(np.float32))
        if model.outputs == 1:
            probabilities = np.concatenate([1 - probabilities, probabilities], axis=1)
        first, second = np.sort(probabilities, axis=1)[:, :-3:-1].T
        assert np.abs(first - second).max() < 0.05


@pytest.mark.parametrize("which", ["binary", "classifier"])
def test_points_by_class(which, request):
    from fastnn.figures import COLORS, MARKERS

    model = request.getfixturevalue(which)
    X, y = POINTS if which == "binary" else CLOUDS
    names = ["a", "b", "c"][: max(2, model.outputs)]
    axes = fn.plots.decision_boundary(model, X, y, class_names=names).axes[0]
    points = {child.get_label(): child for child in axes.collections if child.get_label() in names}
    for label, name in enumerate(names):
        np.testing.assert_array_equal(points[name].get_offsets(), X[y == label])
        assert tuple(points[name].get_facecolor()[0]) == to_rgba(COLORS[label])
    assert len(set(MARKERS)) == len(MARKERS) == len(set(COLORS)) == len(COLORS)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == names


def test_shades_of_several_classes(classifier):
    from fastnn.figures import COLORS

    X, y = CLOUDS
    axes = fn.plots.decision_boundary(classifier, X, y).axes[0]
    colors = np.array([to_rgba(color)[:3] for color in COLORS[:3]])
    sure = classifier.predict(X).max(axis=1) > 0.99
    assert sure.sum() > 20
    for x, label in zip(X[sure], classifier.predict(X).argmax(axis=1)[sure], strict=True):
        # The hue is the nearest class's: white mixed in does not change which of the colors is nearest to it.
        shade = 1 - np.asarray(shade_at(axes, x))
        assert np.argmax([shade @ (1 - c) / np.linalg.norm(1 - c) for c in colors]) == label


def test_logits_are_turned_into_probabilities():
    X, y = POINTS
    one = plane_model(1, None, fn.BinaryCrossEntropy(from_logits=True), X, y)
    two = plane_model(2, None, fn.CrossEntropy(from_logits=True), X, y)
    shares = [1 / (1 + np.exp(-one.predict(X)[:, 0])), 1 / (1 + np.exp(-np.diff(two.predict(X))[:, 0]))]
    for model, expected in zip((one, two), shares, strict=True):
        axes = fn.plots.decision_boundary(model, X, y, resolution=400).axes[0]
        np.testing.assert_allclose([shade_at(axes, x) for x in X], expected, atol=0.06)


def test_names_of_a_data_frame(binary):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(POINTS[0], columns=["width", "height"])
    axes = fn.plots.decision_boundary(binary, frame, POINTS[1]).axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("width", "height")
    axes = fn.plots.decision_boundary(binary, frame, POINTS[1], feature_names=["u", "v"]).axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("u", "v")
    axes = fn.plots.decision_boundary(binary, *POINTS).axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x₁", "x₂")


def test_odd_points(binary, classifier):
    one = fn.plots.decision_boundary(binary, [[0.5, 0.5]], [1])
    flat = fn.plots.decision_boundary(classifier, np.ones((5, 2)), [0, 1, 2, 0, 1], resolution=2)
    many = fn.Model([fn.Input(2), fn.Dense(12, "softmax")], seed=0)
    for figure in (one, flat, fn.plots.decision_boundary(many, POINTS[0], np.arange(200) % 12)):
        drawn(figure)


def test_no_line_where_one_class_wins_everywhere():
    model = fn.Model([fn.Input(2), fn.Dense(1, "sigmoid", kernel_initializer="zeros")], seed=0)
    model.layers[1].b[:] = 3
    assert len(line_of(fn.plots.decision_boundary(model, *POINTS).axes[0])) == 0


# Weights as images.


@pytest.mark.parametrize(("hidden", "most", "columns"), [(9, 64, None), (9, 5, 3), (2, 64, None), (100, 64, 7)])
def test_first_layer_weights(hidden, most, columns):
    model = digits_model(hidden)
    figure = fn.plots.first_layer_weights(model, most=most, columns=columns)
    (image,) = figure.axes[0].get_images()
    mosaic = np.ma.filled(image.get_array(), np.nan)
    count, across = min(hidden, most), mosaic.shape[1] // 8
    assert columns is None or across == columns
    for unit in range(count):
        row, column = 8 * (unit // across), 8 * (unit % across)
        expected = model.layers[1].W[:, unit].reshape(8, 8)
        np.testing.assert_array_equal(mosaic[row : row + 8, column : column + 8], expected)
    assert np.isfinite(mosaic).sum() == 64 * count
    low, high = image.get_clim()
    assert low == -high and image.get_cmap()(0.5)[:3] == pytest.approx((0.97, 0.97, 0.97), abs=0.02)
    assert len(figure.axes) == 2 and figure.axes[1].get_ylabel() == "weight"
    title = figure.axes[0].get_title(loc="left")
    assert title == f"dense_1: {'the first ' + str(count) + ' of ' if count < hidden else ''}{hidden} units"
    drawn(figure)


def test_images_of_another_shape():
    model = digits_model()
    (image,) = fn.plots.first_layer_weights(model, (4, 16)).axes[0].get_images()
    np.testing.assert_array_equal(image.get_array()[:4, :16], model.layers[1].W[:, 0].reshape(4, 16))


def test_weights_that_are_all_zero():
    model = fn.Model([fn.Input(4), fn.Dense(3, kernel_initializer="zeros")])
    (image,) = fn.plots.first_layer_weights(model).axes[0].get_images()
    assert image.get_clim() == (-1, 1)


# Histograms.


def heights(axes):
    """(edges, heights) of a histogram."""
    bars = axes.patches
    return [bar.get_x() for bar in bars] + [bars[-1].get_x() + bars[-1].get_width()], [bar.get_height() for bar in bars]


def test_activations():
    model, (X, _) = digits_model(), DIGITS
    figure = fn.plots.activations(model, X, bins=20)
    found = model.activations(X)
    names = ["input", "dense_1", "dense_2"]
    assert [axes.get_title(loc="left").split(",")[0] for axes in figure.axes] == names
    for axes, name in zip(figure.axes, names, strict=True):
        values = found[name]
        edges, bars = heights(axes)
        expected, expected_edges = np.histogram(values[values != 0], 20)
        np.testing.assert_allclose(edges, expected_edges, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(bars, 100 * expected / values.size, rtol=1e-6)
    zeros = (found["dense_1"] == 0).mean()
    assert figure.axes[1].get_title(loc="right").startswith(f"{100 * zeros:.3g} % zeros")
    drawn(figure)


def test_dead_units_are_counted():
    model, (X, _) = digits_model(), DIGITS
    model.layers[1].b[:4] = -1000
    assert fn.plots.activations(model, X).axes[1].get_title(loc="right").endswith("4 of 9 units always zero")


def test_activations_that_cannot_be_drawn():
    model = fn.Model([fn.Input(3), fn.Dense(4, kernel_initializer="zeros")])
    figure = fn.plots.activations(model, np.zeros((5, 3)))
    assert [axes.get_title(loc="right") for axes in figure.axes] == ["100 % zeros", "100 % zeros"]
    model.layers[1].W[:] = 1e38
    figure = fn.plots.activations(model, np.array([[1e3, 1e3, 1e3], [0, 0, 0.1]]))
    assert figure.axes[1].get_title(loc="right") == "50 % not finite"
    drawn(figure)


def test_gradients():
    model, (X, y) = digits_model(), DIGITS
    figure = fn.plots.gradients(model, X, y, bins=30)
    found = model.gradients(X, y)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["dense_1", "dense_2"]
    spans = set()
    for axes, name in zip(figure.axes, ("dense_1", "dense_2"), strict=True):
        sizes = np.abs(np.concatenate([found[f"{name}.W"].ravel(), found[f"{name}.b"]]).astype(float))
        edges, bars = heights(axes)
        inside = np.clip(sizes[sizes > 0], edges[0], edges[-1])
        np.testing.assert_allclose(bars, 100 * np.histogram(inside, edges)[0] / sizes.size, rtol=1e-6)
        assert sum(bars) == pytest.approx(100 * (sizes > 0).mean())
        assert (sizes[sizes > 0] < edges[0]).mean() < 0.02 and sizes.max() <= edges[-1] * (1 + 1e-9)
        assert axes.get_xscale() == "log"
        spans.add((edges[0], edges[-1]))
    assert len(spans) == 1
    drawn(figure)


def test_gradients_of_what_is_trained_only():
    model = fn.Model([fn.Input(64), fn.Dense(5, trainable=False), fn.Dense(10, "softmax", use_bias=False)], seed=0)
    model.compile("sgd", "cross_entropy")
    figure = fn.plots.gradients(model, *DIGITS)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["dense_2"]
    frozen = fn.Model([fn.Input(64), fn.Dense(10, "softmax", trainable=False)])
    frozen.compile("sgd", "cross_entropy")
    with pytest.raises(ValueError, match="model has no trainable parameters"):
        fn.plots.gradients(frozen, *DIGITS)


def test_gradients_that_are_all_zero():
    model = fn.Model([fn.Input(2), fn.Dense(1, kernel_initializer="zeros")])
    model.compile("sgd", "mse")
    figure = fn.plots.gradients(model, np.ones((3, 2)), np.zeros(3))
    assert figure.axes[0].get_title(loc="right") == "100 % zeros"
    drawn(figure)


# The confusion matrix.

TRUE = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2])
PREDICTED = np.array([0, 0, 1, 1, 1, 0, 2, 2, 2])
COUNTS = [[2, 1, 0], [0, 2, 0], [1, 0, 3]]


def test_confusion_matrix_by_hand():
    figure = fn.plots.confusion_matrix(PREDICTED, None, TRUE, class_names=["cat", "dog", "owl"])
    (axes,) = figure.axes
    shares = np.array([[2 / 3, 1 / 3, 0], [0, 1, 0], [1 / 4, 0, 3 / 4]])
    np.testing.assert_allclose(axes.get_images()[0].get_array(), shares)
    expected = {(0, 0): "2\n67 %", (1, 0): "1\n33 %", (1, 1): "2\n100 %", (0, 2): "1\n25 %", (2, 2): "3\n75 %"}
    # An image's x is its column, the predicted class.
    found = {text.get_position(): text.get_text() for text in axes.texts}
    assert found == {(column, row): expected.get((column, row), "0") for row in range(3) for column in range(3)}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["cat", "dog", "owl"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog", "owl"]
    assert axes.get_title(loc="left") == "accuracy 77.8 % of 9 rows"
    drawn(figure)


def test_a_class_of_one_row_has_all_of_it_and_one_of_none_nothing():
    figure = fn.plots.confusion_matrix([0, 1, 2], None, [0, 0, 1])
    shares = [[1 / 2, 1 / 2, 0], [0, 0, 1], [0, 0, 0]]
    np.testing.assert_array_equal(figure.axes[0].get_images()[0].get_array(), shares)


def counts_of(figure, classes=3):
    cells = [int(text.split("\n")[0].replace(",", "")) for text in texts(figure.axes[0])]
    return np.reshape(cells, (classes, classes)).tolist()


@pytest.mark.parametrize(
    "predictions",
    [
        PREDICTED,
        PREDICTED.tolist(),
        PREDICTED.astype(np.float32),
        PREDICTED[:, None],
        np.eye(3)[PREDICTED],
        0.4 * np.eye(3)[PREDICTED] + 0.2,
    ],
)
@pytest.mark.parametrize("true", [TRUE, TRUE[:, None], np.eye(3)[TRUE]])
def test_predictions_and_labels_in_any_form(predictions, true):
    assert counts_of(fn.plots.confusion_matrix(predictions, None, true)) == COUNTS


def test_probabilities_of_one_class():
    for predictions in ([0.2, 0.6, 0.9, 0.5], [[0.2], [0.6], [0.9], [0.5]], [False, True, True, False]):
        assert counts_of(fn.plots.confusion_matrix(predictions, None, [0, 0, 1, 1]), 2) == [[1, 1], [1, 1]]


def test_confusion_matrix_of_models(binary, classifier):
    for model, (X, y) in ((binary, POINTS), (classifier, CLOUDS)):
        classes = max(2, model.outputs)
        outputs = model.predict(X)
        predicted = outputs.argmax(axis=1) if classes == 3 else (outputs[:, 0] > 0.5).astype(int)
        expected = [
            [int(((y == row) & (predicted == column)).sum()) for column in range(classes)] for row in range(classes)
        ]
        assert counts_of(fn.plots.confusion_matrix(model, X, y), classes) == expected


def test_confusion_matrix_of_many_classes():
    labels = np.arange(20)
    figure = fn.plots.confusion_matrix(labels, None, labels)
    assert counts_of(figure, 20) == np.eye(20, dtype=int).tolist()
    assert len(figure.axes) == 2  # no percentages in the cells, so a bar says what the colors mean
    labels = np.arange(60)
    figure = fn.plots.confusion_matrix(labels, None, labels)
    assert texts(figure.axes[0]) == []
    drawn(figure)


# What all have in common.


def test_given_axes(binary):
    figure = Figure()
    first, second, third = figure.subplots(1, 3)
    assert fn.plots.decision_boundary(binary, *POINTS, axes=first) is figure
    assert fn.plots.first_layer_weights(digits_model(), axes=second) is figure
    assert fn.plots.confusion_matrix(PREDICTED, None, TRUE, axes=third) is figure
    assert first.collections and second.get_images() and third.get_images()


def test_a_picture_shows_itself_and_survives_a_pickle():
    figure = fn.plots.confusion_matrix(PREDICTED, None, TRUE)
    data, size = figure._repr_png_()
    assert data.startswith(b"\x89PNG") and set(size) == {"width", "height"}
    width = int.from_bytes(data[16:20], "big")
    assert abs(width - 2 * size["width"]) <= 2
    assert counts_of(pickle.loads(pickle.dumps(figure))) == COUNTS


BAD = {
    "decision_boundary": [
        (dict(model=3), TypeError, "model is 3; expected a Model"),
        (dict(model=digits_model()), ValueError, "model has 64 inputs; expected 2"),
        (dict(X=np.ones((5, 3))), ValueError, "X has 3 columns; expected 2"),
        (dict(X=[[np.nan, 1.0]]), ValueError, "X has nan in row 0"),
        (dict(y=[0, 1]), ValueError, "y has 2 rows; expected 200"),
        (dict(y=np.full(200, 2)), ValueError, "y has the label 2 in row 0; expected whole numbers from 0 to 1"),
        (dict(y=np.full(200, 0.5)), ValueError, "y has the label 0.5 in row 0"),
        (dict(y=np.ones((200, 3))), ValueError, "y has shape (200, 3); expected labels of shape (rows,)"),
        (dict(y=["a"] * 200), TypeError, "y holds text"),
        (dict(class_names=["a"]), ValueError, "class_names has 1 names; expected 2"),
        (dict(class_names="ab"), TypeError, "class_names is 'ab'; expected 2 strings"),
        (dict(class_names=3), TypeError, "class_names is 3; expected 2 strings"),
        (dict(feature_names=["a", 3]), TypeError, "feature_names is ['a', 3]"),
        (dict(resolution=1), ValueError, "resolution is 1; expected a whole number of at least 2"),
        (dict(axes="here"), TypeError, "axes is 'here'; expected a matplotlib Axes"),
    ],
    "first_layer_weights": [
        (dict(model=None), TypeError, "model is None; expected a Model"),
        (
            dict(model=digits_model(inputs=60)),
            ValueError,
            "shape is missing; expected (height, width), since 60 inputs",
        ),
        (dict(shape=(8, 9)), ValueError, "shape is (8, 9) (a tuple), 72 pixels; expected 64"),
        (dict(shape=64), TypeError, "shape is 64; expected (height, width)"),
        (dict(shape=(8, 8, 1)), TypeError, "shape is (8, 8, 1)"),
        (dict(shape=(-8, -8)), ValueError, "shape is -8"),
        (dict(most=0), ValueError, "most is 0"),
        (dict(columns=0), ValueError, "columns is 0"),
        (dict(axes=3), TypeError, "axes is 3"),
    ],
    "activations": [
        (dict(model="digits"), TypeError, "model is 'digits'"),
        (dict(X=np.ones((5, 3))), ValueError, "X has 3 columns; expected 64"),
        (dict(bins=0), ValueError, "bins is 0"),
        (dict(bins="auto"), TypeError, "bins is 'auto'"),
    ],
    "gradients": [
        (dict(model=[1]), TypeError, "model is [1]"),
        (dict(y=[1]), ValueError, "X has 1797 rows and y has 1"),
        (dict(bins=0.5), ValueError, "bins is 0.5"),
    ],
    "confusion_matrix": [
        (dict(X=None), TypeError, "X is None"),
        (dict(model_or_predictions=PREDICTED), TypeError, "and X was given; expected a Model and X, or predictions"),
        (dict(model_or_predictions=[0, 1], X=None), ValueError, "y has 1797 rows; expected 2"),
        (dict(model_or_predictions=[-1], X=None), ValueError, "model_or_predictions has the label -1 in row 0"),
        (dict(model_or_predictions=[], X=None), ValueError, "model_or_predictions has shape (0,)"),
        (dict(model_or_predictions=[np.nan], X=None), ValueError, "model_or_predictions has the label nan"),
        (dict(model_or_predictions=["a"], X=None), TypeError, "model_or_predictions holds text"),
        (dict(model_or_predictions=np.eye(3)[PREDICTED], X=None, y=TRUE + 1), ValueError, "y has the label 3 in row 5"),
        (dict(y=[[]]), ValueError, "y has shape"),
        (dict(class_names=list("abc")), ValueError, "class_names has 3 names; expected 10"),
        (dict(axes=()), TypeError, "axes is ()"),
    ],
}


@pytest.mark.parametrize(
    ("name", "changed", "error", "words"), [(name, *case) for name, cases in BAD.items() for case in cases]
)
def test_wrong_arguments_are_named(name, changed, error, words, binary):
    good = {"model": digits_model(), "X": DIGITS[0], "y": DIGITS[1]}
    if name == "decision_boundary":
        good = {"model": binary, "X": POINTS[0], "y": POINTS[1]}
    if name == "confusion_matrix":
        good["model_or_predictions"] = good.pop("model")
    wanted = {"first_layer_weights": ("model",), "activations": ("model", "X")}.get(name, tuple(good))
    with pytest.raises(error) as caught:
        getattr(fn.plots, name)(**{key: good[key] for key in wanted} | changed)
    assert words in str(caught.value)


def test_models_that_yield_no_probabilities():
    X = POINTS[0]
    for layer in (fn.Dense(1), fn.Dense(3), fn.Dense(3, "sigmoid"), fn.Dense(1, "tanh")):
        model = fn.Model([fn.Input(2), layer], seed=0)
        for draw in (fn.plots.decision_boundary, fn.plots.confusion_matrix):
            with pytest.raises(
                ValueError, match="which are no probabilities of classes; expected a last layer with softmax"
            ):
                draw(model, X * 5, POINTS[1])


def test_gradients_before_compile():
    model = fn.Model([fn.Input(64), fn.Dense(10, "softmax")])
    with pytest.raises(RuntimeError, match="gradients came before compile"):
        fn.plots.gradients(model, *DIGITS)


def run_python(code):
    code = f"import warnings\nwarnings.simplefilter('error')\n{code}"  # -W error would have pyparsing look for more
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


DRAW_ALL = """
import sys
import fastnn as fn
X, y = fn.datasets.moons(50)
model = fn.Model([fn.Input(2), fn.Dense(4, "relu"), fn.Dense(2, "softmax")], seed=0)
model.compile("sgd", "cross_entropy")
calls = {
    "decision_boundary": (model, X, y),
    "first_layer_weights": (model, (1, 2)),
    "activations": (model, X),
    "gradients": (model, X, y),
    "confusion_matrix": (model, X, y),
}
assert set(calls) == set(fn.plots.__all__)
"""


def test_nothing_global_changes():
    code = """
import matplotlib
before = matplotlib.rcParams.copy()
for name, arguments in calls.items():
    getattr(fn.plots, name)(*arguments)._repr_png_()
model.fit(X, y, verbose=0).plot()._repr_png_()
assert matplotlib.rcParams.copy() == before
print("matplotlib.pyplot" in sys.modules)
"""
    assert run_python(DRAW_ALL + code) == ["False"]


def test_matplotlib_is_imported_when_something_is_drawn():
    assert run_python(DRAW_ALL + "print('matplotlib' in sys.modules)") == ["False"]


def test_the_missing_extra_is_named():
    code = """
sys.modules["matplotlib"] = None
for name, arguments in calls.items():
    try:
        getattr(fn.plots, name)(*arguments)
    except ImportError as fault:
        print(fault)
"""
    assert run_python(DRAW_ALL + code) == 5 * ['pictures need matplotlib: python -m pip install "fastnn[plot]"']
