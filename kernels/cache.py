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
import sys
import tempfile
import time
import types as python_types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
from numba import types
from numba.core import compiler, config, serialize
from numba.core.dispatcher import Dispatcher

__all__ = ["KernelCache"]

_TREE = Path(__file__).parent
_PACKAGE = __name__.rpartition(".")[0]
_FORMAT = 1
_DIGEST_BYTES = 32

#: Days after which folders of other stamps (older versions, other modes) are deleted.
_KEEP_DAYS = 30

#: Settings of Numba that change no machine code.
_HARMLESS = re.compile(r"CACHE|WARN|DUMP|COLOR|THREAD|GDB|TRACE|^(DEBUG|HELP|DEVELOPER)|PROFILING|CUDA|PRINT|SHOW")


class UnknownValueError(Exception):
    """Something that a fingerprint cannot tell apart, so that its function is not cached."""


@functools.cache
def stamp() -> str:
    """A digest of everything that machine code depends on, but for the function and its signature."""
    digest = hashlib.sha256(repr(_FORMAT).encode())
    for path in sorted(_TREE.rglob("*.py")):
        digest.update(path.relative_to(_TREE).as_posix().encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    cpu = (config.CPU_NAME or llvm.get_host_cpu_name(), config.CPU_FEATURES or llvm.get_host_cpu_features().flatten())
    versions = sys.version, numba.__version__, llvm.llvm_version_info, np.__version__, llvm.get_process_triple()
    settings = sorted(
        (name, repr(value))
        for name, value in vars(config).items()
        if name.isupper() and not _HARMLESS.search(name) and isinstance(value, (bool, int, float, str, type(None)))
    )
    digest.update(repr((cpu, versions, settings, os.environ.get("FASTNN_VECTOR_BYTES", ""))).encode())
    return digest.hexdigest()[:16]


def user_folder() -> Path:
    """The user's folder for caches, as the system has it."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "fastnn"
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "fastnn" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastnn"


@functools.cache
def folder() -> Path | None:
    """The folder of this stamp, made if need be; None, with one warning, where none can be written."""
    chosen = os.environ.get("FASTNN_CACHE_DIR", "")
    if chosen.lower() == "off":
        return None
    try:
        root = Path(chosen) if chosen else user_folder()
        path = root / stamp()
        new = not path.is_dir()
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if hasattr(os, "getuid") and path.stat().st_uid != os.getuid():
            raise PermissionError(f"{path} belongs to another user")
        with tempfile.NamedTemporaryFile(dir=path):
            pass
        if new:
            _delete_old(root)
        return path
    except (OSError, RuntimeError) as fault:  # RuntimeError: no home folder
        warnings.warn(
            f"fastnn compiles anew in each process, because its cache cannot be written ({fault}); "
            "set FASTNN_CACHE_DIR to a folder of yours, or to 'off'",
            RuntimeWarning,
            stacklevel=2,
        )
        return None


def _delete_old(root: Path) -> None:
    """Delete folders of other stamps that nobody has used for long."""
    for path in root.iterdir():
        if re.fullmatch("[0-9a-f]{16}", path.name) and time.time() - path.stat().st_mtime > 86400 * _KEEP_DAYS:
            shutil.rmtree(path, ignore_errors=True)


def fingerprint(value: Any, seen: tuple[Any, ...] = ()) -> Any:
    """Nested tuples and strings that tell ``value`` apart from others, equal in every process.

    A function of this tree is its name, because the stamp covers its code; any other is its bytecode and the
    values that it refers to. Raises UnknownValueError for what cannot be told apart.
    """
    if isinstance(value, Dispatcher):
        value = value.py_func
    if isinstance(value, functools.partial):
        return "partial", fingerprint(value.func, seen), fingerprint((value.args, tuple(value.keywords.items())), seen)
    if isinstance(value, python_types.FunctionType):
        if value in seen:
            return "recursion", seen.index(value)
        seen = (*seen, value)
        cells = [fingerprint(cell.cell_contents, seen) for cell in value.__closure__ or ()]
        name = (value.__module__, value.__qualname__)
        if str(value.__module__).startswith(_PACKAGE + "."):
            return "function", name, tuple(cells)
        globals_used = [fingerprint(value.__globals__.get(key), seen) for key in _names(value.__code__)]
        return "function", name, _code(value.__code__), fingerprint(value.__defaults__), tuple(cells), *globals_used
    if isinstance(value, (tuple, list)):
        return type(value).__name__, *(fingerprint(part, seen) for part in value)
    if isinstance(value, python_types.ModuleType) and value.__name__ in ("math", "numpy"):
        return "module", value.__name__
    plain = (bool, int, float, complex, str, bytes, type(None), np.generic, np.dtype, types.Type)
    if isinstance(value, plain) or isinstance(value, type) or (callable(value) and isinstance(value, np.ufunc)):
        return type(value).__name__, repr(value)
    if isinstance(value, python_types.BuiltinFunctionType):
        return "builtin", value.__module__, value.__name__
    raise UnknownValueError(f"cannot fingerprint {value!r}")


def _code(code: python_types.CodeType) -> Any:
    constants = [_code(part) if isinstance(part, python_types.CodeType) else repr(part) for part in code.co_consts]
    return code.co_code.hex(), tuple(constants), code.co_names, code.co_varnames, code.co_freevars


def _names(code: python_types.CodeType) -> list[str]:
    """The global names that a function and the functions inside it may refer to."""
    names = set(code.co_names)
    for part in code.co_consts:
        if isinstance(part, python_types.CodeType):
            names.update(_names(part))
    return sorted(names)


class KernelCache:
    """The entries of one function, in the form that Numba's dispatchers and C functions expect of a cache.

    told : called with "loaded" or "missed" and the function's name; linked : whether callers link the code in,
    which takes the intermediate code besides the machine code.
    """

    def __init__(self, function: Callable[..., Any], told: Callable[[str, str], None], linked: bool):
        self.function, self.told, self.linked = function, told, linked
        self.name = f"{function.__module__.rpartition('.')[2]}.{function.__qualname__}"

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
            key = repr((str(signature), fingerprint(self.function), self.linked))
        except UnknownValueError:
            return None
        readable = re.sub(r"[^A-Za-z0-9_.]", "", self.name.replace("<locals>.", ""))[-60:]
        return place / f"{readable}-{hashlib.sha256(key.encode()).hexdigest()[:24]}"

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        """The compiled function for ``signature``, or None: compile it."""
        target_context.refresh()
        result = self._load(signature, target_context)
        self.told("missed" if result is None else "loaded", self.name)
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
                return compiler.CompileResult._rebuild(target_context, *pickle.loads(payload))
            except Exception:  # of another Numba, perhaps: whatever it is, compiling anew is right
                pass
        try:
            path.unlink()
        except OSError:
            pass
        return None

    def save_overload(self, signature: Any, result: Any) -> None:
        """Write the compiled function to its file; at worst it is not written."""
        path = self._path(signature)
        if path is None or result.lifted or result.library.has_dynamic_globals:
            return
        try:
            parts = result._reduce()
            if not self.linked:
                parts = _without_intermediate_code(parts, result.fndesc.llvm_cfunc_wrapper_name)
            payload = serialize.dumps(parts)
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(hashlib.sha256(payload).digest() + payload)
                os.replace(temporary, path)
            except BaseException:
                os.unlink(temporary)
                raise
        except (OSError, AttributeError, TypeError, ValueError, pickle.PicklingError):
            return


def _without_intermediate_code(parts: Any, entry: str) -> Any:
    """The parts of a compiled C function with machine code alone: nobody links it into a caller.

    Numba takes the names that the machine code defines from the intermediate code, so one stays, as a stub.
    """
    stub = llvm.parse_assembly(f'define void @"{entry}"() {{ ret void }}').as_bitcode()
    (name, kind, (machine_code, _)), *rest = parts
    return ((name, kind, (machine_code, stub)), *rest)
