import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from raybench.outcomes import outcome_of
from raybench.scores import scores_of

IMAGES = ("a", "b", "c")


def test_outcome_is_the_same_in_whatever_order_the_images_come() -> None:
    forward = outcome_of(IMAGES, np.array([True, True, False]))
    backward = outcome_of(IMAGES[::-1], np.array([False, True, True]))
    assert forward.images == backward.images
    assert forward.correct.tolist() == backward.correct.tolist()


@given(
    a=st.lists(st.text(max_size=3), unique=True, min_size=1, max_size=4),
    b=st.lists(st.text(max_size=3), unique=True, min_size=1, max_size=4),
)
def test_outcomes_have_the_same_key_only_on_the_same_images(a: list[str], b: list[str]) -> None:
    keys = [outcome_of(names, np.ones(len(names), dtype=bool)).images for names in (a, b)]
    assert (keys[0] == keys[1]) == (sorted(a) == sorted(b))


def test_trials_without_an_accuracy_are_left_out_of_the_scores() -> None:
    outcomes = {trial_id: outcome_of(IMAGES, np.array([True, True, False])) for trial_id in "xyz"}
    scores = scores_of([3, 5, 7], [0.5, math.nan, 0.75], "xyz", outcomes)
    assert scores.seeds == (3, 7)
    assert scores.accuracies.tolist() == [0.5, 0.75]
    assert scores.correct is not None
    assert scores.correct.shape == (3, 2)
    assert scores.images == 3


def test_outcomes_count_only_where_all_scored_trials_have_them() -> None:
    outcomes = {"x": outcome_of(IMAGES, np.array([True, True, False]))}
    scores = scores_of([3, 5], [0.5, 0.75], "xy", outcomes, 40)
    assert scores.correct is None
    assert scores.images == 40
