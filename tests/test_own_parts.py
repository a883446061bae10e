"""Own activations and losses: what they compute, in every mode and type, and how mistakes in them are told."""

import copy
import inspect
import math
import os
import pickle
import re
import subprocess
import sys
import traceback
from pathlib import Path

import numpy as np
import pytest

import fastnn as fn
from fastnn import dispatch
from fastnn.kernels import jit
from fastnn.kernels.conventions import Data
from fastnn.kernels.layout import OK
from fastnn.slow_path import SlowPath

ROOT = Path(__file__).parents[1]
RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((90, 5))
SIGNS = np.where(X[:, 0] * X[:, 1] > 0, 1.0, -1.0)
BITS = (SIGNS + 1) / 2
REALS = ["float32", "float64"]
EPOCHS = 3 if jit.COMPILED else 1


# Recipes: an activation and two losses, as a user writes them.


def mish_value(x):
    """x tanh(log(1 + exp(x))) (Misra 2019)."""
    return x * math.tanh(math.log1p(math.exp(x)))


def mish_slope(x, y):
    t = math.tanh(math.log1p(math.exp(x)))
    return t + x * (1 - t * t) / (1 + math.exp(-x))


def hinge_value(y, target):
    """max(0, 1 - target·y) for targets -1 and 1 (Cortes & Vapnik 1995)."""
    return max(0.0, 1.0 - target * y)


def hinge_slope(y, target):
    return -target if target * y < 1.0 else 0.0


def focal_loss(gamma):
    """-(1 - p)**gamma·log(p), with p the probability given to the right answer (Lin et al. 2017)."""

    def value(y, target):
        p = y if target > 0.5 else 1.0 - y
        return -((1.0 - p) ** gamma) * math.log(p)

    def slope(y, target):
        p = y if target > 0.5 else 1.0 - y
        by_p = gamma * (1.0 - p) ** (gamma - 1.0) * math.log(p) - (1.0 - p) ** gamma / p
        return by_p if target > 0.5 else -by_p

    return fn.LossFunction(value, slope, "focal")


mish = fn.ActivationFunction(mish_value, mish_slope, "mish")


def normal_value(y, target):
    """(s + (t - m)² exp(-s)) / 2 for the mean m and the log variance s (Nix and Weigend 1994)."""
    return 0.5 * (y[1] + (target[0] - y[0]) ** 2 * math.exp(-y[1]))


def normal_slope(dy, y, target):
    dy[0] = (y[0] - target[0]) * math.exp(-y[1])
    dy[1] = 0.5 * (1.0 - (target[0] - y[0]) ** 2 * math.exp(-y[1]))


hinge = fn.LossFunction(hinge_value, hinge_slope, "hinge")
relu = fn.ActivationFunction(lambda x: max(x, 0), lambda x, y: 1 if y > 0 else 0, "own relu")
tanh = fn.ActivationFunction(lambda x: math.tanh(x) + 0, lambda x, y: 1 - y * y, "own tanh")
squares = fn.LossFunction(lambda y, target: (y - target) ** 2, lambda y, target: 2 * (y - target), "own squares")


def network(activation, loss, *, dtype="float32", last=None, optimizer="adam", outputs=1):
    layers = [fn.Dense(7, activation, kernel_initializer="he_normal"), fn.Dense(6), fn.Activation(activation)]
    model = fn.Model([fn.Input(5), *layers, fn.Dense(outputs, last)], seed=3, dtype=dtype)
    model.compile(optimizer, loss)
    return model


def trained(*arguments, y=SIGNS, **options):
    model = network(*arguments, **options)
    model.fit(X, y, epochs=EPOCHS, batch_size=32, verbose=0)
    return model


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize(("own", "built_in"), [(relu, "relu"), (tanh, "tanh")])
def test_twins_of_built_in_activations(own, built_in, dtype):
    found, expected = trained(own, "mse", dtype=dtype), trained(built_in, "mse", dtype=dtype)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(found.predict(X), expected.predict(X), rtol=tolerance, atol=tolerance)
    assert found.evaluate(X, SIGNS)["loss"] == pytest.approx(expected.evaluate(X, SIGNS)["loss"], rel=tolerance)


@pytest.mark.parametrize("dtype", REALS)
def test_twin_of_a_built_in_loss(dtype):
    found, expected = trained("relu", squares, dtype=dtype), trained("relu", "mse", dtype=dtype)
    np.testing.assert_allclose(found.predict(X), expected.predict(X), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["sigmoid_cross_entropy", "softmax_cross_entropy", "squared_error", "top_k_accuracy"])
def test_an_own_loss_may_have_the_name_of_a_kernel(name):
    named = fn.LossFunction(squares.value, squares.slope, name)
    found, expected = trained("relu", named), trained("relu", squares)
    for array, wanted in zip(found.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(array, wanted)
    slow = SlowPath(found.plan, found.arenas)
    _, sums = slow.infer(Data(X.astype(np.float32), SIGNS[:, None].astype(np.float32)), None)
    assert sums.sum() / 90 == pytest.approx(found.evaluate(X, SIGNS)["loss"], rel=1e-6)


def test_float64_inside_a_float32_model_is_rounded_at_the_end():
    """1 / (1 + exp(-x)) is computed in 64 bits, because of its whole number; the result has 32."""
    own = fn.ActivationFunction(lambda x: 1 / (1 + math.exp(-x)), lambda x, y: y * (1 - y), "own sigmoid")
    layer = fn.Activation(own)
    x = np.linspace(-8, 8, 1001, dtype=np.float32)[None]
    y = layer.forward(x)
    assert y.dtype == np.float32
    exact = 1 / (1 + np.exp(-x.astype(np.float64)))
    np.testing.assert_allclose(y, exact, rtol=2e-7)
    np.testing.assert_allclose(layer.backward(np.ones_like(x)), exact * (1 - exact), rtol=1e-3, atol=1e-8)


PAIRS = {
    "mish, hinge": (mish, hinge, None, SIGNS, 1),
    "tanh, focal": (tanh, focal_loss(2.0), "sigmoid", BITS, 1),
    "relu, own after own": (relu, squares, tanh, np.stack([SIGNS, BITS], axis=1), 2),
    "mish, built in": (mish, "cross_entropy", "softmax", BITS.astype(int), 2),
    "relu, of rows": ("relu", fn.RowLoss(normal_value, normal_slope), None, SIGNS, 2),
}


@pytest.mark.parametrize(
    ("name", "dtype"),
    [*zip(PAIRS, [*REALS, *REALS, "float32"], strict=True), ("mish, hinge", "float64"), ("relu, of rows", "float64")],
)
def test_engine_has_the_bits_of_the_slow_path(name, dtype):
    activation, loss, last, y, outputs = PAIRS[name]
    y = np.reshape(y, (90, -1)).astype(dtype)
    steps = 8 if jit.COMPILED else 2
    found = []
    for workers in (0, 1, 2, 3):
        model = network(activation, loss, dtype=dtype, last=last, outputs=outputs)
        runner = model._training_runner(y.shape[1])
        if workers == 0:
            runner = SlowPath(runner.plan, model.arenas)
        arguments = (Data(X.astype(dtype), y), None, 40, 0, steps, np.full(steps, 0.01), 0, 3)
        status, done, results = runner.train(*arguments, max(1, workers))
        assert (status, done) == (OK, steps)
        found.append((model.arenas.parameters.tobytes(), results.tobytes()))
    assert len(set(found)) == 1


def test_layers_alone():
    x = X.copy()
    layer = fn.Dense(3, mish)
    layer.build(5, seed=0, dtype="float64")
    y = layer.forward(x)
    inner = x @ layer.W + layer.b
    np.testing.assert_allclose(y, inner * np.tanh(np.log1p(np.exp(inner))), rtol=1e-12)
    dx = layer.backward(np.ones_like(y))
    x[4, 2] += 1e-6
    assert (layer.forward(x).sum() - y.sum()) / 1e-6 == pytest.approx(dx[4, 2], rel=1e-5)


def test_names_in_summaries_and_plans(capsys):
    model = network(mish, hinge)
    model.summary()
    assert "mish" in capsys.readouterr().out
    assert "mish" in str(model.plan) and "hinge" in str(model.plan)
    assert (mish.name, repr(mish), repr(hinge)) == ("mish", "ActivationFunction('mish')", "LossFunction('hinge')")
    assert fn.ActivationFunction(mish_value, mish_slope).name == "mish_value"
    for part in (mish, hinge):
        arguments = {name: getattr(part, name) for name in inspect.signature(type(part)).parameters}
        assert vars(type(part)(**arguments)).keys() == vars(part).keys()
    layer = fn.Dense(2, mish)
    assert layer.activation is mish and fn.Dense(2, layer.activation).activation is mish


def test_what_the_recipes_learn():
    model = fn.Model([fn.Input(5), fn.Dense(24, mish), fn.Dense(1)], seed=1)
    model.compile(fn.Adam(0.02), hinge)
    model.fit(X, SIGNS, epochs=60 if jit.COMPILED else 2, verbose=0)
    if jit.COMPILED:
        assert np.mean(np.sign(model.predict(X)[:, 0]) == SIGNS) > 0.97
    model = fn.Model([fn.Input(5), fn.Dense(24, "relu"), fn.Dense(1, "sigmoid")], seed=1)
    model.compile(fn.Adam(0.02), focal_loss(2.0), metrics=["accuracy"])
    history = model.fit(X, BITS, epochs=60 if jit.COMPILED else 2, verbose=0)
    assert not jit.COMPILED or history["accuracy"][-1] > 0.97
    p = model.predict(X)[:, 0].astype(np.float64)
    right = np.where(BITS == 1, p, 1 - p)
    expected = np.mean(-((1 - right) ** 2) * np.log(right))
    assert model.evaluate(X, BITS)["loss"] == pytest.approx(expected, rel=1e-5)


# Slopes are checked.


def sawtooth(x):
    return x - math.floor(x * 3) / 3


#: name -> (value, slope): right, though kinked, steep, undefined in places, or computed in 32 bits.
RIGHT = {
    "kink at 0": (abs, lambda x, y: 1 if x > 0 else -1),
    "kink at a sampled place": (
        lambda x: abs(x - fn.own_functions.PLACES[3]),
        lambda x, y: 1 if x > fn.own_functions.PLACES[3] else -1,
    ),
    "several kinks": (lambda x: min(max(x, -0.7), 1.3), lambda x, y: 1 if -0.7 < x < 1.3 else 0),
    "jumps": (sawtooth, lambda x, y: 1.0),
    "a root": (lambda x: math.sqrt(abs(x)), lambda x, y: 0.5 * np.sign(x) / y),
    "for positive numbers": (math.log, lambda x, y: 1 / x),
    "steep": (math.exp, lambda x, y: y),
    "beyond what floats hold": (lambda x: math.exp(x * x * 3), lambda x, y: 6 * x * y),
    "waves": (lambda x: math.sin(20 * x), lambda x, y: 20 * math.cos(20 * x)),
    "saturated": (lambda x: math.tanh(5 * x), lambda x, y: 5 * (1 - y * y)),
    "in 32 bits": (lambda x: np.float32(x) * np.float32(x), lambda x, y: 2 * np.float32(x)),
    "constant": (lambda x: 1.0, lambda x, y: 0.0),
    "large": (lambda x: 1e12 * x + 1e12, lambda x, y: 1e12),
    "small": (lambda x: 1e-12 * x * x, lambda x, y: 2e-12 * x),
}

#: name -> (value, slope): wrong, somewhere or by a little.
WRONG = {
    "a factor": (lambda x: x * x, lambda x, y: x),
    "a tenth of a percent": (lambda x: x * x, lambda x, y: 2.002 * x),
    "a sign": (lambda x: 1 / (1 + math.exp(x)), lambda x, y: y * (1 - y)),
    "no inner derivative": (lambda x: math.tanh(2 * x), lambda x, y: 1 - y * y),
    "below zero": (abs, lambda x, y: 1.0),
    "in a part": (lambda x: min(max(x, -1), 1), lambda x, y: 1.0 if x < 1 else 0.2),
    "far out": (lambda x: x, lambda x, y: 1.0 if abs(x) < 10 else 0.0),
    "x for y": (np.exp, lambda x, y: x),
    "not a number": (lambda x: x, lambda x, y: float("nan")),
    "in 32 bits": (lambda x: np.float32(x) * np.float32(x), lambda x, y: np.float32(2.02) * np.float32(x)),
    "a step that is learned from": (math.floor, lambda x, y: 1.0),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_slopes_raise_no_alarm(name):
    fn.ActivationFunction(*RIGHT[name]).check()


@pytest.mark.parametrize("name", WRONG)
def test_wrong_slopes_are_told(name):
    value, slope = WRONG[name]
    own = fn.ActivationFunction(value, slope, "mine")
    with pytest.raises(ValueError, match=r"the slope of ActivationFunction\('mine'\) is wrong") as caught:
        network(own, "mse")
    pattern = r"at x = (\S+), slope\(x, y\) is (\S+), but central differences of value\(x\) give (\S+)$"
    x, found, expected = map(float, re.search(pattern, str(caught.value)).groups())
    assert own.compute("slope", x, own.compute("value", x)) == pytest.approx(found, rel=1e-3, nan_ok=True)
    assert (own.compute("value", x + 1e-6) - own.compute("value", x)) / 1e-6 == pytest.approx(expected, abs=0.2)
    with pytest.raises(ValueError, match="the slope of"):
        fn.Activation(own).forward(X)


#: name -> (value, slope, last activation, targets): losses with right slopes for such targets.
RIGHT_LOSSES = {
    "hinge": (hinge_value, hinge_slope, None, SIGNS),
    "focal": (focal_loss(2.0).value, focal_loss(2.0).slope, "sigmoid", BITS),
    "focal after own": (
        focal_loss(1.5).value,
        focal_loss(1.5).slope,
        fn.ActivationFunction(lambda x: 1 / (1 + math.exp(-x)), lambda x, y: y * (1 - y)),
        BITS,
    ),
    "clipped logarithms": (
        lambda y, target: -target * math.log(max(y, 1e-7)) - (1 - target) * math.log(max(1 - y, 1e-7)),
        lambda y, target: -target / max(y, 1e-7) + (1 - target) / max(1 - y, 1e-7),
        "sigmoid",
        BITS,
    ),
    "for 0 and 1 alone": (
        lambda y, target: (y - target) ** 2 * (1 + target),
        lambda y, target: 2 * (y - target) if target == 0 else 4 * (y - target),
        None,
        BITS,
    ),
    "logarithms of probabilities": (lambda y, target: -y * target, lambda y, target: -target, "log_softmax", BITS),
    "far numbers": (
        lambda y, target: abs(y - target) ** 1.5,
        lambda y, target: 1.5 * math.copysign(math.sqrt(abs(y - target)), y - target),
        None,
        1e4 * X[:, 0] + 3e4,
    ),
}

#: name -> (value, slope, last activation, targets): losses with slopes that are wrong for some targets.
WRONG_LOSSES = {
    "a sign": (hinge_value, lambda y, target: -hinge_slope(y, target), None, SIGNS),
    "by the logit": (
        lambda y, target: -target * math.log(y) - (1 - target) * math.log(1 - y),
        lambda y, target: y - target,
        "sigmoid",
        BITS,
    ),
    "for one target": (hinge_value, lambda y, target: min(hinge_slope(y, target), 0.0), None, SIGNS),
    "for 0 and 1 alone": (*RIGHT_LOSSES["for 0 and 1 alone"][:2], None, X[:, 0]),
    "near the target": (
        lambda y, target: min(abs(y - target), 1.0) ** 2,
        lambda y, target: 2.0 if abs(y - target) < 1 else 0.0,
        None,
        1e4 * X[:, 0],
    ),
}


@pytest.mark.parametrize("name", RIGHT_LOSSES)
def test_right_slopes_of_losses_raise_no_alarm(name):
    value, slope, last, y = RIGHT_LOSSES[name]
    layers = [fn.Dense(2 if last == "log_softmax" else 1, last)]
    model = fn.Model([fn.Input(5), *layers], seed=0, dtype="float64")
    model.compile("sgd", fn.LossFunction(value, slope))
    model.evaluate(X, np.stack([y, 1 - y], axis=1) if last == "log_softmax" else y)


@pytest.mark.parametrize("name", WRONG_LOSSES)
@pytest.mark.parametrize("action", ["fit", "evaluate", "train_on_batch", "gradients"])
def test_wrong_slopes_of_losses_are_told(name, action):
    value, slope, last, y = WRONG_LOSSES[name]
    model = network("tanh", fn.LossFunction(value, slope, "mine"), last=last)
    weights = model.get_weights()
    with pytest.raises(ValueError) as caught:
        getattr(model, action)(X, y)
    pattern = r"the slope of LossFunction\('mine'\) is wrong: at y = (\S+) for the target (\S+), slope\(y, target\) is "
    pattern += (
        r"(\S+), but central differences of value\(y, target\) give (\S+) \(y, which comes first, is the prediction\)$"
    )
    place, target, found, expected = map(float, re.match(pattern, str(caught.value)).groups())
    assert found == pytest.approx(float(slope(place, target)), rel=1e-3)
    assert found != pytest.approx(expected, rel=1e-3)
    for array, kept in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(array, kept)


# Losses of whole rows.


def squares_value(y, target):
    total = 0.0
    for k in range(y.shape[0]):
        total += (y[k] - target[k]) ** 2
    return total / y.shape[0]


def squares_slope(dy, y, target):
    for k in range(y.shape[0]):
        dy[k] = 2.0 * (y[k] - target[k]) / y.shape[0]


@pytest.mark.parametrize("dtype", REALS)
def test_a_loss_of_rows_may_be_one_of_their_numbers(dtype):
    y = np.stack([SIGNS, BITS], axis=1)
    of_rows = fn.RowLoss(squares_value, squares_slope, "squares of rows")
    found, expected = (trained("relu", loss, dtype=dtype, y=y, outputs=2) for loss in (of_rows, "mse"))
    np.testing.assert_allclose(found.predict(X), expected.predict(X), rtol=1e-5, atol=1e-6)
    assert found.evaluate(X, y)["loss"] == pytest.approx(expected.evaluate(X, y)["loss"], rel=1e-5)
    weights = np.arange(90.0) % 3
    sums = [model.evaluate(X, y, sample_weight=weights)["loss"] for model in (found, expected)]
    assert sums[0] == pytest.approx(sums[1], rel=1e-5)


def normal_model(loss, outputs=2, **options):
    model = fn.Model([fn.Input(5), fn.Dense(4, "tanh"), fn.Dense(outputs)], seed=0, dtype="float64")
    model.compile("adam", loss, **options)
    return model


def test_a_loss_of_rows_has_the_targets_that_it_gets():
    found = []

    def metric(y_true, y_pred):
        found.append((y_true.dtype, y_true.shape, y_pred.shape))
        return float(np.mean(y_true[:, 0] - y_pred[:, 0]))

    model = normal_model(fn.RowLoss(normal_value, normal_slope), metrics=[metric])
    y = X[:, 0] / 3
    history = model.fit(X, y, validation_split=0.2, epochs=2, verbose=0)
    outputs = model.predict(X)
    expected = np.mean([normal_value(*pair) for pair in zip(outputs, y[:, None], strict=True)])
    assert model.evaluate(X, y)["loss"] == pytest.approx(expected, rel=1e-12)
    assert set(found) == {(np.dtype("float64"), (rows, 1), (rows, 2)) for rows in (72, 18, 90)}
    assert list(history) == ["loss", "metric", "val_loss", "val_metric"]
    assert model.check_gradients(X[:20], y[:20])

    def third_slope(dy, y, target):
        dy[0] = 2.0 * (y[0] - target[2])

    three = fn.RowLoss(lambda y, target: (y[0] - target[2]) ** 2, third_slope, "of the third")
    last = normal_model(three, outputs=1)
    last.fit(X, X[:, :3], verbose=0)
    assert last.evaluate(X, X[:, :3])["loss"] == pytest.approx(
        np.mean((last.predict(X)[:, 0] - X[:, 2]) ** 2), rel=1e-12
    )
    with pytest.raises(ValueError, match=r"validation_data\[1\] has 4 columns, but y has 3"):
        last.fit(X, X[:, :3], validation_data=(X, X[:, :4]))


def test_mistakes_of_a_loss_of_rows_are_told():
    y = X[:, 0]
    for slope, kind, words in (
        (
            lambda dy, y, t: None,
            ValueError,
            r"is wrong: for y = \[.*\] and the target \[.*\], slope\(dy, y, target\) ma",
        ),
        (lambda dy, y, t: normal_slope(dy, -y, -t), ValueError, r"makes dy\[0\] \S+, but central differences of value"),
        (
            lambda dy, y, t: dy.__setitem__(2, 1.0),
            TypeError,
            r"slope of .* failed for y = .*IndexError: index 2 is out of",
        ),
    ):
        model = normal_model(fn.RowLoss(normal_value, slope, "mine"))
        before = model.get_weights()
        with pytest.raises(kind, match=words):
            model.fit(X, y)
        for array, kept in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(array, kept)
    normal = fn.RowLoss(normal_value, normal_slope, "normal")
    normal_model(normal).evaluate(X, y)
    with pytest.raises(TypeError, match=r"failed for y = \[\S+\] and .*IndexError"):  # the same loss, too few outputs
        normal_model(normal, outputs=1).evaluate(X, y)
    with pytest.raises(ValueError, match=r"compares outputs with as many targets, but y has 1 of them for 2 outputs"):
        normal_model(normal, metrics=["mae"]).fit(X, y)
    with pytest.raises(ValueError, match=r"y has shape \(90, 5, 1\); expected \(rows,\) or \(rows, targets\)"):
        normal_model(normal).fit(X, X[:, :, None])
    with pytest.raises(TypeError, match=r"needs 'slope'; expected RowLoss\(value, slope\)"):
        fn.RowLoss(normal_value)
    bad = normal_model(fn.RowLoss(normal_value, lambda dy, y, t: normal_slope(dy, y, t + 1), "mine").trusted())
    report = bad.check_gradients(X[:20], y[:20])
    assert not report and "the slope of RowLoss('mine') is wrong: for y = " in str(report)


def chosen(y, target):
    return -y[int(target[0])]


def chosen_slope(dy, y, target):
    dy[int(target[0])] = -1.0


@pytest.mark.skipif(not jit.COMPILED, reason="in plain Python NumPy looks at places")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("label", [3, -4, 10**8])
def test_a_place_beyond_a_row_that_follows_from_a_target_is_an_error(label):
    """The first look sees a few rows; compiled code would read and write memory of others."""
    labels = np.arange(90) % 3
    labels[61] = label
    for threads in (1, 2):
        model = fn.Model([fn.Input(5), fn.Dense(3, "log_softmax")], seed=0)
        model.compile("sgd", fn.RowLoss(chosen, chosen_slope, "chosen"), threads=threads)
        words = r"value or slope of RowLoss\('chosen'\) uses a place beyond y, dy or target"
        with pytest.raises(IndexError, match=words + " in batch 2"):
            model.fit(X, labels, batch_size=30, shuffle=False, verbose=0)
        assert model.step == 2 and np.isfinite(model.arenas.parameters).all()
        with pytest.raises(IndexError, match=words):
            model.evaluate(X, labels)
        labels_of_classes = np.arange(90) % 3
        model.fit(X, labels_of_classes, verbose=0)  # and it can go on


def test_losses_of_rows_of_the_same_functions_are_compiled_once():
    first, second = (fn.RowLoss(chosen, chosen_slope).formulas for _ in range(2))
    assert all(one is other for one, other in zip(first, second, strict=True))


def test_a_loss_of_rows_stays_on_the_cpu(monkeypatch):
    plan = normal_model(fn.RowLoss(normal_value, normal_slope, "normal")).plan
    with pytest.raises(
        TypeError, match=r'device is "cuda", but RowLoss\(\'normal\'\) is a loss of whole rows, which runs on'
    ):
        dispatch.check_plan("cuda", plan, "float32")
    monkeypatch.setattr(dispatch, "missing_for_gpu", lambda: None)
    monkeypatch.setattr(dispatch, "AUTO_FLOPS", 0)
    monkeypatch.delenv("FASTNN_DEVICE", raising=False)
    assert dispatch.choose_device("auto", plan) == "cpu"
    assert dispatch.choose_device("auto", normal_model("mse").plan) in ("cpu", "cuda")
    if not dispatch.simulated():
        assert dispatch.choose_device("auto", normal_model("mse").plan) == "cuda"


def test_a_loss_of_rows_is_saved_by_its_name(tmp_path):
    normal = fn.RowLoss(normal_value, normal_slope, "normal")
    model = normal_model(normal)
    model.fit(X, X[:, 0], verbose=0)
    model.save(tmp_path / "m")
    again = fn.load(tmp_path / "m", parts={"normal": normal})
    for twin in (again, model.copy(), pickle.loads(pickle.dumps(model))):
        twin.fit(X, X[:, 0], verbose=0)
    model.fit(X, X[:, 0], verbose=0)
    np.testing.assert_array_equal(again.arenas.parameters, model.arenas.parameters)


# Other mistakes.


def takes_two(x, y):
    return x


class Callable:
    def __call__(self, x):
        return x


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: fn.ActivationFunction(3, mish_slope), "value is 3; expected a function of (x), written with def"),
        (lambda: fn.ActivationFunction(mish_value, None), "slope is None; expected a function of (x, y)"),
        (lambda: fn.ActivationFunction(Callable(), mish_slope), "expected a function of (x), written with def"),
        (lambda: fn.ActivationFunction(takes_two, mish_slope), "value is a function of (x, y); expected a function of"),
        (
            lambda: fn.ActivationFunction(mish_value, mish_value),
            "slope is a function of (x); expected",
        ),
        (
            lambda: fn.LossFunction(mish_value, hinge_slope),
            "expected a function of (y, target)",
        ),
        (lambda: fn.ActivationFunction(mish_value, mish_slope, ""), "name is ''; expected a non-empty string or None"),
        (lambda: fn.ActivationFunction(mish_value, mish_slope, 3), "name is 3"),
        (lambda: fn.Dense(3, mish_value), "expected a name or ActivationFunction(value, slope), with two functions"),
        (lambda: fn.Activation(hinge), "activation is LossFunction('hinge')"),
        (lambda: network("relu", mish), "loss is ActivationFunction('mish')"),
        (
            lambda: network("relu", hinge_value),
            "expected one of fastnn.losses, its name, or LossFunction(value, slope)",
        ),
        (lambda: network("relu", hinge).fit(X, SIGNS[:, None] * [1, 1]), "y has shape (90, 2); expected (rows, 1)"),
        (lambda: network("relu", "cross_entropy", last=mish, outputs=2), 'the last layer ends in "ActivationFunction'),
        (
            lambda: fn.ActivationFunction(lambda x: x.shape[0], lambda x, y: 1.0).check(),
            "failed for x = 0.410885: IndexError: tuple index out of range",
        ),
        (
            lambda: fn.ActivationFunction(lambda x: None, lambda x, y: 1.0).check(),
            "failed for x = 0.410885: TypeError: float() argument must be",
        ),
    ],
)
def test_bad_input(make, words):
    with pytest.raises((TypeError, ValueError)) as caught:
        make()
    assert words in str(caught.value)


@pytest.mark.skipif(not jit.COMPILED, reason="the compiler is disabled")
def test_what_cannot_be_compiled_is_told_in_short():
    names = {"alpha": 0.5}
    own = fn.ActivationFunction(lambda x: x * names["alpha"], lambda x, y: names["alpha"], "mine")
    model = network(own, "mse")
    weights = model.get_weights()
    for action in (lambda: model.fit(X, SIGNS), lambda: model.predict(X)):
        with pytest.raises(TypeError, match=r"cannot be compiled for float32: .*<class 'dict'>") as caught:
            action()
        lines = "".join(traceback.format_exception(caught.value)).splitlines()
        assert len(lines) < 40, "\n".join(lines)
    for array, kept in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(array, kept)


NOT_FINITE = {
    "activation is NaN": (
        fn.ActivationFunction(lambda x: x if x < 50 else float("nan"), lambda x, y: 1.0),
        "mse",
    ),
    "activation is infinite": (
        fn.ActivationFunction(lambda x: x if x < 50 else float("inf"), lambda x, y: 1.0),
        "mse",
    ),
    "slope is NaN": (
        fn.ActivationFunction(lambda x: x, lambda x, y: 1.0 if x < 50 else float("nan")),
        "mse",
    ),
    "loss is infinite": (
        "relu",
        fn.LossFunction(
            lambda y, target: y * y if abs(y) < 50 else float("inf"), lambda y, target: 2 * y if abs(y) < 50 else 0.0
        ),
    ),
}


@pytest.mark.parametrize("name", NOT_FINITE)
def test_numbers_that_are_not_finite_end_the_fit(name):
    activation, loss = NOT_FINITE[name]
    model = fn.Model([fn.Input(5), fn.Dense(7, activation), fn.Dense(1)], seed=3)
    model.compile(fn.SGD(1e-6), loss)
    inputs = X.copy()
    inputs[70] *= 1000
    weights = model.get_weights()
    with pytest.raises(FloatingPointError, match="batch 3 of 3"):
        model.fit(inputs, SIGNS, epochs=2, batch_size=32, shuffle=False, verbose=0)
    assert all(np.isfinite(array).all() for array in model.get_weights())
    assert not all(np.array_equal(array, kept) for array, kept in zip(model.get_weights(), weights, strict=True))


# Copies, files, modes.


def count():
    return len(jit.compiled) + len(jit.loaded)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_continue_with_the_same_bits(duplicate):
    model = network(mish, hinge)
    model.fit(X, SIGNS, epochs=1, verbose=0)
    before = count()
    other = duplicate(model)
    for each in (model, other):
        each.fit(X, SIGNS, epochs=1, verbose=0)
    np.testing.assert_array_equal(model.arenas.parameters, other.arenas.parameters)
    assert count() == before, "a copy was compiled anew"


def test_files(tmp_path):
    model = network(mish, hinge)
    model.fit(X, SIGNS, epochs=1, verbose=0)
    model.save(tmp_path / "model.safetensors")
    other = fn.load(tmp_path / "model.safetensors", parts={"mish": mish, "hinge": hinge})
    for each in (model, other):
        each.fit(X, SIGNS, epochs=1, verbose=0)
    np.testing.assert_array_equal(model.arenas.parameters, other.arenas.parameters)
    with pytest.raises(fn.ModelFileError, match="the model has a part of your own, 'hinge'"):
        fn.load(tmp_path / "model.safetensors", parts={"mish": mish})
    twin = fn.ActivationFunction(mish_value, mish_slope, "mish")
    model = fn.Model([fn.Input(5), fn.Dense(3, mish), fn.Dense(1, twin)], seed=0)
    with pytest.raises(TypeError, match="two parts of your own named 'mish'; expected a name for each"):
        model.save(tmp_path / "two.safetensors")


def test_functions_of_a_notebook_are_not_compiled_again():
    """A cell that is run again makes new functions of the same content."""

    def cell():
        return fn.ActivationFunction(lambda x: x * abs(x), lambda x, y: 2 * abs(x))

    trained(cell(), "mse")
    before = count()
    trained(cell(), "mse")
    assert count() == before


def test_constants_are_those_of_the_first_use():
    scale = 2.0
    own = fn.ActivationFunction(lambda x: scale * x, lambda x, y: scale)
    layer = fn.Activation(own)
    x = np.ones((1, 1))
    assert layer.forward(x) == 2.0
    scale = 3.0
    assert layer.forward(x) == copy.deepcopy(layer).forward(x) == 2.0
    assert fn.Activation(fn.ActivationFunction(own.value, own.slope)).forward(x) == 3.0


OTHER_MODE = """
import sys
import numpy as np
from tests.test_own_parts import X, SIGNS, network, mish, hinge
model = network(mish, hinge, dtype="float64")
model.fit(X, SIGNS, epochs=1, batch_size=32, verbose=0)
print(model.get_weights()[0].tolist())
"""


def test_plain_python_and_compiled_code_agree():
    model = network(mish, hinge, dtype="float64")
    model.fit(X, SIGNS, epochs=1, batch_size=32, verbose=0)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_DISABLE_JIT": "1" if jit.COMPILED else "0"}
    done = subprocess.run(
        [sys.executable, "-c", OTHER_MODE], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(model.get_weights()[0], eval(done.stdout), rtol=1e-9)
