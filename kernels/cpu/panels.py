"""Panels of a matrix, some vectors wide: copied or transposed to where they are packed, summed by columns, and formed
of a column and a row."""

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .tile import PANEL_VECTORS, SCALARS, TILE_VECTORS, repeat
from .vectors import INTEGER, Vectors

_ADDRESS = types.intp


@intrinsic
def copy_panel(typing_context, to, to_row, source, source_row, rows, columns, real):
    """Copy ``rows`` rows of 1 to PANEL_VECTORS vectors of columns; the rest of the last vector becomes zero."""

    def generate(context, builder, signature, arguments):
        vectors = Vectors(builder, SCALARS[real.dtype])
        to, to_row, source, source_row, rows, columns = arguments[:-1]
        to, source = (builder.inttoptr(address, vectors.pointer) for address in (to, source))
        places = [INTEGER(place * vectors.length) for place in range(PANEL_VECTORS)]
        masks = [vectors.mask(builder.sub(columns, place)) for place in places]
        with cgutils.for_range(builder, rows) as loop:
            read = vectors.at(source, builder.mul(loop.index, source_row))
            write = vectors.at(to, builder.mul(loop.index, to_row))
            for place, mask in zip(places, masks, strict=True):
                with builder.if_then(builder.icmp_signed(">", columns, place)):
                    vectors.store(vectors.load(vectors.at(read, place), mask), vectors.at(write, place))
        return context.get_dummy_value()

    return types.void(*[_ADDRESS] * 6, real), generate


@intrinsic
def transpose_panel(typing_context, to, to_row, source, source_row, rows, columns, real):
    """Transpose: to[k, j] = source[j, k] for k < rows and j < columns, with columns at most a vector.

    Whole squares are written, so there must be room for rows up to the next multiple of a vector.
    """

    def generate(context, builder, signature, arguments):
        vectors = Vectors(builder, SCALARS[real.dtype])
        to, to_row, source, source_row, rows, columns = arguments[:-1]
        to, source = (builder.inttoptr(address, vectors.pointer) for address in (to, source))
        length = INTEGER(vectors.length)
        squares = builder.udiv(builder.add(rows, INTEGER(vectors.length - 1)), length)
        has_all_columns = builder.icmp_signed("==", columns, length)
        whole = builder.select(has_all_columns, builder.udiv(rows, length), INTEGER(0))
        nothing = vectors.mask(INTEGER(0))

        def transpose(number, exists):
            """Square ``number``; exists : says for a row of the source which of its columns there are, None for all."""
            k = builder.mul(number, length)
            starts = [
                vectors.at(source, builder.add(builder.mul(source_row, INTEGER(j)), k)) for j in range(vectors.length)
            ]
            square = [vectors.load(start, exists(j, k)) for j, start in enumerate(starts)]
            for j, vector in enumerate(vectors.transpose(square)):
                vectors.store(vector, vectors.at(to, builder.mul(builder.add(k, INTEGER(j)), to_row)))

        def some(j, k):
            there = builder.icmp_signed("<", INTEGER(j), columns)
            return builder.select(there, vectors.mask(builder.sub(rows, k)), nothing)

        with cgutils.for_range(builder, whole) as loop:
            transpose(loop.index, lambda j, k: None)
        with cgutils.for_range(builder, builder.sub(squares, whole)) as loop:
            transpose(builder.add(whole, loop.index), some)
        return context.get_dummy_value()

    return types.void(*[_ADDRESS] * 6, real), generate


@intrinsic
def sum_rows(typing_context, to, source, source_row, rows, columns, added, real):
    """The sum of ``rows`` rows of 1 to TILE_VECTORS vectors of columns, added to what is there if ``added`` is not 0.

    Four sums go side by side, each of every fourth row: an addition takes as long as to read that many rows.
    """

    def generate(context, builder, signature, arguments):
        vectors = Vectors(builder, SCALARS[real.dtype])
        to, source, source_row, rows, columns, added = arguments[:-1]
        to = builder.inttoptr(to, vectors.pointer)
        stride = builder.mul(source_row, INTEGER(vectors.item_bytes))
        places = [INTEGER(place * vectors.length) for place in range(TILE_VECTORS)]
        lefts = [builder.sub(columns, place) for place in places]
        masks = [vectors.mask(left) for left in lefts]

        def step(addresses, sums, count=1):
            (address,), new = addresses, []
            for first in range(0, count * TILE_VECTORS, TILE_VECTORS):
                row = builder.inttoptr(address, vectors.pointer)
                rows = [vectors.load(vectors.at(row, place), mask) for place, mask in zip(places, masks, strict=True)]
                new += [builder.fadd(total, row) for total, row in zip(sums[first:], rows, strict=False)]
                address = builder.add(address, stride)
            return [address], new + sums[len(new) :]

        def four_steps(addresses, sums):
            return step(addresses, sums, 4)

        four, length = INTEGER(4), INTEGER(vectors.length)
        state = [source], [vectors.zero] * (4 * TILE_VECTORS)
        state = repeat(builder, builder.udiv(rows, four), 1, four_steps, state)
        _, sums = repeat(builder, builder.urem(rows, four), 1, step, state)
        is_added = builder.icmp_signed("!=", added, INTEGER(0))
        for index, (place, left, mask) in enumerate(zip(places, lefts, masks, strict=True)):
            a, b, c, d = sums[index::TILE_VECTORS]
            total, pointer = builder.fadd(builder.fadd(a, b), builder.fadd(c, d)), vectors.at(to, place)
            before = builder.select(is_added, vectors.load(pointer, mask), vectors.zero)
            with builder.if_then(builder.icmp_signed(">", left, INTEGER(0))):
                count = builder.select(builder.icmp_signed("<", left, length), left, length)
                vectors.store_first([builder.fadd(before, total)], [pointer], count)
        return context.get_dummy_value()

    return types.void(*[_ADDRESS] * 6, real), generate


@intrinsic
def outer_product(typing_context, c, c_row, a, a_row, b, rows, columns, real):
    """C = a·b, with a (rows, 1) and b (1, columns), panel by panel."""

    def generate(context, builder, signature, arguments):
        vectors = Vectors(builder, SCALARS[real.dtype])
        c, c_row, a, a_row, b, rows, columns = arguments[:-1]
        c, a, b = (builder.inttoptr(address, vectors.pointer) for address in (c, a, b))

        def multiply(first, width, count=None):
            """Columns from ``first`` on, ``width`` vectors of them or, with a ``count``, so many of one vector."""
            places = [builder.add(first, INTEGER(place * vectors.length)) for place in range(width)]
            mask = None if count is None else vectors.mask(count)
            numbers = [vectors.load(vectors.at(b, place), mask) for place in places]
            with cgutils.for_range(builder, rows) as loop:
                number = vectors.splat(builder.load(vectors.at(a, builder.mul(loop.index, a_row))))
                products = [vectors.multiply_add(number, of_b, vectors.zero) for of_b in numbers]
                row = vectors.at(c, builder.mul(loop.index, c_row))
                pointers = [vectors.at(row, place) for place in places]
                if count is None:
                    for product, pointer in zip(products, pointers, strict=True):
                        vectors.store(product, pointer)
                else:
                    vectors.store_first(products, pointers, count)

        done = INTEGER(0)
        for width in (PANEL_VECTORS, 1):
            length = INTEGER(width * vectors.length)
            end = builder.sub(columns, builder.urem(columns, length))
            with cgutils.for_range_slice(builder, done, end, length, INTEGER) as (first, _):
                multiply(first, width)
            done = end
        left = builder.sub(columns, done)
        with builder.if_then(builder.icmp_signed("!=", left, INTEGER(0))):
            multiply(done, 1, left)
        return context.get_dummy_value()

    return types.void(*[_ADDRESS] * 7, real), generate
