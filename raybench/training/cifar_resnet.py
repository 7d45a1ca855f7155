"""Residual networks for small images (He et al. 2016, "Deep Residual Learning", section 4.2).

A 3x3 convolution with 16 filters, three stages of n blocks with 16, 32 and 64 filters, global average pooling and
one linear layer: 6n + 2 weighted layers. Shortcuts have no parameters (option A of the paper): where the size halves,
every second pixel is taken and the new channels are zeros. Made for 32 x 32 pixels, usable from a few pixels up.
"""

from typing import Final

import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from torch import Tensor, nn

BLOCKS_PER_STAGE: Final = {"resnet8": 1, "resnet20": 3, "resnet32": 5, "resnet56": 9}
"""The n of 6n + 2, by model name."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut without parameters."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride = stride
        self.new_channels = channels - channels_in

    def forward(self, x: Tensor) -> Tensor:
        """[b, channels_in, h, w] -> [b, channels, ceil(h / stride), ceil(w / stride)]."""
        shortcut = x[:, :, :: self.stride, :: self.stride]
        if self.new_channels:
            before = self.new_channels // 2
            shortcut = F.pad(shortcut, (0, 0, 0, 0, before, self.new_channels - before))
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + shortcut)


class CifarResNet(nn.Module):
    """ResNet of 6n + 2 layers; `fc` is its head."""

    def __init__(self, blocks: int, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.stage1 = _stage(16, 16, blocks, stride=1)
        self.stage2 = _stage(16, 32, blocks, stride=2)
        self.stage3 = _stage(32, 64, blocks, stride=2)
        self.fc = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """[b, 3, h, w] -> class scores [b, num_classes]."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.stage3(self.stage2(self.stage1(x)))
        scores: Tensor = self.fc(x.mean(dim=(2, 3)))
        return scores


def cifar_resnet(name: str, *, num_classes: int = 10) -> CifarResNet:
    """Build one of `BLOCKS_PER_STAGE` by name, with initial weights from torch's global generator."""
    return CifarResNet(BLOCKS_PER_STAGE[name], num_classes)


def _stage(channels_in: int, channels: int, blocks: int, *, stride: int) -> nn.Sequential:
    first = BasicBlock(channels_in, channels, stride)
    return nn.Sequential(first, *(BasicBlock(channels, channels, 1) for _ in range(blocks - 1)))
