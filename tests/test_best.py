import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raybench.best import MOST_CONTENDERS, probabilities_of_best
from raybench.stats import Scores

IMAGES = 400


def drawn(rng: np.random.Generator, chance: float, seeds: tuple[int, ...] = (0, 1, 2), images: int = IMAGES) -> Scores:
    return of(rng.random((images, len(seeds))) < chance, seeds)


def of(correct: np.ndarray, seeds: tuple[int, ...]) -> Scores:
    return Scores(seeds=seeds, accuracies=correct.mean(axis=0), correct=correct, images=len(correct))


def field(*chances: float, seeds: tuple[int, ...] = (0, 1, 2)) -> list[Scores]:
    rng = np.random.default_rng(1)
    return [drawn(rng, chance, seeds) for chance in chances]


def test_identical_configurations_are_equally_likely_the_best() -> None:
    one = field(0.8)[0]
    assert probabilities_of_best([one] * 4) == pytest.approx([0.25] * 4, abs=0.03)


def test_one_far_ahead_is_the_best() -> None:
    chances = probabilities_of_best(field(0.6, 0.95, 0.6, 0.58, 0.61))
    assert chances[1] > 0.99
    assert sum(chances) == pytest.approx(1)


def test_equals_far_above_the_rest_share_the_probability() -> None:
    twin, *rest = field(0.9, 0.3, 0.4, 0.5, 0.35)
    chances = probabilities_of_best([twin, *rest, twin])
    assert [chances[0], chances[-1]] == pytest.approx([0.5, 0.5], abs=0.03)
    assert max(chances[1:-1]) < 0.001


def test_more_seeds_and_images_make_a_difference_surer() -> None:
    rng = np.random.default_rng(3)
    chances = []
    for seeds, images in [((0, 1), 200), ((0, 1, 2, 3, 4), 200), ((0, 1, 2, 3, 4), 5000)]:
        better, worse = (rng.random((images, len(seeds))) < 0.5 for _ in "ab")
        better[: images // 20] = True
        worse[: images // 20] = False
        chances.append(probabilities_of_best([of(better, seeds), of(worse, seeds)])[0])
    assert chances == sorted(chances)
    assert chances[-1] > 0.99


def test_scattered_seeds_leave_more_doubt_than_steady_ones() -> None:
    def with_seeds(spread: float) -> float:
        rng = np.random.default_rng(0)
        common = rng.random((2000, 1))
        shifts = np.array([-1.0, 0.0, 1.0]) * spread
        better, worse = (common < chance + sign * shifts for chance, sign in [(0.82, 1), (0.79, -1)])
        return probabilities_of_best([of(better, (0, 1, 2)), of(worse, (0, 1, 2))])[0]

    assert 0.5 < with_seeds(0.1) < with_seeds(0.001)


@pytest.mark.parametrize(
    "scores",
    [
        [],
        field(0.8),
        field(0.8, 0.7, seeds=(0,)),
        [*field(0.8, seeds=(0, 1)), *field(0.7, seeds=(1, 2))],
        [*field(0.8, 0.7), Scores(seeds=(0, 1, 2), accuracies=np.array([0.8, 0.8, 0.9]), images=IMAGES)],
        [*field(0.8), drawn(np.random.default_rng(0), 0.8, images=300)],
        [drawn(np.random.default_rng(0), 0.8, images=20) for _ in "ab"],
    ],
    ids=["none", "no rival", "one seed", "one shared seed", "outcomes unknown", "other images", "few images"],
)
def test_probabilities_are_left_out_where_the_doubt_is_not_known(scores: list[Scores]) -> None:
    chances = probabilities_of_best(scores)
    assert len(chances) == len(scores)
    assert all(math.isnan(chance) for chance in chances)


def test_only_seeds_that_all_have_are_compared() -> None:
    a, b = field(0.8, 0.7)
    longer = of(np.hstack([np.zeros((IMAGES, 1), dtype=bool), b.correct]), (9, *b.seeds))  # type: ignore[list-item]
    assert probabilities_of_best([a, longer]) == probabilities_of_best([a, b])


def test_seeds_without_a_score_do_not_count() -> None:
    a, b = field(0.8, 0.7)
    b.accuracies[0] = math.nan
    assert not math.isnan(probabilities_of_best([a, b])[0])
    b.accuracies[1] = math.nan
    assert math.isnan(probabilities_of_best([a, b])[0]), "one seed is left"


def test_those_out_of_reach_have_no_chance_and_too_many_within_reach_no_probability() -> None:
    rng = np.random.default_rng(0)
    hopeless = [drawn(rng, 0.3) for _ in range(MOST_CONTENDERS)]
    chances = probabilities_of_best([*hopeless, *field(0.9, 0.89)])
    assert chances[:10] == [0.0] * 10
    assert sum(chances[-2:]) == pytest.approx(1)
    assert all(math.isnan(chance) for chance in probabilities_of_best([*hopeless, drawn(rng, 0.3)]))


@pytest.mark.parametrize("right", [True, False])
def test_perfect_scores_are_no_certainty_and_no_failure(right: bool) -> None:
    same = of(np.full((IMAGES, 3), right), (0, 1, 2))
    assert probabilities_of_best([same, same, same]) == pytest.approx([1 / 3] * 3, abs=0.03)
    nearly = np.full((IMAGES, 3), right)
    nearly[0] = not right
    chances = probabilities_of_best([same, of(nearly, (0, 1, 2))])
    assert 0.2 < min(chances) < 0.5, "one image decides nothing"


@settings(max_examples=25, deadline=None)
@given(
    chances=st.lists(st.floats(0, 1), min_size=2, max_size=6),
    seeds=st.integers(2, 4),
    random_seed=st.integers(0, 2**31),
)
def test_probabilities_add_up_and_repeat_exactly(chances: list[float], seeds: int, random_seed: int) -> None:
    rng = np.random.default_rng(random_seed)
    scores = [drawn(rng, chance, tuple(range(seeds)), images=50) for chance in chances]
    first = probabilities_of_best(scores)
    assert sum(first) == pytest.approx(1)
    assert min(first) >= 0
    assert probabilities_of_best(scores) == first
