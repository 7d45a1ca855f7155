"""An experiment and what preflight learned become the list of trials.

In: an `Experiment` and `Facts`. Out: `Trial` records in the order in which they start, each with an
id that is a hash of everything that decides its outcome: resolved phases and training keys, seed,
model, digest of the weights, fingerprint of the dataset and training-set size. Names, paths,
the scheduler, resources and prices are no part of it, so renaming a dataset or moving a folder
never trains anything again.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from raybench.errors import ExperimentError
from raybench.experiment import FILE_SUFFIXES, DatasetConfig, Experiment, StrategyConfig
from raybench.records import (
    DatasetFacts,
    DatasetSpec,
    Facts,
    ModelSpec,
    Status,
    Strategy,
    TrainingSettings,
    Trial,
    TrialResult,
)
from raybench.strategies import (
    AUGMENT_SUFFIX,
    BUILT_IN,
    base_name,
    check_policy,
    complete_phases,
    dataset_policy,
)

ID_LENGTH = 12
"""Hexadecimal digits of a trial id: 48 bits, one chance in a million of a clash among 20,000 trials."""

_ADAPTER = TypeAdapter(Trial)


def expand(experiment: Experiment, facts: Facts) -> list[Trial]:
    """Return every trial of the experiment, seed by seed.

    Seeds are the outer loop and sizes the next, so that an interrupted run has compared all
    configurations on something before it repeats anything.

    Raises:
        ExperimentError: a training-set size is above what there is, or two entries mean the same trial.

    """
    trials = [
        _trial(
            experiment,
            facts,
            dataset,
            train_size=train_size,
            model=model,
            weights=weights,
            strategy=strategy,
            seed=seed,
        )
        for seed in experiment.seeds
        for dataset in experiment.datasets
        for train_size in _train_sizes(experiment, dataset, facts.datasets[dataset.name])
        for model in model_specs(experiment)
        for weights in experiment.weights
        for strategy in strategies_of(experiment, dataset)
    ]
    seen: dict[str, Trial] = {}
    for trial in trials:
        twin = seen.setdefault(trial.trial_id, trial)
        if twin is not trial:
            raise ExperimentError(
                f"{describe(trial)} and {describe(twin)} are the same training; leave one of the two entries out"
            )
    return trials


def starting_order(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials in the order in which they are best started: as they are, but for those that could wait.

    Among the trials of a seed and training set, one whose first phase an earlier one trains comes after all others, so
    that it finds that phase done instead of waiting for it.
    """
    blocks: dict[tuple[int, str, int], int] = {}
    first: dict[str, Trial] = {}
    for trial in trials:
        blocks.setdefault(_block(trial), len(blocks))
        if trial.first_phase_id is not None:
            first.setdefault(trial.first_phase_id, trial)
    return sorted(
        trials,
        key=lambda trial: (blocks[_block(trial)], first.get(trial.first_phase_id or "", trial) is not trial),
    )


def _block(trial: Trial) -> tuple[int, str, int]:
    return trial.seed, trial.dataset.name, trial.train_size


def describe(trial: Trial) -> str:
    """Return the configuration and seed on one line, for messages."""
    return (
        f"{trial.model.name} {weights_label(trial.weights)} {trial.strategy.name} · "
        f"{trial.dataset.name} {trial.train_size} · seed {trial.seed}"
    )


def weights_label(weights: str) -> str:
    """Return what tables show: the name of the file for weights from a file, else the choice itself."""
    return Path(weights).name if weights.endswith(FILE_SUFFIXES) else weights


def first_row(trial: Trial, status: Status) -> TrialResult:
    """Return the trial's row of the results table before anything but its status is known."""
    return TrialResult(
        trial_id=trial.trial_id,
        dataset=trial.dataset.name,
        train_size=trial.train_size,
        model=trial.model.name,
        weights=weights_label(trial.weights),
        strategy=trial.strategy.name,
        augmentation=trial.strategy.augmentation,
        seed=trial.seed,
        status=status,
    )


def group_of(trial: Trial, group_by: tuple[str, ...]) -> str:
    """Return the key of the trials that may stop one another, such as `fashion-mnist/833/0`."""
    columns: dict[str, str] = {
        "dataset": trial.dataset.name,
        "train_size": str(trial.train_size),
        "seed": str(trial.seed),
        "model": trial.model.name,
        "weights": weights_label(trial.weights),
        "strategy": trial.strategy.name,
    }
    return "/".join(columns[column] for column in group_by)


def dataset_spec(config: DatasetConfig) -> DatasetSpec:
    """Return the part of a dataset's entry that decides its images."""
    return DatasetSpec(
        name=config.name,
        source=config.source,
        root=config.root,
        image_size=config.image_size,
        val_size=config.val_size,
        on_bad_image=config.on_bad_image,
    )


def model_specs(experiment: Experiment) -> list[ModelSpec]:
    """Return the models in the order of the file."""
    return [ModelSpec(name=model.name, head=model.head) for model in experiment.models]


def strategies_of(experiment: Experiment, dataset: DatasetConfig) -> list[Strategy]:
    """Return the strategies as they apply to a dataset: phases complete, augmentation resolved.

    Raises:
        ExperimentError: a strategy asks for augmentation that the dataset turns off.

    """
    defaults = experiment.training.phase_defaults()
    spelled = {part.name: part for part in experiment.strategies if part.phases is not None}
    return [
        Strategy(
            name=part.name,
            augmentation=_augmentation(part, spelled.get(base_name(part.name), part), dataset),
            phases=complete_phases(_partial_phases(part, spelled), defaults),
        )
        for part in experiment.strategies
    ]


def _partial_phases(part: StrategyConfig, spelled: dict[str, StrategyConfig]) -> list[dict[str, Any]]:
    for name in (part.name, base_name(part.name)):
        phases = spelled[name].phases if name in spelled else None
        if phases is not None:
            return [phase.model_dump(exclude_unset=True) for phase in phases]
    return [dict(phase) for phase in BUILT_IN[base_name(part.name)]]


def _augmentation(part: StrategyConfig, base: StrategyConfig, dataset: DatasetConfig) -> str:
    asked: bool | str = part.augment or base.augment
    if isinstance(asked, str):
        return dataset_policy(asked, dataset.source)
    if asked or part.name.endswith(AUGMENT_SUFFIX):
        check_policy(dataset.augmentation, part.name, dataset.name)
        return dataset_policy(dataset.augmentation, dataset.source)
    return "none"


def _train_sizes(experiment: Experiment, dataset: DatasetConfig, facts: DatasetFacts) -> list[int]:
    index = experiment.datasets.index(dataset)
    sizes = []
    for place, asked in enumerate(dataset.train_sizes):
        key = f"datasets[{index}].train_sizes[{place}]"
        size = facts.train_images if asked == "all" else int(asked)
        if size > facts.train_images:
            raise ExperimentError(
                f"{key}: {size} is more than the {facts.train_images} training images of {dataset.name!r}; "
                f"give a number up to {facts.train_images}, or all"
            )
        if size < len(facts.classes):
            raise ExperimentError(
                f"{key}: {size} training images cannot hold all {len(facts.classes)} classes of {dataset.name!r}; "
                f"give at least {len(facts.classes)}"
            )
        if size in sizes:
            raise ExperimentError(f"{key}: {asked!r} means {size} images, which stands there already; leave one out")
        sizes.append(size)
    return sizes


def _trial(
    experiment: Experiment,
    facts: Facts,
    dataset: DatasetConfig,
    *,
    train_size: int,
    model: ModelSpec,
    weights: str,
    strategy: Strategy,
    seed: int,
) -> Trial:
    config = experiment.training
    settings = TrainingSettings(
        batch_size=config.batch_size,
        label_smoothing=config.label_smoothing,
        class_weights=config.class_weights,
        precision=config.precision,
        deterministic=config.deterministic,
    )
    unnamed = Trial(
        trial_id="",
        dataset=dataset_spec(dataset),
        train_size=train_size,
        model=model,
        weights=weights,
        strategy=strategy,
        training=settings,
        seed=seed,
    )
    content = {
        "dataset": facts.datasets[dataset.name].fingerprint,
        "weights": facts.weights[f"{model.name} {weights}"].digest,
    }
    first = strategy.phases[:1]
    probe = replace(unnamed, strategy=replace(strategy, phases=first)) if first[0].train == "head" else None
    return replace(
        unnamed,
        trial_id=_identity(unnamed, content),
        first_phase_id=None if probe is None else _identity(probe, content),
    )


def _identity(trial: Trial, content: Mapping[str, str]) -> str:
    """Return the hash of a trial with its dataset's and weights' names replaced by what identifies their content."""
    identity = {**to_json(trial), **content}
    for name in ("trial_id", "first_phase_id"):
        del identity[name]
    del identity["strategy"]["name"]
    text = json.dumps(identity, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:ID_LENGTH]


def to_json(trial: Trial) -> dict[str, Any]:
    """Return the trial as plain JSON values, for Ray's config and the manifest."""
    data: dict[str, Any] = _ADAPTER.dump_python(trial, mode="json")
    return data


def from_json(data: dict[str, Any]) -> Trial:
    """Return the trial that `to_json` wrote."""
    return _ADAPTER.validate_python(data)
