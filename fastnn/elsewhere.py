"""Names of other libraries, and what stands here for them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from typing import Any

from .checks import nearest

MODEL, LOGITS = "fn.Model([fn.Input(64), fn.Dense(10)])", "(from_logits=True)"

#: Functions and classes, some in lower case.
NAMES = {
    **dict.fromkeys(("Sequential", "Module"), MODEL),
    **{name: f"fn.estimators.{name}, or {MODEL}" for name in ("MLPClassifier", "MLPRegressor")},
    "Linear": "fn.Dense(units)",
    "Flatten": "np.reshape(X, (len(X), -1))",
    "BCELoss": "fn.BinaryCrossEntropy()",
    "BinaryCrossentropy": "fn.BinaryCrossEntropy()",
    "BCEWithLogitsLoss": f"fn.BinaryCrossEntropy{LOGITS}",
    "CategoricalCrossentropy": "fn.CrossEntropy()",
    "SparseCategoricalCrossentropy": "fn.CrossEntropy()",
    "CrossEntropyLoss": f"fn.CrossEntropy{LOGITS}",
    "MSELoss": "fn.MeanSquaredError()",
    "L1Loss": "fn.MeanAbsoluteError()",
    "RandomNormal": "fn.Normal(0, stddev)",
    "RandomUniform": "fn.Uniform(low, high)",
    "LearningRateScheduler": "a schedule, as in fn.Adam(fn.CosineDecay(1e-3))",
    "DataLoader": "model.fit(X, y, batch_size=32)",
    "load_model": "fn.load(path)",
    "save": "model.save(path)",
    "to_categorical": "the labels as they are, or np.eye(classes)[y]",
    "StandardScaler": "(X - X.mean(axis=0)) / X.std(axis=0)",
    "train_test_split": "model.fit(X, y, validation_split=0.2)",
    **dict.fromkeys(("seed", "set_seed", "manual_seed", "set_random_seed"), "fn.Model(layers, seed=0)"),
    "StepLR": "fn.Adam(fn.StepDecay(1e-3, decay_steps, decay_rate))",
    "CosineAnnealingLR": "fn.Adam(fn.CosineDecay(1e-3))",
    "OneCycleLR": "fn.Adam(fn.OneCycle(0.01))",
    "nn": "fn.Model, fn.Dense, fn.Dropout ... themselves",
    "optim": "fn.SGD, fn.Adam, fn.AdamW ... themselves",
    "MSE": "fn.MeanSquaredError()",
    "MAE": "fn.MeanAbsoluteError()",
    **{
        name.replace("_", ""): f'fn.Activation("{name}")'
        for name in "relu leaky_relu elu selu gelu silu sigmoid tanh softmax softplus softsign".split()
    },
}

#: Beginnings of the names of what has no counterpart here.
MISSING = tuple(
    "Conv MaxPool AveragePool AvgPool Global BatchNorm LayerNorm GroupNorm LSTM GRU RNN SimpleRNN Embedding Attention "
    "MultiHead Transformer Bidirectional Concatenate".split()
)

#: Methods and attributes of a model.
OF_MODEL = {
    "add": "all layers in a list, as in Model([Input(64), Dense(10)])",
    "predict_proba": "predict(X), which after a sigmoid or a softmax gives probabilities",
    "predict_classes": "predict(X).argmax(axis=1)",
    "predict_on_batch": "predict(X)",
    "test_on_batch": "evaluate(X, y)",
    "partial_fit": "train_on_batch(X, y)",
    "score": 'evaluate(X, y)["accuracy"], with metrics=["accuracy"] in compile',
    **dict.fromkeys(("forward", "train", "eval"), "fit(X, y) to train, and predict(X), which leaves dropout out"),
    **dict.fromkeys(
        ("parameters", "weights", "trainable_weights", "state_dict"), "named_parameters() or get_weights()"
    ),
    "load_state_dict": "set_weights(weights) or load_weights(path)",
    "backward": "gradients(X, y)",
    "input_gradients": "jacobian(X)",
    **dict.fromkeys(("lr", "learning_rate"), "optimizer.learning_rate"),
    "trainable": "layer.trainable = False for each of model.layers",
    **dict.fromkeys(("trainable_variables", "variables"), "named_parameters() or get_weights()"),
    **dict.fromkeys(("get_config", "to_json", "save_model"), "save(path)"),
    "zero_grad": "nothing: fit and train_on_batch begin with new gradients",
    "plot": "history.plot()",
    "loss_curve_": 'history["loss"]',
    "n_iter_": "epoch",
    **dict.fromkeys(
        ("classes_", "get_params", "set_params"),
        "fn.estimators.MLPClassifier or MLPRegressor, which has a model inside",
    ),
    **dict.fromkeys(("get_layer", "coefs_"), "layers[1] of the layers, which begin with the Input, and its W and b"),
}

#: Attributes and methods of a layer, and those of ours that are meant.
OF_LAYER = {
    **dict.fromkeys(("weight", "kernel"), "W"),
    "bias": "b",
    **dict.fromkeys(("weights", "get_weights", "set_weights", "trainable_weights", "variables"), "W and b"),
    "grad": "dW and db",
    **dict.fromkeys(("requires_grad", "frozen"), "trainable"),
    **dict.fromkeys(("out_features", "output_dim", "output_shape"), "units"),
    **dict.fromkeys(("in_features", "input_dim", "input_shape"), "inputs"),
    "p": "rate",
}

#: Arguments, and those of ours that are meant: the first that a call has.
ARGUMENTS = {
    **dict.fromkeys(("lr", "eta"), ("learning_rate", "initial_learning_rate", "maximum_learning_rate")),
    "max_lr": ("maximum_learning_rate",),
    "eps": ("epsilon",),
    "betas": ("beta_1 and beta_2",),
    "alpha": ("rho",),
    **dict.fromkeys(("gamma", "factor"), ("decay_rate", "rho")),
    **dict.fromkeys(("T_max", "step_size"), ("decay_steps", "learning_rate")),
    "pct_start": ("rise",),
    "div_factor": ("start_divisor",),
    "final_div_factor": ("end_divisor",),
    "max_grad_norm": ("clip_norm",),
    **dict.fromkeys(("momentum", "nesterovs_momentum"), ("solver=fn.SGD(0.001, momentum=0.9, nesterov=True)",)),
    **dict.fromkeys(("beta_1", "beta_2", "epsilon"), ("solver=fn.Adam(0.001, beta_1=0.9)",)),
    **dict.fromkeys(("learning_rate", "power_t"), ("solver=fn.SGD(schedule) or learning_rate_init",)),
    **dict.fromkeys(("max_iter", "n_iter", "nb_epoch", "iterations"), ("epochs",)),
    **dict.fromkeys(("batch", "bs"), ("batch_size",)),
    "validation_fraction": ("validation_split",),
    **dict.fromkeys(("val_data", "eval_set"), ("validation_data",)),
    "tol": ("tolerance",),
    **dict.fromkeys(("criterion", "objective"), ("loss",)),
    "random_state": ("seed",),
    **dict.fromkeys(("out_features", "output_dim", "size"), ("units",)),
    **dict.fromkeys(("nonlinearity", "act"), ("activation",)),
    "bias": ("use_bias",),
    **dict.fromkeys(("weight_initializer", "init"), ("kernel_initializer",)),
    **dict.fromkeys(("regularizer", "weight_regularizer", "l1", "l2"), ("kernel_regularizer",)),
    **dict.fromkeys(("p", "prob", "probability", "drop_prob", "dropout"), ("rate",)),
    **dict.fromkeys(("in_features", "input_dim", "input_size", "units", "columns"), ("shape",)),
    **dict.fromkeys(("std", "sigma", "scale"), ("stddev",)),
    **dict.fromkeys(("minval", "a"), ("low",)),
    **dict.fromkeys(("maxval", "b"), ("high",)),
    "max_norm": ("max_value",),
    **dict.fromkeys(("l", "lambda_", "rate"), ("l1", "l2")),
    "beta": ("delta",),
}

#: Arguments that no call has here, and what to write instead.
OF_OTHER_CALLS = {
    "weight_decay": "kernel_regularizer=fn.L2(weight_decay / 2) in the layers, or fn.AdamW",
    **dict.fromkeys(
        ("in_features", "input_dim", "input_shape", "input_size"), "fn.Input(columns) as the model's first layer"
    ),
    **dict.fromkeys(("seed", "random_state"), "fn.Model(layers, seed=0)"),
    "early_stopping": "callbacks=[fn.EarlyStopping()]",
    **dict.fromkeys(
        ("weight", "pos_weight", "class_weight", "class_weights", "loss_weights"),
        "class_weight or sample_weight in fit",
    ),
    **dict.fromkeys(("validation_batch_size", "validation_steps"), "none: all rows of the validation data count"),
    "hidden_layer_sizes": "a list of layers, such as [fn.Input(64), fn.Dense(32), fn.Dense(10)]",
}


#: What an error about an argument that a call lacks goes on to say.
NEEDED = {"slope": ", with the derivative of value: fastnn does not differentiate functions"}


def instead(name: str, ours: Iterable[str]) -> str:
    """What an error about a name that fastnn does not have goes on to say; ours : the names that it has."""
    found = NAMES.get(name) or NAMES.get(name.lower())
    if found:
        return f"; expected {found}"
    if name.startswith(MISSING):
        return ": fastnn trains dense networks only: docs/explanation/not_for.md of its source tells what to take"
    return nearest(name, ours)


def instead_in_model(name: str, ours: Iterable[str]) -> str:
    """The same for a method or an attribute of a model."""
    if name in OF_MODEL:
        return f"; expected {OF_MODEL[name]}"
    if name.startswith("_"):  # copies and pickles ask for such names
        return ""
    return nearest(name, [known for known in ours if not known.startswith("_")])


def instead_in_layer(name: str, ours: Iterable[str]) -> str:
    """The same for a method or an attribute of a layer."""
    if name not in OF_LAYER:
        return ""
    found = OF_LAYER[name]
    return f"; expected {found}" + ("" if re.split("[ ,]", found)[0] in ours else " of another layer")


def instead_in_call(name: str, ours: Iterable[str]) -> str:
    """The same for an argument of a call, or the arguments that it has."""
    ours = list(ours)
    meant = [known for known in ARGUMENTS.get(name, ()) if re.split("[ =]", known)[0] in ours]
    if meant or name in OF_OTHER_CALLS:
        return f"; expected {(meant or [OF_OTHER_CALLS[name]])[0]}"
    return nearest(name, ours) or (f"; expected {', '.join(ours)}" if ours else "")


def missing_from(module: str) -> Callable[[str], Any]:
    """``__getattr__`` of a module: the error about a name that it does not have."""

    def missing(name: str) -> Any:
        ours = getattr(sys.modules[module], "__all__", ())
        hint = "" if name.startswith("__") else instead(name, ours)
        raise AttributeError(f"module {module!r} has no attribute {name!r}{hint}")

    return missing
