"""Penalties on weights that are added to the loss. They apply to a layer's weights, not to its biases."""

from __future__ import annotations

from typing import Any

from .checks import choice, number, shown

__all__ = ["L1", "L1L2", "L2", "get"]


class L1L2:
    """l1·Σ|w| + l2·Σw².

    The L2 term goes into the gradient. The L1 term is applied after each step as a soft threshold of
    ``learning_rate · l1``, so that weights become exactly zero (proximal gradient, Parikh & Boyd 2014).
    """

    def __init__(self, l1: float = 0.01, l2: float = 0.01):
        self.l1, self.l2 = number("l1", l1, least=0), number("l2", l2, least=0)

    def __repr__(self) -> str:
        return f"L1L2(l1={self.l1!r}, l2={self.l2!r})"


class L1(L1L2):
    """l1·Σ|w|: makes weights exactly zero."""

    def __init__(self, l1: float = 0.01):
        super().__init__(l1, 0.0)

    def __repr__(self) -> str:
        return f"L1(l1={self.l1!r})"


class L2(L1L2):
    """l2·Σw²: keeps weights small."""

    def __init__(self, l2: float = 0.01):
        super().__init__(0.0, l2)

    def __repr__(self) -> str:
        return f"L2(l2={self.l2!r})"


BY_NAME = {"l1": L1, "l2": L2, "l1_l2": L1L2}


def get(name: str, value: Any) -> L1L2 | None:
    """The regularizer that ``value`` (None, a string or an object) stands for."""
    if value is None or isinstance(value, L1L2):
        return value
    if isinstance(value, str):
        return BY_NAME[choice(name, value, BY_NAME)]()
    raise TypeError(f"{name} is {shown(value)}; expected None, L1, L2, L1L2 or one of 'l1', 'l2', 'l1_l2'")
