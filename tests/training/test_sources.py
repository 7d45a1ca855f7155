"""Every kind of source gives its images, labels, classes and splits, on small real files."""

import importlib.util
import inspect
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from torchvision import datasets

from raybench.errors import DataError
from raybench.records import DatasetSpec
from raybench.training.data import ImageData, load_images
from raybench.training.sources.torchvision_sets import TORCHVISION_SETS, debian_fashion_mnist


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYBENCH_CACHE_DIR", str(tmp_path / "cache"))


def load(source: str, root: Path | None = None, image_size: int = 8) -> ImageData:
    spec = DatasetSpec(
        name="tried",
        source=source,
        root=None if root is None else str(root),
        image_size=image_size,
        val_size=None,
        on_bad_image="error",
    )
    return load_images(spec)


def write_image(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (10, 8), (level, level, level)).save(path)


def write_folder(folder: Path, splits: dict[str, dict[str, int]]) -> None:
    """Write images of a level of their own: {split: {class: images}}."""
    level = 0
    for split, classes in splits.items():
        for class_name, images in classes.items():
            for index in range(images):
                write_image(folder / split / class_name / f"{index}.png", level)
                level += 1


def test_digits_has_fixed_stratified_splits() -> None:
    data = load("digits", image_size=8)
    assert data.classes == tuple("0123456789")
    assert [len(data.train), len(data.val), len(data.test or ())] == [1197, 300, 300]
    assert data.warnings == ()
    names = {*data.train.names, *data.val.names, *(data.test.names if data.test else ())}
    assert names == {f"digits/{index}" for index in range(1797)}
    for split in (data.val, data.test):
        assert split is not None
        assert np.ptp(np.bincount(split.labels)) <= 3
    assert data.train.images.min() == 0
    assert data.train.images.max() == 255


def test_digits_keep_their_pixels_and_labels() -> None:
    digits = load_digits()
    data = load("digits", image_size=8)
    for split in (data.train, data.val):
        origin = [int(name.removeprefix("digits/")) for name in split.names]
        assert (split.labels == digits.target[origin]).all()
        assert np.abs(split.images[..., 0] / 255 * 16 - digits.images[origin]).max() < 0.04


def test_imagefolder_reads_a_folder_a_class_and_split(tmp_path: Path) -> None:
    write_folder(
        tmp_path / "pets", {"train": {"dog": 12, "cat": 11}, "val": {"cat": 2, "dog": 3}, "test": {"cat": 1, "dog": 1}}
    )
    data = load(f"imagefolder:{tmp_path / 'pets'}")
    assert data.classes == ("cat", "dog")
    assert data.train.names[0] == "train/cat/0.png"
    assert np.bincount(data.train.labels).tolist() == [11, 12]
    assert np.bincount(data.val.labels).tolist() == [2, 3]
    assert data.test is not None
    assert data.test.names == ("test/cat/0.png", "test/dog/0.png")
    assert data.warnings == ()
    assert data.train.images[0].tolist() == np.full((8, 8, 3), 12).tolist()


def test_imagefolder_is_relative_to_root_and_knows_other_names_of_val(tmp_path: Path) -> None:
    write_folder(tmp_path / "pets", {"train": {"cat": 10, "dog": 10}, "valid": {"cat": 2, "dog": 3}})
    assert load("imagefolder:pets", tmp_path).val.names[0] == "valid/cat/0.png"


def test_the_layout_of_hymenoptera_has_no_test_split(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train": {"ants": 12, "bees": 12}, "val": {"ants": 3, "bees": 3}})
    data = load(f"imagefolder:{tmp_path}")
    assert data.test is None
    assert data.warnings == ("no test split: models are compared on the val split alone",)
    assert data.facts("hymenoptera").test_images is None


def test_imagefolder_searches_folders_below_a_class_and_skips_other_files(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train": {"a": 10, "b": 10}, "val": {"a": 1, "b": 1}, "test": {"a": 1, "b": 1}})
    write_image(tmp_path / "train" / "a" / "more" / "deep.PNG", 200)
    (tmp_path / "train" / "a" / "Thumbs.db").write_text("x")
    (tmp_path / "train" / ".DS_Store").write_text("x")
    (tmp_path / "train" / "a" / ".hidden.png").write_text("x")
    data = load(f"imagefolder:{tmp_path}")
    assert "train/a/more/deep.PNG" in data.train.names
    assert data.warnings == ("files whose names are no image's are ignored: 1, as train/a/Thumbs.db",)


def write_lists(folder: Path, prefix: str, lists: dict[str, list[tuple[str, int]]]) -> None:
    level = 0
    for split, lines in lists.items():
        (folder / f"{prefix}.{split}").write_text("".join(f"{name} {label}\n" for name, label in lines))
        for name, _ in lines:
            write_image(folder / name, level)
            level += 1


THREE_CLASSES = {
    "train": [(f"damage/img {i}.png", i % 3) for i in range(33)],
    "dev": [(f"damage/dev{i}.png", i % 3) for i in range(6)],
    "test": [(f"damage/test{i}.png", i % 3) for i in range(6)],
}


def test_filelist_reads_lines_of_path_and_label(tmp_path: Path) -> None:
    write_lists(tmp_path, "quake", THREE_CLASSES)
    data = load(f"filelist:{tmp_path / 'quake'}")
    assert data.classes == ("0", "1", "2")
    assert data.train.names[:2] == ("damage/img 0.png", "damage/img 1.png")
    assert data.train.labels.tolist() == [i % 3 for i in range(33)]
    assert [len(data.val), len(data.test or ())] == [6, 6]
    assert data.warnings == ()


def test_filelist_takes_class_names_from_a_list_of_their_own(tmp_path: Path) -> None:
    write_lists(tmp_path, "quake", THREE_CLASSES)
    (tmp_path / "quake.classes").write_text("none\nmild\nsevere\n")
    assert load("filelist:quake", tmp_path).classes == ("none", "mild", "severe")


def test_filelist_labels_need_not_begin_at_zero(tmp_path: Path) -> None:
    write_lists(tmp_path, "q", {"train": [(f"{i}.png", 2 + 3 * (i % 2)) for i in range(30)], "val": [("v.png", 5)]})
    data = load(f"filelist:{tmp_path / 'q'}")
    assert data.classes == ("2", "5")
    assert data.val.labels.tolist() == [1]


def test_lists_may_lie_apart_from_the_images(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    write_lists(tmp_path / "images", "q", THREE_CLASSES)
    (tmp_path / "lists").mkdir()
    for path in (tmp_path / "images").glob("q.*"):
        path.rename(tmp_path / "lists" / path.name)
    assert len(load(f"filelist:{tmp_path / 'lists' / 'q'}", tmp_path / "images").train) == 33


needs_debian = pytest.mark.skipif(debian_fashion_mnist() is None, reason="dataset-fashion-mnist is not installed")


@needs_debian
def test_fashion_mnist_is_found_in_debians_package() -> None:
    data = load("torchvision:FashionMNIST", image_size=8)
    assert data.classes[0] == "T-shirt/top"
    assert np.bincount(data.train.labels).tolist() == [5800] * 10
    assert np.bincount(data.val.labels).tolist() == [200] * 10
    assert data.test is not None
    assert np.bincount(data.test.labels).tolist() == [1000] * 10
    assert data.test.names[7] == "test/7"
    assert data.test.labels[:5].tolist() == [9, 2, 1, 1, 6]


def write_idx(path: Path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST", "KMNIST"])
def test_idx_files_in_root_are_read_by_torchvision(name: str, tmp_path: Path) -> None:
    for split, images in (("train", 40), ("t10k", 20)):
        pixels = np.arange(images, dtype=np.uint8)[:, None, None] * np.ones((28, 28), dtype=np.uint8)
        write_idx(tmp_path / name / "raw" / f"{split}-images-idx3-ubyte", pixels)
        write_idx(tmp_path / name / "raw" / f"{split}-labels-idx1-ubyte", np.arange(images) % 10)
    data = load(f"torchvision:{name}", tmp_path)
    assert [len(data.train), len(data.val), len(data.test or ())] == [36, 4, 20]
    origin = np.array([int(name.removeprefix("train/")) for name in data.train.names])
    assert (data.train.images[:, 0, 0, 0] == origin).all()
    assert (data.train.labels == origin % 10).all()
    assert data.test is not None
    assert (data.test.images[3] == 3).all()


def test_sets_that_list_files_are_read_from_them_in_the_order_of_names(tmp_path: Path) -> None:
    for class_name in ("Forest", "River"):
        for index in range(10):
            write_image(tmp_path / "eurosat" / "2750" / class_name / f"{class_name}_{index}.jpg", index)
    data = load("torchvision:EuroSAT", tmp_path)
    assert data.classes == ("Forest", "River")
    assert data.test is None
    names = [*data.train.names, *data.val.names]
    assert min(names) == "eurosat/2750/Forest/Forest_0.jpg"
    assert list(data.train.names) == sorted(data.train.names)
    assert [name.split("/")[2] == "River" for name in data.train.names] == data.train.labels.astype(bool).tolist()


def test_sets_with_three_splits_keep_them(tmp_path: Path) -> None:
    base = tmp_path / "rendered-sst2"
    for split in ("train", "valid", "test"):
        for class_name in ("negative", "positive"):
            for index in range(10):
                write_image(base / split / class_name / f"{index}.png", index)
    data = load("torchvision:RenderedSST2", tmp_path)
    assert [len(data.train), len(data.val), len(data.test or ())] == [20, 20, 20]
    assert data.val.names[0] == "rendered-sst2/valid/negative/0.png"


def test_pixels_that_a_class_holds_in_memory_are_part_of_the_identity(tmp_path: Path) -> None:
    def write(level: int) -> None:
        for split in ("train", "t10k"):
            pixels = np.full((40, 28, 28), level) + np.arange(40)[:, None, None]
            write_idx(tmp_path / "MNIST" / "raw" / f"{split}-images-idx3-ubyte", pixels)
            write_idx(tmp_path / "MNIST" / "raw" / f"{split}-labels-idx1-ubyte", np.arange(40) % 10)

    write(0)
    before = load("torchvision:MNIST", tmp_path)
    write(100)
    after = load("torchvision:MNIST", tmp_path)
    assert before.fingerprint != after.fingerprint
    assert after.train.images.min() >= 100


@pytest.mark.parametrize("name", TORCHVISION_SETS)
def test_every_set_of_the_registry_is_a_class_that_takes_its_arguments(name: str) -> None:
    arguments = TORCHVISION_SETS[name]
    signature = inspect.signature(getattr(datasets, name))
    for keywords in (arguments.train, arguments.val, arguments.test):
        if keywords is not None:
            bound = signature.bind(root="somewhere", **keywords, **({"download": False} if arguments.downloads else {}))
            assert bound.arguments["root"] == "somewhere"


def test_a_set_that_is_not_there_and_cannot_be_downloaded_says_where_it_belongs(tmp_path: Path) -> None:
    # Torchvision knows no place to download this set from: it fails without asking the network.
    with pytest.raises(DataError, match=f"torchvision:StanfordCars is not in {tmp_path}/data .*put the files"):
        load("torchvision:StanfordCars", tmp_path / "data")
    assert not (tmp_path / "data").exists()


CALLABLES = """
import numpy as np
from pathlib import Path
from PIL import Image

def pairs(count, start=0):
    return [(np.full((6, 6), start + i, dtype=np.uint8), i % 2) for i in range(count)]

def arrays():
    return {"train": pairs(30), "val": pairs(6, 100), "test": pairs(4, 200), "classes": ["even", "odd"]}

def only_train():
    return {"train": pairs(30)}

class Shapes:
    def __init__(self, *, root):
        self.train = [(Image.new("L", (9, 7), i), np.int64(i % 2)) for i in range(30)]
        self.val = [(root / f"{i}.png", i % 2) for i in range(4)]
        self.test = None

def paths(root=None):
    return {"train": [(f"{i}.png", i % 2) for i in range(30)]}
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a user's module; its name is its own, since modules stay imported."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "own_datasets_of_a_test.py").write_text(CALLABLES)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "own_datasets_of_a_test", raising=False)
    return folder


@pytest.mark.usefixtures("own_module")
def test_a_callable_returns_arrays_in_a_dictionary() -> None:
    data = load("own_datasets_of_a_test:arrays")
    assert data.classes == ("even", "odd")
    assert [len(data.train), len(data.val), len(data.test or ())] == [30, 6, 4]
    assert data.val.names == tuple(f"val/{index}" for index in range(6))
    assert (data.val.images[5] == 105).all()


@pytest.mark.usefixtures("own_module")
def test_a_callables_classes_and_splits_may_be_left_out() -> None:
    data = load("own_datasets_of_a_test:only_train")
    assert data.classes == ("0", "1")
    assert [len(data.train), len(data.val)] == [27, 3]
    assert data.test is None


@pytest.mark.usefixtures("own_module")
def test_a_callable_that_takes_root_gets_it_and_may_return_an_object(tmp_path: Path) -> None:
    for index in range(4):
        write_image(tmp_path / "root" / f"{index}.png", 50 + index)
    data = load("own_datasets_of_a_test:Shapes", tmp_path / "root")
    assert len(data.train) == 30
    assert (data.train.images[7] == 7).all()
    assert (data.val.images[2] == 52).all()


@pytest.mark.usefixtures("own_module")
def test_a_callables_paths_are_relative_to_root(tmp_path: Path) -> None:
    for index in range(30):
        write_image(tmp_path / "root" / f"{index}.png", index)
    data = load("own_datasets_of_a_test:paths", tmp_path / "root")
    levels = [int(name.removesuffix(".png")) for name in data.train.names]
    assert data.train.images[:, 0, 0, 0].tolist() == levels


def test_huggingface_without_its_extra_says_what_to_install() -> None:
    if importlib.util.find_spec("datasets") is not None:
        pytest.skip("the extra huggingface is installed")
    with pytest.raises(DataError, match=r"pip install 'raybench\[huggingface\]'"):
        load("huggingface:cifar10")


def test_huggingface_reads_a_folder_through_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets", reason="the extra huggingface is not installed")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    write_folder(tmp_path / "hub" / "pets", {"train": {"cat": 12, "dog": 12}, "test": {"cat": 2, "dog": 2}})
    data = load("huggingface:pets", tmp_path / "hub")
    assert data.classes == ("cat", "dog")
    assert [len(data.train), len(data.val), len(data.test or ())] == [22, 2, 4]
    assert data.test is not None
    assert sorted(data.test.images[:, 0, 0, 0].tolist()) == [24, 25, 26, 27]
