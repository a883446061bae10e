"""Compiled kernels on disk, so that a new process need not compile them again.

Numba's own cache looks at one file: a change in another file that a kernel calls would leave old machine code
running, and a damaged entry would break every later run. Here every entry lies in a folder whose name is a
*stamp* of all that the machine code depends on: the whole kernels tree, the versions, the processor, the modes.
Entries are pickles, so a folder that belongs to another user is not trusted. Never share or ship a cache.

``FASTNN_CACHE_DIR`` chooses the folder; ``FASTNN_CACHE_DIR=off`` does without one.
"""

from __future__ import annotations

import functools
import hashlib
import os
import pickle
import re
import shutil
import stat
import sys
import tempfile
import time
import types as python_types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numba
import numpy as np
from numba import types
from numba.core import compiler, config, serialize
from numba.core.dispatcher import Dispatcher
from numba.core.runtime import rtsys

from . import target

_TREE = Path(__file__).parent
_PACKAGE = __name__.rpartition(".")[0]

#: Raised when entries are written in another way: a part of the stamp, so that older ones are not read.
_FORMAT = 2

#: Bytes of the SHA-256 digest that an entry begins with.
_DIGEST_BYTES = 32

#: Bytes that a larger entry has.
_ENTRY_BYTES = 1 << 17

#: Days after which folders of other stamps (older versions, other modes) are deleted.
_KEEP_DAYS = 30

#: Settings of Numba that change no machine code.
_HARMLESS = re.compile("CACHE|COLOR|CUDA|HELP|NUM_THREADS|THREADING|TRACE|WARN")

#: Between a function's name and the digest of what it closes over; no name in Python has it.
_MARK = "@"


class UnknownValueError(Exception):
    """Something that a fingerprint cannot tell apart, so that its function is not cached."""


def sources() -> str:
    """A digest of every source file of the kernels."""
    digest = hashlib.sha256()
    paths = sorted(_TREE.rglob("*.py"))
    try:
        for path in paths:
            digest.update(path.relative_to(_TREE).as_posix().encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    except OSError:
        return ""
    return digest.hexdigest() if paths else ""


#: As they were when this process imported them; a file that is edited later is none of this process's code.
_SOURCES = sources()


def edited() -> bool:
    """Whether a source file has changed: what is imported late is the new one, and the stamp is that of the old."""
    return sources() != _SOURCES


@functools.cache
def stamp() -> str:
    """A digest of everything that machine code depends on, but for the function and its signature."""
    cpu = target.name(), target.features()
    versions = sys.version, numba.__version__, llvmlite.__version__, llvm.llvm_version_info, np.__version__
    settings = sorted(
        (name, repr(value))
        for name, value in vars(config).items()
        if name.isupper() and not _HARMLESS.search(name) and isinstance(value, (bool, int, float, str, type(None)))
    )
    vector_bytes = os.environ.get("FASTNN_VECTOR_BYTES", "")
    parts = _FORMAT, _SOURCES, cpu, versions, llvm.get_process_triple(), settings, vector_bytes
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def user_folder() -> Path:
    """The user's folder for caches, as the system has it."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "fastnn"
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "fastnn" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastnn"


@functools.cache
def _open_folder() -> tuple[Path | None, str]:
    """The folder, if there is one that can be read, and what is wrong where it cannot be written."""
    chosen = os.environ.get("FASTNN_CACHE_DIR", "")
    if chosen.lower() == "off" or not _SOURCES or edited():
        return None, ""
    path = None
    try:
        root = (Path(chosen) if chosen else user_folder()).absolute()  # whatever folder the process is in later on
        place = root / stamp()
        new = not place.is_dir()
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Not where a link points: who can place a link or a file here chooses the code that we run. The system's
        # administrator does so anyway, as whoever made the image of a container.
        found = place.lstat()
        if hasattr(os, "getuid") and (
            found.st_uid not in (os.getuid(), 0) or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        ):
            raise PermissionError(f"others can write to {place}")
        path = place
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(bytes(_ENTRY_BYTES))  # as much as an entry has: the disk may be full
            os.utime(path)  # marks the folder as in use; a file without a name does not
        if new:
            _delete_old(root)
        return path, ""
    except (OSError, RuntimeError) as fault:  # RuntimeError: no home folder
        return path, str(fault)


def folder() -> Path | None:
    """The folder of this process's stamp, made if need be; None where there can be none."""
    return _open_folder()[0]


def writable() -> bool:
    """Whether new entries can be kept."""
    path, fault = _open_folder()
    return path is not None and not fault


#: What was wrong with the folder when that was told.
_faults_told: list[str] = []


def _warn_once() -> None:
    """Warn that what was not found will not be found the next time either, if that is so."""
    fault = _open_folder()[1]
    if fault and not _faults_told:
        _faults_told.append(fault)  # before the warning, which may be an error
        warnings.warn(
            f"fastnn compiles anew in each process, because its cache cannot be written ({fault}); "
            "set FASTNN_CACHE_DIR to a folder of yours, or to 'off'",
            RuntimeWarning,
            stacklevel=2,
        )


def _delete_old(root: Path) -> None:
    """Delete folders of other stamps that nobody has used for long, as far as that works."""
    for path in root.iterdir():
        try:
            if re.fullmatch("[0-9a-f]{16}", path.name) and time.time() - path.stat().st_mtime > 86400 * _KEEP_DAYS:
                shutil.rmtree(path, ignore_errors=True)
        except OSError:  # another process was faster
            pass


def fingerprint(value: Any, seen: tuple[Any, ...] = ()) -> Any:
    """Nested tuples and strings that tell ``value`` apart from others, equal in every process.

    A function of this tree is its name, because the stamp covers its code. A user's function is its bytecode and the
    values that it refers to; it has to be frozen (``formulas/own.py``), else they might change under the machine code.
    Raises UnknownValueError for what cannot be told apart.
    """
    if isinstance(value, Dispatcher):
        options = sorted((name, _plain(option)) for name, option in value.targetoptions.items())
        return "compiled", options, fingerprint(value.py_func, seen)
    if hasattr(value, "targetoptions") and hasattr(value, "py_func"):  # compiled for a GPU, by the same options all
        return "device", fingerprint(value.py_func, seen)
    if isinstance(value, functools.partial):
        return "partial", fingerprint(value.func, seen), fingerprint((value.args, tuple(value.keywords.items())), seen)
    if isinstance(value, python_types.FunctionType):
        if value in seen:
            # The machine code has a function then, found by a name that another version of it may have too.
            raise UnknownValueError(f"{value!r} calls itself")
        seen = (*seen, value)
        name = value.__module__, value.__qualname__.partition(_MARK)[0]
        defaults = fingerprint((value.__defaults__, tuple((value.__kwdefaults__ or {}).items())), seen)
        cells = [fingerprint(cell.cell_contents, seen) for cell in value.__closure__ or ()]
        if in_tree(value):
            return "function", name, defaults, *cells
        if not hasattr(value, "frozen"):
            raise UnknownValueError(f"{value!r} may refer to something that changes")
        globals_used = [
            (n, fingerprint(value.__globals__[n], seen)) for n in value.__code__.co_names if n in value.__globals__
        ]
        return "function", name, defaults, _code(value.__code__), tuple(cells), *globals_used
    if type(value) is tuple:
        return "tuple", *(fingerprint(part, seen) for part in value)
    if isinstance(value, python_types.ModuleType) and _known_module(value.__name__):
        return "module", value.__name__
    if isinstance(value, python_types.BuiltinFunctionType) and isinstance(value.__self__, python_types.ModuleType):
        return "builtin", value.__module__, value.__name__
    return _plain(value)


def in_tree(function: Callable[..., Any]) -> bool:
    """Whether a function belongs to this tree."""
    return str(function.__module__).startswith(_PACKAGE + ".")


def _known_module(name: str) -> bool:
    """Whether the stamp covers a module."""
    return name in ("math", "numpy") or name.startswith(_PACKAGE + ".")


def _plain(value: Any) -> tuple[str, str]:
    """The fingerprint of a number, a string, a type or a set of those."""
    if isinstance(value, (set, frozenset)):  # sorted, because the order differs from process to process
        return "set", repr(sorted(_plain(part) for part in value))
    plain = (bool, int, float, complex, str, bytes, type(None), np.generic, np.dtype, np.ufunc, types.Type)
    builtin = isinstance(value, type) and value.__module__ in ("builtins", "numpy")
    if not (isinstance(value, plain) or builtin) or " at 0x" in repr(value):
        raise UnknownValueError(f"cannot fingerprint {value!r}")
    return type(value).__name__, repr(value)


def _code(code: python_types.CodeType) -> Any:
    if any(isinstance(part, python_types.CodeType) for part in code.co_consts):
        raise UnknownValueError(f"{code.co_name} has a function inside, which may not be inlined")
    counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
    names = code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
    return code.co_code.hex(), code.co_exceptiontable.hex(), counts, names, tuple(map(repr, code.co_consts))


class KernelCache:
    """The entries of one function, in the form that Numba's dispatchers and C functions expect of a cache.

    told : called with "loaded" or "missed" and the function's name.
    """

    def __init__(self, function: Callable[..., Any], told: Callable[[str, str], None]):
        self.function, self.told = function, told
        name = function.__qualname__.partition(_MARK)[0]
        self.name = f"{function.__module__.rpartition('.')[2]}.{name}"

    @property
    def cache_path(self) -> str:
        return str(folder() or "")

    def enable(self) -> None:
        """Numba's protocol; there is nothing to switch."""

    disable = flush = enable

    def _path(self, signature: Any) -> Path | None:
        """The file of the entry for ``signature``, or None where there is to be none."""
        place = folder()
        if place is None:
            return None
        try:
            identity = fingerprint(self.function)
        except (UnknownValueError, ValueError, RecursionError):  # ValueError: a closure's cell that is empty yet
            return None
        if self.function.__closure__:
            # Functions of one factory share a name, and Numba numbers them anew in each process. Two that two
            # processes compiled could meet in a third under one symbol, and the linker would mix them up.
            name = self.function.__qualname__.partition(_MARK)[0]
            self.function.__qualname__ = f"{name}{_MARK}{_digest(identity)}"
        readable = re.sub(r"[^A-Za-z0-9_.]", "", self.name.replace("<locals>.", ""))[-60:]
        return place / f"{readable}-{_digest((str(signature), identity))}"

    def has(self, signature: Any) -> bool:
        """Whether there is an entry for ``signature``."""
        path = self._path(signature)
        return path is not None and path.exists()

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        """The compiled function for ``signature``, or None: compile it."""
        result = self._load(signature, target_context)
        self.told("missed" if result is None else "loaded", self.name)
        if result is None:
            _warn_once()
        return result

    def _load(self, signature: Any, target_context: Any) -> Any:
        path = self._path(signature)
        if path is None:
            return None
        try:
            content = path.read_bytes()
        except OSError:
            return None
        digest, payload = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if hashlib.sha256(payload).digest() == digest:
            try:
                return self._rebuild(pickle.loads(payload), target_context)
            except Exception:  # of another Numba, perhaps: whatever it is, compiling anew is right
                pass
        try:
            path.unlink()
        except OSError:
            pass
        return None

    def _rebuild(self, entry: Any, target_context: Any) -> Any:
        """The compiled function from what ``save_overload`` kept of it."""
        symbols, parts = entry
        _provide(symbols, target_context)
        return compiler.CompileResult._rebuild(target_context, *parts)

    def save_overload(self, signature: Any, result: Any) -> None:
        """Write the compiled function to its file; at worst it is not written."""
        path = self._path(signature)
        try:
            if path is None or result.lifted or result.library.has_dynamic_globals or edited():
                return
            module, parts = result.library._final_module, result._reduce()
            defined = [function.name for function in module.functions if not function.is_declaration]
            description = result.fndesc
            own = description.llvm_func_name, description.llvm_cpython_wrapper_name, description.llvm_cfunc_wrapper_name
            if any(name not in own and not name.startswith(("NRT_", "fastnn_tile_")) for name in defined):
                return  # another function, not inlined: two processes may number two of them alike
            symbols = [function.name for function in module.functions if function.is_declaration]
            symbols += [variable.name for variable in module.global_variables if variable.is_declaration]
            (entry,) = set(own[1:]).intersection(defined)
            parts = _without_intermediate_code(parts, entry)
            write(path, serialize.dumps(([name for name in symbols if not name.startswith("llvm.")], parts)))
        except Exception:  # a full disk, another Numba: the function itself is fine
            return


def write(path: Path, payload: bytes) -> None:
    """Write an entry as a whole or, if that fails, not at all."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(payload).digest() + payload)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _digest(value: Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:24]


def _provide(symbols: list[str], target_context: Any) -> None:
    """Make what the machine code calls known to the linker, which would end the process for want of a symbol.

    Numba refreshes its context before it loads anything. That imports all it can compile, for a quarter of a
    second, and is needed for none of our functions as far as we know; so it is the last resort.
    """
    for prepare in (rtsys.initialize, type(target_context).refresh):
        if all(llvm.address_of_symbol(name) is not None for name in symbols):
            return
        prepare(target_context)


def _without_intermediate_code(parts: Any, entry: str) -> Any:
    """The parts of a compiled function with machine code alone: nobody links it into a caller.

    Numba takes the names that the machine code defines from the intermediate code, so one stays, as a stub.
    """
    stub = llvm.parse_assembly(f'define void @"{entry}"() {{ ret void }}').as_bitcode()
    (name, kind, (machine_code, _)), *rest = parts
    return ((name, kind, (machine_code, stub)), *rest)
