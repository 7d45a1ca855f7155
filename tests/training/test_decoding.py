"""Every kind of image becomes a square of RGB pixels, and what is no image is refused with the reason."""

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from raybench.errors import DataError
from raybench.training.decoding import Source, decode

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def flat(mode: str, colour: object) -> Image.Image:
    return Image.new(mode, (12, 12), colour)  # type: ignore[arg-type]


def palette(*, transparent: bool) -> Image.Image:
    image = flat("RGB", RED).convert("P", palette=Image.Palette.ADAPTIVE)
    if transparent:
        image.info["transparency"] = image.getpixel((0, 0))
    return image


def sixteen_bit(level: int) -> Image.Image:
    return Image.fromarray(np.full((12, 12), level, dtype=np.uint16))


MODES = {
    "one bit": (flat("1", 1), WHITE),
    "grey": (flat("L", 77), (77, 77, 77)),
    "grey with alpha over white": (flat("LA", (0, 0)), WHITE),
    "palette": (palette(transparent=False), RED),
    "palette with a transparent colour": (palette(transparent=True), WHITE),
    "RGB": (flat("RGB", BLUE), BLUE),
    "opaque RGBA": (flat("RGBA", (*GREEN, 255)), GREEN),
    "half transparent RGBA": (flat("RGBA", (0, 0, 0, 128)), (127, 127, 127)),
    "transparent RGBA hides its colours": (flat("RGBA", (*RED, 0)), WHITE),
    "CMYK": (flat("CMYK", (0, 255, 255, 0)), RED),
    "16-bit white": (sixteen_bit(65535), WHITE),
    "16-bit middle grey is scaled, not clipped": (sixteen_bit(32896), (128, 128, 128)),
    "16-bit in a 32-bit image": (flat("I", 257 * 9), (9, 9, 9)),
    "HSV": (flat("HSV", (0, 255, 255)), RED),
}


@pytest.mark.parametrize(("image", "expected"), MODES.values(), ids=MODES)
def test_every_mode_becomes_rgb(image: Image.Image, expected: npt.ArrayLike) -> None:
    pixels = decode(image, 8)
    assert pixels.shape == (8, 8, 3)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - np.asarray(expected)).max() <= 1


FILES = {
    "image.jpg": flat("RGB", BLUE),
    "cmyk.jpg": flat("CMYK", (255, 255, 0, 0)),
    "image.png": flat("RGB", BLUE),
    "palette.gif": flat("RGB", BLUE).convert("P", palette=Image.Palette.ADAPTIVE),
    "image.webp": flat("RGB", BLUE),
    "image.tif": flat("RGB", BLUE),
    "image.bmp": flat("RGB", BLUE),
}


@pytest.mark.parametrize("name", FILES)
def test_every_format_is_read_from_a_file(name: str, tmp_path: Path) -> None:
    FILES[name].save(tmp_path / name)
    pixels = decode(tmp_path / name, 4).astype(int)
    assert (pixels[..., 2] > pixels[..., 0] + 100).all()


def test_sixteen_bit_png_is_scaled(tmp_path: Path) -> None:
    sixteen_bit(32896).save(tmp_path / "deep.png")
    assert (decode(tmp_path / "deep.png", 4) == 128).all()


def test_big_endian_sixteen_bit_tiff_is_scaled(tmp_path: Path) -> None:
    Image.frombytes("I;16B", (4, 4), np.full((4, 4), 32896, dtype=">u2").tobytes()).save(tmp_path / "deep.tif")
    assert (decode(tmp_path / "deep.tif", 4) == 128).all()


def test_bytes_are_read_like_a_file(tmp_path: Path) -> None:
    flat("RGB", GREEN).save(tmp_path / "a.png")
    assert (decode((tmp_path / "a.png").read_bytes(), 4) == GREEN).all()


# Each orientation, and where the corner that was stored top left is seen: (row, column), 0 first and -1 last.
ORIENTATIONS = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}


@pytest.mark.parametrize(("orientation", "corner"), ORIENTATIONS.items())
def test_exif_orientation_turns_the_image_upright(orientation: int, corner: tuple[int, int], tmp_path: Path) -> None:
    image = flat("RGB", (0, 0, 0))
    image.paste(WHITE, (0, 0, 4, 4))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "turned.png", exif=exif)
    pixels = decode(tmp_path / "turned.png", 12)
    assert (pixels[corner] == 255).all()
    assert (pixels == 255).all(-1).sum() == 16


def test_the_middle_square_is_cut_out() -> None:
    image = Image.new("RGB", (30, 10), RED)
    image.paste(GREEN, (10, 0, 20, 10))
    assert (decode(image, 10) == GREEN).all()
    assert (decode(image.rotate(90, expand=True), 10) == GREEN).all()


def test_shrinking_averages_instead_of_picking_pixels() -> None:
    checks = np.indices((64, 64)).sum(0) % 2 * 255
    pixels = decode(checks.astype(np.uint8), 8)
    assert pixels.min() >= 120
    assert pixels.max() <= 135


def test_a_large_jpeg_is_decoded_as_if_it_were_read_whole(tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 255, 1024).astype(np.uint8), (1024, 1))
    Image.fromarray(ramp).save(tmp_path / "ramp.jpg", quality=95)
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    shrunk, whole = decode(tmp_path / "ramp.jpg", 32), decode(tmp_path / "ramp.png", 32)
    assert np.abs(shrunk.astype(int) - whole).max() <= 3


ARRAYS: dict[str, tuple[npt.NDArray[np.generic], int]] = {
    "grey": (np.full((5, 5), 200, dtype=np.uint8), 200),
    "one channel": (np.full((5, 5, 1), 200, dtype=np.uint8), 200),
    "three channels": (np.full((5, 5, 3), 200, dtype=np.uint8), 200),
    "opaque RGBA": (np.full((5, 5, 4), 255, dtype=np.uint8), 255),
    "16-bit": (np.full((5, 5), 51400, dtype=np.uint16), 200),
    "floats": (np.full((5, 5, 3), 200 / 255), 200),
    "booleans": (np.ones((5, 5), dtype=bool), 255),
}


@pytest.mark.parametrize(("array", "level"), ARRAYS.values(), ids=ARRAYS)
def test_arrays_are_images_too(array: npt.NDArray[np.generic], level: int) -> None:
    assert (decode(array, 6) == level).all()


def truncated_jpeg(folder: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, format="jpeg")
    path = folder / "truncated.jpg"
    path.write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    return path


def text_file(folder: Path) -> Path:
    path = folder / "text.jpg"
    path.write_text("this is no image")
    return path


def empty_file(folder: Path) -> Path:
    path = folder / "empty.png"
    path.touch()
    return path


def broken_png(folder: Path) -> Path:
    path = folder / "broken.png"
    flat("RGB", RED).save(path)
    content = bytearray(path.read_bytes())
    content[45] ^= 0xFF
    path.write_bytes(content)
    return path


BAD_FILES = {
    truncated_jpeg: "truncated",
    text_file: "not an image",
    empty_file: "not an image",
    broken_png: ".",
    lambda folder: folder / "missing.png": "no such file",
}


@pytest.mark.parametrize(("make", "reason"), BAD_FILES.items(), ids=["truncated", "text", "empty", "broken", "missing"])
def test_a_file_that_is_no_whole_image_is_refused_with_the_reason(make, reason: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    with pytest.raises(DataError, match=reason):
        decode(make(tmp_path), 8)


BAD_PIXELS: dict[str, tuple[Source, str]] = {
    "channels first": (np.zeros((3, 8, 8), dtype=np.uint8), r"shape \(3, 8, 8\) is no image"),
    "a vector": (np.zeros(8, dtype=np.uint8), "is no image"),
    "nothing": (np.zeros((0, 8), dtype=np.uint8), "is no image"),
    "floats of 0..255": (np.full((8, 8), 200.0), "give 0 to 1|floats from 0 to 1"),
    "not a number": (np.full((8, 8), np.nan), "floats from 0 to 1"),
    "64-bit integers": (np.zeros((8, 8), dtype=np.int64), "give uint8, uint16"),
    "floating-point image": (flat("F", 1.0), "no known range"),
    "32-bit levels": (flat("I", 70000), "from 70000 to 70000"),
}


@pytest.mark.parametrize(("source", "reason"), BAD_PIXELS.values(), ids=BAD_PIXELS)
def test_pixels_of_unknown_meaning_are_refused(source: Source, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        decode(source, 8)


def test_an_image_with_too_many_pixels_is_refused_before_it_is_read(tmp_path: Path) -> None:
    Image.new("1", (10000, 9000)).save(tmp_path / "bomb.png")
    with pytest.warns(Image.DecompressionBombWarning), pytest.raises(DataError, match="10000 x 9000 pixels"):
        decode(tmp_path / "bomb.png", 8)
