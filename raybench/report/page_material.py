"""Sources in, everything that a page can say of them out: results, ranking, epochs, facts, environment.

A run directory gives all of it; a table gives what it has, and the rest is empty.

Covered: what `raybench.foreign` reads. Not covered: predictions themselves; of them, recalls and outcomes are used.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from raybench.choices import Choices
from raybench.errors import RunError
from raybench.experiment import Experiment
from raybench.foreign import Source, load_sources, parse_test_images, with_test_images
from raybench.manifest import EXPERIMENT, MANIFEST, read_manifest
from raybench.ranking import ABSENT, CONFIGURATION, rank
from raybench.recognize import parse_columns
from raybench.records import DatasetFacts, Facts, Trial
from raybench.results import load_history, load_results
from raybench.runs import open_run
from raybench.tries import RateOrigins, rate_origins

ALSO = (
    *("test_balanced_accuracy", "test_macro_f1", "parameters", "trainable_parameters", "model_bytes"),
    *("inference_images_per_second", "inference_latency_seconds", "peak_memory_bytes"),
    *("search_cost_usd", "search_seconds"),
)
"""What a page needs of a ranking beside its own columns."""
DETAILS = (
    *("trial_id", "error", "test_per_class_recall", "augmentation", "accelerator", "instance_type", "node"),
    *("gpu_fraction", "cpu_share", "retries", "started_at", "finished_at"),
)
"""What a page needs of results beside what a ranking reads."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RunDetails:
    """What a run directory says of itself."""

    run_dir: Path
    experiment: Experiment
    experiment_text: str
    facts: Facts
    trials: tuple[Trial, ...]
    created_at: str
    versions: Mapping[str, str]
    hardware: Mapping[str, str | int | None]
    git_commit: str | None
    chosen: Choices
    """What was measured of its machine."""
    price_per_hour_usd: Mapping[str, float]
    """Of a whole machine, by instance type, when it was last started."""
    rates: RateOrigins
    """Where its learning rates come from."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Material:
    """Everything that a page can say of its sources."""

    name: str
    paths: tuple[Path, ...]
    source: Source
    results: pd.DataFrame
    """One row a trial; columns that a source does not have are absent or empty."""
    ranking: pd.DataFrame
    """As `raybench.ranking.rank` returns it, with the means of `ALSO`."""
    history: pd.DataFrame
    """One row a trial and epoch with the columns of its configuration, `seed` and `status`; empty without epochs."""
    runs: tuple[RunDetails, ...]

    @property
    def test_images(self) -> Mapping[str, int]:
        """Size of each dataset's test split, where it is known."""
        return self.source.test_images

    def facts_of(self, dataset: str) -> DatasetFacts | None:
        """What preflight saw of a dataset; None where no run tells."""
        return next((run.facts.datasets[dataset] for run in self.runs if dataset in run.facts.datasets), None)


def load_material(
    paths: Sequence[Path], *, columns: Sequence[str] = (), test_images: Sequence[str] = (), epochs: bool = True
) -> Material:
    """Read sources for a page.

    Args:
        paths: run directories and tables.
        columns: what columns are called in sources that raybench did not write, `KEY=NAME`.
        test_images: sizes of test splits that sources do not tell, `[DATASET=]N`.
        epochs: whether their epochs are read as well.

    Raises:
        InputError: a source cannot be read, or is none.
    """
    source = with_test_images(load_sources(paths, parse_columns(columns)), parse_test_images(test_images))
    runs = tuple(run for path in paths if (run := run_details(path)) is not None)
    results = _detailed(source.results, runs)
    results = results.assign(**{name: ABSENT[name] for name in CONFIGURATION if name not in results})
    ranking = rank(
        results,
        by=_order(results),
        also=ALSO,
        outcomes=source.outcomes,
        test_images=source.test_images,
        val_images=source.val_images,
    )
    return Material(
        name=source.name,
        paths=tuple(paths),
        source=source,
        results=results,
        ranking=ranking,
        history=_history(source, results, runs if epochs else ()),
        runs=runs,
    )


def _order(results: pd.DataFrame) -> str | None:
    """What a ranking is ordered by: accuracy, or val loss where a source tells no accuracy at all."""
    accuracies = [results[name] for name in ("test_accuracy", "val_accuracy") if name in results]
    if any(each.notna().any() for each in accuracies) or "val_loss" not in results:
        return None
    return "val_loss" if results["val_loss"].notna().any() else None


def run_details(path: Path) -> RunDetails | None:
    """Return what a run directory says of itself; None for anything else."""
    if not (path / MANIFEST).is_file():
        return None
    manifest, run = read_manifest(path), open_run(path)
    try:
        data = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        text = (path / EXPERIMENT).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read: {error}") from None
    return RunDetails(
        run_dir=path,
        experiment=manifest.experiment,
        experiment_text=text,
        facts=manifest.facts,
        trials=run.trials,
        created_at=manifest.created_at,
        versions={str(name): str(value) for name, value in _mapping(data, "versions").items() if value},
        hardware=_mapping(data, "hardware"),
        git_commit=data.get("git_commit"),
        chosen=manifest.chosen,
        price_per_hour_usd=run.price_per_hour_usd,
        rates=rate_origins(path, run.experiment, run.facts, run.rates),
    )


def _mapping(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def _detailed(results: pd.DataFrame, runs: Sequence[RunDetails]) -> pd.DataFrame:
    """The results with what runs know beside what a ranking reads."""
    if not runs or "trial_id" not in results:
        return results
    parts = [
        load_results(run.run_dir, {trial.trial_id for trial in run.trials}, columns=(*DETAILS, *_SORTED_BY))
        for run in runs
    ]
    known = pd.concat(parts, ignore_index=True).drop_duplicates("trial_id")[list(DETAILS)]
    return results.drop(columns=[name for name in DETAILS[1:] if name in results]).merge(
        known, on="trial_id", how="left"
    )


_SORTED_BY = ("dataset", "train_size", "model", "weights", "strategy", "seed")


def _history(source: Source, results: pd.DataFrame, runs: Sequence[RunDetails]) -> pd.DataFrame:
    """Epochs with the names of their configuration, of runs and of tables of epochs."""
    names = [*CONFIGURATION, "seed", "status"]
    parts = []
    for run in runs:
        epochs = load_history(run.run_dir, {trial.trial_id for trial in run.trials})
        keys = results[["trial_id", *(name for name in names if name in results)]]
        parts.append(epochs.merge(keys, on="trial_id", how="inner"))
    if source.history is not None:
        parts.append(source.history)
    if not parts:
        return pd.DataFrame(columns=[*names, "epoch"])
    joined = pd.concat([part.astype(object) for part in parts], ignore_index=True).infer_objects()
    return joined.reindex(columns=list(dict.fromkeys([*names, *joined.columns])))


def groups_of(ranking: pd.DataFrame) -> list[pd.DataFrame]:
    """The ranking of each dataset and train_size."""
    return [group for _, group in ranking.groupby(["dataset", "train_size"], dropna=False, sort=False)]


def accuracy_column(ranking: pd.DataFrame) -> str:
    """What the rows are ranked by: test accuracy, or val accuracy where there is none at all."""
    return "test_accuracy" if ranking["test_accuracy"].notna().any() else "val_accuracy"
