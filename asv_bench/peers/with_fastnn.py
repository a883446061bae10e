"""fastnn through its public face; it chooses the number of workers itself, at most one a core it may use.

``PRECISION`` in the environment says how it multiplies in training.
"""

import os

import fastnn as fn
from asv_bench.benchmarks.models import compiled_network, network
from asv_bench.benchmarks.workloads import LEARNING_RATE, data

PRECISION = os.environ.get("PRECISION", "float32")


def trainer(work, threads, shuffle):
    model = compiled_network(work, precision=PRECISION)
    inputs, targets = data(work)

    def train(epochs):
        return model.fit(inputs, targets, work.batch_size, epochs, verbose=0, shuffle=shuffle)["loss"]

    return train


def caller(work, threads):
    model = compiled_network(work, precision=PRECISION)
    return lambda inputs, targets: model.train_on_batch(inputs, targets)["loss"]


def predictor(work, threads):
    return network(work).predict


def searcher(work, threads):
    X, y = fn.datasets.digits()
    X, y = X[: work.rows], y[: work.rows]

    def search(architectures, epochs):
        losses = []
        for hidden in architectures:
            layers = [fn.Dense(units, activation="relu") for units in hidden]
            model = fn.Model([fn.Input(64), *layers, fn.Dense(10, activation="softmax")], seed=0)
            model.compile(fn.Adam(LEARNING_RATE), "cross_entropy")
            losses.append(model.fit(X, y, work.batch_size, epochs, verbose=0)["loss"][-1])
        return losses

    return search
