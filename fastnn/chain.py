"""The layers of a model as a chain: checked, named, and built one after the other; and the parts that they hold."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from . import checks
from .checks import shown
from .layers import Activation, Dense, Dropout, Input, Layer
from .own_functions import ActivationFunction
from .regularizers import Penalty
from .settings import Checked, check_rounded

#: Activations that compare the units of a row, and what they make of a single one.
SOFTMAXES = {"softmax": 1, "log_softmax": 0}

#: How the names of the optimizer's slots begin in files; a layer may be named "optimizer", too.
OF_A_SLOT = re.compile(r"optimizer\.\d+\.")


def build(layers: Iterable[Layer], seed: int, dtype: str) -> tuple[Layer, ...]:
    """The layers with a name and parameters each, for a model of this seed and type.

    Raises a ValueError or TypeError that says which layer does not fit.
    """
    chain = named(layers)
    width = chain[0].units
    for index, layer in enumerate(chain):
        try:
            layer.build(width, seed=seed, dtype=dtype, number=index)
        except MemoryError:
            raise MemoryError(
                f"layers[{index}], {layer!r}, has {width:,} inputs and {layer.units:,} units: too many for the memory"
            ) from None
        check_built(layer)
        width = layer.units
        activation = getattr(layer, "activation", None)
        if width == 1 and activation in SOFTMAXES:
            raise ValueError(
                f"layers[{index}], {layer!r}, is a {activation} of 1 unit, which yields {SOFTMAXES[activation]} "
                "whatever comes; expected at least 2 units, or another activation: "
                '"sigmoid" with loss="binary_cross_entropy" for two classes, None for a number'
            )
    for layer in chain:  # all of them, or none where one could not be built
        layer.owned = True
    return tuple(chain)


def named(layers: Iterable[Layer]) -> list[Layer]:
    """The layers as a list with a name each, or an error that says what is wrong with them."""
    if not isinstance(layers, Iterable):
        raise TypeError(f"layers is {shown(layers)}; expected a list of layers that begins with Input")
    chain = list(layers)
    for index, layer in enumerate(chain):
        if not isinstance(layer, Layer):
            raise TypeError(f"layers[{index}] is {shown(layer)}; expected a layer, such as Dense(10)")
        if "owned" not in vars(layer):
            kind = type(layer).__name__
            raise TypeError(f"layers[{index}]: __init__ of {kind} did not call super().__init__(); expected it to")
        checks.defined(f"layers[{index}] is", layer, Layer, ("forward",), "a layer, such as Dense(10)")
        for method, takes in (("forward", ("x", "training")), ("backward", ("dy",))):
            checks.function(f"layers[{index}].{method}", getattr(layer, method), takes)
        base = next(kind for kind in type(layer).__mro__ if "lower" in vars(kind))
        for method in ("forward", "backward"):
            if base is not Layer and getattr(type(layer), method) is not getattr(base, method):
                raise TypeError(
                    f"layers[{index}] is a {base.__name__} with a {method} of its own, which the engine would not "
                    "call; expected a layer of your own derived from Layer"
                )
        if layer.owned:
            raise ValueError(
                f"layers[{index}], {layer!r}, belongs to another model already, or is a copy of one that does; "
                "expected a new layer, to which model.set_weights can give the weights of the old one"
            )
        if any(layer is other for other in chain[:index]):
            raise ValueError(f"layers[{index}], {layer!r}, is in the list twice; expected a new layer each time")
        if index > 0 and isinstance(layer, Input):
            raise ValueError(f"layers[{index}] is a second Input; expected one, at the beginning")
    if not chain or not isinstance(chain[0], Input):
        first = shown(chain[0]) if chain else "nothing"
        raise ValueError(f"layers begins with {first}; expected Input(columns of X) as the first layer")
    if not any(isinstance(layer, Dense) for layer in chain):
        raise ValueError("layers has no Dense layer, so there is nothing to train; expected at least one")
    last = [layer for layer in chain if not isinstance(layer, Activation) or layer.activation != "linear"][-1]
    if isinstance(last, Dropout):
        raise ValueError("layers ends with a Dropout, which would drop outputs; expected it between other layers")
    counts: dict[str, int] = {}
    for layer in chain:
        counts[layer.kind] = counts.get(layer.kind, 0) + 1
        layer.name = layer.given_name or ("input" if layer.kind == "input" else f"{layer.kind}_{counts[layer.kind]}")
    names = [layer.name for layer in chain]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"layers has {names.count(name)} layers named {name!r}; expected a name for each")
        if OF_A_SLOT.match(name):
            raise ValueError(f"layers has a layer named {name!r}, as files name an optimizer's slots; expected another")
    return chain


def check_built(layer: Layer) -> None:
    """Raise an error where the ``build`` of a layer of one's own left out something, or made what cannot be trained."""
    if not layer.built:
        raise TypeError(f"build of layer {layer.name!r} did not call super().build(inputs, **given); expected it to")
    for key, value in layer.parameters.items():
        if not isinstance(value, np.ndarray) or value.size == 0 or value.ndim == 0:
            raise TypeError(
                f"{layer.name}.{key} is {shown(value)}; expected a NumPy array with entries, of one axis or more"
            )
        layer.assign(key, value)


def check_parts(layers: Iterable[Layer], dtype: str, **others: Any) -> None:
    """Raise an error where a setting of the layers, or of other parts, leaves its range in the model's type, or an own
    function has a wrong slope.
    """
    parts = {f"{key} of {layer.name}": part for layer in layers for key, part in vars(layer).items()}
    for name, part in (others | parts).items():
        if isinstance(part, (ActivationFunction, Penalty)):
            part.check()
        elif isinstance(part, Checked):
            check_rounded(name, part, dtype)
