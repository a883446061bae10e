"""Dropout on the GPU has the CPU's masks, bit for bit, and may be told the step by an array."""

import numpy as np
import pytest

from tests.kernels.cuda import running
from tests.kernels.cuda.running import REALS, numbers, put, sizes, unwritten

running.require()

from fastnn.kernels.cpu import dropout as cpu  # noqa: E402
from fastnn.kernels.cuda import dropout as kernels  # noqa: E402
from fastnn.kernels.cuda.launch import Stream  # noqa: E402

pytestmark = running.LIKE_A_GPU

SHAPES = sizes([(1, 1), (3, 7), (2, 17)], [(1, 1), (33, 65), (1000, 257), (4096, 4093)])
SEED = 0x0123456789ABCDEF


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize(("rows", "width"), SHAPES)
@pytest.mark.parametrize("on_device", [False, True])
def test_masks(rows, width, real, on_device):
    x, numbers_of_it = numbers((rows, width), real), (2**31, 2.0, SEED, 12345, 3, 7)
    x[0, 0] = np.nan
    there = tuple(put(np.array([n])) if on_device and i in (3, 5) else n for i, n in enumerate(numbers_of_it))
    wanted = np.empty_like(x)
    for name in ("dropout_forward", "dropout_backward", "dropout_mask"):
        y, arrays = unwritten(x.shape, real), () if name == "dropout_mask" else (x,)
        getattr(cpu, name)(wanted, *arrays, *numbers_of_it, 0, 1)
        getattr(kernels, name)(y, *map(put, arrays), *there, Stream())
        np.testing.assert_array_equal(y.copy_to_host(), wanted)
    applied, mask = unwritten(x.shape, real), put(wanted)
    kernels.apply_mask(applied, put(x), mask, Stream())
    kernels.apply_mask(mask, put(x), mask, Stream())
    cpu.apply_mask(wanted, x, wanted, 0, 1)
    np.testing.assert_array_equal(applied.copy_to_host(), wanted)
    np.testing.assert_array_equal(mask.copy_to_host(), wanted)


def test_the_mask_depends_on_all():
    usual = (2**31, 2.0, SEED, 5, 3, 7)
    masks = []
    for place, other in (((0, 2**30)), (2, SEED + 1), (2, SEED + 2**40), (3, 6), (4, 4), (5, 8), (0, 2**31)):
        mask = unwritten((4, 16), np.float32)
        kernels.dropout_mask(mask, *[other if i == place else n for i, n in enumerate(usual)], Stream())
        masks.append(mask.copy_to_host().tobytes())
    assert len(set(masks)) == len(masks)


def test_a_step_that_changes_on_the_device_changes_the_mask():
    step, mask = put(np.array([1])), unwritten((4, 16), np.float32)
    kernels.dropout_mask(mask, 2**31, 2.0, SEED, step, 0, 0, Stream())
    before = mask.copy_to_host().copy()
    step.copy_to_device(np.array([2]))
    kernels.dropout_mask(mask, 2**31, 2.0, SEED, step, 0, 0, Stream())
    assert (mask.copy_to_host() != before).any()
