"""What the driver of a run needs for each trial, with 10,000 trials against 1,000.

In: trials of three epochs that compute for a millisecond (`trivial.py`), two at a time on one raylet, with everything
that a real run has: ASHA in groups, the decision log, rows on disk, progress. Out: processor seconds of the driver
a trial, wall seconds a trial, the driver's peak resident memory, torch and its libraries included, and how that grew
from the third thousand on, by when every buffer has its size; in the JSON file all of it by the thousand.

Each run is a process of its own. Its seconds count from when its first trials have ended until it is over, so that
what it costs to start Ray helps neither side. 1,000 trials run before and after the 10,000 and count with their mean.

    python -m benchmarks.scale
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import psutil
from rich.console import Console

from benchmarks.figures import Figure, publish
from benchmarks.processes import timed
from benchmarks.trivial import EXECUTE, check_ended, make_trials
from raybench.events import Event, TrialEnded
from raybench.progress import Progress
from raybench.records import AshaSettings, ResourceRequest
from raybench.scheduling.settings import Settings
from raybench.scheduling.tune import run_trials

FEW, MANY = 1_000, 10_000
AT_MOST = 1.2
"""Times the seconds a trial."""
MOST_GIGABYTES = 1.0
"""Of the driver."""
MOST_GROWTH = 1.08
"""Times the driver's memory at `SETTLED` trials."""
THOUSAND, SETTLED = 1_000, 3_000
EPOCHS = 3
STARTED = 100
"""Trials after which a run has settled."""
SETTINGS = Settings(
    asha=AshaSettings(grace_period=1, reduction_factor=3, group_by=("dataset", "train_size", "seed")),
    resources=ResourceRequest(gpu=0.0, cpu=1.0),
    num_cpus=2,
    execute=EXECUTE,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure both sides and publish; with options, run one side."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--trials", type=int, help="run that many trials in this process and write --output, no more")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args(arguments)
    if options.trials:
        options.output.write_text(json.dumps(drive(options.trials)), encoding="utf-8")
        return
    before, many, after = (measure(count) for count in (FEW, MANY, FEW))

    def few(name: str) -> float:
        return fmean([before[name], after[name]])

    peer_name = f"{FEW:,} trials"
    figures = [
        Figure(
            name=f"{name} at {MANY:,}",
            unit="seconds",
            ours=[many[key]],
            peer=[few(key)],
            peer_name=peer_name,
            more_is_better=False,
            at_most=bound,
        )
        for name, key, bound in (
            ("driver's processor seconds a trial", "processor_seconds", AT_MOST),
            ("wall seconds a trial", "wall_seconds", AT_MOST),
        )
    ]
    figures.append(
        Figure(
            name=f"driver's peak memory at {MANY:,} trials",
            unit="GB",
            ours=[many["peak_gigabytes"]],
            peer=[MOST_GIGABYTES],
            peer_name="most",
            more_is_better=False,
            at_most=1.0,
            note=f"{few('peak_gigabytes'):.2f} GB at {FEW:,}",
        )
    )
    by_thousand = {row["ended"]: row for row in many["by_thousand"]}
    figures.append(
        Figure(
            name=f"driver's memory at {MANY:,} trials",
            unit="GB",
            ours=[by_thousand[MANY]["resident_gigabytes"]],
            peer=[by_thousand[SETTLED]["resident_gigabytes"]],
            peer_name=f"{SETTLED:,} trials",
            more_is_better=False,
            at_most=MOST_GROWTH,
        )
    )
    publish("scale", figures, {"before": before, "many": many, "after": after})


def measure(trials: int) -> Mapping[str, Any]:
    """Run that many trials in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "measured.json"
        arguments = ["--trials", str(trials), "--output", str(output)]
        timed("-m", "benchmarks.scale", *arguments, log=Path(folder) / "log.txt")
        measured: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    return measured


def drive(count: int) -> dict[str, Any]:
    """Be the driver of that many trials, and return what each of them took."""
    trials = make_trials(count, epochs=EPOCHS)
    driver = psutil.Process()
    ended = peak_bytes = 0
    wall = processor = 0.0
    by_thousand: list[dict[str, float]] = []
    last = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder, Progress(trials, Console(quiet=True), quiet=True) as progress:

        def on_event(event: Event) -> None:
            nonlocal ended, wall, processor, peak_bytes, last
            progress(event)
            if not isinstance(event, TrialEnded):
                return
            ended += 1
            peak_bytes = max(peak_bytes, driver.memory_info().rss)
            if ended == STARTED:
                wall, processor = time.perf_counter(), time.process_time()
            if ended % THOUSAND == 0:
                now = time.perf_counter(), time.process_time()
                by_thousand.append(
                    {
                        "ended": ended,
                        "wall_seconds_a_trial": (now[0] - last[0]) / THOUSAND,
                        "processor_seconds_a_trial": (now[1] - last[1]) / THOUSAND,
                        "resident_gigabytes": driver.memory_info().rss / 1e9,
                        "files": sum(1 for _ in Path(folder).rglob("*.parquet")),
                    }
                )
                last = now

        outcome = run_trials(trials, run_dir=Path(folder), settings=SETTINGS, on_event=on_event)
        seconds = {"wall_seconds": time.perf_counter() - wall, "processor_seconds": time.process_time() - processor}
    check_ended(outcome)
    return {
        **{name: value / (count - STARTED) for name, value in seconds.items()},
        "peak_gigabytes": max(peak_bytes, driver.memory_info().rss) / 1e9,
        "trials": count,
        "by_thousand": by_thousand,
    }


if __name__ == "__main__":
    main()
