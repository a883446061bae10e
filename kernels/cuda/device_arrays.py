"""Arrays that are on the GPU already: CuPy's, PyTorch's, JAX's, Numba's, whatever tells where its numbers lie.

An object says so by ``__cuda_array_interface__`` or by DLPack. Its memory is used as it is where it holds rows of the
model's type side by side; else the device makes such a copy. Nothing goes through the host.
"""

import math
from types import SimpleNamespace

import numpy as np
from numba import cuda
from numba.cuda.cudadrv import driver

from .launch import SIMULATED, THREADS, Stream, element, elements_of, kernel, launch
from .memory import allocate, upload

__all__ = ["as_rows", "device_of", "first_not_finite", "readable"]

#: DLPack's number for CUDA's default stream.
LEGACY_STREAM = 1

#: More numbers than any array has.
NONE = np.iinfo(np.int64).max


def dlpack_device(value):
    """(kind, number) of the device where an object of DLPack has its numbers, or None."""
    method = getattr(value, "__dlpack_device__", None)
    return tuple(map(int, method())) if method is not None and hasattr(value, "__dlpack__") else None


def device_of(value):
    """The number of the GPU that has an object's numbers, or None where nobody knows. It asks the driver, so that some
    GPU has to be current."""
    if SIMULATED:
        return None
    device = dlpack_device(value)
    if device is not None:
        return device[1]
    address = driver.binding.CUdeviceptr(interface_of(value)["data"][0])
    ordinal = driver.binding.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
    try:
        return int(driver.driver.cuPointerGetAttribute(ordinal, address))
    except driver.CudaAPIError:  # of no memory at all, as that of an empty array
        return None


def interface_of(value):
    """Where an object's numbers lie, in the terms of ``__cuda_array_interface__``.

    It is asked by DLPack first: then it lets the default stream wait for whoever writes the numbers, on whatever stream
    of its own, which PyTorch does not where it only shows its interface.
    """
    if dlpack_device(value) is None:
        return value.__cuda_array_interface__
    from cuda.core.utils import StridedMemoryView

    view = StridedMemoryView.from_dlpack(value, stream_ptr=LEGACY_STREAM)
    cuda.default_stream().synchronize()
    return {
        "data": (view.ptr, True),
        "shape": tuple(view.shape),
        "strides": None if view.strides is None else tuple(step * view.dtype.itemsize for step in view.strides),
        "typestr": view.dtype.str,
        "version": 3,
    }


def readable(value):
    """Whether kernels can read an object's numbers: bool, integers, and floats of 2, 4 or 8 bytes, but no bfloat16."""
    if getattr(value, "__cuda_ndarray__", False):
        kind = value.dtype
    else:
        try:
            kind = np.dtype(interface_of(value)["typestr"])
        except (NotImplementedError, TypeError):  # a type that cuda.core, or NumPy, has no name for
            return False
    return kind.kind in "biuf" and kind.isnative and kind.itemsize <= 8


def as_array(value):
    """An object on the GPU as Numba's array of the same memory; it lives as long."""
    if getattr(value, "__cuda_ndarray__", False):
        return value
    interface = interface_of(value)
    if SIMULATED:
        from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray

        known = {key: interface[key] for key in ("data", "shape", "strides", "typestr", "version") if key in interface}
        array = FakeCUDAArray(np.asarray(SimpleNamespace(__array_interface__=known)))
        array.owner = value
        return array
    return cuda.from_cuda_array_interface(interface, owner=value)


@kernel
def copy_kernel(y, x):
    """y = x, in y's type."""
    row, column = element()
    if row < y.shape[0] and column < y.shape[1]:
        y[row, column] = x[row, column]


@kernel
def finite_kernel(x, first):
    """first[0] = the place of the first number, row after row, that is infinite or not a number."""
    row, column = element()
    if row < x.shape[0] and column < x.shape[1]:
        if not math.isfinite(x[row, column]):
            cuda.atomic.min(first, 0, row * x.shape[1] + column)


def as_rows(value, real):
    """An object on the GPU as a table of numbers of type ``real``, row after row; a flat one is one column."""
    array = as_array(value)
    if len(array.shape) == 1 and array.is_c_contiguous():
        array = array.reshape(array.shape[0], 1)
    if array.dtype == real and array.is_c_contiguous():
        return array
    rows = allocate(array.shape, real)
    launch(copy_kernel, elements_of(rows), THREADS, Stream(), rows, array)
    return rows


def first_not_finite(array):
    """(row, column) of the first number of a table that is infinite or not a number, or None."""
    first = upload(np.array([NONE]))
    launch(finite_kernel, elements_of(array), THREADS, Stream(), array, first)
    place = int(first.copy_to_host()[0])
    return None if place == NONE else divmod(place, array.shape[1])
