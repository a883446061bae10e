"""fastnn: dense networks, trained fast.

``import fastnn`` is quick: names are looked up when they are first used, and the compiler is imported with
the first model.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # "as" tells them that a name is for users
    from . import (
        callbacks as callbacks,
        constraints as constraints,
        datasets as datasets,
        estimators as estimators,
        files as files,
        gradient_check as gradient_check,
        history as history,
        inference as inference,
        initializers as initializers,
        layers as layers,
        losses as losses,
        metrics as metrics,
        model as model,
        optimizers as optimizers,
        own_functions as own_functions,
        plan as plan,
        plots as plots,
        regularizers as regularizers,
        schedules as schedules,
        scores as scores,
    )
    from .callbacks import (
        Callback as Callback,
        CSVLogger as CSVLogger,
        EarlyStopping as EarlyStopping,
        LambdaCallback as LambdaCallback,
        ModelCheckpoint as ModelCheckpoint,
        ReduceLROnPlateau as ReduceLROnPlateau,
        TimeLimit as TimeLimit,
    )
    from .constraints import MaxNorm as MaxNorm
    from .files import ModelFileError as ModelFileError
    from .gradient_check import GradientReport as GradientReport
    from .history import History as History
    from .initializers import (
        Constant as Constant,
        GlorotNormal as GlorotNormal,
        GlorotUniform as GlorotUniform,
        HeNormal as HeNormal,
        HeUniform as HeUniform,
        Initializer as Initializer,
        LecunNormal as LecunNormal,
        LecunUniform as LecunUniform,
        Normal as Normal,
        Orthogonal as Orthogonal,
        Uniform as Uniform,
        Zeros as Zeros,
    )
    from .layers import Activation as Activation, Dense as Dense, Dropout as Dropout, Input as Input, Layer as Layer
    from .losses import (
        BinaryCrossEntropy as BinaryCrossEntropy,
        CrossEntropy as CrossEntropy,
        Huber as Huber,
        Loss as Loss,
        LossFunction as LossFunction,
        MeanAbsoluteError as MeanAbsoluteError,
        MeanSquaredError as MeanSquaredError,
        Quantile as Quantile,
        RowLoss as RowLoss,
    )
    from .metrics import Metric as Metric
    from .model import Model as Model, load as load
    from .optimizers import (
        LBFGS as LBFGS,
        SGD as SGD,
        Adagrad as Adagrad,
        Adam as Adam,
        AdamW as AdamW,
        Optimizer as Optimizer,
        RMSprop as RMSprop,
    )
    from .own_functions import ActivationFunction as ActivationFunction
    from .regularizers import L1 as L1, L1L2 as L1L2, L2 as L2, Penalty as Penalty, Regularizer as Regularizer
    from .schedules import (
        ConstantRate as ConstantRate,
        CosineDecay as CosineDecay,
        ExponentialDecay as ExponentialDecay,
        OneCycle as OneCycle,
        PiecewiseConstantDecay as PiecewiseConstantDecay,
        Schedule as Schedule,
        StepDecay as StepDecay,
        Warmup as Warmup,
    )

__version__ = "0.1.0"

#: The public names at the top, by the modules that they live in.
_HOMES = {
    "files": "ModelFileError",
    "callbacks": "CSVLogger Callback EarlyStopping LambdaCallback ModelCheckpoint ReduceLROnPlateau TimeLimit",
    "constraints": "MaxNorm",
    "gradient_check": "GradientReport",
    "history": "History",
    "initializers": "Constant GlorotNormal GlorotUniform HeNormal HeUniform Initializer "
    "LecunNormal LecunUniform Normal Orthogonal Uniform Zeros",
    "layers": "Activation Dense Dropout Input Layer",
    "losses": "BinaryCrossEntropy CrossEntropy Huber Loss LossFunction MeanAbsoluteError MeanSquaredError "
    "Quantile RowLoss",
    "model": "Model load",
    "metrics": "Metric",
    "optimizers": "LBFGS SGD Adagrad Adam AdamW Optimizer RMSprop",
    "own_functions": "ActivationFunction",
    "schedules": "ConstantRate CosineDecay ExponentialDecay OneCycle PiecewiseConstantDecay Schedule StepDecay Warmup",
    "regularizers": "L1 L1L2 L2 Penalty Regularizer",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

_MODULES = (*_HOMES, "datasets", "inference", "plan", "plots", "scores")

#: Public, too, but they need packages that fastnn does without, so that "import *" leaves them out.
_FURTHER_MODULES = ("estimators",)

__all__ = [*_HOME_OF, *_MODULES, "__version__"]  # noqa: PLE0604

_folder = Path(__file__).parent
if not (_folder / "kernels").is_dir():
    # A checkout without symbolic links (Windows): the kernels lie beside this folder.
    __path__.append(str(_folder.parent))


if not TYPE_CHECKING:  # which else would take any name for known

    def __getattr__(name: str) -> Any:
        if name in _HOME_OF:
            value = getattr(importlib.import_module(f".{_HOME_OF[name]}", __name__), name)
        elif name in _MODULES or name in _FURTHER_MODULES:
            value = importlib.import_module(f".{name}", __name__)
        else:
            raise _missing(name, sys._getframe(1).f_code.co_name == "_handle_fromlist")
        globals()[name] = value
        return value


def _missing(name: str, imported: bool) -> Exception:
    """The error about a name not here. "from fastnn import name" would swallow the text of an AttributeError."""
    from importlib.util import find_spec

    from .elsewhere import instead

    hint = instead(name, __all__)
    if imported and hint and find_spec(f"{__name__}.{name}") is None:
        return ImportError(f"cannot import name {name!r} from 'fastnn'{hint}")
    return AttributeError(f"module 'fastnn' has no attribute {name!r}{hint}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
