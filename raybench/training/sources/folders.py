"""`imagefolder:DIR`: one folder a split, in it one folder a class.

    DIR/train/CLASS/**.jpg    required
    DIR/val/CLASS/**.jpg      or valid/, validation/, dev/; without it, images of train are set aside
    DIR/test/CLASS/**.jpg     optional (hymenoptera_data has none)

DIR is relative to the dataset's `root`, where it has one. Classes are the folders of train/, in alphabetical order.
Folders below a class folder are searched too. Hidden files are ignored; others that are no images by their name
likewise, with a warning.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from raybench.errors import DataError
from raybench.records import DatasetSpec
from raybench.training.listing import Listing, SplitListing, list_files

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".bmp", ".tif", ".tiff", ".webp", ".gif"})
"""Names of image files end with one of these, in either case."""
VAL_FOLDERS = ("val", "valid", "validation", "dev")
"""Names that the val split's folder may have."""
_LAYOUT = "expected train/CLASS/IMAGE and, if there are any, val/CLASS/IMAGE and test/CLASS/IMAGE"


def list_folder(spec: DatasetSpec, argument: str) -> Listing:
    """Return the images of `imagefolder:DIR`. Raises `DataError` for another layout, or an empty class."""
    folder = Path(spec.root or "", argument).expanduser()
    if not folder.is_dir():
        raise DataError(f"no folder {folder}; {_LAYOUT} in it")
    if not (folder / "train").is_dir():
        raise DataError(f"{folder} has no folder train; {_LAYOUT}")
    val_folders = [name for name in VAL_FOLDERS if (folder / name).is_dir()]
    if len(val_folders) > 1:
        raise DataError(f"{folder} has more than one val split: {', '.join(val_folders)}; keep one of them")
    classes = tuple(_class_folders(folder / "train"))
    train = _split(folder, "train", classes)
    val = _split(folder, val_folders[0], classes) if val_folders else None
    test = _split(folder, "test", classes) if (folder / "test").is_dir() else None
    found = [split for split in (train, val, test) if split is not None]
    ignored = [name for split in found for name in split.ignored]
    return Listing(
        classes=classes,
        train=train.images,
        val=val.images if val else None,
        test=test.images if test else None,
        warnings=(f"files whose names are no image's are ignored: {len(ignored)}, as {ignored[0]}",) if ignored else (),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Split:
    images: SplitListing
    ignored: tuple[str, ...]


def _split(folder: Path, split: str, classes: tuple[str, ...]) -> _Split:
    unknown = [name for name in _class_folders(folder / split) if name not in classes]
    if unknown:
        raise DataError(
            f"{folder / split} has the class {unknown[0]!r}, which train/ has not; it has {', '.join(classes)}"
        )
    names: list[str] = []
    labels: list[int] = []
    ignored: list[str] = []
    for label, class_name in enumerate(classes):
        for name in _files(folder, folder / split / class_name):
            if Path(name).suffix.lower() in SUFFIXES:
                names.append(name)
                labels.append(label)
            else:
                ignored.append(name)
    if not names:
        raise DataError(f"{folder / split} has no images; {_LAYOUT}")
    return _Split(images=list_files(folder, names, labels), ignored=tuple(ignored))


def _class_folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def _files(base: Path, folder: Path) -> list[str]:
    """Return the files below a folder as paths relative to `base`, with '/', in alphabetical order."""
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        relative = Path(parent).relative_to(base).as_posix()
        found += [f"{relative}/{name}" for name in files if not name.startswith(".")]
    return sorted(found)
