"""Every private kernel with the types of its arguments, so that a test can compile all of them without a GPU.

``cuda.compile(entry.function, entry.signature, device=False, abi="numba", cc=..., output="ptx",
launch_bounds=entry.threads)`` does so. Kernels call device functions, which Numba compiles for the GPU at hand: without
a driver ``numba.cuda.dispatcher.get_current_device`` has to be replaced by a function that gives an object with the
``compute_capability`` that is meant.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numba import int64, void

from ..formulas.activations import ACTIVATIONS
from . import activations, dense, gemm, launch, reduce
from .launch import THREADS
from .reduce import number_of

__all__ = ["Entry", "entries"]


class Entry(NamedTuple):
    """A kernel and the types that it is compiled for.

    function : the Python function; threads : of a block, at most; real : NumPy's type of its numbers; accumulates : it
    accumulates in float64 whatever that type is.
    """

    name: str
    function: Callable[..., Any]
    signature: Any
    threads: int
    real: Any
    accumulates: bool = False


def entries() -> Iterator[Entry]:
    """All kernels, for float32 and float64, with the tiles and groups that matter and every formula of the library."""
    for real in (np.float32, np.float64):
        for part in (of_gemm, of_activations, of_reduce):
            for name, function, arguments, threads, *accumulates in part(real):
                yield Entry(name, function.py_func, void(*arguments), threads, real, *accumulates)
    yield Entry("close_gate", launch._close_gate.py_func, void(int64[::1]), 1, np.int64)


def types_of(real):
    """Numba's types of (a number, a flat array, a matrix)."""
    number = number_of(real)
    return number, number[::1], number[:, ::1]


def of_gemm(real):
    """Each tile with each of the three products, and all ends."""
    _, flat, matrix = types_of(real)
    tanh, relu = ACTIVATIONS["tanh"], ACTIVATIONS["relu"]
    ends = {
        "forward": (False, False, False, dense._biased, (matrix, flat, matrix, matrix)),
        "activated": (False, False, False, dense._activated(tanh.value), (matrix, flat, matrix, matrix)),
        "keeping": (False, False, False, dense._keeping(tanh.value, tanh.slope), (matrix, flat, matrix, matrix)),
        "input": (False, True, False, gemm.plain, (matrix, matrix, matrix, matrix)),
        "sloped": (False, True, False, dense._sloped(relu.slope), (matrix, matrix, matrix, matrix)),
        "kept": (False, True, False, dense._sloped(activations.kept_slope), (matrix, matrix, matrix, matrix)),
        "weights": (True, False, True, dense._gradients, (flat, matrix, matrix, matrix)),
    }
    for tile in gemm.tiles_for(real):
        shape = "x".join(map(str, tile[:3]))
        for name, (a_across, b_across, ones, end, others) in ends.items():
            kernel = gemm.gemm_kernel(real, tile, a_across, b_across, ones, end)
            yield f"gemm_{name}_{shape}", kernel, (matrix, *others, matrix, matrix, int64), tile.threads
        parts = gemm.gemm_kernel(real, tile, True, False, True, gemm.part)
        arguments = number_of(real)[:, :, ::1], flat, matrix, matrix, matrix, matrix, matrix, int64
        yield f"gemm_part_{shape}", parts, arguments, tile.threads
    end_of_parts = gemm.end_of_parts(dense._gradients)
    yield "end_of_parts", end_of_parts, (matrix, flat, matrix, matrix, matrix, number_of(real)[:, :, ::1]), THREADS
    tile = gemm.TILES[-1]
    for name, activation in ACTIVATIONS.items():
        end = dense._keeping(activation.value, activation.slope)
        kernel = gemm.gemm_kernel(real, tile, False, False, False, end)
        yield f"gemm_keeping_{name}", kernel, (matrix, *ends["keeping"][-1], matrix, matrix, int64), tile.threads


def of_activations(real):
    """Each formula, and softmax with a thread, a few and a whole block for a row."""
    _, _, matrix = types_of(real)
    for name, activation in ACTIVATIONS.items():
        value, slope = activation.value, activation.slope
        yield f"{name}_forward", activations.forward_kernel(value), (matrix, matrix), THREADS
        yield f"{name}_backward", activations.backward_kernel(slope), (matrix, matrix, matrix, matrix), THREADS
        yield f"{name}_forward_keeping", activations.keeping_kernel(value, slope), (matrix, matrix), THREADS
    kept = activations.backward_kernel(activations.kept_slope)
    yield "kept_backward", kept, (matrix, matrix, matrix, matrix), THREADS
    for lanes in (1, 8, THREADS):
        for name in ("softmax", "log_softmax"):
            forward = getattr(activations, f"{name}_forward_kernel")(lanes, real)
            backward = getattr(activations, f"{name}_backward_kernel")(lanes, real)
            yield f"{name}_forward_{lanes}", forward, (matrix, matrix), THREADS
            yield f"{name}_backward_{lanes}", backward, (matrix, matrix, matrix), THREADS


def of_reduce(real):
    _, flat, _ = types_of(real)
    yield "mean", reduce.mean_kernel(real), (flat, flat, int64[::1]), THREADS
