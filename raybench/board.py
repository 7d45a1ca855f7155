"""How far a run has come: counts, running trials, who leads, when it may end.

In: the trials of a run and the events of `raybench.events`. Out: numbers for `raybench.progress` to show.
Nothing here prints or looks at a clock. What is asked for several times a second is kept up to date by the events, so
that asking does not go through all trials and epochs.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import fmean

from raybench.events import EpochDone, Event, Notice, TrialEnded, TrialStarted
from raybench.records import EpochRecord, Status, Trial


@dataclass(frozen=True, kw_only=True, slots=True)
class Leader:
    """The configuration that leads within one dataset and train size, for now."""

    dataset: str
    train_size: int
    configuration: str
    """Model, weights and strategy; empty while no trial of this dataset and size has ended."""
    val_accuracy: float
    """Mean over the seeds that ended, as a fraction; NaN while there are none."""
    seeds_ended: int
    seeds: int


@dataclass(kw_only=True, slots=True)
class Running:
    """A trial that runs, and its epochs so far."""

    trial: Trial
    last: EpochRecord | None = None
    epoch_seconds: list[float] = field(default_factory=list)
    """Of the epochs seen here; a resumed trial has earlier ones."""


@dataclass(kw_only=True, slots=True)
class _Standing:
    """How the seeds of one configuration ended so far."""

    seeds: int = 0
    accuracies: dict[str, float] = field(default_factory=dict)
    """Val accuracy by trial id."""
    lower_bounds: set[str] = field(default_factory=set)
    """Trials that were stopped or failed."""


@dataclass(kw_only=True, slots=True)
class _Pace:
    """Epochs of the trials of one dataset, train size, model and strategy."""

    seconds: float = 0.0
    """Of the epochs seen here."""
    epochs: int = 0
    """Seen here."""
    waiting_epochs: int = 0
    """At most to come in trials that neither run nor ended."""


def configuration_text(trial: Trial) -> str:
    """Return model, weights (of a file, its name alone) and strategy in one line."""
    return f"{trial.model.name} {Path(trial.weights).name} {trial.strategy.name}"


def _cell(trial: Trial) -> tuple[str, int]:
    return trial.dataset.name, trial.train_size


class Board:
    """Counts, running trials, leaders and expected end, kept up to date by events. Prints nothing."""

    def __init__(
        self,
        trials: Sequence[Trial],
        *,
        earlier: Iterable[TrialEnded],
        begun: Collection[str] = (),
        now: datetime,
    ) -> None:
        self.trials = {trial.trial_id: trial for trial in trials}
        self.started_at = now
        self.notice: str | None = None
        """What is being done before the first trial starts."""
        self.ending = False
        """Whether no trial starts any more."""
        self.running: dict[str, Running] = {}
        self.ended: dict[str, TrialEnded] = {
            event.trial_id: event for event in earlier if event.trial_id in self.trials
        }
        self._begun = {trial_id for trial_id in begun if trial_id in self.trials and trial_id not in self.ended}
        """Trials of earlier sessions that wait to go on."""
        self._paces: dict[tuple[str, int, str], _Pace] = {}
        self._standings: dict[tuple[str, int], dict[str, _Standing]] = {}
        self._epochs_used: list[float] = []
        for trial in trials:
            self._paces.setdefault(self._kind(trial), _Pace())
            self._standings.setdefault(_cell(trial), {}).setdefault(configuration_text(trial), _Standing()).seeds += 1
            if trial.trial_id not in self.ended:
                self._pace(trial).waiting_epochs += trial.epochs
        for event in self.ended.values():
            self._stand(event)

    def feed(self, event: Event) -> None:
        """Take an event in; one about an unknown trial is left aside."""
        match event:
            case Notice(text=text, ends_run=ends_run):
                self.notice = text
                self.ending = self.ending or ends_run
            case TrialStarted(trial_id=trial_id) if trial_id in self.trials:
                self._start(self.trials[trial_id])
            case EpochDone(record=record) if record.trial_id in self.trials:
                running = self.running.get(record.trial_id) or self._start(self.trials[record.trial_id])
                running.last = record
                running.epoch_seconds.append(record.epoch_seconds)
                pace = self._pace(running.trial)
                pace.seconds += record.epoch_seconds
                pace.epochs += 1
            case TrialEnded(trial_id=trial_id) if trial_id in self.trials:
                running = self.running.get(trial_id) or self._start(self.trials[trial_id])
                del self.running[trial_id]
                if running.last is not None and event.status is Status.COMPLETED:
                    self._epochs_used.append(running.last.epoch / running.trial.epochs)
                self.ended[trial_id] = event
                self._stand(event)
            case _:
                pass

    def _start(self, trial: Trial) -> Running:
        """Count a trial as running, whether it waited, ran or had ended before."""
        self.notice = None
        self._begun.discard(trial.trial_id)
        ended = self.ended.pop(trial.trial_id, None)
        if ended is not None:
            standing = self._standing(trial)
            standing.accuracies.pop(trial.trial_id, None)
            standing.lower_bounds.discard(trial.trial_id)
        elif trial.trial_id not in self.running:
            self._pace(trial).waiting_epochs -= trial.epochs
        self.running[trial.trial_id] = Running(trial=trial)
        return self.running[trial.trial_id]

    def _stand(self, event: TrialEnded) -> None:
        standing = self._standing(self.trials[event.trial_id])
        if event.val_accuracy is not None:
            standing.accuracies[event.trial_id] = event.val_accuracy
        if event.status in {Status.STOPPED, Status.FAILED}:
            standing.lower_bounds.add(event.trial_id)

    def _standing(self, trial: Trial) -> _Standing:
        return self._standings[_cell(trial)][configuration_text(trial)]

    def _pace(self, trial: Trial) -> _Pace:
        return self._paces[self._kind(trial)]

    def count(self, status: Status) -> int:
        """Return how many trials ended with this status."""
        return sum(event.status is status for event in self.ended.values())

    def count_done(self) -> int:
        """Return how many trials ended and do not go on."""
        return len(self.ended) - self.count(Status.UNFINISHED)

    def count_unfinished(self) -> int:
        """Return how many trials have begun and neither run nor ended: they go on in a later run, or later in this."""
        return self.count(Status.UNFINISHED) + len(self._begun)

    def leaders(self) -> list[Leader]:
        """Return the leading configuration of each dataset and train size, in the order of the trials.

        A configuration with a stopped or failed seed cannot lead: its accuracy is a lower bound.
        """
        return [self._leader(cell, standings) for cell, standings in self._standings.items()]

    @staticmethod
    def _leader(cell: tuple[str, int], standings: Mapping[str, _Standing]) -> Leader:
        best = Leader(
            dataset=cell[0], train_size=cell[1], configuration="", val_accuracy=math.nan, seeds_ended=0, seeds=0
        )
        for name, standing in standings.items():
            if not standing.accuracies or standing.lower_bounds:
                continue
            mean = fmean(standing.accuracies.values())
            if not best.configuration or mean > best.val_accuracy:
                best = Leader(
                    dataset=cell[0],
                    train_size=cell[1],
                    configuration=name,
                    val_accuracy=mean,
                    seeds_ended=len(standing.accuracies),
                    seeds=standing.seeds,
                )
        return best

    def remaining_seconds(self, now: datetime) -> float | None:
        """Return the seconds to go, from the epochs finished here against those to go; None before the first epoch.

        An epoch to go takes what finished epochs of the same dataset, size, model and strategy took, or else as much
        an image as all finished ones. Trials are taken to use the share of their epochs that ended ones used
        (patience). What ran at once and what time between epochs cost is in the elapsed time.
        """
        done = sum(pace.seconds for pace in self._paces.values())
        elapsed = (now - self.started_at).total_seconds()
        if done <= 0 or elapsed <= 0:
            return None
        images = sum(kind[1] * pace.epochs for kind, pace in self._paces.items())
        share = fmean(self._epochs_used) if self._epochs_used else 1.0
        epochs_to_go = {kind: pace.waiting_epochs * share for kind, pace in self._paces.items()}
        for running in self.running.values():
            epochs_done = running.last.epoch if running.last is not None else 0
            epochs_to_go[self._kind(running.trial)] += max(running.trial.epochs * share - epochs_done, 0)
        to_go = 0.0
        for kind, epochs in epochs_to_go.items():
            pace = self._paces[kind]
            to_go += epochs * (pace.seconds / pace.epochs if pace.epochs else kind[1] * done / images)
        return elapsed * to_go / done

    @staticmethod
    def _kind(trial: Trial) -> tuple[str, int, str]:
        return (trial.dataset.name, trial.train_size, f"{trial.model.name} {trial.strategy.name}")
