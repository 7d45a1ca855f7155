"""`learning_rate: auto`: which rates are tried for a configuration, for how long, and which of them is taken.

In: phases as an experiment has them, and how tries ended. Out: phases with a default rate, phases of each try, and the
factor of the rate that is taken. Nothing here trains or reads files.

One fixed learning rate for all configurations compares learning rates. Here every configuration gets the same budget:
as many rates, on a grid with even steps in the logarithm around the default of its strategy, for the same share of its
epochs, on one seed that no reported figure holds. The one with the lowest val loss is taken. See
`docs/decisions/learning-rates.md` for the reasons; Bouthillier et al. 2021, "Accounting for Variance in Machine
Learning Benchmarks" (arXiv:2103.03098), and Dodge et al. 2019, "Show Your Work" (arXiv:1909.03004), show that what is
spent on such a search decides who wins.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from raybench.records import Phase

AUTO: Final = "auto"
TUNING_SEED: Final = 2**31
"""Seed of every try. No experiment can list it: its seeds are below."""
STEP: Final = math.sqrt(10)
"""Between two rates of the grid: 0.1, 0.3, 1, 3, 10 once rounded."""
FEWEST_VALUES, MOST_VALUES = 3, 9
"""Rates of a grid."""
EPOCH_SHARE: Final = 0.2
"""Of a phase's epochs, that a try takes where the experiment does not say."""
LEAST_EPOCHS: Final = 5
"""Of a phase of a try, unless the phase itself has fewer."""
DEFAULT_RATES: Final[Mapping[str, float]] = {"adam": 1e-3, "adamw": 1e-3, "sgd": 1e-2}
"""By optimizer, where a backbone is trained: what PyTorch's Adam begins with, and a usual rate of sgd with momentum."""
HEAD_RATES: Final[Mapping[str, float]] = {"adam": 1e-2, "adamw": 1e-2, "sgd": 1e-1}
"""Where the head alone is trained: ten times as much, for a problem that is convex and starts from nothing."""
LOW_RATES: Final[Mapping[str, float]] = {"adam": 1e-5, "adamw": 1e-5, "sgd": 1e-4}
"""Of the second phase of `lp-ft`: a hundredth of the default, near the weights that the probe found."""
DIVERGED: Final = "DivergedError"
"""What training raises where the loss is no number any more; kept in the row's error."""
_DIGITS: Final = 6
"""Of a learning rate: enough to tell rates apart, and too few for 0.00030000000000000003."""

Outcome = Literal["ended", "diverged", "failed", "unfinished"]
"""How a try ended: `diverged`, its loss was no number any more; `failed`, it raised another error."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchBudget:
    """What a search spends on each configuration."""

    values: int = 5
    """Learning rates that are tried."""
    epochs: int | None = None
    """Of each phase of a try; None: `EPOCH_SHARE` of the phase's, at least `LEAST_EPOCHS`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """How one try ended."""

    factor: float
    """Times the default rate."""
    outcome: Outcome
    val_loss: float | None
    """Lowest of any epoch; None where there was none."""


def factors(values: int) -> tuple[float, ...]:
    """Return the grid, ascending: what the default rate is multiplied with.

    An even number has one more below 1 than above: too high a rate may diverge, too low a one only takes longer.
    """
    below = values // 2
    return tuple(float(f"{STEP**exponent:.0e}") for exponent in range(-below, values - below))


def with_default_rates(
    phases: Sequence[Mapping[str, Any]], defaults: Mapping[str, Any], *, built_in: bool
) -> tuple[list[dict[str, Any]], tuple[bool, ...]]:
    """Return partial phases with a number wherever the learning rate is `auto`, and which phases these are.

    Args:
        phases: as written in an experiment, or of a built-in strategy; absent keys come from `defaults`.
        defaults: the keys of `training`.
        built_in: whether a learning rate in the phases is raybench's own, which `auto` in `training` replaces, and not
            the user's, which stands.

    """
    numbered, searched = [], []
    for phase in phases:
        own = phase.get("learning_rate")
        shared = defaults["learning_rate"]
        is_auto = own == AUTO or (shared == AUTO and (own is None or built_in))
        keys = dict(phase)
        if is_auto:
            rates = HEAD_RATES if phase["train"] == "head" else DEFAULT_RATES
            if built_in and own is not None:
                rates = LOW_RATES
            keys["learning_rate"] = rates[phase.get("optimizer") or defaults["optimizer"]]
        numbered.append(keys)
        searched.append(is_auto)
    return numbered, tuple(searched)


def scaled(phases: Sequence[Phase], searched: Sequence[bool], factor: float) -> tuple[Phase, ...]:
    """Return the phases with the learning rate of each searched one multiplied by the factor."""
    return tuple(
        replace(phase, learning_rate=float(f"{phase.learning_rate * factor:.{_DIGITS}g}")) if is_searched else phase
        for phase, is_searched in zip(phases, searched, strict=True)
    )


def try_epochs(epochs: int, budget: SearchBudget) -> int:
    """Return how many epochs a phase of so many has in a try."""
    asked = budget.epochs or max(LEAST_EPOCHS, round(EPOCH_SHARE * epochs))
    return min(asked, epochs)


def shortened(phases: Sequence[Phase], budget: SearchBudget) -> tuple[Phase, ...]:
    """Return the phases as a try trains them: the training in small.

    Steps of a schedule and warm-up shrink with the epochs. Patience lasts for all of them, so that every try spends
    the same: in a few epochs, a high rate would otherwise be ended by one bad epoch.
    """
    short = []
    for phase in phases:
        epochs = try_epochs(phase.epochs, budget)
        share = epochs / phase.epochs
        short.append(
            replace(
                phase,
                epochs=epochs,
                patience=epochs,
                step_epochs=max(1, round(share * phase.step_epochs)),
                warmup_epochs=round(share * phase.warmup_epochs),
            )
        )
    return tuple(short)


def choose(attempts: Sequence[Attempt]) -> float | None:
    """Return the factor with the lowest val loss; None while a try has not ended, or where none ended with a number.

    Equal losses go to the rate nearest to the default, then to the lower one.
    """
    if any(attempt.outcome == "unfinished" for attempt in attempts):
        return None
    losses = {attempt.factor: loss for attempt in attempts if (loss := _loss(attempt)) is not None}
    if not losses:
        return None
    return min(losses, key=lambda factor: (losses[factor], _steps(factor), factor))


def _steps(factor: float) -> int:
    """Return how many steps of the grid lie between a factor and 1."""
    return round(abs(math.log(factor, STEP)))


def is_at_edge(factor: float, attempts: Sequence[Attempt]) -> bool:
    """Return whether a factor is the lowest or highest of which anything is known, so that one beyond may be better.

    A try that diverged is known; one that failed otherwise says nothing.
    """
    known = [attempt.factor for attempt in attempts if attempt.outcome != "failed"]
    return not known or not min(known) < factor < max(known)


def _loss(attempt: Attempt) -> float | None:
    """Return the val loss of a try that ended with a number, else None."""
    loss = attempt.val_loss
    return loss if attempt.outcome == "ended" and loss is not None and math.isfinite(loss) else None


def rates_text(rates: Sequence[float]) -> str:
    """Return the learning rates of phases on one line: `0.001, then 1e-05`."""
    return ", then ".join(f"{rate:g}" for rate in rates)
