"""What a benchmark found: `Figure`s in, a line each on the terminal and a JSON file out.

A figure holds both sides as they were measured, run by run, so that a reader can see how far they scatter; what counts
is the median of the runs' ratios. Every figure says what it should at least, or at most, be: one that is not is printed
as such, never left out.
"""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

RESULTS = Path(__file__).parent / "results"
"""Where the JSON files go."""
PACKAGES = ("raybench", "torch", "torchvision", "ray", "numpy", "pandas", "pyarrow")


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One comparison."""

    name: str
    """What is compared, such as `64 px, no augmentation`."""
    unit: str
    """Of both sides, such as `images/s` or `seconds a trial`."""
    ours: Sequence[float]
    """raybench's side, one value a run."""
    peer: Sequence[float]
    """The other side in the same runs."""
    peer_name: str
    """What the other side is, such as `DataLoader, 2 workers`."""
    more_is_better: bool
    """Whether the unit is a speed (the ratio is ours / peer) or a cost (peer / ours)."""
    at_least: float | None = None
    """The ratio that is asked for."""
    at_most: float | None = None
    """For figures whose ratio (ours / peer, whatever `more_is_better` says) is to stay below a bound."""
    note: str = ""
    """What a reader should know, in a few words."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """More numbers for the JSON file."""

    @property
    def ratios(self) -> list[float]:
        """One a run: how many times better ours is, or ours / peer for a figure with `at_most`."""
        pairs = list(zip(self.ours, self.peer, strict=True))
        if self.at_most is not None or self.more_is_better:
            return [ours / peer for ours, peer in pairs]
        return [peer / ours for ours, peer in pairs]

    @property
    def ratio(self) -> float:
        """Median over the runs."""
        return median(self.ratios)

    @property
    def reached(self) -> bool | None:
        """Whether the ratio is as asked for; None where nothing is."""
        if self.at_least is not None:
            return self.ratio >= self.at_least
        return None if self.at_most is None else self.ratio <= self.at_most

    def line(self) -> str:
        """Return the figure on one line."""
        goal = ""
        if self.at_least is not None:
            goal = f", at least {self.at_least:g}x"
        elif self.at_most is not None:
            goal = f", at most {self.at_most:g}x"
        verdict = {True: "ok", False: "MISSED", None: ""}[self.reached]
        sides = f"{median(self.ours):.4g} {self.unit} against {median(self.peer):.4g} ({self.peer_name})"
        return " ".join(f"{self.name}: {self.ratio:.3g}x{goal} {verdict} [{sides}] {self.note}".split())


def publish(
    benchmark: str, figures: Sequence[Figure], details: Mapping[str, Any] | None = None, *, folder: Path = RESULTS
) -> None:
    """Print the figures and write BENCHMARK.json into the folder."""
    for figure in figures:
        print(f"{benchmark}: {figure.line()}", flush=True)
    folder.mkdir(exist_ok=True)
    record = {
        "benchmark": benchmark,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "versions": {package: version(package) for package in PACKAGES},
        "figures": [_plain(figure) for figure in figures],
        "details": dict(details or {}),
    }
    (folder / f"{benchmark}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _plain(figure: Figure) -> dict[str, Any]:
    return {
        "name": figure.name,
        "unit": figure.unit,
        "ours": list(figure.ours),
        "peer": list(figure.peer),
        "peer_name": figure.peer_name,
        "ratios": figure.ratios,
        "ratio": figure.ratio,
        "at_least": figure.at_least,
        "at_most": figure.at_most,
        "reached": figure.reached,
        "note": figure.note,
        "details": dict(figure.details),
    }
