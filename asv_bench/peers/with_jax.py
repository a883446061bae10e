"""JAX: a whole epoch in ``lax.scan``, compiled, with donated buffers and Adam from optax."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from asv_bench.benchmarks.workloads import LEARNING_RATE, data, initial_weights

ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh}
LAST_ACTIVATIONS = {"binary_cross_entropy": jax.nn.sigmoid, "cross_entropy": jax.nn.softmax, "mse": lambda z: z}

OPTIMIZER = optax.adam(LEARNING_RATE)


def outputs_of(work, parameters, x, key=None):
    """The last layer before its activation; with a key, dropout before the last layer."""
    for W, b in parameters[:-1]:
        x = ACTIVATIONS[work.activation](x @ W + b)
    if key is not None:
        x = jnp.where(jax.random.bernoulli(key, jnp.float32(1 - work.dropout), x.shape), x / (1 - work.dropout), 0)
    W, b = parameters[-1]
    return x @ W + b


def step_of(work, state, x, y, key):
    """A step: the state afterwards, and the loss."""
    parameters, slots = state
    loss, gradients = jax.value_and_grad(loss_of)(parameters, work, x, y, key)
    if work.gradient_only:  # what is carried along cannot be left out by the compiler
        return (parameters, (slots[0], gradients)), loss
    updates, slots = OPTIMIZER.update(gradients, slots, parameters)
    return (optax.apply_updates(parameters, updates), slots), loss


def loss_of(parameters, work, x, y, key):
    z = outputs_of(work, parameters, x, key)
    if work.loss == "binary_cross_entropy":
        return optax.sigmoid_binary_cross_entropy(z[:, 0], y.astype(z.dtype)).mean()
    if work.loss == "cross_entropy":
        return optax.softmax_cross_entropy_with_integer_labels(z, y).mean()
    return jnp.square(z - y).mean()


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def epoch_of(work, shuffle, state, inputs, targets, number):
    """Epoch ``number``: the state afterwards, and the mean loss."""
    order_key, mask_key = jax.random.split(jax.random.key(number))
    batches = work.rows // work.batch_size
    mask_keys = jax.random.split(mask_key, batches) if work.dropout else None
    if shuffle:
        of_batches = jax.random.permutation(order_key, work.rows).reshape(batches, -1)
    else:
        of_batches = jax.tree.map(lambda rows: rows.reshape(batches, -1, *rows.shape[1:]), (inputs, targets))

    def step(state, batch):
        rows, key = batch
        x, y = (inputs[rows], targets[rows]) if shuffle else rows
        return step_of(work, state, x, y, key)

    state, losses = jax.lax.scan(step, state, (of_batches, mask_keys))
    return state, losses.mean()


def start(work):
    jax.config.update("jax_enable_x64", work.dtype == "float64")
    parameters = [(jnp.asarray(W), jnp.asarray(b)) for W, b in initial_weights(work)]
    slots = (0, jax.tree.map(jnp.zeros_like, parameters)) if work.gradient_only else OPTIMIZER.init(parameters)
    return parameters, slots


def trainer(work, threads, shuffle):
    state, numbers = start(work), itertools.count()
    inputs, targets = map(jnp.asarray, data(work))

    def train(epochs):
        nonlocal state
        losses = []
        for number in itertools.islice(numbers, epochs):
            state, loss = epoch_of(work, shuffle, state, inputs, targets, number)
            losses.append(loss)
        return [float(loss) for loss in losses]

    return train


def caller(work, threads):
    state = start(work)
    step = jax.jit(functools.partial(step_of, work, key=None), donate_argnums=0)

    def call(inputs, targets):
        nonlocal state
        state, loss = step(state, inputs, targets)
        return float(loss)

    return call


def predictor(work, threads):
    parameters, _ = start(work)
    last = LAST_ACTIVATIONS[work.loss]
    compiled = jax.jit(lambda parameters, x: last(outputs_of(work, parameters, x)))
    return lambda rows: np.asarray(compiled(parameters, rows))


def searcher(work, threads):
    from asv_bench.peers.digits import digits

    X, y = map(jnp.asarray, digits(work.rows))

    def search(architectures, epochs):
        losses = []
        for hidden in architectures:
            mine = work._replace(sizes=(64, *hidden, 10))
            state = start(mine)
            for number in range(epochs):
                state, loss = epoch_of(mine, True, state, X, y, number)
            losses.append(float(loss))
        return losses

    return search
