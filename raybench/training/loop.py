"""Train one trial: iterate a `Training` for its epochs, then `finish` it for its scores.

In: a `Trial` and its decoded images. Out: an `EpochRecord` per epoch, and `Finished` at the end.
Covered: phases, early stopping on val loss, the best epoch restored, the test split scored once,
exact resume, one process or several (`Ranks`), each of which iterates and finishes a `Training` of its own.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from raybench.errors import RaybenchError
from raybench.records import EpochRecord, Phase, Trial, Tuning
from raybench.seeding import derive
from raybench.training.backbone import backbone_changes
from raybench.training.batches import Preparation, forward_all
from raybench.training.best_weights import BestWeights, load_tensors
from raybench.training.data import ImageData, ImageSplit
from raybench.training.distributed import ALONE, Ranks, synchronise_batchnorm
from raybench.training.feature_cache import FeatureCache
from raybench.training.feature_rows import Positions
from raybench.training.features import FrozenFeatures, frozen_features
from raybench.training.kept_network import initial_network
from raybench.training.metrics import Scores, score
from raybench.training.network import Network
from raybench.training.optimization import learning_rate_at
from raybench.training.phase_run import PhaseRun, Task
from raybench.training.subsets import subset

STATE_VERSION = 2
"""Version of the state that `Training.state` returns."""


class DivergedError(RaybenchError):
    """The loss of a trial is no longer a finite number."""


@dataclass(kw_only=True, slots=True)
class Progress:
    """Where a training stands, between two epochs."""

    phase: int = 0
    """Index of the current phase, from 0."""
    phase_epoch: int = 0
    """Epochs done in the current phase."""
    epoch: int = 0
    """Epochs done over all phases."""
    phase_best_loss: float = math.inf
    stale_epochs: int = 0
    """Epochs since the phase's best val loss."""
    best_loss: float = math.inf
    """Over all phases."""
    best_epoch: int = 0
    train_seconds: float = 0.0
    feature_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """What a trial ended with: its best epoch, scored."""

    best: EpochRecord
    scores: Scores | None
    """Of the test split; None where there is none."""
    predictions: np.ndarray[Any, np.dtype[np.float32]] | None
    """Probabilities of every test image, shape [n, classes]."""
    weights: dict[str, Tensor]
    """Of the best epoch: the head's tensors where nothing else was ever trained, else all."""


class Training:
    """One trial in training. Iterate it to train; each step is an epoch.

    Args:
        trial: what to train.
        images: the decoded dataset.
        device: where to compute.
        tuning: how to compute there; None: the usual choice for the device.
        cache: where features of frozen backbones are kept for other trials; None: in memory, for this one alone.
        ranks: the processes that train the trial.

    """

    def __init__(
        self,
        trial: Trial,
        images: ImageData,
        *,
        device: torch.device,
        tuning: Tuning | None = None,
        cache: FeatureCache | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.trial = trial
        self.ranks = ranks
        self.images = images
        self.device = device
        self.history: list[EpochRecord] = []
        self.progress = Progress()
        self.network = initial_network(
            trial.model,
            trial.weights,
            num_classes=len(images.classes),
            image_size=trial.dataset.image_size,
            seed=trial.seed,
        )
        if trial.training.sync_batchnorm and not ranks.alone:
            synchronise_batchnorm(self.network.module, trial.model.name)
        tuning = tuning or usual_tuning(device)
        layout = torch.channels_last if tuning.channels_last else torch.contiguous_format
        self.network.module.to(device, memory_format=layout)  # type: ignore[call-overload] # declared for tensors only
        self._task = _task(trial, images, self.network, device=device, tuning=tuning, ranks=ranks)
        self._best = BestWeights(self.network)
        self._saved_optimizer: dict[str, Any] | None = None
        self._phase: PhaseRun | None = None
        self._cache = cache
        self._features: dict[int, FrozenFeatures | None] = {}
        """Of each backbone that a phase leaves as it is, by the number of phases that trained it before."""

    def __iter__(self) -> Iterator[EpochRecord]:
        """Train until the last epoch of the last phase, or until patience ends that phase."""
        phases = self.trial.strategy.phases
        while self.progress.phase < len(phases):
            if self.phase_ended:
                self._leave_phase()
            else:
                yield self._train_epoch(phases[self.progress.phase])

    @property
    def phase_ended(self) -> bool:
        """Whether the current phase has reached its last epoch, or its patience its end."""
        phase = self.trial.strategy.phases[self.progress.phase]
        return self.progress.stale_epochs >= phase.patience or self.progress.phase_epoch >= phase.epochs

    @property
    def ended(self) -> bool:
        """Whether no epoch is left to train."""
        left = len(self.trial.strategy.phases) - self.progress.phase
        return left == 0 or (left == 1 and self.phase_ended)

    @property
    def backbone_trained(self) -> bool:
        """Whether anything but the head has been trained."""
        return self._best.whole

    @property
    def build_seconds(self) -> float:
        """Seconds that this object spent on features, which others find done."""
        return sum(features.computed_seconds for features in self._features.values() if features)

    def state(self) -> dict[str, Any]:
        """Return everything that `load_state` needs to go on as if never interrupted: tensors and plain values.

        A backbone that was never trained is built again, and a last epoch that is the best is there once.
        """
        return {
            "version": STATE_VERSION,
            "backbone_trained": self._best.whole,
            "model": self._best.learning(),
            "optimizer": self._phase.optimizer.state_dict() if self._phase else None,
            "best_weights": None if self.progress.best_epoch == self.progress.epoch else self._best.tensors(),
            "progress": asdict(self.progress),
            "history": [asdict(record) for record in self.history],
        }

    def state_at_end_of_phase(self) -> dict[str, Any]:
        """Return the state from which any trial goes on that differs in later phases alone: that of the best epoch."""
        return {**self.state(), "model": self._best.tensors(), "optimizer": None, "best_weights": None}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a state that `state` returned for the same trial."""
        if state["backbone_trained"]:
            self._backbone_changes()
        load_tensors(self.network, state["model"])
        self._best.replace(state["model"] if state["best_weights"] is None else state["best_weights"])
        self.progress = Progress(**state["progress"])
        self.history = [EpochRecord(**record) for record in state["history"]]
        self._saved_optimizer = state["optimizer"]
        self._phase = None

    def finish(self) -> Finished:
        """Restore the best epoch and score the test split with it, once."""
        if not self.history:
            raise DivergedError("no epoch was trained")
        self._best.restore()
        weights = {name: tensor.detach().cpu() for name, tensor in self._best.tensors().items()}
        best = self.history[self.progress.best_epoch - 1]
        if self.images.test is None:
            return Finished(best=best, scores=None, predictions=None, weights=weights)
        logs = functional.log_softmax(self._all_logits(self.images.test, best), dim=1)
        labels = self.images.test.labels
        of_label = logs.double().cpu().numpy()[np.arange(len(labels)), labels]
        probabilities = logs.exp().cpu().numpy()
        return Finished(
            best=best, scores=score(labels, probabilities, of_label), predictions=probabilities, weights=weights
        )

    def _train_epoch(self, phase: Phase) -> EpochRecord:
        if self._phase is None:
            if phase.train != "head":
                self._backbone_changes()
            self._phase = PhaseRun(self.network, phase, self._task, self._frozen_features(self.progress.phase))
            if self._saved_optimizer is not None:
                self._phase.load_optimizer(self._saved_optimizer)
                self._saved_optimizer = None
        progress = self.progress
        progress.epoch += 1
        rate = learning_rate_at(phase, progress.phase_epoch)
        # Charged as if computed for this trial alone, in the epoch that needs them first: a hit must change no cost.
        feature_seconds = self._phase.feature_seconds if self._needs_new_features() else 0.0
        progress.feature_seconds += feature_seconds
        started = time.perf_counter() - feature_seconds
        # Dropout draws from the global generator: seeded by the epoch, and given back as it was.
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            # Ranks drop by masks of their own: they have different images.
            place = () if self.ranks.leads else (self.ranks.rank,)
            self._seed_globally(derive(self.trial.seed, "dropout", progress.epoch, *place))
            trained = self._phase.train_epoch(progress.epoch, rate)
        train_seconds = time.perf_counter() - started
        val = self._phase.validate()
        if not (math.isfinite(trained.loss) and math.isfinite(val.loss)):
            raise DivergedError(
                f"the loss is not finite in epoch {progress.epoch} (train {trained.loss}, val {val.loss}, "
                f"learning rate {rate:g}); a lower learning_rate may help"
            )
        record = EpochRecord(
            trial_id=self.trial.trial_id,
            phase=progress.phase + 1,
            epoch=progress.epoch,
            train_loss=trained.loss,
            train_accuracy=trained.accuracy,
            val_loss=val.loss,
            val_accuracy=val.accuracy,
            learning_rate=rate,
            epoch_seconds=time.perf_counter() - started,
            images_per_second=self.trial.train_size / train_seconds,
        )
        self._account(record)
        return record

    def _seed_globally(self, seed: int) -> None:
        if self.device.type == "cpu":
            torch.default_generator.manual_seed(seed)  # `torch.manual_seed` notes a traceback for each GPU there may be
        else:
            torch.manual_seed(seed)

    def _needs_new_features(self) -> bool:
        """Whether this is the first epoch that trains the head on a backbone that was trained, or built, before it."""
        first, phases = self.progress.phase, self.trial.strategy.phases
        return self.progress.phase_epoch == 0 and (first == 0 or phases[first - 1].train != "head")

    def _frozen_features(self, phase: int) -> FrozenFeatures | None:
        """Return the features of the backbone that a phase leaves as it is; None where it trains it."""
        phases = self.trial.strategy.phases
        if phases[phase].train != "head":
            return None
        trained = sum(earlier.train != "head" for earlier in phases[:phase])
        if trained not in self._features:
            self._features[trained] = frozen_features(
                self.network,
                self.images,
                self._task.preparation,
                bfloat16=self._task.bfloat16,
                dataset=self.trial.dataset.name,
                # Nobody else has a backbone that this trial has trained.
                cache=None if trained else self._cache,
            )
        return self._features[trained]

    def _all_logits(self, split: ImageSplit, best: EpochRecord) -> Tensor:
        """Return the network's scores of the test split, [n, classes], each image's from one rank."""
        if self.ranks.alone:
            return self._logits(split, best, None)
        own = np.arange(len(split))[self.ranks.span(len(split))]
        scores = self._logits(split, best, own) if len(own) else torch.zeros(0, len(self.images.classes))
        return self.ranks.gathered(scores, len(split))

    @torch.no_grad()
    def _logits(self, split: ImageSplit, best: EpochRecord, positions: Positions | None) -> Tensor:
        """Return the network's scores of some or all test images; its backbone is that of the best epoch."""
        features = self._frozen_features(best.phase - 1)
        self.network.module.eval()
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._task.bfloat16):
            if features is None:
                return forward_all(self.network.module, split, self._task.preparation, positions).float()
            features.fill({"test": positions})
            scores: Tensor = self.network.head(features.source("test", positions).all())
            return scores.float()

    def _account(self, record: EpochRecord) -> None:
        progress = self.progress
        progress.phase_epoch += 1
        progress.train_seconds += record.epoch_seconds
        progress.stale_epochs += 1
        self.history.append(record)
        if record.val_loss < progress.phase_best_loss:
            progress.phase_best_loss, progress.stale_epochs = record.val_loss, 0
        if record.val_loss < progress.best_loss:
            progress.best_loss, progress.best_epoch = record.val_loss, record.epoch
            self._best.keep()

    def _backbone_changes(self) -> None:
        backbone_changes(self.network)
        self._best.include_backbone()

    def _leave_phase(self) -> None:
        self._best.restore()
        progress = self.progress
        progress.phase += 1
        progress.phase_epoch = progress.stale_epochs = 0
        progress.phase_best_loss = math.inf
        self._phase = self._saved_optimizer = None


def usual_tuning(device: torch.device) -> Tuning:
    """Return how steps are computed where nothing was measured: bfloat16 on GPUs that have units for it.

    Older ones (compute capability below 8.0) store bfloat16, but cuDNN has no convolutions for it there.
    """
    return Tuning(bfloat16=device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False))


def _task(
    trial: Trial, images: ImageData, network: Network, *, device: torch.device, tuning: Tuning, ranks: Ranks
) -> Task:
    positions = subset(images.train.labels, trial.train_size, trial.seed)
    settings = trial.training
    weights = None
    if settings.class_weights == "balanced":
        counts = np.bincount(images.train.labels[positions], minlength=len(images.classes))
        balanced = trial.train_size / (len(images.classes) * np.maximum(counts, 1))
        weights = torch.tensor(balanced, dtype=torch.float32, device=device)
    return Task(
        train=images.train,
        subset=positions,
        val=images.val,
        preparation=Preparation(
            mean=network.mean,
            std=network.std,
            device=device,
            policy=trial.strategy.augmentation,
            seed=trial.seed,
            channels_last=tuning.channels_last,
        ),
        batch_size=settings.batch_size,
        label_smoothing=settings.label_smoothing,
        class_weights=weights,
        bfloat16=settings.precision == "bfloat16" or (settings.precision == "auto" and tuning.bfloat16),
        ranks=ranks,
    )
