"""The host's code for GPUs, on a stand-in of NVIDIA's driver that keeps the books and computes nothing.

The rest is real: numba-cuda, cuda.core, nvJitLink and the assembler inside it. Each test runs one of the functions here
in a process of its own, which has ``stand_in/driver.c`` for its driver, and looks at what that reports. Numbers mean
nothing here: kernels leave all memory as it is.
"""

import contextlib
import ctypes
import functools
import gc
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import fastnn as fn
from tests.kernels.cuda import running
from tests.kernels.cuda.stand_in import build

ROOT = Path(__file__).parents[3]

#: Runs a function of this file with arguments, and prints what it returns. The clock does not divide fits into slices.
COMMAND = """
import json, sys
from fastnn import training
training.SLICE_SECONDS = 1e6
from tests.kernels.cuda import test_stand_in as here
print(json.dumps(getattr(here, sys.argv[1])(*json.loads(sys.argv[2]))))
"""

#: Settings of the session that would keep the tests from the stand-in.
UNSET = "NUMBA_ENABLE_CUDASIM", "NUMBA_DISABLE_JIT", "FASTNN_DEVICE", "CUDA_VISIBLE_DEVICES"

#: Hidden layers and rows of a batch, by the way through a step. The gradient of the weights of so large a batch
#: is cut into parts, which need memory in between.
WAYS = {"tiny": ([16], 32), "narrow": ([64, 64], 32), "layered": ([256], 256)}

ROWS, INPUTS, CLASSES = 640, 8, 3


def file_of(package, name):
    """Where a file of an installed package is, or None."""
    try:
        files = importlib.metadata.distribution(package).files or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((Path(str(file.locate())) for file in files if file.name.startswith(name)), None)


def why_not():
    """What is missing for the stand-in, or None."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
        return "the stand-in of the driver is for Linux on x86_64 and aarch64"
    if shutil.which("cc") is None:
        return "a C compiler (cc) is missing"
    if file_of("nvidia-cuda-runtime", "cuda.h") is None:
        return "cuda.h is missing, of nvidia-cuda-runtime (the extra test-gpu)"
    if file_of("nvidia-nvjitlink", "libnvJitLink.so") is None:
        return "nvJitLink is missing, of nvidia-nvjitlink (the extra test-gpu)"
    return running.why_not_compiled()


pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The folder of the stand-in."""
    folder = tmp_path_factory.mktemp("driver")
    build.build(folder, file_of("nvidia-cuda-runtime", "cuda.h").parent, "cc")
    return folder


@pytest.fixture
def stand_in(library, tmp_path):
    """Runs a function with arguments on a driver with such settings; returns what the function does.

    What the driver reports is ``reported``: by default, nothing.
    """

    def run(function, *arguments, reported=(), **settings):
        report = tmp_path / "report"
        report.touch()
        environment = {name: value for name, value in os.environ.items() if name not in UNSET}
        environment["LD_LIBRARY_PATH"] = os.pathsep.join(
            filter(None, [str(library), environment.get("LD_LIBRARY_PATH")])
        )
        environment |= {f"STAND_IN_{name.upper()}": str(value) for name, value in settings.items()}
        environment["STAND_IN_REPORT"] = str(report)
        warning = "error:no CUDA graph could be captured:UserWarning"
        command = [sys.executable, "-W", warning, "-c", COMMAND, function.__name__, json.dumps(arguments)]
        result = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        found = report.read_text("utf-8").splitlines()
        assert result.returncode == 0, "\n".join([result.stderr[-5000:], *found])
        assert len(found) == len(reported), found
        assert all(words in line for words, line in zip(reported, found, strict=True)), found
        return json.loads(result.stdout.splitlines()[-1])

    return run


# What the functions have in common that run on the stand-in.


@functools.cache
def driver():
    found = ctypes.CDLL("libcuda.so.1")
    found.stand_in_count.restype = ctypes.c_long
    found.stand_in_lose_after.argtypes = [ctypes.c_long]
    return found


def counted():
    """What the driver has counted so far."""
    names = "launches", "replays", "replayed", "captures"
    return {name: driver().stand_in_count(name.encode()) for name in names}


def still_there():
    """What the driver still keeps for this process, once nobody has a model any more: nothing."""
    from numba import cuda
    from numba.cuda.dispatcher import CUDADispatcher

    CUDADispatcher.configure.cache_clear()  # Numba knows the last launches, with their streams
    gc.collect()
    for gpu in cuda.gpus:
        with gpu:
            cuda.current_context().memory_manager.deallocations.clear()
            cuda.current_context().deallocations.clear()
    names = "streams", "graphs", "executables", "arrays", "host_arrays"
    counts = {name: driver().stand_in_count(name.encode()) for name in names}
    return {name: count for name, count in counts.items() if count}


def data(rows=ROWS):
    generator = np.random.default_rng(0)
    X = generator.standard_normal((rows, INPUTS)).astype(np.float32)
    return X, generator.integers(0, CLASSES, rows)


def network(way, device="cuda", precision="float32"):
    hidden = [fn.Dense(units, activation="relu") for units in WAYS[way][0]]
    model = fn.Model([fn.Input(INPUTS), *hidden, fn.Dense(CLASSES, activation="softmax")], seed=0, name=way)
    model.compile(fn.Adam(1e-3), "cross_entropy", ["accuracy"], device=device, precision=precision)
    return model


def bits(model):
    return [array.tobytes() for array in model.get_weights()]


def fit(model, **options):
    """Train; no kernel runs, so the weights come back as they went."""
    weights = bits(model)
    model.fit(*data(), batch_size=WAYS[model.name][1], epochs=2, verbose=0, **options)
    assert bits(model) == weights


def use(model):
    """Everything that one does with a model; returns what the fits alone took."""
    fit(model)
    fit(model)
    counts = counted()
    X, y = data()
    fit(model, validation_data=(X, y))
    model.evaluate(X, y)
    assert model.predict(X).shape == (ROWS, CLASSES)
    return counts


# Fits.


def use_and_forget(way, precision="float32"):
    counts = use(network(way, precision=precision))
    return {**counts, "still_there": still_there()}


def use_without_graphs(way):
    from fastnn.kernels.cuda import engine

    engine.GRAPH_STEPS = ()
    return use_and_forget(way)


@pytest.mark.parametrize("way", WAYS)
def test_a_model_is_used_and_forgotten(stand_in, way):
    found = stand_in(use_and_forget, way)
    assert found["still_there"] == {}
    if way == "tiny":
        assert found["launches"] > 0 and found["captures"] == 0
    else:
        assert 0 < found["captures"] <= found["replays"]
        alone = stand_in(use_without_graphs, way)
        assert alone["captures"] == alone["replays"] == 0
        assert found["launches"] + found["replayed"] == alone["launches"]


def use_large_tiles():
    """Products on tensor cores in the tiles of large networks, whose shared memory is beyond 48 KB."""
    from fastnn.kernels.cuda import gemm, tensor_cores

    gemm.BUSY = 1
    assert tensor_cores.TILES["tf32"][0].shared_bytes > 48 * 1024
    return use_and_forget("layered", "tf32")


def test_tensor_cores_and_more_than_48_kilobytes_of_shared_memory(stand_in):
    found = stand_in(use_large_tiles)
    assert found["still_there"] == {} and found["replays"] > 0


def memory_in_use(number):
    from numba import cuda

    with cuda.gpus[number]:
        free, total = cuda.current_context().get_memory_info()
    return total - free


def use_the_second_gpu():
    from numba import cuda

    cuda.current_context()
    model = network("narrow", "cuda:1")
    use(model)
    used = [number for number in range(2) if memory_in_use(number)]
    del model
    return {"current": cuda.gpus.current.id, "used": used, "still_there": still_there()}


def test_a_second_gpu(stand_in):
    assert stand_in(use_the_second_gpu, gpus=2) == {"current": 0, "used": [1], "still_there": {}}


def use_two_gpus_at_once():
    from numba import cuda

    cuda.current_context()  # whoever collects the models has to have a GPU, or Numba cannot free their memory
    faults = []

    def work(device):
        try:
            use(network("narrow", device))
            use(network("layered", device))
        except BaseException as fault:
            faults.append(repr(fault))

    threads = [threading.Thread(target=work, args=(f"cuda:{number}",)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"faults": faults, "still_there": still_there()}


def test_two_gpus_at_once(stand_in):
    assert stand_in(use_two_gpus_at_once, gpus=2) == {"faults": [], "still_there": {}}


# Moves, and arrays that are on the GPU already.


def move():
    model = network("narrow", "cpu")
    weights = bits(model)
    model.to("cuda")
    use(model)
    model.to("cpu")
    same = bits(model) == weights and model.predict(data()[0]).shape == (ROWS, CLASSES)
    del model
    return {"same": same, "still_there": still_there()}


def test_a_model_that_moves_keeps_the_bits_of_its_weights(stand_in):
    assert stand_in(move) == {"same": True, "still_there": {}}


class Exported:
    """An array on the GPU that tells by DLPack where it is: NumPy's own answer for the host's, with another address."""

    def __init__(self, array):
        from numba import cuda

        self.on_host, self.there, self.shape = array, cuda.to_device(array), array.shape

    def __dlpack_device__(self):
        return 2, 0  # CUDA's first GPU

    def __dlpack__(self, **options):
        capsule = self.on_host.__dlpack__()
        place = ctypes.pythonapi.PyCapsule_GetPointer
        place.restype, place.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
        tensor = place(capsule, b"dltensor")  # begins with the address, and the kind and number of the device
        ctypes.c_void_p.from_address(tensor).value = self.there.device_ctypes_pointer.value
        ctypes.c_int32.from_address(tensor + 8).value = 2
        return capsule


class Shown:
    """An array on the GPU that tells by ``__cuda_array_interface__`` where it is."""

    def __init__(self, array):
        from numba import cuda

        self.there, self.shape = cuda.to_device(array), array.shape
        self.__cuda_array_interface__ = self.there.__cuda_array_interface__


def use_arrays_on_the_gpu(kind):
    X, y = data()
    here = {"dlpack": Exported, "interface": Shown}[kind]
    X, y = here(X), here(y.astype(np.float32))  # of the model's type: other numbers a kernel would have to convert
    model = network("layered")
    model.fit(X, y, batch_size=256, epochs=2, verbose=0)
    model.evaluate(X, y)
    found = model.predict(X, output="device")
    shape = list(found.shape)
    del X, y, model, found
    return {"shape": shape, "still_there": still_there()}


@pytest.mark.parametrize("kind", ["dlpack", "interface"])
def test_arrays_on_the_gpu(stand_in, kind):
    assert stand_in(use_arrays_on_the_gpu, kind) == {"shape": [ROWS, CLASSES], "still_there": {}}


# What goes wrong.


def ask_for_too_much():
    model = network("narrow")
    fit(model)
    weights = bits(model)
    with pytest.raises(MemoryError) as caught:
        model.fit(*data(200_000), verbose=0)
    fault = str(caught.value)
    assert bits(model) == weights
    fit(model)
    model.to("cpu").fit(*data(), verbose=0)
    del model, caught
    return {"fault": fault, "still_there": still_there()}


def test_out_of_memory(stand_in):
    found = stand_in(ask_for_too_much, megabytes=4)
    assert "the GPU has no room for 6,400,000 bytes: " in found["fault"] and 'model.to("cpu")' in found["fault"]
    assert found["still_there"] == {}


def lose_the_gpu():
    """A GPU that fails in the third slice; each slice before has made all weights its own number."""
    from fastnn.kernels.cuda.runner import DeviceLostError, Runner

    slices, train = [], Runner._train

    def train_and_mark(self, *arguments):
        slices.append(self)
        for array, _ in self.remote.arrays:
            array.copy_to_device(np.full(array.shape, len(slices), array.dtype))
        if len(slices) == 3:
            driver().stand_in_lose_after(1)
        return train(self, *arguments)

    model = network("narrow")
    Runner._train = train_and_mark
    with pytest.raises(DeviceLostError) as caught:
        model.fit(*data(), batch_size=ROWS, epochs=9, verbose=0, validation_split=0.1)
    Runner._train = train
    kept = {float(number) for array in model.get_weights() for number in array.flat}
    fault, step = str(caught.value), model.step
    with pytest.raises(DeviceLostError):
        model.predict(data()[0])
    model.to("cpu").fit(*data(), batch_size=ROWS, epochs=1, verbose=0)
    return {"fault": fault, "kept": sorted(kept), "step": step, "step_on_the_cpu": model.step}


def test_a_gpu_that_is_lost_in_a_fit(stand_in):
    found = stand_in(lose_the_gpu)
    assert "the GPU failed: " in found["fault"] and 'model.to("cpu") goes on without the GPU' in found["fault"]
    assert (found["kept"], found["step"], found["step_on_the_cpu"]) == ([2.0], 2, 3)


def compile_for_the_gpu():
    try:
        network("tiny")
    except RuntimeError as fault:
        return str(fault)


def test_a_driver_that_is_older_than_the_toolkit(stand_in):
    found = stand_in(compile_for_the_gpu, cuda=12040)
    assert "the driver knows CUDA 12.4, which is too old for the installed toolkit of CUDA 13." in found


def test_no_gpu(stand_in):
    assert "no NVIDIA driver or no GPU was found" in stand_in(compile_for_the_gpu, gpus=0)


# What the stand-in sees, with the code broken on purpose.


def copy_in_a_capture():
    from fastnn.kernels.cuda.memory import upload
    from fastnn.kernels.cuda.steps import NarrowSteps

    step = NarrowSteps.step

    def step_and_copy(self, stream):
        upload(np.ones(1), self.arrays["scale"])
        step(self, stream)

    NarrowSteps.step = step_and_copy
    with pytest.raises(UserWarning, match="no CUDA graph could be captured"):
        fit(network("narrow"))


def test_a_copy_in_a_capture_is_seen(stand_in):
    stand_in(copy_in_a_capture, reported=["cuMemcpyHtoD_v2 in a capture"])


def forget_to_ask_for_shared_memory():
    from fastnn.kernels.cuda import tensor_cores
    from fastnn.kernels.cuda.launch import launch

    def launch_at_once(kernel, blocks, threads, shared_bytes, stream, *arguments):
        launch(kernel, blocks, threads, stream, *arguments, shared=shared_bytes)

    tensor_cores.launch_with_memory = launch_at_once
    with contextlib.suppress(Exception):
        use_large_tiles()


def test_shared_memory_that_nobody_asked_for_is_seen(stand_in):
    stand_in(forget_to_ask_for_shared_memory, reported=["bytes of shared memory for "])


def forget_an_array_of_a_graph():
    from numba import cuda
    from numba.cuda.cudadrv.driver import CudaAPIError

    from fastnn.kernels.cuda.engine import Replay
    from fastnn.kernels.cuda.launch import Stream, close_gate

    stream = Stream(cuda.stream())
    replay = Replay(close_gate, stream)
    replay.run(3)
    stream.status = None
    cuda.current_context().memory_manager.deallocations.clear()
    replay.run(1)
    with pytest.raises(CudaAPIError, match="ILLEGAL_ADDRESS"):
        stream.handle.synchronize()


def test_an_array_that_a_graph_reads_after_it_is_freed_is_seen(stand_in):
    stand_in(forget_an_array_of_a_graph, reported=["a replay of "])
