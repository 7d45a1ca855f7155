"""What each choice buys: results of trials in; what fine-tuning, augmentation, depth, pretraining and data gain, out.

Two configurations that one choice alone tells apart are a pair. Their difference is taken over the seeds (and the
test images, where outcomes are known) that both have, with its 95 % interval and what it costs.

Covered: choices that names tell: parts of a strategy joined by `+`, the number in a model's name where that is a
depth, `random` weights, the train_size. Not covered: choices that names do not tell.
"""

from collections.abc import Mapping
from enum import StrEnum

import pandas as pd

from raybench.outcomes import Outcome


class Kind(StrEnum):
    """What tells the two of a pair apart."""

    FINE_TUNING = "fine-tuning"
    """A frozen backbone -> a trained one: `linear-probe` -> `fine-tune` or `lp-ft`, `plain` -> `fine_tuned`."""
    AUGMENTATION = "augmentation"
    """NAME -> NAME+augment."""
    DEPTH = "depth"
    """A model -> the next deeper one that was compared of its family: resnet18 -> resnet50."""
    PRETRAINING = "pretraining"
    """`random` weights -> any others."""
    MORE_DATA = "more data"
    """A train_size -> the next larger one that was compared."""


GAIN_COLUMNS = [
    "dataset",
    "kind",
    "train_size",
    "model",
    "weights",
    "strategy",
    "before",
    "after",
    "metric",
    "accuracy_before",
    "accuracy_after",
    "difference",
    "low",
    "high",
    "p_value",
    "told_apart",
    "seeds",
    "doubt",
    "left_out",
    "cost_before",
    "cost_after",
    "cost_difference",
    "unit",
]
"""Columns of `gains`, in order."""

AVERAGE_COLUMNS = ["dataset", "kind", "train_size", "pairs", "difference", "low", "high", "seeds", "doubt"]
"""Columns of `average_gains`, in order."""


def gains(
    results: pd.DataFrame,
    *,
    outcomes: Mapping[str, Outcome] | None = None,
    test_images: int | Mapping[str, int] | None = None,
) -> pd.DataFrame:
    """Compare all pairs that one choice tells apart.

    Estimand: how much more accurate the configuration after the choice is than the one before it, on a new seed and
    new images. Method: `raybench.stats.difference_interval`, variances over seeds moderated by those of the other
    pairs. `low` and `high` are for a pair looked at alone; `told_apart` accounts for all pairs of the same dataset and
    kind: Holm (1979), Scand. J. Stat. 6, 65-70, at 5 %.

    Args:
        results: one row a trial, as for `raybench.ranking.rank`. Trials that did not complete are left out.
        outcomes: which test images each trial classified correctly, by trial id.
        test_images: size of the test split, or of each dataset's; used where there are no outcomes.

    Returns:
        The columns `GAIN_COLUMNS`, one row a pair, by dataset, kind and train_size. `train_size`, `model`, `weights`
        and `strategy` are those of the configuration before; `before` and `after` say what changed. Accuracies are
        means of `metric` over the `seeds` seeds that both sides completed (over each side's own where they share
        none), differences are fractions. `p_value` is adjusted (Holm). `told_apart` is missing where `left_out` seeds
        of either side did not complete, for those that did are a selection, or where there is no interval. `doubt` is
        what the interval covers (`raybench.stats.Doubt`): with one seed the images alone. Costs are a configuration's
        mean cost of training, in `unit`: USD where all are known, seconds otherwise.
    """
    raise NotImplementedError


def average_gains(
    results: pd.DataFrame,
    *,
    outcomes: Mapping[str, Outcome] | None = None,
    test_images: int | Mapping[str, int] | None = None,
) -> pd.DataFrame:
    """Average the differences of all pairs of one kind at one train_size; see `gains` for arguments and method.

    Estimand: the mean difference of these very pairs, not of others like them. The pairs share seeds and images, so
    their mean is taken image by image and seed by seed before its interval.

    Returns:
        The columns `AVERAGE_COLUMNS`, one row a dataset, kind and train_size (of the configurations before). Missing
        intervals: nothing is known of how sure the mean is.
    """
    raise NotImplementedError
