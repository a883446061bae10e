"""How workers share a product with a dense layer's weights: the rows of the batch, the columns of y, or its inputs.

By rows nobody waits for anybody, but each worker reads and packs all of W for its share of x. By columns it reads its
share of W and all of x, and all meet before, when x is there, and afterwards. So wide layers and small batches gain by
columns, and all the more the more workers there are.

The first layer may go by inputs: a worker takes its columns of x, which it gathers for itself, times its rows of W,
those that it updates. So it needs no weights that another has just written, and reads its share of them alone. Then
all meet, and the sums are added up. The inputs are cut into the blocks in which a product sums over its depth anyway,
so the bits stay the same. Two workers may share the second layer's inputs, and the first one's units, in the same way
(``branches.py``).
"""

from ..jit import formula
from ..layout import share

#: Numbers that each worker need not read, at least, where it gets columns instead of rows. (Measured on two cores:
#: layers of 512 with 64 rows and of 1,024 with 32 to 256 gain 4 to 20 %; 784-256 with 128 rows would lose 4 %.)
LEAST_SPARED = 100_000

#: Weights that a worker need not read, at least, where it gets inputs, and inputs that are spared for each of the sums
#: that are exchanged instead. (Measured on two cores: 784-256 gains 8 % with 128 rows, 2 % with 256, nothing with 380.)
LEAST_SPARED_WEIGHTS, SPARED_FOR_SUMS = 4_000, 2

#: Inputs of a batch that each of two workers may have, where they share units, and not half of them. (Measured on two
#: cores: 256-384-128-10 with 256 rows gains 2 %, 200-200-100-10 with 512 loses 9, 400-128-64-10 with 256 loses 17.)
MOST_GATHERED = 1 << 16

#: What the worker that has most of the inputs may have, as a multiple of an even share.
MOST_UNEVEN = 1.1

#: Columns that stay together: they fill the tiles of a product, and whole cache lines.
GROUP = 64


def by_columns(inputs: int, units: int, rows: int, workers: int) -> bool:
    """Whether workers share the columns of y = xW, and not the rows of a batch of so many: each then has some.

    For dx = dy·Wᵀ the units are what comes in and the inputs what comes out.
    """
    groups = -(-units // GROUP)
    most = min(units, -(-groups // workers) * GROUP)  # columns of the worker that has most
    return groups >= workers and (units - most - rows * (workers - 1) // workers) * inputs >= LEAST_SPARED


def by_inputs(inputs: int, units: int, rows: int, workers: int, block: int) -> bool:
    """Whether workers share the first layer's inputs, in blocks of so many, and not the rows of a batch of so many."""
    blocks = -(-inputs // block)
    most = min(inputs, -(-blocks // workers) * block)  # inputs of the worker that has most
    even = blocks >= workers and most * workers <= MOST_UNEVEN * inputs
    gains = inputs - most > SPARED_FOR_SUMS * (blocks - 1) * rows and (inputs - most) * units >= LEAST_SPARED_WEIGHTS
    return even and gains and units > 1  # a single unit's products are summed in another way (``column.py``)


def by_units(inputs: int, rows: int, workers: int) -> bool:
    """Whether two workers have branches of a network that can have them, and all of a batch of so many rows."""
    return workers == 2 and rows * inputs <= MOST_GATHERED


@formula
def share_of_columns(columns, rank, size):
    """The half-open range of columns that worker ``rank`` of ``size`` takes; it may be empty."""
    first, last = share((columns + GROUP - 1) // GROUP, rank, size)
    return GROUP * first, min(GROUP * last, columns)
