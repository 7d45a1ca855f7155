"""Which configuration is best: results of trials in, one row a configuration with its rank out.

Within a dataset and train_size, configurations are ordered by mean test accuracy over seeds, highest first,
ties by lower cost. Beside the rank stand an interval, what cannot be told apart, the frontier of cost and
accuracy, and the pick, which is chosen on validation and cost so that luck on the test split is not sold
as accuracy.

Covered: any table with model and test_accuracy or val_accuracy; what is missing is NaN, and `raybench.advice`
says what was fallen back to. `p_best` is NaN wherever it could not be calibrated (`raybench.best`): with one seed,
and without each test image's outcome.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from raybench.best import probabilities_of_best
from raybench.errors import InputError
from raybench.outcomes import Outcome
from raybench.records import Status
from raybench.scores import scores_of
from raybench.stats import Scores
from raybench.ties import intervals, near_best, tie_groups

GROUP = ["dataset", "train_size"]
CONFIGURATION = [*GROUP, "model", "weights", "strategy"]

RANK_COLUMNS = [
    "dataset",
    "train_size",
    "rank",
    "model",
    "weights",
    "strategy",
    "seeds",
    "test_accuracy",
    "test_accuracy_low",
    "test_accuracy_high",
    "p_best",
    "tie_group",
    "val_loss",
    "val_accuracy",
    "train_seconds",
    "epochs_run",
    "standalone_cost_usd",
    "on_frontier",
    "pick",
    "stopped",
]
"""Columns of a ranking, in order: what outsiders rely on."""

HIGHER_IS_BETTER: dict[str, bool] = {
    "test_accuracy": True,
    "test_balanced_accuracy": True,
    "test_macro_f1": True,
    "val_accuracy": True,
    "train_loss": False,
    "val_loss": False,
    "test_loss": False,
    "train_seconds": False,
    "feature_seconds": False,
    "wall_seconds": False,
    "standalone_seconds": False,
    "standalone_cost_usd": False,
    "search_seconds": False,
    "search_cost_usd": False,
    "epochs_run": False,
    "best_epoch": False,
    "peak_memory_bytes": False,
    "parameters": False,
    "trainable_parameters": False,
    "model_bytes": False,
    "inference_images_per_second": True,
    "inference_latency_seconds": False,
}
"""What a ranking can be ordered by, and in which direction; columns of results that have a mean over seeds."""

ABSENT: dict[str, str | int | None] = {
    "dataset": "",
    "train_size": None,
    "weights": None,
    "strategy": None,
    "seed": 0,
    "status": Status.COMPLETED,
    "trial_id": None,
}
"""What stands for a column that a table does not have."""

CHANCE = "p_best"
"""A ranking can be ordered by it too, highest first: no column of results, but one that ranking makes."""

ALIASES = {"cost": "standalone_cost_usd", "time": "train_seconds", "accuracy": "test_accuracy"}
"""What tables call columns."""

SAME_COST_SHARE = 0.1
"""For the pick, costs that are higher than the cheapest by no more than this share count as equal."""

SAME_ACCURACY_DECIMALS = 9
"""Means over seeds that differ by less are equal: the rest is rounding."""


def rank(
    results: pd.DataFrame,
    *,
    by: str | None = None,
    also: Sequence[str] = (),
    outcomes: Mapping[str, Outcome] | None = None,
    test_images: int | Mapping[str, int] | None = None,
    val_images: int | Mapping[str, int] | None = None,
) -> pd.DataFrame:
    """Rank configurations within each dataset and train_size.

    Seeds that have not ended yet are left aside where another seed of the configuration has completed: the ranking
    is provisional then. Configurations with a stopped or failed seed, or of which no seed has completed, come
    after all others; such seeds are counted in `stopped`, and take no part in tie groups, frontier and pick. Where
    a dataset and size has no test accuracy at all, val accuracy stands in for it everywhere. The *tie group* of a
    configuration is 1 where it cannot be told apart from the best, 2 where it cannot be told apart from the best
    of the rest, and so on (95 % for each group). `p_best` is the probability that a configuration has the highest
    expected accuracy of the complete ones (`raybench.best`), NaN where none that is calibrated can be given. The
    *pick* is the cheapest of those whose val accuracy lies within one standard error of the best: Breiman et al.
    (1984), Classification and Regression Trees, section 3.4.3.

    The *cost* of a configuration is that of training it, as a mean over seeds, and of choosing its learning
    rate (`search_cost_usd`, `search_seconds`), where that was searched for. `standalone_cost_usd` holds both;
    it is NaN where either is unknown, never their known part. A search of unknown cost is one whose seconds
    are known. In USD where that is known of every complete configuration, in seconds otherwise: those measured
    alone (`standalone_seconds`) where these are known of all, else `train_seconds`, and `search_seconds`.

    Args:
        results: one row a trial, at least with `model` and `test_accuracy` or `val_accuracy`.
        by: column to order by in place of accuracy, one of `HIGHER_IS_BETTER`, or `p_best`; it is appended to the
            columns where it is not one of them.
        also: further columns, of `HIGHER_IS_BETTER`, whose means over seeds are appended; NaN where the results
            do not have one.
        outcomes: which test images each trial classified correctly, by trial id, for intervals from them.
        test_images: size of the test split, or of each dataset's; used where there are no outcomes.
        val_images: size of the val split, or of each dataset's.

    Returns:
        The columns `RANK_COLUMNS`, one row a configuration, by dataset, train_size and rank; one of which no trial
        has begun has no rank, and comes last. A mean is over the seeds that have a value. `on_frontier` is missing
        where nothing is known of the cost.

    Raises:
        InputError: `by` cannot be ranked by, `also` names another column, a value is no number where one is
            needed or an accuracy no fraction, or two rows are the same configuration and seed.
    """
    by = ALIASES.get(by, by) if by is not None else None
    _check_names(also)
    trials = _prepared(results, by)
    groups = [
        _rank_group(group, by, outcomes or {}, _images_of(test_images, group), _images_of(val_images, group))
        for _, group in trials.groupby(GROUP, dropna=False, sort=True)
    ]
    columns = list(dict.fromkeys([*RANK_COLUMNS, *([by] if by else []), *also]))
    if not groups:
        return pd.DataFrame(columns=columns)
    ranking = pd.concat(groups, ignore_index=True)[columns]
    if by == CHANCE and ranking[CHANCE].isna().all():
        raise InputError(
            "--by: no p_best is known here; it takes two seeds that all configurations share, and what each network "
            f"said of each test image; give one of {', '.join(_usable(results))}"
        )
    return ranking


def _check_names(also: Sequence[str]) -> None:
    unknown = [name for name in also if name not in HIGHER_IS_BETTER]
    if unknown:
        raise InputError(f"also: {unknown[0]!r} is no column with a mean; give some of {', '.join(HIGHER_IS_BETTER)}")


def _prepared(results: pd.DataFrame, by: str | None) -> pd.DataFrame:
    """The trials with every column that ranking reads; NaN where the table has none."""
    if by not in {None, CHANCE, *_usable(results)}:
        usable = ", ".join([*_usable(results), CHANCE])
        raise InputError(f"--by: {by!r} is no column to rank by; give one of {usable}")
    if "model" not in results and len(results):
        raise InputError("no column 'model'; a table of results names the model in every row")
    trials = results.copy()
    for name, value in ABSENT.items():
        if name not in trials:
            trials[name] = pd.Series([value] * len(trials), trials.index, dtype=object)
        elif value is not None:
            trials[name] = trials[name].fillna(value)
    trials["train_size"] = _numbers(trials["train_size"], "a whole number").astype("Int64")
    for column in HIGHER_IS_BETTER:
        accepted = "a fraction from 0 to 1" if column.endswith("_accuracy") else "a number"
        trials[column] = _numbers(trials[column], accepted) if column in results else np.nan
    twice = trials[trials.duplicated([*CONFIGURATION, "seed"], keep=False)]
    if len(twice):
        first = twice.iloc[0]
        label = ", ".join(f"{name} {first[name]}" for name in [*CONFIGURATION, "seed"] if not pd.isna(first[name]))
        raise InputError(
            f"two rows are the same configuration and seed ({label}); keep one, or tell them apart by a "
            "`seed` or `strategy` column",
        )
    return trials


def _usable(results: pd.DataFrame) -> list[str]:
    """Columns of results that a ranking can be ordered by."""
    return [column for column in HIGHER_IS_BETTER if column in results]


def _numbers(column: pd.Series, accepted: str) -> pd.Series:
    """The column as floats; an error names the first value that is not what is accepted."""
    numbers = pd.to_numeric(column, errors="coerce").astype(float)
    wrong = numbers.isna() & column.notna()
    if "fraction" in accepted:
        wrong |= (numbers < 0) | (numbers > 1)
    elif "whole" in accepted:
        wrong |= numbers.notna() & (numbers % 1 != 0)
    if wrong.any():
        place = int(wrong.to_numpy().argmax())
        raise InputError(f"row {place + 1}: {column.name} is {column.iloc[place]!s}; give {accepted}")
    return numbers


def _rank_group(
    trials: pd.DataFrame,
    by: str | None,
    outcomes: Mapping[str, Outcome],
    test_images: int | None,
    val_images: int | None,
) -> pd.DataFrame:
    """Rank the configurations of one dataset and train_size."""
    trials = _without_waiting(trials)
    trials = trials.assign(place=trials.groupby(CONFIGURATION, dropna=False, sort=True).ngroup())
    trials = trials.sort_values(["place", "seed"], ignore_index=True)
    by_place = trials.groupby("place")
    table = trials.loc[~trials["place"].duplicated(), CONFIGURATION].reset_index(drop=True)
    table[list(HIGHER_IS_BETTER)] = by_place[list(HIGHER_IS_BETTER)].mean()
    table["seeds"] = by_place.size()
    table["standalone_cost_usd"] = _charged(table, "standalone_cost_usd", "search_cost_usd")
    table["stopped"] = (trials["status"] != Status.COMPLETED).groupby(trials["place"]).sum()
    table["begun"] = _begun(trials).groupby(trials["place"]).any()
    complete = table["stopped"] == 0
    alone = bool(complete.any() and table.loc[complete, "standalone_seconds"].notna().all())
    seconds = _charged(table, "standalone_seconds" if alone else "train_seconds", "search_seconds")

    val = _scores(trials, "val_accuracy", {}, val_images)
    test = _scores(trials, "test_accuracy", outcomes, test_images)
    estimates = intervals([test[i] for i in np.flatnonzero(complete)])
    table["test_accuracy_low"] = pd.Series([each.low for each in estimates], table.index[complete], dtype=float)
    table["test_accuracy_high"] = pd.Series([each.high for each in estimates], table.index[complete], dtype=float)

    has_test = bool(table["test_accuracy"].notna().any())
    table["accuracy"] = table["test_accuracy" if has_test else "val_accuracy"].round(SAME_ACCURACY_DECIMALS)
    table["cost"] = _cost(table, seconds)
    by_accuracy = _order(table, None)
    taking_part = complete & table["accuracy"].notna()
    best_first = [place for place in by_accuracy if taking_part[place]]
    numbers = tie_groups([(test if has_test else val)[place] for place in best_first])
    table["tie_group"] = pd.Series(numbers, best_first, dtype="Int64")
    chances = probabilities_of_best([test[place] for place in best_first]) if has_test else math.nan
    table["p_best"] = pd.Series(chances, best_first, dtype=float)
    table["on_frontier"] = _frontier(table["cost"], table["accuracy"], taking_part)
    table["pick"] = _pick(table, val, test)
    table = table.loc[_order(table, by)].reset_index(drop=True)
    # Those that nothing is known of come last, so the ranks above them have no gap.
    return table.assign(rank=pd.Series(np.arange(1, len(table) + 1), dtype="Int64").where(table["begun"]))


def _begun(trials: pd.DataFrame) -> pd.Series:
    """Whether each trial has ended, or at least has an epoch."""
    return (trials["status"] != Status.UNFINISHED) | trials[["epochs_run", "val_accuracy"]].notna().any(axis=1)


def _without_waiting(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials without those that have not ended, of configurations of which another seed has completed."""
    keys = [trials[name] for name in CONFIGURATION]
    has_completed = (trials["status"] == Status.COMPLETED).groupby(keys, dropna=False).transform("any")
    return trials[(trials["status"] != Status.UNFINISHED) | ~has_completed]


def _scores(trials: pd.DataFrame, column: str, outcomes: Mapping[str, Outcome], images: int | None) -> list[Scores]:
    """Scores of each configuration in a column of accuracies, from trials sorted by `place`."""
    starts = np.flatnonzero(~trials["place"].duplicated())
    seeds, accuracies, trial_ids = (trials[name].to_list() for name in ("seed", column, "trial_id"))
    ends = [*starts[1:], len(trials)]
    return [
        scores_of(seeds[start:end], accuracies[start:end], trial_ids[start:end], outcomes, images)
        for start, end in zip(starts, ends, strict=True)
    ]


def _order(table: pd.DataFrame, by: str | None) -> list[int]:
    """Places of the configurations, best first."""
    keys = pd.DataFrame(index=table.index)
    keys["not_begun"] = ~table["begun"]
    keys["incomplete"] = table["stopped"] > 0
    if by is not None:
        keys["by"] = table[by].round(SAME_ACCURACY_DECIMALS) * (-1 if by == CHANCE or HIGHER_IS_BETTER[by] else 1)
    keys["accuracy"] = -table["accuracy"]
    keys["cost"] = table["cost"]
    keys["train_seconds"] = table["train_seconds"]
    for name in ("model", "weights", "strategy"):
        # names last, so that the order of the input's rows never matters
        keys[name] = table[name].astype(object).where(table[name].notna(), "")
    return list(keys.sort_values(list(keys.columns), na_position="last").index)


def _charged(table: pd.DataFrame, training: str, search: str) -> pd.Series:
    """What training took, and what the search for its learning rate took: NaN where there was one and it is unknown."""
    searched = table["search_seconds"].notna() | table["search_cost_usd"].notna()
    return table[training] + table[search].where(searched, 0.0)


def _cost(table: pd.DataFrame, seconds: pd.Series) -> pd.Series:
    """USD where it is known of every complete configuration, seconds otherwise: the two are never mixed."""
    usd = table["standalone_cost_usd"]
    known = usd[table["stopped"] == 0].notna()
    return usd if len(known) and known.all() else seconds


def _frontier(cost: pd.Series, accuracy: pd.Series, taking_part: pd.Series) -> pd.Series:
    """Whether no other configuration is at least as cheap and as accurate, and better in one of the two."""
    part = taking_part & cost.notna()
    if not part.any():
        return pd.Series(pd.NA, cost.index, dtype="boolean")
    best = accuracy[part].groupby(cost[part]).max()
    cheaper = best.cummax().shift(fill_value=-np.inf)
    on_frontier = pd.Series(data=False, index=cost.index, dtype="boolean")
    on_frontier[part] = accuracy[part] == cost[part].map(best[best > cheaper])
    return on_frontier


def _images_of(images: int | Mapping[str, int] | None, group: pd.DataFrame) -> int | None:
    return images.get(group["dataset"].iloc[0]) if isinstance(images, Mapping) else images


def _pick(table: pd.DataFrame, val: Sequence[Scores], test: Sequence[Scores]) -> pd.Series:
    """The cheapest of the complete configurations that are about as good as the best on val.

    Of those that cost about as much as the cheapest, the best on val (at equal accuracy, the one of lower loss): the
    same training, timed twice, costs a little more or less each time. Falls back to test accuracy where no complete
    configuration has a val accuracy.
    """
    complete = table["stopped"] == 0
    has_val = bool(table["val_accuracy"][complete].notna().any())
    column, scores = ("val_accuracy", val) if has_val else ("test_accuracy", test)
    known = table[complete & table[column].notna()].copy()
    known["error"] = -known[column].round(SAME_ACCURACY_DECIMALS)
    best_first = list(known.sort_values(["error", "cost"], kind="stable").index)
    near = [best_first[place] for place in near_best([scores[place] for place in best_first])]
    candidates = known.loc[near]
    as_cheap = candidates[candidates["cost"] <= candidates["cost"].min() * (1 + SAME_COST_SHARE)]
    affordable = candidates if as_cheap.empty else as_cheap
    pick = affordable.sort_values(["error", "val_loss", "cost"], kind="stable").index[:1]
    return pd.Series(table.index.isin(pick), table.index)
