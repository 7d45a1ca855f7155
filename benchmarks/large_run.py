"""A finished run of 10,000 trials: how many files it is, and how long people wait for what they ask of it.

In: a run directory (`finished_run.py`) of 2 datasets x 5 sizes x 500 configurations x 2 seeds, 300 test images and 50
epochs each, as trials leave it. Out: seconds of joining its files, and of `rank`, `report` and `show` before and after,
each command as a process of its own, its start included; the sides of a figure are its seconds and the most asked for.

    python -m benchmarks.large_run
"""

import tempfile
import time
from pathlib import Path

from benchmarks.figures import Figure, publish
from benchmarks.finished_run import Shape, write_run
from benchmarks.processes import timed
from raybench.compaction import compact

SHAPE = Shape(datasets=2, train_sizes=5, models=10, strategies=50, seeds=2)
MOST_SECONDS = {"rank": 10.0, "report": 30.0, "show": 10.0}
"""Of each command on files that are joined."""
MOST_FILES = 100
FOLDERS = ("results", "history", "predictions")


def main() -> None:
    """Measure and publish."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        write_run(run_dir, SHAPE)
        before, files_before = seconds_of(run_dir), files_of(run_dir)
        started = time.perf_counter()
        compact(run_dir)
        joining_seconds = time.perf_counter() - started
        after, files_after = seconds_of(run_dir), files_of(run_dir)
    figures = [
        _figure(f"{name} of {SHAPE.trials:,} trials", "s", after[name], most, f"{before[name]:.1f} s one file a trial")
        for name, most in MOST_SECONDS.items()
    ]
    figures.append(_figure("files", "files", files_after, MOST_FILES, f"{files_before:,} one a trial"))
    publish("large_run", figures, {"joining_seconds": joining_seconds, "before": before, "after": after})


def seconds_of(run_dir: Path) -> dict[str, float]:
    """Return the wall seconds of each command."""
    log = run_dir.with_name("log.txt")
    return {name: timed("-m", "raybench", name, str(run_dir), log=log) for name in MOST_SECONDS}


def files_of(run_dir: Path) -> int:
    """Return how many files hold rows."""
    return sum(len(list((run_dir / folder).iterdir())) for folder in FOLDERS)


def _figure(name: str, unit: str, ours: float, most: float, note: str) -> Figure:
    return Figure(
        name=name,
        unit=unit,
        ours=[ours],
        peer=[most],
        peer_name="most",
        more_is_better=False,
        at_most=1.0,
        note=note,
    )


if __name__ == "__main__":
    main()
