"""What the training toolbox may cost: ratios of two things timed alternately in one run."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from .common import found
from .kernels import OPTIMIZERS, update_arrays, update_of
from .models import compiled_network, trainer
from .workloads import WORKLOADS


def ratio(one: Callable[[], Any], other: Callable[[], Any], seconds: float) -> float:
    """How many times as long as ``other`` ``one`` takes: the median over pairs, timed for so many seconds.

    Each pair is timed back to back, and every second one the other way around: a drift of the machine cancels.
    """
    one(), other()
    ratios, end = [], time.perf_counter() + seconds
    while len(ratios) < 5 or time.perf_counter() < end:
        taken = {}
        for call in (one, other) if len(ratios) % 2 else (other, one):
            started = time.perf_counter()
            call()
            taken[call] = time.perf_counter() - started
        ratios.append(taken[one] / taken[other])
    return statistics.median(ratios)


class UpdateBesideCopy:
    """An optimizer's pass over 1,000,000 float32 parameters, beside a NumPy copy of all arrays that it touches."""

    params = list(OPTIMIZERS)
    param_names = ["optimizer"]
    unit = "times a copy"

    def setup(self, name):
        arrays = update_arrays(name)
        copies = [np.empty_like(array) for array in arrays]

        def copy():
            for to, array in zip(copies, arrays, strict=True):
                np.copyto(to, array)

        copy()  # the system provides memory when it is first touched
        self.copy, self.update = copy, update_of(name, arrays)

    def track_update(self, name):
        return ratio(self.update, self.copy, 0.5)


class FitWithEverything:
    """``fit`` with metrics, a schedule and early stopping, beside ``fit`` without."""

    params = ["digits", "mnist"]
    param_names = ["workload"]
    unit = "times as long"

    def setup(self, name):
        work = WORKLOADS[name]
        adam, schedule = found("fastnn", "Adam"), found("fastnn", "CosineDecay")
        stopping = found("fastnn", "EarlyStopping")(monitor="loss", patience=10**6)
        train = functools.partial(trainer, work=work, epochs=max(1, work.epochs // 2))
        self.without = train(compiled_network(work))
        every = compiled_network(work, None, adam(schedule(1e-3, decay_steps=10**6)), ("accuracy",))
        self.everything = train(every, callbacks=(stopping,))

    def track_everything(self, name):
        return ratio(self.everything, self.without, 1.0)
