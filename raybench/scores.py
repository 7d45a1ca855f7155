"""Accuracies and outcomes of trials in, the scores of a configuration out, with each image's outcome where known."""

import math
from collections.abc import Iterable, Mapping

import numpy as np

from raybench.outcomes import Outcome
from raybench.stats import Scores


def scores_of(
    seeds: Iterable[int],
    accuracies: Iterable[float],
    trial_ids: Iterable[str],
    outcomes: Mapping[str, Outcome],
    images: int | None = None,
) -> Scores:
    """What the trials of one configuration scored on one split.

    Args:
        seeds: of each trial.
        accuracies: of each trial, on that split; NaN where a trial has none, which leaves it out.
        trial_ids: of each trial.
        outcomes: on that split, by trial id; they count where every trial with a score has them, on the
            same images.
        images: size of that split, used where the outcomes are not known.
    """
    scored = [trial for trial in zip(seeds, accuracies, trial_ids, strict=True) if math.isfinite(trial[1])]
    known = [outcomes[trial_id] for _, _, trial_id in scored if trial_id in outcomes]
    correct = None
    if len(known) == len(scored) and len({outcome.images for outcome in known}) == 1:
        correct = np.stack([outcome.correct for outcome in known], axis=1)
    return Scores(
        seeds=tuple(seed for seed, _, _ in scored),
        accuracies=np.array([accuracy for _, accuracy, _ in scored], dtype=float),
        correct=correct,
        images=images if correct is None else len(correct),
    )
