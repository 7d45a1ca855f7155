"""Hands trials to Ray Tune until each has a row: a fresh Tuner for all that have none, a few times.

In: the trials, and what every Tuner of a run is given. Out: rows in the run directory, written by the trials.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from tempfile import TemporaryDirectory

from ray import tune
from ray.tune import Callback, PlacementGroupFactory
from ray.tune.experiment import Trial as TuneTrial

from raybench.records import Trial
from raybench.scheduling.cluster import environment
from raybench.scheduling.driver import Announcer
from raybench.scheduling.interruption import Interruption, ray_failures
from raybench.scheduling.letting_go import NoProgress
from raybench.scheduling.limits import Limits
from raybench.scheduling.queue import AllEnded, Finish, InOrder, Room, TrialQueue
from raybench.scheduling.resources import Share
from raybench.scheduling.shares import Shares
from raybench.scheduling.trainable import KINDS, TIMES, run_trial
from raybench.scheduling.worker import Shared

TUNE_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # three files a trial, with an fsync each epoch
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # ours hears Ctrl-C, so that an interruption is told from an end
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",  # snapshots that nobody would read
    "TUNE_MAX_PENDING_TRIALS_PG": "1000000",  # the queue says how many: each trial that has room
    "RAY_AIR_NEW_OUTPUT": "0",  # the new output prints a summary even where it is asked for nothing
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths in an experiment start from the driver's working directory
}
PASSES = 3
"""A Tuner may give a trial up, when a process could not be handed to it, or died just then: a fresh one takes it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What every Tuner of a run is given."""

    shared: Shared
    shares: Shares
    scheduler: InOrder
    limits: Limits
    room: Room
    callbacks: Sequence[Callback]


def work_off(trials: Mapping[str, Trial], work: Work, *, announcer: Announcer, interruption: Interruption) -> None:
    """Let Tuners run the trials until each has a row, or the run is to end."""

    def over() -> bool:
        return interruption.ends or work.limits.reached()

    for _ in range(PASSES):
        remaining = [trial for trial_id, trial in trials.items() if trial_id not in announcer.statuses]
        if remaining and not over():
            _fit(remaining, trials, work, interruption)
    if not over():
        for trial_id in trials:
            announcer.settle(trial_id, f"no process took it in {PASSES} attempts", retries=0)


def _fit(remaining: Sequence[Trial], trials: Mapping[str, Trial], work: Work, interruption: Interruption) -> None:
    """Let one Tuner run the trials that remain, in a directory that is gone afterwards."""
    queue = TrialQueue(
        remaining,
        count_live=work.scheduler.count_live,
        room=work.room,
        may_start=lambda trial: not interruption.ends and work.limits.may_start(trial),
        weigh=lambda trial_id: work.shares.times(trials[trial_id]),
        kinds=work.shares.kinds,
    )
    with (
        ray_failures(interruption),
        suppress(AllEnded),
        TemporaryDirectory(prefix="raybench-tune-", ignore_cleanup_errors=True) as scratch,
        environment(TUNE_ENVIRONMENT),
    ):
        tune.Tuner(
            tune.with_resources(partial(run_trial, shared=work.shared), partial(_placement, base=work.shares.base)),
            tune_config=tune.TuneConfig(
                search_alg=queue,
                num_samples=len(remaining),
                scheduler=work.scheduler,
                reuse_actors=True,  # starting Python and importing torch takes longer than many a trial
                trial_name_creator=_name,
                trial_dirname_creator=_name,
            ),
            run_config=tune.RunConfig(
                name="trials",
                storage_path=scratch,
                verbose=0,
                callbacks=[*work.callbacks, NoProgress(), Finish(queue.ended)],
                stop=interruption,
                failure_config=tune.FailureConfig(max_failures=-1),  # `Losses` decides
            ),
        ).fit()


def _placement(config: Mapping[str, str], *, base: Share) -> PlacementGroupFactory:
    """Return what a trial is given at first. Ray Tune unpickles this for each one: the trials are no part of it."""
    return _shared_placement(base, int(config[TIMES]), tuple(config[KINDS].split()))


@cache
def _shared_placement(base: Share, times: int, kinds: tuple[str, ...]) -> PlacementGroupFactory:
    """Make what trials are given once, not once for each."""
    return replace(base, times=times, accelerators=kinds).placement()


def _name(trial: TuneTrial) -> str:
    return str(trial.config["trial"])
