"""Device memory: the model's parameters while they live on the GPU, the data of a fit, and errors that say why not.

During a fit the parameters and the optimizer's slots are on the device. After each slice, which takes about a tenth of
a second, a copy of them goes to page-locked memory of the host, at 1 ms for 25 MB or so: if the GPU is lost, the model
has those of the last finished slice. The model's own arrays get them where somebody may read them: before callbacks,
and when the fit ends.
"""

import contextlib
import functools
import gc
import math

import numpy as np
from numba import cuda
from numba.cuda.cudadrv.driver import CudaAPIError

from .launch import SIMULATED

__all__ = ["DeviceArenas", "DeviceData", "DeviceLostError", "allocate", "device_errors", "on_gpu", "upload"]

#: The driver's number for "out of memory".
OUT_OF_MEMORY = 2

#: Contexts of lost GPUs in which nothing is freed any more, until the process ends.
GIVEN_UP = contextlib.ExitStack()

#: Data sets that are kept on the device during a fit: training and validation, each with targets and weights, and room.
KEPT_ARRAYS = 8


class DeviceLostError(RuntimeError):
    """The GPU does not answer any more."""


@contextlib.contextmanager
def on_gpu(index):
    """A context in which the GPU of this number is the current one; afterwards it is again the one that was before.

    Where there was none, this one stays: arrays are freed whenever nobody has them any more, which the driver does only
    where a GPU is current. What the driver refuses becomes a MemoryError or a ``DeviceLostError``.
    """
    try:
        current = cuda.gpus.current
        if not SIMULATED:
            cuda.gpus[index].get_primary_context()  # when numba-cuda first does so, no GPU is current afterwards
        if cuda.gpus.current is None:
            cuda.current_context(index if current is None else current.id)
        with cuda.gpus[index]:
            yield
    except device_errors() as fault:
        if is_out_of_memory(fault):
            raise no_room(None, *free_and_total()) from None
        give_up(index)
        raise DeviceLostError(
            f"the GPU failed: {fault}. The model has the weights and the optimizer's state of the last finished slice; "
            'model.to("cpu") goes on without the GPU'
        ) from fault


def give_up(index):
    """Let nobody free the memory of a GPU that is lost: each array would only report the same error."""
    if not SIMULATED:
        GIVEN_UP.enter_context(cuda.gpus[index].get_primary_context().defer_cleanup())


@functools.cache
def device_errors():
    """What numba-cuda and cuda.core raise when the driver refuses."""
    kinds = [CudaAPIError]
    if not SIMULATED:
        from cuda.core._utils.cuda_utils import CUDAError

        kinds.append(CUDAError)
    return tuple(kinds)


def free_and_total():
    """(free, total) bytes of the device's memory; infinite in the simulator."""
    return tuple(cuda.current_context().get_memory_info())


def no_room(wanted, free, total):
    """The error for an array of so many bytes, or None where it is not known how many."""
    size = "what is needed" if wanted is None else f"{wanted:,} bytes"
    known = f"{free:,.0f} of {total:,.0f} bytes are free" if math.isfinite(free) else "the device said no"
    return MemoryError(
        f"the GPU has no room for {size}: {known}; the model is unchanged. Expected less data or a smaller "
        'batch_size, or model.to("cpu")'
    )


def is_out_of_memory(fault):
    if isinstance(fault, MemoryError):
        return True
    return getattr(fault, "code", None) == OUT_OF_MEMORY or "OUT_OF_MEMORY" in str(fault).upper().replace(" ", "_")


def allocate(shape, dtype):
    """A device array, or a MemoryError with the needed and the free bytes."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    try:
        return cuda.device_array(shape, dtype)
    except (MemoryError, *device_errors()) as fault:
        if not is_out_of_memory(fault):
            raise
    gc.collect()  # models refer to themselves, and so keep their memory for a while when nobody has them any more
    try:
        return cuda.device_array(shape, dtype)
    except (MemoryError, *device_errors()) as fault:
        if not is_out_of_memory(fault):
            raise
        raise no_room(size, *free_and_total()) from None


def upload(array, to=None):
    """A copy of a host array on the device, or in ``to``."""
    array = np.ascontiguousarray(array)
    if to is None:
        to = allocate(array.shape, array.dtype)
    if array.size:
        to.copy_to_device(array)
    return to


def is_on_device(array):
    return not isinstance(array, np.ndarray)


class DeviceArenas:
    """The arenas of a model on the device: parameters, gradients, slots, and the weights transposed for the way back.

    arenas : the host's. Between ``begin`` and ``end`` the device has the numbers; outside, the host has them, and
    every call brings them along.
    """

    def __init__(self, arenas):
        self.arenas = arenas
        self.resident = False
        self.slot_count = len(arenas.slots)
        length, real = len(arenas.parameters), arenas.parameters.dtype
        self.parameters, self.gradients, self.transposed = (allocate(length, real) for _ in range(3))
        self.slots = [allocate(length, real) for _ in arenas.slots]
        self.none = allocate(0, real)
        self.copies, self.complete = [], None
        self.snapshot = []
        self.stale = False  # whether the transposed weights are out of date
        self.push()

    @classmethod
    def of(cls, arenas):
        """Those of ``arenas``, made when they are first needed."""
        found = getattr(arenas, "on_device", None)
        if found is None or found.slot_count != len(arenas.slots):
            found = arenas.on_device = cls(arenas)
        return found

    @property
    def arrays(self):
        """(device, host) pairs of what training changes."""
        return list(zip([self.parameters, *self.slots], [self.arenas.parameters, *self.arenas.slots], strict=True))

    def push(self):
        """The host's numbers to the device."""
        for device, host in self.arrays:
            upload(host, device)
        self.stale = True

    def fetch(self):
        """The device's numbers to the host, all or none: a device that is lost leaves the host as it was."""
        found = [device.copy_to_host() for device, _ in self.arrays]
        for (_, host), array in zip(self.arrays, found, strict=True):
            host[:] = array

    def bring(self):
        """What a call outside of a fit does first."""
        if not self.resident:
            self.push()

    def begin(self):
        if not self.copies:  # before any work: a slice that is done must not find that there is no room
            shapes = [(device.shape, device.dtype) for device, _ in self.arrays]
            self.copies = [[cuda.pinned_array(*shape) for shape in shapes] for _ in range(2)]
        self.push()
        self.resident, self.complete = True, None

    def end(self):
        """The numbers to the host, which has them from now on."""
        if self.resident:
            self.fetch()
        self.resident = False

    def take_snapshot(self):
        """Keep the numbers of now, on the device."""
        if not self.snapshot:
            self.snapshot = [allocate(device.shape, device.dtype) for device, _ in self.arrays]
        for kept, (device, _) in zip(self.snapshot, self.arrays, strict=True):
            kept.copy_to_device(device)

    def restore(self):
        for kept, (device, _) in zip(self.snapshot, self.arrays, strict=True):
            device.copy_to_device(kept)
        self.stale = True

    def keep_copy(self):
        """Copy what a finished slice has made to the host; the copy before stays until this one is complete."""
        turn = 0 if self.complete is None else 1 - self.complete
        for host, (device, _) in zip(self.copies[turn], self.arrays, strict=True):
            device.copy_to_host(host)
        self.complete = turn

    def rescue(self):
        """A slice has failed: what the last finished one has made, to the host's arrays, which have what was before."""
        if self.resident and self.complete is not None:
            for (_, host), kept in zip(self.arrays, self.copies[self.complete], strict=True):
                host[:] = kept
        self.resident = False


class DeviceData:
    """Host arrays on the device, copied when they are first asked for; kept while a fit lasts."""

    def __init__(self):
        self.kept = []

    def of(self, array, keep):
        """The device array of a host array; one that is on the device already is taken as it is."""
        if is_on_device(array):
            return array
        for number, (host, device) in enumerate(self.kept):
            same = host.ctypes.data == array.ctypes.data and host.dtype == array.dtype
            if same and host.shape == array.shape and host.strides == array.strides:
                self.kept.append(self.kept.pop(number))
                return device
        device = upload(array)
        if keep:
            self.kept = [*self.kept[-(KEPT_ARRAYS - 1) :], (array, device)]
        return device

    def forget(self):
        self.kept = []
