"""`torchvision:NAME`: torchvision's own dataset classes, read from the dataset's `root`, downloaded where not there.

`FashionMNIST` is also found in Debian's package dataset-fashion-mnist, then without a root. `EMNIST` is its `balanced`
split. Sets without a val split have images of train set aside; sets without a test split have none.
"""

import gzip
import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torchvision import datasets

from raybench.errors import DataError
from raybench.records import DatasetSpec
from raybench.training.listing import Listing, SplitListing, list_files

Arguments = Mapping[str, object]
"""Keywords that ask a dataset class for one split."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitArguments:
    """How a torchvision dataset class is asked for its splits."""

    train: Arguments
    val: Arguments | None = None
    test: Arguments | None = None
    downloads: bool = True
    """Whether the class takes `download`."""


_TRAIN_FLAG = SplitArguments(train={"train": True}, test={"train": False})
_TRAIN_TEST = SplitArguments(train={"split": "train"}, test={"split": "test"})
_TRAIN_VAL_TEST = SplitArguments(train={"split": "train"}, val={"split": "val"}, test={"split": "test"})
_ALL_IN_ONE = SplitArguments(train={})

TORCHVISION_SETS: dict[str, SplitArguments] = {
    "CIFAR10": _TRAIN_FLAG,
    "CIFAR100": _TRAIN_FLAG,
    "Caltech101": _ALL_IN_ONE,
    "Caltech256": _ALL_IN_ONE,
    "Country211": SplitArguments(train={"split": "train"}, val={"split": "valid"}, test={"split": "test"}),
    "DTD": _TRAIN_VAL_TEST,
    "EMNIST": SplitArguments(
        train={"split": "balanced", "train": True},
        test={"split": "balanced", "train": False},
    ),
    "EuroSAT": _ALL_IN_ONE,
    "FGVCAircraft": _TRAIN_VAL_TEST,
    "FashionMNIST": _TRAIN_FLAG,
    "Flowers102": _TRAIN_VAL_TEST,
    "Food101": _TRAIN_TEST,
    "GTSRB": _TRAIN_TEST,
    "ImageNet": SplitArguments(train={"split": "train"}, val={"split": "val"}, downloads=False),
    "Imagenette": SplitArguments(train={"split": "train"}, val={"split": "val"}),
    "KMNIST": _TRAIN_FLAG,
    "MNIST": _TRAIN_FLAG,
    "OxfordIIITPet": SplitArguments(train={"split": "trainval"}, test={"split": "test"}),
    "PCAM": _TRAIN_VAL_TEST,
    "Places365": SplitArguments(train={"split": "train-standard", "small": True}, val={"split": "val", "small": True}),
    "QMNIST": SplitArguments(train={"what": "train"}, test={"what": "test"}),
    "RenderedSST2": _TRAIN_VAL_TEST,
    "SEMEION": _ALL_IN_ONE,
    "STL10": _TRAIN_TEST,
    "SUN397": _ALL_IN_ONE,
    "SVHN": _TRAIN_TEST,
    "StanfordCars": _TRAIN_TEST,
    "USPS": _TRAIN_FLAG,
}
"""The classification sets that can be asked for by name."""

DEBIAN_FASHION_MNIST = (Path("/usr/share/datasets/fashion-mnist"), Path("/usr/share/dataset-fashion-mnist"))
"""Where Debian's package puts its files."""
_FASHION_MNIST_FILES = tuple(
    f"{split}-{content}" for split in ("train", "t10k") for content in ("images-idx3-ubyte", "labels-idx1-ubyte")
)
_REASON_LENGTH = 200
_SAMPLES = ("samples", "_samples")
_PATHS = ("_image_files", "_images")
_LABELS = ("targets", "labels", "_labels", "y")


def list_torchvision(spec: DatasetSpec, argument: str) -> Listing:
    """Return the images of `torchvision:NAME`. Raises `DataError` where they are not there and cannot be downloaded."""
    if argument not in TORCHVISION_SETS:
        raise DataError(f"torchvision:{argument} is unknown; give one of {', '.join(TORCHVISION_SETS)}")
    arguments = TORCHVISION_SETS[argument]
    debian = debian_fashion_mnist() if argument == "FashionMNIST" else None
    if debian and not (spec.root and Path(spec.root, argument).expanduser().is_dir()):
        with tempfile.TemporaryDirectory() as root:
            _unpack(debian, Path(root, argument, "raw"))
            return _listing(argument, arguments, Path(root))
    if spec.root is None:
        raise DataError(f"torchvision:{argument} needs a root: the folder that its files are in, or are downloaded to")
    return _listing(argument, arguments, Path(spec.root).expanduser())


def debian_fashion_mnist() -> Path | None:
    """Return the folder of Debian's dataset-fashion-mnist, or None where it is not installed."""
    for folder in DEBIAN_FASHION_MNIST:
        if all((folder / f"{name}.gz").is_file() for name in _FASHION_MNIST_FILES):
            return folder
    return None


def _unpack(packed: Path, raw: Path) -> None:
    raw.mkdir(parents=True)
    for name in _FASHION_MNIST_FILES:
        with gzip.open(packed / f"{name}.gz") as source, (raw / name).open("wb") as target:
            shutil.copyfileobj(source, target)


def _listing(name: str, arguments: SplitArguments, root: Path) -> Listing:
    asked = {"train": arguments.train, "val": arguments.val, "test": arguments.test}
    opened = {
        split: _open(name, keywords, root, downloads=arguments.downloads)
        for split, keywords in asked.items()
        if keywords is not None
    }
    splits = {split: _split(name, split, dataset, root) for split, dataset in opened.items()}
    return Listing(
        classes=_classes(opened["train"], splits["train"].labels),
        train=splits["train"],
        val=splits.get("val"),
        test=splits.get("test"),
    )


def _open(name: str, keywords: Arguments, root: Path, *, downloads: bool) -> Any:  # noqa: ANN401 - untyped classes
    dataset_class = getattr(datasets, name)
    no_download = {"download": False} if downloads else {}
    before = _entries(root)
    try:
        return dataset_class(root=str(root), **keywords, **no_download)
    except Exception as missing:  # the classes raise RuntimeError, FileNotFoundError and others where files are missing
        advice = f"put the files of torchvision.datasets.{name} there"
        if not downloads:
            reason = _one_line(missing)
            raise DataError(f"torchvision:{name} cannot be read from {root} ({reason}); {advice}") from missing
        try:
            return dataset_class(root=str(root), **keywords, download=True)
        except Exception as error:
            _remove_empty(root, before)
            raise DataError(
                f"torchvision:{name} is not in {root} and could not be downloaded ({_one_line(error)}); {advice}, "
                "or run this once where there is a network"
            ) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:_REASON_LENGTH] or type(error).__name__


def _entries(root: Path) -> set[str] | None:
    return set(os.listdir(root)) if root.is_dir() else None  # noqa: PTH208 - names, not paths


def _remove_empty(root: Path, before: set[str] | None) -> None:
    """Remove folders that a failed download made and left empty."""
    new = [root / entry for entry in (_entries(root) or set()) - (before or set())]
    for path in [*new, *([root] if before is None else [])]:
        for folder, _, _ in os.walk(path, topdown=False):
            with suppress(OSError):
                Path(folder).rmdir()


def _split(name: str, split: str, dataset: Any, root: Path) -> SplitListing:  # noqa: ANN401 - untyped classes
    """Return a split as files where the class lists files, else as what it gives by index."""
    samples = _first(dataset, _SAMPLES)
    if samples is not None and isinstance(samples[0][0], str | Path):
        return _files(root, [path for path, _ in samples], [label for _, label in samples])
    paths, labels = _first(dataset, _PATHS), _first(dataset, _LABELS)
    if paths is not None and labels is not None:
        return _files(root, paths, labels)
    if name == "PCAM":
        labels = _pcam_labels(dataset)
    elif labels is None:
        labels = [dataset[index][1] for index in range(len(dataset))]
    data = getattr(dataset, "data", None)
    return SplitListing(
        names=tuple(f"{split}/{index}" for index in range(len(dataset))),
        labels=np.asarray(labels, dtype=np.int64).reshape(len(dataset), -1)[:, 0],
        sizes=np.full(len(dataset), 0 if data is None else np.asarray(data[0]).nbytes, dtype=np.int64),
        modified=np.zeros(len(dataset), dtype=np.int64),
        content=f"torchvision:{name}" if data is None else _digest(data),
        read=lambda index: dataset[index][0],
    )


def _files(root: Path, paths: list[str | Path], labels: list[int]) -> SplitListing:
    """Return files in the order of their names: some classes list them in the file system's order."""
    names = np.array([Path(os.path.relpath(path, root)).as_posix() for path in paths])
    order = np.argsort(names, kind="stable")
    listed = list_files(root, [str(name) for name in names[order]], [int(label) for label in np.asarray(labels)[order]])
    return replace(listed, read=lambda index: root / listed.names[index])


def _first(dataset: Any, attributes: tuple[str, ...]) -> Any:  # noqa: ANN401 - untyped classes
    return next((getattr(dataset, name) for name in attributes if getattr(dataset, name, None) is not None), None)


def _digest(data: Any) -> str:  # noqa: ANN401 - a tensor or an array
    return hashlib.sha256(np.ascontiguousarray(data).data).hexdigest()


def _pcam_labels(dataset: Any) -> npt.NDArray[np.int64]:  # noqa: ANN401 - untyped classes
    """Return the labels from their HDF5 file at once; the class opens two files for every single image."""
    path = dataset._base_folder / dataset._FILES[dataset._split]["targets"][0]  # noqa: SLF001 - nothing public tells
    with dataset.h5py.File(path) as file:
        return np.asarray(file["y"], dtype=np.int64).reshape(-1)


def _classes(dataset: Any, labels: npt.NDArray[np.int64]) -> tuple[str, ...]:  # noqa: ANN401 - untyped classes
    names = _first(dataset, ("classes", "categories"))
    if names is None:
        return tuple(str(label) for label in range(int(labels.max()) + 1))
    return tuple(name if isinstance(name, str) else name[0] for name in names)
