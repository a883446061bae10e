"""PyTorch with ``torch.compile`` on forward and backward of the network and on the loss, and the fused Adam."""

import torch

from asv_bench.peers import with_torch


def stepper(work, model):
    return with_torch.stepper(work, torch.compile(model))


def caller(work, threads):
    return with_torch.caller(work, threads, stepper)


def trainer(work, threads, shuffle):
    return with_torch.trainer(work, threads, shuffle, stepper)
