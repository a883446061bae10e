"""With how many workers the engine runs."""

import itertools

import pytest

import fastnn as fn
from fastnn.workers import FLOPS_PER_WORKER, TRY_SHARE, WorkerChoice, choose_workers


def test_workers_by_the_work(monkeypatch):
    monkeypatch.delenv("FASTNN_THREADS", raising=False)
    monkeypatch.setattr("fastnn.workers.cores", lambda: 4)
    small, large = 1000, 10**9
    assert [choose_workers(None, work) for work in (small, 3 * FLOPS_PER_WORKER, large)] == [1, 3, 4]
    assert choose_workers(7, small) == 7  # the user's choice is taken as it is
    monkeypatch.setenv("FASTNN_THREADS", "2")
    assert choose_workers(None, small) == choose_workers(None, large) == 2
    assert choose_workers(3, large) == 3


@pytest.mark.parametrize("text", ["0", "two", "-1", "1.5", "9999"])
def test_a_wrong_number_of_threads_in_the_environment(monkeypatch, text):
    monkeypatch.setenv("FASTNN_THREADS", text)
    with pytest.raises(ValueError, match="FASTNN_THREADS"):
        choose_workers(None, 1)


def told(choice, speeds, slices):
    """The numbers of workers that slices get where a step takes ``speeds(workers, slice)`` seconds."""
    found = []
    for number in range(slices):
        workers, part = choice.next()
        found.append(workers)
        seconds = speeds(workers, number)
        choice.tell(seconds, max(1, int(0.1 * part / seconds)))
    return found


@pytest.fixture
def four_cores(monkeypatch):
    monkeypatch.setattr("fastnn.workers.cores", lambda: 4)
    monkeypatch.delenv("FASTNN_THREADS", raising=False)


def test_small_steps_get_more_workers_where_these_help(four_cores):
    choice = WorkerChoice(None, 1_500_000)
    assert (choice.workers, choice.most) == (1, 4)
    found = told(choice, lambda workers, number: 1e-5 / workers, 40)
    assert found[:2] == [1, 1] and 2 in found[:4] and found.count(4) > 20
    assert choice.seconds == pytest.approx(1e-5 / 4)


def test_a_busy_neighbor_is_noticed_and_so_is_its_leaving(four_cores):
    choice = WorkerChoice(None, 1_500_000)

    def speeds(workers, number):
        busy = 100 <= number < 200
        return 1e-5 / workers * (20 if busy and workers > 1 else 1)

    found = told(choice, speeds, 400)
    assert found[80:100].count(4) > 15
    assert found[115:200].count(1) > 60, "with a neighbor, one worker"
    assert found[300:].count(4) > 70, "without it, four again"


def test_a_slow_moment_changes_nothing(four_cores):
    """A slice was slow, so two workers are tried, and look faster; but meanwhile four are as fast again."""
    choice = WorkerChoice(None, 100_000_000)
    found = told(choice, lambda workers, number: 1e-4 / workers * (6 if number == 50 else 1), 100)
    assert found[40:60] == [4] * 11 + [2] * 2 + [4] * 7


def test_tries_become_rare_where_they_bring_nothing(four_cores):
    found = told(WorkerChoice(None, 1_500_000), lambda workers, number: 1e-5 * workers, 1000)
    assert 5 < sum(workers != 1 for workers in found) < 60, "a try is two short slices"


def test_what_a_slice_after_a_change_takes_says_nothing(four_cores):
    """Nor what the first slice of a fit takes, nor a very short one."""
    choice = WorkerChoice(None, 1_500_000)
    before = None
    for number in range(60):
        workers, part = choice.next()
        if number == 30:
            choice.begin()
            before = None
        steps = 4 if number % 7 == 3 else int(1e4 * part * workers)
        extra = 2e-3 if steps == 4 or workers != before else 0.0  # to start, and to fill the caches
        choice.tell(1e-5 / workers + extra / steps, steps)
        before = workers
    assert choice.workers == 4
    assert choice.seconds == pytest.approx(1e-5 / 4, rel=0.1)


def test_a_short_slice_is_all_that_a_try_costs(four_cores):
    choice = WorkerChoice(None, 1_500_000)
    parts = []
    for _ in range(300):
        workers, part = choice.next()
        parts.append((workers, part))
        choice.tell(1e-5 * workers, 500)
    assert {part for workers, part in parts if workers > 1} == {TRY_SHARE}


def test_steps_that_come_one_by_one_are_compared_together(four_cores):
    """As in a loop of the user's own: each is too short to tell something."""
    choice = WorkerChoice(None, 1_500_000)
    found = []
    for _ in range(2000):
        found.append(choice.next()[0])
        choice.tell(1e-3 / found[-1], 1)
    assert found[0] == 1 and found[1000:].count(4) > 800


def test_one_slow_step_does_not_decide(four_cores):
    """As after a core has slept: four workers take 0.8 ms and one 1.1, but the fourth step of the four takes 5."""
    choice, found, together = WorkerChoice(None, 100_000_000), [], 0
    for _ in range(1000):
        workers = choice.next()[0]
        found.append(workers)
        together = together + 1 if workers == 4 else 0
        choice.tell(1.1e-3 if workers < 4 else 5e-3 if together == 4 else 0.8e-3, 1)
    assert found.count(4) > 900


def test_fits_as_short_as_a_slice_do_not_stay_with_what_a_longer_one_tried(four_cores):
    choice = WorkerChoice(None, 100_000_000)
    while choice.trying is None:
        choice.next()
        choice.tell(1e-3, 100)
    assert choice.next()[0] != 4
    for _ in range(10):
        choice.begin()
        assert choice.next()[0] == 4
        choice.tell(1e-3, 1)


@pytest.mark.parametrize(("threads", "flops", "workers"), [(3, 10, 3), (1, 10**9, 1), (None, 10_000, 1)])
def test_what_the_user_says_and_what_is_tiny_is_not_tried(four_cores, threads, flops, workers):
    choice = WorkerChoice(threads, flops)
    assert set(told(choice, lambda workers, number: 1e-5 / workers, 50)) == {workers}


def test_the_environment_counts_as_the_user(four_cores, monkeypatch):
    monkeypatch.setenv("FASTNN_THREADS", "2")
    assert set(told(WorkerChoice(None, 1_500_000), lambda workers, number: 1e-5, 50)) == {2}


def test_the_bits_do_not_depend_on_what_was_tried(monkeypatch):
    X, y = fn.datasets.digits()
    found = []
    for wild in (False, True):
        model = fn.Model([fn.Input(64), fn.Dense(32, "relu"), fn.Dense(10, "softmax")], seed=0)
        model.compile("adam", "cross_entropy")
        if wild:
            numbers = itertools.cycle((1, 2, 3))
            monkeypatch.setattr(WorkerChoice, "next", lambda self, numbers=numbers: (next(numbers), 0.01))
        model.fit(X, y, epochs=5)
        found.append(model.arenas.parameters.tobytes())
    assert found[0] == found[1]
