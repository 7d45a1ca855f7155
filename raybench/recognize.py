"""Names of columns that somebody chose in, the columns that raybench knows out: `valid/acc` is a val accuracy.

A name is a set of words. It is recognised where its words, without those that say nothing, are a spelling of a known
column; a metric also where it holds a spelling's words and none that make it another thing. What was recognised is a
guess: whoever uses it shows it, and lets the reader say otherwise with `Columns`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from raybench.errors import InputError

SAME = {
    "acc": "accuracy", "accuracies": "accuracy",
    "valid": "val", "validation": "val", "eval": "val", "evaluation": "val", "dev": "val",
    "training": "train", "tr": "train",
    "testing": "test", "holdout": "test", "heldout": "test",
    "xent": "loss", "nll": "loss", "ce": "loss", "crossentropy": "loss",
    "dollars": "usd", "dollar": "usd",
    "top1": "accuracy", "acc1": "accuracy",
    "num": "n", "imgs": "images",
}  # fmt: skip
"""Words that mean the same."""
NOISE = frozenset(
    {
        "mean", "avg", "average", "ptl", "metrics", "metric", "name", "type", "kind", "id", "pct", "percent",
        "score", "final", "config", "hparams", "params", "args", "cfg",
    }
)  # fmt: skip
"""Words that say nothing."""
OTHER_METRICS = frozenset(
    {
        "std", "var", "sem", "stderr", "ci", "err", "min", "max", "best", "top5", "acc5", "top3", "balanced", "class",
        "per", "f1", "auc", "recall", "precision", "low", "high", "lower", "upper", "hour", "rate", "ema", "error",
        "reg", "aux", "inference", "search",
    }
)  # fmt: skip
"""Words that make a metric another one."""

METRICS: dict[str, tuple[str, ...]] = {
    "epoch": ("train iteration", "epoch"),
    "epoch_seconds": ("time this iter s", "epoch seconds", "epoch time"),
    "train_seconds": ("time total s", "train seconds", "train time", "train time s", "total time", "runtime"),
    "standalone_cost_usd": ("standalone cost usd", "cost usd", "usd"),
    "test_loss": ("test loss",),
    "test_accuracy": ("test accuracy",),
    "val_loss": ("val loss", "loss"),
    "val_accuracy": ("val accuracy", "accuracy"),
    "train_loss": ("train loss", "loss"),
    "train_accuracy": ("train accuracy", "accuracy"),
}
"""Words of the names that a metric is known by, best first; what an earlier line takes is gone for a later one."""
TABLE_METRICS: dict[str, tuple[str, ...]] = {
    "train_seconds": (
        *METRICS["train_seconds"], "train s", "train sec", "time", "time s", "time sec", "time seconds", "seconds",
        "secs", "duration", "elapsed", "wall time",
    ),
    "standalone_cost_usd": (*METRICS["standalone_cost_usd"], "train cost usd", "cost", "train cost", "price"),
    "test_loss": METRICS["test_loss"],
    "test_accuracy": ("test accuracy", "accuracy"),
    "val_loss": ("val loss",),
    "val_accuracy": ("val accuracy",),
    "train_loss": ("train loss",),
}  # fmt: skip
"""As `METRICS`, for a table of results: there, an accuracy that names no split is what a study reports, on test."""
SPLITS = frozenset({"train", "val", "test"})
SETTINGS: dict[str, tuple[str, ...]] = {
    "dataset": ("dataset",),
    "train_size": (
        "train size", "n train", "train images", "train samples", "n train samples", "n train images", "train set size",
        "n images", "n samples", "samples", "images", "ntrain", "nimages",
    ),
    "model": ("model", "arch", "architecture", "network", "net", "backbone", "encoder"),
    "weights": ("weights", "pretrained"),
    "strategy": ("strategy", "method", "recipe", "mode"),
    "seed": (
        "seed", "random seed", "rng", "random state", "rng seed", "rep", "repeat", "repetition", "replicate", "run",
        "trial", "fold",
    ),
}  # fmt: skip
PLAIN = "plain"
"""Strategy of a row where every column that could name one says no."""
GIVEN_ONLY = ("inference_images_per_second", "inference_latency_seconds")
"""Columns that are never guessed, but that a reader can name."""
KEYS = (*SETTINGS, *METRICS, *GIVEN_ONLY)
"""Columns that a reader can name."""
SHORT = {
    "cost": "standalone_cost_usd",
    "time": "train_seconds",
    "seconds": "train_seconds",
    "accuracy": "test_accuracy",
    "images": "train_size",
    "size": "train_size",
}
"""What a reader may call them as well."""
KEYS_TEXT = f"{', '.join(KEYS)}; or for short {', '.join(f'{short} ({key})' for short, key in SHORT.items())}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """Which column of a source stands for which of raybench's, where a reader says so."""

    names: Mapping[str, str] = field(default_factory=dict)
    """Column of the source, by raybench's name."""


def parse_columns(given: Sequence[str]) -> Columns:
    """Read `KEY=NAME`, as `--column test_accuracy=mean_acc`.

    Raises:
        InputError: one has no `=`, its key is neither of `KEYS` nor of `SHORT`, or two keys mean the same.
    """
    names: dict[str, str] = {}
    for each in given:
        key, equals, name = each.partition("=")
        if not equals or not name.strip():
            raise InputError(f"--column: {each!r} says no column; give KEY=NAME, such as test_accuracy=mean_acc")
        full = SHORT.get(key.strip(), key.strip())
        if full not in KEYS:
            raise InputError(f"--column: {key.strip()!r} is none of raybench's columns; give one of {KEYS_TEXT}")
        if names.get(full, name.strip()) != name.strip():
            raise InputError(f"--column: {full} is both {names[full]!r} and {name.strip()!r}; name one column")
        names[full] = name.strip()
    return Columns(names=names)


def recognize(
    names: Iterable[str], known: Mapping[str, tuple[str, ...]], given: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return which name stands for which key of `known`; keys that no name fits are absent.

    `given` names come first, and are taken as they are.
    """
    given = {key: name for key, name in (given or {}).items() if key in known or key in GIVEN_ONLY}
    free = {name: meanings_of(name) for name in names if name not in given.values()}
    found = dict(given)
    # All names that fit exactly come before those that merely hold the words of another.
    for fits in (_exactly, _among_others) if known.keys() <= METRICS.keys() else (_exactly,):
        for key, spellings in known.items():
            if key in found:
                continue
            name = next(
                (name for spelling in spellings if (name := fits(meanings_of(spelling), free)) is not None), None
            )
            if name is not None:
                found[key] = name
                del free[name]
    return found


def _exactly(spelling: frozenset[str], free: Mapping[str, frozenset[str]]) -> str | None:
    return next((name for name, words in free.items() if words == spelling), None)


def _among_others(spelling: frozenset[str], free: Mapping[str, frozenset[str]]) -> str | None:
    """The name with the fewest words beside those of the spelling, none of which means another split or metric."""
    fitting = {
        name: len(words)
        for name, words in free.items()
        if spelling <= words and not (words - spelling) & (OTHER_METRICS | SPLITS)
    }
    measures = {"accuracy", "loss", "usd", "cost"} & spelling
    return min(fitting, key=fitting.__getitem__) if fitting and measures else None


def meanings_of(name: str) -> frozenset[str]:
    """Return the words of a name, one for all that mean the same, without those that say nothing."""
    return frozenset(SAME.get(word, word) for word in words_of(name)) - NOISE


def words_of(name: str) -> frozenset[str]:
    """Return the words of a name, in small letters: of `nImages` n and images, of `Top-1 acc.` top1 and acc."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    joined = re.sub(r"(?<![a-z])(top[-_ @]|acc@)(?=[135](?![0-9]))", lambda found: found[1][:-1], apart)
    return frozenset(re.findall(r"[a-z0-9]+", joined))
