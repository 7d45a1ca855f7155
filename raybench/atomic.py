"""Files that are there whole or not at all, whenever the machine dies."""

import contextlib
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil

from raybench.errors import RunError, StorageError
from raybench.mirror import mirror_of

WRITERS: Final = re.compile("PytorchStreamWriter|I/O error|os error [0-9]+|unexpected pos")
"""What torch and safetensors say in errors of their own where a file could not be written."""
LEFT_SECONDS: Final = 60
"""A half-written file that nobody has touched for so long was left by a process that died."""
_NUMBER: Final = re.compile("(?:errno|os error) ([0-9]+)")
_HALF_WRITTEN: Final = re.compile(r"\..+\.([0-9]{1,9})")
"""What `replacing` writes to; the number is that of its process."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path to write to; what was written takes the place of `path` when the block ends without an error.

    The folder is made; the content is on disk before the name changes, and an error leaves `path` as it was.

    Raises:
        StorageError: an OSError that says which file could not be written, and why.

    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        mirror = mirror_of(path)
        if mirror is not None:
            mirror.put(temporary, path)
        temporary.replace(path)
    except StorageError:
        raise
    except Exception as error:
        reason = _reason(error)
        if reason is None:
            raise
        raise StorageError(f"{path}: cannot be written: {reason}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def first_writing(run_dir: Path) -> Iterator[None]:
    """Turn what the system says where a run directory cannot be written to into an error that says what to do.

    Raises:
        RunError: nothing was started.

    """
    try:
        yield
    except OSError as error:
        raise RunError(f"{run_dir}: cannot be written to: {error}; give another --run-dir") from None


def remove_left(folder: Path) -> None:
    """Remove what dead processes left half written in a folder and those below it.

    A process of that number here may be another one; of another machine, nothing but the time of its last write tells.
    """
    before = time.time() - LEFT_SECONDS
    for path in folder.rglob(".*"):
        with contextlib.suppress(OSError):
            found = _HALF_WRITTEN.fullmatch(path.name)
            if found and path.is_file() and path.stat().st_mtime < before and not psutil.pid_exists(int(found[1])):
                path.unlink()


def _reason(error: Exception) -> str | None:
    """Return why writing failed; None where an error has another cause."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    number = _NUMBER.search(str(error))  # Arrow and safetensors tell it in words
    if number is not None and (isinstance(error, OSError) or WRITERS.search(str(error))):
        return os.strerror(int(number[1]))
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0] if isinstance(error, OSError) or WRITERS.search(str(error)) else None
