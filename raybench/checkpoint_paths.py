"""Where trials of a run keep their states and weights: a run directory and a trial's id in, paths out."""

from pathlib import Path


def state_path(run_dir: Path, trial_id: str) -> Path:
    """Return where a running trial keeps its state."""
    return run_dir / "checkpoints" / f"{trial_id}.pt"


def weights_path(run_dir: Path, trial_id: str) -> Path:
    """Return where an ended trial keeps its best epoch's weights."""
    return run_dir / "checkpoints" / f"{trial_id}.safetensors"
