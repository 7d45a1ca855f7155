"""Decoded images of a dataset in memory-mapped files, decoded once a machine and shared through the page cache.

In: the listings of the splits. Out: one uint8 array [n, S, S, 3] a split, the train split once more at the side B where
random crops are to be read from it, and what could not be decoded.

    CACHE/images/KEY/train.u8, val.u8, test.u8    raw pixels of the readable images, in the order of the listing
    CACHE/images/KEY/meta.json                    written last: counts, what was skipped, duplicates across splits
    CACHE/images/KEY.partial/                     a build under way, or one that was interrupted
    CACHE/images/KEY.lock                         held while building

Who uses a cache, and how old ones make room for new ones, is for `raybench.cache` and `raybench.eviction`; how it is
made is for `raybench.training.image_build`.

KEY hashes names, sizes and times of change (or pixels) of all images, their side and how they are decoded and cut, so
that an image that was edited is decoded again. Each side is an entry of its own. A finished one is used only if its
files have the sizes that meta.json says.
"""

import hashlib
import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from raybench.cache import Claim, cache_root, entry_folder, use
from raybench.errors import DataError
from raybench.training.decoding import DECODING_VERSION
from raybench.training.image_build import CHANNELS, FORMAT, Progress, Rendition, Skipped, bad_image, build
from raybench.training.listing import SplitListing

_BASE_SPLIT = "train"
"""The split that is kept at the base resolution too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Duplicates:
    """Images that stand in two splits, by their pixels at this image size."""

    splits: tuple[str, str]
    count: int
    """Images of the second split that stand in the first too."""
    example: tuple[str, str]
    """Name of one of them in the first split, and in the second."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CachedImages:
    """What a cache holds."""

    key: str
    """Its name: another one where an image, the image size or the way of decoding is another."""
    images: dict[str, npt.NDArray[np.uint8]]
    """By split: [n, S, S, 3], memory-mapped, copied on write; unreadable images are left out."""
    base: npt.NDArray[np.uint8] | None
    """The train split at the base resolution, [n, B, B, 3], likewise; None where it was not asked for."""
    skipped: dict[str, tuple[Skipped, ...]]
    """By split, in the order of the listing."""
    duplicates: tuple[Duplicates, ...]
    claims: tuple[Claim, ...]
    """Keep the cache from being removed for as long as this object is there."""


def cached_images(
    splits: Mapping[str, SplitListing],
    image_size: int,
    *,
    base_size: int | None = None,
    name: str = "",
    cache_dir: Path | None = None,
    limit_bytes: int | None = None,
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> CachedImages:
    """Return the decoded images of these splits, from the cache or decoded now.

    Args:
        splits: what to decode.
        image_size: side S of all splits, in pixels.
        base_size: side B at which the train split is wanted too.
        name: what the cache is listed as.
        cache_dir: the cache folder; None: the usual one.
        limit_bytes: most that the whole cache folder may hold.
        skip_bad: leave images out that cannot be decoded.
        progress: told how far decoding is.

    Raises:
        DataError: for the first image that cannot be decoded, unless `skip_bad`, and where the cache cannot be written
            or has no room.

    """
    root = cache_root(cache_dir)
    renditions = _renditions(splits, image_size, base_size, cache_dir)
    opened = [_open(rendition) for rendition in renditions]
    missing = [rendition for rendition, entry in zip(renditions, opened, strict=True) if entry is None]
    if missing:
        try:
            (root / "images").mkdir(parents=True, exist_ok=True)
            with ExitStack() as locks:
                for rendition in sorted(missing, key=lambda each: each.folder):  # in one order: nobody waits in a ring
                    locks.enter_context(FileLock(rendition.folder.with_name(f"{rendition.folder.name}.lock")))
                missing = [rendition for rendition in missing if _open(rendition) is None]
                if missing:
                    build(missing, name=name, root=root, limit_bytes=limit_bytes, skip_bad=skip_bad, progress=progress)
                opened = [_open(rendition) for rendition in renditions]
        except OSError as error:
            raise DataError(
                f"the image cache {root / 'images'} cannot be written ({error}); "
                "free some space there, or set RAYBENCH_CACHE_DIR to another folder"
            ) from error
    whole = [entry for entry in opened if entry is not None]
    for rendition, entry in zip(renditions, opened, strict=True):
        if entry is None:
            damaged = f"the image cache {rendition.folder} is damaged right after it was written"
            raise DataError(f"{damaged}; remove it and check the disk")
    if not skip_bad:
        _refuse_skipped(splits, whole[0])
    return _with_base(*whole)


def images_bytes(splits: Mapping[str, SplitListing], image_size: int, base_size: int | None = None) -> int:
    """Return what the decoded images of these splits take on disk."""
    return sum(rendition.all_bytes for rendition in _renditions(splits, image_size, base_size, None))


def cache_key(splits: Mapping[str, SplitListing], side: int, prepared_for: int) -> str:
    """Return the name of the cache of these images at this side, cut out of what was decoded for another, or for it."""
    decoding = DECODING_VERSION if side == prepared_for else f"{DECODING_VERSION} for {prepared_for}"
    digest = hashlib.sha256(f"{FORMAT} {decoding} {side}".encode())
    for name, split in splits.items():
        digest.update(f"\0{name} {len(split.names)} {split.content}\0".encode())
        digest.update("\0".join(split.names).encode("utf-8", "surrogateescape"))
        digest.update(split.sizes.tobytes() + split.modified.tobytes())
    return digest.hexdigest()[:32]


def _renditions(
    splits: Mapping[str, SplitListing], image_size: int, base_size: int | None, cache_dir: Path | None
) -> list[Rendition]:
    """Return the entries that hold these images: all splits first, then the train split at its base resolution."""
    wanted: list[tuple[Mapping[str, SplitListing], int]] = [(splits, image_size)]
    if base_size is not None:
        wanted.append(({_BASE_SPLIT: splits[_BASE_SPLIT]}, base_size))
    return [
        Rendition(
            folder=entry_folder("images", cache_key(part, side, image_size), cache_dir),
            splits=part,
            side=side,
            prepared_for=image_size,
        )
        for part, side in wanted
    ]


def _open(rendition: Rendition) -> CachedImages | None:
    """Return a finished entry, or None where there is none or its files are not whole."""
    folder, side = rendition.folder, rendition.side
    claim = use(folder)
    if claim is None:
        return None
    try:
        meta: dict[str, Any] = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        images, skipped = {}, {}
        for name, split in rendition.splits.items():
            skipped[name] = tuple(Skipped(**entry) for entry in meta["skipped"][name])
            images[name] = _map(folder / f"{name}.u8", (len(split.names) - len(skipped[name]), side, side, CHANNELS))
        duplicates = tuple(
            Duplicates(splits=tuple(entry["splits"]), count=entry["count"], example=tuple(entry["example"]))
            for entry in meta["duplicates"]
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return CachedImages(
        key=folder.name, images=images, base=None, skipped=skipped, duplicates=duplicates, claims=(claim,)
    )


def _refuse_skipped(splits: Mapping[str, SplitListing], cached: CachedImages) -> None:
    for split, skipped in cached.skipped.items():
        if skipped:
            raise bad_image(split, splits[split].names[skipped[0].position], skipped[0].reason)


def _with_base(cached: CachedImages, base: CachedImages | None = None) -> CachedImages:
    if base is None:
        return cached
    left_out = [{each.position for each in entry.skipped[_BASE_SPLIT]} for entry in (cached, base)]
    if left_out[0] != left_out[1]:
        raise DataError(
            f"training images that could be read at one time and not at another: {len(left_out[0] ^ left_out[1])}; "
            "make sure that they can be read, then remove what was decoded: raybench cache clear"
        )
    return replace(cached, base=base.images[_BASE_SPLIT], claims=(*cached.claims, *base.claims))


def _map(path: Path, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    if path.stat().st_size != int(np.prod(shape)):
        raise ValueError(f"{path} has not the size of {shape}")
    if shape[0] == 0:
        return np.empty(shape, dtype=np.uint8)
    # Copy on write, not read-only: torch warns of tensors over read-only arrays; the file never changes either way.
    return np.memmap(path, dtype=np.uint8, mode="c", shape=shape)
