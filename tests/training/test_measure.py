"""Sizes and speeds of models, measured on this machine."""

import time
from pathlib import Path

import pytest
import torch

from raybench.errors import InputError, ModelError
from raybench.records import ModelSpec
from raybench.training.measure import layers_text, measure, model_row

RESNET8 = ModelSpec(name="resnet8", head=None)
CPU = torch.device("cpu")
SLOW_MODEL = """
import time
import torch
from torch import nn

calls = []

class Slow(nn.Module):
    # Takes 20 ms an image, like a large model on a small machine.
    def __init__(self, num_classes):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.fc = nn.Linear(3, num_classes)
    def forward(self, x):
        calls.append(len(x))
        time.sleep(0.02 * len(x))
        return self.fc(self.norm(x.mean(dim=(2, 3))))

def slow(*, num_classes):
    return Slow(num_classes)
"""


def test_speeds_are_measured_with_the_batch_that_was_asked_for() -> None:
    speed = measure(RESNET8, image_size=8, num_classes=10, batch_size=16, device=CPU, threads=1, seconds=0.2)
    assert (speed.training_batch_size, speed.inference_batch_size) == (16, 16)
    assert speed.training_images_per_second is not None
    assert speed.inference_images_per_second is not None
    # Training includes the forward pass of the same images; predicting one alone is the slowest way.
    assert speed.inference_images_per_second > speed.training_images_per_second > 0
    assert speed.inference_latency_seconds > 1 / speed.inference_images_per_second
    assert (speed.threads, speed.accelerator) == (1, "cpu")


def test_a_slow_model_is_measured_on_few_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_to_measure.py").write_text(SLOW_MODEL)
    monkeypatch.syspath_prepend(str(tmp_path))
    import slow_to_measure  # type: ignore[import-not-found]  # noqa: PLC0415 (written above)

    started = time.perf_counter()
    speed = measure(
        ModelSpec(name="slow_to_measure:slow", head=None),
        image_size=8, num_classes=4, batch_size=64, device=CPU, threads=1, seconds=0.05,
    )  # fmt: skip
    assert time.perf_counter() - started < 20  # with 64 images a call it would be 1.3 s a call
    assert max(slow_to_measure.calls) <= 8
    assert 0.02 <= speed.inference_latency_seconds < 0.1
    assert speed.inference_images_per_second is not None
    assert 10 < speed.inference_images_per_second <= 50
    assert speed.training_batch_size == 2  # three passes of four would take longer than 0.15 s


def test_what_takes_too_long_is_called_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slower_to_measure.py").write_text(SLOW_MODEL)
    monkeypatch.syspath_prepend(str(tmp_path))
    import slower_to_measure  # type: ignore[import-not-found]  # noqa: PLC0415 (written above)

    spec = ModelSpec(name="slower_to_measure:slow", head=None)
    measure(spec, image_size=8, num_classes=4, device=CPU, threads=1, seconds=0.001)
    checks_while_building = 1
    assert len(slower_to_measure.calls) == checks_while_building + 3


def test_measuring_leaves_threads_and_random_numbers_as_they_were() -> None:
    threads = torch.get_num_threads()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    measure(RESNET8, image_size=8, num_classes=10, batch_size=2, device=CPU, threads=threads + 1, seconds=0.01)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_a_batch_of_one_cannot_be_trained_on() -> None:
    with pytest.raises(InputError, match="batch_size: 1 is too small"):
        measure(RESNET8, image_size=8, batch_size=1, device=CPU)


def test_sizes_are_those_of_the_published_architecture() -> None:
    row = model_row(ModelSpec(name="resnet18", head=None))
    assert (row.facts.depth, row.facts.parameters, row.image_size) == (18, 11_689_512, 224)
    assert row.speed is None


def test_an_image_size_that_the_model_cannot_take_is_refused() -> None:
    with pytest.raises(ModelError, match="alexnet: cannot take images of image_size 8"):
        model_row(ModelSpec(name="alexnet", head=None), image_size=8, measured=True)


def test_layers_are_printed_with_the_head_named() -> None:
    text = layers_text(RESNET8, num_classes=10)
    assert text.startswith("resnet8, 32 x 32 pixels, head: fc\nCifarResNet(")
    assert "(fc): Linear(in_features=64, out_features=10, bias=True)" in text
