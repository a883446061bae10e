"""The command ``fastnn``: trains a network on handwritten digits, or on a table of the user's own."""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import __version__, datasets, dispatch
from .layers import Dense, Dropout, Input
from .model import Model
from .optimizers import Adam

__all__ = ["build_model", "main"]

#: The main job's settings: they reach 97.5 % and more on digits in five-fold cross-validation.
HIDDEN, EPOCHS, BATCH_SIZE, LEARNING_RATE, DROPOUT = (64, 64), 100, 32, 1e-3, 0.2

#: Steps at least, where the user does not say how many epochs: a small table makes few in an epoch.
LEAST_STEPS = 4500

#: A column of whole numbers with at most this many different values is taken for classes.
MOST_CLASSES = 20


@dataclass
class Table:
    """A data set ready to train on: standardized or scaled inputs, targets, and what to say about them."""

    name: str
    inputs: np.ndarray
    targets: np.ndarray
    classes: list[str]  # empty: regression
    columns: int


class UserError(Exception):
    """Something that the user can mend; shown without a traceback."""


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    command = argparse.ArgumentParser(
        prog="fastnn",
        description="Train a dense network: on 1,797 handwritten digits, or on a table of your own.",
        epilog="example: fastnn --data iris.csv --target species --hidden 16 --epochs 200",
    )
    command.add_argument(
        "--device", default="auto", metavar="DEVICE", help=f"where to train: {', '.join(dispatch.DEVICES)} (auto)"
    )
    command.add_argument(
        "--epochs", type=int, help=f"times through the training rows ({EPOCHS}; more where these make few steps)"
    )
    command.add_argument(
        "--hidden",
        default=",".join(map(str, HIDDEN)),
        help="widths of the hidden layers, such as 64,64; 0 for none (%(default)s)",
    )
    command.add_argument("--seed", type=int, default=0, help="of the split, the weights and the dropout (0)")
    command.add_argument("--threads", type=int, help="workers (as many as pay for themselves)")
    command.add_argument("--data", type=Path, metavar="FILE.csv", help="a table with a header row, instead of digits")
    command.add_argument("--target", metavar="COLUMN", help="the column of --data to predict")
    command.add_argument("--version", action="version", version=f"fastnn {__version__}")
    return command


def build_model(inputs: int, outputs: int, task: str, hidden: tuple[int, ...] = HIDDEN, seed: int = 0) -> Model:
    """The main job's network: ReLU layers with dropout, and the output layer that fits the task."""
    layers: list[Any] = [Input(inputs)]
    for units in hidden:
        layers += [Dense(units, activation="relu"), Dropout(DROPOUT)]
    layers.append(Dense(outputs, activation="softmax" if task == "classification" else None))
    return Model(layers, seed=seed)


def read_csv(path: Path, target: str) -> Table:
    """The table in ``path``; ``target`` names the column to predict."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = [line for line in csv.reader(file) if line]
    except (OSError, UnicodeDecodeError, csv.Error) as fault:
        raise UserError(f"--data {path}: {fault}") from None
    if len(lines) < 11:
        raise UserError(f"--data {path} has {max(0, len(lines) - 1)} rows below its header; expected at least 10")
    header = [name.strip() for name in lines[0]]
    if target not in header:
        raise UserError(f"--target {target!r} is not a column of {path}; its columns are {', '.join(header)}")
    for number, line in enumerate(lines, start=1):
        if len(line) != len(header):
            raise UserError(f"{path}, line {number}: {len(line)} fields; expected {len(header)}, as in the header")
    place = header.index(target)
    inputs = np.empty((len(lines) - 1, len(header) - 1), np.float64)
    for row, line in enumerate(lines[1:]):
        for column, text in enumerate(line[:place] + line[place + 1 :]):
            inputs[row, column] = _number(path, row + 2, [*header[:place], *header[place + 1 :]][column], text)
    if inputs.shape[1] == 0:
        raise UserError(f"{path} has no column besides {target!r}; expected at least one to predict from")
    texts = [line[place].strip() for line in lines[1:]]
    if "" in texts:
        raise UserError(f"{path}, line {texts.index('') + 2}: column {target!r} is empty; expected a value")
    targets, classes = _targets(texts)
    return Table(str(path), inputs, targets, classes, inputs.shape[1])


def _number(path: Path, line: int, column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise UserError(
            f"{path}, line {line}: column {column!r} has {text!r}; expected a number "
            "(leave rows with gaps and columns of text out)"
        )
    return value


def _targets(texts: list[str]) -> tuple[np.ndarray, list[str]]:
    """(targets, names of the classes); no classes where the column is for a regression."""
    try:
        values = np.array([float(text) for text in texts])
        numeric = bool(np.isfinite(values).all())
    except ValueError:
        numeric = False
    if numeric and (len(set(values)) > MOST_CLASSES or (values != np.round(values)).any()):
        return values, []
    names = sorted(set(texts), key=float) if numeric else sorted(set(texts))
    return np.array([names.index(text) for text in texts]), names


def split(table: Table, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers (training, held out): every fifth row of a shuffled table, class by class."""
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(table.inputs))
    if table.classes:
        order = order[np.argsort(table.targets[order], kind="stable")]
    held_out = np.zeros(len(order), bool)
    held_out[order[generator.integers(5) :: 5]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def confusion_matrix(true: np.ndarray, predicted: np.ndarray, names: list[str]) -> str:
    """A table of counts: a row for each true class, a column for each predicted one."""
    counts = np.zeros((len(names), len(names)), int)
    np.add.at(counts, (true, predicted), 1)
    width = max(5, max(map(len, names)) + 1, len(str(counts.max())) + 1)
    lines = [" " * width + "".join(name.rjust(width) for name in names)]
    for name, row in zip(names, counts, strict=True):
        lines.append(name.rjust(width) + "".join((str(count) if count else ".").rjust(width) for count in row))
    return "\n".join(lines)


def run(options: argparse.Namespace) -> None:
    """Load, train, and print how well it went."""
    try:
        hidden = tuple(int(width) for width in options.hidden.split(",") if int(width) != 0)
    except ValueError:
        raise UserError(f"--hidden {options.hidden!r}; expected widths such as 64,64, or 0 for none") from None
    if (options.data is None) != (options.target is None):
        raise UserError("--data and --target go together: the file, and the column of it to predict")
    if options.data is None:
        images, digits = datasets.digits()
        table = Table("handwritten digits (UCI)", images, digits, [str(digit) for digit in range(10)], 64)
    else:
        table = read_csv(options.data, options.target)
    training, held_out = split(table, options.seed)
    if options.epochs is None:
        options.epochs = max(EPOCHS, -(-LEAST_STEPS // -(-len(training) // BATCH_SIZE)))
    task = "classification" if table.classes else "regression"
    inputs, targets = table.inputs, table.targets
    print(f"data: {table.name}, {len(training):,} rows to train on, {len(held_out):,} held out")
    if options.data is not None:
        mean, deviation = inputs[training].mean(axis=0), inputs[training].std(axis=0)
        inputs = (inputs - mean) / np.where(deviation > 0, deviation, 1)
        kind = f"{len(table.classes)} classes" if table.classes else "numbers"
        print(f"task: {task}, because column {options.target!r} holds {kind}")
        print("inputs: standardized with the means and deviations of the training rows")
    center, scale = 0.0, 1.0
    if task == "regression":
        center, scale = float(targets[training].mean()), float(targets[training].std()) or 1.0
        targets = (targets - center) / scale

    model = build_model(inputs.shape[1], len(table.classes) or 1, task, hidden, options.seed)
    loss, metrics = ("cross_entropy", ["accuracy"]) if table.classes else ("mse", [])
    model.compile(Adam(LEARNING_RATE), loss, metrics, device=options.device, threads=options.threads)
    print(f"network: {'-'.join(str(n) for n in (model.inputs, *hidden, model.outputs))}", end="")
    print(f", ReLU, dropout {DROPOUT:g}, {model.count_parameters()[0]:,} parameters" if hidden else "")
    x, t = inputs[training].astype(np.float32), targets[training]
    model.copy().fit(x[:1], t[:1])  # compiles, or loads from the cache: not part of the time below
    started = time.perf_counter()
    model.fit(x, t, batch_size=BATCH_SIZE, epochs=options.epochs)
    seconds = time.perf_counter() - started
    steps = model.step
    print(f"training: {options.epochs} epochs, {steps:,} steps of {BATCH_SIZE} rows", end="")
    print(f" in {seconds:.2f} s, {1e6 * seconds / steps:.1f} µs a step")

    outputs = model.predict(inputs[held_out])
    print()
    if table.classes:
        report_classes(table, targets[held_out], outputs.argmax(axis=1))
    else:
        report_numbers(table.targets[held_out], outputs[:, 0] * scale + center)
    print()
    print(recipe(options, table, hidden, loss, metrics))


def report_classes(table: Table, true: np.ndarray, predicted: np.ndarray) -> None:
    """Print accuracy, baseline and confusion matrix."""
    common = Counter(true.tolist()).most_common(1)[0][1] / len(true)
    right = float((true == predicted).mean())
    print(f"accuracy on held-out rows: {right:.4f} (always the most frequent class: {common:.4f})")
    print("confusion matrix (rows: true, columns: predicted):")
    print(confusion_matrix(true, predicted, table.classes))


def report_numbers(true: np.ndarray, predicted: np.ndarray) -> None:
    """Print R² and the typical error."""
    error = float(np.square(true - predicted).mean())
    spread = float(np.square(true - true.mean()).mean())
    print(f"R² on held-out rows: {1 - error / spread if spread > 0 else float('nan'):.4f} (always the mean: 0)")
    print(f"root mean squared error: {error**0.5:.4g} (always the mean: {spread**0.5:.4g})")


def recipe(options: argparse.Namespace, table: Table, hidden: tuple[int, ...], loss: str, metrics: list[str]) -> str:
    """The same from Python."""
    layers = "".join(f'\n    fn.Dense({units}, activation="relu"), fn.Dropout({DROPOUT:g}),' for units in hidden)
    last = f'fn.Dense({len(table.classes)}, activation="softmax")' if table.classes else "fn.Dense(1)"
    load = "X, y = fn.datasets.digits()" if options.data is None else "X, y = ...  # your columns, standardized"
    device = "" if options.device == "auto" else f', device="{options.device}"'
    return f"""The same from Python:

import fastnn as fn
{load}
model = fn.Model([
    fn.Input({table.columns}),{layers}
    {last},
], seed={options.seed})
model.compile(fn.Adam({LEARNING_RATE:g}), "{loss}", {metrics}{device})
model.fit(X, y, batch_size={BATCH_SIZE}, epochs={options.epochs}, validation_split=0.2)
model.predict(X)"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = parser().parse_args(arguments)
    try:
        run(options)
    except (UserError, ValueError, TypeError, RuntimeError, FloatingPointError, MemoryError) as fault:
        print(f"fastnn: {fault}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("fastnn: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
