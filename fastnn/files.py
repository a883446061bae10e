"""Models on disk, in the safetensors format: a JSON header, then the numbers. There is no pickle anywhere.

The header's ``__metadata__`` holds two strings: ``fastnn``, a JSON text that says what the model is, and ``sha256``, a
digest of the whole file with its own place zeroed. A file is checked before anything in it is believed. One that is
given by its path is written to a temporary file beside the old one, which it then replaces: a crash leaves the old file
or the new one. A file that the user has opened is written and read from where it stands.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import math
import os
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import IO, TYPE_CHECKING, Any, BinaryIO

import numpy as np

from . import checks
from .chain import OF_A_SLOT
from .checks import nearest, shown
from .own_functions import OwnFunction

if TYPE_CHECKING:
    from .model import Model

__all__ = ["ModelFileError", "Place", "fill", "load_weights", "read_model", "save", "save_weights", "state_tensors"]

#: Where a file is: its path, or a file that the user has opened in binary mode.
Place = str | os.PathLike[str] | IO[bytes]

#: Raised when the meaning of a file changes; a file with a larger number is refused.
FORMAT = 1

#: What ``read`` reads.
WRITTEN = "a file that model.save or model.save_weights of fastnn wrote"

#: Bytes of a header at most; a model of thousands of layers needs a few hundred kilobytes.
MOST_HEADER = 1 << 24

#: The axes that an array of NumPy's may have in all its versions.
MOST_AXES = 32

#: Parts within parts: a layer's regularizer, an optimizer's schedule within a warm-up.
DEEPEST = 20

#: What a part of the user's own may hold, but a file cannot name.
NAMELESS = (float, complex, bytes, dict, set, np.ndarray, functools.partial)

#: safetensors' names of the types of numbers.
TYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8")}

#: The files whose public classes a model file may name.
MODULES = (
    "layers",
    "own_functions",
    "losses",
    "optimizers",
    "schedules",
    "initializers",
    "regularizers",
    "constraints",
    "metrics",
)


class ModelFileError(ValueError):
    """A file that is no model, or is damaged; the message says what is wrong."""


# What a model is, as JSON.


def known_classes() -> dict[str, type]:
    """The classes that a file may name."""
    modules = [import_module(f".{name}", __package__) for name in MODULES]
    values = [getattr(module, name) for module in modules for name in module.__all__]
    return {_full_name(value): value for value in values if isinstance(value, type)}


def _full_name(kind: type) -> str:
    """The name of a class in files; it says the module, because there is a loss MeanSquaredError and such a metric."""
    return f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}"


def describe(value: Any, classes: Mapping[str, type], own: dict[str, Any]) -> Any:
    """``value`` as JSON: one of our objects by its class and arguments, a user's own part by its name.

    own : the user's own parts by name so far, to which those of ``value`` are added.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, (list, tuple)):
        return [describe(entry, classes, own) for entry in value]
    kind = type(value)
    if classes.get(_full_name(kind)) is kind and not isinstance(value, OwnFunction):
        return {"class": _full_name(kind), "arguments": _arguments(value, classes, own)}
    name = getattr(value, "name" if isinstance(value, OwnFunction) else "__name__", None)
    if isinstance(value, NAMELESS):
        raise TypeError(
            f"the model cannot be saved: it has {shown(value)}; expected functions with a name, finite numbers, "
            "strings, lists of them, and objects that keep their arguments as attributes"
        )
    part = value if isinstance(name, str) else kind
    name = name if isinstance(name, str) else kind.__name__
    if own.setdefault(name, part) != part:
        raise TypeError(
            f"the model cannot be saved: it has two parts of your own named {name!r}; expected a name for each, as "
            "from def, or from ActivationFunction(value, slope, name)"
        )
    return {"own": name} if part is value else {"own": name, "arguments": _arguments(value, classes, own)}


def _arguments(value: Any, classes: Mapping[str, type], own: dict[str, Any]) -> dict[str, Any]:
    """The arguments that make an equal object: each is kept as the attribute of its name."""
    kind: type = type(value)
    found = {}
    for name in checks.arguments(kind):
        attribute = "given_name" if name == "name" and hasattr(value, "given_name") else name
        if not hasattr(value, attribute):
            raise TypeError(
                f"{kind.__name__} cannot be saved: it does not keep its argument {name!r} as an attribute; "
                f"expected self.{name} = {name} in its __init__"
            )
        found[name] = describe(getattr(value, attribute), classes, own)
    return found


def revive(text: Any, classes: Mapping[str, type], parts: Mapping[str, Any], depth: int = 0) -> Any:
    """The object that ``describe`` described."""
    if depth > DEEPEST:
        raise ModelFileError(f"the file describes a part that is nested more than {DEEPEST} deep")
    if isinstance(text, list):
        return [revive(entry, classes, parts, depth + 1) for entry in text]
    if not isinstance(text, dict):
        return text
    arguments = text.get("arguments", {})
    if set(text) - {"class", "own", "arguments"} or not isinstance(arguments, dict):
        raise ModelFileError(f"the file describes a part by {shown(text)}; expected a class and its arguments")
    if "own" in text:
        name = text["own"]
        if not isinstance(name, str) or name not in parts:
            raise ModelFileError(
                f"the model has a part of your own, {shown(name)}; expected load(path, parts={{{shown(name)}: ...}})"
            )
        if "arguments" not in text:
            return parts[name]
        kind = parts[name]
    else:
        name = text.get("class")
        if not isinstance(name, str) or name not in classes:
            raise ModelFileError(f"the file names the class {shown(name)}, which fastnn does not have")
        kind = classes[name]
    revived = {key: revive(value, classes, parts, depth + 1) for key, value in arguments.items()}
    try:
        return kind(**revived)
    except (TypeError, ValueError, OverflowError) as fault:
        raise ModelFileError(f"the file describes a {name} that cannot be: {fault}") from None


# Writing.


def save(model: Model, path: Place) -> None:
    """Write the model to ``path``: layers, weights, optimizer and its state, loss, metrics, seed and step.

    A model that is loaded from it continues with the same bits. Raises an OSError where the file cannot be written
    (an older one then stays as it was), a TypeError where a part of your own cannot be described, and a ValueError
    where a number is not finite.
    """
    classes, own = known_classes(), {}  # type: tuple[dict[str, type], dict[str, Any]]
    compiled = None
    if model.loss is not None:
        compiled = {
            "optimizer": describe(model.optimizer, classes, own),
            "loss": describe(model.loss, classes, own),
            "metrics": describe(model.metrics, classes, own),
            "threads": model.threads,
            "precision": model._precision,
        }
    description = {
        "format": FORMAT,
        "name": model.name,
        "dtype": model.dtype,
        "seed": model.seed,
        "step": model.step,
        "epoch": model.epoch,
        "columns": model.columns,
        "layers": describe(model.layers, classes, own),
        "compiled": compiled,
    }
    write(path, description, state_tensors(model))


def state_tensors(model: Model) -> dict[str, np.ndarray]:
    """The arrays of the model's weights and of its optimizer's state, by the names that they have in a file."""
    tensors = model.named_parameters()
    for number, slot in enumerate(model.arenas.slots):
        tensors |= {f"optimizer.{number}.{name}": array for name, array in model.named_parameters(slot).items()}
    return tensors


def save_weights(model: Model, path: Place) -> None:
    """Write the weights alone, for ``load_weights`` of a model with equal layers."""
    write(path, {"format": FORMAT, "weights": True}, model.named_parameters())


def write(path: Place, description: dict[str, Any], tensors: Mapping[str, np.ndarray]) -> None:
    """Write a safetensors file; where ``path`` is one, whole or not at all."""
    if not _is_open(path, "write"):  # looked at before the numbers are, which may be many
        checks.model_file("path", path)
    header: dict[str, Any] = {"__metadata__": {"fastnn": json.dumps(description, allow_nan=False), "sha256": "0" * 64}}
    names = {dtype: name for name, dtype in TYPES.items()}
    place = 0
    for name, array in tensors.items():
        if not np.isfinite(array).all():
            raise ValueError(
                f"the model cannot be saved: {name!r} holds numbers that are not finite, which a file must not"
            )
        end = place + array.nbytes
        dtype = names[array.dtype.newbyteorder("<")]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [place, end]}
        place = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256(len(text).to_bytes(8, "little") + text)
    arrays = [np.ascontiguousarray(array, array.dtype.newbyteorder("<")) for array in tensors.values()]
    for array in arrays:
        digest.update(array.data)
    text = text.replace(b'"sha256":"' + b"0" * 64, b'"sha256":"' + digest.hexdigest().encode())
    with _writing(path) as write_bytes:
        write_bytes(len(text).to_bytes(8, "little") + text)
        for array in arrays:
            write_bytes(array)


def _is_open(place: Any, method: str) -> bool:
    """Whether a place is no path but a file, open in binary mode, that has the method: "read" or "write"."""
    if isinstance(place, io.TextIOBase):
        raise TypeError(f"path is {shown(place)}, opened for text; expected a path, or a file opened in binary mode")
    return not isinstance(place, (str, os.PathLike)) and callable(getattr(place, method, None))


@contextlib.contextmanager
def _writing(place: Any) -> Iterator[Callable[[Any], Any]]:
    """What writes bytes to a path or to an open file."""
    if not _is_open(place, "write"):
        with _replacing(place) as write_bytes:
            yield write_bytes
    elif isinstance(place, io.RawIOBase):  # which may take a part of the bytes
        buffered = io.BufferedWriter(place)
        try:
            yield buffered.write
            buffered.flush()
        finally:
            buffered.detach()
    else:
        yield lambda content: place.write(bytes(content))


@contextlib.contextmanager
def _reading(place: Any) -> Iterator[tuple[BinaryIO, int]]:
    """(a file, bytes that it has) of a path or of an open file, from where that stands."""
    if not _is_open(place, "read"):
        with open(checks.path("path", place), "rb") as file:
            yield file, os.fstat(file.fileno()).st_size
        return
    content = place.read()
    if not isinstance(content, bytes):
        raise TypeError(f"path is {shown(place)}, which yields {shown(content)}; expected a file opened in binary mode")
    yield io.BytesIO(content), len(content)


@contextlib.contextmanager
def _replacing(path: str | os.PathLike[str]) -> Iterator[Callable[[Any], Any]]:
    """Writes to a new file beside ``path``, which takes its place when all is on the disk."""
    given = os.fspath(path)
    path = os.path.realpath(given)
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.{secrets.token_hex(8)}.tmp")
    mode = os.stat(path).st_mode & 0o777 if os.path.exists(path) else None
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    except OSError as fault:  # about the file that was asked for
        raise type(fault)(fault.errno, fault.strerror, given) from None
    try:
        with os.fdopen(handle, "wb") as file:
            yield file.write
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    if os.name == "posix":  # the folder's entry, too, has to reach the disk
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            with contextlib.suppress(OSError):
                os.fsync(descriptor)
        finally:
            os.close(descriptor)


# Reading.


def read_model(path: Place, parts: Mapping[str, Any] | None) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(what the file says of the model, with its layers and the arguments of ``compile`` revived; its tensors)."""
    if parts is not None and not isinstance(parts, Mapping):
        raise TypeError(f"parts is {shown(parts)}; expected a dict {{name: function or class}}")
    description, tensors = read(path)
    if description.get("weights") is True:
        raise ModelFileError("the file holds weights alone; expected a model, or model.load_weights(path)")
    missing = {"name", "dtype", "seed", "step", "epoch", "layers", "compiled"} - set(description)
    if missing:
        raise ModelFileError(f"the file does not say the model's {', '.join(sorted(missing))}")
    for key, most in (("step", checks.MOST_STEPS), ("epoch", checks.MOST_STEPS), ("seed", 2**63 - 1)):
        if type(description[key]) is not int or not 0 <= description[key] <= most:
            raise ModelFileError(f"the file says that the model's {key} is {shown(description[key])}")
    classes, parts = known_classes(), parts or {}
    description["layers"] = revive(description["layers"], classes, parts)
    _check_sizes(description["layers"], tensors)
    compiled = description["compiled"]
    if compiled is not None:
        keys = {"optimizer", "loss", "metrics", "threads", "precision"}
        if not isinstance(compiled, dict) or {*compiled, "precision"} != keys:
            raise ModelFileError("the file does not say how the model was compiled")
        compiled.setdefault("precision", "float32")  # of which an older version says nothing
        description["compiled"] = {key: revive(value, classes, parts) for key, value in compiled.items()}
    return description, tensors


def column_names(value: Any, inputs: int) -> list[str] | None:
    """What a file says of the names of the columns; those of an older version say nothing."""
    if value is not None and not (
        isinstance(value, list) and len(value) == inputs and all(isinstance(name, str) for name in value)
    ):
        raise ModelFileError(f"the file says that the model's columns are {shown(value)}; expected {inputs} names")
    return value


def load_weights(model: Model, path: Place) -> None:
    """Set the model's weights to those in the file; its layers need the same names and shapes.

    Raises a ModelFileError that says what does not fit; then nothing has changed.
    """
    with naming(path):
        _, tensors = read(path)
        wanted = model.named_parameters()
        weights = {name: array for name, array in tensors.items() if name in wanted or not OF_A_SLOT.match(name)}
        fill(wanted, weights, f"the model {model.name!r}")


@contextlib.contextmanager
def naming(path: Place) -> Iterator[None]:
    """Errors about the file begin with its path, or with its name or kind where it was open."""
    try:
        yield
    except ModelFileError as fault:
        if isinstance(path, (str, os.PathLike)):
            raise ModelFileError(f"{os.fspath(path)}: {fault}") from None
        raise ModelFileError(f"{getattr(path, 'name', type(path).__name__)}: {fault}") from None


def _check_sizes(layers: Any, tensors: Mapping[str, np.ndarray]) -> None:
    """Refuse layers that are larger than the tensors of the file, before they take memory."""
    from .layers import Dense, Layer

    if not isinstance(layers, list) or not all(isinstance(layer, Layer) for layer in layers):
        raise ModelFileError("the file does not describe a list of layers")
    shapes = Counter(array.shape for array in tensors.values())
    width = 0
    for layer in layers:
        if isinstance(layer, Dense):
            shape = width, layer.units
            if shapes[shape] == 0:
                raise ModelFileError(f"the file describes weights of shape {shape}, which it does not hold")
            shapes[shape] -= 1  # so many layers, so many tensors
        width = layer.units or width


def fill(wanted: Mapping[str, np.ndarray], tensors: Mapping[str, np.ndarray], what: str) -> None:
    """Copy the tensors into the arrays of the same names, or raise an error and copy nothing."""
    missing, further = sorted(set(wanted) - set(tensors)), sorted(set(tensors) - set(wanted))
    if missing:
        raise ModelFileError(f"the file has no {missing[0]!r}, which {what} has{nearest(missing[0], tensors)}")
    if further:
        raise ModelFileError(f"the file has {further[0]!r}, which {what} does not have{nearest(further[0], wanted)}")
    for name, array in wanted.items():
        given = tensors[name]
        if given.shape != array.shape:
            raise ModelFileError(f"{name!r} has shape {given.shape} in the file; expected {array.shape}, as in {what}")
        if given.dtype.newbyteorder("=") != array.dtype:
            raise ModelFileError(f"{name!r} is {given.dtype.name} in the file; expected {array.dtype.name}")
    for name, array in wanted.items():
        array[...] = tensors[name]


def read(path: Place) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(description, tensors) of a file that has been checked from its first byte to its last."""
    with _reading(path) as (file, size):
        start = file.read(8)
        if size < 8 or len(start) < 8:
            what = f"has {size} bytes, too few" if size else "is empty"
            raise ModelFileError(f"the file {what}; expected {WRITTEN}")
        length = int.from_bytes(start, "little")
        if length > min(MOST_HEADER, size - 8):
            raise ModelFileError(
                f"the file says that its header has {length} bytes, of {size} in all: it is cut off, or no "
                f"safetensors file; expected {WRITTEN}"
            )
        text = file.read(length)
        header = _json(text, "header")
        metadata = header.pop("__metadata__", None)
        if not isinstance(metadata, dict) or set(metadata) != {"fastnn", "sha256"}:
            raise ModelFileError(f"the file's metadata are not fastnn's; expected {WRITTEN}")
        end = max((_offsets(name, entry)[1] for name, entry in header.items()), default=0)
        if end != size - 8 - length:  # said before as much memory is taken
            raise ModelFileError(
                f"the file has {size - 8 - length} bytes of numbers; expected {end}, as its header says"
            )
        try:
            data = memoryview(file.read(end))
        except (MemoryError, OverflowError):
            raise MemoryError(f"the model's file has {size} bytes, more than there is memory for") from None
    _check_digest(start, text, metadata["sha256"], data)
    description = _json(metadata["fastnn"], "description")
    version = description.get("format")
    if type(version) is not int or version < 1:
        raise ModelFileError(f"the file's format is {shown(version)}; expected a whole number")
    if version > FORMAT:
        raise ModelFileError(f"the file was written by a newer fastnn (format {version}; this one reads {FORMAT})")
    return description, _tensors(header, data)


def _check_digest(length: bytes, text: bytes, claimed: Any, data: memoryview) -> None:
    """Compare the digest of the file, its own place zeroed, with what the header claims."""
    if not isinstance(claimed, str) or len(claimed) != 64:
        raise ModelFileError("the file has no SHA-256 digest")
    field = b'"sha256":"' + claimed.encode(errors="replace")
    if text.count(field) != 1:
        raise ModelFileError("the file's digest does not stand where fastnn writes it")
    digest = hashlib.sha256(length + text.replace(field, b'"sha256":"' + b"0" * 64))
    digest.update(data)
    if digest.hexdigest() != claimed:
        raise ModelFileError("the file is damaged: its bytes do not have the digest that it states")


def _json(text: Any, what: str) -> dict[str, Any]:
    """A JSON object, with each name once and no number that is none."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a name stands twice")
        return found

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no number")

    try:
        found = json.loads(text, object_pairs_hook=once, parse_constant=refuse)
    except (ValueError, TypeError, RecursionError) as fault:
        raise ModelFileError(f"the file's {what} cannot be read: {fault}") from None
    if not isinstance(found, dict):
        raise ModelFileError(f"the file's {what} is no JSON object")
    return found


def _tensors(header: Mapping[str, Any], data: memoryview) -> dict[str, np.ndarray]:
    """The tensors that the header describes; together they are the data, without gaps and overlaps."""
    found: dict[str, np.ndarray] = {}
    place = 0
    for name, entry in sorted(header.items(), key=lambda item: _offsets(*item)):
        begin, end = _offsets(name, entry)
        shape = entry["shape"]
        if not isinstance(entry["dtype"], str) or entry["dtype"] not in TYPES:
            raise ModelFileError(f"{name!r} has the type {shown(entry['dtype'])}; expected one of {', '.join(TYPES)}")
        sizes = isinstance(shape, list) and len(shape) <= MOST_AXES and all(type(size) is int for size in shape)
        if not sizes or not all(0 < size < 2**63 for size in shape):
            raise ModelFileError(f"{name!r} has the shape {shown(shape)}; expected a list of sizes")
        dtype = TYPES[entry["dtype"]]
        if begin != place or end - begin != math.prod(shape) * dtype.itemsize or end > len(data):
            raise ModelFileError(f"{name!r} has a place in the file that does not fit its shape or the others")
        array: np.ndarray = np.frombuffer(data[begin:end], dtype).reshape(shape)
        if not np.isfinite(array).all():
            raise ModelFileError(f"{name!r} holds numbers that are not finite")
        found[name], place = array, end
    return found


def _offsets(name: str, entry: Any) -> tuple[int, int]:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ModelFileError(f"the header's entry {shown(name)} does not describe a tensor")
    offsets = entry["data_offsets"]
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(type(place) is int for place in offsets):
        raise ModelFileError(f"{name!r} has the offsets {shown(offsets)}; expected two whole numbers")
    if not 0 <= offsets[0] <= offsets[1] < 2**63:
        raise ModelFileError(f"{name!r} has the offsets {shown(offsets)}; expected increasing ones")
    return offsets[0], offsets[1]
