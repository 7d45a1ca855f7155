"""What an image takes while nothing else runs on the device: in each phase of a trial, and in prediction.

In: a network, and a `Trial` whose phases are asked about. Out: a `Pace` a phase, and an `Inference`.

The phases are those that train trials (`raybench.training.phase_run`), over noise in place of images: batches are
prepared, augmented, trained on and validated as ever. What counts is the best of a few rounds, since whatever else runs
on the machine only takes away. Images are few: on a slow machine one small batch has to do.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from raybench.records import Inference, Pace, Phase, Trial, Tuning
from raybench.training.augment import crops
from raybench.training.batches import Preparation, evaluation_batch
from raybench.training.data import ImageSplit
from raybench.training.draws import base_size
from raybench.training.feature_rows import Positions
from raybench.training.features import FeatureSource, batch_size
from raybench.training.freezing import Backbone, split_at_head
from raybench.training.network import Network
from raybench.training.phase_run import PhaseRun, Task

SECONDS = 0.3
"""How long a round takes, unless one batch takes longer."""
ROUNDS = 3
LONGEST_SECONDS = 2.0
"""On a CPU batches are halved until they are expected to take less than this."""
MOST_BATCHES = 64
PASSES_PER_STEP = 3
"""A training step takes about this many forward passes: one forward, two backward."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseFeatures:
    """Features of a frozen backbone that were never computed."""

    backbone: Backbone
    seconds_per_image: float = 0.0

    def fill(self, wanted: object) -> None:
        """Do nothing: noise is there."""

    def source(self, split: str, positions: Positions | None = None) -> FeatureSource:
        """Return noise for so many images; the val split counts as of one batch."""
        device = next(self.backbone.network.module.parameters()).device
        count = batch_size(device) if positions is None else len(positions)
        rows = torch.randn(count, self.backbone.width, generator=_generator(split))
        return FeatureSource(rows=rows.to(device), positions=None, device=device)


@dataclass(kw_only=True, slots=True)
class Alone:
    """Times a network in this process.

    Args:
        network: on its device, in the layout in which it is trained.
        trial: whose settings hold; its strategy is left aside.
        tuning: how steps are computed.
        batch_size: of training steps: the trial's own, or less where a step would take too long.

    """

    network: Network
    trial: Trial
    tuning: Tuning
    batch_size: int
    _device: torch.device = field(init=False)
    _val_seconds: dict[bool, float] = field(init=False, default_factory=dict)
    """By whether the features of a frozen backbone are known."""
    _feature_seconds: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._device = next(self.network.module.parameters()).device

    def inference(self) -> Inference:
        """Return how fast the network predicts: one image, and in batches as large as validation's, if these are quick.

        Images are noise that lies in memory, normalised; the scores of a single one are waited for.
        """
        latency = _least(lambda: self._predict(1), ROUNDS)
        count = affordable(evaluation_batch(self._device, self._side), latency)
        seconds = _least(lambda: self._predict(count), ROUNDS)
        return Inference(images_per_second=count / min(seconds, count * latency), latency_seconds=latency)

    @property
    def _side(self) -> int:
        return self.trial.dataset.image_size

    @property
    def _bfloat16(self) -> bool:
        precision = self.trial.training.precision
        return precision == "bfloat16" or (precision == "auto" and self.tuning.bfloat16)

    def pace(self, trial: Trial, phase: int) -> Pace:
        """Return what an image takes in a phase, counted from 0, of a trial with the same settings."""
        own, policy = trial.strategy.phases[phase], trial.strategy.augmentation
        backbone = split_at_head(self.network) if own.train == "head" else None
        features = None if backbone is None else NoiseFeatures(backbone=backbone)
        size = self.batch_size

        def training(count: int) -> PhaseRun:
            return PhaseRun(self.network, own, self._task(policy, train=count, val=1), features)

        run = training(size)
        first = _least(lambda: run.train_epoch(1, own.learning_rate), 1)
        batches = max(1, min(MOST_BATCHES, math.floor(SECONDS / first)))
        run = training(batches * size)
        train = _least(lambda: run.train_epoch(1, own.learning_rate), ROUNDS if batches > 1 else 1)
        frozen = backbone is not None
        if frozen not in self._val_seconds:
            self._val_seconds[frozen] = self._validation(own, features, first / size / PASSES_PER_STEP)
        if backbone is not None and self._feature_seconds is None:
            self._feature_seconds = self._features(backbone)
        return Pace(
            train_seconds=train / (batches * size),
            val_seconds=self._val_seconds[frozen],
            feature_seconds=0.0 if backbone is None else self._feature_seconds or 0.0,
        )

    def _validation(self, phase: Phase, features: NoiseFeatures | None, seconds_per_image: float) -> float:
        """Return the seconds of a val image; it depends on whether its features are known, and on nothing else."""
        count = batch_size(self._device)
        if features is None:
            count = affordable(evaluation_batch(self._device, self._side), seconds_per_image)
        task = self._task("none", train=self.batch_size, val=count)
        return _least(PhaseRun(self.network, phase, task, features).validate, ROUNDS) / count

    def _features(self, backbone: Backbone) -> float:
        one = _least(lambda: self._feed(backbone, 1), 1)
        count = affordable(batch_size(self._device), one)
        return _least(lambda: self._feed(backbone, count), ROUNDS) / count

    def _feed(self, backbone: Backbone, count: int) -> None:
        images = self._preparation("none").evaluation(noise_pixels(count, self._side))
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._bfloat16):
            backbone(images).float().cpu()

    def _predict(self, count: int) -> None:
        module = self.network.module.eval()
        images = torch.zeros(count, 3, self._side, self._side, device=self._device)
        if self.tuning.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._bfloat16):
            scores: Tensor = module(images)
            scores.float().cpu()

    def _preparation(self, policy: str) -> Preparation:
        return Preparation(
            mean=self.network.mean,
            std=self.network.std,
            device=self._device,
            policy=policy,
            seed=0,
            channels_last=self.tuning.channels_last,
        )

    def _task(self, policy: str, *, train: int, val: int) -> Task:
        larger = base_size(self._side) if crops(policy) else None
        return Task(
            train=self._split(train, larger),
            subset=np.arange(train),
            val=self._split(val),
            preparation=self._preparation(policy),
            batch_size=self.batch_size,
            label_smoothing=self.trial.training.label_smoothing,
            class_weights=None,
            bfloat16=self._bfloat16,
        )

    def _split(self, count: int, larger: int | None = None) -> ImageSplit:
        return ImageSplit(
            images=noise_pixels(count, self._side),
            labels=np.zeros(count, dtype=np.int64),
            names=tuple(map(str, range(count))),
            base=None if larger is None else noise_pixels(count, larger),
        )


def affordable(count: int, seconds_per_image: float, longest_seconds: float = LONGEST_SECONDS) -> int:
    """Return so many images, halved until they are expected to take no longer."""
    while count > 1 and count * seconds_per_image > longest_seconds:
        count //= 2
    return count


def noise_pixels(count: int, side: int) -> np.ndarray:
    """Return so many images of noise: uint8 [count, side, side, 3]."""
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def _generator(split: str) -> torch.Generator:
    return torch.Generator().manual_seed(len(split))


def _least(call: Callable[[], object], rounds: int) -> float:
    """Return the seconds of the quickest of so many calls, after a first one that makes things ready."""
    call()
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
