"""Which learning rates are tried, for how long, and which one is taken."""

import math
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raybench.learning_rates import (
    DEFAULT_RATES,
    DIVERGED,
    FEWEST_VALUES,
    MOST_VALUES,
    Attempt,
    Outcome,
    SearchBudget,
    choose,
    factors,
    is_at_edge,
    rates_text,
    scaled,
    shortened,
    try_epochs,
    with_default_rates,
)
from raybench.strategies import BUILT_IN
from raybench.training.loop import DivergedError
from tests.builders import PHASE


def attempts(*losses: float | None, outcome: Outcome = "ended") -> list[Attempt]:
    """Return tries of the default grid with these val losses; None: it diverged."""
    return [
        Attempt(factor=factor, outcome=outcome if loss is not None else "diverged", val_loss=loss)
        for factor, loss in zip(factors(len(losses)), losses, strict=True)
    ]


def test_the_grid_is_half_decades_around_the_default() -> None:
    assert factors(5) == (0.1, 0.3, 1, 3, 10)
    assert factors(4) == (0.1, 0.3, 1, 3)
    assert factors(3) == (0.3, 1, 3)


@given(st.integers(FEWEST_VALUES, MOST_VALUES))
def test_every_grid_is_ascending_and_holds_the_default(values: int) -> None:
    grid = factors(values)
    assert len(grid) == values
    assert 1 in grid
    assert list(grid) == sorted(set(grid))


def defaults(**changes: str | float) -> dict[str, Any]:
    return {"optimizer": "adam", "learning_rate": "auto", **changes}


@pytest.mark.parametrize(
    ("phases", "shared", "built_in", "rates", "searched"),
    [
        (BUILT_IN["fine-tune"], defaults(), True, [1e-3], [True]),
        (BUILT_IN["fine-tune"], defaults(optimizer="sgd"), True, [1e-2], [True]),
        (BUILT_IN["linear-probe"], defaults(), True, [1e-2], [True]),
        (BUILT_IN["lp-ft"], defaults(), True, [1e-2, 1e-5], [True, True]),
        (BUILT_IN["lp-ft"], defaults(optimizer="sgd"), True, [1e-1, 1e-4], [True, True]),
        (BUILT_IN["lp-ft"], defaults(learning_rate=0.1), True, [None, 1e-5], [False, False]),
        ([{"train": "all", "learning_rate": 0.1}], defaults(), False, [0.1], [False]),
        ([{"train": "all", "optimizer": "sgd"}], defaults(), False, [1e-2], [True]),
        ([{"train": "head"}, {"train": "all", "learning_rate": 0.1}], defaults(), False, [1e-2, 0.1], [True, False]),
        ([{"train": "all", "learning_rate": "auto"}], defaults(learning_rate=0.1), False, [1e-3], [True]),
    ],
)
def test_auto_stands_for_a_default_and_a_number_of_the_user_stands(
    phases: list[dict[str, Any]],
    shared: dict[str, Any],
    built_in: bool,
    rates: list[float | None],
    searched: list[bool],
) -> None:
    numbered, flags = with_default_rates(phases, shared, built_in=built_in)
    assert [phase.get("learning_rate") for phase in numbered] == rates
    assert list(flags) == searched


def test_all_searched_phases_are_scaled_by_the_same_factor_and_others_stay() -> None:
    phases = [replace(PHASE, learning_rate=rate) for rate in (1e-3, 1e-5, 0.5)]
    assert [phase.learning_rate for phase in scaled(phases, [True, True, False], 0.3)] == [3e-4, 3e-6, 0.5]


@pytest.mark.parametrize(
    ("epochs", "asked", "expected"),
    [(100, None, 20), (30, None, 6), (10, None, 5), (3, None, 3), (100, 7, 7), (4, 7, 4)],
)
def test_a_try_takes_a_fifth_of_the_epochs_and_at_least_five(epochs: int, asked: int | None, expected: int) -> None:
    assert try_epochs(epochs, SearchBudget(epochs=asked)) == expected


@given(
    epochs=st.integers(1, 300), step=st.integers(1, 100), warmup=st.integers(0, 50), asked=st.none() | st.integers(1)
)
def test_a_try_is_the_training_in_small_and_never_ends_early(
    epochs: int, step: int, warmup: int, asked: int | None
) -> None:
    whole = replace(PHASE, epochs=epochs, patience=2, step_epochs=step, warmup_epochs=warmup)
    (short,) = shortened([whole], SearchBudget(epochs=asked))
    assert short.epochs <= whole.epochs
    assert short.patience == short.epochs
    assert 1 <= short.step_epochs <= max(step, 1)
    assert 0 <= short.warmup_epochs <= warmup
    kept = {"epochs": epochs, "patience": 2, "step_epochs": step, "warmup_epochs": warmup}
    assert replace(short, **kept) == whole  # type: ignore[arg-type] # of four fields


def test_a_phase_that_is_too_short_to_be_cut_is_tried_whole() -> None:
    whole = replace(PHASE, epochs=3, patience=3, warmup_epochs=1)
    assert shortened([whole], SearchBudget()) == (whole,)


def test_the_lowest_val_loss_is_taken() -> None:
    assert choose(attempts(0.9, 0.5, 0.4, 0.6, 2.0)) == 1
    assert choose(attempts(0.9, 0.5, 0.6, 0.7, 0.3)) == 10


def test_equal_losses_go_to_the_rate_nearest_to_the_default_then_to_the_lower_one() -> None:
    assert choose(attempts(0.5, 0.5, 0.5, 0.5, 0.5)) == 1
    assert choose(attempts(0.9, 0.5, 0.6, 0.5, 0.9)) == 0.3
    assert choose(attempts(0.5, 0.9, 0.9, 0.9, 0.5)) == 0.1


def test_a_diverged_or_failed_try_is_never_taken() -> None:
    assert choose(attempts(0.9, 0.8, 0.7, None, None)) == 1
    assert choose([*attempts(0.9, 0.8, 0.7)[:2], Attempt(factor=3, outcome="failed", val_loss=0.1)]) == 1
    assert choose(attempts(math.nan, math.inf, 0.7)) == 3


def test_nothing_is_taken_before_all_have_ended_or_where_all_are_hopeless() -> None:
    assert choose([*attempts(0.9, 0.8, 0.7)[:2], Attempt(factor=3, outcome="unfinished", val_loss=None)]) is None
    assert choose(attempts(None, None, None)) is None


@pytest.mark.parametrize(
    ("losses", "at_edge"),
    [
        ((0.9, 0.8, 0.3, 0.5, 0.9), False),
        ((0.1, 0.8, 0.9, 0.9, 0.9), True),
        ((0.9, 0.8, 0.7, 0.6, 0.5), True),
        ((0.9, 0.8, 0.7, 0.6, None), False),
    ],
)
def test_the_edge_is_the_lowest_or_highest_rate_of_which_anything_is_known(
    losses: tuple[float | None, ...], at_edge: bool
) -> None:
    tried = attempts(*losses)
    chosen = choose(tried)
    assert chosen is not None
    assert is_at_edge(chosen, tried) is at_edge


def test_a_rate_beside_one_that_failed_for_another_reason_is_at_the_edge() -> None:
    tried = [*attempts(0.9, 0.8, 0.7, 0.6, 0.5)[:4], Attempt(factor=10, outcome="failed", val_loss=None)]
    assert is_at_edge(3, tried)


LOSSES = st.lists(st.none() | st.floats(0, 10), min_size=FEWEST_VALUES, max_size=MOST_VALUES)


@given(LOSSES, st.randoms())
def test_the_choice_has_the_lowest_loss_whatever_the_order_of_the_tries(
    losses: list[float | None], random: Random
) -> None:
    tried = attempts(*losses)
    chosen = choose(tried)
    shuffled = list(tried)
    random.shuffle(shuffled)
    assert choose(shuffled) == chosen
    known = [loss for loss in losses if loss is not None]
    if chosen is None:
        assert not known
    else:
        assert next(each.val_loss for each in tried if each.factor == chosen) == min(known)


def test_every_optimizer_of_an_experiment_has_a_default() -> None:
    for optimizer in DEFAULT_RATES:
        phases, _ = with_default_rates([{"train": "all"}], defaults(optimizer=optimizer), built_in=True)
        assert phases[0]["learning_rate"] > 0


def test_divergence_is_told_by_the_name_of_the_error_that_training_raises() -> None:
    assert DivergedError.__name__ == DIVERGED


def test_rates_are_written_as_people_write_them() -> None:
    assert rates_text([0.001, 1e-5]) == "0.001, then 1e-05"
