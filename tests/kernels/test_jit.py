"""The decorators of compiled functions: the same in plain Python, addresses, and what is told of compiling."""

import functools
import gc
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numba.core import compiler
from numba.core.caching import NullCache
from numba.core.errors import TypingError
from numba.core.runtime import _nrt_python, rtsys

from fastnn.kernels import jit
from fastnn.kernels.compiler import INTERLEAVED
from fastnn.kernels.cpu.updates import own_update
from fastnn.kernels.jit import COMPILED, address, formula, interleaved, kernel
from fastnn.kernels.memory import call

ROOT = Path(__file__).resolve().parents[2]
needs_compiler = pytest.mark.skipif(not COMPILED, reason="the compiler is disabled")


@formula
def twice(x):
    return x + x


@kernel
def double(x):
    for i in range(x.shape[0]):
        x[i] = twice(x[i])


@functools.cache
def plan_sum(more):
    def add(run, row, first, last):
        return twice(run + row + first + last) + more

    return add


@kernel
def start(function, run, row, first, last):
    return call(function, run, row, first, last)


def test_a_formula_runs_in_python_and_in_a_kernel():
    assert twice(3.5) == 7
    x = np.arange(3.0)
    double(x)
    assert x.tolist() == [0, 2, 4]


def test_an_address_is_called():
    assert start(address(plan_sum(0)), 1, 2, 3, 4) == 20
    assert start(address(plan_sum(1)), 1, 2, 3, 4) == 21


def test_equal_functions_have_one_address():
    assert address(plan_sum(2)) == address(plan_sum(2)) != address(plan_sum(3))


def test_threads_get_one_address():
    before, barrier = len(jit.compiled) + len(jit.loaded), threading.Barrier(4)

    def ask(_):
        barrier.wait()
        return address(plan_sum(4))

    with ThreadPoolExecutor(4) as threads:
        assert len(set(threads.map(ask, range(4)))) == 1
    assert len(jit.compiled) + len(jit.loaded) - before == (1 if COMPILED else 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_an_address_holds_in_a_fork():
    here = address(plan_sum(5))
    start(here, 0, 0, 0, 0)
    child = os.fork()
    if child == 0:
        fine = address(plan_sum(5)) == here and start(here, 1, 1, 1, 1) == 13
        os._exit(0 if fine else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def unknown():
    """A value without a fingerprint, so that what closes over it is never found in a cache."""
    return np.zeros(1)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="Windows has no timers that send signals")
def test_a_signal_does_not_break_the_compiler_off():
    """Where it does, in the middle of Numba's registries, nothing can be compiled any more."""

    def ring(*_):
        raise TimeoutError

    def work():
        started.set()
        time.sleep(0.2)
        done.append(threading.current_thread() is threading.main_thread())
        ended.set()

    started, ended, done = threading.Event(), threading.Event(), []
    before = signal.signal(signal.SIGALRM, ring)
    try:
        with pytest.raises(TimeoutError):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            jit.undisturbed(work)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert started.is_set() and not done
    assert ended.wait(10) and done == [False]


def test_a_module_may_compile_while_it_is_imported(tmp_path):
    """Numba imports the module of a function; another thread would wait for the import's end."""
    (tmp_path / "at_import.py").write_text(
        "from fastnn.kernels import jit\nimport threading\nfound = jit.undisturbed(threading.current_thread)\n"
    )
    code = "import at_import, threading; assert at_import.found is threading.main_thread()"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT.parent), str(tmp_path)])}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=environment)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no forks")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_waits_for_a_compilation_and_its_child_may_compile():
    started = threading.Event()

    def compile_something():
        with jit.global_compiler_lock:
            started.set()
            time.sleep(0.2)

    thread = threading.Thread(target=compile_something)
    thread.start()
    started.wait()
    child = os.fork()
    if child == 0:
        signal.alarm(10)  # rather than wait for ever
        with jit.global_compiler_lock:
            os._exit(0)
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_what_is_not_disturbed_tells_what_came_of_it(monkeypatch):
    def fails():
        raise jit.FormulaError("cannot be compiled")

    assert jit.undisturbed(lambda: 3) == 3
    with pytest.raises(jit.FormulaError, match="cannot be compiled"):
        jit.undisturbed(fails)
    with jit.global_compiler_lock:  # another thread would wait for it in vain
        assert jit.undisturbed(threading.current_thread) is threading.current_thread()
    monkeypatch.setattr(threading.Thread, "start", lambda self: (_ for _ in ()).throw(RuntimeError("can't start")))
    assert jit.undisturbed(threading.current_thread) is threading.current_thread()


@needs_compiler
def test_told_before_compiling_and_never_in_the_way(monkeypatch):
    told = []

    def tell(name):
        told.append(name)
        raise RuntimeError("ignored")

    monkeypatch.setattr(jit, "on_compile", tell)
    table = unknown()

    @kernel
    def shift(x):
        return x + table[0]

    assert shift(2.0) == 2
    assert shift(3.0) == 3
    (name,) = told
    assert name == jit.compiled[-1] and name.startswith("test_jit.") and name.endswith("shift")


@needs_compiler
def test_a_kernel_that_others_call_is_compiled_with_them_alone():
    @kernel
    def halve(x):
        for i in range(x.shape[0]):
            x[i] = x[i] / 2

    @kernel
    def quarter(x):
        halve(x)
        halve(x[0:2])

    x, compiled, loaded = np.array([4.0, 8.0, 12.0]), len(jit.compiled), len(jit.loaded)
    quarter(x)
    assert x.tolist() == [1, 2, 6] and not halve.overloads
    (name,) = jit.compiled[compiled:] + jit.loaded[loaded:]
    assert name.endswith("quarter")
    halve(x)
    assert x.tolist() == [0.5, 1, 3]


@needs_compiler
def test_a_formula_is_compiled_once_for_all_constants():
    @formula
    def minus(x, y):
        return x - y

    @kernel
    def differences(x):
        x[0], x[1], x[2] = minus(7, 4), minus(7, 5), minus(x.shape[0], 1)

    x = np.zeros(3, np.int64)
    differences(x)
    assert x.tolist() == [3, 2, 2] and len(minus.overloads) == 1


@pytest.mark.parametrize("first", [np.int64, np.float32, np.float64])
@pytest.mark.parametrize("second", [np.int64, np.float32, np.float64])
def test_operators_are_those_of_numpy(first, second):
    @kernel
    def operate(x, y, of_floats, of_integers, of_both):
        a, b = x[0], y[0]
        of_floats[0], of_floats[1], of_floats[2], of_floats[3] = a + b, a - b, a * b, a / b
        of_floats[4], of_floats[5], of_floats[6], of_floats[7] = a // b, a % b, a**b, a**2
        of_both[0], of_both[1], of_both[2] = a < b, a == b, a >= 7
        c, d, e = x[1], x[1], x[1]
        c += b
        d *= 2
        e **= 2
        of_floats[8], of_floats[9], of_floats[10] = c, d, e
        m, n = of_integers[0], of_integers[1]
        of_integers[2], of_integers[3], of_integers[4] = m & n, m | 1, m ^ n
        of_integers[5], of_integers[6] = m << 2, m >> n
        m -= n
        of_integers[7] = m

    x, y = np.array([7, 5], first), np.array([2, 3], second)
    numbers, whole, flags = np.zeros(11), np.array([13, 2, 0, 0, 0, 0, 0, 0]), np.zeros(3, bool)
    operate(x, y, numbers, whole, flags)
    assert numbers.tolist() == [9, 5, 14, 3.5, 3, 1, 49, 49, 7, 10, 25]
    assert whole[2:].tolist() == [0, 13, 15, 52, 3, 11] and flags.tolist() == [False, False, True]


@needs_compiler
@pytest.mark.parametrize("decorate", [interleaved, lambda function: function])
def test_an_interleaved_loop_takes_several_vectors_at_a_time(decorate):
    @decorate
    def reciprocals(x):
        for i in range(x.shape[0]):
            x[i] = x.dtype.type(1) / (x.dtype.type(1) + x[i] * x[i] * x[i] * x[i])

    once = kernel(reciprocals)
    once._cache = NullCache()  # which has no code to look at
    once(np.zeros(3))
    (code,) = once.inspect_llvm().values()
    longest = max(re.split(r"^\d+:", code, flags=re.MULTILINE), key=lambda block: block.count("fdiv <"))
    assert (longest.count("fdiv <") >= INTERLEAVED) == (decorate is interleaved)


@needs_compiler
def test_an_array_that_a_users_update_returns_is_freed():
    """Nobody counts references in kernels."""
    update = own_update(lambda p, g, slots, rate, step, settings: p - rate * g, 0)
    p, settings, none = np.ones(4), np.zeros(7), np.zeros(0)
    _nrt_python.memsys_enable_stats()
    before = rtsys.get_allocation_stats()
    for _ in range(3):
        update(p, none, none, p, 1.0, 1, settings, 1.0, np.inf, 0.0, 0.0, 0, 1)
    after = rtsys.get_allocation_stats()
    assert after.alloc - before.alloc == after.free - before.free > 0


@needs_compiler
@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_is_as_it_was(enabled):
    @kernel
    def fine(x):
        return x + 1

    @kernel
    def broken(x):
        return x.nothing

    was_enabled = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        assert fine(1) == 2
        with pytest.raises(TypingError):
            broken(1)
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if was_enabled else gc.disable)()


@pytest.mark.parametrize("freezes", [False, True])
def test_what_the_compiler_makes_is_old_at_once(freezes):
    """Else the collector, when it goes on, looks through all of it. What somebody froze stays frozen."""
    if freezes:
        gc.freeze()
    elif gc.get_freeze_count() > 0:
        pytest.skip("this Python begins with frozen objects, as 3.12.1 does")
    frozen = gc.get_freeze_count()
    try:
        with jit.collector_paused():
            made = [[]]
            assert not gc.isenabled()
        assert gc.isenabled() and gc.get_freeze_count() == frozen
        assert freezes or any(one is made for one in gc.get_objects(generation=2))
    finally:
        gc.unfreeze()


@needs_compiler
def test_another_numba_costs_the_cache_alone(monkeypatch):
    """What the cache uses of Numba's internals may change; then functions are compiled in each process."""

    def changed(*arguments):
        raise AttributeError("renamed")

    monkeypatch.setattr(compiler.CompileResult, "_reduce", changed)
    monkeypatch.setattr(compiler.CompileResult, "_rebuild", changed)
    for _ in range(2):
        plan_sum.cache_clear()
        assert start(address(plan_sum(6)), 1, 2, 3, 4) == 26
        assert jit.compiled[-1].endswith("add")
