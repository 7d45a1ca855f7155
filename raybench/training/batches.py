"""Batches for one model: order, augmentation, normalisation, and the frozen backbone's features.

In: a split's uint8 images and labels, and a `Network`. Out: tensors on the device, ready for the model.
Everything random is a function of seed and epoch, so that a resumed trial sees what it would have seen.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from raybench.seeding import derive
from raybench.training.augment import augment, to_float
from raybench.training.data import ImageSplit
from raybench.training.network import normalised

EVALUATION_BATCH = 256
"""Images a forward pass without gradients takes at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Preparation:
    """How uint8 images become what a model expects."""

    mean: tuple[float, float, float]
    """Of the red, green and blue channel, in 0..1."""
    std: tuple[float, float, float]
    device: torch.device
    policy: str
    """Augmentation policy of the training batches."""
    seed: int
    channels_last: bool = False
    """Whether batches lie in memory as [b, S, S, 3], whatever their shape says."""

    def evaluation(self, images: npt.NDArray[np.uint8]) -> Tensor:
        """Return [b, S, S, 3] uint8 images as a normalised float32 tensor [b, 3, S, S]."""
        return self._laid_out(normalised(to_float(self._moved(images)), self.mean, self.std))

    def training(self, images: npt.NDArray[np.uint8], generator: torch.Generator) -> Tensor:
        """Return the images augmented with randomness from `generator`, then normalised."""
        if self.policy == "none":
            return self.evaluation(images)
        return self._laid_out(normalised(augment(self._moved(images), self.policy, generator), self.mean, self.std))

    def generator(self, epoch: int) -> torch.Generator:
        """Return the source of an epoch's augmentation."""
        generator = torch.Generator(device=self.device)
        generator.manual_seed(derive(self.seed, "augmentation", epoch))
        return generator

    def _laid_out(self, images: Tensor) -> Tensor:
        return images.contiguous(memory_format=torch.channels_last) if self.channels_last else images

    def _moved(self, images: npt.NDArray[np.uint8]) -> Tensor:
        batch = torch.from_numpy(np.ascontiguousarray(images))
        if self.device.type == "cuda":
            return batch.pin_memory().to(self.device, non_blocking=True)
        return batch


def training_order(images: int, batch_size: int, seed: int, epoch: int) -> list[npt.NDArray[np.int64]]:
    """Return positions 0..images-1 in the epoch's order, cut into batches.

    A last batch of one image joins the batch before it: BatchNorm has no variance over a single image.
    """
    order = np.random.default_rng(derive(seed, "order", epoch)).permutation(images)
    cuts = list(range(batch_size, images, batch_size))
    if cuts and batch_size > 1 and images - cuts[-1] == 1:
        cuts.pop()
    return np.split(order, cuts)


@torch.no_grad()
def forward_all(
    module: Callable[[Tensor], Tensor],
    split: ImageSplit,
    preparation: Preparation,
    positions: npt.NDArray[np.int64] | None = None,
) -> Tensor:
    """Return the module's outputs for a split, or for some of its images, in order, on the device: shape [n, ...]."""
    images = len(split.labels) if positions is None else len(positions)
    outputs = []
    for start in range(0, images, EVALUATION_BATCH):
        chosen: Any = slice(start, start + EVALUATION_BATCH)
        outputs.append(module(preparation.evaluation(split.images[chosen if positions is None else positions[chosen]])))
    return torch.cat(outputs)
