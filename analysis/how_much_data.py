"""How much data is enough? Accuracy predicted at sizes not run, and how many more images a point more needs."""

from typing import Annotated

import typer
from common import Formats, Output, answering, labels, print_lines, print_table
from sources import ColumnNames, SourcePath, load_trials

import raybench
from raybench.errors import InputError
from raybench.formats import accuracy_text

AT = "Predict at this train_size; can be repeated."
Sizes = Annotated[list[int] | None, typer.Option("--at", help=AT, show_default="twice and four times the largest")]
Points = Annotated[float, typer.Option(help="Percentage points to gain.")]
NAMES = ["dataset", "model", "weights", "strategy"]
FORMATS: Formats = {"train_size": "", "predicted": "", "measured": ".4f", "trusted": ""}
NOTE = "Predicted: accuracy of as many seeds on the same test images, with half of its 95 % interval."


def main(
    source: SourcePath, sizes: Sizes = None, points: Points = 1.0, columns: ColumnNames = None, output: Output = None
) -> None:
    """How much data is enough? Accuracy predicted at sizes not run, and how many more images a point more needs."""
    with answering(output) as plotly:
        trials = load_trials(source, columns)
        curves, more = raybench.predict_sizes(trials), raybench.more_images(trials, points=points)
        if curves["accuracy"].isna().all():
            raise InputError(f"{source}: no curve can be fitted: {curves['reason'].iloc[0]}")
        largest = int(curves["largest_size"].max())
        asked = raybench.predict_sizes(trials, sizes or [largest, 2 * largest, 4 * largest])
        for table in (curves, asked, more):
            table["configuration"] = labels(table, NAMES)
        answers = dict(zip(more["configuration"], more["answer"], strict=True))
        for name, rows in asked.groupby("configuration", sort=False):
            texts = [accuracy_text(*row) for row in rows[["accuracy", "low", "high"]].to_numpy()]
            marks, has_curve = rows["trusted"].map({True: "yes", False: "no"}), rows["accuracy"].notna().all()
            if has_curve:
                print_table(str(name), rows.assign(predicted=texts, trusted=marks), FORMATS)
                print_lines(f"Not trusted: {reason}." for reason in rows["reason"].dropna().unique())
            print_lines([f"{'' if has_curve else f'{name}: '}{answers[name]}"])
        print_lines([NOTE, *trials.notes])
        if plotly:
            shown = curves.dropna(subset=["accuracy"])
            figure = plotly.line(shown, x="train_size", y="accuracy", color="configuration", log_x=True)
            measured = plotly.scatter(shown, x="train_size", y="measured", color="configuration", log_x=True)
            figure.add_traces(measured.data).write_html(output)


if __name__ == "__main__":
    typer.run(main)
