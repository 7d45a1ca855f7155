"""How did training go? Train and val loss and accuracy per epoch, best val accuracy and total time."""

from typing import Annotated

import pandas as pd
import typer
from common import Formats, Output, answering, print_lines, print_table
from rich.console import Console
from sources import CURVES, SourcePath, load_epochs

from raybench.errors import InputError
from raybench.formats import clock_text
from raybench.report.tables import epochs_table

MAY_GO = ["train_loss", "train_accuracy", "epoch_seconds"]
"""Columns that are left out where nothing is known of them."""
MOST = 6
"""Trials whose epochs are printed where none are chosen."""
HELP = "Only trials whose names hold these words; can be repeated."
Words = Annotated[list[str] | None, typer.Option("--trial", metavar="WORDS", help=HELP, show_default="all")]
FORMATS: Formats = {"trial": "", "lowest_val_loss": ".4f", "best_val_accuracy": ".4f", "epochs": "", "time": clock_text}


def summary(name: str, rows: pd.DataFrame) -> dict[str, object]:
    """Return what one trial reached."""
    best = {"lowest_val_loss": rows["val_loss"].min(), "best_val_accuracy": rows["val_accuracy"].max()}
    return {"trial": name} | best | {"epochs": len(rows), "time": rows["epoch_seconds"].sum(min_count=1)}


def main(source: SourcePath, words: Words = None, output: Output = None) -> None:
    """How did training go? Train and val loss and accuracy per epoch, best val accuracy and total time."""
    with answering(output) as plotly:
        epochs = load_epochs(source)
        wanted = [{*each.split()} for each in words or [""]]
        chosen = epochs[[any(each <= {*name.split()} for each in wanted) for name in epochs["trial"]]]
        if chosen.empty:
            examples = "; ".join(epochs["trial"].unique()[:MOST])
            raise InputError(f"--trial: no trial's name holds {' or '.join(words or [])!r}; names are {examples}")
        trials = {str(name): rows for name, rows in chosen.groupby("trial", sort=False)}
        in_full = bool(words) or len(trials) <= MOST
        for name, rows in trials.items() if in_full else ():
            Console().print(
                epochs_table(rows.drop(columns=[each for each in MAY_GO if rows[each].isna().all()]), title=name)
            )
        print_table("", pd.DataFrame([summary(*item) for item in trials.items()]), FORMATS)
        print_lines([*epochs.attrs["notes"], *([] if in_full else ["--trial WORDS prints epochs."])])
        if plotly:
            curves = chosen.melt(["trial", "epoch"], CURVES)
            curves[["split", "measure"]] = curves["variable"].str.split("_", expand=True)
            figure = plotly.line(curves, x="epoch", y="value", color="trial", line_dash="split", facet_row="measure")
            figure.update_yaxes(matches=None).write_html(output)


if __name__ == "__main__":
    typer.run(main)
