"""`learning_rate: auto` with real Ray: the same tries for every configuration, before and apart from its trials."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

import raybench
from raybench.learning_rates import TUNING_SEED
from raybench.scheduling.cluster import quiet_ray, ray_session
from tests.commands import raybench as command

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

CONFIGURATION = ["weights", "strategy"]
pytestmark = [pytest.mark.minutes, pytest.mark.timeout(1200)]  # twenty tries, and Ray as often as a user starts it


@pytest.fixture(scope="module")
def _ray() -> Iterator[None]:
    """Keep one Ray for all runs of this file, and one worker: starting them takes longer than they do."""
    with quiet_ray(), ray_session(num_cpus=1):
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


def test_commands_say_how_learning_rates_were_chosen(
    digits: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(*arguments: str) -> str:
        assert command(*arguments) == 0
        return capsys.readouterr().out

    monkeypatch.chdir(digits)
    capsys.readouterr()
    for name, said in (("bad", "Untuned: "), ("auto", "the best of 5 on validation")):
        assert said in " ".join(call("rank", name).split())
    shown = call("show", "auto")
    chosen = raybench.load_search(digits / "auto").query("chosen")
    assert all(f"{loss:.4f}" in shown for loss in chosen["val_loss"])
    assert "x 0.1" in shown
    assert "x 0.1" not in call("show", "bad")
    joined = " ".join(call("rank", "bad", "auto").split())
    assert "bad: Untuned: " in joined
    assert "auto: Learning rates: " in joined
    planned = " ".join(call("plan", "digits.yaml").split())
    assert "20 tries first, at most 100 epochs" in planned
    assert "0.1, 0.3, 1, 3 and 10 times the default" in planned


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
