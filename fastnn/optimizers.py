"""How weights move: each optimizer names its update kernel, its settings and its slots.

A slot is one more flat array of the length of the parameters (momentum, moments). Formulas and sources
stand with the kernels, in ``kernels/cpu/updates.py``.
"""

from __future__ import annotations

from typing import Any

from .checks import choice, flag, number, shown

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "get"]


class Optimizer:
    """The base of all optimizers.

    update : the update kernel ("sgd", "momentum" or "adam"); slots : how many slots it needs;
    ``learning_rate`` may be changed between two fits or from a callback.
    """

    def __init__(self, learning_rate: float):
        self.learning_rate = learning_rate

    @property
    def update(self) -> str:
        raise NotImplementedError(f"{type(self).__name__} does not name its update kernel")

    @property
    def slots(self) -> int:
        return 0

    @property
    def learning_rate(self) -> float:
        """The size of a step."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._learning_rate = number("learning_rate", value, least=0)

    def settings(self) -> tuple[float, ...]:
        """The numbers that the update kernel reads from the plan's options, at most eight."""
        return ()

    def __repr__(self) -> str:
        settings = ", ".join(f"{key.lstrip('_')}={value!r}" for key, value in vars(self).items())
        return f"{type(self).__name__}({settings})"


class SGD(Optimizer):
    """Stochastic gradient descent: w -= learning_rate · gradient, with momentum and Nesterov's variant.

    With momentum: v = momentum · v - learning_rate · gradient, w += v (Polyak 1964); Nesterov's looks
    ahead: w += momentum · v - learning_rate · gradient (Sutskever et al. 2013).
    """

    def __init__(self, learning_rate: float = 0.01, momentum: float = 0.0, nesterov: bool = False):
        super().__init__(learning_rate)
        self.momentum = number("momentum", momentum, least=0, below=1)
        self.nesterov = flag("nesterov", nesterov)
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov is True but momentum is 0; expected a momentum above 0, such as 0.9")

    @property
    def update(self) -> str:
        return "sgd" if self.momentum == 0 else "momentum"

    @property
    def slots(self) -> int:
        return 0 if self.momentum == 0 else 1

    def settings(self) -> tuple[float, ...]:
        return (self.momentum, float(self.nesterov))


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015, Algorithm 1).

    m = β₁m + (1-β₁)g, v = β₂v + (1-β₂)g², w -= learning_rate · m̂ / (√v̂ + ε), where m̂ and v̂ correct
    for the zeros that m and v start from.
    """

    @property
    def update(self) -> str:
        return "adam"

    @property
    def slots(self) -> int:
        return 2

    def __init__(
        self,
        learning_rate: float = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
    ):
        super().__init__(learning_rate)
        self.beta_1 = number("beta_1", beta_1, least=0, below=1)
        self.beta_2 = number("beta_2", beta_2, least=0, below=1)
        self.epsilon = number("epsilon", epsilon, above=0)

    def settings(self) -> tuple[float, ...]:
        return (self.beta_1, self.beta_2, self.epsilon, 0.0)


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019): w -= learning_rate · weight_decay · w.

    The decay applies to weights, not to biases.
    """

    def __init__(
        self,
        learning_rate: float = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
    ):
        super().__init__(learning_rate, beta_1, beta_2, epsilon)
        self.weight_decay = number("weight_decay", weight_decay, least=0)

    def settings(self) -> tuple[float, ...]:
        return (self.beta_1, self.beta_2, self.epsilon, self.weight_decay)


BY_NAME: dict[str, type[Optimizer]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW}


def get(name: str, value: Any) -> Optimizer:
    """The optimizer that ``value`` (a string or an object) stands for."""
    if isinstance(value, Optimizer):
        return value
    if isinstance(value, str):
        return BY_NAME[choice(name, value.lower(), BY_NAME)]()  # type: ignore[call-arg]
    raise TypeError(f"{name} is {shown(value)}; expected an Optimizer or one of 'sgd', 'adam', 'adamw'")
