"""Losses in a model: their names, parameters, values and what they make a model learn."""

import inspect

import numpy as np
import pytest

import fastnn as fn
from fastnn import losses
from fastnn.kernels import jit
from tests import reference

ROWS, OUTPUTS = 12, 3
RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((ROWS, 4))
NUMBERS = RANDOM.standard_normal((ROWS, OUTPUTS))
LABELS = RANDOM.integers(0, OUTPUTS, ROWS)
ONE_HOT = np.eye(OUTPUTS)[LABELS]
BITS = RANDOM.integers(0, 2, (ROWS, OUTPUTS))

#: name -> (loss, last activation, targets, twin, the number that the twin takes)
CASES = {
    "mse": ("mse", None, NUMBERS, "squared_error", 0.0),
    "mae": ("mae", None, NUMBERS, "absolute_error", 0.0),
    "huber": ("huber", "tanh", NUMBERS / 4, "huber", 1.0),
    "huber, delta": (fn.Huber(0.1), None, NUMBERS, "huber", 0.1),
    "quantile": ("quantile", None, NUMBERS, "pinball", 0.5),
    "quantile 0.9": (fn.Quantile(quantile=0.9), None, NUMBERS, "pinball", 0.9),
    "bits": ("binary_cross_entropy", "sigmoid", BITS, "sigmoid_cross_entropy", 0.0),
    "smoothed bits": (fn.BinaryCrossEntropy(label_smoothing=0.2), "sigmoid", BITS, "sigmoid_cross_entropy", 0.2),
    "smoothed bits, logits": (fn.BinaryCrossEntropy(True, 0.2), None, BITS, "sigmoid_cross_entropy", 0.2),
    "labels": ("cross_entropy", "softmax", LABELS, "softmax_cross_entropy", 0.0),
    "smoothed labels": (fn.CrossEntropy(label_smoothing=0.2), "softmax", LABELS, "softmax_cross_entropy", 0.2),
    "smoothed one-hot": (fn.CrossEntropy(label_smoothing=0.2), "softmax", ONE_HOT, "softmax_cross_entropy", 0.2),
    "smoothed labels, logits": (fn.CrossEntropy(True, 0.2), None, LABELS, "softmax_cross_entropy", 0.2),
}


def model_of(loss, activation, dtype="float64", outputs=OUTPUTS):
    model = fn.Model([fn.Input(4), fn.Dense(5, "tanh"), fn.Dense(outputs, activation)], seed=1, dtype=dtype)
    model.compile("sgd", loss)
    return model


@pytest.mark.parametrize("name", CASES)
def test_value(name):
    loss, activation, y, twin, option = CASES[name]
    model = model_of(loss, activation)
    outputs = model.layers[-2].forward(X) @ model.layers[-1].W + model.layers[-1].b
    outputs = np.tanh(outputs) if activation == "tanh" else outputs
    expected = getattr(reference, twin)(outputs, np.reshape(y, (ROWS, -1)), option, 1.0)[0].mean()
    assert model.evaluate(X, y)["loss"] == pytest.approx(expected, rel=1e-12)
    predicted = model.predict(X)
    start = model.evaluate(X, y)["loss"]
    model.fit(X, y, epochs=3, verbose=0)
    assert model.evaluate(X, y)["loss"] < start
    assert not np.array_equal(model.predict(X), predicted)


def test_huber_by_hand():
    """A model whose outputs are all 0."""
    model = model_of("huber", None)
    for layer in model.layers[1:]:
        layer.W, layer.b = np.zeros(layer.W.shape), np.zeros(layer.b.shape)
    # errors 0.6, 0.4 -> 0.18, 0.08; errors 3, 1 -> 2.5, 0.5
    targets = np.array([[0.6, -0.4, 0.0], [-3.0, 1.0, 0.0]])
    assert model.evaluate(X[:2], targets)["loss"] == pytest.approx((0.18 + 0.08 + 2.5 + 0.5) / 6, rel=1e-15)


def test_names():
    assert {name: type(losses.get("loss", name)).__name__ for name in losses.BY_NAME} == {
        "mse": "MeanSquaredError",
        "mean_squared_error": "MeanSquaredError",
        "mae": "MeanAbsoluteError",
        "mean_absolute_error": "MeanAbsoluteError",
        "huber": "Huber",
        "huber_loss": "Huber",
        "quantile": "Quantile",
        "pinball": "Quantile",
        "binary_cross_entropy": "BinaryCrossEntropy",
        "binary_crossentropy": "BinaryCrossEntropy",
        "bce": "BinaryCrossEntropy",
        "cross_entropy": "CrossEntropy",
        "categorical_crossentropy": "CrossEntropy",
        "sparse_categorical_crossentropy": "CrossEntropy",
    }
    assert isinstance(losses.get("loss", "MAE"), fn.MeanAbsoluteError)


@pytest.mark.parametrize("kind", sorted(set(losses.BY_NAME.values()), key=lambda kind: kind.name))
def test_arguments_are_attributes_of_their_names(kind):
    values = {"from_logits": True, "label_smoothing": 0.25, "delta": 0.5, "quantile": 0.75}
    given = {name: values[name] for name in inspect.signature(kind).parameters}
    loss = kind(**given)
    assert vars(loss) == given
    assert eval(repr(loss), vars(losses)).__dict__ == given


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: fn.Huber(0), "delta is 0; expected a finite number above 0"),
        (lambda: fn.Huber(float("nan")), "delta is nan"),
        (lambda: fn.Huber("large"), "delta is 'large'"),
        (lambda: fn.Quantile(1), "quantile is 1; expected a finite number above 0 and below 1"),
        (lambda: fn.Quantile(0.0), "quantile is 0.0"),
        (lambda: fn.Quantile(-0.1), "quantile is -0.1"),
        (lambda: fn.CrossEntropy(label_smoothing=1.1), "label_smoothing is 1.1; expected a finite number at least 0"),
        (lambda: fn.BinaryCrossEntropy(label_smoothing=-0.1), "label_smoothing is -0.1"),
        (lambda: fn.BinaryCrossEntropy(0.1), "from_logits is 0.1; expected True or False"),
        (lambda: losses.get("loss", "hubert"), "loss is 'hubert'; expected one of 'mse', 'mae', 'huber', 'quantile',"),
        (lambda: losses.get("loss", "mean_absolut_error"), "did you mean 'mean_absolute_error'?"),
        (lambda: model_of("quantile", None).evaluate(X, NUMBERS[:, :2]), "y has shape (12, 2); expected (rows, 3)"),
        (lambda: model_of("mae", None).fit(X, NUMBERS * np.nan), "y has nan in row 0"),
    ],
)
def test_bad_input(make, words):
    with pytest.raises((TypeError, ValueError)) as caught:
        make()
    assert words in str(caught.value)


@pytest.mark.skipif(not jit.COMPILED, reason="the compiler is disabled")
def test_a_parameter_costs_no_compilation():
    def count(loss, activation, y):
        before = len(jit.compiled) + len(jit.loaded)
        model_of(loss, activation, "float32").fit(X, y, verbose=0)
        return len(jit.compiled) + len(jit.loaded) - before

    cases = {
        (fn.Huber, None): NUMBERS,
        (fn.Quantile, None): NUMBERS,
        (lambda value: fn.CrossEntropy(False, value), "softmax"): LABELS,
        (lambda value: fn.BinaryCrossEntropy(False, value), "sigmoid"): BITS,
    }
    for (loss, activation), y in cases.items():
        count(loss(0.25), activation, y)
        assert count(loss(0.5), activation, y) == 0


@pytest.mark.skipif(not jit.COMPILED, reason="takes long in plain Python")
def test_a_quantile_is_learned():
    """A constant model of skewed numbers ends at their quantile, one of the absolute error at their median."""
    numbers = np.random.default_rng(0).exponential(size=(401, 1))
    for loss, quantile in ((fn.Quantile(0.9), 0.9), (fn.Quantile(0.2), 0.2), ("mae", 0.5), ("mse", None)):
        model = fn.Model([fn.Input(1), fn.Dense(1, kernel_initializer="zeros")], seed=0, dtype="float64")
        for rate in (0.1, 0.01, 0.001):
            model.compile(fn.SGD(rate), loss)
            model.fit(np.zeros((401, 1)), numbers, epochs=40, verbose=0)
        expected = numbers.mean() if quantile is None else np.quantile(numbers, quantile)
        assert model.predict([[0.0]])[0, 0] == pytest.approx(expected, abs=0.03)


@pytest.mark.skipif(not jit.COMPILED, reason="takes long in plain Python")
def test_smoothing_keeps_logits_small():
    """The best logits of a certain label are infinite; smoothed they are those of 1 - s + s/classes."""
    model = fn.Model([fn.Input(1), fn.Dense(3, "softmax", kernel_initializer="zeros")], seed=0, dtype="float64")
    model.compile(fn.SGD(1.0), fn.CrossEntropy(label_smoothing=0.3))
    model.fit(np.zeros((32, 1)), np.full(32, 1), epochs=300, verbose=0)
    np.testing.assert_allclose(model.predict([[0.0]]), [[0.1, 0.8, 0.1]], rtol=1e-6)
