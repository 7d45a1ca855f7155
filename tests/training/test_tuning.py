"""Which memory layout and precision is taken, and the steps that are timed for it."""

import math
from dataclasses import replace

import pytest
import torch

from raybench.records import Allocation, Tuning
from raybench.training.models import build_network
from raybench.training.tuning import Bench, backward_step, candidates, choose, training_step
from tests.builders import SETTINGS, make_trial

PLAIN, LAYOUT = Tuning(), Tuning(channels_last=True)
HALF, BOTH = Tuning(bfloat16=True), Tuning(channels_last=True, bfloat16=True)
ONE_THREAD = Allocation(cpu_share=0.5, gpu_fraction=0.0, threads=1)


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({PLAIN: 1.0, LAYOUT: 0.98}, PLAIN),
        ({PLAIN: 1.0, LAYOUT: 0.9}, LAYOUT),
        ({PLAIN: 1.0, LAYOUT: 1.0, HALF: 0.92, BOTH: 0.93}, PLAIN),
        ({PLAIN: 1.0, LAYOUT: 1.0, HALF: 0.8, BOTH: 0.79}, HALF),
        ({PLAIN: 1.0, LAYOUT: 1.0, HALF: 0.8, BOTH: 0.7}, BOTH),
        ({PLAIN: 1.0, LAYOUT: 0.8, HALF: 0.76, BOTH: 0.75}, LAYOUT),
        ({HALF: 1.0, BOTH: 1.0, PLAIN: 0.95, LAYOUT: 0.95}, HALF),
        ({HALF: 1.0, BOTH: 1.0, PLAIN: 0.5, LAYOUT: 0.5}, PLAIN),
        ({PLAIN: math.nan, LAYOUT: 1.0}, LAYOUT),
        ({PLAIN: 1.0, LAYOUT: math.nan, HALF: math.nan, BOTH: math.nan}, PLAIN),
        ({PLAIN: math.nan, LAYOUT: math.nan, HALF: 1.0}, HALF),
    ],
)
def test_another_way_is_taken_only_where_it_is_enough_faster(seconds: dict[Tuning, float], chosen: Tuning) -> None:
    assert choose(seconds) == chosen


def test_nothing_can_be_taken_where_nothing_could_be_measured() -> None:
    with pytest.raises(ValueError, match="nothing could be measured"):
        choose({PLAIN: math.nan})


def test_precision_is_tried_only_where_it_is_free() -> None:
    assert candidates(PLAIN, "auto") == [PLAIN, LAYOUT, HALF, BOTH]
    assert candidates(HALF, "auto") == [HALF, BOTH, PLAIN, LAYOUT]
    assert candidates(PLAIN, "float32") == candidates(PLAIN, "bfloat16") == [PLAIN, LAYOUT]


def test_a_real_model_is_measured_and_can_be_trained_as_chosen() -> None:
    trial = make_trial(training=replace(SETTINGS, precision="auto"))
    bench = Bench(trial, ONE_THREAD)
    step = bench.choose(seconds=0.1)
    assert step.images_per_second > 1
    assert not bench.on_gpu
    assert bench.memory_bytes() > bench.peak_bytes() > 10_000_000
    bench.warm_up(step.tuning, 8)
    assert bench.images_per_second(0.05) > 1
    bench.close()


def test_images_are_counted_after_warming_up_only() -> None:
    with pytest.raises(RuntimeError, match="warm_up comes first"):
        Bench(make_trial(), ONE_THREAD).images_per_second(0.1)


@pytest.mark.parametrize("bfloat16", [False, True])
def test_a_timed_step_trains_the_model(*, bfloat16: bool) -> None:
    network = build_network(make_trial().model, "random", num_classes=10, image_size=8, seed=0)
    weight = network.module.get_parameter(f"{network.head_name}.weight")
    before = weight.detach().clone()
    images, labels = torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 3])
    backward_step(network.module, images, labels, bfloat16=bfloat16)()
    assert torch.equal(weight, before)
    assert weight.grad is not None
    training_step(network.module, images, labels, bfloat16=bfloat16)()
    assert not torch.equal(weight, before)
