"""Where the cache lies, and who uses its entries: a claim lasts as long as its process, however that ends."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from raybench.cache import MARKER, Claim, cache_root, create, discard, entry_folder, mark_used, take_away, use

HOLD = """
import sys, time
from pathlib import Path
from raybench.cache import use
claim = use(Path(sys.argv[1]))
print(claim is not None, flush=True)
time.sleep(600)
"""


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a process that uses an entry until it is ended."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        yield process
        process.kill()


def is_free(folder: Path) -> bool:
    with (folder / MARKER).open("r+b") as marker:
        try:
            fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where an entry is to lie."""
    return entry_folder("images", "0123456789abcdef", tmp_path / "cache")


def test_the_cache_lies_where_asked_then_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYBENCH_CACHE_DIR", str(tmp_path / "environment"))
    assert cache_root(tmp_path / "asked") == tmp_path / "asked"
    assert cache_root() == tmp_path / "environment"
    assert entry_folder("images", "abc") == tmp_path / "environment" / "images" / "abc"
    monkeypatch.delenv("RAYBENCH_CACHE_DIR")
    assert cache_root().name == "raybench"


def test_an_entry_is_in_use_until_its_claim_is_closed(folder: Path) -> None:
    claim = create(folder)
    assert not is_free(folder)
    claim.close()
    claim.close()
    assert is_free(folder)


def test_a_claim_ends_with_the_object_that_holds_it(folder: Path) -> None:
    claim: Claim | None = create(folder)
    assert claim is not None
    del claim
    assert is_free(folder)


def test_an_entry_has_many_users_and_is_free_after_the_last(folder: Path) -> None:
    with create(folder):
        second = use(folder)
        assert second is not None
    assert not is_free(folder)
    second.close()
    assert is_free(folder)


def test_a_process_that_is_killed_uses_nothing_any_more(folder: Path) -> None:
    create(folder).close()
    with holder(folder) as process:
        assert not is_free(folder)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert is_free(folder)


def test_what_is_not_there_cannot_be_used_and_is_not_made(folder: Path) -> None:
    assert use(folder) is None
    assert not folder.exists()


def test_an_entry_that_is_taken_away_while_it_is_waited_for_is_not_there(folder: Path) -> None:
    create(folder).close()
    with (folder / MARKER).open("r+b") as marker:
        fcntl.flock(marker, fcntl.LOCK_EX)
        process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
        wait_for_lock(process.pid)
        take_away(folder)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "False\n"
        process.kill()


def wait_for_lock(pid: int) -> None:
    """Return once a process waits for a file lock; proc_locks(5) marks those that wait with an arrow."""
    locks = Path("/proc/locks")
    if not locks.exists():
        pytest.skip("only Linux tells who waits for a lock")
    while not any("->" in line and str(pid) in line.split() for line in locks.read_text().splitlines()):
        pass


def test_a_claim_goes_with_the_folder_when_it_is_renamed(folder: Path) -> None:
    partial = folder.with_name(f"{folder.name}.partial")
    with create(partial):
        partial.rename(folder)
        assert not is_free(folder)
    assert is_free(folder)


def test_using_an_entry_is_its_last_use(folder: Path) -> None:
    create(folder).close()
    os.utime(folder, (1000, 1000))
    claim = use(folder)
    assert claim is not None
    assert folder.stat().st_mtime > 1000
    os.utime(folder, (1000, 1000))
    mark_used(folder)
    assert folder.stat().st_mtime > 1000


def test_an_entry_that_was_made_before_it_could_be_claimed_can_be_claimed_now(folder: Path) -> None:
    folder.mkdir(parents=True)
    with use(folder) or Claim(None):
        assert not is_free(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_an_entry_in_a_folder_that_cannot_be_written_can_be_used_all_the_same(folder: Path) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o500)
    try:
        claim = use(folder)
    finally:
        folder.chmod(0o700)
    assert claim is not None
    assert not (folder / MARKER).exists()


def test_a_discarded_entry_is_gone_though_somebody_uses_it(folder: Path) -> None:
    with create(folder):
        (folder / "train.u8").write_bytes(b"damaged")
        discard(folder)
        assert list(folder.parent.iterdir()) == []
        discard(folder)
        create(folder).close()
        assert is_free(folder)
    shutil.rmtree(folder)
