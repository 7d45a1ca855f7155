"""Checkpoints: everything an exact resume needs, in one file, written atomically and read without running code.

In: the state of a `Training`. Out: `checkpoints/TRIAL_ID.pt`, there while the trial runs.
Writing costs less than 5 % of the training time: the interval follows from the measured cost of a save, and that of the
first one from the size of the state.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from raybench.atomic import replacing
from raybench.mirror import remove
from raybench.regular import check_regular

COST_SHARE = 0.05
"""Largest share of the training time that writing checkpoints may take."""
LEAST_SECONDS = 1.0
"""A trial that takes less than this needs no checkpoint."""
ASSUMED_BYTES_PER_SECOND = 200e6
"""Speed of the disk, as long as nothing was saved: that of a slow one, since a short trial might be done sooner."""


class Checkpointer:
    """Saves one trial's state, no more often than the cost of a save allows.

    Args:
        path: of the file.
        least_seconds: least time between two saves; 0: one after every epoch, whatever it costs.
        clock: seconds that never go back.

    """

    def __init__(
        self,
        path: Path,
        least_seconds: float = LEAST_SECONDS,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self._least_seconds = least_seconds
        self._clock = clock
        self._save_seconds: float | None = None
        """What the last save took."""
        self._saved_at = clock()

    def load(self) -> dict[str, Any] | None:
        """Return the saved state, or None where there is none that can be read whole."""
        try:
            check_regular(self.path)
            state: object = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception:  # noqa: BLE001 (damaged bytes fail in any way, and a pickle that would run code is refused)
            # Half written by a machine that died, for instance: the trial begins again, with the same numbers.
            return None
        return state if isinstance(state, dict) and "version" in state else None

    def save_if_due(self, make_state: Callable[[], dict[str, Any]]) -> bool:
        """Write the state where enough time has passed since the last save, or the beginning; return whether it has."""
        elapsed = self._clock() - self._saved_at
        if elapsed < self._interval_seconds(self._save_seconds or 0.0):
            return False
        state = make_state()
        if self._save_seconds is None and elapsed < self._interval_seconds(_bytes(state) / ASSUMED_BYTES_PER_SECOND):
            return False
        self.save(state)
        return True

    def save(self, state: dict[str, Any]) -> None:
        """Write the state now."""
        started = self._clock()
        with replacing(self.path) as temporary, _without_checksums():
            torch.save(state, temporary)
        self._saved_at = self._clock()
        self._save_seconds = self._saved_at - started

    def remove(self) -> None:
        """Delete the state of a trial that has ended."""
        remove(self.path)

    def _interval_seconds(self, save_seconds: float) -> float:
        return max(self._least_seconds, save_seconds / COST_SHARE) if self._least_seconds else 0.0


@contextmanager
def _without_checksums() -> Iterator[None]:
    """Let torch leave them out: they take half of the time, and nobody checks them."""
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(compute_crc32=False)
    try:
        yield
    finally:
        torch.serialization.set_crc32_options(compute_crc32=before)


def _bytes(state: object) -> int:
    """Return the size of all tensors in nested dicts and lists."""
    if isinstance(state, Tensor):
        return state.nbytes
    if isinstance(state, Mapping):
        return sum(_bytes(value) for value in state.values())
    if isinstance(state, Sequence) and not isinstance(state, str):
        return sum(_bytes(value) for value in state)
    return 0
