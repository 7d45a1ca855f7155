"""Whether trials that are ranked together ran on machines of several kinds, whose seconds are not alike.

In: the results table. Out: a sentence for the ranking and the report; no HTML.
"""

import pandas as pd

from raybench.formats import joined, safe_text
from raybench.report.advice import GROUP, MOST_NAMES, group_name


def kinds_of_machine(results: pd.DataFrame) -> "pd.Series[str]":
    """Return what each trial was computed on: the GPU's name, or for a CPU the machine's type; empty where unknown.

    Machines with the same GPU count as alike, since that is where a trial's seconds go.
    """
    unknown = pd.Series(None, index=results.index, dtype=object)
    devices = results.get("accelerator", unknown)
    types = results.get("instance_type", unknown)
    kinds = devices.where(devices.ne("cpu") | types.isna(), types)
    return kinds.where(devices.notna(), "").map(safe_text)


def machines_note(results: pd.DataFrame) -> str | None:
    """Say which kinds of machine the trials of a training-set size ran on; None where it was one kind for each size."""
    if not {*GROUP} <= {*results.columns}:
        return None
    kinds = kinds_of_machine(results)
    known = results[kinds.ne("")].assign(kind=kinds)
    mixed = [group for _, group in known.groupby(GROUP, dropna=False, sort=False) if len({*group["kind"]}) > 1]
    if not mixed:
        return None
    together = pd.concat(mixed)
    listed = joined(
        [
            f"{kind} ({count} trial{'' if count == 1 else 's'})"
            for kind, count in sorted(together["kind"].value_counts().items())
        ],
        most=MOST_NAMES,
    )
    where = joined([group_name(group.iloc[0]) for group in mixed], most=MOST_NAMES)
    priced = "standalone_cost_usd" in together and together["standalone_cost_usd"].notna().all()
    so = (
        "compare costs, which count each machine at its price"
        if priced
        else "and where no price is known, time stands in for cost all the same: give price_per_hour_usd"
    )
    return f"Ranked together, but trained on machines of several kinds ({where}): {listed}. Times are not alike; {so}."
