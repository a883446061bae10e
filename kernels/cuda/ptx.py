"""Instructions that CUDA Python has no word for, as inline PTX: tensor cores and asynchronous copies.

Each function is one instruction, or a few, of the *PTX ISA* (NVIDIA, version 9.0), and runs in every thread of a
block. Addresses in shared memory are 32-bit numbers, addresses in global memory 64-bit ones, both in bytes. Needs
compute capability 8.0.
"""

from llvmlite import ir
from numba.cuda import types
from numba.cuda.extending import intrinsic

__all__ = [
    "commit_copies",
    "copy_16_bytes",
    "copy_4_bytes",
    "float_from_bits",
    "global_address",
    "load_shared",
    "load_shared_4",
    "multiply_bf16",
    "multiply_tf32",
    "pack_bf16",
    "round_tf32",
    "shared_address",
    "store_shared",
    "wait_for_copies",
]

_float, _int, _long, _void = ir.FloatType(), ir.IntType(32), ir.IntType(64), ir.VoidType()

#: The letters of inline PTX for registers.
_LETTER = {_float: "f", _int: "r", _long: "l"}

#: A C fragment of a warp's tile of 16 x 8 numbers: four of them in each thread.
_FRAGMENT = types.UniTuple(types.float32, 4)


def _assemble(builder, text, results, arguments, tied=0, memory=False, together=False):
    """Put in ``text``, where ``$0, $1, ...`` are the results and then the arguments.

    tied : how many results, at the end of the arguments, are read first and then overwritten. memory : the text
    reads or writes memory, so that it must stay, in its place. together : all threads of a warp have to come, so that
    the compiler must not move it to where some do not.
    """
    free = arguments[: len(arguments) - tied]
    constraints = ["=" + _LETTER[kind] for kind in results]
    constraints += [_LETTER[argument.type] for argument in free]
    constraints += [str(place) for place in range(tied)]
    if memory:
        constraints.append("~{memory}")
    kind = _void if not results else results[0] if len(results) == 1 else ir.LiteralStructType(results)
    function = ir.FunctionType(kind, [argument.type for argument in arguments])
    assembly = ir.InlineAsm(function, text, ",".join(constraints), side_effect=memory)
    return builder.call(assembly, arguments, attrs=("convergent",) if together else ())


def _tuple_of_4(context, builder, signature, values):
    return context.make_tuple(builder, signature.return_type, [builder.extract_value(values, i) for i in range(4)])


def _nothing(context):
    return context.get_dummy_value()


def _first_element(context, builder, kind, array):
    return context.make_array(kind)(context, builder, array).data


@intrinsic
def shared_address(typing_context, array):
    """Where a shared array begins in the block's shared memory."""

    def code(context, builder, signature, arguments):
        data = _first_element(context, builder, signature.args[0], arguments[0])
        shared = builder.addrspacecast(data, ir.PointerType(data.type.pointee, 3))
        return builder.ptrtoint(shared, _int)

    return types.uint32(array), code


@intrinsic
def global_address(typing_context, array):
    """Where an array begins in global memory."""

    def code(context, builder, signature, arguments):
        return builder.ptrtoint(_first_element(context, builder, signature.args[0], arguments[0]), _long)

    return types.int64(array), code


def _copy(name, size):
    def code(context, builder, signature, arguments):
        _assemble(builder, f"{name}.shared.global [$0], [$1], {size}, $2;", [], arguments, memory=True)
        return _nothing(context)

    return types.void(types.uint32, types.int64, types.int32), code


@intrinsic
def copy_16_bytes(typing_context, to, source, count):
    """Begin to copy 16 bytes to shared memory: ``count`` (0 to 16) bytes of global memory, then zeros."""
    return _copy("cp.async.cg", 16)


@intrinsic
def copy_4_bytes(typing_context, to, source, count):
    """Begin to copy 4 bytes to shared memory: ``count`` (0 or 4) bytes of global memory, then zeros."""
    return _copy("cp.async.ca", 4)


@intrinsic
def commit_copies(typing_context):
    """The copies that this thread began since the last call are a group."""

    def code(context, builder, signature, arguments):
        _assemble(builder, "cp.async.commit_group;", [], [], memory=True)
        return _nothing(context)

    return types.void(), code


@intrinsic
def wait_for_copies(typing_context, pending):
    """Wait until at most ``pending`` (a constant) of this thread's youngest groups are under way."""
    if not isinstance(pending, types.IntegerLiteral):
        return None

    def code(context, builder, signature, arguments):
        _assemble(builder, f"cp.async.wait_group {pending.literal_value};", [], [], memory=True)
        return _nothing(context)

    return types.void(pending), code


@intrinsic
def load_shared(typing_context, address):
    """A float32 of shared memory."""

    def code(context, builder, signature, arguments):
        return _assemble(builder, "ld.shared.f32 $0, [$1];", [_float], arguments, memory=True)

    return types.float32(types.uint32), code


@intrinsic
def load_shared_4(typing_context, address):
    """Four float32 of shared memory that lie side by side; the address is a multiple of 16."""

    def code(context, builder, signature, arguments):
        text = "ld.shared.v4.f32 {$0, $1, $2, $3}, [$4];"
        return _tuple_of_4(context, builder, signature, _assemble(builder, text, [_float] * 4, arguments, memory=True))

    return _FRAGMENT(types.uint32), code


@intrinsic
def store_shared(typing_context, address, value):
    """Write a float32 to shared memory."""

    def code(context, builder, signature, arguments):
        _assemble(builder, "st.shared.f32 [$0], $1;", [], arguments, memory=True)
        return _nothing(context)

    return types.void(types.uint32, types.float32), code


@intrinsic
def round_tf32(typing_context, x):
    """The bits of the TF32 number nearest to a float32 (10 bits of fraction; ties go away from zero)."""

    def code(context, builder, signature, arguments):
        return _assemble(builder, "cvt.rna.tf32.f32 $0, $1;", [_int], arguments)

    return types.uint32(types.float32), code


@intrinsic
def float_from_bits(typing_context, bits):
    """The float32 that has these bits."""

    def code(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], _float)

    return types.float32(types.uint32), code


@intrinsic
def pack_bf16(typing_context, low, high):
    """Two float32, each rounded to the nearest BF16 (7 bits of fraction; ties to even), in the halves of 32 bits."""

    def code(context, builder, signature, arguments):
        low, high = arguments
        return _assemble(builder, "cvt.rn.bf16x2.f32 $0, $1, $2;", [_int], [high, low])

    return types.uint32(types.float32, types.float32), code


def _multiply(shape, kind):
    def code(context, builder, signature, arguments):
        text = (
            f"mma.sync.aligned.{shape}.row.col.f32.{kind}.{kind}.f32 "
            "{$0, $1, $2, $3}, {$4, $5, $6, $7}, {$8, $9}, {$0, $1, $2, $3};"
        )
        c = [builder.extract_value(arguments[0], i) for i in range(4)]
        results = _assemble(builder, text, [_float] * 4, [*arguments[1:], *c], tied=4, together=True)
        return _tuple_of_4(context, builder, signature, results)

    return _FRAGMENT(_FRAGMENT, *[types.uint32] * 6), code


@intrinsic
def multiply_tf32(typing_context, c, a0, a1, a2, a3, b0, b1):
    """C + A·B for a warp: A is 16 x 8, B is 8 x 8, C is 16 x 8; A and B in TF32, sums in float32.

    Thread 4g + t of the warp has, with one number in each register (PTX ISA, "Matrix Fragments for mma.m16n8k8"):
    a0 .. a3 : rows g, g+8, g, g+8 and columns t, t, t+4, t+4 of A; b0, b1 : rows t, t+4 and column g of B;
    c : rows g, g, g+8, g+8 and columns 2t, 2t+1, 2t, 2t+1 of C.
    """
    return _multiply("m16n8k8", "tf32")


@intrinsic
def multiply_bf16(typing_context, c, a0, a1, a2, a3, b0, b1):
    """C + A·B for a warp: A is 16 x 16, B is 16 x 8, C is 16 x 8; A and B in BF16, sums in float32.

    Thread 4g + t of the warp has, with two numbers in each register (PTX ISA, "Matrix Fragments for mma.m16n8k16"):
    a0 .. a3 : rows g, g+8, g, g+8 and columns 2t, 2t, 2t+8, 2t+8 of A, and the next column; b0, b1 : rows 2t, 2t+8 and
    the next row, column g of B; c : as in ``multiply_tf32``.
    """
    return _multiply("m16n8k16", "bf16")
