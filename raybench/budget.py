"""What a run may spend: a budget and what was spent of it in, the seconds that are left out.

Spent is what machines cost while the run had them, busy or idle, over all its sessions, as the ledger has it; an hour
of the budget is an hour of the run, however many machines it has.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from raybench.cost import SECONDS_PER_HOUR
from raybench.errors import ExperimentError
from raybench.formats import duration_text, usd_text
from raybench.ledger import Kind, load, summary, with_prices
from raybench.pace import least_epochs, seconds_alone
from raybench.records import AshaSettings, Pace, Trial
from raybench.spending import Books

ENDING_SECONDS = 3.0
"""Kept back for what comes after the last epoch: test splits, rows, the end of Ray."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Spending:
    """What a run has spent."""

    usd: float
    """NaN where a price is unknown."""
    hours: float

    def time_text(self) -> str:
        """Return the hours as people write them."""
        return duration_text(self.hours * SECONDS_PER_HOUR)


class Budget:
    """What may still be spent, as time goes by.

    Args:
        usd: most that all sessions may cost; None: no limit.
        hours: most that they may last; None: no limit.
        earlier: what the sessions before this one spent.
        books: of this session.

    """

    def __init__(self, *, usd: float | None, hours: float | None, earlier: Spending, books: Books) -> None:
        self._usd = usd
        self._hours = hours
        self._earlier = earlier
        self._books = books

    def spent(self) -> Spending:
        """Return what was spent so far, this session included."""
        return Spending(
            usd=self._earlier.usd + self._books.usd(),
            hours=self._earlier.hours + self._books.wall_seconds() / SECONDS_PER_HOUR,
        )

    def seconds_left(self) -> float:
        """Return how long trials may go on with the machines that the run has now; 0 or less: no longer."""
        spent = self.spent()
        left = math.inf if self._hours is None else (self._hours - spent.hours) * SECONDS_PER_HOUR
        if self._usd is not None:
            a_second, money = self._books.usd_per_second(), self._usd - spent.usd
            left = min(left, money / a_second if a_second > 0 else math.copysign(math.inf, money))
        return left - ENDING_SECONDS

    def check(self, label: str) -> None:
        """Check, before anything starts, that the budget can be kept and that something is left of it.

        Raises:
            ExperimentError: it is in US dollars though a price is unknown, or it is spent.

        """
        spent = self.spent()
        if self._usd is not None and math.isnan(spent.usd + self._books.usd_per_second()):
            raise ExperimentError(
                f"{label}: budget.usd: {self._usd:g} cannot be kept, because the price of a machine is unknown; give "
                "it as price_per_hour_usd, such as {local: 0.40}, or a budget in hours"
            )
        if self._usd is not None and spent.usd >= self._usd:
            raise ExperimentError(
                f"{label}: budget.usd: {self._usd:g} is spent: the run took {usd_text(spent.usd)} so far; give more"
            )
        if self._hours is not None and spent.hours >= self._hours:
            raise ExperimentError(
                f"{label}: budget.hours: {self._hours:g} is spent: the run took {spent.time_text()} so far; give more"
            )

    def text(self) -> str:
        """Return the budget, and what was spent of it, in words."""
        spent = self.spent()
        parts = [] if self._usd is None else [f"${self._usd:g} ({usd_text(spent.usd)} spent)"]
        parts += [] if self._hours is None else [f"{self._hours:g} h ({spent.time_text()} spent)"]
        return " and ".join(parts)


def spent_before(run_dir: Path, usd_per_hour: Mapping[str, float]) -> Spending:
    """Return what earlier sessions on a run directory spent; a machine that had no price then has that of now."""
    ledger = load(run_dir)
    if ledger.empty:
        return Spending(usd=0.0, hours=0.0)
    machines = with_prices(ledger[ledger["kind"] == Kind.MACHINE], usd_per_hour)
    return Spending(
        usd=float(machines["cost_usd"].sum(skipna=False)), hours=summary(ledger).wall_seconds / SECONDS_PER_HOUR
    )


def least_seconds(
    trial: Trial, paces: Mapping[str, Pace], *, val_images: int, asha: AshaSettings | None
) -> float | None:
    """Return what a trial takes at the very least, from its beginning: every phase ends as soon as it can.

    Features of a frozen backbone, and a first phase that other trials have too, may be there already. None where the
    pace of a phase is unknown.
    """
    epochs = least_epochs(trial, asha)
    if trial.first_phase_id is not None and len(epochs) > 1:
        epochs[0] = 0
    computed = {key: replace(pace, feature_seconds=0.0) for key, pace in paces.items()}
    return seconds_alone(trial, epochs, computed, val_images=val_images)
