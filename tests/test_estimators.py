"""Estimators: what scikit-learn asks of one, and the same descent as its own MLP."""

import re
import subprocess
import sys
import warnings

import numpy as np
import pytest

import fastnn as fn

joblib = pytest.importorskip("joblib")
pytest.importorskip("sklearn", minversion="1.7")

from sklearn import neural_network  # noqa: E402
from sklearn.base import clone  # noqa: E402
from sklearn.ensemble import BaggingClassifier  # noqa: E402
from sklearn.exceptions import ConvergenceWarning, NotFittedError  # noqa: E402
from sklearn.linear_model import Ridge  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_score  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402

from fastnn.estimators import MLPClassifier, MLPRegressor  # noqa: E402
from fastnn.kernels.jit import COMPILED  # noqa: E402

slow = pytest.mark.skipif(not COMPILED, reason="takes long in plain Python")
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

DIGITS = fn.datasets.digits()
X, y = DIGITS[0][:300].astype(np.float64), DIGITS[1][:300]
WORDS = np.array("zero one two three four five six seven eight nine".split())[y]
LABELS = (X[:, [20, 30, 42]] > 0.5).astype(int)
NUMBERS = np.column_stack([X[:, 20] + X[:, 30], X[:, 42] ** 2, X[:, 10] * X[:, 11]])

#: Small, as the checks fit it some hundred times.
SMALL = {"hidden_layer_sizes": (10,), "learning_rate_init": 0.01, "max_iter": 60, "threads": 1}


def rounded(estimator):
    if estimator.dtype == "float64":
        return {}
    return {"check_sample_weight_equivalence_on_dense_data": "asks for 7 equal digits; float32 has as many, rounded"}


@slow
@parametrize_with_checks(
    [
        kind(**SMALL | settings)
        for kind in (MLPClassifier, MLPRegressor)
        for settings in ({}, {"dtype": "float64"}, {"dtype": "float64", "solver": "lbfgs", "learning_rate_init": 0.001})
    ],
    expected_failed_checks=rounded,
)
def test_scikit_learn_s_own_checks(estimator, check):
    check(estimator)


# The same as scikit-learn.

#: kind -> ours, theirs, y.
KINDS = {
    "classes": (MLPClassifier, neural_network.MLPClassifier, y),
    "two classes": (MLPClassifier, neural_network.MLPClassifier, y % 2),
    "labels": (MLPClassifier, neural_network.MLPClassifier, LABELS),
    "numbers": (MLPRegressor, neural_network.MLPRegressor, NUMBERS),
    "a number": (MLPRegressor, neural_network.MLPRegressor, NUMBERS[:, 0]),
}


def both(kind, **settings):
    """(ours, theirs, y): fitted for an epoch that changes nothing, and of equal weights."""
    ours, theirs, t = KINDS[kind]
    given = {"hidden_layer_sizes": (12, 8), "solver": "sgd", "random_state": 0, "warm_start": True, "batch_size": 50}
    given |= {"shuffle": False} | settings
    start = {"max_iter": 1, "learning_rate_init": 1e-300}
    pair = ours(**given | start, dtype="float64").fit(X, t), theirs(**given | start).fit(X, t)
    copy_weights(*pair)
    for network in pair:
        network.set_params(learning_rate_init=0.02, max_iter=5)
        network.set_params(**{key: settings[key] for key in start if key in settings})
        network.loss_curve_ = []
    return *pair, t


def copy_weights(ours, theirs):
    layers = zip(theirs.coefs_, theirs.intercepts_, strict=True)
    ours.model_.set_weights([array for layer in layers for array in layer])


def are_alike(ours, theirs, tolerance=1e-7):
    arrays = zip(ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_, strict=True)
    assert all(np.allclose(mine, other, rtol=tolerance, atol=tolerance / 100) for mine, other in arrays)
    for method in ("predict", "predict_proba") if hasattr(theirs, "predict_proba") else ("predict",):
        mine, other = (getattr(network, method)(X) for network in (ours, theirs))
        assert mine.shape == other.shape and np.allclose(mine, other, rtol=tolerance, atol=tolerance / 100)


@pytest.mark.parametrize("activation", ["relu", "logistic"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_descent(kind, activation):
    ours, theirs, t = both(kind, alpha=0.1, activation=activation)
    ours.fit(X, t)
    theirs.fit(X, t)
    are_alike(ours, theirs)
    if kind != "numbers":  # there scikit-learn reports the mean over the outputs, though it descends their sum
        assert np.allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-9)


def test_it_ends_after_as_many_epochs():
    for settings in ({"tol": 0.02, "n_iter_no_change": 3}, {"tol": 0.1, "n_iter_no_change": 1}):
        ours, theirs, t = both("classes", max_iter=300, **settings)
        ours.fit(X, t)
        theirs.best_loss_, theirs._no_improvement_count = np.inf, 0  # of the epoch before
        theirs.fit(X, t)
        assert 2 < ours.n_iter_ == theirs.n_iter_ < 300
        assert len(ours.loss_curve_) == ours.n_iter_ and ours.loss_ == ours.loss_curve_[-1]


@pytest.mark.parametrize("kind", ["classes", "a number"])
def test_one_pass(kind):
    """Weights of samples, too: scikit-learn divides by those of the batch, fastnn by their mean."""
    ours, theirs, t = both(kind)
    for network in (ours, theirs):
        network.set_params(warm_start=False)
    rows = slice(0, 50)
    weights = np.random.default_rng(0).integers(0, 4, 50)
    theirs._optimizer.learning_rate = theirs._optimizer.learning_rate_init = 0.02
    ours.model_.optimizer.learning_rate = 0.02
    for _ in range(3):
        for network in (ours, theirs):
            network.partial_fit(X[rows], t[rows], sample_weight=weights)
    are_alike(ours, theirs)
    assert ours.n_iter_ == 1 and len(ours.loss_curve_) == 3 and ours.validation_scores_ is None


@slow
def test_the_same_minimum():
    settings = {"hidden_layer_sizes": (), "solver": "lbfgs", "alpha": 1.0, "max_iter": 5000, "tol": 1e-7}
    for ours, theirs, t in KINDS.values():
        found = ours(**settings, dtype="float64").fit(X, t)
        several = t is NUMBERS  # where scikit-learn's L-BFGS is told another loss than that of its gradient
        expected = Ridge(alpha=1.0).fit(X, t) if several else theirs(**settings, max_fun=100_000).fit(X, t)
        for method in ("predict", "predict_proba") if hasattr(theirs, "predict_proba") else ("predict",):
            assert np.allclose(getattr(found, method)(X), getattr(expected, method)(X), atol=2e-3), method
        assert several or abs(found.loss_ / expected.loss_ - 1) < 1e-4


def test_initial_weights_are_drawn_alike():
    for activation in ("relu", "logistic"):
        settings = {"hidden_layer_sizes": (2000,), "activation": activation, "random_state": 0}
        ours, theirs = (
            kind(**settings, solver="sgd", max_iter=1, learning_rate_init=1e-300).fit(X, y)
            for kind in (MLPClassifier, neural_network.MLPClassifier)
        )
        for mine, other in zip(ours.coefs_ + ours.intercepts_[:1], theirs.coefs_ + theirs.intercepts_[:1], strict=True):
            assert abs(np.std(mine) / np.std(other) - 1) < 0.1 and abs(abs(mine).max() / abs(other).max() - 1) < 0.1


# What scikit-learn does with an estimator.


def quick(**settings):
    return MLPClassifier(**{"random_state": 0} | SMALL | settings)


@slow
def test_pipelines_and_searches():
    pipeline = make_pipeline(StandardScaler(), quick(threads=None))
    grid = {"mlpclassifier__hidden_layer_sizes": [(2,), (32,)], "mlpclassifier__solver": [fn.Adam(0.01), fn.SGD(0.1)]}
    grid |= {"mlpclassifier__learning_rate_init": [0.001]}
    search = GridSearchCV(pipeline, grid, cv=3, n_jobs=2).fit(X, WORDS)  # in processes
    assert search.best_params_["mlpclassifier__hidden_layer_sizes"] == (32,) and search.best_score_ > 0.8
    assert set(search.predict(X)) <= set(WORDS)
    assert cross_val_score(MLPRegressor(**SMALL, random_state=0), X, NUMBERS, cv=3).mean() > 0.3
    for backend in ("threading", "loky"):
        with joblib.parallel_backend(backend, n_jobs=2):
            bag = BaggingClassifier(quick(threads=None), 2, n_jobs=2).fit(X, y)
        assert [network.model_.threads for network in bag.estimators_] == [1, 1]
    assert quick(threads=None).fit(X, y).model_.threads is None
    assert quick(threads=2).fit(X, y).model_.threads == 2


@slow
def test_copies_and_files(tmp_path):
    network = quick(solver=fn.AdamW(0.01), learning_rate_init=0.001).fit(X, WORDS)
    again = clone(network)
    assert not hasattr(again, "model_") and repr(again) == repr(network) and again.solver is not network.solver
    assert np.array_equal(again.fit(X, WORDS).predict_proba(X), network.predict_proba(X))
    joblib.dump(network, tmp_path / "network.joblib")
    loaded = joblib.load(tmp_path / "network.joblib")
    assert np.array_equal(loaded.predict(X), network.predict(X))
    assert np.array_equal(loaded.partial_fit(X, WORDS).predict(X), network.partial_fit(X, WORDS).predict(X))
    assert network.model_.optimizer is not network.solver


def test_data_frames():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=[f"pixel {column}" for column in range(64)])
    pipeline = make_pipeline(StandardScaler(), quick()).set_output(transform="pandas")
    pipeline.fit(frame, pandas.Series(WORDS))
    assert list(pipeline[-1].feature_names_in_) == list(frame) and pipeline[-1].n_features_in_ == 64
    assert pipeline.score(frame, WORDS) > 0.9
    with pytest.raises(ValueError, match="feature names"):
        pipeline[-1].predict(frame[frame.columns[::-1]])


def test_weights_are_repeated_rows():
    rows, counts = slice(0, 60), np.arange(60) % 3
    for kind, t in ((MLPClassifier, WORDS), (MLPClassifier, LABELS), (MLPRegressor, NUMBERS)):
        make = lambda kind=kind: kind(**SMALL, dtype="float64", random_state=0, alpha=1.0)  # noqa: E731
        weighed = make().fit(X[rows], t[rows], sample_weight=10 * counts)
        repeated = make().set_params(alpha=0.1).fit(X[rows].repeat(counts, axis=0), t[rows].repeat(counts, axis=0))
        assert np.allclose(weighed.coefs_[0], repeated.coefs_[0], rtol=1e-6, atol=1e-8)


def test_classes():
    network = quick(max_iter=40).fit(X, WORDS)
    assert network.classes_.tolist() == sorted(set(WORDS)) and set(network.predict(X)) <= set(WORDS)
    assert network.score(X, WORDS) > 0.95 and network.model_.outputs == 10
    probabilities = network.predict_proba(X)
    assert np.allclose(probabilities.sum(axis=1), 1) and np.allclose(
        np.exp(network.predict_log_proba(X)), probabilities
    )
    two = quick().fit(X, WORDS == "one")
    assert two.predict(X).dtype == bool and two.predict_proba(X).shape == (300, 2) and two.model_.outputs == 1
    several = quick(max_iter=40).fit(X, LABELS)
    assert several.predict(X).shape == several.predict_proba(X).shape == (300, 3) and several.score(X, LABELS) > 0.8


def test_one_pass_after_another():
    network = quick()
    for part in range(0, 300, 50):
        network.partial_fit(X[part : part + 50], WORDS[part : part + 50], classes=np.unique(WORDS))
    assert network.model_.step == network.model_.epoch == 6 and network.n_iter_ == 1 and len(network.loss_curve_) == 6
    with pytest.raises(ValueError, match="y has 'ten', which is no class of before; expected"):
        network.partial_fit(X[:2], ["ten", "one"])
    numbers = MLPRegressor(**SMALL).partial_fit(X, NUMBERS).partial_fit(X, NUMBERS)
    with pytest.raises(ValueError, match="y asks for 1 outputs and mse, but the network to go on with has 3"):
        numbers.partial_fit(X, NUMBERS[:, 0])


def test_a_warm_start():
    network = quick(warm_start=True, max_iter=5).fit(X, y)
    weights = network.coefs_[0].copy()
    network.set_params(max_iter=1, learning_rate_init=1e-9).fit(X, y)
    assert np.allclose(network.coefs_[0], weights, atol=1e-6) and network.n_iter_ == 1
    assert len(network.loss_curve_) == 6
    network.set_params(hidden_layer_sizes=np.array([10]), dtype=np.float32).fit(X, y)  # the same
    with pytest.raises(ValueError, match=r"hidden_layer_sizes is \[3\].*, but the network to go on with has \[10\]"):
        network.set_params(hidden_layer_sizes=(3,)).fit(X, y)


@slow
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_early_stopping(solver):
    settings = SMALL | {"early_stopping": True, "n_iter_no_change": 3, "max_iter": 300, "random_state": 0}
    if solver == "lbfgs":
        settings["learning_rate_init"] = 0.001
    network = MLPClassifier(**settings, solver=solver, validation_fraction=0.2).fit(X, WORDS)
    assert len(network.validation_scores_) == network.n_iter_ < 300
    assert network.best_validation_score_ in network.validation_scores_ and network.best_validation_score_ > 0.8
    rows = np.argsort(y)
    assert MLPClassifier(**settings, solver=solver).fit(X[rows], y[rows]).score(X, y) > 0.85
    numbers = MLPRegressor(**settings, solver=solver).fit(X, NUMBERS, sample_weight=np.arange(300))
    assert numbers.best_validation_score_ == max(numbers.validation_scores_) > 0.3


def test_dropout_and_own_parts():
    cube = fn.ActivationFunction(value=lambda x: x * x * x, slope=lambda x, y: 3 * x * x, name="cube")
    network = quick(hidden_layer_sizes=(8, 8), dropout=0.2, activation="gelu", max_iter=3).fit(X, y)
    assert [layer.kind for layer in network.model_.layers] == ["input", "dense", "dropout", "dense", "dropout", "dense"]
    own = clone(quick(activation=cube, max_iter=2)).fit(X, y)
    assert own.model_.layers[1].activation.name == "cube"
    assert quick(solver="SGD", max_iter=2).fit(X, y).model_.optimizer.momentum == 0.9
    assert quick(solver="rmsprop", max_iter=2).fit(X, y).model_.optimizer.learning_rate == 0.01


def test_the_end_is_told():
    with pytest.warns(ConvergenceWarning, match="max_iter is 2"):
        quick(max_iter=2).fit(X, y)
    with warnings.catch_warnings(), pytest.raises(ConvergenceWarning):
        warnings.simplefilter("error")
        quick(max_iter=2).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quick(tol=10.0).fit(X, y)
        quick(max_iter=1).partial_fit(X, y)


#: settings -> what the error says.
MISTAKES = {
    "hidden_layer_sizes": ({"hidden_layer_sizes": (10, 0)}, "hidden_layer_sizes[1] is 0; expected a whole number"),
    "activation": ({"activation": "rellu"}, "did you mean 'relu'?"),
    "solver": ({"solver": "adm"}, "solver is 'adm'; expected one of"),
    "alpha": ({"alpha": -1}, "alpha is -1; expected a finite number at least 0"),
    "batch_size": ({"batch_size": "all"}, "batch_size is 'all'; expected a whole number"),
    "tol": ({"tol": "small"}, "tol is 'small'; expected a finite number"),
    "validation_fraction": ({"validation_fraction": 1}, "validation_fraction is 1; expected"),
    "few held out": ({"early_stopping": True, "validation_fraction": 0.001}, "number of classes"),
    "early_stopping": ({"early_stopping": 1}, "early_stopping is 1; expected True or False"),
    "dtype": ({"dtype": "float16"}, "dtype is 'float16'; expected one of"),
    "threads": ({"threads": 0}, "threads is 0; expected"),
    "a rate twice": ({"solver": fn.Adam()}, "learning_rate_init is 0.01, which Adam() (a Adam) does not look at"),
    "a rate for L-BFGS": ({"solver": "lbfgs"}, "learning_rate_init is 0.01, which 'lbfgs' does not look at"),
    "batches of L-BFGS": (
        {"solver": "lbfgs", "learning_rate_init": 0.001, "batch_size": 32},
        "batch_size is 32, but the solver is L-BFGS; expected 'auto'",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_is_wrong_is_told_by_fit(name):
    settings, words = MISTAKES[name]
    network = quick(**settings)
    with pytest.raises((TypeError, ValueError), match=re.escape(words)):
        network.fit(X, y)
    assert not hasattr(network, "model_")


def test_more_that_is_wrong():
    with pytest.raises(TypeError, match=r"has no argument 'momentum'; expected solver=fn.SGD\("):
        MLPClassifier(momentum=0.5)
    with pytest.raises(ValueError, match="early_stopping is True, for which partial_fit is no training"):
        quick(early_stopping=True).partial_fit(X, y)
    for solver in ("lbfgs", fn.LBFGS()):  # as scikit-learn's own
        assert not hasattr(MLPClassifier(solver=solver), "partial_fit")
        assert not hasattr(MLPRegressor(solver=solver), "partial_fit")
    with pytest.raises(ValueError, match="y has one class, 3; expected two or more"):
        quick().fit(X, np.full(300, 3))
    for classes in ([], [0]):
        with pytest.raises(ValueError, match=r"classes has (no class|one class, 0); expected two or more"):
            quick().partial_fit(X, y, classes=classes)
    network = quick().partial_fit(X, y)
    with pytest.raises(ValueError, match=r"classes is .*; expected .*, as before"):
        network.partial_fit(X, y, classes=range(11))
    with pytest.raises(TypeError, match=r"MLPRegressor has no argument 'beta_1'; expected solver=fn.Adam"):
        MLPRegressor(beta_1=0.5)
    for sizes in (iter([3]), np.array(5.5)):
        with pytest.raises(TypeError, match="hidden_layer_sizes is "):
            quick(hidden_layer_sizes=sizes).fit(X, y)
    with pytest.raises(FloatingPointError, match="the outputs of the network are not finite in float32"):
        MLPRegressor((8,), max_iter=1, random_state=0).fit(X, y).predict(np.full_like(X, 3e38))
    with pytest.raises(ValueError, match=r"sample_weight has shape \(3,\); expected \(300,\)"):
        quick().fit(X, y, sample_weight=[1, 2, 3])
    with pytest.raises(AttributeError, match=re.escape("expected fn.estimators.MLPClassifier")):
        _ = fn.MLPClassifier


BROKEN = {
    "too few to hold out": (lambda network: network.set_params(early_stopping=True).fit(X[:4], list("qrst"))),
    "weights of other rows": (lambda network: network.fit(X[:, :2], y, sample_weight=[1])),
    "one class": (lambda network: network.fit(X[:, :2], 0 * y)),
    "a loss that is not finite": (
        lambda network: network.set_params(solver="sgd", learning_rate_init=1e30).fit(X, WORDS[::-1])
    ),
}


def test_a_warning_that_is_an_error_costs_no_fit():
    network = MLPClassifier((8,), max_iter=2, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ConvergenceWarning, match="max_iter is 2"):
            network.fit(X, y)
    assert network.n_iter_ == 2 and len(network.predict(X)) == len(X)


@pytest.mark.parametrize("name", BROKEN)
def test_a_fit_that_fails_leaves_what_was_there(name):
    network = quick().fit(X, WORDS)
    before, kept = network.predict(X), (network.n_iter_, network.loss_, network.loss_curve_[:])
    with pytest.raises((ValueError, FloatingPointError)):
        BROKEN[name](network)
    np.testing.assert_array_equal(network.predict(X), before)
    assert (network.n_iter_, network.loss_, network.loss_curve_) == kept
    network = quick()
    with pytest.raises((ValueError, FloatingPointError)):
        BROKEN[name](network)
    with pytest.raises(NotFittedError):
        network.predict(X)


def test_probabilities_of_the_other_class_are_no_rest():
    network, exact = (quick(dtype=dtype).fit(X, y % 2) for dtype in ("float32", "float64"))
    weights = [30 * w for w in network.model_.get_weights()]
    for each in (network, exact):
        each.model_.set_weights(weights)
    found, expected = (each.predict_proba(X) for each in (network, exact))
    assert found.dtype == np.float32 and expected.min() < 1e-20
    np.testing.assert_allclose(found, np.maximum(expected, np.finfo(np.float32).tiny), rtol=0.01, atol=1e-37)
    np.testing.assert_allclose(np.exp(exact.predict_log_proba(X)), expected, rtol=1e-12)


def test_names_of_activations_may_be_written_otherwise():
    weights = [
        MLPClassifier((8,), name, max_iter=1, random_state=0).fit(X, y).coefs_ for name in ("logistic", "Sigmoid")
    ]
    np.testing.assert_array_equal(weights[0][0], weights[1][0])
    network = quick(activation="logistic", warm_start=True).fit(X, y)
    network.set_params(activation="sigmoid", verbose=np.False_).fit(X, y)
    assert (network.n_layers_, network.n_outputs_, network.out_activation_) == (3, 10, "softmax")
    assert network.best_loss_ == min(network.loss_curve_)


def test_without_scikit_learn():
    code = """
import sys
sys.modules["sklearn"] = None
from fastnn import *
import fastnn as fn
assert "fastnn.estimators" not in sys.modules
try:
    fn.estimators
except ImportError as fault:
    print(fault)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'python -m pip install "fastnn[scikit-learn]"' in result.stdout
