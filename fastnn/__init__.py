"""fastnn: dense networks, trained fast.

``import fastnn`` is quick: names are looked up when they are first used, and the compiler is imported with
the first model.
"""

from __future__ import annotations

import importlib
import sys
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
        from importlib.util import find_spec

        from .elsewhere import instead

        hint = instead(name, __all__)
        # "from fastnn import name" would swallow the text of an AttributeError.
        if hint and sys._getframe(1).f_code.co_name == "_handle_fromlist" and find_spec(f"{__name__}.{name}") is None:
            raise ImportError(f"cannot import name {name!r} from 'fastnn'{hint}")
        raise AttributeError(f"module 'fastnn' has no attribute {name!r}{hint}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
