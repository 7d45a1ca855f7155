"""Rows of one table in, those of another that agree with them out: a configuration's trials, a trial's epochs."""

from collections.abc import Sequence

import pandas as pd

from raybench.formats import is_missing
from raybench.ranking import CONFIGURATION


def trials_of(results: pd.DataFrame, row: pd.Series, columns: Sequence[str] = CONFIGURATION) -> pd.DataFrame:
    """The trials that agree with a row of a ranking in these columns: by default those of its configuration."""
    same = pd.Series(data=True, index=results.index)
    for name in columns:
        if name in results:
            same &= results[name].isna() if is_missing(row[name]) else results[name].eq(row[name]).fillna(value=False)
    return results[same.astype(bool)]


class TrialsByRow:
    """The same as `trials_of` for many rows of one ranking: a table is looked through once."""

    def __init__(self, table: pd.DataFrame, columns: Sequence[str] = CONFIGURATION) -> None:
        self._table = table
        self._columns = [name for name in columns if name in table]
        keys = [table[name].astype(object).where(table[name].notna(), None).tolist() for name in self._columns]
        places: dict[tuple[object, ...], list[int]] = {}
        for place, key in enumerate(zip(*keys, strict=True) if keys else [()] * len(table)):
            places.setdefault(key, []).append(place)
        self._places = places

    def of(self, row: pd.Series) -> pd.DataFrame:
        """Return the rows of the table that agree with a row of a ranking."""
        key = tuple(None if is_missing(row[name]) else row[name] for name in self._columns)
        return self._table.iloc[self._places.get(key, [])]
