"""A phase's optimizer, and its learning rate at each epoch."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn, optim

from raybench.records import Phase


def build_optimizer(phase: Phase, parameters: Iterable[nn.Parameter]) -> optim.Optimizer:
    """Return a fresh optimizer for the parameters that learn in this phase.

    Fused: one kernel a step instead of several a tensor, which halves the steps of a model of large layers.
    """
    match phase.optimizer:
        case "adam":
            return optim.Adam(parameters, lr=phase.learning_rate, weight_decay=phase.weight_decay, fused=True)
        case "adamw":
            return optim.AdamW(parameters, lr=phase.learning_rate, weight_decay=phase.weight_decay, fused=True)
        case "sgd":
            return optim.SGD(
                parameters,
                lr=phase.learning_rate,
                weight_decay=phase.weight_decay,
                momentum=phase.momentum,
                fused=True,
            )
    raise ValueError(phase.optimizer)


@torch.no_grad()
def load_optimizer(optimizer: optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load an optimizer's saved state, each tensor laid out in memory as its parameter is here.

    A state may come from a machine that trains in another layout. PyTorch's fused CPU kernels go through parameter,
    gradient and state in the order of their memory: where the orders differ they mix up elements, without an error
    (seen in 2.14; autograd lays out gradients as their parameters are).
    """
    optimizer.load_state_dict(dict(state))
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                values[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def learning_rate_at(phase: Phase, epoch: int) -> float:
    """Return the learning rate of an epoch of the phase, counted from 0.

    Linear warm-up to the phase's rate, then constant, steps, or half a cosine down to zero
    (Loshchilov and Hutter 2017, arXiv:1608.03983, without restarts). A function of the epoch alone,
    so that a resumed trial needs no saved schedule.
    """
    warmup = phase.warmup_epochs
    if epoch < warmup:
        return phase.learning_rate * (epoch + 1) / (warmup + 1)
    match phase.schedule:
        case "step":
            return phase.learning_rate * phase.step_factor ** ((epoch - warmup) // phase.step_epochs)
        case "cosine":
            progress = (epoch - warmup) / max(1, phase.epochs - warmup)
            return phase.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
    return phase.learning_rate
