"""The command ``fastnn``: trains a network on handwritten digits, or on a table of the user's own."""

from __future__ import annotations

import argparse
import io
import math
import os
import shlex
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from . import __version__, checks, datasets, dispatch, scores
from .kernels.cores import cores
from .layers import Dense, Dropout, Input
from .model import Model
from .optimizers import Adam, AdamW
from .table import GAPS, Table, UserError, read_csv, read_lines
from .training import LEAST_STEPS as TRY_STEPS
from .workers import asked_for

#: The main job's settings: they reach 97.5 % and more on digits in five-fold cross-validation.
HIDDEN, EPOCHS, BATCH_SIZE, LEARNING_RATE, DROPOUT = (64, 64), 100, 32, 1e-3, 0.2

#: Of a table: steps that are tried at least (a small one makes few an epoch); the parts of a cross-validation, which
#: needs only one fit where rows are many; the weight decay. Chosen by the means over five seeds of 13 tables.
LEAST_STEPS, FOLDS, MANY_ROWS, WEIGHT_DECAY = 4500, 5, 10_000, 0.3

#: A score on the training rows that is above that on held-out rows by more than this is called overfitting.
GAP = 0.2


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    command = argparse.ArgumentParser(
        prog="fastnn",
        description="Train a dense network: on 1,797 handwritten digits, or on a table of your own.",
        epilog="example: fastnn --data iris.csv --target species --save iris.safetensors",
    )
    command.add_argument(
        "--device", default="auto", metavar="DEVICE", help=f"where to train: {', '.join(dispatch.DEVICES)} (auto)"
    )
    command.add_argument(
        "--epochs",
        type=int,
        help=f"times through the training rows (digits: {EPOCHS}; a table: as many as {FOLDS}-fold cross-validation on "
        "the training rows finds best, so that a small or noisy one is not learned by heart)",
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
    command.add_argument(
        "--without", metavar="COLUMN", nargs="+", action="extend", default=[], help="columns of --data to leave out"
    )
    command.add_argument(
        "--task", choices=("classification", "regression"), help="what the target is for (by default a guess)"
    )
    command.add_argument("--save", metavar="FILE.safetensors", help="where to save the trained model")
    command.add_argument("--version", action="version", version=f"fastnn {__version__}")
    return command


def build_model(inputs: int, outputs: int, task: str, hidden: tuple[int, ...] = HIDDEN, seed: int = 0) -> Model:
    """The main job's network: ReLU layers with dropout, and the output layer that fits the task."""
    layers: list[Any] = [Input(inputs)]
    for units in hidden:
        layers += [Dense(units, activation="relu"), Dropout(DROPOUT)]
    layers.append(Dense(outputs, activation="softmax" if task == "classification" else None))
    return Model(layers, seed=seed)


def split(table: Table, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers (training, held out): every fifth row of a shuffled table, class by class."""
    generator = np.random.default_rng(seed)
    rows = len(table.inputs)
    order = np.lexsort((generator.random(rows), table.targets)) if table.classes else generator.permutation(rows)
    return np.delete(order, slice(2, None, 5)), order[2::5]


def standardized(table: Table, training: np.ndarray) -> np.ndarray:
    """The inputs with mean 0 and deviation 1 over the training rows; gaps are filled with the mean."""
    x = table.inputs
    mean_of, deviation_of = (np.nanmean, np.nanstd) if table.gaps else (np.mean, np.std)
    with warnings.catch_warnings(action="ignore"):  # where a column has nothing but gaps in these rows
        mean, deviation = mean_of(x[training], axis=0), deviation_of(x[training], axis=0)
    filled: np.ndarray = np.nan_to_num((x - mean) / np.where(deviation > 0, deviation, 1))
    return filled


def warm_up(model: Model, x: np.ndarray, t: np.ndarray) -> None:
    """Compile, or load from the cache, all that a fit of ``model`` needs, so that no time of a step has any of it.

    A copy takes a few steps with two workers, as a fit may try to at any time, and with as many rows, for these choose
    how products are formed; a GPU takes one row each.
    """
    copy = model.copy()
    copy.threads = asked_for(model.threads) or min(2, cores())
    size = BATCH_SIZE if model.device == "cpu" else 1
    rows = size * TRY_STEPS
    copy.fit(x[:rows], t[:rows], batch_size=size)


def choose_epochs(model: Model, x: np.ndarray, y: np.ndarray) -> tuple[int, int]:
    """(epochs after which the mean loss of the rows left out was lowest, epochs tried), by cross-validation.

    A minimum counts that is not bettered for a third of the epochs tried: later ones are chance, where rows are few.
    model : compiled, it stays as it is; x : (rows, inputs), every fifth row is left out together, so y may be sorted or
    in random order. Above ``MANY_ROWS`` rows one fold stands for all, as its loss is exact enough.
    """
    tried = max(EPOCHS, -(-LEAST_STEPS // -(-len(x) // BATCH_SIZE)))
    rows, losses = np.arange(len(x)), np.zeros(tried)
    for fold in range(1 if len(x) > MANY_ROWS else FOLDS):
        out = rows % FOLDS == fold
        history = model.copy().fit(
            x[~out], y[~out], batch_size=BATCH_SIZE, epochs=tried, validation_data=(x[out], y[out])
        )
        losses += history["val_loss"]
    best = 0
    for epoch in range(tried):
        if epoch - best > tried // 3:
            break
        if losses[epoch] < losses[best]:
            best = epoch
    return best + 1, tried


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
    options.seed = checks.whole_number("--seed", options.seed, 0, 2**63 - 1)
    if (options.data is None) != (options.target is None):
        columns = read_lines(options.data, "")[2][:1] if options.data is not None and options.data.is_file() else []
        hint = f", one of {', '.join(name.strip() for name in columns[0])}" if columns else ""
        raise UserError(f"--data and --target go together: the file, and the column of it to predict{hint}")
    if options.save is not None:
        checks.model_file("--save", options.save)
    if options.data is None:
        for option, given in (("--task", options.task), ("--without", options.without)):
            if given:
                raise UserError(f"{option} goes with --data: the digits are classes of pictures")
        images, digits = datasets.digits()
        table = Table("handwritten digits (UCI)", images, digits, [str(digit) for digit in range(10)])
    else:
        table = read_csv(options.data, options.target, options.task, options.without)
    training, held_out = split(table, options.seed)
    task = "classification" if table.classes else "regression"
    inputs, targets = table.inputs, table.targets
    print(f"data: {table.name}, {len(training):,} rows to train on, {len(held_out):,} held out")
    if options.data is not None:
        inputs = standardized(table, training)
        kind = f"{len(table.classes)} classes" if table.classes else "numbers"
        why = "as --task says" if options.task else f"because column {options.target!r} holds {kind}"
        print(f"task: {task}, {why}")
        print("inputs: standardized with the means and deviations of the training rows")
        if table.texts:
            print(f"columns of text, as 0 and 1 for each text: {', '.join(table.texts)}")
        if table.gaps:
            print(f"gaps, filled with the mean of the training rows: {', '.join(table.gaps)}")
        if table.counts:
            ways = f"--without {shlex.join(table.counts)} leaves them out"
            print(f"columns that count the rows: {', '.join(table.counts)} ({ways})")
    center, scale = 0.0, 1.0
    if task == "regression":
        center, scale = float(targets[training].mean()), float(targets[training].std()) or 1.0
        targets = (targets - center) / scale

    model = build_model(inputs.shape[1], len(table.classes) or 1, task, hidden, options.seed)
    loss, metrics = ("cross_entropy", ["accuracy"]) if table.classes else ("mse", [])
    optimizer = Adam(LEARNING_RATE) if options.data is None else AdamW(LEARNING_RATE, WEIGHT_DECAY)
    model.compile(optimizer, loss, metrics, device=options.device, threads=options.threads)
    print(f"network: {'-'.join(str(n) for n in (model.inputs, *hidden, model.outputs))}", end="")
    print(f", ReLU, dropout {DROPOUT:g}, {model.count_parameters()[0]:,} parameters" if hidden else "")
    x, t = inputs[training].astype(np.float32), targets[training]
    warm_up(model, x, t)
    given = options.epochs is not None
    chosen = not given and options.data is not None
    if chosen:
        options.epochs, tried = choose_epochs(model, x, t)
        print(f"epochs: {options.epochs} of {tried} tried had the lowest loss on rows left out, in cross-validation")
    elif not given:
        options.epochs = EPOCHS
    started = time.perf_counter()
    model.fit(x, t, batch_size=BATCH_SIZE, epochs=options.epochs)
    seconds = time.perf_counter() - started
    steps = model.step
    print(f"training: {options.epochs} epoch{'s' * (options.epochs > 1)}, {steps:,} steps of {BATCH_SIZE} rows", end="")
    print(f" in {seconds:.2f} s, {1e6 * seconds / steps:.1f} µs a step")

    outputs, learned = model.predict(inputs[held_out]), model.predict(x)
    print()
    if table.classes:
        score, baseline = report_classes(table, targets[held_out], outputs.argmax(axis=1))
        trained = float((t == learned.argmax(axis=1)).mean())
    else:
        score, baseline = report_numbers(table.targets[held_out], outputs[:, 0] * scale + center)
        trained = r_squared(t, learned[:, 0])
    print(verdict("accuracy" if table.classes else "R²", score, baseline, trained, given), end="")
    print()
    if options.save is not None:
        model.save(options.save)
        print(f"saved: {options.save}{'' if options.data is None else ', for inputs that are standardized as below'}\n")
    print(recipe(options, table, hidden, loss, metrics, "  # epochs: by cross-validation" if chosen else ""))


def report_classes(table: Table, true: np.ndarray, predicted: np.ndarray) -> tuple[float, float]:
    """Print accuracy, baseline and confusion matrix; returns the first two."""
    common = Counter(true.tolist()).most_common(1)[0][1] / len(true)
    right = float((true == predicted).mean())
    print(f"accuracy on held-out rows: {right:.4f} (always the most frequent class: {common:.4f})")
    print("confusion matrix (rows: true, columns: predicted):")
    print(confusion_matrix(true, predicted, table.classes))
    return right, common


def r_squared(true: np.ndarray, predicted: np.ndarray) -> float:
    """``scores.r2``, but NaN where all targets are the same."""
    return scores.r2(true, predicted) if np.ptp(true) > 0 else math.nan


def report_numbers(true: np.ndarray, predicted: np.ndarray) -> tuple[float, float]:
    """Print R² and the typical error; returns R², or NaN, and that of always the mean."""
    error = float(np.square(true - predicted).mean())
    spread = float(np.square(true - true.mean()).mean())
    score = r_squared(true, predicted)
    if math.isnan(score):
        print("R² on held-out rows: none, as all have the same target")
    else:
        print(f"R² on held-out rows: {score:.4f} (always the mean: 0)")
    print(f"root mean squared error: {error**0.5:.4g} (always the mean: {spread**0.5:.4g})")
    return score, 0.0


def verdict(name: str, score: float, baseline: float, trained: float, given: bool) -> str:
    """Lines that say whether the network has learned anything that holds, and whether it overfits; NaN says nothing.

    given : the user said how many epochs.
    """
    said = f"{name} on training rows: {trained:.4f}\n"
    if score <= baseline:
        always = "always the mean" if name == "R²" else "always the most frequent class"
        said += f"The network is no better than {always}: it found nothing in these columns that helps on new rows.\n"
    if trained - score > GAP:
        said += "The network overfits: it is much better on the rows that it was trained on.\n"
        ways = ["more rows", "fewer columns", "a smaller network (--hidden 16)", *(["no --epochs"] if given else [])]
        said += f"What may help: {', '.join(ways)}.\n"
    return said


def recipe(
    options: argparse.Namespace, table: Table, hidden: tuple[int, ...], loss: str, metrics: list[str], why: str
) -> str:
    """A program that makes the same model, from the same rows."""
    layers = "".join(f'\n    fn.Dense({units}, activation="relu"), fn.Dropout({DROPOUT:g}),' for units in hidden)
    last = f'fn.Dense({len(table.classes)}, activation="softmax")' if table.classes else "fn.Dense(1)"
    where = "" if options.device == "auto" else f', device="{options.device}"'
    where += "" if options.threads is None else f", threads={options.threads}"
    delimiter = "" if table.delimiter == "," else f", delimiter={table.delimiter!r}"
    numbers = "np.array(texts, float)" if table.numeric else "texts"
    targets = f"classes, y = np.unique({numbers}, return_inverse=True)" if table.classes else f"y = {numbers}"
    without = ""
    if options.without:
        without = f"""kept = [place for place, name in enumerate(header) if name.strip() not in {options.without}]
header, *rows = [[row[place] for place in kept] for row in (header, *rows)]
"""
    inputs = "X = np.array(rows, float)"
    if table.texts or table.gaps:
        inputs = f"""X = []
for column in np.array([[text.strip() for text in row] for row in rows]).T:
    known = ~np.isin(np.char.lower(column), {list(GAPS)})
    try:
        numbers = np.full(len(column), np.nan)
        numbers[known] = column[known].astype(float)
        X.append(numbers)
    except ValueError:  # text: 0 and 1 for each, or for one of two
        different = np.unique(column)
        X += [column == text for text in different[len(different) == 2 :]]
X = np.stack(X, axis=1).astype(float)"""
    load = f"""
with open({table.name!r}, newline="", encoding="utf-8-sig") as file:
    header, *rows = [row for row in csv.reader(file{delimiter}) if row]
{without}place = [name.strip() for name in header].index({options.target!r})
texts = [row.pop(place).strip() for row in rows]
{inputs}
{targets}
"""
    by_class = f"np.lexsort((np.random.default_rng({options.seed}).random(len(X)), y))  # class by class"
    order = by_class if table.classes else f"np.random.default_rng({options.seed}).permutation(len(X))"
    standardize = """mean, deviation = X[training].mean(axis=0), X[training].std(axis=0)
X = (X - mean) / np.where(deviation > 0, deviation, 1)
"""
    if table.gaps:
        standardize = """mean, deviation = np.nanmean(X[training], axis=0), np.nanstd(X[training], axis=0)
X = np.nan_to_num((X - mean) / np.where(deviation > 0, deviation, 1))  # the mean in gaps
"""
    if not table.classes:
        standardize += """center, scale = y[training].mean(), y[training].std() or 1.0
y = (y - center) / scale
"""
    digits = options.data is None
    optimizer = f"Adam({LEARNING_RATE:g})" if digits else f"AdamW({LEARNING_RATE:g}, weight_decay={WEIGHT_DECAY:g})"
    return f"""The same from Python:

{"" if digits else "import csv"}
import numpy as np
import fastnn as fn
{"X, y = fn.datasets.digits()" if digits else load}
order = {order}
training, held_out = np.delete(order, slice(2, None, 5)), order[2::5]
{"" if digits else standardize}
model = fn.Model([
    fn.Input({table.inputs.shape[1]}),{layers}
    {last},
], seed={options.seed})
model.compile(fn.{optimizer}, "{loss}", {metrics}{where})
model.fit(X[training], y[training], batch_size={BATCH_SIZE}, epochs={options.epochs}){why}
{"" if options.save is None else f"model.save({options.save!r})"}
print(model.evaluate(X[held_out], y[held_out]))
predictions = model.predict(X[held_out]){"" if table.classes else " * scale + center"}""".replace("\n\n\n", "\n\n")


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal or a pipe may lack a letter of the table, or µ
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has seen enough, as in fastnn | head -3
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still to be flushed
        return 141  # 128 + SIGPIPE, as of a program that the signal ends
    except (UserError, OSError, ValueError, TypeError, RuntimeError, FloatingPointError, MemoryError) as fault:
        print(f"fastnn: {fault}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("fastnn: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
