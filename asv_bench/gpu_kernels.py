"""Compiles every kernel for GPUs, without one: to PTX with Numba, and on to a GPU's own code where ``ptxas`` is found.

python -m asv_bench.gpu_kernels [--output docs/explanation/gpu_registers.md] [--processes 2] [--only gemm]

It writes a table of what each kernel takes: registers, shared memory, and what should be zero. Needs the extra
``test-gpu``. ``tests/kernels/cuda/test_ptx.py`` looks at the same figures.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import re
import shutil
import subprocess
import sys
import tempfile
import types
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from importlib import metadata, util
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

#: What is compiled for: the compute capabilities of Turing, Ampere, Hopper and Blackwell.
CAPABILITIES = ((7, 5), (8, 0), (9, 0), (10, 0))

#: What 64-bit floats and local memory look like in PTX.
DOUBLES, LOCAL = r"\.f64\b", r"\.local\b"

#: What ptxas may take for one kernel.
SECONDS = 120

PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "gpu_registers.md"


class Usage(NamedTuple):
    """What ptxas says that a kernel takes: registers of a thread, and bytes."""

    registers: int
    stack: int
    spills: int
    shared: int


class Report(NamedTuple):
    """One kernel, compiled for one compute capability.

    name : with the type of its numbers; doubles, local : how often the PTX mentions 64-bit floats and local memory;
    usage : None without ptxas.
    """

    name: str
    capability: tuple[int, int]
    doubles: int
    local: int
    usage: Usage | None


@functools.cache
def ptxas() -> str | None:
    """The assembler for GPUs: on the path, or of the package nvidia-cuda-nvcc."""
    found = shutil.which("ptxas")
    if found:
        return found
    package = util.find_spec("nvidia")
    for folder in (package.submodule_search_locations or ()) if package else ():
        for path in sorted(Path(folder).glob("cu*/bin/ptxas*")):
            return str(path)
    return None


@contextmanager
def pretended_device(capability: tuple[int, int]) -> Iterator[None]:
    """Numba asks the driver what to compile a device function for; here it hears ``capability``."""
    from numba.cuda import dispatcher

    device = types.SimpleNamespace(compute_capability=capability)
    with mock.patch.object(dispatcher, "get_current_device", lambda: device):
        yield


def compile_to_ptx(kernel: Any, signature: Any, capabilities: Any) -> Iterator[tuple[Any, str]]:
    """Pairs of compute capability and PTX of what ``cuda.jit`` made.

    ``cuda.compile`` would do all of it anew for each capability, and Numba's part of it takes the most time. That part
    does not depend on the capability; ``test_ptx.py`` compares.
    """
    from numba.cuda import compiler

    bounds = kernel.targetoptions.get("launch_bounds")
    with pretended_device(capabilities[0]):
        library, _ = compiler._compile_pyfunc_with_fixup(
            kernel.py_func, signature, device=False, abi="numba", cc=capabilities[0], launch_bounds=bounds
        )
    for capability in capabilities:
        yield capability, library.get_asm_strs(cc=capability)[0]


def assemble(ptx: str, capability: tuple[int, int]) -> Usage:
    """What the kernel takes on a GPU of this capability, according to ptxas. Raises ValueError where it refuses."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(ptx, "utf-8")
        major, minor = capability
        command = [str(ptxas()), "-v", f"-arch=sm_{major}{minor}", str(source), "-o", str(source.with_suffix(".cubin"))]
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    report = result.stdout + result.stderr
    if result.returncode or "registers" not in report:
        raise ValueError(f"ptxas refuses the kernel: {report}")
    return usage(report)


def usage(report: str) -> Usage:
    """The figures in what ``ptxas -v`` prints."""

    def largest(pattern: str) -> int:
        return max(map(int, re.findall(pattern, report)), default=0)

    spills = largest(r"(\d+) bytes spill stores") + largest(r"(\d+) bytes spill loads")
    return Usage(
        largest(r"Used (\d+) registers"), largest(r"(\d+) bytes stack frame"), spills, largest(r"(\d+) bytes smem")
    )


def catalog() -> dict[str, Any]:
    """The entries of ``kernels/cuda/catalog.py`` by name and type."""
    from fastnn.kernels.cuda.catalog import entries

    found: dict[str, Any] = {}
    for entry in entries():
        name = f"{entry.name} {entry.real.__name__}"
        assert name not in found, f"two entries of the catalog are called {name!r}"
        found[name] = entry
    return found


def examine(names: list[str]) -> list[Report]:
    """Compile these entries of the catalog for every compute capability that they are for."""
    reports = []
    entries = catalog()
    for name in names:
        entry = entries[name]
        wanted = [capability for capability in CAPABILITIES if capability >= entry.since]
        for capability, ptx in compile_to_ptx(entry.function, entry.signature, wanted):
            doubles = len(re.findall(DOUBLES, ptx))
            local = len(re.findall(LOCAL, ptx))
            reports.append(Report(name, capability, doubles, local, assemble(ptx, capability) if ptxas() else None))
    return reports


def examine_all(names: list[str], processes: int) -> dict[str, list[Report]]:
    """``examine`` in several processes; reports by name."""
    shares = [names[start :: 4 * processes] for start in range(4 * processes)]
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        reports = [report for share in pool.map(examine, shares) for report in share]
    return {name: [report for report in reports if report.name == name] for name in names}


HEADER = """# Registers and shared memory of the GPU kernels

`python -m asv_bench.gpu_kernels` wrote this page: every kernel of `kernels/cuda`, compiled without a GPU by numba-cuda
{numba_cuda} and ptxas {ptxas} for the compute capabilities 7.5 (Turing), 8.0 (Ampere), 9.0 (Hopper) and 10.0
(Blackwell). A thread has at most 255 registers, and a multiprocessor 65,536 of them for its threads. No kernel spills
registers or uses local memory.
"""


def table(reports: dict[str, list[Report]]) -> str:
    """The page: a row for each kernel, a column of registers for each capability."""
    found = subprocess.run([str(ptxas()), "--version"], capture_output=True, text=True, check=True).stdout
    version = re.findall(r"release (\S+),", found)[0]
    entries = catalog()
    rows = ["| kernel | type | threads | " + " | ".join(f"{a}.{b}" for a, b in CAPABILITIES) + " | shared bytes |"]
    rows.append("|---|---|" + "---:|" * (len(CAPABILITIES) + 2))
    for name, found_reports in reports.items():
        entry = entries[name]
        registers = {report.capability: report.usage.registers for report in found_reports if report.usage}
        shared = max((report.usage.shared for report in found_reports if report.usage), default=0) + entry.dynamic_bytes
        cells = [str(registers.get(capability, "")) for capability in CAPABILITIES]
        cells = [entry.name, entry.real.__name__, str(entry.threads), *cells, f"{shared:,}"]
        rows.append("| " + " | ".join(cells) + " |")
    header = HEADER.format(numba_cuda=metadata.version("numba-cuda"), ptxas=version)
    return header + "\n" + "\n".join(rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=PAGE)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", default="", help="only kernels with this in their name; the table is printed")
    options = parser.parse_args()
    if ptxas() is None:
        sys.exit("ptxas is not found: install the package nvidia-cuda-nvcc, or the CUDA toolkit")
    names = [name for name in catalog() if options.only in name]
    text = table(examine_all(names, options.processes))
    if options.only:
        print(text)
    else:
        options.output.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
