"""Trials that take more memory than their share: from their checkpoint once more, with a larger one, and how far."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from raybench.records import AshaSettings, ResourceRequest, Status, Trial
from raybench.results import load_results
from raybench.scheduling.cluster import quiet_ray, ray_session
from raybench.scheduling.settings import Settings
from raybench.scheduling.tune import Outcome, run_trials
from tests.scheduling.fakes import EXECUTE, Script, make_trial, starts, write_scripts

ASHA: AshaSettings | None = None
CORES = 3
SHARE_MB = 700
"""Of each of three trials; a process that imports torch takes about half of it."""


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    with quiet_ray(), ray_session(num_cpus=CORES, num_gpus=1):
        yield


def run(run_dir: Path, scripts: dict[str, Script], *, gpu: float = 0.0) -> tuple[Outcome, list[object]]:
    write_scripts(run_dir, scripts)
    told: list[object] = []
    settings = Settings(
        asha=ASHA,
        resources=ResourceRequest(gpu=gpu, cpu=0.5 if gpu else 1.0),
        execute=EXECUTE,
        memory_bytes=SHARE_MB * CORES * 10**6,
    )
    trials: list[Trial] = [make_trial(name) for name in scripts]
    return run_trials(trials, run_dir=run_dir, settings=settings, on_event=told.append), told


def test_three_that_do_not_fit_together_all_complete_after_a_kill_each_and_none_failed(tmp_path: Path) -> None:
    names = ("a", "b", "c")
    outcome, told = run(tmp_path, dict.fromkeys(names, Script(losses=(1.0, 0.5), fills_mb=700)))
    assert set(outcome.statuses.values()) == {Status.COMPLETED}
    rows = load_results(tmp_path)
    assert (rows["retries"] >= 1).all(), "more where nobody heard in time why a process ended"
    seen = starts(tmp_path)
    assert len({entry["pid"] for entry in seen}) >= 4, "three processes were ended"
    assert {entry["cpu_share"] for entry in seen} == {1 / CORES}, "what a trial computes with, and costs, stays"
    assert {entry["threads"] for entry in seen} == {1}
    assert sum("it goes on with 2 times a trial's share" in str(event) for event in told) == 3


def test_one_that_takes_more_than_there_is_fails_with_the_reason_and_the_others_go_on(tmp_path: Path) -> None:
    greedy = Script(losses=(1.0, 0.5), fills_mb=SHARE_MB * CORES)
    outcome, _ = run(tmp_path, {"greedy": greedy, "modest": Script(losses=(1.0, 0.5))})
    assert outcome.statuses == {"greedy": Status.FAILED, "modest": Status.COMPLETED}
    row = load_results(tmp_path).set_index("trial_id").loc["greedy"]
    assert row["error"].startswith("OutOfMemory: its process took ")
    assert "batch_size" in row["error"]
    assert row["retries"] >= 2, "with one, two and all three parts of the machine"


def test_torchs_error_for_a_lack_of_gpu_memory_doubles_the_part_up_to_a_whole_gpu(tmp_path: Path) -> None:
    scripts = {"large": Script(losses=(1.0, 0.5), needs_gpu=0.6), "small": Script(losses=(1.0, 0.5), needs_gpu=0.2)}
    outcome, _ = run(tmp_path, scripts, gpu=0.25)
    assert set(outcome.statuses.values()) == {Status.COMPLETED}
    parts = [entry["gpu_memory_share"] for entry in starts(tmp_path) if entry["trial_id"] == "large"]
    assert parts == [0.25, 0.5, 1.0]
    assert load_results(tmp_path).set_index("trial_id")["retries"].to_dict() == {"large": 2, "small": 0}


def test_a_trial_that_needs_more_than_a_whole_gpu_fails_with_the_reason(tmp_path: Path) -> None:
    outcome, _ = run(tmp_path, {"huge": Script(losses=(1.0, 0.5), needs_gpu=1.1)}, gpu=0.5)
    assert outcome.statuses == {"huge": Status.FAILED}
    assert load_results(tmp_path)["error"].item().startswith("OutOfMemory: ")
