"""What a run would do: trials, groups, what is done already, and what the test split can tell apart.

In: an experiment, what preflight learned, the run directory where there is one, and what other runs have completed.
Out: a `Plan`. Nothing is started.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from raybench.budget import Budget, spent_before
from raybench.checkpoint_paths import with_state
from raybench.experiment import DatasetConfig, Experiment
from raybench.manifest import MANIFEST, rates_before
from raybench.prices import per_hour, prices
from raybench.records import DatasetFacts, Facts, ResourceRequest, Status, Trial
from raybench.results import finished_trial_ids
from raybench.spending import Books
from raybench.stats import detectable_gap
from raybench.trials import expand, group_of
from raybench.tries import SearchPlan, plan_search


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetPlan:
    """One dataset of the plan."""

    facts: DatasetFacts
    image_size_px: int
    """Width and height that images are resized to."""
    train_sizes: tuple[int, ...]
    detectable_gap: float | None
    """Smallest difference in accuracy, as a fraction, that the test split can tell apart; None without one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TakenOver:
    """What another run has completed of what is to go."""

    trials: frozenset[str] = frozenset()
    """Their ids."""
    tries: frozenset[str] = frozenset()
    """Likewise, of learning rates."""
    rates: Mapping[str, float] = field(default_factory=dict)
    """What follows from these tries: factors of default rates, by search id."""


NOTHING_TAKEN: Mapping[str, TakenOver] = {}


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a run would do."""

    name: str
    trials: tuple[Trial, ...]
    configurations: int
    groups: int
    """Sets of trials that may stop one another; 0 without ASHA."""
    grace_period: int
    """Epochs of the last phase before ASHA decides; 0 without ASHA."""
    done: dict[Status, int]
    """Trials that have ended, by status."""
    begun: int
    """Trials that have begun and have not ended; they go on from their checkpoints."""
    taken_over: Mapping[str, TakenOver]
    """What would not be trained because another run has completed it, by that run's directory."""
    request: ResourceRequest
    datasets: tuple[DatasetPlan, ...]
    most_epochs: int
    """Epochs that trials have to go, where nothing ends early."""
    budget: str | None
    """What the run may spend and has spent, in words; None where nothing limits it."""
    search: SearchPlan | None
    """What choosing learning rates takes before the trials; None where all of them are fixed."""


def make_plan(
    experiment: Experiment, facts: Facts, run_dir: Path, taken_over: Mapping[str, TakenOver] = NOTHING_TAKEN
) -> Plan:
    """Return what running the experiment on this run directory would do, `taken_over` being what other runs give."""
    rates = rates_before(run_dir)
    for each in taken_over.values():
        rates = {**each.rates, **rates}
    trials = expand(experiment, facts, rates)
    statuses = finished_trial_ids(run_dir) if (run_dir / MANIFEST).exists() else {}
    ended = {trial_id: status for trial_id, status in statuses.items() if status is not Status.UNFINISHED}
    to_go = [trial for trial in trials if trial.trial_id not in ended]
    states = with_state(run_dir, [trial.trial_id for trial in to_go])
    taken = {trial_id for each in taken_over.values() for trial_id in each.trials}
    asha = experiment.asha_settings()
    configurations = {
        (trial.dataset.name, trial.train_size, trial.model.name, trial.weights, trial.strategy.name) for trial in trials
    }
    return Plan(
        name=experiment.name,
        trials=tuple(trials),
        configurations=len(configurations),
        groups=len({group_of(trial, asha.group_by) for trial in trials}) if asha else 0,
        grace_period=asha.grace_period if asha else 0,
        done=dict(Counter(ended[trial.trial_id] for trial in trials if trial.trial_id in ended)),
        begun=sum(trial.trial_id in statuses or trial.trial_id in states for trial in to_go),
        taken_over=taken_over,
        request=experiment.resource_request(),
        datasets=tuple(_dataset_plan(each, facts.datasets[each.name], trials) for each in experiment.datasets),
        most_epochs=sum(
            trial.epochs - (_epochs_done(run_dir, trial.trial_id) if trial.trial_id in states else 0)
            for trial in to_go
            if trial.trial_id not in taken
        ),
        budget=_budget(experiment, run_dir),
        search=plan_search(experiment, facts, run_dir, rates),
    )


def _epochs_done(run_dir: Path, trial_id: str) -> int:
    from raybench.training.execute import epochs_done  # noqa: PLC0415 - torch, which preflight has imported

    return epochs_done(run_dir, trial_id)


def _budget(experiment: Experiment, run_dir: Path) -> str | None:
    asked = experiment.budget
    if asked is None:
        return None
    earlier = spent_before(run_dir, per_hour(prices(experiment.price_per_hour_usd)))
    return Budget(usd=asked.usd, hours=asked.hours, earlier=earlier, books=Books()).text()


def _dataset_plan(dataset: DatasetConfig, facts: DatasetFacts, trials: list[Trial]) -> DatasetPlan:
    sizes = {trial.train_size: None for trial in trials if trial.dataset.name == dataset.name}
    return DatasetPlan(
        facts=facts,
        image_size_px=dataset.image_size,
        train_sizes=tuple(sizes),
        detectable_gap=detectable_gap(facts.test_images) if facts.test_images else None,
    )
