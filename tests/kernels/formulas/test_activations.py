"""Elementary functions and activations: values and slopes within a few ULP of the exact ones, limits, NaN."""

import mpmath
import numpy as np
import pytest

from fastnn.kernels.cpu.activations import activation_backward, activation_forward
from fastnn.kernels.formulas import elementary
from fastnn.kernels.formulas.activations import ACTIVATIONS
from fastnn.kernels.jit import COMPILED, formula
from tests import reference_activations as reference

REALS = [np.float32, np.float64]
NAMES = sorted(ACTIVATIONS)
VALUE_ULP, SLOPE_ULP = 4, 8


def value_of(name, x):
    """The activation of the numbers x, by the compiled loop."""
    y = np.empty_like(x)
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        activation_forward(ACTIVATIONS[name].value)(y[None], x[None], 0, 1)
    return y


def slope_of(name, x):
    y, dx, dy = value_of(name, x), np.empty_like(x), np.ones_like(x)
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        activation_backward(ACTIVATIONS[name].slope)(dx[None], dy[None], x[None], y[None], 0, 1)
    return dx


def apply(function, x):
    y = np.empty_like(x)
    activation_forward(function)(y[None], x[None], 0, 1)
    return y


def single_numbers():
    """Float32 numbers of all magnitudes and both signs, dense where activations bend; at most 3e38."""
    bits = np.arange(0, 2**32, 16411 if COMPILED else 2**25 + 3, dtype=np.uint32)
    count = 100_001 if COMPILED else 101
    dense = [np.linspace(-size, size, count, dtype=np.float32) for size in (3, 120)]
    x = np.concatenate([bits.view(np.float32), *dense])
    return x[np.abs(x) <= 3e38]


def double_numbers():
    """Float64 numbers, likewise, but fewer: mpmath is slow."""
    count = 500 if COMPILED else 30
    random = np.random.default_rng(1)
    powers = 10.0 ** random.uniform(-320, 307, count // 2) * random.choice([-1, 1], count // 2)
    x = [
        random.uniform(-760, 760, count),
        random.uniform(-40, 40, count),
        random.normal(size=2 * count),
        powers,
    ]
    return np.concatenate([*x, [5e-324, -5e-324, 0.0]])


def single_error(y, exact):
    """The distance of float32 numbers y from the exact ones (float64), in units in the last place."""
    _, exponent = np.frexp(exact)
    unit = np.ldexp(1.0, np.maximum(exponent - 24, -149))
    with np.errstate(over="ignore"):
        hit = y == exact.astype(np.float32)
    return np.where(hit, 0, np.abs(y - exact) / unit)


def double_error(y, exact):
    """The same for one float64 number y and an mpmath number."""
    if exact == y:
        return 0.0
    _, exponent = mpmath.frexp(exact)
    return float(abs(mpmath.mpf(float(y)) - exact) / mpmath.ldexp(1, max(exponent - 53, -1074)))


@pytest.mark.parametrize("real", REALS)
def test_a_quotient_is_within_two_units(real):
    random = np.random.default_rng(1)
    count = 200_000 if COMPILED else 1000
    y = np.concatenate([random.uniform(1, 4, count), 2.0 ** random.uniform(-125.9, 125.9, count)]).astype(real)

    @formula
    def one_over(x):
        return elementary.quotient(type(x)(1), x)

    found, exact = apply(one_over, y), 1 / y.astype(np.longdouble)
    assert np.abs((found - exact) / np.spacing(exact.astype(real))).max() <= 2
    if real is np.float64:
        np.testing.assert_array_equal(found, 1 / y)


def test_a_quotient_by_a_large_number_and_by_none():
    one = np.float32(1)
    for y in (1.7e38, 3e38, np.inf):
        assert 0 < elementary.quotient(one, np.float32(y)) <= 1.3e-38
    for x, y in ((0.0, 0.0), (np.nan, 1.0), (1.0, np.nan)):
        with np.errstate(all="ignore"):
            assert np.isnan(elementary.quotient(np.float32(x), np.float32(y)))


def test_singles_are_told_from_doubles():
    assert elementary.single(np.float32(3))
    assert not elementary.single(np.float64(3))


@pytest.mark.parametrize("name", NAMES)
def test_float32_values(name):
    x = single_numbers()
    error = single_error(value_of(name, x), np.asarray(reference.VALUES[name](x.astype(np.float64))))
    assert error.max() <= VALUE_ULP, x[error.argmax()]


@pytest.mark.parametrize("name", NAMES)
def test_float32_slopes(name):
    x = single_numbers()
    wide = x.astype(np.float64)
    slope, exact = slope_of(name, x), np.asarray(reference.SLOPES[name](wide))
    error = single_error(slope, exact)
    near_root = np.abs(wide - reference.ROOTS.get(name, np.inf)) < 0.5
    error[near_root & (np.abs(slope - exact) <= 4 * np.finfo(np.float32).eps)] = 0
    assert error.max() <= SLOPE_ULP, x[error.argmax()]


@pytest.mark.parametrize("name", NAMES)
def test_float64_values_and_slopes(name):
    x = double_numbers()
    values, slopes = value_of(name, x), slope_of(name, x)
    value, slope = reference.EXACT[name]
    root = reference.ROOTS.get(name, np.inf)
    # Enough digits for 1 + exp(-760) and for the tails that cancel.
    with mpmath.workdps(60):
        for i, number in enumerate(x):
            if abs(number) > 760 and name not in ("linear", "relu", "leaky_relu", "softsign"):
                continue  # beyond the limits, see below
            exact = mpmath.mpf(float(number))
            assert double_error(values[i], value(exact)) <= VALUE_ULP, number
            correct = slope(exact)
            close = abs(number - root) < 0.5 and abs(slopes[i] - correct) <= 4 * np.finfo(np.float64).eps
            assert close or double_error(slopes[i], correct) <= SLOPE_ULP, number


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("name", NAMES)
def test_limits(name, real):
    below, above, slope_below, slope_above = reference.LIMITS[name]
    ends = np.array([-np.inf, np.inf], real)
    np.testing.assert_allclose(value_of(name, ends), [below, above], rtol=4e-7)
    np.testing.assert_allclose(slope_of(name, ends), [slope_below, slope_above], rtol=4e-7)
    huge = np.array([-1e38, 1e38, -1e30, 1e30], real)
    assert np.isfinite(value_of(name, huge)).all()
    assert np.isfinite(slope_of(name, huge)).all()
    np.testing.assert_allclose(slope_of(name, huge), np.tile([slope_below, slope_above], 2), rtol=4e-7, atol=1e-30)


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("name", NAMES)
def test_nan_stays_nan(name, real):
    # In every place of a vector and of the rest after the last one; with either sign.
    for nan in (np.nan, -np.nan):
        x = np.full(37, nan, real)
        assert np.isnan(value_of(name, x)).all()
        assert np.isnan(slope_of(name, x)).all()
        x[::2] = 1
        assert (np.isnan(value_of(name, x)) == np.isnan(x)).all()
        assert (np.isnan(slope_of(name, x)) == np.isnan(x)).all()


@pytest.mark.parametrize("name", NAMES)
def test_slopes_are_central_differences(name):
    x, h = np.linspace(-8, 8, 321 if COMPILED else 33) + 1e-3, 1e-5  # not at 0, where some have a corner
    difference = (value_of(name, x + h) - value_of(name, x - h)) / (2 * h)
    np.testing.assert_allclose(slope_of(name, x), difference, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in NAMES if ACTIVATIONS[name].from_output])
def test_slope_from_output_ignores_the_input(name):
    x = np.array([-2.0, -0.0, 0.0, 3.0])
    y, dx, dy = value_of(name, x), np.empty(4), np.ones(4)
    activation_backward(ACTIVATIONS[name].slope)(dx[None], dy[None], y[None], y[None], 0, 1)
    np.testing.assert_array_equal(dx, slope_of(name, x))


ELEMENTARY = {"exp": np.exp, "expm1": np.expm1, "log": np.log, "log1p": np.log1p, "tanh": np.tanh}


@pytest.mark.parametrize("name", ELEMENTARY)
def test_elementary_functions_float32(name):
    x = single_numbers()
    x = np.abs(x) if name.startswith("log") else x
    with np.errstate(over="ignore", divide="ignore"):
        exact = ELEMENTARY[name](x.astype(np.float64))
    y = apply(getattr(elementary, name), x)
    finite = np.abs(exact) < np.finfo(np.float32).max
    error = single_error(y[finite], exact[finite])
    assert error.max() <= (3 if name == "tanh" else 2), x[finite][error.argmax()]
    np.testing.assert_array_equal(y[~finite], np.sign(exact[~finite]) * np.inf)


@pytest.mark.parametrize("name", ELEMENTARY)
def test_elementary_functions_float64(name):
    x = double_numbers()
    x = np.abs(x) if name.startswith("log") else x[np.abs(x) < 745]
    x = x[x != 0]
    y = apply(getattr(elementary, name), x)
    with mpmath.workdps(60):
        for i in range(x.size):
            exact = getattr(mpmath, name)(mpmath.mpf(float(x[i])))
            if exact > np.finfo(np.float64).max:
                assert y[i] == np.inf
            else:
                assert double_error(y[i], exact) <= (3 if name == "tanh" else 2), x[i]


@pytest.mark.parametrize("real", REALS)
def test_elementary_functions_at_the_ends(real):
    inf, nan = np.inf, np.nan
    largest = np.log(np.finfo(real).max)
    expected = {
        "exp": {-inf: 0, inf: inf, 0.0: 1, nan: nan},
        "expm1": {-inf: -1, inf: inf, 0.0: 0, nan: nan},
        "log": {0.0: -inf, inf: inf, 1.0: 0, -1.0: nan, -inf: nan, nan: nan},
        "log1p": {0.0: 0, inf: inf, nan: nan},
        "tanh": {-inf: -1, inf: 1, 0.0: 0, nan: nan},
    }
    for name, values in expected.items():
        y = apply(getattr(elementary, name), np.array(list(values), real))
        np.testing.assert_array_equal(y, np.array(list(values.values()), real), err_msg=name)
    x = np.array([largest * (1 - 1e-6), largest * (1 + 1e-6)], real)
    for name in ("exp", "expm1"):
        np.testing.assert_array_equal(np.isfinite(apply(getattr(elementary, name), x)), [True, False])
