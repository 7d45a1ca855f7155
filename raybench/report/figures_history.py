"""How training went: epochs of one dataset and train_size in, a figure of val loss and val accuracy out."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from raybench.alike import TrialsByRow, trials_of
from raybench.formats import count_text, is_missing, number_text, percent_text
from raybench.ranking import GROUP
from raybench.records import Status
from raybench.report.advice import configuration_name
from raybench.report.figures import LEGEND_BELOW, MOST_TICKS, axis, label, layout, plain
from raybench.report.figures_sizes import LEGEND_ROW, MOST_LINES
from raybench.report.page_material import Material
from raybench.report.page_parts import Column, Figure, Row, Table, cells
from raybench.report.theme import DASHES, SERIES, colour

METRICS = ("val_loss", "val_accuracy")
"""What the first and the second plot show."""
MOST_EPOCHS = 300
"""Epochs drawn of one configuration; of more, some are left out evenly."""


def history_figure(material: Material, group: pd.DataFrame, *, name: str, title: str) -> Figure | None:
    """Return losses and accuracies by epoch of the best configurations of a group; None without epochs.

    Lines are means over the seeds that reached an epoch; where one ended, the line goes on without it.
    """
    by_row = TrialsByRow(trials_of(material.history, group.iloc[0], GROUP))
    known = [(row, epochs) for _, row in group.iterrows() if len(epochs := by_row.of(row))]
    if not known:
        return None
    shown = known[:MOST_LINES]
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.12)
    for number, (row, epochs) in enumerate(shown):
        line = _Line(
            called=configuration_name(row, group),
            shade=colour(SERIES[number % len(SERIES)]),
            dash=DASHES[number // 3 % len(DASHES)],
        )
        for place, metric in enumerate(METRICS, start=1):
            _add_line(figure, epochs, metric, line, place)
        _add_stops(figure, epochs, line)
    most = max(int(epochs["epoch"].max()) for _, epochs in shown)
    steps = {"tick0": 0, "dtick": max(1, round(most / MOST_TICKS))}
    figure.update_layout(layout(legend=LEGEND_BELOW))
    figure.update_layout(
        xaxis=axis("Epoch", **steps),
        xaxis2=axis("Epoch", **steps),
        yaxis=axis("Val loss"),
        yaxis2=axis("Val accuracy", tickformat=".0%"),
    )
    return Figure(
        name=name,
        title=title,
        text=_sentence(shown, len(known), group),
        plot=plain(figure),
        height=380 + LEGEND_ROW * len(shown),
        table=_table(known, group),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Line:
    """How one configuration is drawn."""

    called: str
    shade: str
    dash: str


def _add_line(figure: go.Figure, epochs: pd.DataFrame, metric: str, line: _Line, place: int) -> None:
    """Draw the mean over seeds in the first or second plot; the first one is named in the legend."""
    if metric not in epochs or epochs[metric].isna().all():
        return
    mean = epochs.groupby("epoch")[metric].agg(["mean", "count"])
    step = -(-len(mean) // MOST_EPOCHS)
    mean = mean.iloc[::step]
    text = percent_text if metric == "val_accuracy" else number_text
    what = metric.replace("_", " ")
    figure.add_trace(
        go.Scatter(
            x=[int(epoch) for epoch in mean.index],
            y=mean["mean"].astype(float).tolist(),
            mode="lines",
            name=label(line.called),
            legendgroup=label(line.called, most=300),
            showlegend=place == 1,
            line={"color": line.shade, "dash": line.dash},
            hovertext=[
                f"<b>{label(line.called, most=80)}</b><br>epoch {epoch}: {what} {text(row['mean'])}"
                f" ({count_text(row['count'])} seeds)"
                for epoch, row in mean.iterrows()
            ],
            hoverinfo="text",
        ),
        row=1,
        col=place,
    )


def _add_stops(figure: go.Figure, epochs: pd.DataFrame, line: _Line) -> None:
    """Mark the last epoch of each seed that ASHA stopped."""
    if "status" not in epochs or "seed" not in epochs:
        return
    stopped = epochs[epochs["status"].astype(str) == Status.STOPPED.value].sort_values("epoch")
    ends = stopped.groupby("seed").tail(1)
    for place, metric in enumerate(METRICS, start=1):
        if len(ends):
            figure.add_trace(
                go.Scatter(
                    x=[int(epoch) for epoch in ends["epoch"]],
                    y=ends[metric].astype(float).tolist(),
                    mode="markers",
                    marker={"symbol": "x", "size": 9, "color": line.shade},
                    legendgroup=label(line.called, most=300),
                    showlegend=False,
                    hovertext=[f"{label(line.called, most=80)}<br>seed {seed} stopped" for seed in ends["seed"]],
                    hoverinfo="text",
                ),
                row=1,
                col=place,
            )


def _sentence(shown: Sequence[tuple[pd.Series, pd.DataFrame]], known: int, group: pd.DataFrame) -> str:
    row, epochs = shown[0]
    last = int(epochs["epoch"].max())
    lowest = epochs.groupby("epoch")["val_loss"].mean()
    best = "" if lowest.isna().all() else f", with its lowest mean val loss at epoch {lowest.idxmin()}"
    drawn = f" The {len(shown)} best of {known} configurations are drawn." if len(shown) < known else ""
    stops = sum(_stops(each) for _, each in shown)
    marks = f" Crosses mark {stops} stopped trial{'s' * (stops != 1)}." if stops else ""
    return (
        f"{configuration_name(row, group)} trained for up to {last} epochs{best}.{marks}{drawn} "
        "Lines are means over the seeds that reached an epoch."
    )


def _stops(epochs: pd.DataFrame) -> int:
    if "status" not in epochs:
        return 0
    return int(epochs[epochs["status"].astype(str) == Status.STOPPED.value]["seed"].nunique())


def _table(known: Sequence[tuple[pd.Series, pd.DataFrame]], group: pd.DataFrame) -> Table:
    return Table(
        caption="Epochs of each configuration",
        columns=[
            Column(text="configuration", is_name=True),
            *(Column(text=text) for text in ("seeds", "epochs", "lowest val loss", "highest val accuracy", "stopped")),
        ],
        rows=[
            Row(
                cells=cells(
                    configuration_name(row, group),
                    count_text(epochs["seed"].nunique() if "seed" in epochs and epochs["seed"].notna().any() else 1),
                    count_text(epochs["epoch"].max()),
                    number_text(epochs["val_loss"].min()),
                    percent_text(epochs["val_accuracy"].max()),
                    "-" if "status" not in epochs or is_missing(epochs["status"].iloc[0]) else str(_stops(epochs)),
                )
            )
            for row, epochs in known[:50]
        ],
        folded="The numbers of this figure",
    )
