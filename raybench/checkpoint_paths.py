"""Where trials of a run keep their rows, states and weights: a run directory and a trial's id in, paths out."""

from collections.abc import Iterable
from pathlib import Path


def row_path(run_dir: Path, trial_id: str) -> Path:
    """Return where an ended or paused trial keeps its row."""
    return run_dir / "results" / f"{trial_id}.parquet"


def state_path(run_dir: Path, trial_id: str) -> Path:
    """Return where a running trial keeps its state."""
    return run_dir / "checkpoints" / f"{trial_id}.pt"


def weights_path(run_dir: Path, trial_id: str) -> Path:
    """Return where an ended trial keeps its best epoch's weights."""
    return run_dir / "checkpoints" / f"{trial_id}.safetensors"


def with_state(run_dir: Path, trial_ids: Iterable[str]) -> set[str]:
    """Return those of the trials that have begun and would go on from where they were."""
    return {trial_id for trial_id in trial_ids if state_path(run_dir, trial_id).exists()}
