"""Hosts of our own, and a Ray cluster on them that the real `ray up` makes of the project's `cluster.yaml`."""

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.exchange import Ground, for_own_hosts
from tests.cluster.hosts import ADDRESSES, HEAD, INSTANCE_TYPES, KEY, OPERATOR, ROOT, Hosts, wait_until, why_not

CLUSTER_FILE = "/shared/cluster.yaml"
CPUS = 6
"""Of each worker: of six trials with a quarter of a GPU, four fill one GPU."""
GPUS = 2
RAY = Path(sys.prefix) / "bin/ray"
UP_SECONDS = 180
JOIN_SECONDS = 180
LOOK_SECONDS = 2
"""Between two looks at the cluster, each of which starts a Python."""
TELL_NODES = """
import json, ray
ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
print(json.dumps([node for node in ray.nodes() if node["Alive"]]))
"""
SHOWN = pytest.StashKey[Hosts]()


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """A Ray cluster on hosts of our own, and the commands that the head of `cluster.yaml` tells of."""

    hosts: Hosts

    def ray(self, *arguments: str, seconds: float = UP_SECONDS) -> str:
        """Give a `ray` command on the operator's host, from the checkout, and return what it printed."""
        return self.hosts.run(OPERATOR, _from_checkout(*arguments), seconds=seconds).stdout

    def start(self, command: str) -> subprocess.Popen[str]:
        """Start a command on the head by `ray exec`."""
        return self.hosts.start(OPERATOR, _from_checkout("exec", CLUSTER_FILE, command))

    def on_head(self, command: str) -> str:
        """Give a command to a login shell of the head, as `ray exec` does, and return what it printed."""
        return self.hosts.run(HEAD, ["bash", "--login", "-i", "-c", command]).stdout

    def ray_processes(self, host: str) -> list[str]:
        """Return the command lines of what Ray runs on a host."""
        lines = self.hosts.run(host, ["ps", "-eo", "args="]).stdout.splitlines()
        return [line for line in lines if "ray::" in line or "/ray/" in line]

    def nodes(self) -> dict[str, dict[str, Any]]:
        """Return what Ray says of the nodes that it has now, by host."""
        lines = self.on_head(f"python -c {shlex.quote(TELL_NODES)}").splitlines()
        said = next(line for line in lines if line.startswith("[{"))  # Ray has its say too, of nodes that were lost
        return {node["NodeManagerHostname"]: node for node in json.loads(said)}

    def wait_for_workers(self, *names: str) -> float:
        """Wait until `ray status` counts these workers, and Ray names them; return how many seconds that took."""
        gpus = f"/{len(names) * GPUS:.1f} GPU"

        def are_there() -> bool:
            return gpus in self.on_head("ray status") and set(self.nodes()) == {HEAD, *names}

        what = f"the workers {', '.join(names)} in the cluster"
        return wait_until(are_there, what, seconds=JOIN_SECONDS, every=LOOK_SECONDS)


def _from_checkout(*arguments: str) -> list[str]:
    return ["bash", "-c", 'cd "$0" && exec "$@"', str(ROOT), str(RAY), *arguments]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the tests out, with the reason, where this machine cannot have hosts of its own."""
    here = [item for item in items if item.path.parent == Path(__file__).parent]
    reason = why_not() if here else None
    if reason is not None:
        for item in here:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """Return where hosts may be made; nothing may be left there."""
    yield tmp_path / "hosts"
    assert not (tmp_path / "hosts").exists()


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Bring a cluster up as `cluster.yaml` says, once for all tests of a file."""
    with Hosts(tmp_path_factory.mktemp("cluster") / "hosts") as hosts:
        ground = Ground(
            head=ADDRESSES[HEAD],
            workers=[ADDRESSES[worker] for worker in INSTANCE_TYPES],
            key=KEY,
            environment=sys.prefix,
            cpus=CPUS,
            gpus=GPUS,
        )
        config = for_own_hosts(yaml.safe_load((ROOT / "cluster.yaml").read_text()), ground)
        (hosts.shared / Path(CLUSTER_FILE).name).write_text(yaml.safe_dump(config))
        cluster = Cluster(hosts=hosts)
        cluster.ray("get-auth-token", "--generate")
        cluster.ray("up", "--yes", CLUSTER_FILE)
        cluster.wait_for_workers(*INSTANCE_TYPES)
        request.config.stash[SHOWN] = hosts
        yield cluster
        del request.config.stash[SHOWN]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Show the hosts' logs where a test has failed."""
    report: pytest.TestReport = yield  # type: ignore[assignment]
    hosts = item.config.stash.get(SHOWN, None)
    if report.failed and hosts is not None:
        report.sections.append(("hosts", hosts.logs()))
    return report  # type: ignore[return-value]
