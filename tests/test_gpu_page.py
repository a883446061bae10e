"""The page that ``asv_bench.gpu`` writes: what is known stays, whatever a section or a process of it does."""

import json
import os
import signal
import sys
import threading
import time

import pytest

from asv_bench import gpu
from tests.kernels.test_cuda import FILES, ROOT


def test_a_section_that_fails_leaves_what_was_known(tmp_path, capsys):
    def whole(deadline):
        yield ["first"]
        yield ["first", "second"]

    def broken(deadline):
        yield ["as far as this"]
        raise OSError("the machine went away")

    output = tmp_path / "page.md"
    sections = [gpu.Section("## A", 1, whole), gpu.Section("## B", 1, broken), gpu.Section("## C", 1, whole)]
    assert not gpu.write(sections, time.monotonic() + 60, output)
    page = output.read_text("utf-8")
    assert page.count("first\nsecond\n") == 2
    assert "## B\n\nas far as this\n\nBroken off: `OSError('the machine went away')`\n\n## C\n" in page
    assert "the machine went away" in capsys.readouterr().err
    assert gpu.write(sections[:1], time.monotonic() + 60, output)


def test_the_page_is_there_before_the_next_line_is_known(tmp_path):
    output = tmp_path / "page.md"

    def slow(deadline):
        yield ["known"]
        assert output.read_text("utf-8").endswith("## A\n\nknown\n")
        yield ["known", "too"]

    assert gpu.write([gpu.Section("## A", 1, slow)], time.monotonic() + 60, output)


def test_time_that_a_section_leaves_goes_to_the_next(tmp_path):
    deadlines = []

    def quick(deadline):
        deadlines.append(deadline)
        yield []

    start = time.monotonic()
    gpu.write([gpu.Section("", share, quick) for share in (1, 2, 1)], start + 100, tmp_path / "page.md")
    assert [round(deadline - start) for deadline in deadlines] == [25, 67, 100]


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
def test_a_process_that_hangs_is_ended_with_those_that_it_started(tmp_path, monkeypatch):
    """Also where it does not listen when it is asked to end."""
    monkeypatch.setattr(gpu, "ASKED", 0.1)
    file = tmp_path / "file"
    hangs = "trap '' INT; (while true; do echo >> \"$1\"; sleep 0.05; done) & echo child; wait"
    lines, why = gpu.run(["sh", "-c", hangs, "sh", str(file)], time.monotonic() + 1)
    assert (lines, why) == (["child"], "no time left")
    size = file.stat().st_size
    time.sleep(0.3)
    assert file.stat().st_size == size > 0


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
def test_a_process_that_takes_too_long_may_say_what_it_found():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell traps no signal that it finds ignored
    try:
        lines, why = gpu.run(["sh", "-c", "trap 'echo found; exit 1' INT; sleep 60 & wait"], time.monotonic() + 1)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (lines, why) == (["found"], "no time left")


def test_why_a_process_failed(capsys):
    fails = (
        "import atexit, sys; atexit.register(print, 'a last word', file=sys.stderr); print(1); raise ValueError('so')"
    )
    lines, why = gpu.run([sys.executable, "-c", fails], time.monotonic() + 60)
    assert (lines, why) == (["1"], "ValueError: so")
    assert "Traceback" in capsys.readouterr().err
    lines, why = gpu.run([sys.executable, "-c", "import os; os._exit(3)"], time.monotonic() + 60)
    assert (lines, why) == ([], "exit status 3")


def test_records_among_other_lines():
    assert gpu.records(["a warning", json.dumps({"n": 1}), "3", '{"n": 2', ""]) == [{"n": 1}]


def test_steps_of_peers_that_fail_differ_or_are_not_there(monkeypatch):
    """A ratio is given beside fastnn alone, and where the losses agree."""

    def measure(peer, workload, precision, deadline):
        if peer == "torch.compile":
            return "not installed"
        if workload == "tiny" and peer in ("fastnn", "jax"):
            return "it broke"
        losses = [float("nan")] * 3 if (peer, workload) == ("fastnn", "huge") else [3.0 if peer == "jax" else 1.0] * 3
        return {"seconds": [1e-6, 2e-6, 9e-6] if peer == "fastnn" else [4e-3] * 3, "result": losses}

    monkeypatch.setattr(gpu, "measure", measure)
    *_, lines = gpu.steps(time.monotonic() + 60)
    rows = {line.split(" | ")[0]: line.strip(" |").split(" | ")[1:] for line in lines if line.startswith("| ")}
    assert rows["| 2-16-1, 32, float32"] == ["failed", "4,000", "failed", "4,000", "not installed"]
    digits = ["2", "4,000 (2e+03)", "4,000 (losses differ)", "4,000 (2e+03)", "not installed"]
    assert rows["| 64-64-64-10, 32, float32"] == digits
    assert rows["| 4096-4096-4096-10, 256, tf32"][:2] == ["2 (losses not finite)", "4,000 (losses differ)"]
    assert "- jax, tiny, float32: `it broke`" in lines


def test_whatever_runs_in_the_simulator_runs_on_a_gpu():
    """Not only what is marked ``gpu``, which has sizes for a real one alone: that compares no fit with the CPU's."""
    whole, small, kernels = gpu.test_commands()[:3]
    assert whole[-4:-2] == ["-m", "gpu"] and whole[-1] == "tests/test_gpu.py"
    assert f"--deselect={whole[-2]}" in kernels, "which looks at memory that others take at the same time"
    assert small[-3:] == ["-m", "not gpu", "tests/test_gpu.py"]
    assert kernels[-1] == "tests/kernels/cuda" and "gpu" not in kernels
    for path in FILES:
        name = path.relative_to(ROOT).as_posix()
        assert name == "tests/test_gpu.py" or name.startswith("tests/kernels/cuda/test_")


def test_all_workloads_are_compiled_at_once(monkeypatch):
    together = threading.Barrier(len(gpu.STEPS), timeout=60)

    def measure(peer, workload, precision, deadline, task, threads):
        together.wait()
        assert (peer, task, threads) == ("fastnn", "first", gpu.cores())
        return "it broke" if (workload, precision) == ("wide", "tf32") else {"seconds": [2.0], "result": [1.0]}

    monkeypatch.setattr(gpu, "measure", measure)
    ((line,),) = gpu.compilation(time.monotonic() + 60)
    assert "tiny, float32: 2.0 s; digits, float32: 2.0 s;" in line and "wide, tf32: it broke;" in line
