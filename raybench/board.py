"""How far a run has come: counts, running trials, who leads, when it may end.

In: the trials of a run and the events of `raybench.events`. Out: numbers for `raybench.progress` to show.
Nothing here prints or looks at a clock.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import fmean

from raybench.events import EpochDone, Event, TrialEnded, TrialStarted
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


def configuration_text(trial: Trial) -> str:
    """Return model, weights (of a file, its name alone) and strategy in one line."""
    return f"{trial.model.name} {Path(trial.weights).name} {trial.strategy.name}"


def _cell(trial: Trial) -> tuple[str, int]:
    return trial.dataset.name, trial.train_size


class Board:
    """Counts, running trials, leaders and expected end, kept up to date by events. Prints nothing."""

    def __init__(self, trials: Sequence[Trial], *, earlier: Iterable[TrialEnded], now: datetime) -> None:
        self.trials = {trial.trial_id: trial for trial in trials}
        self.started_at = now
        self.running: dict[str, Running] = {}
        self.ended: dict[str, TrialEnded] = {
            event.trial_id: event for event in earlier if event.trial_id in self.trials
        }
        self._epoch_seconds: dict[tuple[str, int, str], list[float]] = {}
        self._epochs_used: list[float] = []

    def feed(self, event: Event) -> None:
        """Take an event in; one about an unknown trial is left aside."""
        match event:
            case TrialStarted(trial_id=trial_id) if trial_id in self.trials:
                self.ended.pop(trial_id, None)
                self.running[trial_id] = Running(trial=self.trials[trial_id])
            case EpochDone(record=record) if record.trial_id in self.trials:
                running = self.running.setdefault(record.trial_id, Running(trial=self.trials[record.trial_id]))
                running.last = record
                running.epoch_seconds.append(record.epoch_seconds)
                self._epoch_seconds.setdefault(self._kind(running.trial), []).append(record.epoch_seconds)
            case TrialEnded(trial_id=trial_id) if trial_id in self.trials:
                running = self.running.pop(trial_id, Running(trial=self.trials[trial_id]))
                if running.last is not None and event.status is Status.COMPLETED:
                    self._epochs_used.append(running.last.epoch / running.trial.epochs)
                self.ended[trial_id] = event
            case _:
                pass

    def count(self, status: Status) -> int:
        """Return how many trials ended with this status."""
        return sum(event.status is status for event in self.ended.values())

    def leaders(self) -> list[Leader]:
        """Return the leading configuration of each dataset and train size, in the order of the trials.

        A configuration with a stopped or failed seed cannot lead: its accuracy is a lower bound.
        """
        seeds: dict[tuple[str, int], dict[str, list[Trial]]] = {}
        for trial in self.trials.values():
            seeds.setdefault(_cell(trial), {}).setdefault(configuration_text(trial), []).append(trial)
        return [self._leader(cell, configurations) for cell, configurations in seeds.items()]

    def _leader(self, cell: tuple[str, int], configurations: dict[str, list[Trial]]) -> Leader:
        best = Leader(
            dataset=cell[0], train_size=cell[1], configuration="", val_accuracy=math.nan, seeds_ended=0, seeds=0
        )
        for name, trials in configurations.items():
            events = [self.ended[trial.trial_id] for trial in trials if trial.trial_id in self.ended]
            accuracies = [event.val_accuracy for event in events if event.val_accuracy is not None]
            if not accuracies or any(event.status in {Status.STOPPED, Status.FAILED} for event in events):
                continue
            mean = fmean(accuracies)
            if not best.configuration or mean > best.val_accuracy:
                best = Leader(
                    dataset=cell[0],
                    train_size=cell[1],
                    configuration=name,
                    val_accuracy=mean,
                    seeds_ended=len(accuracies),
                    seeds=len(trials),
                )
        return best

    def remaining_seconds(self, now: datetime) -> float | None:
        """Return the seconds to go, from the epochs finished here against those to go; None before the first epoch.

        An epoch to go takes what finished epochs of the same dataset, size, model and strategy took, or else as much
        an image as all finished ones. Trials are taken to use the share of their epochs that ended ones used
        (patience). What ran at once and what time between epochs cost is in the elapsed time.
        """
        done = sum(sum(seconds) for seconds in self._epoch_seconds.values())
        elapsed = (now - self.started_at).total_seconds()
        if done <= 0 or elapsed <= 0:
            return None
        images = sum(kind[1] * len(seconds) for kind, seconds in self._epoch_seconds.items())
        share = fmean(self._epochs_used) if self._epochs_used else 1.0
        to_go = 0.0
        for trial_id, trial in self.trials.items():
            if trial_id in self.ended:
                continue
            seen = self._epoch_seconds.get(self._kind(trial))
            epoch_seconds = fmean(seen) if seen else trial.train_size * done / images
            running = self.running.get(trial_id)
            epochs_done = running.last.epoch if running is not None and running.last is not None else 0
            to_go += max(trial.epochs * share - epochs_done, 0) * epoch_seconds
        return elapsed * to_go / done

    @staticmethod
    def _kind(trial: Trial) -> tuple[str, int, str]:
        return (trial.dataset.name, trial.train_size, f"{trial.model.name} {trial.strategy.name}")
