"""Names, parameters and defaults are those of the CPU's kernels, but for the last ones, which say where to run."""

import importlib
import inspect

import pytest

from tests.kernels.cuda import running

running.require()

from fastnn.kernels.formulas.activations import ACTIVATIONS  # noqa: E402

#: The files of public kernels. ``gemm`` works on addresses on the CPU; ``gather`` has a plan's function alone there.
MODULES = ("dense", "activations", "dropout", "losses", "metrics", "penalties", "rows", "updates")

#: Where to run: the last parameters on the CPU, in any part, and on the GPU.
ON_CPU, ON_GPU = ("workspace", "rank", "size"), "stream"

#: Functions that make a kernel, and arguments for them.
TANH = ACTIVATIONS["tanh"]
FACTORIES = {
    "activation_backward": (TANH.slope,),
    "activation_forward": (TANH.value,),
    "activation_forward_keeping": (TANH.value, TANH.slope),
    "elementwise_loss": (TANH.value, TANH.slope),
    "own_penalty": (abs,),
    "own_penalty_slope": (abs,),
    "own_update": (abs, 0),
}

#: Public, but no kernels: parts of a formula, and a choice of kernels by name.
NO_KERNELS = ("kept_slope", "kernels_of")


def modules(name):
    return [importlib.import_module(f"fastnn.kernels.{device}.{name}") for device in ("cpu", "cuda")]


def public(module):
    return [name for name in module.__all__ if not name.startswith("plan_")]


KERNELS = [(module, name) for module in MODULES for name in public(modules(module)[0])]


def parameters(function):
    """(name, default) of each parameter."""
    function = getattr(function, "py_func", function)
    return [(p.name, p.default) for p in inspect.signature(function).parameters.values()]


def differences(name, on_cpu, on_gpu):
    """What a kernel's parameters on the GPU have that those on the CPU do not allow."""
    if name in NO_KERNELS:
        return [] if parameters(on_cpu) == parameters(on_gpu) else ["other parameters"]
    cpu, gpu = parameters(on_cpu), parameters(on_gpu)
    while cpu and cpu[-1][0] in ON_CPU:
        cpu.pop()
    found = [] if gpu[-1] == (ON_GPU, inspect.Parameter.empty) else [f"the last parameter is not {ON_GPU}"]
    return (
        found
        + [f"{a} on the CPU, {b} here" for a, b in zip(cpu, gpu[:-1], strict=False) if a != b]
        + ([] if len(cpu) == len(gpu) - 1 else [f"{len(cpu)} parameters on the CPU, {len(gpu) - 1} here"])
    )


@pytest.mark.parametrize(("module", "name"), KERNELS)
def test_same_parameters(module, name):
    on_cpu, on_gpu = (getattr(home, name) for home in modules(module))
    if name in FACTORIES:
        assert parameters(on_cpu) == parameters(on_gpu)
        on_cpu, on_gpu = (make(*FACTORIES[name]) for make in (on_cpu, on_gpu))
    assert differences(name, on_cpu, on_gpu) == []


@pytest.mark.parametrize("module", MODULES)
def test_public_on_both(module):
    cpu, gpu = modules(module)
    assert set(public(cpu)) <= set(gpu.__all__)


def test_differences_are_seen():
    def on_cpu(y, x, scale, workspace, rank, size):
        pass

    def kernel(y, x, scale, stream):
        pass

    def missing(y, x, stream):
        pass

    def swapped(x, y, scale, stream):
        pass

    def default(y, x, scale=1, *, stream=None):
        pass

    assert differences("", on_cpu, kernel) == []
    for wrong in (missing, swapped, default, on_cpu):
        assert differences("", on_cpu, wrong) != []


def test_every_file_of_the_cpu_has_a_counterpart():
    from pathlib import Path

    import fastnn.kernels

    folder = Path(fastnn.kernels.__file__).parent / "cpu"
    kernels = {p.stem for p in folder.glob("*.py") if "\n@kernel" in p.read_text("utf-8")}
    # The engine, the fast ways to a prediction and to a step, and the CPU's parts are programs of the CPU.
    assert kernels - {"engine", "inference", "batch"} <= {*MODULES}
