"""The activation kernels against the CPU's, in place, over rows that lie apart, at the ends of the number range."""

import numpy as np
import pytest

from tests.kernels.cuda import running
from tests.kernels.cuda.running import REALS, assert_close, numbers, put, sizes, unwritten

running.require()

from fastnn.kernels.cpu import activations as cpu  # noqa: E402
from fastnn.kernels.cuda import activations as kernels  # noqa: E402
from fastnn.kernels.cuda.launch import Stream  # noqa: E402
from fastnn.kernels.formulas.activations import ACTIVATIONS  # noqa: E402

pytestmark = running.LIKE_A_GPU

SHAPES = sizes([(3, 7)], [(1, 1), (32, 64), (127, 1001), (4096, 4095)])
WIDTHS = sizes([(1, 1), (3, 2), (2, 5), (3, 17)], [(1, 1), (33, 2), (129, 10), (1000, 100), (64, 1000), (5, 4096)])

#: Units in the last place that a formula may be off: the CPU's is within 8, and so is the GPU's.
ULPS = 20


def run(on_cpu, on_gpu, rows, width, real):
    """((y, dx) of the CPU's kernels, (y, dx) of the GPU's) for random numbers."""
    x, dy = numbers((rows, width), real, scale=3), numbers((rows, width), real, 1)
    y, dx = np.empty_like(x), np.empty_like(x)
    on_cpu[0](y, x, 0, 1)
    on_cpu[1](dx, dy, x, y, 0, 1)
    outputs, slopes, inputs = unwritten(x.shape, real), unwritten(x.shape, real), put(x)
    on_gpu[0](outputs, inputs, Stream())
    on_gpu[1](slopes, put(dy), inputs, put(y), Stream())
    return (y, dx), (outputs, slopes)


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
@pytest.mark.parametrize(("rows", "width"), SHAPES)
def test_activations(rows, width, name, real):
    wanted, found = run(cpu.kernels_of(name), kernels.kernels_of(name), rows, width, real)
    for on_cpu, on_gpu in zip(wanted, found, strict=True):
        assert_close(on_gpu, on_cpu, real, ULPS)


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize(("rows", "width"), WIDTHS)
def test_softmax(rows, width, name, real):
    wanted, found = run(cpu.kernels_of(name), kernels.kernels_of(name), rows, width, real)
    scale = 1.0 if name == "softmax" else np.abs(wanted[0]).max() + 1
    for on_cpu, on_gpu in zip(wanted, found, strict=True):
        assert_close(on_gpu, on_cpu, real, ULPS, scale * (1 + np.abs(on_cpu).max()))


@pytest.mark.parametrize("name", ["tanh", "relu"])
def test_rows_that_lie_apart_and_in_place(name):
    x = numbers((5, 9), np.float32)
    forward, backward = kernels.kernels_of(name)
    whole = put(x)
    forward(whole[:, 2:6], whole[:, 2:6], Stream())
    wanted = x.copy()
    cpu.kernels_of(name)[0](wanted[:, 2:6], wanted[:, 2:6], 0, 1)
    assert_close(whole, wanted, np.float32)
    dy = put(x)
    backward(dy[:, 2:6], dy[:, 2:6], put(x)[:, 2:6], put(wanted)[:, 2:6], Stream())
    dx = x.copy()
    cpu.kernels_of(name)[1](dx[:, 2:6], dx[:, 2:6], x[:, 2:6].copy(), wanted[:, 2:6].copy(), 0, 1)
    assert_close(dy, dx, np.float32)


@pytest.mark.parametrize("real", REALS)
def test_keeping_the_slope(real):
    tanh, x, stream = ACTIVATIONS["tanh"], numbers((4, 5), real), Stream()
    y, kept = unwritten(x.shape, real), put(x)
    kernels.activation_forward_keeping(tanh.value, tanh.slope)(y, kept, stream)
    outputs, slopes = np.empty_like(x), x.copy()
    cpu.activation_forward_keeping(tanh.value, tanh.slope)(outputs, slopes, 0, 1)
    assert_close(y, outputs, real)
    assert_close(kept, slopes, real)
    dx, dy = unwritten(x.shape, real), numbers((4, 5), real, 1)
    kernels.activation_backward(kernels.kept_slope)(dx, put(dy), kept, y, stream)
    assert_close(dx, dy * slopes, real)


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_ends_of_the_number_range(name, real):
    x = np.array([[0, np.nan, np.inf, -np.inf, np.finfo(real).max, -np.finfo(real).max, np.finfo(real).tiny]], real)
    y, outputs = unwritten(x.shape, real), np.empty_like(x)
    kernels.kernels_of(name)[0](y, put(x), Stream())
    cpu.kernels_of(name)[0](outputs, x, 0, 1)
    np.testing.assert_allclose(y.copy_to_host(), outputs, rtol=1e-6)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_of_rows_that_are_not_finite(name):
    x = np.array([[0, np.nan, 1, 2, 3, 4, 5, 6, 7], [0, 1, np.inf, 2, 3, 4, 5, 6, 7], [1000, 0, 0, 0, 0, 0, 0, 0, 0]])
    y = unwritten(x.shape, np.float64, 0)
    kernels.kernels_of(name)[0](y, put(x), Stream())
    found = y.copy_to_host()
    assert np.isnan(found[:2]).all()
    np.testing.assert_allclose(np.exp(found[2]) if name == "log_softmax" else found[2], np.eye(9)[0], atol=1e-300)
