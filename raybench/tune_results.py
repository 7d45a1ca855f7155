"""A result directory of Ray Tune in, whoever wrote it; its reports and its trials out, as tables.

Read are the JSON and CSV files that Tune leaves for readers: result.json or progress.csv and params.json of each
trial, and the newest experiment_state-*.json for how trials ended. Pickled files are never opened, and Ray is not
needed. A report counts as an epoch; settings that differ between trials name the strategy.

Covered: files cut off by a crash, reports with different columns, NaN. Not covered: which trials a scheduler of Tune
stopped early, which its files do not tell; checkpoints.
"""

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from raybench.errors import InputError
from raybench.formats import is_missing, safe_text
from raybench.recognize import GIVEN_ONLY, METRICS, PLAIN, SETTINGS, Columns, recognize
from raybench.records import Status

STATE = "experiment_state-*.json"
REPORTS, TABLE, SETTINGS_FILE, ERROR = "result.json", "progress.csv", "params.json", "error.txt"
ENDED = {"TERMINATED": Status.COMPLETED, "ERROR": Status.FAILED}
"""What Tune calls trials that ended; all others did not."""
CONFIG = "config/"
IDENTITY = [*SETTINGS, "trial_id", "status"]
MOST_PERCENT = 100.0


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TuneResults:
    """What the trials of a result directory were and reported."""

    best: pd.DataFrame
    """One row a trial, as in a results table: the keys of `SETTINGS`, `trial_id` (its folder), `status`, and what it
    reported at its best epoch."""
    epochs: pd.DataFrame
    """One row a trial and report: the keys of `SETTINGS` and `METRICS`, `trial_id` and `status`."""
    notes: tuple[str, ...]
    """Which column was taken for what, and what could not be read."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Folder:
    """What was read of one trial."""

    name: str
    settings: Mapping[str, object]
    reports: Sequence[Mapping[str, object]]
    status: Status
    unreadable: int
    """Lines and files that could not be read."""


def is_tune_results(path: Path) -> bool:
    """Whether a folder looks like a result directory of Ray Tune."""
    return path.is_dir() and (
        any(next(path.glob(pattern), None) for pattern in (STATE, "tuner.pkl", "params.pkl"))
        or next(_trial_folders(path), None) is not None
    )


def read_tune_results(path: Path, columns: Columns | None = None) -> TuneResults:
    """Read a result directory.

    Args:
        path: the folder that holds the trials' folders (`RunConfig`: storage_path/name).
        columns: what stands for what, where a reader says so: metrics as reported (`valid/acc`), settings as in the
            trials' config, with or without `config/` before them.

    Raises:
        InputError: there is no trial, none reported anything, or no accuracy or loss was recognised (the error names
            the columns that are there).
    """
    statuses = _statuses(path)
    folders = [_read_folder(folder, statuses) for folder in sorted(_trial_folders(path))]
    if not folders:
        raise InputError(f"{path}: holds no trial of Ray Tune; give the folder with the trials' folders")
    if not any(folder.reports for folder in folders):
        unreadable = sum(folder.unreadable for folder in folders)
        why = f"; {unreadable} lines or files cannot be read" if unreadable else ""
        raise InputError(f"{path}: none of its {len(folders)} trials reported anything{why}; give one with results")
    reports = pd.DataFrame([row | {"trial_id": folder.name} for folder in folders for row in map(dict, folder.reports)])
    settings = pd.DataFrame([dict(folder.settings) for folder in folders])
    given = {key: name.removeprefix(CONFIG) for key, name in (columns or Columns()).names.items()}
    _check_given(given, reports, settings, path)
    metrics = recognize([str(name) for name in reports if name != "trial_id"], METRICS, given)
    known = recognize(list(map(str, settings)), SETTINGS, given)
    metrics = {key: name for key, name in metrics.items() if key not in SETTINGS}
    if not {"test_accuracy", "val_accuracy", "val_loss"} & metrics.keys():
        there = safe_text(", ".join(map(str, reports.columns.drop("trial_id"))))
        raise InputError(
            f"{path}: no accuracy among what its trials report ({there}); name it: --column val_accuracy=NAME or "
            "--column test_accuracy=NAME"
        )
    epochs, percent = _numbers(reports, metrics, path)
    trials, remarks = _trials(settings, known, folders, path)
    said = [
        f"{key} from {safe_text(name)}{' (percent)' * (key in percent)}"
        for key, name in [*metrics.items(), *((key, CONFIG + name) for key, name in known.items())]
    ]
    notes = (
        f"Ray Tune's results, read so: {', '.join(said)}. Otherwise: --column KEY=NAME.",
        *remarks,
        *_remarks(folders),
    )
    return TuneResults(best=_best_epochs(epochs, trials), epochs=epochs.merge(trials, on="trial_id"), notes=notes)


def _trial_folders(path: Path) -> Iterator[Path]:
    """Folders of trials: those with a config or with results, or the folder itself where it is one trial's."""
    try:
        for folder in (path, *(each for each in path.iterdir() if each.is_dir())):
            if any((folder / name).exists() for name in (SETTINGS_FILE, REPORTS, TABLE)):
                yield folder
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def _statuses(path: Path) -> dict[str, Status]:
    """How trials ended, by the name of their folder; what the newest state that can be read says."""
    for file in sorted(path.glob(STATE), reverse=True):
        try:
            trials = [json.loads(trial[0]) for trial in json.loads(file.read_text())["trial_data"]]
            return {
                str(trial["relative_logdir"]): ENDED.get(str(trial["status"]), Status.UNFINISHED) for trial in trials
            }
        except (OSError, ValueError, TypeError, KeyError, IndexError):
            continue
    return {}


def _read_folder(folder: Path, statuses: Mapping[str, Status]) -> _Folder:
    lines, unreadable = _json_lines(folder / REPORTS)
    if not lines:
        lines, more = _csv_rows(folder / TABLE)
        unreadable += more
    settings: object = None
    if (folder / SETTINGS_FILE).exists():
        try:
            settings = json.loads((folder / SETTINGS_FILE).read_text())
        except (OSError, ValueError):
            unreadable += 1
    if not isinstance(settings, dict):
        settings = next((line["config"] for line in lines if isinstance(line.get("config"), dict)), {})
    status = statuses.get(folder.name, Status.FAILED if (folder / ERROR).exists() else Status.COMPLETED)
    reports = [_flat({key: value for key, value in line.items() if key != "config"}) for line in lines]
    if not reports and status is Status.COMPLETED:
        status = Status.UNFINISHED
    return _Folder(
        name=folder.name,
        settings=_flat(settings, lists=True),
        reports=[{key: value for key, value in row.items() if not key.startswith(CONFIG)} for row in reports],
        status=status,
        unreadable=unreadable,
    )


def _json_lines(file: Path) -> tuple[list[dict[str, Any]], int]:
    """The objects of a file of JSON lines, and how many lines are none: a crash leaves half a line."""
    try:
        lines = [line for line in file.read_text(errors="replace").splitlines() if line.strip()]
    except FileNotFoundError:
        return [], 0
    except OSError:
        return [], 1
    found = []
    for line in lines:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            found.append(value)
    return found, len(lines) - len(found)


def _csv_rows(file: Path) -> tuple[list[dict[str, Any]], int]:
    try:
        with file.open(newline="", errors="replace") as opened:
            rows = [{key: value for key, value in row.items() if key and value} for row in csv.DictReader(opened)]
    except FileNotFoundError:
        return [], 0
    except (OSError, csv.Error):
        return [], 1
    return rows, 0


def _flat(nested: Mapping[str, Any], *, lists: bool = False) -> dict[str, object]:
    """Keys joined by `/`, with numbers and texts alone; lists as text where they are wanted."""
    flat: dict[str, object] = {}
    stack = [("", nested)]
    while stack:
        prefix, mapping = stack.pop()
        for key, value in mapping.items():
            if isinstance(value, Mapping):
                stack.append((f"{prefix}{key}/", value))
            elif value is None or isinstance(value, str | int | float):
                flat[f"{prefix}{key}"] = value
            elif lists:
                flat[f"{prefix}{key}"] = json.dumps(value)
    return flat


def _check_given(given: Mapping[str, str], reports: pd.DataFrame, settings: pd.DataFrame, path: Path) -> None:
    for key, name in given.items():
        there = settings if key in SETTINGS else reports.drop(columns="trial_id")
        if name not in there:
            raise InputError(
                f"{path}: --column {key}={name}: there is no such column; "
                f"there are {safe_text(', '.join(map(str, there)))}"
            )


def _numbers(reports: pd.DataFrame, metrics: Mapping[str, str], path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Metrics as numbers, accuracies as fractions, and which of them were in percent."""
    wanted = dict.fromkeys([*METRICS, *(key for key in GIVEN_ONLY if key in metrics)], math.nan)
    numbers = {key: pd.to_numeric(reports[name], errors="coerce").astype(float) for key, name in metrics.items()}
    epochs = reports[["trial_id"]].assign(**wanted | numbers)
    epochs["epoch"] = epochs["epoch"].fillna(epochs.groupby("trial_id").cumcount() + 1)
    percent = []
    for key in [key for key in metrics if key.endswith("_accuracy")]:
        if (epochs[key] < 0).any() or (epochs[key] > MOST_PERCENT).any():
            raise InputError(
                f"{path}: {safe_text(metrics[key])} goes from {epochs[key].min():g} to {epochs[key].max():g}, which "
                f"is no accuracy; name another: --column {key}=NAME"
            )
        if epochs[key].max() > 1:
            percent.append(key)
            epochs[key] /= MOST_PERCENT
    # A trial that was resumed reports some epochs again.
    return epochs.drop_duplicates(["trial_id", "epoch"], keep="last").reset_index(drop=True), percent


def _trials(
    settings: pd.DataFrame, known: Mapping[str, str], folders: Sequence[_Folder], path: Path
) -> tuple[pd.DataFrame, list[str]]:
    """One row a trial, and remarks on what stands in for what its config does not say."""
    remarks = []
    trials = pd.DataFrame({key: settings[known[key]] if key in known else None for key in SETTINGS}, settings.index)
    trials["trial_id"] = [folder.name for folder in folders]
    trials["status"] = [folder.status for folder in folders]
    others = [name for name in map(str, settings) if name not in known.values()]
    named = [name for name in others if len(set(settings[name].map(str))) > 1]
    none = PLAIN if named or "strategy" in known else None
    parts = [trials["strategy"].map(_text), *(settings[name].map(partial(_part, name)) for name in named)]
    trials["strategy"] = ["+".join(filter(None, row)) or none for row in zip(*parts, strict=True)]
    for key in ("dataset", "model", "weights"):
        texts = trials[key].map(_text).replace("", None)
        trials[key] = texts.fillna(path.resolve().name) if key != "weights" else texts
    for key in ("train_size", "seed"):
        numbers = pd.to_numeric(trials[key], errors="coerce")
        trials[key] = numbers.where(numbers % 1 == 0).astype("Int64")
    configuration = ["dataset", "train_size", "model", "weights", "strategy"]
    if trials["seed"].isna().any() or trials.duplicated([*configuration, "seed"]).any():
        trials["seed"] = trials.groupby(configuration, dropna=False).cumcount()
        remarks.append("Trials of the same settings count as seeds 0, 1, ...: their config names none, or one twice.")
    if "model" not in known:
        remarks.append("No setting names the model: --column model=NAME.")
    return trials, remarks


def _best_epochs(epochs: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """One row a trial: its epoch with the lowest val loss, else with the highest val accuracy, else its last.

    A test accuracy that is missing there is the last one reported. Seconds are the last of those that count up, else
    the sum of all epochs'; the cost is the last one reported.
    """
    by_trial = epochs.groupby("trial_id")
    no_loss = by_trial["val_loss"].transform("count") == 0
    no_val = no_loss & (by_trial["val_accuracy"].transform("count") == 0)
    key = epochs["val_loss"].where(~no_loss, -epochs["val_accuracy"]).where(~no_val, -epochs["epoch"])
    order = epochs.assign(_key=key).sort_values(["trial_id", "_key", "epoch"], na_position="last", kind="stable")
    best = order.drop_duplicates("trial_id").drop(columns="_key").set_index("trial_id")
    best = best.rename(columns={"epoch": "best_epoch"}).assign(epochs_run=by_trial["epoch"].max())
    best["test_accuracy"] = best["test_accuracy"].fillna(by_trial["test_accuracy"].last())
    summed = by_trial["epoch_seconds"].sum(min_count=1)
    best["train_seconds"] = by_trial["train_seconds"].last().fillna(summed)
    best["standalone_cost_usd"] = by_trial["standalone_cost_usd"].last()
    return trials.merge(best.drop(columns=["epoch_seconds", "train_accuracy"]), on="trial_id", how="left")


def _remarks(folders: Sequence[_Folder]) -> list[str]:
    remarks = []
    unreadable = sum(folder.unreadable for folder in folders)
    if unreadable:
        remarks.append(f"{unreadable} lines or files could not be read and were left out.")
    silent = sum(not folder.reports for folder in folders)
    if silent:
        remarks.append(f"{silent} of {len(folders)} trials reported nothing.")
    lengths = [len(folder.reports) for folder in folders if folder.status is Status.COMPLETED]
    if lengths and min(lengths) < max(lengths):
        remarks.append(
            f"Trials reported {min(lengths)} to {max(lengths)} times; which of them a scheduler stopped early is not "
            "known, and such ones count as complete."
        )
    return remarks


def _text(value: object) -> str:
    return "" if is_missing(value) else str(value).strip()


def _part(name: str, value: object) -> str:
    """`dropout=0.5`, the value of a text, `nesterov` where that is true: as other tables name strategies."""
    if value is False or not _text(value):
        return ""
    if value is True or isinstance(value, str):
        return name if value is True else value.strip()
    return f"{name}={value:g}" if isinstance(value, int | float) else f"{name}={value}"
