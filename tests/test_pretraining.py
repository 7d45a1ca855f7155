"""Weights that have seen the dataset at hand: known by what they say of themselves, told before anything is spent."""

import pytest

from raybench.experiment import DatasetConfig
from raybench.pretraining import is_same, seen_before, trained_on
from raybench.records import WeightsFacts


def weights(label: str, note: str) -> WeightsFacts:
    return WeightsFacts(model="resnet8", weights=label, digest="d", note=note)


@pytest.mark.parametrize(
    ("note", "images"),
    [
        (
            "35 of 35 tensors from a.safetensors, pretrained on fashion-mnist, 58000 images; fresh head",
            "fashion-mnist",
        ),
        ("IMAGENET1K_V1; fresh head", "ImageNet-1K"),
        ("fresh head", None),
    ],
)
def test_what_weights_were_trained_on_is_what_they_say(note: str, images: str | None) -> None:
    assert trained_on(weights("packaged", note)) == images


@pytest.mark.parametrize(
    ("dataset", "source", "same"),
    [
        ("clothes", "torchvision:FashionMNIST", True),
        ("fashion-mnist", "imagefolder:photos", True),
        ("digits", "torchvision:MNIST", False),
    ],
)
def test_images_are_told_by_the_letters_of_the_dataset_or_its_source(dataset: str, source: str, same: bool) -> None:
    assert is_same("fashion-mnist", dataset, [source]) is same


def test_a_dataset_that_weights_have_seen_is_named_with_them() -> None:
    datasets = [
        DatasetConfig(name="clothes", source="torchvision:FashionMNIST"),
        DatasetConfig(name="digits", source="digits"),
    ]
    known = [weights("packaged", "pretrained on fashion-mnist, 58000 images"), weights("random", "")]
    assert seen_before(datasets, known) == [
        "clothes: packaged weights were trained on this dataset before, which flatters them"
    ]
