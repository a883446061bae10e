"""What all tests share: the settings of hypothesis, and a line that says in which mode the kernels run."""

import os
import signal

import hypothesis

# Compiling takes its time, so no deadline; the same examples each time, so that a failure comes again.
hypothesis.settings.register_profile("fastnn", deadline=None, derandomize=True, max_examples=30, database=None)
hypothesis.settings.load_profile("fastnn")

# A shell starts commands in the background with Ctrl-C ignored, which some tests press.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str:
    from fastnn.kernels.cpu.vectors import VECTOR_BYTES
    from fastnn.kernels.jit import COMPILED

    mode = "compiled" if COMPILED else "plain Python (NUMBA_DISABLE_JIT)"
    if COMPILED and os.environ.get("NUMBA_BOUNDSCHECK", "0") not in ("", "0"):
        mode += ", indices checked (NUMBA_BOUNDSCHECK)"
    return f"kernels: {mode}, vectors of {VECTOR_BYTES} bytes"
