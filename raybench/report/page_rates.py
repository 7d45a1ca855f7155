"""Which learning rates were tried and chosen: material in, blocks of a page out; none where all rates were fixed."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, Final

import pandas as pd

from raybench.formats import MISSING, count_text, safe_text
from raybench.learning_rates import rates_text
from raybench.report.advice import configuration_name
from raybench.report.page_material import Material
from raybench.report.page_parts import Block, Column, Row, Table, cells
from raybench.report.search_views import EDGE_NOTE, NOTE, decision_text, loss_text
from raybench.runs import open_run
from raybench.tries import CONFIGURATION

MOST_OPEN: Final = 12
"""Configurations up to which a table stands open."""
MOST_ROWS: Final = 200
DEFAULT_FACTOR: Final = 1.0
TITLE: Final = "Learning rates tried"


def rate_blocks(material: Material) -> Iterator[Block]:
    """Say of each run what was tried for each configuration, what came of it, and what was chosen."""
    several = len(material.runs) > 1
    for place, run in enumerate(material.runs):
        tried = open_run(run.run_dir).search()
        if len(tried):
            name = f" in {safe_text(run.run_dir.resolve().name)}" if several else ""
            yield _table(tried, name).placed(f"rates-{place}", f"{TITLE}{name}")


def _table(tried: pd.DataFrame, name: str) -> Table:
    factors = sorted(tried["factor"].unique())
    groups = [tries for _, tries in tried.groupby(CONFIGURATION, sort=False)]
    with_dataset = len(set(tried["dataset"])) > 1
    notes = (
        [NOTE]
        if len(groups) <= MOST_ROWS
        else [f"The first {MOST_ROWS} of {len(groups)}; raybench show has all.", NOTE]
    )
    return Table(
        caption=f"Val loss by learning rate{name}",
        columns=[
            Column(text="configuration", is_name=True),
            *([Column(text="dataset", is_name=True)] if with_dataset else []),
            Column(text="training images"),
            Column(text="default rate"),
            *(Column(text=f"x {factor:g}") for factor in factors),
            Column(text="chosen", is_name=True),
        ],
        rows=[
            Row(cells=cells(*_texts(tries, factors, tried, with_dataset=with_dataset))) for tries in groups[:MOST_ROWS]
        ],
        notes=[*notes, f"At the edge of the rates tried: {EDGE_NOTE}"] if tried["at_edge"].any() else notes,
        folded=f"{TITLE}{name}: {len(groups)} configurations" if len(groups) > MOST_OPEN else "",
    )


def _texts(tries: pd.DataFrame, factors: Sequence[float], tried: pd.DataFrame, *, with_dataset: bool) -> list[str]:
    by_factor: dict[Hashable, Mapping[Hashable, Any]] = {row["factor"]: row for row in tries.to_dict("records")}
    first, default = tries.iloc[0], by_factor.get(DEFAULT_FACTOR)
    return [
        configuration_name(first, tried),
        *([safe_text(first["dataset"])] if with_dataset else []),
        count_text(first["train_size"]),
        MISSING if default is None else rates_text(default["learning_rates"]),
        *(loss_text(by_factor.get(factor)) for factor in factors),
        decision_text(tries, edge=", at the edge"),
    ]
