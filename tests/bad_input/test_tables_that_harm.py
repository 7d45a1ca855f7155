"""Tables and run directories that are damaged or made to harm: one short message each, and no wrong ranking."""

import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import raybench
from raybench import ledger
from raybench.errors import InputError, RaybenchError, RunError
from raybench.manifest import read_manifest
from raybench.results import load_outcomes, read_trial
from tests.bad_input.material import LONGEST_MESSAGE, SOON_SECONDS
from tests.made_up_run import MadeUp

TABLES: dict[str, tuple[str, str]] = {
    "more cells than names": ("model,test_accuracy\na,0.5,3,4,5\n", "cannot be read"),
    "two columns of a name": ("model,model,test_accuracy\na,b,0.5\n", "two columns are called 'model'"),
    "two columns but for blanks": ("model, model,test_accuracy\na,b,0.5\n", "two columns are called 'model'"),
    "a seed of 100 bits": (f"model,seed,test_accuracy\na,{2**100},0.5\n", "seed is 1267"),
    "a seed of 64 bits": (f"model,seed,test_accuracy\na,{2**64 - 1},0.5\n", "seed is 18446744073709551615"),
    "a size beyond all": ("model,train_size,test_accuracy\na,1e300,0.5\nb,1,0.5\n", "train_size is 1e"),
    "a number without end": (f"model,test_accuracy\na,{'9' * 6000}\n", "test_accuracy is 999"),
    "a giant cell": (f"model,test_accuracy\n{'a' * 1_000_000},0.5\n", "model has more than 10000 characters"),
    "columns without end": (",".join(f"c{i}" for i in range(20_000)) + "\n1\n", "20000 columns"),
    "names without end": (f"{'x' * 100_000},test_accuracy\n1,0.5\n", "no column 'model'"),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_is_made_to_harm_is_one_short_message(name: str, tmp_path: Path) -> None:
    text, says = TABLES[name]
    (tmp_path / "table.csv").write_text(text)
    began = time.monotonic()
    with pytest.raises(InputError, match=says) as raised:
        raybench.rank(tmp_path / "table.csv")
    assert time.monotonic() - began < SOON_SECONDS
    assert len(str(raised.value)) < LONGEST_MESSAGE


MAP = pa.map_(pa.string(), pa.int64())
OTHER_TYPES: dict[str, pa.Array] = {
    "bytes": pa.array([b"\x80", b"\x81"]),
    "lists": pa.array([[1], [2, 3]]),
    "structs": pa.array([{"a": 1}, {"a": 2}]),
    "maps": pa.array([[("a", 1)], [("b", 2)]], MAP),
}


@pytest.mark.parametrize("kind", OTHER_TYPES)
def test_columns_that_hold_no_plain_values_are_not_read(kind: str, tmp_path: Path) -> None:
    plain = {"model": ["a", "b"], "test_accuracy": [0.5, 0.6]}
    pq.write_table(pa.table({**plain, "other": OTHER_TYPES[kind]}), tmp_path / "table.parquet")
    assert raybench.rank(tmp_path / "table.parquet")["model"].tolist() == ["b", "a"]
    pq.write_table(pa.table({"model": OTHER_TYPES[kind], "test_accuracy": [0.5, 0.6]}), tmp_path / "table.parquet")
    with pytest.raises(InputError, match="no column 'model'"):
        raybench.rank(tmp_path / "table.parquet")


def test_dates_are_no_accuracies(tmp_path: Path) -> None:
    dates = pa.array([5, 6], pa.timestamp("us"))
    pq.write_table(pa.table({"model": ["a", "b"], "test_accuracy": dates}), tmp_path / "table.parquet")
    with pytest.raises(InputError, match="test_accuracy is 1970"):
        raybench.rank(tmp_path / "table.parquet")


def test_few_bytes_of_parquet_that_stand_for_many_are_refused(tmp_path: Path) -> None:
    many = pa.DictionaryArray.from_arrays(pa.array(np.zeros(1_200_000, np.int32)), pa.array(["m" * 1000]))
    table = pa.table({"model": many, "test_accuracy": np.full(len(many), 0.5)})
    pq.write_table(table, tmp_path / "table.parquet", store_schema=False)  # read as texts, not as a dictionary
    assert (tmp_path / "table.parquet").stat().st_size < 1e6
    with pytest.raises(InputError, match="holds more than 1073741824 bytes"):
        raybench.rank(tmp_path / "table.parquet")


@pytest.fixture
def a_run(tmp_path: Path) -> Path:
    return MadeUp(images=30).write(tmp_path / "run")


LOADERS: dict[str, Callable[[Path], object]] = {
    "results": raybench.load_results,
    "history": raybench.load_history,
    "predictions": load_outcomes,
}


@pytest.mark.parametrize("folder_name", LOADERS)
def test_a_file_in_the_place_of_another_trials_is_refused(folder_name: str, a_run: Path) -> None:
    first, second = sorted((a_run / folder_name).iterdir())[:2]
    first.write_bytes(second.read_bytes())
    with pytest.raises(RunError, match=f"its rows are of trial {second.stem}") as raised:
        LOADERS[folder_name](a_run)
    row = a_run / "results" / first.name
    which = "it" if first == row else str(row)
    assert str(raised.value).endswith(f"delete {which} to have the trial trained again"), "without its row it is"
    if folder_name != "history":
        with pytest.raises(RunError, match="to have the trial trained again"):
            raybench.rank(a_run)


@pytest.mark.parametrize("folder_name", LOADERS)
def test_a_file_of_another_folder_is_refused(folder_name: str, a_run: Path) -> None:
    name = min((a_run / "results").iterdir()).name
    for other in LOADERS.keys() - {folder_name}:
        whole = (a_run / folder_name / name).read_bytes()
        (a_run / folder_name / name).write_bytes((a_run / other / name).read_bytes())
        with pytest.raises(RunError, match="' is missing"):
            LOADERS[folder_name](a_run)
        (a_run / folder_name / name).write_bytes(whole)


def test_a_number_that_the_disk_changed_is_found(a_run: Path) -> None:
    path = min((a_run / "results").iterdir())
    row = read_trial(a_run, path.stem)
    assert row is not None
    content = path.read_bytes()
    stored = struct.pack("<d", row.test_accuracy)
    assert stored in content
    path.write_bytes(content.replace(stored, struct.pack("<d", 0.99)))
    with pytest.raises(RunError, match=rf"{path.stem}.parquet: cannot be read"):
        raybench.rank(a_run)


def test_a_ledger_that_is_no_text_is_passed_over_line_by_line(a_run: Path) -> None:
    (a_run / ledger.LEDGER).write_bytes(b'\x80\x04\n{"kind": "idle"}\n[1]\n' + b"[" * 100_000 + b"\n")
    assert len(ledger.load(a_run)) == 0


@pytest.mark.parametrize("text", ["[" * 100_000, '{"facts": 3, "created_at": 4, "chosen": 5}'])
def test_a_manifest_of_other_values_is_one_line(text: str, a_run: Path) -> None:
    (a_run / "manifest.json").write_text(text)
    with pytest.raises(RaybenchError, match=r"manifest\.json: cannot be read") as raised:
        read_manifest(a_run)
    assert "\n" not in str(raised.value)


def test_rows_written_before_checksums_are_still_read(a_run: Path) -> None:
    before = raybench.rank(a_run)
    for path in a_run.glob("*/*.parquet"):
        pq.write_table(pq.ParquetFile(path).read(), path, write_statistics=False)
    pd.testing.assert_frame_equal(raybench.rank(a_run), before)
