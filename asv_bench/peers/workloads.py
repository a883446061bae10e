"""What all peers do: the same networks, data, batches, initial weights and optimizer.

Dense layers with ReLU between them; Adam with a learning rate of 1e-3; binary cross-entropy for one output,
cross-entropy of the softmax for more; the rows shuffled anew in each epoch; float32.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Workload(NamedTuple):
    """A network, its data, and how many epochs make one timing."""

    sizes: tuple[int, ...]
    batch_size: int
    rows: int
    epochs: int

    @property
    def steps(self) -> int:
        return self.epochs * (self.rows // self.batch_size)


WORKLOADS = {
    "tiny": Workload((2, 16, 1), 32, 1024, 100),
    "digits": Workload((64, 64, 64, 10), 32, 1792, 40),
    "mnist": Workload((784, 256, 128, 10), 128, 8192, 4),
    "wide": Workload((1024, 1024, 1024, 10), 256, 4096, 2),
}

LEARNING_RATE = 1e-3


def data(work: Workload) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (rows, width), and labels that depend on them, so that the loss says whether something is learned."""
    generator = np.random.default_rng(0)
    inputs = generator.standard_normal((work.rows, work.sizes[0])).astype(np.float32)
    classes = max(2, work.sizes[-1])
    scores = inputs @ generator.standard_normal((work.sizes[0], classes)).astype(np.float32)
    return inputs, scores.argmax(axis=1)


def initial_weights(work: Workload) -> list[tuple[np.ndarray, np.ndarray]]:
    """(W, b) of each layer, with W (inputs, units)."""
    generator = np.random.default_rng(1)
    return [
        ((generator.standard_normal((n, m)) * np.sqrt(2 / n)).astype(np.float32), np.zeros(m, np.float32))
        for n, m in zip(work.sizes, work.sizes[1:], strict=False)
    ]


def main(prepare: Callable[[Workload, int], Callable[[], float]]) -> None:
    """Time one peer: ``prepare(work, threads)`` returns a function that trains and returns the last epoch's loss.

    Arguments: workload, threads, repeats. Prints a line of JSON: seconds of each repeat, and the loss after the
    first of them. What is compiled is compiled in a call that is not timed; it counts as training.
    """
    work, threads, repeats = WORKLOADS[sys.argv[1]], int(sys.argv[2]), int(sys.argv[3])
    train = prepare(work, threads)
    train()
    seconds, losses = [], []
    for _ in range(repeats):
        started = time.perf_counter()
        losses.append(train())
        seconds.append(time.perf_counter() - started)
    print(json.dumps({"seconds": seconds, "loss": losses[0], "steps": work.steps}))
