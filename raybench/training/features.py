"""Features of a frozen backbone: each image is pushed through it once, by whichever trial needs it first.

In: a network that can be split at its head, and a dataset's images. Out: what the head sees of them, [n, d] float32,
equal to the uncached forward pass up to rounding, and what an image takes.

Rows are computed on demand and shared with other trials, processes and seeds through the cache; several processes fill
them together. Every batch has the same size, filled up with images that are missing but not needed yet, or by repeating
its own: the same shape means the same kernels, so that a row depends neither on its company nor on who computed it.
Where the cache cannot be written, or its limit leaves no room, features stay in memory for this trial.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Protocol

import numpy as np
import torch
from torch import Tensor

from raybench.training.batches import Preparation
from raybench.training.data import ImageData
from raybench.training.feature_cache import FeatureCache, FeatureEntry, identify, open_entry
from raybench.training.feature_rows import MemoryRows, Positions
from raybench.training.freezing import Backbone, split_at_head
from raybench.training.network import Network
from raybench.training.pixels import to_device

BATCH: Final = {"cpu": 64, "cuda": 256}
"""Images of every batch, by type of device. On CPUs more bring little, and waste more of a trial's last batch."""
RESIDENT_SHARE: Final = 0.25
"""Most of a GPU's free memory that features may take."""

_LAPSE_BATCHES: Final = 5
"""A row that was begun a second and this many batches ago is computed again: who began it may have died."""
_UNKNOWN_BATCH_SECONDS: Final = 5.0
"""What a batch takes, as long as nobody knows."""
_WAIT_SECONDS: Final = 0.01


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureSource:
    """The features of some images, taken by their places among them."""

    rows: Tensor
    """[N, d]: of these images alone, or of a whole split."""
    positions: Tensor | None
    """Row of each place, [n]; None: it is the place."""
    device: torch.device

    def take(self, places: Tensor) -> Tensor:
        """Return the features at these places (of the CPU), [b, d], on the device."""
        if self.positions is not None:
            places = self.positions[places]
        chosen = self.rows.index_select(0, places.to(self.rows.device))
        return chosen if chosen.device.type == self.device.type else to_device(chosen, self.device)

    def all(self) -> Tensor:
        """Return the features at all places, in order, on the device."""
        return (self.rows if self.positions is None else self.rows[self.positions]).to(self.device)


class Features(Protocol):
    """What a phase that trains the head alone asks of the features of its backbone; see `FrozenFeatures`."""

    @property
    def backbone(self) -> Backbone: ...  # noqa: D102 - see there

    @property
    def seconds_per_image(self) -> float: ...  # noqa: D102 - see there

    def fill(self, wanted: Mapping[str, Positions | None]) -> None: ...  # noqa: D102 - see there

    def source(self, split: str, positions: Positions | None = None) -> FeatureSource: ...  # noqa: D102 - see there


class FrozenFeatures:
    """What a backbone, which nothing may train from now on, makes of a dataset's images."""

    def __init__(
        self,
        backbone: Backbone,
        images: ImageData,
        preparation: Preparation,
        *,
        bfloat16: bool,
        entry: FeatureEntry | None,
    ) -> None:
        self.backbone = backbone
        self._preparation = preparation
        self._bfloat16 = bfloat16
        self._entry = entry
        self._splits = {"train": images.train, "val": images.val} | ({"test": images.test} if images.test else {})
        ends = np.cumsum([len(split) for split in self._splits.values()]).tolist()
        self._ranges = {name: slice(*ends) for name, ends in zip(self._splits, pairwise([0, *ends]), strict=True)}
        self._batch = batch_size(preparation.device)
        self.computed_seconds = 0.0
        """What this object computed itself."""
        self._own_seconds: list[float] = []
        self._rows = entry.rows if entry else MemoryRows(ends[-1], backbone.width)

    def fill(self, wanted: Mapping[str, Positions | None]) -> None:
        """Make the features of these images, by split (None: all of it), available: found in the cache or computed."""
        everything = np.arange(len(self._rows.values))
        positions = np.concatenate(
            [
                everything[self._ranges[split]] if chosen is None else chosen + self._ranges[split].start
                for split, chosen in wanted.items()
            ]
        )
        missing = self._rows.missing(positions)
        if len(missing) and self._entry is not None and not self._entry.has_room():
            self._leave_cache()
        try:
            if len(missing) and self._entry is not None:
                self._entry.take()
            self._fill(missing)
            if self._entry is not None:
                self._entry.give()
            if not len(self._seconds()):
                # All rows come from processes that died before they said how long they took.
                self._compute(positions[: self._batch])
        except OSError:
            if self._entry is None:
                raise
            self._leave_cache()
            self._fill(self._rows.missing(positions))

    def source(self, split: str, positions: Positions | None = None) -> FeatureSource:
        """Return the features of all images of a split, or of those at some positions; `fill` was called for them."""
        device = self._preparation.device
        rows = torch.from_numpy(self._rows.values[self._ranges[split]])
        places = None if positions is None else torch.from_numpy(positions)
        if device.type == "cuda":
            free_bytes, _ = torch.cuda.mem_get_info(device)
            if (len(rows) if places is None else len(places)) * rows[0].nbytes <= RESIDENT_SHARE * free_bytes:
                resident = (rows if places is None else rows[places]).to(device)
                return FeatureSource(rows=resident, positions=None, device=device)
        return FeatureSource(rows=rows, positions=places, device=device)

    @property
    def seconds_per_image(self) -> float:
        """What an image takes on this kind of device: the median over all batches so far, whoever computed them."""
        return float(np.median(self._seconds())) / self._batch

    def _seconds(self) -> list[float]:
        return self._own_seconds if self._entry is None else self._entry.batch_seconds().tolist()

    def _fill(self, queue: Positions) -> None:
        # Each process goes its own way through the images, and passes over what others have begun or done: two that
        # went the same way, on machines that hear of one another late, would do the same all along.
        blocks = np.array_split(np.sort(queue), max(1, len(queue) // self._batch))
        queue = np.concatenate([blocks[block] for block in np.random.default_rng().permutation(len(blocks))])
        while len(queue := self._rows.missing(queue)):
            free = self._rows.unbegun(queue, self._lapse_seconds())
            if len(free):
                self._compute(self._filled_up(free[: self._batch]))
            else:
                time.sleep(_WAIT_SECONDS)
            if self._entry is not None:
                self._entry.take()

    def _filled_up(self, positions: Positions) -> Positions:
        """Return a whole batch: what is not needed yet costs no more than repeating what is. The test split first."""
        others = np.setdiff1d(self._rows.unfilled(), positions)[::-1]
        others = self._rows.unbegun(others, self._lapse_seconds())
        return np.concatenate([positions, others[: self._batch - len(positions)]])

    def _lapse_seconds(self) -> float:
        return 1 + _LAPSE_BATCHES * max(self._seconds(), default=_UNKNOWN_BATCH_SECONDS)

    def _compute(self, positions: Positions) -> None:
        self._rows.begin(positions)
        started = time.perf_counter()
        positions = np.sort(positions)
        pixels = np.concatenate(
            [
                split.images[positions[(where.start <= positions) & (positions < where.stop)] - where.start]
                for split, where in zip(self._splits.values(), self._ranges.values(), strict=True)
            ]
        )
        batch = self._preparation.evaluation(pixels[np.resize(np.arange(len(pixels)), self._batch)])
        with torch.autocast(batch.device.type, dtype=torch.bfloat16, enabled=self._bfloat16):
            rows = self.backbone(batch)[: len(positions)].float().cpu().numpy()
        seconds = time.perf_counter() - started
        self.computed_seconds += seconds
        if self._entry is None:
            self._own_seconds.append(seconds)
        else:
            self._entry.add_batch_seconds(seconds)
        self._rows.write(positions, rows)
        if self._entry is not None:
            self._entry.computed(positions, seconds)

    def _leave_cache(self) -> None:
        """Go on in memory, with the rows that are there."""
        if self._entry is None:
            return
        self._rows = self._rows.in_memory()
        self._own_seconds = self._seconds()
        self._entry.leave()
        self._entry = None


def batch_size(device: torch.device) -> int:
    """Return how many images every batch has on a device."""
    return BATCH.get(device.type, BATCH["cuda"])


def frozen_features(
    network: Network,
    images: ImageData,
    preparation: Preparation,
    *,
    bfloat16: bool,
    dataset: str,
    cache: FeatureCache | None,
) -> FrozenFeatures | None:
    """Return the features of a network's backbone as it is now; None where it cannot be told from its head.

    Args:
        network: what to split at its head.
        images: the decoded dataset.
        preparation: how images are normalised, and where they go; augmentation plays no part.
        bfloat16: whether the backbone runs under autocast.
        dataset: its name, for `raybench cache show`.
        cache: where features are kept for other trials; None: in memory, for this object alone.

    """
    backbone = split_at_head(network)
    if backbone is None:
        return None
    entry = None
    if cache is not None:
        identity = identify(
            network,
            images,
            preparation.device,
            bfloat16=bfloat16,
            channels_last=preparation.channels_last,
            batch=batch_size(preparation.device),
        )
        rows = sum(len(split) for split in (images.train, images.val, images.test or ()))
        try:
            entry = open_entry(cache, identity, backbone.probe, dataset=dataset, rows=rows)
        except OSError:
            entry = None
    return FrozenFeatures(backbone, images, preparation, bfloat16=bfloat16, entry=entry)
