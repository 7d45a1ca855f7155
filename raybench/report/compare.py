"""Two sources in; what both hold and how that differs, what only one holds, and whether that is a fair comparison, out.

Configurations that both sources hold are compared on the seeds that both have, image by image where both were scored
on the same images. Differences are those of the second source from the first; both accuracies are means over the seeds
that are compared, so that what is shown adds up.

Covered: accuracies, costs, picks, conditions that manifests tell. Not covered: conditions of tables, which say none.
"""

import math
from dataclasses import dataclass

import pandas as pd
from scipy import special

from raybench.alike import trials_of
from raybench.formats import is_missing
from raybench.ranking import CONFIGURATION, GROUP
from raybench.report.advice import configuration_name, group_name
from raybench.report.compare_conditions import conditions
from raybench.report.page_material import Material, groups_of
from raybench.report.page_parts import Mood, Point
from raybench.scores import scores_of
from raybench.stats import CONFIDENCE, Estimate, Scores, difference_interval, mean_accuracy

COMPARE_COLUMNS = [
    *CONFIGURATION,
    "called",
    "metric",
    "first",
    "second",
    "difference",
    "low",
    "high",
    "p_value",
    "told_apart",
    "seeds",
    "first_seeds",
    "second_seeds",
    "doubt",
    "first_cost_usd",
    "second_cost_usd",
    "first_seconds",
    "second_seconds",
]
"""Columns of `Comparison.shared`. Accuracies and differences are fractions, `p_value` is adjusted (Holm 1979). `seeds`
is how many are compared in pairs, 0 where all of either's are compared; the next two, how many scored ones each has."""
FAIR = "Nothing is known to make this comparison unfair."
UNFAIR = "Read the conditions first: not everything was the same."
METRICS = ("test_accuracy", "val_accuracy")
"""What is compared: the first that both sources know of a configuration."""
FEWEST_PAIRS = 2
"""Seeds that both must have to be compared in pairs, unless one has a single seed in all."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Comparison:
    """How two sources differ."""

    first: str
    second: str
    """Names of the sources: A and B in all that is said of them."""
    shared: pd.DataFrame
    """One row a configuration that both hold, in the order of the first's ranking: `COMPARE_COLUMNS`."""
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    """Configurations that one source alone holds."""
    picks: tuple[Point, ...]
    """For each dataset and train_size of both: whether the picks are the same."""
    conditions: tuple[Point, ...]
    """What differs in how they were made."""

    @property
    def fair(self) -> bool:
        """Whether nothing is known to make the comparison unfair."""
        return all(point.mood is not Mood.CARE for point in self.conditions)

    @property
    def fairness(self) -> str:
        """Whether to read the conditions first; nothing where nothing was compared."""
        if self.shared.empty:
            return ""
        return FAIR if self.fair else UNFAIR

    @property
    def headline(self) -> str:
        """What came out, in one sentence."""
        known = self.shared[self.shared["told_apart"].notna()]
        if self.shared.empty:
            return "A and B hold no configuration in common, so nothing can be compared."
        count = len(self.shared)
        of = "the one configuration" if count == 1 else f"the {count} configurations"
        empty = [name for name, column in (("A", "first"), ("B", "second")) if self.shared[column].isna().all()]
        if empty:
            return f"{' and '.join(empty)} {'holds' if len(empty) == 1 else 'hold'} no scores of what both name."
        if known.empty:
            return f"Of {of} that both hold, none can be said to differ: how far chance moves them is unknown."
        apart = known[known["told_apart"].astype(bool)]
        higher, lower = int((apart["difference"] > 0).sum()), int((apart["difference"] < 0).sum())
        if not higher and not lower:
            return f"Of {of} that both hold, none can be told apart."
        return (
            f"Of {of} that both hold, {higher} {_is_are(higher)} more accurate in B, {lower} less; "
            f"{count - higher - lower} cannot be told apart."
        )


def compare(first: Material, second: Material) -> Comparison:
    """Compare two sources.

    Estimand: how much more accurate each configuration is in the second source, on a new seed and new images. Method:
    `raybench.stats.difference_interval`; `low` and `high` are for a configuration looked at alone, `told_apart`
    accounts for all that are compared: Holm (1979), Scand. J. Stat. 6, 65-70, at 5 %. It is missing where nothing is
    known of how sure a difference is, or where a seed of either side did not complete.
    """
    pairs = first.ranking.merge(
        second.ranking, on=CONFIGURATION, how="outer", suffixes=("_first", "_second"), indicator=True, sort=False
    )
    both = pairs[pairs["_merge"] == "both"].sort_values([*GROUP, "rank_first"])
    rows = pd.DataFrame([_row(pair, first, second) for _, pair in both.iterrows()], columns=COMPARE_COLUMNS)
    everything = pd.concat([first.ranking, second.ranking])
    rows["called"] = [configuration_name(row, everything) for _, row in rows.iterrows()]
    names = _names(first, second)
    return Comparison(
        first=names[0],
        second=names[1],
        shared=_with_told_apart(rows),
        only_first=_called(pairs[pairs["_merge"] == "left_only"], everything),
        only_second=_called(pairs[pairs["_merge"] == "right_only"], everything),
        picks=tuple(_picks(first, second)),
        conditions=tuple(conditions(first, second)),
    )


def _names(first: Material, second: Material) -> tuple[str, str]:
    """Names of the sources; their paths where the names are the same."""
    if first.name != second.name:
        return first.name, second.name
    return str(first.paths[0]), str(second.paths[0])


def _row(pair: pd.Series, first: Material, second: Material) -> dict[str, object]:
    scored = [name for name in METRICS if not any(is_missing(pair[f"{name}_{side}"]) for side in ("first", "second"))]
    metric = scored[0] if scored else METRICS[0]
    ours, theirs = (_scores(material, pair, metric) for material in (first, second))
    seeds = _paired_seeds(ours, theirs)
    estimate = difference_interval(theirs, ours)
    complete = not pair["stopped_first"] and not pair["stopped_second"]
    return {
        **{name: pair[name] for name in CONFIGURATION},
        "metric": metric,
        "first": mean_accuracy(ours, seeds),
        "second": mean_accuracy(theirs, seeds),
        "difference": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "p_value": _chance(estimate) if complete else math.nan,
        "told_apart": None,
        "seeds": len(seeds),
        "first_seeds": len(ours.seeds),
        "second_seeds": len(theirs.seeds),
        "doubt": str(estimate.doubt),
        "first_cost_usd": pair["standalone_cost_usd_first"],
        "second_cost_usd": pair["standalone_cost_usd_second"],
        "first_seconds": pair["train_seconds_first"],
        "second_seconds": pair["train_seconds_second"],
    }


def _scores(material: Material, row: pd.Series, metric: str) -> Scores:
    own = trials_of(material.results, row)
    images = material.test_images if metric == "test_accuracy" else material.source.val_images
    return scores_of(
        [int(seed) for seed in own["seed"]] if "seed" in own else [0] * len(own),
        own[metric].astype(float),
        own["trial_id"] if "trial_id" in own else [""] * len(own),
        material.source.outcomes if metric == "test_accuracy" else {},
        images.get(str(row["dataset"])),
    )


def _paired_seeds(ours: Scores, theirs: Scores) -> set[int]:
    """Seeds that `difference_interval` compares in pairs; none where it takes all of either's, as independent ones."""
    shared = set(ours.seeds) & set(theirs.seeds)
    either = min(len(ours.seeds), len(theirs.seeds))
    return shared if len(shared) >= min(FEWEST_PAIRS, either) else set()


def _chance(estimate: Estimate) -> float:
    """Two-sided chance of so large a difference where there is none; NaN where that is unknown."""
    if estimate.value == 0:
        return 1.0
    if not estimate.standard_error > 0:
        return math.nan
    t, freedom = abs(estimate.value) / estimate.standard_error, estimate.degrees_of_freedom
    return 2 * float(special.ndtr(-t) if math.isinf(freedom) else special.stdtr(freedom, -t))


def _with_told_apart(rows: pd.DataFrame) -> pd.DataFrame:
    """Adjust the chances for being many: Holm (1979)."""
    known = rows["p_value"].astype(float).dropna().sort_values()
    factors = pd.Series(range(len(known), 0, -1), known.index, dtype=float)
    adjusted = (known * factors).cummax().clip(upper=1.0)
    rows = rows.assign(p_value=adjusted.reindex(rows.index).astype(float))
    return rows.assign(told_apart=(rows["p_value"] <= 1 - CONFIDENCE).astype("boolean").where(rows["p_value"].notna()))


def _called(pairs: pd.DataFrame, everything: pd.DataFrame) -> tuple[str, ...]:
    """Configurations with their dataset and size: names alone do not tell two of different sizes apart."""
    return tuple(
        ", ".join(filter(None, [configuration_name(row, everything), group_name(row)])) for _, row in pairs.iterrows()
    )


def _picks(first: Material, second: Material) -> list[Point]:
    """Whether both advise the same, where both hold a dataset and train_size."""
    picked: dict[str, list[str]] = {}
    for place, material in enumerate((first, second)):
        for group in groups_of(material.ranking):
            own = group[group["pick"].astype(bool)]
            name = configuration_name(own.iloc[0], pd.concat([first.ranking, second.ranking])) if len(own) else "none"
            picked.setdefault(group_name(group.iloc[0]), ["", ""])[place] = name
    points = []
    for group_called, (ours, theirs) in picked.items():
        if not ours or not theirs:
            continue
        label = group_called or "pick"
        if ours == theirs:
            points.append(Point(label=label, text=f"The same pick: {ours}.", mood=Mood.GOOD))
        else:
            text = f"The picks differ: A's is {ours}, B's is {theirs}."
            points.append(Point(label=label, text=text, mood=Mood.CARE))
    return points


def _is_are(count: int) -> str:
    return "is" if count == 1 else "are"
