"""How a model's training steps are computed soonest in this process, and how soon that is.

In: a `Trial` and what it was given of the machine. Out: a `Step`: memory layout and precision with their images per
second, and figures for processes that measure at the same time.

What is timed is what takes the time: forward, backward and Adam's step over tensors that lie in memory already.
Threads, determinism and device are those of the trial; the model has random weights, and images are noise.
"""

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Protocol

import psutil
import torch
from torch import Tensor, nn
from torch.nn import functional

from raybench.choices import Solo, Step
from raybench.process_memory import machine_bytes
from raybench.records import Allocation, Footprint, Trial, Tuning
from raybench.training.alone import PASSES_PER_STEP, Alone
from raybench.training.batches import evaluation_batch
from raybench.training.footprint import footprint
from raybench.training.loop import usual_tuning
from raybench.training.memory import PeakMemory
from raybench.training.models import build_network
from raybench.training.process import prepare_process, release_memory

CLASSES = 10
"""Outputs of the head: however many, they take little of a step."""
LAYOUT_GAIN = 1.03
"""Another layout must be at least this much faster: less is within what a measurement is off by."""
PRECISION_GAIN = 1.1
"""Another precision must be: it changes what is computed, not only in the last digits."""
HOPELESS = 1.25
"""A candidate that takes so much longer than the best is not measured on."""
SECONDS = 1.0
"""How long candidates are compared, at most, once each has made its first steps."""
STEP_SECONDS = 0.7
"""On a CPU batches are halved until a step is expected to take less. What a step costs whatever its batch, such as
weights turned into bfloat16, has to stay small beside it: eight images of 64 pixels hide what 32 gain."""
ROUND_SECONDS = 0.05
"""Each candidate's turn, at least."""
LEAST_ROUNDS, MOST_ROUNDS = 2, 9
LEAST_STEPS = 2
SMALLEST_BATCH = 2
"""BatchNorm has no variance over a single image."""
COPIES_TO_COMPARE = 2
"""Parameters and gradients."""
COPIES_TO_TRAIN = 4
"""With Adam's two moments."""


def backward_step(module: nn.Module, images: Tensor, labels: Tensor, *, bfloat16: bool) -> Callable[[], None]:
    """Prepare a forward and backward pass of a batch through all layers, in training mode."""
    module.train()
    device = images.device.type

    def step() -> None:
        module.zero_grad(set_to_none=True)
        with torch.autocast(device, dtype=torch.bfloat16, enabled=bfloat16):
            scores = module(images)
        functional.cross_entropy(scores.float(), labels).backward()  # type: ignore[no-untyped-call]

    return step


def training_step(module: nn.Module, images: Tensor, labels: Tensor, *, bfloat16: bool) -> Callable[[], None]:
    """Prepare a step that trains all layers on a batch with Adam."""
    backward = backward_step(module, images, labels, bfloat16=bfloat16)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        backward()
        optimizer.step()

    return step


def candidates(usual: Tuning, precision: str) -> list[Tuning]:
    """Return what is worth trying on a device with that usual tuning, the usual first."""
    precisions = [usual.bfloat16, not usual.bfloat16] if precision == "auto" else [usual.bfloat16]
    return [Tuning(channels_last=layout, bfloat16=bfloat16) for bfloat16 in precisions for layout in (False, True)]


def choose(seconds_per_step: Mapping[Tuning, float]) -> Tuning:
    """Return what to take: the usual, which is the first, unless another is enough faster. NaN: not measurable.

    Raises:
        ValueError: none could be measured.

    """
    measured = {tuning: seconds for tuning, seconds in seconds_per_step.items() if not math.isnan(seconds)}
    if not measured:
        raise ValueError("nothing could be measured")
    usual = next(iter(measured)).bfloat16
    same = {tuning: seconds for tuning, seconds in measured.items() if tuning.bfloat16 == usual}
    other = {tuning: seconds for tuning, seconds in measured.items() if tuning.bfloat16 != usual}
    best = _simplest(same)
    if other and measured[best] >= PRECISION_GAIN * min(other.values()):
        best = _simplest(other)
    return best


def _simplest(seconds_per_step: Mapping[Tuning, float]) -> Tuning:
    """Return the first that no other beats by enough."""
    least = min(seconds_per_step.values())
    return next(tuning for tuning, seconds in seconds_per_step.items() if seconds < LAYOUT_GAIN * least)


class _MakeStep(Protocol):
    """Prepares what is timed: `backward_step` or `training_step`."""

    def __call__(self, module: nn.Module, images: Tensor, labels: Tensor, *, bfloat16: bool) -> Callable[[], None]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class _Ready:
    """What is timed, and with how many images a call."""

    step: Callable[[], None]
    batch_size: int


class Bench:
    """The training step of a trial, in this process as it would run there.

    Args:
        trial: of the model, image size, batch size and precision that are asked about.
        allocation: what such a trial gets; its threads and device are set for this process.

    Raises:
        ModelError, WeightsError: the model cannot be built.

    """

    def __init__(self, trial: Trial, allocation: Allocation) -> None:
        self._trial = trial
        self._allocation = allocation
        self._device = prepare_process(trial, allocation)
        self._memory = PeakMemory(self._device)
        self._network = build_network(
            trial.model,
            "as-built" if trial.weights == "as-built" else "random",
            num_classes=CLASSES,
            image_size=trial.dataset.image_size,
            seed=0,
        )
        self._module = self._network.module.to(self._device)
        self._full_batch = max(trial.training.batch_size, SMALLEST_BATCH)
        self._ready: _Ready | None = None

    @property
    def on_gpu(self) -> bool:
        """Whether the trial would compute on a GPU that torch sees."""
        return self._device.type == "cuda"

    def choose(self, seconds: float = SECONDS) -> Step:
        """Compare layouts and precisions, and return the one to take."""
        batch_size = self._affordable_batch()
        modules = {False: self._module}
        if self._has_room_for(copies=2 * COPIES_TO_COMPARE):
            modules[True] = copy.deepcopy(self._module)
        usual = usual_tuning(self._device)
        steps = {
            tuning: self._step(backward_step, modules[tuning.channels_last], tuning, batch_size)
            for tuning in candidates(usual, self._trial.training.precision)
            if tuning.channels_last in modules
        }
        passes = _compare(steps, self._clock, seconds)
        del steps, modules
        batches = self._full_batch / batch_size
        optimizer = self._optimizer_seconds()
        taken = {tuning: each * batches + optimizer for tuning, each in passes.items()}
        chosen = choose(taken)
        return Step(tuning=chosen, images_per_second=self._full_batch / taken[chosen])

    def warm_up(self, tuning: Tuning, batch_size: int) -> None:
        """Make ready for `images_per_second`: the first steps take longer. Raises what a lack of memory raises."""
        self._ready = _Ready(step=self._step(training_step, self._module, tuning, batch_size), batch_size=batch_size)
        for _ in range(LEAST_STEPS):
            self._ready.step()
        if self.on_gpu:  # val and test images come in larger batches, which take other memory
            side = self._trial.dataset.image_size
            with torch.inference_mode():
                self._module(torch.randn(evaluation_batch(self._device, side), 3, side, side, device=self._device))
        self._synchronise()

    def images_per_second(self, seconds: float) -> float:
        """Train for so long, two steps at least, and return the images of a second."""
        if self._ready is None:
            raise RuntimeError("warm_up comes first")
        started, count = time.perf_counter(), 0
        while count < LEAST_STEPS or time.perf_counter() - started < seconds:
            self._ready.step()
            self._synchronise()
            count += 1
        return count * self._ready.batch_size / (time.perf_counter() - started)

    def alone(self, tuning: Tuning, phases: Mapping[str, tuple[Trial, int]]) -> Solo:
        """Return what phases of trials with these settings, by any key, take alone, and prediction."""
        self._module.to(memory_format=_layout(tuning))
        clock = Alone(network=self._network, trial=self._trial, tuning=tuning, batch_size=self._affordable_batch())
        inference = clock.inference()
        return Solo(paces={key: clock.pace(*phase) for key, phase in phases.items()}, inference=inference)

    def footprints(self, tuning: Tuning, trials: Mapping[str, Trial]) -> dict[str, Footprint]:
        """Return what trials with these settings, by any key, will take at most; the model is gone afterwards."""
        most_images = self._affordable_batch()
        self._ready = None
        del self._module, self._network
        return {key: footprint(trial, tuning, self._device, most_images=most_images) for key, trial in trials.items()}

    def peak_bytes(self) -> int:
        """Return the most memory that this process took so far, or its part of what is taken of the GPU now.

        The latter counts what CUDA itself takes for each process, which torch does not know.
        """
        if self.on_gpu:
            free, total = torch.cuda.mem_get_info(self._device)
            return int((total - free) * self._allocation.gpu_fraction)
        return self._memory.peak_bytes()

    def memory_bytes(self) -> int:
        """Return the memory there is, free or not: of this machine, or of the GPU."""
        if self.on_gpu:
            return int(torch.cuda.mem_get_info(self._device)[1])
        return machine_bytes()

    def close(self) -> None:
        """Leave the process without the model."""
        self._ready = None
        for name in ("_module", "_network"):
            self.__dict__.pop(name, None)
        release_memory()

    def _step(self, make: _MakeStep, module: nn.Module, tuning: Tuning, batch_size: int) -> Callable[[], None]:
        layout = _layout(tuning)
        module.to(memory_format=layout)
        side = self._trial.dataset.image_size
        images = torch.randn(batch_size, 3, side, side, device=self._device).contiguous(memory_format=layout)
        labels = torch.randint(CLASSES, (batch_size,), device=self._device)
        precision = self._trial.training.precision
        bfloat16 = precision == "bfloat16" or (precision == "auto" and tuning.bfloat16)
        return make(module, images, labels, bfloat16=bfloat16)

    def _affordable_batch(self) -> int:
        """Return the trial's batch size, on a CPU halved until a step should not take too long.

        Forward passes of 1, 2, 4, ... images tell: few images wait for the weights to come from memory, so what a large
        batch takes does not follow from a small one.
        """
        batch_size = self._full_batch
        if self.on_gpu:
            return batch_size
        affordable = 1
        while affordable < batch_size and 2 * PASSES_PER_STEP * self._forward_seconds(affordable) <= STEP_SECONDS:
            affordable *= 2
        while batch_size >= 2 * SMALLEST_BATCH and batch_size > affordable:
            batch_size //= 2
        return batch_size

    def _forward_seconds(self, count: int) -> float:
        side = self._trial.dataset.image_size
        images = torch.randn(count, 3, side, side)
        self._module.eval()
        with torch.inference_mode():
            self._module(images)
            started = self._clock()
            self._module(images)
        return self._clock() - started

    def _optimizer_seconds(self) -> float:
        """Return what Adam's step takes, whatever the layout; 0 where there is no memory for it."""
        if not self._has_room_for(copies=COPIES_TO_TRAIN):
            return 0.0
        optimizer = torch.optim.Adam(self._module.parameters(), lr=1e-4, fused=True)
        for parameter in self._module.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        started = self._clock()
        optimizer.step()
        return self._clock() - started

    def _has_room_for(self, *, copies: int) -> bool:
        """Whether so many times the parameters fit in this process's share of the memory."""
        needed = copies * sum(parameter.nbytes for parameter in self._module.parameters())
        if self.on_gpu:
            free, _ = torch.cuda.mem_get_info(self._device)
            return needed < free * min(self._allocation.gpu_fraction, 1) / 2
        return needed < psutil.virtual_memory().available * self._allocation.cpu_share / 2

    def _clock(self) -> float:
        """Return seconds: on a CPU those that its threads computed, which neighbours do not lengthen."""
        if not self.on_gpu:
            return time.process_time() / self._allocation.threads
        self._synchronise()
        return time.perf_counter()

    def _synchronise(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize(self._device)


def _layout(tuning: Tuning) -> torch.memory_format:
    return torch.channels_last if tuning.channels_last else torch.contiguous_format


def _compare(
    steps: Mapping[Tuning, Callable[[], None]], clock: Callable[[], float], seconds: float
) -> dict[Tuning, float]:
    """Return the median seconds of a step of each candidate, in turns; NaN where it raises an error.

    One that is far behind gets no more turns, except the first: the others are held against it.
    """

    def timed(step: Callable[[], None], repeats: int) -> float:
        started = clock()
        for _ in range(repeats):
            step()
        return (clock() - started) / repeats

    times: dict[Tuning, list[float]] = {}
    repeats: dict[Tuning, int] = {}
    for tuning, step in steps.items():
        try:
            first = timed(step, 1)
            repeats[tuning] = math.ceil(ROUND_SECONDS / (first if first > STEP_SECONDS else timed(step, 1)))
            times[tuning] = []
        except RuntimeError:  # no memory, or no kernel for it
            repeats.pop(tuning, None)
    usual, started = next(iter(steps)), time.perf_counter()
    for done in range(MOST_ROUNDS if repeats else 0):
        if done >= LEAST_ROUNDS and time.perf_counter() - started > seconds:
            break
        for tuning, repeat in repeats.items():
            times[tuning].append(timed(steps[tuning], repeat))
        best = min(median(values) for values in times.values())
        repeats = {
            tuning: repeat
            for tuning, repeat in repeats.items()
            if tuning == usual or median(times[tuning]) <= best * HOPELESS
        }
    return {tuning: median(times[tuning]) if times.get(tuning) else math.nan for tuning in steps}
