"""What runs in a worker: one trial, reported epoch by epoch.

In: a trial, from Ray Tune, and what all trials of the run share. Out: the trial's row, written by training
(or here, for one that raised an error), and after it a last report.

A trial ends itself: Ray Tune never stops one that could still score its best epoch. So when Tune does end this
function, by SystemExit from the report of an epoch, the run was interrupted and no row is written.

Reports hold an object each instead of numbers: of every number, Ray Tune keeps means and extremes for good.
"""

import gc
import json
import math
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.actor import ActorHandle
from ray.exceptions import RayError
from ray.tune.result import DONE

from raybench.errors import StorageError
from raybench.events import TrialEnded
from raybench.mirror import mirror_of, run_folder
from raybench.process_memory import memory_watch
from raybench.records import Allocation, EpochRecord, Status, Trial, TrialResult, Verdict
from raybench.results import write_trial
from raybench.scheduling.gang import AllBegun, WorkerError, run_gang
from raybench.scheduling.worker import (
    Shared,
    allocation_of,
    desk_of,
    error_text,
    is_lack_of_memory,
    prepare_process,
    train_here,
)
from raybench.spending import Spent
from raybench.trials import first_row, from_json, to_json

BEGUN = "begun"
"""Key of the report of a trial of several workers that they are there, which holds an `AllBegun`."""
EPOCH = "epoch"
"""Key of a report that holds an `EpochNews`."""
ENDED = "ended"
"""Key of a trial's last report, which holds a `TrialEnded`."""
STORAGE = "storage"
"""Key of a trial's last report where it could not write: what was wrong."""
RECORD = "record"
"""Key of a trial's config: all of the trial, as text."""
TIMES = "times"
"""Key of a trial's config: how many shares it holds at first."""
KINDS = "kinds"
"""Another: on which kinds of accelerator it may run, with spaces between them."""
SPENT = "spent"
"""Key of the same report, which holds what the attempt took: a `Spent`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochNews:
    """An epoch, and what the stopping rule has to know beside it."""

    record: EpochRecord
    last_phase_epoch: int
    """Epochs done of the strategy's last phase; 0 in the phases before it."""
    best_val_loss: float
    """Lowest so far over all phases; infinite where no epoch gave a number."""


def trial_config(trial: Trial, *, times: int = 1, kinds: tuple[str, ...] = ()) -> dict[str, str]:
    """Return what Ray Tune hands to `run_trial`: texts, which it copies many times at no cost.

    `times` says how many shares the trial holds at first, and `kinds` on which kinds of accelerator it may run.
    """
    record = json.dumps(to_json(trial))
    return {"trial": trial.trial_id, RECORD: record, TIMES: str(times), KINDS: " ".join(kinds)}


def run_trial(config: Mapping[str, str], *, shared: Shared) -> None:
    """Run the trial of a `trial_config`; Ray Tune calls this once a trial, many times in one process.

    Raises:
        RayError: Ray itself failed, so that the trial is started again elsewhere.
        SystemExit: the run was interrupted.

    """
    started = time.perf_counter()
    prepare_process(shared)
    desk = desk_of(shared.desk)
    trial = from_json(json.loads(config[RECORD]))
    begun: Any = ray.get(desk.begin.remote(trial.trial_id))
    if begun is None:  # the run is ending, or was done with this trial before its worker was
        tune.report({DONE: True})
        return
    retries, held, several = int(begun), _held(), shared.share.workers > 1
    # Of several workers nobody knows yet where they will be.
    allocation = None if several else allocation_of(shared, trial, retries=retries, held=held)
    run_dir = run_folder(shared.run_dir)
    history: list[EpochRecord] = []

    def on_epoch(record: EpochRecord) -> Verdict:
        history.append(record)
        _check_there(run_dir, shared)
        tune.report({EPOCH: epoch_news(trial, history)})
        return _verdict(desk, record)

    def on_begun(workers: AllBegun) -> None:
        nonlocal started
        started = time.perf_counter()  # before, it held nothing
        tune.report({BEGUN: workers})

    try:
        _check_there(run_dir, shared)
        if allocation is None:
            kinds = shared.accelerators.get(trial.model.name, ())
            share = replace(shared.share, times=int(held["memory"]), accelerators=kinds)
            result = run_gang(trial, shared=shared, share=share, retries=retries, on_begun=on_begun, on_epoch=on_epoch)
        else:
            result = train_here(
                trial, shared=shared, run_dir=run_dir, allocation=allocation, held=held, on_epoch=on_epoch
            )
    except RayError:
        raise
    except StorageError as error:  # the trial did nothing wrong: it goes on once there is room
        tune.report({STORAGE: str(error), DONE: True})
        return
    except Exception as error:
        if is_lack_of_memory(error):  # tried again from its checkpoint, with more of it, in a fresh process
            ray.get(desk.outgrow.remote(trial.trial_id, memory_watch().peak_bytes()))
            raise
        result = _failed(trial, error, allocation, retries=retries)
        try:
            _check_there(run_dir, shared)
            write_trial(run_dir, result, history, None)
        except StorageError as storage:
            tune.report({STORAGE: str(storage), DONE: True})
            return
    _freeze_imports()
    # After the row: the driver takes it as the news that the row is there. Ray Tune ends the function here, as done.
    spent = Spent(seconds=time.perf_counter() - started, build_seconds=result.build_seconds or 0.0)
    tune.report({ENDED: ended_event(result), SPENT: spent, DONE: True})


def _check_there(run_dir: Path, shared: Shared) -> None:
    """Raise `StorageError` where the run directory is gone; a new one would hold nothing but this trial."""
    if mirror_of(run_dir) is not None or run_dir.is_dir():
        return
    if shared.several_machines:  # one that came later was not asked before the first trial whether it sees it
        raise StorageError(f"{run_dir}: is not there on {platform.node()}; every machine has to see it")
    raise StorageError(f"{run_dir}: is not there any more")


def _verdict(desk: ActorHandle[Any], record: EpochRecord) -> Verdict:
    """Ask for the verdict; the scheduler has given it, since a report returns once the driver has dealt with it."""
    answer: Any = ray.get(desk.ask.remote(record.trial_id, record.epoch))
    return Verdict(answer)


def epoch_news(trial: Trial, history: list[EpochRecord]) -> EpochNews:
    """Return the last epoch of the history with what the stopping rule needs."""
    finite = [epoch.val_loss for epoch in history if math.isfinite(epoch.val_loss)]
    return EpochNews(
        record=history[-1],
        last_phase_epoch=sum(epoch.phase == len(trial.strategy.phases) for epoch in history),
        best_val_loss=min(finite, default=math.inf),
    )


def _failed(trial: Trial, error: Exception, allocation: Allocation | None, *, retries: int) -> TrialResult:
    """Return the row of a trial that raised, here or in one of its workers."""
    if isinstance(error, WorkerError):
        return failed_result(trial, error.text, error.allocation, retries=retries)
    return failed_result(trial, error_text(error), allocation, retries=retries)


def ended_event(result: TrialResult) -> TrialEnded:
    """Return the news that the trial's row is there."""
    return TrialEnded(
        trial_id=result.trial_id, status=result.status, val_accuracy=result.val_accuracy, error=result.error
    )


def failed_result(trial: Trial, error: str, allocation: Allocation | None, *, retries: int) -> TrialResult:
    """Return the row of a trial that ended with an error; no allocation where nobody knows where it ran last."""
    return replace(
        first_row(trial, Status.FAILED),
        error=error,
        cpu_share=allocation.cpu_share if allocation else None,
        gpu_fraction=allocation.gpu_fraction if allocation else None,
        node=allocation.node if allocation else None,
        instance_type=allocation.instance_type if allocation else None,
        workers=allocation.workers if allocation else None,
        retries=retries,
    )


@cache
def _freeze_imports() -> None:
    """Once a process, after its first trial has loaded everything: keep modules out of what is looked through.

    Memory is given back between trials, and going through half a million objects of torch takes 0.2 s each time.
    """
    gc.collect()
    gc.freeze()


def _held() -> Mapping[str, float]:
    """Return what Ray keeps for this trial: more than the share of all where it takes more memory."""
    placement = tune.get_context().get_trial_resources()
    held: Mapping[str, float] = placement.required_resources
    return held
