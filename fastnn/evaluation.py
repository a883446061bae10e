"""Rows forward without dropout: predictions, and the loss and the metrics of examples."""

from __future__ import annotations

import math
import time
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
    sums, rows = infer(model, runner, examples, None, kept, interrupt, progress).sum(axis=0), len(examples)
    loss, *means = [total / rows for total in sums.tolist()]
    if runner.plan.penalized:
        loss += penalty(model, runner)
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"the loss on {action} is {loss}: the outputs of the model, or its weights, are not finite or too large"
            f"{suspects(model)}"
        )
    return logs(curves(model.loss, model.metrics, [[loss], *([mean] for mean in means)], examples.t, kept))


def penalty(model: Model, runner: Any) -> float:
    """What the regularizers of the trained layers add to the loss."""
    from .slow_path import SlowPath

    if hasattr(runner, "fetch"):  # the parameters, from a GPU
        runner.fetch()
    return SlowPath(runner.plan, model.arenas).penalty_of_all()


def infer(
    model: Model,
    runner: Any,
    rows: Rows | Examples,
    outputs: Any = None,
    kept: np.ndarray | None = None,
    interrupt: DeferredInterrupt | None = None,
    progress: Progress | None = None,
    look: bool = False,
) -> np.ndarray:
    """Take all rows forward, in slices of about ``SLICE_SECONDS``; returns the engine's results.

    outputs : (rows, outputs), gets the predictions; or None, to evaluate examples: kept then gets their outputs; look :
    raise a ValueError where an input is not finite, which nobody has looked for, and which the CPU's engine can.
    """
    plan, parts, done, total = runner.plan, [], 0, len(rows)
    x = rows.x if isinstance(rows, Examples) else rows
    options = {"look": True} if look else {}
    count = 16 * plan.block  # a first guess, until a slice has been measured
    while done < total:
        if not rows.direct:
            count = min(count, max(plan.block, x.block_rows // plan.block * plan.block))
        size = min(count, total - done)
        section, outputs_there, kept_there = rows, outputs, kept
        if size < total or not rows.direct:  # what is converted lives no longer than its part
            part = slice(done, done + size)
            section = rows.part(part)
            outputs_there, kept_there = (None if array is None else array[part] for array in (outputs, kept))
        read = section.data if isinstance(section, Examples) else Data(section.ready())
        started = time.perf_counter()
        workers = choose_workers(model.threads, plan.forward_flops(size))
        status, results = runner.infer(read, outputs_there, workers, kept_there, **options)
        if status == NOT_FINITE and look:
            x.check_finite(MISSING)  # which says where
        if status != OK and (status != NOT_FINITE or look):
            raise engine_fault(plan, status)
        if status == NOT_FINITE:
            results[:, 0] = np.nan
        parts.append(results)
        done += size
        if interrupt is not None:
            interrupt.check()
        if progress is not None:
            progress.show(done / total, f"{done:,} of {total:,} rows")
        if done < total:
            seconds = max(1e-6, time.perf_counter() - started)
            count = max(plan.block, int(size * min(8.0, SLICE_SECONDS / seconds)) // plan.block * plan.block)
    return np.concatenate(parts) if len(parts) > 1 else parts[0]
