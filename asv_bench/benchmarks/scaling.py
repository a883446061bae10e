"""How the time grows: with the rows, the width, the depth, the batch, and how it shrinks with the threads."""

from __future__ import annotations

from .common import clock, needs_cores, warmed
from .models import compiled_network, trainer
from .workloads import Workload


@warmed
def epoch(rows: int, width: int, depth: int, batch_size: int, threads: int | None):
    work = Workload((64, *[width] * depth, 10), batch_size, rows, 1)
    return trainer(compiled_network(work, threads), work)


class _Scaling:
    """One quantity varies; the network is 64-64-64-10, and an epoch has 2048 rows in batches of 64."""

    #: Whether one step is shown, and not the whole epoch.
    by_step = True

    def setup(self, value):
        sizes = {"rows": 2048, "width": 64, "depth": 2, "batch_size": 64, "threads": None} | {
            self.param_names[0]: value
        }
        needs_cores(sizes["threads"] or 1)
        self.train = epoch(*sizes.values())
        self.timer = clock(sizes["rows"] // sizes["batch_size"] if self.by_step else 1)

    def time_training(self, value):
        self.train()


class Rows(_Scaling):
    """Seconds of an epoch."""

    by_step = False
    params, param_names = [256, 2048, 16384, 131072], ["rows"]


class Width(_Scaling):
    """Seconds of a step."""

    params, param_names = [4, 16, 64, 256, 1024], ["width"]


class Depth(_Scaling):
    """Seconds of a step."""

    params, param_names = [1, 2, 4, 8, 16], ["depth"]


class Batch(_Scaling):
    """Seconds of a step."""

    params, param_names = [1, 8, 64, 512, 2048], ["batch_size"]


class Threads(_Scaling):
    """Seconds of a step; without more threads than cores."""

    params, param_names = [1, 2, 4, 8, 16], ["threads"]

    def setup(self, threads):
        needs_cores(threads)
        self.train = epoch(4096, 512, 2, 256, threads)
        self.timer = clock(16)
