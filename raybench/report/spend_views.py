"""What a run will take and what it took: a quote and a ledger in, Rich renderables and sentences out."""

import math
from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from raybench.formats import MISSING, SECONDS_PER_MINUTE, duration_text, joined, safe_text, usd_text
from raybench.ledger import Line, Summary
from raybench.quote import MARGIN, Quote, Range
from raybench.report.plain_table import plain_table
from raybench.report.trial_pace import TrialPace

MOST_MACHINES = 8
"""That are named; the ones that the run had longest."""
FEW = 10
"""Images a second, below which a decimal matters."""
SMALLEST_SHARE = 0.0005
"""Below this a percentage would read as 0.0."""


def quote_view(quote: Quote) -> RenderableType:
    """Return what trials of each model and strategy take alone, and what the run takes as a whole."""
    table = _table("model", "strategy")
    tried = ["tries"] if quote.tries else []
    for name in (*tried, "trials", "images/s", "alone, one after the other"):
        table.add_column(name, justify="right")
    for line in quote.lines:
        table.add_row(
            Text(safe_text(line.model)),
            Text(safe_text(line.strategy)),
            *([str(line.tries)] if tried else []),
            str(line.trials),
            f"{line.images_per_second:.0f}" if line.images_per_second >= FEW else f"{line.images_per_second:.2g}",
            range_text(line.seconds),
        )
    return Group(Text("Quote", style="bold"), table, *(Text(line) for line in quote_sentences(quote)))


def quote_sentences(quote: Quote) -> list[str]:
    """Return what the run will take, and what that rests on."""
    if not quote.trials:
        return ["Nothing is left to train." if not quote.unmeasured else _unmeasured(quote)]
    cost = f", {usd_range_text(quote.machine_usd)}" if quote.machine_usd else ", at no known price"
    work = work_text(quote.trials, quote.tries)
    said = [f"The run will take {range_text(quote.wall_seconds)}{cost}: {work}, {quote.places} at once."]
    if quote.early_stopping:
        said.append("The least is where every trial ends as early as it may, the most where none ends early.")
    if quote.unmeasured:
        said.append(_unmeasured(quote))
    return said


def _unmeasured(quote: Quote) -> str:
    names = ", ".join(safe_text(name) for name in quote.unmeasured)
    return f"Not in it, because they could not be measured: trials of {names}."


def work_text(trials: int, tries: int) -> str:
    """Return `12 trials`, or `24 trials after 60 tries` of learning rates."""
    before = f" after {tries} {'try' if tries == 1 else 'tries'}" if tries else ""
    return f"{trials} trial{'' if trials == 1 else 's'}{before}"


def range_text(seconds: Range) -> str:
    """Return `40 s to 3 min 10 s`, or one duration where both ends read the same."""
    low, high = duration_text(seconds.low), duration_text(seconds.high)
    return low if low == high else f"{low} to {high}"


def usd_range_text(usd: Range) -> str:
    """Return `$0.02 to $0.11`, or one price where both ends read the same."""
    low, high = usd_text(usd.low), usd_text(usd.high)
    return low if low == high else f"{low} to {high}"


def ledger_view(spent: Summary, quote: Quote | None, pace: TrialPace | None) -> RenderableType:
    """Return where the time of the machines went, and what had been quoted; see `ledger_sentences`."""
    priced = not math.isnan(spent.machine.cost_usd)
    table = _table("spent on")
    table.add_column("machine time", justify="right")
    table.add_column("share", justify="right")
    if priced:
        table.add_column("cost", justify="right")
    for line in (*spent.lines, spent.machine):
        style = "bold" if line is spent.machine else ""
        table.add_row(*_cells(line, spent, priced=priced), style=style)
    return Group(table, *(Text(line) for line in ledger_sentences(spent, quote, pace)))


def ledger_sentences(spent: Summary, quote: Quote | None, pace: TrialPace | None) -> list[str]:
    """Return what is not covered, what the price was, and what had been quoted against what it took.

    Args:
        spent: what the run took.
        quote: what had been said of it; None: nothing.
        pace: how long its trials took against what was measured; None where that is unknown.

    """
    said = _machines(spent.machine_seconds) if len(spent.machine_seconds) > 1 else []
    said.append(f"Not covered by any of these lines: {_percent(spent.residual_share)} of the machine time.")
    if spent.unpriced:
        said.append(
            f"Cost is unknown without a price for {joined([safe_text(each) for each in spent.unpriced])}: "
            "price_per_hour_usd in the experiment, or prices.yaml."
        )
    if quote is not None:
        said += _quote_against(spent, quote, pace)
    return said


def _machines(seconds: Mapping[str, float]) -> list[str]:
    longest = sorted(seconds.items(), key=lambda each: (-each[1], each[0]))
    named = [f"{safe_text(name)} {duration_text(each)}" for name, each in longest]
    return [f"Machine time is that of {len(seconds)} machines together: {joined(named, most=MOST_MACHINES)}."]


def _quote_against(spent: Summary, quote: Quote, pace: TrialPace | None) -> list[str]:
    """Return a quote beside what the run took, and where it took longer, why; of other trials, a quote says nothing."""
    took = [duration_text(spent.wall_seconds)]
    if quote.machine_usd is not None and not math.isnan(spent.machine.cost_usd):
        took.append(usd_text(spent.machine.cost_usd))
    offered = [range_text(quote.wall_seconds)]
    if quote.machine_usd is not None:
        offered.append(usd_range_text(quote.machine_usd))
    is_same = (spent.trials, spent.tries) == (quote.trials, quote.tries)
    work = "" if is_same else f", {work_text(spent.trials, spent.tries)}"
    if spent.sessions > 1 or not is_same:
        work += f" in {spent.sessions} session{'' if spent.sessions == 1 else 's'}"
    quoted = f"Quoted for {work_text(quote.trials, quote.tries)}: {', '.join(offered)}."
    said = [f"{quoted} Actual{work}: {', '.join(took)}."]
    if is_same and pace is not None and spent.wall_seconds > quote.wall_seconds.high:
        said.append(_pace_text(pace))
    return said


def _pace_text(pace: TrialPace) -> str:
    """Return how much longer trials took than measured, and whether that is what made the run long."""
    beside = (
        f", where {pace.expected:.1f} times was expected of trials side by side" if pace.expected > 1 + MARGIN else ""
    )
    why = (
        ": something else probably used the machine."
        if pace.ratio > pace.expected * (1 + MARGIN)
        else "; what else took time stands above."
    )
    return f"Trials took {pace.ratio:.1f} times as long as measured alone{beside}{why}"


def _cells(line: Line, spent: Summary, *, priced: bool) -> list[str]:
    name = "all of it" if line is spent.machine else str(line.kind)
    cells = [name, duration_text(line.device_minutes * SECONDS_PER_MINUTE), _percent(line.share)]
    return [*cells, usd_text(line.cost_usd)] if priced else cells


def _percent(share: float) -> str:
    if math.isnan(share):
        return MISSING
    return "< 0.1 %" if 0 < abs(share) < SMALLEST_SHARE else f"{100 * share:.1f} %"


def _table(*names: str) -> Table:
    table = plain_table()
    for name in names:
        table.add_column(name, overflow="fold")
    return table
