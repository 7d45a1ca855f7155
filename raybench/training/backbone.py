"""A network in two parts: the backbone, which a linear probe leaves as it is, and the head, which it trains.

In: a `Network`. Out: the tensors of either part by their names in its state dict, and what identifies a backbone.
"""

from weakref import WeakKeyDictionary

from torch import Tensor, nn

from raybench.training.heads import head_keys
from raybench.training.network import Network
from raybench.training.weight_files import tensors_digest

_DIGESTS: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()
"""Of backbones that nothing has trained since: hashing one takes longer than many a step of its head."""

PROBES: WeakKeyDictionary[nn.Module, Tensor] = WeakKeyDictionary()
"""Likewise what backbones make of two fixed images; see `raybench.training.freezing.split_at_head`."""


def head_tensors(network: Network) -> dict[str, Tensor]:
    """Return the head's tensors, not copied."""
    names = set(head_keys(network.module, network.head_name))
    return {name: tensor for name, tensor in network.module.state_dict().items() if name in names}


def backbone_tensors(network: Network) -> dict[str, Tensor]:
    """Return all tensors but the head's, not copied."""
    names = set(head_keys(network.module, network.head_name))
    return {name: tensor for name, tensor in network.module.state_dict().items() if name not in names}


def backbone_digest(network: Network) -> str:
    """Return the SHA-256 of the backbone's names, types, shapes and bytes, as `tensors_digest` does.

    It is computed once a network: whoever trains the backbone says so with `backbone_changes`.
    """
    digest = _DIGESTS.get(network.module)
    if digest is None:
        digest = _DIGESTS[network.module] = tensors_digest(backbone_tensors(network))
    return digest


def backbone_changes(network: Network) -> None:
    """Take note that the backbone is about to be trained or replaced."""
    _DIGESTS.pop(network.module, None)
    PROBES.pop(network.module, None)
