"""The compile cache: always a right result, never stale, never a crash."""

import functools
import hashlib
import json
import math
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import pytest
from numba import njit

from fastnn.kernels import cache
from fastnn.kernels.cache import UnknownValueError, fingerprint
from fastnn.kernels.formulas.own import frozen
from fastnn.kernels.jit import COMPILED, formula

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(not COMPILED, reason="the compiler is disabled, so there is nothing to cache")

#: A kernel, its callee in a file of its own, a C function, and two kernels of one factory.
PROBE = """
import json, sys
import numpy as np
from numba.core.compiler import CompilerBase
from fastnn.kernels import jit, probe
compile_extra, seen = CompilerBase.compile_extra, []
CompilerBase.compile_extra = lambda self, function: (seen.append(function.__name__), compile_extra(self, function))[1]
x = np.arange(3, dtype=np.float32)
probe.scale(x)
out = {"scale": x.tolist(), "index": "none"}
y, z = np.zeros(2, np.float32), np.zeros(2, np.float32)
probe.factory(probe.one)(y); probe.factory(probe.two)(z)
out["factory"] = [y.tolist(), z.tolist()]
address = jit.address(probe.plan(np.float32))
out["plan"] = int(probe.run(address, 40))
if "--index" in sys.argv:
    try:
        out["index"] = float(probe.pick(np.zeros(4, np.float32)[:2], 1))
    except IndexError:
        out["index"] = "IndexError"
out["compiled"], out["loaded"], out["seen by the compiler"] = sorted(jit.compiled), sorted(jit.loaded), seen
print(json.dumps(out))
"""

FILES = {
    "callee.py": """
from .jit import formula

@formula
def factor(x):
    return type(x)(2)
""",
    "probe.py": """
import functools
from .callee import factor
from .jit import formula, kernel
from .memory import call

@kernel
def scale(x):
    for i in range(x.shape[0]):
        x[i] *= factor(x[i])

@kernel
def pick(x, beyond):
    return x[x.shape[0] + beyond - 1]

@formula
def one(x):
    return type(x)(1)

@formula
def two(x):
    return type(x)(2)

@functools.cache
def factory(value):
    @kernel
    def fill(y):
        for i in range(y.shape[0]):
            y[i] = value(y[i])
    return fill

@functools.cache
def plan(real):
    def add(run, row, first, last):
        return run + int(factor(real(0)))
    return add

@kernel
def run(address, number):
    return call(address, number, 0, 0, 0)
""",
}

KERNELS = ["callee.", "probe."]
ENTRIES = 5  # scale, two fills, plan's add, run


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A copy of the package with the probe's files in it."""
    tree = tmp_path_factory.mktemp("original") / "tree"
    shutil.copytree(ROOT / "fastnn", tree / "fastnn", ignore=shutil.ignore_patterns("kernels", "__pycache__"))
    shutil.copytree(ROOT / "kernels", tree / "fastnn" / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in FILES.items():
        (tree / "fastnn" / "kernels" / name).write_text(text)
    return tree


@pytest.fixture(scope="module")
def first(original):
    """The cache that a first process has filled, and what it found."""
    cache = original.parent / "cache"
    return cache, *run(original, cache)


@pytest.fixture
def tree(original, first, tmp_path):
    """A copy that a test may edit, with the bytecode of the first process: seconds older than any edit."""
    return shutil.copytree(original, tmp_path / "tree")


@pytest.fixture
def filled(first, tmp_path):
    """A copy of that cache: its stamp knows what the files hold, not where they are."""
    return shutil.copytree(first[0], tmp_path / "filled")


def environment_of(tree, cache, **further):
    return {**os.environ, "PYTHONPATH": str(tree), "FASTNN_CACHE_DIR": str(cache), **further}


def start(tree, cache, *arguments, before="", **further):
    environment = environment_of(tree, cache, **further)
    command = [sys.executable, "-c", before + PROBE, *arguments]
    return subprocess.Popen(
        command, cwd=tree, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return json.loads(out), err


def run(tree, cache, *arguments, **further):
    found, err = finish(start(tree, cache, *arguments, **further))
    assert found["factory"] == [[1, 1], [2, 2]]
    return found, err


def entries(cache):
    return sorted(path for path in cache.rglob("*") if path.is_file())


def test_the_second_process_compiles_nothing(first, tree, filled):
    _, found, err = first
    assert (len(found["compiled"]), found["loaded"], err) == (ENTRIES, [], "")
    assert found["scale"] == [0, 2, 4] and found["plan"] == 42
    second, err = run(tree, filled)
    assert (second["compiled"], second["loaded"]) == ([], found["compiled"])
    assert found["seen by the compiler"] and not second["seen by the compiler"]
    assert (second["scale"], second["plan"], err) == (found["scale"], found["plan"], "")
    assert len(entries(filled)) == ENTRIES


def test_a_change_of_a_callee_in_another_file_is_seen(tree, filled):
    callee = tree / "fastnn" / "kernels" / "callee.py"
    callee.write_text(callee.read_text().replace("(2)", "(3)"))
    found, _ = run(tree, filled)
    assert found["scale"] == [0, 3, 6] and found["plan"] == 43
    assert len(found["compiled"]) == ENTRIES


def damage_bytes(content):
    for place in range(0, len(content), 97):
        content[place] ^= 0x10
    return content


DAMAGES = {
    "first byte": lambda content: bytes([content[0] ^ 1]) + content[1:],
    "last byte": lambda content: content[:-1] + bytes([content[-1] ^ 128]),
    "many bytes": lambda content: bytes(damage_bytes(bytearray(content))),
    "truncated": lambda content: content[: len(content) // 2],
    "short": lambda content: content[:7],
    "empty": lambda content: b"",
    "garbage": lambda content: b"x" * 5000,
    "no pickle": lambda content: _with_digest(b"no pickle"),
    "another pickle": lambda content: _with_digest(pickle.dumps((1, 2, 3))),
}


def _with_digest(payload):
    return hashlib.sha256(payload).digest() + payload


def test_damaged_entries_are_dropped_and_compiled_again(tree, filled):
    damages = list(DAMAGES.values())
    for start_with in range(0, len(damages), ENTRIES):  # each entry in another way, to save processes
        for place, path in enumerate(entries(filled)):
            path.write_bytes(damages[(start_with + place) % len(damages)](path.read_bytes()))
        found, err = run(tree, filled)
        assert found["scale"] == [0, 2, 4] and found["plan"] == 42
        assert (len(found["compiled"]), err) == (ENTRIES, "")
    found, _ = run(tree, filled)
    assert len(found["loaded"]) == ENTRIES  # the entries were replaced


def test_a_folder_that_cannot_be_written_costs_one_warning(tree, tmp_path):
    file = tmp_path / "file"
    file.write_text("a file, no folder")
    found, err = run(tree, file / "cache")
    assert found["scale"] == [0, 2, 4] and len(found["compiled"]) == ENTRIES
    assert err.count("RuntimeWarning") == 1 and "FASTNN_CACHE_DIR" in err


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can give files away")
def test_a_folder_of_another_user_is_not_trusted(tree, filled):
    (stamp,) = filled.iterdir()
    os.chown(stamp, 12345, -1)
    found, err = run(tree, filled)
    assert found["loaded"] == [] and "others can write" in err


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="Windows has no such modes")
def test_a_folder_that_others_can_write_to_and_a_link_are_not_trusted(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTNN_CACHE_DIR", str(tmp_path))
    look = cache._open_folder.__wrapped__
    place = tmp_path / cache.stamp()
    assert look() == (place, "")
    for mode in (0o720, 0o702):
        place.chmod(mode)
        assert look() == (None, f"others can write to {place}")
    place.chmod(0o700)
    os.utime(place, (0, 0))
    assert look() == (place, "") and place.stat().st_mtime > 0, "not marked as in use"
    if sys.platform == "linux":  # where everybody can write to a link, going by its mode
        place.rename(tmp_path / "elsewhere")
        place.symlink_to(tmp_path / "elsewhere")
        assert look() == (None, f"others can write to {place}")


#: Before the probe: nothing can be written, as on a disk that is mounted for reading.
READ_ONLY = """
import tempfile
def refuse(*arguments, **options):
    raise OSError(30, "Read-only file system")
tempfile.TemporaryFile = tempfile.mkstemp = refuse
"""


def test_a_filled_folder_that_can_only_be_read_serves(tree, filled):
    before = entries(filled)
    found, err = run(tree, filled, before=READ_ONLY)
    assert (found["compiled"], len(found["loaded"]), err) == ([], ENTRIES, "")
    before.pop().unlink()  # a function that nobody needed when it was filled
    found, err = run(tree, filled, before=READ_ONLY)
    assert (len(found["compiled"]), len(found["loaded"])) == (1, ENTRIES - 1)
    assert err.count("RuntimeWarning") == 1 and "cannot be written ([Errno 30] Read-only file system)" in err
    assert entries(filled) == before


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="the folder has to be root's")
def test_a_folder_of_root_s_serves_everybody(tree, filled):
    """Whoever made the image of a container filled it; a user of the machine is no such person."""
    another = READ_ONLY + "import os\nos.getuid = lambda: 12345\n"
    found, err = run(tree, filled, before=another)
    assert (found["compiled"], len(found["loaded"]), err) == ([], ENTRIES, "")
    (stamp,) = filled.iterdir()
    stamp.chmod(0o775)
    found, err = run(tree, filled, before=another)
    assert found["loaded"] == [] and "others can write" in err


#: Before the probe: the disk is full, of which an empty file is no sign.
FULL = """
import os, tempfile
class Full:
    def __enter__(self):
        return self
    def __exit__(self, *_):
        pass
    def write(self, content):
        if content:
            raise OSError(28, "No space left on device")
tempfile.TemporaryFile = lambda *arguments, **options: Full()
"""


def test_a_full_disk_is_told(tree, filled):
    entries(filled).pop().unlink()
    found, err = run(tree, filled, before=FULL)
    assert (len(found["compiled"]), len(found["loaded"])) == (1, ENTRIES - 1)
    assert err.count("RuntimeWarning") == 1 and "cannot be written ([Errno 28] No space left on device)" in err


def test_a_folder_stays_where_it_was_meant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FASTNN_CACHE_DIR", "cache")
    assert cache._open_folder.__wrapped__() == (tmp_path / "cache" / cache.stamp(), "")


def test_a_warning_that_is_an_error_comes_once(monkeypatch):
    monkeypatch.setattr(cache, "_open_folder", lambda: (None, "no room"))
    monkeypatch.setattr(cache, "_faults_told", [])
    with pytest.raises(RuntimeWarning, match=r"cannot be written \(no room\)"):
        cache._warn_once()
    cache._warn_once()


def test_off_switches_it_off(tree, tmp_path):
    found, err = run(tree, "off")
    assert found["loaded"] == [] and err == ""
    assert not (tree / "off").exists()


def test_modes_do_not_share_code(tree, tmp_path):
    """Code without checks of bounds must not run where they are asked for, nor the other way round."""
    cache = tmp_path / "cache"
    for checks, expected in (("0", 0.0), ("1", "IndexError"), ("0", 0.0)):
        assert run(tree, cache, "--index", NUMBA_BOUNDSCHECK=checks)[0]["index"] == expected
    assert len(list(cache.iterdir())) == 2
    run(tree, cache, FASTNN_VECTOR_BYTES="16")
    assert len(list(cache.iterdir())) == 3


#: The width for a processor's features: that of this one may be another.
WIDTH = """
from fastnn.kernels import cache
from fastnn.kernels.cpu import vectors
print(cache.stamp(), vectors.VECTOR_BYTES, vectors.REGISTERS, vectors._FUSED)
"""
HERE = llvm.get_host_cpu_features()


@pytest.mark.skipif(not (HERE.get("avx2") and HERE.get("fma")), reason="the features are those of x86-64")
def test_code_for_another_processor_is_for_that_one(monkeypatch):
    monkeypatch.setenv("NUMBA_CPU_NAME", "x86-64")
    for name in ("FASTNN_VECTOR_BYTES", "NUMBA_ENABLE_AVX"):
        monkeypatch.delenv(name, raising=False)

    def show(features):
        monkeypatch.setenv("NUMBA_CPU_FEATURES", features)
        done = subprocess.run([sys.executable, "-c", WIDTH], capture_output=True, text=True, check=False, cwd=ROOT)
        return done.stdout.strip().partition(" ")[::2] if done.returncode == 0 else done.stderr

    narrow, wide = show("-avx2,-fma"), show("+avx2,+fma")
    assert (narrow[1], wide[1]) == ("16 16 False", "32 16 True") and narrow[0] != wide[0]
    missing = next(name for name, there in HERE.items() if not there)
    assert f"NUMBA_CPU_FEATURES has {missing}; expected features that this processor, " in show(f"+avx2,+{missing}")


def test_without_the_compiler_nothing_is_kept(tree, filled):
    found, err = run(tree, filled, NUMBA_DISABLE_JIT="1")
    assert found["scale"] == [0, 2, 4] and found["plan"] == 42
    assert (found["compiled"], found["loaded"], err) == ([], [], "")


@pytest.mark.parametrize("imported_before", [True, False])
def test_an_edit_while_a_process_runs_does_not_mislead_the_next(tree, tmp_path, imported_before):
    """Old code must not be kept under the new file's stamp, nor code of a file imported late under the old one's."""
    cache, callee = tmp_path / "cache", tree / "fastnn" / "kernels" / "callee.py"
    old, new = callee.read_text(), callee.read_text().replace("(2)", "(3)")
    edit = f"import fastnn.kernels.{'probe' if imported_before else 'jit'}, pathlib\n"
    edit += f"pathlib.Path({str(callee)!r}).write_text({new!r})\n"
    environment = environment_of(tree, cache)
    # Without byte code, which Python would take for that of another edit of the same second and length.
    command = [sys.executable, "-B", "-c", edit + PROBE]
    subprocess.run(command, cwd=tree, env=environment, check=True, capture_output=True)
    if not imported_before:
        callee.write_text(old)
    assert run(tree, cache)[0]["scale"] == ([0, 3, 6] if imported_before else [0, 2, 4])


def test_folders_that_nobody_uses_are_deleted(tree, tmp_path):
    cache = tmp_path / "cache"
    old, recent, foreign = cache / ("0" * 16), cache / ("1" * 16), cache / "something else"
    for path in (old, recent, foreign):
        path.mkdir(parents=True)
    for path in (old, foreign):
        os.utime(path, (0, 0))
    run(tree, cache)
    assert not old.exists() and recent.exists() and foreign.exists()


def test_two_processes_at_once(tree, tmp_path):
    cache = tmp_path / "cache"
    for found, err in [finish(process) for process in [start(tree, cache) for _ in range(2)]]:
        assert found["scale"] == [0, 2, 4] and err == ""
    assert len(entries(cache)) == ENTRIES, "temporary files are left"
    assert len(run(tree, cache)[0]["loaded"]) == ENTRIES


def test_a_users_own_cache_is_left_alone(tree, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import fastnn.kernels.probe\nfrom numba import njit\n\n@njit(cache=True)\ndef f(x):\n    return x + 1\n\n"
        "f(1)\nprint(f.stats.cache_path, sum(f.stats.cache_hits.values()))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tree), "FASTNN_CACHE_DIR": str(tmp_path / "cache")}
    environment.pop("NUMBA_CACHE_DIR", None)
    printed = [
        subprocess.run(
            [sys.executable, tmp_path / "mine.py"], env=environment, capture_output=True, text=True, check=True
        ).stdout.split()
        for _ in range(2)
    ]
    assert printed == [[str(tmp_path / "__pycache__"), "0"], [str(tmp_path / "__pycache__"), "1"]]


#: A kernel that is too long to be inlined, in a C function: its name is a symbol of the machine code.
TWINS = """
import sys
import numpy as np
from fastnn.kernels import jit, probe
x = np.ones(3, np.float32)
for name in sys.argv[1:]:
    probe.start(jit.address(probe.plan_long(getattr(probe, name))), x.ctypes.data, x.size)
print(x.tolist(), len(jit.compiled))
"""
LONG = """
from .memory import vector
import numpy as np

@kernel
def start(address, run, row):
    return call(address, run, row, 0, 0)

@functools.cache
def long(value):
    @kernel
    def forward(x):
        LINES
    return forward

@functools.cache
def plan_long(value):
    function = long(value)
    def forward(run, row, first, last):
        function(vector(run, row, np.float32))
        return 1
    return forward
"""


def test_twins_of_two_processes_do_not_mix(tree, tmp_path):
    """Functions of one factory that two processes compiled, each as its first, and a third process loads."""
    lines = "for i in range(x.shape[0]): x[i] = value(x[i]) / (x[i] + 1)".replace("value(x[i])", "(value(x[i]) + i)")
    text = LONG.replace("LINES", "\n        ".join([lines] * 30))
    probe = tree / "fastnn" / "kernels" / "probe.py"
    probe.write_text(probe.read_text() + text)

    def twins(cache, *names):
        environment = environment_of(tree, cache, PYTHONHASHSEED="0")
        command = [sys.executable, "-c", TWINS, *names]
        done = subprocess.run(command, check=False, cwd=tree, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    twins(tmp_path / "one", "one")
    twins(tmp_path / "two", "two")
    shutil.copytree(tmp_path / "two", tmp_path / "one", dirs_exist_ok=True)
    for names in (("one", "two"), ("two", "one")):
        x = np.ones(3)
        for name in names:
            for _ in range(30):
                x = ({"one": 1, "two": 2}[name] + np.arange(3)) / (x + 1)
        found, _, compiled = twins(tmp_path / "one", *names).rpartition(" ")
        np.testing.assert_allclose(json.loads(found), x, rtol=1e-5)
        assert int(compiled) == 0


def made(scale):
    def user_formula(x):
        return x * scale

    return user_formula


def test_fingerprints_tell_functions_apart():
    def mark(function):
        return fingerprint(frozen(function))

    assert mark(made(2)) == mark(made(2))
    assert mark(made(2)) != mark(made(3))
    assert mark(made(2)) == mark(njit(made(2)))
    assert fingerprint(np.float32) != fingerprint(np.float64)
    assert mark(lambda x, scale=1: x) != mark(lambda x, scale=2: x)
    assert mark(lambda x, y: x) != mark(lambda y, x: x)
    assert mark(lambda x: 0.0) != mark(lambda x: -0.0)
    assert mark(lambda x: x + 1.0) != mark(lambda x: x - 1.0)
    assert mark(lambda x: x * math.sqrt(4.0)) == mark(lambda x: x * math.sqrt(4.0))
    assert mark(lambda x: x * math.sqrt(4.0)) != mark(lambda x: x * math.sqrt(9.0))
    assert mark(lambda x: x * math.sqrt(4.0)) != mark(lambda x: x * math.fabs(4.0))
    assert mark(made(made(2))) != mark(made(made(3)))
    assert mark(made((1, 2))) != mark(made((1, 3)))
    assert fingerprint(functools.partial(frozen(made(2)), 1)) != fingerprint(functools.partial(frozen(made(2)), 2))
    namespace_one, namespace_two = {"c": 1.0}, {"c": 2.0}
    for namespace in (namespace_one, namespace_two):
        exec("def user(x):\n    return x + c", namespace)
    assert mark(namespace_one["user"]) != mark(namespace_two["user"])


def test_what_has_no_fingerprint_is_not_cached():
    class Own:
        pass

    def calls_itself(x):
        return x if x < 1 else calls_itself(x / 2)

    def has_a_function_inside(x):
        def inside(z):
            return z * x

        return inside(x)

    for unknown in (object(), Own, np.zeros(2), [1.0], {"a": 1.0}, shutil, [].append):
        with pytest.raises(UnknownValueError):
            fingerprint(frozen(made(unknown)))
    for unknown in (calls_itself, has_a_function_inside):
        with pytest.raises(UnknownValueError):
            fingerprint(frozen(unknown))
    for unknown in (made(2), formula(made(2)), njit(made(2))):  # what they refer to may change
        with pytest.raises(UnknownValueError):
            fingerprint(unknown)


#: A user's function, and all that its value depends on.
USER = """
import json, math, sys
import numpy as np
from fastnn.kernels import jit
from fastnn.kernels.cpu.activations import activation_forward
from fastnn.kernels.formulas.own import activation_formulas
from helper import help_along

FACTOR = 2.0

def closed(term):
    def value(x, power=2):
        return help_along(x) * FACTOR + term + math.sqrt(4.0) * power
    return value

x = np.ones((1, 1), np.float32)
value, _ = activation_formulas(closed(1.0), closed(1.0))
if len(sys.argv) > 1:
    FACTOR = 10.0
    activation_forward(value)(x[:0], x[:0], 0, 1)
    value, _ = activation_formulas(closed(1.0), closed(1.0))
activation_forward(value)(x, x, 0, 1)
print(float(x[0, 0]), len(jit.compiled), len(jit.loaded))
"""
HELPER = """
CONSTANT = 3.0

def deeper(x):
    return x * CONSTANT

def help_along(x):
    return deeper(x)
"""


def test_a_users_function_is_cached_and_never_stale(tmp_path):
    """What a value depends on changes between processes; ``test_fingerprints_tell_functions_apart`` has more."""
    user, helper = tmp_path / "user.py", tmp_path / "helper.py"
    # Without bytecode: two edits within a second and of one length look alike.
    environment = environment_of(ROOT, tmp_path / "cache", PYTHONDONTWRITEBYTECODE="1")

    def run_user(*arguments):
        command = [sys.executable, user, *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return [float(number) for number in done.stdout.split()]

    user.write_text(USER)
    helper.write_text(HELPER)
    assert run_user() == [11.0, 1, 0]  # 1 * 3 * 2 + 1 + 2 * 2
    assert run_user() == [11.0, 0, 1]
    changes = {
        "a global": (user, "FACTOR = 2.0", "FACTOR = 4.0", 17.0),
        "a closure": (user, "closed(1.0), closed(1.0))\nif", "closed(5.0), closed(1.0))\nif", 15.0),
        "a callee's global": (helper, "CONSTANT = 3.0", "CONSTANT = 5.0", 15.0),
        "a callee's code": (helper, "x * CONSTANT", "x - CONSTANT", 1.0),
    }
    for what, (path, old, new, expected) in changes.items():
        text = path.read_text()
        assert old in text, what
        path.write_text(text.replace(old, new))
        assert run_user() == [expected, 1, 0], what
        path.write_text(text)
    assert run_user() == [11.0, 0, 1]
    # A global that changes in a process: what is made then has the new value, in memory and on the disk.
    assert run_user("change")[0] == 35.0  # 1 * 3 * 10 + 1 + 2 * 2
    assert run_user("change") == [35.0, 0, 2]
    assert run_user() == [11.0, 0, 1]


def test_code_that_is_not_inlined_is_not_cached(tmp_path, monkeypatch):
    """A function of the user's that the machine code would hold under a name of its own."""
    from fastnn.kernels import cache
    from fastnn.kernels.cpu.activations import activation_forward
    from fastnn.kernels.formulas import own

    def halved(x):
        return x if x < 1 else halved(x / 2)

    monkeypatch.setattr(cache, "folder", lambda: tmp_path)
    monkeypatch.setattr(cache, "fingerprint", lambda *value: "known")
    x = np.full((1, 1), 12.0)
    activation_forward(own.activation_formulas(halved, halved)[0])(x, x, 0, 1)
    assert x[0, 0] == 0.75
    assert entries(tmp_path) == []
