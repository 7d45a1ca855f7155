"""A folder of images becomes a first experiment file, with what was seen as comments.

In: a folder in the imagefolder layout, a folder with file lists, or the prefix of file lists. Out: a YAML file that
loads. Only the headers of a sample of images are read; whether all can be decoded is for preflight to find out.
"""

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import yaml
from PIL import Image, UnidentifiedImageError

from raybench.errors import DataError, ExperimentError
from raybench.records import DatasetSpec
from raybench.regular import check_regular
from raybench.training.listing import Listing, SplitListing
from raybench.training.sources.filelists import list_filelist
from raybench.training.sources.folders import SUFFIXES, list_folder

SAMPLE = 200
"""Images whose size is looked at, evenly spaced over the training images."""
IMAGE_SIZES = (32, 64, 96, 128, 160, 224)
"""Sides that are proposed, in pixels; the largest that most images fill without being enlarged."""
SMALL_IMAGES = 32
"""Up to this side the CIFAR ResNets are proposed, which were made for it."""
CLASSES_SHOWN = 12
NAME_LENGTH = 100
FEW_IMAGES = 10
"""A class with fewer training images says little about itself."""
IMBALANCE = 2.0
"""Images of the largest class over those of the smallest, from which on it is worth a remark."""
VAL_SHARE, MOST_VAL = 0.1, 2000
"""What is set aside where there is no val split."""
LAYOUTS = (
    "expected train/CLASS/IMAGE (and val/, test/ beside train/), "
    "or file lists PREFIX.train, PREFIX.dev, PREFIX.test with lines 'relative/path label'"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sighting:
    """What was seen of one dataset."""

    name: str
    source: str
    """As an experiment file gives it."""
    classes: tuple[str, ...]
    class_counts: tuple[int, ...]
    """Training images a class, in the order of `classes`."""
    val_images: int | None
    """None: no val split, so a part of train is set aside."""
    test_images: int | None
    """None: no test split."""
    sides: tuple[int, ...]
    """Shorter side of each image of the sample, in pixels, ascending; those that could not be read are left out."""
    unreadable: tuple[str, ...]
    """Images of the sample that could not be read."""
    warnings: tuple[str, ...]

    @property
    def train_images(self) -> int:
        """Images to train on, after those set aside for validation."""
        images = sum(self.class_counts)
        return images if self.val_images is not None else images - min(int(images * VAL_SHARE), MOST_VAL)

    @property
    def image_size(self) -> int:
        """The side that is proposed, in pixels."""
        typical = median(self.sides) if self.sides else IMAGE_SIZES[-1]
        return max((size for size in IMAGE_SIZES if size <= typical), default=IMAGE_SIZES[0])

    @property
    def train_sizes(self) -> tuple[int | str, ...]:
        """A quarter, a half and all of the training images, those left out that would leave a class empty."""
        parts = (self.train_images // 4, self.train_images // 2)
        return (*(part for part in parts if part >= 2 * len(self.classes)), "all")


def write_starter(source: Path, output: Path | None = None) -> Path:
    """Write a first experiment file for the images at `source`, and return its path.

    `output` defaults to NAME.yaml in the current folder, NAME being the folder's.

    Raises:
        DataError: no folder or prefix of file lists, no images, one class only, or another layout.
        ExperimentError: the file is there already, or cannot be written.

    """
    sightings = look(source)
    name = _safe_name(source.resolve().name)
    path = output if output is not None else Path(f"{name}.yaml")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(draft(name, path, sightings))
    except FileExistsError:
        raise ExperimentError(f"{path}: is there already and is left as it is; move it, or name another file") from None
    except OSError as error:
        raise ExperimentError(f"{path}: cannot be written: {error.strerror}") from None
    return path


def look(source: Path) -> list[Sighting]:
    """Return what there is at a folder, or at a prefix of file lists: one dataset, or one a prefix."""
    if (source / "train").is_dir():
        listing = list_folder(_spec(source, "imagefolder"), str(source))
        return [_sighting(source, f"imagefolder:{source}", listing)]
    prefixes = _prefixes(source)
    if prefixes:
        found = [(prefix, list_filelist(_spec(prefix, "filelist"), str(prefix))) for prefix in prefixes]
        return [_sighting(prefix, f"filelist:{prefix}", listing) for prefix, listing in found]
    if not source.is_dir():
        raise DataError(f"{source}: no such folder; {LAYOUTS}")
    classes = _class_folders(source)
    if classes:
        shown = ", ".join(classes[:3])
        raise DataError(
            f"{source}: folders of images ({shown}{', ...' if len(classes) > len(classes[:3]) else ''}) but no train/; "
            f"move them into {source / 'train'}: val images are then set aside from them, and test/ is optional"
        )
    raise DataError(f"{source}: holds no dataset; {LAYOUTS}")


def draft(name: str, path: Path, sightings: list[Sighting]) -> str:
    """Return the text of an experiment file: what was seen, what to do next, and the keys."""
    small = max(sighting.image_size for sighting in sightings) <= SMALL_IMAGES
    lines = [
        "# Which model, trained how, on how many images, gives the best accuracy for its cost on these images?",
        "#",
        f"#   raybench plan {path}     what would run, and what a test split of this size can tell apart",
        f"#   raybench run {path}",
        "#",
        "# A first draft from a look at the files: change what you know better. Every key: raybench schema",
        "",
        f"name: {_scalar(name)}",
        "datasets:",
    ]
    for sighting in sightings:
        lines += _dataset_lines(sighting)
    lines += _SMALL_CHOICES if small else _LARGE_CHOICES
    lines += [
        "seeds: [0, 1, 2]                # each draws its own images, first weights and order",
        "training:",
        "  epochs: 30                    # at most, in each phase; patience (15 % of them) ends it earlier",
        "  batch_size: 32",
        "  learning_rate: 0.001",
    ]
    if any(_imbalance(sighting) >= IMBALANCE for sighting in sightings):
        lines.append(
            "  # class_weights: balanced     # weighs rare classes more; compare balanced accuracy and recalls"
        )
    lines += [
        "scheduler: {asha: {grace_period: 5, reduction_factor: 3}}   # stops what falls behind; or: none",
        "# price_per_hour_usd: {local: 0.40}                         # of this machine; without it, cost stays unknown",
        "# cache_limit_gb: 50                                        # of disk, for decoded images and features",
    ]
    return "\n".join(lines) + "\n"


_SMALL_CHOICES = [
    "models: [resnet8, resnet20]     # CIFAR ResNets, made for images this small; also resnet32, resnet56",
    "weights: [random, packaged]     # from nothing, or pretrained on Fashion-MNIST; both without a network",
    "strategies: [linear-probe, fine-tune, fine-tune+augment]",
]
_LARGE_CHOICES = [
    "models: [resnet18, resnet50]    # any classifier of torchvision; raybench models lists them",
    "weights: [imagenet]             # downloaded on first use; without a network: random, or the path of a file",
    "strategies: [linear-probe, lp-ft, lp-ft+augment]",
]


def _dataset_lines(sighting: Sighting) -> list[str]:
    remarks = [_classes_remark(sighting), _splits_remark(sighting), _sizes_remark(sighting)]
    largest, smallest = max(sighting.class_counts), min(sighting.class_counts)
    if _imbalance(sighting) >= IMBALANCE:
        remarks.append(f"imbalanced: {largest} training images in the largest class, {smallest} in the smallest")
    few = [label for label, count in zip(sighting.classes, sighting.class_counts, strict=True) if count < FEW_IMAGES]
    if few:
        shown = ", ".join(_plain(label) for label in few[:CLASSES_SHOWN])
        remarks.append(f"under {FEW_IMAGES} training images: {shown}")
    remarks += [_plain(warning) for warning in sighting.warnings]
    lines = [
        f"  - name: {_scalar(_safe_name(sighting.name))}",
        f"    source: {_scalar(sighting.source)}",
        *(f"    # {remark}" for remark in remarks),
        f"    image_size: {sighting.image_size}",
        f"    train_sizes: [{', '.join(str(size) for size in sighting.train_sizes)}]",
    ]
    if sighting.unreadable:
        bad, seen = len(sighting.unreadable), len(sighting.unreadable) + len(sighting.sides)
        lines += [
            f"    # {bad} of {seen} images looked at could not be read, such as {_plain(sighting.unreadable[0])}",
            "    on_bad_image: skip          # leaves them out and counts them; error (the default) refuses to start",
        ]
    return lines


def _classes_remark(sighting: Sighting) -> str:
    pairs = list(zip(sighting.classes, sighting.class_counts, strict=True))
    shown = ", ".join(f"{_plain(label)} ({count})" for label, count in pairs[:CLASSES_SHOWN])
    more = f" and {len(pairs) - CLASSES_SHOWN} more" if len(pairs) > CLASSES_SHOWN else ""
    return f"{len(pairs)} classes, with their training images: {shown}{more}"


def _splits_remark(sighting: Sighting) -> str:
    images = sum(sighting.class_counts)
    aside = images - sighting.train_images
    val = f"{sighting.val_images} val" if sighting.val_images is not None else f"no val split ({aside} set aside)"
    if sighting.test_images is None:
        return f"{images} train, {val}, no test split: val accuracy ranks, and tables say so"
    return f"{images} train, {val}, {sighting.test_images} test images"


def _sizes_remark(sighting: Sighting) -> str:
    if not sighting.sides:
        return "no image of the sample could be read"
    smallest, largest = sighting.sides[0], sighting.sides[-1]
    middle = int(median(sighting.sides))
    return f"shorter sides of {len(sighting.sides)} images: {smallest} to {largest} pixels, median {middle}"


def _sighting(path: Path, source: str, listing: Listing) -> Sighting:
    if len(listing.classes) < 2:  # noqa: PLR2004 - two is the least that can be told apart
        raise DataError(f"{path}: one class only, {listing.classes[0]!r}; at least two can be told apart")
    counts = Counter(int(label) for label in listing.train.labels)
    sides: list[int] = []
    unreadable: list[str] = []
    for position in _evenly_spaced(len(listing.train.names)):
        side = _shorter_side(listing.train, position)
        if side is None:
            unreadable.append(listing.train.names[position])
        else:
            sides.append(side)
    return Sighting(
        name=path.resolve().name,
        source=source,
        classes=listing.classes,
        class_counts=tuple(counts[label] for label in range(len(listing.classes))),
        val_images=None if listing.val is None else len(listing.val.names),
        test_images=None if listing.test is None else len(listing.test.names),
        sides=tuple(sorted(sides)),
        unreadable=tuple(unreadable),
        warnings=listing.warnings,
    )


def _shorter_side(split: SplitListing, position: int) -> int | None:
    file = split.read(position)
    if not isinstance(file, Path):
        return None
    try:
        check_regular(file)
        with Image.open(file) as image:
            return min(image.size)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError):
        return None


def _evenly_spaced(count: int) -> list[int]:
    return sorted({index * count // min(count, SAMPLE) for index in range(min(count, SAMPLE))})


def _imbalance(sighting: Sighting) -> float:
    return max(sighting.class_counts) / max(min(sighting.class_counts), 1)


def _prefixes(source: Path) -> list[Path]:
    """Return the prefixes of file lists in a folder, or the prefix itself."""
    if source.is_dir():
        return sorted(path.with_suffix("") for path in source.glob("*.train") if path.is_file())
    return [source] if source.with_name(f"{source.name}.train").is_file() else []


def _class_folders(folder: Path) -> list[str]:
    """Return the names of folders that hold images directly."""
    return sorted(
        entry.name
        for entry in folder.iterdir()
        if entry.is_dir() and any(file.suffix.lower() in SUFFIXES for file in entry.iterdir())
    )


def _spec(path: Path, kind: str) -> DatasetSpec:
    return DatasetSpec(
        name=path.name,
        source=f"{kind}:{path}",
        root=None,
        image_size=IMAGE_SIZES[-1],
        val_size=None,
        on_bad_image="error",
    )


def _safe_name(text: str) -> str:
    """Return a name that an experiment accepts."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[:NAME_LENGTH] or "images"


def _plain(text: str) -> str:
    """Return text for a comment: on one line, whatever a file is called."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _scalar(text: str) -> str:
    """Return text as a YAML scalar, quoted where it would be read as something else, such as `no` or `3.5`."""
    plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9_./:+-]*[A-Za-z0-9_./]", text) and yaml.safe_load(text) == text
    return text if plain else json.dumps(text, ensure_ascii=False)
