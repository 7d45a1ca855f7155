"""What choices buy: published figures, and configurations whose true differences are known."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from raybench.foreign import load_source
from raybench.gains import AVERAGE_COLUMNS, GAIN_COLUMNS, average_gains, gains
from raybench.outcomes import Outcome
from raybench.stats import Doubt

FIRST_STUDY = Path(__file__).parent / "data" / "resnet_cost_performance.csv"
PROBE, TUNE = {"strategy": "linear-probe"}, {"strategy": "fine-tune"}


def trials(*configurations: dict[str, Any], seeds: int = 3, noise: float = 0.01) -> pd.DataFrame:
    """Seeds that raise or lower every configuration alike, and a little of each configuration's own."""
    rng = np.random.default_rng(0)
    shared = rng.normal(0, noise, seeds)
    rows = [
        {"dataset": "d", "train_size": 100, "model": "resnet8", "weights": "random", "seed": seed, **each}
        | {"test_accuracy": each["test_accuracy"] + shared[seed] + rng.normal(0, noise / 10)}
        for each in configurations
        for seed in range(seeds)
    ]
    return pd.DataFrame(rows)


def only(table: pd.DataFrame) -> dict[str, Any]:
    (row,) = table.to_dict("records")
    return {str(name): value for name, value in row.items()}


def test_difference_is_taken_seed_by_seed() -> None:
    row = only(gains(trials(PROBE | {"test_accuracy": 0.6}, TUNE | {"test_accuracy": 0.65}, noise=0.05)))
    assert (row["kind"], row["before"], row["after"]) == ("fine-tuning", "linear-probe", "fine-tune")
    assert row["low"] < 0.05 < row["high"]
    assert row["high"] - row["low"] < 0.06, "seeds alone would give ten times that"
    assert (row["told_apart"], row["seeds"], row["doubt"], row["left_out"]) == (True, 3, Doubt.SEEDS, 0)
    assert row["difference"] == pytest.approx(row["accuracy_after"] - row["accuracy_before"])


def test_columns_are_the_promised_ones_even_without_pairs() -> None:
    lonely = trials(PROBE | {"test_accuracy": 0.6})
    for table, columns in ((gains(lonely), GAIN_COLUMNS), (average_gains(lonely), AVERAGE_COLUMNS)):
        assert table.empty
        assert list(table.columns) == columns
    assert gains(lonely.iloc[:0]).empty


def test_a_dataset_where_nothing_completed_has_no_pairs() -> None:
    table = trials(PROBE | {"test_accuracy": 0.6}, TUNE | {"test_accuracy": 0.9}).assign(status="failed")
    assert gains(table).empty
    assert average_gains(table).empty


def test_one_seed_knows_the_images_alone_and_says_so() -> None:
    row = only(
        gains(trials(PROBE | {"test_accuracy": 0.6}, TUNE | {"test_accuracy": 0.9}, seeds=1), test_images={"d": 200})
    )
    assert (row["seeds"], row["doubt"], row["told_apart"]) == (1, Doubt.IMAGES, True)
    row = only(gains(trials(PROBE | {"test_accuracy": 0.6}, TUNE | {"test_accuracy": 0.9}, seeds=1)))
    assert row["doubt"] == Doubt.UNKNOWN
    assert math.isnan(row["low"])
    assert pd.isna(row["told_apart"])


def test_each_images_outcome_pairs_the_images_as_well() -> None:
    table = trials(PROBE | {"test_accuracy": 0.6}, TUNE | {"test_accuracy": 0.62}, seeds=1)
    table["trial_id"] = ["a", "b"]
    right = np.arange(1000) < 600
    more = right | (np.arange(1000) < 620)
    outcomes = {"a": Outcome(images=b"", correct=right), "b": Outcome(images=b"", correct=more)}
    table["test_accuracy"] = [0.6, 0.62]
    paired, apart = only(gains(table, outcomes=outcomes)), only(gains(table, test_images=1000))
    assert paired["told_apart"]
    assert not apart["told_apart"]
    assert paired["high"] - paired["low"] < (apart["high"] - apart["low"]) / 2


def test_seeds_that_did_not_complete_allow_no_conclusion() -> None:
    table = trials(PROBE | {"test_accuracy": 0.6}, TUNE | {"test_accuracy": 0.9})
    table["status"] = ["completed"] * 5 + ["stopped"]
    row = only(gains(table))
    assert (row["seeds"], row["left_out"]) == (2, 1)
    assert pd.isna(row["told_apart"])
    assert average_gains(table).empty


def test_seeds_that_are_not_shared_are_compared_as_strangers() -> None:
    table = trials(PROBE | {"test_accuracy": 0.6}, TUNE | {"test_accuracy": 0.9})
    table.loc[3:, "seed"] += 10
    row = only(gains(table))
    assert row["seeds"] == 0
    assert row["accuracy_after"] - row["accuracy_before"] == pytest.approx(row["difference"])
    assert math.isnan(only(average_gains(table))["low"])


def test_val_accuracy_stands_in_where_nothing_was_tested() -> None:
    table = trials(PROBE | {"test_accuracy": 0.6}, TUNE | {"test_accuracy": 0.9})
    row = only(gains(table.rename(columns={"test_accuracy": "val_accuracy"}), test_images=100))
    assert row["metric"] == "val_accuracy"
    assert row["doubt"] == Doubt.SEEDS


def test_costs_are_never_mixed() -> None:
    table = trials(PROBE | {"test_accuracy": 0.6}, TUNE | {"test_accuracy": 0.9})
    table["train_seconds"] = [10.0] * 3 + [30.0] * 3
    table["standalone_cost_usd"] = [0.1] * 3 + [math.nan] * 3
    assert only(gains(table))["unit"] == "seconds"
    assert only(gains(table))["cost_difference"] == 20
    table["standalone_cost_usd"] = [0.1] * 3 + [0.4] * 3
    table["search_seconds"] = [5.0] * 6
    table["search_cost_usd"] = [0.05] * 6
    row = only(gains(table))
    assert row["unit"] == "USD"
    assert row["cost_after"] == pytest.approx(0.45)
    assert row["cost_difference"] == pytest.approx(0.3)


def test_equal_choices_are_rarely_told_apart_however_many_are_compared() -> None:
    rng = np.random.default_rng(1)
    false_alarms = 0
    for _ in range(40):
        names = [f"s{number}{end}" for number in range(6) for end in ("", "+augment")]
        table = trials(*({"strategy": name, "test_accuracy": 0.8} for name in names))
        table["test_accuracy"] = 0.8 + rng.normal(0, 0.01, len(table))
        compared = gains(table)
        assert len(compared) == 6
        false_alarms += bool(compared["told_apart"].any())
    assert false_alarms <= 6, "5 % of families, and what chance adds to that in 40"


def test_averages_of_the_first_study_are_those_of_its_figures() -> None:
    results = load_source(FIRST_STUDY).results
    averages = average_gains(results, test_images=166).set_index(["kind", "train_size"])
    points = (100 * averages["difference"]).round(1)
    assert points.loc[["fine-tuning", "augmentation"]].to_dict() == {
        ("fine-tuning", 833): 10.4, ("fine-tuning", 2280): 4.7, ("fine-tuning", 19104): 3.6,
        ("augmentation", 833): 1.1, ("augmentation", 2280): 0.6, ("augmentation", 19104): -0.7,
    }  # fmt: skip
    assert set(averages["doubt"]) == {Doubt.IMAGES}
    pairs = gains(results, test_images=166)
    assert pairs.groupby("kind").size().to_dict() == {
        "fine-tuning": 12, "augmentation": 12, "depth": 12, "more data": 16,
    }  # fmt: skip
    assert not pairs[pairs["kind"] == "augmentation"]["told_apart"].any()
