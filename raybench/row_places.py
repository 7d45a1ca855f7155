"""Where the rows of each trial are: a run directory in, the file of every trial that ended out.

A trial has ended where results/ has its row. Of merged files that with the highest number counts; a file of the trial's
own counts before these, unless it is the one that was merged and is about to go. What history/ and predictions/ have of
the trial is then in files of the same kind and number, so that an attempt which is being written, or was left by one
that died, is never mixed with an earlier one.

Covered: a merge by another process while files are listed or read: see `settled`. Not covered: more than one writer.
"""

import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from raybench.errors import RunError
from raybench.row_files import (
    Merged,
    MissingFileError,
    digest_of,
    merged_index,
    merged_path,
    number_of,
    parquet_files,
    small_path,
)

T = TypeVar("T")

PATIENCE_SECONDS: Final = 180
"""How long files are read anew because others were merged meanwhile: ten thousand trials take half a minute."""
PAUSE_SECONDS: Final = 0.02
"""Before that."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """The trials of a run directory that ended."""

    run_dir: Path
    small: Mapping[str, Path]
    """Rows in results/ in a file of their own, by trial id."""
    merged: Mapping[str, Merged]
    """The merged file in results/ that has the row of a trial, by trial id; none of `small`."""

    @property
    def trial_ids(self) -> list[str]:
        """Return the trials, in the order of their ids."""
        return sorted([*self.small, *self.merged])

    def among(self, only: Collection[str] | None) -> "Places":
        """Return the places of those trials that count; None: of all."""
        if only is None:
            return self
        wanted = set(only)
        return Places(
            run_dir=self.run_dir,
            small={trial_id: path for trial_id, path in self.small.items() if trial_id in wanted},
            merged={trial_id: each for trial_id, each in self.merged.items() if trial_id in wanted},
        )

    def files(self, folder: str) -> tuple[list[Path], dict[Path, list[str]]]:
        """Return the files of a folder that hold rows of these trials: small ones, and merged ones with whose rows."""
        if folder == "results":
            here = {path.name for path in self.small.values()}
        else:
            here = {path.name for path in parquet_files(self.run_dir / folder)}
        small = [small_path(self.run_dir, folder, trial_id) for trial_id in self.small]
        merged: dict[Path, list[str]] = {}
        rows = _rows_of(self.run_dir, folder, {each.number for each in self.merged.values()}, here)
        for trial_id, each in self.merged.items():
            if folder == "results":
                merged.setdefault(each.path, []).append(trial_id)
            elif trial_id in rows.get(each.number, ()):
                merged.setdefault(merged_path(self.run_dir, folder, each.number), []).append(trial_id)
            else:  # too large to be merged
                small.append(small_path(self.run_dir, folder, trial_id))
        return sorted(path for path in small if path.name in here), dict(sorted(merged.items()))


def _rows_of(
    run_dir: Path, folder: str, numbers: Iterable[int], here: Collection[str]
) -> dict[int, Mapping[str, slice]]:
    """Return whose rows are in the merged files of a folder, by number."""
    paths = {number: merged_path(run_dir, folder, number) for number in numbers}
    return {number: merged_index(path).rows for number, path in paths.items() if path.name in here}


def places(run_dir: Path) -> Places:
    """Return where the rows of each trial are. Raises RunError, MissingFileError where files are merged meanwhile."""
    files = parquet_files(run_dir / "results")
    small = {path.stem: path for path in files if number_of(path) is None}
    merged = newest([merged_index(path) for path in files if number_of(path) is not None])
    # A file that was merged as it is was about to be removed: beside it, its history may be gone by now.
    for trial_id in small.keys() & merged.keys():
        if digest_of(small[trial_id]) in {merged[trial_id].digests[trial_id], None}:
            del small[trial_id]
        else:
            del merged[trial_id]
    return Places(run_dir=run_dir, small=small, merged=merged)


def place_of_trial(run_dir: Path, folder: str, trial_id: str) -> Path:
    """Return the file that has the rows of one trial, or would if it had any. Raises RunError."""
    small = small_path(run_dir, folder, trial_id)
    if small_path(run_dir, "results", trial_id).exists():  # its others go after it, and are in a merged file by then
        return small
    indexes = [merged_index(run_dir / "results" / name) for name in merged_names(run_dir)]
    counts = newest(each for each in indexes if trial_id in each.rows).get(trial_id)
    if counts is None:
        return small
    merged = merged_path(run_dir, folder, counts.number)
    return merged if merged.exists() and trial_id in merged_index(merged).rows else small


def newest(indexes: Iterable[Merged]) -> dict[str, Merged]:
    """Return the merged file that counts of each trial."""
    found: dict[str, Merged] = {}
    for index in sorted(indexes, key=lambda index: index.number):
        found.update(dict.fromkeys(index.rows, index))
    return found


def settled(run_dir: Path, read: Callable[[Places], T]) -> T:
    """Return what is read of the places of all trials, none of them missing and none there twice.

    A folder is not listed at once: rows that move into a merged file while it is may be seen in neither. A merged file
    is there before its small ones go, so that the next listing names it: everything is read anew where that has one
    more, and where a file that was listed is gone.

    Raises:
        RunError: what `read` raises, or the folder cannot be read.

    """
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < give_up_at:
        before = merged_names(run_dir)
        with suppress(MissingFileError):
            found = read(places(run_dir))
            if before == merged_names(run_dir):
                return found
        time.sleep(PAUSE_SECONDS)
    raise RunError(f"{run_dir}: its files are merged or removed all the time; try it again")


def merged_names(run_dir: Path) -> list[str]:
    """Return the merged files of results/. Raises RunError."""
    try:
        with os.scandir(run_dir / "results") as entries:
            return sorted(entry.name for entry in entries if number_of(Path(entry.name)) is not None)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunError(f"{run_dir / 'results'}: cannot be read ({error.strerror})") from error
