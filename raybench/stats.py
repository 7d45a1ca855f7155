"""How sure we are of an accuracy or of a difference: scores of trials in, estimates with intervals out.

Two things make a measured accuracy doubtful, and both are counted wherever the data allow it:

* the seeds: another subset, initial weights, order or augmentation would have given another accuracy;
* the test images: another test split of the same size would have given another accuracy.

`Estimate.doubt` says which of them an interval covers; nothing is assumed silently. Missing is NaN.

Covered: accuracies (means over images), seeds shared between configurations or not.
Not covered: macro F1 and other scores that are no mean over images; the choice of the val split.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy import special, stats

from raybench.variance import NO_PRIOR, Prior, Variance, scaled, total, variance_over_seeds

CONFIDENCE = 0.95
POWER = 0.8


class Doubt(StrEnum):
    """What an interval covers."""

    SEEDS_AND_IMAGES = "seeds and test images"
    SEEDS = "seeds"
    """The number of test images is unknown."""
    IMAGES = "test images"
    """One seed: how far another would land is unknown."""
    UNKNOWN = "unknown"
    """One seed and no number of test images: there is no interval."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Scores:
    """What one configuration scored with each of its seeds, on one split of images."""

    seeds: tuple[int, ...]
    accuracies: np.ndarray
    """[seeds] fractions; NaN where a seed has no score."""
    correct: np.ndarray | None = None
    """[images, seeds] bool: which images each seed classified correctly; None where that is unknown."""
    images: int | None = None
    """How many images were scored; None where that is unknown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A mean or a difference with its confidence interval; NaN where the data allow none."""

    value: float
    low: float
    high: float
    standard_error: float
    degrees_of_freedom: float
    doubt: Doubt


DOUBTS: dict[tuple[bool, bool], Doubt] = {
    (True, True): Doubt.SEEDS_AND_IMAGES,
    (True, False): Doubt.SEEDS,
    (False, True): Doubt.IMAGES,
}
"""By whether the variance over seeds and the number of images are known."""


def wilson_interval(accuracy: float, images: int, confidence: float = CONFIDENCE) -> Estimate:
    """Interval for the accuracy of one trained network, from the number of its test images alone.

    Estimand: the share of all images like the test images that this network gets right.
    Assumes: test images are independent. Says nothing about other seeds.
    Method: score interval. Source: Wilson (1927), JASA 22, 209-212.
    """
    variance = Variance(variance=accuracy * (1 - accuracy) / images, degrees_of_freedom=math.inf)
    return _score_interval(accuracy, variance, images, Doubt.IMAGES, confidence)


def mean_interval(
    scores: Scores,
    *,
    prior: Prior = NO_PRIOR,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """Interval for the mean accuracy of a configuration.

    Estimand: accuracy expected of a new seed on new images of the same kind.
    Method: seeds and images are crossed random effects (every seed is scored on the same images), so the
    variance of the mean is var_seeds / S + var_images / n (+ residual / nS, which is in the first term),
    by analysis of variance from `correct`. Without it, accuracy x (1 - accuracy) / n bounds the second
    term from above. Degrees of freedom by Satterthwaite (1946). The interval is Student's t put into the
    score form with effective sample size accuracy x (1 - accuracy) / variance, which keeps it inside
    [0, 1]: Dean and Pagano (2015), J. Survey Stat. Methodol. 3, 484-503.
    Assumes: accuracies of seeds are about normal, images are independent.
    Falls back: one seed, to Wilson's interval (images only); no number of images, to Student's t over seeds
    alone; neither, to NaN.

    Args:
        scores: of one configuration; seeds without a score are left out.
        prior: what the variances over seeds of all configurations tell of this one's, from `variance.learn_prior`.
        confidence: chance that the interval covers the estimand.
    """
    scores = _scored(scores)
    count, n = len(scores.seeds), scores.images
    value = float(scores.accuracies.mean()) if count else math.nan
    if count == 0 or (count == 1 and not n):
        return _unknown(value)
    if count == 1 and n:
        return wilson_interval(value, n, confidence)
    from_seeds = scaled(prior.moderate(variance_over_seeds(scores.accuracies)), count)
    if not n:
        return _score_interval(value, from_seeds, n, Doubt.SEEDS, confidence)
    parts = _ImageVariance(from_images=value * (1 - value) / n, residual=0.0)
    if scores.correct is not None:
        parts = _image_variance(scores.correct.astype(float))
    return _score_interval(value, _both(from_seeds, parts, n), n, Doubt.SEEDS_AND_IMAGES, confidence)


def difference_interval(
    a: Scores,
    b: Scores,
    *,
    prior: Prior = NO_PRIOR,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """Interval for how much more accurate configuration a is than b.

    Estimand: difference of the accuracies expected of a new seed on new images of the same kind.
    Method: where two seeds or more are shared, everything is paired: the seed's difference over seeds, the
    image's difference over images, as crossed random effects (see `mean_interval`), with half an image
    added to either side as in Agresti and Min (2005), Stat. Med. 24, 729-740, so that a few images never
    decide. Student's t with Satterthwaite's degrees of freedom.
    Assumes: differences of seeds are about normal, images are independent.
    Falls back: without each image's outcome, to twice the binomial variance, which is too wide where
    both fail on the same images; fewer shared seeds than two, to independent seeds (Welch 1947); one seed
    each, to the images alone; no number of images, to the seeds alone; neither, to NaN.

    Args:
        a: scores of one configuration.
        b: scores of the other.
        prior: what the variances over seeds of all differences tell of this one's, from `variance.learn_prior`.
        confidence: chance that the interval covers the estimand.
    """
    a, b = _scored(a), _scored(b)
    if not a.seeds or not b.seeds:
        return _unknown(math.nan)
    shared = sorted(set(a.seeds) & set(b.seeds))
    if len(shared) > 1 or (shared and min(len(a.seeds), len(b.seeds)) == 1):
        a, b = _of_seeds(a, shared), _of_seeds(b, shared)
        from_seeds = scaled(prior.moderate(variance_over_seeds(a.accuracies - b.accuracies)), len(shared))
    else:
        from_seeds = _welch(a, b)
    value = float(a.accuracies.mean() - b.accuracies.mean())
    n = min(a.images or 0, b.images or 0)
    seeds_known = from_seeds.degrees_of_freedom > 0
    if not seeds_known and not n:
        return _unknown(value)
    variance = from_seeds
    if n:
        parts = _difference_image_variance(a, b)
        alone = Variance(variance=parts.from_images, degrees_of_freedom=math.inf)
        variance = _both(from_seeds, parts, n) if seeds_known else alone
    error = math.sqrt(variance.variance)
    half = _quantile(confidence, variance.degrees_of_freedom) * error
    return Estimate(
        value=value,
        low=value - half,
        high=value + half,
        standard_error=error,
        degrees_of_freedom=variance.degrees_of_freedom,
        doubt=DOUBTS[seeds_known, n > 0],
    )


def mean_accuracy(scores: Scores, seeds: Collection[int]) -> float:
    """Return the mean accuracy over these seeds, or over all where there are none; NaN without a score."""
    wanted = set(seeds or scores.seeds)
    of = [float(each) for seed, each in zip(scores.seeds, scores.accuracies, strict=True) if seed in wanted]
    return sum(of) / len(of) if of else math.nan


def detectable_gap(
    test_images: int,
    accuracy: float = 0.9,
    confidence: float = CONFIDENCE,
    power: float = POWER,
) -> float:
    """Smallest gap below `accuracy` that a test split of this size tells apart.

    Estimand: the difference in accuracy between two trained networks that a two-sided test finds with
    the given power. Method: normal approximation for two independent proportions, Fleiss, Levin and Paik
    (2003), section 4.2, without continuity correction. Networks that fail on the same images can be told
    apart at smaller gaps, and doubt about seeds comes on top.

    Returns:
        A fraction; NaN where no gap is large enough for so few images.
    """
    k = float(stats.norm.ppf(0.5 + confidence / 2) + stats.norm.ppf(power))
    # gap^2 n = k^2 (p q + (p - gap)(q + gap)), solved for gap
    p, q = accuracy, 1 - accuracy
    slope = k**2 * (p - q)
    gap = (slope + math.sqrt(slope**2 + 8 * (test_images + k**2) * k**2 * p * q)) / (2 * (test_images + k**2))
    return gap if gap <= accuracy else math.nan


def _scored(scores: Scores) -> Scores:
    """Without the seeds that have no score; `images` from `correct` where that is known."""
    finite = np.isfinite(scores.accuracies)
    correct = None if scores.correct is None else scores.correct[:, finite]
    return Scores(
        seeds=tuple(seed for seed, keep in zip(scores.seeds, finite, strict=True) if keep),
        accuracies=scores.accuracies[finite],
        correct=correct,
        images=scores.images if correct is None else len(correct),
    )


def _of_seeds(scores: Scores, seeds: Sequence[int]) -> Scores:
    places = [scores.seeds.index(seed) for seed in seeds]
    correct = None if scores.correct is None else scores.correct[:, places]
    return Scores(seeds=tuple(seeds), accuracies=scores.accuracies[places], correct=correct, images=scores.images)


@dataclass(frozen=True, kw_only=True, slots=True)
class _ImageVariance:
    """Parts of the variance of a mean over images and seeds."""

    from_images: float
    residual: float
    """Of image and seed together; the variance over seeds holds it already."""


def _image_variance(outcomes: np.ndarray) -> _ImageVariance:
    """Analysis of variance of outcomes [images, seeds], images and seeds crossed."""
    images, seeds = outcomes.shape
    by_image = outcomes.mean(axis=1, keepdims=True)
    of_images = seeds * float(by_image.var(ddof=1)) if images > 1 else math.nan
    if seeds == 1:
        return _ImageVariance(from_images=of_images / images, residual=0.0)
    left = outcomes - by_image - outcomes.mean(axis=0, keepdims=True) + outcomes.mean()
    residual = float((left**2).sum()) / max(1, (images - 1) * (seeds - 1))
    size = images * seeds
    return _ImageVariance(from_images=max(0.0, of_images - residual) / size, residual=residual / size)


def _difference_image_variance(a: Scores, b: Scores) -> _ImageVariance:
    if a.correct is None or b.correct is None or a.correct.shape[0] != b.correct.shape[0]:
        bound = sum(float((each.accuracies * (1 - each.accuracies)).mean()) / int(each.images or 0) for each in (a, b))
        return _ImageVariance(from_images=bound, residual=0.0)
    if a.seeds == b.seeds:
        parts = _image_variance(a.correct.astype(float) - b.correct.astype(float))
    else:
        parts = _image_variance(a.correct.mean(axis=1, keepdims=True) - b.correct.mean(axis=1, keepdims=True))
    return _ImageVariance(from_images=parts.from_images + 1 / a.correct.shape[0] ** 2, residual=parts.residual)


def _both(from_seeds: Variance, parts: _ImageVariance, images: int) -> Variance:
    """Variance of a mean over seeds and images; the residual is its least part over seeds."""
    over_seeds = Variance(
        variance=max(from_seeds.variance, parts.residual),
        degrees_of_freedom=from_seeds.degrees_of_freedom,
    )
    over_images = Variance(variance=parts.from_images, degrees_of_freedom=max(1, images - 1))
    return total(over_seeds, over_images)


def _welch(a: Scores, b: Scores) -> Variance:
    """Variance of the difference of two means over different seeds: Welch (1947), Biometrika 34, 28-35."""
    parts = [(variance_over_seeds(each.accuracies), len(each.seeds)) for each in (a, b)]
    if any(each.degrees_of_freedom == 0 for each, _ in parts):
        return Variance(variance=math.nan, degrees_of_freedom=0)
    return total(*(scaled(each, count) for each, count in parts))


def _quantile(confidence: float, freedom: float) -> float:
    chance = 0.5 + confidence / 2
    return float(special.ndtri(chance) if math.isinf(freedom) else special.stdtrit(freedom, chance))


def _score_interval(
    value: float,
    variance: Variance,
    images: int | None,
    doubt: Doubt,
    confidence: float,
) -> Estimate:
    """Wilson's interval with the number of images that would give this variance, and Student's quantile."""
    spread = value * (1 - value)
    if spread > 0 and variance.variance > 0:
        size, freedom = spread / variance.variance, variance.degrees_of_freedom
    elif spread <= 0 and images:
        # All right or all wrong: nothing was seen to vary, and the number of images says how little that proves.
        size, freedom = float(images), math.inf
    else:
        return _unknown(value)
    t = _quantile(confidence, freedom)
    shrink = 1 + t**2 / size
    centre = (value + t**2 / (2 * size)) / shrink
    half = t / shrink * math.sqrt(spread / size + t**2 / (4 * size) / size)
    return Estimate(
        value=value,
        low=max(0.0, centre - half),
        high=min(1.0, centre + half),
        standard_error=math.sqrt(spread / size),
        degrees_of_freedom=freedom,
        doubt=doubt,
    )


def _unknown(value: float) -> Estimate:
    nan = math.nan
    return Estimate(
        value=value,
        low=nan,
        high=nan,
        standard_error=nan,
        degrees_of_freedom=nan,
        doubt=Doubt.UNKNOWN,
    )
