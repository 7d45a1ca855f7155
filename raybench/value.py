"""What accuracy is worth: results of trials in; cost, frontier, pick and winners under each budget out.

A configuration costs something to train and something to use. `value` charges for training, for inference, or for
both at a number of predictions, and puts the pick and the frontier beside that cost: within each dataset and
train_size, or over all sizes of a dataset, where more images are another configuration. `budgets` says which
configuration wins from which budget on.

Covered: USD where it is known of every complete configuration that is compared, device time otherwise; never both
in one comparison. Unknown cost is NaN and takes part in no frontier. Not covered: what images and labels cost.
"""

import math
from collections.abc import Mapping
from enum import StrEnum
from itertools import pairwise

import pandas as pd

from raybench.contrasts import Contrasts
from raybench.cost import SECONDS_PER_HOUR
from raybench.errors import InputError
from raybench.outcomes import Outcome
from raybench.ranking import CONFIGURATION, rank
from raybench.stats import Scores
from raybench.ties import intervals
from raybench.trial_table import TEST, scores_by_place, trial_table


class Charge(StrEnum):
    """What a configuration is charged with."""

    TRAINING = "training"
    """Training once, and choosing its learning rate where that was searched for; mean over seeds."""
    INFERENCE = "inference"
    """A number of predictions, at the throughput measured alone."""
    BOTH = "both"
    """Training once and a number of predictions."""


class CostUnit(StrEnum):
    """What costs are counted in."""

    USD = "USD"
    SECONDS = "seconds"
    """Of the device that trains and predicts."""


COLUMNS = {"usd": "standalone_cost_usd", "seconds": "train_seconds"}
"""Where a ranking looks for costs, by unit."""
ALL_SIZES = "all sizes"
"""What `comparison` says where all sizes of a dataset are compared; otherwise it is the size."""

VALUE_COLUMNS = [
    "comparison",
    "dataset",
    "train_size",
    "model",
    "weights",
    "strategy",
    "seeds",
    "metric",
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "val_accuracy",
    "cost",
    "unit",
    "training_cost",
    "inference_cost",
    "inference_latency_seconds",
    "stopped",
    "on_frontier",
    "points",
    "points_low",
    "points_high",
    "cost_per_point",
    "pick",
    "tied_with_best",
    "cheapest_tied",
]
"""Columns of `value`, in order."""

BUDGET_COLUMNS = [
    "comparison",
    "dataset",
    "from_budget",
    "to_budget",
    "unit",
    "train_size",
    "model",
    "weights",
    "strategy",
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "points",
    "points_low",
    "points_high",
    "cost_per_point",
]
"""Columns of `budgets`, in order."""


def value(
    results: pd.DataFrame,
    *,
    charge: Charge | str = Charge.TRAINING,
    predictions: int | None = None,
    price_per_hour_usd: float | None = None,
    across_sizes: bool = False,
    outcomes: Mapping[str, Outcome] | None = None,
    test_images: int | Mapping[str, int] | None = None,
    val_images: int | Mapping[str, int] | None = None,
) -> pd.DataFrame:
    """Put cost, frontier, pick and what cannot be told apart beside the accuracy of each configuration.

    The frontier, the pick and the ties are those of `raybench.ranking.rank`, whose rules see the cost that is charged
    here. Inference is charged at one speed for a dataset and model, the mean over everything measured of them: how a
    network was trained does not change how fast it is. A prediction costs what a second of training cost that
    configuration, unless `price_per_hour_usd` says what the predicting device costs.

    Args:
        results: one row a trial, as for `rank`.
        charge: what is charged.
        predictions: how many are made; by default one where inference alone is charged, and needed for both.
        price_per_hour_usd: of the device that predicts.
        across_sizes: compare all sizes of a dataset with one another, not those of one size alone.
        outcomes: which test images each trial classified correctly, by trial id.
        test_images: size of the test split, or of each dataset's; used where there are no outcomes.
        val_images: size of the val split, or of each dataset's.

    Returns:
        The columns `VALUE_COLUMNS`, one row a configuration, by dataset, train_size (where sizes are not compared)
        and cost, cheapest first and unknown last. `comparison` is the train_size within which configurations are
        compared, as text, or `ALL_SIZES`. `accuracy` is the mean of `metric`: test accuracy, or val accuracy
        where a group has none. `cost` is in `unit`, of which there is one a group. On the frontier `points` is what a
        step gained over the step before, in percentage points, with its 95 % interval, and `cost_per_point` what
        each of them cost. `tied_with_best` says that a configuration cannot be told apart from the best (95 %, over
        all pairs), `cheapest_tied` that none of those is cheaper. Missing: unknown.

    Raises:
        InputError: `charge` is unknown, or `predictions` is missing or below 1.
    """
    wanted, count = _checked(charge, predictions)
    trials = trial_table(results, ["dataset"] if across_sizes else ["dataset", "train_size"])
    if trials.empty:
        return pd.DataFrame(columns=VALUE_COLUMNS)
    trials = _charged(trials, wanted, count, price_per_hour_usd)
    # The rules for frontier, pick and ties are those of a ranking, which sees what is charged here as its cost. The
    # number of a configuration stands for its strategy: where sizes are compared, names alone would be the same.
    costs = ["standalone_seconds", "search_seconds", "search_cost_usd"]
    compared = trials.drop(columns=costs).assign(strategy=trials["place"].map(str))
    ranking = rank(
        compared.assign(train_size=None) if across_sizes else compared,
        also=["inference_latency_seconds"],
        outcomes=outcomes,
        test_images=test_images,
        val_images=val_images,
    )
    by_place = trials.groupby("place")
    names = by_place[[*CONFIGURATION, "metric"]].nth(0).assign(place=trials["place"]).set_index("place")
    means = by_place[[f"{part}_{unit}" for part in ("training", "inference") for unit in COLUMNS]].mean()
    table = ranking.drop(columns=CONFIGURATION).assign(place=ranking["strategy"].astype(int))
    table = table.join(names, on="place").join(means, on="place")
    scores = scores_by_place(trials[trials["accuracy"].notna()], outcomes or {}, test_images)
    table = _with_intervals_of_sizes(table, scores) if across_sizes else table
    group = [table["dataset"]] if across_sizes else [table["dataset"], table["train_size"]]
    tables = [
        _valued(rows, scores).assign(comparison=ALL_SIZES if across_sizes else _size_text(rows["train_size"].iloc[0]))
        for _, rows in table.groupby(group, dropna=False, sort=True)
    ]
    return pd.concat(tables, ignore_index=True)[VALUE_COLUMNS]


def budgets(table: pd.DataFrame) -> pd.DataFrame:
    """Say from which budget on which configuration wins: the most accurate that the budget pays for.

    Args:
        table: what `value` returned.

    Returns:
        The columns `BUDGET_COLUMNS`: one row a step of the frontier, cheapest first, within each dataset, and within
        each train_size where sizes were not compared. The configuration wins from `from_budget` up to below
        `to_budget`, which is infinite for the last. A win whose interval of `points` holds 0 may be chance.
    """
    steps = table[table["on_frontier"].fillna(value=False).astype(bool)]
    steps = steps.drop_duplicates(["dataset", "comparison", "cost"])
    following = steps.groupby(["dataset", "comparison"], sort=False)["cost"].shift(-1)
    steps = steps.assign(from_budget=steps["cost"], to_budget=following.fillna(math.inf))
    return steps[BUDGET_COLUMNS].reset_index(drop=True)


def _size_text(size: object) -> str:
    return "" if pd.isna(size) else str(size)  # type: ignore[call-overload]


def _checked(charge: Charge | str, predictions: int | None) -> tuple[Charge, int]:
    """What is charged, and for how many predictions."""
    if charge not in list(Charge):
        raise InputError(f"charge: {charge!r} is unknown; give one of {', '.join(Charge)}")
    if predictions is None and charge == Charge.BOTH:
        raise InputError("predictions: missing; say how many are made, for training is charged once and they each time")
    if predictions is not None and predictions < 1:
        raise InputError(f"predictions: {predictions} is no number of predictions; give a whole number from 1")
    return Charge(charge), predictions or 1


def _charged(trials: pd.DataFrame, charge: Charge, predictions: int, price_per_hour_usd: float | None) -> pd.DataFrame:
    """The trials, with what they are charged in place of their own cost and seconds, and its parts beside it."""
    alike = [trials["dataset"], trials["model"]]
    speed = trials["inference_images_per_second"].groupby(alike).transform("mean")
    paid = trials["standalone_cost_usd"] / trials["standalone_seconds"].where(trials["standalone_seconds"] > 0)
    price = paid.groupby(alike).transform("mean")
    if price_per_hour_usd is not None:
        price = pd.Series(price_per_hour_usd / SECONDS_PER_HOUR, trials.index)
    seconds = predictions / speed.where(speed > 0)
    inference = {"usd": seconds * price, "seconds": seconds}
    charged = trials.assign(**{f"inference_{unit}": inference[unit] for unit in COLUMNS})
    for unit, column in COLUMNS.items():
        training = trials[f"training_{unit}"]
        parts = {Charge.TRAINING: training, Charge.INFERENCE: inference[unit]}
        charged[column] = parts.get(charge, training + inference[unit])
    return charged


def _with_intervals_of_sizes(table: pd.DataFrame, scores: Mapping[int, Scores]) -> pd.DataFrame:
    """The table with the intervals of each size alone: an accuracy has one, whatever it is held against."""
    table = table.assign(test_accuracy_low=math.nan, test_accuracy_high=math.nan)
    known = table[(table["stopped"] == 0) & table["test_accuracy"].notna()]
    for _, rows in known.groupby(["dataset", "train_size"], dropna=False):
        estimates = intervals([scores[place] for place in rows["place"]])
        table.loc[rows.index, "test_accuracy_low"] = [each.low for each in estimates]
        table.loc[rows.index, "test_accuracy_high"] = [each.high for each in estimates]
    return table


def _valued(table: pd.DataFrame, scores: Mapping[int, Scores]) -> pd.DataFrame:
    """One comparison's configurations by cost, with what each step along the frontier gained and cost."""
    complete = table["stopped"] == 0
    usd = table["standalone_cost_usd"][complete]
    in_usd = len(usd) > 0 and bool(usd.notna().all())
    unit = "usd" if in_usd else "seconds"
    metric = table["metric"].iloc[0]
    has_test = metric == TEST
    table = table.assign(
        accuracy=table[metric],
        accuracy_low=table["test_accuracy_low"] if has_test else math.nan,
        accuracy_high=table["test_accuracy_high"] if has_test else math.nan,
        cost=table[COLUMNS[unit]],
        unit=CostUnit.USD if in_usd else CostUnit.SECONDS,
        training_cost=table[f"training_{unit}"],
        inference_cost=table[f"inference_{unit}"],
        tied_with_best=(table["tie_group"] == 1).astype("boolean").where(table["tie_group"].notna()),
    ).sort_values(["cost", "accuracy"], ascending=[True, False], kind="stable", ignore_index=True)
    tied = table[table["tied_with_best"].fillna(value=False).astype(bool) & table["cost"].notna()]
    table["cheapest_tied"] = table.index.isin(tied.index[:1])
    return table.join(_steps(table, scores))


def _steps(table: pd.DataFrame, scores: Mapping[int, Scores]) -> pd.DataFrame:
    """What each step along the frontier gained, and what a point of it cost, by index of the table."""
    complete = table[(table["stopped"] == 0) & table["accuracy"].notna()].sort_values("accuracy", ascending=False)
    contrasts = Contrasts(
        scores=[scores[place] for place in complete["place"]],
        sizes=list(complete["train_size"]),
        complete=[True] * len(complete),
    )
    places = {index: place for place, index in enumerate(complete.index)}
    frontier = list(table.index[table["on_frontier"].fillna(value=False).astype(bool)])
    rows = pd.DataFrame(math.nan, table.index, ["points", "points_low", "points_high", "cost_per_point"])
    for before, after in pairwise(frontier):
        gain = contrasts.difference(places[after], places[before])
        points = 100 * float(table["accuracy"][after] - table["accuracy"][before])
        paid = float(table["cost"][after] - table["cost"][before])
        rows.loc[after] = [points, 100 * gain.low, 100 * gain.high, paid / points if points > 0 else math.nan]
    return rows
