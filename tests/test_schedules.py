"""Schedules against plain twins, against steps by hand, and as the engine uses them."""

import math

import numpy as np
import pytest

import fastnn as fn
from fastnn import schedules
from fastnn.kernels.jit import COMPILED


def cosine(step, initial, steps, alpha=0.0):
    return initial * (alpha + (1 - alpha) * 0.5 * (1 + math.cos(math.pi * min(step, steps) / steps)))


def restarts(step):
    """Cosine with warm restarts (Loshchilov & Hutter 2017), the recipe: a Python function of the step."""
    return 0.01 + 0.5 * 0.4 * (1 + np.cos(np.pi * (step % 20) / 20))


def one_cycle(step, most, steps, rise, first, last):
    start, end, part = most / first, most / first / last, min(1, step / (steps - 1))
    if part < rise:
        return most - (most - start) * (1 + math.cos(math.pi * part / rise)) / 2
    return most - (most - end) * (1 - math.cos(math.pi * (part - rise) / (1 - rise))) / 2


def piecewise(step):
    return 0.5 if step <= 10 else 0.2 if step <= 30 else 0.1


#: name -> (schedule, its twin for one step)
SCHEDULES = {
    "constant": (fn.ConstantRate(0.3), lambda step: 0.3),
    "piecewise": (fn.PiecewiseConstantDecay([10, 30], [0.5, 0.2, 0.1]), piecewise),
    "step": (fn.StepDecay(0.4, 7, 0.5), lambda step: 0.4 * 0.5 ** (step // 7)),
    "exponential": (fn.ExponentialDecay(0.4, 7, 0.5), lambda step: 0.4 * 0.5 ** (step / 7)),
    "staircase": (fn.ExponentialDecay(0.4, 7, 0.5, staircase=True), lambda step: 0.4 * 0.5 ** (step // 7)),
    "cosine": (fn.CosineDecay(0.4, 50, 0.1), lambda step: cosine(step, 0.4, 50, 0.1)),
    "one cycle": (fn.OneCycle(0.4, 50, 0.25, 10, 100), lambda step: one_cycle(step, 0.4, 50, 0.25, 10, 100)),
    "warm-up": (
        fn.Warmup(fn.CosineDecay(0.4, 50), 8, 0.1),
        lambda step: 0.1 + 0.3 * step / 8 if step < 8 else cosine(step - 8, 0.4, 50),
    ),
    "warm-up of a number": (fn.Warmup(0.4, 8), lambda step: min(0.4, 0.4 * step / 8)),
    "cosine restarts": (schedules.get("s", restarts), lambda step: 0.01 + cosine(step % 20, 0.4, 20)),
    "function": (schedules.get("s", lambda step: 1 / (1 + step)), lambda step: 1 / (1 + step)),
    "function of one step": (
        schedules.get("s", lambda step: 0.3 if step < 20 else 0.1),
        lambda step: 0.3 if step < 20 else 0.1,
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_is_its_twin(name):
    schedule, twin = SCHEDULES[name]
    steps = np.arange(70)
    np.testing.assert_allclose(schedule(steps), [twin(step) for step in range(70)], rtol=1e-12, atol=1e-16)
    np.testing.assert_array_equal(schedule(steps[20:23]), schedule(steps)[20:23])


def test_by_hand():
    assert fn.CosineDecay(1.0, 4)(range(6)) == pytest.approx([1, 0.853553390593274, 0.5, 0.146446609406726, 0, 0])
    assert fn.StepDecay(0.8, 2, 0.5)(range(5)).tolist() == [0.8, 0.8, 0.4, 0.4, 0.2]
    assert fn.Warmup(0.6, 3)(range(5)) == pytest.approx([0, 0.2, 0.4, 0.6, 0.6])
    assert fn.OneCycle(1.0, 11, 0.5, 10, 10)([0, 5, 10, 20]) == pytest.approx([0.1, 1.0, 0.01, 0.01])
    assert fn.PiecewiseConstantDecay([2], [1.0, 0.5])(range(5)).tolist() == [1, 1, 1, 0.5, 0.5]


def test_a_length_that_is_left_to_the_fit():
    assert fn.CosineDecay(0.4).resolved(50)([25, 50]) == pytest.approx([0.2, 0])
    assert fn.Warmup(fn.CosineDecay(0.4), 10).resolved(60)([10, 35, 60]) == pytest.approx([0.4, 0.2, 0])
    assert fn.Warmup(fn.CosineDecay(0.4), 10).resolved(11)([10, 11]) == pytest.approx([0.4, 0])
    assert fn.Warmup(fn.CosineDecay(0.4), 10).resolved(5)([0, 5]) == pytest.approx([0, 0.2])  # ends in the warm-up
    own = fn.Warmup(fn.CosineDecay(0.4, 7), 10)
    assert own.resolved(60) is own
    with pytest.raises(ValueError, match="has no length of its own"):
        fn.OneCycle()(3)


@pytest.mark.parametrize("name", schedules.BY_NAME)
def test_names(name):
    rates = schedules.get("learning_rate", name).resolved(100)(range(120))
    assert (rates >= 0).all() and rates.max() <= 0.01


@pytest.mark.parametrize("schedule", [fn.CosineDecay(0.1), fn.OneCycle(0.1), fn.Warmup(fn.CosineDecay(0.1), 2)])
def test_a_schedule_without_a_length_is_refused_where_steps_come_one_by_one(schedule):
    """It would begin anew with each, and stay at its first rate, which may be 0."""
    model, X, y = quadratic()
    model.compile(fn.SGD(schedule), "mse")
    before = model.get_weights()
    with pytest.raises(
        ValueError, match=f"{type(schedule).__name__}.*, which leaves its length to fit, .* is one step"
    ):
        model.train_on_batch(X, y)
    np.testing.assert_array_equal(before[0], model.get_weights()[0])
    model.optimizer.learning_rate = schedule.resolved(10)
    for _ in range(3):
        model.train_on_batch(X, y)
    assert model.step == 3 and not np.array_equal(before[0], model.get_weights()[0])


def in_place(step):
    step += 1
    return 0.1 / step


def test_a_function_may_change_the_steps_that_it_is_given():
    steps = np.arange(5)
    assert schedules.get("s", in_place)(steps).tolist() == [0.1 / (step + 1) for step in range(5)]
    assert steps.tolist() == list(range(5))


class Few(fn.Schedule):
    """One of the user's own that does not look at how many rates it is asked for."""

    def rates(self, steps):
        return np.full(3, 0.1)


class AsInKeras(fn.Schedule):
    """One of the user's own that is called with a step at a time."""

    def __call__(self, step):
        return -0.1


def fit_with(schedule):
    model, X, y = quadratic()
    model.compile(fn.SGD(schedule), "mse")
    model.fit(X, y, batch_size=2, epochs=2)


BAD = {
    "learning_rate is 'cosin'; .*did you mean 'cosine'": lambda: fn.Adam("cosin"),
    "initial_learning_rate is -1": lambda: fn.CosineDecay(-1),
    "decay_steps is 0": lambda: fn.CosineDecay(0.1, 0),
    "alpha is 2": lambda: fn.CosineDecay(0.1, 10, 2),
    "decay_rate is 0": lambda: fn.ExponentialDecay(0.1, 10, 0),
    "staircase is 1": lambda: fn.ExponentialDecay(0.1, 10, 0.5, 1),
    "values has 1 rates for 1 boundaries; expected one more": lambda: fn.PiecewiseConstantDecay([3], [0.1]),
    "boundaries is .*expected increasing": lambda: fn.PiecewiseConstantDecay([3, 3], [0.1, 0.2, 0.3]),
    "warmup_steps is 0": lambda: fn.Warmup(0.1, 0),
    "rise is 1": lambda: fn.OneCycle(0.1, 10, 1),
    "start_divisor is 0.5": lambda: fn.OneCycle(0.1, 10, 0.3, 0.5),
    "maximum_learning_rate is nan": lambda: fn.OneCycle(math.nan),
    "gives the learning rate -1.0 at step 3": lambda: schedules.get("s", lambda step: 2 - step)([1, 2, 3]),
    "gives the learning rate -1.0 at step 4": lambda: schedules.get("s", lambda step: 3 - step)(4),
    "gives the learning rate -2.0 at step 5": lambda: schedules.get("s", lambda step: 3 - step)([[1, 2], [3, 5]]),
    "gives the learning rate nan at step 0": lambda: schedules.get("s", lambda step: math.nan)([0]),
    "returned 'x' at step 0; expected a number": lambda: schedules.get("s", lambda step: "x")([0]),
    "learning_rate is None": lambda: fn.SGD(None),
    r"learning_rate is Schedule\(\) \(a Schedule\), which does not define rates\(steps\); expected a number": (
        lambda: fn.SGD(fn.Schedule())
    ),
    r"learning_rate is Schedule\(\)": lambda: setattr(fn.Adam(), "learning_rate", fn.Schedule()),
    r"learning_rate is AsInKeras\(\) .* with a __call__ of its own; expected it to be rates\(steps\)": (
        lambda: fn.SGD(AsInKeras())
    ),
    r"schedule is Schedule\(\)": lambda: fn.Warmup(fn.Schedule(), 3),
    "boundaries is 3; expected a list of numbers": lambda: fn.PiecewiseConstantDecay(3, [0.1, 0.2]),
    r"gives rates of shape \(3,\) for steps of shape \(2,\); expected a rate a step": lambda: Few()([0, 1]),
    r"gives rates of shape \(3,\) for steps of shape \(4,\)": lambda: fit_with(Few()),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input(message):
    with pytest.raises((ValueError, TypeError), match=message):
        BAD[message]()


def quadratic():
    """One weight whose loss is w²: a step of gradient descent multiplies it by 1 - 2 · rate."""
    model = fn.Model([fn.Input(1), fn.Dense(1, use_bias=False, kernel_initializer="constant")], seed=0, dtype="float64")
    model.set_weights([np.ones((1, 1))])
    return model, np.ones((4, 1)), np.zeros((4, 1))


@pytest.mark.parametrize("epochs", [(6,), (2, 4)])
@pytest.mark.parametrize("watched", [False, True])
def test_the_engine_takes_the_rate_of_each_step(epochs, watched):
    model, X, y = quadratic()
    schedule = fn.Warmup(fn.ExponentialDecay(0.3, 2, 0.5), 3, 0.05)
    model.compile(fn.SGD(schedule), "mse")
    for count in epochs:
        model.fit(X, y, batch_size=2, epochs=count, callbacks=[fn.TimeLimit(100)] if watched else [])
    assert model.layers[1].W[0, 0] == pytest.approx(np.prod(1 - 2 * schedule(range(12))), rel=1e-12)


@pytest.mark.parametrize("view", [np.flip, lambda rates: np.broadcast_to(rates[:1], rates.shape)])
def test_rates_may_be_a_view_of_another_array(view):
    class OfOnesOwn(fn.Schedule):
        def rates(self, steps):
            return view(np.linspace(0.1, 0.3, len(steps)))

    model, X, y = quadratic()
    model.compile(fn.SGD(OfOnesOwn()), "mse")
    model.fit(X, y, batch_size=2, epochs=1)
    assert model.layers[1].W[0, 0] == pytest.approx(np.prod(1 - 2 * view(np.array([0.1, 0.3]))), rel=1e-12)


def test_a_schedule_without_a_length_begins_with_each_fit():
    model, X, y = quadratic()
    model.compile(fn.SGD(fn.CosineDecay(0.3)), "mse")
    for _ in range(2):
        model.fit(X, y, batch_size=2, epochs=5)
    each = np.prod(1 - 2 * fn.CosineDecay(0.3, 10)(range(10)))
    assert model.layers[1].W[0, 0] == pytest.approx(each**2, rel=1e-12)


@pytest.mark.parametrize("length", [None, 10])
def test_a_schedule_that_a_callback_changes_has_its_new_rates_at_once(length):
    model, X, y = quadratic()
    schedule = fn.CosineDecay(0.3, length)

    def change(epoch, logs):
        schedule.initial_learning_rate = 0.1

    model.compile(fn.SGD(schedule), "mse")
    model.fit(X, y, batch_size=2, epochs=5, callbacks=[fn.LambdaCallback(on_epoch_end=change)])
    rates = [*fn.CosineDecay(0.3, 10)(range(2)), *fn.CosineDecay(0.1, 10)(range(2, 10))]
    assert model.layers[1].W[0, 0] == pytest.approx(np.prod(1 - 2 * np.array(rates)), rel=1e-12)


@pytest.mark.skipif(not COMPILED, reason="counts calls, not kernels")
def test_a_schedule_is_asked_once_a_slice_and_not_once_a_batch():
    calls = []

    class Counted(fn.Schedule):
        def rates(self, steps):
            calls.append(len(steps))
            return np.full(len(steps), 0.01)

    model = fn.Model([fn.Input(2), fn.Dense(3, "softmax")], seed=0)
    model.compile(fn.SGD(Counted()), "cross_entropy")
    model.fit(np.zeros((1000, 2)), np.zeros(1000, int), batch_size=1, epochs=10)
    assert sum(calls) == 10_000 and len(calls) < 100
