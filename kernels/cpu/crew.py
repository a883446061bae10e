"""Threads that stay: those that work beside the caller's own wait a little for the next call of the engine.

To begin a thread, and even to wake one, takes some tenths of a millisecond, in which a step of a medium network is half
done. So a thread that has worked spins for about as long, in compiled code and without the interpreter's lock, and has
the next call at once. Then it sleeps, and after some seconds without work it ends.
"""

import atexit
import contextlib
import os
import threading

import numpy as np

from ..jit import COMPILED, address, c_function
from ..layout import ABORTED, OK
from ..memory import CACHE_LINE, aligned_zeros, call, place_of, vector
from .workers import abort, load_acquire, pause, spin, store_release, take_core

# A box, the memory between a thread and its caller: two cache lines, of which each writes one.
(
    POSTED,  # how many calls have been posted
    FUNCTION,  # of the last one, address: function(run, program, rank, size)
    RUN,
    PROGRAM,
    RANK,
    SIZE,
    SYNC,  # address of the workers' synchronization memory
) = range(7)
DONE = CACHE_LINE // 8  # how many calls are done
STATUS = DONE + 1  # what the last one has returned
BOX_FIELDS = 2 * CACHE_LINE // 8

#: Spins of a thread that waits for a call: some tenths of a millisecond, as long as the processor's pauses take. In
#: plain Python it would only be in the way.
IDLE_SPINS = 20_000 if COMPILED else 10

#: Seconds of sleep after which a thread ends: longer than what a loop of one's own does between two steps, such as an
#: evaluation, and short enough that a program that has trained does not keep threads.
SLEEP = 5.0


def serve(box, done, spins, _):
    """Do what is posted in the box, call after call, until none has come for so many ``spins``.

    done : how many calls were done before. Returns how many they are now.
    """
    while True:
        waited = 0
        while load_acquire(box) == done:
            if waited == spins:
                return done
            waited += 1
            pause()
        fields = vector(box, BOX_FIELDS, np.int64)
        status = call(fields[FUNCTION], fields[RUN], fields[PROGRAM], fields[RANK], fields[SIZE])
        if status != OK:
            store_release(fields[SYNC], 1)  # as ``abort``: it may have left where others wait for it
        fields[STATUS] = status
        done += 1
        store_release(box + 8 * DONE, done)


def post(box, number, _, __):
    """Show the thread call ``number``, which stands in the box."""
    store_release(box, number)
    return OK


def wait(box, number, _, __):
    """Wait until call ``number`` is done; returns its status."""
    spins = 0
    while load_acquire(box + 8 * DONE) < number:
        spins = spin(spins)
    return vector(box, BOX_FIELDS, np.int64)[STATUS]


class Hand:
    """A thread that does what is posted in its box, for one caller at a time.

    Raises a RuntimeError where no thread can be begun.
    """

    def __init__(self):
        for function in (serve, post, wait):  # compiled before there are threads
            c_function(function)
        self.box = aligned_zeros(BOX_FIELDS, np.int64)
        self.address = self.box.ctypes.data
        self.bell = threading.Lock()  # held until somebody rings; Ctrl-C within an Event can leave its lock held
        self.bell.acquire()
        self.faults: list[BaseException] = []
        self.leaving = False
        self.thread = threading.Thread(target=self._live, daemon=True, name="fastnn")
        self.thread.start()

    def begin(self, function, run, program, rank, size, sync, taken):
        """Begin ``function(run, program, rank, size)``; taken : the cores of the workers that run already."""
        self.sync, self.taken = sync, taken
        self.box[FUNCTION : SYNC + 1] = function, place_of(run), place_of(program), rank, size, place_of(sync)
        c_function(post)(self.address, int(self.box[POSTED]) + 1, 0, 0)
        self.ring()

    def end(self):
        """Wait for what was begun, if something was; returns its status."""
        if self.box[DONE] != self.box[POSTED]:
            self.ring()  # Ctrl-C may have come between the post and its ring
        return c_function(wait)(self.address, int(self.box[POSTED]), 0, 0)

    def ring(self):
        """Wake the thread to look into the box."""
        if self.bell.locked():  # else somebody has rung already
            with contextlib.suppress(RuntimeError):  # or does just now
                self.bell.release()

    def _live(self):
        done = 0
        while self._is_called(done):
            try:
                take_core(self.taken)
                done = c_function(serve)(self.address, done, IDLE_SPINS, 0)
            except BaseException as fault:  # as of a function in plain Python
                self.faults.append(fault)
                abort(self.sync)
                self.box[STATUS] = ABORTED
                done = self.box[DONE] = int(self.box[POSTED])

    def _is_called(self, done):
        """Sleep until there is another call; or say that there is none, and will be none."""
        while True:
            self.bell.acquire(blocking=False)  # before the look into the box: whoever posts rings afterwards
            if self.box[POSTED] != done:
                return True
            if self.leaving:
                return False
            if not self.bell.acquire(timeout=SLEEP):
                try:
                    _idle.remove(self)
                    return False
                except ValueError:  # somebody has just taken it
                    pass


#: Threads that nobody has.
_idle: list[Hand] = []


def _take():
    """A thread for this caller alone."""
    with contextlib.suppress(IndexError):
        return _idle.pop()
    return Hand()


def end_idle():
    """End the threads that nobody has."""
    leaving = []
    with contextlib.suppress(IndexError):
        while True:
            leaving.append(_idle.pop())
    for hand in leaving:
        hand.leaving = True
        hand.ring()
    for hand in leaving:
        hand.thread.join()


atexit.register(end_idle)
if hasattr(os, "register_at_fork"):  # a fork has no threads, and Python warns of those that it forks beside
    os.register_at_fork(before=end_idle, after_in_child=_idle.clear)


def run_together(function, runs, program, sync):
    """Call ``function(run, program, rank, size)`` with each of the run records, the first one in this thread.

    program : the program record; sync : the workers' synchronization memory. Returns OK where all do, else the first
    status that is neither this nor ABORTED, which is that of workers who left because another had; or None where not
    all threads could be begun: nothing has been called then. Whatever is raised here or there, nobody works any more
    when it leaves this function.
    """
    size, hands, statuses, faults, interrupt = len(runs), [], [], [], None
    try:
        try:
            while len(hands) < size - 1:
                hands.append(_take())
        except RuntimeError:
            return None
        taken: set[int] = set()
        take_core(taken)
        for rank, hand in enumerate(hands, 1):
            hand.begin(address(function), runs[rank], program, rank, size, sync, taken)
        statuses.append(c_function(function)(place_of(runs[0]), place_of(program), 0, size))
        if statuses[0] != OK:
            abort(sync)
    except BaseException:
        abort(sync)
        raise
    finally:
        while hands:
            try:
                statuses.append(hands[-1].end())
                faults += hands[-1].faults
                hands[-1].faults.clear()
                _idle.append(hands.pop())  # Ctrl-C between the two costs a thread, which sleeps
            except KeyboardInterrupt as caught:
                interrupt = caught
        if interrupt is not None:
            raise interrupt
    if faults:
        raise faults[0]
    bad = [status for status in statuses if status not in (OK, ABORTED)]
    return bad[0] if bad else ABORTED if ABORTED in statuses else OK
