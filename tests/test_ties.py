import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import studentized_range

from raybench.stats import Doubt, Estimate, Scores
from raybench.ties import compare, intervals, near_best, tie_groups, told_apart
from raybench.variance import NO_PRIOR


def scores(*accuracies: float, images: int | None = None, first_seed: int = 0) -> Scores:
    seeds = tuple(range(first_seed, first_seed + len(accuracies)))
    return Scores(seeds=seeds, accuracies=np.array(accuracies), images=images)


def test_nothing_to_compare_gives_nothing() -> None:
    assert tie_groups([]) == []
    assert near_best([]) == []
    assert intervals([]) == []


def test_only_pairs_with_two_shared_seeds_tell_how_far_seeds_scatter() -> None:
    strangers = [scores(0.9, 0.8, first_seed=first) for first in (0, 5, 10)]
    assert compare(strangers).prior is NO_PRIOR
    siblings = compare([scores(0.9, 0.8), scores(0.7, 0.65), scores(0.6, 0.53)]).prior
    assert siblings.degrees_of_freedom > 0
    assert siblings.most_freedom == 2, "three pairs, but two free differences"


def test_differences_of_pairs_are_compared_on_the_seeds_that_they_share() -> None:
    # over the shared seeds 1 and 2 each pair differs by the same; seeds 0 and 3 scatter widely
    a, b, c = (
        scores(*row, first_seed=first) for row, first in [((0.1, 0.9, 0.8), 0), ((0.7, 0.6, 0.1), 1), ((0.5, 0.4), 1)]
    )
    assert compare([a, b, c]).prior is NO_PRIOR


def test_scattered_configuration_can_be_tied_with_the_best_above_a_steady_one() -> None:
    best = scores(0.950, 0.951, 0.949, 0.950, 0.951)
    steady = scores(0.900, 0.901, 0.899, 0.901, 0.900)
    scattered = scores(0.99, 0.60, 0.98, 0.99, 0.60)
    assert tie_groups([best, steady, scattered]) == [1, 2, 1]


def test_configuration_without_any_interval_is_in_no_tie_group() -> None:
    groups = tie_groups([scores(0.9), scores(0.8, images=1000), scores(0.3, images=1000)])
    assert math.isnan(groups[0])
    assert groups[1:] == [1, 2]


@pytest.mark.parametrize(("images", "near"), [(None, [0]), (300, [0, 1]), (30, [0, 1, 2])])
def test_near_best_is_within_one_standard_error_of_the_best(images: int | None, near: list[int]) -> None:
    assert near_best([scores(0.95, images=images), scores(0.94, images=images), scores(0.90, images=images)]) == near


def test_steady_seeds_borrow_doubt_from_the_others() -> None:
    configurations = [scores(0.9, 0.9, 0.9), *(scores(a, a + 0.02, a - 0.01) for a in (0.8, 0.7, 0.6))]
    steady = intervals(configurations)[0]
    assert steady.high - steady.low > 0.02


def estimate_with(t: float, freedom: float) -> Estimate:
    return Estimate(
        value=t, low=math.nan, high=math.nan, standard_error=1.0, degrees_of_freedom=freedom, doubt=Doubt.SEEDS
    )


@pytest.mark.parametrize(
    ("t", "freedom", "configurations", "apart"),
    [
        (2.2, 20, 2, True),
        (2.0, 20, 2, False),
        # table of the studentized range, 5 %: q(8, 14) = 4.99, so t = 3.53
        (3.6, 14, 8, True),
        (3.45, 14, 8, False),
        (2.2, 20, 8, False),
        (9.0, 14, 8, True),
        (math.nan, 3, 8, False),
    ],
)
def test_difference_must_exceed_the_studentized_range(
    t: float, freedom: float, configurations: int, apart: bool
) -> None:
    assert told_apart(estimate_with(t, freedom), configurations) is apart


@settings(max_examples=20, deadline=None)
@given(
    asked=st.lists(st.tuples(st.floats(2.0, 5.0), st.sampled_from([2.5, 6.0, 14.0, 40.0, math.inf])), max_size=12),
    configurations=st.sampled_from([3, 8]),
)
def test_what_was_asked_before_never_changes_a_verdict(asked: list[tuple[float, float]], configurations: int) -> None:
    for t, freedom in asked:
        exact = studentized_range.sf(math.sqrt(2) * t, configurations, freedom) <= 0.05
        assert told_apart(estimate_with(t, freedom), configurations) == exact


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("images_known", [True, False])
def test_ties_of_equal_configurations_are_rarely_broken(seeds: int, images_known: bool) -> None:
    rng = np.random.default_rng([seeds, images_known])
    broken = 0
    for _ in range(100):
        hits = rng.binomial(300, 1 / (1 + np.exp(-rng.normal(1.5, 0.2, (8, seeds)))))
        group = sorted((scores(*row, images=300 if images_known else None) for row in hits / 300), key=mean)
        broken += max(tie_groups(group[::-1])) > 1
    assert broken / 100 <= 0.09


def mean(each: Scores) -> float:
    return float(each.accuracies.mean())


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_intervals_that_borrow_from_one_another_cover_as_often_as_they_say(seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    covered = []
    for _ in range(150):
        spreads = 0.01 * np.exp(rng.normal(0, 0.5, 8))
        estimates = intervals([scores(*rng.normal(0.8, spread, seeds)) for spread in spreads])
        covered += [each.low <= 0.8 <= each.high for each in estimates]
    assert np.mean(covered) >= 0.92
