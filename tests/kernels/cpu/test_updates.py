"""Optimizers: steps by hand, many steps against the twins, and the same bits wherever a slice starts."""

import numpy as np
import pytest

from fastnn.kernels.cpu.updates import (
    adam_update,
    momentum_update,
    penalty_sum,
    plan_adam_update,
    plan_momentum_update,
    plan_penalty,
    plan_sgd_update,
    sgd_update,
)
from fastnn.kernels.jit import COMPILED
from fastnn.kernels.layout import (
    COLUMNS,
    DECAY,
    FIRST_CHUNK,
    FIRST_SLOT,
    GRADIENTS,
    LENGTH,
    NOT_FINITE,
    OFFSET,
    OK,
    OPTIONS,
    PARAMETER_FIELDS,
    PARAMETERS,
    PENALTIES,
    PENALTY,
    PENALTY_CHUNK,
    RATE,
    RUN_FIELDS,
    SECOND_SLOT,
    STEP,
)
from tests import reference

REALS = [np.float32, np.float64]


def numbers(length, real=np.float64, seed=0):
    return np.random.default_rng(seed).standard_normal(length).astype(real)


def steps(update, start, gradients, slots, *options):
    """The parameter after each step; for ``adam_update``, 'step' among the options is the step's number."""
    p = np.array([start])
    state = [np.zeros(1) for _ in range(slots)]
    path = []
    for number, gradient in enumerate(gradients, 1):
        numbered = [number if option == "step" else option for option in options]
        assert update(p, *state, np.array([gradient]), *numbered, 0, 1) == OK
        path.append(p[0])
    return path


def test_sgd_by_hand():
    # 1 - 0.1 * 0.5 = 0.95; 0.95 - 0.1 * (-1) = 1.05
    assert steps(sgd_update, 1.0, [0.5, -1.0], 0, 0.1, 0.0, 0.0) == pytest.approx([0.95, 1.05], rel=1e-15)
    # l2 = 0.25 adds 2 * 0.25 * p to the gradient: 1 - 0.1 * 0.5 = 0.95; 0.95 - 0.1 * 0.475 = 0.9025
    assert steps(sgd_update, 1.0, [0.0, 0.0], 0, 0.1, 0.0, 0.25) == pytest.approx([0.95, 0.9025], rel=1e-15)
    # l1 = 2 moves by 0.1 * 2 towards zero after the step, and stops there
    path = steps(sgd_update, -0.5, [0.0, 0.5, 0.0, 0.1], 0, 0.1, 2.0, 0.0)
    assert path == pytest.approx([-0.3, -0.15, 0.0, 0.0], rel=1e-15)
    assert path[2:] == [0.0, 0.0]


def test_momentum_by_hand():
    # v = -0.05, p = 0.95; v = 0.9 * -0.05 - 0.05 = -0.095, p = 0.855
    path = steps(momentum_update, 1.0, [0.5, 0.5], 1, 0.1, 0.9, False, 0.0, 0.0)
    assert path == pytest.approx([0.95, 0.855], rel=1e-15)
    # Nesterov: p = 1 + 0.9 * -0.05 - 0.05 = 0.905; p = 0.905 + 0.9 * -0.095 - 0.05 = 0.7695
    path = steps(momentum_update, 1.0, [0.5, 0.5], 1, 0.1, 0.9, True, 0.0, 0.0)
    assert path == pytest.approx([0.905, 0.7695], rel=1e-15)


def test_adam_by_hand():
    # Without epsilon the first step is the rate, whatever the gradient. Then m = 0.9 * 0.05 - 0.1 = -0.055,
    # m_hat = -0.055 / 0.19 = -0.28947; v = 0.999 * 0.00025 + 0.001 = 0.00124975,
    # v_hat = v / 0.001999 = 0.625188; p = 0.9 + 0.1 * 0.28947 / 0.790688 = 0.9366103
    path = steps(adam_update, 1.0, [0.5, -1.0], 2, 0.1, 0.9, 0.999, 0.0, "step", 0.0, 0.0, 0.0)
    assert path == pytest.approx([0.9, 0.9366103], rel=1e-7)
    # epsilon stands outside the root, beside the corrected moment: 1 - 0.1 * 0.5 / (0.5 + 0.5) = 0.95
    path = steps(adam_update, 1.0, [0.5], 2, 0.1, 0.9, 0.999, 0.5, "step", 0.0, 0.0, 0.0)
    assert path == pytest.approx([0.95], rel=1e-12)
    # decay is decoupled: 1 - 0.1 - 0.1 * 0.5 * 1 = 0.85
    path = steps(adam_update, 1.0, [0.5], 2, 0.1, 0.9, 0.999, 0.0, "step", 0.5, 0.0, 0.0)
    assert path == pytest.approx([0.85], rel=1e-12)


UPDATES = {
    "sgd": (sgd_update, reference.sgd_update, 0, lambda step: ()),
    "momentum": (momentum_update, reference.momentum_update, 1, lambda step: (0.9, False)),
    "nesterov": (momentum_update, reference.momentum_update, 1, lambda step: (0.8, True)),
    "adam": (adam_update, reference.adam_update, 2, lambda step: (0.9, 0.999, 1e-7, step, 0.0)),
    "adamw": (adam_update, reference.adam_update, 2, lambda step: (0.8, 0.99, 1e-3, step, 0.1)),
}


@pytest.mark.parametrize("name", UPDATES)
@pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.0), (0.03, 0.02)])
@pytest.mark.parametrize("length", [1, 37])
def test_fifty_steps_are_the_twin_s(name, l1, l2, length):
    update, twin, slots, options = UPDATES[name]
    p = numbers(length)
    state = [p, *(np.zeros(length) for _ in range(slots))]
    expected = tuple(array.copy() for array in state)
    for step in range(1, 51):
        g = numbers(length, seed=step)
        assert update(*state, g, 0.05, *options(step), l1, l2, 0, 1) == OK
        expected = twin(*expected, g, 0.05, *options(step), l1, l2)
        expected = expected if slots else (expected,)
    for array, wanted in zip(state, expected, strict=True):
        np.testing.assert_allclose(array, wanted, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("name", UPDATES)
def test_bits_do_not_depend_on_the_slices(name, real):
    update, _, slots, options = UPDATES[name]
    length = 1003 if COMPILED else 67
    start = [numbers(length, real, seed) for seed in range(slots + 1)]
    start[2:] = [slot * slot for slot in start[2:]]
    g = numbers(length, real, 9)

    def result(parts):
        state = [array.copy() for array in start]
        for first, last, size in parts:
            for rank in range(size):
                arrays = [array[first:last] for array in [*state, g]]
                assert update(*arrays, 0.01, *options(3), 0.01, 0.02, rank, size) == OK
        return b"".join(array.tobytes() for array in state)

    whole = result([(0, length, 1)])
    for size in (2, 3, 8, length + 5):
        assert result([(0, length, size)]) == whole
    for cut in range(1, length, 41):
        assert result([(0, cut, 1), (cut, length, 1)]) == whole


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("name", UPDATES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_seen(name, real, bad):
    update, _, slots, options = UPDATES[name]
    for length in (1, 40):
        for place in {0, length // 2, length - 1}:
            for which in range(slots + 2):  # the parameters, a slot, or the gradient
                state = [numbers(length, real, seed) ** 2 for seed in range(slots + 2)]
                state[which][place] = bad
                with np.errstate(all="ignore"):
                    status = update(*state, 0.01, *options(1), 0.01, 0.02, 0, 1)
                assert status == NOT_FINITE
                others = np.arange(length) != place
                assert np.isfinite(state[0][others]).all()


def test_the_soft_threshold_keeps_nan():
    p = np.full(20, np.nan, np.float32)
    assert sgd_update(p, np.zeros_like(p), 0.1, 1.0, 0.0, 0, 1) == NOT_FINITE
    assert np.isnan(p).all()


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("length", [1, 7, 8, 100, 1001])
def test_penalty(real, length):
    p = numbers(length, real)
    assert penalty_sum(p, 0.1, 0.03) == pytest.approx(reference.penalty_sum(p, 0.1, 0.03), rel=1e-13)


def plan_records(real, length, offset, penalty=True, decay=1):
    """(run, parameter, arenas): one parameter of ``length`` elements among others."""
    arenas = [numbers(offset + length + 5, real, seed) for seed in range(4)]
    arenas[3] *= arenas[3]
    options = np.array([0.9, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.01, 0.02])
    rate = np.array([0.05])
    run = reference.record(
        RUN_FIELDS,
        {
            PARAMETERS: arenas[0],
            GRADIENTS: arenas[1],
            FIRST_SLOT: arenas[2],
            SECOND_SLOT: arenas[3],
            OPTIONS: options,
            RATE: rate,
            STEP: 6,
        },
    )
    parameter = reference.record(
        PARAMETER_FIELDS,
        {OFFSET: offset, LENGTH: length, COLUMNS: 1, PENALTY: 8 if penalty else -1, DECAY: decay},
    )
    return run, parameter, arenas, (options, rate)


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("penalty", [False, True])
@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "adamw"])
def test_plans(name, penalty, real):
    length, offset, decay = 30, 7, int(name == "adamw")
    run, parameter, arenas, (options, rate) = plan_records(real, length, offset, penalty, decay)
    if name.startswith("adam"):
        options[:4] = 0.9, 0.99, 1e-7, 0.3
    plans = {"sgd": plan_sgd_update, "momentum": plan_momentum_update}
    before = [arena.copy() for arena in arenas]
    for first, last in ((0, 1), (1, 20), (20, length)):
        status = reference.run_plan(plans.get(name, plan_adam_update)(real), run, parameter, first, last)
        assert status == OK
    l1, l2 = (0.01, 0.02) if penalty else (0.0, 0.0)
    p, g, first_slot, second_slot = (arena[offset : offset + length].astype(float) for arena in before)
    if name == "sgd":
        expected = [reference.sgd_update(p, g, rate[0], l1, l2), g, first_slot, second_slot]
    elif name == "momentum":
        p, velocity = reference.momentum_update(p, first_slot, g, rate[0], 0.9, True, l1, l2)
        expected = [p, g, velocity, second_slot]
    else:
        decay = 0.3 * decay
        p, m, v = reference.adam_update(p, first_slot, second_slot, g, rate[0], 0.9, 0.99, 1e-7, 7, decay, l1, l2)
        expected = [p, g, m, v]
    tolerance = 1e-5 if real is np.float32 else 1e-12
    for arena, old, wanted in zip(arenas, before, expected, strict=True):
        np.testing.assert_array_equal(arena[:offset], old[:offset])
        np.testing.assert_array_equal(arena[offset + length :], old[offset + length :])
        np.testing.assert_allclose(arena[offset : offset + length], wanted, rtol=tolerance, atol=tolerance / 10)


@pytest.mark.parametrize("real", REALS)
def test_penalty_plan(real):
    length, offset = 2 * PENALTY_CHUNK + 100, 5
    run, parameter, arenas, _alive = plan_records(real, length, offset)
    penalties = np.full(6, np.nan)
    run[PENALTIES] = penalties.ctypes.data
    parameter[FIRST_CHUNK], parameter[LENGTH], parameter[COLUMNS] = 2, length // 2, 2
    for first, last in ((1, 3), (0, 1)):
        assert reference.run_plan(plan_penalty(real), run, parameter, first, last) == OK
    p = arenas[0][offset : offset + length]
    for chunk in range(3):
        part = p[chunk * PENALTY_CHUNK :][:PENALTY_CHUNK]
        assert penalties[2 + chunk] == penalty_sum(part, 0.01, 0.02)
    assert np.isnan(penalties[[0, 1, 5]]).all()
