"""The functions for notebooks and scripts; `raybench` itself exports them.

In: paths of run directories or tables. Out: DataFrames, or a `Run`.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from raybench.foreign import Source, load_sources
from raybench.ranking import rank as rank_results
from raybench.results import load_history as history_of
from raybench.results import load_predictions as predictions_of
from raybench.runner import Run, open_run, resume, run

__all__ = [
    "Run",
    "load_history",
    "load_predictions",
    "load_results",
    "load_search",
    "rank",
    "rank_source",
    "resume",
    "run",
]


def load_results(run_dir: str | Path) -> pd.DataFrame:
    """Return one row a trial of the run's experiment as it is now, unfinished ones included.

    Raises:
        RunError: the folder is no run directory, or a file in it cannot be read.

    """
    return open_run(run_dir).results()


def load_history(run_dir: str | Path) -> pd.DataFrame:
    """Return one row a trial and epoch; see `load_results` for which trials, and for the errors."""
    return history_of(run_dir, only=_trial_ids(run_dir))


def load_predictions(run_dir: str | Path) -> pd.DataFrame:
    """Return one row a trial and test image; see `load_results` for which trials, and for the errors."""
    return predictions_of(run_dir, only=_trial_ids(run_dir))


def load_search(run_dir: str | Path) -> pd.DataFrame:
    """Return one row a configuration and learning rate tried, where the experiment says `learning_rate: auto`.

    The columns are those of `raybench.tries.search_table`: the configuration, `factor` of the default rate,
    `learning_rates` of the phases, `outcome`, `val_loss`, `chosen`, `at_edge`, seconds and cost. No rows where all
    rates were fixed. Raises as `load_results`.
    """
    return open_run(run_dir).search()


def _trial_ids(run_dir: str | Path) -> set[str]:
    return {trial.trial_id for trial in open_run(run_dir).trials}


def rank(
    source: str | Path | pd.DataFrame | Sequence[str | Path], *, by: str | None = None, test_images: int | None = None
) -> pd.DataFrame:
    """Rank configurations by accuracy and cost; see `raybench.ranking.rank` for the columns and methods.

    Args:
        source: a run directory, a CSV or Parquet table, several of them, or a DataFrame of results.
        by: column to order by in place of test accuracy.
        test_images: size of the test split, for intervals where each image's outcome is not known.

    Raises:
        InputError: a source cannot be read, or `by` is no column to rank by.

    """
    if isinstance(source, pd.DataFrame):
        return rank_results(source, by=by, test_images=test_images)
    paths = [source] if isinstance(source, str | Path) else list(source)
    return rank_source(load_sources(paths), by=by, test_images=test_images)


def rank_source(source: Source, *, by: str | None = None, test_images: int | None = None) -> pd.DataFrame:
    """Rank what was read from a source, with each image's outcome where it is known."""
    return rank_results(
        source.results,
        by=by,
        outcomes=source.outcomes,
        test_images=source.test_images or test_images,
        val_images=source.val_images,
    )
