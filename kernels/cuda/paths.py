"""Which of the engine's three ways a plan goes on a GPU. Plain numbers: importing this imports no compiler.

* ``tiny``: all steps of a slice in one thread block, one launch a slice;
* ``narrow``: rows, then weights: two launches a step, activations in shared memory;
* ``layered``: operation by operation with the tiled matrix product, for wide networks.

The limits of the first two come from estimates: they have not been measured on a GPU yet.
"""

__all__ = ["BLOCK_ROWS", "SHARED_BYTES", "STRIP", "TINY_FLOPS", "WIDEST", "block_rows", "path_of"]

#: Bytes of shared memory that a block may ask for without further ado are 48 KB; the kernels' own arrays come on top.
SHARED_BYTES = 44 * 1024

#: Widest layer of a narrow network: beyond, the tiled product reads less.
WIDEST = 128

#: Rows of a thread block in the rows phase: few, so that a small batch keeps many multiprocessors busy.
BLOCK_ROWS = 8

#: Rows whose sums a thread of a matrix product forms together, so that it reads a weight once for all of them;
#: ``BLOCK_ROWS`` is a multiple of it.
STRIP = 4

#: Operations of a step above which one multiprocessor takes longer than two launches, about 3 µs at some 100 GFLOP/s.
TINY_FLOPS = 300_000


def row_bytes(plan):
    """Bytes of shared memory for a row: activations, inputs, predictions and derivatives."""
    return plan.item_size * (plan.columns + plan.inputs + plan.outputs + plan.derivative_columns)


def block_rows(plan, rows, path):
    """Rows of a thread block for a batch of ``rows``, or 0 where not even ``STRIP`` of them fit."""
    most = SHARED_BYTES // max(1, row_bytes(plan)) // STRIP * STRIP
    wanted = -(-rows // STRIP) * STRIP
    if path == "tiny":
        return wanted if wanted <= most else 0
    return min(wanted, BLOCK_ROWS, most)


def path_of(plan, rows):
    """The way of a plan for batches of ``rows`` rows."""
    widest = max([operation.outputs for operation in plan.operations], default=0)
    if plan.precision != "float32" or widest > WIDEST or block_rows(plan, rows, "narrow") == 0:
        return "layered"
    constrained = any(parameter.constraint >= 0 for parameter in plan.parameters)
    small = plan.step_flops(rows) <= TINY_FLOPS and block_rows(plan, rows, "tiny") > 0
    whole = plan.update is not None and plan.clip_norm == float("inf") and not constrained
    return "tiny" if small and whole else "narrow"
