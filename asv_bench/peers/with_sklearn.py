"""scikit-learn's MLPClassifier, which takes no initial weights: its own are of about the same size."""

import os
import sys
import warnings

if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[2])])

from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from asv_bench.peers.workloads import LEARNING_RATE, data, main


def prepare(work, threads):
    inputs, labels = data(work)
    warnings.simplefilter("ignore", ConvergenceWarning)
    model = MLPClassifier(
        work.sizes[1:-1],
        alpha=0.0,
        batch_size=work.batch_size,
        learning_rate_init=LEARNING_RATE,
        max_iter=work.epochs,
        n_iter_no_change=10**6,
        random_state=0,
        tol=0.0,
        warm_start=True,
    )

    def train():
        model.fit(inputs, labels)
        return model.loss_curve_[-1]

    return train


if __name__ == "__main__":
    main(prepare)
