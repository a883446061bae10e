"""The GPU's engine: a slice of training steps without a word from the host.

What changes from step to step (the batch, its rows, the learning rate, where the loss goes) is found on the device
from counters there, so all steps are launches of equal kernels with equal arguments. On a GPU a number of them is
captured once as a CUDA graph and replayed: a launch from Python costs 10 to 30 µs, one in a graph less than 1. Where
there is no graph (in the simulator, or if the capture fails) each kernel is launched by itself.
"""

import contextlib
import warnings

from .launch import SIMULATED

__all__ = ["Replay"]

#: Steps in a graph, from many to few: a slice is made up of such graphs. Few are captured sooner, which every fit waits
#: for; so many take longer on the GPU than their launch takes on the host.
GRAPH_STEPS = (16, 1)


@contextlib.contextmanager
def stream_for_capture():
    """A stream that has nothing to do with the default one, so that other threads may copy during the capture."""
    from cuda.core import Stream
    from numba.cuda.cudadrv.driver import binding, driver

    handle = driver.cuStreamCreate(int(binding.CUstream_flags.CU_STREAM_NON_BLOCKING))
    try:
        yield Stream.from_handle(int(handle))
    finally:
        driver.cuStreamDestroy(handle)


class Replay:
    """Runs ``step(stream)`` again and again; ``step`` launches kernels with the same arguments every time.

    stream : a ``launch.Stream`` whose handle is one of ``cuda.stream()``.
    """

    def __init__(self, step, stream):
        self.step, self.stream = step, stream
        self.graphs = {}
        self.captures = not SIMULATED

    def run(self, count):
        """Run ``count`` steps; returns before they are done."""
        if self.captures and not self.graphs and count > 0:
            self.step(self.stream)  # which compiles, and that may not happen during a capture
            count -= 1
        for size in GRAPH_STEPS if self.captures else ():
            while count >= size and self.captures:
                graph = self.graphs.get(size) or self._capture(size)
                if graph is not None:
                    graph.launch(self._core_stream)
                    count -= size
        for _ in range(count):
            self.step(self.stream)

    def _capture(self, size):
        """``size`` steps as a graph; None, once with a warning, where that fails."""
        from cuda.core import Stream

        try:
            self._core_stream = Stream.from_handle(int(self.stream.handle))
            with (
                stream_for_capture() as stream,
                contextlib.closing(stream.create_graph_builder().begin_building()) as builder,
            ):
                for _ in range(size):
                    self.step(self.stream.capturing(builder.stream))
                self.graphs[size] = builder.end_building().complete()
        except Exception as fault:
            self.captures = False
            warnings.warn(f"no CUDA graph could be captured, so steps start more slowly: {fault}", stacklevel=2)
        return self.graphs.get(size)
