"""Decoded images of a dataset in memory-mapped files, decoded once a machine and shared through the page cache.

In: the listings of the splits. Out: one uint8 array [n, S, S, 3] a split, and what could not be decoded.

    CACHE/images/KEY/train.u8, val.u8, test.u8    raw pixels of the readable images, in the order of the listing
    CACHE/images/KEY/meta.json                    written last: counts, what was skipped, duplicates across splits
    CACHE/images/KEY.partial/                     a build under way, or one that was interrupted
    CACHE/images/KEY.lock                         held while building

Who uses a cache, and how old ones make room for new ones, is for `raybench.cache` and `raybench.eviction`.

KEY hashes names, sizes and times of change (or pixels) of all images, the image size and how images are decoded, so
that an image that was edited is decoded again. A build writes each image with a hash of its pixels: an interrupted one
goes on where it was, trusting only images whose hash fits. A finished one is moved into place, and is used only if its
files have the sizes that meta.json says. A build that meets an image it may not skip leaves nothing behind.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from raybench.cache import PARTIAL, Claim, cache_root, create, discard, entry_folder, use
from raybench.errors import DataError
from raybench.eviction import find_space, make_room
from raybench.training.decoding import DECODING_VERSION, decode
from raybench.training.listing import SplitListing

Progress = Callable[[int, int], None]
"""Called with the images done and all images, while a cache is built; never where one is opened."""

FORMAT = 1
"""Version of the files; part of every key."""
_CHANNELS = 3
_HASH_BYTES = 16
_CHUNK = 256
"""Images decoded at once: bounds what is held in memory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Skipped:
    """An image that could not be decoded."""

    position: int
    """In the listing of its split."""
    reason: str


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

    images: dict[str, npt.NDArray[np.uint8]]
    """By split: [n, S, S, 3], memory-mapped, copied on write; unreadable images are left out."""
    skipped: dict[str, tuple[Skipped, ...]]
    """By split, in the order of the listing."""
    duplicates: tuple[Duplicates, ...]
    claim: Claim
    """Keeps the cache from being removed for as long as this object is there."""


def cached_images(
    splits: Mapping[str, SplitListing],
    image_size: int,
    *,
    name: str = "",
    cache_dir: Path | None = None,
    limit_bytes: int | None = None,
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> CachedImages:
    """Return the decoded images of these splits, from the cache or decoded now.

    `name` is what the cache is listed as; `limit_bytes` is the most that the whole cache folder may hold.
    Raises `DataError` for the first image that cannot be decoded, unless `skip_bad`, and where the cache cannot be
    written or has no room.
    """
    key = cache_key(splits, image_size)
    folder = entry_folder("images", key, cache_dir)
    cached = _open(folder, splits, image_size)
    if cached is None:
        build = _Build(
            splits=splits,
            image_size=image_size,
            name=name,
            folder=folder,
            root=cache_root(cache_dir),
            limit_bytes=limit_bytes,
            skip_bad=skip_bad,
            progress=progress,
        )
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.with_name(f"{key}.lock")):
                cached = _open(folder, splits, image_size)
                if cached is None:
                    build.run()
                    cached = _open(folder, splits, image_size)
        except OSError as error:
            raise DataError(
                f"the image cache {folder.parent} cannot be written ({error}); "
                "free some space there, or set RAYBENCH_CACHE_DIR to another folder"
            ) from error
    if cached is None:
        raise DataError(f"the image cache {folder} is damaged right after it was written; remove it and check the disk")
    if not skip_bad:
        for split, skipped in cached.skipped.items():
            if skipped:
                raise bad_image(split, splits[split].names[skipped[0].position], skipped[0].reason)
    return cached


def images_bytes(splits: Mapping[str, SplitListing], image_size: int) -> int:
    """Return what the decoded images of these splits take on disk."""
    return sum(len(split.names) for split in splits.values()) * image_size * image_size * _CHANNELS


def bad_image(split: str, name: str, reason: str) -> DataError:
    """Return the error for one image that cannot be decoded."""
    return DataError(f"{name} ({split} split) cannot be read: {reason}; repair or remove it, or set on_bad_image: skip")


def cache_key(splits: Mapping[str, SplitListing], image_size: int) -> str:
    """Return the name of the cache of these images at this size."""
    digest = hashlib.sha256(f"{FORMAT} {DECODING_VERSION} {image_size}".encode())
    for name, split in splits.items():
        digest.update(f"\0{name} {len(split.names)} {split.content}\0".encode())
        digest.update("\0".join(split.names).encode("utf-8", "surrogateescape"))
        digest.update(split.sizes.tobytes() + split.modified.tobytes())
    return digest.hexdigest()[:32]


def _open(folder: Path, splits: Mapping[str, SplitListing], image_size: int) -> CachedImages | None:
    """Return a finished cache, or None where there is none or its files are not whole."""
    claim = use(folder)
    if claim is None:
        return None
    try:
        meta: dict[str, Any] = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        images, skipped = {}, {}
        for name, split in splits.items():
            skipped[name] = tuple(Skipped(**entry) for entry in meta["skipped"][name])
            shape = (len(split.names) - len(skipped[name]), image_size, image_size, _CHANNELS)
            images[name] = _map(folder / f"{name}.u8", shape)
        duplicates = tuple(
            Duplicates(splits=tuple(entry["splits"]), count=entry["count"], example=tuple(entry["example"]))
            for entry in meta["duplicates"]
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return CachedImages(images=images, skipped=skipped, duplicates=duplicates, claim=claim)


def _map(path: Path, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    if path.stat().st_size != int(np.prod(shape)):
        raise ValueError(f"{path} has not the size of {shape}")
    if shape[0] == 0:
        return np.empty(shape, dtype=np.uint8)
    # Copy on write, not read-only: torch warns of tensors over read-only arrays; the file never changes either way.
    return np.memmap(path, dtype=np.uint8, mode="c", shape=shape)


@dataclass(kw_only=True, slots=True)
class _Build:
    """Decodes every image of every split into KEY.partial, then moves it to KEY."""

    splits: Mapping[str, SplitListing]
    image_size: int
    name: str
    folder: Path
    root: Path
    limit_bytes: int | None
    skip_bad: bool
    progress: Progress | None
    done: int = 0
    hashes: dict[str, list[bytes]] = field(default_factory=dict)
    """By split: hash of each image's pixels; b"" for what is skipped."""

    @property
    def partial(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}{PARTIAL}")

    @property
    def image_bytes(self) -> int:
        return self.image_size * self.image_size * _CHANNELS

    def run(self) -> None:
        with create(self.partial):
            try:
                self._reserve()
                skipped = {name: self._decode_split(name, split) for name, split in self.splits.items()}
            except DataError:
                discard(self.partial)
                raise
            self._finish(skipped)

    def _reserve(self) -> None:
        """Give the files their length, and room on the disk where they grow into it."""
        for name, split in self.splits.items():
            with _opened(self.partial / f"{name}.u8") as pixels:
                pixels.truncate(len(split.names) * self.image_bytes)
        needed = images_bytes(self.splits, self.image_size)
        if not make_room(self.root, self.limit_bytes, needed, without=self.partial):
            space = find_space(self.root, self.limit_bytes, without=self.partial)
            raise DataError(f"{space.shortage('its decoded images', needed)}, or a smaller image_size")

    def _finish(self, skipped: Mapping[str, list[Skipped]]) -> None:
        for name, entries in skipped.items():
            _compact(self.partial / f"{name}.u8", {entry.position for entry in entries}, self.image_bytes)
        for path in self.partial.glob("*.hashes"):
            path.unlink()
        meta = {
            "format": FORMAT,
            "decoding": DECODING_VERSION,
            "dataset": self.name,
            "images": sum(len(split.names) - len(skipped[name]) for name, split in self.splits.items()),
            "image_size": self.image_size,
            "skipped": {
                name: [{"position": entry.position, "reason": entry.reason} for entry in entries]
                for name, entries in skipped.items()
            },
            "duplicates": list(self._duplicates()),
        }
        _write_durably(self.partial / "meta.json", json.dumps(meta).encode())
        discard(self.folder)  # where there is one, it was found damaged
        self.partial.replace(self.folder)

    def _decode_split(self, name: str, split: SplitListing) -> list[Skipped]:
        """Write one split's images and hashes; go on behind what an interrupted build wrote whole."""
        total = sum(len(each.names) for each in self.splits.values())
        hashes = self.hashes.setdefault(name, [])
        skipped: list[Skipped] = []
        with (
            _opened(self.partial / f"{name}.u8") as pixels,
            _opened(self.partial / f"{name}.hashes") as known,
            ThreadPoolExecutor(os.cpu_count() or 1) as pool,
        ):
            for start in range(0, len(split.names), _CHUNK):
                positions = range(start, min(start + _CHUNK, len(split.names)))
                for position, image in zip(positions, self._chunk(split, positions, pixels, known, pool), strict=True):
                    if isinstance(image, DataError):
                        if not self.skip_bad:
                            raise bad_image(name, split.names[position], str(image))
                        skipped.append(Skipped(position=position, reason=str(image)))
                        hashes.append(b"")
                    else:
                        hashes.append(self._write(position, image, pixels, known))
                    self.done += 1
                    if self.progress is not None:
                        self.progress(self.done, total)
            pixels.flush()
            os.fsync(pixels.fileno())
        return skipped

    def _chunk(
        self, split: SplitListing, positions: range, pixels: BinaryIO, known: BinaryIO, pool: ThreadPoolExecutor
    ) -> Iterator[bytes | DataError]:
        """Yield the pixels of each position: those written by an interrupted build, or decoded now."""
        written = {position: self._written(position, pixels, known) for position in positions}
        # Read here, decoded in the pool: a user's dataset need not stand being indexed by several threads.
        missing = [split.read(position) for position in positions if written[position] is None]
        decoded = pool.map(lambda source: _decoded(source, self.image_size), missing)
        for position in positions:
            image = written[position]
            yield next(decoded) if image is None else image

    def _written(self, position: int, pixels: BinaryIO, known: BinaryIO) -> bytes | None:
        known.seek(position * _HASH_BYTES)
        digest = known.read(_HASH_BYTES)
        if len(digest) < _HASH_BYTES or not any(digest):
            return None
        pixels.seek(position * self.image_bytes)
        image = pixels.read(self.image_bytes)
        return image if _hash(image) == digest else None

    def _write(self, position: int, image: bytes, pixels: BinaryIO, known: BinaryIO) -> bytes:
        digest = _hash(image)
        pixels.seek(position * self.image_bytes)
        pixels.write(image)
        known.seek(position * _HASH_BYTES)
        known.write(digest)
        return digest

    def _duplicates(self) -> Iterator[dict[str, Any]]:
        names = list(self.hashes)
        for index, first in enumerate(names):
            positions = {digest: position for position, digest in enumerate(self.hashes[first]) if digest}
            for second in names[index + 1 :]:
                shared = [position for position, digest in enumerate(self.hashes[second]) if digest in positions]
                if shared:
                    twin = positions[self.hashes[second][shared[0]]]
                    example = [self.splits[first].names[twin], self.splits[second].names[shared[0]]]
                    yield {"splits": [first, second], "count": len(shared), "example": example}


def _decoded(source: Any, image_size: int) -> bytes | DataError:  # noqa: ANN401 - whatever `decode` takes
    try:
        return decode(source, image_size).tobytes()
    except DataError as error:
        return error


def _hash(image: bytes) -> bytes:
    return hashlib.blake2b(image, digest_size=_HASH_BYTES).digest()


def _opened(path: Path) -> BinaryIO:
    path.touch()
    return path.open("r+b")


def _compact(path: Path, left_out: set[int], image_bytes: int) -> None:
    """Move the images behind skipped ones forward, in place."""
    if not left_out:
        return
    kept = 0
    with path.open("r+b") as file:
        for position in range(path.stat().st_size // image_bytes):
            if position in left_out:
                continue
            file.seek(position * image_bytes)
            image = file.read(image_bytes)
            file.seek(kept * image_bytes)
            file.write(image)
            kept += 1
        file.truncate(kept * image_bytes)


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
