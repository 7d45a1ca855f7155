"""A comparison of two sources in; what the terminal prints, or a page, out."""

import pandas as pd
from rich.console import Group, RenderableType
from rich.text import Text

from raybench.formats import (
    MISSING,
    capitalized,
    count_text,
    duration_text,
    is_missing,
    joined,
    percent_text,
    safe_text,
    usd_text,
)
from raybench.ranking import GROUP
from raybench.report.advice import group_name
from raybench.report.compare import Comparison
from raybench.report.long_table import Heading, LongTable
from raybench.report.long_table import Row as Line
from raybench.report.page_parts import Block, Cell, Column, Mood, Paragraph, Points, Row, Section, Span, Table, cells
from raybench.stats import Doubt

MOST_ROWS = 300
MOST_NAMES = 40
"""Configurations that only one source holds, by name; the rest are counted."""
MOST_GROUPS = 40
FEWEST_CELLS = 12
MARGIN = 4
STYLES = {Mood.GOOD: "green", Mood.CARE: "yellow", Mood.PLAIN: ""}


def comparison_view(comparison: Comparison) -> RenderableType:
    """Return what the terminal prints: headline, shared configurations, what only one holds, picks, conditions."""
    parts: list[RenderableType] = [Text(line) for line in names(comparison)]
    parts += [Text(), Text(safe_text(comparison.headline), style="bold")]
    if comparison.fairness:
        parts.append(Text(comparison.fairness, style=STYLES[Mood.GOOD if comparison.fair else Mood.CARE]))
    for title, rows in _groups(comparison):
        parts += [Text(), _terminal_table(title, rows)]
    if len(comparison.shared):
        parts += [Text(), Text(legend(comparison), style="dim")]
    for title, called in only(comparison):
        parts += [Text(), Text(title, style="bold"), *(Text(f"  {name}") for name in called)]
    for title, points in (("Picks", comparison.picks), ("Conditions", comparison.conditions)):
        if points:
            parts += [Text(), Text(title, style="bold")]
            parts += [
                Text.assemble((f"  {point.label}: ", STYLES[point.mood]), safe_text(point.text)) for point in points
            ]
    return Group(*parts)


def comparison_sections(comparison: Comparison) -> list[Section]:
    """Return the parts of a page below its headline; those without anything to say are left out."""
    tables: list[Block] = [
        _page_table(title, rows).placed(f"shared-{place}", title)
        for place, (title, rows) in enumerate(_groups(comparison)[:MOST_GROUPS])
    ]
    if tables:
        tables.append(Paragraph(text=legend(comparison)))
    alone: list[Block] = [
        Table(
            caption=title,
            columns=[Column(text="configuration", is_name=True)],
            rows=[Row(cells=cells(name)) for name in called],
        )
        for title, called in only(comparison)
    ]
    parts = [
        Section(name="shared", title="What both hold", blocks=tables),
        Section(name="picks", title="Picks", blocks=[Points(points=comparison.picks)] if comparison.picks else []),
        Section(name="conditions", title="Conditions", blocks=[Points(points=comparison.conditions)]),
        Section(name="only", title="What only one holds", blocks=alone),
    ]
    return [part for part in parts if part.blocks]


def names(comparison: Comparison) -> list[str]:
    """What A and B stand for."""
    return [f"A: {safe_text(comparison.first)}", f"B: {safe_text(comparison.second)}"]


def _groups(comparison: Comparison) -> list[tuple[str, pd.DataFrame]]:
    """The shared configurations of each dataset and train_size, with its name."""
    grouped = comparison.shared.groupby(GROUP, dropna=False, sort=False)
    return [(group_name(rows.iloc[0]), rows) for _, rows in grouped]


def legend(comparison: Comparison) -> str:
    """What the columns of the table mean."""
    doubts = sorted({doubt for doubt in comparison.shared["doubt"] if doubt != Doubt.UNKNOWN})
    covers = f" The interval covers {' or '.join(doubts)}." if doubts else " Nothing is known of how sure they are."
    val = " Where one side has no test accuracy, val accuracy stands in." * bool(
        (comparison.shared["metric"] == "val_accuracy").any()
    )
    return (
        f"{_seeds_note(comparison.shared)}B - A: difference in percentage points, on the images that both have, with "
        f"its 95 % interval.{covers} Apart: told apart, all configurations being accounted for. "
        f"Cost: of training once.{val}"
    )


def _seeds_note(shared: pd.DataFrame) -> str:
    """Over which seeds accuracies are means, and where these are fewer than a side has; nothing without accuracies."""
    scored = shared[(shared["first_seeds"] > 0) & (shared["second_seeds"] > 0)]
    paired = scored[scored["seeds"] > 0]
    said = []
    if len(paired):
        said.append(f"A and B are means over {_paired_text(paired)}.")
    if len(paired) < len(scored):
        where = "where two numbers stand under seeds, too few are shared, so " if len(paired) else ""
        said.append(f"{capitalized(f'{where}A and B are means over all seeds that each has')}.")
    return "".join(f"{text} " for text in said)


def _paired_text(paired: pd.DataFrame) -> str:
    """Which seeds were compared in pairs, and where these are fewer than a side has."""
    sides = [(name, paired[column]) for name, column in (("A", "first_seeds"), ("B", "second_seeds"))]
    counts = paired[["seeds", "first_seeds", "second_seeds"]].drop_duplicates()
    compared = int(counts["seeds"].iloc[0])
    if len(counts) == 1:
        seeds = "the one seed" if compared == 1 else f"the {compared} seeds"
        more = [f"{name} has {own.iloc[0]}" for name, own in sides if own.iloc[0] > compared]
    else:
        seeds = "the seeds"
        more = [f"{name} has more of some" for name, own in sides if (own > paired["seeds"]).any()]
    return f"{seeds} that both have{f' ({joined(more)})' if more else ''}"


def only(comparison: Comparison) -> list[tuple[str, list[str]]]:
    """What one source alone holds: a title and names."""
    found = []
    for name, rows in (("A", comparison.only_first), ("B", comparison.only_second)):
        if rows:
            more = [f"and {len(rows) - MOST_NAMES} more"] if len(rows) > MOST_NAMES else []
            found.append((f"Only in {name}", [*rows[:MOST_NAMES], *more]))
    return found


HEADINGS = ("configuration", "A", "B", "B - A", "apart", "seeds", "cost A", "cost B")
INTERVAL = 3
"""Place of the difference and its interval among the columns."""


def _texts(row: pd.Series) -> list[str]:
    low, high = row["low"], row["high"]
    interval = "" if is_missing(low) or is_missing(high) else f" ({_points(low)} to {_points(high)})"
    apart = "?" if is_missing(row["told_apart"]) else "yes" if row["told_apart"] else "no"
    return [
        row["called"],
        percent_text(row["first"]),
        percent_text(row["second"]),
        f"{_points(row['difference'])}{interval}",
        apart,
        _seeds_text(row),
        *_costs(row),
    ]


def _seeds_text(row: pd.Series) -> str:
    """How many seeds were compared: one number of pairs, or how many each has."""
    return count_text(row["seeds"]) if row["seeds"] else f"{row['first_seeds']}, {row['second_seeds']}"


def _costs(row: pd.Series) -> tuple[str, str]:
    if not is_missing(row["first_cost_usd"]) and not is_missing(row["second_cost_usd"]):
        return usd_text(row["first_cost_usd"]), usd_text(row["second_cost_usd"])
    return duration_text(row["first_seconds"]), duration_text(row["second_seconds"])


def _points(fraction: object) -> str:
    return MISSING if is_missing(fraction) else f"{100 * float(str(fraction)):+.1f}"


def _terminal_table(title: str, rows: pd.DataFrame) -> LongTable:
    return LongTable(
        headings=[
            Heading(text=text, on_the_right=place > 0, folds=place == 0, least_width=FEWEST_CELLS if place == 0 else 1)
            for place, text in enumerate(HEADINGS)
        ],
        rows=[Line(cells=_texts(row), style="bold" if row["told_apart"] is True else "") for _, row in rows.iterrows()],
        gap=2,
        title=title,
        ruled=True,
    )


def _page_table(title: str, rows: pd.DataFrame) -> Table:
    most = float(rows[["low", "high"]].astype(float).abs().max().max())
    return Table(
        caption=f"Accuracies and costs, {title}" if title else "Accuracies and costs",
        columns=[Column(text=text, is_name=place == 0) for place, text in enumerate(HEADINGS)],
        rows=[
            Row(
                cells=[
                    Cell(text=text, span=_span(row, most) if place == INTERVAL else None)
                    for place, text in enumerate(_texts(row))
                ],
                kind="pick" if row["told_apart"] is True else "",
            )
            for _, row in rows.head(MOST_ROWS).iterrows()
        ],
        notes=[f"The first {MOST_ROWS} of {len(rows)}."] if len(rows) > MOST_ROWS else [],
    )


def _span(row: pd.Series, most: float) -> Span | None:
    if is_missing(row["low"]) or is_missing(row["high"]) or not most > 0:
        return None

    def place(value: float) -> float:
        return round(50 + (50 - MARGIN) * value / most, 1)

    return Span(low=place(row["low"]), middle=place(row["difference"]), high=place(row["high"]), zero=50)
