"""The command line on real images with real Ray: what a user starts, interrupts, extends and reads."""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import psutil
import pytest

import raybench
from raybench import cli
from raybench.records import Status
from tests.photos import COUNTS, write_photos

COMMAND = str(Path(sys.executable).with_name("raybench"))
CORES = 2
PRICE = 0.72
"""US dollars an hour for this machine."""

PHOTOS = f"""
name: photos
datasets:
  - {{name: folders, source: "imagefolder:images", image_size: 64}}
  - {{name: lists, source: "filelist:photos", image_size: 64}}
models: [resnet18, resnet50, alexnet]
strategies: [linear-probe]
training: {{epochs: 2, batch_size: 8}}
resources: {{measure: false}}
price_per_hour_usd: {{local: {PRICE}}}
"""

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
    process = start(*arguments, folder=folder)
    out, err = process.communicate(timeout=200)
    assert "Traceback" not in out + err, out + err
    return Done(status=process.returncode, out=out, err=err)


def run(file: str, *arguments: str, folder: Path) -> Done:
    return call("run", file, "--num-cpus", str(CORES), *arguments, folder=folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory with images, an experiment on them, and one with a model of one's own."""
    folder = tmp_path_factory.mktemp("work")
    write_photos(folder)
    (folder / "photos.yaml").write_text(PHOTOS)
    (folder / "own.yaml").write_text(OWN)
    (folder / "network_of_a_test.py").write_text(NETWORK)
    yield folder
    for weights in folder.rglob("*.safetensors"):
        weights.unlink()  # half a gigabyte, and pytest keeps the folders of three sessions


@pytest.fixture(scope="module")
def photos(folder: Path) -> Done:
    return run("photos.yaml", folder=folder)


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


def test_photos_in_both_layouts_end_with_a_table_that_names_the_pick(photos: Done) -> None:
    assert photos.status == 0, photos.err
    for model in ("resnet18", "resnet50", "alexnet"):
        assert model in photos.out
    text = " ".join(photos.out.split())
    assert re.search(r"Pick for folders, 32 training images: (resnet18|resnet50|alexnet) linear-probe", text), (
        photos.out
    )
    assert "Results: runs/photos" in text


def test_rows_hold_the_recall_of_the_minority_class(photos: Done, folder: Path) -> None:
    assert photos.status == 0
    rows = rows_of(folder / "runs/photos")
    assert len(rows) == 6
    assert set(rows["status"]) == {"completed"}
    predictions = raybench.load_predictions(folder / "runs/photos")
    balanced = rows["test_balanced_accuracy"]
    for trial_id, recall in zip(rows.index, rows["test_per_class_recall"], strict=True):
        own = predictions[predictions["trial_id"] == trial_id]
        hit = (own["label"] == own["predicted"]).groupby(own["label"]).mean()
        assert list(recall) == pytest.approx(list(hit))
        assert len(recall) == 3
        assert balanced[trial_id] == pytest.approx(sum(recall) / 3)


def test_one_set_of_files_gives_the_same_metrics_in_either_layout(photos: Done, folder: Path) -> None:
    assert photos.status == 0
    rows = rows_of(folder / "runs/photos").set_index("model").sort_index()
    folders, lists = (rows.loc[rows["dataset"] == name, METRICS] for name in ("folders", "lists"))
    pd.testing.assert_frame_equal(folders, lists, check_exact=True)


def test_cost_is_time_by_share_by_price(photos: Done, folder: Path) -> None:
    rows = rows_of(folder / "runs/photos")
    assert set(rows["cpu_share"]) == {1 / CORES}
    assert list(rows["standalone_cost_usd"]) == pytest.approx(list(rows["train_seconds"] / 3600 * PRICE / CORES))
    assert "cost $" in photos.out


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
        first = run("own.yaml", "--run-dir", "faulty", folder=folder)
    finally:
        (folder / "fault").unlink()
    rows = rows_of(folder / "faulty")
    again = call("resume", "faulty", "--retry-failed", "--num-cpus", str(CORES), folder=folder)
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
        out, err = process.communicate(timeout=100)
    finally:
        (folder / "hold").unlink()
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

    done = run("own.yaml", "--run-dir", "interrupted", folder=folder)
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
    assert err == "Interrupted before anything was started; never is as it was.\n"
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


def test_one_more_seed_trains_the_new_trials_alone(undisturbed: Done, folder: Path) -> None:
    assert undisturbed.status == 0
    run_dir = folder / "extended"
    shutil.copytree(folder / "runs/own", run_dir)
    before = {
        path: path.read_bytes() for name in ("results", "history", "predictions") for path in run_dir.glob(f"{name}/*")
    }
    done = run("own.yaml", "--run-dir", "extended", "--set", "seeds=[0, 1, 2]", folder=folder)
    assert done.status == 0, done.err
    rows = rows_of(run_dir)
    assert rows["seed"].value_counts().to_dict() == {0: 4, 1: 4, 2: 4}
    assert len(before) == 3 * 8
    assert {path: path.read_bytes() for path in before} == before


def test_trained_trial_is_shown_exported_and_asked_about_images(
    undisturbed: Done, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert undisturbed.status == 0
    monkeypatch.chdir(folder)
    rows = raybench.load_results("runs/own")
    trial = rows.loc[rows["model"] == "resnet8", "trial_id"].iloc[0]

    assert here(monkeypatch, "show", "runs/own") == 0
    listed = capsys.readouterr().out
    assert all(trial_id in listed for trial_id in rows["trial_id"])
    assert here(monkeypatch, "show", "runs/own", trial[:6]) == 0
    assert "val loss" in capsys.readouterr().out

    assert here(monkeypatch, "export", "runs/own", trial, "--output", "weights.safetensors") == 0
    assert (folder / "weights.safetensors").is_file()
    assert (folder / "weights.json").is_file()
    capsys.readouterr()
    image = "images/test/disc/00.jpg"
    assert here(monkeypatch, "predict", "runs/own", trial, image) == 0
    told = capsys.readouterr().out
    assert image in told
    assert any(name in told for name in COUNTS)

    (folder / "text.jpg").write_text("no image")
    assert here(monkeypatch, "predict", "runs/own", trial, image, "text.jpg") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("raybench: text.jpg: ")

    assert here(monkeypatch, "rank", "runs/own", "--format", "csv", "--by", "train_seconds") == 0
    table = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert list(table["rank"]) == [1, 2, 3, 4]
    assert table["train_seconds"].is_monotonic_increasing


def here(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command line in this process and return its exit status."""
    monkeypatch.setattr(sys, "argv", ["raybench", *arguments])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return int(left.value.code or 0)
