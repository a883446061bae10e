"""The command ``fastnn``."""

import subprocess
import sys

import numpy as np
import pytest

import fastnn as fn
from fastnn.__main__ import BATCH_SIZE, EPOCHS, HIDDEN, LEARNING_RATE, build_model, main
from fastnn.kernels.jit import COMPILED

EPOCH_OPTION = ["--epochs", "100" if COMPILED else "1", "--hidden", "64,64" if COMPILED else "4"]


def table(tmp_path, lines, name="table.csv"):
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def flowers(seed=0):
    generator = np.random.default_rng(seed)
    rows = ["length,width,species"]
    for number in range(90):
        kind = number % 3
        rows.append(f"{generator.normal(3 * kind, 0.5):.3f},{generator.normal(-kind, 0.5):.3f},{'abc'[kind]}")
    return rows


def test_digits(capsys):
    assert main(EPOCH_OPTION) == 0
    printed = capsys.readouterr().out
    for words in (
        "handwritten digits (UCI), 1,438 rows to train on, 359 held out",
        "µs a step",
        "accuracy on held-out rows: 0.",
        "confusion matrix",
        "The same from Python",
        "fn.datasets.digits()",
    ):
        assert words in printed
    if COMPILED:
        accuracy = float(printed.split("accuracy on held-out rows: ")[1].split()[0])
        assert accuracy > 0.96


@pytest.mark.skipif(not COMPILED, reason="takes long in plain Python")
def test_the_main_jobs_settings_reach_their_accuracy_in_five_folds():
    X, y = fn.datasets.digits()
    folds = np.array_split(np.random.default_rng(0).permutation(len(X)), 5)
    accuracies = []
    for number, held_out in enumerate(folds):
        training = np.concatenate([fold for fold in folds if fold is not held_out])
        model = build_model(64, 10, "classification", HIDDEN, seed=number)
        model.compile(fn.Adam(LEARNING_RATE), "cross_entropy", ["accuracy"])
        model.fit(X[training], y[training], batch_size=BATCH_SIZE, epochs=EPOCHS)
        accuracies.append(model.evaluate(X[held_out], y[held_out])["accuracy"])
    assert np.mean(accuracies) >= 0.975


@pytest.mark.skipif(not COMPILED, reason="takes long in plain Python")
def test_a_table_with_text_classes(capsys, tmp_path):
    options = ["--data", table(tmp_path, flowers()), "--target", "species", "--hidden", "8"]
    assert main(options) == 0
    printed = capsys.readouterr().out
    assert "task: classification, because column 'species' holds 3 classes" in printed
    assert "standardized with the means and deviations of the training rows" in printed
    accuracy = float(printed.split("accuracy on held-out rows: ")[1].split()[0])
    assert accuracy > 0.8


@pytest.mark.skipif(not COMPILED, reason="takes long in plain Python")
def test_a_table_with_numbers_to_predict(capsys, tmp_path):
    generator = np.random.default_rng(0)
    x = generator.standard_normal((100, 2))
    lines = ["a,b,price", *(f"{a},{b},{1000 + 50 * a - 20 * b}" for a, b in x)]
    options = ["--data", table(tmp_path, lines), "--target", "price", "--epochs", "1500", "--hidden", "0"]
    assert main(options) == 0
    printed = capsys.readouterr().out
    assert "task: regression, because column 'price' holds numbers" in printed
    assert float(printed.split("R² on held-out rows: ")[1].split()[0]) > 0.8


def test_whole_numbers_with_few_values_are_classes(capsys, tmp_path):
    lines = ["a,grade", *(f"{number / 10},{number // 34 + 1}" for number in range(100))]
    assert main(["--data", table(tmp_path, lines), "--target", "grade", "--epochs", "2"]) == 0
    printed = capsys.readouterr().out
    assert "holds 3 classes" in printed and "    1    2    3" in printed


#: name -> (lines of the table or None, options, words of the error).
MISTAKES = {
    "no such file": (None, ["--data", "nowhere.csv", "--target", "x"], "nowhere.csv"),
    "no target": (None, ["--data", "nowhere.csv"], "--data and --target go together"),
    "target alone": (None, ["--target", "x"], "--data and --target go together"),
    "unknown column": (flowers(), ["--target", "kind"], "'kind' is not a column"),
    "too few rows": (flowers()[:5], ["--target", "species"], "has 4 rows below its header"),
    "text in a column": ([*flowers(), "tall,1,a"], ["--target", "species"], "line 92: column 'length' has 'tall'"),
    "a gap": ([*flowers(), "1,,a"], ["--target", "species"], "line 92: column 'width' has ''"),
    "a gap in the target": ([*flowers(), "1,1,"], ["--target", "species"], "line 92: column 'species' is empty"),
    "a short line": ([*flowers(), "1,a"], ["--target", "species"], "line 92: 2 fields; expected 3"),
    "no inputs": (["y", *map(str, range(20))], ["--target", "y"], "has no column besides 'y'"),
    "hidden": (None, ["--hidden", "64,many"], "--hidden '64,many'"),
    "hidden negative": (None, ["--hidden", "-4"], "units is -4"),
    "epochs": (None, ["--epochs", "0"], "epochs is 0"),
    "threads": (None, ["--threads", "0"], "threads is 0"),
    "cuda": (None, ["--device", "cuda"], 'device is "cuda", but'),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_told_in_a_line(name, capsys, tmp_path):
    lines, options, words = MISTAKES[name]
    if lines is not None:
        options = ["--data", table(tmp_path, lines), *options]
    assert main(options) == 2
    error = capsys.readouterr().err
    assert error.startswith("fastnn: ") and error.count("\n") == 1
    assert words in error


def test_it_runs_as_a_module_and_explains_itself():
    done = subprocess.run(
        [sys.executable, "-m", "fastnn", "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    for option in ("--device", "--epochs", "--hidden", "--seed", "--threads", "--data", "--target"):
        assert option in done.stdout
