"""How weights move: each optimizer names its update kernel, its settings and its slots.

A slot is one more flat array of the length of the parameters (momentum, moments). Formulas and sources
stand with the kernels, in ``kernels/cpu/updates.py``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from . import checks, schedules
from .checks import choice, flag, number, shown, warn, whole_number
from .elsewhere import missing_from
from .kernels.conventions import OPTIMIZER_OPTIONS
from .settings import Closed

__all__ = ["LBFGS", "SGD", "Adagrad", "Adam", "AdamW", "Optimizer", "RMSprop", "get"]

if not TYPE_CHECKING:  # which else would take any name for known
    __getattr__ = missing_from(__name__)


class Optimizer(Closed):
    """The base of all optimizers: w moves by a function of g, the gradient of the batch's loss by w.

    learning_rate : the size of a step, a number or a schedule; it may be changed between two fits or from a callback;
    clip_norm : a gradient whose Euclidean norm, over all parameters, is larger is scaled down to it (Pascanu et al.
    2013); clip_value : each element of the gradient is kept within -clip_value .. clip_value.

    Both kinds of clipping come before the step, the norm first. All optimizers raise a ValueError or TypeError that
    names an argument that is out of its range.
    """

    #: The update kernel's name; in an optimizer of your own, a function (see ``Optimizer.update`` in the how-to).
    update: str | Callable[..., None] = ""
    #: How many slots the update needs, at most two.
    slots = 0
    #: What the slots hold before the first step.
    slot_start = 0.0

    def __init__(self, learning_rate: Any = 0.01, *, clip_norm: float | None = None, clip_value: float | None = None):
        self._learning_rate: Any
        self.learning_rate = learning_rate
        self.clip_norm = None if clip_norm is None else number("clip_norm", clip_norm, above=0)
        self.clip_value = None if clip_value is None else number("clip_value", clip_value, above=0)

    @property
    def learning_rate(self) -> Any:
        """The size of a step: a number, or a schedule."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        if isinstance(value, str) or callable(value):
            rate: Any = schedules.get("learning_rate", value)
        else:
            rate = number("learning_rate", value, least=0)
        vars(self)["_learning_rate"] = rate  # no plan depends on it

    def settings(self) -> tuple[float, ...]:
        """The numbers that the update kernel reads from the plan's options, at most seven."""
        return ()


class SGD(Optimizer):
    """Stochastic gradient descent: w -= learning_rate · gradient, with momentum and Nesterov's variant.

    With momentum: v = momentum · v - learning_rate · gradient, w += v (Polyak 1964); Nesterov's looks
    ahead: w += momentum · v - learning_rate · gradient (Sutskever et al. 2013).

    momentum : the share of the last step that stays, from 0 to below 1; nesterov : whether to look ahead.

    >>> unit = fn.Dense(1, use_bias=False, kernel_initializer="zeros")
    >>> model = fn.Model([fn.Input(1), unit])
    >>> model.compile(fn.SGD(0.1), loss="mse")
    >>> model.train_on_batch([[1.0]], [1.0])  # the gradient is 2 (0 - 1)
    {'loss': 1.0}
    >>> model.get_weights()
    [array([[0.2]], dtype=float32)]
    """

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        *,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ):
        super().__init__(learning_rate, clip_norm=clip_norm, clip_value=clip_value)
        self.momentum = number("momentum", momentum, least=0, below=1)
        self.nesterov = flag("nesterov", nesterov)
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov is True but momentum is 0; expected a momentum above 0, such as 0.9")
        self.update, self.slots = ("sgd", 0) if self.momentum == 0 else ("momentum", 1)

    def settings(self) -> tuple[float, ...]:
        return (self.momentum, float(self.nesterov))


class Adagrad(Optimizer):
    """Adagrad (Duchi et al. 2011): s += g², w -= learning_rate · g / √(s + ε).

    Each weight's steps shrink with the gradients that it has seen.

    initial_accumulator_value : where s starts; epsilon : ε, which keeps the root above zero.
    """

    update, slots = "adagrad", 1

    def __init__(
        self,
        learning_rate: Any = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        *,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ):
        super().__init__(learning_rate, clip_norm=clip_norm, clip_value=clip_value)
        self.initial_accumulator_value = number("initial_accumulator_value", initial_accumulator_value, least=0)
        self.epsilon = number("epsilon", epsilon, above=0)
        self.slot_start = self.initial_accumulator_value

    def settings(self) -> tuple[float, ...]:
        return (self.epsilon,)


class RMSprop(Optimizer):
    """RMSprop (Tieleman & Hinton 2012): s = ρs + (1-ρ)g², w -= learning_rate · g / √(s + ε).

    With momentum: v = momentum · v + learning_rate · g / √(s + ε), w -= v.

    rho : ρ, the share of s that stays, from 0 to below 1; momentum : the share of the last step that stays;
    epsilon : ε, which keeps the root above zero.
    """

    update = "rmsprop"

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        *,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ):
        super().__init__(learning_rate, clip_norm=clip_norm, clip_value=clip_value)
        self.rho = number("rho", rho, least=0, below=1)
        self.momentum = number("momentum", momentum, least=0, below=1)
        self.epsilon = number("epsilon", epsilon, above=0)
        self.slots = 1 if self.momentum == 0 else 2

    def settings(self) -> tuple[float, ...]:
        return (self.rho, self.momentum, self.epsilon)


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015, Algorithm 1).

    m = β₁m + (1-β₁)g, v = β₂v + (1-β₂)g², w -= learning_rate · m̂ / (√v̂ + ε), where m̂ = m / (1 - β₁ⁿ) and
    v̂ = v / (1 - β₂ⁿ) at step n = 1, 2 ... correct for the zeros that m and v start from.

    beta_1, beta_2 : β₁ and β₂, the shares of m and v that stay, from 0 to below 1; epsilon : ε, in the units of the
    gradient.
    """

    update, slots = "adam", 2

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        *,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ):
        super().__init__(learning_rate, clip_norm=clip_norm, clip_value=clip_value)
        self.beta_1 = number("beta_1", beta_1, least=0, below=1)
        self.beta_2 = number("beta_2", beta_2, least=0, below=1)
        self.epsilon = number("epsilon", epsilon, above=0)

    def settings(self) -> tuple[float, ...]:
        return (self.beta_1, self.beta_2, self.epsilon, 0.0)


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019): w -= learning_rate · weight_decay · w.

    The decay applies to weights, not to biases, and does not go through the moments.

    weight_decay : the share of a weight that a step of learning rate 1 would take away, 0 or above; beta_1, beta_2,
    epsilon : as in ``Adam``.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        *,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ):
        super().__init__(learning_rate, beta_1, beta_2, epsilon, clip_norm=clip_norm, clip_value=clip_value)
        self.weight_decay = number("weight_decay", weight_decay, least=0)

    def settings(self) -> tuple[float, ...]:
        return (self.beta_1, self.beta_2, self.epsilon, self.weight_decay)


class LBFGS(Optimizer):
    """L-BFGS (Liu & Nocedal 1989), for small data: all rows at every step, and a line search instead of a rate.

    One epoch is one iteration; batch_size and shuffle have no meaning. It needs SciPy (the extra ``scipy``), a smooth
    loss, and no dropout; float64 lets it come nearest to the minimum. Callbacks hear of epochs, not of batches, and may
    end the fit; weights that they set are put back.

    memory : steps from which it knows the curvature, 1 or more.

    ``fit`` raises a ValueError where the model has dropout, an L1 penalty, a constraint or nothing to train, and an
    ImportError without SciPy.
    """

    def __init__(self, memory: int = 10):
        super().__init__(1.0)
        self.memory = whole_number("memory", memory)

    @property
    def learning_rate(self) -> Any:
        """1: a line search chooses the steps."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        if "_learning_rate" in vars(self):
            raise AttributeError("LBFGS has no learning_rate, because a line search chooses the steps; expected memory")
        self._learning_rate = value


BY_NAME: dict[str, Callable[[], Optimizer]] = {
    "sgd": SGD,
    "adagrad": Adagrad,
    "rmsprop": RMSprop,
    "adam": Adam,
    "adamw": AdamW,
    "lbfgs": LBFGS,
}


#: The update kernels.
UPDATES = ("sgd", "momentum", "adagrad", "rmsprop", "adam")

#: Slots and settings that the engine has room for: one of the optimizer's options is ``clip_value``.
MOST_SLOTS, MOST_SETTINGS = 2, OPTIMIZER_OPTIONS - 1

#: Steps in which an own update should have changed a weight.
LOOKED_AT = 100


def check(name: str, optimizer: Optimizer) -> None:
    """Raise an error where the engine could not run an optimizer, as one of the user's own."""
    kind = type(optimizer).__name__
    if "clip_value" not in vars(optimizer):
        raise TypeError(f"{name}: __init__ of {kind} did not call super().__init__(); expected it to")
    if inspect.ismethod(optimizer.update):
        raise TypeError(
            f"{name}.update is a method, with self; expected a function: write @staticmethod above {kind}.update"
        )
    if callable(optimizer.update):
        checks.function(f"{name}.update", optimizer.update, ("p", "g", "slots", "rate", "step", "settings"))
    elif optimizer.update not in UPDATES and not isinstance(optimizer, LBFGS):
        raise ValueError(
            f"{name}.update is {shown(optimizer.update)}; expected {kind}.update to be a static method "
            "update(p, g, slots, rate, step, settings)"
        )
    whole_number(f"{name}.slots", optimizer.slots, 0, MOST_SLOTS)
    settings = optimizer.settings()
    if not isinstance(settings, (tuple, list)) or len(settings) > MOST_SETTINGS:
        raise ValueError(f"{name}.settings() is {shown(settings)}; expected a tuple of at most {MOST_SETTINGS} numbers")
    for index, setting in enumerate(settings):
        number(f"{name}.settings()[{index}]", setting)


def look_at_steps(name: str, optimizer: Optimizer) -> None:
    """Warn where the update of an optimizer of the user's own leaves the weights as they are, whatever the gradient,
    and raise a ValueError where it goes beyond the end of an array.

    It is run by Python on a few numbers; what Python cannot run, the compiler will speak of.
    """
    update: Any = optimizer.update
    update = getattr(update, "py_func", update)  # of what Numba has compiled
    start, g = np.array([0.5, -1.0, 2.0]), np.array([1.0, -2.0, 0.5])
    weights = start.copy()
    slots = tuple(np.full(3, float(optimizer.slot_start)) for _ in range(optimizer.slots))
    try:
        with np.errstate(all="ignore"):
            for step in range(1, LOOKED_AT + 1):  # it may gather several gradients for a step
                update(weights, g.copy(), slots, 0.1, step, np.array(optimizer.settings(), np.float64))
                if not np.array_equal(weights, start):
                    return
    except IndexError as fault:  # compiled code does not look, and reads what lies behind
        kind, function = type(optimizer).__name__, getattr(update, "__name__", "update")
        numbers, arrays = checks.counted(len(optimizer.settings()), "number"), checks.counted(optimizer.slots, "array")
        raise ValueError(
            f"{name} is {kind}, whose {function} goes beyond the end of an array ({fault}); expected it to stay within "
            f"all of them: settings has {numbers}, slots {arrays}"
        ) from None
    except Exception:
        return
    w = next(iter(inspect.signature(update).parameters))
    warn(
        f"{name}.update leaves the weights as they are: {LOOKED_AT} steps changed no number of {w}; expected it to "
        f"write into {w}, as {w} -= rate * g does ({w} = {w} - rate * g makes another array)"
    )


def get(name: str, value: Any) -> Optimizer:
    """The optimizer that ``value`` (a string or an object) stands for."""
    if isinstance(value, Optimizer):
        check(name, value)
        if callable(value.update):
            look_at_steps(name, value)
        return value
    if isinstance(value, str):
        return BY_NAME[choice(name, value, BY_NAME)]()
    raise TypeError(f"{name} is {shown(value)}; expected an Optimizer or one of {', '.join(map(repr, BY_NAME))}")
