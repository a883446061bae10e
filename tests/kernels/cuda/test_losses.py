"""Losses on the GPU against the CPU's, and what they say of numbers that are not finite."""

import numpy as np
import pytest

from tests.kernels.cuda import running
from tests.kernels.cuda.running import REALS, assert_close, put, sizes, unwritten

running.require()

from fastnn.kernels.cpu import losses as cpu  # noqa: E402
from fastnn.kernels.cuda import losses as kernels  # noqa: E402
from fastnn.kernels.cuda.launch import FOUND, GATE, Stream, close_gate  # noqa: E402
from fastnn.kernels.layout import NOT_FINITE, OK  # noqa: E402

pytestmark = running.LIKE_A_GPU

SHAPES = sizes([(1, 1), (3, 17)], [(1, 1), (32, 10), (129, 2), (1000, 101), (63, 4095)])
FUSED = ("sigmoid_cross_entropy", "softmax_cross_entropy")
CASES = [
    ("squared_error", "numbers", 0.0),
    ("absolute_error", "numbers", 0.0),
    ("huber", "numbers", 0.5),
    ("pinball", "numbers", 0.9),
    ("sigmoid_cross_entropy", "bits", 0.1),
    ("softmax_cross_entropy", "labels", 0.0),
    ("softmax_cross_entropy", "labels", 0.1),
    ("softmax_cross_entropy", "probabilities", 0.0),
    ("softmax_cross_entropy", "probabilities", 0.2),
]


def example(name, kind, rows, width, real):
    """(outputs or logits, targets)"""
    random = np.random.default_rng(0)
    y = random.standard_normal((rows, width)) * 3
    target = {
        "numbers": random.standard_normal((rows, width)),
        "bits": random.integers(0, 2, (rows, width)),
        "probabilities": random.uniform(0, 1, (rows, width)),
        "labels": random.integers(0, width, (rows, 1)),
    }[kind]
    return y.astype(real), target.astype(real)


def function_of(module, name):
    if name in FUSED:
        return getattr(module, name)
    return module.elementwise_loss(*cpu.formulas_of(name))


def run(name, y, target, option, scale, stream):
    """(losses, derivative), or (losses, y, derivative) of a fused loss, on the GPU."""
    real = y.dtype.type
    results = [unwritten(y.shape, real) for _ in range(2 if name in FUSED else 1)]
    losses = unwritten(len(y), real)
    function_of(kernels, name)(losses, *results, put(y), put(target), option, scale, stream)
    return losses, *results


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize(("name", "kind", "option"), CASES)
@pytest.mark.parametrize(("rows", "width"), SHAPES)
def test_losses(rows, width, name, kind, option, real):
    y, target = example(name, kind, rows, width, real)
    wanted = [np.full(rows, np.nan), *(np.full_like(y, np.nan) for _ in range(2 if name in FUSED else 1))]
    assert function_of(cpu, name)(*wanted, y, target, option, 0.125, 0, 1) == OK
    stream = Stream()
    for on_gpu, on_cpu in zip(run(name, y, target, option, 0.125, stream), wanted, strict=True):
        assert_close(on_gpu, on_cpu, real, 40, np.abs(on_cpu) + np.abs(on_cpu).mean() + 1e-3)
    assert stream.status.copy_to_host().tolist() == [OK, OK]


@pytest.mark.parametrize("name", FUSED)
def test_probabilities_may_overwrite_logits(name):
    y, target = example(name, "probabilities", 4, 9, np.float32)
    losses, z, dz = unwritten(4, np.float32), put(y), unwritten(y.shape, np.float32)
    getattr(kernels, name)(losses, z, dz, z, put(target), 0.1, 0.25, Stream())
    for found, wanted in zip((losses, z, dz), run(name, y, target, 0.1, 0.25, Stream()), strict=True):
        np.testing.assert_array_equal(found.copy_to_host(), wanted.copy_to_host())


@pytest.mark.parametrize("label", [-1, 5, np.nan, np.inf])
def test_a_label_that_is_no_class(label):
    y, target = example("softmax_cross_entropy", "labels", 3, 5, np.float32)
    target[1] = label
    stream = Stream()
    losses = run("softmax_cross_entropy", y, target, 0.0, 1.0, stream)[0].copy_to_host()
    assert np.isnan(losses).tolist() == [False, True, False]
    assert stream.status.copy_to_host()[FOUND] == NOT_FINITE
    close_gate(stream)
    assert stream.status.copy_to_host()[GATE] == NOT_FINITE


@pytest.mark.parametrize("name", ["softmax_cross_entropy", "sigmoid_cross_entropy", "squared_error"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_seen(name, bad):
    y, target = example(name, "probabilities", 3, 5, np.float64)
    y[1, 3] = bad
    stream = Stream()
    losses = run(name, y, target, 0.0, 1.0, stream)[0].copy_to_host()
    assert np.isfinite(losses).tolist() == [True, False, True]
    assert stream.status.copy_to_host().tolist() == [OK, NOT_FINITE]


@pytest.mark.parametrize("kind", ["labels", "probabilities"])
def test_infinite_logits_of_classes_that_are_not_meant(kind):
    z = np.array([[0, 1, -np.inf, 2, 3], [np.inf, 0, 1, 2, 3]])
    target = np.array([[1.0], [0.0]]) if kind == "labels" else np.eye(5)[[1, 0]]
    wanted = np.empty(2), np.empty_like(z), np.empty_like(z)
    assert cpu.softmax_cross_entropy(*wanted, z, target, 0.0, 1.0, 0, 1) == OK
    for found, expected in zip(run("softmax_cross_entropy", z, target, 0.0, 1.0, Stream()), wanted, strict=True):
        np.testing.assert_allclose(found.copy_to_host(), expected, rtol=1e-14)
