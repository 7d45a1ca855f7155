"""Augmentation: uint8 batches in, float batches out, with randomness of its own for every image of every call.

Policies:

- `none`: nothing.
- `flip`: half of the images mirrored left to right.
- `default`: `flip`, and one affine warp (crop of 60 to 100 % of the area, aspect ratio 3:4 to 4:3, anywhere in the
  image, rotated by up to 10 degrees; what lies outside is mirrored in) and one colour matrix (brightness, contrast and
  saturation, each between 0.7 and 1.3).
- `no-flip`: `default` without mirroring, for what mirroring turns into something else, as digits and letters.
- `trivialaugment`, `randaugment`: torchvision's TrivialAugmentWide (Müller and Hutter 2021) and RandAugment (Cubuk et
  al. 2020) with their default strengths, image by image on the CPU; neither mirrors.

Everything is a function of the generator's state, on its device; the global random state is left as it was.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import v2

from raybench.errors import ExperimentError
from raybench.strategies import POLICIES

AREA = (0.6, 1.0)
"""Share of the image's area that a crop keeps."""
LOG_ASPECT = (math.log(3 / 4), math.log(4 / 3))
"""Logarithm of a crop's width over its height."""
MAX_ROTATION = math.radians(10)
COLOUR = (0.7, 1.3)
"""Factor of brightness, contrast and saturation; 1 leaves an image as it is."""
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601)."""

_IMAGE_BY_IMAGE: dict[str, type[v2.TrivialAugmentWide | v2.RandAugment]] = {
    "trivialaugment": v2.TrivialAugmentWide,
    "randaugment": v2.RandAugment,
}


def to_float(batch: Tensor) -> Tensor:
    """Return uint8 images [b, S, S, 3] as contiguous float32 [b, 3, S, S] in 0..1."""
    return batch.permute(0, 3, 1, 2).contiguous().to(torch.float32).div_(255)


@torch.no_grad()
def augment(batch: Tensor, policy: str, generator: torch.Generator) -> Tensor:
    """Return uint8 images [b, S, S, 3] augmented, as contiguous float32 [b, 3, S, S] in 0..1 on the same device.

    Advances `generator`, which may live on another device than the batch. Raises `ExperimentError` for an unknown
    policy.
    """
    if policy == "none":
        return to_float(batch)
    if policy == "flip":
        images = to_float(batch)
        mirrored = _uniform(len(batch), (0.0, 1.0), generator).to(batch.device) < 1 / 2
        return torch.where(mirrored.view(-1, 1, 1, 1), images.flip(-1), images)
    if policy in ("default", "no-flip"):
        warped = _warp(to_float(batch), _random_affine(len(batch), generator, mirror=policy == "default"))
        return _recolour(warped, *(_uniform(len(batch), COLOUR, generator) for _ in range(3)))
    if policy in _IMAGE_BY_IMAGE:
        return _image_by_image(batch, _IMAGE_BY_IMAGE[policy], generator)
    raise ExperimentError(f"augmentation: {policy!r} is unknown; give one of {', '.join(POLICIES)}")


def _uniform(count: int, bounds: tuple[float, float], generator: torch.Generator) -> Tensor:
    low, high = bounds
    return torch.rand(count, generator=generator, device=generator.device) * (high - low) + low


def _random_affine(count: int, generator: torch.Generator, *, mirror: bool) -> Tensor:
    """Return [b, 2, 3]: where each output position is read, both in -1..1 from the image's middle."""
    area = _uniform(count, AREA, generator)
    aspect = _uniform(count, LOG_ASPECT, generator).exp()
    width = (area * aspect).sqrt().clamp(max=1)
    height = (area / aspect).sqrt().clamp(max=1)
    right = _uniform(count, (-1.0, 1.0), generator) * (1 - width)
    down = _uniform(count, (-1.0, 1.0), generator) * (1 - height)
    angle = _uniform(count, (-MAX_ROTATION, MAX_ROTATION), generator)
    sign = torch.ones_like(width)
    if mirror:
        sign = torch.where(_uniform(count, (0.0, 1.0), generator) < 1 / 2, -sign, sign)
    cos, sin = angle.cos(), angle.sin()
    rows = [cos * width * sign, -sin * height, right, sin * width * sign, cos * height, down]
    return torch.stack(rows, dim=1).view(count, 2, 3)


def _warp(images: Tensor, affine: Tensor) -> Tensor:
    grid = functional.affine_grid(affine.to(images.device), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _recolour(images: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """Return [b, 3, S, S] through one matrix an image: saturation, then contrast around mean grey, then brightness."""
    count, channels, height, width = images.shape
    luma = torch.tensor(LUMA, device=images.device)
    brightness, contrast, saturation = (
        factor.to(images.device).view(-1, 1, 1) for factor in (brightness, contrast, saturation)
    )
    pixels = images.view(count, channels, height * width)
    mean_grey = (luma @ pixels.mean(dim=2).T).view(-1, 1, 1)
    to_grey = luma.expand(channels, channels)
    identity = torch.eye(channels, device=images.device)
    matrix = brightness * contrast * (saturation * identity + (1 - saturation) * to_grey)
    offset = (brightness * (1 - contrast) * mean_grey).expand(-1, channels, 1)
    return torch.baddbmm(offset, matrix, pixels).clamp_(0, 1).view_as(images)


def _image_by_image(
    batch: Tensor, kind: type[v2.TrivialAugmentWide | v2.RandAugment], generator: torch.Generator
) -> Tensor:
    seed = int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
    transform = kind(interpolation=v2.InterpolationMode.BILINEAR)
    images = batch.permute(0, 3, 1, 2).cpu()
    with torch.random.fork_rng(devices=[]):
        # These transforms draw from torch's global generator of the CPU; `torch.manual_seed` would seed GPUs as well.
        torch.default_generator.manual_seed(seed)
        changed = torch.stack([transform(image) for image in images])
    return changed.contiguous().to(batch.device).to(torch.float32).div_(255)
