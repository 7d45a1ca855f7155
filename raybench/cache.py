"""The cache folder: what lies in it, and who uses it.

In: the kind and key of an entry. Out: its folder, a claim that keeps others from removing it, and a list of them all.

    CACHE/KIND/KEY/                 an entry: decoded images, or features of a frozen backbone
    CACHE/KIND/KEY/raybench.lock    makes the folder an entry; locked (shared) by every process that uses it
    CACHE/KIND/KEY/meta.json        what it holds, or about.json
    CACHE/KIND/KEY.partial/         an entry that is being made, or whose making was interrupted
    CACHE/KIND/KEY.lock             held by who makes it
    CACHE/KIND/.removed-...         an entry on its way out

The time of change of an entry's folder is the time of its last use. An entry is taken away by renaming its folder, so
that nobody finds half of one; what a process had mapped stays readable to it. The kernel drops a lock with the process
that held it, however that ended. Where the file system knows no locks (flock), every entry counts as in use. A folder
without raybench.lock is none of ours: whoever sets RAYBENCH_CACHE_DIR may keep other files there.
"""

import contextlib
import fcntl
import json
import os
import re
import shutil
import time
import uuid
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self

import platformdirs

KINDS: Final = ("images", "features")
MARKER: Final = "raybench.lock"
PARTIAL: Final = ".partial"
REMOVED: Final = ".removed-"
DESCRIPTIONS: Final = ("meta.json", "about.json")
"""Files that may say what an entry holds, as one JSON object."""
NAME: Final = re.compile(rf"[0-9a-f]{{8,64}}({re.escape(PARTIAL)})?")
_BLOCK_BYTES: Final = 512
"""Unit of `st_blocks` on Linux and macOS."""
_PROBES: Final = 3
_PROBE_SECONDS: Final = 0.002
"""Who only looks holds the exclusive lock for a moment: what is still locked after a few looks is in use."""
_EXPLANATION: Final = b"Locked while raybench uses this folder. See: raybench cache show\n"


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


class Claim:
    """An entry in use: nobody removes it until `close`, or until this object or its process is gone."""

    def __init__(self, descriptor: int | None) -> None:
        self._release = None if descriptor is None else weakref.finalize(self, os.close, descriptor)

    def close(self) -> None:
        """Let go of the entry; a second call does nothing."""
        if self._release is not None:
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def cache_root(cache_dir: Path | None = None) -> Path:
    """Return `cache_dir`, else $RAYBENCH_CACHE_DIR, else the user's cache folder for raybench."""
    configured = os.environ.get("RAYBENCH_CACHE_DIR")
    if cache_dir is not None:
        return cache_dir.expanduser()
    return Path(configured).expanduser() if configured else platformdirs.user_cache_path("raybench")


def entry_folder(kind: str, key: str, cache_dir: Path | None = None) -> Path:
    """Return where the entry `key`, 8 to 64 hexadecimal digits, of a kind of `KINDS` lies or would lie."""
    return cache_root(cache_dir) / kind / key


def entries(root: Path, kinds: Sequence[str] = KINDS) -> list[Entry]:
    """Return the entries of a cache folder, those used last first; folders that are none of ours are left out."""
    found = [_entry(kind, path) for kind in kinds for path in children(root / kind) if NAME.fullmatch(path.name)]
    return sorted((entry for entry in found if entry is not None), key=lambda entry: entry.last_used, reverse=True)


def use(folder: Path) -> Claim | None:
    """Claim an entry and note that it is used now; None where there is none, or where it was just removed.

    A folder that is not marked as an entry becomes one. Where nothing can be written or locked, the claim holds
    nothing, and nobody is kept from using the entry.
    """
    try:
        descriptor = _open_marker(folder)
    except FileNotFoundError:
        return None
    if descriptor is None:
        return Claim(None) if folder.is_dir() else None
    claim = Claim(descriptor)
    with contextlib.suppress(OSError):  # a file system without locks
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    if not is_marker(folder, descriptor):
        claim.close()
        return None
    mark_used(folder)
    return claim


def create(folder: Path) -> Claim:
    """Make an entry's folder, or go on with one that is there, and claim it.

    The claim goes with the folder: after renaming KEY.partial to KEY it holds KEY. Raises `OSError`.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        claim = use(folder)
        if claim is not None:
            return claim


def mark_used(folder: Path) -> None:
    """Note that an entry is used now; where it belongs to somebody else, nothing happens."""
    with contextlib.suppress(OSError):
        os.utime(folder)


def discard(folder: Path) -> None:
    """Remove an entry, whoever has it open: one that was found damaged, or that one has just made. Raises `OSError`."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(take_away(folder), ignore_errors=True)


def take_away(folder: Path) -> Path:
    """Rename an entry's folder so that nobody finds it any more, and return the new name. Raises `OSError`."""
    return folder.rename(folder.with_name(f"{REMOVED}{folder.name}-{uuid.uuid4().hex}"))


def is_marker(folder: Path, descriptor: int) -> bool:
    """Whether an open marker is still the folder's: the entry may have been removed while its lock was waited for."""
    try:
        return os.path.samestat((folder / MARKER).stat(), os.fstat(descriptor))
    except OSError:
        return False


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[int]:
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


def children(folder: Path) -> list[Path]:
    """Return what stands in a folder; nothing where it is not there or cannot be read."""
    try:
        return list(folder.iterdir())
    except OSError:
        return []


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
            with exclusive(folder / MARKER):
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


def _open_marker(folder: Path) -> int | None:
    """Open an entry's marker, made where there is none; None where it can neither be read nor made."""
    path = folder / MARKER
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except FileNotFoundError:
        raise
    except OSError:
        with contextlib.suppress(OSError):
            return os.open(path, os.O_RDONLY)
        return None
    if os.fstat(descriptor).st_size == 0:
        with contextlib.suppress(OSError):  # no space left: the lock works all the same
            os.write(descriptor, _EXPLANATION)
    return descriptor
