"""Rank and summary of 10,000 finished trials of 50 epochs against a bare pandas read of the same files.

In: a run directory (`finished_run.py`) of 2 datasets x 5 sizes x 200 configurations x 5 seeds, 300 test images each.
raybench's side, each as the command does it, what it prints included:

    rank         `raybench rank RUN`: load, match with the experiment, rank, ties, intervals, tables, advice
    end of run   what `raybench run` ends with: the same, and what failed
    show         `raybench show RUN`: a line a trial

The other side is `pandas.read_parquet` of results/ and of history/, and nothing else. raybench reads results/ and
predictions/ instead: 300 rows a trial in place of 50. What each folder takes pandas is among the details.

Beside it, once: `rank` of one table of 3,333 configurations x 3 seeds, whose pairs are 5.6 million.

Every measurement is a process of its own, so that nothing is remembered from an earlier one; imports are over when its
clock starts, on both sides. The files lie in memory: both sides find them there.

    python -m benchmarks.ranking
"""

import argparse
import contextlib
import io
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from benchmarks.figures import Figure, publish
from benchmarks.finished_run import Shape, write_run
from benchmarks.processes import timed
from raybench.output import print_ranking, print_run, print_trials
from raybench.runs import open_run

AT_MOST = 5.0
"""Times the bare read."""
REPEATS = 3
MANY_TABLES = Shape(datasets=2, train_sizes=5, models=10, strategies=20, seeds=5)
ONE_TABLE = Shape(datasets=1, train_sizes=1, models=33, strategies=101, seeds=3)
MEMORY = Path("/dev/shm")  # noqa: S108, the folder made there is a temporary one of its own
"""Where files are written without waiting for a disk; what is compared is how they are read."""
FOLDERS = ("results", "history", "predictions")
PEER = ("results", "history")


def read_with_pandas(run_dir: Path) -> dict[str, float]:
    """Return the seconds that each folder takes."""
    seconds = {}
    for folder in FOLDERS:
        started = time.perf_counter()
        pd.read_parquet(run_dir / folder)
        seconds[folder] = time.perf_counter() - started
    return seconds


def rank(run_dir: Path) -> None:
    """`raybench rank RUN`."""
    print_ranking([run_dir], by=None, output_format=None, output=None)


def end_of_run(run_dir: Path) -> None:
    """What `raybench run` prints when the last trial has ended."""
    print_run(open_run(run_dir))


OURS: Mapping[str, Callable[[Path], None]] = {"rank": rank, "end of run": end_of_run, "show": print_trials}
"""By what is measured."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure both sides and publish; with options, take one measurement."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--measure", choices=["pandas", *OURS], help="measure that in this process, no more")
    parser.add_argument("--run-dir", type=Path)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args(arguments)
    if options.measure:
        seconds = read_with_pandas(options.run_dir) if options.measure == "pandas" else used(options)
        options.output.write_text(json.dumps(seconds), encoding="utf-8")
        return
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        many, one = Path(folder) / "many-tables", Path(folder) / "one-table"
        write_run(many, MANY_TABLES)
        write_run(one, ONE_TABLE)
        figures = [*compare(many, list(OURS), REPEATS, MANY_TABLES), *compare(one, ["rank"], 1, ONE_TABLE)]
    publish("ranking", figures)


def used(options: argparse.Namespace) -> dict[str, float]:
    """Return the seconds of one of raybench's commands, and what it printed in lines."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        started = time.perf_counter()
        OURS[options.measure](options.run_dir)
        seconds = time.perf_counter() - started
    return {"seconds": seconds, "lines": printed.getvalue().count("\n")}


def compare(run_dir: Path, names: Sequence[str], repeats: int, shape: Shape) -> list[Figure]:
    """Measure both sides in turn; a figure for each of raybench's commands."""
    tables = shape.datasets * shape.train_sizes
    what = f"{tables} table{'s' if tables > 1 else ''} of {shape.configurations} configurations x {shape.seeds} seeds"
    runs = [{name: measure(name, run_dir) for name in ("pandas", *names)} for _ in range(repeats)]
    return [
        Figure(
            name=f"{name}, {what}",
            unit="s",
            ours=[run[name]["seconds"] for run in runs],
            peer=[sum(run["pandas"][folder] for folder in PEER) for run in runs],
            peer_name="pandas.read_parquet of results and history",
            more_is_better=False,
            at_most=AT_MOST,
            details={
                "pandas_seconds": [run["pandas"] for run in runs],
                "lines_printed": runs[0][name]["lines"],
                "trials": shape.trials,
            },
        )
        for name in names
    ]


def measure(name: str, run_dir: Path) -> dict[str, float]:
    """Take one measurement in a process of its own."""
    output = run_dir.with_name("measured.json")
    options = ["--measure", name, "--run-dir", str(run_dir), "--output", str(output)]
    timed("-m", "benchmarks.ranking", *options, log=run_dir.with_name("log.txt"))
    measured: dict[str, float] = json.loads(output.read_text(encoding="utf-8"))
    return measured


if __name__ == "__main__":
    main()
