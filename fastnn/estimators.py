"""scikit-learn's MLP, trained by fastnn: for pipelines, searches, cross-validation, ``clone`` and joblib.

>>> from fastnn.estimators import MLPClassifier
>>> from sklearn.pipeline import make_pipeline
>>> from sklearn.preprocessing import StandardScaler
>>> X, y = fn.datasets.digits()
>>> pipeline = make_pipeline(StandardScaler(), MLPClassifier((32,), tol=0.005, random_state=0))
>>> bool(pipeline.fit(X[:1500], y[:1500]).score(X[1500:], y[1500:]) > 0.85)
True

They need scikit-learn 1.7 or newer: the extra ``scikit-learn``.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from . import checks, data, optimizers
from .callbacks import Callback
from .checks import flag, number, shown, whole_number
from .elsewhere import missing_from
from .initializers import Uniform
from .keywords import explains_wrong_calls
from .layers import Dense, Dropout, Input, Layer
from .model import Model
from .regularizers import L2
from .workers import check_threads

try:
    from joblib.parallel import get_active_backend
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics import r2_score
    from sklearn.model_selection import train_test_split
    from sklearn.utils import check_random_state, column_or_1d
    from sklearn.utils.metaestimators import available_if
    from sklearn.utils.multiclass import check_classification_targets, type_of_target
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as fault:
    raise ImportError(
        'fastnn.estimators needs scikit-learn 1.7 or newer: python -m pip install "fastnn[scikit-learn]"'
    ) from fault

__all__ = ["MLPClassifier", "MLPRegressor"]

if not TYPE_CHECKING:  # which else would take any name for known
    __getattr__ = missing_from(__name__)

#: The default of learning_rate_init, and the rows of a batch where batch_size is "auto", at most.
RATE, MOST_ROWS = 0.001, 200


def hidden(name: str, sizes: Any) -> list[int]:
    """The units of each hidden layer, of hidden_layer_sizes, a number or several."""
    if not isinstance(sizes, (Sequence, np.ndarray)) or np.ndim(sizes) == 0:
        return [whole_number(name, sizes)]
    return [whole_number(f"{name}[{index}]", units) for index, units in enumerate(sizes)]


#: The settings that a network is built from: it cannot go on with others.
BUILT_FROM = ("hidden_layer_sizes", "activation", "dropout", "dtype")

#: The probability of one class from which on that of the other one is no longer taken as what is left of 1.
SURE = 0.999

#: What checks each setting, and gives it as it is meant; a random_state is scikit-learn's to check.
CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "hidden_layer_sizes": hidden,
    "activation": lambda name, value: Dense(1, value).activation,
    "solver": optimizers.get,
    "alpha": partial(number, least=0),
    "batch_size": lambda name, value: value == "auto" or whole_number(name, value),
    "learning_rate_init": partial(number, above=0),
    "max_iter": whole_number,
    "shuffle": flag,
    "tol": partial(number, least=0),
    "verbose": lambda name, value: min(2, whole_number(name, int(value) if value in (True, False) else value, least=0)),
    "warm_start": flag,
    "early_stopping": flag,
    "validation_fraction": partial(number, above=0, below=1),
    "n_iter_no_change": lambda name, value: value == np.inf or whole_number(name, value),
    "dropout": partial(number, least=0, below=1),
    "dtype": checks.dtype,
    "threads": check_threads,
}


class Head(NamedTuple):
    """How a network ends, and how many times as large as fastnn's scikit-learn's loss is."""

    outputs: int
    activation: str
    loss: str
    factor: float


class Stop(Callback):
    """Ends a fit as scikit-learn does: after more than ``patience`` epochs in a row that were not better, by ``tol``,
    than the best one before.

    judge : a function of the logs, the more the better; keep : whether to end with the weights of the best epoch.
    """

    only_watches = True

    def __init__(self, judge: Callable[[dict[str, float]], float], tol: float, patience: float, keep: bool):
        self.judge, self.tol, self.patience, self.keep = judge, tol, patience, keep
        self.best, self.best_epoch, self.wait, self.stopped = -np.inf, 0, 0, False
        self.weights: np.ndarray | None = None

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        value = self.judge(logs)
        self.wait = self.wait + 1 if value < self.best + self.tol else 0
        if value > self.best:
            self.best, self.best_epoch = value, epoch
            self.weights = self.model.arenas.parameters.copy() if self.keep else None
        if self.wait > self.patience:
            self.stopped = self.model.stop_training = True

    def on_train_end(self) -> None:
        if self.weights is not None:
            self.model.arenas.parameters[:] = self.weights


class MLP(BaseEstimator):  # type: ignore[misc]
    """What both estimators share."""

    _head: Head
    _built_from: dict[str, Any]
    loss_curve_: list[float]

    @explains_wrong_calls
    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate_init: float = RATE,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: float = 10,
        dropout: float = 0.0,
        dtype: Any = "float32",
        threads: int | None = None,
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.dropout = dropout
        self.dtype = dtype
        self.threads = threads

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train until nothing improves any more, or for ``max_iter`` epochs, which warns; returns the estimator.

        X : (rows, columns); y : (rows,), or (rows, outputs) where there are several; sample_weight : (rows,).

        Raises a ValueError or TypeError that names the argument or the setting, before any work, and a
        FloatingPointError if the loss or a weight stops being finite; the estimator is then as it was.
        """
        return self._train_or_leave(X, y, sample_weight, goes_on=self.warm_start and hasattr(self, "model_"))

    def _train_or_leave(self, *arguments: Any, **further: Any) -> Self:
        """``_train``, and where it fails, what was fitted before; a network that goes on keeps what it has learned."""
        before = dict(vars(self))
        try:
            ended = self._train(*arguments, **further)
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise
        if not ended:  # which may be an error to the user, and the fit counts
            warnings.warn(
                f"max_iter is {self.max_iter}, before the fit had come to its end; expected more, or a larger tol",
                ConvergenceWarning,
                stacklevel=3,
            )
        return self

    def _train(self, X: Any, y: Any, sample_weight: Any, goes_on: Any, once: bool = False, classes: Any = None) -> bool:
        """goes_on : whether to train the network that there is; once : for one epoch, with the optimizer that there is;
        classes : all that y will ever have, or None for those that it has. Returns whether it has come to its end.
        """
        optimizer, settings = self._checked(goes_on, once)
        numeric = isinstance(self, RegressorMixin)
        X, y = validate_data(self, X, y, dtype=self.dtype, multi_output=True, y_numeric=numeric, reset=not goes_on)
        weights = data.sample_weights("sample_weight", sample_weight, len(X))
        if weights is not None and not weights.any():
            raise ValueError(f"sample_weight is zero in all {len(X)} rows; expected a row that counts")
        t, head = self._targets(column_or_1d(y, warn=True) if y.shape[1:] == (1,) else y, goes_on, classes)
        if goes_on and head != self._head:
            raise ValueError(
                f"y asks for {head.outputs} outputs and {head.loss}, but the network to go on with has "
                f"{self._head.outputs} and {self._head.loss}; expected a y as before"
            )
        mean = 1.0 if weights is None else weights.mean()
        if weights is not None or head.factor != 1:
            weights = (np.ones(len(X)) if weights is None else weights) * (head.factor / mean)
        random = check_random_state(self.random_state)
        (X, t, weights), held_out = self._split(X, t, weights, random)

        threads = self.threads
        if threads is None and get_active_backend()[0].nesting_level:
            threads = 1  # joblib gives the cores to several fits
        if not goes_on:
            self._head, self._built_from = head, {name: settings[name] for name in BUILT_FROM}
            self.model_, self.loss_curve_ = self._built(X.shape[1], random), []
        model = self.model_
        if once and goes_on:
            model.threads = threads
        else:
            model.compile(optimizer, head.loss, threads=threads)
        lbfgs = isinstance(optimizer, optimizers.LBFGS)
        size = len(X) if lbfgs else min(MOST_ROWS if self.batch_size == "auto" else self.batch_size, len(X))
        for layer in model.layers:
            if isinstance(layer, Dense):
                layer.kernel_regularizer = L2(self.alpha / 2 / (size * mean)) if self.alpha else None

        scores: list[float] = []

        def judge(logs: dict[str, float]) -> float:
            if held_out is None:
                return -logs["loss"]
            scores.append(self._score(held_out[1], model.predict(held_out[0], verbose=0), held_out[2]))
            return scores[-1] if numeric else -logs["val_loss"]

        stop = Stop(judge, self.tol, self.n_iter_no_change, keep=held_out is not None)
        history = model.fit(
            X,
            t,
            batch_size=size,
            epochs=1 if once else self.max_iter,
            verbose=settings["verbose"],
            callbacks=[] if once or (lbfgs and held_out is None) else [stop],
            validation_data=held_out,
            shuffle=self.shuffle,
            sample_weight=weights,
            tolerance=self.tol if lbfgs else None,
        )
        self.n_iter_, self.loss_ = history.epochs, history["loss"][-1]
        self.loss_curve_ = self.loss_curve_ + history["loss"]
        self.best_loss_ = None if scores else min(self.loss_curve_)
        self.validation_scores_ = scores or None
        self.best_validation_score_ = scores[stop.best_epoch] if scores else None
        return self.n_iter_ < self.max_iter or once or stop.stopped

    def _checked(self, goes_on: bool, once: bool) -> tuple[optimizers.Optimizer, dict[str, Any]]:
        """The optimizer that the settings ask for, and what they mean; or an error about one of them."""
        settings = {name: check(name, getattr(self, name)) for name, check in CHECKS.items()}
        for name in BUILT_FROM if goes_on else ():
            before, now = self._built_from[name], settings[name]
            if now != before:
                raise ValueError(
                    f"{name} is {shown(now)}, but the network to go on with has {shown(before)}; expected the same"
                )
        rate, solver = self.learning_rate_init, self.solver
        optimizer = copy.deepcopy(optimizers.get("solver", solver))  # whose rate may be changed, or its schedule begun
        lbfgs = isinstance(optimizer, optimizers.LBFGS)
        if isinstance(solver, str) and isinstance(optimizer, optimizers.SGD):
            optimizer = optimizers.SGD(rate, momentum=0.9, nesterov=True)
        elif isinstance(solver, str) and not lbfgs:
            optimizer.learning_rate = rate
        elif rate != RATE:
            raise ValueError(f"learning_rate_init is {rate:g}, which {shown(solver)} does not look at; expected none")
        for name, other in (("batch_size", "auto"), ("dropout", 0)) if lbfgs else ():
            if getattr(self, name) != other:
                raise ValueError(f"{name} is {getattr(self, name)}, but the solver is L-BFGS; expected {other!r}")
        if once and self.early_stopping:
            raise ValueError("early_stopping is True, for which partial_fit is no training; expected fit")
        return optimizer, settings

    def _built(self, inputs: int, random: np.random.RandomState) -> Model:
        """A new network, with initial weights as scikit-learn draws them (Glorot & Bengio 2010), the biases', too."""
        sizes, between = self._built_from["hidden_layer_sizes"], self._built_from["activation"]
        spread = 2 if between == "sigmoid" else 6
        layers: list[Layer] = [Input(inputs)]
        for units, activation in [*((units, between) for units in sizes), self._head[:2]]:
            if self.dropout and len(layers) > 1:
                layers.append(Dropout(self.dropout))
            limit = float(np.sqrt(spread / (inputs + units)))
            drawn = Uniform(-limit, limit)
            layers.append(Dense(units, activation, kernel_initializer=drawn, bias_initializer=drawn))
            inputs = units
        return Model(layers, seed=int(random.randint(2**31 - 1)), dtype=self.dtype)

    def _split(self, X: Any, t: Any, weights: Any, random: Any) -> tuple[Any, Any]:
        """(X, t, weights) to train on, and those that ``early_stopping`` holds out, or None."""
        if not self.early_stopping:
            return (X, t, weights), None
        stratify = t if isinstance(self, ClassifierMixin) and t.ndim == 1 else None
        parts = train_test_split(
            np.arange(len(X)), test_size=self.validation_fraction, stratify=stratify, random_state=random
        )
        if len(parts[1]) < 2:
            raise ValueError(
                f"validation_fraction is {self.validation_fraction:g}, which holds out {len(parts[1])} of {len(X)} "
                "rows; expected at least 2"
            )
        given, held_out = ((X[rows], t[rows], None if weights is None else weights[rows]) for rows in parts)
        return given, held_out

    def _targets(self, y: np.ndarray, goes_on: bool, classes: Any) -> tuple[np.ndarray, Head]:
        """y as the network takes it, and what it ends with."""
        raise NotImplementedError

    def _score(self, t: np.ndarray, outputs: np.ndarray, weights: np.ndarray | None) -> float:
        """That of the rows held out."""
        raise NotImplementedError

    def _outputs(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """The network's outputs for X, and X as an array of numbers, of the type in which it came if that is one."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        outputs = self.model_.predict(X, verbose=0)
        if not np.isfinite(outputs).all():
            raise FloatingPointError(f"the outputs of the network are not finite in {self.dtype}; expected a smaller X")
        return outputs, X

    def _may_pass(self) -> bool:
        """Whether there is a partial_fit: scikit-learn asks by an AttributeError."""
        if isinstance(self.solver, optimizers.LBFGS) or str(self.solver).lower() == "lbfgs":
            raise AttributeError("the solver is L-BFGS, for which a pass over the rows is no training; expected fit")
        return True

    @property
    def n_layers_(self) -> int:
        """Hidden layers, and two: what comes in, and what goes out."""
        return len(self.coefs_) + 1

    @property
    def n_outputs_(self) -> int:
        """The network's outputs, one for two classes."""
        return self.model_.outputs

    @property
    def out_activation_(self) -> str:
        """The last activation, by scikit-learn's name."""
        return {"linear": "identity", "sigmoid": "logistic"}.get(self._head.activation, self._head.activation)

    @property
    def coefs_(self) -> list[np.ndarray]:
        """The weights of each layer, (inputs, units)."""
        return [layer.W for layer in self.model_.layers if isinstance(layer, Dense)]

    @property
    def intercepts_(self) -> list[np.ndarray]:
        """The biases of each layer, (units,)."""
        return [layer.b for layer in self.model_.layers if isinstance(layer, Dense)]


class MLPClassifier(ClassifierMixin, MLP):  # type: ignore[misc]
    """A network that tells classes, or several labels a row.

    A step makes the same sum smaller as in scikit-learn, over the rows of a batch: Σ loss · weight / m / rows +
    alpha / 2 · Σ w² / (m · rows). The loss is the cross-entropy, added up over labels; m is the mean weight of all rows
    given, and w are all weights but the biases. The initial ones are drawn as there (Glorot & Bengio 2010).

    hidden_layer_sizes : units of the hidden layers; activation : theirs, whatever ``Dense`` takes; solver : "adam",
    "sgd" (Nesterov's momentum, 0.9), "lbfgs" or another name, or an object such as ``fn.SGD(fn.CosineDecay(0.1))``;
    alpha : of the penalty; batch_size : of "auto", 200, or all rows if they are fewer; learning_rate_init : of a solver
    by name; max_iter : epochs at most; shuffle : whether each epoch has its own order of the rows; random_state : of
    initial weights, order, dropout and the rows held out; tol, n_iter_no_change : the fit ends after more than so many
    epochs in a row that were not better by ``tol`` than the best before, L-BFGS where the gradient's norm is at most
    ``tol``; verbose : as in ``Model.fit``; warm_start : whether ``fit`` goes on with the weights of the last one;
    early_stopping : whether to judge epochs by rows held out, drawn from each class, and to end with the weights of the
    best one; validation_fraction : the share of such rows; dropout : the share of units that each hidden layer drops in
    training; dtype : "float32" or "float64"; threads : by default one where joblib runs several fits at once, else as
    many as pay for themselves.

    Two classes have one sigmoid unit, more have a softmax; several labels, columns of 0 and 1, a sigmoid unit each.
    Epochs are judged by the cross-entropy of the rows held out; ``validation_scores_`` are the shares of right ones.
    ``model_`` is the ``Model``; ``classes_``, ``coefs_``, ``intercepts_``, ``loss_``, ``loss_curve_``, ``n_iter_``
    (epochs of the last fit), ``validation_scores_`` and ``best_validation_score_`` are as in scikit-learn.

    >>> from fastnn.estimators import MLPClassifier
    >>> X, y = fn.datasets.moons(200, seed=0)
    >>> network = MLPClassifier((16,), "tanh", solver="lbfgs", alpha=0.01, tol=0.001, random_state=0)
    >>> names = np.array(["lower", "upper"])[y]
    >>> bool(network.fit(X, names).score(X, names) > 0.95)
    True
    """

    @available_if(MLP._may_pass)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train for one pass over the rows; returns the estimator.

        X, y, sample_weight : as in ``fit``, which also says what is raised; classes : all that later calls may have, by
        default those of the first y.
        """
        return self._train_or_leave(X, y, sample_weight, hasattr(self, "model_"), once=True, classes=classes)

    def _targets(self, y: Any, goes_on: bool, classes: Any) -> tuple[np.ndarray, Head]:
        check_classification_targets(y)
        kind = type_of_target(y, input_name="y")
        if kind == "multiclass-multioutput":
            raise ValueError("y has several columns of classes; expected one, or labels of 0 and 1 in each")
        several = kind == "multilabel-indicator"
        y = y.toarray() if hasattr(y, "toarray") else np.asarray(y)
        found = np.arange(y.shape[1]) if several else np.unique(y)
        known = found if classes is None else np.unique(classes)
        if not goes_on:
            if len(known) < 2:
                where = "y" if classes is None else "classes"
                which = f"one class, {known[0]}" if len(known) else "no class"
                raise ValueError(f"{where} has {which}; expected two or more")
            self.classes_ = known
        elif classes is not None and not np.array_equal(known, self.classes_):
            raise ValueError(f"classes is {shown(known.tolist())}; expected {shown(self.classes_.tolist())}, as before")
        unknown = np.setdiff1d(found, self.classes_)
        if len(unknown):
            all_known = shown(self.classes_.tolist())
            raise ValueError(f"y has {shown(unknown.tolist()[0])}, which is no class of before; expected {all_known}")
        count = len(self.classes_)
        if several:
            return y, Head(count, "sigmoid", "binary_cross_entropy", count)
        head = (
            Head(count, "softmax", "cross_entropy", 1) if count > 2 else Head(1, "sigmoid", "binary_cross_entropy", 1)
        )
        return np.searchsorted(self.classes_, y), head

    def _said(self, outputs: np.ndarray) -> np.ndarray:
        """The label of each row, from 0, or where there are several, 0 or 1 for each."""
        if self._head.activation == "softmax":
            largest: np.ndarray = outputs.argmax(axis=1)
            return largest
        above = (outputs > 0.5).astype(np.int64)
        return above[:, 0] if self._head.outputs == 1 else above

    def _score(self, t: np.ndarray, outputs: np.ndarray, weights: np.ndarray | None) -> float:
        right = (self._said(outputs) == t).reshape(len(t), -1).all(axis=1)
        return float(np.average(right, weights=weights))

    def predict(self, X: Any) -> np.ndarray:
        """The class of each row, (rows,), or its labels, (rows, labels) of 0 and 1."""
        said = self._said(self._outputs(X)[0])
        found: np.ndarray = said if said.ndim > 1 else self.classes_[said]
        return found

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probabilities of the classes, or of each label: (rows, classes), in the order of ``classes_``."""
        outputs, X = self._outputs(X)
        if self._head.outputs > 1:
            return outputs
        others, sure = 1 - outputs, outputs[:, 0] > SURE
        if sure.any():  # there 1 - p keeps few digits: p is 1 / (1 + exp(-z)), and 1 - p is 1 / (1 + exp(z))
            *_, before, last = self.model_.layers
            z = self.model_.activations(X[sure])[before.name] @ last.parameters["W"] + last.parameters["b"]
            others[sure] = np.exp(-np.logaddexp(0, z.astype(np.float64)))
        return np.hstack([others, outputs])

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """The logarithms of ``predict_proba``."""
        with np.errstate(divide="ignore"):
            logarithms: np.ndarray = np.log(self.predict_proba(X))
        return logarithms

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class MLPRegressor(RegressorMixin, MLP):  # type: ignore[misc]
    """A network that predicts numbers, one a row or several; its loss is half the squared error, added up over them.

    Settings, attributes and what is made smaller are those of ``MLPClassifier``; rows held out judge by their R².

    >>> from fastnn.estimators import MLPRegressor
    >>> X = np.linspace(-1, 1, 100)[:, None]
    >>> network = MLPRegressor((16,), "tanh", solver="lbfgs", tol=0.01, random_state=0)
    >>> network.fit(X, np.sin(3 * X[:, 0])).predict(X).shape
    (100,)
    """

    @available_if(MLP._may_pass)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for one pass over the rows, as a part of a longer training; returns the estimator.

        X, y, sample_weight : as in ``fit``, which also says what is raised.
        """
        return self._train_or_leave(X, y, sample_weight, hasattr(self, "model_"), once=True)

    def _targets(self, y: Any, goes_on: bool, classes: Any) -> tuple[np.ndarray, Head]:
        outputs = 1 if y.ndim == 1 else y.shape[1]
        return y, Head(outputs, "linear", "mse", outputs / 2)

    def _score(self, t: np.ndarray, outputs: np.ndarray, weights: np.ndarray | None) -> float:
        return float(r2_score(t, outputs, sample_weight=weights))

    def predict(self, X: Any) -> np.ndarray:
        """The numbers for each row, (rows,), or (rows, outputs) where y had several columns; float32 where X is."""
        outputs, X = self._outputs(X)
        return (outputs[:, 0] if self._head.outputs == 1 else outputs).astype(X.dtype, copy=False)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
