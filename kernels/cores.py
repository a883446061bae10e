"""How many processor cores this process may use, and how many the user says it should."""

from __future__ import annotations

import functools
import math
import os
from pathlib import Path, PurePosixPath

#: More threads or processes than this is a mistake.
LARGEST_NUMBER = 1024

#: Where Linux tells which control groups this process is in, and where their settings are.
_GROUPS, _SETTINGS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def cores() -> int:
    """The cores that this process may run on, or as many as its time is worth: a container may have a quota."""
    try:
        number = len(os.sched_getaffinity(0))  # type: ignore[attr-defined,unused-ignore]
    except AttributeError:  # no such thing on macOS and Windows
        number = os.cpu_count() or 1
    return min(number, _quota())


def number_in_environment(variable: str) -> int | None:
    """The number of threads or processes that an environment variable has; None where it is unset or empty."""
    text = os.environ.get(variable, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= LARGEST_NUMBER):
        shown = text if len(text) < 60 else f"{text[:57]}..."
        raise ValueError(
            f"the environment variable {variable} is {shown!r}; expected a whole number from 1 to {LARGEST_NUMBER}"
        )
    return int(text)


@functools.cache
def _quota() -> int:
    """Seconds of processor time that a second has for the control groups of this process, rounded up.

    ``docker run --cpus=2`` and Kubernetes' ``limits`` set it: all cores can be seen, but whoever uses more time
    than the quota is stopped for the rest of a period. The formats are of ``cgroups(7)``: version 2 has "quota period"
    in ``cpu.max``, version 1 a file for each; "max" and -1 stand for no limit.
    """
    number = LARGEST_NUMBER
    for folder in _folders():
        try:
            if (folder / "cpu.max").exists():
                quota, period = (folder / "cpu.max").read_text().split()
            else:
                quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
            if float(quota) > 0:
                number = min(number, math.ceil(float(quota) / float(period)))
        except (OSError, ValueError, ZeroDivisionError):  # no such file, or "max"
            continue
    return number


def _folders() -> list[Path]:
    """The folders of the control groups that may limit this process's time: its own, and all above."""
    try:
        lines = _GROUPS.read_text().splitlines()
    except (OSError, ValueError):  # not Linux
        return []
    found = []
    for line in lines:
        controllers, _, place = line.partition(":")[2].partition(":")
        if not controllers:  # version 2
            root = _SETTINGS
        elif "cpu" in controllers.split(","):
            root = _SETTINGS / controllers
        else:
            continue
        path = PurePosixPath(place.lstrip("/"))
        found += [root / parent for parent in (path, *path.parents)]
    return found
