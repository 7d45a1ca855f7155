"""What ends trials from outside: a budget that is spent, and trials that hang.

In: the hooks that Ray Tune calls. Out: trials that leave room with an epoch of theirs, or whose process is ended.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray.tune import Callback
from ray.tune.experiment import Trial as TuneTrial

from raybench.budget import Budget, least_seconds
from raybench.checkpoint_paths import state_path
from raybench.events import Notice
from raybench.formats import duration_text
from raybench.mirror import is_there
from raybench.records import AshaSettings, Pace, Trial
from raybench.scheduling.decisions import find_desk
from raybench.scheduling.driver import TELL_SECONDS, Announcer, Problems
from raybench.scheduling.trainable import BEGUN, EPOCH, EpochNews
from raybench.scheduling.unsaved import Unsaved

if TYPE_CHECKING:
    from raybench.scheduling.settings import Settings


class BudgetWatch(Unsaved, Callback):
    """Lets no trial start, or go on with another epoch, that would pass the budget.

    Args:
        budget: of the run.
        desk: name of the actor that trials ask.
        announcer: tells that the budget ends the run.
        problems: where it is kept what went wrong.
        run_dir: whose checkpoints tell which trials have begun before.
        paces: what phases take alone, by device and `pace_key`.
        val_images: by dataset.
        asha: which may end trials early.

    """

    def __init__(
        self,
        budget: Budget,
        *,
        desk: str,
        announcer: Announcer,
        problems: Problems,
        run_dir: Path,
        paces: Mapping[str, Mapping[str, Pace]],
        val_images: Mapping[str, int],
        asha: AshaSettings | None,
    ) -> None:
        self.reached = False
        """Whether a trial did not start, or was paused, because of the budget."""
        self._budget = budget
        self._desk = desk
        self._announcer = announcer
        self._problems = problems
        self._run_dir = run_dir
        self._paces = paces
        self._val_images = val_images
        self._asha = asha

    def may_start(self, trial: Trial) -> bool:
        """Return whether the trial, should it end as soon as it can, keeps within the budget."""
        begun = is_there(state_path(self._run_dir, trial.trial_id))
        least = 0.0 if begun else self._least_seconds(trial)
        if least < self._budget.seconds_left():
            return True
        self._reach()
        return False

    def on_trial_result(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, result: Mapping[str, Any], **info: object
    ) -> None:
        """Pause a trial whose next epoch, as long as this one, would pass the budget."""
        del iteration, trials, trial, info
        with self._problems.caught("the budget could not be looked at"):
            if EPOCH in result:
                self._judge(result[EPOCH])

    def _judge(self, news: EpochNews) -> None:
        if self._budget.seconds_left() < news.record.epoch_seconds:
            ray.get(find_desk(self._desk).pause.remote(news.record.trial_id), timeout=TELL_SECONDS)
            self._reach()

    def _least_seconds(self, trial: Trial) -> float:
        """Return the least of any device; 0 where nothing was measured."""
        images = self._val_images.get(trial.dataset.name, 0)
        known = [least_seconds(trial, paces, val_images=images, asha=self._asha) for paces in self._paces.values()]
        return min((seconds for seconds in known if seconds is not None), default=0.0)

    def _reach(self) -> None:
        if not self.reached:
            self.reached = True
            text = f"The budget of {self._budget.text()} ends the run: nothing starts or goes on that would pass it"
            self._announcer.tell(Notice(text=text, lasting=True, ends_run=True))


class TimeoutWatch(Unsaved, Callback):
    """Ends the process of a trial that has taken too long, whatever it does, and writes the trial's failed row.

    Args:
        seconds: that an attempt at a trial may take.
        desk: name of the actor that trials ask.
        announcer: writes the row.
        problems: where it is kept what went wrong.
        several: whether trials have several workers, which may wait for room: time counts from when they are there.
        clock: seconds that never go back.

    """

    def __init__(
        self,
        seconds: float,
        *,
        desk: str,
        announcer: Announcer,
        problems: Problems,
        several: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._desk = desk
        self._announcer = announcer
        self._problems = problems
        self._several = several
        self._clock = clock
        self._started: dict[TuneTrial, float] = {}
        self._epochs: dict[str, int] = {}

    def on_trial_start(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: object) -> None:
        """Note when an attempt began."""
        del iteration, trials, info
        if not self._several:
            self._started[trial] = self._clock()

    def on_trial_result(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, result: Mapping[str, Any], **info: object
    ) -> None:
        """Note how far a trial is."""
        del iteration, trials, info
        if BEGUN in result:
            self._started[trial] = self._clock()
        if EPOCH in result:
            self._epochs[trial.config["trial"]] = result[EPOCH].record.epoch

    def on_trial_complete(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: object) -> None:
        """Forget a trial that ended."""
        del iteration, trials, info
        self._started.pop(trial, None)

    on_trial_error = on_trial_recover = on_trial_complete

    def on_step_end(self, iteration: int, trials: list[TuneTrial], **info: object) -> None:
        """Look for trials that have taken too long."""
        del iteration, trials, info
        now = self._clock()
        for trial in [trial for trial, started in self._started.items() if now - started > self._seconds]:
            del self._started[trial]
            with self._problems.caught("a trial that takes too long could not be ended"):
                self._end(trial)

    def _end(self, trial: TuneTrial) -> None:
        trial_id = trial.config["trial"]
        # No attempt follows: whoever asks for it is told to leave.
        ray.get(find_desk(self._desk).pause.remote(trial_id), timeout=TELL_SECONDS)
        done = self._epochs.get(trial_id, 0)
        reason = (
            f"took longer than trial_timeout, {duration_text(self._seconds)}, and had done {done} "
            f"epoch{'' if done == 1 else 's'}"
        )
        self._announcer.settle(trial_id, reason, retries=trial.num_failures, kind="Timeout")
        actor = trial.temporary_state.ray_actor
        if actor is not None:
            ray.kill(actor)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What keeps trials from starting and going on, from outside."""

    watch: BudgetWatch | None
    callbacks: tuple[Callback, ...]

    def may_start(self, trial: Trial) -> bool:
        """Return whether nothing is against it."""
        return self.watch is None or self.watch.may_start(trial)

    def reached(self) -> bool:
        """Return whether the budget ends the run."""
        return self.watch is not None and self.watch.reached


def limits_of(
    settings: "Settings",
    *,
    paces: Mapping[str, Mapping[str, Pace]],
    desk: str,
    run_dir: Path,
    announcer: Announcer,
    problems: Problems,
) -> Limits:
    """Return the limits that the settings ask for; see `BudgetWatch` for the rest."""
    watch = None
    callbacks: list[Callback] = []
    if settings.budget is not None:
        watch = BudgetWatch(
            settings.budget,
            desk=desk,
            announcer=announcer,
            problems=problems,
            run_dir=run_dir,
            paces=paces,
            val_images=settings.val_images,
            asha=settings.asha,
        )
        callbacks.append(watch)
    seconds = settings.trial_timeout_seconds
    if seconds is not None:
        several = settings.resources.workers > 1
        callbacks.append(TimeoutWatch(seconds, desk=desk, announcer=announcer, problems=problems, several=several))
    return Limits(watch=watch, callbacks=tuple(callbacks))
