"""Ctrl-C between two slices of a training, and not in the middle of one."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class DeferredInterrupt:
    """After ``hold``, Ctrl-C waits until ``check`` is called, so that no step is left half counted.

    Before, while functions are compiled, say, it does not; nor where it is pressed again, as for a callback that never
    ends.
    """

    def __enter__(self) -> DeferredInterrupt:
        self.pending: tuple[int, FrameType | None] | None = None
        self.holding = False
        self.previous: Any = None
        if threading.current_thread() is threading.main_thread():
            previous = signal.getsignal(signal.SIGINT)
            if callable(previous):
                self.previous = previous
                signal.signal(signal.SIGINT, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.holding and self.pending is None:
            self.pending = number, frame
        else:
            self.pending = None
            self.previous(number, frame)

    def hold(self) -> None:
        """Steps begin: from here on Ctrl-C waits."""
        self.holding = True

    def check(self) -> None:
        """Do what Ctrl-C would have done, if it was pressed."""
        if self.pending is not None:
            pending, self.pending = self.pending, None
            self.previous(*pending)

    def __exit__(self, *_: object) -> None:
        if self.previous is not None:
            signal.signal(signal.SIGINT, self.previous)
            self.check()
