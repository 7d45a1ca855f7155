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
import os
import platform
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import ray
from ray import tune
from ray.actor import ActorHandle
from ray.exceptions import RayError
from ray.tune.result import DONE

from raybench.checkpoint_paths import row_path, state_path
from raybench.choices import Step, memory_key, processor_name, step_key
from raybench.errors import StorageError
from raybench.events import TrialEnded
from raybench.mirror import bring, mirror_of, run_folder
from raybench.pace import pace_keys
from raybench.process_memory import memory_watch, usable_bytes
from raybench.records import Allocation, EpochRecord, Footprint, Inference, Pace, Status, Trial, TrialResult, Verdict
from raybench.results import write_trial
from raybench.scheduling.decisions import find_desk
from raybench.scheduling.resources import INSTANCE_LABEL, Share, device_name, device_share, node
from raybench.spending import Spent
from raybench.trials import first_row, from_json, to_json

CLEANUP_SECONDS = 60
"""How long a trial may take to leave its process to the next one; Ray Tune's 2 s fail the next trial on a slow disk."""
LAST_WORDS_SECONDS = 2
"""How long a process that takes too much memory waits until somebody has heard why it ends."""
OUT_OF_MEMORY = frozenset({"torch.OutOfMemoryError", "torch.cuda.OutOfMemoryError"})
CPU_OUT_OF_MEMORY = "DefaultCPUAllocator: can't allocate memory"
"""In the message of torch's RuntimeError."""
ERROR_LINES = 6
"""Of a traceback, kept in the row: where it happened and what was raised."""
EPOCH = "epoch"
"""Key of a report that holds an `EpochNews`."""
ENDED = "ended"
"""Key of a trial's last report, which holds a `TrialEnded`."""
STORAGE = "storage"
"""Key of a trial's last report where it could not write: what was wrong."""
SPENT = "spent"
"""Key of the same report, which holds what the attempt took: a `Spent`."""


class Execute(Protocol):
    """Trains a trial, or goes on with it, writes its rows and returns them; see `raybench.training.execute.run`.

    It calls `on_epoch` for every epoch of the trial in order, those that a checkpoint holds included, and does what the
    answer says.
    """

    def __call__(
        self, trial: Trial, *, run_dir: Path, allocation: Allocation, on_epoch: Callable[[EpochRecord], Verdict]
    ) -> TrialResult:
        """Train the trial."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shared:
    """What every trial of a run gets. Ray Tune unpickles it for each trial: nothing here may grow with their number."""

    run_dir: str
    """What `raybench.mirror.run_folder` finds it by, on any machine."""
    share: Share
    """The least that a trial holds."""
    steps: Mapping[str, Mapping[str, Step]]
    """How training steps are computed: by `device_name`, then by `step_key`; as is usual where there is none."""
    paces: Mapping[str, Mapping[str, Pace]]
    """What phases take alone: by `device_name`, then by `pace_key`."""
    inference: Mapping[str, Mapping[str, Inference]]
    """How fast models predict alone: by `device_name`, then by `step_key`."""
    footprints: Mapping[str, Footprint]
    """What trials are expected to take, by `memory_key`."""
    memory_bytes: int | None
    """Most of each machine's memory that trials may take together; None: of what it has, all but a reserve."""
    price_per_hour_usd: Mapping[str, float]
    """Of a whole machine, by instance type."""
    cache_limit_bytes: int | None
    """Most that a machine's cache folder may hold; None: what its disk holds."""
    desk: str
    """Name of the actor that answers whether a trial ends."""
    execute: str
    """`package.module:function` that trains one trial."""
    import_path: tuple[str, ...]
    """Where the driver imports from."""
    directory: Path
    """Working directory of the driver, which relative paths start from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochNews:
    """An epoch, and what the stopping rule has to know beside it."""

    record: EpochRecord
    last_phase_epoch: int
    """Epochs done of the strategy's last phase; 0 in the phases before it."""
    best_val_loss: float
    """Lowest so far over all phases; infinite where no epoch gave a number."""


def trial_config(trial: Trial) -> dict[str, str]:
    """Return what Ray Tune hands to `run_trial`: texts, which it copies many times at no cost."""
    return {"trial": trial.trial_id, "record": json.dumps(to_json(trial))}


def run_trial(config: Mapping[str, str], *, shared: Shared) -> None:
    """Run the trial of a `trial_config`; Ray Tune calls this once a trial, many times in one process.

    Raises:
        RayError: Ray itself failed, so that the trial is started again elsewhere.
        SystemExit: the run was interrupted.

    """
    started = time.perf_counter()
    _prepare_process(shared)
    desk = _desk(shared.desk)
    trial = from_json(json.loads(config["record"]))
    begun: Any = ray.get(desk.begin.remote(trial.trial_id))
    if begun is None:  # the run is ending, or was done with this trial before its worker was
        tune.report({DONE: True})
        return
    allocation = _allocation(shared, trial, retries=int(begun))
    run_dir = run_folder(shared.run_dir)
    history: list[EpochRecord] = []

    def on_epoch(record: EpochRecord) -> Verdict:
        history.append(record)
        _check_there(run_dir)
        tune.report({EPOCH: epoch_news(trial, history)})
        return _verdict(desk, record)

    def outgrown(memory_bytes: int) -> None:
        with suppress(Exception):
            ray.get(desk.outgrow.remote(trial.trial_id, memory_bytes), timeout=LAST_WORDS_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)  # before the machine runs out: the kernel might choose a neighbour

    try:
        _check_there(run_dir)
        bring(row_path(run_dir, trial.trial_id))
        bring(state_path(run_dir, trial.trial_id))
        with memory_watch().limited(_memory_limit_bytes(shared), outgrown):
            result = _resolve(shared.execute)(trial, run_dir=run_dir, allocation=allocation, on_epoch=on_epoch)
    except RayError:
        raise
    except StorageError as error:  # the trial did nothing wrong: it goes on once there is room
        tune.report({STORAGE: str(error), DONE: True})
        return
    except Exception as error:
        if _is_lack_of_memory(error):  # tried again from its checkpoint, with more of it, in a fresh process
            ray.get(desk.outgrow.remote(trial.trial_id, memory_watch().peak_bytes()))
            raise
        result = failed_result(trial, error_text(error), allocation, retries=allocation.retries)
        try:
            _check_there(run_dir)
            write_trial(run_dir, result, history, None)
        except StorageError as storage:
            tune.report({STORAGE: str(storage), DONE: True})
            return
    _freeze_imports()
    # After the row: the driver takes it as the news that the row is there. Ray Tune ends the function here, as done.
    spent = Spent(seconds=time.perf_counter() - started, build_seconds=result.build_seconds or 0.0)
    tune.report({ENDED: ended_event(result), SPENT: spent, DONE: True})


def _check_there(run_dir: Path) -> None:
    """Raise `StorageError` where the run directory is gone; a new one would hold nothing but this trial."""
    if mirror_of(run_dir) is None and not run_dir.is_dir():
        raise StorageError(f"{run_dir}: is not there any more")


def _memory_limit_bytes(shared: Shared) -> int:
    """Return what this process may take of its machine's memory: its part, as far as nobody else holds it."""
    whole = usable_bytes() if shared.memory_bytes is None else shared.memory_bytes
    here = node(ray.get_runtime_context().get_node_id())
    held = _held()
    part = held.get("GPU", 0.0) / here.gpus if shared.share.gpu else held["CPU"] / here.cpus
    return int(whole * min(1.0, part))


def _held() -> Mapping[str, float]:
    """Return what Ray keeps for this trial: more than the share of all where it takes more memory."""
    placement = tune.get_context().get_trial_resources()
    held: Mapping[str, float] = placement.required_resources
    return held


def _is_lack_of_memory(error: Exception) -> bool:
    """Return whether an allocation failed: of torch's errors the name tells, since torch is not imported here."""
    names = {f"{kind.__module__}.{kind.__name__}" for kind in type(error).__mro__}
    return isinstance(error, MemoryError) or bool(names & OUT_OF_MEMORY) or CPU_OUT_OF_MEMORY in str(error)


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
        retries=retries,
    )


def error_text(error: BaseException) -> str:
    """Return `Type: message` and, below it, the last lines of where it was raised."""
    head = "".join(traceback.format_exception_only(error)).strip()
    where = "".join(traceback.format_tb(error.__traceback__)).rstrip().splitlines()[-ERROR_LINES:]
    return "\n".join([head, *where])


@cache
def _desk(name: str) -> ActorHandle[Any]:
    """Look the desk up once a process."""
    return find_desk(name)


@cache
def _freeze_imports() -> None:
    """Once a process, after its first trial has loaded everything: keep modules out of what is looked through.

    Memory is given back between trials, and going through half a million objects of torch takes 0.2 s each time.
    """
    gc.collect()
    gc.freeze()


def _prepare_process(shared: Shared) -> None:
    os.environ["TUNE_FUNCTION_THREAD_TIMEOUT_S"] = str(CLEANUP_SECONDS)
    sys.path.extend(entry for entry in shared.import_path if entry not in sys.path)
    if shared.directory.is_dir():
        os.chdir(shared.directory)


def _resolve(name: str) -> Execute:
    module, _, function = name.partition(":")
    execute: Execute = getattr(import_module(module), function)
    return execute


def _allocation(shared: Shared, trial: Trial, *, retries: int) -> Allocation:
    context = ray.get_runtime_context()
    here = node(context.get_node_id())
    labels: Mapping[str, Any] = context.get_node_labels()  # Ray declares lists but gives strings
    instance_type: str | None = labels.get(INSTANCE_LABEL)
    device = device_name(here, on_gpus=shared.share.gpu > 0, processor=processor_name)
    step = shared.steps.get(device, {}).get(step_key(trial))
    paces = shared.paces.get(device, {})
    return Allocation(
        cpu_share=shared.share.cpu / here.cpus,
        gpu_fraction=shared.share.gpu,
        gpu_memory_share=_held().get("GPU") if 0 < shared.share.gpu < 1 else None,
        footprint=shared.footprints.get(memory_key(trial)),
        threads=shared.share.threads,
        retries=retries,
        node=platform.node(),
        instance_type=instance_type,
        price_per_hour_usd=shared.price_per_hour_usd.get(instance_type or ""),
        cache_limit_bytes=shared.cache_limit_bytes,
        tuning=None if step is None else step.tuning,
        device_share=device_share(shared.share, here),
        paces={key: paces[key] for key in pace_keys(trial) if key in paces},
        inference=shared.inference.get(device, {}).get(step_key(trial)),
    )
