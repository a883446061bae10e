"""Matrix products of n x n numbers on a GPU, fastnn's and cuBLAS's (through PyTorch), timed by CUDA events.

Both are captured as CUDA graphs, because a launch from Python takes longer than a small product.

python -m asv_bench.peers.gemm_on_gpu 1024 4096

It prints a line of JSON for each size and precision: TFLOP/s of both, or of fastnn alone where there is no PyTorch for
CUDA, and the largest error relative to float64.
"""

import importlib.util
import json
import sys

import numpy as np

PRECISIONS = ("float32", "tf32", "bf16")

#: Products in one timing, which are one graph of ``engine.Replay``; timings; rows whose error is looked at.
CALLS, TIMINGS, ROWS = 64, 7, 8


def of_fastnn(n, precision, a, b):
    """(a function that multiplies ``CALLS`` times, one that gives the product, start and stop of a clock in ms)."""
    from numba import cuda

    from fastnn.kernels.cuda.dense import dense_forward
    from fastnn.kernels.cuda.engine import Replay
    from fastnn.kernels.cuda.launch import Stream

    stream = Stream(cuda.stream(), precision)
    x, W, y = cuda.to_device(a), cuda.to_device(b), cuda.device_array((n, n), np.float32)
    none = cuda.device_array(1, np.float32)[:0]
    start, stop = cuda.event(), cuda.event()
    replay = Replay(lambda where: dense_forward(y, x, W, none, where), stream)
    replay.run(1 + CALLS)

    def clock():
        stop.synchronize()
        return cuda.event_elapsed_time(start, stop)

    return (
        lambda: replay.run(CALLS),
        y.copy_to_host,
        lambda: start.record(stream.handle),
        lambda: stop.record(stream.handle),
        clock,
    )


def of_torch(n, precision, a, b):
    import torch

    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    x, W = (torch.from_numpy(array).cuda().to(kind) for array in (a, b))
    y = torch.empty((n, n), device="cuda", dtype=kind)
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # warm up, as its documentation says
        torch.matmul(x, W, out=y)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(CALLS):
            torch.matmul(x, W, out=y)

    def clock():
        stop.synchronize()
        return start.elapsed_time(stop)

    return graph.replay, lambda: y.float().cpu().numpy(), start.record, stop.record, clock


def measure(make, n, precision, a, b):
    multiply, product, start, stop, clock = make(n, precision, a, b)
    multiply()
    exact = np.float64(a[:ROWS]) @ np.float64(b)
    error = float(np.abs(product()[:ROWS] - exact).max() / np.abs(exact).max())
    milliseconds = []
    for _ in range(TIMINGS):
        start()
        multiply()
        stop()
        milliseconds.append(clock() / CALLS)
    return {"tflops": 2e-9 * n**3 / sorted(milliseconds)[TIMINGS // 2], "error": error}


def has_torch():
    """Whether there is a PyTorch that sees the GPU."""
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()


def main():
    generator = np.random.default_rng(0)
    beside = has_torch()
    for n in map(int, sys.argv[1:]):
        a, b = (generator.standard_normal((n, n)).astype(np.float32) for _ in range(2))
        for precision in PRECISIONS:
            own = measure(of_fastnn, n, precision, a, b)
            other = measure(of_torch, n, precision, a, b) if beside else None
            print(json.dumps({"n": n, "precision": precision, "fastnn": own, "cublas": other}), flush=True)


if __name__ == "__main__":
    main()
