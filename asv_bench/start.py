"""What a new process waits for: the import, and the first fit with an empty compile cache and with a filled one.

python -m asv_bench.start [--repeats 5] [--cold 2]

Each figure comes from processes of its own. The fit is one epoch on the digits; its compile cache is a
temporary folder, so the user's own is neither used nor changed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time

from asv_bench.benchmarks.start import FIT, run

#: In the same process, NumPy first, so that what is counted is what fastnn adds to it.
IMPORT = """
import time
import numpy
started = time.perf_counter()
import fastnn
print(time.perf_counter() - started)
"""


def run_to_the_end_of_the_fit(cache: str) -> float:
    """Seconds from the start of a new process to the end of its first fit: without what Python does when it ends."""
    return run(f"{FIT}print(time.time() - {time.time()})", cache)[1]


def show(name: str, seconds: list[float], unit: float = 1.0, suffix: str = "s") -> None:
    scaled = [unit * value for value in seconds]
    print(f"{name:44}{statistics.median(scaled):9.2f}{min(scaled):9.2f}{max(scaled):9.2f} {suffix}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cold", type=int, default=2, help="first fits with an empty cache (2)")
    options = parser.parse_args()
    print(f"{'':44}{'median':>9}{'minimum':>9}{'largest':>9}")

    run("import fastnn")  # so that no figure below is of files that the disk has yet to read
    numpy_alone, with_fastnn, added = [], [], []
    for _ in range(3 * options.repeats):
        numpy_alone.append(run("import numpy")[0])
        with_fastnn.append(run("import fastnn")[0])
        added.append(run(IMPORT)[1])
    show("process that imports numpy", numpy_alone, 1e3, "ms")
    show("process that imports fastnn", with_fastnn, 1e3, "ms")
    show("import fastnn after numpy, by its own clock", added, 1e3, "ms")
    difference = statistics.median(with_fastnn) - statistics.median(numpy_alone)
    print(f"import fastnn over import numpy, difference of the medians: {1e3 * difference:.1f} ms")

    cold, warm, fitted = [], [], []
    for _ in range(options.cold):
        with tempfile.TemporaryDirectory() as cache:
            cold.append(run(FIT, cache))
            for _ in range(options.repeats):
                warm.append(run(FIT, cache))
                fitted.append(run_to_the_end_of_the_fit(cache))
    show("first fit, cold cache", [fit for _, fit in cold])
    show("first fit, cold cache: whole process", [whole for whole, _ in cold])
    show("first fit, warm cache", [fit for _, fit in warm])
    show("first fit, warm cache: to its end", fitted)
    show("first fit, warm cache: whole process", [whole for whole, _ in warm])


if __name__ == "__main__":
    main()
