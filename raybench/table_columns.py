"""The columns of a table that someone else wrote in, what each stands for out: as a reader says, or guessed.

A name that raybench knows means what it means there. The others are recognised by their words, as those of Ray Tune's
results are (`raybench.recognize`), where their values fit. What is left names the strategy, unless it is a metric, a
time, a cost, a row's number or date, or a number that differs in nearly every row: that is not read.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import pandas as pd

from raybench.ranking import ABSENT, HIGHER_IS_BETTER, RANK_COLUMNS
from raybench.recognize import KEYS, METRICS, SETTINGS, TABLE_METRICS, meanings_of, recognize, words_of

IGNORED = "published_"
"""What the names of columns begin with that are there to be looked at."""
OWN = frozenset({*KEYS, *HIGHER_IS_BETTER, *ABSENT, *RANK_COLUMNS})
"""Columns of raybench's own tables, rankings among them: they are never taken for another, nor for a setting."""
AMOUNT_WORDS = frozenset(
    {
        "time", "seconds", "secs", "sec", "minutes", "mins", "hours", "hrs", "duration", "elapsed", "runtime",
        "latency", "cost", "costs", "usd", "dollar", "dollars", "price", "spend", "spent", "eur", "euro", "euros",
        "cents", "energy", "kwh", "joules", "co2", "memory",
    },
)  # fmt: skip
"""A column of numbers with one of these words in its name is a metric, also where the numbers have units."""
METRIC_WORDS = AMOUNT_WORDS | frozenset(
    {
        "accuracy", "acc", "loss", "f1", "recall", "precision", "auc", "score", "error", "rank",
        "bytes", "flops", "parameters", "params", "top1", "top5", "acc1", "acc5",
        "epoch", "epochs", "iterations", "rate", "step", "steps", "images",
    },
)  # fmt: skip
"""A column of numbers with one of these words in its name is a metric."""
SETTINGS_WITH_METRIC_WORDS = tuple(
    map(words_of, ("learning_rate", "dropout_rate", "drop_rate", "step_epochs", "warmup_epochs"))
)
"""Words of columns that name the strategy all the same."""
ROW_NUMBERS = frozenset({"unnamed", "index", "idx", "id", "uuid", "row"})
"""A name of these words alone numbers the rows; pandas calls a column without a name `Unnamed: 0`."""
DATES = frozenset({"date", "datetime", "timestamp"})
HYPERPARAMETERS = frozenset(
    {
        "lr", "learning", "wd", "decay", "dropout", "drop", "momentum", "smoothing", "temperature", "alpha", "beta",
        "gamma", "lambda", "epsilon", "eps", "mixup", "cutmix", "warmup", "ratio", "fraction", "scale", "multiplier",
        "width", "strength", "magnitude", "prob", "probability", "l1", "l2",
    },
)  # fmt: skip
"""A column of numbers with one of these words in its name is a setting, also where a search drew each anew."""
FEWEST_TO_JUDGE = 5
"""Values below which nothing can be said of how many of them differ."""
NEARLY_ALL = 0.9
"""Share of different values from which on fractional numbers are measured, not chosen."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What each column of a table stands for."""

    names: Mapping[str, str]
    """Column of the table by raybench's name, where the two differ."""
    guessed: Collection[str]
    """Which of these names no reader has said."""
    is_history: bool
    """Whether it is a table of epochs."""
    settings: tuple[str, ...]
    """Columns that name the strategy."""
    repeats: tuple[str, ...]
    """Columns that number repeats, beside the one that is read as the seed."""
    left_over: tuple[str, ...]
    """Columns that are not read."""

    def label(self, key: str) -> str:
        """Name of a column in an error: the table's own, and what it was taken for."""
        return f"{self.names[key]} (read as {key})" if key in self.names else key


def read_columns(table: pd.DataFrame, given: Mapping[str, str], own: Collection[str] = ()) -> Reading:
    """Say what the columns of a table stand for.

    Args:
        table: as it was read, its columns' names without blanks around them.
        given: column by raybench's name, where a reader says so; each is there.
        own: names of further columns that are raybench's own.
    """
    there = [str(name) for name in table if not str(name).startswith(IGNORED)]
    fixed = {name: name for name in there if name in KEYS and name not in given and name not in given.values()}
    fixed |= given
    free = [name for name in there if name not in OWN and name not in own and name not in fixed.values()]
    numbers = [name for name in free if is_numeric(table[name])]
    counts = [name for name in free if (column := counted(table[name])) is not None and (column.dropna() >= 0).all()]
    is_history = _is_history(numbers, fixed)
    # Accuracies that are no numbers are taken too: an error then says so, of the column that it is about.
    measures = [name for name in free if name in numbers or "accuracy" in meanings_of(name)]
    found = dict(fixed) | recognize(measures, METRICS if is_history else TABLE_METRICS, fixed)
    fitting = {
        ("dataset", "model", "weights"): free,
        ("strategy",): [name for name in free if name not in numbers and not is_boolean(table[name])],
        ("train_size",): [name for name in counts if name in numbers],
        ("seed",): counts,
    }
    for keys, names in fitting.items():
        untaken = [name for name in names if name not in found.values()]
        found |= recognize(untaken, {key: SETTINGS[key] for key in keys}, found)
    rest = [name for name in free if name not in found.values()]
    repeats = tuple(name for name in rest if name in counts and recognize([name], {"seed": SETTINGS["seed"]}))
    settings = tuple(name for name in rest if name not in repeats and _is_setting(table[name]))
    replaced = [name for name in there if name in given and name not in found.values()]
    return Reading(
        names={key: name for key, name in found.items() if key != name},
        guessed=found.keys() - fixed.keys(),
        is_history=is_history,
        settings=settings,
        repeats=repeats,
        left_over=(*(name for name in rest if name not in (*settings, *repeats)), *replaced),
    )


def _is_history(numbers: Collection[str], fixed: Mapping[str, str]) -> bool:
    """Whether there are epochs, something of validation, and no accuracy of the test split."""
    telling = {key: METRICS[key] for key in ("epoch", "test_accuracy", "val_loss")} | {
        "val_accuracy": ("val accuracy",)
    }
    found = recognize(numbers, telling, fixed)
    return "epoch" in found and "test_accuracy" not in found and not {"val_loss", "val_accuracy"}.isdisjoint(found)


def _is_setting(column: pd.Series) -> bool:
    """Whether a column that nothing else is known of tells configurations apart."""
    words = words_of(str(column.name))
    if words in SETTINGS_WITH_METRIC_WORDS:
        return True
    metric_words = METRIC_WORDS if is_numeric(column) else AMOUNT_WORDS if _holds_numbers(column) else frozenset()
    if words & (metric_words | DATES) or _numbers_rows(words):
        return False
    return bool(words & HYPERPARAMETERS) or not _is_measured(column)


def _numbers_rows(words: frozenset[str]) -> bool:
    names = {word for word in words if not word.isdecimal()}
    return bool(names) and names <= ROW_NUMBERS


def _holds_numbers(column: pd.Series) -> bool:
    """Whether every text has a digit, as `$7.60` and `1:05:00` have."""
    texts = column.dropna()
    return not is_boolean(column) and len(texts) > 0 and bool(texts.astype(str).str.contains(r"\d").all())


def _is_measured(column: pd.Series) -> bool:
    """Whether nearly every row has a fractional number of its own."""
    numbers = column.dropna()
    if not is_numeric(column) or len(numbers) < FEWEST_TO_JUDGE or (numbers % 1 == 0).all():
        return False
    return bool(numbers.nunique() >= NEARLY_ALL * len(numbers))


def is_boolean(column: pd.Series) -> bool:
    """Whether all that a column holds is true or false."""
    return pd.api.types.is_bool_dtype(column.dropna().infer_objects())


def is_numeric(column: pd.Series) -> bool:
    """Whether a column holds numbers; true and false are none."""
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def counted(column: pd.Series) -> pd.Series | None:
    """The whole numbers of a column, or those at the end of its texts: 1 of `run_1`; None where it has others."""
    if is_boolean(column):
        return None
    if is_numeric(column):
        numbers = column.dropna()
        return column if len(numbers) and (numbers % 1 == 0).all() else None
    parts = column.astype(str).str.extract(r"^(\D*?)\s*(\d+)$")
    return parts[1].astype(float) if parts.notna().all(axis=None) and len(set(parts[0])) == 1 else None
