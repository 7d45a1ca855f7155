"""Run directories of trials that nobody trained, for tests of what is made from them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from raybench.choices import Choices
from raybench.experiment import parse_experiment
from raybench.manifest import write_manifest
from raybench.prices import Price
from raybench.records import DatasetFacts, EpochRecord, Facts, Status, Trial, WeightsFacts
from raybench.results import Predictions, write_trial
from raybench.trials import expand, first_row

EPOCHS = 3
SMALL: dict[str, Any] = {
    "name": "made-up",
    "datasets": [{"name": "shapes", "source": "imagefolder:shapes", "image_size": 32, "train_sizes": [50, 200, "all"]}],
    "models": ["resnet8", "resnet20"],
    "strategies": ["linear-probe", "fine-tune"],
    "seeds": [0, 1, 2],
    "training": {"epochs": EPOCHS},
    "price_per_hour_usd": {"local": 0.4},
}
"""An experiment of four configurations at three sizes, with three seeds."""


Changes = Callable[[Trial], Mapping[str, Any] | None]


def no_changes(_trial: Trial) -> Mapping[str, Any]:
    """Leave the trial's row as it is."""
    return {}


@dataclass(frozen=True, kw_only=True, slots=True)
class MadeUp:
    """How the trials of a made-up run ended."""

    experiment: Mapping[str, Any] | None = None
    """Keys in place of those of `SMALL`."""
    classes: Sequence[str] = ("disc", "box", "star")
    images: int = 300
    """Of the test split."""
    warnings: Sequence[str] = ()
    """What preflight saw of every dataset."""
    notes: Mapping[str, str] | None = None
    """What preflight saw of weights, by their name."""
    changes: Changes = no_changes
    """Columns of a trial's row; None where it has not ended."""

    def write(self, run_dir: Path) -> Path:
        """Write the run directory and return it."""
        experiment = parse_experiment({**SMALL, **(self.experiment or {})}, "made-up")
        facts = Facts(
            datasets={each.name: self._facts(each.name) for each in experiment.datasets},
            weights={
                f"{model.name} {weights}": WeightsFacts(
                    model=model.name, weights=weights, digest=weights, note=(self.notes or {}).get(weights, "")
                )
                for model in experiment.models
                for weights in experiment.weights
            },
        )
        run_dir.mkdir(parents=True, exist_ok=True)
        prices = {name: Price(usd_per_hour=usd, source="a test") for name, usd in experiment.price_per_hour_usd.items()}
        write_manifest(run_dir, experiment, facts, Choices(), prices=prices)
        for trial in expand(experiment, facts):
            changes = self.changes(trial)
            if changes is not None:
                self._write_trial(run_dir, trial, changes)
        return run_dir

    def _facts(self, name: str) -> DatasetFacts:
        return DatasetFacts(
            name=name,
            fingerprint=f"{name:0<32}"[:32],
            classes=tuple(self.classes),
            train_images=800,
            val_images=200,
            test_images=self.images,
            train_class_counts=(800 // len(self.classes),) * len(self.classes),
            warnings=tuple(self.warnings),
        )

    def _write_trial(self, run_dir: Path, trial: Trial, changes: Mapping[str, Any]) -> None:
        status = changes.get("status", Status.COMPLETED)
        if status is Status.FAILED:
            failed = replace(first_row(trial, status), error="ValueError: no good")
            write_trial(run_dir, replace(failed, **changes), [], None)
            return
        random = np.random.default_rng(trial.seed + 10 * trial.train_size)
        accuracy = float(changes.get("test_accuracy", accuracy_of(trial)))
        labels = np.arange(self.images) % len(self.classes)
        # Images differ in difficulty, the same for all trials; what is left is the seed's.
        difficulty = np.random.default_rng(0).uniform(size=self.images)
        correct = (difficulty + random.normal(0, 0.05, self.images) < accuracy) | (accuracy >= 1)
        predicted = np.where(correct, labels, (labels + 1) % len(self.classes))
        recalls = tuple(float(correct[labels == place].mean()) for place in range(len(self.classes)))
        seconds = 4.0 * trial.train_size / 50 * (2 if trial.model.name == "resnet20" else 1)
        cost = seconds / 3600 * 0.4
        row = replace(
            first_row(trial, status),
            epochs_run=EPOCHS,
            best_epoch=EPOCHS,
            val_loss=1 - accuracy,
            val_accuracy=accuracy,
            test_accuracy=float(correct.mean()),
            test_balanced_accuracy=float(np.mean(recalls)),
            test_per_class_recall=recalls,
            train_seconds=seconds,
            gpu_fraction=0.0,
            cpu_share=1.0,
            accelerator="cpu",
            instance_type="local",
            node="here",
            standalone_seconds=seconds,
            device_share=1.0,
            standalone_cost_usd=cost,
            parameters=75_290,
            model_bytes=305_000,
            inference_images_per_second=5000.0,
            inference_latency_seconds=0.0008,
        )
        history = [
            EpochRecord(
                trial_id=trial.trial_id,
                phase=1,
                epoch=epoch,
                train_loss=1 / epoch,
                train_accuracy=accuracy,
                val_loss=(1 - accuracy) * EPOCHS / epoch,
                val_accuracy=accuracy * epoch / EPOCHS,
                learning_rate=0.001,
                epoch_seconds=seconds / EPOCHS,
                images_per_second=100.0,
            )
            for epoch in range(1, EPOCHS + 1)
        ]
        probabilities = np.eye(len(self.classes), dtype=np.float32)[predicted]
        names = tuple(f"{place:04d}.png" for place in range(self.images))
        predictions = Predictions(images=names, labels=labels, predicted=predicted, probabilities=probabilities)
        # The accuracy that is asked for is drawn about, and each image is right or wrong: the row says what came out.
        others = {name: value for name, value in changes.items() if name != "test_accuracy"}
        write_trial(run_dir, replace(row, **others), history, predictions)


def accuracy_of(trial: Trial) -> float:
    """More images, trained layers and depth are better, in this order."""
    better: float = 0.05 * (trial.strategy.phases[-1].train == "all") + 0.01 * (trial.model.name == "resnet20")
    return 0.9 - 0.8 / math.sqrt(trial.train_size) + better


LONG = "x" * 300
HOSTILE_MODELS = (
    "<script>document.title='taken'</script>",
    '"><img src=x onerror=alert(1)>',
    '=HYPERLINK("http://example.invalid","a")',
    LONG,
    "\u202egpj.exe\u2066\u200b",
    "a\x1b[31mred\x07\r\nnew line",
    "%{x} <b>bold</b> <a href='javascript:alert(1)'>click</a> &amp; $\\alpha$",
    "{{ 7 * 7 }}{% raw %} var(--ink) </script><!--",
)
"""Names that somebody would take for markup, formulas, commands, templates or control sequences."""


def hostile_changes(trial: Trial) -> Mapping[str, Any] | None:
    """Return what is wrong with a trial."""
    place = HOSTILE_MODELS.index(trial.model.name)
    if trial.seed == 1 and place == 0:
        return {"status": Status.FAILED, "error": "</script><script>document.title='taken'</script>\x1b[31m"}
    if trial.seed == 1 and place == 1:
        return {"status": Status.STOPPED}
    if trial.seed == 1 and place == 2:
        return None
    if place == 3:
        return {"val_loss": float("nan"), "standalone_cost_usd": None, "test_per_class_recall": None}
    return {"test_accuracy": 0.6 + place / 30}


HOSTILE = MadeUp(
    experiment={
        "name": "hostile",
        "models": list(HOSTILE_MODELS),
        "strategies": ["fine-tune"],
        "datasets": [{"name": "shapes", "source": "<i>mine</i>:shapes", "image_size": 32, "train_sizes": [50, "all"]}],
        "seeds": [0, 1],
    },
    classes=("<b>disc</b>", "=1+1", LONG, "\u202eback"),
    warnings=("images of test that are also in train: 3, as <img src=x> = </td>",),
    notes={"random": "35 tensors from x, pretrained on <u>shapes</u>; fresh head"},
    changes=hostile_changes,
)
"""A run of such names in which trials failed, were stopped, did not end, or have no numbers."""
