"""The project's `cluster.yaml` for hosts of our own.

In: what stands in the file, and the hosts. Out: the same for Ray's provider `local`, with all that only AWS can give
exchanged. Everything else stays as it is, in its order, so that a mistake in it shows here.
"""

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

OBJECT_STORE_BYTES = 100 * 2**20
"""All hosts share one machine's memory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ground:
    """What hosts offer in the place of AWS."""

    head: str
    """Its address."""
    workers: Sequence[str]
    """Their addresses."""
    key: str
    """Of root, on the host where `ray up` runs."""
    environment: str
    """A virtual environment that holds what an installation of raybench would have brought."""
    cpus: int
    """Of each worker, as Ray counts them."""
    gpus: int
    """Likewise."""


NODES_OF_AWS = ("available_node_types", "head_node_type")
"""The provider `local` has one type, with what Ray finds on each host."""
SETUP_COMMANDS: Mapping[str, str | None] = MappingProxyType(
    {
        "sudo apt-get ": None,
        "python3 -m venv ~/raybench-env": "ln -sfn {environment} ~/raybench-env",
        "pip install -e ~/raybench ": (
            "grep -q PYTHONPATH ~/.bashrc || echo 'export PYTHONPATH=$HOME/raybench' >> ~/.bashrc"
        ),
        "RAYBENCH_RUNS=s3://": (
            "grep -q RAYBENCH_RUNS ~/.bashrc || echo 'export RAYBENCH_RUNS=/shared/runs' >> ~/.bashrc"
        ),
    }
)
"""What stands in a setup command that is exchanged, and for what: the code that was copied is still what runs."""
HEAD_SETUP_COMMANDS: Mapping[str, str | None] = MappingProxyType({"pip install boto3": None})
RAY_START = re.compile(r"\bray start\b")


def for_own_hosts(config: Mapping[str, Any], ground: Ground) -> dict[str, Any]:
    """Return the configuration for these hosts.

    Raises:
        ValueError: the file holds no command, or several, that an exchange is meant for.

    """
    changed = copy.deepcopy(dict(config))
    for key in NODES_OF_AWS:
        del changed[key]
    changed["provider"] = {"type": "local", "head_ip": ground.head, "worker_ips": list(ground.workers)}
    changed["auth"] = {"ssh_user": "root", "ssh_private_key": ground.key}
    changed["min_workers"] = changed["max_workers"] = len(ground.workers)
    for key, exchanges in (("setup_commands", SETUP_COMMANDS), ("head_setup_commands", HEAD_SETUP_COMMANDS)):
        changed[key] = _exchanged(changed[key], exchanges, ground, key)
    # With the provider `local`, the newer autoscaler of Ray 2.60 brings one worker too few.
    store = f"--object-store-memory={OBJECT_STORE_BYTES}"
    head, worker = changed["head_start_ray_commands"], changed["worker_start_ray_commands"]
    head[-1] = f"export RAY_enable_autoscaler_v2=0; {_with_options(head[-1], store)}"
    worker[-1] = _with_options(worker[-1], f"--num-cpus={ground.cpus} --num-gpus={ground.gpus} {store}")
    return changed


def _exchanged(commands: Sequence[str], exchanges: Mapping[str, str | None], ground: Ground, key: str) -> list[str]:
    """Return the commands with each exchange made once."""
    changed: list[str | None] = list(commands)
    for part, instead in exchanges.items():
        places = [place for place, command in enumerate(changed) if command is not None and part in command]
        if len(places) != 1:
            raise ValueError(f"{key}: {len(places)} commands hold {part!r}, where one is to be exchanged")
        changed[places[0]] = None if instead is None else instead.format(environment=ground.environment)
    return [command for command in changed if command is not None]


def _with_options(command: str, options: str) -> str:
    """Return a command with more options of its `ray start`."""
    changed, count = RAY_START.subn(f"ray start {options}", command)
    if count != 1:
        raise ValueError(f"{command!r}: {count} times `ray start`, where options are to be added to one")
    return changed
