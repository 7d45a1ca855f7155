"""How sure the advice is: a pick and the ranking it is from in, a verdict and what rivals it out."""

from collections.abc import Iterator

import pandas as pd

from raybench.formats import duration_text, is_missing, joined, percent_text, probability_text, usd_text
from raybench.report.advice import configuration_name, not_compared, not_compared_text, stands_apart_text
from raybench.report.page_material import accuracy_column
from raybench.report.page_parts import Mood, Point

MOST_TIED = 4
"""Configurations named as showing no clear difference from the pick; the rest are counted."""
LEAST_CHANCE = 0.1
"""Rivals that are less probably the most accurate are not worth a name."""
NO_CLEAR_DIFFERENCE = "No clear difference"


def verdict(pick: pd.Series, group: pd.DataFrame, *, test_images: int | None) -> Point | None:
    """Return in a sentence or two how sure the pick is; None where nothing is known of that, or nothing is compared.

    Args:
        pick: one of the group's rows.
        group: the ranking of one dataset and train_size.
        test_images: size of the test split; None: unknown, so that no doubt here covers it.
    """
    if is_missing(pick["tie_group"]):
        return None
    others = group[(group.index != pick.name) & group["tie_group"].notna()]
    if others.empty:
        return None
    better = int((others["tie_group"] < pick["tie_group"]).sum())
    same = int((others["tie_group"] == pick["tie_group"]).sum())
    mood = Mood.CARE
    if better:
        are = "is" if better == 1 else "are"
        text = f"Not the most accurate: {_of(better, len(others))} {are} more so, by more than chance explains."
    elif same:
        text = f"Not beyond doubt: {_of(same, len(others))} may be as accurate."
    else:
        text, mood = "Clearly the most accurate of those compared.", Mood.GOOD
    parts = [text, _chance(pick, group)]
    if not test_images and not is_missing(pick["test_accuracy"]):
        parts.append("How far other test images would move this is not counted, for their number is unknown.")
        mood = Mood.CARE
    return Point(label="How sure", text=" ".join(filter(None, parts)), mood=mood)


def _of(count: int, others: int) -> str:
    """`2 of the 5 others`."""
    if count < others:
        return f"{count} of the {others} others"
    return "the other" if others == 1 else f"all {others} others"


def _chance(pick: pd.Series, group: pd.DataFrame) -> str:
    """How probably the pick is the most accurate of all, and what is next to it, or before it."""
    if is_missing(pick["p_best"]):
        return ""
    said = f"It is the most accurate of all with probability {probability_text(pick['p_best'])}"
    rivals = group[group.index != pick.name].sort_values("p_best", ascending=False, kind="stable")
    rival = rivals.iloc[0]
    if is_missing(rival["p_best"]) or rival["p_best"] < min(LEAST_CHANCE, pick["p_best"]):
        return f"{said}."
    return f"{said}, {configuration_name(rival, group)} with {probability_text(rival['p_best'])}."


def rival_points(pick: pd.Series, group: pd.DataFrame) -> Iterator[Point]:
    """What is better by more than chance, and what shows no clear difference from the pick."""
    title = NO_CLEAR_DIFFERENCE
    if is_missing(pick["tie_group"]):
        text = "Unknown: nothing says how far chance moves these accuracies."
        if not is_missing(pick["test_accuracy_low"]):
            text = not_compared_text(pick)
        yield Point(label=title, text=text, mood=Mood.CARE)
        return
    column = accuracy_column(group)
    same = group[(group["tie_group"] == pick["tie_group"]).fillna(value=False) & (group.index != pick.name)]
    better = group[(group["tie_group"] < pick["tie_group"]).fillna(value=False)]
    if len(better):
        text = f"{_listed(better, group, column)}: by more than chance explains, but dearer or worse on val."
        yield Point(label="More accurate", text=text, mood=Mood.CARE)
    if len(same):
        yield Point(label=title, text=f"{_listed(same, group, column)}.")
    elif len(group) == 1:
        text = "It is the only configuration, so it was compared with none."
        yield Point(label=title, text=text, mood=Mood.CARE)
    elif better.empty and len(not_compared(group)):
        yield Point(label=title, text=stands_apart_text(group), mood=Mood.CARE)
    elif better.empty:
        text = "None: it stands apart from all others that completed."
        yield Point(label=title, text=text, mood=Mood.GOOD)


def _listed(rows: pd.DataFrame, group: pd.DataFrame, column: str) -> str:
    shown = rows if len(rows) <= MOST_TIED else rows.iloc[: MOST_TIED - 1]
    names = [
        f"{configuration_name(row, group)} ({percent_text(row[column])}{_cost_after(row)})"
        for _, row in shown.iterrows()
    ]
    if len(shown) < len(rows):
        names.append(f"{len(rows) - len(shown)} more")
    return joined(names)


def _cost_after(row: pd.Series) -> str:
    if not is_missing(row["standalone_cost_usd"]):
        return f", {usd_text(row['standalone_cost_usd'])}"
    return "" if is_missing(row["train_seconds"]) else f", {duration_text(row['train_seconds'])}"
