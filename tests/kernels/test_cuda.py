"""The tests of the kernels for the GPU, run in Numba's simulator: all files in one process."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernels.cuda import running

ROOT = Path(__file__).parents[2]
FILES = [
    path
    for path in sorted((ROOT / "tests").rglob("test_*.py"))
    if re.search(r"^running\.require\(\)$", path.read_text("utf-8"), re.MULTILINE)
]


def simulate(*arguments):
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_in_the_simulator():
    reason = running.why_not()
    if reason and "simulator" not in reason:
        pytest.skip(reason)
    result = simulate(*map(str, FILES))
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-2000:]
    for path in FILES:
        name = path.relative_to(ROOT).as_posix()
        assert re.search(rf"^{re.escape(name)} [.s]*\.", result.stdout, re.MULTILINE), f"nothing passed in {name}"


def test_files_are_found():
    assert len(FILES) >= 7


@pytest.mark.parametrize("module", ["fastnn", "fastnn.kernels.cpu.runner"])
def test_nothing_else_imports_numba_cuda(module):
    code = f"import sys, {module}; print('numba.cuda' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "False", result.stderr
