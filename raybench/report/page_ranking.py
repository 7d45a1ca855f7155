"""The ranking of one dataset and train_size as a table with its intervals drawn."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from raybench.formats import (
    MISSING,
    count_text,
    duration_text,
    is_missing,
    number_text,
    percent_text,
    probability_text,
    safe_text,
    usd_text,
)
from raybench.report.advice import configuration_name, group_name
from raybench.report.page_parts import Cell, Column, Row, Span, Table

MARGIN = 4
"""Of a scale from 0 to 100, what is left free at either end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shown:
    """One column of the table of a ranking."""

    heading: Column
    cell: Callable[[pd.Series], Cell]


def ranking_table(group: pd.DataFrame, *, digits: int = 1, most: int, folded: str = "") -> Table:
    """Return the ranking of a dataset and train_size, best first.

    Args:
        group: its rows.
        digits: decimals of percentages.
        most: rows that are shown.
        folded: what stands on the line that opens the table; nothing: it is open.
    """
    columns = list(_columns(group, digits))
    cut_off = [] if len(group) <= most else [f"The first {most} of {len(group)}; raybench rank SOURCE has all of them."]
    return Table(
        caption=", ".join(filter(None, ["Ranking", group_name(group.iloc[0]), *_alike(group)])),
        columns=[each.heading for each in columns],
        rows=[
            Row(
                cells=[each.cell(row) for each in columns],
                kind="pick" if row["pick"] else "incomplete" if row["stopped"] else "",
            )
            for _, row in group.head(most).iterrows()
        ],
        notes=[*cut_off, *_legend(group)],
        folded=folded,
    )


def _alike(group: pd.DataFrame) -> list[str]:
    """Weights, where names leave them out because all configurations begin with the same."""
    if len(group) == 1 or is_missing(group["weights"].iloc[0]) or len(set(group["weights"].map(safe_text))) > 1:
        return []
    return [f"weights {safe_text(group['weights'].iloc[0])}"]


def _columns(group: pd.DataFrame, digits: int) -> Iterator[_Shown]:
    """The columns that say something of a group."""
    scale = _scale(group)

    def known(name: str) -> bool:
        # Where test classes are equally large, balanced accuracy is accuracy.
        if name == "test_balanced_accuracy" and name in group and np.allclose(group[name], group["test_accuracy"]):
            return False
        return name in group and bool(group[name].notna().any())

    yield _number("rank", "rank", count_text)
    yield _Shown(
        heading=Column(text="configuration", is_name=True),
        cell=lambda row: Cell(text=configuration_name(row, group)),
    )
    for column, text, write in NUMBERS:
        if not known(column):
            continue
        if column == "test_accuracy_low":
            yield _Shown(heading=Column(text=text), cell=lambda row: _interval_cell(row, digits, scale))
        else:
            yield _number(column, text, write or partial(percent_text, digits=digits))
    yield _Shown(heading=Column(text="marks", is_name=True), cell=lambda row: Cell(text=marks(row)))


def _number(column: str, text: str, write: Callable[[object], str]) -> _Shown:
    return _Shown(heading=Column(text=text), cell=lambda row: Cell(text=write(row[column])))


NUMBERS: tuple[tuple[str, str, Callable[[object], str] | None], ...] = (
    ("test_accuracy", "test accuracy", None),
    ("test_accuracy_low", "95 % interval", None),
    ("tie_group", "tie", count_text),
    ("p_best", "probability of being best", probability_text),
    ("val_accuracy", "val accuracy", None),
    ("test_balanced_accuracy", "balanced", None),
    ("val_loss", "val loss", number_text),
    ("standalone_cost_usd", "cost to train", usd_text),
    ("train_seconds", "time", duration_text),
    ("epochs_run", "epochs", count_text),
    ("seeds", "seeds", count_text),
)
"""Columns of the ranking, their headings, and how they are written; percent where nothing is said."""


def marks(row: pd.Series) -> str:
    """`pick, frontier`, or how many seeds are missing."""
    said = ["pick"] if row["pick"] else []
    if not is_missing(row["on_frontier"]) and row["on_frontier"]:
        said.append("frontier")
    if row["stopped"]:
        said.append(f"{row['stopped']} not completed")
    return ", ".join(said)


def _scale(group: pd.DataFrame) -> tuple[float, float]:
    """Lowest and highest end of all intervals."""
    return float(group["test_accuracy_low"].min()), float(group["test_accuracy_high"].max())


def _interval_cell(row: pd.Series, digits: int, scale: tuple[float, float]) -> Cell:
    low, high = row["test_accuracy_low"], row["test_accuracy_high"]
    if is_missing(low) or is_missing(high):
        return Cell(text=MISSING)

    def place(value: float) -> float:
        least, most = scale
        share = 0.5 if most <= least else (value - least) / (most - least)
        return round(MARGIN + (100 - 2 * MARGIN) * share, 1)

    span = Span(low=place(low), middle=place(row["test_accuracy"]), high=place(high))
    return Cell(text=f"{percent_text(low, digits)} to {percent_text(high, digits)}", span=span)


def _legend(group: pd.DataFrame) -> Iterator[str]:
    yield (
        "Pick: the cheapest of those within one standard error of the best val accuracy. Frontier: nothing cheaper is "
        "as accurate."
    )
    if group["tie_group"].notna().any():
        yield (
            "Tie: cannot be told apart from the first row with the same number, compared seed by seed and image by "
            "image where these are known, all pairs accounted for. So two can be told apart although their intervals "
            "overlap."
        )
    if (group["stopped"] > 0).any():
        yield (
            "Configurations with a seed that was stopped or failed, or without any that ended, come last: their "
            "accuracy is that of the other seeds, or a lower bound."
        )
    if ((group["seeds"] == 1) & group["test_accuracy_low"].notna()).any():
        yield "Of one seed, the interval covers the test images alone."
