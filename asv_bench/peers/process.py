"""One process of a comparison: a peer does a task on a workload, and prints what it took as JSON.

python -m asv_bench.peers.process with_jax step digits 2 5
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time

#: Epochs in which the losses of all peers must agree: rows in their own order, no dropout, Adam.
CHECKED_EPOCHS = 3
#: Batches whose losses must agree where batches come one by one.
CHECKED_BATCHES = 20
#: Calls on one row, or on one batch, in a round.
CALLS = 200
#: Seconds that a timing takes, about, or longer: short ones tell how a core that slept wakes up.
LEAST = 0.3
#: Rows that ``predict`` takes at once.
ROWS = 100_000


def timed(run, parts: int, repeats: int) -> list[float]:
    """Seconds of one of ``parts`` equal parts of a round, ``repeats`` times.

    run : takes the number of rounds. The first one, which may compile, and those that tell how many take ``LEAST``, are
    not counted.
    """
    run(1)
    rounds = 1
    while (seconds := seconds_of(run, rounds)) < LEAST:
        rounds = 1 + int(1.1 * rounds * LEAST / seconds)
    return [seconds_of(run, rounds) / (rounds * parts) for _ in range(repeats)]


def seconds_of(run, rounds: int) -> float:
    started = time.perf_counter()
    run(rounds)
    return time.perf_counter() - started


def step(peer, work, threads: int, repeats: int) -> tuple[list[float], list[float]]:
    """A training step; the result is the loss of each epoch of a short training, the same for all."""
    result = peer.trainer(work._replace(dropout=0.0, gradient_only=False), threads, False)(CHECKED_EPOCHS)
    train = peer.trainer(work, threads, work.shuffled)
    return timed(lambda rounds: train(rounds * work.epochs), work.steps, repeats), result


def first(peer, work, threads: int, repeats: int) -> tuple[list[float], list[float]]:
    """An epoch in a new process, compilation of what is new included."""
    started = time.perf_counter()
    losses = peer.trainer(work, threads, work.shuffled)(1)
    return [time.perf_counter() - started], losses


def call(peer, work, threads: int, repeats: int) -> tuple[list[float], list[float]]:
    """A step in a loop of the user's own, from a batch of NumPy's to its loss; the result is those of some batches."""
    from asv_bench.benchmarks.workloads import data

    inputs, targets = data(work)
    starts = range(0, work.rows, work.batch_size)
    batches = [(inputs[start : start + work.batch_size], targets[start : start + work.batch_size]) for start in starts]
    train = peer.caller(work, threads)
    result = [train(*batch) for batch in batches[:CHECKED_BATCHES]]

    def run(rounds: int) -> None:
        for index in range(rounds * CALLS):
            train(*batches[index % len(batches)])

    return timed(run, CALLS, repeats), result


def inputs_and_outputs(peer, work, threads: int, rows: int):
    """The peer's function, rows for it, and the first outputs."""
    import numpy as np

    predict = peer.predictor(work, threads)
    inputs = np.random.default_rng(2).standard_normal((rows, work.sizes[0])).astype(work.dtype)
    return predict, inputs, np.asarray(predict(inputs))[:5].ravel().tolist()


def row(peer, work, threads: int, repeats: int) -> tuple[list[float], list[float]]:
    """The outputs of one row, from NumPy to NumPy."""
    predict, inputs, result = inputs_and_outputs(peer, work, threads, 1)

    def run(rounds: int) -> None:
        for _ in range(rounds * CALLS):
            predict(inputs)

    return timed(run, CALLS, repeats), result


def rows(peer, work, threads: int, repeats: int) -> tuple[list[float], list[float]]:
    """The outputs of 100,000 rows, from NumPy to NumPy."""
    predict, inputs, result = inputs_and_outputs(peer, work, threads, ROWS)

    def run(rounds: int) -> None:
        for _ in range(rounds):
            predict(inputs)

    return timed(run, 1, repeats), result


def search(peer, work, threads: int, repeats: int) -> tuple[list[float], list[float]]:
    """50 architectures on the digits, ten epochs each, compilation of what is new included."""
    from asv_bench.benchmarks.search import ARCHITECTURES, EPOCHS

    run = peer.searcher(work, threads)
    run(ARCHITECTURES[:1], EPOCHS)
    started = time.perf_counter()
    losses = run(ARCHITECTURES, EPOCHS)
    return [time.perf_counter() - started], [sum(losses) / len(losses)]


TASKS = {"step": step, "first": first, "call": call, "row": row, "rows": rows, "search": search}


def main() -> None:
    module, task, workload, threads, repeats = sys.argv[1:]
    if hasattr(os, "sched_setaffinity"):  # before the peer is imported: some count the cores then
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(threads)])
    peer = importlib.import_module(f"asv_bench.peers.{module}")

    from asv_bench.benchmarks.workloads import ON_GPU, WORKLOADS

    seconds, result = TASKS[task](peer, {**WORKLOADS, **ON_GPU}[workload], int(threads), int(repeats))
    print(json.dumps({"seconds": seconds, "result": [float(number) for number in result]}))


if __name__ == "__main__":
    main()
