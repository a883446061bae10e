"""``predict``: how soon one row is answered, and how many rows a second."""

from __future__ import annotations

from .common import clock, found, needs_cores, numbers, warmed
from .models import network
from .workloads import WORKLOADS

CALLS = 100


@warmed
def one_row(name: str, way: str):
    model = network(WORKLOADS[name])
    row = numbers(1, model.inputs)
    function = model.predict if way == "predict" else found("fastnn", "Model").compiled_predict(model)

    def predict():
        for _ in range(CALLS):
            function(row)

    return predict


class Latency:
    """One row through ``predict``, and through ``compiled_predict``."""

    params = (["tiny", "digits", "mnist"], ["predict", "compiled_predict"])
    param_names = ["workload", "way"]
    timer = staticmethod(clock(CALLS))

    def setup(self, name, way):
        if way == "compiled_predict" and not hasattr(found("fastnn", "Model"), way):
            raise NotImplementedError("this version of fastnn has no compiled_predict")
        self.predict = one_row(name, way)

    def time_one_row(self, name, way):
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
