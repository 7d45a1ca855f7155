"""`learning_rate: auto` that is extended, interrupted, or comes to nothing: what was tried is not tried again."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

import raybench
from raybench.manifest import MANIFEST
from raybench.scheduling.cluster import quiet_ray, ray_session
from tests.commands import call, start

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

pytestmark = [pytest.mark.minutes, pytest.mark.timeout(600)]  # some start Ray twice


@pytest.fixture(scope="module")
def _ray() -> Iterator[None]:
    """Keep one Ray for all runs of this file, and one worker: starting them takes longer than they do."""
    with quiet_ray(), ray_session(num_cpus=1):
        yield


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
    process = start("run", "small.yaml", "--run-dir", "run", "--num-cpus", "1", folder=small)
    deadline = time.monotonic() + 500
    while not list((small / "run/search/results").glob("*.parquet")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    (small / "hold").unlink()  # so that epochs come to their end
    out, err = process.communicate(timeout=300)
    assert process.returncode == 130, out + err
    assert "raybench resume run" in out
    assert list(raybench.load_results(small / "run")["status"]) == ["unfinished"]
    first = raybench.load_search(small / "run")
    assert set(first["outcome"]) == {"ended", "unfinished"}
    assert not first["chosen"].any()

    done = call("resume", "run", "--num-cpus", "1", folder=small)

    assert done.status == 0, done.err
    again = raybench.load_search(small / "run")
    kept = first[first["outcome"] == "ended"].index
    pd.testing.assert_frame_equal(
        again.loc[kept, ["val_loss", "train_seconds"]], first.loc[kept, ["val_loss", "train_seconds"]]
    )
    assert again["chosen"].sum() == 1
    assert list(raybench.load_results(small / "run")["status"]) == ["completed"]
