"""Running on a Ray cluster that is there already: two nodes on this machine, joined by address, left as they were."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from raybench.choices import processor_name
from raybench.manifest import read_manifest
from raybench.records import Status
from raybench.results import load_results

pytestmark = pytest.mark.minutes

EXPERIMENT = """
name: joined
datasets: [{name: digits, source: digits, image_size: 16, train_sizes: [50]}]
models: [resnet8]
strategies: [linear-probe, fine-tune]
training: {epochs: 1}
price_per_hour_usd: {small.machine: 0.36}
"""
PRICE_PER_SECOND = 0.36 / 3600
CORES = 1


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    if ray.is_initialized():
        ray.shutdown()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    cluster.add_node(num_cpus=CORES, labels={"raybench/instance": "small.machine"})
    try:
        cluster.wait_for_nodes()
        yield cluster.address
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def run_dir(address: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("joined")
    (folder / "joined.yaml").write_text(EXPERIMENT)
    command = [sys.executable, "-m", "raybench", "run", "joined.yaml", "--address", address, "--run-dir", "run"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "run"


def test_what_trials_do_is_measured_on_the_node_that_they_run_on(run_dir: Path) -> None:
    chosen = read_manifest(run_dir).chosen
    assert (chosen.cpu_per_trial, chosen.measured_on) == (CORES, processor_name())
    assert list(chosen.steps[processor_name()]) == ["resnet8, 16 px, batch 32, auto"]


def test_trials_run_on_the_cluster_and_cost_what_its_nodes_cost(run_dir: Path) -> None:
    results = load_results(run_dir)
    assert results["status"].tolist() == [Status.COMPLETED] * 2
    assert results["instance_type"].tolist() == ["small.machine"] * 2
    expected = results["standalone_seconds"] * results["device_share"] * PRICE_PER_SECOND
    assert results["standalone_cost_usd"].tolist() == pytest.approx(expected.tolist())


def test_the_cluster_goes_on_afterwards(run_dir: Path, address: str) -> None:
    assert run_dir.is_dir()
    ray.init(address=address, log_to_driver=False)
    try:
        assert ray.cluster_resources()["CPU"] == CORES  # type: ignore[no-untyped-call]
        available = ray.available_resources()  # type: ignore[no-untyped-call]
        assert available["CPU"] == CORES, "nothing of the run is left in it"
    finally:
        ray.shutdown()
