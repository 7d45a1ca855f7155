"""What lies in the cache folder, room for what is to come, and its removal.

In: the cache folder and its limit. Out: its entries, and less of them on disk.

What is in use stays: a process that uses an entry holds a shared lock in it (see `raybench.cache`), and an entry is
removed under the exclusive one. A folder without that lock file is none of ours and is never touched: whoever sets
RAYBENCH_CACHE_DIR may keep other files there. Where the file system knows no locks (flock), every entry stays.
"""

import contextlib
import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from raybench.cache import KINDS, MARKER, PARTIAL, REMOVED, is_marker, take_away

DESCRIPTIONS: Final = ("meta.json", "about.json")
"""Files that may say what an entry holds, as one JSON object."""
_NAME: Final = re.compile(rf"[0-9a-f]{{8,64}}({re.escape(PARTIAL)})?")
_LOCK: Final = re.compile(r"([0-9a-f]{8,64})\.lock")
_REMOVED: Final = re.compile(rf"{re.escape(REMOVED)}{_NAME.pattern}-[0-9a-f]{{32}}")
_BLOCK_BYTES: Final = 512
"""Unit of `st_blocks` on Linux and macOS."""
_PROBES: Final = 3
_PROBE_SECONDS: Final = 0.002
"""Who only looks holds the exclusive lock for a moment: what is still locked after a few looks is in use."""


class State(StrEnum):
    """What may be done with an entry."""

    WHOLE = "whole"
    PARTIAL = "partial"
    """Its making was interrupted; the next one that needs it goes on with it."""
    IN_USE = "in use"
    """A process has it open or makes it: it stays."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A folder of the cache."""

    kind: str
    """One of `KINDS`."""
    key: str
    folder: Path
    disk_bytes: int
    """Blocks that its files take on disk: files with holes take less than their length."""
    reserved_bytes: int
    """What it may come to take while it is in use, from the length of its files; `disk_bytes` otherwise."""
    last_used: datetime
    description: dict[str, Any] | None
    """What it says of itself, such as dataset and image size; None where it says nothing."""
    state: State


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
class Room:
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


def entries(root: Path, kinds: Sequence[str] = KINDS) -> list[Entry]:
    """Return the entries of a cache folder, those used last first; folders that are none of ours are left out."""
    found = [_entry(kind, path) for kind in kinds for path in _children(root / kind) if _NAME.fullmatch(path.name)]
    return sorted((entry for entry in found if entry is not None), key=lambda entry: entry.last_used, reverse=True)


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
    space = _room(root, limit_bytes, found, without)
    if needed_bytes > space.available_bytes:
        return False
    most = space.available_bytes + space.in_use_bytes - needed_bytes
    others = [entry for entry in found if entry.folder != without]
    taken = sum(entry.reserved_bytes for entry in others)
    for entry in reversed(others):
        if taken <= most:
            break
        if entry.state is not State.IN_USE and _remove(entry.folder) is None:
            taken -= entry.reserved_bytes
    return taken <= most


def room(root: Path, limit_bytes: int | None, *, without: Path | None = None) -> Room:
    """Return what there is room for at most; see `make_room` for the arguments."""
    return _room(root, limit_bytes, entries(root), without)


def clear(
    root: Path, kinds: Sequence[str] = KINDS, *, older_than: timedelta | None = None, now: datetime | None = None
) -> Cleared:
    """Remove every entry that is not in use, also interrupted ones, and lock files that nobody holds.

    `older_than`: only what was last used longer ago than this before `now`.
    """
    _sweep(root, kinds)
    latest = datetime.max.replace(tzinfo=UTC) if older_than is None else (now or datetime.now(UTC)) - older_than
    removed, kept = [], []
    for entry in entries(root, kinds):
        if entry.last_used > latest:
            continue
        reason = _remove(entry.folder)
        if reason is None:
            removed.append(entry)
        else:
            kept.append(Kept(entry=entry, reason=reason))
    for kind in kinds:
        for path in _children(root / kind):
            _remove_lock(path, latest)
    return Cleared(removed=tuple(removed), kept=tuple(kept))


def _room(root: Path, limit_bytes: int | None, found: Sequence[Entry], without: Path | None) -> Room:
    place = next(path for path in (root, *root.absolute().parents) if path.is_dir())
    in_use = [entry for entry in found if entry.state is State.IN_USE and entry.folder != without]
    return Room(
        limit_bytes=limit_bytes,
        in_use_bytes=sum(entry.reserved_bytes for entry in in_use),
        disk_bytes=sum(entry.disk_bytes for entry in found) + shutil.disk_usage(place).free,
    )


def _entry(kind: str, folder: Path) -> Entry | None:
    """Return the entry in a folder, or None where it holds none or is being removed."""
    try:
        state = _state(folder)
        if state is None:
            return None
        disk_bytes, length = _sizes(folder)
        last_used = datetime.fromtimestamp(folder.stat().st_mtime, UTC)
    except OSError:
        return None
    return Entry(
        kind=kind,
        key=folder.name.removesuffix(PARTIAL),
        folder=folder,
        disk_bytes=disk_bytes,
        reserved_bytes=max(disk_bytes, length) if state is State.IN_USE else disk_bytes,
        last_used=last_used,
        description=_description(folder),
        state=state,
    )


def _state(folder: Path) -> State | None:
    """Return an entry's state; None where the folder is none of ours."""
    if folder.is_symlink():
        return None
    for _ in range(_PROBES):
        try:
            with _exclusive(folder / MARKER):
                return State.PARTIAL if folder.name.endswith(PARTIAL) else State.WHOLE
        except (FileNotFoundError, NotADirectoryError):
            return None
        except BlockingIOError:
            time.sleep(_PROBE_SECONDS)
        except OSError:
            break
    return State.IN_USE


def _sizes(folder: Path) -> tuple[int, int]:
    """Return the bytes on disk of all files below a folder, and the sum of their lengths."""
    disk_bytes = length = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            status = path.lstat()
            disk_bytes += status.st_blocks * _BLOCK_BYTES
            length += 0 if path.is_dir() else status.st_size
    return disk_bytes, length


def _description(folder: Path) -> dict[str, Any] | None:
    for name in DESCRIPTIONS:
        with contextlib.suppress(OSError, ValueError):
            description = json.loads((folder / name).read_text(encoding="utf-8"))
            if isinstance(description, dict):
                return description
    return None


@contextlib.contextmanager
def _exclusive(path: Path) -> Iterator[int]:
    """Hold a lock file that exists. Raises `OSError` where there is none, somebody holds it, or locks do not work."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except PermissionError:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield descriptor
    finally:
        os.close(descriptor)


def _remove(folder: Path) -> str | None:
    """Remove an entry unless it is in use; return why it was left, None where it is gone."""
    try:
        with _exclusive(folder / MARKER) as descriptor:
            if not is_marker(folder, descriptor):
                return "it was made anew just now"
            removed = take_away(folder)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except BlockingIOError:
        return "in use"
    except OSError as error:
        return error.strerror or str(error)
    shutil.rmtree(removed, ignore_errors=True)
    return None


def _sweep(root: Path, kinds: Sequence[str]) -> None:
    """Delete what an earlier removal was interrupted at."""
    for kind in kinds:
        for path in _children(root / kind):
            if _REMOVED.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)


def _remove_lock(path: Path, latest: datetime) -> None:
    """Delete the empty KEY.lock of an entry that is not there, unless somebody holds it."""
    name = _LOCK.fullmatch(path.name)
    if name is None or any(path.with_name(f"{name[1]}{ending}").exists() for ending in ("", PARTIAL)):
        return
    with contextlib.suppress(OSError):
        status = path.lstat()
        if status.st_size == 0 and datetime.fromtimestamp(status.st_mtime, UTC) <= latest:
            # Under the lock: filelock looks, once it holds one, whether the file is still there.
            with _exclusive(path):
                path.unlink()


def _children(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
