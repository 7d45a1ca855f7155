"""What do fine-tuning and augmentation gain? Pairs of configurations that nothing else tells apart, at each size."""

import pandas as pd
import typer
from common import Formats, Output, answering, labels, print_lines, print_table
from sources import SourcePath, load_trials

from raybench.errors import InputError
from raybench.foreign import Source
from raybench.records import Status
from raybench.scores import scores_of
from raybench.stats import difference_interval

CHANGES = {"fine-tuning": {"fine-tune", "lp-ft", "fine_tuned"}, "augmentation": {"augment", "augmented"}}
MEANS = dict.fromkeys(["before", "after"], ".4f")
FORMATS: Formats = {"pair": "", **MEANS, "points": "+.1f", "±": ".1f", "time": ".1f", "seeds": ""}
NOTE = "Over seeds that both sides completed. Points: 0.01 of accuracy, with half of the 95 % interval. Time: a factor."


def change(before: str, after: str) -> str | None:
    """Return the one change from a strategy to another, or None; `linear-probe` and `plain` stand for none yet."""
    old, new = ({*name.split("+")} - {"linear-probe", "plain", ""} for name in (before, after))
    return next((name for name, parts in CHANGES.items() if new - parts == old != new), None)


def gains(source: Source, metric: str) -> pd.DataFrame:
    """Return one row a change and pair: means before and after, points, half of the interval, time."""
    known = source.results[source.results["status"].eq(Status.COMPLETED) & source.results[metric].notna()]
    known = known.assign(strategy=known["strategy"].fillna("plain"), group=labels(known, ["dataset", "train_size"]))
    both = known.merge(known, on=["dataset", "train_size", "group", "model", "weights", "seed"])
    both["change"] = [change(*names) for names in zip(both["strategy_x"], both["strategy_y"], strict=True)]
    both["pair"] = labels(both, ["model", "weights"]) + ": " + both["strategy_x"] + " -> " + both["strategy_y"]
    outcomes = source.outcomes if metric == "test_accuracy" else {}
    rows = []
    for keys, pair in both.groupby(["group", "change", "pair"], sort=False):  # where nothing or too much changed: NaN
        old, new = (pair.rename(columns={f"{name}_{side}": name for name in ("trial_id", metric)}) for side in "xy")
        gain = difference_interval(*(scores_of(t["seed"], t[metric], t["trial_id"], outcomes) for t in (new, old)))
        accuracies = [old[metric].mean(), new[metric].mean(), 100 * gain.value, 100 * (gain.high - gain.value)]
        rows.append([*keys, *accuracies, pair["train_seconds_y"].mean() / pair["train_seconds_x"].mean(), len(pair)])
    return pd.DataFrame(rows, columns=["group", "change", *FORMATS])


def main(source: SourcePath, output: Output = None) -> None:
    """What do fine-tuning and augmentation gain? Pairs that nothing else tells apart, at each train_size."""
    with answering(output) as plotly:
        loaded = load_trials(source)
        metric = "test_accuracy" if loaded.results["test_accuracy"].notna().any() else "val_accuracy"
        if (table := gains(loaded, metric)).empty:
            raise InputError(f"{source}: no two strategies are a {' or '.join(CHANGES)} apart; compare some that are")
        for keys, rows in table.groupby(["group", "change"], sort=False):
            print_table(f"{', '.join(map(str, keys))}: {rows['points'].mean():+.1f} points on average", rows, FORMATS)
        print_lines([f"{NOTE} Before and after: {metric}.", *loaded.notes])
        if plotly:
            bars = plotly.bar(table, x="group", y="points", error_y="±", color="pair", facet_row="change")
            bars.update_layout(barmode="group").write_html(output)


if __name__ == "__main__":
    typer.run(main)
