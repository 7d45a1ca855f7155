"""What `cache show` and `cache clear` print: entries of the cache in, a table and sentences out.

Descriptions come from files: they are shown as text, never taken for markup, without control characters.
"""

from collections.abc import Sequence
from pathlib import Path

from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from raybench.cache import Entry, State
from raybench.eviction import Cleared
from raybench.formats import MISSING, safe_text
from raybench.report.plain_table import plain_table

STYLES = {State.PARTIAL: "yellow", State.IN_USE: "green"}


def cache_table(entries: Sequence[Entry]) -> Table:
    """Return one line an entry: what it is, its size on disk, when it was used last, and whether it is in use."""
    table = plain_table()
    table.add_column("kind", no_wrap=True)
    table.add_column("what", overflow="fold")
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("last used", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for entry in entries:
        table.add_row(
            entry.kind,
            Text(_what(entry)),
            decimal(entry.disk_bytes),
            f"{entry.last_used.astimezone():%Y-%m-%d %H:%M}",
            Text(entry.state, style=STYLES.get(entry.state, "")),
        )
    return table


def cache_notes(entries: Sequence[Entry], root: Path) -> list[str]:
    """Return the total, where it lies, and how to change either."""
    total = decimal(sum(entry.disk_bytes for entry in entries)) if entries else "Nothing"
    where = f"{total} in {root}; RAYBENCH_CACHE_DIR sets another folder."
    if not entries:
        return [where]
    return [where, "A run keeps it below its cache_limit_gb. To remove what no process uses: raybench cache clear"]


def cleared_lines(cleared: Cleared, root: Path) -> list[str]:
    """Return what was removed, and what was left and why."""
    return [
        f"Removed {_entries(len(cleared.removed))} from {root}: {decimal(cleared.freed_bytes)} freed."
        if cleared.removed
        else f"Nothing to remove from {root}.",
        *(
            f"Left {kept.entry.kind} {_what(kept.entry)} ({decimal(kept.entry.disk_bytes)}): {kept.reason}."
            for kept in cleared.kept
        ),
    ]


def _entries(count: int) -> str:
    return f"{count} entry" if count == 1 else f"{count} entries"


def _what(entry: Entry) -> str:
    """Return what an entry says of itself, or the beginning of its key."""
    description = entry.description or {}
    words = [description.get(name) for name in ("dataset", "model", "weights", "precision")]
    said = [safe_text(word) for word in words if isinstance(word, str) and word]
    for name, unit in (("images", "images"), ("image_size", "px")):
        if isinstance(description.get(name), int):
            said.append(f"{description[name]} {unit}")
    return ", ".join(said) or f"{MISSING} ({entry.key[:12]})"
