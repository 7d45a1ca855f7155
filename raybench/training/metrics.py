"""Predictions become scores that a dominant class cannot flatter.

In: labels and predicted class probabilities of one split. Out: `Scores`. Accuracies and recalls are fractions.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """How well one split was predicted."""

    loss: float
    """Mean cross-entropy, in nats."""
    accuracy: float
    balanced_accuracy: float
    """Mean recall of the classes that have images in the split."""
    macro_f1: float
    """Mean F1 of the classes that have images in the split."""
    per_class_recall: tuple[float | None, ...]
    """In the order of the classes; None for a class without images."""


def score(
    labels: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float32], log_likelihoods: npt.NDArray[np.float64]
) -> Scores:
    """Score predictions.

    Args:
        labels: true classes, shape [n].
        probabilities: predicted probabilities, shape [n, classes]; the largest one decides the class.
        log_likelihoods: log of the probability given to the true class, shape [n].

    """
    predicted = probabilities.argmax(axis=1)
    classes = probabilities.shape[1]
    images, guesses, hits = (
        np.bincount(found, minlength=classes) for found in (labels, predicted, labels[predicted == labels])
    )
    present = np.flatnonzero(images)
    recalls = hits[present] / images[present]
    by_class = dict(zip(present.tolist(), recalls.tolist(), strict=True))
    return Scores(
        loss=float(-log_likelihoods.mean()),
        accuracy=float((predicted == labels).mean()),
        balanced_accuracy=float(recalls.mean()),
        macro_f1=float((2 * hits[present] / (images[present] + guesses[present])).mean()),
        per_class_recall=tuple(by_class.get(index) for index in range(classes)),
    )
