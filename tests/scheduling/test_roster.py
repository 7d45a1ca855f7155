"""Machines in the books, as Ray's list of them changes; the ledger's rows come out."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from raybench.ledger import Kind, load
from raybench.records import ResourceRequest
from raybench.scheduling.resources import Node, Share
from raybench.scheduling.roster import DOUBT_SECONDS, Roster
from raybench.spending import Books

ONE = Node(cpus=2, gpus=1, node_id="1" * 20, host="one", instance_type="small")
TWO = Node(cpus=2, gpus=1, node_id="2" * 20, host="two")
AGAIN = Node(cpus=2, gpus=1, node_id="3" * 20, host="two")
HEAD = Node(cpus=0, gpus=0, node_id="4" * 20, host="head")
CORES = Node(cpus=8, gpus=0, node_id="5" * 20, host="cores")


@dataclass
class Cluster:
    """What Ray would say, and the books that follow it."""

    run_dir: Path
    now: float = 0.0
    there: list[Node] = field(default_factory=lambda: [HEAD])
    silent: bool = False

    def __post_init__(self) -> None:
        self.books = Books(clock=lambda: self.now, session="session")
        self.roster = self.new_roster()

    def new_roster(self) -> Roster:
        return Roster(
            self.books,
            request=ResourceRequest(gpu=None, cpu=1),
            usd_per_hour={"small": 3600.0},
            ask=lambda: self.there,
            answers=lambda _: not self.silent,
            clock=lambda: self.now,
        )

    def seconds(self) -> dict[str, float]:
        """Return how long each machine was there by the ledger, by name."""
        self.books.open(self.run_dir)
        machines = load(self.run_dir).query("kind == @Kind.MACHINE.value")
        return dict(zip(machines["node"], machines["seconds"], strict=True))


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def test_machines_count_from_when_they_are_seen_though_nothing_was_measured_yet(cluster: Cluster) -> None:
    cluster.roster.machines()
    cluster.now = 10
    cluster.there += [ONE]
    with cluster.books.during(Kind.MEASURING):
        cluster.roster.machines()
        cluster.now = 40
    assert cluster.seconds() == {"one": 30}
    measuring = load(cluster.run_dir).query("kind == @Kind.MEASURING.value")
    assert measuring["cost_usd"].tolist() == [30.0]


@pytest.mark.parametrize(("there", "counted"), [([HEAD, CORES], ["cores"]), ([HEAD, CORES, ONE], ["one"])])
def test_who_has_room_counts_which_is_who_has_a_gpu_where_there_is_one(
    cluster: Cluster, there: list[Node], counted: list[str]
) -> None:
    cluster.there = there
    cluster.roster.machines()
    cluster.now = 10
    assert [*cluster.seconds()] == counted


def test_a_machine_that_is_gone_costs_nothing_and_comes_back_under_another_name(cluster: Cluster) -> None:
    cluster.there += [ONE, TWO]
    cluster.roster.machines()
    cluster.now = 10
    cluster.there = [HEAD, ONE]
    cluster.roster.machines()
    cluster.now = 15
    cluster.there.append(AGAIN)
    cluster.roster.machines()
    cluster.now = 20
    assert cluster.seconds() == {"one": 20, "two": 10, "two 333333": 5}


def test_a_machine_that_came_back_counts_with_the_next_trials_too(cluster: Cluster) -> None:
    """Tries of learning rates and trials have a roster each, on the books of one session."""
    cluster.there += [TWO]
    cluster.roster.machines()
    cluster.now = 10
    cluster.there[-1] = AGAIN
    cluster.roster.machines()
    cluster.new_roster().machines()
    cluster.now = 12
    assert cluster.seconds() == {"two": 10, "two 333333": 2}


def test_a_machine_without_an_answer_costs_nothing_once_ray_has_lost_it_too(cluster: Cluster) -> None:
    cluster.there += [ONE]
    cluster.roster.machines()
    cluster.now, cluster.silent = 10, True
    assert not cluster.roster.is_there(ONE.node_id)
    cluster.now = 30
    cluster.there = [HEAD]
    cluster.roster.machines()
    cluster.now = 2 * DOUBT_SECONDS
    cluster.roster.machines()
    assert cluster.seconds() == {"one": 10}


def test_a_machine_that_was_only_slow_to_answer_is_counted_all_the_time(cluster: Cluster) -> None:
    cluster.there += [ONE]
    cluster.roster.machines()
    cluster.roster.share = Share(cpu=1, gpu=1)
    with cluster.books.trials(cluster.roster.places(4), cluster.roster.shares()):
        cluster.now, cluster.silent = 10, True
        assert not cluster.roster.is_there(ONE.node_id)
        assert not cluster.roster.is_there(ONE.node_id)
        cluster.now, cluster.silent = 10 + DOUBT_SECONDS + 1, False
        cluster.roster.machines()
        assert cluster.roster.is_there(ONE.node_id)
        cluster.now += 9
    assert cluster.seconds() == {"one": 20 + DOUBT_SECONDS}
    whole = load(cluster.run_dir).groupby("kind")["seconds"].sum()
    assert whole[Kind.IDLE] + whole[Kind.WORKERS] == whole[Kind.MACHINE]


def test_a_machine_that_nobody_counts_may_be_asked_about(cluster: Cluster) -> None:
    cluster.there += [ONE]
    cluster.roster.machines()
    cluster.silent = True
    assert not cluster.roster.is_there(HEAD.node_id)
    assert not cluster.roster.is_there("gone")
