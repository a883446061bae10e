"""A product with a single column, c = s + A·b: each of its numbers is the scalar product of a row of A with b.

Tiles would fill one place of each vector of such a product, and need A transposed. Here rows of A are read along, side
by side, in as many lanes as a cache line has numbers, whatever the width of a vector. In the end the lanes of each
row are added up, halves to halves. So a number of c has the same bits whatever rows it is computed with. The numbers of
c, and those of b, lie side by side: where W or y is a column of a wider array, tiles multiply.
"""

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..jit import COMPILED, formula
from ..memory import CACHE_LINE, vector
from .gemm import plain_multiplication
from .tile import SCALARS, rectify, repeat, row_places
from .vectors import INTEGER, REGISTERS, VECTOR_BYTES, Vectors

#: Vectors that hold the lanes of a row.
_VECTORS = CACHE_LINE // VECTOR_BYTES

#: Rows side by side, at most: their lanes take half of the registers.
_ROWS = REGISTERS // 2 // _VECTORS

_ADDRESS = types.intp


@intrinsic
def _multiply_column(typing_context, c, a, a_row, b, start, rows, depth, rectified, real):
    """``multiply_column`` in vectors; start : the number that is added, not its address."""

    def generate(context, builder, signature, arguments):
        vectors = Vectors(builder, SCALARS[real.dtype])
        c, a, a_row, b, start, rows, depth, rectified, _ = arguments
        c = builder.inttoptr(c, vectors.pointer)
        length, zero = INTEGER(vectors.length), INTEGER(0)
        stride = builder.mul(a_row, INTEGER(vectors.item_bytes))
        width = INTEGER(_VECTORS * vectors.length)
        steps, rest = builder.udiv(depth, width), builder.urem(depth, width)
        has_rest = builder.zext(builder.icmp_signed("!=", rest, zero), INTEGER)
        places = [INTEGER(place * vectors.length) for place in range(_VECTORS)]
        all_lanes = [(place, None) for place in places]
        last_lanes = [(place, vectors.mask(builder.sub(rest, place))) for place in places]
        starts, is_rectified = vectors.splat(start), builder.icmp_unsigned("!=", rectified, zero)

        def step(in_a, lanes):
            def lanes_at(pointer):
                return [vectors.load(vectors.at(pointer, place), mask) for place, mask in lanes]

            def add_products(addresses, sums):
                at_a, at_b = (builder.inttoptr(address, vectors.pointer) for address in addresses)
                of_a = [number for row in in_a for number in lanes_at(vectors.after(at_a, row))]
                added = map(vectors.multiply_add, of_a, lanes_at(at_b) * len(in_a), sums)
                return [builder.add(address, INTEGER(CACHE_LINE)) for address in addresses], list(added)

            return add_products

        def lane_sums(first, in_a):
            """A vector for each of the rows, whose numbers add up to that of c."""
            state = [first, b], [vectors.zero] * (_VECTORS * len(in_a))
            state = repeat(builder, steps, 1, step(in_a, all_lanes), state)
            sums = repeat(builder, has_rest, 1, step(in_a, last_lanes), state)[1]
            return [vectors.folded(sums[row : row + _VECTORS]) for row in range(0, len(sums), _VECTORS)]

        def multiply(number, exist):
            """Numbers of c that fill a vector, from ``number`` on; exist : how many there are, None for all."""
            first = builder.add(a, builder.mul(number, stride))
            in_a, together = row_places(vectors, stride, vectors.length, exist), min(_ROWS, vectors.length)
            sums = []
            for row in range(0, vectors.length, together):
                sums += lane_sums(first, in_a[row : row + together])
            total = builder.fadd(vectors.sums(sums), starts)
            total = builder.select(is_rectified, rectify(vectors, [total])[0], total)
            if exist is None:
                vectors.store(total, vectors.at(c, number))
            else:
                vectors.store_first([total], [vectors.at(c, number)], exist)

        whole = builder.mul(builder.udiv(rows, length), length)
        with cgutils.for_range_slice(builder, zero, whole, length, INTEGER) as (number, _):
            multiply(number, None)
        left = builder.sub(rows, whole)
        with builder.if_then(builder.icmp_signed("!=", left, zero)):
            multiply(whole, left)
        return context.get_dummy_value()

    return types.void(*[_ADDRESS] * 4, real.dtype, *[_ADDRESS] * 3, real), generate


@formula
def multiply_column(c, a, a_row, b, start, rows, depth, rectified, real):
    """c = s + A·b, with c (rows,), A (rows, depth), b (depth,); its arguments as those of ``gemm.multiply``.

    start : address of a number that is added to all, 0 : of none. The rows of A, c and b have unit stride.
    """
    if not COMPILED:
        if rows > 0:
            plain_multiplication(real, 0, c, 1, a, a_row, 1, b, 1, 1, start, 0, rows, 1, depth, rectified)
        return
    number = real(0)
    if start != 0:
        number = vector(start, 1, real)[0]
    _multiply_column(c, a, a_row, b, number, rows, depth, rectified, real)
