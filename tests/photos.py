"""A small dataset of real JPEG files: three classes of shapes, few of one of them."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

COUNTS = {"box": {"train": 20, "val": 6, "test": 6}, "cross": {"train": 8, "val": 4, "test": 4}}
COUNTS["disc"] = {"train": 4, "val": 2, "test": 3}
"""Images by class and split: the last class has few."""
SPLITS = ("train", "val", "test")


def draw(name: str, seed: int) -> Image.Image:
    """Return a noisy picture of a shape."""
    random = np.random.default_rng(seed)
    image = Image.fromarray(random.integers(0, 90, (72, 80, 3), dtype=np.uint8))
    pen = ImageDraw.Draw(image)
    left, top = (int(value) for value in random.integers(4, 28, 2))
    colour = tuple(int(value) for value in random.integers(130, 255, 3))
    if name == "box":
        pen.rectangle((left, top, left + 36, top + 36), fill=colour)
    elif name == "disc":
        pen.ellipse((left, top, left + 36, top + 36), fill=colour)
    else:
        pen.line((left, top, left + 36, top + 36), fill=colour, width=7)
        pen.line((left, top + 36, left + 36, top), fill=colour, width=7)
    return image


def write_photos(folder: Path) -> None:
    """Write JPEGs as imagefolder `images`, and file lists `photos.*` of the same files in the same order."""
    seed = 0
    for split in SPLITS:
        lines = []
        for label, name in enumerate(sorted(COUNTS)):
            (folder / f"images/{split}/{name}").mkdir(parents=True)
            for index in range(COUNTS[name][split]):
                seed += 1
                path = f"images/{split}/{name}/{index:02d}.jpg"
                draw(name, seed).save(folder / path, quality=92)
                lines.append(f"{path} {label}\n")
        (folder / f"photos.{split}").write_text("".join(lines))
