"""``model.check_gradients``: it passes what is right, fails what is wrong, and names the part that is wrong."""

import math

import numpy as np
import pytest

import fastnn as fn

RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((20, 4))
LABELS = RANDOM.integers(0, 3, 20)
NUMBERS = RANDOM.standard_normal((20, 2))

mish = fn.ActivationFunction(
    lambda x: x * math.tanh(math.log1p(math.exp(x))),
    lambda x, y: (
        math.tanh(math.log1p(math.exp(x))) + x * (1 - math.tanh(math.log1p(math.exp(x))) ** 2) / (1 + math.exp(-x))
    ),
    "mish",
)
quartic = fn.LossFunction(lambda y, target: (y - target) ** 4, lambda y, target: 4 * (y - target) ** 3, "quartic")


class Scale(fn.Layer):
    """y = x · s, with a factor of its gradient, or of dx, that may be wrong."""

    kind = "scale"

    def __init__(self, wrong=1.0, wrong_dx=1.0, *, name=None, trainable=True):
        super().__init__(name=name, trainable=trainable)
        self.wrong, self.wrong_dx = wrong, wrong_dx

    def build(self, inputs, **given):
        super().build(inputs, **given)
        self.parameters["s"] = np.linspace(0.5, 1.5, inputs)

    def forward(self, x, training=False):
        self._x = x
        noise = np.random.default_rng().standard_normal(x.shape) if training else 0.0
        return x * self.parameters["s"] + noise

    def backward(self, dy):
        self.gradients["s"] = self.wrong * (dy * self._x).sum(axis=0)
        return self.wrong_dx * dy * self.parameters["s"]


def model_of(*layers, loss="mse", outputs=2, last=None, dtype="float32"):
    model = fn.Model([fn.Input(4), *layers, fn.Dense(outputs, last)], seed=1, dtype=dtype)
    model.compile("adam", loss)
    return model


MODELS = {
    "labels": lambda: model_of(fn.Dense(8, "relu"), fn.Dropout(0.5), loss="cross_entropy", outputs=3, last="softmax"),
    "float64": lambda: model_of(fn.Dense(8, "silu"), fn.Activation("tanh"), loss=fn.Huber(0.5), dtype="float64"),
    "penalties": lambda: model_of(
        fn.Dense(8, "relu", kernel_regularizer=fn.L1L2(0.01, 0.02), bias_regularizer="l2"), loss="mae"
    ),
    "frozen": lambda: model_of(fn.Dense(8, "tanh"), fn.Dense(8, "tanh", trainable=False)),
    "own": lambda: model_of(fn.Dense(8, mish), fn.Dense(8, use_bias=False), fn.Activation(mish), loss=quartic),
    "own penalty": lambda: model_of(
        fn.Dense(8, kernel_regularizer=fn.Penalty(lambda w: math.log(1 + w * w), lambda w: 2 * w / (1 + w * w)))
    ),
    "own layer": lambda: model_of(fn.Dense(8, "tanh"), Scale(), fn.Dense(5, mish)),
}


def targets(name):
    return LABELS if name == "labels" else NUMBERS


@pytest.mark.filterwarnings("ignore:layer 'scale_1' is written in Python")
@pytest.mark.parametrize("name", MODELS)
def test_what_is_right_passes_and_stays_as_it_was(name):
    model, y = MODELS[name](), targets(name)
    model.fit(X, y, epochs=1, verbose=0)
    state = [array.copy() for array in (*model.get_weights(), *model.arenas.slots)]
    counters = model.step, model.epoch, model.dtype, [layer.dtype for layer in model.layers]
    report = model.check_gradients(X, y)
    assert report and report.passed and report.faults == []
    assert report.worst.error <= 1e-6, report
    trained = [f"{layer.name}.{key}" for layer in model.layers if layer.trainable for key in layer.parameters]
    assert [check.parameter for check in report.checks] == trained
    assert all(check.entries == min(check.size, 50) and check.kinks == 0 for check in report.checks)
    for array, kept in zip((*model.get_weights(), *model.arenas.slots), state, strict=True):
        np.testing.assert_array_equal(array, kept)
    assert counters == (model.step, model.epoch, model.dtype, [layer.dtype for layer in model.layers])
    assert str(model.check_gradients(X, y)) == str(report), "not reproducible"


def far(x):
    return abs(x) > 50


#: name -> (model, words of the fault): one part is wrong, where the data leads.
WRONG = {
    "activation in a Dense layer": (
        lambda: model_of(
            fn.Dense(6, "tanh"),
            fn.Dense(8, fn.ActivationFunction(lambda x: x, lambda x, y: 0.9 if far(x) else 1.0, "mine")),
        ),
        "layer 'dense_2': the slope of ActivationFunction('mine') is wrong: at x = ",
    ),
    "activation alone": (
        lambda: model_of(
            fn.Dense(6), fn.Activation(fn.ActivationFunction(abs, lambda x, y: 1.0 if far(x) else np.sign(x), "mine"))
        ),
        "layer 'activation_1': the slope of ActivationFunction('mine') is wrong: at x = -",
    ),
    "loss": (
        lambda: model_of(
            fn.Dense(6, mish),
            loss=fn.LossFunction(lambda y, target: (y - target) ** 2, lambda y, target: y - target, "mine"),
        ),
        "the slope of LossFunction('mine') is wrong: at y = ",
    ),
    "penalty": (
        lambda: model_of(
            fn.Dense(
                6,
                mish,
                kernel_initializer=fn.Constant(60),
                kernel_regularizer=fn.Penalty(lambda w: w * w, lambda w: w if far(w) else 2 * w, "mine"),
            )
        ),
        "layer 'dense_1': the slope of its kernel_regularizer Penalty('mine') is wrong: at w = 60, ",
    ),
    "layer's parameter": (
        lambda: model_of(fn.Dense(6, mish), Scale(wrong=1.01)),
        "layer 'scale_1': backward gives ",
    ),
    "layer's input": (
        lambda: model_of(fn.Dense(6, mish), Scale(wrong_dx=0.5)),
        "layer 'scale_1': backward gives ",
    ),
}


@pytest.mark.filterwarnings("ignore:layer 'scale_1' is written in Python")
@pytest.mark.parametrize("name", WRONG)
def test_the_part_that_is_wrong_is_named_and_no_other(name):
    make, words = WRONG[name]
    model = make()
    if "activation" in name:
        for layer in model.layers[1:-1]:
            if layer.parameters:
                layer.W = layer.W * 100
    report = model.check_gradients(X, NUMBERS)
    assert not report and not report.passed
    assert report.worst.error > 1e-4
    assert len(report.faults) == 1 and report.faults[0].startswith(words), report
    assert words in str(report) and "FAILED" in str(report) and " !" in str(report)


def test_a_gradient_that_is_wrong_as_a_whole(monkeypatch):
    """All parts are right, but one entry of one gradient is not: the report says which."""
    model = MODELS["labels"]()
    gradients = fn.Model.gradients

    def wrong(self, *arguments):
        found = gradients(self, *arguments)
        found["dense_1.W"][2, 5] += 0.1
        return found

    monkeypatch.setattr(fn.Model, "gradients", wrong)
    for entries, place, distance in ((50, (2, 5), 0.1), (5, (), 0.1 / math.sqrt(32))):
        report = model.check_gradients(X, LABELS, entries=entries)
        assert (report.worst.parameter, report.worst.place) == ("dense_1.W", place)
        assert abs(report.worst.backpropagation - report.worst.differences) == pytest.approx(distance, rel=1e-5)
        assert [check.error > 1e-5 for check in report.checks] == [True, False, False, False]
        assert ("all" if entries == 5 else "2, 5") in str(report).splitlines()[1]
    assert report.faults == ["each part alone is right: what is wrong is how fastnn joins them"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_gradients_that_are_not_finite_fail(monkeypatch, value):
    model = MODELS["labels"]()
    gradients = fn.Model.gradients(model, X, LABELS)
    gradients["dense_1.b"][3] = value
    monkeypatch.setattr(fn.Model, "gradients", lambda *arguments: gradients)
    report = model.check_gradients(X, LABELS)
    assert not report and report.worst.error == np.inf and report.worst.place == (3,)


def test_kinks_are_left_out_and_counted():
    """Rows of zeros and a bias of 0: each unit stands at the kink of its ReLU."""
    model = model_of(fn.Dense(8, "relu"), loss="mae")
    report = model.check_gradients(np.zeros((5, 4)), NUMBERS[:5])
    assert report, report
    kinks = {check.parameter: check.kinks for check in report.checks}
    assert kinks["dense_1.b"] == 8 and kinks["dense_1.W"] == kinks["dense_2.W"] == kinks["dense_2.b"] == 0


def test_kinks_hide_no_mistake():
    """A slope of 2 beside a kink between slopes 0 and 1."""
    wrong = fn.ActivationFunction(lambda x: max(x, 0.0), lambda x, y: 2.0 if x == 0 else (1.0 if x > 0 else 0.0))
    report = model_of(fn.Dense(8, wrong.trusted()), loss="mae").check_gradients(np.zeros((5, 4)), NUMBERS[:5])
    assert not report and report.worst.parameter == "dense_1.b"


def test_metrics_are_not_asked_for():
    calls = []

    def counted(y_true, y_pred):
        calls.append(len(y_true))
        return 0.0

    model = MODELS["labels"]()
    model.compile("sgd", model.loss, [counted])
    assert model.check_gradients(X, LABELS)
    assert calls == [] and [metric.name for metric in model.metrics] == ["counted"]


def test_the_report(capsys):
    report = MODELS["labels"]().check_gradients(X, LABELS, entries=10, tolerance=1e-4)
    print(report)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["parameter", "entries", "kinks", "relative", "error", "at", "backpropagation"] + [
        "central",
        "differences",
    ]
    assert lines[1].split()[:5] == ["dense_1.W", "10", "of", "32", "0"]
    assert len(lines) == 6 and len({len(line) for line in lines[:-1]}) == 1
    assert lines[-1].startswith("passed: relative errors up to ") and lines[-1].endswith("where 1e-04 is tolerated")
    assert repr(report) == str(report)
    assert report.worst.error == max(check.error for check in report.checks)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epsilon": 0}, "epsilon is 0; expected a finite number above 0"),
        ({"epsilon": "small"}, "epsilon is 'small'"),
        ({"tolerance": 1}, "tolerance is 1"),
        ({"tolerance": float("nan")}, "tolerance is nan"),
        ({"entries": 0}, "entries is 0; expected a whole number of at least 1"),
    ],
)
def test_bad_input(options, words):
    with pytest.raises((TypeError, ValueError)) as caught:
        MODELS["labels"]().check_gradients(X, LABELS, **options)
    assert words in str(caught.value)


def test_what_comes_before_compile_or_does_not_fit():
    model = fn.Model([fn.Input(4), fn.Dense(2)], seed=0)
    with pytest.raises(RuntimeError, match="check_gradients came before compile"):
        model.check_gradients(X, NUMBERS)
    frozen = fn.Model([fn.Input(4), fn.Dense(2, trainable=False)], seed=0)
    frozen.compile("sgd", "mse")
    with pytest.raises(ValueError, match="the model has no parameter that is trained"):
        frozen.check_gradients(X, NUMBERS)
    with pytest.raises(ValueError, match="X has 3 columns; expected 4"):
        MODELS["labels"]().check_gradients(X[:, :3], LABELS)
    with pytest.raises(ValueError, match="y has the label 4 in row 0"):
        MODELS["labels"]().check_gradients(X, LABELS + 3)
