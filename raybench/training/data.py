"""A dataset, ready to be trained on: uint8 images in memory-mapped arrays, labels, names, and what is worth a warning.

In: a `DatasetSpec`. Out: `ImageData` with a train, a val and maybe a test split.

- Where the source has no val split, a stratified part of train is set aside: `val_size` images, else 10 % of train and
  2000 at most. It depends on the listing alone, so that it is the same for every seed.
- Where the source has one, `val_size` changes nothing, which a warning says.
- Where it has no test split there is none; a warning says so.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from raybench.cache import Claim
from raybench.errors import DataError
from raybench.records import DatasetFacts, DatasetSpec
from raybench.seeding import derive
from raybench.training.decoding import DECODING_VERSION
from raybench.training.draws import base_size
from raybench.training.image_cache import CachedImages, cached_images, images_bytes
from raybench.training.listing import Listing, SplitListing
from raybench.training.sources import list_images
from raybench.training.subsets import stratified_order

FEW_IMAGES = 10
"""A class with fewer training images is warned about."""
MAX_DEFAULT_VAL = 2000
"""Most images that are set aside as val split unless `val_size` says otherwise."""
_VAL_SHARE = 10
"""One image in this many is set aside by default."""
_SPLIT_RULE = "raybench-dataset-1"
"""Version of the way in which splits are made and hashed."""
_MIN_CLASSES = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageSplit:
    """One split, decoded."""

    images: npt.NDArray[np.uint8]
    """[n, S, S, 3], RGB, memory-mapped: index it, and only what is indexed is read. Not to be pickled."""
    labels: npt.NDArray[np.int64]
    """[n], indices into the classes."""
    names: tuple[str, ...]
    """Relative path of each image, or `train/17` for what has no file."""
    base: npt.NDArray[np.uint8] | None = None
    """[n, B, B, 3]: the same images larger, which random crops are read from; None where they were not asked for."""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageData:
    """A dataset's splits and what was noticed while loading them."""

    classes: tuple[str, ...]
    train: ImageSplit
    val: ImageSplit
    test: ImageSplit | None
    """None where the source has no test split."""
    fingerprint: str
    """Hash of names, sizes and labels in each split, image size and split rule; skipped images do not count."""
    content: str
    """Key of the decoded images: changes where an image does."""
    warnings: tuple[str, ...] = field(default=())
    skipped: tuple[str, ...] = field(default=())
    """Names of unreadable images that were left out."""
    claims: tuple[Claim, ...] = ()
    """Keep the decoded images from being removed for as long as this object is there."""

    def facts(self, name: str) -> DatasetFacts:
        """Return what preflight needs to know, under the dataset's name."""
        return DatasetFacts(
            name=name,
            fingerprint=self.fingerprint,
            classes=self.classes,
            train_images=len(self.train),
            val_images=len(self.val),
            test_images=None if self.test is None else len(self.test),
            train_class_counts=_class_counts(self.train.labels, self.classes),
            skipped_images=self.skipped,
            warnings=self.warnings,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedDataset:
    """A dataset that was looked at and found usable, before any image is decoded."""

    spec: DatasetSpec
    classes: tuple[str, ...]
    splits: dict[str, SplitListing]
    """`train`, `val` and, where there is one, `test`."""
    warnings: tuple[str, ...]

    def facts(self) -> DatasetFacts:
        """Return what preflight knows before decoding: unreadable images still count."""
        train, test = self.splits["train"], self.splits.get("test")
        return DatasetFacts(
            name=self.spec.name,
            fingerprint=_fingerprint(self.splits, self.spec.image_size),
            classes=self.classes,
            train_images=len(train.names),
            val_images=len(self.splits["val"].names),
            test_images=None if test is None else len(test.names),
            train_class_counts=_class_counts(train.labels, self.classes),
            warnings=self.warnings,
        )

    def decoded_bytes(self, *, with_base: bool) -> int:
        """Return what its decoded images take in the cache, the larger ones for crops included where wanted."""
        side = self.spec.image_size
        return images_bytes(self.splits, side, base_size(side) if with_base else None)


def list_dataset(spec: DatasetSpec) -> ListedDataset:
    """Return what a dataset's source holds, split and checked, without decoding any image.

    Raises `DataError`, which begins with the dataset's name, for everything that is wrong but unreadable images.
    """
    with _naming(spec):
        listing = list_images(spec)
        _check(listing)
        warnings = list(listing.warnings)
        train, val = _with_val(listing, spec.val_size, warnings)
        splits = {"train": train, "val": val} | ({} if listing.test is None else {"test": listing.test})
        return ListedDataset(spec=spec, classes=listing.classes, splits=splits, warnings=tuple(warnings))


def load_images(
    spec: DatasetSpec,
    *,
    with_base: bool = False,
    cache_dir: Path | None = None,
    limit_bytes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ImageData:
    """Return a dataset's images, decoded once into the image cache (see `raybench.training.image_cache`).

    `with_base`: the training images are wanted larger too, for policies that read crops from them.
    `limit_bytes` is the most that the whole cache folder may hold; None: what the disk holds.
    `progress` is called with the images done and all images while they are decoded, and never where the cache has them.
    Raises `DataError`, which begins with the dataset's name, for everything that is wrong with the data.
    """
    listed = list_dataset(spec)
    return decode_images(listed, with_base=with_base, cache_dir=cache_dir, limit_bytes=limit_bytes, progress=progress)


def decode_images(
    listed: ListedDataset,
    *,
    with_base: bool = False,
    cache_dir: Path | None = None,
    limit_bytes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ImageData:
    """Return the images of a listed dataset; see `load_images` for the arguments and errors."""
    spec = listed.spec
    with _naming(spec):
        cached = cached_images(
            listed.splits,
            spec.image_size,
            base_size=base_size(spec.image_size) if with_base else None,
            name=spec.name,
            cache_dir=cache_dir,
            limit_bytes=limit_bytes,
            skip_bad=spec.on_bad_image == "skip",
            progress=progress,
        )
        return _image_data(listed, cached)


def _image_data(listed: ListedDataset, cached: CachedImages) -> ImageData:
    spec, splits, classes = listed.spec, listed.splits, listed.classes
    readable = {name: _without_skipped(name, split, cached) for name, split in splits.items()}
    _check_classes(classes, readable["train"].labels, "readable images")
    decoded = {
        name: ImageSplit(
            images=cached.images[name],
            labels=split.labels,
            names=split.names,
            base=cached.base if name == "train" else None,
        )
        for name, split in readable.items()
    }
    skipped = tuple(splits[name].names[entry.position] for name, entries in cached.skipped.items() for entry in entries)
    return ImageData(
        classes=classes,
        train=decoded["train"],
        val=decoded["val"],
        test=decoded.get("test"),
        fingerprint=_fingerprint(readable, spec.image_size),
        content=cached.key,
        warnings=(*listed.warnings, *_warnings(classes, decoded, cached, skipped)),
        skipped=skipped,
        claims=cached.claims,
    )


@contextmanager
def _naming(spec: DatasetSpec) -> Iterator[None]:
    """Put the dataset's name before the message of an error raised inside."""
    try:
        yield
    except DataError as error:
        raise DataError(f"dataset {spec.name!r}: {error}") from error


def _check(listing: Listing) -> None:
    """Raise `DataError` for a dataset that cannot be trained on."""
    if len(listing.classes) < _MIN_CLASSES:
        named = f"only the class {listing.classes[0]!r}" if listing.classes else "no class"
        raise DataError(f"the train split has {named}; a classifier needs images of two classes or more")
    for name, split in listing.splits.items():
        if not split.names:
            raise DataError(f"the {name} split is empty; give it images, or leave it out if it is not train")
        wrong = np.flatnonzero((split.labels < 0) | (split.labels >= len(listing.classes)))
        if len(wrong):
            label, image = split.labels[wrong[0]], split.names[wrong[0]]
            last = len(listing.classes) - 1
            raise DataError(f"label {label} of {image} ({name} split) is out of range; labels go from 0 to {last}")
    _check_classes(listing.classes, listing.train.labels, "images")


def _class_counts(labels: npt.NDArray[np.int64], classes: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(int(count) for count in np.bincount(labels, minlength=len(classes)))


def _check_classes(classes: tuple[str, ...], labels: npt.NDArray[np.int64], what: str) -> None:
    empty = np.flatnonzero(np.bincount(labels, minlength=len(classes)) == 0)
    if len(empty):
        more = f" and {len(empty) - 1} more" if len(empty) > 1 else ""
        raise DataError(
            f"class {classes[empty[0]]!r}{more} has no {what} in the train split; add some or remove the class"
        )


def _with_val(listing: Listing, val_size: int | None, warnings: list[str]) -> tuple[SplitListing, SplitListing]:
    """Return train and val; where the source has no val split, cut one off train's stratified order."""
    images = len(listing.train.names)
    if listing.val is not None:
        if val_size is not None:
            given = len(listing.val.names)
            warnings.append(f"val_size {val_size} is ignored: the source has a val split of {given} images")
        return listing.train, listing.val
    size = min(images // _VAL_SHARE, MAX_DEFAULT_VAL) if val_size is None else val_size
    largest = images - len(listing.classes)
    if largest < 1:
        raise DataError(
            f"{images} training images of {len(listing.classes)} classes are too few to set a val split aside; "
            "add images, or a val split of its own"
        )
    size = max(size, 1) if val_size is None else size
    if not 1 <= size <= largest:
        raise DataError(
            f"val_size {size} cannot be set aside from {images} training images of {len(listing.classes)} classes; "
            f"give a number from 1 to {largest}"
        )
    # The end of the order, since its beginning holds an image of every class, which train needs.
    order = stratified_order(listing.train.labels, derive(0, "val split"))
    warnings.append(f"no val split: {size} of the {images} training images are set aside; val_size changes that")
    return listing.train.take(np.sort(order[:-size])), listing.train.take(np.sort(order[-size:]))


def _without_skipped(name: str, split: SplitListing, cached: CachedImages) -> SplitListing:
    skipped = [entry.position for entry in cached.skipped[name]]
    if not skipped:
        return split
    kept = np.delete(np.arange(len(split.names)), skipped)
    if not len(kept):
        reason = cached.skipped[name][0].reason
        raise DataError(f"none of the {len(split.names)} images of the {name} split can be read: {reason}")
    return split.take(kept)


def _warnings(
    classes: tuple[str, ...], splits: dict[str, ImageSplit], cached: CachedImages, skipped: tuple[str, ...]
) -> list[str]:
    found = []
    if "test" not in splits:
        found.append("no test split: models are compared on the val split alone")
    if skipped:
        found.append(f"unreadable images left out: {len(skipped)}, as {skipped[0]}")
    found += [
        f"images of {each.splits[1]} that are also in {each.splits[0]}: {each.count}, as {each.example[1]} "
        f"= {each.example[0]}"
        for each in cached.duplicates
    ]
    counts = np.bincount(splits["train"].labels, minlength=len(classes))
    few = [f"{name} ({count})" for name, count in zip(classes, counts, strict=True) if count < FEW_IMAGES]
    if few:
        found.append(f"classes under {FEW_IMAGES} training images: {', '.join(few)}")
    for name, split in splits.items():
        missing = len(classes) - len(np.unique(split.labels))
        if missing:
            found.append(f"the {name} split has no images of {missing} of the {len(classes)} classes")
    return found


def _fingerprint(splits: dict[str, SplitListing], image_size: int) -> str:
    """Return the dataset's identity: the same wherever the files lie and whenever they were written."""
    digest = hashlib.sha256(f"{_SPLIT_RULE} {DECODING_VERSION} {image_size}".encode())
    for name, split in splits.items():
        digest.update(f"\0{name} {len(split.names)} {split.content}\0".encode())
        digest.update("\0".join(split.names).encode("utf-8", "surrogateescape"))
        digest.update(split.sizes.tobytes() + split.labels.tobytes())
    return digest.hexdigest()[:32]
