"""What may happen between epochs: stop early, save, lower the learning rate, write a log.

A callback is any object with some of the methods of ``Callback``. One that has no ``on_train_batch_end`` costs nothing
per batch: the engine then runs whole epochs.

>>> model = fn.Model([fn.Input(2), fn.Dense(8, "tanh"), fn.Dense(1, "sigmoid")], seed=0)
>>> model.compile(fn.Adam(0.05), "binary_cross_entropy")
>>> stop = fn.EarlyStopping("loss", min_delta=0.01, patience=3)
>>> X, y = fn.datasets.moons(200)
>>> history = model.fit(X, y, epochs=500, callbacks=[stop], verbose=0)
>>> history.epochs < 500, stop.stopped_epoch == history.epochs - 1
(True, True)
"""

from __future__ import annotations

import csv
import io
import math
import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from . import checks
from .checks import choice, flag, nearest, number, shown, whole_number
from .elsewhere import missing_from
from .metrics import larger_is_better
from .optimizers import LBFGS
from .settings import Checked

if TYPE_CHECKING:
    from .model import Model

__all__ = [
    "CSVLogger",
    "Callback",
    "EarlyStopping",
    "LambdaCallback",
    "ModelCheckpoint",
    "ReduceLROnPlateau",
    "TimeLimit",
]

if not TYPE_CHECKING:  # which else would take any name for known
    __getattr__ = missing_from(__name__)


class Callback(Checked):
    """The base of all callbacks; override what you need.

    ``self.model`` is the model that is being trained. ``logs`` has the loss and the metrics of the epoch, and with
    validation data the same again after ``val_``. A callback may read and set weights, set
    ``model.optimizer.learning_rate``, and set ``model.stop_training = True`` to end the fit after the epoch.

    ``on_train_batch_end(batch, logs)``, where it is defined, is called after every batch of an epoch.
    """

    model: Model

    def set_model(self, model: Model) -> None:
        """Called first, with the model."""
        self.model = model

    def on_train_begin(self) -> None:
        """Before the first epoch of a fit."""

    def on_train_end(self) -> None:
        """After the last epoch of a fit; not after an error or Ctrl-C, where the model keeps its last weights."""

    def on_epoch_begin(self, epoch: int) -> None:
        """Before epoch 0, 1, ... of the fit."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """After epoch 0, 1, ... of the fit, and its validation."""


class _Monitor(Callback):
    """A callback that follows one quantity and knows which direction is better."""

    def __init__(self, monitor: str, mode: str, min_delta: float):
        if not isinstance(monitor, str) or not monitor:
            raise TypeError(f"monitor is {shown(monitor)}; expected the name of a quantity, such as 'val_loss'")
        self.monitor = monitor
        self.mode = choice("mode", mode, ("auto", "min", "max"))
        self.min_delta = number("min_delta", min_delta, least=0)
        larger = larger_is_better(monitor) if self.mode == "auto" else self.mode == "max"
        self.sign = math.nan if larger is None else -1.0 if larger else 1.0  # NaN: ``check_logs`` refuses it
        self.best = math.inf  # of sign · value

    def on_train_begin(self) -> None:
        self.best = math.inf

    def check_logs(self, reported: Sequence[str]) -> None:
        """Raise an error, before the fit, where it cannot do its work with logs of these names."""
        if self.monitor not in reported:
            missing = self.monitor.startswith("val_") and self.monitor.removeprefix("val_") in reported
            hint = " (validation_data or validation_split gives the val_ ones)" if missing else ""
            raise ValueError(
                f"monitor is {self.monitor!r}, which is not reported; there is {', '.join(map(repr, reported))}"
                f"{hint or nearest(self.monitor, reported)}"
            )
        if math.isnan(self.sign):
            raise ValueError(
                f'mode is "auto", but it is not known whether more or less of {self.monitor!r} is better; '
                'expected mode="min" or "max"'
            )

    def value(self, logs: dict[str, float]) -> float:
        """The monitored quantity, or an error that says what there is or is to be said."""
        if self.monitor not in logs or math.isnan(self.sign):
            self.check_logs(list(logs))
        return logs[self.monitor]

    def improved(self, value: float) -> bool:
        """Whether the value is better than the best so far, by more than ``min_delta``; it then is the best."""
        if self.sign * value < self.best - self.min_delta:
            self.best = self.sign * value
            return True
        return False


class EarlyStopping(_Monitor):
    """Ends the fit when a quantity has not become better for ``patience`` epochs (Prechelt 1998).

    monitor : such as "val_loss"; min_delta : what counts as better; patience : epochs to wait; mode : "min", "max" or
    "auto", which knows the names of fastnn's losses and metrics alone; baseline : a value that must be beaten;
    restore_best_weights : go back to the weights of the best epoch at the end; start_from_epoch : epochs that do not
    count.

    ``best_epoch`` tells which epoch was the best, ``stopped_epoch`` after which one the fit ended, or None; both count
    from 0, as the epochs that callbacks are told do (``History.best_epoch`` counts from 1).

    Raises a ValueError or TypeError that names an argument. The fit raises a ValueError where ``monitor`` is not
    reported, and where ``mode`` is "auto" for a metric of yours: say "min" or "max".
    """

    only_watches = True

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = True,
        start_from_epoch: int = 0,
    ):
        super().__init__(monitor, mode, min_delta)
        self.patience = whole_number("patience", patience, 0)
        self.baseline = None if baseline is None else number("baseline", baseline)
        self.restore_best_weights = flag("restore_best_weights", restore_best_weights)
        self.start_from_epoch = whole_number("start_from_epoch", start_from_epoch, 0)
        self.best_epoch: int | None = None
        self.stopped_epoch: int | None = None

    def on_train_begin(self) -> None:
        super().on_train_begin()
        self.best_epoch = self.stopped_epoch = None
        self._parameters: np.ndarray | None = None
        self._wait = 0

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        value = self.value(logs)
        if epoch < self.start_from_epoch:
            return
        self._wait += 1
        if self.improved(value):
            self.best_epoch = epoch
            if self.restore_best_weights and self._parameters is None:
                self._parameters = self.model.arenas.parameters.copy()
            elif self._parameters is not None:
                np.copyto(self._parameters, self.model.arenas.parameters)
            if self.baseline is None or self.sign * value < self.sign * self.baseline:
                self._wait = 0
        if self._wait > 0 and self._wait >= self.patience:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self) -> None:
        if self._parameters is not None:
            self.model.arenas.parameters[:] = self._parameters

    def _forget(self) -> None:
        """Let go of the copy of the weights."""
        self._parameters = None


class ReduceLROnPlateau(_Monitor):
    """Multiplies the learning rate by ``factor`` when a quantity has not become better for ``patience`` epochs.

    monitor, mode, min_delta : as in ``EarlyStopping``; factor : above 0 and below 1; patience : epochs; cooldown :
    epochs to wait after it; min_lr : not below this rate.

    The fit raises a ValueError where the learning rate is a schedule: it must be a number.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ):
        super().__init__(monitor, mode, min_delta)
        self.factor = number("factor", factor, above=0, below=1)
        self.patience = whole_number("patience", patience, 0)
        self.cooldown = whole_number("cooldown", cooldown, 0)
        self.min_lr = number("min_lr", min_lr, least=0)

    def on_train_begin(self) -> None:
        super().on_train_begin()
        self._wait = self._cooling = 0
        rate = self.model.optimizer.learning_rate
        if not isinstance(rate, float):
            raise ValueError(f"learning_rate is {rate!r}; expected a number, which ReduceLROnPlateau can change")
        if isinstance(self.model.optimizer, LBFGS):
            raise ValueError("the optimizer is LBFGS, which has no learning rate for ReduceLROnPlateau to change")

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        value = self.value(logs)
        if self._cooling > 0:
            self._cooling -= 1
            self._wait = 0
        if self.improved(value):
            self._wait = 0
        elif self._cooling == 0:
            self._wait += 1
            rate = self.model.optimizer.learning_rate
            if self._wait >= self.patience and rate > self.min_lr:
                self.model.optimizer.learning_rate = max(self.min_lr, rate * self.factor)
                self._cooling, self._wait = self.cooldown, 0


class ModelCheckpoint(_Monitor):
    """Saves the model after every epoch, or with ``save_best_only`` after those that were the best so far.

    filepath : where to; ``{epoch}`` and the names of the logs may stand in it, as in
    "model-{epoch:03d}-{val_loss:.3f}.safetensors", with epochs from 1; monitor, mode : as in ``EarlyStopping``;
    save_weights_only : without layers and the optimizer's state; initial_value_threshold : the value that the
    first file has to beat, such as that of the best model of an earlier fit: each fit begins without one.

    A file is replaced whole or not at all. Raises a ValueError for a name with the ending of another format, as
    ``Model.save``; the fit raises an OSError where the file cannot be written.
    """

    only_watches = True

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        save_best_only: bool = False,
        mode: str = "auto",
        save_weights_only: bool = False,
        initial_value_threshold: float | None = None,
    ):
        super().__init__(monitor, mode, 0.0)
        limit = initial_value_threshold
        self.initial_value_threshold = None if limit is None else number("initial_value_threshold", limit)
        self.filepath = checks.model_file("filepath", filepath, in_folder=False)
        self.save_best_only = flag("save_best_only", save_best_only)
        self.save_weights_only = flag("save_weights_only", save_weights_only)

    def on_train_begin(self) -> None:
        super().on_train_begin()
        if self.initial_value_threshold is not None:
            self.best = self.sign * self.initial_value_threshold

    def check_logs(self, reported: Sequence[str]) -> None:
        if self.save_best_only:
            super().check_logs(reported)
        checks.model_file("filepath", self._path(0, dict.fromkeys(reported, 0.0)))

    def _path(self, epoch: int, logs: dict[str, float]) -> str:
        try:
            return self.filepath.format(epoch=epoch + 1, **logs)
        except (KeyError, IndexError, ValueError, AttributeError, TypeError) as fault:
            raise ValueError(
                f"filepath is {self.filepath!r}, which cannot be filled in ({fault}); expected only names of "
                f"{', '.join(map(repr, ('epoch', *logs)))}"
            ) from None

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        if self.save_best_only and not self.improved(self.value(logs)):
            return
        path = self._path(epoch, logs)
        if self.save_weights_only:
            self.model.save_weights(path)
        else:
            self.model.save(path)


class CSVLogger(Callback):
    """Writes the numbers of every epoch to a CSV file, a line each, readable while the fit runs.

    filename : where to; separator : one character, but no quote and no end of a line; append : go on in a file that is
    there already, of the same columns.

    The fit raises an OSError, before its first epoch, where the file cannot be written, and a ValueError where it is to
    go on in one of other columns.
    """

    only_watches = True

    def __init__(self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False):
        if not isinstance(separator, str) or len(separator) != 1 or separator in '"\r\n\0':
            raise ValueError(f"separator is {shown(separator)}; expected one character, such as ',', ';' or '\\t'")
        self.filename, self.separator = checks.path("filename", filename), separator
        self.append = flag("append", append)

    def on_train_begin(self) -> None:
        with open(self.filename, "a" if self.append else "w", newline="", encoding="utf-8"):
            pass  # a path that cannot be written is found out before the work
        self._columns: list[str] = []

    def check_logs(self, reported: Sequence[str]) -> None:
        """Raise a ValueError, before the fit, where it is to go on in a file of other columns than these."""
        if not self.append or not os.path.exists(self.filename):
            return
        columns = ["epoch", *reported]
        try:
            with open(self.filename, newline="", encoding="utf-8-sig") as file:
                found = next(csv.reader(file, delimiter=self.separator), columns)
        except (UnicodeDecodeError, csv.Error):
            found = []
        if found != columns:
            fault = f"has the columns {shown(', '.join(found))}" if found else "is no table"
            raise ValueError(
                f"filename is {self.filename!r}, which {fault}; expected {', '.join(columns)}, or a new file"
            )

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        if not self._columns:
            self._columns = list(logs)
            self.check_logs(self._columns)
        if self._columns != list(logs):
            raise ValueError(
                f"the logs of epoch {epoch} have {', '.join(logs)}; expected {', '.join(self._columns)}, as before"
            )
        lines = io.StringIO()
        writer = csv.writer(lines, delimiter=self.separator, lineterminator="\n")
        with open(self.filename, "a+b") as file:
            if file.tell() == 0:
                writer.writerow(["epoch", *logs])
            else:
                file.seek(-1, os.SEEK_END)
                if file.read(1) not in b"\r\n":  # the last line of a file that is gone on in
                    lines.write("\n")
            writer.writerow([epoch, *map(str, logs.values())])
            file.write(lines.getvalue().encode())


class TimeLimit(Callback):
    """Ends the fit after the epoch in which ``seconds`` have passed since it began.

    seconds : above 0.
    """

    only_watches = True

    def __init__(self, seconds: float):
        self.seconds = number("seconds", seconds, above=0)

    def check_logs(self, reported: Sequence[str]) -> None:
        """Any logs will do, and it adds nothing to them."""

    def on_train_begin(self) -> None:
        self._end = time.monotonic() + self.seconds

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        if time.monotonic() >= self._end:
            self.model.stop_training = True


class LambdaCallback(Callback):
    """A callback from functions, each called with the arguments of the method of its name.

    Raises a ValueError without any function, and a TypeError for what is none.

    >>> losses = []
    >>> def keep(epoch, logs):
    ...     losses.append(logs["loss"])
    >>> model = fn.Model([fn.Input(2), fn.Dense(1, "sigmoid")], seed=0)
    >>> model.compile("adam", "binary_cross_entropy")
    >>> X, y = fn.datasets.xor(50)
    >>> follow = fn.LambdaCallback(on_epoch_end=keep)
    >>> history = model.fit(X, y, epochs=3, callbacks=[follow], verbose=0)
    >>> losses == history["loss"]
    True
    """

    def __init__(
        self,
        on_epoch_begin: Callable[[int], None] | None = None,
        on_epoch_end: Callable[[int, dict[str, float]], None] | None = None,
        on_train_begin: Callable[[], None] | None = None,
        on_train_end: Callable[[], None] | None = None,
        on_train_batch_end: Callable[[int, dict[str, float]], None] | None = None,
    ):
        given = {
            "on_epoch_begin": on_epoch_begin,
            "on_epoch_end": on_epoch_end,
            "on_train_begin": on_train_begin,
            "on_train_end": on_train_end,
            "on_train_batch_end": on_train_batch_end,
        }
        for name, function in given.items():
            if function is not None and not callable(function):
                raise TypeError(f"{name} is {shown(function)}; expected a function or None")
            if function is not None:
                setattr(self, name, function)
        if all(function is None for function in given.values()):
            raise ValueError(f"LambdaCallback was given nothing; expected a function for one of {', '.join(given)}")

    def __repr__(self) -> str:
        given = [f"{name}={value!r}" for name, value in vars(self).items() if name.startswith("on_")]
        return f"LambdaCallback({', '.join(given)})"
