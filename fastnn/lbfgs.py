"""L-BFGS: full-batch training with an estimate of the curvature, for small data; through SciPy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .epochs import EndOfEpoch, losses_text
from .layers import Dropout
from .optimizers import LBFGS

if TYPE_CHECKING:
    from .model import Model
    from .training import Trainer


def check(model: Model) -> None:
    """Raise an error where L-BFGS cannot train the model: it needs one smooth function, the same at every call."""
    try:
        import scipy.optimize  # noqa: F401
    except ImportError:
        raise ImportError(
            'the optimizer "lbfgs" needs SciPy, which is not installed: python -m pip install "fastnn[scipy]"'
        ) from None
    if model.count_parameters()[1] == 0:
        raise ValueError("the optimizer is LBFGS, but no layer is trainable; expected parameters to train")
    for layer in model.layers:
        if isinstance(layer, Dropout) and layer.rate > 0:
            raise ValueError(
                f"the optimizer is LBFGS, but layer {layer.name!r} drops other units at every call; expected a model "
                'without Dropout, or an optimizer such as "adam"'
            )
        for key in ("kernel", "bias"):
            if getattr(getattr(layer, f"{key}_regularizer", None), "l1", 0.0) > 0:
                raise ValueError(
                    f"the optimizer is LBFGS, but layer {layer.name!r} has an L1 penalty, which is not smooth; "
                    'expected L2, or an optimizer such as "adam"'
                )
            if getattr(layer, f"{key}_constraint", None) is not None:
                raise ValueError(
                    f"the optimizer is LBFGS, but layer {layer.name!r} has a constraint; expected none, or an "
                    'optimizer such as "adam"'
                )


def minimize(trainer: Trainer, end_epoch: EndOfEpoch) -> None:
    """Train by L-BFGS (Liu & Nocedal 1989); one iteration counts as one epoch.

    It ends after the trainer's epochs, where the gradient's norm is at most its tolerance, where no step makes the loss
    smaller any more, or where a callback says so. Where already the first step does not, or the gradient is that small
    at the start, one epoch is reported and no step counted. Raises a FloatingPointError where the loss is not finite;
    the model then has the weights of the last iteration.
    """
    from scipy.optimize import minimize

    model, plan = trainer.model, trainer.runner.plan
    assert isinstance(model.optimizer, LBFGS)
    places = np.concatenate([np.arange(p.offset, p.offset + p.size) for p in plan.parameters])
    double_l2 = np.concatenate(
        [np.full(p.size, 2 * plan.options[p.penalty + 1] if p.penalty >= 0 else 0.0) for p in plan.parameters]
    )
    accepted = model.arenas.parameters[places].astype(np.float64)
    last: dict[str, Any] = {}
    begun = -1

    def loss_and_gradient(weights: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal begun
        if begun < end_epoch.finished:
            begun = end_epoch.finished
            end_epoch.callbacks.notify("on_epoch_begin", begun)
        end_epoch.interrupt.check()
        if not np.array_equal(weights, last.get("weights", ())):
            with np.errstate(over="ignore"):  # the engine tells what is not finite
                model.arenas.parameters[places] = weights
            results = trainer.whole_batch(
                f"iteration {end_epoch.finished + 1}; the model keeps the weights of before that iteration. "
                "Standardized inputs and, of a regression, targets usually help"
            )
            with np.errstate(over="ignore", invalid="ignore"):  # which leads to weights that the engine tells of
                gradient = model.arenas.gradients[places] + double_l2 * weights
            last.update(weights=weights.copy(), results=results, gradient=gradient)
        return float(last["results"][0, 0]), last["gradient"]

    @np.errstate(over="ignore")
    def converged() -> bool:
        return trainer.tolerance is not None and float(np.linalg.norm(last["gradient"])) <= trainer.tolerance

    def report() -> None:
        end_epoch(last["results"][None])
        text = f"iteration {end_epoch.finished}/{trainer.epochs}  {losses_text(end_epoch.found)}"
        end_epoch.progress.show(end_epoch.finished / trainer.epochs, text)

    raised: list[StopIteration] = []  # by a callback, which SciPy would take for the end

    def accept(intermediate_result: Any) -> None:
        accepted[:] = intermediate_result.x
        try:
            if not np.array_equal(last["weights"], accepted):
                loss_and_gradient(accepted)
            model.step += 1
            report()
        except StopIteration as fault:
            raised.append(fault)
            raise
        if model.stop_training or converged():
            raise StopIteration

    options = {
        "maxiter": trainer.epochs,
        "maxfun": 20 * trainer.epochs + 20,
        "maxcor": model.optimizer.memory,
        "ftol": 0.0,
        "gtol": 0.0,
    }
    if model.stop_training:  # a callback has said so before the first epoch
        return
    try:
        loss_and_gradient(accepted)
        if not converged():
            minimize(loss_and_gradient, accepted.copy(), jac=True, method="L-BFGS-B", callback=accept, options=options)
    finally:
        model.arenas.parameters[places] = accepted
    if raised:
        raise raised[0]
    if end_epoch.finished == 0:
        loss_and_gradient(accepted)  # the last call was for a step that helps nothing
        report()
