"""What accuracy costs: the published figures, made-up prices, and what must hold of every table."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raybench.errors import InputError
from raybench.foreign import load_source
from raybench.ranking import rank
from raybench.value import ALL_SIZES, BUDGET_COLUMNS, VALUE_COLUMNS, Charge, CostUnit, budgets, value

FIRST_STUDY = Path(__file__).parent / "data" / "resnet_cost_performance.csv"


def row(model: str, accuracy: float, **columns: Any) -> dict[str, Any]:  # noqa: ANN401 - any column
    return {"dataset": "d", "train_size": 100, "model": model, "strategy": "s", "test_accuracy": accuracy} | columns


def measured(model: str, accuracy: float, usd: float, speed: float, **columns: Any) -> dict[str, Any]:  # noqa: ANN401
    """A trial of 100 s on a device of `usd` for them, that classifies `speed` images a second."""
    return row(
        model,
        accuracy,
        train_seconds=100.0,
        standalone_seconds=100.0,
        standalone_cost_usd=usd,
        inference_images_per_second=speed,
        inference_latency_seconds=1 / speed,
        **columns,
    )


def chosen(table: pd.DataFrame, column: str) -> list[str]:
    return table[table[column].fillna(value=False).astype(bool)]["model"].to_list()


def test_training_is_charged_as_a_ranking_charges_it() -> None:
    results = load_source(FIRST_STUDY).results
    key = ["train_size", "model", "strategy"]
    both = value(results, test_images=166).merge(rank(results, test_images=166), on=key, suffixes=("", "_ranked"))
    assert len(both) == 24
    assert (both["cost"] == both["train_seconds"]).all()
    assert (both["on_frontier"] == both["on_frontier_ranked"]).all()
    assert (both["pick"] == both["pick_ranked"]).all()
    assert (both["tied_with_best"] == (both["tie_group"] == 1)).all()
    assert (both["accuracy_low"] == both["test_accuracy_low"]).all()


def test_winners_under_each_budget_of_the_first_study() -> None:
    steps = budgets(value(load_source(FIRST_STUDY).results, test_images=166))
    at_833 = steps[steps["comparison"] == "833"]
    assert at_833["from_budget"].to_list() == [60, 100, 140]
    assert at_833["to_budget"].to_list() == [100, 140, math.inf]
    assert at_833["strategy"].to_list() == ["fine_tuned", "fine_tuned", "fine_tuned+augmented"]
    # 40 s more for 0.60 points, then 40 s more for 2.41
    assert at_833["cost_per_point"].to_list()[1:] == pytest.approx([66.67, 16.60], abs=0.01)
    assert ((at_833["points_low"] < 0) & (at_833["points_high"] > 0)).to_list() == [False, True, True]
    assert list(steps.columns) == BUDGET_COLUMNS


def test_sizes_are_compared_with_one_another_where_asked_for() -> None:
    table = value(load_source(FIRST_STUDY).results, across_sizes=True, test_images=166)
    assert set(table["comparison"]) == {ALL_SIZES}
    steps = budgets(table)
    assert steps["train_size"].to_list() == [833, 2280, 2280, 2280, 2280]
    assert table["pick"].sum() == 1
    # cheaper and better with 2280 images than any with 19104
    assert 19104 not in set(table[table["on_frontier"].astype(bool)]["train_size"])


def test_inference_is_charged_at_one_speed_a_model_and_the_price_that_training_paid() -> None:
    results = pd.DataFrame(
        [
            measured("small", 0.7, 0.01, 900.0),
            measured("small", 0.8, 0.03, 1100.0, strategy="longer") | {"standalone_seconds": 300.0},
            measured("large", 0.9, 0.01, 100.0),
        ]
    )
    table = value(results, charge=Charge.INFERENCE, predictions=1000).set_index(["model", "strategy"])
    assert table["cost"].to_dict() == pytest.approx(
        {("small", "s"): 0.0001, ("small", "longer"): 0.0001, ("large", "s"): 0.001}
    )
    assert set(table["unit"]) == {CostUnit.USD}
    # of two that cost the same to use, the less accurate is on no frontier
    assert table["on_frontier"].to_dict() == {("small", "longer"): True, ("small", "s"): False, ("large", "s"): True}
    assert table["inference_latency_seconds"]["large", "s"] == pytest.approx(0.01)


def test_a_price_for_the_predicting_device_can_be_given() -> None:
    results = pd.DataFrame([measured("a", 0.7, 0.01, 100.0)])
    table = value(results, charge="inference", price_per_hour_usd=3600.0)
    assert table["cost"].to_list() == pytest.approx([0.01])


def test_enough_predictions_turn_the_choice() -> None:
    results = pd.DataFrame([measured("slow", 0.8, 0.01, 10.0), measured("fast", 0.8, 0.05, 1000.0)])
    few = value(results, charge="both", predictions=10, test_images=1000)
    many = value(results, charge="both", predictions=10**6, test_images=1000)
    assert (chosen(few, "pick"), chosen(many, "pick")) == (["slow"], ["fast"])
    assert (chosen(few, "cheapest_tied"), chosen(many, "cheapest_tied")) == (["slow"], ["fast"])
    assert (few["cost"] == few["training_cost"] + few["inference_cost"]).all()


def test_what_choosing_a_learning_rate_cost_is_charged_once() -> None:
    results = pd.DataFrame([measured("a", 0.8, 0.01, 10.0, search_cost_usd=0.02, search_seconds=200.0)])
    assert value(results)["cost"].to_list() == pytest.approx([0.03])
    results["search_cost_usd"] = math.nan
    assert value(results)["unit"].to_list() == [CostUnit.SECONDS]
    assert value(results)["cost"].to_list() == pytest.approx([300])


def test_without_prices_seconds_measured_alone_are_charged() -> None:
    known = [measured("fast", 0.7, math.nan, 100.0), measured("slow", 0.8, math.nan, 10.0)]
    results = pd.DataFrame(known).assign(train_seconds=[900.0, 100.0], standalone_seconds=[20.0, 40.0])
    ranked = rank(results)
    training = value(results)
    assert training["cost"].to_list() == [20, 40]
    assert chosen(training, "on_frontier") == sorted(chosen(ranked, "on_frontier")) == ["fast", "slow"]
    both = value(results, charge="both", predictions=1000)
    assert both["cost"].to_list() == [30, 140]
    assert set(both["unit"]) == {CostUnit.SECONDS}


def test_unknown_cost_is_neither_zero_nor_mixed_with_another() -> None:
    results = pd.DataFrame([measured("known", 0.7, 0.01, 100.0), row("unknown", 0.9, train_seconds=50.0)])
    table = value(results)
    assert set(table["unit"]) == {CostUnit.SECONDS}
    for charge in ("inference", "both"):
        table = value(results, charge=charge, predictions=5)
        assert math.isnan(table.set_index("model")["cost"]["unknown"])
        assert chosen(table, "on_frontier") == ["known"]
        assert table["model"].to_list() == ["known", "unknown"], "unknown costs come last"
    nothing = value(pd.DataFrame([row("a", 0.5), row("b", 0.6)]))
    assert nothing["cost"].isna().all()
    assert budgets(nothing).empty


def test_stopped_configurations_win_nothing() -> None:
    results = pd.DataFrame([row("a", 0.9, train_seconds=1.0, status="stopped"), row("b", 0.6, train_seconds=5.0)])
    table = value(results)
    assert chosen(table, "on_frontier") == chosen(table, "pick") == ["b"]
    assert budgets(table)["model"].to_list() == ["b"]


def test_val_accuracy_stands_in_where_nothing_was_tested() -> None:
    results = pd.DataFrame([row("a", 0.9, train_seconds=1.0)]).rename(columns={"test_accuracy": "val_accuracy"})
    assert value(results)[["metric", "accuracy"]].to_numpy().tolist() == [["val_accuracy", 0.9]]


def test_no_trials_give_an_empty_table() -> None:
    table = value(pd.DataFrame(columns=["model", "test_accuracy"]))
    assert list(table.columns) == VALUE_COLUMNS
    assert budgets(table).empty


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"charge": "storage"}, "charge: 'storage' is unknown; give one of training, inference, both"),
        ({"charge": "both"}, "predictions: missing"),
        ({"charge": "inference", "predictions": 0}, "predictions: 0 is no number of predictions"),
    ],
)
def test_what_cannot_be_charged_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        value(pd.DataFrame([row("a", 0.5)]), **arguments)


costs = st.one_of(st.none(), st.floats(0.001, 1000))
trials = st.lists(st.tuples(st.sampled_from([0.5, 0.6, 0.7, 0.8]), costs, costs), min_size=1, max_size=8)


@settings(max_examples=25)
@given(trials, st.booleans())
def test_budgets_pay_for_their_winner_and_more_money_never_buys_less(rows: list[Any], across: bool) -> None:
    results = pd.DataFrame(
        [
            row(f"m{index}", accuracy, train_seconds=seconds, standalone_cost_usd=usd, train_size=100 * (1 + index % 2))
            for index, (accuracy, seconds, usd) in enumerate(rows)
        ]
    )
    table = value(results, across_sizes=across)
    for name, steps in budgets(table).groupby("comparison"):
        compared = table[table["comparison"] == name]
        assert steps["from_budget"].is_monotonic_increasing
        assert steps["accuracy"].is_monotonic_increasing
        assert steps["to_budget"].to_list() == [*steps["from_budget"].to_list()[1:], math.inf]
        for step in steps.itertuples():
            affordable = compared[compared["cost"] <= step.from_budget]
            assert affordable["accuracy"].max() == step.accuracy
