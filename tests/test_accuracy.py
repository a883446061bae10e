"""What comes out on real data, in five-fold cross-validation: the whole toolbox together, on one core."""

import numpy as np
import pytest

import fastnn as fn
from fastnn.kernels.jit import COMPILED

datasets = pytest.importorskip("sklearn.datasets")
selection = pytest.importorskip("sklearn.model_selection")

pytestmark = pytest.mark.skipif(not COMPILED, reason="takes long in plain Python")


def standardized(train, test):
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    return (train - mean) / deviation, (test - mean) / deviation


def test_digits_with_he_initialization_dropout_and_early_stopping():
    X, y = fn.datasets.digits()
    found = []
    for rows, test in selection.StratifiedKFold(5, shuffle=True, random_state=0).split(X, y):
        train = np.random.default_rng(0).permutation(rows)
        layers = [fn.Input(64)]
        for units in (256, 128):
            layers += [fn.Dense(units, "relu", kernel_initializer="he_normal"), fn.Dropout(0.4)]
        model = fn.Model([*layers, fn.Dense(10, "softmax")], seed=0)
        model.compile("adam", "cross_entropy", ["accuracy"], threads=1)
        stop = fn.EarlyStopping("val_loss", patience=40)
        model.fit(X[train], y[train], epochs=300, validation_split=0.1, callbacks=[stop], verbose=0)
        found.append(model.evaluate(X[test], y[test], verbose=0)["accuracy"])
    assert np.mean(found) >= 0.980


def test_breast_cancer():
    X, y = datasets.load_breast_cancer(return_X_y=True)
    found = []
    for train, test in selection.StratifiedKFold(5, shuffle=True, random_state=0).split(X, y):
        inside, outside = standardized(X[train], X[test])
        layers = [fn.Dense(16, "tanh", kernel_regularizer=fn.L2(0.01)), fn.Dropout(0.2)]
        model = fn.Model([fn.Input(30), *layers, fn.Dense(1, "sigmoid", kernel_regularizer=fn.L2(0.01))], seed=0)
        model.compile(fn.Adam(fn.CosineDecay(0.005)), "binary_cross_entropy", ["accuracy"], threads=1)
        model.fit(inside, y[train], epochs=60, verbose=0)
        found.append(model.evaluate(outside, y[test], verbose=0)["accuracy"])
    assert np.mean(found) >= 0.975


def test_diabetes():
    X, y = datasets.load_diabetes(return_X_y=True)
    found = []
    for train, test in selection.KFold(5, shuffle=True, random_state=0).split(X):
        inside, outside = standardized(X[train], X[test])
        target, held_out = standardized(y[train], y[test])
        layers = [fn.Dense(16, "tanh", kernel_regularizer=fn.L2(0.03)), fn.Dense(1, kernel_regularizer=fn.L2(0.03))]
        model = fn.Model([fn.Input(10), *layers], seed=0, dtype="float64")
        model.compile("lbfgs", "mse", ["r2"], threads=1)
        model.fit(inside, target, epochs=200, tolerance=1e-5, verbose=0)
        found.append(model.evaluate(outside, held_out, verbose=0)["r2"])
    assert np.mean(found) >= 0.48
