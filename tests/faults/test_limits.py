"""What ends trials from outside: budgets, trials that hang, and processes that crash in C code; with real Ray."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import ray

from raybench.budget import ENDING_SECONDS, Budget, Spending, spent_before
from raybench.cost import SECONDS_PER_HOUR
from raybench.events import EpochDone, Event, Notice, TrialEnded, TrialStarted
from raybench.pace import pace_keys
from raybench.records import AshaSettings, Pace, ResourceRequest, Status, Trial
from raybench.results import finished_trial_ids, load_results
from raybench.scheduling.cluster import LOCAL_INSTANCE, quiet_ray, ray_session
from raybench.scheduling.decisions import find_desk, open_desk
from raybench.scheduling.driver import Announcer, Problems
from raybench.scheduling.limits import BudgetWatch, TimeoutWatch
from raybench.scheduling.settings import Settings
from raybench.scheduling.tune import Outcome, run_trials
from raybench.spending import Books
from tests.scheduling.fakes import EXECUTE, Script, make_trial, starts, write_scripts

pytestmark = pytest.mark.minutes

ASHA: AshaSettings | None = None
CORES = 2
NAMES = tuple("abcdef")
EPOCHS = 4
EPOCH_SECONDS = 0.4
WHOLE_SECONDS = EPOCH_SECONDS * EPOCHS * len(NAMES) / CORES
"""What all trials take at the least."""
SLACK_SECONDS = 1.0
"""Ray hands a trial over, and a report arrives, that late on a busy machine."""
USD_PER_SECOND = 2.0
PRICES = {LOCAL_INSTANCE: USD_PER_SECOND * SECONDS_PER_HOUR}


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    with quiet_ray(), ray_session(num_cpus=CORES):
        yield


@dataclass
class Listener:
    """Hears what happens, and is a clock that begins with the first epoch: processes start as slowly as they like."""

    begun: float | None = None
    epochs: list[float] = field(default_factory=list)
    """When each ended, by that clock."""
    events: list[Event] = field(default_factory=list)

    def hear(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, EpochDone):
            if self.begun is None:
                self.begun = time.time() - EPOCH_SECONDS
            self.epochs.append(self())

    def __call__(self) -> float:
        return 0.0 if self.begun is None else time.time() - self.begun

    def notices(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Notice)]


def run_within(
    run_dir: Path, session: str, *, usd: float | None = None, hours: float | None = None
) -> tuple[Outcome, Listener]:
    listener = Listener()
    books = Books(clock=listener, session=session)
    books.open(run_dir)
    budget = Budget(usd=usd, hours=hours, earlier=spent_before(run_dir, PRICES), books=books)
    settings = Settings(
        asha=ASHA,
        resources=ResourceRequest(gpu=0, cpu=1.0),
        execute=EXECUTE,
        price_per_hour_usd=PRICES,
        books=books,
        budget=budget,
    )
    trials = [make_trial(name, epochs=(EPOCHS,)) for name in NAMES]
    return run_trials(trials, run_dir=run_dir, settings=settings, on_event=listener.hear), listener


def rows(run_dir: Path) -> dict[str, bytes]:
    return {
        name: (run_dir / "results" / f"{name}.parquet").read_bytes()
        for name, status in finished_trial_ids(run_dir).items()
        if status is Status.COMPLETED
    }


@pytest.mark.parametrize(
    ("kind", "part", "finish"),
    [("hours", 0.1, False), ("usd", 0.5, True), ("both", 0.7, True)],
    ids=["hours for an epoch or so", "dollars for half of it", "both, of which hours run out first"],
)
def test_a_budget_lets_each_trial_pass_it_by_an_epoch_at_most_and_a_larger_one_ends_them_all(
    kind: str, part: float, finish: bool, tmp_path: Path
) -> None:
    write_scripts(tmp_path, dict.fromkeys(NAMES, Script(losses=(1.0,) * EPOCHS, epoch_seconds=EPOCH_SECONDS)))
    seconds = part * WHOLE_SECONDS
    hours = (seconds + ENDING_SECONDS) / SECONDS_PER_HOUR
    usd = (seconds + ENDING_SECONDS) * USD_PER_SECOND
    limits = {"hours": {"hours": hours}, "usd": {"usd": usd}, "both": {"hours": hours, "usd": 2 * usd}}[kind]
    outcome, listener = run_within(tmp_path, "first", **limits)
    assert outcome.budget_reached
    assert not outcome.interrupted
    assert outcome.problems == ()
    assert listener.epochs[-1] < seconds + EPOCH_SECONDS + SLACK_SECONDS
    assert listener.epochs[-1] > seconds - 2 * EPOCH_SECONDS - SLACK_SECONDS, "what there is is made use of"
    assert sum("ends the run: nothing starts or goes on that would pass it" in text for text in listener.notices()) == 1
    assert set(outcome.statuses.values()) <= {Status.COMPLETED, Status.UNFINISHED}
    assert Status.UNFINISHED in outcome.statuses.values()
    assert (Status.COMPLETED in outcome.statuses.values()) == finish
    table = load_results(tmp_path).set_index("trial_id")
    assert set(table["status"]) <= {"completed", "unfinished"}
    paused = table[table["status"] == "unfinished"]
    assert ((paused["epochs_run"] >= 1) & (paused["epochs_run"] < EPOCHS)).all()
    begun = {str(entry["trial_id"]) for entry in starts(tmp_path)}
    assert set(table.index) == begun, "what began has a row, and what did not has none"
    kept = rows(tmp_path)
    assert len(kept) == sum(status is Status.COMPLETED for status in outcome.statuses.values())

    spent = spent_before(tmp_path, PRICES)
    assert spent.hours * SECONDS_PER_HOUR == pytest.approx(listener.epochs[-1], abs=SLACK_SECONDS + EPOCH_SECONDS)
    assert spent.usd == pytest.approx(spent.hours * SECONDS_PER_HOUR * USD_PER_SECOND, abs=SLACK_SECONDS)
    write_scripts(tmp_path, dict.fromkeys(NAMES, Script(losses=(1.0,) * EPOCHS)))  # as quick as can be
    outcome, _ = run_within(tmp_path, "second", usd=1000 * usd, hours=1000 * hours)
    assert not outcome.budget_reached
    assert set(finished_trial_ids(tmp_path)) == set(NAMES)
    assert set(finished_trial_ids(tmp_path).values()) == {Status.COMPLETED}
    assert {name: content for name, content in rows(tmp_path).items() if name in kept} == kept


class TestStart:
    """Whether a trial may start, by a clock that the test turns."""

    PACE = Pace(train_seconds=0.1, val_seconds=0.1)
    HOURS = (100 + ENDING_SECONDS) / SECONDS_PER_HOUR

    @pytest.fixture
    def told(self) -> list[Any]:
        return []

    def watch(
        self, run_dir: Path, told: list[Any], *, paces: dict[str, dict[str, Pace]], asha: AshaSettings | None = None
    ) -> BudgetWatch:
        books = Books(clock=lambda: self.now)
        problems = Problems()
        return BudgetWatch(
            Budget(usd=None, hours=self.HOURS, earlier=Spending(usd=0.0, hours=0.0), books=books),
            desk="none",
            announcer=Announcer(trials={}, run_dir=run_dir, on_event=told.append, problems=problems),
            problems=problems,
            run_dir=run_dir,
            paces=paces,
            val_images={"digits": 100},
            asha=asha,
        )

    now = 0.0

    def trial(self) -> Trial:
        return make_trial("a", train_size=100, epochs=(4,))  # 20 s an epoch

    def paces(self, **factors: float) -> dict[str, dict[str, Pace]]:
        keys = pace_keys(self.trial())
        return {
            device: {key: replace(self.PACE, train_seconds=0.1 * factor) for key in keys}
            for device, factor in factors.items()
        }

    def test_a_trial_starts_while_the_least_that_it_takes_is_left(self, tmp_path: Path, told: list[Any]) -> None:
        watch = self.watch(tmp_path, told, paces=self.paces(here=1.0))
        self.now = 19.0
        assert watch.may_start(self.trial()), "4 epochs of 20 s"
        assert not watch.reached
        assert told == []
        self.now = 21.0
        assert not watch.may_start(self.trial())
        assert not watch.may_start(self.trial())
        assert watch.reached
        assert len(told) == 1, "it is said once"

    def test_asha_might_stop_it_at_its_first_rung(self, tmp_path: Path, told: list[Any]) -> None:
        asha = AshaSettings(grace_period=1, reduction_factor=2, group_by=("dataset",))
        watch = self.watch(tmp_path, told, paces=self.paces(here=1.0), asha=asha)
        self.now = 79.0
        assert watch.may_start(self.trial())
        self.now = 81.0
        assert not watch.may_start(self.trial())

    def test_the_device_that_takes_least_counts(self, tmp_path: Path, told: list[Any]) -> None:
        watch = self.watch(tmp_path, told, paces=self.paces(slow=5.0, quick=0.0))
        self.now = 59.0
        assert watch.may_start(self.trial()), "4 epochs of 10 s"
        self.now = 61.0
        assert not watch.may_start(self.trial())

    def test_without_measurements_a_trial_starts_while_anything_is_left(self, tmp_path: Path, told: list[Any]) -> None:
        watch = self.watch(tmp_path, told, paces={})
        self.now = 99.0
        assert watch.may_start(self.trial())
        self.now = 101.0
        assert not watch.may_start(self.trial())

    def test_a_trial_that_has_a_checkpoint_goes_on_while_anything_is_left(
        self, tmp_path: Path, told: list[Any]
    ) -> None:
        (tmp_path / "checkpoints").mkdir()
        (tmp_path / "checkpoints" / "a.pt").touch()
        watch = self.watch(tmp_path, told, paces=self.paces(here=1.0))
        self.now = 99.0
        assert watch.may_start(self.trial())


TIMEOUT_SECONDS = 12.0
"""Far more than a process takes to start."""
HANGS = ("sleeps", "ignores", "holds")
GONE_SECONDS = 10
QUICK = Script(losses=(1.0, 0.5))


def run(
    run_dir: Path,
    scripts: dict[str, Script],
    *,
    cpu: float = 1.0,
    **changes: Any,  # noqa: ANN401 - any field
) -> tuple[Outcome, list[Event]]:
    write_scripts(run_dir, scripts)
    told: list[Event] = []
    settings = Settings(asha=ASHA, resources=ResourceRequest(gpu=0, cpu=cpu), execute=EXECUTE)
    trials = [make_trial(name) for name in scripts]
    settings = replace(settings, **changes)
    return run_trials(trials, run_dir=run_dir, settings=settings, on_event=told.append), told


def test_trials_that_hang_are_ended_whatever_they_do_and_the_others_complete(tmp_path: Path) -> None:
    quick = tuple(f"quick-{number}" for number in range(6))
    scripts = {name: Script(losses=(1.0, 0.5), hangs=name) for name in HANGS} | dict.fromkeys(quick, QUICK)
    outcome, told = run(tmp_path, scripts, cpu=CORES / 4, trial_timeout_seconds=TIMEOUT_SECONDS)
    assert outcome.statuses == dict.fromkeys(HANGS, Status.FAILED) | dict.fromkeys(quick, Status.COMPLETED)
    assert outcome.problems == ()
    assert not outcome.budget_reached
    table = load_results(tmp_path).set_index("trial_id")
    for name in HANGS:
        assert (tmp_path / f"{name}.hangs").exists()
        assert table.loc[name, "error"] == "Timeout: took longer than trial_timeout, 12 s, and had done 1 epoch"
        assert table.loc[name, "retries"] == 0
    seen = starts(tmp_path)
    assert sorted(entry["trial_id"] for entry in seen) == sorted(scripts), "none is begun again"
    ended = [event.trial_id for event in told if isinstance(event, TrialEnded)]
    assert sorted(ended) == sorted(scripts), "each is told once"
    for name in HANGS:
        about = [event for event in told if isinstance(event, TrialStarted | TrialEnded) and event.trial_id == name]
        assert [type(event) for event in about] == [TrialStarted, TrialEnded], "nothing starts that has ended"
    hung = [int(entry["pid"]) for entry in seen if entry["trial_id"] in HANGS]
    deadline = time.monotonic() + GONE_SECONDS
    while any(psutil.pid_exists(pid) for pid in hung):
        assert time.monotonic() < deadline, "their processes are gone"
        time.sleep(0.1)


class Attempt:
    """What the watch reads of Ray Tune's trial."""

    def __init__(self, trial_id: str) -> None:
        self.config = {"trial": trial_id}
        self.num_failures = 1
        self.temporary_state = SimpleNamespace(ray_actor=None)


def test_a_timeout_counts_each_attempt_by_itself_and_forgets_what_ended(tmp_path: Path) -> None:
    now, told = [0.0], list[Event]()
    problems = Problems()
    trials = {name: make_trial(name) for name in ("lost", "ended")}
    announcer = Announcer(trials=trials, run_dir=tmp_path, on_event=told.append, problems=problems)
    lost, ended = map(Attempt, trials)
    with open_desk(None) as desk:
        watch = TimeoutWatch(60, desk=desk, announcer=announcer, problems=problems, clock=lambda: now[0])

        def call(hook: str, trial: Attempt) -> None:
            getattr(watch, hook)(iteration=1, trials=[], trial=trial)

        def look(at: float) -> dict[str, Status]:
            now[0] = at
            watch.on_step_end(iteration=1, trials=[])
            return announcer.statuses

        call("on_trial_start", lost)
        call("on_trial_start", ended)
        assert look(59) == {}
        call("on_trial_recover", lost)
        call("on_trial_complete", ended)
        assert look(70) == {}
        call("on_trial_start", lost)
        assert look(129) == {}, "59 s of this attempt"
        assert look(131) == {"lost": Status.FAILED}
        assert ray.get(find_desk(desk).begin.remote("lost")) is None, "it does not begin again"
        assert ray.get(find_desk(desk).begin.remote("ended")) == 0
        look(1000)
    assert len(told) == 1
    assert problems.texts() == ()
    row = load_results(tmp_path).iloc[0]
    assert row["error"] == "Timeout: took longer than trial_timeout, 1 min, and had done 0 epochs"
    assert row["retries"] == 1


def test_a_crash_in_c_code_is_tried_again_and_one_that_comes_each_time_is_a_failed_row(tmp_path: Path) -> None:
    scripts = {
        "always": replace(QUICK, segfaults=99),
        "once": replace(QUICK, segfaults=1),
        **dict.fromkeys(("a", "b", "c"), QUICK),
    }
    outcome, _ = run(tmp_path, scripts, max_failures=1)
    assert outcome.statuses == {
        "always": Status.FAILED,
        **dict.fromkeys(("once", "a", "b", "c"), Status.COMPLETED),
    }
    assert outcome.problems == ()
    table = load_results(tmp_path).set_index("trial_id")
    assert str(table.loc["always", "error"]).startswith(
        "WorkerLost: its process ended 2 times without an error of its own"
    )
    assert table["retries"].to_dict() == {"always": 1, "once": 1, "a": 0, "b": 0, "c": 0}
    begun = [entry["trial_id"] for entry in starts(tmp_path)]
    assert begun.count("always") == 2
