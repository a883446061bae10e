"""The workloads as fastnn models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastnn as fn

from .workloads import LEARNING_RATE, Workload, data, initial_weights

LAST_ACTIVATION = {"binary_cross_entropy": "sigmoid", "cross_entropy": "softmax", "mse": "linear"}


def network(work: Workload) -> fn.Model:
    """The model, with the initial weights that all peers start from."""
    hidden = [fn.Dense(units, activation=work.activation) for units in work.sizes[1:-1]]
    dropout = [fn.Dropout(work.dropout)] if work.dropout else []
    last = fn.Dense(work.sizes[-1], activation=LAST_ACTIVATION[work.loss])
    model = fn.Model([fn.Input(work.sizes[0]), *hidden, *dropout, last], seed=0, dtype=work.dtype)
    model.set_weights([array for pair in initial_weights(work) for array in pair])
    return model


def compiled_network(
    work: Workload,
    threads: int | None = None,
    optimizer: Any = None,
    metrics: tuple[str, ...] = (),
    precision: str = "float32",
) -> fn.Model:
    """The model ready for ``fit``, with Adam unless told.

    The gradient alone is a step of size 0: an update of so few weights costs next to nothing.
    """
    model = network(work)
    optimizer = optimizer or (fn.SGD(0.0) if work.gradient_only else fn.Adam(LEARNING_RATE))
    model.compile(optimizer, work.loss, metrics, threads=threads, precision=precision)
    return model


def trainer(
    model: fn.Model, work: Workload, epochs: int | None = None, callbacks: tuple[Any, ...] = ()
) -> Callable[[], fn.History]:
    """A function that trains for ``epochs`` epochs, by default as many as the workload says."""
    inputs, targets = data(work)
    epochs = epochs or work.epochs
    return lambda: model.fit(inputs, targets, work.batch_size, epochs, 0, callbacks, shuffle=work.shuffled)
