"""One learning curve: errors at a few train_sizes in, a distribution over curves that fit them out.

Every curve falls from an error at no data towards one that no amount of data removes. With x = log(n / largest n),
a scale s (the error at the largest size) and shapes relative to it:

    power law    s (r + (1 - r) exp(-c x))                        Hestness et al. (2017), arXiv 1712.00409
    MMF          s (r + (e - r) / (1 + k exp(c x)))               Mohr et al. (2022), LCDB, ECML PKDD
    Weibull      s (r + (e - r) exp(-k exp(c x)))                 the same

`r` is the share of the error that stays, `e` the error at no data, `c` how fast it falls; `k` makes x = 0 give s.

Method: all shapes of a grid, each with its scale by weighted least squares (in closed form, as its variance).
Within a family they are weighed by their likelihood; families, and *discrepancies*, by how well each predicts the
largest sizes from the smaller ones. The discrepancy is what makes extrapolation honest: real curves leave their family
by some share of the error for each e-fold of size. Three sizes leave a shape of three parameters no freedom: the grid,
which is a prior, then decides how wide the answer is. Weighing many families as Domhan et al. (2015), IJCAI, do for
epochs; Viering and Loog (2021), arXiv 2103.10948, on how curves of several sizes behave and misbehave.

The grid and the priors of families and discrepancies were fixed on curves of LCDB 1.1 (Yan, Mohr and Viering 2025,
arXiv 2505.15657), before any curve of this project was looked at; docs/decisions/learning-curves.md has the figures.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp, ndtr

FEWEST_SIZES = 3
REMAINS = np.linspace(0.0, 0.95, 14)
"""Shares of the error that no amount of data removes."""
RATES = np.geomspace(0.05, 2.0, 16)
"""How fast curves fall: exponents of n."""
STARTS = np.array([1.05, 1.4, 2.2, 5.0])
"""Error at no data, over that at the smallest size; it is 1 at most."""
MISFITS = np.array([0.005, 0.015, 0.04])
"""How far sizes lie from their curve, as a share of the error, beside what seeds explain."""
FAMILIES = {"power": 0.45, "mmf": 0.45, "weibull": 0.1}
"""Families and their prior weights."""
DISCREPANCIES = {0.02: 0.65, 0.08: 0.2, 0.25: 0.15}
"""By how large a share of the error a curve may leave its family for each e-fold of size, and prior weights."""
NEGLIGIBLE = 1e-4
"""Curves that weigh less than this share of the heaviest are dropped."""
LEAST_ERROR = 1e-4
BISECTIONS = 30


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Shapes:
    """Curves relative to the error at the largest size."""

    family: str
    remains: np.ndarray
    """[shapes]."""
    rates: np.ndarray
    """[shapes]."""
    starts: np.ndarray
    """[shapes]; infinite for power laws."""

    def at(self, x: np.ndarray) -> np.ndarray:
        """Relative errors [shapes, sizes] at x = log(size / largest size) [sizes]."""
        r, c, e = (each[:, None] for each in (self.remains, self.rates, self.starts))
        if self.family == "power":
            return np.asarray(r + (1 - r) * np.exp(-c * x))
        odds = (e - r) / (1 - r)
        still = 1 / (1 + (odds - 1) * np.exp(c * x)) if self.family == "mmf" else np.exp(-np.log(odds) * np.exp(c * x))
        return np.asarray(r + (e - r) * still)


def _shapes(family: str, smallest: float, largest: float) -> Shapes:
    """All shapes of a family, given the errors at the smallest and at the largest size."""
    starts = np.array([math.inf])
    if family != "power":
        starts = np.unique(np.minimum(STARTS * smallest, 1.0)) / largest
        starts = starts[starts > STARTS[0]] if (starts > STARTS[0]).any() else STARTS[:1]
    r, c, e = (each.ravel() for each in np.meshgrid(REMAINS, RATES, starts, indexing="ij"))
    return Shapes(family=family, remains=r, rates=c, starts=e)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Fitted:
    """Shapes of one family with their scales, for each misfit; weights sum to 1."""

    shapes: Shapes
    log_weights: np.ndarray
    """[misfits, shapes]."""
    scales: np.ndarray
    """[misfits, shapes]: error at the largest size."""
    scale_variances: np.ndarray
    """[misfits, shapes]."""


def _fit_family(family: str, sizes: np.ndarray, errors: np.ndarray, variances: np.ndarray) -> _Fitted:
    shapes = _shapes(family, float(errors[0]), float(errors[-1]))
    relative = shapes.at(np.log(sizes / sizes[-1]))
    noise = variances + (MISFITS[:, None] * errors) ** 2
    precision = 1 / noise
    scale_variances = 1 / np.einsum("sk,mk->ms", relative**2, precision)
    scales = scale_variances * np.einsum("sk,mk->ms", relative, precision * errors)
    residuals = errors - scales[..., None] * relative
    squares = np.einsum("msk,mk->ms", residuals**2, precision)
    log_weights = (np.log(scale_variances) - squares - np.log(noise).sum(axis=1)[:, None]) / 2
    return _Fitted(
        shapes=shapes,
        log_weights=log_weights - logsumexp(log_weights),
        scales=scales,
        scale_variances=scale_variances,
    )


def _held_out(family: str, sizes: np.ndarray, errors: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """Log density [discrepancies] of the error at the largest size, predicted from the others."""
    fitted = _fit_family(family, sizes[:-1], errors[:-1], variances[:-1])
    distance = math.log(sizes[-1] / sizes[-2])
    relative = fitted.shapes.at(np.array([distance]))[:, 0]
    means = fitted.scales * relative
    known = fitted.scale_variances * relative**2 + (MISFITS[:, None] * means) ** 2 + variances[-1]
    spread = known + (np.array(list(DISCREPANCIES))[:, None, None] * distance * means) ** 2
    densities = fitted.log_weights - (np.log(spread) + (errors[-1] - means) ** 2 / spread) / 2
    held: np.ndarray = logsumexp(densities, axis=(1, 2))
    return held


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Curve:
    """Weighted curves through the errors of one configuration."""

    sizes: np.ndarray
    """[sizes] that were measured, smallest first."""
    families: tuple[Shapes, ...]
    """Curves of each family, those that weigh something."""
    weights: np.ndarray
    """[curves], over all families in their order; they sum to 1, as one curve stands here once for each misfit and
    discrepancy that it is likely with."""
    scales: np.ndarray
    """[curves]: error at the largest size."""
    scale_variances: np.ndarray
    misfits: np.ndarray
    discrepancies: np.ndarray

    def relative(self, sizes: np.ndarray) -> np.ndarray:
        """Errors [curves, sizes] relative to that at the largest size."""
        x = np.log(sizes / self.sizes[-1])
        return np.concatenate([shapes.at(x) for shapes in self.families])

    def distances(self, sizes: np.ndarray) -> np.ndarray:
        """How many e-folds [sizes] lie between each size and the nearest that was measured."""
        away: np.ndarray = np.abs(np.log(sizes[:, None] / self.sizes)).min(axis=1)
        return away

    def quantiles(self, sizes: np.ndarray, variances: np.ndarray, chances: tuple[float, ...]) -> np.ndarray:
        """Errors [sizes, chances] that a measurement at these sizes stays below.

        Args:
            sizes: [sizes].
            variances: [sizes] of the measurement itself.
            chances: between 0 and 1.
        """
        relative = self.relative(sizes)
        means = self.scales[:, None] * relative
        away = self.discrepancies[:, None] * self.distances(sizes)
        spread = self.scale_variances[:, None] * relative**2 + (self.misfits[:, None] ** 2 + away**2) * means**2
        deviations = np.sqrt(spread + variances)
        columns = []
        scratch = np.empty_like(means)  # of hundreds of megabytes, which are not asked for anew ninety times
        for chance in chances:
            low, high = (means - 8 * deviations).min(axis=0), (means + 8 * deviations).max(axis=0)
            for _ in range(BISECTIONS):
                middle = (low + high) / 2
                np.subtract(middle, means, out=scratch)
                np.divide(scratch, deviations, out=scratch)
                below = self.weights @ ndtr(scratch, out=scratch) < chance
                low, high = np.where(below, middle, low), np.where(below, high, middle)
            columns.append((low + high) / 2)
        stacked: np.ndarray = np.clip(np.stack(columns, axis=1), 0.0, 1.0)
        return stacked

    def chance_of_gain(self, sizes: np.ndarray, gain: float) -> np.ndarray:
        """Chance [sizes] that the error at each size is lower by at least `gain` than at the largest that was run."""
        relative = self.relative(sizes)
        means = self.scales[:, None] * (1 - relative)
        away = self.discrepancies[:, None] * self.distances(sizes) * self.scales[:, None] * relative
        deviations = np.sqrt(away**2 + self.scale_variances[:, None] * (1 - relative) ** 2) + LEAST_ERROR / 10
        means -= gain
        means /= deviations
        chances: np.ndarray = self.weights @ ndtr(means, out=means)
        return chances


def fit_curve(sizes: np.ndarray, errors: np.ndarray, variances: np.ndarray) -> Curve:
    """Fit all families to the errors of one configuration.

    Assumes: sizes are independent, errors normal about their curve.

    Args:
        sizes: [k >= 3] images, ascending.
        errors: [k] fractions of images classified wrongly.
        variances: [k] of the errors, from seeds.
    """
    errors = np.maximum(errors, LEAST_ERROR)
    held = {}
    for family, prior in FAMILIES.items():
        held[family] = math.log(prior) + np.log(list(DISCREPANCIES.values()))
        for left_out in range(min(2, len(sizes) - FEWEST_SIZES + 1)):
            end = len(sizes) - left_out
            held[family] = held[family] + _held_out(family, sizes[:end], errors[:end], variances[:end])
    heaviest = logsumexp(list(held.values()))
    parts = [_weighted(_fit_family(name, sizes, errors, variances), held[name] - heaviest) for name in FAMILIES]
    weights = np.concatenate([part.weights for part in parts])
    return Curve(
        sizes=sizes,
        families=tuple(part.shapes for part in parts),
        weights=weights / weights.sum(),
        scales=np.concatenate([part.scales for part in parts]),
        scale_variances=np.concatenate([part.scale_variances for part in parts]),
        misfits=np.concatenate([part.misfits for part in parts]),
        discrepancies=np.concatenate([part.discrepancies for part in parts]),
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Weighted:
    shapes: Shapes
    weights: np.ndarray
    scales: np.ndarray
    scale_variances: np.ndarray
    misfits: np.ndarray
    discrepancies: np.ndarray


def _weighted(fitted: _Fitted, log_discrepancies: np.ndarray) -> _Weighted:
    """Curves of a family that weigh something: one for each discrepancy, misfit and shape."""
    weights = np.exp(log_discrepancies[:, None, None] + fitted.log_weights)
    of, misfit, shape = np.nonzero(weights > NEGLIGIBLE * weights.max())
    shapes = fitted.shapes
    return _Weighted(
        shapes=Shapes(
            family=shapes.family,
            remains=shapes.remains[shape],
            rates=shapes.rates[shape],
            starts=shapes.starts[shape],
        ),
        weights=weights[of, misfit, shape],
        scales=fitted.scales[misfit, shape],
        scale_variances=fitted.scale_variances[misfit, shape],
        misfits=MISFITS[misfit],
        discrepancies=np.array(list(DISCREPANCIES))[of],
    )
