"""Weights on rows and classes: a row of weight 2 counts as two rows, one of weight 0 as none."""

import numpy as np
import pytest

import fastnn as fn


def data(rows=41, seed=0):
    generator = np.random.default_rng(seed)
    X = generator.standard_normal((rows, 3))
    return X, (X[:, 0] + 0.5 * generator.standard_normal(rows) > 0.4).astype(int), generator.uniform(0, 2, rows)


def compiled(loss="cross_entropy", dtype="float64", metrics=("accuracy",), outputs=2):
    last = {"cross_entropy": "softmax", "binary_cross_entropy": "sigmoid"}.get(loss)
    model = fn.Model([fn.Input(3), fn.Dense(5, "tanh"), fn.Dense(outputs, last)], seed=1, dtype=dtype)
    model.compile(fn.SGD(0.1), loss, metrics)
    return model


LOSSES = {"cross_entropy": 2, "binary_cross_entropy": 1, "mse": 1}


@pytest.mark.parametrize("loss", LOSSES)
def test_the_gradient_is_the_weighted_sum_over_the_rows(loss):
    X, y, w = data()
    model = compiled(loss, outputs=LOSSES[loss])
    found = model.gradients(X, y, w)
    each = [model.gradients(X[i : i + 1], y[i : i + 1]) for i in range(len(X))]
    for name, gradient in found.items():
        expected = sum(weight * row[name] for weight, row in zip(w, each, strict=True)) / len(X)
        np.testing.assert_allclose(gradient, expected, rtol=1e-10, atol=1e-13)
    losses = [model.evaluate(X[i : i + 1], y[i : i + 1])["loss"] for i in range(len(X))]
    assert model.evaluate(X, y, sample_weight=w)["loss"] == pytest.approx(np.mean(w * losses), rel=1e-12)
    assert model.train_on_batch(X, y, w)["loss"] == pytest.approx(np.mean(w * losses), rel=1e-12)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_follow_their_rows_through_the_epochs(shuffle, dtype):
    """Weights of 2 double the loss; so half of them with twice the learning rate is the same training."""
    X, y, w = data()
    X = X.astype(dtype)
    first, second = compiled(dtype=dtype), compiled(dtype=dtype)
    second.compile(fn.SGD(0.2), "cross_entropy")
    first.fit(X, y, batch_size=8, epochs=3, sample_weight=w, shuffle=shuffle)
    second.fit(X, y, batch_size=8, epochs=3, sample_weight=w / 2, shuffle=shuffle)
    tolerance = 1e-4 if dtype == "float32" else 1e-11
    np.testing.assert_allclose(first.arenas.parameters, second.arenas.parameters, rtol=tolerance, atol=tolerance / 10)
    third = compiled(dtype=dtype)
    third.fit(X, y, batch_size=8, epochs=3, sample_weight=np.ones(len(X)), shuffle=shuffle)
    plain = compiled(dtype=dtype)
    plain.fit(X, y, batch_size=8, epochs=3, shuffle=shuffle)
    np.testing.assert_array_equal(third.arenas.parameters, plain.arenas.parameters)
    assert not np.allclose(first.arenas.parameters, plain.arenas.parameters, rtol=1e-3)


def test_rows_that_are_converted_a_block_at_a_time_keep_their_weights(monkeypatch):
    from fastnn import data as module

    X, y, w = data(200)
    expected = compiled()
    expected.fit(X, y, batch_size=8, epochs=2, sample_weight=w)
    monkeypatch.setattr(module, "BLOCK_BYTES", 500)
    model = compiled()
    model.fit(X.astype(">f8"), y, batch_size=8, epochs=2, sample_weight=w)
    np.testing.assert_array_equal(model.arenas.parameters, expected.arenas.parameters)
    assert model.evaluate(X.astype(">f8"), y, sample_weight=w) == pytest.approx(
        expected.evaluate(X, y, sample_weight=w)
    )


def test_class_weights_are_weights_of_their_rows():
    X, y, w = data()
    counts = np.bincount(y)
    balanced = len(y) / (2 * counts)
    cases = [
        ({0: 2.0, 1: 0.5}, None, np.array([2.0, 0.5])[y]),
        ({1: 3}, None, np.array([1.0, 3.0])[y]),
        ("balanced", None, balanced[y]),
        ({0: 2.0}, w, w * np.array([2.0, 1.0])[y]),
    ]
    for class_weight, sample_weight, rows in cases:
        for targets in (y, np.eye(2)[y]):
            model, expected = compiled(), compiled()
            model.fit(X, targets, epochs=2, class_weight=class_weight, sample_weight=sample_weight)
            expected.fit(X, targets, epochs=2, sample_weight=rows)
            np.testing.assert_array_equal(model.arenas.parameters, expected.arenas.parameters)
    model, expected = compiled("binary_cross_entropy", outputs=1), compiled("binary_cross_entropy", outputs=1)
    model.train_on_batch(X, y, class_weight="balanced")
    expected.train_on_batch(X, y, balanced[y])
    np.testing.assert_array_equal(model.arenas.parameters, expected.arenas.parameters)


def test_validation_has_weights_of_its_own_and_metrics_count_all_rows_alike():
    X, y, w = data()
    model = compiled()
    history = model.fit(X, y, epochs=1, validation_data=(X, y, w), sample_weight=w)
    assert history["val_loss"][0] == pytest.approx(model.evaluate(X, y, sample_weight=w)["loss"], rel=1e-12)
    assert history["val_accuracy"][0] == model.evaluate(X, y)["accuracy"]


def test_rows_of_weight_zero_do_not_count():
    X, y, w = data()
    w[::3] = 0
    model = compiled()
    found = model.gradients(X, y, w)
    kept = w > 0
    expected = model.gradients(X[kept], y[kept], w[kept] * kept.sum() / len(X))
    for name in found:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-10, atol=1e-13)


X, Y, W = data()
BAD = {
    r"sample_weight has shape \(40,\); expected \(41,\)": {"sample_weight": W[:40]},
    r"sample_weight has shape \(41, 2\)": {"sample_weight": np.ones((41, 2))},
    "sample_weight has -1 in row 3": {"sample_weight": np.where(np.arange(41) == 3, -1, W)},
    "sample_weight has nan in row 0": {"sample_weight": np.full(41, np.nan)},
    "sample_weight is zero in all 41 rows": {"sample_weight": np.zeros(41)},
    "sample_weight holds text": {"sample_weight": ["x"] * 41},
    "class_weight is 'balance'": {"class_weight": "balance"},
    "class_weight is 3": {"class_weight": 3},
    "class_weight has the label 2; expected labels from 0 to 1": {"class_weight": {2: 1.0}},
    "class_weight has the label 'a'": {"class_weight": {"a": 1.0}},
    r"class_weight\[0\] is -1": {"class_weight": {0: -1}},
    r"class_weight\[0\] is nan": {"class_weight": {0: np.nan}},
    "class_weight is 0 for every class that occurs": {"class_weight": {0: 0, 1: 0}},
    "has a weight for class 1, which does not occur in y": {"class_weight": {1: 2.0}, "y": np.zeros(41, int)},
    r"validation_data\[2\] has shape": {"validation_data": (X, Y, W[:3])},
    r"validation_data is (.|\n)*expected a pair \(X, y\), or \(X, y, sample_weight\)": {
        "validation_data": (X, Y, W, W)
    },
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input(message):
    model = compiled()
    before = model.arenas.parameters.copy()
    options = {"y": Y, **BAD[message]}
    with pytest.raises((ValueError, TypeError), match=message):
        model.fit(X, **options)
    np.testing.assert_array_equal(model.arenas.parameters, before)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (W, "which is no class"),
        (-Y, "-1 in row .*, which is no class; expected whole numbers from 0 to 1"),
        (1e13 * Y, "1e.13 in row .*, which is no class"),
    ],
)
def test_class_weights_need_classes(y, message):
    model = compiled("mse", metrics=(), outputs=1)
    with pytest.raises(ValueError, match=message):
        model.fit(X, y, class_weight="balanced")


def test_class_weights_need_one_class_a_row():
    model = compiled("binary_cross_entropy", metrics=())
    with pytest.raises(ValueError, match="row 1 of y has the sum 2 and so not one class; expected one-hot rows"):
        model.fit(X[:3], [[1, 0], [1, 1], [0, 1]], class_weight={1: 2.0})
