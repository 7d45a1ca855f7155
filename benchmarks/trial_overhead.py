"""What running a trial costs beyond its own work: raybench against a plain function trainable of Ray Tune.

In: trials of one epoch that compute for a millisecond (`trivial.py`), two at a time, on raybench's side with
everything that a real one has: the decision log, rows on disk, progress. Out: seconds a trial.

Seconds a trial are the slope within a run, from when the first trials have ended (by then raybench's processes have
loaded torch) to when the last one has, less the trial's own work. The plain function starts a process a trial, each of
which imports torch: that is what it costs by default. Both sides run three times, in turn.

    python -m benchmarks.trial_overhead
"""

import csv
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median

from rich.console import Console

from benchmarks.figures import Figure, publish
from benchmarks.processes import timed
from benchmarks.trivial import EXECUTE, check_ended, make_trials
from raybench.events import Event, TrialEnded
from raybench.progress import Progress
from raybench.records import AshaSettings, ResourceRequest
from raybench.results import load_history
from raybench.scheduling.settings import Settings
from raybench.scheduling.tune import run_trials

AT_LEAST = 50.0
"""Times less than the plain function."""
MOST_SECONDS = 0.05
"""A trial."""
REPEATS = 3
AT_ONCE = 2
TRIALS = 120
PEER_TRIALS = 6
STARTED = 10
"""Trials after which raybench's processes have settled."""
EPOCHS = (1, 11)
"""The second number tells what each further epoch costs."""
SETTINGS = Settings(
    asha=AshaSettings(grace_period=1, reduction_factor=3, group_by=("dataset", "train_size", "seed")),
    resources=ResourceRequest(gpu=0.0, cpu=1.0),
    num_cpus=AT_ONCE,
    execute=EXECUTE,
)


def main() -> None:
    """Measure both sides and publish."""
    ours, peer = [], []
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(REPEATS):
            place = Path(folder) / str(repeat)
            ours.append(raybench_seconds(place / "raybench", epochs=EPOCHS[0]))
            peer.append(function_seconds(place / "ray"))
        longer = raybench_seconds(Path(folder) / "longer", epochs=EPOCHS[1])
    figures = [
        Figure(
            name="seconds a trial beyond its work",
            unit="seconds",
            ours=ours,
            peer=peer,
            peer_name="plain Ray Tune function",
            more_is_better=False,
            at_least=AT_LEAST,
        ),
        Figure(
            name="the same against what it may be",
            unit="seconds",
            ours=ours,
            peer=[MOST_SECONDS] * REPEATS,
            peer_name="most",
            more_is_better=False,
            at_most=1.0,
        ),
    ]
    an_epoch = (longer - median(ours)) / (EPOCHS[1] - EPOCHS[0])
    publish("trial_overhead", figures, {"trials_at_once": AT_ONCE, "seconds_each_further_epoch": an_epoch})


def raybench_seconds(run_dir: Path, *, epochs: int) -> float:
    """Return the slope of one run."""
    run_dir.mkdir(parents=True)
    trials = make_trials(TRIALS, epochs=epochs)
    ended_at: list[float] = []
    with Progress(trials, Console(quiet=True), quiet=True) as progress:

        def on_event(event: Event) -> None:
            progress(event)
            if isinstance(event, TrialEnded):
                ended_at.append(time.time())

        outcome = run_trials(trials, run_dir=run_dir, settings=SETTINGS, on_event=on_event)
    check_ended(outcome)
    history = load_history(run_dir)
    worked = float(history["epoch_seconds"].sum()) / TRIALS
    return beyond_work(ended_at[STARTED - 1 :], worked)


def function_seconds(folder: Path) -> float:
    """Return the slope of one run of the plain function."""
    arguments = ["--output", str(folder), "--trials", str(PEER_TRIALS), "--at-once", str(AT_ONCE)]
    timed("-m", "benchmarks.baselines.ray_function_overhead", *arguments, log=folder / "log.txt")
    with (folder / "trials.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    ended_at = sorted(float(row["ended_at"]) for row in rows)
    worked = fmean(float(row["work_seconds"]) for row in rows)
    return beyond_work(ended_at[AT_ONCE - 1 :], worked)


def beyond_work(ended_at: Sequence[float], work_seconds: float) -> float:
    """Return the mean time between one trial's end and the next, less what the work takes of it."""
    return (ended_at[-1] - ended_at[0]) / (len(ended_at) - 1) - work_seconds / AT_ONCE


if __name__ == "__main__":
    main()
