"""Training in other processes: forked, spawned, and started by joblib."""

import multiprocessing
import os
import sys

import numpy as np
import pytest

import fastnn as fn


def trained(threads):
    """The parameters after a short fit, as bytes; a function of the module, so that children can import it."""
    X = np.random.default_rng(0).standard_normal((100, 5)).astype(np.float32)
    y = (X[:, 0] > 0).astype(int)
    model = fn.Model([fn.Input(5), fn.Dense(8, "relu"), fn.Dropout(0.2), fn.Dense(2, "softmax")], seed=0)
    model.compile("adam", "cross_entropy", threads=threads)
    model.fit(X, y, epochs=3)
    return model.arenas.parameters.tobytes()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_after_fork():
    expected = trained(2)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        found = b""
        try:
            found = trained(2)
        finally:
            os.write(writing, found)
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == expected
    os.waitpid(child, 0)


SCRIPT = """
import sys, multiprocessing
sys.path[:0] = [{root!r}, {folder!r}]
from test_processes import trained

if __name__ == "__main__":
    expected = trained(2)
    {body}
    assert all(result == expected for result in found), "a child got other bits"
    print("equal")
"""

BODIES = {
    "spawn": "with multiprocessing.get_context('spawn').Pool(2) as pool: found = pool.map(trained, [1, 2, 2])",
    "loky": "import joblib; found = joblib.Parallel(2)(joblib.delayed(trained)(threads) for threads in [1, 2, 2])",
}


@pytest.mark.parametrize("kind", BODIES)
def test_in_children(kind, tmp_path):
    import subprocess
    from pathlib import Path

    if kind == "loky":
        pytest.importorskip("joblib")
    folder = Path(__file__).parent
    script = tmp_path / "main.py"
    script.write_text(SCRIPT.format(root=str(folder.parent), folder=str(folder), body=BODIES[kind]))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder.parent), str(folder)])}
    done = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "equal"


def test_more_workers_than_cores_have_the_same_bits():
    assert trained(1) == trained(4 * multiprocessing.cpu_count())
