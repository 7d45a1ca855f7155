"""The weights of a trial's best epoch, kept while the trial goes on.

In: a `Network` in training. Out: its tensors as they were when `keep` was called last. What nothing has trained yet is
not copied: that is the backbone, until a phase trains more than the head.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from raybench.training.backbone import backbone_tensors, head_tensors
from raybench.training.network import Network


class BestWeights:
    """One copy of what a network has learned, made once and then written over."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._kept: dict[str, Tensor] = {}
        self.whole = False
        """Whether the backbone is among what learns."""

    def learning(self) -> dict[str, Tensor]:
        """Return the tensors that learn, or have learned, by name, not copied: the head's, or all."""
        return dict(self._network.module.state_dict()) if self.whole else head_tensors(self._network)

    def include_backbone(self) -> None:
        """Take note that the backbone is about to be trained."""
        if self._kept and not self.whole:
            self._kept |= {name: tensor.detach().clone() for name, tensor in backbone_tensors(self._network).items()}
        self.whole = True

    @torch.no_grad()
    def keep(self) -> None:
        """Copy the network as it is now."""
        for name, tensor in self.learning().items():
            if name in self._kept:
                self._kept[name].copy_(tensor)
            else:
                self._kept[name] = tensor.detach().clone()

    def restore(self) -> None:
        """Put what was kept back into the network."""
        load_tensors(self._network, self._kept)

    def tensors(self) -> Mapping[str, Tensor]:
        """Return what was kept, not copied; empty where nothing was."""
        return self._kept

    def replace(self, tensors: Mapping[str, Tensor]) -> None:
        """Keep these tensors, which `tensors` returned for the same trial, instead."""
        own = self._network.module.state_dict()
        self._kept = {name: tensor.to(own[name].device, copy=True) for name, tensor in tensors.items()}


@torch.no_grad()
def load_tensors(network: Network, tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors into those of the network that have their names. Raises KeyError where it has none."""
    own = network.module.state_dict()
    for name, tensor in tensors.items():
        own[name].copy_(tensor)
