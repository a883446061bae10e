"""Everything that needs a GPU, in one command: the tests marked ``gpu``, and fastnn beside its peers.

python -m asv_bench.gpu [--minutes 8] [--sections compilation fit steps products tests] [--output PAGE]

It needs a GPU, the extra ``cuda12`` or ``cuda13``, and for the peers PyTorch and JAX for CUDA (what is missing is
left out). The page that it writes names the GPU and is ready to be committed.

A step's time is that of whole epochs, from the call until the losses are on the host; matrix products are timed by CUDA
events. All peers start from the same weights and get the same rows: a time counts only if the losses of three epochs
agree. Each peer runs in a process of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import itertools
import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import IO, NamedTuple

from asv_bench.benchmarks.workloads import ON_GPU
from asv_bench.compare import alike, installed, version
from fastnn.kernels.cores import cores

ROOT = pathlib.Path(__file__).parents[1]

#: What a section yields: all its lines so far, as often as there are more.
Lines = Iterator[list[str]]

#: Seconds that a peer may take for one line of the table.
LONGEST = 90.0

#: Seconds that a process has to end when it is asked to.
ASKED = 15.0

#: (workload, precision) of a table's line.
STEPS = [("tiny", "float32"), ("digits", "float32"), ("mnist", "float32"), ("wide", "float32"), ("wide", "tf32")]
STEPS += [("huge", "float32"), ("huge", "tf32")]

#: Name -> (the distribution that it needs, its module).
PEERS = {
    "fastnn": ("numba-cuda", "with_fastnn_on_gpu"),
    "torch, CUDA graph": ("torch", "with_torch_graph"),
    "jax": ("optax", "with_jax"),
    "torch, eager": ("torch", "with_torch_on_gpu"),
    "torch.compile": ("torch", "with_torch_compiled_on_gpu"),
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
    """(the lines that a command prints until the deadline, why it failed or ""); if it fails, stderr gets all.

    It and the processes that it started are ended at the deadline. They write to files: one that cannot be ended would
    keep a pipe open.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | {"PYTHONUNBUFFERED": "1"} | environment, stdin=subprocess.DEVNULL,
            stdout=out, stderr=err, start_new_session=True,
        )  # fmt: skip
        try:
            process.wait(max(1.0, deadline - time.monotonic()))
            late = False
        except subprocess.TimeoutExpired:
            late = True
        finally:
            end(process)
        shown, said = (lines_of(file) for file in (out, err))
    if late or process.returncode != 0:
        print(f"$ {' '.join(command)}", *shown[-500:], *said[-500:], sep="\n", file=sys.stderr, flush=True)
    named = [line for line in said if re.match(r"[\w.]+(Error|Exception): ", line)]
    why = (named or said or shown or [f"exit status {process.returncode}"])[-1][:200]
    return shown, "no time left" if late else "" if process.returncode == 0 else why


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and those that it started; one that still runs is asked first: pytest then says what it found."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        if process.poll() is None and os.name == "posix":
            process.send_signal(signal.SIGINT)
            process.wait(ASKED)
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):  # one that waits in the driver for ever
        process.wait(10)


def lines_of(file: IO[bytes]) -> list[str]:
    file.seek(0)
    return file.read().decode(errors="replace").strip().splitlines()


def records(lines: list[str]) -> list[dict]:
    """The lines of JSON among those that a process printed; it may have been ended in the middle of one."""
    found = []
    for line in lines:
        with contextlib.suppress(json.JSONDecodeError):
            found.append(json.loads(line))
    return [record for record in found if isinstance(record, dict)]


def first_fit(deadline: float) -> Lines:
    """How long a whole fit takes in a new process: the second one, for which the first one leaves its kernels."""
    what = "A whole fit of the digits, 50 epochs, in a new process with a warm cache"
    for _ in range(2):
        lines, why = run([sys.executable, "-c", FIRST_FIT], deadline)
        if why:
            break
    yield [f"{what} failed: {why}." if why else f"{what}: {float(lines[-1]):.2f} s."]


def measure(
    peer: str, workload: str, precision: str, deadline: float, task: str = "step", threads: int = 4
) -> dict | str:
    """What ``peers.process`` prints, or why there is nothing."""
    distribution, module = PEERS[peer]
    if not installed(distribution):
        return "not installed"
    if time.monotonic() >= deadline:
        return "no time left"
    matrix_products = "tensorfloat32" if precision == "tf32" else "highest"
    environment = {"PRECISION": precision, "JAX_DEFAULT_MATMUL_PRECISION": matrix_products, "JAX_PLATFORMS": "cuda"}
    command = [sys.executable, "-m", "asv_bench.peers.process", module, task, workload, str(threads), "3"]
    lines, why = run(command, min(deadline, time.monotonic() + LONGEST), **environment)
    if why == "no time left" and time.monotonic() < deadline:
        return f"not done in {LONGEST:.0f} s"
    found = records(lines)
    return found[-1] if found else why or "it printed no times"  # which count also where it fails at its exit


def compilation(deadline: float) -> Lines:
    """The first epoch of each workload, all at once: what is timed afterwards finds its kernels on disk."""

    def first(line: tuple[str, str]) -> dict | str:
        return measure("fastnn", *line, deadline, task="first", threads=cores())

    with ThreadPoolExecutor(len(STEPS)) as pool:
        found = list(pool.map(first, STEPS))
    shown = [f"{one['seconds'][0]:.1f} s" if isinstance(one, dict) else one for one in found]
    names = [", ".join(line) for line in STEPS]
    yield [
        f"Seconds of a first epoch with {cores()} cores, while the others compile too: "
        + "; ".join(f"{name}: {time}" for name, time in zip(names, shown, strict=True))
        + "."
    ]


def steps(deadline: float) -> Lines:
    """A line for each workload and precision: µs a step, and in brackets how many times as long as fastnn.

    One peer after the other, so that the slowest is the one for which no time may be left.
    """
    cells = {(line, peer): "" for line in STEPS for peer in PEERS}
    own: dict[tuple[str, str], tuple[float, list[float]]] = {}
    faults: list[str] = []
    for peer, line in itertools.product(PEERS, STEPS):
        found = measure(peer, *line, deadline)
        if isinstance(found, str):
            known = found in ("not installed", "no time left")
            cells[line, peer] = found if known else "failed"
            faults += [] if known else [f"- {peer}, {', '.join(line)}: `{found}`"]
        else:
            microseconds, losses = 1e6 * statistics.median(found["seconds"]), found["result"]
            if peer == "fastnn":
                own[line] = microseconds, losses
            mine, tolerance = own.get(line), TOLERANCES[line[1]]
            ratio = f" ({microseconds / mine[0]:.3g})" if mine and peer != "fastnn" else ""
            if mine and not alike(losses, mine[1], tolerance):
                ratio = " (losses differ)"
            if not alike(losses, losses, tolerance):
                ratio = " (losses not finite)"
            cells[line, peer] = (f"{microseconds:.3g}" if microseconds < 1000 else f"{microseconds:,.0f}") + ratio
        print(f"{peer}, {', '.join(line)}: {cells[line, peer]}", flush=True)
        table = ["| network, batch, precision | " + " | ".join(PEERS) + " |", "|---|" + "---|" * len(PEERS)]
        for workload, precision in STEPS:
            work = ON_GPU[workload]
            name = f"{'-'.join(map(str, work.sizes))}, {work.batch_size}, {precision}"
            table.append(f"| {name} | " + " | ".join(cells[(workload, precision), peer] for peer in PEERS) + " |")
        yield ["Microseconds; in brackets how many times as long as fastnn.", "", *table, "", *faults]


def products(deadline: float) -> Lines:
    """TFLOP/s of fastnn's products and cuBLAS's."""
    lines = ["TFLOP/s, and the largest error.", ""]
    lines += ["| n, precision | fastnn | cuBLAS | ratio | error, fastnn | error, cuBLAS |", "|---|---|---|---|---|---|"]
    command = [sys.executable, "-m", "asv_bench.peers.gemm_on_gpu", "512", "1024", "2048", "4096"]
    printed, why = run(command, deadline)
    for record in records(printed):  # one a line, so that those count that were done in time
        own, other = record["fastnn"], record["cublas"]
        theirs = f"{other['tflops']:.3g} | {own['tflops'] / other['tflops']:.2f}" if other else "not installed |"
        error = f"{other['error']:.1e}" if other else ""
        lines.append(
            f"| {record['n']}, {record['precision']} | {own['tflops']:.3g} | {theirs} | {own['error']:.1e} | {error} |"
        )
        print(lines[-1], flush=True)
    yield [*lines, "", f"Not all products were timed: `{why}`"] if why else lines


def test_commands() -> list[list[str]]:
    """What runs the tests that need a GPU, and those that a GPU runs as well as the simulator.

    Those that look at the GPU's memory run alone; the others in several processes, where pytest-xdist is installed,
    because compiling takes the most time. What takes no GPU but minutes is left out.
    """
    command = ["python", "-m", "pytest", "-p", "no:cacheprovider", "-v", "--tb=short", "-W", "default"]
    together = ["-n", str(min(16, cores()))] if installed("pytest-xdist") else []
    memory = "tests/kernels/cuda/test_runs.py::test_memory_does_not_grow"
    left_out = ["-k", "not sanitizer", f"--deselect={memory}", "--ignore=tests/kernels/cuda/test_ptx.py"]
    commands = [
        [*command, "-m", "gpu", memory, "tests/test_gpu.py"],
        [*command, *together, "-m", "not gpu", "tests/test_gpu.py"],
        [*command, *together, *left_out, "tests/kernels/cuda"],
    ]
    for tool in ("memcheck", "racecheck") if shutil.which("compute-sanitizer") else ():
        one = ["-m", "gpu", "tests/test_gpu.py", "-k", "digits_on_a_gpu and narrow"]
        commands.append(["compute-sanitizer", "--tool", tool, *command, *one])
    return commands


def tests(deadline: float) -> Lines:
    """The end of what the tests on a GPU print, and a few under compute-sanitizer where that is installed."""
    found: list[str] = []
    for command in test_commands():
        lines, why = run([sys.executable if part == "python" else part for part in command], deadline)
        found += [f"$ {' '.join(command)}", *lines[-25:], *([why] if why == "no time left" or not lines else []), ""]
        yield ["```text", *found[:-1], "```"]


def description(deadline: float) -> Lines:
    """The GPU, the driver, the versions, the date."""
    from numba import cuda
    from numba.cuda.cudadrv.driver import driver

    device = cuda.gpus[0]
    name = device.name.decode() if isinstance(device.name, bytes) else device.name
    capability = ".".join(map(str, device.compute_capability))
    names = ["fastnn", "numba", "numba-cuda", "torch", "jax"]
    versions = ", ".join(f"{name} {version(name)}" for name in names if installed(name))
    yield [
        f"- GPU: {name}, compute capability {capability}, CUDA {'.'.join(map(str, driver.get_version()))}",
        f"- versions: {versions}",
        f"- date: {datetime.date.today().isoformat()}",
        "- command: `python -m asv_bench.gpu`",
    ]


class Section(NamedTuple):
    """A part of the page.

    share : of the time; lines : its lines as far as they are known, each time that there are more, until the deadline.
    """

    title: str
    share: int
    lines: Callable[[float], Lines]


SECTIONS = {
    "machine": Section("# On a GPU", 1, description),
    "compilation": Section("## Compilation", 2, compilation),
    "fit": Section("## A first fit", 1, first_fit),
    "steps": Section("## Training steps", 8, steps),
    "products": Section("## Matrix products", 2, products),
    "tests": Section("## Tests", 8, tests),
}


def write(sections: list[Section], stop: float, output: pathlib.Path) -> bool:
    """Write the page, and say whether no section broke off.

    It is written anew with every line: a machine may be taken away before the end.
    """
    page, whole = ["---", "orphan: true", "---", ""], True
    for number, section in enumerate(sections):
        left = stop - time.monotonic()
        deadline = time.monotonic() + left * section.share / sum(other.share for other in sections[number:])
        lines: list[str] = []
        try:
            for lines in section.lines(deadline):
                output.write_text("\n".join([*page, section.title, "", *lines, ""]), encoding="utf-8")
        except Exception as fault:
            traceback.print_exc()
            lines, whole = [*lines, "", f"Broken off: `{fault!r}`"], False
        page += [section.title, "", *lines, ""]
        output.write_text("\n".join(page), encoding="utf-8")
    return whole


def main() -> int:
    from fastnn import dispatch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0, help="what all may take (%(default)s)")
    parser.add_argument("--sections", nargs="+", choices=list(SECTIONS), default=list(SECTIONS), metavar="SECTION")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "docs" / "explanation" / "gpu_results.md")
    options = parser.parse_args()
    missing = "NUMBA_ENABLE_CUDASIM is set" if dispatch.simulated() else dispatch.missing_for_gpu()
    if missing:
        print(f"asv_bench.gpu needs a GPU, but {missing}", file=sys.stderr)
        return 2
    options.output.parent.mkdir(parents=True, exist_ok=True)
    chosen = [section for name, section in SECTIONS.items() if name in ("machine", *options.sections)]
    whole = write(chosen, time.monotonic() + 60 * options.minutes, options.output)
    print(f"written: {options.output}")
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
