"""The residual networks for small images."""

import pytest
import torch

from raybench.training.cifar_resnet import BasicBlock, cifar_resnet


@pytest.mark.parametrize(
    ("name", "parameters"),
    # Table 6 of the paper: 0.27 M, 0.46 M and 0.85 M for 20, 32 and 56 layers.
    [("resnet8", 75_290), ("resnet20", 269_722), ("resnet32", 464_154), ("resnet56", 853_018)],
)
def test_parameters_are_those_of_the_paper(name: str, parameters: int) -> None:
    module = cifar_resnet(name)

    assert sum(parameter.numel() for parameter in module.parameters()) == parameters


@pytest.mark.parametrize("side", [7, 16, 32, 33])
def test_any_small_image_gives_one_score_a_class(side: int) -> None:
    scores = cifar_resnet("resnet8", num_classes=5)(torch.rand(2, 3, side, side))

    assert scores.shape == (2, 5)


def test_shortcut_takes_every_second_pixel_and_adds_empty_channels() -> None:
    block = BasicBlock(2, 4, stride=2).eval()
    torch.nn.init.zeros_(block.bn2.weight)  # silences the convolutions: only the shortcut is left
    images = torch.rand(1, 2, 4, 4)

    output = block(images)

    assert torch.equal(output[:, 1:3], images[:, :, ::2, ::2])
    assert output[:, [0, 3]].count_nonzero() == 0
