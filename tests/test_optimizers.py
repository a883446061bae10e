"""Optimizers as a user meets them: until convergence, L-BFGS, clipping, constraints, penalties, one's own."""

import signal

import numpy as np
import pytest

import fastnn as fn
from fastnn import optimizers
from fastnn.kernels.cpu.runner import Runner
from fastnn.kernels.jit import COMPILED
from tests import reference
from tests.test_schedules import SCHEDULES

sklearn = pytest.importorskip("sklearn.linear_model")


def two_classes(rows=200, seed=0):
    generator = np.random.default_rng(seed)
    X = generator.standard_normal((rows, 3))
    return X, (X @ [1.0, -2.0, 0.5] + generator.standard_normal(rows) > 0.3).astype(int)


def logistic(optimizer, regularizer=None, dtype="float64"):
    model = fn.Model([fn.Input(3), fn.Dense(1, "sigmoid", kernel_regularizer=regularizer)], seed=0, dtype=dtype)
    model.compile(optimizer, "binary_cross_entropy")
    return model


@pytest.mark.parametrize("optimizer", [fn.SGD(1.0), fn.SGD(0.5, momentum=0.9), fn.LBFGS()])
@pytest.mark.parametrize("l2", [0.0, 0.01])
def test_until_convergence_is_scikit_learn_s_logistic_regression(optimizer, l2):
    X, y = two_classes()
    strength = np.inf if l2 == 0 else 1 / (2 * l2 * len(X))
    expected = sklearn.LogisticRegression(C=strength, tol=1e-12, max_iter=10_000).fit(X, y)
    model = logistic(optimizer, fn.L2(l2))
    history = model.fit(X, y, batch_size=len(X), epochs=20_000, tolerance=1e-7)
    assert history.epochs < 20_000
    np.testing.assert_allclose(model.layers[1].W[:, 0], expected.coef_[0], atol=2e-5)
    np.testing.assert_allclose(model.layers[1].b, expected.intercept_, atol=2e-5)
    gradients = np.concatenate([gradient.ravel() for gradient in model.gradients(X, y).values()])
    assert np.linalg.norm(gradients) <= 1e-7
    again = model.fit(X, y, batch_size=len(X), epochs=10, tolerance=1e-7)
    assert again.epochs == 1 and again["loss"][0] == pytest.approx(history["loss"][-1], abs=1e-12)


@pytest.mark.parametrize(
    "optimizer",
    [
        fn.SGD(1.0),
        fn.SGD(0.2, momentum=0.9),
        fn.SGD(0.2, momentum=0.9, nesterov=True),
        fn.SGD(1.0, clip_norm=0.05),
        fn.Adagrad(0.3),
    ],
)
def test_until_convergence_with_l1_ends_at_exact_zeros(optimizer):
    """At the minimum of a convex function: the slope of the loss is -λ·sign(w), and where w is zero, within ±λ."""
    X, y = two_classes()
    X = np.hstack([X, np.random.default_rng(1).standard_normal((len(X), 5))])
    model = fn.Model([fn.Input(8), fn.Dense(1, "sigmoid", kernel_regularizer=fn.L1(0.05))], seed=0, dtype="float64")
    model.compile(optimizer, "binary_cross_entropy")
    history = model.fit(X, y, batch_size=len(X), epochs=20_000, tolerance=1e-9)
    assert history.epochs < 20_000
    W, b = model.layers[1].W[:, 0], model.layers[1].b[0]
    errors = 1 / (1 + np.exp(-(X @ W + b))) - y
    slope = X.T @ errors / len(X)
    np.testing.assert_allclose(slope[W != 0], -0.05 * np.sign(W[W != 0]), atol=2e-9)
    assert abs(errors.mean()) <= 2e-9
    assert (abs(slope[W == 0]) <= 0.05).all() and (W == 0).sum() >= 4


class Momentum(fn.Optimizer):
    """One's own: it gets the slope of L1 with that of the loss, and so ends near zero, not at it."""

    slots = 1

    @staticmethod
    def update(p, g, slots, rate, step, settings):
        v = slots[0]
        for i in range(len(p)):
            v[i] = 0.9 * v[i] + g[i]
            p[i] -= rate * v[i]


#: name -> an optimizer whose steps become small; of one weight, or of batches.
ALL = {
    "sgd": fn.SGD,
    "momentum": lambda rate: fn.SGD(rate, momentum=0.9),
    "nesterov": lambda rate: fn.SGD(rate, momentum=0.9, nesterov=True),
    "adagrad": lambda rate: fn.Adagrad(0.5),
    "rmsprop": fn.RMSprop,
    "rmsprop, momentum": lambda rate: fn.RMSprop(rate, momentum=0.9),
    "adam": fn.Adam,
    "adamw": lambda rate: fn.AdamW(rate, weight_decay=0.0),
    "own": Momentum,
}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("l1", "least"), [(0.5, 0.75), (1.9, 0.05), (2.5, 0.0)])
def test_l1_is_part_of_what_is_minimized_whatever_the_optimizer(name, l1, least):
    """(w - 1)² + l1·|w| is least at 1 - l1/2, or at 0; a share of the learning rate that fits one optimizer alone would
    end elsewhere.
    """
    model = fn.Model([fn.Input(1), fn.Dense(1, use_bias=False, kernel_regularizer=fn.L1(l1))], seed=0, dtype="float64")
    model.set_weights([[[2.0]]])
    model.compile(ALL[name](fn.CosineDecay(0.01)), "mse")
    model.fit([[1.0]], [1.0], epochs=4000, verbose=0)
    w = model.layers[1].W[0, 0]
    assert w == pytest.approx(least, abs=2e-4)
    assert least != 0 or w == 0 or name == "own"


@pytest.mark.parametrize("name", ALL)
def test_l1_in_batches_comes_near_the_lasso(name):
    generator = np.random.default_rng(0)
    X = generator.standard_normal((256, 6)) * [1, 2, 1, 0.5, 1, 1]
    y = X @ [1.0, 0.5, 0.0, 0.0, -0.3, 0.02] + 0.1 * generator.standard_normal(256)
    expected = sklearn.Lasso(0.1, fit_intercept=False, tol=1e-12).fit(X, y).coef_  # of half the mean square
    layer = fn.Dense(1, use_bias=False, kernel_regularizer=fn.L1(0.2))
    model = fn.Model([fn.Input(6), layer], seed=0, dtype="float64")
    model.compile(ALL[name](fn.CosineDecay(0.01 if "adam" in name or "rms" in name else 0.003)), "mse")
    model.fit(X, y, batch_size=64, epochs=400, verbose=0)
    np.testing.assert_allclose(layer.W[:, 0], expected, atol=0.02)
    if name != "own":
        np.testing.assert_array_equal(layer.W[[2, 3, 5], 0], 0)


@pytest.mark.parametrize("watched", [False, True])
def test_the_epoch_that_converged_is_reported_and_not_stepped(watched):
    X, y = two_classes()
    seen = []
    callbacks = [fn.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(logs["loss"]))] if watched else []
    model = logistic(fn.SGD(1.0))
    history = model.fit(X, y, batch_size=999, epochs=20_000, tolerance=1e-3, callbacks=callbacks)
    assert model.step == history.epochs - 1 and model.epoch == history.epochs
    assert history["loss"][-1] == pytest.approx(model.evaluate(X, y)["loss"], rel=1e-12)
    assert seen == (history["loss"] if watched else [])


def test_lbfgs_reports_every_iteration_and_stops_where_it_is_told():
    X, y = two_classes()
    model = fn.Model([fn.Input(3), fn.Dense(8, "tanh"), fn.Dense(2, "softmax")], seed=0, dtype="float64")
    model.compile("lbfgs", "cross_entropy", ["accuracy", "auc"])
    stop = fn.EarlyStopping("val_loss", patience=3)
    history = model.fit(X[:120], y[:120], epochs=200, validation_data=(X[120:], y[120:]), callbacks=[stop])
    assert stop.stopped_epoch == history.epochs - 1 == stop.best_epoch + 3
    assert all(first >= second for first, second in zip(history["loss"], history["loss"][1:], strict=False))
    assert model.evaluate(X[120:], y[120:])["loss"] == pytest.approx(min(history["val_loss"]), rel=1e-12)
    without = fn.Model([fn.Input(3), fn.Dense(8, "tanh"), fn.Dense(2, "softmax")], seed=0, dtype="float64")
    without.compile("lbfgs", "cross_entropy", ["accuracy", "auc"])
    assert without.fit(X[:120], y[:120], epochs=5).to_dict() == {
        name: curve[:5] for name, curve in history.to_dict().items() if not name.startswith("val_")
    }
    assert without.epoch == 5


@pytest.mark.parametrize("optimizer", ["lbfgs", "sgd"])
def test_a_fit_that_is_over_before_it_begins_takes_no_step(optimizer):
    X, y = two_classes()
    model = logistic(optimizer)
    before = model.get_weights()
    stop = fn.LambdaCallback(on_train_begin=lambda: setattr(model, "stop_training", True))
    assert model.fit(X, y, epochs=3, callbacks=[stop]).epochs == model.step == 0
    history = model.fit(X, y, epochs=3, batch_size=len(X), tolerance=1e9)
    assert (history.epochs, model.step) == (1, 0) and history["loss"] == [pytest.approx(model.evaluate(X, y)["loss"])]
    assert all(np.array_equal(*arrays) for arrays in zip(before, model.get_weights(), strict=True))


def test_lbfgs_has_no_learning_rate():
    optimizer = fn.LBFGS()
    with pytest.raises(AttributeError, match=r"LBFGS has no learning_rate, because .*; expected memory"):
        optimizer.learning_rate = 7
    optimizer.memory = 3
    assert optimizer.learning_rate == 1 and repr(optimizer) == "LBFGS(memory=3)"


@pytest.mark.parametrize("threads", [1, 3])
def test_lbfgs_and_gradients_use_the_threads_that_were_asked_for(threads, monkeypatch):
    X, y = two_classes()
    model, used = logistic("lbfgs"), []
    model.compile("lbfgs", "binary_cross_entropy", threads=threads)
    train = Runner.train

    def counted(self, data, order, batch_size, first, last, rates, step, seed, workers, **given):
        used.append(workers)
        return train(self, data, order, batch_size, first, last, rates, step, seed, workers, **given)

    monkeypatch.setattr(Runner, "train", counted)
    model.fit(X, y, epochs=2)
    assert model.step == 2
    model.gradients(X, y)
    assert set(used) == {threads} and model.step == 2


def test_lbfgs_tells_callbacks_of_each_epoch_and_answers_an_interrupt():
    calls = []
    note = fn.LambdaCallback(
        on_epoch_begin=lambda epoch: calls.append(("begin", epoch)),
        on_epoch_end=lambda epoch, logs: calls.append(("end", epoch)),
    )
    X, y = two_classes()
    logistic("lbfgs").fit(X, y, epochs=3, callbacks=[note])
    assert calls == [(when, epoch) for epoch in range(3) for when in ("begin", "end")]
    press = fn.LambdaCallback(on_epoch_end=lambda epoch, logs: signal.raise_signal(signal.SIGINT))
    model = logistic("lbfgs")
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y, epochs=30, callbacks=[press])
    assert model.epoch == 1 and np.isfinite(model.evaluate(X, y)["loss"])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_lbfgs_reports_an_epoch_where_no_step_helps(dtype):
    """At the minimum it has the history that gradient descent has there."""
    X = np.arange(10.0)[:, None]
    y = 2 * X[:, 0] + 1
    found = {}
    for optimizer in ("lbfgs", fn.SGD(0.1)):
        calls = []
        note = fn.LambdaCallback(
            on_epoch_begin=lambda epoch, calls=calls: calls.append(("begin", epoch)),
            on_epoch_end=lambda epoch, logs, calls=calls: calls.append(("end", epoch)),
        )
        model = fn.Model([fn.Input(1), fn.Dense(1)], seed=0, dtype=dtype)
        model.compile(optimizer, "mse", ["mae", "r2"])
        model.set_weights([[[2.0]], [1.0]])
        stop = fn.EarlyStopping(patience=0)
        options = {"validation_data": (X, y + 0.5), "tolerance": 0, "callbacks": [note, stop], "batch_size": 10}
        found[str(optimizer)] = model.fit(X, y, epochs=5, **options).to_dict()
        assert calls == [("begin", 0), ("end", 0)] and stop.best_epoch == 0
        assert (model.step, model.epoch, model.layers[1].W, model.layers[1].b) == (0, 1, 2, 1)
    first, second = found.values()
    assert first == second and list(first) == ["loss", "mae", "r2", "val_loss", "val_mae", "val_r2"]
    assert first["loss"] == [0.0] and first["val_loss"] == [0.25] and first["r2"] == [1.0]


def test_lbfgs_reports_where_it_began_if_all_steps_it_tries_are_worse():
    """The absolute error has a kink at the median, and the slope that stands for both sides leads nowhere."""
    X, y = np.zeros((3, 1)), np.array([0.0, 0.0, 3e-30])  # smaller than the smallest step
    model = fn.Model([fn.Input(1), fn.Dense(1, kernel_initializer="zeros")], dtype="float64")
    model.compile("lbfgs", "mae", ["r2"])
    assert model.gradients(X, y)["dense_1.b"] != 0
    history = model.fit(X, y, epochs=5, validation_data=(X, 2 * y))
    assert (model.step, model.epoch, model.layers[1].b) == (0, 1, 0)
    expected = {"loss": 1e-30, "r2": -0.5, "val_loss": 2e-30, "val_r2": -0.5}
    assert history.to_dict() == {name: [pytest.approx(value, rel=1e-12, abs=0)] for name, value in expected.items()}


def test_lbfgs_stops_where_the_loss_is_not_finite():
    model = fn.Model([fn.Input(1), fn.Dense(1, kernel_initializer=fn.Constant(1e200))], dtype="float64")
    model.compile("lbfgs", "mse")
    told = "^the loss or its gradient is NaN or infinite in iteration 1; .* inputs .* usually help$"
    with pytest.raises(FloatingPointError, match=told):
        model.fit([[1.0], [2.0]], [0.0, 0.0], epochs=3)
    with pytest.raises(FloatingPointError, match=r"in gradients: the outputs of the model are not finite or"):
        model.gradients([[1.0], [2.0]], [0.0, 0.0])
    assert model.layers[1].W == 1e200 and model.step == model.epoch == 0


@pytest.mark.parametrize("penalty", [None, fn.L2(1e300)])
def test_lbfgs_tells_of_an_overflow_by_its_error_alone(penalty):
    model = fn.Model([fn.Input(1), fn.Dense(1, kernel_regularizer=penalty)], seed=0, dtype="float64")
    model.compile("lbfgs", "mse")
    model.layers[1].W = [[1e10]]
    with pytest.raises(FloatingPointError, match=r"in iteration 1; the model keeps the weights"):
        model.fit([[1e100], [2e100]], [0.0, 1e20], epochs=3, batch_size=2, tolerance=1e-9)  # slopes beyond 1e154
    assert model.layers[1].W == 1e10 and model.step == model.epoch == 0


def test_lbfgs_lets_out_what_a_callback_raises():
    def fails(epoch, logs):
        next(iter([]))

    X, y = two_classes()
    model = logistic("lbfgs")
    with pytest.raises(StopIteration):
        model.fit(X, y, epochs=5, callbacks=[fn.LambdaCallback(on_epoch_end=fails)])
    assert model.epoch == 1


def test_lbfgs_trains_on_a_table_of_a_few_hundred_rows():
    datasets = pytest.importorskip("sklearn.datasets")
    X, y = datasets.load_diabetes(return_X_y=True)
    X, y = (X - X.mean(axis=0)) / X.std(axis=0), (y - y.mean()) / y.std()
    layers = [fn.Dense(8, "tanh", kernel_regularizer=fn.L2(0.03)), fn.Dense(1, kernel_regularizer=fn.L2(0.03))]
    model = fn.Model([fn.Input(10), *layers], seed=0, dtype="float64")
    model.compile("lbfgs", "mse", ["r2"])
    history = model.fit(X[::2], y[::2], epochs=500, tolerance=1e-6)
    assert history.epochs < 500
    assert model.evaluate(X[1::2], y[1::2])["r2"] > 0.44


def dense_model(optimizer, **options):
    model = fn.Model([fn.Input(3), fn.Dense(6, "tanh", **options), fn.Dense(1, "sigmoid")], seed=0, dtype="float64")
    model.compile(optimizer, "binary_cross_entropy")
    return model


def frozen(optimizer):
    model = dense_model(optimizer, trainable=False)
    model.layers[2].trainable = False
    return model


def step_of(optimizer, **options):
    """(the gradients of the first step, what it did to the parameters), by parameter."""
    X, y = two_classes()
    model = dense_model(optimizer, **options)
    before = {name: array.copy() for name, array in model.named_parameters().items()}
    gradients = model.gradients(X, y)
    model.train_on_batch(X, y)
    return gradients, {name: array - before[name] for name, array in model.named_parameters().items()}


def test_clipping_by_norm_scales_the_whole_gradient():
    gradients, steps = step_of(fn.SGD(1.0, clip_norm=0.01), kernel_regularizer="l2")
    norm = np.sqrt(sum((gradient**2).sum() for gradient in gradients.values()))
    assert norm > 0.01
    for name, gradient in gradients.items():
        np.testing.assert_allclose(steps[name], -0.01 / norm * gradient, rtol=1e-9, atol=1e-15)
    gradients, steps = step_of(fn.SGD(1.0, clip_norm=100.0))
    for name, gradient in gradients.items():
        np.testing.assert_allclose(steps[name], -gradient, rtol=1e-9, atol=1e-15)


def test_clipping_by_value_clips_each_element():
    gradients, steps = step_of(fn.SGD(1.0, clip_value=0.005))
    assert any((np.abs(gradient) > 0.005).any() for gradient in gradients.values())
    for name, gradient in gradients.items():
        np.testing.assert_allclose(steps[name], -np.clip(gradient, -0.005, 0.005), rtol=1e-9, atol=1e-15)


def test_clipping_keeps_a_large_rate_from_diverging():
    generator = np.random.default_rng(0)
    X = generator.standard_normal((100, 3)) * 1e3
    y = X @ [1.0, 2.0, 3.0]
    with pytest.raises(FloatingPointError):
        model = fn.Model([fn.Input(3), fn.Dense(1)], seed=0)
        model.compile(fn.SGD(0.01), "mse")
        model.fit(X, y, epochs=20)
    model = fn.Model([fn.Input(3), fn.Dense(1)], seed=0)
    model.compile(fn.SGD(0.01, clip_norm=1.0), "mse")
    assert np.isfinite(model.fit(X, y, epochs=20)["loss"]).all()


def test_max_norm_holds_after_every_step():
    X, y = two_classes()
    model = dense_model(fn.SGD(0.5), kernel_constraint=fn.MaxNorm(0.7), bias_constraint=fn.MaxNorm(0.05))
    for _ in range(5):
        model.train_on_batch(X, y)
        norms = np.linalg.norm(model.layers[1].W, axis=0)
        assert (norms <= 0.7 * (1 + 1e-12)).all() and np.linalg.norm(model.layers[1].b) <= 0.05 * (1 + 1e-12)
    assert (norms > 0.69).any()
    model.layers[1].W[:] = 1.0  # asking for gradients is no step
    model.gradients(X, y)
    assert (model.layers[1].W == 1.0).all()


def test_biases_are_penalized_only_where_that_is_asked_for():
    plain = step_of(fn.SGD(1.0))[0]["dense_1.b"]
    np.testing.assert_array_equal(step_of(fn.SGD(1.0), kernel_regularizer="l2")[0]["dense_1.b"], plain)
    biased = {"bias_regularizer": fn.L2(0.1), "bias_initializer": fn.Constant(0.5)}
    shifted = step_of(fn.SGD(1.0), bias_initializer=fn.Constant(0.5))[0]["dense_1.b"]
    np.testing.assert_allclose(step_of(fn.SGD(1.0), **biased)[0]["dense_1.b"], shifted + 2 * 0.1 * 0.5, rtol=1e-12)


# One's own.


class Sign(fn.Optimizer):
    """w -= rate · sign(g)."""

    @staticmethod
    def update(p, g, slots, rate, step, settings):
        for i in range(len(p)):
            p[i] -= rate * np.sign(g[i])


class WithArrays(fn.Optimizer):
    """The same as Adam, written with whole arrays."""

    slots = 2

    def settings(self):
        return (0.9, 0.999, 1e-8)

    @staticmethod
    def update(p, g, slots, rate, step, settings):
        mean, square = slots
        mean[:] = settings[0] * mean + (1 - settings[0]) * g
        square[:] = settings[1] * square + (1 - settings[1]) * g * g
        m, v = mean / (1 - settings[0] ** step), square / (1 - settings[1] ** step)
        p[:] = p - rate * m / (np.sqrt(v) + settings[2])


def test_an_own_update_is_trained_with_by_the_engine():
    gradients, steps = step_of(Sign(0.01))
    for name, gradient in gradients.items():
        np.testing.assert_allclose(steps[name], -0.01 * np.sign(gradient), rtol=1e-9)
    X, y = two_classes()
    found = []
    for optimizer in (WithArrays(0.01), fn.Adam(0.01)):
        for threads in (1, 3):
            model = dense_model(optimizer)
            model.compile(optimizer, "binary_cross_entropy", threads=threads)
            model.fit(X, y, epochs=3)
            found.append(model.arenas.parameters)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_allclose(found[0], found[2], rtol=1e-12, atol=1e-15)


def test_an_own_update_that_changes_nothing_is_told():
    def another_array(w, g, slots, rate, step, settings):
        w = w - rate * g

    def every_tenth(p, g, slots, rate, step, settings):
        slots[0][:] += g
        if step % 10 == 0:
            p -= rate * slots[0]
            slots[0][:] = 0.0

    def for_numba_alone(p, g, slots, rate, step, settings):
        raise RuntimeError

    told = r"optimizer.update leaves the weights as they are: 100 steps changed no number of w; .*w = w - "
    with pytest.warns(UserWarning, match=told):
        logistic(of_ones_own(another_array))
    with pytest.raises(UserWarning, match=told):  # where warnings are errors
        logistic(of_ones_own(another_array))
    for optimizer in (of_ones_own(every_tenth, slots=1), of_ones_own(for_numba_alone), Sign(0.1)):
        logistic(optimizer)  # without a warning, which would be an error here


def test_an_own_update_that_goes_beyond_an_array_is_told():
    class Far(fn.Optimizer):
        def settings(self):
            return (0.5,)

        @staticmethod
        def update(p, g, slots, rate, step, settings):
            p -= rate * settings[1] * g

    def next_one(p, g, slots, rate, step, settings):
        for i in range(len(p)):
            p[i] -= rate * g[i + 1]

    with pytest.raises(
        ValueError, match=r"^optimizer is Far, whose update goes .* settings has 1 number, slots 0 arrays$"
    ):
        logistic(Far(0.1))
    with pytest.raises(ValueError, match=r"whose next_one goes beyond the end of an array \(index 3 is out of bounds"):
        logistic(of_ones_own(next_one))


def test_an_own_update_gets_penalties_and_clipping():
    for regularizer in (None, fn.L1(1.0), fn.L2(1.0)):
        slopes, steps = step_of(Sign(0.01), kernel_regularizer=regularizer)
        np.testing.assert_allclose(steps["dense_1.W"], -0.01 * np.sign(slopes["dense_1.W"]), rtol=1e-12)
    limited = step_of(Momentum(1.0, clip_value=1e-4), kernel_regularizer=fn.L1(1.0))[1]
    np.testing.assert_allclose(np.abs(limited["dense_1.W"]), 1e-4, rtol=1e-9)


@pytest.mark.skipif(not COMPILED, reason="Python takes every function")
def test_an_own_update_that_cannot_be_compiled_says_so():
    class Wrong(fn.Optimizer):
        @staticmethod
        def update(p, g, slots, rate, step, settings):
            p.cost = open("x")

    with pytest.raises(Exception, match=r"open|cost"):
        step_of(Wrong(0.1))


def test_an_own_penalty_is_in_the_loss_the_gradient_and_the_step():
    import math

    def value(w):
        return 0.1 * math.log(1 + w * w)

    def slope(w):
        return 0.2 * w / (1 + w * w)

    X, y = two_classes()
    model, plain = dense_model(fn.SGD(1.0), kernel_regularizer=fn.Penalty(value, slope)), dense_model(fn.SGD(1.0))
    W = model.layers[1].W.copy()
    assert model.evaluate(X, y)["loss"] == pytest.approx(plain.evaluate(X, y)["loss"] + (0.1 * np.log1p(W**2)).sum())
    found, expected = model.gradients(X, y), plain.gradients(X, y)
    np.testing.assert_allclose(found["dense_1.W"], expected["dense_1.W"] + 0.2 * W / (1 + W**2), rtol=1e-12)
    model.train_on_batch(X, y)
    np.testing.assert_allclose(model.layers[1].W, W - found["dense_1.W"], rtol=1e-12)


def of_ones_own(update=None, slots=0, settings=()):
    """An optimizer of the user's own with what is given."""
    found = {"update": staticmethod(update) if callable(update) else update, "slots": slots}
    if update is None:
        del found["update"]
    return type("Mine", (fn.Optimizer,), {**found, "settings": lambda self: settings})(0.1)


def changed_after_compile():
    model = logistic(fn.Adam())
    model.optimizer.beta_1 = np.nan
    model.fit(*two_classes())


BAD = {
    r"optimizer.update is a function of \(p, g\); expected a function of \(p, g, slots, rate, step, settings\)": (
        lambda: logistic(of_ones_own(lambda p, g: None))
    ),
    r"optimizer.update is a method, with self; expected a function: write @staticmethod above Mine.update": (
        lambda: logistic(type("Mine", (fn.Optimizer,), {"update": lambda self, p, g, slots, rate, step, settings: 0})())
    ),
    "optimizer.update is 'adan'; expected Mine.update to be a static method": lambda: logistic(of_ones_own("adan")),
    "optimizer.update is ''; expected Mine.update to be": lambda: logistic(of_ones_own()),
    "optimizer.slots is 3; expected a whole number of at least 0 and at most 2": (
        lambda: logistic(of_ones_own(Sign.update, 3))
    ),
    "optimizer.settings.* is .*expected a tuple of at most 7 numbers": (
        lambda: logistic(of_ones_own(Sign.update, 0, (1.0,) * 8))
    ),
    r"optimizer.settings\(\)\[1\] is nan": lambda: logistic(of_ones_own(Sign.update, 0, (1.0, np.nan))),
    "beta_1 is nan; expected a finite number at least 0 and below 1": changed_after_compile,
    "kernel_regularizer is Regularizer.*expected None, L1, L2, L1L2, Penalty": (
        lambda: fn.Dense(3, kernel_regularizer=fn.Regularizer())
    ),
    r"loss is Mine\(\) .*expected one of fastnn.losses, its name, or LossFunction": (
        lambda: dense_model("sgd").compile("sgd", type("Mine", (fn.Loss,), {})())
    ),
    r"loss is Loss\(\) .*expected one of fastnn.losses": lambda: dense_model("sgd").compile("sgd", fn.Loss()),
    r"weights is None; expected a list of arrays": lambda: dense_model("sgd").set_weights(None),
    "clip_norm is 0": lambda: fn.SGD(clip_norm=0),
    "clip_norm is nan": lambda: fn.Adam(clip_norm=np.nan),
    "clip_value is -1": lambda: fn.RMSprop(clip_value=-1),
    "rho is 1": lambda: fn.RMSprop(rho=1),
    "momentum is 1": lambda: fn.RMSprop(momentum=1),
    "initial_accumulator_value is -1": lambda: fn.Adagrad(initial_accumulator_value=-1),
    "epsilon is 0": lambda: fn.Adagrad(epsilon=0),
    "memory is 0": lambda: fn.LBFGS(0),
    "optimizer is 'rmspropp'; .*did you mean 'rmsprop'": lambda: optimizers.get("optimizer", "rmspropp"),
    "max_value is 0": lambda: fn.MaxNorm(0),
    "kernel_constraint is 3": lambda: fn.Dense(3, kernel_constraint=3),
    "kernel_constraint is 'maxnorm'; .*did you mean 'max_norm'": lambda: fn.Dense(3, kernel_constraint="maxnorm"),
    "bias_regularizer is 'l3'": lambda: fn.Dense(3, bias_regularizer="l3"),
    "slope is 3; expected a function": lambda: fn.Penalty(abs, 3),
    r"value is a function of \(w, x\); expected a function of \(w\)": lambda: fn.Penalty(lambda w, x: w, lambda w: 1.0),
    r"the slope of Penalty\('<lambda>'\) is wrong: at w = .*, slope\(w\) is .*, but central differences": (
        lambda: logistic("sgd", fn.Penalty(lambda w: w * w, lambda w: w))
    ),
    "tolerance is -1": lambda: logistic("sgd").fit(*two_classes(), batch_size=200, tolerance=-1),
    "tolerance is 0.1, but batch_size is 32": lambda: logistic("sgd").fit(*two_classes(), tolerance=0.1),
    "the optimizer is LBFGS, but layer 'dense_1' has an L1 penalty": lambda: logistic("lbfgs", "l1").fit(
        *two_classes()
    ),
    "the optimizer is LBFGS, which trains on all rows": lambda: logistic("lbfgs").train_on_batch(*two_classes()),
    "the optimizer is LBFGS, but no layer is trainable": lambda: frozen("lbfgs").fit(*two_classes(), verbose=0),
    "the optimizer is LBFGS, but layer 'dense_1' has a constraint": lambda: dense_model(
        "lbfgs", kernel_constraint="max_norm"
    ).fit(*two_classes()),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input(message):
    with pytest.raises((ValueError, TypeError), match=message):
        BAD[message]()


def test_lbfgs_without_scipy_names_the_extra(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(ImportError, match=r'python -m pip install "fastnn\[scipy\]"'):
        logistic("lbfgs").fit(*two_classes())


def test_lbfgs_refuses_dropout():
    model = fn.Model([fn.Input(3), fn.Dropout(0.2, name="drop"), fn.Dense(2, "softmax")], seed=0)
    model.compile("lbfgs", "cross_entropy")
    with pytest.raises(ValueError, match="layer 'drop' drops other units at every call"):
        model.fit(*two_classes())


# Fifty steps of a fit, against the plain twins.

LINEAR = fn.LossFunction(lambda y, target: y * target, lambda y, target: target, "linear")

#: name -> (the optimizer of a schedule, the twin's step on (p, *state) with g, the rate and the step from 1 on, slots)
TWINS = {
    "sgd": (fn.SGD, lambda s, g, rate, step: reference.sgd_update(*s, g, rate, *PLAIN), 0),
    "momentum": (
        lambda rate: fn.SGD(rate, 0.9),
        lambda s, g, rate, step: reference.momentum_update(*s, g, rate, 0.9, False, *PLAIN),
        1,
    ),
    "nesterov": (
        lambda rate: fn.SGD(rate, 0.8, nesterov=True),
        lambda s, g, rate, step: reference.momentum_update(*s, g, rate, 0.8, True, *PLAIN),
        1,
    ),
    "adagrad": (
        lambda rate: fn.Adagrad(rate, 0.2, 1e-3),
        lambda s, g, rate, step: reference.adagrad_update(*s, g, rate, 1e-3, *PLAIN),
        1,
    ),
    "rmsprop": (
        lambda rate: fn.RMSprop(rate, 0.8, epsilon=1e-3),
        lambda s, g, rate, step: reference.rmsprop_update(*s, s[1][:0], g, rate, 0.8, 0.0, 1e-3, *PLAIN)[:2],
        1,
    ),
    "rmsprop, momentum": (
        lambda rate: fn.RMSprop(rate, 0.8, 0.7, 1e-3),
        lambda s, g, rate, step: reference.rmsprop_update(*s, g, rate, 0.8, 0.7, 1e-3, *PLAIN),
        2,
    ),
    "adam": (
        fn.Adam,
        lambda s, g, rate, step: reference.adam_update(*s, g, rate, 0.9, 0.999, 1e-8, step, 0.0, *PLAIN),
        2,
    ),
    "adamw": (
        lambda rate: fn.AdamW(rate, 0.1, 0.8, 0.99, 1e-6),
        lambda s, g, rate, step: reference.adam_update(*s, g, rate, 0.8, 0.99, 1e-6, step, 0.1, *PLAIN),
        2,
    ),
    "sgd, clipped": (
        lambda rate: fn.SGD(rate, clip_value=0.3),
        lambda s, g, rate, step: reference.sgd_update(*s, np.clip(g, -0.3, 0.3), rate, *PLAIN),
        0,
    ),
}

#: No clipping, no penalty.
PLAIN = 1.0, np.inf, 0.0, 0.0


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", TWINS)
def test_fifty_steps_of_a_fit_are_the_twin_s(name, schedule):
    """The loss y·target has the gradient x·target, whatever the weights are: both sides see the same numbers."""
    make, twin, slots = TWINS[name]
    rates, rate = SCHEDULES[schedule]
    generator = np.random.default_rng(1)
    X, targets = generator.standard_normal((50, 7)), generator.standard_normal((50, 1))
    model = fn.Model([fn.Input(7), fn.Dense(1, use_bias=False)], seed=0, dtype="float64")
    model.compile(make(rates), LINEAR)
    state = [model.layers[1].W[:, 0].copy(), *(np.full(7, model.optimizer.slot_start) for _ in range(slots))]
    for step in range(50):
        state = twin(state, X[step] * targets[step], rate(step), step + 1)
        state = state if slots else (state,)
    model.fit(X, targets, batch_size=1, epochs=1, shuffle=False)
    np.testing.assert_allclose(model.layers[1].W[:, 0], state[0], rtol=1e-12, atol=1e-14)
    for slot, expected in zip(model.arenas.slots, state[1:], strict=True):
        np.testing.assert_allclose(slot[:7], expected, rtol=1e-12, atol=1e-14)


def test_fifty_steps_of_lbfgs_are_those_of_scipy_on_a_plain_network():
    """The same weights for ten steps, and the same loss for fifty, in which a line search magnifies every rounding."""
    optimize = pytest.importorskip("scipy.optimize")
    generator = np.random.default_rng(0)
    X = generator.standard_normal((200, 6))
    y = (X @ generator.standard_normal(6) + np.sin(X[:, 0]))[:, None]
    model = fn.Model([fn.Input(6), fn.Dense(5, "tanh"), fn.Dense(1)], seed=0, dtype="float64")
    model.compile("lbfgs", "mse")
    start = model.get_weights()
    cuts = np.cumsum([array.size for array in start])[:-1]

    def loss_and_gradient(weights):
        W, b, V, c = (part.reshape(array.shape) for part, array in zip(np.split(weights, cuts), start, strict=True))
        h = np.tanh(X @ W + b)
        error = h @ V + c - y
        dy = 2 * error / len(X)
        dh = dy @ V.T * (1 - h * h)
        gradient = X.T @ dh, dh.sum(axis=0), h.T @ dy, dy.sum(axis=0)
        return np.mean(error**2), np.concatenate([array.ravel() for array in gradient])

    path = []
    optimize.minimize(
        loss_and_gradient,
        np.concatenate([array.ravel() for array in start]),
        jac=True,
        method="L-BFGS-B",
        callback=lambda weights: path.append(weights.copy()),
        options={"maxiter": 50, "maxfun": 10_000, "maxcor": 10, "ftol": 0.0, "gtol": 0.0},
    )
    history = model.fit(X, y, epochs=50)
    np.testing.assert_allclose(history["loss"], [loss_and_gradient(weights)[0] for weights in path], rtol=1e-11)
    model.set_weights(start)
    model.fit(X, y, epochs=10)
    found = np.concatenate([array.ravel() for array in model.get_weights()])
    np.testing.assert_allclose(found, path[9], rtol=1e-12)
