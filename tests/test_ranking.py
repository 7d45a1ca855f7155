import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raybench.errors import InputError
from raybench.outcomes import Outcome, outcome_of
from raybench.ranking import HIGHER_IS_BETTER, RANK_COLUMNS, SAME_ACCURACY_DECIMALS, rank

ACCURACIES = st.one_of(st.none(), st.integers(0, 20).map(lambda hits: hits / 20))
SECONDS = st.one_of(st.none(), st.integers(1, 5).map(float))


def trial(model: str, **columns: Any) -> dict[str, Any]:  # noqa: ANN401, any cell
    row = {"dataset": "digits", "train_size": 100, "model": model, "weights": "random", "strategy": "fine-tune"}
    return row | {"seed": 0, "status": "completed", "test_accuracy": 0.9, "val_accuracy": 0.9} | columns


def ranked(*trials: dict[str, Any], **options: Any) -> pd.DataFrame:  # noqa: ANN401, passed on
    return rank(pd.DataFrame(trials), **options)


@st.composite
def experiments(draw: st.DrawFn) -> pd.DataFrame:
    rows = []
    for size in (100, 200):
        for model in "abcdef"[: draw(st.integers(1, 6))]:
            for seed in range(draw(st.integers(1, 3))):
                status = draw(st.sampled_from(["completed"] * 5 + ["stopped", "failed"]))
                accuracy = draw(ACCURACIES)
                rows.append(
                    trial(
                        model,
                        train_size=size,
                        seed=seed,
                        status=status,
                        test_accuracy=accuracy if status != "failed" else None,
                        val_accuracy=draw(ACCURACIES),
                        train_seconds=draw(SECONDS),
                        standalone_cost_usd=draw(SECONDS),
                    ),
                )
    return pd.DataFrame(rows)


IMAGES = st.one_of(st.none(), st.just(100))


@settings(max_examples=20, deadline=None)
@given(results=experiments(), images=IMAGES, data=st.data())
def test_ranking_keeps_its_invariants(results: pd.DataFrame, images: int | None, data: st.DataObject) -> None:
    ranking = rank(results, test_images=images, val_images=images)
    assert list(ranking.columns) == RANK_COLUMNS
    assert len(ranking) == len(results[["train_size", "model"]].drop_duplicates())
    for size, group in ranking.groupby("train_size"):
        assert group["rank"].tolist() == list(range(1, len(group) + 1))
        complete = group["stopped"] == 0
        assert complete.is_monotonic_decreasing, "complete configurations come first"
        scored = group["test_accuracy"][complete] if group["test_accuracy"].notna().any() else group["val_accuracy"]
        assert scored[complete].dropna().round(SAME_ACCURACY_DECIMALS).is_monotonic_decreasing
        assert group["pick"].sum() <= 1
        trials = results[results["train_size"] == size]
        assert not group["pick"][~complete].any()
        assert not group["on_frontier"][~complete].fillna(value=False).any()
        assert group["tie_group"][~complete].isna().all()
        if (complete & (group["val_accuracy"].notna() | group["test_accuracy"].notna())).any():
            assert group["pick"].sum() == 1
        assert group["seeds"].sum() == len(trials)
    shuffled = results.sample(frac=1, random_state=data.draw(st.integers(0, 2**31)))
    pd.testing.assert_frame_equal(rank(shuffled, test_images=images, val_images=images), ranking)


@settings(max_examples=25, deadline=None)
@given(pairs=st.lists(st.tuples(st.integers(1, 6), st.integers(0, 10)), min_size=1, max_size=8))
def test_frontier_holds_exactly_what_is_not_dominated(pairs: list[tuple[int, int]]) -> None:
    trials = [
        trial(f"m{i}", train_seconds=float(cost), test_accuracy=hits / 10) for i, (cost, hits) in enumerate(pairs)
    ]
    on_frontier = ranked(*trials).set_index("model")["on_frontier"]
    for i, (cost, hits) in enumerate(pairs):
        dominated = any(c <= cost and h >= hits and (c, h) != (cost, hits) for c, h in pairs)
        assert on_frontier[f"m{i}"] == (not dominated)


def test_higher_mean_over_seeds_ranks_first() -> None:
    ranking = ranked(
        trial("steady", test_accuracy=0.8),
        trial("steady", seed=1, test_accuracy=0.8),
        trial("lucky", test_accuracy=0.9),
        trial("lucky", seed=1, test_accuracy=0.6),
    )
    assert ranking["model"].tolist() == ["steady", "lucky"]
    assert ranking["test_accuracy"].tolist() == pytest.approx([0.8, 0.75])
    assert ranking["seeds"].tolist() == [2, 2]


@pytest.mark.parametrize(
    ("cheap", "dear"),
    [
        ({"train_seconds": 10.0}, {"train_seconds": 20.0}),
        (
            {"train_seconds": 20.0, "standalone_cost_usd": 1.0},
            {"train_seconds": 10.0, "standalone_cost_usd": 2.0},
        ),
        ({"train_seconds": 10.0, "standalone_cost_usd": 2.0}, {"train_seconds": 20.0, "standalone_cost_usd": None}),
        ({"train_seconds": 10.0}, {"train_seconds": None}),
    ],
    ids=["seconds", "usd before seconds", "usd of some only", "unknown last"],
)
def test_equal_accuracies_rank_by_lower_cost(cheap: dict[str, Any], dear: dict[str, Any]) -> None:
    # the mean of 0.1, 0.2 and 0.3 differs from 0.2 in the last bit
    dear_trials = [trial("a-dear", seed=seed, test_accuracy=0.2, **dear) for seed in range(3)]
    cheap_trials = [trial("z-cheap", seed=s, test_accuracy=a, **cheap) for s, a in enumerate((0.1, 0.2, 0.3))]
    assert ranked(*dear_trials, *cheap_trials)["model"].tolist() == ["z-cheap", "a-dear"]


def test_a_seed_that_has_not_ended_yet_is_left_aside_where_another_has_completed() -> None:
    ranking = ranked(
        trial("half", test_accuracy=0.9, train_seconds=1.0),
        trial("half", seed=1, test_accuracy=None, val_accuracy=0.99, status="unfinished"),
        trial("whole", test_accuracy=0.5, train_seconds=9.0, val_accuracy=0.5),
        trial("whole", seed=1, test_accuracy=0.6, train_seconds=9.0, val_accuracy=0.5),
        trial("none yet", test_accuracy=None, val_accuracy=0.99, status="unfinished"),
        test_images=300,
    ).set_index("model")
    assert ranking["rank"].to_dict() == {"half": 1, "whole": 2, "none yet": 3}
    assert ranking["seeds"].to_dict() == {"half": 1, "whole": 2, "none yet": 1}
    assert ranking["stopped"].to_dict() == {"half": 0, "whole": 0, "none yet": 1}
    assert ranking["val_accuracy"]["half"] == 0.9
    assert ranking["pick"].to_dict() == {"half": True, "whole": False, "none yet": False}


def test_a_configuration_of_which_no_trial_has_begun_comes_last_and_has_no_rank() -> None:
    nothing = {"test_accuracy": None, "val_accuracy": None}
    ranking = ranked(
        trial("a, to come", status="unfinished", **nothing),
        trial("a, to come", seed=1, status="unfinished", **nothing),
        trial("b, begun", status="unfinished", epochs_run=1, **nothing),
        trial("c, failed", status="failed", **nothing),
        trial("d", test_accuracy=0.5),
        by="val_accuracy",
    ).set_index("model")
    assert list(ranking.index) == ["d", "b, begun", "c, failed", "a, to come"]
    assert ranking["rank"].tolist()[:3] == [1, 2, 3]
    assert ranking["rank"].isna()["a, to come"]


@pytest.mark.parametrize("status", ["stopped", "failed"])
def test_configuration_with_an_incomplete_seed_ranks_below_complete_ones(status: str) -> None:
    ranking = ranked(
        trial("incomplete", test_accuracy=0.99, train_seconds=1.0),
        trial("incomplete", seed=1, test_accuracy=0.99 if status == "stopped" else None, status=status),
        trial("complete", test_accuracy=0.5, train_seconds=9.0),
        trial("complete", seed=1, test_accuracy=0.6, train_seconds=9.0),
        test_images=300,
    ).set_index("model")
    assert ranking["rank"].to_dict() == {"complete": 1, "incomplete": 2}
    assert ranking["stopped"].to_dict() == {"complete": 0, "incomplete": 1}
    incomplete = ranking.loc["incomplete"]
    assert not incomplete["pick"]
    assert not incomplete["on_frontier"]
    assert pd.isna(incomplete["tie_group"])
    assert math.isnan(incomplete["test_accuracy_low"])


def test_group_without_complete_configurations_has_no_pick() -> None:
    ranking = ranked(trial("a", status="stopped", standalone_cost_usd=1.0, train_seconds=1.0))
    assert not ranking["pick"].any()
    assert ranking["tie_group"].isna().all()
    assert ranking["on_frontier"].isna().all()


def test_val_accuracy_stands_in_where_there_is_no_test_split() -> None:
    ranking = ranked(
        trial("worse", test_accuracy=None, val_accuracy=0.6),
        trial("better", test_accuracy=None, val_accuracy=0.9),
        val_images=500,
        test_images=500,
    )
    assert ranking["model"].tolist() == ["better", "worse"]
    assert ranking["tie_group"].tolist() == [1, 2]
    assert ranking["test_accuracy"].isna().all()
    assert ranking["test_accuracy_low"].isna().all()


def test_each_dataset_and_size_is_ranked_alone() -> None:
    trials = [
        trial("m", dataset=dataset, train_size=size, test_accuracy=accuracy)
        for dataset, size, accuracy in [("a", 10, 0.5), ("a", 20, 0.6), ("b", 10, 0.7)]
    ]
    ranking = ranked(*trials, test_images={"a": 100})
    assert ranking["rank"].tolist() == [1, 1, 1]
    assert ranking["pick"].all()
    assert ranking["test_accuracy_low"].notna().tolist() == [True, True, False]


def test_pick_is_the_cheapest_about_as_good_on_val_and_never_looks_at_test() -> None:
    trials = [
        trial("best", val_accuracy=0.95, test_accuracy=0.80, train_seconds=100.0),
        trial("near", val_accuracy=0.945, test_accuracy=0.70, train_seconds=10.0),
        trial("far", val_accuracy=0.80, test_accuracy=0.99, train_seconds=1.0),
    ]
    assert ranked(*trials, val_images=300).set_index("model")["pick"].to_dict() == {
        "best": False,
        "near": True,
        "far": False,
    }
    # without the number of val images one seed gives no standard error: the best on val
    assert ranked(*trials).set_index("model")["pick"].to_dict() == {"best": True, "near": False, "far": False}


def test_few_scattered_seeds_do_not_make_a_poor_configuration_the_pick() -> None:
    trials = [
        trial(model, seed=seed, val_accuracy=accuracy, train_seconds=seconds)
        for model, accuracies, seconds in [("good", (0.95, 0.90), 100.0), ("poor", (0.70, 0.80), 1.0)]
        for seed, accuracy in enumerate(accuracies)
    ]
    assert ranked(*trials).set_index("model")["pick"].to_dict() == {"good": True, "poor": False}


@pytest.mark.parametrize(("seconds", "picked"), [(10.5, "better"), (12.0, "cheaper")])
def test_a_slightly_lower_cost_never_beats_a_better_val_accuracy(seconds: float, picked: str) -> None:
    trials = [
        trial("better", val_accuracy=0.95, train_seconds=seconds),
        trial("cheaper", val_accuracy=0.945, train_seconds=10.0),
    ]
    ranking = ranked(*trials, val_images=300)
    assert ranking.set_index("model")["pick"].idxmax() == picked


def test_tables_headings_name_the_columns_to_rank_by() -> None:
    trials = [trial("slow", train_seconds=2.0, test_accuracy=0.9), trial("fast", train_seconds=1.0, test_accuracy=0.8)]
    assert ranked(*trials, by="time")["model"].tolist() == ["fast", "slow"]


def test_at_equal_val_accuracy_a_slightly_lower_cost_never_beats_a_lower_val_loss() -> None:
    surer = [trial("surer", seed=seed, val_accuracy=1.0, val_loss=0.01, train_seconds=4.7) for seed in range(3)]
    cheaper = [trial("cheaper", seed=seed, val_accuracy=1.0, val_loss=0.02, train_seconds=4.6) for seed in range(3)]
    ranking = ranked(*surer, *cheaper, val_images=300)
    assert ranking.set_index("model")["pick"].idxmax() == "surer"


def test_pick_falls_back_to_test_accuracy_without_val() -> None:
    trials = [trial("a", val_accuracy=None, test_accuracy=0.7), trial("b", val_accuracy=None, test_accuracy=0.8)]
    assert ranked(*trials).set_index("model")["pick"].to_dict() == {"a": False, "b": True}


def test_equally_good_and_dear_configurations_have_one_pick() -> None:
    assert ranked(trial("a", train_seconds=1.0), trial("b", train_seconds=1.0))["pick"].tolist() == [True, False]


def test_without_any_cost_the_frontier_is_unknown() -> None:
    assert ranked(trial("a"), trial("b"))["on_frontier"].isna().all()


def test_ties_run_downward_from_the_best() -> None:
    trials = [trial(model, test_accuracy=a) for model, a in [("a", 0.95), ("b", 0.94), ("c", 0.80), ("d", 0.79)]]
    assert ranked(*trials, test_images=1000)["tie_group"].tolist() == [1, 1, 2, 2]
    assert ranked(*trials)["tie_group"].isna().all()


def outcomes_of(hits: dict[str, list[bool]]) -> dict[str, Outcome]:
    return {
        trial_id: outcome_of([f"i{i:04d}" for i in range(len(each))], np.array(each)) for trial_id, each in hits.items()
    }


def test_outcomes_of_each_image_tell_apart_what_counts_cannot() -> None:
    nearly = [True] * 380 + [False] * 20
    worse = [True] * 368 + [False] * 32  # wrong wherever the first is wrong, and on 12 images more
    trials = [
        trial("a", trial_id="1", test_accuracy=380 / 400),
        trial("b", trial_id="2", test_accuracy=368 / 400),
    ]
    outcomes = outcomes_of({"1": nearly, "2": worse})
    assert ranked(*trials, test_images=400)["tie_group"].tolist() == [1, 1]
    assert ranked(*trials, outcomes=outcomes)["tie_group"].tolist() == [1, 2]


def test_outcomes_on_other_images_fall_back_to_counts() -> None:
    trials = [trial("a", trial_id=str(seed), seed=seed, test_accuracy=0.5) for seed in range(2)]
    outcomes = outcomes_of({"0": [True, False] * 10, "1": [True, False] * 20})
    assert ranked(*trials, outcomes=outcomes)["test_accuracy_low"].isna().all()
    assert ranked(*trials, outcomes=outcomes, test_images=20)["test_accuracy_low"].notna().all()


@pytest.mark.parametrize(
    ("by", "first"),
    [("test_macro_f1", "high"), ("val_accuracy", "high"), ("val_loss", "low"), ("train_seconds", "low")],
)
def test_any_number_can_be_ranked_by_in_its_own_direction(by: str, first: str) -> None:
    ranking = ranked(
        trial("low", test_accuracy=0.5, **({by: 0.2} if by != "test_accuracy" else {})),
        trial("high", test_accuracy=0.5, **({by: 0.8} if by != "test_accuracy" else {})),
        by=by,
    )
    assert ranking["model"].iloc[0] == first
    assert list(ranking.columns)[: len(RANK_COLUMNS)] == RANK_COLUMNS
    assert by in ranking


def test_a_ranking_by_the_probability_of_being_best_has_the_highest_first() -> None:
    rows = {"steady": [0.9, 0.905, 0.9], "next": [0.895, 0.9, 0.9], "wild": [0.8, 0.99, 0.9]}
    trials = [
        trial(model, seed=seed, trial_id=f"{model}{seed}", test_accuracy=accuracy, train_seconds=seconds)
        for seconds, (model, accuracies) in enumerate(rows.items())
        for seed, accuracy in enumerate(accuracies)
    ]
    outcomes = outcomes_of(
        {each["trial_id"]: [image < 200 * each["test_accuracy"] for image in range(200)] for each in trials}
    )
    ranking = ranked(*trials, outcomes=outcomes, by="p_best")
    assert ranking["p_best"].is_monotonic_decreasing
    assert ranking["p_best"].notna().all()
    assert list(ranking.columns) == RANK_COLUMNS


def test_a_ranking_by_a_probability_that_is_unknown_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"--by: no p_best is known here; it takes two seeds .* give one of test_accuracy"
    ):
        ranked(trial("a"), trial("b"), by="p_best")


@pytest.mark.parametrize("by", ["acuracy", "model", "test_loss"])
def test_unknown_column_is_refused_with_those_that_can_be_used(by: str) -> None:
    with pytest.raises(InputError, match=rf"'{by}' is no column to rank by; give one of test_accuracy, val_accuracy"):
        ranked(trial("a"), by=by)


def test_further_columns_are_appended_as_means_over_seeds() -> None:
    ranking = ranked(
        trial("a", standalone_seconds=2.0, peak_memory_bytes=10),
        trial("a", seed=1, standalone_seconds=4.0, peak_memory_bytes=None),
        also=("standalone_seconds", "peak_memory_bytes", "inference_latency_seconds", "test_accuracy"),
    )
    assert list(ranking) == [*RANK_COLUMNS, "standalone_seconds", "peak_memory_bytes", "inference_latency_seconds"]
    assert ranking["standalone_seconds"].tolist() == [3.0]
    assert ranking["peak_memory_bytes"].tolist() == [10.0]
    assert ranking["inference_latency_seconds"].isna().all()


def test_further_columns_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(InputError, match=r"also: 'model' is no column with a mean; give some of test_accuracy, "):
        ranked(trial("a"), also=("model",))
    with pytest.raises(InputError, match="'speed'"):
        ranked(trial("a"), also=("speed",))


@pytest.mark.parametrize(
    ("search", "cost"),
    [
        ({}, 2.0),
        ({"search_seconds": None, "search_cost_usd": None}, 2.0),
        ({"search_seconds": 9.0, "search_cost_usd": 5.0}, 7.0),
        ({"search_seconds": 9.0, "search_cost_usd": None}, math.nan),
        ({"search_seconds": 9.0}, math.nan),
    ],
    ids=["no search column", "no search", "search", "search of unknown cost", "search without a price"],
)
def test_choosing_the_learning_rate_is_part_of_the_cost(search: dict[str, Any], cost: float) -> None:
    ranking = ranked(
        trial("a", standalone_cost_usd=1.0, **search), trial("a", seed=1, standalone_cost_usd=3.0, **search)
    )
    assert ranking["standalone_cost_usd"].tolist() == pytest.approx([cost], nan_ok=True)


def test_seconds_that_stand_in_for_cost_hold_the_search() -> None:
    ranking = ranked(
        trial("a-searched", train_seconds=1.0, search_seconds=9.0),
        trial("b-plain", train_seconds=5.0, search_seconds=None),
    )
    assert ranking["model"].tolist() == ["b-plain", "a-searched"]
    assert ranking["train_seconds"].tolist() == [5.0, 1.0], "training alone"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"test_accuracy": "n/a"}, "row 2: test_accuracy is n/a; give a fraction from 0 to 1"),
        ({"test_accuracy": 91.0}, "row 2: test_accuracy is 91.0; give a fraction"),
        ({"val_accuracy": -0.1}, "row 2: val_accuracy is -0.1; give a fraction"),
        ({"test_accuracy": math.inf}, "row 2: test_accuracy is inf; give a fraction"),
        ({"standalone_cost_usd": "free"}, "row 2: standalone_cost_usd is free; give a number"),
        ({"train_size": "all"}, "row 2: train_size is all; give a whole number"),
        ({"train_size": 1.5}, "row 2: train_size is 1.5; give a whole number"),
    ],
)
def test_values_that_cannot_be_ranked_are_named(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ranked(trial("a"), trial("b", **columns), test_images=100)


def test_table_without_models_is_refused() -> None:
    with pytest.raises(InputError, match="no column 'model'"):
        rank(pd.DataFrame({"test_accuracy": [0.9]}))


@pytest.mark.parametrize(
    "columns",
    [
        {"test_accuracy": None, "val_accuracy": None},
        {"status": "failed", "test_accuracy": None, "val_accuracy": None},
        {"status": "stopped"},
        {"test_accuracy": 1.0, "val_accuracy": 1.0},
        {"test_accuracy": 0.0, "val_accuracy": 0.0},
        {"standalone_cost_usd": 0.0, "train_seconds": 0.0},
        {"standalone_cost_usd": math.inf, "val_loss": math.inf},
        {"train_size": None, "weights": None, "strategy": None},
    ],
    ids=["no accuracy", "failed", "stopped", "all right", "all wrong", "no cost", "infinite", "unnamed"],
)
@pytest.mark.parametrize("images", [None, 1, 300])
@pytest.mark.parametrize("seeds", [{"a": 1}, {"a": 2, "b": 2}, {"a": 1, "b": 3}])
def test_hostile_tables_are_ranked_without_a_number_made_up(
    columns: dict[str, Any], images: int | None, seeds: dict[str, int]
) -> None:
    trials = [trial(model, seed=seed, **columns) for model, count in seeds.items() for seed in range(count)]
    ranking = ranked(*trials, test_images=images, val_images=images)
    assert ranking["p_best"].isna().all()
    assert ranking["pick"].sum() == ("status" not in columns and columns.get("test_accuracy", 0.9) is not None)
    for missing in ("test_accuracy", "standalone_cost_usd", "val_loss"):
        if columns.get(missing) is None and missing != "test_accuracy":
            assert ranking[missing].isna().all(), "unknown is not 0"
    assert len(ranking) == len(seeds)


def test_two_trials_of_one_configuration_and_seed_are_refused() -> None:
    with pytest.raises(InputError, match=r"same configuration and seed .*model a, .*seed 0"):
        ranked(trial("a"), trial("a"))


def test_table_of_models_and_accuracies_alone_is_ranked() -> None:
    ranking = rank(pd.DataFrame({"model": ["a", "b"], "test_accuracy": [0.1, 0.2]}))
    assert ranking["model"].tolist() == ["b", "a"]
    assert ranking["train_size"].isna().all()
    assert ranking["pick"].tolist() == [True, False]


def test_nothing_to_rank_gives_no_rows_and_all_columns() -> None:
    assert list(rank(pd.DataFrame([trial("a")]).iloc[:0]).columns) == RANK_COLUMNS


def seeds_with_outcomes(
    accuracies: dict[str, list[float]], images: int = 200
) -> tuple[pd.DataFrame, dict[str, Outcome]]:
    """Trials of models, a seed for each accuracy, and which images each got right: the first ones."""
    trials = [
        trial(model, trial_id=f"{model}{seed}", seed=seed, test_accuracy=accuracy)
        for model, row in accuracies.items()
        for seed, accuracy in enumerate(row)
    ]
    hits = {each["trial_id"]: [i < each["test_accuracy"] * images for i in range(images)] for each in trials}
    return pd.DataFrame(trials), outcomes_of(hits)


def test_probability_of_being_best_is_given_with_two_seeds_and_each_images_outcome() -> None:
    results, outcomes = seeds_with_outcomes({"a": [0.9, 0.91], "b": [0.895, 0.905], "c": [0.5, 0.51]})
    chances = rank(results, outcomes=outcomes).set_index("model")["p_best"]
    assert chances.sum() == pytest.approx(1)
    assert chances["a"] > chances["b"] > chances["c"]
    assert chances["c"] < 0.02


def test_incomplete_configurations_take_no_part_in_probabilities() -> None:
    results, outcomes = seeds_with_outcomes({"a": [0.9, 0.91], "b": [0.89, 0.9], "c": [0.95, 0.96]})
    results.loc[results["trial_id"] == "c1", "status"] = "stopped"
    chances = rank(results, outcomes=outcomes).set_index("model")["p_best"]
    assert math.isnan(chances["c"])
    assert chances[["a", "b"]].sum() == pytest.approx(1)


def test_probability_of_being_best_is_left_out_where_it_is_not_calibrated() -> None:
    assert ranked(trial("a"), trial("b"), test_images=100)["p_best"].isna().all(), "one seed"
    results, _ = seeds_with_outcomes({"a": [0.9, 0.91], "b": [0.89, 0.9]})
    assert rank(results, test_images=200)["p_best"].isna().all(), "outcomes of images unknown"


def test_every_column_to_rank_by_has_a_direction() -> None:
    assert all(isinstance(direction, bool) for direction in HIGHER_IS_BETTER.values())


def test_seconds_measured_alone_stand_in_for_cost_before_those_of_the_run() -> None:
    """In the run the dear one was quicker, because of what ran beside the other."""
    cheap = trial("cheap", standalone_seconds=10.0, train_seconds=50.0)
    dear = trial("dear", standalone_seconds=20.0, train_seconds=5.0)
    assert ranked(cheap, dear)["model"].to_list() == ["cheap", "dear"]
    unknown = trial("dear", train_seconds=5.0)
    assert ranked(cheap, unknown)["model"].to_list() == ["dear", "cheap"], "all alone, or all in the run"
