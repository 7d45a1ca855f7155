"""A network's two parts, and what identifies its backbone."""

import torch

from raybench.records import ModelSpec
from raybench.training.backbone import backbone_changes, backbone_digest, backbone_tensors, head_tensors
from raybench.training.models import build_network
from raybench.training.network import Network
from raybench.training.weight_files import tensors_digest


def network(seed: int = 0, num_classes: int = 7) -> Network:
    spec = ModelSpec(name="resnet8", head=None)
    return build_network(spec, "random", num_classes=num_classes, image_size=16, seed=seed)


def test_head_and_backbone_are_all_of_the_network() -> None:
    whole = network()

    head, backbone = head_tensors(whole), backbone_tensors(whole)

    assert set(head) == {"fc.weight", "fc.bias"}
    assert head.keys() | backbone.keys() == whole.module.state_dict().keys()
    assert not head.keys() & backbone.keys()


def test_backbones_are_told_apart_whatever_their_heads() -> None:
    assert backbone_digest(network()) == backbone_digest(network(num_classes=3)) == backbone_digest(network())
    assert backbone_digest(network()) != backbone_digest(network(seed=1))


def test_a_trained_backbone_is_another_one_once_that_is_said() -> None:
    trained = network()
    before = backbone_digest(trained)
    backbone_changes(trained)
    with torch.no_grad():
        trained.module.get_parameter("conv1.weight").add_(1)

    assert backbone_digest(trained) == tensors_digest(backbone_tensors(trained)) != before
