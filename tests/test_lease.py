"""Two drivers on one run directory: one at a time, and a dead one holds nothing."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from torch import nn

from raybench.errors import RunError
from raybench.lease import LEASE, Lease
from tests.commands import raybench as command

HOLD = "import sys; from pathlib import Path; from raybench.lease import Lease; lease = Lease(Path(sys.argv[1])); "
HOLD += "lease.take(); print('held', flush=True); sys.stdin.read()"


def holding(run_dir: Path) -> subprocess.Popen[str]:
    """Return a process that holds the lease until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_driver_is_told_who_holds_the_directory(tmp_path: Path) -> None:
    with holding(tmp_path) as process:
        with pytest.raises(RunError, match=f"is being run by process {process.pid} on .* since 20"), Lease(tmp_path):
            pass
        assert process.stdin is not None
        process.stdin.close()
        process.wait()
    with Lease(tmp_path):
        pass


def test_the_lease_of_a_dead_driver_is_taken_over(tmp_path: Path) -> None:
    with holding(tmp_path) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with Lease(tmp_path) as lease:
            lease.take()


def test_a_directory_that_is_not_there_is_made_when_the_lease_is_taken_and_not_before(tmp_path: Path) -> None:
    run_dir = tmp_path / "runs" / "new"
    with Lease(run_dir) as lease:
        assert not run_dir.exists()
        lease.take()
        assert (run_dir / LEASE).exists()
        with pytest.raises(RunError, match=f"process {os.getpid()}"):
            Lease(run_dir).take()


def test_a_directory_that_nothing_was_written_to_is_gone_with_the_lease_that_made_it(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for run_dir in (tmp_path / "runs" / "new", tmp_path / "mine"):
        with Lease(run_dir) as lease:
            lease.take()
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    with Lease(tmp_path / "runs" / "new") as lease:
        lease.take()
        (tmp_path / "runs" / "new" / "manifest.json").write_text("{}")
    assert (tmp_path / "runs" / "new" / "manifest.json").exists()


def test_a_file_system_without_locks_has_a_file_for_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("filelock._unix.fcntl.flock", no_locks)
    with Lease(tmp_path) as lease:
        lease.take()
        with pytest.raises(RunError, match="is being run by process"):
            Lease(tmp_path).take()
    with Lease(tmp_path) as again:
        again.take()


def test_the_command_refuses_a_directory_that_another_process_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "small.yaml").write_text(
        "name: small\ndatasets: [{name: digits, source: digits, image_size: 8, train_sizes: [40]}]\n"
        "models: [resnet8]\nstrategies: [linear-probe]\n"
    )
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    with holding(run_dir) as process:
        assert command("run", tmp_path / "small.yaml", "--run-dir", run_dir) == 2
        assert f"{run_dir}: is being run by process {process.pid} on " in capsys.readouterr().err
        assert process.stdin is not None
        process.stdin.close()
        process.wait()
    assert not (run_dir / "manifest.json").exists()


def run_while(
    doing: Callable[[], object], run_dir: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[int, str]:
    """Run an experiment during whose preflight something is done; return its exit status, and where Ray was to be.

    Ray is to be joined where somebody listens when the command starts, and nobody does after preflight.
    """
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen()
        address = f"127.0.0.1:{door.getsockname()[1]}"

        def build(num_classes: int) -> nn.Module:
            door.close()
            doing()
            return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, num_classes))

        module = ModuleType("meanwhile")
        module.build = build  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "meanwhile", module)
        (folder / "small.yaml").write_text(
            "name: small\ndatasets: [{name: digits, source: digits, image_size: 8, train_sizes: [40]}]\n"
            "models: ['meanwhile:build']\nweights: [as-built]\nstrategies: [fine-tune]\n"
        )
        return command("run", folder / "small.yaml", "--run-dir", run_dir, "--address", address), address


def test_a_second_driver_hears_of_one_that_began_meanwhile_before_it_turns_to_ray(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = tmp_path / "runs" / "both"
    with Lease(run_dir) as first:
        status, address = run_while(first.take, run_dir, tmp_path, monkeypatch)
    error = capsys.readouterr().err
    assert status == 2
    assert f"{run_dir}: is being run by process {os.getpid()} on " in error
    assert address not in error


def test_a_run_that_cannot_have_ray_leaves_no_directory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = tmp_path / "runs" / "new"
    status, address = run_while(lambda: None, run_dir, tmp_path, monkeypatch)
    assert status == 2
    assert f"--address: '{address}' does not answer" in capsys.readouterr().err
    assert not run_dir.parent.exists()
