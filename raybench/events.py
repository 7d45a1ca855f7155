"""What the scheduler tells the driver while a run goes on; the progress display is fed with these."""

from dataclasses import dataclass

from raybench.records import EpochRecord, Status


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialStarted:
    """A trial began, or went on from its checkpoint."""

    trial_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochDone:
    """A running trial finished an epoch."""

    record: EpochRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialEnded:
    """A trial ended, and its row is on disk."""

    trial_id: str
    status: Status
    val_accuracy: float | None
    """Of the best epoch, as a fraction; None for a failed trial."""
    error: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Notice:
    """Something to tell of the run as a whole."""

    text: str
    lasting: bool = False
    """Whether it is worth keeping; what is not says what is being done now."""
    ends_run: bool = False
    """Whether no trial starts any more."""


Event = TrialStarted | EpochDone | TrialEnded | Notice
"""Anything that may happen in a run."""
