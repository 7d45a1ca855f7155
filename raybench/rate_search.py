"""The first part of a run with `learning_rate: auto`: try rates for each configuration, then choose.

In: an experiment, what preflight learned, and a run directory. Out: `Found`: the rates, which the manifest keeps, and
the rows of the tries in RUN/search. Tries are run as trials are, but for ASHA; those that have a row are not run again.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from raybench.checkpoint_paths import weights_path
from raybench.choices import Choices
from raybench.errors import InterruptedRunError
from raybench.events import Event, TrialEnded
from raybench.experiment import Experiment
from raybench.ledger import Kind
from raybench.manifest import MANIFEST, chosen_before, rates_before
from raybench.mirror import remove
from raybench.progress import Progress, tell_problems
from raybench.records import Facts, Status, Trial
from raybench.results import finished_trial_ids, remove_trial, write_trial
from raybench.trials import UNDECIDED, Search, first_row, is_undecided, searches_of, starting_order
from raybench.tries import FOLDER, choose_rates, configuration_key, failure_texts, is_to_run

if TYPE_CHECKING:
    from raybench.scheduling.settings import Settings
    from raybench.scheduling.tune import Outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What a search came to."""

    rates: Mapping[str, float]
    """Factors of default rates, by search id; none for a search that was interrupted or came to nothing."""
    interrupted: bool
    """Whether somebody ended it before the last try."""
    budget_reached: bool = False
    """Whether the budget did."""


def search_rates(
    experiment: Experiment,
    facts: Facts,
    *,
    run_dir: Path,
    settings: "Settings",
    console: Console,
    quiet: bool,
    retry_failed: bool,
    session: ExitStack,
    on_start: Callable[[Choices, Mapping[str, float]], None],
) -> Found:
    """Run the tries that have no row yet, and choose; a rate that was chosen once stays.

    Args:
        experiment: what is compared.
        facts: what preflight learned.
        run_dir: of the run.
        settings: of its trials.
        console: told how it goes.
        quiet: tell nothing.
        retry_failed: run tries again that failed, where nothing was chosen without them.
        session: keeps the Ray that tries have run on, for the trials.
        on_start: called before anything is written, with what each try gets of a machine and the rates so far.

    Raises what `raybench.scheduling.tune.run_trials` raises.

    """
    searches = searches_of(experiment, facts)
    before = rates_before(run_dir)
    rates = {search.search_id: before[search.search_id] for search in searches if search.search_id in before}
    rates |= choose_rates(run_dir, _open(searches, rates))
    waiting = _open(searches, rates)
    ids = is_to_run(run_dir, waiting, retry_failed=retry_failed)
    outcome = None
    if ids:
        tries = {trial.trial_id: trial for search in waiting for trial in search.tries if trial.trial_id in ids}
        books = settings.books
        books.trial_kind = Kind.SEARCH
        outcome = _run(
            starting_order(list(tries.values())),
            about=f"{len(tries)} tries for {len(waiting)} configuration{'' if len(waiting) == 1 else 's'}",
            run_dir=run_dir,
            settings=replace(settings, asha=None, log_to=(), earlier=chosen_before(run_dir)),
            console=console,
            quiet=quiet,
            session=session,
            on_start=lambda choices: on_start(choices, rates),
        )
        books.trial_kind = None
        rates |= choose_rates(run_dir, waiting)
    found = Found(
        rates=rates,
        interrupted=outcome is not None and outcome.interrupted,
        budget_reached=outcome is not None and outcome.budget_reached,
    )
    if not found.interrupted and not found.budget_reached:
        _clear(run_dir)
    return found


def settle_undecided(
    experiment: Experiment, facts: Facts, *, run_dir: Path, trials: Sequence[Trial]
) -> dict[str, Status]:
    """Write a failed row for each trial whose search came to nothing, and remove that of one that has a rate by now.

    Returns how each trial that has a row ended.
    """
    waiting = {trial.trial_id: trial for trial in trials if is_undecided(trial)}
    reasons = failure_texts(run_dir, searches_of(experiment, facts)) if waiting else {}
    for trial in waiting.values():
        reason = reasons.get(configuration_key(trial))
        if reason is not None:
            write_trial(run_dir, replace(first_row(trial, Status.FAILED), error=reason), [], None)
    statuses = finished_trial_ids(run_dir) if (run_dir / MANIFEST).exists() else {}
    for trial_id in [each for each in statuses if each.startswith(UNDECIDED) and each not in waiting]:
        remove_trial(run_dir, trial_id)
        del statuses[trial_id]
    return statuses


def _open(searches: Sequence[Search], rates: Mapping[str, float]) -> list[Search]:
    return [search for search in searches if search.search_id not in rates]


def _run(
    tries: Sequence[Trial],
    *,
    about: str,
    run_dir: Path,
    settings: "Settings",
    console: Console,
    quiet: bool,
    session: ExitStack,
    on_start: Callable[[Choices], None],
) -> "Outcome":
    """Run tries."""
    # Imported here, as below: ray and torch take seconds, and who has all tries needs neither.
    from raybench.scheduling.cluster import shared_ray  # noqa: PLC0415
    from raybench.scheduling.tune import run_trials  # noqa: PLC0415

    folder = run_dir / FOLDER
    started = False

    def start(choices: Choices) -> None:
        nonlocal started
        started = True
        on_start(choices)

    if not quiet:
        console.print(Text(f"Learning rates: {about}"))
    with Progress(tries, console, quiet=quiet, stage="Learning rates") as progress:

        def tell(event: Event) -> None:
            if isinstance(event, TrialEnded):
                _remove_weights(folder, event.trial_id)
            progress(event)

        try:
            with settings.books.during(Kind.STARTING):
                session.enter_context(
                    shared_ray(num_cpus=settings.num_cpus, num_gpus=settings.num_gpus, address=settings.address)
                )
        except KeyboardInterrupt:
            raise interrupted_before() from None
        outcome = run_trials(tries, run_dir=folder, settings=settings, on_event=tell, on_start=start)
    tell_problems(outcome.problems)
    if not started:
        raise interrupted_before()
    return outcome


def interrupted_before() -> InterruptedRunError:
    """Return the error of a run that was interrupted before its first trial, or try of a learning rate."""
    return InterruptedRunError("Interrupted before any trial was started. Go on with the same command.")


def _remove_weights(folder: Path, trial_id: str) -> None:
    """Remove what a try learned: nobody asks for it, and five networks a configuration fill disks."""
    from raybench.training.weight_files import card_path  # noqa: PLC0415

    weights = weights_path(folder, trial_id)
    for path in (weights, card_path(weights)):
        remove(path)


def _clear(run_dir: Path) -> None:
    """Leave the rows of tries, and remove what they shared while they ran."""
    for name in ("checkpoints", "predictions"):
        with contextlib.suppress(OSError):
            remove(run_dir / FOLDER / name)
