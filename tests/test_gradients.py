"""Backpropagation against central differences, over layers, activations, losses and regularizers."""

import math

import numpy as np
import pytest

import fastnn as fn
from fastnn.kernels.cpu.dropout import dropout_forward
from fastnn.kernels.jit import COMPILED
from fastnn.layers import ACTIVATIONS

#: A smooth activation, a loss and a penalty of the user's own.
GAUSSIAN = fn.ActivationFunction(lambda x: math.exp(-x * x), lambda x, y: -2 * x * y, "gaussian")
LOG_COSH = fn.LossFunction(
    lambda y, target: math.log(math.cosh(y - target)), lambda y, target: math.tanh(y - target), "log_cosh"
)
LOG_PENALTY = fn.Penalty(lambda w: 0.01 * math.log(1 + w * w), lambda w: 0.02 * w / (1 + w * w))

#: name -> (loss, last activation, outputs, targets)
LOSSES = {
    "cross_entropy, labels": ("cross_entropy", "softmax", 3, "labels"),
    "cross_entropy, probabilities": ("cross_entropy", "softmax", 3, "probabilities"),
    "cross_entropy from logits": (fn.CrossEntropy(from_logits=True), None, 3, "probabilities"),
    "smoothed labels": (fn.CrossEntropy(label_smoothing=0.2), "softmax", 3, "labels"),
    "smoothed probabilities": (fn.CrossEntropy(label_smoothing=0.2), "softmax", 3, "probabilities"),
    "smoothed labels from logits": (fn.CrossEntropy(True, 0.1), None, 3, "labels"),
    "binary_cross_entropy": ("binary_cross_entropy", "sigmoid", 2, "numbers"),
    "binary_cross_entropy from logits": (fn.BinaryCrossEntropy(from_logits=True), None, 2, "numbers"),
    "smoothed bits": (fn.BinaryCrossEntropy(label_smoothing=0.2), "sigmoid", 2, "numbers"),
    "mse": ("mse", None, 2, "numbers"),
    "mse after sigmoid": ("mse", "sigmoid", 1, "numbers"),
    "mse after softmax": ("mse", "softmax", 3, "numbers"),
    "mse after log_softmax": ("mse", "log_softmax", 3, "numbers"),
    "mae": ("mae", None, 2, "numbers"),
    "mae after tanh": ("mae", "tanh", 1, "numbers"),
    "huber, mostly squared": ("huber", None, 2, "numbers"),
    "huber, mostly absolute": (fn.Huber(0.2), None, 2, "numbers"),
    "quantile": (fn.Quantile(0.8), "softplus", 2, "numbers"),
    "own": (LOG_COSH, GAUSSIAN, 2, "numbers"),
}

#: name -> the layers before the last one.
LAYERS = {
    "two": lambda activation, penalty: [
        fn.Dense(4, activation, kernel_regularizer=penalty),
        fn.Dense(3, activation, bias_regularizer=penalty),
    ],
    "activation apart, no bias": lambda activation, penalty: [
        fn.Dense(4, use_bias=False, kernel_regularizer=penalty),
        fn.Activation(activation),
    ],
    "frozen in the middle": lambda activation, penalty: [
        fn.Dense(4, kernel_regularizer=penalty),
        fn.Dense(4, activation, trainable=False),
    ],
}

REGULARIZERS = {"none": None, "l1": fn.L1(0.02), "l2": fn.L2(0.03), "both": fn.L1L2(0.01, 0.02), "own": LOG_PENALTY}

#: All layers with all activations and all losses; the regularizers take turns, so that each meets each of the others.
CASES = [
    (layers, activation, loss, list(REGULARIZERS)[(first + second + third) % len(REGULARIZERS)])
    for first, layers in enumerate(LAYERS)
    for second, activation in enumerate([*ACTIVATIONS, GAUSSIAN])
    for third, loss in enumerate(LOSSES)
]
assert len(CASES) >= 300
if not COMPILED:  # plain Python is slow: every 13th
    CASES = CASES[::13]

#: How far a parameter is moved; kinks are to lie farther away, which each case checks.
STEP = 1e-5


def problem(layers, activation, loss, regularizer, dtype="float64"):
    loss_object, last, outputs, kind = LOSSES[loss]
    hidden = LAYERS[layers](activation, REGULARIZERS[regularizer])
    last = fn.Dense(outputs, last, bias_initializer=fn.Normal(0, 0.1))
    model = fn.Model([fn.Input(3), *hidden, last], seed=2, dtype=dtype)
    model.compile("sgd", loss_object)
    generator = np.random.default_rng(4)
    for layer in model.layers[1:]:
        if isinstance(layer, fn.Dense) and layer.use_bias:  # away from 0, where a penalty and a ReLU have kinks
            layer.b = generator.uniform(0.1, 0.4, layer.b.shape)
    X = generator.standard_normal((7, 3))
    y = generator.uniform(0.1, 0.9, (7, outputs))
    if kind == "labels":
        y = generator.integers(0, outputs, 7)
    elif kind == "probabilities":
        y /= y.sum(axis=1, keepdims=True)
    return model, X, y


@pytest.mark.parametrize(
    ("layers", "activation", "loss", "regularizer"),
    CASES,
    ids=lambda value: getattr(value, "name", value),
)
def test_gradients(layers, activation, loss, regularizer):
    model, X, y = problem(layers, activation, loss, regularizer)
    found = model.gradients(X, y)
    arrays = {f"{layer.name}.{key}": array for layer in model.layers for key, array in layer.parameters.items()}
    frozen = [layer.name for layer in model.layers if not layer.trainable]
    assert set(found) == {name for name in arrays if name.split(".")[0] not in frozen}
    center = model.evaluate(X, y)["loss"]
    for name, gradient in found.items():
        left, right = np.empty_like(gradient), np.empty_like(gradient)
        for place in np.ndindex(gradient.shape):
            start = arrays[name][place]
            for slope, step in ((left, -STEP), (right, STEP)):
                arrays[name][place] = start + step
                slope[place] = (model.evaluate(X, y)["loss"] - center) / step
            arrays[name][place] = start
        numerical = (left + right) / 2
        scale = max(np.abs(numerical).max(), 1e-2 * center)
        assert np.abs(right - left).max() <= 1e-3 * scale, f"{name}: a kink is too near to say anything"
        assert np.abs(gradient - numerical).max() <= 1e-6 * scale, name


@pytest.mark.parametrize("activation", [*ACTIVATIONS, GAUSSIAN], ids=lambda value: getattr(value, "name", value))
def test_a_layer_alone(activation):
    """``backward`` of a Dense layer: dx, dW and db against central differences of a weighted sum of y."""
    generator = np.random.default_rng(0)
    layer = fn.Dense(3, activation)
    layer.build(2, seed=0, dtype="float64")
    x, weight = generator.standard_normal((4, 2)), generator.standard_normal((4, 3))
    layer.forward(x)
    dx = layer.backward(weight)
    dW, db = layer.dW, layer.db
    for array, gradient in ((x, dx), (layer.W, dW), (layer.b, db)):
        for place in np.ndindex(array.shape):
            start = array[place]
            array[place] = start + 1e-6
            up = (layer.forward(x) * weight).sum()
            array[place] = start - 1e-6
            down = (layer.forward(x) * weight).sum()
            array[place] = start
            assert gradient[place] == pytest.approx((up - down) / 2e-6, rel=1e-6, abs=1e-7)


def test_dropout_alone_goes_back_through_its_mask():
    layer = fn.Dropout(0.5)
    layer.build(20, seed=3, dtype="float64")
    x = np.ones((30, 20))
    assert layer.forward(x) is not None and (layer.forward(x) == x).all()
    y = layer.forward(x, training=True)
    expected = np.empty_like(y)
    dropout_forward(expected, x, layer.threshold, 2.0, seed=3, step=0, layer=0, first_row=0, rank=0, size=1)
    np.testing.assert_array_equal(y, expected, err_msg="the mask of a model's first step")
    assert set(np.unique(y)) == {0.0, 2.0} and 0.3 < (y > 0).mean() < 0.7
    np.testing.assert_array_equal(layer.backward(np.ones_like(x)), y)
    assert not np.array_equal(layer.forward(x, training=True), y), "the next step has the same mask"


def test_layers_alone_start_with_weights_of_their_own():
    first, second = fn.Dense(3), fn.Dense(3)
    for layer in (first, second):
        layer.forward(np.ones((1, 2)))
    assert not np.array_equal(first.W, second.W)
