"""The command line on real images with real Ray: what a user starts, interrupts, extends and reads."""

import io
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import psutil
import pytest

import raybench
from raybench.records import Status
from tests.commands import CORES, Done, call, run, start
from tests.commands import raybench as command_here
from tests.photos import COUNTS, write_photos

pytestmark = pytest.mark.minutes

OWN = """
name: own
datasets: [{name: folders, source: "imagefolder:images", image_size: 32}]
models: [resnet8, "network_of_a_test:Own"]
strategies: [linear-probe, fine-tune+augment]
seeds: [0, 1]
training: {epochs: 4, patience: 4, batch_size: 8}
resources: {measure: false}
"""

NETWORK = '''
"""A model of one's own; while it learns it heeds two files in the working directory."""

import time
from pathlib import Path

from torch import nn


class Own(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.head = nn.Linear(32, num_classes)
        self.batches = 0

    def forward(self, images):
        if self.training:
            self.heed()
        return self.head(self.body(images))

    def heed(self):
        """Fail where there is `fault`; where there is `hold`, be slow for two epochs, then wait until it is gone."""
        if Path("fault").exists():
            raise RuntimeError("the fault of a test")
        self.batches += 1
        if Path("hold").exists() and self.batches <= 8:
            time.sleep(0.3)
        while Path("hold").exists() and self.batches > 8:
            time.sleep(0.02)
'''

METRICS = ["val_loss", "val_accuracy", "test_loss", "test_accuracy", "best_epoch", "epochs_run", "status"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory with images and an experiment on them, one of whose models is one's own."""
    folder = tmp_path_factory.mktemp("work")
    write_photos(folder)
    (folder / "own.yaml").write_text(OWN)
    (folder / "network_of_a_test.py").write_text(NETWORK)
    yield folder
    for weights in folder.rglob("*.safetensors"):
        weights.unlink()  # half a gigabyte, and pytest keeps the folders of three sessions


@pytest.fixture(scope="module")
def undisturbed(folder: Path) -> Done:
    """The run of `own.yaml` in runs/own."""
    return run("own.yaml", folder=folder)


def rows_of(run_dir: Path) -> pd.DataFrame:
    return raybench.load_results(run_dir).set_index("trial_id").sort_index()


def same_outcome(first: Path, second: Path) -> None:
    """Assert that two runs hold the same trials with the same numbers, to the last digit."""
    pd.testing.assert_frame_equal(rows_of(first)[METRICS], rows_of(second)[METRICS], check_exact=True)
    for load, order, timed in (
        (raybench.load_predictions, ["trial_id", "image"], []),
        (raybench.load_history, ["trial_id", "epoch"], ["epoch_seconds", "images_per_second"]),
    ):
        one, other = (load(path).sort_values(order, ignore_index=True).drop(columns=timed) for path in (first, second))
        pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_every_trial_of_an_undisturbed_run_completes(undisturbed: Done, folder: Path) -> None:
    assert undisturbed.status == 0, undisturbed.err
    rows = rows_of(folder / "runs/own")
    assert len(rows) == 8
    assert set(rows["status"]) == {"completed"}
    assert rows["standalone_cost_usd"].isna().all(), "no price, no cost"


@dataclass(frozen=True, kw_only=True, slots=True)
class Faulty:
    """A run some of whose trials failed, and which was resumed once the fault was gone."""

    first: Done
    rows: pd.DataFrame
    """After the first command."""
    again: Done


@pytest.fixture(scope="module")
def faulty(folder: Path) -> Faulty:
    (folder / "fault").touch()
    try:
        first = run("own.yaml", "--run-dir", "faulty", folder=folder, cores=1)
    finally:
        (folder / "fault").unlink()
    rows = rows_of(folder / "faulty")
    again = call("resume", "faulty", "--retry-failed", "--num-cpus", "1", folder=folder)
    return Faulty(first=first, rows=rows, again=again)


def test_failed_trials_keep_their_error_and_the_others_finish(faulty: Faulty) -> None:
    assert faulty.first.status == 1, faulty.first.err
    rows = faulty.rows
    failed = rows[rows["status"] == "failed"]
    assert set(zip(failed["model"], failed["strategy"], failed["seed"], strict=True)) == {
        ("network_of_a_test:Own", "fine-tune+augment", seed) for seed in (0, 1)
    }
    assert failed["error"].str.contains("RuntimeError: the fault of a test").all()
    assert failed["test_accuracy"].isna().all()
    assert len(rows) == 8
    assert set(rows.drop(failed.index)["status"]) == {"completed"}
    assert "2 of 8 trials failed" in faulty.first.out


def test_failed_trials_are_trained_again_on_request(faulty: Faulty, folder: Path) -> None:
    assert faulty.again.status == 0, faulty.again.err
    rows = rows_of(folder / "faulty")
    assert set(rows["status"]) == {"completed"}
    before = faulty.rows[faulty.rows["status"] == "completed"]
    assert list(rows.loc[before.index, "finished_at"]) == list(before["finished_at"])


def test_two_runs_of_one_file_give_identical_numbers(undisturbed: Done, faulty: Faulty, folder: Path) -> None:
    assert (undisturbed.status, faulty.again.status) == (0, 0)
    same_outcome(folder / "runs/own", folder / "faulty")


def test_interrupted_run_goes_on_and_ends_with_the_same_numbers(undisturbed: Done, folder: Path) -> None:
    assert undisturbed.status == 0
    run_dir = folder / "interrupted"
    (folder / "hold").touch()
    try:
        process = start("run", "own.yaml", "--run-dir", "interrupted", "--num-cpus", str(CORES), folder=folder)
        wait_for(process, lambda: any(run_dir.glob("results/*.parquet")) and any(run_dir.glob("checkpoints/*.pt")))
        family = family_of(process)
        os.killpg(process.pid, signal.SIGINT)  # what a terminal does on Ctrl-C
        (folder / "hold").unlink()  # so that epochs come to their end
        out, err = process.communicate(timeout=100)
    finally:
        (folder / "hold").unlink(missing_ok=True)
    assert process.returncode == 130, out + err
    assert "Traceback" not in out + err
    assert "raybench resume interrupted" in out
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []
    rows = rows_of(run_dir)
    assert len(rows) == 8, "an unfinished trial has a row too"
    ended = rows[rows["status"] == Status.COMPLETED]
    assert 0 < len(ended) < 8
    assert set(rows["status"]) == {Status.COMPLETED, Status.UNFINISHED}

    done = run("own.yaml", "--run-dir", "interrupted", folder=folder, cores=1)
    assert done.status == 0, done.err
    assert set(rows_of(run_dir)["status"]) == {Status.COMPLETED}
    assert not list(run_dir.glob("checkpoints/*.pt"))
    same_outcome(run_dir, folder / "runs/own")
    untouched = rows_of(run_dir).loc[ended.index]
    assert list(untouched["finished_at"]) == list(ended["finished_at"]), "what had ended is not trained again"


def test_interruption_before_the_first_trial_leaves_nothing_behind(folder: Path) -> None:
    process = start("run", "own.yaml", "--run-dir", "never", "--num-cpus", str(CORES), folder=folder)
    ray_started = ("raylet", "gcs_server")
    wait_for(process, lambda: any(child.name() in ray_started for child in family_of(process)))
    family = family_of(process)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 130, out + err
    assert err == "Interrupted before any trial was started. Go on with the same command.\n"
    assert not (folder / "never").exists()
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []


def family_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def wait_for(process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_trained_trial_is_shown_exported_and_asked_about_images(
    undisturbed: Done, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert undisturbed.status == 0
    monkeypatch.chdir(folder)
    rows = raybench.load_results("runs/own")
    trial = rows.loc[rows["model"] == "resnet8", "trial_id"].iloc[0]

    assert command_here("show", "runs/own") == 0
    listed = capsys.readouterr().out
    assert all(trial_id in listed for trial_id in rows["trial_id"])
    assert command_here("show", "runs/own", trial[:6]) == 0
    assert "val loss" in capsys.readouterr().out

    assert command_here("export", "runs/own", trial, "--output", "weights.safetensors") == 0
    assert (folder / "weights.safetensors").is_file()
    assert (folder / "weights.json").is_file()
    capsys.readouterr()
    image = "images/test/disc/00.jpg"
    assert command_here("predict", "runs/own", trial, image) == 0
    told = capsys.readouterr().out
    assert image in told
    assert any(name in told for name in COUNTS)

    (folder / "text.jpg").write_text("no image")
    assert command_here("predict", "runs/own", trial, image, "text.jpg") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("raybench: text.jpg: ")

    assert command_here("rank", "runs/own", "--format", "csv", "--by", "train_seconds") == 0
    table = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert list(table["rank"]) == [1, 2, 3, 4]
    assert table["train_seconds"].is_monotonic_increasing
