"""A bench with fixed figures in the place of training; they stand in `bench.json` in the working directory.

What it was asked goes to `asked/`, one file a question.
"""

import json
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from raybench.choices import Solo, Step
from raybench.records import Allocation, Footprint, Inference, Pace, Trial, Tuning

BENCH = f"{__name__}:Bench"


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """What the bench measures."""

    totals: dict[str, float]
    """Images per second of so many processes together."""
    images_per_second: dict[str, float] = field(default_factory=dict)
    """Of one process, by model; 100 where it is absent."""
    channels_last: list[str] = field(default_factory=list)
    """Models that are trained sooner so."""
    fails: list[str] = field(default_factory=list)
    """Models that cannot be built."""
    hangs: list[str] = field(default_factory=list)
    """Models that wait for something that never comes."""
    dies_at: int = 0
    """So many processes together run out of memory."""
    host_bytes: dict[str, int] = field(default_factory=dict)
    """That a trial takes, by model; 1 where it is absent."""
    peak_bytes: int = 1
    """Of one process, on a machine with 100."""
    on_gpu: bool = False


class Bench:
    def __init__(self, trial: Trial, allocation: Allocation) -> None:
        self._figures = Figures(**json.loads(Path("bench.json").read_text(encoding="utf-8")))
        self._model = trial.model.name
        self._allocation = allocation
        if self._model in self._figures.fails:
            raise ValueError(f"{self._model} is beyond us")

    @property
    def on_gpu(self) -> bool:
        return self._figures.on_gpu

    def choose(self) -> Step:
        while self._model in self._figures.hangs:
            time.sleep(0.1)
        self._note("choose")
        return Step(
            tuning=Tuning(channels_last=self._model in self._figures.channels_last),
            images_per_second=self._figures.images_per_second.get(self._model, 100.0),
        )

    def alone(self, tuning: Tuning, phases: Mapping[str, tuple[Trial, int]]) -> Solo:
        self._note("alone", tuning=asdict(tuning), phases=list(phases))
        pace = Pace(train_seconds=0.01, val_seconds=0.002)
        return Solo(
            paces=dict.fromkeys(phases, pace), inference=Inference(images_per_second=1000.0, latency_seconds=0.005)
        )

    def footprints(self, tuning: Tuning, trials: Mapping[str, Trial]) -> dict[str, Footprint]:
        self._note("footprints", tuning=asdict(tuning), trials=list(trials))
        return dict.fromkeys(trials, Footprint(host_bytes=self._figures.host_bytes.get(self._model, 1)))

    def warm_up(self, tuning: Tuning, batch_size: int) -> None:
        if self._number == self._figures.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self._note("warm up", tuning=asdict(tuning), batch_size=batch_size)

    def images_per_second(self, seconds: float) -> float:
        begin = time.time()
        time.sleep(seconds)
        self._note("train", begin=begin, end=time.time())
        return self._figures.totals[str(self._number)] / self._number

    def peak_bytes(self) -> int:
        return self._figures.peak_bytes

    def memory_bytes(self) -> int:
        return 100

    def close(self) -> None:
        pass

    @property
    def _number(self) -> int:
        return round(1 / (self._allocation.gpu_fraction or self._allocation.cpu_share))

    def _note(self, question: str, **said: object) -> None:
        Path("asked").mkdir(exist_ok=True)
        seen = {"question": question, "model": self._model, "number": self._number, "pid": os.getpid()}
        path = Path("asked") / f"{time.time_ns()}-{os.getpid()}.part"
        path.write_text(json.dumps({**seen, **asdict(self._allocation), **said}), encoding="utf-8")
        path.replace(path.with_suffix(".json"))


def write_figures(folder: Path, figures: Figures) -> None:
    """Say what is measured by processes that work in this folder."""
    (folder / "bench.json").write_text(json.dumps(asdict(figures)), encoding="utf-8")


def asked(folder: Path, question: str) -> list[dict[str, Any]]:
    """Return what was asked for so far."""
    seen = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((folder / "asked").glob("*.json"))]
    return [entry for entry in seen if entry["question"] == question]
