"""What learns, and that nothing else changes."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from raybench.errors import ModelError
from raybench.records import ModelSpec
from raybench.training.backbone import backbone_changes
from raybench.training.freezing import freeze, set_training_mode, split_at_head
from raybench.training.models import build_network
from raybench.training.network import Network

FAMILIES = [
    ("alexnet", 63),
    ("vgg11", 32),
    ("resnet18", 32),
    ("resnet8", 16),
    ("squeezenet1_1", 32),
    ("densenet121", 32),
    ("inception_v3", 75),
    ("googlenet", 32),
    ("shufflenet_v2_x0_5", 32),
    ("mobilenet_v2", 32),
    ("mobilenet_v3_small", 32),
    ("efficientnet_b0", 32),
    ("regnet_y_400mf", 32),
    ("convnext_tiny", 32),
    ("vit_b_32", 32),
    ("swin_t", 32),
    ("maxvit_t", 224),
    ("mnasnet0_5", 32),
]
"""One model of each family and an image size that it takes."""


def build(name: str, image_size: int = 16) -> Network:
    spec = ModelSpec(name=name, head=None)
    return build_network(spec, "random", num_classes=7, image_size=image_size, seed=0)


def copied_state(network: Network) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.module.state_dict().items()}


def changed(before: Mapping[str, Tensor], network: Network) -> set[str]:
    return {name for name, tensor in network.module.state_dict().items() if not torch.equal(tensor, before[name])}


def show_images_to_batch_norm(network: Network) -> None:
    """Give BatchNorm real statistics, as in a pretrained backbone: without them deep features are all but zero."""
    for part in network.module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 1.0
    network.module.train()
    with torch.no_grad():
        network.module(torch.rand(4, 3, network.image_size, network.image_size))


def step(network: Network, train: str | tuple[str, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, 3, network.image_size, network.image_size, generator=generator)
    optimizer = torch.optim.SGD(freeze(network, train), lr=0.1)
    set_training_mode(network, train)
    loss = nn.functional.cross_entropy(network.module(images), torch.tensor([0, 1, 2]))
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


@pytest.mark.parametrize(("name", "image_size"), FAMILIES)
def test_one_step_of_a_linear_probe_changes_the_head_and_nothing_else(name: str, image_size: int) -> None:
    network = build(name, image_size)
    show_images_to_batch_norm(network)
    before = copied_state(network)

    step(network, "head")

    head = {f"{network.head_name}.{part}" for part, _ in network.head.named_parameters()}
    assert changed(before, network) == head
    assert all(parameter.grad is None for parameter in network.module.parameters() if not parameter.requires_grad)


def test_one_step_of_fine_tuning_changes_everything() -> None:
    network = build("resnet8")
    before = copied_state(network)

    step(network, "all")

    assert changed(before, network) == set(before)


def test_named_modules_learn_together_with_the_head() -> None:
    network = build("resnet8")
    before = copied_state(network)

    step(network, ("stage3",))

    assert changed(before, network) == {name for name in before if name.startswith(("stage3.", "fc."))}


def test_freezing_again_for_another_phase_replaces_the_first() -> None:
    network = build("resnet8")

    freeze(network, "head")
    everything = freeze(network, "all")
    head = freeze(network, "head")

    assert len(everything) == len(list(network.module.parameters()))
    assert [id(parameter) for parameter in head] == [id(parameter) for parameter in network.head.parameters()]


def test_dropout_of_a_frozen_backbone_is_off_and_on_where_it_learns() -> None:
    network = build("alexnet", 63)
    dropouts = [part for part in network.module.modules() if isinstance(part, nn.Dropout)]

    set_training_mode(network, "head")
    assert not any(part.training for part in dropouts)
    set_training_mode(network, ("classifier",))
    assert all(part.training for part in dropouts)
    set_training_mode(network, "head")
    assert not any(part.training for part in dropouts)


@pytest.mark.parametrize(
    ("name", "image_size"), [("alexnet", 63), ("resnet18", 32), ("resnet8", 16), ("densenet121", 32), ("vit_b_32", 32)]
)
def test_features_and_head_equal_the_full_forward(name: str, image_size: int) -> None:
    network = build(name, image_size)
    images = torch.rand(4, 3, image_size, image_size)
    with torch.no_grad():
        expected = network.module(images)
    network.module.train()  # features are those of eval mode whatever the mode is

    features = split_at_head(network)
    assert features is not None
    seen = features(images)

    assert seen.dim() == 2
    assert not seen.requires_grad
    assert torch.equal(network.head(seen), expected)
    assert all(part.training for part in network.module.modules())


class _ScalesItsScores(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 7)

    def forward(self, images: Tensor) -> Tensor:
        return 2 * self.head(images.mean(dim=(2, 3)))  # type: ignore[no-any-return]


class _CallsItsHeadTwice(_ScalesItsScores):
    def forward(self, images: Tensor) -> Tensor:
        self.head(images.amax(dim=(2, 3)))
        return self.head(images.mean(dim=(2, 3)))  # type: ignore[no-any-return]


class _ScoresEveryPixel(_ScalesItsScores):
    def forward(self, images: Tensor) -> Tensor:
        return self.head(images.flatten(2).mT).mean(dim=1)  # type: ignore[no-any-return]


@pytest.mark.parametrize("module", [_ScalesItsScores(), _CallsItsHeadTwice(), _ScoresEveryPixel()])
def test_network_that_does_more_than_its_head_at_the_end_is_not_split(module: nn.Module) -> None:
    ones = (1.0, 1.0, 1.0)
    network = Network(
        name="own",
        module=module,
        head_name="head",
        image_size=4,
        mean=ones,
        std=ones,
        note="",
        has_learned=False,
    )

    assert split_at_head(network) is None


def test_convolutional_head_before_pooling_is_not_split() -> None:
    assert split_at_head(build("squeezenet1_1", 32)) is None


@pytest.mark.parametrize("train", [("stage4",), ("",), "heads"])
def test_unknown_module_is_refused_with_the_names_there_are(train: str | tuple[str, ...]) -> None:
    with pytest.raises(ModelError, match=r"is no module of resnet8; .*at the top are conv1, bn1, stage1"):
        freeze(build("resnet8"), train)


def test_what_tells_a_backbone_from_others_is_found_anew_once_it_was_trained() -> None:
    network = build("resnet8")
    first, again = split_at_head(network), split_at_head(network)
    backbone_changes(network)
    step(network, "all")
    trained = split_at_head(network)

    assert first is not None
    assert again is not None
    assert trained is not None
    assert first.probe is again.probe
    assert first.probe.shape == (2, first.width)
    assert not torch.allclose(trained.probe, first.probe)
