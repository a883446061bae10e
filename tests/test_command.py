"""The command ``fastnn``."""

import os
import subprocess
import sys

import numpy as np
import pytest

import fastnn as fn
from fastnn.__main__ import (
    BATCH_SIZE,
    EPOCHS,
    HIDDEN,
    LEARNING_RATE,
    build_model,
    choose_epochs,
    confusion_matrix,
    main,
    verdict,
)
from fastnn.kernels.jit import COMPILED

EPOCH_OPTION = ["--epochs", "100" if COMPILED else "1", "--hidden", "64,64" if COMPILED else "4"]


def table(tmp_path, lines, name="table.csv", encoding="utf-8"):
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
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


def test_the_confusion_matrix_has_a_row_for_each_true_class():
    text = confusion_matrix(np.array([0, 1, 1, 1]), np.array([0, 0, 1, 1]), ["no", "yes"])
    assert [line.split() for line in text.splitlines()] == [["no", "yes"], ["no", "1", "."], ["yes", "1", "2"]]


def test_names_of_digits_and_underscores_are_no_numbers(capsys, tmp_path):
    names = ["1_1", "11", "2_1"]  # Python reads the first two as one number
    path = table(tmp_path, ["x,y", *(f"{number},{names[number % 3]}" for number in range(60))])
    assert main(["--data", path, "--target", "y", "--task", "classification", "--epochs", "1"]) == 0
    assert "64-64-3" in capsys.readouterr().out


def test_columns_that_count_the_rows_are_named_and_left_out_one_by_one(capsys, tmp_path):
    lines = ["id,a,number,y", *(f"{row},{row % 7},{row + 100},{row % 2}" for row in range(60))]
    options = ["--data", table(tmp_path, lines), "--target", "y", "--epochs", "1"]
    assert main(options) == 0
    assert "columns that count the rows: id, number (--without id number leaves" in capsys.readouterr().out
    assert main([*options, "--without", "id", "--without", "number"]) == 0
    printed = capsys.readouterr().out
    assert "count the rows" not in printed and "network: 1-64-64-2" in printed


def test_whole_numbers_with_few_values_are_classes(capsys, tmp_path):
    lines = ["a,grade", *(f"{number / 10},{number // 34 + 1}" for number in range(100))]
    assert main(["--data", table(tmp_path, lines), "--target", "grade", "--epochs", "2"]) == 0
    printed = capsys.readouterr().out
    assert "holds 3 classes" in printed and "    1    2    3" in printed


def prices(rows=100, seed=0):
    x = np.random.default_rng(seed).standard_normal((rows, 2)).round(3)
    return ["a,b,price", *(f"{a},{b},{1000 + 50 * a - 20 * b:.2f}" for a, b in x)]


GRADES = ["x,grade,constant", *(f"{number / 10},{'1 2.0 10'.split()[number * 3 // 99]},7" for number in range(99))]

MIXED = [
    'id,"name, first",sex,age,port,member,fare,survived',
    *(
        f'{row},"no, {row}",{"fm"[row % 2]},{"NA" if row % 5 == 0 else row / 7},{["S", "C", ""][row % 3]},'
        f"{row % 4 == 0},{row * 3 % 7 / 2},{'yes' if row % 11 < 4 else 'no'}"
        for row in range(60)
    ),
]

#: name -> (lines of a table, or None for the digits; options): what the printed program reproduces.
REPRODUCED = {
    "digits": (None, ["--seed", "3"]),
    "text classes": (flowers(), ["--target", "species"]),
    "semicolons": ([line.replace(",", ";") for line in flowers()], ["--target", "species"]),
    "tabs": ([line.replace(",", "\t") for line in flowers()], ["--target", "species", "--threads", "1"]),
    "numbers as classes": (GRADES, ["--target", "grade"]),
    "numbers of three values": (GRADES, ["--target", "grade", "--task", "regression", "--hidden", "0"]),
    "prices": (prices(), ["--target", "price", "--device", "cpu"]),
    "prices as classes": (prices()[:20] + prices()[1:20], ["--target", "price", "--task", "classification"]),
    "text and gaps": (MIXED, ["--target", "survived", "--without", "id", "name, first"]),
    "text": (MIXED, ["--target", "survived", "--without", "id", "name, first", "age"]),
    "forty texts": (["town,y", *(f"t{row % 40},{row % 7 / 2}" for row in range(800))], ["--target", "y"]),
    "gaps": (MIXED, ["--target", "fare", "--without", "sex", "port", "name, first", "member", "survived"]),
    "spaces and empty lines": (
        ["", *(f" {line.replace(',', ' , ')} " for line in flowers()), ""],
        ["--target", "species"],
    ),
}


@pytest.mark.parametrize("name", REPRODUCED)
def test_the_printed_program_makes_the_same_model(name, capsys, tmp_path):
    lines, options = REPRODUCED[name]
    if lines is not None:
        options = ["--data", table(tmp_path, lines), *options]
    path = str(tmp_path / "m.safetensors")
    assert main(["--epochs", "2", "--hidden", "4", *options, "--save", path]) == 0
    printed = capsys.readouterr().out
    assert f"saved: {path}" in printed
    saved = fn.load(path)
    names = {}
    exec(printed.partition("The same from Python:\n")[2], names)
    for found, expected in zip(names["model"].get_weights(), saved.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)
    evaluation = capsys.readouterr().out
    if "accuracy" in evaluation:
        accuracy = printed.split("accuracy on held-out rows: ")[1].split()[0]
        assert f"{eval(evaluation)['accuracy']:.4f}" == accuracy
        assert len(names["classes"] if lines else range(10)) == saved.outputs
    else:
        error = np.sqrt(
            np.square(
                names["predictions"][:, 0] - (names["y"] * names["scale"] + names["center"])[names["held_out"]]
            ).mean()
        )
        assert f"{error:.4g}" == printed.split("root mean squared error: ")[1].split()[0]


def noisy(rows=200, seed=1):
    x = np.random.default_rng(seed).standard_normal((rows, 12)).round(3)
    return [",".join("abcdefghijk") + ",price", *(",".join(map(str, [*row[:11], row[0] + row[11]])) for row in x)]


@pytest.mark.skipif(not COMPILED, reason="takes long in plain Python")
def test_the_epochs_of_a_noisy_table_are_few_and_found_without_the_held_out_rows(capsys, tmp_path):
    options = ["--data", table(tmp_path, noisy()), "--target", "price", "--save", str(tmp_path / "m.safetensors")]
    assert main(options) == 0
    printed = capsys.readouterr().out
    epochs, tried = printed.split("epochs: ")[1].split(" tried had the lowest loss on rows left out")[0].split(" of ")
    assert int(tried) == 900 and int(epochs) < 300
    score = float(printed.split("R² on held-out rows: ")[1].split()[0])
    program = printed.partition("The same from Python:\n")[2]
    assert f"epochs={epochs})  # epochs: by cross-validation" in program
    saved, names = fn.load(str(tmp_path / "m.safetensors")), {}
    exec(program, names)  # saves, too
    for found, expected in zip(names["model"].get_weights(), saved.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)
    capsys.readouterr()
    assert main([*options, "--epochs", tried]) == 0
    printed = capsys.readouterr().out
    assert "The network overfits" in printed and "cross-validation" not in printed
    assert float(printed.split("R² on held-out rows: ")[1].split()[0]) < score - 0.1


class Losses:
    """Stands for a model whose validation loss is given."""

    def __init__(self, loss, rows):
        self.loss, self.rows, self.left_out = loss, rows, []

    def copy(self):
        return self

    def fit(self, x, y, batch_size, epochs, validation_data):
        self.left_out.append(validation_data[1])
        assert not set(y) & set(validation_data[1]) and len(y) + len(validation_data[1]) == self.rows
        return {"val_loss": self.loss(epochs) + (np.arange(epochs) if len(self.left_out) == 5 else 0)}


@pytest.mark.parametrize(
    ("loss", "epochs"),
    [
        (lambda n: np.abs(np.arange(n) - 20), 21),
        (lambda n: -np.arange(n), 100),
        (lambda n: np.where(np.arange(n) == 80, -99, np.abs(np.arange(n) - 20)), 21),  # more than a third later
        (lambda n: np.where(np.arange(n) == 50, -99, np.abs(np.arange(n) - 20)), 51),
    ],
)
def test_the_epochs_chosen_have_the_lowest_loss_that_holds_for_a_third(loss, epochs):
    model = Losses(loss, 2000)
    assert choose_epochs(model, np.zeros((2000, 1)), np.arange(2000)) == (epochs, 100)
    assert sorted(np.concatenate(model.left_out)) == list(range(2000)) and len(model.left_out) == 5
    assert [rows[1] - rows[0] for rows in model.left_out] == [5] * 5


def test_one_fold_stands_for_all_where_rows_are_many():
    model = Losses(np.arange, 10_001)
    assert choose_epochs(model, np.zeros((10_001, 1)), np.arange(10_001)) == (1, 100)
    assert len(model.left_out) == 1


@pytest.mark.parametrize(
    ("case", "said"),
    [
        (("R²", 0.5, 0.0, 0.6), ""),
        (("R²", 0.5, 0.0, 0.9), "overfits"),
        (("R²", -0.1, 0.0, 0.0), "no better than always the mean:"),
        (("accuracy", 0.6, 0.6, 0.7), "no better than always the most frequent class:"),
        (("R²", float("nan"), 0.0, 0.9), ""),
    ],
)
def test_the_verdict_is_said_plainly(case, said):
    for given in (False, True):
        first, *lines = verdict(*case, given).splitlines()
        assert first == f"{case[0]} on training rows: {case[3]:.4f}"
        assert bool(lines) == bool(said) and said in "".join(lines)
        assert ("no --epochs" in "".join(lines)) == (given and said == "overfits")


def test_the_task_that_was_asked_for(capsys, tmp_path):
    path = table(tmp_path, GRADES)
    assert main(["--data", path, "--target", "grade", "--epochs", "1"]) == 0
    assert "task: classification, because column 'grade' holds 3 classes" in capsys.readouterr().out
    assert main(["--data", path, "--target", "grade", "--epochs", "1", "--task", "regression"]) == 0
    printed = capsys.readouterr().out
    assert "task: regression, as --task says" in printed and "R² on held-out rows" in printed


def test_few_rows_with_a_number_each_are_no_classes(capsys, tmp_path):
    lines = ["x,y", *(f"{number},{number}" for number in range(15))]
    assert main(["--data", table(tmp_path, lines), "--target", "y", "--epochs", "1"]) == 0
    assert "task: regression, because column 'y' holds numbers" in capsys.readouterr().out


def test_held_out_rows_of_one_target_have_no_r_squared(capsys, tmp_path):
    lines = ["x,y", *(f"{number},{0.5 if number else 0.25}" for number in range(40))]
    assert main(["--data", table(tmp_path, lines), "--target", "y", "--epochs", "1"]) == 0
    assert "R² on held-out rows: none, as all have the same target" in capsys.readouterr().out


TIMED = """
import sys
import fastnn as fn
from fastnn.__main__ import main
from fastnn.kernels import jit

fit, counts = fn.Model.fit, []

def counted(*arguments, **options):
    before = len(jit.compiled) + len(jit.loaded)
    fit(*arguments, **options)
    counts.append(len(jit.compiled) + len(jit.loaded) - before)

fn.Model.fit = counted
main(["--epochs", "100", *sys.argv[1:]])  # long enough for a try with another number of workers
assert len(counts) == 2 and counts[0] > 5 and counts[1] == 0, counts
"""


@pytest.mark.skipif(not COMPILED, reason="nothing is compiled")
@pytest.mark.parametrize("options", [[], ["--threads", "1"], ["--threads", "2"]])
def test_the_time_of_a_step_has_no_compilation_in_it(options):
    command = [sys.executable, "-c", TIMED, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of POSIX")
@pytest.mark.parametrize("unbuffered", ["1", ""])
def test_it_ends_quietly_where_nobody_reads_on(unbuffered):
    command = [sys.executable, "-m", "fastnn", "--epochs", "1", "--hidden", "0"]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait(300) == 141


#: name -> (lines of the table or None, options, words of the error).
MISTAKES = {
    "no such file": (None, ["--data", "nowhere.csv", "--target", "x"], "nowhere.csv"),
    "no target": (None, ["--data", "nowhere.csv"], "--data and --target go together"),
    "no target, columns": (
        flowers(),
        [],
        "--data and --target go together: the file, and the column of it to predict, one of length, width, species",
    ),
    "target alone": (None, ["--target", "x"], "--data and --target go together"),
    "unknown column": (flowers(), ["--target", "kind"], "'kind' is not a column"),
    "too few rows": (flowers()[:5], ["--target", "species"], "has 4 rows below its header"),
    "text in a column": (
        [*flowers(), "tall,1,a"],
        ["--target", "species"],
        "line 92: column 'length' has 'tall'; expected a number (--without",
    ),
    "nothing but gaps": (
        ["x,empty,y", *(f"{number},{['?', '', '-nan'][number % 3]},{number % 2}" for number in range(40))],
        ["--target", "y"],
        "column 'empty' has nothing but gaps; expected values (--without empty leaves the column out)",
    ),
    "many texts of an input": (
        MIXED,
        ["--target", "survived"],
        "column 'name, first' has 60 different texts, such as 'no, 0'; expected numbers, or at most 20 different texts "
        "(--without 'name, first' leaves the column out)",
    ),
    "several columns of no use": (
        [
            "name,x,code,y",
            *(f"n{number},{number},{number if number % 9 else 'A1'},{number % 2}" for number in range(40)),
        ],
        ["--target", "y"],
        "'n0'; expected numbers, or at most 20 different texts (--without name code leaves all such columns out)",
    ),
    "a decimal comma beside a column of no use": (
        ["name;x;y", *(f"n{number};{number},5;{number % 2}" for number in range(40))],
        ["--target", "y"],
        "line 2: column 'x' has '0,5'; expected a number (with a decimal point)",
    ),
    "many texts of a large table": (
        ["town,y", *(f"t{number % 101},{number % 2}" for number in range(4040))],
        ["--target", "y"],
        "has 101 different texts, such as 't0'; expected numbers, or at most 100 different texts (--without town",
    ),
    "without a column that is not there": (MIXED, ["--target", "survived", "--without", "ages"], "did you mean 'age'?"),
    "without the target": (MIXED, ["--target", "age", "--without", "age"], "--without 'age' is the column to predict"),
    "without data": (None, ["--without", "age"], "--without goes with --data"),
    "a gap in the target": ([*flowers(), "1,1,"], ["--target", "species"], "line 92: column 'species' is empty"),
    "a short line": ([*flowers(), "1,a"], ["--target", "species"], "line 92: 2 fields; expected 3"),
    "no inputs": (["y", *map(str, range(20))], ["--target", "y"], "has no column besides 'y'"),
    "one class": (
        [line.rpartition(",")[0] + (",species" if "species" in line else ",a") for line in flowers()],
        ["--target", "species"],
        "table.csv: column 'species' has 'a' in every row; expected at least two values",
    ),
    "a constant target": (
        ["x,y", *(f"{number},0.5" for number in range(40))],
        ["--target", "y"],
        "column 'y' has '0.5' in every row",
    ),
    "a constant written in two ways": (
        ["x,y", *(f"{number},{'1.0' if number % 2 else '1'}" for number in range(40))],
        ["--target", "y"],
        "column 'y' has '1' in every row",
    ),
    "a column twice": (
        [f"{line},{line}" for line in flowers()],
        ["--target", "species"],
        "table.csv: the header names the column 'length' twice; expected a name for each",
    ),
    "the row numbers of pandas": (
        [f"{number or ''},{line}" for number, line in enumerate(flowers())],
        ["--target", "species"],
        "table.csv: column 1 has no name; expected a header with a name for each column",
    ),
    "another name of each row": (
        ["x,y", *(f"{number},name {number}" for number in range(40))],
        ["--target", "y"],
        "column 'y' has 40 different texts in 40 rows; expected numbers, or",
    ),
    "another name of each row, for classes": (
        ["x,y", *(f"{number},name {number}" for number in range(40))],
        ["--target", "y", "--task", "classification"],
        "column 'y' has another value in every row; expected classes of some rows each",
    ),
    "a number that is missing in the target": (
        ["x,y", *(f"{number},{'NA' if number == 7 else number % 12 / 8}" for number in range(40))],
        ["--target", "y"],
        "line 9: column 'y' has 'NA' among numbers; expected a number (leave rows with gaps out; where it is a class,",
    ),
    "a number of the target with its unit": (
        ["x,y", *(f"{number},{'7 kg' if number == 7 else number / 8}" for number in range(15))],
        ["--target", "y"],
        "line 9: column 'y' has '7 kg' among numbers; expected a number (leave rows with gaps out; where it is",
    ),
    "decimal commas in the target": (
        ["x;y", *(f"{number};{number},5" for number in range(30))],
        ["--target", "y"],
        "line 2: column 'y' has '0,5'; expected a number (with a decimal point)",
    ),
    "many texts": (
        ["x,y", *(f"{number},name {number % 21}" for number in range(50))],
        ["--target", "y"],
        "21 different texts in 50 rows; expected numbers, or at most 20 classes of some rows each (--task classif",
    ),
    "text for a regression": (
        flowers(),
        ["--target", "species", "--task", "regression"],
        "line 2: column 'species' has 'a'; expected a number",
    ),
    "a number with an underscore": ([*flowers(), "1_2,1,a"], ["--target", "species"], "column 'length' has '1_2'; exp"),
    "a number whose square is infinite": (
        [*flowers(), "1e200,1,a"],
        ["--target", "species"],
        "line 92: column 'length' has '1e200'; expected a number (of at most 1e+150)",
    ),
    "a target whose square is infinite": (
        ["x,y", *(f"{number},{number / 4}e160" for number in range(40))],
        ["--target", "y", "--task", "regression"],
        "line 3: column 'y' has '0.25e160'; expected a number (of at most 1e+150)",
    ),
    "classes that floats do not tell apart": (
        ["x,y", *(f"{number},{2**53 + number % 3}" for number in range(40))],
        ["--target", "y"],
        "line 4: column 'y' has '9007199254740994'; expected whole numbers of at most 9,007,199,254,740,992, beyond",
    ),
    "a field without end": (
        [*flowers(), f"1,1,{'a' * 200_000}"],
        ["--target", "species"],
        "table.csv: field larger than field limit",
    ),
    "a decimal comma": (
        [line.replace(",", ";").replace(".", ",") for line in flowers()],
        ["--target", "species"],
        "expected a number (with a decimal point)",
    ),
    "line numbers with empty lines": (
        ["", *flowers()[:5], "", *flowers()[5:], "tall,1,a"],
        ["--target", "species"],
        "line 94: column 'length' has 'tall'",
    ),
    "a column of another case": (flowers(), ["--target", "Species"], "did you mean 'species'?"),
    "task without data": (None, ["--task", "regression"], "--task goes with --data"),
    "save to no folder": (None, ["--save", "nowhere/m"], "--save is 'nowhere/m', but there is no folder 'nowhere'"),
    "save as of Keras": (None, ["--save", "m.h5"], "--save is 'm.h5', but the file would be in the safetensors"),
    "hidden": (None, ["--hidden", "64,many"], "--hidden '64,many'"),
    "hidden negative": (None, ["--hidden", "-4"], "units is -4"),
    "epochs": (None, ["--epochs", "0"], "epochs is 0"),
    "threads": (None, ["--threads", "0"], "threads is 0"),
    "seed": (None, ["--seed", "-1"], "--seed is -1; expected a whole number of at least 0"),
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


def test_bytes_that_are_not_utf_8_are_told_with_their_line(capsys, tmp_path):
    path = table(tmp_path, [*flowers(), "1,2,caf\u00e9"], encoding="latin-1")
    assert main(["--data", path, "--target", "species"]) == 2
    error = capsys.readouterr().err
    assert f"--data {path}, line 92: the byte 0xe9 is not UTF-8; expected a text file in UTF-8 (spreadsheets" in error
    assert error.count("\n") == 1


def test_letters_that_the_output_lacks_cost_no_training(tmp_path):
    path = table(tmp_path, [line.replace("species", "größe").replace(",a", ",ä") for line in flowers()])
    saved = tmp_path / "model.safetensors"
    command = [sys.executable, "-m", "fastnn", "--data", path, "--target", "größe", "--epochs", "1", "--save", saved]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, env=environment, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert saved.exists() and r"index('gr\xf6\xdfe')" in done.stdout  # Python reads that as it was


def test_ctrl_c_is_told_in_a_line(capsys, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(fn.Model, "fit", interrupted)
    assert main(["--epochs", "1"]) == 130
    assert capsys.readouterr().err == "fastnn: interrupted\n"


def test_where_to_save_is_looked_at_before_the_training(capsys, tmp_path):
    assert main(["--epochs", "1", "--save", str(tmp_path / "no folder" / "m")]) == 2
    printed = capsys.readouterr()
    assert "there is no folder" in printed.err and not printed.out


def test_it_runs_as_a_module_and_explains_itself():
    done = subprocess.run(
        [sys.executable, "-m", "fastnn", "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    for option in "device epochs hidden seed threads data target without task save".split():
        assert f"--{option} " in done.stdout
