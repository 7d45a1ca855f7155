"""Names of columns that somebody chose in, the columns that raybench knows out: `valid/acc` is a val accuracy."""

import re
from collections.abc import Iterable, Mapping

SAME = {"acc": "accuracy", "valid": "val", "validation": "val", "eval": "val", "dev": "val", "training": "train"}
NOISE = {"mean", "ptl", "metrics", "top1", "name"}
METRICS = {
    "epoch": ("train iteration",),
    "epoch_seconds": ("time this iter s",),
    "test_accuracy": ("test accuracy",),
    "val_loss": ("val loss", "loss"),
    "val_accuracy": ("val accuracy", "accuracy"),
    "train_loss": ("train loss", "loss"),
    "train_accuracy": ("train accuracy", "accuracy"),
}
"""Words of the names that a metric is known by, best first; what an earlier line takes is gone for a later one."""
SETTINGS = {
    "dataset": ("dataset",),
    "train_size": ("train size", "n train", "num train", "train images"),
    "model": ("model", "arch", "architecture", "network", "backbone"),
    "weights": ("weights", "pretrained"),
    "strategy": ("strategy",),
    "seed": ("seed", "random seed"),
}


def recognize(names: Iterable[str], known: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Return which name stands for which key of `known`; keys that no name fits are absent."""
    free = {_words(name): name for name in names}
    found = {}
    for key, spellings in known.items():
        fits = next((words for words in map(_words, spellings) if words in free), None)
        if fits is not None:
            found[key] = free.pop(fits)
    return found


def _words(name: str) -> frozenset[str]:
    words = re.split(r"[^a-z0-9]+", name.lower())
    return frozenset(SAME.get(word, word) for word in words) - NOISE
