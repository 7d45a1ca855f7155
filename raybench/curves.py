"""How much data is enough: accuracies at several train_sizes in, accuracies at sizes not run out.

One curve a configuration (dataset, model, weights, strategy), fitted by `raybench.curve_fits`, which says how.
`predictions` and `more_images` read the curves.

Covered: three or more sizes. Refused, with the reason: fewer sizes, accuracies that fall with more data.
Predictions further than `TRUSTED_FACTOR` times the largest size, or further above it than the smallest lies below,
say that they are not to be trusted. Not covered: training that is set up anew for more data, where the curve starts
again.
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pandas as pd

from raybench.curve_fits import FEWEST_SIZES, Curve, fit_curve
from raybench.errors import InputError
from raybench.trial_table import completed, trial_table
from raybench.variance import Variance, Variances, learn_prior

T = TypeVar("T")

CONFIGURATION = ["dataset", "model", "weights", "strategy"]
"""What has a curve."""
TRUSTED_FACTOR = 8.0
"""How far beyond the largest size intervals were checked, as a factor."""
MOST_AT_ONCE = 4
"""Configurations whose predictions are made at once: each takes some tens of megabytes."""
MEDIAN = 0.5
CHANCES = (0.025, MEDIAN, 0.975)
ROUNDING = 1e-9
"""What sums of fractions are off by."""
GRID = 24
"""Sizes that are predicted where none are asked for, besides those that were run."""
UNKNOWN_NOISE = 0.02
"""Standard deviation over seeds, as a share of the error, that is assumed where one seed was run."""
FALL = 0.01
"""Accuracies that fall by more than this, and by more than `FALL_ERRORS` standard errors, are no learning curve."""
FALL_ERRORS = 3.0


@dataclass(frozen=True, kw_only=True, slots=True)
class NoCurve:
    """A configuration whose accuracy at other sizes cannot be predicted."""

    reason: str
    """Half a sentence: `2 training-set sizes have an accuracy, and a curve needs 3`."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Fitted:
    """A configuration and its curve."""

    configuration: dict[str, object]
    """By the names of `CONFIGURATION`."""
    sizes: np.ndarray
    """[k] float, ascending: where it has an accuracy."""
    accuracies: np.ndarray
    """[k] means over seeds."""
    variances: np.ndarray
    """[k] of these means, moderated by those of the dataset's other configurations and sizes."""
    curve: Curve | NoCurve

    @property
    def trusted_size(self) -> float:
        """Largest size that predictions are trusted at."""
        return float(self.sizes[-1] * min(TRUSTED_FACTOR, self.sizes[-1] / self.sizes[0]))

    @property
    def reason_beyond(self) -> str:
        """Why predictions beyond `trusted_size` are not trusted, in half a sentence."""
        smallest, largest = self.sizes[0], self.sizes[-1]
        if largest >= TRUSTED_FACTOR * smallest:
            return f"more than {TRUSTED_FACTOR:g} times the largest size, {largest:.0f} images"
        return f"further above the largest size, {largest:.0f} images, than the smallest, {smallest:.0f}, lies below it"


PREDICTION_COLUMNS = [
    *CONFIGURATION,
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
    *CONFIGURATION,
    "largest_size",
    "accuracy",
    "points",
    "more_images",
    "more_images_low",
    "more_images_high",
    "reachable",
    "trusted_size",
    "most_accuracy",
    "answer",
]
"""Columns of `more_images`, in order."""


def predictions(results: pd.DataFrame, sizes: Sequence[int] = ()) -> pd.DataFrame:
    """Predict the accuracy of each configuration at these train_sizes.

    Estimand: the mean accuracy over as many seeds as were run at the nearest size, on the same test images. Each
    prediction is made from all sizes that were run, the predicted one among them: to hold a curve to account, leave
    the largest size out of `results`.

    Args:
        results: one row a trial, as for `raybench.ranking.rank`. Trials that did not complete are left out; where a
            dataset has no test accuracy, val accuracy stands in for it.
        sizes: where to predict; by default at those that were run, and at a grid from the smallest size to the
            largest that is trusted.

    Returns:
        The columns `PREDICTION_COLUMNS`, one row a configuration and size. `accuracy` is the median prediction, `low`
        and `high` its 95 % interval, `measured` the mean that was measured at this size, missing where none was.
        `trusted` is False beyond the sizes that the curve can be trusted at, and `reason` says why; it is missing where
        a prediction is trusted. A configuration without a curve has one row with the `reason`, its largest size and
        what was measured there, and no prediction.

    Raises:
        InputError: a size is below 1.
    """
    if any(size < 1 for size in sizes):
        raise InputError(f"sizes: {min(sizes)} is no train_size; give whole numbers of images from 1")
    parts = _each(lambda fitted: _prediction_rows(fitted, sizes), fit_curves(results))
    rows = [row for part in parts for row in part]
    return pd.DataFrame(rows, columns=PREDICTION_COLUMNS).astype({"train_size": "Int64", "largest_size": "Int64"})


def more_images(results: pd.DataFrame, *, points: float = 1.0) -> pd.DataFrame:
    """Say how many more images would make each configuration so many percentage points more accurate.

    Args:
        results: as for `predictions`.
        points: percentage points of accuracy to gain over the curve at the largest size that was run.

    Returns:
        The columns `MORE_IMAGES_COLUMNS`, one row a configuration. With `more_images` more, the points are as likely
        reached as not; with `more_images_low` and `more_images_high` the chance is 2.5 % and 97.5 %. Infinite: not
        within `trusted_size`, the largest size that predictions are trusted at, or beyond 100 %. `reachable` is True
        where the points are as likely as not reached within it, and missing where there is no curve. `most_accuracy`
        is the accuracy predicted at `trusted_size`. `answer` is a sentence for readers, with the reason where there is
        no curve.

    Raises:
        InputError: `points` is not above 0.
    """
    if not points > 0:
        raise InputError(f"points: {points} is no gain; give percentage points above 0")
    rows = _each(lambda fitted: _more_images_row(fitted, points), fit_curves(results))
    frame = pd.DataFrame(rows, columns=MORE_IMAGES_COLUMNS)
    return frame.astype({"largest_size": "Int64", "trusted_size": "Int64", "reachable": "boolean"})


def _each(work: Callable[[Fitted], T], fitted: Sequence[Fitted]) -> list[T]:
    """What follows from each; nearly all of it is numpy's work, which several threads do at once."""
    with ThreadPoolExecutor(min(os.cpu_count() or 1, MOST_AT_ONCE)) as pool:
        return list(pool.map(work, fitted))


def fit_curves(results: pd.DataFrame) -> list[Fitted]:
    """Fit a curve to each configuration, by dataset, model, weights and strategy; see `predictions` for `results`."""
    trials = trial_table(results, ["dataset"])
    return [fitted for _, dataset in trials.groupby("dataset", sort=True) for fitted in _fit_dataset(dataset)]


def _fit_dataset(trials: pd.DataFrame) -> list[Fitted]:
    """Fit the curves of one dataset's configurations, whose variances over seeds inform one another."""
    known = completed(trials).dropna(subset=["train_size"])
    by_size = known.groupby([*CONFIGURATION, "train_size"], dropna=False)["accuracy"].agg(["mean", "var", "size"])
    points = by_size.reset_index().astype({"train_size": float})
    error = np.maximum(1 - points["mean"].to_numpy(), UNKNOWN_NOISE)
    relative = Variances(
        variances=points["var"].to_numpy() / error**2, degrees_of_freedom=points["size"].to_numpy(dtype=int) - 1
    )
    prior = learn_prior(relative)
    assumed = Variance(variance=UNKNOWN_NOISE**2, degrees_of_freedom=0)
    if prior.degrees_of_freedom > 0:
        assumed = Variance(variance=prior.variance, degrees_of_freedom=0)
    moderated = [
        prior.moderate(Variance(variance=float(variance), degrees_of_freedom=int(freedom))) if freedom > 0 else assumed
        for variance, freedom in zip(relative.variances, relative.degrees_of_freedom, strict=True)
    ]
    points["variance"] = np.array([each.variance for each in moderated]) * error**2 / points["size"]
    configurations = trials[CONFIGURATION].drop_duplicates().sort_values(CONFIGURATION, na_position="first")
    groups = {_key(keys): rows for keys, rows in points.groupby(CONFIGURATION, dropna=False)}
    return [
        _fit_configuration(
            {str(name): value for name, value in row.items()}, groups.get(_key(row.values()), points.iloc[:0])
        )
        for row in configurations.to_dict("records")
    ]


def _key(values: object) -> tuple[object, ...]:
    return tuple(None if pd.isna(value) else value for value in values)  # type: ignore[attr-defined]


def _fit_configuration(configuration: dict[str, object], points: pd.DataFrame) -> Fitted:
    points = points.sort_values("train_size")
    sizes, accuracies, variances = (points[name].to_numpy(dtype=float) for name in ("train_size", "mean", "variance"))
    reason = _reason_against(sizes, accuracies, variances)
    return Fitted(
        configuration=configuration,
        sizes=sizes,
        accuracies=accuracies,
        variances=variances,
        curve=NoCurve(reason=reason) if reason else fit_curve(sizes, 1 - accuracies, variances),
    )


def _reason_against(sizes: np.ndarray, accuracies: np.ndarray, variances: np.ndarray) -> str:
    """Why there can be no curve; nothing where there can."""
    if len(sizes) < FEWEST_SIZES:
        have = "1 training-set size has" if len(sizes) == 1 else f"{len(sizes) or 'no'} training-set sizes have"
        return f"{have} an accuracy, and a curve needs {FEWEST_SIZES}"
    best = int(accuracies.argmax())
    fall = float(accuracies[best] - accuracies[-1])
    if fall > max(FALL, FALL_ERRORS * math.sqrt(variances[best] + variances[-1])):
        return (
            f"accuracy falls from {accuracies[best]:.4f} with {sizes[best]:.0f} images to {accuracies[-1]:.4f} with "
            f"{sizes[-1]:.0f}, as with other test images or too little training, and a curve needs it to rise"
        )
    return ""


def _prediction_rows(fitted: Fitted, sizes: Sequence[int]) -> list[dict[str, object]]:
    measured = dict(zip(fitted.sizes, fitted.accuracies, strict=True))
    if isinstance(fitted.curve, NoCurve):
        largest = fitted.sizes[-1] if len(fitted.sizes) else pd.NA
        row = {"train_size": largest, "measured": measured.get(largest), "largest_size": largest, "trusted": False}
        return [fitted.configuration | row | {"reason": fitted.curve.reason}]
    grid = np.geomspace(fitted.sizes[0], fitted.trusted_size, GRID).round()
    wanted = np.unique(np.array(sizes, dtype=float) if len(sizes) else np.concatenate([grid, fitted.sizes]))
    nearest = np.abs(np.log(wanted[:, None] / fitted.sizes)).argmin(axis=1)
    errors = fitted.curve.quantiles(wanted, fitted.variances[nearest], CHANCES)
    return [
        fitted.configuration
        | {"train_size": int(size), "accuracy": 1 - middle, "low": 1 - high, "high": 1 - low}
        | {"measured": measured.get(size), "largest_size": int(fitted.sizes[-1])}
        | {"trusted": (trusted := bool(size <= fitted.trusted_size))}
        | {"reason": None if trusted else fitted.reason_beyond}
        for size, (low, middle, high) in zip(wanted, errors, strict=True)
    ]


def _more_images_row(fitted: Fitted, points: float) -> dict[str, object]:
    unknown = dict.fromkeys(("more_images", "more_images_low", "more_images_high", "most_accuracy"), math.nan)
    row = fitted.configuration | {"points": points, "reachable": pd.NA, "trusted_size": pd.NA} | unknown
    row |= {"largest_size": pd.NA, "accuracy": math.nan}
    if len(fitted.sizes):
        row |= {"largest_size": int(fitted.sizes[-1]), "accuracy": float(fitted.accuracies[-1])}
    if isinstance(fitted.curve, NoCurve):
        return row | {"answer": f"Not known: {fitted.curve.reason}."}
    largest = fitted.sizes[-1]
    grid = np.geomspace(largest, fitted.trusted_size, 400)
    # More images never hurt a curve: beyond where a discrepancy may grow faster than the gain, the chance stays.
    chances = np.maximum.accumulate(fitted.curve.chance_of_gain(grid, points / 100))
    if is_more_than_all(float(fitted.accuracies[-1]), points):
        chances = np.zeros_like(chances)
    high, middle, low = (_first(grid, chances, chance) - largest for chance in reversed(CHANCES))
    error = fitted.curve.quantiles(grid[-1:], np.zeros(1), (MEDIAN,)).item()
    row |= {"more_images": middle, "more_images_low": low, "more_images_high": high}
    row |= {"reachable": math.isfinite(middle), "trusted_size": int(fitted.trusted_size)}
    row |= {"most_accuracy": 1 - error}
    return row | {"answer": _answer(row)}


def is_more_than_all(accuracy: float, points: float) -> bool:
    """Whether so many percentage points above an accuracy are more than 100 %."""
    return accuracy + points / 100 > 1 + ROUNDING


def _first(sizes: np.ndarray, chances: np.ndarray, chance: float) -> float:
    """Find the smallest size that has this chance; infinite where none has."""
    reached = chances >= chance
    return float(sizes[int(reached.argmax())]) if reached.any() else math.inf


def _answer(row: Mapping[str, object]) -> str:
    points, more, low, high = (
        float(str(row[name])) for name in ("points", "more_images", "more_images_low", "more_images_high")
    )
    what = f"{points:g} {'point' if points == 1 else 'points'} more"
    if math.isfinite(more):
        most = f"{_about(high)}" if math.isfinite(high) else "more than the curve can tell"
        return (
            f"{what} {'needs' if points == 1 else 'need'} about {_about(more)} more images ({_about(low)} to {most})."
        )
    accuracy = float(str(row["accuracy"]))
    if is_more_than_all(accuracy, points):
        return f"{what} {'is' if points == 1 else 'are'} not left above {accuracy:.4f}, what was measured."
    perhaps = f"; with luck {_about(low)} more images do" if math.isfinite(low) else ""
    trusted, best = _about(float(str(row["trusted_size"]))), float(str(row["most_accuracy"]))
    return (
        f"{what} {'is' if points == 1 else 'are'} not reachable with this configuration: {trusted} images, as far as "
        f"its curve can be trusted, lead to {best:.4f}{perhaps}."
    )


def _about(images: float) -> str:
    """A number of images with two significant digits."""
    digits = 1 - math.floor(math.log10(max(images, 1)))
    return f"{max(1, round(images, min(digits, 0))):,.0f}"
