"""Commands as a user gives them: in this process, or in one of their own."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from raybench import cli

COMMAND = str(Path(sys.executable).with_name("raybench"))
CORES = 2


def raybench(*arguments: str | Path) -> int:
    """Run a command and return its exit status."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["raybench", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
    return int(left.value.code or 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """What a command ended with."""

    status: int
    out: str
    err: str


def start(*arguments: str, folder: Path) -> subprocess.Popen[str]:
    """Start the command line in a session of its own, so that a signal to its group hits nothing else."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(folder),
        "RAYBENCH_CACHE_DIR": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        [COMMAND, *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def call(*arguments: str, folder: Path) -> Done:
    """Wait for a command that was started in that folder; it must not end with a traceback."""
    process = start(*arguments, folder=folder)
    out, err = process.communicate(timeout=200)
    assert "Traceback" not in out + err, out + err
    return Done(status=process.returncode, out=out, err=err)


def run(file: str, *arguments: str, folder: Path, cores: int = CORES) -> Done:
    """Run an experiment; each core has a process, which takes seconds to start."""
    return call("run", file, "--num-cpus", str(cores), *arguments, folder=folder)
