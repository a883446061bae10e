"""Runs of many kernels on the GPU: the same bits every time, steps that are captured and replayed, memory, races."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.kernels.cuda import running
from tests.kernels.cuda.running import assert_close, numbers, put, sizes, unwritten

running.require()

from numba import cuda  # noqa: E402

from fastnn.kernels.cpu import updates as cpu  # noqa: E402
from fastnn.kernels.cuda import activations, dense, dropout, losses, penalties, reduce, updates  # noqa: E402
from fastnn.kernels.cuda.engine import Replay  # noqa: E402
from fastnn.kernels.cuda.launch import Stream, kernel, launch  # noqa: E402
from fastnn.kernels.formulas.activations import ACTIVATIONS  # noqa: E402

pytestmark = running.LIKE_A_GPU

#: rows, inputs, units; and how often
SHAPES = sizes([(7, 5, 3)], [(33, 17, 10), (1000, 784, 129), (4096, 1024, 1024)])
ROUNDS = 2 if running.simulated() else 50


@kernel
def count(step):
    """step[0] += 1, for one thread."""
    step[0] += 1


class Network:
    """Two dense layers with dropout between them, a loss, and Adam for the first one, kernel by kernel."""

    def __init__(self, rows, inputs, units):
        real, classes = np.float32, 3
        self.rows, self.stream = rows, Stream(cuda.stream())
        self.x, self.labels = put(numbers((rows, inputs), real)), put((np.arange(rows)[:, None] % classes).astype(real))
        self.W, self.b = put(numbers((inputs, units), real, 1)), put(numbers(units, real, 2))
        self.V, self.none = put(numbers((units, classes), real, 3)), unwritten(0, real)
        self.h, self.kept, self.dh = (unwritten((rows, units), real) for _ in range(3))
        self.z, self.y, self.dz = (unwritten((rows, classes), real) for _ in range(3))
        self.dW, self.db, self.norms = (
            unwritten((inputs, units), real),
            unwritten(units, real),
            unwritten(inputs, float),
        )
        self.m, self.v = put(np.zeros(inputs * units, real)), put(np.zeros(inputs * units, real))
        self.losses, self.results = unwritten(rows, real), unwritten(1, real)
        self.step, self.rate, self.scale = put(np.array([1])), put(np.array([0.01], real)), put(np.array([1], real))
        self.zero = put(np.array([0]))

    def run(self, stream):
        """One step of training."""
        tanh = ACTIVATIONS["tanh"]
        mask = 2**30, 4 / 3, 11, self.step, 0, self.zero
        dense.dense_forward_keeping(tanh.value, tanh.slope)(self.h, self.kept, self.x, self.W, self.b, stream)
        dropout.dropout_forward(self.h, self.h, *mask, stream)
        dense.dense_forward(self.z, self.h, self.V, self.none, stream)
        fused = self.losses, self.y, self.dz, self.z, self.labels
        losses.softmax_cross_entropy(*fused, 0.0, 1 / self.rows, stream)
        reduce.mean(self.results, self.losses, self.zero, stream)
        dense.dense_backward_input(self.dh, self.dz, self.V, stream)
        dropout.dropout_backward(self.dh, self.dh, *mask, stream)
        activations.activation_backward(activations.kept_slope)(self.dh, self.dh, self.kept, self.h, stream)
        dense.dense_backward_weights(self.dW, self.db, self.dh, self.x, stream)
        penalties.squared_norms(self.norms, self.W, self.dW, 0.0, 0.01, stream)
        flat = self.W.reshape(self.W.size), self.m, self.v, self.dW.reshape(self.dW.size)
        updates.adam_update(*flat, self.rate, 0.9, 0.999, 1e-7, self.step, 0.0, self.scale, np.inf, 0.0, 0.01, stream)
        launch(count, 1, 1, stream, self.step)

    def bits(self):
        """All that a step changes."""
        cuda.synchronize()
        arrays = self.W, self.db, self.m, self.v, self.losses, self.results, self.h, self.norms, self.step
        return [array.copy_to_host().tobytes() for array in arrays]


@pytest.mark.parametrize(("rows", "inputs", "units"), SHAPES)
def test_same_bits_on_every_run(rows, inputs, units):
    found = set()
    for _ in range(ROUNDS):
        network = Network(rows, inputs, units)
        for _ in range(2):
            network.run(network.stream)
        found.add(tuple(network.bits()))
    assert len(found) == 1


@pytest.mark.parametrize(("rows", "inputs", "units"), SHAPES)
def test_replayed_steps_are_steps(rows, inputs, units):
    one_by_one, replayed, steps = Network(rows, inputs, units), Network(rows, inputs, units), 3 if ROUNDS < 3 else 130
    for _ in range(steps):
        one_by_one.run(one_by_one.stream)
    Replay(replayed.run, replayed.stream).run(steps)
    assert replayed.bits() == one_by_one.bits()
    assert replayed.step.copy_to_host()[0] == 1 + steps


def test_a_graph_takes_numbers_as_arrays_alone():
    """A copy of a number would be repeated from memory of the host that is gone."""
    values, results, stream = put(numbers(5, np.float32)), unwritten(1, np.float32), Stream()
    reduce.mean(results, values, 0, stream)
    with pytest.raises(TypeError, match="a graph cannot repeat the number 0; expected a device array of one element"):
        reduce.mean(results, values, 0, stream.capturing(0))


def test_a_replayed_adam_counts_its_steps():
    p, g = numbers(9, np.float32), numbers(9, np.float32, 1)
    there, step, stream = [put(array) for array in (p, 0 * p, 0 * p, g)], put(np.array([1])), Stream(cuda.stream())
    rate, scale = put(np.array([0.1], np.float32)), put(np.array([1], np.float32))

    def run(where):
        updates.adam_update(*there, rate, 0.9, 0.999, 1e-7, step, 0.0, scale, np.inf, 0.0, 0.0, where)
        launch(count, 1, 1, where, step)

    steps = 5 if running.simulated() else 100
    Replay(run, stream).run(steps)
    cuda.synchronize()
    arrays = [p, 0 * p, 0 * p, g]
    for number in range(1, steps + 1):
        cpu.adam_update(*arrays, 0.1, 0.9, 0.999, 1e-7, number, 0.0, 1.0, np.inf, 0.0, 0.0, 0, 1)
    assert_close(there[0], arrays[0], np.float32, 100, 1 + np.abs(arrays[0]))


@pytest.mark.gpu
@pytest.mark.skipif(running.simulated(), reason="the simulator's memory is the host's")
def test_memory_does_not_grow():
    def used():
        cuda.synchronize()
        free, total = cuda.current_context().get_memory_info()
        return total - free

    network = Network(256, 300, 100)
    for _ in range(10):
        network.run(network.stream)
    before = used()
    for _ in range(1000):
        network.run(network.stream)
    assert used() <= before + 2**20


FILES = ["test_dense.py", "test_rows.py", "test_losses.py", "test_penalties.py", "test_updates.py"]


def sanitizer(tool, file):
    """The command that runs the small tests of a file under a tool of compute-sanitizer."""
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not 4096 and not 4095 and not 1000"]
    return ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", *tests, str(Path(__file__).parent / file)]


@pytest.mark.parametrize("file", FILES)
def test_the_sanitizer_gets_files_that_are_there(file):
    assert Path(sanitizer("memcheck", file)[-1]).is_file()


@pytest.mark.gpu
@pytest.mark.skipif(running.simulated(), reason="needs a GPU")
@pytest.mark.skipif(shutil.which("compute-sanitizer") is None, reason="compute-sanitizer is not on the path")
@pytest.mark.parametrize("tool", ["memcheck", "racecheck"])
@pytest.mark.parametrize("file", FILES)
def test_sanitizer(tool, file):
    result = subprocess.run(sanitizer(tool, file), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-5000:]
