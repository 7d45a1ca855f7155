"""Trials that completed in other runs, taken over instead of trained again.

In: other run directories, and the trials and tries of learning rates that this run wants. Out: those of the same id,
their files copied into this run's directory as they are: rows, epochs, predictions and weights. The others are only
read.

Only completed trials count: a stop depends on the trials beside it, and a failed one is to be tried anew. Of tries, one
whose loss diverged counts as well: it would again. Files are copied in the order in which a trial writes them, its
results row last, so whatever ends a copy leaves no trial that counts as finished without the rest of it.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.text import Text

from raybench.atomic import first_writing, replacing
from raybench.checkpoint_paths import state_path, weights_path
from raybench.errors import InterruptedRunError, RunError, WeightsError
from raybench.experiment import Experiment
from raybench.learning_rates import TUNING_SEED
from raybench.manifest import MANIFEST, rates_before, read_manifest
from raybench.mirror import bring, is_there, remove
from raybench.plan import TakenOver
from raybench.records import Facts, Status, Trial, TrialResult
from raybench.results import copy_trial, damaged_file, finished_trial_ids, read_rows
from raybench.trials import describe, expand, is_undecided, searches_of
from raybench.tries import FOLDER, choose_rates, is_result, is_to_run

HISTORY, PREDICTIONS = "history", "predictions"

OnStart = Callable[[Mapping[str, float]], None]
"""Called before anything is written, with the learning rates that this run has chosen."""


@dataclass(kw_only=True, slots=True)
class _Source:
    """Another run, and what came of taking trials over from it."""

    path: Path
    trials: Mapping[str, TrialResult | None]
    """Its rows, by id; None where one is damaged."""
    tries: Mapping[str, TrialResult | None]
    """Likewise."""
    taken: int = 0
    """Trials and tries."""
    told: set[Path] = field(default_factory=set)
    """Damaged files."""


class Reuse:
    """The runs that a run takes trials over from.

    Args:
        paths: of their directories.
        run_dir: of this run.

    Raises:
        RunError: one of them is no run directory, is this run's, cannot be read, or is of a later schema version.

    """

    def __init__(self, paths: str | Path | Iterable[str | Path] = (), run_dir: Path = Path()) -> None:
        each = [paths] if isinstance(paths, str | Path) else paths
        self._run_dir = run_dir
        self._sources = [_opened(path, run_dir) for path in dict.fromkeys(map(Path, each))]

    def take_over(
        self, experiment: Experiment, facts: Facts, console: Console, on_start: OnStart, *, is_last: bool = False
    ) -> None:
        """Copy what the other runs have of the trials and tries to go.

        To be called before learning rates are searched and, since trials wait for their rates, once more after that.

        Args:
            experiment: what is run.
            facts: what preflight learned.
            console: told how much was taken over, and what could not be.
            on_start: see `OnStart`.
            is_last: whether this is the last call.

        Raises:
            RunError: this run's directory cannot be written to.
            InterruptedRunError: Ctrl-C; what was copied by then is there.

        """
        if not self._sources:
            return
        try:
            with first_writing(self._run_dir):
                tries = [self._take_tries(each, experiment, facts, console, on_start) for each in self._sources]
                for source, count in zip(self._sources, tries, strict=True):
                    trials, bare = self._take_trials(source, experiment, facts, console, on_start)
                    source.taken += count + trials
                    _tell(source, console, trials=trials, tries=count, bare=bare, is_last=is_last)
        except KeyboardInterrupt:
            raise InterruptedRunError(
                f"Interrupted while trials were taken over; {self._run_dir} keeps those that were. "
                "Go on with the same command."
            ) from None

    def preview(self, experiment: Experiment, facts: Facts, console: Console) -> dict[str, TakenOver]:
        """Return what `take_over` would copy of each of the other runs, by directory; nothing is written."""
        rates = rates_before(self._run_dir)
        taken: set[str] = set()
        tries: dict[Path, set[str]] = {}
        chosen: dict[Path, dict[str, float]] = {}
        for source in self._sources:
            wanted = self._wanted_tries(experiment, facts, rates)
            left = {trial_id: trial for trial_id, trial in wanted.items() if trial_id not in taken}
            found = _found(source, source.path / FOLDER, source.tries, left, console)
            mine = {trial.trial_id for trial, _ in found}
            whole = [each for each in searches_of(experiment, facts) if mine.issuperset(t.trial_id for t in each.tries)]
            tries[source.path], chosen[source.path] = mine, choose_rates(source.path, whole)
            taken |= mine
        searches = [search for search in searches_of(experiment, facts) if search.search_id not in rates]
        rates |= choose_rates(self._run_dir, searches)
        for each in chosen.values():
            rates = {**each, **rates}
        said = {}
        for source in self._sources:
            wanted = self._wanted_trials(experiment, facts, rates)
            left = {trial_id: trial for trial_id, trial in wanted.items() if trial_id not in taken}
            trials = {trial.trial_id for trial, _ in _found(source, source.path, source.trials, left, console)}
            taken |= trials
            said[str(source.path)] = TakenOver(
                trials=frozenset(trials), tries=frozenset(tries[source.path]), rates=chosen[source.path]
            )
        return said

    def _take_tries(
        self, source: _Source, experiment: Experiment, facts: Facts, console: Console, on_start: OnStart
    ) -> int:
        """Return how many tries were taken over."""
        rates = rates_before(self._run_dir)
        wanted = self._wanted_tries(experiment, facts, rates)
        folder = source.path / FOLDER
        taken = 0
        for trial, folders in _found(source, folder, source.tries, wanted, console):
            if not taken:
                on_start(rates)
            copy_trial(folder, self._run_dir / FOLDER, trial.trial_id, folders)
            taken += 1
        return taken

    def _take_trials(
        self, source: _Source, experiment: Experiment, facts: Facts, console: Console, on_start: OnStart
    ) -> tuple[int, int]:
        """Return how many trials were taken over, and how many of these without weights."""
        rates = rates_before(self._run_dir)
        searches = [search for search in searches_of(experiment, facts) if search.search_id not in rates]
        rates |= choose_rates(self._run_dir, searches)
        wanted = self._wanted_trials(experiment, facts, rates)
        taken = bare = 0
        for trial, folders in _found(source, source.path, source.trials, wanted, console):
            if not taken:
                on_start(rates)
            bare += not _copy_weights(source.path, self._run_dir, trial.trial_id)
            copy_trial(source.path, self._run_dir, trial.trial_id, folders)
            remove(state_path(self._run_dir, trial.trial_id))
            taken += 1
        return taken, bare

    def _wanted_tries(self, experiment: Experiment, facts: Facts, rates: Mapping[str, float]) -> dict[str, Trial]:
        """Return the tries to go, by id."""
        searches = [search for search in searches_of(experiment, facts) if search.search_id not in rates]
        ids = is_to_run(self._run_dir, searches, retry_failed=True)
        return {trial.trial_id: trial for search in searches for trial in search.tries if trial.trial_id in ids}

    def _wanted_trials(self, experiment: Experiment, facts: Facts, rates: Mapping[str, float]) -> dict[str, Trial]:
        """Return the trials to go whose learning rate is known, by id."""
        statuses = finished_trial_ids(self._run_dir) if (self._run_dir / MANIFEST).exists() else {}
        return {
            trial.trial_id: trial
            for trial in expand(experiment, facts, rates)
            if statuses.get(trial.trial_id) not in {Status.COMPLETED, Status.STOPPED} and not is_undecided(trial)
        }


def _opened(path: Path, run_dir: Path) -> _Source:
    try:
        read_manifest(path)
        _check_other(path, run_dir)
        return _Source(path=path, trials=read_rows(path), tries=read_rows(path / FOLDER))
    except OSError as error:
        raise RunError(f"--reuse {path}: cannot be read: {error.strerror}") from None
    except RunError as error:
        raise RunError(f"--reuse {error}") from None


def _check_other(path: Path, run_dir: Path) -> None:
    if run_dir.exists() and path.samefile(run_dir):
        raise RunError(f"{path}: is the directory of this run itself; give that of another one")


def _found(
    source: _Source,
    folder: Path,
    rows: Mapping[str, TrialResult | None],
    wanted: Mapping[str, Trial],
    console: Console,
) -> Iterator[tuple[Trial, list[str]]]:
    """Yield each trial that is there, whole, with the folders that hold something of it; tell what is damaged."""
    for trial_id in [trial_id for trial_id in rows if trial_id in wanted]:  # those of one file follow one another
        trial, row = wanted[trial_id], rows[trial_id]
        if row is None:
            damaged: Path | None = folder / "results" / f"{trial_id}.parquet"
        elif not (is_result(row) if trial.seed == TUNING_SEED else row.status is Status.COMPLETED):
            continue
        else:
            scored = row.test_accuracy is not None and trial.seed != TUNING_SEED
            folders = [HISTORY, PREDICTIONS] if scored else [HISTORY]
            damaged = damaged_file(folder, trial_id, folders)
        if damaged is None:
            yield trial, folders
        elif damaged not in source.told:
            source.told.add(damaged)
            note = f"Note: {damaged} is missing or damaged, so {describe(trial)} is not taken over."
            console.print(Text(note), soft_wrap=True)


def _copy_weights(source: Path, run_dir: Path, trial_id: str) -> bool:
    """Copy what a trial learned, its card, and the backbone that it shares with others; return whether it is there."""
    from raybench.training.weight_files import card_path, read_card  # noqa: PLC0415 - torch, which preflight has imported

    theirs = weights_path(source, trial_id)
    try:
        bring(card_path(theirs))
        shared = read_card(theirs).backbone_file
    except WeightsError:
        return False
    names = [card_path(theirs).name, theirs.name]
    if shared is not None:
        names.insert(0, shared)
    if not all(bring(theirs.with_name(name)).is_file() for name in names):
        return False
    ours = weights_path(run_dir, trial_id)
    for name in names:
        if name != shared or not is_there(ours.with_name(name)):
            with replacing(ours.with_name(name)) as temporary:
                shutil.copyfile(theirs.with_name(name), temporary)
    return True


def _tell(source: _Source, console: Console, *, trials: int, tries: int, bare: int, is_last: bool) -> None:
    counts = [(trials, "trial", "trials"), (tries, "try", "tries")]
    parts = [f"{count} {one if count == 1 else many}" for count, one, many in counts if count]
    if parts:
        without = f" ({bare} without weights, which are not there any more)" if bare else ""
        console.print(Text(f"Taken over from {source.path}: {', '.join(parts)}{without}"), soft_wrap=True)
    elif is_last and not source.taken:
        nothing = f"Taken over from {source.path}: nothing; it has completed none of what is to go"
        console.print(Text(nothing), soft_wrap=True)
