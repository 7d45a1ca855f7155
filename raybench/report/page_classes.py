"""How well each class is recognised: recalls of trials in, the weakest class and a table of recalls out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from raybench.alike import TrialsByRow, trials_of
from raybench.formats import percent_text, safe_text, shortened
from raybench.report.advice import configuration_name, group_name
from raybench.report.page_material import Material
from raybench.report.page_parts import Cell, Column, Row, Table

MOST_CONFIGURATIONS = 20
MOST_LETTERS = 30
"""Of a class's name."""
MOST_CLASSES = 30
"""Columns of the table of recalls: beyond them, the classes that are recognised worst."""
DEEPEST = 10
"""Deepest shade of a cell."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Weakest:
    """The class that a configuration recognises least often."""

    name: str
    recall: float
    """Fraction of its test images that are found, as a mean over seeds."""


def recalls_of(trials: pd.DataFrame) -> np.ndarray:
    """Recall of each class [classes], as a mean over the seeds of one configuration; empty where unknown."""
    if "test_per_class_recall" not in trials:
        return np.zeros(0)
    known = [
        np.array(list(cell), dtype=float)
        for cell in trials["test_per_class_recall"]
        if isinstance(cell, np.ndarray | list | tuple) and len(cell)
    ]
    if not known or len({len(each) for each in known}) > 1:
        return np.zeros(0)
    table = np.stack(known)
    counts = np.isfinite(table).sum(axis=0)
    return np.where(counts > 0, np.nansum(table, axis=0) / np.maximum(counts, 1), np.nan)


def weakest_class(material: Material, row: pd.Series) -> Weakest | None:
    """Return the class of lowest recall; None where recalls are unknown or there is one class."""
    recalls = recalls_of(trials_of(material.results, row))
    if np.isfinite(recalls).sum() < 2:  # noqa: PLR2004 - of one class, none is the weakest
        return None
    place = int(np.nanargmin(recalls))
    return Weakest(name=class_names(material, row, len(recalls))[place], recall=float(recalls[place]))


def class_names(material: Material, row: pd.Series, count: int) -> list[str]:
    """Names of the classes, or their numbers where the names are unknown."""
    facts = material.facts_of(str(row["dataset"]))
    if facts is None or len(facts.classes) != count:
        return [str(number) for number in range(count)]
    return [shortened(safe_text(name), MOST_LETTERS) for name in facts.classes]


def recall_table(material: Material, ranking: pd.DataFrame, *, folded: str = "") -> Table | None:
    """Return the recalls of one dataset and train_size, best configurations first; None where there are none."""
    by_row = TrialsByRow(material.results)
    rows = [(row, recalls) for _, row in ranking.iterrows() if len(recalls := recalls_of(by_row.of(row)))]
    if not rows or len({len(recalls) for _, recalls in rows}) > 1:
        return None
    shown = rows[:MOST_CONFIGURATIONS]
    names = class_names(material, shown[0][0], len(shown[0][1]))
    table = np.stack([recalls for _, recalls in shown])
    order = _classes_to_show(table)
    notes = ["Recall: the share of a class's test images that are recognised; a mean over seeds. Deeper: less."]
    if len(order) < len(names):
        notes.append(f"The {len(order)} of {len(names)} classes that the best configurations recognise worst.")
    if len(shown) < len(rows):
        notes.append(f"The first {len(shown)} of {len(rows)} configurations.")
    return Table(
        caption=", ".join(filter(None, ["Recall of each class", group_name(ranking.iloc[0])])),
        columns=[
            Column(text="configuration", is_name=True),
            *(Column(text=names[place]) for place in order),
        ],
        rows=[
            Row(
                cells=[
                    Cell(text=configuration_name(row, ranking)),
                    *(_recall_cell(float(recalls[place])) for place in order),
                ],
                kind="pick" if row["pick"] else "",
            )
            for row, recalls in shown
        ],
        notes=notes,
        folded=folded,
    )


def _classes_to_show(table: np.ndarray) -> Sequence[int]:
    """Places of the classes, in their order, or the worst ones first where there are too many."""
    if table.shape[1] <= MOST_CLASSES:
        return range(table.shape[1])
    return [int(place) for place in np.argsort(table[0], kind="stable")[:MOST_CLASSES]]


def _recall_cell(recall: float) -> Cell:
    shade = None if np.isnan(recall) else round((1 - recall) * DEEPEST)
    return Cell(text=percent_text(recall, 0), shade=shade)
