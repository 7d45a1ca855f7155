from typing import Any

import pandas as pd
import pytest

from raybench.pairs import Kind, pairs

PLAIN: dict[str, Any] = {
    "dataset": "d",
    "train_size": 100,
    "model": "resnet18",
    "weights": "imagenet",
    "strategy": "plain",
}


def found(*changes: dict[str, Any]) -> list[tuple[str, int, int]]:
    table = pd.DataFrame([PLAIN | each for each in changes])
    return [(pair.kind.value, pair.before, pair.after) for pair in pairs(table)]


@pytest.mark.parametrize(
    ("column", "before", "after", "kind"),
    [
        ("strategy", "linear-probe", "fine-tune", Kind.FINE_TUNING),
        ("strategy", "linear-probe", "lp-ft", Kind.FINE_TUNING),
        ("strategy", "linear-probe+augment", "lp-ft+augment", Kind.FINE_TUNING),
        ("strategy", "plain", "fine_tuned", Kind.FINE_TUNING),
        ("strategy", None, "Fine Tuned", Kind.FINE_TUNING),
        ("strategy", "augmented", "fine_tuned+augmented", Kind.FINE_TUNING),
        ("strategy", "adam", "adam+finetune", Kind.FINE_TUNING),
        ("strategy", "fine-tune", "fine-tune+augment", Kind.AUGMENTATION),
        ("strategy", "plain", "augmented", Kind.AUGMENTATION),
        ("strategy", "mine", "mine+augment", Kind.AUGMENTATION),
        ("model", "resnet18", "resnet50", Kind.DEPTH),
        ("model", "resnet8", "resnet20", Kind.DEPTH),
        ("model", "vgg11_bn", "vgg16_bn", Kind.DEPTH),
        ("model", "wide_resnet50_2", "wide_resnet101_2", Kind.DEPTH),
        ("model", "timm:resnet50.a1_in1k", "timm:resnet101.a1_in1k", Kind.DEPTH),
        ("model", "densenet121", "densenet169", Kind.DEPTH),
        ("weights", "random", "imagenet", Kind.PRETRAINING),
        ("train_size", 833, 2280, Kind.MORE_DATA),
    ],
)
def test_one_choice_makes_a_pair_in_either_order(column: str, before: object, after: object, kind: Kind) -> None:
    assert found({column: before}, {column: after}) == [(kind.value, 0, 1)]
    assert found({column: after}, {column: before}) == [(kind.value, 1, 0)]


@pytest.mark.parametrize(
    ("column", "one", "other"),
    [
        ("strategy", "linear-probe", "fine-tune+augment"),
        ("strategy", "fine-tune", "lp-ft"),
        ("strategy", "mine", "fine-tune"),
        ("strategy", "plain", "dropout=0.5"),
        ("model", "vit_b_16", "vit_b_32"),
        ("model", "efficientnet_b0", "efficientnet_b1"),
        ("model", "mobilenet_v2", "mobilenet_v3"),
        ("model", "resnext50_32x4d", "resnext101_32x8d"),
        ("model", "resnet18", "resnet20"),
        ("model", "resnet18", "vgg19"),
        ("weights", "imagenet", "my.pth"),
        ("weights", None, "imagenet"),
        ("train_size", None, 833),
        ("dataset", "a", "b"),
    ],
)
def test_other_differences_make_no_pair(column: str, one: object, other: object) -> None:
    assert found({column: one}, {column: other}) == []


def test_depths_and_sizes_pair_neighbours_only() -> None:
    assert found(*({"model": f"resnet{depth}"} for depth in (50, 18, 34))) == [("depth", 1, 2), ("depth", 2, 0)]
    assert found(*({"train_size": size} for size in (100, 400, 200))) == [("more data", 0, 2), ("more data", 2, 1)]


def test_two_choices_at_once_make_no_pair() -> None:
    assert found({"model": "resnet18"}, {"model": "resnet50", "strategy": "fine-tune"}) == []
    assert found({"train_size": 100}, {"train_size": 200, "model": "resnet50"}) == []
