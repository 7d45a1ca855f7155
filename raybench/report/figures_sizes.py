"""Accuracy against training-set size: the ranking of a dataset and predictions in, a figure out."""

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from raybench.formats import is_missing, percent_text
from raybench.report.advice import configuration_name
from raybench.report.figures import LEGEND_BELOW, axis, intervals, label, layout, plain, scale
from raybench.report.page_material import accuracy_column
from raybench.report.page_parts import MOST_ROWS, Column, Figure, Row, Table, cells
from raybench.report.theme import DASHES, SERIES, SYMBOLS, colour

MOST_LINES = 8
"""Configurations that one figure can tell apart."""
LEGEND_ROW = 22
"""Height of a line of the legend, in pixels."""
KEY = ["model", "weights", "strategy"]


def size_figure(ranking: pd.DataFrame, predictions: pd.DataFrame, *, name: str, title: str) -> Figure | None:
    """Return accuracy by train_size of one dataset, with what is predicted between and beyond the sizes.

    Args:
        ranking: the rows of one dataset.
        predictions: of the same dataset, as `raybench.curves.predictions` returns them; may be empty.
        name: of the figure.
        title: of the figure.

    Returns:
        None where there are fewer than two sizes.
    """
    column = accuracy_column(ranking)
    known = ranking[ranking["train_size"].notna() & ranking[column].notna() & (ranking["stopped"] == 0)]
    if known["train_size"].nunique() < 2:  # noqa: PLR2004 - one size is no line
        return None
    lines = _best_first(known, column)
    figure = go.Figure(
        layout=layout(
            xaxis=axis(
                "Training images",
                type=scale([float(size) for size in (*known["train_size"], *predictions["train_size"])]),
                tickvals=sorted({int(size) for size in (*known["train_size"], *_ends(predictions))}),
                tickformat=",",
            ),
            yaxis=axis("Test accuracy" if column == "test_accuracy" else "Val accuracy", tickformat=".0%"),
            legend=LEGEND_BELOW,
        )
    )
    for number, rows in enumerate(lines[:MOST_LINES]):
        series = SERIES[number % len(SERIES)]
        shade = colour(series)
        called = configuration_name(rows.iloc[-1], ranking)
        _add_prediction(figure, _of(predictions, rows.iloc[-1]), shade)
        figure.add_trace(
            go.Scatter(
                x=[int(size) for size in rows["train_size"]],
                y=rows[column].astype(float).tolist(),
                mode="lines+markers",
                name=label(called),
                line={"color": shade, "dash": DASHES[number // 3 % len(DASHES)]},
                marker={"symbol": SYMBOLS[number % len(SYMBOLS)], "size": 8, "color": shade},
                error_y=intervals(rows, series),
                hovertext=[f"<b>{label(called, most=80)}</b><br>{_said(row, column)}" for _, row in rows.iterrows()],
                hoverinfo="text",
            )
        )
    return Figure(
        name=name,
        title=title,
        text=_sentence(lines, column, ranking),
        plot=plain(figure),
        height=420 + LEGEND_ROW * min(len(lines), MOST_LINES),
        table=_table(lines, column, ranking),
    )


def _best_first(known: pd.DataFrame, column: str) -> list[pd.DataFrame]:
    """Rows of each configuration by size, the most accurate at its largest size first."""
    lines = [rows.sort_values("train_size") for _, rows in known.groupby(KEY, dropna=False, sort=False)]
    several = [rows for rows in lines if len(rows) > 1]
    return sorted(several or lines, key=lambda rows: -float(rows[column].iloc[-1]))


def _of(predictions: pd.DataFrame, row: pd.Series) -> pd.DataFrame:
    """The predictions for a configuration that can be drawn."""
    if predictions.empty:
        return predictions
    same = pd.Series(data=True, index=predictions.index)
    for name in KEY:
        same &= predictions[name].isna() if is_missing(row[name]) else predictions[name].eq(row[name])
    found = predictions[same.astype(bool) & predictions["accuracy"].notna()]
    return found.sort_values("train_size")


def _ends(predictions: pd.DataFrame) -> list[int]:
    """The largest sizes that are predicted."""
    drawn = predictions[predictions["accuracy"].notna()]
    return [] if drawn.empty else [int(drawn["train_size"].max())]


def _add_prediction(figure: go.Figure, rows: pd.DataFrame, shade: str) -> None:
    """Draw the curve beyond the largest size, dotted, with its interval at its end."""
    beyond = rows[rows["train_size"] >= rows["largest_size"]] if len(rows) else rows
    if len(beyond) < 2:  # noqa: PLR2004 - nothing beyond what was run
        return
    last = len(beyond) - 1
    figure.add_trace(
        go.Scatter(
            x=[int(size) for size in beyond["train_size"]],
            y=beyond["accuracy"].astype(float).tolist(),
            mode="lines",
            line={"color": shade, "dash": "dot", "width": 1.5},
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [
                    float(row["high"] - row["accuracy"]) if place == last else 0.0
                    for place, (_, row) in enumerate(beyond.iterrows())
                ],
                "arrayminus": [
                    float(row["accuracy"] - row["low"]) if place == last else 0.0
                    for place, (_, row) in enumerate(beyond.iterrows())
                ],
                "color": shade,
                "thickness": 1,
                "width": 3,
            },
            showlegend=False,
            hovertext=[f"predicted: {percent_text(value)}" for value in beyond["accuracy"]],
            hoverinfo="text",
        )
    )


def _said(row: pd.Series, column: str) -> str:
    interval = ""
    if column == "test_accuracy" and not is_missing(row["test_accuracy_low"]):
        low, high = percent_text(row["test_accuracy_low"]), percent_text(row["test_accuracy_high"])
        interval = f" ({low} to {high})"
    return f"{row['train_size']} images: {percent_text(row[column])}{interval}"


def _sentence(lines: Sequence[pd.DataFrame], column: str, ranking: pd.DataFrame) -> str:
    best = lines[0]
    first, last = best.iloc[0], best.iloc[-1]
    shown = f" The {MOST_LINES} best of {len(lines)} configurations are drawn." if len(lines) > MOST_LINES else ""
    return (
        f"The best at its largest size, {configuration_name(last, ranking)}, goes from {percent_text(first[column])} "
        f"with {first['train_size']} images to {percent_text(last[column])} with {last['train_size']}.{shown}"
    )


def _table(lines: Sequence[pd.DataFrame], column: str, ranking: pd.DataFrame) -> Table:
    sizes = sorted({int(size) for rows in lines for size in rows["train_size"]})
    table = [
        Row(
            cells=cells(
                configuration_name(rows.iloc[-1], ranking),
                *(percent_text(_at(rows, column, size)) for size in sizes),
            )
        )
        for rows in lines[:MOST_ROWS]
    ]
    cut_off = [f"The first {MOST_ROWS} of {len(lines)} configurations."] if len(lines) > MOST_ROWS else []
    return Table(
        caption="Accuracy by number of training images",
        columns=[Column(text="configuration", is_name=True), *(Column(text=f"{size:,}") for size in sizes)],
        rows=table,
        notes=cut_off,
        folded="The numbers of this figure",
    )


def _at(rows: pd.DataFrame, column: str, size: int) -> float | None:
    found = rows[rows["train_size"] == size][column]
    return None if found.empty else float(found.iloc[0])
