"""What users pass as X and y: arrays, lists, memory maps, data frames, checked and made ready for the engine.

The engine reads numbers of the model's own type. An array of that type goes in as it is, whatever its
strides; any other is converted, a block at a time where it is large, so that a memory map never has to
fit into memory.
"""

from __future__ import annotations

import contextlib
import math
import numbers
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from . import dispatch
from .checks import SUM_TOLERANCE, number, shown

#: An array up to this many bytes is converted at once, a larger one in blocks of about this size.
BLOCK_BYTES = 1 << 25

#: NumPy's letters for the types of numbers that are taken: truth values, integers, floats of 2 to 8 bytes.
NUMBERS = frozenset("?bBhHiIlLqQefd")

#: Numbers of a block that are looked at one by one; in a larger one, a sum first tells whether there is a need.
FEW = 4096

#: What an error about a NaN in data goes on to say.
MISSING = ": fill in what is missing, or leave such rows out"


class Rows:
    """A table of numbers, (rows, width), that the engine can read.

    direct : whether ``array`` has the engine's type and byte order, so that no conversion is needed.
    """

    def __init__(self, name: str, array: np.ndarray, dtype: str):
        self.name, self.array, self.dtype = name, array, np.dtype(dtype)
        self.given = array
        self.columns: Sequence[Any] = range(array.shape[-1])  # what they are called in errors
        self.direct = array.dtype == self.dtype and array.dtype.isnative and array.flags.aligned
        if not self.direct and array.size * self.dtype.itemsize <= BLOCK_BYTES:
            self.convert()

    def convert(self) -> None:
        """Have the whole table as the engine reads it."""
        self.array, self.direct = self.ready(), True

    def _converted(self, block: np.ndarray) -> np.ndarray:
        if block.dtype.kind != "f":
            return np.ascontiguousarray(block, self.dtype)
        with np.errstate(over="ignore", under="ignore"):  # what overflows becomes infinite and is reported as such
            return np.ascontiguousarray(block, self.dtype)

    def __len__(self) -> int:
        return len(self.array)

    @property
    def width(self) -> int:
        return int(self.array.shape[1])

    @property
    def block_rows(self) -> int:
        """Rows of about ``BLOCK_BYTES``."""
        return max(1, BLOCK_BYTES // max(1, self.width * self.dtype.itemsize))

    def take(self, rows: slice | np.ndarray) -> np.ndarray:
        """The rows as a contiguous array of the engine's type."""
        return self._converted(self.array[rows])

    def ready(self) -> np.ndarray:
        """The whole table as the engine reads it."""
        return self.array if self.direct else self._converted(self.array)

    def part(self, rows: slice) -> Rows:
        """The rows ``rows``, without a copy."""
        part = object.__new__(Rows)
        part.name, part.dtype, part.direct = self.name, self.dtype, self.direct
        part.array = part.given = self.array[rows]
        return part

    def blocks(self) -> Iterable[tuple[int, np.ndarray]]:
        """(first row, converted block) through the table."""
        rows = self.block_rows
        if self.direct and len(self) <= rows:
            return ((0, self.array),)
        return ((first, self.part(slice(first, first + rows)).ready()) for first in range(0, len(self), rows))

    def check_finite(self, for_nan: str = "") -> None:
        """Raise a ValueError that names the first row with a NaN or an infinity; for_nan : what to do about a NaN."""
        if self.given.dtype.kind != "f":  # all whole numbers are finite in float32, too
            return
        if self.direct and self.array.size <= FEW and np.count_nonzero(np.isfinite(self.array)) == self.array.size:
            return
        for first, block in self.blocks():
            if block.size > FEW:
                with np.errstate(over="ignore", invalid="ignore"):
                    total = block.sum(dtype=self.dtype)
                if np.isfinite(total):  # one pass at memory speed; only a suspicious block is looked at closely
                    continue
            finite = np.isfinite(block)
            if not finite.all():
                bad = np.argwhere(~finite)
                row, column = int(bad[0][0]), int(bad[0][1])
                came = self.given[first + row, column]
                why = f", which is too large for {self.dtype.name}" if np.isfinite(float(came)) else ""
                hint = for_nan if np.isnan(float(came)) else ""
                raise ValueError(
                    f"{self.name} has {float(came)!r} in row {first + row}, column {self.columns[column]!r}{why}; "
                    f"expected finite numbers{hint}"
                )


class DeviceRows(Rows):
    """A table of numbers that is on a GPU already.

    array : as the GPU's engine reads it; host : the same on the host, or None where nobody needs it there.
    """

    def __init__(self, name: str, array: Any, dtype: str, host: Rows | None = None):
        self.name, self.array, self.dtype = name, array, np.dtype(dtype)
        self.given, self.direct, self.host = array, True, host

    def take(self, rows: slice | np.ndarray) -> np.ndarray:
        assert self.host is not None
        return self.host.take(rows)

    def ready(self) -> Any:
        return self.array

    def part(self, rows: slice) -> DeviceRows:
        host = None if self.host is None else self.host.part(rows)
        return DeviceRows(self.name, self.array[rows], self.dtype.name, host)

    def blocks(self) -> Iterable[tuple[int, np.ndarray]]:
        assert self.host is not None
        return self.host.blocks()

    def check_finite(self, for_nan: str = "") -> None:
        """They have been looked at where they are."""


def as_array(name: str, value: Any, hint: str = "") -> np.ndarray:
    """``value`` as an array of numbers or truth values, without copying an array.

    hint : what an error about text goes on to say.
    """
    if type(value) is np.ndarray and value.dtype.char in NUMBERS:
        return value
    if hasattr(value, "toarray") and hasattr(value, "nnz"):
        raise TypeError(f"{name} is a sparse matrix; expected a dense array: pass {name}.toarray()")
    if value is None:
        raise TypeError(f"{name} is None; expected an array of numbers")
    if isinstance(value, Iterator):
        raise TypeError(
            f"{name} is {shown(value)}; expected an array of numbers: to learn from a stream, call "
            "model.train_on_batch(X, y) for each of its batches"
        )
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array; expected numbers in every place: fill it first")
    columns: Sequence[Any] = ()
    polars = hasattr(value, "to_dummies")
    if hasattr(value, "to_numpy"):  # pandas, polars and their kin
        columns = list(getattr(value, "columns", ()))
        if polars:  # it makes days and microseconds of dates beside numbers
            for kind, column in zip(getattr(value, "dtypes", ()), columns, strict=False):
                if kind.is_temporal():
                    raise TypeError(f"{name} holds dates or times in column {column!r}; expected numbers")
        value = value.to_numpy()
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as fault:
        if "inhomogeneous" in str(fault):
            raise ValueError(
                f"{name} is ragged: its rows have different lengths; expected rows of one length"
            ) from None
        # A tensor of which NumPy can make nothing.
        raise TypeError(f"{name} is {shown(value)}; expected an array of numbers ({fault})") from None
    if array.dtype == object and array.ndim == 0:
        raise TypeError(f"{name} is {shown(value)}; expected an array of numbers")
    if array.dtype == object:
        array = _from_objects(name, array, columns, hint, polars)
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        what = {"U": "text", "S": "text", "T": "text", "c": "complex numbers", "M": "dates", "m": "durations"}
        what["f"] = f"numbers of {8 * array.dtype.itemsize} bits"
        kinds = " (float16 to float64, integers or truth values)"
        hint = (hint or kinds) if array.dtype.kind in "UST" else kinds
        raise TypeError(f"{name} holds {what.get(array.dtype.kind, array.dtype)}; expected numbers{hint}")
    return array


def _from_objects(name: str, array: np.ndarray, columns: Sequence[Any], hint: str, polars: bool) -> np.ndarray:
    """Objects as numbers, NaN for those that are missing, or an error that shows the first that is no number.

    columns : the names of a data frame's columns; polars : whether it is one of polars, else of pandas.
    """
    if all(issubclass(kind, (numbers.Real, np.bool_)) for kind in set(map(type, array.flat))):
        with contextlib.suppress(OverflowError):  # a whole number beyond what floats hold, which is looked for below
            return array.astype(np.float64)
    found: np.ndarray = np.empty(array.shape)
    for place, value in np.ndenumerate(array):
        text = isinstance(value, (str, bytes))
        try:
            missing = value is None or type(value).__name__ == "NAType"  # pandas.NA
            found[place] = np.nan if missing else float("text" if text else value)
        except (TypeError, ValueError, OverflowError):
            what = "text" if text else "objects"
            where = f" in column {columns[place[1]]!r}" if columns and len(place) > 1 else ""
            if text and columns and not hint:
                hint = _for_text(name, columns[place[-1]], array[..., place[-1]], polars)
            hint = hint if text else ""
            raise TypeError(f"{name} holds {what}, such as {shown(value)}{where}; expected numbers{hint}") from None
    return found


def _for_text(name: str, column: Any, values: np.ndarray, polars: bool) -> str:
    """What an error about text in a column of a data frame goes on to say."""
    for value in values:
        with contextlib.suppress(TypeError, ValueError):
            if isinstance(value, str) and np.isfinite(float(value.replace(",", "."))):
                if "," in value:
                    reads = (
                        "polars.read_csv(..., decimal_comma=True)" if polars else "pandas.read_csv(..., decimal=',')"
                    )
                    return f" ({reads} reads decimal commas)"
                reads = f"pandas.to_numeric({name}[{column!r}], errors='coerce')"  # as where "?" stands for a gap
                if polars:
                    reads = f"{name}.cast({{{column!r}: polars.Float64}}, strict=False)"
                return f" ({reads} reads numbers that are written as text, and makes gaps of other text)"
    dummies = f"{name}.to_dummies({column!r})" if polars else f"pandas.get_dummies({name})"
    return f" ({dummies} makes columns of 0 and 1 from text)"


def inputs(
    name: str, value: Any, width: int, dtype: str, whose: str = "the width of the model's Input", look: bool = True
) -> Rows:
    """X as rows of ``width`` finite numbers, or an error that says what is wrong, and ``whose`` width that is.

    look : whether they are looked at; else somebody does later, by ``check_finite``.
    """
    array = as_array(name, value)
    if array.ndim != 2:
        hint = ""
        if array.ndim == 1:
            row, column = f"{name}[None, :]", f"{name}[:, None]"
            if not isinstance(value, np.ndarray):
                row, column = f"np.reshape({name}, (1, -1))", f"np.reshape({name}, (-1, 1))"
            hint = f"; for one row write {row}, for one column {column}"
        elif array.ndim > 2 and math.prod(array.shape[1:]) == width:
            hint = f": write np.reshape({name}, (len({name}), -1))"
        raise ValueError(f"{name} has shape {array.shape}; expected 2-D, (rows, {width}){hint}")
    if len(array) == 0:
        raise ValueError(f"{name} has no rows (shape {array.shape}); expected at least one")
    if array.shape[1] != width:
        raise ValueError(f"{name} has {array.shape[1]} columns; expected {width}, {whose}")
    rows = Rows(name, array, dtype)
    if hasattr(value, "to_numpy") and hasattr(value, "columns"):
        rows.columns = list(value.columns)
    if look:
        rows.check_finite(MISSING)
    return rows


def column_names(value: Any) -> list[str] | None:
    """The names of a data frame's columns, as text; None where they only count the columns, as an array's would."""
    if not hasattr(value, "to_numpy") or not hasattr(value, "columns"):
        return None
    names = list(value.columns)
    return None if names == list(range(len(names))) else list(map(str, names))


def check_columns(name: str, value: Any, known: list[str] | None) -> None:
    """Raise a ValueError where a data frame has other columns, or in another order, than the one trained with."""
    found = column_names(value)
    if found is None or known is None or found == known:
        return
    missing, further = [key for key in known if key not in found], [key for key in found if key not in known]
    faults = [f"no column {', '.join(map(repr, missing))}"] if missing else []
    faults += [f"the column {', '.join(map(repr, further))}, which was not trained with"] if further else []
    faults = faults or ["its columns in another order than trained with, or one of them twice"]
    to_write = f"{name}.to_numpy() passes them by their places"
    if not missing and len(set(found)) == len(found):
        text = all(isinstance(key, str) for key in value.columns)
        frame = name if text else f"{name}.set_axis({name}.columns.map(str), axis=1)"
        to_write = f"{frame}[model.columns] has them in order, {to_write}"
    raise ValueError(f"{name} has {' and '.join(faults)}; expected {shown(known)}: {to_write}")


def device_inputs(name: str, value: Any, width: int, dtype: str, device: str) -> Rows:
    """X, which is on a GPU, as rows of ``width`` finite numbers; its numbers stay there."""
    shape = dispatch.device_shape(value)
    if len(shape) != 2 or shape[1] != width or shape[0] == 0:
        raise ValueError(f"{name} has shape {shape}; expected 2-D, (rows, {width}), with at least one row")
    array = dispatch.device_rows(device, name, value, dtype)
    bad = dispatch.first_not_finite(device, array)
    if bad is not None:
        row, column = bad
        raise ValueError(
            f"{name} has a number that is not finite in row {row}, column {column}; expected finite numbers"
        )
    return DeviceRows(name, array, dtype)


def sample_weights(name: str, value: Any, rows: int) -> np.ndarray | None:
    """A weight for each row, as float64, or None where all count alike."""
    if value is None:
        return None
    array = as_array(name, value)
    if array.shape not in ((rows,), (rows, 1)):
        raise ValueError(f"{name} has shape {array.shape}; expected ({rows},), a weight for each row")
    weights = np.ascontiguousarray(array.reshape(rows), np.float64)
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(bad):
        raise ValueError(f"{name} has {weights[bad[0]]:g} in row {bad[0]}; expected finite numbers of at least 0")
    return weights


def labels_of(t: Rows) -> np.ndarray:
    """The label of each row of targets: the largest entry of a one-hot row, or the target itself."""
    return np.concatenate([block.argmax(axis=1) if t.width > 1 else block[:, 0] for _, block in t.blocks()])


def class_weights(name: str, value: Any, t: Rows, classes: int) -> np.ndarray | None:
    """A weight for each row from the weights of the classes: a dict {label: weight}, or "balanced".

    "balanced" gives a class rows / (classes that occur * its rows), so that all classes count alike. The label of a
    one-hot row is its largest entry; that of a single yes-or-no target is 0 or 1.

    Raises a ValueError for targets that are no classes: numbers to predict, or several yes-or-no targets in a row.
    """
    if value is None:
        return None
    if not isinstance(value, dict) and not (isinstance(value, str) and value == "balanced"):
        raise TypeError(f'{name} is {shown(value)}; expected a dict {{label: weight}} or "balanced"')
    labels, most = labels_of(t), max(2, classes) - 1
    bad = np.flatnonzero((labels != np.floor(labels)) | (labels < 0) | (labels > most))
    if len(bad):
        raise ValueError(
            f"{name} was given, but y has {labels[bad[0]]:g} in row {bad[0]}, which is no class; "
            f"expected whole numbers from 0 to {most}, or a sample_weight"
        )
    if t.width > 1:
        sums = np.concatenate([block.sum(axis=1, dtype=np.float64) for _, block in t.blocks()])
        bad = np.flatnonzero(np.abs(sums - 1) > SUM_TOLERANCE)
        if len(bad):
            raise ValueError(
                f"{name} was given, but row {bad[0]} of y has the sum {sums[bad[0]]:g} and so not one class; "
                "expected one-hot rows, or a sample_weight"
            )
    labels = labels.astype(np.int64)
    counts = np.bincount(labels, minlength=most + 1)
    table = np.ones(len(counts))
    if isinstance(value, dict):
        for given, weight in value.items():
            if not isinstance(given, (numbers.Real, np.bool_)) or given not in range(len(counts)):
                raise ValueError(f"{name} has the label {shown(given)}; expected labels from 0 to {len(counts) - 1}")
            label = int(float(given))
            if counts[label] == 0:
                raise ValueError(f"{name} has a weight for class {label}, which does not occur in y")
            table[label] = number(f"{name}[{label}]", weight, least=0)
    else:
        occurs = counts > 0
        table[occurs] = len(labels) / (occurs.sum() * counts[occurs])
    weights: np.ndarray = table[labels]
    if not weights.any():
        raise ValueError(f"{name} is 0 for every class that occurs; expected a class that counts")
    return weights
