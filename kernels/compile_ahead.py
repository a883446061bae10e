"""Functions that a model is about to need, compiled by several processes at once.

Numba compiles one function at a time in a process, whatever its number of threads. So helpers, processes that run
``serve``, each compile one function after another into the compile cache, this process does the same, and then it
loads what they made. Whatever goes wrong with a helper, its function is compiled here as if there had been none.

``FASTNN_COMPILE_PROCESSES`` says how many processes compile at most, this one included.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import io
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
from numba.core.dispatcher import Dispatcher

from . import jit
from .cache import folder, in_tree, stamp, writable
from .cores import cores, number_in_environment

#: More processes gain nothing: one function alone takes a fifth of the time.
MOST_PROCESSES = 4

#: Missing functions for each helper: it takes a second and a half to start, as long as some of them.
FUNCTIONS_EACH = 3

#: Helpers get so many times the seconds that this process compiled, and some more, before it does their work itself.
PATIENCE, LEAST_PATIENCE = 2.0, 5.0

#: What a helper runs, with the stamp and the places of modules as arguments. It never sees the user's program.
PROGRAM = "import sys; sys.path[:] = sys.argv[2:]; from fastnn.kernels.compile_ahead import serve; serve(sys.argv[1])"

#: The types of numbers that factories are called with.
REALS = np.float32, np.float64

_SETTING = "FASTNN_COMPILE_PROCESSES"


def compile_ahead(calls: list[Any]) -> None:
    """Compile functions, or load them from the disk, those that take longest first.

    calls : what to compile: kernels that have a ``signature``, and ``functools.partial`` objects of factories in this
    tree that give a function for ``address``. A function of the user's is compiled in this process.
    """
    if not jit.COMPILED or not writable():
        return
    functions = {call() if isinstance(call, functools.partial) else call: call for call in calls}
    missing = {function: _named(call) for function, call in functions.items() if not jit.on_disk(function)}
    if not missing:
        return
    with jit.collector_paused():  # once for all: when it goes on it looks at whatever the compiler has made
        made_by_helpers = _compile_with_helpers(missing)
        before = len(jit.loaded)
        for function in missing:
            jit.compile_now(function)
    if made_by_helpers:
        jit.compiled += jit.loaded[before:]  # by a helper, for this process
        del jit.loaded[before:]


def _compile_with_helpers(missing: dict[Any, bytes | None]) -> bool:
    """Compile functions in several processes, into the cache or into this one; whether there were any helpers."""
    waiting = deque(item for item in missing.items() if item[1] is not None)
    number = min(processes() - 1, len(waiting) // FUNCTIONS_EACH)
    with contextlib.ExitStack() as stack:
        if number == 0 or not _alone(stack):
            return False
        started = time.monotonic()
        helpers = []
        with contextlib.suppress(OSError, RuntimeError):  # no more processes or threads to be had
            for _ in range(number):
                helpers.append(_Helper(waiting))
                stack.callback(helpers[-1].end)
                helpers[-1].start()
        for function, name in missing.items():
            if name is None:
                jit.compile_now(function)
        while waiting:
            with contextlib.suppress(IndexError):  # a helper was faster
                jit.compile_now(waiting.popleft()[0])
        limit = time.monotonic() + PATIENCE * (time.monotonic() - started) + LEAST_PATIENCE
        for helper in helpers:
            if helper.begun:
                helper.join(max(0.0, limit - time.monotonic()))
        return True


def processes() -> int:
    """How many processes may compile, this one included."""
    number = number_in_environment(_SETTING) or cores()
    # A program that has Python inside would be started a second time; so would a program made of one file.
    is_python = Path(sys.executable or "").name.lower().startswith("python") and not getattr(sys, "frozen", False)
    others = sys.modules.get("multiprocessing.process")  # of a pool, say, where each core has its process already
    in_pool = others is not None and others.current_process().name != "MainProcess"
    return min(number, MOST_PROCESSES) if is_python and not in_pool else 1


class _Namer(pickle.Pickler):
    """Names things of this tree, so that another process finds them; whatever is not of this tree is an error."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, Dispatcher) and in_tree(value):
            return value.py_func.__qualname__
        known = isinstance(value, functools.partial) or any(value is one for one in (functools.partial, *REALS))
        if known or in_tree(value):
            return NotImplemented
        raise pickle.PicklingError(f"{value!r} is not of this tree")


def _named(call: Any) -> bytes | None:
    """A call as bytes from which a helper makes the same function, or None."""
    file = io.BytesIO()
    try:
        _Namer(file).dump(call)
    except (pickle.PicklingError, AttributeError, TypeError):  # which of them depends on Python's version
        return None
    return file.getvalue()


def _alone(stack: contextlib.ExitStack) -> bool:
    """Whether nobody else has helpers, until the stack is left: many who start at once must not start many each."""
    try:
        file = stack.enter_context(open(folder() / "helpers.lock", "ab"))  # type: ignore[operator]
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


class _Helper(threading.Thread):
    """A process that compiles, and the thread that gives it one function after another.

    waiting : (function, name) of those that nobody has taken; begun : whether it may have taken one.
    """

    def __init__(self, waiting: deque[tuple[Any, bytes]]):
        super().__init__(daemon=True)
        self.waiting, self.begun = waiting, False
        place = str(folder().parent.resolve())  # type: ignore[union-attr]
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, stamp(), *map(str, sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, _SETTING: "1", "FASTNN_CACHE_DIR": place},
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )

    def run(self) -> None:
        """Until none is left, or the process has ended: then there is nothing to read."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            while self.process.stdout.read(1):  # type: ignore[union-attr]
                self.begun = True
                self.process.stdin.write(self.waiting.popleft()[1])  # type: ignore[union-attr]
                self.process.stdin.flush()  # type: ignore[union-attr]

    def end(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()
        if self.ident is not None:
            self.join()
        with contextlib.suppress(OSError), self.process:
            pass


def serve(expected: str) -> None:
    """What a helper does: compile what it reads, until there is no more, or the process that started it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for that process, which ends this one
    gc.disable()  # whatever the compiler makes is needed to the end
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # so that nothing else that is printed is taken for an answer
    if stamp() != expected:
        return
    sys.modules.setdefault("scipy", None)  # type: ignore[arg-type]  # Numba would import it; no kernel calls it
    with contextlib.suppress(EOFError, OSError):
        while True:
            answers.write(b".")
            call = pickle.load(sys.stdin.buffer)
            jit.compile_now(call() if isinstance(call, functools.partial) else call)
