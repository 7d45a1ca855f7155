"""An experiment and what preflight learned become the list of trials.

In: an `Experiment` and `Facts`. Out: `Trial` records in the order in which they start, each with an
id that is a hash of everything that decides its outcome: resolved phases and training keys, seed,
model, digest of the weights, fingerprint of the dataset and training-set size. Names, paths,
the scheduler, resources and prices are no part of it, so renaming a dataset or moving a folder
never trains anything again. A learning rate that was searched counts as if it had been written down; the tries of the
search are trials as well, on a seed of their own.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter

from raybench.errors import ExperimentError
from raybench.experiment import FILE_SUFFIXES, DatasetConfig, Experiment
from raybench.learning_rates import TUNING_SEED, factors, rates_text, scaled, shortened
from raybench.recipes import Recipe, recipes_of
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

RANDOM: Final = "random"
"""With which the digest of weights begins that each seed draws anew."""
ID_LENGTH = 12
"""Hexadecimal digits of a trial id: 48 bits, one chance in a million of a clash among 20,000 trials."""

UNDECIDED = "auto-"
"""What the ids of trials begin with whose learning rate is not chosen yet."""

_ADAPTER = TypeAdapter(Trial)


@dataclass(frozen=True, kw_only=True, slots=True)
class Configuration:
    """What is ranked: dataset x train size x model x weights x strategy."""

    dataset: DatasetConfig
    train_size: int
    model: ModelSpec
    weights: str
    recipe: Recipe


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """What is tried to find a learning rate for one configuration."""

    search_id: str
    """Hash of what the tries are: configurations that differ elsewhere share a search."""
    configuration: Configuration
    factors: tuple[float, ...]
    """What the default rates are multiplied with, ascending."""
    tries: tuple[Trial, ...]
    """Of each factor."""


def configurations(experiment: Experiment, facts: Facts) -> list[Configuration]:
    """Return every configuration of the experiment, dataset by dataset and size by size.

    Raises:
        ExperimentError: a training-set size is above what there is.

    """
    return [
        Configuration(dataset=dataset, train_size=train_size, model=model, weights=weights, recipe=recipe)
        for dataset in experiment.datasets
        for train_size in _train_sizes(experiment, dataset, facts.datasets[dataset.name])
        for model in model_specs(experiment)
        for weights in experiment.weights
        for recipe in recipes_of(experiment, dataset)
    ]


def searches_of(experiment: Experiment, facts: Facts) -> list[Search]:
    """Return the search of each configuration that has a learning rate `auto`, in the order of `configurations`."""
    return [
        search
        for configuration in configurations(experiment, facts)
        if (search := search_of(experiment, facts, configuration)) is not None
    ]


def search_of(experiment: Experiment, facts: Facts, configuration: Configuration) -> Search | None:
    """Return the search of a configuration; None where all its learning rates are fixed."""
    strategy, searched = configuration.recipe.strategy, configuration.recipe.searched
    if not any(searched):
        return None
    budget = experiment.search_budget()
    grid = factors(budget.values)
    short = replace(strategy, phases=shortened(strategy.phases, budget))
    tries = tuple(
        _trial(
            experiment,
            facts,
            configuration,
            strategy=replace(short, phases=scaled(short.phases, searched, factor)),
            seed=TUNING_SEED,
        )
        for factor in grid
    )
    return Search(
        search_id=_digest([trial.trial_id for trial in tries]),
        configuration=configuration,
        factors=grid,
        tries=tries,
    )


def expand(experiment: Experiment, facts: Facts, rates: Mapping[str, float] | None = None) -> list[Trial]:
    """Return every trial of the experiment, seed by seed.

    Seeds are the outer loop and sizes the next, so that an interrupted run has compared all
    configurations on something before it repeats anything.

    Args:
        experiment: what is compared.
        facts: what preflight learned of its data and weights.
        rates: what was chosen where the experiment says `learning_rate: auto`: factors of the default rates, by search
            id. The trials of a configuration whose search has not ended are there with ids of their own; see
            `is_undecided`.

    Raises:
        ExperimentError: a training-set size is above what there is, or two entries mean the same trial.

    """
    rates = rates or {}
    pairs = [(each, search_of(experiment, facts, each)) for each in configurations(experiment, facts)]
    written = [
        (configuration, search, _as_written(experiment, facts, configuration, seed=seed))
        for seed in experiment.seeds
        for configuration, search in pairs
    ]
    seen: dict[str, Trial] = {}
    for _, _, trial in written:
        twin = seen.setdefault(trial.trial_id, trial)
        if twin is not trial:
            raise ExperimentError(
                f"{describe(trial)} and {describe(twin)} are the same training; leave one of the two entries out"
            )
    trials = []
    for configuration, search, trial in written:
        factor = None if search is None else rates.get(search.search_id)
        if factor is None:
            trials.append(trial)
            continue
        recipe = configuration.recipe
        strategy = replace(recipe.strategy, phases=scaled(recipe.strategy.phases, recipe.searched, factor))
        chosen = _trial(experiment, facts, configuration, strategy=strategy, seed=trial.seed)
        if chosen.trial_id in seen:
            # Another entry has this rate too, given or chosen: each keeps trials of its own.
            chosen = replace(chosen, trial_id=_digest([chosen.trial_id, strategy.name]))
        seen[chosen.trial_id] = chosen
        trials.append(chosen)
    return trials


def is_undecided(trial: Trial) -> bool:
    """Return whether the trial waits for its learning rate: it holds the default one, and is not to be trained."""
    return trial.trial_id.startswith(UNDECIDED)


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
    """Return the configuration, and the seed or what is tried, on one line, for messages."""
    return (
        f"{trial.model.name} {weights_label(trial.weights)} {trial.strategy.name} · "
        f"{trial.dataset.name} {trial.train_size} · {seed_text(trial)}"
    )


def seed_text(trial: Trial) -> str:
    """Return `seed 3`, or of a try, whose seed is always the same, `learning rate 0.003`."""
    if trial.seed != TUNING_SEED:
        return f"seed {trial.seed}"
    return f"learning rate {rates_text([phase.learning_rate for phase in trial.strategy.phases])}"


def learning_rate_cell(trial: Trial) -> float | str | None:
    """Return the rate of all phases, or a text such as `0.001, 1e-05` where they differ; None before one is chosen."""
    if is_undecided(trial):
        return None
    rates = [phase.learning_rate for phase in trial.strategy.phases]
    return rates[0] if len(set(rates)) == 1 else ", ".join(map(str, rates))


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


def _as_written(experiment: Experiment, facts: Facts, configuration: Configuration, *, seed: int) -> Trial:
    """Return a trial as the experiment has it: one whose learning rate is searched has an id that tells of that."""
    recipe = configuration.recipe
    trial = _trial(experiment, facts, configuration, strategy=recipe.strategy, seed=seed)
    if not any(recipe.searched):
        return trial
    return replace(trial, trial_id=UNDECIDED + _digest([trial.trial_id, *recipe.searched]))


def _trial(
    experiment: Experiment, facts: Facts, configuration: Configuration, *, strategy: Strategy, seed: int
) -> Trial:
    config, dataset = experiment.training, configuration.dataset
    settings = TrainingSettings(
        batch_size=config.batch_size,
        label_smoothing=config.label_smoothing,
        class_weights=config.class_weights,
        precision=config.precision,
        deterministic=config.deterministic,
        sync_batchnorm=config.sync_batchnorm,
    )
    unnamed = Trial(
        trial_id="",
        dataset=dataset_spec(dataset),
        train_size=configuration.train_size,
        model=configuration.model,
        weights=configuration.weights,
        strategy=strategy,
        training=settings,
        seed=seed,
    )
    content = {
        "dataset": facts.datasets[dataset.name].fingerprint,
        "weights": facts.weights[f"{configuration.model.name} {configuration.weights}"].digest,
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
    if not content["weights"].startswith(RANDOM):
        identity["head"] = "drawn by seed and backbone"  # by the seed alone, before
    if not trial.training.sync_batchnorm:  # so that trials from before there was this key keep their ids
        del identity["training"]["sync_batchnorm"]
    return _digest(identity)


def _digest(content: Any) -> str:  # noqa: ANN401 - plain JSON values
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:ID_LENGTH]


def to_json(trial: Trial) -> dict[str, Any]:
    """Return the trial as plain JSON values, for Ray's config and the manifest."""
    data: dict[str, Any] = _ADAPTER.dump_python(trial, mode="json")
    return data


def from_json(data: dict[str, Any]) -> Trial:
    """Return the trial that `to_json` wrote."""
    return _ADAPTER.validate_python(data)
