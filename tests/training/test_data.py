"""Splits are set aside the same way for every seed, identities follow the images, and what misleads is told."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from raybench.records import DatasetSpec
from raybench.training.data import ImageData, load_images


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYBENCH_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes in three splits, every image of its own grey level."""
    splits = {"train": {"cat": 20, "dog": 40}, "val": {"cat": 3, "dog": 6}, "test": {"cat": 3, "dog": 6}}
    level = 0
    for split, classes in splits.items():
        for class_name, images in classes.items():
            for index in range(images):
                write_image(tmp_path / "pets" / split / class_name / f"{index:02}.png", level)
                level += 1
    return tmp_path / "pets"


def write_image(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (9, 9), level).save(path)


def spec_of(folder: Path) -> DatasetSpec:
    return DatasetSpec(
        name="pets",
        source=f"imagefolder:{folder}",
        root=None,
        image_size=8,
        val_size=None,
        on_bad_image="error",
    )


def load(folder: Path, **changes: object) -> ImageData:
    return load_images(replace(spec_of(folder), **changes))  # type: ignore[arg-type]


def test_images_labels_and_names_of_a_split_belong_together(folder: Path) -> None:
    data = load(folder)
    for split in (data.train, data.val, data.test):
        assert split is not None
        assert split.images.shape == (len(split), 8, 8, 3)
        assert split.images.dtype == np.uint8
        assert split.labels.dtype == np.int64
        for image, label, name in zip(split.images, split.labels, split.names, strict=True):
            with Image.open(folder / name) as stored:
                assert (image == stored.getpixel((0, 0))).all()
            assert data.classes[label] == Path(name).parent.name


def test_a_batch_becomes_a_tensor_without_touching_the_cache(folder: Path) -> None:
    data = load(folder)
    batch = torch.from_numpy(data.train.images[np.array([3, 1])])
    batch += 1
    assert batch.shape == (2, 8, 8, 3)
    torch.from_numpy(data.train.images)[:] = 0
    assert load(folder).train.images.max() > 0


def test_without_a_val_split_a_stratified_tenth_of_train_is_set_aside(folder: Path) -> None:
    shutil.rmtree(folder / "val")
    data = load(folder)
    assert [len(data.train), len(data.val)] == [54, 6]
    assert np.bincount(data.val.labels).tolist() == [2, 4]
    assert not {*data.train.names} & {*data.val.names}
    assert list(data.train.names) == sorted(data.train.names)
    assert "no val split: 6 of the 60 training images are set aside; val_size changes that" in data.warnings
    assert data.val.names == load(folder).val.names


def test_val_size_says_how_many_are_set_aside(folder: Path) -> None:
    shutil.rmtree(folder / "val")
    data = load(folder, val_size=9)
    assert [len(data.train), len(data.val)] == [51, 9]


def test_every_class_keeps_a_training_image_however_many_are_set_aside(folder: Path) -> None:
    shutil.rmtree(folder / "val")
    assert np.bincount(load(folder, val_size=58).train.labels).tolist() == [1, 1]


def test_val_size_is_ignored_with_a_warning_where_there_is_a_val_split(folder: Path) -> None:
    data = load(folder, val_size=5)
    assert len(data.val) == 9
    assert data.warnings == ("val_size 5 is ignored: the source has a val split of 9 images",)
    assert data.fingerprint == load(folder).fingerprint


def test_the_fingerprint_stays_where_only_place_and_time_change(folder: Path, tmp_path: Path) -> None:
    before = load(folder).fingerprint
    shutil.copytree(folder, tmp_path / "elsewhere")
    for path in (tmp_path / "elsewhere").rglob("*.png"):
        os.utime(path, ns=(1, 1))
    assert load(tmp_path / "elsewhere").fingerprint == before


def rename(folder: Path) -> None:
    (folder / "train/cat/00.png").rename(folder / "train/cat/99.png")


def relabel(folder: Path) -> None:
    (folder / "train/cat/00.png").rename(folder / "train/dog/99.png")


def resize(folder: Path) -> None:
    path = folder / "train/cat/00.png"
    path.write_bytes(path.read_bytes() + b"\0")


def move_to_test(folder: Path) -> None:
    (folder / "train/cat/00.png").rename(folder / "test/cat/99.png")


@pytest.mark.parametrize("change", [rename, relabel, resize, move_to_test])
def test_the_fingerprint_changes_with_the_images(change: Callable[[Path], None], folder: Path) -> None:
    before = load(folder).fingerprint
    change(folder)
    assert load(folder).fingerprint != before


def test_the_fingerprint_changes_with_image_size_and_val_size(folder: Path) -> None:
    shutil.rmtree(folder / "val")
    prints = {load(folder).fingerprint, load(folder, image_size=9).fingerprint, load(folder, val_size=7).fingerprint}
    assert len(prints) == 3


def test_images_that_stand_in_two_splits_are_counted_and_one_pair_is_named(folder: Path) -> None:
    for index in (4, 5):
        shutil.copy(folder / f"train/cat/0{index}.png", folder / f"test/cat/copy{index}.png")
    shutil.copy(folder / "val/dog/00.png", folder / "test/dog/copy.png")
    assert load(folder).warnings == (
        "images of test that are also in train: 2, as test/cat/copy4.png = train/cat/04.png",
        "images of test that are also in val: 1, as test/dog/copy.png = val/dog/00.png",
    )
    assert load(folder).warnings == load(folder).warnings


def test_copies_inside_one_split_are_no_leak(folder: Path) -> None:
    shutil.copy(folder / "train/cat/00.png", folder / "train/cat/copy.png")
    assert load(folder).warnings == ()


def test_classes_under_ten_training_images_are_named(folder: Path) -> None:
    for index in range(9):
        write_image(folder / "train" / "rare" / f"{index}.png", 200 + index)
    assert load(folder).warnings == (
        "classes under 10 training images: rare (9)",
        "the val split has no images of 1 of the 3 classes",
        "the test split has no images of 1 of the 3 classes",
    )


def test_facts_count_images_and_classes(folder: Path) -> None:
    facts = load(folder).facts("mine")
    assert facts.name == "mine"
    assert facts.classes == ("cat", "dog")
    assert (facts.train_images, facts.val_images, facts.test_images) == (60, 9, 9)
    assert facts.train_class_counts == (20, 40)


def test_unreadable_images_are_skipped_and_counted_on_request(folder: Path) -> None:
    whole = load(folder)
    (folder / "train/dog/07.png").write_text("no image")
    (folder / "test/cat/01.png").write_bytes(b"")
    data = load(folder, on_bad_image="skip")
    assert data.skipped == ("train/dog/07.png", "test/cat/01.png")
    assert data.facts("pets").skipped_images == data.skipped
    assert "unreadable images left out: 2, as train/dog/07.png" in data.warnings
    assert len(data.train) == len(whole.train) - 1
    for image, name in zip(data.train.images, data.train.names, strict=True):
        assert (image == whole.train.images[whole.train.names.index(name)]).all()


def test_skipped_images_are_no_part_of_the_fingerprint(folder: Path) -> None:
    (folder / "train/dog/07.png").write_text("no image")
    skipping = load(folder, on_bad_image="skip").fingerprint
    (folder / "train/dog/07.png").unlink()
    assert load(folder).fingerprint == skipping
