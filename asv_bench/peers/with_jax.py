"""JAX: a whole epoch in ``lax.scan``, compiled, with donated buffers and Adam from optax."""

import os
import sys

# JAX takes its threads from the cores that the process may use, so this comes before it is imported.
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[2])])

import jax
import jax.numpy as jnp
import optax

from asv_bench.peers.workloads import LEARNING_RATE, data, initial_weights, main


def prepare(work, threads):
    inputs, labels = map(jnp.asarray, data(work))
    binary = work.sizes[-1] == 1
    parameters = [(jnp.asarray(W), jnp.asarray(b)) for W, b in initial_weights(work)]
    optimizer = optax.adam(LEARNING_RATE)

    def loss_of(parameters, x, y):
        for W, b in parameters[:-1]:
            x = jax.nn.relu(x @ W + b)
        W, b = parameters[-1]
        logits = x @ W + b
        if binary:
            return optax.sigmoid_binary_cross_entropy(logits[:, 0], y.astype(jnp.float32)).mean()
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    def step(state, chosen):
        parameters, slots = state
        loss, gradients = jax.value_and_grad(loss_of)(parameters, inputs[chosen], labels[chosen])
        updates, slots = optimizer.update(gradients, slots, parameters)
        return (optax.apply_updates(parameters, updates), slots), loss

    def epoch(state, key):
        order = jax.random.permutation(key, work.rows).reshape(-1, work.batch_size)
        state, losses = jax.lax.scan(step, state, order)
        return state, losses.mean()

    epoch = jax.jit(epoch, donate_argnums=0)
    kept = [(parameters, optimizer.init(parameters)), jax.random.key(0)]

    def train():
        for _ in range(work.epochs):
            kept[1], key = jax.random.split(kept[1])
            kept[0], loss = epoch(kept[0], key)
        return float(loss)

    return train


if __name__ == "__main__":
    main(prepare)
