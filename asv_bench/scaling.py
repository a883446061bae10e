"""What a second worker brings: fastnn on one workload, beside a loop of multiply-adds that stays in registers.

python -m asv_bench.scaling [--workload mnist] [--rounds 7]
python -m asv_bench.scaling --neighbor [--workload mnist]

Each round times fastnn with one worker and with two, and the loop in one thread and in two, one after the other, so
that a machine that is shared or throttled at that moment is so for all four. The share of the cores that the process
got says whether it was alone: a round counts only where that is at least 95 % for all four.

With --neighbor: a process that is never idle takes turns on one core, and fastnn chooses its number of workers itself;
beside one worker that has a core to itself.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from asv_bench import fma_peak
from asv_bench.benchmarks import models
from asv_bench.benchmarks.workloads import WORKLOADS, Workload

#: The share of its cores that a process must have got for a round to count.
ALONE = 0.95

#: Trains for about a quarter of a second on the mnist workload, as the loop in registers does.
EPOCHS = 6


#: Seconds of training before the neighbor comes, and beside it: enough for the number of workers to settle.
SECONDS = 4

BUSY = "import os, sys; os.sched_setaffinity(0, [int(sys.argv[1])])\nwhile True: pass"


def trainer(work: Workload, threads: int | None) -> Callable[[], tuple[float, float]]:
    """A function that trains and returns 10^9 operations a second, and the share of so many cores it got."""
    fit = models.trainer(models.compiled_network(work, threads), work, EPOCHS)

    def train() -> tuple[float, float]:
        used, started = time.process_time(), time.perf_counter()
        fit()
        wall, used = time.perf_counter() - started, time.process_time() - used
        steps = EPOCHS * (work.rows // work.batch_size)
        return 1e-9 * work.step_flops * steps / wall, used / ((threads or 1) * wall)

    return train


def slowdown(work: Workload) -> None:
    """Print how much slower fastnn gets when somebody else needs one of its cores."""

    def speeds(train: Callable[[], tuple[float, float]]) -> list[float]:
        end, found = time.perf_counter() + SECONDS, []
        while time.perf_counter() < end:
            found.append(train()[0])
        return found

    one, free = trainer(work, 1), trainer(work, None)
    one()
    alone, together = statistics.median(speeds(one)), statistics.median(speeds(free))
    neighbor = subprocess.Popen([sys.executable, "-c", BUSY, str(max(os.sched_getaffinity(0)))])
    try:
        beside = speeds(free)
    finally:
        neighbor.kill()
    print(f"one worker alone {alone:.1f} GFLOP/s; as many as it chooses {together:.1f}")
    median = statistics.median(beside)
    print(f"beside a busy neighbor: median {median:.1f}, least {min(beside):.1f} of {len(beside)} fits")
    print(f"a step takes {alone / median:.2f} times as long as with one worker alone")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", choices=list(WORKLOADS), default="mnist")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--neighbor", action="store_true", help="beside a process that is never idle")
    options = parser.parse_args()
    work = WORKLOADS[options.workload]
    if options.neighbor:
        slowdown(work)
        return
    trainers = [trainer(work, threads) for threads in (1, 2)]
    for train in trainers:
        train()
    fma_peak.spin(1)

    own: list[list[float]] = []
    peak: list[list[float]] = []
    rounds = 0
    while len(own) < options.rounds and rounds < 10 * options.rounds:
        rounds += 1
        runs = [train() for train in trainers] + [fma_peak.measure(threads) for threads in (1, 2)]
        if min(share for _, share in runs) < ALONE:
            continue
        speeds = [speed for speed, _ in runs]
        own.append(speeds[:2])
        peak.append(speeds[2:])
    print(f"{rounds} rounds, of which {len(own)} had the cores to themselves")
    if not own:
        raise SystemExit("no round counts: other work kept the cores busy")

    print(f"{options.workload}, GFLOP/s in float32: median (most)")
    for threads in (1, 2):
        figures = []
        for found in (own, peak):
            column = [pair[threads - 1] for pair in found]
            figures.append(f"{statistics.median(column):.1f} ({max(column):.1f})")
        print(f"{threads} worker(s): fastnn {figures[0]}, multiply-adds in registers {figures[1]}")

    def gains(found: list[list[float]]) -> tuple[float, float]:
        """The median of each round's gain, and the gain of the best speeds (the best gain would be an accident)."""
        best = max(pair[1] for pair in found) / max(pair[0] for pair in found)
        return statistics.median(pair[1] / pair[0] for pair in found), best

    for name, mine, limit in zip(("median", "best speeds"), gains(own), gains(peak), strict=True):
        print(f"gain of the second, {name}: fastnn {mine:.2f}, registers {limit:.2f}: {mine / limit:.2f} of it")


if __name__ == "__main__":
    main()
