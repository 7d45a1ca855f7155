"""A run that was quoted first, by its commands: what is measured, kept, spent and shown."""

import json
import re
from pathlib import Path

import pytest

from raybench import load_results, rank
from raybench.ledger import Kind, load, summary
from raybench.quote import QUOTE, kept
from tests.commands import raybench

pytestmark = pytest.mark.minutes

EXPERIMENT = """
name: small
datasets: [{name: digits, source: digits, image_size: 16, train_sizes: [200]}]
models: [resnet8]
weights: [random]
strategies: [linear-probe, fine-tune]
seeds: [0, 1]
training: {epochs: 3, patience: 3}
scheduler: none
price_per_hour_usd: {local: 36.0}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("quoted")
    (path / "small.yaml").write_text(EXPERIMENT)
    return path


def test_a_quote_is_made_and_kept_before_anything_is_trained(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = folder / "run"
    assert raybench("plan", folder / "small.yaml", "--run-dir", run_dir, "--measure") == 0
    printed = capsys.readouterr().out
    quote = kept(run_dir)
    assert quote is not None
    assert (quote.trials, quote.early_stopping) == (4, False)
    assert {line.strategy for line in quote.lines} == {"linear-probe", "fine-tune"}
    assert 0 < quote.wall_seconds.low < quote.wall_seconds.high
    assert quote.machine_usd is not None
    assert quote.machine_usd.low == pytest.approx(quote.wall_seconds.low / 100), "a cent a second"
    assert "The run will take" in printed
    assert re.search(r"^Measured in \d+(\.\d)? s\.$|^Measured in \d+ min", printed, re.MULTILINE)
    assert quote.slowdown is not None
    assert [path.name for path in run_dir.iterdir()] == [QUOTE]


def test_the_run_spends_measures_and_costs_what_it_says(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The quote of the test before stays, and `show` holds what it took against it."""
    run_dir = folder / "run"
    before = kept(run_dir)
    assert raybench("run", folder / "small.yaml", "--run-dir", run_dir, "--quiet") == 0
    assert kept(run_dir) == before
    results = load_results(run_dir)
    assert (results["standalone_seconds"] > 0).all()
    cost = results["standalone_seconds"] * results["device_share"] * 36.0 / 3600
    assert results["standalone_cost_usd"].to_list() == pytest.approx(cost.to_list())
    of_strategy = results.groupby("strategy")["standalone_seconds"]
    assert (of_strategy.nunique() == 1).all(), "seeds that train as long cost the same, whatever ran beside them"
    assert (results["inference_images_per_second"] >= 1 / results["inference_latency_seconds"]).all()
    ledger = load(run_dir)
    assert ledger.query("kind == @Kind.COMPLETED.value")["trial_id"].nunique() == 4
    spent = summary(ledger)
    assert {Kind.STARTING, Kind.PREFLIGHT, Kind.MEASURING, Kind.ENDING} <= {line.kind for line in spent.lines}
    assert abs(spent.residual_share) < 0.01
    capsys.readouterr()
    assert raybench("show", run_dir) == 0
    shown = capsys.readouterr().out
    assert "completed trials" in shown
    assert "Quoted for 4 trials: " in shown


def test_another_price_costs_another_amount_and_trains_nothing_again(folder: Path) -> None:
    run_dir = folder / "run"
    before = load_results(run_dir)
    repriced = ["--set", "price_per_hour_usd={local: 72.0}"]
    assert raybench("run", folder / "small.yaml", "--run-dir", run_dir, "--quiet", *repriced) == 0
    after = load_results(run_dir)
    assert after["finished_at"].to_list() == before["finished_at"].to_list()
    assert after["standalone_cost_usd"].to_list() == pytest.approx((2 * before["standalone_cost_usd"]).to_list())
    ranked = rank(run_dir).set_index("strategy")["standalone_cost_usd"]
    assert ranked.to_dict() == pytest.approx(after.groupby("strategy")["standalone_cost_usd"].mean().to_dict())
    prices = json.loads((run_dir / "manifest.json").read_text())["prices"]
    assert prices["local"] == {"usd_per_hour": 72.0, "source": "the experiment", "dated": None}


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_the_rows_of_all_trials_go_into_a_table_that_can_be_ranked_again(folder: Path, ending: str) -> None:
    table = folder / f"results{ending}"
    assert raybench("show", folder / "run", "--output", table) == 0
    ranking = rank(table)
    assert sorted(ranking["strategy"]) == ["fine-tune", "linear-probe"], "a learning rate names no strategy here"
    assert ranking["test_accuracy"].to_list() == pytest.approx(rank(folder / "run")["test_accuracy"].to_list())
