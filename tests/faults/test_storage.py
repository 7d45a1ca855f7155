"""Storage that fails while trials run: one message, nothing finished lost, and the directory goes on once mended."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from raybench.errors import StorageError
from raybench.events import Event, TrialEnded
from raybench.records import AshaSettings, ResourceRequest, Status
from raybench.results import finished_trial_ids
from raybench.scheduling.cluster import quiet_ray, ray_session
from raybench.scheduling.settings import Settings
from raybench.scheduling.tune import Outcome, run_trials
from tests.scheduling.fakes import EXECUTE, Script, make_trial, write_scripts

NAMES = tuple("abcdef")
ASHA = AshaSettings(grace_period=1, reduction_factor=2, group_by=("dataset", "train_size", "seed"))
SETTINGS = Settings(asha=ASHA, resources=ResourceRequest(gpu=0, cpu=1.0), execute=EXECUTE)
KILOBYTES = 400
REMOUNT_SECONDS = 10

needs_mount = pytest.mark.skipif(
    os.geteuid() != 0 or os.name != "posix", reason="a small file system can be mounted by root alone"
)


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    with quiet_ray(), ray_session(num_cpus=2):
        yield


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Return a folder that is a small file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={KILOBYTES}k", "tmpfs", str(folder)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no small file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(disk: Path, options: str) -> None:
    """Change how the disk is mounted; while anybody writes a file, Linux says that it is busy."""
    command = ["mount", "-o", f"remount,{options}", str(disk)]
    until = time.monotonic() + REMOUNT_SECONDS
    while subprocess.run(command, check=False, capture_output=True).returncode:
        assert time.monotonic() < until, "the disk stays busy"
        time.sleep(0.01)


def run(run_dir: Path, then: Callable[[], object] | None = None) -> Outcome:
    """Run all trials; do something once the first has ended."""
    todo = [] if then is None else [then]

    def listen(event: Event) -> None:
        if isinstance(event, TrialEnded) and todo:
            todo.pop()()

    return run_trials([make_trial(name) for name in NAMES], run_dir=run_dir, settings=SETTINGS, on_event=listen)


def write(run_dir: Path) -> None:
    run_dir.mkdir(exist_ok=True)
    write_scripts(run_dir, dict.fromkeys(NAMES, Script(losses=(1.0, 0.5, 0.4), epoch_seconds=0.3)))


def check_goes_on(run_dir: Path, kept: dict[str, bytes]) -> None:
    """Check that the next run ends all trials and leaves the rows of those that had ended as they were."""
    assert kept, "something had ended before"
    run(run_dir)
    assert set(finished_trial_ids(run_dir)) == set(NAMES)
    assert Status.FAILED not in finished_trial_ids(run_dir).values()
    for name, content in kept.items():
        assert (run_dir / "results" / name).read_bytes() == content


def rows(run_dir: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run_dir / "results").glob("*.parquet")}


@needs_mount
def test_a_full_disk_is_one_message_and_the_run_goes_on_once_there_is_room(disk: Path) -> None:
    run_dir = disk / "run"
    write(run_dir)

    def fill() -> None:
        with (disk / "filling").open("wb", buffering=0) as file:
            try:
                while file.write(b"x" * 512):
                    pass
            except OSError:
                return

    with pytest.raises(StorageError, match=r"cannot be written: No space left on device; what was finished is kept"):
        run(run_dir, fill)
    kept = rows(run_dir)
    assert len(kept) < len(NAMES)
    (disk / "filling").unlink()
    check_goes_on(run_dir, kept)


@needs_mount
def test_a_disk_that_becomes_read_only_is_one_message_and_the_run_goes_on_once_it_is_not(disk: Path) -> None:
    run_dir = disk / "run"
    write(run_dir)
    with pytest.raises(StorageError, match="Read-only file system; what was finished is kept"):
        run(run_dir, lambda: remount(disk, "ro"))
    kept = rows(run_dir)
    remount(disk, "rw")
    check_goes_on(run_dir, kept)


def test_a_directory_that_vanishes_is_not_made_anew(tmp_path: Path) -> None:
    run_dir, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    write(run_dir)
    with pytest.raises(StorageError, match="is not there any more; what was finished is kept"):
        run(run_dir, lambda: run_dir.rename(elsewhere))
    assert not run_dir.exists()
    elsewhere.rename(run_dir)
    check_goes_on(run_dir, rows(run_dir))
