"""Callbacks: when they are called, what they do, and what they refuse."""

import csv
import math
import signal
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

import fastnn as fn


def data(rows=60):
    generator = np.random.default_rng(0)
    X = generator.standard_normal((rows, 3))
    return X, (X[:, 0] > 0).astype(int)


def compiled(optimizer="sgd", seed=0):
    model = fn.Model([fn.Input(3), fn.Dense(2, "softmax")], seed=seed)
    model.compile(optimizer, "cross_entropy", ["accuracy"])
    return model


class Script(fn.Callback):
    """Writes the numbers that a test wants into the logs, before the callbacks after it read them."""

    def __init__(self, **curves):
        self.curves = curves

    def on_epoch_end(self, epoch, logs):
        logs.update({name: curve[epoch] for name, curve in self.curves.items()})


def fit(*callbacks, epochs=10, model=None, **options):
    model = model or compiled()
    return model, model.fit(*data(), batch_size=30, epochs=epochs, callbacks=callbacks, **options)


def test_the_order_of_the_calls():
    calls = []

    class Told:
        def __getattr__(self, name):
            if name.startswith(("on_", "set_")):
                return lambda *arguments: calls.append((name, *arguments[:1]))
            raise AttributeError(name)

    model, _ = fit(Told(), epochs=2)
    assert calls == [
        ("set_model", model),
        ("on_train_begin",),
        ("on_epoch_begin", 0),
        ("on_train_batch_end", 0),
        ("on_train_batch_end", 1),
        ("on_epoch_end", 0),
        ("on_epoch_begin", 1),
        ("on_train_batch_end", 0),
        ("on_train_batch_end", 1),
        ("on_epoch_end", 1),
        ("on_train_end",),
    ]


def test_batches_are_reported_with_their_loss_and_change_nothing():
    found = []
    model, history = fit(fn.LambdaCallback(on_train_batch_end=lambda batch, logs: found.append(dict(logs))), epochs=2)
    other, expected = fit(epochs=2)
    assert history.to_dict() == expected.to_dict()
    np.testing.assert_array_equal(model.arenas.parameters, other.arenas.parameters)
    assert [set(logs) for logs in found] == [{"loss", "accuracy"}] * 4
    assert np.mean([logs["loss"] for logs in found[:2]]) == pytest.approx(history["loss"][0], rel=1e-12)


def test_epoch_callbacks_leave_the_engine_its_slices(monkeypatch):
    from fastnn.kernels.cpu.runner import Runner

    train, sizes = Runner.train, []

    def counted(self, data, order, batch_size, first, last, *rest, **further):
        sizes.append(last - first)
        return train(self, data, order, batch_size, first, last, *rest, **further)

    monkeypatch.setattr(Runner, "train", counted)
    model = compiled()
    model.fit(*data(), batch_size=1, epochs=3, callbacks=[fn.EarlyStopping("loss", patience=5), fn.TimeLimit(100)])
    assert sum(sizes) == 180 and max(sizes) == 60


def test_early_stopping_ends_and_goes_back():
    weights = []
    keep = fn.LambdaCallback(on_epoch_end=lambda epoch, logs: weights.append(model.get_weights()))
    stop = fn.EarlyStopping("val_loss", patience=2)
    model = compiled()
    _, history = fit(keep, Script(val_loss=[5, 4, 3, 3.5, 3.2, 1, 0, 0, 0, 0]), stop, model=model)
    assert history.epochs == 5 and (stop.best_epoch, stop.stopped_epoch) == (2, 4)
    np.testing.assert_array_equal(model.get_weights()[0], weights[2][0])


#: (options, the curve, the epochs that are trained, the best one)
STOPS = [
    ({"patience": 0}, [5, 4, 4, 3, 2], 3, 1),
    ({"patience": 1}, [5, 4, 4, 3, 2], 3, 1),
    ({"patience": 2}, [5, 4, 4, 3, 2], 5, 4),
    ({"patience": 1, "min_delta": 1.0}, [5, 4.5, 3, 2, 1], 2, 0),
    ({"patience": 1, "monitor": "val_accuracy"}, [0.5, 0.6, 0.7, 0.7, 0.9], 4, 2),
    ({"patience": 1, "mode": "max"}, [1, 2, 3, 2, 1], 4, 2),
    ({"patience": 1, "mode": "min", "monitor": "val_accuracy"}, [1, 2, 3, 2, 1], 2, 0),
    ({"patience": 1, "start_from_epoch": 2}, [1, 9, 5, 4, 6], 5, 3),
    ({"patience": 2, "baseline": 3}, [5, 4, 3.5, 2, 1], 2, 1),
    ({"patience": 3, "baseline": 3}, [5, 4, 2, 3, 1], 5, 4),
]


@pytest.mark.parametrize(("options", "curve", "epochs", "best"), STOPS)
def test_when_early_stopping_stops(options, curve, epochs, best):
    stop = fn.EarlyStopping(**options)
    for _ in range(2):  # it can be used again
        _, history = fit(Script(**{stop.monitor: curve}), stop, epochs=5)
        assert (history.epochs, stop.best_epoch) == (epochs, best)


def test_without_going_back_the_last_weights_stay():
    model, _ = fit(Script(val_loss=range(10)), fn.EarlyStopping(patience=3, restore_best_weights=False))
    other, _ = fit(epochs=4)
    np.testing.assert_array_equal(model.arenas.parameters, other.arenas.parameters)


def test_reduce_on_plateau():
    rates = []
    model = compiled(fn.SGD(1.0))
    note = fn.LambdaCallback(on_epoch_end=lambda epoch, logs: rates.append(model.optimizer.learning_rate))
    plateau = fn.ReduceLROnPlateau("loss", factor=0.5, patience=2, cooldown=1, min_lr=0.2)
    fit(Script(loss=[3, 2, 2, 2, 2, 2, 2, 2, 2, 2]), plateau, note, model=model)
    # two epochs without gain: 0.5; one to cool down, of which the next count: 0.25; then the floor
    assert rates == [1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2, 0.2]
    with pytest.raises(ValueError, match=r"learning_rate is CosineDecay.*expected a number"):
        fit(fn.ReduceLROnPlateau("loss"), model=compiled(fn.SGD(fn.CosineDecay())))


def test_checkpoints(tmp_path):
    curve = Script(val_loss=[3, 2, 4, 1])
    model, _ = fit(
        curve,
        fn.ModelCheckpoint(tmp_path / "{epoch:02d}-{val_loss:.1f}.safetensors"),
        fn.ModelCheckpoint(tmp_path / "best", save_best_only=True),
        fn.ModelCheckpoint(tmp_path / "weights", save_weights_only=True),
        epochs=4,
    )
    names = {"01-3.0.safetensors", "02-2.0.safetensors", "03-4.0.safetensors", "04-1.0.safetensors", "best", "weights"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert (tmp_path / "best").read_bytes() == (tmp_path / "04-1.0.safetensors").read_bytes()
    continued = fn.load(tmp_path / "02-2.0.safetensors")
    assert continued.epoch == 2
    continued.fit(*data(), batch_size=30, epochs=2)
    np.testing.assert_array_equal(continued.arenas.parameters, model.arenas.parameters)
    assert fn.ModelCheckpoint(Path("m")).filepath == "m"


def test_a_checkpoint_of_an_earlier_fit_has_to_be_beaten(tmp_path):
    beaten = {"least": ("val_loss", [3, 2, 4, 1], 2.5), "most": ("val_accuracy", [0.1, 0.6, 0.2, 0.5], 0.5)}
    for name, (monitor, values, threshold) in beaten.items():
        path = tmp_path / name / "{epoch}"
        path.parent.mkdir()
        fit(
            Script(**{monitor: values}),
            fn.ModelCheckpoint(path, monitor, save_best_only=True, initial_value_threshold=threshold),
            epochs=4,
        )
    assert {path.name for path in (tmp_path / "least").iterdir()} == {"2", "4"}
    assert {path.name for path in (tmp_path / "most").iterdir()} == {"2"}


def test_csv_log(tmp_path):
    path = tmp_path / "log.csv"
    _, history = fit(fn.CSVLogger(path), epochs=3)
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [float(row["loss"]) for row in rows] == history["loss"] and [row["epoch"] for row in rows] == ["0", "1", "2"]
    fit(fn.CSVLogger(path, append=True), epochs=2)
    assert len(list(csv.DictReader(path.read_text().splitlines()))) == 5
    content = path.read_text()
    for before in ((), (Script(),)):  # found out before the fit, or where a callback may add columns, after an epoch
        with pytest.raises(
            ValueError, match=r"has the columns 'epoch, loss, accuracy'; expected epoch, loss, accuracy, val"
        ):
            fit(*before, fn.CSVLogger(path, append=True), validation_split=0.5)
    assert path.read_text() == content
    fit(fn.CSVLogger(path, separator=";"), epochs=2)
    assert path.read_text().splitlines()[0] == "epoch;loss;accuracy"
    with pytest.raises(FileNotFoundError):
        fit(fn.CSVLogger(tmp_path / "no folder" / "log.csv"))


def test_csv_log_does_not_read_what_it_overwrites(tmp_path):
    path = tmp_path / "log.csv"
    for content in (b"\xff\xfe\0no text", b"x" * 200_000):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"filename is '.*', which is no table; expected epoch, loss, acc"):
            fit(fn.CSVLogger(path, append=True), epochs=1)
        assert path.read_bytes() == content
        fit(fn.CSVLogger(path), epochs=1)
        assert path.read_text().startswith("epoch,loss,accuracy\n0,")
    path.write_text("\n1,2\n")
    with pytest.raises(ValueError, match="which is no table"):
        fit(fn.CSVLogger(path, append=True), epochs=1)


@pytest.mark.parametrize("append", [False, True])
def test_csv_log_refuses_columns_that_come_later(append, tmp_path):
    def add(epoch, logs):
        if epoch == 1:
            logs["late"] = 1.0

    with pytest.raises(ValueError, match="epoch 1 have loss, accuracy, late; expected loss, accuracy, as b"):
        fit(fn.LambdaCallback(on_epoch_end=add), fn.CSVLogger(tmp_path / "log.csv", append=append), epochs=3)


MARKED = "\ufeffepoch,loss,accuracy\n0,1.0,0.5\n"  # as spreadsheets save it


@pytest.mark.parametrize(
    "content", ["", MARKED, "epoch,loss,accuracy\n0,1.0,0.5", "epoch,loss,accuracy\r\n0,1.0,0.5\r\n"]
)
def test_csv_log_goes_on_on_a_line_of_its_own(content, tmp_path):
    path = tmp_path / "log.csv"
    path.write_bytes(content.encode())
    fit(fn.CSVLogger(path, append=True), epochs=2)
    rows = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
    assert [row[0] for row in rows] == ["epoch", *(["0"] if content else []), "0", "1"]
    assert all(len(row) == 3 for row in rows)


def test_early_stopping_keeps_no_weights_after_an_error():
    def fail(epoch, logs):
        raise RuntimeError("in the first epoch")

    stop = fn.EarlyStopping("loss")
    with pytest.raises(RuntimeError, match="in the first epoch"):
        fit(stop, fn.LambdaCallback(on_epoch_end=fail))
    assert stop.best_epoch == 0 and not any(isinstance(value, np.ndarray) for value in vars(stop).values())


def test_csv_log_of_what_a_callback_added(tmp_path):
    added = Script(float64=[np.float64(0.1)], float32=[np.float32(0.1)], count=[np.int64(3)], text=["a,b"])
    fit(added, fn.CSVLogger(tmp_path / "log.csv"), epochs=1)
    row = next(csv.DictReader((tmp_path / "log.csv").read_text().splitlines()))
    assert (row["float64"], row["float32"], row["count"], row["text"]) == ("0.1", "0.1", "3", "a,b")


def test_time_limit():
    wait = fn.LambdaCallback(on_epoch_end=lambda epoch, logs: time.sleep(0.02))
    _, history = fit(wait, fn.TimeLimit(0.05), epochs=1000)
    assert 1 <= history.epochs < 20


def test_a_callback_may_set_weights_between_epochs():
    def reset(epoch, logs):
        model.set_weights([np.zeros_like(array) for array in model.get_weights()])

    model = compiled()
    _, history = fit(fn.LambdaCallback(on_epoch_end=reset), model=model, epochs=3)
    assert history["loss"][1] == history["loss"][2] or abs(history["loss"][1] - history["loss"][2]) < 0.05
    assert not model.get_weights()[0].any()


def test_early_stopping_begins_anew_with_each_fit():
    stop = fn.EarlyStopping(patience=2, restore_best_weights=False)
    fit(Script(val_loss=range(10)), stop)
    assert (stop.best_epoch, stop.stopped_epoch) == (0, 2)
    fit(Script(val_loss=range(10, 0, -1)), stop)
    assert (stop.best_epoch, stop.stopped_epoch) == (9, None)


BAD = {
    "monitor is 3": lambda: fn.EarlyStopping(3),
    "mode is 'least'": lambda: fn.EarlyStopping(mode="least"),
    "patience is -1": lambda: fn.EarlyStopping(patience=-1),
    "min_delta is -1": lambda: fn.EarlyStopping(min_delta=-1),
    "baseline is 'x'": lambda: fn.EarlyStopping(baseline="x"),
    "restore_best_weights is 1": lambda: fn.EarlyStopping(restore_best_weights=1),
    "factor is 1": lambda: fn.ReduceLROnPlateau(factor=1),
    "min_lr is -1": lambda: fn.ReduceLROnPlateau(min_lr=-1),
    "seconds is 0": lambda: fn.TimeLimit(0),
    "separator is ';;'": lambda: fn.CSVLogger("x", ";;"),
    "separator is '\\\\n'; expected one character": lambda: fn.CSVLogger("x", "\n"),
    "separator is '\"'; expected one character": lambda: fn.CSVLogger("x", '"'),
    "save_best_only is 1": lambda: fn.ModelCheckpoint("x", save_best_only=1),
    "initial_value_threshold is nan": lambda: fn.ModelCheckpoint("x", initial_value_threshold=math.nan),
    "on_epoch_end is 3": lambda: fn.LambdaCallback(on_epoch_end=3),
    "LambdaCallback was given nothing": fn.LambdaCallback,
    "monitor is 'val_loss', which is not reported; there is 'loss', 'accuracy' .validation_data": lambda: fit(
        fn.EarlyStopping()
    ),
    "monitor is 'los', .*did you mean 'loss'": lambda: fit(fn.EarlyStopping("los")),
    "the optimizer is LBFGS, which has no learning rate": lambda: fit(
        fn.ReduceLROnPlateau("loss"), model=compiled("lbfgs")
    ),
    "filename is 3; expected the path of a file": lambda: fn.CSVLogger(3),
    "filepath is 3; expected the path of a file": lambda: fn.ModelCheckpoint(3),
    "callbacks is a single callback": lambda: compiled().fit(*data(), callbacks=fn.EarlyStopping()),
    r"callbacks\[0\] is 3": lambda: fit(3),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input(message):
    with pytest.raises((ValueError, TypeError), match=message):
        BAD[message]()


#: names of fastnn's own, and whether more is better.
DIRECTIONS = {
    **dict.fromkeys(("accuracy", "acc", "top_5_accuracy", "top_12_accuracy", "precision", "recall", "f1"), True),
    **dict.fromkeys(("auc", "roc_auc", "r2"), True),
    **dict.fromkeys(("loss", "mse", "rmse", "mae", "log_loss", "mean_squared_error", "huber", "cross_entropy"), False),
}

#: names of a user's own, of which parts are those of others.
OWN_NAMES = ("error2", "correlation", "inaccuracy", "accuracy_loss", "auction_cost", "my_f1", "neg_log_loss", "Loss")


def test_the_direction_of_what_is_fastnn_s_own_is_known():
    for name, larger in DIRECTIONS.items():
        for monitor in (name, f"val_{name}"):
            assert fn.EarlyStopping(monitor).sign == (-1 if larger else 1), monitor
    for name in {metric().name for metric in fn.metrics.BY_NAME.values()} | set(fn.metrics.BY_NAME):
        assert fn.metrics.larger_is_better(name) is not None, name
    for name in fn.losses.BY_NAME:
        assert fn.metrics.larger_is_better(name) is False, name


@pytest.mark.parametrize("name", OWN_NAMES)
def test_the_direction_of_a_metric_of_one_s_own_has_to_be_given(name, tmp_path):
    made = {
        "stop": lambda **mode: fn.EarlyStopping(f"val_{name}", **mode),
        "plateau": lambda **mode: fn.ReduceLROnPlateau(f"val_{name}", **mode),
        "checkpoint": lambda **mode: fn.ModelCheckpoint(tmp_path / "m", f"val_{name}", save_best_only=True, **mode),
    }

    def fit_with(*callbacks):
        model.compile("sgd", "cross_entropy", [fn.metrics.FunctionMetric(lambda y_true, y_pred: 1.0, name)])
        fit(*callbacks, model=model, epochs=2, validation_split=0.5)

    words = f'mode is "auto", but it is not known whether more or less of \'val_{name}\' is better; expected mode="min"'
    for make in made.values():
        for before, epochs in (([], 0), ([fn.TimeLimit(100)], 0), ([Script()], 1)):  # the last may add to the logs
            model = compiled()
            with pytest.raises(ValueError, match=words):
                fit_with(*before, make())
            assert model.epoch == epochs
        for mode in ("min", "max"):
            fit_with(make(mode=mode))
    fit_with(fn.ModelCheckpoint(tmp_path / "each", f"val_{name}"))  # it saves after each epoch, better or not


@pytest.mark.parametrize(("mode", "best"), [("min", 1), ("max", 2)])
def test_a_given_direction_counts_whatever_the_name(mode, best):
    assert fn.EarlyStopping("error2", mode=mode.upper()).sign == (1 if mode == "min" else -1)
    for name in ("error2", "accuracy", "val_loss"):
        stop = fn.EarlyStopping(name, patience=10, mode=mode)
        fit(Script(**{name: [2, 1, 3, 2]}), stop, epochs=4)
        assert stop.best_epoch == best


#: callbacks that cannot do their work with what the fit reports, and the words of the error.
HOPELESS = {
    "early stopping": (lambda path: fn.EarlyStopping("val_loss"), "validation_data or validation_split gives the val_"),
    "misspelled": (lambda path: fn.ReduceLROnPlateau("los"), "did you mean 'loss'"),
    "best only": (lambda path: fn.ModelCheckpoint(path / "m", save_best_only=True), "monitor is 'val_loss', which is"),
    "name of a file": (
        lambda path: fn.ModelCheckpoint(path / "{val_los}"),
        "expected only names of 'epoch', 'loss', 'ac",
    ),
    "no such folder": (lambda path: fn.ModelCheckpoint(path / "folder" / "m"), "but there is no folder"),
}


@pytest.mark.parametrize("name", HOPELESS)
def test_what_cannot_work_is_told_before_the_fit(name, tmp_path):
    make, words = HOPELESS[name]
    for before in ([], [fn.TimeLimit(100), fn.CSVLogger(tmp_path / "log.csv")]):
        model = compiled()
        with pytest.raises((ValueError, OSError), match=words):
            fit(*before, make(tmp_path), model=model)
        assert model.step == 0
    model = compiled()
    with pytest.raises((ValueError, OSError)):  # after a callback that may add to the logs it shows when they are there
        fit(Script(), make(tmp_path), model=model)
    assert model.epoch == 1


#: name -> (callback, what holds of it after Ctrl-C in the third epoch)
INTERRUPTED = {
    "early stopping": lambda path: fn.EarlyStopping("loss", patience=50),
    "checkpoint": lambda path: fn.ModelCheckpoint(path / "m"),
    "best checkpoint": lambda path: fn.ModelCheckpoint(path / "m", "loss", save_best_only=True),
    "plateau": lambda path: fn.ReduceLROnPlateau("loss", patience=0),
    "csv": lambda path: fn.CSVLogger(path / "log.csv"),
    "time limit": lambda path: fn.TimeLimit(100),
    "batches": lambda path: fn.LambdaCallback(on_train_batch_end=lambda batch, logs: None),
}


@pytest.mark.parametrize("name", INTERRUPTED)
@pytest.mark.parametrize("first", [False, True])
def test_ctrl_c_waits_until_all_callbacks_of_the_epoch_are_done(name, first, tmp_path):
    callback = INTERRUPTED[name](tmp_path)
    press = fn.LambdaCallback(on_epoch_end=lambda epoch, logs: epoch == 2 and signal.raise_signal(signal.SIGINT))
    model = compiled(fn.SGD(0.1))
    with pytest.raises(KeyboardInterrupt):
        fit(*((press, callback) if first else (callback, press)), model=model)
    expected, _ = fit(epochs=3, model=compiled(fn.SGD(0.1)))
    if name != "plateau":
        np.testing.assert_array_equal(model.arenas.parameters, expected.arenas.parameters)
    assert model.epoch == 3 and model.history.epochs == 3 and model.step == 6
    if name == "checkpoint":
        assert fn.load(tmp_path / "m").epoch == 3
    if name == "csv":
        rows = list(csv.DictReader((tmp_path / "log.csv").read_text().splitlines()))
        assert [float(row["loss"]) for row in rows] == model.history["loss"]
    _, history = fit(callback, model=model, epochs=2)  # and all can go on
    assert history.epochs == 2


@pytest.mark.parametrize("watched", [False, True])
def test_the_epochs_that_end_before_ctrl_c_is_answered_count(watched, monkeypatch):
    """They are in the weights, so the next fit must not take their order of rows again."""

    def pressed(self, data, order, batch_size, first, last, *arguments, **further):
        if last % 2 == 0:  # batches to the end of an epoch: in plain Python, the second one alone
            signal.raise_signal(signal.SIGINT)
        return train(self, data, order, batch_size, first, last, *arguments, **further)

    callbacks = [fn.EarlyStopping("loss", patience=10**6)] if watched else []
    model = compiled(fn.SGD(0.1))
    kind = type(model._training_runner(1))
    train = kind.train
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(kind, "train", pressed)
        fit(*callbacks, model=model, epochs=100)
    assert 0 < model.epoch == model.history.epochs == model.step // 2
    assert model.epoch == 1 or not watched
    fit(model=model, epochs=2)
    expected, _ = fit(epochs=model.epoch, model=compiled(fn.SGD(0.1)))
    np.testing.assert_array_equal(model.arenas.parameters, expected.arenas.parameters)


@pytest.mark.parametrize("during", ["compile_training", "train"])
def test_ctrl_c_waits_for_a_step_but_not_for_the_compiler(during, monkeypatch):
    def pressed(self, *arguments, **further):
        signal.raise_signal(signal.SIGINT)
        waited.append(True)
        return original(self, *arguments, **further)

    waited, model = [], compiled()
    model.fit(*data())
    step, kind = model.step, type(model._runners["training"])
    original = getattr(kind, during)
    monkeypatch.setattr(kind, during, pressed)
    with pytest.raises(KeyboardInterrupt):
        model.fit(*data())
    monkeypatch.undo()
    assert bool(waited) == (model.step > step) == (during == "train")
    model.fit(*data())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="Windows has no timers that send signals")
@pytest.mark.parametrize("own", [False, True])
def test_a_signal_s_error_leaves_the_weights_of_the_steps_that_are_counted(own):
    """A handler runs between the engine's work and the next line of Python, or within a step of the slow path."""

    def ring(*_):
        raise TimeoutError

    class Same(fn.layers.Layer):
        def forward(self, x, training=False):
            return np.asarray(x)

        def backward(self, dy):
            return np.asarray(dy)

    X, y = data()
    before = signal.signal(signal.SIGALRM, ring)
    try:
        for attempt in range(6):
            models = [fn.Model([fn.Input(X.shape[1]), *[Same()] * own, fn.Dense(1)], seed=1) for _ in range(2)]
            for model in models:
                model.compile("sgd", "mse")
            model, twin = models
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the layer in Python
                model.fit(X, y, batch_size=4, verbose=0)
                signal.setitimer(signal.ITIMER_REAL, 0.02 + 0.003 * attempt)
                with pytest.raises(TimeoutError):
                    model.fit(X, y, batch_size=4, epochs=10**6, verbose=0)
                batches = -(-len(X) // 4)
                twin.fit(X, y, batch_size=4, epochs=model.step // batches, verbose=0)
                left = model.step % batches
                if left:  # the rest of the last epoch, and no more
                    stop = fn.LambdaCallback(on_train_batch_end=lambda batch, logs, left=left: stopped(batch, left))
                    with pytest.raises(StopIteration):
                        twin.fit(X, y, batch_size=4, verbose=0, callbacks=[stop])
            assert twin.step == model.step > 0
            np.testing.assert_array_equal(twin.arenas.parameters, model.arenas.parameters)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def stopped(batch, left):
    if batch == left - 1:
        raise StopIteration


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_ctrl_c_takes_a_step_of_train_on_batch_back(optimizer, moment, monkeypatch):
    def pressed(self, *arguments, **further):
        results = None if moment == "before" else original(self, *arguments, **further)
        signal.raise_signal(signal.SIGINT)
        return results

    model, expected = compiled(optimizer), compiled(optimizer)
    model.train_on_batch(*data())
    kind = type(model._runners["training"])
    original = kind.train
    monkeypatch.setattr(kind, "train", pressed)
    with pytest.raises(KeyboardInterrupt):
        model.train_on_batch(*data())
    monkeypatch.undo()
    assert model.step == 1
    model.train_on_batch(*data())
    for _ in range(2):
        expected.train_on_batch(*data())
    np.testing.assert_array_equal(model.arenas.parameters, expected.arenas.parameters)
    np.testing.assert_array_equal(model.arenas.slots, expected.arenas.slots)


def test_an_epoch_counts_where_its_figures_fail():
    model, (X, y) = compiled(), data()
    model.compile("sgd", "cross_entropy", [lambda y_true, y_pred: 1 / 0])
    with pytest.raises(ZeroDivisionError):
        model.fit(X, y, batch_size=30, epochs=3)
    assert model.step == 2 and model.epoch == 1 and model.history.epochs == 0


def test_how_they_are_shown():
    assert repr(fn.EarlyStopping("loss", patience=3)) == "EarlyStopping(monitor='loss', patience=3)"
    assert repr(fn.ModelCheckpoint("m")) == "ModelCheckpoint(filepath='m')"
    assert repr(fn.TimeLimit(5)) == "TimeLimit(seconds=5.0)" and repr(Script(loss=[1])) == "Script()"

    class Weighing(fn.Callback):
        def __init__(self, weights=None):
            self.weights = weights

    assert repr(Weighing(np.ones(2))) == "Weighing(weights=array([1., 1.]))" and repr(Weighing()) == "Weighing()"


def test_ctrl_c_pressed_again_does_not_wait():
    def hang(epoch, logs):
        signal.raise_signal(signal.SIGINT)
        assert not calls
        calls.append("noted")
        signal.raise_signal(signal.SIGINT)
        calls.append("still here")

    calls, model = [], compiled()
    with pytest.raises(KeyboardInterrupt):
        fit(fn.LambdaCallback(on_epoch_end=hang), model=model)
    assert calls == ["noted"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler


class Halving(fn.EarlyStopping):
    """Made from one that only watches, but it changes the weights."""

    def on_epoch_end(self, epoch, logs):
        super().on_epoch_end(epoch, logs)
        self.model.arenas.parameters *= np.float32(0.5)


@pytest.mark.parametrize("kind", [fn.EarlyStopping, Halving, None])
def test_a_step_that_fails_leaves_the_weights_of_before_it(kind):
    """They come from a snapshot and training again, from far back where all callbacks only watch."""
    kept = []
    keep = fn.LambdaCallback(on_train_batch_end=lambda batch, logs: kept.append(model.arenas.parameters.copy()))
    for further in ([keep], []):
        model = compiled(fn.SGD(lambda step: 0.5 if step < 7 else 1e300))
        watching = [kind("loss", patience=99)] if kind else []
        with pytest.raises(FloatingPointError, match=r"epoch 4, batch 2 of 2 \(learning_rate=1e\+300\)"):
            fit(*watching, *further, model=model)
        np.testing.assert_array_equal(model.arenas.parameters, kept[-1])
        assert model.step == 7 and model.epoch == model.history.epochs == 3


def test_a_callback_may_change_the_schedule():
    class Faster(fn.Callback):
        def on_epoch_end(self, epoch, logs):
            self.model.optimizer.learning_rate.learning_rate *= 2

    rates = []

    class Told(fn.ConstantRate):
        def rates(self, steps):
            rates.extend([self.learning_rate] * len(steps))
            return super().rates(steps)

    fit(Faster(), model=compiled(fn.SGD(Told(0.01))), epochs=3)
    assert rates == [0.01, 0.01, 0.02, 0.02, 0.04, 0.04]
