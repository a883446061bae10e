"""Plain NumPy twins of the kernels: short, slow, in float64, written from the papers, not from the kernels.

A twin takes a kernel's inputs and returns its outputs. At the end: how a test calls a plan's function.
"""

import numpy as np

from fastnn.kernels.jit import address, kernel
from fastnn.kernels.memory import call

# Random numbers


def philox(counter, key):
    """Philox 4x32-10 (Salmon et al. 2011) with Python's integers."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        left, right = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = right >> 32 ^ c1 ^ k0, right % 2**32, left >> 32 ^ c3 ^ k1, left % 2**32
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return c0, c1, c2, c3


def random_bits(seed, step, layer, row, column):
    counter = [int(word) % 2**32 for word in (column // 4, row, step, layer)]
    seed = int(seed) % 2**64
    return philox(counter, (seed % 2**32, seed >> 32))[column % 4]


def shuffled_order(rows, seed, epoch):
    """The inside-out shuffle: element i goes to a random place of [0, i], what was there goes to place i."""
    order = []
    for i in range(rows):
        words = [random_bits(seed, epoch, 2**32 - 1, 0, 2 * i + half) for half in (0, 1)]
        place = (words[0] * 2**32 + words[1]) * (i + 1) >> 64
        order.append(i)
        order[i], order[place] = order[place], i
    return np.array(order, np.int64)


# Dropout


def dropout_mask(shape, threshold, seed, step, layer, first_row):
    rows, columns = shape
    return np.array(
        [
            [random_bits(seed, step, layer, first_row + row, column) >= threshold for column in range(columns)]
            for row in range(rows)
        ],
        bool,
    ).reshape(shape)


def dropout_forward(x, threshold, scale, seed, step, layer, first_row):
    return np.where(dropout_mask(x.shape, threshold, seed, step, layer, first_row), x * x.dtype.type(scale), 0)


dropout_backward = dropout_forward

# Losses: (losses, dy) of outputs y, or (losses, y, dz) of logits z


def squared_error(y, target, option, scale):
    y, target = np.float64(y), np.float64(target)
    return np.mean((y - target) ** 2, axis=1), 2 * (y - target) * scale / y.shape[1]


def absolute_error(y, target, option, scale):
    y, target = np.float64(y), np.float64(target)
    return np.mean(np.abs(y - target), axis=1), np.sign(y - target) * scale / y.shape[1]


def huber(y, target, delta, scale):
    error = np.float64(y) - np.float64(target)
    size = np.minimum(np.abs(error), delta)
    return np.mean(size * (np.abs(error) - size / 2), axis=1), np.sign(error) * size * scale / y.shape[1]


def pinball(y, target, quantile, scale):
    above, below = np.maximum(np.float64(y) - target, 0), np.maximum(target - np.float64(y), 0)
    slope = (1 - quantile) * (above > 0) - quantile * (below > 0)
    return np.mean(quantile * below + (1 - quantile) * above, axis=1), slope * scale / y.shape[1]


def smoothed(target, smoothing, classes):
    return target * (1 - smoothing) + smoothing / classes


def probabilities(target, smoothing, classes):
    """Labels as one row of zeros and a one each; probabilities as they are; smoothed."""
    if target.shape[1] == 1 and classes > 1:
        target = np.eye(classes)[target[:, 0].astype(int)]
    return smoothed(np.float64(target), smoothing, classes)


def sigmoid_cross_entropy(z, target, smoothing, scale):
    z, target = np.float64(z), smoothed(np.float64(target), smoothing, 2)
    y = 1 / (1 + np.exp(-z))
    losses = np.logaddexp(0, -z) * target + np.logaddexp(0, z) * (1 - target)
    return np.mean(losses, axis=1), y, (y - target) * scale / z.shape[1]


def softmax_cross_entropy(z, target, smoothing, scale):
    z, target = np.float64(z), probabilities(target, smoothing, z.shape[1])
    log_y = z - np.logaddexp.reduce(z, axis=1, keepdims=True)
    y = np.exp(log_y)
    return -np.sum(target * log_y, axis=1), y, (y * target.sum(axis=1, keepdims=True) - target) * scale


# Metrics


def categorical_accuracy(y, target):
    labels = target[:, 0] if target.shape[1] == 1 and y.shape[1] > 1 else np.argmax(target, axis=1)
    return np.float64(np.argmax(y, axis=1) == labels)


def top_k_accuracy(y, target, k):
    labels = target[:, 0].astype(int) if target.shape[1] == 1 and y.shape[1] > 1 else np.argmax(target, axis=1)
    return np.float64((y > np.take_along_axis(y, labels[:, None], axis=1)).sum(axis=1) < k)


def binary_accuracy(y, target):
    return np.mean((y > 0.5) == (target > 0.5), axis=1)


# Updates: the new (p, slots...)


def slope_of(g, p, scale, limit, l2):
    """The slope that every update sees: the gradient with that of L2, scaled, then clipped."""
    return np.clip(scale * (g + 2 * l2 * p), -limit, limit)


def sgd_update(p, g, rate, scale, limit, l1, l2):
    return soft_threshold(p - rate * slope_of(g, p, scale, limit, l2), rate * scale * l1)


def momentum_update(p, velocity, g, rate, momentum, nesterov, scale, limit, l1, l2):
    step, start = rate * slope_of(g, p, scale, limit, l2), p - momentum * velocity if nesterov else p
    new = soft_threshold(p - step if nesterov else p + momentum * velocity - step, rate * scale * l1)
    velocity = new - start
    return (new + momentum * velocity if nesterov else new), velocity


def adagrad_update(p, total, g, rate, epsilon, scale, limit, l1, l2):
    g = slope_of(g, p, scale, limit, l2)
    total = total + g**2
    steps = rate / np.sqrt(total + epsilon)
    return soft_threshold(p - steps * g, steps * scale * l1), total


def rmsprop_update(p, mean, velocity, g, rate, rho, momentum, epsilon, scale, limit, l1, l2):
    g = slope_of(g, p, scale, limit, l2)
    mean = rho * mean + (1 - rho) * g**2
    steps = rate / np.sqrt(mean + epsilon)
    remembered = momentum * velocity if len(velocity) else 0
    new = soft_threshold(p - remembered - steps * g, steps * scale * l1)
    return new, mean, p - new if len(velocity) else velocity


def adam_update(p, m, v, g, rate, beta_1, beta_2, epsilon, step, decay, scale, limit, l1, l2):
    g = slope_of(g, p, scale, limit, l2)
    m = beta_1 * m + (1 - beta_1) * g
    v = beta_2 * v + (1 - beta_2) * g**2
    m_hat, v_hat = m / (1 - beta_1**step), v / (1 - beta_2**step)
    steps = rate / (np.sqrt(v_hat) + epsilon)
    p = p - steps * m_hat - rate * decay * p
    return soft_threshold(p, steps * scale * l1), m, v


def slope_with_l1(p, slope, l1):
    """The slope and that of L1; where p is 0, L1's slope is the one that brings it nearest to 0."""
    return np.where(p != 0, slope + l1 * np.sign(p), soft_threshold(slope, l1))


def squared_norms(p, g, l1, l2):
    """Of each row: the slope of loss, L2 and L1."""
    p, g = np.float64(p), np.float64(g)
    return (slope_with_l1(p, g + 2 * l2 * p, l1) ** 2).sum(axis=1)


def max_norm(p, limit):
    norms = np.sqrt((np.float64(p) ** 2).sum(axis=0))
    return p * np.minimum(1, limit / np.maximum(norms, 1e-300))


def soft_threshold(p, threshold):
    return np.sign(p) * np.maximum(np.abs(p) - threshold, 0)


def penalty_sum(p, l1, l2):
    return l1 * np.sum(np.abs(p), dtype=np.float64) + l2 * np.sum(np.float64(p) ** 2)


# A plan's functions


@kernel
def _call(function, run, record, first, last):
    return call(function, run, record, first, last)


def record(length, values):
    """A record of a plan: {field: a number, or an array that stands for its address}."""
    fields = np.zeros(length, np.int64)
    for field, value in values.items():
        fields[field] = value.ctypes.data if isinstance(value, np.ndarray) else value
    return fields


def run_plan(function, run, row, first, last):
    """The status of a plan's function on the records ``run`` and ``row``."""
    return _call(address(function), run.ctypes.data, row.ctypes.data, first, last)
