"""PyTorch on a GPU under a CUDA graph: a whole step is captured once and replayed on new rows."""

import torch

from asv_bench.peers import with_torch_on_gpu
from asv_bench.peers.with_torch import tensors


def stepper(work):
    model, optimizer, loss_of = with_torch_on_gpu.parts(work)
    inputs, targets = tensors(work)
    x, y = inputs[: work.batch_size].cuda(), targets[: work.batch_size].cuda()

    def once():
        optimizer.zero_grad(set_to_none=False)
        loss = loss_of(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    start = [parameter.detach().clone() for parameter in model.parameters()]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # warm up, as its documentation says, and take the steps back
        for _ in range(3):
            once()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = once()
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), start, strict=True):
            parameter.copy_(value)
        for state in optimizer.state.values():
            for tensor in state.values():
                tensor.zero_()

    def step(new_x, new_y):
        x.copy_(new_x)
        y.copy_(new_y)
        graph.replay()
        return loss.detach()

    return step


def trainer(work, threads, shuffle):
    return with_torch_on_gpu.trainer(work, threads, shuffle, stepper)
