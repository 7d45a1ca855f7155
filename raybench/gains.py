"""What each choice buys: results of trials in; what fine-tuning, augmentation, depth, pretraining and data gain, out.

Two configurations that one choice alone tells apart are a pair. Their difference is taken over the seeds (and the
test images, where outcomes are known) that both have, with its 95 % interval and what it costs.

Covered: choices that names tell: parts of a strategy joined by `+`, the number in a model's name where that is a
depth, `random` weights, the train_size. Not covered: choices that names do not tell.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special

from raybench.contrasts import Contrasts
from raybench.outcomes import Outcome
from raybench.pairs import Kind, Pair, pairs
from raybench.ranking import CONFIGURATION
from raybench.stats import CONFIDENCE, Estimate, Scores, mean_accuracy
from raybench.trial_table import completed, scores_by_place, trial_table

__all__ = ["AVERAGE_COLUMNS", "GAIN_COLUMNS", "Kind", "average_gains", "gains"]


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
    new images. Method: `raybench.contrasts.Contrasts`, so that a gain is what a ranking makes of it. `low` and `high`
    are for a pair looked at alone; `told_apart` accounts for all pairs of the same dataset and kind: Holm (1979),
    Scand. J. Stat. 6, 65-70, at 5 %.

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
        mean cost of training, in `unit`: USD where all of the dataset's are known, seconds otherwise.
    """
    rows = [row for compared in _compared(results, outcomes, test_images) for row in _gain_rows(compared)]
    table = pd.DataFrame(rows, columns=GAIN_COLUMNS).astype({"train_size": "Int64", "told_apart": "boolean"})
    return table.assign(kind=table["kind"].astype(object))


def average_gains(
    results: pd.DataFrame,
    *,
    outcomes: Mapping[str, Outcome] | None = None,
    test_images: int | Mapping[str, int] | None = None,
) -> pd.DataFrame:
    """Average the differences of all pairs of one kind at one train_size; see `gains` for arguments and method.

    Estimand and method: `raybench.contrasts.Contrasts.mean_differences`; the averages of a dataset inform one another.

    Pairs with seeds that did not complete are left out.

    Returns:
        The columns `AVERAGE_COLUMNS`, one row a dataset, kind and train_size (of the configurations before). Missing
        intervals: nothing is known of how sure the mean is, or the pairs share no seed.
    """
    rows = [row for compared in _compared(results, outcomes, test_images) for row in _average_rows(compared)]
    return pd.DataFrame(rows, columns=AVERAGE_COLUMNS).astype({"train_size": "Int64"})


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Compared:
    """The configurations of one dataset, and which of them are pairs."""

    configurations: pd.DataFrame
    """Columns of `CONFIGURATION`, and `metric`, `left_out`, `usd` and `seconds`."""
    scores: Sequence[Scores]
    """Of each configuration."""
    contrasts: Contrasts
    pairs: Sequence[Pair]
    """Of configurations that both have an accuracy."""


def _compared(
    results: pd.DataFrame, outcomes: Mapping[str, Outcome] | None, test_images: int | Mapping[str, int] | None
) -> Iterable[_Compared]:
    for _, trials in trial_table(results, ["dataset"]).groupby("dataset", sort=True):
        known = completed(trials)
        if known.empty:
            continue
        scores = scores_by_place(known, outcomes or {}, test_images)
        by_place = known.groupby("place")
        table = by_place[[*CONFIGURATION, "metric"]].nth(0).assign(place=known["place"]).set_index("place").sort_index()
        table["left_out"] = trials.groupby("place").size() - by_place.size()
        table[["usd", "seconds"]] = by_place[["training_usd", "training_seconds"]].mean()
        own = [scores[place] for place in table.index]
        yield _Compared(
            configurations=table,
            scores=own,
            contrasts=Contrasts(scores=own, sizes=list(table["train_size"]), complete=list(table["left_out"] == 0)),
            pairs=list(pairs(table)),
        )


def _gain_rows(compared: _Compared) -> list[dict[str, object]]:
    """One row a pair; `p_value` and `told_apart` for all pairs of a kind together."""
    table = compared.configurations.reset_index(drop=True)
    in_usd = bool(table["usd"].notna().all())
    costs = table["usd" if in_usd else "seconds"].to_list()
    names, left_out = table.to_dict("records"), table["left_out"].to_list()
    estimates = [compared.contrasts.difference(pair.after, pair.before) for pair in compared.pairs]
    adjusted = _holm(compared.pairs, estimates)
    rows = []
    for pair, estimate, p_value in zip(compared.pairs, estimates, adjusted, strict=True):
        old, new = compared.scores[pair.before], compared.scores[pair.after]
        shared = sorted(set(old.seeds) & set(new.seeds))
        absent = left_out[pair.before] + left_out[pair.after]
        row: dict[str, object] = {name: names[pair.before][name] for name in (*CONFIGURATION, "metric")}
        row |= {"accuracy_before": mean_accuracy(old, shared), "accuracy_after": mean_accuracy(new, shared)}
        differs = CHANGES[pair.kind]
        row |= {"kind": pair.kind.value, "before": str(names[pair.before][differs])}
        row |= {"after": str(names[pair.after][differs])}
        row |= {"difference": estimate.value, "low": estimate.low, "high": estimate.high, "p_value": p_value}
        concluded = absent == 0 and not math.isnan(p_value)
        row |= {"told_apart": p_value <= 1 - CONFIDENCE if concluded else pd.NA, "left_out": absent}
        row |= {"seeds": len(shared), "doubt": estimate.doubt.value, "unit": "USD" if in_usd else "seconds"}
        row |= {"cost_before": costs[pair.before], "cost_after": costs[pair.after]}
        rows.append(row | {"cost_difference": costs[pair.after] - costs[pair.before]})
    return rows


CHANGES = {
    Kind.FINE_TUNING: "strategy",
    Kind.AUGMENTATION: "strategy",
    Kind.DEPTH: "model",
    Kind.PRETRAINING: "weights",
    Kind.MORE_DATA: "train_size",
}
"""The column that tells the two of a pair apart."""


def _holm(pairs_: Sequence[Pair], estimates: Sequence[Estimate]) -> list[float]:
    """P values of differences, adjusted within each kind: Holm (1979). NaN where nothing is known."""
    single = np.array([_p_value(each) for each in estimates])
    adjusted = np.full(len(single), math.nan)
    for kind in Kind:
        rows = np.array([row for row, pair in enumerate(pairs_) if pair.kind is kind], dtype=int)
        rows = rows[np.isfinite(single[rows])]
        rows = rows[single[rows].argsort(kind="stable")]
        factors = np.arange(len(rows), 0, -1)
        adjusted[rows] = np.minimum(np.maximum.accumulate(single[rows] * factors), 1) if len(rows) else single[rows]
    return [float(value) for value in adjusted]


def _p_value(estimate: Estimate) -> float:
    """Chance of so large a difference where there is none, for one pair looked at alone."""
    if not estimate.standard_error > 0:
        return math.nan
    t, freedom = abs(estimate.value) / estimate.standard_error, estimate.degrees_of_freedom
    return 2 * float(special.ndtr(-t) if math.isinf(freedom) else special.stdtr(freedom, -t))


def _average_rows(compared: _Compared) -> list[dict[str, object]]:
    table = compared.configurations.reset_index(drop=True)
    left_out, sizes = table["left_out"].to_list(), table["train_size"].to_list()
    groups: dict[tuple[Kind, object], list[Pair]] = {}
    for pair in compared.pairs:
        if left_out[pair.before] + left_out[pair.after] == 0:
            groups.setdefault((pair.kind, sizes[pair.before]), []).append(pair)
    shared = {key: sorted(_shared_seeds(compared, members)) for key, members in groups.items()}
    known = [key for key, seeds in shared.items() if seeds]
    means = compared.contrasts.mean_differences([[(each.after, each.before) for each in groups[key]] for key in known])
    estimates = dict(zip(known, means, strict=True))
    rows = []
    for key, members in groups.items():
        kind, size = key
        row: dict[str, object] = {"dataset": table["dataset"].iloc[0], "kind": kind.value, "train_size": size}
        row |= {"pairs": len(members), "seeds": len(shared[key])}
        if key in estimates:
            mean = estimates[key]
            row |= {"difference": mean.value, "low": mean.low, "high": mean.high, "doubt": mean.doubt.value}
        rows.append(row)
    return rows


def _shared_seeds(compared: _Compared, members: Sequence[Pair]) -> set[int]:
    """Seeds of all configurations of these pairs."""
    return set.intersection(*(set(compared.scores[row].seeds) for pair in members for row in (pair.before, pair.after)))
