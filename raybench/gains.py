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

from raybench.outcomes import Outcome
from raybench.pairs import Kind, Pair, pairs
from raybench.ranking import CONFIGURATION
from raybench.stats import CONFIDENCE, Estimate, Scores, difference_interval
from raybench.ties import compare
from raybench.trial_table import completed, scores_by_place, trial_table
from raybench.variance import NO_PRIOR, Prior, learn_prior, variances_over_seeds

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

    Estimand: the mean difference of these very pairs, not of others like them. The pairs share seeds and images, so
    their mean is taken image by image and seed by seed before its interval.

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
        yield _Compared(configurations=table, scores=[scores[place] for place in table.index], pairs=list(pairs(table)))


def _gain_rows(compared: _Compared) -> list[dict[str, object]]:
    """One row a pair; `p_value` and `told_apart` for all pairs of a kind together."""
    table = compared.configurations.reset_index(drop=True)
    in_usd = bool(table["usd"].notna().all())
    costs = table["usd" if in_usd else "seconds"].to_list()
    names, left_out = table.to_dict("records"), table["left_out"].to_list()
    estimates = _estimates(compared)
    adjusted = _holm(compared.pairs, estimates)
    rows = []
    for pair, estimate, p_value in zip(compared.pairs, estimates, adjusted, strict=True):
        old, new = compared.scores[pair.before], compared.scores[pair.after]
        shared = sorted(set(old.seeds) & set(new.seeds))
        absent = left_out[pair.before] + left_out[pair.after]
        row: dict[str, object] = {name: names[pair.before][name] for name in (*CONFIGURATION, "metric")}
        row |= {"accuracy_before": _mean(old, shared), "accuracy_after": _mean(new, shared)}
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


def _mean(scores: Scores, shared: Sequence[int]) -> float:
    """Mean accuracy over the shared seeds, or over all where none is."""
    wanted = set(shared or scores.seeds)
    return float(
        np.mean([value for seed, value in zip(scores.seeds, scores.accuracies, strict=True) if seed in wanted])
    )


def _estimates(compared: _Compared) -> list[Estimate]:
    """Differences of all pairs, whose variances over seeds inform one another."""
    table = compared.configurations.reset_index(drop=True)
    by_size = {
        size: compare([compared.scores[row] for row in rows]).prior
        for size, rows in table.groupby("train_size", dropna=False).indices.items()
    }
    sizes = table["train_size"].to_list()
    steps: dict[tuple[object, object], list[Pair]] = {}
    for pair in compared.pairs:
        if pair.kind is Kind.MORE_DATA:
            steps.setdefault((sizes[pair.before], sizes[pair.after]), []).append(pair)
    by_step = {step: _prior([_difference(compared, pair) for pair in members]) for step, members in steps.items()}
    priors = [
        by_step[sizes[pair.before], sizes[pair.after]]
        if pair.kind is Kind.MORE_DATA
        else by_size.get(sizes[pair.before], NO_PRIOR)
        for pair in compared.pairs
    ]
    return [
        difference_interval(compared.scores[pair.after], compared.scores[pair.before], prior=prior)
        for pair, prior in zip(compared.pairs, priors, strict=True)
    ]


def _difference(compared: _Compared, pair: Pair) -> np.ndarray:
    """Differences over the shared seeds."""
    old, new = (
        dict(zip(scores.seeds, scores.accuracies, strict=True))
        for scores in (compared.scores[pair.before], compared.scores[pair.after])
    )
    return np.array([new[seed] - old[seed] for seed in sorted(old.keys() & new.keys())])


def _prior(differences: Sequence[np.ndarray]) -> Prior:
    """What the variances of these differences tell of each."""
    most = max(map(len, differences))
    table = np.full((most, len(differences)), math.nan)
    for column, values in enumerate(differences):
        table[: len(values), column] = values
    return learn_prior(variances_over_seeds(table), len(differences) * max(most - 1, 0))


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
    rows = []
    for (kind, size), members in groups.items():
        old, new = (
            [compared.scores[place] for place in places]
            for places in ([pair.before for pair in members], [pair.after for pair in members])
        )
        seeds = sorted(set.intersection(*(set(each.seeds) for each in [*old, *new])))
        row: dict[str, object] = {"dataset": table["dataset"].iloc[0], "kind": kind.value, "train_size": size}
        row |= {"pairs": len(members), "seeds": len(seeds)}
        if seeds:
            mean = difference_interval(_averaged(new, seeds), _averaged(old, seeds))
            row |= {"difference": mean.value, "low": mean.low, "high": mean.high, "doubt": mean.doubt.value}
        rows.append(row)
    return rows


def _averaged(scores: Sequence[Scores], seeds: Sequence[int]) -> Scores:
    """What several configurations scored together: the mean of their accuracies, seed by seed and image by image."""
    places = [[each.seeds.index(seed) for seed in seeds] for each in scores]
    accuracies = [each.accuracies[rows] for each, rows in zip(scores, places, strict=True)]
    correct = [
        None if each.correct is None else each.correct[:, rows] for each, rows in zip(scores, places, strict=True)
    ]
    known = [each for each in correct if each is not None]
    alike = len(known) == len(scores) and len({each.shape for each in known}) == 1
    counts = [each.images for each in scores]
    return Scores(
        seeds=tuple(seeds),
        accuracies=np.mean(accuracies, axis=0),
        correct=np.mean(known, axis=0) if alike else None,
        images=min(count for count in counts if count is not None) if None not in counts else None,
    )
