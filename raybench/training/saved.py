"""Trained networks kept and read back: a network's best weights in, files out; a weight file in, a `SavedNetwork` out.

    RUN/checkpoints/TRIAL_ID.safetensors, .json    what the trial learned, and the card of the whole network
    RUN/checkpoints/backbone-DIGEST.safetensors    of trials that trained a head alone: once for all that share it

A file that `raybench export` wrote holds every tensor of the network. Both have a card with classes, image size and
normalisation.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from torch import Tensor

from raybench.atomic import replacing
from raybench.checkpoint_paths import weights_path
from raybench.errors import RunError, WeightsError
from raybench.mirror import bring, is_there, publish
from raybench.records import ModelSpec, Status, Trial, TrialResult
from raybench.results import read_trial
from raybench.row_files import number_of
from raybench.row_places import place_of_trial
from raybench.training.architectures import model_kind
from raybench.training.backbone import backbone_digest, backbone_tensors, head_tensors
from raybench.training.models import build_unset
from raybench.training.network import Network
from raybench.training.weight_files import (
    WeightCard,
    card_path,
    read_card,
    read_tensors,
    write_tensors,
    write_weights,
)
from raybench.trials import describe

NEEDED: Final = ("model", "classes", "image_size", "mean", "std")
"""What a card must say before its network can be rebuilt."""

DIGEST_DIGITS: Final = 32
"""Of a backbone's SHA-256, in its file name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedNetwork:
    """A trained network, ready to classify."""

    network: Network
    """On the CPU, in eval mode."""
    classes: tuple[str, ...]
    """In the order of the network's scores."""
    card: WeightCard


def save_trial(
    run_dir: Path, trial: Trial, network: Network, *, classes: tuple[str, ...], learned: Mapping[str, Tensor]
) -> None:
    """Write what a trial learned, and the backbone where that is not part of it and is not there yet.

    Args:
        run_dir: of the run.
        trial: that ended.
        network: as its best epoch left it.
        classes: in the order of the network's scores.
        learned: tensors of its best epoch: the head's or all.

    """
    path = weights_path(run_dir, trial.trial_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    card = WeightCard(
        model=trial.model.name,
        classes=classes,
        image_size=trial.dataset.image_size,
        mean=network.mean,
        std=network.std,
        pretrained_on=trial.dataset.name,
    )
    if learned.keys() == head_tensors(network).keys():
        card = replace(card, backbone_file=f"backbone-{backbone_digest(network)[:DIGEST_DIGITS]}.safetensors")
        backbone = path.with_name(str(card.backbone_file))
        if not is_there(backbone):
            with replacing(backbone) as temporary:
                write_tensors(temporary, backbone_tensors(network))
    write_weights(path, learned, card, head=network.head_name, trial_id=trial.trial_id)
    publish(card_path(path))
    publish(path)


def open_trial(run_dir: Path, trial: Trial) -> SavedNetwork:
    """Rebuild the network of a trial with the weights of its best epoch.

    Raises RunError where the trial has none: it failed or has not ended; WeightsError where they cannot be read.
    """
    ended_trial(run_dir, trial)
    path = bring(weights_path(run_dir, trial.trial_id))
    if not path.is_file():
        row = place_of_trial(run_dir, "results", trial.trial_id)
        whose = "it" if number_of(row) is None else "its trials, this one among them,"
        raise RunError(
            f"{run_dir}: the weights of trial {trial.trial_id} ({describe(trial)}) are missing: there is no {path}; "
            f"delete {row} and resume the run to have {whose} trained again"
        )
    bring(card_path(path))
    backbone_file = read_card(path).backbone_file
    if backbone_file is not None:
        bring(path.with_name(backbone_file))
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
