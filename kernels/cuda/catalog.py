"""Every private kernel with the types of its arguments, so that a test can compile all of them without a GPU.

``asv_bench/gpu_kernels.py`` does so. To each kernel belongs at least one entry for float32 and one for float64, and a
test says which one is missing. Where kernels differ in numbers alone (tiles, lanes of a row, ends of a product),
float32 has the whole list and float64 an example, because a compilation takes a second.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numba import boolean, float32, float64, int64, uint32, void

from ..formulas.activations import ACTIVATIONS
from ..jit import formula
from . import (
    activations,
    dense,
    dropout,
    gather,
    gemm,
    launch,
    losses,
    metrics,
    penalties,
    reduce,
    rows,
    tensor_cores,
    updates,
)
from .engine_catalog import of_engine
from .launch import THREADS
from .reduce import number_of

__all__ = ["Entry", "entries"]

#: Threads for a row: one, a few, and a whole block.
LANES = (1, 8, THREADS)


class Entry(NamedTuple):
    """A kernel and the types that it is compiled for.

    function : what ``kernel`` made; threads : of a block, at most; real : NumPy's type of its numbers; accumulates : it
    uses float64 whatever that type is; since : the compute capability that it needs; dynamic_bytes : shared memory
    that it is launched with, beside what it declares.
    """

    name: str
    function: Callable[..., Any]
    signature: Any
    threads: int
    real: Any
    accumulates: bool = False
    since: tuple[int, int] = (7, 5)
    dynamic_bytes: int = 0


def entries() -> Iterator[Entry]:
    """All kernels, for float32 and float64, with the tiles and groups that matter and every formula of the library."""
    for real in (np.float32, np.float64):
        for part in (
            of_gemm,
            of_activations,
            of_dropout,
            of_losses,
            of_metrics,
            of_rows,
            of_updates,
            of_penalties,
            of_engine,
        ):
            for name, function, arguments, threads, *accumulates in part(real):
                yield Entry(name, function, void(*arguments), threads, real, *accumulates)
    yield from of_tensor_cores()
    yield Entry("close_gate", launch._close_gate, void(int64[::1]), 1, np.int64)


def types_of(real):
    """Numba's types of (a number, a flat array, a matrix)."""
    number = number_of(real)
    return number, number[::1], number[:, ::1]


def lanes_for(real):
    return LANES if real == np.float32 else LANES[1:2]


def of_gemm(real):
    """The largest tile with the three products and all ends, each other tile with two of them."""
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
    largest = gemm.tiles_for(real)[0]
    for tile in gemm.tiles_for(real):
        shape = "x".join(map(str, tile[:3]))
        for name, (a_across, b_across, ones, end, others) in ends.items():
            if tile == largest or name == "keeping":
                kernel = gemm.gemm_kernel(real, tile, a_across, b_across, ones, end)
                yield f"gemm_{name}_{shape}", kernel, (matrix, *others, matrix, matrix, int64), tile.threads
        parts = gemm.gemm_kernel(real, tile, True, False, True, gemm.part)
        arguments = number_of(real)[:, :, ::1], flat, matrix, matrix, matrix, matrix, matrix, int64
        yield f"gemm_part_{shape}", parts, arguments, tile.threads
    end_of_parts = gemm.end_of_parts(dense._gradients)
    yield "end_of_parts", end_of_parts, (matrix, flat, matrix, matrix, matrix, number_of(real)[:, :, ::1]), THREADS
    tile = gemm.TILES[-1]
    for name, activation in ACTIVATIONS.items() if real == np.float32 else ():
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
    for lanes in lanes_for(real):
        for name in ("softmax", "log_softmax"):
            forward = getattr(activations, f"{name}_forward_kernel")(lanes, real)
            backward = getattr(activations, f"{name}_backward_kernel")(lanes, real)
            yield f"{name}_forward_{lanes}", forward, (matrix, matrix), THREADS
            yield f"{name}_backward_{lanes}", backward, (matrix, matrix, matrix), THREADS


def of_dropout(real):
    number, _, matrix = types_of(real)
    whole = int64[::1]
    for lanes in lanes_for(real):
        arguments = matrix, matrix, uint32, number, int64, whole, int64, whole
        yield f"dropout_{lanes}", dropout.dropout_kernel(dropout.keep, lanes, real), arguments, THREADS
        yield f"dropout_mask_{lanes}", dropout.dropout_kernel(dropout.mark, lanes, real), arguments, THREADS
    yield "apply_mask", dropout.mask_kernel(real), (matrix, matrix, matrix), THREADS


def of_losses(real):
    number, flat, matrix = types_of(real)
    status = int64[::1]
    fused = flat, matrix, matrix, matrix, matrix, number, number, number, status
    for lanes in lanes_for(real):
        for name in ("squared_error", "absolute_error", "huber", "pinball"):
            kernel = losses.elementwise_kernel(*losses.formulas_of(name), lanes, real)
            yield f"{name}_{lanes}", kernel, (flat, matrix, matrix, matrix, number, number, status), THREADS
        yield f"sigmoid_cross_entropy_{lanes}", losses.sigmoid_kernel(lanes, real), fused, THREADS
        for labels, kind in ((True, "labels"), (False, "probabilities")):
            softmax = losses.softmax_kernel(labels, lanes, real)
            yield f"softmax_cross_entropy_{kind}_{lanes}", softmax, fused, THREADS


def of_metrics(real):
    number, flat, matrix = types_of(real)
    for lanes in lanes_for(real):
        for labels, kind in ((True, "labels"), (False, "probabilities")):
            arguments = flat, matrix, matrix, number, boolean
            yield f"accuracy_{kind}_{lanes}", metrics.rank_kernel(labels, lanes, real), arguments, THREADS
        for term in (metrics.agreement, metrics.square, metrics.distance):
            kernel = metrics.mean_kernel(term, lanes, real)
            yield f"mean_{term.py_func.__name__}_{lanes}", kernel, (flat, matrix, matrix), THREADS


def of_rows(real):
    _, flat, matrix = types_of(real)
    whole = int64[::1]
    for lanes in lanes_for(real):
        yield f"weigh_rows_{lanes}", rows.weigh_kernel(lanes, real), (flat, matrix, flat, whole), THREADS
        arguments = matrix, matrix, matrix, matrix, whole, whole
        yield f"gather_rows_{lanes}", gather.gather_kernel(lanes, real), arguments, THREADS
    yield "keep_rows", rows._keep, (matrix, matrix), THREADS
    yield "mean", reduce.mean_kernel(real), (flat, flat, whole), THREADS


@formula
def own(p, g, slots, rate, step, settings):
    """A user's own update."""
    for i in range(len(p)):
        slots[0][i] = settings[0] * slots[0][i] - rate * g[i]
        p[i] += slots[0][i]


def of_updates(real):
    number, flat, _ = types_of(real)
    whole = int64[::1]
    end = flat, number, number, number, whole
    yield "sgd", updates._sgd, (flat, flat, flat, *end), THREADS
    yield "momentum", updates._momentum, (flat, flat, flat, flat, *[number] * 3, *end), THREADS
    yield "adagrad", updates._adagrad, (flat, flat, flat, flat, number, *end), THREADS
    yield "rmsprop", updates._rmsprop, (flat, flat, flat, flat, flat, *[number] * 4, *end), THREADS
    yield "adam", updates._adam, (flat, flat, flat, flat, flat, whole, *[number] * 8, *end), THREADS
    yield "own_update", updates.own_kernel(own, 1), (flat, flat, flat, flat, flat, whole, flat, *end), THREADS


def of_penalties(real):
    """Norms and penalties accumulate in float64."""
    _, flat, matrix = types_of(real)
    wide, status = float64[::1], int64[::1]
    for lanes in lanes_for(real):
        arguments = wide, matrix, matrix, float64, float64
        yield f"squared_norms_{lanes}", penalties.norms_kernel(lanes, real), arguments, THREADS, True
    yield "max_norm", penalties._max_norm, (matrix, float64, status), THREADS, True
    penalty = penalties.chunks_kernel(penalties.penalty_term)
    yield "penalty_chunks", penalty, (wide, flat, float64, float64), THREADS, True
    yield "penalty_slope", penalties.slope_kernel(ACTIVATIONS["tanh"].value), (flat, flat), THREADS


def of_tensor_cores():
    """Each precision and tile with each of the three products; unaligned rows with the first one."""
    _, flat, matrix = types_of(np.float32)
    tanh, relu = ACTIVATIONS["tanh"], ACTIVATIONS["relu"]
    keeping, sloped = dense._keeping(tanh.value, tanh.slope), dense._sloped(relu.slope)
    ends = {
        "keeping": (False, False, True, keeping, (matrix, matrix, flat, matrix, matrix)),
        "keeping_unaligned": (False, False, False, keeping, (matrix, matrix, flat, matrix, matrix)),
        "sloped": (False, True, True, sloped, (matrix, matrix, matrix, matrix, matrix)),
        "part": (True, False, True, gemm.part, (float32[:, :, ::1], flat, matrix, matrix, matrix)),
    }
    for precision, tiles in tensor_cores.TILES.items():
        for tile in tiles:
            for end_name, (a_across, b_across, aligned, end, others) in ends.items():
                name = f"{precision}_{end_name}_{tile.rows}x{tile.columns}"
                layout = a_across, b_across, aligned, aligned
                kernel = tensor_cores.tensor_gemm_kernel(precision, tile, *layout, end)
                signature = void(*others, matrix, matrix, int64)
                yield Entry(name, kernel, signature, tile.threads, np.float32, False, (8, 0), tile.shared_bytes)
