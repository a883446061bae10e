"""Optimizers: steps by hand, many steps against the twins, and the same bits wherever a slice starts."""

import numpy as np
import pytest

from fastnn.kernels.cpu import updates
from fastnn.kernels.cpu.updates import (
    AT_ONCE,
    BLOCK,
    adagrad_update,
    adam_update,
    momentum_update,
    own_update,
    rmsprop_update,
    sgd_update,
)
from fastnn.kernels.jit import COMPILED
from fastnn.kernels.layout import (
    COLUMNS,
    DECAY,
    FIRST_SLOT,
    GRADIENTS,
    LENGTH,
    NOT_FINITE,
    OFFSET,
    OK,
    OPTIONS,
    PARAMETER_FIELDS,
    PARAMETERS,
    PENALTY,
    RATE,
    RUN_FIELDS,
    SCALE,
    SECOND_SLOT,
    STEP,
)
from tests import reference

REALS = [np.float32, np.float64]


def numbers(length, real=np.float64, seed=0):
    return np.random.default_rng(seed).standard_normal(length).astype(real)


#: No clipping: scale, limit.
WHOLE = 1.0, np.inf

#: No penalty: l1, l2.
NONE = 0.0, 0.0


#: name -> (update, start, gradients, slots, options, the path that a person computed)
BY_HAND = {
    # 1 - 0.1 * 0.5 = 0.95; 0.95 - 0.1 * (-1) = 1.05
    "sgd": (sgd_update, 1.0, [0.5, -1.0], (), (0.1, *WHOLE, *NONE), [0.95, 1.05]),
    # l2 = 0.25 adds 2 * 0.25 * p to the gradient: 1 - 0.1 * 0.5 = 0.95; 0.95 - 0.1 * 0.475 = 0.9025
    "l2": (sgd_update, 1.0, [0.0, 0.0], (), (0.1, *WHOLE, 0.0, 0.25), [0.95, 0.9025]),
    # l1 = 2 moves by 0.1 * 2 towards zero after the step, and stops there
    "l1": (sgd_update, -0.5, [0.0, 0.5, 0.0, 0.1], (), (0.1, *WHOLE, 2.0, 0.0), [-0.3, -0.15, 0.0, 0.0]),
    # the gradient 0.5 is halved to 0.25; -4 is halved to -2 and clipped to -1: 0.975, then 1.075
    "clipped": (sgd_update, 1.0, [0.5, -4.0], (), (0.1, 0.5, 1.0, *NONE), [0.975, 1.075]),
    # v = -0.05, p = 0.95; v = 0.9 * -0.05 - 0.05 = -0.095, p = 0.855
    "momentum": (momentum_update, 1.0, [0.5, 0.5], (0.0,), (0.1, 0.9, False, *WHOLE, *NONE), [0.95, 0.855]),
    # p = 1 + 0.9 * -0.05 - 0.05 = 0.905; p = 0.905 + 0.9 * -0.095 - 0.05 = 0.7695
    "nesterov": (momentum_update, 1.0, [0.5, 0.5], (0.0,), (0.1, 0.9, True, *WHOLE, *NONE), [0.905, 0.7695]),
    # total = 0.75 + 0.25 = 1, p = 1 - 0.1 * 0.5 / 1 = 0.95; total = 1 + 3 = 4 with g = -sqrt(3) = -1.7320508,
    # p = 0.95 + 0.1 * 1.7320508 / 2 = 1.03660254
    "adagrad": (
        adagrad_update,
        1.0,
        [0.5, -1.7320508075688772],
        (0.75,),
        (0.1, 0.0, *WHOLE, *NONE),
        [0.95, 1.0366025403784438],
    ),
    # mean = 0.25 * 4 = 1 with rho = 0.75, p = 1 - 0.1 * 2 / 1 = 0.8; mean = 0.75 + 0.25 * 1 = 1, p = 0.8 + 0.1 = 0.9
    "rmsprop": (rmsprop_update, 1.0, [2.0, -1.0], (0.0, ()), (0.1, 0.75, 0.0, 0.0, *WHOLE, *NONE), [0.8, 0.9]),
    # the same with momentum 0.5: v = 0.2, p = 0.8; v = 0.5 * 0.2 - 0.1 = 0, p = 0.8
    "rmsprop, momentum": (
        rmsprop_update,
        1.0,
        [2.0, -1.0],
        (0.0, 0.0),
        (0.1, 0.75, 0.5, 0.0, *WHOLE, *NONE),
        [0.8, 0.8],
    ),
    # Without epsilon the first step is the rate, whatever the gradient. Then m = 0.9 * 0.05 - 0.1 = -0.055,
    # m_hat = -0.055 / 0.19 = -0.28947; v = 0.999 * 0.00025 + 0.001 = 0.00124975,
    # v_hat = v / 0.001999 = 0.625188; p = 0.9 + 0.1 * 0.28947 / 0.790688 = 0.9366103
    "adam": (
        adam_update,
        1.0,
        [0.5, -1.0],
        (0.0, 0.0),
        (0.1, 0.9, 0.999, 0.0, "step", 0.0, *WHOLE, *NONE),
        [0.9, 0.9366103],
    ),
    # epsilon stands outside the root, beside the corrected moment: 1 - 0.1 * 0.5 / (0.5 + 0.5) = 0.95
    "adam, epsilon": (
        adam_update,
        1.0,
        [0.5],
        (0.0, 0.0),
        (0.1, 0.9, 0.999, 0.5, "step", 0.0, *WHOLE, *NONE),
        [0.95],
    ),
    # decay is decoupled: 1 - 0.1 - 0.1 * 0.5 * 1 = 0.85
    "adamw": (adam_update, 1.0, [0.5], (0.0, 0.0), (0.1, 0.9, 0.999, 0.0, "step", 0.5, *WHOLE, *NONE), [0.85]),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_by_hand(name):
    update, start, gradients, slots, options, path = BY_HAND[name]
    slots = [np.array(slot, float).reshape(-1) for slot in slots]
    p, found = np.array([start]), []
    for number, gradient in enumerate(gradients, 1):
        numbered = [number if option == "step" else option for option in options]
        assert update(p, *slots, np.array([gradient]), *numbered, 0, 1) == OK
        found.append(p[0])
    assert found == pytest.approx(path, rel=1e-7 if name == "adam" else 1e-15)
    if 0.0 in path:
        assert found[path.index(0.0) :] == [0.0] * (len(path) - path.index(0.0))


def own(p, g, slots, rate, step, settings):
    """Momentum by another name: a user's own update."""
    for i in range(len(p)):
        slots[0][i] = settings[0] * slots[0][i] - rate * g[i]
        p[i] += slots[0][i]


def own_with_the_arguments_of_the_others(p, velocity, g, rate, step, *options):
    return own_update(own, 1)(p, velocity, velocity[:0], g.copy(), rate, step, np.array([0.9]), *options)


def own_twin(p, v, g, rate, step, scale, limit, l1, l2):
    g = reference.slope_with_l1(p, g, l1)
    return reference.momentum_update(p, v, g, rate, 0.9, False, scale, limit, 0.0, l2)


UPDATES = {
    "sgd": (sgd_update, reference.sgd_update, 0, lambda step: ()),
    "momentum": (momentum_update, reference.momentum_update, 1, lambda step: (0.9, False)),
    "nesterov": (momentum_update, reference.momentum_update, 1, lambda step: (0.8, True)),
    "adagrad": (adagrad_update, reference.adagrad_update, 1, lambda step: (1e-3,)),
    "rmsprop": (
        lambda p, mean, g, *rest: rmsprop_update(p, mean, mean[:0], g, *rest),
        lambda p, mean, g, *rest: reference.rmsprop_update(p, mean, mean[:0], g, *rest)[:2],
        1,
        lambda step: (0.9, 0.0, 1e-3),
    ),
    "rmsprop, momentum": (rmsprop_update, reference.rmsprop_update, 2, lambda step: (0.8, 0.7, 1e-3)),
    "adam": (adam_update, reference.adam_update, 2, lambda step: (0.9, 0.999, 1e-7, step, 0.0)),
    "adamw": (adam_update, reference.adam_update, 2, lambda step: (0.8, 0.99, 1e-3, step, 0.1)),
    "own": (
        own_with_the_arguments_of_the_others,
        own_twin,
        1,
        lambda step: (step,),
    ),
}


@pytest.mark.parametrize("name", UPDATES)
@pytest.mark.parametrize(
    ("scale", "limit", "l1", "l2"), [(1.0, np.inf, 0.0, 0.0), (1.0, np.inf, 0.03, 0.02), (0.7, 0.8, 0.01, 0.1)]
)
@pytest.mark.parametrize("length", [1, 37])
def test_fifty_steps_are_the_twin_s(name, scale, limit, l1, l2, length):
    update, twin, slots, options = UPDATES[name]
    p = numbers(length)
    state = [p, *(np.zeros(length) for _ in range(slots))]
    expected = tuple(array.copy() for array in state)
    for step in range(1, 51):
        g = numbers(length, seed=step)
        assert update(*state, g.copy(), 0.05, *options(step), scale, limit, l1, l2, 0, 1) == OK
        expected = twin(*expected, g, 0.05, *options(step), scale, limit, l1, l2)
        expected = expected if slots else (expected,)
    for array, wanted in zip(state, expected, strict=True):
        np.testing.assert_allclose(array, wanted, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("name", UPDATES)
def test_bits_do_not_depend_on_the_slices(name, real):
    update, _, slots, options = UPDATES[name]
    length = 1003 if COMPILED else 67
    start = [numbers(length, real, seed) for seed in range(slots + 1)]
    start[1:] = [slot * slot for slot in start[1:]]
    g = numbers(length, real, 9)

    def result(parts):
        state = [array.copy() for array in [*start, g]]
        for first, last, size in parts:
            for rank in range(size):
                arrays = [array[first:last] for array in state]
                assert update(*arrays, 0.01, *options(3), 0.9, 1.0, 0.01, 0.02, rank, size) == OK
        return b"".join(array.tobytes() for array in state)

    whole = result([(0, length, 1)])
    for size in (2, 3, 8, length + 5):
        assert result([(0, length, size)]) == whole
    for cut in range(1, length, 41):
        assert result([(0, cut, 1), (cut, length, 1)]) == whole


@pytest.mark.skipif(not COMPILED, reason="takes long in plain Python")
@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("name", UPDATES)
def test_many_elements_go_block_by_block_with_the_same_bits(name, real):
    update, _, slots, options = UPDATES[name]
    length = AT_ONCE + 3 * BLOCK + 5
    whole = [numbers(length, real, seed) ** 2 for seed in range(slots + 2)]
    parts = [array.copy() for array in whole]
    further = 0.01, *options(3), 0.9, 1.0, 0.01, 0.02
    assert update(*whole, *further, 0, 1) == OK
    for rank in range(2):
        assert update(*parts, *further, rank, 2) == OK
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one, other)
    parts[-1][-1] = np.nan
    with np.errstate(all="ignore"):
        assert update(*parts, *further, 0, 1) == NOT_FINITE


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("name", UPDATES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("limit", [np.inf, 1.0])
def test_a_number_that_is_not_finite_is_seen(name, real, bad, limit):
    update, _, slots, options = UPDATES[name]
    for length in (1, 40):
        for place in {0, length // 2, length - 1}:
            for which in range(slots + 2):  # the parameters, a slot, or the gradient
                state = [numbers(length, real, seed) ** 2 for seed in range(slots + 2)]
                state[which][place] = bad
                with np.errstate(all="ignore"):
                    status = update(*state, 0.01, *options(1), 1.0, limit, 0.01, 0.02, 0, 1)
                assert status == NOT_FINITE
                others = np.arange(length) != place
                assert np.isfinite(state[0][others]).all()


def test_squares_of_small_gradients_are_remembered():
    """A gradient of 1e-16, and a batch without one in between: a step is still of the size of the rate."""
    adam, rmsprop = (np.zeros((3, 20), np.float32) for _ in range(2))
    exact_adam, exact_rmsprop = np.zeros((3, 20)), np.zeros((3, 20))
    for step, size in enumerate((1e-16, 1e-16, 0.0, 1e-16), 1):
        g = (size * numbers(20, seed=step)).astype(np.float32)
        further = 0.01, 0.9, 0.999, 1e-20
        assert adam_update(*adam, g.copy(), *further, step, 0.0, *WHOLE, *NONE, 0, 1) == OK
        exact_adam[:] = reference.adam_update(*exact_adam, g.astype(float), *further, step, 0.0, *WHOLE, *NONE)
        further = 0.01, 0.9, 0.5, 1e-36
        assert rmsprop_update(*rmsprop, g.copy(), *further, *WHOLE, *NONE, 0, 1) == OK
        exact_rmsprop[:] = reference.rmsprop_update(*exact_rmsprop, g.astype(float), *further, *WHOLE, *NONE)
    np.testing.assert_allclose(adam[0], exact_adam[0], rtol=1e-4)
    np.testing.assert_allclose(rmsprop[0], exact_rmsprop[0], rtol=1e-4)


@pytest.mark.parametrize(("real", "small"), [(np.float32, 1e-30), (np.float64, 1e-170)])
def test_adam_rests_where_the_squares_of_gradients_are_lost(real, small):
    """And does not leap by rate * g / epsilon."""
    p, m, v = np.zeros((3, 2), real)
    g = np.array([small, -small], real)
    epsilon = 1e-37 if real is np.float32 else 1e-300
    assert adam_update(p, m, v, g, 0.01, 0.9, 0.999, epsilon, 1, 0.0, *WHOLE, *NONE, 0, 1) == OK
    assert not p.any() and not m.any()


def test_the_soft_threshold_keeps_nan():
    p = np.full(20, np.nan, np.float32)
    assert sgd_update(p, np.zeros_like(p), 0.1, *WHOLE, 1.0, 0.0, 0, 1) == NOT_FINITE
    assert np.isnan(p).all()


def plan_records(real, length, offset, penalty=True, decay=1):
    """(run, parameter, arenas): one parameter of ``length`` elements among others."""
    arenas = [numbers(offset + length + 5, real, seed) for seed in range(4)]
    arenas[2] *= arenas[2]
    arenas[3] *= arenas[3]
    options = np.array([0.7, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.01, 0.02])
    rate, scale = np.array([0.05]), np.array([0.9, 0.0, 0.0, 0.0])
    run = reference.record(
        RUN_FIELDS,
        {
            PARAMETERS: arenas[0],
            GRADIENTS: arenas[1],
            FIRST_SLOT: arenas[2],
            SECOND_SLOT: arenas[3],
            OPTIONS: options,
            RATE: rate,
            SCALE: scale,
            STEP: 6,
        },
    )
    parameter = reference.record(
        PARAMETER_FIELDS,
        {OFFSET: offset, LENGTH: length, COLUMNS: 1, PENALTY: 8 if penalty else -1, DECAY: decay},
    )
    return run, parameter, arenas, (options, rate, scale)


#: name -> (plan's update, its options after the limit, the twin's arguments after the rate, how many slots)
PLANS = {
    "sgd": ("sgd", (), (), 0),
    "momentum": ("momentum", (0.9, 1.0), (0.9, True), 1),
    "adagrad": ("adagrad", (1e-3,), (1e-3,), 1),
    "rmsprop": ("rmsprop", (0.9, 0.8, 1e-3), (0.9, 0.8, 1e-3), 2),
    "adam": ("adam", (0.9, 0.99, 1e-7, 0.3), (0.9, 0.99, 1e-7, 7, 0.0), 2),
    "adamw": ("adam", (0.9, 0.99, 1e-7, 0.3), (0.9, 0.99, 1e-7, 7, 0.3), 2),
}


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("penalty", [False, True])
@pytest.mark.parametrize("name", [*PLANS, "own"])
def test_plans(name, penalty, real):
    length, offset = 30, 7
    run, parameter, arenas, (options, rate, _scale) = plan_records(real, length, offset, penalty, int(name == "adamw"))
    if name == "own":
        options[1] = 0.9
        plan, twin, further, slots = updates.plan_own_update(own, 1, real), "momentum", (0.9, False), 1
    else:
        twin, settings, further, slots = PLANS[name]
        options[1 : 1 + len(settings)] = settings
        plan = getattr(updates, f"plan_{twin}_update")(real)
    before = [arena.copy() for arena in arenas]
    for first, last in ((0, 1), (1, 20), (20, length)):
        assert reference.run_plan(plan, run, parameter, first, last) == OK
    penalties = (0.01, 0.02) if penalty else (0.0, 0.0)
    p, g, *state = (arena[offset : offset + length].astype(float) for arena in before)
    if name == "own":
        g, penalties = reference.slope_with_l1(p, g, penalties[0]), (0.0, penalties[1])
    found = getattr(reference, f"{twin}_update")(p, *state[:slots], g, rate[0], *further, 0.9, 0.7, *penalties)
    found = found if slots else (found,)
    g = reference.slope_of(g, p, 0.9, 0.7, penalties[1])
    expected = [found[0], g, *found[1:], *state[slots:]]
    tolerance = 1e-5 if real is np.float32 else 1e-12
    for arena, old, wanted in zip(arenas, before, expected, strict=True):
        np.testing.assert_array_equal(arena[:offset], old[:offset])
        np.testing.assert_array_equal(arena[offset + length :], old[offset + length :])
        np.testing.assert_allclose(arena[offset : offset + length], wanted, rtol=tolerance, atol=tolerance / 10)
