"""How large and how fast a model is on this machine: a `ModelSpec` in, a `ModelRow` with a measured `Speed` out.

What is timed are tensors that lie in memory already: reading, decoding and augmenting images are not in it, and the
machine is taken to be otherwise idle. `torch.utils.benchmark` keeps the threads, waits for the GPU and repeats.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

import psutil
import torch
from torch import Tensor, nn
from torch.utils import benchmark

from raybench.errors import InputError
from raybench.records import ModelSpec
from raybench.training.alone import PASSES_PER_STEP, affordable
from raybench.training.architectures import usual_image_size
from raybench.training.loop import usual_tuning
from raybench.training.models import ModelFacts, build_network, build_skeleton, model_facts
from raybench.training.tuning import SMALLEST_BATCH, training_step

IMAGENET_CLASSES: Final = 1000

LONGEST_CALL: Final = 3.0
"""Batches are halved until a call is expected to take less than this many times `seconds`."""

COPIES_TO_TRAIN: Final = 3
"""Gradients and Adam's two moments: what training keeps beside each parameter."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    """How fast a model is on one device."""

    training_images_per_second: float | None
    """Fine-tuning all layers: forward, backward and Adam's step, as is usual (bfloat16 autocast on a GPU that has
    units for it, else float32; a run measures what is faster). None where parameters, gradients and the optimizer's
    state do not fit into memory."""
    inference_images_per_second: float | None
    """Forward pass of a batch in eval mode, float32. None where it does not fit into memory."""
    inference_latency_seconds: float
    """Median time from one image on the device to its scores on the CPU, float32."""
    training_batch_size: int
    """Images a step; fewer than asked for where a step would take too long or too much memory."""
    inference_batch_size: int
    threads: int
    accelerator: str
    """`cpu` or the GPU's name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelRow:
    """One line of the table of models."""

    facts: ModelFacts
    image_size: int
    """Side in pixels."""
    speed: Speed | None
    """None where it was not measured."""


def model_row(
    spec: ModelSpec,
    *,
    image_size: int | None = None,
    num_classes: int = IMAGENET_CLASSES,
    measured: bool = False,
    device: torch.device | None = None,
    threads: int | None = None,
) -> ModelRow:
    """Return a model's size and, where `measured`, its speed; see `measure`.

    `image_size` is the one that the architecture was published with where it is None. Raises ModelError.
    """
    size = usual_image_size(spec) if image_size is None else image_size
    facts = model_facts(build_skeleton(spec, num_classes=num_classes, image_size=size))
    speed = None
    if measured:
        speed = measure(spec, image_size=size, num_classes=num_classes, device=device, threads=threads)
    return ModelRow(facts=facts, image_size=size, speed=speed)


def layers_text(spec: ModelSpec, *, image_size: int | None = None, num_classes: int = IMAGENET_CLASSES) -> str:
    """Return the architecture as torch prints it, under a line that says where the head is. Raises ModelError."""
    size = usual_image_size(spec) if image_size is None else image_size
    network = build_skeleton(spec, num_classes=num_classes, image_size=size)
    return f"{spec.name}, {size} x {size} pixels, head: {network.head_name}\n{network.module!r}"


def measure(
    spec: ModelSpec,
    *,
    image_size: int,
    num_classes: int = IMAGENET_CLASSES,
    weights: str = "random",
    batch_size: int = 32,
    device: torch.device | None = None,
    threads: int | None = None,
    seconds: float = 2.0,
) -> Speed:
    """Measure how fast a model trains and predicts here.

    Method: each call is made once to warm up, then repeated for `seconds`; the median counts. Calls that would take
    more than three times as long get smaller batches; one that still does counts as it is, made only once. So a model
    takes about half a minute at most, and what one training step of two images takes where that is longer.

    Args:
        spec: the model.
        image_size: side in pixels.
        num_classes: outputs of the head.
        weights: as in an experiment file; they do not change the speed.
        batch_size: images a call, at least 2.
        device: where to compute; None: the first GPU, or the CPU where there is none.
        threads: of the CPU; None: as many as torch uses.
        seconds: how long each of the three figures is measured.

    Raises:
        ModelError, WeightsError: the model cannot be built, as `build_network` says.
        InputError: `batch_size` is below 2.

    """
    if batch_size < SMALLEST_BATCH:
        raise InputError(f"batch_size: {batch_size} is too small to measure training; give 2 or more")
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    threads = threads or torch.get_num_threads()
    network = build_network(spec, weights, num_classes=num_classes, image_size=image_size, seed=0)
    module = network.module.to(device)
    bench = _Bench(
        module=module, image_size=image_size, num_classes=num_classes, device=device, threads=threads, seconds=seconds
    )
    with _threads(threads), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        latency = bench.seconds_per_call(bench.single_prediction())
        inference = bench.throughput(bench.prediction, bench.affordable(batch_size, latency), smallest=1)
        training = _Throughput(images_per_second=None, batch_size=SMALLEST_BATCH)
        if _fits_in_memory(module, device):
            largest = max(bench.affordable(batch_size, PASSES_PER_STEP * latency), SMALLEST_BATCH)
            training = bench.throughput(bench.training_step, largest, smallest=SMALLEST_BATCH)
    return Speed(
        training_images_per_second=training.images_per_second,
        inference_images_per_second=inference.images_per_second,
        inference_latency_seconds=latency,
        training_batch_size=training.batch_size,
        inference_batch_size=inference.batch_size,
        threads=threads,
        accelerator=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Throughput:
    images_per_second: float | None
    batch_size: int


class _MakeCall(Protocol):
    """Prepares something to be timed for a number of images a call."""

    def __call__(self, batch_size: int) -> Callable[[], object]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class _Bench:
    """A network on a device, and for how long it is timed."""

    module: nn.Module
    image_size: int
    num_classes: int
    device: torch.device
    threads: int
    seconds: float

    def images(self, count: int) -> Tensor:
        """Return normal noise: normalised images look like it, to a processor."""
        return torch.randn(count, 3, self.image_size, self.image_size, device=self.device)

    def single_prediction(self) -> Callable[[], object]:
        """Prepare the forward pass of one image; its scores are waited for, as their user does."""
        predict = self.prediction(1)
        return lambda: predict().cpu()

    def prediction(self, batch_size: int) -> Callable[[], Tensor]:
        """Prepare the forward pass of a batch in eval mode."""
        images = self.images(batch_size)
        self.module.eval()

        def predict() -> Tensor:
            with torch.inference_mode():
                scores: Tensor = self.module(images)
            return scores

        return predict

    def training_step(self, batch_size: int) -> Callable[[], None]:
        """Prepare a step that trains all layers on a batch."""
        images = self.images(batch_size)
        labels = torch.randint(self.num_classes, (batch_size,), device=self.device)
        return training_step(self.module, images, labels, bfloat16=usual_tuning(self.device).bfloat16)

    def affordable(self, batch_size: int, seconds_per_image: float) -> int:
        """Return the batch size, halved until a call should not take too long."""
        return affordable(batch_size, seconds_per_image, LONGEST_CALL * self.seconds)

    def throughput(self, make_call: _MakeCall, batch_size: int, *, smallest: int) -> _Throughput:
        """Measure images per second, with a smaller batch where the GPU's memory runs out."""
        while True:
            try:
                seconds = self.seconds_per_call(make_call(batch_size))
            except torch.OutOfMemoryError:
                if batch_size == smallest:
                    return _Throughput(images_per_second=None, batch_size=batch_size)
                batch_size = max(batch_size // 2, smallest)
            else:
                return _Throughput(images_per_second=batch_size / seconds, batch_size=batch_size)

    def seconds_per_call(self, call: Callable[[], object]) -> float:
        """Return the median time of a call after a first one; of a very long one the time of that first."""
        started = benchmark.timer()
        call()
        first = float(benchmark.timer() - started)
        if first > LONGEST_CALL * self.seconds:
            return first
        timer = benchmark.Timer("call()", globals={"call": call}, num_threads=self.threads)
        return float(timer.blocked_autorange(min_run_time=self.seconds).median)


def _fits_in_memory(module: nn.Module, device: torch.device) -> bool:
    """Whether a CPU has room for what training adds: Linux would end the process instead of raising an error."""
    if device.type != "cpu":
        return True
    parameters = sum(parameter.nbytes for parameter in module.parameters())
    return COPIES_TO_TRAIN * parameters < psutil.virtual_memory().available


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
