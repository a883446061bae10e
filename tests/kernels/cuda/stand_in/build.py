"""Builds the stand-in of NVIDIA's driver: ``driver.c``, and a function that fails by name for all that is not there."""

import re
import subprocess
from pathlib import Path

DRIVER = Path(__file__).with_name("driver.c")

#: ``CUresult CUDAAPI cuMemAlloc(``, and ``#define cuMemAlloc cuMemAlloc_v2``, perhaps with a macro around it.
DECLARED = re.compile(r"\bCUDAAPI\s+(cu\w+)\s*\(")
RENAMED = re.compile(r"^\s*#\s*define\s+(cu\w+)\s+(?:__CUDA_API_PT\w+\()?(cu\w+_v\d+)\b", re.MULTILINE)

STUB = '__attribute__((weak)) int {symbol}(void) {{ return stand_in_lacks("{symbol}"); }}\n'
ENTRY = '    {{"{name}", (void *){symbol}}},\n'


def functions(header: str) -> dict[str, str]:
    """{name: its symbol in the library} of every function that a ``cuda.h`` declares."""
    renamed = dict(RENAMED.findall(header))
    return {name: renamed.get(name, name) for name in DECLARED.findall(header)}


def missing_functions(header: str) -> str:
    """A C file with a function for every symbol, which those of driver.c win over, and a table of them all by name."""
    found = functions(header)
    stubs = [STUB.format(symbol=symbol) for symbol in sorted(set(found.values()))]
    entries = [ENTRY.format(name=name, symbol=symbol) for name, symbol in sorted(found.items())]
    head = "const struct { const char *name; void *function; } stand_in_functions[] = {\n"
    table = [head, *entries, "    {0, 0},\n};\n"]
    return "".join(["int stand_in_lacks(const char *, ...);\n\n", *stubs, *table])


def build(folder: Path, headers: Path, compiler: str) -> None:
    """Make ``libcuda.so.1`` in ``folder``; a RuntimeError tells what the compiler says."""
    stubs = folder / "missing.c"
    stubs.write_text(missing_functions((headers / "cuda.h").read_text()))
    options = ["-std=gnu11", "-O1", "-shared", "-fPIC", f"-I{headers}", "-lpthread"]
    command = [compiler, DRIVER, stubs, *options, "-o", folder / "libcuda.so.1"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"the stand-in of the driver cannot be built: {result.stderr[:2000]}")
