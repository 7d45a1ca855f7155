"""What a run really spent, and what had been quoted: run directories in, blocks of a page out."""

from collections.abc import Iterator

from raybench.formats import SECONDS_PER_MINUTE, duration_text, safe_text, usd_text
from raybench.ledger import load, summary, with_prices
from raybench.quote import kept
from raybench.report.page_material import Material
from raybench.report.page_parts import Block, Column, Paragraph, Row, Table, cells
from raybench.report.spend_views import ledger_sentences
from raybench.report.trial_pace import trial_pace


def spend_blocks(material: Material) -> Iterator[Block]:
    """Say where the time and the money of each run went; nothing of a run that kept no ledger."""
    for run in material.runs:
        entries = load(run.run_dir)
        if entries.empty:
            continue
        spent, quote = summary(with_prices(entries, run.price_per_hour_usd)), kept(run.run_dir)
        pace = trial_pace(run.run_dir, run.experiment, run.facts, run.trials, quote)
        yield Table(
            caption=f"What {safe_text(run.run_dir.resolve().name)} spent",
            columns=[
                Column(text="spent on", is_name=True),
                Column(text="machine time"),
                Column(text="share"),
                Column(text="cost"),
            ],
            rows=[
                Row(
                    cells=cells(
                        "all of it" if line is spent.machine else str(line.kind),
                        duration_text(line.device_minutes * SECONDS_PER_MINUTE),
                        f"{100 * line.share:.1f} %",
                        usd_text(line.cost_usd),
                    ),
                    kind="pick" if line is spent.machine else "",
                )
                for line in (*spent.lines, spent.machine)
            ],
            notes=ledger_sentences(spent, quote, pace),
        )
        yield Paragraph(
            text="This is what the run used, with waiting and retries. Rankings use what a training costs alone."
        )
