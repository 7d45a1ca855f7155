"""What is chosen by measuring: how a model's steps are computed, and what each trial gets of a machine.

In: trials, and the choices of earlier runs. Out: `Choices`, which a run keeps in its manifest, and the same figures a
machine, for later runs of other experiments:

    CACHE/measured/KEY.json    what one measurement gave, and of what it was: {"about": ..., "value": ...}

Numbers depend on these choices in their last digits (and on `bfloat16` in more), so a run goes on with what it began
with, and what was measured on a machine holds there until torch changes.
"""

import contextlib
import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from raybench.atomic import replacing
from raybench.cache import cache_root
from raybench.records import Footprint, Inference, Pace, Trial, Tuning

FOLDER = "measured"
KEY_DIGITS = 16
_CPU_INFO = Path("/proc/cpuinfo")

About = Mapping[str, str | int | float]
"""Of what something was measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """How a model's training steps are computed on one machine."""

    tuning: Tuning
    images_per_second: float
    """In one process, when this was chosen."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Solo:
    """What a model was measured to take with nothing else on the device."""

    paces: Mapping[str, Pace]
    """Of the phases that were asked about, by `raybench.pace.pace_key`."""
    inference: Inference


@dataclass(frozen=True, kw_only=True, slots=True)
class Choices:
    """What a run chose."""

    cpu_per_trial: float | None = None
    """Cores; None: no trial was started yet."""
    gpu_per_trial: float | None = None
    """GPUs, or a fraction of one."""
    threads_per_trial: int | None = None
    measured_on: str | None = None
    """Processor or GPU on which that was measured; None: the experiment says it."""
    steps: Mapping[str, Mapping[str, Step]] = field(default_factory=dict)
    """By processor or GPU, then by `step_key`."""
    paces: Mapping[str, Mapping[str, Pace]] = field(default_factory=dict)
    """What phases take alone: by processor or GPU, then by `raybench.pace.pace_key`."""
    inference: Mapping[str, Mapping[str, Inference]] = field(default_factory=dict)
    """How fast models predict alone: by processor or GPU, then by `step_key`."""
    slowdown: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """How much longer steps take beside as many other trials as run at once: by processor or GPU, then `step_key`."""
    memory: Mapping[str, Mapping[str, Footprint]] = field(default_factory=dict)
    """What trials are expected to take: by processor or GPU, then by `memory_key`."""


def step_key(trial: Trial) -> str:
    """Return what a training step depends on, such as `resnet18, 64 px, batch 32, auto`.

    Not the dataset, the weights or the strategy: a linear probe is computed as its backbone's training is.
    """
    settings = trial.training
    free = "" if settings.deterministic else ", not deterministic"
    return f"{trial.model.name}, {trial.dataset.image_size} px, batch {settings.batch_size}, {settings.precision}{free}"


def memory_key(trial: Trial) -> str:
    """Return what a trial's memory depends on, such as `resnet18, 64 px, batch 32, auto, head adam, all sgd`."""
    phases = [
        f"{phase.train if isinstance(phase.train, str) else '+'.join(phase.train)} {phase.optimizer}"
        for phase in trial.strategy.phases
    ]
    return ", ".join([step_key(trial), *phases])


@cache
def processor_name() -> str:
    """Return what this machine's processor calls itself."""
    with contextlib.suppress(OSError, StopIteration):
        lines = _CPU_INFO.read_text(encoding="utf-8").splitlines()
        return next(line for line in lines if line.startswith("model name")).partition(":")[2].strip()
    return platform.processor() or platform.machine()


def measured_by() -> dict[str, str]:
    """Return what else a measurement depends on: the version of torch, which is not imported for it."""
    return {"torch": version("torch")}


def recall(about: About, cache_dir: Path | None = None) -> Any | None:  # noqa: ANN401 - plain JSON values
    """Return what was measured here before, or None."""
    try:
        kept = json.loads(_path(about, cache_dir).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return kept.get("value") if isinstance(kept, dict) and kept.get("about") == dict(about) else None


def remember(about: About, value: Any, cache_dir: Path | None = None) -> None:  # noqa: ANN401 - plain JSON values
    """Keep what was measured here; where nothing can be written, the next run measures again."""
    with contextlib.suppress(OSError), replacing(_path(about, cache_dir)) as temporary:
        temporary.write_text(json.dumps({"about": dict(about), "value": value}, indent=1), encoding="utf-8")


def _path(about: About, cache_dir: Path | None) -> Path:
    text = json.dumps(dict(about), sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:KEY_DIGITS]
    return cache_root(cache_dir) / FOLDER / f"{key}.json"
