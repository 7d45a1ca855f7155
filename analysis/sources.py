"""A run, a table or a result directory of Ray Tune in; one row a trial, or one row a trial and epoch, out."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from common import labels
from tune_results import read_tune_results, trial_folders

from raybench.errors import InputError
from raybench.foreign import METRIC_WORDS, SETTINGS_WITH_METRIC_WORDS, Kind, Source, load_source, read_table
from raybench.ranking import ABSENT
from raybench.results import load_history

CURVES = ["train_loss", "val_loss", "train_accuracy", "val_accuracy"]
NO_NAMES = {"phase", "status", "trial_id"}
COLUMNS = ABSENT | dict.fromkeys(["test_accuracy", "val_accuracy", "train_seconds"], math.nan)
"""What stands for a column that a table does not have."""
SourcePath = Annotated[
    Path,
    typer.Argument(metavar="SOURCE", help="Run directory, result directory of Ray Tune, or CSV or Parquet table."),
]


def load_trials(path: Path) -> Source:
    """Read one row a trial, as `raybench.foreign.load_source` does, with all of `COLUMNS`. Raises `InputError`."""
    if not trial_folders(path):
        source = load_source(path)
        absent = {name: value for name, value in COLUMNS.items() if name not in source.results}
        return replace(source, results=source.results.assign(**absent))
    history = read_tune_results(path)
    if history[["test_accuracy", "val_accuracy"]].isna().all(axis=None):
        raise InputError(f"{path}: no accuracy among what its trials report; report val_accuracy or test_accuracy")
    trials = pd.DataFrame([_best_epoch(epochs) for _, epochs in history.groupby("trial_id")])
    return Source(kind=Kind.RESULTS, name=path.resolve().name, results=trials, notes=history.attrs["notes"])


def _best_epoch(epochs: pd.DataFrame) -> pd.Series:
    """Return the epoch with the lowest val loss, else the highest val accuracy; what it lacks is the next best's."""
    keys = epochs[["val_loss"]].assign(error=-epochs["val_accuracy"], last=-epochs["epoch"])
    best = epochs.loc[keys.sort_values(["val_loss", "error", "last"]).index].bfill().iloc[0].copy()
    best["train_seconds"] = epochs["epoch_seconds"].sum(min_count=1)
    best["epochs_run"] = epochs["epoch"].max()
    return best


def load_epochs(path: Path) -> pd.DataFrame:
    """Read one row a trial and epoch, with `CURVES`, `epoch_seconds` and `trial`, its name; notes are in `attrs`.

    Raises `InputError` where the source holds no epochs.
    """
    epochs = _epochs(path)
    named = [name for name in map(str, epochs) if _is_setting(name)]
    tell = [name for name in named if name in {"model", "strategy"} or len(epochs[name].drop_duplicates()) > 1]
    absent = {name: math.nan for name in [*CURVES, "epoch_seconds"] if name not in epochs}
    labelled = epochs.assign(**absent, trial=labels(epochs, tell))
    labelled.attrs["notes"] = epochs.attrs.get("notes", ())
    return labelled


def _is_setting(name: str) -> bool:
    """Tell what names a trial from what was measured, as `raybench.foreign` does."""
    measured = not METRIC_WORDS.isdisjoint(name.lower().split("_")) and name not in SETTINGS_WITH_METRIC_WORDS
    return not measured and name not in NO_NAMES and not name.startswith("published_")


def _epochs(path: Path) -> pd.DataFrame:
    if trial_folders(path):
        return read_tune_results(path)
    source = load_source(path)
    if source.kind is Kind.RUN:
        identity = ["trial_id", "dataset", "train_size", "model", "weights", "strategy", "seed"]
        return source.results[identity].merge(load_history(path).drop(columns="learning_rate"), on="trial_id")
    if source.kind is Kind.RESULTS:
        raise InputError(f"{path}: holds no epochs; give a run directory or a table with one row an epoch")
    return read_table(path)
