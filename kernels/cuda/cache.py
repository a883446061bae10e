"""Compiled kernels of the GPU on disk, beside those of the CPU and under the same stamp.

Numba's own cache for GPUs looks at one file, as that for the CPU does, and does not know a kernel again that refers to
other compiled functions. Here an entry is known by all that the kernel refers to (``..cache.fingerprint``), the types
of its arguments, and what it was compiled for.
"""

from importlib import metadata

from numba.cuda import serialize
from numba.cuda.descriptor import cuda_target
from numba.cuda.dispatcher import _Kernel

from .. import cache, jit

__all__ = ["DeviceCache"]

VERSION = metadata.version("numba-cuda")


def target():
    """What a kernel is compiled for: CUDA's version and the GPU's compute capability."""
    return cuda_target.target_context.codegen().magic_tuple()


class DeviceCache(cache.KernelCache):
    """The entries of one kernel, in the form that numba-cuda's dispatchers expect of a cache.

    options : what else the kernel is compiled with.
    """

    def __init__(self, function, options):
        super().__init__(function, jit._told)
        self.options = tuple(options.items())

    def _path(self, signature):
        return super()._path((signature, self.options, VERSION, target()))

    def _rebuild(self, entry, target_context):
        return _Kernel._rebuild(**entry)

    def save_overload(self, signature, result):
        """Write the compiled kernel to its file; at worst it is not written."""
        try:
            path = self._path(signature)
            if path is not None and not cache.edited():
                cache.write(path, serialize.dumps(result._reduce_states()))
        except Exception:  # a full disk, another numba-cuda: the kernel itself is fine
            return
