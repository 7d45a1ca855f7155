"""The head of a classifier: found, replaced by a fresh one for the dataset's classes.

The head is the last Linear or 1x1 Conv2d in the order of `named_modules()`, which is right for all of torchvision's
classification models; a model written by somebody else may name its own.
"""

import difflib
from collections.abc import Iterator

import torch
from torch import nn

from raybench.errors import ModelError

Head = nn.Linear | nn.Conv2d
"""What a head can be; a Conv2d has a 1x1 kernel."""


def find_head(module: nn.Module, *, model: str, named: str | None) -> str:
    """Return the dotted name of the head: `named` where given, else the last Linear or 1x1 Conv2d.

    Raises ModelError where there is none, or where `named` is no Linear or 1x1 Conv2d of the model.
    """
    candidates: list[str] = [name for name, part in module.named_modules() if _can_be_head(part) and name]
    if not candidates:
        raise ModelError(
            f"{model}: has no Linear or 1x1 Conv2d inside that could be its head; wrap it in a module that has one"
        )
    if named is None:
        return candidates[-1]
    if named not in candidates:
        close = difflib.get_close_matches(named, candidates, n=3, cutoff=0.0)
        raise ModelError(
            f"{model}: head {named!r} is not a Linear or 1x1 Conv2d of the model; the last ones are "
            f"{', '.join(candidates[-3:])} and the nearest names {', '.join(close)}"
        )
    return named


def replace_head(module: nn.Module, head_name: str, *, num_classes: int) -> None:
    """Put a fresh head with `num_classes` outputs in the place of `head_name`.

    Its initial weights are PyTorch's default for the layer, from torch's global generator, for every architecture:
    so heads differ by their input size alone. It has a bias where the old head had one.
    """
    old = module.get_submodule(head_name)
    bias = old.bias is not None
    new: Head
    if isinstance(old, nn.Conv2d):
        new = nn.Conv2d(old.in_channels, num_classes, 1, stride=old.stride, bias=bias)  # type: ignore[arg-type]
    elif isinstance(old, nn.Linear):
        new = nn.Linear(old.in_features, num_classes, bias=bias)
    else:
        raise TypeError(f"{head_name} is a {type(old).__name__}, which find_head never returns")
    with torch.no_grad():
        module.set_submodule(head_name, new.to(old.weight.device))


def head_keys(module: nn.Module, head_name: str) -> Iterator[str]:
    """Names of the head's tensors in `module.state_dict()`."""
    return (f"{head_name}.{name}" for name in module.get_submodule(head_name).state_dict())


def _can_be_head(part: nn.Module) -> bool:
    return isinstance(part, nn.Linear) or (isinstance(part, nn.Conv2d) and part.kernel_size == (1, 1))
