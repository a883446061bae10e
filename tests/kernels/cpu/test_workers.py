"""The barrier: order, common status, and leaving when another worker fails."""

import itertools
import os
import threading
import time

import numpy as np
import pytest

from fastnn.kernels.cpu import workers
from fastnn.kernels.cpu.workers import abort, barrier, new_sync
from fastnn.kernels.jit import COMPILED, kernel
from fastnn.kernels.layout import ABORTED, NOT_FINITE, OK
from fastnn.kernels.memory import vector

ROUNDS = 3000 if COMPILED else 20


@kernel
def relay(sync, counts, rank, size, rounds):
    """Each round: write the own number, wait, check that all have written, wait. Returns the faults seen."""
    own = vector(counts, size, np.int64)
    faults = 0
    for number in range(1, rounds + 1):
        own[rank] = number
        if barrier(sync, rank, size, 2 * number - 1, OK) != OK:
            return -1
        for other in range(size):
            if own[other] != number:
                faults += 1
        if barrier(sync, rank, size, 2 * number, OK) != OK:
            return -1
    return faults


@kernel
def one_barrier(sync, rank, size, number, status):
    return barrier(sync, rank, size, number, status)


def in_threads(function, size, *arguments):
    found = [None] * size

    def work(rank):
        found[rank] = function(rank, *arguments)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a worker is still waiting"
    return found


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_nobody_passes_before_all_have_arrived(size):
    sync, counts = new_sync(size), np.zeros(size, np.int64)
    rounds = max(5, ROUNDS // size**2)
    found = in_threads(lambda rank: relay(sync.ctypes.data, counts.ctypes.data, rank, size, rounds), size)
    assert found == [0] * size


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_all_workers_return_the_status_of_the_one_that_failed(failing):
    sync = new_sync(3)
    found = in_threads(lambda rank: one_barrier(sync.ctypes.data, rank, 3, 1, NOT_FINITE if rank == failing else OK), 3)
    assert found == [NOT_FINITE] * 3


@pytest.mark.parametrize("size", [2, 3, 4])
def test_a_worker_that_knows_of_a_failure_need_not_come_to_the_next_barrier(size):
    """Some go there nevertheless, with the status they have found: nobody keeps them waiting."""

    def work(rank, goes_on):
        status = one_barrier(sync.ctypes.data, rank, size, 1, NOT_FINITE if rank == 0 else OK)
        if goes_on[rank]:
            status = one_barrier(sync.ctypes.data, rank, size, 2, status)
        return status

    for goes_on in itertools.product((False, True), repeat=size):
        sync = new_sync(size)
        assert in_threads(work, size, goes_on) == [NOT_FINITE] * size


def test_a_waiting_worker_leaves_when_another_aborts():
    sync = new_sync(2)

    def work(rank):
        if rank == 1:
            time.sleep(0.05)
            abort(sync)
            return ABORTED
        return one_barrier(sync.ctypes.data, 0, 2, 1, OK)

    assert in_threads(work, 2) == [ABORTED, ABORTED]


def test_synchronization_memory_is_aligned_to_cache_lines():
    for size in (1, 2, 7):
        assert new_sync(size).ctypes.data % 64 == 0
        assert len(new_sync(size)) == 8 * (size + 1)


@pytest.mark.skipif(workers._core_of_this_thread is None, reason="the system does not tell a thread's core")
def test_a_thread_on_a_taken_core_moves_and_may_go_anywhere_again():
    allowed = os.sched_getaffinity(0)
    if len(allowed) < 2:
        pytest.skip("one core")
    for _ in range(20):
        taken = {workers._core_of_this_thread()}
        workers.take_core(taken)
        assert len(taken) == 2 and taken <= allowed
        assert os.sched_getaffinity(0) == allowed
    taken = set(allowed)
    workers.take_core(taken)  # none is free
    assert taken == allowed == os.sched_getaffinity(0)
