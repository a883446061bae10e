"""Training steps on a GPU; skipped where there is none."""

from __future__ import annotations

import fastnn as fn

from .common import clock, found, warmed
from .models import network, trainer
from .workloads import LEARNING_RATE, ON_GPU


@warmed
def training(name: str, precision: str):
    work = ON_GPU[name]
    model = network(work)
    model.compile(fn.Adam(LEARNING_RATE), work.loss, device="cuda", precision=precision)
    return trainer(model, work)


class Step:
    """One step of ``fit``, its share of the epoch's beginning and end included."""

    params = (list(ON_GPU), ["float32", "tf32"])
    param_names = ["workload", "precision"]

    def setup(self, name, precision):
        missing = found("fastnn.dispatch", "missing_for_gpu")()
        if missing or found("fastnn.dispatch", "simulated")():
            raise NotImplementedError(f"needs a GPU: {missing or 'there is the simulator alone'}")
        work = ON_GPU[name]
        self.train, self.timer = training(name, precision), clock(work.steps)

    def time_step(self, name, precision):
        self.train()
