"""One phase in progress: what learns, its optimizer, and where its batches come from.

In: a `Network`, a `Phase`, the `Task` that all phases of a trial share, and the features of a backbone that this phase
leaves as it is. Out: the loss and accuracy of one pass over the training subset, or over the val split.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from raybench.records import Phase
from raybench.training.batches import Preparation, TrainingImages, forward_all, training_images, training_order
from raybench.training.data import ImageSplit
from raybench.training.distributed import ALONE, Part, Ranks
from raybench.training.features import Features, FeatureSource
from raybench.training.freezing import freeze, set_training_mode
from raybench.training.network import Network
from raybench.training.optimization import build_optimizer, load_optimizer

GATHERED_BATCHES = 64
"""Batches whose features are gathered at once: one call instead of many, and still few megabytes."""


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
    ranks: Ranks = ALONE
    """Of the processes that train the trial, this one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PassResult:
    """Mean cross-entropy in nats, and accuracy as a fraction, over one pass."""

    loss: float
    accuracy: float


@dataclass(frozen=True, kw_only=True, slots=True)
class _Batch:
    """One batch, and what this rank takes of it."""

    places: npt.NDArray[np.int64]
    """Of all its images in the training subset."""
    part: Part

    @property
    def own(self) -> npt.NDArray[np.int64]:
        """Places of the images that this rank takes."""
        return self.places[self.part.start : self.part.stop]


class PhaseRun:
    """One phase of a trial. Deterministic: all randomness follows from the seed and the epoch.

    Args:
        network: what learns.
        phase: how.
        task: what from.
        features: of the network's backbone, where the phase trains the head alone: then images that are the same in
            every epoch are pushed through the backbone once, by whoever needs them first, and others without gradients.

    """

    def __init__(self, network: Network, phase: Phase, task: Task, features: Features | None = None) -> None:
        self._network = network
        self._phase = phase
        self._task = task
        self._device = task.preparation.device
        self.optimizer = build_optimizer(phase, freeze(network, phase.train))
        self._labels = torch.from_numpy(task.train.labels[task.subset]).to(self._device)
        self._val_span = task.ranks.span(len(task.val))
        self._val_labels = torch.from_numpy(task.val.labels[self._val_span]).to(self._device)
        self._images: TrainingImages | None = None
        self._features: FeatureSource | None = None
        self._val_features: FeatureSource | None = None
        self._backbone = features.backbone if features else None
        self._learner = task.ranks.learner(network.module if features is None else network.head)
        if features is None or task.preparation.policy != "none":
            self._images = training_images(task.train, task.subset, task.preparation)
        self.feature_seconds = 0.0
        """What the backbone takes for this trial's own images, whether they were computed now or found; of several
        ranks, which compute them together, what each takes for its part."""
        if features is not None:
            self._read(features)

    def train_epoch(self, epoch: int, learning_rate: float) -> PassResult:
        """Train on every image of the subset once. `epoch` counts over all phases, from 1."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self._set_training_mode()
        batches = self._batches(epoch)
        sizes = [len(batch.own) for batch in batches]
        labels = self._labels[torch.from_numpy(np.concatenate([batch.own for batch in batches])).to(self._device)]
        inputs = self._inputs(batches, self._task.preparation.generator(epoch))
        losses, predicted = [], []
        for seen, wanted, batch in zip(inputs, torch.split(labels, sizes), batches, strict=True):
            self.optimizer.zero_grad(set_to_none=True)
            with self._autocast():
                logits = self._learner(seen)
            loss = functional.cross_entropy(
                logits.float(),
                wanted,
                weight=self._task.class_weights,
                label_smoothing=self._task.label_smoothing,
            )
            if not self._ranks.alone:  # the mean of what the ranks have is then the loss of the whole batch
                loss = loss * (self._ranks.count * self._weight(batch))
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            # Read once they are all there: each look at a number waits for the device.
            losses.append(loss.detach())
            predicted.append(logits.detach().argmax(dim=1))
        if self._backbone is None:
            self._ranks.average_statistics(self._network.module)
        whole = [batch.part.whole for batch in batches]
        shares = torch.tensor(whole, dtype=torch.float64, device=self._device) / sum(whole)
        loss = (torch.stack(losses).double() * shares).sum()
        hits = torch.cat(predicted) == labels
        if self._ranks.alone:
            return PassResult(loss=loss.item(), accuracy=hits.double().mean().item())
        counted = torch.tensor([batch.part.counts for batch in batches], device=self._device)
        hits &= counted.repeat_interleave(torch.tensor(sizes, device=self._device))
        figures = self._ranks.summed(torch.stack([loss / self._ranks.count, hits.sum().double()]))
        return PassResult(loss=figures[0].item(), accuracy=figures[1].item() / sum(whole))

    @torch.no_grad()
    def validate(self) -> PassResult:
        """Score the val split, without label smoothing or class weights."""
        if self._ranks.alone:
            logits = self._val_logits(None)
            loss = functional.cross_entropy(logits.double(), self._val_labels)
            correct = (logits.argmax(dim=1) == self._val_labels).double().mean()
            return PassResult(loss=loss.item(), accuracy=correct.item())
        figures = torch.zeros(2, dtype=torch.float64, device=self._device)
        if len(self._val_labels):  # a tiny split may leave none for this rank
            logits = self._val_logits(np.arange(len(self._task.val))[self._val_span])
            loss = functional.cross_entropy(logits.double(), self._val_labels, reduction="sum")
            figures = torch.stack([loss, (logits.argmax(dim=1) == self._val_labels).sum().double()])
        loss_sum, hits = (self._ranks.summed(figures) / len(self._task.val)).tolist()
        return PassResult(loss=loss_sum, accuracy=hits)

    def load_optimizer(self, state: dict[str, Any]) -> None:
        """Go on with an optimizer's saved state."""
        load_optimizer(self.optimizer, state)

    @property
    def _ranks(self) -> Ranks:
        return self._task.ranks

    def _batches(self, epoch: int) -> list["_Batch"]:
        """Return what this rank takes of each batch of an epoch."""
        task = self._task
        order = training_order(len(self._labels), task.batch_size, task.preparation.seed, epoch)
        return [_Batch(places=places, part=self._ranks.part(len(places))) for places in order]

    def _weight(self, batch: "_Batch") -> Tensor | float:
        """Return the part of a batch's loss, a mean weighted by class, that this rank's images have in it."""
        if not batch.part.counts:
            return 0.0
        weights = self._task.class_weights
        if weights is None:
            return len(batch.own) / len(batch.places)
        own, whole = (
            weights[self._labels[torch.from_numpy(places).to(self._device)]].sum()
            for places in (batch.own, batch.places)
        )
        return own / whole

    def _val_logits(self, positions: npt.NDArray[np.int64] | None) -> Tensor:
        """Return the scores of the val images at these positions, or of all."""
        with self._autocast():
            if self._val_features is not None:
                scores: Tensor = self._network.head(self._val_features.all())
                return scores
            self._network.module.eval()
            return forward_all(self._network.module, self._task.val, self._task.preparation, positions)

    def _set_training_mode(self) -> None:
        # A backbone with features sets its own mode, and its head, a Linear, has none.
        if self._backbone is None:
            set_training_mode(self._network, self._phase.train)

    def _inputs(self, batches: Sequence["_Batch"], augmentation: torch.Generator) -> Iterator[Tensor]:
        """Yield the images of each batch, or the features of a frozen backbone, computed without gradients."""
        if self._features is not None:
            for first in range(0, len(batches), GATHERED_BATCHES):
                gathered = [batch.own for batch in batches[first : first + GATHERED_BATCHES]]
                features = self._features.take(torch.from_numpy(np.concatenate(gathered)))
                yield from torch.split(features, [len(positions) for positions in gathered])
        if self._images is not None:
            for batch in batches:
                images = self._images.batch(batch.own, augmentation, batch.part)
                with self._autocast():
                    seen = images if self._backbone is None else self._backbone(images)
                yield seen

    def _read(self, features: Features) -> None:
        """Have the features of all images that no augmentation changes."""
        task = self._task
        if self._images is None:
            features.fill({"train": task.subset, "val": None})
            self._features = features.source("train", task.subset)
        else:
            features.fill({"val": None})
        own = None if self._ranks.alone else np.arange(len(task.val))[self._val_span]
        self._val_features = features.source("val", own)
        images = len(task.val) + (0 if self._features is None else len(task.subset))
        self.feature_seconds = images * features.seconds_per_image / self._ranks.count

    def _autocast(self) -> AbstractContextManager[None]:
        if not self._task.bfloat16:
            return nullcontext()
        return torch.autocast(self._device.type, dtype=torch.bfloat16)
