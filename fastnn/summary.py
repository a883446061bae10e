"""What ``model.summary()`` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .history import aligned
from .layers import Dropout, Layer
from .workers import choose_workers

if TYPE_CHECKING:
    from .model import Model
    from .plan import Plan


def summary(model: Model, batch_size: int) -> str:
    """The layers of a model, its parameters, and what a training step on ``batch_size`` rows takes.

    The memory is that of the engine's arenas, their padding to cache lines included, with the number of workers that a
    fit begins with; an optimizer that is not chosen yet has none. A multiplication and an addition are two
    floating-point operations (FLOPs).
    """
    plan = model.plan
    flops = [0] * len(model.layers)
    for operation in plan.prediction:
        flops[operation.layer] += operation.flops
    table = [("layer", "output", "parameters", "FLOPs a row", "")]
    for layer, work in zip(model.layers, flops, strict=True):
        count = sum(array.size for array in layer.parameters.values())
        table.append((layer.name, f"({layer.units},)", f"{count:,}", f"{work:,}", _detail(layer)))
    products = "" if plan.precision == "float32" else f" with products of {plan.precision}"
    lines = [f"{model.name}: {model.dtype}{products}, seed {model.seed}", "", *aligned(table, "<>>><"), ""]

    total, trainable = model.count_parameters()
    lines.append(f"parameters: {total:,}" + (f", {trainable:,} of them trained" if trainable < total else ""))
    lines += [f"memory of a training step on {batch_size:,} rows:", *aligned(_memory(model, plan, batch_size), "<>")]
    lines.append(f"FLOPs of that step: {plan.step_flops(batch_size):,}; to predict one row: {plan.forward_flops(1):,}")
    return "\n".join(lines)


def _detail(layer: Layer) -> str:
    facts = [layer.activation_name] if layer.activation_name != "linear" else []
    facts += [f"rate {layer.rate:g}"] if isinstance(layer, Dropout) else []
    facts += [] if layer.trainable else ["frozen"]
    return ", ".join(facts)


def _memory(model: Model, plan: Plan, rows: int) -> list[tuple[str, str]]:
    """What takes memory, and how much."""
    part_rows, held = 0, rows
    if plan.device == "cpu":
        workers = choose_workers(model.threads, plan.step_flops(rows))
        part_rows, held = plan.part_rows(rows), workers * plan.turn_rows(rows, workers) or rows
    arena, row = plan.length * plan.item_size, held * plan.item_size
    optimizer = f"optimizer ({type(model.optimizer).__name__})" if model.loss is not None else "optimizer (none yet)"
    sizes = {
        "parameters": arena,
        "gradients": arena,
        optimizer: plan.slots * arena,
        "activations": plan.columns * row,
        "their derivatives": plan.derivative_columns * row,
    }
    if part_rows:
        sizes["gradients of parts of the rows"] = -(-rows // part_rows) * arena
    sizes["together"] = sum(sizes.values())
    return [(f"  {name}", bytes_text(size)) for name, size in sizes.items()]


def bytes_text(size: int) -> str:
    """``size`` bytes in the unit that leaves one to three digits before the point: 1 kB is 1000 bytes."""
    amount, unit = float(size), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 999.5:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
