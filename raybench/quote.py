"""What a run will take, before anything is spent: trials and measured seconds an image in; a `Quote` out, and kept.

Trials are laid out over the places in the order in which they start, each with the epochs that it takes at least
(patience ends every phase as soon as it can, ASHA stops at its first rung) and at most (nothing ends early). What
trials share is counted once: features of a frozen backbone, and a first phase that another trial trained.

    seconds of a trial = (seconds alone (`raybench.pace`) + test split) x slowdown by neighbours + what each trial costs

The range is from the least to the most, widened by `MARGIN` on both sides for what timings are off by. Without early
stopping least and most are the same, and the quote is one figure with its margin.

Covered: machines that are all alike. Not covered: queueing for a cluster's machines, downloads, decoding images.
"""

import heapq
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from raybench.atomic import replacing
from raybench.choices import step_key
from raybench.cost import SECONDS_PER_HOUR
from raybench.learning_rates import TUNING_SEED
from raybench.pace import least_epochs, pace_key, seconds_alone
from raybench.records import AshaSettings, DatasetFacts, Pace, Trial

QUOTE: Final = "quote.json"
"""File of a run directory."""
MARGIN: Final = 0.15
"""What measured seconds are off by from one run to the next, on a machine that does nothing else."""
TRIAL_SECONDS: Final = 0.1
"""What a trial takes beside its own work: building the model, saving weights and rows, handing it over."""
WORKER_SECONDS: Final = 5.0
"""Until a fresh process has imported torch, where nobody measured it."""
START_SECONDS: Final = 8.0
"""Until Ray runs, where nobody measured it, and until it is gone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """From the least to the most."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class QuoteLine:
    """What trials of one model and strategy take, one after the other and alone."""

    model: str
    strategy: str
    trials: int
    seconds: Range
    """Of its tries of learning rates as well."""
    images_per_second: float
    """Training images, in the phase that takes longest."""
    tries: int = 0
    """Of learning rates, before the trials."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Quote:
    """What a run will take."""

    made_at: str
    """ISO 8601, UTC."""
    trials: int
    places: int
    """Trials at once."""
    early_stopping: bool
    """Whether patience or ASHA may end trials before their last epoch."""
    wall_seconds: Range
    machine_usd: Range | None
    """Of all machines for that long; None where a price is unknown."""
    lines: tuple[QuoteLine, ...]
    unmeasured: tuple[str, ...] = ()
    """Models whose phases could not be measured: the quote is without their trials."""
    tries: int = 0
    """Of learning rates, before the trials."""
    slowdown: Mapping[str, float] | None = None
    """What was expected of neighbours: as in `Terms`. None: an earlier raybench did not keep it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """What a quote is made from, beside the trials."""

    paces: Mapping[str, Pace]
    """By `pace_key`."""
    places: int
    usd_per_hour: float | None
    """Of all machines together."""
    slowdown: Mapping[str, float] = field(default_factory=dict)
    """How much longer a trial's work takes beside as many neighbours as there will be, by `step_key`; 1 if absent."""
    start_seconds: float = START_SECONDS
    worker_seconds: float = WORKER_SECONDS


_QUOTE = TypeAdapter(Quote)


def make_quote(
    trials: Sequence[Trial],
    datasets: Mapping[str, DatasetFacts],
    terms: Terms,
    *,
    asha: AshaSettings | None,
    made_at: str,
) -> Quote:
    """Return what the trials and tries of learning rates, in the order in which they start, will take."""
    known = [trial for trial in trials if _is_known(trial, terms.paces)]
    least = [least_epochs(trial, asha) for trial in known]
    most = [[phase.epochs for phase in trial.strategy.phases] for trial in known]
    low, high = (_wall_seconds(known, epochs, datasets, terms) for epochs in (least, most))
    wall = Range(low=low * (1 - MARGIN), high=high * (1 + MARGIN))
    usd = None
    if terms.usd_per_hour is not None:
        hourly = terms.usd_per_hour / SECONDS_PER_HOUR
        usd = Range(low=wall.low * hourly, high=wall.high * hourly)
    return Quote(
        made_at=made_at,
        trials=len(known) - (tries := _tries(known)),
        places=terms.places,
        early_stopping=least != most,
        wall_seconds=wall,
        machine_usd=usd,
        lines=tuple(_lines(known, least, most, datasets, terms.paces)),
        unmeasured=tuple(dict.fromkeys(trial.model.name for trial in trials if not _is_known(trial, terms.paces))),
        tries=tries,
        slowdown={key: terms.slowdown.get(key, 1.0) for key in dict.fromkeys(map(step_key, known))},
    )


def _tries(trials: Iterable[Trial]) -> int:
    return sum(trial.seed == TUNING_SEED for trial in trials)


def keep(run_dir: Path, quote: Quote) -> None:
    """Write a quote into a run directory. Raises OSError."""
    with replacing(run_dir / QUOTE) as temporary:
        temporary.write_text(json.dumps(asdict(quote), indent=1), encoding="utf-8")


def kept(run_dir: str | Path) -> Quote | None:
    """Return the quote of a run directory; None where there is none that can be read."""
    try:
        data: Any = json.loads((Path(run_dir) / QUOTE).read_text(encoding="utf-8"))
        return _QUOTE.validate_python(data)
    except (OSError, ValueError, ValidationError):
        return None


def _is_known(trial: Trial, paces: Mapping[str, Pace]) -> bool:
    return all(pace_key(trial, phase) in paces for phase in range(len(trial.strategy.phases)))


def _wall_seconds(
    trials: Sequence[Trial], epochs: Sequence[Sequence[int]], datasets: Mapping[str, DatasetFacts], terms: Terms
) -> float:
    """Return when the last trial ends, each being given to the place that is free first."""
    work = _Work(datasets, terms.paces)
    free = [terms.worker_seconds] * min(terms.places, max(len(trials), 1))
    for trial, done in zip(trials, epochs, strict=True):
        seconds = work.seconds(trial, done) * terms.slowdown.get(step_key(trial), 1.0) + TRIAL_SECONDS
        heapq.heapreplace(free, free[0] + seconds)
    return terms.start_seconds + (max(free) if trials else 0.0)


class _Work:
    """What trials that follow one another do, without what others did for them."""

    def __init__(self, datasets: Mapping[str, DatasetFacts], paces: Mapping[str, Pace]) -> None:
        self._datasets = datasets
        self._paces = paces
        self._first_phases: set[str] = set()
        self._seen: dict[tuple[str, ...], dict[int, int]] = {}
        """Training images of each seed whose features are known, by backbone."""

    def seconds(self, trial: Trial, epochs: Sequence[int]) -> float:
        facts = self._datasets[trial.dataset.name]
        own = list(epochs)
        if trial.first_phase_id in self._first_phases:
            own[0] = 0
        elif trial.first_phase_id is not None:
            self._first_phases.add(trial.first_phase_id)
        alone = seconds_alone(trial, own, self._paces, val_images=facts.val_images) or 0.0
        alone -= self._feature_seconds(trial, own, facts)
        return alone + self._new_features(trial, own, facts) + self._test_seconds(trial, facts)

    def _feature_seconds(self, trial: Trial, epochs: Sequence[int], facts: DatasetFacts) -> float:
        """Return what `seconds_alone` charges for the features of the first phase."""
        if not self._has_features(trial) or not epochs[0]:
            return 0.0
        train = trial.train_size if trial.strategy.augmentation == "none" else 0
        return (facts.val_images + train) * self._pace(trial, 0).feature_seconds

    def _new_features(self, trial: Trial, epochs: Sequence[int], facts: DatasetFacts) -> float:
        """Return what features take that no earlier trial computed: sets of one seed are nested, others overlap."""
        if not self._has_features(trial) or not epochs[0]:
            return 0.0
        seed = str(trial.seed) if trial.weights == "random" else ""
        known = self._seen.setdefault((step_key(trial), trial.dataset.name, trial.weights, seed), {})
        images = 0.0 if known else float(facts.val_images + (facts.test_images or 0))
        if trial.strategy.augmentation == "none":
            absent = math.prod(1 - size / facts.train_images for other, size in known.items() if other != trial.seed)
            images += max(0, trial.train_size - known.get(trial.seed, 0)) * absent
            known[trial.seed] = max(trial.train_size, known.get(trial.seed, 0))
        else:
            known.setdefault(trial.seed, 0)
        return images * self._pace(trial, 0).feature_seconds

    def _test_seconds(self, trial: Trial, facts: DatasetFacts) -> float:
        last = self._pace(trial, len(trial.strategy.phases) - 1)
        return (facts.test_images or 0) * last.val_seconds

    @staticmethod
    def _has_features(trial: Trial) -> bool:
        return trial.strategy.phases[0].train == "head"

    def _pace(self, trial: Trial, phase: int) -> Pace:
        return self._paces[pace_key(trial, phase)]


def _lines(
    trials: Sequence[Trial],
    least: Sequence[Sequence[int]],
    most: Sequence[Sequence[int]],
    datasets: Mapping[str, DatasetFacts],
    paces: Mapping[str, Pace],
) -> list[QuoteLine]:
    groups: dict[tuple[str, str], list[int]] = {}
    for place, trial in enumerate(trials):
        groups.setdefault((trial.model.name, trial.strategy.name), []).append(place)
    lines = []
    for (model, strategy), places in groups.items():
        seconds = [
            [
                seconds_alone(trial, epochs[place], paces, val_images=datasets[trial.dataset.name].val_images) or 0.0
                for place, trial in ((place, trials[place]) for place in places)
            ]
            for epochs in (least, most)
        ]
        of = trials[places[0]]
        slowest = max(paces[pace_key(of, phase)].train_seconds for phase in range(len(of.strategy.phases)))
        lines.append(
            QuoteLine(
                model=model,
                strategy=strategy,
                trials=len(places) - (tries := _tries(trials[place] for place in places)),
                seconds=Range(low=sum(seconds[0]), high=sum(seconds[1])),
                images_per_second=1 / slowest,
                tries=tries,
            )
        )
    return lines
