"""The three products of a dense layer beside the libraries that are made for it: OpenBLAS (as NumPy brings it, as it
comes and told the processor), MKL (as PyTorch brings it) and oneDNN (its package, for float32).

python -m asv_bench.products [--threads 1 2] [--coretypes SkylakeX Zen] [--turns 9] [--avx2] [--output FOLDER]

Each library has a process of its own. For each product they take turns of tens of milliseconds, so that a machine that
gets slower does so for all; who waits is stopped, for threads may spin on after their work. All work on arrays that
begin at a cache line. Each library's C function is called from a compiled loop, since a call from Python takes longer
than a small product. All threads meet after each product; each library, and so fastnn's engine, chooses whether one is
quicker than several. Y = XW, dW = Xᵀ·dY, dX = dY·Wᵀ; 10^9 operations a second, from the shortest of the turns. Before
it is timed, a product is compared with one in float64. The folder gets products.json.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from asv_bench.compare import ONLY_AVX2, description, installed
from fastnn.kernels.cores import cores

SHAPES = [(1, 64, 64), (32, 64, 64), (128, 784, 256), (256, 1024, 1024), (1024, 1024, 1024), (2048, 2048, 2048)]
DTYPES = ("float32", "float64")
PRODUCTS = ("dense_forward", "dense_backward_weights", "dense_backward_input")

#: A turn takes at least as long, so that the start of a thread, a tenth of a millisecond, does not count.
TURN_SECONDS = 0.02

#: Whether a process can be stopped and go on, which Windows does not have.
CAN_STOP = hasattr(signal, "SIGSTOP")


def aligned(*shape: int, dtype: str) -> np.ndarray:
    """Standard normal numbers that begin at a cache line."""
    from fastnn.kernels.memory import aligned_zeros

    array = aligned_zeros(math.prod(shape), np.dtype(dtype).type).reshape(shape)
    array[...] = np.random.default_rng(math.prod(shape)).standard_normal(shape)
    return array


Call = Callable[[], None]


def of_fastnn(arrays: list[np.ndarray], out: np.ndarray, name: str, calls: int, threads: int) -> Call:
    """The kernels of fastnn, each worker its share; after each product they wait for each other, as in the engine."""
    from fastnn.kernels.cpu import dense, gemm
    from fastnn.kernels.cpu.workers import new_sync, take_core

    x, W, dy = arrays
    none = np.empty(0, x.dtype)
    arguments = {
        "dense_forward": (out, x, W, none),
        "dense_backward_weights": (out, none, dy, x),
        "dense_backward_input": (out, dy, W),
    }[name]
    run = together(getattr(dense, name))
    gradient = name == "dense_backward_weights"
    rooms = [gemm.layer_workspace(len(x), *W.shape, x.dtype, gradient) for _ in range(threads)]

    def work(rank: int, sync: np.ndarray, taken: set[int]) -> None:
        take_core(taken)  # as the engine's workers do
        run(calls, (*arguments, rooms[rank], rank, threads), sync.ctypes.data, rank, threads)

    def multiply() -> None:
        sync, taken = new_sync(threads), set[int]()
        workers = [threading.Thread(target=work, args=(rank, sync, taken)) for rank in range(1, threads)]
        for worker in workers:
            worker.start()
        work(0, sync, taken)
        for worker in workers:
            worker.join()

    return multiply


@functools.cache
def together(function: Any) -> Any:
    """A compiled loop of a worker around a kernel, with a barrier after each call."""
    from fastnn.kernels import jit
    from fastnn.kernels.conventions import OK
    from fastnn.kernels.cpu.workers import barrier

    def run(calls, arguments, sync, rank, size):
        for number in range(1, calls + 1):
            function(*arguments)
            barrier(sync, rank, size, number, OK)

    run.frozen = True  # type: ignore[attr-defined]
    return jit.kernel(run)


@functools.cache
def c_loop(path: pathlib.Path, name: str, kinds: tuple[Any, ...]) -> Any:
    """A compiled loop around a C function; a call from Python takes longer than a small product."""
    import numba

    function = getattr(ctypes.CDLL(str(path)), name)
    function.argtypes, function.restype = kinds, None

    @numba.njit(nogil=True)
    def run(calls, arguments):
        for _ in range(calls):
            function(*arguments)

    return run


def of_c(path: pathlib.Path, name: str, kinds: list[Any], arguments: list[Any], calls: int, keep: Any) -> Call:
    """Calls of a C function; keep : whatever the addresses among its arguments belong to."""
    run = c_loop(path, name, tuple(kinds))

    def multiply(keep: Any = keep) -> None:
        run(calls, tuple(arguments))

    return multiply


def factors(arrays: list[np.ndarray], name: str) -> tuple[bool, bool, np.ndarray, np.ndarray, int]:
    """(whether A is to be transposed, and B, A, B, how many products one number of the result sums up)."""
    x, W, dy = arrays
    return {
        "dense_forward": (False, False, x, W, x.shape[1]),
        "dense_backward_weights": (True, False, x, dy, x.shape[0]),
        "dense_backward_input": (False, True, dy, W, dy.shape[1]),
    }[name]


#: C's types: a size, an address, and the numbers by the type of the matrices.
SIZE, ADDRESS, REALS = ctypes.c_int64, ctypes.c_size_t, {"float32": ctypes.c_float, "float64": ctypes.c_double}


def of_openblas(arrays: list[np.ndarray], out: np.ndarray, name: str, calls: int, threads: int) -> Call:
    """``cblas_sgemm`` or ``cblas_dgemm`` of the library that NumPy's wheel brings, with its prefix and 64-bit sizes."""
    (path,) = (pathlib.Path(np.__file__).parents[1] / "numpy.libs").glob("libscipy_openblas64_*")
    letter, real = ("s", "d")[out.itemsize // 8], REALS[out.dtype.name]
    first, second, a, b, depth = factors(arrays, name)
    row_major, plain, transposed = 101, 111, 112  # cblas.h
    kinds = [ctypes.c_int32] * 3 + [SIZE] * 3 + [real, ADDRESS, SIZE, ADDRESS, SIZE, real, ADDRESS, SIZE]
    arguments: list[Any] = [row_major, *(transposed if turned else plain for turned in (first, second)), *out.shape]
    arguments += [depth, 1.0, a.ctypes.data, a.shape[1], b.ctypes.data, b.shape[1], 0.0, out.ctypes.data, out.shape[1]]
    return of_c(path, f"scipy_cblas_{letter}gemm64_", kinds, arguments, calls, (a, b, out))


def of_mkl(arrays: list[np.ndarray], out: np.ndarray, name: str, calls: int, threads: int) -> Call:
    """``sgemm`` or ``dgemm`` of the MKL inside PyTorch, in the manner of Fortran: all by address, and column-major, for
    which a row-major matrix is its own transpose; so it multiplies Bᵀ·Aᵀ.
    """
    import torch

    torch.set_num_threads(threads)
    path = pathlib.Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    first, second, a, b, depth = factors(arrays, name)
    letters = [np.frombuffer(b"T" if turned else b"N", np.uint8) for turned in (second, first)]
    sizes = [np.array(size, np.int32) for size in (out.shape[1], out.shape[0], depth)]
    strides = [np.array(array.shape[1], np.int32) for array in (b, a, out)]
    one, zero = np.ones((), out.dtype), np.zeros((), out.dtype)
    values = [*letters, *sizes, one, b, strides[0], a, strides[1], zero, out, strides[2]]
    name = "SGEMM" if out.itemsize == 4 else "DGEMM"
    return of_c(path, name, [ADDRESS] * len(values), [value.ctypes.data for value in values], calls, values)


def of_onednn(arrays: list[np.ndarray], out: np.ndarray, name: str, calls: int, threads: int) -> Call:
    """``dnnl_sgemm``, oneDNN's own C function for row-major matrices (dnnl.h); it has none for float64."""
    first, second, a, b, depth = factors(arrays, name)
    kinds = [ctypes.c_int8] * 2 + [SIZE] * 3 + [ctypes.c_float, ADDRESS, SIZE, ADDRESS, SIZE, ctypes.c_float]
    kinds += [ADDRESS, SIZE]
    arguments: list[Any] = [*(ord("T" if turned else "N") for turned in (first, second)), *out.shape, depth, 1.0]
    arguments += [a.ctypes.data, a.shape[1], b.ctypes.data, b.shape[1], 0.0, out.ctypes.data, out.shape[1]]
    return of_c(ONEDNN, "dnnl_sgemm", kinds, arguments, calls, (a, b, out))


LIBRARIES: dict[str, Any] = {"fastnn": of_fastnn, "OpenBLAS": of_openblas, "MKL": of_mkl, "oneDNN": of_onednn}

#: Where pip puts oneDNN's library, beside those that it needs.
ONEDNN = pathlib.Path(sys.prefix) / "lib" / "libdnnl.so"


def timed(run: Call) -> float:
    """The seconds that a call takes."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def product(library: str, name: str, shape: tuple[int, int, int], dtype: str, threads: int) -> Callable[[], float]:
    """A function that multiplies for some milliseconds and returns the seconds of one multiplication."""
    rows, inputs, units = shape
    arrays = [aligned(*pair, dtype=dtype) for pair in ((rows, inputs), (inputs, units), (rows, units))]
    x, W, dy = (array.astype(np.float64) for array in arrays)
    right = {
        "dense_forward": lambda: x @ W,
        "dense_backward_weights": lambda: x.T @ dy,
        "dense_backward_input": lambda: dy @ W.T,
    }[name]()
    out = aligned(*right.shape, dtype=dtype)
    choices = []
    for workers in sorted({1, threads}) if library == "fastnn" else [threads]:
        LIBRARIES[library](arrays, out, name, 1, workers)()  # the first call of all may compile
        calls, seconds = 1, 0.0
        while seconds < TURN_SECONDS:
            run = LIBRARIES[library](arrays, out, name, calls, workers)
            seconds, calls = timed(run), 2 * calls
        choices.append((calls // 2, run))
    # fastnn's engine chooses the number of its workers by their times; other libraries choose within each call.
    calls, run = min(choices, key=lambda choice: min(timed(choice[1]) for _ in range(3)) / choice[0])
    if not np.allclose(out, right, rtol=1e-3, atol=1e-2):
        raise RuntimeError(f"{library} computes something else: {name} {shape} {dtype}")

    return lambda: timed(run) / calls


def serve(library: str, threads: int) -> None:
    """A library's process: a line with a product makes it ready, an empty one is a turn; answers with seconds."""
    turn: Callable[[], float] = float
    for line in sys.stdin:
        if line.strip():
            name, shape, dtype = json.loads(line)
            turn = product(library, name, tuple(shape), dtype, threads)
            print(0.0, flush=True)
        else:
            print(turn(), flush=True)


class Process:
    """A library in a process of its own, which is stopped while it has nothing to do."""

    def __init__(self, label: str, library: str, coretype: str, threads: int, avx2: bool):
        environment = os.environ | {name: str(threads) for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")}
        environment |= ONLY_AVX2 if avx2 else {}
        environment |= {"OPENBLAS_CORETYPE": coretype} if coretype else {}
        environment |= {"LD_LIBRARY_PATH": str(ONEDNN.parent)} if library == "oneDNN" else {}
        command = [sys.executable, "-m", "asv_bench.products", "--child", library, "--threads", str(threads)]
        self.label, self.library = label, library
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def ask(self, question: str) -> float:
        assert self.process.stdin is not None and self.process.stdout is not None
        if CAN_STOP:
            self.process.send_signal(signal.SIGCONT)
        self.process.stdin.write(question + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.label} ended with {self.process.wait()}")
        if CAN_STOP:
            self.process.send_signal(signal.SIGSTOP)
        return float(answer)


def measured(processes: list[Process], turns: int) -> dict[str, dict[str, float]]:
    """Library -> product -> 10^9 operations a second."""
    found: dict[str, dict[str, float]] = {process.label: {} for process in processes}
    for dtype in DTYPES:
        able = [process for process in processes if process.library != "oneDNN" or dtype == "float32"]
        for shape in SHAPES:
            for name in PRODUCTS:
                for process in able:
                    process.ask(json.dumps([name, shape, dtype]))
                best = dict.fromkeys(able, math.inf)
                for _ in range(turns):
                    for process in able:
                        best[process] = min(best[process], process.ask(""))
                for process, seconds in best.items():
                    product = f"{name} {'-'.join(map(str, shape))} {dtype}"
                    found[process.label][product] = 2e-9 * math.prod(shape) / seconds
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", nargs="+", type=int, default=sorted({1, cores()}))
    parser.add_argument("--coretypes", nargs="+", default=["SkylakeX", "Zen"], help="what OpenBLAS is told, too")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--avx2", action="store_true", help="no vectors longer than 32 bytes, in any library")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("asv_bench/comparison"))
    parser.add_argument("--child", choices=list(LIBRARIES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads[0]])
        serve(options.child, options.threads[0])
        return
    coretypes = [name for name in options.coretypes if not (options.avx2 and name == "SkylakeX")]
    labels = {"fastnn": ("fastnn", ""), "OpenBLAS": ("OpenBLAS", "")}
    labels |= {f"OpenBLAS told {name}": ("OpenBLAS", name) for name in coretypes}
    if installed("torch"):
        labels["MKL"] = ("MKL", "")
    if ONEDNN.exists():
        labels["oneDNN"] = ("oneDNN", "")
    records: dict[str, dict[str, dict[str, float]]] = {}
    for threads in options.threads:
        processes = [Process(label, *names, threads, options.avx2) for label, names in labels.items()]
        try:
            found = measured(processes, options.turns)
        finally:
            for process in processes:
                process.process.kill()
                process.process.wait()
        records[str(threads)] = found
        print(f"\n{threads} thread(s), GFLOP/s\n{'':48}" + "".join(f"{label:>24}" for label in labels))
        ratios = []
        for product, speed in found["fastnn"].items():
            print(f"{product:48}" + "".join(f"{found[label].get(product, math.nan):24.1f}" for label in labels))
            ratios.append(speed / max(found[label].get(product, 0.0) for label in labels if label != "fastnn"))
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        print(f"fastnn beside the best of the others: least {min(ratios):.2f}, geometric mean {mean:.2f}")
    options.output.mkdir(parents=True, exist_ok=True)
    figures = {"machine": description(options), "speeds": records}
    (options.output / "products.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
