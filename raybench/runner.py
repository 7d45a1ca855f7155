"""The conductor of a run: preflight, the trials that are not done yet, their training, the results.

In: an experiment file, or the run directory of an earlier run. Out: a `Run`, whose tables are on disk.
Nothing is written before everything that can be checked has been checked; every trial that ends
is on disk before the next one starts.
"""

import math
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from raybench.atomic import first_writing, remove_left
from raybench.checkpoint_paths import state_path, with_state
from raybench.choices import Choices
from raybench.compaction import compact
from raybench.errors import ExperimentError, RunError
from raybench.events import Notice, TrialEnded
from raybench.experiment import Experiment, load_experiment
from raybench.extension import check_extension
from raybench.lease import Lease
from raybench.ledger import Kind
from raybench.manifest import (
    EXPERIMENT,
    MANIFEST,
    check_belongs,
    chosen_before,
    rates_before,
    read_manifest,
    write_manifest,
)
from raybench.mirror import names_in, opened, remove_files
from raybench.plan import NOTHING_TAKEN, TakenOver
from raybench.pretraining import seen_before
from raybench.prices import prices
from raybench.progress import Progress, tell_problems
from raybench.quote import Quote, keep, make_quote
from raybench.rate_search import interrupted_before, search_rates, settle_undecided
from raybench.records import Facts, Status, Trial
from raybench.results import RESULTS_ORDER, finished_trial_ids, load_results
from raybench.reuse import Reuse
from raybench.run_settings import Machines, run_settings, with_facts
from raybench.runs import Run, run_directory
from raybench.spending import Books
from raybench.trials import expand, is_undecided, searches_of, starting_order
from raybench.tries import FOLDER, is_to_run
from raybench.yaml_input import naming_overrides

if TYPE_CHECKING:
    from raybench.scheduling.settings import Settings

ENDED = frozenset({Status.COMPLETED, Status.STOPPED, Status.FAILED})


def embedded_experiment() -> Path:
    """Return the path of the experiment that runs where no file is given."""
    return Path(str(resources.files("raybench") / "embedded" / "quickstart.yaml"))


def run(
    experiment: str | Path | None = None,
    *,
    run_dir: str | Path | None = None,
    overrides: Sequence[str] = (),
    reuse: str | Path | Iterable[str | Path] = (),
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    address: str | None = None,
    log_to: Sequence[str] = (),
    quiet: bool = False,
) -> Run:
    """Run an experiment, or go on with it where its run directory exists.

    Args:
        experiment: path of the YAML file; None: the embedded quickstart.
        run_dir: where results go, a folder or the URI of an object store; default `NAME` in $RAYBENCH_RUNS, or `runs`.
        overrides: `KEY=VALUE` texts that replace keys of the file.
        reuse: directories of other runs; what completed there is taken over and not trained again.
        num_cpus: cores that this machine counts as having; default: those it has.
        num_gpus: GPUs that this machine counts as having; default: those it has.
        address: of a Ray cluster to run on; default: Ray is started here, for this run.
        log_to: what else epochs and scores go to: `tensorboard`, `mlflow`, `wandb`.
        quiet: show nothing while it runs.

    Raises:
        InputError: something in the file, the data or the run directory cannot be used; nothing was started.

    """
    books = Books()
    path = embedded_experiment() if experiment is None else Path(experiment)
    with naming_overrides(str(path), overrides):
        loaded = load_experiment(path, overrides)
        directory = opened(run_dir) if run_dir is not None else run_directory(loaded.name)
        check_belongs(directory, loaded)
        others = Reuse(reuse, directory)
        machines = Machines(num_cpus=num_cpus, num_gpus=num_gpus, address=address)
        settings = run_settings(loaded, str(path), directory, machines, log_to=log_to, books=books)
        return _conduct(loaded, str(path), directory, settings, others=others, quiet=quiet)


def resume(
    run_dir: str | Path,
    *,
    retry_failed: bool = False,
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    address: str | None = None,
    log_to: Sequence[str] = (),
    quiet: bool = False,
) -> Run:
    """Go on with the run in a run directory; see `run` for the arguments and errors.

    `retry_failed` trains failed trials again; they are left as they are otherwise.
    """
    books = Books()
    directory = opened(run_dir)
    experiment = read_manifest(directory).experiment
    label = str(directory / EXPERIMENT)
    machines = Machines(num_cpus=num_cpus, num_gpus=num_gpus, address=address)
    settings = run_settings(experiment, label, directory, machines, log_to=log_to, books=books)
    return _conduct(experiment, label, directory, settings, quiet=quiet, retry_failed=retry_failed)


def quote(
    experiment: Experiment,
    label: str,
    facts: Facts,
    directory: Path,
    *,
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    address: str | None = None,
    taken_over: Mapping[str, TakenOver] = NOTHING_TAKEN,
    tell: Callable[[Notice], None] = lambda _: None,
) -> Quote:
    """Measure what the trials to go would take, and keep that in the run directory; see `run` for arguments and errors.

    What is `taken_over` from other runs is not among them. A directory where trials have ended already keeps its
    earlier quote, which was of the whole run.
    """
    from raybench.scheduling.quoting import measure_terms  # noqa: PLC0415

    if experiment.resources.workers_per_trial > 1:
        raise ExperimentError(
            f"{label}: resources.workers_per_trial: {experiment.resources.workers_per_trial} cannot be measured, since "
            "nobody knows what workers lose by waiting for one another; leave --measure out, or give 1"
        )
    _check_writable(directory)
    machines = Machines(num_cpus=num_cpus, num_gpus=num_gpus, address=address)
    settings = run_settings(experiment, label, directory, machines)
    trials = trials_to_go(experiment, facts, directory, taken_over)
    terms = measure_terms(trials, replace(settings, earlier=chosen_before(directory)), tell)
    made = make_quote(
        trials, facts.datasets, terms, asha=settings.asha, made_at=datetime.now(UTC).isoformat(timespec="seconds")
    )
    if not (directory / MANIFEST).exists() or not finished_trial_ids(directory):
        with first_writing(directory):
            directory.mkdir(parents=True, exist_ok=True)
            keep(directory, made)
    return made


def trials_to_go(
    experiment: Experiment, facts: Facts, directory: Path, taken_over: Mapping[str, TakenOver] = NOTHING_TAKEN
) -> list[Trial]:
    """Return what a run would start, in that order: tries of learning rates, then trials."""
    rates = rates_before(directory)
    for each in taken_over.values():
        rates = {**each.rates, **rates}
    taken = {trial_id for each in taken_over.values() for trial_id in each.trials | each.tries}
    searches = [search for search in searches_of(experiment, facts) if search.search_id not in rates]
    ids = is_to_run(directory, searches, retry_failed=False)
    tries = {trial.trial_id: trial for search in searches for trial in search.tries if trial.trial_id in ids - taken}
    statuses = finished_trial_ids(directory) if (directory / MANIFEST).exists() else {}
    done = taken | {trial_id for trial_id, status in statuses.items() if status in ENDED}
    trials = [trial for trial in expand(experiment, facts, rates) if trial.trial_id not in done]
    return [*starting_order(list(tries.values())), *starting_order(trials)]


def _conduct(
    experiment: Experiment,
    label: str,
    directory: Path,
    settings: "Settings",
    *,
    others: Reuse | None = None,
    quiet: bool,
    retry_failed: bool = False,
) -> Run:
    books = settings.books
    with Lease(directory) as lease, ExitStack() as session, _naming(label):
        run = _search_and_train(
            experiment,
            label,
            directory,
            settings,
            others=others or Reuse(),
            books=books,
            session=session,
            lease=lease,
            quiet=quiet,
            retry_failed=retry_failed,
        )
        with books.during(Kind.ENDING):
            session.close()
        books.write()
    return run


@contextmanager
def _naming(label: str) -> Iterator[None]:
    """Name the file in what is wrong with it that only the machines could tell."""
    try:
        yield
    except ExperimentError as error:
        if str(error).startswith(label):
            raise
        raise ExperimentError(f"{label}: {error}") from None


def _search_and_train(
    experiment: Experiment,
    label: str,
    directory: Path,
    settings: "Settings",
    *,
    others: Reuse,
    books: Books,
    session: ExitStack,
    lease: Lease,
    quiet: bool,
    retry_failed: bool,
) -> Run:
    from raybench.scheduling.tune import run_trials  # noqa: PLC0415

    _check_writable(directory)
    console = Console(quiet=quiet)
    books.started()
    with books.during(Kind.PREFLIGHT):
        facts = preflight_with_status(experiment, label, console)
        check_extension(directory, experiment, facts, label)
    lease.take()  # now, not when Ray is up: somebody else may have begun on this directory meanwhile
    _merge_files(directory, console)
    settings = with_facts(settings, facts)
    started = False

    def start(choices: Choices, rates: Mapping[str, float]) -> None:
        nonlocal started
        started = True
        with first_writing(directory):
            write_manifest(directory, experiment, facts, choices, rates, prices=prices(experiment.price_per_hour_usd))
            books.open(directory)

    take_over = partial(
        others.take_over, experiment, facts, console, lambda rates: start(chosen_before(directory), rates)
    )
    take_over()
    found = search_rates(
        experiment,
        facts,
        run_dir=directory,
        settings=settings,
        console=console,
        quiet=quiet,
        retry_failed=retry_failed,
        session=session,
        on_start=start,
    )
    trials = expand(experiment, facts, found.rates)
    run = Run(
        run_dir=directory,
        experiment=experiment,
        facts=facts,
        trials=tuple(trials),
        rates=found.rates,
        price_per_hour_usd=settings.price_per_hour_usd,
    )
    if started:
        start(chosen_before(directory), found.rates)
    if found.interrupted or found.budget_reached:
        return replace(run, interrupted=found.interrupted, budget_reached=found.budget_reached)
    take_over(is_last=True)
    statuses = settle_undecided(experiment, facts, run_dir=directory, trials=trials)
    _mention_others(directory, trials, statuses, console)
    endings = _endings(directory, trials, statuses)
    again = {ending.trial_id for ending in endings if retry_failed and ending.status is Status.FAILED}
    done = {ending.trial_id for ending in endings} - again
    unfinished = [trial for trial in trials if trial.trial_id not in done and not is_undecided(trial)]
    if not unfinished:
        start(chosen_before(directory), found.rates)
        return run
    _tidy(directory, done)
    earlier = [ending for ending in endings if ending.trial_id in done]
    begun = _begun(directory, unfinished, statuses)
    with Progress(trials, console, earlier=earlier, begun=begun, quiet=quiet) as progress:
        outcome = run_trials(
            starting_order(unfinished),
            run_dir=directory,
            settings=replace(settings, earlier=chosen_before(directory)),
            on_event=progress,
            on_start=lambda choices: start(choices, found.rates),
        )
    tell_problems(outcome.problems)
    if not started:
        raise interrupted_before()
    return replace(run, interrupted=outcome.interrupted, budget_reached=outcome.budget_reached)


def preflight_with_status(experiment: Experiment, label: str, console: Console, *, warn: bool = True) -> Facts:
    """Run preflight, telling on the console what it reads and, under `warn`, what would mislead."""
    from raybench.training import preflight  # noqa: PLC0415

    with console.status("Looking at data, models and weights") as status:

        def report(dataset: str, done: int, total: int) -> None:
            status.update(f"Decoding {dataset}: {done} of {total} images")

        facts = preflight.check(experiment, label, report)
    warnings = [f"{name}: {text}" for name, dataset in facts.datasets.items() for text in dataset.warnings]
    warnings += seen_before(experiment.datasets, facts.weights.values())
    for warning in warnings if warn else []:
        console.print(Text(f"Note: {warning}", style="yellow"), soft_wrap=True)
    return facts


def _endings(run_dir: Path, trials: Sequence[Trial], statuses: Mapping[str, Status]) -> list[TrialEnded]:
    """Return how trials ended that have a row already."""
    ended = [trial.trial_id for trial in trials if statuses.get(trial.trial_id) in ENDED]
    if not ended:
        return []
    rows = load_results(run_dir, only=ended, columns=[*RESULTS_ORDER, "trial_id", "val_accuracy"])
    accuracies = dict(zip(rows["trial_id"], rows["val_accuracy"].astype(float), strict=True))
    return [
        TrialEnded(
            trial_id=trial_id,
            status=statuses[trial_id],
            val_accuracy=None if math.isnan(accuracies[trial_id]) else accuracies[trial_id],
            error=None,
        )
        for trial_id in ended
    ]


def _begun(run_dir: Path, trials: Sequence[Trial], statuses: Mapping[str, Status]) -> set[str]:
    """Return the ids of trials that an earlier session left unfinished."""
    ids = [trial.trial_id for trial in trials]
    left = {trial_id for trial_id in ids if statuses.get(trial_id) is Status.UNFINISHED}
    return left | with_state(run_dir, ids)


def _tidy(run_dir: Path, done: Collection[str]) -> None:
    """Remove what processes left that died while they wrote, and the checkpoints of trials that have a row."""
    remove_left(run_dir)
    states = [state_path(run_dir, trial_id) for trial_id in done]
    there = names_in(states[0].parent) if states else set()
    remove_files([path for path in states if path.name in there])


def _merge_files(run_dir: Path, console: Console) -> None:
    """Join what earlier sessions left in files of single trials, and finish what one of them was killed at."""
    with console.status("Joining the files of trials that ended"), first_writing(run_dir):
        for folder in (run_dir, run_dir / FOLDER):
            if (folder / "results").is_dir():
                compact(folder)


def _mention_others(run_dir: Path, trials: Sequence[Trial], statuses: Mapping[str, Status], console: Console) -> None:
    """Say where the directory holds trials that the experiment, as it is now, does not ask for."""
    others = set(statuses) - {trial.trial_id for trial in trials}
    if others:
        console.print(
            Text(f"Note: {len(others)} earlier trials in {run_dir} are of other settings; they are kept, not ranked."),
            soft_wrap=True,
        )


def _check_writable(directory: Path) -> None:
    """Raise `RunError` where the directory could not be made or written to; nothing is made yet."""
    place = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    if not place.is_dir():
        raise RunError(f"{directory}: cannot be made: {place} is a file; give another --run-dir")
    if not os.access(place, os.W_OK | os.X_OK):
        raise RunError(f"{directory}: cannot be written to: {place} is read-only; give another --run-dir")
