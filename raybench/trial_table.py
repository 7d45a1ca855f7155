"""Results with whatever columns in, one row a trial with the columns that questions of value need, out.

What a table does not have is filled as for a ranking (`raybench.ranking.ABSENT`); numbers that it lacks are NaN.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from raybench.errors import InputError
from raybench.formats import is_missing
from raybench.outcomes import Outcome
from raybench.ranking import ABSENT, CONFIGURATION
from raybench.records import Status
from raybench.scores import scores_of
from raybench.stats import Scores

TEST, VAL = "test_accuracy", "val_accuracy"
NUMBERS = (
    TEST,
    VAL,
    "train_seconds",
    "standalone_cost_usd",
    "standalone_seconds",
    "search_cost_usd",
    "search_seconds",
    "inference_images_per_second",
    "inference_latency_seconds",
)


def trial_table(results: pd.DataFrame, alike: Sequence[str]) -> pd.DataFrame:
    """Fill in what questions of value need.

    Args:
        results: one row a trial.
        alike: columns; trials that agree in them are measured alike.

    Returns:
        All columns of the results, those of `ABSENT` and `NUMBERS`, and `metric`, `accuracy`, `training_usd`,
        `training_seconds` and `place`. Accuracies are of the test split, or of the val split where no trial that is
        measured alike has another. Training costs hold what choosing the learning rate cost; they are NaN where
        either is unknown. Seconds are those measured alone where all completed trials alike have them.
        `place` numbers configurations in the order of their names.

    Raises:
        InputError: there is no column `model`, a value is no number where one is needed, or two rows are the same
            configuration and seed.
    """
    if "model" not in results:
        raise InputError("no column 'model'; a table of results names the model in every row")
    absent = {name: value for name, value in ABSENT.items() if name not in results}
    trials = results.assign(**absent).reset_index(drop=True)
    for name, value in ABSENT.items():
        if value is not None and name in results:
            trials[name] = trials[name].fillna(value)
    trials["train_size"] = _numbers(trials["train_size"], whole=True).astype("Int64")
    for name in NUMBERS:
        trials[name] = _numbers(trials[name]) if name in results else pd.Series(math.nan, trials.index)
    keys = [trials[name] for name in alike]
    has_test = trials[TEST].notna().groupby(keys, dropna=False).transform("any").astype(bool)
    trials["metric"] = pd.Series(VAL, trials.index).where(~has_test, TEST)
    trials["accuracy"] = trials[TEST].where(has_test, trials[VAL])
    searched = trials["search_seconds"].notna() | trials["search_cost_usd"].notna()
    trials["training_usd"] = trials["standalone_cost_usd"] + trials["search_cost_usd"].where(searched, 0.0)
    unknown = trials["standalone_seconds"].isna() & trials["status"].eq(Status.COMPLETED)
    alone = ~unknown.groupby(keys, dropna=False).transform("any") & trials["standalone_seconds"].notna()
    seconds = trials["standalone_seconds"].where(alone, trials["train_seconds"])
    trials["training_seconds"] = seconds + trials["search_seconds"].where(searched, 0.0)
    trials["place"] = trials.groupby(CONFIGURATION, dropna=False, sort=True).ngroup()
    twice = trials.duplicated(["place", "seed"])
    if twice.any():
        row = trials[twice].iloc[0]
        label = ", ".join(
            f"{name} {row[name]}" for name in [*CONFIGURATION, "seed"] if not is_missing(row[name]) and row[name] != ""
        )
        raise InputError(f"two rows are the same configuration and seed ({label}); keep one, or tell them apart")
    return trials


def _numbers(column: pd.Series, *, whole: bool = False) -> pd.Series:
    """The column as floats; an error names the first value that is none."""
    numbers = pd.to_numeric(column, errors="coerce").astype(float)
    wrong = numbers.isna() & column.notna() | (whole & numbers.notna() & (numbers % 1 != 0))
    if wrong.any():
        place = int(wrong.to_numpy().argmax())
        accepted = "a whole number" if whole else "a number"
        raise InputError(f"row {place + 1}: {column.name} is {column.iloc[place]!s}; give {accepted}")
    return numbers


def completed(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials that completed and have an accuracy."""
    return trials[trials["status"].eq(Status.COMPLETED) & trials["accuracy"].notna()]


def scores_by_place(
    trials: pd.DataFrame, outcomes: Mapping[str, Outcome], test_images: int | Mapping[str, int] | None
) -> dict[int, Scores]:
    """Accuracies of each configuration of a `trial_table`, by its place."""
    ordered = trials.sort_values("place", kind="stable")
    places = ordered["place"].to_numpy()
    starts = np.flatnonzero(np.diff(places, prepend=-1))
    seeds, accuracies, trial_ids, metrics, datasets = (
        ordered[name].to_list() for name in ("seed", "accuracy", "trial_id", "metric", "dataset")
    )
    scores = {}
    for start, end in pairwise([*starts.tolist(), len(places)]):
        tested = metrics[start] == TEST
        images = test_images.get(datasets[start]) if isinstance(test_images, Mapping) else test_images
        scores[int(places[start])] = scores_of(
            seeds[start:end],
            accuracies[start:end],
            trial_ids[start:end],
            outcomes if tested else {},
            images if tested else None,
        )
    return scores
