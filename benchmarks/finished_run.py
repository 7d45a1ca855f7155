"""A run directory of thousands of finished trials, of which none was trained.

In: how many datasets, training-set sizes, configurations and seeds. Out: a run directory with everything that ranking
reads, written by raybench's own functions: rows, 50 epochs a trial, the predictions of a test split of 300 images.

Accuracies are drawn as those of networks are: configurations differ, seeds of one scatter, images differ in difficulty
and are the same for all.
"""

import zlib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from raybench.choices import Choices
from raybench.cost import SECONDS_PER_HOUR
from raybench.experiment import Experiment, parse_experiment
from raybench.manifest import write_manifest
from raybench.records import DatasetFacts, EpochRecord, Facts, Status, Trial, TrialResult, WeightsFacts
from raybench.results import Predictions, write_trial
from raybench.trials import expand, first_row

EPOCHS = 50
CLASSES = tuple("0123456789")
TEST_IMAGES = 300
VAL_IMAGES = 1000
SMALLEST_SIZE = 100
"""Training images; each further size is twice the one before."""
PRICE_PER_HOUR_USD = 0.40
CPU_SHARE = 0.5
WRITERS = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """How many of everything."""

    datasets: int
    train_sizes: int
    models: int
    strategies: int
    """Learning rates of one strategy."""
    seeds: int

    @property
    def configurations(self) -> int:
        """Of one dataset and size."""
        return self.models * self.strategies

    @property
    def trials(self) -> int:
        """Of all datasets and sizes."""
        return self.datasets * self.train_sizes * self.configurations * self.seeds


def write_run(run_dir: Path, shape: Shape) -> None:
    """Make a run directory of that shape."""
    experiment = experiment_of(shape)
    facts = facts_of(experiment)
    trials = expand(experiment, facts)
    write_manifest(run_dir, experiment, facts, Choices())
    parts = [trials[start::WRITERS] for start in range(WRITERS)]
    with ProcessPoolExecutor(WRITERS, mp_context=get_context("spawn")) as pool:
        list(pool.map(partial(write_trials, run_dir), parts))


def experiment_of(shape: Shape) -> Experiment:
    """Return an experiment of that shape."""
    sizes = [SMALLEST_SIZE * 2**place for place in range(shape.train_sizes)]
    return parse_experiment(
        {
            "name": "finished",
            "datasets": [
                {"name": f"dataset{place}", "source": f"imagefolder:/dataset{place}", "train_sizes": sizes}
                for place in range(shape.datasets)
            ],
            "models": [f"model{place:02d}" for place in range(shape.models)],
            "strategies": [
                {"name": f"rate{place:03d}", "phases": [{"train": "all", "learning_rate": 1e-5 * 1.1**place}]}
                for place in range(shape.strategies)
            ],
            "seeds": list(range(shape.seeds)),
            "training": {"epochs": EPOCHS},
            "scheduler": "none",
            "price_per_hour_usd": {"local": PRICE_PER_HOUR_USD},
        },
        "a generated experiment",
    )


def facts_of(experiment: Experiment) -> Facts:
    """Return what preflight would say, of images that nobody reads."""
    train_images = max(int(size) for dataset in experiment.datasets for size in dataset.train_sizes)
    return Facts(
        datasets={
            dataset.name: DatasetFacts(
                name=dataset.name,
                fingerprint=dataset.name,
                classes=CLASSES,
                train_images=train_images,
                val_images=VAL_IMAGES,
                test_images=TEST_IMAGES,
                train_class_counts=(train_images // len(CLASSES),) * len(CLASSES),
            )
            for dataset in experiment.datasets
        },
        weights={
            f"{model.name} random": WeightsFacts(model=model.name, weights="random", digest="random")
            for model in experiment.models
        },
    )


def write_trials(run_dir: Path, trials: Sequence[Trial]) -> None:
    """Write what each trial would have left."""
    for trial in trials:
        write_trial(run_dir, *outcome(trial))


def outcome(trial: Trial) -> tuple[TrialResult, list[EpochRecord], Predictions]:
    """Return a trial's row, epochs and predictions."""
    own = drawn(trial.trial_id)
    difficulty = drawn(trial.dataset.name).normal(0, 1.5, TEST_IMAGES)
    configuration = drawn(f"{trial.dataset.name} {trial.model.name} {trial.strategy.name}").normal(1.5, 0.4)
    logit = configuration + 0.2 * np.log2(trial.train_size / SMALLEST_SIZE) + own.normal(0, 0.1)
    labels = np.arange(TEST_IMAGES) % len(CLASSES)
    correct = own.random(TEST_IMAGES) < 1 / (1 + np.exp(-logit - difficulty))
    predictions = Predictions(
        images=tuple(f"{CLASSES[label]}/{place:05d}.png" for place, label in enumerate(labels)),
        labels=labels,
        predicted=np.where(correct, labels, (labels + 1) % len(CLASSES)),
        probabilities=own.dirichlet(np.ones(len(CLASSES)), TEST_IMAGES),
    )
    history = epochs_of(trial, own, val_accuracy=float(own.binomial(VAL_IMAGES, 1 / (1 + np.exp(-logit))) / VAL_IMAGES))
    best = min(history, key=lambda epoch: epoch.val_loss)
    seconds = sum(epoch.epoch_seconds for epoch in history)
    recalls = tuple(float(correct[labels == place].mean()) for place in range(len(CLASSES)))
    result = replace(
        first_row(trial, Status.COMPLETED),
        epochs_run=len(history),
        best_epoch=best.epoch,
        train_loss=best.train_loss,
        val_loss=best.val_loss,
        val_accuracy=best.val_accuracy,
        test_loss=best.val_loss,
        test_accuracy=float(correct.mean()),
        test_balanced_accuracy=float(np.mean(recalls)),
        test_macro_f1=float(np.mean(recalls)),
        test_per_class_recall=recalls,
        train_seconds=seconds,
        wall_seconds=seconds,
        gpu_fraction=0.0,
        cpu_share=CPU_SHARE,
        accelerator="cpu",
        instance_type="local",
        node="here",
        standalone_cost_usd=seconds * CPU_SHARE * PRICE_PER_HOUR_USD / SECONDS_PER_HOUR,
    )
    return result, history, predictions


def epochs_of(trial: Trial, own: np.random.Generator, *, val_accuracy: float) -> list[EpochRecord]:
    """Return epochs whose losses fall."""
    losses = 2 * np.exp(-np.arange(EPOCHS) / 10) + 0.1 * own.random(EPOCHS)
    return [
        EpochRecord(
            trial_id=trial.trial_id,
            phase=1,
            epoch=place + 1,
            train_loss=float(loss) / 2,
            train_accuracy=val_accuracy,
            val_loss=float(loss),
            val_accuracy=val_accuracy,
            learning_rate=trial.strategy.phases[0].learning_rate,
            epoch_seconds=float(seconds),
            images_per_second=float(trial.train_size / seconds),
        )
        for place, (loss, seconds) in enumerate(zip(losses, own.gamma(10, 1, EPOCHS), strict=True))
    ]


def drawn(name: str) -> np.random.Generator:
    """Return the generator of what belongs to a name."""
    return np.random.default_rng(zlib.crc32(name.encode()))
