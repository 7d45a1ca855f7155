import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import norm, ttest_1samp, ttest_ind

from raybench.stats import (
    Doubt,
    Scores,
    detectable_gap,
    difference_interval,
    mean_interval,
    wilson_interval,
)
from raybench.ties import told_apart
from raybench.variance import Prior


def scores(*accuracies: float, images: int | None = None, seeds: tuple[int, ...] | None = None) -> Scores:
    return Scores(
        seeds=seeds or tuple(range(len(accuracies))), accuracies=np.array(accuracies, dtype=float), images=images
    )


def drawn(rng: np.random.Generator, *, seeds: int, images: int, logit: float, seed_spread: float) -> Scores:
    """Scores of seeds on images that differ in difficulty; the expected accuracy is `expected(...)`."""
    difficulty = rng.normal(0, 1.5, (images, 1))
    chance = 1 / (1 + np.exp(-(logit + difficulty + rng.normal(0, seed_spread, (1, seeds)))))
    correct = rng.random((images, seeds)) < chance
    return Scores(seeds=tuple(range(seeds)), accuracies=correct.mean(axis=0), correct=correct)


def expected(logit: float, seed_spread: float) -> float:
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    spread = math.hypot(1.5, seed_spread)
    return float(np.sum(weights / (1 + np.exp(-(logit + spread * nodes)))) / np.sum(weights))


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize(("logit", "seed_spread"), [(1.0, 0.3), (3.5, 0.3), (5.0, 0.6), (1.0, 0.0)])
def test_interval_covers_new_seeds_on_new_images_as_often_as_it_says(
    seeds: int, logit: float, seed_spread: float
) -> None:
    rng = np.random.default_rng([seeds, int(10 * logit)])
    truth = expected(logit, seed_spread)
    estimates = [
        mean_interval(drawn(rng, seeds=seeds, images=300, logit=logit, seed_spread=seed_spread)) for _ in range(500)
    ]
    covered = sum(each.low <= truth <= each.high for each in estimates) / len(estimates)
    assert covered >= 0.93


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("images_known", [True, False])
def test_equal_configurations_are_told_apart_in_about_five_percent(seeds: int, images_known: bool) -> None:
    rng = np.random.default_rng([seeds, images_known])
    apart = 0
    for _ in range(400):
        difficulty = rng.normal(0, 1.5, (300, 1))
        pair = []
        for _ in "ab":
            chance = 1 / (1 + np.exp(-(1 + difficulty + rng.normal(0, 0.3, (1, seeds)))))
            correct = rng.random((300, seeds)) < chance
            pair.append(
                Scores(
                    seeds=tuple(range(seeds)),
                    accuracies=correct.mean(axis=0),
                    correct=correct if images_known else None,
                    images=300,
                )
            )
        apart += told_apart(difference_interval(*pair), 2)
    assert apart / 400 <= 0.075


def test_large_difference_is_told_apart() -> None:
    rng = np.random.default_rng(0)
    weak, strong = (drawn(rng, seeds=3, images=300, logit=logit, seed_spread=0.1) for logit in (0.0, 3.0))
    assert told_apart(difference_interval(strong, weak), 8)


def test_wilson_interval_is_the_textbook_one() -> None:
    # Newcombe (1998), Stat. Med. 17, 857-872, table I, method 3: 81 of 263
    estimate = wilson_interval(81 / 263, 263)
    assert (estimate.low, estimate.high) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert estimate.doubt is Doubt.IMAGES


@pytest.mark.parametrize("accuracy", [0.0, 1.0])
def test_perfect_score_is_not_taken_for_certainty(accuracy: float) -> None:
    for estimate in (wilson_interval(accuracy, 50), mean_interval(scores(accuracy, accuracy, images=50))):
        assert estimate.high - estimate.low == pytest.approx(0.0713, abs=1e-3)
        assert estimate.low <= accuracy <= estimate.high


@given(
    accuracies=st.lists(st.floats(0, 1), min_size=1, max_size=5),
    images=st.one_of(st.none(), st.integers(2, 10**6)),
)
@example(accuracies=[1.5998115919383142e-142] * 5, images=None)
def test_interval_holds_the_mean_and_stays_between_zero_and_one(accuracies: list[float], images: int | None) -> None:
    estimate = mean_interval(scores(*accuracies, images=images))
    assert estimate.value == pytest.approx(np.mean(accuracies))
    if not math.isnan(estimate.low):
        assert 0 <= estimate.low <= estimate.value + 1e-9
        assert estimate.value - 1e-9 <= estimate.high <= 1


@pytest.mark.parametrize(
    ("given_scores", "doubt"),
    [
        (scores(0.8, 0.82, 0.81, images=200), Doubt.SEEDS_AND_IMAGES),
        (scores(0.8, 0.82, 0.81), Doubt.SEEDS),
        (scores(0.8, images=200), Doubt.IMAGES),
        (scores(0.8, math.nan, images=200), Doubt.IMAGES),
        (scores(0.8), Doubt.UNKNOWN),
        (scores(math.nan, images=200), Doubt.UNKNOWN),
        (scores(0.8, 0.8), Doubt.UNKNOWN),
        (scores(1.0, 1.0), Doubt.UNKNOWN),
    ],
)
def test_interval_says_what_it_covers(given_scores: Scores, doubt: Doubt) -> None:
    estimate = mean_interval(given_scores)
    assert estimate.doubt is doubt
    assert math.isnan(estimate.low) == (doubt is Doubt.UNKNOWN)


def test_without_images_the_standard_error_is_that_of_students_t() -> None:
    estimate = mean_interval(scores(0.80, 0.82, 0.84))
    assert estimate.standard_error == pytest.approx(0.02 / math.sqrt(3))
    assert estimate.degrees_of_freedom == pytest.approx(2)


def test_seeds_that_agreed_have_the_variance_that_others_have_in_common() -> None:
    prior = Prior(variance=0.0004, degrees_of_freedom=math.inf, most_freedom=10)
    estimate = mean_interval(scores(0.8, 0.8), prior=prior)
    assert estimate.standard_error == pytest.approx(math.sqrt(0.0002))
    assert estimate.degrees_of_freedom == pytest.approx(10)


def test_more_images_make_the_interval_narrower() -> None:
    widths = [(e := mean_interval(scores(0.8, 0.81, 0.82, images=n))).high - e.low for n in (50, 500, 5000)]
    assert widths == sorted(widths, reverse=True)


def test_seeds_that_fail_on_the_same_images_leave_more_doubt_than_seeds_that_fail_on_different_ones() -> None:
    same = np.repeat(np.arange(100)[:, None] < 90, 3, axis=1)
    different = np.stack([np.roll(same[:, 0], shift) for shift in (0, 30, 60)], axis=1)
    errors = [
        mean_interval(Scores(seeds=(0, 1, 2), accuracies=c.mean(axis=0), correct=c)).standard_error
        for c in (same, different)
    ]
    assert errors[0] > errors[1] > 0


def test_one_image_with_many_seeds_gives_no_interval_that_fails() -> None:
    one = Scores(seeds=(0, 1), accuracies=np.array([1.0, 1.0]), correct=np.ones((1, 2), dtype=bool))
    assert 0 <= mean_interval(one).low <= mean_interval(one).high == 1


def test_paired_difference_over_seeds_is_the_paired_t_test() -> None:
    a, b = [0.80, 0.85, 0.83], [0.78, 0.82, 0.83]
    estimate = difference_interval(scores(*a), scores(*b))
    reference = ttest_1samp(np.subtract(a, b), 0).confidence_interval()
    assert (estimate.low, estimate.high) == pytest.approx((reference.low, reference.high))
    assert estimate.doubt is Doubt.SEEDS


def test_difference_over_other_seeds_is_welchs_t_test() -> None:
    a, b = [0.80, 0.85, 0.83], [0.78, 0.82, 0.83, 0.70]
    estimate = difference_interval(scores(*a), scores(*b, seeds=(7, 8, 9, 10)))
    reference = ttest_ind(a, b, equal_var=False).confidence_interval()
    assert (estimate.low, estimate.high) == pytest.approx((reference.low, reference.high))


def test_shared_seeds_alone_are_compared() -> None:
    a = scores(0.9, 0.8, 0.82, seeds=(0, 1, 2))
    b = scores(0.7, 0.71, 0.1, seeds=(1, 2, 3))
    assert difference_interval(a, b).value == pytest.approx(0.105)


@pytest.mark.parametrize(
    ("a", "b", "doubt"),
    [
        (scores(0.8, 0.9, images=100), scores(0.7, 0.7, images=100), Doubt.SEEDS_AND_IMAGES),
        (scores(0.8, 0.9), scores(0.7, 0.7), Doubt.SEEDS),
        (scores(0.8, images=100), scores(0.7, images=100), Doubt.IMAGES),
        (scores(0.8, images=100), scores(0.7, images=100, seeds=(5,)), Doubt.IMAGES),
        (scores(0.8, images=100), scores(0.7), Doubt.UNKNOWN),
        (scores(0.8), scores(0.7), Doubt.UNKNOWN),
        (scores(math.nan), scores(0.7, images=100), Doubt.UNKNOWN),
    ],
)
def test_difference_says_what_it_covers(a: Scores, b: Scores, doubt: Doubt) -> None:
    estimate = difference_interval(a, b)
    assert estimate.doubt is doubt
    assert math.isnan(estimate.low) == (doubt is Doubt.UNKNOWN)


def with_outcomes(rng: np.random.Generator, seeds: tuple[int, ...], images: int = 200) -> Scores:
    correct = rng.random((images, len(seeds))) < 0.8
    return Scores(seeds=seeds, accuracies=correct.mean(axis=0), correct=correct)


def test_outcomes_on_other_seeds_are_compared_image_by_image() -> None:
    rng = np.random.default_rng(0)
    estimate = difference_interval(with_outcomes(rng, (0, 1)), with_outcomes(rng, (2, 3, 4)))
    assert estimate.doubt is Doubt.SEEDS_AND_IMAGES
    assert estimate.standard_error > 0


def test_outcomes_on_other_images_fall_back_to_the_binomial() -> None:
    rng = np.random.default_rng(0)
    a, b = with_outcomes(rng, (0,)), with_outcomes(rng, (0,), images=100)
    p, q = float(a.accuracies[0]), float(b.accuracies[0])
    estimate = difference_interval(a, b)
    assert estimate.standard_error == pytest.approx(math.sqrt(p * (1 - p) / 200 + q * (1 - q) / 100))


def test_networks_that_agree_on_every_image_are_not_told_apart() -> None:
    same = with_outcomes(np.random.default_rng(0), (0, 1, 2))
    estimate = difference_interval(same, same)
    assert estimate.value == 0
    assert not told_apart(estimate, 8)


def test_few_images_never_decide() -> None:
    correct = np.ones((300, 1), dtype=bool)
    fewer = correct.copy()
    fewer[:3] = False
    a, b = (Scores(seeds=(0,), accuracies=c.mean(axis=0), correct=c) for c in (correct, fewer))
    assert not told_apart(difference_interval(a, b), 2), "three images of 300, one seed"


@pytest.mark.parametrize("images", [100, 300, 10_000])
@pytest.mark.parametrize("accuracy", [0.5, 0.8, 0.9, 0.99])
def test_detectable_gap_is_found_with_the_promised_power(images: int, accuracy: float) -> None:
    gap = detectable_gap(images, accuracy)
    error = math.sqrt((accuracy * (1 - accuracy) + (accuracy - gap) * (1 - accuracy + gap)) / images)
    assert norm.sf(norm.ppf(0.975) - gap / error) == pytest.approx(0.8)


def test_larger_test_split_tells_smaller_gaps_apart() -> None:
    gaps = [detectable_gap(images) for images in (30, 100, 300, 1000, 10_000)]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] == pytest.approx(0.0122, abs=5e-4)


def test_no_gap_is_detectable_on_a_handful_of_images() -> None:
    assert math.isnan(detectable_gap(1, accuracy=0.3))


def test_nothing_is_told_apart_where_nothing_is_known() -> None:
    assert not told_apart(difference_interval(scores(0.9), scores(0.1)), 2)
