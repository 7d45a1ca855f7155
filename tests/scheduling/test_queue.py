"""Which trial starts next, and whether one more may, without a running Ray."""

import json
from collections.abc import Callable, Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.search import Searcher

from raybench.scheduling.queue import AllEnded, Finish, InOrder, Room, TrialQueue
from raybench.scheduling.resources import Node, Share
from raybench.trials import from_json
from tests.builders import make_trial

SHARE = Share(cpu=1, gpu=0)


def names(count: int) -> list[str]:
    return [f"trial{number}" for number in range(count)]


def queue_of(
    trial_ids: Iterable[str], *, live: Callable[[], int] = lambda: 0, room: Callable[[], int] = lambda: 1
) -> TrialQueue:
    return TrialQueue([make_trial(name) for name in trial_ids], count_live=lambda _: live(), room=lambda _: room())


def tune_trial(status: str = TuneTrial.PENDING) -> TuneTrial:
    trial = TuneTrial("run_trial", config={"trial": "any"}, stub=True)
    trial.status = status
    return trial


def scheduler_of(trials: Sequence[TuneTrial]) -> InOrder:
    scheduler = InOrder()
    for trial in trials:
        scheduler.on_trial_add(None, trial)
    return scheduler


def test_trials_are_handed_over_whole_and_in_the_given_order() -> None:
    queue = queue_of(["c", "a", "b"])
    configs = [queue.suggest("any") for _ in range(4)]
    assert [config["trial"] for config in configs if isinstance(config, dict)] == ["c", "a", "b"]
    assert configs[3] == Searcher.FINISHED, "else Ray Tune would wait for those that were announced"
    assert isinstance(configs[0], dict)
    assert from_json(json.loads(configs[0]["record"])) == make_trial("c")


@given(st.integers(0, 20), st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5)), max_size=60))
def test_no_trial_is_handed_over_beyond_the_room_and_none_is_lost(count: int, moments: list[tuple[int, int]]) -> None:
    now = [0, 1]
    queue = queue_of(names(count), live=lambda: now[0], room=lambda: now[1])
    handed = []
    for moment in [*moments, *[(0, 1)] * (count + 1)]:
        now[:] = moment
        config = queue.suggest("any")
        assert not isinstance(config, dict) or now[0] < now[1]
        handed += [config["trial"]] if isinstance(config, dict) else []
    assert handed == names(count)


def test_the_first_waiting_trial_starts_first_whatever_ran_before() -> None:
    before = [tune_trial(TuneTrial.TERMINATED), tune_trial(TuneTrial.RUNNING)]
    lost, waiting = tune_trial(), tune_trial()
    scheduler = scheduler_of([*before, lost, waiting, lost])  # Ray Tune tells of a lost trial again
    assert scheduler.choose_trial_to_run(None) is lost
    lost.status = TuneTrial.ERROR
    assert scheduler.choose_trial_to_run(None) is waiting
    assert scheduler.count_live() == 2


def test_an_ended_trial_makes_room_even_where_nobody_was_told() -> None:
    trials = [tune_trial(TuneTrial.RUNNING), tune_trial(TuneTrial.RUNNING)]
    scheduler = scheduler_of(trials)
    queue = queue_of(["next"], live=scheduler.count_live, room=lambda: 2)
    assert queue.suggest("any") is None
    trials[0].status = TuneTrial.ERROR
    assert queue.suggest("any") is not None


def test_a_tuner_ends_with_its_last_trial_and_not_before() -> None:
    live = [1]
    queue = queue_of(["only"], live=lambda: live[0], room=lambda: 2)
    finish = Finish(queue.ended)
    finish.on_step_end(0, [])
    assert queue.suggest("any") is not None
    finish.on_step_end(0, [])
    live[0] = 0
    with pytest.raises(AllEnded):
        finish.on_step_end(0, [])


@pytest.mark.parametrize(
    ("machines", "spare", "room"),
    [
        ([Node(cpus=2, gpus=0)], 0, 2),
        ([Node(cpus=2, gpus=0)], 1, 3),
        ([Node(cpus=2, gpus=0), Node(cpus=8, gpus=0)], 0, 10),
        ([], 0, 1),
        ([Node(cpus=0.5, gpus=0)], 0, 1),
    ],
)
def test_room_is_what_fits_and_what_may_wait_and_at_least_one(machines: list[Node], spare: int, room: int) -> None:
    assert Room(SHARE, spare=spare, machines=lambda: machines)() == room


def test_trials_that_are_pinned_to_a_kind_of_accelerator_wait_for_that_kind_alone() -> None:
    pins = {"pinned-1": ("A10G",), "pinned-2": ("A10G",), "free-1": (), "free-2": (), "free-3": ()}
    machines = [Node(cpus=1, gpus=0, accelerator="A10G"), Node(cpus=2, gpus=0, accelerator="L4")]
    scheduler = InOrder(kinds=pins.__getitem__)
    queue = TrialQueue(
        [make_trial(name) for name in ("free-1", "pinned-1", "free-2", "pinned-2", "free-3")],
        count_live=scheduler.count_live,
        room=Room(SHARE, spare=0, machines=lambda: machines),
        kinds=lambda trial: pins[trial.trial_id],
    )
    started: dict[str, TuneTrial] = {}

    def handed_over() -> list[str]:
        """Let Ray Tune ask until it is told to wait."""
        names: list[str] = []
        while isinstance(config := queue.suggest("any"), dict):
            attempt = TuneTrial("run_trial", config=config, stub=True)
            attempt.status = TuneTrial.RUNNING
            started[config["trial"]] = attempt
            scheduler.on_trial_add(None, attempt)
            names.append(config["trial"])
        return names

    assert handed_over() == ["pinned-1", "free-1", "free-2"], "one A10G and two L4: no second pinned trial"
    started["free-1"].status = TuneTrial.TERMINATED
    assert handed_over() == ["free-3"], "its place was no A10G's, so the second pinned one goes on waiting"
    started["pinned-1"].status = TuneTrial.TERMINATED
    assert handed_over() == ["pinned-2"]


def test_machines_that_come_and_go_are_seen_within_ten_seconds() -> None:
    machines, now = [Node(cpus=2, gpus=0)], [0.0]
    room = Room(SHARE, spare=0, machines=lambda: machines, clock=lambda: now[0])
    assert room() == 2
    machines.append(Node(cpus=4, gpus=0))
    now[0] = 9.9
    assert room() == 2
    now[0] = 10.0
    assert room() == 6
    machines.clear()
    now[0] = 20.0
    assert room() == 1
