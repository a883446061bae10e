"""A training step of each workload, and whole fits as users run them."""

from __future__ import annotations

import fastnn as fn

from .common import clock, found, kernel, needs_cores, warmed
from .models import compiled_network, trainer
from .workloads import WORKLOADS, data


@warmed
def training(name: str, threads: int | None, epochs: int, precision: str = "float32"):
    work = WORKLOADS[name]
    return trainer(compiled_network(work, threads, precision=precision), work, epochs)


class Step:
    """One step of ``fit``, its share of the epoch's beginning and end included; threads as told."""

    params = (list(WORKLOADS), [1, 2])
    param_names = ["workload", "threads"]

    def setup(self, name, threads):
        needs_cores(threads)
        work = WORKLOADS[name]
        epochs = max(1, work.epochs // 4)
        self.train, self.timer = training(name, threads, epochs), clock(epochs * work.rows // work.batch_size)

    def time_step(self, name, threads):
        self.train()


class Precision:
    """A step of large layers on a matrix unit, with products in three pieces, two and one."""

    params = (["mnist", "wide"], ["float32", "tf32", "bf16"])
    param_names = ["workload", "precision"]

    def setup(self, name, precision):
        kernel("cpu.pieces", "PIECES")  # older versions know three pieces alone
        if not kernel("cpu.amx", "available")():
            raise NotImplementedError("there is no matrix unit (AMX)")
        work = WORKLOADS[name]
        self.train, self.timer = training(name, None, 1, precision), clock(work.rows // work.batch_size)

    def time_step(self, name, precision):
        self.train()


@warmed
def dropout_training(rate: float):
    work = WORKLOADS["mnist"]
    first, second = work.sizes[1:3]
    layers = [fn.Input(work.sizes[0]), fn.Dense(first, "relu"), fn.Dropout(rate), fn.Dense(second, "relu")]
    model = fn.Model([*layers, fn.Dropout(rate), fn.Dense(work.sizes[-1], "softmax")], seed=0)
    model.compile("adam", work.loss)
    return trainer(model, work, 1)


class Dropout:
    """A step of the mnist workload with dropout after both hidden layers."""

    params = [0.0, 0.5]
    param_names = ["rate"]

    def setup(self, rate):
        work = WORKLOADS["mnist"]
        self.train, self.timer = dropout_training(rate), clock(work.rows // work.batch_size)

    def time_step(self, rate):
        self.train()


@warmed
def digits_fit(optimizer: str):
    X, y = fn.datasets.digits()

    def fit():
        layers = [fn.Input(64), fn.Dense(64, activation="relu"), fn.Dropout(0.2), fn.Dense(10, activation="softmax")]
        model = fn.Model(layers, seed=0)
        model.compile(optimizer, "cross_entropy", ["accuracy"])
        stopping = found("fastnn", "EarlyStopping")(patience=5, restore_best_weights=True)
        model.fit(X, y, 32, 20, verbose=0, validation_split=0.2, callbacks=[stopping])

    return fit


class DigitsFit:
    """From ``Model`` to the end of ``fit`` on the digits: dropout, validation, accuracy, early stopping; 20 epochs."""

    params = ["sgd", "adagrad", "rmsprop", "adam", "adamw"]
    param_names = ["optimizer"]

    def setup(self, optimizer):
        if optimizer not in fn.optimizers.BY_NAME:
            raise NotImplementedError(f"this version of fastnn has no optimizer {optimizer!r}")
        self.fit = digits_fit(optimizer)

    def time_fit(self, optimizer):
        self.fit()


#: Calls in a timing of ``Call``: enough for the clock, few enough for asv's quick run.
CALLS = 20


@warmed
def call_on_a_batch(name: str, method: str):
    work = WORKLOADS[name]
    model = compiled_network(work, 1)
    x, y = data(work)
    x, y = x[: work.batch_size], y[: work.batch_size]
    options = {} if method in ("train_on_batch", "gradients") else {"verbose": 0}

    def calls():
        for _ in range(CALLS):
            getattr(model, method)(x, y, **options)

    return calls


class Call:
    """One call from Python on a single batch, its checks and all: what a training loop of the user's own pays."""

    params = (["tiny", "digits", "mnist"], ["train_on_batch", "gradients", "evaluate", "fit"])
    param_names = ["workload", "method"]
    timer = staticmethod(clock(CALLS))

    def setup(self, name, method):
        self.calls = call_on_a_batch(name, method)

    def time_call(self, name, method):
        self.calls()
