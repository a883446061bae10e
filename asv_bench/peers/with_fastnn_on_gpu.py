"""fastnn with ``device="cuda"``; ``PRECISION`` in the environment says how it multiplies."""

import os

from asv_bench.benchmarks.models import network
from asv_bench.benchmarks.workloads import LEARNING_RATE, data
from fastnn.optimizers import Adam


def trainer(work, threads, shuffle):
    model = network(work)
    precision = os.environ.get("PRECISION", "float32")
    model.compile(Adam(LEARNING_RATE), work.loss, device="cuda", precision=precision)
    inputs, targets = data(work)

    def train(epochs):
        return model.fit(inputs, targets, work.batch_size, epochs, verbose=0, shuffle=shuffle)["loss"]

    return train
