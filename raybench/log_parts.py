"""Files that grow line by line, for stores that cannot append: the whole now and then, its end each time.

`NAME` has the lines up to some point, and `NAME.tail` those behind it; joined, they are the log again. A tail begins
with the number of bytes that it stands behind, so that one which is older than `NAME` adds nothing, and it never holds
more than some tens of kilobytes: what is sent for a line does not grow with the log.
"""

import contextlib
from pathlib import Path
from typing import Final, Protocol

SUFFIX: Final = ".tail"
MOST_BYTES: Final = 32_000
"""Of a tail: beyond them the whole log is stored, and a new tail begins."""


class Store(Protocol):
    """What takes files."""

    def put(self, content: Path, path: Path) -> None:
        """Store the content of one file as that of another. Raises StorageError."""

    def remove(self, path: Path) -> None:
        """Take a file out. Raises StorageError."""


class StoredLogs:
    """The logs that this process appends to."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._stored: dict[Path, int] = {}
        """Bytes of each that the store has under its own name."""

    def put(self, path: Path) -> None:
        """Store what was appended to a log; it is there when this returns. Raises StorageError, OSError."""
        size, stored = path.stat().st_size, self._stored.get(path)
        if stored is None or not 0 <= size - stored <= MOST_BYTES:
            self._store.put(path, path)
            self._stored[path] = size
            return
        with path.open("rb") as file:
            file.seek(stored)
            lines = file.read()
        tail = path.with_name(path.name + SUFFIX)
        tail.write_bytes(f"{stored}\n".encode() + lines)
        self._store.put(tail, tail)

    def close(self) -> None:
        """Leave each log in one part, for who copies it out of the store. Raises StorageError, OSError."""
        for path in self._stored:
            tail = path.with_name(path.name + SUFFIX)
            if tail.exists():
                self._store.put(path, path)
                self._store.remove(tail)
                tail.unlink()
        self._stored.clear()


def join_logs(folder: Path) -> None:
    """Make logs whole whose parts were brought into a folder."""
    for tail in folder.rglob(f"*{SUFFIX}"):
        with contextlib.suppress(OSError, ValueError):
            _join(tail.with_name(tail.name.removesuffix(SUFFIX)), tail)


def _join(path: Path, tail: Path) -> None:
    start, _, lines = tail.read_bytes().partition(b"\n")
    known = path.read_bytes()
    behind = len(known) - int(start)
    # A log that was stored after its tail, or is another one by now, has nothing to gain from it.
    if 0 <= behind < len(lines) and lines.startswith(known[int(start) :]):
        with path.open("ab") as file:
            file.write(lines[behind:])
