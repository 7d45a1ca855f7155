"""One Parquet file of rows: a path in, a table out, or a `RunError` that names the file and says what to do.

    FOLDER/TRIAL_ID.parquet         rows of one trial, as the trial wrote them
    FOLDER/merged-NUMBER.parquet    rows of many trials that ended, one after another

FOLDER is `results`, `history` or `predictions`. Pages carry checksums, which are looked at. Rows of a small file are of
the trial that it is named after; a merged file says in its footer which number and folder it belongs to and how many
rows each trial has, and is read only where its rows agree with that.
"""

import errno
import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raybench.atomic import replacing
from raybench.errors import RunError
from raybench.regular import check_regular

ESSENTIAL: Final = frozenset({"status", "epoch", "image", "label", "predicted"})
"""Columns that every raybench has written in every row: a file without them is of another folder."""
FOOTER: Final = b"raybench"
"""Key of what a merged file says of itself."""
DIGEST_DIGITS: Final = 16
INDEXES: Final = 1000
"""Footers of merged files that a process remembers."""
TABLES: Final = 6
"""Merged files that are kept whole in memory by who reads trials from them one by one."""
_MERGED: Final = re.compile(r"merged-([0-9]{1,18})\.parquet")


class MissingFileError(RunError):
    """A file is not there, or not any more: somebody merged it with others or removed it meanwhile."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Merged:
    """What a merged file says of itself."""

    path: Path
    number: int
    rows: Mapping[str, slice]
    """Where the rows of each trial stand, by id."""
    digests: Mapping[str, str]
    """Of the small files that its rows come from, by id."""


def small_path(run_dir: Path, folder: str, trial_id: str) -> Path:
    """Return where a trial writes its rows."""
    return run_dir / folder / f"{trial_id}.parquet"


def merged_path(run_dir: Path, folder: str, number: int) -> Path:
    """Return where the rows of many trials are."""
    return run_dir / folder / f"merged-{number:04d}.parquet"


def number_of(path: Path) -> int | None:
    """Return the number of a merged file; None: it is one trial's."""
    found = _MERGED.fullmatch(path.name)
    return None if found is None else int(found[1])


def parquet_files(folder: Path) -> list[Path]:
    """Return the files of a folder by name, those of single trials and merged ones. Raises RunError."""
    try:
        return sorted(path for path in folder.glob("*.parquet") if not path.name.startswith("."))
    except OSError as error:
        raise RunError(f"{folder}: cannot be read ({error.strerror})") from error


def digest_of(path: Path) -> str | None:
    """Return what tells a file from another one of the same name; None where it is not there any more."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:DIGEST_DIGITS]
    except OSError:
        return None


def write_small(path: Path, table: pa.Table) -> None:
    """Write the rows of one trial. Raises StorageError."""
    with replacing(path) as temporary:
        pq.write_table(table, temporary, write_page_checksum=True)


def write_merged(path: Path, tables: Mapping[str, pa.Table], digests: Mapping[str, str], *, group_rows: int) -> None:
    """Write the rows of many trials, by id. Raises StorageError."""
    about = {
        "number": number_of(path),
        "folder": path.parent.name,
        "trials": [[trial_id, len(table), digests.get(trial_id, "")] for trial_id, table in tables.items()],
    }
    joined = pa.concat_tables(tables.values()).combine_chunks()
    metadata = {**(joined.schema.metadata or {}), FOOTER: json.dumps(about).encode()}
    with replacing(path) as temporary:
        pq.write_table(
            joined.replace_schema_metadata(metadata),
            temporary,
            write_page_checksum=True,
            row_group_size=group_rows,
            compression="zstd",
        )


def read_small(path: Path, schema: pa.Schema) -> pa.Table:
    """Return the rows of one trial in the schema's columns; those that an older raybench did not write are empty.

    Raises:
        MissingFileError: there is no such file.
        RunError: it cannot be read whole, or its rows are not those of the trial.

    """
    with _reading(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        _check_owner(file, path.stem)
        table = file.read(schema.names, use_threads=False)
        table.validate(full=True)
        return _in_columns(table, schema)


def read_merged(path: Path, schema: pa.Schema) -> pa.Table:
    """Return the rows of many trials in the schema's columns, in the order of the file's `merged_index`.

    Raises as `read_small`.
    """
    index = merged_index(path)
    with _reading(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        table = file.read(list(dict.fromkeys(["trial_id", *schema.names])), use_threads=False)
        table.validate(full=True)
        lengths = [rows.stop - rows.start for rows in index.rows.values()]
        owners = pa.array(list(index.rows), pa.string()).take(pa.array(np.repeat(np.arange(len(lengths)), lengths)))
        if len(owners) != len(table) or not pc.all(pc.equal(table["trial_id"], owners), min_count=0).as_py():
            raise ValueError("its rows are not those of its trials")
        return _in_columns(table, schema)


def merged_index(path: Path) -> Merged:
    """Return what a merged file says of itself. Raises as `read_small`."""
    with _reading(path):
        found = path.stat()
        return _index(path, found.st_mtime_ns, found.st_size)


def trial_of_merged(path: Path, trial_id: str, schema: pa.Schema) -> pa.Table:
    """Return the rows of one trial in a merged file, which stays in memory for the next. Raises as `read_small`."""
    rows = merged_index(path).rows[trial_id]
    with _reading(path):
        found = path.stat()
    table = _whole(path, found.st_mtime_ns, found.st_size, schema)
    return table.slice(rows.start, rows.stop - rows.start)


@lru_cache(maxsize=TABLES)
def _whole(path: Path, _modified_ns: int, _size: int, schema: pa.Schema) -> pa.Table:
    return read_merged(path, schema)


@lru_cache(maxsize=INDEXES)
def _index(path: Path, _modified_ns: int, _size: int) -> Merged:
    check_regular(path)
    with pq.ParquetFile(path) as file:
        about = json.loads((file.schema_arrow.metadata or {})[FOOTER])
        whose = about["number"], about["folder"]
        entries = [(str(trial_id), int(count), str(digest)) for trial_id, count, digest in about["trials"]]
        count = file.metadata.num_rows
    number = number_of(path)
    if number is None or whose != (number, path.parent.name):
        raise ValueError(f"it is number {whose[0]} of {whose[1]}")
    ends = np.cumsum([rows for _, rows, _ in entries]).tolist()
    rows = {each[0]: slice(end - each[1], end) for each, end in zip(entries, ends, strict=True)}
    if len(rows) != len(entries) or (ends[-1] if ends else 0) != count or any(each[1] < 0 for each in entries):
        raise ValueError("its rows are not those of its trials")
    return Merged(
        path=path,
        number=number,
        rows=rows,
        digests={trial_id: digest for trial_id, _, digest in entries},
    )


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what goes wrong into an error that names the file."""
    try:
        check_regular(path)
        yield
    except (pa.ArrowException, OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        row = path.parent.with_name("results") / path.name  # a trial without one is trained
        which = "it" if path == row else str(row)
        whose = "the trial" if number_of(path) is None else "its trials"
        # A link that leads nowhere is there.
        is_gone = isinstance(error, OSError) and error.errno == errno.ENOENT and not path.is_symlink()
        kind = MissingFileError if is_gone else RunError
        raise kind(
            f"{path}: cannot be read as Parquet ({reason}); delete {which} to have {whose} trained again"
        ) from error


def _in_columns(table: pa.Table, schema: pa.Schema) -> pa.Table:
    _check_filled(table, ESSENTIAL.intersection(schema.names))
    if table.schema.equals(schema):
        return table.replace_schema_metadata(None)
    absent = pa.nulls(len(table))
    columns = [table[name] if name in table.column_names else absent for name in schema.names]
    return pa.table(columns, names=schema.names).cast(schema)


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
