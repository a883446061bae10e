"""What gets compiled, and when: counted in processes of their own, with a cold and a warm cache."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastnn.kernels.jit import COMPILED

pytestmark = pytest.mark.skipif(not COMPILED, reason="the compiler is disabled")

SCRIPT = """
import hashlib, json, time
import numpy as np
import fastnn as fn
from fastnn.kernels import jit
from fastnn.kernels.random import shuffled_order

X = np.random.default_rng(0).standard_normal((100, 6)).astype(np.float32)
y = (X[:, 0] > 0).astype(int)
found = []

def note(what, layers, optimizer="adam", loss="cross_entropy", batch_size=32, rows=100):
    before, loaded = len(jit.compiled), len(jit.loaded)
    started = time.perf_counter()
    model = fn.Model([fn.Input(6), *layers], seed=0)
    model.compile(optimizer, loss)
    model.fit(X[:rows], y[:rows], batch_size=batch_size)
    seconds = time.perf_counter() - started
    bits = hashlib.sha256(b"".join(array.tobytes() for array in model.get_weights())).hexdigest()
    found.append([what, len(jit.compiled) - before, len(jit.loaded) - loaded, bits, seconds])

relu, softmax = lambda units: fn.Dense(units, "relu"), fn.Dense(2, "softmax")
note("first", [relu(8), softmax])
note("wider", [relu(33), fn.Dense(2, "softmax")])
note("deeper", [relu(5), relu(7), relu(9), fn.Dense(2, "softmax")])
note("shallower", [fn.Dense(2, "softmax")])
note("batch size", [relu(8), fn.Dense(2, "softmax")], batch_size=7)
note("rows", [relu(8), fn.Dense(2, "softmax")], rows=51)
note("activation", [fn.Dense(8, "tanh"), fn.Dense(2, "softmax")])
note("activation again", [fn.Dense(9, "tanh"), fn.Dense(2, "softmax")])
note("optimizer", [relu(8), fn.Dense(2, "softmax")], optimizer="sgd")
note("loss", [relu(8), fn.Dense(1)], loss="mse")
note("dropout", [relu(8), fn.Dropout(0.5), fn.Dense(2, "softmax")])
# Compiled ahead, it is the one that is called.
assert set(shuffled_order.overloads) <= {shuffled_order.signature}, shuffled_order.overloads
print(json.dumps(found))
"""


def run(cache):
    root = Path(__file__).resolve().parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root), "FASTNN_CACHE_DIR": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return {what: (compiled, loaded, bits) for what, compiled, loaded, bits, _ in json.loads(done.stdout)}


def test_an_architecture_costs_no_compilation_and_a_kind_costs_one(tmp_path):
    cold, warm = run(tmp_path), run(tmp_path)
    assert cold["first"][0] > 5, "nothing was counted"
    for what in ("wider", "deeper", "shallower", "batch size", "rows", "activation again"):
        assert cold[what][:2] == warm[what][:2] == (0, 0), what
    for what in ("activation", "optimizer", "loss", "dropout"):
        assert cold[what][0] > 0, what
        assert warm[what][0] == 0 and 1 <= warm[what][1] <= 4, what
    assert sum(compiled for compiled, _, _ in warm.values()) == 0
    # What is loaded from the disk computes what was compiled: to the last bit.
    assert [bits for _, _, bits in cold.values()] == [bits for _, _, bits in warm.values()]
