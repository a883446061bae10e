"""The data sets: shapes, types, ranges, seeds, and the digits' bytes."""

import hashlib

import numpy as np
import pytest

from fastnn import datasets

DRAWN = {
    "moons": datasets.moons,
    "circles": datasets.circles,
    "xor": datasets.xor,
    "spirals": datasets.spirals,
    "blobs": datasets.blobs,
}


def test_digits_are_what_they_were():
    X, y = datasets.digits()
    assert X.shape == (1797, 64) and X.dtype == np.float32 and X.flags.c_contiguous
    assert y.shape == (1797,) and y.dtype == np.int64
    assert X.min() == 0 and X.max() == 1
    pixels, labels = (X * 16).astype(np.uint8), y.astype(np.uint8)
    np.testing.assert_array_equal(pixels / np.float32(16), X)
    np.testing.assert_array_equal(np.bincount(y), [178, 182, 177, 183, 181, 182, 181, 179, 174, 180])
    digest = hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()
    assert digest == "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"


def test_digits_are_those_of_scikit_learn():
    sklearn_datasets = pytest.importorskip("sklearn.datasets")
    X, y = datasets.digits()
    pixels, labels = sklearn_datasets.load_digits(return_X_y=True)
    np.testing.assert_array_equal(X, pixels / 16)
    np.testing.assert_array_equal(y, labels)


def test_digits_are_a_fresh_copy_each_time():
    X, y = datasets.digits()
    X[:], y[:] = 0, 0
    X, y = datasets.digits()
    assert X.max() == 1 and y.max() == 9


@pytest.mark.parametrize("name", DRAWN)
def test_drawn_points(name):
    X, y = DRAWN[name](101)
    classes = y.max() + 1
    assert X.shape == (101, 2) and X.dtype == np.float32 and np.isfinite(X).all() and X.flags.c_contiguous
    assert y.shape == (101,) and y.dtype == np.int64 and y.min() == 0
    assert np.ptp(np.bincount(y)) <= 1
    # In random order: the last fifth holds every class.
    assert set(y[-20:]) == set(range(classes))


#: What a call without arguments means; tutorials and other people's results rest on it.
DEFAULTS = {
    "moons": {"noise": 0.1},
    "circles": {"factor": 0.5, "noise": 0.05},
    "xor": {"noise": 0.0},
    "spirals": {"classes": 2, "turns": 1.5, "noise": 0.02},
    "blobs": {"classes": 3, "noise": 0.3},
}


@pytest.mark.parametrize("name", DRAWN)
def test_defaults(name):
    X, y = DRAWN[name]()
    expected_X, expected_y = DRAWN[name](1000, **DEFAULTS[name], seed=0)
    np.testing.assert_array_equal(X, expected_X)
    np.testing.assert_array_equal(y, expected_y)


@pytest.mark.parametrize("name", DRAWN)
def test_seed_decides(name):
    X, y = DRAWN[name](50, seed=3)
    again_X, again_y = DRAWN[name](50, seed=3)
    other_X, _ = DRAWN[name](50, seed=4)
    np.testing.assert_array_equal(X, again_X)
    np.testing.assert_array_equal(y, again_y)
    assert not np.array_equal(X, other_X)


def test_moons_lie_on_half_circles():
    X, y = datasets.moons(200, noise=0)
    centers = np.where(y[:, None] == 0, [0, 0], [1, 0.5])
    np.testing.assert_allclose(np.hypot(*(X - centers).T), 1, rtol=1e-6)
    assert (X[y == 0, 1] >= -1e-6).all() and (X[y == 1, 1] <= 0.5 + 1e-6).all()


def test_circles_have_their_radii():
    X, y = datasets.circles(200, factor=0.25, noise=0)
    np.testing.assert_allclose(np.hypot(*X.T), np.where(y == 0, 1, 0.25), rtol=1e-6)


def test_xor_label_is_the_sign_of_the_product():
    X, y = datasets.xor(500)
    np.testing.assert_array_equal(y, (X[:, 0] > 0) != (X[:, 1] > 0))
    assert np.abs(X).max() <= 1


def test_spirals_are_one_spiral_turned():
    X, y = datasets.spirals(600, classes=3, turns=1.25, noise=0)
    radius, angle = np.hypot(*X.T), np.arctan2(X[:, 1], X[:, 0])
    rest = angle - 2 * np.pi * (1.25 * radius + y / 3)
    np.testing.assert_allclose(np.exp(1j * rest), 1, atol=1e-4)


def test_blobs_have_their_centers_and_spread():
    X, y = datasets.blobs(8000, classes=4, noise=0.2, seed=1)
    for k, center in enumerate([[1, 0], [0, 1], [-1, 0], [0, -1]]):
        # 2000 points: five standard errors are 5 * 0.2 / sqrt(2000) = 0.022 of the mean, 0.016 of the spread.
        np.testing.assert_allclose(X[y == k].mean(axis=0), center, atol=0.022)
        np.testing.assert_allclose(X[y == k].std(axis=0), 0.2, atol=0.016)


def test_noise_is_a_standard_deviation():
    quiet, _ = datasets.circles(5000, noise=0, seed=2)
    loud, _ = datasets.circles(5000, noise=0.3, seed=2)
    assert (loud - quiet).std() == pytest.approx(0.3, rel=0.05)


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize(
    ("arguments", "fault", "message"),
    [
        ({"n": 0}, ValueError, "n is 0; expected a whole number of at least 1"),
        ({"n": 1.5}, ValueError, r"n is 1\.5; expected a whole number"),
        ({"n": "10"}, TypeError, "n is '10'; expected a whole number"),
        ({"n": 1}, ValueError, "n is 1; expected at least one row for each of the"),
        ({"noise": -0.1}, ValueError, r"noise is -0\.1; expected a finite number at least 0"),
        ({"noise": float("nan")}, ValueError, "noise is nan; expected a finite number"),
        ({"seed": -1}, ValueError, "seed is -1; expected a whole number of at least 0"),
        ({"seed": None}, TypeError, "seed is None; expected a whole number"),
    ],
)
def test_bad_arguments(name, arguments, fault, message):
    with pytest.raises(fault, match=message):
        DRAWN[name](**arguments)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: datasets.circles(factor=1), r"factor is 1; expected a finite number above 0 and below 1"),
        (lambda: datasets.spirals(classes=0), "classes is 0; expected a whole number of at least 1"),
        (lambda: datasets.spirals(turns=0), "turns is 0; expected a finite number above 0"),
        (lambda: datasets.blobs(classes=0), "classes is 0; expected a whole number of at least 1"),
        (lambda: datasets.blobs(4, classes=5), "n is 4; expected at least one row for each of the 5 classes"),
    ],
)
def test_bad_arguments_of_one(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
