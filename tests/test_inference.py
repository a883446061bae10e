"""compiled_predict: the bits of predict, from Python and from functions of Numba, and its errors."""

import copy
import gc
import pickle
import signal
import threading
import weakref
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from numba import njit

import fastnn as fn
from fastnn.inference import CompiledPredict, predict_into
from fastnn.kernels import jit


def network(dtype="float32", seed=0):
    layers = [fn.Dense(16, activation="tanh"), fn.Dropout(0.5), fn.Dense(8, activation="relu")]
    return fn.Model([fn.Input(5), *layers, fn.Dense(3, activation="softmax")], seed=seed, dtype=dtype)


def rows(count, dtype="float32"):
    return np.random.default_rng(1).standard_normal((count, 5)).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("count", [1, 2, 13, 1000, 10_000])
def test_the_bits_of_predict(dtype, count):
    model, X = network(dtype), rows(10_000, dtype)
    expected = model.predict(X, verbose=0)
    assert np.array_equal(model.compiled_predict()(X[:count]), expected[:count])
    assert np.array_equal(model.predict(X[:count]), expected[:count])


@pytest.mark.parametrize(
    "given",
    [
        lambda X: X.astype("float64"),
        lambda X: X.astype("float16"),
        lambda X: X.astype("int64"),
        lambda X: X > 0,
        lambda X: X.astype(">f8"),
        np.asfortranarray,
        lambda X: X[::2, ::-1],
        lambda X: np.frombuffer(b"." + X.tobytes(), X.dtype, offset=1).reshape(X.shape),
    ],
)
def test_a_few_rows_of_any_type_go_straight_to_the_engine(given, monkeypatch):
    """NumPy's own type is float64, so most users' rows are converted: that must not cost a hundred predictions."""
    model, X = network(), given(rows(8))
    expected = model.predict(X.astype("float32", order="C"))
    monkeypatch.setattr("fastnn.evaluation.infer", None)
    assert np.array_equal(model.predict(X), expected)


@pytest.mark.parametrize(
    ("value", "message"), [(np.nan, "nan in row 3, column 2"), (1e300, r"1e\+300 .*, which is too large for float32")]
)
def test_what_cannot_be_converted_is_told_as_it_came(value, message):
    X = rows(8, "float64")
    X[3, 2] = value
    with pytest.raises(ValueError, match=message):
        network().predict(X)


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="a longdouble is a double here")
@pytest.mark.parametrize("count", [1, 10_000])
def test_numbers_of_too_many_bits_are_refused_however_few(count):
    with pytest.raises(TypeError, match=r"X holds numbers of \d+ bits; expected numbers"):
        network().predict(rows(count, np.longdouble))


def test_a_model_on_a_gpu_with_a_precision_that_cpus_lack(monkeypatch):
    model = network()
    expected = model.predict(rows(8))
    there = SimpleNamespace(plan=replace(model.plan, device="cuda:0", precision="3xtf32"))
    monkeypatch.setattr(model, "_prediction_runner", lambda: there)
    assert np.array_equal(model.compiled_predict()(rows(8)), expected)


def test_no_rows():
    assert network().compiled_predict()(rows(0)).shape == (0, 3)
    with pytest.raises(ValueError, match="no rows"):
        network().predict(rows(0))


def test_it_sees_the_weights_as_they_are():
    model, X = network(), rows(20)
    predict = model.compiled_predict()
    before = predict(X)
    model.compile("adam", "cross_entropy")
    model.fit(X, np.arange(20) % 3, epochs=2, verbose=0)
    assert not np.array_equal(predict(X), before)
    assert np.array_equal(predict(X), model.predict(np.asfortranarray(X)))
    assert np.array_equal(predict(X), model.predict(X))
    model.set_weights([np.zeros_like(weights) for weights in model.get_weights()])
    assert np.allclose(predict(X), 1 / 3)


def test_copies_predict_for_themselves():
    model, X = network(), rows(4)
    first = model.predict(X)
    twin = model.copy()
    twin.set_weights([2 * weights for weights in model.get_weights()])
    assert np.array_equal(model.predict(X), first)
    assert not np.array_equal(twin.predict(X), first)


def test_it_outlives_the_model():
    model, X = network(), rows(4)
    expected, predict, weights = model.predict(X), model.compiled_predict(), weakref.ref(model.arenas.parameters)
    del model
    gc.collect()
    assert weights() is not None and np.array_equal(predict(X), expected)


@pytest.mark.skipif(not jit.COMPILED, reason="needs the compiler")
def test_from_a_function_of_numba():
    model, X = network(), rows(1)
    predict = model.compiled_predict()

    @njit
    def feed_back(state, x, y, steps):
        for _ in range(steps):
            if predict_into(y, x, state) != 1:
                return False
            x[0, :3] = y[0]
        return True

    x, y = X.copy(), np.empty((1, 3), np.float32)
    assert feed_back(predict.state, x, y, 5)
    expected = X.copy()
    for _ in range(5):
        outputs = model.predict(expected, verbose=0)
        expected[0, :3] = outputs[0]
    assert np.array_equal(y, outputs)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_many_rows_are_looked_at_by_the_engine(dtype, order, threads, monkeypatch):
    model, X = network(dtype), np.array(rows(50_000, dtype), order=order)
    model.compile("sgd", "cross_entropy", threads=threads)
    expected = model.predict(X, verbose=0)
    for row, column, bad in ((0, 0, np.nan), (6789, 3, -np.inf), (49_999, 4, np.inf)):
        wrong = X.copy(order="K")
        wrong[row, column] = bad
        with pytest.raises(ValueError, match=f"X has {float(bad)!r} in row {row}, column {column}; expected finite"):
            model.predict(wrong, verbose=0)
    monkeypatch.setattr("fastnn.data.Rows.check_finite", None)  # which would read all of them once more
    assert np.array_equal(model.predict(X, verbose=0), expected)


def test_statuses_of_predict_into():
    predict = network().compiled_predict()  # it holds the memory that its state points to
    state, y = predict.state, np.full((2, 3), 7, np.float32)
    assert predict_into(y, rows(2), state) == 1
    good = y.copy()
    assert predict_into(y, rows(3), state) == 0
    assert predict_into(y, rows(2)[:, :4].copy(), state) == 0
    assert predict_into(y, rows(2, "float64"), state) == 0
    assert predict_into(np.empty((2, 4), np.float32), rows(2), state) == 0
    bad = rows(2)
    bad[1, 4] = np.nan
    assert predict_into(y, bad, state) == 2
    assert np.array_equal(y, good)


@pytest.mark.parametrize(
    "change", [np.asfortranarray, lambda a: np.repeat(a, 2, axis=1)[:, ::2], lambda a: a.view("i4")]
)
def test_predict_into_takes_no_rows_that_lie_elsewhere(change):
    """It reads and writes at addresses, so another layout would be other numbers, or the memory of others."""
    predict = network().compiled_predict()
    x, y = rows(2), np.full((2, 3), 7, np.float32)
    assert predict_into(y, change(x), predict.state) == 0
    other = change(y)
    for first, last in ((0, 2), (0, 1)):  # a single row of a column-major array is none of a row-major one
        assert predict_into(other[first:last], x[first:last], predict.state) == 0
        assert predict_into(y[first:last], change(x)[first:last], predict.state) == 0
    assert np.array_equal(other, change(y)) and np.all(y == 7)


def test_predict_into_takes_no_complex_numbers_as_long_as_real_ones():
    predict = network("float64").compiled_predict()
    x, y = rows(2, "complex64"), np.full((2, 3), 7.0)
    assert predict_into(y, x, predict.state) == 0
    assert predict_into(np.zeros((2, 3), np.complex64), rows(2, "float64"), predict.state) == 0
    assert np.all(y == 7)


def test_errors_name_what_came():
    predict = network().compiled_predict()
    for wrong in ([[0.0] * 5], rows(2, "float64"), rows(4)[:, ::-1], rows(2)[0], np.asfortranarray(rows(3))):
        with pytest.raises(TypeError, match=r"X is .*; expected a C-contiguous float32 array of 2 dimensions"):
            predict(wrong)
    with pytest.raises(ValueError, match="X has 4 columns; expected 5"):
        predict(np.zeros((1, 4), np.float32))
    bad = rows(3)
    bad[2, 1] = np.inf
    for call in (predict, network().predict):
        with pytest.raises(ValueError, match="X has inf in row 2, column 1"):
            call(bad)


def test_a_model_with_a_python_layer_has_none():
    class Double(fn.Layer):
        def forward(self, x, training=False):
            return 2 * x

        def backward(self, dy):
            return 2 * dy

    with pytest.warns(UserWarning, match="written in Python"):
        model = fn.Model([fn.Input(5), Double(), fn.Dense(2)], seed=0)
        plain = model.predict(rows(3))
    assert plain.shape == (3, 2)
    assert np.array_equal(model.predict(rows(3)), plain)
    with pytest.raises(TypeError, match="a layer written in Python"):
        model.compiled_predict()


def test_one_predictor_for_each_thread():
    model, X = network(), rows(300)
    expected, wrong = model.predict(X), []

    def work():
        predict = model.compiled_predict()
        for _ in range(200):
            if not np.array_equal(predict(X), expected):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_threads_that_share_a_predictor_wait_for_one_another():
    """Two at once would write into memory that is not theirs."""
    model = fn.Model([fn.Input(60), fn.Dense(256, "relu"), fn.Dense(10, "softmax")], seed=0)
    X = np.random.default_rng(1).standard_normal((4000, 60)).astype(np.float32)
    expected, predict, wrong = model.predict(X), model.compiled_predict(), []

    def work(number):
        part = slice(100 * number, 100 * number + 50 + number)
        for _ in range(300 if jit.COMPILED else 3):
            if not np.array_equal(predict(X[part]), expected[part]):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="Windows has no timers that send signals")
def test_a_signal_handler_may_call_a_predictor_that_is_at_work():
    predict, X, rung = network().compiled_predict(), rows(300), []
    expected = predict(X)
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(np.array_equal(predict(X), expected)))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        while len(rung) < 20:
            assert np.array_equal(predict(X), expected)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert all(rung)


def test_many_operations_are_left_to_predict():
    wide = fn.Model([fn.Input(512), fn.Dense(512), fn.Dense(512)], seed=0).compiled_predict()
    assert wide.few(np.zeros((1, 512), np.float32)).shape == (1, 512)
    assert wide.few(np.zeros((1000, 512), np.float32)) is None
    assert network().compiled_predict().few(np.zeros((1, 4), np.float32)) is None
    assert isinstance(wide, CompiledPredict)


@pytest.mark.parametrize("take", [copy.copy, copy.deepcopy, pickle.dumps])
def test_it_is_neither_copied_nor_pickled(take):
    """A copy's state would point to the memory of the first one, which may be gone."""
    predict = network().compiled_predict()
    with pytest.raises(TypeError, match=r"addresses of memory.*; expected model\.compiled_predict\(\) there"):
        take(predict)
    model = network()
    model.predict(rows(1))  # which makes one of its own
    assert np.array_equal(pickle.loads(pickle.dumps(model.copy())).predict(rows(1)), model.predict(rows(1)))
