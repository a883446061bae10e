"""A layer written in Python: it trains, evaluates, predicts and saves, and says that it is slow."""

import copy

import numpy as np
import pytest

import fastnn as fn


class Scale(fn.Layer):
    """y = x · s, one factor for each column."""

    kind = "scale"

    def __init__(self, start=1.0, *, name=None, trainable=True):
        super().__init__(name=name, trainable=trainable)
        self.start = start

    def build(self, inputs, **given):
        super().build(inputs, **given)
        self.parameters["s"] = np.full(inputs, self.start)

    def forward(self, x, training=False):
        self._x = x
        return x * self.parameters["s"]

    def backward(self, dy):
        self.gradients["s"] = (dy * self._x).sum(axis=0)
        return dy * self.parameters["s"]


class Pairs(fn.Layer):
    """y = the products of all pairs of columns, times a weight each: another width than x."""

    kind = "pairs"

    def __init__(self, inputs, *, name=None):
        super().__init__(name=name)
        self.left, self.right = np.triu_indices(inputs, 1)
        self.units = len(self.left)

    def build(self, inputs, **given):
        super().build(inputs, **given)
        self.parameters["w"] = np.linspace(0.5, 1.5, self.units)

    def forward(self, x, training=False):
        self._x = x
        return x[:, self.left] * x[:, self.right] * self.parameters["w"]

    def backward(self, dy):
        left, right = self._x[:, self.left], self._x[:, self.right]
        self.gradients["w"] = (dy * left * right).sum(axis=0)
        slope, dx = dy * self.parameters["w"], np.zeros_like(self._x)
        np.add.at(dx.T, self.left, (slope * right).T)
        np.add.at(dx.T, self.right, (slope * left).T)
        return dx


class Noise(fn.Layer):
    """Gaussian noise in training alone."""

    kind = "noise"

    def __init__(self, stddev, *, name=None):
        super().__init__(name=name)
        self.stddev = stddev
        self.generator = np.random.default_rng(0)

    def forward(self, x, training=False):
        return x + self.generator.normal(0, self.stddev, x.shape) if training else x

    def backward(self, dy):
        return dy


def data(rows=70):
    generator = np.random.default_rng(0)
    X = generator.standard_normal((rows, 3))
    return X, (X[:, 0] > X[:, 1]).astype(int)


def compiled(*layers, optimizer="adam", dtype="float64", metrics=("accuracy", "auc")):
    model = fn.Model([fn.Input(3), fn.Dense(6, "tanh"), *layers, fn.Dense(2, "softmax")], seed=0, dtype=dtype)
    model.compile(optimizer, "cross_entropy", metrics)
    return model


WARNED = pytest.mark.filterwarnings("ignore:layer .* is written in Python")


@WARNED
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_layer_that_changes_nothing_changes_nothing(dtype):
    """The engine and the path through Python are the same training, to the bit."""
    X, y = data()
    plain, own = compiled(dtype=dtype), compiled(Noise(0.0), dtype=dtype)
    own.set_weights(plain.get_weights())
    first = plain.fit(X, y, epochs=3, batch_size=16, validation_split=0.2)
    second = own.fit(X, y, epochs=3, batch_size=16, validation_split=0.2)
    for name, curve in first.to_dict().items():
        assert second[name] == pytest.approx(curve, rel=1e-12), name
    for name, array in plain.named_parameters().items():
        np.testing.assert_array_equal(own.named_parameters()[name], array)
    np.testing.assert_array_equal(own.predict(X), plain.predict(X))
    assert own.evaluate(X, y) == pytest.approx(plain.evaluate(X, y), rel=1e-12)


@WARNED
def test_its_parameters_are_trained():
    X, y = data()
    model = compiled(Scale(2.0))
    scale = model.layers[2]
    found = model.gradients(X, y)["scale_1.s"]
    numerical = np.empty_like(found)
    for i in range(len(found)):
        losses = []
        for step in (1e-6, -1e-6):
            scale.parameters["s"][i] += step
            losses.append(model.evaluate(X, y)["loss"])
            scale.parameters["s"][i] -= step
        numerical[i] = (losses[0] - losses[1]) / 2e-6
    np.testing.assert_allclose(found, numerical, atol=1e-7)
    history = model.fit(X, y, epochs=10)
    assert history["loss"][-1] < history["loss"][0] and not np.allclose(scale.parameters["s"], 2.0)
    frozen = compiled(Scale(2.0, trainable=False))
    frozen.fit(X, y, epochs=2)
    np.testing.assert_array_equal(frozen.layers[2].parameters["s"], np.full(6, 2.0))


@WARNED
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_may_have_weights_and_another_width(dtype):
    """The parameters lie in the model's memory and have its type, whatever ``build`` made."""
    X, y = data()
    model = compiled(Pairs(6), dtype=dtype)
    pairs = model.layers[2]
    assert (pairs.inputs, pairs.units) == (6, 15)
    assert pairs.parameters["w"].dtype == dtype and np.shares_memory(pairs.parameters["w"], model.arenas.parameters)
    assert model.count_parameters() == (24 + 15 + 32, 24 + 15 + 32)
    report = model.check_gradients(X, y)
    assert report and {check.parameter for check in report.checks} >= {"pairs_1.w"}
    before = pairs.parameters["w"].copy()
    history = model.fit(X, y, epochs=5)
    assert history["loss"][-1] < history["loss"][0] and not np.allclose(pairs.parameters["w"], before)
    assert pairs.gradients["w"].shape == (15,)


@WARNED
def test_its_parameters_may_be_attributes_too():
    class Named(Scale):
        def build(self, inputs, **given):
            super().build(inputs, **given)
            self.s = self.parameters["s"]

        def forward(self, x, training=False):
            self._x = x
            return x * self.s

    X, y = np.ones((20, 3)), np.full((20, 1), 7.0)
    model = fn.Model([fn.Input(3), Named(), fn.Dense(1, kernel_initializer="he_normal", trainable=False)], seed=0)
    model.compile(fn.SGD(0.01), "mse")
    losses = model.fit(X, y, epochs=5)["loss"]
    assert losses[-1] < losses[0]
    for one in (model, model.copy()):
        assert one.layers[1].s is one.layers[1].parameters["s"]
        assert np.array_equal(one.predict(X), one.activations(X)["dense_1"])


@WARNED
def test_noise_is_for_training_alone():
    X, y = data()
    model, plain = compiled(Noise(1.0)), compiled()
    model.set_weights(plain.get_weights())
    np.testing.assert_array_equal(model.predict(X), plain.predict(X))
    assert model.train_on_batch(X, y)["loss"] != plain.train_on_batch(X, y)["loss"]


@WARNED
def test_copies_files_and_threads(tmp_path):
    X, y = data()
    model = compiled(Scale(2.0))
    model.fit(X, y, epochs=1)
    model.save(tmp_path / "m")
    twins = [copy.deepcopy(model), fn.load(tmp_path / "m", {"Scale": Scale})]
    model.fit(X, y, epochs=2)
    for twin in twins:
        twin.fit(X, y, epochs=2)
        np.testing.assert_array_equal(twin.arenas.parameters, model.arenas.parameters)


@WARNED
def test_a_loss_that_is_not_finite_leaves_the_weights_as_they_were():
    """The loss alone: its slopes and the update would be finite."""
    layers = [fn.Input(1), fn.Dense(1, kernel_initializer=fn.Constant(1e160)), Scale()]
    model = fn.Model(layers, dtype="float64")
    model.compile("adam", "mse")
    with pytest.raises(FloatingPointError, match="epoch 1, batch 1 of 1"):
        model.fit([[1.0]], [0.0])
    assert model.layers[1].W == 1e160 and model.step == 0 and not any(slot.any() for slot in model.arenas.slots)


def test_it_says_that_it_is_slow():
    X, y = data()
    for ask in ("fit", "train_on_batch", "evaluate", "gradients", "predict"):
        model = compiled(Scale())
        with pytest.warns(UserWarning, match="layer 'scale_1' is written in Python, so the model runs kernel") as found:
            getattr(model, ask)(*((X,) if ask == "predict" else (X, y)))
        assert [warning.filename for warning in found] == [__file__]  # where the user asked for it
    model = compiled()
    model.fit(*data(), epochs=1)  # warnings are errors here


@WARNED
def test_what_ran_it_keeps_no_rows():
    X, y = data()
    model = compiled(Scale())
    for work in (lambda: model.fit(X, y), lambda: model.evaluate(X, y)):
        work()
        runner = model._runners["training"]
        assert not runner.activations and not runner.derivatives


@WARNED
def test_what_it_returns_is_checked():
    class Wide(Scale):
        def forward(self, x, training=False):
            return np.hstack([x, x])

    class Flat(Scale):
        def backward(self, dy):
            super().backward(dy)
            return dy.ravel()

    class Wrong(Scale):
        def backward(self, dy):
            self.gradients["s"] = np.ones(3)
            return dy

    class Forgotten(Scale):
        def backward(self, dy):
            return dy

    class Unfinished(fn.Layer):
        pass

    with pytest.raises(ValueError, match=r"forward of layer 'scale_1' returned shape \(32, 12\); expected \(32, 6\)"):
        compiled(Wide()).fit(*data())
    with pytest.raises(ValueError, match=r"backward of layer 'scale_1' returned shape \(192,\); expected \(32, 6\)"):
        compiled(Flat()).fit(*data())
    with pytest.raises(ValueError, match=r"gradients\['s'\] of layer 'scale_1' returned shape \(3,\); expected \(6,\)"):
        compiled(Wrong()).fit(*data())
    with pytest.raises(ValueError, match=r"backward of layer 'scale_1' did not set gradients\['s'\]"):
        compiled(Forgotten()).fit(*data())
    with pytest.raises(
        TypeError, match=r"layers\[2\] is Unfinished\('layer'\) .* does not define forward\(x, training\)"
    ):
        compiled(Unfinished())


def test_methods_with_other_arguments_are_told_when_the_model_is_made():
    class Forward(Scale):
        def forward(self, x):
            return x

    class Backward(Scale):
        def backward(self, dy, x):
            return dy

    for own, message in (
        (Forward(), r"layers\[2\]\.forward is a function of \(x\); expected a function of \(x, training\)"),
        (Backward(), r"layers\[2\]\.backward is a function of \(dy, x\); expected a function of \(dy\)"),
    ):
        with pytest.raises(TypeError, match=message):
            compiled(own)


@pytest.mark.parametrize(
    ("start", "kind", "message"),
    [
        (
            [1.0],
            TypeError,
            r"scale_1\.s is \[1\.0\] \(a list\); expected a NumPy array with entries, of one axis or more",
        ),
        (1.0, TypeError, r"scale_1\.s is 1\.0; expected a NumPy array with entries, of one axis or more"),
        (
            np.float32(1.0),
            TypeError,
            r"scale_1\.s is .*1\.0.*; expected a NumPy array with entries, of one axis or more",
        ),
        (
            np.array(1.0),
            TypeError,
            r"scale_1\.s is array\(1\.\) .*; expected a NumPy array with entries, of one axis or more",
        ),
        (np.empty(0), TypeError, r"scale_1\.s is .*; expected a NumPy array with entries, of one axis or more"),
        (np.array([1.0, np.nan]), ValueError, r"scale_1\.s .*nan"),
        (np.array(["one"]), TypeError, r"scale_1\.s "),
    ],
)
def test_what_build_makes_is_checked(start, kind, message):
    class Odd(Scale):
        def build(self, inputs, **given):
            super().build(inputs, **given)
            self.parameters["s"] = start

    with pytest.raises(kind, match=message):
        compiled(Odd())


def test_its_widths_are_checked():
    class Silent(Scale):
        def build(self, inputs, **given):
            pass

    class Half(Scale):
        def __init__(self):
            super().__init__()
            self.units = 2.5

    with pytest.raises(TypeError, match=r"build of layer 'scale_1' did not call super\(\)\.build\(inputs, \*\*given\)"):
        compiled(Silent())
    with pytest.raises((TypeError, ValueError), match=r"units is 2\.5; expected a whole number"):
        compiled(Half())


@pytest.mark.parametrize("method", ["forward", "backward"])
@pytest.mark.parametrize("base, arguments", [(fn.Dense, (2,)), (fn.Activation, ("tanh",)), (fn.Dropout, (0.5,))])
def test_a_layer_of_fastnn_with_a_method_of_its_own_is_refused(base, arguments, method):
    layer = type("Mine", (base,), {method: lambda self, *rest: 0})(*arguments)
    message = rf"layers\[1\] is a {base.__name__} with a {method} of its own, which the engine would not call; expected"
    with pytest.raises(TypeError, match=message):
        fn.Model([fn.Input(2), layer, fn.Dense(1)])
    plain = type("Mine", (base,), {"further": 1})(*arguments)
    fn.Model([fn.Input(2), plain, fn.Dense(1)])
