"""NumPy written by hand: matrix products by its BLAS, the rest in place where it can be, Adam on one flat array."""

import math

import numpy as np
from threadpoolctl import threadpool_limits

from asv_bench.benchmarks.workloads import LEARNING_RATE, data, initial_weights

ADAM = 0.9, 0.999, 1e-7


def flat_weights(work):
    """All parameters as one flat array, and (W, b) of each layer as views of it."""
    layers = initial_weights(work)
    flat = np.concatenate([array.ravel() for pair in layers for array in pair])
    return flat, views(flat, layers)


def views(flat, layers):
    pairs, place = [], 0
    for pair in layers:
        arrays = []
        for array in pair:
            arrays.append(flat[place : place + array.size].reshape(array.shape))
            place += array.size
        pairs.append(arrays)
    return pairs


def activate(z, work):
    return np.maximum(z, 0, out=z) if work.activation == "relu" else np.tanh(z, out=z)


def last_activation(z, work):
    if work.loss == "binary_cross_entropy":
        return 1 / (1 + np.exp(-z))
    if work.loss == "cross_entropy":
        z -= z.max(1, keepdims=True)
        np.exp(z, out=z)
        z /= z.sum(1, keepdims=True)
    return z


def loss_and_slope(y, targets, work):
    """The mean loss, and its derivative by the last layer's sums."""
    rows = len(y)
    if work.loss == "mse":
        difference = y - targets
        return np.square(difference).mean(), difference * (2 / difference.size)
    if work.loss == "binary_cross_entropy":
        chosen = np.where(targets[:, None] == 1, y, 1 - y)
        return -np.log(chosen).mean(), (y - targets[:, None]) / rows
    numbers = np.arange(rows)
    loss = -np.log(y[numbers, targets]).mean()
    y[numbers, targets] -= 1
    y /= rows
    return loss, y


def gradient(layers, slots, x, targets, work, generator):
    """Fills ``slots`` with the gradient of each (W, b); returns the loss."""
    activations = [x]
    mask = None
    for W, b in layers[:-1]:
        z = activations[-1] @ W
        z += b
        activations.append(activate(z, work))
    if work.dropout:
        mask = (generator.random(activations[-1].shape, np.float32) >= work.dropout) / x.dtype.type(1 - work.dropout)
        hidden, activations[-1] = activations[-1], activations[-1] * mask
    W, b = layers[-1]
    z = activations[-1] @ W
    z += b
    loss, dz = loss_and_slope(last_activation(z, work), targets, work)
    dz = dz.astype(x.dtype, copy=False)
    for index in reversed(range(len(layers))):
        np.matmul(activations[index].T, dz, out=slots[index][0])
        np.sum(dz, axis=0, out=slots[index][1])
        if index == 0:
            return loss
        dz = dz @ layers[index][0].T
        y = activations[index]
        if mask is not None:
            dz, y, mask = dz * mask, hidden, None
        dz *= (y > 0) if work.activation == "relu" else 1 - y * y


def trainer(work, threads, shuffle):
    threadpool_limits(threads)
    inputs, targets = data(work)
    generator = np.random.default_rng(0)
    flat, layers = flat_weights(work)
    slope, mean, square, room = (np.zeros_like(flat) for _ in range(4))
    slots = views(slope, layers)
    first, second, epsilon = ADAM
    count = 0

    def move(moment, new, share):
        np.subtract(new, moment, out=room)
        np.multiply(room, share, out=room)
        np.add(moment, room, out=moment)

    def update():
        move(mean, slope, 1 - first)
        move(square, np.multiply(slope, slope, out=room), 1 - second)
        np.sqrt(square, out=room)
        np.add(room, epsilon, out=room)
        np.divide(mean, room, out=room)
        np.multiply(room, LEARNING_RATE * math.sqrt(1 - second**count) / (1 - first**count), out=room)
        np.subtract(flat, room, out=flat)

    def train(epochs):
        nonlocal count
        losses = []
        for _ in range(epochs):
            order = generator.permutation(work.rows) if shuffle else None
            total = 0.0
            for start in range(0, work.rows, work.batch_size):
                chosen = slice(start, start + work.batch_size)
                chosen = chosen if order is None else order[chosen]
                total += gradient(layers, slots, inputs[chosen], targets[chosen], work, generator)
                count += 1
                if not work.gradient_only:
                    update()
            losses.append(total / (work.rows // work.batch_size))
        return losses

    return train


def predictor(work, threads):
    threadpool_limits(threads)
    _, layers = flat_weights(work)

    def predict(rows):
        x = rows
        for W, b in layers[:-1]:
            x = x @ W
            x += b
            activate(x, work)
        W, b = layers[-1]
        return last_activation(x @ W + b, work)

    return predict
