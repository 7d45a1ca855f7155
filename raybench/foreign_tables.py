"""A table that someone else wrote in, results with the columns of a ranking out.

A table of results (one row a configuration, or a row a seed) or of epochs, as CSV or Parquet. Columns that are no
metric and that raybench does not know name the strategy. Accuracies in percent are recognised; `published_*` columns
are ignored.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa

from raybench.errors import InputError
from raybench.formats import safe_text
from raybench.ranking import ABSENT, HIGHER_IS_BETTER, RANK_COLUMNS
from raybench.recognize import PLAIN, Columns
from raybench.results import RESULTS_SCHEMA

METRIC_WORDS = frozenset(
    {
        "accuracy", "acc", "loss", "f1", "recall", "precision", "auc", "score", "error", "rank",
        "seconds", "time", "cost", "usd", "price", "bytes", "flops", "parameters", "params", "memory",
        "epoch", "epochs", "iterations", "latency", "rate", "step", "steps", "images",
    },
)  # fmt: skip
"""A column of numbers with one of these words in its name is a metric."""
SETTINGS_WITH_METRIC_WORDS = frozenset({"learning_rate", "dropout_rate", "step_epochs", "warmup_epochs"})
"""Columns that name the strategy all the same."""
READ_COLUMNS = frozenset(HIGHER_IS_BETTER) | frozenset(ABSENT)
MOST_PERCENT = 100.0
MOSTLY = 0.9
"""Share of accuracies above 1 from which on a column is taken to be in percent: a few are mistakes."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Table:
    """What was read from a table."""

    results: pd.DataFrame
    """One row a trial."""
    epochs: pd.DataFrame | None
    """One row a trial and epoch, where that is what the table holds."""
    notes: tuple[str, ...]
    """What a reader must know of how the results were made from it."""


def load_table(path: Path, columns: Columns | None = None) -> Table:
    """Read a results table or a history table.

    Raises:
        InputError: there is no such file, it cannot be read, or columns are missing (named).
    """
    table = _renamed(read_table(path), columns or Columns(), path)
    history = "epoch" in table and "test_accuracy" not in table
    required = ["model", "epoch", "val_loss", "val_accuracy"] if history else ["model", "test_accuracy"]
    missing = [column for column in required if column not in table]
    if missing:
        raise InputError(
            f"{path}: no column {', '.join(map(repr, missing))}; a results table needs 'model' and 'test_accuracy', a "
            "history table 'model', 'epoch', 'val_loss' and 'val_accuracy'; there are "
            f"{', '.join(map(repr, table))}: name one with --column {missing[0]}=NAME",
        )
    if table.empty:
        raise InputError(f"{path}: no rows; give a table with one row a configuration, seed or epoch")
    checked = _checked(table, path)
    named = _named(checked, path)
    notes = tuple(checked.attrs.get("notes", ()))
    epochs = named if history else None
    if history:
        named = _best_epochs(named)
        notes += (
            "From epochs: val loss is the lowest of any epoch and val accuracy the highest, not of the same epoch.",
        )
    _check_unique(named, path)
    return Table(results=named, epochs=epochs, notes=notes)


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV or Parquet file.

    Raises:
        InputError: it is missing, of another kind, or cannot be read.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such file or folder; give a run directory, or a CSV or Parquet table")
    suffix = path.suffix.lower()
    if suffix not in {".csv", ".parquet"}:
        raise InputError(f"{path}: {path.suffix or 'no suffix'!s} cannot be read; give a .csv or .parquet file")
    try:
        table = pd.read_csv(path) if suffix == ".csv" else pd.read_parquet(path)
    except (ValueError, OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from error
    return table.rename(columns=lambda name: str(name).strip())


def _renamed(table: pd.DataFrame, columns: Columns, path: Path) -> pd.DataFrame:
    """The table with the columns that a reader named, under the names that raybench knows, and a note of it."""
    for key, name in columns.names.items():
        if name not in table:
            there = ", ".join(map(repr, table))
            raise InputError(f"{path}: --column {key}={name}: there is no such column; there are {there}")
    others = table.drop(columns=[key for key, name in columns.names.items() if key in table and key != name])
    renamed = others.rename(columns={name: key for key, name in columns.names.items()})
    if columns.names:
        renamed.attrs["notes"] = (
            f"Read so: {', '.join(f'{key} from {safe_text(name)}' for key, name in columns.names.items())}.",
        )
    return renamed


def _checked(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The table without published ranks and the like, its metrics being numbers and its accuracies fractions."""
    table = table[[column for column in table.columns if not column.startswith("published_")]].copy()
    in_percent = []
    if table["model"].isna().any():
        raise InputError(f"{path}: row {_row_of(table['model'].isna())}: model is empty; name the model in every row")
    integers = [column for column in ("train_size", "seed", "epoch") if column in table]
    for column in [*(name for name in table.columns if name in HIGHER_IS_BETTER), *integers]:
        numbers = pd.to_numeric(table[column], errors="coerce")
        wrong = numbers.isna() & table[column].notna()
        accepted = "a number"
        if column in integers:
            wrong |= numbers.notna() & (numbers % 1 != 0)
            accepted = "a whole number"
        elif column.endswith("_accuracy"):
            if (numbers.dropna() > 1).mean() >= MOSTLY:
                numbers /= MOST_PERCENT
                accepted = "a percentage from 0 to 100"
                in_percent.append(column)
            else:
                accepted = "a fraction from 0 to 1"
            wrong |= (numbers < 0) | (numbers > 1)
        if wrong.any():
            value = table[column][wrong].iloc[0]
            raise InputError(f"{path}: row {_row_of(wrong)}: {column} is {value!s}; give {accepted}")
        table[column] = numbers.astype("Int64") if column in integers else numbers.astype(float)
    if in_percent:
        table.attrs["notes"] = (*table.attrs.get("notes", ()), f"In percent, and read so: {', '.join(in_percent)}.")
    return table


def _row_of(wrong: pd.Series) -> int:
    """Row of the first True, counted as a reader of the file does, from 1 without the header."""
    return int(wrong.to_numpy().argmax()) + 1


def _named(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The table with a dataset and a strategy in every row."""
    known = {"model", "epoch"}
    if "schema_version" in table:  # rows of a run, written to a file
        known |= set(RESULTS_SCHEMA.names)
    settings = [column for column in table.columns if column not in known and _is_setting(table[column])]
    own = table["strategy"].map(_text) if "strategy" in table else pd.Series("", table.index)
    parts = [own, *(_setting_names(table[column]) for column in settings)]
    names = ["+".join(filter(None, row)) or PLAIN for row in zip(*parts, strict=True)]
    has_names = "strategy" in table or settings
    named = table.drop(columns=settings).assign(strategy=names if has_names else None)
    if "dataset" not in named:
        named["dataset"] = path.stem
    for column in ("dataset", "model", "weights", "trial_id"):
        if column in named:
            named[column] = named[column].map(lambda value: _text(value) or None).astype(object)
    if "seed" in named and named["seed"].isna().any():
        raise InputError(
            f"{path}: row {_row_of(named['seed'].isna())}: seed is empty; give a whole number in every row"
        )
    return named


def _is_setting(column: pd.Series) -> bool:
    name = str(column.name)
    if name in READ_COLUMNS or name in RANK_COLUMNS:
        return False  # a ranking that was written to a file can be ranked again
    numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    is_metric = numeric and not METRIC_WORDS.isdisjoint(name.lower().split("_"))
    return name in SETTINGS_WITH_METRIC_WORDS or not is_metric


def _setting_names(column: pd.Series) -> list[str]:
    """`fine_tuned` where that is true, the value of a text, `dropout=0.5` for a number; nothing where it is not set."""
    name = str(column.name)
    if pd.api.types.is_bool_dtype(column.dropna().infer_objects()):
        return [name if not pd.isna(value) and value else "" for value in column]
    if pd.api.types.is_numeric_dtype(column):
        return ["" if pd.isna(value) else f"{name}={value:g}" for value in column]
    return [_text(value) for value in column]


def _text(value: object) -> str:
    return "" if pd.isna(value) else str(value).strip()  # type: ignore[call-overload]


def _best_epochs(history: pd.DataFrame) -> pd.DataFrame:
    """One row a configuration and seed: lowest val loss, highest val accuracy, epochs, seconds."""
    key = [name for name in ("dataset", "train_size", "model", "weights", "strategy", "seed") if name in history]
    rows = []
    for _, epochs in history.groupby(key, dropna=False, sort=False):
        known = epochs["val_loss"].notna()
        best = epochs.iloc[int(epochs["val_loss"].fillna(math.inf).to_numpy().argmin())]
        row = {name: best[name] for name in [*key, "train_loss"] if name in epochs}
        row |= {
            "val_loss": best["val_loss"],
            "val_accuracy": epochs["val_accuracy"].max(),
            "best_epoch": best["epoch"] if known.any() else pd.NA,
            "epochs_run": epochs["epoch"].max(),
        }
        if "epoch_seconds" in epochs:
            row["train_seconds"] = epochs["epoch_seconds"].sum(min_count=1)
        rows.append(row)
    return pd.DataFrame(rows)


def _check_unique(results: pd.DataFrame, path: Path) -> None:
    key = [name for name in ("dataset", "train_size", "model", "weights", "strategy", "seed") if name in results]
    twice = results.duplicated(key)
    if twice.any():
        first = int(twice.to_numpy().argmax())
        same = results[key].iloc[first]
        label = ", ".join(f"{name} {same[name]}" for name in key if not pd.isna(same[name]))
        raise InputError(
            f"{path}: row {first + 1} repeats a configuration ({label}); tell rows apart by a 'seed' column, or by a "
            "column that names what differs",
        )
