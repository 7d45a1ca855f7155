"""What `show`, `plan` and a ranking say of how learning rates were chosen: tables and counts in, text out."""

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import pandas as pd
from rich.console import Group, RenderableType
from rich.text import Text

from raybench.formats import MISSING, count_text, joined, number_text, safe_text
from raybench.learning_rates import rates_text
from raybench.report.long_table import Heading, LongTable, Row
from raybench.tries import CONFIGURATION

if TYPE_CHECKING:
    from raybench.tries import RateOrigins, SearchPlan

UNTUNED: Final = "Untuned: learning rates were fixed by hand, so this compares recipes, not what each could reach."
EDGES_NAMED: Final = 3
"""Of the configurations whose rate is at the edge of its grid."""
NOTE: Final = (
    "Val loss after a few epochs with so many times the strategy's default learning rate, on a seed for this alone."
)
EDGE_NOTE: Final = "one beyond may be better; give it in a phase to find out."
OUTCOMES: Final = {"ended": MISSING, "diverged": "diverged", "failed": "failed", "unfinished": "to go"}
"""What stands in place of a val loss."""


def search_view(table: pd.DataFrame) -> RenderableType:
    """Return one line a configuration: val loss of each rate tried, and the rate that was chosen.

    Args:
        table: as `raybench.tries.search_table` returns it.

    """
    factors = sorted(table["factor"].unique())
    rows = [_row(tries, factors) for _, tries in table.groupby(CONFIGURATION, sort=False)]
    headings = [
        Heading(text="model, weights, strategy", on_the_right=False, folds=True),
        Heading(text="dataset", on_the_right=False, folds=True),
        Heading(text="size"),
        *(Heading(text=f"x {factor:g}") for factor in factors),
        Heading(text="chosen", on_the_right=False),
    ]
    notes = [NOTE, f"E: at the edge of the rates tried, so {EDGE_NOTE}"] if table["at_edge"].any() else [NOTE]
    return Group(
        Text("Learning rates", style="bold"),
        LongTable(headings=headings, rows=rows, gap=2),
        *(Text(note) for note in notes),
    )


def search_plan_text(plan: "SearchPlan") -> str:
    """Return what a search will take, for `plan`."""
    times = joined([f"{factor:g}" for factor in plan.factors])
    epochs = " or ".join(str(number) for number in plan.epochs_of_a_try)
    each = f"{times} times the default, for {epochs} epochs"
    if not plan.to_go:
        return f"chosen, of {each}"
    return f"{plan.to_go} tries first, at most {plan.most_epochs} epochs: each configuration with {each}"


def rate_sentences(origins: Mapping[str, "RateOrigins | None"]) -> list[str]:
    """Return what a reader must know of the learning rates behind a ranking.

    Args:
        origins: by name of the run; None where nothing tells.

    """
    said: dict[str, list[str]] = {}
    for name, each in origins.items():
        for text in ["How learning rates were chosen is unknown."] if each is None else _sentences(each):
            said.setdefault(text, []).append(name)
    return [
        text if len(names) == len(origins) else f"{joined([safe_text(name) for name in names])}: {text}"
        for text, names in said.items()
    ]


def _sentences(origins: "RateOrigins") -> list[str]:
    if not origins.searched:
        return [UNTUNED]
    which = "each configuration"
    said = []
    if origins.fixed:
        which += f" of {joined([safe_text(name) for name in origins.searched])}"
        names = joined([safe_text(name) for name in origins.fixed])
        said.append(f"Untuned: learning rates of {names} were fixed by hand, while others had theirs searched.")
    said.append(
        f"Learning rates: for {which} the best of {origins.rates_tried} on validation, tried on a seed that is in no "
        "figure; what that cost is in its cost."
    )
    if origins.at_edge:
        said.append(
            f"At the edge of the rates tried, so one beyond may be better: {_some(origins.at_edge)} (raybench show)."
        )
    return said


def _some(names: Sequence[str]) -> str:
    return joined([safe_text(name) for name in names], most=EDGES_NAMED)


def _row(tries: pd.DataFrame, factors: Sequence[float]) -> Row:
    by_factor: dict[Hashable, Mapping[Hashable, Any]] = {row["factor"]: row for row in tries.to_dict("records")}
    first = tries.iloc[0]
    return Row(
        cells=[
            safe_text(f"{first['model']} {first['weights']} {first['strategy']}"),
            safe_text(first["dataset"]),
            count_text(first["train_size"]),
            *(loss_text(by_factor.get(factor)) for factor in factors),
            decision_text(tries, edge=" E"),
        ]
    )


def decision_text(tries: pd.DataFrame, *, edge: str) -> str:
    """Return which rate was chosen of a configuration's tries, followed by `edge` where nothing beyond it was tried."""
    chosen = tries[tries["chosen"]]
    if len(chosen):
        return f"{rates_text(chosen['learning_rates'].iloc[0])}{edge if chosen['at_edge'].iloc[0] else ''}"
    return "to come" if (tries["outcome"] == "unfinished").any() else "none"


def loss_text(row: Mapping[Hashable, Any] | None) -> str:
    """Return the val loss of a try, or how else it ended; a dash for a rate that was not tried."""
    if row is None:
        return MISSING
    return number_text(row["val_loss"]) if row["outcome"] == "ended" else OUTCOMES[row["outcome"]]
