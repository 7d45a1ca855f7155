"""What the commands print of this machine: the models it knows, its cache folder, what works on it.

In: what a command was given. Out: text on the terminal, and an exit status.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from raybench.cache import KINDS, cache_root, entries
from raybench.doctor import can_run_quickstart, diagnose, render
from raybench.eviction import clear, parse_age
from raybench.output import DONE, SOME_FAILED, console
from raybench.records import ModelSpec
from raybench.report.cache_views import cache_notes, cache_table, cleared_lines
from raybench.report.views import models_table


def print_models(names: Sequence[str], *, measured: bool, layers: bool, image_size: int | None) -> None:
    """Print model names, or depth, parameters, size and speed of some models, or their layers."""
    # torch's timer remarks on stderr that a machine has a CUDA toolkit but no GPU, which nobody asked.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    # Imported here, as below, because torch takes seconds that a ranking does not need.
    from raybench.training import measure  # noqa: PLC0415
    from raybench.training.architectures import known_names  # noqa: PLC0415

    out = console()
    if not names:
        out.print(Text(", ".join(known_names())))
        return
    specs = [ModelSpec(name=name, head=None) for name in names]
    if layers:
        for spec in specs:
            out.print(Text(measure.layers_text(spec, image_size=image_size)), soft_wrap=True)
        return
    rows = [measure.model_row(spec, image_size=image_size, measured=measured) for spec in specs]
    out.print(models_table(rows, measured=measured))


def print_cache() -> None:
    """Print what lies in the cache folder."""
    root = cache_root()
    found = entries(root)
    out = console()
    if found:
        out.print(cache_table(found))
    _print_lines(out, cache_notes(found, root))


def print_cleared(kind: str | None, older_than: str | None) -> None:
    """Remove what no process uses from the cache folder, and print what that freed."""
    root = cache_root()
    age = None if older_than is None else parse_age(older_than)
    cleared = clear(root, KINDS if kind is None else [kind], older_than=age)
    _print_lines(console(), cleared_lines(cleared, root))


def _print_lines(out: Console, lines: Sequence[str]) -> None:
    for line in lines:
        out.print(Text(line), soft_wrap=True)


def print_checks(folder: Path) -> int:
    """Print what works here and what does not; fail where the quickstart could not run."""
    checks = diagnose(folder)
    console().print(render(checks))
    return DONE if can_run_quickstart(checks) else SOME_FAILED
