"""What learns and what stays: a network and a phase's `train` in, gradients and modes set.

`train` is `head`, `all`, or dotted names of modules (the head always learns as well). What does not learn is frozen
altogether: no gradients, BatchNorm statistics untouched, dropout off. Dropout between a frozen backbone and the head
belongs to the backbone.
"""

import difflib
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from raybench.errors import ModelError
from raybench.training.backbone import PROBES
from raybench.training.network import Network


def freeze(network: Network, train: str | tuple[str, ...]) -> list[nn.Parameter]:
    """Set `requires_grad` to what learns and nothing else; return the parameters that learn, in module order.

    Raises ModelError where a name is no module of the model.
    """
    learning = learning_parameters(network, train)
    for parameter in network.module.parameters():
        parameter.requires_grad = False
    for parameter in learning:
        parameter.requires_grad = True
    return learning


def learning_parameters(network: Network, train: str | tuple[str, ...]) -> list[nn.Parameter]:
    """Return the parameters that learn under `train`, in module order, without changing anything."""
    chosen = {id(parameter) for module in _learning_modules(network, train) for parameter in module.parameters()}
    return [parameter for parameter in network.module.parameters() if id(parameter) in chosen]


def set_training_mode(network: Network, train: str | tuple[str, ...]) -> None:
    """Put what learns in training mode and everything else in eval mode, BatchNorm and dropout included."""
    network.module.eval()
    for module in _learning_modules(network, train):
        module.train()


@dataclass(frozen=True, kw_only=True, slots=True)
class Backbone:
    """A network's backbone: normalised images [b, 3, s, s] -> what the head sees, [b, d].

    It runs in eval mode and without gradients, and leaves the network's modes as they were.
    """

    network: Network
    probe: Tensor
    """What it makes of two fixed images, [2, d]: another network, or other code, makes something else of them."""

    @property
    def width(self) -> int:
        """Numbers d that the head sees of an image."""
        return self.probe.shape[1]

    def __call__(self, images: Tensor) -> Tensor:
        """Return what the head sees of the images."""
        seen: list[Tensor] = []

        def record(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            seen.append(args[0])

        with self.network.head.register_forward_pre_hook(record):
            _in_eval_mode(self.network.module, images)
        return seen[0].detach()


def split_at_head(network: Network) -> Backbone | None:
    """Return the network's backbone, such that the head applied to it equals the full forward pass in eval mode.

    None where that cannot be: the head is a convolution, is called more than once, or something comes after it. Tried
    once a network: whoever trains the backbone says so with `backbone_changes`.
    """
    if not isinstance(network.head, nn.Linear):
        return None
    known = PROBES.get(network.module)
    if known is not None:
        return Backbone(network=network, probe=known)
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []

    def record(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        inputs.append(args[0])
        outputs.append(output)

    first = next(network.module.parameters())
    images = torch.randn(2, 3, network.image_size, network.image_size, generator=torch.Generator().manual_seed(0))
    with network.head.register_forward_hook(record), torch.random.fork_rng(devices=[]):
        scores = _in_eval_mode(network.module, images.to(first.device, first.dtype))
    head_is_last = len(outputs) == 1 and scores is outputs[0]
    if not head_is_last or inputs[0].dim() != 2:  # noqa: PLR2004 (images and features)
        return None
    PROBES[network.module] = inputs[0].detach()
    return Backbone(network=network, probe=PROBES[network.module])


def _in_eval_mode(module: nn.Module, images: Tensor) -> Tensor:
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        with torch.no_grad():
            output: Tensor = module(images)
    finally:
        for part in training:
            part.training = True
    return output


def _learning_modules(network: Network, train: str | tuple[str, ...]) -> list[nn.Module]:
    if train == "all":
        return [network.module]
    if train == "head":
        return [network.head]
    modules = dict(network.module.named_modules())
    names = (train,) if isinstance(train, str) else train
    for name in names:
        if name not in modules or not name:
            close = difflib.get_close_matches(name, modules, n=3, cutoff=0.4)
            near = f"did you mean {' or '.join(close)}? " if close else ""
            top = ", ".join(child for child, _ in network.module.named_children())
            raise ModelError(
                f"train: {name!r} is no module of {network.name}; {near}give head, all or names of modules: "
                f"at the top are {top}"
            )
    return [*(modules[name] for name in names), network.head]
