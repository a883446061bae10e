"""Names of other libraries, and what stands here for them."""

from __future__ import annotations

from collections.abc import Iterable

from .checks import nearest

__all__ = ["instead", "instead_in_model"]

MODEL, LOGITS = "fn.Model([fn.Input(64), fn.Dense(10)])", "(from_logits=True)"

#: Functions and classes, some in lower case.
NAMES = {
    **dict.fromkeys(("Sequential", "MLPClassifier", "MLPRegressor", "Module"), MODEL),
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
    **dict.fromkeys(("lr", "learning_rate"), "optimizer.learning_rate"),
    **dict.fromkeys(("trainable_variables", "variables"), "named_parameters() or get_weights()"),
    **dict.fromkeys(("get_config", "to_json", "save_model"), "save(path)"),
    "zero_grad": "nothing: fit and train_on_batch begin with new gradients",
    "plot": "history.plot()",
    "loss_curve_": 'history["loss"]',
    "n_iter_": "epoch",
    **dict.fromkeys(
        ("classes_", "get_params", "set_params"),
        "an estimator around the model: docs/how-to/from_scikit_learn.md of the source has one",
    ),
    **dict.fromkeys(("get_layer", "coefs_"), "layers[1] of the layers, which begin with the Input, and its W and b"),
}


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
