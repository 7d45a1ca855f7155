"""Where images come from: one file a kind of source; `list_images` picks by what stands before the colon.

In: a `DatasetSpec`. Out: a `Listing` of names, labels and sizes, with a way to read each image, none decoded yet.
"""

import re
from collections.abc import Callable

from raybench.errors import DataError
from raybench.records import DatasetSpec
from raybench.training.listing import Listing
from raybench.training.sources.callables import list_callable
from raybench.training.sources.digits import list_digits
from raybench.training.sources.filelists import list_filelist
from raybench.training.sources.folders import list_folder
from raybench.training.sources.huggingface import list_huggingface
from raybench.training.sources.torchvision_sets import list_torchvision

SOURCES: dict[str, Callable[[DatasetSpec, str], Listing]] = {
    "digits": list_digits,
    "torchvision": list_torchvision,
    "imagefolder": list_folder,
    "filelist": list_filelist,
    "huggingface": list_huggingface,
}
"""By what stands before the colon; anything else is a callable's module."""

ACCEPTED = "digits, torchvision:NAME, imagefolder:DIR, filelist:PREFIX, huggingface:NAME or package.module:callable"
"""What a source may look like, for messages."""

_CALLABLE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def list_images(spec: DatasetSpec) -> Listing:
    """Return what the dataset's source holds. Raises `DataError`, without the dataset's name, where it cannot."""
    kind, colon, argument = spec.source.partition(":")
    if kind in SOURCES and bool(argument) == (kind != "digits") and bool(colon) == bool(argument):
        return SOURCES[kind](spec, argument)
    if kind not in SOURCES and _CALLABLE.fullmatch(spec.source):
        return list_callable(spec, spec.source)
    raise DataError(f"source {spec.source!r} is unknown; give {ACCEPTED}")
