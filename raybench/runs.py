"""A run directory, opened: what it is a run of, and its tables.

In: the path of a run directory. Out: a `Run`.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from raybench.cost import reprice
from raybench.errors import RunError
from raybench.experiment import Experiment
from raybench.manifest import Manifest, read_manifest
from raybench.mirror import opened
from raybench.prices import per_hour
from raybench.records import Facts, Status, Trial
from raybench.results import finished_trial_ids, load_results, match_trials
from raybench.trials import searches_of
from raybench.tries import charge_search, search_table

RUNS = "runs"
"""Folder of run directories, below the current one, where `RUNS_VARIABLE` names none."""
RUNS_VARIABLE = "RAYBENCH_RUNS"
"""Environment variable: folder, or URI of an object store, that run directories lie in."""


def run_directory(name: str) -> Path:
    """Return the folder of an experiment's run directory where the user names none, with its tables there to be read.

    Raises:
        RunError, StorageError: as `raybench.mirror.opened`.

    """
    return opened(f"{(os.environ.get(RUNS_VARIABLE) or RUNS).rstrip('/')}/{name}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A run directory and what it holds."""

    run_dir: Path
    experiment: Experiment
    facts: Facts
    trials: tuple[Trial, ...]
    rates: Mapping[str, float] = field(default_factory=dict)
    """What was chosen where the experiment says `learning_rate: auto`: factors of default rates, by search id."""
    price_per_hour_usd: Mapping[str, float] = field(default_factory=dict)
    """Of a whole machine, by instance type, when the run was last started."""
    interrupted: bool = False
    """Whether Ctrl-C ended it before the last trial."""
    budget_reached: bool = False
    """Whether its budget did."""

    def results(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Return one row a trial of the experiment, unfinished ones included, with all columns or those asked for.

        All of them are those of the results and, where learning rates were searched, what that took.
        """
        ids = {trial.trial_id for trial in self.trials}
        results = match_trials(load_results(self.run_dir, only=ids, columns=columns), self.trials)
        if columns:
            return results
        priced = reprice(results, self.price_per_hour_usd)
        return charge_search(priced, self.run_dir, self.experiment, self.facts, self.price_per_hour_usd)

    def search(self) -> pd.DataFrame:
        """Return one row a configuration and learning rate tried; see `raybench.tries.search_table` for the columns."""
        searches = searches_of(self.experiment, self.facts)
        return search_table(self.run_dir, searches, self.rates, self.price_per_hour_usd)

    @property
    def failed(self) -> int:
        """Number of trials that failed."""
        statuses = finished_trial_ids(self.run_dir)
        return sum(statuses.get(trial.trial_id) is Status.FAILED for trial in self.trials)


def open_run(run_dir: str | Path) -> Run:
    """Return a run as it is on disk. Raises `RunError`."""
    folder = opened(run_dir)
    manifest: Manifest = read_manifest(folder)
    return Run(
        run_dir=folder,
        experiment=manifest.experiment,
        facts=manifest.facts,
        trials=tuple(manifest.trials()),
        rates=manifest.rates,
        price_per_hour_usd=per_hour(manifest.prices),
    )


def find_trial(run: Run, trial_id: str) -> Trial:
    """Return the trial whose id is, or begins with, `trial_id`. Raises `RunError`."""
    found = [trial for trial in run.trials if trial.trial_id.startswith(trial_id)]
    if len(found) == 1 and trial_id:
        return found[0]
    if found:
        raise RunError(f"{run.run_dir}: trial {trial_id!r} could be any of {len(found)}; give more of its id")
    ids = ", ".join(trial.trial_id for trial in run.trials[:3])
    raise RunError(
        f"{run.run_dir}: has no trial {trial_id!r}; its {len(run.trials)} trials are {ids}... "
        f"('raybench show {run.run_dir}' lists them)"
    )
