"""Which configurations cannot be told apart: the scores of a group in, tie groups and near-best out.

Every pair is compared on the seeds and images that it shares. Seeds being few, the variances over seeds of
all pairs inform one another (`raybench.variance.moderate`); pairs being many, a difference counts only where
it is more than the largest that chance gives (`raybench.stats.told_apart`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from raybench.stats import Estimate, Scores, difference_interval, mean_interval, told_apart
from raybench.variance import Variance, moderate, variance_over_seeds


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparisons:
    """All configurations of a group, ready to be compared in pairs."""

    scores: tuple[Scores, ...]
    """Best first."""
    pair_variances: dict[tuple[int, int], Variance]
    """Variance over shared seeds of the difference of two, by their places in `scores`, the smaller first."""

    def difference(self, a: int, b: int) -> Estimate:
        """How much more accurate the a-th is than the b-th, for a < b."""
        return difference_interval(self.scores[a], self.scores[b], seed_variance=self.pair_variances.get((a, b)))


def compare(scores: Sequence[Scores]) -> Comparisons:
    """Prepare the comparison of a group's configurations, given best first."""
    differences = {}
    for a, b in combinations(range(len(scores)), 2):
        by_seed = dict(zip(scores[b].seeds, scores[b].accuracies, strict=True))
        pairs = zip(scores[a].seeds, scores[a].accuracies, strict=True)
        shared = np.array([accuracy - by_seed.get(seed, math.nan) for seed, accuracy in pairs])
        shared = shared[np.isfinite(shared)]
        if len(shared) > 1:
            differences[a, b] = variance_over_seeds(shared)
    # All pairs of C configurations over S seeds come from (C - 1)(S - 1) free residuals.
    most_seeds = max((len(each.seeds) for each in scores), default=1)
    freedom = (len(scores) - 1) * (most_seeds - 1)
    moderated = moderate(list(differences.values()), freedom)
    return Comparisons(scores=tuple(scores), pair_variances=dict(zip(differences, moderated, strict=True)))


def tie_groups(scores: Sequence[Scores]) -> list[float]:
    """Number of the tie group of each configuration, given best first.

    Greedy from the top: the best of those left shares a number, from 1, with all that cannot be told apart
    from it. Two members of a group need not be alike, and a group need not be a stretch of the ranking: a
    configuration whose seeds scatter can be tied with the best while a steadier one above it is not.

    Returns:
        NaN where nothing is known of how sure a score is (one seed and no number of images).
    """
    comparisons = compare(scores)
    groups = [math.nan] * len(scores)
    left = [place for place, each in enumerate(scores) if math.isfinite(mean_interval(each).standard_error)]
    number = 0
    while left:
        number += 1
        leader, rest = left[0], left[1:]
        apart = [each for each in rest if told_apart(comparisons.difference(leader, each), len(scores))]
        for each in set(left) - set(apart):
            groups[each] = number
        left = apart
    return groups


def near_best(scores: Sequence[Scores]) -> list[int]:
    """Places of the configurations, given best first, that lie within one standard error of the best.

    The standard error is that of the difference to the best. The rule for choosing the simplest model that
    is about as good as the best: Breiman et al. (1984), Classification and Regression Trees, section 3.4.3.
    One standard error asks for less proof than 95 %: with few seeds nearly everything is within that of the
    best, and the cheapest of nearly everything is a poor choice.
    Falls back: the best alone, where standard errors are unknown.
    """
    comparisons = compare(scores)
    near = [0] if scores else []
    for place in range(1, len(scores)):
        difference = comparisons.difference(0, place)
        if difference.value <= difference.standard_error:
            near.append(place)
    return near


def intervals(scores: Sequence[Scores]) -> list[Estimate]:
    """Interval of each configuration's mean, the variances over seeds informing one another."""
    variances = [variance_over_seeds(each.accuracies[np.isfinite(each.accuracies)]) for each in scores]
    return [
        mean_interval(each, seed_variance=variance) for each, variance in zip(scores, moderate(variances), strict=True)
    ]
