"""`huggingface:NAME` or `huggingface:NAME:CONFIG`: a dataset of the Hugging Face hub, through the extra `huggingface`.

With a `root` that holds a folder NAME, that folder is read (any layout that `datasets.load_dataset` knows); otherwise
`root` is where downloads are kept. The image column is the one of type Image; the label column the one of type
ClassLabel, `label` or `fine_label` where there are several. Splits are taken by their names. A test split without
labels (-1, as hubs publish them) counts as none.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pyarrow import compute

from raybench.errors import DataError
from raybench.records import DatasetSpec
from raybench.training.decoding import Source
from raybench.training.listing import Listing, SplitListing, list_files

SPLIT_NAMES = {"train": ("train",), "val": ("validation", "valid", "val", "dev"), "test": ("test",)}
"""What the splits may be called, by our name for them."""
_PREFERRED_LABELS = ("label", "labels", "fine_label")


def list_huggingface(spec: DatasetSpec, argument: str) -> Listing:
    """Return the images of a hub's dataset. Raises `DataError` where the extra or the dataset cannot be had."""
    try:
        library: Any = importlib.import_module("datasets")
    except ImportError as error:
        raise DataError(
            f"huggingface:{argument} needs the package 'datasets'; install it with pip install 'raybench[huggingface]'"
        ) from error
    found = _load(library, argument, spec.root)
    splits = {ours: found[name] for ours, names in SPLIT_NAMES.items() for name in names if name in found}
    if "train" not in splits:
        raise DataError(f"huggingface:{argument} has no split 'train'; it has {', '.join(found)}")
    columns = _columns(library, argument, splits["train"].features)
    listed = {name: _split(name, split, columns, f"huggingface:{argument}") for name, split in splits.items()}
    warnings = []
    if "test" in listed and (listed["test"].labels < 0).all():
        del listed["test"]
        warnings.append(f"the test split of huggingface:{argument} has no labels and is left out")
    return Listing(
        classes=tuple(splits["train"].features[columns.label].names),
        train=listed["train"],
        val=listed.get("val"),
        test=listed.get("test"),
        warnings=tuple(warnings),
    )


def _load(library: Any, argument: str, root: str | None) -> Any:  # noqa: ANN401 - an optional package's types
    name, _, config = argument.partition(":")
    local = Path(root or "", name).expanduser()
    try:
        if root and local.is_dir():
            return library.load_dataset(str(local), config or None)
        return library.load_dataset(name, config or None, cache_dir=root)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"huggingface:{argument} cannot be loaded ({reason}); give the name of a dataset of the hub, "
            "or put its folder into root"
        ) from error


@dataclass(frozen=True, kw_only=True, slots=True)
class _Columns:
    image: str
    label: str
    undecoded: Any
    """The type under which the image column gives stored bytes or paths."""


def _columns(library: Any, argument: str, features: Any) -> _Columns:  # noqa: ANN401 - as above
    images = [name for name, feature in features.items() if isinstance(feature, library.Image)]
    labels = [name for name, feature in features.items() if isinstance(feature, library.ClassLabel)]
    preferred = [name for name in _PREFERRED_LABELS if name in labels] if len(labels) > 1 else labels
    if not images or not preferred:
        described = ", ".join(f"{name}: {type(feature).__name__}" for name, feature in features.items())
        raise DataError(
            f"huggingface:{argument} has the columns {described}; expected one of type Image and one of type ClassLabel"
        )
    return _Columns(image=images[0], label=preferred[0], undecoded=library.Image(decode=False))


def _split(name: str, split: Any, columns: _Columns, identity: str) -> SplitListing:  # noqa: ANN401 - as above
    """Return a split by the sizes of its stored images, none of which is read."""
    stored = split.cast_column(columns.image, columns.undecoded)
    cells = stored.data.column(columns.image)
    paths = compute.struct_field(cells, "path").to_pylist()
    sizes = compute.binary_length(compute.struct_field(cells, "bytes")).to_pylist()
    files = list_files(Path(), [path or "" for path in paths], [0] * len(paths))
    return SplitListing(
        names=tuple(f"{name}/{index}" for index in range(len(paths))),
        labels=np.array([-1 if label is None else label for label in split[columns.label]], dtype=np.int64),
        sizes=np.array([files.sizes[i] if size is None else size for i, size in enumerate(sizes)], dtype=np.int64),
        modified=np.array([files.modified[i] if size is None else 0 for i, size in enumerate(sizes)], dtype=np.int64),
        content=identity,
        read=lambda index: _source(stored[index][columns.image]),
    )


def _source(cell: Mapping[str, Any]) -> Source:
    return Path(cell["path"]) if cell["bytes"] is None else bytes(cell["bytes"])
