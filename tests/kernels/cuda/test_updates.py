"""Updates on the GPU against the CPU's; numbers that change on the device; the gate."""

import numpy as np
import pytest

from tests.kernels.cuda import running
from tests.kernels.cuda.running import REALS, assert_close, numbers, put, sizes

running.require()

from fastnn.kernels.cpu import updates as cpu  # noqa: E402
from fastnn.kernels.cuda import updates as kernels  # noqa: E402
from fastnn.kernels.cuda.launch import FOUND, GATE, Stream, close_gate  # noqa: E402
from fastnn.kernels.cuda.penalties import max_norm  # noqa: E402
from fastnn.kernels.layout import NOT_FINITE, OK  # noqa: E402

pytestmark = running.LIKE_A_GPU

LENGTHS = sizes([1, 17], [1, 255, 4097, 1_000_003])

#: The slope alone; scaled and clipped; with penalties.
ENDINGS = [(1.0, np.inf, 0.0, 0.0), (0.5, 0.75, 0.0, 0.0), (1.0, np.inf, 0.02, 0.05)]


def own(p, g, slots, rate, step, settings):
    """Momentum by another name, with a rate that grows: a user's own update."""
    for i in range(len(p)):
        slots[0][i] = settings[0] * slots[0][i] - rate * step * g[i]
        p[i] += slots[0][i]


#: name -> (kernel, slots, what stands between the rate and the ending, for a step)
UPDATES = {
    "sgd": ("sgd_update", 0, lambda step: ()),
    "momentum": ("momentum_update", 1, lambda step: (0.9, False)),
    "nesterov": ("momentum_update", 1, lambda step: (0.8, True)),
    "adagrad": ("adagrad_update", 1, lambda step: (1e-3,)),
    "rmsprop": ("rmsprop_update", 2, lambda step: (0.9, 0.0, 1e-3)),
    "rmsprop, momentum": ("rmsprop_update", 2, lambda step: (0.8, 0.7, 1e-3)),
    "adam": ("adam_update", 2, lambda step: (0.9, 0.999, 1e-7, step, 0.0)),
    "adamw": ("adam_update", 2, lambda step: (0.8, 0.99, 1e-3, step, 0.1)),
    "own": ("own_update", 2, lambda step: (step,)),
}


def updates_of(name):
    """(the CPU's kernel, the GPU's)"""
    function = UPDATES[name][0]
    if name == "own":
        return cpu.own_update(own, 1), kernels.own_update(own, 1)
    return getattr(cpu, function), getattr(kernels, function)


def arrays_of(name, length, real):
    """p, its slots and g."""
    p, g = numbers(length, real), numbers(length, real, 1)
    slots = [np.abs(numbers(length, real, 2 + number)) for number in range(UPDATES[name][1])]
    if name == "rmsprop":
        slots[1] = slots[1][:0]  # no momentum, no velocity
    return [p, *slots, g]


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("name", UPDATES)
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("length", LENGTHS)
def test_updates(length, ending, name, real):
    on_cpu, on_gpu = updates_of(name)
    arrays = arrays_of(name, length, real)
    there, stream = [put(array) for array in arrays], Stream()
    rate, counter, scale = put(np.array([0.1], real)), put(np.array([0])), put(np.array([ending[0]], real))
    for step in (1, 2, 3, 1000):
        settings = UPDATES[name][2](step)
        own_settings = (np.array([0.9]),) if name == "own" else ()
        assert on_cpu(*arrays, 0.1, *settings, *own_settings, *ending, 0, 1) == OK
        counter.copy_to_device(np.array([step]))
        changing = (
            [counter if number is step else number for number in settings] if "step" in name_of(name) else settings
        )
        on_gpu(*there, rate, *changing, *map(put, own_settings), scale, *ending[1:], stream)
        assert stream.status.copy_to_host().tolist() == [OK, OK]
    for found, wanted in zip(there, arrays, strict=True):
        assert_close(found, wanted, real, 60, 1 + np.abs(wanted))


def name_of(name):
    """The parameters of an update, as one text."""
    import inspect

    return " ".join(inspect.signature(getattr(cpu, UPDATES[name][0]).py_func).parameters) if name != "own" else "step"


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("step", [1, 2, 10, 1000, 10**6, 10**9])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.0), (0.99, 0.999999)])
def test_adam_corrects_its_means_to_some_units_in_the_last_place(betas, step, real):
    one, stream = np.ones(1, real), Stream()
    there = [put(array) for array in (np.zeros(1, real), one, one, one)]
    kernels.adam_update(*there, 1.0, *betas, 1e-8, put(np.array([step])), 0.0, 1.0, np.inf, 0.0, 0.0, stream)
    # The CPU has 1 - beta**step, whose float64 loses more of a beta near 1.
    with np.errstate(divide="ignore"):
        first, second = -np.expm1(step * np.log(np.array(betas, np.longdouble)))
    assert_close(there[0], -1 / first / (np.sqrt(1 / second) + 1e-8), real, 8)


@pytest.mark.parametrize("name", UPDATES)
def test_nothing_is_updated_behind_a_closed_gate(name):
    arrays, stream = arrays_of(name, 5, np.float32), Stream()
    there = [put(array) for array in arrays]
    stream.status.copy_to_device(np.array([OK, NOT_FINITE]))
    close_gate(stream)
    own_settings = (put(np.array([0.9])),) if name == "own" else ()
    updates_of(name)[1](*there, 0.1, *UPDATES[name][2](1), *own_settings, *ENDINGS[1], stream)
    for found, wanted in zip(there, arrays, strict=True):
        np.testing.assert_array_equal(found.copy_to_host(), wanted)
    p = put(np.full((3, 3), 9.0))
    max_norm(p, 1.0, stream)
    assert (p.copy_to_host() == 9).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", UPDATES)
def test_numbers_that_are_not_finite_are_seen(name, bad):
    arrays, stream = arrays_of(name, 5, np.float32), Stream()
    arrays[-1][3] = bad
    own_settings = (put(np.array([0.9])),) if name == "own" else ()
    there = [put(array) for array in arrays]
    updates_of(name)[1](*there, 0.1, *UPDATES[name][2](1), *own_settings, *ENDINGS[0], stream)
    assert stream.status.copy_to_host()[[GATE, FOUND]].tolist() == [OK, NOT_FINITE]
    assert np.isfinite(there[0].copy_to_host()).tolist() == [True, True, True, False, True]
