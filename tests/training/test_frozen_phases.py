"""Phases that train the head alone: what goes through the backbone, what is charged for it, and what comes out."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from raybench.records import Phase, Strategy, Trial
from raybench.training.batches import forward_all
from raybench.training.data import ImageData, load_images
from raybench.training.feature_cache import FeatureCache
from raybench.training.features import BATCH
from raybench.training.loop import Training
from tests.builders import DIGITS, PHASE, make_trial

CPU = torch.device("cpu")
HEAD = replace(PHASE, train="head", learning_rate=0.01)
ALL = PHASE
PROBED = 2
"""Images that tell whether an entry of the cache belongs to a backbone."""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageData:
    return load_images(DIGITS, cache_dir=tmp_path_factory.mktemp("cache"))


def trial(*phases: Phase, augmentation: str = "none", train_size: int = 120, seed: int = 0) -> Trial:
    strategy = Strategy(name="mine", augmentation=augmentation, phases=phases)
    return make_trial(train_size=train_size, weights="packaged", strategy=strategy, seed=seed)


def begun(what: Trial, images: ImageData, root: Path | None = None) -> Training:
    return Training(what, images, device=CPU, cache=None if root is None else FeatureCache(root=root))


def curve(training: Training) -> list[tuple[int, float, float, float]]:
    return [(record.epoch, record.train_loss, record.val_loss, record.val_accuracy) for record in training.history]


@contextmanager
def backbone_passes(training: Training) -> Iterator[list[tuple[int, bool]]]:
    """Note for each pass how many images went through the backbone, and whether with gradients."""
    passes: list[tuple[int, bool]] = []
    module = training.network.module.get_submodule("conv1")
    with module.register_forward_pre_hook(lambda _, args: passes.append((len(args[0]), torch.is_grad_enabled()))):
        yield passes


def test_a_later_trial_pushes_no_image_through_the_backbone_and_ends_with_the_same_numbers(
    images: ImageData, tmp_path: Path
) -> None:
    alone, first, later = (begun(trial(HEAD), images, root) for root in (None, tmp_path, tmp_path))
    ends = []
    for training in (alone, first, later):
        with backbone_passes(training) as passes:
            list(training)
            ends.append(training.finish())
    assert sum(count for count, _ in passes) == PROBED
    assert curve(alone) == curve(first) == curve(later)
    assert ends[0].scores == ends[1].scores == ends[2].scores
    np.testing.assert_array_equal(ends[0].predictions, ends[2].predictions)


def test_another_seed_finds_the_images_that_both_have(images: ImageData, tmp_path: Path) -> None:
    list(begun(trial(HEAD, train_size=1197), images, tmp_path))
    other = begun(trial(HEAD, seed=5), images, tmp_path)
    with backbone_passes(other) as passes:
        list(other)
    assert sum(count for count, _ in passes) == PROBED


def test_test_images_are_scored_as_by_the_whole_network(images: ImageData) -> None:
    training = begun(trial(HEAD), images)
    list(training)
    with backbone_passes(training) as passes:
        predictions = training.finish().predictions
    assert images.test is not None
    assert predictions is not None
    assert sum(count for count, _ in passes) == -(-len(images.test) // BATCH["cpu"]) * BATCH["cpu"]
    with torch.no_grad():
        logits = forward_all(training.network.module.eval(), images.test, training._task.preparation)  # noqa: SLF001
    np.testing.assert_allclose(predictions, logits.softmax(dim=1), atol=1e-6)


@pytest.mark.parametrize(("probe_rate", "tuning_rate", "best_phase"), [(0.01, 1.0, 1), (1e-12, 0.05, 2)])
def test_the_test_split_is_scored_by_the_backbone_of_the_best_epoch(
    probe_rate: float, tuning_rate: float, best_phase: int, images: ImageData
) -> None:
    tuned = replace(ALL, optimizer="sgd", learning_rate=tuning_rate, epochs=2)
    training = begun(trial(replace(HEAD, learning_rate=probe_rate), tuned), images)
    list(training)
    finished = training.finish()
    assert finished.best.phase == best_phase
    assert images.test is not None
    assert finished.predictions is not None
    with torch.no_grad():
        logits = forward_all(training.network.module.eval(), images.test, training._task.preparation)  # noqa: SLF001
    np.testing.assert_allclose(finished.predictions, logits.softmax(dim=1), atol=1e-6)


def test_augmented_images_go_through_a_frozen_backbone_without_gradients_and_val_images_once(
    images: ImageData, tmp_path: Path
) -> None:
    first = begun(trial(HEAD, augmentation="no-flip"), images, tmp_path)
    list(first)
    later = begun(trial(HEAD, augmentation="no-flip"), images, tmp_path)
    with backbone_passes(later) as passes:
        list(later)
    assert not any(with_gradients for _, with_gradients in passes)
    assert sum(count for count, _ in passes) == PROBED + HEAD.epochs * 120
    assert curve(first) == curve(later)


def test_features_are_charged_once_a_trial_whether_they_were_computed_or_found(
    images: ImageData, tmp_path: Path
) -> None:
    first, later, longer = (
        begun(what, images, tmp_path) for what in (trial(HEAD), trial(HEAD), trial(HEAD, replace(HEAD, epochs=2)))
    )
    for training in (first, later, longer):
        list(training)
    charges = [training.progress.feature_seconds for training in (first, later, longer)]
    assert charges[0] == pytest.approx(charges[1]) == pytest.approx(charges[2])
    assert charges[0] > 0
    for training in (first, later, longer):
        assert training.history[0].epoch_seconds > charges[0]
        assert training.progress.train_seconds > charges[0]
    augmented = begun(trial(HEAD, augmentation="no-flip"), images, tmp_path)
    list(augmented)
    val_share = len(images.val) / (len(images.val) + 120)
    assert augmented.progress.feature_seconds == pytest.approx(charges[0] * val_share)


def test_a_backbone_that_the_trial_trained_leaves_nothing_in_the_cache(images: ImageData, tmp_path: Path) -> None:
    training = begun(trial(ALL, HEAD), images, tmp_path)
    list(training)
    assert training.progress.feature_seconds > 0
    assert not (tmp_path / "features").exists()


def test_features_of_a_resumed_trial_are_those_of_one_never_interrupted(images: ImageData, tmp_path: Path) -> None:
    what = trial(HEAD, ALL, HEAD)
    undisturbed = begun(what, images)
    list(undisturbed)
    for stop in (1, 3, 7):
        interrupted = begun(what, images, tmp_path)
        for record in interrupted:
            if record.epoch == stop:
                break
        torch.save(interrupted.state(), tmp_path / "state.pt")
        resumed = begun(what, images, tmp_path)
        resumed.load_state(torch.load(tmp_path / "state.pt", weights_only=True))
        list(resumed)
        assert curve(resumed) == curve(undisturbed)
        assert resumed.finish().scores == undisturbed.finish().scores
