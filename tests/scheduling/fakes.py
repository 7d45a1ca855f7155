"""Trials with fixed losses in the place of training, which write real rows.

What a trial does stands in `fakes.json` in the run directory: its losses and what happens to it. What it saw goes
to `seen/`, one file a start.
"""

import ctypes
import gc
import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import ray
from ray.train._internal.session import _TrainSession

from raybench.records import (
    Allocation,
    EpochRecord,
    Status,
    Trial,
    TrialResult,
    Verdict,
)
from raybench.results import read_trial, write_trial
from raybench.trials import first_row
from tests import builders
from tests.builders import PHASE

EXECUTE = f"{__name__}:run"


@dataclass(frozen=True, kw_only=True, slots=True)
class Script:
    """What a trial does."""

    losses: tuple[float, ...] = (1.0,)
    """Val loss of each epoch."""
    wait_for_started: int = 0
    """Starts that must have been seen before the first epoch."""
    wait_for_file: str | None = None
    """File in the run directory before which the trial, which makes `ID.waits`, does not get beyond its first epoch."""
    raises: bool = False
    """In the second epoch."""
    epoch_seconds: float = 0.0
    """What an epoch takes."""
    fills_mb: int = 0
    """Memory that it takes before its second epoch, and keeps for a while."""
    needs_gpu: float = 0.0
    """Part of a GPU's memory without which its second epoch ends with torch's error for the lack of it."""
    epoch_sleep: float = 0.0
    """What its second epoch takes longer."""
    kills: int = 0
    """Starts that end with the process killing itself before the second epoch."""
    segfaults: int = 0
    """Starts that end with a crash in C code before the second epoch."""
    dies_afterwards: bool = False
    """Its process kills itself when it is handed the next trial."""
    hangs: str | None = None
    """The second epoch never ends: it `sleeps`, `ignores` signals and exceptions, or `holds` Python's lock in C."""


def make_trial(trial_id: str, *, train_size: int = 833, seed: int = 0, epochs: Sequence[int] = (4,)) -> Trial:
    """Return a trial with a phase for each entry of `epochs`."""
    phases = [replace(PHASE, epochs=count, patience=count) for count in epochs]
    return builders.make_trial(trial_id, *phases, model=trial_id, train_size=train_size, seed=seed)


def write_scripts(run_dir: Path, scripts: dict[str, Script]) -> None:
    """Say what each trial does."""
    text = json.dumps({trial_id: asdict(script) for trial_id, script in scripts.items()})
    (run_dir / "fakes.json").write_text(text, encoding="utf-8")


def starts(run_dir: Path) -> list[dict[str, Any]]:
    """Return what the starts of trials saw, in their order."""
    seen = [json.loads(path.read_text(encoding="utf-8")) for path in (run_dir / "seen").glob("*.json")]
    return sorted(seen, key=lambda entry: float(entry["begin"]))


def run(
    trial: Trial, *, run_dir: Path, allocation: Allocation, on_epoch: Callable[[EpochRecord], Verdict]
) -> TrialResult:
    """Go through the losses that the run directory gives the trial."""
    existing = read_trial(run_dir, trial.trial_id)
    if existing is not None and existing.status is not Status.UNFINISHED:
        return existing
    text = (run_dir / "fakes.json").read_text(encoding="utf-8")
    script = Script(**json.loads(text)[trial.trial_id])
    begin = time.time()
    note = _note(run_dir, trial, allocation)
    _wait(lambda: len(list((run_dir / "seen").glob("*.json"))) >= script.wait_for_started)
    history: list[EpochRecord] = []
    status = Status.COMPLETED
    for index, loss in enumerate(script.losses):
        if index == 1:
            _meet_fate(run_dir, trial, script, allocation)
        time.sleep(script.epoch_seconds)
        history.append(_record(trial, index + 1, loss, script.epoch_seconds))
        verdict = on_epoch(history[-1])
        if verdict is Verdict.STOP:
            status = Status.STOPPED
            break
        if verdict is Verdict.PAUSE and index + 1 < len(script.losses):
            status = Status.UNFINISHED
            break
        if index == 0 and script.wait_for_file is not None:
            (run_dir / f"{trial.trial_id}.waits").touch()
            _wait((run_dir / script.wait_for_file).exists)
    best = min(history, key=lambda record: record.val_loss)
    result = replace(
        first_row(trial, status),
        epochs_run=len(history),
        best_epoch=best.epoch,
        val_loss=best.val_loss,
        val_accuracy=best.val_accuracy,
        test_accuracy=best.val_accuracy,
        retries=allocation.retries,
    )
    write_trial(run_dir, result, history, None)
    if script.dies_afterwards:
        _TrainSession.reset = _die  # type: ignore[method-assign,assignment]  # which Ray Tune calls for the next trial
    seen = json.loads(note.read_text(encoding="utf-8"))
    note.write_text(json.dumps({**seen, "begin": begin, "end": time.time(), "status": status}))
    return result


def _note(run_dir: Path, trial: Trial, allocation: Allocation) -> Path:
    folder = run_dir / "seen"
    folder.mkdir(exist_ok=True)
    path = folder / f"{trial.trial_id}-{time.time_ns()}.json"
    seen = {
        "trial_id": trial.trial_id,
        "begin": time.time(),
        "pid": os.getpid(),
        "gpu_ids": ray.get_gpu_ids(),
        "visible_gpus": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "directory": str(Path.cwd()),
        "frozen": gc.get_freeze_count(),
        **asdict(allocation),
    }
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(seen), encoding="utf-8")
    temporary.replace(path)
    return path


def _wait(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("what the trial waited for did not happen")
        time.sleep(0.01)


def _meet_fate(run_dir: Path, trial: Trial, script: Script, allocation: Allocation) -> None:
    time.sleep(script.epoch_sleep)
    if script.fills_mb:
        filled = b"x" * (script.fills_mb * 10**6)
        time.sleep(0.2)
        del filled
    if (allocation.gpu_memory_share or 1.0) < script.needs_gpu:
        import torch  # noqa: PLC0415 - every process would take seconds for it

        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate more than there is.")
    if script.raises:
        raise ValueError("the images of this trial are cursed")
    begun = len(list((run_dir / "seen").glob(f"{trial.trial_id}-*.json")))
    if begun <= script.kills:
        os.kill(os.getpid(), signal.SIGKILL)
    if begun <= script.segfaults:
        ctypes.string_at(0)
    if script.hangs is not None:
        (run_dir / f"{trial.trial_id}.hangs").touch()
        _hang(script.hangs)


def _die(*_: object) -> NoReturn:
    """End this process."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise SystemExit


def _hang(how: str) -> NoReturn:
    """Never return."""
    if how == "holds":
        ctypes.PyDLL(None).pause()
    while True:
        try:
            while True:
                time.sleep(1)
        except BaseException:
            if how != "ignores":
                raise


def _record(trial: Trial, epoch: int, loss: float, seconds: float) -> EpochRecord:
    bounds = [
        sum(phase.epochs for phase in trial.strategy.phases[:count]) for count in range(len(trial.strategy.phases))
    ]
    return EpochRecord(
        trial_id=trial.trial_id,
        phase=sum(epoch > bound for bound in bounds),
        epoch=epoch,
        train_loss=loss,
        train_accuracy=0.5,
        val_loss=loss,
        val_accuracy=1 / (1 + loss),
        learning_rate=0.001,
        epoch_seconds=seconds or 0.01,
        images_per_second=100.0,
    )
