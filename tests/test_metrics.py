"""Metrics in fit and evaluate: those of scikit-learn, for any number of threads, in one pass."""

import numpy as np
import pytest

import fastnn as fn
from fastnn import metrics, scores

sklearn = pytest.importorskip("sklearn.metrics")


def data(rows=300, classes=6):
    generator = np.random.default_rng(0)
    X = generator.standard_normal((rows, 4))
    return X, (X @ generator.standard_normal((4, classes)) + generator.standard_normal((rows, classes))).argmax(axis=1)


def model_for(loss, outputs, chosen, dtype="float64", threads=None, dropout=0.0):
    last = {"cross_entropy": "softmax", "binary_cross_entropy": "sigmoid"}.get(loss)
    layers = [fn.Input(4), fn.Dense(8, "relu"), fn.Dropout(dropout), fn.Dense(outputs, last)]
    model = fn.Model(layers, seed=0, dtype=dtype)
    model.compile("adam", loss, chosen, threads=threads)
    return model


CLASSES = ["accuracy", "top_k", metrics.TopKAccuracy(2), "precision", "recall", "f1", "auc", "log_loss"]


@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.filterwarnings("ignore:.*were not represented")
def test_several_classes(one_hot):
    X, labels = data()
    model = model_for("cross_entropy", 6, CLASSES)
    y = np.eye(6)[labels] if one_hot else labels
    model.fit(X, y, epochs=5)
    found, p = model.evaluate(X, y), model.predict(X)
    said = p.argmax(axis=1)
    expected = {
        "accuracy": sklearn.accuracy_score(labels, said),
        "top_5_accuracy": sklearn.top_k_accuracy_score(labels, p, k=5),
        "top_2_accuracy": sklearn.top_k_accuracy_score(labels, p, k=2),
        "precision": sklearn.precision_score(labels, said, average="macro", zero_division=0),
        "recall": sklearn.recall_score(labels, said, average="macro"),
        "f1": sklearn.f1_score(labels, said, average="macro"),
        "auc": sklearn.roc_auc_score(labels, p, multi_class="ovr"),
        "log_loss": sklearn.log_loss(labels, p),
    }
    assert list(found) == ["loss", *expected]
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-12), name
    assert found["loss"] == pytest.approx(expected["log_loss"], rel=1e-10)


def test_yes_or_no_columns_stay_so_where_each_row_happens_to_have_one():
    """What a metric means follows from the loss, not from the rows that happen to be there."""
    X, labels = data(40)
    model = model_for("binary_cross_entropy", 6, ["accuracy", "f1", "log_loss"])
    rows = np.eye(6)[labels]
    model.fit(X, rows, epochs=5)
    found, p = model.evaluate(X, rows), model.predict(X)
    assert found["log_loss"] == pytest.approx(found["loss"], rel=1e-12)
    assert found["f1"] == sklearn.f1_score(rows, p > 0.5, average="macro", zero_division=0)


def test_quantities():
    X, _ = data()
    t = X @ np.arange(8.0).reshape(4, 2) + 3
    model = model_for("mse", 2, ["mse", "rmse", "mae", "r2"])
    model.fit(X, t, epochs=20)
    found, y = model.evaluate(X, t), model.predict(X)
    assert found["mse"] == found["loss"] == pytest.approx(sklearn.mean_squared_error(t, y), rel=1e-12)
    assert found["rmse"] == pytest.approx(np.sqrt(found["mse"]), rel=1e-15)
    assert found["mae"] == pytest.approx(sklearn.mean_absolute_error(t, y), rel=1e-12)
    assert found["r2"] == pytest.approx(sklearn.r2_score(t, y), rel=1e-12)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("shuffle", [False, True])
def test_metrics_of_an_epoch_are_of_the_outputs_that_were_trained_on(threads, shuffle):
    """Steps of size 0 leave the weights: the metrics of the training are then those of an evaluation."""
    X, y = data()
    model = model_for("cross_entropy", 6, [*CLASSES, "acc"], threads=threads)
    model.optimizer.learning_rate = 0
    history = model.fit(X, y, epochs=2, batch_size=32, validation_data=(X, y), shuffle=shuffle)
    for name, curve in history.to_dict().items():
        if not name.startswith("val_"):
            assert curve[0] == pytest.approx(curve[1], rel=1e-12)
            assert curve == pytest.approx(history[f"val_{name}"], rel=1e-12), name


def test_with_dropout_and_moving_weights_they_agree_with_the_loss():
    """log_loss, from the outputs that were kept, and the loss, added up by the engine, are the same number."""
    X, y = data()
    model = model_for("cross_entropy", 6, ["log_loss"], dropout=0.5)
    history = model.fit(X, y, epochs=3, batch_size=17)
    assert history["log_loss"] == pytest.approx(history["loss"], rel=1e-9)


def test_rows_that_are_converted_a_block_at_a_time(monkeypatch):
    from fastnn import data as module

    X, y = data()
    expected = model_for("cross_entropy", 6, CLASSES).fit(X, y, epochs=2).to_dict()
    monkeypatch.setattr(module, "BLOCK_BYTES", 700)
    found = model_for("cross_entropy", 6, CLASSES).fit(X.astype(">f8"), y, epochs=2).to_dict()
    assert found == expected


def test_a_function_gets_all_rows_once_an_epoch():
    X, y = data()
    seen = []

    def share_of_zero(y_true, y_pred):
        seen.append((y_true.shape, y_true.dtype, y_pred.shape))
        return (y_true == 0).mean()

    model = model_for("cross_entropy", 6, [share_of_zero, metrics.FunctionMetric(scores.f1, "my_f1"), "f1"])
    history = model.fit(X, y, epochs=2, validation_split=0.1)
    assert seen == [((270,), np.int64, (270, 6)), ((30,), np.int64, (30, 6))] * 2
    assert history["share_of_zero"] == [pytest.approx((y[:270] == 0).mean())] * 2
    assert history["my_f1"] == history["f1"]


def test_metrics_cost_no_second_pass():
    from fastnn.kernels.cpu.runner import Runner

    X, y = data()
    model = model_for("cross_entropy", 6, CLASSES)
    calls = []
    infer = Runner.infer
    try:
        Runner.infer = lambda self, *rest: calls.append(1) or infer(self, *rest)
        model.fit(X, y, epochs=2)
        assert calls == []
        model.evaluate(X, y)
        assert calls == [1]
    finally:
        Runner.infer = infer


class Nameless(metrics.Metric):
    def of_epoch(self, y_true, y_pred):
        return 1.0


class ByRows(metrics.Metric):
    name, by_rows = "mine", True


BAD = {
    "metrics has 'f1', which is about classes, but the model predicts numbers": ("mse", 1, ["f1"]),
    "metrics has 'auc', which is about classes": ("mse", 1, ["auc"]),
    "metrics has 'top_5_accuracy', but the model has 3 outputs; expected more than 5": ("cross_entropy", 3, ["top_k"]),
    "metrics has 'top_3_accuracy', but the model has 3 outputs; expected more than 3": (
        "cross_entropy",
        3,
        [metrics.TopKAccuracy(3)],
    ),
    "metrics has 'top_2_accuracy', but the model has 3 outputs that are not exclusive": (
        "binary_cross_entropy",
        3,
        [metrics.TopKAccuracy(2)],
    ),
    "metrics has 'preccision'; .*did you mean 'precision'": ("cross_entropy", 3, ["preccision"]),
    "metrics has 3; expected 'accuracy'": ("cross_entropy", 3, [3]),
    "metrics is 'f1'; expected a list": ("cross_entropy", 3, "f1"),
    "metrics is TopKAccuracy": ("cross_entropy", 9, metrics.TopKAccuracy()),
    "metrics has two metrics named '<lambda>'": ("cross_entropy", 3, [lambda t, y: 1.0, lambda t, y: 2.0]),
    "metrics has two metrics named 'f1'": ("cross_entropy", 3, ["f1", metrics.FunctionMetric(scores.f1, "f1")]),
    "metrics has a metric named 'loss'": ("cross_entropy", 3, [metrics.FunctionMetric(scores.f1, "loss")]),
    "metrics has a metric named 'val_f1'": ("cross_entropy", 3, [metrics.FunctionMetric(scores.f1, "val_f1")]),
    r"metrics has Metric\(\) \(a Metric\), which does not define of_epoch\(": ("mse", 3, [fn.Metric()]),
    r"metrics has ByRows\(\) \(a ByRows\), which does not define kernel\(loss, outputs\)": ("mse", 3, [ByRows()]),
    "metrics has Nameless with the name ''; expected a non-empty string": ("mse", 3, [Nameless()]),
    r"metrics: <lambda> is a function of \(t\); expected a function of \(y_true, y_pred\)": ("mse", 3, [lambda t: 1.0]),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input(message):
    with pytest.raises((ValueError, TypeError), match=message):
        model_for(*BAD[message])


def test_what_shows_only_with_the_targets():
    X, y = data()
    model = model_for("cross_entropy", 6, ["r2"])
    with pytest.raises(ValueError, match="metrics has 'r2', which compares outputs with targets of the same width"):
        model.fit(X, y)
    model = model_for("cross_entropy", 6, [lambda y_true, y_pred: "high"])
    with pytest.raises(TypeError, match="returned 'high'; expected a number"):
        model.fit(X, y)
    with pytest.raises(ValueError, match="k is 0"):
        metrics.TopKAccuracy(0)


def test_accuracy_of_numbers_is_refused_before_the_fit():
    X, labels = data()
    model = model_for("mse", 1, ["accuracy"])
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"metrics has 'accuracy', which is about classes, but y has .* in row 0"):
        model.fit(X, X[:, 0])
    with pytest.raises(
        ValueError, match=r"'accuracy', which is about classes, but validation_data\[1\] has 5 in row 0"
    ):
        model.fit(X, labels > 2, validation_data=(X, np.full(300, 5.0)))
    scored = fn.Model([fn.Input(4), fn.Dense(1, "sigmoid")])
    scored.compile("sgd", "mse", ["log_loss"])
    with pytest.raises(ValueError, match=r"'log_loss', which is about classes, but y has .* in row 0"):
        scored.fit(X, X[:, 0] - 9)
    np.testing.assert_array_equal(model.get_weights()[0], before[0])
    model.fit(X, labels > 2)  # least squares may tell classes apart
    assert model.evaluate(X, labels > 2)["accuracy"] == ((model.predict(X)[:, 0] > 0.5) == (labels > 2)).mean()


class OwnAccuracy(metrics.Metric):
    """The share of right labels, twice as large."""

    name = "accuracy"

    def of_epoch(self, y_true, y_pred):
        return 2 * (y_pred.argmax(axis=1) == y_true).mean()


def test_a_metric_of_one_s_own_needs_a_name_and_all_rows():
    X, y = data()
    model = model_for("cross_entropy", 6, [OwnAccuracy(), "f1"])
    history = model.fit(X, y, validation_split=0.1)
    assert history["val_accuracy"] == [2 * (model.predict(X[270:]).argmax(axis=1) == y[270:]).mean()]


def test_a_metric_may_change_what_it_is_given():
    def centered(y_true, y_pred):
        y_true -= y_true.mean()
        y_pred[...] = 0
        return 0.0

    X = data()[0].astype(np.float64)
    y, before = X[:, :1].copy(), X[:, :1].copy()
    model = model_for("mse", 1, [centered, "r2"])
    assert model.evaluate(X, y)["r2"] == scores.r2(y, model.predict(X))
    model.fit(X, y, batch_size=len(X))
    np.testing.assert_array_equal(y, before)


def test_one_function_twice_is_one_metric():
    function = metrics.FunctionMetric(scores.f1, "mine")
    assert len(metrics.get("metrics", [scores.f1, scores.f1, "acc", "accuracy", metrics.TopKAccuracy(5), "top_k"])) == 3
    assert metrics.get("metrics", [function, metrics.FunctionMetric(scores.f1, "mine")]) == (function,)
    with pytest.raises(ValueError, match="metrics has two metrics named 'accuracy'; expected a name for each"):
        metrics.get("metrics", ["accuracy", OwnAccuracy()])
    with pytest.raises(TypeError, match="name is 3; expected a non-empty string"):
        metrics.FunctionMetric(scores.f1, 3)
