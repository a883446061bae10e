"""One line in a terminal for work that takes a while, and nothing elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

from .checks import shown

__all__ = ["Progress", "check_verbose"]

#: Seconds before the line appears, and between two of its states.
DELAY, INTERVAL = 0.5, 0.1


def check_verbose(value: Any) -> int | str:
    """``value`` if it is "auto", 0, 1 or 2."""
    if isinstance(value, bool):
        value = int(value)
    if value in ("auto", 0, 1, 2):
        return value  # type: ignore[no-any-return]
    raise ValueError(
        f'verbose is {shown(value)}; expected "auto" or 1 (a progress line in a terminal), 0 (nothing) '
        "or 2 (a line each epoch)"
    )


class Progress:
    """Shows how far work has come: ``with Progress("fit", verbose) as progress: progress.show(0.3, "epoch 2")``."""

    def __init__(self, title: str, verbose: int | str):
        self.title = title
        self.line = verbose in ("auto", 1) and sys.stderr is not None and sys.stderr.isatty()
        self.lines = verbose == 2
        self.started = self.last = time.monotonic()
        self.width = 0

    def __enter__(self) -> Progress:
        if self.line or self.lines:
            _watch_compiler(self)
        return self

    def __exit__(self, *_: object) -> None:
        _watch_compiler(None)
        self.clear()

    def compiling(self) -> None:
        """Say that the first use of some kernels has to compile them."""
        if self.line:
            self._write("compiling kernels: once on this machine, then they come from the cache ...")
        elif self.lines:
            print("compiling kernels: once on this machine, then they come from the cache ...", file=sys.stderr)
            self.lines = True

    def show(self, done: float, text: str) -> None:
        """Rewrite the line: the share ``done`` of the work, a bar, and ``text``."""
        now = time.monotonic()
        if not self.line or now - self.started < DELAY or now - self.last < INTERVAL:
            return
        self.last = now
        bar = ("█" * round(20 * done)).ljust(20, "░")
        left = (now - self.started) * (1 - done) / done if done > 0 else 0.0
        self._write(f"{self.title} {bar} {100 * done:3.0f} %  {text}  {left:.0f} s left")

    def epoch(self, number: int, epochs: int, logs: dict[str, float]) -> None:
        """A line of its own for a finished epoch, where the user asked for them."""
        if self.lines:
            values = "  ".join(f"{key} {value:.4f}" for key, value in logs.items())
            print(f"epoch {number}/{epochs}  {values}", flush=True)

    def clear(self) -> None:
        """Take the line away."""
        if self.width:
            sys.stderr.write("\r" + " " * self.width + "\r")
            sys.stderr.flush()
            self.width = 0

    def _write(self, text: str) -> None:
        sys.stderr.write("\r" + text.ljust(self.width))
        sys.stderr.flush()
        self.width = len(text)


def _watch_compiler(progress: Progress | None) -> None:
    """Have the compiler tell ``progress`` when it has to compile, or nobody any more."""
    from .kernels import jit

    said = False

    def tell(name: str) -> None:
        nonlocal said
        if progress is not None and not said:
            said = True
            progress.compiling()

    jit.on_compile = None if progress is None else tell
