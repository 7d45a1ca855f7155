"""A result directory of Ray Tune in, whoever wrote it; a history table out, one row a trial and report.

A report counts as an epoch, and settings that differ between trials name the strategy. Not covered: trials that
one of Tune's schedulers stopped, which look like complete ones. Pickled files are never opened.
"""

import json
import math
from functools import partial
from pathlib import Path

import pandas as pd
from recognize import METRICS, SETTINGS, recognize

from raybench.errors import InputError
from raybench.records import Status


def trial_folders(path: Path) -> list[Path]:
    """Return the folders of the trials in a result directory; none where it is something else."""
    return sorted(found.parent for pattern in ("params.json", "*/params.json") for found in path.glob(pattern))


def read_tune_results(path: Path) -> pd.DataFrame:
    """Return trial_id, status and the keys of `SETTINGS` and `METRICS`; `attrs["notes"]` says what each was read from.

    Raises `InputError` where no trial reported anything, or a file cannot be read.
    """
    folders = trial_folders(path)
    try:
        reports = pd.concat([_reports(folder).assign(trial_id=folder.name) for folder in folders], ignore_index=True)
        settings = pd.json_normalize([json.loads((folder / "params.json").read_text()) for folder in folders], sep="/")
    except (OSError, ValueError, TypeError, AttributeError, NotImplementedError) as error:
        raise InputError(f"{path}: cannot be read as results of Ray Tune ({error})") from None
    metrics, known = recognize(reports.columns, METRICS), recognize(settings.columns, SETTINGS)
    if "epoch" not in metrics:
        raise InputError(f"{path}: none of its {len(folders)} trials reported anything; give one with results")
    numbers = {key: pd.to_numeric(reports[name], "coerce") for key, name in metrics.items()}
    history = reports[["trial_id"]].assign(**dict.fromkeys(METRICS, math.nan) | numbers)
    percent = [key for key in metrics if key.endswith("_accuracy") and history[key].max() > 1]
    history[percent] /= 100
    history = history.drop_duplicates(["trial_id", "epoch"], keep="last")  # a resumed trial reports epochs again
    status = [Status.FAILED if (folder / "error.txt").exists() else Status.COMPLETED for folder in folders]
    trials = _trials(settings, known, path).assign(trial_id=[folder.name for folder in folders], status=status)
    sources = [f"{key} from {name}{' (percent)' * (key in percent)}" for key, name in (metrics | known).items()]
    history = history.merge(trials, on="trial_id")
    history.attrs["notes"] = (f"Ray Tune's results: {', '.join(sources)}.",)
    return history


def _reports(folder: Path) -> pd.DataFrame:
    log, table = folder / "result.json", folder / "progress.csv"
    if log.exists():  # read first: progress.csv lacks what a trial did not report from its first epoch on
        lines = log.read_text().split("\n")[:-1]  # a line without its end was cut off by a crash
        return pd.json_normalize([json.loads(line) for line in lines], sep="/")
    return pd.read_csv(table) if table.exists() and table.stat().st_size else pd.DataFrame()


def _trials(settings: pd.DataFrame, known: dict[str, str], path: Path) -> pd.DataFrame:
    """Return the columns of `SETTINGS`, one row a trial; several of one kind are told apart by a seed, from 0."""
    trials = pd.DataFrame({key: settings[known[key]] if key in known else None for key in SETTINGS}, settings.index)
    others = [str(name) for name in settings if name not in known.values()]
    named = [name for name in others if len(set(map(str, settings[name]))) > 1]
    parts = [trials["strategy"].fillna(""), *(settings[name].map(partial(_part, name)) for name in named)]
    trials["strategy"] = ["+".join(filter(None, map(str, row))) for row in zip(*parts, strict=True)]
    trials = trials.fillna({"dataset": path.resolve().name, "model": path.resolve().name})
    if "seed" not in known:
        trials["seed"] = trials.groupby(list(SETTINGS), dropna=False).cumcount()
    return trials


def _part(name: str, value: object) -> str:
    """`dropout=0.5`, the value of a text, `nesterov` where that is true: as `raybench rank` names strategies."""
    if value is None or value is False or value != value:  # noqa: PLR0124 - NaN
        return ""
    if value is True or isinstance(value, str):
        return name if value is True else value
    return f"{name}={value:.4g}" if isinstance(value, int | float) else f"{name}={value}"
