"""Features that one machine of a cluster computed, brought to the others by files in the run directory.

    RUN/features/KEY/PLACE-PID-UNIQUE-NUMBER.npz    rows that a process computed since its file before

KEY is that of the entry in the machines' caches, which see to it that only machines share that compute the same bits;
PLACE stands for such a cache, in which processes of one machine find one another's rows anyway. Nobody waits for
anybody: who computes writes a file every few seconds, and looks for those of others just as often. The folder goes
with the end of a session of the run: rows that are still wanted then are in the caches.

A help, and no need: what cannot be written or read here is computed.
"""

import contextlib
import os
import platform
import time
import zipfile
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, Protocol
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from raybench.atomic import replacing
from raybench.mirror import bring, mirror_of, names_in, remove

FOLDER: Final = "features"
"""In a run directory."""
GIVE_SECONDS: Final = 5.0
"""Between two files of a process that goes on computing."""
LOOK_SECONDS: Final = 5.0
"""Between two looks for those of others."""
SAME_CODE: Final = 0.01
"""Probes that differ by no more than this part of their length come from the same code, on whatever kernels."""

Positions = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float32]


class Rows(Protocol):
    """An entry's rows; see `raybench.training.feature_rows.StoredRows`."""

    values: Numbers

    def missing(self, positions: Positions) -> Positions: ...  # noqa: D102 - see there

    def write(self, positions: Positions, rows: Numbers) -> None: ...  # noqa: D102 - see there


class FeatureParts:
    """What one process gives of an entry's rows, and takes.

    Args:
        folder: of the run directory, that of this entry.
        entry: the entry's folder in this machine's cache.
        probe: what the backbone makes of two fixed images, [2, d]: rows from other code are left alone.

    """

    def __init__(self, folder: Path, *, entry: Path, probe: Numbers) -> None:
        found = entry.stat()
        where = f"{platform.node()} {found.st_dev} {found.st_ino}"
        self._folder = folder
        self._place = blake2b(where.encode(), digest_size=8).hexdigest()
        self._name = f"{self._place}-{os.getpid()}-{uuid4().hex[:8]}"
        self._probe = probe
        self._computed: list[Positions] = []
        self._seconds: list[float] = []
        self._given = 0
        self._gave_at = time.monotonic()
        self._looked_at = -LOOK_SECONDS
        self._seen: set[str] = set()

    def computed(self, rows: Rows, positions: Positions, seconds: float) -> None:
        """Note rows that are there now, and what computing them took; every few seconds a file of them is written."""
        self._computed.append(positions)
        self._seconds.append(seconds)
        if time.monotonic() - self._gave_at >= GIVE_SECONDS:
            self.give(rows)

    def give(self, rows: Rows) -> None:
        """Write what was computed since the last file, if anything was."""
        if not self._computed:
            return
        positions = np.concatenate(self._computed)
        path = self._folder / f"{self._name}-{self._given}.npz"
        seconds = np.array(self._seconds)
        with contextlib.suppress(OSError):
            with replacing(path) as temporary, temporary.open("wb") as file:
                np.savez(file, positions=positions, rows=rows.values[positions], seconds=seconds, probe=self._probe)
            _forget(path)
        self._given += 1
        self._computed, self._seconds = [], []
        self._gave_at = time.monotonic()

    def take(self, rows: Rows) -> list[float]:
        """Fill rows with those that other machines have given by now, and return what computing them took there.

        Raises:
            OSError: they cannot be written to this machine's cache.

        """
        if time.monotonic() - self._looked_at < LOOK_SECONDS:
            return []
        self._looked_at = time.monotonic()
        seconds: list[float] = []
        for name in self._new_names():
            part = self._read(name)
            if part is None or (len(part[0]) and not 0 <= part[0].min() <= part[0].max() < len(rows.values)):
                continue
            positions, values, took = part
            absent = np.isin(positions, rows.missing(positions))
            if absent.any():
                rows.write(positions[absent], values[absent])
                seconds += took
        return seconds

    def _new_names(self) -> list[str]:
        with contextlib.suppress(OSError):
            found = {name for name in names_in(self._folder) if name.endswith(".npz")} - self._seen
            self._seen |= found
            return sorted(name for name in found if not name.startswith(self._place))
        return []

    def _read(self, name: str) -> tuple[Positions, Numbers, list[float]] | None:
        """Return positions, rows and seconds of a file; None where it is gone, damaged, or from other code."""
        path = self._folder / name
        try:
            with bring(path).open("rb") as file, np.load(file, allow_pickle=False) as part:
                positions, values, seconds, probe = (part[key] for key in ("positions", "rows", "seconds", "probe"))
        except (OSError, ValueError, TypeError, LookupError, EOFError, zipfile.BadZipFile):
            return None
        finally:
            _forget(path)
        if not self._fits(positions, values, probe) or seconds.dtype != np.float64 or seconds.ndim != 1:
            return None
        return positions, values, seconds.tolist()

    def _fits(self, positions: npt.NDArray[Any], values: npt.NDArray[Any], probe: npt.NDArray[Any]) -> bool:
        return (
            positions.dtype == np.int64
            and values.dtype == probe.dtype == np.float32
            and positions.ndim == 1
            and values.shape == (len(positions), self._probe.shape[1])
            and same_code(self._probe, probe)
        )


def same_code(one: Numbers, other: Numbers) -> bool:
    """Return whether two probes, [2, d], come from the same code."""
    if one.shape != other.shape:
        return False
    return bool(np.linalg.norm(one - other) <= SAME_CODE * np.linalg.norm(other))


def clear(run_dir: Path) -> None:
    """Remove what processes have given in a run directory, if it can be."""
    with contextlib.suppress(OSError):
        remove(run_dir / FOLDER)


def _forget(path: Path) -> None:
    """Remove what a mirror keeps here of a file in a store: it is read once."""
    if mirror_of(path) is not None:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
