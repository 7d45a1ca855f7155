"""Differences between configurations of a dataset: scores in; for each two one interval, wherever it is asked for.

Two of the same train_size are compared as a ranking of that size compares them, two of different sizes as a ranking
over all sizes does. So a gain, a step along a frontier and a tie rest on the same standard error.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from raybench.stats import Estimate, Scores, difference_interval
from raybench.ties import compare
from raybench.variance import NO_PRIOR, Prior, Variance, Variances, binomial_units, learn_prior, variance_over_seeds


@dataclass(kw_only=True, slots=True, eq=False)
class Contrasts:
    """The configurations of a dataset, ready to be compared two by two or in averages.

    Args:
        scores: of each configuration.
        sizes: train_size of each; missing sizes are one size.
        complete: whether all seeds of each completed. The others are compared too, but tell nothing of variances.
    """

    scores: Sequence[Scores]
    sizes: Sequence[Hashable]
    complete: Sequence[bool]
    _units: np.ndarray = field(init=False)
    """[configurations] in which variances over seeds are alike."""
    _within: dict[Hashable, Prior] = field(init=False)
    """Of differences at one size."""
    _across: Prior = field(init=False)
    """Of differences between sizes."""
    _averages: Prior | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        means = [each.accuracies.mean() if len(each.seeds) else math.nan for each in self.scores]
        self._units = binomial_units(np.array(means))
        places = [place for place, whole in enumerate(self.complete) if whole]
        by_size: dict[Hashable, list[Scores]] = {}
        for place in places:
            by_size.setdefault(self._size(place), []).append(self.scores[place])
        self._within = {size: compare(scores).prior for size, scores in by_size.items()}
        self._across = compare([self.scores[place] for place in places]).prior if len(by_size) > 1 else NO_PRIOR

    def difference(self, a: int, b: int) -> Estimate:
        """How much more accurate the a-th is than the b-th."""
        return difference_interval(self.scores[a], self.scores[b], prior=self._prior(a, b))

    def mean_differences(self, groups: Sequence[Sequence[tuple[int, int]]]) -> list[Estimate]:
        """How much more accurate, on average over the pairs (a, b) of each group, a is than b.

        Estimand: the mean difference of these very pairs, not of others like them. Method: pairs share seeds and
        images, so their mean is taken seed by seed and image by image. Its variance over seeds is moderated by what
        the groups tell of one another (`raybench.variance.learn_prior`), in units of the variance that the mean
        would have if what a seed does to one pair had nothing to do with what it does to another.
        Falls back: with fewer than three groups, to the group's own variance.
        """
        means = [_averaged(self.scores, pairs) for pairs in groups]
        independent = [self._independent(pairs) for pairs in groups]
        own = [_seed_variance(mean) for mean in means]
        usable = [place for place, unit in enumerate(independent) if unit > 0 and own[place].degrees_of_freedom > 0]
        seeds = max((len(new.seeds) for new, _ in means), default=1)
        learned = learn_prior(
            Variances(
                variances=np.array([own[place].variance / independent[place] for place in usable]),
                degrees_of_freedom=np.array([int(own[place].degrees_of_freedom) for place in usable], dtype=int),
            ),
            (len(self.scores) - 1) * (seeds - 1),
        )
        return [
            difference_interval(new, old, prior=learned.times(unit) if unit > 0 else NO_PRIOR)
            for (new, old), unit in zip(means, independent, strict=True)
        ]

    def _independent(self, pairs: Sequence[tuple[int, int]]) -> float:
        """Variance over seeds of the pairs' mean difference, if seeds did to each pair something else."""
        known = [self._prior(a, b).moderate(_seed_variance((self.scores[a], self.scores[b]))) for a, b in pairs]
        return sum(each.variance for each in known) / len(known) ** 2

    def _prior(self, a: int, b: int) -> Prior:
        alike = self._size(a) == self._size(b)
        prior = self._within.get(self._size(a), NO_PRIOR) if alike else self._across
        return prior.times(float(self._units[a] + self._units[b]))

    def _size(self, place: int) -> Hashable:
        size = self.sizes[place]
        return None if pd.isna(size) else size  # type: ignore[call-overload]


def _seed_variance(pair: tuple[Scores, Scores]) -> Variance:
    """Variance over the shared seeds of a difference."""
    new, old = (dict(zip(each.seeds, each.accuracies, strict=True)) for each in pair)
    return variance_over_seeds(np.array([new[seed] - old[seed] for seed in sorted(new.keys() & old.keys())]))


def _averaged(scores: Sequence[Scores], pairs: Sequence[tuple[int, int]]) -> tuple[Scores, Scores]:
    """What the first and the second of all pairs scored together, on the seeds that all share."""
    sides = [[scores[pair[side]] for pair in pairs] for side in (0, 1)]
    seeds = sorted(set.intersection(*(set(each.seeds) for side in sides for each in side)))
    new, old = (_mean_scores(side, seeds) for side in sides)
    return new, old


def _mean_scores(scores: Sequence[Scores], seeds: Sequence[int]) -> Scores:
    """The mean of several configurations, seed by seed and image by image."""
    places = [[each.seeds.index(seed) for seed in seeds] for each in scores]
    accuracies = [each.accuracies[rows] for each, rows in zip(scores, places, strict=True)]
    correct = [
        None if each.correct is None else each.correct[:, rows] for each, rows in zip(scores, places, strict=True)
    ]
    known = [each for each in correct if each is not None]
    alike = len(known) == len(scores) and len({each.shape for each in known}) == 1
    counts = [each.images for each in scores]
    return Scores(
        seeds=tuple(seeds),
        accuracies=np.mean(accuracies, axis=0),
        correct=np.mean(known, axis=0) if alike else None,
        images=min(count for count in counts if count is not None) if None not in counts else None,
    )
