"""PyTorch with ``torch.compile`` on forward and backward of the network and the loss, and the fused Adam."""

import functools

import torch

from asv_bench.peers import with_torch

stepper = functools.partial(with_torch.stepper, wrap=torch.compile)
caller = functools.partial(with_torch.caller, stepper=stepper)
trainer = functools.partial(with_torch.trainer, stepper=stepper)
