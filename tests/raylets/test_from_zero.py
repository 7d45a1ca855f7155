"""A cluster without workers, whose autoscaler starts them when trials ask: two kinds, each where it is asked for."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from raybench.results import load_results
from tests.raylets.heads import TOKEN_VARIABLES, free_port, started_head

pytestmark = [pytest.mark.minutes, pytest.mark.timeout(400)]

HEAD_ID = "f" * 51 + "00000"
"""What Ray's provider for machines that are processes takes for the head's."""
HEAD_TYPE = "ray.head.default"
"""What it calls the head's kind."""
PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
KINDS = {"small.machine": "S1", "large.machine": "L1"}
EXPERIMENT = """
name: grown
datasets: [{name: digits, source: digits, image_size: 16, train_sizes: [50]}]
models: [resnet8, resnet20]
strategies: [linear-probe]
training: {epochs: 1}
resources: {cpu: 1, measure: false, accelerator: {resnet8: S1, resnet20: L1}}
price_per_hour_usd: {small.machine: 0.36, large.machine: 3.6}
"""


def cluster_file(port: int) -> str:
    """Return what `ray up` would give the head: no workers, at most one of each kind."""
    workers = {
        name: {
            "resources": {"CPU": 1},
            "labels": {"raybench/instance": name, "ray.io/accelerator-type": kind},
            "node_config": {},
            "min_workers": 0,
            "max_workers": 1,
        }
        for name, kind in KINDS.items()
    }
    head = {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}
    commands = ("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands")
    starts = ("head_start_ray_commands", "worker_start_ray_commands")
    lists = ("cluster_synced_files", "rsync_exclude", "rsync_filter", *commands, *starts)
    return json.dumps(
        {
            "cluster_name": "grown",
            "max_workers": 2,
            "idle_timeout_minutes": 5,
            "upscaling_speed": 1.0,
            "provider": {
                "type": "external",
                "module": PROVIDER,
                "launch_multiple": True,
                "head_node_id": HEAD_ID,
                "gcs_address": f"127.0.0.1:{port}",
            },
            "available_node_types": {HEAD_TYPE: head, **workers},
            "head_node_type": HEAD_TYPE,
            "file_mounts_sync_continuously": False,
            **{key: {} for key in ("auth", "file_mounts", "docker")},
            **{key: [] for key in lists},
        }
    )


@pytest.fixture(scope="module")
def variables() -> Mapping[str, str]:
    return os.environ | TOKEN_VARIABLES


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, port = tmp_path_factory.mktemp("z"), free_port()
    (folder / "cluster.json").write_text(cluster_file(port))
    options = ["--num-cpus=0", f"--autoscaling-config={folder}/cluster.json"]
    of_the_head = {
        "RAY_NODE_TYPE_NAME": HEAD_TYPE,
        "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
    }
    autoscaler = {"AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_FAKE_CLUSTER": "1", "RAY_enable_autoscaler_v2": "1"}
    try:
        with started_head(folder, port, *options, variables={**of_the_head, **autoscaler}) as address:
            yield address
    finally:
        for left in psutil.process_iter(["cmdline"]):  # machines that its autoscaler started
            if any(str(folder) in part for part in left.info["cmdline"] or ()):
                left.kill()


def run(folder: Path, address: str, variables: Mapping[str, str], *options: str) -> "subprocess.CompletedProcess[str]":
    (folder / "grown.yaml").write_text(EXPERIMENT)
    command = [sys.executable, "-m", "raybench", "run", "grown.yaml", "--address", address, "--run-dir", "run"]
    return subprocess.run([*command, *options], cwd=folder, env=variables, capture_output=True, text=True, check=False)


def test_a_kind_that_the_cluster_cannot_start_is_refused_before_anything_is_waited_for(
    address: str, variables: Mapping[str, str], tmp_path: Path
) -> None:
    refused = run(tmp_path, address, variables, "--set", "resources.accelerator=H100")
    assert refused.returncode == 2, refused.stdout + refused.stderr
    said = " ".join(refused.stderr.split())
    assert "resources: this cluster can start no machine with H100 (1 CPU); ask for less" in said
    assert not (tmp_path / "run").exists()


def test_machines_of_each_kind_are_started_waited_for_and_used(
    address: str, variables: Mapping[str, str], tmp_path: Path
) -> None:
    done = run(tmp_path, address, variables)
    assert done.returncode == 0, done.stdout + done.stderr
    said = " ".join(done.stdout.split())
    assert "Waiting for the cluster to start a machine with S1 (1 CPU) and L1 (1 CPU)" in said
    results = load_results(tmp_path / "run").set_index("model")
    assert results["instance_type"].to_dict() == {"resnet8": "small.machine", "resnet20": "large.machine"}
    assert results["standalone_cost_usd"].notna().all()
