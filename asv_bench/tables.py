"""What fastnn and scikit-learn's MLP reach on small tables, on rows held out: at defaults, and at equal settings.

python -m asv_bench.tables [--tables digits wine ...] [--ways defaults ...] [--seeds 5] [--output FOLDER]

Nothing is downloaded: the tables are those that come with scikit-learn, or are made by it. A quarter of the rows is
held out; columns, and the targets of a regression, are standardized with the means and deviations of the other rows. A
seed is of the split and of the network. Each library computes in the type that it takes for such tables: scikit-learn
in float64, fastnn in float32. One process, one thread; the libraries take turns, fastnn is compiled before.
The score is the accuracy, R² for a regression, the average precision where a class is rare, and the share of labels
that are right where a row has several. The folder gets tables.json.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import time
import warnings
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of BLAS, before it is loaded

import numpy as np
from sklearn import datasets, metrics, model_selection, neural_network, preprocessing

import fastnn as fn
from asv_bench.compare import description

TABLES: dict[str, tuple[str, Callable[[int], Any]]] = {
    "iris": ("classes", lambda seed: datasets.load_iris(return_X_y=True)),
    "wine": ("classes", lambda seed: datasets.load_wine(return_X_y=True)),
    "breast cancer": ("classes", lambda seed: datasets.load_breast_cancer(return_X_y=True)),
    "digits": ("classes", lambda seed: datasets.load_digits(return_X_y=True)),
    "moons, noise 0.3": ("classes", lambda seed: datasets.make_moons(1000, noise=0.3, random_state=seed)),
    "45 of 50 columns noise": (
        "classes",
        lambda seed: datasets.make_classification(1000, 50, n_informative=5, n_redundant=0, random_state=seed),
    ),
    "one in twenty": (
        "rare",
        lambda seed: datasets.make_classification(
            2000, 20, n_informative=5, weights=[0.95], class_sep=0.8, random_state=seed
        ),
    ),
    "several labels": (
        "labels",
        lambda seed: datasets.make_multilabel_classification(1000, n_classes=5, random_state=seed),
    ),
    "diabetes": ("numbers", lambda seed: datasets.load_diabetes(return_X_y=True)),
    "Friedman 1": ("numbers", lambda seed: datasets.make_friedman1(1000, noise=1.0, random_state=seed)),
    "Friedman 2": ("numbers", lambda seed: datasets.make_friedman2(1000, noise=50.0, random_state=seed)),
    "Friedman 3": ("numbers", lambda seed: datasets.make_friedman3(1000, noise=0.1, random_state=seed)),
    "linear, 3 outputs": (
        "numbers",
        lambda seed: datasets.make_regression(1000, 20, n_informative=10, n_targets=3, noise=20.0, random_state=seed),
    ),
}
TABLES["diabetes, targets as they are"] = TABLES["diabetes"]
TABLES["Friedman 1, targets as they are"] = TABLES["Friedman 1"]


def split(name: str, seed: int) -> tuple[str, list[np.ndarray]]:
    """What is predicted, and X to train, X held out, y to train, y held out."""
    kind, made = TABLES[name]
    X, y = made(seed)
    parts = model_selection.train_test_split(
        X, y, random_state=seed, stratify=y if kind in ("classes", "rare") else None
    )
    scale = preprocessing.StandardScaler().fit(parts[0])
    parts[:2] = scale.transform(parts[0]), scale.transform(parts[1])
    if kind == "numbers":
        parts[2:] = [y.reshape(len(y), -1) for y in parts[2:]]
        if not name.endswith("as they are"):
            scale = preprocessing.StandardScaler().fit(parts[2])
            parts[2:] = scale.transform(parts[2]), scale.transform(parts[3])
    return kind, parts


def score(kind: str, y: np.ndarray, outputs: np.ndarray) -> float:
    """outputs : probabilities, or the numbers themselves, (rows, outputs)."""
    if kind == "numbers":
        return float(metrics.r2_score(y, outputs))
    if kind == "labels":
        return float(np.mean((outputs > 0.5) == y))
    if kind == "rare":
        return float(metrics.average_precision_score(y, outputs[:, -1]))
    return float(np.mean(outputs.argmax(axis=1) == y))


def layers(
    kind: str, X: np.ndarray, y: np.ndarray, hidden: tuple[int, ...], dropout: float = 0.0, penalty: Any = None
) -> list[Any]:
    made: list[Any] = [fn.Input(X.shape[1])]
    for units in hidden:
        made.append(fn.Dense(units, "relu", kernel_regularizer=penalty))
        if dropout:
            made.append(fn.Dropout(dropout))
    if kind in ("classes", "rare"):
        return [*made, fn.Dense(int(y.max()) + 1, "softmax", kernel_regularizer=penalty)]
    return [*made, fn.Dense(y.shape[1], "sigmoid" if kind == "labels" else None, kernel_regularizer=penalty)]


def penalty(kind: str, y: np.ndarray, batch: int) -> fn.L2:
    """scikit-learn's default, which it adds to a loss that is fastnn's times a factor: see the guide."""
    factor = {"numbers": y.shape[-1] / 2, "labels": y.shape[-1]}.get(kind, 1.0)
    return fn.L2(1e-4 / 2 / batch / factor)


LOSSES = {"classes": "cross_entropy", "rare": "cross_entropy", "labels": "binary_cross_entropy", "numbers": "mse"}


def of_fastnn(
    kind: str, X: np.ndarray, y: np.ndarray, seed: int, made: Any, **fit: Any
) -> Callable[[np.ndarray], np.ndarray]:
    model = fn.Model(made, seed=seed)
    model.compile(fn.Adam(1e-3), LOSSES[kind], threads=1)
    model.fit(X, y, verbose=0, **fit)
    return model.predict


def of_scikit_learn(
    kind: str, X: np.ndarray, y: np.ndarray, seed: int, **settings: Any
) -> Callable[[np.ndarray], np.ndarray]:
    if kind == "numbers":
        model = neural_network.MLPRegressor(random_state=seed, **settings).fit(X, y if y.shape[1] > 1 else y[:, 0])
        return lambda X: model.predict(X).reshape(len(X), -1)
    return neural_network.MLPClassifier(random_state=seed, **settings).fit(X, y).predict_proba


def command(kind: str, X: np.ndarray, y: np.ndarray, seed: int) -> Any:
    """fastnn as its command does it."""
    from fastnn.__main__ import BATCH_SIZE, DROPOUT, LEARNING_RATE, WEIGHT_DECAY, choose_epochs

    order = np.argsort(y, kind="stable") if kind in ("classes", "rare") else np.arange(len(X))
    X, y = X[order], y[order]
    model = fn.Model(layers(kind, X, y, (64, 64), DROPOUT), seed=seed)
    model.compile(fn.AdamW(LEARNING_RATE, WEIGHT_DECAY), LOSSES[kind], threads=1)
    model.fit(X, y, verbose=0, batch_size=BATCH_SIZE, epochs=choose_epochs(model, X, y)[0])
    return model.predict


def translated(kind: str, X: np.ndarray, y: np.ndarray, seed: int) -> Any:
    """scikit-learn's defaults, by the table of the guide."""
    batch = min(200, len(X))
    stop = fn.EarlyStopping("loss", min_delta=1e-4, patience=10)
    made = layers(kind, X, y, (100,), penalty=penalty(kind, y, batch))
    return of_fastnn(kind, X, y, seed, made, epochs=200, batch_size=batch, callbacks=[stop])


def equal(kind: str, X: np.ndarray, y: np.ndarray, seed: int) -> Any:
    made = layers(kind, X, y, (64, 64), penalty=penalty(kind, y, 32))
    return of_fastnn(kind, X, y, seed, made, epochs=100)


def equal_of_scikit_learn(kind: str, X: np.ndarray, y: np.ndarray, seed: int) -> Any:
    settings = {"hidden_layer_sizes": (64, 64), "batch_size": 32, "max_iter": 100, "tol": 0, "n_iter_no_change": 1000}
    return of_scikit_learn(kind, X, y, seed, **settings)


def stopped(kind: str, X: np.ndarray, y: np.ndarray, seed: int) -> Any:
    made = layers(kind, X, y, (64, 64), penalty=penalty(kind, y, 32))
    stop = fn.EarlyStopping(patience=10)
    return of_fastnn(kind, X, y, seed, made, epochs=200, validation_split=0.1, callbacks=[stop])


def stopped_of_scikit_learn(kind: str, X: np.ndarray, y: np.ndarray, seed: int) -> Any:
    settings = {"hidden_layer_sizes": (64, 64), "batch_size": 32, "early_stopping": True}
    return of_scikit_learn(kind, X, y, seed, **settings)


WAYS: dict[str, dict[str, Any]] = {
    "defaults": {"scikit-learn": of_scikit_learn, "fastnn": translated, "the command": command},
    "equal": {"scikit-learn": equal_of_scikit_learn, "fastnn": equal},
    "early stopping": {"scikit-learn": stopped_of_scikit_learn, "fastnn": stopped},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--tables", nargs="+", default=list(TABLES), choices=list(TABLES))
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--output", type=pathlib.Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # that 200 epochs are few
    for kind in ("classes", "labels", "numbers"):  # what is compiled is compiled now
        X = np.random.default_rng(0).normal(size=(40, 3))
        y = np.arange(40) % 3 if kind == "classes" else (X > 0).astype(float)
        for way in (translated, command, stopped):
            way(kind, X, y, 0)(X)
    found: list[dict[str, Any]] = []
    for name in options.tables:
        for way in options.ways:
            results: dict[str, list[tuple[float, float]]] = {which: [] for which in WAYS[way]}
            for seed in range(options.seeds):
                kind, (X, X_out, y, y_out) = split(name, seed)
                for which, train in WAYS[way].items():
                    started = time.perf_counter()
                    predict = train(kind, X, y, seed)
                    seconds = time.perf_counter() - started
                    results[which].append((score(kind, y_out, predict(X_out)), seconds))
            text = f"{name:32} {way:15}"
            for which, pairs in results.items():
                scores, times = np.transpose(pairs)
                text += f" | {which} {scores.mean():.3f} ± {scores.std(ddof=1):.3f}, {np.median(times):.2f} s"
                found.append({"table": name, "way": way, "which": which, "scores": [*scores], "seconds": [*times]})
            print(text, flush=True)
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"machine": description(argparse.Namespace(avx2=False)), "results": found}, indent=1)
        (options.output / "tables.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
