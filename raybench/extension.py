"""What a run directory may be extended by: an experiment and the run of an earlier form of it in, an error out or none.

Trials are found again by ids that hash what they compute. So whoever adds models, strategies, sizes, seeds or datasets
trains what is new, and whoever changes, say, `training.epochs` would train everything anew beside what is there: that
is refused, naming the key. Nothing is refused as long as no trial has ended or begun.

Which keys these are is not listed but tried: each difference between the two experiments is put alone into the earlier
one, and counts where that gives a trial another id.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from raybench.checkpoint_paths import state_path
from raybench.errors import ExperimentError, RunError
from raybench.experiment import FILE_SUFFIXES, DatasetConfig, Experiment
from raybench.manifest import EXPERIMENT, MANIFEST, Manifest, read_manifest
from raybench.records import Facts, Status, Trial
from raybench.results import finished_trial_ids
from raybench.strategies import base_name
from raybench.trials import expand, weights_label

SECTIONS: Final = ("datasets", "models", "strategies", "training")
"""Of an experiment, that decide what a trial computes; the others decide how, when and which."""
WHICH: Final = {"name", "train_sizes"}
"""Keys of their entries that say which trials there are."""
PREPARATION: Final = ("image_size", "val_size", "on_bad_image")
"""Keys of a dataset that decide what becomes of its images."""
PLACE: Final = ("source", "root")
"""Those that say where its images are: a folder that moved holds the same."""

Label = tuple[str, int | None, str, str, str, int]
"""What a reader takes for the same trial: dataset, train size (None: all), model, weights, strategy, seed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """One key that two experiments have different values of."""

    key: str
    """As its user would write it: `datasets[photos].image_size`."""
    path: tuple[str | int, ...]
    """Where the earlier one has it."""
    before: Any
    after: Any

    def text(self) -> str:
        """Return key and values on one line."""
        return f"{self.key}: was {_text(self.before)}, is {_text(self.after)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Step:
    """An experiment as it was, and as it is to be."""

    earlier: Manifest
    experiment: Experiment
    facts: Facts
    whole: frozenset[str]
    """Datasets of which both train on all images: however many these are, that is the same size to a reader."""


def check_extension(run_dir: Path, experiment: Experiment, facts: Facts, label: str) -> None:
    """Check, before anything is written, that no trial that has ended or begun would be trained anew.

    Failed trials may change: there is nothing of them to lose, and a change may be what helps.

    Args:
        run_dir: of the run, which need not be there yet.
        experiment: as it is to be run.
        facts: what preflight learned of it.
        label: the experiment's file, for messages.

    Raises:
        ExperimentError: one would; the message names the keys, their values, and what to do.
        RunError: the run directory cannot be read.

    """
    if not ((run_dir / MANIFEST).exists() and (run_dir / EXPERIMENT).exists()):
        return  # nothing was run, or what it was is lost
    earlier = read_manifest(run_dir)
    try:
        trials = earlier.trials()
    except RunError:  # it died between writing the experiment, which was checked, and the manifest
        return
    step = _Step(
        earlier=earlier, experiment=experiment, facts=facts, whole=_whole(earlier.experiment) & _whole(experiment)
    )
    wanted = _by_label(step, facts, expand(experiment, facts, earlier.rates))
    # A trial that is wanted under another name is as good as unchanged.
    gone = {trial.trial_id for trial in trials} - {trial.trial_id for trial in wanted.values()}
    at_stake = _ended_or_begun(run_dir, gone)
    names = {name: old for name, old in _by_label(step, earlier.facts, trials).items() if old.trial_id in at_stake}
    changed = [(old, wanted[name]) for name, old in names.items() if name in wanted]
    changes = list(dict.fromkeys(_changes(step, changed))) if changed else []
    if not changes:
        return
    one = len(changes) == 1
    count = "1 trial has" if len(changed) == 1 else f"{len(changed)} trials have"
    advice = (
        f"{count} ended or begun in {run_dir} as it was; set {'it' if one else 'these'} back, or give another "
        f"--run-dir, to which --reuse {run_dir} brings what is the same"
    )
    lines = [f"{label}: {change}" for change in changes]
    raise ExperimentError(f"{lines[0]}; {advice}" if one else "\n".join([*lines, advice]))


def _changes(step: _Step, changed: Sequence[tuple[Trial, Trial]]) -> Iterator[str]:
    """Yield what would give these trials other ids, each as one line that begins with the key."""
    trials = [old for old, _ in changed]
    differences = _differences(step.earlier.experiment, step.experiment)
    to_blame = [each for each in differences if _is_to_blame(each, step, trials)]
    yield from (each.text() for each in to_blame)
    yield from _changed_images(step, dict.fromkeys(trial.dataset.name for trial in trials))
    yield from _changed_weights(step, changed, blamed={each.key for each in to_blame})
    yield from _changed_bases(step, dict.fromkeys(trial.strategy.name for trial in trials))


def _is_to_blame(difference: Difference, step: _Step, trials: Iterable[Trial]) -> bool:
    """Return whether the earlier experiment with this one change would give one of the trials another id."""
    data = step.earlier.experiment.model_dump(mode="json")
    place: Any = data
    for part in difference.path[:-1]:
        place = place[part]
    place[difference.path[-1]] = deepcopy(difference.after)
    earlier = step.earlier
    try:
        expanded = expand(Experiment.model_validate(data), earlier.facts, earlier.rates)
    except (ExperimentError, ValidationError):  # makes sense with the other changes alone
        return True
    ids = {name: trial.trial_id for name, trial in _by_label(step, earlier.facts, expanded).items()}
    labels = _by_label(step, earlier.facts, trials)
    return any(ids.get(name, trial.trial_id) != trial.trial_id for name, trial in labels.items())


def _changed_images(step: _Step, names: Iterable[str]) -> Iterator[str]:
    """Yield the datasets whose images are others, or are prepared otherwise."""
    before, after = (_datasets(each) for each in (step.earlier.experiment, step.experiment))
    for name in names:
        if step.earlier.facts.datasets[name].fingerprint == step.facts.datasets[name].fingerprint:
            continue
        for keys in (PREPARATION, PLACE):
            values = [(key, getattr(before[name], key), getattr(after[name], key)) for key in keys]
            found = [
                Difference(key=f"datasets[{name}].{key}", path=(), before=old, after=new).text()
                for key, old, new in values
                if old != new
            ]
            if found:
                yield from found
                break
        else:
            yield f"datasets[{name}]: its images changed since"


def _changed_weights(step: _Step, changed: Iterable[tuple[Trial, Trial]], *, blamed: set[str]) -> Iterator[str]:
    """Yield the weights whose content is another; `blamed` are keys that are named already."""
    for old, new in changed:
        if _digest(step.earlier.facts, old) == _digest(step.facts, new) or f"models[{new.model.name}].head" in blamed:
            continue
        if not new.weights.endswith(FILE_SUFFIXES):
            yield f"models[{new.model.name}]: its network with weights {new.weights!r} changed since"
        elif old.weights == new.weights:
            yield f"weights[{weights_label(new.weights)}]: the file changed since"
        else:
            yield f"weights[{weights_label(new.weights)}]: was {old.weights!r}, is {new.weights!r}, which holds others"


def _changed_bases(step: _Step, names: Iterable[str]) -> Iterator[str]:
    """Yield strategies that one experiment alone spells out, and whose phases another one with augmentation has."""
    before, after = (
        {part.name: part.phases is not None for part in each.strategies}
        for each in (step.earlier.experiment, step.experiment)
    )
    for name in names:
        base = base_name(name)
        if base == name or before[name] or (base in before) == (base in after):
            continue
        if before.get(base, False) or after.get(base, False):
            what = "is left out, and {} had its phases" if base in before else "is new, and {} would have its phases"
            yield f"strategies[{base}]: {what.format(name)}"


def _differences(before: Experiment, after: Experiment) -> Iterator[Difference]:
    old, new = before.model_dump(mode="json"), after.model_dump(mode="json")
    for section in SECTIONS:
        yield from _walk(section, (section,), old[section], new[section])


def _walk(key: str, path: tuple[str | int, ...], before: Any, after: Any) -> Iterator[Difference]:  # noqa: ANN401 - JSON
    """Yield the leaves that differ; entries with a name are matched by it, and those of one side alone are left out."""
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for name in [name for name in after if name not in WHICH]:
            yield from _walk(f"{key}.{name}", (*path, name), before[name], after[name])
    elif _is_named(before) and _is_named(after):
        entries = {entry["name"]: entry for entry in after}
        for index, entry in enumerate(before):
            name = entry["name"]
            if name in entries:
                yield from _walk(f"{key}[{name}]", (*path, index), entry, entries[name])
    elif _is_numbered(before) and _is_numbered(after) and len(before) == len(after):
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _walk(f"{key}[{index}]", (*path, index), one, other)
    else:
        yield Difference(key=key, path=path, before=before, after=after)


def _is_numbered(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(entry, dict) for entry in value)


def _is_named(value: object) -> bool:
    return isinstance(value, list) and _is_numbered(value) and all("name" in entry for entry in value)


def _digest(facts: Facts, trial: Trial) -> str:
    return facts.weights[f"{trial.model.name} {trial.weights}"].digest


def _ended_or_begun(run_dir: Path, trial_ids: Iterable[str]) -> set[str]:
    """Return the ids of trials of which there is something to lose: their scores, or the epochs of a checkpoint."""
    statuses = finished_trial_ids(run_dir)
    ended = {Status.COMPLETED, Status.STOPPED}
    return {
        trial_id
        for trial_id in trial_ids
        if (status := statuses.get(trial_id)) in ended
        or (status is not Status.FAILED and state_path(run_dir, trial_id).exists())
    }


def _by_label(step: _Step, facts: Facts, trials: Iterable[Trial]) -> dict[Label, Trial]:
    return {_label(step, facts, trial): trial for trial in trials}


def _label(step: _Step, facts: Facts, trial: Trial) -> Label:
    name = trial.dataset.name
    is_whole = name in step.whole and trial.train_size == facts.datasets[name].train_images
    size = None if is_whole else trial.train_size
    return name, size, trial.model.name, weights_label(trial.weights), trial.strategy.name, trial.seed


def _whole(experiment: Experiment) -> frozenset[str]:
    return frozenset(dataset.name for dataset in experiment.datasets if "all" in dataset.train_sizes)


def _datasets(experiment: Experiment) -> Mapping[str, DatasetConfig]:
    return {dataset.name: dataset for dataset in experiment.datasets}


def _text(value: Any) -> str:  # noqa: ANN401 - plain JSON values
    """Return a value as a file would hold it; `not given` where it would not."""
    if value is None:
        return "not given"
    if isinstance(value, str):
        return repr(value)
    return json.dumps(_without_absent(value))


def _without_absent(value: Any) -> Any:  # noqa: ANN401 - plain JSON values
    if isinstance(value, dict):
        return {name: _without_absent(each) for name, each in value.items() if each is not None}
    return [_without_absent(each) for each in value] if isinstance(value, list) else value
