"""What the tests of the kernels for the GPU share: where they run, at which sizes, and how numbers get there and back.

The same bodies run in Numba's simulator at tiny sizes (``NUMBA_ENABLE_CUDASIM=1``, a session of its own, which
``tests/kernels/test_cuda.py`` starts) and, marked ``gpu``, on a real one at sizes that matter.
"""

import importlib.util
import sys
import threading

import numpy as np
import pytest

REALS = [np.float32, np.float64]

LOCK = threading.Lock()

#: NumPy, which the simulator computes with, warns of infinities; a GPU does not.
LIKE_A_GPU = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def why_not_compiled() -> str | None:
    """Why nothing can be compiled for GPUs in this session, or None."""
    if importlib.util.find_spec("numba_cuda") is None:
        return "numba-cuda is not installed (the extra test-gpu)"
    try:
        from numba.cuda.core import config
    except (ImportError, RuntimeError) as fault:  # a RuntimeError where libcudart is not found
        return f"numba.cuda cannot be imported: {fault}"
    if config.DISABLE_JIT:
        return "the compiler is off (NUMBA_DISABLE_JIT)"
    return "this is the simulator (NUMBA_ENABLE_CUDASIM)" if config.ENABLE_CUDASIM else None


def why_not() -> str | None:
    """Why kernels can run neither on a GPU nor in the simulator in this session, or None."""
    reason = why_not_compiled()
    if reason is None:
        from numba import cuda

        if not cuda.is_available():
            return "needs a GPU, or the simulator (NUMBA_ENABLE_CUDASIM=1), in which test_cuda.py runs them"
    return None if reason is None or "simulator" in reason else reason


def no_gpu() -> str | None:
    """Why kernels cannot run on a GPU in this session, or None."""
    reason = why_not_compiled()
    if reason:
        return reason
    from numba import cuda

    return None if cuda.is_available() else "needs an NVIDIA GPU"


def require() -> None:
    """Skip the calling test file where it cannot run."""
    reason = why_not()
    if reason:
        pytest.skip(reason, allow_module_level=True)
    if simulated():
        from numba.cuda.simulator.kernelapi import FakeCUDAShared

        FakeCUDAShared.array = shared_array
        # The simulator waits for a block's threads in a loop, and each of them for the loop to let go of Python's lock.
        sys.setswitchinterval(1e-5)


def shared_array(self, shape, dtype, alignment=None):
    """What ``cuda.shared.array`` is in the simulator; its own gives two threads that come at once an array each.

    Numbers that nobody has written are NaN.
    """
    from numba.np.numpy_support import as_dtype

    kind = as_dtype(dtype)
    if shape == 0:  # dynamic shared memory
        return np.frombuffer(self._dynshared.data, kind, self._dynshared_size // kind.itemsize)
    caller = sys._getframe(1)
    place = caller.f_code.co_filename, caller.f_lineno
    with LOCK:
        if place not in self._allocations:
            self._allocations[place] = np.full(shape, np.nan if kind.kind == "f" else np.iinfo(kind).max, kind)
        return self._allocations[place]


def simulated() -> bool:
    from numba.cuda.core import config

    return bool(config.ENABLE_CUDASIM)


def sizes(tiny, large):
    """Cases for the simulator, or those for a real GPU, marked so."""
    if why_not() is None and simulated():
        return tiny
    return [pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.gpu) for case in large]


def put(array):
    """A copy of a host array on the device."""
    from numba import cuda

    return cuda.to_device(np.array(array))  # a copy, because the simulator works on the host's array


def unwritten(shape, real, value=np.nan):
    """A device array that nobody has written to: of NaN."""
    return put(np.full(shape, value, real))


def numbers(shape, real, seed=0, scale=1.0):
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(real)


def assert_close(found, wanted, real, ulps=8, scale=None):
    """Every number of ``found``, on the device, is within some units in the last place of ``scale``: by default that of
    ``wanted`` itself, and of numbers of 1e-3 where it is smaller.
    """
    found, wanted = found.copy_to_host(), np.asarray(wanted)
    size = np.maximum(np.abs(wanted), 1e-3) if scale is None else scale
    error = np.abs(np.float64(found) - np.float64(wanted)) / (size * np.finfo(real).eps)
    assert np.isfinite(found).all()
    assert error.max(initial=0) <= ulps, f"{error.max():.1f} units in the last place"
