"""Tables of trials, whoever wrote them, made ready for questions of value."""

from typing import Any

import pandas as pd
import pytest

from raybench.errors import InputError
from raybench.trial_table import completed, scores_by_place, trial_table


def table(*rows: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame([{"model": "m", "test_accuracy": 0.5} | row for row in rows])


def test_what_a_table_does_not_have_is_filled() -> None:
    (row,) = trial_table(table({}), ["dataset"]).to_dict("records")
    assert (row["dataset"], row["seed"], row["status"], row["metric"]) == ("", 0, "completed", "test_accuracy")
    assert pd.isna(row["train_size"])
    assert pd.isna(row["training_usd"])
    assert pd.isna(row["training_seconds"])


def test_val_accuracy_stands_in_only_where_nothing_alike_was_tested() -> None:
    rows = table(
        {"train_size": 1, "val_accuracy": 0.7, "test_accuracy": None},
        {"train_size": 2, "val_accuracy": 0.8},
    )
    assert trial_table(rows, ["dataset", "train_size"])["accuracy"].to_list() == [0.7, 0.5]
    assert trial_table(rows, ["dataset"])["accuracy"].isna().to_list() == [True, False]


def test_a_search_of_unknown_cost_makes_the_cost_unknown() -> None:
    costs = {"standalone_cost_usd": 1.0, "train_seconds": 10.0}
    searched = costs | {"search_seconds": 5.0}
    rows = trial_table(table({"seed": 0, **costs}, {"seed": 1, **searched}), ["dataset"])
    assert rows["training_seconds"].to_list() == [10, 15]
    assert rows["training_usd"].isna().to_list() == [False, True]


def test_seconds_measured_alone_count_where_all_have_them() -> None:
    alone = {"train_seconds": 90.0, "standalone_seconds": 30.0}
    rows = [{"train_size": 1, "seed": 0, **alone}, {"train_size": 1, "seed": 1, **alone}]
    rows += [{"train_size": 2, "seed": 0, **alone}, {"train_size": 2, "seed": 1, "train_seconds": 80.0}]
    seconds = trial_table(table(*rows), ["dataset", "train_size"])["training_seconds"]
    assert seconds.to_list() == [30, 30, 90, 80]
    assert trial_table(table(*rows), ["dataset"])["training_seconds"].to_list() == [90, 90, 90, 80]


def test_only_trials_that_completed_with_an_accuracy_have_scores() -> None:
    rows = table({"seed": 0}, {"seed": 1, "status": "failed"}, {"seed": 2, "test_accuracy": None})
    known = completed(trial_table(rows, ["dataset"]))
    assert known["seed"].to_list() == [0]
    assert scores_by_place(known, {}, {"": 100})[0].images == 100


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"train_size": "all"}], "row 1: train_size is all; give a whole number"),
        ([{}, {"seed": 1, "train_size": 1.5}], "row 2: train_size is 1.5; give a whole number"),
        ([{"train_seconds": "fast"}], "row 1: train_seconds is fast; give a number"),
        ([{"seed": 1}, {"seed": 1}], r"the same configuration and seed \(model m, seed 1\)"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        trial_table(table(*rows), ["dataset"])


def test_a_table_without_models_is_refused() -> None:
    with pytest.raises(InputError, match="no column 'model'"):
        trial_table(pd.DataFrame({"test_accuracy": [0.5]}), ["dataset"])
