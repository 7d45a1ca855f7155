"""A ranking in, plain sentences out: what to take, how good it is, what cannot be told apart from it.

Nothing is said that the numbers do not carry: an interval over one seed is called that, and where there is
none, that is said as well.
"""

import math
from collections.abc import Iterator, Mapping

import pandas as pd

from raybench.formats import (
    accuracy_text,
    duration_text,
    is_missing,
    joined,
    probability_text,
    safe_text,
    shortened,
    usd_text,
)
from raybench.records import Status
from raybench.stats import detectable_gap, wilson_interval

PARTS = ("model", "strategy", "weights")
MOST_LETTERS = 60
"""Of a model's, a strategy's or weights' name in a sentence."""
GROUP = ["dataset", "train_size"]
NO_IMAGES: Mapping[str, int] = {}
MOST_NAMES = 4
"""Configurations named in a sentence; the rest are counted."""


def sentence(ranking: pd.DataFrame, *, untuned: bool = False) -> str:
    """Advice for one dataset and train_size.

    Args:
        ranking: the rows of `raybench.ranking.rank` for that dataset and train_size.
        untuned: whether learning rates were fixed by hand, which is then said.
    """
    picks = ranking[ranking["pick"].astype(bool)]
    place = _place(ranking.iloc[0])
    if picks.empty:
        return f"No pick{place}: no configuration has completed all of its seeds with a known accuracy."
    pick = picks.iloc[0]
    parts = [f"Pick{place}: {configuration_name(pick, ranking)}, {_accuracy(pick)}, {_cost(pick)}."]
    parts += [_chance_text(pick, ranking), _not_told_apart(pick, ranking)]
    if is_missing(pick["val_accuracy"]):
        parts.append("It was picked on test accuracy, for want of a val accuracy, so expect somewhat less of it.")
    if untuned:
        parts.append("Untuned: learning rates were fixed by hand.")
    return " ".join(filter(None, parts))


def notes(
    ranking: pd.DataFrame,
    *,
    test_images: Mapping[str, int] | None = None,
    train_images: Mapping[str, int] = NO_IMAGES,
) -> list[str]:
    """What the whole ranking had to do without, what it cannot conclude and what would help, one sentence each.

    Args:
        ranking: as `raybench.ranking.rank` returns it.
        test_images: size of each dataset's test split, where it is known; None: nobody asked.
        train_images: how many training images each dataset has, where it is known.
    """
    said: list[str] = []
    by_group = ranking.groupby(GROUP, dropna=False, sort=False)
    said += _without_test(ranking, test_images or NO_IMAGES)
    complete = ranking[ranking["stopped"] == 0]
    said += _one_seed(complete)
    seeds = [count for _, group in by_group for count in not_compared(group)["seeds"]]
    if 1 in seeds:
        said.append("No number of images and one seed: what cannot be told apart is unknown.")
    if any(count > 1 for count in seeds):
        said.append(
            "No number of images, and configurations whose seeds scored exactly alike (tie -): what cannot be told "
            "apart from them is unknown; --test-images N gives it."
        )
    if test_images is not None and _covers_seeds_alone(complete, test_images):
        said.append(
            "Intervals and ties cover the seeds alone, for the number of test images is unknown: --test-images N "
            "counts them too, and may change the pick."
        )
    if _no_chances(complete):
        said.append(
            "No probability of being best: it takes two seeds that all configurations share, and what each network "
            "said of each test image."
        )
    said += _undecided(ranking, test_images or NO_IMAGES)
    said += _whole_sets(complete, train_images)
    if (ranking["stopped"] > 0).any():
        said.append("Configurations with a seed that was stopped or failed, or without any yet (!), come last.")
    if complete["standalone_cost_usd"].isna().any():
        said.append("Cost in USD is unknown where no price is given; training time stands in for it.")
    return said


def _without_test(ranking: pd.DataFrame, test_images: Mapping[str, int]) -> Iterator[str]:
    """Say where val accuracy stands in for test accuracy, and why: there is no test split, or no trial came so far."""
    flatters = "which early stopping has seen and which flatters a little."
    groups = [group.iloc[0] for _, group in ranking.groupby(GROUP, dropna=False, sort=False) if _has_no_test(group)]
    waiting = [group_name(first) for first in groups if test_images.get(str(first["dataset"]))]
    if len(waiting) < len(groups):
        yield f"No test accuracy: ranked by val accuracy, {flatters}"
    if waiting:
        where = joined(waiting, most=MOST_NAMES)
        why = "no trial has been scored on the test split, so val accuracy stands in"
        yield f"No test accuracy yet ({where}): {why}, {flatters}"


def _has_no_test(group: pd.DataFrame) -> bool:
    return bool(group["test_accuracy"].isna().all())


def _one_seed(complete: pd.DataFrame) -> Iterator[str]:
    """Say how many configurations have one seed, where others have more."""
    alone = int((complete["seeds"] == 1).sum())
    if not alone:
        return
    where = "" if alone == len(complete) else f" in {alone} of {len(complete)} complete configurations"
    yield f"One seed{where}: how far another seed would land is unknown, and no interval covers it."


def provisional_note(results: pd.DataFrame) -> str | None:
    """How many trials have not ended yet, and what that means; None where all have."""
    if "status" not in results:
        return None
    waiting = int((results["status"] == Status.UNFINISHED).sum())
    if not waiting:
        return None
    return (
        f"Provisional: {waiting} of {len(results)} trials have not ended; configurations are compared by the seeds "
        "that have."
    )


def not_compared(group: pd.DataFrame) -> pd.DataFrame:
    """Rows of a group that completed with a known accuracy, of which no tie is known."""
    column = "test_accuracy" if group["test_accuracy"].notna().any() else "val_accuracy"
    return group[(group["stopped"] == 0) & group[column].notna() & group["tie_group"].isna()]


def _covers_seeds_alone(complete: pd.DataFrame, test_images: Mapping[str, int]) -> bool:
    """Whether a dataset has intervals, and no known number of test images."""
    known = complete[complete["test_accuracy_low"].notna()]
    return any(not test_images.get(str(name)) for name in known["dataset"].unique())


def _no_chances(complete: pd.DataFrame) -> bool:
    """Whether there are seeds enough for probabilities of being best, and none is known."""
    by_group = complete[complete["test_accuracy"].notna()].groupby(GROUP, dropna=False)
    rivals = [group for _, group in by_group if len(group) > 1 and (group["seeds"] > 1).all()]
    return bool(rivals) and all(group["p_best"].isna().all() for group in rivals)


def _undecided(ranking: pd.DataFrame, test_images: Mapping[str, int]) -> Iterator[str]:
    """Say of each group in which nothing can be told apart what would help."""
    complete = ranking[(ranking["stopped"] == 0) & ranking["test_accuracy"].notna()]
    for _, group in complete.groupby(GROUP, dropna=False, sort=False):
        if len(group) > 1 and (group["tie_group"] == 1).fillna(value=False).all():
            images = test_images.get(str(group["dataset"].iloc[0]))
            name = group_name(group.iloc[0])
            yield f"No two can be told apart{f' ({name})' if name else ''}: {_what_helps(group, images)}"


def _what_helps(group: pd.DataFrame, images: int | None) -> str:
    """More seeds or more test images, whichever the interval of the leading configuration is wider for."""
    best = group.sort_values("test_accuracy", ascending=False, kind="stable").iloc[0]
    if not images:
        return "more seeds or a larger test split would help; the size of this one is unknown."
    accuracy, half = float(best["test_accuracy"]), float(best["test_accuracy_high"] - best["test_accuracy_low"]) / 2
    alone = wilson_interval(accuracy, images)
    gap = detectable_gap(images, accuracy)
    what_images_tell = "no gap at all" if math.isnan(gap) else f"gaps from about {100 * gap:.1f} points"
    if best["seeds"] == 1:
        return f"more seeds first; one network's {images} test images tell {what_images_tell}."
    if ((alone.high - alone.low) / 2) ** 2 > half**2 / 2:
        what = f"the {images} test images, which tell {what_images_tell}"
        return f"most of the doubt is in {what}; a larger split helps most."
    return f"most of the doubt is in the {best['seeds']} seeds; more seeds help most."


def _whole_sets(complete: pd.DataFrame, train_images: Mapping[str, int]) -> Iterator[str]:
    """Say where seeds do not draw training images, because all are taken."""
    for dataset, images in train_images.items():
        rows = complete[(complete["dataset"] == dataset) & (complete["train_size"] == images).fillna(value=False)]
        if (rows["seeds"] > 1).any():
            yield (
                f"With all {images} training images of {safe_text(dataset)}, seeds differ in initial weights, order "
                "and augmentation, not in images: no interval covers how far another training set would move them."
            )


def configuration_name(row: pd.Series, ranking: pd.DataFrame) -> str:
    """Model, weights and strategy of a row; weights only where the ranking holds more than one kind.

    Of a name that is too long for a sentence, the middle is left out.
    """
    model, strategy, weights = (shortened(safe_text(row[name]), MOST_LETTERS) for name in PARTS)
    several = len({safe_text(name) for name in ranking["weights"].unique()}) > 1
    how = [strategy, f"{weights} weights" if several and weights else ""]
    return " ".join(filter(None, [model, " on ".join(filter(None, how))]))


def group_name(row: pd.Series) -> str:
    """Dataset and train_size of a row: `digits, 833 training images`."""
    size = "" if is_missing(row["train_size"]) else f"{row['train_size']} training images"
    return ", ".join(filter(None, [safe_text(row["dataset"]), size]))


def _place(row: pd.Series) -> str:
    name = group_name(row)
    return f" for {name}" if name else ""


def _accuracy(row: pd.Series) -> str:
    if is_missing(row["test_accuracy"]):
        return f"val accuracy {accuracy_text(row['val_accuracy'])} (no test accuracy)"
    text = f"test accuracy {accuracy_text(row['test_accuracy'])}"
    if is_missing(row["test_accuracy_low"]):
        return f"{text} (no interval)"
    over = "test images only" if row["seeds"] == 1 else f"{row['seeds']} seeds"
    low, high = accuracy_text(row["test_accuracy_low"]), accuracy_text(row["test_accuracy_high"])
    return f"{text} (95 % interval {low} to {high}, over {over})"


def _chance_text(pick: pd.Series, ranking: pd.DataFrame) -> str:
    """How probably the pick is the best, and what is more probably so."""
    if is_missing(pick["p_best"]):
        return ""
    likeliest = ranking.sort_values("p_best", ascending=False, kind="stable").iloc[0]
    text = f"Best of all with probability {probability_text(pick['p_best'])}"
    if likeliest["p_best"] > pick["p_best"]:
        name = configuration_name(likeliest, ranking)
        text += f", {name} with {probability_text(likeliest['p_best'])}"
    return f"{text}."


def _cost(row: pd.Series) -> str:
    time = "" if is_missing(row["train_seconds"]) else f"{duration_text(row['train_seconds'])} of training"
    cost = "cost unknown" if is_missing(row["standalone_cost_usd"]) else usd_text(row["standalone_cost_usd"])
    return ", ".join(filter(None, [time, cost]))


def _not_told_apart(pick: pd.Series, ranking: pd.DataFrame) -> str:
    if is_missing(pick["tie_group"]):
        return not_compared_text(pick)
    column = "val_accuracy" if is_missing(pick["test_accuracy"]) else "test_accuracy"
    group = ranking[(ranking["tie_group"] == pick["tie_group"]).fillna(value=False)]
    leader = group.loc[group[column].astype(float).idxmax()]
    others = _names(group[(group.index != pick.name) & (group.index != leader.name)], ranking)
    said = []
    if pick["tie_group"] > 1:
        best = ranking[ranking["tie_group"] == 1]
        said.append(f"{_names(best, ranking)} scored higher on test, by more than chance explains.")
    if leader.name != pick.name:
        top = f"{configuration_name(leader, ranking)} ({accuracy_text(leader[column])})"
        also = f"; likewise {others}" if others else ""
        said.append(f"Cannot be told apart from it: {top}{also}.")
    elif others:
        said.append(f"Cannot be told apart from it: {others}.")
    elif pick["tie_group"] == 1 and len(ranking) > 1:
        said.append(stands_apart_text(ranking))
    return " ".join(said)


def not_compared_text(row: pd.Series) -> str:
    """Why it is unknown what a configuration cannot be told apart from."""
    if is_missing(row["test_accuracy_low"]):
        return "How far chance moves these accuracies is unknown, so none is told apart from it."
    return (
        "Its seeds scored exactly alike, so its interval is borrowed from how far those of others scatter; without the "
        "number of test images, what cannot be told apart from it is unknown."
    )


def stands_apart_text(ranking: pd.DataFrame) -> str:
    """What is said of the first of a group that nothing is tied with."""
    strangers = len(not_compared(ranking))
    if ranking["stopped"].eq(0).sum() == 1:
        return "No other has completed all of its seeds."
    if not strangers:
        return "It stands apart from all others that completed."
    if ranking["tie_group"].notna().sum() == 1:
        return "None of the others can be compared with it."
    return f"It stands apart from all others that can be compared; {strangers} cannot."


def _names(rows: pd.DataFrame, ranking: pd.DataFrame) -> str:
    shown = rows if len(rows) <= MOST_NAMES else rows.iloc[: MOST_NAMES - 1]
    names = [configuration_name(row, ranking) for _, row in shown.iterrows()]
    if len(shown) < len(rows):
        names.append(f"{len(rows) - len(shown)} more")
    return joined(names) if names else ""
