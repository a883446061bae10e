"""The training loop above the engine: slices of batches, epochs, and what happens between them.

The engine gets *slices* of batches, at most about a tenth of a second each (or one batch), and whole
epochs at once where nobody wants to hear of them, so that Python costs next to nothing and Ctrl-C is
still answered at once.
"""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np

from . import dispatch

if TYPE_CHECKING:
    from .data import Rows
    from .model import Model

__all__ = ["DeferredInterrupt", "Trainer"]

#: Seconds of work in a slice.
SLICE_SECONDS = 0.1

#: Row numbers that may be shuffled ahead for a slice of several epochs.
ORDER_LENGTH = 1 << 20

#: Seconds between two snapshots of the model; what came after one is trained again if a step fails.
SNAPSHOT_SECONDS = 1.0

#: A cautious first guess of the machine's speed, until the first slice has been measured: compiled, and in plain
#: Python under ``NUMBA_DISABLE_JIT=1``.
GUESSED_FLOPS_PER_SECOND, GUESSED_IN_PYTHON = 1e9, 1e4


class DeferredInterrupt:
    """While active, Ctrl-C waits until ``check`` is called, so that no step is left half counted."""

    def __enter__(self) -> DeferredInterrupt:
        self.pending: tuple[int, FrameType | None] | None = None
        self.previous: Any = None
        if threading.current_thread() is threading.main_thread():
            previous = signal.getsignal(signal.SIGINT)
            if callable(previous):
                self.previous = previous
                signal.signal(signal.SIGINT, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.pending = number, frame

    def check(self) -> None:
        """Do what Ctrl-C would have done, if it was pressed."""
        if self.pending is not None:
            pending, self.pending = self.pending, None
            self.previous(*pending)

    def __exit__(self, *_: object) -> None:
        if self.previous is not None:
            signal.signal(signal.SIGINT, self.previous)
            self.check()


class Trainer:
    """Trains a model on one data set, batch by batch; batches are counted through all epochs of the fit."""

    def __init__(self, model: Model, runner: Any, x: Rows, t: Rows, batch_size: int, shuffle: bool):
        from .kernels import jit

        self.model, self.runner = model, runner
        self.x, self.t, self.shuffle = x, t, shuffle
        self.batch_size = min(batch_size, len(x))
        self.batches = -(-len(x) // self.batch_size)
        self.first_epoch = model.epoch
        plan = runner.plan
        self.workers = dispatch.choose_workers(model.threads, plan.step_flops(self.batch_size))
        speed = GUESSED_FLOPS_PER_SECOND if jit.COMPILED else GUESSED_IN_PYTHON
        self.seconds = plan.step_flops(self.batch_size) / speed + 1e-5
        self.orders: dict[tuple[int, int], np.ndarray | None] = {}
        self.take_snapshot(0)

    @property
    def direct(self) -> bool:
        """Whether the engine reads the user's arrays themselves."""
        return self.x.direct and self.t.direct

    def run(self, batch: int, last_batch: int) -> tuple[int, np.ndarray]:
        """Train on a slice from ``batch`` on, up to ``last_batch`` at most.

        Returns (the next batch, (batches, 1 + metrics) means of the batches). Raises a FloatingPointError
        if the loss or a weight stops being finite, with the model as it was before that step.
        """
        count = max(1, min(last_batch - batch, int(SLICE_SECONDS / self.seconds)))
        if time.monotonic() - self.snapshot_time > SNAPSHOT_SECONDS:
            self.take_snapshot(batch)
        started = time.perf_counter()
        done, results = self._train(batch, batch + count)
        if len(results) < count or done < count:
            self._restore(batch + done)
            self._explain(batch + done)
        self.seconds = (time.perf_counter() - started) / count
        return batch + count, results

    def _train(self, first: int, last: int) -> tuple[int, np.ndarray]:
        """Train on batches ``first`` to ``last``; returns (batches done, their results)."""
        parts, done = [], 0
        while done < last - first:
            begin = first + done
            end, call = self._call(begin, last)
            rates = np.full(end - begin, self.model.optimizer.learning_rate)
            status, steps, results = call(rates, self.model.step, self.model.seed, self.workers)
            self.model.step += steps
            done += steps
            parts.append(results[:steps])
            if steps < end - begin:
                if status != 2:
                    raise RuntimeError(
                        f"the engine stopped with status {status} in batch {begin + steps}: a fault of fastnn, "
                        "please report it"
                    )
                break
        return done, np.concatenate(parts)

    def _call(self, first: int, last: int) -> tuple[int, Any]:
        """(end, how to train on batches ``first`` to ``end``): as many of those asked for as one call takes."""
        from .kernels.cpu.runner import Data

        epoch, within = divmod(first, self.batches)
        if self.direct:
            epochs = max(1, ORDER_LENGTH // len(self.x)) if last > (epoch + 1) * self.batches else 1
            end = min(last, (epoch + epochs) * self.batches)
            order = self._order(epoch, -(-end // self.batches) - epoch)
            data = Data(self.x.array, self.t.array)
            return end, lambda *rest: self.runner.train(
                data, order, self.batch_size, within, within + end - first, *rest
            )
        most = max(1, self.x.block_rows // self.batch_size)
        end = min(last, (epoch + 1) * self.batches, first + most)
        order = self._order(epoch, 1)
        rows = slice(within * self.batch_size, (within + end - first) * self.batch_size)
        chosen = rows if order is None else order[rows]
        data = Data(self.x.take(chosen), self.t.take(chosen))
        return end, lambda *rest: self.runner.train(data, None, self.batch_size, 0, end - first, *rest)

    def _order(self, epoch: int, epochs: int) -> np.ndarray | None:
        """The row numbers of ``epochs`` epochs from ``epoch`` on, or None where rows stay in order."""
        if not self.shuffle:
            return None
        if (epoch, epochs) not in self.orders:
            from .kernels.random import shuffled_order

            order = np.empty(epochs * len(self.x), np.int64)
            for number, part in enumerate(order.reshape(epochs, -1)):
                shuffled_order(part, self.model.seed, self.first_epoch + epoch + number)
            self.orders = {(epoch, epochs): order}
        return self.orders[epoch, epochs]

    def take_snapshot(self, batch: int) -> None:
        """Keep the model as it is before ``batch``, to come back to if a later step fails."""
        arenas = self.model.arenas
        self.snapshot = batch, self.model.step, arenas.parameters.copy(), [slot.copy() for slot in arenas.slots]
        self.snapshot_time = time.monotonic()

    def _restore(self, batch: int) -> None:
        """Bring the model back to where it was before ``batch``: from the snapshot, by training again."""
        first, self.model.step, parameters, slots = self.snapshot
        self.model.arenas.parameters[:] = parameters
        for slot, kept in zip(self.model.arenas.slots, slots, strict=True):
            slot[:] = kept
        if batch > first:
            self._train(first, batch)

    def _explain(self, batch: int) -> None:
        epoch, within = divmod(batch, self.batches)
        raise FloatingPointError(
            f"the loss or a weight became NaN or infinite in epoch {epoch + 1}, batch {within + 1} of "
            f"{self.batches} (learning_rate={self.model.optimizer.learning_rate:g}); the model keeps the weights "
            "of before that step. A smaller learning rate or standardized inputs usually help"
        )

    def means(self, results: np.ndarray) -> np.ndarray:
        """The epoch's means over rows from the means of its batches."""
        rows = np.full(self.batches, self.batch_size, np.float64)
        rows[-1] = len(self.x) - (self.batches - 1) * self.batch_size
        return np.asarray(rows @ results / len(self.x))
