"""The epochs of a fit: what is trained until the next one ends, what is reported then, and who is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from . import checks
from .callbacks import Callback
from .checks import nearest, shown
from .history import number_text
from .settings import of_fastnn
from .training import Trainer, curves, logs

if TYPE_CHECKING:
    from .interrupt import DeferredInterrupt
    from .progress import Progress


class EndOfEpoch:
    """What happens when an epoch of a fit is over, or, where nobody watches, when some are: validation, history,
    progress line, callbacks.

    finished : how many epochs were.
    """

    def __init__(
        self,
        trainer: Trainer,
        callbacks: Callbacks,
        validate: Callable[[], dict[str, float]] | None,
        progress: Progress,
        interrupt: DeferredInterrupt,
    ):
        self.trainer, self.callbacks, self.validate = trainer, callbacks, validate
        self.progress, self.interrupt = progress, interrupt
        self.first_epoch = trainer.model.epoch
        self.finished = 0
        self.found: dict[str, float] = {}  # the figures of the last epoch

    def __call__(self, results: np.ndarray) -> None:
        """Epochs are over, a single one where it is watched.

        results : (epochs, batches, 1 + metrics), those of their batches.
        """
        trainer, model = self.trainer, self.trainer.model
        self.finished += len(results)
        model.epoch = self.first_epoch + self.finished  # whatever metrics and validation come to
        curves = trainer.curves(self.finished - 1, results)
        if self.validate is not None:
            curves.update({f"val_{name}": [value] for name, value in self.validate().items()})
        model.history.extend(curves)
        self.found = logs(curves)
        self.progress.epoch(self.finished, trainer.epochs, self.found)
        trainer.tell(self.callbacks, "on_epoch_end", self.finished - 1, dict(self.found))  # theirs to change

    def state(self, begun: np.ndarray) -> str:
        """Where the fit is: the epoch that has begun with these results so far, or, if there are none, the last one."""
        figures = losses_text({"loss": begun[:, 0].mean()}) if len(begun) else losses_text(self.found)
        return f"epoch {self.finished + (len(begun) > 0)}/{self.trainer.epochs}  {figures}"


def losses_text(found: dict[str, float]) -> str:
    """The losses among an epoch's figures, for a line."""
    return "  ".join(f"{key} {number_text(found[key])}" for key in ("loss", "val_loss") if key in found)


def whole_epochs(results: np.ndarray, batches: int) -> np.ndarray:
    """(epochs, batches, 1 + metrics): the results of those epochs whose batches are all there."""
    epochs = len(results) // batches
    return results[: epochs * batches].reshape(epochs, batches, -1)


def run_fit(trainer: Trainer, end_epoch: EndOfEpoch) -> None:
    """Train for the trainer's epochs, slice by slice."""
    model, batches, epochs = trainer.model, trainer.batches, trainer.epochs
    callbacks, progress, interrupt = end_epoch.callbacks, end_epoch.progress, end_epoch.interrupt
    # Whether somebody wants to hear of each epoch before the next one begins.
    watched = callbacks.callbacks or end_epoch.validate or progress.lines or trainer.kept is not None
    trainer.undisturbed = not callbacks.touching
    by_rows = [metric for metric in model.metrics if metric.by_rows]
    batch, last, pending = 0, epochs * batches, np.empty((0, 0))
    while batch < last and not trainer.converged:
        stops = model.stop_training  # another thread may set it, and an epoch that has begun comes to its end
        if stops and batch % batches == 0:
            break
        if watched and batch % batches == 0:
            trainer.tell(callbacks, "on_epoch_begin", end_epoch.finished)
        limit = batch + 1 if callbacks.by_batch else (batch // batches + 1) * batches if watched or stops else last
        start = batch
        try:
            batch, results = trainer.run(batch, limit)
        except FloatingPointError:
            pending = np.concatenate((pending, trainer.before_failure)) if len(pending) else trainer.before_failure
            if len(pending) >= batches:  # epochs that nobody watches
                end_epoch(whole_epochs(pending, batches))
            raise
        pending = np.concatenate((pending, results)) if len(pending) else results
        if callbacks.by_batch:
            found = logs(curves(model.loss, by_rows, results[-1:].T.tolist(), trainer.examples.t))
            trainer.tell(callbacks, "on_train_batch_end", start % batches, found)
            trainer.snapshot.take(batch, model.step)
        if end_epoch.finished < batch // batches:
            end_epoch(whole_epochs(pending, batches))
            pending = pending[len(pending) // batches * batches :]
            if callbacks.touching:
                trainer.snapshot.take(batch, model.step)
        if progress.place is not None:
            progress.show(batch / last, end_epoch.state(pending))
        interrupt.check()  # not before: the epochs that the slice has ended count


class Callbacks:
    """The callbacks of a fit; each has any of the methods that are called. A context manager, around the fit.

    by_batch : whether one asks for the end of each batch; touching : whether one may change the weights or the
    learning rate.
    """

    #: The methods, and what each is called with.
    METHODS: ClassVar[dict[str, tuple[str, ...]]] = {
        "set_model": ("model",),
        "on_train_begin": (),
        "on_train_end": (),
        "on_epoch_begin": ("epoch",),
        "on_epoch_end": ("epoch", "logs"),
        "on_train_batch_end": ("batch", "logs"),
    }

    def __init__(self, callbacks: Any):
        if any(hasattr(callbacks, method) for method in self.METHODS):
            raise TypeError("callbacks is a single callback; expected a list of them")
        if callbacks is not None and (isinstance(callbacks, str) or not isinstance(callbacks, Iterable)):
            raise TypeError(f"callbacks is {shown(callbacks)}; expected a list of callbacks")
        self.callbacks = list(callbacks or ())
        for index, callback in enumerate(self.callbacks):
            if isinstance(callback, type):
                raise TypeError(f"callbacks[{index}] is the class {callback.__name__}; expected {callback.__name__}()")
            if not any(callable(getattr(callback, method, None)) for method in self.METHODS):
                raise TypeError(
                    f"callbacks[{index}] is {shown(callback)}; expected an object with on_epoch_end(epoch, logs)"
                )
            names = vars(callback) if of_fastnn(type(callback)) else dir(callback)
            for name in names if isinstance(callback, Callback) else ():
                if name.startswith("on_") and name not in self.METHODS and callable(getattr(callback, name)):
                    hint = nearest(name, self.METHODS) or f"; expected one of {', '.join(self.METHODS)}"
                    raise ValueError(f"callbacks[{index}] has {name}, which is never called{hint}")
        # ``only_watches``: that it leaves the model as it is until the fit ends. What a class says of itself does not
        # hold for classes made from it.
        self.touching = not all(vars(type(callback)).get("only_watches", False) for callback in self.callbacks)
        #: method -> the functions that there are for it, without those of the base that do nothing.
        self.calls: dict[str, list[Callable[..., None]]] = {method: [] for method in self.METHODS}
        nothing = [getattr(Callback, method, None) for method in self.METHODS if method != "set_model"]
        for index, callback in enumerate(self.callbacks):
            ours = of_fastnn(type(callback))  # whose methods are known to take what they are called with
            for method, functions in self.calls.items():
                function = getattr(callback, method, None)
                if callable(function) and getattr(function, "__func__", self) not in nothing:
                    if not (ours and getattr(function, "__self__", None) is callback):
                        checks.function(f"callbacks[{index}].{method}", function, self.METHODS[method])
                    functions.append(function)
        self.by_batch = bool(self.calls["on_train_batch_end"])

    def __enter__(self) -> Callbacks:
        return self

    def __exit__(self, *_: object) -> None:
        for callback in self.callbacks:
            if hasattr(callback, "_forget"):
                callback._forget()

    def check(self, reported: Sequence[str]) -> None:
        """Let those of our own callbacks look, before the work, at the names of what will be reported.

        One of the user's may add to the logs what later ones read.
        """
        for callback in self.callbacks:
            if hasattr(callback, "check_logs"):
                callback.check_logs(reported)
            elif hasattr(callback, "on_epoch_end"):
                break

    def notify(self, method: str, *arguments: Any) -> None:
        """Call ``method`` of every callback that has it."""
        for function in self.calls[method]:
            function(*arguments)
