"""Every kernel for the GPU, compiled without one: no 64-bit floats where the numbers have 32, no registers spilled.

Where ``ptxas`` is found (CUDA's toolkit, or the package nvidia-cuda-nvcc) it tells what a kernel takes.
"""

import ast
import re
from pathlib import Path

import numpy as np
import pytest

from asv_bench import gpu_kernels
from asv_bench.gpu_kernels import CAPABILITIES, compile_to_ptx, ptxas
from tests.kernels.cuda.running import why_not_compiled

KERNELS = Path(__file__).parents[3] / "kernels" / "cuda"

pytestmark = pytest.mark.skipif(why_not_compiled() is not None, reason=str(why_not_compiled()))

#: Registers of a multiprocessor, the granularity of a warp's, and what a kernel may declare of shared memory, in bytes.
REGISTERS, GRANULARITY, SHARED = 65_536, 8, 48 * 1024

#: Dynamic shared memory of a block, at most: 100 KB on the smallest GPUs with tensor cores for tf32, 1 KB of it taken.
DYNAMIC = 99 * 1024

CATALOG = {} if why_not_compiled() else gpu_kernels.catalog()


@pytest.fixture(scope="module")
def reports(request):
    """Of the kernels that this run of pytest has selected: all take some two minutes."""
    selected = [item for item in request.session.items if getattr(item, "originalname", "") == "test_kernel"]
    return gpu_kernels.examine_all([item.callspec.params["name"] for item in selected], processes=2)


@pytest.mark.parametrize("name", CATALOG)
def test_kernel(reports, name):
    entry = CATALOG[name]
    assert [report.capability for report in reports[name]] == [c for c in CAPABILITIES if c >= entry.since]
    for report in reports[name]:
        if entry.real is np.float32:
            assert bool(report.doubles) == entry.accumulates, f"{report.doubles} 64-bit floats on {report.capability}"
        assert report.local == 0, f"local memory on {report.capability}"
        if report.usage:
            registers = -(-report.usage.registers // GRANULARITY) * GRANULARITY
            assert (report.usage.stack, report.usage.spills) == (0, 0), report
            assert registers * entry.threads <= REGISTERS and report.usage.shared <= SHARED, report
    assert entry.dynamic_bytes <= DYNAMIC


def jitted(source):
    """{first line: name} of the functions that a file compiles with ``cuda.jit`` or ``kernel``.

    Those that other kernels call are left out.
    """

    def compiles(node):
        called = node.func if isinstance(node, ast.Call) else node
        options = {keyword.arg for keyword in node.keywords} if isinstance(node, ast.Call) else set()
        return ast.unparse(called) in ("cuda.jit", "jit", "kernel") and "device" not in options

    tree = list(ast.walk(ast.parse(source)))
    functions = [node for node in tree if isinstance(node, ast.FunctionDef)]
    calls = [node for node in tree if isinstance(node, ast.Call) and compiles(node) and node.args]
    called = {ast.unparse(node.args[0]) for node in calls}
    return {
        min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]): node.name
        for node in functions
        if any(map(compiles, node.decorator_list)) or node.name in called
    }


def test_every_kernel_is_in_the_catalog():
    listed = {}
    for entry in CATALOG.values():
        code = entry.function.py_func.__code__
        listed.setdefault(Path(code.co_filename).name, {})[code.co_firstlineno] = code.co_name
    for path in sorted(KERNELS.glob("*.py")):
        assert jitted(path.read_text("utf-8")) == listed.get(path.name, {}), path.name


def test_a_kernel_that_is_not_in_the_catalog_is_seen():
    assert jitted("@kernel\ndef a(): pass\n@cuda.jit(launch_bounds=3)\ndef b(): pass\ndef c(): pass\ncuda.jit(c)") == {
        1: "a",
        3: "b",
        5: "c",
    }
    assert jitted("def f():\n    @kernel\n    def inner(): pass\n@cuda.jit(device=True)\ndef d(): pass") == {2: "inner"}


def test_every_kernel_has_both_types():
    """By the code of the kernel: a factory makes one for each type. Those of tensor cores have float32 alone."""
    kinds = {}
    for entry in CATALOG.values():
        code = entry.function.py_func.__code__
        kinds.setdefault((Path(code.co_filename).stem, code.co_name), set()).add(entry.real)
    alone = {place for place, real in kinds.items() if not real >= {np.float32, np.float64}}
    assert alone == {("tensor_cores", "tensor_gemm"), ("launch", "_close_gate")}


def numbered(ptx):
    """PTX without the names that Numba numbers anew at each compilation."""
    return re.sub(r"_cudapy_smem_\d+|_ZN\w+|B\d+v\d+", "", ptx)


def test_the_first_part_of_compilation_serves_all_capabilities():
    from numba import cuda

    entry = CATALOG["tanh_forward float32"]
    for capability, ptx in compile_to_ptx(entry.function, entry.signature, CAPABILITIES):
        with gpu_kernels.pretended_device(capability):
            alone, _ = cuda.compile(entry.function.py_func, entry.signature, device=False, abi="numba", cc=capability)
        assert f".target sm_{capability[0]}{capability[1]}" in ptx
        assert numbered(ptx) == numbered(alone)


def leaking(cuda):
    @cuda.jit
    def kernel(x, y):
        i = cuda.grid(1)
        if i < x.size:
            y[i] = max(x[i], 0.0)

    return kernel


def spilling(cuda, number):
    @cuda.jit
    def kernel(x, y):
        kept = cuda.local.array(512, number)
        for i in range(512):
            kept[i] = x[i]
        for i in range(512):
            y[i] = kept[int(y[i])]

    return kernel


def test_a_literal_that_makes_64_bit_floats_is_seen():
    from numba import cuda, float32, void

    signature = void(float32[::1], float32[::1])
    for _, ptx in compile_to_ptx(leaking(cuda), signature, CAPABILITIES):
        assert re.search(gpu_kernels.DOUBLES, ptx)


def test_local_memory_is_seen():
    from numba import cuda, float32, void

    signature = void(float32[::1], float32[::1])
    for capability, ptx in compile_to_ptx(spilling(cuda, float32), signature, CAPABILITIES[:1]):
        assert re.search(gpu_kernels.LOCAL, ptx)
        if ptxas():
            assert gpu_kernels.assemble(ptx, capability).stack >= 2048


def test_dynamic_shared_memory_begins_where_16_bytes_can_be_read():
    entry = CATALOG["bf16_part_64x64 float32"]
    for _, ptx in compile_to_ptx(entry.function, entry.signature, CAPABILITIES[1:2]):
        assert re.search(r"\.extern \.shared \.align 16 ", ptx)


def test_what_ptxas_refuses():
    if not ptxas():
        pytest.skip("needs ptxas")
    with pytest.raises(ValueError, match="ptxas refuses the kernel"):
        gpu_kernels.assemble(".version 8.0\n.target sm_80\nnonsense", (8, 0))


def test_figures_of_ptxas():
    report = (
        "ptxas info    : 0 bytes gmem\nptxas info    : Compiling entry function 'k' for 'sm_80'\n"
        "    16 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads\n"
        "ptxas info    : Used 42 registers, used 1 barriers, 9216 bytes smem, 400 bytes cmem[0]"
    )
    assert gpu_kernels.usage(report) == (42, 16, 12, 9216)


def test_the_table_has_every_kernel():
    """``python -m asv_bench.gpu_kernels`` writes it."""
    rows = re.findall(r"^\| (\w+) \| (float32|float64|int64) ", gpu_kernels.PAGE.read_text("utf-8"), re.MULTILINE)
    assert [" ".join(row) for row in rows] == list(CATALOG)
