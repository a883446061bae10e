"""PyTorch on a GPU: eager mode, with the fused Adam; data and losses stay there until the epoch is over.

``PRECISION`` in the environment: "float32", or "tf32" for its matrix products.
"""

import os

import torch

from asv_bench.benchmarks.workloads import LEARNING_RATE
from asv_bench.peers import with_torch
from asv_bench.peers.with_torch import LOSSES, network, tensors

#: Where it runs; the CPU only to try the code.
DEVICE = os.environ.get("TORCH_DEVICE", "cuda")


def parts(work):
    """(model, optimizer, loss) on the device."""
    torch.backends.cuda.matmul.allow_tf32 = os.environ.get("PRECISION") == "tf32"
    model = network(work).to(DEVICE)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=True, capturable=DEVICE == "cuda")
    return model, optimizer, LOSSES[work.loss]()


def stepper(work, wrap=lambda function: function):
    """``step(x, y)``: one step, which returns the loss; ``wrap``: what becomes of the forward pass and the loss."""
    model, optimizer, _ = parts(work)
    return with_torch.stepper(work, model, wrap, optimizer)


def trainer(work, threads, shuffle, stepper=stepper):
    inputs, targets = (tensor.to(DEVICE) for tensor in tensors(work))
    step = stepper(work)

    def train(epochs):
        losses = []
        for _ in range(epochs):
            total = torch.zeros((), device=DEVICE)
            order = torch.randperm(work.rows, device=DEVICE) if shuffle else torch.arange(work.rows, device=DEVICE)
            batches = order.split(work.batch_size)
            for chosen in batches:
                total += step(inputs[chosen], targets[chosen])
            losses.append(total / len(batches))
        return [float(loss) for loss in losses]

    return train
