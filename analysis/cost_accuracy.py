"""What does accuracy cost? Configurations by cost, the frontier, and which of them wins from which budget on."""

from typing import Annotated

import typer
from common import Formats, Output, answering, labels, print_lines, print_table
from sources import ColumnNames, SourcePath, TestImages, load_trials

import raybench
from raybench.errors import InputError
from raybench.formats import accuracy_text, duration_text, usd_text

AllSizes = Annotated[bool, typer.Option("--all-sizes", help="Compare all sizes of a dataset with one another.")]
Predictions = Annotated[int | None, typer.Option(help="Charge for so many predictions as well.", show_default="none")]
NAMES = ["model", "weights", "strategy"]
LEGEND = "F: frontier, nothing cheaper is as accurate. =: the cheapest that cannot be told apart from the best."
STEPS = "Points: 0.01 of accuracy, gained and paid for since the row above, with the 95 % interval of the gain."


def main(
    source: SourcePath,
    *,
    predictions: Predictions = None,
    all_sizes: AllSizes = False,
    columns: ColumnNames = None,
    test_images: TestImages = None,
    output: Output = None,
) -> None:
    """What does accuracy cost? Configurations by cost, the frontier, and which of them wins from which budget on."""
    with answering(output) as plotly:
        trials, charge = load_trials(source, columns, test_images), "both" if predictions else "training"
        weighed = raybench.weigh(trials, charge=charge, predictions=predictions, across_sizes=all_sizes)
        table = weighed[(weighed["stopped"] == 0) & weighed["cost"].notna()].copy()
        if table.empty:
            raise InputError(f"{source}: no complete configuration has a cost of {charge}; give results with one")
        table["configuration"] = labels(table, [*NAMES, "train_size"] if all_sizes else NAMES)
        table["group"] = table["dataset"] + ", " + table["comparison"].where(table["comparison"] != "", "one size")
        table["interval"] = [
            accuracy_text(*row) for row in table[["accuracy", "accuracy_low", "accuracy_high"]].to_numpy()
        ]
        table["F"] = table["on_frontier"].fillna(value=False).map({True: "F", False: ""})
        table["="] = table["cheapest_tied"].map({True: "=", False: ""})
        for (group, unit), rows in table.groupby(["group", "unit"], sort=False):
            paid = usd_text if unit == "USD" else duration_text
            cost: Formats = {"configuration": "", "cost": paid}
            title = f"{group}: {unit} of {charge} for {rows['metric'].iloc[0]}"
            print_table(title, rows, {**cost, "interval": "", "F": "", "=": ""})
            gains: Formats = {"points": "+.2f", "points_low": "+.1f", "points_high": "+.1f", "cost_per_point": paid}
            print_table("Winners from a budget on", rows[rows["F"] == "F"], {**cost, **gains})
        left_out = [f"Left out, without a cost or not completed: {len(weighed) - len(table)}."]
        print_lines([LEGEND, STEPS, *(left_out if len(weighed) > len(table) else []), *trials.notes])
        if plotly:
            axes = {"x": "cost", "y": "accuracy", "facet_col": "group", "log_x": True}
            figure = plotly.scatter(table, **axes, color="configuration", hover_data=["unit", "metric"])
            figure.add_traces(plotly.line(table[table["F"] == "F"], **axes).data).write_html(output)


if __name__ == "__main__":
    typer.run(main)
