"""Augmentation: uint8 batches in, uint8 batches out, with randomness of its own for every image of every call.

Policies:

- `none`: nothing.
- `flip`: half of the images mirrored left to right.
- `default`: `flip`, and one affine warp (crop of 60 to 100 % of the area, aspect ratio 3:4 to 4:3, anywhere in the
  image, rotated by up to 10 degrees; what lies outside is mirrored in), one colour matrix (brightness, contrast and
  saturation, each between 0.7 and 1.3) and, for one image in five, a mild Gaussian blur; see `raybench.training.draws`.
  Crops are read from larger images than the model takes, where there are any (`base_size`).
- `no-flip`: `default` without mirroring, for what mirroring turns into something else, as digits and letters.
- `trivialaugment`, `randaugment`: torchvision's TrivialAugmentWide (Müller and Hutter 2021) and RandAugment (Cubuk et
  al. 2020) with their default strengths, image by image on the CPU; neither mirrors.

Everything is a function of the CPU generator's state, whatever the device; the global random state is left as it was.
The cropping policies are computed by OpenCV on the CPU, image by image, and by torch elsewhere, batch by batch: the
same map, filters and borders, so that the two differ by rounding.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import v2

from raybench.errors import ExperimentError
from raybench.strategies import POLICIES
from raybench.training.distributed import Part
from raybench.training.draws import BLUR, LUMA, Draws, draw
from raybench.training.pixels import match_threads

Pixels = npt.NDArray[np.uint8]

_CROPPING = {"default": True, "no-flip": False}
"""Policies that crop, and whether they mirror."""
_IMAGE_BY_IMAGE: dict[str, type[v2.TrivialAugmentWide | v2.RandAugment]] = {
    "trivialaugment": v2.TrivialAugmentWide,
    "randaugment": v2.RandAugment,
}
_WIDEST = 3
"""A Gaussian is cut off at this many of the largest standard deviations."""
_LEVELS = 255


def crops(policy: str) -> bool:
    """Whether a policy cuts parts out of an image, and so reads from larger ones where there are any."""
    return policy in _CROPPING


@torch.no_grad()
def augment(
    images: Tensor,
    policy: str,
    generator: torch.Generator,
    *,
    image_size: int | None = None,
    part: Part | None = None,
) -> Tensor:
    """Return uint8 images [b, s, s, 3] augmented, as uint8 [b, image_size, image_size, 3] on the same device.

    `image_size` is s where it is None; only the policies that crop change the size. `part` says which images of a
    batch these are; None: all. They become what they would become among the others. Advances `generator`, which lives
    on the CPU, as far as the whole batch takes it. Raises `ExperimentError` for an unknown policy.
    """
    side = image_size or images.shape[1]
    part = part or Part(start=0, stop=len(images), whole=len(images))
    if policy == "none":
        return images
    if policy == "flip":
        drawn = torch.rand(part.whole, generator=generator)[part.start : part.stop]
        mirrored = drawn.to(images.device) < 1 / 2
        return torch.where(mirrored.view(-1, 1, 1, 1), images.flip(2), images)
    if policy in _CROPPING:
        draws = draw(part.whole, generator, mirror=_CROPPING[policy]).between(part.start, part.stop)
        if images.device.type == "cpu":
            return torch.from_numpy(apply_by_opencv(images.numpy(), draws, side))
        return apply_by_torch(images, draws, side)
    if policy in _IMAGE_BY_IMAGE:
        return _image_by_image(images, _IMAGE_BY_IMAGE[policy], generator, earlier=part.start)
    raise ExperimentError(f"augmentation: {policy!r} is unknown; give one of {', '.join(POLICIES)}")


def apply_by_opencv(images: Sequence[Pixels] | Pixels, draws: Draws, image_size: int) -> Pixels:
    """Return images [b][s, s, 3] warped, recoloured and blurred: [b, image_size, image_size, 3]."""
    match_threads()
    changed = np.empty((len(draws), image_size, image_size, 3), dtype=np.uint8)
    maps = _pixel_maps(draws.affine, images[0].shape[0], image_size)
    colours = np.concatenate([draws.colour, draws.grey[:, None, None].repeat(3, axis=1)], axis=2)
    deviations = (draws.blur * image_size).tolist()
    taps = _taps(image_size)
    for image, target, pixel_map, colour, deviation in zip(images, changed, maps, colours, deviations, strict=True):
        cv2.warpAffine(
            image,
            pixel_map,
            (image_size, image_size),
            dst=target,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT,
        )
        red, green, blue, _ = cv2.mean(target)
        colour[:, 3] *= LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
        cv2.transform(target, colour, dst=target)
        if deviation:
            cv2.GaussianBlur(target, (taps, taps), deviation, dst=target, borderType=cv2.BORDER_REFLECT_101)
    return changed


@torch.no_grad()
def apply_by_torch(images: Tensor, draws: Draws, image_size: int) -> Tensor:
    """Return images [b, s, s, 3] warped, recoloured and blurred, [b, image_size, image_size, 3], on their device."""
    with torch.autocast(images.device.type, enabled=False):  # bfloat16 is for models: it cannot tell 254 from 255
        return _changed_by_torch(images, draws, image_size)


def _changed_by_torch(images: Tensor, draws: Draws, image_size: int) -> Tensor:
    device, count = images.device, len(draws)
    affine, colour, grey = (
        torch.from_numpy(values).to(device, torch.float32) for values in (draws.affine, draws.colour, draws.grey)
    )
    grid = functional.affine_grid(affine, [count, 3, image_size, image_size], align_corners=False)
    pixels = images.permute(0, 3, 1, 2).to(torch.float32)
    warped = functional.grid_sample(pixels, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    flat = warped.reshape(count, 3, image_size**2)
    mean_grey = torch.tensor(LUMA, device=device) @ flat.mean(dim=2).T
    offset = (grey * mean_grey).view(-1, 1, 1).expand(-1, 3, 1)
    recoloured = torch.baddbmm(offset, colour, flat).clamp_(0, _LEVELS).view_as(warped)
    chosen = np.flatnonzero(draws.blur)
    if len(chosen):
        places = torch.from_numpy(chosen).to(device)
        recoloured[places] = _blurred(recoloured[places], draws.blur[chosen] * image_size)
    return recoloured.round_().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _pixel_maps(affine: npt.NDArray[np.float64], read_size: int, image_size: int) -> npt.NDArray[np.float64]:
    """Return maps between -1..1 as maps from pixel to pixel, [b, 2, 3]; a pixel's middle is a whole number."""
    maps = np.empty_like(affine)
    maps[:, :, :2] = affine[:, :, :2] * (read_size / image_size)
    middle = affine[:, :, 2] + affine[:, :, :2].sum(axis=2) * (1 / image_size - 1)
    maps[:, :, 2] = (middle + 1) * read_size / 2 - 1 / 2
    return maps


def _taps(image_size: int) -> int:
    """Return the length of the Gaussian's filter, an odd number of pixels, the same for every image of a size."""
    return 2 * math.ceil(_WIDEST * BLUR[1] * image_size) + 1


def _blurred(images: Tensor, deviations: npt.NDArray[np.float64]) -> Tensor:
    """Return [b, 3, S, S], each filtered by a Gaussian of its own standard deviation in pixels, borders mirrored."""
    count, channels, side, _ = images.shape
    taps = _taps(side)
    filters = np.stack([cv2.getGaussianKernel(taps, deviation).ravel() for deviation in deviations])
    weights = torch.from_numpy(filters).to(images.device, torch.float32).repeat_interleave(channels, dim=0)
    edge = taps // 2
    padded = functional.pad(images.reshape(1, count * channels, side, side), [edge] * 4, mode="reflect")
    rows = functional.conv2d(padded, weights[:, None, None, :], groups=count * channels)
    return functional.conv2d(rows, weights[:, None, :, None], groups=count * channels).view_as(images)


def _image_by_image(
    batch: Tensor, kind: type[v2.TrivialAugmentWide | v2.RandAugment], generator: torch.Generator, *, earlier: int
) -> Tensor:
    """Return the images changed that follow so many earlier ones of their batch."""
    seed = int(torch.randint(2**62, (1,), generator=generator))
    transform = kind(interpolation=v2.InterpolationMode.BILINEAR)
    images = batch.permute(0, 3, 1, 2).cpu()
    with torch.random.fork_rng(devices=[]):
        # These transforms draw from torch's global generator of the CPU; `torch.manual_seed` would seed GPUs as well.
        torch.default_generator.manual_seed(seed)
        for _ in range(earlier):  # what is drawn does not depend on the pixels: the least of an image will do
            transform(torch.zeros(3, 2, 2, dtype=torch.uint8))
        changed = torch.stack([transform(image) for image in images])
    return changed.permute(0, 2, 3, 1).contiguous().to(batch.device)
