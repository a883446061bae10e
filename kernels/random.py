"""Random numbers from a counter, not from a generator's state: Philox 4x32-10, the same on every device.

A word is a pure function of (seed, step, layer, row, column), so any worker of any device can draw any part
of a stream, in any order, and draw it again. Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers:
as easy as 1, 2, 3" (2011).

The arithmetic is on 64-bit words that hold 32 bits each: a product of two fits, so the bits are the same in
compiled code (where 32-bit numbers widen) and in NumPy (where they wrap, with a warning).
"""

import numpy as np
from numba import types

from .jit import formula, kernel

_MASK = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_MULTIPLIER_0 = np.uint64(0xD2511F53)
_MULTIPLIER_1 = np.uint64(0xCD9E8D57)
_WEYL_0 = np.uint64(0x9E3779B9)
_WEYL_1 = np.uint64(0xBB67AE85)

#: The "layer" of the shuffling of rows; layers of a network are counted from 0 and never reach it.
SHUFFLE = 0xFFFFFFFF


@formula
def _word(number):
    """The lower 32 bits of an integer of any type, in a 64-bit word."""
    return np.uint64(number & 0xFFFFFFFF)


@formula
def _round(c0, c1, c2, c3, k0, k1):
    left = _MULTIPLIER_0 * c0
    right = _MULTIPLIER_1 * c2
    return (right >> _HALF) ^ c1 ^ k0, right & _MASK, (left >> _HALF) ^ c3 ^ k1, left & _MASK


@formula
def _two_rounds(c0, c1, c2, c3, k0, k1):
    """Two rounds; the key grows by a constant after each."""
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = (k0 + _WEYL_0) & _MASK, (k1 + _WEYL_1) & _MASK
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    return c0, c1, c2, c3, (k0 + _WEYL_0) & _MASK, (k1 + _WEYL_1) & _MASK


@formula
def _philox(c0, c1, c2, c3, k0, k1):
    """Ten rounds, written out: around a loop the compiler would not vectorize."""
    c0, c1, c2, c3, k0, k1 = _two_rounds(c0, c1, c2, c3, k0, k1)
    c0, c1, c2, c3, k0, k1 = _two_rounds(c0, c1, c2, c3, k0, k1)
    c0, c1, c2, c3, k0, k1 = _two_rounds(c0, c1, c2, c3, k0, k1)
    c0, c1, c2, c3, k0, k1 = _two_rounds(c0, c1, c2, c3, k0, k1)
    c0, c1, c2, c3, k0, k1 = _two_rounds(c0, c1, c2, c3, k0, k1)
    return c0, c1, c2, c3


@formula
def philox(c0, c1, c2, c3, k0, k1):
    """Philox 4x32-10: four random 32-bit words of the counter (c0, c1, c2, c3) and the key (k0, k1)."""
    r0, r1, r2, r3 = _philox(_word(c0), _word(c1), _word(c2), _word(c3), _word(k0), _word(k1))
    return np.uint32(r0), np.uint32(r1), np.uint32(r2), np.uint32(r3)


@formula
def random_words(seed, step, layer, row, group):
    """The random 32-bit words of columns ``4 * group`` to ``4 * group + 3``.

    Key: the 64-bit seed. Counter: (group, row in the batch, step, layer), each taken modulo 2**32.
    """
    return philox(group, row, step, layer, seed, seed >> 32)


@formula
def random_bits(seed, step, layer, row, column):
    """The random 32-bit word of one column (for all columns ``random_words`` is four times as fast)."""
    r0, r1, r2, r3 = random_words(seed, step, layer, row, column >> 2)
    word = column & 3
    return (r0 if word == 0 else r1) if word < 2 else (r2 if word == 2 else r3)


@formula
def _below(bound, high, low):
    """A number in [0, bound), bound < 2**32: the upper half of the product of bound and a 64-bit word."""
    bound = np.uint64(bound)
    return np.int64((np.uint64(high) * bound + ((np.uint64(low) * bound) >> _HALF)) >> _HALF)


@kernel
def shuffled_order(order, seed, epoch):
    """Fill ``order`` with a random permutation of 0 .. rows - 1 that depends on (seed, epoch) alone.

    order : (rows,) int64, rows < 2**32. The inside-out form of the shuffle of Fisher and Yates: element i
    goes to a place drawn from [0, i], and what was there goes to place i. The places are drawn first, into
    ``order`` itself, because that loop uses vectors; the second loop reads each before it overwrites it.
    A place is the upper half of a product with a 64-bit word, so its probability is off by less than 2**-64.
    """
    rows = order.shape[0]
    for pair in range(rows // 2):
        r0, r1, r2, r3 = random_words(seed, epoch, SHUFFLE, 0, pair)
        order[2 * pair] = _below(2 * pair + 1, r0, r1)
        order[2 * pair + 1] = _below(2 * pair + 2, r2, r3)
    if rows % 2:
        r0, r1, r2, r3 = random_words(seed, epoch, SHUFFLE, 0, rows // 2)
        order[rows - 1] = _below(rows, r0, r1)
    for row in range(rows):
        place = order[row]
        order[row] = order[place]
        order[place] = row


shuffled_order.signature = types.int64[::1], types.int64, types.int64
