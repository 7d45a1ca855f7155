"""How much data is enough: what is predicted, what is refused, and what readers are told."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from raybench.curves import MORE_IMAGES_COLUMNS, PREDICTION_COLUMNS, more_images, predictions
from raybench.errors import InputError
from raybench.foreign import load_source

FIRST_STUDY = Path(__file__).parent / "data" / "resnet_cost_performance.csv"
SIZES = (300, 600, 1200, 2400, 4800)


def trials(least: float = 0.05, rate: float = 0.4, seeds: int = 3, noise: float = 0.004, **names: Any) -> pd.DataFrame:  # noqa: ANN401 - any column
    """Accuracies of one configuration whose error falls from 0.4 towards `least`."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        [
            {"dataset": "d", "model": "m", "weights": "w", "strategy": "s", "seed": seed, "train_size": size}
            | {"test_accuracy": 1 - least - (0.4 - least) * (size / 300) ** -rate + rng.normal(0, noise)}
            | names
            for size in SIZES
            for seed in range(seeds)
        ]
    )


def test_prediction_at_a_size_not_run_has_an_interval_around_the_truth() -> None:
    (row,) = predictions(trials(), [19200]).to_dict("records")
    truth = 1 - 0.05 - 0.35 * 64**-0.4
    assert row["low"] < truth < row["high"]
    assert row["accuracy"] == pytest.approx(truth, abs=0.015)
    assert (row["largest_size"], row["trusted"]) == (4800, True)
    assert pd.isna(row["measured"])


def test_by_default_sizes_that_were_run_and_a_grid_up_to_where_it_is_trusted_are_predicted() -> None:
    table = predictions(trials())
    assert list(table.columns) == PREDICTION_COLUMNS
    assert table["train_size"].max() == 8 * 4800
    measured = table[table["measured"].notna()]
    assert measured["train_size"].to_list() == list(SIZES)
    assert ((measured["low"] <= measured["measured"]) & (measured["measured"] <= measured["high"])).all()
    assert table["trusted"].all()
    assert table["reason"].isna().all()


def test_a_prediction_that_is_not_trusted_says_why() -> None:
    far = predictions(trials(), [2400, 100_000])
    assert far["trusted"].to_list() == [True, False]
    assert far["reason"].isna().to_list() == [True, False]
    assert far["reason"][1] == "more than 8 times the largest size, 4800 images"
    table = trials()
    narrow = predictions(table[table["train_size"] >= 1200], [38400])
    assert narrow["reason"][0] == "further above the largest size, 4800 images, than the smallest, 1200, lies below it"
    assert narrow["accuracy"].notna().all(), "the prediction is there all the same"


def test_more_images_are_told_with_their_interval() -> None:
    (row,) = more_images(trials(least=0.0)).to_dict("records")
    # the error is 0.4 (n / 300)^-0.4: one point less than at 4800 images
    error = 0.4 * 16**-0.4
    truth = 300 * ((error - 0.01) / 0.4) ** (-1 / 0.4) - 4800
    assert row["more_images_low"] < truth < row["more_images_high"]
    assert row["more_images"] == pytest.approx(truth, rel=0.5)
    assert row["reachable"] is True
    assert row["answer"].startswith("1 point more needs about ")
    assert more_images(trials(least=0.0), points=3)["more_images"][0] > row["more_images"]


def test_points_out_of_reach_are_called_so() -> None:
    (row,) = more_images(trials(least=0.2, rate=1.5), points=5).to_dict("records")
    assert row["reachable"] is False
    assert math.isinf(row["more_images"])
    assert row["most_accuracy"] == pytest.approx(0.8, abs=0.02)
    assert row["answer"].startswith("5 points more are not reachable with this configuration")
    assert list(more_images(trials()).columns) == MORE_IMAGES_COLUMNS


def test_a_gain_beyond_all_images_right_is_not_left() -> None:
    table = trials()
    table["test_accuracy"] = 1 - (1 - table["test_accuracy"]) / 60
    best = table.loc[table["train_size"] == table["train_size"].max(), "test_accuracy"].mean()
    assert best > 0.99
    (row,) = more_images(table).to_dict("records")
    assert (row["reachable"], math.isinf(row["more_images_low"])) == (False, True)
    assert row["answer"] == f"1 point more is not left above {best:.4f}, what was measured."
    (half,) = more_images(table, points=0.01).to_dict("records")
    assert "not left" not in half["answer"]


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [
        ([300, 600], "2 training-set sizes have an accuracy, and a curve needs 3"),
        ([300], "1 training-set size has an accuracy, and a curve needs 3"),
        ([], "no training-set sizes have an accuracy, and a curve needs 3"),
    ],
)
def test_fewer_than_three_sizes_are_refused_with_the_reason(sizes: list[int], reason: str) -> None:
    table = trials()
    table.loc[~table["train_size"].isin(sizes), "test_accuracy"] = math.nan
    (row,) = predictions(table, [9600]).to_dict("records")
    assert row["reason"] == reason
    assert math.isnan(row["accuracy"])
    (row,) = more_images(table).to_dict("records")
    assert row["answer"] == f"Not known: {reason}."
    assert pd.isna(row["reachable"])


def test_accuracy_that_falls_with_more_data_is_refused() -> None:
    answers = more_images(load_source(FIRST_STUDY).results).set_index(["model", "strategy"])["answer"]
    assert "accuracy falls from 0.8772 with 2280 images to 0.8427 with 19104" in answers["resnet18", "fine_tuned"]


def test_trials_that_did_not_complete_count_for_nothing() -> None:
    table = trials().assign(status="completed")
    table.loc[table["train_size"] == 4800, "status"] = "stopped"
    assert predictions(table, [9600])["largest_size"].to_list() == [2400]


def test_configurations_stay_apart_and_lend_each_other_their_variances() -> None:
    both = pd.concat([trials(strategy=None), trials(strategy="t", seeds=1, least=0.1), trials(dataset="e")])
    table = predictions(both, [9600])
    assert table["dataset"].to_list() == ["d", "d", "e"]
    assert table["strategy"].isna().to_list() == [True, False, False]
    assert table["accuracy"].notna().all()


def test_one_seed_gives_a_wider_interval_than_three() -> None:
    three, one = (predictions(trials(seeds=seeds, noise=0.001), [9600]) for seeds in (3, 1))
    assert ((one["high"] - one["low"]) > (three["high"] - three["low"])).all()


def test_val_accuracy_stands_in_where_nothing_was_tested() -> None:
    table = trials().rename(columns={"test_accuracy": "val_accuracy"})
    assert predictions(table, [9600])["accuracy"].notna().all()


def test_nothing_gives_empty_tables() -> None:
    nothing = pd.DataFrame(columns=["model", "test_accuracy"])
    assert predictions(nothing).empty
    assert more_images(nothing).empty


def test_nonsense_is_refused() -> None:
    with pytest.raises(InputError, match="sizes: 0 is no train_size"):
        predictions(trials(), [9600, 0])
    with pytest.raises(InputError, match="points: 0 is no gain"):
        more_images(trials(), points=0)
