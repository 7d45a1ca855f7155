"""A machine that is taken away while a trial runs there: no failure of the trial's, and its time is in the ledger."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import ray
from ray._private.node import Node
from ray.cluster_utils import Cluster

from raybench import ledger
from raybench.events import Event, Notice
from raybench.ledger import Kind
from raybench.records import ResourceRequest, Status
from raybench.results import read_trial
from raybench.scheduling.settings import Settings
from raybench.scheduling.tune import run_trials
from raybench.spending import Books
from tests.cluster.hosts import HostsError, wait_until
from tests.scheduling.fakes import EXECUTE, Script, make_trial, starts, write_scripts

MACHINES = ("spot.one", "spot.two")


@pytest.fixture
def cluster() -> Iterator[tuple[Cluster, dict[str, Node]]]:
    """A head without cores, and two machines with one each, by their type."""
    if ray.is_initialized():
        ray.shutdown()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = {name: cluster.add_node(num_cpus=1, labels={"raybench/instance": name}) for name in MACHINES}
    try:
        cluster.wait_for_nodes()
        yield cluster, nodes
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]


def settings_of(rays: Cluster, books: Books) -> Settings:
    return Settings(
        asha=None,
        resources=ResourceRequest(gpu=0, cpu=1.0),
        address=rays.address,
        price_per_hour_usd=dict.fromkeys(MACHINES, 3600.0),
        execute=EXECUTE,
        books=books,
    )


def test_a_trial_of_a_machine_that_is_taken_away_goes_on_elsewhere_and_has_not_failed(
    cluster: tuple[Cluster, dict[str, Node]], tmp_path: Path
) -> None:
    rays, nodes = cluster
    write_scripts(tmp_path, {"long": Script(losses=(1.0, 0.5), wait_for_file="taken")})
    taken: list[str] = []

    def take_away() -> None:
        wait_until((tmp_path / "long.waits").exists, "a trial in its second epoch", seconds=150, every=0.05)
        (start,) = starts(tmp_path)
        taken.append(start["instance_type"])
        rays.remove_node(nodes[taken[0]], allow_graceful=False)
        wait_until(lambda: not psutil.pid_exists(start["pid"]), "an end of its process", seconds=60, every=0.05)
        (tmp_path / "taken").touch()

    told: list[Event] = []
    books = Books()
    books.open(tmp_path)
    settings = replace(settings_of(rays, books), max_failures=0)
    thread = threading.Thread(target=take_away)
    thread.start()
    outcome = run_trials([make_trial("long")], run_dir=tmp_path, settings=settings, on_event=told.append)
    thread.join()
    ended = time.time()
    row = read_trial(tmp_path, "long")
    assert outcome.statuses == {"long": Status.COMPLETED}
    assert row is not None
    assert row.retries == 1
    (said,) = [event.text for event in told if isinstance(event, Notice) and "its machine went away" in event.text]
    assert said.endswith("it goes on elsewhere")
    first, second = starts(tmp_path)
    assert {first["instance_type"], second["instance_type"]} == set(MACHINES)
    entries = ledger.load(tmp_path)
    lost = entries[entries["kind"].eq(Kind.LOST)]
    assert lost["instance_type"].tolist() == taken
    assert 0 < lost["seconds"].sum() < ended - first["begin"]
    there = entries[entries["kind"].eq(Kind.MACHINE)].groupby("instance_type")["seconds"].max()
    assert there[taken[0]] < there[second["instance_type"]], "what is gone costs nothing any more"


def test_a_machine_that_comes_while_a_trial_runs_takes_the_next_and_all_its_time_is_accounted_for(
    tmp_path: Path,
) -> None:
    write_scripts(tmp_path, {name: Script(losses=(1.0, 0.5), wait_for_file="come") for name in ("first", "next")})
    rays = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    ray_command = str(Path(sys.executable).with_name("ray"))
    command = [ray_command, "start", f"--address={rays.address}", "--num-cpus=1", "--block"]
    command += [f"--labels=raybench/instance={MACHINES[1]}"]
    problems: list[str] = []
    came: list[subprocess.Popen[bytes]] = []

    def come() -> None:
        try:
            wait_until((tmp_path / "first.waits").exists, "a trial in its second epoch", seconds=150, every=0.05)
            came.append(
                subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
            )
            wait_until(lambda: len(starts(tmp_path)) == 2, "a trial on the machine that came", seconds=150, every=0.05)
        except HostsError as error:
            problems.append(str(error))
        (tmp_path / "come").touch()

    told: list[Event] = []
    books = Books()
    books.open(tmp_path)
    try:
        rays.add_node(num_cpus=1, labels={"raybench/instance": MACHINES[0]})
        rays.wait_for_nodes()
        settings = settings_of(rays, books)
        thread = threading.Thread(target=come)
        thread.start()
        trials = [make_trial("first"), make_trial("next")]
        outcome = run_trials(trials, run_dir=tmp_path, settings=settings, on_event=told.append)
        thread.join()
    finally:
        for machine in came:
            os.killpg(machine.pid, signal.SIGTERM)
            machine.wait(timeout=30)
        rays.shutdown()  # type: ignore[no-untyped-call]
    assert problems == []
    assert {*outcome.statuses.values()} == {Status.COMPLETED}
    assert [start["instance_type"] for start in starts(tmp_path)] == list(MACHINES)
    assert any(isinstance(event, Notice) and event.text.startswith("Came: ") for event in told)
    entries = ledger.load(tmp_path)
    late = entries[entries["instance_type"] == MACHINES[1]].groupby("kind")["device_seconds"].sum()
    assert late[Kind.WORKERS] > 0
    parts = late.drop(Kind.MACHINE)
    assert parts.sum() == pytest.approx(late[Kind.MACHINE], rel=0.05)
