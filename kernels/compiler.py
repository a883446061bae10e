"""Numba's compiler, without what kernels have no use for.

A kernel is one piece of code, optimized once, with all its formulas in it: so a formula is typed and written for LLVM,
but neither optimized nor translated on its own. Kernels allocate nothing, so no references are counted.
"""

from __future__ import annotations

import functools
import operator
from typing import Any

from llvmlite import ir as llvm
from numba import _dynfunc, types
from numba.core import cgutils, typing
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.compiler_machinery import register_pass
from numba.core.lowering import Lower
from numba.core.typed_passes import IRLegalization, NativeLowering, NopythonRewrites
from numba.core.untyped_passes import InlineClosureLikes, WithLifting

#: Vectors that an ``interleaved`` loop takes at a time: more would not fit into 16 registers.
INTERLEAVED = 4

#: Of a function: its loops take vectors of 64 bytes where there are any. For many of Intel's processors LLVM would stay
#: with 32, because the first ones that had longer ones lowered their clock for them.
_WIDEST_VECTORS = '"prefer-vector-width"="512"'


class Whole(JITCodeLibrary):
    """Code that LLVM optimizes once, together with all that is linked in, and not function by function before that."""

    interleaves = False

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self._bodies: list[str] = []  # of C functions

    def _optimize_functions(self, ll_module: Any) -> None:
        pass

    def add_ir_module(self, ir_module: Any) -> None:
        for function in ir_module.functions:
            set.add(function.attributes, _WIDEST_VECTORS)  # llvmlite's own ``add`` knows names alone
            if function.name.startswith("cfunc."):
                self._bodies += _inline_body(function)
        if self.interleaves:
            _interleave(ir_module)
        super().add_ir_module(ir_module)

    def _optimize_final_module(self) -> None:
        """Without the quick passes that Numba has before the full ones: they are for counts of references."""
        for body in self._bodies:  # nobody else calls it: it need not stay beside the C function
            self._final_module.get_function(body).linkage = "internal"
        passes, builder = self._codegen._module_pass_manager()
        passes.run(self._final_module, builder)


def _inline_body(function: llvm.Function) -> list[str]:
    """Make the function that a C function calls a part of it; returns its name. Numba's call takes some nanoseconds by
    itself, and ten more where arguments lie on the stack: it copies them.
    """
    bodies = []
    for block in function.blocks:
        for call in block.instructions:
            if isinstance(call, llvm.CallInstr) and "noinline" in call.attributes:
                call.attributes.remove("noinline")
                call.attributes.add("alwaysinline")
                bodies.append(str(call.callee.name))
    return bodies


def _interleave(module: llvm.Module) -> None:
    """Ask for ``INTERLEAVED`` vectors in each loop of a module: with a hint at the branch that goes back."""
    name = llvm.MetaDataString(module, "llvm.loop.interleave.count")
    count = module.add_metadata([name, llvm.IntType(32)(INTERLEAVED)])
    for function in module.functions:
        passed = set()
        for block in function.blocks:
            passed.add(block)
            if passed.intersection(getattr(block.terminator, "operands", ())):
                loop = llvm.values.MDValue(module, [], str(len(module.metadata)))
                loop.operands = loop, count  # a loop is known by a node that begins with itself
                block.terminator.set_metadata("llvm.loop", loop)


class Part(Whole):
    """Code that becomes part of its callers: LLVM optimizes and translates it there, and not on its own."""

    def finalize(self) -> None:
        for library in dict.fromkeys(self._linking_libraries):
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        return 0


class LeanLower(Lower):
    """Numba's steps to LLVM's code, but for what is done in vain where nothing is allocated or shown to a debugger."""

    def lower_expr(self, result_type: Any, expression: Any) -> Any:
        """An array's number at a constant place is read like any other: Numba looks for a way of its own there."""
        if expression.op == "static_getitem" and isinstance(self.typeof(expression.value.name), types.Array):
            signature = self.fndesc.calltypes[expression]
            return self.lower_getitem(result_type, expression, expression.value, expression.index_var, signature)
        return super().lower_expr(result_type, expression)

    def lower_binop(self, result_type: Any, expression: Any, operation: Any) -> Any:
        """The types of an operator's call are those that were found before; Numba finds them anew."""
        if operation is operator.pow:  # it has a way of its own for constants
            return super().lower_binop(result_type, expression, operation)
        arguments = self.fndesc.calltypes[expression].args
        types_of_calls = self.context.types_of_calls
        function = types_of_calls.resolve_value_type(operation)
        signature = types_of_calls.resolve_function_type(function, arguments, {})
        names = expression.lhs.name, expression.rhs.name
        values = [
            self.context.cast(self.builder, self.loadvar(name), self.typeof(name), argument)
            for name, argument in zip(names, arguments, strict=True)
        ]
        result = self.context.get_function(function, signature)(self.builder, values)
        return self.context.cast(self.builder, result, signature.return_type, result_type)

    def alloca_lltype(self, name: str, lltype: Any, datamodel: Any = None) -> Any:
        """A variable has no size, which is for a debugger."""
        if self._disable_sroa_like_opt:  # with NUMBA_DEBUGINFO=1
            return super().alloca_lltype(name, lltype, datamodel)
        return cgutils.alloca_once(self.builder, lltype, name=name)

    def storevar(self, value: Any, name: str, argidx: int | None = None) -> None:
        """What a variable held before is not read: Numba would count its references."""
        if self._disable_sroa_like_opt:
            super().storevar(value, name, argidx)
            return
        self._alloca_var(name, self.typeof(name))
        if name in self._singly_assigned_vars:
            self._blk_local_varmap[name] = value
        else:
            self.builder.store(value, self.getvar(name))


@register_pass(mutates_CFG=True, analysis_only=False)
class Lowering(NativeLowering):
    """From Numba's code to LLVM's, without counting references to arrays: kernels allocate none."""

    _name = "lowering_without_reference_counts"
    lowering_class = LeanLower

    def run_pass(self, state: Any) -> Any:
        state.targetctx = state.targetctx.subtarget(enable_nrt=False)
        vars(state.targetctx).pop("nrt", None)  # what it knew before
        state.targetctx.types_of_calls = state.typingctx
        if state.library is None:
            state.library = Whole(state.targetctx.codegen(), state.func_id.func_qualname)
            state.library.enable_object_caching()
        state.library.interleaves = getattr(state.func_id.func, "interleaved", False)
        return super().run_pass(state)


class Remembering(typing.Context):
    """Finds the types of expressions, and remembers those of calls: most have been typed before."""

    def __init__(self, context: typing.Context):
        vars(self).update(vars(context))  # the same registries
        self._signatures: dict[Any, Any] = {}

    def resolve_function_type(self, func: Any, args: Any, kws: Any) -> Any:
        if kws or not isinstance(func, types.Function):
            return super().resolve_function_type(func, args, kws)
        signature = self._signatures.get((func, args))
        if signature is None:
            signature = self._signatures[func, args] = super().resolve_function_type(func, args, kws)
        return signature


#: What remembers the types of a context: one for each, and so one for all kernels.
remembering = functools.cache(Remembering)


class KernelCompiler(Compiler):
    """Numba's compiler, without what kernels have no use for."""

    def __init__(self, typing_context: Any, *arguments: Any):
        super().__init__(typing_context, *arguments)
        self.state.typingctx = remembering(typing_context)

    def define_pipelines(self) -> Any:
        (pipeline,) = super().define_pipelines()
        unused = WithLifting, InlineClosureLikes, NopythonRewrites, IRLegalization
        instead = {NativeLowering: Lowering}
        pipeline.passes = [(instead.get(step, step), text) for step, text in pipeline.passes if step not in unused]
        return [pipeline]


class PartCompiler(Compiler):
    """Numba's compiler, which makes a ``Part``."""

    def __init__(self, typing_context: Any, target_context: Any, library: Any, *arguments: Any):
        super().__init__(typing_context, target_context, Part(target_context.codegen(), "part"), *arguments)
        self.state.targetctx.get_executable = _without_entry


def _without_entry(library: Any, description: Any, environment: Any) -> Any:
    """What Numba knows a compiled function by: an object of its own, but nothing that could be called."""
    return _dynfunc.make_function(description.lookup_module(), description.qualname, "", 0, environment, (library,))


class FormulaCompiler(KernelCompiler, PartCompiler):
    """Makes a ``Part``, without what kernels have no use for."""
