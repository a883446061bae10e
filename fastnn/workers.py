"""How many workers a call of the engine gets, on the CPU."""

from __future__ import annotations

from typing import Any

from .checks import whole_number
from .kernels.cores import LARGEST_NUMBER, cores, number_in_environment

#: Floating-point operations that make one more worker worth its barriers, two a step or more: surely, about 20 µs of
#: work, and where the other cores are idle.
FLOPS_PER_WORKER, LEAST_FLOPS_PER_WORKER = 2_000_000, 90_000

#: Seconds until another number of workers is tried again: at least, and at most, after many tries that brought nothing.
FIRST_TRY, LAST_TRY = 0.2, 5.0

#: The part of a slice that a try gets, how much faster it must be, and the seconds that tell something.
TRY_SHARE, GAIN, LEAST_MEASURED = 0.05, 0.95, 0.0025


def check_threads(name: str, value: Any) -> int | None:
    """``value`` as a number of threads, or None for an automatic choice."""
    return None if value is None else whole_number(name, value, least=1, most=LARGEST_NUMBER)


def asked_for(threads: int | None) -> int | None:
    """The number of workers that the user asks for: ``threads``, or the environment variable ``FASTNN_THREADS``."""
    return number_in_environment("FASTNN_THREADS") if threads is None else threads


def choose_workers(threads: int | None, flops: int) -> int:
    """How many workers to use for calls of ``flops`` operations between two barriers.

    threads : the user's choice, taken as it is; None: the environment variable ``FASTNN_THREADS`` taken as
    it is, or else as many as pay for themselves, at most one a core. The result does not depend on it.
    """
    asked, paying = asked_for(threads), flops // FLOPS_PER_WORKER
    return asked or (min(cores(), paying) if paying > 1 else 1)  # to ask for the cores takes microseconds


class WorkerChoice:
    """How many workers the next slice of a training gets, learned from how fast the last ones were.

    It begins with ``choose_workers``, and now and then tries twice or half as many, or one, for a short slice: small
    steps gain from another core only while nobody else needs it. What looks faster has to be so before and after the
    try, for the machine may have changed in between. The bits of the result do not depend on it.

    threads, flops : as in ``choose_workers``, for one step.
    """

    def __init__(self, threads: int | None, flops: int):
        self.workers, asked = choose_workers(threads, flops), asked_for(threads)
        self.most = self.workers if asked else max(self.workers, min(cores(), flops // LEAST_FLOPS_PER_WORKER))
        self.fixed = self.most == 1 or asked is not None
        self.tries = -1
        self.seconds: float | None = None  # of a step with ``workers`` workers, when last measured
        self.trying: int | None = None
        self.promising: tuple[int, float] | None = None  # what a try found to be faster, until that is confirmed
        self.last: int | None = None  # workers of the slice before
        #: Seconds and steps of the slices since, while they are too short to tell something.
        self.told: list[tuple[float, int]] = []
        self.told_seconds = 0.0  # the sum of theirs
        self.wait = self.waited = FIRST_TRY  # so the first try comes as soon as there is something to compare with

    def begin(self) -> None:
        """A fit begins: its first slice may compile, and its data is not in the cache yet. No try goes on in it: of
        fits as short as a slice none would end it.
        """
        self.last = self.trying = self.promising = None

    def next(self) -> tuple[int, float]:
        """(workers, share of a slice) for the next slice."""
        measuring = not self.fixed and (self.seconds is None or self.trying is not None or self.promising is not None)
        return self.trying or self.workers, TRY_SHARE if measuring else 1.0

    def tell(self, seconds: float, steps: int) -> None:
        """The last slice took ``seconds`` a step, for ``steps`` steps.

        The first slice with another number of workers says nothing: weights move from one core's cache to another's.
        Slices that are much shorter than a try, as single steps, say something together, three or more without the
        slowest: a core that has slept makes one step some milliseconds long, and then none.
        """
        workers = self.trying or self.workers
        settled, self.last = workers == self.last, workers
        long = self.seconds is not None and seconds * steps >= 10 * LEAST_MEASURED
        if not settled:
            self.told, self.told_seconds = [], 0.0
            if not long:
                return
        self.told.append((seconds * steps, steps))
        self.told_seconds += seconds * steps
        if self.told_seconds < LEAST_MEASURED:
            return
        told = sorted(self.told, key=lambda slice_: slice_[0] / slice_[1])
        told, self.told, self.told_seconds = told[: max(2, len(told) - 1)], [], 0.0
        steps = sum(number for _, number in told)
        seconds = sum(total for total, _ in told) / steps
        if self.trying is not None:
            if self.seconds is not None and seconds < GAIN * self.seconds:
                self.promising = self.trying, seconds
            else:
                self._keep()
            self.trying = None
        elif self.promising is not None:
            number, theirs = self.promising
            self.promising, self.seconds = None, seconds
            if theirs < GAIN * seconds:  # and perhaps there is still more to gain
                self.workers, self.seconds, self.tries = number, theirs, -1
                self.wait = self.waited = FIRST_TRY
            else:
                self._keep()
        else:
            slower = self.seconds is not None and seconds > 1.5 * self.seconds  # somebody else came: try at once
            self.seconds, self.waited = seconds, self.waited + seconds * steps
            if not self.fixed and (slower or self.waited >= self.wait):
                candidates = (min(self.most, 2 * self.workers), max(1, self.workers // 2), 1)
                others = [workers for workers in candidates if workers != self.workers]
                self.tries += 1
                self.trying = others[self.tries % len(others)]

    def _keep(self) -> None:
        """The number stays as it is, and for longer than before."""
        self.wait, self.waited = min(LAST_TRY, 2 * self.wait), 0.0
