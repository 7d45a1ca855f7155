"""Trained networks read back: a weight file and the card beside it in, a `SavedNetwork` out.

The file is one that a trial left in its run directory, or that `raybench export` wrote. Both hold every tensor of the
network, head included, and a card with classes, image size and normalisation.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from raybench.errors import RunError, WeightsError
from raybench.records import ModelSpec, Status, Trial, TrialResult
from raybench.results import read_trial
from raybench.training.architectures import model_kind
from raybench.training.checkpoint import weights_path
from raybench.training.models import build_unset
from raybench.training.network import Network
from raybench.training.weight_files import WeightCard, card_path, read_card, read_tensors
from raybench.trials import describe

NEEDED: Final = ("model", "classes", "image_size", "mean", "std")
"""What a card must say before its network can be rebuilt."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedNetwork:
    """A trained network, ready to classify."""

    network: Network
    """On the CPU, in eval mode."""
    classes: tuple[str, ...]
    """In the order of the network's scores."""
    card: WeightCard


def open_trial(run_dir: Path, trial: Trial) -> SavedNetwork:
    """Rebuild the network of a trial with the weights of its best epoch.

    Raises RunError where the trial has none: it failed or has not ended; WeightsError where they cannot be read.
    """
    ended_trial(run_dir, trial)
    path = weights_path(run_dir, trial.trial_id)
    if not path.is_file():
        raise RunError(
            f"{run_dir}: the weights of trial {trial.trial_id} ({describe(trial)}) are missing: there is no {path}; "
            f"delete {run_dir / 'results' / trial.trial_id}.parquet and resume the run to have it trained again"
        )
    return open_file(path, trial.model)


def ended_trial(run_dir: Path, trial: Trial) -> TrialResult:
    """Return the row of a trial that has weights. Raises RunError where it failed or has not ended."""
    result = read_trial(run_dir, trial.trial_id)
    about = f"{run_dir}: trial {trial.trial_id} ({describe(trial)})"
    if result is None or result.status is Status.UNFINISHED:
        raise RunError(f"{about} has not ended, so it has no weights yet; run 'raybench resume {run_dir}'")
    if result.status is Status.FAILED:
        reason = (result.error or "").strip().splitlines() or ["for an unknown reason"]
        raise RunError(f"{about} failed, so it has no weights: {reason[-1]}")
    return result


def open_file(path: Path, spec: ModelSpec | None = None, *, trusted: str | None = None) -> SavedNetwork:
    """Rebuild the network that a weight file and its card describe.

    Args:
        path: .safetensors file.
        spec: the model; None: the one that the card names.
        trusted: the only callable that a card may name: a file from elsewhere must not decide which code runs.

    Raises:
        WeightsError: file or card is missing, damaged or incomplete, or they do not belong together.
        ModelError: the model cannot be built.

    """
    where = card_path(path)
    card = read_card(path)
    missing = [key for key in NEEDED if getattr(card, key) is None]
    if missing:
        raise WeightsError(
            f"{where}: lacks {', '.join(missing)}; give a file that 'raybench export' wrote, with its .json beside it"
        )
    spec = spec or _named_model(path, card, trusted)
    classes, mean, std = card.classes, card.mean, card.std
    if classes is None or card.image_size is None or mean is None or std is None:
        raise AssertionError("checked above")
    tensors = read_tensors(path)
    network = build_unset(spec, num_classes=len(classes), image_size=card.image_size)
    try:
        network.module.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise WeightsError(
            f"{path}: is not the {spec.name} for {len(classes)} classes of its card: {reason}"
        ) from error
    return SavedNetwork(network=replace(network, mean=mean, std=std), classes=classes, card=card)


def _named_model(path: Path, card: WeightCard, trusted: str | None) -> ModelSpec:
    where = card_path(path)
    head = json.loads(where.read_text(encoding="utf-8")).get("head")
    spec = ModelSpec(name=str(card.model), head=None if head is None else str(head))
    if model_kind(spec) == "callable" and spec.name != trusted:
        raise WeightsError(
            f"{where}: its model is code, {spec.name}, which is only run where you name it yourself: "
            f"Classifier.from_file(PATH, model={spec.name!r})"
        )
    return spec
