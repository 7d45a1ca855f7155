"""The cache folder: where its entries lie, and who uses them.

In: the kind and key of an entry. Out: its folder, and a claim that keeps others from removing it.

    CACHE/KIND/KEY/                 an entry: decoded images, or features of a frozen backbone
    CACHE/KIND/KEY/raybench.lock    makes the folder an entry; locked (shared) by every process that uses it
    CACHE/KIND/KEY/meta.json        what it holds, or about.json
    CACHE/KIND/KEY.partial/         an entry that is being made, or whose making was interrupted
    CACHE/KIND/KEY.lock             held by who makes it
    CACHE/KIND/.removed-...         an entry on its way out

The time of change of an entry's folder is the time of its last use. An entry is taken away by renaming its folder, so
that nobody finds half of one; what a process had mapped stays readable to it. The kernel drops a lock with the process
that held it, however that ended. See `raybench.eviction` for how entries are removed.
"""

import contextlib
import fcntl
import os
import shutil
import uuid
import weakref
from pathlib import Path
from typing import Final, Self

import platformdirs

KINDS: Final = ("images", "features")
MARKER: Final = "raybench.lock"
PARTIAL: Final = ".partial"
REMOVED: Final = ".removed-"
_EXPLANATION: Final = b"Locked while raybench uses this folder. See: raybench cache show\n"


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
