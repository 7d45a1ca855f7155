"""Trials of several workers with real Ray, Ray Train and trainings on two cores."""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import ray

from raybench.events import EpochDone, Event
from raybench.ledger import load
from raybench.records import AshaSettings, Phase, ResourceRequest, Status, Trial, TrialResult
from raybench.results import load_history, load_results, read_trial
from raybench.scheduling.cluster import shared_ray
from raybench.scheduling.driver import Problems
from raybench.scheduling.gang import AllBegun
from raybench.scheduling.leftovers import Leftovers
from raybench.scheduling.resources import Share
from raybench.scheduling.settings import Settings
from raybench.scheduling.trainable import BEGUN
from raybench.scheduling.tune import run_trials
from raybench.spending import Books, Machine
from tests.builders import PHASE, make_trial
from tests.scheduling.gang_runs import HANGING, KILLED, RAISING, alive
from tests.training.ranks import train

pytestmark = pytest.mark.minutes

PLAIN = "tests.training.ranks:plain"
PAIR = ResourceRequest(gpu=0.0, cpu=1.0, workers=2)
TOLERANCE = 1e-6


@pytest.fixture(scope="module", autouse=True)
def machine() -> Iterator[None]:
    """A machine with room for one trial of two workers."""
    with shared_ray(num_cpus=2):
        yield


def plain_trial(trial_id: str, phase: Phase = PHASE) -> Trial:
    return make_trial(trial_id, phase, model=PLAIN, train_size=101)


def row_of(run_dir: Path, trial_id: str) -> TrialResult:
    row = read_trial(run_dir, trial_id)
    assert row is not None
    return row


def held_groups() -> list[object]:
    """Return the placement groups that hold something."""
    table = ray.util.placement_group_table()
    return [entry["bundles"] for entry in table.values() if entry["state"] != "REMOVED"]


def test_a_trial_that_is_stopped_leaves_nothing_behind(tmp_path: Path) -> None:
    hopeless = replace(PHASE, learning_rate=1e-7, epochs=3, patience=3)
    trials = [plain_trial("a"), plain_trial("b"), plain_trial("hopeless", hopeless)]
    asha = AshaSettings(grace_period=1, reduction_factor=2, group_by=("dataset", "train_size", "seed"))
    books = Books()
    books.add_machine(Machine(node=os.uname().nodename, instance_type="local", usd_per_hour=1.0), from_start=True)
    books.open(tmp_path)
    settings = Settings(
        asha=asha, resources=PAIR, num_cpus=2, execute=KILLED, books=books, price_per_hour_usd={"local": 3.6}
    )
    outcome = run_trials(trials, run_dir=tmp_path, settings=settings, on_event=lambda _: None)
    assert outcome.statuses["a"] is Status.COMPLETED
    assert outcome.statuses["hopeless"] is Status.STOPPED
    assert outcome.problems == ()
    assert held_groups() == []
    assert [alive(tmp_path, trial.trial_id) for trial in trials] == [[], [], []]
    stopped = row_of(tmp_path, "hopeless")
    assert stopped.epochs_run == 1
    assert stopped.test_accuracy is not None
    rows = load_results(tmp_path)
    assert set(rows["workers"]) == {2}
    assert set(rows["cpu_share"]) == set(rows["device_share"]) == {1.0}
    np.testing.assert_allclose(rows["standalone_cost_usd"], rows["train_seconds"] * 3.6 / 3600)
    spent = load(tmp_path).query("trial_id == 'a'")
    assert list(spent["device_share"].unique()) == [1.0]


def test_lost_interrupted_and_raising_workers(tmp_path: Path) -> None:
    killed = plain_trial("killed", replace(PHASE, epochs=6, patience=6))
    settings = Settings(asha=None, resources=PAIR, num_cpus=2, execute=KILLED)
    told: list[Event] = []

    def interrupt(event: Event) -> None:
        told.append(event)
        if isinstance(event, EpochDone) and event.record.epoch == 4:
            os.kill(os.getpid(), signal.SIGINT)

    outcome = run_trials([plain_trial(RAISING), killed], run_dir=tmp_path, settings=settings, on_event=interrupt)

    assert outcome.statuses == {RAISING: Status.FAILED, "killed": Status.UNFINISHED}
    assert outcome.interrupted
    error = row_of(tmp_path, RAISING).error or ""
    assert error.startswith("ValueError: the images of this worker are cursed\n")
    assert "gang_runs.py" in error
    assert (tmp_path / "was-killed").exists()
    assert row_of(tmp_path, "killed").retries == 1
    epochs = [event.record.epoch for event in told if isinstance(event, EpochDone)]
    assert epochs.count(1) == 2, "what a checkpoint holds is told again"
    assert held_groups() == []
    assert alive(tmp_path, RAISING) == alive(tmp_path, "killed") == []

    outcome = run_trials([killed], run_dir=tmp_path, settings=settings, on_event=lambda _: None)

    assert outcome.statuses == {"killed": Status.COMPLETED}
    train([killed], tmp_path / "uninterrupted", workers=2)
    columns = ["epoch", "train_loss", "val_loss", "val_accuracy"]
    own, other = (load_history(folder) for folder in (tmp_path, tmp_path / "uninterrupted"))
    own = own[own["trial_id"] == "killed"]
    np.testing.assert_allclose(own[columns].to_numpy(float), other[columns].to_numpy(float), atol=TOLERANCE)
    test_losses = [row_of(folder, "killed").test_loss for folder in (tmp_path, tmp_path / "uninterrupted")]
    assert test_losses[0] == pytest.approx(test_losses[1], abs=TOLERANCE)


def test_a_trial_that_hangs_is_ended_with_its_workers_and_what_they_held(tmp_path: Path) -> None:
    settings = Settings(asha=None, resources=PAIR, num_cpus=2, execute=KILLED, trial_timeout_seconds=1)
    outcome = run_trials([plain_trial(HANGING)], run_dir=tmp_path, settings=settings, on_event=lambda _: None)
    assert outcome.statuses == {HANGING: Status.FAILED}
    assert outcome.problems == ()
    assert (row_of(tmp_path, HANGING).error or "").startswith("Timeout: took longer than trial_timeout")
    # Ray removes a group, and ends the processes of one that is gone, on its own time.
    deadline = time.monotonic() + 60
    while held_groups() or alive(tmp_path, HANGING):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_is_held_by_a_trial_that_was_lost_before_its_workers_were_there_is_given_back() -> None:
    share = Share(cpu=0.5, gpu=0, workers=2)
    problems = Problems()
    leftovers = Leftovers(share_of=lambda _: share, problems=problems)
    known, left, other = (
        ray.util.placement_group(bundles) for bundles in ([share.bundle] * 2, [share.bundle] * 2, [share.bundle])
    )
    running, lost = (SimpleNamespace(config={"trial": name}) for name in ("running", "lost"))
    begun = {BEGUN: AllBegun(nodes={}, placement_group=known.id.hex())}
    leftovers.on_trial_result(1, [], running, begun)  # type: ignore[arg-type] # all that it looks at
    leftovers.on_trial_error(1, [], lost)  # type: ignore[arg-type]
    assert problems.texts() == ()
    states = {group.id: ray.util.placement_group_table(group)["state"] for group in (known, left, other)}
    assert states[left.id] == "REMOVED"
    assert "REMOVED" not in {states[known.id], states[other.id]}
    leftovers.clear()
    ray.util.remove_placement_group(other)
    assert held_groups() == []
