"""How much data is enough: findings of one dataset in, blocks of a page out."""

import math
from collections.abc import Iterator

import pandas as pd

from raybench.curves import is_more_than_all
from raybench.formats import MISSING, count_text, is_missing, percent_text, safe_text
from raybench.report.advice import configuration_name
from raybench.report.page_findings import Findings
from raybench.report.page_parts import Block, Column, Paragraph, Row, Table, cells


def data_blocks(findings: Findings, dataset: object, ranking: pd.DataFrame) -> Iterator[Block]:
    """Say what more images would bring to the best configurations of a dataset, or why that is unknown."""
    rows = findings.more_images[findings.more_images["dataset"] == dataset]
    if rows.empty:
        return
    known = rows[rows["reachable"].notna()]
    if len(known):
        yield Table(
            caption="What more images would bring",
            columns=[
                Column(text="configuration", is_name=True),
                Column(text="largest size run"),
                Column(text="accuracy there"),
                Column(text="trusted up to"),
                Column(text="predicted there"),
                Column(text="one more point", is_name=True),
            ],
            rows=[
                Row(
                    cells=cells(
                        configuration_name(row, ranking),
                        _images(row["largest_size"]),
                        percent_text(row["accuracy"]),
                        _images(row["trusted_size"]),
                        percent_text(row["most_accuracy"]),
                        one_more_point(row),
                    )
                )
                for _, row in known.iterrows()
            ],
            notes=["Dotted lines in the figure are predictions, with their 95 % interval at the end."],
        )
    unknown = rows[rows["reachable"].isna()]
    reasons = list(dict.fromkeys(safe_text(answer) for answer in unknown["answer"]))
    if len(reasons) == 1:
        names = "No prediction" if known.empty else f"No prediction for {count_text(len(unknown))} more"
        yield Paragraph(text=f"{names}. {reasons[0]}")
    elif reasons:
        yield Table(
            caption="No prediction, and why",
            columns=[Column(text="configuration", is_name=True), Column(text="reason", is_name=True)],
            rows=[
                Row(cells=cells(configuration_name(row, ranking), safe_text(row["answer"])))
                for _, row in unknown.iterrows()
            ],
            folded="Configurations without a prediction, and why",
        )


def one_more_point(row: pd.Series) -> str:
    """How many more images make a configuration one percentage point more accurate: a row of `more_images`."""
    if is_missing(row["reachable"]):
        return safe_text(row["answer"])
    if is_more_than_all(row["accuracy"], row["points"]):
        return f"None is left above {percent_text(row['accuracy'])}."
    if not row["reachable"]:
        luck = "" if math.isinf(row["more_images_low"]) else f"; with luck, {_about(row['more_images_low'])} do"
        return (
            f"Not within reach: {_about(row['trusted_size'])} images, as far as the curve is trusted, lead to "
            f"{percent_text(row['most_accuracy'])}{luck}."
        )
    high = row["more_images_high"]
    most = "more than the curve can tell" if math.isinf(high) else _about(high)
    return f"About {_about(row['more_images'])} more images ({_about(row['more_images_low'])} to {most})."


def _about(images: float) -> str:
    """Two significant digits: a prediction is no count."""
    return f"{float(f'{images:.2g}'):,.0f}"


def _images(size: object) -> str:
    return MISSING if is_missing(size) else f"{float(str(size)):,.0f}"
