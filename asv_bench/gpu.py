"""Everything that needs a GPU, in one command: the tests marked ``gpu``, and fastnn beside its peers.

python -m asv_bench.gpu [--minutes 8] [--no-tests] [--output docs/explanation/gpu_results.md]

It needs a GPU, the extra ``cuda12`` or ``cuda13``, and for the peers PyTorch and JAX for CUDA (what is missing is
left out). The page that it writes names the GPU and is ready to be committed.

A step's time is that of whole epochs, from the call until the losses are on the host; matrix products are timed by CUDA
events. All peers start from the same weights and get the same rows: a time counts only if the losses of three epochs
agree. Each peer runs in a process of its own.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from asv_bench.benchmarks.workloads import ON_GPU
from asv_bench.compare import alike, installed, version

ROOT = pathlib.Path(__file__).parents[1]

#: (workload, precision) of a table's line.
STEPS = [("tiny", "float32"), ("digits", "float32"), ("mnist", "float32"), ("wide", "float32"), ("wide", "tf32")]
STEPS += [("huge", "float32"), ("huge", "tf32")]

#: Name -> (the distribution that it needs, its module).
PEERS = {
    "fastnn": ("numba-cuda", "with_fastnn_on_gpu"),
    "torch, CUDA graph": ("torch", "with_torch_graph"),
    "torch, eager": ("torch", "with_torch_on_gpu"),
    "torch.compile": ("torch", "with_torch_compiled_on_gpu"),
    "jax": ("optax", "with_jax"),
}

#: How far losses may be from fastnn's: relative, more where factors are rounded to 10 bits.
TOLERANCES = {"float32": 0.01, "tf32": 0.03}

#: What a whole fit of the digits takes in a new process whose kernels are on disk.
FIRST_FIT = """
import time
started = time.perf_counter()
import fastnn as fn
X, y = fn.datasets.digits()
model = fn.Model([fn.Input(64), fn.Dense(64, "relu"), fn.Dense(10, "softmax")], seed=0)
model.compile("adam", "cross_entropy", device="cuda")
model.fit(X, y, epochs=50, verbose=0)
print(time.perf_counter() - started)
"""


def run(command: list[str], deadline: float, **environment: str) -> tuple[list[str], str]:
    """(the lines that a command prints until the deadline, why it failed or "")."""
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False,
            timeout=max(1.0, deadline - time.monotonic()),
        )  # fmt: skip
    except subprocess.TimeoutExpired as late:
        shown = late.stdout or ""
        shown = shown.decode(errors="replace") if isinstance(shown, bytes) else shown
        return shown.strip().splitlines(), "no time left"
    why = (done.stderr.strip() or done.stdout.strip() or "failed").splitlines()[-1][:200]
    return done.stdout.strip().splitlines(), "" if done.returncode == 0 else why


def first_fit(deadline: float) -> str:
    """How long a whole fit takes in a new process: the second one, for which the first one leaves its kernels."""
    for _ in range(2):
        lines, why = run([sys.executable, "-c", FIRST_FIT], deadline)
    what = "A whole fit of the digits, 50 epochs, in a new process with a warm cache"
    return f"{what} failed: {why}." if why else f"{what}: {float(lines[-1]):.2f} s."


def measure(peer: str, workload: str, precision: str, deadline: float) -> dict | str:
    """What ``peers.process`` prints, or why there is nothing."""
    distribution, module = PEERS[peer]
    if not installed(distribution):
        return "not installed"
    if peer == "jax":
        environment = {"JAX_DEFAULT_MATMUL_PRECISION": "tensorfloat32" if precision == "tf32" else "highest"}
    else:
        environment = {"PRECISION": precision}
    command = [sys.executable, "-m", "asv_bench.peers.process", module, "step", workload, "4", "5"]
    lines, why = run(command, deadline, **environment)
    if why:
        return why
    found: dict = json.loads(lines[-1])
    return found


def steps_table(deadline: float) -> list[str]:
    """A line for each workload and precision: µs a step, and in brackets how many times as long as fastnn."""
    lines = ["| network, batch, precision | " + " | ".join(PEERS) + " |", "|---|" + "---|" * len(PEERS)]
    for workload, precision in STEPS:
        work, cells, own = ON_GPU[workload], [], None
        for peer in PEERS:
            found = measure(peer, workload, precision, deadline)
            if isinstance(found, str):
                cells.append(found)
                continue
            microseconds = 1e6 * statistics.median(found["seconds"])
            own = own or (microseconds, found["result"])
            agrees = alike(found["result"], own[1], TOLERANCES[precision])
            ratio = "" if peer == "fastnn" else f" ({microseconds / own[0]:.3g})" if agrees else " (losses differ)"
            cells.append(f"{microseconds:.3g}{ratio}")
        name = f"{'-'.join(map(str, work.sizes))}, {work.batch_size}, {precision}"
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    return lines


def gemm_table(deadline: float) -> list[str]:
    """TFLOP/s of fastnn's products and cuBLAS's."""
    lines = ["| n, precision | fastnn | cuBLAS | ratio | error, fastnn | error, cuBLAS |", "|---|---|---|---|---|---|"]
    command = [sys.executable, "-m", "asv_bench.peers.gemm_on_gpu", "512", "1024", "2048", "4096"]
    printed, why = run(command, deadline)
    for line in map(json.loads, printed):  # one a line, so that those count that were done in time
        own, other = line["fastnn"], line["cublas"]
        theirs = f"{other['tflops']:.3g} | {own['tflops'] / other['tflops']:.2f}" if other else "not installed |"
        error = f"{other['error']:.1e}" if other else ""
        lines.append(
            f"| {line['n']}, {line['precision']} | {own['tflops']:.3g} | {theirs} | {own['error']:.1e} | {error} |"
        )
        print(lines[-1], flush=True)
    return [*lines, "", f"Not all products were timed: {why}"] if why else lines


def tests(deadline: float) -> list[str]:
    """The output of the tests marked ``gpu``, and of a few under compute-sanitizer where that is installed."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests", "-p", "no:cacheprovider"]
    lines, why = run(command, deadline)
    found = ["```text", "$ python -m pytest -m gpu tests", *lines[-25:], *([why] if why == "no time left" else [])]
    sanitizer = shutil.which("compute-sanitizer")
    for tool in ("memcheck", "racecheck") if sanitizer else ():
        some = ["tests/test_gpu.py", "-k", "digits_on_a_gpu and narrow"]
        lines, why = run([str(sanitizer), "--tool", tool, *command, *some], deadline)
        found += [f"$ compute-sanitizer --tool {tool} ...", *lines[-3:], *([why] if why == "no time left" else [])]
    return [*found, "```"]


def description() -> list[str]:
    """The GPU, the driver, the versions, the date."""
    from numba import cuda
    from numba.cuda.cudadrv.driver import driver

    device = cuda.get_current_device()
    name = device.name.decode() if isinstance(device.name, bytes) else device.name
    capability = ".".join(map(str, device.compute_capability))
    names = ["fastnn", "numba", "numba-cuda", "torch", "jax"]
    versions = ", ".join(f"{name} {version(name)}" for name in names if installed(name))
    return [
        f"- GPU: {name}, compute capability {capability}, CUDA {'.'.join(map(str, driver.get_version()))}",
        f"- versions: {versions}",
        f"- date: {datetime.date.today().isoformat()}",
        f"- command: `python -m asv_bench.gpu {' '.join(sys.argv[1:])}`",
    ]


def main() -> int:
    from fastnn import dispatch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0, help="what all may take (%(default)s)")
    parser.add_argument("--no-tests", action="store_true", help="leave the tests out")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "docs" / "explanation" / "gpu_results.md")
    options = parser.parse_args()
    missing = "NUMBA_ENABLE_CUDASIM is set" if dispatch.simulated() else dispatch.missing_for_gpu()
    if missing:
        print(f"asv_bench.gpu needs a GPU, but {missing}", file=sys.stderr)
        return 2
    deadline = time.monotonic() + 60 * options.minutes
    sections: list[Callable[[], list[str]]] = [
        lambda: ["---", "orphan: true", "---", "", "# On a GPU", "", *description(), "", first_fit(deadline), ""],
        lambda: ["## Training steps", "", "Microseconds; in brackets how many times as long as fastnn.", ""],
        lambda: [*steps_table(deadline), "", "## Matrix products", "", "TFLOP/s, and the largest error.", ""],
        lambda: [*gemm_table(deadline), ""],
    ]
    if not options.no_tests:
        sections.append(lambda: ["## Tests", "", *tests(deadline), ""])
    page: list[str] = []
    for section in sections:  # written as it grows: a machine may be taken away before the end
        page += section()
        options.output.write_text("\n".join(page), encoding="utf-8")
    print(f"written: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
