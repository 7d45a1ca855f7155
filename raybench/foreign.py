"""Anything that can be ranked in, results with the columns of a ranking out.

A run directory, a result directory of Ray Tune that someone else wrote, or a table as CSV or Parquet: of results (one
row a configuration, or a row a seed) or of epochs. Columns that are no metric and that raybench does not know name
the strategy.

Covered: files and folders. Not covered: object stores.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

import pandas as pd
import pyarrow as pa

from raybench.cost import reprice
from raybench.errors import InputError
from raybench.manifest import MANIFEST, read_manifest
from raybench.outcomes import Outcome
from raybench.prices import per_hour
from raybench.ranking import ABSENT, HIGHER_IS_BETTER, RANK_COLUMNS
from raybench.recognize import PLAIN, Columns
from raybench.results import RESULTS_SCHEMA, load_outcomes, load_results, match_trials
from raybench.tries import charge_search
from raybench.tune_results import is_tune_results, read_tune_results

METRIC_WORDS = frozenset(
    {
        "accuracy", "acc", "loss", "f1", "recall", "precision", "auc", "score", "error", "rank",
        "seconds", "time", "cost", "usd", "price", "bytes", "flops", "parameters", "params", "memory",
        "epoch", "epochs", "iterations", "latency", "rate", "step", "steps", "images",
    },
)  # fmt: skip
"""A column of numbers with one of these words in its name is a metric."""
SETTINGS_WITH_METRIC_WORDS = frozenset({"learning_rate", "dropout_rate", "step_epochs", "warmup_epochs"})
"""Columns that name the strategy all the same."""
READ_COLUMNS = frozenset(HIGHER_IS_BETTER) | frozenset(ABSENT)
PRICED_BY = ("instance_type", "device_share", "gpu_fraction", "cpu_share")
"""What `raybench.cost.reprice` reads beside seconds."""
RUN_COLUMNS = tuple(name for name in ("model", *ABSENT, *HIGHER_IS_BETTER, *PRICED_BY) if name in RESULTS_SCHEMA.names)
"""What is read of the results of a run: each column of a small file takes its time."""
MOST_PERCENT = 100.0
MOSTLY = 0.9
"""Share of accuracies above 1 from which on a column is taken to be in percent: a few are mistakes."""


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
    path = Path(path)
    if path.is_dir():
        return _load_directory(path, columns)
    table = _renamed(read_table(path), columns or Columns(), path)
    history = "epoch" in table and "test_accuracy" not in table
    required = ["model", "epoch", "val_loss", "val_accuracy"] if history else ["model", "test_accuracy"]
    missing = [column for column in required if column not in table]
    if missing:
        raise InputError(
            f"{path}: no column {', '.join(map(repr, missing))}; a results table needs 'model' and 'test_accuracy', a "
            "history table 'model', 'epoch', 'val_loss' and 'val_accuracy'; there are "
            f"{', '.join(map(repr, table))}: name one with --column {missing[0]}=NAME",
        )
    if table.empty:
        raise InputError(f"{path}: no rows; give a table with one row a configuration, seed or epoch")
    checked = _checked(table, path)
    named = _named(checked, path)
    notes = tuple(checked.attrs.get("notes", ()))
    epochs = named if history else None
    if history:
        named = _best_epochs(named)
        notes += (
            "From epochs: val loss is the lowest of any epoch and val accuracy the highest, not of the same epoch.",
        )
    _check_unique(named, path)
    return Source(
        kind=Kind.HISTORY if history else Kind.RESULTS,
        name=path.stem,
        results=named,
        notes=notes,
        history=epochs,
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


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV or Parquet file.

    Raises:
        InputError: it is missing, of another kind, or cannot be read.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such file or folder; give a run directory, or a CSV or Parquet table")
    suffix = path.suffix.lower()
    if suffix not in {".csv", ".parquet"}:
        raise InputError(f"{path}: {path.suffix or 'no suffix'!s} cannot be read; give a .csv or .parquet file")
    try:
        table = pd.read_csv(path) if suffix == ".csv" else pd.read_parquet(path)
    except (ValueError, OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from error
    return table.rename(columns=lambda name: str(name).strip())


def _load_directory(path: Path, columns: Columns | None) -> Source:
    name = path.resolve().name
    if is_tune_results(path):
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


def _renamed(table: pd.DataFrame, columns: Columns, path: Path) -> pd.DataFrame:
    """The table with the columns that a reader named, under the names that raybench knows, and a note of it."""
    for key, name in columns.names.items():
        if name not in table:
            there = ", ".join(map(repr, table))
            raise InputError(f"{path}: --column {key}={name}: there is no such column; there are {there}")
    others = table.drop(columns=[key for key, name in columns.names.items() if key in table and key != name])
    renamed = others.rename(columns={name: key for key, name in columns.names.items()})
    if columns.names:
        renamed.attrs["notes"] = (
            f"Read so: {', '.join(f'{key} from {name}' for key, name in columns.names.items())}.",
        )
    return renamed


def _checked(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The table without published ranks and the like, its metrics being numbers and its accuracies fractions."""
    table = table[[column for column in table.columns if not column.startswith("published_")]].copy()
    in_percent = []
    if table["model"].isna().any():
        raise InputError(f"{path}: row {_row_of(table['model'].isna())}: model is empty; name the model in every row")
    integers = [column for column in ("train_size", "seed", "epoch") if column in table]
    for column in [*(name for name in table.columns if name in HIGHER_IS_BETTER), *integers]:
        numbers = pd.to_numeric(table[column], errors="coerce")
        wrong = numbers.isna() & table[column].notna()
        accepted = "a number"
        if column in integers:
            wrong |= numbers.notna() & (numbers % 1 != 0)
            accepted = "a whole number"
        elif column.endswith("_accuracy"):
            if (numbers.dropna() > 1).mean() >= MOSTLY:
                numbers /= MOST_PERCENT
                accepted = "a percentage from 0 to 100"
                in_percent.append(column)
            else:
                accepted = "a fraction from 0 to 1"
            wrong |= (numbers < 0) | (numbers > 1)
        if wrong.any():
            value = table[column][wrong].iloc[0]
            raise InputError(f"{path}: row {_row_of(wrong)}: {column} is {value!s}; give {accepted}")
        table[column] = numbers.astype("Int64") if column in integers else numbers.astype(float)
    if in_percent:
        table.attrs["notes"] = (*table.attrs.get("notes", ()), f"In percent, and read so: {', '.join(in_percent)}.")
    return table


def _row_of(wrong: pd.Series) -> int:
    """Row of the first True, counted as a reader of the file does, from 1 without the header."""
    return int(wrong.to_numpy().argmax()) + 1


def _named(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The table with a dataset and a strategy in every row."""
    known = {"model", "epoch"}
    if "schema_version" in table:  # rows of a run, written to a file
        known |= set(RESULTS_SCHEMA.names)
    settings = [column for column in table.columns if column not in known and _is_setting(table[column])]
    own = table["strategy"].map(_text) if "strategy" in table else pd.Series("", table.index)
    parts = [own, *(_setting_names(table[column]) for column in settings)]
    names = ["+".join(filter(None, row)) or PLAIN for row in zip(*parts, strict=True)]
    has_names = "strategy" in table or settings
    named = table.drop(columns=settings).assign(strategy=names if has_names else None)
    if "dataset" not in named:
        named["dataset"] = path.stem
    for column in ("dataset", "model", "weights", "trial_id"):
        if column in named:
            named[column] = named[column].map(lambda value: _text(value) or None).astype(object)
    if "seed" in named and named["seed"].isna().any():
        raise InputError(
            f"{path}: row {_row_of(named['seed'].isna())}: seed is empty; give a whole number in every row"
        )
    return named


def _is_setting(column: pd.Series) -> bool:
    name = str(column.name)
    if name in READ_COLUMNS or name in RANK_COLUMNS:
        return False  # a ranking that was written to a file can be ranked again
    numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    is_metric = numeric and not METRIC_WORDS.isdisjoint(name.lower().split("_"))
    return name in SETTINGS_WITH_METRIC_WORDS or not is_metric


def _setting_names(column: pd.Series) -> list[str]:
    """`fine_tuned` where that is true, the value of a text, `dropout=0.5` for a number; nothing where it is not set."""
    name = str(column.name)
    if pd.api.types.is_bool_dtype(column.dropna().infer_objects()):
        return [name if not pd.isna(value) and value else "" for value in column]
    if pd.api.types.is_numeric_dtype(column):
        return ["" if pd.isna(value) else f"{name}={value:g}" for value in column]
    return [_text(value) for value in column]


def _text(value: object) -> str:
    return "" if pd.isna(value) else str(value).strip()  # type: ignore[call-overload]


def _best_epochs(history: pd.DataFrame) -> pd.DataFrame:
    """One row a configuration and seed: lowest val loss, highest val accuracy, epochs, seconds."""
    key = [name for name in ("dataset", "train_size", "model", "weights", "strategy", "seed") if name in history]
    rows = []
    for _, epochs in history.groupby(key, dropna=False, sort=False):
        known = epochs["val_loss"].notna()
        best = epochs.iloc[int(epochs["val_loss"].fillna(math.inf).to_numpy().argmin())]
        row = {name: best[name] for name in [*key, "train_loss"] if name in epochs}
        row |= {
            "val_loss": best["val_loss"],
            "val_accuracy": epochs["val_accuracy"].max(),
            "best_epoch": best["epoch"] if known.any() else pd.NA,
            "epochs_run": epochs["epoch"].max(),
        }
        if "epoch_seconds" in epochs:
            row["train_seconds"] = epochs["epoch_seconds"].sum(min_count=1)
        rows.append(row)
    return pd.DataFrame(rows)


def _check_unique(results: pd.DataFrame, path: Path) -> None:
    key = [name for name in ("dataset", "train_size", "model", "weights", "strategy", "seed") if name in results]
    twice = results.duplicated(key)
    if twice.any():
        first = int(twice.to_numpy().argmax())
        same = results[key].iloc[first]
        label = ", ".join(f"{name} {same[name]}" for name in key if not pd.isna(same[name]))
        raise InputError(
            f"{path}: row {first + 1} repeats a configuration ({label}); tell rows apart by a 'seed' column, or by a "
            "column that names what differs",
        )
