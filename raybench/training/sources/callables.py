"""`package.module:callable`: one's own dataset in three lines.

    # shapes.py, anywhere on PYTHONPATH; in the experiment file: source: shapes:shapes
    def shapes():
        pairs = [(image, label), ...]
        return {"train": pairs[:800], "val": pairs[800:900], "test": pairs[900:], "classes": ["disc", "box"]}

The callable is called by keyword only: with `root` (a `Path`, or None) if it takes one. It returns a mapping, or an
object with these attributes:

- `train` (required), `val`, `test` (absent or None: no such split): sequences of pairs (image, label), as lists are;
- `classes` (absent or None: the integers of train as names): the names of the labels 0, 1, ...

An image is a path (relative to `root`, else to the working directory), a Pillow image, or a numpy array [h, w],
[h, w, 1], [h, w, 3] or [h, w, 4] of uint8, uint16 or floats from 0 to 1. A label is an integer. Where there are many
images, give paths: they are listed without being decoded; every other image is read once each time the dataset is
opened, to know whether it changed.
"""

import hashlib
import importlib
import inspect
import operator
from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from raybench.errors import DataError
from raybench.records import DatasetSpec
from raybench.training.decoding import Source
from raybench.training.listing import Listing, SplitListing

_RETURNS = "expected a mapping or object with 'train' (and 'val', 'test', 'classes') of (image, label) pairs"


def list_callable(spec: DatasetSpec, argument: str) -> Listing:
    """Return what a callable, given as `package.module:callable`, returns. Raises `DataError` for any error in it."""
    returned = _call(argument, spec.root)
    parts = {name: _part(returned, name) for name in ("train", "val", "test", "classes")}
    named = parts.pop("classes")
    if parts["train"] is None:
        raise DataError(f"{argument} returned {type(returned).__name__} without 'train'; {_RETURNS}")
    listed = {
        name: _Pairs(argument, name, pairs).listing(spec.root) for name, pairs in parts.items() if pairs is not None
    }
    labels = sorted(set(listed["train"].labels.tolist()))
    classes = tuple(map(str, labels)) if named is None else tuple(map(str, named))
    accepted = labels if named is None else list(range(len(classes)))
    return Listing(
        classes=classes,
        train=_relabelled(argument, listed["train"], accepted),
        val=_relabelled(argument, listed["val"], accepted) if "val" in listed else None,
        test=_relabelled(argument, listed["test"], accepted) if "test" in listed else None,
    )


def _part(returned: Any, name: str) -> Any:  # noqa: ANN401 - what a user's callable returns
    return returned.get(name) if isinstance(returned, Mapping) else getattr(returned, name, None)


def _call(argument: str, root: str | None) -> Any:  # noqa: ANN401 - what a user's callable returns
    module_name, _, name = argument.partition(":")
    try:
        function: Any = operator.attrgetter(name)(importlib.import_module(module_name))
    except Exception as error:
        raise DataError(
            f"cannot import {argument}: {error}; give package.module:callable that is on PYTHONPATH"
        ) from error
    if not callable(function):
        raise DataError(f"{argument} is a {type(function).__name__}, not a callable")
    parameters = inspect.signature(function).parameters.values()
    takes_root = any(parameter.name == "root" or parameter.kind == parameter.VAR_KEYWORD for parameter in parameters)
    if root is not None and not takes_root:
        raise DataError(f"{argument} takes no keyword 'root', but root {root!r} is given; remove one or add the other")
    keywords = {"root": None if root is None else Path(root).expanduser()} if takes_root else {}
    try:
        return function(**keywords)
    except Exception as error:
        raise DataError(f"{argument} raised {type(error).__name__}: {error}") from error


class _Pairs:
    """One split that a callable returned."""

    def __init__(self, argument: str, split: str, pairs: Any) -> None:  # noqa: ANN401 - checked here
        if not (hasattr(pairs, "__len__") and hasattr(pairs, "__getitem__")) or isinstance(pairs, Mapping):
            raise DataError(f"{argument}: {split!r} is a {type(pairs).__name__}; give a sequence of (image, label)")
        self._where = f"{argument}: {split}"
        self._split = split
        self._pairs: Sequence[Any] = pairs

    def listing(self, root: str | None) -> SplitListing:
        """Go through all pairs once; paths are looked at, other images hashed."""
        base = Path(root or "").expanduser()
        count = len(self._pairs)
        names, labels = [], np.empty(count, dtype=np.int64)
        sizes, modified = np.full(count, -1, dtype=np.int64), np.zeros(count, dtype=np.int64)
        content = hashlib.sha256()
        for index in range(count):
            image, labels[index] = self._pair(index)
            if isinstance(image, str | PathLike):
                names.append(Path(image).as_posix())
                path = base / image
                if path.is_file():
                    sizes[index], modified[index] = path.stat().st_size, path.stat().st_mtime_ns
            else:
                names.append(f"{self._split}/{index}")
                raw = _raw(image)
                sizes[index] = len(raw)
                content.update(raw)
        return SplitListing(
            names=tuple(names),
            labels=labels,
            sizes=sizes,
            modified=modified,
            content=content.hexdigest(),
            read=lambda index: self._image(index, base),
        )

    def _image(self, index: int, base: Path) -> Source:
        image, _ = self._pair(index)
        if isinstance(image, str | PathLike):
            return base / image
        return image if isinstance(image, Image.Image) else np.asarray(image)

    def _pair(self, index: int) -> tuple[Any, int]:
        try:
            image, label = self._pairs[index]
        except Exception as error:
            raise DataError(f"{self._where}[{index}] is no pair (image, label): {error}") from error
        try:
            return image, operator.index(label)
        except TypeError as error:
            raise DataError(f"{self._where}[{index}] has the label {label!r}; give an integer") from error


def _raw(image: Any) -> bytes:  # noqa: ANN401 - an image of any kind
    try:
        array = np.asarray(image)
    except Exception:  # noqa: BLE001 - a broken file raises nearly anything; decoding it will tell which it is
        return b""
    return repr((getattr(image, "mode", ""), array.shape, array.dtype.str)).encode() + array.tobytes()


def _relabelled(argument: str, split: SplitListing, accepted: list[int]) -> SplitListing:
    """Return the split with labels as positions among the accepted ones."""
    wrong = np.flatnonzero(~np.isin(split.labels, accepted))
    if len(wrong):
        name, label = split.names[wrong[0]], split.labels[wrong[0]]
        raise DataError(f"{argument}: label {label} of {name} is out of range; the labels are {accepted}")
    return replace(split, labels=np.searchsorted(accepted, split.labels).astype(np.int64))
