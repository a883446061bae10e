"""``predict``: how soon one row is answered, and how many rows a second."""

from __future__ import annotations

from .common import clock, needs_cores, numbers, warmed
from .models import network
from .workloads import WORKLOADS

CALLS = 100


@warmed
def one_row(name: str):
    model = network(WORKLOADS[name])
    row = numbers(1, model.inputs)

    def predict():
        for _ in range(CALLS):
            model.predict(row, verbose=0)

    return predict


class Latency:
    """One row through ``predict``."""

    params = ["tiny", "digits", "mnist"]
    param_names = ["workload"]
    timer = staticmethod(clock(CALLS))

    def setup(self, name):
        self.predict = one_row(name)

    def time_one_row(self, name):
        self.predict()


@warmed
def all_rows(name: str, rows: int, threads: int):
    work = WORKLOADS[name]
    model = network(work)
    model.compile("sgd", work.loss, threads=threads)
    inputs = numbers(rows, model.inputs)
    return lambda: model.predict(inputs, verbose=0)


class Throughput:
    """100,000 rows (of mnist 20,000) through ``predict``; threads as told."""

    params = (["tiny", "digits", "mnist"], [1, 2])
    param_names = ["workload", "threads"]

    def setup(self, name, threads):
        needs_cores(threads)
        self.predict = all_rows(name, 20_000 if name == "mnist" else 100_000, threads)

    def time_all_rows(self, name, threads):
        self.predict()
