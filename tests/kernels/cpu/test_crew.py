"""Threads that stay for the next call: they are found again, end by themselves, and nobody waits for ever."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import fastnn as fn
from fastnn.kernels.cpu import crew
from fastnn.kernels.cpu.crew import DONE, POSTED, end_idle, run_together
from fastnn.kernels.cpu.workers import barrier, new_sync
from fastnn.kernels.jit import COMPILED
from fastnn.kernels.layout import FAULT, NOT_FINITE, OK
from fastnn.kernels.memory import vector


def count(run, program, rank, size):
    """Add rank + 1 to the run record's number; fail where the program says so; all workers meet at a barrier."""
    numbers, orders = vector(run, 1, np.int64), vector(program, 2, np.int64)
    numbers[0] += rank + 1
    return barrier(orders[0], rank, size, 1, NOT_FINITE if orders[1] == rank + 1 else OK)


def together(size, failing=0, function=count):
    """Run a function with ``size`` workers; returns the status and what each has added."""
    sync = new_sync(size)
    program, runs = np.array([sync.ctypes.data, failing]), [np.zeros(1, np.int64) for _ in range(size)]
    return run_together(function, runs, program, sync), [int(run[0]) for run in runs]


def leave(run, program, rank, size):
    """One worker leaves, as after an exception in a C function; the others wait for it at a barrier."""
    orders = vector(program, 2, np.int64)
    return FAULT if orders[1] == rank + 1 else barrier(orders[0], rank, size, 1, OK)


@pytest.fixture
def hands(monkeypatch):
    """The idle threads: none yet."""
    idle: list[crew.Hand] = []
    monkeypatch.setattr(crew, "_idle", idle)
    yield idle
    left = [hand.thread for hand in idle]
    end_idle()
    assert idle == [] and not any(thread.is_alive() for thread in left)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_each_record_is_run_once(size, hands):
    for _ in range(20):
        assert together(size) == (OK, list(range(1, size + 1)))
    assert len(hands) == size - 1, "the same threads each time"
    assert all(hand.box[POSTED] == hand.box[DONE] == 20 for hand in hands)


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_all_get_the_status_of_the_one_that_failed(failing, hands):
    assert together(3, failing)[0] == NOT_FINITE
    assert together(3)[0] == OK


@pytest.mark.parametrize("leaving", [1, 2, 3])
def test_nobody_waits_for_one_that_has_left(leaving, hands):
    assert together(3, leaving, leave)[0] == FAULT
    assert together(3)[0] == OK


def test_a_thread_sleeps_and_is_woken(hands):
    together(2)
    for pause in (0.0, 0.02, 0.2):
        time.sleep(pause)  # longer than it spins
        assert together(2) == (OK, [1, 2])
    assert len(hands) == 1


def test_a_thread_without_work_ends(hands, monkeypatch):
    monkeypatch.setattr(crew, "SLEEP", 0.05)
    together(3)
    threads = [hand.thread for hand in hands]
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads) and hands == []
    assert together(3) == (OK, [1, 2, 3])


def test_calls_from_several_threads_at_once(hands):
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: together(3), range(100 if COMPILED else 10)))
    assert all(one == (OK, [1, 2, 3]) for one in found)
    assert len(hands) <= 8


def test_calls_while_threads_are_about_to_end(hands, monkeypatch):
    """Each call comes at about the moment at which the thread gives up waiting."""
    monkeypatch.setattr(crew, "SLEEP", 0.002)
    for index in range(200 if COMPILED else 20):
        assert together(2) == (OK, [1, 2])
        time.sleep(0.002 + 1e-5 * (index % 50))


def test_a_worker_that_fails_leaves_nobody_spinning(hands, monkeypatch):
    def broken(*_):
        raise MemoryError("planted")

    entry = crew.c_function
    monkeypatch.setattr(crew, "c_function", lambda function: broken if function is crew.serve else entry(function))
    with pytest.raises(MemoryError, match="planted"):
        together(3)
    monkeypatch.setattr(crew, "c_function", entry)
    assert together(3) == (OK, [1, 2, 3])


def test_ctrl_c_while_threads_start_leaves_those_that_run_idle(hands, monkeypatch):
    start, started = threading.Thread.start, []

    def interrupted(thread):
        if started:
            raise KeyboardInterrupt
        started.append(thread)
        start(thread)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(threading.Thread, "start", interrupted)
        together(4)
    assert [hand.thread for hand in hands] == started
    assert together(4) == (OK, [1, 2, 3, 4])


def test_ctrl_c_between_two_beginnings_ends_those_that_have_begun(hands, monkeypatch):
    begin, begun = crew.Hand.begin, []

    def interrupted(hand, *arguments):
        if begun:
            raise KeyboardInterrupt
        begun.append(hand)
        begin(hand, *arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(crew.Hand, "begin", interrupted)
        together(3)
    assert len(hands) == 2 and all(hand.box[POSTED] == hand.box[DONE] for hand in hands)
    assert together(3) == (OK, [1, 2, 3])


def test_ctrl_c_between_a_post_and_its_ring_costs_no_time(hands, monkeypatch):
    ring, pressed = crew.Hand.ring, []

    def interrupted(hand):
        if not pressed:
            pressed.append(hand)
            raise KeyboardInterrupt
        ring(hand)

    together(2)
    time.sleep(0.1)  # it sleeps now, and would for seconds
    started = time.monotonic()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(crew.Hand, "ring", interrupted)
        together(2)
    assert time.monotonic() - started < crew.SLEEP / 2
    assert hands[0].box[POSTED] == hands[0].box[DONE]


def test_ctrl_c_while_threads_end_is_raised_when_they_have_ended(hands, monkeypatch):
    end, pressed = crew.Hand.end, []

    def interrupted(hand):
        if not pressed:
            pressed.append(hand)
            raise KeyboardInterrupt
        return end(hand)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(crew.Hand, "end", interrupted)
        together(3)
    assert len(hands) == 2 and all(hand.box[POSTED] == hand.box[DONE] for hand in hands)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_begins_threads_of_its_own():
    """Python 3.12 and later warn of a fork beside threads: there are none."""
    together(2)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        before, found, after = len(crew._idle), together(2), len(crew._idle)
        os.write(writing, bytes([before, found == (OK, [1, 2]), after]))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == bytes([0, True, 1])
    os.waitpid(child, 0)
    assert crew._idle == []


SCRIPT = """
import sys, threading, time
sys.path[:0] = {paths!r}
from test_crew import together
together(3)
{end}
"""

ENDS = {"while they spin": "", "while they sleep": "time.sleep(0.1)", "by an error": "raise SystemExit(0)"}


@pytest.mark.parametrize("end", ENDS)
def test_python_ends_at_once(end, tmp_path):
    folder = Path(__file__).parent
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(paths=[str(folder.parents[2]), str(folder)], end=ENDS[end]))
    started = time.monotonic()
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert time.monotonic() - started < 60


def test_where_threads_cannot_be_begun_nothing_is_run(monkeypatch, hands):
    monkeypatch.setattr(crew, "Hand", lambda: (_ for _ in ()).throw(RuntimeError("can't start new thread")))
    assert together(3) == (None, [0, 0, 0])


def test_a_model_is_trained_batch_by_batch_with_the_same_bits(hands):
    X = np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32)
    found = []
    for threads in (1, 3):
        model = fn.Model([fn.Input(6), fn.Dense(8, "relu"), fn.Dense(1)], seed=0)
        model.compile("adam", "mse", threads=threads)
        for index in range(10):
            model.train_on_batch(X[4 * index :][:4], X[4 * index :][:4, 0])
        found.append(model.arenas.parameters.tobytes())
    assert found[0] == found[1] and len(hands) == 2
