"""What the scripts here share: names of trials, tables, plots, and how bad input ends."""

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from raybench.errors import InputError
from raybench.formats import MISSING, is_missing, safe_text

Formats = Mapping[str, str | Callable[[Any], str]]
"""How columns are written: a format specification such as `.4f`, or a function."""
Output = Annotated[Path | None, typer.Option(metavar="FILE.html", help="Draw it as well.", show_default="no plot")]


def labels(rows: pd.DataFrame, columns: Sequence[str]) -> "pd.Series[str]":
    """Return what each row says in these columns, without what is missing: `resnet18 lp-ft train_size=833`."""
    parts = [
        [
            safe_text(value if isinstance(value, str) else f"{name}={value}") * (not is_missing(value))
            for value in rows[name]
        ]
        for name in columns
        if name in rows
    ]
    return pd.Series([" ".join(filter(None, row)) for row in zip(*parts, strict=True)], rows.index, dtype=object)


def print_table(title: str, rows: pd.DataFrame, formats: Formats) -> None:
    """Print columns of rows, each in its format; the first holds names, the others numbers."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for place, name in enumerate(formats):
        table.add_column(name.replace("_", " "), justify="right" if place else "left", overflow="fold")
    for row in rows[list(formats)].itertuples(index=False):
        table.add_row(*(Text(_cell(value, how)) for value, how in zip(row, formats.values(), strict=True)))
    Console().print(Text(title, style="bold"), table, sep="\n")


def _cell(value: object, how: str | Callable[[Any], str]) -> str:
    if is_missing(value):
        return MISSING
    return format(value, how) if isinstance(how, str) else how(value)


def print_lines(lines: Iterable[str]) -> None:
    """Print what a reader must know of the tables."""
    for line in lines:
        Console().print(Text(safe_text(line), style="dim"))


@contextmanager
def answering(output: Path | None) -> Iterator[Any]:
    """Yield plotly.express, or None where no plot is wanted; bad input ends in one message and status 2."""
    try:
        yield None if output is None else _plotly(output)
    except (InputError, OSError) as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(2) from None


def _plotly(output: Path) -> Any:  # noqa: ANN401 - it ships no types
    if output.suffix != ".html" or not output.parent.is_dir():
        raise InputError(f"--output: {output} cannot be written; give a name that ends in .html, in a folder there is")
    try:
        return importlib.import_module("plotly.express")
    except ImportError:
        raise InputError("--output: a plot needs plotly; pip install 'raybench[analysis]'") from None
