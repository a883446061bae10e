"""What a new process waits for: the import, compilation, and the first fit with a cold and a warm cache.

Each figure comes from processes of its own. Their compile cache is a temporary folder: the user's own is neither used
nor changed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time

#: One epoch of a network on the digits; prints its seconds, without the imports.
FIT = """
import time
import fastnn as fn
X, y = fn.datasets.digits()
layers = [fn.Input(64), fn.Dense(64, activation="relu"), fn.Dense(64, activation="relu")]
model = fn.Model([*layers, fn.Dense(10, activation="softmax")], seed=0)
model.compile(fn.Adam(1e-3), "cross_entropy")
started = time.perf_counter()
model.fit(X, y, batch_size=32, epochs=1, verbose=0)
print(time.perf_counter() - started)
"""

#: After the fit above: seconds of the first fit of another model, which may differ in one thing.
AGAIN = """
import numpy as np
model = fn.Model([fn.Input(64), fn.Dense({units}, activation={activation!r}), fn.Dense(10, activation="softmax")])
model.compile({optimizer!r}, {loss!r})
targets = np.eye(10)[y]
started = time.perf_counter()
model.fit(X, targets, batch_size={batch_size}, epochs=1, verbose=0)
print(time.perf_counter() - started)
"""
USUAL = {"units": 64, "batch_size": 32, "activation": "relu", "optimizer": "adam", "loss": "cross_entropy"}
CHANGES = {
    "nothing": {},
    "architecture": {"units": 33},
    "batch size": {"batch_size": 50},
    "activation": {"activation": "tanh"},
    "optimizer": {"optimizer": "rmsprop"},
    "loss": {"loss": "mse"},
}


def changed(what: str) -> str:
    """A program that fits, and fits again with something changed."""
    return FIT + AGAIN.format(**(USUAL | CHANGES[what]))


def run(program: str, cache: str | None = None) -> tuple[float, float]:
    """Run a program in a new process: seconds of all of it, and the seconds that it prints last (else 0)."""
    environment = dict(os.environ)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # each process would translate all sources anew
    if cache is not None:
        environment["FASTNN_CACHE_DIR"] = cache
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    whole = time.perf_counter() - started
    if done.returncode != 0:
        raise RuntimeError(f"the program failed:\n{program}\n{done.stderr}")
    lines = done.stdout.split()
    return whole, float(lines[-1]) if lines else 0.0


class Import:
    """Seconds of the import in a new process, without Python's own start."""

    params = ["numpy", "fastnn", "fastnn after numpy"]
    param_names = ["module"]

    def timeraw_import(self, module):
        if module == "fastnn after numpy":
            return "import fastnn", "import numpy"
        return f"import {module}"

    timeraw_import.number = 1


class Cold:
    """The first fit on a machine, with an empty compile cache."""

    number, rounds, repeat, warmup_time = 1, 1, (1, 3, 10.0), 0
    timeout = 300
    unit = "s"

    def setup(self):
        self.folder = tempfile.TemporaryDirectory()

    def teardown(self):
        self.folder.cleanup()

    def time_process(self):
        """All of the process, imports included."""
        run(FIT, self.folder.name)

    def track_compilation(self):
        """How much longer the first fit takes with an empty cache than with a full one."""
        cold, warm = (run(FIT, self.folder.name)[1] for _ in range(2))
        return cold - warm


class Warm:
    """The first fit of a later process, with a filled compile cache, and the next one with something changed."""

    timeout = 300

    def setup_cache(self):
        """Compile all that the programs need into a folder beside asv's own temporary files."""
        folder = os.path.abspath("compiled")
        for what in CHANGES:
            run(changed(what), folder)
        return folder

    def time_process(self, folder):
        """All of the process, imports included."""
        run(FIT, folder)

    time_process.number, time_process.repeat, time_process.warmup_time = 1, (2, 10, 10.0), 0

    def track_fit(self, folder):
        """Without the imports."""
        return run(FIT, folder)[1]

    track_fit.unit = "s"

    def track_change(self, folder, what):
        """The second fit of a process."""
        return run(changed(what), folder)[1]

    track_change.unit = "s"
    track_change.params, track_change.param_names = list(CHANGES), ["changed"]
