"""Models on the GPU: fits equal the CPU's, in all three ways through a step; moving, device arrays, bad input.

The same bodies run in Numba's simulator and on a real GPU; what is marked ``gpu`` has sizes for a real one alone.
"""

import contextlib
import gc
import threading
import warnings
import weakref

import numpy as np
import pytest

from tests.kernels.cuda import running

running.require()

import fastnn as fn  # noqa: E402
from fastnn import dispatch  # noqa: E402
from fastnn.kernels.cuda import memory, paths  # noqa: E402
from fastnn.kernels.cuda import runner as runners  # noqa: E402

ROWS = 13


@pytest.fixture(autouse=True)
def no_warning_of_the_simulator(monkeypatch):
    monkeypatch.setattr(dispatch, "_warned", True)


def take(path, monkeypatch):
    """Let all plans go this way."""
    if path != "tiny":
        monkeypatch.setattr(paths, "TINY_FLOPS", 0)
    if path == "layered":
        monkeypatch.setattr(paths, "WIDEST", 0)


def data(inputs, classes=0, outputs=1, rows=ROWS):
    generator = np.random.default_rng(5)
    X = generator.standard_normal((rows, inputs)).astype(np.float32)
    y = generator.integers(0, classes, rows) if classes else generator.standard_normal((rows, outputs))
    return X, y


def classifier(hidden="relu", *more, **options):
    return [fn.Input(3), fn.Dense(4, activation=hidden, **options), *more, fn.Dense(3, activation="softmax")]


def regression(hidden="tanh", *more, outputs=2, **options):
    return [fn.Input(3), fn.Dense(4, activation=hidden, **options), *more, fn.Dense(outputs)]


def squared(x):
    return max(x, 0.0) ** 2


def squared_slope(x, y):
    return 2.0 * max(x, 0.0)


def flattening(w):
    """A penalty that grows less and less."""
    return 0.1 * w * w / (1.0 + w * w)


def flattening_slope(w):
    return 0.2 * w / ((1.0 + w * w) * (1.0 + w * w))


class Signs(fn.optimizers.Optimizer):
    """An optimizer of the user's own: the sign of a mean of gradients."""

    slots = 1

    @staticmethod
    def update(p, g, slots, rate, step, settings):
        for i in range(len(p)):
            slots[0][i] = settings[0] * slots[0][i] + g[i]
            p[i] -= rate * slots[0][i] / (abs(slots[0][i]) + settings[1] * step)

    def settings(self):
        return (0.9, 0.01)


#: What is trained: layers, loss, optimizer, metrics, further arguments of ``fit``; classes 0: a regression.
MODELS = {
    "dense": (classifier, "cross_entropy", fn.Adam(0.01), ["accuracy"], 3, {}),
    "dropout": (
        lambda: classifier("gelu", fn.Dropout(0.3)),
        fn.losses.CrossEntropy(label_smoothing=0.1),
        fn.RMSprop(0.01, momentum=0.5),
        [fn.metrics.TopKAccuracy(2)],
        3,
        {"class_weight": {0: 2.0, 1: 0.5}},
    ),
    "regression": (regression, "mse", fn.SGD(0.1, momentum=0.9, nesterov=True), ["mae"], 0, {}),
    "penalties": (
        lambda: regression("elu", kernel_regularizer=fn.L1L2(0.01, 0.02)),
        "huber",
        fn.SGD(fn.schedules.ExponentialDecay(0.1, 5, 0.9), clip_value=0.2),
        ["mse"],
        0,
        {"shuffle": False},
    ),
    "clipped": (
        lambda: regression("softplus", kernel_constraint=fn.MaxNorm(0.8)),
        "mae",
        fn.Adagrad(0.1, clip_norm=0.2),
        ["r2"],
        0,
        {"sample_weight": np.linspace(0.5, 1.5, ROWS)},
    ),
    "decay": (lambda: classifier("softmax"), "cross_entropy", fn.AdamW(0.01, weight_decay=0.1), ["f1"], 3, {}),
    "own": (
        lambda: regression(
            fn.ActivationFunction(squared, squared_slope), kernel_regularizer=fn.Penalty(flattening, flattening_slope)
        ),
        # Under the name of a kernel that it is not.
        fn.LossFunction(lambda y, t: (y - t) * (y - t), lambda y, t: 2.0 * (y - t), "sigmoid_cross_entropy"),
        Signs(0.01),
        [],
        0,
        {},
    ),
    "frozen": (
        lambda: [fn.Input(3), fn.Dense(4, "relu", trainable=False), fn.Dense(1, "sigmoid")],
        "binary_cross_entropy",
        "rmsprop",
        ["accuracy"],
        2,
        {"validation_split": 0.3},
    ),
}

#: Which way each goes, and for how many epochs: 20 steps once in each way, and fewer of what takes long.
RUNS = [
    *(("tiny", name, 5 if name in ("dense", "regression") else 2) for name in MODELS if name != "clipped"),
    *(("narrow", name, epochs) for name, epochs in (("dropout", 5), ("regression", 2), ("clipped", 2))),
    *(("layered", name, epochs) for name, epochs in (("dense", 5), ("dropout", 1), ("own", 1))),
]


def compiled(name, device, dtype="float32"):
    layers, loss, optimizer, metrics, classes, options = MODELS[name]
    model = fn.Model(layers(), seed=7, dtype=dtype)
    model.compile(optimizer, loss, metrics, device=device)
    return model, data(3, classes, model.outputs), options


def assert_same(model, other, tolerance=2e-5):
    """Equal weights, optimizer state and history, but for rounding."""
    assert model.step == other.step
    for a, b in zip(model.get_weights() + model._slots, other.get_weights() + other._slots, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
    for key, values in model.history.to_dict().items():
        np.testing.assert_allclose(values, other.history.to_dict()[key], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("path", "name", "epochs"), RUNS)
def test_a_fit_equals_that_of_the_cpu(path, name, epochs, monkeypatch):
    take(path, monkeypatch)
    models = []
    for device in ("cpu", "cuda"):
        model, (X, y), options = compiled(name, device)
        if device == "cuda":
            assert dispatch.path_of(model.plan, 4) == path
            assert f"on the GPU, with batches of 32 rows: {path}" in str(model.plan) or path == "tiny"
        model.fit(X, y, batch_size=4, epochs=epochs, verbose=0, **options)
        models.append((model, model.evaluate(X, y), model.predict(X)))
    (on_cpu, cpu_scores, cpu_outputs), (on_gpu, gpu_scores, gpu_outputs) = models
    assert on_gpu.device == "cuda" and on_gpu.step >= 3 * epochs
    assert_same(on_gpu, on_cpu)
    assert gpu_scores == pytest.approx(cpu_scores, rel=2e-5, abs=2e-5)
    np.testing.assert_allclose(gpu_outputs, cpu_outputs, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(("path", "name"), [("narrow", "clipped"), ("layered", "dropout"), ("layered", "clipped")])
def test_a_step_that_a_graph_repeats_asks_for_no_memory_and_copies_nothing(path, name, monkeypatch):
    """A captured graph would keep the address of memory that is given back, or not be captured at all."""
    from numba import cuda

    from fastnn.kernels.cuda import engine

    repeated = []

    def refuse(*arguments, **options):
        raise AssertionError("a step asks for memory, or copies")

    def run(self, count):
        self.step(self.stream)
        with monkeypatch.context() as inside:
            for function in ("to_device", "device_array", "pinned_array"):
                inside.setattr(cuda, function, refuse)
            for _ in range(count - 1):
                self.step(self.stream)
                repeated.append(path)

    monkeypatch.setattr(engine.Replay, "run", run)
    take(path, monkeypatch)
    model, (X, y), options = compiled(name, "cuda")
    model.fit(X, y, batch_size=4, epochs=2, verbose=0, **options)
    assert repeated


def test_arrays_in_the_arenas_are_made_once():
    """Making one takes as long as a launch, and a capture asks for all of them in each of its steps."""
    from types import SimpleNamespace

    from fastnn.kernels.cuda import layered

    arena, other = (running.put(np.arange(24, dtype=np.float32)) for _ in range(2))
    layers = layered.Layers(SimpleNamespace(columns=4), SimpleNamespace(none="none"), arena, other, 3, 2)
    found = layers.x(1, 4)
    np.testing.assert_array_equal(found.copy_to_host(), [[3, 4, 5, 6], [7, 8, 9, 10]])
    assert layers.x(1, 4) is found and layers.dx(1, 4) is not found
    assert layers.parameter(arena, 3, 2, 4) is found and layers.parameter(arena, -1, 4) == "none"


def test_float64(monkeypatch):
    models = []
    for device in ("cpu", "cuda"):
        model, (X, y), options = compiled("regression", device, "float64")
        model.fit(X, y, batch_size=4, epochs=2, verbose=0, **options)
        models.append(model)
    assert_same(*models, tolerance=1e-12)


def test_a_model_moves_and_trains_as_if_it_had_stayed():
    stays, (X, y), options = compiled("dropout", "cpu")
    moves, _, _ = compiled("dropout", "cpu")
    for device in ("cpu", "cuda", "cpu"):
        assert moves.to(device) is moves and moves.device == device
        for model in (stays, moves):
            model.fit(X, y, batch_size=5, epochs=2, verbose=0, **options)
    assert moves.epoch == 6
    assert_same(moves, stays)


def test_gradients_and_l_bfgs():
    for device in ("cpu", "cuda"):
        model = fn.Model(regression(kernel_regularizer=fn.L2(0.1)), seed=1)
        model.compile(fn.LBFGS(), "mse", device=device)
        X, y = data(3, outputs=2)
        gradients = model.gradients(X, y)
        history = model.fit(X, y, epochs=3, verbose=0)
        if device == "cpu":
            expected = gradients, history["loss"]
    for name, gradient in expected[0].items():
        np.testing.assert_allclose(gradients[name], gradient, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(history["loss"], expected[1], rtol=1e-4)
    assert model.check_gradients(X, y), "which is the CPU's work"


def test_a_fit_to_a_tolerance_stops_at_the_same_step():
    steps = []
    for device in ("cpu", "cuda"):
        model = fn.Model([fn.Input(2), fn.Dense(1)], seed=1)
        model.compile(fn.SGD(0.3), "mse", device=device)
        X, y = data(2)
        model.fit(X, y, batch_size=ROWS, epochs=40, tolerance=0.3, verbose=0)
        steps.append((model.step, model.get_weights()[0]))
    assert steps[0][0] == steps[1][0] < 40
    np.testing.assert_allclose(steps[0][1], steps[1][1], rtol=1e-5)


class Tamper(fn.callbacks.Callback):
    """Reads the weights after each epoch, and changes them."""

    def __init__(self):
        self.seen = []

    def on_epoch_end(self, epoch, logs):
        weights = self.model.get_weights()
        self.seen.append(weights[0].copy())
        weights[0] *= 0.5
        self.model.set_weights(weights)
        self.seen.append(self.model.evaluate(*data(3, outputs=2))["loss"])


def test_callbacks_see_the_weights_and_may_change_them():
    tampers = []
    for device in ("cpu", "cuda"):
        model, (X, y), _ = compiled("regression", device)
        tampers.append(Tamper())
        model.fit(X, y, batch_size=5, epochs=2, callbacks=[tampers[-1]], validation_data=(X, y), verbose=0)
    for a, b in zip(tampers[0].seen, tampers[1].seen, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("path", ["tiny", "narrow"])
def test_a_loss_that_is_not_finite_leaves_the_weights_of_before(path, monkeypatch):
    take(path, monkeypatch)
    faults = []
    for device in ("cpu", "cuda"):
        model = fn.Model(regression("linear"), seed=1)
        model.compile(fn.SGD(1e19), "mse", device=device)
        X, y = data(3, outputs=2)
        with pytest.raises(FloatingPointError, match="became NaN or infinite in epoch 1") as fault:
            model.fit(X, y, batch_size=4, epochs=2, verbose=0)
        faults.append((str(fault.value), model.step))
        assert all(np.isfinite(weights).all() for weights in model.get_weights())
    assert faults[0] == faults[1]


def test_train_on_batch_and_a_copy_and_a_file(tmp_path):
    found = []
    for device in ("cpu", "cuda"):
        model, (X, y), _ = compiled("dense", device)
        model.train_on_batch(X, y)
        twin = model.copy()
        twin.train_on_batch(X, y)
        model.save(tmp_path / "model.safetensors")
        found.append((twin.get_weights(), model.predict(X)))
        assert twin.device == device
        loaded = fn.load(tmp_path / "model.safetensors")
        assert loaded.device == "cpu" and loaded.step == 1
    for a, b in zip(found[0][0], found[1][0], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert model.compiled_predict()(X) == pytest.approx(found[1][1], abs=1e-6)


class OnDevice:
    """What a library of arrays on a GPU shows of one."""

    def __init__(self, array):
        self.array = running.put(array)
        memory_of = getattr(self.array, "_ary", self.array)  # the simulator's are NumPy's
        self.shape = array.shape
        self.__cuda_array_interface__ = getattr(
            memory_of, "__cuda_array_interface__", getattr(memory_of, "__array_interface__", None)
        )


def test_an_array_that_shows_its_interface_alone():
    model, (X, _), _ = compiled("dense", "cuda")
    there = OnDevice(X)
    del there.shape
    np.testing.assert_array_equal(model.predict(there), model.predict(X))


def test_an_array_that_knows_dlpack_is_asked_to_wait_for_who_writes_it(monkeypatch):
    """PyTorch's show their interface as well, but that tells nothing of the stream that writes them."""
    from types import SimpleNamespace

    utils = pytest.importorskip("cuda.core.utils")
    from fastnn.kernels.cuda import device_arrays

    class Both:
        __cuda_array_interface__ = None
        __dlpack__ = None

        def __dlpack_device__(self):
            return 2, 0

    asked, value = [], Both()

    def view(exporter, stream_ptr):
        asked.append((exporter, stream_ptr))
        return SimpleNamespace(ptr=4096, shape=(3, 2), strides=(2, 1), dtype=np.dtype(np.float32))

    monkeypatch.setattr(utils, "StridedMemoryView", SimpleNamespace(from_dlpack=view))
    found = device_arrays.interface_of(value)
    assert asked == [(value, 1)]  # CUDA's default stream, in DLPack's numbers
    assert (found["data"][0], found["shape"], found["strides"], found["typestr"]) == (4096, (3, 2), (8, 4), "<f4")


@pytest.mark.parametrize("kind", ["as it is", "of another type", "columns first"])
def test_arrays_on_the_gpu(kind, monkeypatch):
    X, y = data(3, 3)
    on_host, _, _ = compiled("decay", "cuda")
    model = on_host.copy()
    on_host.fit(X, y, batch_size=5, epochs=2, verbose=0)
    there = {"as it is": X, "of another type": X.astype(np.float64), "columns first": np.asfortranarray(X)}[kind]
    X_there, y_there = OnDevice(there), OnDevice(y)
    uploaded, upload = [], memory.upload

    def note(array, to=None):
        uploaded.append(array.shape)
        return upload(array, to)

    monkeypatch.setattr(memory, "upload", note)
    model.fit(X_there, y_there, batch_size=5, epochs=2, verbose=0)
    assert uploaded and not {X.shape, (ROWS, 1)} & set(uploaded)
    assert_same(model, on_host, 1e-6)
    assert model.evaluate(X_there, y_there) == pytest.approx(on_host.evaluate(X, y), rel=1e-5)
    np.testing.assert_allclose(model.predict(X_there), on_host.predict(X), rtol=1e-5)
    if kind == "as it is":
        X[0, 0] = 5.0
        X_there.array.copy_to_device(X)  # the same memory
        found = model.predict(X_there, output="device")
        np.testing.assert_allclose(found.copy_to_host(), on_host.predict(X), rtol=1e-5)
        assert not isinstance(found, np.ndarray)


def test_arrays_on_the_gpu_that_do_not_fit():
    model, (X, y), _ = compiled("dense", "cuda")
    with pytest.raises(ValueError, match=r"X has shape \(13, 2\); expected 2-D, \(rows, 3\)"):
        model.predict(OnDevice(X[:, :2].copy()))
    X[2, 1] = np.inf
    with pytest.raises(ValueError, match="X has a number that is not finite in row 2, column 1"):
        model.fit(OnDevice(X), y)
    with pytest.raises(ValueError, match="y has the label 7 in row 1"):
        model.fit(X[3:], OnDevice(np.array([0, 7, *y[5:]])))
    model.to("cpu")
    with pytest.raises(ValueError, match=r"X is on a GPU, but the model runs on the CPU; .* model.to\(.cuda.\)"):
        model.predict(OnDevice(X))
    with pytest.raises(ValueError, match=r"output is .device., but the model runs on the CPU"):
        model.predict(X[3:], output="device")
    with pytest.raises(ValueError, match=r"output is 'gpu'; expected one of 'host', 'device'"):
        model.predict(X[3:], output="gpu")


@pytest.mark.parametrize("kind", ["<V2", "<c8", ">f4", "bfloat16"])
def test_arrays_on_the_gpu_of_a_type_that_kernels_cannot_read(kind):
    model, (X, _), _ = compiled("dense", "cuda")
    there = OnDevice(X)
    there.__cuda_array_interface__ = {**there.__cuda_array_interface__, "typestr": kind}
    with pytest.raises(TypeError, match="X is on the GPU, in numbers of a type that cannot be read there"):
        model.predict(there)


def test_arrays_on_another_gpu(monkeypatch):
    from fastnn.kernels.cuda import device_arrays

    model, (X, y), _ = compiled("dense", "cuda")
    monkeypatch.setattr(device_arrays, "device_of", lambda value: 1)
    with pytest.raises(ValueError, match="X is on GPU 1, but the model runs on GPU 0"):
        model.fit(OnDevice(X), y)


# What goes wrong.


class Broken(memory.CudaAPIError):
    """What the driver says when it has lost the GPU."""

    def __init__(self, code=719, message="unspecified launch failure"):
        super().__init__(code, message)
        self.code, self.message = code, message

    def __str__(self):
        return f"[{self.code}] {self.message}"


def test_a_lost_gpu_leaves_what_the_last_finished_slice_has_made(monkeypatch):
    model, (X, y), _ = compiled("dense", "cuda")
    twin = model.copy().to("cpu")
    calls, work = [], runners.Runner._train

    def fail_at_the_third_slice(self, *arguments):
        calls.append(1)
        if len(calls) == 3:
            for array, _ in self.remote.arrays:
                array.copy_to_device(np.full(array.shape, np.nan, array.dtype))
            monkeypatch.setattr(memory.DeviceArenas, "fetch", lambda self: 1 / 0)
            raise Broken
        return work(self, *arguments)

    monkeypatch.setattr(runners.Runner, "_train", fail_at_the_third_slice)
    with pytest.raises(runners.DeviceLostError, match=r'GPU failed: \[719\].*last finished slice; model.to\("cpu"\)'):
        model.fit(X, y, batch_size=ROWS, epochs=4, validation_data=(X, y), verbose=0)
    assert model.step == 2 and model.epoch == 2
    twin.fit(X, y, batch_size=ROWS, epochs=2, verbose=0)
    for a, b in zip(model.get_weights() + model._slots, twin.get_weights() + twin._slots, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    monkeypatch.undo()
    model.to("cpu").fit(X, y, batch_size=ROWS, epochs=1, verbose=0)
    assert model.step == 3


def test_a_gpu_that_is_lost_when_the_last_slice_is_done(monkeypatch):
    model, (X, y), _ = compiled("dense", "cuda")
    twin = model.copy().to("cpu")

    def break_down(self):
        raise Broken

    monkeypatch.setattr(memory.DeviceArenas, "fetch", break_down)
    with pytest.raises(runners.DeviceLostError, match="GPU failed"):
        model.fit(X, y, batch_size=5, epochs=2, verbose=0)
    twin.fit(X, y, batch_size=5, epochs=2, verbose=0)
    assert_same(model, twin)


def test_a_gpu_that_is_lost_outside_of_a_fit_leaves_the_weights_as_they_were_set(monkeypatch):
    model, (X, y), _ = compiled("dense", "cuda")
    model.fit(X, y, batch_size=5, verbose=0)
    weights = [2 * array for array in model.get_weights()]
    model.set_weights(weights)

    def break_down(*arguments):
        raise Broken

    monkeypatch.setattr(runners.Runner, "_infer", break_down)
    with pytest.raises(runners.DeviceLostError, match="GPU failed"):
        model.evaluate(X, y)
    assert all((a == b).all() for a, b in zip(weights, model.get_weights(), strict=True))


def test_a_gpu_stays_current_where_none_was(monkeypatch):
    """Arrays may die at any time, and the driver frees memory only where a GPU is current."""
    if not running.simulated():
        pytest.skip("of the simulator, whose GPU is current as soon as it is asked for")
    made = []
    monkeypatch.setattr(memory.cuda.gpus, "closed", True)
    monkeypatch.setattr(memory.cuda, "current_context", made.append)
    for _ in range(2):
        with memory.on_gpu(0):
            pass
    assert made == [0]


def test_no_room_for_what_numba_asks_for_itself(monkeypatch):
    model, (X, y), _ = compiled("dense", "cuda")

    def full(*arguments, **options):
        raise Broken(2, "Call to cuMemHostAlloc results in CUDA_ERROR_OUT_OF_MEMORY")

    monkeypatch.setattr(memory.cuda, "pinned_array", full)
    with pytest.raises(MemoryError, match=r"the GPU has no room for what is needed: .*; the model is unchanged"):
        model.fit(X, y, verbose=0)
    monkeypatch.undo()
    weights = [2 * array for array in model.get_weights()]
    model.set_weights(weights)  # and what comes next reads the weights of now
    assert model.step == 0
    model.fit(X, y, verbose=0)
    assert model.step == 1


def test_memory_of_models_that_nobody_has_is_taken_before_it_is_said_that_there_is_none(monkeypatch):
    kept, get = [running.put(np.zeros(3))], memory.cuda.device_array
    kept.append(kept)  # as a model refers to itself
    gone = weakref.ref(kept[0])

    def array(*arguments):
        if gone() is not None:
            raise Broken(2, "Call to cuMemAlloc results in CUDA_ERROR_OUT_OF_MEMORY")
        return get(*arguments)

    monkeypatch.setattr(memory.cuda, "device_array", array)
    gc.disable()
    try:
        del kept
        assert memory.allocate((2, 3), np.float32).shape == (2, 3)
    finally:
        gc.enable()


class Builder:
    """What stands in for a graph builder of cuda.core, and counts those that are not closed."""

    open = 0

    @classmethod
    def from_handle(cls, handle):
        return cls()

    def create_graph_builder(self):
        return self

    @property
    def stream(self):
        return self

    def begin_building(self):
        Builder.open += 1
        return self

    def end_building(self):
        return self

    def complete(self):
        return self

    def launch(self, stream):
        pass

    def close(self):
        Builder.open -= 1


@pytest.mark.parametrize("fails", [False, True])
def test_a_capture_is_closed_whether_it_succeeds_or_not(fails, monkeypatch):
    """Numba remembers the streams of its last launches: a builder left open would keep its stream in capture."""
    from fastnn.kernels.cuda import engine

    pytest.importorskip("cuda.core")
    monkeypatch.setattr("cuda.core.Stream", Builder)
    monkeypatch.setattr(engine, "stream_for_capture", lambda: contextlib.nullcontext(Builder()))
    steps = []

    class Place:
        handle = 1

        def capturing(self, handle):
            return handle

    def step(stream):
        if fails and isinstance(stream, Builder):
            raise RuntimeError("not in a capture")
        steps.append(stream)

    replay = engine.Replay(step, Place())
    replay.captures = True
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        replay.run(20)
    assert Builder.open == 0
    assert len(steps) == (20 if fails else 1 + 16 + 1)  # launched one by one; or once, and then captured
    assert [str(w.message)[:30] for w in warned] == ["no CUDA graph could be capture"] * fails


def test_out_of_device_memory(monkeypatch):
    model, (X, y), _ = compiled("dense", "cuda")
    before = [weights.copy() for weights in model.get_weights()]

    def full(*arguments, **options):
        raise Broken(2, "Call to cuMemAlloc results in CUDA_ERROR_OUT_OF_MEMORY")

    monkeypatch.setattr(memory, "free_and_total", lambda: (100, 1000))
    monkeypatch.setattr(memory.cuda, "device_array", full)
    message = r"the GPU has no room for [\d,]+ bytes: 100 of 1,000 bytes are free; the model is unchanged"
    with pytest.raises(MemoryError, match=message):
        model.fit(X, y, verbose=0)
    assert model.step == 0
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))
    model.to("cpu").fit(X, y, verbose=0)
    assert model.step == 1


def test_an_own_function_that_a_gpu_cannot_run(monkeypatch):
    model, (X, y), _ = compiled("own", "cuda")

    def refuse(*arguments, **options):
        raise runners.NumbaError("Unknown attribute 'sqrt'")

    monkeypatch.setattr(runners.TinySteps, "run", refuse)
    with pytest.raises(TypeError, match=r"cannot be compiled for the GPU.*sqrt.*expected .*model.to\(\"cpu\"\)"):
        model.fit(X, y, verbose=0)


def test_it_says_once_that_it_is_the_simulator(monkeypatch):
    if not running.simulated():
        pytest.skip("needs the simulator")
    monkeypatch.setattr(dispatch, "_warned", False)
    with pytest.warns(UserWarning, match="kernels run in Numba's simulator"):
        model = compiled("dense", "cuda")[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compiled("dense", "cuda")
    model.compile("sgd", "cross_entropy")
    assert model.device == "cpu", "auto never takes the simulator"


# The command, and what a real GPU alone can show.


def test_the_command(tmp_path, capsys):
    from fastnn.__main__ import main

    generator = np.random.default_rng(0)
    rows = [f"{a:.3f},{b:.3f},{'yes' if a > b else 'no'}" for a, b in generator.standard_normal((15, 2))]
    table = tmp_path / "table.csv"
    table.write_text("\n".join(["a,b,wins", *rows]))
    command = ["--device", "cuda", "--data", str(table), "--target", "wins", "--hidden", "3", "--epochs", "2"]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "training: 2 epochs, 2 steps of 32 rows" in shown and "accuracy on held-out rows" in shown
    assert 'device="cuda"' in shown


def real_gpu(*layers, device="cuda", seed=0, **options):
    model = fn.Model([fn.Input(64), *layers, fn.Dense(10, "softmax")], seed=seed)
    model.compile(fn.Adam(1e-3), "cross_entropy", ["accuracy"], device=device, **options)
    return model


LAYERS = {
    "tiny": lambda: [fn.Dense(4, "relu")],
    "narrow": lambda: [fn.Dense(64, "relu"), fn.Dropout(0.2), fn.Dense(64, "tanh")],
    "layered": lambda: [fn.Dense(513, "relu"), fn.Dropout(0.2), fn.Dense(257, "gelu")],
}

needs_gpu = pytest.mark.skipif(running.simulated(), reason="needs a real GPU")


@needs_gpu
@pytest.mark.gpu
@pytest.mark.parametrize("path", LAYERS)
def test_digits_on_a_gpu(path):
    """As good as the CPU's fit, the same bits in every run, and the same on the CPU in between."""
    X, y = fn.datasets.digits()
    models = [real_gpu(*LAYERS[path](), device=device) for device in ("cuda", "cuda", "cpu", "cpu")]
    assert dispatch.path_of(models[0].plan, 32) == path
    for model in models[:3]:
        model.fit(X, y, epochs=3, verbose=0)
    for device in ("cpu", "cuda", "cpu"):
        models[3].to(device).fit(X, y, epochs=1, verbose=0)
    first, again, on_cpu, moved = (model.get_weights() for model in models)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(first, again, strict=True))
    for a, b, c in zip(first, on_cpu, moved, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-2, atol=2e-3)
        np.testing.assert_allclose(c, b, rtol=2e-2, atol=2e-3)


@needs_gpu
@pytest.mark.gpu
def test_a_thousand_fits_on_a_gpu_take_no_more_memory():
    from numba import cuda

    X, y = fn.datasets.digits()
    model = real_gpu(*LAYERS["narrow"]())
    free = []
    for number in range(1000):
        model.fit(X[:256], y[:256], verbose=0)
        if number in (99, 999):
            cuda.synchronize()
            free.append(cuda.current_context().get_memory_info().free)
    assert free[0] - free[1] < 16 << 20


@needs_gpu
@pytest.mark.gpu
def test_a_gpu_stays_current_in_a_thread_where_none_was():
    current = []

    def work():
        current.append(memory.cuda.gpus.current)
        with memory.on_gpu(0):
            pass
        current.append(memory.cuda.gpus.current.id)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert current == [None, 0]


@needs_gpu
@pytest.mark.gpu
def test_a_batch_that_does_not_fit_on_a_gpu():
    from numba import cuda

    total = cuda.current_context().get_memory_info().total
    model = fn.Model([fn.Input(1), fn.Dense(4096, "relu"), fn.Dense(4096, "relu"), fn.Dense(1)], seed=0)
    model.compile("sgd", "mse", device="cuda")
    rows = int(total / 4096 / 4)
    X = np.zeros((rows, 1), np.float32)
    before = model.get_weights()
    with pytest.raises(MemoryError, match="the GPU has no room for"):
        model.fit(X, X, batch_size=rows, verbose=0)
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))
    model.fit(X[:100], X[:100], verbose=0)
