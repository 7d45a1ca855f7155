"""What do fine-tuning, augmentation, depth, pretraining and more data buy? Pairs that one choice tells apart."""

import typer
from common import Formats, Output, answering, labels, print_lines, print_table
from sources import ColumnNames, SourcePath, TestImages, load_trials

import raybench
from raybench.errors import InputError
from raybench.formats import duration_text, usd_text

FORMATS: Formats = {
    "pair": "",
    "accuracy_before": ".4f",
    "accuracy_after": ".4f",
    "points": "+.1f",
    "±": ".1f",
    "!": "",
}
KEPT = {
    "fine-tuning": ["model", "weights"],
    "augmentation": ["model", "weights"],
    "depth": ["weights", "strategy"],
    "pretraining": ["model", "strategy"],
    "more data": ["model", "weights", "strategy"],
}
"""What the two of a pair have in common, by what tells them apart."""
NOTE = "Points: 0.01 of accuracy, with half of the 95 % interval of each pair alone. !: more than chance, counting all."
SEEDS = "Over seeds that both sides completed; pairs without all their seeds prove nothing."


def main(
    source: SourcePath, columns: ColumnNames = None, test_images: TestImages = None, output: Output = None
) -> None:
    """What do fine-tuning, augmentation, depth, pretraining and more data buy? At each train_size, and its cost."""
    with answering(output) as plotly:
        trials = load_trials(source, columns, test_images)
        table, means = raybench.pair_gains(trials), raybench.mean_gains(trials)
        if table.empty:
            raise InputError(f"{source}: no two configurations are one known choice apart; compare some that are")
        table["group"] = labels(table, ["dataset", "train_size"])
        table["points"], table["±"] = 100 * table["difference"], 50 * (table["high"] - table["low"])
        table["!"] = table["told_apart"].fillna(value=False).map({True: "!", False: ""})
        for (kind, group), rows in table.groupby(["kind", "group"], sort=False):
            named = rows.assign(pair=labels(rows, KEPT[str(kind)]) + ": " + rows["before"] + " -> " + rows["after"])
            paid = usd_text if rows["unit"].iloc[0] == "USD" else duration_text
            named["more_cost"] = [("-" if each < 0 else "+") + paid(abs(each)) for each in named["cost_difference"]]
            of = means[(means["kind"] == kind) & labels(means, ["dataset", "train_size"]).eq(str(group))]
            average = ", ".join(f"{100 * each:+.1f} points on average" for each in of["difference"])
            title = f"{group}, {kind}: {average or 'no average'} (doubt: {', '.join(sorted({*rows['doubt']}))})"
            print_table(title, named, {**FORMATS, "more_cost": "", "seeds": ""})
        print_lines([NOTE, SEEDS, *trials.notes])
        if plotly:
            shown = table.assign(pair=labels(table, ["model", "weights", "strategy"]))
            bars = plotly.bar(shown, x="group", y="points", error_y="±", color="pair", facet_row="kind")
            bars.update_layout(barmode="group").write_html(output)


if __name__ == "__main__":
    typer.run(main)
