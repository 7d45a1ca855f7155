"""Whether trials took what had been measured: the rows of a run in, a ratio beside the one that was quoted out.

Seconds in rows are those of a trial beside its neighbours; what it takes alone follows from measured seconds an image
(`raybench.pace`). Their ratio is above what neighbours explain where something else used the machine, or where it was
measured while the machine had less to do.

Covered: trials and tries that completed with both known. Not covered: what lies between trials.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from raybench.choices import step_key
from raybench.experiment import Experiment
from raybench.quote import Quote
from raybench.records import Facts, Status, Trial
from raybench.results import RESULTS_ORDER, load_results
from raybench.trials import searches_of
from raybench.tries import FOLDER

_READ: Final = (*RESULTS_ORDER, "trial_id", "status", "train_seconds", "standalone_seconds")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialPace:
    """How long trials took."""

    ratio: float
    """Times what was measured alone, all of them together."""
    expected: float
    """Of neighbours, as the quote had it."""


def trial_pace(
    run_dir: Path, experiment: Experiment, facts: Facts, trials: Sequence[Trial], quote: Quote | None
) -> TrialPace | None:
    """Return how long the trials of a run, and its tries, took; None where nothing was measured of them or expected."""
    if quote is None or quote.slowdown is None:
        return None
    tries = [trial for search in searches_of(experiment, facts) for trial in search.tries]
    took = alone = expected = 0.0
    for trial, seconds, standalone in _timed({run_dir: trials, run_dir / FOLDER: tries}):
        took += seconds
        alone += standalone
        expected += standalone * quote.slowdown.get(step_key(trial), 1.0)
    return TrialPace(ratio=took / alone, expected=expected / alone) if alone else None


def _timed(asked_in: Mapping[Path, Sequence[Trial]]) -> Iterator[tuple[Trial, float, float]]:
    """Each trial of these folders that completed, its seconds, and those measured alone."""
    for folder, asked in asked_in.items():
        if not (folder / "results").is_dir():
            continue
        by_id = {trial.trial_id: trial for trial in asked}
        rows = load_results(folder, only=by_id, columns=_READ)
        known = rows[rows["status"].eq(Status.COMPLETED)].dropna(subset=["train_seconds", "standalone_seconds"])
        for row in known.itertuples():
            yield by_id[str(row.trial_id)], float(str(row.train_seconds)), float(str(row.standalone_seconds))
