"""The recipes of the how-to page "Parts of your own": its code as it stands there does what the page says."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

import fastnn as fn
from fastnn.kernels.jit import COMPILED

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "own_parts.md"
CELL = re.compile(r"^```\{code-cell\} ipython3\n(?:---\n.*?^---\n)?(.*?)^```$", re.MULTILINE | re.DOTALL)

pytestmark = [
    pytest.mark.skipif(not COMPILED, reason="takes long in plain Python"),
    pytest.mark.filterwarnings("ignore:layer '(noise|rbf)_1' is written in Python"),
]


@pytest.fixture(scope="module")
def page():
    """What the code of the page defines; it runs with the page's own assertions."""
    names = {"__name__": "own_parts"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLBACKEND", "agg")
        for cell in CELL.findall(PAGE.read_text(encoding="utf-8")):
            exec(cell, names)
    return names


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def test_lion_is_the_paper_s_algorithm(page):
    """Chen et al. (2023), algorithm 2, over fifty steps of a loss whose gradient is x·target."""
    X, targets = numbers(50, 4), numbers(50, 1, seed=1)
    linear = fn.LossFunction(lambda y, target: y * target, lambda y, target: target)
    model = fn.Model([fn.Input(4), fn.Dense(1, use_bias=False)], seed=0, dtype="float64")
    model.compile(page["Lion"](0.01, 0.8, 0.95, 0.1), linear)
    w, m = model.layers[1].W[:, 0].copy(), np.zeros(4)
    for step in range(50):
        g = X[step] * targets[step]
        w = w - 0.01 * (np.sign(0.8 * m + 0.2 * g) + 0.1 * w)
        m = 0.95 * m + 0.05 * g
    model.fit(X, targets, batch_size=1, shuffle=False)
    np.testing.assert_allclose(model.layers[1].W[:, 0], w, rtol=1e-12)
    np.testing.assert_allclose(model.arenas.slots[0][:4], m, rtol=1e-12, atol=1e-15)


def test_cosine_restarts(page):
    rates = fn.schedules.get("learning_rate", page["cosine_restarts"])(np.arange(400))
    expected = [1e-4 + 0.0199 * (1 + math.cos(math.pi * (step % 190) / 190)) / 2 for step in range(400)]
    np.testing.assert_allclose(rates, expected, rtol=1e-12)
    assert rates[0] == rates[190] == rates[380] == 0.02 and rates[189] < 1.1e-4


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_focal_loss_and_hinge(page, dtype):
    X, signs = numbers(40, 3), np.sign(numbers(40, 1, seed=1))
    for loss, last, y in ((page["focal_loss"](2.0), "sigmoid", (signs + 1) / 2), (page["hinge"], None, signs)):
        model = fn.Model([fn.Input(3), fn.Dense(5, "tanh"), fn.Dense(1, last)], seed=0, dtype=dtype)
        model.compile("adam", loss)
        output = model.predict(X).astype(float)
        if last:
            p = np.where(y == 1, output, 1 - output)
            expected = np.mean(-((1 - p) ** 2) * np.log(p))
        else:
            expected = np.mean(np.maximum(0, 1 - signs * output))
        assert model.evaluate(X, y)["loss"] == pytest.approx(expected, rel=1e-5 if dtype == "float32" else 1e-12)
        report = model.check_gradients(X, y)
        assert report, report


def test_focal_loss_without_its_factor_is_cross_entropy(page):
    X, y = numbers(40, 3), numbers(40, 1) > 0
    found = []
    for loss in (page["focal_loss"](0.0), "binary_cross_entropy"):
        model = fn.Model([fn.Input(3), fn.Dense(5, "tanh"), fn.Dense(1, "sigmoid")], seed=0, dtype="float64")
        model.compile("sgd", loss)
        found.append(model.fit(X, y, epochs=5)["loss"])
    assert found[0] == pytest.approx(found[1], rel=1e-9)


def test_steps_of_a_loss_of_several_outputs_go_along_its_gradient(page):
    """Gradient descent on the likelihood of a linear model, whose gradient is xᵀd / rows; on the short way, too."""
    X, t = numbers(60, 3), numbers(60, seed=1)
    model = fn.Model([fn.Input(3), fn.Dense(2)], seed=0, dtype="float64")
    model.compile(fn.SGD(0.1), page["normal"])
    W, b = model.get_weights()
    for _ in range(6):
        mean, s = (X @ W + b).T
        loss = np.mean(0.5 * (s + (t - mean) ** 2 / np.exp(s)))
        d = np.stack([(mean - t) / np.exp(s), 0.5 - 0.5 * (t - mean) ** 2 / np.exp(s)], axis=1)
        W, b = W - 0.1 * X.T @ d / 60, b - 0.1 * d.mean(axis=0)
        assert model.train_on_batch(X, t)["loss"] == pytest.approx(loss, rel=1e-12)
    np.testing.assert_allclose(model.layers[1].W, W, rtol=1e-11)
    np.testing.assert_allclose(model.layers[1].b, b, rtol=1e-11)


def test_gaussian_noise(page):
    layer = page["GaussianNoise"](0.5)
    layer.build(50, seed=3)
    x = numbers(400, 50).astype(np.float32)
    assert layer.forward(x) is x
    first, second = layer.forward(x, training=True) - x, layer.forward(x, training=True) - x
    assert np.std(first) == pytest.approx(0.5, rel=0.02) and abs(np.mean(first)) < 0.02
    assert abs(np.mean(first * second)) < 0.01, "the noise of two batches is not independent"
    again = page["GaussianNoise"](0.5)
    again.build(50, seed=3)
    np.testing.assert_array_equal(again.forward(x, training=True) - x, first)
    np.testing.assert_array_equal(layer.backward(x), x)
