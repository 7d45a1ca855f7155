"""What a trained network sees in images: paths in, classes with probabilities out.

Images are prepared exactly as in training, so that a test image gets the probabilities that its run recorded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch.nn import functional

from raybench.errors import DataError
from raybench.records import Trial
from raybench.training.batches import Preparation, evaluation_batch
from raybench.training.decoding import decode
from raybench.training.network import Network
from raybench.training.saved import SavedNetwork, open_file, open_trial


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassProbability:
    """A class and how probable the network finds it."""

    name: str
    probability: float
    """Softmax of the scores, 0..1; not calibrated."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """What the network sees in one image."""

    path: Path
    class_name: str
    """The most probable class."""
    probability: float
    """Its own."""
    top: tuple[ClassProbability, ...]
    """The most probable classes, that one first."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Classifier:
    """A trained network and the names of its classes."""

    network: Network
    classes: tuple[str, ...]
    device: torch.device

    @classmethod
    def from_trial(cls, run_dir: Path, trial: Trial, *, device: torch.device | None = None) -> Self:
        """Load a trial's best weights. Raises RunError where it has none, else as `from_file`."""
        return cls._of(open_trial(run_dir, trial), device)

    @classmethod
    def from_file(cls, path: Path, *, model: str | None = None, device: torch.device | None = None) -> Self:
        """Load a .safetensors file that `raybench export` wrote, with its card beside it; no run is needed.

        `model` is needed only where the network comes from a `package.module:callable`: it confirms the name that the
        card gives, since a file must not choose which code runs.
        Raises WeightsError for a file or card that is missing, damaged or incomplete, ModelError for an unknown model.
        """
        return cls._of(open_file(path, trusted=model), device)

    @classmethod
    def _of(cls, saved: SavedNetwork, device: torch.device | None) -> Self:
        device = device or torch.device("cpu")
        saved.network.module.to(device)
        return cls(network=saved.network, classes=saved.classes, device=device)

    def probabilities(self, paths: Sequence[Path]) -> np.ndarray:
        """Return the probability of every class for every image: float32 [images, classes].

        Raises DataError that names the first image that cannot be read.
        """
        size = evaluation_batch(self.device, self.network.image_size)
        parts = [self._probabilities_at_once(paths[start : start + size]) for start in range(0, len(paths), size)]
        return np.concatenate([np.empty((0, len(self.classes)), np.float32), *parts])

    def predict(self, paths: Sequence[Path], *, top: int = 3) -> list[Prediction]:
        """Classify images, in order, with the `top` most probable classes of each. Raises as `probabilities`."""
        return [
            self._prediction(path, probabilities, top)
            for path, probabilities in zip(paths, self.probabilities(paths), strict=True)
        ]

    def _prediction(self, path: Path, probabilities: np.ndarray, top: int) -> Prediction:
        order = np.argsort(-probabilities, kind="stable")[: max(top, 1)]
        ranked = tuple(ClassProbability(name=self.classes[k], probability=float(probabilities[k])) for k in order)
        return Prediction(path=path, class_name=ranked[0].name, probability=ranked[0].probability, top=ranked)

    @torch.inference_mode()
    def _probabilities_at_once(self, paths: Sequence[Path]) -> np.ndarray:
        network = self.network
        preparation = Preparation(mean=network.mean, std=network.std, device=self.device, policy="none", seed=0)
        images = np.stack([_decoded(path, network.image_size) for path in paths])
        scores = network.module(preparation.evaluation(images)).float()
        probabilities: np.ndarray = functional.softmax(scores, dim=1).cpu().numpy()
        return probabilities


def load_classifier(run_dir: Path, trial: Trial) -> Classifier:
    """Return the classifier that a trial became; see `Classifier.from_trial`."""
    return Classifier.from_trial(run_dir, trial)


def _decoded(path: Path, image_size: int) -> np.ndarray:
    try:
        return decode(path, image_size)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
