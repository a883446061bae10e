"""The formulas of losses: their slopes against central differences, and what they do at the ends."""

import numpy as np
import pytest

from fastnn.kernels.formulas import losses

#: name -> (value, slope, places of y, the parameters of the loss to try, none for one that takes none)
PAIRS = {
    "squared_error": (losses.squared_error, losses.squared_error_slope, np.linspace(-3, 3, 13), [0.0]),
    "absolute_error": (losses.absolute_error, losses.absolute_error_slope, np.linspace(-3.1, 3, 13), [0.0]),
    "huber": (losses.huber, losses.huber_slope, np.linspace(-3.1, 3, 13), [0.25, 1.0, 10.0]),
    "pinball": (losses.pinball, losses.pinball_slope, np.linspace(-3.1, 3, 13), [0.1, 0.5, 0.9]),
}


@pytest.mark.parametrize("name", PAIRS)
def test_slope_is_the_derivative(name):
    value, slope, places, options = PAIRS[name]
    for y in places:
        for target in (0.0, 0.3, 1.0):
            for option in [[np.float64(number)] for number in options] or [[]]:
                p, t, step = np.float64(y), np.float64(target), 1e-6
                numerical = (value(p + step, t, *option) - value(p - step, t, *option)) / (2 * step)
                assert slope(p, t, *option) == pytest.approx(numerical, rel=1e-7, abs=1e-8)


@pytest.mark.parametrize("real", [np.float32, np.float64])
@pytest.mark.parametrize("name", PAIRS)
def test_nan_stays_nan(name, real):
    value, slope, _, options = PAIRS[name]
    option = [real(number) for number in options[:1]]
    for target in (0, 1):
        with np.errstate(invalid="ignore"):
            assert np.isnan(value(real(np.nan), real(target), *option))
            assert np.isnan(slope(real(np.nan), real(target), *option))
    assert np.isnan(losses.sigmoid_cross_entropy(real(np.nan), real(1)))


def test_by_hand():
    assert losses.squared_error(3.0, 1.0, 0.0) == 4.0
    assert losses.squared_error_slope(3.0, 1.0, 0.0) == 4.0
    assert losses.absolute_error(1.0, 3.0, 0.0) == 2.0
    assert [losses.absolute_error_slope(y, 1.0, 0.0) for y in (3.0, 1.0, -3.0)] == [1.0, 0.0, -1.0]
    # 0.5 * 1 inside; 2 * (3 - 1) outside; at the border 2 both ways
    assert [losses.huber(y, 1.0, 2.0) for y in (2.0, -2.0, 3.0, 4.0)] == [0.5, 4.0, 2.0, 4.0]
    assert [losses.huber_slope(y, 1.0, 2.0) for y in (2.0, -2.0, 3.0, 1.0)] == [1.0, -2.0, 2.0, 0.0]
    # 0.75 * 2 below the target, 0.25 * 2 above it
    assert [losses.pinball(y, 1.0, 0.75) for y in (-1.0, 3.0, 1.0)] == [1.5, 0.5, 0.0]
    assert [losses.pinball_slope(y, 1.0, 0.75) for y in (-1.0, 3.0, 1.0)] == [-0.75, 0.25, 0.0]
    # 1 * (1 - 0.2) + 0.2 / 4
    assert losses.smoothed(1.0, 0.2, 0.05) == pytest.approx(0.85, rel=1e-15)
    # log(1 + exp(2)) = 2.126928 for a logit of 2 and target 0; 2 less for target 1
    assert losses.sigmoid_cross_entropy(2.0, 0.0) == pytest.approx(2.1269280110429727, rel=1e-15)
    assert losses.sigmoid_cross_entropy(2.0, 1.0) == pytest.approx(0.1269280110429727, rel=1e-14)


@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_large_logits(real):
    one, zero, infinity = real(1), real(0), real(np.inf)
    with np.errstate(all="ignore"):
        assert losses.sigmoid_cross_entropy(real(1000), zero) == 1000
        assert losses.sigmoid_cross_entropy(real(1000), one) == 0
        assert losses.sigmoid_cross_entropy(infinity, one) == 0
        assert losses.sigmoid_cross_entropy(-infinity, zero) == 0
        assert losses.sigmoid_cross_entropy(infinity, zero) == np.inf
        assert losses.sigmoid_cross_entropy(-infinity, one) == np.inf
        # exp(-30) is lost beside 1, but not in the loss
        assert losses.sigmoid_cross_entropy(real(30), one) == pytest.approx(np.exp(-30.0), rel=1e-6)


@pytest.mark.parametrize("real", [np.float32, np.float64])
@pytest.mark.parametrize("name", [*PAIRS, "sigmoid_cross_entropy"])
def test_results_have_the_type_of_the_arguments(name, real):
    formulas = PAIRS[name][:2] if name in PAIRS else [losses.sigmoid_cross_entropy]
    option = PAIRS[name][3][:1] if name in PAIRS else []
    for formula in formulas:
        exact = formula(np.float64(0.1), np.float64(1), *map(np.float64, option))
        rounded = formula(real(0.1), real(1), *map(real, option))
        assert rounded == pytest.approx(exact, rel=3e-7)
        # Numba hands every float to Python as a double: a float32 result shows in that it is one exactly.
        assert real(rounded) == rounded


@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_large_errors_and_parameters_of_huber(real):
    """Far out the slope is delta, and the loss is infinite only where it has to be."""
    large, zero = np.finfo(real).max, real(0)
    with np.errstate(over="ignore"):
        assert losses.huber(large, zero, real(0.5)) == pytest.approx(large / 2)
        assert losses.huber_slope(large, zero, real(0.5)) == 0.5
        assert losses.huber_slope(-large, zero, real(0.5)) == -0.5
        assert losses.huber(real(3), zero, real(np.inf)) == 4.5
        assert losses.huber_slope(real(3), zero, real(np.inf)) == 3
        assert losses.huber(real(np.inf), zero, real(1)) == np.inf
