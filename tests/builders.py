"""Records with sensible values, for tests that care about a few of their fields."""

from dataclasses import replace
from typing import Any

from raybench.records import DatasetSpec, ModelSpec, Phase, Strategy, TrainingSettings, Trial

PHASE = Phase(
    train="all",
    optimizer="adam",
    learning_rate=0.003,
    weight_decay=0.0,
    momentum=0.9,
    schedule="none",
    step_epochs=7,
    step_factor=0.1,
    warmup_epochs=0,
    epochs=3,
    patience=3,
)
DIGITS = DatasetSpec(name="digits", source="digits", root=None, image_size=16, val_size=None, on_bad_image="error")
SETTINGS = TrainingSettings(
    batch_size=32, label_smoothing=0.0, class_weights="none", precision="float32", deterministic=True
)
TRIAL = Trial(
    trial_id="0123456789ab",
    dataset=DIGITS,
    train_size=100,
    model=ModelSpec(name="resnet8", head=None),
    weights="random",
    strategy=Strategy(name="fine-tune", augmentation="none", phases=(PHASE,)),
    training=SETTINGS,
    seed=0,
)


def make_trial(trial_id: str = TRIAL.trial_id, *phases: Phase, model: str = "resnet8", **changes: Any) -> Trial:  # noqa: ANN401 - any field
    """Return `TRIAL` with other phases, another model or other fields."""
    strategy = replace(TRIAL.strategy, phases=phases or (PHASE,))
    fields = {"strategy": strategy, "model": ModelSpec(name=model, head=None), **changes}
    return replace(TRIAL, trial_id=trial_id, **fields)


class Clock:
    """A clock that stands still until its `now`, in seconds, is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now
