"""Models on disk: what is saved continues with the same bits, and what is damaged or hostile is refused."""

import copy
import functools
import hashlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

import fastnn as fn
from fastnn import dispatch, files, optimizers
from fastnn.kernels.jit import COMPILED

pytestmark = pytest.mark.skipif(not COMPILED, reason="takes long in plain Python")


def data(rows=90):
    generator = np.random.default_rng(0)
    X = generator.standard_normal((rows, 5))
    return X, (X[:, 0] * X[:, 1] > 0).astype(int) + (X[:, 2] > 1)


def small(optimizer="adam", dtype="float32", metrics=("accuracy", "f1")):
    layers = [
        fn.Input(5),
        fn.Dense(6, "relu", kernel_regularizer=fn.L1L2(1e-3, 1e-3), kernel_constraint=fn.MaxNorm(2), name="hidden"),
        fn.Dropout(0.2),
        fn.Dense(4, "tanh", use_bias=False, trainable=False),
        fn.Dense(3, "softmax", kernel_initializer=fn.Normal(0, 0.1), bias_regularizer="l2"),
    ]
    model = fn.Model(layers, seed=3, dtype=dtype, name="small")
    model.compile(optimizer, "cross_entropy", metrics, threads=1)
    return model


OPTIMIZERS = {
    name: kind for name, kind in optimizers.BY_NAME.items() if isinstance(kind().update, str) and kind().update
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [*OPTIMIZERS, "momentum", "rmsprop, momentum", "scheduled"])
def test_a_loaded_model_continues_with_the_same_bits(name, dtype, tmp_path):
    further = {
        "momentum": fn.SGD(0.01, 0.9, nesterov=True),
        "rmsprop, momentum": fn.RMSprop(momentum=0.5),
        "scheduled": fn.Adam(fn.Warmup(fn.ExponentialDecay(0.01, 20, 0.5), 5), clip_norm=1.0, clip_value=0.5),
    }
    model, (X, y) = small(further.get(name, name), dtype), data()
    model.fit(X, y, epochs=2, batch_size=16)
    model.save(tmp_path / "model.safetensors")
    history = model.fit(X, y, epochs=3, batch_size=16)
    loaded = fn.load(tmp_path / "model.safetensors")
    again = loaded.fit(X, y, epochs=3, batch_size=16)
    np.testing.assert_array_equal(loaded.arenas.parameters, model.arenas.parameters)
    assert again.to_dict() == history.to_dict()
    assert (loaded.step, loaded.epoch, loaded.seed, loaded.name) == (model.step, model.epoch, model.seed, "small")
    assert [repr(layer) for layer in loaded.layers] == [repr(layer) for layer in model.layers]
    assert repr(loaded.optimizer) == repr(model.optimizer) and loaded.threads == 1


@pytest.mark.parametrize("there", [False, True])
def test_the_precision_of_products_is_kept_also_where_the_processor_has_none(monkeypatch, capsys, tmp_path, there):
    monkeypatch.setattr("fastnn.kernels.cpu.amx.available", lambda: True)
    path, model = tmp_path / "model.safetensors", small()
    model.compile("adam", "cross_entropy", device="cpu", precision="bf16")
    model.save(path)
    monkeypatch.setattr("fastnn.kernels.cpu.amx.available", lambda: there)
    loaded = fn.load(path)
    assert loaded.to("cpu").plan.precision == ("bf16" if there else "float32")
    loaded.summary()
    assert capsys.readouterr().out.startswith(f"small: float32{' with products of bf16' * there}, seed 3")
    loaded.save(path)
    monkeypatch.setattr("fastnn.kernels.cpu.amx.available", lambda: True)
    assert fn.load(path).to("cpu").plan.precision == "bf16"


def part_cases():
    """(outputs, activation of the last layer, loss, metrics): every loss and metric of the library."""
    scores = [
        kind for kind in vars(fn.metrics).values() if isinstance(kind, type) and issubclass(kind, fn.metrics.Metric)
    ]
    parts = [getattr(fn.metrics, name) for name in fn.metrics.__all__ if name not in ("Metric", "FunctionMetric")]
    scores = [part for part in parts if isinstance(part, type)]
    of_numbers = {"MeanAbsoluteError", "MeanSquaredError", "RootMeanSquaredError", "R2"}
    numbers = [kind() for kind in scores if kind.__name__ in of_numbers]
    classes = [kind() for kind in scores if kind.__name__ not in of_numbers and kind.__name__ != "TopKAccuracy"]
    for loss in ("mse", "mae", "huber", "quantile"):
        yield 1, "linear", loss, numbers
    yield 1, "sigmoid", "binary_cross_entropy", classes
    yield 3, "softmax", "cross_entropy", [fn.metrics.TopKAccuracy(2)]


@pytest.mark.parametrize(
    ("outputs", "activation", "loss", "metrics"), list(part_cases()), ids=lambda value: str(value)[:20]
)
def test_every_loss_and_metric_comes_back(outputs, activation, loss, metrics, tmp_path):
    model, (X, y) = fn.Model([fn.Input(5), fn.Dense(outputs, activation)], seed=0), data()
    model.compile("adam", loss, metrics)
    y = y if outputs == 3 else np.minimum(y, 1)
    model.fit(X, y, epochs=1)
    model.save(tmp_path / "model.safetensors")
    loaded = fn.load(tmp_path / "model.safetensors")
    assert type(loaded.loss) is type(model.loss)
    assert [type(metric) for metric in loaded.metrics] == [type(metric) for metric in model.metrics]
    assert loaded.fit(X, y, epochs=2).to_dict() == model.fit(X, y, epochs=2).to_dict()


FURTHER = {
    "lbfgs": ("lbfgs", {}),
    "lbfgs, memory": (fn.LBFGS(3), {}),
    "cosine over the fit": (fn.SGD(fn.CosineDecay(0.1), momentum=0.5), {}),
    "cosine by name": (fn.Adam("cosine"), {}),
    "one cycle after a warm-up": (fn.SGD(fn.Warmup(fn.OneCycle(0.1), 3)), {}),
    "pieces": (fn.RMSprop(fn.PiecewiseConstantDecay([10, 20], [0.1, 0.05, 0.01])), {}),
    "steps": (fn.Adagrad(fn.StepDecay(0.1, 7), initial_accumulator_value=0.3), {}),
    "a function of the step": (fn.Adam(lambda step: 0.01 / (1 + step)), {"<lambda>": lambda step: 0.01 / (1 + step)}),
}


@pytest.mark.parametrize("name", FURTHER)
def test_schedules_and_lbfgs_continue_with_the_same_bits(name, tmp_path):
    optimizer, parts = FURTHER[name]
    model = fn.Model([fn.Input(5), fn.Dense(6, "tanh", kernel_regularizer="l2"), fn.Dense(3, "softmax")], seed=3)
    model.compile(optimizer, "cross_entropy", ["accuracy"])
    X, y = data()
    model.fit(X, y, epochs=2, batch_size=16)
    model.save(tmp_path / "m")
    loaded = fn.load(tmp_path / "m", parts)
    histories = [each.fit(X, y, epochs=3, batch_size=16).to_dict() for each in (model, loaded)]
    assert histories[0] == histories[1]
    np.testing.assert_array_equal(loaded.arenas.parameters, model.arenas.parameters)


def test_what_is_not_compiled_or_not_trained_is_saved_too(tmp_path):
    model = fn.Model([fn.Input(3), fn.Dense(2, "softmax")], seed=0)
    model.save(tmp_path / "m")
    loaded = fn.load(tmp_path / "m")
    assert loaded.loss is None
    np.testing.assert_array_equal(loaded.layers[1].W, model.layers[1].W)


class Same(fn.Layer):
    def forward(self, x, training=False):
        return x


def test_an_error_about_the_machine_is_none_about_the_file(tmp_path, monkeypatch):
    path = tmp_path / "m"
    model = fn.Model([fn.Input(2), fn.Dense(1)])
    model.compile("adam", "mse")
    model.save(path)
    monkeypatch.setenv("FASTNN_DEVICE", "foo")
    with pytest.raises(ValueError, match=r"^the environment variable FASTNN_DEVICE is 'foo'"):
        fn.load(path)
    monkeypatch.setenv("FASTNN_DEVICE", "cuda")
    monkeypatch.setattr(dispatch, "missing_for_gpu", lambda index=0: "there is none")
    with pytest.raises(RuntimeError, match=r'^the environment variable FASTNN_DEVICE is "cuda", but there is none'):
        fn.load(path)


def test_an_error_about_the_device_of_a_layer_is_none_about_the_file(tmp_path, monkeypatch):
    model = fn.Model([fn.Input(2), Same(), fn.Dense(1)])
    model.compile("adam", "mse")
    model.save(tmp_path / "m")
    monkeypatch.setenv("FASTNN_DEVICE", "cuda")
    monkeypatch.setattr(dispatch, "missing_for_gpu", lambda index=0: None)
    with pytest.raises(TypeError, match=r'^device is "cuda", but layer .* expected "cpu", here or in .* FASTNN_DEVICE'):
        fn.load(tmp_path / "m", {"Same": Same})


def test_a_model_that_no_targets_have_come_to_moves_and_is_loaded(tmp_path):
    model = fn.Model([fn.Input(2), fn.Dense(3, "softmax")])
    model.compile("adam", "cross_entropy", ["mse"])  # it needs one-hot rows
    assert model.to("cpu").plan.target_width == 3
    model.save(tmp_path / "m")
    assert fn.load(tmp_path / "m").metrics[0].name == "mse"


def test_weights_alone(tmp_path):
    model, other, (X, y) = small(), small("sgd"), data()
    model.fit(X, y, epochs=1)
    model.save_weights(tmp_path / "w")
    model.save(tmp_path / "m")
    for path in ("w", "m"):
        other.load_weights(tmp_path / path)
        np.testing.assert_array_equal(other.arenas.parameters, model.arenas.parameters)
        other.layers[1].W = other.layers[1].W + 1
    with pytest.raises(fn.ModelFileError, match=r"holds weights alone; expected a model, or model\.load_weights"):
        fn.load(tmp_path / "w")


@pytest.mark.parametrize("name", ["optimizer", "optimizer.0"])
def test_a_layer_may_be_named_as_the_optimizer(name, tmp_path):
    model, other = (fn.Model([fn.Input(2), fn.Dense(3, name=name), fn.Dense(1)], seed=seed) for seed in (0, 1))
    model.compile("adam", "mse")
    model.fit(np.eye(2), [1, 2], verbose=0)
    model.save(tmp_path / "m")
    model.save_weights(tmp_path / "w")
    for path in ("m", "w"):
        other.layers[1].W = np.zeros((2, 3))
        other.load_weights(tmp_path / path)
        np.testing.assert_array_equal(other.arenas.parameters, model.arenas.parameters)
    np.testing.assert_array_equal(fn.load(tmp_path / "m").arenas.slots, model.arenas.slots)


def test_a_layer_named_as_a_slot_is_refused():
    with pytest.raises(ValueError, match=r"^layers has a layer named 'optimizer\.0\.a', as files name .*"):
        fn.Model([fn.Input(2), fn.Dense(2, name="a"), fn.Dense(2, name="optimizer.0.a")])


def test_weights_that_do_not_fit_change_nothing(tmp_path):
    model = small()
    model.save_weights(tmp_path / "w")
    cases = {
        "no 'other.W'": [fn.Input(5), fn.Dense(6, name="other")],
        "shape \\(5, 6\\) in the file; expected \\(5, 7\\)": [
            fn.Input(5),
            fn.Dense(7, name="hidden"),
            fn.Dense(4, use_bias=False),
            fn.Dense(3),
        ],
        "has 'dense_3.W', which": [fn.Input(5), fn.Dense(6, name="hidden"), fn.Dense(4, use_bias=False)],
    }
    for message, layers in cases.items():
        other = fn.Model(layers, seed=0)
        before = other.arenas.parameters.copy()
        with pytest.raises(fn.ModelFileError, match=message):
            other.load_weights(tmp_path / "w")
        np.testing.assert_array_equal(other.arenas.parameters, before)
    with pytest.raises(fn.ModelFileError, match="is float32 in the file; expected float64"):
        small(dtype="float64").load_weights(tmp_path / "w")


# A user's own parts.


class Lion(fn.Optimizer):
    slots = 1

    def __init__(self, learning_rate=1e-3, beta=0.9):
        super().__init__(learning_rate)
        self.beta = beta

    def settings(self):
        return (self.beta,)

    @staticmethod
    def update(p, g, slots, rate, step, settings):
        for i in range(len(p)):
            slots[0][i] = settings[0] * slots[0][i] + (1 - settings[0]) * g[i]
            p[i] -= rate * np.sign(slots[0][i])


def spread(shape, generator):
    return generator.uniform(-0.5, 0.5, shape)


def mean_prediction(y_true, y_pred):
    return y_pred.mean()


def test_own_parts_come_back_by_name(tmp_path):
    X, y = data()
    model = fn.Model([fn.Input(5), fn.Dense(3, "softmax", kernel_initializer=spread)], seed=0)
    model.compile(Lion(0.01), "cross_entropy", [mean_prediction])
    model.fit(X, y, epochs=1)
    model.save(tmp_path / "m")
    parts = {"Lion": Lion, "spread": spread, "mean_prediction": mean_prediction}
    loaded = fn.load(tmp_path / "m", parts)
    for each in (model, loaded):
        each.fit(X, y, epochs=2)
    np.testing.assert_array_equal(loaded.arenas.parameters, model.arenas.parameters)
    for missing in parts:
        fewer = {name: part for name, part in parts.items() if name != missing}
        with pytest.raises(fn.ModelFileError, match=f"a part of your own, '{missing}'; expected load"):
            fn.load(tmp_path / "m", fewer)


def quartic(w):
    return 0.01 * w**4


def test_an_own_penalty_comes_back_by_name(tmp_path):
    X, y = data()
    penalty = fn.Penalty(quartic, lambda w: 0.04 * w**3)
    layers = [fn.Dense(4, kernel_regularizer=penalty, bias_regularizer=penalty), fn.Dense(3, "softmax")]
    model = fn.Model([fn.Input(5), *layers], seed=0)
    model.compile("adam", "cross_entropy")
    model.save(tmp_path / "m")
    loaded = fn.load(tmp_path / "m", {"quartic": penalty})
    for each in (model, loaded):
        each.fit(X, y, epochs=2)
    np.testing.assert_array_equal(loaded.arenas.parameters, model.arenas.parameters)


def fraction(y_true, y_pred, part):
    return part


#: what is in a model -> the words that say why it cannot be saved
UNSAVABLE = {
    "two functions of one name": (
        lambda: small(fn.Adam(lambda step: 0.1), metrics=[lambda y_true, y_pred: 1.0]),
        "two parts of your own named '<lambda>'; expected a name for each",
    ),
    "penalties of one name": (
        lambda: fn.Model(
            [
                fn.Input(2),
                fn.Dense(2, kernel_regularizer=fn.Penalty(quartic, lambda w: 0.04 * w**3)),
                fn.Dense(2, kernel_regularizer=fn.Penalty(quartic, lambda w: 0.04 * w**3)),
            ]
        ),
        "two parts of your own named 'quartic'",
    ),
    "a function without a name": (
        lambda: small(metrics=[functools.partial(fraction, part=0.5)]),
        r"it has functools.partial\(.*expected functions with a name",
    ),
    "a number that is none": (lambda: small(Endless(np.inf)), "it has inf; expected .*finite numbers"),
}


class Endless(fn.SGD):
    def __init__(self, end):
        super().__init__()
        self.end = end


@pytest.mark.parametrize("name", UNSAVABLE)
def test_what_could_not_be_loaded_is_not_saved(name, tmp_path):
    make, words = UNSAVABLE[name]
    with pytest.raises(TypeError, match=words):
        make().save(tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_numbers_of_numpy_are_saved(tmp_path):
    model = small(Endless(np.float32(0.25)))
    model.save(tmp_path / "m")
    assert fn.load(tmp_path / "m", {"Endless": Endless}).optimizer.end == 0.25


class Forgetful(fn.Optimizer):
    update = "sgd"

    def __init__(self, speed=0.1):
        super().__init__(speed)


def test_an_own_part_that_forgets_its_arguments_is_refused_before_anything_is_written(tmp_path):
    model = small(Forgetful())
    with pytest.raises(TypeError, match="does not keep its argument 'speed' as an attribute"):
        model.save(tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


# Damaged and hostile files.


def pack(header, tensors=b"", sign=True):
    """A file with this header (a dict or bytes), signed with the digest that belongs to it."""
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    length = len(text).to_bytes(8, "little")
    if sign:
        digest = hashlib.sha256(length + text + tensors).hexdigest().encode()
        text = text.replace(b'"sha256":"' + b"0" * 64, b'"sha256":"' + digest)
    return length + text + tensors


def unpack(content):
    """(header with its digest zeroed, description, data) of a file."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"]["sha256"] = "0" * 64
    return header, json.loads(header["__metadata__"]["fastnn"]), content[8 + length :]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model.safetensors"
    model = small("adam", metrics=())
    model.fit(*data(), epochs=1)
    model.save(path)
    return path.read_bytes()


def refused(content, path):
    path.write_bytes(content)
    with pytest.raises(fn.ModelFileError) as caught:
        fn.load(path)
    return str(caught.value)


def nested(depth):
    """[[[...]]], that deep."""
    found = []
    for _ in range(depth):
        found = [found]
    return found


def hostile(saved):
    """name -> content: files whose digest is right, so that something else has to refuse them."""

    def with_header(change):
        header, _, tensors = unpack(saved)
        change(header)
        return pack(header, tensors)

    def with_description(change):
        header, description, tensors = unpack(saved)
        change(description)
        header["__metadata__"]["fastnn"] = json.dumps(description)
        return pack(header, tensors)

    def entry(header):
        return header["hidden.W"]

    def put(target, **values):
        target.update(values)

    def nothing(shape):
        return {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}

    huge = 2**62
    cases = {
        "shape": with_header(lambda h: put(entry(h), shape=[6, 5])),
        "shape of nothing": with_header(lambda h: put(h, x=nothing([0]))),
        "shape of nothing, huge": with_header(lambda h: put(h, x=nothing([0, huge, huge]))),
        "shape of too many axes": with_header(lambda h: put(entry(h), shape=[*[1] * 70, 5, 6])),
        "shape too large": with_header(lambda h: put(entry(h), shape=[huge, huge])),
        "shape negative": with_header(lambda h: put(entry(h), shape=[-5, -6])),
        "shape fractional": with_header(lambda h: put(entry(h), shape=[5.0, 6])),
        "shape true": with_header(lambda h: put(entry(h), shape=[True, 30])),
        "shape missing": with_header(lambda h: entry(h).pop("shape")),
        "shape text": with_header(lambda h: put(entry(h), shape="5")),
        "type": with_header(lambda h: put(entry(h), dtype="I64")),
        "type unhashable": with_header(lambda h: put(entry(h), dtype=["F32"])),
        "type double": with_header(lambda h: put(entry(h), dtype="F64")),
        "offsets text": with_header(lambda h: put(entry(h), data_offsets="ab")),
        "offsets turned": with_header(lambda h: put(entry(h), data_offsets=entry(h)["data_offsets"][::-1])),
        "offsets huge": with_header(lambda h: put(entry(h), data_offsets=[huge, huge + 120])),
        "offsets beyond 64 bits": with_header(lambda h: put(entry(h), data_offsets=[2**70, 2**70 + 120])),
        "offsets overlap": with_header(lambda h: put(h["hidden.b"], data_offsets=[0, 24])),
        "entry is a list": with_header(lambda h: put(h, **{"hidden.W": [1, 2]})),
        "entry missing": with_header(lambda h: h.pop("hidden.b")),
        "entry extra": with_header(lambda h: put(h, x=nothing([]))),
        "metadata missing": with_header(lambda h: h.pop("__metadata__")),
        "metadata other": with_header(lambda h: put(h["__metadata__"], format="pt")),
        "metadata no text": with_header(lambda h: put(h["__metadata__"], fastnn=3)),
        "description no JSON": with_header(lambda h: put(h["__metadata__"], fastnn="{")),
        "description a list": with_header(lambda h: put(h["__metadata__"], fastnn="[]")),
        "description deep": with_header(lambda h: put(h["__metadata__"], fastnn="[" * 100_000)),
        "description NaN": with_header(lambda h: put(h["__metadata__"], fastnn='{"format": NaN}')),
        "newer": with_description(lambda d: put(d, format=2)),
        "format zero": with_description(lambda d: put(d, format=0)),
        "format true": with_description(lambda d: put(d, format=True)),
        "format text": with_description(lambda d: put(d, format="1")),
        "dtype": with_description(lambda d: put(d, dtype="float16")),
        "dtype double": with_description(lambda d: put(d, dtype="float64")),
        "seed negative": with_description(lambda d: put(d, seed=-1)),
        "seed huge": with_description(lambda d: put(d, seed=2**64)),
        "step fractional": with_description(lambda d: put(d, step=1.5)),
        "epoch text": with_description(lambda d: put(d, epoch="3")),
        "name": with_description(lambda d: put(d, name=3)),
        "layers nothing": with_description(lambda d: put(d, layers=[])),
        "layers text": with_description(lambda d: put(d, layers="Dense")),
        "layers a layer": with_description(lambda d: put(d, layers=d["layers"][1])),
        "layers numbers": with_description(lambda d: put(d, layers=[1, 2])),
        "layers without input": with_description(lambda d: put(d, layers=d["layers"][1:])),
        "layers turned": with_description(lambda d: put(d, layers=d["layers"][::-1])),
        "layer twice": with_description(lambda d: put(d, layers=[*d["layers"], d["layers"][1]])),
        "class unknown": with_description(lambda d: put(d["layers"][1], **{"class": "os.system"})),
        "class of Python": with_description(lambda d: put(d["layers"][1], **{"class": "eval"})),
        "class is a function": with_description(lambda d: put(d["layers"][1], **{"class": "layers.get"})),
        "class is a loss": with_description(lambda d: put(d["layers"][1], **{"class": "losses.MeanSquaredError"})),
        "class a list": with_description(lambda d: put(d["layers"][1], **{"class": ["layers.Dense"]})),
        "arguments a list": with_description(lambda d: put(d["layers"][1], arguments=[])),
        "arguments unknown": with_description(lambda d: put(d["layers"][1]["arguments"], cost=3)),
        "part with a key too many": with_description(lambda d: put(d["layers"][1], more=3)),
        "own part": with_description(lambda d: put(d, layers=[*d["layers"][:-1], {"own": "Mine", "arguments": {}}])),
        "own part a list": with_description(lambda d: put(d, layers=[*d["layers"][:-1], {"own": [1]}])),
        "units huge": with_description(lambda d: put(d["layers"][1]["arguments"], units=huge)),
        "units beyond 64 bits": with_description(lambda d: put(d["layers"][1]["arguments"], units=2**70)),
        "units zero": with_description(lambda d: put(d["layers"][1]["arguments"], units=0)),
        "units text": with_description(lambda d: put(d["layers"][1]["arguments"], units="6")),
        "input huge": with_description(lambda d: put(d["layers"][0]["arguments"], shape=[huge])),
        "bias": with_description(lambda d: put(d["layers"][1]["arguments"], use_bias=False)),
        "activation": with_description(lambda d: put(d["layers"][1]["arguments"], activation="rely")),
        "rate": with_description(lambda d: put(d["layers"][2]["arguments"], rate=2)),
        "regularizer": with_description(lambda d: put(d["layers"][1]["arguments"], kernel_regularizer=3)),
        "regularizer is a layer": with_description(
            lambda d: put(d["layers"][1]["arguments"], kernel_regularizer=d["layers"][2])
        ),
        "compiled text": with_description(lambda d: put(d, compiled="adam")),
        "compiled without loss": with_description(lambda d: d["compiled"].pop("loss")),
        "loss": with_description(lambda d: put(d["compiled"], loss={"class": "MeanSquared"})),
        "loss none": with_description(lambda d: put(d["compiled"], loss=None)),
        "optimizer": with_description(
            lambda d: put(d["compiled"], optimizer={"class": "optimizers.SGD", "arguments": {}})
        ),
        "optimizer a layer": with_description(lambda d: put(d["compiled"], optimizer=d["layers"][1])),
        "learning rate": with_description(lambda d: put(d["compiled"]["optimizer"]["arguments"], learning_rate=-1)),
        "metrics": with_description(lambda d: put(d["compiled"], metrics=["accurate"])),
        "metrics deep": with_description(lambda d: put(d["compiled"], metrics=nested(900))),
        "metrics a number": with_description(lambda d: put(d["compiled"], metrics=3)),
        "threads": with_description(lambda d: put(d["compiled"], threads=-1)),
        "precision": with_description(lambda d: put(d["compiled"], precision="half")),
        "precision a number": with_description(lambda d: put(d["compiled"], precision=16)),
        "weights true": with_description(lambda d: put(d, weights=True)),
        "header twice": pack(b'{"a":1,"a":2}'),
        "header a list": pack(b"[]"),
        "header no JSON": pack(b"\xff\xfe{}"),
        "header empty": pack(b""),
        "header deep": pack(b"[" * 200_000),
        "header too long": (2**62).to_bytes(8, "little") + saved[8:],
        "header cut": (len(saved) - 7).to_bytes(8, "little") + saved[8:],
        "digest short": with_header(lambda h: put(h["__metadata__"], sha256="0")),
        "not signed": pack(unpack(saved)[0], unpack(saved)[2], sign=False),
        "empty": b"",
        "short": b"1234567",
        "pickle": b"\x80\x04\x95" + bytes(200),
        "zip": b"PK\x03\x04" + bytes(200),
        "text": b"weights = [1, 2, 3]\n" * 20,
        "tail": saved + b"\0",
    }
    header, _, tensors = unpack(saved)
    text = json.dumps(header, separators=(",", ":")).encode()
    cases["digest escaped"] = pack(text.replace(b'"sha256":"0', b'"sha256":"\\u0030'), tensors, sign=False)
    cases["data cut"] = pack(header, tensors[:-4])
    cases["data longer"] = pack(header, tensors + bytes(8))
    for bad in (np.nan, np.inf):
        spoilt = bytearray(tensors)
        spoilt[40:44] = np.float32(bad).tobytes()
        cases[f"data {bad}"] = pack(header, bytes(spoilt))
    for key in ("name", "dtype", "seed", "step", "epoch", "layers", "compiled", "format"):
        cases[f"no {key}"] = with_description(lambda d, key=key: d.pop(key))
        cases[f"{key} a dict"] = with_description(lambda d, key=key: put(d, **{key: {"a": [1]}}))
    return cases


def test_hostile_files_are_refused(saved, tmp_path):
    cases = hostile(saved)
    for length in np.linspace(0, len(saved) - 1, 201 - len(cases), dtype=int)[: max(0, 200 - len(cases))]:
        cases[f"cut at {length}"] = saved[:length]
    assert len(cases) >= 200
    messages = {name: refused(content, tmp_path / "m") for name, content in cases.items()}
    assert "newer fastnn (format 2; this one reads 1)" in messages["newer"]
    assert "'hidden.W' has" in messages["data nan"] or "not finite" in messages["data nan"]
    assert "which fastnn does not have" in messages["class of Python"]
    assert "which it does not hold" in messages["input huge"], "said before it takes memory"
    assert "has no SHA-256 digest" in messages["digest short"]
    assert "does not stand where fastnn writes it" in messages["digest escaped"]
    assert "does not have the digest" in messages["not signed"].replace("do not have", "does not have")
    (tmp_path / "m").write_bytes(saved)
    assert fn.load(tmp_path / "m").name == "small", "the file that all of them were made from is good"


def test_ten_thousand_flipped_bits_are_all_refused(saved, tmp_path):
    generator, path = random.Random(0), tmp_path / "m"
    path.write_bytes(saved)
    with open(path, "r+b", buffering=0) as file:
        for _ in range(10_000):
            place, bit = generator.randrange(len(saved)), generator.randrange(8)
            os.pwrite(file.fileno(), bytes([saved[place] ^ (1 << bit)]), place)
            with pytest.raises(fn.ModelFileError):
                files.read(path)
            os.pwrite(file.fileno(), saved[place : place + 1], place)
    files.read(path)


@pytest.mark.skipif(os.name == "nt", reason="files with holes")
def test_a_file_is_not_read_beyond_what_its_header_says(saved, tmp_path):
    """64 GB of zeros, at the place of the header and behind a good file: refused without taking that memory."""
    path = tmp_path / "m"
    for content in (b"", saved):
        path.write_bytes(content)
        os.truncate(path, 1 << 36)
        tracemalloc.start()
        with pytest.raises(fn.ModelFileError):
            fn.load(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1 << 22
    header, _, tensors = unpack(saved)
    header["hidden.W"].update(shape=[2**31, 2**31], data_offsets=[0, 2**64 // 2 - 4])
    assert "expected 9223372036854775804, as its header says" in refused(pack(header, tensors), path)


def test_the_safetensors_package_reads_what_is_written(saved, tmp_path):
    package = pytest.importorskip("safetensors.numpy")
    (tmp_path / "m").write_bytes(saved)
    tensors = package.load_file(tmp_path / "m")
    ours = files.read(tmp_path / "m")[1]
    assert set(tensors) == set(ours)
    for name, array in ours.items():
        np.testing.assert_array_equal(tensors[name], array)


# Writing.


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    model, path = small(), tmp_path / "m"
    model.save(path)
    before = path.read_bytes()
    model.layers[1].W = model.layers[1].W + 1
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("no space left")))
    with pytest.raises(OSError, match="no space left"):
        model.save(path)
    assert path.read_bytes() == before and [entry.name for entry in tmp_path.iterdir()] == ["m"]


@pytest.mark.skipif(os.name == "nt", reason="modes and links of POSIX")
def test_a_file_keeps_its_mode_and_a_link_its_target(tmp_path):
    model, path = small(), tmp_path / "m"
    model.save(path)
    os.chmod(path, 0o641)
    (tmp_path / "link").symlink_to(path)
    model.save(tmp_path / "link")
    assert path.stat().st_mode & 0o777 == 0o641 and (tmp_path / "link").is_symlink()


class InParts(io.RawIOBase):
    """A file that takes seven bytes at a time."""

    def __init__(self):
        self.content = b""

    def writable(self):
        return True

    def write(self, content):
        self.content += bytes(content[:7])
        return min(7, len(content))


def test_an_open_file_is_written_and_read_from_where_it_stands(tmp_path):
    model, (X, y) = small(), data()
    model.fit(X, y, epochs=2, verbose=0)
    model.save(tmp_path / "model.safetensors")
    expected = (tmp_path / "model.safetensors").read_bytes()
    memory, parts = io.BytesIO(), InParts()
    memory.write(b"before")
    model.save(memory)
    model.save(parts)
    assert memory.getvalue() == b"before" + expected and parts.content == expected and not parts.closed
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive, archive.open("model", "w") as file:
        model.save(file)
    memory.seek(6)
    with zipfile.ZipFile(tmp_path / "archive.zip") as archive, archive.open("model") as file:
        loaded = [fn.load(memory), fn.load(file)]
    for each in (model, *loaded):
        each.fit(X, y, epochs=1, verbose=0)
        assert np.array_equal(each.predict(X), model.predict(X))
    model.save_weights(memory := io.BytesIO())
    other = small()
    other.load_weights(io.BytesIO(memory.getvalue()))
    assert np.array_equal(other.predict(X), model.predict(X))


def test_open_files_that_will_not_do(saved, tmp_path):
    with pytest.raises(fn.ModelFileError, match=r"^BytesIO: the file is damaged"):
        fn.load(io.BytesIO(saved[:-1] + bytes([saved[-1] ^ 1])))
    with pytest.raises(fn.ModelFileError, match=r"^BytesIO: the file is empty"):
        fn.load(io.BytesIO())
    path = tmp_path / "model.safetensors"
    path.write_bytes(saved[:-1])
    with open(path, "rb") as file, pytest.raises(fn.ModelFileError, match=r"model\.safetensors: the file has .* bytes"):
        fn.load(file)
    text = "opened for text; expected a path, or a file opened in binary mode"
    with pytest.raises(TypeError, match=text):
        fn.load(io.StringIO("text"))
    with open(tmp_path / "text", "w") as file, pytest.raises(TypeError, match=text):
        small().save(file)
    with tempfile.NamedTemporaryFile("w+") as file, pytest.raises(TypeError, match="which yields ''; expected"):
        fn.load(file)
    with pytest.raises(TypeError, match="path is b'x'"):
        fn.load(b"x")


def test_files_that_are_not_there_stay_the_system_s_errors(tmp_path):
    with pytest.raises(FileNotFoundError):
        fn.load(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError):
        small().save(tmp_path / "no folder" / "m")
    with pytest.raises(TypeError, match="parts is 3"):
        fn.load(tmp_path / "nothing", parts=3)


#: A process that, for each line that it gets, makes a child that saves without end, and says when it is gone.
SAVER = """
import os, sys
import fastnn as fn
model = fn.Model([fn.Input(40), fn.Dense(200), fn.Dense(3)], seed=0)
for _ in sys.stdin:
    child = os.fork()
    while child == 0:
        model.save(sys.argv[1])
    print(child, flush=True)
    os.waitpid(child, 0)
    print("gone", flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork and SIGKILL")
def test_fifty_kills_while_saving_leave_a_loadable_file(tmp_path):
    path, generator = tmp_path / "m.safetensors", random.Random(1)
    root = str(Path(fn.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    fn.Model([fn.Input(40), fn.Dense(200), fn.Dense(3)], seed=1).save(path)
    command, pipe = [sys.executable, "-c", SAVER, str(path)], subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True, bufsize=1) as saver:
        kills, halves = 0, set()
        while kills < 50 or (len(halves) < 10 and kills < 500):  # some come before the first save, or between two
            kills += 1
            saver.stdin.write("\n")
            child = int(saver.stdout.readline())
            try:
                time.sleep(generator.uniform(0, 0.02))
            finally:
                os.kill(child, signal.SIGKILL)
            assert saver.stdout.readline() == "gone\n"
            assert fn.load(path).count_parameters()[0] == 8803
            halves = {entry for entry in tmp_path.iterdir() if entry.name.endswith(".tmp")}
        saver.stdin.close()
    assert saver.returncode == 0
    assert len(halves) >= 10, "hardly a kill came in the middle of a save"


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, fn.Model.copy])
def test_a_copy_shares_nothing(duplicate):
    model, (X, y) = small(), data()
    model.fit(X, y, epochs=1)
    before, weights = model.predict(X), [array.copy() for array in model.get_weights()]
    twin = duplicate(model)
    twin.fit(X, y, epochs=2)
    assert (model.step, model.epoch, len(model.history["loss"])) == (3, 1, 1)
    for now, then in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(now, then)
    np.testing.assert_array_equal(model.predict(X), before)


def test_a_copy_has_files_of_its_own(tmp_path):
    model = small()
    twin = copy.deepcopy(model)
    twin.layers[1].W = twin.layers[1].W * 0
    model.save(tmp_path / "m")
    assert fn.load(tmp_path / "m").layers[1].W.any()
