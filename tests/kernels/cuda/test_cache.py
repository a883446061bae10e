"""Kernels of the GPU on disk: another process loads what one compiled, and only what is the same."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernels.cuda import running

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.skipif(
    bool(running.why_not_compiled()), reason=f"needs a compiler for GPUs: {running.why_not_compiled()}"
)

#: Compiles or loads three kernels for a GPU that is not there, and prints which, and digests of their code.
SCRIPT = """
import hashlib
from types import SimpleNamespace

from numba import float32, int64
from numba.cuda import codegen, dispatcher

capability = {capability}
device = SimpleNamespace(compute_capability=capability, id=0)
dispatcher.get_current_device = lambda: device
codegen.devices.get_context = lambda *_: SimpleNamespace(device=device)

import numpy as np
from fastnn.kernels.cuda import activations, cache, dense, gemm
from fastnn.kernels.formulas.activations import ACTIVATIONS
from fastnn.kernels.formulas.own import activation_formulas

cache.target = lambda: ((13, 0), capability)
FACTOR = {factor}
value, slope = activation_formulas(lambda x: FACTOR * x, lambda x, y: FACTOR)
flat, matrix = float32[::1], float32[:, ::1]
own, tanh = (activations.forward_kernel(formula) for formula in (value, ACTIVATIONS["tanh"].value))
product = gemm.gemm_kernel(np.float32, gemm.TILES[-1], False, False, False, dense._biased)
elements, all = (matrix, matrix), (matrix, matrix, flat, matrix, matrix, matrix, matrix, int64)
for name, kernel, types in ("own", own, elements), ("tanh", tanh, elements), ("product", product, all):
    found = kernel._cache.load_overload(types, kernel.targetctx)
    word = "loaded" if found else "compiled"
    if found is None:
        found = dispatcher._Kernel(kernel.py_func, types, **kernel.targetoptions)
        kernel._cache.save_overload(types, found)
    print(name, word, hashlib.sha256(found._codelibrary.get_asm_str(cc=capability).encode()).hexdigest())
"""


def run(folder, factor=0.5, capability=(9, 0)):
    """name -> ("compiled" or "loaded", digest)"""
    environment = {**os.environ, "FASTNN_CACHE_DIR": str(folder)}
    code = SCRIPT.format(factor=factor, capability=capability)
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return {line.split()[0]: tuple(line.split()[1:]) for line in result.stdout.splitlines()}


def test_another_process_loads_the_same_kernels(tmp_path):
    first, second = run(tmp_path), run(tmp_path)
    assert [word for word, _ in first.values()] == ["compiled"] * 3
    assert [word for word, _ in second.values()] == ["loaded"] * 3
    assert {name: digest for name, (_, digest) in first.items()} == {
        name: digest for name, (_, digest) in second.items()
    }
    assert len({digest for _, digest in first.values()}) == 3
    # Another constant in a user's function is another kernel; the others stay as they are.
    changed = run(tmp_path, factor=0.25)
    assert [word for word, _ in changed.values()] == ["compiled", "loaded", "loaded"]
    assert changed["own"][1] != first["own"][1]
    # So is another GPU.
    assert [word for word, _ in run(tmp_path, capability=(8, 0)).values()] == ["compiled"] * 3
    # A damaged entry is compiled again.
    for path in tmp_path.rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:-7])
    assert [word for word, _ in run(tmp_path).values()] == ["compiled"] * 3
