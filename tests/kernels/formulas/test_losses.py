"""The formulas of losses: their slopes against central differences, and what they do at the ends."""

import numpy as np
import pytest

from fastnn.kernels.formulas import losses

PAIRS = {
    "squared_error": (losses.squared_error, losses.squared_error_slope, np.linspace(-3, 3, 13)),
    "absolute_error": (losses.absolute_error, losses.absolute_error_slope, np.linspace(-3.1, 3, 13)),
    "binary_cross_entropy": (
        losses.binary_cross_entropy,
        losses.binary_cross_entropy_slope,
        np.linspace(0.01, 0.99, 13),
    ),
    "cross_entropy": (losses.cross_entropy, losses.cross_entropy_slope, np.linspace(0.01, 1.5, 13)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_slope_is_the_derivative(name):
    value, slope, places = PAIRS[name]
    for y in places:
        for target in (0.0, 0.3, 1.0):
            p, t, step = np.float64(y), np.float64(target), 1e-6
            numerical = (value(p + step, t) - value(p - step, t)) / (2 * step)
            assert slope(p, t) == pytest.approx(numerical, rel=1e-7, abs=1e-8)


@pytest.mark.parametrize("real", [np.float32, np.float64])
@pytest.mark.parametrize("name", PAIRS)
def test_nan_stays_nan(name, real):
    value, slope, _ = PAIRS[name]
    for target in (0, 1):
        with np.errstate(invalid="ignore"):
            assert np.isnan(value(real(np.nan), real(target)))
            assert np.isnan(slope(real(np.nan), real(target)))
    assert np.isnan(losses.sigmoid_cross_entropy(real(np.nan), real(1)))


def test_by_hand():
    assert losses.squared_error(3.0, 1.0) == 4.0
    assert losses.squared_error_slope(3.0, 1.0) == 4.0
    assert losses.absolute_error(1.0, 3.0) == 2.0
    assert [losses.absolute_error_slope(y, 1.0) for y in (3.0, 1.0, -3.0)] == [1.0, 0.0, -1.0]
    # -log(0.25) = 1.386294; (0.25 - 1) / (0.25 * 0.75) = -4
    assert losses.binary_cross_entropy(0.25, 1.0) == pytest.approx(1.3862943611198906, rel=1e-15)
    assert losses.binary_cross_entropy_slope(0.25, 1.0) == -4.0
    assert losses.cross_entropy(0.25, 0.5) == pytest.approx(0.6931471805599453, rel=1e-15)
    assert losses.cross_entropy_slope(0.25, 0.5) == -2.0
    # log(1 + exp(2)) = 2.126928 for a logit of 2 and target 0; 2 less for target 1
    assert losses.sigmoid_cross_entropy(2.0, 0.0) == pytest.approx(2.1269280110429727, rel=1e-15)
    assert losses.sigmoid_cross_entropy(2.0, 1.0) == pytest.approx(0.1269280110429727, rel=1e-14)


@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_certain_probabilities_have_finite_losses(real):
    zero, one = real(0), real(1)
    for y in (zero, one):
        assert losses.binary_cross_entropy(y, y) == 0
        assert losses.binary_cross_entropy(y, one - y) == 100
        assert losses.binary_cross_entropy_slope(y, y) == 0
        assert losses.binary_cross_entropy_slope(y, one - y) == pytest.approx(1e12 * (2 * y - 1))
    assert losses.cross_entropy(zero, zero) == 0
    assert losses.cross_entropy(zero, one) == 100
    assert losses.cross_entropy(one, one) == 0
    assert losses.cross_entropy_slope(zero, one) == pytest.approx(-1e12)


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
    for formula in formulas:
        exact = formula(np.float64(0.1), np.float64(1))
        rounded = formula(real(0.1), real(1))
        assert rounded == pytest.approx(exact, rel=3e-7)
        # Numba hands every float to Python as a double: a float32 result shows in that it is one exactly.
        assert real(rounded) == rounded
