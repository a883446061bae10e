"""The processor that machine code is made for: this one, or what Numba's own settings say.

``NUMBA_CPU_NAME`` and ``NUMBA_CPU_FEATURES`` choose another one, such as the least of several that share an image.
"""

import llvmlite.binding as llvm
from numba.core import codegen, config

#: Its family; neither : another one.
X86 = llvm.get_process_triple().startswith(("x86", "i686", "amd64"))
ARM64 = llvm.get_process_triple().startswith(("aarch64", "arm64"))


def name() -> str:
    """What LLVM calls it."""
    return config.CPU_NAME or llvm.get_host_cpu_name()


def features() -> str:
    """What it has and has not, as LLVM takes it: "+avx2,+fma,-avx512f".

    Raises a ValueError for what this processor has not: such code would end the process.
    """
    if config.CPU_FEATURES is None:
        return codegen.get_host_cpu_features()
    here = llvm.get_host_cpu_features()
    missing = [part[1:] for part in config.CPU_FEATURES.split(",") if part[:1] == "+" and here.get(part[1:]) is False]
    if missing:
        raise ValueError(
            f"the environment variable NUMBA_CPU_FEATURES has {', '.join(missing)}; expected features that this "
            f"processor, {llvm.get_host_cpu_name()}, has"
        )
    return config.CPU_FEATURES
