"""``train_on_batch`` again and again: from the third call on it takes a short way, on which nothing may change."""

import signal

import numpy as np
import pytest

import fastnn as fn
from fastnn.kernels.conventions import NOT_FINITE
from fastnn.kernels.cpu.batch import take_batch
from fastnn.kernels.jit import COMPILED
from fastnn.kernels.layout import BLOCK
from fastnn.single_step import SingleStep
from fastnn.training import Trainer
from fastnn.workers import WorkerChoice

ROWS, INPUTS, CLASSES = 12, 5, 3


def batches(count=6, seed=0):
    random = np.random.default_rng(seed)
    X = random.standard_normal((count, ROWS, INPUTS)).astype(np.float32)
    return list(X)


def labels(count=6, seed=1):
    return list(np.random.default_rng(seed).integers(0, CLASSES, (count, ROWS)))


def network(loss="cross_entropy", outputs=CLASSES, activation="softmax", dtype="float32", optimizer=None, **options):
    layers = [fn.Input(INPUTS), fn.Dense(8, "relu"), fn.Dropout(0.25), fn.Dense(outputs, activation)]
    model = fn.Model(layers, seed=3, dtype=dtype)
    model.compile(optimizer or fn.Adam(0.01), loss, **options)
    return model


@pytest.fixture
def long_ways(monkeypatch):
    """The steps that took the long way, each with the model's step before it."""
    found, original = [], Trainer.only_batch

    def only_batch(self):
        found.append(self.model.step)
        return original(self)

    monkeypatch.setattr(Trainer, "only_batch", only_batch)
    return found


def the_long_way(model):
    """``train_on_batch`` of the model without the short way."""
    model._train_again = lambda X, y: None
    return model


def same(model, expected):
    assert (model.step, model.epoch) == (expected.step, expected.epoch)
    np.testing.assert_array_equal(model.arenas.parameters, expected.arenas.parameters)
    np.testing.assert_array_equal(model.arenas.slots, expected.arenas.slots)


NUMBERS = np.linspace(-2, 3, 6 * ROWS).reshape(6, ROWS)


def slope_of_product(dy, y, target):
    dy[0] = 2.0 * (y[0] * y[1] - target[0]) * y[1]
    dy[1] = 2.0 * (y[0] * y[1] - target[0]) * y[0]


#: What is trained: the loss, the last layer's outputs and activation, the targets, and the metrics.
TRAININGS = {
    "labels": ("cross_entropy", CLASSES, "softmax", labels(), ["accuracy"]),
    "labels in a column": ("cross_entropy", CLASSES, "softmax", [y[:, None] for y in labels()], ["accuracy"]),
    "labels as floats": ("cross_entropy", CLASSES, "softmax", [y.astype(float) for y in labels()], []),
    "labels of bytes": ("cross_entropy", CLASSES, "softmax", [y.astype(np.uint8) for y in labels()], []),
    "one-hot rows": ("cross_entropy", CLASSES, "softmax", [np.eye(CLASSES)[y] for y in labels()], ["accuracy"]),
    "truth values": ("binary_cross_entropy", 1, "sigmoid", [y > 0 for y in labels()], ["accuracy"]),
    "several yes or no": ("binary_cross_entropy", 3, "sigmoid", [np.eye(CLASSES)[y] for y in labels()], ["accuracy"]),
    "numbers": ("mse", 1, None, list(NUMBERS), ["mae"]),
    "several numbers": (fn.losses.Huber(0.5), 2, "tanh", [np.stack([y, -y], 1) for y in NUMBERS], ["mse", "mae"]),
    "numbers of an own loss": (
        fn.LossFunction(lambda y, target: (y - target) ** 4, lambda y, target: 4 * (y - target) ** 3, "fourth"),
        1,
        None,
        list(NUMBERS),
        [],
    ),
    "a number for a loss of rows": (
        fn.RowLoss(lambda y, target: (y[0] * y[1] - target[0]) ** 2, slope_of_product, "of products"),
        2,
        None,
        list(NUMBERS),
        [],
    ),
}

OPTIMIZERS = {
    "adam": lambda: fn.Adam(0.01),
    "momentum": lambda: fn.SGD(0.01, momentum=0.9, nesterov=True),
    "clipped by norm": lambda: fn.Adam(0.01, clip_norm=0.1),
    "a schedule": lambda: fn.SGD(fn.schedules.ExponentialDecay(0.1, 2, 0.5)),
}


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", TRAININGS)
def test_the_short_way_gives_the_same_bits(name, dtype, threads, long_ways):
    loss, outputs, activation, targets, metrics = TRAININGS[name]
    made = [network(loss, outputs, activation, dtype, metrics=metrics, threads=threads) for _ in range(2)]
    model, expected = made[0], the_long_way(made[1])
    for X, y in zip(batches(), targets, strict=True):
        assert model.train_on_batch(X, y) == expected.train_on_batch(X, y)
    assert long_ways == [0, 0, 1, 1, 2, 3, 4, 5]
    same(model, expected)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_with_any_optimizer(name, long_ways):
    model, expected = network(optimizer=OPTIMIZERS[name]()), the_long_way(network(optimizer=OPTIMIZERS[name]()))
    for X, y in zip(batches(), labels(), strict=True):
        assert model.train_on_batch(X, y) == expected.train_on_batch(X, y)
    assert long_ways == [0, 0, 1, 1, 2, 3, 4, 5]
    same(model, expected)


LAYOUTS = {
    "float64": lambda X: X.astype(np.float64),
    "float16": lambda X: X.astype(np.float16),
    "whole numbers": lambda X: (10 * X).astype(np.int64),
    "bytes": lambda X: (10 * X).astype(np.uint8),
    "truth values": lambda X: X > 0,
    "every other row": lambda X: np.repeat(X, 2, axis=0)[::2],
    "columns reversed": lambda X: X[:, ::-1],
    "column by column": np.asfortranarray,
    "of another byte order": lambda X: X.astype(X.dtype.newbyteorder()),
    "read-only": lambda X: np.frombuffer(X.tobytes(), X.dtype).reshape(X.shape),
    "not aligned": lambda X: np.frombuffer(b"-" + X.tobytes(), X.dtype, offset=1).reshape(X.shape),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_any_array_of_numbers_takes_it(name, long_ways):
    model, expected = network(), the_long_way(network())
    for X, y in zip(batches(), labels(), strict=True):
        given = LAYOUTS[name](X)
        assert model.train_on_batch(given, y) == expected.train_on_batch(given, y)
    assert long_ways == [0, 0, 1, 1, 2, 3, 4, 5]
    same(model, expected)
    if COMPILED:
        assert len(take_batch.signatures) <= 2, "one for each type of the model, whatever comes"


def larger(X):
    return np.repeat(X, 40, axis=0)


#: What happens between two steps: to the model, and how many of the three steps afterwards go the long way.
BETWEEN = {
    "nothing": (lambda model: None, 0),
    "another learning rate": (lambda model: setattr(model.optimizer, "learning_rate", 0.3), 0),
    "another setting": (lambda model: setattr(model.optimizer, "beta_1", 0.5), 2),
    "a frozen layer": (lambda model: setattr(model.layers[1], "trainable", False), 2),
    "a penalty": (lambda model: setattr(model.layers[1], "kernel_regularizer", fn.regularizers.L2(0.1)), 2),
    "another loss's smoothing": (lambda model: setattr(model.loss, "label_smoothing", 0.2), 2),
    "other weights": (lambda model: model.set_weights([w / 2 for w in model.get_weights()]), 0),
    "weights in place": (lambda model: model.layers[1].W.fill(0.5), 0),
    "another number of threads": (lambda model: setattr(model, "threads", 2), 1),
    "an evaluation": (lambda model: model.evaluate(batches()[0], labels()[0], verbose=0), 0),
    "a prediction of many rows": (lambda model: model.predict(np.repeat(batches()[0], 5000, axis=0)), 1),
    "a step on more rows": (lambda model: model.train_on_batch(larger(batches()[0]), larger(labels()[0])), 2),
    "a fit": (lambda model: model.fit(larger(batches()[0]), larger(labels()[0]), 50, verbose=0), 2),
    "a weighted step": (lambda model: model.train_on_batch(batches()[0], labels()[0], np.linspace(0, 2, ROWS)), 0),
    "other targets": (lambda model: model.train_on_batch(batches()[0], np.eye(CLASSES)[labels()[0]]), 2),
    "gradients": (lambda model: model.gradients(batches()[0], labels()[0]), 0),
    "compile": (lambda model: model.compile(fn.SGD(0.1), "cross_entropy"), 2),
}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", BETWEEN)
def test_what_happens_between_two_steps_counts(name, threads, long_ways):
    happens, long = BETWEEN[name]
    model, expected = network(threads=threads), the_long_way(network(threads=threads))
    for index, (X, y) in enumerate(zip(batches(), labels(), strict=True)):
        if index == 3:
            for each in (model, expected):
                happens(each)
            del long_ways[:]
        assert model.train_on_batch(X, y) == expected.train_on_batch(X, y)
    assert len(long_ways) == 3 + long
    same(model, expected)


def changed(place, number):
    """A batch's array with one number changed."""

    def change(array):
        array = np.array(array, np.float64)
        array[place] = number
        return array

    return change


def as_it_is(array):
    return array


BAD = {
    "X with NaN": ("labels", changed((3, 2), np.nan), as_it_is, "X has nan in row 3, column 2"),
    "X too large": ("labels", changed((3, 2), 1e300), as_it_is, "X has 1e+300 in row 3, column 2, which is too large"),
    "a label too many": ("labels", as_it_is, changed(4, 3), "y has the label 3 in row 4"),
    "a negative label": ("labels", as_it_is, changed(4, -1), "y has the label -1 in row 4"),
    "half a label": ("labels", as_it_is, changed(4, 0.5), "y has the label 0.5 in row 4"),
    "a label that is NaN": ("labels", as_it_is, changed(4, np.nan), "y has nan in row 4"),
    "a row of sum 2": ("one-hot rows", as_it_is, changed(4, 2 / 3), "y has a row of sum 2"),
    "a negative share": ("one-hot rows", as_it_is, changed(4, [-1, 1, 1]), "y has a row of sum 1 and least number -1"),
    "not yes or no": ("truth values", as_it_is, changed(4, 1.5), "y has 1.5 in row 4; expected probabilities in 0..1"),
    "infinite": ("numbers", as_it_is, changed(4, np.inf), "y has inf in row 4"),
    "y too large": ("numbers", as_it_is, changed(4, -1e300), "y has -1e+300 in row 4, column 0, which is too large"),
    "complex numbers": ("numbers", as_it_is, lambda y: y + 1j, "y holds complex numbers"),
    "text": ("labels", as_it_is, lambda y: y.astype(str), "y holds text"),
    "too few rows": ("labels", lambda X: X[1:], as_it_is, "X has 11 rows and y has 12"),
    "too few targets": ("labels", as_it_is, lambda y: y[1:], "X has 12 rows and y has 11"),
    "a row": ("labels", lambda X: X[0], as_it_is, "X has shape (5,)"),
    "a number": ("labels", as_it_is, lambda y: y.sum(), "y has shape ()"),
    "a column less": ("labels", lambda X: X[:, 1:], as_it_is, "X has 4 columns"),
    "two targets a row": ("numbers", as_it_is, lambda y: np.stack([y, y], 1), "y has shape (12, 2)"),
    "a row of targets": ("numbers", as_it_is, lambda y: y[None], "y has shape (1, 12)"),
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", BAD)
def test_bad_batches_are_refused_as_ever(name, threads):
    training, of_X, of_y, words = BAD[name]
    loss, outputs, activation, targets, metrics = TRAININGS[training]
    model, expected = (network(loss, outputs, activation, metrics=metrics, threads=threads) for _ in range(2))
    for number, (X, y) in enumerate(zip(batches(), targets, strict=True)):
        if number > 2:
            with pytest.raises((ValueError, TypeError)) as told:
                model.train_on_batch(of_X(X), of_y(y))
            assert words in str(told.value)
        assert model.train_on_batch(X, y) == expected.train_on_batch(X, y)
    same(model, expected)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("row", [0, 63])
def test_a_bad_row_of_a_wide_network(row, threads):
    """Whose workers meet within the rows phase, where one of them alone knows of the row."""
    made = [fn.Model([fn.Input(512), fn.Dense(512, "relu"), fn.Dense(512, "relu"), fn.Dense(1)], seed=0) for _ in "ab"]
    for each in made:
        each.compile("adam", "mse", threads=threads)
    X, y = np.random.default_rng(0).standard_normal((2, 64, 512)).astype(np.float32)
    bad = X.copy()
    bad[row, 100] = np.nan
    for number in range(6):
        if number > 2:
            with pytest.raises(ValueError, match=f"X has nan in row {row}, column 100"):
                made[0].train_on_batch(bad, y[:, 0])
        losses = [each.train_on_batch(X, y[:, 0]) for each in made]
        assert losses[0] == losses[1]
    assert (made[0]._runners["training"].program[BLOCK] == len(X)) == (threads > 1), "they are to meet"
    same(*made)


@pytest.mark.parametrize("threads", [1, 2])
def test_an_infinite_input_that_no_loss_shows(threads):
    made = [fn.Model([fn.Input(INPUTS), fn.Dense(8, "tanh", trainable=False), fn.Dense(1)], seed=0) for _ in "ab"]
    for each in made:
        each.compile("adam", "mse", threads=threads)
    for number, (X, y) in enumerate(zip(batches(), NUMBERS, strict=True)):
        bad = X.copy()
        bad[ROWS - 1, 0] = np.inf
        if number > 2:
            with pytest.raises(ValueError, match="X has inf in row 11, column 0"):
                made[0].train_on_batch(bad, y)
        losses = [each.train_on_batch(X, y) for each in made]
        assert losses[0] == losses[1]
    same(*made)


def test_targets_that_a_metric_refuses(long_ways):
    model = network("mse", 1, "sigmoid", metrics=["accuracy"])
    for X, y in zip(batches(), labels(), strict=True):
        model.train_on_batch(X, y > 0)
        with pytest.raises(ValueError, match="metrics has 'accuracy', which is about classes"):
            model.train_on_batch(X, y - 0.5)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", ["the loss", "an update"])
def test_a_step_that_fails_changes_nothing(kind, threads):
    model, expected = (network("mse", 1, None, optimizer=fn.SGD(0.01, momentum=0.9), threads=threads) for _ in range(2))
    for number, (X, y) in enumerate(zip(batches(), NUMBERS, strict=True)):
        if number > 2:
            if kind == "an update":
                model.optimizer.learning_rate = 3e38
                for _ in range(3):
                    with pytest.raises(FloatingPointError, match=r"learning_rate=3e\+38"):
                        model.train_on_batch(100 * X, y)
                model.optimizer.learning_rate = 0.01
            else:
                with pytest.raises(FloatingPointError, match="the loss or a weight became NaN or infinite"):
                    model.train_on_batch(X, 1e30 * y)
        assert model.train_on_batch(X, y) == expected.train_on_batch(X, y)
        same(model, expected)


@pytest.mark.parametrize("threads", [1, 2])
def test_an_update_that_fails_on_the_short_way_is_taken_back(threads, monkeypatch):
    def do(self):
        ends.append((original(self), self.runner.has_changed()))
        return ends[-1][0]

    ends, original = [], SingleStep.do
    monkeypatch.setattr(SingleStep, "do", do)
    optimizer = fn.SGD(100.0, momentum=0.9)
    model, expected = (network("mse", 1, None, optimizer=optimizer, threads=threads) for _ in range(2))
    weights, small, large = model.get_weights(), np.float32(1e-3), np.float32(2e18)
    for number, (X, y) in enumerate(zip(batches(), NUMBERS, strict=True)):
        if number == 3:
            del ends[:]
            for each in (model, expected):
                each.set_weights(weights)
                each.arenas.slots[0].fill(0)
            with pytest.raises(FloatingPointError, match="the loss or a weight became NaN or infinite"):
                model.train_on_batch(large * X, y)
            assert ends == [(NOT_FINITE, True)]
            same(model, expected)
        assert model.train_on_batch(small * X, y) == expected.train_on_batch(small * X, y)
    same(model, expected)


def test_the_number_of_workers_may_change(monkeypatch, long_ways):
    model, expected = network(), the_long_way(network(threads=1))
    monkeypatch.setattr(WorkerChoice, "next", lambda self: (1 + (model.step > 3), 1.0))
    for X, y in zip(batches(), labels(), strict=True):
        assert model.train_on_batch(X, y) == expected.train_on_batch(X, y)
    assert long_ways == [0, 0, 1, 1, 2, 3, 4, 4, 5]
    same(model, expected)


@pytest.mark.parametrize("act", ["evaluate", "predict", "gradients", "train"])
def test_a_schedule_may_use_the_model(act):
    def rate(step):
        model = models[-1]
        if step % 4 == 3 and not busy:
            busy.append(step)
            if act == "evaluate":
                model.evaluate(*rows, verbose=0)
            elif act == "predict":
                model.predict(np.repeat(rows[0], 5000, axis=0))
            elif act == "gradients":
                model.gradients(*rows)
            else:
                model.train_on_batch(*rows)
            busy.clear()
        return 0.01 / (1 + step)

    rows, busy, models = (batches()[0], labels()[0]), [], []
    for way in (lambda model: model, the_long_way):
        models.append(way(network(optimizer=fn.SGD(rate))))
        for X, y in zip(batches(12), labels(12), strict=True):
            models[-1].train_on_batch(X, y)
    same(*models)


def test_a_schedule_that_fails_takes_no_step_back():
    def rate(step):
        if step == 4:
            raise ZeroDivisionError
        return 0.01

    made = network(optimizer=fn.Adam(rate)), the_long_way(network(optimizer=fn.Adam(rate)))
    for each in made:
        for X, y in zip(batches(4), labels(4), strict=True):
            each.train_on_batch(X, y)
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                each.train_on_batch(X, y)
        assert each.step == 4
    same(*made)


@pytest.mark.parametrize("kind", ["a number", "a schedule", "one without a length"])
def test_another_learning_rate_counts_at_once(kind, long_ways):
    rates = {
        "a number": lambda: 0.5,
        "a schedule": lambda: fn.StepDecay(0.5, 2),
        "one without a length": fn.CosineDecay,
    }
    model, expected = network(), the_long_way(network())
    for number, (X, y) in enumerate(zip(batches(), labels(), strict=True)):
        if number == 4:
            for each in (model, expected):
                each.optimizer.learning_rate = rates[kind]()
            del long_ways[:]
            if kind == "one without a length":
                with pytest.raises(ValueError, match="which leaves its length to fit"):
                    model.train_on_batch(X, y)
                return
        assert model.train_on_batch(X, y) == expected.train_on_batch(X, y)
    assert len(long_ways) == 2 + (kind == "a schedule")
    same(model, expected)


def test_the_tolerance_of_a_fit_is_none_of_a_step():
    model, expected = (network(optimizer=fn.SGD(0.1, clip_norm=1)) for _ in range(2))
    for X, y in zip(batches(), labels(), strict=True):
        assert model.train_on_batch(X, y) == expected.train_on_batch(X, y)
        model._runners["training"].norm_limits[1] = 1e9
    same(model, expected)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_ctrl_c_takes_a_step_back(moment, threads, monkeypatch):
    def pressed(self):
        status = None if moment == "before" else original(self)
        signal.raise_signal(signal.SIGINT)
        return status

    model, expected, original = network(threads=threads), network(threads=threads), SingleStep.do
    for number, (X, y) in enumerate(zip(batches(), labels(), strict=True)):
        if number == 3:
            with monkeypatch.context() as patch:
                patch.setattr(SingleStep, "do", pressed)
                with pytest.raises(KeyboardInterrupt):
                    model.train_on_batch(X, y)
            same(model, expected)
        assert model.train_on_batch(X, y) == expected.train_on_batch(X, y)
    same(model, expected)


def test_batches_stay_as_they_are():
    model = network()
    for X, y in zip(batches(), labels(), strict=True):
        before = X.copy(), y.copy()
        model.train_on_batch(X, y)
        np.testing.assert_array_equal(X, before[0])
        np.testing.assert_array_equal(y, before[1])


def test_a_step_of_large_batches_has_no_second_room_for_them(monkeypatch, long_ways):
    monkeypatch.setattr("fastnn.training.BLOCK_BYTES", ROWS * INPUTS * 4 - 1)
    model = network()
    for X, y in zip(batches(), labels(), strict=True):
        model.train_on_batch(X, y)
    assert long_ways == list(range(6))
