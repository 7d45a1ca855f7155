"""One phase in progress: what learns, its optimizer, and the features of a frozen backbone.

In: a `Network`, a `Phase` and the `Task` that all phases of a trial share. Out: the loss and accuracy
of one pass over the training subset, or over the val split.
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from raybench.records import Phase
from raybench.training.batches import Preparation, forward_all, training_order
from raybench.training.data import ImageSplit
from raybench.training.freezing import freeze, set_training_mode, split_at_head
from raybench.training.network import Network
from raybench.training.optimization import build_optimizer


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What a trial learns from, and how its loss is counted."""

    train: ImageSplit
    subset: npt.NDArray[np.int64]
    """Positions of the seed's training images in `train`, shape [train_size]."""
    val: ImageSplit
    preparation: Preparation
    batch_size: int
    label_smoothing: float
    class_weights: Tensor | None
    """Weight of each class in the training loss, shape [classes]."""
    bfloat16: bool
    """Whether forward passes run under autocast."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PassResult:
    """Mean cross-entropy in nats, and accuracy as a fraction, over one pass."""

    loss: float
    accuracy: float


class PhaseRun:
    """One phase of a trial. Deterministic: all randomness follows from the seed and the epoch."""

    def __init__(self, network: Network, phase: Phase, task: Task) -> None:
        self._network = network
        self._phase = phase
        self._task = task
        self._device = task.preparation.device
        self.optimizer = build_optimizer(phase, freeze(network, phase.train))
        self._labels = torch.from_numpy(task.train.labels[task.subset]).to(self._device)
        self._val_labels = torch.from_numpy(task.val.labels).to(self._device)
        self._backbone = split_at_head(network) if phase.train == "head" else None
        self._features: Tensor | None = None
        self._val_features: Tensor | None = None
        self.feature_seconds = 0.0
        """Time of the frozen backbone's pass over the training and val images."""

    def train_epoch(self, epoch: int, learning_rate: float) -> PassResult:
        """Train on every image of the subset once. `epoch` counts over all phases, from 1."""
        self._extract_features()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        set_training_mode(self._network, self._phase.train)
        augmentation = self._task.preparation.generator(epoch)
        total_loss = torch.zeros((), dtype=torch.float64, device=self._device)
        correct = torch.zeros((), dtype=torch.int64, device=self._device)
        images = len(self._labels)
        for positions in training_order(images, self._task.batch_size, self._task.preparation.seed, epoch):
            labels = self._labels[torch.from_numpy(positions).to(self._device)]
            self.optimizer.zero_grad(set_to_none=True)
            with self._autocast():
                logits = self._training_logits(positions, augmentation)
            loss = functional.cross_entropy(
                logits.float(),
                labels,
                weight=self._task.class_weights,
                label_smoothing=self._task.label_smoothing,
            )
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            total_loss += loss.detach().double() * len(positions)
            correct += (logits.detach().argmax(dim=1) == labels).sum()
        return PassResult(loss=(total_loss / images).item(), accuracy=(correct / images).item())

    @torch.no_grad()
    def validate(self) -> PassResult:
        """Score the val split, without label smoothing or class weights."""
        self._network.module.eval()
        with self._autocast():
            if self._val_features is not None:
                logits = self._network.head(self._val_features)
            else:
                logits = forward_all(self._network.module, self._task.val, self._task.preparation)
        loss = functional.cross_entropy(logits.double(), self._val_labels)
        correct = (logits.argmax(dim=1) == self._val_labels).double().mean()
        return PassResult(loss=loss.item(), accuracy=correct.item())

    def load_optimizer(self, state: dict[str, Any]) -> None:
        """Go on with an optimizer's saved state."""
        self.optimizer.load_state_dict(state)

    def _training_logits(self, positions: npt.NDArray[np.int64], augmentation: torch.Generator) -> Tensor:
        logits: Tensor
        if self._features is not None:
            logits = self._network.head(self._features[torch.from_numpy(positions).to(self._device)])
        else:
            batch = self._task.preparation.training(self._task.train.images[self._task.subset[positions]], augmentation)
            # A frozen backbone runs forward only: `split_at_head` keeps no gradients.
            logits = (
                self._network.module(batch) if self._backbone is None else self._network.head(self._backbone(batch))
            )
        return logits

    def _extract_features(self) -> None:
        """Push each image through the frozen backbone once; augmentation makes every training image new instead."""
        if self._backbone is None or self._val_features is not None:
            return
        self._network.module.eval()
        started = time.perf_counter()
        with self._autocast():
            self._val_features = forward_all(self._backbone, self._task.val, self._task.preparation)
            if self._task.preparation.policy == "none":
                self._features = forward_all(
                    self._backbone, self._task.train, self._task.preparation, self._task.subset
                )
        self.feature_seconds = time.perf_counter() - started

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._task.bfloat16)
