"""Which device runs a plan.

``device="auto" | "cpu" | "cuda"``, else the environment variable ``FASTNN_DEVICE``. No other file of the
library reaches for a GPU.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from .checks import choice, warn

if TYPE_CHECKING:
    from .plan import Plan

DEVICES = ("auto", "cpu", "cuda")

#: How the matrix products of a float32 model are computed; a CPU has but some.
PRECISIONS = ("float32", "3xtf32", "tf32", "bf16")

#: The oldest CUDA that there is an extra for.
OLDEST_TOOLKIT = 12

#: How to install what runs on a GPU.
INSTALL = '(python -m pip install "fastnn[cuda12]" or "fastnn[cuda13]", to match the driver)'

#: Floating-point operations of a training step of this many rows from which "auto" takes a GPU. An estimate, meant to
#: err on the CPU's side, until it is measured: a step on a GPU takes some 20 µs at least, in which a few cores do about
#: 10 million operations.
AUTO_FLOPS, AUTO_ROWS = 100_000_000, 32


def choose_device(device: str | None = "auto", plan: Plan | None = None) -> str:
    """The device, "cpu", "cuda" or "cuda:1", that ``device`` asks for; an error where it cannot be had.

    "auto", or None, is what ``FASTNN_DEVICE`` says; where that is "auto", too, or nothing, a GPU, but never its
    simulator, for a plan of at least ``AUTO_FLOPS``.
    """
    name = "device"
    if device is None or (isinstance(device, str) and device.lower() == "auto"):
        device, name = os.environ.get("FASTNN_DEVICE") or "auto", "the environment variable FASTNN_DEVICE"
    kind, colon, number = device.lower().partition(":") if isinstance(device, str) else (device, "", "")
    if not (kind == "cuda" and colon and number.isdecimal()):
        kind = choice(name, device, DEVICES, meant={"gpu": "cuda"})
    if kind == "auto":
        large = plan is not None and plan.of_the_cpu is None and plan.step_flops(AUTO_ROWS) >= AUTO_FLOPS
        return "cuda" if large and not simulated() and missing_for_gpu() is None else "cpu"
    if kind == "cuda":
        missing = missing_for_gpu(int(number or 0))
        if missing is not None:
            raise RuntimeError(f'{name} is "{device}", but {missing}; expected "cpu" or "auto"')
        if simulated():
            _warn_of_simulator()
    return kind + colon + number if kind == "cuda" else "cpu"


def simulated() -> bool:
    """Whether Numba simulates a GPU."""
    return os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0")


_warned = False


def _warn_of_simulator() -> None:
    """Say once that kernels run in the simulator."""
    global _warned
    if not _warned:
        _warned = True
        warn(
            "NUMBA_ENABLE_CUDASIM is set: kernels run in Numba's simulator, in Python, some 10,000 times slower than "
            "on a GPU"
        )


def missing_for_gpu(index: int = 0) -> str | None:
    """What is missing to run on the GPU of this number, the first thing first; None where nothing is."""
    if find_spec("numba_cuda") is None:
        return f"the package numba-cuda is not installed {INSTALL}"
    try:
        from numba import cuda

        if simulated():
            return None if index == 0 else "the simulator has GPU 0 alone"
        if not cuda.is_available():
            fault = _fault_of_the_driver()
            if fault:
                return f"no NVIDIA driver or no GPU was found ({fault}; nvidia-smi shows what the driver sees)"
            return f"NVVM, the compiler of CUDA's toolkit, was not found {INSTALL}"
        driver, toolkit = _versions(cuda)
        if driver[0] < toolkit[0]:
            older = f', or python -m pip install "fastnn[cuda{driver[0]}]"' if driver[0] >= OLDEST_TOOLKIT else ""
            return (
                f"the driver knows CUDA {driver[0]}.{driver[1]}, which is too old for the installed toolkit of CUDA "
                f"{toolkit[0]}.{toolkit[1]} (update the driver{older})"
            )
        if index >= len(cuda.gpus):
            return f"there is no GPU {index}: the driver sees {len(cuda.gpus)}, numbered from 0"
    except Exception as fault:  # numba-cuda without libcudart raises a RuntimeError of its own
        if "cudart" in str(fault):
            return f"the library libcudart is missing, of the package nvidia-cuda-runtime {INSTALL}"
        return f"numba-cuda cannot start: {fault}"
    return None


def _fault_of_the_driver() -> str:
    """Why the driver could not be started, in a sentence; "" where it could."""
    from numba.cuda.cudadrv.driver import driver

    return " ".join(str(driver.initialization_error or "").split()).partition(". ")[0]


def _versions(cuda: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    """The versions of CUDA that the driver knows and that the toolkit has, each (major, minor)."""
    from numba.cuda.cudadrv.driver import driver

    return tuple(driver.get_version()), tuple(cuda.runtime.get_version())


def check_plan(device: str, plan: Plan, precision: str) -> None:
    """Raise an error where a plan cannot run on ``device`` with this precision of the matrix products."""
    if precision != "float32":
        if plan.dtype != "float32":
            raise ValueError(
                f'precision is {precision!r}, but the model\'s dtype is {plan.dtype}; expected "float32", which leaves '
                'it so, or a model with dtype="float32"'
            )
        missing = missing_for_precision(device, precision)
        if missing is not None:
            raise ValueError(f'precision is {precision!r}, but {missing}; expected "float32"')
    what = plan.of_the_cpu
    if device != "cpu" and what is not None:
        raise TypeError(
            f'device is "{device}", but {what}; expected "cpu", here or in the environment variable FASTNN_DEVICE'
        )


def missing_for_precision(device: str, precision: str) -> str | None:
    """Why a device has no matrix products of this precision, or None."""
    if device == "cpu":
        from .kernels.cpu import amx, pieces

        if precision not in pieces.PIECES:
            return "the model runs on the CPU, which has no such products"
        if amx.available():
            return None
        why = "FASTNN_AMX is 0" if amx.WANTED == "0" else "no matrix unit (AMX) is there for it"
        return f"the model runs on the CPU, and {why}"
    if simulated():
        return "the simulator has no tensor cores"
    from numba import cuda

    capability = tuple(cuda.gpus[_index(device)].compute_capability)
    if capability < (8, 0):
        return f"the GPU's compute capability is {capability[0]}.{capability[1]}, and its tensor cores begin with 8.0"
    return None


def precision_on(device: str, precision: str) -> str:
    """The precision with which a model of this one goes on where it was not compiled: float32 if there is no other."""
    return precision if precision == "float32" or missing_for_precision(device, precision) is None else "float32"


def path_of(plan: Plan, rows: int) -> str:
    """How the GPU's engine takes a plan for batches of ``rows`` rows: "tiny", "narrow" or "layered"."""
    from .kernels.cuda import paths

    return str(paths.path_of(plan, rows))


def on_gpu(value: Any) -> bool:
    """Whether an array has its numbers on a GPU: CuPy's, PyTorch's, JAX's, Numba's."""
    if isinstance(value, np.ndarray):
        return False
    known = hasattr(value, "__cuda_array_interface__") or getattr(value, "__cuda_ndarray__", False)
    if known or not hasattr(value, "__dlpack_device__"):
        return bool(known)
    return int(value.__dlpack_device__()[0]) in (2, 13)  # DLPack's numbers for a GPU's memory


def device_shape(value: Any) -> tuple[int, ...]:
    """The shape of an array on a GPU, which may show its interface alone."""
    return tuple(value.shape if hasattr(value, "shape") else value.__cuda_array_interface__["shape"])


def device_rows(device: str, name: str, value: Any, dtype: str) -> Any:
    """An array on a GPU as rows of ``dtype`` for a model on ``device``, without a copy where it has them already."""
    if device == "cpu":
        raise ValueError(
            f'{name} is on a GPU, but the model runs on the CPU; expected an array of the host, or model.to("cuda")'
        )
    from .kernels.cuda import device_arrays

    index = _index(device)
    with _gpu(device):
        there = device_arrays.device_of(value)
        if there not in (None, index):
            raise ValueError(f"{name} is on GPU {there}, but the model runs on GPU {index}; expected both on one")
        if not device_arrays.readable(value):
            raise TypeError(
                f"{name} is on the GPU, in numbers of a type that cannot be read there; expected bool, integers, or "
                "floats of 2, 4 or 8 bytes"
            )
        return device_arrays.as_rows(value, np.dtype(dtype).type)


def first_not_finite(device: str, array: Any) -> tuple[int, int] | None:
    """(row, column) of the first number of an array on the GPU that is infinite or not a number, or None."""
    from .kernels.cuda import device_arrays

    with _gpu(device):
        return device_arrays.first_not_finite(array)  # type: ignore[no-any-return,unused-ignore]


def device_empty(device: str, shape: tuple[int, int], dtype: str) -> Any:
    """An array on the model's GPU that nobody has written to."""
    if device == "cpu":
        raise ValueError('output is "device", but the model runs on the CPU; expected "host", or model.to("cuda")')
    from .kernels.cuda import memory

    with _gpu(device):
        return memory.allocate(shape, dtype)


def _index(device: str) -> int:
    """The number of the GPU that "cuda" or "cuda:1" names."""
    return int(device.partition(":")[2] or 0)


def _gpu(device: str) -> Any:
    """A context in which the GPU of this name is the current one."""
    from .kernels.cuda import memory

    return memory.on_gpu(_index(device))


def prepare(device: str, plan: Plan, arenas: Any) -> Any:
    """The plan made ready to run on ``device``: an object with ``train`` and ``infer``.

    One for a GPU also has ``to_device``, ``to_host`` and what else ``training.Trainer`` calls during a fit.
    """
    if device == "cpu":
        from .kernels.cpu.runner import Runner

        return Runner(plan, arenas)
    from .kernels.cuda.runner import Runner as DeviceRunner

    return DeviceRunner(plan, arenas, _index(device))
