"""The three products of a dense layer beside the libraries that are made for it: OpenBLAS (as NumPy brings it, as it
comes and told the processor), MKL (as PyTorch brings it) and oneDNN (its package, for float32).

python -m asv_bench.products [--threads 1 2] [--coretypes SkylakeX Zen] [--rounds 1] [--avx2] [--output FOLDER]

Each library runs in a process of its own, in turns. All work on arrays that begin at a cache line. Y = XW,
dW = Xᵀ·dY, dX = dY·Wᵀ; 10^9 operations a second, from the shortest of several timings. Before it is timed, a product
is compared with one in float64. The folder gets products.json.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import os
import pathlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from asv_bench.compare import ONLY_AVX2, description, installed
from fastnn.dispatch import cores

SHAPES = [(1, 64, 64), (32, 64, 64), (128, 784, 256), (256, 1024, 1024), (1024, 1024, 1024), (2048, 2048, 2048)]
DTYPES = ("float32", "float64")
PRODUCTS = ("dense_forward", "dense_backward_weights", "dense_backward_input")


def aligned(*shape: int, dtype: str) -> np.ndarray:
    """Standard normal numbers that begin at a cache line."""
    from fastnn.kernels.cpu.runner import aligned_zeros

    array = aligned_zeros(math.prod(shape), np.dtype(dtype).type).reshape(shape)
    array[...] = np.random.default_rng(math.prod(shape)).standard_normal(shape)
    return array


def of_fastnn(arrays: list[np.ndarray], out: np.ndarray, name: str, calls: int, threads: int) -> Callable[[], None]:
    """The kernels of fastnn, each worker its share."""
    from asv_bench.benchmarks.common import repeated
    from fastnn.kernels.cpu import dense, gemm
    from fastnn.kernels.cpu.workers import take_core

    x, W, dy = arrays
    none = np.empty(0, x.dtype)
    arguments = {
        "dense_forward": (out, x, W, none),
        "dense_backward_weights": (out, none, dy, x),
        "dense_backward_input": (out, dy, W),
    }[name]
    run = repeated(getattr(dense, name))
    rooms = [gemm.workspace(x.dtype.type) for _ in range(threads)]

    def work(rank: int, taken: set[int]) -> None:
        take_core(taken)  # as the engine's workers do
        run(calls, (*arguments, rooms[rank], rank, threads))

    def multiply() -> None:
        taken: set[int] = set()
        workers = [threading.Thread(target=work, args=(rank, taken)) for rank in range(1, threads)]
        for worker in workers:
            worker.start()
        work(0, taken)
        for worker in workers:
            worker.join()

    return multiply


def of_numpy(arrays: list[np.ndarray], out: np.ndarray, name: str, calls: int, threads: int) -> Callable[[], None]:
    x, W, dy = arrays
    a, b = {"dense_forward": (x, W), "dense_backward_weights": (x.T, dy), "dense_backward_input": (dy, W.T)}[name]

    def multiply() -> None:
        for _ in range(calls):
            np.matmul(a, b, out=out)

    return multiply


def of_torch(arrays: list[np.ndarray], out: np.ndarray, name: str, calls: int, threads: int) -> Callable[[], None]:
    import torch

    torch.set_num_threads(threads)
    x, W, dy = map(torch.from_numpy, arrays)
    a, b = {"dense_forward": (x, W), "dense_backward_weights": (x.T, dy), "dense_backward_input": (dy, W.T)}[name]
    c = torch.from_numpy(out)

    def multiply() -> None:
        for _ in range(calls):
            torch.mm(a, b, out=c)

    return multiply


def of_onednn(arrays: list[np.ndarray], out: np.ndarray, name: str, calls: int, threads: int) -> Callable[[], None]:
    """``dnnl_sgemm``, oneDNN's own C function for row-major matrices (dnnl.h); it has none for float64."""
    size, real = ctypes.c_int64, ctypes.c_float
    sgemm = ctypes.CDLL(str(ONEDNN)).dnnl_sgemm
    sgemm.argtypes = [ctypes.c_char] * 2 + [size] * 3 + [real, ctypes.c_void_p, size, ctypes.c_void_p, size, real]
    sgemm.argtypes += [ctypes.c_void_p, size]
    x, W, dy = arrays
    transposes, a, b, depth = {
        "dense_forward": ("NN", x, W, x.shape[1]),
        "dense_backward_weights": ("TN", x, dy, x.shape[0]),
        "dense_backward_input": ("NT", dy, W, dy.shape[1]),
    }[name]
    matrices = [(array.ctypes.data, array.shape[1]) for array in (a, b, out)]
    letters = [letter.encode() for letter in transposes]

    def multiply() -> None:
        for _ in range(calls):
            if sgemm(*letters, *out.shape, depth, 1.0, *matrices[0], *matrices[1], 0.0, *matrices[2]) != 0:
                raise RuntimeError("dnnl_sgemm failed")

    return multiply


LIBRARIES: dict[str, Any] = {"fastnn": of_fastnn, "OpenBLAS": of_numpy, "MKL": of_torch, "oneDNN": of_onednn}

#: Where pip puts oneDNN's library, beside those that it needs.
ONEDNN = pathlib.Path(sys.prefix) / "lib" / "libdnnl.so"


def speeds(library: str, threads: int) -> dict[str, float]:
    """Product -> 10^9 operations a second, in this process."""
    found = {}
    for dtype in DTYPES if library != "oneDNN" else DTYPES[:1]:
        for shape in SHAPES:
            rows, inputs, units = shape
            arrays = [aligned(*pair, dtype=dtype) for pair in ((rows, inputs), (inputs, units), (rows, units))]
            x, W, dy = (array.astype(np.float64) for array in arrays)
            right = dict(zip(PRODUCTS, (x @ W, x.T @ dy, dy @ W.T), strict=True))
            for name in PRODUCTS:
                flops = 2 * math.prod(shape)
                calls = max(1, int(1e9 / flops))  # milliseconds: the system needs some to start a thread
                out = aligned(*right[name].shape, dtype=dtype)
                run = LIBRARIES[library](arrays, out, name, calls, threads)
                run()
                if not np.allclose(out, right[name], rtol=1e-3, atol=1e-2):
                    raise RuntimeError(f"{library} computes something else: {name} {shape} {dtype}")
                best = math.inf
                for _ in range(3 if flops > 1e9 else 5):
                    started = time.perf_counter()
                    run()
                    best = min(best, (time.perf_counter() - started) / calls)
                found[f"{name} {'-'.join(map(str, shape))} {dtype}"] = 1e-9 * flops / best
    return found


def measured(label: str, library: str, coretype: str, threads: int, avx2: bool) -> dict[str, float]:
    """The speeds of a library in a process of its own."""
    environment = os.environ | {name: str(threads) for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")}
    environment |= ONLY_AVX2 if avx2 else {}
    environment |= {"OPENBLAS_CORETYPE": coretype} if coretype else {}
    environment |= {"LD_LIBRARY_PATH": str(ONEDNN.parent)} if library == "oneDNN" else {}
    command = [sys.executable, "-m", "asv_bench.products", "--child", library, "--threads", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise RuntimeError(f"{label} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", nargs="+", type=int, default=sorted({1, cores()}))
    parser.add_argument("--coretypes", nargs="+", default=["SkylakeX", "Zen"], help="what OpenBLAS is told, too")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--avx2", action="store_true", help="no vectors longer than 32 bytes, in any library")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("asv_bench/comparison"))
    parser.add_argument("--child", choices=list(LIBRARIES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads[0]])
        print(json.dumps(speeds(options.child, options.threads[0])))
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
        found: dict[str, dict[str, float]] = {label: {} for label in labels}
        for _ in range(options.rounds):
            for label, (library, coretype) in labels.items():
                for product, speed in measured(label, library, coretype, threads, options.avx2).items():
                    found[label][product] = max(speed, found[label].get(product, 0.0))
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
