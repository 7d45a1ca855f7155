"""How rows of trials are stored: records in, Arrow tables of fixed columns out.

A record's fields are its columns, in their order; `X | None` is stored as X, and every column can be null.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, get_type_hints

import numpy as np
import pyarrow as pa

from raybench.errors import RunError
from raybench.records import SCHEMA_VERSION, EpochRecord, Status, TrialResult

ARROW_TYPES: dict[Any, pa.DataType] = {
    str: pa.string(),
    Status: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    datetime: pa.timestamp("us", tz="UTC"),
    tuple[float | None, ...]: pa.list_(pa.float64()),
}
"""How the types of a record's fields are stored."""


def _schema_of(record: type) -> pa.Schema:
    hints = get_type_hints(record)
    stored = {hint | None: arrow for hint, arrow in ARROW_TYPES.items()} | ARROW_TYPES
    return pa.schema([(field.name, stored[hints[field.name]]) for field in fields(record)])


RESULTS_SCHEMA = _schema_of(TrialResult)
"""One row a trial; the columns of the contract, in its order."""

HISTORY_SCHEMA = _schema_of(EpochRecord)
"""One row a trial and epoch."""

PREDICTIONS_SCHEMA = pa.schema(
    [
        ("trial_id", pa.string()),
        ("image", pa.string()),
        ("label", pa.int64()),
        ("predicted", pa.int64()),
        ("probabilities", pa.list_(pa.float32())),
    ],
)
"""One row a trial and test image."""

SCHEMAS: dict[str, pa.Schema] = {
    "results": RESULTS_SCHEMA,
    "history": HISTORY_SCHEMA,
    "predictions": PREDICTIONS_SCHEMA,
}
"""By the folder of a run directory that holds the files."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Predictions:
    """What one trial said about every image of the test split."""

    images: tuple[str, ...]
    """Names, n of them, in the order of the arrays."""
    labels: np.ndarray
    """[n] int: index of the true class."""
    predicted: np.ndarray
    """[n] int: index of the class with the highest probability."""
    probabilities: np.ndarray
    """[n, classes] float."""


def schema_of(folder: str, columns: Sequence[str] | None) -> pa.Schema:
    """Return the columns of a folder's files that are asked for, in the files' order; None: all of them."""
    return pa.schema([field for field in SCHEMAS[folder] if columns is None or field.name in columns])


def row_of(record: TrialResult | EpochRecord) -> Mapping[str, Any]:
    """Return a record's fields by name."""
    return {field.name: getattr(record, field.name) for field in fields(record)}


def results_table(results: Sequence[TrialResult]) -> pa.Table:
    """Return one row a trial."""
    return pa.Table.from_pylist([row_of(result) for result in results], schema=RESULTS_SCHEMA)


def history_table(history: Sequence[EpochRecord]) -> pa.Table:
    """Return one row an epoch."""
    return pa.Table.from_pylist([row_of(record) for record in history], schema=HISTORY_SCHEMA)


def predictions_table(trial_id: str, predictions: Predictions) -> pa.Table:
    """Return one row a test image."""
    n = len(predictions.images)
    probabilities = np.ascontiguousarray(predictions.probabilities, dtype=np.float32)
    offsets = np.arange(n + 1, dtype=np.int32) * (probabilities.shape[1] if n else 0)
    columns = [
        pa.array([trial_id] * n, pa.string()),
        pa.array(predictions.images, pa.string()),
        pa.array(np.asarray(predictions.labels, dtype=np.int64)),
        pa.array(np.asarray(predictions.predicted, dtype=np.int64)),
        pa.ListArray.from_arrays(pa.array(offsets), pa.array(probabilities.reshape(-1))),
    ]
    return pa.table(columns, schema=PREDICTIONS_SCHEMA)


def check_version(source: object, table: pa.Table) -> None:
    """Raise `RunError` where a row of results was written by a later raybench."""
    newest = max(table["schema_version"].to_pylist(), default=SCHEMA_VERSION)
    if newest > SCHEMA_VERSION:
        raise RunError(
            f"{source}: results of schema version {newest}, but this raybench reads versions up to {SCHEMA_VERSION}; "
            "read them with the newer raybench that wrote them",
        )
