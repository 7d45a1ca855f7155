"""Run one trial from its record to its rows on disk.

In: a `Trial`, a run directory, what the trial was given of the machine, and a function that is told each
epoch and answers whether to stop. Out: the trial's row, history, predictions and weights, written
atomically; a trial whose row is there already is not trained again.
"""

import math
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from raybench.cache import cache_root
from raybench.cost import add_cost
from raybench.records import Allocation, DatasetSpec, EpochRecord, Status, Trial, TrialResult
from raybench.results import Predictions, read_trial, write_trial
from raybench.training.augment import crops
from raybench.training.checkpoint import FIRST_INTERVAL_SECONDS, Checkpointer, state_path
from raybench.training.data import ImageData, load_images
from raybench.training.feature_cache import FeatureCache
from raybench.training.loop import STATE_VERSION, Finished, Training
from raybench.training.memory import PeakMemory
from raybench.training.process import prepare_process, release_memory
from raybench.training.saved import save_trial
from raybench.trials import first_row

OnEpoch = Callable[[EpochRecord], bool]
"""Told each finished epoch; returns True where the trial is to stop now."""


def run(
    trial: Trial,
    *,
    run_dir: Path,
    allocation: Allocation,
    on_epoch: OnEpoch,
    checkpoint_seconds: float = FIRST_INTERVAL_SECONDS,
) -> TrialResult:
    """Train a trial, or go on with it from its checkpoint, and write its rows.

    `checkpoint_seconds` is the least time between two checkpoints, which grows with what they cost.
    Raises whatever training raises; nothing is written then but the last checkpoint.
    """
    existing = read_trial(run_dir, trial.trial_id)
    if existing is not None and existing.status in {Status.COMPLETED, Status.STOPPED}:
        return existing
    started_at, started = datetime.now(UTC), time.perf_counter()
    device = prepare_process(trial, allocation)
    memory = PeakMemory(device)
    images = _images(
        trial.dataset, with_base=crops(trial.strategy.augmentation), limit_bytes=allocation.cache_limit_bytes
    )
    cache = FeatureCache(root=cache_root(), limit_bytes=allocation.cache_limit_bytes)
    training = Training(trial, images, device=device, tuning=allocation.tuning, cache=cache)
    checkpointer = Checkpointer(state_path(run_dir, trial.trial_id), checkpoint_seconds)
    state = checkpointer.load()
    if state is not None and state["version"] == STATE_VERSION:
        training.load_state(state)
    del state
    status = Status.COMPLETED
    # Epochs that the checkpoint holds are told again: who listens may be a new process.
    for record in chain(tuple(training.history), training):
        if on_epoch(record):
            status = Status.STOPPED
            break
        if checkpointer.due():
            checkpointer.save(training.state())
    finished = training.finish()
    result = replace(
        _result(trial, training, finished, status=status),
        wall_seconds=time.perf_counter() - started,
        started_at=started_at,
        finished_at=datetime.now(UTC),
        peak_memory_bytes=memory.peak_bytes(),
        gpu_fraction=allocation.gpu_fraction,
        cpu_share=allocation.cpu_share,
        accelerator=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        instance_type=allocation.instance_type,
        node=allocation.node or platform.node(),
        retries=allocation.retries,
    )
    result = replace(result, standalone_cost_usd=_cost_usd(result, allocation.price_per_hour_usd))
    save_trial(run_dir, trial, training.network, classes=images.classes, learned=finished.weights)
    write_trial(run_dir, result, training.history, _predictions(images, finished))
    checkpointer.remove()
    del training, finished
    release_memory()
    return result


@lru_cache(maxsize=4)
def _images(spec: DatasetSpec, *, with_base: bool, limit_bytes: int | None) -> ImageData:
    """Open a dataset once a process: trials follow one another in it."""
    return load_images(spec, with_base=with_base, limit_bytes=limit_bytes)


def _result(trial: Trial, training: Training, finished: Finished, *, status: Status) -> TrialResult:
    scores, progress = finished.scores, training.progress
    parameters = list(training.network.module.parameters())
    row = replace(
        first_row(trial, status),
        epochs_run=progress.epoch,
        best_epoch=finished.best.epoch,
        train_loss=finished.best.train_loss,
        val_loss=finished.best.val_loss,
        val_accuracy=finished.best.val_accuracy,
        train_seconds=progress.train_seconds,
        feature_seconds=progress.feature_seconds or None,
        parameters=sum(parameter.numel() for parameter in parameters),
        trainable_parameters=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        model_bytes=sum(tensor.nbytes for tensor in training.network.module.state_dict().values()),
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
