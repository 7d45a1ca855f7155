"""Which network to take along: a finished run in, the trial of its pick out.

The pick is a configuration; of its trials, one a seed, the one with the lowest val loss is taken. The test split has no
part in that choice, or its accuracy would promise too much.
"""

from pathlib import Path
from typing import Final

from raybench.alike import trials_of
from raybench.api import rank_source
from raybench.errors import RunError
from raybench.foreign import load_sources
from raybench.formats import joined
from raybench.records import Status, Trial
from raybench.runs import Run, find_trial, open_run

PICK: Final = "pick"
"""What stands for the id of a trial; an id has the digits 0 to 9 and a to f."""


def chosen_trial(run_dir: str | Path, trial_id: str) -> Trial:
    """Return the trial whose id is, or begins with, `trial_id`; of `pick`, the network to take along.

    That is of the dataset's largest train_size that has a pick, as in the report's first lines.

    Raises:
        RunError: there is no such trial, no pick yet, or one for each of several datasets: the error has their ids.

    """
    run = open_run(run_dir)
    if trial_id != PICK:
        return find_trial(run, trial_id)
    found = _picked(run)
    if not found:
        raise RunError(
            f"{run.run_dir}: has no pick yet, since no configuration has completed; 'raybench show {run.run_dir}' "
            "lists its trials"
        )
    if len(found) > 1:
        ids = joined([f"{each} ({dataset})" for dataset, each in found.items()], last="or")
        raise RunError(f"{run.run_dir}: each of its datasets has a pick; give {ids} in its place")
    return find_trial(run, next(iter(found.values())))


def _picked(run: Run) -> dict[str, str]:
    """Return the id of the trial to take, by dataset."""
    source = load_sources([run.run_dir])
    ranking = rank_source(source)
    picks = ranking[ranking["pick"].astype(bool)].sort_values("train_size")
    completed = source.results[source.results["status"] == Status.COMPLETED]
    found: dict[str, str] = {}
    for _, pick in picks.drop_duplicates("dataset", keep="last").iterrows():
        found[str(pick["dataset"])] = str(trials_of(completed, pick).sort_values("val_loss")["trial_id"].iloc[0])
    return found
