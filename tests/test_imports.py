"""Who may import whom: imports point down only, and `import fastnn` stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import fastnn

ROOT = Path(__file__).parents[1]
LIBRARY = sorted((ROOT / "fastnn").glob("*.py"))
KERNELS = sorted((ROOT / "kernels").rglob("*.py"))

#: The house from roof to cellar: a file imports only what stands below it.
ORDER = (
    "__main__",
    "table",
    "plots",
    "estimators",
    "model",
    "gradient_check",
    "inference",
    "evaluation",
    "files",
    "lbfgs",
    "epochs",
    "training",
    "callbacks",
    "progress",
    "interrupt",
    "single_step",
    "summary",
    "slow_path",
    "examples",
    "chain",
    "layers",
    "optimizers",
    "plan",
    "metrics",
    "losses",
    "scores",
    "schedules",
    "initializers",
    "regularizers",
    "own_functions",
    "constraints",
    "settings",
    "keywords",
    "history",
    "figures",
    "datasets",
    "data",
    "dispatch",
    "workers",
    "elsewhere",
    "checks",
    "kernels",
)

#: What kernels may import besides the standard library and each other.
BELOW_KERNELS = {"llvmlite", "numba", "numpy"}

#: What those for the GPU may import as well.
BELOW_DEVICE_KERNELS = BELOW_KERNELS | {"cuda"}


def run_python(code: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, **options)


def executed(node: ast.AST):
    """All nodes below ``node`` but for what stands under ``if TYPE_CHECKING:``, which never runs."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        yield child
        yield from executed(child)


def imported(source: str, package: str) -> set[str]:
    """The absolute names of all modules that a file of ``package`` imports, in functions too."""
    names = set()
    for node in executed(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            above = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            base = ".".join(filter(None, (above, node.module)))
            # `from . import x` may name a module or something in one.
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


def room(name: str) -> str | None:
    """The file of the library that an imported name leads to; None: none of ours, or the version."""
    if not name.startswith("fastnn."):
        assert name != "fastnn", "the library imports its own files by name"
        return None
    first = name.split(".")[1]
    return None if first == "__version__" else fastnn._HOME_OF.get(first, first)


def climbs(file: str, source: str) -> list[str]:
    """The imports of ``file`` that do not point down."""
    below = ORDER[ORDER.index(file) + 1 :]
    rooms = {room(name) for name in imported(source, "fastnn")} - {None}
    return sorted(rooms - set(below))


def test_every_file_has_its_place():
    assert {path.stem for path in LIBRARY} - {"__init__"} == set(ORDER) - {"kernels"}


@pytest.mark.parametrize("file", ORDER[:-1])
def test_imports_point_down(file):
    assert climbs(file, (ROOT / "fastnn" / f"{file}.py").read_text("utf-8")) == []


def test_an_import_that_climbs_is_seen():
    assert climbs("plan", "def f():\n    from .layers import Dense") == ["layers"]
    assert climbs("checks", "from . import Model, data") == ["data", "model"]
    assert climbs("dispatch", "import fastnn.plan") == ["plan"]
    assert climbs("dispatch", "if TYPE_CHECKING:\n    from .plan import Plan\nfrom .kernels.cpu import runner") == []


def foreign(path: Path, source: str) -> list[str]:
    """What a kernel file imports beyond what kernels may import."""
    package = ".".join(("fastnn", *path.relative_to(ROOT).parent.parts))
    names = {name for name in imported(source, package) if not name.startswith("fastnn.kernels.")}
    allowed = BELOW_DEVICE_KERNELS if path.parent.name == "cuda" else BELOW_KERNELS
    return sorted(name for name in names if name.split(".")[0] not in allowed | sys.stdlib_module_names)


@pytest.mark.parametrize("path", KERNELS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_kernels_import_nothing_from_above(path):
    assert foreign(path, path.read_text("utf-8")) == []


def test_a_kernel_that_looks_up_is_seen():
    path = ROOT / "kernels" / "cpu" / "dense.py"
    assert foreign(path, "from ...checks import choice") == ["fastnn.checks.choice"]
    assert foreign(path, "import fastnn.model") == ["fastnn.model"]
    assert foreign(path, "import scipy.linalg") == ["scipy.linalg"]
    assert foreign(path, "import os, numpy as np\nfrom ..jit import kernel\nfrom .. import layout") == []


def mentions(word: str, source: str) -> list[int]:
    """Lines where ``word`` stands in a name or a string; docstrings and comments do not count."""
    tree = ast.parse(source)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    lines = set()
    for node in ast.walk(tree):
        texts = [getattr(node, field, None) for field in ("id", "attr", "arg", "name", "asname", "module")]
        if isinstance(node, ast.Constant) and id(node) not in docstrings:
            texts.append(node.value)
        if any(isinstance(text, str) and word in text.lower() for text in texts):
            lines.add(node.lineno)
    return sorted(lines)


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.stem)
def test_only_dispatch_says_cuda(path):
    lines = mentions("cuda", path.read_text("utf-8"))
    assert bool(lines) == (path.stem == "dispatch"), f"lines {lines}"


def test_import_is_light():
    code = """
import sys
before = set(sys.modules)
import fastnn
print(*{name.partition(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names)
"""
    result = run_python(code, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    assert set(result.stdout.split()) <= {"fastnn", "numpy"}


def test_data_sets_need_no_compiler():
    code = """
import sys
import fastnn as fn
X, y = fn.datasets.digits()
print(*{"numba", "llvmlite"} & set(sys.modules))
"""
    result = run_python(code, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == []


def test_public_names_are_found():
    for name in fastnn.__all__:
        assert getattr(fastnn, name) is not None
    assert set(fastnn.__all__) <= set(dir(fastnn))


def test_unknown_name_has_a_hint():
    with pytest.raises(AttributeError, match="module 'fastnn' has no attribute 'dense'; did you mean 'Dense'"):
        _ = fastnn.dense


def test_one_list_of_activations():
    from fastnn import layers, plan
    from fastnn.kernels.formulas.activations import ACTIVATIONS

    assert set(layers.ACTIVATIONS) == {*ACTIVATIONS, "softmax", "log_softmax"}
    assert len(set(layers.ACTIVATIONS)) == len(layers.ACTIVATIONS)
    # A linear activation is no operation at all.
    from_output = {name for name, activation in ACTIVATIONS.items() if activation.from_output}
    assert plan.IN_PLACE == from_output - {"linear"}
