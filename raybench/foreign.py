"""Anything that can be ranked in, results with the columns of a ranking out.

A run directory, a result directory of Ray Tune that someone else wrote, or a table as CSV or Parquet: of results (one
row a configuration, or a row a seed) or of epochs. Columns that are no metric and that raybench does not know name
the strategy.

Covered: files and folders. Not covered: object stores.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

import pandas as pd

from raybench.cost import reprice
from raybench.errors import InputError
from raybench.foreign_tables import load_table
from raybench.manifest import MANIFEST, read_manifest
from raybench.mirror import opened
from raybench.outcomes import Outcome
from raybench.prices import per_hour
from raybench.ranking import ABSENT, HIGHER_IS_BETTER
from raybench.recognize import Columns
from raybench.results import RESULTS_SCHEMA, load_outcomes, load_results, match_trials
from raybench.tries import charge_search
from raybench.tune_results import is_tune_results, read_tune_results

PRICED_BY = ("instance_type", "device_share", "gpu_fraction", "cpu_share")
"""What `raybench.cost.reprice` reads beside seconds."""
RUN_COLUMNS = tuple(
    name for name in ("model", *ABSENT, *HIGHER_IS_BETTER, *PRICED_BY, "accelerator") if name in RESULTS_SCHEMA.names
)
"""What is read of the results of a run: each column of a small file takes its time."""


class Kind(StrEnum):
    """What a source turned out to be."""

    RUN = "run"
    RESULTS = "results table"
    HISTORY = "history table"
    TUNE = "results of Ray Tune"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Source:
    """Something that can be ranked."""

    kind: Kind
    name: str
    results: pd.DataFrame
    """One row a trial."""
    notes: tuple[str, ...]
    """What a reader must know of how the results were made from the source."""
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    """Which test images each trial classified correctly, by trial id, where that is known."""
    test_images: Mapping[str, int] = field(default_factory=dict)
    """Size of each dataset's test split, where it is known."""
    val_images: Mapping[str, int] = field(default_factory=dict)
    train_images: Mapping[str, int] = field(default_factory=dict)
    """How many training images each dataset has: with all of them, every seed draws the same."""
    history: pd.DataFrame | None = None
    """One row a configuration, seed and epoch, where the source is a table of epochs; a run's is in its directory."""


def load_source(path: str | Path, columns: Columns | None = None) -> Source:
    """Read a run directory, a result directory of Ray Tune, a results table or a history table.

    Args:
        path: of the file or folder.
        columns: which column stands for which, where a reader says so; runs need none, and do without.

    Raises:
        InputError: there is no such thing, it cannot be read, or columns are missing (named).
    """
    path = opened(path)
    if path.is_dir():
        return _load_directory(path, columns)
    table = load_table(path, columns)
    return Source(
        kind=Kind.RESULTS if table.epochs is None else Kind.HISTORY,
        name=path.stem,
        results=table.results,
        notes=table.notes,
        history=table.epochs,
    )


def load_sources(paths: Sequence[str | Path], columns: Columns | None = None) -> Source:
    """Read several sources as one, for one ranking.

    Trials that several runs share count once. Where different trials carry the same configuration and seed,
    the strategy's name gets the source's name appended.

    Raises:
        InputError: as `load_source`, or no path is given.
    """
    if not paths:
        raise InputError("no source to rank; give a run directory, or a CSV or Parquet table")
    sources = [load_source(path, columns) for path in paths]
    if len(sources) == 1:
        return sources[0]
    results = pd.concat(
        [source.results.astype(object).assign(_source=source.name) for source in sources],
        ignore_index=True,
    )
    if "trial_id" in results:
        results = results[results["trial_id"].isna() | ~results.duplicated("trial_id")]
    key = [name for name in ("dataset", "train_size", "model", "weights", "strategy", "seed") if name in results]
    clash = results.duplicated(key, keep=False)
    names = results["strategy"].fillna("")
    results["strategy"] = names.where(~clash, (names + " @" + results["_source"]).str.strip())
    return Source(
        kind=sources[0].kind,
        name=" + ".join(source.name for source in sources),
        results=results.drop(columns="_source").infer_objects().reset_index(drop=True),
        notes=tuple(dict.fromkeys(note for source in sources for note in source.notes)),
        outcomes={trial_id: outcome for source in reversed(sources) for trial_id, outcome in source.outcomes.items()},
        test_images=_agreed([source.test_images for source in sources]),
        val_images=_agreed([source.val_images for source in sources]),
        train_images=_agreed([source.train_images for source in sources]),
        history=_joined_histories(sources),
    )


def parse_test_images(given: Sequence[str]) -> int | dict[str, int] | None:
    """Read `166`, for all datasets, or `DATASET=166` for each; None where nothing is given.

    Raises:
        InputError: one is no number of images.
    """
    sizes: dict[str, int] = {}
    for each in given:
        name, _, number = each.rpartition("=")
        if not number.strip().isdecimal() or int(number) < 1:
            raise InputError(f"--test-images: {each!r} is no number of images; give N, or DATASET=N")
        sizes[name.strip()] = int(number)
    for_all = sizes.pop("", None)
    if for_all is not None and sizes:
        raise InputError("--test-images: given for all datasets and for some; give one N, or DATASET=N for each")
    return for_all if for_all is not None else sizes or None


def with_test_images(source: Source, test_images: int | Mapping[str, int] | None) -> Source:
    """Return the source with sizes of test splits that it does not tell itself.

    Raises:
        InputError: a dataset is not in the source.
    """
    if test_images is None:
        return source
    names = [str(name) for name in source.results["dataset"].unique()] if "dataset" in source.results else [""]
    given = dict.fromkeys(names, test_images) if isinstance(test_images, int) else dict(test_images)
    unknown = [name for name in given if name not in names]
    if unknown:
        raise InputError(f"--test-images: there is no dataset {unknown[0]!r}; there are {', '.join(names)}")
    return replace(source, test_images=given | dict(source.test_images))


def _joined_histories(sources: Sequence[Source]) -> pd.DataFrame | None:
    """Epochs of all tables of epochs."""
    histories = [source.history for source in sources if source.history is not None]
    return pd.concat(histories, ignore_index=True) if histories else None


def _agreed(sizes: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Sizes of splits by dataset; none where two sources mean different splits by one name."""
    joined = {name: size for each in sizes for name, size in each.items()}
    return {name: size for name, size in joined.items() if all(each.get(name, size) == size for each in sizes)}


def _load_directory(path: Path, columns: Columns | None) -> Source:
    name = path.resolve().name
    if is_tune_results(path) and not (path / MANIFEST).exists():
        found = read_tune_results(path, columns)
        return Source(
            kind=Kind.TUNE,
            name=name,
            results=found.best,
            notes=found.notes,
            history=found.epochs,
        )
    if not (path / MANIFEST).exists():
        return Source(
            kind=Kind.RUN,
            name=name,
            results=load_results(path, columns=RUN_COLUMNS),
            notes=(),
            outcomes=load_outcomes(path),
        )
    manifest = read_manifest(path)
    trials = manifest.trials()
    ids = {trial.trial_id for trial in trials}
    datasets = manifest.facts.datasets.values()
    prices = per_hour(manifest.prices)
    results = reprice(match_trials(load_results(path, ids, RUN_COLUMNS), trials), prices)
    return Source(
        kind=Kind.RUN,
        name=name,
        results=charge_search(results, path, manifest.experiment, manifest.facts, prices),
        notes=(),
        outcomes=load_outcomes(path, ids),
        test_images={dataset.name: dataset.test_images for dataset in datasets if dataset.test_images is not None},
        val_images={dataset.name: dataset.val_images for dataset in datasets},
        train_images={dataset.name: dataset.train_images for dataset in datasets},
    )
