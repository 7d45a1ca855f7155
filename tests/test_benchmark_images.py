"""The photographs of the benchmarks: ten classes, the same files every time, no digit in two splits."""

from pathlib import Path

import pytest
from PIL import Image

from benchmarks.images import SIDE, photo_folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.jpg")}


def test_splits_have_as_many_photographs_as_asked_for_and_share_none(tmp_path: Path) -> None:
    folder = photo_folder(train=12, val=5, test=4, folder=tmp_path)
    names = {split: [path.name for path in (folder / split).rglob("*.jpg")] for split in ("train", "val", "test")}
    assert {split: len(found) for split, found in names.items()} == {"train": 12, "val": 5, "test": 4}
    assert len({name for found in names.values() for name in found}) == 21
    with Image.open(next((folder / "train").rglob("*.jpg"))) as image:
        assert image.size == (SIDE, SIDE)


def test_the_same_photographs_are_made_again_elsewhere(tmp_path: Path) -> None:
    folders = [photo_folder(train=3, val=1, test=1, folder=tmp_path / name) for name in ("one", "other")]
    assert contents(folders[0]) == contents(folders[1])


def test_photographs_are_made_once(tmp_path: Path) -> None:
    folder = photo_folder(train=3, val=1, test=1, folder=tmp_path)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.jpg")}
    assert photo_folder(train=3, val=1, test=1, folder=tmp_path) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.jpg")} == before


def test_more_photographs_than_digits_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1800 images were asked for, but there are 1797 digits"):
        photo_folder(train=1798, val=1, test=1, folder=tmp_path)
