"""Scheduling with real Ray and trials of fixed losses."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest
import ray

from raybench.choices import Choices
from raybench.errors import ExperimentError, StorageError
from raybench.events import EpochDone, Event, Notice, TrialEnded, TrialStarted
from raybench.records import AshaSettings, ResourceRequest, Status, Trial, Verdict
from raybench.results import finished_trial_ids, load_results, read_trial
from raybench.scheduling.asha import Decision
from raybench.scheduling.cluster import ray_session
from raybench.scheduling.decisions import LOG_NAME, DecisionLog, find_desk, open_desk
from raybench.scheduling.settings import Settings
from raybench.scheduling.tune import Outcome, run_trials
from tests.scheduling.fake_bench import BENCH, Figures, write_figures
from tests.scheduling.fakes import EXECUTE, Script, make_trial, starts, write_scripts

pytestmark = pytest.mark.minutes

ONE_AT_A_TIME = ResourceRequest(gpu=0.0, cpu=8.0)
HALVING = AshaSettings(grace_period=1, reduction_factor=2, group_by=("dataset", "train_size", "seed"))


@pytest.fixture(scope="module", autouse=True)
def machine() -> Iterator[None]:
    """A machine that counts as having eight cores and two GPUs."""
    with ray_session(num_cpus=8, num_gpus=2):
        yield


def settings(**changes: object) -> Settings:
    defaults: dict[str, object] = {"asha": None, "resources": ONE_AT_A_TIME, "execute": EXECUTE}
    return Settings(**{**defaults, **changes})  # type: ignore[arg-type]


def run_scripts(
    run_dir: Path, scripts: Mapping[Trial, Script], how: Settings, events: list[Event] | None = None
) -> Outcome:
    run_dir.mkdir(exist_ok=True)
    write_scripts(run_dir, {trial.trial_id: script for trial, script in scripts.items()})
    told: list[Event] = [] if events is None else events
    return run_trials(list(scripts), run_dir=run_dir, settings=how, on_event=told.append)


def status_of(run_dir: Path) -> dict[str, str]:
    rows = load_results(run_dir)
    return dict(zip(rows["trial_id"], rows["status"], strict=True))


def test_eight_quarter_gpu_trials_run_at_once_and_never_nine_on_both_gpus(tmp_path: Path) -> None:
    trials = {make_trial(f"t{number:02}"): Script(losses=(1.0, 0.9), wait_for_started=8) for number in range(20)}
    outcome = run_scripts(tmp_path, trials, settings(resources=ResourceRequest(gpu=0.25, cpu=1.0), cache_limit_bytes=5))
    assert set(outcome.statuses.values()) == {Status.COMPLETED}
    seen = starts(tmp_path)
    assert len(seen) == 20
    together = [sum(other["begin"] <= one["begin"] < other["end"] for other in seen) for one in seen]
    assert max(together) == 8
    for gpu in (0, 1):
        on_it = [entry for entry in seen if entry["gpu_ids"] == [gpu]]
        assert on_it
        assert {entry["visible_gpus"] for entry in on_it} == {str(gpu)}
        assert max(sum(other["begin"] <= one["begin"] < other["end"] for other in on_it) for one in on_it) == 4
    assert {entry["gpu_fraction"] for entry in seen} == {0.25}
    assert {entry["threads"] for entry in seen} == {1}
    assert {entry["cpu_share"] for entry in seen} == {0.125}
    assert {entry["cache_limit_bytes"] for entry in seen} == {5}
    assert len({entry["pid"] for entry in seen}) == 8, "processes are handed from trial to trial"


def trial_id_of(event: Event) -> str | None:
    match event:
        case EpochDone(record=record):
            return record.trial_id
        case TrialStarted(trial_id=trial_id) | TrialEnded(trial_id=trial_id):
            return trial_id
    return None


def test_what_is_measured_reaches_the_trials_and_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAYBENCH_CACHE_DIR", str(tmp_path / "cache"))
    write_figures(tmp_path, Figures(totals={"1": 1.0, "2": 1.5, "4": 1.5}, channels_last=["a"]))
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    trials = [make_trial("a"), make_trial("b")]
    write_scripts(run_dir, {trial.trial_id: Script() for trial in trials})
    how = settings(resources=ResourceRequest(gpu=0.0, cpu=None), bench=BENCH)
    begun: list[tuple[Choices, int]] = []
    told: list[Event] = []

    def begin(choices: Choices) -> None:
        begun.append((choices, len(starts(run_dir))))

    run_trials(trials, run_dir=run_dir, settings=how, on_event=told.append, on_start=begin)
    ((choices, started),) = begun
    assert started == 0
    assert choices.cpu_per_trial == 4
    seen = {entry["trial_id"]: entry for entry in starts(run_dir)}
    assert {entry["threads"] for entry in seen.values()} == {4}
    assert seen["a"]["tuning"] == {"channels_last": True, "bfloat16": False}
    assert seen["b"]["tuning"] == {"channels_last": False, "bfloat16": False}
    assert Notice(text="2 trials at once, 4 threads each; channels last for a at 16 px", lasting=True) in told


def test_trials_start_in_the_given_order_and_are_told_of_in_order(tmp_path: Path) -> None:
    trials = {make_trial(name): Script(losses=(1.0, 0.5)) for name in ("c", "a", "b")}
    events: list[Event] = []
    outcome = run_scripts(tmp_path, trials, settings(), events)
    assert list(outcome.statuses.items()) == [(name, Status.COMPLETED) for name in ("c", "a", "b")]
    assert not outcome.interrupted
    assert outcome.problems == ()
    assert [entry["trial_id"] for entry in starts(tmp_path)] == ["c", "a", "b"]
    of_a = [event for event in events if trial_id_of(event) == "a"]
    assert of_a[0] == TrialStarted(trial_id="a")
    assert [event.record.val_loss for event in of_a if isinstance(event, EpochDone)] == [1.0, 0.5]
    assert of_a[-1] == TrialEnded(trial_id="a", status=Status.COMPLETED, val_accuracy=1 / 1.5, error=None)


def test_a_process_goes_through_what_it_imported_once_and_not_between_all_trials(tmp_path: Path) -> None:
    run_scripts(tmp_path, {make_trial(name): Script() for name in "abc"}, settings())
    first, second, third = starts(tmp_path)
    assert first["pid"] == second["pid"] == third["pid"]
    assert first["frozen"] == 0
    assert second["frozen"] == third["frozen"] > 10_000


def test_workers_start_from_the_working_directory_of_the_driver(tmp_path: Path) -> None:
    run_scripts(tmp_path, {make_trial("a"): Script()}, settings())
    (seen,) = starts(tmp_path)
    assert seen["directory"] == str(Path.cwd())
    assert seen["instance_type"] == "local"
    assert seen["node"]


def test_a_trial_is_never_stopped_because_of_one_in_another_group(tmp_path: Path) -> None:
    large = {make_trial(f"large{n}", train_size=19104): Script(losses=(0.1,) * 4) for n in range(3)}
    small = {make_trial("small", train_size=833): Script(losses=(9.0,) * 4)}
    other_seed = {make_trial("seed", train_size=19104, seed=1): Script(losses=(8.0,) * 4)}
    worst = {make_trial("worst", train_size=19104): Script(losses=(9.0,) * 4)}
    outcome = run_scripts(tmp_path, large | small | other_seed | worst, settings(asha=HALVING))
    assert [name for name, status in outcome.statuses.items() if status is Status.STOPPED] == ["worst"]


def test_exactly_the_worse_half_of_a_fixed_order_stops_each_with_a_scored_row(tmp_path: Path) -> None:
    # Rungs at epochs 1 and 2 of 4. A value goes on where it is among the best half of those that came, itself included.
    trials = {
        make_trial("first"): Script(losses=(0.50, 0.40, 0.40, 0.40)),
        make_trial("worse"): Script(losses=(0.60, 0.10, 0.10, 0.10)),  # second at rung 1: stops there
        make_trial("better"): Script(losses=(0.45, 0.45, 0.10, 0.10)),  # best at rung 1, second at rung 2: stops there
        make_trial("middle"): Script(losses=(0.48, 0.30, 0.50, 0.50)),  # second of four at rung 1, best at rung 2
        make_trial("equal"): Script(losses=(0.48, 0.30, 0.30, 0.30)),  # ties go on
        make_trial("last"): Script(losses=(0.47, 0.35, 0.35, 0.35)),  # best three of six at rung 1, third of five at 2
    }
    events: list[Event] = []
    run_scripts(tmp_path, trials, settings(asha=HALVING), events)
    rows = load_results(tmp_path).set_index("trial_id")
    stopped = rows[rows["status"] == "stopped"]
    assert dict(stopped["epochs_run"]) == {"worse": 1, "better": 2, "last": 2}
    assert stopped["test_accuracy"].notna().all()
    assert set(rows["status"]) == {"stopped", "completed"}
    assert [event.trial_id for event in events if isinstance(event, TrialEnded) and event.status is Status.STOPPED] == [
        "worse",
        "better",
        "last",
    ]
    recorded = {
        decision.trial_id: decision.epoch for decision in DecisionLog(tmp_path / LOG_NAME).read() if decision.stop
    }
    assert recorded == {"worse": 1, "better": 2, "last": 2}


def test_epochs_before_the_last_phase_are_not_judged(tmp_path: Path) -> None:
    trials = {
        make_trial("good", epochs=(3, 3)): Script(losses=(0.1,) * 6),
        make_trial("bad", epochs=(3, 3)): Script(losses=(0.9,) * 6),
    }
    run_scripts(tmp_path, trials, settings(asha=HALVING))
    row = read_trial(tmp_path, "bad")
    assert row is not None
    assert (row.status, row.epochs_run) == (Status.STOPPED, 4)


def test_a_stop_recorded_by_an_earlier_run_holds_at_the_same_epoch(tmp_path: Path) -> None:
    trials = {
        make_trial("first"): Script(losses=(0.1,) * 4),
        make_trial("second"): Script(losses=(0.2,) * 4),
    }
    how = settings(asha=HALVING)
    run_scripts(tmp_path, trials, how)
    before = (tmp_path / LOG_NAME).read_text(encoding="utf-8")
    (tmp_path / "results" / "second.parquet").unlink()  # as if it had died between the decision and its row
    second = list(trials)[1]
    # It is alone now, and better than it was: the decision stands all the same.
    run_scripts(tmp_path, {second: Script(losses=(0.01,) * 4)}, how)
    row = read_trial(tmp_path, "second")
    assert row is not None
    assert (row.status, row.epochs_run) == (Status.STOPPED, 1)
    assert (tmp_path / LOG_NAME).read_text(encoding="utf-8") == before


def test_values_recorded_by_an_earlier_run_count(tmp_path: Path) -> None:
    how = settings(asha=HALVING)
    run_scripts(tmp_path, {make_trial("first"): Script(losses=(0.1,) * 4)}, how)
    outcome = run_scripts(tmp_path, {make_trial("second"): Script(losses=(0.2,) * 4)}, how)
    assert outcome.statuses == {"second": Status.STOPPED}


def test_a_diverged_trial_ends_at_once_and_counts_in_no_rung(tmp_path: Path) -> None:
    trials = {
        make_trial("nan"): Script(losses=(1.0, float("nan"), 1.0, 1.0)),
        make_trial("other"): Script(losses=(1.0,) * 4),
    }
    outcome = run_scripts(tmp_path, trials, settings(asha=HALVING))
    assert outcome.statuses == {"nan": Status.STOPPED, "other": Status.COMPLETED}


def test_a_failing_trial_keeps_its_row_and_error_and_the_others_go_on(tmp_path: Path) -> None:
    trials = {
        make_trial("a"): Script(losses=(1.0, 0.5)),
        make_trial("cursed"): Script(losses=(1.0, 0.5), raises=True),
        make_trial("b"): Script(losses=(1.0, 0.5)),
    }
    events: list[Event] = []
    outcome = run_scripts(tmp_path, trials, settings(), events)
    assert outcome.statuses == {"a": Status.COMPLETED, "cursed": Status.FAILED, "b": Status.COMPLETED}
    row = read_trial(tmp_path, "cursed")
    assert row is not None
    assert row.error is not None
    assert row.error.startswith("ValueError: the images of this trial are cursed")
    assert "_meet_fate" in row.error
    assert row.retries == 0, "the same error would come again"
    assert Counter(entry["trial_id"] for entry in starts(tmp_path)) == {"a": 1, "cursed": 1, "b": 1}
    (ended,) = [event for event in events if isinstance(event, TrialEnded) and event.trial_id == "cursed"]
    assert (ended.status, ended.error) == (Status.FAILED, row.error)


def test_a_trial_whose_worker_is_killed_goes_on_and_says_so(tmp_path: Path) -> None:
    trials = {
        make_trial("killed"): Script(losses=(1.0, 0.5, 0.4), kills=1),
        make_trial("after"): Script(losses=(1.0, 0.5)),
    }
    outcome = run_scripts(tmp_path, trials, settings(asha=None))
    assert set(outcome.statuses.values()) == {Status.COMPLETED}
    row = read_trial(tmp_path, "killed")
    assert row is not None
    assert row.retries == 1


def test_a_trial_that_is_handed_to_a_process_which_dies_then_is_run_elsewhere(tmp_path: Path) -> None:
    trials = {
        make_trial("last"): Script(dies_afterwards=True),
        make_trial("next"): Script(),
        make_trial("after"): Script(),
    }
    outcome = run_scripts(tmp_path, trials, settings())
    assert set(outcome.statuses.values()) == {Status.COMPLETED}
    assert outcome.problems == ()
    assert [entry["trial_id"] for entry in starts(tmp_path)].count("next") == 1


def test_a_trial_whose_worker_is_killed_too_often_gets_a_failed_row(tmp_path: Path) -> None:
    trials = {make_trial("doomed"): Script(losses=(1.0, 0.5), kills=99), make_trial("after"): Script()}
    outcome = run_scripts(tmp_path, trials, settings(max_failures=1))
    assert outcome.statuses == {"doomed": Status.FAILED, "after": Status.COMPLETED}
    row = read_trial(tmp_path, "doomed")
    assert row is not None
    assert row.error is not None
    assert row.error.startswith("WorkerLost: its process ended 2 times")
    assert row.retries == 1
    assert len([entry for entry in starts(tmp_path) if entry["trial_id"] == "doomed"]) == 2


def test_a_desk_that_ray_had_to_start_again_knows_every_recorded_stop(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path / LOG_NAME)
    with open_desk(log.path) as name:
        desk = find_desk(name)
        assert ray.get([desk.ask.remote("b", 10)]) == [Verdict.GO_ON]
        log.append(Decision(trial_id="b", group="g", epoch=10, rung=10, value=0.7, stop=True))
        desk_process = psutil.Process(ray.get(desk.__ray_call__.remote(lambda _: os.getpid())))
        desk_process.kill()
        desk_process.wait(timeout=30)  # `ray.kill` would not wait, and the old process could answer once more
        assert ray.get([desk.ask.remote("b", epoch) for epoch in (9, 10, 11)]) == [
            Verdict.GO_ON,
            Verdict.STOP,
            Verdict.STOP,
        ]
    with pytest.raises(ValueError, match="Failed to look up actor"):
        find_desk(name)


def test_an_error_while_showing_events_is_kept_and_disturbs_no_trial(tmp_path: Path) -> None:
    def show(event: Event) -> None:
        raise RuntimeError(f"no terminal for {type(event).__name__}")

    trial = make_trial("a")
    write_scripts(tmp_path, {"a": Script(losses=(1.0, 0.5))})
    outcome = run_trials([trial], run_dir=tmp_path, settings=settings(), on_event=show)
    assert outcome.statuses == {"a": Status.COMPLETED}
    assert "an event could not be shown: RuntimeError: no terminal for TrialStarted" in outcome.problems


def test_a_decision_that_cannot_be_written_has_no_effect_and_ends_the_run_until_it_can(tmp_path: Path) -> None:
    trials = {make_trial("first"): Script(losses=(0.1,) * 4), make_trial("second"): Script(losses=(0.2,) * 4)}
    log = tmp_path / LOG_NAME
    log.symlink_to(tmp_path / "nowhere" / LOG_NAME)
    with pytest.raises(StorageError, match=f"{LOG_NAME}: cannot be written: No such file"):
        run_scripts(tmp_path, trials, settings(asha=HALVING))
    assert set(finished_trial_ids(tmp_path).values()) <= {Status.COMPLETED, Status.UNFINISHED}
    log.unlink()
    outcome = run_scripts(tmp_path, trials, settings(asha=HALVING))
    assert outcome.problems == ()
    assert {Status.COMPLETED} <= set(outcome.statuses.values()) <= {Status.COMPLETED, Status.STOPPED}


def test_more_gpus_than_there_are_start_no_trial(tmp_path: Path) -> None:
    how = settings(resources=ResourceRequest(gpu=3.0, cpu=1.0))
    with pytest.raises(ExperimentError, match=r"resources\.gpu: 3 is more than the 2 that one machine has here"):
        run_scripts(tmp_path, {make_trial("a"): Script()}, how)
    assert not (tmp_path / "results").exists()
