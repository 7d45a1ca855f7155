"""Files of single trials joined into larger ones, so that who reads ten thousand trials opens tens of files.

In: a run directory, by its one writer. Out: `merged-NUMBER.parquet` in results/, history/ and predictions/, in place of
the files of trials that completed or were stopped; failed and unfinished ones keep theirs, which a retry replaces.

Whenever it is killed, each row is there, once: history and predictions are merged before the rows of results/, which
say that they count, and files of single trials go after that, their rows of results/ first. What is left of a merge
that was killed goes at the beginning of the next. Who reads meanwhile: see `raybench.row_places`.

Covered: any number of trials. Not covered: predictions whose files are large already; files that cannot be read, which
stay as they are.
"""

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import pyarrow as pa

from raybench.errors import RunError
from raybench.mirror import remove_files
from raybench.records import SCHEMA_VERSION, Status
from raybench.row_files import (
    Merged,
    digest_of,
    merged_index,
    merged_path,
    number_of,
    parquet_files,
    read_merged,
    read_small,
    small_path,
    write_merged,
)
from raybench.row_places import newest
from raybench.row_tables import SCHEMAS

LEAST: Final = 100
"""Trials whose files are merged: fewer are read as soon one by one."""
BATCH: Final = 500
"""Trials of a merged file."""
LARGE_BYTES: Final = 64_000
"""A file of predictions from this size on takes longer to read than to open, and stays one trial's."""
GROUP_ROWS: Final = 100_000
"""Of a row group."""
READERS: Final = 4
FOLDERS: Final = ("history", "predictions", "results")
"""In the order in which their files are merged."""
FINAL: Final = frozenset({Status.COMPLETED, Status.STOPPED})


def compact(run_dir: Path, among: Collection[str] | None = None, *, least: int = LEAST, batch: int = BATCH) -> int:
    """Merge the files of trials that ended for good, and return of how many.

    Args:
        run_dir: held by this process; no other writes to it but the trials that run.
        among: ids of trials that nobody writes any more; None: no trial runs.
        least: nothing happens with fewer trials than that.
        batch: trials of a merged file.

    Raises:
        RunError: a merged file cannot be read.
        StorageError: the run directory cannot be written to.

    """
    small = [path for path in parquet_files(run_dir / "results") if number_of(path) is None]
    if among is None:
        small = _tidy(run_dir, small)
    ready = [path.stem for path in small if among is None or path.stem in among]
    if len(ready) < least:
        return 0
    count = 0
    with ThreadPoolExecutor(READERS) as pool:
        for start in range(0, len(ready), batch):
            read = pool.map(partial(_read, run_dir), ready[start : start + batch])
            count += _merge(run_dir, [each for each in read if each is not None])
    pa.default_memory_pool().release_unused()
    return count


def take_out(run_dir: Path, trial_id: str) -> None:
    """Write merged files anew that hold the row of a trial, without it. Raises RunError, StorageError."""
    for index in _merged(run_dir):
        if trial_id in index.rows:
            _rewrite(index, {trial_id})


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Ended:
    """A trial that ended for good, and all that is to be merged of it."""

    trial_id: str
    digest: str
    """Of its file in results/."""
    tables: Mapping[str, pa.Table]
    """By folder."""


def _read(run_dir: Path, trial_id: str) -> _Ended | None:
    """Return a trial's rows; None where it has not ended for good, or where something cannot be read whole."""
    path = small_path(run_dir, "results", trial_id)
    digest = digest_of(path)
    try:
        tables = {"results": read_small(path, SCHEMAS["results"])}
        if digest is None or not _is_final(tables["results"]):
            return None
        for folder in FOLDERS[:-1]:
            other = small_path(run_dir, folder, trial_id)
            if other.is_symlink() or (other.exists() and (folder == "history" or other.stat().st_size < LARGE_BYTES)):
                tables[folder] = read_small(other, SCHEMAS[folder])
    except (RunError, OSError):
        return None
    return _Ended(trial_id=trial_id, digest=digest, tables=tables)


def _is_final(row: pa.Table) -> bool:
    """Return whether no retry replaces a row, and this raybench knows all that it says."""
    said = row.select(["status", "schema_version"]).to_pylist()
    return len(said) == 1 and said[0]["status"] in FINAL and (said[0]["schema_version"] or 0) <= SCHEMA_VERSION


def _merge(run_dir: Path, trials: Sequence[_Ended]) -> int:
    """Merge trials into one file a folder; return how many they are."""
    if not trials:
        return 0
    before = _merged(run_dir)
    numbers = [number for folder in FOLDERS for path in parquet_files(run_dir / folder) if (number := number_of(path))]
    number = max(numbers, default=0) + 1
    digests = {each.trial_id: each.digest for each in trials}
    for folder in FOLDERS:
        tables = {each.trial_id: each.tables[folder] for each in trials if folder in each.tables}
        if tables:
            write_merged(merged_path(run_dir, folder, number), tables, digests, group_rows=GROUP_ROWS)
    for index in before:  # of an earlier attempt at a trial, which was begun though its row was there
        if again := digests.keys() & index.rows.keys():
            _rewrite(index, again)
    same = [each for each in trials if digest_of(small_path(run_dir, "results", each.trial_id)) == each.digest]
    for folder in reversed(FOLDERS):
        remove_files([small_path(run_dir, folder, each.trial_id) for each in same if folder in each.tables])
    return len(trials)


def _merged(run_dir: Path) -> list[Merged]:
    return [merged_index(path) for path in parquet_files(run_dir / "results") if number_of(path) is not None]


def _rewrite(index: Merged, without: Collection[str]) -> None:
    """Leave trials out of a merged file of results, and remove it where none stays."""
    table = read_merged(index.path, SCHEMAS["results"])
    kept = {
        trial_id: table.slice(rows.start, rows.stop - rows.start)
        for trial_id, rows in index.rows.items()
        if trial_id not in without
    }
    if kept:
        write_merged(index.path, kept, index.digests, group_rows=GROUP_ROWS)
    else:
        remove_files([index.path])


def _tidy(run_dir: Path, small: Sequence[Path]) -> list[Path]:
    """Remove what a merge left that was killed, and return the files of single trials in results/ that stay."""
    indexes = _merged(run_dir)
    merged = newest(indexes)
    left = {path for path in small if path.stem in merged and digest_of(path) == merged[path.stem].digests[path.stem]}
    remove_files(left)
    stay = [path for path in small if path not in left]
    own = {path.stem for path in stay}
    for folder in FOLDERS[:-1]:
        files = parquet_files(run_dir / folder)
        whose = {
            number: merged_index(path).rows.keys()
            for path in files
            if (number := number_of(path)) in {index.number for index in indexes}
        }
        orphans = [path for path in files if number_of(path) not in {None, *whose}]
        taken = [path for path in files if path.stem in merged and path.stem not in own]
        remove_files([*orphans, *(path for path in taken if path.stem in whose.get(merged[path.stem].number, ()))])
    return stay
