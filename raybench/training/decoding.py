"""One image of any kind to one square of RGB pixels.

In: a path, a file's bytes, a Pillow image or a numpy array. Out: uint8 [S, S, 3], in one or in several sizes.

- EXIF orientation is applied.
- Grey and palette images become RGB; CMYK, YCbCr, HSV and LAB by Pillow's conversion; of an animation the first frame.
- Transparency is composited on white, as a page shows it: the colours under transparent pixels are arbitrary.
- 16-bit grey is divided by 257, never clipped. Floating-point pixels are refused in files (their range is unknown) and
  taken as 0..1 in arrays.
- The largest centred square is cut out and resized to S x S with Pillow's antialiased bilinear filter. JPEGs are
  first shrunk by the decoder where they stay at least twice as large as the size that they are prepared for.
- Truncated files, files that are no images, FIFOs and devices, and images above Pillow's limit on pixels (89
  megapixels, against decompression bombs) raise `DataError`. So do formats that are no image's pixels: Pillow starts
  Ghostscript, a program, for EPS, whatever the name of the file.
"""

import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from raybench.errors import DataError
from raybench.regular import check_regular

DECODING_VERSION = "centre-square-bilinear-1"
"""Part of cache keys and fingerprints: a change in how pixels come out takes a new one."""

Source = Path | bytes | Image.Image | npt.NDArray[np.generic]
"""What can be decoded."""

FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "QOI", "SGI", "TGA", "TIFF", "WEBP")
"""What files may hold, by Pillow's names; one that this Pillow cannot read is left out."""
_DRAFT_FACTOR = 2
"""A JPEG is shrunk while decoding to no less than this many times the final size."""
_GREY_DIMENSIONS = 2
_REASON_LENGTH = 200
_WHITE = 255
_TO_EIGHT_BITS = 257
"""65535 / 255."""


def decode(source: Source, image_size: int) -> npt.NDArray[np.uint8]:
    """Return the image as uint8 [image_size, image_size, 3]. Raises `DataError` with the reason, without a name."""
    (image,) = decode_sides(source, [image_size], prepared_for=image_size)
    return image


def decode_sides(source: Source, sides: Sequence[int], *, prepared_for: int) -> list[npt.NDArray[np.uint8]]:
    """Return the image once for each side, uint8 [side, side, 3], decoded once.

    `prepared_for` is the side that decides how far a JPEG may be shrunk by the decoder: the pixels of one side do not
    depend on which others are asked for. Raises as `decode`.
    """
    try:
        if isinstance(source, Path | bytes):
            if isinstance(source, Path):
                check_regular(source)
            with Image.open(source if isinstance(source, Path) else io.BytesIO(source), formats=_formats()) as image:
                return _squares(image, sides, prepared_for)
        if isinstance(source, Image.Image):
            return _squares(source, sides, prepared_for)
        return _squares(_from_array(np.asarray(source)), sides, prepared_for)
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError("no such file") from error
    except UnidentifiedImageError as error:
        raise DataError("not an image that Pillow can read") from error
    except Exception as error:  # malformed files make Pillow's decoders raise nearly any exception
        raise DataError(_reason(error)) from error


def _reason(error: Exception) -> str:
    """Return what is wrong on one line, without the name of the file."""
    text = (error.strerror if isinstance(error, OSError) else None) or " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:_REASON_LENGTH]}"


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _squares(image: Image.Image, sides: Sequence[int], prepared_for: int) -> list[npt.NDArray[np.uint8]]:
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise DataError(f"{image.width} x {image.height} pixels are more than the {limit} that are accepted")
    image.draft(None, (_DRAFT_FACTOR * prepared_for, _DRAFT_FACTOR * prepared_for))
    upright = _to_rgb(ImageOps.exif_transpose(image))
    return [np.asarray(ImageOps.fit(upright, (side, side), method=Image.Resampling.BILINEAR)) for side in sides]


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _from_array(_sixteen_bits(np.asarray(image))).convert("RGB")
    if image.mode == "F":
        raise DataError("floating-point pixels have no known range; save the image with 8 or 16 bits a channel")
    if image.has_transparency_data:
        visible = image.convert("RGBA")
        white = Image.new("RGBA", visible.size, "white")
        return Image.alpha_composite(white, visible).convert("RGB")
    return image.convert("RGB")


def _sixteen_bits(values: npt.NDArray[np.generic]) -> npt.NDArray[np.uint16]:
    """Return what Pillow reads as 16 or 32-bit integers; 16-bit files come as either."""
    darkest, brightest = int(values.min()), int(values.max())
    if darkest < 0 or brightest > np.iinfo(np.uint16).max:
        raise DataError(f"grey levels from {darkest} to {brightest}; save the image with 8 or 16 bits a channel")
    return values.astype(np.uint16)


def _from_array(array: npt.NDArray[np.generic]) -> Image.Image:
    """Return an 8-bit image of an array [h, w], [h, w, 1], [h, w, 3] or [h, w, 4]."""
    pixels = array[..., 0] if array.shape[2:] == (1,) else array
    if pixels.shape[2:] not in {(), (3,), (4,)} or pixels.ndim < _GREY_DIMENSIONS or pixels.size == 0:
        raise DataError(f"an array of shape {array.shape} is no image; give [h, w], [h, w, 1], [h, w, 3] or [h, w, 4]")
    return Image.fromarray(_eight_bits(pixels))


def _eight_bits(array: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array, dtype=np.uint8)
    values = np.asarray(array, dtype=np.float64)
    if array.dtype == np.bool_:
        return (values * _WHITE).astype(np.uint8)
    if array.dtype == np.uint16:
        return np.round(values / _TO_EIGHT_BITS).astype(np.uint8)
    if np.issubdtype(array.dtype, np.floating) and values.min() >= 0 and values.max() <= 1:
        return np.round(values * _WHITE).astype(np.uint8)
    raise DataError(
        f"{array.dtype} pixels from {values.min():g} to {values.max():g}; give uint8, uint16 or floats from 0 to 1"
    )
