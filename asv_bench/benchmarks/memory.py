"""The most memory that a process holds; ``before`` is what data, model and compiler take without the fit."""

from __future__ import annotations

import numpy as np

import fastnn as fn

#: 40,000 rows of 784 numbers: 125 MB in float32, which a copy of the data would double.
ROWS, WIDTH = 40_000, 784


class Peak:
    """Peak memory of a process that trains 784-256-128-10, or predicts with it."""

    params = ["float32", "float64", "float32, columns first"]
    param_names = ["data"]

    def setup(self, kind):
        order = "F" if "columns" in kind else "C"
        self.inputs = np.zeros((ROWS, WIDTH), kind.partition(",")[0], order)
        self.inputs += 1e-3
        self.labels = np.arange(ROWS) % 10
        layers = [
            fn.Dense(256, activation="relu"),
            fn.Dense(128, activation="relu"),
            fn.Dense(10, activation="softmax"),
        ]
        self.model = fn.Model([fn.Input(WIDTH), *layers], seed=0)
        self.model.compile("adam", "cross_entropy")
        self.model.fit(self.inputs[:128], self.labels[:128], 128, verbose=0)
        self.model.predict(self.inputs[:128], verbose=0)

    def peakmem_before(self, kind):
        pass

    def peakmem_fit(self, kind):
        self.model.fit(self.inputs, self.labels, 128, verbose=0)

    def peakmem_predict(self, kind):
        self.model.predict(self.inputs, verbose=0)


class FullBatch:
    """Peak memory of a process that trains 4-16-16-3 on a million rows as one batch."""

    def setup(self):
        self.inputs, self.targets = np.zeros((1_000_000, 4), np.float32), np.zeros((1_000_000, 3), np.float32)
        self.inputs += 1e-3
        self.targets += 1e-3
        self.model = fn.Model([fn.Input(4), fn.Dense(16, "tanh"), fn.Dense(16, "tanh"), fn.Dense(3)], seed=0)
        self.model.compile("adam", "mse")
        self.model.fit(self.inputs[:1000], self.targets[:1000], 1000, verbose=0)

    def peakmem_before(self):
        pass

    def peakmem_fit(self):
        self.model.fit(self.inputs, self.targets, len(self.inputs), verbose=0)
