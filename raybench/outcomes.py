"""What a trial's predictions say of each image: right or wrong, in an order that all trials share."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Outcome:
    """Which images one trial classified correctly."""

    images: bytes
    """Key of the set of images; equal for trials that were scored on the same ones."""
    correct: np.ndarray
    """[images] bool, by sorted image name."""


def outcome_of(images: Sequence[str], correct: np.ndarray) -> Outcome:
    """The outcome of a trial on images of these names, in whatever order."""
    order, key = _order(tuple(images))
    return Outcome(images=key, correct=correct[order])


@lru_cache(maxsize=100)
def _order(images: tuple[str, ...]) -> tuple[np.ndarray, bytes]:
    """How to sort the names, and their key: the same for nearly all trials of a dataset."""
    order = sorted(range(len(images)), key=images.__getitem__)
    key = hashlib.sha256(json.dumps([images[place] for place in order]).encode()).digest()
    return np.array(order, dtype=int), key
