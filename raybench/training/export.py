"""A trial's best weights out of its run directory: a `Trial` in, one file and a card beside it out.

| ends with | what it is |
| --- | --- |
| .safetensors | all tensors: `Classifier.from_file` reads them, and they can be `weights:` of another experiment |
| .onnx | the network from normalised images to class scores, for any number of images at once |

The card, FILE.json, says in both cases what the network is, which images it expects and what it was trained on.
"""

import importlib
import importlib.metadata
import json
import tempfile
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import safetensors
import torch

from raybench.errors import InputError, ModelError
from raybench.records import Status, Trial, TrialResult
from raybench.training.network import Network
from raybench.training.saved import SavedNetwork, ended_trial, open_trial
from raybench.training.weight_files import card_path, write_card, write_weights
from raybench.trials import weights_label

FORMATS: Final = {".safetensors": "safetensors", ".onnx": "ONNX"}
"""By the ending of the file."""

INPUT: Final = {
    "layout": "float32 [batch, 3, image_size, image_size], channels red, green, blue",
    "values": "8-bit values / 255, then (value - mean) / std per channel",
    "resize": "EXIF orientation applied, largest centred square, antialiased bilinear to image_size x image_size",
    "transparency": "composited on white",
}
"""What the network must be given, as cards say it."""

OUTPUT: Final = "scores [batch, classes]; softmax turns them into probabilities"

ONNX_PACKAGES: Final = ("onnx", "onnxscript", "onnxruntime")

ONNX_TOLERANCE: Final = 1e-4
"""Largest difference between ONNX Runtime's scores and torch's, as a share of the largest score, or of 1 if larger."""

ONNX_CHECKED_BATCHES: Final = (1, 3)
"""Numbers of images at once with which the scores are compared."""

LARGEST_ONNX_BYTES: Final = 2_000_000_000
"""An ONNX file is one protobuf message, which ends at 2 GiB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """What was written."""

    path: Path
    card_path: Path
    format: str
    """`safetensors` or `ONNX`."""
    file_bytes: int
    """Of `path`."""
    pretrained_on: str
    """What the card says of the weights' origin."""
    largest_difference: float | None
    """Between ONNX Runtime's scores and torch's on random images, as in `ONNX_TOLERANCE`; None for safetensors."""


def export_trial(run_dir: Path, trial: Trial, output: Path) -> Exported:
    """Write a trial's best weights to `output`, and their card beside it.

    Folders are made. What is there already is replaced once the new files are whole and checked; files inside the
    run's own checkpoints never are.

    Raises:
        InputError: another ending than those of `FORMATS`, missing packages for ONNX, a place that cannot be written
            to, or a card there that belongs to another trial's file.
        RunError: the trial has no weights: it failed or has not ended.
        WeightsError: its weights cannot be read.
        ModelError: the model cannot be exported to ONNX, or gives other scores there.

    """
    if output.suffix not in FORMATS:
        raise InputError(f"--output {output}: give a file that ends with {' or '.join(FORMATS)}")
    if output.suffix == ".onnx":
        _require_onnx(output)
    _check_place(run_dir, trial, output)
    result = ended_trial(run_dir, trial)
    saved = open_trial(run_dir, trial)
    card = replace(saved.card, pretrained_on=_origin(trial, result, len(saved.classes)), backbone_file=None)
    difference = None
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".raybench-export-", dir=output.parent) as folder:
            written = Path(folder) / output.name
            more = _more_for_card(trial, result, saved)
            if output.suffix == ".onnx":
                difference = _write_onnx(written, saved.network)
                write_card(written, card, **more)
            else:
                write_weights(written, saved.network.module.state_dict(), card, **more)
            file_bytes = written.stat().st_size
            written.replace(output)
            card_path(written).replace(card_path(output))
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"--output {output}: cannot be written: {error}") from error
    return Exported(
        path=output,
        card_path=card_path(output),
        format=FORMATS[output.suffix],
        file_bytes=file_bytes,
        pretrained_on=str(card.pretrained_on),
        largest_difference=difference,
    )


def _check_place(run_dir: Path, trial: Trial, output: Path) -> None:
    checkpoints = (run_dir / "checkpoints").resolve()
    if output.resolve().is_relative_to(checkpoints):
        raise InputError(f"--output {output}: is among the run's own checkpoints; give a file elsewhere")
    for suffix in FORMATS:
        other = output.with_suffix(suffix)
        if suffix != output.suffix and other.exists() and _trial_id_of(card_path(output)) != trial.trial_id:
            raise InputError(
                f"--output {output}: its card {card_path(output).name} belongs to {other.name}, which is not from this "
                "trial; give another name"
            )


def _trial_id_of(card: Path) -> object:
    try:
        return json.loads(card.read_text(encoding="utf-8")).get("trial_id")
    except (OSError, ValueError, AttributeError):
        return None


def _origin(trial: Trial, result: TrialResult, classes: int) -> str:
    """Say in words what the weights were trained on and how good they became."""
    stopped = ", stopped early" if result.status is Status.STOPPED else ""
    reached = "test accuracy unknown"
    if result.test_accuracy is not None:
        reached = f"test accuracy {result.test_accuracy:.4f}"
    elif result.val_accuracy is not None:
        reached = f"val accuracy {result.val_accuracy:.4f}"
    return (
        f"{trial.dataset.name}, {trial.train_size} images of {classes} classes at {trial.dataset.image_size} px, "
        f"{trial.strategy.name} from {weights_label(trial.weights)} weights, seed {trial.seed}{stopped}: {reached}"
    )


def _more_for_card(trial: Trial, result: TrialResult, saved: SavedNetwork) -> dict[str, Any]:
    return {
        "head": saved.network.head_name,
        "input": INPUT,
        "output": OUTPUT,
        "trial_id": trial.trial_id,
        "dataset": trial.dataset.name,
        "train_size": trial.train_size,
        "weights": weights_label(trial.weights),
        "strategy": trial.strategy.name,
        "seed": trial.seed,
        "status": str(result.status),
        "best_epoch": result.best_epoch,
        "val_accuracy": result.val_accuracy,
        "test_accuracy": result.test_accuracy,
        "raybench": importlib.metadata.version("raybench"),
    }


def _require_onnx(output: Path) -> None:
    for package in ONNX_PACKAGES:
        try:
            importlib.import_module(package)
        except ImportError:
            raise InputError(
                f"--output {output}: ONNX needs the package {package}, which is not installed; run "
                "pip install 'raybench[onnx]', or give a file that ends with .safetensors"
            ) from None


def _write_onnx(path: Path, network: Network) -> float:
    """Write the network as ONNX and return by how much its scores differ from torch's. Raises ModelError."""
    tensors = network.module.state_dict().values()
    if sum(tensor.nbytes for tensor in tensors) > LARGEST_ONNX_BYTES:
        raise ModelError(f"{network.name}: too large for an ONNX file, which ends at 2 GB; export it as .safetensors")
    generator = torch.Generator().manual_seed(0)
    size = network.image_size
    batches = [torch.randn(count, 3, size, size, generator=generator) for count in ONNX_CHECKED_BATCHES]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter about its own insides
            torch.onnx.export(
                network.module,
                (batches[-1],),
                path,
                input_names=["images"],
                output_names=["scores"],
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                external_data=False,
                verbose=False,
            )
        return max(_difference(path, network, images) for images in batches)
    except ModelError:
        raise
    except Exception as error:  # somebody's model may hold anything that ONNX lacks
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given")
        raise ModelError(
            f"{network.name}: cannot be exported to ONNX ({type(error).__name__}: {reason}); export it as .safetensors"
        ) from error


def _difference(path: Path, network: Network, images: torch.Tensor) -> float:
    onnxruntime = importlib.import_module("onnxruntime")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (scores,) = session.run(["scores"], {"images": images.numpy()})
    with torch.inference_mode():
        expected = network.module(images)
    largest = max(1.0, float(expected.abs().max()))
    difference = float((torch.from_numpy(scores) - expected).abs().max()) / largest
    if not difference <= ONNX_TOLERANCE:
        raise ModelError(
            f"{network.name}: ONNX Runtime gives scores that differ by {difference:.2g} from torch's, more than "
            f"{ONNX_TOLERANCE:g}; nothing was written; export it as .safetensors"
        )
    return difference
