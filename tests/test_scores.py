"""Metrics of an epoch: the numbers of scikit-learn."""

import numpy as np
import pytest

from fastnn import scores

metrics = pytest.importorskip("sklearn.metrics")


def classes(rows, count, seed, missing=False):
    """Labels, and probabilities with many ties."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, count - missing, rows)
    p = np.round(generator.uniform(0, 1, (rows, count)) + 0.5 * (labels[:, None] == np.arange(count)), 1) + 0.05
    return labels, p / p.sum(axis=1, keepdims=True)


CASES = [
    (rows, count, seed, missing)
    for rows in (1, 2, 30, 200)
    for count in (2, 3, 5)
    for seed in range(3)
    for missing in (False, True)
    if count - missing > 1
]


@pytest.mark.parametrize(("rows", "count", "seed", "missing"), CASES)
@pytest.mark.filterwarnings("ignore")
def test_several_classes(rows, count, seed, missing):
    labels, p = classes(rows, count, seed, missing)
    said = p.argmax(axis=1)
    for y_true in (labels, np.eye(count)[labels]):
        if y_true.ndim == 1 or rows > 1:
            for name in ("precision", "recall", "f1"):
                wanted = getattr(metrics, f"{name}_score")(labels, said, average="macro", zero_division=0)
                assert getattr(scores, name)(y_true, p) == pytest.approx(wanted, rel=1e-12), name
        wanted = metrics.log_loss(labels, p, labels=np.arange(count))
        assert scores.log_loss(y_true, p) == pytest.approx(wanted, rel=1e-12)
        wanted = metrics.confusion_matrix(labels, said, labels=np.arange(count))
        np.testing.assert_array_equal(scores.confusion_matrix(y_true, p), wanted)
        both = [j for j in range(count) if 0 < (labels == j).sum() < rows]
        if both:
            wanted = np.mean([metrics.roc_auc_score(labels == j, p[:, j]) for j in both])
            assert scores.roc_auc(y_true, p) == pytest.approx(wanted, rel=1e-12)
        else:
            assert np.isnan(scores.roc_auc(y_true, p))


@pytest.mark.parametrize("rows", [2, 30, 200])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.filterwarnings("ignore")
def test_one_output(rows, seed):
    labels, p = classes(rows, 2, seed)
    y_true, p = labels[:, None].astype(float), p[:, 1:]
    said = p[:, 0] > 0.5
    for name in ("precision", "recall", "f1"):
        wanted = getattr(metrics, f"{name}_score")(labels, said, zero_division=0)
        assert getattr(scores, name)(y_true, p) == pytest.approx(wanted, rel=1e-12), name
    assert scores.log_loss(y_true, p) == pytest.approx(metrics.log_loss(labels, p[:, 0], labels=[0, 1]), rel=1e-12)
    if 0 < labels.sum() < rows:
        assert scores.roc_auc(y_true, p) == pytest.approx(metrics.roc_auc_score(labels, p[:, 0]), rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.filterwarnings("ignore")
def test_several_yes_or_no_columns(seed):
    generator = np.random.default_rng(seed)
    y_true, p = (
        generator.integers(0, 2, (50, 4)).astype(float),
        np.round(generator.uniform(0, 1, (50, 4)), 1) * 0.9 + 0.04,
    )
    for name in ("precision", "recall", "f1"):
        wanted = getattr(metrics, f"{name}_score")(y_true, p > 0.5, average="macro", zero_division=0)
        assert getattr(scores, name)(y_true, p) == pytest.approx(wanted, rel=1e-12), name
    assert scores.roc_auc(y_true, p) == pytest.approx(metrics.roc_auc_score(y_true, p), rel=1e-12)


def test_probabilities_of_classes_are_no_sets_of_labels():
    """Targets of a cross-entropy that are no one-hot rows: each row counts for its largest class."""
    labels, p = classes(200, 5, 0)
    t = (0.4 * np.eye(5)[labels] + np.random.default_rng(1).dirichlet(np.ones(5), 200) / 4 + 0.07).astype(np.float32)
    t /= t.sum(axis=1, keepdims=True)
    assert (t.max(axis=1) <= 0.5).any()
    for name in ("precision", "recall", "f1", "roc_auc", "confusion_matrix"):
        np.testing.assert_array_equal(getattr(scores, name)(t, p), getattr(scores, name)(labels, p))
    assert scores.log_loss(t, p) == pytest.approx(-(t * np.log(p)).sum(axis=1).mean(), rel=1e-6)


@pytest.mark.parametrize("shape", [(2, 1), (30, 1), (30, 3)])
def test_r2(shape):
    generator = np.random.default_rng(0)
    t, y = generator.standard_normal(shape) + 100, generator.standard_normal(shape) + 100
    assert scores.r2(t, y) == pytest.approx(metrics.r2_score(t, y), rel=1e-12)
    for constant in (np.ones(shape), np.full((7, shape[1]), 0.1)):  # the sum of seven tenths is not exact
        assert scores.r2(constant, constant) == 1.0 and scores.r2(constant, constant + 0.1) == 0.0


def test_by_hand():
    # scores 0.1 0.4 0.35 0.8 of no, no, yes, yes: of 4 pairs one is the wrong way round
    p = np.array([[0.1], [0.4], [0.35], [0.8]])
    assert scores.roc_auc(np.array([[0.0], [0], [1], [1]]), p) == 0.75
    # taken for yes: one row, rightly; one of two found
    assert scores.precision(np.array([[0.0], [0], [1], [1]]), p) == 1.0
    assert scores.recall(np.array([[0.0], [0], [1], [1]]), p) == 0.5
    assert scores.f1(np.array([[0.0], [0], [1], [1]]), p) == pytest.approx(2 / 3)


ABOUT_CLASSES = ("precision", "recall", "f1", "roc_auc", "log_loss", "confusion_matrix")


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("kind", [np.int64, np.float64])
@pytest.mark.parametrize("name", ABOUT_CLASSES)
def test_a_column_of_labels_is_labels(name, kind, count):
    labels, p = classes(50, count, 0)
    expected = getattr(scores, name)(labels, p)
    for y_true in (labels.astype(kind), labels.astype(kind)[:, None], labels.tolist()):
        np.testing.assert_array_equal(getattr(scores, name)(y_true, p), expected)


@pytest.mark.parametrize("kind", [np.int64, np.float64, bool])
@pytest.mark.parametrize("name", [*ABOUT_CLASSES, "r2"])
def test_one_output_may_be_a_column_or_a_row(name, kind):
    labels, p = classes(50, 2, 0)
    column, p = labels.astype(kind)[:, None], p[:, 1:]
    expected = getattr(scores, name)(labels[:, None].astype(float), p)
    for y_true in (column, column[:, 0]):
        for y_pred in (p, p[:, 0], p[:, 0].tolist()):
            np.testing.assert_array_equal(getattr(scores, name)(y_true, y_pred), expected)
    if name == "r2":
        assert expected == pytest.approx(metrics.r2_score(labels, p), rel=1e-12)


def test_probabilities_as_targets_of_one_output_count_by_their_half():
    p = np.array([[0.1], [0.6], [0.4], [0.9]])
    for soft in (np.array([0.2, 0.3, 0.7, 0.8]), np.array([[0.2], [0.3], [0.7], [0.8]])):
        np.testing.assert_array_equal(scores.confusion_matrix(soft, p), [[1, 1], [1, 1]])


#: (shape of y_true, shape of y_pred) that fit in no way.
UNFIT = [((4,), (5, 1)), ((5, 1), (4,)), ((4,), (5, 3)), ((5, 2), (5, 3)), ((5, 2), (5, 1)), ((5, 3), (5,))]


@pytest.mark.parametrize(("true", "predicted"), [*UNFIT, ((1, 5), (5, 1)), ((), (5,)), ((5, 3, 1), (5, 3))])
@pytest.mark.parametrize("name", [*ABOUT_CLASSES, "r2"])
def test_shapes_that_do_not_fit(name, true, predicted):
    with pytest.raises(ValueError, match=r"y_true has shape \(.*\); expected .*, because y_pred has shape \("):
        getattr(scores, name)(np.zeros(true), np.zeros(predicted))
    with pytest.raises(ValueError, match=r"y_pred has shape \(5, 3, 1\); expected \(rows, outputs\), or \(rows,\)"):
        getattr(scores, name)(np.zeros(5), np.zeros((5, 3, 1)))


@pytest.mark.parametrize("name", [*ABOUT_CLASSES, "r2"])
def test_numbers_that_are_not_finite_and_no_rows(name):
    score = getattr(scores, name)
    with pytest.raises(ValueError, match=r"y_pred has no rows \(shape \(0,\)\); expected at least one"):
        score([], [])
    for bad in (np.nan, np.inf, -np.inf):
        for outputs in (1, 2):
            true, predicted = np.eye(2)[:, :outputs], np.full((2, outputs), 0.5)
            predicted[1, -1] = bad
            told = rf"y_pred has {bad:g} in row 1, column {outputs - 1}; expected finite numbers"
            with pytest.raises(ValueError, match=told):
                score(true, predicted)
    with pytest.raises(ValueError, match=r"y_true has nan in row 0, column 0; expected finite numbers"):
        score([[np.nan, 1], [0, 1]], np.full((2, 2), 0.5))


@pytest.mark.parametrize("name", [*ABOUT_CLASSES, "r2"])
def test_arrays_of_objects_and_what_is_no_number(name):
    score, true, predicted = getattr(scores, name), np.array([0.0, 1.0, 1.0, 0.0]), np.array([0.1, 0.8, 0.7, 0.4])
    np.testing.assert_array_equal(score(true.astype(object), predicted.astype(object)), score(true, predicted))
    for missing in (None, np.nan):
        for side in (0, 1):
            given = [true.astype(object), predicted.astype(object)]
            given[side][1] = missing
            with pytest.raises((ValueError, TypeError), match=r"y_pred has nan|y_true has nan|label nan"):
                score(*given)
    with pytest.raises(TypeError, match="y_pred holds complex numbers"):
        score(true, predicted + 0j)
    with pytest.raises(TypeError, match="y_true holds text"):
        score(["no", "yes", "yes", "no"], predicted)


def test_numbers_for_several_outputs_are_as_many():
    with pytest.raises(ValueError, match=r"y_true has shape \(5,\); expected \(5, 3\), because y_pred has"):
        scores.r2(np.arange(5.0), np.zeros((5, 3)))


@pytest.mark.parametrize("name", ABOUT_CLASSES)
def test_labels_that_are_no_class(name):
    score = getattr(scores, name)
    for label in (3, -1, 0.5, np.nan):
        with pytest.raises(ValueError, match=rf"y_true has the label {label:g} in row 1; expected .*from 0 to 2"):
            score(np.array([0, label]), np.full((2, 3), 0.3))
    for label in (2, -1):
        with pytest.raises(ValueError, match=rf"y_true has the label {label} in row 1; expected 0 and 1, or what"):
            score(np.array([0, label]), np.full((2, 1), 0.3))
