"""Made-up benchmarks whose truth is known: numbers of a study in, what raybench says of it and what is true out.

Every image has a difficulty, every configuration an affinity to it, every seed an effect that all configurations share
and one of its own; an image is classified correctly where these and chance add up to more than 0. All of them being
normal, the accuracy expected over new seeds and images is a normal probability, and known. Images and seeds are
crossed: each network of each seed is scored on the same images.

    python -m tests.known_truth 2000      # as many benchmarks for each number of seeds; prints all figures
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special

from raybench.best import probabilities_of_best
from raybench.stats import Estimate, Scores
from raybench.ties import compare, intervals, tie_groups

SEEDS = (2, 3, 5, 10)
MOST_UNEQUAL = 3.0
"""Times that the variance over seeds of one configuration is that of another."""
BINS = 10
FEWEST_CASES = 400


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """What makes accuracies doubtful."""

    images: int
    difficulty: float
    """Spread of the images' difficulties, where chance has a spread of 1."""
    affinity: float
    """Spread of what an image is easier for one configuration than for another."""
    common_seed: float
    """Spread of accuracies over seeds that all configurations share."""
    own_seed: np.ndarray
    """[configurations] spread of accuracies over seeds of its own."""

    def standard_error(self, accuracy: float, seeds: int) -> float:
        """Of the difference of two configurations of this accuracy, whose variance over seeds is the mean of all."""
        fixed = self.difficulty**2 + self.affinity**2
        common, own = self.seed_spreads(np.full(len(self.own_seed), accuracy))
        own_variance = float(np.mean(own**2))
        total = 1 + fixed + common**2 + own_variance
        level = special.ndtri(accuracy)

        def covariance(shared: float) -> float:
            """Of two outcomes that have so much of their variance in common: Owen (1956)."""
            correlation = shared / total
            both = special.ndtr(level) - 2 * special.owens_t(level, np.sqrt((1 - correlation) / (1 + correlation)))
            return float(both - accuracy**2)

        same = covariance(total) + (seeds - 1) * covariance(fixed)
        same += (self.images - 1) * covariance(common**2 + own_variance)
        other = covariance(self.difficulty**2 + common**2) + (seeds - 1) * covariance(self.difficulty**2)
        other += (self.images - 1) * covariance(common**2)
        return float(np.sqrt(2 * (same - other) / (self.images * seeds)))

    def seed_spreads(self, truth: np.ndarray) -> tuple[float, np.ndarray]:
        """Common spread and own spreads over seeds, where chance has a spread of 1."""
        slope = np.exp(-(special.ndtri(truth) ** 2) / 2) / np.sqrt(2 * np.pi)
        spread = np.sqrt(1 + self.difficulty**2 + self.affinity**2)
        return float(self.common_seed / slope.mean() * spread), self.own_seed / slope * spread


def drawn_study(rng: np.random.Generator, configurations: int) -> Study:
    own = rng.choice([0.0, 0.004, 0.01, 0.02])
    return Study(
        images=int(rng.choice([200, 500])),
        difficulty=rng.uniform(0.8, 2),
        affinity=rng.uniform(0.2, 1),
        common_seed=rng.choice([0, 0.005, 0.01]),
        own_seed=own * MOST_UNEQUAL ** rng.uniform(-0.25, 0.25, configurations),
    )


def drawn_scores(rng: np.random.Generator, truth: np.ndarray, seeds: int, study: Study) -> list[Scores]:
    """Scores of configurations of these expected accuracies."""
    common, own = study.seed_spreads(truth)
    level = special.ndtri(truth) * np.sqrt(1 + study.difficulty**2 + study.affinity**2 + common**2 + own**2)
    by_seed = level[:, None] + rng.normal(0, common, seeds) + rng.normal(0, own[:, None], (len(truth), seeds))
    ease = study.affinity * normal(rng, study.images, len(truth)) + study.difficulty * normal(rng, study.images, 1)
    correct = ease[:, :, None] + by_seed.astype(np.float32) + normal(rng, study.images, len(truth), seeds) > 0
    return [
        Scores(seeds=tuple(range(seeds)), accuracies=each.mean(axis=0), correct=each, images=study.images)
        for each in correct.swapaxes(0, 1)
    ]


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


def two_groups(rng: np.random.Generator, k: int, within: float) -> np.ndarray:
    return np.where(np.arange(k) < k // 2, 0, rng.uniform(3, 12)) + rng.normal(0, within, k)


def one_ahead(rng: np.random.Generator, k: int) -> np.ndarray:
    effects = rng.normal(0, 1, k)
    effects[0] = effects[1:].max() + rng.uniform(3, 10)
    return effects


EFFECTS: Mapping[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "all equal": lambda _, k: np.zeros(k),
    "spread of 0.5": lambda rng, k: rng.normal(0, 0.5, k),
    "spread of 1": lambda rng, k: rng.normal(0, 1, k),
    "spread of 2": lambda rng, k: rng.normal(0, 2, k),
    "spread of 4": lambda rng, k: rng.normal(0, 4, k),
    "one far ahead": one_ahead,
    "two groups": lambda rng, k: two_groups(rng, k, 0.3),
    "heavy-tailed": lambda rng, k: rng.standard_t(2, k),
}
"""How configurations differ, in standard errors of a difference."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Benchmark:
    """One made-up comparison."""

    effects: str
    truth: np.ndarray
    """[configurations] expected accuracies"""
    scores: list[Scores]

    @property
    def is_best(self) -> np.ndarray:
        """[configurations] 1 for the best; equals share it."""
        best = self.truth == self.truth.max()
        share: np.ndarray = best / best.sum()
        return share


def drawn_benchmark(seeds: int, number: int, configurations: Sequence[int], key: int = 0) -> Benchmark:
    """Benchmark `number` of a series; kinds of effects take turns."""
    rng = np.random.default_rng([key, seeds, number])
    k = int(rng.choice(configurations))
    name = list(EFFECTS)[number % len(EFFECTS)]
    study = drawn_study(rng, k)
    middle = rng.uniform(0.6, 0.93)
    truth = np.clip(middle + EFFECTS[name](rng, k) * study.standard_error(middle, seeds), 0.05, 0.99)
    return Benchmark(effects=name, truth=truth, scores=drawn_scores(rng, truth, seeds, study))


def coverage(benchmark: Benchmark) -> list[tuple[str, bool]]:
    """Of each interval of an accuracy, and of one difference a configuration, whether it holds the truth."""
    compared, truth, k = compare(benchmark.scores), benchmark.truth, len(benchmark.truth)
    pairs = [(a, (a + 1) % k) for a in range(k if k > 2 else 1)]
    return [
        *(("accuracy", holds(each, true)) for each, true in zip(intervals(benchmark.scores), truth, strict=True)),
        *(("difference", holds(compared.difference(a, b), truth[a] - truth[b])) for a, b in pairs),
    ]


def holds(estimate: Estimate, truth: float) -> bool:
    return bool(estimate.low <= truth <= estimate.high)


def chances_of_best(benchmark: Benchmark) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "effects": benchmark.effects,
            "chance": probabilities_of_best(benchmark.scores),
            "is_best": benchmark.is_best,
        }
    )


def calibration(chances: pd.DataFrame) -> pd.DataFrame:
    """Of each bin of probabilities: mean probability, share that is the best, cases."""
    bins = np.minimum((chances["chance"] * BINS).astype(int), BINS - 1)
    by_bin = chances.groupby(bins)
    return pd.DataFrame(
        {"said": by_bin["chance"].mean(), "true": by_bin["is_best"].mean(), "cases": by_bin.size()}
    ).rename_axis("tenth")


@dataclass(frozen=True, kw_only=True, slots=True)
class Contest:
    """Two configurations ahead of all others, from which it is learned how far seeds scatter."""

    study: Study
    seeds: int
    key: int = 0

    def tied(self, gap: float, number: int) -> bool:
        """Whether the two, so many of their standard errors apart, are called a tie."""
        rng = np.random.default_rng([self.key, self.seeds, number, round(gap)])
        error = self.study.standard_error(TOP, self.seeds)
        truth = np.full(len(self.study.own_seed), TOP - BEHIND * error)
        truth[:2] = TOP + gap * error / 2, TOP - gap * error / 2
        scores = drawn_scores(rng, truth, self.seeds, self.study)
        best_first = sorted(range(len(truth)), key=lambda place: -scores[place].accuracies.mean())
        groups = dict(zip(best_first, tie_groups([scores[place] for place in best_first]), strict=True))
        return groups[0] == groups[1]

    def share_tied(self, gap: float, repeats: int) -> float:
        return float(np.mean([self.tied(gap, number) for number in range(repeats)]))


TOP = 0.8
BEHIND = 10.0
"""Standard errors that the rest is behind the two that are compared."""


def contest(configurations: int, seeds: int, key: int = 0) -> Contest:
    """A contest whose doubt is from images and from seeds; the two have the mean variance over seeds."""
    unequal = MOST_UNEQUAL ** np.linspace(-0.25, 0.25, configurations - 2)
    own = 0.005 * np.concatenate([[1, 1], unequal / np.sqrt(np.mean(unequal**2)) if len(unequal) else []])
    study = Study(images=500, difficulty=1.5, affinity=0.7, common_seed=0.005, own_seed=own)
    return Contest(study=study, seeds=seeds, key=key)


def main() -> None:
    """Print coverage, calibration and power for each number of seeds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("benchmarks", type=int, help="for each number of seeds")
    parser.add_argument("--configurations", type=int, nargs="+", default=[2, 3, 5, 8, 12])
    parser.add_argument("--key", type=int, default=1, help="another number, other benchmarks")
    options = parser.parse_args()
    everything = []
    for seeds in SEEDS:
        drawn = [drawn_benchmark(seeds, i, options.configurations, options.key) for i in range(options.benchmarks)]
        covered = pd.DataFrame([each for one in drawn for each in coverage(one)], columns=["what", "covered"])
        shares = covered.groupby("what")["covered"].mean().round(4).to_dict()
        chances = pd.concat([chances_of_best(one) for one in drawn], ignore_index=True)
        say(f"\n{seeds} seeds: coverage {shares}\n{calibration(chances).round(3).to_string()}")
        everything.append(chances)
    for name, chances in pd.concat(everything).groupby("effects"):
        say(f"\n{name}, all numbers of seeds\n{calibration(chances).round(3).to_string()}")
    for configurations in (2, 4, 8, 16):
        for seeds in SEEDS:
            one = contest(configurations, seeds, options.key)
            tie, missed = (one.share_tied(gap, options.benchmarks // 2) for gap in (0.0, 4.0))
            say(f"{configurations} configurations, {seeds} seeds: tied {tie:.3f}, told apart {1 - missed:.3f}")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
