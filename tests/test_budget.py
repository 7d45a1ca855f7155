"""What a run may still spend, by a clock that the test turns."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from raybench.budget import ENDING_SECONDS, Budget, Spending, least_seconds, spent_before
from raybench.errors import ExperimentError
from raybench.ledger import Entry, Kind, append
from raybench.pace import least_epochs, pace_keys
from raybench.records import AshaSettings, Pace
from raybench.spending import Books, Machine
from tests.builders import PHASE, Clock, make_trial

HERE = Machine(node="here", instance_type="local", usd_per_hour=3600.0)
"""A dollar a second."""
UNKNOWN = replace(HERE, usd_per_hour=None)
NOTHING = Spending(usd=0.0, hours=0.0)
ASHA = AshaSettings(grace_period=2, reduction_factor=3, group_by=("dataset",))


@pytest.fixture
def clock() -> Clock:
    return Clock()


def books(clock: Clock, machine: Machine = HERE) -> Books:
    made = Books(clock=clock, session="now")
    made.add_machine(machine, from_start=True)
    return made


def budget(of: Books, *, usd: float | None = None, hours: float | None = None, earlier: Spending = NOTHING) -> Budget:
    return Budget(usd=usd, hours=hours, earlier=earlier, books=of)


def machine(session: str, seconds: float, *, node: str = "here", usd_per_hour: float | None = 3600.0) -> Entry:
    return Entry(
        session=session,
        kind=Kind.MACHINE,
        node=node,
        seconds=seconds,
        device_share=1.0,
        instance_type="local",
        usd_per_hour=usd_per_hour,
    )


@pytest.mark.parametrize(
    ("usd", "hours", "seconds"),
    [(None, 1.0, 3600), (100.0, None, 100), (100.0, 1.0, 100), (5000.0, 1.0, 3600)],
    ids=["hours", "dollars", "dollars run out first", "hours run out first"],
)
def test_seconds_left_pass_with_the_clock_and_whichever_limit_comes_first_counts(
    usd: float | None, hours: float | None, seconds: float, clock: Clock
) -> None:
    limits = budget(books(clock), usd=usd, hours=hours)
    assert limits.seconds_left() == pytest.approx(seconds - ENDING_SECONDS)
    clock.now += 30
    assert limits.seconds_left() == pytest.approx(seconds - 30 - ENDING_SECONDS)
    clock.now += seconds
    assert limits.seconds_left() < 0


def test_a_second_machine_makes_dollars_go_twice_as_fast_and_hours_as_fast_as_before(clock: Clock) -> None:
    both = books(clock)
    clock.now += 10
    both.add_machine(replace(HERE, node="there"))
    clock.now += 10
    assert both.usd() == pytest.approx(20 + 10)
    assert both.wall_seconds() == pytest.approx(20)
    assert budget(both, usd=100.0).seconds_left() == pytest.approx((100 - 30) / 2 - ENDING_SECONDS)
    assert budget(both, hours=1.0).seconds_left() == pytest.approx(3600 - 20 - ENDING_SECONDS)


def test_a_machine_that_costs_nothing_never_spends_dollars(clock: Clock) -> None:
    free = books(clock, replace(HERE, usd_per_hour=0.0))
    clock.now += 1e6
    limits = budget(free, usd=1.0)
    limits.check("small.yaml")
    assert limits.seconds_left() == math.inf


def test_before_a_machine_is_there_dollars_last(clock: Clock) -> None:
    none_yet = Books(clock=clock)
    assert budget(none_yet, usd=1.0).seconds_left() == math.inf
    assert budget(none_yet, usd=1.0, earlier=Spending(usd=2.0, hours=0.0)).seconds_left() == -math.inf


def test_sessions_before_count_each_once_with_the_last_line_of_each_machine(clock: Clock, tmp_path: Path) -> None:
    append(tmp_path, [machine("first", 10), machine("first", 40), machine("first", 30, node="there")])
    append(tmp_path, [replace(machine("first", 25), kind=Kind.COMPLETED)])
    append(tmp_path, [machine("second", 20)])
    earlier = spent_before(tmp_path, {})
    assert earlier.usd == pytest.approx(40 + 30 + 20)
    assert earlier.hours * 3600 == pytest.approx(40 + 20), "a session lasts as long as its longest machine"
    clock_books = books(clock)
    clock.now += 5
    limits = budget(clock_books, usd=100.0, hours=1.0, earlier=earlier)
    assert limits.spent().usd == pytest.approx(95)
    assert limits.spent().hours * 3600 == pytest.approx(65)
    assert limits.seconds_left() == pytest.approx(100 - 95 - ENDING_SECONDS)
    assert limits.text() == "$100 ($95.00 spent) and 1 h (1 min 05 s spent)"


def test_nothing_was_spent_where_there_is_no_ledger(tmp_path: Path) -> None:
    assert spent_before(tmp_path, {}) == NOTHING
    assert spent_before(tmp_path / "absent", {}) == NOTHING


def test_a_session_without_a_price_takes_that_of_today_and_one_with_a_price_keeps_it(tmp_path: Path) -> None:
    append(tmp_path, [machine("first", 10, usd_per_hour=None), machine("second", 10, usd_per_hour=7200.0)])
    assert spent_before(tmp_path, {"local": 3600.0}).usd == pytest.approx(10 + 20)
    assert math.isnan(spent_before(tmp_path, {}).usd)
    assert math.isnan(spent_before(tmp_path, {"p4d.24xlarge": 32.0}).usd)
    assert spent_before(tmp_path, {}).hours * 3600 == pytest.approx(20), "hours need no price"


@pytest.mark.parametrize(("now", "earlier"), [(UNKNOWN, NOTHING), (HERE, Spending(usd=math.nan, hours=0.1))])
def test_an_unknown_price_refuses_dollars_with_one_message_that_names_the_key(
    now: Machine, earlier: Spending, clock: Clock
) -> None:
    with pytest.raises(ExperimentError) as raised:
        budget(books(clock, now), usd=20.0, hours=1.0, earlier=earlier).check("small.yaml")
    message = str(raised.value)
    assert message.startswith("small.yaml: budget.usd: 20 cannot be kept, because the price of a machine is unknown")
    assert "price_per_hour_usd" in message
    assert "\n" not in message
    budget(books(clock, now), hours=1.0, earlier=earlier).check("small.yaml")


@pytest.mark.parametrize(
    ("usd", "hours", "says"),
    [
        (20.0, None, "small.yaml: budget.usd: 20 is spent: the run took $20.00 so far; give more"),
        (None, 2.0, "small.yaml: budget.hours: 2 is spent: the run took 2 h 30 min so far; give more"),
        (20.0, 100.0, "small.yaml: budget.usd: 20 is spent: the run took $20.00 so far; give more"),
        (100.0, 2.0, "small.yaml: budget.hours: 2 is spent: the run took 2 h 30 min so far; give more"),
    ],
)
def test_a_budget_that_is_spent_is_refused_and_a_larger_one_is_not(
    usd: float | None, hours: float | None, says: str, clock: Clock
) -> None:
    earlier = Spending(usd=20.0, hours=2.5)
    with pytest.raises(ExperimentError) as raised:
        budget(books(clock), usd=usd, hours=hours, earlier=earlier).check("small.yaml")
    assert str(raised.value) == says
    budget(books(clock), usd=21.0, hours=2.6, earlier=earlier).check("small.yaml")


def test_an_unknown_price_makes_money_unknown_and_not_small(clock: Clock) -> None:
    unknown = books(clock, UNKNOWN)
    assert math.isnan(unknown.usd())
    assert math.isnan(unknown.usd_per_second())


HEAD = replace(PHASE, train="head", epochs=30, patience=4)
ALL = replace(PHASE, epochs=30, patience=1)
PACES = Pace(train_seconds=0.01, val_seconds=0.1, feature_seconds=5.0), Pace(train_seconds=0.02, val_seconds=0.2)


@pytest.mark.parametrize(
    ("epochs", "patience", "asha", "least"),
    [(30, 4, None, 5), (3, 4, None, 3), (30, 4, ASHA, 2), (1, 4, ASHA, 1), (30, 0, None, 1)],
    ids=["patience", "fewer epochs than that", "first rung", "fewer epochs than the first rung", "no patience"],
)
def test_a_phase_lasts_at_least_until_patience_or_asha_may_end_it(
    epochs: int, patience: int, asha: AshaSettings | None, least: int
) -> None:
    trial = make_trial("a", replace(PHASE, epochs=epochs, patience=patience))
    assert least_epochs(trial, asha) == [least]


def test_asha_ends_a_trial_in_its_last_phase_alone() -> None:
    trial = make_trial("a", HEAD, replace(ALL, patience=9))
    assert least_epochs(trial, None) == [5, 10]
    assert least_epochs(trial, ASHA) == [5, 2]


def test_the_least_that_a_trial_takes_is_its_fewest_epochs_without_features_that_may_be_there() -> None:
    trial = make_trial("a", HEAD, ALL, train_size=100)
    paces = dict(zip(pace_keys(trial), PACES, strict=True))
    head, rest = 5 * (100 * 0.01 + 10 * 0.1), 2 * (100 * 0.02 + 10 * 0.2)
    assert least_seconds(trial, paces, val_images=10, asha=None) == pytest.approx(head + rest)
    shared = replace(trial, first_phase_id="0123")
    assert least_seconds(shared, paces, val_images=10, asha=None) == pytest.approx(rest), "others may have done it"
    alone = replace(make_trial("b", HEAD, train_size=100), first_phase_id="0123")
    assert least_seconds(alone, paces, val_images=10, asha=None) == pytest.approx(head)


def test_the_least_is_unknown_where_a_pace_is() -> None:
    trial = make_trial("a", HEAD, ALL)
    known = {pace_keys(trial)[0]: PACES[0]}
    assert least_seconds(trial, known, val_images=10, asha=None) is None
    assert least_seconds(trial, {}, val_images=10, asha=None) is None
