"""uint8 images on the way to a model: taken from where they lie, and turned into normalised floats.

In: a split's uint8 array, memory-mapped. Out: batches of it on the device, and what the model takes.

- On the CPU a batch is copied out of the mapped file, nothing else.
- On a GPU the images stay resident where they take no more than `RESIDENT_SHARE` of its free memory, and later trials
  of the process find them there; else each batch goes there from pinned memory, without waiting for it.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from functools import lru_cache
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from raybench.training.network import normalised

RESIDENT_SHARE = 0.25
"""Most of a GPU's free memory, or of this process's part, that images may take; models and steps need the rest."""

_CHUNK = 256
"""Images sent at once when a split becomes resident."""
_LEVELS = 256

Pixels = npt.NDArray[np.uint8]
Positions = npt.NDArray[np.int64]
Colour = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Residents:
    """Images that stay on their device, by file and positions; those used longest ago make room for others."""

    kept: OrderedDict[tuple[str, str, bytes | None], Tensor] = field(default_factory=OrderedDict)

    def find(self, images: Pixels, positions: Positions | None, device: torch.device, most_bytes: int) -> Tensor | None:
        """Return images (all, or those at some positions) on the device, sent there now where they were not there.

        None where they take more than `most_bytes`, which bounds all that is kept on any device, or lie in no file.
        """
        if not isinstance(images, np.memmap):
            return None
        chosen = None if positions is None else positions.tobytes()
        key = (str(images.filename), str(device), chosen)
        if key in self.kept:
            self.kept.move_to_end(key)
            return self.kept[key]
        needed = (len(images) if positions is None else len(positions)) * images[0].nbytes
        if needed > most_bytes:
            return None
        while self.kept and needed + sum(tensor.nbytes for tensor in self.kept.values()) > most_bytes:
            self.kept.popitem(last=False)
        self.kept[key] = _sent(images, positions, device)
        return self.kept[key]


_RESIDENTS = Residents()
"""Of this process: trials follow one another in it."""


def resident_bytes() -> int:
    """Return what images take that stay on devices of this process."""
    return sum(tensor.nbytes for tensor in _RESIDENTS.kept.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelSource:
    """Some images of a split, from which batches are taken by their places among them."""

    images: Pixels
    """The whole split, [N, S, S, 3]."""
    positions: Positions | None
    """Which images of the split, [n]; None: all, in order."""
    device: torch.device
    resident: Tensor | None = None
    """The chosen images on the device, [n, S, S, 3]; None where they are sent batch by batch."""

    def __len__(self) -> int:
        return len(self.images) if self.positions is None else len(self.positions)

    def take(self, places: Positions) -> Tensor:
        """Return the images at places 0..n-1, uint8 [b, S, S, 3], on the device."""
        index = torch.from_numpy(places)
        if self.resident is not None:
            return self.resident.index_select(0, index.to(self.device))
        if self.positions is not None:
            index = torch.from_numpy(self.positions[places])
        return self._sent(index)

    def between(self, start: int, stop: int) -> Tensor:
        """Return the images from place `start` to before `stop`, as `take`; a view where they lie in a row."""
        if self.resident is not None:
            return self.resident[start:stop]
        if self.positions is not None:
            return self._sent(torch.from_numpy(self.positions[start:stop]))
        return to_device(torch.from_numpy(self.images[start:stop]), self.device)

    def _sent(self, index: Tensor) -> Tensor:
        split = torch.from_numpy(self.images)
        if self.device.type != "cuda":
            return split.index_select(0, index).to(self.device)
        pinned = torch.empty((len(index), *split.shape[1:]), dtype=torch.uint8, pin_memory=True)
        torch.index_select(split, 0, index, out=pinned)
        return pinned.to(self.device, non_blocking=True)


def pixel_source(images: Pixels, device: torch.device, positions: Positions | None = None) -> PixelSource:
    """Return where batches of a split's images (all, or those at some positions) come from on this device."""
    resident = None
    if device.type == "cuda":
        free_bytes, whole = torch.cuda.mem_get_info(device)
        own = torch.cuda.get_per_process_memory_fraction(torch.cuda.current_device()) * whole
        resident = _RESIDENTS.find(images, positions, device, int(RESIDENT_SHARE * min(free_bytes, own)))
    return PixelSource(images=images, positions=positions, device=device, resident=resident)


def to_device(batch: Tensor, device: torch.device) -> Tensor:
    """Return a batch on the device; a GPU's copy runs beside what follows."""
    if device.type == "cuda":
        return batch.pin_memory().to(device, non_blocking=True)
    return batch.to(device)


def to_model(pixels: Tensor, mean: Colour, std: Colour, *, channels_last: bool = False) -> Tensor:
    """Return uint8 images [b, S, S, 3] as normalised float32 [b, 3, S, S]: (image / 255 - mean) / std.

    `channels_last`: the result lies in memory as [b, S, S, 3].
    """
    if pixels.device.type == "cpu":
        return _looked_up(pixels, _table(mean, std), channels_last=channels_last)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    images = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=layout).div_(_LEVELS - 1)
    return normalised(images, mean, std)


def match_threads() -> None:
    """Let OpenCV take as many threads as torch, not one for each core: trials share a machine."""
    if cv2.getNumThreads() != torch.get_num_threads():
        cv2.setNumThreads(torch.get_num_threads())


def _looked_up(pixels: Tensor, table: npt.NDArray[np.float32], *, channels_last: bool) -> Tensor:
    """Look each channel's level up in its column of the table: one pass, where arithmetic takes three."""
    match_threads()
    source = pixels.numpy()
    count, side = source.shape[:2]
    if channels_last:
        images = torch.empty(count, side, side, 3)
        cv2.LUT(source.reshape(count * side, side, 3), table, dst=images.numpy().reshape(count * side, side, 3))
        return images.permute(0, 3, 1, 2)
    if not count:
        return torch.empty(0, 3, side, side)
    levels = np.empty((3, count * side, side), dtype=np.uint8)
    cv2.split(source.reshape(count * side, side, 3), mv=list(levels))  # while a level is still a byte
    images = torch.empty(count, 3, side, side)
    planes = images.numpy().reshape(count, 3, side * side)
    for channel in range(3):
        column = np.ascontiguousarray(table[..., channel])
        cv2.LUT(levels[channel].reshape(count, side * side), column, dst=planes[:, channel])
    return images


@lru_cache(maxsize=8)
def _table(mean: Colour, std: Colour) -> npt.NDArray[np.float32]:
    """Return what each of the 256 levels becomes in each channel, [1, 256, 3]."""
    levels = torch.arange(_LEVELS, dtype=torch.float32).div_(_LEVELS - 1)
    values = normalised(levels.view(1, 1, 1, _LEVELS).expand(1, 3, 1, _LEVELS), mean, std)
    return cast("npt.NDArray[np.float32]", values.permute(0, 2, 3, 1).reshape(1, _LEVELS, 3).contiguous().numpy())


def _sent(images: Pixels, positions: Positions | None, device: torch.device) -> Tensor:
    """Return images on the device, sent in chunks: what is chosen may be larger than what the CPU should hold."""
    count = len(images) if positions is None else len(positions)
    sent = torch.empty((count, *images.shape[1:]), dtype=torch.uint8, device=device)
    for start in range(0, count, _CHUNK):
        rows = slice(start, start + _CHUNK)
        chunk = images[rows] if positions is None else images[positions[rows]]
        sent[rows] = torch.from_numpy(np.ascontiguousarray(chunk))
    return sent
