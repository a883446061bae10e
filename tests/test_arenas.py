"""Canaries around every buffer that compiled code reaches by address."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastnn as fn
from fastnn.kernels import memory as memory_module
from fastnn.kernels.cpu import runner as runner_module
from fastnn.kernels.jit import COMPILED

GUARD = 256  # bytes before and after
CANARY = 0xA5


class Guarded:
    """Allocates like ``aligned_zeros``, with canaries around, and finds those that were written."""

    def __init__(self):
        self.memories = []

    def zeros(self, length, real):
        size = length * np.dtype(real).itemsize
        memory = np.full(size + 2 * GUARD + 64, CANARY, np.uint8)
        start = GUARD + -(memory.ctypes.data + GUARD) % 64
        memory[start : start + size] = 0
        self.memories.append((memory, start, start + size))
        return memory[start : start + size].view(real)

    def check(self):
        for memory, start, end in self.memories:
            assert (memory[:start] == CANARY).all() and (memory[end:] == CANARY).all()


@st.composite
def cases(draw):
    activation, most = draw(st.sampled_from(["relu", "tanh", "softmax", "linear"])), 40 if COMPILED else 5
    least = 2 if activation == "softmax" else 1
    return {
        "inputs": draw(st.integers(1, most)),
        "hidden": draw(st.lists(st.integers(least, most), max_size=3)),
        "activation": activation,
        "classes": draw(st.integers(2, 11)),
        "rows": draw(st.integers(1, 60 if COMPILED else 8)),
        "batch_size": draw(st.integers(1, 70)),
        "dropout": draw(st.sampled_from([0.0, 0.5])),
        "threads": draw(st.integers(1, 3)),
        "dtype": draw(st.sampled_from(["float32", "float64"])),
        "shuffle": draw(st.booleans()),
    }


@given(cases())
@settings(max_examples=60 if COMPILED else 15)
def test_nothing_is_written_beyond_the_buffers(case):
    guarded = Guarded()
    with pytest.MonkeyPatch.context() as patch:
        for module in (memory_module, runner_module):  # where the model has it from, and where the runner has it
            patch.setattr(module, "aligned_zeros", guarded.zeros)
        layers = [fn.Input(case["inputs"])]
        for units in case["hidden"]:
            layers += [fn.Dense(units, case["activation"]), fn.Dropout(case["dropout"])]
        model = fn.Model([*layers, fn.Dense(case["classes"], "softmax")], seed=0, dtype=case["dtype"])
        model.compile(fn.Adam(1e-3), "cross_entropy", ["accuracy"], threads=case["threads"])
        generator = np.random.default_rng(0)
        X = generator.standard_normal((case["rows"], case["inputs"])).astype(case["dtype"])
        y = generator.integers(0, case["classes"], case["rows"])
        model.fit(X, y, batch_size=case["batch_size"], epochs=2, shuffle=case["shuffle"])
        evaluation = model.evaluate(X, y)
        assert model.predict(X).shape == (case["rows"], case["classes"])
    assert len(guarded.memories) >= 8
    guarded.check()
    assert np.isfinite(evaluation["loss"])


def test_the_canaries_would_tell():
    guarded = Guarded()
    array = guarded.zeros(10, np.float32)
    guarded.check()
    memory, start, end = guarded.memories[0]
    memory[end] = 0
    with pytest.raises(AssertionError):
        guarded.check()
    assert array.ctypes.data % 64 == 0 and end - start == 40
