"""Features that one machine has computed are used by a machine that comes later, which has a cache of its own."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from raybench.feature_parts import FOLDER
from raybench.results import load_results
from tests.cluster.hosts import wait_until

MACHINES = ("first", "later")
MODEL = """
import os, time
from pathlib import Path
import torch
from torch import nn

class Backbone(nn.Sequential):
    def forward(self, images):
        learns = Path(os.environ["SEEN"] + "-learns")
        if self.training:
            learns.touch()
            while Path("hold").exists():
                time.sleep(0.05)
        elif len(images) > 2 and not learns.exists():  # two show whether it is the same code as before
            with open(os.environ["SEEN"], "a") as file:
                file.write(f"{len(images)}\\n")
        return super().forward(images)

class Noting(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)  # the same for all trials, as pretrained weights are
            self.body = Backbone(nn.Conv2d(3, 8, 3, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.head = nn.Linear(32, num_classes)

    def forward(self, images):
        return self.head(self.body(images))
"""
EXPERIMENT = """
name: probes
datasets: [{name: digits, source: digits, image_size: 16, train_sizes: [all]}]
models: ["noting:Noting"]
weights: [as-built]
strategies: [lp-ft]
seeds: [0, 1]
training: {epochs: 1}
scheduler: none
resources: {cpu: 1, measure: false}
"""
START_SECONDS = 120


@pytest.fixture
def ground(tmp_path: Path) -> Path:
    """Return a folder with the experiment, in which trials wait before their backbone learns."""
    (tmp_path / "noting.py").write_text(MODEL)
    (tmp_path / "probes.yaml").write_text(EXPERIMENT)
    (tmp_path / "hold").touch()
    return tmp_path


def variables(ground: Path, machine: str) -> dict[str, str]:
    return {
        "RAYBENCH_CACHE_DIR": str(ground / f"cache-{machine}"),
        "SEEN": str(ground / f"seen-{machine}"),
        "PYTHONPATH": str(ground),
    }


@pytest.fixture
def cluster(ground: Path) -> Iterator[Cluster]:
    if ray.is_initialized():
        ray.shutdown()
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 1,
            "labels": {"raybench/instance": MACHINES[0]},
            "env_vars": variables(ground, MACHINES[0]),
        },
    )
    try:
        yield cluster
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    """Wait until a file is there, as long as the run goes on."""

    def is_there() -> bool:
        assert process.poll() is None, process.communicate()
        return path.exists()

    wait_until(is_there, path.name, seconds=START_SECONDS, every=0.1)


def test_a_machine_that_comes_later_computes_no_features_again(ground: Path, cluster: Cluster) -> None:
    first, later = MACHINES
    command = [sys.executable, "-m", "raybench", "run", "probes.yaml", "--address", cluster.address, "--run-dir", "run"]
    process = subprocess.Popen(
        command,
        cwd=ground,
        env=os.environ | variables(ground, first),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        for machine in MACHINES:
            if machine == later:
                cluster.add_node(num_cpus=1, labels={"raybench/instance": machine}, env_vars=variables(ground, machine))
            wait_for(ground / f"seen-{machine}-learns", process)
        (ground / "hold").unlink()
        out, _ = process.communicate(timeout=START_SECONDS)
    finally:
        process.kill()
    assert process.returncode == 0, out
    results = load_results(ground / "run")
    assert Counter(results["instance_type"]) == Counter(MACHINES)
    seen = [int(line) for line in (ground / f"seen-{first}").read_text().splitlines()]
    assert sum(seen) >= results["train_size"].iloc[0], "each image that trials learn from, on the first machine"
    assert not (ground / f"seen-{later}").exists()
    one, other = results["feature_seconds"]
    assert one == other, "who found them pays as if it had computed them"
    assert not (ground / "run" / FOLDER).exists()
