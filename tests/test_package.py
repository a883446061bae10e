"""The package: what a wheel and an sdist hold, also when built from a clone without symbolic links."""

import ast
import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import fastnn

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
BUILD = "import sys, hatchling.build as build; print(getattr(build, sys.argv[1])(sys.argv[2]))"


def run_python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=cwd, env=environment
    )


def copy_of_checkout(place: Path, *, symlinks: bool) -> Path:
    """The checkout's files for a build in ``place``, with fastnn/kernels as a link or as the text file that
    git writes where links are off.
    """
    leave = shutil.ignore_patterns("__pycache__")
    place.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, place)
    shutil.copytree(ROOT / "kernels", place / "kernels", ignore=leave)
    shutil.copytree(ROOT / "fastnn", place / "fastnn", ignore=shutil.ignore_patterns("__pycache__", "kernels"))
    if symlinks:
        os.symlink("../kernels", place / "fastnn" / "kernels", target_is_directory=True)
    else:
        (place / "fastnn" / "kernels").write_text("../kernels", "utf-8")
    return place


def build(kind: str, checkout: Path) -> Path:
    """Build a wheel or an sdist without downloads; returns its path."""
    pytest.importorskip("hatchling")
    (checkout / "dist").mkdir(exist_ok=True)
    result = run_python("-c", BUILD, f"build_{kind}", "dist", cwd=checkout)
    assert result.returncode == 0, result.stderr
    return checkout / "dist" / result.stdout.split()[-1]


def contents(wheel: Path) -> dict[str, str]:
    """The files in a wheel, each with a digest; a file that is stored twice is an error."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert len(names) == len(set(names))
        return {name: hashlib.sha256(archive.read(name)).hexdigest() for name in names}


def sources(folder: Path) -> set[str]:
    """The files below a folder of the checkout as a wheel names them."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    place = tmp_path_factory.mktemp("build") / "checkout"
    try:
        copy_of_checkout(place, symlinks=True)
    except OSError:
        shutil.rmtree(place)
        copy_of_checkout(place, symlinks=False)
    return build("wheel", place)


def test_wheel_holds_every_file_once(wheel):
    files = {name for name in contents(wheel) if ".dist-info/" not in name}
    library = {name for name in sources(ROOT / "fastnn") if not name.startswith("fastnn/kernels")}
    kernels = {f"fastnn/{name}" for name in sources(ROOT / "kernels")}
    assert files == library | kernels
    assert {"fastnn/py.typed", "fastnn/digits.npz", "fastnn/digits.txt", "fastnn/kernels/cpu/engine.py"} <= files


def test_wheel_has_one_import_name(wheel):
    tops = {name.split("/")[0] for name in contents(wheel)}
    assert tops == {"fastnn", f"fastnn-{fastnn.__version__}.dist-info"}


def test_wheel_holds_real_files(wheel):
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            # The upper half of the attributes is the Unix mode; 0o12 is the type of a symbolic link.
            assert entry.external_attr >> 28 != 0o12, entry.filename


def test_wheel_from_a_clone_without_symlinks_is_the_same(wheel, tmp_path):
    assert contents(build("wheel", copy_of_checkout(tmp_path / "plain", symlinks=False))) == contents(wheel)


@pytest.mark.parametrize("symlinks", [False, True])
def test_sdist_builds_the_same_wheel(symlinks, wheel, tmp_path):
    try:
        sdist = build("sdist", copy_of_checkout(tmp_path / "plain", symlinks=symlinks))
    except OSError:
        pytest.skip("there are no symbolic links here")
    with tarfile.open(sdist) as archive:
        if hasattr(tarfile, "data_filter"):  # since Python 3.11.4
            archive.extraction_filter = tarfile.data_filter
        archive.extractall(tmp_path)
    assert contents(build("wheel", tmp_path / sdist.name.removesuffix(".tar.gz"))) == contents(wheel)


def test_unpacked_wheel_runs(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path / "site")!r})
import fastnn, fastnn.kernels.jit
assert fastnn.datasets.digits()[0].shape == (1797, 64)
print(fastnn.__file__, fastnn.kernels.__file__, len(fastnn.__path__))
"""
    result = run_python("-I", "-c", code, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "site" / "fastnn"
    assert result.stdout.split() == [str(folder / "__init__.py"), str(folder / "kernels" / "__init__.py"), "1"]


def test_checkout_without_symlinks_runs(tmp_path):
    checkout = copy_of_checkout(tmp_path / "plain", symlinks=False)
    code = """
import fastnn, fastnn.kernels.jit
assert fastnn.datasets.digits()[0].shape == (1797, 64)
print(fastnn.kernels.__file__)
"""
    result = run_python("-c", code, cwd=checkout)
    assert result.returncode == 0, result.stderr
    assert Path(result.stdout.strip()) == checkout / "kernels" / "__init__.py"


def test_kernels_has_no_other_import_name():
    result = run_python("-c", "import kernels", cwd=ROOT)
    assert result.returncode != 0
    assert "ImportError: this folder was imported as 'kernels'" in result.stderr
    assert "import fastnn.kernels" in result.stderr


def test_only_numpy_and_numba_are_required():
    assert {re.match(r"[\w-]+", line).group() for line in PROJECT["project"]["dependencies"]} == {"numba", "numpy"}
    extras = set(PROJECT["project"]["optional-dependencies"])
    assert {"bench", "cuda12", "cuda13", "dev", "docs", "plot", "test"} <= extras


@pytest.mark.parametrize("newer", [-1, 0, None])
def test_a_numba_that_is_too_old_is_refused(newer):
    """As where fastnn is not installed, but on the path."""
    major, minor = map(int, re.search(r"numba>=(\d+)\.(\d+)", str(PROJECT["project"]["dependencies"])).groups())
    found = (None, None) if newer is None else (major, minor + newer)
    code = f"import numba; numba.version_info = numba.version_info._replace(short={found}); import fastnn.kernels.jit"
    result = run_python("-c", code, cwd=ROOT)
    refused = f"ImportError: fastnn needs Numba {major}.{minor} or newer, but" in result.stderr
    assert (result.returncode != 0, refused) == (newer == -1, newer == -1), result.stderr


def test_installed_version_is_this_one():
    try:
        version = importlib.metadata.version("fastnn")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("fastnn is not installed, only on the path")
    assert version == fastnn.__version__


def test_changelog_names_the_version():
    assert fastnn.__version__ in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_command_says_its_version():
    result = run_python("-m", "fastnn", "--version", cwd=ROOT)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == f"fastnn {fastnn.__version__}"


def test_type_checkers_know_the_public_names_and_no_others():
    """A strict one takes "import a as a" alone for public, and any name for known where there is a __getattr__."""
    tree = ast.parse((ROOT / "fastnn" / "__init__.py").read_text("utf-8"))
    branches = {ast.unparse(node.test): node for node in tree.body if isinstance(node, ast.If)}
    imports = [node for node in branches["TYPE_CHECKING"].body if isinstance(node, ast.ImportFrom)]
    seen = [(name.asname, name.name) for node in imports for name in node.names]
    public = {*fastnn.__all__, *fastnn._FURTHER_MODULES} - {"__version__"}
    assert sorted(seen) == sorted((name, name) for name in public)
    assert not any(isinstance(node, ast.FunctionDef) and node.name == "__getattr__" for node in tree.body)
