"""What is changed in an object of fastnn is checked like its arguments, and counts."""

import copy
import inspect
import pickle
import re

import numpy as np
import pytest

import fastnn as fn

#: name -> (object, argument, a value that is wrong, one that is right).
CHANGES = {
    "optimizer": (fn.Adam, "beta_1", 2.0, 0.5),
    "rate": (fn.SGD, "learning_rate", -1, 0.5),
    "loss": (fn.CrossEntropy, "label_smoothing", 5, 0.1),
    "flag": (fn.BinaryCrossEntropy, "from_logits", "yes", True),
    "Huber": (fn.Huber, "delta", 0, 2.0),
    "quantile": (fn.Quantile, "quantile", 1, 0.9),
    "metric": (fn.metrics.TopKAccuracy, "k", 0, 3),
    "schedule": (fn.CosineDecay, "alpha", 2, 0.5),
    "steps": (lambda: fn.PiecewiseConstantDecay([3], [1.0, 0.5]), "boundaries", [3, 4], [9]),
    "warm-up": (lambda: fn.Warmup(0.1, 5), "warmup_steps", 0, 7),
    "penalty": (fn.L2, "l2", -1, 0.5),
    "constraint": (fn.MaxNorm, "max_value", 0, 3.0),
    "initializer": (fn.Normal, "stddev", -1, 0.5),
    "patience": (fn.EarlyStopping, "patience", -1, 3),
    "function": (lambda: fn.LambdaCallback(on_epoch_end=print), "on_epoch_end", 3, max),
    "trainable": (lambda: fn.Dense(3), "trainable", "no", False),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_checked(name):
    make, argument, wrong, right = CHANGES[name]
    part = make()
    before = repr(part), vars(part).copy()
    with pytest.raises((ValueError, TypeError)) as caught:
        setattr(part, argument, wrong)
    assert argument in str(caught.value) or argument == "boundaries"
    assert (repr(part), vars(part)) == before
    setattr(part, argument, right)
    assert getattr(part, argument) == right
    if name not in ("function", "trainable"):  # functions that pickle does not take by value, and arrays
        for twin in (copy.deepcopy(part), pickle.loads(pickle.dumps(part))):
            assert repr(twin) == repr(part)


#: name -> (optimizer, loss, options of the layer, the error): what is in its range only with 64 bits.
ROUNDED = {
    "epsilon": (
        {"optimizer": fn.Adam(epsilon=1e-50)},
        "optimizer is Adam(epsilon=1e-50), but in float32 epsilon is 0.0",
    ),
    "rate": ({"optimizer": fn.SGD(1e39)}, "but in float32 learning_rate is inf; expected a finite number at least 0"),
    "momentum": ({"optimizer": fn.SGD(0.1, 1 - 1e-12)}, "but in float32 momentum is 1.0; expected a finite number"),
    "subnormal": (
        {"optimizer": fn.Adam(epsilon=1e-40)},
        "optimizer is Adam(epsilon=1e-40), but in float32 epsilon is 0.0",
    ),
    "norm": ({"optimizer": fn.SGD(clip_norm=1e-50)}, "in float32 clip_norm is 0.0; expected a finite number above 0"),
    "delta": ({"loss": fn.Huber(1e-50)}, "loss is Huber(delta=1e-50), but in float32 delta is 0.0"),
    "quantile": ({"loss": fn.Quantile(1 - 1e-12)}, "but in float32 quantile is 1.0; expected"),
    "limit": (
        {"kernel_constraint": fn.MaxNorm(1e-50)},
        "kernel_constraint of dense_1 is MaxNorm(max_value=1e-50), but in float32 max_value is 0.0",
    ),
    "penalty": ({"bias_regularizer": fn.L2(1e39)}, "bias_regularizer of dense_1 is L2(l2=1e+39), but in float32 l2 is"),
}


def network_with(dtype, optimizer="sgd", loss="mse", **options):
    model = fn.Model([fn.Input(1), fn.Dense(1, **options)], seed=0, dtype=dtype)
    model.compile(optimizer, loss)
    return model


@pytest.mark.parametrize("name", ROUNDED)
def test_a_setting_keeps_its_range_in_the_model_s_type(name):
    parts, words = ROUNDED[name]
    with pytest.raises(ValueError, match=re.escape(words)):
        network_with("float32", **parts)
    network_with("float64", **parts)


def test_a_setting_that_is_zero_or_may_be_is_taken():
    network_with("float32", fn.SGD(1e-50, momentum=0.0), kernel_regularizer=fn.L1L2(1e-50, 0.0))


def test_a_setting_that_was_changed_after_compile_keeps_its_range():
    model = network_with("float32", "adam")
    model.optimizer.epsilon = 1e-50
    with pytest.raises(
        ValueError, match=r"optimizer is Adam\(epsilon=1e-50\), but in float32 epsilon is 0.0; expected"
    ):
        model.fit([[1.0]], [1.0])
    assert model.step == 0


def test_a_learning_rate_that_was_changed_between_two_fits_keeps_its_range():
    model = network_with("float32", "adam")
    model.fit([[1.0]], [1.0], verbose=0)
    model.optimizer.learning_rate = 1e300
    for train in (model.fit, model.train_on_batch):
        with pytest.raises(
            ValueError, match=r"learning_rate of a float32 model is 1e\+300; expected .* at most 3.4.*e\+38"
        ):
            train([[1.0]], [1.0])
    assert model.step == 1
    assert model.evaluate([[1.0]], [1.0], verbose=0)["loss"] >= 0  # which has no use for it
    model.optimizer.learning_rate = 1e-3
    model.train_on_batch([[1.0]], [1.0])


class Smaller(fn.Adam):
    def __init__(self):
        super().__init__(epsilon=1e-50)


def test_a_setting_of_a_class_of_the_user_s_keeps_its_range():
    with pytest.raises(ValueError, match=r"but in float32 epsilon is 0\.0; expected a finite number above 0"):
        network_with("float32", Smaller())


@pytest.mark.parametrize("name", ["sample_weight", "class_weight"])
def test_a_weight_is_finite_in_the_model_s_type(name):
    model = fn.Model([fn.Input(1), fn.Dense(1, "sigmoid")], seed=0)
    model.compile("sgd", "binary_cross_entropy")
    given = {"sample_weight": [1.0, 1e39], "class_weight": {1: 1e39}}[name]
    with pytest.raises(
        ValueError, match=rf"{name} gives row 1 the weight 1e\+39, which is too large for float32; expected"
    ):
        model.fit([[1.0], [2.0]], [0, 1], **{name: given})
    with pytest.raises(ValueError, match="sample_weight is zero in all 2 rows for fit"):
        model.fit([[1.0], [2.0]], [0, 1], sample_weight=[1e-50, 0])
    assert model.step == 0


def test_an_interval_has_a_finite_length():
    with pytest.raises(ValueError, match="high - low is inf; expected a finite number"):
        fn.Uniform(-1e308, 1e308)


def test_an_initializer_of_a_layer_is_checked():
    layer = fn.Dense(3)
    with pytest.raises(ValueError, match="kernel_initializer is 'huge'; expected"):
        layer.kernel_initializer = "huge"
    layer.kernel_initializer = "ones"
    layer.build(2)
    assert (layer.W == 1).all()


@pytest.mark.parametrize("part", [fn.Huber(), fn.L2(), fn.CosineDecay(), fn.MaxNorm(), fn.Normal(), fn.metrics.AUC()])
def test_a_name_that_is_none_of_its_arguments_is_refused(part):
    with pytest.raises(AttributeError, match=rf"{type(part).__name__} has no anything"):
        part.anything = 3
    with pytest.raises(AttributeError, match=rf"{type(part).__name__} has no anything"):
        _ = part.anything


def test_what_a_class_fixes_is_refused():
    with pytest.raises(AttributeError, match=r"StepDecay has no staircase"):
        fn.StepDecay().staircase = False


def test_what_follows_from_an_argument_changes_and_what_was_counted_stays():
    metric = fn.metrics.TopKAccuracy(3)
    metric.k = 2
    assert metric.name == "top_2_accuracy"
    stop = fn.EarlyStopping("loss")
    stop.best, stop.best_epoch = 0.25, 7
    stop.patience = 4
    assert (stop.best, stop.best_epoch, stop.patience) == (0.25, 7, 4)
    stop.monitor = "val_accuracy"
    assert stop.sign == -1.0


def test_a_change_counts_in_the_next_evaluation():
    X, y = np.eye(3, dtype=np.float32), np.arange(3)
    model = fn.Model([fn.Input(3), fn.Dense(3, "softmax")], seed=0)
    model.compile("sgd", fn.CrossEntropy())
    before = model.evaluate(X, y, verbose=0)["loss"]
    model.loss.label_smoothing = 0.5
    fresh = model.copy()
    fresh.compile("sgd", fn.CrossEntropy(label_smoothing=0.5))
    assert model.evaluate(X, y, verbose=0) == fresh.evaluate(X, y, verbose=0) != {"loss": before}


def test_functions_of_your_own_are_fixed():
    own = fn.ActivationFunction(lambda x: x, lambda x, y: 1.0, "same")
    with pytest.raises(AttributeError, match=r"value of ActivationFunction\('same'\) is fixed; expected a new Act"):
        own.value = abs


def test_parts_of_the_user_s_are_left_alone():
    class Own(fn.CosineDecay):
        def __init__(self):
            super().__init__(1.0)
            self.anything = 3

    own = Own()
    own.alpha = own.anything = 5
    assert own.alpha == own.anything == 5


#: setting -> (numbers just outside of its range, the ends that belong to it).
RANGES = {
    "Adagrad.initial_accumulator_value": ([-1e-9], [0]),
    "Adagrad.epsilon": ([0], []),
    "Adam.beta_1": ([-1e-9, 1], [0]),
    "Adam.beta_2": ([-1e-9, 1], [0]),
    "Adam.epsilon": ([0], []),
    "AdamW.weight_decay": ([-1e-9], [0]),
    "BinaryCrossEntropy.label_smoothing": ([-1e-9, 1.001], [0, 1]),
    "CosineDecay.alpha": ([-1e-9, 1.001], [0, 1]),
    "CrossEntropy.label_smoothing": ([-1e-9, 1.001], [0, 1]),
    "Dropout.rate": ([-1e-9, 1], [0]),
    "EarlyStopping.min_delta": ([-1e-9], [0]),
    "EarlyStopping.patience": ([-1], [0]),
    "EarlyStopping.start_from_epoch": ([-1], [0]),
    "ExponentialDecay.decay_rate": ([0, 1.001], [1]),
    "ExponentialDecay.decay_steps": ([0], [1]),
    "Huber.delta": ([0], []),
    "L1.l1": ([-1e-9], [0]),
    "L2.l2": ([-1e-9], [0]),
    "LBFGS.memory": ([0], [1]),
    "MaxNorm.max_value": ([0], []),
    "Normal.stddev": ([-1e-9], [0]),
    "OneCycle.end_divisor": ([0.999], [1]),
    "OneCycle.rise": ([0, 1], []),
    "OneCycle.start_divisor": ([0.999], [1]),
    "Quantile.quantile": ([0, 1], []),
    "RMSprop.epsilon": ([0], []),
    "RMSprop.momentum": ([-1e-9, 1], [0]),
    "RMSprop.rho": ([-1e-9, 1], [0]),
    "ReduceLROnPlateau.cooldown": ([-1], [0]),
    "ReduceLROnPlateau.factor": ([0, 1], []),
    "ReduceLROnPlateau.min_lr": ([-1e-9], [0]),
    "ReduceLROnPlateau.patience": ([-1], [0]),
    "SGD.learning_rate": ([-1e-9], [0]),
    "SGD.momentum": ([-1e-9, 1], [0]),
    "TimeLimit.seconds": ([0], []),
}


@pytest.mark.parametrize("name", RANGES)
def test_the_ends_of_a_range(name):
    kind, _, argument = name.partition(".")
    outside, ends = RANGES[name]
    for value in outside:
        with pytest.raises(ValueError, match=f"{argument} is "):
            getattr(fn, kind)(**{argument: value})
    for value in ends:
        assert getattr(getattr(fn, kind)(**{argument: value}), argument) == value


#: What is meant where nothing is said, but for None: another number would train other models from the same program.
DEFAULTS = {
    "Adagrad": {"learning_rate": 0.001, "initial_accumulator_value": 0.1, "epsilon": 1e-07},
    "Adam": {"learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-08},
    "AdamW": {"learning_rate": 0.001, "weight_decay": 0.004, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-08},
    "BinaryCrossEntropy": {"from_logits": False, "label_smoothing": 0.0},
    "CSVLogger": {"separator": ",", "append": False},
    "Constant": {"value": 0.0},
    "ConstantRate": {"learning_rate": 0.001},
    "CosineDecay": {"initial_learning_rate": 0.001, "alpha": 0.0},
    "CrossEntropy": {"from_logits": False, "label_smoothing": 0.0},
    "Dense": {"use_bias": True, "bias_initializer": "zeros", "trainable": True},
    "EarlyStopping": {
        "monitor": "val_loss",
        "min_delta": 0.0,
        "patience": 0,
        "mode": "auto",
        "restore_best_weights": True,
        "start_from_epoch": 0,
    },
    "ExponentialDecay": {"initial_learning_rate": 0.001, "decay_steps": 1000, "decay_rate": 0.9, "staircase": False},
    "Huber": {"delta": 1.0},
    "L1": {"l1": 0.01},
    "L1L2": {"l1": 0.01, "l2": 0.01},
    "L2": {"l2": 0.01},
    "LBFGS": {"memory": 10},
    "Layer": {"trainable": True},
    "MaxNorm": {"max_value": 2.0},
    "Model": {"dtype": "float32"},
    "ModelCheckpoint": {"monitor": "val_loss", "save_best_only": False, "mode": "auto", "save_weights_only": False},
    "Normal": {"mean": 0.0, "stddev": 0.01},
    "OneCycle": {"maximum_learning_rate": 0.01, "rise": 0.3, "start_divisor": 25.0, "end_divisor": 10000.0},
    "Optimizer": {"learning_rate": 0.01},
    "Orthogonal": {"gain": 1.0},
    "Quantile": {"quantile": 0.5},
    "RMSprop": {"learning_rate": 0.001, "rho": 0.9, "momentum": 0.0, "epsilon": 1e-07},
    "ReduceLROnPlateau": {
        "monitor": "val_loss",
        "factor": 0.1,
        "patience": 10,
        "mode": "auto",
        "min_delta": 0.0001,
        "cooldown": 0,
        "min_lr": 0.0,
    },
    "SGD": {"learning_rate": 0.01, "momentum": 0.0, "nesterov": False},
    "StepDecay": {"initial_learning_rate": 0.001, "decay_steps": 1000, "decay_rate": 0.5},
    "Uniform": {"low": 0.0, "high": 0.1},
    "Warmup": {"initial": 0.0},
}


def test_defaults_stay_as_they_are():
    found = {}
    for name in fn.__all__:
        part = getattr(fn, name)
        if inspect.isclass(part) and not issubclass(part, (fn.History, fn.ModelFileError)):
            parameters = inspect.signature(part).parameters.values()
            found[name] = {p.name: p.default for p in parameters if isinstance(p.default, (bool, int, float, str))}
    assert {name: settings for name, settings in found.items() if settings} == DEFAULTS


class Growing(fn.Optimizer):
    """w -= rate · factor · g, with a factor in a list, where a change of it tells nobody."""

    def __init__(self):
        super().__init__(0.1)
        self.factors = [1.0]

    def settings(self):
        return tuple(self.factors)

    @staticmethod
    def update(p, g, slots, rate, step, settings):
        p -= rate * settings[0] * g


#: What to change between two calls.
BETWEEN_CALLS = {
    "trainable": lambda model: setattr(model.layers[1], "trainable", False),
    "rate of dropout": lambda model: setattr(model.layers[2], "rate", 0.5),
    "another penalty": lambda model: setattr(model.layers[1], "kernel_regularizer", fn.L2(0.5)),
    "a penalty's factor": lambda model: setattr(model.layers[3].kernel_regularizer, "l2", 0.5),
    "constraint": lambda model: setattr(model.layers[1], "kernel_constraint", fn.MaxNorm(0.1)),
    "norm": lambda model: setattr(model.layers[3].kernel_constraint, "max_value", 0.1),
    "learning rate": lambda model: setattr(model.optimizer, "learning_rate", 0.5),
    "setting": lambda model: setattr(model.optimizer, "momentum", 0.5),
    "clipping": lambda model: setattr(model.optimizer, "clip_norm", 0.001),
    "loss": lambda model: setattr(model.loss, "label_smoothing", 0.5),
    "metric": lambda model: setattr(model.metrics[0], "k", 2),
    "without a word": lambda model: model.optimizer.factors.__setitem__(0, 3.0),
}


@pytest.mark.parametrize("ask", ["train_on_batch", "evaluate", "gradients"])
@pytest.mark.parametrize("name", BETWEEN_CALLS)
def test_a_change_between_two_calls_counts_in_the_second(name, ask):
    """What is known of a model from the call before is forgotten as soon as a part of it changes."""

    def asked(model):
        found = getattr(model, ask)(X, y)
        return {key: np.array(value).tobytes() for key, value in found.items()}, model.arenas.parameters.tobytes()

    X, y = fn.datasets.digits()
    X, y = X[:40], y[:40]
    layers = [
        fn.Input(64),
        fn.Dense(5, "tanh"),
        fn.Dropout(0.2),
        fn.Dense(10, "softmax", kernel_regularizer=fn.L2(0.01), kernel_constraint=fn.MaxNorm(2.0)),
    ]
    optimizer = Growing() if name == "without a word" else fn.SGD(0.1, momentum=0.9)
    model = fn.Model(layers, seed=0)
    model.compile(optimizer, fn.CrossEntropy(), [fn.metrics.TopKAccuracy(3)])
    for _ in range(2):
        asked(model)
    twin = model.copy()
    for each in model, twin:
        BETWEEN_CALLS[name](each)
    assert asked(model) == asked(twin)
