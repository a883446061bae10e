"""What holds after every step of training, whatever the gradient says."""

from __future__ import annotations

from typing import Any

from .checks import choice, number, shown
from .settings import Closed

__all__ = ["MaxNorm", "get"]


class MaxNorm(Closed):
    """The weights into each unit, a column of W, have a Euclidean norm of at most ``max_value``.

    A longer one is scaled down after the step. It goes well with dropout and large learning rates (Srivastava et al.
    2014, section 5.1). For a bias the norm is that of the whole vector.

    max_value : the largest norm, above 0. Raises a ValueError for another one.
    """

    def __init__(self, max_value: float = 2.0):
        self.max_value = number("max_value", max_value, above=0)


BY_NAME = {"max_norm": MaxNorm}


def get(name: str, value: Any) -> MaxNorm | None:
    """The constraint that ``value`` (None, a string or an object) stands for."""
    if value is None or isinstance(value, MaxNorm):
        return value
    if isinstance(value, str):
        return BY_NAME[choice(name, value, BY_NAME)]()
    raise TypeError(f"{name} is {shown(value)}; expected None, a MaxNorm or 'max_norm'")
