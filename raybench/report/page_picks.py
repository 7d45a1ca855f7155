"""The pick of each dataset and training-set size, and of all sizes together: material and findings in, a table out."""

import pandas as pd

from raybench.formats import duration_text, is_missing, percent_text, safe_text, usd_text
from raybench.report.advice import configuration_name, group_name
from raybench.report.page_findings import Findings
from raybench.report.page_material import Material, accuracy_column, groups_of
from raybench.report.page_parts import Cell, Column, Row, Table, cells
from raybench.value import CostUnit

MOST_PICKS = 24


def picks_table(material: Material, findings: Findings) -> Table | None:
    """The pick of each dataset and train_size, where there is more than one."""
    groups = groups_of(material.ranking)
    if len(groups) < 2:  # noqa: PLR2004 - one is the answer itself
        return None
    return Table(
        caption="The pick of each dataset and size",
        columns=[
            Column(text="trained on", is_name=True),
            Column(text="pick", is_name=True),
            Column(text="accuracy"),
            Column(text="95 % interval"),
            Column(text="cost to train"),
        ],
        rows=[
            *(_pick_row(material, group) for group in groups[:MOST_PICKS]),
            *(_overall_row(row, findings.overall) for _, row in _overall_picks(findings).iterrows()),
        ],
        notes=[f"The first {MOST_PICKS} of {len(groups)}."] if len(groups) > MOST_PICKS else [],
    )


def _overall_picks(findings: Findings) -> pd.DataFrame:
    """The pick over all sizes of each dataset that has several."""
    overall = findings.overall
    return overall[overall["pick"].fillna(value=False).astype(bool)]


def _overall_row(row: pd.Series, overall: pd.DataFrame) -> Row:
    text = usd_text if row["unit"] == CostUnit.USD else duration_text
    images = "" if is_missing(row["train_size"]) else f", {row['train_size']} images"
    interval = "" if is_missing(row["accuracy_low"]) else _ends(row["accuracy_low"], row["accuracy_high"])
    return Row(
        cells=cells(
            f"{safe_text(row['dataset'])}, best value of all sizes",
            f"{configuration_name(row, overall)}{images}",
            percent_text(row["accuracy"]),
            interval,
            text(row["cost"]),
        ),
        kind="pick",
    )


def _pick_row(material: Material, group: pd.DataFrame) -> Row:
    place = Cell(text=group_name(group.iloc[0]), link=_anchor(material, group))
    picks = group[group["pick"].astype(bool)]
    if picks.empty:
        return Row(cells=[place, *cells("none: no configuration completed", "", "", "")])
    pick = picks.iloc[0]
    column = accuracy_column(group)
    cost = usd_text(pick["standalone_cost_usd"])
    cost = duration_text(pick["train_seconds"]) if is_missing(pick["standalone_cost_usd"]) else cost
    return Row(
        cells=[place, *cells(configuration_name(pick, group), percent_text(pick[column]), interval_text(pick), cost)]
    )


def _anchor(material: Material, group: pd.DataFrame) -> str:
    """Where the page holds the ranking of a group."""
    first = group.iloc[0]
    places = [
        place
        for place, each in enumerate(groups_of(material.ranking))
        if group_name(each.iloc[0]) == group_name(first) and each.index[0] == group.index[0]
    ]
    return f"ranking-{places[0] if places else 0}"


def interval_text(row: pd.Series, digits: int = 1) -> str:
    """The ends of the interval of a row's accuracy: `98.3 % to 99.9 %`; nothing where there is none."""
    low, high = row["test_accuracy_low"], row["test_accuracy_high"]
    if is_missing(low) or is_missing(high):
        return ""
    return _ends(low, high, digits)


def _ends(low: float, high: float, digits: int = 1) -> str:
    return f"{percent_text(low, digits)} to {percent_text(high, digits)}"
