"""What a cropping policy draws for each image of a batch: one affine map, three colour factors, one blur.

In: a CPU generator. Out: `Draws`, which any device can apply. The draws of an image stand together in the generator's
stream, so that images get the same draws however they are cut into batches.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

AREA = (0.6, 1.0)
"""Share of the image's area that a crop keeps."""
ASPECT = (3 / 4, 4 / 3)
"""A crop's width over its height; its logarithm is uniform, as in torchvision's RandomResizedCrop."""
MAX_ROTATION = math.radians(10)
COLOUR = (0.7, 1.3)
"""Factor of brightness, contrast and saturation; 1 leaves an image as it is."""
BLUR_SHARE = 0.2
"""Part of the images that are blurred."""
BLUR = (0.1 / 224, 2 / 224)
"""Standard deviation of the Gaussian as a share of the side: SimCLR's 0.1 to 2 pixels at 224 (Chen et al. 2020)."""
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601)."""

_BASE_RATIO = 8 / 7
_NUMBERS = 11
"""Drawn for each image."""

Floats = npt.NDArray[np.float64]


def base_size(image_size: int) -> int:
    """Return the side in pixels of the images that crops are read from: 256 for 224, 73 for 64.

    A crop of the mean area, 0.8 of the image, then has about the pixels that the model takes: it is neither enlarged
    nor shrunk.
    """
    return round(image_size * _BASE_RATIO)


@dataclass(frozen=True, kw_only=True, slots=True)
class Draws:
    """What happens to each image of a batch, apart from its size."""

    affine: Floats
    """[b, 2, 3]: where each output position (x, y, 1) is read; -1..1 is from edge to edge on both sides."""
    colour: Floats
    """[b, 3, 3]: brightness, contrast and saturation as one matrix, from red, green and blue to the same."""
    grey: Floats
    """[b]: times the image's mean grey, what is added to each channel: contrast turns around mean grey."""
    blur: Floats
    """[b]: standard deviation of the Gaussian as a share of the side; 0: not blurred."""

    def __len__(self) -> int:
        return len(self.grey)

    def between(self, start: int, stop: int) -> "Draws":
        """Return the draws of the images from `start` to before `stop`."""
        rows = slice(start, stop)
        return Draws(affine=self.affine[rows], colour=self.colour[rows], grey=self.grey[rows], blur=self.blur[rows])


def draw(count: int, generator: torch.Generator, *, mirror: bool) -> Draws:
    """Draw for `count` images; `mirror`: half of them are mirrored left to right. Advances the generator."""
    columns = torch.rand(count, _NUMBERS, dtype=torch.float64, generator=generator).numpy().T
    area, aspect, right, down, turn, side, brightness, contrast, saturation, whether, strength = columns
    return Draws(
        affine=affine_maps(
            area=_between(AREA, area),
            aspect=np.exp(_between((math.log(ASPECT[0]), math.log(ASPECT[1])), aspect)),
            right=_between((-1, 1), right),
            down=_between((-1, 1), down),
            angle=_between((-MAX_ROTATION, MAX_ROTATION), turn),
            mirrored=(side < 1 / 2) & mirror,
        ),
        **colour_maps(
            brightness=_between(COLOUR, brightness),
            contrast=_between(COLOUR, contrast),
            saturation=_between(COLOUR, saturation),
        ),
        blur=np.where(whether < BLUR_SHARE, _between(BLUR, strength), 0),
    )


def affine_maps(
    *, area: Floats, aspect: Floats, right: Floats, down: Floats, angle: Floats, mirrored: npt.NDArray[np.bool_]
) -> Floats:
    """Return [b, 2, 3], as `Draws.affine`: a crop, turned by `angle` (radians) around its middle.

    `right` and `down` say where it lies, from -1 (at one edge) to 1 (at the other); a side longer than the image's is
    cut to that.
    """
    width = np.minimum(np.sqrt(area * aspect), 1)
    height = np.minimum(np.sqrt(area / aspect), 1)
    cos, sin = np.cos(angle), np.sin(angle)
    signed = np.where(mirrored, -width, width)
    rows = [cos * signed, -sin * height, right * (1 - width), sin * signed, cos * height, down * (1 - height)]
    return np.stack(rows, axis=1).reshape(-1, 2, 3)


def colour_maps(*, brightness: Floats, contrast: Floats, saturation: Floats) -> dict[str, Floats]:
    """Return `Draws.colour` and `Draws.grey`: saturation, then contrast around mean grey, then brightness."""
    to_grey = np.tile(np.asarray(LUMA), (3, 1))
    mixed = saturation[:, None, None] * np.eye(3) + (1 - saturation)[:, None, None] * to_grey
    return {"colour": (brightness * contrast)[:, None, None] * mixed, "grey": brightness * (1 - contrast)}


def _between(bounds: tuple[float, float], uniform: Floats) -> Floats:
    low, high = bounds
    return low + (high - low) * uniform
