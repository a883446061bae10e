"""Tables for the command ``fastnn``: a CSV file becomes inputs, which are numbers, and targets, numbers or classes."""

from __future__ import annotations

import csv
import io
import math
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import checks

#: A column of text with at most this many different values, and a target of so few whole numbers, is taken for classes.
MOST_CLASSES = 20

#: A column of text may have more, up to this many, where each stands in so many rows on average.
MOST_TEXTS, ROWS_OF_A_TEXT = 100, 20

#: What stands in a column of numbers where one is missing, in lower case; C writes 0/0 as -nan.
GAPS = ("", "?", "na", "n/a", "nan", "-nan", "+nan", "null", "none")

#: The largest number of a table, whose square is finite, for a deviation; whole numbers up to 2⁵³ can be told apart.
LARGEST, MOST_EXACT = 1e150, 2**53

#: What may stand between the columns of a table.
DELIMITERS = (",", ";", "\t", "|")


@dataclass
class Table:
    """A data set: inputs as they come, targets, and what to say about them."""

    name: str
    inputs: np.ndarray  # NaN at gaps
    targets: np.ndarray
    classes: list[str]  # empty: regression
    numeric: bool = True  # whether the targets are written as numbers
    delimiter: str = ","
    texts: tuple[str, ...] = ()  # the columns of text
    gaps: tuple[str, ...] = ()  # the columns of numbers that have gaps
    counts: tuple[str, ...] = ()  # the columns that count the rows


class UserError(Exception):
    """Something that the user can mend; shown without a traceback."""


class UnusableColumnError(UserError):
    """A column that cannot be an input, which may be left out."""


@dataclass
class Column:
    """A column of a table: its texts, and the lines of the file that they stand in."""

    path: Path
    name: str
    texts: list[str]
    lines: list[int]

    def at(self, row: int) -> str:
        """Where in the file a text stands."""
        return f"{self.path}, line {self.lines[row]}: column {self.name!r}"

    def wrong(self, row: int, wanted: str) -> str:
        """What is wrong with the text of a row."""
        return f"{self.at(row)} has {self.texts[row]!r}; expected {wanted}"

    def check_spelling(self, row: int) -> None:
        """Raise an error where the text of a row is no number, but nearly."""
        if is_number(self.texts[row].replace(",", ".")):
            raise UserError(self.wrong(row, "a number (with a decimal point)"))
        if is_number(self.texts[row], sys.float_info.max):
            raise UserError(self.wrong(row, f"a number (of at most {LARGEST:g})"))

    def inputs(self) -> list[np.ndarray]:
        """The column as numbers, NaN at gaps; one of text as truth values for each of its texts, or for one of two."""
        known = [row for row, text in enumerate(self.texts) if text.lower() not in GAPS]
        odd = [row for row in known if not is_number(self.texts[row])]
        if not known:
            raise UnusableColumnError(f"{self.path}: column {self.name!r} has nothing but gaps; expected values")
        if not odd:
            column = np.full(len(self.texts), np.nan)
            column[known] = [float(self.texts[row]) for row in known]
            return [column]
        if 2 * len(odd) < len(known) or all(meant_as_number(self.texts[row]) for row in known):
            self.check_spelling(odd[0])
            raise UnusableColumnError(self.wrong(odd[0], "a number"))
        texts = np.array(self.texts)
        different = np.unique(texts)
        most = max(MOST_CLASSES, min(MOST_TEXTS, len(texts) // ROWS_OF_A_TEXT))
        if len(different) > most:
            raise UnusableColumnError(
                f"{self.path}: column {self.name!r} has {len(different)} different texts, such as "
                f"{self.texts[odd[0]]!r}; expected numbers, or at most {most} different texts"
            )
        return [texts == text for text in different[len(different) == 2 :]]

    def targets(self, task: str | None) -> tuple[np.ndarray, list[str], bool]:
        """(targets, names of the classes, whether they are written as numbers); no classes for a regression."""
        texts, different = self.texts, len(set(self.texts))
        if "" in texts:
            raise UserError(f"{self.at(texts.index(''))} is empty; expected a value")
        odd = [row for row, text in enumerate(texts) if not is_number(text)]
        if odd and task != "classification":
            if task == "regression" or all(is_number(text.replace(",", ".")) for text in texts):
                self.check_spelling(odd[0])
                raise UserError(self.wrong(odd[0], "a number (leave rows with gaps out)"))
            if 2 * len(odd) < len(texts):
                hint = "leave rows with gaps out; where it is a class, say --task classification"
                raise UserError(f"{self.at(odd[0])} has {texts[odd[0]]!r} among numbers; expected a number ({hint})")
            if different > MOST_CLASSES or different == len(texts):
                raise UserError(
                    f"{self.path}: column {self.name!r} has {different} different texts in {len(texts)} rows; expected "
                    f"numbers, or at most {MOST_CLASSES} classes of some rows each (--task classification takes more)"
                )
        values = np.array(texts) if odd else np.array(texts, float)
        names, labels = np.unique(values, return_inverse=True)
        if len(names) == 1:
            raise UserError(
                f"{self.path}: column {self.name!r} has {texts[0]!r} in every row; expected at least two values"
            )
        whole = not odd and bool((values == np.round(values)).all())
        few = len(names) <= MOST_CLASSES and len(names) < len(texts)
        if task == "regression" or (task is None and not odd and not (whole and few)):
            return values, [], True
        if not odd and np.abs(values).max() > MOST_EXACT:
            wanted = f"whole numbers of at most {MOST_EXACT:,}, beyond which classes cannot be told apart"
            raise UserError(self.wrong(int(np.abs(values).argmax()), f"{wanted} (--task regression takes more)"))
        if len(names) == len(texts):
            raise UserError(
                f"{self.path}: column {self.name!r} has another value in every row; expected classes of some rows each"
            )
        return labels, [f"{int(name)}" if whole else str(name) for name in names], not odd


def read_csv(path: Path, target: str, task: str | None = None, without: Sequence[str] = ()) -> Table:
    """The table in ``path``.

    target : the column to predict; task : what for (None: guess); without : columns to leave out.
    """
    delimiter, numbers, lines = read_lines(path, target)
    if len(lines) < 11:
        raise UserError(f"--data {path} has {max(0, len(lines) - 1)} rows below its header; expected at least 10")
    header = [name.strip() for name in lines[0]]
    for option, name in [("--target", target), *(("--without", name) for name in without)]:
        if name not in header:
            raise UserError(
                f"{option} {name!r} is not a column of {path}; its columns are {', '.join(header)}"
                f"{checks.nearest(name, header)}"
            )
    for place, name in enumerate(header):
        if not name:
            raise UserError(
                f"{path}: column {place + 1} has no name; expected a header with a name for each column "
                "(to_csv of pandas writes the index without one: index=False leaves it out)"
            )
        if name in header[:place]:
            raise UserError(f"{path}: the header names the column {name!r} twice; expected a name for each")
    for number, line in zip(numbers, lines, strict=True):
        if len(line) != len(header):
            raise UserError(f"{path}, line {number}: {len(line)} fields; expected {len(header)}, as in the header")
    if target in without:
        raise UserError(f"--without {target!r} is the column to predict; expected others")
    columns = [
        Column(path, name, [text.strip() for text in texts], numbers[1:])
        for name, *texts in zip(header, *lines[1:], strict=True)
        if name not in without
    ]
    to_predict = columns.pop([column.name for column in columns].index(target))
    if not columns:
        raise UserError(f"{path} has no column besides {target!r}; expected at least one to predict from")
    inputs = inputs_of(columns)
    targets, classes, numeric = to_predict.targets(task)
    array = np.stack([column for made in inputs.values() for column in made], axis=1).astype(float)
    texts = tuple(name for name, (first, *_) in inputs.items() if first.dtype == bool)
    gaps = tuple(name for name, (first, *_) in inputs.items() if np.isnan(first).any())
    counts = tuple(name for name in inputs if name not in texts and (np.diff(inputs[name][0]) == 1).all())
    return Table(str(path), array, targets, classes, numeric, delimiter, texts, gaps, counts)


def inputs_of(columns: list[Column]) -> dict[str, list[np.ndarray]]:
    """The inputs that each column becomes; the error about the first of no use names them all."""
    inputs, unusable = {}, {}
    for column in columns:
        try:
            inputs[column.name] = column.inputs()
        except UnusableColumnError as fault:
            unusable[column.name] = fault
    if unusable:
        which = "the column" if len(unusable) == 1 else "all such columns"
        raise UserError(f"{next(iter(unusable.values()))} (--without {shlex.join(unusable)} leaves {which} out)")
    return inputs


def read_lines(path: Path, target: str) -> tuple[str, list[int], list[list[str]]]:
    """(delimiter, number of each line in the file, fields of each line), without empty lines.

    The delimiter is the one that makes ``target`` a column, or else the most columns.
    """
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as fault:
        raise UserError(f"--data {path}: {fault}") from None
    except UnicodeDecodeError as fault:
        raise UserError(
            f"--data {path}, line {content[: fault.start].count(10) + 1}: the byte 0x{content[fault.start]:02x} is not "
            'UTF-8; expected a text file in UTF-8 (spreadsheets save it as "CSV UTF-8")'
        ) from None

    def reader(delimiter: str) -> Any:
        return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)

    def header(delimiter: str) -> list[str]:
        return [name.strip() for name in next(filter(None, reader(delimiter)), [])]

    try:
        delimiter = max(DELIMITERS, key=lambda delimiter: (target in header(delimiter), len(header(delimiter))))
        rows = reader(delimiter)
        lines = [(rows.line_num, line) for line in rows if line]
    except csv.Error as fault:
        raise UserError(f"--data {path}: {fault}") from None
    return delimiter, [number for number, _ in lines], [line for _, line in lines]


def is_number(text: str, largest: float = LARGEST) -> bool:
    """Whether ``text`` is a number up to ``largest``; 1_2, which Python reads as 12, is more likely a name."""
    try:
        return abs(float(text)) <= largest and "_" not in text
    except ValueError:
        return False


def meant_as_number(text: str) -> bool:
    """Whether ``text`` is a number, but for a decimal comma, an underscore or its size."""
    try:
        return not math.isnan(float(text.replace(",", ".")))
    except ValueError:
        return False
