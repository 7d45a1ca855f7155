"""Strategies by name: which phases they stand for, and what `+augment` means for a dataset.

In: a strategy's name or its phases as written in an experiment, and the defaults of `training`.
Out: complete `Phase` records. Nothing here trains.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from raybench.errors import ExperimentError
from raybench.records import Phase

LOW_LEARNING_RATE = 1e-5
"""Of the second phase of `lp-ft`: all layers, near the weights that the probe found."""

BUILT_IN: dict[str, tuple[dict[str, Any], ...]] = {
    "linear-probe": ({"train": "head"},),
    "fine-tune": ({"train": "all"},),
    "lp-ft": ({"train": "head"}, {"train": "all", "learning_rate": LOW_LEARNING_RATE}),
}
"""Phases of the named strategies; a key that is absent comes from `training`."""

AUGMENT_SUFFIX = "+augment"

POLICIES = ("none", "default", "no-flip", "flip", "trivialaugment", "randaugment")
"""Augmentation policies; `raybench.training.augment` says what each does."""

SOURCES_WITHOUT_FLIPS = ("digits", "torchvision:MNIST", "torchvision:KMNIST", "torchvision:EMNIST", "torchvision:SVHN")
"""Sources whose images mean something else in the mirror."""

PATIENCE_SHARE = 0.15
"""Patience as a share of the epochs, where none is given."""


def default_patience(epochs: int) -> int:
    """Return 15 % of the epochs, at least 1."""
    return max(1, round(PATIENCE_SHARE * epochs))


def base_name(name: str) -> str:
    """Return the strategy's name without `+augment`."""
    return name.removesuffix(AUGMENT_SUFFIX)


def dataset_policy(augmentation: str, source: str) -> str:
    """Return the policy that `+augment` stands for on a dataset.

    `default` leaves flips out for sources of digits and letters, whose mirror images are other signs.
    """
    if augmentation == "default" and source in SOURCES_WITHOUT_FLIPS:
        return "no-flip"
    return augmentation


def complete_phases(partial: Sequence[Mapping[str, Any]], defaults: Mapping[str, Any]) -> tuple[Phase, ...]:
    """Fill the keys that phases leave out from the defaults of `training`.

    Patience that neither names follows from the phase's own epochs.
    """
    phases = []
    for keys in partial:
        merged = {**defaults, **{key: value for key, value in keys.items() if value is not None}}
        if merged["patience"] is None:
            merged["patience"] = default_patience(merged["epochs"])
        train = merged["train"]
        merged["train"] = train if isinstance(train, str) else tuple(train)
        phases.append(Phase(**merged))
    return tuple(phases)


def check_policy(policy: str, strategy: str, dataset: str) -> None:
    """Raise `ExperimentError` where a strategy asks for augmentation that its dataset turns off."""
    if policy == "none":
        msg = (
            f"strategies: {strategy!r} asks for augmentation, but dataset {dataset!r} has 'augmentation: none'; "
            f"give it one of {', '.join(POLICIES[1:])}, or leave the strategy out"
        )
        raise ExperimentError(msg)
