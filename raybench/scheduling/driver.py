"""What the driver does while Ray Tune runs: it records decisions, tells what happened, and hears Ctrl-C.

In: the hooks that Ray Tune calls. Out: lines of the decision log, events, rows of trials that cannot write their own.

An exception from a hook would end the whole run, so none leaves one: what went wrong is kept in `problems`.
"""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import ray
from ray.tune import Callback, Stopper
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import FIFOScheduler

from raybench.errors import RaybenchError, StorageError
from raybench.events import EpochDone, Event, Notice, TrialEnded, TrialStarted
from raybench.records import Status, Trial, TrialResult
from raybench.results import read_trial, write_trial
from raybench.scheduling.asha import EpochReport, GroupedAsha
from raybench.scheduling.decisions import DecisionLog, find_desk
from raybench.scheduling.queue import InOrder
from raybench.scheduling.trainable import ENDED, EPOCH, STORAGE, EpochNews, ended_event, failed_result
from raybench.scheduling.unsaved import Unsaved

GRACE_SECONDS = 20
"""Between SIGTERM and the end, for trials to reach the end of an epoch: Kubernetes kills after 30 s, AWS takes a spot
machine back after 120 s."""
PAUSE_SECONDS = 1.0
"""How often trials are told again that they are to pause: whom they ask may have been started anew."""
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
    ) -> None:
        super().__init__(on_lost=on_lost, weigh=weigh)
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

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: object) -> None:
        """Settle a trial that Ray Tune does not begin again, if nobody has."""
        del iteration, trials, info
        reason = f"Ray Tune gave it up after its process ended {trial.num_failures} times"
        self.settle(trial.config["trial"], reason, retries=max(trial.num_failures - 1, 0))

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
        for trial_id in self._trials:
            if trial_id not in self.statuses:
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


class Interruption(Stopper):
    """Ends the run when somebody asks for it; Ray Tune looks here several times a second.

    The first SIGINT lets every trial finish its epoch and keep it. So does SIGTERM, for `GRACE_SECONDS`. Storage that
    cannot be written to ends it likewise, though nobody asked.
    """

    def __init__(
        self,
        tell: Callable[[Event], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        storage: Storage | None = None,
    ) -> None:
        self.requested = False
        self._storage = storage or Storage()
        self.at_once = False
        """Whether Ray ends with the run, so that nobody has to wait until Ray Tune has cleaned up."""
        self.pause: Callable[[], object] | None = None
        """Lets all trials leave with the epoch that they are in; None: they cannot."""
        self.lost: Callable[[], str | None] = lambda: None
        """Returns the name of a process of Ray that has ended."""
        self._tell = tell
        self._clock = clock
        self._ends_at = math.inf
        self._paused_at = -math.inf

    @property
    def ends(self) -> bool:
        """Whether nothing is to start any more."""
        return self.requested or self._storage.problem is not None

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Never end a single trial: it ends itself."""
        del trial_id, result
        return False

    def stop_all(self) -> bool:
        """Return whether the run is to end now, whatever trials do; before that they are asked to leave.

        Raises:
            KeyboardInterrupt: it is, and Ray Tune need not even clean up, which takes it up to 15 s.
            RaybenchError: Ray is gone.

        """
        lost = self.lost()
        if lost is not None:
            self.pause = None
            raise RaybenchError(f"{lost}, a process of Ray, has ended")
        if not self.ends:
            return False
        now = self._clock()
        if self.pause is not None and now < self._ends_at:
            if now - self._paused_at >= PAUSE_SECONDS:
                self.pause()
                if math.isinf(self._paused_at):
                    self._tell(Notice(text=self._text(now), lasting=True))
                self._paused_at = now
            return False
        if self.at_once:
            raise KeyboardInterrupt
        return True

    def _text(self, now: float) -> str:
        if self._storage.problem is not None:
            return f"{self._storage.problem}; trials finish their epochs, then the run ends"
        if math.isinf(self._ends_at):
            return "Trials finish their epochs, then the run ends; Ctrl-C again ends it now"
        return f"Trials finish their epochs, then the run ends, in {self._ends_at - now:.0f} s at the latest"

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the first SIGINT or SIGTERM as the wish to end; a second one acts as it would without us.

        Outside the main thread, where Python hears no signals, nothing changes.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def hear(number: int, frame: FrameType | None) -> None:
            del frame
            self.requested = True
            if number == signal.SIGTERM:
                self._ends_at = self._clock() + GRACE_SECONDS
            signal.signal(number, before[signal.Signals(number)])

        for number in before:
            signal.signal(number, hear)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def ray_failures(interruption: Interruption) -> Iterator[None]:
    """Turn what Ray Tune raises into one message; while it is being ended, it may well raise."""
    try:
        yield
    except Exception as error:
        if not interruption.requested:
            lines = str(error).strip().splitlines() or [""]
            reason = lines[-1] if isinstance(error, RaybenchError) else f"{type(error).__name__}: {lines[-1]}"
            raise RaybenchError(
                f"Ray ended the run: {reason}; what was finished is kept: run it again to go on"
            ) from error
