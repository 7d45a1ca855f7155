"""The stopping rule, without Ray."""

import math
from collections import defaultdict
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raybench.records import AshaSettings
from raybench.scheduling.asha import Decision, EpochReport, GroupedAsha


def asha(grace_period: int = 1, reduction_factor: int = 2) -> GroupedAsha:
    return GroupedAsha(settings(grace_period, reduction_factor))


def settings(grace_period: int = 1, reduction_factor: int = 2) -> AshaSettings:
    return AshaSettings(grace_period=grace_period, reduction_factor=reduction_factor, group_by=("dataset",))


def report(
    trial_id: str, loss: float, *, best: float | None = None, epoch: int = 1, epochs: int = 10, group: str = "g"
) -> EpochReport:
    return EpochReport(
        trial_id=trial_id,
        group=group,
        epoch=epoch,
        last_phase_epoch=epoch,
        last_phase_epochs=epochs,
        val_loss=loss,
        best_val_loss=loss if best is None else best,
    )


def feed(state: GroupedAsha, reports: Iterable[EpochReport]) -> list[Decision]:
    decisions = []
    for one in reports:
        decision = state.judge(one)
        if decision is not None:
            state.record(decision)
            decisions.append(decision)
    return decisions


@pytest.mark.parametrize(
    ("grace_period", "reduction_factor", "epochs", "rungs"),
    [
        (10, 3, 100, (10, 30, 90)),
        (10, 3, 90, (10, 30)),
        (1, 2, 9, (1, 2, 4, 8)),
        (1, 2, 8, (1, 2, 4)),
        (10, 3, 10, ()),
        (10, 3, 5, ()),
    ],
)
def test_rungs_grow_by_the_reduction_factor_and_leave_the_last_epoch_out(
    grace_period: int, reduction_factor: int, epochs: int, rungs: tuple[int, ...]
) -> None:
    assert asha(grace_period, reduction_factor).rungs(epochs) == rungs


@pytest.mark.parametrize(
    ("reduction_factor", "losses", "stops"),
    [
        (2, [0.5, 0.6], [False, True]),
        (2, [0.6, 0.5], [False, False]),
        (2, [0.5, 0.5], [False, False]),  # ties go on
        (3, [0.5, 0.6, 0.7], [False, False, True]),
        (3, [0.7, 0.6, 0.65], [False, False, True]),
        (3, [0.7, 0.6, 0.5], [False, False, False]),
        (3, [0.1, 0.2, 0.3, 0.4, 0.5, 0.15], [False, False, True, True, True, False]),  # two of six go on
        (4, [0.1, 0.9, 0.9], [False, False, False]),
    ],
)
def test_the_best_part_of_a_rung_goes_on(reduction_factor: int, losses: list[float], stops: list[bool]) -> None:
    decisions = feed(asha(1, reduction_factor), [report(f"t{n}", loss) for n, loss in enumerate(losses)])
    assert [decision.stop for decision in decisions] == stops


def test_the_lowest_loss_so_far_is_compared_and_not_the_last_one() -> None:
    decisions = feed(asha(), [report("a", 0.5), report("b", 0.9, best=0.4)])
    assert [(decision.value, decision.stop) for decision in decisions] == [(0.5, False), (0.4, False)]


def test_reaching_the_last_epoch_is_no_stop_even_without_a_number() -> None:
    state = asha()
    feed(state, [report("a", 0.1, epoch=1), report("b", 0.1, epoch=1)])
    assert state.judge(report("c", 0.9, epoch=4, epochs=4)) is None
    assert state.judge(report("c", math.nan, epoch=4, epochs=4)) is None


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_at_any_epoch_and_leaves_no_value(loss: float) -> None:
    state = asha(grace_period=4)
    (decision,) = feed(state, [report("a", loss, best=math.inf, epoch=2)])
    assert decision == Decision(trial_id="a", group="g", epoch=2, rung=None, value=None, stop=True)
    assert [one.stop for one in feed(state, [report("b", 0.9, epoch=4), report("c", 0.8, epoch=4)])] == [False, False]


def test_a_trial_that_comes_to_a_rung_late_is_judged_once_at_the_highest_it_has_passed() -> None:
    state = asha(1, 2)
    (decision,) = feed(state, [report("a", 0.5, epoch=3), report("a", 0.4, epoch=3)])
    assert (decision.rung, decision.epoch) == (2, 3)


REPORTS = st.lists(
    st.builds(
        report,
        trial_id=st.sampled_from("abcdefgh"),
        loss=st.one_of(st.floats(0, 3), st.just(math.nan)),
        best=st.floats(0, 3),
        epoch=st.integers(1, 12),
        epochs=st.just(12),
        group=st.just("g"),
    ),
    max_size=60,
)


def in_group(reports: list[EpochReport], group: str) -> list[EpochReport]:
    return [
        report(f"{group}-{one.trial_id}", one.val_loss, best=one.best_val_loss, epoch=one.epoch, epochs=12, group=group)
        for one in reports
    ]


@given(REPORTS, st.integers(1, 4), st.integers(2, 4))
def test_no_rung_decides_before_it_holds_as_many_values_as_the_reduction_factor(
    reports: list[EpochReport], grace_period: int, reduction_factor: int
) -> None:
    held: dict[int, int] = defaultdict(int)
    for decision in feed(asha(grace_period, reduction_factor), reports):
        if decision.rung is not None:
            held[decision.rung] += 1
            assert not decision.stop or held[decision.rung] >= reduction_factor


@given(REPORTS, st.integers(1, 4), st.integers(2, 4))
def test_a_trial_is_judged_once_a_rung_and_never_again_once_it_is_stopped(
    reports: list[EpochReport], grace_period: int, reduction_factor: int
) -> None:
    decisions = feed(asha(grace_period, reduction_factor), reports)
    places = [(decision.trial_id, decision.rung) for decision in decisions]
    assert len(places) == len(set(places))
    for trial_id in {decision.trial_id for decision in decisions}:
        stops = [decision.stop for decision in decisions if decision.trial_id == trial_id]
        assert not any(stops[:-1])


@given(REPORTS)
def test_what_another_group_does_changes_nothing(reports: list[EpochReport]) -> None:
    ours, theirs = in_group(reports, "ours"), in_group(reports[::-1], "theirs")
    alone = feed(asha(), ours)
    mixed = [one for pair in zip(ours, theirs, strict=True) for one in pair]
    assert [decision for decision in feed(asha(), mixed) if decision.group == "ours"] == alone


@given(REPORTS, st.integers(0, 60), st.integers(1, 3), st.integers(2, 4))
def test_state_rebuilt_from_the_recorded_decisions_decides_the_same(
    reports: list[EpochReport], interrupted_after: int, grace_period: int, reduction_factor: int
) -> None:
    how = settings(grace_period, reduction_factor)
    through = feed(GroupedAsha(how), reports)
    first = feed(GroupedAsha(how), reports[:interrupted_after])
    rebuilt = GroupedAsha.from_log(how, [*first, *first])
    # All epochs are reported once more, as by trials that go on from their checkpoints.
    second = feed(rebuilt, [*reports[:interrupted_after], *reports[interrupted_after:]])
    assert first + second == through


@given(REPORTS)
def test_the_best_of_a_rung_always_goes_on(reports: list[EpochReport]) -> None:
    best: dict[int, float] = {}
    for decision in feed(asha(), reports):
        if decision.rung is not None and decision.value is not None:
            assert not decision.stop or decision.value > best[decision.rung]
            best[decision.rung] = min(decision.value, best.get(decision.rung, math.inf))


@given(REPORTS, st.integers(2, 4))
def test_a_trial_goes_on_exactly_where_it_is_among_the_best_part_of_its_rung(
    reports: list[EpochReport], reduction_factor: int
) -> None:
    values: dict[int, list[float]] = defaultdict(list)
    for decision in feed(asha(1, reduction_factor), reports):
        if decision.rung is not None and decision.value is not None:
            rung = values[decision.rung]
            rung.append(decision.value)
            best = sorted(rung)[: len(rung) // reduction_factor]
            assert decision.stop == (bool(best) and decision.value > best[-1])
