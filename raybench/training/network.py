"""The record of a network ready for training: a torch module, where its head is, how its images are normalised."""

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """A classifier for one dataset."""

    name: str
    """The model's name, for messages."""
    module: nn.Module
    """Normalised images [b, 3, s, s] -> class scores [b, num_classes], float32."""
    head_name: str
    """Dotted name of the Linear or 1x1 Conv2d that gives the class scores."""
    image_size: int
    """The side s in pixels that the network was built and checked for."""
    mean: tuple[float, float, float]
    """Per channel, for images in 0..1."""
    std: tuple[float, float, float]
    note: str
    """What is worth telling about its weights; empty where there is nothing."""
    has_learned: bool
    """Whether its backbone came with weights of its own: a file's, a download's, those that a callable returns."""

    @property
    def head(self) -> nn.Module:
        """The module that gives the class scores."""
        return self.module.get_submodule(self.head_name)

    def normalise(self, images: Tensor) -> Tensor:
        """[b, 3, s, s] in 0..1 -> the same shape, as the network wants it: (images - mean) / std."""
        return normalised(images, self.mean, self.std)


def normalised(images: Tensor, mean: tuple[float, float, float], std: tuple[float, float, float]) -> Tensor:
    """[b, 3, s, s] in 0..1 -> the same shape: (images - mean) / std, channel by channel."""
    means, deviations = (images.new_tensor(values).view(1, 3, 1, 1) for values in (mean, std))
    return (images - means) / deviations
