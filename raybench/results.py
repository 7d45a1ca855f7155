"""Trials in, Parquet files out, and back: what runs, rankings and reports know of the files of a run directory.

`write_trial` is called by whoever trained the trial: it leaves one small file in results/, history/ and predictions/
each. `raybench.compaction` joins those of trials that ended into larger ones. `load_results`, `load_history` and
`load_predictions` read a run directory as pandas DataFrames with the same columns whether or not a trial has ended yet,
and wherever its rows are. A row in results/ means that the trial ended: it is written last.

Covered: run directories on a file system, and folders that mirror those of object stores.
"""

import os
import shutil
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import TypeAdapter

from raybench.atomic import replacing
from raybench.compaction import take_out
from raybench.errors import RunError
from raybench.mirror import remove
from raybench.outcomes import Outcome, outcome_of
from raybench.records import EpochRecord, Status, Trial, TrialResult
from raybench.row_files import (
    MissingFileError,
    merged_index,
    number_of,
    read_merged,
    read_small,
    small_path,
    trial_of_merged,
    write_small,
)
from raybench.row_places import Places, place_of_trial, settled
from raybench.row_tables import (
    HISTORY_SCHEMA,
    PREDICTIONS_SCHEMA,
    RESULTS_SCHEMA,
    SCHEMAS,
    Predictions,
    check_version,
    history_table,
    predictions_table,
    results_table,
    schema_of,
)
from raybench.trials import first_row, weights_label

__all__ = [
    "HISTORY_SCHEMA",
    "PREDICTIONS_SCHEMA",
    "RESULTS_ORDER",
    "RESULTS_SCHEMA",
    "SCHEMAS",
    "Predictions",
    "copy_trial",
    "damaged_file",
    "ended_trial_ids",
    "finished_trial_ids",
    "load_history",
    "load_outcomes",
    "load_predictions",
    "load_results",
    "match_trials",
    "read_rows",
    "read_trial",
    "remove_trial",
    "write_trial",
]

S = TypeVar("S")
T = TypeVar("T")

_RESULT = TypeAdapter(TrialResult)

RESULTS_ORDER = ["dataset", "train_size", "model", "weights", "strategy", "seed"]
"""What the rows of `load_results` are sorted by."""


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
    tables = {"history": history_table(history)}
    if predictions is not None:
        tables["predictions"] = predictions_table(result.trial_id, predictions)
    tables["results"] = results_table([result])
    if predictions is None:
        remove(small_path(Path(run_dir), "predictions", result.trial_id))
    for folder, table in tables.items():
        write_small(small_path(Path(run_dir), folder, result.trial_id), table)


def copy_trial(source: Path, run_dir: Path, trial_id: str, folders: Sequence[str]) -> None:
    """Copy what `write_trial` stored of a trial in another run, replacing what an attempt at it left here.

    `folders` hold what is to be copied beside its row. Each file appears whole, the row last. Raises OSError, RunError.
    """
    for folder in (*folders, "results"):
        theirs, ours = place_of_trial(source, folder, trial_id), small_path(run_dir, folder, trial_id)
        if number_of(theirs) is None:
            with replacing(ours) as temporary:
                shutil.copyfile(theirs, temporary)
        else:
            write_small(ours, trial_of_merged(theirs, trial_id, SCHEMAS[folder]))


def damaged_file(source: Path, trial_id: str, folders: Sequence[str]) -> Path | None:
    """The first file of a trial in these folders that is missing or cannot be read whole; None: there is none."""
    for folder in folders:
        path = small_path(source, folder, trial_id)
        try:
            path = place_of_trial(source, folder, trial_id)
            _trial_table(source, folder, trial_id, SCHEMAS[folder])
        except RunError:
            return path
    return None


def remove_trial(run_dir: str | Path, trial_id: str) -> None:
    """Remove what `write_trial` stored; the results row goes first, as it came last."""
    take_out(Path(run_dir), trial_id)
    for folder in ("results", "history", "predictions"):
        remove(small_path(Path(run_dir), folder, trial_id))


def read_trial(run_dir: str | Path, trial_id: str) -> TrialResult | None:
    """The row of one trial, or None where it has none that can be read whole."""
    try:
        rows = _trial_table(Path(run_dir), "results", trial_id, RESULTS_SCHEMA).to_pylist()
    except RunError:
        return None
    result: TrialResult = _RESULT.validate_python(rows[0])
    return result


def ended_trial_ids(run_dir: Path) -> set[str]:
    """Trials that have a row, whether it can be read or not. Raises RunError."""
    return settled(run_dir, lambda places: set(places.trial_ids))


def read_rows(source: Path) -> dict[str, TrialResult | None]:
    """The row of each trial that has one, by trial id, those of one file together; None where it is damaged.

    Raises:
        RunError: a row is of a later schema version, or the folder cannot be read.
    """

    def read(places: Places) -> dict[str, TrialResult | None]:
        small, merged = places.files("results")
        found = dict(_each(_row_of_file, small))
        for path, ids in merged.items():
            found |= _rows_of_merged(path, ids)
        return found

    return settled(source, read)


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
    check_version(source, table)
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

    File by file: the predictions of thousands of trials do not fit into memory at once.
    """
    parts = _from_files(Path(source), "predictions", only, _outcome_of_file, _outcomes_of_merged)
    found = {trial_id: outcome for part in parts for trial_id, outcome in part.items()}
    return {trial_id: found[trial_id] for trial_id in sorted(found)}


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
                f"{place_of_trial(Path(run_dir), 'results', trial_id)}: status {status!r} is unknown; "
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
    absent = [first_row(trial, Status.UNFINISHED) for trial in wanted.values() if trial.trial_id not in ended]
    rows = results_table(absent).select(list(results)).to_pandas()
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
        table = read_small(path, RESULTS_SCHEMA)
    except MissingFileError:
        raise
    except RunError:
        return path.stem, None
    check_version(path.parent.parent, table)
    try:
        (row,) = table.to_pylist()
        result: TrialResult = _RESULT.validate_python(row)
    except ValueError:
        return path.stem, None
    return path.stem, result if result.trial_id == path.stem else None


def _rows_of_merged(path: Path, ids: Collection[str]) -> dict[str, TrialResult | None]:
    try:
        table = read_merged(path, RESULTS_SCHEMA)
        check_version(path.parent.parent, table)
        rows = [_RESULT.validate_python(row) for row in table.to_pylist()]
    except (RunError, ValueError):
        return dict.fromkeys(ids)
    return {row.trial_id: row for row in rows if row.trial_id in set(ids)}


def _trial_table(run_dir: Path, folder: str, trial_id: str, schema: pa.Schema) -> pa.Table:
    """The rows of one trial in a folder. Raises RunError."""
    path = place_of_trial(run_dir, folder, trial_id)
    if path == small_path(run_dir, folder, trial_id):
        try:
            return read_small(path, schema)
        except MissingFileError:  # it may have been merged since
            path = place_of_trial(run_dir, folder, trial_id)
            if path == small_path(run_dir, folder, trial_id):
                raise
    return trial_of_merged(path, trial_id, schema)


def _load(run_dir: Path, folder: str, only: Collection[str] | None, columns: Sequence[str] | None) -> pa.Table:
    """The rows of the trials that ended and count, in the order of their ids."""
    schema = schema_of(folder, None if columns is None else ["trial_id", *columns])
    tables = _from_files(run_dir, folder, only, partial(read_small, schema=schema), partial(_of_trials, schema=schema))
    table = pa.concat_tables([schema.empty_table(), *tables])
    return table.take(pc.sort_indices(table, [("trial_id", "ascending")])) if len(tables) > 1 else table


def _of_trials(path: Path, ids: Collection[str], schema: pa.Schema) -> pa.Table:
    table = read_merged(path, schema)
    return table.filter(pc.is_in(table["trial_id"], pa.array(list(ids), pa.string())))


def _from_files(
    run_dir: Path,
    folder: str,
    only: Collection[str] | None,
    of_small: Callable[[Path], T],
    of_merged: Callable[[Path, Collection[str]], T],
) -> list[T]:
    """What is read from each file with trials that ended and count; of a merged one, with their ids."""
    _check_run_dir(run_dir)

    def read(places: Places) -> list[T]:
        small, merged = places.among(only).files(folder)
        return [*_each(of_small, small), *_each(lambda each: of_merged(*each), list(merged.items()))]

    return settled(run_dir, read)


def _each(read: Callable[[S], T], files: Sequence[S]) -> list[T]:
    """What is read from each file. Arrow's own reader of many files takes twice the time where they are this small."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(read, files))


_OUTCOME = ["image", "label", "predicted"]


def _outcome_of_file(path: Path) -> dict[str, Outcome]:
    """The outcome of a trial; nothing where it was scored on no image."""
    return _outcomes(path.stem, read_small(path, schema_of("predictions", _OUTCOME)))


def _outcomes_of_merged(path: Path, ids: Collection[str]) -> dict[str, Outcome]:
    table = read_merged(path, schema_of("predictions", _OUTCOME))
    index = merged_index(path).rows
    found: dict[str, Outcome] = {}
    for trial_id in ids:
        rows = index[trial_id]
        found |= _outcomes(trial_id, table.slice(rows.start, rows.stop - rows.start))
    return found


def _outcomes(trial_id: str, table: pa.Table) -> dict[str, Outcome]:
    if not len(table):
        return {}
    correct = table["label"].to_numpy() == table["predicted"].to_numpy()
    return {trial_id: outcome_of(table["image"].to_pylist(), correct)}


def _check_run_dir(run_dir: Path) -> None:
    if not any((run_dir / name).exists() for name in ("experiment.yaml", "manifest.json", "results")):
        what = (
            "there is no such folder"
            if not run_dir.is_dir()
            else "experiment.yaml, manifest.json and results/ are missing"
        )
        raise RunError(f"{run_dir}: not a run directory, {what}; give a folder that `raybench run` wrote")
