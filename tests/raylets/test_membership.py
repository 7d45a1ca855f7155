"""What keeps a machine of a cluster from taking part: it is named, with what to do, before the first trial."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import ray
from ray._private.node import Node
from ray.cluster_utils import Cluster

from raybench.errors import InputError
from raybench.events import Notice
from raybench.records import Trial
from raybench.scheduling.cluster import import_path, quiet_ray, ray_session
from raybench.scheduling.membership import MARKER, Answer, _what_is_wrong, check_members, read_by
from raybench.scheduling.resources import nodes
from tests.builders import make_trial


@pytest.fixture(scope="module")
def worker() -> Iterator[Node]:
    """The one worker of a cluster, whose head, where the driver is, has no cores."""
    if ray.is_initialized():
        ray.shutdown()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    node = cluster.add_node(num_cpus=1)
    try:
        cluster.wait_for_nodes()
        with quiet_ray(), ray_session(address=cluster.address):
            yield node
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]


def check(run_dir: Path, trial: Trial, *, limit_seconds: float = 60) -> list[Notice]:
    told: list[Notice] = []
    check_members(
        nodes(),
        trials=[trial],
        run_dir=run_dir,
        import_path=import_path(),
        tell=told.append,
        limit_seconds=limit_seconds,
    )
    return told


def reading(folder: Path) -> Trial:
    trial = make_trial("1")
    return replace(trial, dataset=replace(trial.dataset, source=f"imagefolder:{folder}", root=None))


@pytest.mark.usefixtures("worker")
def test_a_machine_with_all_that_trials_need_takes_part_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    assert check(tmp_path / "runs" / "new", reading(tmp_path / "images")) == []
    assert [path.name for path in tmp_path.iterdir()] == ["images"], "neither the run directory nor a marker"


@pytest.mark.usefixtures("worker")
def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"{tmp_path}/images cannot be read there; copy it to every machine"):
        check(tmp_path, reading(tmp_path / "images"))
    assert not list(tmp_path.glob(f"{MARKER}*"))


def test_a_machine_that_does_not_answer_is_not_waited_for_any_longer(worker: Node, tmp_path: Path) -> None:
    raylet = psutil.Process(worker.all_processes["raylet"][0].process.pid)
    raylet.suspend()
    try:
        with pytest.raises(InputError, match="did not answer within 1 s; look at it with 'ray status'"):
            check(tmp_path, make_trial("1"), limit_seconds=1)
    finally:
        raylet.resume()


def test_what_is_wrong_is_said_with_what_to_do() -> None:
    fine = Answer(code="a", torch="2", sees_run=True, missing=())

    def wrong(answer: Answer) -> str:
        return _what_is_wrong(answer, code="a", run_dir=Path("/runs/x")) or ""

    assert wrong(fine) == ""
    assert "has no raybench; install" in wrong(replace(fine, code=None))
    assert "another raybench is installed there (b; here it is a); bring the same" in wrong(replace(fine, code="b"))
    assert "has no torch; install" in wrong(replace(fine, torch=None))
    assert "/runs/x is not on storage that it shares with" in wrong(replace(fine, sees_run=False))
    assert "a folder that every machine mounts at the same path" in wrong(replace(fine, sees_run=False))
    assert "a, b, c and 2 more cannot be read there" in wrong(replace(fine, missing=("a", "b", "c", "d", "e")))


def test_what_a_trial_reads_is_known_from_its_sources(tmp_path: Path) -> None:
    trial = make_trial("1")
    lists = replace(trial.dataset, source=f"filelist:{tmp_path}/photos", root=str(tmp_path / "images"))
    assert list(read_by(replace(trial, dataset=lists, weights=f"{tmp_path}/net.safetensors"))) == [
        tmp_path / "images",
        tmp_path,
        tmp_path / "net.safetensors",
    ]
    digits = replace(trial.dataset, source="digits", root=None)
    assert list(read_by(replace(trial, dataset=digits, weights="random"))) == []
