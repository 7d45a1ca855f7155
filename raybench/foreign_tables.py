"""A table that someone else wrote in, results with the columns of a ranking out.

A table of results (one row a configuration, or a row a seed) or of epochs, as CSV or Parquet. What its columns stand
for is said by a reader or guessed (`raybench.table_columns`), and told in a note. Accuracies in percent are recognised;
`published_*` columns are ignored.
"""

import math
import warnings
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from raybench.errors import InputError
from raybench.formats import joined, safe_text
from raybench.ranking import HIGHER_IS_BETTER
from raybench.recognize import PLAIN, Columns, meanings_of
from raybench.results import RESULTS_SCHEMA
from raybench.table_columns import IGNORED, Reading, counted, is_boolean, is_numeric, read_columns
from raybench.yaml_input import shown

EXPORTED = (*RESULTS_SCHEMA.names, "learning_rate")
"""Columns of a run's rows that were written to a file."""
MOST_PERCENT = 100.0
MOSTLY = 0.9
"""Share of accuracies above 1 from which on a column is taken to be in percent: a few are mistakes."""
KEY = ("dataset", "train_size", "model", "weights", "strategy", "seed")
"""What tells rows of a table of results apart."""
MOST_NAMED = 12
"""Columns named in a note; the rest are counted."""
MOST_NAMED_IN_ERROR = 50
MOST_COLUMNS = 5000
MOST_BYTES = 2**30
"""Of a table, as it lies in a CSV file or in memory."""
LONGEST_REASON = 200
LONGEST_NAME = 10_000
"""Most characters of a model's, dataset's or strategy's name."""
LARGEST_INTEGER = 2**53
"""Up to here, floating-point numbers tell whole ones apart."""
PANDAS_INDEX = "__index_level_"
"""What begins the name under which pandas stores row numbers."""


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
    table = read_table(path)
    given = (columns or Columns()).names
    there = _there(table)
    for key, name in given.items():
        if name not in table:
            raise InputError(f"{path}: --column {key}={name}: there is no such column; there are {there}")
    reading = read_columns(table, given, EXPORTED if "schema_version" in table else ())
    renamed = _renamed(table, reading)
    required = ("model", "epoch", "val_loss", "val_accuracy") if reading.is_history else ("model", "test_accuracy")
    missing = [column for column in required if column not in renamed]
    if missing:
        raise InputError(
            f"{path}: no column {', '.join(map(repr, missing))}; a results table needs 'model' and 'test_accuracy', a "
            "history table 'model', 'epoch', 'val_loss' and 'val_accuracy'; there are "
            f"{there}: name one with --column {missing[0]}=NAME",
        )
    if table.empty:
        raise InputError(f"{path}: no rows; give a table with one row a configuration, seed or epoch")
    checked, in_percent = _checked(renamed, reading, path)
    named, remark = _with_seeds(_named(checked, reading, path), reading)
    epochs = named if reading.is_history else None
    not_read = [name for name in table if name in (*reading.left_over, *(() if remark else reading.repeats))]
    how_read = " ".join(filter(None, [*_how_read(reading, in_percent), remark, *_not_read(not_read, reading)]))
    notes: tuple[str, ...] = (how_read,) if how_read else ()
    if reading.is_history:
        named = _best_epochs(named)
        notes += (
            "From epochs: val loss is the lowest of any epoch and val accuracy the highest, not of the same epoch.",
        )
    _check_unique(named, reading, path)
    return Table(results=named, epochs=epochs, notes=notes)


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV or Parquet file.

    Raises:
        InputError: it is missing, of another kind, or cannot be read.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such file or folder; give a run directory, or a CSV or Parquet table")
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise InputError(f"{path}: {path.suffix or 'no suffix'!s} cannot be read; give a .csv or .parquet file")
    try:
        table = READERS[suffix](path)
    except (ValueError, OSError, pa.ArrowException, pd.errors.ParserWarning) as error:
        raise InputError(f"{path}: cannot be read ({shown(str(error).splitlines()[0], LONGEST_REASON)})") from error
    table = table.rename(columns=lambda name: str(name).strip())
    if len(table.columns) > MOST_COLUMNS:
        raise InputError(f"{path}: {len(table.columns)} columns; a table of results has at most {MOST_COLUMNS}")
    twice = table.columns[table.columns.duplicated()]
    if len(twice):
        raise InputError(f"{path}: two columns are called {shown(repr(twice[0]))}; give each a name of its own")
    return table


def _read_csv(path: Path) -> pd.DataFrame:
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"larger than {MOST_BYTES} bytes, which no table of results is")
    header = pd.read_csv(path, header=None, nrows=1, dtype=str).iloc[0].dropna().str.strip()
    if header.duplicated().any():  # pandas would call the second one by another name
        raise ValueError(f"two columns are called {shown(repr(header[header.duplicated()].iloc[0]))}")
    with warnings.catch_warnings():
        # A row with more cells than the header has names: pandas would leave out or shift some of them.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        return pd.read_csv(path, index_col=False)


def _read_parquet(path: Path) -> pd.DataFrame:
    """Read columns of plain values, in steps, since few bytes may stand for many; lists, structs and bytes are none."""
    with pq.ParquetFile(path) as file:
        names = [
            field.name
            for field in file.schema_arrow
            if not (pa.types.is_nested(field.type) or _is_binary(field.type) or field.name.startswith(PANDAS_INDEX))
        ]
        batches, taken = [], 0
        for batch in file.iter_batches(columns=names):
            taken += batch.nbytes
            if taken > MOST_BYTES:
                raise ValueError(f"holds more than {MOST_BYTES} bytes, which no table of results does")
            batches.append(batch)
        schema = pa.schema([file.schema_arrow.field(name) for name in dict.fromkeys(names)])
    read = pa.Table.from_batches(batches) if batches else schema.empty_table()
    read.validate(full=True)  # texts that are none would fail wherever they are first looked at
    frame: pd.DataFrame = read.to_pandas(ignore_metadata=True)
    return frame


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


READERS: dict[str, Callable[[Path], pd.DataFrame]] = {".csv": _read_csv, ".parquet": _read_parquet}
"""By the end of a file's name."""


def _renamed(table: pd.DataFrame, reading: Reading) -> pd.DataFrame:
    """The table with its columns under the names that raybench knows, without those that are not read."""
    kept = [name for name in map(str, table) if name not in reading.left_over and not name.startswith(IGNORED)]
    kept += [name for name in reading.names.values() if name not in kept]
    renamed = table[kept].rename(columns={name: key for key, name in reading.names.items()})
    if "seed" in reading.names and (numbers := counted(renamed["seed"])) is not None:
        renamed["seed"] = numbers
    if (
        meanings_of(reading.names.get("weights", "")) == {"pretrained"}
        and renamed["weights"].dropna().isin({0, 1}).all()
    ):
        renamed["weights"] = renamed["weights"].map({True: "pretrained", False: "random"})
    return renamed


def _how_read(reading: Reading, in_percent: Collection[str]) -> list[str]:
    """Sentences on which column was taken for what, where that is not plain from their names."""
    said = []
    if reading.names:
        read = [
            f"{key} from {safe_text(name)}{' (percent)' * (key in in_percent)}" for key, name in reading.names.items()
        ]
        read += [f"{key} in percent" for key in in_percent if key not in reading.names]
        strategy = f"; the strategy's name tells {_listed(reading.settings)}" if reading.settings else ""
        said.append(f"Read so: {', '.join(read)}{strategy}.")
    elif in_percent:
        said.append(f"In percent, and read so: {', '.join(in_percent)}.")
    return said


def _not_read(names: Collection[str], reading: Reading) -> list[str]:
    """Sentences on columns that nothing was made of, and on how a reader says otherwise."""
    said = [f"Not read: {_listed(names)}."] if names else []
    return [*said, "Otherwise: --column KEY=NAME."] if reading.guessed else said


def _there(names: Iterable[object]) -> str:
    """The columns of a table, for an error."""
    each = [shown(repr(name)) for name in names]
    more = [f"{len(each) - MOST_NAMED_IN_ERROR} more"] if len(each) > MOST_NAMED_IN_ERROR else []
    return ", ".join([*each[:MOST_NAMED_IN_ERROR], *more])


def _listed(names: Collection[str]) -> str:
    shown = [safe_text(name) for name in names][:MOST_NAMED]
    return joined([*shown, f"{len(names) - len(shown)} more"] if len(names) > len(shown) else shown)


def _checked(table: pd.DataFrame, reading: Reading, path: Path) -> tuple[pd.DataFrame, list[str]]:
    """The table, its metrics being numbers and its accuracies fractions, and which of them were in percent."""
    table = table.copy()
    in_percent = []
    _check_filled(table, "model", "name the model", reading, path)
    integers = [column for column in ("train_size", "seed", "epoch") if column in table]
    for column in [*(name for name in table.columns if name in HIGHER_IS_BETTER), *integers]:
        is_date = pd.api.types.is_datetime64_any_dtype(table[column])
        numbers = pd.to_numeric(table[column].astype(str) if is_date else table[column], errors="coerce")
        wrong = numbers.isna() & table[column].notna()
        accepted = "a number"
        if column in integers:
            wrong |= numbers.notna() & ((numbers % 1 != 0) | (numbers.abs() > LARGEST_INTEGER))
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
            raise InputError(
                f"{path}: row {_row_of(wrong)}: {reading.label(column)} is {shown(str(value))}; give {accepted}"
            )
        table[column] = numbers.astype("Int64") if column in integers else numbers.astype(float)
    return table, in_percent


def _check_filled(table: pd.DataFrame, key: str, wanted: str, reading: Reading, path: Path) -> None:
    empty = table[key].isna()
    if empty.any():
        raise InputError(f"{path}: row {_row_of(empty)}: {reading.label(key)} is empty; {wanted} in every row")


def _row_of(wrong: pd.Series) -> int:
    """Row of the first True, counted as a reader of the file does, from 1 without the header."""
    return int(wrong.to_numpy().argmax()) + 1


def _named(table: pd.DataFrame, reading: Reading, path: Path) -> pd.DataFrame:
    """The table with a dataset and a strategy in every row."""
    settings = list(reading.settings)
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
    for column in ("dataset", "model", "weights", "strategy"):
        if column in named and (long := named[column].map(lambda value: len(value or "")) > LONGEST_NAME).any():
            raise InputError(
                f"{path}: row {_row_of(long)}: {reading.label(column)} has more than {LONGEST_NAME} characters; "
                "give a name"
            )
    if "seed" in named:
        _check_filled(named, "seed", "give a whole number", reading, path)
    return named


def _with_seeds(table: pd.DataFrame, reading: Reading) -> tuple[pd.DataFrame, str]:
    """The table with seeds that tell a configuration's rows apart and that configurations share, and what was done."""
    key = [name for name in (*KEY, "epoch") if name in table]
    if reading.repeats and table.duplicated(key).any():
        numbering = ["seed", *reading.repeats]
        seeds = table.groupby(numbering, dropna=False).ngroup().astype("Int64")
        names = [reading.names.get("seed", "seed"), *reading.repeats]
        return table.assign(seed=seeds), f"Seeds number the pairs of {_listed(names)}."
    configuration = [name for name in key if name != "seed"]
    if "seed" in reading.guessed and table["seed"].is_unique and table.duplicated(configuration).any():
        seeds = table.groupby(configuration, dropna=False).cumcount().astype("Int64")
        name = safe_text(reading.names["seed"])
        return table.assign(seed=seeds), f"No two rows share a {name}, so seeds number each configuration's rows."
    return table, ""


def _setting_names(column: pd.Series) -> list[str]:
    """`fine_tuned` where that is true, the value of a text, `dropout=0.5` for a number; nothing where it is not set."""
    name = str(column.name)
    if is_boolean(column):
        return [name if not pd.isna(value) and value else "" for value in column]
    if is_numeric(column):
        return ["" if pd.isna(value) else f"{name}={value:g}" for value in column]
    return [_text(value) for value in column]


def _text(value: object) -> str:
    return "" if pd.isna(value) else str(value).strip()  # type: ignore[call-overload]


def _best_epochs(history: pd.DataFrame) -> pd.DataFrame:
    """One row a configuration and seed: lowest val loss, highest val accuracy, epochs, seconds."""
    key = [name for name in KEY if name in history]
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


def _check_unique(results: pd.DataFrame, reading: Reading, path: Path) -> None:
    key = [name for name in KEY if name in results]
    twice = results.duplicated(key)
    if twice.any():
        first = int(twice.to_numpy().argmax())
        same = results[key].iloc[first]
        label = ", ".join(f"{name} {same[name]}" for name in key if not pd.isna(same[name]))
        not_read = f"; not read: {_listed(reading.left_over)}" if reading.left_over else ""
        raise InputError(
            f"{path}: row {first + 1} repeats a configuration ({label}); tell rows apart by a 'seed' column, or by a "
            f"column that names what differs{not_read}",
        )
