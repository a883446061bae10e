"""Bad input: an error that names the argument, what came and what is expected, and a model left as it was."""

import numpy as np
import pytest

import fastnn as fn

GOOD_X = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
LABELS = np.arange(20) % 4
NUMBERS = GOOD_X[:, :2] * 0.5


def classifier(compiled=True, **options):
    model = fn.Model([fn.Input(3), fn.Dense(5, "relu"), fn.Dense(4, "softmax")], seed=0, **options)
    if compiled:
        model.compile("adam", "cross_entropy")
    return model


def detector():
    model = fn.Model([fn.Input(3), fn.Dense(2, "sigmoid")], seed=0)
    model.compile("adam", "binary_cross_entropy")
    return model


def regressor():
    model = fn.Model([fn.Input(3), fn.Dense(5, "tanh"), fn.Dense(2)], seed=0)
    model.compile("sgd", "mse")
    return model


def changed(array, place, value):
    array = np.array(array, dtype=np.result_type(array, type(value)))
    array[place] = value
    return array


class Tensor:
    """One whose numbers are on a device, say."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("no: call .cpu() first")

    def __repr__(self):
        return "a tensor"


class Sparse:
    """As SciPy has them."""

    nnz, shape = 2, (20, 3)

    def toarray(self):
        return GOOD_X


#: name -> (X, words of the message): wrong for fit, evaluate and predict alike.
BAD_X = {
    "empty": (np.empty((0, 3)), "X has no rows"),
    "empty list": ([], "X has shape (0,); expected 2-D"),
    "one dimension": (GOOD_X[0], "X has shape (3,); expected 2-D, (rows, 3); for one row write X[None, :]"),
    "three dimensions": (GOOD_X[None], "X has shape (1, 20, 3); expected 2-D"),
    "a number": (3.0, "X has shape (); expected 2-D"),
    "None": (None, "X is None; expected an array"),
    "too wide": (np.ones((20, 4)), "X has 4 columns; expected 3"),
    "too narrow": (np.ones((20, 2)), "X has 2 columns; expected 3"),
    "NaN": (changed(GOOD_X, (7, 1), np.nan), "X has nan in row 7, column 1"),
    "infinity": (changed(GOOD_X, (19, 2), -np.inf), "X has -inf in row 19, column 2"),
    "too large for float32": (changed(GOOD_X.astype(float), (4, 0), 1e300), "X has 1e+300 in row 4, column 0, which"),
    "text": (np.full((20, 3), "a"), "X holds text; expected numbers"),
    "a generator": ((row for row in GOOD_X), "X is <generator object"),
    "a dictionary": ({"a": 1}, "X is {'a': 1} (a dict); expected an array of numbers"),
    "objects": (np.full((20, 3), object()), "X holds objects, such as <object"),
    "complex": (GOOD_X + 1j, "X holds complex numbers"),
    "dates": (np.full((20, 3), np.datetime64("2020-01-01")), "X holds dates"),
    "ragged": ([[1.0, 2.0, 3.0], [1.0]], "X is ragged"),
    "a tensor that NumPy cannot read": (Tensor(), "X is a tensor (a Tensor); expected an array of numbers (no: "),
    "sparse": (Sparse(), "X is a sparse matrix; expected a dense array: pass X.toarray()"),
    "stream": (
        iter([np.ones((20, 3))]),
        "expected an array of numbers: to learn from a stream, call model.train_on_ba",
    ),
    "masked": (np.ma.masked_equal(np.ones((20, 3)), 1), "X is a masked array"),
}

#: name -> (model, y, words): wrong for fit and evaluate.
BAD_Y = {
    "missing": (classifier, None, "y is missing"),
    "too short": (classifier, LABELS[:19], "X has 20 rows and y has 19"),
    "negative label": (
        classifier,
        changed(LABELS, 3, -1),
        "y has the label -1 in row 3; expected whole numbers from 0 to 3",
    ),
    "label too large": (classifier, changed(LABELS, 5, 4), "y has the label 4 in row 5"),
    "fractional label": (classifier, changed(LABELS, 2, 0.5), "y has the label 0.5 in row 2"),
    "NaN label": (classifier, changed(LABELS, 2, np.nan), "y has nan in row 2"),
    "text labels": (classifier, np.full(20, "cat"), "y holds text"),
    "one-hot too wide": (classifier, np.eye(5)[LABELS], "y has shape (20, 5); expected labels of shape (rows,) or"),
    "one-hot sum": (classifier, np.ones((20, 4)), "y has a row of sum 4 and least number 1 in row 0; expected one-hot"),
    "one-hot negative": (classifier, np.eye(4)[LABELS] * 3 - np.eye(4)[LABELS[::-1]] * 2, "expected one-hot rows"),
    "probability above 1": (
        detector,
        changed(np.zeros((20, 2)), (6, 1), 1.5),
        "y has 1.5 in row 6; expected probabilities",
    ),
    "probability below 0": (detector, changed(np.zeros((20, 2)), (6, 0), -0.1), "y has -0.1 in row 6"),
    "infinite target": (regressor, changed(NUMBERS, (1, 1), np.inf), "y has inf in row 1, column 1"),
    "wrong number of targets": (regressor, NUMBERS[:, :1], "y has shape (20, 1); expected (rows, 2)"),
    "1-D targets": (regressor, NUMBERS[:, 0], "y has shape (20,); expected (rows, 2)"),
    "ragged targets": (regressor, [[1.0, 2.0]] * 19 + [[1.0]], "y is ragged"),
    "empty targets": (regressor, np.empty((0, 2)), "X has 20 rows and y has 0"),
}

#: name -> (arguments of fit, words).
BAD_FIT = {
    "batch_size 0": ({"batch_size": 0}, "batch_size is 0; expected a whole number of at least 1"),
    "batch_size negative": ({"batch_size": -3}, "batch_size is -3"),
    "batch_size fractional": ({"batch_size": 2.5}, "batch_size is 2.5"),
    "batch_size text": ({"batch_size": "32"}, "batch_size is '32'"),
    "batch_size None": ({"batch_size": None}, "batch_size is None"),
    "epochs 0": ({"epochs": 0}, "epochs is 0"),
    "epochs fractional": ({"epochs": 1.5}, "epochs is 1.5"),
    "epochs True": ({"epochs": True}, "epochs is True"),
    "epochs NaN": ({"epochs": float("nan")}, "epochs is nan"),
    "shuffle": ({"shuffle": "yes"}, "shuffle is 'yes'; expected True or False"),
    "verbose": ({"verbose": 3}, "verbose is 3"),
    "validation_split 1": ({"validation_split": 1.0}, "validation_split is 1.0"),
    "validation_split negative": ({"validation_split": -0.1}, "validation_split is -0.1"),
    "validation_split leaves no validation": ({"validation_split": 0.01}, "leaves no rows for validation"),
    "validation_split leaves no training": ({"validation_split": 0.99}, "leaves no rows for training"),
    "both validations": (
        {"validation_split": 0.5, "validation_data": (GOOD_X, LABELS)},
        "validation_split and validation_data were both given",
    ),
    "validation_data no pair": ({"validation_data": GOOD_X}, "expected a pair (X, y)"),
    "validation_data too wide": ({"validation_data": (np.ones((2, 4)), [0, 1])}, "validation_data[0] has 4 columns"),
    "validation_data labels": (
        {"validation_data": (GOOD_X, LABELS + 1)},
        "validation_data[1] has the label 4 in row 3",
    ),
    "validation_data NaN": ({"validation_data": (GOOD_X * np.nan, LABELS)}, "validation_data[0] has nan in row 0"),
    "weights of the rows to train on": (
        {"sample_weight": np.repeat([0.0, 1.0], 10), "validation_split": 0.5},
        "sample_weight is zero in all 10 rows for training; expected a row that counts",
    ),
    "weights of the rows to validate on": (
        {"sample_weight": np.repeat([1.0, 0.0], 10), "validation_split": 0.5},
        "sample_weight is zero in all 10 rows for validation; expected a row that counts",
    ),
    "weights of rows and classes": (
        {"sample_weight": LABELS == 0, "class_weight": {0: 0.0}},
        "sample_weight is zero in all 20 rows for training; expected a row that counts",
    ),
    "callbacks single": ({"callbacks": type("C", (), {"on_epoch_end": print})()}, "callbacks is a single callback"),
    "callbacks no callback": ({"callbacks": [3]}, "callbacks[0] is 3; expected an object with on_epoch_end"),
    "callbacks a class": (
        {"callbacks": [fn.EarlyStopping]},
        "callbacks[0] is the class EarlyStopping; expected EarlySt",
    ),
    "callbacks a number": ({"callbacks": 3}, "callbacks is 3; expected a list of callbacks"),
    "callbacks text": ({"callbacks": "early"}, "callbacks is 'early'; expected a list of callbacks"),
    "epochs beyond floats": ({"epochs": 10**400}, "epochs is 1000"),
    "class_weight an array": (
        {"class_weight": np.ones(4)},
        "class_weight is array([1., 1., 1., 1.]) (a ndarray); expec",
    ),
    "class_weight fractional label": (
        {"class_weight": {0.5: 1}},
        "class_weight has the label 0.5; expected labels fro",
    ),
}

#: name -> (what is made, words).
BAD_CONSTRUCTION = {
    "units 0": (lambda: fn.Dense(0), "units is 0"),
    "units negative": (lambda: fn.Dense(-1), "units is -1"),
    "units fractional": (lambda: fn.Dense(2.5), "units is 2.5"),
    "units text": (lambda: fn.Dense("10"), "units is '10'"),
    "units True": (lambda: fn.Dense(True), "units is True"),
    "activation misspelled": (lambda: fn.Dense(2, "rleu"), "activation is 'rleu'; expected one of"),
    "activation hint": (lambda: fn.Activation("sigmoit"), "did you mean 'sigmoid'?"),
    "activation number": (lambda: fn.Dense(2, 3), "activation is 3"),
    "initializer misspelled": (lambda: fn.Dense(2, kernel_initializer="he_norml"), "did you mean 'he_normal'?"),
    "initializer number": (lambda: fn.Dense(2, kernel_initializer=0), "kernel_initializer is 0"),
    "regularizer misspelled": (lambda: fn.Dense(2, kernel_regularizer="l3"), "kernel_regularizer is 'l3'"),
    "regularizer negative": (lambda: fn.L2(-1), "l2 is -1"),
    "regularizer NaN": (lambda: fn.L1(float("nan")), "l1 is nan"),
    "use_bias": (lambda: fn.Dense(2, use_bias=1), "use_bias is 1; expected True or False"),
    "trainable": (lambda: fn.Dense(2, trainable="no"), "trainable is 'no'"),
    "dropout 1": (lambda: fn.Dropout(1), "rate is 1; expected a finite number at least 0 and below 1"),
    "dropout negative": (lambda: fn.Dropout(-0.1), "rate is -0.1"),
    "dropout NaN": (lambda: fn.Dropout(float("nan")), "rate is nan"),
    "dropout text": (lambda: fn.Dropout("0.5"), "rate is '0.5'"),
    "Input 0": (lambda: fn.Input(0), "shape is 0"),
    "Input 2-D": (lambda: fn.Input((8, 8)), "shape is (8, 8) (a tuple); expected the number of columns"),
    "stddev negative": (lambda: fn.Normal(0, -1), "stddev is -1"),
    "uniform reversed": (lambda: fn.Uniform(1, 0), "low is 1, above high"),
    "learning_rate negative": (lambda: fn.Adam(-1e-3), "learning_rate is -0.001"),
    "learning_rate NaN": (lambda: fn.SGD(float("nan")), "learning_rate is nan"),
    "learning_rate text": (lambda: fn.SGD("fast"), "learning_rate is 'fast'"),
    "learning_rate later": (lambda: setattr(fn.SGD(), "learning_rate", np.inf), "learning_rate is inf"),
    "momentum 1": (lambda: fn.SGD(0.1, momentum=1), "momentum is 1"),
    "nesterov alone": (lambda: fn.SGD(0.1, nesterov=True), "nesterov is True but momentum is 0"),
    "beta_1": (lambda: fn.Adam(beta_1=1), "beta_1 is 1"),
    "epsilon": (lambda: fn.Adam(epsilon=0), "epsilon is 0"),
    "weight_decay": (lambda: fn.AdamW(weight_decay=-1), "weight_decay is -1"),
    "no layers": (lambda: fn.Model([]), "layers begins with nothing; expected Input"),
    "Input missing": (lambda: fn.Model([fn.Dense(2)]), "expected Input(columns of X) as the first layer"),
    "Input twice": (lambda: fn.Model([fn.Input(2), fn.Input(2), fn.Dense(1)]), "layers[1] is a second Input"),
    "Input late": (lambda: fn.Model([fn.Dense(2), fn.Input(2)]), "layers[1] is a second Input"),
    "no Dense": (lambda: fn.Model([fn.Input(2), fn.Activation("relu")]), "no Dense layer"),
    "Dropout last": (lambda: fn.Model([fn.Input(2), fn.Dense(2), fn.Dropout(0.5)]), "layers ends with a Dropout"),
    "Dropout last but for nothing": (
        lambda: fn.Model([fn.Input(2), fn.Dense(2, "tanh"), fn.Dropout(0.5), fn.Activation("linear")]),
        "layers ends with a Dropout",
    ),
    "no layer": (lambda: fn.Model([fn.Input(2), 10]), "layers[1] is 10; expected a layer"),
    "a single layer": (lambda: fn.Model(fn.Dense(2)), "expected a list of layers"),
    "a layer twice": (lambda: fn.Model([fn.Input(2)] + [fn.Dense(2)] * 2), "is in the list twice"),
    "a layer of another model": (lambda: fn.Model(classifier().layers), "belongs to another model already"),
    "equal names": (
        lambda: fn.Model([fn.Input(2), fn.Dense(2, name="a"), fn.Dense(2, name="a")]),
        "layers has 2 layers named 'a'",
    ),
    "seed negative": (
        lambda: classifier(False, dtype="float32").__class__([fn.Input(1), fn.Dense(1)], seed=-1),
        "seed is -1",
    ),
    "dtype": (lambda: classifier(dtype="float16"), "dtype is 'float16'; expected one of 'float32', 'float64'"),
    "optimizer misspelled": (
        lambda: classifier(False).compile("AdamM", "mse"),
        "optimizer is 'AdamM'; expected one of 'sgd', 'adagrad', 'rmsprop', 'adam', 'adamw', 'lbfgs'; did you mean",
    ),
    "optimizer number": (lambda: classifier(False).compile(3, "mse"), "optimizer is 3"),
    "loss missing": (lambda: classifier(False).compile("adam"), "loss is missing"),
    "loss misspelled": (lambda: classifier(False).compile("adam", "cross_entopy"), "did you mean 'cross_entropy'?"),
    "loss number": (lambda: classifier(False).compile("adam", 3), "loss is 3"),
    "metric misspelled": (lambda: classifier(False).compile("adam", "mse", ["acuracy"]), "did you mean 'accuracy'?"),
    "initializer takes too little": (
        lambda: fn.Dense(2, kernel_initializer=lambda shape: 1),
        "kernel_initializer is a function of (shape); expected a function of (shape, generator)",
    ),
    "initializer gives text": (
        lambda: fn.Model([fn.Input(2), fn.Dense(3, kernel_initializer=lambda shape, generator: "a")]),
        "dense_1.W gave holds text; expected numbers",
    ),
    "initializer gives complex numbers": (
        lambda: fn.Model([fn.Input(2), fn.Dense(3, kernel_initializer=lambda shape, generator: np.ones(shape) * 1j)]),
        "dense_1.W gave holds complex numbers",
    ),
    "initializer too large for float32": (
        lambda: fn.Model([fn.Input(2), fn.Dense(3, kernel_initializer=fn.Constant(1e300))]),
        "dense_1.W gave has 1e+300 in row 0, column 0, which is too large for float32",
    ),
    "schedule takes too much": (
        lambda: fn.SGD(lambda step, epoch: 0.1),
        "learning_rate is a function of (step, epoch); expected a function of (step)",
    ),
    "save to a number": (lambda: classifier().save(3), "path is 3; expected the path of a file"),
    "save to nowhere": (lambda: classifier().save(""), "path is '', empty; expected the path of a file"),
    "save to a folder": (lambda: classifier().save("/"), "path is '/', a folder; expected the path of a file"),
    "load a folder": (lambda: fn.load("/"), "path is '/', a folder; expected the path of a file"),
    "log to a folder": (lambda: fn.CSVLogger("/"), "filename is '/', a folder"),
    "load a number": (lambda: fn.load(3), "path is 3; expected the path of a file"),
    "metrics text": (
        lambda: classifier(False).compile("adam", "mse", "accuracy"),
        "metrics is 'accuracy'; expected a list",
    ),
    "device misspelled": (
        lambda: classifier(False).compile("adam", "mse", device="gpu"),
        "device is 'gpu'; expected one of",
    ),
    "threads 0": (lambda: classifier(False).compile("adam", "mse", threads=0), "threads is 0"),
    "threads fractional": (lambda: classifier(False).compile("adam", "mse", threads=1.5), "threads is 1.5"),
    "cross_entropy after linear": (
        lambda: regressor().compile("adam", "cross_entropy"),
        'expected activation="softmax" in the last layer, or loss=CrossEntropy(from_logits=True)',
    ),
    "cross_entropy after sigmoid": (lambda: detector().compile("adam", "cross_entropy"), "ends in 'sigmoid'"),
    "binary_cross_entropy after softmax": (
        lambda: classifier().compile("adam", "binary_cross_entropy"),
        'expected activation="sigmoid"',
    ),
    "from_logits after softmax": (
        lambda: classifier().compile("adam", fn.CrossEntropy(from_logits=True)),
        "expected logits",
    ),
    "cross_entropy with one unit": (
        lambda: fn.Model([fn.Input(1), fn.Dense(1)]).compile("adam", fn.CrossEntropy(from_logits=True)),
        "expected at least 2 classes",
    ),
    "softmax of one unit": (
        lambda: fn.Model([fn.Input(3), fn.Dense(4, "relu"), fn.Dense(1, "softmax")]),
        "layers[2], Dense('dense_2'), is a softmax of 1 unit, which yields 1 whatever comes; expected at least 2 u",
    ),
    "log_softmax of one unit": (
        lambda: fn.Model([fn.Input(3), fn.Dense(1), fn.Activation("log_softmax"), fn.Dense(2)]),
        "layers[2], Activation('activation_1'), is a log_softmax of 1 unit, which yields 0 whatever comes",
    ),
    "weights missing": (lambda: classifier().set_weights([np.ones((3, 5))]), "weights has 1 arrays; expected 4"),
    "weights by name": (
        lambda: classifier().set_weights(classifier().named_parameters()),
        "expected a list of arrays, as get_weights returns: list(weights.values())",
    ),
    "weights of a wrong shape": (
        lambda: classifier().set_weights([np.ones((3, 5)), np.ones(4), np.ones((5, 4)), np.ones(4)]),
        "dense_1.b was given an array of shape (4,); expected (5,)",
    ),
    "weights not finite": (
        lambda: setattr(classifier().layers[1], "W", np.full((3, 5), np.nan)),
        "dense_1.W has nan",
    ),
    "a weight not finite": (
        lambda: setattr(classifier().layers[1], "W", changed(np.ones((3, 5)), (2, 1), np.nan)),
        "dense_1.W has nan in row 2, column 1",
    ),
    "a bias not finite": (
        lambda: setattr(classifier().layers[1], "b", [0, 0, 0, np.nan, 0]),
        "dense_1.b has nan in row 0, column 3",
    ),
    "x of another width": (
        lambda: classifier().layers[1].forward(np.ones((2, 7))),
        "x has 7 columns; expected 3, the inputs of layer 'dense_1'",
    ),
    "dy of another width": (
        lambda: (classifier().layers[1].forward(np.ones((2, 3))), classifier().layers[0].backward(np.ones((2, 7)))),
        "dy has 7 columns; expected 3, the units of layer 'input'",
    ),
    "backward before forward": (lambda: fn.Dense(2).backward(np.ones((1, 2))), "backward of layer 'dense' came before"),
    "backward of other rows": (lambda: backward_of_other_rows(fn.Dense(2)), "dy has 3 rows; expected 2"),
    "backward of Input": (lambda: fn.Input(2).backward(np.ones((1, 3))), "dy has 3 columns; expected 2"),
    "a metric of a number": (
        lambda: fn.metrics.FunctionMetric(3),
        "function is 3; expected a function of (y_true, y_pred)",
    ),
    "moons without rows": (lambda: fn.datasets.moons(0), "n"),
}


def backward_of_other_rows(layer):
    layer.forward(np.ones((2, 1)))
    layer.backward(np.ones((3, 2)))


def refused(words, action):
    with pytest.raises((ValueError, TypeError, RuntimeError)) as caught:
        action()
    assert words in str(caught.value)


def state(model):
    return [array.tobytes() for array in (*model.get_weights(), *model.arenas.slots)] + [model.step, model.epoch]


@pytest.mark.parametrize("name", BAD_X)
def test_bad_X(name):
    X, words = BAD_X[name]
    model = classifier()
    before = state(model)
    refused(words, lambda: model.fit(X, LABELS))
    refused(words, lambda: model.train_on_batch(X, LABELS))
    refused(words, lambda: model.evaluate(X, LABELS))
    refused(words, lambda: model.gradients(X, LABELS))
    refused(words, lambda: model.predict(X))
    refused(words, lambda: model.activations(X))
    assert state(model) == before


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_labels_and_one_hot_rows_in_one_fit(optimizer):
    model, one_hot = classifier(), np.eye(4)[LABELS]
    model.compile(optimizer, "cross_entropy")
    before = state(model)
    for y, other, words in (
        (LABELS, one_hot, "validation_data[1] has one-hot rows, but y has labels"),
        (one_hot, LABELS, "validation_data[1] has labels, but y has one-hot rows"),
    ):
        refused(words, lambda y=y, other=other: model.fit(GOOD_X, y, validation_data=(GOOD_X, other)))
        assert state(model) == before
    losses = [model.fit(GOOD_X, y, validation_data=(GOOD_X, y))["val_loss"] for y in (LABELS, one_hot) if reset(model)]
    np.testing.assert_allclose(*losses, rtol=1e-5)


def reset(model):
    """The model as it began."""
    model.set_weights(classifier().get_weights())
    model.compile(model.optimizer, model.loss)
    return True


@pytest.mark.parametrize("name", BAD_Y)
def test_bad_y(name):
    make, y, words = BAD_Y[name]
    model = make()
    before = state(model)
    refused(words, lambda: model.fit(GOOD_X, y))
    refused(words, lambda: model.train_on_batch(GOOD_X, y))
    refused(words, lambda: model.evaluate(GOOD_X, y))
    refused(words, lambda: model.gradients(GOOD_X, y))
    assert state(model) == before


@pytest.mark.parametrize("name", BAD_FIT)
def test_bad_arguments_of_fit(name):
    arguments, words = BAD_FIT[name]
    model = classifier()
    before = state(model)
    refused(words, lambda: model.fit(GOOD_X, LABELS, **arguments))
    assert state(model) == before


@pytest.mark.parametrize("name", BAD_CONSTRUCTION)
def test_bad_construction(name):
    action, words = BAD_CONSTRUCTION[name]
    refused(words, action)


def test_what_comes_before_compile():
    model = classifier(compiled=False)
    for action in (model.fit, model.evaluate, model.train_on_batch, model.gradients):
        refused("came before compile; call model.compile", lambda action=action: action(GOOD_X, LABELS))


def test_a_refused_compile_leaves_the_model_compiled_as_it_was():
    model = classifier()
    model.fit(GOOD_X, LABELS)
    before = state(model)
    refused("ends in 'softmax'", lambda: model.compile("sgd", "binary_cross_entropy"))
    assert state(model) == before
    model.fit(GOOD_X, LABELS)


def test_weights_refused_in_the_middle_leave_all_as_they_were():
    model = classifier()
    before = state(model)
    refused("dense_2.b", lambda: model.set_weights([*map(np.zeros_like, model.get_weights()[:3]), np.ones(7)]))
    assert state(model) == before


def test_labels_for_a_metric_of_numbers():
    model = classifier(compiled=False)
    model.compile("adam", "cross_entropy", ["mse"])
    refused("metrics has 'mse'", lambda: model.fit(GOOD_X, LABELS))
    model.fit(GOOD_X, np.eye(4)[LABELS])


def test_environment_is_checked(monkeypatch):
    monkeypatch.setenv("FASTNN_DEVICE", "tpu")
    refused("the environment variable FASTNN_DEVICE is 'tpu'", classifier)
    monkeypatch.setenv("FASTNN_DEVICE", "cpu")
    monkeypatch.setenv("FASTNN_THREADS", "two")
    refused("FASTNN_THREADS is 'two'", lambda: classifier().fit(GOOD_X, LABELS))


def test_none_stands_for_no_metrics_and_no_callbacks():
    model = classifier(compiled=False)
    model.compile("adam", "cross_entropy", None)
    assert model.metrics == () and list(model.fit(GOOD_X, LABELS, callbacks=None)) == ["loss"]


def test_numbers_that_round_to_zero_are_no_error_where_numpy_s_are():
    tiny, y = np.full((20, 3), 1e-50), np.full(20, 1e-60)
    model = fn.Model([fn.Input(3), fn.Dense(2, kernel_regularizer=fn.L2(1e-4)), fn.Dense(1)], seed=0)
    model.compile("sgd", "mse")
    with np.errstate(all="raise"):
        model.fit(tiny, y, verbose=0)
        model.evaluate(tiny, y, verbose=0)
        model.set_weights([np.full(array.shape, 1e-41) for array in model.get_weights()])
        assert model.predict(tiny[:1]).shape == (1, 1) and model.predict(tiny).shape == (20, 1)
        assert (model.gradients(tiny, y)["dense_1.W"] >= 0).all()


def test_labels_may_be_whole_floats():
    found = []
    for label in (1, 1.0, np.int8(1), np.float32(1)):
        model = classifier()
        model.fit(GOOD_X, LABELS.astype(type(label)), class_weight={label: 3.0})
        found.append(model.get_weights()[0].tobytes())
    assert len(set(found)) == 1


def test_labels_may_be_truth_values():
    found = []
    for label in (1, True, np.True_):
        model = classifier()
        model.fit(GOOD_X, LABELS == 1, class_weight={label: 3.0})
        found.append(model.get_weights()[0].tobytes())
    assert len(set(found)) == 1


@pytest.mark.parametrize(
    "part",
    [
        lambda text: fn.Dense(2, activation=text("relu")).activation,
        lambda text: repr(fn.Dense(2, kernel_initializer=text("he_normal")).kernel_initializer),
        lambda text: repr(fn.Dense(2, kernel_regularizer=text("l2"), bias_regularizer=text("l1")).bias_regularizer),
        lambda text: repr(fn.Dense(2, kernel_constraint=text("max_norm")).kernel_constraint),
        lambda text: repr(fn.optimizers.get("optimizer", text("rmsprop"))),
        lambda text: repr(fn.SGD(text("cosine")).learning_rate),
        lambda text: repr(fn.losses.get("loss", text("mse"))),
        lambda text: repr(fn.metrics.get("metrics", [text("f1")])),
    ],
)
def test_strings_in_any_case_and_the_nearest_where_one_is_misspelled(part):
    assert part(str) == part(str.upper) == part(str.title)
    with pytest.raises(ValueError, match="did you mean '"):
        part(lambda text: text + "x")


def test_what_compile_chose_is_changed_by_compile_alone():
    model = classifier()
    for name, value in (("optimizer", fn.SGD()), ("loss", fn.losses.get("loss", "mse")), ("metrics", ())):
        with pytest.raises(AttributeError):
            setattr(model, name, value)
    model.fit(GOOD_X, LABELS)
    model.compile("sgd", "cross_entropy")
    model.optimizer.update, model.optimizer.slots = "adam", 2  # one that would write where there is nothing
    refused("needs 2 slots, but had 0 at compile", lambda: model.fit(GOOD_X, LABELS))
    with pytest.raises(AttributeError, match=r"no optimizer yet; call model\.compile"):
        print(classifier(compiled=False).optimizer)


@pytest.mark.parametrize("action", ["fit", "compile"])
def test_a_callback_cannot_fit_or_compile_the_model_that_is_trained(action):
    model = classifier()
    act = {"fit": lambda: model.fit(GOOD_X, LABELS), "compile": lambda: model.compile("sgd", "cross_entropy")}[action]
    calls = [fn.LambdaCallback(on_epoch_end=lambda epoch, logs: act())]
    refused(f"{action} came during fit of this model", lambda: model.fit(GOOD_X, LABELS, callbacks=calls))
    again = [fn.LambdaCallback(on_epoch_end=lambda epoch, logs: [refused(f"{action} came during", act) for _ in "12"])]
    model.fit(GOOD_X, LABELS, callbacks=again)  # what was refused has not opened the model for the next
    twins = []
    calls = [fn.LambdaCallback(on_epoch_end=lambda epoch, logs: twins.append(model.copy()))]
    model.fit(GOOD_X, LABELS, callbacks=calls)
    twins[0].fit(GOOD_X, LABELS)  # a copy is free
    act()  # and so is the model
