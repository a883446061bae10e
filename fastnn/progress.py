"""How far work has come: one line in a terminal, a bar in a notebook, plain lines elsewhere if asked for."""

from __future__ import annotations

import html
import os
import shutil
import sys
import time
from numbers import Real
from typing import Any

from .checks import shown
from .history import number_text

#: Seconds before the line or the bar appears, and between two of its states.
DELAY, INTERVAL = 0.5, 0.1

#: What is shown now, by any thread, and has to say where the first use of some kernels has to compile them.
LISTENING: set[Progress] = set()

COMPILING = "compiling kernels: once on this machine, then they come from the cache ..."


def check_verbose(value: Any) -> int | str:
    """``value`` if it is "auto", 0, 1 or 2."""
    if isinstance(value, bool):
        value = int(value)
    if isinstance(value, (str, Real)) and value in ("auto", 0, 1, 2):
        return value  # type: ignore[return-value]
    raise ValueError(
        f'verbose is {shown(value)}; expected "auto" (a progress line in a terminal, a bar in a notebook, else '
        "nothing), 0 (nothing), 1 (as auto, but a line each epoch where it is neither) or 2 (a line each epoch)"
    )


class Progress:
    """Shows how far work has come: ``with Progress("fit", verbose) as progress: progress.show(0.3, "epoch 2")``.

    lines : whether there is a line of its own for each epoch, so that somebody has to say when one ends.
    """

    def __init__(self, title: str, verbose: int | str):
        self.title = title
        self.place = _place() if verbose in ("auto", 1) else None
        self.lines = verbose == 2 or (verbose == 1 and self.place is None)
        self.started = self.last = time.monotonic()
        self.text, self.done = "", 0.0
        self.first: tuple[float, float] | None = None

    def __enter__(self) -> Progress:
        from .kernels import jit

        jit.on_compile = tell_of_compiling
        if self.place is not None or self.lines:
            self.compiling = False
            LISTENING.add(self)
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        LISTENING.discard(self)
        if self.place is not None:
            stopped = "" if error is None else f"  stopped at {100 * self.done:.0f} %"
            self.place.finish(f"{self.title}  {self.text}{stopped}  {duration(time.monotonic() - self.started)}")

    def on_compile(self) -> None:
        """Say once that the first use of some kernels has to compile them."""
        if self.compiling:
            return
        self.compiling = True
        if self.place is not None:
            self.place.write(None, COMPILING, "")
        else:
            print(COMPILING, file=sys.stderr)

    def show(self, done: float, text: str) -> None:
        """The share ``done`` of the work is done; ``text`` says where it is."""
        now = time.monotonic()
        self.done, self.text = done, text
        self.first = self.first or (now, done)  # what came before, such as compiling, tells nothing of the speed
        if self.place is None or now - self.started < DELAY or now - self.last < INTERVAL:
            return
        self.last = now
        since, start = self.first
        left = f"  {duration(round((now - since) * (1 - done) / (done - start)))} left" if done > start else ""
        self.place.write(done, f"{100 * done:3.0f} %  {text}{left}", self.title)

    def epoch(self, number: int, epochs: int, logs: dict[str, float]) -> None:
        """A line of its own for a finished epoch, where the user asked for them."""
        if self.lines:
            values = "  ".join(f"{key} {number_text(value)}" for key, value in logs.items())
            print(f"epoch {number:>{len(str(epochs))}}/{epochs}  {values}", flush=True)


def tell_of_compiling(name: str) -> None:
    """Something is compiled: every fit, evaluation or prediction that is shown says so."""
    for progress in tuple(LISTENING):
        progress.on_compile()


class Terminal:
    """One line on the standard error, rewritten in place and taken away at the end."""

    def __init__(self) -> None:
        self.width = 0
        encoding = getattr(sys.stderr, "encoding", None) or "ascii"
        try:
            "█░".encode(encoding)
            self.full, self.empty = "█", "░"
        except UnicodeEncodeError:
            self.full, self.empty = "#", "-"

    def write(self, done: float | None, text: str, title: str) -> None:
        """Rewrite the line, with a bar that is full up to the share ``done``, or none."""
        room = shutil.get_terminal_size().columns - 1  # a line that wraps could not be rewritten
        length = min(20, room - len(title) - len(text) - 2)
        bar = "" if done is None or length < 5 else (self.full * round(length * done)).ljust(length, self.empty)
        text = " ".join(filter(None, (title, bar, text)))[: max(1, room)]
        sys.stderr.write("\r" + text.ljust(self.width))
        sys.stderr.flush()
        self.width = len(text)

    def finish(self, text: str) -> None:
        """Take the line away."""
        if self.width:
            sys.stderr.write("\r" + " " * self.width + "\r")
            sys.stderr.flush()
            self.width = 0


class Notebook:
    """A bar below the cell, which becomes a line of text at the end."""

    def __init__(self) -> None:
        self.handle: Any = None

    def write(self, done: float | None, text: str, title: str) -> None:
        """Show the bar, or change the one that is shown."""
        bar = "" if done is None else f'<progress value="{done:.3f}" max="1" style="width: 16em"></progress> '
        self._display(f"{html.escape(title)} {bar}{html.escape(text)}", f"{title} {text}")

    def finish(self, text: str) -> None:
        """Leave a line of text where the bar was."""
        if self.handle is not None:
            self._display(html.escape(text), text)

    def _display(self, markup: str, text: str) -> None:
        from IPython.display import display

        shown_as = {"text/plain": text, "text/html": f"<pre>{markup}</pre>"}
        if self.handle is None:
            self.handle = display(shown_as, raw=True, display_id=True)
        else:
            self.handle.update(shown_as, raw=True)


def _place() -> Terminal | Notebook | None:
    """Where progress can be shown, if anywhere."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if getattr(shell, "kernel", None) is not None:
        return Notebook()
    if sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        return Terminal()
    return None


def duration(seconds: float) -> str:
    """``seconds`` as people say it: 0.4 s, 12 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 9.95:
        return f"{round(seconds, 1):g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
