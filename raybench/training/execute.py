"""Run one trial from its record to its rows on disk.

In: a `Trial`, a run directory, what the trial was given of the machine, and a function that is told each
epoch and answers what to do. Out: the trial's row, history, predictions and weights, written
atomically; a trial whose row is there already is not trained again.

Where several workers train a trial, each of them calls `run`, in a process group that is there already: the first one
reads, writes and listens, and the others do what it does.
"""

import math
import platform
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch

from raybench.cache import cache_root
from raybench.checkpoint_paths import state_path
from raybench.cost import add_cost
from raybench.feature_parts import FOLDER as FEATURES
from raybench.pace import epochs_of, seconds_alone
from raybench.records import Allocation, DatasetSpec, EpochRecord, Footprint, Status, Trial, TrialResult, Verdict
from raybench.results import Predictions, read_trial, write_trial
from raybench.training.augment import crops
from raybench.training.checkpoint import LEAST_SECONDS, Checkpointer
from raybench.training.data import ImageData, load_images
from raybench.training.distributed import Ranks
from raybench.training.feature_cache import FeatureCache
from raybench.training.first_phase import FirstPhase, shared_first_phase
from raybench.training.kept_network import keep_network
from raybench.training.loop import STATE_VERSION, Finished, Progress, Training
from raybench.training.memory import PeakMemory
from raybench.training.models import model_facts
from raybench.training.pixels import resident_bytes
from raybench.training.process import prepare_process, release_memory
from raybench.training.saved import save_trial
from raybench.trials import first_row

OnEpoch = Callable[[EpochRecord], Verdict]
"""Told each finished epoch; returns what the trial does now."""


def run(
    trial: Trial,
    *,
    run_dir: Path,
    allocation: Allocation,
    on_epoch: OnEpoch,
    checkpoint_seconds: float = LEAST_SECONDS,
) -> TrialResult:
    """Train a trial, or go on with it from its checkpoint, and write its rows.

    `checkpoint_seconds` is the least time between two checkpoints, which grows with what they cost; 0: one an epoch.
    A trial that is paused before its last epoch leaves a checkpoint, and a row of status `unfinished` with its best
    epoch so far; its test split is not looked at. Raises whatever training raises; nothing is written then but the last
    checkpoint.
    """
    existing = read_trial(run_dir, trial.trial_id)
    if existing is not None and existing.status in {Status.COMPLETED, Status.STOPPED}:
        return existing
    started_at, started = datetime.now(UTC), time.perf_counter()
    ranks = Ranks(rank=allocation.rank, count=allocation.workers)
    device = prepare_process(trial, allocation)
    memory = PeakMemory(device)
    opened = time.perf_counter()
    images = _images(
        trial.dataset, with_base=crops(trial.strategy.augmentation), limit_bytes=allocation.cache_limit_bytes
    )
    opened_seconds = time.perf_counter() - opened
    cache = FeatureCache(
        root=cache_root(),
        limit_bytes=allocation.cache_limit_bytes,
        shared=run_dir / FEATURES if allocation.several_machines else None,
    )
    training = Training(trial, images, device=device, tuning=allocation.tuning, cache=cache, ranks=ranks)
    checkpointer = Checkpointer(state_path(run_dir, trial.trial_id), checkpoint_seconds)
    with shared_first_phase(run_dir, trial, _conditions(allocation, device)) as first_phase:
        status = _train(training, checkpointer, first_phase, on_epoch)
    finished = None if status is Status.UNFINISHED else training.finish()
    inference = allocation.inference
    result = replace(
        _result(trial, training, finished, status=status),
        wall_seconds=time.perf_counter() - started,
        started_at=started_at,
        finished_at=datetime.now(UTC),
        peak_memory_bytes=ranks.largest(memory.peak_bytes()),
        predicted_memory_bytes=_predicted_bytes(allocation.footprint, device),
        gpu_fraction=allocation.gpu_fraction,
        cpu_share=allocation.cpu_share,
        accelerator=_accelerator(device),
        instance_type=allocation.instance_type,
        node=allocation.node or platform.node(),
        retries=allocation.retries,
        standalone_seconds=seconds_alone(
            trial,
            epochs_of((epoch.phase for epoch in training.history), trial),
            allocation.paces,
            val_images=len(images.val),
        ),
        device_share=allocation.device_share,
        workers=ranks.count,
        build_seconds=opened_seconds + training.build_seconds,
        inference_images_per_second=None if inference is None else inference.images_per_second,
        inference_latency_seconds=None if inference is None else inference.latency_seconds,
    )
    result = replace(result, standalone_cost_usd=_cost_usd(result, allocation.price_per_hour_usd))
    if not ranks.leads:
        pass
    elif finished is None:
        write_trial(run_dir, result, training.history, None)
    else:
        save_trial(run_dir, trial, training.network, classes=images.classes, learned=finished.weights)
        write_trial(run_dir, result, training.history, _predictions(images, finished))
        checkpointer.remove()
    if not training.backbone_trained:
        keep_network(training.network, trial.model, trial.weights, seed=trial.seed)
    del training, finished
    release_memory()
    return result


def _train(
    training: Training, checkpointer: Checkpointer, first_phase: FirstPhase, on_epoch: OnEpoch
) -> Literal[Status.COMPLETED, Status.STOPPED, Status.UNFINISHED]:
    """Train from the beginning, a checkpoint, or the end of a first phase that another trial trained."""
    ranks = training.ranks
    untrained = deepcopy(training.state())
    _go_on(training, checkpointer, first_phase)
    # Epochs that are there already are told again: who listens may be a new process, or has never heard of them.
    for record in chain(tuple(training.history), training):
        verdict = Verdict(ranks.told(str(on_epoch(record)) if ranks.leads else None))
        if verdict is Verdict.STOP:
            if record.epoch < training.progress.epoch:  # within a phase that was taken over
                training.load_state(untrained)
                next(mine for mine in training if mine.epoch == record.epoch)
            return Status.STOPPED
        if training.progress.phase == 0 and training.phase_ended:
            first_phase.leave(training.state_at_end_of_phase())
        if verdict is Verdict.PAUSE and not training.ended:
            if ranks.leads:
                checkpointer.save(training.state())
            return Status.UNFINISHED
        if ranks.leads:
            checkpointer.save_if_due(training.state)
    return Status.COMPLETED


def _go_on(training: Training, checkpointer: Checkpointer, first_phase: FirstPhase) -> None:
    """Put a training where it goes on from, if it does."""
    ranks = training.ranks
    state = ranks.state(checkpointer.load() if ranks.leads else None)
    if state is not None and not _goes_on(training, state):
        state = None
    if state is None or state["progress"]["phase"] == 0:
        taken = _taken_over(first_phase, ranks)
        state = taken if taken is not None and _goes_on(training, taken) else state
    if state is not None:
        training.load_state(state)


def _taken_over(first_phase: FirstPhase, ranks: Ranks) -> dict[str, Any] | None:
    """Return what another trial left of the first phase; the first rank waits for it, and keeps the others waiting."""
    state = None
    if ranks.leads:
        state = first_phase.take_over(waiting=lambda: ranks.told(value=True))
    still_waiting = ranks.told(value=False)
    while still_waiting:
        still_waiting = ranks.told()
    return ranks.state(state)


def _goes_on(training: Training, state: dict[str, Any]) -> bool:
    """Whether a state is this trial's and all there; where it is not, the trial begins again, with the same numbers."""
    own = {name: tensor.shape for name, tensor in training.network.module.state_dict().items()}
    try:
        tensors = [*state["model"].items(), *(state["best_weights"] or {}).items()]
        history = [EpochRecord(**record) for record in state["history"]]
        Progress(**state["progress"])
        return (
            state["version"] == STATE_VERSION
            and {"backbone_trained", "optimizer"} <= state.keys()
            and all(own[name] == tensor.shape for name, tensor in tensors)
            and all(record.trial_id == training.trial.trial_id for record in history)
        )
    except (LookupError, TypeError, ValueError, AttributeError):
        return False


def epochs_done(run_dir: Path, trial_id: str) -> int:
    """Return the epochs that a trial which has not ended would go on from; 0 where it would begin again."""
    state = Checkpointer(state_path(run_dir, trial_id)).load()
    if state is None or state["version"] != STATE_VERSION:
        return 0
    try:
        return Progress(**state["progress"]).epoch
    except (LookupError, TypeError):
        return 0


def _predicted_bytes(footprint: Footprint | None, device: torch.device) -> int | None:
    """Return what the trial was expected to take where its peak is measured; on a GPU with the images kept there."""
    if footprint is None:
        return None
    return footprint.gpu_bytes + resident_bytes() if device.type == "cuda" else footprint.host_bytes


def _conditions(allocation: Allocation, device: torch.device) -> dict[str, Any]:
    """Return what a trial's numbers and seconds follow from, beside the trial."""
    several = {"workers": allocation.workers} if allocation.workers > 1 else {}
    return {
        **several,
        "accelerator": _accelerator(device),
        "instance_type": allocation.instance_type,
        "cpu_share": allocation.cpu_share,
        "gpu_fraction": allocation.gpu_fraction,
        "threads": allocation.threads,
        "tuning": None if allocation.tuning is None else asdict(allocation.tuning),
        "torch": torch.__version__,
    }


def _accelerator(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


@lru_cache(maxsize=4)
def _images(spec: DatasetSpec, *, with_base: bool, limit_bytes: int | None) -> ImageData:
    """Open a dataset once a process: trials follow one another in it."""
    return load_images(spec, with_base=with_base, limit_bytes=limit_bytes)


def _result(trial: Trial, training: Training, finished: Finished | None, *, status: Status) -> TrialResult:
    scores, progress = None if finished is None else finished.scores, training.progress
    best = training.history[progress.best_epoch - 1]
    facts = model_facts(training.network, trial.strategy.phases[training.history[-1].phase - 1].train)
    row = replace(
        first_row(trial, status),
        epochs_run=progress.epoch,
        best_epoch=best.epoch,
        train_loss=best.train_loss,
        val_loss=best.val_loss,
        val_accuracy=best.val_accuracy,
        train_seconds=progress.train_seconds,
        feature_seconds=progress.feature_seconds or None,
        parameters=facts.parameters,
        trainable_parameters=facts.trainable_parameters,
        model_bytes=facts.model_bytes,
    )
    if scores is None:
        return row
    return replace(
        row,
        test_loss=scores.loss,
        test_accuracy=scores.accuracy,
        test_balanced_accuracy=scores.balanced_accuracy,
        test_macro_f1=scores.macro_f1,
        test_per_class_recall=scores.per_class_recall,
    )


def _cost_usd(result: TrialResult, price_per_hour_usd: float | None) -> float | None:
    """Return the trial's standalone cost, or None where the price is unknown."""
    if price_per_hour_usd is None or result.instance_type is None:
        return None
    priced = add_cost(pd.DataFrame([asdict(result)]), {result.instance_type: price_per_hour_usd})
    cost = float(priced["standalone_cost_usd"].item())
    return None if math.isnan(cost) else cost


def _predictions(images: ImageData, finished: Finished) -> Predictions | None:
    if images.test is None or finished.predictions is None:
        return None
    return Predictions(
        images=images.test.names,
        labels=images.test.labels,
        predicted=finished.predictions.argmax(axis=1).astype(np.int64),
        probabilities=finished.predictions,
    )
