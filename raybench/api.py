"""The functions for notebooks and scripts; `raybench` itself exports them.

In: paths of run directories or tables. Out: DataFrames, or a `Run`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from raybench.curves import more_images as more_images_of
from raybench.curves import predictions as predictions_at
from raybench.foreign import Kind, Source, load_sources, with_test_images
from raybench.gains import average_gains, gains
from raybench.ranking import rank as rank_results
from raybench.recognize import SHORT, parse_columns
from raybench.results import load_history as history_of
from raybench.results import load_predictions as predictions_of
from raybench.runner import resume, run
from raybench.runs import Run, open_run
from raybench.value import Charge, budgets, value

__all__ = [
    "Run",
    "budgets",
    "load_history",
    "load_predictions",
    "load_results",
    "load_search",
    "mean_gains",
    "more_images",
    "pair_gains",
    "predict_sizes",
    "rank",
    "rank_source",
    "resume",
    "run",
    "weigh",
]

Data = str | Path | pd.DataFrame | Source | Sequence[str | Path]
"""Whatever can be ranked."""
TestImages = int | Mapping[str, int] | None
Names = Mapping[str, str] | None


def load_results(run_dir: str | Path) -> pd.DataFrame:
    """Return one row a trial of the run's experiment as it is now, unfinished ones included.

    Raises:
        RunError: the folder is no run directory, or a file in it cannot be read.

    """
    return open_run(run_dir).results()


def load_history(run_dir: str | Path) -> pd.DataFrame:
    """Return one row a trial and epoch; see `load_results` for which trials, and for the errors."""
    run = open_run(run_dir)
    return history_of(run.run_dir, only=_trial_ids(run))


def load_predictions(run_dir: str | Path) -> pd.DataFrame:
    """Return one row a trial and test image; see `load_results` for which trials, and for the errors."""
    run = open_run(run_dir)
    return predictions_of(run.run_dir, only=_trial_ids(run))


def load_search(run_dir: str | Path) -> pd.DataFrame:
    """Return one row a configuration and learning rate tried, where the experiment says `learning_rate: auto`.

    The columns are those of `raybench.tries.search_table`: the configuration, `factor` of the default rate,
    `learning_rates` of the phases, `outcome`, `val_loss`, `chosen`, `at_edge`, seconds and cost. No rows where all
    rates were fixed. Raises as `load_results`.
    """
    return open_run(run_dir).search()


def _trial_ids(run: Run) -> set[str]:
    return {trial.trial_id for trial in run.trials}


def rank(source: Data, *, by: str | None = None, test_images: TestImages = None, columns: Names = None) -> pd.DataFrame:
    """Rank configurations by accuracy and cost; see `raybench.ranking.rank` for the columns and methods.

    Args:
        source: a run directory, a result directory of Ray Tune, a CSV or Parquet table, several of them, a
            DataFrame of results, or a `raybench.foreign.Source` that was loaded before.
        by: column to order by in place of test accuracy.
        test_images: size of the test split, or of each dataset's, for intervals where each image's outcome is not
            known.
        columns: the source's own names of columns, by raybench's: `{"test_accuracy": "mean_acc"}`.

    Raises:
        InputError: a source cannot be read, or `by` is no column to rank by.

    """
    return rank_source(_loaded(source, test_images, columns), by=by)


def rank_source(source: Source, *, by: str | None = None) -> pd.DataFrame:
    """Rank what was read from a source, with each image's outcome where it is known.

    Where it tells a val loss and no accuracy at all, that is what it is ordered by.
    """
    results = source.results
    accuracies = [results[name] for name in ("test_accuracy", "val_accuracy") if name in results]
    if by is None and "val_loss" in results and all(each.isna().all() for each in accuracies):
        by = "val_loss" if results["val_loss"].notna().any() else None
    return rank_results(
        results, by=by, outcomes=source.outcomes, test_images=source.test_images, val_images=source.val_images
    )


def weigh(
    source: Data,
    *,
    charge: str = Charge.TRAINING,
    predictions: int | None = None,
    price_per_hour_usd: float | None = None,
    across_sizes: bool = False,
    test_images: TestImages = None,
    columns: Names = None,
) -> pd.DataFrame:
    """Weigh accuracy against cost: frontier, pick, ties; see `raybench.value.value`, and `rank` for the source."""
    loaded = _loaded(source, test_images, columns)
    return value(
        loaded.results,
        charge=charge,
        predictions=predictions,
        price_per_hour_usd=price_per_hour_usd,
        across_sizes=across_sizes,
        outcomes=loaded.outcomes,
        test_images=loaded.test_images,
        val_images=loaded.val_images,
    )


def pair_gains(source: Data, *, test_images: TestImages = None, columns: Names = None) -> pd.DataFrame:
    """Say what each choice buys, pair by pair; see `raybench.gains.gains`, and `rank` for the source."""
    loaded = _loaded(source, test_images, columns)
    return gains(loaded.results, outcomes=loaded.outcomes, test_images=loaded.test_images)


def mean_gains(source: Data, *, test_images: TestImages = None, columns: Names = None) -> pd.DataFrame:
    """Say what each choice buys on average; see `raybench.gains.average_gains`, and `rank` for the source."""
    loaded = _loaded(source, test_images, columns)
    return average_gains(loaded.results, outcomes=loaded.outcomes, test_images=loaded.test_images)


def predict_sizes(source: Data, sizes: Sequence[int] = (), *, columns: Names = None) -> pd.DataFrame:
    """Predict accuracies at sizes not run; see `raybench.curves.predictions`, and `rank` for the source."""
    return predictions_at(_loaded(source, None, columns).results, sizes)


def more_images(source: Data, *, points: float = 1.0, columns: Names = None) -> pd.DataFrame:
    """Say how many more images points of accuracy need; see `raybench.curves.more_images`, and `rank`."""
    return more_images_of(_loaded(source, None, columns).results, points=points)


def _loaded(source: Data, test_images: TestImages, columns: Names) -> Source:
    """Read a source, where it is not read yet; a DataFrame of results is one."""
    names = {SHORT.get(key, key): name for key, name in (columns or {}).items()}
    if isinstance(source, Source):
        return with_test_images(source, test_images)
    if isinstance(source, pd.DataFrame):
        named = source.rename(columns={name: key for key, name in names.items()})
        return with_test_images(Source(kind=Kind.RESULTS, name="", results=named, notes=()), test_images)
    paths = [source] if isinstance(source, str | Path) else list(source)
    known = parse_columns([f"{key}={name}" for key, name in names.items()])
    return with_test_images(load_sources(paths, known), test_images)
