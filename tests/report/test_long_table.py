import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich import box
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from raybench.report.long_table import Heading, LongTable, Row

HEADINGS = (
    Heading(text="name", on_the_right=False, folds=True, least_width=8),
    Heading(text="val\nloss"),
    Heading(text="", on_the_right=False),
)
WORDS = st.text(st.sampled_from("abc é漢[]"), max_size=12).map(str.strip)


def printed(what: RenderableType, width: int, *, colours: bool = False) -> str:
    console = Console(
        width=width, file=io.StringIO(), force_terminal=colours, color_system="standard" if colours else None
    )
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def of_rich(table: LongTable) -> Table:
    """The same in Rich's own table."""
    rich = Table(box=box.SIMPLE_HEAD, padding=(0, table.gap - 1, 0, 0), pad_edge=False, show_edge=False)
    for heading in table.headings:
        rich.add_column(
            heading.text,
            justify="right" if heading.on_the_right else "left",
            no_wrap=not heading.folds,
            overflow="fold",
            min_width=heading.least_width,
        )
    for row in table.rows:
        rich.add_row(*map(Text, row.cells))
    return rich


@given(
    rows=st.lists(st.tuples(WORDS, WORDS.filter(bool), WORDS), min_size=1, max_size=4),
    width=st.sampled_from([40, 60, 80]),
)
def test_what_fits_looks_as_rich_lays_it_out(rows: list[tuple[str, str, str]], width: int) -> None:
    table = LongTable(headings=HEADINGS, rows=[Row(cells=row) for row in rows], gap=2, ruled=True)
    if table.width() <= width:
        assert printed(table, width) == printed(of_rich(table), width)


@given(name=st.text(st.sampled_from("abc漢 "), min_size=1, max_size=60).map(str.strip).filter(bool))
def test_names_are_folded_to_fit_and_never_cut(name: str) -> None:
    table = LongTable(headings=HEADINGS, rows=[Row(cells=[name, "0.5", "*"])], gap=2)
    lines = printed(table, 24).splitlines()
    assert max(map(cell_len, lines)) <= 24
    folded = "".join(line[: line.rindex("0.5")] if "0.5" in line else line for line in lines[2:])
    assert "".join(folded.replace("*", "").split()) == "".join(name.split())


def test_cells_of_several_lines_stand_side_by_side() -> None:
    table = LongTable(headings=HEADINGS, rows=[Row(cells=["fine-tune\n+augment", "0.5", "F"])], gap=1)
    assert [line.rstrip() for line in printed(table, 40).splitlines()] == [
        "           val",
        "name      loss",
        "fine-tune  0.5 F",
        "+augment",
    ]


def test_rows_and_cells_have_their_styles() -> None:
    rows = [Row(cells=["a", "1", ""], style="bold"), Row(cells=["b", "2", ""], cell_styles={1: "red"})]
    text = printed(LongTable(headings=HEADINGS, rows=rows, gap=2), 40, colours=True)
    bold, red = text.splitlines()[2:]
    assert bold.startswith("\x1b[1ma")
    assert red.startswith("b")
    assert "\x1b[31m   2\x1b[0m" in red


@pytest.mark.parametrize("width", [3, 10])
def test_what_does_not_fit_when_folded_is_cut_off_on_the_right(width: int) -> None:
    table = LongTable(headings=HEADINGS, rows=[Row(cells=["resnet18", "0.5000", "*"])], gap=2, title="title")
    assert max(map(len, printed(table, width).splitlines())) <= width


def test_table_without_rows_shows_its_headings() -> None:
    assert "name" in printed(LongTable(headings=HEADINGS, rows=[], gap=2), 40)
