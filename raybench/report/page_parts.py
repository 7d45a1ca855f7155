"""What a page is made of: plain tables, figures, lists and sentences, before anything is HTML.

All text is what people read, taken through `formats.safe_text` where it comes from files. Escaping is the template's
business, and that of `figures.label` for text inside a figure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

MOST_ROWS = 200
"""Rows of a table on a page; the rest is counted, and stands in the CSV."""


class Mood(StrEnum):
    """How good a piece of news is."""

    GOOD = "good"
    CARE = "care"
    """The reader has to know it before relying on the answer."""
    PLAIN = "plain"


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One column of a table."""

    text: str
    is_name: bool = False
    """Names stand on the left, numbers on the right."""
    about: str = ""
    """What the heading means, where that needs saying."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """An interval drawn in a cell, on a scale that all rows share; each from 0 to 100."""

    low: float
    middle: float
    high: float
    zero: float | None = None
    """Where a line marks no difference."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One cell of a table."""

    text: str
    span: Span | None = None
    shade: int | None = None
    """How deep it is coloured, from 0 to 10."""
    link: str = ""
    """Place on the page that it leads to."""


def cells(*texts: str) -> list[Cell]:
    """Cells of text alone."""
    return [Cell(text=text) for text in texts]


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One row of a table."""

    cells: Sequence[Cell]
    kind: str = ""
    """`pick`, `incomplete` or nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Numbers that a reader can go through."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    notes: Sequence[str] = ()
    folded: str = ""
    """What stands on the line that opens it; nothing: it is open from the start."""
    name: str = ""
    """Its place on the page, for links."""
    title: str = ""
    """Heading above it."""
    kind: str = "table"

    def placed(self, name: str, title: str) -> "Table":
        """Return the table at a place of its own, below a heading where it is open."""
        return replace(self, name=name, title="" if self.folded else title)


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A plot, the sentence that says what it shows, and its numbers."""

    name: str
    """Letters, digits and '-': its place on the page."""
    title: str
    text: str
    """What a reader who does not see it has to know."""
    plot: Mapping[str, Any]
    """Plotly's `data` and `layout`; colours are names of `theme.PALETTES`."""
    height: int
    """In pixels."""
    table: Table | None = None
    kind: str = "figure"


@dataclass(frozen=True, kw_only=True, slots=True)
class Paragraph:
    """Some sentences."""

    text: str
    mood: Mood = Mood.PLAIN
    kind: str = "paragraph"


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One line of a list: what it is about, and what is to be said."""

    label: str
    text: str
    mood: Mood = Mood.PLAIN


@dataclass(frozen=True, kw_only=True, slots=True)
class Points:
    """A list of labelled sentences."""

    points: Sequence[Point]
    kind: str = "points"


@dataclass(frozen=True, kw_only=True, slots=True)
class Code:
    """A file or a command, to be copied."""

    caption: str
    text: str
    folded: bool = False
    kind: str = "code"


Block = Table | Figure | Paragraph | Points | Code


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A part of the page below its first screen."""

    name: str
    """Its place on the page, for links."""
    title: str
    blocks: Sequence[Block]
    link: str = ""
    """What links to it say; nothing: the title."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """The first screen."""

    question: str
    """What it is the answer for: dataset and training-set size."""
    headline: str
    """The configuration to use, or why there is none."""
    verdict: Point | None
    """How sure that is."""
    detail: str
    """What the parts of its name are."""
    points: Sequence[Point]
    """Accuracy, costs, weakest class, what cannot be told apart."""
    figure: Figure | None
    trust: Sequence[Point]
    next_step: Point | None
    others: Table | None
    """Picks of the other datasets and sizes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportData:
    """A whole page."""

    title: str
    subtitle: str
    answer: Answer
    sections: Sequence[Section]


def cut(rows: Sequence[Row], what: str, most: int = MOST_ROWS) -> tuple[Sequence[Row], tuple[str, ...]]:
    """Return the rows that a page shows, and the note on those that it does not."""
    if len(rows) <= most:
        return rows, ()
    note = f"The first {most} of {len(rows)} {what}; all of them: raybench rank SOURCE --format csv."
    return rows[:most], (note,)
