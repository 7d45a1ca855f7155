"""One writer a run directory: whoever runs it holds its lease, and a second one is told who that is.

In: a run directory. Out: its lease, or a `RunError` that names the holder.

The lease is a lock of the kernel on `RUN/.lease`, so a holder that dies, however it dies, leaves it free; `RUN/.holder`
says who holds it, for messages alone. Where a file system has no locks, a file is the lock: that of a dead process of
the same machine is taken over, that of another machine has to be deleted by hand. That of an object
store: see `raybench.store_lease`.
"""

import contextlib
import errno
import json
import os
import platform
import re
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from raybench.atomic import first_writing, replacing
from raybench.errors import RunError, StorageError
from raybench.mirror import Mirror, mirror_of
from raybench.store_lease import HeldError, StoreLease

LEASE: Final = ".lease"
SOFT_LEASE: Final = ".lease-file"
"""Where the file system has no locks."""
HOLDER: Final = ".holder"
_NO_LOCKS: Final = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


@dataclass(frozen=True, kw_only=True, slots=True)
class Holder:
    """Who runs a run directory."""

    host: str
    pid: int
    since: str
    """ISO 8601, UTC."""


_HOLDER: Final = TypeAdapter(Holder)


class Lease(AbstractContextManager["Lease"]):
    """The lease of a run directory, which need not be there yet; free again after the `with` block.

    A directory that was made for it and that nothing was written to is gone then, too.
    """

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._lock: BaseFileLock | None = None
        self._in_store: StoreLease | None = None
        self._made: list[Path] = []
        """Folders that were not there before, the innermost first."""

    def __enter__(self) -> Self:
        """Take the lease where the directory is there; otherwise it is for `take` to do."""
        if self._run_dir.is_dir() or mirror_of(self._run_dir) is not None:
            self.take()
        return self

    def take(self) -> None:
        """Take the lease, making the directory; nothing happens where it is taken already.

        Raises:
            RunError: somebody else holds it, or the directory cannot be written to.

        """
        if self._lock is not None or self._in_store is not None:
            return
        about = Holder(host=platform.node(), pid=os.getpid(), since=datetime.now(UTC).isoformat(timespec="seconds"))
        mirror = mirror_of(self._run_dir)
        if mirror is not None:
            self._take_in_store(mirror, json.dumps(asdict(about)))
            return
        with first_writing(self._run_dir):
            self._made = [path for path in (self._run_dir, *self._run_dir.parents) if not path.exists()]
            self._run_dir.mkdir(parents=True, exist_ok=True)
            try:
                self._lock = self._locked()
            except Timeout:
                raise _refusal(self._run_dir, _content(self._run_dir / HOLDER)) from None
        with contextlib.suppress(OSError), replacing(self._run_dir / HOLDER) as temporary:
            temporary.write_text(json.dumps(asdict(about)))

    def _take_in_store(self, mirror: Mirror, about: str) -> None:
        """Take the lease of a run directory in an object store, and bring here what its last holder wrote."""
        lease = StoreLease(mirror, about)
        try:
            lease.acquire()
        except HeldError as held:
            raise _refusal(self._run_dir, held.holder) from None
        except StorageError as error:  # whose file it was about nobody knows, who has not even begun
            text = re.sub(rf"{re.escape(mirror.uri)}/\S+(?=: )", mirror.uri, str(error))
            raise RunError(f"{text}; give another --run-dir") from None
        self._in_store = lease
        mirror.bring_all()

    def _locked(self) -> BaseFileLock:
        """Return the lock, held. Raises OSError, and Timeout where somebody else holds it."""
        try:
            lock: BaseFileLock = FileLock(self._run_dir / LEASE)
            lock.acquire(blocking=False)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            lock = SoftFileLock(self._run_dir / SOFT_LEASE)
            lock.acquire(blocking=False)
        return lock

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Let others take it."""
        if self._in_store is not None:
            mirror = mirror_of(self._run_dir)
            if mirror is not None:
                with contextlib.suppress(OSError):  # in two parts they are read as well
                    mirror.logs.close()
            self._in_store.release()
            self._in_store = None
        if self._lock is not None:
            for name in (HOLDER, LEASE):  # gone while it is held: whoever waits looks whether it still is
                with contextlib.suppress(OSError):
                    (self._run_dir / name).unlink(missing_ok=True)
            self._lock.release()
            self._lock = None
            with contextlib.suppress(OSError):  # of a folder that holds something, as that of every run that began
                for path in self._made:
                    path.rmdir()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _refusal(run_dir: Path, holder: bytes) -> RunError:
    try:
        found = _HOLDER.validate_json(holder)
    except ValidationError:
        who = "somebody else"
    else:
        who = f"process {found.pid} on {found.host} since {found.since}"
    return RunError(f"{run_dir}: is being run by {who}; wait until that ends, or end it")
