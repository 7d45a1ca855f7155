"""An experiment's strategies as they apply to a dataset: phases complete, augmentation resolved.

In: an `Experiment` and one of its datasets. Out: `Recipe`s: a `Strategy`, and which of its learning rates are searched.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raybench.experiment import DatasetConfig, Experiment, StrategyConfig
from raybench.learning_rates import with_default_rates
from raybench.records import Strategy
from raybench.strategies import (
    AUGMENT_SUFFIX,
    BUILT_IN,
    base_name,
    check_policy,
    complete_phases,
    dataset_policy,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """A strategy on a dataset."""

    strategy: Strategy
    """With the default learning rate where one is searched."""
    searched: tuple[bool, ...]
    """Of each phase: whether its learning rate is `auto`."""


def recipes_of(experiment: Experiment, dataset: DatasetConfig) -> list[Recipe]:
    """Return the strategies in the order of the file.

    Raises:
        ExperimentError: a strategy asks for augmentation that the dataset turns off.

    """
    defaults = experiment.training.phase_defaults()
    spelled = {part.name: part for part in experiment.strategies if part.phases is not None}
    recipes = []
    for part in experiment.strategies:
        written = _written_phases(part, spelled)
        phases, searched = with_default_rates(
            BUILT_IN[base_name(part.name)] if written is None else written, defaults, built_in=written is None
        )
        strategy = Strategy(
            name=part.name,
            augmentation=_augmentation(part, spelled.get(base_name(part.name), part), dataset),
            phases=complete_phases(phases, defaults),
        )
        recipes.append(Recipe(strategy=strategy, searched=searched))
    return recipes


def strategies_of(experiment: Experiment, dataset: DatasetConfig) -> list[Strategy]:
    """Return the strategies of `recipes_of`, with the errors that it raises."""
    return [recipe.strategy for recipe in recipes_of(experiment, dataset)]


def _written_phases(part: StrategyConfig, spelled: Mapping[str, StrategyConfig]) -> list[dict[str, Any]] | None:
    """Return the phases that the experiment spells out for a strategy or its twin without augmentation, or None."""
    for name in (part.name, base_name(part.name)):
        phases = spelled[name].phases if name in spelled else None
        if phases is not None:
            return [phase.model_dump(exclude_unset=True) for phase in phases]
    return None


def _augmentation(part: StrategyConfig, base: StrategyConfig, dataset: DatasetConfig) -> str:
    asked: bool | str = part.augment or base.augment
    if isinstance(asked, str):
        return dataset_policy(asked, dataset.source)
    if asked or part.name.endswith(AUGMENT_SUFFIX):
        check_policy(dataset.augmentation, part.name, dataset.name)
        return dataset_policy(dataset.augmentation, dataset.source)
    return "none"
