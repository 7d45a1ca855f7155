"""A folder of JPEGs to measure on: photographs of 320 px, of ten classes that can be learned.

In: how many images each split has. Out: the path of an image folder with train/, val/ and test/, a folder a class in
each. Nothing is downloaded: scikit-learn's handwritten digits are laid, enlarged and coloured, over random crops of the
two photographs that its wheel holds, so that the files are as large and as slow to decode as photographs are.
"""

import colorsys
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from filelock import FileLock
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

FOLDER = Path(__file__).parent / "images"
"""Where the images are kept: made once, left out of git."""
SIDE = 320
"""Of the images, in pixels."""
QUALITY = 90
"""Of the JPEGs: 16 to 50 KB each."""
_VERSION = 2
"""Of how the images are made; part of the folder's name."""
_BRIGHTEST = 16
"""Of a pixel in scikit-learn's digits."""
_CROP_SIDES = (200, 420)
"""Of the part of a photograph that becomes a background, in pixels."""
_DIGIT_SIDES = (240, 316)
_OPACITY = (0.85, 1.0)
"""Of a digit over its background."""
_CLASSES = 10
_HUE_NOISE = 0.4
"""Standard deviation of a digit's hue, in distances between the hues of two classes."""


def photo_folder(*, train: int = 833, val: int = 200, test: int = 200, seed: int = 0, folder: Path = FOLDER) -> Path:
    """Return an image folder of 320 px JPEGs, made where it is not there yet: the same files every time.

    No digit stands in two splits. Raises ValueError where more images are asked for than there are digits (1797).
    """
    counts = {"train": train, "val": val, "test": test}
    finished = folder / f"photos-{_VERSION}-{train}-{val}-{test}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(finished.with_name(f"{finished.name}.lock")):
        if not finished.is_dir():
            _make(finished, counts, seed)
    return finished


def _make(finished: Path, counts: Mapping[str, int], seed: int) -> None:
    partial = finished.with_name(f"{finished.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    digits = load_digits()
    if sum(counts.values()) > len(digits.target):
        raise ValueError(f"{sum(counts.values())} images were asked for, but there are {len(digits.target)} digits")
    random = np.random.default_rng(seed)
    order = iter(random.permutation(len(digits.target)))
    photographs = [Image.fromarray(photograph) for photograph in load_sample_images().images]
    for split, count in counts.items():
        for _ in range(count):
            position = next(order)
            place = partial / split / str(digits.target[position]) / f"{position:04d}.jpg"
            place.parent.mkdir(parents=True, exist_ok=True)
            background = _background(photographs[random.integers(len(photographs))], random)
            _with_digit(background, digits.images[position], int(digits.target[position]), random).save(
                place, quality=QUALITY
            )
    (partial / "made.json").write_text(json.dumps({"counts": counts, "seed": seed, "version": _VERSION}))
    partial.rename(finished)


def _background(photograph: Image.Image, random: np.random.Generator) -> npt.NDArray[np.float64]:
    side = int(random.integers(*_CROP_SIDES))
    left, top = int(random.integers(photograph.width - side)), int(random.integers(photograph.height - side))
    crop = photograph.resize((SIDE, SIDE), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
    noise = random.normal(0, 4, (SIDE, SIDE, 3))  # of a sensor: without it, enlarged crops compress far too well
    return np.asarray(crop, dtype=np.float64) + noise


def _with_digit(
    background: npt.NDArray[np.float64], digit: npt.NDArray[np.float64], label: int, random: np.random.Generator
) -> Image.Image:
    side = int(random.integers(*_DIGIT_SIDES))
    stroke = Image.fromarray((np.pad(digit, 1) * 255 / _BRIGHTEST).astype(np.uint8))
    left, top = random.integers(0, SIDE - side, 2)
    covered = background[top : top + side, left : left + side]
    opacity = np.asarray(stroke.resize((side, side), Image.Resampling.BICUBIC))[..., np.newaxis] / 255
    # Light on dark or dark on light. Shape tells the classes apart, hue does in part: a network that has just begun to
    # learn, or a probe of one that never did, is then better than chance.
    hue = (label + random.normal(0, _HUE_NOISE)) / _CLASSES % 1
    value = random.uniform(0.75, 1) if covered.mean() < 255 / 2 else random.uniform(0.25, 0.5)
    colour = 255 * np.array(colorsys.hsv_to_rgb(hue, random.uniform(0.5, 1), value))
    covered += (colour - covered) * opacity * random.uniform(*_OPACITY)
    return Image.fromarray(background.clip(0, 255).astype(np.uint8))
