"""The lease of a run directory in an object store, which has no locks: files, and the store's clock.

Who wants the lease leaves a candidate's file and looks who else did. Whoever sees a holder, or an earlier candidate,
gives way; whoever is left becomes the holder, and writes its file again every half minute. A file that nobody has
written for some minutes is of a process that died. Only times that the store gave are compared, so clocks of machines
do not matter; a store lists a file as soon as it has taken it, as those of Amazon, Google and Microsoft do.
"""

import contextlib
import threading
import time
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final
from uuid import uuid4

from raybench.errors import StorageError
from raybench.mirror import Mirror

LEASES: Final = ".lease"
"""Folder in the run directory."""
HEARTBEAT_SECONDS: Final = 30.0
STALE: Final = timedelta(minutes=3)
"""A holder that has not written for so long is dead."""
YIELD_SECONDS: Final = 15.0
"""How long a later candidate may take to see an earlier one and give way."""
LOOK_SECONDS: Final = 0.5
_HOLDER: Final = "holder-"
_CANDIDATE: Final = "candidate-"


class HeldError(Exception):
    """Somebody else has the lease; `holder` is what it said about itself."""

    def __init__(self, holder: bytes) -> None:
        super().__init__(holder)
        self.holder = holder


class StoreLease:
    """The lease of the run directory that a mirror shows.

    Args:
        mirror: of it.
        about: what others are told of this process.
        heartbeat_seconds: between two signs of life.

    """

    def __init__(self, mirror: Mirror, about: str, *, heartbeat_seconds: float = HEARTBEAT_SECONDS) -> None:
        self._mirror = mirror
        self._about = about
        self._seconds = heartbeat_seconds
        self._folder = mirror.folder / LEASES
        self._own = uuid4().hex
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self) -> None:
        """Take the lease.

        Raises:
            HeldError: somebody else has it, or was about to take it first.
            StorageError: the store cannot be written to, or read.

        """
        candidate = self._write(_CANDIDATE)
        try:
            self._wait_for_others(candidate.name)
            self._write(_HOLDER)
        finally:
            self._mirror.remove(candidate)
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Let others take it."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        with contextlib.suppress(StorageError):  # it is stale soon
            self._mirror.remove(self._folder / f"{_HOLDER}{self._own}")

    def _wait_for_others(self, own: str) -> None:
        """Return once nobody else has or wants the lease; later candidates give way when they see this one."""
        until = time.monotonic() + YIELD_SECONDS
        while True:
            alive = self._alive(own)
            mine = (alive.pop(own), own)
            first = next((name for name, when in alive.items() if _goes_first(name, when, mine)), None)
            if first is not None or (alive and time.monotonic() > until):
                raise HeldError(self._content(first or next(iter(alive))))
            if not alive:
                return
            time.sleep(LOOK_SECONDS)

    def _alive(self, own: str) -> dict[str, datetime]:
        found = dict(self._mirror.names(LEASES))
        return {name: when for name, when in found.items() if when > found[own] - STALE}

    def _content(self, name: str) -> bytes:
        path = self._folder / name
        try:
            self._mirror.bring(path)
            content = path.read_bytes()
            path.unlink()
        except OSError:  # it has just left
            return b""
        return content

    def _write(self, kind: str) -> Path:
        path = self._folder / f"{kind}{self._own}"
        with NamedTemporaryFile("w", encoding="utf-8") as file:
            file.write(self._about)
            file.flush()
            self._mirror.put(Path(file.name), path)
        return path

    def _beat(self) -> None:
        while not self._ended.wait(self._seconds):
            with contextlib.suppress(StorageError):  # the next one may come through
                self._write(_HOLDER)


def _goes_first(name: str, when: datetime, mine: tuple[datetime, str]) -> bool:
    return name.startswith(_HOLDER) or (when, name) < mine
