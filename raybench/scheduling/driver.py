"""What the driver does while Ray Tune runs: it records decisions and tells what happened.

In: the hooks that Ray Tune calls. Out: lines of the decision log, events, rows of trials that cannot write their own.

An exception from a hook would end the whole run, so none leaves one: what went wrong is kept in `problems`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.tune import Callback
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import FIFOScheduler

from raybench.errors import StorageError
from raybench.events import EpochDone, Event, TrialEnded, TrialStarted
from raybench.records import Status, Trial, TrialResult
from raybench.results import ended_trial_ids, read_trial, write_trial
from raybench.scheduling.asha import EpochReport, GroupedAsha
from raybench.scheduling.decisions import DecisionLog, find_desk
from raybench.scheduling.queue import InOrder
from raybench.scheduling.trainable import ENDED, EPOCH, STORAGE, EpochNews, ended_event, failed_result
from raybench.scheduling.unsaved import Unsaved

TELL_SECONDS = 30
"""How long the desk may take to hear of a stop; it answers in milliseconds unless it has just been started again."""


class Storage:
    """Whether the run directory can still be written to."""

    def __init__(self) -> None:
        self.problem: str | None = None
        """What was wrong first."""

    def failed(self, text: str) -> None:
        """Note that it cannot: nothing starts or goes on any more."""
        self.problem = self.problem or text

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Note that it cannot be read, where that turns out in the block."""
        try:
            yield
        except StorageError as error:
            self.failed(str(error))


class Problems:
    """What went wrong in hooks, each kind once."""

    def __init__(self) -> None:
        self._texts: dict[str, None] = {}

    @contextmanager
    def caught(self, doing: str) -> Iterator[None]:
        """Keep an exception from leaving the block."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is, the trials must go on
            self._texts.setdefault(f"{doing}: {type(error).__name__}: {error}")

    def texts(self) -> tuple[str, ...]:
        """Return the problems in the order in which they first appeared."""
        return tuple(self._texts)


class RecordingScheduler(InOrder):
    """Writes decisions down and tells them to the desk."""

    def __init__(
        self,
        *,
        asha: GroupedAsha,
        log: DecisionLog,
        desk: str,
        trials: Mapping[str, Trial],
        groups: Mapping[str, str],
        problems: Problems,
        on_lost: Callable[[TuneTrial], None],
        storage: Storage,
        weigh: Callable[[str], int],
        kinds: Callable[[str], tuple[str, ...]],
    ) -> None:
        super().__init__(on_lost=on_lost, weigh=weigh, kinds=kinds)
        self._storage = storage
        self._asha = asha
        self._log = log
        self._desk = desk
        self._epochs = {trial_id: trial.strategy.phases[-1].epochs for trial_id, trial in trials.items()}
        self._groups = groups
        self._problems = problems

    def on_trial_result(self, tune_controller: object, trial: TuneTrial, result: Mapping[str, Any]) -> str:
        """Judge an epoch; the decision is durable and known to the desk when this returns."""
        del tune_controller, trial
        if EPOCH in result:
            with self._problems.caught("a decision could not be recorded, so the trial went on"):
                self._judge(result[EPOCH])
        return str(FIFOScheduler.CONTINUE)

    def _judge(self, news: EpochNews) -> None:
        trial_id = news.record.trial_id
        decision = self._asha.judge(
            EpochReport(
                trial_id=trial_id,
                group=self._groups[trial_id],
                epoch=news.record.epoch,
                last_phase_epoch=news.last_phase_epoch,
                last_phase_epochs=self._epochs[trial_id],
                val_loss=news.record.val_loss,
                best_val_loss=news.best_val_loss,
            )
        )
        if decision is None:
            return
        try:
            self._log.append(decision)
        except OSError as error:
            self._storage.failed(f"{self._log.path}: cannot be written: {error.strerror or error}")
            return
        self._asha.record(decision)
        if decision.stop:
            ray.get(find_desk(self._desk).tell.remote(decision.trial_id, decision.epoch), timeout=TELL_SECONDS)


class Announcer(Unsaved, Callback):
    """Turns what Ray Tune says into events, and knows which trials have a row."""

    def __init__(
        self,
        *,
        trials: Mapping[str, Trial],
        run_dir: Path,
        on_event: Callable[[Event], None],
        problems: Problems,
        storage: Storage | None = None,
    ) -> None:
        self._storage = storage or Storage()
        self.statuses: dict[str, Status] = {}
        """Of the trials that ended, by id."""
        self._trials = trials
        self._run_dir = run_dir
        self._on_event = on_event
        self._problems = problems

    def on_trial_start(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: object) -> None:
        """Tell that a trial has a process now; Ray Tune begins one that was given up once more, only to be told so."""
        del iteration, trials, info
        if trial.config["trial"] not in self.statuses:
            self.tell(TrialStarted(trial_id=trial.config["trial"]))

    def on_trial_result(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, result: Mapping[str, Any], **info: object
    ) -> None:
        """Tell of an epoch, or that the trial's row is there."""
        del iteration, trials, trial, info
        with self._problems.caught("a report could not be read"):
            if STORAGE in result:
                self._storage.failed(result[STORAGE])
            elif ENDED in result:
                self._end(result[ENDED])
            elif EPOCH in result:
                self.tell(EpochDone(record=result[EPOCH].record))

    def on_trial_complete(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: object) -> None:
        """Let go of what Ray Tune keeps of every report of every trial."""
        del iteration, trials, info
        trial.run_metadata.last_result = {}
        trial.run_metadata.metric_analysis.clear()
        trial.run_metadata.metric_n_steps.clear()

    def settle(self, trial_id: str, reason: str, *, retries: int, kind: str = "WorkerLost") -> None:
        """Write the row of a trial that cannot write its own any more, unless it did so before it was lost."""
        if trial_id in self.statuses:
            return
        with self._problems.caught(f"the row of trial {trial_id} could not be written"):
            row = self._row(trial_id)
            if row is None:
                row = failed_result(self._trials[trial_id], f"{kind}: {reason}", None, retries=retries)
                try:
                    write_trial(self._run_dir, row, [], None)
                except StorageError as error:
                    self._storage.failed(str(error))
                    return
            self._end(ended_event(row))

    def find_rows(self) -> None:
        """Tell of trials whose row is there though their last report never came, as after an interruption."""
        there: set[str] = set()
        with self._problems.caught("rows could not be looked for"):
            there |= ended_trial_ids(self._run_dir)
        for trial_id in self._trials:
            if trial_id in there and trial_id not in self.statuses:
                with self._problems.caught(f"the row of trial {trial_id} could not be read"):
                    row = self._row(trial_id)
                    if row is not None:
                        self._end(ended_event(row))

    def _row(self, trial_id: str) -> TrialResult | None:
        """Return the row of this run; a failed or unfinished one is of an earlier run, which this one goes on with."""
        row = read_trial(self._run_dir, trial_id)
        return None if row is None or row.status in {Status.FAILED, Status.UNFINISHED} else row

    def _end(self, event: TrialEnded) -> None:
        self.statuses[event.trial_id] = event.status
        self.tell(event)

    def tell(self, event: Event) -> None:
        """Hand an event to whoever shows it."""
        with self._problems.caught("an event could not be shown"):
            self._on_event(event)
