"""A user's own activation and loss on the GPU: the same functions as on the CPU."""

import math

import numpy as np
import pytest

from tests.kernels.cuda import running
from tests.kernels.cuda.running import REALS, assert_close, numbers, put, unwritten

running.require()

from fastnn.kernels.cpu import activations as cpu  # noqa: E402
from fastnn.kernels.cpu import losses as cpu_losses  # noqa: E402
from fastnn.kernels.cuda import activations, dense, losses  # noqa: E402
from fastnn.kernels.cuda.launch import Stream  # noqa: E402
from fastnn.kernels.formulas.own import activation_formulas, loss_formulas  # noqa: E402

pytestmark = running.LIKE_A_GPU

FACTOR = 0.75


def bounded(x):
    return FACTOR * np.sign(x) * min(abs(x), 2.0)


def mish(x):
    return x * math.tanh(math.log1p(math.exp(x)))


def mish_slope(x, y):
    t = math.tanh(math.log1p(math.exp(x)))
    return t + x * (1 - t * t) / (1 + math.exp(-x))


def bounded_slope(x, y):
    return np.where(np.abs(x) < 2.0, FACTOR, 0.0)


def log_cosh(y, target):
    return np.log(np.cosh(y - target))


def log_cosh_slope(y, target):
    return math.tanh(y - target)


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("pair", [(mish, mish_slope), (bounded, bounded_slope)])
def test_activation(pair, real):
    value, slope = activation_formulas(*pair)
    x, dy = numbers((3, 7), real, scale=2), numbers((3, 7), real, 1)
    y, dx = np.empty_like(x), np.empty_like(x)
    cpu.activation_forward(value)(y, x, 0, 1)
    cpu.activation_backward(slope)(dx, dy, x, y, 0, 1)
    outputs, slopes, inputs = unwritten(x.shape, real), unwritten(x.shape, real), put(x)
    activations.activation_forward(value)(outputs, inputs, Stream())
    activations.activation_backward(slope)(slopes, put(dy), inputs, outputs, Stream())
    assert_close(outputs, y, real, 8)
    assert_close(slopes, dx, real, 16)
    fused = unwritten(x.shape, real)
    one, nothing = np.eye(7, dtype=real), unwritten(0, real)
    dense.dense_forward_activated(value)(fused, inputs, put(one), nothing, Stream())
    assert_close(fused, y, real, 8)


@pytest.mark.parametrize("real", REALS)
def test_loss(real):
    pair = loss_formulas(log_cosh, log_cosh_slope)
    y, target = numbers((4, 5), real), numbers((4, 5), real, 1)
    wanted, slopes = np.empty(4), np.empty_like(y)
    cpu_losses.elementwise_loss(*pair)(wanted, slopes, y, target, 0.0, 0.25, 0, 1)
    found, dy = unwritten(4, real), unwritten(y.shape, real)
    losses.elementwise_loss(*pair)(found, dy, put(y), put(target), 0.0, 0.25, Stream())
    assert_close(found, wanted, real, 32)
    assert_close(dy, slopes, real, 32)
