"""Matrix multiplication: sums on top of others, memory it must not read, every width of a vector."""

import hashlib
import itertools
import multiprocessing
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config

from fastnn.kernels.cpu.gemm import DEPTH_BLOCK, EVICTING_STRIDE, LONG_ROWS, workspace
from fastnn.kernels.cpu.tile import NARROW_HEIGHT, PANEL_VECTORS, TILE_HEIGHT, WIDE_VECTORS
from fastnn.kernels.cpu.vectors import VECTOR_BYTES
from fastnn.kernels.jit import COMPILED
from tests.kernels.cpu import test_column
from tests.reference_products import (
    REALS,
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

ROOT = pathlib.Path(__file__).parents[3]

needs_vectors = pytest.mark.skipif(
    not COMPILED or bool(config.BOUNDSCHECK),
    reason="plain NumPy has no vectors of ours; they have no index to check",
)


#: Rows, depth, columns: small, a column, ragged, deep, packed because it is wide.
SHAPES = [(1, 1, 1), (40, 33, 1), (13, 7, 35), (5, 1537, 3), (61, 800, 400), (50, 300, 1030)]


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("turned_a, turned_b", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("shape", SHAPES)
def test_sums_on_top_of_others(shape, turned_a, turned_b, real):
    rows, depth, columns = shape
    for make in (integers, numbers):
        a = strided((rows, depth), real, 1, turned_a, make)
        b = strided((depth, columns), real, 2, turned_b, make)
        for start_rows in (0, 1, rows):
            start = padded(make((start_rows, columns), real, 3))[1] if start_rows else None
            expected = product(a, b, 0 if start is None else start)
            whole, c = unwritten((rows, columns), real)
            run(c, a, b, start)
            assert_product(c, a, b, np.zeros(1, real) if start is None else start)
            if make is integers:
                np.testing.assert_array_equal(c, expected)
            if start_rows == rows and rows > 1:  # S may be C
                _, added = padded(start)
                assert_same_bits(run(added, a, b, added), c)
            around, rectified = unwritten((rows, columns), real)
            assert_same_bits(run(rectified, a, b, start, 1), np.where(c > 0, c, 0).astype(real))
            assert_canaries(around, rectified)
            assert_canaries(whole, c)


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("columns", [1, 3, 200])
def test_what_is_rectified_stays_nan_and_has_no_negative_zero(columns, real):
    tiny = 1e-30 if real is np.float32 else 1e-200  # whose square is lost
    a = np.array([[-tiny, -tiny], [np.nan, tiny], [np.inf, tiny], [-np.inf, tiny]], real)
    b = np.full((2, columns), tiny, real)
    c = run(np.empty((4, columns), real), a, b, np.full((1, columns), -0.0, real), 1)
    assert (c[0] == 0).all() and not np.signbit(c[0]).any()
    assert np.isnan(c[1]).all() and (c[2] == np.inf).all() and (c[3] == 0).all()


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("rows", [TILE_HEIGHT + 1, 149])
def test_rows_that_evict_one_another(real, rows):
    """Rows of A and of B are 4096 bytes apart: they are packed, and the bits are those of a few rows."""
    depth = columns = EVICTING_STRIDE // np.dtype(real).itemsize
    a, b = integers((rows, depth), real, 1), integers((depth, columns), real, 2)
    np.testing.assert_array_equal(run(np.empty((rows, columns), real), a, b), a.astype(np.float64) @ b)
    a, b = numbers((rows, depth), real, 1), numbers((depth, columns), real, 2)
    c = run(np.empty((rows, columns), real), a, b)
    for first, last in ((0, 1), (3, rows - 1), (rows - 2, rows)):
        assert_same_bits(run(np.empty((last - first, columns), real), a[first:last], b), c[first:last])
    few = run(np.empty((rows, 100), real), a, b[:, :100])  # columns too few to pack A for
    assert_same_bits(few, np.ascontiguousarray(c[:, :100]))


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("turned_b", [False, True])
@pytest.mark.parametrize("vectors", [*WIDE_VECTORS, sum(WIDE_VECTORS) + 1])
def test_a_single_row(vectors, turned_b, real):
    """It has wider tiles, with the bits of a row among others."""
    length = VECTOR_BYTES // np.dtype(real).itemsize
    for columns in (vectors * length - 1, vectors * length, vectors * length + 1):
        for depth in (1, 7, 1537):
            a, b = numbers((3, depth), real, 1), strided((depth, columns), real, 2, turned_b)
            start = numbers((1, columns), real, 3)
            whole, c = unwritten((1, columns), real)
            run(c, a[1:2], b, start)
            assert_same_bits(c, run(np.empty((3, columns), real), a, b, start)[1:2])
            assert_product(c, a[1:2], b, start)
            assert_canaries(whole, c)


@settings(deadline=None, max_examples=100)
@given(st.data(), st.sampled_from(REALS))
def test_any_shape(data, real):
    rows, depth, columns = (data.draw(st.integers(1, most)) for most in (40, 40, 150))
    a = strided((rows, depth), real, 1, data.draw(st.booleans()), integers)
    b = strided((depth, columns), real, 2, data.draw(st.booleans()), integers)
    whole, c = unwritten((rows, columns), real)
    np.testing.assert_array_equal(run(c, a, b), product(a, b))
    assert_canaries(whole, c)


@pytest.mark.parametrize("real", REALS)
def test_workspace_has_a_part_for_each_worker(real):
    memory = workspace(real, 3)
    parts = memory.reshape(3, -1)
    assert memory.ctypes.data % 64 == 0 and parts.strides[0] % 64 == 0
    assert parts[0, 0] != 0 and (parts[:, 0] == parts[0, 0]).all()
    assert workspace(real)[0] == parts[0, 0]


def check_guarded():
    """Products of arrays between forbidden pages: a single stray access ends the process."""
    for real in REALS:
        length = VECTOR_BYTES // np.dtype(real).itemsize
        wide = PANEL_VECTORS * length
        widths = 1, length + 1, 2 * length, wide, wide + 1
        shapes = [(rows, 3, columns) for rows in range(1, TILE_HEIGHT + 2) for columns in widths]
        shapes += [(rows, 3, max(1, length // 2 - 1)) for rows in range(2, NARROW_HEIGHT + 2)]
        shapes += [(13, 300, length // 2), (5, 2 * length - 1, length - 1), (61, 803, 405), (5, 300, 33)]
        for shape in [*shapes, (LONG_ROWS + 5, 3, 5)]:  # the last one packs a turned A
            rows, depth, columns = shape
            for at_end in (True, False):
                for turned_a, turned_b in ((False, False), (True, False), (False, True)):
                    a = guarded(integers((depth, rows) if turned_a else (rows, depth), real, 1), at_end)
                    b = guarded(integers((columns, depth) if turned_b else (depth, columns), real, 2), at_end)
                    a, b = a.T if turned_a else a, b.T if turned_b else b
                    start = guarded(integers((1, columns), real, 3), at_end)
                    c = guarded(np.zeros((rows, columns), real), at_end)
                    np.testing.assert_array_equal(run(c, a, b, start), product(a, b, start))
        for rows, depth in itertools.product((1, length - 1, length, 2 * length + 1), (1, 15, 16, 17, 40)):
            for at_end in (True, False):
                a, b = (guarded(integers(shape, real, 1), at_end) for shape in ((rows, depth), depth))
                c = guarded(np.zeros(rows, real), at_end)
                np.testing.assert_array_equal(test_column.run(c, a, b), product(a, b))


def digest():
    """A hash of many products: the same for every width of a vector."""
    bits = hashlib.sha256()
    for real in REALS:
        for rows, depth, columns in [*SHAPES, (48, 2 * DEPTH_BLOCK + 1, 200)]:
            for turned_a, turned_b in ((False, False), (True, False), (False, True)):
                a = strided((rows, depth), real, 1, turned_a)
                b = strided((depth, columns), real, 2, turned_b)
                c = unwritten((rows, columns), real)[1]
                for rectified in (0, 1):
                    bits.update(run(c, a, b, numbers((1, columns), real, 3), rectified).tobytes())
        for rows, depth in ((1, 1), (37, 65), (5, 1537)):
            a, b = numbers((rows, depth), real, 1), numbers(depth, real, 2)
            bits.update(test_column.run(np.empty(rows, real), a, b, numbers(1, real, 3)).tobytes())
    return bits.hexdigest()


def start_python(code, vector_bytes):
    environment = os.environ | {"FASTNN_VECTOR_BYTES": vector_bytes, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", f"from tests.kernels.cpu import test_gemm\n{code}"],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@needs_vectors
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_every_width_of_a_vector_has_the_same_bits_and_stays_in_its_memory():
    code = "print(test_gemm.digest())"
    guards = sys.platform.startswith("linux")
    if guards:
        code += "; test_gemm.check_guarded()"
    others = {"16", "32", "64"} - {str(VECTOR_BYTES)}
    processes = {width: start_python(code, width) for width in others}
    expected = digest()
    if guards:  # in a process that may end, and has the compiled code
        child = multiprocessing.get_context("fork").Process(target=check_guarded)
        child.start()
        child.join()
        assert child.exitcode == 0
    for width, process in processes.items():
        output, errors = process.communicate(timeout=300)
        assert process.returncode == 0, (width, process.returncode, errors)
        assert output.strip() == expected, width


@needs_vectors
@pytest.mark.parametrize("text", ["8", "wide"])
def test_a_width_that_does_not_exist(text):
    process = start_python("", text)
    errors = process.communicate(timeout=100)[1]
    assert process.returncode != 0
    assert f"ValueError: the environment variable FASTNN_VECTOR_BYTES is '{text}'; expected 16, 32 or 64" in errors
