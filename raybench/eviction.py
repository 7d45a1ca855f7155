"""Room in the cache folder: what was used longest ago goes, what is in use stays.

In: the cache folder and its limit. Out: less in it, and what was removed.

An entry is removed under the exclusive lock of the file that all its users hold a shared lock on; see `raybench.cache`.
"""

import contextlib
import math
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from rich.filesize import decimal

from raybench.cache import (
    KINDS,
    MARKER,
    NAME,
    PARTIAL,
    REMOVED,
    Entry,
    State,
    children,
    entries,
    exclusive,
    is_marker,
    take_away,
)
from raybench.errors import InputError

GIGABYTE: Final = 10**9
UNITS: Final = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_LOCK: Final = re.compile(r"([0-9a-f]{8,64})\.lock")
_REMOVED: Final = re.compile(rf"{re.escape(REMOVED)}{NAME.pattern}-[0-9a-f]{{32}}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """An entry that was to be removed and was not."""

    entry: Entry
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Cleared:
    """What `clear` did."""

    removed: tuple[Entry, ...]
    kept: tuple[Kept, ...]

    @property
    def freed_bytes(self) -> int:
        """Bytes on disk of what was removed."""
        return sum(entry.disk_bytes for entry in self.removed)


@dataclass(frozen=True, kw_only=True, slots=True)
class Space:
    """What an entry may take, once everything that is not in use is removed."""

    limit_bytes: int | None
    """Most that all entries together may take; None: no limit."""
    in_use_bytes: int
    """What other entries that are in use take, or may come to take."""
    disk_bytes: int
    """What the disk has for all entries: what they take now, and what is free."""

    @property
    def available_bytes(self) -> int:
        """What is left for one more entry; below 0 where there is more in use than allowed."""
        most = self.disk_bytes if self.limit_bytes is None else min(self.limit_bytes, self.disk_bytes)
        return most - self.in_use_bytes

    def shortage(self, what: str, needed_bytes: int) -> str:
        """Return why `what`, which takes `needed_bytes`, has no room, and what would give it some."""
        left = decimal(max(self.available_bytes, 0))
        beside = f" beside {decimal(self.in_use_bytes)} in use" if self.in_use_bytes else ""
        if self.limit_bytes is None or self.limit_bytes > self.disk_bytes:
            place, advice = "the disk", "free some, or set RAYBENCH_CACHE_DIR to a folder on another disk"
        else:
            place = f"cache_limit_gb: {self.limit_bytes / GIGABYTE:g}"
            advice = f"give {_gigabytes_up(self.in_use_bytes + needed_bytes)} or more"
        return f"{what} take {decimal(needed_bytes)}, and {place} has room for {left}{beside}; {advice}"


def make_room(root: Path, limit_bytes: int | None, needed_bytes: int, *, without: Path | None = None) -> bool:
    """Remove the entries used longest ago until `needed_bytes` fit under the limit and onto the disk.

    Give the files of a new entry their full length first (a hole takes no space) and name its folder as `without`:
    then two that ask at the same moment count each other, and the limit holds.

    Args:
        root: the cache folder.
        limit_bytes: most that all entries together may take; None: what the disk holds.
        needed_bytes: what the entry that is to be written will take, all in all.
        without: its folder, if that is there already: it does not count beside `needed_bytes`, and it stays.

    Returns:
        Whether there is room now. Where there cannot be, since what is in use stays, nothing is removed.

    """
    _sweep(root, KINDS)
    found = entries(root)
    space = _space(root, limit_bytes, found, without)
    if needed_bytes > space.available_bytes:
        return False
    most = space.available_bytes + space.in_use_bytes - needed_bytes
    others = [entry for entry in found if entry.folder != without]
    taken = sum(entry.reserved_bytes for entry in others)
    for entry in reversed(others):
        if taken <= most:
            break
        if entry.state is not State.IN_USE and remove(entry.folder) is None:
            taken -= entry.reserved_bytes
    return taken <= most


def find_space(root: Path, limit_bytes: int | None, *, without: Path | None = None) -> Space:
    """Return what there is room for at most; see `make_room` for the arguments."""
    return _space(root, limit_bytes, entries(root), without)


def clear(
    root: Path, kinds: Sequence[str] = KINDS, *, older_than: timedelta | None = None, now: datetime | None = None
) -> Cleared:
    """Remove every entry that is not in use, also interrupted ones, and lock files that nobody holds.

    `older_than`: only what was last used longer ago than this before `now`.
    """
    _sweep(root, kinds)
    now = now or datetime.now(UTC)

    def old(last_used: datetime) -> bool:
        return older_than is None or now - last_used > older_than

    removed, kept = [], []
    for entry in entries(root, kinds):
        if not old(entry.last_used):
            continue
        reason = remove(entry.folder)
        if reason is None:
            removed.append(entry)
        else:
            kept.append(Kept(entry=entry, reason=reason))
    for kind in kinds:
        for path in children(root / kind):
            _remove_lock(path, old)
    return Cleared(removed=tuple(removed), kept=tuple(kept))


def remove(folder: Path) -> str | None:
    """Remove an entry unless a process uses it, this one included; return why it was left, None where it is gone."""
    try:
        with exclusive(folder / MARKER) as descriptor:
            if not is_marker(folder, descriptor):
                return "it was made anew just now"
            removed = take_away(folder)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except BlockingIOError:
        return "a process uses it"
    except OSError as error:
        return error.strerror or str(error)
    shutil.rmtree(removed, ignore_errors=True)
    return None


def parse_age(text: str) -> timedelta:
    """Return the time that `30d`, `12h` or `2w` stand for. Raises `InputError`."""
    parts = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([hdw])", text.strip())
    try:
        if parts is not None:
            return float(parts[1]) * UNITS[parts[2]]
    except OverflowError:
        pass
    raise InputError(f"--older-than {text} is not accepted; give hours, days or weeks, such as 12h, 30d or 4w")


def _gigabytes_up(size_bytes: int) -> str:
    """Return a number of bytes in GB, rounded up to two digits."""
    gigabytes = size_bytes / GIGABYTE
    digits = max(0, 1 - math.floor(math.log10(gigabytes)))
    return f"{math.ceil(gigabytes * 10**digits) / 10**digits:.{digits}f}"


def _space(root: Path, limit_bytes: int | None, found: Sequence[Entry], without: Path | None) -> Space:
    place = next(path for path in (root, *root.absolute().parents) if path.is_dir())
    in_use = [entry for entry in found if entry.state is State.IN_USE and entry.folder != without]
    return Space(
        limit_bytes=limit_bytes,
        in_use_bytes=sum(entry.reserved_bytes for entry in in_use),
        disk_bytes=sum(entry.disk_bytes for entry in found) + shutil.disk_usage(place).free,
    )


def _sweep(root: Path, kinds: Sequence[str]) -> None:
    """Delete what an earlier removal was interrupted at."""
    for kind in kinds:
        for path in children(root / kind):
            if _REMOVED.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)


def _remove_lock(path: Path, old: Callable[[datetime], bool]) -> None:
    """Delete the empty KEY.lock of an entry that is not there, unless somebody holds it."""
    name = _LOCK.fullmatch(path.name)
    if name is None or any(path.with_name(f"{name[1]}{ending}").exists() for ending in ("", PARTIAL)):
        return
    with contextlib.suppress(OSError):
        status = path.lstat()
        if status.st_size == 0 and old(datetime.fromtimestamp(status.st_mtime, UTC)):
            # Under the lock: filelock looks, once it holds one, whether the file is still there.
            with exclusive(path):
                path.unlink()
