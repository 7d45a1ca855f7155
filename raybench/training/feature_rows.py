"""Rows of numbers that many processes fill together: each row is there whole, or not at all.

In: positions and rows. Out: an array [n, d] and which of its rows can be trusted. In files or in memory.

    rows.f32      the rows, float32: a file with holes, so that only rows which were filled take space
    rows.sums     one uint64 a row: its checksum; 0 for a row that is not filled
    rows.begun    one float64 a row: when somebody began to compute it, in seconds since 1970

Nobody holds a lock while computing. A row is written before its checksum, and a row whose checksum does not fit counts
as absent: so a process, or a machine, may die at any moment. Who computes says so in rows.begun and passes over what
others have begun; two that begin a row at the same moment write the same bytes.
"""

import mmap
import os
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Positions = npt.NDArray[np.int64]

_CHECKSUM_SEED: Final = 20261122
"""Of the factors of the checksum; another one makes every row that was written before absent."""
_ROWS_AT_ONCE: Final = 4096
"""Rows that are checked together: bounds what is copied."""


class MemoryRows:
    """Rows that this object alone has; memory is taken by rows that are filled."""

    def __init__(self, rows: int, width: int) -> None:
        self.values: npt.NDArray[np.float32] = np.zeros((rows, width), dtype=np.float32)
        """[n, d]; only rows that `missing` does not return mean anything."""
        self._whole = np.zeros(rows, dtype=np.bool_)

    def missing(self, positions: Positions) -> Positions:
        """Return those of the positions whose row is not there."""
        absent: Positions = positions[~self._whole[positions]]
        return absent

    def unfilled(self) -> Positions:
        """Return the positions of all rows that nobody has filled."""
        return np.flatnonzero(~self._whole)

    def unbegun(self, positions: Positions, lapse_seconds: float) -> Positions:  # noqa: ARG002 (nobody else is here)
        """Return those of the positions that nobody began to compute within the last `lapse_seconds`."""
        return positions

    def begin(self, positions: Positions) -> None:
        """Tell others that these rows are being computed."""

    def write(self, positions: Positions, rows: npt.NDArray[np.float32]) -> None:
        """Fill rows, [len(positions), d]. Raises OSError where there is no space."""
        self.values[positions] = rows
        self._whole[positions] = True

    def in_memory(self) -> "MemoryRows":
        """Return rows in memory that begin with the rows that were found whole here."""
        copy = MemoryRows(*self.values.shape)
        known = np.flatnonzero(self._whole)
        copy.write(known, self.values[known])
        return copy


class StoredRows(MemoryRows):
    """Rows in files, mapped into memory: what other processes write is seen here.

    Raises OSError where the files cannot be made or opened.
    """

    def __init__(self, folder: Path, rows: int, width: int) -> None:
        self._whole = np.zeros(rows, dtype=np.bool_)
        self._factors = _checksum_factors(width)
        self._rows = _Column(folder / "rows.f32", np.dtype(np.float32), (rows, width))
        self._sums = _Column(folder / "rows.sums", np.dtype(np.uint64), (rows,))
        self._begun = _Column(folder / "rows.begun", np.dtype(np.float64), (rows,))
        self.values = self._rows.array

    @property
    def file_bytes(self) -> int:
        """What the files take once every row is filled."""
        return sum(column.array.nbytes for column in (self._rows, self._sums, self._begun))

    def is_empty(self) -> bool:
        """Whether nobody has filled a row yet."""
        return not self._sums.array.any()

    def missing(self, positions: Positions) -> Positions:
        """Return those of the positions whose row is not there or not whole; a row found whole stays so."""
        unknown = super().missing(positions)
        filled = unknown[self._sums.array[unknown] != 0]
        for start in range(0, len(filled), _ROWS_AT_ONCE):
            some = filled[start : start + _ROWS_AT_ONCE]
            self._whole[some] = self._checksums(self.values[some]) == self._sums.array[some]
        return super().missing(unknown)

    def unfilled(self) -> Positions:
        """Return the positions of all rows that nobody has filled; whether the others are whole was not looked at."""
        return np.flatnonzero(self._sums.array == 0)

    def unbegun(self, positions: Positions, lapse_seconds: float) -> Positions:
        """Return those of the positions that nobody began to compute within the last `lapse_seconds`."""
        open_to_all: Positions = positions[self._begun.array[positions] < time.time() - lapse_seconds]
        return open_to_all

    def begin(self, positions: Positions) -> None:
        """Tell others that these rows are being computed. Raises OSError where there is no space."""
        self._begun.write(positions, np.full(len(positions), time.time()))

    def write(self, positions: Positions, rows: npt.NDArray[np.float32]) -> None:
        """Fill rows, [len(positions), d]. Raises OSError where there is no space."""
        self._rows.write(positions, rows)
        self._sums.write(positions, self._checksums(rows))
        self._whole[positions] = True

    def _checksums(self, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.uint64]:
        """Return a number a row: its 32-bit words, each times an odd factor of its place, added modulo 2**64, plus 1.

        A row of zeros, which a hole reads as, has 1.
        """
        sums: npt.NDArray[np.uint64] = np.einsum("ij,j->i", rows.view(np.uint32), self._factors)
        return sums + np.uint64(1)


class _Column:
    """A file with one item a row: read through a map, written by the position.

    Written with `pwrite`, since a full disk is an error there, while a write through a map ends the process.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any], shape: Sequence[int]) -> None:
        # One descriptor for both: another file may stand under this name later.
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        weakref.finalize(self, os.close, self._descriptor)
        size = dtype.itemsize * int(np.prod(shape))
        if os.fstat(self._descriptor).st_size < size:
            os.ftruncate(self._descriptor, size)
        # Not read-only: torch warns of tensors over read-only arrays.
        self.array: npt.NDArray[Any] = np.frombuffer(mmap.mmap(self._descriptor, size), dtype=dtype).reshape(shape)

    def write(self, positions: Positions, items: npt.NDArray[Any]) -> None:
        for position, item in zip(positions.tolist(), np.ascontiguousarray(items, self.array.dtype), strict=True):
            _write_at(self._descriptor, item.tobytes(), position * item.nbytes)


def _write_at(descriptor: int, content: bytes, offset: int) -> None:
    while content:
        written = os.pwrite(descriptor, content, offset)
        content, offset = content[written:], offset + written


def _checksum_factors(width: int) -> npt.NDArray[np.uint64]:
    # Raw bits of PCG64, since numpy keeps them the same over its versions.
    return np.random.PCG64(_CHECKSUM_SEED).random_raw(width) | np.uint64(1)
