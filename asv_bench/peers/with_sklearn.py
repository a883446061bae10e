"""scikit-learn's MLP. It takes no initial weights, so they are put in after a first fit."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

from asv_bench.benchmarks.workloads import LEARNING_RATE, data, initial_weights


def estimator(work, shuffle=True):
    """The estimator with the initial weights."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    if work.dropout or work.gradient_only:
        raise NotImplementedError("no dropout, and no gradient without an update")
    inputs, targets = data(work)
    kind = MLPRegressor if work.loss == "mse" else MLPClassifier
    model = kind(
        hidden_layer_sizes=work.sizes[1:-1],
        activation=work.activation,
        alpha=0.0,
        batch_size=work.batch_size,
        learning_rate_init=LEARNING_RATE,
        max_iter=1,
        n_iter_no_change=10**6,
        random_state=0,
        shuffle=shuffle,
        tol=0.0,
        warm_start=True,
    )
    model.fit(inputs, targets)
    for index, (W, b) in enumerate(initial_weights(work)):
        model.coefs_[index][:] = W
        model.intercepts_[index][:] = b
    return model, inputs, targets


def trainer(work, threads, shuffle):
    model, inputs, targets = estimator(work, shuffle)
    scale = 2 if work.loss == "mse" else 1  # scikit-learn's squared error is half the mean

    def train(epochs):
        model.set_params(max_iter=epochs).fit(inputs, targets)
        return [scale * loss for loss in model.loss_curve_[-epochs:]]

    return train


def caller(work, threads):
    model, _, _ = estimator(work)
    scale = 2 if work.loss == "mse" else 1
    model.set_params(batch_size="auto", warm_start=False)  # with it, every batch would have to show all classes
    del model._optimizer  # which has learned in the first fit

    def call(inputs, targets):
        return scale * model.partial_fit(inputs, targets).loss_

    return call


def predictor(work, threads):
    model, _, _ = estimator(work)
    if work.loss == "mse":
        return model.predict
    if work.loss == "binary_cross_entropy":
        return lambda rows: model.predict_proba(rows)[:, 1:]
    return model.predict_proba


def searcher(work, threads):
    from asv_bench.peers.digits import digits

    warnings.simplefilter("ignore", ConvergenceWarning)
    X, y = digits(work.rows)

    def search(architectures, epochs):
        losses = []
        for hidden in architectures:
            model = MLPClassifier(
                hidden, alpha=0.0, batch_size=work.batch_size, learning_rate_init=LEARNING_RATE, max_iter=epochs
            )
            losses.append(model.fit(np.asarray(X, np.float32), y).loss_curve_[-1])
        return losses

    return search
