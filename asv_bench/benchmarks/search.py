"""Architecture search: many different small networks, each trained for a short while."""

from __future__ import annotations

import fastnn as fn

from .common import warmed

#: 50 networks of one to three hidden layers.
ARCHITECTURES = [
    (first, *rest) for first in (16, 32, 48, 64, 96) for rest in ((), (16,), (32,), (64,), (16, 16), (32, 16), (32, 32),
    (64, 16), (64, 32), (64, 64))
]  # fmt: skip

EPOCHS = 10


@warmed
def search():
    X, y = fn.datasets.digits()

    def run():
        best = 0.0
        for hidden in ARCHITECTURES:
            layers = [fn.Dense(units, activation="relu") for units in hidden]
            model = fn.Model([fn.Input(64), *layers, fn.Dense(10, activation="softmax")], seed=0)
            model.compile(fn.Adam(1e-3), "cross_entropy", ["accuracy"])
            model.fit(X[:1437], y[:1437], 32, EPOCHS, verbose=0)
            best = max(best, model.evaluate(X[1437:], y[1437:], verbose=0)["accuracy"])
        return best

    return run


class Search:
    """50 architectures on the digits, 10 epochs each; seconds of all."""

    def setup(self):
        self.run = search()

    def time_search(self):
        self.run()
