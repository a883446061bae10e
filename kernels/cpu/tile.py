"""The micro-kernel: a small tile of C = S + A·B, held in registers while it runs along the depth.

``multiply_tile`` calls the function for a tile's height and width, which ``_tile_function`` generates:
``_sum_products`` along the depth, and then the two ends, ``_with_start`` (S: a bias, or what C has) and ``rectify``
(a ReLU). Which tiles to multiply is decided in ``gemm.py``; the panels that it packs are in ``panels.py``, vector
instructions in ``vectors.py``.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..memory import prefetch
from .vectors import INTEGER, REGISTERS, Vectors

#: Vectors side by side in a tile. Each number of A is loaded once for both.
TILE_VECTORS = 2

#: Heights of the tiles that are generated. The largest has 2 · 12 sums, 2 vectors of B and one number of A in 32
#: registers, or 2 · 6 sums in 16; a multiple of 12 rows suits both. Rows in between use the next larger one: each
#: height takes time to compile, and of these no tile repeats more than 3 rows.
TILE_HEIGHTS = (12, 8, 4, 1) if REGISTERS == 32 else (6, 4, 2, 1)
TILE_HEIGHT = max(TILE_HEIGHTS)

#: Vectors side by side in wide tiles, which have all their columns, and the most rows of each. In a single row so many
#: sums do not wait for one another, and a row of B is read by whole cache lines. Of 32 registers 4 · 6 sums, 4 vectors
#: of B and one number of A take 29: a step of the depth has as many products as in 2 · 12 and loads 10 times, not 14.
WIDE_VECTORS = (8, 4)
WIDE_HEIGHTS = (1, 6 if REGISTERS == 32 else 1)

#: Vectors side by side in the widest tile of several rows.
PANEL_VECTORS = WIDE_VECTORS[1] if WIDE_HEIGHTS[1] > 1 else TILE_VECTORS

#: (height, width) of the tiles that may fetch what comes after their panel.
_FETCHING = {(TILE_HEIGHT, TILE_VECTORS)}
if PANEL_VECTORS > TILE_VECTORS:
    _FETCHING.add((WIDE_HEIGHTS[1], PANEL_VECTORS))

#: The caches that they fetch to, as ``prefetch`` counts them: wide panels are longer than the first one.
_FETCH_LEVEL = 2 if PANEL_VECTORS > TILE_VECTORS else 3

#: Heights of the tiles of half a vector, for a C that has no more columns: so many sums do not wait for one another.
NARROW_HEIGHTS = (12, 8, 4, 1)
NARROW_HEIGHT = max(NARROW_HEIGHTS)

#: Rows that would make a poor last tile: so few sums wait for their predecessors. The last two tiles share them. With
#: 32 registers wide tiles have sums enough in a single row, too.
LONE_ROWS = 0 if REGISTERS == 32 else 2

#: Steps of the depth between two jumps, in tiles that have all their columns: a count and a jump are two instructions
#: beside a step's 20 to 40. In tiles for parts it gains nothing.
UNROLL = 4

#: Places of the two arguments of a tile's function that are pointers; the others are integers.
_B, _AHEAD = 10, 14

#: Types of numbers, as Numba and as LLVM calls them.
SCALARS = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}


def _tile_function(
    module: ir.Module,
    scalar: ir.Type,
    height: int,
    width: int,
    exact: bool,
    narrow: bool = False,
    fetches: bool = False,
) -> ir.Function:
    """The function that multiplies tiles of ``height`` rows and ``width`` vectors, which if ``narrow`` are half ones.

    There are ``tiles`` tiles below one another, ``a_next`` numbers apart in A. The loop over them is in here because to
    find where the rows begin takes as long as a tile of a small depth. rectified : not 0 for max(C, 0).

    exact : all of them exist. Otherwise only the first ``rows`` rows do, and the others repeat the last of them, which
    costs a little arithmetic and no branches; in the last vector only the columns below ``columns`` exist.
    fetches : at each step of the depth it fetches a cache line from ``ahead``.
    """
    vectors = Vectors(None, scalar, 2 if narrow else 1)
    name = f"fastnn_tile_{vectors.suffix}_{height}x{width}{'' if exact else '_part'}{'_fetching' if fetches else ''}"
    if name in module.globals:
        return module.globals[name]
    pointer = vectors.pointer
    arguments = [INTEGER] * 17
    for number in (_B, _AHEAD):
        arguments[number] = pointer
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    tiles, rows, columns, depth, c, c_row, a, a_row, a_column, a_next, b, b_row, start, start_row, *rest = function.args
    stream, rectified = rest[:2] if fetches else None, rest[2]
    builder = vectors.builder = ir.IRBuilder(function.append_basic_block("entry"))

    masks: list[ir.Value | None] = [None] * width
    last_columns = builder.sub(columns, INTEGER((width - 1) * vectors.length))
    if not exact:
        masks[-1] = vectors.mask(last_columns)
    places = [INTEGER(place * vectors.length) for place in range(width)]
    size = INTEGER(vectors.item_bytes)
    a_bytes, c_bytes, start_bytes = (builder.mul(row, size) for row in (a_row, c_row, start_row))
    some_rows = None if exact else rows
    in_a, in_c, in_start = (row_places(vectors, row, height, some_rows) for row in (a_bytes, c_bytes, start_bytes))
    moves = [builder.mul(rows, c_bytes), builder.mul(rows, start_bytes), builder.mul(a_next, size)]
    has_start = builder.icmp_unsigned("!=", start, INTEGER(0))
    has_rows = builder.and_(has_start, builder.icmp_unsigned("!=", start_row, INTEGER(0)))
    is_rectified = builder.icmp_unsigned("!=", rectified, INTEGER(0))

    def tile(addresses, _):
        c, start, a = (builder.inttoptr(address, pointer) for address in addresses)
        with builder.if_then(has_rows):  # they are needed at the end, and on their way while the sums are formed
            for row in in_start:
                for place in places:
                    prefetch(builder, vectors.at(vectors.after(start, row), place))
        sums = _sum_products(builder, vectors, depth, a, in_a, a_column, b, b_row, places, masks, stream)
        sums = _where(builder, has_start, sums, lambda: _with_start(vectors, sums, start, in_start, places, masks))
        sums = _where(builder, is_rectified, sums, lambda: rectify(vectors, sums))
        for column, place in enumerate(places):
            of_column, pointers = sums[column::width], [vectors.at(vectors.after(c, row), place) for row in in_c]
            if masks[column] is None:
                for total, to in zip(of_column, pointers, strict=True):
                    vectors.store(total, to)
            else:
                vectors.store_first(of_column, pointers, last_columns)
        moved = [builder.add(address, move) for address, move in zip(addresses, moves, strict=True)]
        return [vectors.opaque(address) for address in moved], []

    repeat(builder, tiles, 1, tile, ([c, start, a], []))
    builder.ret_void()
    return function


def row_places(vectors, stride, height, rows):
    """Where each of ``height`` rows that are ``stride`` bytes apart begins, in bytes from the first one on.

    rows : how many there are, where the others repeat the last; None: all.

    If it knew how these numbers follow from one another, the compiler would make a chain of additions from row to
    row, which takes as long as the products. So the odd multiples of the stride, 1, 3, 5 ... times it, are made opaque
    to it, each in a register of its own; twice, four and eight times as much is what instructions that load can add by
    themselves. 6 registers are enough for 12 rows.
    """
    builder, odd = vectors.builder, {}
    if rows is not None:
        last = builder.sub(rows, INTEGER(1))
        numbers = [
            builder.select(builder.icmp_signed("<", row, last), row, last) for row in map(INTEGER, range(height))
        ]
        return [INTEGER(0), *(vectors.opaque(builder.mul(stride, number)) for number in numbers[1:])]
    places = [INTEGER(0)]
    for row in range(1, height):
        twos = min(row & -row, 8)
        if row // twos not in odd:
            odd[row // twos] = vectors.opaque(builder.mul(stride, INTEGER(row // twos)))
        places.append(builder.mul(odd[row // twos], INTEGER(twos)))
    return places


def _where(builder, condition, values, others):
    """``others()`` where the condition holds, and elsewhere the values."""
    before = builder.block
    with builder.if_then(condition):
        new = others()
        there = builder.block
    results = [builder.phi(value.type) for value in values]
    for phi, value, other in zip(results, values, new, strict=True):
        phi.add_incoming(value, before)
        phi.add_incoming(other, there)
    return results


def _with_start(vectors, sums, start, in_start, places, masks):
    """The sums, with what is in the rows of ``start`` added."""
    added = []
    for row in in_start:
        for place, mask in zip(places, masks, strict=True):
            there = vectors.load(vectors.at(vectors.after(start, row), place), mask)
            added.append(vectors.builder.fadd(sums[len(added)], there))
    return added


def rectify(vectors, sums):
    """max(sum, 0); NaN stays NaN, and -0 becomes +0, as in the formula ``relu``."""
    builder, zero = vectors.builder, vectors.zero
    return [builder.select(builder.fcmp_ordered("<=", total, zero), zero, total) for total in sums]


def _sum_products(builder, vectors, depth, a, in_a, a_column, b, b_row, places, masks, stream):
    """The loop along the depth: sums of A's numbers times B's vectors, from zero, each in the same order.

    in_a : where A's rows begin, in bytes from ``a`` on; stream : a pointer and a stride, what to fetch at each step of
    the depth, if anything.
    """
    size = INTEGER(vectors.item_bytes)
    moving = [(a, a_column), (b, b_row), *([stream] if stream else [])]
    addresses = [builder.ptrtoint(pointer, INTEGER) for pointer, _ in moving]
    strides = [builder.mul(stride, size) for _, stride in moving]

    def step(addresses, sums):
        a_number, b_vector, *fetched = (builder.inttoptr(address, vectors.pointer) for address in addresses)
        if fetched:
            prefetch(builder, *fetched, _FETCH_LEVEL)
        b_vectors = [vectors.load(vectors.at(b_vector, place), mask) for place, mask in zip(places, masks, strict=True)]
        sums = iter(sums)
        added = []
        for offset in in_a:
            number = vectors.splat(builder.load(vectors.after(a_number, offset)))
            added += [vectors.multiply_add(number, b_vector, next(sums)) for b_vector in b_vectors]
        moved = [builder.add(address, stride) for address, stride in zip(addresses, strides, strict=True)]
        return [vectors.opaque(address) for address in moved], added

    state = addresses, [vectors.zero for _ in in_a for _ in places]
    if masks[-1] is None:
        state = repeat(builder, builder.udiv(depth, INTEGER(UNROLL)), UNROLL, step, state)
        depth = builder.urem(depth, INTEGER(UNROLL))
    return repeat(builder, depth, 1, step, state)[1]


def repeat(builder, count, times, step, state):
    """``count`` rounds of ``times`` steps each; a step takes and returns the state, two lists of values."""
    before, loop, after = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("after")
    values = [value for part in state for value in part]
    none = builder.icmp_signed("==", count, INTEGER(0))
    builder.cbranch(none, after, loop)
    builder.position_at_end(loop)
    left, *phis = (builder.phi(value.type) for value in [count, *values])
    split = len(state[0])
    new = phis[:split], phis[split:]
    for _ in range(times):
        new = step(*new)
    end = builder.block
    less = builder.sub(left, INTEGER(1))
    for phi, value, following in zip([left, *phis], [count, *values], [less, *new[0], *new[1]], strict=True):
        phi.add_incoming(value, before)
        phi.add_incoming(following, end)
    builder.cbranch(builder.icmp_signed("!=", less, INTEGER(0)), loop, after)
    builder.position_at_end(after)
    results = []
    for value, following in zip(values, [*new[0], *new[1]], strict=True):
        results.append(builder.phi(value.type))
        results[-1].add_incoming(value, before)
        results[-1].add_incoming(following, end)
    return results[:split], results[split:]


_ADDRESS = types.intp


@intrinsic
def multiply_tile(
    typing_context,
    narrow,
    tiles,
    rows,
    columns,
    depth,
    c,
    c_row,
    a,
    a_row,
    a_column,
    a_next,
    b,
    b_row,
    start,
    start_row,
    ahead,
    ahead_row,
    rectified,
    real,
):
    """C = S + A·B for ``tiles`` tiles of 1 to TILE_HEIGHT rows, 1 to TILE_VECTORS vectors of columns, depth at least 1.

    Or as many whole vectors as one of WIDE_VECTORS says, and at most as many rows as WIDE_HEIGHTS has for it.

    narrow : 1 for 1 to NARROW_HEIGHT rows and at most half a vector of columns, else 0.

    Addresses are integers, strides count numbers. The tiles' rows follow one another in C and S, and begin ``a_next``
    numbers apart in A. S begins at ``start`` (0: zeros) with rows ``start_row`` apart: 0 for a bias. The rows of B and
    C have unit stride. While the sums are formed, one of the tallest tiles fetches the cache lines at ``ahead``,
    ``ahead`` + ``ahead_row`` ... into the cache, one for each step of the depth. rectified : not 0 for max(C, 0).
    """

    def generate(context, builder, signature, arguments):
        scalar = SCALARS[real.dtype]
        vectors = Vectors(builder, scalar)
        narrow, *call = arguments[:-1]
        _, rows, columns, *_ = call
        has_ahead = builder.icmp_unsigned("!=", call[_AHEAD], INTEGER(0))
        for pointer in (_B, _AHEAD):
            call[pointer] = builder.inttoptr(call[pointer], vectors.pointer)
        end = builder.append_basic_block("end")

        def call_tile(height, width, exact, narrow=False):
            """Call that tile, or its twin that fetches, where it has one."""
            tile = builder.module, scalar, height, width, exact, narrow
            if exact and (height, width) in _FETCHING:
                with builder.if_then(has_ahead):
                    builder.call(_tile_function(*tile, fetches=True), call)
                    builder.branch(end)
            builder.call(_tile_function(*tile), call)
            builder.branch(end)

        def choose(heights, widths, narrow):
            """Call the tile of so many rows and columns: all exist, or it is one for a part."""
            length = INTEGER(vectors.length // 2 if narrow else vectors.length)
            wide = builder.zext(builder.icmp_signed(">", columns, length), INTEGER)
            full = builder.zext(builder.icmp_signed("==", builder.urem(columns, length), INTEGER(0)), INTEGER)
            case = builder.add(builder.mul(rows, INTEGER(4)), builder.add(wide, builder.mul(full, INTEGER(2))))
            switch = builder.switch(case, end)
            below = 0
            for height in reversed(heights):
                for width in range(1, widths + 1):
                    for exact in (True, False):
                        block = builder.append_basic_block("tile")
                        for count in [height] if exact else range(below + 1, height + 1):
                            for is_full in [True] if exact else [False] if count == height else [False, True]:
                                switch.add_case(INTEGER(4 * count + 2 * is_full + width - 1), block)
                        with builder.goto_block(block):
                            call_tile(height, width, exact, narrow)
                below = height

        for width, most in zip(WIDE_VECTORS, WIDE_HEIGHTS, strict=True):
            with builder.if_then(builder.icmp_signed("==", columns, INTEGER(width * vectors.length))):
                switch = builder.switch(rows, end)
                for height in range(1, most + 1):
                    block = builder.append_basic_block("wide")
                    switch.add_case(INTEGER(height), block)
                    with builder.goto_block(block):
                        call_tile(height, width, True)
        half, whole = builder.append_basic_block("half"), builder.append_basic_block("whole")
        builder.cbranch(builder.icmp_signed("!=", narrow, INTEGER(0)), half, whole)
        builder.position_at_end(half)
        choose(NARROW_HEIGHTS, 1, True)
        builder.position_at_end(whole)
        choose(TILE_HEIGHTS, TILE_VECTORS, False)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return types.void(*[_ADDRESS] * 18, real), generate


@intrinsic
def vector_length(typing_context, real):
    """Numbers of type ``real`` in a vector."""

    def generate(context, builder, signature, arguments):
        return INTEGER(Vectors(builder, SCALARS[real.dtype]).length)

    return _ADDRESS(real), generate
