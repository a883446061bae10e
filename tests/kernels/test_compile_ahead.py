"""Compiling in several processes: what helpers make is used, and whatever goes wrong with them goes unnoticed."""

import contextlib
import functools
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import time
from functools import partial

import numpy as np
import pytest

from fastnn.kernels import cache, compile_ahead, jit
from fastnn.kernels.cpu import dense, engine, losses, rows, updates
from fastnn.kernels.cpu.activations import ACTIVATIONS, plan_activation_forward
from fastnn.kernels.formulas.own import frozen
from fastnn.kernels.jit import COMPILED, formula

pytestmark = pytest.mark.skipif(not COMPILED, reason="the compiler is disabled")

FACTORIES = rows.plan_keep_rows, rows.plan_weigh_rows, dense.plan_dense_forward
CALLS = [partial(factory, real) for factory in FACTORIES for real in (np.float32, np.float64)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty cache, functions that are not compiled yet, and two processes."""
    place = tmp_path / cache.stamp()
    place.mkdir()
    for module in (cache, compile_ahead):
        monkeypatch.setattr(module, "folder", lambda: place)
        monkeypatch.setattr(module, "writable", lambda: True)
    for factory in FACTORIES:
        factory.cache_clear()
    monkeypatch.setenv("FASTNN_COMPILE_PROCESSES", "2")
    monkeypatch.setattr(sys, "frozen", False, raising=False)
    return place


def entries(folder):
    return [path for path in folder.iterdir() if "-" in path.name]


@pytest.fixture
def started(monkeypatch):
    """The processes that are started."""
    processes, popen = [], subprocess.Popen

    def note(*arguments, **options):
        processes.append(popen(*arguments, **options))
        return processes[-1]

    monkeypatch.setattr(subprocess, "Popen", note)
    return processes


@pytest.fixture
def here(monkeypatch):
    """The functions that this process compiles; it only notes them."""
    functions = []
    monkeypatch.setattr(jit, "compile_now", lambda function: functions.append(function) or time.sleep(0.01))
    return functions


def test_a_helper_compiles_what_this_process_loads(folder, started, monkeypatch, capfd):
    before, loaded, compile_now, helped = len(jit.compiled), len(jit.loaded), jit.compile_now, []

    def wait_for_the_helper(function):
        """Before the second function, so that it has a part in this."""
        while jit.compiled[before:] and not helped:
            helped.extend(entry for entry in entries(folder) if not entry.name.startswith("rows.plan_keep_rows"))
            time.sleep(0.01)
        compile_now(function)

    monkeypatch.setattr(jit, "compile_now", wait_for_the_helper)
    compile_ahead.compile_ahead(CALLS)
    assert len(helped) >= 1 and len(started) == 1 and started[0].returncode is not None
    assert len(jit.compiled) - before == len(CALLS) and len(jit.loaded) == loaded
    assert len(entries(folder)) == len(CALLS)
    assert all(jit.on_disk(call()) for call in CALLS)
    assert capfd.readouterr() == ("", "")
    compile_ahead.compile_ahead(CALLS)
    assert len(started) == 1 and len(jit.compiled) - before == len(CALLS)


FAULTS = {
    "dies at once": "raise SystemExit(1)",
    "dies with a function": "import sys; print(end='.', flush=True); sys.stdin.buffer.read(9); sys.exit('a fault')",
    "hangs at once": "import time; time.sleep(600)",
    "hangs with a function": "import time; print(end='.', flush=True); time.sleep(600)",
    "prints": "import sys; print('noise', flush=True); print('noise', file=sys.stderr); sys.stdin.read()",
    "reads nothing": "import os, time; os.close(0); print(end='....', flush=True); time.sleep(600)",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_a_helper_does_all_is_compiled(fault, folder, started, here, monkeypatch, capfd):
    monkeypatch.setattr(compile_ahead, "PROGRAM", FAULTS[fault])
    monkeypatch.setattr(compile_ahead, "LEAST_PATIENCE", 0.2)
    popen = subprocess.Popen

    def popen_and_wait(*arguments, **options):  # until the fault has come
        process = popen(*arguments, **options)
        time.sleep(0.5)
        return process

    monkeypatch.setattr(subprocess, "Popen", popen_and_wait)
    begun = time.monotonic()
    compile_ahead.compile_ahead(CALLS)
    assert time.monotonic() - begun < 20
    assert set(here) == {call() for call in CALLS} and entries(folder) == []
    assert len(started) == 1 and started[0].returncode is not None
    assert capfd.readouterr() == ("", "")
    assert not [thread for thread in threading.enumerate() if isinstance(thread, compile_ahead._Helper)]


@pytest.mark.parametrize("what", ["process", "thread"])
def test_without_a_process_or_a_thread_all_is_compiled(what, folder, here, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError("no more processes") if what == "process" else RuntimeError("can't start new thread")

    monkeypatch.setattr(*((subprocess, "Popen") if what == "process" else (threading.Thread, "start")), refuse)
    compile_ahead.compile_ahead(CALLS)
    assert set(here) == {call() for call in CALLS}


def test_an_interrupt_ends_the_helpers(folder, started, monkeypatch):
    def interrupt(function):
        raise KeyboardInterrupt

    monkeypatch.setattr(jit, "compile_now", interrupt)
    monkeypatch.setattr(compile_ahead, "PROGRAM", FAULTS["hangs with a function"])
    with pytest.raises(KeyboardInterrupt):
        compile_ahead.compile_ahead(CALLS)
    assert len(started) == 1 and started[0].returncode is not None


def test_a_helper_ends_when_nobody_reads_it(folder):
    """As when the process that started it is killed."""
    waiting = compile_ahead.deque()
    helper = compile_ahead._Helper(waiting)
    try:
        helper.process.stdin.close()
        assert helper.process.wait(60) == 0
    finally:
        helper.end()


def one_core(monkeypatch):
    monkeypatch.delenv("FASTNN_COMPILE_PROCESSES")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)


def test_a_helper_with_another_stamp_takes_nothing(folder, monkeypatch):
    """As after an edit of the sources, or with another setting: what it made would never be found."""
    for stamp, answer in ((cache.stamp(), b"."), ("another", b"")):
        monkeypatch.setattr(compile_ahead, "stamp", lambda stamp=stamp: stamp)
        helper = compile_ahead._Helper(compile_ahead.deque())
        try:
            assert helper.process.stdout.read(1) == answer
        finally:
            helper.end()


#: What makes this process compile alone.
REASONS = {
    "a core": one_core,
    "switched off": lambda patch: patch.setenv("FASTNN_COMPILE_PROCESSES", "1"),
    "frozen": lambda patch: patch.setattr(sys, "frozen", True),
    "no Python": lambda patch: patch.setattr(sys, "executable", ""),
    "another program": lambda patch: patch.setattr(sys, "executable", "/bin/sh"),
    "in a pool": lambda patch: patch.setattr(multiprocessing.current_process(), "_name", "SpawnPoolWorker-1"),
    "no cache that can be written": lambda patch: patch.setattr(compile_ahead, "writable", lambda: False),
    "no compiler": lambda patch: patch.setattr(jit, "COMPILED", False),
}


def test_when_there_are_no_helpers(folder, started, here, monkeypatch):
    for what, change in REASONS.items():
        with monkeypatch.context() as patch:
            change(patch)
            compile_ahead.compile_ahead(CALLS)
        assert started == [], what
    compile_ahead.compile_ahead(CALLS[:2])
    assert started == [], "for two functions"
    with contextlib.ExitStack() as stack:
        assert compile_ahead._alone(stack)
        compile_ahead.compile_ahead(CALLS)
        assert started == [], "while others have some"
    compile_ahead.compile_ahead(CALLS)
    assert len(started) == 1


def test_the_number_of_processes(monkeypatch):
    setting = "FASTNN_COMPILE_PROCESSES"
    monkeypatch.setenv(setting, "3")
    assert compile_ahead.processes() == 3
    monkeypatch.setenv(setting, "1000")
    assert compile_ahead.processes() == compile_ahead.MOST_PROCESSES
    monkeypatch.delenv(setting)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # as on macOS and Windows
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert compile_ahead.processes() == 2
    for text in ("0", "-1", "two", "1025"):
        monkeypatch.setenv(setting, text)
        with pytest.raises(ValueError, match=f"{setting} is '{text}'; expected a whole number from 1 to 1024"):
            compile_ahead.processes()


@formula
def of_a_user(x):
    return x


class Update:
    def __call__(self, p, g, slots, rate, step, settings):
        return p


def test_what_is_named_is_found_again_and_nothing_of_a_user_is_named():
    value = ACTIVATIONS["relu"][1]
    for call in (
        engine.train,
        partial(dense.plan_dense_forward, np.float32),
        partial(plan_activation_forward, value, np.float64),
        partial(losses.plan_elementwise_loss, *losses.formulas_of("squared_error"), np.float32),
        partial(losses.plan_fused_loss, losses.softmax_cross_entropy, np.float32),
    ):
        again = pickle.loads(compile_ahead._named(call))
        if isinstance(call, functools.partial):
            assert (again.func, again.args) == (call.func, call.args)
        else:
            assert again is call
    for own in (of_a_user, formula(frozen(lambda x: x)), lambda x: x, Update(), Update):
        assert compile_ahead._named(partial(plan_activation_forward, own, np.float32)) is None
        assert compile_ahead._named(partial(updates.plan_own_update, own, 0, np.float32)) is None
