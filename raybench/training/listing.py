"""What every source gives: the names, labels and sizes of its images, and a way to read each, without decoding any."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from raybench.training.decoding import Source


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitListing:
    """The images of one split, in the source's order, not read yet."""

    names: tuple[str, ...]
    """Relative path, or `train/17` for what has no file."""
    labels: npt.NDArray[np.int64]
    """[n], indices into the classes."""
    sizes: npt.NDArray[np.int64]
    """[n], bytes of each file or raw array; -1 for a file that is not there."""
    modified: npt.NDArray[np.int64]
    """[n], nanoseconds since the epoch at which each file was changed; 0 for what has no file."""
    content: str
    """Hash of the pixels of images that are no files; "" for files, which size and time of change stand for."""
    read: Callable[[int], Source]
    """Gives the image at a position, as something that `decode` takes."""

    def take(self, positions: npt.NDArray[np.int64]) -> "SplitListing":
        """Return the images at these positions, in this order."""
        chosen = [int(position) for position in positions]
        return replace(
            self,
            names=tuple(self.names[position] for position in chosen),
            labels=self.labels[positions],
            sizes=self.sizes[positions],
            modified=self.modified[positions],
            read=lambda index: self.read(chosen[index]),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """A dataset as its source gives it."""

    classes: tuple[str, ...]
    train: SplitListing
    val: SplitListing | None
    """None where one has to be set aside from train."""
    test: SplitListing | None
    warnings: tuple[str, ...] = ()

    @property
    def splits(self) -> dict[str, SplitListing]:
        """The splits that there are, by name."""
        named = {"train": self.train, "val": self.val, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}


def list_files(folder: Path, names: Sequence[str], labels: Sequence[int]) -> SplitListing:
    """Return the files at paths relative to a folder; one that cannot be looked at has the size -1."""
    sizes = np.full(len(names), -1, dtype=np.int64)
    modified = np.zeros(len(names), dtype=np.int64)
    for position, name in enumerate(names):
        try:
            status = (folder / name).stat()
        except OSError:
            continue
        sizes[position], modified[position] = status.st_size, status.st_mtime_ns
    return SplitListing(
        names=tuple(names),
        labels=np.asarray(labels, dtype=np.int64),
        sizes=sizes,
        modified=modified,
        content="",
        read=lambda index: folder / names[index],
    )


def list_array(images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], names: Sequence[str]) -> SplitListing:
    """Return images that are in memory: [n, ...], known by a hash of their bytes."""
    count = len(images)
    return SplitListing(
        names=tuple(names),
        labels=np.asarray(labels, dtype=np.int64),
        sizes=np.full(count, images[0].nbytes if count else 0, dtype=np.int64),
        modified=np.zeros(count, dtype=np.int64),
        content=hashlib.sha256(np.ascontiguousarray(images).data).hexdigest(),
        read=lambda index: images[index],
    )
