"""A phase's optimizer, and its learning rate at each epoch."""

import math
from collections.abc import Iterable

from torch import nn, optim

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
