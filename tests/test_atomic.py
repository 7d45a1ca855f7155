"""Files that are there whole or not at all: what dead processes leave, and what is said when the disk is full."""

import errno
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from raybench.atomic import LEFT_SECONDS, remove_left, replacing
from raybench.errors import StorageError

HALF = "import os, sys, time; from pathlib import Path; from raybench.atomic import replacing\n"
HALF += "with replacing(Path(sys.argv[1])) as path:\n"
HALF += "    path.write_text('half'); print(path, flush=True); sys.stdin.read(); path.write_text('whole')\n"


@contextmanager
def writing(path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Yield a process that has written half of a file, and goes on when its input ends; and where that half is."""
    process = subprocess.Popen(
        [sys.executable, "-c", HALF, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())
    finally:
        process.kill()
        process.communicate()


def fail(path: Path, error: Exception) -> None:
    """Raise an error when half of a file is written."""
    with replacing(path) as temporary:
        temporary.write_text("half")
        raise error


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_a_file_is_there_whole_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "row"
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_what_a_dead_process_left_is_removed_after_a_while_and_nothing_else(tmp_path: Path) -> None:
    with writing(tmp_path / "results" / "row") as (_, half):
        pass
    hidden = tmp_path / "results" / ".notes"
    hidden.write_text("mine")
    age(hidden, 10 * LEFT_SECONDS)
    assert half.read_text() == "half"
    remove_left(tmp_path)
    assert half.exists(), "it may be that of another machine, at work"
    age(half, LEFT_SECONDS + 1)
    remove_left(tmp_path)
    assert list((tmp_path / "results").iterdir()) == [hidden]


def test_what_a_living_process_writes_is_not_removed_however_slow_it_is(tmp_path: Path) -> None:
    path = tmp_path / "row"
    with writing(path) as (process, half):
        age(half, 10 * LEFT_SECONDS)
        remove_left(tmp_path)
        assert half.exists()
        process.communicate()
    assert process.returncode == 0
    assert path.read_text() == "whole"


def test_an_error_in_the_block_leaves_the_old_file_and_is_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "row"
    path.write_text("old")
    error = ValueError("no row")
    with pytest.raises(ValueError, match="no row") as raised:
        fail(path, error)
    assert raised.value is error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


NO_SPACE = os.strerror(errno.ENOSPC)
FULL = {
    "Python": (OSError(errno.ENOSPC, NO_SPACE, "x"), NO_SPACE),
    "Arrow": (OSError(f"Error writing bytes to file. Detail: [errno 28] {NO_SPACE}"), NO_SPACE),
    "torch": (
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0\nframe #0: c10::Throw"),
        "unexpected pos 64 vs 0",
    ),
    "torch's writer": (RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"), "data/0"),
    "safetensors": (Exception("Error while serializing: I/O error: No space left on device (os error 28)"), NO_SPACE),
}


@pytest.mark.parametrize(("error", "reason"), FULL.values(), ids=FULL)
def test_a_full_disk_leaves_the_old_file_and_names_it(error: Exception, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "row"
    path.write_text("old")
    with pytest.raises(StorageError) as raised:
        fail(path, error)
    assert isinstance(raised.value, OSError)
    message = str(raised.value)
    assert message.startswith(f"{path}: cannot be written: ")
    assert reason in message
    assert "\n" not in message
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        KeyError("errno 28"),
        ValueError("28"),
    ],
)
def test_an_error_of_another_cause_is_no_full_disk(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(type(error)) as raised:
        fail(tmp_path / "row", error)
    assert raised.value is error


TENSORS = {"weight": torch.zeros(100_000)}
WRITERS: dict[str, Callable[[Path], object]] = {
    "torch": lambda path: torch.save(TENSORS, path),
    "safetensors": lambda path: save_file(TENSORS, path),
    "bytes": lambda path: path.write_bytes(bytes(400_000)),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_what_torch_and_safetensors_really_say_when_a_file_cannot_grow_is_recognised(
    writer: str, tmp_path: Path
) -> None:
    path = tmp_path / "row"
    path.write_text("old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))  # SIGXFSZ is ignored by Python
    try:
        with pytest.raises(StorageError, match="row: cannot be written: "), replacing(path) as temporary:
            WRITERS[writer](temporary)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file in the way")
    with pytest.raises(StorageError, match="results/row: cannot be written: "):
        fail(tmp_path / "results" / "row", ValueError("never raised"))
