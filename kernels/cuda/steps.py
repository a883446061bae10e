"""The launches of a training step, and of a whole slice of a tiny network."""

from ..formulas.own import own_formula
from . import narrow_kernels
from .element_updates import update_of
from .launch import SIMULATED, THREADS, ceiling, launch
from .layered import Layers, gather_kernel, loss_kernel
from .narrow_kernels import ROW_THREADS
from .paths import row_bytes
from .row_functions import loss_of

__all__ = ["MOST_BLOCKS", "NORM_PARTS", "LayeredSteps", "NarrowSteps", "TinySteps", "own_penalties"]

#: Blocks of a kernel that goes through all parameters, at most: threads go on with what is left.
MOST_BLOCKS = 4 if SIMULATED else 1024

#: Blocks that form the norm of the gradient, each a part of the sum.
NORM_PARTS = 3 if SIMULATED else 64


def own_penalties(plan):
    """The user's own penalties (value, slope), each once."""
    return list(dict.fromkeys(p.own_penalty for p in plan.parameters if p.own_penalty is not None))


class Steps:
    """What the three ways through a step share.

    arrays : the device arrays by name; values, slopes : the formulas of the activations; normed : somebody asks for the
    gradient's norm.
    """

    transposes = True

    #: The arrays of ``narrow_kernels.weights_kernel``.
    WEIGHTS = (
        "operations parameter_table program counters options rates scale parameters transposed first_slot second_slot "
        "gradients activations derivatives losses metrics penalty_terms results"
    )

    def __init__(self, plan, real, arrays, stream, room, batch_size, normed, values, slopes):
        self.plan, self.arrays, self.stream, self.batch_size = plan, arrays, stream, batch_size
        self.normed, self.updates = normed, plan.update is not None
        self.constrained = any(parameter.constraint >= 0 for parameter in plan.parameters)
        self.blocks, self.shared = ceiling(batch_size, max(1, room)), row_bytes(plan) * room
        elements = sum(parameter.size for parameter in plan.parameters)
        self.weight_blocks = max(1, min(ceiling(elements, THREADS), MOST_BLOCKS))
        own = own_penalties(plan)
        self.penalties = tuple(own_formula(value) for value, _ in own)
        penalty_slopes = tuple(own_formula(slope) for _, slope in own)
        self.values, self.slopes, self.loss = values, slopes, loss_of(plan.loss)
        update = update_of(plan.update or "sgd", plan.slots)
        self.of_weights = real, update, penalty_slopes, plan.update == "adam"
        self.real = real

    def weights_kernel(self, forms, updates):
        return narrow_kernels.weights_kernel(*self.of_weights, forms, updates, THREADS, self.transposes)

    def launch(self, kernel, blocks, threads, stream, names, *further, shared=0):
        """Launch a kernel with arrays by their names."""
        arguments = [self.arrays[name] for name in names.split()]
        launch(kernel, blocks, threads, stream, *arguments, *further, shared=shared)

    def finish(self, stream, formed):
        """What follows once the gradients are there: their norm, the update if it is not done yet, the constraints."""
        if self.normed:
            names = "parameter_table program options parameters gradients norms"
            self.launch(narrow_kernels.norm_kernel(THREADS), NORM_PARTS, THREADS, stream, names)
            self.launch(narrow_kernels.scale_kernel, 1, 1, stream, "counters norms limits scale")
        if self.updates and formed:
            self.launch(self.weights_kernel(False, True), self.weight_blocks, THREADS, stream, self.WEIGHTS)
        if self.constrained and self.updates:
            names = "parameter_table counters options parameters transposed"
            lines = len(self.plan.parameters)
            self.launch(narrow_kernels.constraint_kernel(self.transposes), MOST_BLOCKS, THREADS, stream, names, lines)


class TinySteps(Steps):
    """All steps of a slice in one launch."""

    def run(self, count):
        real, update, penalty_slopes, corrected = self.of_weights
        kernel = narrow_kernels.tiny_kernel(
            real, self.values, self.slopes, self.loss, self.penalties, update, penalty_slopes, corrected, THREADS
        )
        names = (
            "operations parameter_table program counters options rates x targets weights order parameters transposed "
            "first_slot second_slot gradients losses metrics penalty_terms kept results"
        )
        self.launch(kernel, 1, THREADS, self.stream, names, count, shared=self.shared)


class NarrowSteps(Steps):
    """A step in two launches: rows, then weights."""

    def step(self, stream):
        kernel = narrow_kernels.rows_kernel(self.real, self.values, self.slopes, self.loss, self.penalties)
        names = (
            "operations parameter_table program counters options x targets weights order parameters transposed "
            "activations derivatives losses metrics penalty_terms kept"
        )
        self.launch(kernel, self.blocks, ROW_THREADS, stream, names, shared=self.shared)
        at_once = self.updates and not self.normed
        self.launch(self.weights_kernel(True, at_once), self.weight_blocks + 1, THREADS, stream, self.WEIGHTS)
        self.finish(stream, formed=not at_once)


class LayeredSteps(Steps):
    """A step operation by operation."""

    transposes = False

    def __init__(self, *arguments, remote, seed):
        super().__init__(*arguments)
        arrays, size = self.arrays, self.batch_size
        self.layers = Layers(
            self.plan, remote, arrays["activations"], arrays["derivatives"], size, size, seed, arrays["step"]
        )

    def step(self, stream):
        row_blocks = ceiling(self.batch_size, ROW_THREADS)
        gathered = max(1, min(ceiling(self.batch_size * self.plan.inputs, THREADS), MOST_BLOCKS))
        self.launch(gather_kernel, gathered, THREADS, stream, "program counters x order activations step")
        operations = self.plan.operations
        self.layers.forward(operations, stream, training=True)
        names = "operations program counters options targets weights order activations derivatives losses metrics kept"
        self.launch(loss_kernel(self.loss), row_blocks, ROW_THREADS, stream, names)
        self.layers.backward(operations, stream)
        self.layers.gradients(stream)
        names = "parameter_table program counters options parameters penalty_terms losses metrics results"
        self.launch(narrow_kernels.report_kernel(THREADS, self.penalties), 1, THREADS, stream, names)
        self.finish(stream, formed=True)
