"""Rows that many processes fill: whole or absent, whatever happens to the files."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raybench.training.feature_rows import MemoryRows, StoredRows

ROWS, WIDTH = 40, 24


def numbers(rows: int = ROWS, width: int = WIDTH) -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((rows, width)).astype(np.float32)


def at(*positions: int) -> npt.NDArray[np.int64]:
    return np.array(positions, dtype=np.int64)


@pytest.fixture(params=["memory", "files"])
def rows(request: pytest.FixtureRequest, tmp_path: Path) -> MemoryRows:
    return MemoryRows(ROWS, WIDTH) if request.param == "memory" else StoredRows(tmp_path, ROWS, WIDTH)


def test_rows_are_missing_until_they_are_written(rows: MemoryRows) -> None:
    wanted = at(7, 3, 3, 39)
    assert rows.missing(wanted).tolist() == [7, 3, 3, 39]
    rows.write(at(3, 39), numbers()[[3, 39]])
    assert rows.missing(wanted).tolist() == [7]
    assert rows.unfilled().tolist() == [*range(3), *range(4, 39)]
    np.testing.assert_array_equal(rows.values[[3, 39]], numbers()[[3, 39]])
    assert rows.in_memory().missing(wanted).tolist() == [7]


def test_a_row_of_zeros_is_told_from_a_hole(rows: MemoryRows) -> None:
    rows.write(at(5), np.zeros((1, WIDTH), dtype=np.float32))
    assert rows.missing(at(4, 5)).tolist() == [4]


def test_what_one_writes_others_find_without_opening_the_files_again(tmp_path: Path) -> None:
    writer, reader = StoredRows(tmp_path, ROWS, WIDTH), StoredRows(tmp_path, ROWS, WIDTH)
    assert reader.is_empty()
    assert reader.missing(at(2, 8)).tolist() == [2, 8]
    writer.write(at(8), numbers()[[8]])
    assert reader.missing(at(2, 8)).tolist() == [2]
    np.testing.assert_array_equal(reader.values[8], numbers()[8])
    assert StoredRows(tmp_path, ROWS, WIDTH).missing(at(8)).tolist() == []
    assert not reader.is_empty()


@settings(max_examples=50, deadline=None)
@given(byte=st.integers(0, WIDTH * 4 - 1), bit=st.integers(0, 7))
def test_a_row_with_one_wrong_bit_is_absent(byte: int, bit: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("rows")
    StoredRows(folder, ROWS, WIDTH).write(at(0, 1), numbers()[:2])
    with (folder / "rows.f32").open("r+b") as file:
        file.seek(WIDTH * 4 + byte)
        before = file.read(1)[0]
        file.seek(WIDTH * 4 + byte)
        file.write(bytes([before ^ 1 << bit]))
    assert StoredRows(folder, ROWS, WIDTH).missing(at(0, 1)).tolist() == [1]


@pytest.mark.parametrize(("name", "item_bytes"), [("rows.f32", WIDTH * 4), ("rows.sums", 8)])
def test_a_row_is_absent_where_the_disk_lost_its_numbers_or_its_checksum(
    name: str, item_bytes: int, tmp_path: Path
) -> None:
    StoredRows(tmp_path, ROWS, WIDTH).write(at(0, 1), numbers()[:2])
    with (tmp_path / name).open("r+b") as file:
        file.seek(item_bytes)
        file.write(bytes(item_bytes))
    damaged = StoredRows(tmp_path, ROWS, WIDTH)
    assert damaged.missing(at(0, 1)).tolist() == [1]
    damaged.write(at(1), numbers()[[1]])
    assert StoredRows(tmp_path, ROWS, WIDTH).missing(at(0, 1)).tolist() == []


def test_a_file_that_was_cut_short_lacks_the_rows_that_it_lost(tmp_path: Path) -> None:
    StoredRows(tmp_path, ROWS, WIDTH).write(at(0, 39), numbers()[[0, 39]])
    with (tmp_path / "rows.f32").open("r+b") as file:
        file.truncate(WIDTH * 4)
    assert StoredRows(tmp_path, ROWS, WIDTH).missing(at(0, 39)).tolist() == [39]


def test_only_rows_that_are_filled_take_space(tmp_path: Path) -> None:
    many = StoredRows(tmp_path, 100_000, 512)
    many.write(at(70_000), numbers(1, 512))
    assert many.file_bytes > 200_000_000
    assert sum(path.stat().st_blocks * 512 for path in tmp_path.iterdir()) < 1_000_000


def test_rows_that_others_have_begun_are_passed_over_until_that_lapses(tmp_path: Path) -> None:
    mine, others = StoredRows(tmp_path, ROWS, WIDTH), StoredRows(tmp_path, ROWS, WIDTH)
    others.begin(at(1, 2))
    assert mine.unbegun(at(0, 1, 2, 3), lapse_seconds=60).tolist() == [0, 3]
    assert mine.unbegun(at(0, 1, 2, 3), lapse_seconds=0).tolist() == [0, 1, 2, 3]
