"""What accuracy costs and what each choice buys: findings in, blocks of a page out."""

from collections.abc import Iterator

import pandas as pd

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
from raybench.report.advice import configuration_name
from raybench.report.page_findings import Findings
from raybench.report.page_parts import Block, Cell, Column, Mood, Paragraph, Row, Span, Table, cells, cut
from raybench.value import CostUnit, budgets

MOST_STEPS = 12
MOST_TABLES = 12
MARGIN = 4


def value_blocks(findings: Findings, main: pd.DataFrame) -> Iterator[Block]:
    """Say which configuration wins under which budget, for a group and below it for all others.

    Args:
        findings: of the whole page.
        main: the group that the first screen is about.
    """
    tables = [*_worth_tables(findings.overall, findings, main), *_worth_tables(findings.worth, findings, main)]
    yield from sorted(tables[:MOST_TABLES], key=lambda table: bool(table.folded))
    if tables:
        yield Paragraph(
            text="Each line is a step of the frontier: from its cost on, it is the most accurate that the money buys. "
            "Points gained are over the line before, with a 95 % interval; a gain whose interval holds 0 may be chance."
        )


def _worth_tables(worth: pd.DataFrame, findings: Findings, main: pd.DataFrame) -> Iterator[Table]:
    if worth.empty:
        return
    steps = budgets(worth)
    first = main.iloc[0]
    for place, ((dataset, comparison), rows) in enumerate(steps.groupby(["dataset", "comparison"], sort=False)):
        across = worth is findings.overall
        size = "" if is_missing(first["train_size"]) else str(first["train_size"])
        is_main = dataset == first["dataset"] and (across or comparison == size)
        title = f"{safe_text(dataset)}, {'all sizes together' if across else f'{comparison} training images'}"
        title = safe_text(dataset) if comparison == "" else title
        name = f"worth-{'all' if across else 'size'}-{place}"
        yield _steps_table(rows, worth, title, folded="" if is_main else title).placed(name, title)


def _steps_table(rows: pd.DataFrame, worth: pd.DataFrame, title: str, *, folded: str) -> Table:
    in_usd = rows["unit"].iloc[0] == CostUnit.USD
    text = usd_text if in_usd else duration_text
    lines = [
        Row(
            cells=cells(
                text(row["from_budget"]),
                configuration_name(row, worth),
                count_text(row["train_size"]),
                percent_text(row["accuracy"]),
                _gain(row),
                MISSING if is_missing(row["cost_per_point"]) else text(row["cost_per_point"]),
            )
        )
        for _, row in rows.iterrows()
    ]
    shown, notes = cut(lines, "steps", MOST_STEPS)
    return Table(
        caption=f"What wins from which budget on, {title}",
        columns=[
            Column(text="from a budget of"),
            Column(text="the winner", is_name=True),
            Column(text="images"),
            Column(text="accuracy"),
            Column(text="points gained"),
            Column(text="cost of a point"),
        ],
        rows=shown,
        notes=notes,
        folded=folded,
    )


def _gain(row: pd.Series) -> str:
    if is_missing(row["points"]):
        return MISSING
    text = f"{row['points']:+.1f}"
    if is_missing(row["points_low"]) or is_missing(row["points_high"]):
        return text
    return f"{text} ({row['points_low']:+.1f} to {row['points_high']:+.1f})"


def gain_blocks(findings: Findings) -> Iterator[Block]:
    """Say what fine-tuning, augmentation, depth, pretraining and more data gain on average, and pair by pair."""
    averages = findings.average_gains
    if averages.empty:
        return
    several = len(set(averages["dataset"])) > 1
    yield Paragraph(text=_gain_sentence(averages))
    opposite = _opposite_gains(findings.gains, several=several)
    if opposite:
        yield Paragraph(text=f"{' '.join(opposite)} An average of opposites holds for neither.", mood=Mood.CARE)
    most = float(averages[["difference", "low", "high"]].astype(float).abs().max().max())
    lines = [
        Row(
            cells=[
                Cell(text=_kind(row, several=several)),
                Cell(text=count_text(row["train_size"])),
                Cell(text=count_text(row["pairs"])),
                _difference_cell(row, most),
            ]
        )
        for _, row in averages.iterrows()
    ]
    shown, notes = cut(lines, "averages", 60)
    yield Table(
        caption="What each choice gains, averaged over the pairs of configurations that nothing else tells apart",
        columns=[
            Column(text="choice", is_name=True),
            Column(text="training images"),
            Column(text="pairs"),
            Column(text="points gained, 95 % interval"),
        ],
        rows=shown,
        notes=notes,
    )
    yield from _pair_tables(findings.gains, several=several)


def _gain_sentence(averages: pd.DataFrame) -> str:
    """The gains of each kind at its largest size, in one sentence."""
    said = []
    for kind, rows in averages[averages["dataset"] == averages["dataset"].iloc[0]].groupby("kind", sort=False):
        last = rows.sort_values("train_size", na_position="first").iloc[-1]
        size = "" if is_missing(last["train_size"]) else f" at {last['train_size']} images"
        interval = "" if is_missing(last["low"]) else f" ({_points(last['low'])} to {_points(last['high'])})"
        said.append(f"{safe_text(kind)} {_points(last['difference'])} points{size}{interval}")
    return f"{capitalized(joined(said))}, on average."


def _opposite_gains(gains: pd.DataFrame, *, several: bool) -> list[str]:
    """Say of each choice, at its largest size, where it is proven to help some pairs and to harm others."""
    proven = gains[gains["told_apart"].fillna(value=False).astype(bool)]
    said = []
    for _, rows in proven.groupby(["dataset", "kind"], sort=False):
        last = rows[rows["train_size"].isna() | (rows["train_size"] == rows["train_size"].max())]
        points = last["difference"].astype(float)
        most, least = last.loc[points.idxmax()], last.loc[points.idxmin()]
        if least["difference"] < 0 < most["difference"]:
            size = "" if is_missing(most["train_size"]) else f" at {most['train_size']} images"
            where = [f"{_points(each['difference'])} points for {_pair_name(each)}" for each in (most, least)]
            said.append(f"{_kind(most, several=several)}{size}: {' but '.join(where)}.")
    return said


def _pair_tables(gains: pd.DataFrame, *, several: bool) -> Iterator[Table]:
    for (dataset, kind), rows in gains.groupby(["dataset", "kind"], sort=False):
        most = float(rows[["difference", "low", "high"]].astype(float).abs().max().max())
        lines = [
            Row(
                cells=[
                    Cell(text=_pair_name(row)),
                    Cell(text=count_text(row["train_size"])),
                    *cells(percent_text(row["accuracy_before"]), percent_text(row["accuracy_after"])),
                    _difference_cell(row, most),
                    Cell(text="unknown" if is_missing(row["told_apart"]) else "yes" if row["told_apart"] else "no"),
                    *cells(*(_cost(row[name], row["unit"]) for name in ("cost_before", "cost_after"))),
                ]
            )
            for _, row in rows.iterrows()
        ]
        shown, notes = cut(lines, "pairs", 60)
        title = f"{capitalized(safe_text(kind))}, pair by pair" + (f", {safe_text(dataset)}" if several else "")
        yield Table(
            caption=title,
            columns=[
                Column(text="pair", is_name=True),
                *(Column(text=text) for text in ("images", "before", "after", "points gained, 95 % interval")),
                *(Column(text=text) for text in ("told apart", "cost before", "cost after")),
            ],
            rows=shown,
            notes=notes,
            folded=title,
        )


def _pair_name(row: pd.Series) -> str:
    """What the two of a pair share, and what changes."""
    change = f"{safe_text(row['before'])} → {safe_text(row['after'])}"
    before = safe_text(row["before"])
    shared = [safe_text(row[name]) for name in ("model", "weights", "strategy") if safe_text(row[name]) != before]
    return f"{' '.join(filter(None, shared))}: {change}"


def _kind(row: pd.Series, *, several: bool) -> str:
    return capitalized(safe_text(row["kind"])) + (f", {safe_text(row['dataset'])}" if several else "")


def _difference_cell(row: pd.Series, most: float) -> Cell:
    low, high = row["low"], row["high"]
    if is_missing(low) or is_missing(high) or not most > 0:
        return Cell(text=_points(row["difference"]))

    def place(value: float) -> float:
        return round(50 + (50 - MARGIN) * value / most, 1)

    span = Span(low=place(low), middle=place(row["difference"]), high=place(high), zero=50)
    return Cell(text=f"{_points(row['difference'])} ({_points(low)} to {_points(high)})", span=span)


def _points(fraction: object) -> str:
    return MISSING if is_missing(fraction) else f"{100 * float(str(fraction)):+.1f}"


def _cost(cost: object, unit: object) -> str:
    return usd_text(cost) if unit == CostUnit.USD else duration_text(cost)
