"""Backpropagation against central differences, over layers, activations and losses."""

import numpy as np
import pytest

import fastnn as fn
from fastnn.kernels.jit import COMPILED
from fastnn.layers import ACTIVATIONS

LOSSES = {
    "cross_entropy, labels": ("cross_entropy", "softmax", 3),
    "cross_entropy, probabilities": ("cross_entropy", "softmax", 3),
    "cross_entropy from logits": (fn.CrossEntropy(from_logits=True), None, 3),
    "binary_cross_entropy": ("binary_cross_entropy", "sigmoid", 2),
    "binary_cross_entropy from logits": (fn.BinaryCrossEntropy(from_logits=True), None, 2),
    "mse": ("mse", None, 2),
    "mse after sigmoid": ("mse", "sigmoid", 1),
    "mse after softmax": ("mse", "softmax", 3),
    "mse after log_softmax": ("mse", "log_softmax", 3),
}

#: name -> the layers before the last one.
LAYERS = {
    "one hidden layer": lambda activation: [fn.Dense(4, activation)],
    "two": lambda activation: [fn.Dense(4, activation), fn.Dense(3, activation)],
    "activation apart, no bias": lambda activation: [fn.Dense(4, use_bias=False), fn.Activation(activation)],
    "penalty": lambda activation: [fn.Dense(4, activation, kernel_regularizer=fn.L1L2(0.01, 0.02))],
    "frozen in the middle": lambda activation: [fn.Dense(4), fn.Dense(4, activation, trainable=False)],
}

CASES = [
    (layers, activation, loss)
    for layers in LAYERS
    for activation in ACTIVATIONS
    for loss in LOSSES
    if COMPILED or (layers, loss) in (("two", "mse"), ("penalty", "cross_entropy, labels"))
]


def problem(layers, activation, loss):
    loss_object, last, outputs = LOSSES[loss]
    model = fn.Model(
        [fn.Input(3), *LAYERS[layers](activation), fn.Dense(outputs, last, bias_initializer=fn.Normal(0, 0.1))],
        seed=2,
        dtype="float64",
    )
    model.compile("sgd", loss_object)
    generator = np.random.default_rng(4)
    X = generator.standard_normal((7, 3))
    if loss == "cross_entropy, labels":
        y = generator.integers(0, outputs, 7)
    else:
        y = generator.uniform(0.1, 0.9, (7, outputs))
        y /= y.sum(axis=1, keepdims=True) if "cross_entropy" in loss and outputs > 2 else 1
    return model, X, y


@pytest.mark.parametrize(("layers", "activation", "loss"), CASES)
def test_gradients(layers, activation, loss):
    model, X, y = problem(layers, activation, loss)
    found = model.gradients(X, y)
    arrays = {f"{layer.name}.{key}": array for layer in model.layers for key, array in layer.parameters.items()}
    frozen = [layer.name for layer in model.layers if not layer.trainable]
    assert set(found) == {name for name in arrays if name.split(".")[0] not in frozen}
    for name, gradient in found.items():
        numerical = np.empty_like(gradient)
        for place in np.ndindex(gradient.shape):
            start, step = arrays[name][place], 1e-5
            losses = []
            for value in (start + step, start - step):
                arrays[name][place] = value
                losses.append(model.evaluate(X, y)["loss"])
            arrays[name][place] = start
            numerical[place] = (losses[0] - losses[1]) / (2 * step)
        scale = max(1.0, np.abs(numerical).max())
        assert np.abs(gradient - numerical).max() <= 1e-6 * scale, name


@pytest.mark.parametrize("activation", ACTIVATIONS)
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
    assert set(np.unique(y)) == {0.0, 2.0} and 0.3 < (y > 0).mean() < 0.7
    np.testing.assert_array_equal(layer.backward(np.ones_like(x)), y)
    assert not np.array_equal(layer.forward(x, training=True), y), "the next step has the same mask"
