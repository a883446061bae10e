"""Penalties, norms and the constraint on the GPU against the CPU's."""

import numpy as np
import pytest

from tests.kernels.cuda import running
from tests.kernels.cuda.running import REALS, assert_close, numbers, put, sizes, unwritten

running.require()

from fastnn.kernels.cpu import penalties as cpu  # noqa: E402
from fastnn.kernels.cuda import penalties as kernels  # noqa: E402
from fastnn.kernels.cuda.launch import FOUND, Stream  # noqa: E402
from fastnn.kernels.layout import NOT_FINITE, OK, PENALTY_CHUNK  # noqa: E402

pytestmark = running.LIKE_A_GPU

LENGTHS = sizes([1, 17], [1, 255, 4097, 1_000_003])
SHAPES = sizes([(1, 1), (9, 5), (3, 17)], [(1, 1), (33, 2), (1000, 101), (4095, 65), (784, 1)])


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_norms(rows, columns, real):
    p, g = numbers((rows, columns), real), numbers((rows, columns), real, 1)
    p[0, 0] = 0
    for l1, l2 in ((0.0, 0.0), (0.1, 0.2)):
        norms, wanted = unwritten(rows, np.float64), np.empty(rows)
        kernels.squared_norms(norms, put(p), put(g), l1, l2, Stream())
        cpu.squared_norms(wanted, p, g, l1, l2, 0, 1)
        assert_close(norms, wanted, np.float64, 16)
    weights, there = p.copy(), put(p)
    assert cpu.max_norm(weights, 0.9, 0, 1) == OK
    kernels.max_norm(there, 0.9, Stream())
    assert_close(there, weights, real, 2)


def test_norms_of_huge_and_tiny_numbers():
    g, norms = np.array([[1e30, 1e30], [1e-30, 1e-30]], np.float32), unwritten(2, np.float64)
    kernels.squared_norms(norms, put(np.zeros_like(g)), put(g), 0.0, 0.0, Stream())
    np.testing.assert_allclose(norms.copy_to_host(), [2e60, 2e-60], rtol=1e-6)
    p, stream = put(np.array([[1.0, np.nan, 3.0]], np.float32)), Stream()
    kernels.max_norm(p, 2.0, stream)
    assert stream.status.copy_to_host()[FOUND] == NOT_FINITE


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("length", LENGTHS)
def test_penalties(length, real):
    p = numbers(length, real)
    wanted = cpu.penalty_sum(p, 0.1, 0.2)
    assert kernels.penalty_sum(put(p), 0.1, 0.2, Stream()) == pytest.approx(wanted, rel=1e-13)


def test_penalties_of_chunks():
    p = numbers(2 * PENALTY_CHUNK + 5, np.float32)
    chunks = unwritten(3, np.float64)
    kernels.penalty_chunks(chunks, put(p), 0.1, 0.2, Stream())
    wanted = [cpu.penalty_sum(p[start : start + PENALTY_CHUNK], 0.1, 0.2) for start in range(0, len(p), PENALTY_CHUNK)]
    np.testing.assert_allclose(chunks.copy_to_host(), wanted, rtol=1e-13)


@pytest.mark.parametrize("real", REALS)
def test_own_penalties(real):
    def value(w):
        return w**4 / 4

    def slope(w):
        return w**3

    p, g = numbers(17, real), numbers(17, real, 1)
    scale = np.abs(g) + np.abs(p) ** 3
    assert kernels.own_penalty(value)(put(p), 0.0, 0.0, Stream()) == pytest.approx(cpu.own_penalty(value)(p, 0.0, 0.0))
    there = put(g)
    kernels.own_penalty_slope(slope)(there, put(p), Stream())
    cpu.own_penalty_slope(slope)(g, p, 0, 1)
    assert_close(there, g, real, 4, scale)
