"""Layers alone: what widths they take, what they keep, and whose arrays they write to."""

import copy
import pickle

import numpy as np
import pytest

import fastnn as fn


class Doubled(fn.Layer):
    """y = 2x, in Python."""

    def forward(self, x, training=False):
        return 2 * self._input_rows(x)

    def backward(self, dy):
        return 2 * dy


@pytest.mark.filterwarnings("ignore:.* is written in Python")
@pytest.mark.parametrize("make", [lambda: fn.Activation("relu"), lambda: fn.Dropout(0.5), Doubled])
def test_a_width_that_follows_from_the_inputs_follows_the_next_ones_too(make):
    used, unfinished = make(), make()
    used.forward(np.ones((2, 3)))
    assert (used.inputs, used.units) == (3, 3)
    with pytest.raises(ValueError, match="given"):
        fn.Model([fn.Input(3), unfinished, fn.Dense(1, kernel_initializer=refuse)])
    for layer in (used, unfinished):
        model = fn.Model([fn.Input(4), fn.Dense(5), layer, fn.Dense(1)], seed=0)
        assert model.layers[3].W.shape == (5, 1) and layer.units == 5
        assert model.predict(np.ones((2, 4))).shape == (2, 1)
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert twin.layers[2].units == 5


def refuse(shape, generator):
    raise ValueError("no weights were given")


def test_the_last_layer_says_how_many_outputs_there_are():
    last = fn.Activation("relu")
    last.forward(np.ones((2, 3)))
    model = fn.Model([fn.Input(4), fn.Dense(5), last])
    assert model.outputs == model.plan.outputs == 5


@pytest.mark.parametrize("x", [np.ones(3), np.ones((0, 3)), [[1.0, np.nan]], np.ones((2, 2, 2))])
def test_rows_that_are_refused_build_nothing(x):
    for layer in (fn.Dense(2), fn.Activation("relu"), fn.Dropout(0.5)):
        with pytest.raises(ValueError, match=r"^x has "):
            layer.forward(x)
        assert not layer.built
        assert layer.forward(np.ones((1, 4))).shape == (1, layer.units)


def test_what_a_layer_forgets_is_gone():
    layer = fn.Dense(3, "tanh")
    layer.forward(np.ones((2, 2)))
    layer.forget()
    assert not any(isinstance(value, np.ndarray) for key, value in vars(layer).items() if key in ("_x", "_a", "_y"))
    with pytest.raises(RuntimeError, match="backward of layer 'dense' came before forward"):
        layer.backward(np.ones((2, 3)))


def test_an_activation_that_is_changed_changes_everywhere():
    x = np.linspace(-1, 1, 6).reshape(2, 3)
    changed, made = fn.Dense(2, "relu"), fn.Dense(2, "tanh")
    changed.forward(x)
    changed.activation = "tanh"
    models = [fn.Model([fn.Input(3), layer], seed=0) for layer in (changed, made)]
    for layer in (changed, made):
        layer.forward(x)
    np.testing.assert_array_equal(changed.backward(np.ones((2, 2))), made.backward(np.ones((2, 2))))
    for ask in (lambda model: model.predict(x), lambda model: model.activations(x)["dense_1"]):
        np.testing.assert_array_equal(*map(ask, models))


def test_what_is_changed_in_a_layer_before_it_is_in_a_model_is_checked():
    for layer in (fn.Dense(2), fn.Activation("relu")):
        with pytest.raises(ValueError, match=r"activation is 'foo'; expected one of 'linear'"):
            layer.activation = "foo"
    layer = fn.Dense(2, "relu")
    layer.activation, layer.use_bias = None, True
    assert layer.activation == "linear"
    with pytest.raises(AttributeError, match=r"dense\.use_bias is fixed; expected another Dense\(.*use_bias=False"):
        layer.use_bias = False
    with pytest.raises(TypeError, match="use_bias is 1; expected True or False"):
        layer.use_bias = 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("training", [True, False])
def test_backward_leaves_dy_as_it_was(dtype, training):
    x = np.ones((50, 4), dtype)
    for layer in (fn.Dropout(0.5), fn.Dense(4, "tanh"), fn.Activation("relu")):
        layer.forward(x, training)
        dy = np.ones((50, 4), dtype)
        layer.backward(dy)
        assert (dy == 1).all() and (x == 1).all()
