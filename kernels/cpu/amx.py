"""Intel's matrix unit (AMX): tiles of numbers with 8 significant bits (bfloat16), multiplied and added up in float32.

``pieces.py`` says how float32 numbers are multiplied with it, in one to three pieces each. A tile of A has 16 rows of
32 numbers of the depth, a tile of B 16 columns of them; the unit takes two numbers of the depth at a time. Here these
are k and k + 16, in both:

    A:  row 0   A[0, 0] A[0, 16]  A[0, 1] A[0, 17] ...     B:  row 0   B[0, 0] B[16, 0]  B[0, 1] B[16, 1] ...
        row 1   A[1, 0] A[1, 16]  ...                          row 1   B[1, 0] B[17, 0]  ...

so vectors of numbers, along the rows of A and of B, become such pairs without moving from place to place.
"""

import ctypes
import functools
import os
import sys

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .. import target
from .vectors import INTEGER, VECTOR_BYTES, Vectors

#: Rows of a tile of A, and columns of one of B; numbers of the depth in both.
TILE_SIDE, TILE_DEPTH = 16, 32

#: Bytes of a tile; those of the pieces of float32 numbers, the high, the middle and the low ones, follow one another.
TILE_BYTES = 1024

#: Number of pieces -> the products of a piece of A and one of B that are formed, in an order in which each shares a
#: piece with the next: the largest ones.
_PRODUCTS = {1: ((0, 0),), 2: ((1, 0), (0, 0), (0, 1)), 3: ((2, 0), (1, 0), (1, 1), (0, 1), (0, 2), (0, 0))}

#: Linux's system call, and its arguments, by which a process asks for the unit's registers.
_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18

_BYTE, _INT32, _VOID = ir.IntType(8), ir.IntType(32), ir.VoidType()
_ADDRESS = types.intp

#: Whether the user wants it.
WANTED = os.environ.get("FASTNN_AMX") or "1"
if WANTED not in ("0", "1"):
    raise ValueError(f"the environment variable FASTNN_AMX is {WANTED!r}; expected 0 or 1")


@functools.cache
def available() -> bool:
    """Whether this processor has the unit, the system lets this process use it, and FASTNN_AMX is not 0.

    Asks the system, for the whole process and those that it forks.
    """
    has_unit = {"+amx-tile", "+amx-bf16"} <= set(target.features().split(",")) and VECTOR_BYTES == 64
    if WANTED == "0" or not has_unit or not sys.platform.startswith("linux"):
        return False
    return ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA) == 0


def _emit(builder, name, *arguments):
    """An instruction of the unit."""
    kind = ir.FunctionType(_VOID, [argument.type for argument in arguments])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}"), arguments)


def _pointer(builder, address):
    return builder.inttoptr(address, _BYTE.as_pointer())


@intrinsic
def configure(typing_context):
    """Make the calling thread's tile registers eight of 16 rows of 64 bytes."""

    def generate(context, builder, signature, arguments):
        shape = bytearray(64)
        shape[0] = 1  # the palette
        shape[16:32:2] = bytes([64] * 8)  # bytes of a row, two of the shape for each
        shape[48:56] = bytes([TILE_SIDE] * 8)
        constant = ir.Constant(ir.ArrayType(_BYTE, len(shape)), shape)
        memory = cgutils.global_constant(builder, "fastnn_tiles", constant)
        _emit(builder, "ldtilecfg", builder.bitcast(memory, _BYTE.as_pointer()))
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def release(typing_context):
    """Give the tile registers back: a thread that has some is slower to be interrupted."""

    def generate(context, builder, signature, arguments):
        _emit(builder, "tilerelease")
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic(prefer_literal=True)
def split_line(
    typing_context, pieces, to, to_step, source, source_step, apart, count, first, last_first, second, last_second
):
    """Split ``count`` vectors of pairs: number i of each and the one ``apart`` numbers after it, into their pieces.

    pieces : how many, a constant; source_step : numbers from vector to vector; to_step : bytes from one to the next
    where they are written, each to a row of a tile. Of the numbers that come first there are ``first`` in each vector
    and ``last_first`` in the last one, and so with those that come second; the others become zero. 16 and more : all.

    high = x rounded to 8 significant bits, middle = x - high rounded to 8, low = x - high - middle, which has no more.
    """

    def generate(context, builder, signature, arguments):
        vectors = Vectors(builder, ir.FloatType())
        to, to_step, source, source_step, apart, count, *counts = arguments[1:]
        bits = ir.VectorType(_INT32, vectors.length)
        half, upper, width = (ir.Constant(bits, [number] * vectors.length) for number in (0x8000, 0xFFFF0000, 16))
        first, last_first, second, last_second = (vectors.mask(number) for number in counts)

        def split(index, masks):
            at = vectors.at(builder.inttoptr(source, vectors.pointer), builder.mul(index, source_step))
            pair = [
                vectors.load(address, mask) for address, mask in zip((at, vectors.at(at, apart)), masks, strict=True)
            ]
            write = builder.add(to, builder.mul(index, to_step))
            for piece in range(pieces.literal_value):
                parts = [builder.bitcast(rest, bits) for rest in pair]
                if piece < 2:
                    parts = [builder.and_(builder.add(part, half), upper) for part in parts]
                    values = [builder.bitcast(part, vectors.type) for part in parts]
                    pair = [builder.fsub(rest, value) for rest, value in zip(pair, values, strict=True)]
                joined = builder.or_(builder.lshr(parts[0], width), builder.and_(parts[1], upper))
                place = builder.inttoptr(builder.add(write, INTEGER(piece * TILE_BYTES)), bits.as_pointer())
                builder.store(joined, place).align = 64

        # Two a round: one by one, steps of 256 to 1,024 units take 1 to 2 % longer with two workers.
        before_last, two = builder.sub(count, INTEGER(1)), INTEGER(2)
        with cgutils.for_range(builder, builder.udiv(before_last, two)) as loop:
            for number in range(2):
                split(builder.add(builder.mul(loop.index, two), INTEGER(number)), (first, second))
        with builder.if_then(builder.icmp_signed("!=", builder.urem(before_last, two), INTEGER(0))):
            split(builder.sub(before_last, INTEGER(1)), (first, second))
        split(before_last, (last_first, last_second))
        return context.get_dummy_value()

    return types.void(pieces, *[_ADDRESS] * 10), generate


@intrinsic(prefer_literal=True)
def multiply_block(typing_context, pieces, c, c_row, a, a_next, b, b_next, depth):
    """C, 16 or 32 rows and columns, is the product of one or two tiles of A and of B, for ``depth`` tiles one by one.

    pieces : how many a number has, a constant; c_row : bytes from row to row of C; a_next, b_next : bytes to the next
    16 rows or columns; 0 : there are none.
    """

    def generate(context, builder, signature, arguments):
        c, c_row, a, a_next, b, b_next, depth = arguments[1:]

        def block(heights, widths):
            tiles = [(row, column) for row in range(heights) for column in range(widths)]
            for row, column in tiles:
                _emit(builder, "tilezero", _BYTE(2 * row + column))
            with cgutils.for_range(builder, depth) as loop:
                place = builder.mul(loop.index, INTEGER(pieces.literal_value * TILE_BYTES))
                in_a, in_b = ([builder.add(at, place), builder.add(builder.add(at, step), place)]
                              for at, step in ((a, a_next), (b, b_next)))  # fmt: skip

                def load(register, address, piece):
                    at = builder.add(address, INTEGER(TILE_BYTES * piece))
                    _emit(builder, "tileloadd64", _BYTE(register), _pointer(builder, at), INTEGER(64))

                before = None, None
                for of_a, of_b in _PRODUCTS[pieces.literal_value]:
                    for row in range(heights if of_a != before[0] else 0):
                        load(4 + row, in_a[row], of_a)
                    for column in range(widths if of_b != before[1] else 0):
                        load(6 + column, in_b[column], of_b)
                    for row, column in tiles:
                        _emit(builder, "tdpbf16ps", _BYTE(2 * row + column), _BYTE(4 + row), _BYTE(6 + column))
                    before = of_a, of_b
            for row, column in tiles:
                at = builder.add(c, builder.add(builder.mul(c_row, INTEGER(16 * row)), INTEGER(64 * column)))
                _emit(builder, "tilestored64", _BYTE(2 * row + column), _pointer(builder, at), c_row)

        two_high, two_wide = (builder.icmp_signed("!=", step, INTEGER(0)) for step in (a_next, b_next))
        with builder.if_else(two_high) as (two, one):
            for heights, high in ((2, two), (1, one)):
                with high, builder.if_else(two_wide) as wide:
                    for widths, case in zip((2, 1), wide, strict=True):
                        with case:
                            block(heights, widths)
        return context.get_dummy_value()

    return types.void(pieces, *[_ADDRESS] * 7), generate


@intrinsic
def finish_block(typing_context, c, c_row, sums, start, start_row, rows, columns, rectified):
    """C = S + sums, or max(S + sums, 0) where ``rectified`` is not 0: up to 32 rows and columns.

    Addresses are integers, rows of C and S so many numbers apart, those of the sums 32. start : S, or 0 for zeros.
    """

    def generate(context, builder, signature, arguments):
        vectors = Vectors(builder, ir.FloatType())
        c, c_row, sums, start, start_row, rows, columns, rectified = arguments
        has_start = builder.icmp_unsigned("!=", start, INTEGER(0))
        is_rectified = builder.icmp_unsigned("!=", rectified, INTEGER(0))
        # A load that is masked out takes hundreds of cycles where there is no memory: so it is from somewhere.
        start, start_row = builder.select(has_start, start, sums), builder.select(has_start, start_row, INTEGER(0))
        c, sums, start = (builder.inttoptr(address, vectors.pointer) for address in (c, sums, start))
        nothing, least = vectors.mask(INTEGER(0)), ir.Constant(vectors.type, [float("-inf")] * vectors.length)
        least = builder.select(is_rectified, vectors.zero, least)
        places = [INTEGER(0), INTEGER(vectors.length)]
        masks = [vectors.mask(builder.sub(columns, place)) for place in places]
        with cgutils.for_range(builder, rows) as loop:
            to, added, plus = (
                vectors.at(pointer, builder.mul(loop.index, row))
                for pointer, row in ((c, c_row), (sums, INTEGER(32)), (start, start_row))
            )
            for place, mask in zip(places, masks, strict=True):
                there = vectors.load(vectors.at(plus, place), builder.select(has_start, mask, nothing))
                total = vectors.load(vectors.at(added, place))  # to which no zero is added, or -0 would become 0
                total = builder.select(has_start, builder.fadd(total, there), total)
                total = builder.select(builder.fcmp_ordered("<=", total, least), least, total)
                vectors.store_masked(total, vectors.at(to, place), mask)
        return context.get_dummy_value()

    return types.void(*[_ADDRESS] * 8), generate
