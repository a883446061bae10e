"""Model: what a user does with it, from fit to pickle."""

import contextlib
import copy
import gc
import io
import pickle
import signal
import sys
import threading
import time
import weakref

import numpy as np
import pytest

import fastnn as fn
from fastnn import examples
from fastnn.data import DeviceRows
from fastnn.kernels.jit import COMPILED

ROWS = 150 if COMPILED else 30


def two_classes(rows=ROWS, seed=0):
    generator = np.random.default_rng(seed)
    X = generator.standard_normal((rows, 2)).astype(np.float32)
    return X, (X[:, 0] * X[:, 1] > 0).astype(int)


def network(seed=0, dropout=0.0, dtype="float32", loss="cross_entropy", optimizer="adam", **options):
    hidden = [fn.Dense(12, "tanh")] + ([fn.Dropout(dropout)] if dropout else [])
    model = fn.Model([fn.Input(2), *hidden, fn.Dense(2, "softmax")], seed=seed, dtype=dtype)
    model.compile(optimizer, loss, ["accuracy"], **options)
    return model


def weights_of(model):
    return np.concatenate([array.ravel() for array in model.get_weights()])


def test_fit_learns_what_a_line_cannot():
    X, y = two_classes(400)
    model = network(optimizer=fn.Adam(0.02))
    before = model.evaluate(X, y)
    history = model.fit(X, y, epochs=60 if COMPILED else 20)
    after = model.evaluate(X, y)
    assert after["loss"] < before["loss"]
    assert after["accuracy"] > 0.9
    assert history["loss"][-1] < history["loss"][0]
    assert len(history["loss"]) == len(history["accuracy"]) == history.epochs


def test_equal_seeds_give_equal_bits_and_other_seeds_do_not():
    X, y = two_classes()
    runs = [network(seed, dropout=0.3) for seed in (5, 5, 6)]
    for model in runs:
        model.fit(X, y, epochs=3)
    assert np.array_equal(weights_of(runs[0]), weights_of(runs[1]))
    assert not np.array_equal(weights_of(runs[0]), weights_of(runs[2]))


def test_a_layer_starts_the_same_whatever_the_other_layers_are():
    small = fn.Model([fn.Input(4), fn.Dense(3), fn.Dense(2)], seed=1)
    large = fn.Model([fn.Input(4), fn.Dense(3), fn.Dense(2), fn.Dense(9)], seed=1)
    for one, other in zip(small.layers, large.layers, strict=False):
        for key in one.parameters:
            np.testing.assert_array_equal(one.parameters[key], other.parameters[key])


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_fit_again_continues(dropout):
    X, y = two_classes()
    once, twice = network(dropout=dropout), network(dropout=dropout)
    once.fit(X, y, epochs=4, batch_size=16)
    twice.fit(X, y, epochs=1, batch_size=16)
    twice.fit(X, y, epochs=3, batch_size=16)
    assert once.step == twice.step == 4 * -(-ROWS // 16)
    np.testing.assert_array_equal(weights_of(once), weights_of(twice))


def test_compiled_again_the_training_starts_anew():
    X, y = two_classes()
    model = network(dropout=0.4)
    start, slots = model.get_weights(), list(model.arenas.slots)  # kept, so that nobody else gets their memory
    model.fit(X, y, epochs=2)
    first = weights_of(model)
    model.compile("adam", "cross_entropy", ["accuracy"])
    assert model.step == model.epoch == 0 and not any(slot.any() for slot in model.arenas.slots)
    moments = [slot.copy() for slot in slots]
    model.set_weights(start)
    model.fit(X, y, epochs=2)
    np.testing.assert_array_equal(weights_of(model), first)
    np.testing.assert_array_equal(slots, moments, err_msg="the old ones are left alone")


def test_watching_an_epoch_changes_nothing():
    """Epochs run one by one for a callback have the bits of epochs that run in one call."""
    X, y = two_classes()
    alone, watched = network(dropout=0.2), network(dropout=0.2)
    seen = []

    class Watch:
        def on_epoch_end(self, epoch, logs):
            seen.append((epoch, dict(logs)))

    history = alone.fit(X, y, epochs=3)
    watched.fit(X, y, epochs=3, callbacks=[Watch()], validation_data=(X, y))
    np.testing.assert_array_equal(weights_of(alone), weights_of(watched))
    assert [epoch for epoch, _ in seen] == [0, 1, 2]
    assert [logs["loss"] for _, logs in seen] == history["loss"]
    assert set(seen[0][1]) == {"loss", "accuracy", "val_loss", "val_accuracy"}


@pytest.mark.parametrize("batch_size", [32, 999])
def test_epochs_that_are_reported_together_have_the_figures_of_single_ones(batch_size):
    X, y = two_classes()
    targets, seen = np.eye(2)[y], []
    alone, watched = network(dropout=0.2), network(dropout=0.2)
    for model in (alone, watched):
        model.compile(fn.Adam(0.02), "cross_entropy", ["accuracy", "mse", "rmse"])
    history = alone.fit(X, targets, batch_size, epochs=5)
    watch = fn.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(dict(logs)))
    watched.fit(X, targets, batch_size, epochs=5, callbacks=[watch])
    assert history.to_dict() == watched.history.to_dict() == {name: [logs[name] for logs in seen] for name in seen[0]}
    assert all(len(set(curve)) > 1 for curve in history.values())
    assert {type(number) for curve in history.values() for number in curve} == {float}


def test_callbacks_are_called_in_order_and_may_stop_the_fit():
    X, y = two_classes()
    calls = []

    class Recorder:
        def set_model(self, model):
            self.model = model
            calls.append("set_model")

        def on_train_begin(self):
            calls.append("train_begin")

        def on_epoch_begin(self, epoch):
            calls.append(f"epoch_begin {epoch}")

        def on_epoch_end(self, epoch, logs):
            calls.append(f"epoch_end {epoch}")
            self.model.stop_training = epoch == 1

        def on_train_end(self):
            calls.append("train_end")

    history = network().fit(X, y, epochs=9, callbacks=[Recorder()])
    epochs = ["epoch_begin 0", "epoch_end 0", "epoch_begin 1", "epoch_end 1"]
    assert calls == ["set_model", "train_begin", *epochs, "train_end"]
    assert history.epochs == 2


@pytest.mark.parametrize("watched", [True, False])
def test_a_fit_that_is_stopped_within_an_epoch_ends_after_it(watched, monkeypatch):
    X, y = two_classes()
    ended, model, run = [], network(), fn.training.Trainer.run

    class Stop(fn.Callback):
        def on_train_batch_end(self, batch, logs):
            if batch == 0:
                self.model.stop_training = True

        def on_epoch_end(self, epoch, logs):
            ended.append((epoch, "val_loss" in logs))

    def stopped_by_another_thread(self, batch, last_batch):
        if batch == 0:
            self.model.stop_training = True
            return run(self, 0, 1)
        return run(self, batch, last_batch)

    if not watched:
        monkeypatch.setattr(fn.training.Trainer, "run", stopped_by_another_thread)
    given = {"callbacks": [Stop()], "validation_split": 0.2} if watched else {}
    history = model.fit(X, y, batch_size=20, epochs=5, **given)
    rows = ROWS - ROWS // 5 if watched else ROWS
    assert (history.epochs, model.epoch, model.step) == (1, 1, -(-rows // 20))
    assert ended == ([(0, True)] if watched else [])


def test_validation_split_takes_the_last_rows_before_shuffling():
    X, y = two_classes()
    split, pair = network(), network()
    last = ROWS - ROWS // 5
    h1 = split.fit(X, y, epochs=2, validation_split=0.2)
    h2 = pair.fit(X[:last], y[:last], epochs=2, validation_data=(X[last:], y[last:]))
    assert h1.to_dict() == h2.to_dict()


def test_the_reported_loss_is_the_mean_over_all_rows_the_last_batch_included():
    X, y = two_classes(20)
    model = network(optimizer=fn.SGD(0.0))  # nothing moves, so all batches see the same weights
    history = model.fit(X, y, batch_size=16, epochs=1)
    p = model.predict(X).astype(float)
    assert history["loss"][0] == pytest.approx(-np.log(p[np.arange(20), y]).mean(), rel=1e-5)
    assert history["accuracy"][0] == pytest.approx((p.argmax(axis=1) == y).mean())
    assert model.evaluate(X, y)["loss"] == pytest.approx(history["loss"][0], rel=1e-6)


def test_the_reported_loss_includes_penalties():
    X, y = two_classes()
    model = fn.Model([fn.Input(2), fn.Dense(70, kernel_regularizer=fn.L1L2(0.01, 0.02)), fn.Dense(1)], seed=0)
    model.compile(fn.SGD(0.0), "mse")
    weights = model.layers[1].W.astype(float)
    penalty = 0.01 * np.abs(weights).sum() + 0.02 * np.square(weights).sum()
    error = np.square(model.predict(X)[:, 0] - y).mean()
    assert model.fit(X, y)["loss"][0] == pytest.approx(error + penalty, rel=1e-5)
    assert model.evaluate(X, y)["loss"] == pytest.approx(error + penalty, rel=1e-5)


def test_l1_makes_weights_exactly_zero():
    X, y = two_classes()
    model = fn.Model(
        [fn.Input(2), fn.Dense(30, "relu", kernel_regularizer=fn.L1(0.05)), fn.Dense(1, "sigmoid")], seed=0
    )
    model.compile(fn.SGD(0.2), "binary_cross_entropy")
    assert (model.layers[1].W != 0).all()
    model.fit(X, y, epochs=30)
    assert (model.layers[1].W == 0).sum() >= 5


def test_frozen_layers_stay_and_the_others_move():
    X, y = two_classes()
    model = fn.Model([fn.Input(2), fn.Dense(8, "relu", trainable=False), fn.Dense(2, "softmax")], seed=0)
    model.compile("adam", "cross_entropy")
    frozen, moving = model.layers[1].W.copy(), model.layers[2].W.copy()
    model.fit(X, y)
    np.testing.assert_array_equal(model.layers[1].W, frozen)
    assert not np.array_equal(model.layers[2].W, moving)
    model.layers[1].trainable = True  # thawed for the next fit
    model.fit(X, y)
    assert not np.array_equal(model.layers[1].W, frozen)


def test_train_on_batch_is_one_step_of_fit():
    X, y = two_classes()
    one, other = network(dropout=0.2), network(dropout=0.2)
    logs = one.train_on_batch(X, y)
    history = other.fit(X, y, batch_size=ROWS, shuffle=False)
    np.testing.assert_array_equal(weights_of(one), weights_of(other))
    assert logs["loss"] == history["loss"][0]
    assert one.step == 1


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", ["the loss", "an update"])
def test_train_on_batch_that_fails_changes_nothing(kind, threads):
    X, y = two_classes()
    model, expected = (fn.Model([fn.Input(2), fn.Dense(12, "relu"), fn.Dense(1)], seed=0) for _ in range(2))
    for each in (model, expected):
        each.compile(fn.SGD(0.01, momentum=0.9), "mse", threads=threads)
        each.train_on_batch(X, y)
        each.layers[1].W[0, 0] = 0.5  # what the user sets between two steps stays
        each.train_on_batch(X, y)
        each.layers[1].W[0, 0] = 0.25
    for _ in range(2):
        if kind == "an update":
            model.optimizer.learning_rate = 3e38
        with pytest.raises(FloatingPointError):
            model.train_on_batch(X * np.float32(1e38 if kind == "the loss" else 100), y)
        model.optimizer.learning_rate = 0.01
        assert model.step == 2
        np.testing.assert_array_equal(model.arenas.parameters, expected.arenas.parameters)
        np.testing.assert_array_equal(model.arenas.slots, expected.arenas.slots)
    assert model.train_on_batch(X, y) == expected.train_on_batch(X, y)


def test_a_fit_of_one_step_that_fails_keeps_what_a_callback_has_trained():
    def train(epoch):
        for each in (model, expected):
            each.train_on_batch(X, y)
        model.optimizer.learning_rate = 3e38

    X, y = two_classes()
    model, expected = (fn.Model([fn.Input(2), fn.Dense(12, "relu"), fn.Dense(1)], seed=0) for _ in range(2))
    for each in (model, expected):
        each.compile(fn.SGD(0.01, momentum=0.9), "mse")
    with pytest.raises(FloatingPointError):
        model.fit(100 * X, y, batch_size=ROWS, callbacks=[fn.LambdaCallback(on_epoch_begin=train)])
    assert model.step == 1
    np.testing.assert_array_equal(model.arenas.parameters, expected.arenas.parameters)
    np.testing.assert_array_equal(model.arenas.slots, expected.arenas.slots)


def test_what_train_on_batch_keeps_goes_with_the_model():
    """Without the garbage collector, which looks at arrays no sooner for their size."""

    def keep(y_true, y_pred):
        outputs.append(y_pred)
        return 0.0

    outputs = []
    for metric in ("accuracy", keep):
        X, y = two_classes()
        model = network()
        model.compile("adam", "cross_entropy", [metric])
        gc.disable()
        try:
            for _ in range(4):  # from the third one on, a short way
                model.train_on_batch(X, y)
            held = weakref.ref(X)
            del X
            assert held() is None
            held = weakref.ref(model)
            del model
            assert held() is None
        finally:
            gc.enable()
    assert not np.array_equal(*outputs[:2])  # a step's own array, which no later step overwrites


def test_a_step_within_a_step():
    """A metric of one's own may ask anything of the model."""

    def again(y_true, y_pred):
        return model.train_on_batch(X, y)["loss"] if model.step < 4 else 0.0

    (X, y), model, expected = two_classes(), network(), network()
    model.compile("adam", "cross_entropy", [again])
    for _ in range(2):
        model.train_on_batch(X, y)
    for _ in range(5):
        expected.train_on_batch(X, y)
    assert model.step == 5
    np.testing.assert_array_equal(weights_of(model), weights_of(expected))


def test_ctrl_c_while_a_model_gets_ready_for_other_targets(monkeypatch):
    def pressed(kind):
        raise KeyboardInterrupt

    model, (X, y) = network(optimizer=fn.SGD(0.5)), two_classes()
    expected = model.evaluate(X, y)
    model._training_runner(1)
    monkeypatch.setattr("fastnn.model.of_fastnn", pressed)  # the last that is called there
    with pytest.raises(KeyboardInterrupt):
        model.evaluate(X, np.eye(2)[y])
    monkeypatch.undo()
    assert model._training_runner(1).plan.target_width == 1
    assert model.evaluate(X, y) == expected


def test_ctrl_c_where_a_fit_begins_or_ends_leaves_a_model_that_is_free(monkeypatch):
    model, (X, y) = network(), two_classes()
    set_attribute = fn.Model.__setattr__

    def pressed(self, name, value):
        if name == "_busy" and value:
            set_attribute(self, name, value)
        if name == "_busy":
            raise KeyboardInterrupt
        set_attribute(self, name, value)

    monkeypatch.setattr(fn.Model, "__setattr__", pressed)
    with contextlib.suppress(KeyboardInterrupt):
        model.fit(X, y)
    monkeypatch.undo()
    model.fit(X, y)


def forms(X, tmp_path):
    pandas = pytest.importorskip("pandas")
    wide = np.zeros((len(X), 7), X.dtype)
    wide[:, 1:5:3] = X
    path = tmp_path / "X.npy"
    np.save(path, X)
    backwards = np.ascontiguousarray(X[::-1])
    read_only = X.copy()
    read_only.flags.writeable = False
    unaligned = np.zeros(X.nbytes + 1, np.uint8)[1:].view(X.dtype).reshape(X.shape)
    unaligned[...] = X
    return {
        "list": X.tolist(),
        "column-major": np.asfortranarray(X),
        "column slice": wide[:, 1:5:3],
        "reversed": backwards[::-1],
        "read-only": read_only,
        "read-only memory map": np.load(path, mmap_mode="r"),
        "unaligned": unaligned,
        "big-endian": X.astype(X.dtype.newbyteorder(">")),
        "float64": X.astype(np.float64),
        "float32": X.astype(np.float32),
        "data frame": pandas.DataFrame(X, columns=["a", "b"]),
        "objects": X.astype(object),
    }


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_any_form_of_data_gives_the_same_bits(dtype, tmp_path, monkeypatch):
    X, y = two_classes()
    X = np.round(X, 2).astype(np.float16).astype(np.float32)  # exact in every type
    expected = network(dtype=dtype)
    expected.fit(X, y, epochs=2)
    prediction, evaluation = expected.predict(X), expected.evaluate(X, y)
    for blocks in (False, True):
        if blocks:  # as for arrays too large to convert at once
            monkeypatch.setattr(fn.data, "BLOCK_BYTES", 50 * 2 * 4)
        for name, form in {**forms(X, tmp_path), "float16": X.astype(np.float16)}.items():
            model = network(dtype=dtype)
            model.fit(form, y, epochs=2)
            np.testing.assert_array_equal(weights_of(model), weights_of(expected), err_msg=name)
            np.testing.assert_array_equal(model.predict(form), prediction, err_msg=name)
            assert model.evaluate(form, y) == evaluation, name


def test_arrays_too_large_to_convert_at_once_are_read_anew_in_each_epoch(monkeypatch):
    """Nothing that was converted for one epoch is kept for the next one, also where all rows go into one block."""
    X, y = np.random.default_rng(0).standard_normal((20, 2)), np.ones((20, 1))
    monkeypatch.setattr(fn.data, "BLOCK_BYTES", 64)

    class Doubles(fn.callbacks.Callback):
        def on_epoch_end(self, epoch, logs):
            X[...] *= 2

    model = fn.Model([fn.Input(2), fn.Dense(1)], seed=0)
    model.compile(fn.SGD(0.0), "mse")
    history = model.fit(X, y, epochs=3, validation_data=(X, y), callbacks=[Doubles()])
    assert history["val_loss"] == pytest.approx(history["loss"]) and history["loss"][1] != history["loss"][0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_targets_of_the_host_beside_inputs_on_a_gpu_are_converted_whole(dtype, monkeypatch):
    """What is on a GPU cannot be taken a block at a time, so what goes with it is not either."""
    X, y = two_classes()
    monkeypatch.setattr("fastnn.data.BLOCK_BYTES", 64)
    there = DeviceRows("X", X.astype(dtype), dtype)
    monkeypatch.setattr("fastnn.examples.inputs", lambda model, name, value: there)
    found = examples.checked(network(dtype=dtype), "fit", X, y)
    assert found.direct
    inputs, targets = found.data.inputs, found.data.targets
    assert inputs is there.array and targets.dtype == dtype and np.array_equal(targets[:, 0], y)
    part = found.part(slice(3, 9))
    assert part.direct and np.array_equal(part.data.targets[:, 0], y[3:9])


def test_integers_truth_values_and_one_hot_targets():
    X, y = two_classes()
    whole = (X > 0).astype(np.float32)
    expected = network()
    expected.fit(whole, y)
    for form, target in (
        (whole.astype(np.int8), y.astype(np.uint8)),
        (whole.astype(bool), y.astype(bool)),
        (whole.astype(np.uint64), np.eye(2)[y]),
        (whole, y[:, None].astype(float)),
    ):
        model = network()
        model.fit(form, target)
        np.testing.assert_allclose(weights_of(model), weights_of(expected), rtol=1e-4, atol=1e-6)


def test_activations_are_the_outputs_of_the_layers():
    X, _ = two_classes()
    model = network(dropout=0.5)
    found = model.activations(X)
    assert list(found) == ["input", "dense_1", "dropout_1", "dense_2"]
    hidden = np.tanh(X.astype(float) @ model.layers[1].W + model.layers[1].b)
    np.testing.assert_allclose(found["dense_1"], hidden, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found["dense_2"], model.predict(X))
    kept = [value for layer in model.layers for key, value in vars(layer).items() if key in ("_x", "_y")]
    assert kept and all(value is None for value in kept)  # the layers hold no rows


def test_activations_that_are_not_finite_are_told_with_their_layer():
    model = fn.Model([fn.Input(2), fn.Dense(2, name="first"), fn.Dense(2), fn.Dense(2)], seed=0)
    model.set_weights([np.full((2, 2), 1e30), np.zeros(2)] * 3)
    with pytest.raises(ValueError, match="the output of layer 'dense_2' has NaN or infinite numbers, which 'dense_3'"):
        model.activations([[1, 2]])
    assert not np.isfinite(model.predict([[1, 2]])).any()  # as the page on numerical stability says


def test_activations_are_arrays_of_their_own():
    X = np.ones((4, 2), np.float32)
    found = network(dropout=0.5).activations(X)
    for name, array in found.items():
        assert not np.shares_memory(array, X)
        assert not any(np.shares_memory(array, other) for key, other in found.items() if key != name)


def test_gradients_are_those_of_the_reported_loss():
    X, y = two_classes(40)
    model = fn.Model(
        [
            fn.Input(2),
            fn.Dense(5, "softplus", kernel_regularizer=fn.L1L2(0.01, 0.03)),
            fn.Dropout(0.5),
            fn.Dense(2, "softmax"),
        ],
        seed=3,
        dtype="float64",
    )
    model.compile("adam", "cross_entropy")
    before, step = weights_of(model), model.step
    found = model.gradients(X, y)
    assert (weights_of(model) == before).all() and model.step == step
    assert list(found) == ["dense_1.W", "dense_1.b", "dense_2.W", "dense_2.b"]
    for layer in (model.layers[1], model.layers[3]):
        for key, array in layer.parameters.items():
            for place in np.ndindex(array.shape):
                start = array[place]
                array[place] = start + 1e-5
                up = model.evaluate(X, y)["loss"]
                array[place] = start - 1e-5
                down = model.evaluate(X, y)["loss"]
                array[place] = start
                assert found[f"{layer.name}.{key}"][place] == pytest.approx((up - down) / 2e-5, rel=1e-5, abs=1e-8)


def test_a_gradient_that_its_penalty_makes_too_large_is_told():
    model = fn.Model([fn.Input(1), fn.Dense(1, kernel_regularizer=fn.L2(1e30))])
    model.compile("sgd", "mse")
    model.layers[1].W = [[1e10]]
    with pytest.raises(
        FloatingPointError, match=r"the gradient of dense_1\.W is too large for float32 with its penalty"
    ):
        model.gradients([[0.0]], [0.0])


def test_a_gradient_that_is_too_large_is_told():
    model = fn.Model([fn.Input(1), fn.Dense(1, kernel_initializer="zeros")])
    model.compile("sgd", "mse")
    with pytest.raises(FloatingPointError, match=r"the gradient of dense_1\.W is too large for float32; expected"):
        model.gradients([[1e30]], [1e10])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("cause", ["penalty", "rows"])
def test_a_loss_that_is_infinite_as_a_sum_alone_is_told(cause, threads):
    """Each row's loss is finite, and so are the gradient and the new weights."""
    X, y = np.zeros((40, 1)), np.zeros(40)
    model = fn.Model([fn.Input(1), fn.Dense(1, kernel_regularizer=fn.L2(1.0))], dtype="float64", seed=0)
    model.compile(fn.SGD(1e-3, momentum=0.9), "mse", threads=threads)
    for _ in range(4):  # the last ones by the short way
        model.train_on_batch(X, y)
    if cause == "penalty":
        model.layers[1].W = [[1e200]]
    else:
        y += 1e154
    before, slots = model.arenas.parameters.copy(), model.arenas.slots[0].copy()
    for call in (
        lambda: model.train_on_batch(X, y),
        lambda: model.fit(X, y, batch_size=8, epochs=3),
        lambda: model.fit(X, y, batch_size=40),
        lambda: model.evaluate(X, y),
        lambda: model.gradients(X, y),
    ):
        with pytest.raises(FloatingPointError):
            call()
        assert model.step == 4
        np.testing.assert_array_equal(model.arenas.parameters, before)
        np.testing.assert_array_equal(model.arenas.slots[0], slots)


def test_get_and_set_weights():
    X, y = two_classes()
    model = network()
    start = model.get_weights()
    model.fit(X, y)
    trained = model.predict(X)
    kept = model.get_weights()
    model.set_weights(start)
    assert not np.array_equal(model.predict(X), trained)
    model.set_weights(weights.tolist() for weights in kept)
    np.testing.assert_array_equal(model.predict(X), trained)


def test_assigning_weights_copies_into_the_arena():
    model = network()
    model.layers[1].W = np.ones((2, 12))
    assert model.arenas.parameters[:24].tolist() == [1.0] * 24


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), lambda m: m.copy()])
def test_copies_continue_with_the_same_bits_and_apart(duplicate):
    X, y = two_classes()
    model = network(dropout=0.3)
    model.fit(X, y, epochs=2)
    twin = duplicate(model)
    np.testing.assert_array_equal(weights_of(twin), weights_of(model))
    model.fit(X, y, epochs=2)
    assert not np.array_equal(weights_of(twin), weights_of(model))
    twin.fit(X, y, epochs=2)
    np.testing.assert_array_equal(weights_of(twin), weights_of(model))


def test_a_copy_copies_each_part_once_and_what_is_shared_stays_so(monkeypatch):
    copied = []

    def counted(self, memo):
        copied.append(self.name)
        twin = memo[id(self)] = object.__new__(type(self))
        vars(twin).update(copy.deepcopy(self.__getstate__(), memo))
        return twin

    monkeypatch.setattr(fn.Dense, "__deepcopy__", counted, raising=False)
    model = network()
    twin, layer, optimizer = copy.deepcopy([model, model.layers[1], model.optimizer])
    assert copied == ["dense_1", "dense_2"]
    assert twin.layers[1] is layer and twin.optimizer is optimizer and layer is not model.layers[1]
    assert np.array_equal(weights_of(twin), weights_of(model))


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.5, 0.9, 0.999, 1 - 1e-9, 1 - 1e-10, 1 - 2.0**-53, 1e-300])
def test_dropout_divides_by_the_share_that_it_keeps(rate):
    """The mean over all masks is what came, also where the rate is rounded: random words of 32 bits decide."""
    layer = fn.Dropout(rate)
    kept = (2**32 - layer.threshold) / 2**32
    assert 0 < kept <= 1 and layer.threshold == pytest.approx(rate * 2**32, abs=1)
    model = fn.Model([fn.Input(2), layer, fn.Dense(1)], seed=0, dtype="float64")
    model.compile("sgd", "mse")
    option = next(operation.option for operation in model.plan.operations if operation.kind == "dropout")
    assert model.plan.options[option : option + 2] == [layer.threshold, 1 / kept]
    y = layer.forward(np.ones((100 if COMPILED else 5, 2)), training=True)
    assert set(y.ravel()) <= {0.0, 1 / kept}
    if rate in (0.1, 0.2, 0.5, 0.9):
        usual = np.float32(1 / (1 - rate))
        assert abs(np.float32(1 / kept) - usual) <= np.spacing(usual)
        assert rate != 0.5 or 1 / kept == 2


def diverging(rate):
    hidden = fn.Dense(8, "relu", kernel_initializer="he_normal")
    model = fn.Model([fn.Input(2), hidden, fn.Dropout(0.1), fn.Dense(1)], seed=0)
    model.compile(fn.SGD(rate, momentum=0.5), "mse")
    return model


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("rate", [0.7, 1e3, 1e36])
def test_numbers_that_are_not_finite_stop_the_fit_with_the_weights_of_before(watched, rate):
    """A learning rate that diverges: the error names the step, and the model is as it was before it."""
    X, y = two_classes()
    model, reference = diverging(rate), diverging(rate)
    callbacks = [type("Watch", (), {"on_epoch_end": lambda *_: None})()] if watched else []
    with pytest.raises(FloatingPointError, match=r"epoch (\d+), batch (\d+) of") as caught:
        model.fit(X, y, epochs=300, callbacks=callbacks)
    assert np.isfinite(weights_of(model)).all()
    batches, failed = -(-ROWS // 32), model.step
    epoch, batch = _epoch_and_batch(str(caught.value))
    assert (epoch - 1) * batches + batch - 1 == failed
    assert failed > 3 or rate > 1
    if failed:  # the same steps alone lead to the same weights, and the next one fails
        _steps(reference, X, y, failed)
    np.testing.assert_array_equal(weights_of(model), weights_of(reference))
    model.optimizer.learning_rate = 1e-3  # and it goes on
    model.set_weights(diverging(rate).get_weights())
    model.compile(fn.SGD(1e-3), "mse")
    model.fit(X, y)


@pytest.mark.parametrize("optimizer", [fn.SGD(1e38), fn.SGD(1e38, momentum=0.5)])
def test_an_update_that_overflows_is_taken_back(optimizer):
    """The loss is finite and the new weights are not: some are written already when the first infinity is seen."""
    X, y = np.zeros((100, 2)), np.zeros(100)
    X[17], y[17] = 100, 1000  # all other rows have a gradient of exactly zero
    model = fn.Model([fn.Input(2), fn.Dense(300, "relu"), fn.Dense(1)], seed=0)
    model.compile(optimizer, "mse", threads=2)
    before = model.get_weights()
    with pytest.raises(FloatingPointError, match="the model keeps the weights of before that step"):
        model.fit(X, y, batch_size=10)
    assert model.step <= 10
    for array, start in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(array, start)
    assert all(np.isfinite(slot).all() for slot in model.arenas.slots)


def _epoch_and_batch(text):
    words = text.replace(",", "").split()
    return int(words[words.index("epoch") + 1]), int(words[words.index("batch") + 1])


def _steps(model, X, y, steps):
    """``steps`` steps of a shuffled fit with batches of 32 rows."""
    from fastnn.data import Rows
    from fastnn.examples import Examples
    from fastnn.training import Trainer

    x = Rows("X", np.ascontiguousarray(X, np.float32), "float32")
    t = Rows("y", y[:, None].astype(np.float32), "float32")
    trainer = Trainer(model, model._training_runner(1), Examples(x, t), 32, 10**6, True)
    done = 0
    while done < steps:
        done, _ = trainer.run(done, steps)


@pytest.mark.skipif(sys.platform == "win32", reason="signals to oneself differ on Windows")
def test_ctrl_c_returns_soon_and_leaves_a_model_that_goes_on():
    X, y = two_classes(2000)
    model = network()
    model.fit(X[:50], y[:50])
    pressed = []

    def press():
        time.sleep(0.3)
        pressed.append(time.monotonic())
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y, epochs=10**6)
    waited = time.monotonic() - pressed[0]
    thread.join()
    assert waited < (1.0 if COMPILED else 10.0)  # a tenth of a second in practice; machines that test are busy
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert np.isfinite(weights_of(model)).all() and model.step > 0
    model.fit(X, y)


def test_several_fits_at_once_in_threads():
    X, y = two_classes()
    expected = network(dropout=0.2)
    expected.fit(X, y, epochs=5)
    models = [network(dropout=0.2, threads=2) for _ in range(4)]
    threads = [threading.Thread(target=model.fit, args=(X, y), kwargs={"epochs": 5}) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for model in models:
        np.testing.assert_array_equal(weights_of(model), weights_of(expected))


@pytest.mark.parametrize("take", [fn.Model.copy, fn.Model.get_weights, pickle.dumps])
def test_a_copy_waits_for_the_fit_of_another_thread(take):
    model, taken = network(), []
    with model._lock:  # as a fit has it
        thread = threading.Thread(target=lambda: taken.append(take(model)))
        thread.start()
        thread.join(0.05)
        assert not taken
    thread.join(60)
    assert len(taken) == 1


def test_what_is_pickled_is_no_longer_the_model_s():
    """The fit of another thread may begin before all is written."""
    model = network()
    state = model.__getstate__()
    assert not np.shares_memory(state["_layers"][1].W, model.layers[1].W) and state["history"] is not model.history
    assert state["_slots"] and not any(map(np.shares_memory, state["_slots"], model.arenas.slots))


@pytest.mark.parametrize("mode", ["r", "r+"])
def test_a_pickle_that_is_mapped_from_a_file_trains_in_memory_of_its_own(mode, tmp_path):
    """joblib passes arrays above a megabyte to other processes as files that can only be read."""
    joblib = pytest.importorskip("joblib")
    X, y = two_classes()
    model = network()
    model.fit(X, y, verbose=0)
    joblib.dump(model, tmp_path / "model")
    before = (tmp_path / "model").read_bytes()
    mapped = joblib.load(tmp_path / "model", mmap_mode=mode)
    assert all(slot.flags.writeable and not isinstance(slot, np.memmap) for slot in mapped.arenas.slots)
    for each in (model, mapped):
        each.fit(X, y, verbose=0)
    assert np.array_equal(mapped.predict(X), model.predict(X))
    assert (tmp_path / "model").read_bytes() == before


def test_one_model_in_two_threads_is_refused():
    X, y = two_classes()
    model = network()
    found = []

    class Intruder:
        def on_epoch_end(self, epoch, logs):
            def fit():
                try:
                    model.fit(X, y)
                except RuntimeError as fault:
                    found.append(str(fault))

            thread = threading.Thread(target=fit)
            thread.start()
            thread.join()

    model.fit(X, y, callbacks=[Intruder()])
    assert found and "in use in another thread" in found[0]


def test_a_fit_waits_for_a_prediction_of_another_thread():
    X, y = two_classes()
    model = network()
    for work in (lambda: model.fit(X, y, verbose=0), lambda: model.compile("adam", "cross_entropy")):
        done = []
        with model._lock:  # as a prediction has it
            thread = threading.Thread(target=lambda work=work, done=done: done.append(work()))
            thread.start()
            thread.join(0.05)
            assert thread.is_alive()
        thread.join(60)
        assert len(done) == 1


def test_no_progress_where_the_output_is_no_terminal(capsys):
    X, y = two_classes()
    network().fit(X, y, epochs=2)
    network().fit(X, y, epochs=2, verbose=0)
    assert capsys.readouterr() == ("", "")
    for verbose in (1, 2):
        network().fit(X, y, epochs=2, verbose=verbose)
        printed = capsys.readouterr().out.splitlines()
        assert [line.split("  ")[0] for line in printed] == ["epoch 1/2", "epoch 2/2"]


def test_a_progress_line_in_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(fn.progress, "DELAY", 0.0)
    monkeypatch.setattr(fn.progress, "INTERVAL", 0.0)
    X, y = two_classes()
    network().fit(X, y, epochs=3)
    text = terminal.getvalue()
    assert "100 %" in text and "epoch 3/3" in text and "loss" in text
    assert text.endswith(" \r")  # and it is taken away


def test_summary_and_repr(capsys):
    model = network(dropout=0.25)
    model.summary()
    printed = capsys.readouterr().out
    for words in ("dense_1", "tanh", "dropout_1", "rate 0.25", "62", "parameters"):
        assert words in printed
    assert repr(model) == "<Model 'model' 2-12-2, 62 parameters, float32>"


def test_plan_is_a_readable_table():
    text = str(network(dropout=0.25).plan)
    for words in ("dense", "tanh", "dropout", "softmax_cross_entropy", "FLOPs a row", "2 -> 12", "a training step"):
        assert words in text
    frozen = fn.Model([fn.Input(2), fn.Dense(3, trainable=False), fn.Dense(1)])
    assert "2 -> 3 (frozen)" in str(frozen.plan)
    assert [parameter.name for parameter in frozen.plan.parameters] == ["dense_2.W", "dense_2.b"]


def test_history_reads_well():
    X, y = two_classes()
    history = network().fit(X, y, epochs=2, validation_split=0.2)
    assert list(history) == list(history.keys()) == ["loss", "accuracy", "val_loss", "val_accuracy"]
    assert str(history).splitlines()[0].split() == ["epoch", *history.keys()]
    assert "2 epochs" in repr(history)
    assert "loss" in history and "mse" not in history
    with pytest.raises(KeyError, match="'mse' was not recorded; there is 'loss', 'accuracy'"):
        history["mse"]


def test_logits_are_predicted_where_asked_for_and_accuracy_still_counts_probabilities():
    X, y = two_classes()
    model = fn.Model([fn.Input(2), fn.Dense(8, "tanh"), fn.Dense(1)], seed=0)
    model.compile("adam", fn.BinaryCrossEntropy(from_logits=True), ["accuracy"])
    model.fit(X, y, epochs=2)
    logits = model.predict(X)[:, 0]
    assert model.evaluate(X, y)["accuracy"] == pytest.approx(((logits > 0) == y).mean())


def test_metrics_of_a_regression():
    X, _ = two_classes()
    target = np.stack([X[:, 0] + X[:, 1], X[:, 0] - X[:, 1]], axis=1)
    model = fn.Model([fn.Input(2), fn.Dense(2)], seed=0)
    model.compile("sgd", "mean_squared_error", ["mae", "mse"])
    found = model.evaluate(X, target)
    error = model.predict(X) - target
    assert found["mae"] == pytest.approx(np.abs(error).mean(), rel=1e-5)
    assert found["mse"] == pytest.approx(found["loss"], rel=1e-6) == pytest.approx(np.square(error).mean(), rel=1e-5)


def test_a_fit_that_has_to_compile_says_so(monkeypatch):
    from fastnn.kernels import jit
    from fastnn.progress import Progress

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    with Progress("fit", "auto"):
        jit.on_compile("some_kernel")
        assert "compiling kernels" in sys.stderr.getvalue()


@pytest.mark.parametrize("order", ["columns first", "every second row", "rows backward"])
def test_predict_after_fit_takes_any_strides(order):
    """More rows than a block: a prediction has no targets, also where the plan of the training has."""
    model = network()
    X, y = two_classes(64)
    model.fit(X, y, epochs=1, verbose=0)
    rows = np.random.default_rng(1).standard_normal((3000, X.shape[1])).astype(np.float32)
    ways = {
        "columns first": np.asfortranarray(rows),
        "every second row": np.repeat(rows, 2, axis=0)[::2],
        "rows backward": rows[::-1].copy()[::-1],
    }
    expected = model.predict(rows)
    np.testing.assert_array_equal(model.predict(ways[order]), expected)
    model.threads = 2
    np.testing.assert_array_equal(model.predict(ways[order]), expected)
