"""Cost against accuracy: the ranking of one dataset and train_size in, a figure with its frontier out."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from raybench.formats import duration_text, is_missing, percent_text, usd_text
from raybench.report.advice import configuration_name
from raybench.report.figures import axis, intervals, label, layout, plain, scale, thinned, ticks
from raybench.report.page_material import accuracy_column
from raybench.report.page_parts import Column, Figure, Row, Table, cells, cut
from raybench.report.theme import colour

MOST_WITH_INTERVALS = 60
"""Configurations from which on intervals would hide one another."""
NAME_WIDTH, NAME_HEIGHT = 0.5, 0.09
"""Room that a name takes, as shares of the figure's width and height: another name keeps away that far."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Role:
    """How a configuration stands to the pick, and how that is drawn."""

    said: str
    """In the legend."""
    shade: str
    symbol: str
    size: int


ROLES = {
    "incomplete": _Role(said="a seed is not completed", shade="c7", symbol="circle-open", size=8),
    "other": _Role(said="other configurations", shade="c7", symbol="circle", size=8),
    "apart": _Role(said="clearly different from the pick", shade="c7", symbol="circle", size=8),
    "tied": _Role(said="no clear difference from the pick", shade="c0", symbol="circle", size=9),
    "pick": _Role(said="the pick", shade="c1", symbol="star", size=15),
}
"""In the order of drawing."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Costs:
    """The configurations whose cost and accuracy are known."""

    rows: pd.DataFrame
    """Of the ranking, with `cost`, `accuracy`, `called` and `role`."""
    in_usd: bool
    metric: str
    """`Test accuracy` or `Val accuracy`."""

    @property
    def steps(self) -> pd.DataFrame:
        """The frontier, cheapest first."""
        return self.rows[self.rows["on_frontier"].fillna(value=False).astype(bool)].sort_values("cost")

    @property
    def text(self) -> Callable[[object], str]:
        """How a cost is written."""
        return usd_text if self.in_usd else duration_text

    @property
    def what(self) -> str:
        """What the cost is."""
        return "Cost to train once" if self.in_usd else "Time to train once"


def cost_of(ranking: pd.DataFrame) -> tuple[pd.Series, bool]:
    """Cost of each configuration, and whether that is USD; seconds where a complete one's USD are unknown."""
    usd = ranking["standalone_cost_usd"].astype(float)
    complete = usd[ranking["stopped"] == 0]
    in_usd = bool(len(complete)) and bool(complete.notna().all())
    return (usd if in_usd else ranking["train_seconds"].astype(float)), in_usd


def frontier_figure(ranking: pd.DataFrame, *, name: str, title: str) -> Figure | None:
    """Return cost against accuracy of the configurations of one dataset and train_size; None where no cost is known."""
    costs = _costs(ranking)
    if len(costs.rows) < 2:  # noqa: PLR2004 - one point shows no choice
        return None
    return Figure(
        name=name,
        title=title,
        text=_sentence(costs),
        plot=plain(_drawn(costs)),
        height=400,
        table=_table(costs),
    )


def _costs(ranking: pd.DataFrame) -> _Costs:
    cost, in_usd = cost_of(ranking)
    column = accuracy_column(ranking)
    rows = ranking.assign(cost=cost, accuracy=ranking[column].astype(float))
    rows = rows[rows["cost"].notna() & rows["accuracy"].notna()]
    return _Costs(
        rows=rows.assign(role=_roles(rows), called=[configuration_name(row, ranking) for _, row in rows.iterrows()]),
        in_usd=in_usd,
        metric="Test accuracy" if column == "test_accuracy" else "Val accuracy",
    )


def _roles(rows: pd.DataFrame) -> list[str]:
    """How each row stands to the pick: nothing is called told apart where no pick is, or no tie is known."""
    picks = rows["tie_group"][rows["pick"].astype(bool)]
    tie = None if picks.empty or is_missing(picks.iloc[0]) else picks.iloc[0]

    def role(row: pd.Series) -> str:
        if row["stopped"] > 0:
            return "incomplete"
        if row["pick"]:
            return "pick"
        if tie is None or is_missing(row["tie_group"]):
            return "other"
        return "tied" if row["tie_group"] == tie else "apart"

    return [role(row) for _, row in rows.iterrows()]


def _drawn(costs: _Costs) -> go.Figure:
    rows, steps = costs.rows, costs.steps
    kind = scale(rows["cost"].tolist())
    values = ticks(rows["cost"].tolist(), kind, seconds=not costs.in_usd)
    marks: dict[str, object] = {} if kind == "log" else {"rangemode": "tozero"}
    marks |= {"tickvals": values, "ticktext": [costs.text(value) for value in values]} if values else {}
    figure = go.Figure(
        layout=layout(
            xaxis=axis(f"{costs.what} (log scale)" if kind == "log" else costs.what, type=kind, **marks),
            yaxis=axis(costs.metric, tickformat=".0%"),
            annotations=_names(costs, kind, with_intervals=len(rows) <= MOST_WITH_INTERVALS),
        )
    )
    figure.add_trace(
        go.Scatter(
            x=steps["cost"].tolist(),
            y=steps["accuracy"].tolist(),
            mode="lines",
            line={"shape": "hv", "color": colour("c0"), "width": 2, "dash": "dot"},
            name="frontier: nothing cheaper is as accurate",
            hoverinfo="skip",
        )
    )
    for name, role in ROLES.items():
        own = rows[rows["role"] == name]
        own = own.iloc[thinned(range(len(own)))]
        if len(own):
            figure.add_trace(_points(own, role, costs, with_intervals=len(rows) <= MOST_WITH_INTERVALS))
    return figure


def _points(own: pd.DataFrame, role: _Role, costs: _Costs, *, with_intervals: bool) -> go.Scatter:
    return go.Scatter(
        x=own["cost"].tolist(),
        y=own["accuracy"].tolist(),
        mode="markers",
        name=role.said,
        marker={"color": colour(role.shade), "symbol": role.symbol, "size": role.size},
        error_y=intervals(own, role.shade) if with_intervals else None,
        hovertext=[
            f"<b>{label(row['called'], most=80)}</b><br>{percent_text(row['accuracy'])}, {costs.text(row['cost'])}"
            for _, row in own.iterrows()
        ],
        hoverinfo="text",
    )


def _names(costs: _Costs, kind: str, *, with_intervals: bool) -> list[dict[str, object]]:
    """Names of the pick, above its interval, and of the frontier, below, left out where they would overlap."""
    rows = costs.rows
    x = np.log10(rows["cost"]) if kind == "log" else rows["cost"]
    least = float(x.min()) if kind == "log" else 0.0  # where the axis begins
    width, height = float(x.max()) - least or 1.0, float(rows["accuracy"].max() - rows["accuracy"].min()) or 1.0
    placed = rows.assign(x=x)[rows["on_frontier"].fillna(value=False).astype(bool) | rows["pick"].astype(bool)]
    shown: list[pd.Series] = []
    for _, row in placed.sort_values(["pick", "accuracy"], ascending=False).iterrows():
        if all(
            abs(row["x"] - other["x"]) > NAME_WIDTH * width
            or abs(row["accuracy"] - other["accuracy"]) > NAME_HEIGHT * height
            for other in shown
        ):
            shown.append(row)
    return [_name(row, (row["x"] - least) / width, with_intervals=with_intervals) for row in shown]


def _name(row: pd.Series, place: float, *, with_intervals: bool) -> dict[str, object]:
    """The name of a point that lies so far to the right, from 0 to 1: the frontier's line runs beside and above it."""
    above = bool(row["pick"])
    above = bool(row["pick"])
    end = row["test_accuracy_high"] if above and with_intervals else math.nan
    is_left = place < (NAME_WIDTH / 2 if above else 1 / 2)
    is_right = place > 1 - NAME_WIDTH / 2 if above else not is_left
    return {
        "name": "name",
        "x": float(row["x"]),
        "y": float(row["accuracy"] if is_missing(end) else end),
        "text": label(row["called"]),
        "showarrow": False,
        "xanchor": "left" if is_left else "right" if is_right else "center",
        "xshift": 0 if above else 10 if is_left else -10,
        "yshift": -14 if not above else 18 if is_missing(end) else 14,
        "font": {"size": 12, "color": colour("ink")},
    }


def _sentence(costs: _Costs) -> str:
    """What the figure shows, for readers who do not see it."""
    said = f"{len(costs.rows)} configurations by cost and {costs.metric.lower()}."
    steps = costs.steps
    if steps.empty:
        return f"{said} None is on the frontier, for none has completed all of its seeds."
    least, most = (
        f"{row['called']}, {percent_text(row['accuracy'])} for {costs.text(row['cost'])}"
        for row in (steps.iloc[0], steps.iloc[-1])
    )
    if len(steps) == 1:
        return f"{said} One is cheapest and most accurate at once: {least}."
    return f"{said} {len(steps)} of them are on the frontier, from {least}, to {most}."


def _table(costs: _Costs) -> Table:
    on_frontier = set(costs.steps.index)
    lines = [
        Row(
            cells=cells(
                row["called"],
                percent_text(row["accuracy"]),
                costs.text(row["cost"]),
                "yes" if place in on_frontier else "",
                ROLES[row["role"]].said,
            ),
            kind="pick" if row["pick"] else "",
        )
        for place, row in costs.rows.sort_values(["cost", "accuracy"]).iterrows()
    ]
    shown, notes = cut(lines, "configurations")
    return Table(
        caption=f"{costs.what} and accuracy",
        columns=[
            Column(text="configuration", is_name=True),
            Column(text="accuracy"),
            Column(text="cost" if costs.in_usd else "time"),
            Column(text="frontier", is_name=True),
            Column(text="beside the pick", is_name=True),
        ],
        rows=shown,
        notes=notes,
        folded="The numbers of this figure",
    )
