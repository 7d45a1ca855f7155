"""What all figures share: names that are safe inside a figure, a plain layout, JSON that is safe inside a page.

Plotly takes some tags in text for markup, so every name goes through `label`. Colours are those of `theme.PALETTES`.
"""

import html
import json
import math
from collections.abc import Sequence
from typing import Any, TypeVar

import pandas as pd
import plotly.graph_objects as go

from raybench.formats import safe_text, shortened
from raybench.report.theme import colour

T = TypeVar("T")

MOST_POINTS = 1000
"""Points that one figure draws: more take long to draw and cannot be read."""
MOST_LABEL = 44
"""Letters of a name inside a figure; the table beside it has all of them."""
MOST_TICKS = 6
CLOCK = (
    *(0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800),
    *(3600, 7200, 18000, 36000, 86400, 172800, 432000),
)
"""Seconds that an axis of time has ticks at, and the steps between them."""
WIDE_RANGE = 20
"""Axes on which the largest value is this many times the smallest are logarithmic."""


def label(*parts: object, most: int = MOST_LABEL) -> str:
    """A name for a figure: shortened, without control characters, and nothing in it that Plotly takes for markup."""
    text = shortened(" ".join(filter(None, map(safe_text, parts))), most)
    # Text between two dollars would be a formula.
    return html.escape(text, quote=False).replace("$", "&#36;")


def layout(**changes: Any) -> go.Layout:  # noqa: ANN401 - Plotly's own keys
    """A layout in the page's colours, whose figure leaves scrolling and dragging to the page."""
    plain: dict[str, Any] = {
        "template": go.layout.Template(),
        "font": {"color": colour("ink"), "size": 13, "family": "inherit"},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 8, "r": 12, "t": 12, "b": 8},
        "dragmode": False,
        "hovermode": "closest",
        "hoverlabel": {
            "bgcolor": colour("panel"),
            "bordercolor": colour("muted"),
            "font": {"color": colour("ink")},
            "align": "left",
            "namelength": -1,
        },
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"},
    }
    return go.Layout(**(plain | changes))


LEGEND_BELOW = {
    "orientation": "h",
    "x": 0,
    "y": 0,
    "yref": "container",
    "yanchor": "bottom",
    "tracegroupgap": 0,
}
"""A legend below a figure, which makes room for it."""


def axis(title: str, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - Plotly's own keys
    """An axis with a title and quiet lines."""
    plain = {
        "title": {"text": title, "standoff": 8},
        "gridcolor": colour("line"),
        "linecolor": colour("muted"),
        "showline": True,
        "zeroline": False,
        "automargin": True,
        "ticks": "outside",
        "tickcolor": colour("line"),
    }
    return plain | changes


def scale(values: Sequence[float]) -> str:
    """`log` where values are above 0 and spread widely, else `linear`."""
    known = [value for value in values if value == value]  # noqa: PLR0124 - NaN is no value
    return "log" if known and min(known) > 0 and max(known) >= WIDE_RANGE * min(known) else "linear"


def ticks(values: Sequence[float], kind: str, *, seconds: bool = False) -> list[float]:
    """Round values for an axis of costs: seconds as clocks have them, USD in steps of 1, 2 and 5."""
    known = [value for value in values if value > 0]
    if not known:
        return []
    low, high = min(known), max(known)
    least = low / 2 if kind == "log" else high / MOST_TICKS
    # Written as text, for 5 * 10 ** -5 is not quite 5e-5.
    powers = range(math.floor(math.log10(least)), math.ceil(math.log10(high)) + 1)
    steps = CLOCK if seconds else [float(f"{step}e{power}") for power in powers for step in (1, 2, 5)]
    if kind == "log":
        return thinned([value for value in steps if least <= value <= high * 2], MOST_TICKS)
    step = next((step for step in steps if step >= least), least)
    return [step * number for number in range(math.ceil(high / step) + 1)]


def intervals(rows: pd.DataFrame, shade: str) -> dict[str, Any] | None:
    """The 95 % intervals of test accuracies, as bars of that colour; None where there are none."""
    if rows["test_accuracy_low"].isna().all():
        return None
    accuracy = rows["test_accuracy"].astype(float)
    return {
        "type": "data",
        "symmetric": False,
        "array": (rows["test_accuracy_high"] - accuracy).tolist(),
        "arrayminus": (accuracy - rows["test_accuracy_low"]).tolist(),
        "color": colour(shade),
        "thickness": 1,
        "width": 3,
    }


def thinned(places: Sequence[T], most: int = MOST_POINTS) -> list[T]:
    """At most so many of these, evenly chosen, first and last among them."""
    if len(places) <= most:
        return list(places)
    step = (len(places) - 1) / max(1, most - 1)
    return [places[round(number * step)] for number in range(most)]


def plain(figure: go.Figure) -> dict[str, Any]:
    """The figure as JSON values: NaN becomes null, arrays become lists."""
    plotted: dict[str, Any] = json.loads(figure.to_json(engine="json"))
    return {"data": plotted["data"], "layout": plotted["layout"]}
