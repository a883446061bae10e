"""Philox against its published answers and against a twin with Python's integers."""

import itertools
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastnn.kernels.jit import COMPILED
from fastnn.kernels.random import SHUFFLE, philox, random_bits, random_words, shuffled_order
from tests import reference

ONES = 0xFFFFFFFF
#: From the file kat_vectors of Random123: counter, key, answer.
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES, ONES, ONES, ONES), (ONES, ONES), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.fixture(autouse=True)
def warnings_are_errors():
    """NumPy warns where 32-bit arithmetic wraps: the generator must not rely on that."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_known_answers(counter, key, answer):
    assert tuple(map(int, philox(*counter, *key))) == answer
    assert reference.philox(counter, key) == answer


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(-(2**63), 2**63 - 1),
    step=st.integers(0, 2**40),
    layer=st.integers(0, 1000),
    row=st.integers(0, 2**33),
    column=st.integers(0, 2**33),
)
def test_bits_are_those_of_the_twin(seed, step, layer, row, column):
    bits = random_bits(seed, step, layer, row, column)
    assert int(bits) == reference.random_bits(seed, step, layer, row, column)
    assert int(random_words(seed, step, layer, row, column // 4)[column % 4]) == int(bits)


def test_a_seed_may_be_unsigned():
    seed = 2**64 - 3
    assert int(random_bits(np.uint64(seed), 1, 2, 3, 4)) == reference.random_bits(seed, 1, 2, 3, 4)


def test_every_argument_starts_another_stream():
    def words(*place):
        return tuple(int(random_bits(*place, column)) for column in range(8))

    places = itertools.product((0, 1, 2**32), (0, 1), (0, 1, SHUFFLE), (0, 1))
    streams = [words(*place) for place in places]
    assert len(set(streams)) == len(streams)


def test_bits_are_uniform():
    columns = 20_000 if COMPILED else 2_000
    words = np.array([random_bits(5, 1, 2, 3, column) for column in range(columns)], np.uint32)
    ones = (words[:, None] >> np.arange(32, dtype=np.uint32) & 1).mean(axis=0)
    assert np.all(np.abs(ones - 0.5) < 5 * 0.5 / np.sqrt(columns))  # five standard deviations
    counts = np.bincount(words >> np.uint32(28), minlength=16)
    assert ((counts - columns / 16) ** 2 / (columns / 16)).sum() < 50  # chi-squared, 15 degrees: p = 1e-5


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 4, 5, 17, 100])
def test_order_is_that_of_the_twin(rows):
    order = np.full(rows, -1, np.int64)
    shuffled_order(order, -7, 3)
    np.testing.assert_array_equal(order, reference.shuffled_order(rows, -7, 3))


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(0, 300), seed=st.integers(-(2**63), 2**63 - 1), epoch=st.integers(0, 2**32))
def test_order_is_a_permutation(rows, seed, epoch):
    order = np.full(rows, -1, np.int64)
    shuffled_order(order, seed, epoch)
    np.testing.assert_array_equal(np.sort(order), np.arange(rows))


def test_permutations_are_equally_likely():
    epochs = 24 * (1000 if COMPILED else 50)
    counts = dict.fromkeys(itertools.permutations(range(4)), 0)
    order = np.empty(4, np.int64)
    for epoch in range(epochs):
        shuffled_order(order, 11, epoch)
        counts[tuple(map(int, order))] += 1
    expected = epochs / 24
    assert sum((count - expected) ** 2 / expected for count in counts.values()) < 65  # 23 degrees: p = 1e-5
