"""What was measured on a machine of a cluster is known to the driver too, for machines that come later."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from raybench.choices import Choices
from raybench.records import ResourceRequest
from raybench.scheduling.choosing import Settled, settle
from raybench.scheduling.cluster import import_path, ray_session
from raybench.scheduling.meters import Origin
from raybench.scheduling.resources import nodes
from tests.builders import make_trial
from tests.scheduling.fake_bench import BENCH, Figures, asked, write_figures

pytestmark = pytest.mark.minutes

TRIALS = [make_trial("1", model="small")]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A head without cores, which this process joins; each machine has a cache of its own."""
    monkeypatch.chdir(tmp_path)
    write_figures(tmp_path, Figures(totals={"1": 100.0, "2": 180.0}))
    if ray.is_initialized():
        ray.shutdown()
    rays = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        with ray_session(address=rays.address):
            yield rays
    finally:
        rays.shutdown()  # type: ignore[no-untyped-call]


def settled_on(machine: str, driver: str, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Settled:
    """Settle on a machine that comes for it and goes, with a cache of that name, by a driver with a cache."""
    folder = Path.cwd()
    monkeypatch.setenv("RAYBENCH_CACHE_DIR", str(folder / driver))
    node = cluster.add_node(num_cpus=2, env_vars={"RAYBENCH_CACHE_DIR": str(folder / machine)})
    cluster.wait_for_nodes()
    try:
        return settle(
            TRIALS,
            request=ResourceRequest(gpu=None, cpu=None),
            machines=[each for each in nodes() if each.cpus],
            earlier=Choices(),
            origin=Origin(import_path=import_path(), directory=folder, bench=BENCH),
            tell=print,
            stopped=lambda: False,
        )
    finally:
        cluster.remove_node(node)


def test_what_was_measured_on_one_machine_holds_for_the_next_of_its_kind(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = settled_on("worker", "head", cluster, monkeypatch)
    questions = len(asked(tmp_path, "choose")), len(asked(tmp_path, "train"))
    assert min(questions) > 0
    assert settled_on("new-worker", "head", cluster, monkeypatch) == first, "the driver knows"
    assert settled_on("worker", "new-head", cluster, monkeypatch) == first, "the machine knows"
    assert settled_on("newer-worker", "new-head", cluster, monkeypatch) == first, "the driver has learnt it"
    assert (len(asked(tmp_path, "choose")), len(asked(tmp_path, "train"))) == questions
    assert settled_on("newest-worker", "newest-head", cluster, monkeypatch).share == first.share
    assert len(asked(tmp_path, "choose")) > questions[0], "nobody knows"
