"""Names of configurations in, pairs that one choice alone tells apart out.

Names are read part by part: `linear-probe+augment` is a frozen backbone with augmentation, and so is `plain` or
`augmented` in tables of others. A number in a model's name is a depth where its family is known to count layers so.
"""

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import pandas as pd


class Kind(StrEnum):
    """What tells the two of a pair apart."""

    FINE_TUNING = "fine-tuning"
    """A frozen backbone -> a trained one: `linear-probe` -> `fine-tune` or `lp-ft`, `plain` -> `fine_tuned`."""
    AUGMENTATION = "augmentation"
    """NAME -> NAME+augment."""
    DEPTH = "depth"
    """A model -> the next deeper one of its family: resnet18 -> resnet50."""
    PRETRAINING = "pretraining"
    """`random` weights -> any others."""
    MORE_DATA = "more data"
    """A train_size -> the next larger one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two configurations that one choice tells apart."""

    kind: Kind
    before: int
    """Row of the configuration before the choice."""
    after: int


FROZEN = frozenset({"", "plain", "linear-probe", "linear-probing", "frozen"})
TRAINED = frozenset({"fine-tune", "fine-tuned", "fine-tuning", "finetune", "finetuned", "finetuning", "lp-ft"})
AUGMENTED = frozenset({"augment", "augmented", "augmentation", "aug"})
RANDOM = frozenset({"random", "scratch", "from-scratch", "none", "false"})
"""Parts of names, in lower case and with hyphens."""

DEEP = re.compile(
    r"(?P<family>.*?(?:resnet|resnext|resnest|preresnet|densenet|vgg|dpn|dla|darknet)(?:v\d+_)?)(?P<depth>\d+)(?P<rest>.*)",
    re.IGNORECASE,
)
"""Families whose number counts layers. Not so in efficientnet_b0, vit_b_16, mobilenet_v2 or shufflenet_v2_x1_0."""
SMALL_IMAGE_DEPTHS = frozenset({8, 14, 20, 32, 44, 56, 110})
"""Depths 6n + 2 of the residual networks for small images, which are another family than those for ImageNet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Strategy:
    """What a strategy's name says."""

    others: frozenset[str]
    """Parts that say neither of the two below."""
    trained: str
    """How the backbone is trained; nothing where it is frozen."""
    augmented: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class _Depth:
    """What a model's name says of its depth."""

    family: tuple[str, ...]
    layers: int


def pairs(configurations: pd.DataFrame) -> list[Pair]:
    """Return all pairs that one choice tells apart: of depths and sizes, neighbours alone.

    Args:
        configurations: dataset, train_size, model, weights and strategy, one row a configuration.
    """
    groups: dict[tuple[Hashable, ...], list[tuple[Hashable, int]]] = defaultdict(list)
    columns = ["dataset", "train_size", "model", "weights", "strategy"]
    for row, names in enumerate(zip(*(map(_known, configurations[name]) for name in columns), strict=True)):
        dataset, size, model, weights, strategy = names
        plan, depth = _strategy(strategy), _depth(model)
        where = (dataset, size)
        of_model = (*where, model, weights)
        groups[Kind.FINE_TUNING, *of_model, plan.others, plan.augmented].append((plan.trained, row))
        groups[Kind.AUGMENTATION, *of_model, plan.others, plan.trained].append((plan.augmented, row))
        groups[Kind.PRETRAINING, *where, model, strategy].append((weights, row))
        if depth is not None:
            groups[Kind.DEPTH, *where, depth.family, weights, strategy].append((depth.layers, row))
        if size is not None:
            groups[Kind.MORE_DATA, dataset, model, weights, strategy].append((size, row))
    found = [
        Pair(kind=Kind(str(key[0])), before=before, after=after)
        for key, members in groups.items()
        for before, after in _steps(Kind(str(key[0])), members)
    ]
    return sorted(found, key=lambda pair: (list(Kind).index(pair.kind), pair.before, pair.after))


def _steps(kind: Kind, members: list[tuple[Hashable, int]]) -> Iterable[tuple[int, int]]:
    """Rows before and after, from what configurations chose that agree in everything else."""
    if kind in {Kind.DEPTH, Kind.MORE_DATA}:
        ordered = sorted(members, key=lambda member: float(str(member[0])))
        return [(a[1], b[1]) for a, b in pairwise(ordered) if a[0] != b[0]]
    if kind is Kind.PRETRAINING:
        members = [("" if _part(choice) in RANDOM else choice, row) for choice, row in members if choice is not None]
    before = [row for choice, row in members if choice in {"", False}]
    after = [row for choice, row in members if choice not in {"", False}]
    return [(a, b) for a in before for b in after]


def _strategy(name: Hashable) -> _Strategy:
    parts = {_part(part) for part in ("" if name is None else str(name)).split("+")} - FROZEN
    return _Strategy(
        others=frozenset(parts - TRAINED - AUGMENTED),
        trained="+".join(sorted(parts & TRAINED)),
        augmented=bool(parts & AUGMENTED),
    )


def _depth(model: Hashable) -> _Depth | None:
    """Family and layers; None where the family is not known to count its layers."""
    match = DEEP.fullmatch(str(model))
    if match is None:
        return None
    family, layers, rest = match["family"].lower(), int(match["depth"]), match["rest"]
    for_small_images = family.endswith("resnet") and not rest and layers in SMALL_IMAGE_DEPTHS
    return _Depth(family=(family, rest, "small images" if for_small_images else ""), layers=layers)


def _part(name: object) -> str:
    return str(name).strip().lower().replace("_", "-").replace(" ", "-")


def _known(value: object) -> Hashable:
    return None if pd.isna(value) else value  # type: ignore[call-overload]
