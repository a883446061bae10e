"""Products of float32 numbers split into pieces of 8 bits, on Intel's matrix unit."""

import ctypes
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastnn.kernels.cpu import amx, pieces
from fastnn.kernels.cpu.gemm import pieces_workspace
from fastnn.kernels.jit import COMPILED
from tests.reference_products import (
    assert_canaries,
    assert_product,
    assert_same_bits,
    guarded,
    integers,
    numbers,
    padded,
    product,
    run,
    strided,
    unwritten,
)

pytestmark = pytest.mark.skipif(
    not (COMPILED and amx.available()), reason="this processor or this system has no matrix unit (AMX)"
)

#: Rows, depth, columns: ragged ones, those of whole tiles, several blocks of rows, the deepest, and a step's.
SHAPES = [(1, 1, 1), (13, 7, 35), (32, 64, 64), (33, 65, 129), (70, 4096, 66), (1100, 1000, 20), (64, 784, 256)]


def room_for(a, b, count=3):
    """A workspace whose only multiplication is that of pieces, and whose room holds NaN: it must not matter."""
    depth, columns = b.shape
    room = pieces_workspace(max(len(a), depth), depth, columns, count)
    room[2:] = np.full(1, np.nan).view(np.int64)
    return room


def multiply(a, b, start=None, rectified=0):
    return run(np.empty((a.shape[0], b.shape[1]), np.float32), a, b, start, rectified, room_for(a, b))


@pytest.mark.parametrize(("turned_a", "turned_b"), [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("shape", SHAPES)
def test_sums_on_top_of_others(shape, turned_a, turned_b):
    rows, depth, columns = shape
    for make in (integers, numbers):
        a = strided((rows, depth), np.float32, 1, turned_a, make)
        b = strided((depth, columns), np.float32, 2, turned_b, make)
        for start_rows in (0, 1, rows):
            start = padded(make((start_rows, columns), np.float32, 3))[1] if start_rows else None
            whole, c = unwritten((rows, columns), np.float32)
            run(c, a, b, start, 0, room_for(a, b))
            assert_product(c, a, b, np.zeros(1, np.float32) if start is None else start)
            if make is integers:
                np.testing.assert_array_equal(c, product(a, b, 0 if start is None else start))
            around, rectified = unwritten((rows, columns), np.float32)
            run(rectified, a, b, start, 1, room_for(a, b))
            assert_same_bits(rectified, np.where(c > 0, c, 0).astype(np.float32))
            assert_canaries(around, rectified)
            assert_canaries(whole, c)


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_any_shape(data):
    rows, depth, columns = (data.draw(st.integers(1, most)) for most in (70, 70, 140))
    a = strided((rows, depth), np.float32, 1, data.draw(st.booleans()), integers)
    b = strided((depth, columns), np.float32, 2, data.draw(st.booleans()), integers)
    whole, c = unwritten((rows, columns), np.float32)
    np.testing.assert_array_equal(run(c, a, b, None, 0, room_for(a, b)), product(a, b))
    assert_canaries(whole, c)


def rounded(x):
    """x to 8 significant bits."""
    bits = (np.ascontiguousarray(x).view(np.uint32) + np.uint32(0x8000)) & np.uint32(0xFFFF0000)
    return bits.view(np.float32)


@pytest.mark.parametrize(("turned_a", "turned_b"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [1, 2])
def test_fewer_pieces(count, shape, turned_a, turned_b):
    """All that differs from the largest products, summed up exactly, is float32's rounding of sums."""
    rows, depth, columns = shape
    a = strided((rows, depth), np.float32, 1, turned_a, numbers)
    b = strided((depth, columns), np.float32, 2, turned_b, numbers)
    around, c = unwritten((rows, columns), np.float32)
    run(c, a, b, None, 0, room_for(a, b, count))
    high_a, high_b = rounded(a), rounded(b)
    expected = product(high_a, high_b)
    if count == 2:
        expected += product(high_a, rounded(b - high_b)) + product(rounded(a - high_a), high_b)
    unit = product(abs(a), abs(b)) * 2.0**-24
    assert (abs(c - expected) / unit).max() < 4
    assert depth < 64 or np.sqrt((((c - product(a, b)) / unit) ** 2).mean()) > (500 if count == 1 else 1)
    assert_canaries(around, c)


@pytest.mark.parametrize("exponent", [-100, -20, 0, 60])
def test_three_pieces_are_the_whole_number(exponent):
    """Times 1, each comes back with all of its 24 bits: from A and from B, whatever its sign and its last bits."""
    generator = np.random.default_rng(0)
    mantissas = generator.integers(1 << 23, 1 << 24, (150, 150)) * generator.choice([-1, 1], (150, 150))
    mantissas[0, :6] = (1 << 24) - 1, 1 << 23, 0xFF7FFF, 0xFF8000, 0x80FFFF, 0x807F80
    x, one = np.float32(mantissas * 2.0**exponent), np.eye(150, dtype=np.float32)
    assert_same_bits(multiply(x, one), x)
    assert_same_bits(multiply(one, x), x)


@pytest.mark.parametrize("depth", [64, 784, 4096])
@pytest.mark.parametrize("positive", [False, True])
def test_no_less_accurate_than_float32(depth, positive):
    """Beside the same sum in float32, one product after the other, in units of float32's rounding of sum |a·b|."""
    a, b = numbers((64, depth), np.float32, 1), numbers((depth, 64), np.float32, 2)
    if positive:
        a, b = abs(a), abs(b)
    exact, unit = product(a, b), product(abs(a), abs(b)) * 2.0**-24
    one_by_one = np.zeros((64, 64), np.float32)
    for k in range(depth):
        one_by_one += a[:, k, None] * b[k]
    errors = [abs(c - exact) / unit for c in (multiply(a, b), one_by_one)]
    typical = [float(np.sqrt((error**2).mean())) for error in errors]
    assert typical[0] < typical[1], typical
    assert errors[0].max() < max(2.0, errors[1].max()), [error.max() for error in errors]


@pytest.mark.parametrize("depth", [128, 1024])
@pytest.mark.parametrize("size", [1, 10, 1000])
def test_what_is_added_costs_one_rounding_for_each_block_of_the_depth(depth, size):
    """Beside float32, one product after the other and then S, where S is as large as the sums and much larger."""
    a, b = numbers((64, depth), np.float32, 1), numbers((depth, 64), np.float32, 2) / np.float32(depth**0.5)
    start = np.float32(size) * numbers((1, 64), np.float32, 3)
    exact, one_by_one = product(a, b, start), np.zeros((64, 64), np.float32)
    for k in range(depth):
        one_by_one += a[:, k, None] * b[k]
    errors = [float(np.sqrt(((c - exact) ** 2).mean())) for c in (multiply(a, b, start), one_by_one + start)]
    roundings = -(-depth // pieces.DEPTH_BLOCK)  # as in vector registers, whose products have blocks, too
    assert errors[0] < 1.02 * roundings**0.5 * errors[1], errors


def test_what_is_left_out_has_no_side():
    """Pieces are rounded to the nearest: single products are neither too small nor too large on the whole."""
    a, b = numbers((500, 1), np.float32, 1), numbers((1, 500), np.float32, 2)
    error = (multiply(a, b) / product(a, b) - 1) * 2.0**24  # cut-off pieces: 6.8 at most, -0.67 on the whole
    assert abs(error).max() < 2 and abs(error.mean()) < 0.01


@pytest.mark.parametrize("turned", [False, True])
def test_same_bits_with_other_rows_and_columns(turned):
    a, b = strided((100, 300), np.float32, 1, turned), strided((300, 200), np.float32, 2, turned)
    start = numbers((1, 200), np.float32, 3)
    whole = multiply(a, b, start)
    for first, last in ((0, 1), (3, 50), (31, 100)):
        assert_same_bits(multiply(a[first:last], b, start), whole[first:last])
        part = multiply(a, b[:, first:last], start[:, first:last])
        assert_same_bits(part, whole[:, first:last])


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan, np.uint32(0x7FFFFFFF).view(np.float32)])
def test_what_is_not_finite_stays_so(bad):
    """In its row and its column, and nowhere else."""
    a, b = numbers((40, 70), np.float32, 1), numbers((70, 90), np.float32, 2)
    expected = multiply(a, b)
    a[3, 5] = b[6, 7] = bad
    c = multiply(a, b)
    assert not np.isfinite(c[3]).any() and not np.isfinite(c[:, 7]).any()
    for each in (c, expected):
        each[3] = each[:, 7] = 0
    assert_same_bits(c, expected)


def test_a_depth_is_filled_up_with_zeros():
    """Whatever the room held before, pieces of infinite numbers here, does not come into the sums."""
    a, b = numbers((16, 33), np.float32, 1), numbers((33, 16), np.float32, 2)
    room = room_for(np.empty((64, 64)), np.empty((64, 64)))
    infinite = np.full((64, 64), np.inf, np.float32)
    run(np.empty((64, 64), np.float32), infinite, infinite, None, 0, room)
    assert_same_bits(run(np.empty((16, 16), np.float32), a, b, None, 0, room), multiply(a, b))


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mprotect"), reason="the system protects no pages")
@pytest.mark.parametrize("at_end", [False, True])
def test_no_memory_beside_the_arrays_is_touched(at_end):
    for rows, depth, columns in ((33, 65, 49), (5, 20, 3), (32, 64, 64)):
        a = guarded(integers((rows, depth), np.float32, 1), at_end)
        b = guarded(integers((depth, columns), np.float32, 2), at_end)
        for turned_a, turned_b in ((False, False), (True, False), (False, True)):
            x = guarded(np.ascontiguousarray(a.T), at_end).T if turned_a else a
            w = guarded(np.ascontiguousarray(b.T), at_end).T if turned_b else b
            start = guarded(integers((1, columns), np.float32, 3), at_end)
            c = guarded(np.zeros((rows, columns), np.float32), at_end)
            run(c, x, w, start, 0, room_for(a, b))
            np.testing.assert_array_equal(c, product(a, b, start))


@pytest.mark.parametrize(("name", "value"), [("FASTNN_AMX", "0"), ("FASTNN_VECTOR_BYTES", "32")])
def test_it_can_be_switched_off(name, value):
    program = "from fastnn.kernels.cpu import amx; print(amx.available())"
    command, environment = [sys.executable, "-c", program], {**os.environ, name: value}
    assert subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_setting_that_means_nothing():
    program = "import fastnn.kernels.cpu.amx"
    command, environment = [sys.executable, "-c", program], {**os.environ, "FASTNN_AMX": "off"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "ValueError: the environment variable FASTNN_AMX is 'off'; expected 0 or 1" in done.stderr


def test_which_products(monkeypatch):
    """It depends on the layer, the batch and the machine, and not on the workers of a fit."""
    monkeypatch.setattr(pieces, "cores", lambda: 2)
    for inputs, units, rows, dtype, parts, expected in (
        (784, 256, 128, "float32", False, (True, True)),
        (784, 256, 128, "float64", False, (False, False)),
        (784, 127, 128, "float32", False, (False, False)),
        (4097, 256, 128, "float32", False, (False, False)),
        (784, 256, 127, "float32", False, (False, True)),
        (784, 256, 127, "float32", True, (True, True)),
        (128, 256, 128, "float32", False, (True, False)),
        (128, 256, 128, "float32", True, (True, True)),
        (784, 256, 2000, "float32", False, (True, False)),
        (784, 256, 63, "float32", False, (False, False)),
    ):
        assert pieces.of_pieces(inputs, units, rows, dtype, parts) == expected, (inputs, units, rows, dtype, parts)
    monkeypatch.setattr(pieces, "cores", lambda: 16)
    assert pieces.of_pieces(784, 256, 128, "float32", False) == (False, False)
    assert pieces.of_pieces(2048, 256, 1024, "float32", False) == (True, True)


def test_the_least_numbers():
    """Accuracy fades below 1e-31, where products of pieces are no normal numbers any more; nothing else happens."""
    a, b = numbers((40, 300), np.float32, 1), numbers((300, 40), np.float32, 2)
    unit = product(abs(a), abs(b))
    for scale, most in ((1e-15, 3e-7), (1e-16, 2e-6), (1e-18, 1e-2), (1e-25, 1.001)):
        small_a, small_b = a * np.float32(scale), b * np.float32(scale)
        error = abs(multiply(small_a, small_b) - product(small_a, small_b)) / (unit * scale**2)
        assert error.max() < most, (scale, error.max())


def test_the_largest_numbers():
    largest = np.uint32(0x7F7F7FFF).view(np.float32)  # rounds to 8 bits below infinity
    one = np.ones((1, 1), np.float32)
    for factors in ((np.full((1, 1), largest), one / 2), (one / 2, np.full((1, 1), largest))):
        np.testing.assert_array_equal(multiply(*factors), largest / 2)
    assert np.isnan(multiply(np.full((1, 1), np.finfo(np.float32).max), one))


def test_a_negative_zero_wherever_it_stands():
    """A sum that is too small becomes zero, and keeps its sign in whole tiles and in parts of them."""
    a, b = np.full((31, 40), -1e-19, np.float32), np.full((40, 31), 1e-20, np.float32)
    c = multiply(a, b)
    assert (c == 0).all() and len(np.unique(np.signbit(c))) == 1


def test_a_workspace_without_a_unit_says_so(monkeypatch):
    monkeypatch.setattr("fastnn.kernels.cpu.gemm.available", lambda: False)
    with pytest.raises(RuntimeError, match="has no matrix unit"):
        pieces_workspace(128, 128, 128)
