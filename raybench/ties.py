"""Which configurations cannot be told apart: the scores of a group in, tie groups and near-best out.

Every pair is compared on the seeds and images that it shares. Seeds being few, the variances over seeds of
all pairs inform one another (`raybench.variance.learn_prior`); pairs being many, a difference counts only where
it is more than the largest that chance gives (`told_apart`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from scipy import special, stats

from raybench.stats import CONFIDENCE, Estimate, Scores, difference_interval, mean_interval
from raybench.variance import Prior, binomial_units, joined, learn_prior, variances_over_seeds

MANY = 8
"""Configurations from which on most of what is known of a variance is borrowed from others."""
CONFIDENCE_OF_MANY = 0.96
"""At which they are told apart: equals are at 95 % in 5.5 to 5.9 % of cases, at 96 % in less than 5 %."""
EXACTLY_COUNTED = 64
"""Up to so many configurations are counted one by one where the largest of their differences is judged."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparisons:
    """All configurations of a group, ready to be compared in pairs."""

    scores: tuple[Scores, ...]
    """Best first."""
    units: np.ndarray
    """[configurations] in which variances over seeds are alike; that of a difference is the sum of two."""
    prior: Prior
    """What the variances over shared seeds of the differences of all pairs tell of each, in such units."""

    def difference(self, a: int, b: int) -> Estimate:
        """How much more accurate the a-th is than the b-th."""
        unit = float(self.units[a] + self.units[b])
        return difference_interval(self.scores[a], self.scores[b], prior=self.prior.times(unit))


def compare(scores: Sequence[Scores]) -> Comparisons:
    """Prepare the comparison of a group's configurations, given best first."""
    by_seed, units = _by_seed(scores), _units(scores)
    pairs = [
        variances_over_seeds(by_seed[:, [a]] - by_seed[:, a + 1 :]).over(units[a] + units[a + 1 :])
        for a in range(len(scores) - 1)
    ]
    # All pairs of C configurations over S seeds come from (C - 1)(S - 1) free residuals.
    most_seeds = max((len(each.seeds) for each in scores), default=1)
    freedom = (len(scores) - 1) * (most_seeds - 1)
    return Comparisons(scores=tuple(scores), units=units, prior=learn_prior(joined(pairs), freedom))


def _units(scores: Sequence[Scores]) -> np.ndarray:
    return binomial_units(np.array([each.accuracies.mean() if len(each.seeds) else math.nan for each in scores]))


def _by_seed(scores: Sequence[Scores]) -> np.ndarray:
    """Accuracies [seeds, configurations]; NaN where a configuration has none for a seed."""
    rows = {seed: row for row, seed in enumerate(sorted({seed for each in scores for seed in each.seeds}))}
    table = np.full((len(rows), len(scores)), math.nan)
    for column, each in enumerate(scores):
        table[[rows[seed] for seed in each.seeds], column] = each.accuracies
    return table


def tie_groups(scores: Sequence[Scores]) -> list[float]:
    """Number of the tie group of each configuration, given best first.

    Greedy from the top: the best of those left shares a number, from 1, with all that cannot be told apart
    from it (`_told_apart_from`). Two members of a group need not be alike, and a group need not be a stretch
    of the ranking: a configuration whose seeds scatter can be tied with the best while a steadier one above it
    is not.

    Returns:
        NaN where nothing is known of how sure a score is (one seed and no number of images).
    """
    comparisons = compare(scores)
    groups = [math.nan] * len(scores)
    left = [place for place, each in enumerate(intervals(scores)) if math.isfinite(each.standard_error)]
    number = 0
    while left:
        number += 1
        leader, rest = left[0], left[1:]
        apart = _told_apart_from(leader, rest, comparisons)
        for each in set(left) - set(apart):
            groups[each] = number
        left = apart
    return groups


def _told_apart_from(leader: int, rest: Sequence[int], comparisons: Comparisons) -> list[int]:
    """Those of the rest that are told apart from the leader.

    Method: step-down, as Newman (1939), Biometrika 31, 20-30, and Keuls: whoever is told apart among all no longer
    counts as a candidate for the largest difference among those left. All are compared with one leader only, so the
    error stays at 5 %: before the first of the leader's equals is wrongly told apart, all of them are still
    counted. Without it, configurations far below would blur the difference between the two best.
    """
    differences = {each: comparisons.difference(leader, each) for each in rest}
    confidence = CONFIDENCE if len(comparisons.scores) < MANY else CONFIDENCE_OF_MANY
    apart: set[int] = set()
    counted = 0
    while counted != (counted := _counted(len(rest) + 1 - len(apart))):
        apart |= {each for each in rest if told_apart(differences[each], counted, confidence)}
    return [each for each in rest if each in apart]


def _counted(configurations: int) -> int:
    """At least so many; large numbers are rounded up to powers of two, as each has a distribution of its own."""
    return configurations if configurations <= EXACTLY_COUNTED else 1 << (configurations - 1).bit_length()


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
    units = _units(scores)
    prior = learn_prior(variances_over_seeds(_by_seed(scores)).over(units))
    return [mean_interval(each, prior=prior.times(float(unit))) for each, unit in zip(scores, units, strict=True)]


def told_apart(difference: Estimate, configurations: int, confidence: float = CONFIDENCE) -> bool:
    """Whether a difference is more than chance, when the largest of many differences is looked at.

    Method: studentized range over all configurations of the group, so that among equal ones the best and
    any other are told apart in at most 5 % of comparisons. Tukey (1949); with each pair's own variance and
    degrees of freedom, Games and Howell (1976), J. Educ. Stat. 1, 113-125.
    Returns False where the interval is unknown.
    """
    if not difference.standard_error > 0:
        return False
    freedom = difference.degrees_of_freedom
    t = abs(difference.value) / difference.standard_error
    alpha = 1 - confidence
    single = 2 * float(special.ndtr(-t) if math.isinf(freedom) else special.stdtr(freedom, -t))
    pairs = configurations * (configurations - 1) / 2
    # One pair alone and Bonferroni's bound lie on either side of the studentized range, which is slow.
    if single > alpha or configurations <= 2:  # noqa: PLR2004, two configurations are one pair
        return single <= alpha
    if single * pairs <= alpha:
        return True
    return _range_exceeded(configurations, alpha).by(math.sqrt(2) * t, freedom)


@dataclass(frozen=True, kw_only=True, slots=True)
class _RangeExceeded:
    """Which studentized differences exceed the range of so many configurations: 10 ms each to compute, so few are.

    A difference that is larger and better known than one that exceeds the range exceeds it as well, and one
    that is smaller and less well known than one that does not exceeds it no more.
    """

    configurations: int
    alpha: float
    exceeding: list[tuple[float, float]] = field(default_factory=list)
    """What was computed: studentized difference, degrees of freedom."""
    falling_short: list[tuple[float, float]] = field(default_factory=list)

    def by(self, studentized: float, freedom: float) -> bool:
        if any(studentized >= other and freedom >= known for other, known in self.exceeding):
            return True
        if any(studentized <= other and freedom <= known for other, known in self.falling_short):
            return False
        # With infinitely many degrees of freedom it is quick to compute, and the most likely to be exceeded.
        for least in (math.inf, freedom):
            chance = float(stats.studentized_range.sf(studentized, self.configurations, least))
            if math.isnan(chance) or chance > self.alpha:
                self.falling_short.append((studentized, least))
                return False
        self.exceeding.append((studentized, freedom))
        return True


@lru_cache(maxsize=100)
def _range_exceeded(configurations: int, alpha: float) -> _RangeExceeded:
    return _RangeExceeded(configurations=configurations, alpha=alpha)
