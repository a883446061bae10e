"""Subnormal numbers, below 1.2e-38 (float32) or 2.2e-308 (float64), taken as zero by the calling thread.

Intel's processors take a hundred cycles and more for an operation that meets one. A network that has learned its data
by heart is full of them: its probabilities are 1 and, for the other classes, next to nothing, and so is what goes
backward.
"""

from llvmlite import ir
from numba import types
from numba.core.cgutils import alloca_once_value, get_or_insert_function
from numba.extending import intrinsic

from ..jit import COMPILED, formula
from ..target import X86

#: Bits of the control register of x86's vector unit: results that are subnormal become zero; operands that are, too.
_FLUSH_TO_ZERO, _DENORMALS_ARE_ZERO = 1 << 15, 1 << 6

if COMPILED and X86:
    _WORD, _BYTE = ir.IntType(32), ir.IntType(8).as_pointer()

    def _control(builder, name, word):
        """Read or write the control register by the instruction ``name``, from or to memory that begins as ``word``."""
        memory = alloca_once_value(builder, word)
        kind = ir.FunctionType(ir.VoidType(), [_BYTE])
        function = get_or_insert_function(builder.module, kind, f"llvm.x86.sse.{name}")
        builder.call(function, [builder.bitcast(memory, _BYTE)])
        return memory

    @intrinsic
    def without_subnormal(typing_context):
        """Take subnormal numbers as zero from now on, in this thread. Returns what ``restore_subnormal`` needs."""

        def generate(context, builder, signature, arguments):
            before = builder.load(_control(builder, "stmxcsr", _WORD(0)))
            _control(builder, "ldmxcsr", builder.or_(before, _WORD(_FLUSH_TO_ZERO | _DENORMALS_ARE_ZERO)))
            return before

        return types.uint32(), generate

    @intrinsic
    def restore_subnormal(typing_context, before):
        """Take subnormal numbers as they were taken before."""

        def generate(context, builder, signature, arguments):
            _control(builder, "ldmxcsr", arguments[0])
            return context.get_dummy_value()

        return types.void(types.uint32), generate

else:  # plain Python, and processors of which no such penalty is known

    @formula
    def without_subnormal():
        return 0

    @formula
    def restore_subnormal(before):
        pass
