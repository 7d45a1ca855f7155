"""Machines of several kinds in one cluster: trials cost what their machine costs, and run where they are pinned."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import ray
from ray.cluster_utils import Cluster

from raybench.ledger import Kind, load, summary
from raybench.results import load_results

pytestmark = pytest.mark.minutes

PRICES = {"small.machine": 0.36, "large.machine": 3.6, "other.machine": 36.0}
KINDS = {"small.machine": "S1", "large.machine": "L1", "other.machine": "O1"}
EXPERIMENT = """
name: kinds
datasets: [{name: digits, source: digits, image_size: 16, train_sizes: [50]}]
models: [resnet8, resnet20]
strategies: [linear-probe]
seeds: [0, 1, 2]
training: {epochs: 1}
scheduler: none
resources: {accelerator: {resnet20: L1, resnet8: [S1, O1]}, cpu: 1}
price_per_hour_usd: {small.machine: 0.36, large.machine: 3.6, other.machine: 36.0}
"""


def run(folder: Path, address: str, *options: str) -> "subprocess.CompletedProcess[str]":
    (folder / "kinds.yaml").write_text(EXPERIMENT)
    command = [sys.executable, "-m", "raybench", "run", "kinds.yaml", "--address", address, "--run-dir", "run"]
    return subprocess.run([*command, *options], cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A head without cores, and three machines of three kinds."""
    if ray.is_initialized():
        ray.shutdown()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for instance, kind in KINDS.items():
        cluster.add_node(num_cpus=1, labels={"raybench/instance": instance, "ray.io/accelerator-type": kind})
    try:
        cluster.wait_for_nodes()
        yield cluster.address
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def done(address: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("kinds")
    done = run(folder, address)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "run", done.stdout


@pytest.fixture(scope="module")
def results(done: tuple[Path, str]) -> pd.DataFrame:
    return load_results(done[0])


def test_a_pinned_model_runs_only_where_it_is_pinned(results: pd.DataFrame) -> None:
    where = {model: {*own["instance_type"]} for model, own in results.groupby("model")}
    assert where["resnet20"] == {"large.machine"}
    assert where["resnet8"] == {"small.machine", "other.machine"}


def test_what_a_trial_costs_follows_the_price_of_its_machine(results: pd.DataFrame) -> None:
    assert {*results["instance_type"]} == {*PRICES}
    per_second = results["instance_type"].map(PRICES) / 3600
    expected = results["standalone_seconds"] * results["device_share"] * per_second
    assert results["standalone_cost_usd"].tolist() == pytest.approx(expected.tolist())


def test_ledger_covers_each_machine_from_joining_on(done: tuple[Path, str]) -> None:
    ledger = load(done[0])
    assert {*ledger["instance_type"]} == {*PRICES}
    for kind in (Kind.STARTING, Kind.MEASURING, Kind.MACHINE, Kind.ENDING):
        assert {*ledger.loc[ledger["kind"] == kind, "instance_type"]} == {*PRICES}, kind
    total = summary(ledger)
    assert abs(total.residual_share) < 0.03
    trained = next(line for line in total.lines if line.kind is Kind.COMPLETED)
    assert total.machine.cost_usd > trained.cost_usd > 0


def test_ranking_says_that_times_of_several_kinds_are_not_alike(done: tuple[Path, str]) -> None:
    run_dir, printed = done
    said = "trained on machines of several kinds"
    assert said in " ".join(printed.split())
    for options in ([], ["--by", "train_seconds"], ["--format", "csv"]):
        command = [sys.executable, "-m", "raybench", "rank", str(run_dir), *options]
        ranked = subprocess.run(command, capture_output=True, text=True, check=True)
        where = ranked.stderr if "csv" in options else ranked.stdout
        assert said in " ".join(where.split()), options


def test_a_kind_that_is_on_no_machine_is_refused_with_what_there_is(address: str, tmp_path: Path) -> None:
    refused = run(tmp_path, address, "--set", "resources.accelerator=H100")
    assert refused.returncode == 2, refused.stdout + refused.stderr
    said = " ".join(refused.stderr.split())
    assert ".yaml: --set resources.accelerator=H100: resources.accelerator: no machine has H100, asked for" in said
    assert "give one of L1, O1, S1, or any" in said
    assert not (tmp_path / "run").exists()
