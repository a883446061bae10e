"""The processor that machine code is made for: this one, or what Numba's own settings say.

``NUMBA_CPU_NAME`` and ``NUMBA_CPU_FEATURES`` choose another one, such as the least of several that share an image.
"""

import llvmlite.binding as llvm
import numba
from numba.core import codegen, config

#: As in pyproject.toml: a checkout on the path may meet an older one. With 0.61 LLVM refuses the kernels' code.
OLDEST_NUMBA = 0, 63

_found = numba.version_info.short  # None, None of one that was built without its tags
if None not in _found and _found < OLDEST_NUMBA:
    raise ImportError(
        f"fastnn needs Numba {OLDEST_NUMBA[0]}.{OLDEST_NUMBA[1]} or newer, but {numba.__version__} is installed: "
        "python -m pip install --upgrade numba"
    )

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
