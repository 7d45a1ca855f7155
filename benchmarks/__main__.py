"""All benchmarks, or those that are named, one after another, each in a process of its own.

Out: what each of them prints, then a table of all figures. One that fails does not keep the others from running.
Exit status: 1 where a benchmark failed or a figure is not what it should be, else 0.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.figures import RESULTS
from benchmarks.processes import ROOT

NAMES = (
    "data_pipeline",
    "frozen_features",
    "step_efficiency",
    "trial_overhead",
    "grid",
    "early_stopping",
    "memory",
    "scale",
    "ranking",
    "large_run",
)
"""In the order in which they run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """How one benchmark ended."""

    name: str
    seconds: float
    figures: list[dict[str, Any]]
    """As `publish` wrote them; empty where it failed."""
    failed: bool


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; default: all")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - set(NAMES))
    if unknown:
        parser.error(f"no benchmark is called {', '.join(unknown)}; give names of {', '.join(NAMES)}")
    done = [run(name) for name in options.names or NAMES]
    print_table(done)
    return int(any(one.failed or missed(one) for one in done))


def run(name: str) -> Done:
    """Run one benchmark and read what it wrote."""
    results = RESULTS / f"{name}.json"
    results.unlink(missing_ok=True)  # an earlier run's figures are not this one's
    print(f"== {name}", flush=True)
    started = time.perf_counter()
    status = subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], cwd=ROOT, check=False).returncode
    seconds = time.perf_counter() - started
    failed = status != 0 or not results.is_file()
    figures = [] if failed else json.loads(results.read_text(encoding="utf-8"))["figures"]
    return Done(name=name, seconds=seconds, figures=figures, failed=failed)


def missed(one: Done) -> list[str]:
    """Return the names of the figures that are not what they should be."""
    return [figure["name"] for figure in one.figures if figure["reached"] is False]


def print_table(done: Sequence[Done]) -> None:
    """Print a row a figure, what failed, and how long each took."""
    rows = [("benchmark", "figure", "ratio", "asked for", "")]
    for one in done:
        if one.failed:
            rows.append((one.name, "", "", "", "FAILED"))
        for figure in one.figures:
            verdict = {True: "ok", False: "MISSED", None: ""}[figure["reached"]]
            rows.append((one.name, figure["name"], f"{figure['ratio']:.3g}x", _goal(figure), verdict))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    print()
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    minutes = sum(one.seconds for one in done) / 60
    print(f"\n{minutes:.1f} minutes: " + ", ".join(f"{one.name} {one.seconds:.0f} s" for one in done))
    print(f"What was measured, run by run: {RESULTS}")


def _goal(figure: dict[str, Any]) -> str:
    if figure["at_least"] is not None:
        return f"at least {figure['at_least']:g}x"
    return "" if figure["at_most"] is None else f"at most {figure['at_most']:g}x"


if __name__ == "__main__":
    sys.exit(main())
