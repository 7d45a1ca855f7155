"""Run trials with Ray Tune: the one entrance to this package.

In: trials in the order in which they start, a run directory, `Settings`, and a function that is told what happens.
Out: one row a trial in the run directory, and an `Outcome`.

Every call is a fresh Tuner over the trials given to it. Ray Tune's own directory is a temporary one; nothing of it
is read back: what lasts are rows, checkpoints and the decision log in the run directory.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import ray
from ray import tune
from ray.exceptions import RayError
from ray.tune import Callback, PlacementGroupFactory
from ray.tune.experiment import Trial as TuneTrial

from raybench.budget import Budget
from raybench.choices import Choices
from raybench.errors import RaybenchError, StorageError
from raybench.events import Event
from raybench.ledger import Kind
from raybench.process_memory import usable_bytes
from raybench.records import AshaSettings, ResourceRequest, Status, Trial
from raybench.scheduling import resources
from raybench.scheduling.asha import GroupedAsha
from raybench.scheduling.bookkeeper import Bookkeeper
from raybench.scheduling.choosing import Settled, settle, unmeasured
from raybench.scheduling.cluster import check_session, environment, import_path, lost_process, quiet_ray, ray_session
from raybench.scheduling.decisions import LOG_NAME, DecisionLog, find_desk, open_desk
from raybench.scheduling.driver import Announcer, Interruption, Problems, RecordingScheduler, Storage, ray_failures
from raybench.scheduling.limits import limits_of
from raybench.scheduling.losses import Losses
from raybench.scheduling.meters import Origin
from raybench.scheduling.queue import AllEnded, Finish, InOrder, Room, TrialQueue
from raybench.scheduling.shares import Shares
from raybench.scheduling.trainable import Shared, run_trial
from raybench.spending import Books
from raybench.trials import group_of

TUNE_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # three files a trial, with an fsync each epoch
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # ours hears Ctrl-C, so that an interruption is told from an end
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",  # snapshots that nobody would read
    "TUNE_MAX_PENDING_TRIALS_PG": "1000000",  # the queue says how many: each trial that has room
    "RAY_AIR_NEW_OUTPUT": "0",  # the new output prints a summary even where it is asked for nothing
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths in an experiment start from the driver's working directory
}
PASSES = 3
"""A Tuner may leave a trial without a word, when a process could not be handed to it: it is given to a fresh one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How trials are run; nothing of it changes what they result in, but for stopping early."""

    asha: AshaSettings | None
    """None: no trial is stopped because of others."""
    resources: ResourceRequest
    """Of each trial."""
    num_cpus: int | None = None
    """Cores that this machine counts as having; None: those it has."""
    num_gpus: int | None = None
    """GPUs that this machine counts as having; None: those it has."""
    address: str | None = None
    """`HOST:PORT` of a Ray cluster, or `auto`; None: Ray is started here, for this run."""
    price_per_hour_usd: Mapping[str, float] = field(default_factory=dict)
    """Of a whole machine, by instance type."""
    cache_limit_bytes: int | None = None
    """Most that a machine's cache folder may hold; None: what its disk holds."""
    budget: Budget | None = None
    """What the run may spend; None: whatever it takes."""
    val_images: Mapping[str, int] = field(default_factory=dict)
    """Sizes of val splits, by dataset, by which the budget tells what a trial will take."""
    trial_timeout_seconds: float | None = None
    """What an attempt at a trial may take before it is taken to hang; None: any time."""
    memory_bytes: int | None = None
    """Most of each machine's memory that trials may take together; None: of what it has, all but a reserve."""
    max_failures: int = 3
    """Lost workers that one trial survives; it goes on from its checkpoint each time."""
    execute: str = "raybench.training.execute:run"
    """`package.module:function` that trains one trial; see `raybench.scheduling.trainable.Execute`."""
    bench: str | None = None
    """`package.module:Class` that measures before the first trial; None: nothing is measured. See
    `raybench.scheduling.meters.Bench`."""
    earlier: Choices = field(default_factory=Choices)
    """What an earlier run on this run directory chose, which holds."""
    books: Books = field(default_factory=Books)
    """Where the time of machines is entered; these are nobody's."""
    log_to: tuple[str, ...] = ()
    """What else epochs and scores go to: of `raybench.scheduling.loggers.PACKAGES`."""
    experiment: str = ""
    """Its name, for those."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How the trials of one call ended."""

    statuses: Mapping[str, Status]
    """By trial id, in the order given; `unfinished` where no row was written."""
    interrupted: bool
    """Whether somebody ended the run (Ctrl-C, SIGTERM) before the last trial."""
    budget_reached: bool = False
    """Whether the budget ended the run before the last trial."""
    problems: tuple[str, ...] = ()
    """What went wrong beside the trials, such as an event that could not be shown."""


def check_settings(settings: Settings, *, cpus: float = math.inf, gpus: float = math.inf) -> None:
    """Check what can be checked before Ray starts; `cpus` and `gpus` are what this machine has, where that is known.

    Raises:
        InputError: a share or a count that no machine can give, more than what this machine is declared to have, or
            an address where nothing listens.

    """
    check_session(num_cpus=settings.num_cpus, num_gpus=settings.num_gpus, address=settings.address)
    resources.check_request(settings.resources)
    if settings.address is not None or ray.is_initialized():
        return  # what there is then is for Ray to say
    here = resources.Node(
        cpus=cpus if settings.num_cpus is None else settings.num_cpus,
        gpus=gpus if settings.num_gpus is None else settings.num_gpus,
    )
    resources.fit(settings.resources, [here])


def run_trials(
    trials: Sequence[Trial],
    *,
    run_dir: Path,
    settings: Settings,
    on_event: Callable[[Event], None],
    on_start: Callable[[Choices], None] = lambda _: None,
) -> Outcome:
    """Run every trial to its end, as many at a time as there is room for.

    A trial that raises gets a row with status `failed`; one whose worker is lost is started again from its
    checkpoint. `on_event` is called in this process and thread, between the trials' reports; `on_start` once Ray is
    there, has room for a trial, and what each gets is settled: before anything is written. Ctrl-C, SIGTERM and a
    budget that is spent end the run once trials have done the epoch that they are in; they have a row with status
    `unfinished` then, and go on from their checkpoints in the next call. A second Ctrl-C ends it at once.

    Raises:
        InputError: the address does not answer, or a trial asks for more than a machine has; nothing was started.
        RunError: the decision log cannot be read; nothing was started.
        StorageError: the run directory could not be written to any more; what was finished is kept.
        RaybenchError: Ray itself failed; what was finished is kept.

    """
    check_settings(settings)
    run_dir = run_dir.resolve()
    problems = Problems()
    storage = Storage()
    announcer = Announcer(
        trials={trial.trial_id: trial for trial in trials},
        run_dir=run_dir,
        on_event=on_event,
        problems=problems,
        storage=storage,
    )
    interruption = Interruption(announcer.tell, storage=storage)
    reached = False
    try:
        reached = _run(
            trials,
            run_dir=run_dir,
            settings=settings,
            on_start=on_start,
            announcer=announcer,
            interruption=interruption,
            problems=problems,
            storage=storage,
        )
    except KeyboardInterrupt:
        interruption.requested = True
    finally:
        settings.books.ended()
    announcer.find_rows()
    if storage.problem is not None:
        raise StorageError(
            f"{storage.problem}; what was finished is kept: once that is mended, 'raybench resume' goes on"
        )
    statuses = {trial.trial_id: announcer.statuses.get(trial.trial_id, Status.UNFINISHED) for trial in trials}
    return Outcome(
        statuses=statuses,
        interrupted=interruption.requested and Status.UNFINISHED in statuses.values(),
        budget_reached=reached and Status.UNFINISHED in statuses.values(),
        problems=problems.texts(),
    )


def _run(
    trials: Sequence[Trial],
    *,
    run_dir: Path,
    settings: Settings,
    on_start: Callable[[Choices], None],
    announcer: Announcer,
    interruption: Interruption,
    problems: Problems,
    storage: Storage,
) -> bool:
    """Start Ray and hand the trials to it until each has a row; return whether the budget ended that early."""
    books = settings.books
    log = DecisionLog(run_dir / LOG_NAME)
    decisions = [] if settings.asha is None else log.read()
    with quiet_ray(), ExitStack() as session:
        with books.during(Kind.STARTING):
            ends_with_run = session.enter_context(
                ray_session(num_cpus=settings.num_cpus, num_gpus=settings.num_gpus, address=settings.address)
            )
        session.enter_context(interruption.listening())
        interruption.at_once = ends_with_run
        interruption.lost = lost_process
        with books.during(Kind.MEASURING):
            settled = _settled(trials, settings, announcer=announcer, interruption=interruption)
        on_start(settled.choices)
        run_dir.mkdir(parents=True, exist_ok=True)
        by_id = {trial.trial_id: trial for trial in trials}
        footprints = {key: each for known in settled.choices.memory.values() for key, each in known.items()}
        shares = Shares(
            settled.share,
            resources.nodes(),
            host_bytes=settings.memory_bytes or usable_bytes(),
            footprints=footprints,
        )
        bookkeeper = Bookkeeper(
            books,
            share=settled.share,
            share_of=lambda trial_id: shares.of(by_id[trial_id]),
            machines=resources.nodes,
            usd_per_hour=settings.price_per_hour_usd,
        )
        bookkeeper.machines()
        session.enter_context(books.trials(bookkeeper.places(len(trials)), bookkeeper.shares()))
        callbacks: list[Callback] = [announcer, bookkeeper]
        if settings.log_to:
            # Imported here because it takes seconds, and few runs are asked for it.
            from raybench.scheduling.loggers import Trackers  # noqa: PLC0415

            trackers = Trackers(
                settings.log_to,
                experiment=settings.experiment,
                run_dir=run_dir,
                trials=by_id,
                problems=problems,
            )
            session.enter_context(trackers.open())
            callbacks.append(trackers)
        with open_desk(None if settings.asha is None else log.path) as desk:
            shared = Shared(
                run_dir=run_dir,
                share=settled.share,
                steps={} if settings.bench is None else settled.choices.steps,
                paces={} if settings.bench is None else settled.choices.paces,
                inference={} if settings.bench is None else settled.choices.inference,
                footprints=footprints if settings.bench is not None else {},
                memory_bytes=settings.memory_bytes,
                price_per_hour_usd=dict(settings.price_per_hour_usd),
                cache_limit_bytes=settings.cache_limit_bytes,
                desk=desk,
                execute=settings.execute,
                import_path=import_path(),
                directory=Path.cwd(),
            )
            interruption.pause = find_desk(desk).pause.remote
            limits = limits_of(
                settings,
                paces=settled.choices.paces,
                desk=desk,
                run_dir=run_dir,
                announcer=announcer,
                problems=problems,
            )
            callbacks += limits.callbacks
            losses = Losses(
                by_id,
                shares,
                most=settings.max_failures,
                desk=desk,
                announcer=announcer,
                problems=problems,
            )

            def weigh(trial_id: str) -> int:
                return shares.times(by_id[trial_id])

            scheduler = InOrder(on_lost=losses.lost, weigh=weigh)
            if settings.asha is not None:
                scheduler = RecordingScheduler(
                    asha=GroupedAsha.from_log(settings.asha, decisions),
                    log=log,
                    desk=desk,
                    trials=by_id,
                    groups={trial.trial_id: group_of(trial, settings.asha.group_by) for trial in trials},
                    problems=problems,
                    storage=storage,
                    on_lost=losses.lost,
                    weigh=weigh,
                )
            for _ in range(PASSES):
                remaining = [trial for trial in trials if trial.trial_id not in announcer.statuses]
                if remaining and not interruption.ends and not limits.reached():
                    _fit(
                        remaining,
                        shared,
                        placement=lambda config: shares.of(by_id[config["trial"]]).placement(),
                        weigh=weigh,
                        scheduler=scheduler,
                        # A waiting trial makes a cluster grow.
                        room=Room(settled.share, spare=0 if ends_with_run else 1, machines=bookkeeper.machines),
                        may_start=lambda trial: not interruption.ends and limits.may_start(trial),
                        callbacks=callbacks,
                        interruption=interruption,
                    )
            if not interruption.ends and not limits.reached():
                for trial in trials:
                    announcer.settle(trial.trial_id, f"no process took it in {PASSES} attempts", retries=0)
            return limits.reached()


def _settled(
    trials: Sequence[Trial], settings: Settings, *, announcer: Announcer, interruption: Interruption
) -> Settled:
    """Return what trials get. Raises ExperimentError, and KeyboardInterrupt where the run is to end."""
    machines = resources.nodes()
    if settings.bench is None:
        return unmeasured(settings.resources, machines, settings.earlier)
    try:
        return settle(
            trials,
            request=settings.resources,
            machines=machines,
            earlier=settings.earlier,
            origin=Origin(import_path=import_path(), directory=Path.cwd(), bench=settings.bench),
            tell=announcer.tell,
            stopped=lambda: interruption.requested,
        )
    except RayError as error:
        raise RaybenchError(f"Ray failed before the first trial: {error}; run it again") from error


def _fit(
    trials: Sequence[Trial],
    shared: Shared,
    *,
    placement: Callable[[Mapping[str, str]], PlacementGroupFactory],
    weigh: Callable[[str], int],
    scheduler: InOrder,
    room: Room,
    may_start: Callable[[Trial], bool],
    callbacks: Sequence[Callback],
    interruption: Interruption,
) -> None:
    """Let one Tuner run the trials, in a directory that is gone afterwards."""
    queue = TrialQueue(trials, count_live=scheduler.count_live, room=room, may_start=may_start, weigh=weigh)
    with (
        ray_failures(interruption),
        suppress(AllEnded),
        TemporaryDirectory(prefix="raybench-tune-", ignore_cleanup_errors=True) as scratch,
        environment(TUNE_ENVIRONMENT),
    ):
        tune.Tuner(
            tune.with_resources(partial(run_trial, shared=shared), placement),
            tune_config=tune.TuneConfig(
                search_alg=queue,
                num_samples=len(trials),
                scheduler=scheduler,
                reuse_actors=True,  # starting Python and importing torch takes longer than many a trial
                trial_name_creator=_name,
                trial_dirname_creator=_name,
            ),
            run_config=tune.RunConfig(
                name="trials",
                storage_path=scratch,
                verbose=0,
                callbacks=[*callbacks, Finish(queue.ended)],
                stop=interruption,
                failure_config=tune.FailureConfig(max_failures=-1),  # `Losses` decides
            ),
        ).fit()


def _name(trial: TuneTrial) -> str:
    return str(trial.config["trial"])
