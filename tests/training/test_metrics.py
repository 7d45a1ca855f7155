"""Scores that a dominant class cannot flatter."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, recall_score

from raybench.training.metrics import Scores, score


def scores_of(labels: list[int], predicted: list[int], classes: int) -> Scores:
    probabilities = np.full((len(labels), classes), 0.1 / (classes - 1), dtype=np.float32)
    probabilities[np.arange(len(labels)), predicted] = 0.9
    of_label = np.log(probabilities[np.arange(len(labels)), labels].astype(np.float64))
    return score(np.array(labels), probabilities, of_label)


def test_always_guessing_the_dominant_class_looks_good_in_accuracy_only() -> None:
    scores = scores_of([0] * 9 + [1], [0] * 10, classes=2)
    assert scores.accuracy == pytest.approx(0.9)
    assert scores.balanced_accuracy == pytest.approx(0.5)
    assert scores.per_class_recall == (1.0, 0.0)
    assert scores.macro_f1 == pytest.approx((18 / 19 + 0) / 2)


def test_a_class_without_images_has_no_recall_and_counts_for_nothing() -> None:
    scores = scores_of([0, 0, 2], [0, 1, 2], classes=3)
    assert scores.per_class_recall == (0.5, None, 1.0)
    assert scores.balanced_accuracy == pytest.approx(0.75)


def test_the_loss_is_the_mean_cross_entropy_in_nats() -> None:
    assert scores_of([0, 1], [0, 0], classes=2).loss == pytest.approx(-(np.log(0.9) + np.log(0.1)) / 2)


@given(pairs=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=30))
def test_scores_are_those_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    labels, predicted = [label for label, _ in pairs], [guess for _, guess in pairs]
    scores, present = scores_of(labels, predicted, classes=5), sorted(set(labels))
    averaged = {"labels": present, "average": "macro", "zero_division": 0.0}
    assert scores.balanced_accuracy == pytest.approx(recall_score(labels, predicted, **averaged))
    assert scores.macro_f1 == pytest.approx(f1_score(labels, predicted, **averaged))
