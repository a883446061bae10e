"""PyTorch on a GPU through ``torch.compile``."""

import functools

import torch

from asv_bench.peers import with_torch_on_gpu


def trainer(work, threads, shuffle):
    stepper = functools.partial(with_torch_on_gpu.stepper, wrap=torch.compile)
    return with_torch_on_gpu.trainer(work, threads, shuffle, stepper)
