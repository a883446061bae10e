"""Vector instructions for the micro-kernel, emitted through LLVM's vector types.

LLVM turns a ``<16 x float>`` into whatever the processor has; only the width that fits it is chosen here.
Nothing in this file knows about matrices.
"""

import os
from collections.abc import Sequence

from llvmlite import ir
from numba.core import cgutils

from .. import target

#: As Numba gets them, so that the width suits the code, and the stamp of the compile cache knows it.
_FEATURES = frozenset(target.features().split(","))


def _vector_bytes() -> int:
    """Bytes of the widest useful vector, or what FASTNN_VECTOR_BYTES says."""
    text = os.environ.get("FASTNN_VECTOR_BYTES", "")
    if text:
        if text not in ("16", "32", "64"):
            raise ValueError(f"the environment variable FASTNN_VECTOR_BYTES is {text!r}; expected 16, 32 or 64")
        return int(text)
    if "+avx512f" in _FEATURES:
        return 64
    return 32 if {"+avx2", "+fma"} <= _FEATURES else 16


#: Bytes of a vector: 64 (AVX-512), 32 (AVX2) or 16 (NEON, SSE).
VECTOR_BYTES = _vector_bytes()

#: Vector registers: AVX-512 and 64-bit ARM have 32, older x86 has 16.
REGISTERS = 32 if VECTOR_BYTES == 64 or not target.X86 else 16

#: Without the instruction, LLVM's fma becomes a call of the C library for each number.
_FUSED = not target.X86 or "+fma" in _FEATURES

INTEGER = ir.IntType(64)
_INT32, _VOID = ir.IntType(32), ir.VoidType()


class Vectors:
    """Emits vector code for numbers of one type (an LLVM float or double) at the builder's position."""

    def __init__(self, builder: ir.IRBuilder, scalar: ir.Type, part: int = 1):
        """part : a vector is that part of a whole one."""
        self.builder, self.scalar = builder, scalar
        self.item_bytes = 4 if isinstance(scalar, ir.FloatType) else 8
        self.length = VECTOR_BYTES // self.item_bytes // part
        self.type = ir.VectorType(scalar, self.length)
        self.pointer = scalar.as_pointer()
        self.zero = ir.Constant(self.type, [0.0] * self.length)
        self.suffix = f"v{self.length}f{8 * self.item_bytes}"

    def _intrinsic(self, name: str, result: ir.Type, arguments: list) -> ir.Value:
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), arguments)

    def splat(self, value: ir.Value) -> ir.Value:
        """A vector with ``value`` in every place."""
        kind = ir.VectorType(value.type, self.length)
        undefined = ir.Constant(kind, ir.Undefined)
        first = self.builder.insert_element(undefined, value, _INT32(0))
        return self.builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_INT32, self.length), None))

    def mask(self, count: ir.Value) -> ir.Value:
        """Bits that are set in the first ``count`` places."""
        places = ir.Constant(ir.VectorType(INTEGER, self.length), list(range(self.length)))
        return self.builder.icmp_signed("<", places, self.splat(count))

    def at(self, pointer: ir.Value, offset: ir.Value) -> ir.Value:
        """The address ``offset`` numbers after ``pointer``."""
        return self.builder.gep(pointer, [offset])

    def after(self, pointer: ir.Value, offset: ir.Value) -> ir.Value:
        """The address ``offset`` bytes after ``pointer``."""
        byte = self.builder.bitcast(pointer, ir.IntType(8).as_pointer())
        return self.builder.bitcast(self.builder.gep(byte, [offset]), pointer.type)

    def opaque(self, value: ir.Value) -> ir.Value:
        """The same integer, of which the compiler no longer knows what it was computed from."""
        kind = ir.FunctionType(value.type, [value.type])
        return self.builder.asm(kind, "", "=r,0", [value], side_effect=False)

    def load(self, pointer: ir.Value, mask: ir.Value | None = None) -> ir.Value:
        """The vector at ``pointer``; zeros, and no access to memory, where the mask is not set."""
        pointer = self.builder.bitcast(pointer, self.type.as_pointer())
        if mask is None:
            vector = self.builder.load(pointer)
            vector.align = self.item_bytes  # a number's own alignment is all that callers promise
            return vector
        arguments = [pointer, _INT32(self.item_bytes), mask, self.zero]
        return self._intrinsic(f"llvm.masked.load.{self.suffix}.p0", self.type, arguments)

    def store(self, vector: ir.Value, pointer: ir.Value) -> None:
        """Write the vector, of any length, to ``pointer``."""
        pointer = self.builder.bitcast(pointer, vector.type.as_pointer())
        self.builder.store(vector, pointer).align = self.item_bytes

    def store_masked(self, vector: ir.Value, pointer: ir.Value, mask: ir.Value) -> None:
        """Write those numbers of the vector whose bits the mask has."""
        arguments = [vector, pointer, _INT32(self.item_bytes), mask]
        self._intrinsic(f"llvm.masked.store.{self.suffix}.p0", _VOID, arguments)

    def store_first(self, vectors: list[ir.Value], pointers: list[ir.Value], count: ir.Value) -> None:
        """Write the first ``count`` numbers of each vector, 1 to all, to its pointer."""
        if VECTOR_BYTES == 64:
            mask = self.mask(count)
            for vector, pointer in zip(vectors, pointers, strict=True):
                self.store_masked(vector, pointer, mask)
            return
        # A masked store of AVX2 takes tens of cycles on some processors, and the others have none.
        builder = self.builder
        with builder.if_else(builder.icmp_signed("==", count, INTEGER(self.length))) as (all_of_them, some):
            with all_of_them:
                for vector, pointer in zip(vectors, pointers, strict=True):
                    self.store(vector, pointer)
            with some:
                size = self.length
                while size > 1:
                    size //= 2
                    vectors, pointers = self._store_half(vectors, pointers, size, count)

    def _store_half(self, vectors, pointers, size, count):
        """Write the lower halves, of ``size`` numbers, if so many are to be written; returns where it goes on."""
        builder = self.builder
        is_there = builder.icmp_signed("!=", builder.and_(count, INTEGER(size)), INTEGER(0))
        lower = [self._shuffle(vector, vector, range(size)) for vector in vectors]
        before = builder.block
        with builder.if_then(is_there):
            for vector, pointer in zip(lower, pointers, strict=True):
                self.store(vector, pointer)
            upper = [self._shuffle(vector, vector, range(size, 2 * size)) for vector in vectors]
            written = builder.block
        rest = [builder.phi(vector.type) for vector in lower]
        for phi, *halves in zip(rest, lower, upper, strict=True):
            phi.add_incoming(halves[0], before)
            phi.add_incoming(halves[1], written)
        step = builder.select(is_there, INTEGER(size), INTEGER(0))
        return rest, [self.at(pointer, step) for pointer in pointers]

    def multiply_add(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        """a · b + c, rounded once where the processor can."""
        if _FUSED:
            return self._intrinsic(f"llvm.fma.{self.suffix}", self.type, [a, b, c])
        return self.builder.fadd(self.builder.fmul(a, b), c)

    def transpose(self, rows: list[ir.Value]) -> list[ir.Value]:
        """The columns of a square of ``length`` vectors, by exchanging ever larger halves of pairs of rows."""
        rows, step = list(rows), 1
        while step < self.length:
            low, high = self._exchange(step)
            for row in range(self.length):
                if not row & step:
                    pair = rows[row], rows[row + step]
                    rows[row], rows[row + step] = self._shuffle(*pair, low), self._shuffle(*pair, high)
            step *= 2
        return rows

    def folded(self, vectors: list[ir.Value]) -> ir.Value:
        """The sum of the vectors, 1, 2, 4 ... of them: the second half is added to the first, until one is left."""
        while len(vectors) > 1:
            half = len(vectors) // 2
            vectors = [self.builder.fadd(*pair) for pair in zip(vectors[:half], vectors[half:], strict=True)]
        return vectors[0]

    def sums(self, rows: list[ir.Value]) -> ir.Value:
        """The sum of the numbers of each of ``length`` vectors, the halves added as in ``folded``."""
        step = self.length // 2
        while step > 0:
            low, high = self._exchange(step)
            pairs = zip(rows[:step], rows[step:], strict=True)
            rows = [self.builder.fadd(self._shuffle(*pair, low), self._shuffle(*pair, high)) for pair in pairs]
            step //= 2
        return rows[0]

    def _exchange(self, step: int) -> tuple[list[int], list[int]]:
        """Places in two vectors, counted through both: where their even parts of ``step`` numbers are, and the odd."""
        places = range(self.length)
        low = [place if not place & step else self.length + place - step for place in places]
        return low, [place + step if not place & step else self.length + place for place in places]

    def _shuffle(self, a: ir.Value, b: ir.Value, places: Sequence[int]) -> ir.Value:
        """The numbers at ``places`` of the two vectors, counted through both."""
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_INT32, len(places)), list(places)))
