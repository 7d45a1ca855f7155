"""Decoded images stay within the limit of the cache: older ones go, those in use stay, what cannot fit is an error."""

import gc
from pathlib import Path

import pytest
from PIL import Image

from raybench.cache import State, entries
from raybench.errors import DataError
from raybench.eviction import clear
from raybench.experiment import load_experiment
from raybench.records import DatasetSpec
from raybench.training import preflight
from raybench.training.data import ImageData, load_images

CLASSES, IMAGES, SIDE = 2, 40, 32
BLOCK = 4096

EXPERIMENT = """
name: small
datasets: [{name: a, source: 'imagefolder:a', image_size: 32}, {name: b, source: 'imagefolder:b', image_size: 32}]
models: [resnet8]
strategies: [linear-probe]
"""


def photos(folder: Path, shade: int) -> Path:
    """Write an imagefolder of images that no other shade has."""
    for split in ("train", "val", "test"):
        for label in range(CLASSES):
            place = folder / split / f"class{label}"
            place.mkdir(parents=True)
            for index in range(IMAGES):
                Image.new("L", (SIDE, SIDE), (shade + index) % 256).save(place / f"{index:02}.png")
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder of this test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAYBENCH_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def spec(folder: Path) -> DatasetSpec:
    return DatasetSpec(
        name=folder.name,
        source=f"imagefolder:{folder}",
        root=None,
        image_size=SIDE,
        val_size=None,
        on_bad_image="error",
    )


def load(folder: Path, limit_bytes: int | None = None) -> ImageData:
    return load_images(spec(folder), limit_bytes=limit_bytes)


def size_of_one(cache: Path, folder: Path) -> int:
    """Return what the decoded images of a folder take, which is then gone again."""
    load(folder)
    gc.collect()
    (entry,) = entries(cache)
    clear(cache)
    return entry.disk_bytes


def names(cache: Path) -> set[str]:
    return {str((entry.description or {})["dataset"]) for entry in entries(cache)}


def test_decoded_images_say_what_they_are_and_are_in_use_while_they_are_held(cache: Path) -> None:
    images = load(photos(Path("a"), 0))
    (entry,) = entries(cache)
    assert entry.state is State.IN_USE
    assert entry.description is not None
    assert entry.description["dataset"] == "a"
    assert entry.description["images"] == 3 * CLASSES * IMAGES
    assert [kept.entry.key for kept in clear(cache).kept] == [entry.key]
    del images
    gc.collect()
    assert [entry.state for entry in entries(cache)] == [State.WHOLE]


def test_those_used_longest_ago_make_room_for_new_ones(cache: Path) -> None:
    first, second, third = (photos(Path(name), shade) for name, shade in (("a", 0), ("b", 60), ("c", 120)))
    limit = 2 * size_of_one(cache, first) + BLOCK
    for folder in (first, second, first, third):
        load(folder, limit)
        gc.collect()
    assert names(cache) == {"a", "c"}


def test_those_in_use_stay_and_what_finds_no_room_beside_them_is_an_error(cache: Path) -> None:
    first, second = photos(Path("a"), 0), photos(Path("b"), 60)
    limit = size_of_one(cache, first) + BLOCK
    held = load(first, limit)
    with pytest.raises(DataError, match=r"dataset 'b': .* cache_limit_gb: .* beside .* in use; give 0\.00\d+ or more"):
        load(second, limit)
    assert names(cache) == {"a"}
    assert [path.name for path in (cache / "images").iterdir() if path.suffix not in {"", ".lock"}] == []
    assert len(held.train) == CLASSES * IMAGES


def test_clearing_the_cache_while_images_are_decoded_leaves_them_alone(cache: Path) -> None:
    folder = photos(Path("a"), 0)
    left: list[str] = []

    def clear_now(done: int, total: int) -> None:
        if done == total // 2:
            left.extend(kept.reason for kept in clear(cache).kept)

    images = load_images(spec(folder), progress=clear_now)
    assert left == ["a process uses it"]
    assert len(images.train) == CLASSES * IMAGES
    assert names(cache) == {"a"}


class InterruptError(Exception):
    """Stands for Ctrl-C in the middle of a build."""


def test_an_interrupted_build_is_gone_once_the_cache_is_cleared(cache: Path) -> None:
    folder = photos(Path("a"), 0)

    def interrupt(done: int, total: int) -> None:
        if done == total // 2:
            raise InterruptError

    with pytest.raises(InterruptError):
        load_images(spec(folder), progress=interrupt)
    gc.collect()
    assert [entry.state for entry in entries(cache)] == [State.PARTIAL]
    assert len(clear(cache).removed) == 1
    assert list((cache / "images").iterdir()) == []
    assert len(load(folder).train) == CLASSES * IMAGES


def experiment(cache: Path, limit_bytes: int) -> None:
    file = cache.parent / "small.yaml"
    file.write_text(EXPERIMENT)
    preflight.check(load_experiment(file, [f"cache_limit_gb={limit_bytes / 1e9:.9f}"]), "small.yaml")


def test_an_experiment_whose_images_cannot_all_lie_in_the_cache_is_refused_before_any_is_decoded(cache: Path) -> None:
    one = size_of_one(cache, photos(Path("a"), 0))
    photos(Path("b"), 60)
    with pytest.raises(DataError, match=r"^small.yaml: the decoded images take .*, and cache_limit_gb: .*; give "):
        experiment(cache, one + BLOCK)
    assert entries(cache) == []
    experiment(cache, 2 * one + 2 * BLOCK)
    assert names(cache) == {"a", "b"}


def test_a_lower_limit_than_before_is_kept_too(cache: Path) -> None:
    for name, shade in (("a", 0), ("b", 60), ("c", 120)):
        load(photos(Path(name), shade))
        gc.collect()
    one = entries(cache)[0].disk_bytes
    experiment(cache, 2 * one + BLOCK)
    assert names(cache) == {"a", "b"}
