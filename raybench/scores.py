"""Trials and predictions in, the scores of a configuration out, with each image's outcome where it is known."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from raybench.stats import Scores


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Outcome:
    """Which images one trial classified correctly."""

    images: bytes
    """Key of the set of images; equal for trials that were scored on the same ones."""
    correct: np.ndarray
    """[images] bool, by sorted image name."""


def outcomes_by_trial(predictions: pd.DataFrame | None) -> dict[str, Outcome]:
    """Each trial's outcomes from rows of trial_id, image, label and predicted; empty without predictions."""
    if predictions is None or predictions.empty:
        return {}
    rows = pd.DataFrame(
        {
            "trial_id": predictions["trial_id"].to_numpy(),
            "image": pd.factorize(predictions["image"], sort=True)[0],
            "correct": (predictions["label"] == predictions["predicted"]).to_numpy(),
        },
    ).sort_values(["trial_id", "image"])
    return {
        str(trial_id): Outcome(images=group["image"].to_numpy().tobytes(), correct=group["correct"].to_numpy())
        for trial_id, group in rows.groupby("trial_id", sort=False)
    }


def scores_of(trials: pd.DataFrame, column: str, outcomes: Mapping[str, Outcome], images: int | None) -> Scores:
    """What the trials of one configuration scored in a column of accuracies.

    Args:
        trials: one row a seed.
        column: `test_accuracy` or `val_accuracy`.
        outcomes: of the split that the column is about, by trial id; they count where every trial with a
            score has them, on the same images.
        images: size of that split, used where the outcomes are not known.
    """
    scored = trials[trials[column].notna()]
    known = [outcomes[trial_id] for trial_id in scored["trial_id"] if trial_id in outcomes]
    correct = None
    if len(known) == len(scored) and len({outcome.images for outcome in known}) == 1:
        correct = np.stack([outcome.correct for outcome in known], axis=1)
    return Scores(
        seeds=tuple(scored["seed"].tolist()),
        accuracies=scored[column].to_numpy(dtype=float),
        correct=correct,
        images=images if correct is None else len(correct),
    )
