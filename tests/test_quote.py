"""Quotes by hand: what trials take is simple enough to add up."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raybench.choices import step_key
from raybench.learning_rates import TUNING_SEED
from raybench.pace import pace_keys
from raybench.quote import MARGIN, QUOTE, TRIAL_SECONDS, Quote, Terms, keep, kept, make_quote
from raybench.records import AshaSettings, DatasetFacts, Pace, Strategy, Trial
from tests.builders import PHASE, make_trial

FACTS = {
    "digits": DatasetFacts(
        name="digits",
        fingerprint="",
        classes=("a", "b"),
        train_images=1000,
        val_images=100,
        test_images=50,
        train_class_counts=(500, 500),
    )
}
ALL = Pace(train_seconds=0.01, val_seconds=0.002)
HEAD = Pace(train_seconds=0.0001, val_seconds=0.0, feature_seconds=0.02)


def fine_tune(trial_id: str, *, epochs: int = 10, patience: int = 10, size: int = 100, model: str = "resnet8") -> Trial:
    return make_trial(trial_id, replace(PHASE, epochs=epochs, patience=patience), train_size=size, model=model)


def probe(trial_id: str, *, size: int = 100, seed: int = 0, weights: str = "packaged") -> Trial:
    strategy = Strategy(name="linear-probe", augmentation="none", phases=(replace(PHASE, train="head", epochs=1),))
    return make_trial(trial_id, train_size=size, seed=seed, weights=weights, strategy=strategy, first_phase_id=trial_id)


def terms(*trials: Trial, places: int = 1, **changes: Any) -> Terms:  # noqa: ANN401 - any field
    paces = {key: HEAD if ", head, " in key else ALL for trial in trials for key in pace_keys(trial)}
    made = Terms(paces=paces, places=places, usd_per_hour=3600.0, start_seconds=0.0, worker_seconds=0.0)
    return replace(made, **changes)


def quoted(*trials: Trial, asha: AshaSettings | None = None, **changes: Any) -> Quote:  # noqa: ANN401 - any field
    return make_quote(trials, FACTS, terms(*trials, **changes), asha=asha, made_at="2026-01-01T00:00:00+00:00")


def middle(quote: Quote) -> float:
    assert not quote.early_stopping
    low, high = quote.wall_seconds.low / (1 - MARGIN), quote.wall_seconds.high / (1 + MARGIN)
    assert low == pytest.approx(high)
    return low


EPOCH = 100 * 0.01 + 100 * 0.002
TEST = 50 * 0.002


def test_without_early_stopping_a_quote_is_one_figure_with_its_margin() -> None:
    one = quoted(fine_tune("a"))
    assert middle(one) == pytest.approx(10 * EPOCH + TEST + TRIAL_SECONDS)
    assert one.machine_usd is not None
    assert one.machine_usd.high == pytest.approx(one.wall_seconds.high), "a dollar a second"


def test_trials_fill_the_places_in_their_order() -> None:
    long, short, last = fine_tune("a"), fine_tune("b", epochs=2, patience=2), fine_tune("c", epochs=4, patience=4)
    alone = middle(quoted(long))
    assert middle(quoted(long, short, last, places=2)) == pytest.approx(alone), "two of them beside the long one"
    assert middle(quoted(long, short, last)) == pytest.approx(16 * EPOCH + 3 * (TEST + TRIAL_SECONDS))


def test_patience_may_end_trials_early_and_asha_earlier() -> None:
    trial = fine_tune("a", epochs=10, patience=3)
    patient = quoted(trial)
    assert patient.early_stopping
    extra = TEST + TRIAL_SECONDS
    assert patient.wall_seconds.low == pytest.approx((4 * EPOCH + extra) * (1 - MARGIN))
    assert patient.wall_seconds.high == pytest.approx((10 * EPOCH + extra) * (1 + MARGIN))
    stopped = quoted(trial, asha=AshaSettings(grace_period=2, reduction_factor=2, group_by=("seed",)))
    assert stopped.wall_seconds.low == pytest.approx((2 * EPOCH + extra) * (1 - MARGIN))


def test_start_and_workers_come_on_top_and_neighbours_slow_down() -> None:
    trial = fine_tune("a")
    plain = middle(quoted(trial))
    assert middle(quoted(trial, start_seconds=7.0, worker_seconds=3.0)) == pytest.approx(plain + 10)
    slowed = middle(quoted(trial, slowdown={step_key(trial): 1.5}))
    assert slowed - TRIAL_SECONDS == pytest.approx(1.5 * (plain - TRIAL_SECONDS))


def features(*trials: Trial) -> float:
    """Seconds that features take in a quote: what is left without the heads and what each trial costs."""
    heads = sum(trial.train_size * HEAD.train_seconds for trial in trials)
    return middle(quoted(*trials)) - heads - len(trials) * TRIAL_SECONDS


def test_features_are_computed_once_for_nested_sets_of_one_seed() -> None:
    splits = 100 + 50
    assert features(probe("a")) == pytest.approx((100 + splits) * 0.02)
    assert features(probe("a"), probe("b", size=400)) == pytest.approx((400 + splits) * 0.02)
    assert features(probe("a", size=400), probe("b")) == pytest.approx((400 + splits) * 0.02)


def test_features_of_two_seeds_overlap_as_their_random_sets_do_unless_each_seed_has_its_own_weights() -> None:
    both = (probe("a", size=400), probe("b", size=400, seed=1))
    assert features(*both) == pytest.approx((400 + 400 * 0.6 + 150) * 0.02)
    own = tuple(replace(trial, weights="random") for trial in both)
    assert features(*own) == pytest.approx(2 * (400 + 150) * 0.02)


def test_a_first_phase_that_an_earlier_trial_trains_is_not_quoted_twice() -> None:
    first = probe("a")
    both_phases = replace(
        fine_tune("b"),
        weights="packaged",
        strategy=Strategy(name="lp-ft", augmentation="none", phases=(*first.strategy.phases, PHASE)),
        first_phase_id="a",
    )
    together = middle(quoted(first, both_phases))
    alone = middle(quoted(first))
    assert together - alone == pytest.approx(PHASE.epochs * EPOCH + TEST + TRIAL_SECONDS)


def test_models_that_could_not_be_measured_are_named_and_left_out() -> None:
    known, unknown = fine_tune("a"), fine_tune("b", model="strange")
    made = make_quote([known, unknown], FACTS, terms(known), asha=None, made_at="")
    assert (made.trials, made.unmeasured) == (1, ("strange",))
    nothing = make_quote([], FACTS, terms(known), asha=None, made_at="")
    assert nothing.trials == 0


def test_cost_is_unknown_without_a_price_of_every_machine() -> None:
    assert quoted(fine_tune("a"), usd_per_hour=None).machine_usd is None


def test_tries_of_learning_rates_are_counted_apart_and_neighbours_kept() -> None:
    trial = fine_tune("a")
    tries = [replace(fine_tune(str(number)), seed=TUNING_SEED) for number in range(5)]
    made = quoted(*tries, trial, slowdown={step_key(trial): 1.5, "of another": 2.0})
    assert (made.trials, made.tries) == (1, 5)
    assert (made.lines[0].trials, made.lines[0].tries) == (1, 5)
    assert made.slowdown == {step_key(trial): 1.5}
    assert quoted(trial).slowdown == {step_key(trial): 1.0}


def test_a_quote_that_an_earlier_raybench_kept_is_read(tmp_path: Path) -> None:
    made = json.loads(json.dumps(asdict(quoted(fine_tune("a")))))
    for name in ("tries", "slowdown"):
        del made[name]
    del made["lines"][0]["tries"]
    (tmp_path / QUOTE).write_text(json.dumps(made))
    earlier = kept(tmp_path)
    assert earlier is not None
    assert (earlier.trials, earlier.tries, earlier.slowdown) == (1, 0, None)


@given(places=st.integers(1, 8), count=st.integers(1, 12))
def test_more_places_never_take_longer_and_no_less_than_the_work_divided(places: int, count: int) -> None:
    trials = [fine_tune(str(number), epochs=1 + number % 5, patience=9) for number in range(count)]
    fewer, more = (middle(quoted(*trials, places=number)) for number in (places, places + 1))
    total = middle(quoted(*trials))
    assert more <= fewer + 1e-9
    assert total / (places + 1) - 1e-9 <= more <= total + 1e-9


def test_a_quote_is_kept_as_it_is_and_one_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    made = quoted(fine_tune("a", patience=2))
    keep(tmp_path, made)
    assert kept(tmp_path) == made
    (tmp_path / QUOTE).write_text("{}")
    assert kept(tmp_path) is None
    assert kept(tmp_path / "absent") is None
