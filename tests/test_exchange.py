"""`cluster.yaml` for hosts of our own: what only AWS can give is exchanged, all else stays."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.exchange import Ground, for_own_hosts

ROOT = Path(__file__).parent.parent
GROUND = Ground(head="10.0.0.11", workers=["10.0.0.12", "10.0.0.13"], key="/k", environment="/venv", cpus=6, gpus=2)
OF_AWS = ("aws", "ami-", "ubuntu", "sudo", "apt-get", "nfs", "pip", "boto3", "spot", "s3")


@pytest.fixture
def config() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    return loaded


@pytest.fixture
def changed(config: dict[str, Any]) -> dict[str, Any]:
    before = copy.deepcopy(config)
    changed = for_own_hosts(config, GROUND)
    assert config == before, "what was read stays as it was"
    return changed


def test_ray_accepts_the_file_for_its_provider_local(changed: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    util = pytest.importorskip("ray.autoscaler._private.util")
    prepared = util.prepare_config(copy.deepcopy(changed))
    util.validate_config(prepared)
    assert prepared["provider"] == {"type": "local", "head_ip": GROUND.head, "worker_ips": list(GROUND.workers)}
    (node_type,) = prepared["available_node_types"].values()
    assert (node_type["min_workers"], node_type["max_workers"]) == (2, 2)


def test_nothing_that_only_aws_can_give_is_left(changed: dict[str, Any]) -> None:
    keys = ("provider", "auth", "setup_commands", "head_setup_commands", "head_start_ray_commands")
    text = yaml.safe_dump({key: changed[key] for key in keys}).lower()
    assert [word for word in OF_AWS if word in text] == []


def test_what_is_copied_and_left_out_stays(config: dict[str, Any], changed: dict[str, Any]) -> None:
    for key in ("cluster_name", "file_mounts", "rsync_exclude", "idle_timeout_minutes"):
        assert changed[key] == config[key]


def test_all_other_commands_stay_in_their_order(config: dict[str, Any], changed: dict[str, Any]) -> None:
    before, after = config["setup_commands"], changed["setup_commands"]
    kept = [command for command in before if command in after]
    assert [command for command in after if command in before] == kept
    assert kept[0] == "chmod 600 ~/.ray/auth_token"
    assert sum("RAY_AUTH_MODE=token" in command for command in kept) == 1
    assert sum("MALLOC_ARENA_MAX" in command for command in kept) == 1
    assert len(before) - len(kept) == 4
    assert [command for command in after if command not in before] == [
        "ln -sfn /venv ~/raybench-env",
        "grep -q PYTHONPATH ~/.bashrc || echo 'export PYTHONPATH=$HOME/raybench' >> ~/.bashrc",
        "grep -q RAYBENCH_RUNS ~/.bashrc || echo 'export RAYBENCH_RUNS=/shared/runs' >> ~/.bashrc",
    ]
    assert changed["head_setup_commands"] == []


@pytest.mark.parametrize("key", ["head_start_ray_commands", "worker_start_ray_commands"])
def test_ray_is_started_as_the_file_says_with_what_the_hosts_lack(
    key: str, config: dict[str, Any], changed: dict[str, Any]
) -> None:
    *first, last = changed[key]
    assert first == config[key][:-1]
    before, options = config[key][-1].split("ray start ")
    assert before in last
    assert last.endswith(f" {options}")
    added = last.replace(before, "").removesuffix(options)
    assert "--object-store-memory=104857600" in added
    of_workers = key.startswith("worker")
    assert ("--num-cpus=6 --num-gpus=2" in added) == of_workers
    assert ("RAY_enable_autoscaler_v2=0" in added) != of_workers


@pytest.mark.parametrize(
    ("key", "part"),
    [("setup_commands", "sudo apt-get "), ("setup_commands", "pip install -e"), ("head_setup_commands", "boto3")],
)
def test_an_exchange_that_has_nothing_to_exchange_is_an_error(key: str, part: str, config: dict[str, Any]) -> None:
    config[key] = [command for command in config[key] if part not in command]
    with pytest.raises(ValueError, match=f"{key}: 0 commands hold .*{part}"):
        for_own_hosts(config, GROUND)


def test_a_start_without_ray_start_is_an_error(config: dict[str, Any]) -> None:
    config["worker_start_ray_commands"][-1] = "ray begin"
    with pytest.raises(ValueError, match="'ray begin': 0 times"):
        for_own_hosts(config, GROUND)
