"""Penalties that are added to the loss: on a layer's weights, and on its biases only where that is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .checks import choice, number, shown
from .elsewhere import missing_from
from .own_functions import OwnFunction
from .settings import Closed

__all__ = ["L1", "L1L2", "L2", "Penalty", "Regularizer", "get"]

if not TYPE_CHECKING:  # which else would take any name for known
    __getattr__ = missing_from(__name__)


class Regularizer(Closed):
    """The base of all regularizers: a function of each weight, whose sum is added to the loss."""


class L1L2(Regularizer):
    """l1·Σ|w| + l2·Σw².

    The L2 term goes into the gradient. The L1 term is applied after each step as a soft threshold, so that weights
    become exactly zero (proximal gradient, Parikh & Boyd 2014): of ``learning_rate · l1``, divided by the root that the
    optimizer divides a slope by (Yun et al. 2021); what momentum remembers is how far a weight really moved (Ochs et
    al. 2014). So training ends where loss and penalty together are least, whatever the optimizer. An optimizer of your
    own gets the slope of L1 with the gradient, and ends near zero instead of at it.

    l1, l2 : the factors, 0 or above. Raises a ValueError for a negative one.
    """

    def __init__(self, l1: float = 0.01, l2: float = 0.01):
        self.l1, self.l2 = number("l1", l1, least=0), number("l2", l2, least=0)


class L1(L1L2):
    """l1·Σ|w|: makes weights exactly zero.

    After a step of plain gradient descent with the learning rate η: w = sign(w) · max(0, abs(w) - η·l1).

    >>> unit = fn.Dense(1, use_bias=False, kernel_regularizer=fn.L1(1.0))
    >>> model = fn.Model([fn.Input(1), unit])
    >>> model.compile(fn.SGD(0.1), loss="mse")
    >>> model.set_weights([[[0.05]]])
    >>> _ = model.train_on_batch([[0.0]], [0.0])  # no gradient, but a threshold of 0.1 · 1
    >>> model.get_weights()
    [array([[0.]], dtype=float32)]
    """

    def __init__(self, l1: float = 0.01):
        super().__init__(l1, 0.0)


class L2(L1L2):
    """l2·Σw²: keeps weights small. Adds 2·l2·w to the gradient."""

    def __init__(self, l2: float = 0.01):
        super().__init__(0.0, l2)


class Penalty(OwnFunction, Regularizer):
    """A penalty of your own: Σ value(w), with the derivative slope(w).

    Both are functions of one number that Numba can compile; they become part of the engine. A penalty that is small
    and smooth, such as log(1 + w²)::

        Penalty(
            value=lambda w: 0.01 * math.log(1 + w * w),
            slope=lambda w: 0.02 * w / (1 + w * w),
            name="log_penalty",
        )

    When a model is compiled, the slope is compared with central differences of the value: a ValueError says where
    they differ. A TypeError says why a function cannot be compiled.
    """

    value_takes = slope_takes = ("w",)


BY_NAME: dict[str, Callable[[], Regularizer]] = {"l1": L1, "l2": L2, "l1_l2": L1L2, "l1l2": L1L2}


def get(name: str, value: Any) -> Regularizer | None:
    """The regularizer that ``value`` (None, a string or an object) stands for."""
    if value is None or isinstance(value, (L1L2, Penalty)):
        return value
    if isinstance(value, str):
        return BY_NAME[choice(name, value, BY_NAME)]()
    such = f": such as L2({value})" if isinstance(value, float) else ""
    raise TypeError(
        f"{name} is {shown(value)}; expected None, L1, L2, L1L2, Penalty or one of 'l1', 'l2', 'l1_l2'{such}"
    )
