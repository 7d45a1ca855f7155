"""A run, a table or a result directory of Ray Tune in; what is asked of it, or one row a trial and epoch, out."""

import math
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from common import labels

from raybench.errors import InputError
from raybench.foreign import Kind, Source, load_source, parse_test_images, with_test_images
from raybench.recognize import parse_columns
from raybench.results import load_history

CURVES = ["train_loss", "val_loss", "train_accuracy", "val_accuracy"]
IDENTITY = ["dataset", "train_size", "model", "weights", "strategy", "seed"]
SourcePath = Annotated[
    Path,
    typer.Argument(metavar="SOURCE", help="Run directory, result directory of Ray Tune, or CSV or Parquet table."),
]
COLUMN = "What a column is called there, as for raybench rank."
ColumnNames = Annotated[list[str] | None, typer.Option("--column", metavar="KEY=NAME", help=COLUMN)]
IMAGES = "Size of the test split, as for raybench rank."
TestImages = Annotated[list[str] | None, typer.Option("--test-images", metavar="[DATASET=]N", help=IMAGES)]


def load_trials(path: Path, columns: list[str] | None = None, test_images: list[str] | None = None) -> Source:
    """Read a source as `raybench rank` does. Raises `InputError`."""
    return with_test_images(load_source(path, parse_columns(columns or ())), parse_test_images(test_images or ()))


def load_epochs(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    """Read one row a trial and epoch, with `CURVES`, `epoch_seconds` and `trial`, its name; notes are in `attrs`.

    Raises `InputError` where the source holds no epochs.
    """
    source = load_trials(path, columns)
    epochs = source.history
    if source.kind is Kind.RUN:
        epochs = source.results[["trial_id", *IDENTITY]].merge(load_history(path), on="trial_id")
    if epochs is None:
        raise InputError(f"{path}: holds no epochs; give a run directory or a table with one row an epoch")
    named = [name for name in IDENTITY if name in epochs]
    tell = [name for name in named if name in {"model", "strategy"} or len(epochs[name].drop_duplicates()) > 1]
    absent = {name: math.nan for name in [*CURVES, "epoch_seconds"] if name not in epochs}
    labelled = epochs.assign(**absent, trial=labels(epochs, tell))
    labelled.attrs["notes"] = source.notes if source.kind is Kind.TUNE else ()
    return labelled
