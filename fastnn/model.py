"""Model: a chain of layers that can be trained, evaluated, asked, copied and pickled."""

from __future__ import annotations

import contextlib
import copy
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from . import chain, checks, data, dispatch, evaluation, examples, files, lbfgs, losses, optimizers, summary
from .checks import choice, flag, number, shown, warn, whole_number
from .elsewhere import instead_in_model
from .epochs import Callbacks, EndOfEpoch, run_fit
from .gradient_check import GradientReport, check_gradients
from .history import History
from .inference import CompiledPredict
from .interrupt import DeferredInterrupt
from .keywords import ExplainsWrongCalls, explains_wrong_calls, hides_others, refuse
from .layers import Dense, Dropout, Input, Layer
from .metrics import Metric
from .metrics import get as get_metrics
from .plan import Plan, lower, rounded
from .progress import Progress, check_verbose
from .settings import Checked, changes, of_fastnn
from .training import Trainer, logs
from .workers import WorkerChoice, asked_for, check_threads

__all__ = ["Model", "load"]

#: Rows, times outputs, of which ``Model.jacobian`` keeps all activations at once.
JACOBIAN_ROWS = 1024

#: Seconds between two looks at whether another thread, which has the model, is in the middle of a fit.
LOOK_SECONDS = 0.01

#: The attributes of a model that belong to its place in memory, or to what it is doing: each copy has its own.
MADE_ANEW = ("arenas", "_runners", "_known", "_quick", "_trainers", "_choices", "_lock", "_busy")

#: The attributes of a model that may be changed, with what checks them.
CHANGEABLE: dict[str, Callable[[str, Any], Any]] = {
    "name": checks.name,
    "threads": check_threads,
    "step": partial(whole_number, least=0, most=checks.MOST_STEPS),
    "epoch": partial(whole_number, least=0, most=checks.MOST_STEPS),
    "stop_training": checks.flag,
}


class Model(ExplainsWrongCalls):
    """A chain of layers.

    >>> X, y = fn.datasets.digits()
    >>> layers = [fn.Input(64), fn.Dense(32, "relu"), fn.Dense(10, "softmax")]
    >>> model = fn.Model(layers, seed=0)
    >>> model.compile(fn.Adam(1e-3), loss="cross_entropy", metrics=["accuracy"])
    >>> history = model.fit(X, y, epochs=20, validation_split=0.1, verbose=0)
    >>> model.predict(X).shape, model.evaluate(X, y, verbose=0)["accuracy"] > 0.95
    ((1797, 10), True)

    layers : an Input, then Dense, Activation and Dropout layers; seed : of the initial weights, the shuffling
    and the dropout, by default a new one for each model (``model.seed`` tells it); dtype : "float32" or
    "float64", or such a type of NumPy's; name : shown in summaries.

    Equal seed, data and settings give the same bits, for any number of threads.

    Raises a ValueError or TypeError that names the argument, or the layer that does not fit.
    """

    def __init__(
        self,
        layers: Iterable[Layer],
        *,
        seed: int | None = None,
        dtype: str | type[np.generic] | np.dtype[Any] = "float32",
        name: str | None = None,
    ):
        self._seed = secrets.randbits(62) if seed is None else whole_number("seed", seed, 0, 2**63 - 1)
        self._dtype = checks.dtype("dtype", dtype)
        self.name = checks.name_or_none("name", name) or "model"
        self._layers = chain.build(layers, self._seed, self._dtype)
        self._optimizer: optimizers.Optimizer | None = None
        self._loss: losses.Loss | None = None
        self._metrics: tuple[Metric, ...] = ()
        self.threads: int | None = None
        self._device: str | None = None
        self._precision = "float32"
        #: Batches and epochs trained on since the model was compiled.
        self.step = self.epoch = 0
        #: A callback, or another thread, may set this to end the fit after the epoch.
        self.stop_training = False
        self.history = History()
        self._slots: list[np.ndarray] = []
        self._columns: list[str] | None = None
        self._set_up()

    def _set_up(self) -> None:
        """Give all layers one arena for their parameters, and start without a prepared plan."""
        from .kernels.memory import aligned_zeros

        plan = self._lower()
        self.arenas = SimpleNamespace(
            parameters=aligned_zeros(plan.length, self._dtype),
            gradients=aligned_zeros(plan.length, self._dtype),
            slots=self._slots,
        )
        memory = self.named_parameters(self.arenas.parameters)
        for layer in self.layers:
            for key in layer.parameters:
                layer.share_memory(key, memory[f"{layer.name}.{key}"])
        self._compiled = plan.compiled  # whether no layer is written in Python
        self._forget_runners()
        self._choices: dict[tuple[int | None, int], WorkerChoice] = {}
        self._lock = threading.RLock()
        self._busy = ""  # what the model is in the middle of

    # What the model is.

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers, from the Input on."""
        return self._layers

    @property
    def seed(self) -> int:
        """The seed of the initial weights, the shuffling and the dropout."""
        return self._seed

    @property
    def dtype(self) -> str:
        """The type of the parameters and of all computations."""
        return self._dtype

    @property
    def optimizer(self) -> optimizers.Optimizer:
        """What ``compile`` chose, with its state in the model: another one needs another ``compile``."""
        if self._optimizer is None:
            raise AttributeError("the model has no optimizer yet; call model.compile first")
        return self._optimizer

    @property
    def loss(self) -> losses.Loss | None:
        """What ``compile`` chose; None before."""
        return self._loss

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What ``compile`` chose."""
        return self._metrics

    @property
    def device(self) -> str:
        """Where the model runs."""
        return self._device or dispatch.choose_device()

    @property
    def inputs(self) -> int:
        """The number of columns of X."""
        return self.layers[0].units

    @property
    def outputs(self) -> int:
        """The number of columns of a prediction."""
        return self.layers[-1].units

    @property
    def columns(self) -> list[str] | None:
        """The names, as text, of the columns of the data frame that was first trained with, which later ones must have
        in the same order; None where that was an array, or its columns only counted, 0, 1, 2 ... Such are taken as they
        are.
        """
        return None if self._columns is None else list(self._columns)

    @property
    def plan(self) -> Plan:
        """The plan that the engine runs; ``print(model.plan)`` shows it as a table."""
        if self.loss is None:
            return self._on_device(self._lower())
        runner = self._runners.get("training")
        width = runner.plan.target_width if runner else self._expected_width(self.loss, self.metrics)
        return self._on_device(self._lower(self.loss, self._optimizer, self.metrics, width))

    def count_parameters(self) -> tuple[int, int]:
        """(all parameters, trainable parameters)."""
        counts = [(sum(a.size for a in layer.parameters.values()), layer.trainable) for layer in self.layers]
        return sum(count for count, _ in counts), sum(count for count, trainable in counts if trainable)

    def summary(self, batch_size: int = 32) -> None:
        """Print the layers with their shapes and parameters, and the memory and FLOPs of a training step.

        batch_size : rows of the step, with which the FLOPs grow, and the activations' memory up to where parts of them
        take turns in it.
        """
        print(summary.summary(self, whole_number("batch_size", batch_size)))

    def __repr__(self) -> str:
        widths = "-".join(str(layer.units) for layer in self.layers if isinstance(layer, (Input, Dense)))
        return f"<Model {self.name!r} {widths}, {self.count_parameters()[0]:,} parameters, {self._dtype}>"

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for method in ("forward", "call"):
            if method in vars(cls):
                raise TypeError(
                    f"{cls.__name__}.{method} would never be called: a model is its layers; expected an __init__ with "
                    "super().__init__([Input(64), Dense(10)]), and what is your own in a layer of your own"
                )

    if not TYPE_CHECKING:  # which else would take any name for known

        def __getattr__(self, name: str) -> Any:
            if hasattr(type(self), name):  # a property, which has raised an error of its own
                return object.__getattribute__(self, name)
            if "_layers" not in vars(self) and not name.startswith("__"):
                raise AttributeError(
                    f"__init__ of {type(self).__name__} did not call super().__init__(layers); expected it to"
                )
            raise AttributeError(f"a model has no {name!r}{instead_in_model(name, dir(self))}")

        def __setattr__(self, name: str, value: Any) -> None:
            if name in CHANGEABLE:
                value = CHANGEABLE[name](name, value)
            elif "_busy" in vars(self) and name not in vars(self) and not hasattr(type(self), name):
                hint = instead_in_model(name, [*dir(Model), *CHANGEABLE]) if type(self) is Model else ""
                if hint:  # it would change nothing; other names are the user's own
                    raise AttributeError(f"a model has no {name!r}{hint}")
            super().__setattr__(name, value)

    # Compile.

    @explains_wrong_calls
    def compile(
        self,
        optimizer: str | optimizers.Optimizer = "adam",
        loss: str | losses.Loss | None = None,
        metrics: Sequence[str | Metric | Callable[..., float]] | None = (),
        *,
        device: str = "auto",
        threads: int | None = None,
        precision: str = "float32",
    ) -> None:
        """Choose how to train; the optimizer starts anew, the weights stay.

        optimizer : "sgd", "adam", "adamw" ... or an object; loss : "cross_entropy", "binary_cross_entropy", "mse" ...
        or an object; metrics : names, such as ["accuracy"], objects, or functions f(y_true, y_pred); device :
        "auto", "cpu", "cuda" or "cuda:1"; threads : how many workers on the CPU, by default as many as pay for
        themselves (the result does not depend on it); precision : of the matrix products of a float32 model:
        "float32"; "tf32" or "bf16", which are faster, with 10 and 7 bits of the factors' fraction; or "3xtf32", which
        is as accurate as float32. All but the first need a GPU with tensor cores; "tf32" and "bf16" are also for
        training large layers on a CPU with a matrix unit (AMX), where "tf32" has 15 bits.

        Raises a ValueError or TypeError that names the argument, or says why loss and last layer do not fit together,
        before anything changes; a RuntimeError where the device cannot be had, and during a fit or a compile of the
        model.
        """
        from .kernels.memory import aligned_zeros

        optimizer = optimizers.get("optimizer", optimizer)
        if loss is None:
            raise TypeError('loss is missing; expected a loss such as "cross_entropy", "binary_cross_entropy" or "mse"')
        loss = losses.get("loss", loss)
        chosen = get_metrics("metrics", metrics)
        threads = check_threads("threads", threads)
        precision = checks.choice("precision", precision, dispatch.PRECISIONS, meant={"bfloat": "bf16"})
        plan = self._lower(loss, optimizer, (), self._expected_width(loss, chosen))
        device = dispatch.choose_device(device, plan)
        dispatch.check_plan(device, plan, precision)
        for metric in chosen:  # whether y holds labels or one-hot rows is not known before it comes
            metric.check(loss, self.layers[-1].activation_name, self.outputs, self.outputs)
        chain.check_parts(self.layers, self._dtype, optimizer=optimizer, loss=loss)
        with self._alone("compile"):
            self._optimizer, self._loss, self._metrics, self.threads = optimizer, loss, chosen, threads
            self._device, self._precision = device, precision
            self._slots = [aligned_zeros(plan.length, self._dtype) for _ in range(plan.slots)]
            for slot in self._slots:
                slot[:] = optimizer.slot_start
            self.arenas.slots = self._slots
            self.step = self.epoch = 0
            self._forget_runners()

    def to(self, device: str) -> Model:
        """Move to another device, in the middle of training too; returns the model.

        The weights, the optimizer's state, the step and the seed come along, so that training goes on as if it had
        stayed, to the rounding of float32; masks and shuffles are the same.

        device : as in ``compile``.

        Raises a ValueError for a device that is none, a TypeError for a GPU where a layer is written in Python, and a
        RuntimeError where the device cannot be had, and during a fit or a compile of the model.
        """
        plan = self.plan
        device = dispatch.choose_device(device, plan)
        dispatch.check_plan(device, plan, dispatch.precision_on(device, self._precision))
        with self._alone("to"):
            self._device = device
            self._forget_runners()
        return self

    @contextlib.contextmanager
    def _alone(self, action: str) -> Iterator[None]:
        """The model for one fit or compile alone: nothing else may begin one, not even a callback.

        What else another thread does with it, such as a prediction, is waited for.
        """
        while not self._lock.acquire(timeout=LOOK_SECONDS):
            busy = self._busy  # the other thread may come to its end meanwhile
            if busy:
                raise RuntimeError(
                    f"this model is in use in another thread, in the middle of {busy}; expected one at a time (or a "
                    "copy of the model)"
                )
        try:
            if self._busy:
                raise RuntimeError(
                    f"{action} came during {self._busy} of this model; expected it afterwards (or a copy of the model)"
                )
            state = vars(self)  # Ctrl-C may end __setattr__ before it has done its work, or after
            try:
                state["_busy"] = action
                yield
            finally:
                state["_busy"] = ""
        finally:
            self._lock.release()

    def _check_rate(self) -> None:
        """Raise a ValueError where the learning rate, which may be set between two steps, is too large for the type."""
        rate = self.optimizer.learning_rate
        if isinstance(rate, float):
            number(f"learning_rate of a {self._dtype} model", rate, least=0, most=float(np.finfo(self._dtype).max))

    # Train.

    @explains_wrong_calls
    def fit(
        self,
        X: Any,
        y: Any,
        batch_size: int = 32,
        epochs: int = 1,
        verbose: int | str = "auto",
        callbacks: Sequence[Any] | None = (),
        validation_split: float = 0.0,
        validation_data: Sequence[Any] | None = None,
        shuffle: bool = True,
        class_weight: dict[int, float] | str | None = None,
        sample_weight: Any = None,
        *,
        tolerance: float | None = None,
    ) -> History:
        """Train for ``epochs`` epochs; called again, it continues.

        X : (rows, inputs), an array, a data frame or what NumPy makes one of; y : targets as the loss wants them,
        (rows,) or (rows, outputs); batch_size : rows of a step, the last one of an epoch may have fewer; epochs :
        passes over all rows; verbose : "auto" shows a progress line in a terminal or a bar in a notebook, 1 does so,
        too, and prints a line each epoch where it is neither, 2 a line each epoch, 0 nothing; callbacks : objects with
        any of the methods of ``fastnn.callbacks.Callback``; validation_split : the share of rows, taken from the end
        before shuffling, to validate on; validation_data : or (X, y) or (X, y, sample_weight) to validate on, with
        labels or one-hot rows as in y; shuffle : whether each epoch has its own order of the rows; class_weight :
        {label: weight}, or "balanced": rows / (classes · rows of the class); sample_weight : (rows,), the loss of a
        batch is Σ weight · loss / rows; metrics count all rows alike; tolerance : stop when the Euclidean norm of the
        gradient of the loss and its penalties is at most this, in full-batch descent (a batch_size of at least all
        rows).

        Returns a History: ``history["loss"]``, ``history["val_accuracy"]`` ...

        Raises a ValueError or TypeError that names the argument before any work is done, a RuntimeError before
        ``compile`` and during another fit or a compile of the model, and a FloatingPointError if the loss or a weight
        stops being finite: the model keeps the weights of before that step.
        """
        examples.compiled_loss(self, "fit")
        self._check_rate()
        batch_size, epochs = whole_number("batch_size", batch_size), whole_number("epochs", epochs)
        verbose, shuffle = check_verbose(verbose), flag("shuffle", shuffle)
        watchers = Callbacks(callbacks)
        given = examples.checked(self, "fit", X, y, sample_weight)
        examples.look_at_scale(self, given)
        columns = self._columns or data.column_names(X)
        training, validation = examples.with_validation(self, given, validation_split, validation_data, columns)
        examples.weigh_classes(self, training, class_weight)
        train = run_fit
        if isinstance(self.optimizer, optimizers.LBFGS):
            lbfgs.check(self)
            train = lbfgs.minimize
            batch_size, shuffle = len(training), False
        if tolerance is not None:
            tolerance = number("tolerance", tolerance, least=0)
            if batch_size < len(training):
                raise ValueError(
                    f"tolerance is {tolerance:g}, but batch_size is {batch_size}: the gradient of a part of the rows "
                    f"does not vanish; expected a batch_size of at least all {len(training)} rows, or no tolerance"
                )
        reported = ["loss", *(metric.name for metric in self.metrics)]
        watchers.check([*reported, *(f"val_{name}" for name in reported if validation is not None)])
        with self._alone("fit"), watchers, Progress(self.name, verbose) as progress, DeferredInterrupt() as interrupt:
            runner = self._training_runner(training.t.width)
            self.history, self.stop_training, self._columns = History(), False, columns
            self._trainers.clear()
            watchers.notify("set_model", self)
            watchers.notify("on_train_begin")
            validate = None
            if validation is not None:
                validate = partial(evaluation.evaluate, self, runner, validation, interrupt, "validation_data")
            with Trainer(self, runner, training, batch_size, epochs, shuffle, tolerance) as trainer:
                interrupt.hold()
                train(trainer, EndOfEpoch(trainer, watchers, validate, progress, interrupt))
            watchers.notify("on_train_end")
        return self.history

    @explains_wrong_calls
    def train_on_batch(
        self, X: Any, y: Any, sample_weight: Any = None, class_weight: dict[int, float] | str | None = None
    ) -> dict[str, float]:
        """One step on all rows of X as one batch; returns the loss and the metrics of before it.

        From the third call in a row with as many rows on, arrays of NumPy's take a short way: some ten microseconds
        beside the step, where ``fit`` needs none. Calls with weights of rows, lists or frames, and those after another
        setting of a layer, the loss or the optimizer (but its ``learning_rate``) take a longer one, as do models with
        parts of the user's own, with metrics that look at whole epochs, or on a GPU. The numbers are the same.

        X, y, sample_weight, class_weight : as in ``fit``, which also says what is raised; and a ValueError where the
        learning rate's schedule leaves its length to ``fit``.
        """
        if type(X) is type(y) is np.ndarray and sample_weight is None and class_weight is None:
            with self._lock:
                found = self._train_again(X, y)
                if found is not None:
                    return found
        examples.compiled_loss(self, "train_on_batch")
        self._check_rate()
        if isinstance(self.optimizer, optimizers.LBFGS):
            raise ValueError("the optimizer is LBFGS, which trains on all rows for many steps; expected fit")
        rate = self.optimizer.learning_rate
        if not isinstance(rate, float) and rate.resolved(1) is not rate:  # it would begin anew with each step
            raise ValueError(
                f"the learning rate is {rate!r}, which leaves its length to fit, and train_on_batch is one step; "
                "expected a schedule with a number of steps of its own"
            )
        batch = examples.checked(self, "train_on_batch", X, y, sample_weight)
        examples.weigh_classes(self, batch, class_weight)
        with self._lock:
            runner = self._training_runner(batch.t.width)
            if self._columns is None and (names := data.column_names(X)) is not None:
                self._columns = names
            trainer = self._trainers.pop() if self._trainers else None
            again = trainer is not None and trainer.runner is runner and trainer.rows == len(batch)
            if trainer is not None and again:
                trainer.begin(self, batch)
            else:
                trainer = Trainer(self, runner, batch, len(batch), 1, shuffle=False)
            with trainer:
                found = logs(trainer.curves(0, trainer.only_batch()[None]))
                if again:  # and so perhaps once more
                    trainer.prepare_again()
            self._trainers.append(trainer)  # a step that something has ended does not come here
            return found

    def _train_again(self, X: np.ndarray, y: np.ndarray) -> dict[str, float] | None:
        """``train_on_batch`` where it was called before, with as many rows, and nothing else has changed since; None
        where a closer look is needed.
        """
        trainer, known = self._trainers[-1] if self._trainers else None, self._known.get("training")
        if trainer is None or known != ((changes.last, trainer.runner.plan.target_width), trainer.runner):
            return None
        if trainer.threads != self.threads:
            return None
        self._trainers.pop()  # it does one step at a time, and none after one that something has ended
        results = trainer.again(self, X, y)
        self._trainers.append(trainer)
        if results is None:
            return None
        found = {"loss": results[0]}
        for metric, mean in zip(self._metrics, results[1:], strict=True):
            found[metric.name] = metric.finish(mean)
        return found

    # Ask.

    @explains_wrong_calls
    def evaluate(self, X: Any, y: Any, verbose: int | str = "auto", sample_weight: Any = None) -> dict[str, float]:
        """The loss and the metrics on X and y, without dropout: {"loss": ..., "accuracy": ...}.

        X, y, verbose, sample_weight : as in ``fit``. Penalties are part of the loss.

        Raises a ValueError or TypeError that names the argument, a RuntimeError before ``compile``, and a
        FloatingPointError if the loss is not finite.
        """
        check_verbose(verbose)
        given = examples.checked(self, "evaluate", X, y, sample_weight)
        with self._lock, Progress("evaluate", verbose) as progress:
            return evaluation.evaluate(self, self._training_runner(given.t.width), given, None, "evaluate", progress)

    @overload
    def predict(self, X: Any, verbose: int | str = "auto", *, output: Literal["host"] = "host") -> np.ndarray: ...

    @overload
    def predict(self, X: Any, verbose: int | str = "auto", *, output: str) -> Any: ...

    @hides_others
    def predict(self, X: Any, verbose: int | str = "auto", *, output: str = "host", **others: Any) -> Any:
        """The outputs for the rows of X, without dropout: an array of shape (rows, outputs).

        output : "host" for a NumPy array, "device" for one on the model's GPU, as ``numba.cuda`` has them, which CuPy,
        PyTorch and JAX take without a copy.

        X : (rows, inputs). For a few rows at a time, again and again, ``compiled_predict`` is quicker still.

        Raises a ValueError or TypeError for an X of another width, or with a number that is not finite. Needs no
        ``compile``. Outputs are not looked at, which could take a tenth of the time: where X or weights are so large
        that sums in the network overflow, they are infinite or NaN, and ``activations`` names the layer.
        """
        if others:
            refuse(Model.predict, others)
        check_verbose(verbose)
        host = choice("output", output, ("host", "device")) == "host"
        if host and verbose in ("auto", 0) and type(X) is np.ndarray and X.ndim == 2:
            with self._lock:
                quick = self._quick_predict()
                found = None if quick is None else quick.few(X)
                if found is not None:
                    return found
        x = examples.inputs(self, "X", X, look=False)
        make = np.empty if host else partial(dispatch.device_empty, self.device)
        outputs = make((len(x), self.outputs), self._dtype)
        with self._lock, Progress("predict", verbose) as progress:
            runner = self._prediction_runner()
            plan = runner.plan
            looks = x.direct and plan.compiled and plan.device == "cpu"  # while a block is in the cache, on all cores
            if not looks:
                x.check_finite(data.MISSING)
            evaluation.infer(self, runner, x, outputs, progress=progress, look=looks)
        return outputs

    def compiled_predict(self) -> CompiledPredict:
        """A function ``predict(X)`` with as little as possible around the compiled forward pass, for a few rows at a
        time: X is a C-contiguous array of the model's type. Its ``state`` serves functions compiled by Numba; see
        ``fastnn.inference``.

        Raises TypeError for a model with a layer written in Python.
        """
        with self._lock:
            if not self._compiled:
                raise TypeError("the model has a layer written in Python; expected layers that are compiled")
            runner = self._prediction_runner()
            if runner.plan.device != "cpu":
                runner = dispatch.prepare("cpu", self._lower(), self.arenas)  # a GPU's precision may be none of a CPU's
            return CompiledPredict(runner, self.inputs, self.outputs)

    def activations(self, X: Any) -> dict[str, np.ndarray]:
        """Each layer's output for the rows of X, without dropout: {name: (rows, units)}.

        Raises a ValueError or TypeError for an X that does not fit, as ``predict``, and a ValueError that names the
        layer whose output is not finite and goes into another one.

        >>> model = fn.Model([fn.Input(2), fn.Dense(3, "relu"), fn.Dense(1)])
        >>> {name: h.shape for name, h in model.activations([[1, 2]]).items()}
        {'input': (1, 2), 'dense_1': (1, 3), 'dense_2': (1, 1)}
        """
        data.check_columns("X", X, self._columns)
        x = data.inputs("X", X, self.inputs, self._dtype).take(slice(None))
        found: dict[str, np.ndarray] = {}
        with self._lock:
            for layer in self.layers:
                if of_fastnn(type(layer)) and not np.isfinite(x).all():
                    raise ValueError(
                        f"the output of layer {list(found)[-1]!r} has NaN or infinite numbers, which {layer.name!r} "
                        "cannot take; expected smaller weights or a smaller X"
                    )
                y = np.asarray(layer.forward(x))
                layer.forget()
                found[layer.name] = x = y.copy() if np.may_share_memory(x, y) else y
        return found

    def jacobian(self, X: Any) -> np.ndarray:
        """The derivatives of the outputs by the inputs, without dropout: J[r, k, i] = ∂y[r, k] / ∂X[r, i].

        X : (rows, inputs); J : (rows, outputs, inputs), of the model's type. It is found by backpropagation, exact but
        for rounding, on one core; where an activation has a kink it is the slope that training takes.

        Raises a ValueError or TypeError for an X that does not fit, as ``predict``. Needs no ``compile``.

        >>> model = fn.Model([fn.Input(2), fn.Dense(1, "softplus")])
        >>> model.set_weights([[[2], [4]], [0]])
        >>> model.jacobian([[0, 0]])  # the slope of softplus at 0 is 1/2
        array([[[1., 2.]]], dtype=float32)
        """
        from .slow_path import SlowPath

        data.check_columns("X", X, self._columns)
        x = data.inputs("X", X, self.inputs, self._dtype)
        found = np.empty((len(x), self.outputs, self.inputs), self._dtype)
        with self._lock:
            if "jacobian" not in self._runners:
                self._runners["jacobian"] = SlowPath(self._lower(), self.arenas)
            path = self._runners["jacobian"]
            block = max(1, JACOBIAN_ROWS // self.outputs)
            for start in range(0, len(x), block):
                part = slice(start, start + block)
                found[part] = path.jacobian(x.take(part))
        return found

    def gradients(self, X: Any, y: Any, sample_weight: Any = None) -> dict[str, np.ndarray]:
        """The gradient of the loss on X and y (one batch, without dropout) for each trainable parameter.

        Keys are "layer.W" and "layer.b"; penalties are included (for L1 the sign of the weight, 0 at 0).

        X, y, sample_weight : as in ``fit``, which also says what is raised.
        """
        batch = examples.checked(self, "gradients", X, y, sample_weight)
        layers = [layer for layer in self.layers if not isinstance(layer, Dropout)]
        with self._lock:
            lower = partial(self._lower, self.loss, None, (), batch.t.width, layers=layers)
            runner = self._runner_for("gradients", batch.t.width, lower)
            plan = runner.plan
            if not plan.compiled:
                runner.training = False
            with Trainer(self, runner, batch, len(batch), 1, shuffle=False) as trainer:
                trainer.whole_batch("gradients: the outputs of the model are not finite or too large")
            found = {}
            for parameter in plan.parameters:
                place = slice(parameter.offset, parameter.offset + parameter.size)
                gradient = self.arenas.gradients[place].reshape(parameter.shape).copy()
                if parameter.penalty >= 0:
                    weights = self.arenas.parameters[place].reshape(parameter.shape)
                    l1, l2 = plan.options[parameter.penalty : parameter.penalty + 2]
                    with np.errstate(over="ignore", under="ignore"):
                        gradient += (l1 * np.sign(weights) + 2 * l2 * weights).astype(self._dtype)
                if not np.isfinite(gradient).all():
                    penalty = " with its penalty" if parameter.penalty >= 0 else ""
                    raise FloatingPointError(
                        f"the gradient of {parameter.name} is too large for {self._dtype}{penalty}; "
                        "expected smaller weights, a smaller penalty or standardized inputs"
                    )
                found[parameter.name] = gradient
        return found

    def check_gradients(
        self, X: Any, y: Any, *, epsilon: float = 1e-5, tolerance: float = 1e-5, entries: int = 50
    ) -> GradientReport:
        """Compare backpropagation with central differences of the loss; ``print`` the report, or ask ``if report:``.

        All is computed with 64-bit numbers on a copy of the model, without dropout; some dozen rows are enough.

        epsilon : how far an entry is moved each way, times its size where that is above 1; tolerance : the largest
        relative error that passes; entries : how many entries of a parameter are compared at most, drawn with the
        model's seed; where there are more, all are moved together, besides, in a random direction.

        Where a gradient is wrong, each layer, activation, penalty and loss is looked at alone, and the report names
        the one that is wrong. An entry at which the loss has a kink is left out, and counted.

        Raises a ValueError or TypeError that names the argument, and a RuntimeError before ``compile``.
        """
        examples.compiled_loss(self, "check_gradients")
        epsilon = number("epsilon", epsilon, above=0, most=0.1)
        tolerance = number("tolerance", tolerance, above=0, below=1)
        entries = whole_number("entries", entries)
        twin = self.copy()
        twin._dtype, twin._device, twin._precision, twin._metrics = "float64", "cpu", "float32", ()
        for layer in twin.layers:
            layer.dtype = "float64"
        twin._set_up()
        if isinstance(twin.loss, losses.LossFunction):
            twin._loss = twin.loss.trusted()
        return check_gradients(twin, X, y, epsilon, tolerance, entries)

    # Weights.

    def get_weights(self) -> list[np.ndarray]:
        """Copies of all parameters, layer by layer, W before b.

        >>> model = fn.Model([fn.Input(2), fn.Dense(3, "relu"), fn.Dense(1)])
        >>> [array.shape for array in model.get_weights()]
        [(2, 3), (3,), (3, 1), (1,)]
        """
        with self._lock:
            return [array.copy() for layer in self.layers for array in layer.parameters.values()]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set all parameters, in the order of ``get_weights``; on an error nothing has changed.

        Raises a ValueError or TypeError for another number of arrays, another shape, or a number that is not finite.
        """
        targets = [(layer, key) for layer in self.layers for key in layer.parameters]
        if not isinstance(weights, Iterable) or isinstance(weights, (str, Mapping)):
            hint = ": list(weights.values())" if isinstance(weights, Mapping) else ""
            raise TypeError(f"weights is {shown(weights)}; expected a list of arrays, as get_weights returns{hint}")
        weights = list(weights)
        if len(weights) != len(targets):
            raise ValueError(f"weights has {len(weights)} arrays; expected {len(targets)}, as get_weights returns")
        before = self.get_weights()
        with self._lock:
            try:
                for (layer, key), value in zip(targets, weights, strict=True):
                    layer.assign(key, value)
            except Exception:
                for (layer, key), value in zip(targets, before, strict=True):
                    layer.assign(key, value)
                raise

    def named_parameters(self, arena: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """All parameters by name, "layer.W": the arrays themselves, or their places in another flat arena."""
        found, place = {}, 0
        for layer in self.layers:
            for key, array in layer.parameters.items():
                part = array if arena is None else arena[place : place + array.size].reshape(array.shape)
                found[f"{layer.name}.{key}"] = part
                place += rounded(array.size)
        return found

    # Files.

    def save(self, path: files.Place) -> None:
        """Write the model to a safetensors file, for ``fn.load``: layers, weights, optimizer and its state, loss,
        metrics, seed and step. See ``fastnn.files``.

        path : ends in .safetensors, or in nothing; or a file opened in binary mode, such as ``io.BytesIO()``, which is
        written from where it stands.

        Raises an OSError where the file cannot be written, a ValueError for the ending of another format, and a
        TypeError where a part of your own cannot be described.

        >>> import os, tempfile
        >>> model = fn.Model([fn.Input(2), fn.Dense(1)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "model.safetensors")
        ...     model.save(path)
        ...     again = fn.load(path)
        >>> np.array_equal(again.layers[1].W, model.layers[1].W)
        True
        """
        with self._lock:
            files.save(self, path)

    def save_weights(self, path: files.Place) -> None:
        """Write the weights alone, for ``load_weights``; path and errors as in ``save``."""
        with self._lock:
            files.save_weights(self, path)

    def load_weights(self, path: files.Place) -> None:
        """Set the weights to those of a file of equal layers; on an error nothing has changed.

        Raises a ModelFileError for a file that is damaged or does not fit, an OSError where it cannot be read.
        """
        with self._lock:
            files.load_weights(self, path)

    # Copies. A prepared plan holds addresses, which mean nothing elsewhere: it is made anew.

    def _state(self, memo: dict[int, Any], *copied: str) -> dict[str, Any]:
        """The attributes of a copy, with copies of those of the names ``copied``, or, if there are none, of all."""
        with self._lock:  # not in the middle of a step of another thread, which may go on before all is written
            state = {key: value for key, value in vars(self).items() if key not in MADE_ANEW}
            return state | copy.deepcopy({key: state[key] for key in copied or state}, memo)

    def __getstate__(self) -> dict[str, Any]:
        return self._state({}, "_layers", "_slots", "history")  # what training changes

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._slots = [np.array(slot) for slot in self._slots]  # joblib gives large arrays as memory that is only read
        self._set_up()

    def __deepcopy__(self, memo: dict[int, Any]) -> Model:
        twin = memo[id(self)] = object.__new__(type(self))
        twin.__setstate__(self._state(memo))
        return twin

    def copy(self) -> Model:
        """An independent copy: weights, optimizer state, step and seed; ``copy.copy`` gives the same."""
        return copy.deepcopy(self)

    __copy__ = copy

    # Plans made ready to run, and kept until something changes.

    def _forget_runners(self) -> None:
        """Prepare plans anew when they are next needed."""
        self._runners: dict[str, Any] = {}
        self._known: dict[str, tuple[tuple[object, int], Any]] = {}  # runners, with the state of the parts of each
        self._quick: CompiledPredict | None = None
        self._trainers: list[Trainer] = []  # that of train_on_batch, while no step of it runs
        self.arenas.on_device = None  # what a GPU has of them

    def _expected_width(self, loss: losses.Loss, metrics: Sequence[Metric]) -> int:
        """The width of targets that have not come yet: of labels, where loss and metrics take them."""
        labels = isinstance(loss, losses.CrossEntropy) and all(metric.targets != "numbers" for metric in metrics)
        return 1 if labels else self.outputs

    def _lower(self, *training: Any, layers: Sequence[Layer] | None = None) -> Plan:
        """The plan of a prediction; training : loss, optimizer, metrics and the targets' width, for that of a step."""
        return lower(layers or self.layers, self.inputs, self._dtype, *training)

    def _on_device(self, plan: Plan) -> Plan:
        """The plan with where it runs."""
        plan.device = self.device
        plan.precision = dispatch.precision_on(plan.device, self._precision)
        return plan

    def _prediction_runner(self) -> Any:
        """What predicts: that of the training, if there is one."""
        return self._runners.get("training") or self._prepare("prediction", self._lower())

    def _training_runner(self, target_width: int) -> Any:
        """What trains on targets of this width, and evaluates."""
        return self._runner_for("training", target_width, lambda: self._training_plan(target_width))

    def _training_plan(self, target_width: int) -> Plan:
        optimizers.check("optimizer", self.optimizer)  # it may have been changed since compile
        plan = self._lower(self.loss, self.optimizer, self.metrics, target_width)
        if plan.slots != len(self._slots):
            raise RuntimeError(
                f"the optimizer {self.optimizer!r} needs {plan.slots} slots, but had {len(self._slots)} at compile; "
                "call model.compile after such a change"
            )
        return plan

    def _runner_for(self, kind: str, target_width: int, lower: Callable[[], Plan]) -> Any:
        """The plan that ``lower`` makes, ready to run; only looked up while no part of any model has been changed."""
        state = changes.last, target_width
        known, runner = self._known.get(kind, (None, None))
        if known == state:
            return runner
        runner = self._prepare(kind, lower())
        parts: list[Any] = [self._optimizer, self._loss, *self.metrics, *self.layers]
        parts += [part for layer in self.layers for part in vars(layer).values() if isinstance(part, Checked)]
        if all(of_fastnn(type(part)) for part in parts):  # the user's own may change without a word
            self._known[kind] = state, runner
        return runner

    def _prepare(self, kind: str, plan: Plan) -> Any:
        """The plan made ready to run; kept until the plan changes."""
        plan, runner = self._on_device(plan), self._runners.get(kind)
        if runner is None or runner.plan != plan:
            dispatch.check_plan(plan.device, plan, plan.precision)
            if plan.loss is not None:  # what may have been changed since compile
                chain.check_parts(self.layers, self._dtype, optimizer=self._optimizer, loss=self._loss)
            if plan.own_layer is None:
                runner = dispatch.prepare(plan.device, plan, self.arenas)
            else:
                from .slow_path import SlowPath

                runner = SlowPath(plan, self.arenas)
                warn(
                    f"layer {plan.own_layer.name!r} is written in Python, so the model runs kernel by kernel and not "
                    "in the compiled engine: many times slower where layers are small"
                )
            self._runners[kind] = runner
        return runner

    def _quick_predict(self) -> CompiledPredict | None:
        """The model's own ``compiled_predict``, made when it is first needed; None where there cannot be one."""
        if self._quick is None and self._compiled and self.device == "cpu":
            self._quick = self.compiled_predict()
        return self._quick

    def worker_choice(self, flops: int) -> WorkerChoice:
        """How many workers steps of so many operations get; what was learned stays from fit to fit."""
        key = asked_for(self.threads) if self.device == "cpu" else 1, flops
        if key not in self._choices:
            self._choices[key] = WorkerChoice(*key)
        return self._choices[key]


def load(path: files.Place, parts: Mapping[str, Any] | None = None) -> Model:
    """The model in the file ``path``, as ``Model.save`` wrote it; it continues training with the same bits.

    path : of the file, or a file opened in binary mode, which is read from where it stands to its end; parts : your own
    functions and classes by name, where the model has any. They are the only code of yours that runs.

    Raises a ModelFileError that says what is wrong with a file that is damaged, hostile or newer, before it takes more
    memory than the file has bytes; an OSError where the file cannot be read; a TypeError or ValueError that names
    ``path`` or ``parts`` where they are of another kind; and what ``Model.to`` raises where FASTNN_DEVICE asks for a
    device that cannot be had, or that cannot run the model.
    """
    with files.naming(path):
        description, tensors = files.read_model(path, parts)
        try:
            model = Model(
                description["layers"], seed=description["seed"], dtype=description["dtype"], name=description["name"]
            )
            if description["compiled"] is not None:
                precision = checks.choice("precision", description["compiled"].pop("precision"), dispatch.PRECISIONS)
                model.compile(**description["compiled"], device="cpu")
                model._precision = precision  # which this machine may not have
        except (TypeError, ValueError, OverflowError) as fault:
            raise files.ModelFileError(f"the file describes a model that cannot be: {fault}") from None
        model.step, model.epoch = description["step"], description["epoch"]
        model._columns = files.column_names(description.get("columns"), model.inputs)
        files.fill(files.state_tensors(model), tensors, "the model")
    if model.loss is not None:
        model.to("auto")  # an error about the machine is none about the file
    return model
