"""`raybench init`: what is seen in a folder, and that the draft is an experiment that loads."""

from pathlib import Path

import pytest
from PIL import Image

from raybench.errors import DataError, ExperimentError
from raybench.experiment import load_experiment
from raybench.starter import look, write_starter

Side = tuple[int, int]


def fill(folder: Path, count: int, size: Side = (96, 72)) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        Image.new("RGB", size, (index % 256, 0, 0)).save(folder / f"{index}.jpg")


@pytest.fixture
def insects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the layout of hymenoptera_data, with the current folder beside it."""
    folder = tmp_path / "insects"
    for split, ants, bees in (("train", 12, 28), ("val", 5, 5)):
        fill(folder / split / "ants", ants)
        fill(folder / split / "bees", bees, (200, 150))
    monkeypatch.chdir(tmp_path)
    return folder


def write_lists(folder: Path, prefix: str) -> None:
    fill(folder / "images", 9)
    for split, count in (("train", 9), ("dev", 3), ("test", 3)):
        lines = [f"images/{index}.jpg {index % 3}" for index in range(count)]
        (folder / f"{prefix}.{split}").write_text("\n".join(lines) + "\n")


def test_draft_loads_as_an_experiment(insects: Path) -> None:
    path = write_starter(insects)
    experiment = load_experiment(path)
    (dataset,) = experiment.datasets
    assert path == Path("insects.yaml")
    assert (experiment.name, dataset.name, dataset.source) == ("insects", "insects", f"imagefolder:{insects}")
    assert dataset.train_sizes == [10, 20, "all"]
    assert dataset.image_size == 128
    assert experiment.seeds == [0, 1, 2]
    assert len(experiment.strategies) * len(experiment.models) >= 4


def test_draft_says_what_was_seen(insects: Path) -> None:
    text = write_starter(insects).read_text()
    assert "2 classes, with their training images: ants (12), bees (28)" in text
    assert "40 train, 10 val, no test split: val accuracy ranks" in text
    assert "shorter sides of 40 images: 72 to 150 pixels, median 150" in text
    assert "imbalanced: 28 training images in the largest class, 12 in the smallest" in text
    assert "class_weights: balanced" in text


def test_relative_folder_stays_relative_and_loads_from_the_same_place(insects: Path) -> None:
    text = write_starter(Path("insects")).read_text()
    assert "source: imagefolder:insects\n" in text
    assert load_experiment(Path("insects.yaml")).datasets[0].source == f"imagefolder:{insects}"


def test_file_that_is_there_is_never_overwritten(insects: Path) -> None:
    Path("insects.yaml").write_text("mine")
    with pytest.raises(ExperimentError, match=r"insects\.yaml: is there already"):
        write_starter(insects)
    assert Path("insects.yaml").read_text() == "mine"


def test_place_that_cannot_be_written_is_named(insects: Path) -> None:
    with pytest.raises(ExperimentError, match=r"nowhere/mine\.yaml: cannot be written"):
        write_starter(insects, Path("nowhere/mine.yaml"))


def test_without_val_split_a_part_of_train_is_counted_as_set_aside(tmp_path: Path) -> None:
    fill(tmp_path / "train" / "a", 40)
    fill(tmp_path / "train" / "b", 40)
    fill(tmp_path / "test" / "a", 2)
    fill(tmp_path / "test" / "b", 2)
    (sighting,) = look(tmp_path)
    text = write_starter(tmp_path, tmp_path / "x.yaml").read_text()
    assert sighting.train_sizes == (18, 36, "all")
    assert "80 train, no val split (8 set aside), 4 test images" in text
    assert "imbalanced" not in text


def test_file_lists_are_seen_by_folder_and_by_prefix(tmp_path: Path) -> None:
    write_lists(tmp_path, "ruby")
    by_folder, by_prefix = look(tmp_path), look(tmp_path / "ruby")
    assert by_folder == by_prefix
    assert (by_folder[0].source, by_folder[0].class_counts) == (f"filelist:{tmp_path / 'ruby'}", (3, 3, 3))
    assert (by_folder[0].val_images, by_folder[0].test_images) == (3, 3)
    experiment = load_experiment(write_starter(tmp_path / "ruby", tmp_path / "x.yaml"))
    assert experiment.datasets[0].source == f"filelist:{tmp_path / 'ruby'}"


def test_every_prefix_in_a_folder_becomes_a_dataset(tmp_path: Path) -> None:
    for prefix in ("ruby", "nepal"):
        write_lists(tmp_path, prefix)
    experiment = load_experiment(write_starter(tmp_path, tmp_path / "x.yaml"))
    assert [dataset.name for dataset in experiment.datasets] == ["nepal", "ruby"]


def test_small_images_get_networks_made_for_them(tmp_path: Path) -> None:
    for label in ("a", "b"):
        fill(tmp_path / "train" / label, 10, (28, 28))
    experiment = load_experiment(write_starter(tmp_path, tmp_path / "x.yaml"))
    assert experiment.datasets[0].image_size == 32
    assert [model.name for model in experiment.models] == ["resnet8", "resnet20"]
    assert experiment.weights == ["random", "packaged"]


def test_sizes_too_small_for_their_classes_are_left_out(tmp_path: Path) -> None:
    for label in "abcde":
        fill(tmp_path / "train" / label, 6)
    assert look(tmp_path)[0].train_sizes == (13, "all")


def test_unreadable_images_are_counted_and_skipped(tmp_path: Path) -> None:
    for label in ("a", "b"):
        fill(tmp_path / "train" / label, 10)
    (tmp_path / "train" / "a" / "broken.jpg").write_text("no image")
    path = write_starter(tmp_path, tmp_path / "x.yaml")
    assert "1 of 21 images looked at could not be read, such as train/a/broken.jpg" in path.read_text()
    assert load_experiment(path).datasets[0].on_bad_image == "skip"


def test_classes_with_few_images_are_named(tmp_path: Path) -> None:
    fill(tmp_path / "train" / "common", 30)
    fill(tmp_path / "train" / "rare", 3)
    assert "under 10 training images: rare" in write_starter(tmp_path, tmp_path / "x.yaml").read_text()


@pytest.mark.parametrize("name", ["a folder: with # signs", "no", "3.5", "-", "ünïcode", "1e5"])
def test_any_folder_name_gives_a_draft_that_loads(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    for label in ("a: #1", "b\nsecond line"):
        fill(folder / "train" / label, 2)
    experiment = load_experiment(write_starter(folder, tmp_path / "x.yaml"))
    assert experiment.datasets[0].source == f"imagefolder:{folder}"
    assert experiment.name


def test_class_folders_without_train_are_told_where_to_go(tmp_path: Path) -> None:
    for label in ("ants", "bees"):
        fill(tmp_path / label, 1)
    with pytest.raises(DataError, match=r"\(ants, bees\) but no train/; move them into .*train"):
        look(tmp_path)


@pytest.mark.parametrize("make", [True, False])
def test_missing_and_empty_folders_say_what_is_expected(tmp_path: Path, make: bool) -> None:
    folder = tmp_path / "photos"
    if make:
        folder.mkdir()
    with pytest.raises(DataError, match=r"photos: .*expected train/CLASS/IMAGE"):
        write_starter(folder, tmp_path / "x.yaml")
    assert not (tmp_path / "x.yaml").exists()


def test_one_class_only_is_refused(tmp_path: Path) -> None:
    fill(tmp_path / "train" / "ants", 3)
    with pytest.raises(DataError, match="one class only, 'ants'"):
        look(tmp_path)


def test_large_sets_are_sampled(tmp_path: Path) -> None:
    for label in ("a", "b"):
        fill(tmp_path / "train" / label, 150, (40, 40))
    (sighting,) = look(tmp_path)
    assert len(sighting.sides) == 200
    assert sighting.image_size == 32
