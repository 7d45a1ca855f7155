"""Real trainings as workers of a trial run them, which meet a fate; and where their processes are noted down."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from raybench.checkpoint_paths import state_path
from raybench.records import Allocation, EpochRecord, Trial, TrialResult, Verdict
from raybench.training import execute

KILLED = f"{__name__}:killed_once"
RAISING = "raises"
"""Id of a trial whose second worker raises."""
HANGING = "hangs"
"""Id of a trial whose second worker never does anything."""


def killed_once(
    trial: Trial, *, run_dir: Path, allocation: Allocation, on_epoch: Callable[[EpochRecord], Verdict]
) -> TrialResult:
    """Train with a checkpoint each epoch; the second worker dies once, when it sees the first one of trial `killed`."""
    (run_dir / "pids").mkdir(exist_ok=True)
    (run_dir / "pids" / f"{trial.trial_id}-{os.getpid()}").touch()
    if allocation.rank == 1 and trial.trial_id == HANGING:
        threading.Event().wait()
    if allocation.rank == 1 and trial.trial_id == RAISING:
        raise ValueError("the images of this worker are cursed")
    if allocation.rank == 1 and trial.trial_id == "killed" and not (run_dir / "was-killed").exists():
        threading.Thread(target=_die_after, args=(state_path(run_dir, trial.trial_id), run_dir), daemon=True).start()
    return execute.run(trial, run_dir=run_dir, allocation=allocation, on_epoch=on_epoch, checkpoint_seconds=0)


def _die_after(state: Path, run_dir: Path) -> None:
    while not state.exists():
        time.sleep(0.001)
    (run_dir / "was-killed").touch()
    os.kill(os.getpid(), signal.SIGKILL)


def alive(run_dir: Path, trial_id: str) -> list[int]:
    """Return the processes of a trial's workers that are still there."""
    pids = [int(path.name.rpartition("-")[2]) for path in (run_dir / "pids").glob(f"{trial_id}-*")]
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]
