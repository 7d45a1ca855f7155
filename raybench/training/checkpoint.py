"""Checkpoints: everything an exact resume needs, in one file, written atomically and read without running code.

In: the state of a `Training`. Out: `checkpoints/TRIAL_ID.pt`, there while the trial runs.
Writing costs less than 5 % of the training time: the interval follows from the measured cost of a save.
"""

import pickle
import time
from pathlib import Path
from typing import Any

import torch

from raybench.atomic import replacing

COST_SHARE = 0.05
"""Largest share of the training time that writing checkpoints may take."""
FIRST_INTERVAL_SECONDS = 1.0
"""A trial that takes less than this needs no checkpoint."""


def state_path(run_dir: Path, trial_id: str) -> Path:
    """Return where a running trial keeps its state."""
    return run_dir / "checkpoints" / f"{trial_id}.pt"


def weights_path(run_dir: Path, trial_id: str) -> Path:
    """Return where an ended trial keeps its best epoch's weights."""
    return run_dir / "checkpoints" / f"{trial_id}.safetensors"


class Checkpointer:
    """Saves one trial's state, no more often than the cost of a save allows."""

    def __init__(self, path: Path, first_interval_seconds: float = FIRST_INTERVAL_SECONDS) -> None:
        self.path = path
        self.interval_seconds = first_interval_seconds
        """Least time between two saves."""
        self._first_interval_seconds = first_interval_seconds
        self._saved_at = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """Return the saved state, or None where there is none that can be read whole."""
        try:
            state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            return None
        except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError):
            # Half written by a machine that died: the trial begins again, with the same numbers.
            return None
        return state

    def due(self) -> bool:
        """Return whether enough time has passed since the last save."""
        return time.monotonic() - self._saved_at >= self.interval_seconds

    def save(self, state: dict[str, Any]) -> None:
        """Write the state now, and plan the next save by what this one cost."""
        started = time.monotonic()
        with replacing(self.path) as temporary:
            torch.save(state, temporary)
        self._saved_at = time.monotonic()
        self.interval_seconds = max(self._first_interval_seconds, (self._saved_at - started) / COST_SHARE)

    def remove(self) -> None:
        """Delete the state of a trial that has ended."""
        self.path.unlink(missing_ok=True)
