"""The table that short views share: no lines, bold headings."""

from rich.table import Table


def plain_table() -> Table:
    """Return one without columns."""
    return Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
