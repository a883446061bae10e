"""The training and inference workloads, as data: fastnn's benchmarks and all peers work on the same numbers.

Dense layers with one activation between them; Adam with a learning rate of 1e-3; binary cross-entropy for one output,
cross-entropy of the softmax for more, or mean squared error; the rows shuffled anew in
each epoch, unless all are one batch.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

LEARNING_RATE = 1e-3


class Workload(NamedTuple):
    """A network, its data, and how many epochs are timed together, at least."""

    sizes: tuple[int, ...]
    batch_size: int
    rows: int
    epochs: int
    activation: str = "relu"
    loss: str = "cross_entropy"
    dtype: str = "float32"
    #: Share of the last hidden layer's outputs that are dropped.
    dropout: float = 0.0
    #: Whether only the loss and its gradient are formed, batch by batch, with weights that stay as they are.
    gradient_only: bool = False

    @property
    def steps(self) -> int:
        return self.epochs * (self.rows // self.batch_size)

    @property
    def shuffled(self) -> bool:
        """Whether rows are shuffled: in a single batch, and where weights stay, their order makes no difference."""
        return self.batch_size < self.rows and not self.gradient_only

    @property
    def step_flops(self) -> int:
        """Multiplications and additions of a step's matrix products; the first layer hands no gradient down."""
        products = [n * m for n, m in zip(self.sizes, self.sizes[1:], strict=False)]
        return 2 * self.batch_size * (3 * sum(products) - products[0])


WORKLOADS = {
    "tiny": Workload((2, 16, 1), 32, 1024, 100, loss="binary_cross_entropy"),
    "digits": Workload((64, 64, 64, 10), 32, 1792, 100),
    "mnist": Workload((784, 256, 128, 10), 128, 8192, 4),
    "wide": Workload((1024, 1024, 1024, 10), 256, 4096, 2),
    "narrow": Workload((4, 32, 16, 4), 10_000, 10_000, 200, "tanh", "mse"),
    "gradient": Workload((24, 8, 2), 200, 10_000, 40, "tanh", "mse", "float64", dropout=0.2, gradient_only=True),
}

#: Those for a GPU: what the CPU trains, and one that is too wide for it.
ON_GPU = {name: WORKLOADS[name] for name in ("tiny", "digits", "mnist", "wide")}
ON_GPU["huge"] = Workload((4096, 4096, 4096, 10), 256, 4096, 2)

#: Those that change the weights.
TRAINING = [name for name, work in WORKLOADS.items() if not work.gradient_only]


def data(work: Workload) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (rows, width) and targets that depend on them, so that the loss says whether something is learned.

    Targets are the numbers of classes (rows,), or for "mse" numbers (rows, outputs).
    """
    generator = np.random.default_rng(0)
    inputs = generator.standard_normal((work.rows, work.sizes[0])).astype(work.dtype)
    outputs = work.sizes[-1]
    scores = inputs @ generator.standard_normal((work.sizes[0], max(2, outputs))).astype(work.dtype)
    if work.loss == "mse":
        return inputs, np.tanh(scores)
    return inputs, scores.argmax(axis=1)


def initial_weights(work: Workload) -> list[tuple[np.ndarray, np.ndarray]]:
    """(W, b) of each layer, with W (inputs, units): He's standard deviation, and zeros."""
    generator = np.random.default_rng(1)
    return [
        ((generator.standard_normal((n, m)) * np.sqrt(2 / n)).astype(work.dtype), np.zeros(m, work.dtype))
        for n, m in zip(work.sizes, work.sizes[1:], strict=False)
    ]
