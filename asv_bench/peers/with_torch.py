"""PyTorch: eager, with the fused Adam, and rows taken by the numbers of a permutation.

``PRECISION`` in the environment: "tf32" or "bf16" for matrix products of less precision than float32's.
"""

import os

import torch

from asv_bench.benchmarks.workloads import LEARNING_RATE, data, initial_weights

ACTIVATIONS = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh}
LAST_ACTIVATIONS = {
    "binary_cross_entropy": torch.nn.Sigmoid(),
    "cross_entropy": torch.nn.Softmax(1),
    "mse": torch.nn.Identity(),
}
LOSSES = {
    "binary_cross_entropy": torch.nn.BCEWithLogitsLoss,
    "cross_entropy": torch.nn.CrossEntropyLoss,
    "mse": torch.nn.MSELoss,
}

#: What PyTorch calls the precisions.
torch.set_float32_matmul_precision({"tf32": "high", "bf16": "medium"}.get(os.environ.get("PRECISION"), "highest"))


def network(work):
    """The network, without its last activation."""
    layers = []
    for W, b in (map(torch.from_numpy, pair) for pair in initial_weights(work)):
        layer = torch.nn.Linear(*W.shape, dtype=W.dtype)
        with torch.no_grad():
            layer.weight.copy_(W.T)
            layer.bias.copy_(b)
        layers += [layer, ACTIVATIONS[work.activation]()]
    if work.dropout:
        layers.insert(-2, torch.nn.Dropout(work.dropout))
    return torch.nn.Sequential(*layers[:-1])


def tensors(work, batch=None):
    """The workload's data, or a batch of them."""
    inputs, targets = map(torch.from_numpy, batch or data(work))
    if work.loss == "binary_cross_entropy":
        targets = targets.to(inputs.dtype)[:, None]
    return inputs, targets


def stepper(work, model, wrap=lambda function: function, optimizer=None):
    """``step(x, y)``: one step, which returns the loss; ``wrap``: what becomes of the forward pass and the loss."""
    optimizer = optimizer or torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=True)
    loss_of = LOSSES[work.loss]()
    forward = wrap(lambda x, y: loss_of(model(x), y))

    def step(x, y):
        optimizer.zero_grad(set_to_none=True)
        loss = forward(x, y)
        loss.backward()
        if not work.gradient_only:
            optimizer.step()
        return loss.detach()

    return step


def trainer(work, threads, shuffle, stepper=stepper):
    torch.set_num_threads(threads)
    inputs, targets = tensors(work)
    step = stepper(work, network(work))

    def batches():
        if shuffle:
            return ((inputs[chosen], targets[chosen]) for chosen in torch.randperm(work.rows).split(work.batch_size))
        return zip(inputs.split(work.batch_size), targets.split(work.batch_size), strict=True)

    def train(epochs):
        losses = []
        for _ in range(epochs):
            total = torch.zeros(())
            for batch in batches():
                total += step(*batch)
            losses.append(total / (work.rows // work.batch_size))
        return [float(loss) for loss in losses]

    return train


def caller(work, threads, stepper=stepper):
    torch.set_num_threads(threads)
    step = stepper(work, network(work))
    return lambda *batch: float(step(*tensors(work, batch)))


def predictor(work, threads):
    torch.set_num_threads(threads)
    model = torch.nn.Sequential(network(work), LAST_ACTIVATIONS[work.loss]).eval()

    @torch.inference_mode()
    def predict(rows):
        return model(torch.from_numpy(rows)).numpy()

    return predict


def searcher(work, threads):
    from asv_bench.peers.digits import digits

    torch.set_num_threads(threads)
    X, y = digits(work.rows)
    X, y = torch.from_numpy(X.astype("float32")), torch.from_numpy(y.astype("int64"))

    def search(architectures, epochs):
        losses = []
        for hidden in architectures:
            mine = work._replace(sizes=(64, *hidden, 10))
            step = stepper(mine, network(mine))
            for _ in range(epochs):
                total = 0.0
                for chosen in torch.randperm(work.rows).split(work.batch_size):
                    total += step(X[chosen], y[chosen])
            losses.append(float(total) / (work.rows // work.batch_size))
        return losses

    return search
