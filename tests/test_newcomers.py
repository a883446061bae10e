"""What people do who come from Keras, PyTorch, scikit-learn and pandas: it works, or the error says what to write."""

import copy
import inspect
import os
import pickle
import stat

import numpy as np
import pytest

import fastnn as fn

GENERATOR = np.random.default_rng(0)
X = GENERATOR.standard_normal((40, 3)).astype(np.float32)
LABELS = np.arange(40) % 4
NAMES = np.array(["ant", "cat", "cow", "dog"])[LABELS]


def model_for(loss="cross_entropy", outputs=4, last="softmax", optimizer="adam", metrics=()):
    model = fn.Model([fn.Input(3), fn.Dense(5, "relu"), fn.Dense(outputs, last)], seed=0)
    model.compile(optimizer, loss, metrics)
    return model


def detector(outputs=1):
    return model_for("binary_cross_entropy", outputs, "sigmoid")


def refused(words, action):
    with pytest.raises((ValueError, TypeError, AttributeError)) as caught:
        action()
    assert words in str(caught.value)


# Names of Keras and scikit-learn for the same things.

SAME = [
    (lambda name: fn.Dense(2, name).activation, "swish", "silu"),
    (lambda name: fn.Activation(name).activation, "Swish", "silu"),
    (lambda name: fn.Dense(2, name).activation, "identity", "linear"),
    (lambda name: fn.Dense(2, name).activation, "logistic", "sigmoid"),
    (
        lambda name: fn.Model([fn.Input(2), fn.Dense(3, kernel_initializer=name)]).get_weights()[0].tolist(),
        "ones",
        fn.Constant(1),
    ),
    (lambda name: repr(fn.Dense(2, kernel_regularizer=name).kernel_regularizer), "L1L2", "l1_l2"),
    (lambda name: repr(fn.losses.get("loss", name)), "bce", "binary_cross_entropy"),
    (lambda name: repr(fn.losses.get("loss", name)), "huber_loss", "huber"),
    (lambda name: repr(fn.metrics.get("metrics", [name])), "top_k_categorical_accuracy", "top_k"),
    (lambda name: repr(fn.metrics.get("metrics", [name])), "sparse_top_k_categorical_accuracy", "top_k"),
]


@pytest.mark.parametrize(("read", "theirs", "ours"), SAME)
def test_other_names_of_the_same_thing(read, theirs, ours):
    assert read(theirs) == read(ours)


#: What is not known, and the name that the error proposes.
NEAR = {
    "f1_score": (lambda: fn.metrics.get("metrics", ["f1_score"]), "did you mean 'f1'?"),
    "sparse_categorical_accuracy": (
        lambda: fn.metrics.get("metrics", ["sparse_categorical_accuracy"]),
        "did you mean 'accuracy'?",
    ),
    "HeNormal": (lambda: fn.Dense(2, kernel_initializer="HeNormal"), "did you mean 'he_normal'?"),
    "ExponentialLR": (lambda: fn.ExponentialLR, "did you mean 'ExponentialDecay'?"),
    "Nadam": (lambda: fn.Nadam, "did you mean 'Adam'?"),
    "gpu": (lambda: fn.Model([fn.Input(1), fn.Dense(1)]).compile("sgd", "mse", device="gpu"), "did you mean 'cuda'?"),
}


@pytest.mark.parametrize("name", NEAR)
def test_the_nearest_name_is_proposed(name):
    refused(NEAR[name][1], NEAR[name][0])


# Tables and labels.


def frame(**columns):
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame(dict(zip("abc", X.T.astype(float), strict=True)) | columns)


def series(values):
    return pytest.importorskip("pandas").Series(values)


UNIQUE = "np.unique(y, return_inverse=True)"
AS_DATES = np.arange(40).astype("datetime64[D]")

#: name -> (model, X, y, words of the error), each made when it is needed.
MISTAKEN = {
    "text labels": (model_for, lambda: X, lambda: NAMES, f"y holds text; expected numbers: classes, y = {UNIQUE}"),
    "a list of text": (model_for, lambda: X, lambda: list(NAMES), UNIQUE),
    "text in objects": (model_for, lambda: X, lambda: NAMES.astype(object), UNIQUE),
    "text in a series": (model_for, lambda: X, lambda: series(NAMES), UNIQUE),
    "categories": (model_for, lambda: X, lambda: series(NAMES).astype("category"), UNIQUE),
    "digits as text in objects": (model_for, lambda: X, lambda: LABELS.astype(str).astype(object), UNIQUE),
    "text for a regression": (
        lambda: model_for("mse", 1, None),
        lambda: X,
        lambda: LABELS.astype(str),
        "y holds text; expected numbers (np.asarray(y, float) reads numbers that are written as text)",
    ),
    "column of text": (
        model_for,
        lambda: frame(b=NAMES),
        lambda: LABELS,
        "X holds text, such as 'ant' in column 'b'; expected numbers (pandas.get_dummies(X) makes columns of 0 and 1 "
        "from text)",
    ),
    "column of numbers as text": (
        model_for,
        lambda: frame(b=["?", *map(str, range(39))]),
        lambda: LABELS,
        "X holds text, such as '?' in column 'b'; expected numbers (pandas.to_numeric(X['b'], errors='coerce') reads",
    ),
    "column with decimal commas": (
        model_for,
        lambda: frame(b=[f"{number},5" for number in range(40)]),
        lambda: LABELS,
        "X holds text, such as '0,5' in column 'b'; expected numbers (pandas.read_csv(..., decimal=',') reads decimal",
    ),
    "column of dates": (model_for, lambda: frame(c=AS_DATES), lambda: LABELS, "in column 'c'; expected numbers"),
    "missing in a frame": (
        model_for,
        lambda: frame(c=[np.nan, *range(39)]),
        lambda: LABELS,
        "X has nan in row 0, column 'c'; expected finite numbers: fill in what is missing, or leave such rows out",
    ),
    "NA in a frame": (
        model_for,
        lambda: frame(c=pytest.importorskip("pandas").array([None, *range(39)], dtype="Int64")),
        lambda: LABELS,
        "X has nan in row 0, column 'c'",
    ),
    "a column for X": (model_for, lambda: frame()["a"], lambda: LABELS, "for one column np.reshape(X, (-1, 1))"),
    "images": (
        model_for,
        lambda: X[:, :, None],
        lambda: LABELS,
        "X has shape (40, 3, 1); expected 2-D, (rows, 3): write np.reshape(X, (len(X), -1))",
    ),
    "labels from 1": (
        model_for,
        lambda: X,
        lambda: LABELS + 1,
        "y has the label 4 in row 3; expected whole numbers from 0 to 3, because the model has 4 outputs: here the "
        "labels begin at 1, write np.subtract(y, 1)",
    ),
    "labels with gaps": (model_for, lambda: X, lambda: LABELS * 10, f"classes, y = {UNIQUE}"),
    "numbers to predict": (
        model_for,
        lambda: X,
        lambda: X[:, 0],
        'for numbers to predict take loss="mse" and an activation of None',
    ),
    "labels 1 and 2": (detector, lambda: X, lambda: LABELS % 2 + 1, "for two classes write np.equal(y, 2)"),
    "labels -1 and 1": (detector, lambda: X, lambda: LABELS % 2 * 2 - 1, "for two classes write np.equal(y, 1)"),
    "labels for several sigmoids": (
        lambda: detector(4),
        lambda: X,
        lambda: LABELS,
        'for labels 0 to 3 write np.eye(4)[y], or take a softmax and loss="cross_entropy"',
    ),
    "one-hot for one sigmoid": (
        detector,
        lambda: X,
        lambda: np.eye(2)[LABELS % 2],
        "for one-hot rows of two classes write np.argmax(y, axis=1)",
    ),
    "labels for squares": (
        lambda: model_for("mse", 4, None),
        lambda: X,
        lambda: LABELS,
        "y has shape (40,); expected (rows, 4), because the model has 4 outputs; for labels 0 to 3 write np.eye(4)[y]",
    ),
    "a row for a column": (
        lambda: model_for("mse", 1, None),
        lambda: X,
        lambda: LABELS[None],
        "y has shape (1, 40); expected (rows, 1) or (rows,), because the model has 1 output: write np.ravel(y)",
    ),
}


def test_dates_of_polars_beside_numbers_are_no_numbers():
    """Its ``to_numpy`` would make days of them."""

    class Kind:
        def __init__(self, temporal):
            self.is_temporal = lambda: temporal

    class Frame:
        columns, dtypes = ["a", "b", "c"], [Kind(False), Kind(False), Kind(True)]

        def to_dummies(self):
            raise NotImplementedError

        def to_numpy(self):
            return X

    refused("X holds dates or times in column 'c'; expected numbers", lambda: model_for().fit(Frame(), LABELS))
    Frame.dtypes = [Kind(False)] * 3
    model_for().fit(Frame(), LABELS)


def test_text_beside_numbers_in_a_frame_of_polars():
    class Frame:
        columns = dtypes = ()

        def to_dummies(self, columns):
            raise NotImplementedError

        def to_numpy(self):
            return np.array([[1.0, "ant", 2.0]] * 40, object)

    Frame.columns = ["a", "b", "c"]
    words = "in column 'b'; expected numbers (X.to_dummies('b') makes columns of 0 and 1 from text)"
    refused(words, lambda: model_for().fit(Frame(), LABELS))
    Frame.to_numpy = lambda self: np.array([[1.0, "2", 2.0]] * 40, object)
    words = "expected numbers (X.cast({'b': polars.Float64}, strict=False) reads numbers that are written as text"
    refused(words, lambda: model_for().fit(Frame(), LABELS))


@pytest.mark.parametrize("name", MISTAKEN)
def test_the_error_says_what_to_write(name):
    make, inputs, targets, words = MISTAKEN[name]
    refused(words, lambda: make().fit(inputs(), targets()))


def test_what_the_errors_say_to_write_works():
    classes, y = np.unique(NAMES, return_inverse=True)
    assert classes[y].tolist() == NAMES.tolist()
    names = frame(b=NAMES)
    wide = pytest.importorskip("pandas").get_dummies(names)
    model = fn.Model([fn.Input(wide.shape[1]), fn.Dense(4, "softmax")])
    model.compile("adam", "cross_entropy")
    model.fit(wide, y)
    model_for().fit(np.reshape(X[:, :, None], (len(X), -1)), np.subtract(LABELS + 1, 1))
    detector().fit(X, np.equal(LABELS % 2 + 1, 2))
    detector().fit(X, np.argmax(np.eye(2)[LABELS % 2], axis=1))
    detector(4).fit(X, np.eye(4)[LABELS])
    model_for("mse", 1, None).fit(X, np.asarray(LABELS.astype(str), float))
    model_for("mse", 1, None).fit(X, np.ravel(LABELS[None]))
    one = fn.Model([fn.Input(1), fn.Dense(4, "softmax")])
    one.compile("adam", "cross_entropy")
    one.fit(np.reshape(frame()["a"], (-1, 1)), LABELS)


# Names and habits of other libraries.

#: name -> what the error says to take instead.
ELSEWHERE = {
    "Sequential": "fn.Model([fn.Input(64), fn.Dense(10)])",
    "Linear": "fn.Dense(units)",
    "ReLU": 'fn.Activation("relu")',
    "Flatten": "np.reshape(X, (len(X), -1))",
    "CrossEntropyLoss": "fn.CrossEntropy(from_logits=True)",
    "MSELoss": "fn.MeanSquaredError()",
    "SparseCategoricalCrossentropy": "fn.CrossEntropy()",
    "load_model": "fn.load(path)",
    "optim": "fn.SGD, fn.Adam, fn.AdamW ... themselves",
    "MLPClassifier": "fn.estimators.MLPClassifier, or fn.Model([fn.Input(64), fn.Dense(10)])",
}
NOT_HERE = ["Conv2D", "Conv1d", "MaxPooling2D", "BatchNormalization", "BatchNorm1d", "LSTM", "Embedding", "LayerNorm"]


@pytest.mark.parametrize("name", ELSEWHERE)
def test_names_of_other_libraries(name):
    refused(f"module 'fastnn' has no attribute '{name}'; expected {ELSEWHERE[name]}", lambda: getattr(fn, name))
    assert not hasattr(fn, name)


@pytest.mark.parametrize("name", NOT_HERE)
def test_what_dense_networks_do_not_have(name):
    refused("fastnn trains dense networks only: docs/explanation/not_for.md", lambda: getattr(fn, name))
    assert not hasattr(fn, name)


HABITS = {
    "add": lambda model: model.add(fn.Dense(3)),
    "predict_proba": lambda model: model.predict_proba(X),
    "score": lambda model: model.score(X, LABELS),
    "parameters": lambda model: model.parameters(),
    "state_dict": lambda model: model.state_dict(),
    "eval": lambda model: model.eval(),
}


@pytest.mark.parametrize("name", HABITS)
def test_methods_of_other_libraries(name):
    model = model_for()
    refused(f"a model has no {name!r}; expected ", lambda: HABITS[name](model))
    assert not hasattr(model, name) and not hasattr(model, "__array__")
    refused("a model has no 'predct'; did you mean 'predict'?", lambda: model.predct(X))


#: A call, and what the error says of the argument that it does not have.
ARGUMENTS = {
    "Adam(lr=1e-3)": "Adam has no argument 'lr'; expected learning_rate",
    "CosineDecay(lr=1e-3)": "CosineDecay has no argument 'lr'; expected initial_learning_rate",
    "SGD(weight_decay=1e-4)": "SGD has no argument 'weight_decay'; expected kernel_regularizer=fn.L2(weight_decay / 2)",
    "SGD(dampening=0.1)": "expected learning_rate, momentum, nesterov, clip_norm, clip_value",
    'Dense(8, activation_fn="relu")': "Dense has no argument 'activation_fn'; did you mean 'activation'?",
    "Dense(8, input_shape=(4,))": "expected fn.Input(columns) as the model's first layer",
    "Dropout(p=0.2)": "Dropout has no argument 'p'; expected rate",
    "Input(units=3)": "Input has no argument 'units'; expected shape",
    "Huber(beta=1)": "Huber has no argument 'beta'; expected delta",
    "ActivationFunction(abs, derivative=abs)": "expected value, slope, name",
    "EarlyStopping(tol=1)": "EarlyStopping has no argument 'tol'; expected monitor, ",
    "Model([], random_state=0)": "Model has no argument 'random_state'; expected seed",
    "model.fit(X, y, n_epochs=3)": "fit has no argument 'n_epochs'; did you mean 'epochs'?",
    "model.fit(x=X, y=y)": "fit has no argument 'x'; did you mean 'X'?",
    'model.compile(optimizer="adam", criterion="mse")': "compile has no argument 'criterion'; expected loss",
    "model.evaluate(X, y, batch_size=3)": "evaluate has no argument 'batch_size'; expected X, y, verbose, sample",
    "model.predict(X, batch_size=32)": "predict has no argument 'batch_size'; expected X, verbose, output",
    "model.predict(x=X)": "missing 1 required positional argument: 'X'",
    "model.train_on_batch(X, y, lr=3)": "train_on_batch has no argument 'lr'; expected X, y, sample_weight, class",
}


@pytest.mark.parametrize("call", ARGUMENTS)
def test_arguments_of_other_libraries(call):
    with pytest.raises(TypeError) as caught:
        eval(call, vars(fn) | {name: getattr(fn, name) for name in fn.__all__} | {"model": model_for(), "X": X, "y": X})
    assert ARGUMENTS[call] in str(caught.value)


def test_a_call_that_lacks_an_argument_is_told_what_to_write():
    for call, words in (
        (fn.Dense, "Dense needs 'units'; expected Dense(units)"),
        (lambda: fn.Dropout(name="a"), "Dropout needs 'rate'; expected Dropout(rate)"),
        (
            lambda: fn.LossFunction(lambda y, target: y),
            "needs 'slope'; expected LossFunction(value, slope), with the deri",
        ),
        (lambda: fn.Penalty(slope=abs), "Penalty needs 'value'; expected Penalty(value, slope)"),
        (lambda: model_for().fit(X), "fit needs 'y'; expected fit(X, y)"),
        (
            lambda: fn.Model(fn.Input(3), fn.Dense(4)),  # as nn.Sequential
            "Model was given 2 arguments without a name; expected one, the list of all layers: Model([Input(64), Dense",
        ),
    ):
        refused(words, call)

    class Narrow(fn.Dense):
        def __init__(self):
            super().__init__()

    refused("Dense needs 'units'; expected Dense(units)", Narrow)


def test_a_copy_of_a_layer_of_a_model_is_told_how_it_gets_its_weights():
    refused("or is a copy of one that does", lambda: fn.Model([fn.Input(3), copy.deepcopy(model_for().layers[1])]))


def test_numbers_that_float32_does_not_tell_apart_are_told():
    model = model_for("mse", 1, None)
    days = 2_460_000.5 + np.arange(40)[:, None] / 100 * [0, 0, 1]
    with pytest.warns(
        UserWarning, match=r"X has numbers like 2460000.5 in column 2, which differ by about 0.12; float32 k"
    ):
        model.fit(days, LABELS)
    with pytest.warns(
        UserWarning, match=r"y has numbers like -40000.0, which differ by about 0.0012; float32 keeps them"
    ):
        model.fit(X, -40_000 + np.arange(40) * 1e-4)
    pd = pytest.importorskip("pandas")
    seconds = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "time": 1_700_000_000 + np.arange(40)})
    with pytest.warns(UserWarning, match=r"X has numbers like 1700000000.0 in column 'time'"):
        model.fit(seconds, LABELS)
    model = model_for("mse", 1, None)  # a warning is an error in tests
    model.fit(1 + X * 1e-3, 1e6 + 100 * LABELS)
    model.fit(np.where(np.arange(120).reshape(40, 3) % 2, 0.1 + 0.2, 0.3), LABELS)  # roundings
    model.fit(days.astype("float32"), LABELS)
    double = fn.Model([fn.Input(3), fn.Dense(1)], dtype="float64")
    double.compile("sgd", "mse")
    double.fit(days - 2_460_000, LABELS)


def test_targets_beyond_the_last_activation_are_told():
    for last, y, words in (
        (
            "sigmoid",
            LABELS,
            r"y has numbers from 0 to 3, but the model ends in sigmoid, which yields numbers from 0 to 1",
        ),
        ("tanh", -5.0 * LABELS, "ends in tanh, which yields numbers from -1 to 1: expected a last layer without it"),
        ("softplus", LABELS - 1.0, "y has numbers from -1 to 2, .* yields numbers of at least 0"),
    ):
        with pytest.warns(UserWarning, match=words):
            model_for("mse", 1, last).fit(X, y)
    model_for("mse", 1, "relu").fit(X, LABELS)
    model_for("mse", 1, "sigmoid").fit(X, LABELS / 3 + 1e-7)  # rounded
    model_for("mse", 1, "softplus").fit(X, LABELS - 0.1)  # noise
    own = fn.LossFunction(
        lambda y, target: (y - target / 4) ** 2, lambda y, target: 2 * (y - target / 4), "of quarters"
    )
    model_for(own, 1, "sigmoid").fit(X, LABELS)


def test_what_is_wrong_with_a_call_otherwise_is_python_s_to_say():
    for call, words in (
        (lambda: fn.Adam(0.1, 2, 3, 4, 5, 6), "positional arguments but 7 were given"),
        (lambda: fn.Dense("8"), "units is '8'; expected a whole number"),
    ):
        refused(words, call)

    def fails(shape, generator, **options):
        return Own(lr=3)

    class Own(fn.Adam):
        def __init__(self, rate):
            super().__init__(rate)

    refused("got an unexpected keyword argument 'lr'", lambda: Own(lr=3))  # the user's own
    refused("Own.__init__() got an unexpected", lambda: fn.Model([fn.Input(1), fn.Dense(1, kernel_initializer=fails)]))


@pytest.mark.parametrize("call", [fn.Adam, fn.Dense, fn.Model, fn.Model.fit, fn.Model.compile, fn.Model.predict])
def test_what_tells_keeps_its_signature(call):
    given = list(inspect.signature(call).parameters)
    assert given[-1] not in ("arguments", "named", "others") and len(given) > 3


@pytest.mark.parametrize("module", ["layers", "losses", "optimizers", "metrics", "initializers", "schedules"])
def test_names_of_other_libraries_in_a_module(module):
    refused(
        f"module 'fastnn.{module}' has no attribute 'Linear'; expected fn.Dense(units)",
        lambda: getattr(fn, module).Linear,
    )
    assert not hasattr(getattr(fn, module), "__path__")


def test_a_misspelled_name_of_a_module():
    refused("has no attribute 'Dropuot'; did you mean 'Dropout'?", lambda: fn.layers.Dropuot)
    refused("has no attribute 'EarlyStop'; did you mean 'EarlyStopping'?", lambda: fn.callbacks.EarlyStop)


def test_lr_is_not_ignored():
    model = model_for()
    with pytest.raises(AttributeError, match=r"Adam has no lr; expected learning_rate"):
        model.optimizer.lr = 0.5
    with pytest.raises(AttributeError, match=r"Adam has no lr; expected learning_rate"):
        print(model.optimizer.lr)

    refused("Adam has no weight_decay; expected ", lambda: setattr(model.optimizer, "weight_decay", 0.1))
    refused("Adam has no momentun", lambda: setattr(model.optimizer, "momentun", 0.1))
    refused("did you mean 'momentum'?", lambda: setattr(fn.SGD(0.1, 0.9), "momentun", 0.1))
    model.optimizer.beta_1 = 0.5
    assert model.optimizer.beta_1 == 0.5

    class Own(fn.SGD):
        def __init__(self, lr=0.5):
            super().__init__(lr)
            self.lr = self.anything = lr

    assert Own().lr == Own().learning_rate == Own().anything == 0.5


CLASSES = {
    "optimizer": (lambda: model_for(optimizer=fn.Adam), "optimizer is the class Adam; expected an Optimizer"),
    "loss": (
        lambda: model_for(fn.MeanSquaredError),
        "loss is the class MeanSquaredError; expected one of fastnn.losses",
    ),
    "metric": (lambda: model_for(metrics=[fn.metrics.F1]), "metrics has the class F1; expected "),
    "layer": (lambda: fn.Model([fn.Input, fn.Dense(1)]), "layers[0] is the class Input; expected a layer"),
    "dtype of NumPy": (
        lambda: fn.Model([fn.Input(1), fn.Dense(1)], dtype=np.float16),
        "dtype is 'float16'; expected one of 'float32', 'float64'",
    ),
    "dtype": (lambda: fn.Model([fn.Input(1), fn.Dense(1)], dtype=float), "dtype is the class float; expected one of"),
    "learning rate": (
        lambda: fn.Adam("1e-3"),
        "learning_rate is '1e-3'; expected a number, a schedule, a function of the step or one of 'constant', ",
    ),
    "inputs and units": (lambda: fn.Dense(3, 4), "activation is 4; expected Dense(units, activation): the inputs come"),
}


@pytest.mark.parametrize("name", CLASSES)
def test_what_is_no_object(name):
    refused(CLASSES[name][1], CLASSES[name][0])


@pytest.mark.parametrize("name", ["Sequential", "Conv2D", "Dropuot"])
def test_an_import_of_what_there_is_not_tells_the_same(name):
    with pytest.raises(AttributeError) as told:
        getattr(fn, name)
    hint = str(told.value).removeprefix(f"module 'fastnn' has no attribute {name!r}")
    with pytest.raises(ImportError) as caught:
        exec(f"from fastnn import Dense, {name}")
    assert hint and str(caught.value) == f"cannot import name {name!r} from 'fastnn'{hint}"
    exec("from fastnn import *; from fastnn import inference")  # a module that fastnn itself does not list


@pytest.mark.parametrize("name", ["utils", "keras"])
def test_what_is_not_near_is_not_proposed(name):
    with pytest.raises(AttributeError, match=f"has no attribute '{name}'$"):
        getattr(fn, name)


def test_only_public_names_are_proposed():
    for name in ("slots", "runner"):
        with pytest.raises(AttributeError) as caught:
            getattr(model_for(), name)
        assert str(caught.value) == f"a model has no {name!r}"


# Callbacks.


def test_a_misspelled_method_of_a_callback_is_told_before_the_fit():
    class Misspelled(fn.Callback):
        def on_epoch_ends(self, epoch, logs):
            pass

    class OfKeras(fn.Callback):
        def on_batch_end(self, batch, logs=None):
            pass

        def on_epoch_end(self, epoch, logs=None):
            pass

    class Ready(fn.Callback):
        on_screen = True  # no method

        def on_epoch_end(self, epoch, logs):
            self.helper_on_epoch_ends()

        def helper_on_epoch_ends(self):
            self.called = True

    class NoSubclass:
        def on_epoch_end(self, epoch, logs):
            self.on_quitting()

        def on_quitting(self):
            self.called = True

    model = model_for()
    refused(
        "callbacks[1] has on_epoch_ends, which is never called; did you mean 'on_epoch_end'?",
        lambda: model.fit(X, LABELS, callbacks=[Ready(), Misspelled()]),
    )
    refused(
        "callbacks[0] has on_batch_end, which is never called; did you mean 'on_train_batch_end'?",
        lambda: model.fit(X, LABELS, callbacks=[OfKeras()]),
    )
    assert model.step == 0
    callbacks = [Ready(), NoSubclass()]
    model.fit(X, LABELS, callbacks=callbacks)
    assert all(callback.called for callback in callbacks)


def test_a_method_of_a_callback_with_other_arguments_is_told_before_the_fit():
    class OfKeras(fn.Callback):
        def on_epoch_begin(self, epoch, logs):
            pass

    model = model_for()
    refused(
        "callbacks[0].on_epoch_begin is a function of (epoch, logs); expected a function of (epoch)",
        lambda: model.fit(X, LABELS, callbacks=[OfKeras()]),
    )
    refused(
        "callbacks[0].on_epoch_end is a function of (epoch); expected a function of (epoch, logs)",
        lambda: model.fit(X, LABELS, callbacks=[fn.LambdaCallback(on_epoch_end=lambda epoch: None)]),
    )
    assert model.step == 0


# Numbers that are not finite.


def cube(x):
    return x * x * x


def cube_slope(x, y):
    return 3.0 * x * x


def test_an_own_function_is_named_where_numbers_stop_being_finite():
    own = fn.ActivationFunction(cube, cube_slope, "cube")
    layers = [fn.Input(3), fn.Dense(5, own), fn.Dense(5, own), fn.Dense(1)]
    model = fn.Model(layers, seed=0)
    model.compile(fn.SGD(10.0), "mse")
    with pytest.raises(
        FloatingPointError, match=r"help; or look at ActivationFunction\('cube'\), your own, which may not be"
    ):
        model.fit(X * 100, LABELS, epochs=50)
    with pytest.raises(FloatingPointError, match=r"look at ActivationFunction\('cube'\)"):
        model.evaluate(X * 1e30, LABELS)

    class Own(fn.Optimizer):
        @staticmethod
        def update(p, g, slots, rate, step, settings):
            p[:] = np.nan

    loss = fn.LossFunction(lambda y, t: (y - t) * (y - t), lambda y, t: 2.0 * (y - t), "squares")
    model = model_for(loss, 1, None, Own())
    with pytest.raises(FloatingPointError, match=r"look at LossFunction\('squares'\) and Own\(\), your own"):
        model.fit(X * 1e30, LABELS)
    model = model_for("mse", 1, None, fn.SGD(1e30))
    with pytest.raises(FloatingPointError, match=r"standardized inputs and targets usually help$"):
        model.fit(X, LABELS, epochs=50)
    model = model_for("binary_cross_entropy", 1, "sigmoid", fn.SGD(1e38))
    with pytest.raises(FloatingPointError, match=r"standardized inputs usually help$"):
        model.fit(X, LABELS > 0, epochs=50)


@pytest.mark.parametrize("dtype", [np.float64, np.dtype("float64"), np.dtype(">f8"), "Float64"])
def test_a_type_of_numpy_s(dtype):
    model = fn.Model([fn.Input(1), fn.Dense(1)], dtype=dtype)
    assert model.dtype == "float64" and model.get_weights()[0].dtype == np.float64


# Files.


@pytest.mark.parametrize("save", ["save", "save_weights"])
@pytest.mark.parametrize("ending", [".h5", ".keras", ".pt", ".pth", ".PKL", ".npz", ".onnx"])
def test_a_name_of_another_format_is_refused(save, ending, tmp_path):
    path = str(tmp_path / f"m{ending}")
    refused(
        f"path is {path!r}, but the file would be in the safetensors format; expected a name that ends in .safetensors",
        lambda: getattr(model_for(), save)(path),
    )
    refused("filepath is 'm.h5', but", lambda: fn.ModelCheckpoint("m.h5"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["m", "m.safetensors", "m-1.5", "m.v2"])
def test_other_names_are_kept_as_they_are(name, tmp_path):
    model_for().save(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    fn.load(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_pipe_or_a_device_is_neither_replaced_nor_waited_for(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    for action in (
        model_for().save,
        model_for().save_weights,
        model_for().load_weights,
        fn.load,
        fn.CSVLogger,
        fn.ModelCheckpoint,
    ):
        refused("a device, a pipe or a socket; expected the path of a file", lambda action=action: action(path))
        assert stat.S_ISFIFO(path.stat().st_mode) and len(list(tmp_path.iterdir())) == 1
    refused("path is 'a\\x00b', with a character of code 0", lambda: model_for().save("a\0b"))


@pytest.mark.parametrize("slot", [False, True])
def test_what_could_not_be_loaded_is_not_saved(slot, tmp_path):
    model = model_for()
    model.save(tmp_path / "m")
    (model.arenas.slots[1] if slot else model.arenas.parameters)[0] = np.inf
    name = "optimizer.1.dense_1.W" if slot else "dense_1.W"
    refused(f"the model cannot be saved: {name!r} holds numbers that are not", lambda: model.save(tmp_path / "m"))
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    fn.load(tmp_path / "m")


@pytest.mark.parametrize("save", ["save", "save_weights"])
def test_a_missing_folder_is_named(save, tmp_path):
    path = str(tmp_path / "no folder" / "m")
    with pytest.raises(FileNotFoundError) as caught:
        getattr(model_for(), save)(path)
    assert (
        str(caught.value) == f"path is {path!r}, but there is no folder {str(tmp_path / 'no folder')!r}; expected one"
    )


def test_the_system_s_errors_are_about_the_path_that_was_given(tmp_path):
    path = str(tmp_path / ("m" * 250))
    with pytest.raises(OSError, match="m" * 250 + "'$"):
        model_for().save(path)


def test_a_home_folder_is_named():
    with pytest.raises(
        FileNotFoundError, match=r"no folder '~'; expected one: os\.path\.expanduser\(path\) fills in ~"
    ):
        model_for().save("~/m.safetensors")


#: name -> (content of a file that is no model, what the error says of it).
NO_MODELS = {
    "text": (b"weights = [1, 2, 3]\n" * 20, "it is cut off, or no safetensors file"),
    "empty": (b"", "the file is empty"),
    "zip": (b"PK\x03\x04" + bytes(300), "it is cut off, or no safetensors file"),
    "short": (b"abc", "the file has 3 bytes"),
}


@pytest.mark.parametrize("load", [fn.load, lambda path: model_for().load_weights(path)])
@pytest.mark.parametrize("name", NO_MODELS)
def test_what_is_no_model_is_named(name, load, tmp_path):
    content, words = NO_MODELS[name]
    path = tmp_path / "m.txt"
    path.write_bytes(content)
    with pytest.raises(fn.ModelFileError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ") and words in str(caught.value)
    assert "expected a file that model.save or model.save_weights of fastnn wrote" in str(caught.value)


def test_a_damaged_model_is_named(tmp_path):
    path = tmp_path / "m"
    model_for().save(path)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    refused(f"{path}: the file is damaged", lambda: fn.load(path))
    model_for().save_weights(path)
    refused(f"{path}: 'dense_2.W' has shape (5, 4)", lambda: model_for("mse", 1, None).load_weights(path))
    refused(f"{path}: the file holds weights alone", lambda: fn.load(path))
    refused("a folder", lambda: fn.load(tmp_path))


# What changes under a model's hands.


def test_the_layers_of_a_model_are_fixed():
    model = model_for()
    for change in (
        lambda: model.layers.append(fn.Dense(3)),
        lambda: setattr(model, "layers", [fn.Input(3), fn.Dense(3)]),
    ):
        with pytest.raises(AttributeError):
            change()
    with pytest.raises(TypeError):
        model.layers[1] = fn.Dense(7)
    for name, value in {"units": 9, "inputs": 2, "activation": "tanh", "use_bias": False}.items():
        with pytest.raises(AttributeError, match=rf"dense_1\.{name} is fixed in a model; expected a new model"):
            setattr(model.layers[1], name, value)
    with pytest.raises(AttributeError, match=r"dense_1\.name is fixed"):  # parameters have their names from it
        model.layers[1].name = "dense_2"
    with pytest.raises(AttributeError, match=r"dense_1\.inputs is fixed"):
        model.layers[1].build(5)
    parameters = model.layers[1].parameters
    for change in (lambda: parameters.update(W=0), lambda: parameters.pop("W"), parameters.clear):
        with pytest.raises(TypeError, match=r'not be trained; expected parameters\["W"\]\[...\] = value'):
            change()
    with pytest.raises(TypeError, match="another array would not be trained"):
        parameters["W"] = np.ones((3, 5), np.float32)
    for copied in (copy.deepcopy(parameters), pickle.loads(pickle.dumps(parameters)), dict(parameters)):
        copied["W"] = 0 * copied["W"]  # a copy is the user's
    assert model.layers[1].parameters["W"].any()
    model.layers[1].parameters["W"][...] = 1
    assert (model.get_weights()[0] == 1).all()
    assert model.predict(X).shape == (40, 4)
    model.copy().fit(X, LABELS)


def test_what_may_change_in_a_layer_is_checked():
    model = fn.Model([fn.Input(3), fn.Dense(5), fn.Dropout(0.5), fn.Dense(4, "softmax")], seed=0)
    model.compile("adam", "cross_entropy")
    dense, dropout = model.layers[1:3]
    refused("rate is 7; expected a finite number", lambda: setattr(dropout, "rate", 7))
    refused("kernel_regularizer is 'l3'", lambda: setattr(dense, "kernel_regularizer", "l3"))
    refused("bias_constraint is 'long'", lambda: setattr(dense, "bias_constraint", "long"))
    before = model.evaluate(X, LABELS)["loss"]
    dense.kernel_regularizer = "l2"
    assert isinstance(dense.kernel_regularizer, fn.L2)
    assert model.evaluate(X, LABELS)["loss"] > before
    dropout.rate = 0
    assert dropout.rate == 0
    refused("Dense has no 'trainabel'; did you mean 'trainable'?", lambda: setattr(dense, "trainabel", False))
    hint = "Dense has no 'kernel_regulariser'; did you mean 'kernel_regularizer'?"
    refused(hint, lambda: setattr(fn.Dense(3), "kernel_regulariser", "l2"))
    for name in ("note", "names", "activation_stats", "trainable_params", "display_name", ""):
        setattr(dense, name, "of the user's own")

    class Own(fn.Dense):
        pass

    Own(3).trainabel = False


#: An attribute that a layer has elsewhere, and what the error names.
OF_A_LAYER = {
    "weight": "Dense has no 'weight'; expected W",
    "bias": "Dense has no 'bias'; expected b",
    "get_weights": "Dense has no 'get_weights'; expected W and b",
    "requires_grad": "Dense has no 'requires_grad'; expected trainable",
    "p": "Dense has no 'p'; expected rate of another layer",
}


@pytest.mark.parametrize("name", OF_A_LAYER)
def test_attributes_that_layers_have_elsewhere(name):
    dense = model_for().layers[1]
    refused(OF_A_LAYER[name], lambda: getattr(dense, name))
    refused(OF_A_LAYER[name], lambda: setattr(dense, name, 0))  # it would change nothing
    assert not hasattr(dense, name) and not hasattr(dense, "__array__")
    refused("Input has no 'weight'; expected W of another layer", lambda: model_for().layers[0].weight)

    class Own(fn.Layer):
        pass

    own = Own()
    own.weight = 0
    assert own.weight == 0
    refused("Own has no 'kernel'", lambda: own.kernel)


def test_what_may_change_in_a_model_is_checked():
    model = model_for()
    before = vars(model).copy()
    refused("threads is -1; expected a whole number", lambda: setattr(model, "threads", -1))
    refused("step is -5; expected a whole number", lambda: setattr(model, "step", -5))
    refused("epoch is None; expected a whole number", lambda: setattr(model, "epoch", None))
    for name in (3, None, ""):
        with pytest.raises(TypeError, match=rf"^name is {name!r}; expected a non-empty string$"):
            model.name = name
    with pytest.raises(TypeError, match=r"^name is 3; expected a non-empty string or None$"):
        fn.Model([fn.Input(1), fn.Dense(1)], name=3)
    refused("stop_training is 'yes'; expected True or False", lambda: setattr(model, "stop_training", "yes"))
    refused("a model has no 'stop_traning'; did you mean 'stop_training'?", lambda: setattr(model, "stop_traning", 1))
    refused("expected optimizer.learning_rate", lambda: setattr(model, "learning_rate", 0.1))
    refused("expected layer.trainable = False for each of model.layers", lambda: setattr(model, "trainable", False))
    assert vars(model) == before
    model.scale = model.x_mean = 3.0  # of the user's own
    model.y_mean = 4.0
    model.threads, model.stop_training = np.int64(1), np.True_
    assert model.copy().scale == 3 and model.threads == 1 and model.stop_training is True

    class Own(fn.Model):
        pass

    own = Own([fn.Input(3), fn.Dense(1)])
    own.learning_rate = 0.1


def test_layers_of_a_model_that_could_not_be_made_are_free():
    good = fn.Dense(4)
    with pytest.raises(ValueError, match="has shape"):
        fn.Model([fn.Input(3), good, fn.Dense(5, kernel_initializer=lambda shape, generator: np.ones(1))])
    assert fn.Model([fn.Input(3), good]).outputs == 4


def test_a_part_without_the_base_s_init_is_told():
    class Own(fn.Layer):
        def __init__(self):
            self.factor = 2

    refused(
        "layers[1]: __init__ of Own did not call super().__init__()",
        lambda: fn.Model([fn.Input(3), Own(), fn.Dense(1)]),
    )

    class Optimizer(fn.Optimizer):
        update = staticmethod(lambda w, g, slots, rate, step, settings: None)

        def __init__(self, rate):
            self.learning_rate = rate

    class Network(fn.Model):
        def __init__(self):
            self.first = fn.Dense(3)

    refused(
        "__init__ of Network did not call super().__init__(layers); expected it to",
        lambda: Network().compile("adam", "mse"),
    )
    refused(
        "optimizer: __init__ of Optimizer did not call super().__init__(); expected it to",
        lambda: model_for(optimizer=Optimizer(0.1)),
    )


def test_methods_that_nobody_would_call_are_refused():
    def network():
        class Network(fn.Model):
            def forward(self, x):
                return x

    class Doubled(fn.MeanSquaredError):
        @staticmethod
        def value(y, target):
            return 2 * (y - target) ** 2

    refused("Network.forward would never be called: a model is its layers; expected an __init__ with", network)
    refused("whose value would never be called; expected LossFunction(value, slope)", lambda: model_for(loss=Doubled()))


def test_layers_too_large_for_the_memory_are_named():
    def full(*arguments, **options):
        raise MemoryError("Unable to allocate")

    with pytest.raises(MemoryError, match=r"layers\[1\], Dense\('dense_1'\), has 3 inputs and 1,000 units: too many"):
        fn.Model([fn.Input(3), fn.Dense(1000, kernel_initializer=full)])


def test_images_of_bytes_are_told():
    generator = np.random.default_rng(0)
    images, y = generator.integers(0, 256, (20, 64), np.uint8), generator.integers(0, 2, 20)
    images[0, :2] = 0, 255

    def fit(X):
        model = fn.Model([fn.Input(X.shape[1]), fn.Dense(2, "softmax")], seed=0)
        model.compile("sgd", "cross_entropy")
        model.fit(X, y)

    for X in (images, images.astype(int)):
        with pytest.warns(UserWarning, match="X has whole numbers from 0 to 255, like images.*write X / 255") as told:
            fit(X)
        assert told[0].filename == __file__
    # A warning is an error in tests: tables of few columns, of counts, of measurements, and what is scaled.
    whole = images.astype(int)
    for X in (images[:, :63], images // 2, whole * 2, whole - 1, whole * 0.99, images / 255):
        fit(X)


@pytest.mark.parametrize("one_hot", [False, True])
def test_a_validation_split_of_sorted_rows_is_told(one_hot):
    y = np.sort(LABELS)
    targets = np.eye(4)[y] if one_hot else y
    with pytest.warns(
        UserWarning, match=r"validation_split takes the last rows of y, and no row before them is of cla"
    ):
        model_for().fit(X, targets, validation_split=0.25)
    with pytest.warns(UserWarning, match="of class 1; shuffle the rows of X and y first, or pass validation_data"):
        detector().fit(X, y // 2, validation_split=0.5)
    with pytest.warns(UserWarning, match="last rows of y, and the rows are sorted by class; shuffle"):
        model_for().fit(X, targets[::-1], validation_split=0.1)
    with pytest.warns(UserWarning, match="last rows of y, and the rows are sorted by class; shuffle"):
        detector().fit(X, y // 2, validation_split=0.1)
    model_for().fit(
        X, np.eye(4)[LABELS] if one_hot else LABELS, validation_split=0.25
    )  # a warning is an error in tests
    model_for().fit(X, np.zeros_like(LABELS), validation_split=0.25)
    with pytest.warns(UserWarning, match="last rows of y, and the rows are sorted by y; shuffle"):
        model_for("mse", 1, None).fit(X, y, validation_split=0.25)
    model_for("mse", 1, None).fit(X, LABELS, validation_split=0.25)
    detector().fit(X, np.linspace(0, 0.9, 40) + 0.1 * (LABELS == 0), validation_split=0.25)


#: name -> (what is done, words of the error).
FURTHER = {
    "Input of an image": (
        lambda: fn.Input((28, 28)),
        "expected the number of columns, such as 64 or (64,): here Input(784), and np.reshape(X, (len(X), -1))",
    ),
    "a number for a penalty": (
        lambda: fn.Dense(3, kernel_regularizer=1e-4),
        "or one of 'l1', 'l2', 'l1_l2': such as L2(0.0001)",
    ),
}


@pytest.mark.parametrize("name", FURTHER)
def test_further_errors_say_what_to_write(name):
    refused(FURTHER[name][1], FURTHER[name][0])


def test_a_weight_that_is_not_finite_is_not_a_gap_in_a_table():
    with pytest.raises(ValueError, match=r"dense_1\.W has nan in row 0, column 0; expected finite numbers$"):
        model_for().layers[1].W = np.full((3, 5), np.nan)


def test_a_metric_that_fails_is_named():
    def strict(y_true, y_pred):
        raise ValueError("shapes differ")

    with pytest.raises(ValueError, match="shapes differ") as caught:
        model_for(metrics=[strict]).fit(X, LABELS)
    (note,) = caught.value.__notes__
    assert note.startswith(
        "in the metric 'strict', for y_true of shape (40,) and y_pred of shape (40, 4), the outputs; "
    )
    assert "labels are y_pred.argmax(axis=1)" in note


def test_whole_numbers_beyond_floats_are_no_crash():
    refused("X holds objects, such as 1000", lambda: model_for().predict([[10**400, 1, 2]]))


#: numbers that floats round to their limit or beyond it, and those that they do not.
SEEDS = [2**63 - 1, np.int64(2**63 - 1), np.uint64(2**63 - 1), 2.0**62, np.float32(2**62), np.int8(3), np.float16(3)]
NO_SEEDS = [2**63, np.uint64(2**63), 2.0**63, np.float32(2**63), -1, np.int64(-1), 10**400, 2.5, np.nan, np.inf]


def test_whole_numbers_are_compared_exactly():
    def with_seed(seed):
        return fn.Model([fn.Input(1), fn.Dense(1)], seed=seed)

    for seed in SEEDS:
        given = with_seed(seed).seed
        assert given == int(seed) and type(given) is int, repr(seed)
    for seed in NO_SEEDS:
        refused(
            "expected a whole number of at least 0 and at most 9223372036854775807", lambda seed=seed: with_seed(seed)
        )


def test_a_folder_that_cannot_be_written_to_is_told_before_the_work(tmp_path, monkeypatch):
    model = model_for()
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(PermissionError, match=r"filepath is '.*m', but the folder '.*' cannot be written to"):
        model.fit(X, LABELS, callbacks=[fn.ModelCheckpoint(tmp_path / "m")])
    assert model.step == 0


def test_what_is_changed_in_an_optimizer_is_checked_and_counts():
    model = model_for()
    refused("beta_1 is 2.0; expected a finite number", lambda: setattr(model.optimizer, "beta_1", 2.0))
    refused("clip_norm is 0; expected", lambda: setattr(model.optimizer, "clip_norm", 0))
    assert model.optimizer.beta_1 == 0.9 and model.optimizer.clip_norm is None
    model.optimizer.learning_rate = 0.5
    model.optimizer.epsilon = np.float32(0.25)
    assert model.optimizer.settings() == (0.9, 0.999, 0.25, 0.0) and model.optimizer.learning_rate == 0.5
    model = model_for(optimizer=fn.SGD(0.1))
    model.optimizer.momentum = 0.9
    with pytest.raises(RuntimeError, match=r"needs 1 slots, but had 0 at compile; call model\.compile after"):
        model.fit(X, LABELS)
