"""What this process takes of its machine's memory, and what the machine or the container has."""

import mmap
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from raybench import process_memory
from raybench.process_memory import (
    LOOK_SECONDS,
    MEMORY_SHARE,
    MemoryWatch,
    kernel_kills,
    machine_bytes,
    memory_watch,
    usable_bytes,
)

MEGABYTE = 10**6
TAKEN = 200 * MEGABYTE
NEARLY = 20 * MEGABYTE
"""Other things in this process come and go."""
LOOKS = 20 * LOOK_SECONDS
WAIT_SECONDS = 10


@pytest.fixture(scope="module")
def watch() -> MemoryWatch:
    return memory_watch()


def take(count: int = TAKEN) -> np.ndarray:
    """Take memory from the machine: what was freed in this process, and not yet given back, would not be seen."""
    taken = np.frombuffer(mmap.mmap(-1, count, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), dtype=np.uint8)
    taken[:] = 1
    return taken


def wait(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(LOOK_SECONDS)


def test_the_peak_sees_memory_that_was_taken_and_given_back(watch: MemoryWatch) -> None:
    watch.reset()
    before = watch.now_bytes()
    taken = take()
    assert watch.now_bytes() - before == pytest.approx(TAKEN, abs=NEARLY)
    time.sleep(LOOKS)
    del taken
    assert watch.now_bytes() - before < NEARLY
    assert watch.peak_bytes() - before == pytest.approx(TAKEN, abs=NEARLY)
    watch.reset()
    assert watch.peak_bytes() - before < NEARLY, "looked for anew"


def test_one_process_has_one_watch() -> None:
    memory_watch()
    before = threading.active_count()
    assert memory_watch() is memory_watch()
    assert threading.active_count() == before


def test_a_limit_calls_back_once_from_another_thread_and_not_again(watch: MemoryWatch) -> None:
    calls: list[tuple[int, str]] = []

    def outgrown(taken: int) -> None:
        calls.append((taken, threading.current_thread().name))

    limit = watch.now_bytes() + TAKEN // 2
    with watch.limited(limit, outgrown):
        time.sleep(LOOKS)
        assert calls == [], "below it"
        first = take()
        wait(lambda: calls)
        del first
        time.sleep(LOOKS)
        second = take()
        time.sleep(LOOKS)
        del second
    assert len(calls) == 1
    taken, thread = calls[0]
    assert taken > limit
    assert thread != threading.current_thread().name


def test_a_limit_holds_for_its_block_alone(watch: MemoryWatch) -> None:
    calls: list[int] = []
    with pytest.raises(ValueError, match="bad"), watch.limited(watch.now_bytes() + TAKEN // 2, calls.append):
        raise ValueError("bad")
    taken = take()
    time.sleep(LOOKS)
    del taken
    assert calls == []
    with watch.limited(watch.now_bytes() + TAKEN // 2, calls.append):  # the next trial of the same process
        taken = take()
        wait(lambda: calls)
        del taken
    assert len(calls) == 1


def test_mapped_files_do_not_count(watch: MemoryWatch, tmp_path: Path) -> None:
    path = tmp_path / "images"
    path.write_bytes(os.urandom(MEGABYTE) * (TAKEN // MEGABYTE))
    before, resident = watch.now_bytes(), psutil.Process().memory_info().rss
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        pages = np.frombuffer(mapped, dtype=np.uint8)
        assert int(pages[:: mmap.PAGESIZE].sum()) > 0
        assert psutil.Process().memory_info().rss - resident > TAKEN / 2, "it is resident"
        assert watch.now_bytes() - before < NEARLY
        del pages


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder in which files of the kernel may be, and none is."""
    limits = tmp_path / "memory.max", tmp_path / "memory.limit_in_bytes"
    monkeypatch.setattr(process_memory, "_CGROUP_LIMITS", limits)
    monkeypatch.setattr(process_memory, "_KILL_COUNTS", (tmp_path / "vmstat", tmp_path / "memory.events"))
    return tmp_path


@pytest.mark.parametrize(("text", "kills"), [("oom_kill 3\n", 3), ("oom_kill 0\n", 0), ("pswpin 7\n", 0), ("", 0)])
@pytest.mark.parametrize("name", ["vmstat", "memory.events"])
def test_kills_of_the_kernel_are_read_wherever_they_are(name: str, text: str, kills: int, files: Path) -> None:
    assert kernel_kills() == 0, "there is no such file"
    (files / name).write_text(f"nr_free_pages 100\noom_kill_disable 9\noom 8\n{text}oom_group_kill 6\n")
    assert kernel_kills() == kills


def test_kills_that_both_files_hold_are_counted_once(files: Path) -> None:
    (files / "vmstat").write_text("oom_kill 5\n")
    (files / "memory.events").write_text("oom_kill 2\n")
    assert kernel_kills() == 5


def test_kills_on_this_machine_can_be_read() -> None:
    assert kernel_kills() >= 0


@pytest.mark.parametrize("name", ["memory.max", "memory.limit_in_bytes"])
def test_a_container_has_what_it_may_take(name: str, files: Path) -> None:
    (files / name).write_text("123000000\n")
    assert machine_bytes() == 123 * MEGABYTE
    assert usable_bytes() == MEMORY_SHARE * 123 * MEGABYTE


@pytest.mark.parametrize("text", ["max\n", "9223372036854771712\n", "", None])
def test_a_container_without_a_limit_has_the_whole_machine(text: str | None, files: Path) -> None:
    if text is not None:
        (files / "memory.max").write_text(text)
    assert machine_bytes() == psutil.virtual_memory().total
