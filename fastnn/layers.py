"""The layers: Input, Dense, Activation, Dropout.

A layer describes itself to a plan (``lower``) and works alone, too:

>>> layer = fn.Dense(3, activation="tanh")
>>> y = layer.forward(np.ones((5, 2)))
>>> dx = layer.backward(np.ones((5, 3)))
>>> y.shape, dx.shape, layer.dW.shape, layer.db.shape
((5, 3), (5, 2), (2, 3), (3,))
"""

from __future__ import annotations

import difflib
import math
import secrets
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from . import checks, constraints, data, initializers, regularizers
from .checks import arguments, choice, flag, number, shown, whole_number
from .elsewhere import instead_in_layer, missing_from
from .keywords import ExplainsWrongCalls
from .own_functions import ActivationFunction
from .plan import Builder
from .settings import changes, of_fastnn

__all__ = ["ACTIVATIONS", "Activation", "Dense", "Dropout", "Input", "Layer"]

if not TYPE_CHECKING:  # which else would take any name for known
    __getattr__ = missing_from(__name__)

#: The activations by name. Their formulas stand in ``kernels/formulas/activations.py``.
ACTIVATIONS = (
    "linear",
    "sigmoid",
    "tanh",
    "relu",
    "leaky_relu",
    "elu",
    "selu",
    "softplus",
    "softsign",
    "silu",
    "gelu",
    "softmax",
    "log_softmax",
)

#: Keras's and scikit-learn's names of the same activations.
ALIASES = {"swish": "silu", "identity": "linear", "logistic": "sigmoid"}


def _checked_activation(value: Any) -> str | ActivationFunction:
    """``value`` if it is the name of an activation or one of the user's own."""
    if isinstance(value, ActivationFunction):
        return value
    if callable(value):
        raise TypeError(
            f"activation is {shown(value)}; expected a name or ActivationFunction(value, slope), with two functions"
        )
    if isinstance(value, str):
        value = ALIASES.get(value.lower(), value)
    elif isinstance(value, int) and not isinstance(value, bool):
        raise TypeError(
            f"activation is {value}; expected Dense(units, activation): the inputs come from the layer before"
        )
    return choice("activation", value, ACTIVATIONS)


#: What ``forward`` keeps for ``backward``, each as an attribute of the layer.
KEPT = ("_x", "_a", "_y")


class Layer(ExplainsWrongCalls):
    """The base of all layers. A layer of your own defines ``forward`` and ``backward``; it runs in Python.

    name : shown in summaries and errors, by default the kind and a number; trainable : whether training
    changes its parameters.

    It has ``inputs`` and ``units``, its widths, known once it is built, and ``dtype``, the type of its numbers. A layer
    that changes the width sets ``self.units`` in its ``__init__``. One with weights puts them into ``self.parameters``
    in its ``build``, and their gradients into ``self.gradients`` in its ``backward``.
    """

    kind = "layer"
    #: What a model is built on.
    fixed: tuple[str, ...] = ("name", "inputs", "units")

    def __init__(self, *, name: str | None = None, trainable: bool = True):
        self.given_name = checks.name_or_none("name", name)
        self.name = name or self.kind
        self.trainable = trainable
        self.inputs, self.units = 0, 0
        self.dtype = "float32"
        self.seed, self.number = 0, 0
        self.owned = False
        self._parameters: dict[str, np.ndarray] = {}
        self._gradients: dict[str, np.ndarray] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.fixed and vars(self).get("owned"):
            raise AttributeError(f"{self.name}.{name} is fixed in a model; expected a new model with another layer")
        if name == "trainable":
            value = flag(name, value)
        kind: type = type(self)
        known = name in vars(self) or hasattr(kind, name) or name in arguments(kind)
        # Once the base's __init__ is over: a misspelled argument would change nothing. Other names are the user's.
        if not known and not name.startswith("_") and "_gradients" in vars(self) and of_fastnn(kind):
            meant = [argument for argument in arguments(kind) if not name.startswith(argument)]
            close = difflib.get_close_matches(name, meant, n=1, cutoff=0.85)
            if close:
                raise AttributeError(f"{kind.__name__} has no {name!r}; did you mean {close[0]!r}?")
            hint = instead_in_layer(name, dir(self))
            if hint:
                raise AttributeError(f"{kind.__name__} has no {name!r}{hint}")
        super().__setattr__(name, value)
        if vars(self).get("owned"):
            changes.last = object()

    if not TYPE_CHECKING:  # which else would take any name for known

        def __getattr__(self, name: str) -> Any:
            if hasattr(type(self), name):  # a property, which has raised an error of its own
                return object.__getattribute__(self, name)
            raise AttributeError(f"{type(self).__name__} has no {name!r}{instead_in_layer(name, dir(self))}")

    @property
    def units(self) -> int:
        """The width of y: what was given, or else that of x; 0 while neither is known."""
        return self._units or self.inputs

    @units.setter
    def units(self, value: int) -> None:
        self._units = value

    @property
    def built(self) -> bool:
        """Whether the layer knows its widths and has its parameters."""
        return self.inputs > 0

    @property
    def parameters(self) -> dict[str, np.ndarray]:
        """The layer's arrays by name, in the order in which they are saved; ``build`` puts them here.

        In a model it can only be read, because the arrays are parts of the model's own: write into them,
        ``layer.parameters["W"][...] = value``.
        """
        if self.owned:
            return ModelParameters(self._parameters)
        return self._parameters

    def assign(self, key: str, value: Any) -> None:
        """Copy ``value`` into the parameter ``key``, or raise an error that says why it cannot be."""
        target, name = self.parameters[key], f"{self.name}.{key}"
        array = data.as_array(name, value)
        if array.shape != target.shape:
            raise ValueError(f"{name} was given an array of shape {array.shape}; expected {target.shape}")
        rows = array if array.ndim == 2 else array.reshape(1, -1)
        data.Rows(name, rows, self.dtype).check_finite()
        with np.errstate(under="ignore"):
            target[...] = array

    def share_memory(self, key: str, memory: np.ndarray) -> None:
        """Move the parameter ``key``, and attributes that are the same array, to ``memory``, an array of its shape."""
        before = self._parameters[key]
        memory[...] = before
        self._parameters[key] = memory
        vars(self).update({name: memory for name, value in vars(self).items() if value is before})

    def forget(self) -> None:
        """Let go of the arrays that ``forward`` kept for ``backward``."""
        vars(self).update({key: None for key in KEPT if key in vars(self)})

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {key: None for key in KEPT if key in vars(self)}

    @property
    def gradients(self) -> dict[str, np.ndarray]:
        """The gradients of the parameters from the last ``backward``, which puts them here, by the same names."""
        return self._gradients

    @property
    def activation_name(self) -> str:
        """The activation that the layer ends in."""
        return "linear"

    def build(self, inputs: int, *, seed: int | None = None, dtype: str = "float32", number: int = 0) -> None:
        """Fix the widths and make the parameters.

        seed : of the random numbers, which depend on it and on ``number``, the layer's position, alone.
        """
        self.inputs = whole_number("inputs", inputs)
        if self._units:
            self.units = whole_number("units", self._units)
        self.dtype = checks.dtype("dtype", dtype)
        self.seed, self.number = secrets.randbits(63) if seed is None else seed, number

    def lower(self, builder: Builder) -> None:
        """Append the layer's operations to a plan: by default, calls of ``forward`` and ``backward`` in Python."""
        builder.own(self)

    def forward(self, x: Any, training: bool = False) -> np.ndarray:
        """y from x, (rows, inputs) to (rows, units); keeps what ``backward`` needs."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward(x, training)")

    def backward(self, dy: Any) -> np.ndarray:
        """dx from dy, for the rows of the last ``forward``; puts the parameters' gradients into ``gradients``."""
        raise NotImplementedError(f"{type(self).__name__} does not define backward(dy)")

    def _rows(self, name: str, value: Any, width: str) -> np.ndarray:
        """Rows of one of the layer's widths, "inputs" or "units"."""
        whose = f"the {width} of layer {self.name!r}"
        return data.inputs(name, value, getattr(self, width), self.dtype, whose).take(slice(None))

    def _input_rows(self, x: Any) -> np.ndarray:
        """x checked and converted; the first one builds a layer that is used alone, where nothing is wrong with it."""
        if not self.built:
            array = data.as_array("x", x)
            width, dtype = array.shape[1] if array.ndim == 2 else 1, "float64" if array.itemsize > 4 else "float32"
            data.inputs("x", x, width, dtype)
            self.build(width, dtype=dtype)
        return self._rows("x", x, "inputs")

    def _output_rows(self, dy: Any, kept: np.ndarray | None) -> np.ndarray:
        if kept is None:
            raise RuntimeError(f"backward of layer {self.name!r} came before forward; call forward first")
        rows = self._rows("dy", dy, "units")
        if len(rows) != len(kept):
            raise ValueError(f"dy has {len(rows)} rows; expected {len(kept)}, as many as the x of the last forward")
        return rows

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


class ModelParameters(dict[str, np.ndarray]):
    """The parameters of a layer of a model, to read. A copy is a dictionary like any other."""

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError('another array would not be trained; expected parameters["W"][...] = value, or layer.W = value')

    __setitem__ = __delitem__ = clear = pop = popitem = setdefault = update = __ior__ = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


class Input(Layer):
    """The width of the data: y = x, (rows, columns). Every model begins with one.

    shape : the number of columns of X, such as 64 or (64,).

    Raises a ValueError or TypeError for anything but one whole number above 0.
    """

    kind = "input"

    def __init__(self, shape: int | tuple[int], *, name: str | None = None):
        super().__init__(name=name)
        if isinstance(shape, (tuple, list)):
            if len(shape) != 1:
                whole = len(shape) > 1 and all(isinstance(size, int) and size > 0 for size in shape)
                hint = f": here Input({math.prod(shape)}), and np.reshape(X, (len(X), -1))" if whole else ""
                raise ValueError(f"shape is {shown(shape)}; expected the number of columns, such as 64 or (64,){hint}")
            shape = shape[0]
        self.shape = (shape,)
        self.units = self.inputs = whole_number("shape", shape)

    def lower(self, builder: Builder) -> None:
        """Nothing: the inputs are where they are."""

    def forward(self, x: Any, training: bool = False) -> np.ndarray:
        return self._input_rows(x)

    def backward(self, dy: Any) -> np.ndarray:
        return self._rows("dy", dy, "units")


class Activation(Layer):
    """y = f(x), element by element, with f one of ``ACTIVATIONS`` or an ``ActivationFunction`` of your own.

    x and y are (rows, units); softmax and log_softmax go row by row. Backward: dx = dy · f'(x).

    activation : a name, or an ``ActivationFunction``.

    Raises a ValueError for an unknown name, with the nearest known one, and a TypeError for a bare function.

    >>> fn.Activation("relu").forward([[-1.0, 0.0, 2.0]])
    array([[0., 0., 2.]])
    """

    kind = "activation"
    fixed = (*Layer.fixed, "activation")

    def __init__(self, activation: str | ActivationFunction, *, name: str | None = None):
        super().__init__(name=name)
        self.activation = activation
        self._x: np.ndarray | None = None
        self._y: np.ndarray | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, _checked_activation(value) if name == "activation" else value)

    @property
    def activation_name(self) -> str:
        return self.activation if isinstance(self.activation, str) else self.activation.name

    def lower(self, builder: Builder) -> None:
        builder.activation(self.activation)

    def forward(self, x: Any, training: bool = False) -> np.ndarray:
        from .kernels.cpu import activations

        x = self._input_rows(x)
        forward, _ = activations.kernels_of(self.activation)
        y: np.ndarray = np.empty_like(x)
        forward(y, x, 0, 1)
        self._x, self._y = x, y
        return y

    def backward(self, dy: Any) -> np.ndarray:
        from .kernels.cpu import activations

        dy = self._output_rows(dy, self._x)
        _, backward = activations.kernels_of(self.activation)
        dx: np.ndarray = np.empty_like(dy)
        backward(dx, dy, self._x, self._y, 0, 1)
        return dx


class Dense(Layer):
    """y = f(xW + b), with x (rows, inputs), W (inputs, units), b (units,) and y (rows, units).

    Backward, with a = xW + b: da = dy · f'(a), dW = xᵀ da, db = the sums of da over the rows, dx = da Wᵀ.

    units : width of the output; activation : f, one of ``ACTIVATIONS``, an ``ActivationFunction`` of your own, or
    None for none; use_bias : whether there is a b; kernel_initializer : of W, by default "glorot_uniform", and
    "lecun_normal" for SELU; kernel_regularizer : a penalty on W, such as
    ``L2(1e-4)``; kernel_constraint : what W keeps to after each step, such as ``MaxNorm(3)``; bias_initializer,
    bias_regularizer, bias_constraint : the same for b; trainable : whether training changes W and b.

    Raises a ValueError or TypeError that names the argument.

    >>> layer = fn.Dense(2)
    >>> layer.build(3)
    >>> layer.W, layer.b = [[1, 0], [0, 1], [1, 1]], [10, 20]
    >>> layer.forward([[1, 2, 3]])
    array([[14., 25.]], dtype=float32)
    """

    kind = "dense"
    fixed = (*Layer.fixed, "activation", "use_bias")
    #: What ``backward`` has found, empty before.
    dW = db = np.empty(0, np.float32)  # noqa: N815

    def __init__(
        self,
        units: int,
        activation: str | ActivationFunction | None = None,
        use_bias: bool = True,
        kernel_initializer: str | initializers.Initializer | None = None,
        bias_initializer: str | initializers.Initializer = "zeros",
        kernel_regularizer: str | regularizers.Regularizer | None = None,
        bias_regularizer: str | regularizers.Regularizer | None = None,
        kernel_constraint: str | constraints.MaxNorm | None = None,
        bias_constraint: str | constraints.MaxNorm | None = None,
        *,
        trainable: bool = True,
        name: str | None = None,
    ):
        super().__init__(name=name, trainable=trainable)
        self.units = whole_number("units", units)
        self.activation: str | ActivationFunction = "linear" if activation is None else activation
        self.use_bias = use_bias
        if kernel_initializer is None:
            kernel_initializer = "lecun_normal" if self.activation == "selu" else "glorot_uniform"
        self.kernel_initializer = initializers.get("kernel_initializer", kernel_initializer)
        self.bias_initializer = initializers.get("bias_initializer", bias_initializer)
        self.kernel_regularizer = regularizers.get("kernel_regularizer", kernel_regularizer)
        self.bias_regularizer = regularizers.get("bias_regularizer", bias_regularizer)
        self.kernel_constraint = constraints.get("kernel_constraint", kernel_constraint)
        self.bias_constraint = constraints.get("bias_constraint", bias_constraint)
        self._parameters["W"] = np.empty((0, self.units), np.float32)
        if self.use_bias:
            self._parameters["b"] = np.empty(0, np.float32)
        self._x: np.ndarray | None = None
        self._a: np.ndarray | None = None  # xW + b
        self._y: np.ndarray | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "activation":
            value = "linear" if value is None else _checked_activation(value)
        elif name == "use_bias":
            value = flag(name, value)
            if value != vars(self).get(name, value) and not self.owned:
                raise AttributeError(f"{self.name}.use_bias is fixed; expected another Dense(units, use_bias={value})")
        elif name.endswith("_regularizer"):
            value = regularizers.get(name, value)
        elif name.endswith("_constraint"):
            value = constraints.get(name, value)
        elif name.endswith("_initializer"):
            value = initializers.get(name, value)
        super().__setattr__(name, value)

    @property
    def activation_name(self) -> str:
        return self.activation if isinstance(self.activation, str) else self.activation.name

    @property
    def gradients(self) -> dict[str, np.ndarray]:
        return {"W": self.dW, "b": self.db} if self.use_bias else {"W": self.dW}

    @property
    def W(self) -> np.ndarray:
        """The weights, (inputs, units). Assigning copies into the array, which others may share."""
        return self._parameters["W"]

    @W.setter
    def W(self, value: Any) -> None:
        self.assign("W", value)

    @property
    def b(self) -> np.ndarray:
        """The bias, (units,); of length 0 with ``use_bias=False``."""
        return self._parameters["b"] if self.use_bias else self.W[:0, 0]

    @b.setter
    def b(self, value: Any) -> None:
        self.assign("b", value)

    def build(self, inputs: int, *, seed: int | None = None, dtype: str = "float32", number: int = 0) -> None:
        super().build(inputs, seed=seed, dtype=dtype, number=number)
        shapes = {"W": (self.inputs, self.units), "b": (self.units,)}
        starts = {"W": self.kernel_initializer, "b": self.bias_initializer}
        for index, key in enumerate(self._parameters):
            shape = shapes[key]
            stream = np.random.SeedSequence(self.seed, spawn_key=(number, index))
            name = f"what the initializer {starts[key]!r} of {self.name}.{key} gave"
            values = data.as_array(name, starts[key](shape, np.random.Generator(np.random.Philox(stream))))
            if values.shape != shape:
                raise ValueError(f"{name} has shape {values.shape}; expected {shape}")
            rows = data.Rows(name, values.reshape(shape[0], -1), dtype)
            rows.check_finite()
            self._parameters[key] = np.array(rows.take(slice(None)).reshape(shape))

    def lower(self, builder: Builder) -> None:
        builder.dense(self)
        builder.activation(self.activation)

    def forward(self, x: Any, training: bool = False) -> np.ndarray:
        from .kernels.cpu import activations, dense, gemm

        x = self._input_rows(x)
        a = y = np.empty((len(x), self.units), self.dtype)
        dense.dense_forward(a, x, self.W, self.b, gemm.workspace(a.dtype.type), 0, 1)
        if self.activation != "linear":
            y = np.empty_like(a)
            activations.kernels_of(self.activation)[0](y, a, 0, 1)
        self._x, self._a, self._y = x, a, y
        return y

    def backward(self, dy: Any) -> np.ndarray:
        from .kernels.cpu import activations, dense, gemm

        dy = self._output_rows(dy, self._x)
        assert self._x is not None
        if self.activation != "linear":
            da: np.ndarray = np.empty_like(dy)
            activations.kernels_of(self.activation)[1](da, dy, self._a, self._y, 0, 1)
            dy = da
        dx = np.empty_like(self._x)
        self.dW, self.db = np.empty_like(self.W), np.empty_like(self.b)
        workspace = gemm.workspace(dx.dtype.type)
        dense.dense_backward_input(dx, dy, self.W, workspace, 0, 1)
        dense.dense_backward_weights(self.dW, self.db, dy, self._x, workspace, 0, 1)
        return dx


class Dropout(Layer):
    """y = x · mask / (1 - rate) in training, y = x in a prediction (Srivastava et al. 2014).

    The mask has 1 with the probability 1 - rate and else 0, so the mean of y over all masks is x. It depends on the
    model's seed, the step, the layer, the row and the column alone. Backward: dx = dy · mask / (1 - rate).

    rate : the probability with which a unit is dropped, 0 <= rate < 1, rounded to a multiple of 1 / 2³², at most
    1 - 1 / 2³²: both the mask and the factor 1 / (1 - rate) follow from that number.

    Raises a ValueError for another rate.

    >>> layer = fn.Dropout(0.5)
    >>> x = np.ones((1000, 10))
    >>> sorted(set(layer.forward(x, training=True).ravel().tolist()))
    [0.0, 2.0]
    >>> np.array_equal(layer.forward(x), x)
    True
    """

    kind = "dropout"

    def __init__(self, rate: float, *, name: str | None = None):
        super().__init__(name=name)
        self.rate = rate
        self._step = -1
        self._x: np.ndarray | None = None
        self._dropped = False

    @property
    def rate(self) -> float:
        """The probability with which a unit is dropped; it may be changed between two fits."""
        return self._rate

    @rate.setter
    def rate(self, value: float) -> None:
        self._rate = number("rate", value, least=0, below=1)

    @property
    def threshold(self) -> int:
        """The rate as a 32-bit integer, as the kernels compare it with random bits."""
        return min(round(self.rate * 2**32), 2**32 - 1)

    @property
    def scale(self) -> float:
        """What a unit that stays is multiplied with: 1 / (1 - rate), with the rate of ``threshold``."""
        return 2**32 / (2**32 - self.threshold)

    def lower(self, builder: Builder) -> None:
        if self.rate > 0:
            builder.dropout(self.threshold, self.scale)

    def forward(self, x: Any, training: bool = False) -> np.ndarray:
        from .kernels.cpu import dropout

        self._x, self._dropped = self._input_rows(x), bool(training)
        if not training:
            return self._x
        self._step += 1
        y: np.ndarray = np.empty_like(self._x)
        dropout.dropout_forward(y, self._x, *self._mask(), 0, 1)
        return y

    def backward(self, dy: Any) -> np.ndarray:
        from .kernels.cpu import dropout

        dx = rows = self._output_rows(dy, self._x)
        if self._dropped:
            dx = np.empty_like(rows)
            dropout.dropout_backward(dx, rows, *self._mask(), 0, 1)
        return dx

    def _mask(self) -> tuple[Any, ...]:
        """threshold, scale, seed, step, layer, first row: what the mask depends on."""
        return self.threshold, self.scale, self.seed, self._step, self.number, 0
