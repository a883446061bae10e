"""Initial weights: their distribution, and that they depend on the seed and the layer's place alone."""

import numpy as np
import pytest

import fastnn as fn
from fastnn import initializers


def drawn(initializer, shape=(300, 200), seed=0):
    return initializers.get("w", initializer)(shape, np.random.default_rng(seed))


#: name -> (mean, standard deviation, largest absolute value) of a matrix of 300 inputs and 200 units.
THEORY = {
    "zeros": (0, 0, 0),
    "ones": (1, 0, 1),
    "constant": (0, 0, 0),
    "normal": (0, 0.01, None),
    "uniform": (0.05, 0.1 / np.sqrt(12), 0.1),
    "glorot_normal": (0, np.sqrt(2 / 500), None),
    "glorot_uniform": (0, np.sqrt(2 / 500), np.sqrt(6 / 500)),
    "he_normal": (0, np.sqrt(2 / 300), None),
    "he_uniform": (0, np.sqrt(2 / 300), np.sqrt(6 / 300)),
    "lecun_normal": (0, np.sqrt(1 / 300), None),
    "lecun_uniform": (0, np.sqrt(1 / 300), np.sqrt(3 / 300)),
    "orthogonal": (0, np.sqrt(1 / 300), None),
    "xavier_normal": (0, np.sqrt(2 / 500), None),
    "xavier_uniform": (0, np.sqrt(2 / 500), np.sqrt(6 / 500)),
    "kaiming_normal": (0, np.sqrt(2 / 300), None),
    "kaiming_uniform": (0, np.sqrt(2 / 300), np.sqrt(6 / 300)),
}


def test_the_table_is_whole():
    assert set(THEORY) == set(initializers.BY_NAME)


@pytest.mark.parametrize("name", THEORY)
def test_the_distribution(name):
    mean, deviation, most = THEORY[name]
    values = drawn(name)
    assert values.mean() == pytest.approx(mean, abs=max(1e-12, 5 * deviation / np.sqrt(values.size)))
    assert values.std() == pytest.approx(deviation, rel=0.02)
    if most is not None:
        assert np.abs(values).max() <= most and (most == 0 or np.abs(values).max() > 0.99 * most)
    else:  # the fourth moment of a normal distribution; that of a uniform one is 1.8
        assert ((values / values.std()) ** 4).mean() == pytest.approx(3, abs=0.15)


@pytest.mark.parametrize("shape", [(5, 5), (7, 3), (3, 7), (1, 4), (4, 1)])
def test_orthogonal(shape):
    values = drawn(fn.Orthogonal(2.0), shape)
    gram = values.T @ values if shape[0] >= shape[1] else values @ values.T
    np.testing.assert_allclose(gram, 4 * np.eye(min(shape)), atol=1e-12)
    assert drawn("orthogonal", (6,)).shape == (6,)
    signs = [np.sign(drawn("orthogonal", (3, 3), seed)[0, 0]) for seed in range(50)]
    assert 10 < sum(sign > 0 for sign in signs) < 40


def test_a_layer_depends_on_the_seed_and_its_place_alone():
    def weights(*layers, seed=5):
        return [layer.W.copy() for layer in fn.Model([fn.Input(3), *layers], seed=seed).layers if hasattr(layer, "W")]

    one = weights(fn.Dense(4), fn.Dense(5, kernel_initializer="orthogonal"), fn.Dense(2))
    two = weights(fn.Dense(4, kernel_initializer="zeros"), fn.Dense(5, kernel_initializer="orthogonal"), fn.Dense(7))
    np.testing.assert_array_equal(one[1], two[1])
    assert not np.array_equal(one[0], weights(fn.Dense(4), seed=6)[0])
    again = weights(fn.Dense(4, use_bias=False), fn.Dense(5, kernel_initializer="orthogonal"), fn.Dense(2))
    for first, second in zip(one, again, strict=True):
        np.testing.assert_array_equal(first, second)


def test_a_function():
    layer = fn.Dense(4, kernel_initializer=lambda shape, generator: generator.integers(0, 9, shape))
    fn.Model([fn.Input(3), layer], seed=0)
    assert set(np.unique(layer.W)) <= set(range(9))
    with pytest.raises(ValueError, match=r"dense_1.W gave has shape \(2,\); expected \(3, 4\)"):
        fn.Model([fn.Input(3), fn.Dense(4, kernel_initializer=lambda shape, generator: [1, 2])], seed=0)
    with pytest.raises(ValueError, match="expected finite numbers"):
        fn.Model([fn.Input(3), fn.Dense(4, kernel_initializer=lambda shape, _: np.full(shape, np.nan))], seed=0)
    with pytest.raises(TypeError, match="kernel_initializer is 3"):
        fn.Dense(4, kernel_initializer=3)
    with pytest.raises(TypeError, match=r"bias_initializer is Initializer\(\) .* does not define __call__\(shape, gen"):
        fn.Dense(4, bias_initializer=fn.Initializer())
    with pytest.raises(ValueError, match="did you mean 'orthogonal'"):
        fn.Dense(4, kernel_initializer="ortogonal")


def test_defaults_by_activation():
    for activation in set(fn.layers.ACTIVATIONS) - {"selu"}:
        assert isinstance(fn.Dense(3, activation).kernel_initializer, fn.GlorotUniform)
    assert isinstance(fn.Dense(3, "selu").kernel_initializer, fn.LecunNormal)
