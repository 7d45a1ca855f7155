"""When a trial is stopped because of the others in its group: pure logic, without Ray.

In: `EpochReport`s in the order in which they arrive. Out: a `Decision` for each rung that a trial reaches.

The rule is the asynchronous successive halving of Li et al. 2018, "A System for Massively Parallel
Hyperparameter Tuning" (arXiv:1810.05934), algorithm 2, in its stopping form: where the paper promotes the
best 1/eta of a rung to the next one, a trial that is not among them when it arrives ends here, and the
others go on without a pause. Beyond the paper:

- Groups never meet: each has rungs of its own.
- Rungs count epochs of a strategy's last phase, so that a head trained alone never decides over `lp-ft`.
- A value is the lowest val loss so far, over all phases: what the trial would be scored with if it ended now.
- A rung decides nothing before it holds `reduction_factor` values, so nobody ends for being second.
- Reaching the last epoch is the end and no stop. A trial that runs out of patience before a rung leaves no value there.
- A val loss that is not a number ends the trial at once and counts in no rung: a diverged network does not come back.
- Ties go on. A decision, once recorded, never changes; replaying the recorded ones gives the same state.
"""

import math
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

from raybench.records import AshaSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochReport:
    """What the rule has to know about one epoch of one trial."""

    trial_id: str
    group: str
    epoch: int
    """From 1, over all phases."""
    last_phase_epoch: int
    """Epochs done of the strategy's last phase; 0 in the phases before it."""
    last_phase_epochs: int
    """Epochs that the last phase may take."""
    val_loss: float
    """Of this epoch."""
    best_val_loss: float
    """Lowest so far over all phases; infinite where no epoch gave a number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What was decided about a trial at a rung, for good."""

    trial_id: str
    group: str
    epoch: int
    """Over all phases: the trial ends with this one if it is stopped."""
    rung: int | None
    """Epochs of the last phase at which it was decided; None: the val loss was not a number."""
    value: float | None
    """Lowest val loss so far; None where the val loss was not a number."""
    stop: bool


@dataclass(kw_only=True, slots=True)
class _Rung:
    """What was recorded at one rung of one group."""

    trial_ids: set[str] = field(default_factory=set)
    values: list[float] = field(default_factory=list)
    """Ascending."""


class GroupedAsha:
    """The rungs of every group; deterministic in the order of arrival."""

    def __init__(self, settings: AshaSettings) -> None:
        self._settings = settings
        self._rungs: dict[tuple[str, int], _Rung] = defaultdict(_Rung)
        self._stops: dict[str, Decision] = {}

    @classmethod
    def from_log(cls, settings: AshaSettings, decisions: Iterable[Decision]) -> Self:
        """Return the state that the recorded decisions left behind; of two for one rung the first counts."""
        asha = cls(settings)
        for decision in decisions:
            asha.record(decision)
        return asha

    def rungs(self, last_phase_epochs: int) -> tuple[int, ...]:
        """Return the epochs of the last phase at which trials of that length are judged: grace_period x eta^k."""
        levels = []
        level = self._settings.grace_period
        while level < last_phase_epochs:
            levels.append(level)
            level *= self._settings.reduction_factor
        return tuple(levels)

    def stop_of(self, trial_id: str) -> Decision | None:
        """Return the decision that ended the trial, or None while it may go on."""
        return self._stops.get(trial_id)

    def judge(self, report: EpochReport) -> Decision | None:
        """Return what follows from an epoch, or None where nothing is to be decided; changes nothing.

        The caller makes the decision durable and then calls `record`, so that a decision that could not
        be written down never has an effect.
        """
        if report.trial_id in self._stops or report.last_phase_epoch >= report.last_phase_epochs:
            return None
        if not math.isfinite(report.val_loss):
            return self._decision(report, rung=None, value=None, stop=True)
        reached = [level for level in self.rungs(report.last_phase_epochs) if level <= report.last_phase_epoch]
        if not reached:
            return None
        rung = reached[-1]
        recorded = self._rungs[report.group, rung]
        if report.trial_id in recorded.trial_ids:
            return None
        going_on = (len(recorded.values) + 1) // self._settings.reduction_factor
        better = bisect_left(recorded.values, report.best_val_loss)
        stop = 0 < going_on <= better
        return self._decision(report, rung=rung, value=report.best_val_loss, stop=stop)

    def record(self, decision: Decision) -> None:
        """Let a decision count from now on; one that stands already stays as it is."""
        if decision.rung is not None and decision.value is not None:
            recorded = self._rungs[decision.group, decision.rung]
            if decision.trial_id not in recorded.trial_ids:
                recorded.trial_ids.add(decision.trial_id)
                insort(recorded.values, decision.value)
        if decision.stop:
            self._stops.setdefault(decision.trial_id, decision)

    @staticmethod
    def _decision(report: EpochReport, *, rung: int | None, value: float | None, stop: bool) -> Decision:
        return Decision(
            trial_id=report.trial_id, group=report.group, epoch=report.epoch, rung=rung, value=value, stop=stop
        )
