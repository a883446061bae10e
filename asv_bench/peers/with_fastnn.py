"""fastnn through its public face; it chooses the number of workers itself, at most one a core it may use."""

import os
import sys

if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[2])])

import fastnn as fn
from asv_bench.peers.workloads import LEARNING_RATE, data, initial_weights, main


def prepare(work, threads):
    inputs, labels = data(work)
    *hidden, outputs = work.sizes[1:]
    binary = outputs == 1
    last = fn.Dense(outputs, activation="sigmoid" if binary else "softmax")
    model = fn.Model([fn.Input(work.sizes[0]), *(fn.Dense(n, activation="relu") for n in hidden), last], seed=0)
    model.compile(fn.Adam(LEARNING_RATE), "binary_cross_entropy" if binary else "cross_entropy")
    model.set_weights([array for pair in initial_weights(work) for array in pair])

    def train():
        history = model.fit(inputs, labels, batch_size=work.batch_size, epochs=work.epochs, verbose=0)
        return history["loss"][-1]

    return train


if __name__ == "__main__":
    main(prepare)
