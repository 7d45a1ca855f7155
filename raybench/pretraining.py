"""What weights were trained on before, as far as they say, and whether that is the dataset at hand."""

import re
from collections.abc import Iterable
from typing import Final

from raybench.experiment import DatasetConfig
from raybench.formats import joined
from raybench.records import WeightsFacts
from raybench.trials import weights_label

_TRAINED_ON: Final = re.compile(r"pretrained on ([^,;]+)")


def trained_on(facts: WeightsFacts) -> str | None:
    """Return the name of the images that weights were trained on; None where they do not say."""
    found = _TRAINED_ON.search(facts.note)
    if found:
        return found[1].strip()
    return "ImageNet-1K" if "imagenet" in facts.note.lower() else None


def is_same(images: str, dataset: str, sources: Iterable[str]) -> bool:
    """Return whether images by that name are a dataset's, by its name or where it comes from.

    Names are compared by their letters and digits: `torchvision:FashionMNIST` is `fashion-mnist`.
    """
    names = {dataset, *(source.partition(":")[2] or source for source in sources)}
    return any(_letters(name) == _letters(images) for name in names)


def seen_before(datasets: Iterable[DatasetConfig], weights: Iterable[WeightsFacts]) -> list[str]:
    """Return a warning for each dataset whose images weights were trained on."""
    known = [(weights_label(facts.weights), images) for facts in weights if (images := trained_on(facts)) is not None]
    warnings = []
    for dataset in datasets:
        names = {name for name, images in known if is_same(images, dataset.name, [dataset.source])}
        if names:
            were = f"{joined(sorted(names))} weights were trained on this dataset before, which flatters them"
            warnings.append(f"{dataset.name}: {were}")
    return warnings


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
