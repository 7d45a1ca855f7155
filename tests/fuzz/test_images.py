"""Whatever bytes are given as an image: pixels of the right shape come out, or one reason why not."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from PIL import Image

from raybench.training.decoding import decode
from tests.fuzz.damage import attempt, damaged, examples

SIDE = 16
MOST_PIXELS = 1_000_000
"""In place of Pillow's own limit: what passes it is refused all the same, and takes less time."""


def images() -> dict[str, bytes]:
    """Small images of each format, and of the kinds within it that other code reads."""
    noise = np.random.default_rng(0).integers(0, 256, (24, 20, 4), dtype=np.uint8)
    rgba = Image.fromarray(noise)
    rgb, grey, indexed = rgba.convert("RGB"), rgba.convert("L"), rgba.convert("P")
    turned = Image.Exif()
    turned[0x0112] = 6
    deep = Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
    frames = [Image.new("P", (20, 24), shade) for shade in range(3)]
    many = {"save_all": True, "append_images": frames[1:]}
    saved: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "rgb.png": (rgb, {}),
        "rgba.png": (rgba, {"icc_profile": b"profile" * 20}),
        "palette.png": (indexed, {"transparency": 3}),
        "deep.png": (deep, {}),
        "turned.jpeg": (rgb, {"exif": turned}),
        "progressive.jpeg": (rgb, {"progressive": True}),
        "grey.jpeg": (grey, {}),
        "cmyk.jpeg": (rgb.convert("CMYK"), {}),
        "frames.gif": (frames[0], many),
        "lossless.webp": (rgba, {"lossless": True}),
        "lossy.webp": (rgb, {}),
        "raw.tiff": (rgb, {}),
        "lzw.tiff": (rgb, {"compression": "tiff_lzw"}),
        "deflate.tiff": (deep, {"compression": "tiff_adobe_deflate"}),
        "rgb.bmp": (rgb, {}),
        "palette.bmp": (indexed, {}),
        "rgb.ppm": (rgb, {}),
        "rgb.jpeg2000": (rgb, {}),
    }
    content = {}
    for name, (image, options) in saved.items():
        buffer = io.BytesIO()
        image.save(buffer, name.rpartition(".")[2], **options)
        content[name] = buffer.getvalue()
    return content


IMAGES = images()


@pytest.fixture(autouse=True, scope="module")
def _fewer_pixels() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image, "MAX_IMAGE_PIXELS", MOST_PIXELS)
        yield


@pytest.mark.parametrize("name", IMAGES)
def test_what_is_damaged_here_is_an_image_at_first(name: str) -> None:
    assert decode(IMAGES[name], SIDE).shape == (SIDE, SIDE, 3)


@examples(2)
@given(damaged(list(IMAGES.values())))
def test_any_bytes_are_pixels_or_refused_with_one_line(content: bytes) -> None:
    done = attempt(lambda: decode(content, SIDE))
    if done.value is None:
        assert done.message
        assert "\n" not in done.message
    else:
        assert done.value.shape == (SIDE, SIDE, 3)
        assert done.value.dtype == np.uint8
