"""What a run would do: trials, groups, what is done already, and what the test split can tell apart.

In: an experiment, what preflight learned, and the run directory where there is one. Out: a `Plan`. Nothing is started.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from raybench.budget import Budget, spent_before
from raybench.experiment import Experiment
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
    train_sizes: tuple[int, ...]
    detectable_gap: float | None
    """Smallest difference in accuracy, as a fraction, that the test split can tell apart; None without one."""


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
    request: ResourceRequest
    datasets: tuple[DatasetPlan, ...]
    most_epochs: int
    """Epochs of all trials that are not done, where nothing ends early."""
    budget: str | None
    """What the run may spend and has spent, in words; None where nothing limits it."""
    search: SearchPlan | None
    """What choosing learning rates takes before the trials; None where all of them are fixed."""


def make_plan(experiment: Experiment, facts: Facts, run_dir: Path) -> Plan:
    """Return what running the experiment on this run directory would do."""
    rates = rates_before(run_dir)
    trials = expand(experiment, facts, rates)
    statuses = finished_trial_ids(run_dir) if (run_dir / MANIFEST).exists() else {}
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
        done=dict(Counter(statuses[trial.trial_id] for trial in trials if trial.trial_id in statuses)),
        request=experiment.resource_request(),
        datasets=tuple(_dataset_plan(dataset, trials) for dataset in facts.datasets.values()),
        most_epochs=sum(trial.epochs for trial in trials if trial.trial_id not in statuses),
        budget=_budget(experiment, run_dir),
        search=plan_search(experiment, facts, run_dir, rates),
    )


def _budget(experiment: Experiment, run_dir: Path) -> str | None:
    asked = experiment.budget
    if asked is None:
        return None
    earlier = spent_before(run_dir, per_hour(prices(experiment.price_per_hour_usd)))
    return Budget(usd=asked.usd, hours=asked.hours, earlier=earlier, books=Books()).text()


def _dataset_plan(facts: DatasetFacts, trials: list[Trial]) -> DatasetPlan:
    sizes = {trial.train_size: None for trial in trials if trial.dataset.name == facts.name}
    return DatasetPlan(
        facts=facts,
        train_sizes=tuple(sizes),
        detectable_gap=detectable_gap(facts.test_images) if facts.test_images else None,
    )
