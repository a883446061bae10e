"""Where a training step's time goes: each operation of the plan by itself, in the step's own memory, one worker.

python -m asv_bench.phases [--workloads mnist wide] [--milliseconds 50]

Every function that the engine would call is called many times in a row at the step's shapes, beside a loop of
multiply-adds that stays in registers. The sum may be below the step's time: here each function finds its own data in
the cache. It may also be above it, as of narrow, whose blocks take turns in the same memory in a step, and here do not.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from asv_bench import fma_peak
from asv_bench.benchmarks import models
from asv_bench.benchmarks.workloads import WORKLOADS, Workload, data
from fastnn.kernels import jit, layout
from fastnn.kernels.conventions import Data
from fastnn.kernels.memory import call


@jit.kernel
def calls(function, run, record, first, last, size, times):
    """So many calls of a plan's function, each on ``size`` rows or elements after the other."""
    status = 0
    for _ in range(times):
        for start in range(first, last, size):
            status = call(function, run, record, start, min(start + size, last))
    return status


@jit.kernel
def chunks(gradient, update, run, operation, parameter, rows, columns, size, room, item, times):
    """So many times the gradient and the update of a parameter, chunk by chunk, as the engine does it."""
    status = 0
    record, address = layout.run_record(run), layout.parameter_record(parameter)
    arena = record[layout.GRADIENTS]
    for _ in range(times):
        record[layout.DY_IN_PIECES] = 0
        for start in range(0, rows, size):
            end = min(start + size, rows)
            record[layout.GRADIENTS] = room - item * (address[layout.OFFSET] + start * columns)
            status = call(gradient, run, operation, start, end)
            if update != 0:
                status = call(update, run, parameter, start * columns, end * columns)
            record[layout.GRADIENTS] = arena
    return status


def shortest(function: Callable[..., Any], *arguments: Any, milliseconds: float) -> float:
    """Seconds of one time, the shortest of many timings of 0.3 milliseconds or more: what others take from the
    machine is not of interest here.
    """
    function(*arguments, 1)
    started = time.perf_counter()
    function(*arguments, 2)
    times = max(1, int(3e-4 / max(1e-7, (time.perf_counter() - started) / 2)))
    found: list[float] = []
    end = time.perf_counter() + 1e-3 * milliseconds
    while len(found) < 5 or time.perf_counter() < end:
        started = time.perf_counter()
        function(*arguments, times)
        found.append((time.perf_counter() - started) / times)
    return min(found)


def phases(work: Workload, milliseconds: float) -> list[tuple[str, float, int]]:
    """(name, seconds, floating-point operations of products) of each part of a step."""
    model = models.compiled_network(work, threads=1)
    fit = models.trainer(model, work, 1)
    fit()
    runner = model._runners["training"]
    plan = runner.plan
    inputs, targets = data(work)
    kept = Data(inputs, np.ascontiguousarray(targets.reshape(work.rows, -1).astype(work.dtype)))
    order = np.random.default_rng(0).permutation(work.rows)
    runner._reserve(work.batch_size, 1, 0, work.batch_size)  # for all rows at once, where a fit has room for a block
    runner._make_records("operations", kept, None, gathered=True)
    runner._point(runner.run, kept, None)
    run, program = runner.run, runner.program
    rate = np.zeros(1)
    run[layout.STEP], run[layout.SUMMED_ROWS] = 1, work.batch_size
    run[layout.BATCH_ROWS], run[layout.ORDER], run[layout.RATE] = work.batch_size, order.ctypes.data, rate.ctypes.data
    at, rows = run.ctypes.data, work.batch_size
    found = []

    def time_calls(name: str, function: int, record: int, flops: int = 0) -> None:
        arguments = (function, at, record, 0, rows, plan.block)
        found.append((name, shortest(calls, *arguments, milliseconds=milliseconds), flops))

    operations = runner.tables["operations"]
    if work.shuffled:
        time_calls("gather", program[layout.GATHER], program[layout.GATHER_OPERATION])
    for index, operation in enumerate(plan.operations):
        record = operations[index]
        name = f"{operation.formula or operation.kind} {operation.inputs}-{operation.outputs}"
        flops = 2 * rows * operation.inputs * operation.outputs if operation.kind == "dense" else 0
        if record[layout.FORWARD] != 0:
            time_calls(f"{name} forward", record[layout.FORWARD], record.ctypes.data, flops)
        if operation.dx >= 0:
            time_calls(f"{name} backward", record[layout.BACKWARD], record.ctypes.data, flops)
    loss = runner.tables["loss"][0]
    time_calls("loss", loss[layout.FORWARD], loss.ctypes.data)
    item = inputs.itemsize
    for index, parameter in enumerate(plan.parameters):
        record = runner.parameters[index]
        at_parameter = record.ctypes.data
        length, columns = int(record[layout.LENGTH]), int(record[layout.COLUMNS])
        operation = operations[parameter.operation].ctypes.data
        size = layout.update_rows(length, columns, int(operations[parameter.operation, layout.DW_OF_PIECES]))
        flops = 2 * rows * length * columns if columns > 1 else 0
        for update, name in ((0, "gradient"), (int(record[layout.UPDATE]), "gradient and update")):
            arguments = (int(record[layout.GRADIENT]), update, at, operation, at_parameter, length, columns, size)
            seconds = shortest(chunks, *arguments, int(run[layout.GRADIENT_ROOM]), item, milliseconds=milliseconds)
            shape = "-".join(map(str, parameter.shape))
            found.append((f"{parameter.role} {shape} {name}", seconds, flops if update == 0 else 0))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", nargs="+", choices=list(WORKLOADS), default=list(WORKLOADS))
    parser.add_argument("--milliseconds", type=float, default=50)
    options = parser.parse_args()
    fma_peak.spin(1)
    for name in options.workloads:
        work = WORKLOADS[name]
        peak = max(fma_peak.measure(1, 10_000_000)[0] for _ in range(5)) / (1 if work.dtype == "float32" else 2)
        print(f"\n{name} {'-'.join(map(str, work.sizes))}, batch {work.batch_size}; peak {peak:.0f} GFLOP/s")
        for phase, seconds, flops in phases(work, options.milliseconds):
            speed = 1e-9 * flops / seconds
            share = f"{speed:10.1f} GFLOP/s{speed / peak:7.0%} of the peak" if flops else ""
            print(f"{phase:42}{1e6 * seconds:12.2f} µs{share}")


if __name__ == "__main__":
    main()
