"""A trial in training: determinism, phases, early stopping, the best epoch, exact resume."""

import math
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raybench.records import Phase, Strategy, Trial, Tuning
from raybench.training.batches import training_order
from raybench.training.data import ImageData, load_images
from raybench.training.loop import DivergedError, Training
from raybench.training.optimization import learning_rate_at
from tests.builders import DIGITS, PHASE, SETTINGS, make_trial

CPU = torch.device("cpu")
HEAD = replace(PHASE, train="head", learning_rate=0.01)
ALL = PHASE


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageData:
    return load_images(DIGITS, cache_dir=tmp_path_factory.mktemp("cache"))


def trial(*phases: Phase, augmentation: str = "none", seed: int = 0, **settings: object) -> Trial:
    return make_trial(
        train_size=120,
        strategy=Strategy(name="mine", augmentation=augmentation, phases=phases or (ALL,)),
        training=replace(SETTINGS, **settings),  # type: ignore[arg-type]
        seed=seed,
    )


def curve(training: Training) -> list[tuple[int, int, float, float, float]]:
    return [
        (record.phase, record.epoch, record.train_loss, record.val_loss, record.val_accuracy)
        for record in training.history
    ]


def trained(what: Trial, images: ImageData) -> Training:
    training = Training(what, images, device=CPU)
    assert list(training) == training.history
    return training


@pytest.mark.parametrize("augmentation", ["none", "no-flip"])
def test_the_same_trial_gives_the_same_numbers(augmentation: str, images: ImageData) -> None:
    what = trial(HEAD, ALL, augmentation=augmentation)
    first, second = trained(what, images), trained(what, images)
    assert curve(first) == curve(second)
    one, two = first.finish(), second.finish()
    assert one.scores == two.scores
    np.testing.assert_array_equal(one.predictions, two.predictions)


def test_another_seed_gives_other_numbers(images: ImageData) -> None:
    assert curve(trained(trial(), images)) != curve(trained(trial(seed=1), images))


def test_the_first_phase_is_the_linear_probe_of_the_same_seed(images: ImageData) -> None:
    probe, both = trained(trial(HEAD), images), trained(trial(HEAD, ALL), images)
    assert curve(both)[:3] == curve(probe)
    assert [record.phase for record in both.history] == [1, 1, 1, 2, 2, 2]


def test_a_linear_probe_changes_the_head_and_nothing_else(images: ImageData) -> None:
    training = Training(trial(HEAD), images, device=CPU)
    before = {name: tensor.clone() for name, tensor in training.network.module.state_dict().items()}
    for _ in training:
        pass
    after = training.network.module.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {f"{training.network.head_name}.weight", f"{training.network.head_name}.bias"}


def test_cached_features_give_the_val_loss_of_the_full_forward_pass(images: ImageData) -> None:
    training = trained(trial(replace(HEAD, epochs=1)), images)
    probabilities = training.finish().predictions
    module = training.network.module.eval()
    assert images.test is not None
    with torch.no_grad():
        scaled = torch.from_numpy(np.array(images.val.images)).permute(0, 3, 1, 2).float() / 255
        mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (training.network.mean, training.network.std))
        logits = module((scaled - mean) / std)
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(images.val.labels)).item()
    assert training.history[0].val_loss == pytest.approx(loss, abs=1e-5)
    assert probabilities is not None
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_a_phase_ends_once_patience_runs_out_and_the_next_starts_from_the_best_epoch(images: ImageData) -> None:
    # A rate this high makes val loss worse at once, so patience ends the phase early.
    wild = replace(HEAD, optimizer="sgd", learning_rate=30.0, epochs=20, patience=2)
    still = replace(ALL, optimizer="sgd", learning_rate=1e-12, epochs=1)
    training = trained(trial(wild, still), images)
    first = [record for record in training.history if record.phase == 1]
    best = min(first, key=lambda record: record.val_loss)
    assert len(first) == best.epoch + 2 < 20
    # Nothing learns at such a rate, and eval mode is used for scoring: but BatchNorm statistics move in training.
    assert training.history[-1].phase == 2
    assert training.finish().best.val_loss == min(record.val_loss for record in training.history)


def test_the_test_split_is_scored_with_the_best_epoch(images: ImageData) -> None:
    training = Training(trial(replace(ALL, learning_rate=0.05, epochs=6, patience=6)), images, device=CPU)
    module = training.network.module
    kept = [{name: tensor.clone() for name, tensor in module.state_dict().items()} for _ in training]
    finished = training.finish()
    best = kept[finished.best.epoch - 1]
    assert finished.best.val_loss == min(record.val_loss for record in training.history)
    assert all(torch.equal(finished.weights[name], tensor) for name, tensor in best.items())


@pytest.mark.parametrize("epochs_before", [1, 3, 4, 5])
def test_a_resumed_trial_ends_with_the_numbers_of_one_never_interrupted(
    epochs_before: int, images: ImageData, tmp_path: Path
) -> None:
    what = trial(HEAD, replace(ALL, optimizer="sgd", schedule="cosine"), augmentation="no-flip")
    undisturbed = trained(what, images)
    interrupted = Training(what, images, device=CPU)
    for record in interrupted:
        if record.epoch == epochs_before:
            break
    torch.save(interrupted.state(), tmp_path / "state.pt")
    resumed = Training(what, images, device=CPU)
    resumed.load_state(torch.load(tmp_path / "state.pt", weights_only=True))
    for _ in resumed:
        pass
    assert curve(resumed) == curve(undisturbed)
    assert resumed.finish().scores == undisturbed.finish().scores


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("layout", [False, True])
def test_a_trial_resumed_in_another_memory_layout_goes_on_as_before(
    layout: bool, optimizer: str, images: ImageData
) -> None:
    phase = replace(ALL, optimizer=optimizer, momentum=0.9, epochs=4, patience=4)
    undisturbed = Training(trial(phase), images, device=CPU, tuning=Tuning(channels_last=layout))
    resumed = Training(trial(phase), images, device=CPU, tuning=Tuning(channels_last=not layout))
    epochs = iter(undisturbed)
    next(epochs)
    next(epochs)
    resumed.load_state(deepcopy(undisturbed.state()))
    assert [each.train_loss for each in resumed] == pytest.approx([each.train_loss for each in epochs], rel=1e-3)


def test_a_loss_that_is_not_finite_ends_the_trial_with_its_epoch_and_rate(images: ImageData) -> None:
    training = Training(trial(replace(ALL, optimizer="sgd", learning_rate=1e30)), images, device=CPU)
    with pytest.raises(DivergedError, match=r"not finite in epoch 1 .*learning rate 1e\+30"):
        list(training)


def test_class_weights_and_smoothing_change_training_but_not_how_val_loss_is_counted(images: ImageData) -> None:
    still = replace(HEAD, optimizer="sgd", learning_rate=1e-12, epochs=1)
    plain = trained(trial(still), images).history[0]
    smooth = trained(trial(still, label_smoothing=0.2), images).history[0]
    assert smooth.train_loss != plain.train_loss
    assert smooth.val_loss == pytest.approx(plain.val_loss, abs=1e-6)


@given(images=st.integers(1, 200), batch_size=st.integers(1, 40), seed=st.integers(0, 5), epoch=st.integers(1, 5))
def test_an_epoch_sees_every_image_once_and_never_a_lone_one(
    images: int, batch_size: int, seed: int, epoch: int
) -> None:
    batches = training_order(images, batch_size, seed, epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(images))
    if batch_size > 1 and images > 1:
        assert all(len(batch) > 1 for batch in batches)


@pytest.mark.parametrize(
    ("phase", "expected"),
    [
        (replace(ALL, learning_rate=1.0), [1.0, 1.0, 1.0, 1.0]),
        (replace(ALL, learning_rate=1.0, schedule="step", step_epochs=2, step_factor=0.1), [1.0, 1.0, 0.1, 0.1]),
        (replace(ALL, learning_rate=1.0, schedule="cosine", epochs=4), [1.0, 0.5 + math.sqrt(0.125), 0.5, None]),
        (replace(ALL, learning_rate=1.0, warmup_epochs=3), [0.25, 0.5, 0.75, 1.0]),
        (replace(ALL, learning_rate=1.0, schedule="cosine", warmup_epochs=2, epochs=4), [1 / 3, 2 / 3, 1.0, 0.5]),
    ],
)
def test_the_learning_rate_follows_its_schedule(phase: Phase, expected: list[float | None]) -> None:
    for epoch, rate in enumerate(expected):
        if rate is not None:
            assert learning_rate_at(phase, epoch) == pytest.approx(rate)
