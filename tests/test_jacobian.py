"""model.jacobian: the derivatives of the outputs by the inputs, against central differences of predict."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fastnn as fn
from fastnn import model as of_model
from fastnn.layers import ACTIVATIONS

#: Where no activation has a kink nearby.
X = np.random.default_rng(4).standard_normal((5, 3))


def differences(model, X, step=1e-6):
    """(rows, outputs, inputs), by predictions on both sides of each input."""
    found = np.empty((len(X), model.outputs, model.inputs))
    for column, move in enumerate(step * np.eye(model.inputs)):
        found[:, :, column] = (model.predict(X + move) - model.predict(X - move)) / (2 * step)
    return found


def network(activation, last=None, dtype="float64", outputs=2):
    layers = [fn.Dropout(0.3), fn.Dense(6, activation), fn.Dropout(0.5), fn.Activation("tanh")]
    return fn.Model([fn.Input(3), *layers, fn.Dense(outputs, last)], seed=1, dtype=dtype)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation(activation):
    model = network(activation, activation)
    np.testing.assert_allclose(model.jacobian(X), differences(model, X), rtol=1e-6, atol=1e-8)


def test_a_linear_model_has_its_weights():
    model = fn.Model([fn.Input(3), fn.Dense(2)], seed=0)
    found = model.jacobian(X)
    assert found.dtype == np.float32 and found.shape == (5, 2, 3)
    assert np.array_equal(found, np.broadcast_to(model.layers[1].W.T, found.shape))


def test_float32_is_near_float64():
    single, double = network("tanh", dtype="float32"), network("tanh")
    np.testing.assert_allclose(single.jacobian(X), double.jacobian(X), rtol=1e-5, atol=1e-6)


def test_parts_of_ones_own():
    bump = fn.ActivationFunction(lambda x: math.exp(-x * x), lambda x, y: -2.0 * x * y, "bump")

    class Cube(fn.Layer):
        def forward(self, x, training=False):
            assert not training
            self.x = x
            return x**3

        def backward(self, dy):
            return 3 * self.x**2 * dy

    model = fn.Model([fn.Input(3), Cube(), fn.Dense(4, bump), fn.Dense(2)], seed=0, dtype="float64")
    with pytest.warns(UserWarning, match="written in Python"):
        expected = differences(model, X)
    np.testing.assert_allclose(model.jacobian(X), expected, rtol=1e-6, atol=1e-8)


def test_more_rows_than_go_through_at_once(monkeypatch):
    model = network("tanh")
    rows = np.random.default_rng(0).standard_normal((300, 3))
    whole = model.jacobian(rows)
    for most in (1, 2, 14):
        monkeypatch.setattr(of_model, "JACOBIAN_ROWS", most)
        np.testing.assert_allclose(model.jacobian(rows), whole, rtol=1e-12, atol=1e-14)


def test_a_row_has_the_same_derivatives_by_itself():
    model = fn.Model([fn.Input(64), fn.Dense(100, "tanh"), fn.Dense(100, "tanh"), fn.Dense(1)], seed=0)
    rows = np.random.default_rng(0).standard_normal((3, 64))
    assert np.array_equal(model.jacobian(rows[:1])[0], model.jacobian(rows)[0])


def test_it_follows_the_weights_and_leaves_the_model_as_it_is():
    """A fit goes on as if nobody had asked, frozen layers and the kind of the loss change nothing."""
    layers = [fn.Input(3), fn.Dense(6, "relu", trainable=False), fn.Dropout(0.5), fn.Dense(2, "softmax")]
    model, y = fn.Model(layers, seed=1, dtype="float64"), np.arange(5) % 2
    model.compile("adam", "cross_entropy", threads=1)
    twin = model.copy()
    for _ in range(2):
        before = model.jacobian(X)
        model.fit(X, y, epochs=3, verbose=0)
        twin.fit(X, y, epochs=3, verbose=0)
        assert np.array_equal(model.predict(X), twin.predict(X))
        assert not np.array_equal(model.jacobian(X), before)
        np.testing.assert_allclose(model.jacobian(X), differences(model, X), rtol=1e-6, atol=1e-8)
    assert np.array_equal(model.copy().jacobian(X), model.jacobian(X))


def test_threads_wait_for_each_other():
    model, rows = network("tanh"), np.random.default_rng(0).standard_normal((200, 3))
    expected = model.jacobian(rows)
    with ThreadPoolExecutor(3) as pool:
        for found in pool.map(model.jacobian, [rows] * 60):
            assert np.array_equal(found, expected)


def test_bad_input():
    model = network("tanh")
    with pytest.raises(ValueError, match=r"X has 2 columns; expected 3"):
        model.jacobian(X[:, :2])
    with pytest.raises(ValueError, match=r"X has shape \(3,\).*for one row write X\[None, :\]"):
        model.jacobian(X[0])
    with pytest.raises(ValueError, match="X has nan in row 0"):
        model.jacobian([[0, np.nan, 0]])
    with pytest.raises(AttributeError, match=r"expected jacobian\(X\)"):
        model.input_gradients(X)
