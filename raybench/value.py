"""What accuracy is worth: results of trials in; cost, frontier, pick and winners under each budget out.

A configuration costs something to train and something to use. `value` charges for training, for inference, or for
both at a number of predictions, and puts the pick and the frontier beside that cost: within each dataset and
train_size, or over all sizes of a dataset, where more images are another configuration. `budgets` says which
configuration wins from which budget on.

Covered: USD where it is known of every complete configuration that is compared, device time otherwise; never both
in one comparison. Unknown cost is NaN and takes part in no frontier. Not covered: what images and labels cost.
"""

from collections.abc import Mapping
from enum import StrEnum

import pandas as pd

from raybench.outcomes import Outcome


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


VALUE_COLUMNS = [
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
    "dataset",
    "train_size",
    "from_budget",
    "to_budget",
    "unit",
    "winner_train_size",
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
        and cost, cheapest first and unknown last. `accuracy` is the mean of `metric`: test accuracy, or val accuracy
        where a group has none. `cost` is in `unit`, of which there is one a group. On the frontier `points` is what a
        step gained over the step before, in percentage points, with its 95 % interval, and `cost_per_point` what
        each of them cost. `tied_with_best` says that a configuration cannot be told apart from the best (95 %, over
        all pairs), `cheapest_tied` that none of those is cheaper. Missing: unknown.

    Raises:
        InputError: `charge` is unknown, or `predictions` is missing or below 1.
    """
    raise NotImplementedError


def budgets(table: pd.DataFrame) -> pd.DataFrame:
    """Say from which budget on which configuration wins: the most accurate that the budget pays for.

    Args:
        table: what `value` returned.

    Returns:
        The columns `BUDGET_COLUMNS`: one row a step of the frontier, cheapest first, within each dataset, and within
        each train_size where sizes were not compared (`train_size` is missing where they were; `winner_train_size`
        is always the winner's). The configuration wins from `from_budget` up to below `to_budget`, which is infinite
        for the last. A win whose interval of `points` holds 0 may be chance.
    """
    raise NotImplementedError
