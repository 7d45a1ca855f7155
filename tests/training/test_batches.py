"""Batches: a fixed order for each epoch, the same images whatever the layout, crops read from larger images."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raybench.experiment import load_experiment
from raybench.records import DatasetSpec
from raybench.training import preflight
from raybench.training.augment import augment
from raybench.training.batches import (
    EVALUATION_BATCH,
    Preparation,
    evaluation_batch,
    forward_all,
    training_images,
    training_order,
)
from raybench.training.data import ImageSplit, load_images
from raybench.training.pixels import to_model

CPU = torch.device("cpu")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DIGITS = DatasetSpec(name="digits", source="digits", root=None, image_size=16, val_size=None, on_bad_image="error")
EXPERIMENT = """
name: small
datasets: [{name: digits, source: digits, image_size: 16}]
models: [resnet8]
strategies: [linear-probe STRATEGY]
"""


def preparation(policy: str = "none", *, channels_last: bool = False) -> Preparation:
    return Preparation(mean=MEAN, std=STD, device=CPU, policy=policy, seed=3, channels_last=channels_last)


def split(images: int, *, base: bool) -> ImageSplit:
    random = np.random.default_rng(0)
    return ImageSplit(
        images=random.integers(0, 256, (images, 16, 16, 3), dtype=np.uint8),
        labels=np.zeros(images, dtype=np.int64),
        names=tuple(str(index) for index in range(images)),
        base=random.integers(0, 256, (images, 18, 18, 3), dtype=np.uint8) if base else None,
    )


@given(images=st.integers(1, 200), batch_size=st.integers(1, 50), epoch=st.integers(1, 5))
def test_an_epoch_holds_every_image_once_and_no_batch_of_one(images: int, batch_size: int, epoch: int) -> None:
    batches = training_order(images, batch_size, 0, epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(images))
    if images > 1 and batch_size > 1:
        assert min(len(batch) for batch in batches) > 1


def test_epochs_have_orders_of_their_own() -> None:
    first, second = (np.concatenate(training_order(50, 8, 0, epoch)) for epoch in (1, 2))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("channels_last", [False, True])
def test_unaugmented_batches_are_the_images_of_the_subset_normalised(channels_last: bool) -> None:
    images, subset = split(20, base=True), np.array([5, 1, 17, 9])
    ready = preparation(channels_last=channels_last)
    batch = training_images(images, subset, ready).batch(np.array([2, 0]), ready.generator(1))
    assert torch.equal(batch, to_model(torch.from_numpy(images.images[[17, 5]]), MEAN, STD))


@pytest.mark.parametrize(("policy", "base"), [("default", True), ("default", False), ("flip", True)])
def test_only_policies_that_crop_read_the_larger_images(policy: str, base: bool) -> None:
    images, subset, places = split(20, base=base), np.array([5, 1, 17, 9]), np.array([2, 0])
    ready = preparation(policy)
    batch = training_images(images, subset, ready).batch(places, ready.generator(1))
    read = images.base if policy == "default" and images.base is not None else images.images
    pixels = augment(torch.from_numpy(read[subset[places]]), policy, ready.generator(1), image_size=16)
    assert torch.equal(batch, to_model(pixels, MEAN, STD))


def test_the_generator_of_an_epoch_is_the_same_whatever_was_drawn_before() -> None:
    ready = preparation("default")
    torch.rand(3, generator=ready.generator(1))
    assert torch.equal(torch.rand(3, generator=ready.generator(1)), torch.rand(3, generator=ready.generator(1)))


@pytest.mark.parametrize(
    ("device", "side", "images"), [("cpu", 16, 256), ("cpu", 224, 64), ("cpu", 600, 32), ("meta", 600, 256)]
)
def test_batches_without_gradients_hold_fewer_images_where_these_are_large(device: str, side: int, images: int) -> None:
    assert evaluation_batch(torch.device(device), side) == images


@pytest.mark.parametrize("positions", [None, np.array([7, 300, 2])])
def test_all_images_or_some_go_through_a_module_in_order(positions: np.ndarray | None) -> None:
    images = split(EVALUATION_BATCH + 50, base=False)
    outputs = forward_all(lambda batch: batch.mean((1, 2, 3)), images, preparation(), positions)
    chosen = images.images if positions is None else images.images[positions]
    assert torch.allclose(outputs, to_model(torch.from_numpy(chosen), MEAN, STD).mean((1, 2, 3)))


@pytest.mark.parametrize(("suffix", "decoded"), [("", True), ("+augment", False)])
def test_the_look_before_a_run_decodes_what_its_trials_crop_from(
    suffix: str, decoded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYBENCH_CACHE_DIR", str(tmp_path / "cache"))
    file = tmp_path / "small.yaml"
    file.write_text(EXPERIMENT.replace(" STRATEGY", suffix))
    preflight.check(load_experiment(file), "small.yaml")
    seen = []
    images = load_images(DIGITS, with_base=True, progress=lambda done, total: seen.append((done, total)))
    assert images.train.base is not None
    assert images.train.base.shape == (1197, 18, 18, 3)
    assert bool(seen) == decoded


def test_the_larger_images_change_neither_the_fingerprint_nor_the_images(tmp_path: Path) -> None:
    plain = load_images(DIGITS, cache_dir=tmp_path)
    larger = load_images(DIGITS, with_base=True, cache_dir=tmp_path)
    assert plain.train.base is None
    assert plain.fingerprint == larger.fingerprint
    assert np.array_equal(plain.train.images, larger.train.images)
