"""How much data is enough: accuracies at several train_sizes in, accuracies at sizes not run out.

One curve a configuration (dataset, model, weights, strategy). `fit_curves` fits several families of curves that fall
towards an error that no amount of data removes, and weighs them by how well they predict the largest size from the
others. `predictions` and `more_images` read the curves.

Covered: three or more sizes. Refused, with the reason: fewer sizes, accuracies that fall with more data.
Not covered: predictions further than `TRUSTED_FACTOR` times the largest size, which say that they are not to be
trusted; what other seeds or test images than those at hand would have given beyond their sampling error.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from raybench.outcomes import Outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class NoCurve:
    """A configuration whose accuracy at other sizes cannot be predicted."""

    reason: str
    """Half a sentence: `2 sizes with an accuracy, and a curve needs 3`."""


PREDICTION_COLUMNS = [
    "dataset",
    "model",
    "weights",
    "strategy",
    "train_size",
    "accuracy",
    "low",
    "high",
    "measured",
    "largest_size",
    "trusted",
    "reason",
]
"""Columns of `predictions`, in order."""

MORE_IMAGES_COLUMNS = [
    "dataset",
    "model",
    "weights",
    "strategy",
    "largest_size",
    "accuracy",
    "points",
    "more_images",
    "more_images_low",
    "more_images_high",
    "reachable",
    "most_accuracy",
    "answer",
]
"""Columns of `more_images`, in order."""


def predictions(
    results: pd.DataFrame,
    sizes: Sequence[int] = (),
    *,
    outcomes: Mapping[str, Outcome] | None = None,
    test_images: int | Mapping[str, int] | None = None,
) -> pd.DataFrame:
    """Predict the accuracy of each configuration at these train_sizes, and at those that were run.

    Estimand: the mean accuracy over as many seeds as were run, on the same test images.

    Args:
        results: one row a trial, as for `raybench.ranking.rank`. Trials that did not complete are left out.
        sizes: where to predict. None: a grid from the smallest size up to `TRUSTED_FACTOR` times the largest.
        outcomes: which test images each trial classified correctly, by trial id.
        test_images: size of the test split, or of each dataset's; used where there are no outcomes.

    Returns:
        The columns `PREDICTION_COLUMNS`, one row a configuration and size, by configuration and size. `accuracy` is
        the median prediction with its 95 % interval, `measured` the mean that was measured at this size, missing where
        none was. `trusted` is False further out than the curve was checked. A configuration without a curve has one
        row with its `reason` and no prediction; `reason` is missing for all others.

    Raises:
        InputError: a size is below 1.
    """
    raise NotImplementedError


def more_images(
    results: pd.DataFrame,
    *,
    points: float = 1.0,
    outcomes: Mapping[str, Outcome] | None = None,
    test_images: int | Mapping[str, int] | None = None,
) -> pd.DataFrame:
    """Say how many more images would make each configuration so many percentage points more accurate.

    Args:
        results: as for `predictions`.
        points: percentage points of accuracy to gain over the largest size that was run.
        outcomes: as for `predictions`.
        test_images: as for `predictions`.

    Returns:
        The columns `MORE_IMAGES_COLUMNS`, one row a configuration. `more_images` is the median number with its 95 %
        interval; its upper end is infinite where the points may be out of reach. `reachable`: True where the points
        are likelier than not to be reached with data within the trusted sizes, False where they are not, missing where
        there is no curve. `most_accuracy` is the accuracy that the trusted sizes lead to. `answer` is a sentence for
        readers, the reason where there is no curve.

    Raises:
        InputError: `points` is not above 0.
    """
    raise NotImplementedError
