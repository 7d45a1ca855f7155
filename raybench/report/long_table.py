"""A table of thousands of rows: headings and cells of text in, lines on the terminal out.

Rich's own table lays out each cell by itself, in about 0.1 ms: ten seconds for 10,000 trials. Here a row is its cells
side by side, and takes microseconds.

Covered: cells of several lines, names that are folded where the terminal is narrow, styles of rows and cells.
Not covered: markup and control characters, which the cells must be free of. What does not fit even when all names are
folded is cut off on the right.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.text import Text


@dataclass(frozen=True, kw_only=True, slots=True)
class Heading:
    """What stands above a column, and how the column is laid out."""

    text: str
    on_the_right: bool = True
    folds: bool = False
    """Whether its cells are folded where the table does not fit."""
    least_width: int = 1
    """Cells that the column takes at least."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One row of the table."""

    cells: Sequence[str]
    style: str = ""
    cell_styles: Mapping[int, str] = field(default_factory=dict)
    """By the cell's place, in place of the row's style."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LongTable:
    """Something to print with Rich."""

    headings: Sequence[Heading]
    rows: Sequence[Row]
    gap: int
    """Cells between two columns."""
    title: str = ""
    ruled: bool = False
    """Whether a line stands below the headings."""

    def widths(self) -> list[int]:
        """Cells that each column takes where nothing is folded."""
        columns = zip(*(row.cells for row in self.rows), strict=True) if self.rows else ((),) * len(self.headings)
        return [
            max(heading.least_width, *(cell_len(line) for text in (heading.text, *column) for line in text.split("\n")))
            for heading, column in zip(self.headings, columns, strict=True)
        ]

    def width(self) -> int:
        """Cells that the table takes where nothing is folded."""
        return self._total(self.widths())

    def _total(self, widths: Sequence[int]) -> int:
        return sum(widths) + self.gap * (len(widths) - 1)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = self._folded(self.widths(), options.max_width)
        if self.title:
            yield Text(self.title, style="bold")
        headings = [_lines(each.text, width, console) for each, width in zip(self.headings, widths, strict=True)]
        most = max(map(len, headings))
        at_the_bottom = ["\n" * (most - len(lines)) + "\n".join(lines) for lines in headings]
        yield from self._segments(Row(cells=at_the_bottom, style="bold"), widths, console)
        if self.ruled:
            yield Segment("─" * self._total(widths) + "\n")
        for row in self.rows:
            yield from self._segments(row, widths, console)

    def _folded(self, widths: Sequence[int], room: int) -> list[int]:
        """Widths that fit, the widest of the columns that fold being the first to give way."""
        folded = list(widths)
        while self._total(folded) > room:
            places = [p for p, each in enumerate(self.headings) if each.folds and folded[p] > each.least_width]
            if not places:
                break
            folded[max(places, key=folded.__getitem__)] -= 1
        return folded

    def _segments(self, row: Row, widths: Sequence[int], console: Console) -> Iterator[Segment]:
        between = " " * self.gap
        cells = [_lines(text, width, console) for text, width in zip(row.cells, widths, strict=True)]
        for line in zip_longest(*cells, fillvalue=""):
            filled = [
                _filled(text, width, on_the_right=heading.on_the_right)
                for text, width, heading in zip(line, widths, self.headings, strict=True)
            ]
            if not row.cell_styles:
                yield Segment(between.join(filled) + "\n", console.get_style(row.style))
                continue
            for place, text in enumerate(filled):
                yield Segment(text, console.get_style(row.cell_styles.get(place, row.style)))
                yield Segment(between if place < len(filled) - 1 else "\n")


def _lines(text: str, width: int, console: Console) -> list[str]:
    """The lines of a cell, those that are too long folded, between words where there are any."""
    lines = text.split("\n")
    if all(cell_len(line) <= width for line in lines):
        return lines
    return [piece.plain.rstrip() for line in lines for piece in Text(line).wrap(console, width, overflow="fold")]


def _filled(text: str, width: int, *, on_the_right: bool) -> str:
    blanks = " " * (width - cell_len(text))
    return blanks + text if on_the_right else text + blanks
