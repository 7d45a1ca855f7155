"""What a trial takes while nothing else runs on its device: measured seconds an image in, seconds of a trial out.

Packing, neighbours, cache hits and the order of trials change what a trial takes in a run. They cannot change this:

    seconds = epochs x (training images x `train_seconds` + val images x `val_seconds`), phase by phase,
              and once for each frozen backbone: the trial's own images x `feature_seconds`
"""

from collections.abc import Iterable, Mapping, Sequence

from raybench.choices import step_key
from raybench.records import AshaSettings, Pace, Trial


def pace_key(trial: Trial, phase: int) -> str:
    """Return what an image of a phase, counted from 0, depends on: `resnet18, 64 px, batch 32, auto, all, none, adam`.

    That is the model's training step, which layers learn, the augmentation and the optimizer.
    """
    own = trial.strategy.phases[phase]
    layers = own.train if isinstance(own.train, str) else "+".join(own.train)
    return f"{step_key(trial)}, {layers}, {trial.strategy.augmentation}, {own.optimizer}"


def pace_keys(trial: Trial) -> list[str]:
    """Return the keys of all phases of a trial."""
    return [pace_key(trial, phase) for phase in range(len(trial.strategy.phases))]


def seconds_alone(trial: Trial, epochs: Sequence[int], paces: Mapping[str, Pace], *, val_images: int) -> float | None:
    """Return the training and validation of a trial in seconds, with nothing else on the device.

    Args:
        trial: what is trained.
        epochs: done in each of its phases; 0 for one that was not reached.
        paces: by `pace_key`.
        val_images: size of the val split.

    Returns:
        None where the pace of a phase with epochs is unknown.

    """
    seconds = 0.0
    for phase, done in enumerate(epochs):
        if not done:
            continue
        pace = paces.get(pace_key(trial, phase))
        if pace is None:
            return None
        seconds += done * (trial.train_size * pace.train_seconds + val_images * pace.val_seconds)
        seconds += pace.feature_seconds * _feature_images(trial, phase, val_images)
    return seconds


def least_epochs(trial: Trial, asha: AshaSettings | None) -> list[int]:
    """Return the fewest epochs of each phase: its first is its best, or ASHA stops the trial at its first rung."""
    least = [min(phase.epochs, phase.patience + 1) for phase in trial.strategy.phases]
    if asha is not None:
        least[-1] = min(least[-1], asha.grace_period)
    return least


def epochs_of(phases: Iterable[int], trial: Trial) -> list[int]:
    """Return the epochs of each phase of a trial, from the phase, counted from 1, of each of its epochs."""
    seen = list(phases)
    return [seen.count(phase) for phase in range(1, len(trial.strategy.phases) + 1)]


def _feature_images(trial: Trial, phase: int, val_images: int) -> int:
    """Return how many images a phase pushes through a frozen backbone that no phase before it did."""
    phases = trial.strategy.phases
    if phases[phase].train != "head" or (phase > 0 and phases[phase - 1].train == "head"):
        return 0
    return val_images + (trial.train_size if trial.strategy.augmentation == "none" else 0)
