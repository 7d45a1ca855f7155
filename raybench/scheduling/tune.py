"""Run trials with Ray Tune: the one entrance to this package.

In: trials in the order in which they start, a run directory, `Settings`, and a function that is told what happens.
Out: one row a trial in the run directory, and an `Outcome`.

Every call is a fresh Tuner over the trials given to it. Ray Tune's own directory is a temporary one; nothing of it
is read back: what lasts are rows, checkpoints and the decision log in the run directory.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ray.exceptions import RayError
from ray.tune import Callback

from raybench import feature_parts
from raybench.choices import Choices
from raybench.errors import RaybenchError, StorageError
from raybench.events import Event, Notice
from raybench.ledger import Kind
from raybench.mirror import address_of, bring_all
from raybench.process_memory import usable_bytes
from raybench.records import Footprint, Pace, Status, Trial
from raybench.scheduling import resources
from raybench.scheduling.asha import Decision, GroupedAsha
from raybench.scheduling.attendance import Attendance
from raybench.scheduling.bookkeeper import Bookkeeper
from raybench.scheduling.choosing import Settled, settle, unmeasured
from raybench.scheduling.cluster import head_address, import_path, lost_process, quiet_ray, ray_session
from raybench.scheduling.decisions import LOG_NAME, DecisionLog, find_desk, open_desk
from raybench.scheduling.driver import Announcer, Problems, RecordingScheduler, Storage
from raybench.scheduling.head_watch import HeadWatch, end_process
from raybench.scheduling.interruption import Interruption
from raybench.scheduling.leftovers import Leftovers
from raybench.scheduling.limits import limits_of
from raybench.scheduling.losses import Losses
from raybench.scheduling.membership import check_members
from raybench.scheduling.merging import Merging
from raybench.scheduling.meters import Origin
from raybench.scheduling.queue import InOrder, Room
from raybench.scheduling.roster import Roster
from raybench.scheduling.settings import Settings, check_settings
from raybench.scheduling.shares import Shares
from raybench.scheduling.surroundings import note
from raybench.scheduling.tuner import Work, work_off
from raybench.scheduling.waiting import spare, wait_for_machines
from raybench.scheduling.worker import Shared
from raybench.trials import group_of


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


@dataclass(frozen=True, kw_only=True, slots=True)
class _Driver:
    """What hears, tells and keeps what happens in this process."""

    announcer: Announcer
    interruption: Interruption
    problems: Problems
    storage: Storage
    merging: Merging


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
    by_id = {trial.trial_id: trial for trial in trials}
    problems, storage = Problems(), Storage()
    announcer = Announcer(trials=by_id, run_dir=run_dir, on_event=on_event, problems=problems, storage=storage)
    interruption = Interruption(announcer.tell, storage=storage)
    merging = Merging(run_dir, statuses=lambda: announcer.statuses, problems=problems)
    driver = _Driver(
        announcer=announcer, interruption=interruption, problems=problems, storage=storage, merging=merging
    )
    reached = False
    try:
        reached = _run(by_id, run_dir=run_dir, settings=settings, on_start=on_start, driver=driver)
    except KeyboardInterrupt:
        interruption.requested = True
    finally:
        settings.books.ended()
    with storage.reading():
        bring_all(run_dir)
    announcer.find_rows()
    merging.finish()
    if storage.problem is not None:
        raise StorageError(
            f"{storage.problem}; what was finished is kept: once that is mended, 'raybench resume' goes on"
        )
    statuses = {trial_id: announcer.statuses.get(trial_id, Status.UNFINISHED) for trial_id in by_id}
    return Outcome(
        statuses=statuses,
        interrupted=interruption.requested and Status.UNFINISHED in statuses.values(),
        budget_reached=reached and Status.UNFINISHED in statuses.values(),
        problems=problems.texts(),
    )


def _run(
    trials: Mapping[str, Trial],
    *,
    run_dir: Path,
    settings: Settings,
    on_start: Callable[[Choices], None],
    driver: _Driver,
) -> bool:
    """Start Ray and hand the trials to it until each has a row; return whether the budget ended that early."""
    books = settings.books
    log = DecisionLog(run_dir / LOG_NAME)
    decisions = [] if settings.asha is None else log.read()
    with quiet_ray(), ExitStack() as session:
        roster = _start(trials, run_dir=run_dir, settings=settings, driver=driver, session=session)
        with books.during(Kind.MEASURING):
            settled = _settled(trials, settings, driver)
        on_start(settled.choices)
        run_dir.mkdir(parents=True, exist_ok=True)
        shares = _shares(settled, settings)
        roster.share = settled.share
        roster.machines()
        bookkeeper = Bookkeeper(
            books,
            roster=roster,
            workers=settled.share.workers,
            share_of=lambda trial_id: shares.of(trials[trial_id]),
        )
        attendance = Attendance(
            roster.machines,
            share=settled.share,
            is_joined=settings.address is not None,
            measured=settled.choices.steps.keys() if settings.bench is not None and settled.share.gpu else None,
            tell=driver.announcer.tell,
        )
        session.enter_context(books.trials(roster.places(len(trials)), roster.shares()))
        trackers = session.enter_context(_trackers(trials, run_dir, settings, driver.problems))
        desk = session.enter_context(open_desk(None if settings.asha is None else log.path))
        driver.interruption.pause = find_desk(desk).pause.remote
        shared = _shared(settled, run_dir=run_dir, settings=settings, desk=desk)
        if shared.several_machines:
            session.callback(feature_parts.clear, run_dir)
        limits = limits_of(
            settings,
            paces=_paces(settled),
            desk=desk,
            run_dir=run_dir,
            announcer=driver.announcer,
            problems=driver.problems,
        )
        leftovers = Leftovers(share_of=lambda trial_id: shares.of(trials[trial_id]), problems=driver.problems)
        session.callback(leftovers.clear)
        work = Work(
            shared=shared,
            shares=shares,
            scheduler=_scheduler(
                trials,
                shares,
                log=log,
                decisions=decisions,
                settings=settings,
                desk=desk,
                driver=driver,
                machines_of=bookkeeper.machines_of,
                is_there=roster.is_there,
            ),
            limits=limits,
            room=Room(settled.share, spare=spare(settings.resources), machines=attendance),
            callbacks=[driver.announcer, driver.merging, bookkeeper, *trackers, *limits.callbacks, leftovers],
        )
        work_off(trials, work, announcer=driver.announcer, interruption=driver.interruption)
        return limits.reached()


def _start(
    trials: Mapping[str, Trial], *, run_dir: Path, settings: Settings, driver: _Driver, session: ExitStack
) -> Roster:
    """Start Ray or join it, wait until machines are there and known to be alike, and count them from then on."""
    books, tell = settings.books, driver.announcer.tell
    watch = session.enter_context(
        HeadWatch(
            tell=lambda text: tell(Notice(text=text, lasting=True)), end=lambda text: end_process(text, books.cut_off)
        )
    )
    with driver.interruption.starting(), books.during(Kind.STARTING):
        ends_with_run = session.enter_context(
            ray_session(num_cpus=settings.num_cpus, num_gpus=settings.num_gpus, address=settings.address)
        )
        if settings.address is not None:
            watch.follow(head_address())
        odd = note(settings.address) if ends_with_run else None
        if odd is not None:
            tell(Notice(text=odd, lasting=True))
        roster = Roster(books, request=settings.resources, usd_per_hour=settings.price_per_hour_usd)
        roster.machines()
        wait_for_machines(settings.resources, tell=tell, machines=roster.machines)
        check_members(resources.nodes(), trials=trials.values(), run_dir=run_dir, import_path=import_path(), tell=tell)
    session.enter_context(driver.interruption.listening())
    driver.interruption.at_once = ends_with_run
    driver.interruption.lost = lost_process
    return roster


def _settled(trials: Mapping[str, Trial], settings: Settings, driver: _Driver) -> Settled:
    """Return what trials get. Raises ExperimentError, and KeyboardInterrupt where the run is to end."""
    machines = resources.nodes()
    if settings.bench is None:
        return unmeasured(settings.resources, machines, settings.earlier)
    try:
        return settle(
            list(trials.values()),
            request=settings.resources,
            machines=machines,
            earlier=settings.earlier,
            origin=Origin(import_path=import_path(), directory=Path.cwd(), bench=settings.bench),
            tell=driver.announcer.tell,
            stopped=lambda: driver.interruption.requested,
        )
    except RayError as error:
        raise RaybenchError(f"Ray failed before the first trial: {error}; run it again") from error


def _footprints(choices: Choices) -> dict[str, Footprint]:
    """Return what trials are expected to take, whatever the device that it was measured on."""
    return {key: each for known in choices.memory.values() for key, each in known.items()}


def _paces(settled: Settled) -> Mapping[str, Mapping[str, Pace]]:
    """Return what phases take alone; what several workers take together nobody has measured."""
    return settled.choices.paces if settled.share.workers == 1 else {}


def _shares(settled: Settled, settings: Settings) -> Shares:
    return Shares(
        settled.share,
        resources.nodes(),
        host_bytes=settings.memory_bytes or usable_bytes(),
        footprints=_footprints(settled.choices),
        request=settings.resources,
    )


def _shared(settled: Settled, *, run_dir: Path, settings: Settings, desk: str) -> Shared:
    """Return what every trial gets; of measurements only where the experiment wants them."""
    choices = Choices() if settings.bench is None else settled.choices
    return Shared(
        run_dir=address_of(run_dir),
        share=settled.share,
        steps=choices.steps,
        paces={} if settings.bench is None else _paces(settled),
        inference=choices.inference,
        footprints=_footprints(choices),
        memory_bytes=settings.memory_bytes,
        price_per_hour_usd=dict(settings.price_per_hour_usd),
        cache_limit_bytes=settings.cache_limit_bytes,
        several_machines=settings.address is not None or len(resources.nodes()) > 1,
        desk=desk,
        accelerators=settings.resources.accelerators,
        execute=settings.execute,
        import_path=import_path(),
        directory=Path.cwd(),
    )


@contextmanager
def _trackers(
    trials: Mapping[str, Trial], run_dir: Path, settings: Settings, problems: Problems
) -> Iterator[Sequence[Callback]]:
    """Send epochs and scores elsewhere during a `with` block, where that is asked for."""
    if not settings.log_to:
        yield ()
        return
    # Imported here because it takes seconds, and few runs are asked for it.
    from raybench.scheduling.loggers import Trackers  # noqa: PLC0415

    trackers = Trackers(
        settings.log_to, experiment=settings.experiment, run_dir=run_dir, trials=trials, problems=problems
    )
    with trackers.open():
        yield (trackers,)


def _scheduler(
    trials: Mapping[str, Trial],
    shares: Shares,
    *,
    log: DecisionLog,
    decisions: Sequence[Decision],
    settings: Settings,
    desk: str,
    driver: _Driver,
    machines_of: Callable[[str], tuple[str, ...]],
    is_there: Callable[[str], bool],
) -> InOrder:
    """Return what decides which trial goes on: every one, or those that ASHA does not stop."""
    losses = Losses(
        trials,
        shares,
        most=settings.max_failures,
        desk=desk,
        machines_of=machines_of,
        is_there=is_there,
        announcer=driver.announcer,
        problems=driver.problems,
    )

    def weigh(trial_id: str) -> int:
        return shares.times(trials[trial_id])

    def kinds(trial_id: str) -> tuple[str, ...]:
        return shares.kinds(trials[trial_id])

    if settings.asha is None:
        return InOrder(on_lost=losses.lost, weigh=weigh, kinds=kinds)
    return RecordingScheduler(
        asha=GroupedAsha.from_log(settings.asha, decisions),
        log=log,
        desk=desk,
        trials=trials,
        groups={trial_id: group_of(trial, settings.asha.group_by) for trial_id, trial in trials.items()},
        problems=driver.problems,
        storage=driver.storage,
        on_lost=losses.lost,
        weigh=weigh,
        kinds=kinds,
    )
