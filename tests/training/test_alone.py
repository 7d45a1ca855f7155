"""What phases take alone, measured with real networks: magnitudes, not figures."""

from dataclasses import replace

import pytest

from raybench.choices import Solo
from raybench.pace import pace_keys
from raybench.records import Allocation, Strategy, Trial, Tuning
from raybench.training.tuning import Bench
from tests.builders import PHASE, make_trial

ONE_THREAD = Allocation(cpu_share=0.5, gpu_fraction=0.0, threads=1)


def trial(train: str | tuple[str, ...], augmentation: str = "none", model: str = "resnet8") -> Trial:
    strategy = Strategy(name="s", augmentation=augmentation, phases=(replace(PHASE, train=train),))
    return make_trial("1", model=model, strategy=strategy)


def measured(*trials: Trial) -> Solo:
    bench = Bench(trials[0], ONE_THREAD)
    solo = bench.alone(Tuning(channels_last=True), {key: (each, 0) for each in trials for key in pace_keys(each)})
    bench.close()
    return solo


@pytest.fixture(scope="module")
def solo() -> Solo:
    return measured(*(trial(layers, policy) for layers in ("head", "all") for policy in ("none", "default")))


def test_a_head_on_known_features_takes_a_fraction_of_what_all_layers_take(solo: Solo) -> None:
    head, every = (solo.paces[pace_keys(trial(layers))[0]] for layers in ("head", "all"))
    assert 0 < head.train_seconds < every.train_seconds / 4
    assert 0 < head.val_seconds < every.val_seconds / 4
    assert head.feature_seconds > head.train_seconds
    assert every.feature_seconds == 0


def test_augmented_images_pass_the_frozen_backbone_each_epoch(solo: Solo) -> None:
    known, augmented = (solo.paces[pace_keys(trial("head", policy))[0]] for policy in ("none", "default"))
    assert augmented.train_seconds > 4 * known.train_seconds
    assert augmented.val_seconds == known.val_seconds, "val images are never augmented"


def test_batches_predict_more_images_a_second_than_one_after_the_other(solo: Solo) -> None:
    assert solo.inference.images_per_second >= 1 / solo.inference.latency_seconds > 1


def test_layers_by_name_and_a_head_that_cannot_be_told_from_its_backbone_are_measured_too() -> None:
    some = measured(trial(("stage3",)))
    assert all(pace.train_seconds > 0 and pace.feature_seconds == 0 for pace in some.paces.values())
    convolution = measured(
        replace(trial("head", model="squeezenet1_1"), dataset=replace(trial("all").dataset, image_size=32))
    )
    assert all(pace.train_seconds > 0 and pace.feature_seconds == 0 for pace in convolution.paces.values())
