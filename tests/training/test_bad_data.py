"""Whatever is wrong with data ends in one `DataError` that names it and says what would do; nothing is written."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from raybench.errors import DataError
from raybench.records import DatasetSpec
from raybench.training.data import load_images


def image(path: Path, level: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), level).save(path)


def folder(base: Path, *names: str) -> None:
    for level, name in enumerate(names):
        image(base / name, level)


TWO_CLASSES = [f"{split}/{c}/{i}.png" for split in ("train", "val", "test") for c in "ab" for i in range(3)]


def two_classes(base: Path) -> None:
    folder(base, *TWO_CLASSES)


def with_empty_class(base: Path) -> None:
    two_classes(base)
    (base / "train" / "c").mkdir()


def with_empty_test(base: Path) -> None:
    folder(base, "train/a/0.png", "train/b/0.png")
    (base / "test" / "a").mkdir(parents=True)


def lists(base: Path, **texts: str) -> None:
    folder(base, *(f"{index}.png" for index in range(4)))
    for split, text in texts.items():
        (base / f"x.{split}").write_text(text)


GOOD = "0.png 0\n1.png 1\n2.png 0\n3.png 1\n"


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    source: str
    message: str
    make: Callable[[Path], object] = two_classes
    root: bool = True
    val_size: int | None = None
    on_bad_image: str = "error"


def text_named_jpg(base: Path) -> None:
    two_classes(base)
    (base / "train/b/9.jpg").write_text("no image")


def all_unreadable(base: Path) -> None:
    two_classes(base)
    for path in (base / "test").rglob("*.png"):
        path.write_text("no image")


def class_unreadable(base: Path) -> None:
    two_classes(base)
    for path in (base / "train/b").rglob("*.png"):
        path.write_text("no image")


def module(text: str) -> Callable[[Path], object]:
    return lambda base: (base / "bad_datasets_of_a_test.py").write_text(text)


def one_image_a_class(base: Path) -> None:
    folder(base, "train/a/0.png", "train/b/0.png")


FOLDERS = {
    "unknown source": Case(
        source="kaggle:cats and dogs", message="source 'kaggle:cats and dogs' is unknown; give digits,"
    ),
    "no source": Case(source="", message="source '' is unknown"),
    "folder source without folder": Case(source="imagefolder:", message="source 'imagefolder:' is unknown"),
    "digits with an argument": Case(source="digits:3", message="source 'digits:3' is unknown"),
    "missing folder": Case(source="imagefolder:nowhere", message=r"no folder .*nowhere; expected train/CLASS/IMAGE"),
    "empty folder": Case(
        source="imagefolder:.", make=lambda _: None, message="has no folder train; expected train/CLASS"
    ),
    "class folders without splits": Case(
        source="imagefolder:.", make=lambda b: folder(b, "a/0.png", "b/0.png"), message="has no folder train; expected"
    ),
    "empty train": Case(source="imagefolder:.", make=lambda b: (b / "train").mkdir(), message="train has no images"),
    "images without class folders": Case(
        source="imagefolder:.",
        make=lambda b: folder(b, "train/0.png"),
        message="train has no images; expected train/CLASS",
    ),
    "one class": Case(
        source="imagefolder:.", make=lambda b: folder(b, "train/a/0.png"), message="only the class 'a'; .* two classes"
    ),
    "empty class": Case(
        source="imagefolder:.",
        make=with_empty_class,
        message="class 'c' has no images in the train split; add some or remove the class",
    ),
    "empty test": Case(
        source="imagefolder:.",
        make=with_empty_test,
        message="test has no images",
    ),
    "class of test unknown in train": Case(
        source="imagefolder:.",
        make=lambda b: folder(b, *TWO_CLASSES, "test/z/0.png"),
        message="test has the class 'z', which train/ has not; it has a, b",
    ),
    "two val splits": Case(
        source="imagefolder:.",
        make=lambda b: folder(b, *TWO_CLASSES, "dev/a/0.png"),
        message="more than one val split: val, dev",
    ),
    "text file named jpg": Case(
        source="imagefolder:.",
        make=text_named_jpg,
        message=r"train/b/9.jpg \(train split\) cannot be read: not an image .* on_bad_image: skip",
    ),
    "no readable image in a split": Case(
        source="imagefolder:.",
        make=all_unreadable,
        on_bad_image="skip",
        message="none of the 6 images of the test split",
    ),
    "no readable image in a class": Case(
        source="imagefolder:.", make=class_unreadable, on_bad_image="skip", message="class 'b' has no readable images"
    ),
    "too few for a val split": Case(
        source="imagefolder:.",
        make=one_image_a_class,
        message="2 training images of 2 classes are too few to set a val",
    ),
    "val_size too large": Case(
        source="imagefolder:.",
        make=lambda b: folder(b, *(f"train/{c}/{i}.png" for c in "ab" for i in range(5))),
        val_size=9,
        message="val_size 9 cannot be set aside from 10 .*; give a number from 1 to 8",
    ),
}

LISTS = {
    "missing list": Case(source="filelist:nothing", message=r"no file list; looked for .*nothing\.train"),
    "empty list": Case(source="filelist:x", make=lambda b: lists(b, train="\n"), message=r"x\.train is empty"),
    "no label": Case(
        source="filelist:x",
        make=lambda b: lists(b, train=GOOD + "4.png\n"),
        message=r"x\.train line 5: '4.png' is no path",
    ),
    "label is no integer": Case(
        source="filelist:x",
        make=lambda b: lists(b, train="0.png 0\n\n1.png mild\n"),
        message=r"x\.train line 3: 'mild' is no label; expected .* an integer",
    ),
    "negative label": Case(
        source="filelist:x", make=lambda b: lists(b, train="0.png 0\n1.png -1\n"), message="line 2: '-1' is no label"
    ),
    "fractional label": Case(
        source="filelist:x", make=lambda b: lists(b, train="0.png 0\n1.png 1.0\n"), message="line 2: '1.0' is no label"
    ),
    "label out of range of the classes": Case(
        source="filelist:x",
        make=lambda b: lists(b, train=GOOD + "0.png 2\n", classes="a\nb\n"),
        message=r"x\.train line 5: label 2 is out of range; the labels are 0, 1",
    ),
    "label of test unknown in train": Case(
        source="filelist:x",
        make=lambda b: lists(b, train=GOOD, test="0.png 7\n"),
        message=r"x\.test line 1: label 7 is out of range; the labels are 0, 1",
    ),
    "absolute path": Case(
        source="filelist:x", make=lambda b: lists(b, train="/etc/0.png 0\n"), message="line 1: '/etc/0.png' leaves"
    ),
    "path above the folder": Case(
        source="filelist:x",
        make=lambda b: lists(b, train="a/../../0.png 0\n"),
        message="line 1: .* leaves the dataset's",
    ),
    "class without images": Case(
        source="filelist:x",
        make=lambda b: lists(b, train=GOOD, classes="a\nb\nc\n"),
        message="class 'c' has no images in the train split",
    ),
    "class named twice": Case(
        source="filelist:x", make=lambda b: lists(b, train=GOOD, classes="a\na\n"), message="names a class twice"
    ),
    "binary list": Case(
        source="filelist:x",
        make=lambda b: (b / "x.train").write_bytes(b"\xff\xfe\x00"),
        message="cannot be read as UTF-8",
    ),
    "missing file": Case(
        source="filelist:x",
        make=lambda b: lists(b, train=GOOD + "gone.png 1\n", dev=GOOD),
        message=r"gone.png \(train split\) cannot be read: no such file",
    ),
    "two val lists": Case(
        source="filelist:x", make=lambda b: lists(b, train=GOOD, dev=GOOD, val=GOOD), message="keep one of them"
    ),
}

OTHERS = {
    "unknown torchvision set": Case(source="torchvision:CatsVsDogs", message="unknown; give one of CIFAR10, CIFAR100,"),
    "torchvision set without root": Case(source="torchvision:CIFAR10", root=False, message="needs a root: the folder"),
    "module that is not there": Case(source="no_such_module_at_all:f", message="cannot import .* PYTHONPATH"),
    "function that is not there": Case(source="json:nothing", message="cannot import json:nothing"),
    "no callable": Case(source="string:digits", message="string:digits is a str, not a callable"),
    "root that is not taken": Case(
        source="bad_datasets_of_a_test:f", make=module("def f(): pass"), message="takes no keyword 'root', but root"
    ),
    "callable that raises": Case(
        source="bad_datasets_of_a_test:f", root=False, make=module("def f(): 1 / 0"), message="raised ZeroDivisionError"
    ),
    "callable that returns nothing": Case(
        source="bad_datasets_of_a_test:f", root=False, make=module("def f(): pass"), message="NoneType without 'train'"
    ),
    "split that is no sequence": Case(
        source="bad_datasets_of_a_test:f",
        root=False,
        make=module("def f(): return {'train': iter([])}"),
        message="'train' is a list_iterator; give a sequence",
    ),
    "element that is no pair": Case(
        source="bad_datasets_of_a_test:f",
        root=False,
        make=module("def f(): return {'train': [1, 2]}"),
        message=r"train\[0\] is no pair \(image, label\)",
    ),
    "label that is no integer": Case(
        source="bad_datasets_of_a_test:f",
        root=False,
        make=module("def f(): return {'train': [('a.png', 'cat')]}"),
        message=r"train\[0\] has the label 'cat'; give an integer",
    ),
    "label beyond the classes": Case(
        source="bad_datasets_of_a_test:f",
        root=False,
        make=module("def f(): return {'train': [('a.png', 0), ('b.png', 2)], 'classes': ['a', 'b']}"),
        message=r"label 2 of b.png is out of range; the labels are \[0, 1\]",
    ),
    "empty split": Case(
        source="bad_datasets_of_a_test:f",
        root=False,
        make=module("def f(): return {'train': [('a.png', 0), ('b.png', 1)], 'val': []}"),
        message="the val split is empty",
    ),
}

CASES = FOLDERS | LISTS | OTHERS


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_bad_data_is_named_with_what_would_be_accepted(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, cache = tmp_path / "data", tmp_path / "cache"
    base.mkdir()
    case.make(base)
    monkeypatch.setenv("RAYBENCH_CACHE_DIR", str(cache))
    monkeypatch.syspath_prepend(base)
    monkeypatch.delitem(sys.modules, "bad_datasets_of_a_test", raising=False)
    before = sorted(base.rglob("*"))
    spec = DatasetSpec(
        name="mine",
        source=case.source,
        root=str(base) if case.root else None,
        image_size=8,
        val_size=case.val_size,
        on_bad_image=case.on_bad_image,
    )
    with pytest.raises(DataError, match=case.message) as raised:
        load_images(spec)
    assert str(raised.value).startswith("dataset 'mine': ")
    assert "\n" not in str(raised.value)
    assert [path for path in sorted(base.rglob("*")) if "__pycache__" not in path.parts] == before
    if case.on_bad_image == "error":
        assert not [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_a_cache_that_cannot_be_written_says_where_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "occupied").write_text("a file where the folder should be")
    monkeypatch.setenv("RAYBENCH_CACHE_DIR", str(tmp_path / "occupied"))
    spec = DatasetSpec(name="mine", source="digits", root=None, image_size=8, val_size=None, on_bad_image="error")
    with pytest.raises(DataError, match=r"image cache .*occupied/images cannot be written .*RAYBENCH_CACHE_DIR"):
        load_images(spec)
