"""What the cores can do at most: fused multiply-adds that stay in registers, in one thread and in several.

No load, no store, no barrier: what several threads gain here is what the machine gives to anyone.
"""

from __future__ import annotations

import statistics
import threading
import time

from llvmlite import binding, ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16 if binding.get_host_cpu_features().get("avx512f") else 8
"""Floats in a vector."""

CHAINS = 12
"""Independent sums: enough to hide the latency, few enough for AVX2's 16 registers."""

UNROLL = 4

FLOPS_PER_ROUND = 2 * LANES * CHAINS * UNROLL


@intrinsic
def _chains(typing_context, rounds):
    """Run all chains for so many rounds; the sum of the results keeps LLVM from removing them."""

    def generate(context, builder, signature, arguments):
        count = arguments[0].type
        vector = ir.VectorType(ir.FloatType(), LANES)
        name = f"llvm.fma.v{LANES}f32"
        fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 3), name)
        before = builder.block
        body, after = builder.append_basic_block("chains"), builder.append_basic_block("chains.end")
        builder.branch(body)

        builder.position_at_end(body)
        done = builder.phi(count)
        done.add_incoming(count(0), before)
        carried = [builder.phi(vector) for _ in range(CHAINS)]
        # x -> a x + b with a below 1 stays near its fixed point: no overflow, no subnormal numbers.
        a, b = (ir.Constant(vector, [value] * LANES) for value in (0.5, 1.0))
        current = list(carried)
        for _ in range(UNROLL):
            current = [builder.call(fma, [value, a, b]) for value in current]
        for index, (phi, value) in enumerate(zip(carried, current, strict=True)):
            phi.add_incoming(ir.Constant(vector, [float(index + 1)] * LANES), before)
            phi.add_incoming(value, body)
        following = builder.add(done, count(1))
        done.add_incoming(following, body)
        builder.cbranch(builder.icmp_signed("<", following, arguments[0]), body, after)

        builder.position_at_end(after)
        total = current[0]
        for value in current[1:]:
            total = builder.fadd(total, value)
        return builder.extract_element(total, ir.IntType(32)(0))

    return types.float32(types.intp), generate


@njit(nogil=True)
def spin(rounds):
    return _chains(rounds)


def measure(threads: int, rounds: int = 40_000_000) -> tuple[float, float]:
    """10^9 operations a second of all threads together, and the share of so many cores that this process got.

    The default takes about a quarter of a second: in a hundredth, the system may not yet have moved the second
    thread to another core, and both run one after the other. The workers read the clock themselves, because the
    main thread may be woken late.
    """
    ready = threading.Barrier(threads)
    times: list[tuple[float, float]] = []

    def work() -> None:
        ready.wait()
        started = time.perf_counter()
        spin(rounds)
        times.append((started, time.perf_counter()))

    workers = [threading.Thread(target=work) for _ in range(threads)]
    used = time.process_time()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    used = time.process_time() - used
    wall = max(ended for _, ended in times) - min(started for started, _ in times)
    return threads * rounds * FLOPS_PER_ROUND / wall / 1e9, used / (threads * wall)


def main() -> None:
    spin(1)
    found = [[measure(threads) for threads in (1, 2)] for _ in range(9)]
    for threads, runs in zip((1, 2), zip(*found, strict=True), strict=True):
        speeds, shares = zip(*runs, strict=True)
        print(
            f"{threads} thread(s): median {statistics.median(speeds):7.1f}, most {max(speeds):7.1f} GFLOP/s (float32), "
            f"with {min(shares):.0%} to {max(shares):.0%} of its cores"
        )


if __name__ == "__main__":
    main()
