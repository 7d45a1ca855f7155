"""Which configuration is probably the best: scores of all in, the probability of being best of each out.

Estimand: the probability that a configuration has the highest expected accuracy of all, over new seeds and new test
images of the same kind, given what was measured. Calibrated means: of the configurations that are given 0.8,
80 % are the best. `docs/decisions/probability-of-best.md` has the figures.

Method: a hierarchical model of the true accuracies, after Rubin (1981), J. Educ. Stat. 6, 377-401.

* Noise. Measured means differ from the true ones by the images, whose covariance between configurations is estimated
  from each image's outcomes, and by the seeds, whose variances (without what all configurations share of a seed)
  inform one another (`variance.learn_prior`). How well these variances are known is part of the doubt: they are
  drawn from scaled inverse chi-square distributions; a spread over seeds far above that of images is taken to
  be less likely, as by a half-Cauchy prior (Gelman 2006, Bayesian Anal. 1, 515-534).
* Spread. Configurations lie around a common mean with an unknown spread, from a third of the noise to thirty times
  it, all magnitudes alike. Or they are two groups, a better and a worse, around means of their own: so one that
  is far ahead, or a field of equals far below, does not set how far apart the best are taken to be. All
  groupings that follow the order of the means are averaged over, each weighed by how well it explains the means
  (Hoeting et al. 1999, Stat. Sci. 14, 382-401).

A plain bootstrap over few seeds knows neither: it gives one of two equal configurations 0.975 in a quarter of cases.

Assumes: seeds' effects are about normal; images are independent.
Covered: configurations with two seeds or more in common, each image's outcome known, on the same images.
Not covered, and therefore NaN: one seed, or outcomes unknown, since how far the images move a difference can then
only be bounded; one configuration alone; more contenders than `MOST_CONTENDERS`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from raybench.stats import Scores
from raybench.variance import Variance, Variances, binomial_units, learn_prior

FEWEST_SEEDS = 2
FEWEST_IMAGES = 30
"""Below, an accuracy is far from normal."""
MOST_CONTENDERS = 100
"""The rest has no chance, or the probabilities are left out."""
HOPELESS = 5.0
"""Standard errors behind the best that leave no chance."""
RANDOM_SEED = 20200610
"""Of the draws: the same scores always have the same probabilities."""
NOISES = 48
"""How many values the doubt about variances is made of."""
DRAWS = 4000
"""Of true accuracies, each with its mirror image."""
SPREADS = np.geomspace(0.3, 30, 16)
"""Spread of configurations around their mean, in standard errors."""
GAPS = np.array([0, *np.geomspace(1, 30, 7)])
"""Spread of the means of two groups, in standard errors; with 0 they are one."""
CHANCE_OF_TWO_GROUPS = 0.5
SEEDS_TO_IMAGES = 3.0
"""Spread over seeds, in residual errors of images, above which it is taken to be less and less likely."""
LEAST_VARIANCE = 0.1
"""Of the number of images that a configuration gets right: networks that agree on every image are not known exactly."""


def probabilities_of_best(scores: Sequence[Scores]) -> list[float]:
    """Probability that each configuration has the highest expected accuracy; they add up to 1.

    The same scores in the same order always give the same probabilities: random numbers have a fixed seed.

    Args:
        scores: of all configurations that compete, in any order; seeds that not all of them have are left out.

    Returns:
        All NaN where it is unknown: fewer than two configurations, fewer than two seeds that all of them share, an
        image's outcome unknown or on other images, fewer than `FEWEST_IMAGES`, or more than `MOST_CONTENDERS` within
        reach of the best. 0 for those out of reach.
    """
    unknown = [math.nan] * len(scores)
    correct = _outcomes(scores)
    if correct is None:
        return unknown
    means = np.array([each.mean() for each in correct])
    best_first = np.argsort(-means, kind="stable")
    contenders = best_first[:MOST_CONTENDERS]
    evidence = _evidence(np.stack([correct[place] for place in contenders], axis=1))
    rng = np.random.default_rng(RANDOM_SEED)
    noise = _noise(evidence, rng)
    if len(scores) > MOST_CONTENDERS:
        behind = means[contenders[0]] - means[best_first[MOST_CONTENDERS]]
        variance = float(np.median(np.trace(noise.covariances, axis1=1, axis2=2))) / MOST_CONTENDERS
        if behind < HOPELESS * math.sqrt(2 * variance):
            return unknown
    chances = np.zeros(len(scores))
    chances[contenders] = _chances(evidence.means, noise, rng)
    return [float(chance) for chance in chances]


def _outcomes(scores: Sequence[Scores]) -> list[np.ndarray] | None:
    """Outcomes [images, seeds] of each configuration on the seeds that all share; None where they do not suffice."""
    if len(scores) < 2 or any(each.correct is None for each in scores):  # noqa: PLR2004, one has no rival
        return None
    shared = sorted(set.intersection(*(set(_scored_seeds(each)) for each in scores)))
    images = {0 if each.correct is None else len(each.correct) for each in scores}
    if len(shared) < FEWEST_SEEDS or len(images) > 1 or min(images) < FEWEST_IMAGES:
        return None
    return [
        each.correct if list(each.seeds) == shared else each.correct[:, [each.seeds.index(seed) for seed in shared]]
        for each in scores
        if each.correct is not None
    ]


def _scored_seeds(scores: Scores) -> list[int]:
    return [seed for seed, accuracy in zip(scores.seeds, scores.accuracies, strict=True) if math.isfinite(accuracy)]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Evidence:
    """What was measured of k configurations."""

    means: np.ndarray
    """[k] accuracies over seeds and images."""
    from_images: np.ndarray
    """[k, k] covariance of the means from images, their residual with seeds included."""
    over_seeds: tuple[Variance, ...]
    """k variances over seeds, moderated, without what all configurations share of a seed."""
    residual: np.ndarray
    """[k] part of those variances that is from images."""
    pooled: bool
    """Whether the configurations' variances over seeds are one, known or unknown together."""
    seeds: int
    images: int


def _evidence(correct: np.ndarray) -> _Evidence:
    """Analysis of variance of outcomes [images, configurations, seeds]."""
    images, k, seeds = correct.shape
    accuracies = correct.mean(axis=0)
    by_image = correct.mean(axis=2)
    left = accuracies - accuracies.mean(axis=0) - accuracies.mean(axis=1, keepdims=True) + accuracies.mean()
    own = (left**2).sum(axis=1) / ((seeds - 1) * (k - 1) / k)
    freedom = np.full(k, seeds - 1)
    units = binomial_units(accuracies.mean(axis=1))
    prior = learn_prior(Variances(variances=own, degrees_of_freedom=freedom).over(units), (k - 1) * (seeds - 1))
    # of a binary outcome the variance over seeds, from its mean; over seeds alone is taken off, images are left
    within = (by_image * (1 - by_image)).mean(axis=0) * seeds / (seeds - 1)
    residual = np.maximum(within - accuracies.var(axis=1, ddof=1), 0) / images
    return _Evidence(
        means=accuracies.mean(axis=1),
        from_images=np.cov(by_image, rowvar=False) / images,
        over_seeds=tuple(
            prior.times(float(unit)).moderate(Variance(variance=float(variance), degrees_of_freedom=seeds - 1))
            for variance, unit in zip(own, units, strict=True)
        ),
        residual=residual,
        # of two configurations only the difference is seen, so theirs are one
        pooled=k == 2 or math.isinf(prior.degrees_of_freedom),  # noqa: PLR2004, two configurations
        seeds=seeds,
        images=images,
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Noise:
    """What the covariance of the errors of the means may be."""

    covariances: np.ndarray
    """[noises, k, k]"""
    log_weights: np.ndarray
    """[noises] of each, before the means are looked at."""


def _noise(evidence: _Evidence, rng: np.random.Generator) -> _Noise:
    k = len(evidence.means)
    variances = np.array([each.variance for each in evidence.over_seeds])
    freedom = np.array([each.degrees_of_freedom for each in evidence.over_seeds])
    drawn = rng.chisquare(freedom[:1] if evidence.pooled else freedom, (NOISES, 1 if evidence.pooled else k))
    beyond_images = np.maximum(variances * freedom / drawn - evidence.residual, 0)
    floor = LEAST_VARIANCE / evidence.images**2
    relative = beyond_images.mean(axis=1) / max(float(evidence.residual.mean()), floor)
    diagonal = (beyond_images / evidence.seeds + floor)[:, :, None] * np.eye(k)
    return _Noise(
        covariances=evidence.from_images + diagonal,
        log_weights=-0.5 * np.log1p(relative / SEEDS_TO_IMAGES**2),
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Turned:
    """The k - 1 contrasts between k means, turned for each noise so that their errors are independent."""

    basis: np.ndarray
    """[noises, k, k - 1]"""
    error: np.ndarray
    """[noises, k - 1] variances"""
    seen: np.ndarray
    """[noises, k - 1] the measured contrasts"""
    direction: np.ndarray
    """[noises, groupings, k - 1] what the better group is above the other; a grouping for each size of it."""


def _turned(means: np.ndarray, covariances: np.ndarray) -> _Turned:
    k = len(means)
    contrasts = np.linalg.svd(np.eye(k) - 1 / k)[0][:, : k - 1]
    error, turned = np.linalg.eigh(contrasts.T @ covariances @ contrasts)
    basis = contrasts @ turned
    better = np.zeros((k - 1, k))
    better[:, np.argsort(-means, kind="stable")] = np.tri(k - 1, k)
    return _Turned(basis=basis, error=error, seen=means @ basis, direction=better @ basis)


def _chances(means: np.ndarray, noise: _Noise, rng: np.random.Generator) -> np.ndarray:
    """Probability of being best of k configurations, from their means and what the noise may be.

    Every combination of gap, noise, grouping and spread is weighed by how well it explains the means, and the true
    accuracies are drawn from each as often as it weighs.
    """
    turned = _turned(means, noise.covariances)
    unit = float(np.median(turned.error.mean(axis=1)))
    spreads, gaps = unit * SPREADS**2, 2 * unit * GAPS**2
    variance = turned.error[:, None] + spreads[:, None]
    plain = noise.log_weights[:, None] - 0.5 * (np.log(variance) + turned.seen[:, None] ** 2 / variance).sum(axis=2)
    # The gap adds a variance along one direction: matrix determinant lemma, formula of Sherman and Morrison.
    inverse = (1 / variance).swapaxes(1, 2)
    known = turned.direction**2 @ inverse
    along = (turned.direction * turned.seen[:, None]) @ inverse
    gap = gaps[:, None, None, None]
    logs = plain[:, None] + 0.5 * (gap * along**2 / (1 + gap * known) - np.log1p(gap * known))
    logs += _log_priors(len(means))[:, None, :, None]

    weights = np.cumsum(np.exp(logs - logs.max()))
    steps = weights[-1] * (np.arange(DRAWS) + 0.5) / DRAWS
    o, g, m, t = np.unravel_index(np.searchsorted(weights, steps), logs.shape)
    kept = 1 / (1 + gaps[o] * known[g, m, t])
    normal = rng.standard_normal((DRAWS, len(means)))
    of_noise = [(place, np.flatnonzero(g == place)) for place in np.unique(g)]
    best = np.zeros(len(means))
    for sign in (1, -1):
        shift = gaps[o] * kept * along[g, m, t] + sign * np.sqrt(gaps[o] * kept) * normal[:, 0]
        centre = shift[:, None] * turned.direction[g, m]
        share = spreads[t][:, None] / variance[g, t]
        true = centre + share * (turned.seen[g] - centre) + sign * np.sqrt(share * turned.error[g]) * normal[:, 1:]
        for place, draws in of_noise:
            best += np.bincount((true[draws] @ turned.basis[place].T).argmax(axis=1), minlength=len(means))
    chances: np.ndarray = best / best.sum()
    return chances


def _log_priors(k: int) -> np.ndarray:
    """[gaps, groupings] of k configurations: all sizes of the better group alike, all groups of a size alike."""
    size = np.arange(1, k)
    groups = special.gammaln(k + 1) - special.gammaln(size + 1) - special.gammaln(k - size + 1)
    two = math.log(CHANCE_OF_TWO_GROUPS / (len(GAPS) - 1)) - groups
    one = np.full(k - 1, math.log1p(-CHANCE_OF_TWO_GROUPS))
    return np.stack([one, *[two] * (len(GAPS) - 1)]) - math.log(k - 1)
