"""Training above the engine, slice by slice of batches; and the way back where a step fails.

The engine gets *slices* of batches, at most about a tenth of a second each (or one batch), and whole
epochs at once where nobody wants to hear of them, so that Python costs next to nothing and Ctrl-C is
still answered at once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .data import BLOCK_BYTES
from .kernels.conventions import CONVERGED, NOT_FINITE, OK, Data
from .losses import ClassLoss, CrossEntropy
from .metrics import Metric
from .own_functions import engine_fault, suspects
from .single_step import SingleStep

if TYPE_CHECKING:
    from .data import Rows
    from .epochs import Callbacks
    from .examples import Examples
    from .losses import Loss
    from .model import Model

#: Seconds of work in a slice.
SLICE_SECONDS = 0.1

#: Steps of a slice at least, if they fit into one: with fewer, workers have no branches (``kernels/cpu/branches.py``).
LEAST_STEPS = 16

#: Row numbers that may be shuffled ahead for a slice of several epochs; and those, and learning rates, that are made
#: ahead for epochs that come one by one.
ORDER_LENGTH, AHEAD = 1 << 20, 1 << 14

#: Seconds between two snapshots of the model; what came after one is trained again if a step fails.
SNAPSHOT_SECONDS = 1.0

#: A cautious first guess of the machine's speed, until the first slice has been measured: compiled, and in plain
#: Python under ``NUMBA_DISABLE_JIT=1``.
GUESSED_FLOPS_PER_SECOND, GUESSED_IN_PYTHON = 1e9, 1e4


class Snapshot:
    """What training changes in a model, as it was before some batch, to come back to if a later step fails.

    place : (that batch, the model's step there); time : when it was taken.

    On a GPU (away) the runner has it. Of a single step, beside which a copy made by one core would take long, the
    engine's workers make it, in ``saved``.
    """

    place: tuple[int, int]
    time: float

    def __init__(self, model: Model, runner: Any, away: bool, single: bool):
        self.runner, self.away = runner, away
        trains = runner.plan.update is not None
        self.by_workers = single and trains and not away and hasattr(runner, "has_changed")
        self.arrays = [model.arenas.parameters, *model.arenas.slots] if trains and not away else []
        copies = np.empty((len(self.arrays), len(model.arenas.parameters)), model.dtype)
        self.copies, self.saved = list(copies), copies if self.by_workers else None

    def take(self, batch: int, step: int) -> None:
        """Keep the model as it is before ``batch``."""
        if self.away:
            self.runner.take_snapshot()
        elif self.by_workers:
            self.runner.forget()
        else:
            for copy, array in zip(self.copies, self.arrays, strict=True):
                copy[...] = array
        self.place, self.time = (batch, step), time.monotonic()

    def restore(self) -> None:
        """Put back what was kept."""
        if self.away:
            self.runner.restore()
        elif not self.by_workers or self.runner.has_changed():
            for array, copy in zip(self.arrays, self.copies, strict=True):
                np.copyto(array, copy)


class Trainer:
    """Trains a model on examples, batch by batch; batches are counted through all epochs of the fit.

    tolerance : the norm of the gradient that ends the training, or None; the engine looks at it where it updates.

    A context manager: inside, a runner on a GPU keeps the parameters, the optimizer's slots and the data there. The
    model's own arrays have them when it ends, and while callbacks are told of something.
    """

    def __init__(
        self,
        model: Model,
        runner: Any,
        examples: Examples,
        batch_size: int,
        epochs: int,
        shuffle: bool,
        tolerance: float | None = None,
    ):
        from .kernels import jit

        self.runner = runner
        self.rows = len(examples)
        self.batch_size = min(batch_size, self.rows)
        self.batches = -(-self.rows // self.batch_size)
        self.shuffle = shuffle and self.batches > 1  # the rows of a single batch are the same in any order
        # Of each batch, its share of the rows.
        self.shares = np.full(self.batches, self.batch_size / self.rows)
        self.shares[-1] = 1 - (self.batches - 1) * self.batch_size / self.rows
        self.epochs = epochs
        self.tolerance = tolerance
        self.converged = False
        plan = runner.plan
        speed = GUESSED_FLOPS_PER_SECOND if jit.COMPILED and plan.compiled else GUESSED_IN_PYTHON
        self.step_flops = plan.step_flops(self.batch_size)
        self.guessed_seconds = self.step_flops / speed + 1e-5
        self.workers = 1
        #: Whether nobody can change the model or its optimizer between two epochs.
        self.undisturbed = False
        self.orders = 0, np.empty(0, np.int64)  # the first epoch that is shuffled, and the row numbers of some epochs
        self.rates_ahead: tuple[Any, int, np.ndarray] = (None, 0, np.empty(0))  # from a step on
        self.before_failure = np.empty((0, 0))  # the results of the batches before one that failed, in its slice
        #: Whether the parameters are elsewhere while the trainer trains.
        self.away = hasattr(runner, "to_device") and plan.update is not None
        self.snapshot = Snapshot(model, runner, self.away, self.batches * epochs == 1)
        #: Of each call of the engine.
        self.options: dict[str, Any] = {} if self.snapshot.saved is None else {"saved": self.snapshot.saved}
        self.options["tolerance"] = -1.0 if tolerance is None or plan.update is None else tolerance
        self.single_step: SingleStep | None = None
        self.begin(model, examples)

    def begin(self, model: Model, examples: Examples) -> None:
        """Train the model that the trainer was made for on these examples, as many as it was made for."""
        runner = self.runner
        self.model, self.examples = model, examples
        whole_epochs = not all(metric.by_rows for metric in model.metrics)
        self.kept = np.empty((self.rows, model.outputs), model.dtype) if whole_epochs else None
        #: What the engine reads, where it can read the arrays themselves.
        self.data = examples.data if examples.direct else None
        self.first_epoch, self.first_step = model.epoch, model.step
        self.rate = model.optimizer.learning_rate
        self.threads, choice = model.threads, model.worker_choice(self.step_flops)
        if choice is not getattr(self, "choice", None):
            self.choice, self.seconds = choice, choice.seconds or self.guessed_seconds
            choice.begin()
        if hasattr(runner, "compile_training"):
            runner.compile_training(self.batch_size, self.shuffle and self.data is not None)
        if not self.away:
            self.snapshot.take(0, model.step)

    def __enter__(self) -> Trainer:
        if self.away:
            self.runner.to_device()
            self.snapshot.take(0, self.model.step)
        return self

    def __exit__(self, *_: object) -> None:
        if hasattr(self.runner, "end_fit"):
            self.runner.end_fit()
        del self.model, self.examples, self.data, self.kept  # the model keeps its trainer, and arrays are the user's

    def tell(self, callbacks: Callbacks, method: str, *arguments: Any) -> None:
        """Call a method of the callbacks, which may look at the model and change it."""
        if callbacks.calls[method]:
            if self.away:
                self.runner.to_host()
            callbacks.notify(method, *arguments)
            if self.away:
                self.runner.to_device()

    def run(self, batch: int, last_batch: int, action: str = "") -> tuple[int, np.ndarray]:
        """Train on a slice from ``batch`` on, up to ``last_batch`` at most; action : as in ``whole_batch``.

        Returns (the next batch, (batches, 1 + metrics) means of the batches). Raises a FloatingPointError
        if the loss or a weight stops being finite, with the model as it was before that step.
        """
        self.workers, part = self.choice.next()
        steps = SLICE_SECONDS / self.seconds
        count = max(1, min(last_batch - batch, int(max(part * steps, min(LEAST_STEPS, steps)))))
        if time.monotonic() - self.snapshot.time > SNAPSHOT_SECONDS:
            self.snapshot.take(batch, self.model.step)
        started = time.perf_counter()
        done, results = self._train(batch, batch + count)
        finite = np.isfinite(results[:done, 0])
        if not finite.all():  # the engine looks at the loss of each row, and not at their sum and the penalties
            done, self.converged = int(finite.argmin()), False
        if self.converged:
            return batch + len(results), results
        if done < count:
            self._restore(batch + done)
            self.before_failure = results[:done]
            raise self._not_finite(batch + done, action)
        self.seconds = (time.perf_counter() - started) / count
        self.choice.tell(self.seconds, count)
        return batch + count, results

    def only_batch(self) -> np.ndarray:
        """Train on a single batch; returns its results. Whatever ends it, as Ctrl-C, leaves the model as before it."""
        try:
            return self.run(0, 1)[1]
        except BaseException:
            self._restore(0)
            raise

    def again(self, model: Model, X: np.ndarray, y: np.ndarray) -> list[float] | None:
        """A step on one more batch, as the last one was for ``only_batch``: the loss and the metrics.

        None where nothing was done, since X and y, or the step itself, need a closer look.
        """
        step, (self.workers, _) = self.single_step, self.choice.next()
        rate = model.optimizer.learning_rate
        if step is None or not (isinstance(rate, float) or rate is self.rate):
            return None
        self.model = model
        try:
            step.rate[0] = self.rates(model.step, 1)[0]  # a schedule of the user's may do anything
            if not step.is_for(self.workers) or not step.take(X, y, model.step, model.seed):
                return None
            self.snapshot.place = 0, model.step
            started, done = time.perf_counter(), False
            try:
                done = step.do() == OK and math.isfinite(step.results[0, 0])
                model.step += int(done)
            except BaseException:
                self._restore(0)
                raise
            if not done:
                self._restore(0)
                return None
            if not self.choice.fixed:
                self.choice.tell(time.perf_counter() - started, 1)
            found: list[float] = step.results[0].tolist()
            return found
        finally:
            del self.model

    def prepare_again(self) -> None:
        """Have ready what ``again`` needs, after a step on the only batch."""
        loss, metrics, small = self.model.loss, self.model.metrics, self.examples.x.array.nbytes <= BLOCK_BYTES
        if loss is None or self.kept is not None or self.snapshot.saved is None or not small:
            return
        if not isinstance(loss, ClassLoss):
            if any(type(metric).check_targets is not Metric.check_targets for metric in metrics):
                return
        self.single_step = SingleStep(self.runner, self.rows, self.workers, loss, self.snapshot.saved)

    def _train(self, first: int, last: int) -> tuple[int, np.ndarray]:
        """Train on batches ``first`` to ``last``; returns (steps done, results of the batches)."""
        model, parts, done = self.model, [], 0
        while done < last - first:
            begin = first + done
            end, place, kept = self._slice(begin, last)
            rates, started = self.rates(model.step, end - begin), model.step
            if self.snapshot.by_workers:  # somebody may have trained the model since the fit began, as a callback
                self.snapshot.place = begin, model.step
            try:
                status, steps, results = self.runner.train(
                    *place, rates, model.step, model.seed, self.workers, kept=kept, **self.options
                )
                model.step += steps
            except BaseException:  # a signal's handler may raise an error before the steps are counted, or within one
                steps = self.runner.steps_done(started)
                model.step = started + steps
                if getattr(self.runner, "half_done", False):
                    self._restore(begin + steps)
                raise
            done += steps
            self.converged = status == CONVERGED
            parts.append(results[: steps + int(self.converged)])
            if steps < end - begin:
                if status not in (NOT_FINITE, CONVERGED):
                    raise engine_fault(self.runner.plan, status, f" in batch {begin + steps}")
                break
        return done, np.concatenate(parts) if len(parts) > 1 else parts[0]

    def whole_batch(self, action: str) -> np.ndarray:
        """The results of all rows as one batch, with the gradients in their arena; counts no step.

        action : what an error says of where numbers are not finite.
        """
        step = self.model.step
        try:
            return self.run(0, 1, action)[1]
        finally:
            self.model.step = step

    def rates(self, step: int, count: int) -> np.ndarray:
        """The learning rates of ``count`` steps from ``step`` on."""
        rate = self.model.optimizer.learning_rate
        known, first, rates = self.rates_ahead
        if isinstance(rate, float):
            if known != rate or len(rates) < count:
                self.rates_ahead = rate, 0, np.full(count, rate)
            return self.rates_ahead[2][:count]
        if known is not rate or not first <= step <= first + len(rates) - count or not self.undisturbed:
            schedule = rate.resolved(self.epochs * self.batches)
            # A schedule that leaves its length to the fit begins with the fit.
            start = 0 if schedule is rate else self.first_step
            left = self.first_step + self.epochs * self.batches - step
            first, ahead = step, max(count, min(AHEAD, left) if self.undisturbed else 0)
            rates = schedule(np.arange(step - start, step - start + ahead))
            self.rates_ahead = rate, first, rates
        return rates[step - first : step - first + count]

    def _slice(self, first: int, last: int) -> tuple[int, tuple[Any, ...], np.ndarray | None]:
        """(end, where to train, where outputs are kept) for batches ``first`` to ``end``: as many of those asked for as
        one call of the engine takes.
        """
        epoch, within = divmod(first, self.batches)
        if self.data is not None:
            ahead = self.kept is None and last > (epoch + 1) * self.batches
            epochs = max(1, ORDER_LENGTH // self.rows) if ahead else 1
            end = min(last, (epoch + epochs) * self.batches)
            before, order = self._orders(epoch, -(-end // self.batches) - epoch)
            data, kept, begin = self.data, self.kept, first - before * self.batches
        else:
            most = max(1, self.examples.x.block_rows // self.batch_size)
            end = min(last, (epoch + 1) * self.batches, first + most)
            rows = slice(within * self.batch_size, (within + end - first) * self.batch_size)
            chosen = self._order(epoch)
            data = Data(*self.examples.take(rows if chosen is None else chosen[rows]))
            kept, order, begin = None if self.kept is None else self.kept[rows], None, 0
        return end, (data, order, self.batch_size, begin, begin + end - first), kept

    def _order(self, epoch: int) -> np.ndarray | None:
        """The row numbers of an epoch, or None where rows stay in order."""
        first, order = self._orders(epoch, 1)
        return None if order is None else order[(epoch - first) * self.rows :][: self.rows]

    def _orders(self, epoch: int, epochs: int) -> tuple[int, np.ndarray | None]:
        """(the first epoch, row numbers) of some epochs, of ``epochs`` from ``epoch`` on at least; None where rows stay
        in order.
        """
        if not self.shuffle:
            return epoch, None
        first, order = self.orders
        if not first <= epoch <= first + len(order) // self.rows - epochs:
            from .kernels.random import shuffled_order

            first, ahead = epoch, max(epochs, min(AHEAD // self.rows, self.epochs - epoch))
            order = np.empty(ahead * self.rows, np.int64)
            for number, part in enumerate(order.reshape(ahead, -1)):
                shuffled_order(part, self.model.seed, self.first_epoch + epoch + number)
            self.orders = first, order
        return first, order

    def _restore(self, batch: int) -> None:
        """Bring the model back to where it was before ``batch``: from the snapshot, by training again."""
        first, self.model.step = self.snapshot.place
        self.snapshot.restore()
        if batch > first:
            self._train(first, batch)

    def _not_finite(self, batch: int, action: str) -> FloatingPointError:
        """The error about numbers of a batch that are not finite."""
        if action:
            return FloatingPointError(f"the loss or its gradient is NaN or infinite in {action}{suspects(self.model)}")
        epoch, within = divmod(batch, self.batches)
        rate = float(self.rates(self.model.step, 1)[0])
        classes = isinstance(self.model.loss, ClassLoss)
        return FloatingPointError(
            f"the loss or a weight became NaN or infinite in epoch {epoch + 1}, batch {within + 1} of "
            f"{self.batches} (learning_rate={rate:g}); the model keeps the weights "
            f"of before that step. A smaller learning rate or standardized inputs{'' if classes else ' and targets'} "
            f"usually help{suspects(self.model)}"
        )

    def curves(self, epoch: int, results: np.ndarray) -> dict[str, list[float]]:
        """The loss and the metrics of some epochs, of which ``epoch`` is the last and the last one trained.

        results : (epochs, batches, 1 + metrics), those of their batches.
        """
        order = self._order(epoch) if self.kept is not None else None
        means = self.shares @ results if self.batches > 1 else results[:, 0]
        return curves(self.model.loss, self.model.metrics, means.T.tolist(), self.examples.t, self.kept, order)


def curves(
    loss: Loss | None,
    metrics: Sequence[Metric],
    means: list[list[float]],
    t: Rows,
    kept: np.ndarray | None = None,
    order: np.ndarray | None = None,
) -> dict[str, list[float]]:
    """The loss and the metrics of some epochs by name.

    means : over rows, of each epoch, of the loss and of those metrics that have one; kept : the outputs of a single
    epoch, which the others look at.
    """
    of_rows = iter(means)
    found = {"loss": next(of_rows)}
    y_true = None
    for metric in metrics:
        if metric.by_rows:
            found[metric.name] = [metric.finish(mean) for mean in next(of_rows)]
        else:
            assert kept is not None and loss is not None
            if y_true is None:
                y_true = t.take(slice(None) if order is None else order)
                if y_true.shape[1] == 1 and kept.shape[1] > 1 and isinstance(loss, CrossEntropy):
                    y_true = y_true[:, 0].astype(np.int64)
            found[metric.name] = [metric.of_model(loss, y_true, kept)]
    return found


def logs(curves: dict[str, list[float]]) -> dict[str, float]:
    """The numbers of the last epoch."""
    return {name: numbers[-1] for name, numbers in curves.items()}
