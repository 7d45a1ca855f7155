"""A ranking or a history in; Rich tables, Markdown, CSV or JSON out.

The terminal's table has the layout of published comparisons: model and strategy, val loss, val accuracy,
test accuracy, training time, epochs, rank. What is the same in every row stands in the title, and where the
terminal is narrow, digits and then the least needed columns go; CSV and JSON always hold everything.
Names come from files and are never taken for markup, formulas or control sequences.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from raybench.formats import (
    accuracy_text,
    clock_text,
    count_text,
    duration_text,
    is_missing,
    number_text,
    probability_text,
    safe_cell,
    safe_text,
    usd_text,
)
from raybench.report.long_table import Heading, LongTable, Row

LEGEND = (
    "* pick: the cheapest of those within one standard error of the best val accuracy\n"
    "F frontier: nothing cheaper is as accurate; !n: seeds not completed; time, epochs: means over seeds\n"
    "tie: cannot be told apart, compared seed by seed, from the first row with the same number"
)
INTERVAL_LEGEND = "\n±: half the width of the 95 % interval, whose ends lie unevenly around an accuracy near 0 or 1"
CHANCE_LEGEND = "\np best: probability of the highest accuracy of all over new seeds and new test images"
DIGITS = 4
NARROW_DIGITS = 3
"""Of accuracies and losses, where there is little room."""
FEWEST_NAME_CELLS = 8
"""Names are folded to no less than this."""


Cells = Mapping[str, Any]
"""One row of a ranking, by column."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One column of the table that people read."""

    name: str
    header: str
    narrow_header: str
    """Header where there is little room."""
    text: Callable[[Cells, int], str]
    """Cell for a row and a number of digits."""
    is_name: bool = False
    """Names stand on the left and are wrapped where they must be."""


def _marks(row: Cells, _digits: int) -> str:
    pick = "*" if row["pick"] else ""
    frontier = "F" if not is_missing(row["on_frontier"]) and row["on_frontier"] else ""
    stopped = f"!{row['stopped']}" if row["stopped"] else ""
    return f"{pick}{frontier}{stopped}"


COLUMNS: tuple[Column, ...] = (
    Column(
        name="model",
        header="model",
        narrow_header="model",
        text=lambda row, _: safe_text(row["model"]),
        is_name=True,
    ),
    Column(
        name="strategy",
        header="strategy",
        narrow_header="strategy",
        text=lambda row, _: safe_text(row["strategy"]),
        is_name=True,
    ),
    Column(
        name="weights",
        header="weights",
        narrow_header="weights",
        text=lambda row, _: safe_text(row["weights"]),
        is_name=True,
    ),
    Column(
        name="val_loss",
        header="val loss",
        narrow_header="val\nloss",
        text=lambda row, digits: number_text(row["val_loss"], digits),
    ),
    Column(
        name="val_accuracy",
        header="val acc",
        narrow_header="val\nacc",
        text=lambda row, digits: accuracy_text(row["val_accuracy"], digits=digits),
    ),
    Column(
        name="test_accuracy",
        header="test acc",
        narrow_header="test\nacc",
        text=lambda row, digits: accuracy_text(
            row["test_accuracy"],
            row["test_accuracy_low"],
            row["test_accuracy_high"],
            digits=digits,
        ),
    ),
    Column(
        name="p_best",
        header="p best",
        narrow_header="p\nbest",
        text=lambda row, _: probability_text(row["p_best"]),
    ),
    Column(
        name="train_seconds",
        header="time",
        narrow_header="time",
        text=lambda row, _: clock_text(row["train_seconds"]),
    ),
    Column(
        name="epochs_run",
        header="epochs",
        narrow_header="ep.",
        text=lambda row, digits: count_text(row["epochs_run"], 1 if digits > NARROW_DIGITS else 0),
    ),
    Column(
        name="rank",
        header="rank",
        narrow_header="#",
        text=lambda row, _: count_text(row["rank"]),
    ),
    Column(
        name="standalone_cost_usd",
        header="cost $",
        narrow_header="cost $",
        text=lambda row, _: usd_text(row["standalone_cost_usd"]).removeprefix("$"),
    ),
    Column(
        name="seeds",
        header="seeds",
        narrow_header="seeds",
        text=lambda row, _: count_text(row["seeds"]),
    ),
    Column(
        name="tie_group",
        header="tie",
        narrow_header="tie",
        text=lambda row, _: count_text(row["tie_group"]),
    ),
    Column(name="marks", header="", narrow_header="", text=_marks),
)
"""All columns, in order."""

IN_TITLE = {"weights": "weights {}", "strategy": "{}", "seeds": "{} seeds"}
"""Columns that move to the title where every row says the same."""

FIRST_TO_GO = (
    "tie_group",
    "seeds",
    "val_loss",
    "epochs_run",
    "p_best",
    "standalone_cost_usd",
    "val_accuracy",
    "train_seconds",
)
"""What a narrow terminal does without, one after the other, when shorter headers, digits and names are not enough."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Layout:
    """One way to lay a table out."""

    columns: tuple[Column, ...]
    narrow: bool
    """Short headers, names on two lines."""
    digits: int

    @property
    def gap(self) -> int:
        """Cells between two columns."""
        return 1 if self.narrow else 2

    def header(self, column: Column) -> str:
        return column.narrow_header if self.narrow else column.header

    def cell(self, column: Column, row: Cells) -> str:
        text = column.text(row, self.digits)
        return _broken(text) if self.narrow and column.is_name else text


def ranking_tables(ranking: pd.DataFrame, *, width: int) -> RenderableType:
    """Table of each dataset and train_size, made to fit a width in cells, and the legend of the marks."""
    groups = [group for _, group in ranking.groupby(["dataset", "train_size"], dropna=False, sort=False)]
    tables = [part for group in groups for part in (_ranking_table(group, width), Text())]
    return Group(*tables, Text(_legend(ranking), style="dim"))


def to_markdown(ranking: pd.DataFrame) -> str:
    """The tables of `ranking_tables` with all their columns, for a README or an issue."""
    parts = []
    for _, group in ranking.groupby(["dataset", "train_size"], dropna=False, sort=False):
        columns = [column for column in COLUMNS if _says_something(column, group)]
        lines = [
            [column.header or "marks" for column in columns],
            ["---" if column.is_name else "---:" for column in columns],
            *([markdown_text(column.text(row, DIGITS)) for column in columns] for row in _rows(group)),
        ]
        title = markdown_text(_title(group, ()))
        parts.append("\n".join([f"**{title}**", "", *(f"| {' | '.join(line)} |" for line in lines)]))
    return "\n\n".join([*parts, _legend(ranking).replace("* pick", "\\* pick").replace("\n", "  \n"), ""])


def _legend(ranking: pd.DataFrame) -> str:
    interval = INTERVAL_LEGEND * bool(ranking["test_accuracy_low"].notna().any())
    return LEGEND + interval + CHANCE_LEGEND * bool(ranking["p_best"].notna().any())


def to_csv(ranking: pd.DataFrame) -> str:
    """All columns of the ranking; missing values are empty, and no text is left that a spreadsheet would run."""
    return ranking.astype(object).map(safe_cell).to_csv(index=False, lineterminator="\n")


def to_json(ranking: pd.DataFrame) -> str:
    """All columns of the ranking, one object a configuration; missing values are null."""
    rows = [{name: _plain(value) for name, value in row.items()} for row in ranking.astype(object).to_dict("records")]
    return json.dumps(rows, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


FORMATS: dict[str, Callable[[pd.DataFrame], str]] = {"markdown": to_markdown, "csv": to_csv, "json": to_json}
"""How a ranking is written where it is not a table in a terminal."""


def epochs_table(history: pd.DataFrame, *, title: str = "") -> RenderableType:
    """Epochs of one trial, with best val accuracy, lowest val loss and total time below.

    Args:
        history: the trial's rows; `phase`, `learning_rate` and `epoch_seconds` are shown where there are any.
        title: name of the trial.
    """
    rows = history.sort_values("epoch")
    phases = "phase" in rows and len(set(rows["phase"])) > 1
    table = Table(box=box.SIMPLE_HEAD, title=Text(safe_text(title)) if title else None, title_justify="left")
    columns: list[tuple[str, Callable[[object], str]]] = [
        *([("phase", count_text)] if phases else []),
        ("epoch", count_text),
        *((name, number_text) for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy")),
        *([("epoch_seconds", clock_text)] if "epoch_seconds" in rows else []),
    ]
    shown = [(name, text) for name, text in columns if name in rows]
    for name, _ in shown:
        table.add_column(EPOCH_HEADERS.get(name, name), justify="right")
    for _, row in rows.iterrows():
        table.add_row(*(text(row[name]) for name, text in shown))
    return Group(table, Text("\n".join(_epochs_summary(rows))))


EPOCH_HEADERS = {
    "train_loss": "train loss",
    "train_accuracy": "train acc",
    "val_loss": "val loss",
    "val_accuracy": "val acc",
    "epoch_seconds": "time",
}
"""Headers of `epochs_table` where they are not the column's name."""


def _epochs_summary(rows: pd.DataFrame) -> Iterator[str]:
    for column, what, best in (
        ("val_accuracy", "best val accuracy", pd.Series.max),
        ("val_loss", "lowest val loss", pd.Series.min),
    ):
        if rows[column].notna().any():
            value = best(rows[column])
            epoch = rows["epoch"][rows[column] == value].iloc[0]
            yield f"{what} {number_text(value)} (epoch {count_text(epoch)})"
    if "epoch_seconds" in rows:
        yield f"total time {duration_text(rows['epoch_seconds'].sum(min_count=1))}"


def _ranking_table(group: pd.DataFrame, width: int) -> LongTable:
    in_title = [name for name in IN_TITLE if len(group) > 1 and len(set(group[name].map(str))) == 1]
    shown = tuple(column for column in COLUMNS if column.name not in in_title and _says_something(column, group))
    title = _title(group, in_title)
    tables = (_laid_out(layout, _rows(group), title) for layout in _layouts(shown))
    table = next(tables)
    while table.width() > width and (narrower := next(tables, None)):
        table = narrower
    return table


def _rows(group: pd.DataFrame) -> list[Cells]:
    return [{str(name): value for name, value in row.items()} for row in group.to_dict("records")]


def _laid_out(layout: _Layout, rows: Sequence[Cells], title: str) -> LongTable:
    return LongTable(
        headings=[
            Heading(
                text=layout.header(column),
                on_the_right=not column.is_name and column.name != "marks",
                folds=column.is_name,
                least_width=FEWEST_NAME_CELLS if column.is_name else 1,
            )
            for column in layout.columns
        ],
        rows=[
            Row(
                cells=[layout.cell(column, row) for column in layout.columns],
                style="bold" if row["pick"] else "dim" if row["stopped"] else "",
            )
            for row in rows
        ],
        gap=layout.gap,
        title=title,
        ruled=True,
    )


def _layouts(columns: tuple[Column, ...]) -> Iterator[_Layout]:
    """From the roomiest to the narrowest."""
    yield _Layout(columns=columns, narrow=False, digits=DIGITS)
    yield _Layout(columns=columns, narrow=True, digits=DIGITS)
    yield _Layout(columns=columns, narrow=True, digits=NARROW_DIGITS)
    for name in FIRST_TO_GO:
        columns = tuple(column for column in columns if column.name != name)
        yield _Layout(columns=columns, narrow=True, digits=NARROW_DIGITS)


def _title(group: pd.DataFrame, in_title: list[str] | tuple[str, ...]) -> str:
    first = group.iloc[0]
    size = "" if is_missing(first["train_size"]) else f"{first['train_size']} training images"
    same = [IN_TITLE[name].format(safe_text(first[name])) for name in in_title if not is_missing(first[name])]
    same = ["1 seed" if text == "1 seeds" else text for text in same]
    return ", ".join(filter(None, [safe_text(first["dataset"]), size, *same]))


def _says_something(column: Column, group: pd.DataFrame) -> bool:
    return column.name == "marks" or bool(group[column.name].notna().any())


def _broken(name: str) -> str:
    """A name on two lines: a strategy before its augmentation."""
    head, plus, tail = name.partition("+")
    return f"{head}\n+{tail}" if plus else name


def markdown_text(text: str) -> str:
    """Return a text with everything escaped that Markdown would take for markup."""
    for letter, safe in (
        ("\\", "\\\\"),
        ("|", "\\|"),
        ("<", "&lt;"),
        ("`", "\\`"),
        ("*", "\\*"),
        ("_", "\\_"),
        ("[", "\\["),
    ):
        text = text.replace(letter, safe)
    return text


def _plain(value: object) -> object:
    """A value that JSON knows."""
    if is_missing(value):
        return None
    return value.item() if hasattr(value, "item") else value
