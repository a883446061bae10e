"""What the benchmarks share: finding what this version of fastnn has, warming up, and loops without Python."""

from __future__ import annotations

import functools
import importlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.kernels.cores import cores


def found(module: str, name: str) -> Any:
    """``module.name``; in a ``setup`` the error makes asv skip what this version of fastnn does not have."""
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as fault:
        raise NotImplementedError(f"this version of fastnn has no {module}.{name}") from fault


def kernel(module: str, name: str) -> Any:
    """A kernel of the CPU, or a formula: ``kernel("cpu.gemm", "multiply")``."""
    return found(f"fastnn.kernels.{module}", name)


def needs_cores(threads: int) -> None:
    """Skip the benchmark on a machine with fewer cores."""
    if threads > cores():
        raise NotImplementedError(f"this machine has fewer than {threads} cores")


def clock(parts: int) -> Callable[[], float]:
    """A clock for a benchmark's ``timer``, so that what asv shows is one of so many equal parts of the call."""
    return lambda: time.perf_counter() / parts


def warmed(make: Callable[..., Callable[[], Any]]) -> Callable[..., Callable[[], Any]]:
    """Decorates a function that makes what is to be timed: it is made, and called once, once in a process.

    asv calls ``setup`` before every timing; so the arrays are made once, and all is compiled before the clock runs.
    """

    @functools.cache
    def made(*arguments: Any) -> Callable[[], Any]:
        call = make(*arguments)
        call()
        return call

    return made


@functools.cache
def repeated(function: Any) -> Any:
    """A compiled loop ``run(calls, arguments)`` around a kernel: calls from Python take longer than small kernels."""
    from fastnn.kernels import jit

    def run(calls, arguments):
        for _ in range(calls):
            function(*arguments)

    run.frozen = True  # what it refers to never changes: so the next process, with another size, finds it compiled
    return jit.kernel(run)


def looped(function: Any, calls: int, *arguments: Any) -> Callable[[], None]:
    """So many calls of a kernel, by one worker, as a function without arguments."""
    run = repeated(function)
    return lambda: run(calls, (*arguments, 0, 1))


def numbers(*shape: int, seed: int = 0, dtype: str = "float32") -> np.ndarray:
    """Standard normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)
