"""The memory that is this process's own: what it takes now, took at most, and may take.

Own is what is resident and no file's: pages of memory-mapped images and libraries belong to all processes that read
them, and the kernel takes them back when it needs room. One thread looks every `LOOK_SECONDS`; what comes and goes in
between is missed.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

import psutil

LOOK_SECONDS: Final = 0.01
MEMORY_SHARE: Final = 0.8
"""Of a machine's memory that trials may take together: the rest is for Ray, the driver, and cached files."""
_STATM: Final = Path("/proc/self/statm")
_CGROUP_LIMITS: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
"""Of version 2 and 1: what a container may take."""
_KILL_COUNTS: Final = (Path("/proc/vmstat"), Path("/sys/fs/cgroup/memory.events"))


def machine_bytes() -> int:
    """Return the memory of this machine, or of the container that this process is in."""
    limits = [int(psutil.virtual_memory().total)]
    for path in _CGROUP_LIMITS:
        try:
            limits.append(int(path.read_text(encoding="ascii")))
        except (OSError, ValueError):  # not there, or `max`
            continue
    return min(limits)


def usable_bytes() -> int:
    """Return what trials may take together on this machine."""
    return int(MEMORY_SHARE * machine_bytes())


def kernel_kills() -> int:
    """Return how many processes the kernel has ended for want of memory, here or in this container; 0 if unknown."""
    return max(_counted(path, b"oom_kill") for path in _KILL_COUNTS)


def _counted(path: Path, name: bytes) -> int:
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.split()[:1] == [name]), 0)


class MemoryWatch:
    """Looks at this process for as long as it lives; there is one a process, made by `memory_watch`."""

    def __init__(self) -> None:
        self._descriptor: int | None = None
        try:
            self._descriptor = os.open(_STATM, os.O_RDONLY)
        except OSError:  # no Linux
            self._process = psutil.Process()
        self._page = os.sysconf("SC_PAGE_SIZE") if self._descriptor is not None else 1
        self._peak = 0
        self._limit: tuple[int, Callable[[int], None]] | None = None
        threading.Thread(target=self._look_on, name="memory watch", daemon=True).start()

    def now_bytes(self) -> int:
        """Return what the process takes now."""
        if self._descriptor is None:
            return int(self._process.memory_info().rss)
        _, resident, shared, *_ = os.pread(self._descriptor, 256, 0).split()
        return (int(resident) - int(shared)) * self._page

    def reset(self) -> None:
        """Begin to look for the peak anew."""
        self._peak = self.now_bytes()

    def peak_bytes(self) -> int:
        """Return the most that the process took since it was last reset."""
        self._peak = max(self._peak, self.now_bytes())
        return self._peak

    @contextmanager
    def limited(self, limit_bytes: int, outgrown: Callable[[int], None]) -> Iterator[None]:
        """Call `outgrown` with what the process takes, once, from another thread, where it is above a limit."""
        self._limit = (limit_bytes, outgrown)
        try:
            yield
        finally:
            self._limit = None

    def _look_on(self) -> None:
        pause = threading.Event()
        while not pause.wait(LOOK_SECONDS):
            own = self.now_bytes()
            self._peak = max(self._peak, own)
            limit = self._limit
            if limit is not None and own > limit[0]:
                self._limit = None
                limit[1](own)


@cache
def memory_watch() -> MemoryWatch:
    """Return the watch of this process."""
    return MemoryWatch()
