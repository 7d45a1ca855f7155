"""Trials in, Parquet files out, and back: one small file a trial in results/, history/ and predictions/.

`write_trial` is called by whoever trained the trial; `load_results`, `load_history` and
`load_predictions` read a run directory as pandas DataFrames with the same columns whether or not a
trial has ended yet. A row in results/ means that the trial ended: it is written last.

Covered: run directories on a file system. Not covered: object stores, compaction.
"""

import os
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from raybench.atomic import replacing
from raybench.errors import RunError
from raybench.mirror import remove
from raybench.outcomes import Outcome, outcome_of
from raybench.records import SCHEMA_VERSION, EpochRecord, Status, Trial, TrialResult
from raybench.regular import check_regular
from raybench.trials import first_row, weights_label

T = TypeVar("T")

ARROW_TYPES: dict[Any, pa.DataType] = {
    str: pa.string(),
    Status: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    datetime: pa.timestamp("us", tz="UTC"),
    tuple[float | None, ...]: pa.list_(pa.float64()),
}
"""How the types of a record's fields are stored."""


def _schema_of(record: type) -> pa.Schema:
    """One column a field; `X | None` is stored as X, every column can be null."""
    hints = get_type_hints(record)
    stored = {hint | None: arrow for hint, arrow in ARROW_TYPES.items()} | ARROW_TYPES
    return pa.schema([(field.name, stored[hints[field.name]]) for field in fields(record)])


RESULTS_SCHEMA = _schema_of(TrialResult)
"""One row a trial; the columns of the contract, in its order."""

HISTORY_SCHEMA = _schema_of(EpochRecord)
"""One row a trial and epoch."""

_RESULT = TypeAdapter(TrialResult)

PREDICTIONS_SCHEMA = pa.schema(
    [
        ("trial_id", pa.string()),
        ("image", pa.string()),
        ("label", pa.int64()),
        ("predicted", pa.int64()),
        ("probabilities", pa.list_(pa.float32())),
    ],
)
"""One row a trial and test image."""

SCHEMAS: dict[str, pa.Schema] = {
    "results": RESULTS_SCHEMA,
    "history": HISTORY_SCHEMA,
    "predictions": PREDICTIONS_SCHEMA,
}
"""By the folder of a run directory that holds the files."""

ESSENTIAL = frozenset({"status", "epoch", "image", "label", "predicted"})
"""Columns that every raybench has written in every row: a file without them is of another folder."""

RESULTS_ORDER = ["dataset", "train_size", "model", "weights", "strategy", "seed"]
"""What the rows of `load_results` are sorted by."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Predictions:
    """What one trial said about every image of the test split."""

    images: tuple[str, ...]
    """Names, n of them, in the order of the arrays."""
    labels: np.ndarray
    """[n] int: index of the true class."""
    predicted: np.ndarray
    """[n] int: index of the class with the highest probability."""
    probabilities: np.ndarray
    """[n, classes] float."""


def write_trial(
    run_dir: str | Path,
    result: TrialResult,
    history: Sequence[EpochRecord],
    predictions: Predictions | None,
) -> None:
    """Store an ended trial, replacing what an earlier attempt at it left.

    Each file appears whole or not at all; the results row comes last, because its existence says
    that everything else of the trial is there.
    """
    tables = {"history": pa.Table.from_pylist([_row(record) for record in history], schema=HISTORY_SCHEMA)}
    if predictions is not None:
        tables["predictions"] = _predictions_table(result.trial_id, predictions)
    tables["results"] = pa.Table.from_pylist([_row(result)], schema=RESULTS_SCHEMA)
    if predictions is None:
        remove(_file(Path(run_dir), "predictions", result.trial_id))
    for folder, table in tables.items():
        with replacing(_file(Path(run_dir), folder, result.trial_id)) as temporary:
            pq.write_table(table, temporary, write_page_checksum=True)


def copy_trial(source: Path, run_dir: Path, trial_id: str, folders: Sequence[str]) -> None:
    """Copy what `write_trial` stored of a trial in another run, replacing what an attempt at it left here.

    `folders` hold what is to be copied beside its row. Each file is copied whole, the row last. Raises OSError.
    """
    for folder in (*folders, "results"):
        with replacing(_file(run_dir, folder, trial_id)) as temporary:
            shutil.copyfile(_file(source, folder, trial_id), temporary)


def damaged_file(source: Path, trial_id: str, folders: Sequence[str]) -> Path | None:
    """The first file of a trial in these folders that is missing or cannot be read whole; None: there is none."""
    for folder in folders:
        path = _file(source, folder, trial_id)
        try:
            _read(path, SCHEMAS[folder])
        except RunError:
            return path
    return None


def remove_trial(run_dir: str | Path, trial_id: str) -> None:
    """Remove what `write_trial` stored; the results row goes first, as it came last."""
    for folder in ("results", "history", "predictions"):
        remove(_file(Path(run_dir), folder, trial_id))


def read_trial(run_dir: str | Path, trial_id: str) -> TrialResult | None:
    """The row of one trial, or None where it has none that can be read whole."""
    try:
        rows = _read(_file(Path(run_dir), "results", trial_id), RESULTS_SCHEMA).to_pylist()
    except RunError:
        return None
    result: TrialResult = _RESULT.validate_python(rows[0])
    return result


def read_rows(source: Path) -> dict[str, TrialResult | None]:
    """The row of each trial that has one, by trial id; None where it is damaged.

    Raises:
        RunError: a row is of a later schema version, or the folder cannot be read.
    """
    return dict(_each(_row_of_file, _parquet_files(source / "results")))


def load_results(
    source: str | Path,
    only: Collection[str] | None = None,
    columns: Sequence[str] | None = None,
) -> pd.DataFrame:
    """One row a trial that ended.

    Args:
        source: a run directory.
        only: ids of the trials that count; rows of trials that are no longer in the experiment are left out.
        columns: what to read, those that name a trial and its status among them; all of them where none is given.

    Raises:
        RunError: the folder is no run directory, or a file in it cannot be read.
    """
    table = _load(Path(source), "results", only, None if columns is None else [*columns, "schema_version"])
    _check_version(source, table)
    frame: pd.DataFrame = table.select(columns or table.column_names).to_pandas()
    return frame.sort_values(RESULTS_ORDER, kind="stable", ignore_index=True)


def load_history(source: str | Path, only: Collection[str] | None = None) -> pd.DataFrame:
    """One row a trial and epoch, of trials that ended; see `load_results` for the arguments and errors."""
    frame: pd.DataFrame = _load(Path(source), "history", only, None).to_pandas()
    return frame.sort_values(["trial_id", "epoch"], kind="stable", ignore_index=True)


def load_predictions(source: str | Path, only: Collection[str] | None = None) -> pd.DataFrame:
    """One row a trial and test image, of trials that ended; see `load_results` for the arguments and errors."""
    frame: pd.DataFrame = _load(Path(source), "predictions", only, None).to_pandas()
    return frame


def load_outcomes(source: str | Path, only: Collection[str] | None = None) -> dict[str, Outcome]:
    """Which test images each trial that ended classified correctly, by trial id; see `load_results`.

    Trial by trial: the predictions of thousands of trials do not fit into memory at once.
    """
    files = _files(Path(source), "predictions", only)
    return {trial_id: outcome for trial_id, outcome in _each(_outcome, files) if outcome is not None}


def finished_trial_ids(run_dir: str | Path) -> dict[str, Status]:
    """How each trial that has a row ended, by trial id.

    Raises:
        RunError: the folder is no run directory, a file in it cannot be read, or a status is unknown.
    """
    table = _load(Path(run_dir), "results", None, ["trial_id", "status"])
    known = set(Status)
    finished = {}
    for trial_id, status in zip(table["trial_id"].to_pylist(), table["status"].to_pylist(), strict=True):
        if status not in known:
            raise RunError(
                f"{_file(Path(run_dir), 'results', trial_id)}: status {status!r} is unknown; "
                f"raybench writes {', '.join(known)}",
            )
        finished[trial_id] = Status(status)
    return finished


def match_trials(results: pd.DataFrame, trials: Iterable[Trial]) -> pd.DataFrame:
    """Return the results of exactly these trials, so that a ranking shows the experiment as it is now.

    A trial without a row gets one with status `unfinished`; rows of other trials are left out; rows that were
    written under other names of the dataset, strategy or weight file get the present ones.
    """
    wanted = {trial.trial_id: trial for trial in trials}
    kept = results[results["trial_id"].isin(wanted)].copy()
    ids = kept["trial_id"].to_list()
    for column, name in _NAMES.items():
        kept[column] = [name(wanted[trial_id]) for trial_id in ids]
    ended = set(ids)
    absent = [_row(first_row(trial, Status.UNFINISHED)) for trial in wanted.values() if trial.trial_id not in ended]
    rows = pa.Table.from_pylist(absent, schema=RESULTS_SCHEMA).select(list(results)).to_pandas()
    frames = [frame for frame in (kept, rows) if len(frame)]
    if len(frames) > 1:
        # Columns that are all null in one part lose their type there: objects keep None and NaN as they are.
        frames = [frame.astype(object) for frame in frames]
    joined: pd.DataFrame = pd.concat(frames or [results.iloc[:0]], ignore_index=True)
    return joined.astype(results.dtypes.to_dict(), errors="ignore").sort_values(RESULTS_ORDER, ignore_index=True)


_NAMES: dict[str, Callable[[Trial], str]] = {
    "dataset": lambda trial: trial.dataset.name,
    "weights": lambda trial: weights_label(trial.weights),
    "strategy": lambda trial: trial.strategy.name,
}
"""Columns that name a trial without deciding what it computes."""


def _row_of_file(path: Path) -> tuple[str, TrialResult | None]:
    try:
        table = _read(path, RESULTS_SCHEMA)
    except RunError:
        return path.stem, None
    _check_version(path.parent.parent, table)
    try:
        (row,) = table.to_pylist()
        result: TrialResult = _RESULT.validate_python(row)
    except ValueError:
        return path.stem, None
    return path.stem, result if result.trial_id == path.stem else None


def _row(record: TrialResult | EpochRecord) -> Mapping[str, Any]:
    return {field.name: getattr(record, field.name) for field in fields(record)}


def _predictions_table(trial_id: str, predictions: Predictions) -> pa.Table:
    n = len(predictions.images)
    probabilities = np.ascontiguousarray(predictions.probabilities, dtype=np.float32)
    offsets = np.arange(n + 1, dtype=np.int32) * (probabilities.shape[1] if n else 0)
    columns = [
        pa.array([trial_id] * n, pa.string()),
        pa.array(predictions.images, pa.string()),
        pa.array(np.asarray(predictions.labels, dtype=np.int64)),
        pa.array(np.asarray(predictions.predicted, dtype=np.int64)),
        pa.ListArray.from_arrays(pa.array(offsets), pa.array(probabilities.reshape(-1))),
    ]
    return pa.table(columns, schema=PREDICTIONS_SCHEMA)


def _file(run_dir: Path, folder: str, trial_id: str) -> Path:
    return run_dir / folder / f"{trial_id}.parquet"


def _load(run_dir: Path, folder: str, only: Collection[str] | None, columns: Sequence[str] | None) -> pa.Table:
    schema = _schema(folder, columns)
    tables = _each(partial(_read, schema=schema), _files(run_dir, folder, only))
    return pa.concat_tables([schema.empty_table(), *tables])


def _schema(folder: str, columns: Sequence[str] | None) -> pa.Schema:
    """The columns of a folder's files that are asked for, in the files' order."""
    return pa.schema([field for field in SCHEMAS[folder] if columns is None or field.name in columns])


def _files(run_dir: Path, folder: str, only: Collection[str] | None) -> list[Path]:
    """Files of the trials that ended and count."""
    _check_run_dir(run_dir)
    # History or predictions without a results row belong to a trial that died while it was written.
    ended = {path.stem for path in _parquet_files(run_dir / "results")}
    wanted = ended if only is None else ended & set(only)
    return [path for path in _parquet_files(run_dir / folder) if path.stem in wanted]


def _each(read: Callable[[Path], T], files: Sequence[Path]) -> list[T]:
    """What is read from each file. Arrow's own reader of many files takes twice the time where they are this small."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(read, files))


def _outcome(path: Path) -> tuple[str, Outcome | None]:
    """A trial and its outcome; None where it was scored on no image."""
    table = _read(path, _schema("predictions", ["image", "label", "predicted"]))
    correct = table["label"].to_numpy() == table["predicted"].to_numpy()
    return path.stem, outcome_of(table["image"].to_pylist(), correct) if len(table) else None


def _read(path: Path, schema: pa.Schema) -> pa.Table:
    """Rows of one file, in the schema's columns; those that an older raybench did not write are empty."""
    try:
        check_regular(path)
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            _check_owner(file, path.stem)
            table = file.read(schema.names, use_threads=False)
            table.validate(full=True)
        _check_filled(table, ESSENTIAL.intersection(schema.names))
        return table if table.schema.equals(schema) else _completed(table, schema)
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        row = path.parent.with_name("results") / path.name  # a trial without one is trained
        which = "it" if path == row else str(row)
        raise RunError(
            f"{path}: cannot be read as Parquet ({reason}); delete {which} to have the trial trained again"
        ) from error


def _check_filled(table: pa.Table, names: Collection[str]) -> None:
    for name in names:
        if name not in table.column_names or table[name].null_count:
            raise ValueError(f"{name!r} is missing")


def _check_owner(file: pq.ParquetFile, trial_id: str) -> None:
    """Raise `ValueError` where the rows are of another trial: one file was put in the place of another."""
    for group in range(file.metadata.num_row_groups):
        column = file.metadata.row_group(group).column(0)
        limits = column.statistics if column.path_in_schema == "trial_id" else None
        if limits is not None and limits.has_min_max:
            ids = {limits.min, limits.max}
        else:
            ids = set(file.read_row_group(group, ["trial_id"])["trial_id"].to_pylist())
        if others := ids - {trial_id}:
            raise ValueError(f"its rows are of trial {', '.join(sorted(map(str, others)))}")


def _completed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    absent = pa.nulls(len(table))
    columns = [table[name] if name in table.column_names else absent for name in schema.names]
    return pa.table(columns, names=schema.names).cast(schema)


def _check_run_dir(run_dir: Path) -> None:
    if not any((run_dir / name).exists() for name in ("experiment.yaml", "manifest.json", "results")):
        what = (
            "there is no such folder"
            if not run_dir.is_dir()
            else "experiment.yaml, manifest.json and results/ are missing"
        )
        raise RunError(f"{run_dir}: not a run directory, {what}; give a folder that `raybench run` wrote")


def _check_version(source: str | Path, table: pa.Table) -> None:
    newest = max(table["schema_version"].to_pylist(), default=SCHEMA_VERSION)
    if newest > SCHEMA_VERSION:
        raise RunError(
            f"{source}: results of schema version {newest}, but this raybench reads versions up to {SCHEMA_VERSION}; "
            "read them with the newer raybench that wrote them",
        )


def _parquet_files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.glob("*.parquet") if not path.name.startswith("."))
    except OSError as error:
        raise RunError(f"{folder}: cannot be read ({error.strerror})") from error
