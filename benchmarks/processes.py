"""Whole programs, timed: a Python command in, the wall seconds from its start to its end out."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent
"""Of the checkout: where benchmarks are importable from."""
LINES_SHOWN = 20
"""Of the output of a program that failed."""
_LOCAL = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
"""Whatever starts Ray: it listens on loopback only, and reports to nobody."""


def timed(*arguments: str, log: Path, environment: Mapping[str, str] | None = None) -> float:
    """Run `python ARGUMENTS` from the checkout and return its wall seconds.

    What it prints goes to `log`. Raises RuntimeError, with the end of the log, where it fails.
    """
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **_LOCAL, **(environment or {})}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as output:
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, env=variables, stdout=output, stderr=subprocess.STDOUT, check=False
        )
        seconds = time.perf_counter() - started
    if done.returncode != 0:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LINES_SHOWN:]
        raise RuntimeError("\n".join([f"{' '.join(arguments)} ended with {done.returncode}:", *lines]))
    return seconds
