"""fastnn: dense networks, trained fast.

``import fastnn`` is quick: names are looked up when they are first used, and the compiler is imported with
the first model.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import (
        callbacks,
        constraints,
        datasets,
        files,
        history,
        initializers,
        layers,
        losses,
        metrics,
        model,
        optimizers,
        own_functions,
        plan,
        plots,
        regularizers,
        schedules,
        scores,
    )
    from .callbacks import (
        Callback,
        CSVLogger,
        EarlyStopping,
        LambdaCallback,
        ModelCheckpoint,
        ReduceLROnPlateau,
        TimeLimit,
    )
    from .constraints import MaxNorm
    from .files import ModelFileError
    from .gradient_check import GradientReport
    from .history import History
    from .initializers import (
        Constant,
        GlorotNormal,
        GlorotUniform,
        HeNormal,
        HeUniform,
        Initializer,
        LecunNormal,
        LecunUniform,
        Normal,
        Orthogonal,
        Uniform,
        Zeros,
    )
    from .layers import Activation, Dense, Dropout, Input, Layer
    from .losses import (
        BinaryCrossEntropy,
        CrossEntropy,
        Huber,
        Loss,
        LossFunction,
        MeanAbsoluteError,
        MeanSquaredError,
        Quantile,
    )
    from .metrics import Metric
    from .model import Model, load
    from .optimizers import LBFGS, SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop
    from .own_functions import ActivationFunction
    from .regularizers import L1, L1L2, L2, Penalty, Regularizer
    from .schedules import (
        ConstantRate,
        CosineDecay,
        ExponentialDecay,
        OneCycle,
        PiecewiseConstantDecay,
        Schedule,
        StepDecay,
        Warmup,
    )

__version__ = "0.1.0"

_MODULES = (
    "files",
    "callbacks",
    "constraints",
    "datasets",
    "history",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "model",
    "optimizers",
    "own_functions",
    "plan",
    "plots",
    "regularizers",
    "schedules",
    "scores",
)

_HOMES = {
    "files": ("ModelFileError",),
    "callbacks": (
        "CSVLogger",
        "Callback",
        "EarlyStopping",
        "LambdaCallback",
        "ModelCheckpoint",
        "ReduceLROnPlateau",
        "TimeLimit",
    ),
    "constraints": ("MaxNorm",),
    "gradient_check": ("GradientReport",),
    "history": ("History",),
    "initializers": (
        "Constant",
        "GlorotNormal",
        "GlorotUniform",
        "HeNormal",
        "HeUniform",
        "Initializer",
        "LecunNormal",
        "LecunUniform",
        "Normal",
        "Orthogonal",
        "Uniform",
        "Zeros",
    ),
    "layers": ("Activation", "Dense", "Dropout", "Input", "Layer"),
    "losses": (
        "BinaryCrossEntropy",
        "CrossEntropy",
        "Huber",
        "Loss",
        "LossFunction",
        "MeanAbsoluteError",
        "MeanSquaredError",
        "Quantile",
    ),
    "model": ("Model", "load"),
    "metrics": ("Metric",),
    "optimizers": ("LBFGS", "SGD", "Adagrad", "Adam", "AdamW", "Optimizer", "RMSprop"),
    "own_functions": ("ActivationFunction",),
    "schedules": (
        "ConstantRate",
        "CosineDecay",
        "ExponentialDecay",
        "OneCycle",
        "PiecewiseConstantDecay",
        "Schedule",
        "StepDecay",
        "Warmup",
    ),
    "regularizers": ("L1", "L1L2", "L2", "Penalty", "Regularizer"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [*_HOME_OF, *_MODULES, "__version__"]  # noqa: PLE0604

_folder = Path(__file__).parent
if not (_folder / "kernels").is_dir():
    # A checkout without symbolic links (Windows): the kernels lie beside this folder.
    __path__.append(str(_folder.parent))


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        value = getattr(importlib.import_module(f".{_HOME_OF[name]}", __name__), name)
    elif name in _MODULES:
        value = importlib.import_module(f".{name}", __name__)
    else:
        raise AttributeError(f"module 'fastnn' has no attribute {name!r}{_instead(name)}")
    globals()[name] = value
    return value


def _instead(name: str) -> str:
    """What to take for a name that other libraries have."""
    from .checks import nearest

    model, logits = "fn.Model([fn.Input(64), fn.Dense(10)])", "(from_logits=True)"
    ours = {
        **dict.fromkeys(("Sequential", "MLPClassifier", "MLPRegressor", "Module"), model),
        "Linear": "fn.Dense(units)",
        "Flatten": "np.reshape(X, (len(X), -1))",
        "BCELoss": "fn.BinaryCrossEntropy()",
        "BinaryCrossentropy": "fn.BinaryCrossEntropy()",
        "BCEWithLogitsLoss": f"fn.BinaryCrossEntropy{logits}",
        "CategoricalCrossentropy": "fn.CrossEntropy()",
        "SparseCategoricalCrossentropy": "fn.CrossEntropy()",
        "CrossEntropyLoss": f"fn.CrossEntropy{logits}",
        "MSELoss": "fn.MeanSquaredError()",
        "L1Loss": "fn.MeanAbsoluteError()",
        "RandomNormal": "fn.Normal(0, stddev)",
        "RandomUniform": "fn.Uniform(low, high)",
        "LearningRateScheduler": "a schedule, as in fn.Adam(fn.CosineDecay(1e-3))",
        "DataLoader": "model.fit(X, y, batch_size=32)",
        "load_model": "fn.load(path)",
    }
    for activation in "relu leaky_relu elu selu gelu silu sigmoid tanh softmax softplus softsign".split():
        ours[activation.replace("_", "")] = f'fn.Activation("{activation}")'
    found = ours.get(name) or ours.get(name.lower())
    if found:
        return f"; expected {found}"
    missing = "Conv MaxPool AveragePool AvgPool Global BatchNorm LayerNorm GroupNorm LSTM GRU RNN SimpleRNN Embedding"
    if name.startswith((*missing.split(), "Attention", "MultiHead", "Transformer", "Bidirectional", "Concatenate")):
        return ": fastnn trains dense networks only: docs/explanation/not_for.md of its source tells what to take"
    return nearest(name, __all__)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
