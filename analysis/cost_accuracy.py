"""What does accuracy cost? Configurations by cost, the frontier, and what a point more costs along it."""

import pandas as pd
import typer
from common import Formats, Output, answering, labels, print_lines, print_table
from sources import SourcePath, load_trials

from raybench.errors import InputError
from raybench.formats import duration_text, usd_text
from raybench.ranking import rank

COST_TEXTS = {"standalone_cost_usd": usd_text, "train_seconds": duration_text}
ACCURACY: Formats = {"accuracy": ".4f", "±": ".3f", "F": "F".__mul__, "points": "+.2f"}
LEGEND = "F: frontier, nothing cheaper is as accurate. Points: 0.01 of accuracy, gained and paid for since the F above."


def by_cost(group: pd.DataFrame) -> pd.DataFrame:
    """Rank rows of one dataset and train_size in, by cost out, with `points` and `a_point` along the frontier."""
    metric = "test_accuracy" if group["test_accuracy"].notna().any() else "val_accuracy"
    unit = "standalone_cost_usd" if group["standalone_cost_usd"].notna().all() else "train_seconds"
    table = group.assign(metric=metric, accuracy=group[metric], unit=unit, cost=group[unit])
    table["±"] = (table["test_accuracy_high"] - table["test_accuracy_low"]) / 2
    table["configuration"] = labels(table, ["model", "weights", "strategy"])
    table["group"] = labels(table, ["dataset", "train_size"])
    table["F"] = table["on_frontier"].fillna(value=False).astype(bool)
    table = table.sort_values(["cost", "accuracy"], ascending=[True, False], ignore_index=True)
    frontier = table[table["F"]]
    table["points"] = 100 * frontier["accuracy"].diff()
    table["a_point"] = frontier["cost"].diff() / table["points"].where(table["points"] > 0)
    return table


def main(source: SourcePath, output: Output = None) -> None:
    """What does accuracy cost? Configurations by cost, the frontier, and what a point more costs along it.

    Cost is in USD where that is known of every complete configuration, and training time where it is not.
    """
    with answering(output) as plotly:
        trials = load_trials(source)
        ranking = rank(trials.results, outcomes=trials.outcomes)
        groups = ranking[ranking["stopped"] == 0].groupby(["dataset", "train_size"], dropna=False)
        tables = [by_cost(group) for _, group in groups if group["on_frontier"].any()]
        if not tables:
            raise InputError(f"{source}: no complete configuration has train_seconds; give results that have")
        for table in tables:
            group, metric, unit = table.iloc[0][["group", "metric", "unit"]]
            paid = COST_TEXTS[unit]
            formats: Formats = {"configuration": "", "cost": paid, **ACCURACY, "a_point": paid}
            print_table(f"{group}: {unit} for {metric}", table, formats)
        left_out = f"Left out, for seeds that did not complete: {(ranking['stopped'] > 0).sum()} configurations."
        print_lines([LEGEND, *([left_out] if ranking["stopped"].any() else []), *trials.notes])
        if plotly:
            shown, axes = pd.concat(tables), {"x": "cost", "y": "accuracy", "facet_col": "group", "log_x": True}
            figure = plotly.scatter(shown, **axes, color="configuration", hover_data=["unit", "metric"])
            figure.add_traces(plotly.line(shown[shown["F"]], **axes).data).write_html(output)


if __name__ == "__main__":
    typer.run(main)
