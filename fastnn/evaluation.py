"""Rows forward without dropout: predictions, and the loss and the metrics of examples."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from .data import MISSING, Rows
from .examples import Examples
from .interrupt import DeferredInterrupt
from .kernels.conventions import NOT_FINITE, OK, Data
from .own_functions import engine_fault, suspects
from .progress import Progress
from .training import SLICE_SECONDS, curves, logs
from .workers import choose_workers

if TYPE_CHECKING:
    from .model import Model


def evaluate(
    model: Model,
    runner: Any,
    examples: Examples,
    interrupt: DeferredInterrupt | None,
    action: str,
    progress: Progress | None = None,
) -> dict[str, float]:
    """The loss, penalties included, and the metrics by name.

    Raises a FloatingPointError if the loss is not finite, which says what it is the loss of: the ``action``.
    """
    whole = not all(metric.by_rows for metric in model.metrics)
    kept = np.empty((len(examples), model.outputs), model.dtype) if whole else None
    parts = infer(model, runner, examples, None, kept, interrupt, progress)
    means = np.concatenate(parts).sum(axis=0) / len(examples)
    means[0] += penalty(model, runner)
    if not np.isfinite(means[0]):
        raise FloatingPointError(
            f"the loss on {action} is {means[0]}: the outputs of the model, or its weights, are not finite or too large"
            f"{suspects(model)}"
        )
    return logs(curves(model.loss, model.metrics, means[None], examples.t, kept))


def penalty(model: Model, runner: Any) -> float:
    """What the regularizers of the trained layers add to the loss."""
    from .slow_path import SlowPath

    plan = runner.plan
    if not any(parameter.penalized for parameter in plan.parameters):
        return 0.0
    if hasattr(runner, "fetch"):  # the parameters, from a GPU
        runner.fetch()
    return SlowPath(plan, model.arenas).penalty_of_all()


def infer(
    model: Model,
    runner: Any,
    rows: Rows | Examples,
    outputs: Any = None,
    kept: np.ndarray | None = None,
    interrupt: DeferredInterrupt | None = None,
    progress: Progress | None = None,
    look: bool = False,
) -> list[np.ndarray]:
    """Take all rows forward, in slices of about ``SLICE_SECONDS``; returns the engine's results.

    outputs : (rows, outputs), gets the predictions; or None, to evaluate examples: kept then gets their outputs; look :
    raise a ValueError where an input is not finite, which nobody has looked for, and which the CPU's engine can.
    """
    plan, parts, done = runner.plan, [], 0
    x = rows.x if isinstance(rows, Examples) else rows
    call = partial(runner.infer, look=True) if look else runner.infer
    whole, count = slice(0, len(x)), 16 * plan.block  # a first guess, until a slice has been measured
    while done < len(x):
        if not rows.direct:
            count = min(count, max(plan.block, x.block_rows // plan.block * plan.block))
        part = slice(done, min(done + count, len(x)))
        section = rows if part == whole else rows.part(part)
        arrays = section.ready() if isinstance(section, Examples) else (section.ready(),)
        started = time.perf_counter()
        workers = choose_workers(model.threads, plan.forward_flops(len(section)))
        outputs_there, kept_there = (None if array is None else array[part] for array in (outputs, kept))
        status, results = call(Data(*arrays), outputs_there, workers, kept_there)
        if status == NOT_FINITE and look:
            x.check_finite(MISSING)  # which says where
        if status != OK and (status != NOT_FINITE or look):
            raise engine_fault(plan, status)
        if status == NOT_FINITE:
            results[:, 0] = np.nan
        parts.append(results)
        done += len(section)
        if interrupt is not None:
            interrupt.check()
        if progress is not None:
            progress.show(done / len(x), f"{done:,} of {len(x):,} rows")
        seconds = max(1e-6, time.perf_counter() - started)
        count = max(plan.block, int(len(section) * min(8.0, SLICE_SECONDS / seconds)) // plan.block * plan.block)
    return parts
