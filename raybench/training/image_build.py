"""Decode images into entries of the image cache: each image once, for all the sizes that are missing.

In: the entries to make (`Rendition`). Out: their folders, whole. A build writes each image with a hash of its pixels
into KEY.partial: an interrupted one goes on where it was, trusting only images whose hash fits. A finished one is moved
into place. A build that meets an image it may not skip leaves nothing behind.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from raybench.cache import PARTIAL, create, discard
from raybench.errors import DataError
from raybench.eviction import find_space, make_room
from raybench.training.decoding import DECODING_VERSION, Source, decode_sides
from raybench.training.listing import SplitListing

Progress = Callable[[int, int], None]
"""Called with the images done and all images, while a cache is built; never where one is opened."""

FORMAT = 1
"""Version of the files; part of every key."""
CHANNELS = 3
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
class Rendition:
    """Splits in one size: an entry of the cache."""

    folder: Path
    splits: Mapping[str, SplitListing]
    side: int
    """Of the images, in pixels."""
    prepared_for: int
    """Side for which a JPEG is shrunk while it is decoded."""

    @property
    def partial(self) -> Path:
        """The folder while it is being made."""
        return self.folder.with_name(f"{self.folder.name}{PARTIAL}")

    @property
    def image_bytes(self) -> int:
        """What one image takes."""
        return self.side * self.side * CHANNELS

    @property
    def all_bytes(self) -> int:
        """What all images take."""
        return self.image_bytes * sum(len(split.names) for split in self.splits.values())


def bad_image(split: str, name: str, reason: str) -> DataError:
    """Return the error for one image that cannot be decoded."""
    return DataError(f"{name} ({split} split) cannot be read: {reason}; repair or remove it, or set on_bad_image: skip")


def build(
    renditions: Sequence[Rendition],
    *,
    name: str,
    root: Path,
    limit_bytes: int | None,
    skip_bad: bool,
    progress: Progress | None,
) -> None:
    """Make these entries, of which none is there and the first has all splits that the others have.

    Args:
        renditions: the entries.
        name: what they are listed as: the dataset's name.
        root: the cache folder.
        limit_bytes: most that it may hold.
        skip_bad: leave images out that cannot be decoded.
        progress: told each image of each split.

    Raises:
        DataError: an image cannot be decoded, or there is no room.
        OSError: the cache cannot be written.

    """
    unfinished = [_Unfinished(rendition=rendition) for rendition in renditions]
    with ExitStack() as claims:
        for rendition in renditions:
            claims.enter_context(create(rendition.partial))
        try:
            _reserve(renditions, root, limit_bytes)
            total = sum(len(split.names) for split in renditions[0].splits.values())
            report = _Count(total=total, progress=progress)
            for split_name, split in renditions[0].splits.items():
                targets = [each for each in unfinished if split_name in each.rendition.splits]
                _decode_split(split_name, split, targets, skip_bad=skip_bad, report=report)
        except DataError:
            for rendition in renditions:
                discard(rendition.partial)
            raise
        for each in unfinished:
            each.finish(name)


@dataclass(kw_only=True, slots=True)
class _Count:
    """How far a build is."""

    total: int
    progress: Progress | None
    done: int = 0

    def __call__(self) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Unfinished:
    """An entry that is being made."""

    rendition: Rendition
    hashes: dict[str, list[bytes]] = field(default_factory=dict)
    """By split: hash of each image's pixels; b"" for what is skipped."""
    skipped: dict[str, list[Skipped]] = field(default_factory=dict)

    def finish(self, name: str) -> None:
        """Close the gaps, describe what is there, and move it into place."""
        rendition, folder = self.rendition, self.rendition.partial
        for split, entries in self.skipped.items():
            _compact(folder / f"{split}.u8", {entry.position for entry in entries}, rendition.image_bytes)
        for path in folder.glob("*.hashes"):
            path.unlink()
        meta = {
            "format": FORMAT,
            "decoding": DECODING_VERSION,
            "dataset": name,
            "images": sum(len(split.names) - len(self.skipped[key]) for key, split in rendition.splits.items()),
            "image_size": rendition.side,
            "skipped": {
                split: [{"position": entry.position, "reason": entry.reason} for entry in entries]
                for split, entries in self.skipped.items()
            },
            "duplicates": list(self._duplicates()),
        }
        _write_durably(folder / "meta.json", json.dumps(meta).encode())
        discard(rendition.folder)  # where there is one, it was found damaged
        folder.replace(rendition.folder)

    def _duplicates(self) -> Iterator[dict[str, Any]]:
        names = list(self.hashes)
        for index, first in enumerate(names):
            positions = {digest: position for position, digest in enumerate(self.hashes[first]) if digest}
            for second in names[index + 1 :]:
                shared = [position for position, digest in enumerate(self.hashes[second]) if digest in positions]
                if shared:
                    twin = positions[self.hashes[second][shared[0]]]
                    splits = self.rendition.splits
                    example = [splits[first].names[twin], splits[second].names[shared[0]]]
                    yield {"splits": [first, second], "count": len(shared), "example": example}


@dataclass(frozen=True, kw_only=True, slots=True)
class _SplitFile:
    """The pixels of one split in one size, each image with its hash."""

    pixels: BinaryIO
    known: BinaryIO
    side: int
    image_bytes: int

    def written(self, position: int) -> bytes | None:
        """Return the hash of an image that an interrupted build wrote whole; None where it did not."""
        self.known.seek(position * _HASH_BYTES)
        digest = self.known.read(_HASH_BYTES)
        if len(digest) < _HASH_BYTES or not any(digest):
            return None
        self.pixels.seek(position * self.image_bytes)
        return digest if _hash(self.pixels.read(self.image_bytes)) == digest else None

    def write(self, position: int, image: bytes) -> bytes:
        """Write an image, then its hash, which is returned."""
        digest = _hash(image)
        self.pixels.seek(position * self.image_bytes)
        self.pixels.write(image)
        self.known.seek(position * _HASH_BYTES)
        self.known.write(digest)
        return digest

    def keep(self) -> None:
        """Make sure that the pixels are on disk."""
        self.pixels.flush()
        os.fsync(self.pixels.fileno())


def _reserve(renditions: Sequence[Rendition], root: Path, limit_bytes: int | None) -> None:
    """Give the files their length, and room on the disk where they grow into it."""
    for rendition in renditions:
        for name, split in rendition.splits.items():
            with _opened(rendition.partial / f"{name}.u8") as pixels:
                pixels.truncate(len(split.names) * rendition.image_bytes)
    for rendition in renditions:
        if not make_room(root, limit_bytes, rendition.all_bytes, without=rendition.partial):
            space = find_space(root, limit_bytes, without=rendition.partial)
            shortage = space.shortage("its decoded images", rendition.all_bytes)
            raise DataError(f"{shortage}, or a smaller image_size")


def _decode_split(
    name: str, split: SplitListing, targets: Sequence[_Unfinished], *, skip_bad: bool, report: _Count
) -> None:
    """Write one split's images and hashes in each size; go on behind what an interrupted build wrote whole."""
    for target in targets:
        target.hashes[name], target.skipped[name] = [], []
    prepared_for = targets[0].rendition.prepared_for
    with ExitStack() as opened, ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        files = [_open_split(target.rendition, name, opened) for target in targets]
        for start in range(0, len(split.names), _CHUNK):
            positions = range(start, min(start + _CHUNK, len(split.names)))
            known = [[file.written(position) for file in files] for position in positions]
            # Read here, decoded in the pool: a user's dataset need not stand being indexed by several threads.
            jobs = [
                (split.read(position), [file.side for file, digest in zip(files, digests, strict=True) if not digest])
                for position, digests in zip(positions, known, strict=True)
                if not all(digests)
            ]
            decoded = pool.map(partial(_decoded, prepared_for=prepared_for), jobs)
            for position, digests in zip(positions, known, strict=True):
                images = iter(()) if all(digests) else next(decoded)
                if isinstance(images, DataError) and not skip_bad:
                    raise bad_image(name, split.names[position], str(images))
                for target, file, digest in zip(targets, files, digests, strict=True):
                    if isinstance(images, DataError):
                        target.skipped[name].append(Skipped(position=position, reason=str(images)))
                        target.hashes[name].append(b"")
                    else:
                        target.hashes[name].append(digest or file.write(position, next(images)))
                report()
        for file in files:
            file.keep()


def _open_split(rendition: Rendition, name: str, opened: ExitStack) -> _SplitFile:
    return _SplitFile(
        pixels=opened.enter_context(_opened(rendition.partial / f"{name}.u8")),
        known=opened.enter_context(_opened(rendition.partial / f"{name}.hashes")),
        side=rendition.side,
        image_bytes=rendition.image_bytes,
    )


def _decoded(job: tuple[Source, list[int]], *, prepared_for: int) -> Iterator[bytes] | DataError:
    source, sides = job
    try:
        images = decode_sides(source, sides, prepared_for=prepared_for)
    except DataError as error:
        return error
    return iter([image.tobytes() for image in images])


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
