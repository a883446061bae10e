"""The kernels, one worker: products of a dense layer, activations, losses, dropout, updates."""

from __future__ import annotations

import numpy as np

from .common import clock, found, kernel, looped, numbers, warmed

#: Numbers that the elementwise kernels work on, as (rows, width): a batch of a middling layer, 128 KiB in float32.
ROWS, WIDTH = 128, 256
#: Calls of an elementwise kernel in one timing: about a millisecond.
CALLS = 20

PARAMETERS = 1_000_000


@warmed
def product(name: str, shape: tuple[int, int, int], dtype: str, calls: int):
    """Calls of a product of a dense layer with (rows, inputs, units)."""
    rows, inputs, units = shape
    x, W, dy = (
        numbers(rows, inputs, dtype=dtype),
        numbers(inputs, units, dtype=dtype),
        numbers(rows, units, dtype=dtype),
    )
    gradient = name == "dense_backward_weights"
    workspace = kernel("cpu.gemm", "layer_workspace")(rows, inputs, units, dtype, gradient)
    b = np.zeros(units, dtype)
    arguments = {
        "dense_forward": (np.empty_like(dy), x, W, b, workspace),
        "dense_backward_input": (np.empty_like(x), dy, W, workspace),
        "dense_backward_weights": (np.empty_like(W), np.empty_like(b), dy, x, workspace),
    }
    return looped(kernel("cpu.dense", name), calls, *arguments[name])


class Product:
    """Y = XW + b, dX = dY·Wᵀ and dW = Xᵀ·dY; seconds of one product."""

    params = (
        ["dense_forward", "dense_backward_input", "dense_backward_weights"],
        [(1, 64, 64), (32, 64, 64), (128, 784, 256), (256, 1024, 1024), (1024, 1024, 1024), (2048, 2048, 2048)],
        ["float32", "float64"],
    )
    param_names = ["product", "rows, inputs, units", "dtype"]

    def setup(self, name, shape, dtype):
        calls = max(1, int(1e8 / np.prod(shape)))
        self.run, self.timer = product(name, shape, dtype, calls), clock(calls)

    def time_product(self, name, shape, dtype):
        self.run()


@warmed
def activation(direction: str, name: str):
    x, y, dy, dx = (numbers(ROWS, WIDTH, seed=seed) for seed in range(4))
    if name.endswith("softmax"):
        function = kernel("cpu.activations", f"{name}_{direction}")
    else:
        formulas = kernel("formulas.activations", "ACTIVATIONS")[name]
        formula = formulas.value if direction == "forward" else formulas.slope
        function = kernel("cpu.activations", f"activation_{direction}")(formula)
    return looped(function, CALLS, *((y, x) if direction == "forward" else (dx, dy, x, y)))


class Activation:
    """y = value(x) and dx = dy · slope(x, y) of 128 rows of 256 numbers, float32; seconds of one call."""

    params = (
        ["forward", "backward"],
        [
            "linear", "sigmoid", "tanh", "relu", "leaky_relu", "elu", "selu", "softplus", "softsign", "silu", "gelu",
            "softmax", "log_softmax",
        ],
    )  # fmt: skip
    param_names = ["direction", "activation"]
    timer = staticmethod(clock(CALLS))

    def setup(self, direction, name):
        self.run = activation(direction, name)

    def time_activation(self, direction, name):
        self.run()


@warmed
def loss(name: str):
    z, y, dz = numbers(ROWS, WIDTH), np.empty((ROWS, WIDTH), np.float32), np.empty((ROWS, WIDTH), np.float32)
    losses, scale = np.empty(ROWS), 1 / ROWS
    probabilities = 1 / (1 + np.exp(-z))
    bits = (z > 0).astype(np.float32)
    labels = (np.arange(ROWS) % WIDTH).astype(np.float32)[:, None]
    if name == "softmax_cross_entropy":
        return looped(kernel("cpu.losses", name), CALLS, losses, y, dz, z, labels, 0.0, scale)
    if name == "sigmoid_cross_entropy":
        return looped(kernel("cpu.losses", name), CALLS, losses, y, dz, z, bits, 0.0, scale)
    value, slope = kernel("formulas.losses", name), kernel("formulas.losses", f"{name}_slope")
    function = kernel("cpu.losses", "elementwise_loss")(value, slope)
    return looped(function, CALLS, losses, dz, probabilities, bits, 0.5, scale)


class Loss:
    """The losses of 128 rows of 256 outputs and their derivative, float32; seconds of one call."""

    params = [
        "squared_error", "absolute_error", "huber", "pinball", "binary_cross_entropy", "sigmoid_cross_entropy",
        "softmax_cross_entropy",
    ]  # fmt: skip
    param_names = ["loss"]
    timer = staticmethod(clock(CALLS))

    def setup(self, name):
        self.run = loss(name)

    def time_loss(self, name):
        self.run()


@warmed
def dropout(rows: int, width: int):
    x, y = numbers(rows, width), np.empty((rows, width), np.float32)
    threshold, scale, seed, step, layer, first_row = 2**31, 2.0, 1, 2, 3, 0
    function = kernel("cpu.dropout", "dropout_forward")
    return looped(function, CALLS, y, x, threshold, scale, seed, step, layer, first_row)


class Dropout:
    """Half of the units dropped, float32; seconds of one call."""

    params = [[(32, 64), (128, 256), (256, 1024)]]
    param_names = ["rows, width"]
    timer = staticmethod(clock(CALLS))

    def setup(self, shape):
        self.run = dropout(*shape)

    def time_dropout(self, shape):
        self.run()


#: Name -> (the optimizer's class, its arguments).
OPTIMIZERS = {
    "SGD": ("SGD", {}),
    "SGD, momentum": ("SGD", {"momentum": 0.9}),
    "SGD, Nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}),
    "Adagrad": ("Adagrad", {}),
    "RMSprop": ("RMSprop", {}),
    "RMSprop, momentum": ("RMSprop", {"momentum": 0.9}),
    "Adam": ("Adam", {}),
    "AdamW": ("AdamW", {}),
}


def update_arrays(name: str) -> list[np.ndarray]:
    """What the optimizer's update reads and writes: the parameters, its slots, the gradient; float32."""
    optimizer, options = OPTIMIZERS[name]
    optimizer = found("fastnn", optimizer)(**options)
    parameters, gradient = numbers(PARAMETERS), numbers(PARAMETERS, seed=1)
    slots = [np.full(PARAMETERS, optimizer.slot_start or 0.5, np.float32) for _ in range(optimizer.slots)]
    return [parameters, *slots, gradient]


@warmed
def update(name: str):
    return update_of(name, update_arrays(name))


def update_of(name: str, arrays: list[np.ndarray]):
    """A call of the optimizer's update on these arrays."""
    kernel_name = {"SGD": "sgd", "RMSprop": "rmsprop", "RMSprop, momentum": "rmsprop", "Adagrad": "adagrad"}.get(
        name, "momentum" if name.startswith("SGD") else "adam"
    )
    rate, scale, limit, l1, l2 = 1e-3, 1.0, np.inf, 0.0, 0.0
    *written, gradient = arrays
    if name == "RMSprop":
        written.append(np.empty(0, np.float32))  # no velocity
    options = {
        "sgd": (rate,),
        "momentum": (rate, 0.9, name == "SGD, Nesterov"),
        "adagrad": (rate, 1e-7),
        "rmsprop": (rate, 0.9, 0.9, 1e-7),
        "adam": (rate, 0.9, 0.999, 1e-8, 1000, 0.004 if name == "AdamW" else 0.0),
    }
    function = kernel("cpu.updates", f"{kernel_name}_update")
    return looped(function, 1, *written, gradient, *options[kernel_name], scale, limit, l1, l2)


class Update:
    """One pass of an optimizer over 1,000,000 float32 parameters."""

    params = list(OPTIMIZERS)
    param_names = ["optimizer"]

    def setup(self, name):
        self.run = update(name)

    def time_update(self, name):
        self.run()
