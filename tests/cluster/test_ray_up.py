"""Experiments on a cluster that the real `ray up` has made: they outlive the loss of workers, and of their network.

The tests of this file are parts of one cluster's life and stand in its order.
"""

import shlex
import shutil
import subprocess
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

import raybench
from raybench.records import Status
from tests.cluster.conftest import CLUSTER_FILE, CPUS, GPUS, LOOK_SECONDS, RAY, Cluster
from tests.cluster.hosts import ADDRESSES, HEAD, INSTANCE_TYPES, OPERATOR, wait_until
from tests.commands import run

pytestmark = pytest.mark.timeout(480)

ON_A_GPU = 4
EPOCHS = 4
BATCHES = 5
"""Of an epoch."""
SEEDS = 8
EXPERIMENT = f"""
name: slow
datasets: [{{name: digits, source: digits, image_size: 16, train_sizes: [50]}}]
models: ["slow:Slow"]
strategies: [fine-tune]
seeds: {list(range(SEEDS))}
training: {{epochs: {EPOCHS}, patience: {EPOCHS}, batch_size: 10}}
resources: {{measure: false, gpu: 1, cpu: 1}}
"""
METRICS = ["val_loss", "val_accuracy", "test_loss", "test_accuracy", "best_epoch", "epochs_run", "status"]
WRONG_TOKEN = "0123456789abcdef" * 4
START_SECONDS = 120
END_SECONDS = 120
LOSS_SECONDS = 180
"""Ray calls a node dead that has not answered for about a minute."""
REFUSAL_SECONDS = 90
"""Ray tries for 20 s, after torch was imported and data were looked at."""
DOWN_SECONDS = 150
SMALL = """
name: small
datasets: [{name: digits, source: digits, image_size: 16, train_sizes: [50]}]
models: [resnet8]
strategies: [linear-probe]
training: {epochs: 1}
resources: {gpu: 0, cpu: 1, measure: false}
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """What a trial noted of one time that it was begun."""

    host: str
    pid: int
    """As its host counts."""
    gpus: str
    """As torch is told of them."""
    times: tuple[float, ...]
    """Of its batches."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """The folder that commands are given in: `/shared/work` on every host."""

    cluster: Cluster
    folder: Path

    @contextmanager
    def started(self, name: str, *overrides: str) -> Iterator[subprocess.Popen[str]]:
        """Start the experiment on the head, into /shared/runs/NAME, with trials that wait after two epochs."""
        shutil.rmtree(self.folder / "seen", ignore_errors=True)
        (self.folder / "seen").mkdir()
        self.hold()
        options = ["--address", "auto", "--run-dir", f"/shared/runs/{name}", *(f"--set={each}" for each in overrides)]
        command = f"raybench run slow.yaml {shlex.join(options)}"
        process = self.cluster.start(f"cd /shared/work && PYTHONPATH=/shared/work:$PYTHONPATH {command}")
        try:
            yield process
        finally:
            self.let_go()
            process.kill()
            process.communicate()

    def hold(self) -> None:
        (self.folder / "hold").touch()

    def let_go(self) -> None:
        (self.folder / "hold").unlink(missing_ok=True)

    def starts(self) -> list[Start]:
        starts = []
        for path in (self.folder / "seen").iterdir():
            lines = [line.split() for line in path.read_text().splitlines()]
            times = tuple(float(time) for time, _ in lines)
            host, pid, _ = path.name.split("-")
            starts += [Start(host=host, pid=int(pid), gpus=lines[0][1], times=times)] if lines else []
        return starts

    def wait_for_end_of_trials(self, host: str) -> None:
        """Wait until no process of a trial is left on a host."""
        pids = {start.pid for start in self.starts() if start.host == host}

        def have_ended() -> bool:
            running = self.cluster.hosts.run(host, ["ps", "-eo", "pid="]).stdout.split()
            return pids.isdisjoint(map(int, running))

        wait_until(have_ended, f"an end of the trials on {host}", seconds=END_SECONDS)

    def wait_for_trials(self, process: subprocess.Popen[str], expected: Mapping[str, int]) -> None:
        """Wait until so many trials wait on each host."""

        def wait() -> bool:
            if process.poll() is not None:
                raise AssertionError("the run ended early: " + "".join(process.communicate()))
            held = Counter(start.host for start in self.starts() if len(start.times) == 2 * BATCHES)
            return held == expected

        wait_until(wait, f"so many trials that wait: {dict(expected)}", seconds=START_SECONDS)

    def rows(self, name: str) -> pd.DataFrame:
        return raybench.load_results(self.folder.parent / "runs" / name).set_index("seed").sort_index()


@pytest.fixture(scope="module")
def work(cluster: Cluster) -> Work:
    folder = cluster.hosts.shared / "work"
    folder.mkdir()
    (folder / "slow.yaml").write_text(EXPERIMENT)
    shutil.copy(Path(__file__).with_name("slow.py"), folder)
    return Work(cluster=cluster, folder=folder)


@pytest.fixture(scope="module")
def on_one_machine(work: Work) -> pd.DataFrame:
    """The rows of the same experiment, run on this machine without a cluster."""
    (work.folder / "seen").mkdir(exist_ok=True)
    done = run("slow.yaml", "--num-gpus", "2", "--run-dir", "../runs/here", folder=work.folder)
    assert done.status == 0, done.out + done.err
    return work.rows("here")


def ended_well(process: subprocess.Popen[str], *, seconds: float) -> None:
    out, err = process.communicate(timeout=seconds)
    assert process.returncode == 0, out + err
    assert "Traceback" not in out, out


def most_at_once(starts: Sequence[Start]) -> int:
    """Return how many trials learnt at a time, at most."""
    return max(sum(other.times[0] <= start.times[0] <= other.times[-1] for other in starts) for start in starts)


def same_numbers(rows: pd.DataFrame, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(rows[METRICS], expected.loc[rows.index, METRICS], check_exact=True)


def test_ray_up_brings_a_head_and_two_labelled_workers_that_all_ask_for_the_token(cluster: Cluster) -> None:
    nodes = cluster.nodes()
    assert set(nodes) == {HEAD, *INSTANCE_TYPES}
    assert "GPU" not in nodes[HEAD]["Resources"]
    assert "CPU" not in nodes[HEAD]["Resources"]
    for worker, instance_type in INSTANCE_TYPES.items():
        resources = nodes[worker]["Resources"]
        assert (resources["CPU"], resources["GPU"]) == (CPUS, GPUS)
        assert nodes[worker]["Labels"]["raybench/instance"] == instance_type
        assert nodes[worker]["NodeManagerAddress"] == ADDRESSES[worker]
    token = cluster.hosts.run(OPERATOR, ["cat", "/root/.ray/auth_token"]).stdout
    for host in (HEAD, *INSTANCE_TYPES):
        found = cluster.hosts.run(host, ["bash", "-c", "cat ~/.ray/auth_token; stat -c ' %a' ~/.ray/auth_token"])
        assert found.stdout.split() == [token.strip(), "600"], host
    assert f"/{len(INSTANCE_TYPES) * GPUS:.1f} GPU" in cluster.ray("exec", CLUSTER_FILE, "ray status")


def test_the_code_that_was_copied_is_what_runs(cluster: Cluster) -> None:
    for host in (HEAD, *INSTANCE_TYPES):
        asking = ["bash", "--login", "-i", "-c", "python -c 'import raybench; print(raybench.__file__)'"]
        assert cluster.hosts.run(host, asking).stdout.strip() == "/root/raybench/raybench/__init__.py"


def test_quarters_of_gpus_fill_both_workers_and_never_five_trials_share_a_gpu(work: Work) -> None:
    seeds = 20
    with work.started("quarters", "resources.gpu=0.25", f"seeds={list(range(seeds))}") as process:
        work.wait_for_trials(process, dict.fromkeys(INSTANCE_TYPES, CPUS))
        work.let_go()
        ended_well(process, seconds=END_SECONDS)
    rows = work.rows("quarters")
    assert len(rows) == seeds
    assert set(rows["status"]) == {Status.COMPLETED}
    assert set(rows["gpu_fraction"]) == {0.25}
    assert set(zip(rows["node"], rows["instance_type"], strict=True)) == set(INSTANCE_TYPES.items())
    starts = work.starts()
    assert len(starts) == seeds
    assert {start.gpus for start in starts} == {"0", "1"}
    for worker in INSTANCE_TYPES:
        by_gpu = [[start for start in starts if (start.host, start.gpus) == (worker, gpu)] for gpu in "01"]
        assert max(map(most_at_once, by_gpu)) == ON_A_GPU, "more would have had room by their cores"


def test_a_wrong_token_is_refused_with_one_message_and_nothing_is_begun(work: Work) -> None:
    variables = f"RAY_AUTH_MODE=token RAY_AUTH_TOKEN={WRONG_TOKEN} PYTHONPATH=/shared/work:$PYTHONPATH"
    options = f"--address {ADDRESSES[HEAD]}:6379 --run-dir /shared/runs/refused"
    command = f"{variables} {RAY.with_name('raybench')} run slow.yaml {options}"
    script = f"cd /shared/work; {command} 2>/tmp/said; status=$?; cat /tmp/said; exit $status"
    in_shell = ["bash", "--login", "-i", "-c", script]
    done = work.cluster.hosts.run(OPERATOR, in_shell, seconds=REFUSAL_SECONDS, check=False)
    assert done.returncode == 2, done.stdout
    *_, said = done.stdout.splitlines()
    assert said.startswith(f"raybench: --address: '{ADDRESSES[HEAD]}:6379' cannot be joined: it asks for a token"), (
        done.stdout
    )
    assert "Traceback" not in done.stdout
    assert not (work.folder.parent / "runs/refused").exists()


def test_what_is_submitted_runs_without_its_operator_and_lands_where_the_cluster_says(work: Work) -> None:
    (work.folder / "small.yaml").write_text(SMALL)
    small = ["run", "/shared/work/small.yaml", "--address", "auto"]
    # On the operator's screen, from a file of the checkout:
    said = work.cluster.ray("submit", CLUSTER_FILE, "raybench/__main__.py", "--", *small, seconds=END_SECONDS)
    assert "Results: /shared/runs/small" in said
    assert list(work.rows("small").index) == [0]
    # As a job of the head's, which nobody waits for:
    job = f"ray job submit --no-wait -- raybench {shlex.join([*small, '--set=seeds=[0,1]'])}"
    work.cluster.ray("exec", CLUSTER_FILE, job)

    def has_ended() -> bool:
        rows = work.rows("small")
        assert not rows["status"].eq("failed").any(), rows["error"].tolist()
        return list(rows["status"]) == ["completed"] * 2

    wait_until(has_ended, "an end of the second trial", seconds=END_SECONDS, every=LOOK_SECONDS)


def lost(rows: pd.DataFrame) -> Collection[int]:
    """Return the seeds whose trials lost their worker."""
    return set(rows.index[rows["retries"] > 0])


def epochs_after(work: Work, host: str) -> list[int]:
    """Return how many epochs trials did on a host each time that they were begun."""
    return sorted(len(start.times) // BATCHES for start in work.starts() if start.host == host)


def test_trials_of_a_killed_worker_go_on_elsewhere_and_end_with_the_same_numbers(
    work: Work, on_one_machine: pd.DataFrame
) -> None:
    hosts = work.cluster.hosts
    with work.started("killed", "seeds=[0, 1, 2, 3]") as process:
        work.wait_for_trials(process, {"w1": GPUS, "w2": GPUS})
        (raylet,) = hosts.pids("w1", "raylet")
        hosts.kill("w1", raylet)
        work.wait_for_end_of_trials("w1")
        work.let_go()
        ended_well(process, seconds=END_SECONDS)
    rows = work.rows("killed")
    assert set(rows["status"]) == {Status.COMPLETED}
    assert set(rows["node"]) == {"w2"}
    assert len(lost(rows)) == GPUS
    *resumed, first, second = epochs_after(work, "w2")
    assert (first, second) == (EPOCHS, EPOCHS)
    assert len(resumed) == GPUS
    assert max(resumed) < EPOCHS, "they went on from their checkpoints"
    same_numbers(rows, on_one_machine)


def test_a_worker_whose_ray_was_killed_is_back_without_anybody_doing_anything(work: Work) -> None:
    work.cluster.wait_for_workers(*INSTANCE_TYPES)


def test_trials_of_a_worker_without_network_go_on_elsewhere(work: Work, on_one_machine: pd.DataFrame) -> None:
    with work.started("cut", "seeds=[0, 1, 2, 3]") as process:
        work.wait_for_trials(process, {"w1": GPUS, "w2": GPUS})
        work.cluster.hosts.cut("w2")
        work.let_go()
        ended_well(process, seconds=LOSS_SECONDS)
    rows = work.rows("cut")
    assert set(rows["status"]) == {Status.COMPLETED}
    assert set(rows["node"]) == {"w1"}
    assert len(lost(rows)) == GPUS
    *resumed, _, _ = epochs_after(work, "w1")
    assert max(resumed) < EPOCHS, "they went on from their checkpoints"
    same_numbers(rows, on_one_machine)


def test_a_worker_is_used_again_once_its_network_is_mended_without_anybody_doing_anything_else(
    work: Work, on_one_machine: pd.DataFrame
) -> None:
    work.cluster.hosts.mend("w2")
    work.cluster.wait_for_workers(*INSTANCE_TYPES)
    with work.started("mended", "seeds=[4, 5, 6, 7]") as process:
        work.wait_for_trials(process, {"w1": GPUS, "w2": GPUS})
        work.let_go()
        ended_well(process, seconds=END_SECONDS)
    rows = work.rows("mended")
    assert Counter(rows["node"]) == {"w1": GPUS, "w2": GPUS}
    assert len(lost(rows)) == 0
    same_numbers(rows, on_one_machine)


def test_the_same_command_goes_on_after_its_driver_was_killed(work: Work, on_one_machine: pd.DataFrame) -> None:
    hosts, seeds = work.cluster.hosts, "seeds=[0, 1, 2, 3]"
    with work.started("driver", seeds) as process:
        work.wait_for_trials(process, {"w1": GPUS, "w2": GPUS})
        for pid in hosts.pids(HEAD, "raybench"):
            hosts.kill(HEAD, pid)
        for worker in INSTANCE_TYPES:
            work.wait_for_end_of_trials(worker)
    with work.started("driver", seeds) as process:
        work.let_go()
        ended_well(process, seconds=END_SECONDS)
    rows = work.rows("driver")
    assert set(rows["status"]) == {Status.COMPLETED}
    assert max(epochs_after(work, "w1") + epochs_after(work, "w2")) < EPOCHS, "they went on from their checkpoints"
    same_numbers(rows, on_one_machine)


def test_ray_down_ends_ray_everywhere(cluster: Cluster) -> None:
    cluster.ray("down", "--yes", CLUSTER_FILE)
    assert cluster.ray_processes(HEAD) == []

    def has_ended() -> bool:
        return not any(cluster.hosts.pids(worker, "raylet") for worker in INSTANCE_TYPES)

    # Nobody tells the workers, where the provider is `local`: they end once they have missed the head for long enough.
    wait_until(has_ended, "an end of Ray on the workers", seconds=DOWN_SECONDS, every=LOOK_SECONDS)
    for worker in INSTANCE_TYPES:
        cluster.hosts.run(worker, ["ray", "stop", "--force"])  # what reads its logs stays behind
        assert cluster.ray_processes(worker) == []
