"""Where features of frozen backbones lie on disk: what decides them in, an entry of the cache out.

    CACHE/features/KEY/rows.f32, rows.sums, rows.begun    a row an image; see `raybench.training.feature_rows`
    CACHE/features/KEY/probe.f32                          what the backbone makes of two fixed images
    CACHE/features/KEY/seconds.f64                        what each batch took, one number a batch
    CACHE/features/KEY/meta.json                          what `raybench cache show` says of it

KEY hashes the backbone's tensors, the decoded images, how they are normalised, the precision, and what else may change
the bits of a row: device, threads, memory layout, version of torch. What no hash sees, such as an edited forward
method, shows in the probe: an entry with another one is thrown away.
"""

import contextlib
import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from raybench.atomic import replacing
from raybench.cache import Claim, create, discard, entry_folder
from raybench.eviction import make_room, remove
from raybench.feature_parts import FeatureParts, same_code
from raybench.training.backbone import backbone_digest
from raybench.training.data import ImageData
from raybench.training.feature_rows import Positions, StoredRows
from raybench.training.network import Network

FORMAT: Final = 1
"""Version of the files, and of how an image becomes a row; part of every key."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureCache:
    """Where features are kept for other trials."""

    root: Path
    """The cache folder."""
    limit_bytes: int | None = None
    """Most that everything in it may take; None: what the disk holds."""
    shared: Path | None = None
    """Folder through which machines give one another what they computed; None: no other machine takes part."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """Everything that decides the bits of a row."""

    model: str
    backbone: str
    """Hash of its tensors."""
    images: str
    """Key of the decoded images, which changes where one of them does."""
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    precision: str
    channels_last: bool
    batch: int
    device: str
    """Instruction set or name of the device, and threads of a CPU."""
    torch: str = torch.__version__
    format: int = FORMAT

    @property
    def key(self) -> str:
        """Name of the entry."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:32]


class FeatureEntry:
    """An entry of the cache, in use for as long as this object is there."""

    def __init__(
        self, cache: FeatureCache, folder: Path, claim: Claim, rows: StoredRows, parts: FeatureParts | None
    ) -> None:
        self.rows = rows
        self._parts = parts
        self._cache = cache
        self._folder = folder
        self._claim = claim

    def has_room(self) -> bool:
        """Whether all rows may come to lie on the disk; makes room for them where it can."""
        with contextlib.suppress(OSError):
            return make_room(self._cache.root, self._cache.limit_bytes, self.rows.file_bytes, without=self._folder)
        return False

    def computed(self, positions: Positions, seconds: float) -> None:
        """Let other machines know of rows that were computed and written here."""
        if self._parts is not None:
            self._parts.computed(self.rows, positions, seconds)

    def give(self) -> None:
        """Give other machines what they have not been given yet."""
        if self._parts is not None:
            self._parts.give(self.rows)

    def take(self) -> None:
        """Take what other machines have given by now. Raises OSError where it cannot be written here."""
        if self._parts is not None:
            for seconds in self._parts.take(self.rows):
                self.add_batch_seconds(seconds)

    def leave(self) -> None:
        """Let go of the entry; one that holds nothing goes."""
        self._claim.close()
        if self.rows.is_empty():
            remove(self._folder)  # unless another process has begun to fill it

    def batch_seconds(self) -> npt.NDArray[np.float64]:
        """Return what each batch took that anybody computed."""
        with contextlib.suppress(OSError):
            return np.frombuffer((self._folder / _SECONDS).read_bytes(), np.float64)
        return np.empty(0)

    def add_batch_seconds(self, seconds: float) -> None:
        """Note what a batch took. Raises OSError."""
        descriptor = os.open(self._folder / _SECONDS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(descriptor, np.float64(seconds).tobytes())
        finally:
            os.close(descriptor)


def identify(
    network: Network, images: ImageData, device: torch.device, *, bfloat16: bool, channels_last: bool, batch: int
) -> Identity:
    """Return what decides the features that a network's backbone makes of a dataset here and now."""
    if device.type == "cuda":
        place = torch.cuda.get_device_name(device)
    else:
        place = f"{torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"
    return Identity(
        model=network.name,
        backbone=backbone_digest(network),
        images=images.content,
        image_size=network.image_size,
        mean=network.mean,
        std=network.std,
        precision="bfloat16" if bfloat16 else "float32",
        channels_last=channels_last,
        batch=batch,
        device=place,
    )


def open_entry(cache: FeatureCache, identity: Identity, probe: Tensor, *, dataset: str, rows: int) -> FeatureEntry:
    """Open the entry for these features, made where there is none.

    Args:
        cache: where entries lie.
        identity: what decides the features.
        probe: what the backbone makes of two fixed images, [2, d].
        dataset: its name, for `raybench cache show`.
        rows: images of all splits together.

    Raises:
        OSError: it cannot be written.

    """
    folder = entry_folder("features", identity.key, cache.root)
    made = probe.float().cpu().numpy()
    claim = create(folder)
    known = _read_probe(folder, made.shape[1])
    if known is not None and not same_code(known, made):
        claim.close()
        discard(folder)
        claim, known = create(folder), None
    if known is None:
        description = {"dataset": dataset, **asdict(identity)}
        with replacing(folder / "meta.json") as temporary:
            temporary.write_text(json.dumps(description), encoding="utf-8")
        with replacing(folder / _PROBE) as temporary:
            temporary.write_bytes(made.tobytes())
    parts = None
    if cache.shared is not None:
        parts = FeatureParts(cache.shared / identity.key, entry=folder, probe=made)
    return FeatureEntry(cache, folder, claim, StoredRows(folder, rows, made.shape[1]), parts)


_PROBE: Final = "probe.f32"
_SECONDS: Final = "seconds.f64"


def _read_probe(folder: Path, width: int) -> npt.NDArray[np.float32] | None:
    try:
        return np.frombuffer((folder / _PROBE).read_bytes(), np.float32).reshape(-1, width)
    except (OSError, ValueError):
        return None
