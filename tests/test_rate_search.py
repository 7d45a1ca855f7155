"""`learning_rate: auto` with real Ray: the same tries for every configuration, before and apart from its trials."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

import raybench
from raybench.learning_rates import TUNING_SEED
from raybench.manifest import MANIFEST
from raybench.scheduling.cluster import quiet_ray, ray_session

DIGITS = """
name: digits
datasets: [{name: digits, source: digits, image_size: 16, train_sizes: [200]}]
models: [resnet8]
weights: [random, packaged]
strategies: [linear-probe, fine-tune]
training: {epochs: 5, patience: 5, learning_rate: auto}
resources: {measure: false}
scheduler: none
price_per_hour_usd: {local: 0.5}
"""

SMALL = """
name: small
datasets: [{name: digits, source: digits, image_size: 8, train_sizes: [40]}]
models: ["networks_of_rates:Small"]
strategies: [fine-tune]
training: {epochs: 4, learning_rate: auto, batch_size: 8, learning_rate_search: {values: 3}}
resources: {measure: false}
"""

NETWORKS = '''
"""Models of one's own: one that heeds two files in the working directory while it learns, and one that never learns."""

import math
import time
from pathlib import Path

from torch import nn


class Small(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.ReLU())
        self.head = nn.Linear(16, num_classes)

    def forward(self, images):
        if self.training and Path("fault").exists():
            raise RuntimeError("the fault of a test")
        while self.training and Path("hold").exists() and list(Path("run/search/results").glob("*.parquet")):
            time.sleep(0.02)
        return self.head(self.body(images))


class Other(Small):
    pass


class Hopeless(Small):
    def forward(self, images):
        return super().forward(images) * (math.nan if self.training else 1)
'''

CONFIGURATION = ["weights", "strategy"]
pytestmark = pytest.mark.timeout(1200)  # twenty tries, and Ray as often as a user starts it


@pytest.fixture(scope="module")
def _ray() -> Iterator[None]:
    """Keep one Ray for all runs of this file: starting it takes longer than they do."""
    with quiet_ray(), ray_session(num_cpus=2):
        yield


@pytest.fixture(scope="module")
def digits(_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with four configurations at searched rates, and two of them at a sensible and at a bad one."""
    folder = tmp_path_factory.mktemp("rates")
    (folder / "digits.yaml").write_text(DIGITS)
    packaged = "weights=[packaged]"
    for name, overrides in (
        ("sensible", ["training.learning_rate=0.003", packaged]),
        ("bad", ["training.learning_rate=0.1", packaged]),
        ("auto", []),
    ):
        raybench.run(folder / "digits.yaml", run_dir=folder / name, overrides=overrides, quiet=True)
    return folder


def order(run_dir: Path) -> list[str]:
    """Return the strategies in the order of the ranking, where they begin with packaged weights."""
    return list(raybench.rank(run_dir).query("weights == 'packaged'")["strategy"])


def test_every_configuration_gets_the_same_number_of_tries(digits: Path) -> None:
    tries = raybench.load_search(digits / "auto")
    assert tries.groupby(CONFIGURATION).size().to_dict() == {
        (weights, strategy): 5 for weights in ("random", "packaged") for strategy in ("linear-probe", "fine-tune")
    }
    assert set(tries["outcome"]) == {"ended"}
    assert set(tries["epochs_run"]) == {5}
    best = tries.loc[tries.groupby(CONFIGURATION)["val_loss"].idxmin()]
    assert best["chosen"].all()
    assert tries["chosen"].sum() == 4


def test_a_bad_fixed_rate_changes_a_ranking_that_auto_does_not(digits: Path) -> None:
    assert order(digits / "sensible") == order(digits / "auto") == ["fine-tune", "linear-probe"]
    assert order(digits / "bad") == ["linear-probe", "fine-tune"]


def test_the_tuning_seed_is_in_no_reported_figure(digits: Path) -> None:
    run_dir = digits / "auto"
    tries = set(raybench.load_search(run_dir)["trial_id"])
    results = raybench.load_results(run_dir)
    assert set(results["seed"]) == {0}
    for table in (results, raybench.load_history(run_dir), raybench.load_predictions(run_dir)):
        assert not tries & set(table["trial_id"])
    kept = pd.read_parquet(run_dir / "search" / "results")
    assert set(kept["seed"]) == {TUNING_SEED}
    assert set(kept["trial_id"]) == tries


def test_the_search_is_charged_to_its_configuration(digits: Path) -> None:
    tries = raybench.load_search(digits / "auto").groupby(CONFIGURATION)[["train_seconds", "standalone_cost_usd"]].sum()
    rows = raybench.load_results(digits / "auto").set_index(CONFIGURATION)
    assert rows["search_seconds"].to_dict() == pytest.approx(tries["train_seconds"].to_dict())
    assert rows["search_cost_usd"].to_dict() == pytest.approx(tries["standalone_cost_usd"].to_dict())
    assert "search_seconds" not in raybench.load_results(digits / "bad")
    ranked = raybench.rank(digits / "auto").set_index(CONFIGURATION)["standalone_cost_usd"]
    whole = rows["standalone_cost_usd"] + rows["search_cost_usd"]
    assert ranked.to_dict() == pytest.approx(whole.to_dict())


def test_nothing_but_rows_is_left_of_the_tries(digits: Path) -> None:
    assert {path.name for path in (digits / "auto" / "search").iterdir()} == {"results", "history"}


def test_commands_say_how_learning_rates_were_chosen(digits: Path) -> None:
    for name, said in (("bad", "Untuned: "), ("auto", "the best of 5 on validation")):
        assert said in " ".join(call("rank", name, folder=digits).split())
    shown = call("show", "auto", folder=digits)
    chosen = raybench.load_search(digits / "auto").query("chosen")
    assert all(f"{loss:.4f}" in shown for loss in chosen["val_loss"])
    assert "x 0.1" in shown
    assert "x 0.1" not in call("show", "bad", folder=digits)
    joined = " ".join(call("rank", "bad", "auto", folder=digits).split())
    assert "bad: Untuned: " in joined
    assert "auto: Learning rates: " in joined
    planned = " ".join(call("plan", "digits.yaml", folder=digits).split())
    assert "20 tries first, at most 100 epochs" in planned
    assert "0.1, 0.3, 1, 3 and 10 times the default" in planned


def call(*arguments: str, folder: Path) -> str:
    command = [str(Path(sys.executable).with_name("raybench")), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def test_trials_are_found_without_the_tries_and_nothing_is_run_again(digits: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(digits / "auto", run_dir)
    shutil.rmtree(run_dir / "search")
    before = raybench.load_results(digits / "auto")
    raybench.run(digits / "digits.yaml", run_dir=run_dir, quiet=True)
    assert not (run_dir / "search").exists()
    after = raybench.load_results(run_dir)
    pd.testing.assert_frame_equal(after.drop(columns=["search_seconds", "search_cost_usd"]), before[after.columns[:-2]])
    assert after["search_cost_usd"].isna().all(), "what is not known is no 0"
    assert set(raybench.load_search(run_dir)["outcome"]) == {"unfinished"}


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a working directory with an experiment on small networks of one's own."""
    (tmp_path / "small.yaml").write_text(SMALL)
    (tmp_path / "networks_of_rates.py").write_text(NETWORKS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def run(small: Path, *overrides: str) -> raybench.Run:
    return raybench.run(small / "small.yaml", run_dir=small / "run", overrides=overrides, quiet=True)


def names(*models: str) -> str:
    return f"models={json.dumps([f'networks_of_rates:{name}' for name in models])}"


@pytest.mark.usefixtures("_ray")
def test_an_extension_searches_for_the_new_configurations_alone(small: Path) -> None:
    run(small)
    rows = {path: path.stat().st_mtime_ns for path in (small / "run").rglob("*.parquet")}
    rates = json.loads((small / "run" / MANIFEST).read_text())["learning_rates"]
    assert len(rows) == 3 * 2 + 3, "three tries with two tables each, a trial with three"

    run(small, "seeds=[0, 1]", names("Small", "Other"))

    assert {path: path.stat().st_mtime_ns for path in rows} == rows
    assert len(raybench.load_results(small / "run")) == 4
    tries = raybench.load_search(small / "run")
    assert tries.groupby("model").size().to_dict() == {f"networks_of_rates:{name}": 3 for name in ("Small", "Other")}
    assert len(list((small / "run/search/results").iterdir())) == 6
    assert rates.items() <= json.loads((small / "run" / MANIFEST).read_text())["learning_rates"].items()


@pytest.mark.usefixtures("_ray")
def test_a_configuration_without_any_usable_rate_fails_and_the_others_go_on(small: Path) -> None:
    done = run(small, names("Hopeless", "Small"))
    assert done.failed == 1
    rows = raybench.load_results(small / "run").set_index("model")
    assert dict(rows["status"]) == {"networks_of_rates:Hopeless": "failed", "networks_of_rates:Small": "completed"}
    error = rows["error"]["networks_of_rates:Hopeless"]
    assert error.startswith("NoLearningRate: none of the 3 rates tried gave a val loss")
    assert "the loss is not finite" in error
    tries = raybench.load_search(small / "run")
    hopeless = tries[tries["model"] == "networks_of_rates:Hopeless"]
    assert set(hopeless["outcome"]) == {"diverged"}
    assert not hopeless["chosen"].any()
    before = {path: path.stat().st_mtime_ns for path in (small / "run/search").rglob("*.parquet")}
    raybench.resume(small / "run", retry_failed=True, quiet=True)
    after = {path: path.stat().st_mtime_ns for path in (small / "run/search").rglob("*.parquet")}
    assert after == before, "a rate that diverged would again"


@pytest.mark.usefixtures("_ray")
def test_failed_tries_are_run_again_on_request(small: Path) -> None:
    (small / "fault").touch()
    assert run(small).failed == 1
    assert set(raybench.load_search(small / "run")["outcome"]) == {"failed"}
    (small / "fault").unlink()
    assert raybench.resume(small / "run", quiet=True).failed == 1, "not without being asked for"

    done = raybench.resume(small / "run", retry_failed=True, quiet=True)

    assert done.failed == 0
    assert list(raybench.load_results(small / "run")["status"]) == ["completed"]
    assert len(list((small / "run/results").iterdir())) == 1, "the row of the failure is replaced"


def test_an_interrupted_search_goes_on_and_chooses_as_if_it_had_not_been(small: Path) -> None:
    (small / "hold").touch()
    command = [str(Path(sys.executable).with_name("raybench")), "run", "small.yaml", "--run-dir", "run"]
    environment = {**os.environ, "PYTHONPATH": str(small), "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}
    process = subprocess.Popen(
        [*command, "--num-cpus", "2"],
        cwd=small,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 500
    while not list((small / "run/search/results").glob("*.parquet")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 130, out + err
    assert "raybench resume run" in out
    assert list(raybench.load_results(small / "run")["status"]) == ["unfinished"]
    first = raybench.load_search(small / "run")
    assert set(first["outcome"]) == {"ended", "unfinished"}
    assert not first["chosen"].any()

    (small / "hold").unlink()
    done = subprocess.run(
        [command[0], "resume", "run", "--num-cpus", "2"], cwd=small, env=environment, capture_output=True, check=False
    )

    assert done.returncode == 0, done.stderr
    again = raybench.load_search(small / "run")
    kept = first[first["outcome"] == "ended"].index
    pd.testing.assert_frame_equal(
        again.loc[kept, ["val_loss", "train_seconds"]], first.loc[kept, ["val_loss", "train_seconds"]]
    )
    assert again["chosen"].sum() == 1
    assert list(raybench.load_results(small / "run")["status"]) == ["completed"]
