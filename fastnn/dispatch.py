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

__all__ = ["DEVICES", "WorkerChoice", "choose_device", "choose_workers", "cores", "prepare"]

DEVICES = ("auto", "cpu", "cuda")

#: Floating-point operations that make one more worker worth its two barriers a step: surely, about 20 µs of work,
#: and where the other cores are idle.
FLOPS_PER_WORKER, LEAST_FLOPS_PER_WORKER = 2_000_000, 200_000

#: Seconds until another number of workers is tried again: at least, and at most, after many tries that brought nothing.
FIRST_TRY, LAST_TRY = 0.2, 5.0

#: The part of a slice that a try gets, how much faster it must be, and the seconds that tell something.
TRY_SHARE, GAIN, LEAST_MEASURED = 0.05, 0.95, 0.0025


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


def asked_for(threads: int | None) -> int | None:
    """The number of workers that the user asks for: ``threads``, or the environment variable ``FASTNN_THREADS``."""
    if threads is None and os.environ.get("FASTNN_THREADS"):
        text = os.environ["FASTNN_THREADS"]
        if not text.isdigit() or not 1 <= int(text) <= 1024:
            raise ValueError(
                f"the environment variable FASTNN_THREADS is {shown(text)}; expected a whole number from 1 to 1024"
            )
        return int(text)
    return threads


def choose_workers(threads: int | None, flops: int) -> int:
    """How many workers to use for calls of ``flops`` operations between two barriers.

    threads : the user's choice, taken as it is; None: the environment variable ``FASTNN_THREADS`` taken as
    it is, or else as many as pay for themselves, at most one a core. The result does not depend on it.
    """
    return asked_for(threads) or max(1, min(cores(), flops // FLOPS_PER_WORKER))


class WorkerChoice:
    """How many workers the next slice of a training gets, learned from how fast the last ones were.

    It begins with ``choose_workers``, and now and then tries twice or half as many, or one, for a short slice: small
    steps gain from another core only while nobody else needs it. The bits of the result do not depend on it.

    threads, flops : as in ``choose_workers``, for one step.
    """

    def __init__(self, threads: int | None, flops: int):
        self.workers = choose_workers(threads, flops)
        most = min(cores(), flops // LEAST_FLOPS_PER_WORKER)
        self.most = self.workers if asked_for(threads) else max(1, self.workers, most)
        self.fixed = self.most == 1 or asked_for(threads) is not None
        self.tries = -1
        self.seconds: float | None = None  # of a step with ``workers`` workers, when last measured
        self.trying: int | None = None
        self.last: int | None = None  # workers of the slice before
        self.wait = self.waited = FIRST_TRY  # so the first try comes as soon as there is something to compare with

    def begin(self) -> None:
        """A fit begins: its first slice may compile, and its data is not in the cache yet."""
        self.last = None

    def next(self) -> tuple[int, float]:
        """(workers, share of a slice) for the next slice."""
        measuring = not self.fixed and (self.seconds is None or self.trying is not None)
        return self.trying or self.workers, TRY_SHARE if measuring else 1.0

    def tell(self, seconds: float, steps: int) -> None:
        """The last slice took ``seconds`` a step, for ``steps`` steps.

        The first slice with another number of workers says nothing: weights move from one core's cache to another's.
        Nor does a slice that is much shorter than a try.
        """
        workers = self.trying or self.workers
        settled, self.last = workers == self.last, workers
        long = self.seconds is not None and seconds * steps >= 10 * LEAST_MEASURED
        if not long and (not settled or seconds * steps < LEAST_MEASURED):
            return
        if self.trying is None:
            slower = self.seconds is not None and seconds > 1.5 * self.seconds  # somebody else came: try at once
            self.seconds, self.waited = seconds, self.waited + seconds * steps
            if not self.fixed and (slower or self.waited >= self.wait):
                candidates = (min(self.most, 2 * self.workers), max(1, self.workers // 2), 1)
                others = [workers for workers in candidates if workers != self.workers]
                self.tries += 1
                self.trying = others[self.tries % len(others)]
            return
        if self.seconds is not None and seconds < GAIN * self.seconds:  # and perhaps there is still more to gain
            self.workers, self.seconds, self.tries = self.trying, seconds, -1
            self.wait = self.waited = FIRST_TRY
        else:
            self.wait, self.waited = min(LAST_TRY, 2 * self.wait), 0.0
        self.trying = None


def prepare(device: str, plan: Plan, arenas: Any) -> Any:
    """The plan made ready to run on ``device``: an object with ``train`` and ``infer``."""
    from .kernels.cpu.runner import Runner

    return Runner(plan, arenas)
