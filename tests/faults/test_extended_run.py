"""Runs that are extended, or take trials over from others, from the command line: what is trained, and what is not."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

import raybench
from raybench.ledger import Kind
from raybench.ledger import load as load_ledger
from raybench.results import SCHEMAS
from raybench.scheduling.cluster import quiet_ray, ray_session
from tests.commands import raybench as command

SMALL = """
name: small
datasets: [{name: digits, source: digits, image_size: 8, train_sizes: [40]}]
models: ["networks_of_extensions:One", "networks_of_extensions:Two"]
strategies: [fine-tune, {name: slow, phases: [{train: all, learning_rate: 0.0001}]}]
seeds: [0, 1, 2]
training: {epochs: 1, batch_size: 20}
resources: {measure: false}
"""

NETWORKS = '''
"""Models of one's own that leave a file for each network that is trained."""

from pathlib import Path
from uuid import uuid4

from torch import nn


class One(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.ReLU())
        self.head = nn.Linear(16, num_classes)
        self.is_new = True

    def forward(self, images):
        if self.training and self.is_new:
            self.is_new = False
            Path("trained", f"{type(self).__name__}-{uuid4().hex}").touch()
        return self.head(self.body(images))


class Two(One):
    pass


class Three(One):
    pass
'''

pytestmark = [pytest.mark.minutes, pytest.mark.timeout(300)]


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory, and one Ray for all runs of this file: starting it takes longer than they do."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "small.yaml").write_text(SMALL)
    (folder / "networks_of_extensions.py").write_text(NETWORKS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        with quiet_ray(), ray_session(num_cpus=1):
            yield folder


@pytest.fixture(scope="module")
def finished() -> Path:
    """A run of twelve trials."""
    assert train("run") == {"One": 6, "Two": 6}
    return Path("run")


@pytest.fixture
def ours(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def train(run_dir: str | Path, *options: str | Path, file: str = "small.yaml") -> dict[str, int]:
    """Run the experiment, which must succeed, and return how many networks of each class were trained."""
    trained = Path("trained")
    shutil.rmtree(trained, ignore_errors=True)
    trained.mkdir()
    assert command("run", file, "--run-dir", run_dir, *options) == 0
    names = [path.name.partition("-")[0] for path in trained.iterdir()]
    return {name: names.count(name) for name in sorted(set(names))}


def models(*names: str) -> str:
    return f"models={json.dumps([f'networks_of_extensions:{name}' for name in names])}"


def rows(run_dir: Path) -> dict[Path, tuple[bytes, int]]:
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in run_dir.rglob("*.parquet")}


def everything(run_dir: Path) -> dict[Path, tuple[bytes, int]]:
    """Return all files but the lease's, which says who looks at the directory."""
    found = [path for path in run_dir.rglob("*") if path.is_file() and path.name != ".lease"]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in found}


def test_one_more_model_trains_its_trials_alone_and_leaves_the_rows_of_the_others(ours: Path) -> None:
    before = rows(ours)
    assert len(before) == 3 * 12
    assert train(ours, "--set", models("One", "Two", "Three")) == {"Three": 6}
    after = rows(ours)
    assert len(after) == 3 * 18
    assert {path: after[path] for path in before} == before
    results = raybench.load_results(ours)
    assert results["model"].value_counts().to_dict() == {
        f"networks_of_extensions:{name}": 6 for name in ("One", "Two", "Three")
    }
    assert set(results["status"]) == {"completed"}


def test_what_is_removed_is_hidden_and_comes_back_untrained(ours: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = rows(ours)
    assert train(ours, "--set", models("Two"), "--set", "seeds=[2, 0]") == {}
    assert "8 earlier trials in" in " ".join(capsys.readouterr().out.split())
    assert set(raybench.load_results(ours)["model"]) == {"networks_of_extensions:Two"}
    assert len(raybench.load_results(ours)) == 4
    assert train(ours) == {}
    assert len(raybench.load_results(ours)) == 12
    assert rows(ours) == before


@pytest.mark.parametrize("what", ["run", "plan"])
def test_a_changed_key_is_refused_and_nothing_is_changed(
    what: str, ours: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = everything(ours)
    assert command(what, "small.yaml", "--run-dir", ours, "--set", "training.epochs=2") == 2
    said = capsys.readouterr()
    assert said.err == (
        "raybench: small.yaml: --set training.epochs=2: training.epochs: was 1, is 2; "
        f"12 trials have ended or begun in {ours} as it was; set "
        f"it back, or give another --run-dir, to which --reuse {ours} brings what is the same\n"
    )
    assert everything(ours) == before


def test_a_run_takes_over_what_another_one_has_whole_and_trains_the_rest(
    ours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = tmp_path / "new"
    damaged = raybench.load_results(ours).query("model.str.endswith('Two') and seed == 1")["trial_id"].iloc[0]
    (ours / f"results/{damaged}.parquet").write_bytes(b"no Parquet")
    before = everything(ours)
    keys = ("--set", models("Two", "Three"), "--set", "seeds=[1, 2, 3]")
    assert train(new, "--reuse", ours, *keys) == {"Three": 6, "Two": 3}
    said = capsys.readouterr().out
    assert f"Note: {ours}/results/{damaged}.parquet is missing or damaged, so " in said
    assert f"Taken over from {ours}: 3 trials\n" in said
    assert everything(ours) == before
    results = raybench.load_results(new).set_index("trial_id")
    assert len(results) == 12
    assert set(results["status"]) == {"completed"}
    taken = [trial_id for trial_id in results.index if (ours / f"checkpoints/{trial_id}.json").exists()]
    taken.remove(damaged)
    assert len(taken) == 3
    for name in [f"{kind}/{trial_id}.parquet" for kind in SCHEMAS for trial_id in taken]:
        assert (new / name).read_bytes() == (ours / name).read_bytes()
    assert command("export", new, taken[0], "--output", tmp_path / "weights.safetensors") == 0
    spent = load_ledger(new)
    assert spent.loc[spent["kind"] == Kind.COMPLETED.value, "trial_id"].nunique() == 9, (
        "what is taken over costs nothing here"
    )
    assert train(new, "--reuse", ours, *keys) == {}


def test_where_another_run_has_everything_nothing_is_trained(ours: Path, tmp_path: Path) -> None:
    keys = ("--set", "name=renamed", "--set", models("Two"))
    assert train(tmp_path / "new", "--reuse", ours, *keys) == {}
    assert set(raybench.load_results(tmp_path / "new")["status"]) == {"completed"}


def test_a_search_that_another_run_has_done_is_not_repeated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = ("--set", models("One"), "--set", "strategies=[fine-tune]", "--set", "seeds=[0]")
    auto = ("--set", "training.learning_rate=auto", "--set", "training.learning_rate_search.values=3")
    assert train(tmp_path / "there", *one, *auto) == {"One": 3 + 1}
    before = everything(tmp_path / "there")
    capsys.readouterr()
    assert train(tmp_path / "new", *one, *auto, "--reuse", tmp_path / "there") == {}
    said = capsys.readouterr().out
    assert f"Taken over from {tmp_path / 'there'}: 1 trial, 3 tries\n" in said
    assert "tries for" not in said
    pd.testing.assert_frame_equal(raybench.load_search(tmp_path / "new"), raybench.load_search(tmp_path / "there"))
    assert everything(tmp_path / "there") == before


@pytest.mark.parametrize("other", ["gone", "run"])
def test_a_run_that_cannot_be_taken_over_from_ends_before_anything_is_written(
    other: str, ours: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = everything(ours)
    assert command("run", "small.yaml", "--run-dir", ours, "--reuse", ours.parent / other) == 2
    assert capsys.readouterr().err.startswith(f"raybench: --reuse {ours.parent / other}: ")
    assert everything(ours) == before
    assert not (ours.parent / "gone").exists()


def test_runs_to_take_over_from_are_given_from_python_too(ours: Path, tmp_path: Path) -> None:
    done = raybench.run("small.yaml", run_dir=tmp_path / "new", reuse=ours, quiet=True)
    assert done.failed == 0
    assert done.results()["train_seconds"].to_list() == raybench.load_results(ours)["train_seconds"].to_list()
