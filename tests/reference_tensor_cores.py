"""What tensor cores do with numbers, in NumPy: rounding to TF32 and BF16, and sums that cut off."""

import numpy as np

__all__ = ["bf16", "multiply", "round_bits", "tensor_sum", "tf32"]

#: Products that tensor cores add up at once, at least (Khattak and Mikaitis, "Accurate Models of NVIDIA Tensor
#: Cores", arXiv:2512.07004); newer ones take more, and so cut off less often.
TOGETHER = {"tf32": 4, "bf16": 8}

#: How many numbers of the depth one instruction multiplies.
INSTRUCTION = {"tf32": 8, "bf16": 16}


def round_bits(x, fraction, ties_to_even):
    """The float32 x rounded to a fraction of so many bits; infinities and NaN stay."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    lost = 23 - fraction
    half = np.uint32(1 << (lost - 1))
    odd = (bits >> np.uint32(lost)) & np.uint32(1)
    plus = half - np.uint32(1) + odd if ties_to_even else half
    rounded = (bits + plus) & np.uint32(0xFFFFFFFF << lost & 0xFFFFFFFF)
    return np.where(np.isfinite(x), rounded.view(np.float32), x).astype(np.float32)


def tf32(x):
    """Rounded to 10 bits of fraction, ties away from zero: PTX's cvt.rna.tf32.f32."""
    return round_bits(x, 10, ties_to_even=False)


def bf16(x):
    """Rounded to 7 bits of fraction, ties to even: PTX's cvt.rn.bf16x2.f32."""
    return round_bits(x, 7, ties_to_even=True)


def cut(x, quantum):
    """x cut off to a multiple of the quantum."""
    return np.trunc(x / quantum) * quantum


def tensor_sum(c, terms):
    """c + the terms (last axis), each cut off to the 24 bits of the largest, and the sum cut off to float32.

    The most pessimistic of the models that were found for NVIDIA's GPUs: newer ones keep one or two bits more.
    """
    together = np.concatenate([np.float64(c)[..., None], terms], axis=-1)
    largest = abs(together).max(axis=-1)
    quantum = np.exp2(np.floor(np.log2(np.where(largest > 0, largest, 1))) - 23)
    total = cut(together, quantum[..., None]).sum(axis=-1)
    size = np.exp2(np.floor(np.log2(np.where(total != 0, abs(total), 1))) - 23)
    return cut(total, size).astype(np.float32)


def multiply(c, a, b, kind):
    """One instruction: C + A·B; a : (..., rows, depth), b : (..., depth, columns), already rounded to ``kind``."""
    products = np.einsum("...ik,...kj->...ijk", np.float64(a), np.float64(b))
    for k in range(0, products.shape[-1], TOGETHER[kind]):
        c = tensor_sum(c, products[..., k : k + TOGETHER[kind]])
    return c
