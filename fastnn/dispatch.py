"""Which device runs a plan, and how many workers it gets.

``device="auto" | "cpu" | "cuda"``, else the environment variable ``FASTNN_DEVICE``. This is the only file of the
library that knows about GPUs.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from .checks import choice, shown, whole_number

if TYPE_CHECKING:
    from .plan import Plan

__all__ = ["DEVICES", "choose_device", "choose_workers", "cores", "prepare"]

DEVICES = ("auto", "cpu", "cuda")

#: Floating-point operations that make one more worker worth its two barriers a step: about 20 µs of work.
FLOPS_PER_WORKER = 2_000_000


def choose_device(device: str | None) -> str:
    """The device, "cpu" or "cuda", that ``device`` asks for; an error where it cannot be had.

    "auto" takes the CPU: this version has no engine for GPUs yet.
    """
    name = "device"
    if device is None:
        device, name = os.environ.get("FASTNN_DEVICE") or "auto", "the environment variable FASTNN_DEVICE"
    device = choice(name, device, DEVICES)
    if device == "cuda":
        raise RuntimeError(f'{name} is "cuda", but {_missing_for_cuda()}; expected "cpu" or "auto"')
    return "cpu"


def _missing_for_cuda() -> str:
    """What is missing to run on a GPU, the first thing first."""
    if find_spec("numba_cuda") is None:
        return (
            "the package numba-cuda is not installed "
            '(python -m pip install "fastnn[cuda12]" or "fastnn[cuda13]", to match the driver)'
        )
    try:
        from numba import cuda

        if os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0"):
            return "NUMBA_ENABLE_CUDASIM is set, so there is only a simulator"
        if not cuda.is_available():
            return "no NVIDIA driver or no GPU was found (nvidia-smi shows what the driver sees)"
    except Exception as fault:  # numba-cuda without libcudart raises a RuntimeError of its own
        return f"numba-cuda cannot start: {fault}"
    return "this version of fastnn has no engine for GPUs yet"


def cores() -> int:
    """The processor cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))  # type: ignore[attr-defined,unused-ignore]
    except AttributeError:
        return os.cpu_count() or 1


def check_threads(name: str, value: Any) -> int | None:
    """``value`` as a number of threads, or None for an automatic choice."""
    return None if value is None else whole_number(name, value, least=1, most=1024)


def choose_workers(threads: int | None, flops: int) -> int:
    """How many workers to use for calls of ``flops`` operations between two barriers.

    threads : the user's choice, taken as it is; None: the environment variable ``FASTNN_THREADS`` taken as
    it is, or else as many as pay for themselves, at most one a core. The result does not depend on it.
    """
    if threads is None and os.environ.get("FASTNN_THREADS"):
        text = os.environ["FASTNN_THREADS"]
        if not text.isdigit() or not 1 <= int(text) <= 1024:
            raise ValueError(
                f"the environment variable FASTNN_THREADS is {shown(text)}; expected a whole number from 1 to 1024"
            )
        threads = int(text)
    if threads is not None:
        return threads
    return max(1, min(cores(), flops // FLOPS_PER_WORKER))


def prepare(device: str, plan: Plan, arenas: Any) -> Any:
    """The plan made ready to run on ``device``: an object with ``train`` and ``infer``."""
    from .kernels.cpu.runner import Runner

    return Runner(plan, arenas)
