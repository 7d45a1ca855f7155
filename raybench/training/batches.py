"""Batches for one model: order, augmentation, normalisation, and the frozen backbone's features.

In: a split's uint8 images and labels, and a `Network`. Out: tensors on the device, ready for the model.
Everything random is a function of seed and epoch, so that a resumed trial sees what it would have seen.
No worker process: batches are made where they are used, from decoded images that all trials of a machine share.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from raybench.seeding import derive
from raybench.training.augment import augment, crops
from raybench.training.data import ImageSplit
from raybench.training.distributed import Part
from raybench.training.pixels import PixelSource, pixel_source, to_device, to_model

EVALUATION_BATCH = 256
"""Most images that a forward pass without gradients takes at once."""
_FEWEST = 32
_CPU_PIXELS = 64 * 224 * 224
"""Of such a batch on a CPU: more are no quicker, and trials that run side by side share the memory."""


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
        return self.finished(to_device(torch.from_numpy(np.ascontiguousarray(images)), self.device))

    def finished(self, pixels: Tensor) -> Tensor:
        """Return uint8 images [b, S, S, 3] on the device, augmented or not, as `evaluation`."""
        return to_model(pixels, self.mean, self.std, channels_last=self.channels_last)

    def generator(self, epoch: int) -> torch.Generator:
        """Return the source of an epoch's augmentation: on the CPU, so that every device draws the same."""
        return torch.Generator().manual_seed(derive(self.seed, "augmentation", epoch))


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingImages:
    """A trial's training subset, of which every epoch makes batches."""

    source: PixelSource
    image_size: int
    """Side S of what the model takes; the images of the source are larger where crops are read from them."""
    preparation: Preparation

    def batch(self, places: npt.NDArray[np.int64], generator: torch.Generator, part: Part | None = None) -> Tensor:
        """Return the images at these places of the subset, augmented, as a normalised float32 tensor [b, 3, S, S].

        `part` says which images of a batch these are; None: all.
        """
        preparation = self.preparation
        pixels = self.source.take(places)
        pixels = augment(pixels, preparation.policy, generator, image_size=self.image_size, part=part)
        return preparation.finished(pixels)


def training_images(split: ImageSplit, subset: npt.NDArray[np.int64], preparation: Preparation) -> TrainingImages:
    """Return the images of a split that a trial trains on, read from their larger version where its policy crops."""
    images = split.images if split.base is None or not crops(preparation.policy) else split.base
    return TrainingImages(
        source=pixel_source(images, preparation.device, subset),
        image_size=split.images.shape[1],
        preparation=preparation,
    )


def evaluation_batch(device: torch.device, image_size: int) -> int:
    """Return how many images a forward pass without gradients takes at once."""
    if device.type != "cpu":
        return EVALUATION_BATCH
    return min(max(_CPU_PIXELS // image_size**2, _FEWEST), EVALUATION_BATCH)


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
    source = pixel_source(split.images, preparation.device, positions)
    size = evaluation_batch(preparation.device, split.images.shape[1])
    starts = range(0, len(source), size)
    return torch.cat([module(preparation.finished(source.between(start, start + size))) for start in starts])
