"""Whatever is merged, killed and read in whatever order: every row is there, once, and is the last one written."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

import raybench
from raybench.compaction import BATCH, LARGE_BYTES, LEAST, compact
from raybench.errors import RunError
from raybench.mirror import opened, run_folder
from raybench.records import SCHEMA_VERSION, EpochRecord, Status
from raybench.results import (
    Predictions,
    copy_trial,
    damaged_file,
    finished_trial_ids,
    load_history,
    load_outcomes,
    load_predictions,
    load_results,
    read_rows,
    read_trial,
    remove_trial,
    write_trial,
)
from raybench.trials import first_row
from tests.builders import make_trial
from tests.made_up_run import MadeUp
from tests.stores import object_store

FOLDERS = ("results", "history", "predictions")
FINAL = (Status.COMPLETED, Status.STOPPED)
CHANGES = frozenset({"os.rename", "os.remove"})
"""What Python says of a file that gets its name or loses it."""


class KilledError(BaseException):
    """The process is gone at this point."""


_left: list[int] = []
"""How many changes of files are still made; empty: all."""


def _hear(event: str, _arguments: object) -> None:
    if _left and event in CHANGES:
        _left[0] -= 1
        if _left[0] < 0:
            raise KilledError


sys.addaudithook(_hear)


@contextmanager
def killed_after(changes: int) -> Iterator[None]:
    """Let a block end before the next change of a file after so many."""
    _left.append(changes)
    try:
        yield
    except KilledError:
        pass
    finally:
        _left.clear()


def write(run_dir: Path, trial_id: str, *, value: int = 0, status: Status = Status.COMPLETED, images: int = 2) -> None:
    """Write a trial whose row, epochs and predictions all hold one value."""
    row = replace(first_row(make_trial(trial_id), status), epochs_run=value, test_accuracy=0.5, retries=value)
    history = [
        EpochRecord(
            trial_id=trial_id,
            phase=1,
            epoch=epoch,
            train_loss=float(value),
            train_accuracy=0.5,
            val_loss=float("nan"),
            val_accuracy=0.5,
            learning_rate=0.1,
            epoch_seconds=1.0,
            images_per_second=1.0,
        )
        for epoch in range(1, 3)
    ]
    labels = np.full(images, value)
    predictions = Predictions(
        images=tuple(f"{place}.png" for place in range(images)),
        labels=labels,
        predicted=labels,
        probabilities=np.random.default_rng(abs(value)).random((images, 3)),
    )
    write_trial(run_dir, row, history, predictions if images else None)


def values(run_dir: Path) -> dict[str, tuple[int, str]]:
    """Return value and status of each trial, where all tables agree and nobody is missing or there twice."""
    results, history, predictions = load_results(run_dir), load_history(run_dir), load_predictions(run_dir)
    assert results["trial_id"].is_unique
    found = {row["trial_id"]: (int(row["retries"]), str(row["status"])) for row in results.to_dict("records")}
    assert {name: status.value for name, status in finished_trial_ids(run_dir).items()} == {
        name: status for name, (_, status) in found.items()
    }
    by_trial = history.groupby("trial_id")["train_loss"].agg(["count", "min", "max"])
    assert by_trial.index.tolist() == sorted(found)
    assert by_trial["count"].tolist() == [2] * len(found)
    labels = predictions.groupby("trial_id", sort=False)["label"].agg(["min", "max"])
    assert labels.index.tolist() == [name for name in sorted(found) if name in labels.index]
    assert load_outcomes(run_dir).keys() == set(labels.index)
    for table in (by_trial, labels):
        for name in ("min", "max"):
            assert table[name].astype(int).to_dict() == {trial_id: found[str(trial_id)][0] for trial_id in table.index}
    for trial_id, expected in found.items():
        row = read_trial(run_dir, trial_id)
        assert row is not None
        assert (row.retries, row.status.value) == expected
    assert {name: row and row.retries for name, row in read_rows(run_dir).items()} == {
        name: value for name, (value, _) in found.items()
    }
    return found


def files(run_dir: Path, folder: str = "results") -> list[str]:
    return sorted(path.name for path in (run_dir / folder).glob("*.parquet"))


class Compactions(RuleBasedStateMachine):
    """Trials that end, fail, are tried again and taken out, beside merges that are killed at any change of a file."""

    trials = Bundle("trials")

    def __init__(self) -> None:
        super().__init__()
        self._folder = TemporaryDirectory()
        self.run_dir = Path(self._folder.name)
        (self.run_dir / "results").mkdir()
        self.known: dict[str, tuple[int, str]] = {}
        self.written = 0

    @rule(target=trials, name=st.sampled_from("abcdefgh"))
    def name(self, name: str) -> str:
        return name

    @rule(trial_id=trials, status=st.sampled_from([*FINAL, *Status]), images=st.sampled_from([0, 2, 2, 12_000]))
    def end(self, trial_id: str, status: Status, images: int) -> None:
        self.written += 1
        write(self.run_dir, trial_id, value=self.written, status=status, images=images)
        self.known[trial_id] = (self.written, status.value)

    @rule(trial_id=trials, changes=st.integers(0, 2))
    def die_while_it_is_written(self, trial_id: str, changes: int) -> None:
        if trial_id not in self.known:  # of one that has a row, a killed attempt may leave either's epochs
            with killed_after(changes):
                write(self.run_dir, trial_id, value=-1)

    @rule(trial_id=trials)
    def take_out(self, trial_id: str) -> None:
        remove_trial(self.run_dir, trial_id)
        self.known.pop(trial_id, None)

    @rule(batch=st.integers(1, 4), running=st.booleans())
    def merge(self, batch: int, *, running: bool) -> None:
        among = set(self.known) if running else None
        compact(self.run_dir, among, least=1, batch=batch)
        merged = {name for name, (_, status) in self.known.items() if status in FINAL}
        assert {name.removesuffix(".parquet") for name in files(self.run_dir) if "merged" not in name}.isdisjoint(
            merged
        )

    @rule(batch=st.integers(1, 4), changes=st.integers(0, 12), running=st.booleans())
    def die_while_merging(self, batch: int, changes: int, *, running: bool) -> None:
        with killed_after(changes):
            compact(self.run_dir, set(self.known) if running else None, least=1, batch=batch)

    @invariant()
    def every_row_is_there_once(self) -> None:
        assert values(self.run_dir) == self.known

    def teardown(self) -> None:
        self._folder.cleanup()


TestCompactions = pytest.mark.timeout(600)(Compactions.TestCase)
TestCompactions.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)


@pytest.mark.parametrize("changes", range(14))
def test_what_a_killed_merge_left_is_gone_with_the_next(tmp_path: Path, changes: int) -> None:
    for name in "abcd":
        write(tmp_path, name, value=ord(name))
    before = values(tmp_path)
    with killed_after(changes):
        compact(tmp_path, least=1, batch=2)
    assert values(tmp_path) == before
    compact(tmp_path, least=1, batch=4)
    assert values(tmp_path) == before
    for folder in FOLDERS:
        assert all(name.startswith("merged-") for name in files(tmp_path, folder))
    everything = pd.read_parquet(tmp_path / "results")
    assert sorted(everything["trial_id"]) == list(before), "whoever reads the folder with pandas finds each row once"


def test_tables_are_the_same_to_the_last_bit(tmp_path: Path) -> None:
    run_dir = MadeUp(images=40).write(tmp_path / "run")
    readers: list[Callable[[], pd.DataFrame]] = [
        lambda: load_results(run_dir),
        lambda: load_history(run_dir),
        lambda: load_predictions(run_dir),
        lambda: raybench.rank(run_dir),
    ]
    before = [read() for read in readers]
    outcomes = load_outcomes(run_dir)
    assert compact(run_dir, least=1, batch=7) == 36
    for table, read in zip(before, readers, strict=True):
        pd.testing.assert_frame_equal(read(), table, check_exact=True)
    merged = load_outcomes(run_dir)
    assert list(merged) == list(outcomes)
    assert all(merged[name].images == each.images for name, each in outcomes.items())
    assert all((merged[name].correct == each.correct).all() for name, each in outcomes.items())


def test_few_trials_keep_their_files_and_many_share_some(tmp_path: Path) -> None:
    for number in range(LEAST - 1):
        write(tmp_path, f"{number:04d}", images=0)
    assert compact(tmp_path) == 0
    assert len(files(tmp_path)) == LEAST - 1
    for number in range(LEAST - 1, BATCH + 1):
        write(tmp_path, f"{number:04d}", images=0)
    assert compact(tmp_path) == BATCH + 1
    assert files(tmp_path) == files(tmp_path, "history") == ["merged-0001.parquet", "merged-0002.parquet"]
    assert len(values(tmp_path)) == BATCH + 1


def test_failed_trials_are_left_for_their_retry(tmp_path: Path) -> None:
    write(tmp_path, "good")
    write(tmp_path, "bad", status=Status.FAILED)
    compact(tmp_path, least=1)
    assert files(tmp_path) == ["bad.parquet", "merged-0001.parquet"]
    write(tmp_path, "bad", value=7)
    compact(tmp_path, least=1)
    assert files(tmp_path) == ["merged-0001.parquet", "merged-0002.parquet"]
    assert values(tmp_path) == {"good": (0, "completed"), "bad": (7, "completed")}


def test_rows_that_cannot_be_read_or_are_of_a_later_version_stay_as_they_are(tmp_path: Path) -> None:
    for name in ("fine", "later", "torn"):
        write(tmp_path, name)
    row = read_trial(tmp_path, "later")
    assert row is not None
    write_trial(tmp_path, replace(row, schema_version=SCHEMA_VERSION + 1), [], None)
    torn = tmp_path / "history/torn.parquet"
    torn.write_bytes(torn.read_bytes()[:-9])
    compact(tmp_path, least=1)
    assert files(tmp_path) == ["later.parquet", "merged-0001.parquet", "torn.parquet"]
    with pytest.raises(RunError, match=r"history/torn\.parquet: cannot be read as Parquet"):
        load_history(tmp_path, only={"fine", "torn"})


def test_large_predictions_stay_one_file_a_trial(tmp_path: Path) -> None:
    write(tmp_path, "large", images=12_000)
    write(tmp_path, "small", images=2)
    assert (tmp_path / "predictions/large.parquet").stat().st_size > LARGE_BYTES
    compact(tmp_path, least=1)
    assert files(tmp_path, "predictions") == ["large.parquet", "merged-0001.parquet"]
    assert len(values(tmp_path)) == 2


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("how", ["cut", "bytes", "swapped"])
def test_damaged_merged_file_is_told(tmp_path: Path, folder: str, how: str) -> None:
    for name in "ab":
        write(tmp_path, name)
        compact(tmp_path, least=1)
    path, other = tmp_path / folder / "merged-0001.parquet", tmp_path / folder / "merged-0002.parquet"
    data = path.read_bytes()
    match how:
        case "cut":
            path.write_bytes(data[: len(data) // 2])
        case "bytes":
            path.write_bytes(data[:30] + bytes(byte ^ 255 for byte in data[30:60]) + data[60:])
        case _:
            path.write_bytes(other.read_bytes())
    read = {"results": load_results, "history": load_history, "predictions": load_predictions}[folder]
    with pytest.raises(RunError, match=rf"{folder}/merged-0001\.parquet: cannot be read as Parquet.*its trials"):
        read(tmp_path)
    assert damaged_file(tmp_path, "a", [folder]) is not None


def test_trial_of_a_merged_file_is_copied_into_another_run(tmp_path: Path) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    for number, name in enumerate("abc"):
        write(theirs, name, value=number)
    compact(theirs, least=1)
    copy_trial(theirs, ours, "b", ["history", "predictions"])
    assert values(ours) == {"b": (1, "completed")}


def test_reader_of_another_process_sees_every_row_once_while_files_are_merged(tmp_path: Path) -> None:
    for number in range(60):
        write(tmp_path, f"{number:03d}", value=number, images=0)
    script = (
        "import sys; from pathlib import Path; from raybench.compaction import compact\n"
        "while compact(Path(sys.argv[1]), {f'{n:03d}' for n in range(60)}, least=1, batch=1): pass"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)]) as merging:
        rounds = 0
        while merging.poll() is None or not rounds:
            assert load_results(tmp_path)["retries"].tolist() == list(range(60))
            assert len(load_history(tmp_path)) == 120
            rounds += 1
    assert merging.returncode == 0
    assert len(files(tmp_path)) == 60
    assert all(name.startswith("merged") for name in files(tmp_path))
    assert len(load_results(tmp_path)) == 60


def test_nothing_is_lost_to_a_real_kill(tmp_path: Path) -> None:
    for number in range(40):
        write(tmp_path, f"{number:03d}", value=number)
    before = values(tmp_path)
    script = "import sys; from pathlib import Path; from raybench.compaction import compact as merge\n"
    script += "merge(Path(sys.argv[1]), least=1, batch=2)"
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while len(files(tmp_path, "results")) == 40 and process.poll() is None and time.monotonic() < deadline:
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert values(tmp_path) == before
    compact(tmp_path, least=1)
    assert values(tmp_path) == before


def test_merged_run_in_an_object_store_is_read_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAYBENCH_CACHE_DIR", str(tmp_path / "here"))
    with object_store(monkeypatch) as bucket:
        uri = f"{bucket}/merged"
        here = run_folder(uri)
        for number in range(12):
            write(here, f"{number:03d}", value=number)
        before = values(here)
        monkeypatch.setenv("RAYBENCH_CACHE_DIR", str(tmp_path / "there"))
        there = opened(uri)
        assert len(files(there)) == 12
        assert compact(here, least=1) == 12
        assert values(opened(uri)) == before, "with what was brought before"
        monkeypatch.setenv("RAYBENCH_CACHE_DIR", str(tmp_path / "yonder"))
        yonder = opened(uri)
        assert {folder: files(yonder, folder) for folder in FOLDERS} == {
            folder: ["merged-0001.parquet"] for folder in FOLDERS
        }
        assert values(yonder) == before
