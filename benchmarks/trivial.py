"""Trials that cost next to nothing, so that what is left is raybench's own cost of running them.

In: how many trials, and epochs of each. Out: the trials, real ones as far as scheduling and results can tell, and the
function that takes the place of training (`Settings.execute`) and writes their rows.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmarks.baselines.trivial_work import work
from raybench.experiment import parse_experiment
from raybench.records import (
    Allocation,
    DatasetFacts,
    EpochRecord,
    Facts,
    Status,
    Trial,
    TrialResult,
    Verdict,
    WeightsFacts,
)
from raybench.results import read_trial, write_trial
from raybench.scheduling.tune import Outcome
from raybench.trials import expand, first_row

EXECUTE = "benchmarks.trivial:run"
ENDED = {Status.COMPLETED, Status.STOPPED}
MODELS = ["resnet8", "resnet20", "resnet32", "resnet56"]
STRATEGIES = ["linear-probe", "linear-probe+augment", "fine-tune", "fine-tune+augment"]
FACTS = Facts(
    datasets={
        "digits": DatasetFacts(
            name="digits",
            fingerprint="trivial",
            classes=tuple("0123456789"),
            train_images=1197,
            val_images=300,
            test_images=300,
            train_class_counts=(119,) * 9 + (126,),
        )
    },
    weights={f"{model} random": WeightsFacts(model=model, weights="random", digest="random") for model in MODELS},
)
"""What preflight would say, of images that nobody reads."""


def make_trials(count: int, *, epochs: int) -> list[Trial]:
    """Return that many trials: 16 configurations, and seeds as needed."""
    configurations = len(MODELS) * len(STRATEGIES)
    experiment = parse_experiment(
        {
            "name": "trivial",
            "datasets": [{"name": "digits", "source": "digits", "image_size": 16, "train_sizes": ["all"]}],
            "models": MODELS,
            "weights": ["random"],
            "strategies": STRATEGIES,
            "seeds": list(range(-(-count // configurations))),
            "training": {"epochs": epochs},
        },
        "trivial",
    )
    return expand(experiment, FACTS)[:count]


def check_ended(outcome: Outcome) -> None:
    """Raise RuntimeError where a trial did not end by itself: what was measured then means nothing."""
    lost = [trial_id for trial_id, status in outcome.statuses.items() if status not in ENDED]
    if lost or outcome.problems:
        raise RuntimeError(
            f"{len(lost)} of {len(outcome.statuses)} trials did not end as they should {outcome.problems}"
        )


def run(
    trial: Trial, *, run_dir: Path, allocation: Allocation, on_epoch: Callable[[EpochRecord], Verdict]
) -> TrialResult:
    """Go through a trial's epochs as training does, with `work` in the place of each."""
    existing = read_trial(run_dir, trial.trial_id)
    if existing is not None:
        return existing
    started = time.perf_counter()
    history: list[EpochRecord] = []
    status = Status.COMPLETED
    for number in range(1, trial.epochs + 1):
        history.append(_epoch(trial, number))
        if on_epoch(history[-1]) is Verdict.STOP:
            status = Status.STOPPED
            break
    best = min(history, key=lambda epoch: epoch.val_loss)
    result = replace(
        first_row(trial, status),
        epochs_run=len(history),
        best_epoch=best.epoch,
        train_loss=best.train_loss,
        val_loss=best.val_loss,
        val_accuracy=best.val_accuracy,
        test_accuracy=best.val_accuracy,
        train_seconds=sum(epoch.epoch_seconds for epoch in history),
        wall_seconds=time.perf_counter() - started,
        cpu_share=allocation.cpu_share,
        gpu_fraction=allocation.gpu_fraction,
        node=allocation.node,
        instance_type=allocation.instance_type,
        retries=allocation.retries,
    )
    write_trial(run_dir, result, history, None)
    return result


def _epoch(trial: Trial, number: int) -> EpochRecord:
    started = time.perf_counter()
    drawn = work(int(trial.trial_id, 16) + number)
    seconds = time.perf_counter() - started
    return EpochRecord(
        trial_id=trial.trial_id,
        phase=len(trial.strategy.phases),
        epoch=number,
        train_loss=drawn,
        train_accuracy=1 - drawn,
        val_loss=drawn,
        val_accuracy=1 - drawn,
        learning_rate=trial.strategy.phases[-1].learning_rate,
        epoch_seconds=seconds,
        images_per_second=trial.train_size / seconds,
    )
